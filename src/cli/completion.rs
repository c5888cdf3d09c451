//! Shell completion: what kubectl shows for a half-typed `kubectl serin …`, names of Rollouts too.
//!
//! kubectl runs an executable named `kubectl_complete-serin` with the words typed so far (KEP-2379) and reads one candidate
//! a line, its description after a tab, and last a colon with cobra's directive.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use kube::ResourceExt;
use kube::api::ListParams;
use kube::config::Kubeconfig;

use super::cluster::Connection;
use super::outcome::Outcome;
use super::plugin;
use crate::api::watched::Rollout;
use crate::lint::rule;
use crate::sim::scenario::BUILT_IN;

/// How long names are waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// The name under which kubectl looks for completion.
const EXECUTABLE: &str = "kubectl_complete-serin";
const SCRIPT: &str = "#!/bin/sh\nexec kubectl-serin __complete \"$@\"\n";

/// cobra's directives: no files besides the candidates, and no blank after one that goes on.
const NO_FILES: u8 = 4;
const NO_SPACE: u8 = 2;

/// What the shell itself completes, with its own quoting and `~`: what it is called here, the endings of the files' names, and
/// cobra's directive. The endings are those that kubectl completes after its own `-f`.
const BY_SHELL: [(&str, &[&str], u8); 3] =
    [(MANIFESTS, &["json", "yaml", "yml"], 8), (FILES, &[], 0), (FOLDERS, &[], 16)];
const MANIFESTS: &str = "manifests";
const FILES: &str = "files";
const FOLDERS: &str = "folders";

/// What to do about completion.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubectl serin completion install --dir ~/.local/bin")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Writes `kubectl_complete-serin`, which kubectl's own completion runs.
    Install(InstallArguments),
    /// Prints that executable.
    Print,
}

#[derive(Debug, clap::Args)]
struct InstallArguments {
    /// A folder on the PATH; absent: that in which kubectl finds kubectl-serin.
    #[arg(long, add = folders())]
    dir: Option<PathBuf>,
}

/// Installs completion, or prints it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    match &arguments.command {
        Command::Print => write!(std::io::stdout(), "{SCRIPT}")?,
        Command::Install(install) => {
            let own = own_path(std::env::args_os().next()).context("find kubectl-serin")?;
            let dir = install.dir.as_deref().or(own.parent()).unwrap_or(Path::new("."));
            let path = write_executable(dir).with_context(|| {
                format!("write {EXECUTABLE} into {}; choose a folder on your PATH with --dir", dir.display())
            })?;
            let mut out = std::io::stdout().lock();
            writeln!(out, "{} is written.", path.display())?;
            writeln!(out, "It works where kubectl's own completion does, such as: source <(kubectl completion bash)")?;
        }
    }
    Ok(Outcome::Reached)
}

/// The path of the plugin as kubectl has found it on the PATH: krew puts a link there, beside which nothing else is.
fn own_path(called: Option<OsString>) -> std::io::Result<PathBuf> {
    let called = called.map(PathBuf::from).filter(|path| path.is_absolute());
    called.map_or_else(std::env::current_exe, Ok)
}

fn write_executable(dir: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(dir)?;
    let path = dir.join(EXECUTABLE);
    std::fs::write(&path, SCRIPT)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Prints what the last of the words may become.
pub fn answer(words: &[OsString]) -> anyhow::Result<Outcome> {
    let typed: Vec<OsString> = std::iter::once(OsString::from("kubectl-serin")).chain(words.iter().cloned()).collect();
    let last = typed.len() - 1;
    let mut command = plugin::Arguments::command().bin_name("kubectl-serin");
    let mut candidates =
        complete(&mut command, typed, last, std::env::current_dir().ok().as_deref()).unwrap_or_default();
    // Flags are offered where one is begun, as kubectl does.
    let is_flag = |text: &OsStr| text.to_string_lossy().starts_with('-');
    if !words.last().is_some_and(|word| is_flag(word)) {
        candidates.retain(|candidate| !is_flag(candidate.get_value()));
    }
    write!(std::io::stdout(), "{}", told(&candidates))?;
    Ok(Outcome::Reached)
}

fn told(candidates: &[CompletionCandidate]) -> String {
    let mut told = String::new();
    let is_by_shell = |id: &str| candidates.iter().any(|one| one.get_id().is_some_and(|own| own == id));
    if let Some((_, endings, directive)) = BY_SHELL.iter().find(|(id, ..)| is_by_shell(id)) {
        endings.iter().for_each(|ending| told.extend([ending, "\n"]));
        let _ = writeln!(told, ":{directive}");
        return told;
    }
    for candidate in candidates.iter().filter(|candidate| !candidate.is_hide_set()) {
        let _ = write!(told, "{}", candidate.get_value().to_string_lossy());
        if let Some(help) = candidate.get_help().map(ToString::to_string) {
            let _ = write!(told, "\t{}", help.lines().next().unwrap_or_default());
        }
        told.push('\n');
    }
    let goes_on = candidates.iter().any(|candidate| candidate.get_value().to_string_lossy().ends_with(['/', '=']));
    let _ = writeln!(told, ":{}", if goes_on { NO_FILES | NO_SPACE } else { NO_FILES });
    told
}

/// Leaves completion to the shell.
fn by_shell(id: &'static str) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| vec![CompletionCandidate::new(current).id(Some(id.to_owned()))])
}

/// Completes files of manifests, and folders.
pub fn manifests() -> ArgValueCompleter {
    by_shell(MANIFESTS)
}

/// Completes files of any name, and folders.
pub fn files() -> ArgValueCompleter {
    by_shell(FILES)
}

/// Completes folders.
pub fn folders() -> ArgValueCompleter {
    by_shell(FOLDERS)
}

/// Completes by what some words may become.
fn words(all: impl Fn() -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let current = current.to_string_lossy();
        all().into_iter().filter(|word| word.starts_with(&*current)).map(CompletionCandidate::new).collect::<Vec<_>>()
    })
}

