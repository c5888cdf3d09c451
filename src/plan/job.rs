//! Jobs as measurements: one Job a measurement, created when it is due, watched until it is over, and tidied up.
//!
//! The status says which Job a measurement waits for before it is created, and its name is no other measurement's: whatever
//! happens between the two, it runs once. Once it was seen it is never created again; where it is gone then, the measurement
//! is an error.

mod spec;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::action::Action;
use super::analysis::{self, cut, later, query_id};
use super::course::{Course, Facts};
use super::gate::prefix;
use super::measurement::{JobAnswer, Measurement, Sample};
use super::objects::owner;
use super::retention::KEPT;
use super::revision::hash_text;
use super::template::Metric;
use crate::api::job::{Job, JobStatus};
use crate::api::json::Json;
use crate::api::names;
use crate::api::status::{AnalysisKind, AnalysisStatus, Assessment, MetricStatus, Verdict};

pub use self::spec::{JobRun, check, fill, selected};

/// The wait for the first list of Jobs.
pub const UNLISTED: &str = "JobsUnlisted";
/// The wait for Jobs that could not be deleted, which holds nothing.
pub const UNDELETED: &str = "JobUndeleted";
/// How long a Job may run that does not say so itself: an hour.
pub const DEADLINE: SignedDuration = SignedDuration::from_hours(1);
/// How much longer than its deadline a Job is waited for, which its controller is to end.
const GRACE: SignedDuration = SignedDuration::from_mins(1);
/// How long a Job must be gone before that is believed: a cache may be behind the status.
const GONE: SignedDuration = SignedDuration::from_secs(5);
/// The longest name of a Job: its pods carry it as a label.
const NAME_MOST: usize = 63;
/// The longest wait after errors of Jobs in a row.
const RETRY_MOST: SignedDuration = SignedDuration::from_mins(5);

/// When the next Job is due. After errors in a row each wait is twice as long as the one before.
fn due_at(analysis: &AnalysisStatus, metric: &Metric, status: &MetricStatus) -> Timestamp {
    let last = status.measurements.last().filter(|last| last.assessment == Assessment::Error);
    match last {
        Some(last) => later(last.at, retry(status.consecutive_errors)),
        None => analysis::due_at(analysis, metric, Some(status)),
    }
}

fn retry(errors: i32) -> SignedDuration {
    let doublings = u32::try_from(errors.saturating_sub(1)).unwrap_or(0).min(10);
    let factor = 1_i32.checked_shl(doublings).unwrap_or(i32::MAX);
    analysis::RETRY.saturating_mul(factor).min(RETRY_MOST)
}

/// Name of the Job of a measurement.
pub fn name(rollout: &str, metric: &str, id: &str) -> String {
    let hash = hash_text(&format!("{rollout}/{id}"));
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let room = NAME_MOST - hash.len() - 1;
    let head: String = format!("{rollout}-{metric}").chars().map(plain).take(room).collect();
    let head = head.trim_matches('-');
    // A name begins with a letter where Services have it, and Jobs may as well.
    format!("{}-{hash}", if head.is_empty() { "job" } else { head })
}

/// What the Jobs say that measurements of an analysis wait for.
pub fn answers(facts: &Facts<'_>, analysis: &mut AnalysisStatus, metrics: &[Metric], prefix: &str) -> Vec<Measurement> {
    let mut answers = Vec::new();
    for (metric, run) in metrics.iter().filter_map(|metric| Some((metric, metric.job()?))) {
        let Some(at) = analysis.metrics.iter().position(|status| status.name == metric.name) else { continue };
        let Some(status) = analysis.metrics.get(at).cloned() else { continue };
        let Some(mut job) = status.job else { continue };
        let outcome = outcome(facts, &mut job, (metric, run));
        let id = query_id(prefix, analysis, &metric.name, status.taken);
        let is_over = outcome.is_some() || status.verdict != Verdict::Running;
        if let Some(slot) = analysis.metrics.get_mut(at) {
            slot.job = Some(job).filter(|_| !is_over);
        }
        answers.extend(outcome.map(|outcome| Measurement {
            id,
            started_at: facts.now,
            finished_at: facts.now,
            outcome,
        }));
    }
    answers
}

