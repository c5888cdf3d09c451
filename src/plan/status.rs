//! The next status: phase, message, waits, conditions and counts.
//!
//! | what is going on | phase | Ready | Reconciling | Stalled |
//! |---|---|---|---|---|
//! | promoted, at rest | Healthy | True | - | - |
//! | a step or an analysis is under way | Progressing | False | True | - |
//! | waits for a person, a time or data | Paused | False | True | - |
//! | aborted; stable serves | Degraded | False | - | True |
//! | cannot go on | Degraded | False | - | True |

use super::course::{Course, Facts, Waiting};
use super::narrate::of_commit;
use super::route::REJECTED;
use super::{contest, force, job, promotion, ratio, snapshot, workload};
use crate::api::status::{Condition, Phase, RevisionStatus, RolloutStatus, Wait};

/// Waits that nobody but a person can end by changing an object.
const STALLING: [&str; 14] = [
    "InvalidSpec",
    "WorkloadMissing",
    "ConfigMissing",
    "RouteMissing",
    "RouteTaken",
    "RouteNotMergeable",
    REJECTED,
    "RoutePort",
    "ServiceMissing",
    "TemplateMissing",
    "TemplateInvalid",
    "ProviderMissing",
    "ProviderInvalid",
    "Rejected",
];
/// Waits for a person, a time or data.
const PAUSING: [&str; 11] = [
    "NoReplicas",
    "Held",
    "OutsideWindow",
    "AwaitingApproval",
    "PausedByStep",
    "PausedBySpec",
    "PausedByAction",
    "NoData",
    "ProviderDown",
    "Inconclusive",
    force::UNACKNOWLEDGED,
];

/// What Git holds a revision by that it asks for.
const HOLDS: [&str; 6] = ["Held", "OutsideWindow", "PausedBySpec", "ConfigUnlisted", "ConfigMissing", "ConfigSettling"];

/// Completes the status of a course.
pub fn finish(facts: &Facts<'_>, course: Course, wanted_weight: i32) -> RolloutStatus {
    let previous = &facts.observed.rollout.status;
    let observed_weight = observed_weight(facts, &course);
    let is_in_force = course.is_in_force(facts);
    let mut status = course.status;
    status.observed_generation = facts.observed.rollout.metadata.generation.unwrap_or(0);
    status.commit = facts.commit();
    let selector =
        facts.strategy.selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    // While the Deployment that brings it is not there, autoscalers go on by the one before.
    if !selector.is_empty() {
        status.selector = selector;
    }
    // Autoscalers count whatever the selector selects.
    let all = || facts.pods.values().chain(facts.baselines.iter().map(|baseline| &baseline.pods));
    let sum = |count: fn(&super::revision::Pods) -> i32| all().map(count).sum();
    status.replicas = sum(|pods| pods.exist);
    status.ready_replicas = sum(|pods| pods.ready);
    status.available_replicas = sum(|pods| pods.available);
    let in_force = |hash: &str, weight: i32, at_first: i32| {
        let known = [&previous.stable, &previous.canary].into_iter().flatten().find(|side| side.hash == hash);
        if is_in_force { weight } else { known.and_then(|known| known.weight_in_force).unwrap_or(at_first) }
    };
    let has_canary = status.canary.is_some();
    if let Some(stable) = &mut status.stable {
        fill(facts, stable, 100 - wanted_weight, 100 - observed_weight);
        stable.weight_in_force = has_canary.then(|| in_force(&stable.hash, 100 - observed_weight, 100));
    }
    if let Some(canary) = &mut status.canary {
        fill(facts, canary, wanted_weight, observed_weight);
        canary.weight_in_force = Some(in_force(&canary.hash, observed_weight, 0));
    }
    let zero = status.route.as_ref().and_then(|route| route.zero_acknowledged);
    let is_at_zero = status.canary.as_ref().is_some_and(|canary| canary.observed_weight == 0) && is_in_force;
    if let Some(aborted) = status.aborted.as_mut().filter(|_| is_at_zero) {
        aborted.restored_at.get_or_insert(zero.unwrap_or(facts.now).max(aborted.at));
    }
    status.config_copies = snapshot::kinds(facts);
    learn_commit(facts, &mut status);
    status.step = step(&status);
    status.blocked_by = course.waits.iter().map(|wait| since(wait, previous, facts)).collect();
    let (phase, reason, message) = summary(facts, &status, &course.waits);
    status.phase = Some(phase);
    status.conditions = conditions(facts, &status, phase, (&reason, &message));
    status.message = message;
    status
}

/// Gives the revision that this generation brought its commit, which could not be read when it began. With another generation it
/// stays unknown: what is on record by then may be a later commit.
fn learn_commit(facts: &Facts<'_>, status: &mut RolloutStatus) {
    let generation = status.observed_generation;
    for side in [&mut status.stable, &mut status.canary].into_iter().flatten() {
        let is_own = side.unread_generation == Some(generation);
        if is_own && facts.observed.is_commit_unread {
            continue;
        }
        side.unread_generation = None;
        if is_own {
            side.commit.clone_from(&facts.observed.commit);
        }
    }
}

