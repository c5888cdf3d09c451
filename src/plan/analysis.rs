//! Which measurements are due, and measurements to verdicts. Knows nothing of traffic or pods.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::condition;
use super::job;
use super::measurement::{Ask, Measurement, Query, Sample};
use super::tell;
use super::template::{Metric, Obstacle, Source};
use super::weigh::{self, Ground};
use crate::api::analysis::OnNoData;
use crate::api::status::{
    AnalysisKind, AnalysisStatus, Assessment, EvidenceVerdict, MeasurementStatus, Memory, MetricStatus, RolloutStatus,
    Verdict,
};

/// The longest wait after an error or an answer without data.
pub(super) const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// A new analysis, nothing measured.
pub fn begin(kind: AnalysisKind, step: Option<i32>, now: Timestamp) -> AnalysisStatus {
    AnalysisStatus { kind, step, started_at: now, verdict: Verdict::Running, metrics: Vec::new() }
}

/// Names one measurement of one analysis of one attempt.
pub(super) fn query_id(prefix: &str, analysis: &AnalysisStatus, metric: &str, number: i32) -> String {
    format!("{prefix}{}{metric}/{number}", part_of_id(analysis))
}

fn part_of_id(analysis: &AnalysisStatus) -> String {
    let step = analysis.step.map_or_else(|| "background".to_owned(), |step| format!("step{step}"));
    format!("/{step}/{}/", analysis.started_at.as_millisecond())
}

/// Whether a query is one of an analysis that a status has.
pub fn is_of(status: &RolloutStatus, query: &Query) -> bool {
    status.analysis.iter().any(|analysis| query.id.contains(&part_of_id(analysis)))
}

/// The analysis with every answer that belongs to it, each once, and its verdict.
/// An answer counts only when it was asked after the analysis began (S8).
pub fn record(
    mut analysis: AnalysisStatus,
    metrics: &[Metric],
    measured: &[Measurement],
    memories: &mut Vec<Memory>,
    ground: &Ground<'_>,
) -> AnalysisStatus {
    for metric in metrics {
        let at = analysis.metrics.iter().position(|status| status.name == metric.name).unwrap_or_else(|| {
            analysis.metrics.push(MetricStatus { name: metric.name.clone(), ..MetricStatus::default() });
            analysis.metrics.len() - 1
        });
        let Some(mut status) = analysis.metrics.get(at).cloned() else {
            continue;
        };
        let mut counted = metric.counted().map(|counted| {
            let memory = weigh::recall(memories, &analysis, metric, counted, ground);
            (counted, memory)
        });
        while status.verdict == Verdict::Running {
            let id = query_id(ground.prefix, &analysis, &metric.name, status.taken);
            let Some(answer) =
                measured.iter().find(|answer| answer.id == id && answer.started_at >= analysis.started_at)
            else {
                break;
            };
            match &mut counted {
                Some((counted, memory)) => {
                    let since = ground.since(&analysis, memory, counted);
                    weigh::take(&mut status, memory, (metric, counted), answer, since, ground);
                }
                None => status = count(status, metric, answer),
            }
        }
        status.dry_run = metric.is_dry;
        counted.into_iter().for_each(|(_, memory)| weigh::remember(memories, memory));
        if let Some(slot) = analysis.metrics.get_mut(at) {
            *slot = status;
        }
    }
    analysis.metrics.retain(|status| metrics.iter().any(|metric| metric.name == status.name));
    analysis.verdict = verdict(&analysis.metrics);
    analysis
}

