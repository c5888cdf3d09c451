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

use super::cluster::Connection;
use super::outcome::Outcome;
use super::plugin;
use crate::api::watched::Rollout;

/// How long names are waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// The name under which kubectl looks for completion.
const EXECUTABLE: &str = "kubectl_complete-serin";
const SCRIPT: &str = "#!/bin/sh\nexec kubectl-serin __complete \"$@\"\n";

/// cobra's directives: no files besides the candidates, and no blank after one that goes on.
const NO_FILES: u8 = 4;
const NO_SPACE: u8 = 2;

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
    /// A folder on the PATH; absent: that of kubectl-serin.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Installs completion, or prints it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    match &arguments.command {
        Command::Print => write!(std::io::stdout(), "{SCRIPT}")?,
        Command::Install(install) => {
            let own = std::env::current_exe().context("find kubectl-serin")?;
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

/// Completes the name of a Rollout by those in the cluster.
pub fn rollouts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let current = current.to_string_lossy();
        let names = live().unwrap_or_default();
        names.into_iter().filter(|name| name.starts_with(&*current)).map(CompletionCandidate::new).collect::<Vec<_>>()
    })
}

/// Names of the Rollouts where the words typed so far point to.
fn live() -> anyhow::Result<Vec<String>> {
    let words = std::env::args_os().enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| word);
    let matches = plugin::Arguments::command().ignore_errors(true).try_get_matches_from(words)?;
    let connection = Connection::from_arg_matches(&matches)?;
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
        assert!(told.ends_with(":4\n") || told.ends_with(":6\n"), "{told}");
    }

    #[test]
    fn words_go_on() {
        check(&["prom"], &["promote\tPasses the current step"]);
        check(&["get", "-o", ""], &["text", "json", "yaml", "name"]);
        check(&["status", "--f"], &["--for"]);
        check(&["simulate", "--scen"], &["--scenario"]);
    }
}
