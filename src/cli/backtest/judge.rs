//! What the metrics say of the hypothetical canaries: the controller's own tests and conditions, on the past.

use anyhow::{Context as _, bail};
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::canary::{Canary, Pod, Seen, Slice, of_pods, release, shares};
use super::plan::{Plan, widened};
use super::report::{MetricReport, Row, Tried};
use super::source::{POINTS, Source};
use super::value;
use crate::evidence::{self, Against, Count, Series, State, Test, Verdict};
use crate::plan::counted::{Counted, Counters, WINDOW};
use crate::plan::measurement::CounterQuery;
use crate::plan::template::Metric;
use crate::plan::weigh;

/// Canaries that are as good as stable, and those that are not.
const CANARIES: [Canary; 5] = [Canary::Good, Canary::Pods, Canary::Times(2.0), Canary::Times(5.0), Canary::More(0.01)];
/// Not less: these canaries are never cold, and real ones are.
const TOLERANCES: [f64; 4] = [1.25, 1.5, 2.0, 3.0];
const MIN_WINDOWS: [u32; 4] = [1, 2, 3, 5];
const LIMITS: [f64; 8] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1];

/// What was, around the begin of a hypothetical release.
pub(super) enum Past {
    /// Requests of each window.
    Counts(Counts),
    /// Answers of a query.
    Values(value::Values),
}

/// Requests of a release, and what was known before.
pub(super) struct Counts {
    slices: Vec<Slice>,
    pods: Vec<Pod>,
    dispersion: Option<f64>,
    bounds: usize,
}

/// Asks for the past of a metric around the begin of a release.
pub(super) async fn past(source: &Source, plan: &Plan, metric: &Metric, begin: Timestamp) -> anyhow::Result<Past> {
    let step = metric.interval.unwrap_or(WINDOW);
    if step.subsec_nanos() != 0 || step.as_secs() < 1 {
        bail!("metric {}: interval {step:#} is no whole number of seconds", metric.name);
    }
    let Some(counted) = metric.counted() else {
        return value::past(source, plan, metric, begin).await.map(Past::Values);
    };
    let count = |duration: SignedDuration| i32::try_from(weigh::steps_in(duration, step)).unwrap_or(i32::MAX);
    let (before, steps) = (count(weigh::PAST), count(plan.lasts()));
    if steps > POINTS - before {
        bail!("metric {}: a release of {:#} has too many windows; test a shorter one", metric.name, plan.lasts());
    }
    let from = begin.checked_sub(step.saturating_mul(before))?;
    let asked = CounterQuery { texts: Vec::new(), from, step, steps: before + steps };
    let asked = Asked { source, rollout: &plan.rollout, query: asked, before: usize::try_from(before)? };
    asked.counts(counted).await.map(Past::Counts)
}

/// Requests between two times, and how many of them were bad: of several bounds, at the one that most exceed.
pub(super) async fn sum(
    source: &Source,
    plan: &Plan,
    metric: &Metric,
    (from, until): (Timestamp, Timestamp),
) -> anyhow::Result<(f64, f64)> {
    let counted = metric.counted().context("counts no requests")?;
    let step = metric.interval.unwrap_or(WINDOW);
    let steps = weigh::steps_in(until.duration_since(from), step).clamp(1, i64::from(POINTS) - 1);
    let query = CounterQuery { texts: Vec::new(), from, step, steps: i32::try_from(steps)? };
    let counts = Asked { source, rollout: &plan.rollout, query, before: 0 }.counts(counted).await?;
    let requests = counts.slices.iter().map(|slice| slice.requests).sum();
    let of_bound = |bound: usize| counts.slices.iter().filter_map(|slice| slice.bad.get(bound)).sum();
    Ok((requests, (0..counts.bounds).map(of_bound).fold(0.0, f64::max)))
}

/// What the past cannot have.
const NO_BASELINE: &str = "the past has no baseline: canaries are held against all of stable, which has more requests than a baseline will have";

/// What all queries about one release have in common.
struct Asked<'a> {
    source: &'a Source,
    rollout: &'a str,
    query: CounterQuery,
    before: usize,
}

