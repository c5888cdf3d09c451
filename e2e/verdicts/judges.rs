//! Who judges a release, each over the same counts: Serin's test, and what others do at the same moments.

use serin::evidence::{Against, State, Test, Verdict, Window};

use super::traffic::{Release, SCRAPE, plus};

/// Looks at a release from its begin on; gives the windows after which it aborts, if it does.
pub type Judge<'a> = Box<dyn Fn(&Release) -> Option<usize> + 'a>;

/// Serin's `compare`, with the defaults but for a few.
#[derive(Clone)]
pub struct Sequential {
    pub test: Test,
    /// Windows of 15 s that are one window of the test.
    pub every: usize,
    /// Whether stable's dispersion before the release is known.
    pub is_measured: bool,
}

impl Sequential {
    pub fn new(tolerance: f64) -> Self {
        let test = Test::against(Against::Stable { tolerance, margin: 2.0, floor: 0.0 });
        Self { test, every: 1, is_measured: true }
    }

    pub fn limit(rate: f64) -> Self {
        Self { test: Test::against(Against::Limit(rate)), every: 1, is_measured: false }
    }

    /// Bets without a cap, votes or dispersion.
    pub fn unprotected(self) -> Self {
        Self { test: Test { min_windows: 1, votes: None, ..self.test }, is_measured: false, ..self }
    }

    pub fn judge(self) -> Judge<'static> {
        self.without(0)
    }

    /// Does not look at the first windows.
    pub fn without(self, first: usize) -> Judge<'static> {
        Box::new(move |release| {
            let dispersion = release.dispersion.filter(|_| self.is_measured);
            let test = Test { dispersion, ..self.test.clone() };
            let mut state = State::new(&test);
            let looks = release.merged(self.every).enumerate().map(|(at, window)| ((at + 1) * self.every, window));
            looks.filter(|(seen, _)| *seen > first).find_map(|(seen, window)| {
                test.look(&mut state, &[window]);
                (test.verdict(&state) == Verdict::Worse).then_some(seen)
            })
        })
    }
}

/// A binomial test at every look, as if it were the only one: all windows so far in one.
pub fn naive(level: f64) -> Judge<'static> {
    Box::new(move |release| {
        let mut all = Window::default();
        release.windows.iter().enumerate().find_map(|(at, window)| {
            all = plus(all, *window);
            let (bad, requests) = (all.canary.bad + all.stable.bad, all.canary.requests + all.stable.requests);
            let is_telling = all.canary.bad > 0.0 && requests > 0.0;
            let share = all.canary.requests / requests;
            (is_telling && at_least(all.canary.bad, bad, share) < level).then_some(at + 1)
        })
    })
}

/// Looks of the peers: one a minute, at the canary's requests of so many minutes before.
fn minutes(release: &Release, back: usize) -> impl Iterator<Item = (usize, Window)> {
    let minute = 60 / SCRAPE;
    (minute..=release.windows.len()).step_by(minute).map(move |end| {
        let seen = &release.windows[end.saturating_sub(back * minute)..end];
        (end, seen.iter().copied().fold(Window::default(), plus))
    })
}

/// A condition on the canary's success rate as in Argo Rollouts: no number is a failure, and one more than `failure_limit`
/// aborts.
pub fn argo(success: f64, failure_limit: u32, back: usize) -> Judge<'static> {
    Box::new(move |release| {
        let mut failed = 0;
        minutes(release, back).find_map(|(end, Window { canary, .. })| {
            let rate = 1.0 - canary.bad / canary.requests;
            let is_success = rate >= success;
            failed += u32::from(!is_success);
            (failed > failure_limit).then_some(end)
        })
    })
}

/// The same as in Flagger: checks that failed are never forgotten, and so many of them roll back.
pub fn flagger(success: f64, threshold: u32) -> Judge<'static> {
    Box::new(move |release| {
        let mut failed = 0;
        minutes(release, 1).find_map(|(end, Window { canary, .. })| {
            let is_success = 1.0 - canary.bad / canary.requests >= success;
            failed += u32::from(!is_success);
            (failed >= threshold).then_some(end)
        })
    })
}

/// The probability of at least so many of all, each with a probability of `share`.
fn at_least(count: f64, all: f64, share: f64) -> f64 {
    if count <= all * share {
        return 1.0;
    }
    let mut term = (ln_factorial(all) - ln_factorial(count) - ln_factorial(all - count)
        + count * share.ln()
        + (all - count) * (1.0 - share).ln())
    .exp();
    let (mut sum, mut at) = (0.0, count);
    while at <= all && term > sum * 1e-9 {
        sum += term;
        term *= (all - at) / (at + 1.0) * share / (1.0 - share);
        at += 1.0;
    }
    sum
}

/// Stirling's series; a sum below ten.
fn ln_factorial(count: f64) -> f64 {
    if count < 10.0 {
        let mut product = 1.0;
        let mut factor = 2.0;
        while factor <= count {
            product *= factor;
            factor += 1.0;
        }
        return f64::ln(product);
    }
    let inverse = 1.0 / count;
    count * count.ln() - count
        + 0.5 * (std::f64::consts::TAU * count).ln()
        + inverse / 12.0 * (1.0 - inverse * inverse / 30.0)
}
