//! Sequential tests on counts of requests: is the canary worse than stable, or than a limit? Imports nothing of ours.
//!
//! A window has requests and bad requests of both sides. Given the sum of the bad ones, how many of them are the canary's
//! depends on the ratio of both rates and on the canary's share of the requests alone, whatever the rate itself does. For a
//! ratio `theta` against the tolerated one, `theta0`, the likelihood ratio of one window is
//!
//! ```text
//! ln e = x_c ln(theta / theta0) - m [ln(1 + p (theta - 1)) - ln(1 + p (theta0 - 1))]      m = x_c + x_s, p = n_c / (n_c + n_s)
//! ```
//!
//! Its mean is at most 1 wherever the true ratio is at most `theta0`, so that products of it over windows pass `1 / alpha`
//! with a probability of at most `alpha`, ever (Ville 1939; Ramdas, Grünwald, Vovk, Shafer, *Game-theoretic statistics and
//! safe anytime-valid inference*, 2023): the test may be read after every window, as often as one likes, for as long as one
//! likes. Of the rates themselves nothing is assumed; they may jump from window to window, and what hits both sides alike
//! cancels out.
//!
//! Units: counts are requests (fractions are fine), logarithms are natural, rates are bad requests per request.

use std::iter::Sum;
use std::ops::Add;

mod chance;
mod counters;
mod dispersion;
mod interval;
mod power;
mod process;
mod state;

pub use self::chance::{binomial, poisson};
pub use self::counters::{Series, bounds_of, slower, windows};
pub use self::dispersion::dispersion;
pub use self::interval::{Interval, RatioRange};
pub use self::power::{Traffic, smallest_detectable, windows_to_pass};
pub use self::process::Process;
pub use self::state::{Bets, State, Stream};

/// Requests of one side in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count {
    /// All of them.
    pub requests: f64,
    /// The bad ones among them.
    pub bad: f64,
}

impl Count {
    /// A count whose bad requests are no more than its requests; none where a number is negative or no number.
    fn checked(self) -> Option<Self> {
        let is_count = |number: f64| number.is_finite() && number >= 0.0;
        (is_count(self.requests) && is_count(self.bad)).then(|| Self { bad: self.bad.min(self.requests), ..self })
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, bad: self.bad + other.bad }
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// Requests of both sides between the same two instants. For a test against a limit, stable's are left at zero.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Window {
    /// The canary's.
    pub canary: Count,
    /// Stable's.
    pub stable: Count,
}

impl Window {
    /// The window without nonsense; none where a number is no count.
    fn checked(self) -> Option<Self> {
        Some(Self { canary: self.canary.checked()?, stable: self.stable.checked()? })
    }
}

/// What the canary is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Against {
    /// Stable, in the same windows.
    Stable {
        /// The ratio of both rates that is still fine, 1 or more.
        tolerance: f64,
        /// The ratio that a canary must be proven to stay below to pass.
        margin: f64,
        /// A rate that is always fine; 0 for none.
        floor: f64,
    },
    /// A rate.
    Limit(f64),
}

/// A test: what is asked, how sure the answers must be, and what guards it against bursts of errors that are not independent.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// What the canary is held against.
    pub against: Against,
    /// The probability of an abort without reason, over the whole rollout.
    pub alpha: f64,
    /// The probability of a pass without reason.
    pub beta: f64,
    /// Requests of a side in this step without which nothing passes.
    pub min_requests: f64,
    /// Windows without which nothing is aborted: none adds more than its share of the evidence.
    pub min_windows: u32,
    /// Bad requests that count as independent in a window at most, where the dispersion is not known; none counts all of them.
    pub votes: Option<f64>,
    /// How much more the pods of stable differ from each other than chance alone makes them; none where it is not known.
    pub dispersion: Option<f64>,
    /// The part of the evidence that is not bet, so that a late regression is seen as soon as an early one.
    pub abstain: f64,
    /// The part that is bet anew in every window.
    pub share: f64,
    /// Bounds of latency that are tested together; 1 for errors.
    pub bounds: usize,
}

impl Test {
    /// A test with the usual guards: 1 % against 5 %, 100 requests, 3 windows, 10 votes.
    pub fn against(against: Against) -> Self {
        Self {
            against,
            alpha: 0.01,
            beta: 0.05,
            min_requests: 100.0,
            min_windows: 3,
            votes: Some(10.0),
            dispersion: None,
            abstain: 0.5,
            share: 0.02,
            bounds: 1,
        }
    }

    /// The same test once something is known of stable's past: the dispersion of its pods, and how many bounds of latency tell something.
    #[must_use]
    pub fn knowing(&self, dispersion: Option<f64>, bounds: usize) -> Self {
        Self { dispersion: self.dispersion.or(dispersion), bounds: bounds.max(1), ..self.clone() }
    }

    /// The logarithm of the evidence that aborts.
    pub fn aborts_at(&self) -> f64 {
        -self.alpha.ln()
    }

    /// The logarithm of the evidence that passes.
    pub fn passes_at(&self) -> f64 {
        -self.beta.ln()
    }

    /// The most evidence that one window adds. Several bounds share it.
    fn cap(&self) -> f64 {
        if self.min_windows <= 1 {
            return f64::INFINITY;
        }
        let bounds = f64::from(u32::try_from(self.bounds.max(1)).unwrap_or(u32::MAX));
        (self.aborts_at() + bounds.ln()) / f64::from(self.min_windows)
    }

