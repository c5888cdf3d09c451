//! What kube-controller-manager and kubelets do: pods of ReplicaSets become ready after a while, Jobs are complete, garbage goes.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Cluster;
use super::kind::KINDS;
use super::store::{Object, key_of};

/// How often the world looks.
const PERIOD: Duration = Duration::from_millis(20);

/// Plays pods for ever: each is ready `ready_after` its ReplicaSet wanted it.
pub async fn run(cluster: Cluster, ready_after: SignedDuration) {
    let mut pods: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
    let (mut seen, mut played, mut awaits_jobs) = (0, Timestamp::MIN, false);
    loop {
        let now = (cluster.clock)();
        let version = cluster.state().log.version();
        let awaits_pods = pods.values().flatten().any(|pod| pod.ready_at > played);
        if version != seen || awaits_pods || awaits_jobs {
            play(&cluster, ready_after, &mut pods);
            awaits_jobs = play_jobs(&cluster, ready_after);
            collect_garbage(&cluster);
            (seen, played) = (version, now);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// One pod.
struct Pod {
    name: String,
    ready_at: Timestamp,
    /// Whether its status says that it is ready; nothing while it says nothing.
    told: Option<bool>,
}

impl Pod {
    /// Writes its status where that changes.
    fn tell(&mut self, cluster: &Cluster, namespace: &str, now: Timestamp) {
        let is_ready = self.ready_at <= now;
        if self.told == Some(is_ready) {
            return;
        }
        let Some(pod) = cluster.get("pods", namespace, &self.name) else { return };
        let mut pod = Value::clone(&pod);
        pod["status"] = json!({
            "phase": if is_ready { "Running" } else { "Pending" },
            "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
            "containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": is_ready, "restartCount": 0}],
        });
        let _ = cluster.write_status("pods", pod);
        self.told = Some(is_ready);
    }
}

/// A pod of a ReplicaSet's template.
pub fn pod(set: &Value, name: &str) -> Value {
    let (metadata, of_pods) = (&set["metadata"], &set["spec"]["template"]["metadata"]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": metadata["namespace"],
            "labels": of_pods["labels"], "annotations": of_pods["annotations"],
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": set["kind"], "name": metadata["name"], "uid": metadata["uid"], "controller": true,
            }],
        },
    })
}

/// One look at every ReplicaSet: creates and removes pods, counts the ready ones.
fn play(cluster: &Cluster, ready_after: SignedDuration, pods: &mut BTreeMap<String, Vec<Pod>>) {
    let now = (cluster.clock)();
    for replica_set in cluster.list("replicasets") {
        let uid = replica_set["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let (namespace, set) = key_of(&replica_set);
        let wanted = usize::try_from(replica_set["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap_or(0);
        let own = pods.entry(uid).or_default();
        own.retain(|pod| cluster.get("pods", &namespace, &pod.name).is_some());
        for gone in own.drain(wanted.min(own.len())..) {
            let _ = cluster.delete("pods", &namespace, &gone.name);
        }
        while own.len() < wanted {
            let name = format!("{set}-{}", cluster.state().log.version());
            let _ = cluster.create("pods", pod(&replica_set, &name));
            own.push(Pod { name, ready_at: now.checked_add(ready_after).unwrap_or(now), told: None });
        }
        own.iter_mut().for_each(|pod| pod.tell(cluster, &namespace, now));
        let ready = own.iter().filter(|pod| pod.ready_at <= now).count();
        let status = json!({
            "replicas": wanted, "fullyLabeledReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready,
            "observedGeneration": replica_set["metadata"]["generation"],
        });
        if replica_set["status"] != status {
            let mut next = Value::clone(&replica_set);
            next["status"] = status;
            let _ = cluster.write_status("replicasets", next);
        }
    }
}

/// One look at every Job: it is complete once a pod of it would have been ready. Whether there is one that is not.
fn play_jobs(cluster: &Cluster, runs: SignedDuration) -> bool {
    let now = (cluster.clock)();
    let mut awaits = false;
    for job in cluster.list("jobs").into_iter().filter(|job| job["status"]["conditions"].is_null()) {
        let created = job["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        if created.and_then(|created| created.checked_add(runs).ok()).is_some_and(|ends| ends > now) {
            awaits = true;
            continue;
        }
        let mut next = Value::clone(&job);
        next["status"] = json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True", "reason": "CompletionsReached"}]});
        let _ = cluster.write_status("jobs", next);
    }
    awaits
}

/// Removes what an owner left behind.
pub fn collect_garbage(cluster: &Cluster) {
    let all: Vec<(&str, Object)> = KINDS
        .iter()
        .flat_map(|kind| cluster.list(kind.plural).into_iter().map(|object| (kind.plural, object)))
        .collect();
    let living: BTreeSet<&str> = all.iter().filter_map(|(_, object)| object["metadata"]["uid"].as_str()).collect();
    for (plural, object) in &all {
        let owners =
            object.pointer("/metadata/ownerReferences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_left = !owners.is_empty()
            && owners.iter().all(|owner| !owner["uid"].as_str().is_some_and(|uid| living.contains(uid)));
        if is_left {
            let (namespace, name) = key_of(object);
            let _ = cluster.delete(plural, &namespace, &name);
        }
    }
}
