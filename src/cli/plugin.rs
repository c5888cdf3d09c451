//! The commands of `kubectl serin`, and how they end.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use super::cluster::{Cluster, Connection};
use super::outcome::{self, Outcome};
use super::screen::{Look, LookArguments};
use super::{
    act, backtest, completion, convert, dashboard, diff, doctor, explain, get, history, lint, list, set, simulate,
    status, trace, undo,
};
use crate::api::action::Verb;

/// See a rollout, understand it, act on it.
#[derive(Parser)]
#[command(name = "kubectl serin", bin_name = "kubectl serin", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    look: LookArguments,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kubectl serin list -A                                  every rollout in one line
  kubectl serin get checkout -w                          one rollout as a live screen
  kubectl serin status checkout --watch --timeout 20m    wait in a pipeline
  kubectl serin explain checkout                         why does it not move
  kubectl serin dashboard -A                             rollouts as a live page in the browser
  kubectl serin promote checkout --reason 'looks good'   pass the current step
  kubectl serin abort checkout                           all traffic to stable
  kustomize build | kubectl serin lint -                 what is wrong, before it is applied

Exit codes: 0 reached, 1 error, 2 aborted or degraded, 3 waits for a person, 4 the time is over, 5 not found";

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Asking(Asking),
    #[command(flatten)]
    Offline(Offline),
}

/// Commands that ask a cluster.
#[derive(Subcommand)]
enum Asking {
    /// Shows one rollout as one screen.
    #[command(visible_alias = "tree")]
    Get(get::Arguments),
    /// Lists rollouts, one a line.
    #[command(visible_alias = "ls")]
    List(list::Arguments),
    /// Tells how far a rollout is, or waits; the exit code tells pipelines.
    Status(status::Arguments),
    /// Explains in sentences why a rollout does not move, or why it was aborted.
    Explain(explain::Arguments),
    /// Shows how the last rollouts ended, and who decided what.
    History(history::Arguments),
    /// Shows the way from commit to pods and routes, and back from a pod, an image or a commit.
    Trace(trace::Arguments),
    /// Serves rollouts as a live page for the browser, on this machine.
    Dashboard(dashboard::Arguments),
    /// Approves a step of a canary.
    #[command(
        after_help = "Examples:\n  kubectl serin approve checkout --emit        the approval, to commit\n  kubectl serin approve checkout --step business-signoff --reason CHG-1234"
    )]
    Approve(ApproveArguments),
    /// Passes the current step.
    #[command(
        after_help = "Examples:\n  kubectl serin promote checkout --reason 'smoke tests passed'\n  kubectl serin promote checkout --full      every step that is left"
    )]
    Promote(PromoteArguments),
    /// Sends all traffic to stable.
    #[command(after_help = "Example:\n  kubectl serin abort checkout --reason 'orders fail'")]
    Abort(act::Arguments),
    /// Begins an aborted revision again.
    #[command(after_help = "Example:\n  kubectl serin retry checkout")]
    Retry(act::Arguments),
    /// Holds the rollout at its step.
    #[command(
        after_help = "Examples:\n  kubectl serin pause checkout\n  kubectl serin pause checkout --emit        the change, to commit"
    )]
    Pause(act::Arguments),
    /// Lets a held rollout go on.
    #[command(after_help = "Example:\n  kubectl serin resume checkout")]
    Resume(act::Arguments),
    /// Restarts all pods, a few at a time.
    #[command(
        after_help = "Examples:\n  kubectl serin restart checkout\n  kubectl serin restart checkout --emit      the change, to commit"
    )]
    Restart(act::Arguments),
    /// Checks what a release needs: definitions, permissions, controller, Istio, metrics, GitOps tools.
    Doctor(doctor::Arguments),
    /// Tells the revert that brings an earlier revision back, or prints or makes the change.
    Undo(undo::Arguments),
    /// Sets images.
    Set(set::Arguments),
}

