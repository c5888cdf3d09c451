//! What happened between two statuses, for people: events, log lines and counters all come from here.
//! The reasons are a documented, stable vocabulary; a rollout of n weights makes n + 2 events when nothing goes wrong.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::analysis::later;
use super::{force, retention};
use crate::api::status::{
    Aborted, Assessment, Condition, EndedPause, OutcomeKind, Phase, RevisionStatus, RolloutStatus, Verdict,
};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The event's reason, from [`REASONS`].
    pub reason: String,
    /// Whether somebody should look.
    pub is_warning: bool,
    /// One sentence.
    pub message: String,
}

/// Every reason, with what it means.
pub const REASONS: &[(&str, &str)] = &[
    ("FirstDeployment", "the first revision became stable"),
    ("RolloutStarted", "a new revision became the canary"),
    ("WeightInForce", "the canary has a new weight, and every proxy knows"),
    ("AnalysisPassed", "a step's analysis passed"),
    ("Paused", "the rollout waits for a person, a time or data"),
    ("ActionAccepted", "a RolloutAction was done"),
    ("ActionRefused", "a RolloutAction was refused"),
    ("Promoted", "the canary became stable"),
    ("Aborted", "the canary failed or was stopped; traffic goes to stable"),
    ("TrafficRestored", "no proxy sends requests to the aborted canary any more"),
    ("Superseded", "a newer revision came"),
    ("Reverted", "the template went back to stable"),
    ("WorkloadScaledDown", "the Deployment that `workloadRef` names has no pods any more"),
    ("Restarted", "all pods were restarted, as `restartAt` or an action asked"),
    ("Stalled", "the rollout cannot go on; the message says what to do"),
    ("Recovered", "what had stalled goes on, or rests, as it should"),
    ("RouteContested", "somebody else changes the weights, or which pods they lead to"),
];

/// What comes and goes by itself, and a pause that stayed away for so long has ended.
const RETURNING: [&str; 3] = ["NoData", "ProviderDown", force::UNACKNOWLEDGED];
const QUIET: SignedDuration = SignedDuration::from_mins(10);
/// Most metrics have no data in the first seconds of a weight, until Prometheus has scraped the canary's requests twice.
const LASTING: SignedDuration = SignedDuration::from_secs(30);

/// What happened, in order.
pub fn narrate(before: &RolloutStatus, after: &RolloutStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |reason: &str, is_warning: bool, message: String| {
        notes.push(Note { reason: reason.into(), is_warning, message })
    };
    if before.stable.is_none()
        && let Some(stable) = &after.stable
    {
        let commit = of_commit(stable.commit.as_ref());
        note("FirstDeployment", false, format!("revision {} of {}{commit} is stable", stable.hash, stable.image));
    }
    if let Some(weight) = weight_passed(before, after) {
        note("WeightInForce", false, weight);
    }
    let is_first = before.stable.is_none();
    let is_new = |outcome: &&crate::api::status::Outcome| !is_first && !before.history.contains(outcome);
    for outcome in after.history.iter().filter(is_new) {
        let (is_warning, commit) = (outcome.outcome == OutcomeKind::Aborted, of_commit(outcome.commit.as_ref()));
        let told = format!("revision {}{commit}: {}", outcome.hash, outcome.reason);
        note(&outcome.outcome.to_string(), is_warning, told);
    }
    let restored = |status: &RolloutStatus| status.aborted.as_ref().and_then(Aborted::restored_in);
    if let (None, Some(seconds), Some(aborted)) = (restored(before), restored(after), &after.aborted) {
        let message = format!("no proxy sends requests to {} any more, {seconds} s after the decision", aborted.hash);
        note("TrafficRestored", false, message);
    }
    for handled in after.handled_actions.iter().filter(|handled| !before.handled_actions.contains(handled)) {
        note(
            if handled.accepted { "ActionAccepted" } else { "ActionRefused" },
            !handled.accepted,
            handled.message.clone(),
        );
    }
    if let (Some(had), Some(has)) = (&before.workload, &after.workload)
        && had.replicas > 0
        && has.replicas == 0
    {
        note("WorkloadScaledDown", false, format!("its Deployment is scaled from {} to 0", had.replicas));
    }
    if before.restarted_at != after.restarted_at
        && let Some(at) = after.restarted_at
    {
        note("Restarted", false, format!("all pods are younger than {at}"));
    }
    if let Some(started) = started(before, after) {
        note("RolloutStarted", false, started);
    }
    for analysis in &after.analysis {
        let known =
            before.analysis.iter().find(|known| known.kind == analysis.kind && known.started_at == analysis.started_at);
        if analysis.verdict == Verdict::Pass && known.is_some_and(|known| known.verdict != Verdict::Pass) {
            let names: Vec<&str> = analysis.metrics.iter().map(|metric| metric.name.as_str()).collect();
            note("AnalysisPassed", false, format!("{} passed", names.join(", ")));
        }
    }
    notes.extend(lasting(before, after));
    notes
}

