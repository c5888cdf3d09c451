//! The steps by themselves: weights that rise, something that holds a bad canary, and how long it all takes.

use jiff::SignedDuration;

use super::analysis;
use super::find::{Found, Mark};
use super::rule;
use super::subject::Subject;
use crate::plan::strategy::Step;

/// The longest that a step takes in most people's weeks.
const STEP_MOST: SignedDuration = SignedDuration::from_hours(24);

/// Path of the steps.
pub(super) const STEPS: &str = "spec.strategy.canary.steps";

/// Looks at the steps of one Rollout.
pub(super) fn check(subject: &Subject<'_>, found: &mut Found) {
    check_weights(subject, found);
    check_lengths(subject, found);
    check_approvals(subject, found);
    let steps = &subject.strategy.steps;
    let holds = |step: &Step| matches!(step, Step::Pause(_) | Step::Analysis(_) | Step::Approval(_) | Step::Faulty);
    if !steps.iter().any(holds) && subject.strategy.background.is_none() && subject.strategy.faults.is_empty() {
        let path = if steps.is_empty() { "spec.strategy.canary" } else { STEPS };
        let message = if steps.is_empty() {
            "has no steps: a new revision gets all traffic as soon as its pods are available"
        } else {
            "have neither a pause nor an analysis: the weights rise as soon as the pods are available"
        };
        found.add_with(&rule::NO_GATE, (subject.object, path, Mark::Key), message.to_owned(), "");
    }
}

fn check_weights(subject: &Subject<'_>, found: &mut Found) {
    let mut before: Option<i32> = None;
    for (index, step) in subject.strategy.steps.iter().enumerate() {
        let Step::SetWeight(weight) = step else { continue };
        let path = format!("{STEPS}[{index}].setWeight");
        match before {
            None if *weight == 100 => {
                found.add(&rule::FIRST_WEIGHT_FULL, subject.object, &path, "gives the canary all traffic at once");
            }
            Some(last) if *weight == last => {
                let message = format!("is {last} already");
                found.add_with(
                    &rule::WEIGHT_NOT_RISING,
                    (subject.object, &path, Mark::Value),
                    message,
                    "raise it, or remove the step",
                );
            }
            Some(last) if *weight < last => {
                let message = format!("takes the canary back from {last} to {weight}");
                found.add(&rule::WEIGHT_NOT_RISING, subject.object, &path, message);
            }
            None | Some(_) => {}
        }
        before = Some(*weight);
    }
    let full = subject.strategy.steps.iter().position(|step| matches!(step, Step::SetWeight(100)));
    let after = full.map(|full| full + 1).filter(|after| *after < subject.strategy.steps.len());
    if let Some(after) = after {
        let message = "comes after a weight of 100: it holds the promotion, and a failure has hit everybody".to_owned();
        found.add_with(&rule::STEPS_AFTER_FULL, (subject.object, &format!("{STEPS}[{after}]"), Mark::Key), message, "");
    }
}

fn check_approvals(subject: &Subject<'_>, found: &mut Found) {
    let steps = || subject.strategy.approvals().map(|(_, step)| step.name.as_str());
    for (index, approval) in subject.strategy.promotion.approvals.iter().enumerate() {
        if !steps().any(|name| name == approval.step) {
            let path = format!("spec.promotion.approvals[{index}].step");
            let known = steps().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "no step waits for an approval".to_owned() } else { known };
            found.add(&rule::APPROVAL_STEP, subject.object, &path, format!("is none of the steps: {known}"));
        }
    }
}

fn check_lengths(subject: &Subject<'_>, found: &mut Found) {
    for (index, step) in subject.strategy.steps.iter().enumerate() {
        let (takes, path) = match step {
            Step::Pause(Some(duration)) => (*duration, format!("{STEPS}[{index}].pause.duration")),
            Step::Analysis(gate) => (analysis::length(subject, gate), format!("{STEPS}[{index}].analysis")),
            Step::SetWeight(_)
            | Step::SetCanaryScale(_)
            | Step::Pause(None)
            | Step::Approval(_)
            | Step::SetRoute(_)
            | Step::Faulty => continue,
        };
        if takes > STEP_MOST {
            found.add(&rule::LONG_STEP, subject.object, &path, format!("takes {takes:#}"));
        }
    }
}

/// How long the steps take at least from one of them on; none where a person is waited for.
pub(super) fn length(subject: &Subject<'_>, from: usize) -> Option<SignedDuration> {
    subject.strategy.steps.iter().skip(from).try_fold(SignedDuration::ZERO, |sum, step| {
        Some(sum.saturating_add(match step {
            Step::Pause(duration) => (*duration)?,
            Step::Approval(_) => return None,
            Step::Analysis(gate) => analysis::length(subject, gate),
            Step::SetWeight(_) | Step::SetCanaryScale(_) | Step::SetRoute(_) | Step::Faulty => SignedDuration::ZERO,
        }))
    })
}
