//! Watches what the controller writes, keeps a timeline, and checks the safety invariants on the true state at every write.
//! A state that breaks S1 to S4 may last as long as a pass may take; what S5 and S7 forbid may not happen at all.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serin::api::status::OutcomeKind;
use serin::api::watched::{DestinationRule, HttpRoute, ReplicaSet, Rollout, Service, VirtualService};
use serin::plan::course::Facts;
use serin::plan::observed::Observed;
use serin::plan::strategy::{self, Step};

/// How long a state may break an invariant: the staleness of a watch, plus one pass on a busy machine.
const TOLERANCE: Duration = Duration::from_secs(2);
/// The same where the API server goes away, and every watch comes back in its own time.
const TOLERANCE_OF_OUTAGES: Duration = Duration::from_secs(30);

/// What was seen.
#[derive(Default)]
pub struct Seen {
    rollouts: BTreeMap<String, Rollout>,
    replica_sets: BTreeMap<String, ReplicaSet>,
    virtual_services: BTreeMap<String, VirtualService>,
    http_routes: BTreeMap<String, HttpRoute>,
    destination_rules: BTreeMap<String, DestinationRule>,
    services: BTreeMap<String, Service>,
    /// One line a change, with the seconds since the story began.
    pub timeline: Vec<String>,
    /// Canary weights by Rollout, each change once, with its time.
    pub weights: BTreeMap<String, Vec<(Instant, i32)>>,
    /// Broken invariants since when.
    broken: BTreeMap<String, Instant>,
    /// What broke for longer than it may, or may not happen at all.
    pub violations: Vec<String>,
    /// Whether the API server goes away in this story.
    pub has_outage: bool,
}

/// Follows one namespace.
#[derive(Clone)]
pub struct Monitor {
    /// What was seen.
    pub seen: Arc<Mutex<Seen>>,
    began: Instant,
}

impl Monitor {
    /// Starts a watch a kind, and the checks.
    pub fn start(client: &Client, namespace: &str) -> (Self, Vec<tokio::task::JoinHandle<()>>) {
        let monitor = Self { seen: Arc::default(), began: Instant::now() };
        let tasks = vec![
            monitor.follow::<Rollout>(client, namespace, |seen| &mut seen.rollouts),
            monitor.follow::<ReplicaSet>(client, namespace, |seen| &mut seen.replica_sets),
            monitor.follow::<VirtualService>(client, namespace, |seen| &mut seen.virtual_services),
            monitor.follow::<HttpRoute>(client, namespace, |seen| &mut seen.http_routes),
            monitor.follow::<DestinationRule>(client, namespace, |seen| &mut seen.destination_rules),
            monitor.follow::<Service>(client, namespace, |seen| &mut seen.services),
            tokio::spawn(monitor.clone().tick()),
        ];
        (monitor, tasks)
    }

    fn follow<K>(
        &self,
        client: &Client,
        namespace: &str,
        of: fn(&mut Seen) -> &mut BTreeMap<String, K>,
    ) -> tokio::task::JoinHandle<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let monitor = self.clone();
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watch(api, watcher::Config::default()).default_backoff());
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => monitor.take(event, of),
                    Ok(None) => return,
                    Err(_) => {}
                }
            }
        })
    }

    fn take<K: Resource<DynamicType = ()> + Clone>(
        &self,
        event: Event<K>,
        of: fn(&mut Seen) -> &mut BTreeMap<String, K>,
    ) {
        let mut seen = self.seen.lock().unwrap();
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let name = object.meta().name.clone().unwrap();
                let before = seen.rollouts.clone();
                of(&mut seen).insert(name, object);
                seen.judge_history(&before);
            }
            Event::Delete(object) => {
                of(&mut seen).remove(object.meta().name.as_ref().unwrap());
            }
            Event::Init | Event::InitDone => return,
        }
        seen.note(self.began);
        seen.judge();
    }

    async fn tick(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.seen.lock().unwrap().judge();
        }
    }

    /// The Rollout as last seen.
    pub fn rollout(&self, name: &str) -> Option<Rollout> {
        self.seen.lock().unwrap().rollouts.get(name).cloned()
    }

    /// Canary weights in the order in which they were seen.
    pub fn weights(&self, name: &str) -> Vec<i32> {
        self.seen.lock().unwrap().weights.get(name).into_iter().flatten().map(|(_, weight)| *weight).collect()
    }

    /// The ReplicaSets as last seen.
    pub fn replica_sets(&self) -> Vec<ReplicaSet> {
        self.seen.lock().unwrap().replica_sets.values().cloned().collect()
    }
}

impl Seen {
    fn observed(&self, rollout: &Rollout) -> Observed {
        Observed {
            rollout: rollout.clone(),
            replica_sets: self.replica_sets.values().cloned().collect(),
            virtual_services: self.virtual_services.values().cloned().collect(),
            http_routes: self.http_routes.values().cloned().collect(),
            destination_rules: self.destination_rules.values().cloned().collect(),
            services: self.services.values().cloned().collect(),
            ..Observed::default()
        }
    }

