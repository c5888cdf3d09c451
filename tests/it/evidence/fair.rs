//! What the tests promise: evidence against a canary that is within tolerance passes `1 / alpha` in no more than `alpha` of
//! rollouts, however often it is looked at; and why, one window at a time.

use serin::evidence::{Against, Count, State, Test, Verdict, Window, binomial, poisson};

/// The sides of a window, and the logarithm of the probability of it.
type Outcome = (Window, f64);

/// A test without the guards that only make it slower: whatever is wrong with the bets shows.
fn bare(against: Against) -> Test {
    Test { min_windows: 1, votes: None, min_requests: 0.0, ..Test::against(against) }
}

fn stable(tolerance: f64) -> Against {
    Against::Stable { tolerance, margin: 2.0, floor: 0.0 }
}

fn window(canary: (f64, f64), stable: (f64, f64)) -> Window {
    let count = |(requests, bad)| Count { requests, bad };
    Window { canary: count(canary), stable: count(stable) }
}

/// Logarithms of the probabilities of 0 to `most` events.
fn weighed(most: u32, log: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    (0..=most).map(f64::from).map(|count| (count, log(count))).collect()
}

/// The logarithm of the factorial, as a sum.
fn factorial(count: f64) -> f64 {
    let mut number = 1.0;
    let mut sum = 0.0;
    while number < count {
        number += 1.0;
        sum += f64::ln(number);
    }
    sum
}

fn binomials(trials: u32, probability: f64) -> Vec<(f64, f64)> {
    let all = f64::from(trials);
    weighed(trials, |count| {
        factorial(all) - factorial(count) - factorial(all - count)
            + count * probability.ln()
            + (all - count) * (1.0 - probability).ln()
    })
}

fn poissons(mean: f64, most: u32) -> Vec<(f64, f64)> {
    weighed(most, |count| count * mean.ln() - mean - factorial(count))
}

/// The states from which a bet is made: nothing seen, and each alternative in turn believed in.
fn beliefs(test: &Test) -> Vec<State> {
    let leaning = [0.1, 0.5, 0.9, 1.2, 1.5, 2.5, 5.0, 12.0, 60.0].map(|ratio| {
        let mut state = State::new(test);
        let rate = if let Against::Limit(limit) = test.against { limit } else { 0.01 };
        let seen = window((2000.0, (2000.0 * rate * ratio).round()), (2000.0, 2000.0 * rate));
        (0..5).for_each(|_| test.look(&mut state, &[seen]));
        state
    });
    std::iter::once(State::new(test)).chain(leaning).collect()
}

/// The greatest mean of what one window multiplies the evidence by: that the canary is worse, and that it is better.
fn means(test: &Test, outcomes: &[Outcome]) -> (f64, f64) {
    let of = |state: &State| {
        let mut sums = (0.0, 0.0);
        for (seen, probability) in outcomes {
            let mut next = state.clone();
            test.look(&mut next, &[*seen]);
            sums.0 += (probability + test.log_worse(&next) - test.log_worse(state)).exp();
            sums.1 += (probability + test.log_better(&next) - test.log_better(state)).exp();
        }
        sums
    };
    beliefs(test).iter().map(of).fold((0.0, 0.0), |most, sums| (sums.0.max(most.0), sums.1.max(most.1)))
}

/// The guards with which every bet is tried: none, and all.
fn guarded(against: Against) -> [Test; 3] {
    let dispersed = Test { dispersion: Some(2.5), ..bare(against) };
    [bare(against), Test::against(against), dispersed]
}

/// Bad requests of a window that fall to the canary at a ratio, of so many in all and a share of the requests.
fn split(bad: u32, share: f64, ratio: f64) -> Vec<Outcome> {
    let part = share * ratio / (1.0 - share + share * ratio);
    let outcome = |(count, probability)| {
        (window((1e4 * share, count), (1e4 * (1.0 - share), f64::from(bad) - count)), probability)
    };
    binomials(bad, part).into_iter().map(outcome).collect()
}

