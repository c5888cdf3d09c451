//! Windows of counted requests to evidence, and evidence to the verdict of a metric. What a metric has seen is remembered over
//! all steps of an attempt: the error of an abort is that of the whole rollout. What passes a step is proven anew at every weight.

use jiff::{SignedDuration, Timestamp};

use super::analysis::{RETRY, cut, keep, later, query_id};
use super::counted::{Counted, Counters as Kind};
use super::measurement::{Ask, CounterQuery, Counters, Measurement, Query, Sample};
use super::template::Metric;
use super::{tell, template};
use crate::api::status::{AnalysisStatus, Assessment, EvidenceVerdict, Memory, MetricStatus, Verdict};
use crate::evidence::{self, Count, State, Test, Window};

/// Windows that are asked for at once at most; what is older is left out.
const MOST: i64 = 100;
/// How much of stable's past is looked at.
pub const PAST: SignedDuration = SignedDuration::from_mins(30);
/// Slow requests of stable, as parts of all, between which a bound of latency tells something.
const SLOW: std::ops::RangeInclusive<f64> = 0.0005..=0.6;

/// What the analysis stands on: where its windows may lie.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Names the attempt.
    pub prefix: &'a str,
    /// The time.
    pub now: Timestamp,
    /// Since when the route is in force as it should be; none while it is not.
    pub in_force: Option<Timestamp>,
    /// The weight.
    pub weight: i32,
    /// Ready pods of the canary.
    pub ready: i32,
    /// Those of the baseline, and the pods that it wants.
    pub baseline: (i32, i32),
    /// How long requests of new pods are not counted.
    pub warmup: SignedDuration,
    /// Whether the analysis is over once the evidence is in, and not before.
    pub until_decided: bool,
}

impl Ground<'_> {
    /// From when on windows of an analysis count: S8. Against a baseline none does that lacks a pod.
    pub(super) fn since(&self, analysis: &AnalysisStatus, memory: &Memory, counted: &Counted) -> Option<Timestamp> {
        let (ready, wanted) = self.baseline;
        if counted.is_against_baseline() && (wanted == 0 || ready < wanted) {
            return None;
        }
        Some(self.in_force?.max(analysis.started_at).max(later(memory.grown_at, self.warmup)))
    }
}

/// The memory of a metric as it is now: of this weight, and of these pods.
pub(super) fn recall(
    memories: &[Memory],
    analysis: &AnalysisStatus,
    metric: &Metric,
    counted: &Counted,
    ground: &Ground<'_>,
) -> Memory {
    let name = format!("{}/{}", metric.template, metric.name);
    let baseline = if counted.is_against_baseline() { ground.baseline.0 } else { 0 };
    let known = memories.iter().find(|memory| memory.kind == analysis.kind && memory.metric == name).cloned();
    let mut memory = known.unwrap_or_else(|| Memory {
        kind: analysis.kind,
        metric: name,
        weight: ground.weight,
        ready: ground.ready,
        baseline_ready: baseline,
        grown_at: analysis.started_at,
        until: None,
        calibrated: counted.counters.calibration().is_empty(),
        dispersion: None,
        bounds: fixed_bounds(counted),
        state: String::new(),
    });
    // Another bound is another question.
    let fixed = fixed_bounds(counted);
    if !fixed.is_empty() && memory.bounds != fixed {
        memory.bounds = fixed;
        memory.state = String::new();
    }
    if ground.ready > memory.ready || baseline > memory.baseline_ready {
        memory.grown_at = ground.now;
    }
    memory.ready = ground.ready;
    memory.baseline_ready = baseline;
    if memory.weight != ground.weight {
        let mut state = read(&test_of(counted, &memory), &memory);
        state.begin_step();
        memory.weight = ground.weight;
        memory.state = state.encode();
    }
    memory
}

fn fixed_bounds(counted: &Counted) -> Vec<f64> {
    if let Kind::Latency { bound: Some(bound), .. } = counted.counters { vec![bound] } else { Vec::new() }
}

/// The test with what is known of stable's past.
fn test_of(counted: &Counted, memory: &Memory) -> Test {
    counted.test.knowing(memory.dispersion, memory.bounds.len())
}

