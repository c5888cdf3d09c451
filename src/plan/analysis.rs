//! Which measurements are due, and measurements to verdicts. Knows nothing of traffic or pods.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::condition;
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
        Ok(Sample::Web(answer)) if metric.success.is_none() && metric.failure.is_none() => {
            let says = if answer.is_success() { Assessment::Success } else { Assessment::Failure };
            return (says, format!("HTTP {}", answer.status));
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
        Sample::Counters(_) => None,
    }
}

fn text_of(sample: &Sample) -> String {
    match sample {
        Sample::Scalar(number) => shown(*number),
        Sample::Vector(numbers) => numbers.iter().copied().map(shown).collect::<Vec<_>>().join(", "),
        Sample::Web(answer) => answer.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
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
        let query = match metric.counted() {
            Some(counted) => weigh::due(analysis, (metric, counted), memories, ground),
            None => value_due(analysis, metric, status, ground),
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
        Source::Counts(_) => return Err(None),
    };
    Ok(Query { id, provider: metric.provider.clone(), ask })
}

fn due_at(analysis: &AnalysisStatus, metric: &Metric, status: Option<&MetricStatus>) -> Timestamp {
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
    use super::super::measurement::WebAnswer;
    use super::*;

    fn ground(now: Timestamp) -> Ground<'static> {
        let warmup = SignedDuration::from_mins(1);
        Ground {
            prefix: "r",
            now,
            in_force: Some(now),
            weight: 5,
            ready: 1,
            baseline: (0, 0),
            warmup,
            until_decided: false,
        }
    }

    /// What metrics without counts never touch.
    fn recorded(analysis: AnalysisStatus, metrics: &[Metric], measured: &[Measurement]) -> AnalysisStatus {
        record(analysis, metrics, measured, &mut Vec::new(), &ground(Timestamp::UNIX_EPOCH))
    }

    fn asked(analysis: &AnalysisStatus, metrics: &[Metric], now: Timestamp) -> (Vec<Query>, Option<Timestamp>) {
        due(analysis, metrics, &[], &ground(now))
    }

    fn metric() -> Metric {
        Metric {
            name: "success-rate".into(),
            template: "t".into(),
            provider: "default".into(),
            source: Source::Value("q".into()),
            interval: Some(SignedDuration::from_secs(10)),
            delay: SignedDuration::ZERO,
            count: Some(3),
            failure_limit: Some(1),
            inconclusive_limit: 0,
            error_limit: 1,
            enough_successes: None,
            success: Some("result[0] >= 0.95".into()),
            failure: None,
            hold: None,
            on_no_data: OnNoData::Wait,
            is_dry: false,
            kept: 10,
        }
    }

    /// Feeds answers one after the other, as often as the analysis asks.
    fn check(metric: &Metric, answers: &[Result<Sample, String>], verdict: Verdict, waits_for: &[&str]) {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut analysis = begin(AnalysisKind::Step, Some(1), now);
        for answer in answers {
            let (queries, next) = asked(&analysis, std::slice::from_ref(metric), now);
            let query = queries.first().unwrap_or_else(|| panic!("nothing is due at {now}, next {next:?}")).clone();
            let measured = Measurement { id: query.id, started_at: now, finished_at: now, outcome: answer.clone() };
            let once = recorded(analysis, std::slice::from_ref(metric), std::slice::from_ref(&measured));
            analysis = recorded(once.clone(), std::slice::from_ref(metric), std::slice::from_ref(&measured));
            assert_eq!(analysis, once, "an answer counts once");
            now = asked(&analysis, std::slice::from_ref(metric), now).1.unwrap_or(now);
        }
        assert_eq!(analysis.verdict, verdict, "{answers:?}");
        let found: Vec<&str> =
            waits(&analysis, std::slice::from_ref(metric)).into_iter().map(|(reason, _)| reason).collect();
        assert_eq!(found, waits_for, "{answers:?}");
    }

    #[test]
    fn numbers_are_told_without_the_noise_of_their_last_bit() {
        for (number, told) in [
            (0.1 + 0.2, "0.3"),
            (0.949_999_999_999, "0.949999999999"),
            (1_234_567_890_123.0, "1234567890123"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(text_of(&Sample::Scalar(number)), told);
        }
    }

    #[test]
    fn the_last_measurements_are_kept() {
        let mut status = MetricStatus::default();
        for number in 1..=5_i32 {
            keep(&mut status, 3, Timestamp::UNIX_EPOCH, (Assessment::Success, number.to_string()));
        }
        let kept: Vec<&str> = status.measurements.iter().map(|one| one.value.as_str()).collect();
        assert_eq!(kept, ["3", "4", "5"]);
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
        let names = |analysis: &AnalysisStatus, now| {
            asked(analysis, &metrics, now)
                .0
                .iter()
                .filter_map(|query| query.id.split('/').nth(3))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let analysis = begin(AnalysisKind::Step, Some(1), now);
        assert_eq!(names(&analysis, now), ["success-rate", "latency"]);
        let answers: Vec<Measurement> = asked(&analysis, &metrics, now)
            .0
            .into_iter()
            .map(|query| Measurement { id: query.id, started_at: now, finished_at: now, outcome: vector(1.0) })
            .collect();
        let mut analysis = recorded(analysis, &metrics, &answers);
        let next = later(now, SignedDuration::from_secs(10));
        assert_eq!(names(&analysis, next), ["latency"]);
        analysis.verdict = Verdict::Fail;
        assert_eq!(names(&analysis, next), Vec::<String>::new());
    }

    #[test]
    fn an_answer_of_a_server_is_judged_by_its_status_or_by_its_value() {
        let hook = Metric { success: None, failure_limit: Some(0), count: Some(1), ..metric() };
        let answer = |status, values: Vec<Value>| Ok(Sample::Web(WebAnswer { status, values }));
        check(&hook, &[answer(204, vec![])], Verdict::Pass, &[]);
        check(&hook, &[answer(500, vec![])], Verdict::Fail, &[]);
        let value = Metric { success: Some("result.ready && result.errors < 3".into()), error_limit: 0, ..hook };
        let body = |errors: i32| vec![serde_json::json!({"ready": true, "errors": errors})];
        check(&value, &[answer(200, body(1))], Verdict::Pass, &[]);
        check(&value, &[answer(200, body(3))], Verdict::Fail, &[]);
        check(&value, &[answer(503, body(1))], Verdict::Running, &["ProviderDown"]);
        check(&value, &[answer(200, vec![])], Verdict::Running, &["NoData"]);
    }

    #[test]
    fn a_failure_counts_once_it_lasts() {
        let held =
            Metric { hold: Some(SignedDuration::from_secs(20)), failure_limit: Some(0), count: None, ..metric() };
        check(&held, &[vector(0.1), vector(0.1)], Verdict::Running, &[]);
        check(&held, &[vector(0.1), vector(0.1), vector(1.0), vector(0.1), vector(0.1)], Verdict::Running, &[]);
        check(&held, &[vector(0.1), vector(0.1), vector(0.1)], Verdict::Fail, &[]);
    }

    #[test]
    fn what_runs_dry_judges_nothing() {
        let now = Timestamp::UNIX_EPOCH;
        let dry = Metric { is_dry: true, name: "latency".into(), failure_limit: Some(0), ..metric() };
        let told = |metrics: &[Metric], values: &[f64]| {
            let (mut analysis, mut now) = (begin(AnalysisKind::Step, Some(1), now), now);
            for value in values {
                let queries = asked(&analysis, metrics, now).0.into_iter();
                let answers: Vec<Measurement> = queries
                    .map(|query| Measurement {
                        id: query.id,
                        started_at: now,
                        finished_at: now,
                        outcome: vector(*value),
                    })
                    .collect();
                analysis = recorded(analysis, metrics, &answers);
                now = later(now, SignedDuration::from_secs(10));
            }
            (analysis.verdict, waits(&analysis, metrics).len(), evidence(&analysis, metrics))
        };
        assert_eq!(told(std::slice::from_ref(&dry), &[0.0]), (Verdict::Pass, 0, String::new()), "its time is over");
        let both = [Metric { failure_limit: None, ..metric() }, dry.clone()];
        assert_eq!(told(&both, &[0.0, 1.0]).0, Verdict::Running);
        assert_eq!(told(&both, &[0.0, 1.0, 1.0]).0, Verdict::Pass);
        let judged = [metric(), dry];
        assert!(told(&judged, &[0.0, 0.0]).2.starts_with("metric success-rate"));
        assert_eq!(told(&judged, &[f64::NAN]).1, 1, "one of both waits");
    }

    #[test]
    fn an_answer_from_before_does_not_count() {
        let now = Timestamp::from_second(100).unwrap();
        let analysis = begin(AnalysisKind::Step, Some(1), now);
        let (queries, _) = asked(&analysis, &[metric()], now);
        let early = Measurement {
            id: queries[0].id.clone(),
            started_at: Timestamp::from_second(99).unwrap(),
            finished_at: now,
            outcome: vector(0.0),
        };
        assert_eq!(recorded(analysis, &[metric()], &[early]).metrics[0].taken, 0);
    }
}
