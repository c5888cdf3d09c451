//! Metrics that count requests: their queries, their windows, and what they can see at the traffic that is said to come.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::find::{Found, Mark};
use super::input::Object;
use super::promql;
use super::rule;
use super::subject::{GateAt, Subject};
use crate::evidence::{Against, Test, Traffic, smallest_detectable};
use crate::plan::counted::{Counted, WINDOW};
use crate::plan::strategy::Step;
use crate::plan::template::Metric;
use crate::plan::weigh;
use crate::plan::weight::pods_for;

/// How long a step without an end of its own is looked at.
const USUAL: SignedDuration = SignedDuration::from_mins(15);
/// Windows that are looked at, at most.
const WINDOWS_MOST: i64 = 99_999;

/// Pods of a Rollout that leaves them to an autoscaler.
const USUAL_PODS: i32 = 10;

/// Requests that are said to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Requests a second, of both revisions.
    pub requests: f64,
    /// The part of stable's that is bad.
    pub bad: f64,
}

/// What a metric of a Rollout has counted of late.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Namespace and name of the Rollout.
    pub rollout: (String, String),
    /// Names of the template and of the metric.
    pub metric: (String, String),
    /// The requests, of all revisions.
    pub expected: Expected,
}

/// The requests that a metric can reckon with, and where they are from in words.
fn expected(subject: &Subject<'_>, metric: &Metric) -> Option<(Expected, String)> {
    let settings = &subject.input.settings;
    let is_own = |one: &&Measured| {
        (&one.rollout.0, &one.rollout.1) == (&subject.object.namespace, &subject.object.name)
            && (&one.metric.0, &one.metric.1) == (&metric.template, &metric.name)
    };
    if let Some(one) = settings.measured.iter().find(is_own) {
        let rounded = |number: f64, parts: f64| (number * parts).round() / parts;
        let (requests, percent) = (rounded(one.expected.requests, 100.0), rounded(one.expected.bad * 100.0, 1000.0));
        return Some((one.expected, format!(", by the last hour's {requests} requests a second, {percent}% bad")));
    }
    settings.expected.map(|expected| (expected, String::new()))
}

fn place(path: &str, counted: &Counted) -> String {
    let member = if matches!(counted.test.against, Against::Limit(_)) { "limit" } else { "compare" };
    format!("{path}.{member}")
}

/// Looks at the queries and the windows of a metric; whether its interval is given, and not the usual one.
pub(super) fn check(
    subject: &Subject<'_>,
    (object, path): (&Object, &str),
    (metric, counted, is_given): (&Metric, &Counted, bool),
    found: &mut Found,
) {
    let place = place(path, counted);
    let texts = counted.counters.texts().into_iter().chain(counted.counters.calibration());
    // Stable's queries are the canary's with another hash.
    let faults: BTreeSet<(bool, String)> = texts
        .filter_map(|text| match promql::read(&text) {
            Err(message) => Some((true, message)),
            Ok(query) => query.and_then(|query| query.unknown).map(|name| (false, name)),
        })
        .collect();
    for (is_syntax, told) in faults {
        if is_syntax {
            found.add_with(&rule::PROMQL, (object, &place, Mark::Key), told, "");
        } else {
            let message = format!("Prometheus has no function {told}");
            found.add_with(&rule::PROMQL_FUNCTION, (object, &place, Mark::Key), message, "");
        }
    }
    let scrape = subject.input.settings.scrape_interval;
    if let Some(interval) = metric.interval.filter(|interval| is_given && *interval < scrape) {
        let message =
            format!("{interval:#} is shorter than a scrape ({scrape:#}): windows without a scrape have no requests");
        found.add(&rule::INTERVAL_TOO_SHORT, object, &format!("{path}.interval"), message);
    }
    let least = i32::try_from(counted.test.min_windows).unwrap_or(i32::MAX);
    if let Some(count) = metric.count.filter(|count| *count < least) {
        let message = format!("ends after {count} windows, and an abort needs {least} (minWindows)");
        found.add(&rule::ANALYSIS_CANNOT_FAIL, object, &format!("{path}.count"), message);
    }
}

/// Tells the smallest regression that a metric sees; `weights` is the sum of those of all metrics that share the error.
pub(super) fn check_sight(
    subject: &Subject<'_>,
    at: &GateAt<'_>,
    (object, path): (&Object, &str),
    (metric, counted, weights): (&Metric, &Counted, f64),
    found: &mut Found,
) {
    let Some((expected, source)) = expected(subject, metric) else {
        return;
    };
    let Some((weight, step)) = weight_at(subject, at) else {
        return;
    };
    let window = metric.interval.unwrap_or(WINDOW);
    let seconds = window.as_secs_f64();
    let in_all = at.gate.at_most.unwrap_or(USUAL).saturating_sub(subject.strategy.judging.warmup);
    let windows = match metric.count.filter(|_| !at.gate.until_decided) {
        Some(count) => u32::try_from(count).unwrap_or(0),
        None => u32::try_from(weigh::steps_in(in_all, window).min(WINDOWS_MOST)).unwrap_or(0),
    };
    let alpha = counted.share(subject.strategy.judging.alpha, weights);
    let test = Test { alpha, ..counted.test.clone() };
    let held = if counted.is_against_baseline() { baseline_share(subject, weight) } else { 1.0 };
    let traffic =
        Traffic { requests: expected.requests * seconds, share: f64::from(weight) / 100.0, held, rate: expected.bad };
    let base = match test.against {
        Against::Limit(_) => "the limit",
        Against::Stable { .. } if counted.is_against_baseline() => "the baseline's rate",
        Against::Stable { .. } => "stable's rate",
    };
    let within = window.saturating_mul(i32::try_from(windows).unwrap_or(i32::MAX));
    let message = match smallest_detectable(&test, traffic, windows) {
        Some(ratio) => {
            format!(
                "{} at {weight}% ({step}): sees {ratio} times {base} or more within {within:#}{source}",
                metric.name
            )
        }
        None => format!(
            "{} at {weight}% ({step}): sees nothing within {within:#}, however bad{source}; give it more weight, more time, or longer windows (interval)",
            metric.name
        ),
    };
    found.add_with(&rule::SMALLEST_REGRESSION, (object, &place(path, counted), Mark::Key), message, "");
}

/// The part of stable's requests that its baseline has: as many pods as the canary at this weight, beside stable's own.
fn baseline_share(subject: &Subject<'_>, weight: i32) -> f64 {
    let all = subject.strategy.replicas.unwrap_or(USUAL_PODS);
    let own = if subject.strategy.dynamic_stable { pods_for(100 - weight, all).max(1) } else { all };
    let beside = pods_for(weight, all);
    f64::from(beside) / f64::from((own + beside).max(1))
}

/// The weight at which an analysis measures, and which step that is; in the background the first one.
fn weight_at(subject: &Subject<'_>, at: &GateAt<'_>) -> Option<(i32, String)> {
    let weight = |step: &Step| {
        if let Step::SetWeight(weight) = step { Some(*weight).filter(|weight| *weight > 0) } else { None }
    };
    let steps = &subject.strategy.steps;
    match at.step {
        Some(index) => Some((steps.iter().take(index).rev().find_map(weight)?, format!("step {}", index + 1))),
        None => Some((steps.iter().find_map(weight)?, "in the background".to_owned())),
    }
}
