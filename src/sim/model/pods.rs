//! What must be true of pods: they come before weight, weight follows them down, and no revision loses its last one too early.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{LATE, Model, STALE, Spec};
use crate::api::names;
use crate::embedded::log::Change;
use crate::sim::kubelet::Kubelet;
use crate::sim::mesh::Mesh;

impl Model {
    /// Notes how many pods are ready, and checks what follows from that.
    pub fn see_pods(&mut self, kubelet: &Kubelet) {
        let now = Instant::now();
        let stable = self.stable.as_deref();
        // With no stable pod everything goes to a canary that has some (S2).
        if stable.is_some_and(|stable| kubelet.ready_of(names::REVISION_HASH, stable) == 0) {
            self.stable_lacked = Some(now);
        }
        let revisions: BTreeSet<String> = self.specs.iter().map(|spec| spec.hash.clone()).collect();
        for revision in revisions {
            let ready = kubelet.ready_of(names::REVISION_HASH, &revision);
            let known = self.ready.entry(revision).or_default();
            if known.last().map(|(_, ready)| *ready) != Some(ready) {
                known.push((now, ready));
            }
        }
        self.check_carried();
        self.check_deadline();
    }

    /// The most pods of a revision that were ready at any time since then.
    fn ready_since(&self, revision: &str, since: Instant) -> usize {
        let known = self.ready.get(revision).map_or(&[][..], Vec::as_slice);
        let from = known.partition_point(|(at, _)| *at <= since).saturating_sub(1);
        known.iter().skip(from).map(|(_, ready)| *ready).max().unwrap_or(0)
    }

    /// S2, S3: what a weight needs of ready pods, and a revision did not have at any time of late.
    pub(super) fn lacks_pods(&self, revision: &str, weight: f64, of_late: Duration) -> Option<String> {
        let since = Instant::now().checked_sub(of_late).unwrap_or(self.began).max(self.began);
        let first = self.specs.iter().rposition(|spec| spec.at <= since).unwrap_or(0);
        let specs = self.specs.get(first..).unwrap_or_default();
        let is_plain = |spec: &Spec| {
            let canary = &spec.value["strategy"]["canary"];
            let has_scale = |step: &Value| step.get("setCanaryScale").is_some();
            !canary["steps"].as_array().into_iter().flatten().any(has_scale) && canary["dynamicStableScale"] != true
        };
        let replicas = specs.iter().filter_map(|spec| spec.value["replicas"].as_u64()).min().unwrap_or(1);
        if replicas == 0 || !specs.iter().all(is_plain) {
            return None;
        }
        let ready = self.ready_since(revision, since);
        let ready_share = u32::try_from(ready).map_or(f64::INFINITY, f64::from);
        let replicas = u32::try_from(replicas).map_or(1.0, f64::from);
        let most = if ready == 0 { 0.0 } else { (ready_share + 1.0) * 100.0 / replicas };
        (weight > most + 0.5).then(|| format!("at most {ready} of {replicas} pods were ready"))
    }

    /// S3: weight follows the pods down.
    fn check_carried(&mut self) {
        let was_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < LATE);
        if was_recent(self.stable_lacked) || was_recent(self.missed_at) {
            return;
        }
        let heavy = self.assigned.iter().find_map(|(revision, weights)| {
            let (since, weight) = weights.last()?;
            let is_stable = self.stable.as_ref().is_none_or(|stable| stable == revision);
            // What Git says of a route is Git's.
            if is_stable || *weight <= 0.0 || since.elapsed() < LATE {
                return None;
            }
            self.lacks_pods(revision, *weight, LATE).map(|lack| format!("{revision} keeps {weight}%: {lack}"))
        });
        if let Some(message) = heavy {
            self.breaks_for_long("weight", "S3", message);
        }
    }

    /// A revision that never has a ready pod is aborted at its deadline.
    fn check_deadline(&mut self) {
        let Some(wanted) = self.wanted().map(str::to_owned) else { return };
        let is_decided = |hash: &Option<String>| hash.as_ref() == Some(&wanted);
        let is_excused =
            self.stable.is_none() || is_decided(&self.stable) || is_decided(&self.aborted) || self.jumped_at.is_some();
        let Some(began) = self.began_at(&wanted, Duration::ZERO).filter(|_| !is_excused) else { return };
        let since_then: Vec<&Spec> = self.specs.iter().filter(|spec| spec.at >= began).collect();
        let deadline = since_then.iter().filter_map(|spec| spec.value["progressDeadlineSeconds"].as_u64()).max();
        let wants_pods = since_then.iter().all(|spec| spec.value["replicas"].as_u64() != Some(0));
        let Some(deadline) = deadline.filter(|_| wants_pods).map(Duration::from_secs) else { return };
        if began.elapsed() > deadline + LATE && self.ready_since(&wanted, began) == 0 {
            let seconds = began.elapsed().as_secs();
            self.breaks_for_long(
                "deadline",
                "liveness",
                format!("{wanted} has had no ready pod for {seconds} s and is not aborted"),
            );
        }
    }

    /// S4: no revision that a proxy may still send requests to loses its last pod.
    pub(super) fn check_scale(&mut self, change: &Change, mesh: &Mesh) {
        let (set, before) = (&change.object, change.before.as_deref());
        let wanted = |set: &Value| set["spec"]["replicas"].as_i64().unwrap_or(1);
        let was = before.map_or(0, wanted);
        let is = if change.is_removal() { 0 } else { wanted(set) };
        let revision = set["metadata"]["labels"][names::REVISION_HASH].as_str().unwrap_or_default().to_owned();
        let replicas = self.specs.last().and_then(|spec| spec.value["replicas"].as_i64()).unwrap_or(1);
        let is_routed =
            self.specs.last().is_some_and(|spec| spec.value["strategy"]["canary"].get("trafficRouting").is_some());
        let was_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < STALE);
        let may_not_know = was_recent(self.jumped_at) || was_recent(self.missed_at);
        if is > 0 || was == 0 || replicas == 0 || !is_routed || may_not_know {
            return;
        }
        let weight = mesh.weights().get(&revision).copied().unwrap_or(0.0);
        if weight > 0.0 {
            self.breaks("S4", format!("{revision} loses its last pod, and a proxy gives it {weight:.0}%"));
        } else if let Some(last) = mesh.last_weight_at(&revision).filter(|last| last.elapsed() < self.drain) {
            let left = self.drain.saturating_sub(last.elapsed());
            self.breaks("S4", format!("{revision} loses its last pod {} ms before it is drained", left.as_millis()));
        }
    }
}
