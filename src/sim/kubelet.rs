//! What kube-controller-manager and kubelets do for ReplicaSets: pods come, become ready, go, as the story says. A Deployment is
//! played as one set of pods: how it replaces them is not looked at.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::story::Pods;
use crate::api::names;
use crate::embedded::Cluster;
use crate::embedded::log::Change;
use crate::embedded::store::key_of;
use crate::embedded::world;

/// After what time a pod is ready where the story says nothing else.
const READY_AFTER: Duration = Duration::from_secs(3);
/// How long a pod that is deleted still serves: its preStop hook and its grace.
const GRACE: Duration = Duration::from_secs(2);

/// Labels of a pod.
pub type Labels = BTreeMap<String, String>;

/// Namespace and name.
type Key = (String, String);
/// A change that is not seen yet: when it is, the plural, the key and the object.
type Coming = (Instant, &'static str, Key, Value);

/// All pods.
pub struct Kubelet {
    began: Instant,
    sets: BTreeMap<(String, String), Set>,
    behaviours: BTreeMap<String, Pods>,
    leaving: BTreeMap<String, Instant>,
    created: u64,
    /// How late changes of ReplicaSets are seen.
    lag: Duration,
    /// Changes of ReplicaSets that are not seen yet, and when they are.
    coming: Vec<Coming>,
}

struct Set {
    /// What it is: a ReplicaSet, or a Deployment.
    plural: &'static str,
    image: String,
    labels: Labels,
    /// A pod of its template, without a name.
    born: Value,
    generation: i64,
    wanted: usize,
    least_ready: Duration,
    pods: Vec<Pod>,
}

struct Pod {
    name: String,
    created: Instant,
    ready_since: Option<Instant>,
}

impl Kubelet {
    /// No pods.
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            sets: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            leaving: BTreeMap::new(),
            created: 0,
            lag: Duration::ZERO,
            coming: Vec::new(),
        }
    }

    /// Pods of an image behave so from now on.
    pub fn behave(&mut self, image: &str, pods: Pods) {
        self.behaviours.insert(image.to_owned(), pods);
    }

    /// Changes of ReplicaSets are seen so late from now on.
    pub fn set_lag(&mut self, lag: Duration) {
        self.lag = lag;
    }

    /// Every pod behaves well from now on.
    pub fn heal(&mut self) {
        self.behaviours.clear();
    }

    /// Takes a change of a ReplicaSet or of a pod in.
    pub fn see(&mut self, change: &Change) {
        let key = key_of(&change.object);
        match change.plural {
            "replicasets" | "deployments" if change.is_removal() => {
                self.coming.retain(|(_, _, coming, _)| *coming != key);
                let gone = self.sets.remove(&key);
                let leaves = Instant::now() + GRACE;
                self.leaving.extend(gone.into_iter().flat_map(|set| set.pods).map(|pod| (pod.name, leaves)));
            }
            "replicasets" | "deployments" => self.hear_of(change.plural, key, &change.object),
            "pods" if change.is_removal() => {
                for set in self.sets.values_mut() {
                    set.pods.retain(|pod| pod.name != key.1);
                }
                self.leaving.entry(key.1).or_insert_with(|| Instant::now() + GRACE);
            }
            _ => {}
        }
    }

    /// A ReplicaSet has changed: that is seen at once, or once all is seen that came before.
    fn hear_of(&mut self, plural: &'static str, key: Key, object: &Value) {
        let before = self.coming.iter().filter(|(_, _, coming, _)| *coming == key).map(|(at, ..)| *at).max();
        if self.lag.is_zero() && before.is_none() {
            self.take_set(plural, key, object);
        } else {
            let at = before.into_iter().chain([Instant::now() + self.lag]).max();
            self.coming.extend(at.map(|at| (at, plural, key, object.clone())));
        }
    }

    /// Takes in what is seen by now.
    fn catch_up(&mut self, now: Instant) {
        let (seen, coming): (Vec<Coming>, Vec<Coming>) =
            std::mem::take(&mut self.coming).into_iter().partition(|(at, ..)| *at <= now);
        self.coming = coming;
        seen.into_iter().for_each(|(_, plural, key, object)| self.take_set(plural, key, &object));
    }

    fn take_set(&mut self, plural: &'static str, key: Key, object: &Value) {
        let labels = object.pointer("/spec/template/metadata/labels").and_then(Value::as_object);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let pods = self.sets.remove(&key).map(|set| set.pods).unwrap_or_default();
        let set = Set {
            plural,
            image: text(object.pointer("/spec/template/spec/containers/0/image").unwrap_or(&Value::Null)),
            labels: labels.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect(),
            born: world::pod(object, ""),
            generation: object["metadata"]["generation"].as_i64().unwrap_or(0),
            wanted: usize::try_from(object["spec"]["replicas"].as_u64().unwrap_or(1)).unwrap_or(0),
            least_ready: Duration::from_secs(number(&object["spec"]["minReadySeconds"])),
            pods,
        };
        self.sets.insert(key, set);
    }

    /// So many ready pods of an image are gone at once, without grace.
    pub fn evict(&mut self, image: &str, count: usize, cluster: &Cluster) {
        let mut gone = Vec::new();
        for (key, set) in self.sets.iter_mut().filter(|(_, set)| set.image == image) {
            let left = set.pods.len().saturating_sub(count);
            gone.extend(set.pods.drain(left..).map(|pod| (key.0.clone(), pod.name)));
        }
        for (namespace, name) in gone {
            self.leaving.insert(name.clone(), Instant::now());
            let _ = cluster.delete("pods", &namespace, &name);
        }
    }

    /// Does what is due: pods come and go, the counts are written. When to look again.
    pub fn act(&mut self, cluster: &Cluster) -> Option<Instant> {
        let now = Instant::now();
        self.catch_up(now);
        self.leaving.retain(|_, leaves| *leaves > now);
        let coming = self.coming.iter().map(|(at, ..)| *at);
        let mut next: Option<Instant> = self.leaving.values().copied().chain(coming).min();
        let mut writes = Vec::new();
        for (key, set) in &mut self.sets {
            let behaviour = self.behaviours.get(&set.image).copied().unwrap_or(Pods::ReadyAfter(millis(READY_AFTER)));
            set.turn(now, self.began, behaviour);
            while set.pods.len() > set.wanted {
                let pod = set.pods.remove(set.dispensable());
                self.leaving.insert(pod.name.clone(), now + GRACE);
                writes.push(Write::Delete(key.0.clone(), pod.name));
            }
            while set.pods.len() < set.wanted {
                self.created += 1;
                let name = format!("{}-{:05}", key.1, self.created);
                let mut born = set.born.clone();
                born["metadata"]["name"] = json!(name);
                writes.push(Write::Create(born));
                set.pods.push(Pod { name, created: now, ready_since: None });
            }
            set.turn(now, self.began, behaviour);
            writes.push(Write::Status(set.plural, key.clone(), set.status(now)));
            next = next.into_iter().chain(set.next(now, self.began, behaviour)).min();
        }
        writes.into_iter().for_each(|write| carry_out(cluster, write));
        next
    }

    /// Ready pods with their labels.
    pub fn ready(&self) -> impl Iterator<Item = (&str, &Labels)> {
        self.sets.values().flat_map(|set| {
            let ready = set.pods.iter().filter(|pod| pod.ready_since.is_some());
            ready.map(|pod| (pod.name.as_str(), &set.labels))
        })
    }

    /// Whether a pod still answers requests: it is ready, or deleted and within its grace.
    pub fn answers(&self, pod: &str) -> bool {
        let is_ready = |own: &Pod| own.name == pod && own.ready_since.is_some();
        self.leaving.get(pod).is_some_and(|leaves| *leaves > Instant::now())
            || self.sets.values().flat_map(|set| &set.pods).any(is_ready)
    }

    /// Ready pods of a revision's own, by the value of a label.
    pub fn ready_of(&self, label: &str, value: &str) -> usize {
        let is_own = |labels: &Labels| !labels.contains_key(names::BASELINE);
        self.ready().filter(|(_, labels)| is_own(labels) && labels.get(label).is_some_and(|own| own == value)).count()
    }
}

