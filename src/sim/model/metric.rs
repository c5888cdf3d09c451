//! What must follow from the answers of Prometheus: a metric that failed is followed by an abort.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{LATE, Model, STALE};
use crate::api::duration::DurationText;
use crate::api::status::Assessment;
use crate::sim::prometheus::Answered;

/// Answers by the id of their question.
type Answers<'a> = BTreeMap<&'a str, &'a Answered>;

impl Model {
    pub(super) fn metrics(&self, template: &str) -> Vec<Metric> {
        let found = ["analysistemplates", "clusteranalysistemplates"]
            .iter()
            .find_map(|plural| self.git.get(&((*plural).to_owned(), template.to_owned())));
        let metrics = found.and_then(|template| template["spec"]["metrics"].as_array()).into_iter().flatten();
        let is_plain = |metric: &&Value| {
            ["onNoData", "consecutiveSuccessLimit", "compare"].iter().all(|field| metric[*field].is_null())
        };
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0);
        let read = |metric: &Value| Metric {
            name: metric["name"].as_str().unwrap_or_default().to_owned(),
            count: number(&metric["count"]),
            failure_limit: number(&metric["failureLimit"]),
            interval: duration(&metric["interval"]),
        };
        metrics.filter(is_plain).map(read).collect()
    }

    /// The metrics of all templates of an analysis.
    fn metrics_of(&self, analysis: &Value) -> impl Iterator<Item = Metric> {
        let templates = analysis["templates"].as_array().into_iter().flatten();
        templates.flat_map(|one| self.metrics(one["templateName"].as_str().unwrap_or_default()))
    }

    /// What a revision lacks to pass the analysis of a step since its weight is in force.
    pub(super) fn gate_lacks(
        &self,
        revision: &str,
        step: &Value,
        since: Instant,
        answered: &[Answered],
    ) -> Option<String> {
        // A clock that jumps ahead brings the next measurement at once.
        let has_jumped = self.jumped_at.is_some_and(|jumped| jumped >= since);
        let timed = |metric: Metric| if has_jumped { Metric { interval: Duration::ZERO, ..metric } } else { metric };
        self.metrics_of(&step["analysis"]).map(timed).find_map(|metric| metric.lacks(revision, since, answered))
    }

    /// What a revision lacks for a weight when its steps were edited: gates of all the lists of steps that there were of late.
    pub(super) fn gates_lack(
        &self,
        revision: &str,
        weight: f64,
        began: Instant,
        answered: &[Answered],
    ) -> Option<String> {
        if self.has_acted(&["promote"], began) {
            return None;
        }
        let of_late = self.specs_of_late(STALE).iter().filter(|spec| spec.hash == revision);
        let lacks = of_late.map(|spec| {
            let steps = spec.value["strategy"]["canary"]["steps"].as_array().into_iter().flatten();
            let mut before = steps.take_while(|step| step["setWeight"].as_f64().is_none_or(|own| own + 0.01 < weight));
            before.find_map(|step| self.gate_lacks(revision, step, began, answered))
        });
        lacks.collect::<Option<Vec<String>>>().and_then(|lacks| lacks.into_iter().next())
    }

    /// When the newest analysis of a metric of a revision had more failures than its limit allows.
    /// An interruption as short as `unseen` by another revision does not count.
    pub fn failed_at(&self, revision: &str, answered: &[Answered], unseen: Duration) -> Option<Instant> {
        let mut limits: BTreeMap<String, i64> = BTreeMap::new();
        for (_, name) in self.git.keys().filter(|(plural, _)| plural.ends_with("analysistemplates")) {
            limits.extend(self.metrics(name).into_iter().map(|metric| (metric.name, metric.failure_limit)));
        }
        let began = self.began_at(revision, unseen)?;
        // By analysis and metric; of answers to the same question only the last was heard for sure.
        let mut analyses: BTreeMap<(String, String), BTreeMap<String, Answers<'_>>> = BTreeMap::new();
        for answer in answered.iter().filter(|answer| answer.revision == revision && answer.asked_at >= began) {
            let parts: Vec<&str> = answer.id.split('/').collect();
            let [_, attempt, step, started, metric, _] = parts.as_slice() else { continue };
            let of_step = analyses.entry((format!("{attempt}/{step}"), (*metric).to_owned())).or_default();
            of_step.entry((*started).to_owned()).or_default().insert(&answer.id, answer);
        }
        let mut failed: Option<Instant> = None;
        for ((_, metric), started) in &analyses {
            let newest = started.values().max_by_key(|answers| answers.values().map(|answer| answer.asked_at).max());
            let Some(answers) = newest else { continue };
            let limit = limits.get(metric).copied().unwrap_or(0);
            let failures = answers.values().filter(|answer| answer.assessment == Some(Assessment::Failure));
            let failures: BTreeSet<Instant> = failures.map(|answer| answer.answered_at).collect();
            let decisive = failures.into_iter().nth(usize::try_from(limit).unwrap_or(0));
            failed = failed.into_iter().chain(decisive).min();
        }
        failed
    }

    /// Whether a metric of a revision failed, be it before an interruption that passed while every controller was dead.
    pub fn may_abort(&self, revision: &str, answered: &[Answered]) -> bool {
        self.failed_at(revision, answered, LATE).is_some()
    }

    /// Whether a metric of a revision failed while that could still stop it. What failed before an interruption is forgotten
    /// if that was seen.
    pub fn must_abort(&self, revision: &str, answered: &[Answered]) -> bool {
        let is_stable = self.stable.as_deref() == Some(revision);
        let until = self.stable_since.filter(|_| is_stable);
        self.failed_at(revision, answered, Duration::ZERO)
            .is_some_and(|failed| until.is_none_or(|until| failed < until))
    }

    /// S6: a metric that failed is followed by an abort, whatever else goes wrong; traffic leaves even if it cannot be recorded.
    pub(super) fn check_abort(&mut self, answered: &[Answered]) {
        let Some(wanted) = self.wanted().map(str::to_owned) else { return };
        let is_excused = self.aborted.as_ref() == Some(&wanted)
            || self.stable.as_ref() == Some(&wanted)
            || self.jumped_at.is_some()
            || self.has_acted(&["promote", "promoteFull"], self.began);
        let has_failed = answered.iter().any(|answer| answer.assessment == Some(Assessment::Failure));
        if is_excused || !has_failed {
            return;
        }
        let failed = self.failed_at(&wanted, answered, Duration::ZERO).filter(|failed| failed.elapsed() > LATE);
        let Some(failed) = failed else { return };
        let seconds = failed.elapsed().as_secs();
        if self.status_refused_at.is_none_or(|at| at + LATE < Instant::now()) {
            let message = format!("{wanted} is not aborted {seconds} s after its metric failed");
            self.breaks_for_long("abort", "S6", message);
        }
        if let Some(weight) = self.kept_for_long(&wanted).filter(|_| self.may_move()) {
            let message = format!("{wanted} has {weight:.0}% {seconds} s after its metric failed");
            self.breaks_for_long("abort's traffic", "S6", message);
        }
    }

    /// Looks now and then whether a failed metric is followed by an abort, though nothing changes.
    pub fn see_answers(&mut self, answered: &[Answered]) {
        if self.looked_at.elapsed() > STALE && self.gone_at.is_none() {
            self.looked_at = Instant::now();
            self.check_abort(answered);
        }
    }

    /// Whether the background analysis of a revision has had no answer for so long that no step may be passed.
    pub(super) fn is_silent(&self, revision: &str, began: Instant, answered: &[Answered]) -> bool {
        let Some(spec) = self.specs.iter().rfind(|spec| spec.hash == revision) else { return false };
        let mut metrics = self.metrics_of(&spec.value["strategy"]["canary"]["analysis"]);
        let is_silent = |metric: Metric| {
            let own = |answer: &&Answered| {
                answer.revision == revision && answer.metric == metric.name && answer.asked_at >= began
            };
            let silent: Vec<Instant> = answered
                .iter()
                .filter(own)
                .rev()
                .take_while(|answer| answer.assessment.is_none() && ["no data", "NaN"].contains(&answer.value.as_str()))
                .map(|answer| answer.answered_at)
                .collect();
            silent.first().is_some_and(|last| last.elapsed() < STALE)
                && silent.last().is_some_and(|first| first.elapsed() > STALE)
        };
        metrics.any(is_silent)
    }
}

