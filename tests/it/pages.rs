//! The pages whose commands need no cluster.

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
