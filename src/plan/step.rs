//! The step cursor: what the current step waits for, and when it is passed.
//!
//! ```text
//! setWeight: pods available -> weight written -> in force -> passed
//! pause:     time over, or promoted               -> passed
//! approval:  approved for this revision           -> passed
//! setHeaderRoute, setMirrorRoute: a pod available -> route written -> in force -> passed
//! analysis:  verdict Pass -> passed;  Fail -> aborted;  Inconclusive -> held
//! all passed and fully available, background analysis not failing -> promoted
//! ```

use super::analysis::later;
use super::attempt::{self, by_serin};
use super::course::{Course, Facts};
use super::strategy::Step;
use super::{promotion, ratio};
use crate::api::status::{AnalysisKind, Attempt, ShortOfPods, Verdict};

/// Begins the steps again when passed ones were edited.
pub fn reread(facts: &Facts<'_>, course: &mut Course) {
    let index = course.step_index();
    if course.canary().is_none() || course.is_held {
        return;
    }
    let Some(mut attempt) = course.status.attempt.clone() else {
        return;
    };
    let steps = facts.strategy.steps.len();
    if index > steps || attempt.passed_steps != attempt::passed_steps(facts, index) {
        let why = "steps already passed were edited; the steps begin again";
        course.decide(by_serin(facts, "StepsEdited", why));
        course.status.current_step_index = Some(0);
        course.status.analysis.retain(|analysis| analysis.kind == AnalysisKind::Background);
        attempt.passed_steps = attempt::passed_steps(facts, 0);
        attempt.step_started_at = facts.now;
        // Nothing of the old steps is permitted any more, nor skipped of the new ones.
        attempt.weight = 0;
        attempt.skip_steps = false;
    }
    attempt.steps = i32::try_from(steps).unwrap_or(i32::MAX);
    course.status.attempt = Some(attempt);
}

/// Aborts a canary whose pods do not come in time.
pub fn deadline(facts: &Facts<'_>, course: &mut Course) {
    let Some(canary) = course.canary().map(|canary| canary.hash.clone()) else {
        return;
    };
    let Some(mut attempt) = course.status.attempt.clone() else {
        return;
    };
    let wanted = course.pods_wanted(facts);
    let available = facts.pods_of(&canary).available;
    attempt.short_of_pods = if available >= wanted {
        None
    } else {
        match attempt.short_of_pods {
            Some(short) if short.most >= available => Some(short),
            Some(_) | None => Some(ShortOfPods { since: facts.now, most: available }),
        }
    };
    let short = attempt.short_of_pods.clone();
    course.status.attempt = Some(attempt);
    let Some(short) = short else { return };
    let until = later(short.since, facts.strategy.progress_deadline);
    let message = format!("{available} of {wanted} canary pods are available");
    if facts.now < until {
        course.wait_until("PodsNotReady", message, until);
    } else if facts.strategy.deadline_aborts {
        let message =
            format!("{message} after {} seconds without progress", facts.strategy.progress_deadline.as_secs());
        attempt::abort(facts, course, by_serin(facts, "ProgressDeadlineExceeded", message));
    } else {
        course.hold(
            "ProgressDeadlineExceeded",
            format!("{message}; progressDeadlineAbort is false: abort, or fix the pods"),
        );
    }
}

/// Passes every step that is complete, then promotes if all is done.
pub fn advance(facts: &Facts<'_>, course: &mut Course) {
    if course.canary().is_none() || course.is_held {
        return;
    }
    if facts.replicas == 0 {
        course.hold("NoReplicas", "spec.replicas is 0: the canary waits for pods to judge");
        return;
    }
    // Without its route the canary's pods take traffic that no step has permitted.
    if !facts.problems.is_empty() {
        return;
    }
    while let Some(step) = facts.strategy.steps.get(course.step_index()) {
        if !is_complete(facts, course, step) {
            return;
        }
        pass(facts, course);
    }
    if may_promote(facts, course) {
        attempt::promote(facts, course);
    }
}

/// Passes the current step.
pub fn pass(facts: &Facts<'_>, course: &mut Course) {
    let index = course.step_index();
    // On record before the next step moves anything: a weight above what the status permits would be taken back.
    course.has_decided = true;
    course.status.current_step_index = i32::try_from(index + 1).ok();
    if let Some(attempt) = &mut course.status.attempt {
        let weight = match facts.strategy.steps.get(index) {
            Some(Step::SetWeight(weight)) => *weight,
            Some(
                Step::SetCanaryScale(_)
                | Step::Pause(_)
                | Step::Analysis(_)
                | Step::Approval(_)
                | Step::SetRoute(_)
                | Step::Faulty,
            )
            | None => attempt.weight,
        };
        let passed_steps = attempt::passed_steps(facts, index + 1);
        *attempt = Attempt { passed_steps, weight, step_started_at: facts.now, ..attempt.clone() };
    }
}