/// What became of one Job; nothing while it may still end.
fn outcome(
    facts: &Facts<'_>,
    job: &mut JobStatus,
    (metric, run): (&Metric, &JobRun),
) -> Option<Result<Sample, String>> {
    let jobs = &facts.observed.jobs;
    let refused = jobs.refused.iter().find(|one| one.is_final && one.name == job.name && job.uid.is_none());
    if let Some(refused) = refused {
        return Some(Err(format!("{}: {}", metric.name, told(metric, &refused.message))));
    }
    let found = jobs.listed.as_ref()?.iter().find(|one| one.metadata.name.as_ref() == Some(&job.name));
    let found = found.filter(|one| job.uid.is_none() || one.metadata.uid == job.uid);
    let Some(found) = found else {
        job.uid.as_ref()?;
        let since = *job.missing_since.get_or_insert(facts.now);
        let is_gone = later(since, GONE) <= facts.now;
        return is_gone.then(|| Err(format!("Job {} was deleted before its end", job.name)));
    };
    job.uid.clone_from(&found.metadata.uid);
    job.missing_since = None;
    let name = job.name.clone();
    match found.end() {
        Some((_, true)) => Some(Ok(Sample::Job(JobAnswer { name, failure: None }))),
        Some((condition, false)) if condition.reason == "DeadlineExceeded" && !run.has_own_deadline => Some(Err(
            format!("Job {name} has not ended within an hour; write activeDeadlineSeconds where it needs longer"),
        )),
        Some((condition, false)) => {
            let words = [condition.reason.as_str(), condition.message.as_str()];
            let told: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            let failure = Some(told.join(": "));
            Some(Ok(Sample::Job(JobAnswer { name, failure })))
        }
        None if found.metadata.deletion_timestamp.is_some() => {
            Some(Err(format!("Job {name} was deleted before its end")))
        }
        None if ends_at(job, found.metadata.creation_timestamp.as_ref().map(|at| at.0), run) <= facts.now => {
            Some(Err(format!(
                "Job {name} has not ended within its activeDeadlineSeconds; is it suspended, or is no controller of Jobs running?"
            )))
        }
        None => None,
    }
}

/// Why a Job could not be created, and what to do.
fn told(metric: &Metric, message: &str) -> String {
    let next = if message.contains("cannot create resource") {
        "let Serin create Jobs here (the chart's jobs.enabled)"
    } else {
        "correct its job.spec, or what refuses it"
    };
    format!("the Job of template {} is refused; {next}: {message}", metric.template)
}

/// When a Job is waited for no longer. One that could be created late has its whole time.
fn ends_at(job: &JobStatus, created_at: Option<Timestamp>, run: &JobRun) -> Timestamp {
    let began = created_at.map_or(job.asked_at, |at| at.max(job.asked_at));
    later(later(began, run.deadline), GRACE)
}

/// Names what keeps the Jobs of a running analysis from being seen.
pub fn lack(facts: &Facts<'_>, metrics: &[Metric]) -> Option<String> {
    let is_unknown = facts.observed.jobs.listed.is_none() && metrics.iter().any(|metric| metric.job().is_some());
    is_unknown.then(|| {
        "Jobs are being read, which a metric asks for; if that lasts, Serin may not list them here: the chart's jobs.enabled gives the right"
            .to_owned()
    })
}

/// Asks for the Jobs of an analysis that are due: what is begun stands in the status first.
pub fn ask(facts: &Facts<'_>, course: &mut Course, (kind, step): (AnalysisKind, Option<i32>), metrics: &[Metric]) {
    let is_own = |one: &AnalysisStatus| one.kind == kind && one.step == step;
    let Some(at) = course.status.analysis.iter().position(is_own) else { return };
    let Some(mut analysis) = course.status.analysis.get(at).cloned() else { return };
    let prefix = prefix(course);
    for (metric, run) in metrics.iter().filter_map(|metric| Some((metric, metric.job()?))) {
        ask_one(facts, course, (&mut analysis, &prefix), (metric, run));
    }
    if let Some(slot) = course.status.analysis.get_mut(at) {
        *slot = analysis;
    }
}

