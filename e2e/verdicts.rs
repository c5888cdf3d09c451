//! How verdicts of counts do on simulated releases, beside fixed thresholds over the same requests. Needs no cluster and
//! asserts nothing; docs/verdicts.md has the method and the last output.
#![expect(unreachable_pub, reason = "a test binary has no outside")]
#![expect(clippy::print_stdout, reason = "the tables go to standard output, a row as soon as it is known")]
#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run may panic, and its numbers are small"
)]

#[path = "verdicts/judges.rs"]
mod judges;
#[path = "verdicts/latency.rs"]
mod latency;
#[path = "verdicts/table.rs"]
mod table;
#[path = "verdicts/traffic.rs"]
mod traffic;

use fastrand::Rng;
use serin::evidence::Test;

use judges::{Sequential, argo, flagger, naive};
use table::{Cell, Column, told};
use traffic::{Errors, Kind, Release, SCRAPE, WINDOWS};

/// Releases of a row of good canaries, and of one of bad ones.
const GOOD: u32 = 2000;
const BAD: u32 = 400;
/// The same chance in each run, so that two runs print the same.
const SEED: u64 = 1;
/// Windows that a cold canary is left alone.
const COLD: usize = 4;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    for (name, table) in [
        ("good", good as fn()),
        ("bad", bad),
        ("bursts", bursts),
        ("pooled", pooled),
        ("cold", cold),
        ("limit", limit),
        ("latency", latency::latency),
    ] {
        if is_wanted(name) {
            table();
        }
    }
}

/// Judges so many releases of a kind.
fn judged(kind: Kind, runs: u32, columns: &[Column]) -> Vec<Cell> {
    let mut chance = Rng::with_seed(SEED);
    let mut cells = vec![Cell::default(); columns.len()];
    for _ in 0..runs {
        let release = Release::new(kind, &mut chance);
        for (cell, column) in cells.iter_mut().zip(columns) {
            let aborted = (column.judge)(&release);
            let seen = &release.windows[..aborted.unwrap_or(release.windows.len())];
            cell.add(
                aborted.map(|windows| (windows * SCRAPE) as f64),
                seen.iter().map(|window| window.canary.bad).sum(),
            );
        }
    }
    cells
}

fn with_alpha(alpha: f64) -> Sequential {
    let usual = Sequential::new(1.25);
    Sequential { test: Test { alpha, ..usual.test.clone() }, ..usual }
}

/// Canaries that are as good as stable: how many releases are aborted.
fn good() {
    let columns = [
        Column::new("compare 0.99", with_alpha(0.01).judge()),
        Column::new("compare 0.95", with_alpha(0.05).judge()),
        Column::new("compare, tolerance 1", Sequential::new(1.0).judge()),
        Column::new("binomial at each look", naive(0.01)),
        Column::new("Argo .95, limit 0", argo(0.95, 0, 1)),
        Column::new("Argo .95, limit 1", argo(0.95, 1, 1)),
        Column::new("Argo .95, limit 3", argo(0.95, 3, 1)),
        Column::new("Argo .99, limit 0", argo(0.99, 0, 1)),
        Column::new("Argo .99, limit 1", argo(0.99, 1, 1)),
        Column::new("Argo .99, limit 3", argo(0.99, 3, 1)),
        Column::new("Argo .99 over 5 min, limit 1", argo(0.99, 1, 5)),
        Column::new("Flagger 99, threshold 5", flagger(0.99, 5)),
    ];
    told(
        "Good canaries: aborted in %",
        &columns,
        Cell::percent,
        [
            (1.0, 0.001),
            (1.0, 0.01),
            (10.0, 0.001),
            (10.0, 0.01),
            (10.0, 0.05),
            (100.0, 0.001),
            (100.0, 0.01),
            (1000.0, 0.001),
            (1000.0, 0.05),
        ]
        .into_iter()
        .map(|(rps, rate)| (format!("{rps} rps, {} %", rate * 100.0), judged(Kind::good(rps, rate), GOOD, &columns))),
    );
}

/// Canaries that are worse from their begin on: how many are caught, when, and how many requests failed until then.
fn bad() {
    let usual = Sequential::new(1.25);
    let columns = [
        Column::new("compare", usual.clone().judge()),
        Column::new("30 s windows", Sequential { every: 2, ..usual.clone() }.judge()),
        Column::new("60 s windows", Sequential { every: 4, ..usual.clone() }.judge()),
        Column::new("tolerance 1", Sequential::new(1.0).judge()),
        Column::new(
            "minWindows 1",
            Sequential { test: Test { min_windows: 1, ..usual.test.clone() }, ..usual }.judge(),
        ),
        Column::new("Argo .99, limit 1", argo(0.99, 1, 1)),
        Column::new("Flagger 99, threshold 5", flagger(0.99, 5)),
        Column::new("nobody", Box::new(|_| None)),
    ];
    told(
        "Bad canaries: caught in % / mean seconds / failed requests of the canary until then",
        &columns,
        Cell::all,
        [
            (10.0, 0.001, 2.0),
            (10.0, 0.001, 5.0),
            (10.0, 0.001, 20.0),
            (10.0, 0.01, 2.0),
            (10.0, 0.01, 5.0),
            (10.0, 0.01, 20.0),
            (100.0, 0.001, 11.0),
            (100.0, 0.01, 2.0),
            (100.0, 0.01, 5.0),
            (100.0, 0.01, 20.0),
            (100.0, 0.05, 1.2),
            (100.0, 0.05, 2.0),
            (100.0, 0.05, 5.0),
            (1000.0, 0.001, 5.0),
            (1000.0, 0.001, 20.0),
            (1000.0, 0.01, 2.0),
            (1000.0, 0.01, 5.0),
            (1000.0, 0.01, 20.0),
        ]
        .into_iter()
        .map(|(rps, rate, factor)| {
            let name = format!("{rps} rps, {} % x{factor}", rate * 100.0);
            (name, judged(Kind::good(rps, rate).worse(factor), BAD, &columns))
        }),
    );
}