/// What lasts for a while, told as it begins: pauses, stalls and who contests the route.
fn lasting(before: &RolloutStatus, after: &RolloutStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |reason: &str, is_warning: bool, message: &str| {
        notes.push(Note { reason: reason.into(), is_warning, message: message.to_owned() })
    };
    if let Some((step, reason)) = paused(after).filter(|_| paused(before) != paused(after)) {
        let pauses = after.attempt.iter().flat_map(|attempt| &attempt.pauses);
        if !pauses.into_iter().any(|known| Some(known.step) == step && known.reason == reason) {
            note("Paused", false, &after.message);
        }
    }
    let reason_of = |status: &RolloutStatus| {
        status.conditions.iter().find(|condition| condition.kind == "Stalled").map(|condition| condition.reason.clone())
    };
    if reason_of(after).is_some() && reason_of(before) != reason_of(after) && after.aborted.is_none() {
        note("Stalled", true, &after.message);
    }
    let is_leaving = ready(after).is_some_and(|ready| ready.reason == "Leaving");
    if reason_of(before).is_some() && reason_of(after).is_none() && before.aborted.is_none() && !is_leaving {
        note("Recovered", false, &after.message);
    }
    if let (None, Some(message)) = (contested(before), contested(after)) {
        note("RouteContested", true, message);
    }
    notes
}

/// Who writes what is Serin's, while somebody does.
fn contested(status: &RolloutStatus) -> Option<&str> {
    let told = status.conditions.iter().find(|condition| condition.kind == "RouteContested")?;
    Some(told.message.as_str())
}

/// The commit that brought a revision, in brackets.
pub(super) fn of_commit(commit: Option<&String>) -> String {
    commit.map_or_else(String::new, |commit| format!(" (commit {commit})"))
}

fn started(before: &RolloutStatus, after: &RolloutStatus) -> Option<String> {
    let (attempt, canary) = (after.attempt.as_ref()?, after.canary.as_ref()?);
    let same = before.attempt.as_ref().is_some_and(|known| known.started_at == attempt.started_at);
    let commit = of_commit(canary.commit.as_ref());
    (!same && after.aborted.is_none()).then(|| {
        format!(
            "revision {} of {}{commit}: attempt {}, {} steps",
            canary.hash, canary.image, attempt.number, attempt.steps
        )
    })
}

/// The weight that came in force, as a `setWeight` step was passed; the last one may be followed by the promotion at once.
fn weight_passed(before: &RolloutStatus, after: &RolloutStatus) -> Option<String> {
    let told = |canary: &RevisionStatus| format!("{}% of traffic goes to {}", canary.observed_weight, canary.hash);
    if let (Some(attempt), Some(canary)) = (&after.attempt, &after.canary) {
        let same = before.attempt.as_ref().filter(|known| known.started_at == attempt.started_at);
        let is_new = attempt.weight != same.map_or(0, |known| known.weight) && !attempt.skip_steps;
        let has_passed = after.current_step_index.is_some_and(|step| step > 0);
        // A person may have passed the step before any traffic moved.
        let has_moved = canary.observed_weight > 0 || attempt.weight == 0;
        return (is_new && has_passed && has_moved).then(|| told(canary));
    }
    let (attempt, canary) = (before.attempt.as_ref()?, before.canary.as_ref()?);
    let is_promoted = after.stable.as_ref().is_some_and(|stable| stable.hash == canary.hash);
    let is_new = canary.weight != attempt.weight && canary.weight == canary.observed_weight;
    (is_promoted && is_new && !attempt.skip_steps).then(|| told(canary))
}