fn count(mut status: MetricStatus, metric: &Metric, answer: &Measurement) -> MetricStatus {
    let (assessment, value) = assess(metric, &answer.outcome);
    let assessment = held(&mut status, metric, answer.started_at, assessment);
    status.taken += 1;
    match assessment {
        Assessment::Success => status.successes += 1,
        Assessment::Failure => status.failures += 1,
        Assessment::Inconclusive | Assessment::Counted => status.inconclusive += 1,
        Assessment::Pending => {}
        Assessment::NoData => status.no_data += 1,
        Assessment::Error => status.errors += 1,
    }
    status.consecutive_errors = if assessment == Assessment::Error { status.consecutive_errors + 1 } else { 0 };
    status.consecutive_successes = match assessment {
        Assessment::Success => status.consecutive_successes + 1,
        Assessment::NoData | Assessment::Error => status.consecutive_successes,
        Assessment::Failure | Assessment::Pending | Assessment::Inconclusive | Assessment::Counted => 0,
    };
    keep(&mut status, metric.kept, answer.started_at, (assessment, value));
    status.verdict = metric_verdict(&status, metric);
    status
}

/// A failure counts once measurements have failed for as long as `for` says.
fn held(status: &mut MetricStatus, metric: &Metric, at: Timestamp, assessment: Assessment) -> Assessment {
    let Some(hold) = metric.hold else {
        return assessment;
    };
    match assessment {
        Assessment::Failure => {
            let since = *status.failing_since.get_or_insert(at);
            if at.duration_since(since) < hold { Assessment::Pending } else { Assessment::Failure }
        }
        // Silence is no break.
        Assessment::NoData | Assessment::Error => assessment,
        Assessment::Success | Assessment::Inconclusive | Assessment::Counted | Assessment::Pending => {
            status.failing_since = None;
            assessment
        }
    }
}

/// Keeps a measurement among the last ones.
pub(super) fn keep(status: &mut MetricStatus, kept: usize, at: Timestamp, (assessment, value): (Assessment, String)) {
    status.measurements.push(MeasurementStatus { at, assessment, value });
    let surplus = status.measurements.len().saturating_sub(kept);
    status.measurements.drain(..surplus);
}

fn metric_verdict(status: &MetricStatus, metric: &Metric) -> Verdict {
    let counted = status.successes + status.failures + status.inconclusive;
    if metric.failure_limit.is_some_and(|limit| status.failures > limit) {
        Verdict::Fail
    } else if status.inconclusive > metric.inconclusive_limit || has_erred(status, metric) {
        Verdict::Inconclusive
    } else if metric.enough_successes.is_some_and(|enough| status.consecutive_successes >= enough) {
        Verdict::Pass
    } else if metric.count.is_some_and(|count| counted >= count) {
        if metric.enough_successes.is_some() { Verdict::Inconclusive } else { Verdict::Pass }
    } else {
        Verdict::Running
    }
}

/// Whether Jobs could not be run more often in a row than is tolerated: no more are begun until a person says so.
fn has_erred(status: &MetricStatus, metric: &Metric) -> bool {
    metric.job().is_some() && status.consecutive_errors > metric.error_limit
}

/// What one answer says, and the value as text.
fn assess(metric: &Metric, outcome: &Result<Sample, String>) -> (Assessment, String) {
    let sample = match outcome {
        Ok(Sample::Web(answer)) if metric.success.is_none() && metric.failure.is_none() => {
            let says = if answer.is_success() { Assessment::Success } else { Assessment::Failure };
            return (says, format!("HTTP {}", answer.status));
        }
        Ok(Sample::Job(answer)) => {
            let says = if answer.failure.is_none() { Assessment::Success } else { Assessment::Failure };
            return (says, job::text_of(answer));
        }
        Ok(Sample::Web(answer)) if !answer.is_success() => {
            return (Assessment::Error, format!("HTTP {}", answer.status));
        }
        Ok(sample) => with_data(sample),
        Err(error) => return (Assessment::Error, cut(error)),
    };
    let Some(sample) = sample else {
        return match metric.on_no_data {
            OnNoData::Wait => (Assessment::NoData, "no data".into()),
            OnNoData::Pass => (Assessment::Success, "no data".into()),
            OnNoData::Fail => (Assessment::Failure, "no data".into()),
        };
    };
    match condition::assess(&sample, metric.success.as_deref(), metric.failure.as_deref()) {
        Ok(assessment) => (assessment, cut(&text_of(&sample))),
        Err(error) => (Assessment::Error, cut(&error)),
    }
}

