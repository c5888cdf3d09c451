//! What must be true of pods: they come before weight, weight follows them down, and no revision loses its last one too early.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{LATE, Model, STALE, Spec, promotion};
use crate::api::names;
use crate::controller::proxies::search::Source;
use crate::embedded::Cluster;
use crate::embedded::log::Change;
use crate::embedded::store::Object;
use crate::sim::gateway;
use crate::sim::kubelet::Kubelet;
use crate::sim::mesh::{Mesh, is_followed};

impl Model {
    /// Notes how many pods are ready, and checks what follows from that.
    pub fn see_pods(&mut self, kubelet: &Kubelet) {
        let now = Instant::now();
        let stable = self.stable.as_deref();
        // With no stable pod everything goes to a canary that has some (S2). It lacked them until now if it did when last seen.
        let lacked =
            |stable: &str| self.ready.get(stable).and_then(|known| known.last()).is_some_and(|(_, ready)| *ready == 0);
        if stable.is_some_and(|stable| kubelet.ready_of(names::REVISION_HASH, stable) == 0 || lacked(stable)) {
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
        if self.gone_at.is_none() {
            self.check_carried();
            self.check_deadline();
            self.check_aborted();
            self.check_withdrawn();
            self.check_still_led();
            self.check_roles();
        }
    }

    /// The most pods of a revision that were ready at any time since then.
    pub(super) fn ready_since(&self, revision: &str, since: Instant) -> usize {
        let known = self.ready.get(revision).map_or(&[][..], Vec::as_slice);
        let from = known.partition_point(|(at, _)| *at <= since).saturating_sub(1);
        known.iter().skip(from).map(|(_, ready)| *ready).max().unwrap_or(0)
    }

    /// S2, S3: what a weight needs of ready pods, and a revision did not have at any time of late.
    pub(super) fn lacks_pods(&self, revision: &str, weight: f64, of_late: Duration) -> Option<String> {
        let since = Instant::now().checked_sub(of_late).unwrap_or(self.began).max(self.began);
        let specs = self.specs_of_late(of_late);
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
        if self.is_unsettled() {
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

    /// Whether traffic can leave a canary for stable.
    pub(super) fn may_move(&self) -> bool {
        let is_dynamic = |spec: &Spec| spec.value["strategy"]["canary"]["dynamicStableScale"] == true;
        !self.is_unsettled() && !self.specs.iter().any(is_dynamic)
    }

    /// Whether stable lacked pods not long ago, or what became of a route was seen late.
    fn is_unsettled(&self) -> bool {
        [self.stable_lacked, self.missed_at].into_iter().flatten().any(|at| at.elapsed() < LATE)
    }

    /// The weight that a revision has had for so long that it should have left.
    pub(super) fn kept_for_long(&self, revision: &str) -> Option<f64> {
        let (at, weight) = self.assigned.get(revision)?.last()?;
        (*weight > 0.0 && at.elapsed() > LATE).then_some(*weight)
    }

    /// S6: traffic leaves what is aborted, as soon as stable has a ready pod.
    fn check_aborted(&mut self) {
        let (Some(aborted), Some(since)) = (self.aborted.clone(), self.aborted_at) else { return };
        let is_late = since.elapsed() > LATE && self.may_move();
        if let Some(weight) = self.kept_for_long(&aborted).filter(|_| is_late) {
            let message = format!("{aborted} keeps {weight:.0}% for {} s after its abort", since.elapsed().as_secs());
            self.breaks_for_long("aborted", "S6", message);
        }
    }

    /// S6: traffic leaves a canary that Git no longer asks for, even if that cannot be recorded. Before there is stable, it has
    /// nowhere to go.
    fn check_withdrawn(&mut self) {
        let Some(wanted) = self.wanted().map(str::to_owned) else { return };
        let since = self.specs.iter().rev().take_while(|spec| spec.hash == wanted).last().map(|spec| spec.at);
        let is_recent = |since: Instant| since.elapsed() <= LATE;
        if since.is_none_or(is_recent) || self.stable_since.is_none_or(is_recent) || !self.may_move() {
            return;
        }
        let is_other = |revision: &&String| **revision != wanted && self.stable.as_ref() != Some(*revision);
        let mut others = self.assigned.keys().filter(is_other);
        let kept = others.find_map(|revision| Some((revision.clone(), self.kept_for_long(revision)?)));
        if let Some((revision, weight)) = kept {
            let message = format!("{revision} keeps {weight:.0}%, and Git has asked for another revision for long");
            self.breaks_for_long("withdrawn", "S6", message);
        }
    }

    /// A revision whose pods never suffice for its first weight is aborted at its deadline.
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
        let is_withheld = |spec: &Spec| promotion::is_held(spec) || promotion::is_rejected(spec);
        if since_then.iter().any(|spec| waits_first(spec) || is_withheld(spec)) {
            return;
        }
        let needs = since_then.iter().map(|spec| self.first_pods(spec)).min().unwrap_or(1);
        let had = self.ready_since(&wanted, began);
        // Each pod that is ready for the first time is progress.
        let patience = deadline * u32::try_from(needs).unwrap_or(u32::MAX) + LATE;
        // Nothing begins without a route, nor before it can be put on record.
        self.note_open();
        let began = if self.is_routed() { began.max(self.open_at) } else { began };
        let began = self.status_refused_at.map_or(began, |refused| began.max(refused));
        if began.elapsed() > patience && had < needs {
            let seconds = began.elapsed().as_secs();
            let message = format!("{wanted} has had {had} of {needs} pods for {seconds} s and is not aborted");
            self.breaks_for_long("deadline", "liveness", message);
        }
    }

    /// How many pods a revision needs for its first weight, at least.
    fn first_pods(&self, spec: &Spec) -> usize {
        let canary = &spec.value["strategy"]["canary"];
        let mut steps = canary["steps"].as_array().into_iter().flatten();
        let is_scaled = steps.clone().any(|step| step.get("setCanaryScale").is_some());
        let weight = steps.find_map(|step| step["setWeight"].as_u64()).filter(|_| !is_scaled && self.is_routed());
        let pods = spec.value["replicas"].as_u64().unwrap_or(1) * weight.unwrap_or(0);
        usize::try_from(pods.div_ceil(100)).unwrap_or(1).max(1)
    }

    /// The least replicas that Git has asked for of late.
    fn least_replicas(&self) -> i64 {
        let of_late = self.specs_of_late(STALE).iter();
        of_late.filter_map(|spec| spec.value["replicas"].as_i64()).min().unwrap_or(1)
    }

    /// S4: what is left of stable carries what any proxy still sends to it.
    fn check_share(&mut self, revision: &str, pods: i64, weight: f64) {
        let least = self.least_replicas();
        #[expect(clippy::cast_precision_loss, reason = "pods are few")]
        let carried = (pods + 1) as f64 * 100.0 / least.max(1) as f64;
        if self.stable.as_deref() == Some(revision) && weight > carried + 0.5 {
            self.breaks(
                "S4",
                format!("{pods} of {least} pods of {revision} are left, and a proxy gives it {weight:.0}%"),
            );
        }
    }

    /// S4: a revision with requests loses a quarter of its pods at a time, and no more before every proxy can know that these
    /// have gone.
    fn check_shrunk(&mut self, revision: &str, (was, is): (i64, i64), apart: Duration) {
        let replicas = |spec: &Spec| spec.value["replicas"].as_i64();
        let specs = self.specs_of_late(STALE);
        let is_scaled = specs.iter().any(|spec| replicas(spec).is_none_or(|replicas| replicas < was));
        if is_scaled {
            return;
        }
        if was - is > (was / 4).max(1) {
            self.breaks("S4", format!("{revision} loses {} of {was} pods at a time", was - is));
        }
        let last = self.shrunk_at.insert(revision.to_owned(), Instant::now());
        if let Some(last) = last.filter(|last| last.elapsed() < apart) {
            let millis = last.elapsed().as_millis();
            self.breaks("S4", format!("{revision} loses pods {millis} ms after the last ones"));
        }
    }

    /// A change was sent long before it arrived, and whoever sent it has given it up.
    pub fn arrives_late(&mut self, version: u64, sent: Instant) {
        self.late = Some((version, sent));
        self.is_late_for_the_end |= self.gone_at.is_some();
    }

    /// Whether a write of a set arrives late and finds it as it was when it was sent: nobody can tell it from one in time.
    /// What it breaks, the next pass mends.
    fn is_overtaken(&mut self, change: &Change) -> bool {
        let name = change.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let number = |set: &Value| set["metadata"]["annotations"][names::REVISION].clone();
        let generation = |set: &Value| set["metadata"]["generation"].clone();
        let before = self.written.get(&name).copied();
        let is_scaled = change.before.as_deref().is_none_or(|before| {
            generation(before) != generation(&change.object) || number(before) != number(&change.object)
        });
        if is_scaled {
            self.written.insert(name, Instant::now());
        }
        let sent = self.late.filter(|(version, _)| *version == change.version).map(|(_, sent)| sent);
        sent.is_some_and(|sent| before.is_none_or(|before| before <= sent))
    }

    /// S4: a Deployment that is taken over keeps its pods while a proxy may still send requests to them; without a route, until
    /// stable has all of its own.
    pub(super) fn check_workload(&mut self, change: &Change, mesh: &Mesh) {
        let stable = self.stable.clone().unwrap_or_default();
        // Its pods carry no revision.
        let weight = mesh.weights().get("").copied().unwrap_or(0.0);
        let last = mesh.last_weight_at("").filter(|last| last.elapsed() < self.drain);
        let late = self.late.is_some_and(|(version, _)| version == change.version);
        if self.holds_replicas() {
            self.breaks("S1", "the replicas of the Deployment are Git's".to_owned());
        } else if !self.is_routed() {
            let ready = self.ready_since(&stable, Instant::now().checked_sub(STALE).unwrap_or(self.began));
            let least = usize::try_from(self.least_replicas()).unwrap_or(0);
            if ready < least {
                self.breaks("S4", format!("the Deployment loses its pods, and stable has {ready} of {least}"));
            }
        } else if (weight > 0.0 || last.is_some()) && !late {
            self.breaks(
                "S4",
                format!("the Deployment loses its pods, and a proxy gives them {weight:.0}%, or did just now"),
            );
        }
    }

    /// Takes a change of a ReplicaSet in.
    pub(super) fn check_set(&mut self, change: &Change, cluster: &Cluster, mesh: &Mesh) {
        // What a baseline has, stable does not need.
        if change.object["metadata"]["labels"][names::BASELINE].is_null() {
            self.check_born(change);
            self.check_scale(change, mesh, &gateway::virtual_services(cluster));
        } else {
            self.check_baseline(change, cluster, mesh);
        }
    }

    /// S4: a baseline has no more pods than its canary, and does not lose more at a time than its requests can bear.
    fn check_baseline(&mut self, change: &Change, cluster: &Cluster, mesh: &Mesh) {
        if self.is_overtaken(change) {
            return;
        }
        let labels = |set: &Value| set["metadata"]["labels"].clone();
        let wanted = |set: &Value| set["spec"]["replicas"].as_i64().unwrap_or(1);
        let own = labels(&change.object);
        let was = change.before.as_deref().map_or(0, wanted);
        let is = if change.is_removal() { 0 } else { wanted(&change.object) };
        let sets = cluster.list("replicasets");
        let name = own[names::BASELINE].as_str().unwrap_or_default().to_owned();
        if is > was {
            let is_canary =
                |set: &&Object| labels(set)[names::REVISION_HASH] == name && labels(set)[names::BASELINE].is_null();
            let canary = sets.iter().find(is_canary).map_or(0, |set| wanted(set));
            if is > canary && self.late.is_none_or(|(version, _)| version != change.version) {
                self.breaks("S4", format!("the baseline of {name} gets {is} pods beside {canary} of the canary"));
            }
            return;
        }
        let revision = own[names::REVISION_HASH].as_str().unwrap_or_default().to_owned();
        let has_requests = mesh.weights().get(&revision).is_some_and(|weight| *weight > 0.0);
        let may_not_know = [self.jumped_at, self.missed_at].into_iter().flatten().any(|at| at.elapsed() < STALE);
        if is == was || !has_requests || self.least_replicas() == 0 || may_not_know {
            return;
        }
        let beside = sets.iter().filter(|set| labels(set)[names::REVISION_HASH] == revision).map(|set| wanted(set));
        let all = beside.sum::<i64>() - is + was;
        if was - is > (all / 4).max(1) {
            self.breaks("S4", format!("a baseline loses {} of the {all} pods of {revision} at a time", was - is));
        }
        let last = self.shrunk_at.insert(format!("{revision}'s baseline"), Instant::now());
        let apart = mesh.istiod().route_wait();
        if let Some(last) = last.filter(|last| last.elapsed() < apart) {
            let millis = last.elapsed().as_millis();
            self.breaks("S4", format!("a baseline of {revision} loses pods {millis} ms after the last ones"));
        }
    }

    /// S4: no revision that a proxy may still send requests to loses its last pod. Without a route the Service sends
    /// requests to every pod: then only scaling down keeps them from a revision. So it is with one that never became stable
    /// behind a delegate that no root names.
    fn check_scale(&mut self, change: &Change, mesh: &Mesh, routes: &[Object]) {
        if self.is_overtaken(change) || routes.is_empty() {
            return;
        }
        let (set, before) = (&change.object, change.before.as_deref());
        let wanted = |set: &Value| set["spec"]["replicas"].as_i64().unwrap_or(1);
        let was = before.map_or(0, wanted);
        let is = if change.is_removal() { 0 } else { wanted(set) };
        let revision = set["metadata"]["labels"][names::REVISION_HASH].as_str().unwrap_or_default().to_owned();
        let replicas = self.least_replicas();
        let was_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < STALE);
        let may_not_know = was_recent(self.jumped_at) || was_recent(self.missed_at);
        if is >= was || replicas == 0 || !self.is_routed() || may_not_know {
            return;
        }
        let is_followed = routes.iter().any(|one| is_followed(one, routes));
        if !is_followed && self.stable.as_ref() != Some(&revision) {
            return;
        }
        let weight = mesh.weights().get(&revision).copied().unwrap_or(0.0);
        if is > 0 {
            self.check_share(&revision, is, weight);
            if weight > 0.0 {
                self.check_shrunk(&revision, (was, is), mesh.istiod().route_wait());
            }
            return;
        }
        if weight > 0.0 {
            self.breaks("S4", format!("{revision} loses its last pod, and a proxy gives it {weight:.0}%"));
        } else if let Some(last) = mesh.last_weight_at(&revision).filter(|last| last.elapsed() < self.drain) {
            let left = self.drain.saturating_sub(last.elapsed());
            self.breaks("S4", format!("{revision} loses its last pod {} ms before it is drained", left.as_millis()));
        }
    }
}

/// Whether the first step waits, before there is a weight that needs pods.
fn waits_first(spec: &Spec) -> bool {
    let steps = spec.value["strategy"]["canary"]["steps"].as_array().into_iter().flatten();
    let mut before = steps.take_while(|step| step.get("setWeight").is_none());
    before.any(|step| ["pause", "analysis", "approval"].iter().any(|wait| step.get(wait).is_some()))
}