/// Where and why a rollout waits for more than a time.
fn paused(status: &RolloutStatus) -> Option<(Option<i32>, &str)> {
    let is_timed = status.blocked_by.iter().any(|wait| wait.reason == "PausedByStep" && wait.until.is_some());
    let ready = ready(status)?;
    let is_brief = ready.reason == "NoData" && !is_silent(status);
    let is_told = status.phase == Some(Phase::Paused) && !is_timed && !is_brief;
    is_told.then_some((status.current_step_index, ready.reason.as_str()))
}

/// Whether a metric has had no data for a while, or in all the measurements that are kept.
fn is_silent(status: &RolloutStatus) -> bool {
    status.analysis.iter().flat_map(|analysis| &analysis.metrics).filter(|metric| !metric.dry_run).any(|metric| {
        let kept = &metric.measurements;
        let silent = kept.iter().rev().take_while(|one| one.assessment == Assessment::NoData);
        let (Some(first), Some(last)) = (silent.clone().last(), kept.last()) else { return false };
        let silent = silent.count();
        let is_all = silent == kept.len() && usize::try_from(metric.taken).is_ok_and(|taken| taken > silent);
        silent >= retention::KEPT || is_all || last.at.duration_since(first.at) >= LASTING
    })
}

fn ready(status: &RolloutStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == "Ready")
}

/// Remembers which pauses of the step have ended a moment ago: one that comes back is the same, and is not told again. What
/// people begin and end is told each time.
pub fn remember(before: &RolloutStatus, after: &mut RolloutStatus, now: Timestamp) {
    let step = after.current_step_index;
    let [was, is] = [before, &*after].map(|status| paused(status).map(|(step, reason)| (step, reason.to_owned())));
    let Some(attempt) = &mut after.attempt else { return };
    attempt.pauses.retain(|known| Some(known.step) == step);
    if was == is {
        return;
    }
    let begun = is.map(|(_, reason)| reason);
    attempt.pauses.retain(|known| begun.as_ref() != Some(&known.reason) || later(known.ended_at, QUIET) > now);
    let same = before.attempt.as_ref().is_some_and(|known| known.started_at == attempt.started_at);
    let ended = was.filter(|(of, reason)| same && *of == step && RETURNING.contains(&reason.as_str()));
    if let Some((Some(step), reason)) = ended {
        attempt.pauses.retain(|known| known.reason != reason);
        attempt.pauses.push(EndedPause { step, reason, ended_at: now });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Measurements a second apart, good ones first: so many were taken, of which so many of the last are kept.
    fn check((good, silent): (usize, usize), kept: usize, is_told: bool) {
        let assessments = vec!["Success"; good].into_iter().chain(vec!["NoData"; silent]).enumerate();
        let measurements: Vec<Value> = assessments
            .skip((good + silent).saturating_sub(kept))
            .map(|(second, assessment)| json!({"at": format!("2026-01-01T00:00:{second:02}Z"), "assessment": assessment, "value": ""}))
            .collect();
        let metric = json!({"name": "rate", "taken": good + silent, "measurements": measurements});
        let analysis =
            json!({"kind": "Step", "startedAt": "2026-01-01T00:00:00Z", "verdict": "Running", "metrics": [metric]});
        let status = serde_json::from_value(json!({"analysis": [analysis]})).unwrap();
        assert_eq!(is_silent(&status), is_told, "{good} {silent} {kept}");
    }

    #[test]
    fn silence_is_told_after_ten_measurements_or_all_that_are_kept() {
        check((0, 9), 10, false);
        check((0, 10), 10, true);
        check((5, 9), 10, false);
        check((5, 10), 10, true);
        check((2, 10), 30, true);
        check((2, 9), 30, false);
        check((0, 3), 3, false);
        check((1, 3), 3, true);
        check((2, 2), 3, false);
    }
}