fn ask_one(
    facts: &Facts<'_>,
    course: &mut Course,
    (analysis, prefix): (&mut AnalysisStatus, &str),
    (metric, run): (&Metric, &JobRun),
) {
    let Some(listed) = &facts.observed.jobs.listed else { return };
    let at = analysis.metrics.iter().position(|status| status.name == metric.name).unwrap_or_else(|| {
        analysis.metrics.push(MetricStatus { name: metric.name.clone(), ..MetricStatus::default() });
        analysis.metrics.len() - 1
    });
    let Some(mut status) = analysis.metrics.get(at).cloned().filter(|one| one.verdict == Verdict::Running) else {
        return;
    };
    let id = query_id(prefix, analysis, &metric.name, status.taken);
    let rollout = facts.observed.rollout.metadata.name.as_deref().unwrap_or_default();
    let job = if let Some(job) = status.job.clone() {
        job
    } else {
        let due = due_at(analysis, metric, &status);
        if due > facts.now {
            course.wakes.push((due, "the next measurement is due".to_owned()));
            return;
        }
        course.has_decided = true;
        JobStatus { name: name(rollout, &metric.name, &id), asked_at: facts.now, uid: None, missing_since: None }
    };
    status.job = Some(job.clone());
    if let Some(slot) = analysis.metrics.get_mut(at) {
        *slot = status;
    }
    let found = listed.iter().find(|one| one.metadata.name.as_ref() == Some(&job.name));
    let created_at = found.and_then(|found| found.metadata.creation_timestamp.as_ref()).map(|at| at.0);
    let end = job.missing_since.map_or_else(|| ends_at(&job, created_at, run), |since| later(since, GONE));
    if end > facts.now {
        course.wakes.push((end, format!("Job {} is waited for no longer", job.name)));
    }
    let refused = facts.observed.jobs.refused.iter().find(|one| one.name == job.name);
    if job.uid.is_some() || found.is_some() {
        return;
    }
    match refused.filter(|one| one.until > facts.now) {
        Some(refused) => {
            course.wakes.push((refused.until, format!("Job {} is tried again", job.name)));
        }
        None => {
            let body = Json::from(&body(facts, (&job.name, &id), (metric, run)));
            course.jobs.push(Action::CreateJob { name: job.name, body });
        }
    }
}

/// The Job of a measurement, which goes with the Rollout.
fn body(facts: &Facts<'_>, (name, id): (&str, &str), (metric, run): (&Metric, &JobRun)) -> Value {
    let rollout = &facts.observed.rollout;
    let entries = |all: &Option<BTreeMap<String, String>>| -> Map<String, Value> {
        all.iter().flatten().map(|(key, value)| (key.clone(), json!(value))).collect()
    };
    let (mut labels, mut annotations) = (entries(&run.metadata.labels), entries(&run.metadata.annotations));
    labels.insert(names::ROLLOUT.into(), json!(rollout.metadata.name));
    annotations.insert(names::MEASUREMENT.into(), json!(id));
    annotations.insert(names::MEASUREMENTS_KEPT.into(), json!(metric.kept.to_string()));
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": rollout.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner(rollout, true)],
        },
        "spec": run.spec,
    })
}

/// Which measurement a Job is of: attempt, metric, number.
fn measured(job: &Job) -> (String, String, i32) {
    let id = job.metadata.annotations.as_ref().and_then(|all| all.get(names::MEASUREMENT));
    let parts: Vec<&str> = id.map(|id| id.split('/').collect()).unwrap_or_default();
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let metric = parts.get(4..parts.len().saturating_sub(1)).unwrap_or_default().join("/");
    let number = parts.last().and_then(|last| last.parse().ok()).unwrap_or(0);
    (format!("{}/{}", part(0), part(1)), metric, number)
}