/// The numbers of an answer that are numbers; nothing when none is.
fn with_data(sample: &Sample) -> Option<Sample> {
    match sample {
        Sample::Scalar(number) => (!number.is_nan()).then_some(Sample::Scalar(*number)),
        Sample::Vector(numbers) => {
            let numbers: Vec<f64> = numbers.iter().copied().filter(|number| !number.is_nan()).collect();
            (!numbers.is_empty()).then_some(Sample::Vector(numbers))
        }
        Sample::Web(answer) => (!answer.values.iter().all(Value::is_null)).then(|| sample.clone()),
        Sample::Job(_) | Sample::Counters(_) => None,
    }
}

fn text_of(sample: &Sample) -> String {
    match sample {
        Sample::Scalar(number) => shown(*number),
        Sample::Vector(numbers) => numbers.iter().copied().map(shown).collect::<Vec<_>>().join(", "),
        Sample::Web(answer) => answer.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Sample::Job(answer) => job::text_of(answer),
        Sample::Counters(_) => String::new(),
    }
}

/// Fifteen digits: 0.1 + 0.2 is told as 0.3, and what is just below a threshold still looks so.
fn shown(number: f64) -> String {
    format!("{number:.14e}").parse().unwrap_or(number).to_string()
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(256).collect()
}

fn verdict(metrics: &[MetricStatus]) -> Verdict {
    let judges = metrics.iter().any(|metric| !metric.dry_run);
    // Where all run dry, their time alone is waited for.
    let mut judging = metrics.iter().filter(|metric| !(judges && metric.dry_run));
    if !judges && !metrics.is_empty() {
        return if judging.any(|metric| metric.verdict == Verdict::Running) { Verdict::Running } else { Verdict::Pass };
    }
    let has = |verdict: Verdict| judging.clone().any(|metric| metric.verdict == verdict);
    if has(Verdict::Fail) {
        Verdict::Fail
    } else if has(Verdict::Inconclusive) {
        Verdict::Inconclusive
    } else if metrics.is_empty() || has(Verdict::Running) {
        Verdict::Running
    } else {
        Verdict::Pass
    }
}

/// The queries that are due, and when the next one will be.
pub fn due(
    analysis: &AnalysisStatus,
    metrics: &[Metric],
    memories: &[Memory],
    ground: &Ground<'_>,
) -> (Vec<Query>, Option<Timestamp>) {
    let mut queries = Vec::new();
    let mut next: Option<Timestamp> = None;
    for metric in metrics {
        let status = analysis.metrics.iter().find(|status| status.name == metric.name);
        if status.is_some_and(|status| status.verdict != Verdict::Running) || analysis.verdict != Verdict::Running {
            continue;
        }
        let query = match &metric.source {
            Source::Counts(counted) => weigh::due(analysis, (metric, counted), memories, ground),
            Source::Job(_) => Err(None),
            Source::Value(_) | Source::Web(_) => value_due(analysis, metric, status, ground),
        };
        match query {
            Ok(query) => queries.push(query),
            Err(at) => next = next.into_iter().chain(at).min(),
        }
    }
    (queries, next)
}

/// The query of a metric that the conditions judge, or when it will be due.
fn value_due(
    analysis: &AnalysisStatus,
    metric: &Metric,
    status: Option<&MetricStatus>,
    ground: &Ground<'_>,
) -> Result<Query, Option<Timestamp>> {
    let at = due_at(analysis, metric, status);
    if at > ground.now {
        return Err(Some(at));
    }
    let id = query_id(ground.prefix, analysis, &metric.name, status.map_or(0, |status| status.taken));
    let ask = match &metric.source {
        Source::Value(text) => Ask::Value(text.clone()),
        Source::Web(request) => Ask::Web(request.clone()),
        Source::Job(_) | Source::Counts(_) => return Err(None),
    };
    Ok(Query { id, provider: metric.provider.clone(), ask })
}

