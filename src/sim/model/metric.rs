//! What must follow from the answers of Prometheus: a metric that failed is followed by an abort.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{LATE, Model, STALE};
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
        let is_plain = |metric: &&Value| metric["onNoData"].is_null() && metric["consecutiveSuccessLimit"].is_null();
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0);
        let read = |metric: &Value| Metric {
            name: metric["name"].as_str().unwrap_or_default().to_owned(),
            count: number(&metric["count"]),
            failure_limit: number(&metric["failureLimit"]),
        };
        metrics.filter(is_plain).map(read).collect()
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
            let mut failures = answers
                .values()
                .filter(|answer| answer.assessment == Some(Assessment::Failure))
                .map(|answer| answer.answered_at);
            let decisive = failures.nth(usize::try_from(limit).unwrap_or(0));
            failed = failed.into_iter().chain(decisive).min();
        }
        failed
    }

    /// Whether a metric of a revision failed, be it before an interruption that may have passed unseen.
    pub fn may_abort(&self, revision: &str, answered: &[Answered]) -> bool {
        self.failed_at(revision, answered, STALE).is_some()
    }

    /// Whether a metric of a revision failed while that could still stop it. What failed before an interruption is forgotten
    /// if that was seen.
    pub fn must_abort(&self, revision: &str, answered: &[Answered]) -> bool {
        let is_stable = self.stable.as_deref() == Some(revision);
        let until = self.stable_since.filter(|_| is_stable);
        self.failed_at(revision, answered, Duration::ZERO)
            .is_some_and(|failed| until.is_none_or(|until| failed < until))
    }

    /// S6: a metric that failed is followed by an abort, whatever else goes wrong.
    pub(super) fn check_abort(&mut self, answered: &[Answered]) {
        let Some(wanted) = self.wanted().map(str::to_owned) else { return };
        let is_excused = self.aborted.as_ref() == Some(&wanted)
            || self.stable.as_ref() == Some(&wanted)
            || self.jumped_at.is_some()
            || self.acts.iter().any(|(_, action)| action.starts_with("promote"));
        let has_failed = answered.iter().any(|answer| answer.assessment == Some(Assessment::Failure));
        if is_excused || !has_failed {
            return;
        }
        if let Some(failed) = self.failed_at(&wanted, answered, Duration::ZERO).filter(|failed| failed.elapsed() > LATE)
        {
            self.breaks_for_long(
                "abort",
                "S6",
                format!("{wanted} is not aborted {} s after its metric failed", failed.elapsed().as_secs()),
            );
        }
    }
}

/// What the model knows of a metric.
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) count: i64,
    pub(super) failure_limit: i64,
}

/// Good answers of a metric of a revision since then, each question once.
pub(super) fn good_answers(answered: &[Answered], revision: &str, metric: &str, since: Instant) -> usize {
    let good = answered.iter().filter(|answer| {
        answer.revision == revision
            && answer.metric == metric
            && answer.asked_at >= since
            && answer.assessment == Some(Assessment::Success)
    });
    good.map(|answer| &answer.id).collect::<BTreeSet<_>>().len()
}
