//! Evidence in words and numbers that a person can read.

use super::counted::{Counted, WINDOW};
use super::template::Metric;
use super::weigh::Ground;
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
    let has_stable = matches!(test.against, Against::Stable { .. });
    let mut told = EvidenceStatus {
        verdict,
        message: String::new(),
        windows,
        canary: requests(state.step.canary),
        stable: has_stable.then(|| requests(state.step.stable)),
        ratio: range.map(|range| RatioStatus {
            low: range.low.map(rounded),
            likeliest: rounded(range.mode),
            high: range.high.map(rounded),
        }),
        worse: rounded(test.log_worse(state).exp()),
        aborts_at: rounded(test.aborts_at().exp()),
        better: rounded(test.log_better(state).exp()),
        passes_at: can_pass.then(|| rounded(test.passes_at().exp())),
    };
    told.message = sentence(test, &told);
    if can_pass && matches!(verdict, EvidenceVerdict::Undecided | EvidenceVerdict::InsufficientTraffic) {
        let left = windows_to_pass(test, state, AHEAD);
        let step = metric.interval.unwrap_or(WINDOW);
        told.message += &match left.and_then(|left| i32::try_from(left).ok()) {
            Some(left) => format!("; passes in about {:#} if it goes on so", step.saturating_mul(left)),
            None => format!(
                "; does not pass within {:#} if it goes on so",
                step.saturating_mul(i32::try_from(AHEAD).unwrap_or(i32::MAX))
            ),
        };
    }
    told
}

/// The counts of one window.
pub fn window(window: &[Window], counted: &Counted) -> String {
    let shown = window.get(window.len() / 2).copied().unwrap_or_default();
    let canary = format!("{} of {}", count(shown.canary.bad), count(shown.canary.requests));
    match counted.test.against {
        Against::Limit(_) => canary,
        Against::Stable { .. } => {
            format!("{canary}, stable {} of {}", count(shown.stable.bad), count(shown.stable.requests))
        }
    }
}

fn sentence(test: &Test, told: &EvidenceStatus) -> String {
    let side = |one: Requests| {
        let rate = if one.total > 0.0 { format!(" ({}%)", number(100.0 * one.bad / one.total)) } else { String::new() };
        format!("{} of {} bad{rate}", count(one.bad), count(one.total))
    };
    let mut message = format!("canary {}", side(told.canary));
    let base = match test.against {
        Against::Stable { .. } => {
            message += &told.stable.map(|stable| format!(", stable {}", side(stable))).unwrap_or_default();
            "stable's rate"
        }
        Against::Limit(limit) => {
            message += &format!(", limit {}%", number(100.0 * limit));
            "the limit"
        }
    };
    if let Some(ratio) = &told.ratio {
        let range = match (ratio.low, ratio.high) {
            (Some(low), Some(high)) => format!(" ({} to {})", number(low), number(high)),
            (Some(low), None) => format!(" ({} or more)", number(low)),
            (None, Some(high)) => format!(" ({} or less)", number(high)),
            (None, None) => String::new(),
        };
        message += &format!(", {} times {base}{range}", number(ratio.likeliest));
    }
    message += &format!("; {}× more likely worse than not, aborts at {}×", number(told.worse), number(told.aborts_at));
    if let Some(passes_at) = told.passes_at {
        message += &format!("; {}× more likely good than not, passes at {}×", number(told.better), number(passes_at));
    }
    let (least, has) =
        (test.min_requests, |one: Option<Requests>| one.is_none_or(|one| one.total >= test.min_requests));
    if !has(Some(told.canary)) || !has(told.stable) {
        message += &format!("; too few requests to pass: {} of each side are needed", count(least));
    }
    message
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
    if value.fract() == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
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