/// Errors that are not independent: what the guards are for.
fn bursts() {
    let usual = Sequential::new(1.25);
    let bare = [Column::new("no guards: good aborted in %", usual.clone().unprotected().judge())];
    let columns = [Column::new("default: good aborted in %", usual.judge())];
    let late = (20.0, [WINDOWS * 11 / 15, WINDOWS]);
    let rows = [
        ("independent", 100.0, 0.01, Errors::Independent),
        ("bursts of 5", 100.0, 0.001, Errors::Bursts(5.0)),
        ("bursts of 5", 100.0, 0.01, Errors::Bursts(5.0)),
        ("bursts of 20", 100.0, 0.01, Errors::Bursts(20.0)),
        ("bursts of 20", 1000.0, 0.01, Errors::Bursts(20.0)),
        ("uneven pods, 0.5", 1000.0, 0.01, Errors::Uneven(0.5)),
        ("uneven pods, 1", 100.0, 0.01, Errors::Uneven(1.0)),
        ("uneven pods, 1", 1000.0, 0.01, Errors::Uneven(1.0)),
        ("dead pods, 1 an hour", 100.0, 0.01, Errors::DeadPods(1.0)),
        ("dead pods, 0.1 an hour", 100.0, 0.01, Errors::DeadPods(0.1)),
        ("shock", 100.0, 0.001, Errors::Shock),
        ("shock", 1000.0, 0.01, Errors::Shock),
    ]
    .into_iter()
    .map(|(name, rps, rate, errors)| {
        let kind = Kind { errors, ..Kind::good(rps, rate) };
        let mut cells = judged(kind, GOOD, &bare);
        cells.extend(judged(kind, GOOD, &columns));
        cells.extend(judged(kind.worse(5.0), BAD, &columns));
        // Counted from the moment at which it turns bad; those that were aborted before are false.
        let mut last = judged(Kind { canary: late, ..kind }, BAD, &columns);
        last.iter_mut().for_each(|cell| cell.begins((late.1[0] * SCRAPE) as f64));
        cells.extend(last);
        (format!("{name}, {rps} rps, {} %", rate * 100.0), cells)
    });
    let heads = ["no guards: good aborted in %", "default: good aborted in %", "x5", "x20 from minute 11 on"];
    let heads = heads.map(|head| Column::new(head, Box::new(|_| None)));
    told("Errors that are not independent: aborted in % / mean seconds / failed requests", &heads, Cell::all, rows);
}

/// Both sides ten times as bad in the last third: a test that pools different weights blames the canary.
fn pooled() {
    let columns = [
        Column::new("compare", Sequential::new(1.25).judge()),
        Column::new("binomial, all windows in one", naive(0.01)),
    ];
    let kind = Kind { last_third: 10.0, ..Kind::good(100.0, 0.01) };
    let rows = [("100 rps, 1 %".to_owned(), judged(kind, GOOD, &columns))];
    told("An outage of both sides at 50 %: good canaries aborted in %", &columns, Cell::percent, rows);
}

/// A canary whose caches are cold.
fn cold() {
    let usual = Sequential::new(1.25);
    let columns = [
        Column::new("compare from the begin on", usual.clone().judge()),
        Column::new("warmup of 60 s", usual.clone().without(COLD)),
        Column::new("warmup of 120 s", usual.without(2 * COLD)),
    ];
    let rows = [(100.0, 3.0, COLD), (1000.0, 3.0, COLD), (100.0, 10.0, 2 * COLD), (1000.0, 10.0, 2 * COLD)]
        .into_iter()
        .map(|(rps, factor, windows)| {
            let kind = Kind { canary: (factor, [0, windows]), ..Kind::good(rps, 0.01) };
            let name = format!("{rps} rps, 1 %, x{factor} for {} s", windows * SCRAPE);
            (name, judged(kind, GOOD, &columns))
        });
    told("Good canaries that begin cold: aborted in %", &columns, Cell::percent, rows);
}

/// One side against an objective of 1 %.
fn limit() {
    let columns = [
        Column::new("limit 0.01", Sequential::limit(0.01).judge()),
        Column::new("Argo .99, limit 1", argo(0.99, 1, 1)),
    ];
    let rows = [1.0, 10.0, 100.0].into_iter().flat_map(|rps| [0.005, 0.01, 0.05, 0.2].map(|rate| (rps, rate)));
    let rows = rows.map(|(rps, rate)| {
        let runs = if rate > 0.01 { BAD } else { GOOD };
        (format!("{rps} rps, canary at {} %", rate * 100.0), judged(Kind::good(rps, rate), runs, &columns))
    });
    told("A limit of 1 %: aborted in % / mean seconds / failed requests", &columns, Cell::all, rows);
}