/// When the next measurement of a metric is due.
pub(super) fn due_at(analysis: &AnalysisStatus, metric: &Metric, status: Option<&MetricStatus>) -> Timestamp {
    let Some(last) = status.and_then(|status| status.measurements.last()) else {
        return later(analysis.started_at, metric.delay);
    };
    let interval = metric.interval.unwrap_or(RETRY);
    match last.assessment {
        Assessment::NoData | Assessment::Error => later(last.at, interval.min(RETRY)),
        Assessment::Success
        | Assessment::Failure
        | Assessment::Pending
        | Assessment::Inconclusive
        | Assessment::Counted => later(last.at, interval),
    }
}

/// A time after another; the last representable one on overflow.
pub fn later(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// What a running analysis waits for: a word and a sentence; the words `NoData` and `ProviderDown` hold the steps.
pub fn waits(analysis: &AnalysisStatus, metrics: &[Metric]) -> Vec<Obstacle> {
    let mut waits = Vec::new();
    for (metric, status) in metrics
        .iter()
        .filter(|metric| !metric.is_dry)
        .filter_map(|metric| Some((metric, analysis.metrics.iter().find(|status| status.name == metric.name)?)))
    {
        let Some(last) = status.measurements.last().filter(|_| status.verdict == Verdict::Running) else {
            continue;
        };
        if status.consecutive_errors > metric.error_limit {
            waits.push((
                "ProviderDown",
                format!(
                    "metric {}: {} errors in a row, the last: {}; it is asked again until it answers",
                    metric.name, status.consecutive_errors, last.value
                ),
            ));
        } else if last.assessment == Assessment::NoData {
            let why = if metric.counted().is_some() { &last.value } else { "the query has no data yet" };
            let rule = if metric.counted().is_some() { "" } else { " (onNoData: Wait)" };
            waits.push(("NoData", format!("metric {}: {why}; it is asked again{rule}", metric.name)));
        } else if let Some(told) = too_little(metric, status) {
            waits.push(("InsufficientTraffic", format!("metric {}: {told}", metric.name)));
        }
    }
    waits
}

/// What a metric that has all its windows has seen, where it waits for requests alone.
fn too_little(metric: &Metric, status: &MetricStatus) -> Option<String> {
    let evidence =
        status.evidence.as_ref().filter(|evidence| evidence.verdict == EvidenceVerdict::InsufficientTraffic)?;
    metric.count.filter(|count| evidence.windows >= *count)?;
    Some(tell::wait(evidence, metric.counted()?))
}

/// Why an analysis failed or is inconclusive, as evidence.
pub fn evidence(analysis: &AnalysisStatus, metrics: &[Metric]) -> String {
    let judging = analysis.metrics.iter().filter(|status| !status.dry_run && status.verdict == analysis.verdict);
    let told = judging.map(|status| {
        if let Some(evidence) = &status.evidence {
            return format!("metric {}: {}", status.name, evidence.message);
        }
        let last = status.measurements.last().map_or("", |last| last.value.as_str());
        let metric = metrics.iter().find(|metric| metric.name == status.name);
        if metric.is_some_and(|metric| has_erred(status, metric)) {
            return format!("metric {}: {} errors in a row, the last: {last}", status.name, status.consecutive_errors);
        }
        let against = metric.and_then(|metric| {
            metric
                .failure
                .as_ref()
                .map(|text| format!("fails if {text}"))
                .or(metric.success.as_ref().map(|text| format!("wants {text}")))
        });
        let limit = metric.and_then(|metric| metric.failure_limit).unwrap_or(0);
        format!(
            "metric {}: {last}{}; {} of {} failed, limit {limit}",
            status.name,
            if metric.is_some_and(|metric| metric.job().is_some()) {
                String::new()
            } else {
                format!(" ({})", against.unwrap_or_default())
            },
            status.failures,
            status.taken
        )
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
