//! Begins and ends of an attempt: a first deployment, a new template, a newer one, stable's again, an abort, a promotion.

use super::course::{Course, Facts};
use super::promotion;
use super::revision::{Pods, hash_text};
use super::step;
use super::weight::enough;
use crate::api::names;
use crate::api::status::{Aborted, Attempt, Decision, Draining, Outcome, OutcomeKind, RevisionStatus};

/// Who decides when nobody asked.
const SERIN: &str = "serin";

/// A decision of Serin's own.
pub fn by_serin(facts: &Facts<'_>, what: &str, why: impl Into<String>) -> Decision {
    Decision { at: facts.now, by: SERIN.into(), what: what.into(), why: why.into(), commit: None }
}

/// Begins, supersedes or reverts, as the template asks.
pub fn begin(facts: &Facts<'_>, course: &mut Course) {
    let Some(target) = facts.target.clone() else {
        return;
    };
    match course.stable().map(str::to_owned) {
        None => first(facts, course, &target),
        Some(stable) if stable == target => revert(facts, course),
        Some(_) if course.status.canary.as_ref().is_some_and(|canary| canary.hash == target) => {}
        Some(_) => start(facts, course, &target),
    }
}

/// The first deployment has no canary: it becomes stable as soon as enough of its pods are available.
fn first(facts: &Facts<'_>, course: &mut Course, target: &str) {
    let stable = revision(facts, course, target);
    if let Some((_, why)) = promotion::rejection(facts, &stable) {
        course.hold("Rejected", format!("{why}: {target} would be the first revision; push another, or take it out"));
        return;
    }
    let pods = facts.pods_of(target);
    if !facts.pods.contains_key(target) || pods.available < enough(facts.replicas) {
        return;
    }
    let why = format!("first deployment: {} of {} pods are available", pods.available, facts.replicas);
    record(facts, course, &stable, OutcomeKind::Promoted, &why);
    course.status.stable = Some(stable);
    course.decide(by_serin(facts, "FirstDeployment", why));
}

/// The template is stable's again: nothing is in progress any more.
fn revert(facts: &Facts<'_>, course: &mut Course) {
    let Some(canary) = course.status.canary.clone() else {
        return;
    };
    if course.status.aborted.is_none() {
        record(facts, course, &canary, OutcomeKind::Reverted, "the template is stable's again");
        drain(course, &canary.hash, OutcomeKind::Reverted);
        course.decide(by_serin(facts, "Revert", "the template is stable's again"));
    }
    clear(course);
}

/// A new template: the canary begins at step 0, the one before it is superseded.
fn start(facts: &Facts<'_>, course: &mut Course, target: &str) {
    if course.is_held {
        // What Git no longer asks for goes, though nothing comes in its place yet.
        if promotion::holds(facts, course) && course.canary().is_some() {
            supersede(facts, course, target);
        }
        return;
    }
    // Without its route a new canary's pods would take traffic that no step has permitted.
    if course.canary().is_none() && !facts.problems.is_empty() {
        return;
    }
    supersede(facts, course, target);
    course.status.draining.retain(|draining| draining.hash != target);
    let rollback = rollback(facts, course, target);
    course.status.canary = Some(revision(facts, course, target));
    open(facts, course, 1);
    if let Some(why) = rollback {
        skip(facts, course);
        course.decide(by_serin(facts, "Rollback", why));
    }
}

/// Ends the canary before a newer template.
fn supersede(facts: &Facts<'_>, course: &mut Course, target: &str) {
    if let Some(canary) = course.canary().cloned() {
        record(facts, course, &canary, OutcomeKind::Superseded, &format!("revision {target} came"));
        drain(course, &canary.hash, OutcomeKind::Superseded);
        // Were the template to go back before it is on record, the attempt would go on as if nothing had happened.
        course.has_decided = true;
    }
    clear(course);
}

/// Why a target may skip the steps: it was promoted before, and lies within the rollback window.
pub fn rollback(facts: &Facts<'_>, course: &Course, target: &str) -> Option<String> {
    let window = facts.strategy.rollback_window?;
    let last = course.status.history.iter().rev().find(|outcome| outcome.hash == target)?;
    let age = |pods: &Pods| (pods.created_at, pods.revision);
    let (old, stable) = (facts.pods.get(target)?, facts.pods.get(course.stable()?)?);
    let between = facts.pods.values().filter(|pods| age(old) < age(pods) && age(pods) < age(stable)).count();
    let is_within = last.outcome == OutcomeKind::Promoted && age(old) < age(stable) && between < window;
    is_within.then(|| {
        format!("revision {target} was promoted before, and {between} revisions lie between it and stable: within rollbackWindow {window}, so that the steps are skipped")
    })
}

/// Skips all steps; the canary is promoted as soon as it is fully available.
pub fn skip(facts: &Facts<'_>, course: &mut Course) {
    while course.step_index() < facts.strategy.steps.len() {
        step::pass(facts, course);
    }
    course.status.analysis.clear();
    if let Some(attempt) = &mut course.status.attempt {
        attempt.skip_steps = true;
    }
}

/// Opens an attempt at step 0.
fn open(facts: &Facts<'_>, course: &mut Course, number: i32) {
    course.status.current_step_index = Some(0);
    course.status.analysis.clear();
    course.status.attempt = Some(Attempt {
        number,
        started_at: facts.now,
        steps: i32::try_from(facts.strategy.steps.len()).unwrap_or(i32::MAX),
        passed_steps: passed_steps(facts, 0),
        step_started_at: facts.now,
        weight: 0,
        skip_steps: false,
        short_of_pods: None,
        approvals: Vec::new(),
        evidence: Vec::new(),
        pauses: Vec::new(),
    });
}

