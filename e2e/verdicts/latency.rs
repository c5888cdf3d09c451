//! Latency: requests slower than bounds of Istio's histogram, beside conditions on a quantile of it.

use fastrand::Rng;
use serin::evidence::{Against, Count, State, Test, Verdict, Window};

use super::SEED;
use super::table::{Cell, Column, told};
use super::traffic::{SCRAPE, WINDOWS, requests, share_at};

/// Upper bounds of Istio's buckets in milliseconds, as far as they matter here; the last is infinite.
const BOUNDS: [f64; 11] = [5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0];
const BUCKETS: usize = BOUNDS.len() + 1;
const RUNS: u32 = 200;
/// Latency of stable: lognormal, with this median in milliseconds and this deviation of its logarithm.
const MEDIAN: f64 = 40.0;
const SIGMA: f64 = 0.8;
/// A bound is tested if so much of stable is slower.
const TELLING: std::ops::RangeInclusive<f64> = 0.0005..=0.6;

type Buckets = [f64; BUCKETS];

/// A canary's latency beside stable's.
#[derive(Clone, Copy)]
enum Change {
    None,
    /// Each request takes so many times as long.
    Times(f64),
    /// So much of the requests takes a second longer.
    Second(f64),
}

/// Both sides' buckets in each window.
type Release = Vec<(Buckets, Buckets)>;
type Looks = fn(&Release) -> Option<usize>;