/// Commands that need no cluster, or not always.
#[derive(Subcommand)]
enum Offline {
    /// Tells what a commit will do: steps, gates, people, time; compares with the cluster, or with files.
    Diff(diff::Arguments),
    /// Finds what is wrong with manifests, before they are applied; needs no cluster.
    Lint(lint::Arguments),
    /// Shows what a release will do, in virtual time; needs no cluster.
    Simulate(simulate::Arguments),
    /// Tells what the metrics of a template would have done to canaries of past weeks, from Prometheus.
    Backtest(backtest::Arguments),
    /// Converts manifests of Argo Rollouts and Flagger, with a report of every field; needs no cluster.
    Convert(convert::Arguments),
    /// Installs completion for kubectl, names of rollouts too.
    Completion(completion::Arguments),
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

#[derive(clap::Args)]
struct ApproveArguments {
    #[command(flatten)]
    action: act::Arguments,
    /// Name of the approval step; absent: the one that is waited for, else the only one.
    #[arg(long)]
    step: Option<String>,
}

#[derive(clap::Args)]
struct PromoteArguments {
    #[command(flatten)]
    action: act::Arguments,
    /// Passes every step and every gate.
    #[arg(long)]
    full: bool,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Outcome::Failed.into() } else { ExitCode::SUCCESS };
        }
    };
    run(&arguments).unwrap_or_else(|error| {
        if outcome::is_closed_pipe(&error) {
            return Outcome::Reached.into();
        }
        let mut err = std::io::stderr();
        let _ = writeln!(err, "error: {}", outcome::told(&error));
        if let Some(hint) = outcome::hint(&error) {
            let _ = writeln!(err, "hint: {hint}");
        }
        outcome::of(&error).into()
    })
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Offline(Offline::Diff(own)) => diff::run(&arguments.connection, own).map(ExitCode::from),
        Command::Offline(Offline::Lint(what)) => lint::run(what, &arguments.connection, arguments.look.look()),
        Command::Offline(Offline::Backtest(own)) => {
            backtest::run(own, &arguments.connection, arguments.look.look()).map(ExitCode::from)
        }
        Command::Offline(Offline::Convert(arguments)) => convert::run(arguments),
        Command::Offline(Offline::Simulate(own)) => {
            simulate::run(own, &arguments.connection, arguments.look.look().glyphs)
        }
        Command::Offline(Offline::Completion(arguments)) => completion::run(arguments).map(ExitCode::from),
        Command::Offline(Offline::Complete { words }) => completion::answer(words).map(ExitCode::from),
        Command::Asking(command) => {
            let runtime = runtime()?;
            let outcome = runtime.block_on(async {
                let cluster = arguments.connection.connect().await?;
                ask(&cluster, command, arguments.look.look()).await
            });
            // A thread may still wait for a key.
            runtime.shutdown_background();
            outcome.map(ExitCode::from)
        }
    }
}

/// A runtime for requests, with a provider for TLS.
pub fn runtime() -> anyhow::Result<Runtime> {
    // An error means that the process has one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

async fn ask(cluster: &Cluster, command: &Asking, look: Look) -> anyhow::Result<Outcome> {
    match command {
        Asking::Get(arguments) => get::run(cluster, arguments, look).await,
        Asking::List(arguments) => list::run(cluster, arguments, look).await,
        Asking::Status(arguments) => status::run(cluster, arguments).await,
        Asking::Explain(arguments) => explain::run(cluster, arguments, look).await,
        Asking::History(arguments) => history::run(cluster, arguments, look).await,
        Asking::Trace(arguments) => trace::run(cluster, arguments, look).await,
        Asking::Dashboard(arguments) => dashboard::run(cluster, arguments).await,
        Asking::Approve(arguments) => {
            act::run(cluster, Verb::Approve, &arguments.action, arguments.step.as_deref()).await
        }
        Asking::Promote(arguments) => {
            let verb = if arguments.full { Verb::PromoteFull } else { Verb::Promote };
            act::run(cluster, verb, &arguments.action, None).await
        }
        Asking::Abort(arguments) => act::run(cluster, Verb::Abort, arguments, None).await,
        Asking::Retry(arguments) => act::run(cluster, Verb::Retry, arguments, None).await,
        Asking::Pause(arguments) => act::run(cluster, Verb::Pause, arguments, None).await,
        Asking::Resume(arguments) => act::run(cluster, Verb::Resume, arguments, None).await,
        Asking::Restart(arguments) => act::run(cluster, Verb::Restart, arguments, None).await,
        Asking::Doctor(arguments) => doctor::run(cluster, arguments, look).await,
        Asking::Undo(arguments) => undo::run(cluster, arguments).await,
        Asking::Set(arguments) => set::run(cluster, arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }
}
