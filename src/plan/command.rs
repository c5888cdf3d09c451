//! What people ask by `RolloutAction`: accepted or refused, once each, bound to the revision it was decided on.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::action::Action;
use super::analysis::later;
use super::course::{Course, Facts};
use super::step;
use super::strategy::{ApprovalStep, Step};
use super::{attempt, promotion};
use crate::api::action::{RolloutActionSpec, Verb};
use crate::api::status::{AnalysisKind, Approval, Decision, HandledAction, Verdict};
use crate::api::watched::RolloutAction;

/// What stands behind a name that the person gave.
pub const UNVERIFIED: &str = " (unverified)";
/// How long an answered action is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Actions decided in one pass.
const MOST: usize = 20;

/// Decides every action that has no answer, in the order of their creation.
pub fn obey(facts: &Facts<'_>, course: &mut Course) {
    let mut asked: Vec<&RolloutAction> = facts.observed.actions.iter().filter(|action| !is_answered(action)).collect();
    asked.sort_by_key(|action| {
        (action.metadata.creation_timestamp.as_ref().map(|time| time.0), action.metadata.name.clone())
    });
    course
        .status
        .handled_actions
        .retain(|handled| asked.iter().any(|action| action.metadata.uid.as_ref() == Some(&handled.uid)));
    for action in asked.into_iter().take(MOST) {
        let uid = action.metadata.uid.clone().unwrap_or_default();
        if course.status.handled_actions.iter().any(|handled| handled.uid == uid) {
            continue;
        }
        let answer = decide(facts, course, action);
        let (accepted, message) = match answer {
            Ok(message) => (true, message),
            Err(message) => (false, message),
        };
        course.status.handled_actions.push(HandledAction { uid, accepted, message, at: facts.now });
        course.has_decided = true;
    }
}

fn is_answered(action: &RolloutAction) -> bool {
    action.status.as_ref().is_some_and(|status| status.accepted.is_some())
}

fn decide(facts: &Facts<'_>, course: &mut Course, action: &RolloutAction) -> Result<String, String> {
    let spec: RolloutActionSpec =
        serde_json::from_str(&action.spec.text()).map_err(|error| format!("cannot be read: {error}"))?;
    let done = carry_out(facts, course, &spec)?;
    if ![Verb::Abort, Verb::Approve].contains(&spec.action) {
        course.decide(decision(facts, &spec));
    }
    Ok(done)
}

/// What somebody decided; who it was is verified only where an admission policy is there to do so.
fn decision(facts: &Facts<'_>, spec: &RolloutActionSpec) -> Decision {
    let by = match &spec.by {
        None => "somebody".to_owned(),
        Some(by) if facts.observed.settings.verified_requesters => by.clone(),
        Some(by) => format!("{by}{UNVERIFIED}"),
    };
    let why = spec.reason.clone().unwrap_or_else(|| "no reason given".into());
    Decision { at: facts.now, by, what: title(spec.action).into(), why, commit: None }
}

fn title(verb: Verb) -> &'static str {
    match verb {
        Verb::Approve => "Approve",
        Verb::Promote => "Promote step",
        Verb::PromoteFull => "Promote full",
        Verb::Abort => "Abort",
        Verb::Retry => "Retry",
        Verb::Pause => "Pause",
        Verb::Resume => "Resume",
        Verb::Restart => "Restart",
    }
}