/// What a test remembers; nothing where the text is of another test.
fn read(test: &Test, memory: &Memory) -> State {
    State::decode(test, &memory.state).unwrap_or_else(|| State::new(test))
}

/// Remembers what a metric has seen, in place of what was remembered.
pub(super) fn remember(memories: &mut Vec<Memory>, memory: Memory) {
    match memories.iter_mut().find(|known| known.kind == memory.kind && known.metric == memory.metric) {
        Some(slot) => *slot = memory,
        None => memories.push(memory),
    }
}

/// Takes one answer in.
pub(super) fn take(
    status: &mut MetricStatus,
    memory: &mut Memory,
    (metric, counted): (&Metric, &Counted),
    answer: &Measurement,
    since: Option<Timestamp>,
    ground: &Ground<'_>,
) {
    let read = match &answer.outcome {
        Ok(Sample::Counters(counters)) if memory.calibrated => {
            look(status, memory, (metric, counted), counters, since, ground)
        }
        Ok(Sample::Counters(counters)) => calibrate(memory, counted, counters),
        Ok(Sample::Scalar(_) | Sample::Vector(_) | Sample::Web(_) | Sample::Job(_)) => {
            Err("the answer has no counters".to_owned())
        }
        Err(error) => Err(error.clone()),
    };
    // What cannot be known of stable's past stays unknown; bounds of latency must be known.
    if read.is_err() && !memory.calibrated && matches!(counted.counters, Kind::Errors { .. }) {
        memory.calibrated = true;
    }
    let (assessment, value) = read.unwrap_or_else(|error| (Assessment::Error, cut(&error)));
    status.taken += 1;
    match assessment {
        Assessment::Error => status.errors += 1,
        Assessment::NoData => status.no_data += 1,
        Assessment::Success => status.successes += 1,
        Assessment::Failure => status.failures += 1,
        Assessment::Inconclusive | Assessment::Counted | Assessment::Pending => {}
    }
    status.consecutive_errors = if assessment == Assessment::Error { status.consecutive_errors + 1 } else { 0 };
    keep(status, metric.kept, answer.started_at, (assessment, value));
}

/// Learns what must be known of stable's past.
fn calibrate(memory: &mut Memory, counted: &Counted, counters: &Counters) -> Result<(Assessment, String), String> {
    let instants = counters.instants();
    match (&counted.counters, counters.series.as_slice()) {
        (Kind::Errors { .. }, [total, bad]) => {
            memory.dispersion = evidence::dispersion(&evidence::windows(total, bad, instants));
            memory.calibrated = true;
            let told = memory.dispersion.map_or("unknown".to_owned(), |dispersion| format!("{dispersion:.1}"));
            Ok((Assessment::Counted, format!("stable's pods: dispersion {told}")))
        }
        (Kind::Latency { .. }, [buckets]) => {
            memory.bounds = telling(buckets, instants);
            memory.calibrated = !memory.bounds.is_empty();
            if !memory.calibrated {
                return Ok((
                    Assessment::NoData,
                    "no bound of latency tells anything of stable's last 30 minutes; name one in slowerThan, or send traffic".to_owned(),
                ));
            }
            let bounds = memory.bounds.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
            Ok((Assessment::Counted, format!("bounds of latency: {bounds}")))
        }
        (Kind::Errors { .. } | Kind::Latency { .. }, _) => Err("the answer has not all counters".to_owned()),
    }
}

/// The bounds of latency that tell something: neither nearly all nor nearly none of the requests at the first instants exceed them.
pub fn telling(buckets: &[evidence::Series], instants: usize) -> Vec<f64> {
    let sum = |bound: f64| {
        let (total, slow) = evidence::slower(buckets, bound);
        evidence::windows(&total, &slow, instants).into_iter().flatten().sum()
    };
    let is_telling = |bound: &f64| {
        let Count { requests, bad } = sum(*bound);
        requests > 0.0 && SLOW.contains(&(bad / requests))
    };
    evidence::bounds_of(buckets).into_iter().filter(is_telling).collect()
}