    /// By how much the evidence of a window with so many bad requests is toned down.
    fn overdispersion(&self, bad: f64) -> f64 {
        let by_votes = self.votes.map(|votes| (bad / votes).max(1.0));
        match (self.dispersion, by_votes) {
            (Some(measured), Some(votes)) => measured.min(votes).max(1.0),
            (Some(one), None) | (None, Some(one)) => one.max(1.0),
            (None, None) => 1.0,
        }
    }

    /// Looks at one window: one entry a bound of latency, one entry for errors.
    pub fn look(&self, state: &mut State, windows: &[Window]) {
        let middle = windows.len() / 2;
        if let Some(window) = windows.get(middle).and_then(|window| window.checked()) {
            state.add(window);
        }
        let State { streams, interval, .. } = state;
        for (at, (stream, window)) in streams.iter_mut().zip(windows).enumerate() {
            let Some(window) = window.checked() else {
                continue;
            };
            let mut shown = (at == middle).then_some(&mut *interval);
            if let Some(bets) = &mut stream.ratio {
                self.look_at_ratio(bets, shown.take(), window);
            }
            if let Some(bets) = &mut stream.rate {
                self.look_at_rate(bets, shown, window.canary);
            }
        }
    }

    fn look_at_ratio(&self, bets: &mut Bets, interval: Option<&mut Interval>, Window { canary, stable }: Window) {
        let (requests, bad) = (canary.requests + stable.requests, canary.bad + stable.bad);
        let Against::Stable { tolerance, margin, .. } = self.against else {
            return;
        };
        if canary.requests <= 0.0 || stable.requests <= 0.0 || bad <= 0.0 {
            return;
        }
        let share = canary.requests / requests;
        let phi = self.overdispersion(bad);
        let log = |theta: f64| canary.bad * theta.ln() - bad * (share * (theta - 1.0)).ln_1p();
        let gain = |times: f64, from: f64| (log(times * from) - log(from)) / phi;
        bets.worse.bet(|times| gain(times, tolerance), self.share, self.cap());
        bets.better.bet(|times| gain(times, margin), 0.0, f64::INFINITY);
        if let Some(interval) = interval {
            interval.see(|theta| log(theta) / phi);
        }
    }

    fn look_at_rate(&self, bets: &mut Bets, interval: Option<&mut Interval>, canary: Count) {
        let Some(rate) = self.rate().filter(|_| canary.requests > 0.0) else {
            return;
        };
        let phi = self.overdispersion(canary.bad);
        let gain = |times: f64| canary.bad * times.ln() - canary.requests * rate * (times - 1.0);
        let toned = |times: f64| gain(times) / phi;
        bets.worse.bet(toned, self.share, self.cap());
        // Toned down by what it is told from, a loss would shrink more than the gains do: it counts whole.
        bets.better.bet(|times| toned(times).min(gain(times)), 0.0, f64::INFINITY);
        if let Some(interval) = interval {
            interval.see(toned);
        }
    }

    /// The rate that the canary alone is held against: the limit, or the floor.
    fn rate(&self) -> Option<f64> {
        match self.against {
            Against::Limit(rate) => Some(rate),
            Against::Stable { floor, .. } => Some(floor).filter(|floor| *floor > 0.0),
        }
    }

    /// The logarithm of the evidence that the canary is worse than tolerated: the mean over the bounds.
    pub fn log_worse(&self, state: &State) -> f64 {
        let worse = |bets: &Option<Bets>| bets.as_ref().map(|bets| bets.worse.log_e);
        // Worse than stable, and above what is always fine: the weaker evidence of both counts.
        let each = state
            .streams
            .iter()
            .filter_map(|stream| [worse(&stream.ratio), worse(&stream.rate)].into_iter().flatten().reduce(f64::min));
        process::log_mean(&each.collect::<Vec<_>>())
    }

    /// The logarithm of the evidence that the canary is better than the margin, at every bound.
    pub fn log_better(&self, state: &State) -> f64 {
        let better = |bets: &Option<Bets>| bets.as_ref().map(|bets| bets.better.log_e);
        // Better than the margin, or below what is always fine: half of the bet on either.
        let each = state.streams.iter().map(|stream| {
            process::log_mean(&[better(&stream.ratio), better(&stream.rate)].into_iter().flatten().collect::<Vec<_>>())
        });
        each.reduce(f64::min).unwrap_or(0.0)
    }

    /// What the evidence so far says.
    pub fn verdict(&self, state: &State) -> Verdict {
        // Three capped windows must reach the bound in floating point, too.
        const SLACK: f64 = 1e-9;
        let has_stable = matches!(self.against, Against::Stable { .. });
        if self.log_worse(state) >= self.aborts_at() - SLACK {
            Verdict::Worse
        } else if state.step.canary.requests < self.min_requests
            || (has_stable && state.step.stable.requests < self.min_requests)
        {
            Verdict::InsufficientTraffic
        } else if self.log_better(state) >= self.passes_at() {
            Verdict::NotWorse
        } else {
            Verdict::Undecided
        }
    }
}

/// What the evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The canary is worse than tolerated.
    Worse,
    /// It is not worse than the margin.
    NotWorse,
    /// Neither is proven.
    Undecided,
    /// A side has had too few requests in this step to say that it is not worse.
    InsufficientTraffic,
}