fn carry_out(facts: &Facts<'_>, course: &mut Course, spec: &RolloutActionSpec) -> Result<String, String> {
    if facts.is_leaving {
        return Err("the Rollout is being deleted".into());
    }
    if spec.action == Verb::Restart {
        return restart(facts, course, spec);
    }
    let canary = course.status.canary.clone().ok_or_else(|| match course.stable() {
        Some(stable) if stable == spec.revision && spec.action == Verb::Abort => {
            format!("revision {stable} is stable already; to undo it, revert the commit")
        }
        Some(stable) if stable == spec.revision => format!("revision {stable} is stable already"),
        Some(_) | None => "no canary is in progress".to_owned(),
    })?;
    if canary.hash != spec.revision {
        return Err(format!(
            "decided on revision {}, but the canary is {} now; look again and decide anew",
            spec.revision, canary.hash
        ));
    }
    let is_aborted = course.status.aborted.is_some();
    match spec.action {
        Verb::Retry if is_aborted => {
            if let Some((_, why)) = promotion::rejection(facts, &canary) {
                return Err(format!("revision {} is rejected by {why}; take that out of Git first", canary.hash));
            }
            attempt::retry(facts, course);
            Ok(format!("revision {} begins again at step 1", canary.hash))
        }
        Verb::Retry => Err("the canary is not aborted".into()),
        Verb::Approve | Verb::Promote | Verb::PromoteFull | Verb::Abort | Verb::Pause | Verb::Resume if is_aborted => {
            Err(format!("revision {} is aborted; retry it, or push another", canary.hash))
        }
        Verb::Abort => {
            attempt::abort(facts, course, Decision { what: "AbortedByAction".into(), ..decision(facts, spec) });
            Ok(format!("revision {} is aborted; traffic goes to stable", canary.hash))
        }
        Verb::Approve => approve(facts, course, spec),
        Verb::Promote => promote(facts, course, spec),
        Verb::PromoteFull => {
            if let Some(hold) = held_by_git(facts) {
                return Err(hold.into());
            }
            course.status.paused = None;
            attempt::skip(facts, course);
            Ok("all steps are skipped; the canary is promoted as soon as it is fully available".into())
        }
        Verb::Pause => {
            course.status.paused = Some(decision(facts, spec));
            Ok("the rollout is held at its step".into())
        }
        Verb::Resume => resume(course),
        Verb::Restart => restart(facts, course, spec),
    }
}

fn restart(facts: &Facts<'_>, course: &mut Course, spec: &RolloutActionSpec) -> Result<String, String> {
    let canary = course.status.canary.as_ref().map(|canary| canary.hash.as_str());
    if ![course.stable(), canary].contains(&Some(spec.revision.as_str())) {
        let stable = course.stable().unwrap_or("none");
        return Err(format!(
            "decided on revision {}, but stable is {stable} now; look again and decide anew",
            spec.revision
        ));
    }
    course.status.restart = Some(decision(facts, spec));
    Ok("all pods are restarted, a few at a time and as disruption budgets allow".into())
}

