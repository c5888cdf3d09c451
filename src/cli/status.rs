//! `kubectl serin status`: how far a rollout is, for pipelines: the exit code tells, progress goes to standard error.

use std::io::Write as _;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::get::summary;
use super::outcome::{NotFound, Outcome};
use crate::api::duration::DurationText;
use crate::api::names;
use crate::api::status::{Condition, Phase};
use crate::api::watched::Rollout;

/// Which Rollout, and what is awaited.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 reached, 1 error, 2 aborted or degraded, 3 waits for a person, 4 the time is over, 5 not found.\n\nExample, in a pipeline after the merge:\n  kubectl serin status checkout --watch --timeout 20m --commit $CI_COMMIT_SHA"
)]
pub struct Arguments {
    /// Name of the Rollout.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: String,
    /// Waits until it is reached, or cannot be.
    #[arg(short, long)]
    watch: bool,
    /// Waits that long at most, such as `20m`; absent: for ever.
    #[arg(long, value_parser = timeout, requires = "watch")]
    timeout: Option<Duration>,
    /// Waits first until this commit is applied, as the annotation serin.dev/git-commit tells, also where it brings the Rollout; it may be shortened.
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// What is awaited: `promoted`, `paused`, `step=N` (counting from 1), or `phase=Healthy|Progressing|Paused|Degraded`.
    #[arg(long = "for", default_value = "promoted", value_name = "WHAT", add = super::completion::fixed(GOALS))]
    goal: Goal,
}

/// How long a pipeline is kept after an abort, so that it is told when no request reaches the canary any more.
const RESTORED_WITHIN: Duration = Duration::from_secs(30);

fn timeout(text: &str) -> Result<Duration, String> {
    let parsed = DurationText::Text(text.to_owned()).parse()?;
    Duration::try_from(parsed).map_err(|error| error.to_string())
}

/// What completion offers.
const GOALS: &[&str] =
    &["promoted", "paused", "step=", "phase=Healthy", "phase=Progressing", "phase=Paused", "phase=Degraded"];

/// What is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Promoted,
    Paused,
    Step(i32),
    Phase(Phase),
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let phases = [Phase::Healthy, Phase::Progressing, Phase::Paused, Phase::Degraded];
        match text.split_once('=') {
            None if text == "promoted" => Ok(Self::Promoted),
            None if text == "paused" => Ok(Self::Paused),
            Some(("step", step)) => match step.parse() {
                Ok(step) if step >= 1 => Ok(Self::Step(step)),
                _ => Err(format!("{step} is no step; steps count from 1")),
            },
            Some(("phase", phase)) => {
                let known = phases.into_iter().find(|known| known.to_string().eq_ignore_ascii_case(phase));
                known
                    .map(Self::Phase)
                    .ok_or_else(|| format!("{phase} is no phase; one of Healthy, Progressing, Paused, Degraded"))
            }
            _ => Err("expected promoted, paused, step=N or phase=PHASE".to_owned()),
        }
    }
}

/// Tells how far a rollout is, or waits.
pub async fn run(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Outcome> {
    let name = &arguments.name;
    if !arguments.watch {
        let rollout = cluster.rollout(name).await?;
        writeln!(std::io::stdout(), "{}", summary(&rollout))?;
        return Ok(judged(&rollout, arguments).unwrap_or(Outcome::TimedOut));
    }
    let deadline = arguments.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let watched = async {
        // What does not exist is told at once; a watch would wait for it. A commit may be the one that brings it.
        if arguments.commit.is_none() {
            cluster.rollout(name).await?;
        }
        watch(cluster, arguments, deadline).await
    };
    let ended = until(deadline, watched).await;
    ended.unwrap_or_else(|| {
        let seconds = arguments.timeout.unwrap_or_default().as_secs();
        writeln!(
            std::io::stderr(),
            "not reached within {seconds} s; kubectl serin get {name} shows what it waits for"
        )?;
        Ok(Outcome::TimedOut)
    })
}

/// What comes until a time; none where that is over, or nothing comes any more.
async fn until<T>(deadline: Option<Instant>, awaited: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, awaited).await.ok(),
        None => Some(awaited.await),
    }
}