    /// Adds a line where weight, phase or step changed.
    fn note(&mut self, began: Instant) {
        for (name, rollout) in self.rollouts.clone() {
            let observed = self.observed(&rollout);
            let strategy = strategy::parse(rollout.metadata.namespace.as_deref().unwrap(), &rollout.spec.value());
            let facts = Facts::of(&observed, &strategy, jiff::Timestamp::UNIX_EPOCH);
            let is_split = facts.route.stable != facts.route.canary;
            let weight = if is_split { facts.route.weight() } else { 0 };
            let weights = self.weights.entry(name.clone()).or_default();
            if weights.last().map(|(_, last)| *last) != Some(weight) {
                weights.push((Instant::now(), weight));
            }
            let status = &rollout.status;
            let pods: Vec<String> =
                facts.pods.iter().map(|(hash, pods)| format!("{hash}:{}/{}", pods.ready, pods.wanted)).collect();
            let line = format!(
                "{name} {:?} step {:?} weight {weight} pods [{}] route [{}] {}",
                status.phase,
                status.current_step_index,
                pods.join(" "),
                facts.route.line(),
                status.message
            );
            if self.timeline.last().is_none_or(|last| last.split_once("s ").is_none_or(|(_, last)| last != line)) {
                self.timeline.push(format!("{:7.3}s {line}", began.elapsed().as_secs_f64()));
            }
        }
    }

    /// What the true state breaks now, and for how long.
    fn judge(&mut self) {
        let mut broken = Vec::new();
        for rollout in self.rollouts.values() {
            broken.extend(self.judge_state(rollout));
        }
        self.broken.retain(|violation, _| broken.contains(violation));
        for violation in broken {
            let since = *self.broken.entry(violation.clone()).or_insert_with(Instant::now);
            let tolerance = if self.has_outage { TOLERANCE_OF_OUTAGES } else { TOLERANCE };
            let text = format!("{violation} for {} s", tolerance.as_secs());
            if since.elapsed() > tolerance && !self.violations.contains(&text) {
                self.violations.push(text);
            }
        }
    }

    fn judge_state(&self, rollout: &Rollout) -> Vec<String> {
        let observed = self.observed(rollout);
        let strategy = strategy::parse(rollout.metadata.namespace.as_deref().unwrap(), &rollout.spec.value());
        let facts = Facts::of(&observed, &strategy, jiff::Timestamp::UNIX_EPOCH);
        let name = rollout.metadata.name.as_deref().unwrap();
        let route = &facts.route;
        let status = &rollout.status;
        let mut broken = Vec::new();
        if let Some(leg) = route.legs.iter().find(|leg| leg.stable + leg.canary != leg.share) {
            broken.push(format!("S1 {name}: weights of {} do not sum to {}", leg.key(), leg.share));
        }
        let ready = |hash: &Option<String>| hash.as_ref().map_or(0, |hash| facts.pods_of(hash).ready);
        let (stable_ready, canary_ready) = (ready(&route.stable), ready(&route.canary));
        let is_split =
            route.stable.is_some() && route.canary.is_some() && route.stable != route.canary && !route.legs.is_empty();
        if is_split && route.exceeds(0) && canary_ready == 0 && stable_ready > 0 {
            broken.push(format!("S2 {name}: weight on a canary without ready pods"));
        }
        if is_split && !route.is_at(100) && stable_ready == 0 && canary_ready > 0 && status.aborted.is_none() {
            broken.push(format!("S2 {name}: weight on a stable without ready pods"));
        }
        let index = usize::try_from(status.current_step_index.unwrap_or(0)).unwrap();
        let permitted = strategy
            .steps
            .iter()
            .take(index + 1)
            .rev()
            .find_map(|step| if let Step::SetWeight(weight) = step { Some(*weight) } else { None });
        let permitted = if status.aborted.is_some() || status.canary.is_none() { 0 } else { permitted.unwrap_or(0) };
        let lacks = if strategy.dynamic_stable { 100 - stable_ready * 100 / facts.replicas.max(1) } else { 0 };
        let permitted = permitted.max(lacks);
        let is_finishing = status.stable.as_ref().is_some_and(|stable| route.canary.as_ref() == Some(&stable.hash));
        if is_split && stable_ready > 0 && !is_finishing && route.exceeds(permitted) {
            broken.push(format!("S3 {name}: weight above {permitted}"));
        }
        for hash in [&route.stable, &route.canary].into_iter().flatten() {
            let pods = facts.pods_of(hash);
            let has_weight = !is_split || route.stable.as_ref() == Some(hash) || route.exceeds(0);
            if facts.pods.contains_key(hash)
                && pods.wanted == 0
                && facts.replicas > 0
                && has_weight
                && !route.legs.is_empty()
            {
                broken.push(format!("S4 {name}: {hash} has no pods wanted and is selected with weight"));
            }
        }
        broken
    }

    /// S5 and S7: what a status may never do.
    fn judge_history(&mut self, before: &BTreeMap<String, Rollout>) {
        for (name, after) in self.rollouts.clone() {
            let Some(before) = before.get(&name) else {
                continue;
            };
            let (was, is) = (&before.status, &after.status);
            let promoted = is.history.last().is_some_and(|last| {
                last.outcome == OutcomeKind::Promoted
                    && is.stable.as_ref().is_some_and(|stable| stable.hash == last.hash)
            });
            if was.stable.is_some()
                && was.stable.as_ref().map(|one| &one.hash) != is.stable.as_ref().map(|one| &one.hash)
                && !promoted
            {
                self.violations.push(format!("S5 {name}: stable changed without a promotion"));
            }
            let failed = was.aborted.as_ref().map(|aborted| &aborted.hash);
            let again =
                is.aborted.is_none() && failed.is_some() && is.canary.as_ref().map(|canary| &canary.hash) == failed;
            let asked =
                is.decisions.iter().any(|decision| decision.what == "Retry" && !was.decisions.contains(decision));
            if again && !asked {
                self.violations.push(format!("S7 {name}: a failed revision is tried again"));
            }
        }
    }
}