impl Asked<'_> {
    async fn series(&self, text: &str) -> anyhow::Result<Vec<Series>> {
        self.source.series(&widened(text, self.rollout), &self.query).await
    }

    async fn counts(&self, counted: &Counted) -> anyhow::Result<Counts> {
        match &counted.counters {
            Counters::Errors { canary, other, pods } => {
                let own = other.as_ref().filter(|_| !counted.is_against_baseline()).unwrap_or(canary);
                let (total, bad) = (self.series(&own.total).await?, self.series(&own.bad).await?);
                let mut counts =
                    Counts { slices: self.slices(&[(total, bad)]), pods: Vec::new(), dispersion: None, bounds: 1 };
                if let Some(pods) = pods {
                    let (total, bad) = (self.series(&pods.total).await?, self.series(&pods.bad).await?);
                    let before: Vec<Vec<Count>> =
                        evidence::windows(&total, &bad, self.query.instants()).into_iter().take(self.before).collect();
                    counts.dispersion = evidence::dispersion(&before);
                    counts.pods = total.into_iter().map(|pod| self.pod(pod, &bad)).collect();
                }
                Ok(counts)
            }
            Counters::Latency { canary, other, bound, .. } => {
                let own = other.as_ref().filter(|_| !counted.is_against_baseline()).unwrap_or(canary);
                let buckets = self.series(own).await?;
                let bounds = match bound {
                    Some(bound) => vec![*bound],
                    None => weigh::telling(&buckets, self.before + 1),
                };
                let each: Vec<_> = bounds.iter().map(|bound| evidence::slower(&buckets, *bound)).collect();
                Ok(Counts { slices: self.slices(&each), pods: Vec::new(), dispersion: None, bounds: bounds.len() })
            }
        }
    }

    /// The windows of the release, one entry a bound.
    fn slices(&self, bounds: &[(Vec<Series>, Vec<Series>)]) -> Vec<Slice> {
        let each: Vec<Vec<Count>> = bounds
            .iter()
            .map(|(total, bad)| {
                evidence::windows(total, bad, self.query.instants())
                    .into_iter()
                    .map(|pods| pods.into_iter().sum())
                    .collect()
            })
            .collect();
        let slice = |at: usize| {
            let counts: Vec<Count> = each.iter().filter_map(|windows| windows.get(at)).copied().collect();
            let requests = counts.iter().map(|count| count.requests).fold(0.0, f64::max);
            Slice { requests, bad: counts.iter().map(|count| count.bad).collect() }
        };
        (self.before..self.query.instants().saturating_sub(1)).map(slice).collect()
    }

    /// One pod in the windows of the release.
    fn pod(&self, pod: Series, bad: &[Series]) -> Pod {
        let windows = evidence::windows(&[pod], bad, self.query.instants());
        windows.into_iter().skip(self.before).map(|counts| counts.first().copied()).collect()
    }
}

/// What a metric says of every canary in every release.
pub(super) fn judged(plan: &Plan, metric: &Metric, pasts: &[Past], seed: u64) -> MetricReport {
    let Some(counted) = metric.counted() else {
        let values = pasts.iter().filter_map(|past| if let Past::Values(values) = past { Some(values) } else { None });
        return value::judged(plan, metric, &values.collect::<Vec<_>>());
    };
    let shares = shares(plan, metric.interval.unwrap_or(WINDOW));
    let counts: Vec<&Counts> = pasts
        .iter()
        .filter_map(|past| if let Past::Counts(counts) = past { Some(counts) } else { None })
        .filter(|counts| counts.slices.iter().any(|slice| slice.requests > 0.0))
        .collect();
    let has_stable = matches!(counted.test.against, Against::Stable { .. });
    let mut report = MetricReport::new(metric, if has_stable { "compare" } else { "limit" }, counts.len());
    let tests = tests(&counted.test, counts.iter().any(|one| one.pods.len() > 1));
    let mut tried: Vec<(Test, Vec<Row>)> = tests.into_iter().map(|test| (test, Vec::new())).collect();
    for canary in CANARIES {
        let mut chance = Rng::with_seed(seed);
        let releases: Vec<(&Counts, Vec<Seen>)> =
            counts.iter().filter_map(|one| Some((*one, made(one, &shares, canary, &mut chance)?))).collect();
        for (test, rows) in tried.iter_mut().filter(|_| !releases.is_empty()) {
            let mut row = Row::new(canary, test.alpha);
            for (one, seen) in &releases {
                let (aborted, harmed) = verdict(one, test, seen, metric, counted);
                row.add(aborted, harmed);
            }
            rows.push(row);
        }
    }
    let mut tried = tried.into_iter();
    if let Some((test, rows)) = tried.next() {
        report.alternatives = tried.map(|(other, rows)| Tried::new(told(&other), rows)).collect();
        report.own = told(&test);
        report.canaries = rows;
    }
    report.advise();
    if counted.is_against_baseline() {
        report.notes.push(NO_BASELINE.to_owned());
    }
    report.limits_of_method(has_stable, counts.iter().any(|one| one.pods.len() > 1));
    report
}

