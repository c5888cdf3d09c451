//! The analyses of the attempt under way: begun when their weight is in force, fed with answers, and their verdicts.

use std::borrow::Cow;

use super::analysis::{self, later};
use super::attempt::{self, by_serin};
use super::baseline;
use super::counted::Counted;
use super::course::{Course, Facts};
use super::job;
use super::measurement::Measurement;
use super::preset::Place;
use super::ratio;
use super::strategy::Gate;
use super::tell;
use super::template::{self, End, Metric, Names, Obstacle};
use super::weigh::{self, Ground};
use crate::api::rollout::OnInconclusive;
use crate::api::status::{AnalysisKind, AnalysisStatus, Memory, Verdict};

/// The wait for the pods of a baseline.
const BASELINE: &str = "BaselineNotReady";

/// Counts the answers of the analyses that run, and aborts on a failed one.
pub fn judge(facts: &Facts<'_>, course: &mut Course, measured: &[Measurement]) {
    if course.canary().is_none() {
        return;
    }
    for kind in [AnalysisKind::Step, AnalysisKind::Background] {
        let Some((gate, step)) = gate(facts, course, kind) else {
            continue;
        };
        judge_one(facts, course, (kind, step, &gate), measured);
        if course.canary().is_none() {
            return;
        }
    }
}

/// Begins analyses whose weight is in force and asks what is due, once the steps are where they are.
pub fn ask(facts: &Facts<'_>, course: &mut Course) {
    for kind in [AnalysisKind::Step, AnalysisKind::Background] {
        let Some((gate, step)) = gate(facts, course, kind) else {
            continue;
        };
        if find(course, kind, step).is_none() && is_weight_in_force(facts, course, kind) {
            replace(course, analysis::begin(kind, step, facts.now));
        }
        let Some(running) = find(course, kind, step).filter(|running| running.verdict == Verdict::Running).cloned()
        else {
            continue;
        };
        let Ok(metrics) = metrics(facts, course, &gate, kind) else {
            continue;
        };
        let prefix = prefix(course);
        let ground = ground(facts, course, &gate, &prefix);
        let (queries, next) = analysis::due(&running, &metrics, memories(course), &ground);
        course.queries.extend(queries);
        job::ask(facts, course, (kind, step), &metrics);
        let running = find(course, kind, step).cloned().unwrap_or(running);
        course.wakes.extend(next.map(|at| (at, "the next measurement is due".to_owned())));
        let end = gate.at_most.map(|at_most| later(running.started_at, at_most)).filter(|end| *end > facts.now);
        course.wakes.extend(end.map(|at| (at, "the time of the analysis is over".to_owned())));
        if let Some(message) = baseline_lacks(facts, course, &running, &metrics) {
            course.wait(BASELINE, message);
        }
        if kind == AnalysisKind::Step {
            let index = step.unwrap_or(0) + 1;
            course.wait(
                "AnalysisRunning",
                format!("step {index} of {} measures {}", facts.strategy.steps.len(), progress(&running, &metrics)),
            );
        }
    }
}