#[test]
fn no_window_is_expected_to_gain_against_stable() {
    for test in guarded(stable(1.25)) {
        for share in [0.01, 0.05, 0.2, 0.5, 0.9] {
            for bad in [1, 7, 30, 120] {
                let (worse, _) = means(&test, &split(bad, share, 1.25));
                assert!(worse <= 1.0 + 1e-9, "{test:?}, {bad} bad, share {share}: {worse}");
                let (worse, _) = means(&test, &split(bad, share, 0.8));
                assert!(worse <= 1.0 + 1e-9, "{test:?}, {bad} bad, share {share}, better than it need be: {worse}");
                let (_, better) = means(&test, &split(bad, share, 2.0));
                assert!(better <= 1.0 + 1e-9, "{test:?}, {bad} bad, share {share}: {better} at the margin");
            }
        }
    }
    // And without guards it is a bet with nothing lost.
    let (worse, _) = means(&bare(stable(1.25)), &split(30, 0.2, 1.25));
    let (_, better) = means(&bare(stable(1.25)), &split(30, 0.2, 2.0));
    assert!(worse > 1.0 - 1e-9 && better > 1.0 - 1e-9, "{worse}, {better}");
}

#[test]
fn no_window_of_few_requests_is_expected_to_gain() {
    for (canary, others, rate) in [(12, 30, 0.02), (20, 20, 0.1), (6, 40, 0.3)] {
        let both = |ratio: f64| -> Vec<Outcome> {
            let left = binomials(canary, rate * ratio);
            let right = binomials(others, rate);
            left.iter()
                .flat_map(|(bad, one)| right.iter().map(move |(rest, other)| (*bad, *rest, one + other)))
                .map(|(bad, rest, both)| (window((f64::from(canary), bad), (f64::from(others), rest)), both))
                .collect()
        };
        for test in guarded(stable(1.25)) {
            let (worse, _) = means(&test, &both(1.25));
            assert!(worse <= 1.0 + 1e-9, "{test:?}, {canary} and {others} requests at {rate}: {worse}");
            let (_, better) = means(&test, &both(2.0));
            assert!(better <= 1.0 + 1e-9, "{test:?}, {canary} and {others} requests at {rate}: {better} at the margin");
        }
    }
}

#[test]
fn no_window_is_expected_to_gain_against_a_limit() {
    let of = |outcomes: Vec<(f64, f64)>, requests: f64| -> Vec<Outcome> {
        outcomes.into_iter().map(|(bad, one)| (window((requests, bad), (0.0, 0.0)), one)).collect()
    };
    for test in guarded(Against::Limit(0.01)) {
        for mean in [0.1, 1.0, 5.0, 10.0, 15.0, 30.0, 90.0] {
            let (worse, better) = means(&test, &of(poissons(mean, 300), mean / 0.01));
            assert!(worse <= 1.0 + 1e-9 && better <= 1.0 + 1e-9, "{test:?}, {mean} expected: {worse}, {better}");
            let (worse, _) = means(&test, &of(poissons(mean * 0.7, 300), mean / 0.01));
            assert!(worse <= 1.0 + 1e-9, "{test:?}, {mean} allowed: {worse}");
            let (_, better) = means(&test, &of(poissons(mean * 1.4, 400), mean / 0.01));
            assert!(better <= 1.0 + 1e-9, "{test:?}, {mean} allowed: {better}");
        }
        let (worse, better) = means(&test, &of(binomials(40, 0.01), 40.0));
        assert!(worse <= 1.0 + 1e-9 && better <= 1.0 + 1e-9, "{test:?}, 40 requests: {worse}, {better}");
    }
}

/// Traffic whose canary has a rate at the bound of what is tolerated, or below.
#[derive(Clone, Copy)]
struct Traffic {
    /// Requests of both sides in a window.
    requests: f64,
    /// Stable's rate; every fourth window has three times as many bad ones, on both sides.
    rate: f64,
    ratio: f64,
}

const SHARES: [f64; 3] = [0.05, 0.2, 0.5];
/// A third of them at each share: windows of different shares are never merged, which would make a canary of what hits both
/// sides (Simpson's paradox).
const WINDOWS: u32 = 12;

