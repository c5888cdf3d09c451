//! Which measurements are due, and measurements to verdicts. Knows nothing of traffic or pods.

use jiff::{SignedDuration, Timestamp};

use super::condition;
use super::measurement::{Measurement, Query, Sample};
use super::template::{Metric, Obstacle};
use crate::api::analysis::OnNoData;
use crate::api::status::{AnalysisKind, AnalysisStatus, Assessment, MeasurementStatus, MetricStatus, Verdict};

/// Measurements kept in the status, a metric.
const KEPT: usize = 10;
/// The longest wait after an error or an answer without data.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// A new analysis, nothing measured.
pub fn begin(kind: AnalysisKind, step: Option<i32>, now: Timestamp) -> AnalysisStatus {
    AnalysisStatus { kind, step, started_at: now, verdict: Verdict::Running, metrics: Vec::new() }
}

/// Names one measurement of one analysis of one attempt.
fn query_id(prefix: &str, analysis: &AnalysisStatus, metric: &str, number: i32) -> String {
    let step = analysis.step.map_or_else(|| "background".to_owned(), |step| format!("step{step}"));
    format!("{prefix}/{step}/{}/{metric}/{number}", analysis.started_at.as_millisecond())
}

/// The analysis with every answer that belongs to it, each once, and its verdict.
/// An answer counts only when it was asked after the analysis began (S8).
pub fn record(
    mut analysis: AnalysisStatus,
    metrics: &[Metric],
    measured: &[Measurement],
    prefix: &str,
) -> AnalysisStatus {
    for metric in metrics {
        let at = analysis.metrics.iter().position(|status| status.name == metric.name).unwrap_or_else(|| {
            analysis.metrics.push(MetricStatus { name: metric.name.clone(), ..MetricStatus::default() });
            analysis.metrics.len() - 1
        });
        let Some(mut status) = analysis.metrics.get(at).cloned() else {
            continue;
        };
        while status.verdict == Verdict::Running {
            let id = query_id(prefix, &analysis, &metric.name, status.taken);
            let Some(answer) =
                measured.iter().find(|answer| answer.id == id && answer.started_at >= analysis.started_at)
            else {
                break;
            };
            status = count(status, metric, answer);
        }
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
    status.taken += 1;
    match assessment {
        Assessment::Success => status.successes += 1,
        Assessment::Failure => status.failures += 1,
        Assessment::Inconclusive => status.inconclusive += 1,
        Assessment::NoData => status.no_data += 1,
        Assessment::Error => status.errors += 1,
    }
    status.consecutive_errors = if assessment == Assessment::Error { status.consecutive_errors + 1 } else { 0 };
    status.consecutive_successes = match assessment {
        Assessment::Success => status.consecutive_successes + 1,
        Assessment::NoData | Assessment::Error => status.consecutive_successes,
        Assessment::Failure | Assessment::Inconclusive => 0,
    };
    status.measurements.push(MeasurementStatus { at: answer.started_at, assessment, value });
    let surplus = status.measurements.len().saturating_sub(KEPT);
    status.measurements.drain(..surplus);
    status.verdict = metric_verdict(&status, metric);
    status
}

fn metric_verdict(status: &MetricStatus, metric: &Metric) -> Verdict {
    let counted = status.successes + status.failures + status.inconclusive;
    if metric.failure_limit.is_some_and(|limit| status.failures > limit) {
        Verdict::Fail
    } else if status.inconclusive > metric.inconclusive_limit {
        Verdict::Inconclusive
    } else if metric.enough_successes.is_some_and(|enough| status.consecutive_successes >= enough) {
        Verdict::Pass
    } else if metric.count.is_some_and(|count| counted >= count) {
        if metric.enough_successes.is_some() { Verdict::Inconclusive } else { Verdict::Pass }
    } else {
        Verdict::Running
    }
}

/// What one answer says, and the value as text.
fn assess(metric: &Metric, outcome: &Result<Sample, String>) -> (Assessment, String) {
    let sample = match outcome {
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
    }
}

fn text_of(sample: &Sample) -> String {
    match sample {
        Sample::Scalar(number) => number.to_string(),
        Sample::Vector(numbers) => numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(256).collect()
}

fn verdict(metrics: &[MetricStatus]) -> Verdict {
    let has = |verdict: Verdict| metrics.iter().any(|metric| metric.verdict == verdict);
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
    prefix: &str,
    now: Timestamp,
) -> (Vec<Query>, Option<Timestamp>) {
    let mut queries = Vec::new();
    let mut next: Option<Timestamp> = None;
    for metric in metrics {
        let status = analysis.metrics.iter().find(|status| status.name == metric.name);
        if status.is_some_and(|status| status.verdict != Verdict::Running) || analysis.verdict != Verdict::Running {
            continue;
        }
        let at = due_at(analysis, metric, status);
        if at <= now {
            let id = query_id(prefix, analysis, &metric.name, status.map_or(0, |status| status.taken));
            queries.push(Query { id, provider: metric.provider.clone(), text: metric.query.clone() });
        } else {
            next = Some(next.map_or(at, |next| next.min(at)));
        }
    }
    (queries, next)
}

fn due_at(analysis: &AnalysisStatus, metric: &Metric, status: Option<&MetricStatus>) -> Timestamp {
    let Some(last) = status.and_then(|status| status.measurements.last()) else {
        return later(analysis.started_at, metric.delay);
    };
    let interval = metric.interval.unwrap_or(RETRY);
    match last.assessment {
        Assessment::NoData | Assessment::Error => later(last.at, interval.min(RETRY)),
        Assessment::Success | Assessment::Failure | Assessment::Inconclusive => later(last.at, interval),
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
            waits.push((
                "NoData",
                format!("metric {}: the query has no data yet; it is asked again (onNoData: Wait)", metric.name),
            ));
        }
    }
    waits
}

/// Why an analysis failed or is inconclusive, as evidence.
pub fn evidence(analysis: &AnalysisStatus, metrics: &[Metric]) -> String {
    let told = analysis.metrics.iter().filter(|status| status.verdict == analysis.verdict).map(|status| {
        let last = status.measurements.last().map_or("", |last| last.value.as_str());
        let metric = metrics.iter().find(|metric| metric.name == status.name);
        let against = metric.and_then(|metric| {
            metric
                .failure
                .as_ref()
                .map(|text| format!("fails if {text}"))
                .or(metric.success.as_ref().map(|text| format!("wants {text}")))
        });
        let limit = metric.and_then(|metric| metric.failure_limit).unwrap_or(0);
        format!(
            "metric {}: {last} ({}); {} of {} failed, limit {limit}",
            status.name,
            against.unwrap_or_default(),
            status.failures,
            status.taken
        )
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric() -> Metric {
        Metric {
            name: "success-rate".into(),
            provider: "default".into(),
            query: "q".into(),
            interval: Some(SignedDuration::from_secs(10)),
            delay: SignedDuration::ZERO,
            count: Some(3),
            failure_limit: Some(1),
            inconclusive_limit: 0,
            error_limit: 1,
            enough_successes: None,
            success: Some("result[0] >= 0.95".into()),
            failure: None,
            on_no_data: OnNoData::Wait,
        }
    }

    /// Feeds answers one after the other, as often as the analysis asks.
    fn check(metric: &Metric, answers: &[Result<Sample, String>], verdict: Verdict, waits_for: &[&str]) {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut analysis = begin(AnalysisKind::Step, Some(1), now);
        for answer in answers {
            let (queries, next) = due(&analysis, std::slice::from_ref(metric), "r", now);
            let query = queries.first().unwrap_or_else(|| panic!("nothing is due at {now}, next {next:?}")).clone();
            let measured = Measurement { id: query.id, started_at: now, finished_at: now, outcome: answer.clone() };
            let recorded = record(analysis, std::slice::from_ref(metric), std::slice::from_ref(&measured), "r");
            analysis = record(recorded.clone(), std::slice::from_ref(metric), std::slice::from_ref(&measured), "r");
            assert_eq!(analysis, recorded, "an answer counts once");
            now = due(&analysis, std::slice::from_ref(metric), "r", now).1.unwrap_or(now);
        }
        assert_eq!(analysis.verdict, verdict, "{answers:?}");
        let found: Vec<&str> =
            waits(&analysis, std::slice::from_ref(metric)).into_iter().map(|(reason, _)| reason).collect();
        assert_eq!(found, waits_for, "{answers:?}");
    }

    #[expect(clippy::unnecessary_wraps, reason = "answers are results")]
    fn vector(number: f64) -> Result<Sample, String> {
        Ok(Sample::Vector(vec![number]))
    }

    #[test]
    fn verdicts() {
        let empty = || Ok(Sample::Vector(vec![]));
        let down = || Err("connection refused".to_owned());
        check(&metric(), &[vector(1.0), vector(1.0)], Verdict::Running, &[]);
        check(&metric(), &[vector(1.0), vector(1.0), vector(1.0)], Verdict::Pass, &[]);
        check(&metric(), &[vector(0.1), vector(1.0), vector(1.0)], Verdict::Pass, &[]);
        check(&metric(), &[vector(0.1), vector(0.1)], Verdict::Fail, &[]);
        check(&metric(), &[vector(f64::NAN)], Verdict::Running, &["NoData"]);
        check(&metric(), &[empty(), empty(), empty(), empty(), empty()], Verdict::Running, &["NoData"]);
        check(&metric(), &[down()], Verdict::Running, &[]);
        check(&metric(), &[down(), down()], Verdict::Running, &["ProviderDown"]);
        check(&metric(), &[down(), down(), down(), vector(1.0)], Verdict::Running, &[]);
        check(
            &metric(),
            &[Ok(Sample::Vector(vec![1.0, 1.0])), Ok(Sample::Vector(vec![1.0, 1.0]))],
            Verdict::Running,
            &["ProviderDown"],
        );
    }

    #[test]
    fn no_data_means_what_the_metric_says() {
        let with = |on_no_data| Metric { on_no_data, count: Some(1), failure_limit: Some(0), ..metric() };
        check(&with(OnNoData::Pass), &[vector(f64::NAN)], Verdict::Pass, &[]);
        check(&with(OnNoData::Fail), &[Ok(Sample::Vector(vec![]))], Verdict::Fail, &[]);
    }

    #[test]
    fn both_conditions_leave_a_middle() {
        let both = Metric { failure: Some("result[0] < 0.5".into()), ..metric() };
        check(&both, &[vector(0.7)], Verdict::Inconclusive, &[]);
    }

    #[test]
    fn every_answer_but_no_data_and_errors_counts() {
        let scalar = |number| Ok(Sample::Scalar(number));
        let both = Metric { failure: Some("result[0] < 0.5".into()), inconclusive_limit: 1, ..metric() };
        check(&both, &[vector(0.7), vector(1.0), vector(1.0)], Verdict::Pass, &[]);
        let alone = Metric { success: Some("result >= 0.95".into()), ..metric() };
        check(&alone, &[scalar(1.0), scalar(1.0), scalar(1.0)], Verdict::Pass, &[]);
        check(&alone, &[scalar(f64::NAN)], Verdict::Running, &["NoData"]);
    }

    #[test]
    fn what_has_a_verdict_is_not_asked_again() {
        let now = Timestamp::UNIX_EPOCH;
        let metrics = [Metric { count: Some(1), ..metric() }, Metric { name: "latency".into(), ..metric() }];
        let asked = |analysis: &AnalysisStatus, now| {
            due(analysis, &metrics, "r", now)
                .0
                .iter()
                .filter_map(|query| query.id.split('/').nth(3))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let analysis = begin(AnalysisKind::Step, Some(1), now);
        assert_eq!(asked(&analysis, now), ["success-rate", "latency"]);
        let answers: Vec<Measurement> = due(&analysis, &metrics, "r", now)
            .0
            .into_iter()
            .map(|query| Measurement { id: query.id, started_at: now, finished_at: now, outcome: vector(1.0) })
            .collect();
        let mut analysis = record(analysis, &metrics, &answers, "r");
        let next = later(now, SignedDuration::from_secs(10));
        assert_eq!(asked(&analysis, next), ["latency"]);
        analysis.verdict = Verdict::Fail;
        assert_eq!(asked(&analysis, next), Vec::<String>::new());
    }

    #[test]
    fn an_answer_from_before_does_not_count() {
        let now = Timestamp::from_second(100).unwrap();
        let analysis = begin(AnalysisKind::Step, Some(1), now);
        let (queries, _) = due(&analysis, &[metric()], "r", now);
        let early = Measurement {
            id: queries[0].id.clone(),
            started_at: Timestamp::from_second(99).unwrap(),
            finished_at: now,
            outcome: vector(0.0),
        };
        assert_eq!(record(analysis, &[metric()], &[early], "r").metrics[0].taken, 0);
    }
}