/// Looks at the windows of an answer that count, one after the other, until one of them decides.
fn look(
    status: &mut MetricStatus,
    memory: &mut Memory,
    (metric, counted): (&Metric, &Counted),
    counters: &Counters,
    since: Option<Timestamp>,
    ground: &Ground<'_>,
) -> Result<(Assessment, String), String> {
    let test = test_of(counted, memory);
    let mut state = read(&test, memory);
    let mut windows = status.evidence.as_ref().map_or(0, |evidence| evidence.windows);
    let mut last = None;
    let each = windows_of(counted, &memory.bounds, counters)?;
    for (window, index) in each.iter().zip(0..) {
        let start = later(counters.from, counters.step.saturating_mul(index));
        let is_fresh = memory.until.is_none_or(|until| start >= until) && since.is_some_and(|since| start >= since);
        let has_requests = window.iter().any(|one| one.canary.requests + one.stable.requests > 0.0);
        if is_fresh && has_requests {
            test.look(&mut state, window);
            windows += 1;
            last = Some(window);
        }
        memory.until = memory.until.max(Some(later(start, counters.step)));
        if test.verdict(&state) == evidence::Verdict::Worse {
            break;
        }
    }
    memory.state = state.encode();
    let told = tell::evidence(&test, &state, windows, (metric, counted, ground));
    let assessment = match (told.verdict, last) {
        (EvidenceVerdict::Worse, _) => Assessment::Failure,
        (_, None) => Assessment::NoData,
        (EvidenceVerdict::NotWorse, _) => Assessment::Success,
        (EvidenceVerdict::Undecided | EvidenceVerdict::InsufficientTraffic, _) => Assessment::Counted,
    };
    status.verdict = verdict(metric, counted, told.verdict, windows, ground);
    status.evidence = Some(told);
    let value = last.map_or("no requests".to_owned(), |window| tell::window(window, counted));
    Ok((assessment, value))
}

/// What the evidence means for the step.
fn verdict(metric: &Metric, counted: &Counted, said: EvidenceVerdict, windows: i32, ground: &Ground<'_>) -> Verdict {
    let is_over = !ground.until_decided && metric.count.is_some_and(|count| windows >= count);
    match said {
        EvidenceVerdict::Worse => Verdict::Fail,
        EvidenceVerdict::NotWorse if is_over || ground.until_decided || counted.is_early => Verdict::Pass,
        EvidenceVerdict::Undecided if is_over => Verdict::Pass,
        EvidenceVerdict::NotWorse | EvidenceVerdict::Undecided | EvidenceVerdict::InsufficientTraffic => {
            Verdict::Running
        }
    }
}

/// The counts of both sides, window by window, one entry a bound.
fn windows_of(counted: &Counted, bounds: &[f64], counters: &Counters) -> Result<Vec<Vec<Window>>, String> {
    let instants = counters.instants();
    let sums = |total: &[evidence::Series], bad: &[evidence::Series]| -> Vec<Count> {
        evidence::windows(total, bad, instants).into_iter().map(|pods| pods.into_iter().sum()).collect()
    };
    let both = |canary: Vec<Count>, other: Option<Vec<Count>>| -> Vec<Window> {
        let other = other.unwrap_or_else(|| vec![Count::default(); canary.len()]);
        canary.into_iter().zip(other).map(|(canary, stable)| Window { canary, stable }).collect()
    };
    match (&counted.counters, counters.series.as_slice()) {
        (Kind::Errors { other: None, .. }, [total, bad]) => {
            Ok(both(sums(total, bad), None).into_iter().map(|window| vec![window]).collect())
        }
        (Kind::Errors { other: Some(_), .. }, [total, bad, other_total, other_bad]) => {
            let windows = both(sums(total, bad), Some(sums(other_total, other_bad)));
            Ok(windows.into_iter().map(|window| vec![window]).collect())
        }
        (Kind::Latency { other, .. }, [canary, rest @ ..]) if rest.len() == usize::from(other.is_some()) => {
            known_bound(bounds, &[canary, rest.first().unwrap_or(canary)])?;
            let slow = |buckets: &[evidence::Series], bound: f64| {
                let (total, slow) = evidence::slower(buckets, bound);
                sums(&total, &slow)
            };
            let each =
                bounds.iter().map(|bound| both(slow(canary, *bound), rest.first().map(|other| slow(other, *bound))));
            let by_bound: Vec<Vec<Window>> = each.collect();
            let count = by_bound.first().map_or(0, Vec::len);
            Ok((0..count).map(|at| by_bound.iter().filter_map(|windows| windows.get(at)).copied().collect()).collect())
        }
        (Kind::Errors { .. } | Kind::Latency { .. }, _) => Err("the answer has not all counters".to_owned()),
    }
}