/// What Git says that holds the rollout, whoever asks.
fn held_by_git(facts: &Facts<'_>) -> Option<&'static str> {
    if facts.strategy.paused {
        Some("spec.paused is true; set it to false in Git")
    } else if facts.strategy.promotion.hold {
        Some("spec.promotion.hold is true; set it to false in Git")
    } else {
        None
    }
}

/// Approves a step for the canary, now or before it is reached.
fn approve(facts: &Facts<'_>, course: &mut Course, spec: &RolloutActionSpec) -> Result<String, String> {
    let names = || facts.strategy.approvals().map(|(_, step)| step.name.as_str()).collect::<Vec<_>>().join(", ");
    let wanted = match &spec.step {
        Some(step) => match step {
            IntOrString::Int(index) => index.to_string(),
            IntOrString::String(name) => name.clone(),
        },
        None => return Err(format!("step is missing: set it to the name of an approval step: {}", names())),
    };
    let found = facts.strategy.approvals().find(|(index, step)| step.name == wanted || index.to_string() == wanted);
    let Some((index, step)) = found else {
        let known = names();
        let known = if known.is_empty() { "there is none".to_owned() } else { format!("there are: {known}") };
        return Err(format!("no approval step is called {wanted}; {known}"));
    };
    let ApprovalStep { name, approvers } = step;
    let given = promotion::approvers(course, name);
    if given.len() >= *approvers || index < course.step_index() {
        return Ok(format!("{name} is approved already"));
    }
    if *approvers > 1 && spec.by.is_none() {
        return Err(format!("{name} is approved by {approvers} different people: say in spec.by who approves"));
    }
    let Decision { at, by, .. } = decision(facts, spec);
    if given.iter().any(|other| promotion::are_one(other, &by)) {
        return Err(format!(
            "{by} has approved {name} already; it has {} of {approvers} approvals, and another person must give the next",
            given.len()
        ));
    }
    let missing = approvers - given.len() - 1;
    let approval = Approval { step: name.clone(), at, by, reason: spec.reason.clone(), commit: None };
    promotion::record(course, approval);
    Ok(match missing {
        0 => format!("{name} is approved for revision {}", spec.revision),
        more => format!("{name} has {} of {approvers} approvals for revision {}", approvers - more, spec.revision),
    })
}

fn promote(facts: &Facts<'_>, course: &mut Course, spec: &RolloutActionSpec) -> Result<String, String> {
    let index = course.status.current_step_index.unwrap_or(0);
    if let Some(hold) = held_by_git(facts) {
        return Err(hold.into());
    }
    if let Some(ApprovalStep { name, .. }) = facts.strategy.steps.get(course.step_index()).and_then(Step::approval) {
        return Err(format!("the step waits for the approval {name}; approve it, in Git or by an action approve"));
    }
    if course.has_passed_all(facts) {
        return Err("all steps are passed already".into());
    }
    let matches = match &spec.step {
        Some(IntOrString::Int(step)) => *step == index,
        Some(IntOrString::String(step)) => step.parse() == Ok(index),
        None => return Err(format!("step is missing: set it to status.currentStepIndex, which is {index}")),
    };
    if !matches {
        return Err(format!("decided on another step; status.currentStepIndex is {index}: look again and decide anew"));
    }
    course.status.paused = None;
    course
        .status
        .analysis
        .retain(|analysis| analysis.verdict != Verdict::Inconclusive || analysis.kind == AnalysisKind::Step);
    step::pass(facts, course);
    Ok(format!("step {} of {} is passed", index + 1, facts.strategy.steps.len()))
}

fn resume(course: &mut Course) -> Result<String, String> {
    let inconclusive = course.status.analysis.iter().any(|analysis| analysis.verdict == Verdict::Inconclusive);
    if course.status.paused.is_none() && !inconclusive {
        return Err("nothing is paused by an action; a pause step is passed by promote, spec.paused in Git".into());
    }
    course.status.paused = None;
    course.status.analysis.retain(|analysis| analysis.verdict != Verdict::Inconclusive);
    Ok("the rollout goes on".into())
}

/// Answers for what the status in the snapshot, or the one just decided, has on record; ownership; removal of old ones.
pub fn answers(facts: &Facts<'_>, course: &mut Course) -> Vec<Action> {
    let mut actions = Vec::new();
    for action in &facts.observed.actions {
        let name = action.metadata.name.clone().unwrap_or_default();
        let uid = action.metadata.uid.clone().unwrap_or_default();
        if let Some(handled) = course.status.handled_actions.iter().find(|handled| handled.uid == uid) {
            let handled = handled.clone();
            actions.push(Action::Answer {
                name,
                uid,
                accepted: handled.accepted,
                message: handled.message,
                at: handled.at,
            });
            continue;
        }
        let Some(at) = action.status.as_ref().and_then(|status| status.at) else {
            continue;
        };
        if later(at, KEPT) <= facts.now {
            actions.push(Action::DeleteAction { name, uid });
        } else if action
            .metadata
            .owner_references
            .iter()
            .flatten()
            .all(|owner| Some(&owner.uid) != facts.observed.rollout.metadata.uid.as_ref())
        {
            actions.push(Action::OwnAction {
                name,
                version: action.metadata.resource_version.clone().unwrap_or_default(),
            });
        } else {
            course.wakes.push((later(at, KEPT), "an answered action is due for removal".into()));
        }
    }
    actions
}
