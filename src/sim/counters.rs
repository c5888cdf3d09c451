//! Counters as the story has them: a steady hundred requests a second, of which a part is bad.

use std::collections::BTreeMap;

use super::story::Answer;
use crate::api::names;
use crate::evidence::Series;
use crate::plan::measurement::{CounterQuery, Counters};

/// Requests a second of both sides, usually.
pub const REQUESTS: f64 = 100.0;
/// The part of stable's requests that is bad, and of a good canary's.
const GOOD: f64 = 0.01;
/// That of a bad canary's.
const BAD: f64 = 0.2;
/// Bounds of latency in milliseconds.
const BOUNDS: [&str; 3] = ["100", "1000", "+Inf"];

/// Who has which part of the requests, 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The canary's revision.
    pub canary: &'a str,
    /// The canary's part of all.
    pub share: f64,
    /// The baseline's part of stable's.
    pub baseline: f64,
}

/// What Prometheus says of counters at so many requests a second, of which the canary has some, its baseline, and stable the rest.
pub fn answer(asked: &CounterQuery, parts: Parts<'_>, requests: f64, answer: Answer) -> Counters {
    let bad = match answer {
        Answer::Good => Some(GOOD),
        Answer::Bad => Some(BAD),
        Answer::Value(part) => Some(part),
        Answer::NotANumber | Answer::Nothing => None,
    };
    let series = asked.texts.iter().enumerate().map(|(index, text)| {
        let is_canary = text.contains(parts.canary);
        let of_stable = if names::is_of_baseline(text) { parts.baseline } else { 1.0 - parts.baseline };
        let (rate, bad) = match (is_canary, bad) {
            (true, Some(bad)) => (requests * parts.share, bad),
            (true, None) => return Vec::new(),
            (false, _) => (requests * (1.0 - parts.share) * of_stable, GOOD),
        };
        if rate <= 0.0 {
            Vec::new()
        } else if text.contains("le)") {
            let part = |bound: &str| if bound == "+Inf" { 1.0 } else { 1.0 - bad };
            BOUNDS.iter().map(|bound| counter(asked, rate * part(bound), &[("pod", "p"), ("le", *bound)])).collect()
        } else {
            // All requests come before the bad ones among them.
            let part = if index % 2 == 0 { 1.0 } else { bad };
            vec![counter(asked, rate * part, &[("pod", "p")])]
        }
    });
    Counters { from: asked.from, step: asked.step, steps: asked.steps, series: series.collect() }
}

/// What was counted in the last window, in words: of the canary, whose counters come first.
pub(super) fn told(counters: &Counters) -> String {
    let gained = |series: Option<&Series>| {
        let values = series.map_or(&[][..], |series| series.values.as_slice());
        let mut last = values.iter().rev().copied().flatten();
        last.next().zip(last.next()).map_or(0.0, |(after, before)| after - before)
    };
    let mut first = counters.series.iter().map(|series| gained(series.first()));
    let is_histogram = counters.series.iter().flatten().any(|series| series.labels.contains_key("le"));
    match (first.next(), first.next()) {
        (Some(all), Some(bad)) if !is_histogram => format!("{bad:.0} of {all:.0} bad"),
        (Some(_), _) if is_histogram => "durations".to_owned(),
        (Some(_) | None, _) => "nothing".to_owned(),
    }
}

/// A counter that goes on at a rate.
fn counter(asked: &CounterQuery, rate: f64, labels: &[(&str, &str)]) -> Series {
    let at = |index: i32| asked.from.as_duration().as_secs_f64() + asked.step.as_secs_f64() * f64::from(index);
    Series {
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        values: (0..=asked.steps).map(|index| Some(rate * at(index))).collect(),
    }
}