enum Write {
    Create(Value),
    Delete(String, String),
    Status(&'static str, (String, String), Counts),
}

/// What the status of a ReplicaSet counts.
struct Counts {
    pods: usize,
    ready: usize,
    available: usize,
    generation: i64,
}

impl Counts {
    fn is_in(&self, status: &Value) -> bool {
        status["replicas"] == self.pods
            && status["readyReplicas"] == self.ready
            && status["availableReplicas"] == self.available
            && status["observedGeneration"] == self.generation
    }

    fn write(&self) -> Value {
        json!({
            "replicas": self.pods, "fullyLabeledReplicas": self.pods, "readyReplicas": self.ready,
            "availableReplicas": self.available, "observedGeneration": self.generation,
        })
    }
}

fn carry_out(cluster: &Cluster, write: Write) {
    match write {
        Write::Create(pod) => {
            let _ = cluster.create("pods", pod);
        }
        Write::Delete(namespace, name) => {
            let _ = cluster.delete("pods", &namespace, &name);
        }
        Write::Status(plural, (namespace, name), status) => {
            if let Some(set) = cluster.get(plural, &namespace, &name)
                && !status.is_in(&set["status"])
            {
                let mut set = Value::clone(&set);
                set["status"] = status.write();
                let _ = cluster.write_status(plural, set);
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Set {
    /// Lets pods become ready, or not ready.
    fn turn(&mut self, now: Instant, began: Instant, behaviour: Pods) {
        for (at, pod) in self.pods.iter_mut().enumerate() {
            let after = match behaviour {
                Pods::ReadyAfter(after) => Duration::from_millis(after),
                Pods::Unready(_) | Pods::Flapping(_) | Pods::Crashing(_) => READY_AFTER,
            };
            let is_up = match behaviour {
                Pods::ReadyAfter(_) => true,
                Pods::Unready(count) => at >= count,
                Pods::Flapping(period) => is_up(now, began, period),
                Pods::Crashing(period) => at == 0 && is_up(now, began, period),
            };
            // A pod that was ready stays so, unless its image misbehaves.
            let is_ready = is_up && (pod.ready_since.is_some() || pod.created + after <= now);
            pod.ready_since = if is_ready { pod.ready_since.or(Some(now)) } else { None };
        }
    }

    /// The pod that a ReplicaSet gives up first: one that is not ready, then the youngest.
    fn dispensable(&self) -> usize {
        let rank = |(at, pod): &(usize, &Pod)| (pod.ready_since.is_some(), std::cmp::Reverse((pod.created, *at)));
        self.pods.iter().enumerate().min_by_key(rank).map_or(0, |(at, _)| at)
    }

    fn status(&self, now: Instant) -> Counts {
        let ready = self.pods.iter().filter_map(|pod| pod.ready_since);
        let available = ready.clone().filter(|since| *since + self.least_ready <= now).count();
        Counts { pods: self.pods.len(), ready: ready.count(), available, generation: self.generation }
    }

    fn next(&self, now: Instant, began: Instant, behaviour: Pods) -> Option<Instant> {
        let after = match behaviour {
            Pods::ReadyAfter(after) => Duration::from_millis(after),
            Pods::Unready(_) | Pods::Flapping(_) | Pods::Crashing(_) => READY_AFTER,
        };
        let turns = self.pods.iter().filter(|pod| pod.ready_since.is_none()).map(|pod| pod.created + after);
        let available = self.pods.iter().filter_map(|pod| Some(pod.ready_since? + self.least_ready));
        let flap = match behaviour {
            Pods::Flapping(period) | Pods::Crashing(period) if !self.pods.is_empty() => {
                Some(next_flap(now, began, period))
            }
            Pods::Flapping(_) | Pods::Crashing(_) | Pods::ReadyAfter(_) | Pods::Unready(_) => None,
        };
        turns.chain(available).chain(flap).filter(|at| *at > now).min()
    }
}

fn is_up(now: Instant, began: Instant, period: u64) -> bool {
    (millis(now - began) / period.max(1)).is_multiple_of(2)
}

fn next_flap(now: Instant, began: Instant, period: u64) -> Instant {
    let turns = millis(now - began) / period.max(1) + 1;
    began + Duration::from_millis(turns * period.max(1))
}