/// One canary in one release; none where the past has no such canary.
fn made(counts: &Counts, shares: &[(f64, bool)], canary: Canary, chance: &mut Rng) -> Option<Vec<Seen>> {
    if canary == Canary::Pods {
        return (counts.pods.len() > 1).then(|| of_pods(&counts.pods, shares, chance));
    }
    let requests: f64 = counts.slices.iter().map(|slice| slice.requests).sum();
    let bad = |at: usize| counts.slices.iter().filter_map(|slice| slice.bad.get(at)).sum::<f64>();
    let rates: Vec<f64> = (0..counts.bounds).map(|at| bad(at) / requests.max(1.0)).collect();
    Some(release(&counts.slices, shares, canary, &rates, chance))
}

/// The test of the template, and others that might do better.
fn tests(own: &Test, has_pods: bool) -> Vec<Test> {
    let against = match own.against {
        Against::Stable { tolerance, margin, floor } => {
            let others = TOLERANCES.into_iter().filter(|other| (other - tolerance).abs() > 1e-9);
            [tolerance]
                .into_iter()
                .chain(others)
                .map(|tolerance| Against::Stable { tolerance, margin, floor })
                .collect()
        }
        Against::Limit(limit) => {
            // An objective is not there to be tightened until it fits.
            let others = LIMITS.into_iter().filter(|other| *other > limit);
            [limit].into_iter().chain(others).map(Against::Limit).collect::<Vec<_>>()
        }
    };
    // Requests that are dealt one by one have no bursts: only whole pods tell whether fewer windows would do.
    let fewer = |windows: &u32| *windows != own.min_windows && (has_pods || *windows > own.min_windows);
    let windows: Vec<u32> = [own.min_windows].into_iter().chain(MIN_WINDOWS.into_iter().filter(fewer)).collect();
    let each = against.into_iter().flat_map(|against| windows.iter().map(move |least| (against, *least)));
    each.map(|(against, min_windows)| Test { against, min_windows, ..own.clone() }).collect()
}

/// A test in the words of a template.
fn told(test: &Test) -> String {
    match test.against {
        Against::Stable { tolerance, .. } => format!("tolerance {tolerance}, minWindows {}", test.min_windows),
        Against::Limit(limit) => format!("max {limit}, minWindows {}", test.min_windows),
    }
}

/// Seconds until a release is aborted, if it is, and bad requests of the canary until then.
fn verdict(counts: &Counts, test: &Test, seen: &[Seen], metric: &Metric, counted: &Counted) -> (Option<f64>, f64) {
    let step = metric.interval.unwrap_or(WINDOW).as_secs_f64();
    let test = test.knowing(counts.dispersion, counts.bounds);
    let mut state = State::new(&test);
    let mut end = 0.0;
    let aborted = seen.iter().find_map(|one| {
        end += step;
        if one.counts {
            test.look(&mut state, &one.windows);
        }
        // A window is asked for once the provider has all of it.
        (test.verdict(&state) == Verdict::Worse).then_some(end + counted.lag.as_secs_f64())
    });
    let mut begin = 0.0;
    let until = seen.iter().take_while(|_| {
        let is_before = aborted.is_none_or(|aborted| begin < aborted);
        begin += step;
        is_before
    });
    (aborted, until.map(|one| one.harmed).sum())
}

/// A number of seconds since the begin, as a time.
pub(super) fn at(begin: Timestamp, seconds: SignedDuration) -> anyhow::Result<Timestamp> {
    begin.checked_add(seconds).context("the time is out of range")
}