/// The step under way among all, for people.
fn step(status: &RolloutStatus) -> Option<String> {
    let steps = status.attempt.as_ref()?.steps;
    Some(format!("{}/{steps}", (status.current_step_index.unwrap_or(0) + 1).min(steps)))
}

/// Percent of traffic that the route gives the canary now, or its pods.
pub fn observed_weight(facts: &Facts<'_>, course: &Course) -> i32 {
    if facts.strategy.ratio.is_some() {
        return ratio::weight(facts, course);
    }
    let canary = course.status.canary.as_ref().map(|canary| canary.hash.as_str());
    let is_routed = canary.is_some() && facts.route.canary.as_deref() == canary;
    if is_routed { facts.route.weight() } else { 0 }
}

fn fill(facts: &Facts<'_>, side: &mut RevisionStatus, weight: i32, observed_weight: i32) {
    let pods = facts.pods_of(&side.hash);
    side.replicas = pods.wanted;
    side.ready = pods.ready;
    side.weight = weight;
    side.observed_weight = observed_weight;
    if !pods.image.is_empty() {
        side.image = pods.image;
    }
}

fn since(wait: &Waiting, previous: &RolloutStatus, facts: &Facts<'_>) -> Wait {
    let known = previous.blocked_by.iter().find(|known| known.reason == wait.reason);
    Wait {
        reason: wait.reason.into(),
        message: wait.message.clone(),
        since: known.map_or(facts.now, |known| known.since),
        until: wait.until,
    }
}

/// Phase, reason and the one sentence.
fn summary(facts: &Facts<'_>, status: &RolloutStatus, waits: &[Waiting]) -> (Phase, String, String) {
    let first = |reasons: &[&str]| waits.iter().find(|wait| reasons.contains(&wait.reason));
    let told = |waits: &[Waiting]| waits.iter().map(|wait| wait.message.as_str()).collect::<Vec<_>>().join("; ");
    if facts.is_leaving {
        return (Phase::Progressing, "Leaving".into(), "being deleted: the route goes back to stable first".into());
    }
    let stable = status.stable.as_ref().map_or("nothing", |stable| stable.hash.as_str());
    // What is held is another revision than the one that was aborted.
    let is_held = |wait: &Waiting| HOLDS.contains(&wait.reason);
    if let Some(aborted) = status.aborted.as_ref().filter(|_| !waits.iter().any(is_held)) {
        let others: Vec<Waiting> = waits
            .iter()
            .filter(|wait| STALLING.contains(&wait.reason) || wait.reason == "StableNotReady")
            .cloned()
            .collect();
        let also = if others.is_empty() { String::new() } else { format!(" ({})", told(&others)) };
        let restored =
            aborted.restored_in().map_or(String::new(), |seconds| format!(" (all requests since {seconds} s later)"));
        let asked = status.canary.as_ref().filter(|canary| facts.target.as_ref() == Some(&canary.hash));
        let asked = asked.map_or_else(|| facts.target.clone().unwrap_or_default(), named);
        let stable = status.stable.as_ref().map_or_else(|| "nothing".to_owned(), named);
        let is_rejected = status.canary.as_ref().is_some_and(|canary| promotion::rejection(facts, canary).is_some());
        let retry = aborted.retry.max(facts.strategy.promotion.retry) + 1;
        let next = if is_rejected {
            "revert the commit, or push a fix".to_owned()
        } else {
            format!("revert the commit, push a fix, or try it again by spec.promotion.retry: {retry}")
        };
        let message = format!(
            "{} was aborted: {}: {}; the cluster serves {stable}{restored}, Git asks for {asked}{also}; {next}",
            aborted.hash, aborted.reason, aborted.message
        );
        return (Phase::Degraded, "Aborted".into(), message);
    }
    if let Some(wait) = first(&STALLING) {
        let all: Vec<Waiting> = waits.iter().filter(|wait| STALLING.contains(&wait.reason)).cloned().collect();
        return (Phase::Degraded, wait.reason.into(), told(&all));
    }
    if let Some(wait) = first(&["ProgressDeadlineExceeded"]) {
        return (Phase::Degraded, wait.reason.into(), wait.message.clone());
    }
    if let Some(wait) = first(&PAUSING) {
        let also = first(&["StableNotReady"]).map_or(String::new(), |other| format!("; {}", other.message));
        return (Phase::Paused, wait.reason.into(), format!("{}{also}", wait.message));
    }
    match &status.canary {
        Some(canary) => {
            let steps = facts.strategy.steps.len();
            let step = status.current_step_index.unwrap_or(0);
            let place = if usize::try_from(step).unwrap_or(0) < steps {
                format!("step {} of {steps}", step + 1)
            } else {
                "all steps passed".into()
            };
            let awaited = if waits.is_empty() { String::new() } else { format!(": {}", told(waits)) };
            (
                Phase::Progressing,
                "Canary".into(),
                format!("{place}, canary {} at {}%{awaited}", canary.hash, canary.observed_weight),
            )
        }
        None if waits.iter().all(|wait| leaves_healthy(wait.reason)) && status.stable.is_some() => {
            let also = if waits.is_empty() { String::new() } else { format!("; {}", told(waits)) };
            (Phase::Healthy, "Healthy".into(), format!("stable {stable} serves{also}"))
        }
        None => (Phase::Progressing, waits.first().map_or("Progressing", |wait| wait.reason).to_owned(), told(waits)),
    }
}