pub(super) fn duration(value: &Value) -> Duration {
    let text = serde_json::from_value(value.clone()).unwrap_or(DurationText::Seconds(0));
    text.parse().ok().and_then(|duration| Duration::try_from(duration).ok()).unwrap_or_default()
}

impl Metric {
    /// What a revision lacks to pass.
    fn lacks(&self, revision: &str, since: Instant, answered: &[Answered]) -> Option<String> {
        let good = good_answers(answered, revision, &self.name, since);
        let wanted = usize::try_from(self.count - self.failure_limit).unwrap_or(0);
        let (name, found) = (&self.name, good.len());
        if found < wanted {
            return Some(format!("{name} has {found} good answers since its weight is in force and needs {wanted}"));
        }
        let took = good.last().zip(good.first()).map_or(Duration::ZERO, |(last, first)| *last - *first);
        let least = self.interval * u32::try_from(wanted.saturating_sub(1)).unwrap_or(0);
        (took + EARLY < least).then(|| format!("{name} has {found} good answers within {} s", took.as_secs()))
    }
}

/// How much earlier than after its interval a measurement may come: what a pass and a request take.
const EARLY: Duration = Duration::from_secs(1);

/// What the model knows of a metric.
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) count: i64,
    pub(super) failure_limit: i64,
    pub(super) interval: Duration,
}

/// When the good answers of a metric of a revision since then were asked for, each question once.
fn good_answers(answered: &[Answered], revision: &str, metric: &str, since: Instant) -> Vec<Instant> {
    let good = answered.iter().filter(|answer| {
        answer.revision == revision
            && answer.metric == metric
            && answer.asked_at >= since
            && answer.assessment == Some(Assessment::Success)
    });
    let mut asked: Vec<Instant> =
        good.map(|answer| (&answer.id, answer.asked_at)).collect::<BTreeMap<_, _>>().into_values().collect();
    asked.sort();
    asked
}
