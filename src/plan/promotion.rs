//! What a person decides by Git: rejections, retries, approvals, holds and windows, each for the revision that it names.

use super::course::{Course, Facts};
use super::strategy::ApprovalStep;
use super::{attempt, command};
use crate::api::promotion::RevisionSelector;
use crate::api::status::{Approval, Decision, RevisionStatus};

/// Who decides where a spec names nobody.
const GIT: &str = "Git";

/// Whether a selector names a revision.
pub fn selects(selector: &RevisionSelector, revision: &RevisionStatus) -> bool {
    let is = |wanted: &Option<String>, test: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(test);
    *selector != RevisionSelector::default()
        && is(&selector.image, &|image| revision.image.split(',').any(|own| own == image))
        && is(&selector.template_hash, &|hash| revision.hash == hash)
        && is(&selector.version, &|version| revision.version.as_deref() == Some(version))
        && is(&selector.commit, &|commit| revision.commit.as_deref().is_some_and(|own| are_same(own, commit)))
}

/// Whether two texts name one commit: one may be the beginning of the other.
fn are_same(one: &str, other: &str) -> bool {
    // Flux writes a branch and a digest in front: main@sha1:4f2a91c.
    let bare = |text: &str| text.rsplit(':').next().unwrap_or(text).to_lowercase();
    let (one, other) = (bare(one), bare(other));
    let shorter = one.len().min(other.len());
    shorter >= 7 && one.as_bytes().get(..shorter) == other.as_bytes().get(..shorter)
}

/// Holds what begins and what goes on, before anything does.
pub fn hold(facts: &Facts<'_>, course: &mut Course) {
    course.is_held |= holds(facts, course);
}

/// Whether Git holds the rollout.
pub fn holds(facts: &Facts<'_>, course: &Course) -> bool {
    facts.strategy.paused || facts.strategy.promotion.hold || is_closed(facts, course)
}

/// Names the holds, while there is something to hold.
pub fn name_holds(facts: &Facts<'_>, course: &mut Course) {
    let is_wanted = facts.target.is_some() && facts.target.as_deref() != course.stable();
    if !is_wanted || course.has_failed(facts) {
        return;
    }
    if facts.strategy.promotion.hold {
        course.hold("Held", "spec.promotion.hold is true; set it to false to go on");
    }
    let windows = &facts.strategy.promotion.windows;
    if is_closed(facts, course) {
        course.is_held = true;
        match windows.open_at(facts.now) {
            Some(at) => {
                let message = "spec.promotion.windows: rollouts do not go on before";
                course.wait_until("OutsideWindow", format!("{message} {at}; an abort and a revert do"), at);
            }
            None => course.wait("OutsideWindow", "spec.promotion.windows: no time is found at which rollouts go on"),
        }
    } else if let Some(at) = windows.closed_at(facts.now) {
        course.wakes.push((at, "rollouts are held from then on".to_owned()));
    }
}

/// Whether the windows hold what is to be done. A first deployment has nothing to protect; what skips the steps has been
/// stable before, or a person has said so.
fn is_closed(facts: &Facts<'_>, course: &Course) -> bool {
    if facts.strategy.promotion.windows.are_open(facts.now) {
        return false;
    }
    let Some(target) = facts.target.as_deref().filter(|_| course.stable().is_some()) else {
        return false;
    };
    let is_begun = course.canary().is_some_and(|canary| canary.hash == target);
    let skips = course.status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
    let is_exempt = if is_begun { skips } else { attempt::rollback(facts, course, target).is_some() };
    !is_exempt
}

/// Which rejection names a revision, if any, and its words.
pub fn rejection(facts: &Facts<'_>, revision: &RevisionStatus) -> Option<(String, String)> {
    let mut rejections = facts.strategy.promotion.reject.iter().enumerate();
    let (index, rejection) = rejections.find(|(_, rejection)| selects(&rejection.selector, revision))?;
    let by = rejection.by.clone().unwrap_or_else(|| GIT.to_owned());
    let why = rejection.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    Some((by, format!("spec.promotion.reject[{index}]{why}")))
}

