//! Metrics with conditions on the values of the past, by the controller's own rules. There was no canary, so that only good
//! releases can be told.

use jiff::{SignedDuration, Timestamp};

use super::canary::Canary;
use super::judge::at;
use super::plan::{Plan, REVISION, widened};
use super::report::{MetricReport, Row, Tried};
use super::source::{POINTS, Source};
use crate::api::status::{AnalysisKind, Verdict};
use crate::plan::analysis::{begin, due, record};
use crate::plan::measurement::{CounterQuery, Measurement, Sample};
use crate::plan::template::Metric;
use crate::plan::weigh::Ground;

/// Time between two values where the metric names no interval.
const STEP: SignedDuration = SignedDuration::from_secs(60);
/// Failure limits that are tried beside the template's own.
const LIMITS: [i32; 6] = [0, 1, 2, 3, 5, 10];
/// Measurements of an analysis at most: its conditions are the controller's, and so is an analysis without end.
const MOST: usize = 100_000;

/// The answers of a query from the begin of a release on.
pub(super) struct Values {
    begin: Timestamp,
    step: SignedDuration,
    /// The numbers of each instant; nothing where there were none.
    numbers: Vec<Vec<f64>>,
}

impl Values {
    /// What the query would have answered.
    fn at(&self, now: Timestamp) -> Sample {
        let steps = now.duration_since(self.begin).as_millis().div_euclid(self.step.as_millis().max(1));
        let numbers = usize::try_from(steps).ok().and_then(|steps| self.numbers.get(steps));
        Sample::Vector(numbers.cloned().unwrap_or_default())
    }
}

/// Asks for the values of a metric during a release.
pub(super) async fn past(source: &Source, plan: &Plan, metric: &Metric, begin: Timestamp) -> anyhow::Result<Values> {
    let step = metric.interval.unwrap_or(STEP).min(STEP);
    let steps = i32::try_from(plan.lasts().as_secs() / step.as_secs().max(1)).unwrap_or(i32::MAX).min(POINTS - 1);
    let asked = CounterQuery { texts: Vec::new(), from: begin, step, steps };
    let text = widened(metric.query().unwrap_or_default(), &plan.rollout);
    let mut series = source.series(&text, &asked).await?;
    series.sort_by(|one, other| one.labels.cmp(&other.labels));
    let instants = 0..=usize::try_from(steps)?;
    let values = instants.map(|at| series.iter().filter_map(|one| one.values.get(at).copied().flatten()).collect());
    Ok(Values { begin, step, numbers: values.collect() })
}

/// What the conditions say of every release.
pub(super) fn judged(plan: &Plan, metric: &Metric, pasts: &[&Values]) -> MetricReport {
    let pasts: Vec<&&Values> =
        pasts.iter().filter(|past| past.numbers.iter().any(|numbers| !numbers.is_empty())).collect();
    let mut report = MetricReport::new(metric, "threshold", pasts.len());
    let limits = LIMITS.into_iter().map(Some).filter(|limit| *limit != metric.failure_limit);
    let mut tried = [metric.failure_limit].into_iter().chain(limits).map(|limit| {
        let metric = Metric { failure_limit: limit, is_dry: false, ..metric.clone() };
        let mut row = Row::new(Canary::Good, plan.alpha);
        for past in &pasts {
            row.add(aborted(plan, &metric, past), 0.0);
        }
        (limit.map_or("failureLimit -1".to_owned(), |limit| format!("failureLimit {limit}")), row)
    });
    if let Some((own, row)) = tried.next() {
        report.own = own;
        report.canaries = vec![row];
    }
    report.alternatives = tried.map(|(name, row)| Tried::new(name, vec![row])).collect();
    report.advise();
    let query = metric.query().unwrap_or_default();
    report.notes.push(if query.contains(REVISION) {
        "how soon it would have caught a bad canary cannot be told: there was none; the values are those of all revisions".to_owned()
    } else {
        "the query names no revision: it has the same value whatever the canary does, and at a small weight it hides a canary that fails".to_owned()
    });
    report
}

/// Seconds until a good release is aborted, if it is: a step's analysis is one of each weight, one without end is one of all.
fn aborted(plan: &Plan, metric: &Metric, past: &Values) -> Option<f64> {
    let mut begins = SignedDuration::ZERO;
    let mut phases = Vec::new();
    for phase in &plan.phases {
        phases.push((begins, begins + phase.lasts));
        begins += phase.lasts;
    }
    if metric.count.is_none() {
        phases = vec![(SignedDuration::ZERO, begins)];
    }
    let failed = phases
        .into_iter()
        .find_map(|(from, to)| failed_at(metric, past, at(past.begin, from).ok()?, at(past.begin, to).ok()?));
    failed.map(|failed| failed.duration_since(past.begin).as_secs_f64())
}

/// When one analysis fails, if it does, by the controller's own steps: what is due is answered, and recorded.
fn failed_at(metric: &Metric, past: &Values, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
    let metrics = std::slice::from_ref(metric);
    let mut analysis = begin(AnalysisKind::Step, Some(0), from);
    let mut now = from;
    for _ in 0..MOST {
        let ground = Ground {
            prefix: "",
            now,
            in_force: Some(from),
            weight: 0,
            ready: 0,
            baseline: (0, 0),
            warmup: SignedDuration::ZERO,
            until_decided: false,
        };
        let (queries, next) = due(&analysis, metrics, &[], &ground);
        let Some(query) = queries.into_iter().next() else {
            now = next.filter(|next| *next > now && *next <= to)?;
            continue;
        };
        let answer = Measurement { id: query.id, started_at: now, finished_at: now, outcome: Ok(past.at(now)) };
        analysis = record(analysis, metrics, &[answer], &mut Vec::new(), &ground);
        match analysis.verdict {
            Verdict::Fail => return Some(now),
            Verdict::Running => {}
            Verdict::Pass | Verdict::Inconclusive => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::analysis::OnNoData;
    use crate::plan::template::Source as Asks;

    #[test]
    fn a_failure_too_many_aborts_when_it_is_measured() {
        let begin = Timestamp::UNIX_EPOCH;
        let step = SignedDuration::from_secs(60);
        let metric = |limit| Metric {
            name: "rate".into(),
            template: "t".into(),
            provider: "default".into(),
            source: Asks::Value("q".into()),
            interval: Some(step),
            delay: SignedDuration::ZERO,
            count: None,
            failure_limit: Some(limit),
            inconclusive_limit: 0,
            error_limit: 4,
            enough_successes: None,
            success: Some("result[0] >= 0.99".into()),
            failure: None,
            hold: None,
            on_no_data: OnNoData::Wait,
            is_dry: false,
            kept: 10,
        };
        let values = [1.0, 0.5, 1.0, 1.0, 0.5, 1.0].map(|value| vec![value]).to_vec();
        let past = Values { begin, step, numbers: values };
        let end = at(begin, SignedDuration::from_secs(300)).unwrap();
        let seconds = |limit| failed_at(&metric(limit), &past, begin, end).map(Timestamp::as_second);
        assert_eq!([seconds(0), seconds(1), seconds(2)], [Some(60), Some(240), None]);
    }
}
