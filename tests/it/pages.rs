//! The pages whose commands need no cluster.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::transcript::Transcript;

#[test]
fn before_the_merge() {
    let bin = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    // kubectl runs `kubectl-serin ARGUMENTS` for `kubectl serin ARGUMENTS`.
    let plugin = env!("CARGO_BIN_EXE_kubectl-serin");
    let kubectl = bin.join("kubectl");
    std::fs::write(&kubectl, format!("#!/bin/sh\nshift\nexec {plugin} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    Transcript::of("kubectl-serin/before-the-merge", &bin).check(None);
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let plugin = env!("CARGO_BIN_EXE_kubectl-serin");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = std::process::Command::new(plugin).args(["lint", "--rules"]).stdout(writer).output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn simulate_draws_in_ascii_where_it_is_asked_to() {
    let (plugin, serin) = (env!("CARGO_BIN_EXE_kubectl-serin"), env!("CARGO_BIN_EXE_serin"));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/01-first-rollout");
    for (binary, output) in [(plugin, "text"), (plugin, "markdown"), (serin, "text"), (serin, "markdown")] {
        let of = |more: &[&str]| {
            let mut command = std::process::Command::new(binary);
            command.args(["simulate", "-f", folder, "-o", output]).args(more).env("LC_ALL", "C.UTF-8");
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let (drawn, plain) = (of(&[]), of(&["--ascii"]));
        assert!(!drawn.is_ascii() && plain.is_ascii() && plain.contains("->"), "{drawn}\n{plain}");
        assert_eq!(plain.lines().count(), drawn.lines().count());
    }
}

#[test]
fn logs_that_no_terminal_shows_have_no_colours() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nowhere.kubeconfig");
    let cluster = "{name: a, cluster: {server: 'http://127.0.0.1:1'}}";
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{cluster}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\ncurrent-context: a\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut serin = std::process::Command::new(env!("CARGO_BIN_EXE_serin"))
        .args(["run", "--log-format", "text", "--leader-election", "false", "--listen", "127.0.0.1:0"])
        .env("KUBECONFIG", &path)
        .env_remove("NO_COLOR")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let read = BufReader::new(serin.stderr.take().unwrap()).read_line(&mut line);
    serin.kill().unwrap();
    serin.wait().unwrap();
    read.unwrap();
    assert!(!line.is_empty() && !line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn completion_is_written_where_kubectl_finds_the_plugin() {
    // krew keeps plugins in its store and puts links on the PATH.
    let bin = Path::new(env!("CARGO_TARGET_TMPDIR")).join("krew-bin");
    let _ = std::fs::remove_dir_all(&bin);
    std::fs::create_dir_all(&bin).unwrap();
    let link = bin.join("kubectl-serin");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubectl-serin"), &link).unwrap();
    let installed = std::process::Command::new(&link).args(["completion", "install"]).output().unwrap();
    assert!(installed.status.success(), "{installed:?}");
    let written = bin.join("kubectl_complete-serin");
    let asked = std::process::Command::new(&written)
        .args(["status", "checkout", "--for", "pa"])
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(asked.stdout).unwrap(), "paused\n:4\n");
}

#[test]
fn contexts_of_the_kubeconfig_are_completed() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contexts.kubeconfig");
    let context = |name: &str| format!("{{name: {name}, context: {{cluster: {name}, user: {name}}}}}");
    let contexts = [context("prod-eu"), context("prod-us"), context("test")].join(", ");
    std::fs::write(&path, format!("apiVersion: v1\nkind: Config\ncontexts: [{contexts}]\n")).unwrap();
    let of = |words: &[&str], variable: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-serin"));
        command.arg("__complete").args(words).env("KUBECONFIG", variable);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let path = path.to_str().unwrap();
    assert_eq!(of(&["get", "--context", "prod"], path), "prod-eu\nprod-us\n:4\n");
    assert_eq!(of(&["get", "--kubeconfig", path, "--context", "t"], "/gone"), "test\n:4\n");
}