/// Begins the aborted revision again.
pub fn retry(facts: &Facts<'_>, course: &mut Course) {
    let number = course.status.attempt.as_ref().map_or(1, |attempt| attempt.number);
    let hash = course.status.canary.as_ref().map(|canary| canary.hash.clone());
    course.status.aborted = None;
    course.status.paused = None;
    course.status.draining.retain(|draining| Some(&draining.hash) != hash.as_ref());
    open(facts, course, number.saturating_add(1));
}

/// Aborts the canary in progress, for a decision of one word and its evidence.
pub fn abort(facts: &Facts<'_>, course: &mut Course, decision: Decision) {
    let Some(canary) = course.canary().cloned() else {
        return;
    };
    let (reason, message) = (decision.what.clone(), decision.why.clone());
    record(facts, course, &canary, OutcomeKind::Aborted, &format!("{reason}: {message}"));
    drain(course, &canary.hash, OutcomeKind::Aborted);
    course.status.aborted = Some(Aborted {
        hash: canary.hash,
        at: facts.now,
        reason: reason.clone(),
        message: message.clone(),
        restored_at: None,
        retry: facts.strategy.promotion.retry,
    });
    course.status.paused = None;
    course.decide(Decision { what: "Abort".into(), why: format!("{reason}: {message}"), ..decision });
}

/// Records the canary as the new stable: the point of no return.
pub fn promote(facts: &Facts<'_>, course: &mut Course) {
    let Some(canary) = course.canary().cloned() else {
        return;
    };
    let skips = course.status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
    let reason = if skips { "the steps were skipped" } else { "all steps passed" };
    record(facts, course, &canary, OutcomeKind::Promoted, reason);
    if let Some(stable) = course.stable().map(str::to_owned) {
        drain(course, &stable, OutcomeKind::Promoted);
    }
    course.status.draining.retain(|draining| draining.hash != canary.hash);
    let steps = course.status.current_step_index;
    let analysis = std::mem::take(&mut course.status.analysis);
    clear(course);
    course.status.current_step_index = steps;
    course.status.analysis = analysis;
    course.status.stable = Some(canary.clone());
    let steps = if skips {
        "the steps were skipped".into()
    } else {
        match facts.strategy.steps.len() {
            0 => "there are no steps".into(),
            1 => "the only step is passed".into(),
            steps => format!("all {steps} steps passed"),
        }
    };
    let why = format!("{steps} and the canary is fully available");
    course.decide(by_serin(facts, "Promote", why));
}

/// Hash of the steps before an index, as written.
pub fn passed_steps(facts: &Facts<'_>, index: usize) -> String {
    let passed: Vec<&str> = facts.strategy.steps_written.iter().take(index).map(String::as_str).collect();
    hash_text(&passed.join("\n"))
}

fn clear(course: &mut Course) {
    course.status.canary = None;
    course.status.attempt = None;
    course.status.current_step_index = None;
    course.status.aborted = None;
    course.status.paused = None;
    course.status.analysis.clear();
    if let Some(route) = &mut course.status.route {
        route.contested = 0;
        route.contested_at = None;
        route.asked = 0;
    }
}

fn record(facts: &Facts<'_>, course: &mut Course, canary: &RevisionStatus, outcome: OutcomeKind, reason: &str) {
    let started_at = course.status.attempt.as_ref().map_or(facts.now, |attempt| attempt.started_at);
    course.end(Outcome {
        hash: canary.hash.clone(),
        revision: canary.revision,
        commit: canary.commit.clone(),
        outcome,
        started_at,
        ended_at: facts.now,
        reason: reason.into(),
    });
}

fn drain(course: &mut Course, hash: &str, reason: OutcomeKind) {
    course.status.draining.retain(|draining| draining.hash != hash);
    course.status.draining.push(Draining { hash: hash.into(), reason, since: None, acknowledged: None });
}

fn revision(facts: &Facts<'_>, course: &Course, hash: &str) -> RevisionStatus {
    let known = facts.pods.values().map(|pods| pods.revision).max().unwrap_or(0);
    let stable = course.status.stable.as_ref().map_or(0, |stable| stable.revision);
    let newest = known.max(stable);
    let own = facts.pods.get(hash).map_or(0, |pods| pods.revision);
    let is_first = course.status.stable.is_none();
    RevisionStatus {
        hash: hash.into(),
        revision: if own > 0 && (own == newest || is_first) { own } else { newest + 1 },
        image: images(facts),
        commit: facts.commit(),
        unread_generation: facts.observed.rollout.metadata.generation.filter(|_| facts.observed.is_commit_unread),
        author: facts.annotation(names::GIT_AUTHOR),
        version: version(facts),
        ..RevisionStatus::default()
    }
}

/// The version that the template, else the object that holds it, is labelled with.
fn version(facts: &Facts<'_>) -> Option<String> {
    let of_template = facts.strategy.template.as_ref().and_then(|template| {
        template.pointer("/metadata/labels")?.get(names::VERSION_LABEL)?.as_str().map(str::to_owned)
    });
    of_template.or_else(|| facts.label(names::VERSION_LABEL))
}

/// Images of the template's containers, joined by commas.
fn images(facts: &Facts<'_>) -> String {
    let containers =
        facts.strategy.template.as_ref().and_then(|template| template.pointer("/spec/containers")?.as_array());
    let images = containers.into_iter().flatten().filter_map(|container| container.get("image")?.as_str());
    images.collect::<Vec<_>>().join(",")
}
