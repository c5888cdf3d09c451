//! What the dashboard has seen of Rollouts since it was started: the API server keeps no series over time, so that the page keeps
//! its own, in memory, within bounds. A status tells its last measurements, decisions and events with their times; those are
//! known from before, too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher as watch};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch::{Receiver, Sender};

use crate::api::event::RolloutEvent;
use crate::api::status::{AnalysisKind, Decision, EvidenceStatus, MeasurementStatus, RevisionStatus};
use crate::api::watched::Rollout;
use crate::cli::outcome;
use crate::controller::clock::Clock;

/// Samples, measurements of a metric, and decisions or events that are kept of a Rollout.
const SAMPLES: usize = 2_000;
const MEASUREMENTS: usize = 1_000;
const MARKS: usize = 200;

/// Namespace and name.
pub type Key = (String, String);

/// What one revision had at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its hash.
    pub hash: String,
    /// Percent of traffic wanted, in the route, and by the proxies' route where that is known.
    pub weight: i32,
    /// In the route.
    pub observed: i32,
    /// By the route that every proxy has.
    pub in_force: Option<i32>,
    /// Pods wanted.
    pub replicas: i32,
    /// Pods ready.
    pub ready: i32,
}

impl Side {
    fn of(side: &RevisionStatus) -> Self {
        Self {
            hash: side.hash.clone(),
            weight: side.weight,
            observed: side.observed_weight,
            in_force: side.weight_in_force,
            replicas: side.replicas,
            ready: side.ready,
        }
    }
}

/// A Rollout at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it was seen.
    pub at: Timestamp,
    /// The step under way.
    pub step: Option<String>,
    /// The canary.
    pub canary: Option<Side>,
    /// Stable.
    pub stable: Option<Side>,
}

/// A metric, and where its analysis belongs.
pub type Measured = (String, AnalysisKind);

/// What was seen of one Rollout.
#[derive(Debug, Clone)]
pub struct Past {
    /// Since when samples are taken.
    pub since: Timestamp,
    /// Each change of weights, pods and steps, oldest first.
    pub samples: VecDeque<Sample>,
    /// Measurements by metric and time.
    pub measurements: BTreeMap<Measured, BTreeMap<Timestamp, MeasurementStatus>>,
    /// What metrics with `compare` and `limit` had seen, by time.
    pub evidence: BTreeMap<Measured, BTreeMap<Timestamp, EvidenceStatus>>,
    /// Decisions, oldest first.
    pub decisions: VecDeque<Decision>,
    /// Events by number.
    pub events: BTreeMap<i64, RolloutEvent>,
}

impl Past {
    /// What a Rollout tells of itself.
    pub fn of(rollout: &Rollout, now: Timestamp) -> Self {
        let mut past = Self::new(now);
        past.take(rollout, now);
        past
    }

    /// Nothing yet.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            samples: VecDeque::new(),
            measurements: BTreeMap::new(),
            evidence: BTreeMap::new(),
            decisions: VecDeque::new(),
            events: BTreeMap::new(),
        }
    }

    /// Takes a Rollout in as it is now.
    fn take(&mut self, rollout: &Rollout, now: Timestamp) {
        let status = &rollout.status;
        let sample = Sample {
            at: now,
            step: status.step.clone(),
            canary: status.canary.as_ref().map(Side::of),
            stable: status.stable.as_ref().map(Side::of),
        };
        if self.samples.back().is_none_or(|last| Sample { at: now, ..last.clone() } != sample) {
            self.samples.push_back(sample);
        }
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
            self.since = self.samples.front().map_or(now, |sample| sample.at);
        }
        for analysis in &status.analysis {
            for metric in &analysis.metrics {
                let key = (metric.name.clone(), analysis.kind);
                let known = self.measurements.entry(key.clone()).or_default();
                known.extend(metric.measurements.iter().map(|one| (one.at, one.clone())));
                bound(known, MEASUREMENTS);
                if let Some(evidence) = &metric.evidence {
                    let at = metric.measurements.last().map_or(now, |last| last.at);
                    let known = self.evidence.entry(key).or_default();
                    known.insert(at, evidence.clone());
                    bound(known, MEASUREMENTS);
                }
            }
        }
        for decision in &status.decisions {
            if !self.decisions.contains(decision) {
                self.decisions.push_back(decision.clone());
            }
        }
        while self.decisions.len() > MARKS {
            self.decisions.pop_front();
        }
        self.events.extend(status.events.iter().map(|event| (event.sequence, event.clone())));
        bound(&mut self.events, MARKS);
    }
}

fn bound<K: Ord, V>(map: &mut BTreeMap<K, V>, most: usize) {
    while map.len() > most {
        map.pop_first();
    }
}

/// One Rollout as last seen, and what was seen of it before.
#[derive(Debug, Clone)]
pub struct Known {
    /// The Rollout.
    pub rollout: Arc<Rollout>,
    /// What was seen of it.
    pub past: Past,
    /// Rises with each change.
    pub version: u64,
}

#[derive(Default)]
struct Inner {
    known: BTreeMap<Key, Known>,
    /// Those that a list under way has named.
    listed: BTreeSet<Key>,
    is_listed: bool,
    trouble: Option<String>,
}

/// All Rollouts that are watched.
pub struct Seen {
    inner: Mutex<Inner>,
    version: Sender<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { inner: Mutex::default(), version: Sender::new(0) }
    }
}

impl Seen {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells each change.
    pub fn changes(&self) -> Receiver<u64> {
        self.version.subscribe()
    }

    /// One Rollout.
    pub fn get(&self, key: &Key) -> Option<Known> {
        self.inner().known.get(key).cloned()
    }