async fn watch(cluster: &Cluster, arguments: &Arguments, deadline: Option<Instant>) -> anyhow::Result<Outcome> {
    let name = &arguments.name;
    let mut rollouts = pin!(watch_object(cluster.api::<Rollout>(), name).default_backoff());
    let mut told = String::new();
    // Until when it is waited for that no request reaches what was aborted.
    let mut restored_by: Option<Instant> = None;
    while let Some(event) = until(restored_by, rollouts.next()).await.flatten() {
        let rollout = match event {
            Ok(Some(rollout)) => rollout,
            Ok(None) if told.is_empty() && arguments.commit.is_some() => {
                writeln!(std::io::stderr(), "there is no rollout {name} yet")?;
                continue;
            }
            Ok(None) => return Err(NotFound(format!("rollout {name} any more: it was deleted")).into()),
            Err(error) => {
                writeln!(std::io::stderr(), "the connection is lost, trying again: {error}")?;
                continue;
            }
        };
        let line = summary(&rollout);
        if line != told {
            writeln!(std::io::stderr(), "{line}")?;
            told.clone_from(&line);
        }
        let Some(outcome) = judged(&rollout, arguments) else {
            restored_by = None;
            continue;
        };
        if outcome != Outcome::Aborted || !is_on_its_way_back(&rollout) {
            writeln!(std::io::stdout(), "{line}")?;
            return Ok(outcome);
        }
        let latest = Instant::now() + RESTORED_WITHIN;
        restored_by.get_or_insert(deadline.map_or(latest, |deadline| deadline.min(latest)));
    }
    if restored_by.is_none() {
        return Ok(Outcome::TimedOut);
    }
    writeln!(std::io::stdout(), "{told}")?;
    Ok(Outcome::Aborted)
}

/// Whether a revision was aborted that some proxies still send requests to, as far as is known.
fn is_on_its_way_back(rollout: &Rollout) -> bool {
    rollout.status.aborted.as_ref().is_some_and(|aborted| aborted.restored_at.is_none())
}

/// Whether it is reached, or cannot be without a person.
fn judged(rollout: &Rollout, arguments: &Arguments) -> Option<Outcome> {
    let status = &rollout.status;
    let goal = arguments.goal;
    let annotations = rollout.metadata.annotations.as_ref();
    // The controller may have read it where the tool that applied it has it on record.
    let annotated = annotations.and_then(|annotations| annotations.get(names::GIT_COMMIT));
    // A commit that changes no field of the spec is there once the controller has seen it.
    let applied = status.commit.as_ref().filter(|seen| annotated.is_none_or(|annotated| annotated == *seen));
    let is_applied = |commit: &String| applied.is_some_and(|applied| applied.starts_with(commit.as_str()));
    if !arguments.commit.as_ref().is_none_or(is_applied) {
        return None;
    }
    // Until the controller has seen the last change of the spec, the status speaks of the one before.
    if rollout.is_behind() {
        return None;
    }
    let phase = status.phase?;
    let has_passed = |step: i32| status.attempt.is_some() && status.current_step_index.is_some_and(|at| at + 1 >= step);
    let is_reached = match goal {
        Goal::Promoted => phase == Phase::Healthy,
        Goal::Paused => phase == Phase::Paused,
        Goal::Step(step) => phase == Phase::Healthy || (status.aborted.is_none() && has_passed(step)),
        Goal::Phase(wanted) => phase == wanted,
    };
    let is_stalled = |condition: &Condition| condition.kind == "Stalled" && condition.status == "True";
    if is_reached {
        Some(Outcome::Reached)
    } else if status.aborted.is_some() || (phase == Phase::Degraded && status.conditions.iter().any(is_stalled)) {
        Some(Outcome::Aborted)
    } else if waits_for_a_person(rollout) {
        Some(Outcome::Waits)
    } else {
        None
    }
}

/// Whether nothing but a person ends a wait.
fn waits_for_a_person(rollout: &Rollout) -> bool {
    let status = &rollout.status;
    status.phase == Some(Phase::Paused)
        && status.blocked_by.iter().any(|wait| {
            wait.until.is_none()
                && ["AwaitingApproval", "Held", "PausedByStep", "PausedBySpec", "PausedByAction", "Inconclusive"]
                    .contains(&wait.reason.as_str())
        })
}