impl Traffic {
    fn window(self, chance: &mut fastrand::Rng, at: u32) -> Window {
        let share = SHARES[usize::try_from(at * 3 / WINDOWS).unwrap()];
        let rate = if at % 4 == 3 { 3.0 * self.rate } else { self.rate };
        let mut side = |part: f64, rate: f64| {
            let requests = poisson(chance, self.requests * part);
            Count { requests, bad: binomial(chance, requests, rate) }
        };
        Window { canary: side(share, rate * self.ratio), stable: side(1.0 - share, rate) }
    }
}

fn plus(left: Window, right: Window) -> Window {
    let sum = |one: Count, other: Count| Count { requests: one.requests + other.requests, bad: one.bad + other.bad };
    Window { canary: sum(left.canary, right.canary), stable: sum(left.stable, right.stable) }
}

/// Whether a rollout is given a verdict at any of its looks, of which there is one every so many windows of one weight.
fn comes_to(verdict: Verdict, test: &Test, traffic: Traffic, every: u32, chance: &mut fastrand::Rng) -> bool {
    let mut state = State::new(test);
    (0..WINDOWS).step_by(usize::try_from(every).unwrap()).any(|first| {
        let merged = (first..first + every).map(|at| traffic.window(chance, at)).reduce(plus).unwrap();
        test.look(&mut state, &[merged]);
        if chance.u8(..16) == 0 {
            // Another process goes on with what the last one wrote down.
            let read = State::decode(test, &state.encode()).unwrap();
            assert_eq!(read, state);
            state = read;
        }
        test.verdict(&state) == verdict
    })
}

/// At most so many of `runs` come to what has a probability of `alpha` at most: four standard deviations above its mean, which
/// a test that keeps its promise exceeds in one of thirty thousand seeds.
fn allowed(runs: u32, alpha: f64) -> f64 {
    let mean = f64::from(runs) * alpha;
    mean + 4.0 * (mean * (1.0 - alpha)).sqrt()
}

fn keeps(verdict: Verdict, test: &Test, traffic: Traffic, every: u32, runs: u32) -> u32 {
    let level = if verdict == Verdict::Worse { test.alpha } else { test.beta };
    let mut chance = fastrand::Rng::with_seed(u64::from(every) + u64::from(runs));
    let found = (0..runs).filter(|_| comes_to(verdict, test, traffic, every, &mut chance)).count();
    let found = u32::try_from(found).unwrap();
    assert!(f64::from(found) <= allowed(runs, level), "{verdict:?} in {found} of {runs}: {test:?}");
    found
}

/// A hundred thousand rollouts of canaries that are within tolerance.
#[test]
fn canaries_within_tolerance_are_aborted_no_more_often_than_alpha() {
    const RUNS: u32 = 4000;
    let mut found = 0;
    let mut told = 0;
    for alpha in [0.01, 0.05] {
        let bare = Test { alpha, ..bare(stable(1.25)) };
        let strict = Test { alpha, ..bare_at_one() };
        let shipped = Test { alpha, ..Test::against(stable(1.25)) };
        for (test, requests, rate, ratio, every) in [
            (&bare, 200.0, 0.005, 1.25, 1),
            (&bare, 200.0, 0.03, 1.25, 2),
            (&bare, 1500.0, 0.02, 1.25, 4),
            (&bare, 40.0, 0.1, 1.25, 1),
            (&bare, 200.0, 0.03, 1.0, 1),
            (&strict, 200.0, 0.005, 1.0, 2),
            (&strict, 200.0, 0.03, 1.0, 1),
            (&strict, 1500.0, 0.02, 1.0, 1),
            (&shipped, 200.0, 0.03, 1.25, 1),
            (&shipped, 1500.0, 0.02, 1.25, 2),
            (&shipped, 1500.0, 0.02, 1.0, 1),
        ] {
            found += keeps(Verdict::Worse, test, Traffic { requests, rate, ratio }, every, RUNS);
            told += RUNS;
        }
        let limit = Test { alpha, ..Test::against(Against::Limit(0.03)) };
        // Every fourth window has three times as many: with half of it, the mean of four is 0.75 of the limit.
        found += keeps(Verdict::Worse, &limit, Traffic { requests: 400.0, rate: 0.01, ratio: 1.0 }, 1, 2 * RUNS);
        told += 2 * RUNS;
    }
    assert!(told >= 100_000, "{told}");
    assert!(found > 0, "a test that never aborts promises nothing");
}