/// A bound that somebody chose must be one of the histogram's.
fn known_bound(bounds: &[f64], histograms: &[&Vec<evidence::Series>]) -> Result<(), String> {
    let known: Vec<f64> = histograms.iter().flat_map(|buckets| evidence::bounds_of(buckets)).collect();
    match bounds {
        [bound] if !known.is_empty() && !known.contains(bound) => {
            let mut known: Vec<String> = known.iter().map(f64::to_string).collect();
            known.dedup();
            Err(format!(
                "slowerThan: {bound} ms is no bound of the histogram's buckets; those are {} ms",
                known.join(", ")
            ))
        }
        _ => Ok(()),
    }
}

/// The query of a counted metric that is due, or when one will be.
pub fn due(
    analysis: &AnalysisStatus,
    (metric, counted): (&Metric, &Counted),
    memories: &[Memory],
    ground: &Ground<'_>,
) -> Result<Query, Option<Timestamp>> {
    let memory = recall(memories, analysis, metric, counted, ground);
    let status = analysis.metrics.iter().find(|status| status.name == metric.name);
    let step = metric.interval.unwrap_or(super::counted::WINDOW);
    let last = status.and_then(|status| status.measurements.last());
    let again = last
        .filter(|last| last.assessment == Assessment::Error || !memory.calibrated)
        .map(|last| later(last.at, step.min(RETRY)));
    if let Some(at) = again.filter(|at| *at > ground.now) {
        return Err(Some(at));
    }
    let id = query_id(ground.prefix, analysis, &metric.name, status.map_or(0, |status| status.taken));
    let ask = |texts, from, steps| Query {
        id,
        provider: metric.provider.clone(),
        ask: Ask::Counters(CounterQuery { texts, from, step, steps: i32::try_from(steps).unwrap_or(i32::MAX) }),
    };
    if !memory.calibrated {
        let steps = steps_in(PAST, step).max(1);
        let last = aligned(earlier(ground.now, counted.lag), step);
        return Ok(ask(counted.counters.calibration(), earlier(last, times(step, steps)), steps));
    }
    let since = ground.since(analysis, &memory, counted).ok_or(None)?;
    let first = aligned(
        later(memory.until.map_or(since, |until| until.max(since)), step - SignedDuration::from_nanos(1)),
        step,
    );
    let due = later(later(first, step), counted.lag);
    if due > ground.now {
        return Err(Some(due));
    }
    let steps = steps_in(ground.now.duration_since(later(first, counted.lag)), step);
    let skipped = (steps - MOST).max(0);
    Ok(ask(counted.counters.texts(), later(first, times(step, skipped)), steps - skipped))
}

/// How many whole steps a duration has.
pub fn steps_in(duration: SignedDuration, step: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis() / step.as_millis().max(1)).unwrap_or(1)
}

fn times(step: SignedDuration, count: i64) -> SignedDuration {
    step.saturating_mul(i32::try_from(count).unwrap_or(i32::MAX))
}

fn earlier(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// The last multiple of a step since 1970 that is not later: the same instants for all metrics of all Rollouts, so that a
/// provider may answer from its cache.
fn aligned(at: Timestamp, step: SignedDuration) -> Timestamp {
    let step = i64::try_from(step.as_millis()).unwrap_or(1).max(1);
    Timestamp::from_millisecond(at.as_millisecond().div_euclid(step) * step).unwrap_or(at)
}

/// Deals the probability of an abort without reason out: to every counted metric of every analysis of the Rollout its part.
pub fn share(metrics: &mut [Metric], alpha: f64, weights: f64) {
    for metric in metrics {
        if let template::Source::Counts(counted) = &mut metric.source {
            counted.test.alpha = counted.share(alpha, weights);
        }
    }
}
