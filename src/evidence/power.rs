//! What a test can see: the smallest regression that it detects in a time, and the time that it still needs.

use super::{Against, Count, State, Test, Verdict, Window, poisson};

/// Rollouts that are tried for a ratio.
const TRIES: u32 = 200;
/// Ratios that are tried, a person's numbers.
const RATIOS: [f64; 14] = [1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 200.0];
/// The seed of the tries, the same each time, so that the same traffic gives the same answer.
const SEED: u64 = 0x5e71;

/// Traffic at present.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Requests of both sides in a window.
    pub requests: f64,
    /// The canary's part of them, 0 to 1.
    pub share: f64,
    /// The part of the rest that the canary is held against, 0 to 1.
    pub held: f64,
    /// Stable's bad requests per request.
    pub rate: f64,
}

impl Traffic {
    fn window(self, canary_rate: f64, mut count: impl FnMut(f64) -> f64) -> Window {
        let (canary, stable) =
            (count(self.requests * self.share), count(self.requests * (1.0 - self.share) * self.held));
        let rate = canary_rate.min(1.0);
        Window {
            canary: Count { requests: canary, bad: count(canary * rate).min(canary) },
            stable: Count { requests: stable, bad: count(stable * self.rate).min(stable) },
        }
    }
}

/// The smallest ratio (of the canary's rate to stable's, or to the limit) that aborts at least nine rollouts of ten within so
/// many windows; none where not even the greatest that is tried does.
pub fn smallest_detectable(test: &Test, traffic: Traffic, windows: u32) -> Option<f64> {
    let base = if let Against::Limit(limit) = test.against { limit } else { traffic.rate };
    RATIOS.into_iter().find(|ratio| {
        let mut chance = fastrand::Rng::with_seed(SEED);
        let seen = (0..TRIES).filter(|_| {
            let mut state = State::new(test);
            (0..windows).any(|_| {
                let window = traffic.window(base * ratio, |mean| poisson(&mut chance, mean));
                test.look(&mut state, &vec![window; test.bounds.max(1)]);
                test.verdict(&state) == Verdict::Worse
            })
        });
        seen.count() * 10 >= usize::try_from(TRIES).unwrap_or(usize::MAX) * 9
    })
}

/// Windows until a canary whose rate stays what it is in this step passes, at the traffic of this step; none where it does not
/// within so many.
pub fn windows_to_pass(test: &Test, state: &State, most: u32) -> Option<u32> {
    let seen = f64::from(state.step_windows);
    if seen == 0.0 {
        return None;
    }
    let mean = |count: Count| Count { requests: count.requests / seen, bad: count.bad / seen };
    let window = Window { canary: mean(state.step.canary), stable: mean(state.step.stable) };
    let windows = vec![window; test.bounds.max(1)];
    let mut state = state.clone();
    (0..=most).find(|_| {
        let passes = test.verdict(&state) == Verdict::NotWorse;
        test.look(&mut state, &windows);
        passes
    })
}