/// Slower canaries: how many are caught, and when.
pub fn latency() {
    let judges: [(&'static str, Looks); 6] = [
        ("slower than 100 ms", |release| sequential(release, &[100.0])),
        ("slower than 250 ms", |release| sequential(release, &[250.0])),
        ("compare: mean of the bounds", |release| sequential(release, &telling())),
        ("p99 <= 500 ms, limit 1", |release| quantile(release, 2, |canary, _| canary <= 500.0)),
        ("Flagger p99 <= 500 ms, threshold 5", |release| quantile(release, 5, |canary, _| canary <= 500.0)),
        ("p99 <= 1.25 x stable's, limit 1", |release| quantile(release, 2, |canary, stable| canary <= 1.25 * stable)),
    ];
    let columns = judges.map(|(name, _)| Column::new(name, Box::new(|_| None)));
    let rows = [
        (10.0, Change::None),
        (100.0, Change::None),
        (10.0, Change::Times(1.5)),
        (100.0, Change::Times(1.25)),
        (100.0, Change::Times(1.5)),
        (100.0, Change::Second(0.03)),
        (1000.0, Change::Times(1.1)),
        (1000.0, Change::Times(2.0)),
    ];
    let rows = rows.into_iter().map(|(rps, change)| {
        let name = match change {
            Change::None => "as fast".to_owned(),
            Change::Times(factor) => format!("x{factor}"),
            Change::Second(part) => format!("{} % of requests 1 s slower", part * 100.0),
        };
        let mut chance = Rng::with_seed(SEED);
        let mut cells = vec![Cell::default(); judges.len()];
        for _ in 0..RUNS {
            let release = release(rps, change, &mut chance);
            for (cell, (_, judge)) in cells.iter_mut().zip(judges) {
                let aborted = judge(&release);
                cell.add(aborted.map(|windows| (windows * SCRAPE) as f64), 0.0);
            }
        }
        (format!("{rps} rps, {name}"), cells)
    });
    told("Latency: aborted in % / mean seconds", &columns, Cell::timed, rows);
}

/// The part of requests that is slower than a bound.
fn slower(bound: f64, change: Change) -> f64 {
    let of = |bound: f64| if bound <= 0.0 { 1.0 } else { normal_above((bound / MEDIAN).ln() / SIGMA) };
    match change {
        Change::None => of(bound),
        Change::Times(factor) => of(bound / factor),
        Change::Second(part) => (1.0 - part) * of(bound) + part * of(bound - 1000.0),
    }
}

/// The probability of a standard normal number above another: Simpson's rule.
fn normal_above(least: f64) -> f64 {
    const PARTS: u32 = 2000;
    let density = |at: f64| (-at * at / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let (first, last) = (least.clamp(-9.0, 9.0), 9.0);
    let step = (last - first) / f64::from(PARTS);
    let weight = |at: u32| {
        if at == 0 || at == PARTS {
            1.0
        } else if at % 2 == 1 {
            4.0
        } else {
            2.0
        }
    };
    (0..=PARTS).map(|at| weight(at) * density(first + f64::from(at) * step)).sum::<f64>() * step / 3.0
}

/// The part of requests in each bucket.
fn parts(change: Change) -> Buckets {
    let above = |bucket: usize| if bucket == 0 { 1.0 } else { slower(BOUNDS[bucket - 1], change) };
    std::array::from_fn(|bucket| above(bucket) - if bucket < BOUNDS.len() { above(bucket + 1) } else { 0.0 })
}

fn release(rps: f64, change: Change, chance: &mut Rng) -> Release {
    let (canary, stable) = (parts(change), parts(Change::None));
    let all = rps * SCRAPE as f64;
    let mut counts = |parts: Buckets, all: f64| parts.map(|part| requests(chance, (part * all).max(0.0)));
    (0..WINDOWS).map(|at| (counts(canary, all * share_at(at)), counts(stable, all * (1.0 - share_at(at))))).collect()
}

fn telling() -> Vec<f64> {
    BOUNDS.into_iter().filter(|bound| TELLING.contains(&slower(*bound, Change::None))).collect()
}

fn sequential(release: &Release, bounds: &[f64]) -> Option<usize> {
    let against = Against::Stable { tolerance: 1.25, margin: 2.0, floor: 0.0 };
    // Requests are independent here, as a calibration would find.
    let test = Test { dispersion: Some(1.0), bounds: bounds.len(), ..Test::against(against) };
    let mut state = State::new(&test);
    let count = |buckets: &Buckets, bound: f64| Count {
        requests: buckets.iter().sum(),
        bad: buckets
            .iter()
            .zip(BOUNDS.into_iter().chain([f64::INFINITY]))
            .filter(|(_, le)| *le > bound)
            .map(|(n, _)| n)
            .sum(),
    };
    release.iter().enumerate().find_map(|(at, (canary, stable))| {
        let windows: Vec<Window> = bounds
            .iter()
            .map(|bound| Window { canary: count(canary, *bound), stable: count(stable, *bound) })
            .collect();
        test.look(&mut state, &windows);
        (test.verdict(&state) == Verdict::Worse).then_some(at + 1)
    })
}

/// A condition on the 99th percentile of the last minute, once a minute: aborts when it has failed so many times.
fn quantile(release: &Release, failures: usize, holds: impl Fn(f64, f64) -> bool) -> Option<usize> {
    let minute = 60 / SCRAPE;
    let ends = (minute..=WINDOWS).step_by(minute);
    let failed = ends.filter(|end| {
        let sum = |side: fn(&(Buckets, Buckets)) -> &Buckets| {
            let windows = release[end - minute..*end].iter().map(side);
            windows.fold([0.0; BUCKETS], |sum, window| std::array::from_fn(|at| sum[at] + window[at]))
        };
        !holds(percentile(&sum(|both| &both.0)), percentile(&sum(|both| &both.1)))
    });
    failed.into_iter().nth(failures - 1)
}

/// As Prometheus' `histogram_quantile(0.99, …)`: linear within a bucket, no number of nothing.
fn percentile(buckets: &Buckets) -> f64 {
    let rank = 0.99 * buckets.iter().sum::<f64>();
    let mut below = 0.0;
    for (at, count) in buckets.iter().enumerate() {
        if below + count >= rank && *count > 0.0 {
            let Some(le) = BOUNDS.get(at) else { return BOUNDS[at - 1] };
            let from = if at == 0 { 0.0 } else { BOUNDS[at - 1] };
            return from + (le - from) * (rank - below) / count;
        }
        below += count;
    }
    f64::NAN
}
