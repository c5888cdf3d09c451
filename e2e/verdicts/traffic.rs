//! Simulated releases: fifteen minutes of requests, of which the canary gets 5, 20 and 50 percent for five minutes each,
//! counted every fifteen seconds; and half an hour of stable's pods before.

use fastrand::Rng;
use serin::evidence::{Count, Window, dispersion, poisson};

/// Seconds between two scrapes, and so of a window.
pub const SCRAPE: usize = 15;
/// Windows of a release.
pub const WINDOWS: usize = 60;
/// The canary's part of the requests in each third of a release, and its pods; stable has [`STABLE_PODS`].
const STEPS: [(f64, usize); 3] = [(0.05, 1), (0.2, 2), (0.5, 5)];
const STABLE_PODS: usize = 10;
/// Windows of stable before the release, from which its dispersion is told.
const BEFORE: usize = 120;

/// How bad requests come about.
#[derive(Clone, Copy)]
pub enum Errors {
    /// Each by itself.
    Independent,
    /// In clusters of a geometric size with this mean, each on one pod within a window.
    Bursts(f64),
    /// Each pod has a rate of its own, drawn anew every minute from a gamma distribution with this coefficient of variation.
    Uneven(f64),
    /// A pod fails every request for one window, so many times a pod and hour.
    DeadPods(f64),
    /// Both sides fail twenty times as much, for one minute.
    Shock,
}

/// What a release is like.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Requests a second, of both sides.
    pub rps: f64,
    /// Stable's bad requests per request.
    pub rate: f64,
    /// The canary's rate, as a factor of stable's, and the windows in which it is so; else it is stable's.
    pub canary: (f64, [usize; 2]),
    /// What both sides' rate is multiplied by in the last third.
    pub last_third: f64,
    pub errors: Errors,
}

impl Kind {
    /// A canary that is as good as stable, and errors that are independent.
    pub fn good(rps: f64, rate: f64) -> Self {
        Self { rps, rate, canary: (1.0, [0, WINDOWS]), last_third: 1.0, errors: Errors::Independent }
    }

    /// The same, with a canary that is so many times as bad.
    pub fn worse(self, factor: f64) -> Self {
        Self { canary: (factor, [0, WINDOWS]), ..self }
    }
}

/// What was counted in a release.
pub struct Release {
    pub windows: Vec<Window>,
    /// How much more stable's pods differed before than chance alone makes them.
    pub dispersion: Option<f64>,
}

pub fn share_at(window: usize) -> f64 {
    step_at(window).0
}

fn step_at(window: usize) -> (f64, usize) {
    STEPS[(window * STEPS.len() / WINDOWS).min(STEPS.len() - 1)]
}

/// Requests of a mean: beyond two hundred a normal number does.
pub fn requests(chance: &mut Rng, mean: f64) -> f64 {
    if mean < 200.0 {
        return poisson(chance, mean);
    }
    let normal = (0..12).map(|_| chance.f64()).sum::<f64>() - 6.0;
    (mean + mean.sqrt() * normal).round()
}

impl Release {
    pub fn new(kind: Kind, chance: &mut Rng) -> Self {
        let shock = matches!(kind.errors, Errors::Shock).then(|| chance.usize(..WINDOWS - 4));
        let mut canary_pods = Side::new(kind.errors);
        let mut stable_pods = Side::new(kind.errors);
        let windows = (0..WINDOWS).map(|at| {
            let (share, pods) = step_at(at);
            let is_shock = shock.is_some_and(|first| (first..first + 4).contains(&at));
            let common = if is_shock { 20.0 } else { 1.0 } * if at * 3 >= WINDOWS * 2 { kind.last_third } else { 1.0 };
            let (factor, [first, last]) = kind.canary;
            let factor = if (first..last).contains(&at) { factor } else { 1.0 };
            let per_window = kind.rps * SCRAPE as f64;
            Window {
                canary: sum(&canary_pods.window(chance, pods, per_window * share, kind.rate * common * factor)),
                stable: sum(&stable_pods.window(chance, STABLE_PODS, per_window * (1.0 - share), kind.rate * common)),
            }
        });
        let windows = windows.collect();
        let mut before = Side::new(kind.errors);
        let per_window = kind.rps * SCRAPE as f64;
        let earlier: Vec<Vec<Count>> =
            (0..BEFORE).map(|_| before.window(chance, STABLE_PODS, per_window, kind.rate)).collect();
        Self { windows, dispersion: dispersion(&earlier) }
    }

