//! The commands of `kubectl serin`, and how they end.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use super::cluster::{Cluster, Connection};
use super::outcome::{self, Outcome};
use super::screen::{Look, LookArguments};
use super::{act, convert, explain, get, list, simulate, status};
use crate::api::action::Verb;

/// See a rollout, understand it, act on it.
#[derive(Parser)]
#[command(name = "kubectl serin", bin_name = "kubectl serin", version, after_help = EXAMPLES)]
struct Arguments {
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
  kubectl serin promote checkout --reason 'looks good'   pass the current step
  kubectl serin abort checkout                           all traffic to stable

Exit codes: 0 reached, 1 error, 2 aborted or degraded, 3 waits for a person, 4 the time is over, 5 not found";

#[derive(Subcommand)]
enum Command {
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
    /// Passes the current step.
    Promote(PromoteArguments),
    /// Sends all traffic to stable.
    Abort(act::Arguments),
    /// Begins an aborted revision again.
    Retry(act::Arguments),
    /// Holds the rollout at its step.
    Pause(act::Arguments),
    /// Lets a held rollout go on.
    Resume(act::Arguments),
    /// Restarts all pods, a few at a time.
    Restart(act::Arguments),
    /// Shows what a release will do, in virtual time; needs no cluster.
    Simulate(simulate::Arguments),
    /// Converts manifests of Argo Rollouts and Flagger, with a report of every field; needs no cluster.
    Convert(convert::Arguments),
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
        let mut err = std::io::stderr();
        let _ = writeln!(err, "error: {error:#}");
        if let Some(hint) = outcome::hint(&error) {
            let _ = writeln!(err, "hint: {hint}");
        }
        outcome::of(&error).into()
    })
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Command::Simulate(arguments) = &arguments.command {
        return simulate::run(arguments);
    }
    if let Command::Convert(arguments) = &arguments.command {
        return convert::run(arguments);
    }
    // An error means that the process has one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let outcome = runtime.block_on(async {
        let cluster = arguments.connection.connect().await?;
        ask(&cluster, &arguments.command, arguments.look.look()).await
    });
    // A thread may still wait for a key.
    runtime.shutdown_background();
    outcome.map(ExitCode::from)
}

async fn ask(cluster: &Cluster, command: &Command, look: Look) -> anyhow::Result<Outcome> {
    match command {
        Command::Get(arguments) => get::run(cluster, arguments, look).await,
        Command::List(arguments) => list::run(cluster, arguments, look).await,
        Command::Explain(arguments) => explain::run(cluster, arguments, look).await,
        Command::Status(arguments) => status::run(cluster, arguments).await,
        Command::Promote(arguments) => {
            let verb = if arguments.full { Verb::PromoteFull } else { Verb::Promote };
            act::run(cluster, verb, &arguments.action).await
        }
        Command::Abort(arguments) => act::run(cluster, Verb::Abort, arguments).await,
        Command::Retry(arguments) => act::run(cluster, Verb::Retry, arguments).await,
        Command::Pause(arguments) => act::run(cluster, Verb::Pause, arguments).await,
        Command::Resume(arguments) => act::run(cluster, Verb::Resume, arguments).await,
        Command::Restart(arguments) => act::run(cluster, Verb::Restart, arguments).await,
        Command::Simulate(_) | Command::Convert(_) => Ok(Outcome::Reached),
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
