//! What kube-controller-manager and kubelets do for Jobs: each runs for a while and ends as the story says of its metric. Knows
//! what must never be: a measurement whose Job ran twice, or was created again while it was awaited.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::prometheus::{Answered, Prometheus};
use super::story::Answer;
use crate::api::names;
use crate::api::status::Assessment;
use crate::embedded::Cluster;
use crate::embedded::log::Change;
use crate::embedded::store::key_of;

/// How long a Job runs.
const RUNS: Duration = Duration::from_secs(4);

/// All Jobs.
pub struct Jobs {
    prometheus: Arc<Prometheus>,
    running: BTreeMap<(String, String), Run>,
    /// UIDs of the Jobs that there were, by measurement.
    created: BTreeMap<String, BTreeSet<String>>,
    /// Names of the Jobs that the status waits for.
    awaited: BTreeSet<String>,
    /// Measurements that had a Job too many. A creation that the API server carries out after its Job was deleted is none:
    /// nobody waits for that one, and it is deleted.
    twice: BTreeSet<String>,
    /// How Jobs ended that no status tells yet, by name.
    ended: BTreeMap<String, Answered>,
}

struct Run {
    uid: String,
    id: String,
    began: Instant,
}

impl Jobs {
    /// None.
    pub fn new(prometheus: Arc<Prometheus>) -> Self {
        Self {
            prometheus,
            running: BTreeMap::new(),
            created: BTreeMap::new(),
            awaited: BTreeSet::new(),
            twice: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }

    /// Measurements whose Job ran twice, or was created again while it was awaited.
    pub fn twice(&self) -> impl Iterator<Item = &str> {
        self.twice.iter().map(String::as_str)
    }

    /// How many Jobs there were.
    pub fn count(&self) -> usize {
        self.created.values().map(BTreeSet::len).sum()
    }

    /// Takes a change of a Job in, and of a Rollout that tells how one ended.
    pub fn see(&mut self, change: &Change) {
        match change.plural {
            "rollouts" => self.hear(&change.object),
            "jobs" if change.is_removal() => {
                self.running.remove(&key_of(&change.object));
            }
            "jobs" => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let metadata = &change.object["metadata"];
                let (uid, id) = (text(&metadata["uid"]), text(&metadata["annotations"][names::MEASUREMENT]));
                let uids = self.created.entry(id.clone()).or_default();
                if uids.insert(uid.clone()) {
                    if uids.len() > 1 && self.awaited.contains(&text(&metadata["name"])) {
                        self.twice.insert(id.clone());
                    }
                    self.running.insert(key_of(&change.object), Run { uid, id, began: Instant::now() });
                }
            }
            _ => {}
        }
    }

    /// What a status counts was heard.
    fn hear(&mut self, rollout: &Value) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let metrics = list(&rollout["status"]["analysis"]).into_iter().flat_map(|analysis| list(&analysis["metrics"]));
        let metrics: Vec<Value> = metrics.collect();
        self.awaited = metrics.iter().filter_map(|metric| Some(metric["job"]["name"].as_str()?.to_owned())).collect();
        for measurement in metrics.iter().flat_map(|metric| list(&metric["measurements"])) {
            let told = measurement["value"].as_str().and_then(|value| value.strip_prefix("Job "));
            let name = told.and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            if let Some(mut answered) = self.ended.remove(name) {
                answered.answered_at = Instant::now();
                self.prometheus.hear(answered);
            }
        }
    }

    /// Ends the Jobs whose time has come. When to look again.
    pub fn act(&mut self, cluster: &Cluster) -> Option<Instant> {
        let now = Instant::now();
        let due = |run: &Run| run.began + RUNS <= now;
        let ended: Vec<(String, String)> =
            self.running.iter().filter(|(_, run)| due(run)).map(|(key, _)| key.clone()).collect();
        for key in ended {
            let Some(run) = self.running.remove(&key) else { continue };
            let Some(job) = cluster.get("jobs", &key.0, &key.1).filter(|job| job["metadata"]["uid"] == run.uid) else {
                continue;
            };
            if self.created.get(&run.id).is_some_and(|uids| uids.len() > 1) {
                self.twice.insert(run.id.clone());
            }
            let mut parts = run.id.split('/');
            let revision = parts.next().unwrap_or_default().to_owned();
            let metric = parts.nth(3).unwrap_or_default().to_owned();
            let is_bad = matches!(self.prometheus.answer(&revision, &metric), Answer::Bad);
            let condition = if is_bad {
                json!({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"})
            } else {
                json!({"type": "Complete", "status": "True", "reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"})
            };
            let mut job = Value::clone(&job);
            job["status"] = json!({"conditions": [condition]});
            let _ = cluster.write_status("jobs", job);
            let assessment = Some(if is_bad { Assessment::Failure } else { Assessment::Success });
            let value = key.1.clone();
            let (id, asked_at) = (run.id, run.began);
            self.ended.insert(
                key.1,
                Answered { id, revision, metric, asker: u64::MAX, asked_at, answered_at: now, assessment, value },
            );
        }
        self.running.values().map(|run| run.began + RUNS).min()
    }
}