    /// The number of one Rollout's last change; 0 where there is none.
    pub fn version_of(&self, key: &Key) -> u64 {
        self.inner().known.get(key).map_or(0, |known| known.version)
    }

    /// All Rollouts, by namespace and name.
    pub fn all(&self) -> Vec<Arc<Rollout>> {
        self.inner().known.values().map(|known| known.rollout.clone()).collect()
    }

    /// Why what is shown may be old, or lacking; none where all is well.
    pub fn trouble(&self) -> Option<String> {
        self.inner().trouble.clone()
    }

    /// Whether Rollouts were listed at all.
    pub fn is_listed(&self) -> bool {
        self.inner().is_listed
    }

    fn put(&self, rollout: Rollout, now: Timestamp) {
        let version = *self.version.borrow() + 1;
        let key = key_of(&rollout);
        let mut inner = self.inner();
        let before = inner.known.remove(&key);
        let same = before.filter(|known| known.rollout.metadata.uid == rollout.metadata.uid);
        let mut past = same.map_or_else(|| Past::new(now), |known| known.past);
        past.take(&rollout, now);
        inner.known.insert(key, Known { rollout: Arc::new(rollout), past, version });
    }

    /// Takes an event of the watch in.
    fn take(&self, event: Event<Rollout>, now: Timestamp) {
        let mut is_new = true;
        match event {
            Event::Apply(rollout) => self.put(rollout, now),
            Event::Delete(rollout) => drop(self.inner().known.remove(&key_of(&rollout))),
            Event::Init => {
                self.inner().listed.clear();
                is_new = false;
            }
            Event::InitApply(rollout) => {
                self.inner().listed.insert(key_of(&rollout));
                self.put(rollout, now);
                is_new = false;
            }
            Event::InitDone => {
                let mut inner = self.inner();
                let listed = std::mem::take(&mut inner.listed);
                inner.known.retain(|key, _| listed.contains(key));
                inner.is_listed = true;
            }
        }
        self.inner().trouble = None;
        if is_new {
            self.version.send_modify(|version| *version += 1);
        }
    }

    fn fail(&self, error: watcher::Error) {
        let told = outcome::told(&anyhow::Error::new(error));
        if self.inner().trouble.replace(told.clone()).as_ref() != Some(&told) {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Watches Rollouts for as long as it is polled.
    pub async fn follow(&self, api: Api<Rollout>, clock: Clock) {
        let mut events = pin!(watch(api, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(event, clock()),
                Err(error) => self.fail(error),
            }
        }
    }
}

/// Where a Rollout is.
pub fn key_of(rollout: &Rollout) -> Key {
    (rollout.namespace().unwrap_or_default(), rollout.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(uid: &str, status: &Value) -> Rollout {
        serde_json::from_value(json!({
            "metadata": {"name": "checkout", "namespace": "shop", "uid": uid}, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status(weight: i32, measured: &[i64]) -> Value {
        let measurements: Vec<Value> =
            measured.iter().map(|second| json!({"at": at(*second), "assessment": "Success", "value": "1"})).collect();
        json!({
            "canary": {"hash": "b", "weight": weight, "observedWeight": weight},
            "analysis": [{"kind": "Step", "step": 1, "startedAt": at(0), "verdict": "Running",
                "metrics": [{"name": "rate", "measurements": measurements}]}],
            "decisions": [{"at": at(0), "by": "serin", "what": "Start", "why": ""}],
        })
    }

    #[test]
    fn what_changed_is_kept_once() {
        let seen = Seen::default();
        for (second, weight, measured) in [(10, 0, &[1, 2][..]), (11, 0, &[2, 3]), (12, 20, &[3])] {
            seen.take(Event::Apply(rollout("a", &status(weight, measured))), at(second));
        }
        let known = seen.get(&("shop".into(), "checkout".into())).unwrap();
        let weights: Vec<(i64, i32)> = known
            .past
            .samples
            .iter()
            .map(|sample| (sample.at.as_second(), sample.canary.as_ref().unwrap().weight))
            .collect();
        assert_eq!((known.past.since, weights), (at(10), vec![(10, 0), (12, 20)]));
        let taken = &known.past.measurements[&("rate".to_owned(), AnalysisKind::Step)];
        assert_eq!(taken.keys().copied().collect::<Vec<_>>(), [at(1), at(2), at(3)], "each once, from before, too");
        assert_eq!(known.past.decisions.len(), 1);
        // Another object of the same name begins anew.
        seen.take(Event::Apply(rollout("b", &json!({}))), at(20));
        assert_eq!(seen.get(&("shop".into(), "checkout".into())).unwrap().past.since, at(20));
    }

    #[test]
    fn what_is_kept_has_bounds() {
        let mut past = Past::new(at(0));
        for second in 0..3_000 {
            let weight = i32::try_from(second % 100).unwrap();
            past.take(&rollout("a", &status(weight, &[second])), at(second));
        }
        assert_eq!((past.samples.len(), past.since), (SAMPLES, at(1_000)));
        assert!(past.measurements.values().all(|taken| taken.len() == MEASUREMENTS));
    }

    #[test]
    fn a_new_list_tells_what_is_gone() {
        let seen = Seen::default();
        let key = ("shop".to_owned(), "checkout".to_owned());
        assert!(!seen.is_listed());
        seen.take(Event::Init, at(0));
        seen.take(Event::InitApply(rollout("a", &json!({}))), at(0));
        seen.take(Event::InitDone, at(0));
        assert!(seen.is_listed() && seen.get(&key).is_some());
        seen.take(Event::Init, at(1));
        assert!(seen.get(&key).is_some(), "nothing is gone before the list is whole");
        seen.take(Event::InitDone, at(1));
        assert!(seen.get(&key).is_none());
    }
}