fn is_complete(facts: &Facts<'_>, course: &mut Course, step: &Step) -> bool {
    match step {
        Step::SetWeight(_) if facts.strategy.ratio.is_some() => ratio::is_settled(facts, course),
        Step::SetWeight(weight) => has_weight(facts, course, *weight),
        Step::SetCanaryScale(_) => {
            let canary = course.canary().map(|canary| facts.pods_of(&canary.hash));
            canary.is_some_and(|pods| pods.available >= course.pods_wanted(facts))
        }
        Step::Pause(duration) => is_paused_enough(facts, course, *duration),
        Step::Analysis(_) => {
            let index = course.status.current_step_index;
            let own = course
                .status
                .analysis
                .iter()
                .find(|analysis| analysis.kind == AnalysisKind::Step && analysis.step == index);
            own.is_some_and(|analysis| analysis.verdict == Verdict::Pass)
        }
        Step::Approval(wanted) => promotion::is_approved(facts, course, wanted),
        Step::SetRoute(_) => has_front(facts, course),
        Step::Faulty => false,
    }
}

/// Whether the header and mirror routes are what the steps say, in force, with the canary's pods.
fn has_front(facts: &Facts<'_>, course: &mut Course) -> bool {
    let front = course.front(facts);
    let Some(canary) = course.canary().map(|canary| canary.hash.clone()) else {
        return false;
    };
    if facts.route.legs.is_empty() || facts.route.is_plain || !facts.route.has_front(&front) {
        return false;
    }
    let is_routed = facts.route.canary.as_ref() == Some(&canary) && facts.route.stable.as_deref() == course.stable();
    let has_pods = facts.pods_of(&canary).available >= course.pods_wanted(facts);
    (front.is_empty() || (is_routed && has_pods)) && is_in_force(facts, course)
}

/// Whether the weight is what the step says, in force, with its pods; more where stable has no ready pod.
fn has_weight(facts: &Facts<'_>, course: &mut Course, weight: i32) -> bool {
    let Some(canary) = course.canary().map(|canary| canary.hash.clone()) else {
        return false;
    };
    if facts.route.legs.is_empty() || facts.route.is_plain {
        return false;
    }
    let is_routed = facts.route.canary.as_ref() == Some(&canary) && facts.route.stable.as_deref() == course.stable();
    let has_pods = facts.pods_of(&canary).available >= course.pods_wanted(facts);
    let is_there = if weight == 0 {
        !facts.route.exceeds(0)
    } else {
        is_routed && has_pods && (facts.route.is_at(weight) || facts.route.is_at(100))
    };
    is_there && is_in_force(facts, course)
}

/// Whether every proxy has the route as observed, or it is waited for.
fn is_in_force(facts: &Facts<'_>, course: &mut Course) -> bool {
    if !course.is_in_force(facts) {
        course.await_route(facts);
        return false;
    }
    true
}

fn is_paused_enough(facts: &Facts<'_>, course: &mut Course, duration: Option<jiff::SignedDuration>) -> bool {
    let index = course.step_index();
    let since = course.status.attempt.as_ref().map_or(facts.now, |attempt| attempt.step_started_at);
    let Some(duration) = duration else {
        course.wait(
            "PausedByStep",
            format!("step {} of {} waits until somebody promotes it", index + 1, facts.strategy.steps.len()),
        );
        return false;
    };
    let until = later(since, duration);
    if facts.now < until {
        course.wait_until(
            "PausedByStep",
            format!("step {} of {} pauses for {} s", index + 1, facts.strategy.steps.len(), duration.as_secs()),
            until,
        );
    }
    facts.now >= until
}

/// Whether every gate is passed and the canary is fully available. S5.
fn may_promote(facts: &Facts<'_>, course: &mut Course) -> bool {
    let Some(canary) = course.canary().map(|canary| canary.hash.clone()) else {
        return false;
    };
    let is_skipping = course.status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
    // The weight may still be that of a revision before.
    let is_own = facts.route.canary.as_ref() == Some(&canary) || !facts.route.carries();
    let is_routed = !facts.route.legs.is_empty()
        && !facts.route.is_plain
        && facts.route.stable.as_deref() == course.stable()
        && is_own;
    let is_ready = if facts.strategy.ratio.is_some() { ratio::is_settled(facts, course) } else { is_routed };
    if !is_ready || facts.pods_of(&canary).available < facts.replicas {
        return false;
    }
    if !is_in_force(facts, course) {
        return false;
    }
    if is_skipping {
        return true;
    }
    let unmeasured = facts.strategy.background.is_some() && {
        let background = course.status.analysis.iter().find(|analysis| analysis.kind == AnalysisKind::Background);
        let measured = background.is_some_and(|analysis| {
            !analysis.metrics.is_empty()
                && analysis.metrics.iter().all(|metric| metric.successes + metric.failures + metric.inconclusive > 0)
        });
        !measured && has_weight_steps(facts)
    };
    if unmeasured {
        course.wait("AnalysisRunning", "the background analysis has not measured every metric yet");
    }
    !unmeasured
}

/// Whether any step gives the canary traffic, so that a background analysis can begin at all.
fn has_weight_steps(facts: &Facts<'_>) -> bool {
    facts.strategy.steps.iter().any(|step| matches!(step, Step::SetWeight(weight) if *weight > 0))
}