/// Completes by words that are always the same.
pub fn fixed(all: &'static [&'static str]) -> ArgValueCompleter {
    words(move || all.iter().map(|&word| word.to_owned()).collect())
}

/// Completes the name of a rule of lint.
pub fn rules() -> ArgValueCompleter {
    words(|| rule::ALL.iter().map(|rule| rule.id.to_owned()).collect())
}

/// Completes a scenario that is built in; where no name begins so, a file.
pub fn scenarios() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let begins = |name: &str| name.starts_with(&*current.to_string_lossy());
        let built_in = BUILT_IN.iter().filter(|(name, _)| begins(name));
        let found: Vec<CompletionCandidate> =
            built_in.map(|(name, what)| CompletionCandidate::new(name).help(Some((*what).into()))).collect();
        if found.is_empty() { by_shell(FILES).complete(current) } else { found }
    })
}

/// Completes the name of a context of the kubeconfig.
pub fn contexts() -> ArgValueCompleter {
    of_kubeconfig(|config| config.contexts.into_iter().map(|one| one.name).collect())
}

/// Completes the name of a cluster of the kubeconfig.
pub fn clusters() -> ArgValueCompleter {
    of_kubeconfig(|config| config.clusters.into_iter().map(|one| one.name).collect())
}

/// Completes the name of a user of the kubeconfig.
pub fn users() -> ArgValueCompleter {
    of_kubeconfig(|config| config.auth_infos.into_iter().map(|one| one.name).collect())
}

fn of_kubeconfig(names: fn(Kubeconfig) -> Vec<String>) -> ArgValueCompleter {
    words(move || {
        let path = typed().ok().and_then(|connection| connection.kubeconfig);
        let config = path.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        config.map(names).unwrap_or_default()
    })
}

/// Completes the name of a Rollout by those in the cluster.
pub fn rollouts() -> ArgValueCompleter {
    words(|| live().unwrap_or_default())
}

/// Where the words typed so far point to.
fn typed() -> anyhow::Result<Connection> {
    let words = std::env::args_os().enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| word);
    let matches = plugin::Arguments::command().ignore_errors(true).try_get_matches_from(words)?;
    Ok(Connection::from_arg_matches(&matches)?)
}

/// Names of the Rollouts where the words typed so far point to.
fn live() -> anyhow::Result<Vec<String>> {
    let connection = typed()?;
    plugin::runtime()?.block_on(async {
        let listed = async {
            let cluster = connection.connect().await?;
            let list = cluster.api::<Rollout>().list_metadata(&ListParams::default()).await?;
            anyhow::Ok(list.items.iter().map(ResourceExt::name_any).collect())
        };
        tokio::time::timeout(ANSWERED_WITHIN, listed).await?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: &[&str]) {
        let typed: Vec<OsString> =
            std::iter::once("kubectl-serin").chain(words.iter().copied()).map(Into::into).collect();
        let last = typed.len() - 1;
        let candidates = complete(&mut plugin::Arguments::command(), typed, last, None).unwrap();
        let told = told(&candidates);
        for line in expected {
            assert!(told.lines().any(|told| told.starts_with(line)), "{words:?}: {line} is not in\n{told}");
        }
        let directives = [":4", ":6", ":0", ":8", ":16"];
        assert!(told.lines().last().is_some_and(|last| directives.contains(&last)), "{told}");
    }

    #[test]
    fn words_go_on() {
        check(&["prom"], &["promote\tPasses the current step"]);
        check(&["get", "-o", ""], &["text", "json", "yaml", "name"]);
        check(&["status", "--f"], &["--for"]);
        check(&["simulate", "--scen"], &["--scenario"]);
    }

    #[test]
    fn files_are_completed_by_the_shell() {
        let manifests = ["json", "yaml", "yml", ":8"];
        check(&["lint", ""], &manifests);
        check(&["lint", "a.yaml", "dep"], &manifests);
        for command in ["diff", "convert", "simulate"] {
            check(&[command, "-f", ""], &manifests);
            check(&[command, "--filename", "de"], &manifests);
            check(&[command, "--filename=de"], &manifests);
        }
        check(&["diff", "-f", "a.yaml", "--from", ""], &manifests);
        check(&["get", "--kubeconfig", ""], &[":0"]);
        check(&["convert", "--output-dir", ""], &[":16"]);
        check(&["simulate", "--scenario", "./sto"], &[":0"]);
        check(&["simulate", "--scenario", "errors"], &["errors-from"]);
    }

    #[test]
    fn values_are_completed() {
        check(&["status", "checkout", "--for", ""], &["promoted", "paused", "step=", "phase=Healthy", ":6"]);
        check(&["status", "checkout", "--for", "phase=P"], &["phase=Progressing", "phase=Paused", ":4"]);
        check(&["status", "checkout", "--for=pa"], &["--for=paused", ":4"]);
        check(&["lint", "--ignore", "route-d"], &["route-drift"]);
        check(&["lint", "--ignore", "no-gate,route-d"], &["no-gate,route-drift"]);
        for (command, formats) in [
            ("list", &["text", "wide", "json", "yaml", "name"][..]),
            ("history", &["text", "json", "yaml"]),
            ("diff", &["text", "markdown", "json"]),
            ("lint", &["text", "json", "sarif", "junit", "github"]),
            ("simulate", &["text", "json", "markdown", "svg"]),
        ] {
            check(&[command, "-o", ""], formats);
        }
    }
}
