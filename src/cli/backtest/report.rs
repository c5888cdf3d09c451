//! What came out, for people and programs.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::canary::Canary;
use super::plan::Plan;
use crate::plan::template::Metric;

const DRY: &str = "it runs dry and judges nothing; this is what it would do if it judged";

/// What came out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) rollout: String,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    /// Releases that were tried.
    pub(super) releases: usize,
    /// Their weights.
    pub(super) steps: Vec<StepReport>,
    pub(super) metrics: Vec<MetricReport>,
    /// What was assumed.
    pub(super) notes: Vec<String>,
}

/// A weight, and how long it lasts.
#[derive(Debug, Serialize)]
pub(super) struct StepReport {
    pub(super) weight: i32,
    pub(super) seconds: f64,
}

/// What came out of one metric.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetricReport {
    pub(super) template: String,
    pub(super) metric: String,
    /// `compare`, `limit` or `threshold`.
    pub(super) kind: &'static str,
    /// Releases that had data.
    pub(super) releases: usize,
    /// The template's own thresholds.
    pub(super) own: String,
    /// What they say of each canary.
    pub(super) canaries: Vec<Row>,
    /// What others would say.
    pub(super) alternatives: Vec<Tried>,
    /// What to do.
    pub(super) advice: String,
    /// What cannot be told.
    pub(super) notes: Vec<String>,
}

/// Other thresholds, and what they say of each canary.
#[derive(Debug, Serialize)]
pub(super) struct Tried {
    pub(super) thresholds: String,
    pub(super) canaries: Vec<Row>,
}

/// One canary in all releases.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) canary: String,
    /// Whether an abort is a mistake.
    pub(super) is_good: bool,
    pub(super) releases: u32,
    /// Seconds from the begin to each abort, in ascending order.
    pub(super) aborted_after: Vec<f64>,
    /// Bad requests of the canary until the abort or the end, of all releases.
    pub(super) harmed: f64,
    /// The probability of a mistake that is promised.
    pub(super) promised: f64,
}

impl Row {
    pub(super) fn new(canary: Canary, promised: f64) -> Self {
        Self {
            canary: canary.name(),
            is_good: canary.is_good(),
            releases: 0,
            aborted_after: Vec::new(),
            harmed: 0.0,
            promised,
        }
    }

    /// One release more.
    pub(super) fn add(&mut self, aborted: Option<f64>, harmed: f64) {
        self.releases += 1;
        self.harmed += harmed;
        if let Some(seconds) = aborted {
            let place = self.aborted_after.partition_point(|known| *known <= seconds);
            self.aborted_after.insert(place, seconds);
        }
    }

    fn aborted(&self) -> f64 {
        u32::try_from(self.aborted_after.len()).map_or(f64::INFINITY, f64::from)
    }

    /// How many are aborted, in percent.
    pub(super) fn percent(&self) -> f64 {
        100.0 * self.aborted() / f64::from(self.releases.max(1))
    }

    /// Seconds until half of those that are aborted are.
    pub(super) fn median(&self) -> Option<f64> {
        self.aborted_after.get(self.aborted_after.len() / 2).copied()
    }

    /// Bad requests of the canary, a release.
    pub(super) fn harm(&self) -> f64 {
        self.harmed / f64::from(self.releases.max(1))
    }

    /// Whether more are aborted than what is promised makes likely: three standard deviations.
    fn breaks_promise(&self) -> bool {
        let mean = f64::from(self.releases) * self.promised;
        self.is_good && self.aborted() > (mean + 3.0 * mean.sqrt()).max(1.0)
    }

    /// Whether no more are aborted than promised.
    fn keeps_promise(&self) -> bool {
        !self.is_good || self.aborted() <= (f64::from(self.releases) * self.promised).ceil()
    }
}

impl Tried {
    pub(super) fn new(thresholds: String, canaries: Vec<Row>) -> Self {
        Self { thresholds, canaries }
    }
}

impl Report {
    pub(super) fn new(plan: &Plan, since: SignedDuration, until: Timestamp, releases: usize) -> Self {
        let step = |phase: &super::plan::Phase| StepReport { weight: phase.weight, seconds: phase.lasts.as_secs_f64() };
        Self {
            rollout: plan.rollout.clone(),
            from: until.checked_sub(since).unwrap_or(until),
            until,
            releases,
            steps: plan.phases.iter().map(step).collect(),
            metrics: Vec::new(),
            notes: plan.notes.clone(),
        }
    }

    /// Whether good releases would have been aborted more often than promised.
    pub(super) fn breaks_promise(&self) -> bool {
        self.metrics.iter().flat_map(|metric| &metric.canaries).any(Row::breaks_promise)
    }

    /// How long a release lasts, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }
}

/// The worst percentage of good canaries that are aborted.
fn mistakes(canaries: &[Row]) -> f64 {
    canaries.iter().filter(|row| row.is_good).map(Row::percent).fold(0.0, f64::max)
}