#[test]
fn a_canary_is_safe_for_as_long_as_it_is_looked_at() {
    let test = Test { alpha: 0.05, ..bare(stable(1.25)) };
    let traffic = Traffic { requests: 400.0, rate: 0.02, ratio: 1.25 };
    let mut chance = fastrand::Rng::with_seed(8);
    let found = (0..600).filter(|_| {
        let mut state = State::new(&test);
        (0..400).any(|at| {
            test.look(&mut state, &[traffic.window(&mut chance, at % WINDOWS)]);
            test.verdict(&state) == Verdict::Worse
        })
    });
    let found = u32::try_from(found.count()).unwrap();
    assert!(f64::from(found) <= allowed(600, test.alpha), "{found} of 600");
}

/// Tolerates nothing: stable's own rate is the bound.
fn bare_at_one() -> Test {
    bare(stable(1.0))
}

#[test]
fn canaries_at_the_margin_pass_no_more_often_than_beta() {
    let mut found = 0;
    for (test, traffic, every) in [
        (bare(stable(1.25)), Traffic { requests: 200.0, rate: 0.02, ratio: 2.0 }, 1),
        (bare(stable(1.25)), Traffic { requests: 1500.0, rate: 0.01, ratio: 2.0 }, 2),
        (Test::against(stable(1.25)), Traffic { requests: 1500.0, rate: 0.01, ratio: 2.0 }, 1),
    ] {
        found += keeps(Verdict::NotWorse, &test, traffic, every, 4000);
    }
    // The canary's rate is the limit itself, with 15 bad requests a window: more than the votes of one.
    let test = Test { min_requests: 0.0, ..Test::against(Against::Limit(0.03)) };
    let mut chance = fastrand::Rng::with_seed(3);
    let at_limit = (0..4000).filter(|_| {
        let mut state = State::new(&test);
        (0..WINDOWS).any(|_| {
            test.look(&mut state, &[window((500.0, poisson(&mut chance, 15.0)), (0.0, 0.0))]);
            test.verdict(&state) == Verdict::NotWorse
        })
    });
    let at_limit = at_limit.count();
    assert!(f64::from(u32::try_from(at_limit).unwrap()) <= allowed(4000, test.beta), "{at_limit} of 4000");
    assert!(found > 0, "a test that never passes promises nothing");
}

#[test]
fn chance_has_the_mean_and_the_spread_of_its_distribution() {
    let mut chance = fastrand::Rng::with_seed(11);
    let mut check = |name: &str, mean: f64, variance: f64, draw: &mut dyn FnMut(&mut fastrand::Rng) -> f64| {
        const DRAWS: u32 = 20_000;
        let drawn: Vec<f64> = (0..DRAWS).map(|_| draw(&mut chance)).collect();
        let all = f64::from(DRAWS);
        let found = drawn.iter().sum::<f64>() / all;
        let spread = drawn.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / all;
        assert!((found - mean).abs() <= 5.0 * (variance / all).sqrt(), "{name}: mean {found}, not {mean}");
        assert!((spread / variance - 1.0).abs() < 0.1, "{name}: variance {spread}, not {variance}");
    };
    for mean in [0.05, 3.0, 40.0, 900.0, 20_000.0] {
        check("poisson", mean, mean, &mut |chance| poisson(chance, mean));
    }
    for (trials, probability) in [(1.0, 0.3), (40.0, 0.02), (40.0, 0.7), (1000.0, 0.05), (1e6, 0.4)] {
        let mean = trials * probability;
        check("binomial", mean, mean * (1.0 - probability), &mut |chance| binomial(chance, trials, probability));
    }
    assert_eq!(binomial(&mut chance, 10.0, 0.0).to_string(), "0");
    assert_eq!(binomial(&mut chance, 10.0, 1.0).to_string(), "10");
    assert_eq!(binomial(&mut chance, 0.0, 0.5).to_string(), "0");
}