/// Aborts a canary that Git rejects.
pub fn reject(facts: &Facts<'_>, course: &mut Course) {
    let found = course.canary().and_then(|canary| rejection(facts, canary));
    if let Some((by, why)) = found {
        let commit = facts.commit();
        attempt::abort(facts, course, Decision { at: facts.now, by, what: "Rejected".to_owned(), why, commit });
    }
}

/// Begins an aborted revision again, once Git asks for it more often than when it was aborted.
pub fn retry(facts: &Facts<'_>, course: &mut Course) {
    let promotion = &facts.strategy.promotion;
    let (Some(aborted), Some(canary)) = (&course.status.aborted, &course.status.canary) else {
        return;
    };
    if promotion.retry <= aborted.retry || facts.target.as_ref() != Some(&canary.hash) {
        return;
    }
    if rejection(facts, canary).is_some() {
        return;
    }
    let why = format!("spec.promotion.retry went from {} to {}", aborted.retry, promotion.retry);
    course.decide(Decision {
        at: facts.now,
        by: GIT.to_owned(),
        what: "Retry".to_owned(),
        why,
        commit: facts.commit(),
    });
    attempt::retry(facts, course);
}

/// Who has approved a step of the attempt, each once, as it is on record.
pub fn approvers(course: &Course, step: &str) -> Vec<String> {
    let all = course.status.attempt.iter().flat_map(|attempt| &attempt.approvals);
    let mut found: Vec<String> = Vec::new();
    for approval in all.filter(|approval| approval.step == step) {
        if !found.iter().any(|by| are_one(by, &approval.by)) {
            found.push(approval.by.clone());
        }
    }
    found
}

/// Whether two names are one person's, whether or not somebody has verified them.
pub fn are_one(one: &str, other: &str) -> bool {
    let bare = |name: &str| name.strip_suffix(command::UNVERIFIED).unwrap_or(name).trim().to_lowercase();
    bare(one) == bare(other)
}

/// Whether the canary is approved for a step; puts Git's approvals on record, or names the wait.
pub fn is_approved(facts: &Facts<'_>, course: &mut Course, wanted: &ApprovalStep) -> bool {
    let ApprovalStep { name: step, approvers: enough } = wanted;
    let Some(canary) = course.canary().cloned().filter(|_| course.status.attempt.is_some()) else {
        return false;
    };
    let mut given = approvers(course, step);
    let of_step = || facts.strategy.promotion.approvals.iter().filter(|approval| approval.step == *step);
    let mut declared = Vec::new();
    for found in of_step().filter(|approval| selects(&approval.selector, &canary)) {
        let by = found.by.clone().unwrap_or_else(|| GIT.to_owned());
        if given.len() < *enough && !given.iter().any(|other| are_one(other, &by)) {
            given.push(by.clone());
            let (reason, commit) = (found.reason.clone(), facts.commit());
            declared.push(Approval { step: step.clone(), at: facts.now, by, reason, commit });
        }
    }
    // Until they are enough Git may take its own back.
    if given.len() >= *enough {
        declared.into_iter().for_each(|approval| record(course, approval));
        return true;
    }
    let others = match of_step().count() {
        _ if !given.is_empty() => format!("; it has {} of {enough}: {}", given.len(), given.join(", ")),
        _ if *enough > 1 => format!(" by {enough} different people"),
        0 => String::new(),
        1 => "; the one in spec.promotion.approvals is for another revision".to_owned(),
        count => format!("; the {count} in spec.promotion.approvals are for other revisions"),
    };
    let index = course.step_index() + 1;
    let steps = facts.strategy.steps.len();
    course.wait(
        "AwaitingApproval",
        format!("step {index} of {steps} waits for the approval {step} of revision {}{others}", canary.hash),
    );
    false
}

/// Puts an approval on record: with the attempt, for its steps, and among the decisions.
pub fn record(course: &mut Course, approval: Approval) {
    course.decide(Decision {
        at: approval.at,
        by: approval.by.clone(),
        what: format!("Approve {}", approval.step),
        why: approval.reason.clone().unwrap_or_else(|| "no reason given".to_owned()),
        commit: approval.commit.clone(),
    });
    if let Some(attempt) = &mut course.status.attempt {
        attempt.approvals.push(approval);
    }
}