/// Creates the Jobs that are due and deletes those that nothing needs: the running ones of analyses that are over, and of those
/// that are over all but the last of the attempt.
pub fn actions(facts: &Facts<'_>, course: &mut Course) -> Vec<Action> {
    let is_in_progress = course.canary().is_some() && !facts.is_leaving;
    for analysis in &mut course.status.analysis {
        let is_over = !is_in_progress || analysis.verdict != Verdict::Running;
        let ended = analysis.metrics.iter_mut().filter(|one| is_over || one.verdict != Verdict::Running);
        ended.for_each(|metric| metric.job = None);
    }
    let jobs = &facts.observed.jobs;
    let mut actions = std::mem::take(&mut course.jobs);
    let Some(listed) = &jobs.listed else { return actions };
    course.status.jobs = i32::try_from(listed.len() + actions.len()).unwrap_or(i32::MAX);
    let surplus = surplus(facts, course, listed);
    match jobs.undeleted.as_ref().filter(|one| one.until > facts.now) {
        Some(undeleted) if !surplus.is_empty() => {
            course.wait_until(UNDELETED, undeleted.message.clone(), undeleted.until);
        }
        Some(_) => {}
        None => actions.extend(surplus),
    }
    actions
}

fn surplus(facts: &Facts<'_>, course: &Course, listed: &[Job]) -> Vec<Action> {
    let awaited = course.status.analysis.iter().flat_map(|analysis| &analysis.metrics);
    let awaited: BTreeSet<&str> = awaited.filter_map(|metric| Some(metric.job.as_ref()?.name.as_str())).collect();
    let attempt = course.status.attempt.as_ref().map(|_| prefix_of(course));
    let is_needed = |job: &Job| job.metadata.name.as_deref().is_some_and(|name| awaited.contains(name));
    let mut surplus: Vec<&Job> = Vec::new();
    let mut over: BTreeMap<String, Vec<&Job>> = BTreeMap::new();
    for job in listed.iter().filter(|job| job.metadata.deletion_timestamp.is_none() && !is_needed(job)) {
        let (of, metric, _) = measured(job);
        if job.end().is_none() {
            surplus.push(job);
        } else if facts.is_leaving {
            // It goes with the Rollout.
        } else if attempt.as_ref().is_some_and(|attempt| *attempt != of) {
            surplus.push(job);
        } else {
            over.entry(metric).or_default().push(job);
        }
    }
    for mut jobs in over.into_values() {
        jobs.sort_by_key(|job| (job.metadata.creation_timestamp.as_ref().map(|time| time.0), measured(job).2));
        let kept = jobs.last().map_or(KEPT, |last| kept(last));
        let more = jobs.len().saturating_sub(kept);
        surplus.extend(jobs.into_iter().take(more));
    }
    surplus.into_iter().filter_map(delete).collect()
}

fn kept(job: &Job) -> usize {
    let told = job.metadata.annotations.as_ref().and_then(|all| all.get(names::MEASUREMENTS_KEPT));
    told.and_then(|text| text.parse().ok()).unwrap_or(KEPT)
}

fn delete(job: &Job) -> Option<Action> {
    Some(Action::DeleteJob { name: job.metadata.name.clone()?, uid: job.metadata.uid.clone()? })
}

/// What names the attempt under way, or that was aborted.
fn prefix_of(course: &Course) -> String {
    let hash = course.status.canary.as_ref().map_or("", |canary| canary.hash.as_str());
    let number = course.status.attempt.as_ref().map_or(0, |attempt| attempt.number);
    format!("{hash}/{number}")
}

/// How a measurement's Job ended, in words.
pub fn text_of(answer: &JobAnswer) -> String {
    match &answer.failure {
        None => format!("Job {} is complete", answer.name),
        Some(why) => cut(&format!("Job {} failed: {why}", answer.name)),
    }
}

/// The Job that a metric waits for, in words.
pub fn under_way(status: &MetricStatus) -> Option<String> {
    Some(format!("Job {}", status.job.as_ref()?.name))
}
