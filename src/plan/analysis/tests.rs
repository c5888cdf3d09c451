//! Tests of verdicts.

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
    let held = Metric { hold: Some(SignedDuration::from_secs(20)), failure_limit: Some(0), count: None, ..metric() };
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
                .map(|query| Measurement { id: query.id, started_at: now, finished_at: now, outcome: vector(*value) })
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