/// Whether a wait leaves a Rollout healthy that rests.
fn leaves_healthy(reason: &str) -> bool {
    workload::is_held(reason) || [snapshot::UNDELETED, job::UNDELETED].contains(&reason)
}

/// A revision with the commit that brought it.
fn named(revision: &RevisionStatus) -> String {
    format!("{}{}", revision.hash, of_commit(revision.commit.as_ref()))
}

fn conditions(
    facts: &Facts<'_>,
    status: &RolloutStatus,
    phase: Phase,
    (reason, message): (&str, &str),
) -> Vec<Condition> {
    let truth = |is_true: bool| if is_true { "True" } else { "False" };
    let available = status.stable.as_ref().is_some_and(|stable| stable.ready > 0) || facts.replicas == 0;
    let moving = matches!(phase, Phase::Progressing | Phase::Paused);
    let promoted = status.history.last().map(|outcome| outcome.outcome.to_string());
    let mut list = vec![
        ("Ready", truth(phase == Phase::Healthy), reason.to_owned(), message.to_owned()),
        (
            "Available",
            truth(available),
            if available { "StableReady" } else { "StableNotReady" }.to_owned(),
            String::new(),
        ),
        ("Progressing", truth(phase != Phase::Degraded), reason.to_owned(), String::new()),
    ];
    if moving {
        list.push(("Reconciling", "True", reason.to_owned(), message.to_owned()));
    }
    if phase == Phase::Degraded {
        list.push(("Stalled", "True", reason.to_owned(), message.to_owned()));
    }
    if status.canary.is_some() {
        let running = if status.aborted.is_some() { "False" } else { "Unknown" };
        list.push((
            "Promoted",
            running,
            if status.aborted.is_some() { "Aborted" } else { "InProgress" }.to_owned(),
            String::new(),
        ));
    } else if status.stable.is_some() {
        list.push(("Promoted", "True", promoted.unwrap_or_else(|| "FirstDeployment".into()), String::new()));
    }
    // What people and pipelines wait for: there, and True, while it is so.
    if phase == Phase::Paused {
        list.push(("Paused", "True", reason.to_owned(), message.to_owned()));
    }
    if let Some(wait) = status.blocked_by.iter().find(|wait| wait.reason == "AwaitingApproval") {
        list.push(("AwaitingApproval", "True", wait.reason.clone(), wait.message.clone()));
    }
    if let Some(aborted) = &status.aborted {
        list.push(("Aborted", "True", aborted.reason.clone(), message.to_owned()));
    }
    if let Some(held) = status.blocked_by.iter().find(|wait| workload::is_held(&wait.reason)) {
        list.push(("WorkloadScaledDown", "False", held.reason.clone(), held.message.clone()));
    }
    if let Some((reason, message)) = contest::told(facts, status) {
        list.push(("RouteContested", "True", reason.to_owned(), message));
    }
    list.into_iter().map(|(kind, truth, reason, message)| condition(facts, (kind, truth), reason, message)).collect()
}

fn condition(facts: &Facts<'_>, (kind, truth): (&str, &str), reason: String, message: String) -> Condition {
    let previous = facts
        .observed
        .rollout
        .status
        .conditions
        .iter()
        .find(|condition| condition.kind == kind && condition.status == truth);
    Condition {
        kind: kind.into(),
        status: truth.into(),
        reason,
        message,
        observed_generation: facts.observed.rollout.metadata.generation.unwrap_or(0),
        last_transition_time: previous.map_or(facts.now, |previous| previous.last_transition_time),
    }
}

/// Whether a status says more than other counts of pods and other words, so that it must be written at once.
pub fn is_pressing(before: &RolloutStatus, after: &RolloutStatus) -> bool {
    without_counts(before) != without_counts(after)
}

/// A status without the counts of pods, and without the sentences that name them.
fn without_counts(status: &RolloutStatus) -> RolloutStatus {
    let mut status = status.clone();
    (status.replicas, status.ready_replicas, status.available_replicas) = (0, 0, 0);
    status.message.clear();
    let is_of_pods = |reason: &str| ["PodsNotReady", "BaselineNotReady", "Restarting"].contains(&reason);
    status.blocked_by.retain(|wait| !is_of_pods(&wait.reason));
    for side in [&mut status.stable, &mut status.canary].into_iter().flatten() {
        (side.replicas, side.ready) = (0, 0);
    }
    if let Some(baseline) = &mut status.baseline {
        baseline.ready = 0;
    }
    for condition in &mut status.conditions {
        condition.message.clear();
        condition.reason.clear();
    }
    if let Some(attempt) = &mut status.attempt {
        attempt.short_of_pods = None;
    }
    status
}