/// What bad canaries cost: bad requests until they are aborted, of all of them.
fn harm(canaries: &[Row]) -> f64 {
    canaries.iter().filter(|row| !row.is_good).map(Row::harm).sum()
}

impl MetricReport {
    pub(super) fn new(metric: &Metric, kind: &'static str, releases: usize) -> Self {
        Self {
            template: metric.template.clone(),
            metric: metric.name.clone(),
            kind,
            releases,
            own: String::new(),
            canaries: Vec::new(),
            alternatives: Vec::new(),
            advice: String::new(),
            notes: metric.is_dry.then(|| DRY.to_owned()).into_iter().collect(),
        }
    }

    /// Which thresholds to take: those that harm the least of what leaves good canaries alone. What is there stays unless
    /// another saves a tenth.
    pub(super) fn advise(&mut self) {
        const WORTH: f64 = 0.9;
        let promised = self.canaries.first().map_or(0.0, |row| row.promised * 100.0);
        let is_fine = |canaries: &[Row]| canaries.iter().all(Row::keeps_promise);
        let least = |one: &&Tried, other: &&Tried| harm(&one.canaries).total_cmp(&harm(&other.canaries));
        // Of equals the first: the nearest to what is usual.
        let best = self.alternatives.iter().filter(|tried| is_fine(&tried.canaries)).min_by(least);
        let now = mistakes(&self.canaries);
        self.advice = if self.releases == 0 {
            "Prometheus has no such requests in that time: is the name right, and is the metric scraped?".to_owned()
        } else {
            match (is_fine(&self.canaries), best) {
                (true, Some(best)) if harm(&best.canaries) < WORTH * harm(&self.canaries) => format!(
                    "{} would do better: {:.0} failed requests until a bad canary is aborted in place of {:.0}, and {:.1} % of good ones aborted",
                    best.thresholds,
                    mean_harm(&best.canaries),
                    mean_harm(&self.canaries),
                    mistakes(&best.canaries)
                ),
                (true, _) => format!("keep {}", self.own),
                (false, Some(best)) => format!(
                    "take {}: {:.1} % of good canaries aborted in place of {now:.1} %, where {promised:.2} % are promised",
                    best.thresholds,
                    mistakes(&best.canaries)
                ),
                (false, None) => format!(
                    "{now:.1} % of good canaries aborted, and no threshold that was tried leaves them alone; \
                     choose another metric, or find out which requests fail"
                ),
            }
        };
    }

    /// Says what a hypothetical canary cannot show.
    pub(super) fn limits_of_method(&mut self, has_stable: bool, has_pods: bool) {
        if has_stable && !has_pods {
            self.notes.push(
                "without counters of stable's own pods, requests are dealt one by one: what only whole pods have, such as bursts, is not seen"
                    .to_owned(),
            );
        }
        if self.canaries.iter().any(|row| row.canary == "x2" && row.harmed == 0.0) {
            self.notes.push("there was no bad request in that time: so many times as many are none, too".to_owned());
        }
    }
}

fn mean_harm(canaries: &[Row]) -> f64 {
    let bad = canaries.iter().filter(|row| !row.is_good).count().max(1);
    harm(canaries) / u32::try_from(bad).map_or(1.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(canary: Canary, aborted: u32, of: u32, harmed: f64) -> Row {
        let mut row = Row::new(canary, 0.01);
        (0..of).for_each(|at| row.add((at < aborted).then_some(f64::from(at)), harmed));
        row
    }

    fn report(own: Vec<Row>, other: Vec<Row>) -> MetricReport {
        MetricReport {
            template: "t".into(),
            metric: "m".into(),
            kind: "compare",
            releases: 200,
            own: "own".into(),
            canaries: own,
            alternatives: vec![Tried::new("other".into(), other)],
            advice: String::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_leaves_good_canaries_alone_and_harms_least_is_advised() {
        let check = |(own, harmed): (u32, f64), (other, less): (u32, f64), wanted: &str| {
            let rows =
                |aborted, harmed| vec![row(Canary::Good, aborted, 200, 0.0), row(Canary::Times(5.0), 200, 200, harmed)];
            let mut report = report(rows(own, harmed), rows(other, less));
            report.advise();
            assert!(report.advice.starts_with(wanted), "{}", report.advice);
        };
        check((1, 50.0), (1, 49.0), "keep own");
        check((1, 50.0), (2, 20.0), "other would do better");
        check((1, 50.0), (9, 20.0), "keep own");
        check((9, 50.0), (2, 80.0), "take other");
        check((9, 50.0), (9, 80.0), "4.5 % of good");
    }

    #[test]
    fn a_promise_is_broken_beyond_chance_alone() {
        for (aborted, wanted) in [(0, false), (2, false), (6, false), (7, true), (50, true)] {
            assert_eq!(row(Canary::Good, aborted, 200, 0.0).breaks_promise(), wanted, "{aborted}");
            assert!(!row(Canary::Times(2.0), aborted, 200, 0.0).breaks_promise(), "an abort of a bad one is none");
        }
    }
}