fn progress(running: &AnalysisStatus, metrics: &[Metric]) -> String {
    let told = metrics.iter().map(|metric| {
        let status = running.metrics.iter().find(|status| status.name == metric.name);
        if metric.counted().is_some() {
            return tell::progress(metric, status.and_then(|status| status.evidence.as_ref()));
        }
        if let Some(job) = status.and_then(job::under_way) {
            return format!("{} ({job})", metric.name);
        }
        let counted = status.map_or(0, |status| status.successes + status.failures + status.inconclusive);
        metric.count.map_or_else(|| metric.name.clone(), |count| format!("{} ({counted} of {count})", metric.name))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The gate of the current step, or of the background from its step on.
fn gate(facts: &Facts<'_>, course: &Course, kind: AnalysisKind) -> Option<(Gate, Option<i32>)> {
    course.canary()?;
    if course.status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps) {
        return None;
    }
    match kind {
        AnalysisKind::Step => {
            let gate = facts.strategy.steps.get(course.step_index())?.gate()?;
            Some((gate.clone(), course.status.current_step_index))
        }
        AnalysisKind::Background => {
            let background = facts.strategy.background.as_ref()?;
            (course.step_index() >= background.starting_step).then(|| (background.gate.clone(), None))
        }
    }
}

fn find(course: &Course, kind: AnalysisKind, step: Option<i32>) -> Option<&AnalysisStatus> {
    course.status.analysis.iter().find(|analysis| analysis.kind == kind && analysis.step == step)
}

/// Puts an analysis into the status in place of its last state. A step's analysis replaces that of an earlier step.
fn replace(course: &mut Course, analysis: AnalysisStatus) {
    course.status.analysis.retain(|other| other.kind != analysis.kind);
    course.status.analysis.push(analysis);
    course.status.analysis.sort_by_key(|analysis| analysis.kind);
}

fn judge_one(
    facts: &Facts<'_>,
    course: &mut Course,
    (kind, step, gate): (AnalysisKind, Option<i32>, &Gate),
    measured: &[Measurement],
) {
    let mut metrics = match metrics(facts, course, gate, kind) {
        Ok(metrics) => metrics,
        Err(obstacles) => {
            obstacles.into_iter().for_each(|(reason, message)| course.hold(reason, message));
            return;
        }
    };
    let Some(running) = find(course, kind, step).cloned() else {
        return;
    };
    // Only a verdict needs to know how much of the error is a metric's.
    if metrics.iter().any(|metric| metric.counted().is_some()) {
        let weights = template::weights(facts.observed, facts.strategy);
        weigh::share(&mut metrics, facts.strategy.judging.alpha, weights);
    }
    let before = running.verdict;
    let prefix = prefix(course);
    let ground = ground(facts, course, gate, &prefix);
    let mut memories = memories(course).to_vec();
    let mut recorded = running;
    if before == Verdict::Running {
        let ended = job::answers(facts, &mut recorded, &metrics, &prefix);
        let measured = if ended.is_empty() { Cow::Borrowed(measured) } else { Cow::Owned([measured, &ended].concat()) };
        recorded = analysis::record(recorded, &metrics, &measured, &mut memories, &ground);
        end(facts, gate, &mut recorded);
    }
    if let Some(attempt) = &mut course.status.attempt {
        attempt.evidence = memories;
    }
    if let Some(message) = baseline_lacks(facts, course, &recorded, &metrics) {
        course.hold(BASELINE, message);
    }
    if let Some(message) = job::lack(facts, &metrics).filter(|_| recorded.verdict == Verdict::Running) {
        course.hold(job::UNLISTED, message);
    }
    let verdict = recorded.verdict;
    course.has_decided |= verdict != before;
    for (reason, message) in analysis::waits(&recorded, &metrics) {
        course.hold(reason, message);
    }
    let evidence = analysis::evidence(&recorded, &metrics);
    replace(course, recorded);
    match verdict {
        Verdict::Fail => attempt::abort(facts, course, by_serin(facts, "AnalysisFailed", evidence)),
        Verdict::Inconclusive => {
            course.hold("Inconclusive", format!("{evidence}; promote the step, resume to measure again, or abort"));
        }
        Verdict::Running | Verdict::Pass => {}
    }
}

/// What a running analysis waits for that holds the canary against a baseline which lacks pods.
fn baseline_lacks(facts: &Facts<'_>, course: &Course, running: &AnalysisStatus, metrics: &[Metric]) -> Option<String> {
    let status = |metric: &Metric| running.metrics.iter().find(|status| status.name == metric.name);
    let is_open = |metric: &&Metric| status(metric).is_none_or(|status| status.verdict == Verdict::Running);
    let mut asking =
        metrics.iter().filter(|one| !one.is_dry && one.counted().is_some_and(Counted::is_against_baseline));
    let metric = asking.find(is_open).filter(|_| running.verdict == Verdict::Running)?;
    let lack = baseline::lack(facts, course)?;
    Some(format!("{lack}; metric {} counts no requests until all are", metric.name))
}

/// Ends an analysis whose time is over while metrics have decided nothing.
fn end(facts: &Facts<'_>, gate: &Gate, analysis: &mut AnalysisStatus) {
    let is_over = gate.at_most.is_some_and(|at_most| later(analysis.started_at, at_most) <= facts.now);
    if !is_over || analysis.verdict != Verdict::Running {
        return;
    }
    let verdict = match facts.strategy.judging.on_inconclusive {
        OnInconclusive::Pause => Verdict::Inconclusive,
        OnInconclusive::Promote => Verdict::Pass,
        OnInconclusive::Abort => Verdict::Fail,
    };
    for metric in analysis.metrics.iter_mut().filter(|metric| metric.verdict == Verdict::Running) {
        metric.verdict = verdict;
    }
    analysis.verdict = verdict;
}

/// What metrics with counts have seen so far.
fn memories(course: &Course) -> &[Memory] {
    course.status.attempt.as_ref().map_or(&[], |attempt| attempt.evidence.as_slice())
}

/// Where windows may lie.
fn ground<'a>(facts: &Facts<'_>, course: &Course, gate: &Gate, prefix: &'a str) -> Ground<'a> {
    let is_in_force = is_weight_in_force(facts, course, AnalysisKind::Background);
    let ready = course.canary().map_or(0, |canary| facts.pods_of(&canary.hash).ready);
    Ground {
        prefix,
        now: facts.now,
        in_force: is_in_force.then(|| course.in_force_at(facts)),
        weight: course.permitted(facts),
        ready,
        baseline: baseline::current(facts, course).map_or((0, 0), |one| (one.pods.ready, one.pods.wanted)),
        warmup: facts.strategy.judging.warmup,
        until_decided: gate.until_decided,
    }
}

fn metrics(facts: &Facts<'_>, course: &Course, gate: &Gate, kind: AnalysisKind) -> Result<Vec<Metric>, Vec<Obstacle>> {
    let names = Names {
        rollout: facts.observed.rollout.metadata.name.as_deref().unwrap_or_default(),
        stable: course.stable().unwrap_or_default(),
        canary: course.canary().map_or("", |canary| canary.hash.as_str()),
        place: Place::of(facts.observed, facts.strategy.routing.as_ref(), &facts.route),
    };
    let end = End::of(gate, kind == AnalysisKind::Background);
    template::metrics(facts.observed, gate, end, &names)
}

pub(super) fn prefix(course: &Course) -> String {
    let hash = course.canary().map_or("", |canary| canary.hash.as_str());
    let number = course.status.attempt.as_ref().map_or(0, |attempt| attempt.number);
    format!("{hash}/{number}")
}

/// Whether measurements may begin: the permitted weight is in force (S8), with the header and mirror
/// routes; the background needs some traffic.
fn is_weight_in_force(facts: &Facts<'_>, course: &Course, kind: AnalysisKind) -> bool {
    let permitted = course.permitted(facts);
    if facts.strategy.ratio.is_some() {
        return ratio::is_settled(facts, course) && (permitted > 0 || kind == AnalysisKind::Step);
    }
    let front = course.front(facts);
    if !facts.route.has_front(&front) {
        return false;
    }
    if permitted == 0 {
        return (kind == AnalysisKind::Step || !front.is_empty()) && course.is_in_force(facts);
    }
    let canary = course.canary().map(|canary| canary.hash.clone());
    let is_there = facts.route.canary == canary && (facts.route.is_at(permitted) || facts.route.is_at(100));
    is_there && course.is_in_force(facts)
}
