//! Which ratios of both rates the counts still allow, valid at every look.

use super::process::log_mean;

/// Ratios that are tried, as powers of two: `2^(j/4)` for j from -24 to 24.
const STEPS: i8 = 24;
const PER_DOUBLING: f64 = 4.0;

/// What the counts say of each ratio that is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// Log-likelihood of each.
    pub logs: Vec<f64>,
}

impl Default for Interval {
    fn default() -> Self {
        Self { logs: vec![0.0; ratios().count()] }
    }
}

/// A ratio of two rates, and the range that holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatioRange {
    /// The lowest that is left; none where it may be anything below.
    pub low: Option<f64>,
    /// The one that fits best.
    pub mode: f64,
    /// The highest that is left; none where it may be anything above.
    pub high: Option<f64>,
}

fn ratios() -> impl Iterator<Item = f64> {
    (-STEPS..=STEPS).map(|step| (f64::from(step) / PER_DOUBLING).exp2())
}

impl Interval {
    /// Takes one window in: the log-likelihood of each ratio.
    pub fn see(&mut self, log: impl Fn(f64) -> f64) {
        self.logs.iter_mut().zip(ratios()).for_each(|(sum, ratio)| *sum += log(ratio));
    }

    /// The ratios that are left at a level, one step wider than those that were tried; none before there is a bad request.
    pub fn range(&self, alpha: f64) -> Option<RatioRange> {
        let most = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.logs.iter().all(|log| log.total_cmp(&most).is_eq()) {
            return None;
        }
        let mean = log_mean(&self.logs);
        let pairs = || self.logs.iter().zip(ratios());
        let is_left = |log: &f64| mean - log < -alpha.ln();
        let first = pairs().find(|(log, _)| is_left(log))?.1;
        let last = pairs().filter(|(log, _)| is_left(log)).last()?.1;
        let step = (1.0 / PER_DOUBLING).exp2();
        let (least, greatest) = (ratios().next()?, ratios().last()?);
        Some(RatioRange {
            low: (first > least).then_some(first / step),
            mode: pairs().find(|(log, _)| log.total_cmp(&most).is_eq())?.1,
            high: (last < greatest).then_some(last * step),
        })
    }
}
