//! Evidence in words and numbers that a person can read.

use super::counted::{Counted, WINDOW};
use super::template::Metric;
use super::weigh::Ground;
use crate::api::comparison::Reference;
use crate::api::status::{EvidenceStatus, EvidenceVerdict, RatioStatus, Requests};
use crate::evidence::{Against, Count, State, Test, Verdict, Window, windows_to_pass};

/// Windows ahead that are looked at for when a canary passes.
const AHEAD: u32 = 480;
/// The greatest number of times that is told.
const MOST: f64 = 1e9;

/// What a test has seen.
pub fn evidence(
    test: &Test,
    state: &State,
    windows: i32,
    (metric, counted, ground): (&Metric, &Counted, &Ground<'_>),
) -> EvidenceStatus {
    let verdict = match test.verdict(state) {
        Verdict::Worse => EvidenceVerdict::Worse,
        Verdict::NotWorse => EvidenceVerdict::NotWorse,
        Verdict::Undecided => EvidenceVerdict::Undecided,
        Verdict::InsufficientTraffic => EvidenceVerdict::InsufficientTraffic,
    };
    let can_pass = ground.until_decided || counted.is_early;
    let range = state.interval.range(test.alpha);
    let rate = |count: Count| count.bad / count.requests;
    let base = if let Against::Limit(limit) = test.against { limit } else { rate(state.step.stable) };
    let seen = Some(rate(state.step.canary) / base).filter(|ratio| ratio.is_finite());
    let other = |reference| (counted.reference == Some(reference)).then(|| requests(state.step.stable));
    let mut told = EvidenceStatus {
        verdict,
        message: String::new(),
        windows,
        canary: requests(state.step.canary),
        stable: other(Reference::Stable),
        baseline: other(Reference::Baseline),
        ratio: range.map(|range| RatioStatus {
            low: range.low.map(rounded),
            seen: seen.map(rounded),
            high: range.high.map(rounded),
        }),
        worse: rounded(test.log_worse(state).exp()),
        aborts_at: rounded(test.aborts_at().exp()),
        better: rounded(test.log_better(state).exp()),
        passes_at: can_pass.then(|| rounded(test.passes_at().exp())),
    };
    let mut parts = parts(test, &told);
    if can_pass && matches!(verdict, EvidenceVerdict::Undecided | EvidenceVerdict::InsufficientTraffic) {
        parts.push(to_pass(test, state, metric));
    }
    told.message = parts.join("; ");
    told
}

/// When the canary passes, at the traffic of this step.
fn to_pass(test: &Test, state: &State, metric: &Metric) -> String {
    let within = |windows: u32| {
        let step = metric.interval.unwrap_or(WINDOW);
        format!("{:#}", step.saturating_mul(i32::try_from(windows).unwrap_or(i32::MAX)))
    };
    windows_to_pass(test, state, AHEAD).map_or_else(
        || format!("does not pass within {} if it goes on so", within(AHEAD)),
        |left| format!("passes in about {} if it goes on so", within(left)),
    )
}

/// The counts of one window.
pub fn window(window: &[Window], counted: &Counted) -> String {
    let shown = window.get(window.len() / 2).copied().unwrap_or_default();
    let side = |one: Count| {
        let rate = if one.requests > 0.0 { number(100.0 * one.bad / one.requests) } else { "0".to_owned() };
        format!("{rate}% ({} of {})", count(one.bad), count(one.requests))
    };
    let word = if counted.is_against_baseline() { "baseline" } else { "stable" };
    match counted.test.against {
        Against::Limit(_) => side(shown.canary),
        Against::Stable { .. } => format!("{}, {} {}", side(shown.canary), word, side(shown.stable)),
    }
}

/// What is told of the evidence, part by part.
fn parts(test: &Test, told: &EvidenceStatus) -> Vec<String> {
    let side = |one: Requests| {
        let rate = if one.total > 0.0 { format!(" ({}%)", number(100.0 * one.bad / one.total)) } else { String::new() };
        format!("{} of {} bad{rate}", count(one.bad), count(one.total))
    };
    let (against, base) = match (test.against, told.stable, told.baseline) {
        (Against::Limit(limit), ..) => (Some(format!("limit {}%", number(100.0 * limit))), "the limit"),
        (Against::Stable { .. }, _, Some(baseline)) => {
            (Some(format!("baseline {}", side(baseline))), "the baseline's rate")
        }
        (Against::Stable { .. }, stable, None) => {
            (stable.map(|stable| format!("stable {}", side(stable))), "stable's rate")
        }
    };
    let times = told.ratio.and_then(|ratio| {
        let range = match (ratio.low, ratio.high) {
            (Some(low), Some(high)) => Some(format!("{} to {}", number(low), number(high))),
            (Some(low), None) => Some(format!("{} or more", number(low))),
            (None, Some(high)) => Some(format!("{} or less", number(high))),
            (None, None) => None,
        };
        match (ratio.seen, range) {
            (Some(seen), Some(range)) => Some(format!("{} times {base} ({range})", number(seen))),
            (Some(seen), None) => Some(format!("{} times {base}", number(seen))),
            (None, Some(range)) => Some(format!("{range} times {base}")),
            (None, None) => None,
        }
    });
    let rates = [Some(format!("canary {}", side(told.canary))), against, times];
    let worse = format!("{}× more likely worse than not, aborts at {}×", number(told.worse), number(told.aborts_at));
    let mut parts = vec![rates.into_iter().flatten().collect::<Vec<_>>().join(", "), worse];
    if let Some(passes_at) = told.passes_at.filter(|_| told.verdict != EvidenceVerdict::Worse) {
        let better = number(told.better);
        parts.push(format!("{better}× more likely good than not, passes at {}×", number(passes_at)));
    }
    if told.verdict == EvidenceVerdict::InsufficientTraffic {
        parts.push(too_little(test.min_requests));
    }
    parts
}

fn too_little(least: f64) -> String {
    format!("too few requests to pass, {} of either side are needed", count(least))
}

/// What a metric waits for that has all its windows.
pub fn wait(evidence: &EvidenceStatus, counted: &Counted) -> String {
    let other = evidence.stable.or(evidence.baseline);
    let other = other.map(|other| format!(" and {} of {}", count(other.total), counted.other())).unwrap_or_default();
    let has = format!("{} requests of the canary{other} at this weight", count(evidence.canary.total));
    format!("{has}: {}", too_little(counted.test.min_requests))
}

/// How far a metric is.
pub fn progress(metric: &Metric, evidence: Option<&EvidenceStatus>) -> String {
    let Some(evidence) = evidence else {
        return format!("{} (no window yet)", metric.name);
    };
    let windows =
        metric.count.map_or_else(|| evidence.windows.to_string(), |count| format!("{} of {count}", evidence.windows));
    format!("{} ({windows} windows, {})", metric.name, weight_of(evidence))
}

/// How much the evidence weighs, and how much decides.
pub fn weight_of(evidence: &EvidenceStatus) -> String {
    let worse = format!("{}× of {}× worse", number(evidence.worse), number(evidence.aborts_at));
    let good = evidence.passes_at.map(|at| format!(", {}× of {}× good", number(evidence.better), number(at)));
    worse + &good.unwrap_or_default()
}

fn requests(count: Count) -> Requests {
    Requests { total: rounded(count.requests), bad: rounded(count.bad) }
}

/// To three digits, and no more than is worth telling.
fn rounded(value: f64) -> f64 {
    number(value.min(MOST)).parse().unwrap_or(value)
}

/// A count of requests; a fraction only where it is one.
fn count(value: f64) -> String {
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// A number to three digits.
fn number(value: f64) -> String {
    let places: usize = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        size if size >= 0.01 => 4,
        size if size >= 0.001 => 5,
        _ => return "0".to_owned(),
    };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