    /// The windows, so many of them merged into one.
    pub fn merged(&self, every: usize) -> impl Iterator<Item = Window> {
        self.windows.chunks(every).map(|chunk| chunk.iter().copied().fold(Window::default(), plus))
    }
}

pub fn plus(left: Window, right: Window) -> Window {
    Window { canary: sum(&[left.canary, right.canary]), stable: sum(&[left.stable, right.stable]) }
}

fn sum(counts: &[Count]) -> Count {
    let plus = |sum: Count, one: &Count| Count { requests: sum.requests + one.requests, bad: sum.bad + one.bad };
    counts.iter().fold(Count::default(), plus)
}

/// The pods of one side, and the rates that they have this minute.
struct Side {
    errors: Errors,
    factors: Vec<f64>,
    windows: usize,
}

impl Side {
    fn new(errors: Errors) -> Self {
        Self { errors, factors: Vec::new(), windows: 0 }
    }

    /// What each of so many pods serves in the next window, at so many requests of all.
    fn window(&mut self, chance: &mut Rng, pods: usize, all: f64, rate: f64) -> Vec<Count> {
        let is_new_minute = self.windows.is_multiple_of(60 / SCRAPE);
        if is_new_minute || self.factors.len() != pods {
            self.factors = (0..pods).map(|_| self.factor(chance)).collect();
        }
        self.windows += 1;
        let mean = all / pods as f64;
        self.factors.clone().into_iter().map(|factor| self.pod(chance, mean, (rate * factor).min(1.0))).collect()
    }

    fn factor(&self, chance: &mut Rng) -> f64 {
        match self.errors {
            Errors::Uneven(variation) => {
                let shape = variation.powi(-2);
                gamma(chance, shape) / shape
            }
            Errors::Independent | Errors::Bursts(_) | Errors::DeadPods(_) | Errors::Shock => 1.0,
        }
    }

    fn pod(&self, chance: &mut Rng, mean: f64, rate: f64) -> Count {
        let dead_per_window =
            if let Errors::DeadPods(an_hour) = self.errors { an_hour * SCRAPE as f64 / 3600.0 } else { 0.0 };
        if chance.f64() < dead_per_window {
            let all = requests(chance, mean);
            return Count { requests: all, bad: all };
        }
        let good = requests(chance, mean * (1.0 - rate));
        let bad = if let Errors::Bursts(size) = self.errors {
            let clusters = poisson(chance, mean * rate / size);
            let mut bad = 0.0;
            let mut left = clusters;
            while left > 0.0 {
                bad += 1.0 + ((1.0 - chance.f64()).ln() / (1.0 - 1.0 / size).ln()).floor();
                left -= 1.0;
            }
            bad
        } else {
            poisson(chance, mean * rate)
        };
        // A cluster may be larger than what a pod serves in a window: then that is all it fails.
        let all = (good + bad).min(good.max(bad).max(mean.ceil()));
        Count { requests: all, bad: bad.min(all) }
    }
}

/// A gamma number of scale 1, for shapes of 1 and more that are whole: a sum of exponential ones.
fn gamma(chance: &mut Rng, shape: f64) -> f64 {
    let mut left = shape.round();
    let mut sum = 0.0;
    while left > 0.0 {
        sum -= (1.0 - chance.f64()).ln();
        left -= 1.0;
    }
    sum
}
