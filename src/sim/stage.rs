//! Where a story plays: the cluster, pods, proxies, Prometheus and the real controllers, on virtual time.

mod people;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::gateway;
use super::jobs::Jobs;
use super::kubelet::Kubelet;
use super::mesh::{Mesh, ROUTES};
use super::model::Model;
use super::network::{Faults, Kill, Link};
use super::prometheus::{Asker, Prometheus};
use super::record::Record;
use super::story::{Event, Health, Story};
use crate::api::names;
use crate::api::provider::MetricProviderSpec;
use crate::controller::clock::Clock;
use crate::controller::commit::Sources;
use crate::controller::lease::{Candidate, Leadership};
use crate::controller::proxies::Proxies;
use crate::controller::proxies::search::Searches;
use crate::controller::telemetry::Metrics;
use crate::controller::{self, Start};
use crate::embedded::kind::{KINDS, kind_of, plural_of};
use crate::embedded::log::Change;
use crate::embedded::store::key_of;
use crate::embedded::{Cluster, world};

/// How long nothing may happen before a run is at its end.
const REST: Duration = Duration::from_mins(5);

/// One controller.
struct Controller {
    link: Arc<Link>,
    stop: watch::Sender<bool>,
    resign: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Everything of a run.
pub struct Stage<'a> {
    story: &'a Story,
    began: Instant,
    cluster: Cluster,
    jump: Arc<AtomicI64>,
    clock: Clock,
    faults: Arc<Faults>,
    kills: mpsc::UnboundedReceiver<Kill>,
    changes: mpsc::UnboundedReceiver<Arc<Change>>,
    prometheus: Arc<Prometheus>,
    controllers: BTreeMap<u8, Controller>,
    starts: BTreeMap<u8, Instant>,
    kubelet: Kubelet,
    jobs: Jobs,
    mesh: Mesh,
    model: Model,
    record: Record,
    acts: u64,
    namespace: String,
    name: String,
    /// When the first requests come: once the first deployment's route has reached every proxy.
    opens: Option<Instant>,
    settles: Duration,
    slow_until: Instant,
    /// How far the Rollout is, and since when.
    progress: (Progress, Instant),
    /// When a person promotes the pause that has no end, or approves.
    promotes_at: Option<Instant>,
    /// Whether it is an approval that is waited for.
    awaits_approval: bool,
    waits_for_a_time: bool,
    is_fair: bool,
    last_write: Instant,
    /// When a controller last wrote a route or pods.
    last_move: Instant,
    violations: Vec<Arc<Metrics>>,
}

/// How far a Rollout is.
#[derive(Default, PartialEq)]
struct Progress {
    step: Option<i64>,
    weight: Option<i64>,
    is_decided: bool,
}

/// What a run leaves behind.
pub struct Left {
    /// The cluster.
    pub cluster: Cluster,
    /// The model, and what is broken.
    pub model: Model,
    /// What happened.
    pub record: Record,
    /// The proxies.
    pub mesh: Mesh,
    /// Faults that were injected, and how often.
    pub injected: BTreeMap<String, u64>,
    /// Requests of the controllers, watches left out.
    pub requests: u64,
    /// How long it took, in virtual time.
    pub took: Duration,
    /// The Prometheus.
    pub prometheus: Arc<Prometheus>,
    /// The Jobs that there were.
    pub jobs: Jobs,
    /// Whether it came to rest in time.
    pub is_at_rest: bool,
    /// Whether no route and no pods were written for that long, at least.
    pub is_still: bool,
}

impl<'a> Stage<'a> {
    /// Sets the stage; nothing has happened.
    pub fn new(story: &'a Story) -> Self {
        let began = Instant::now();
        let jump = Arc::new(AtomicI64::new(0));
        let clock = virtual_clock(began, jump.clone());
        let cluster = Cluster::new(clock.clone());
        let (faults, kills) = Faults::new(story.faults.clone(), story.seed);
        let changes = cluster.follow();
        let route_wait = Duration::try_from(story.settings.route_wait()).unwrap_or_default();
        let mesh = Mesh::new(story.seed ^ 1, (story.slowest.map(Duration::from_millis), route_wait), began);
        let drain = Duration::try_from(story.settings.drain()).unwrap_or_default();
        let rollout = story.objects.iter().find(|object| object.get("kind").is_some_and(|kind| kind == "Rollout"));
        let (namespace, name) = rollout.map(key_of).unwrap_or_default();
        let prometheus = Prometheus::new(cluster.clone());
        Self {
            story,
            began,
            jobs: Jobs::new(prometheus.clone()),
            prometheus,
            cluster,
            jump,
            clock,
            faults,
            kills,
            changes,
            controllers: BTreeMap::new(),
            starts: (0..story.controllers.max(1)).map(|number| (number, began)).collect(),
            kubelet: Kubelet::new(began),
            model: Model::new(began, drain, mesh.slowest()),
            record: Record::new(began),
            acts: 0,
            namespace,
            name,
            opens: None,
            slow_until: began,
            settles: mesh.slowest().max(route_wait),
            mesh,
            progress: (Progress::default(), began),
            promotes_at: None,
            awaits_approval: false,
            waits_for_a_time: false,
            is_fair: false,
            last_write: began,
            last_move: began,
            violations: Vec::new(),
        }
    }

    /// Plays the story to its end.
    pub async fn play(mut self) -> Left {
        for object in &self.story.objects {
            self.apply(object);
        }
        let mut coming = self.story.events.iter().peekable();
        let is_at_rest = loop {
            let now = Instant::now();
            self.start_controllers(now);
            if !self.is_fair && now >= self.at(self.story.fair_at) {
                self.be_fair();
            }
            if self.promotes_at.is_some_and(|at| at <= now) {
                self.promotes_at = None;
                let verb = if self.awaits_approval { "approve" } else { "promote" };
                self.happen(&Event::Act(verb.into()));
            }
            while let Some(next) = coming.next_if(|next| self.at(next.at) <= now) {
                self.happen(&next.event);
            }
            let next = self.turn();
            let is_awaited = coming.peek().is_some() || self.promotes_at.is_some() || self.waits_for_a_time;
            if self.is_fair && !is_awaited && now >= self.last_write + REST {
                break true;
            }
            let gives_up = self.gives_up_at().filter(|_| coming.peek().is_none());
            if now >= self.at(self.story.ends_at) || gives_up.is_some_and(|at| at <= now) {
                break false;
            }
            let fair_at = Some(self.at(self.story.fair_at)).filter(|_| !self.is_fair);
            let event = coming.peek().map(|next| self.at(next.at));
            let ends = [self.last_write + REST, self.at(self.story.ends_at)].into_iter().filter(|at| *at > now).min();
            let start = self.starts.values().copied().min();
            let opens = self.opens.filter(|at| *at > now);
            let wake = [next, fair_at, event, ends, start, self.promotes_at, opens, gives_up]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(now);
            tokio::select! {
                biased;
                Some(kill) = self.kills.recv() => self.kill(kill.controller, kill.pause),
                Some(change) = self.changes.recv() => self.see(&change),
                () = sleep_until(wake) => {}
            }
        };
        self.end(is_at_rest)
    }

    /// When nothing is expected to come any more: long after the last progress, soon after the decision.
    fn gives_up_at(&self) -> Option<Instant> {
        let patience = Duration::from_millis(self.story.gives_up_after?);
        let (progress, since) = &self.progress;
        Some(*since + if progress.is_decided { REST } else { patience })
    }

    fn see_progress(&mut self, rollout: &Value) {
        let status = rollout.get("status").unwrap_or(&Value::Null);
        let text = |path: &str| status.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let wanted = self.model.wanted().map(str::to_owned);
        let progress = Progress {
            step: status.get("currentStepIndex").and_then(Value::as_i64),
            weight: status.pointer("/canary/observedWeight").and_then(Value::as_i64),
            is_decided: wanted.is_some() && (text("/stable/hash") == wanted || text("/aborted/hash") == wanted),
        };
        if progress != self.progress.0 {
            self.progress = (progress, Instant::now());
        }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.began + Duration::from_millis(milliseconds)
    }

    /// Lets pods and proxies do what is due. When to look again.
    fn turn(&mut self) -> Option<Instant> {
        gateway::answer(&self.cluster);
        let act = |stage: &mut Self| {
            let (pods, jobs) = (stage.kubelet.act(&stage.cluster), stage.jobs.act(&stage.cluster));
            pods.into_iter().chain(jobs).min()
        };
        let mut next = act(self);
        while let Ok(change) = self.changes.try_recv() {
            self.see(&change);
            next = act(self);
        }
        if self.opens.is_none() && self.kubelet.ready().any(|(_, labels)| !labels.contains_key(names::REVISION_HASH)) {
            // The pods of a Deployment that is taken over serve already.
            self.opens = Some(Instant::now().max(self.slow_until) + self.settles);
        }
        if self.opens.is_some_and(|opens| opens <= Instant::now()) {
            self.mesh.open();
        }
        self.mesh.push(&self.cluster, &self.kubelet);
        let pushed = self.mesh.act(&self.kubelet);
        self.model.see_mesh(&self.mesh);
        self.model.see_pods(&self.kubelet);
        self.prometheus.read(|answered| self.model.see_answers(answered));
        self.prometheus.see(self.mesh.weights());
        next.into_iter().chain(pushed).min()
    }

    fn see(&mut self, change: &Change) {
        let is_own = change.writer == names::FIELD_MANAGER;
        let spec = |object: &Value| object.get("spec").cloned();
        let is_of_status = change.plural == "httproutes"
            && change.before.as_deref().is_some_and(|before| spec(before) == spec(&change.object))
            && !change.is_removal();
        if is_own && !["leases", "events"].contains(&change.plural) {
            self.last_write = Instant::now();
            if !["rollouts", "rolloutactions"].contains(&change.plural) {
                self.last_move = Instant::now();
            }
        }
        self.mesh.act(&self.kubelet);
        self.kubelet.see(change);
        self.jobs.see(change);
        if change.is_removal() {
            world::collect_garbage(&self.cluster);
        }
        if ROUTES.contains(&change.plural) && !is_of_status {
            self.mesh.changed(change.plural);
        }
        let is_watched = [
            "rollouts",
            "virtualservices",
            "destinationrules",
            "httproutes",
            "services",
            "replicasets",
            "deployments",
            "pods",
            "rolloutactions",
        ];
        if is_watched.contains(&change.plural) && !is_of_status {
            let name = change.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            if let Some(sent) = self.faults.sent_late(change.plural, name) {
                self.model.arrives_late(change.version, sent);
            }
            self.prometheus.read(|answered| self.model.see(change, &self.cluster, &self.mesh, answered));
        }
        self.record.see(change, &self.prometheus, &self.mesh.traffic);
        if change.plural == "rollouts" {
            self.see_pause(&change.object);
            self.see_progress(&change.object);
            self.waits_for_a_time &= !change.is_removal();
        }
        if change.plural == "rollouts" && change.object.pointer("/status/phase").is_some_and(|phase| phase == "Healthy")
        {
            let from = self.at(self.story.requests_from);
            let settled = Instant::now().max(self.slow_until) + self.settles;
            self.opens.get_or_insert_with(|| from.max(settled));
        }
    }

    /// A person who promotes pauses and approves notices one; what waits for a time is not at rest.
    fn see_pause(&mut self, rollout: &Value) {
        let waits = rollout.pointer("/status/blockedBy").and_then(Value::as_array).into_iter().flatten();
        let is_for = |wait: &Value, reason: &str| {
            wait.get("reason").is_some_and(|own| own == reason) && wait.get("until").is_none()
        };
        self.awaits_approval = waits.clone().any(|wait| is_for(wait, "AwaitingApproval"));
        let pauses = self.awaits_approval || waits.clone().any(|wait| is_for(wait, "PausedByStep"));
        self.waits_for_a_time = waits.into_iter().any(|wait| wait.get("until").is_some());
        let patience = self.story.promotes_after.filter(|_| pauses).map(Duration::from_millis);
        self.promotes_at = patience.map(|patience| self.promotes_at.unwrap_or_else(|| Instant::now() + patience));
    }

    fn happen(&mut self, event: &Event) {
        if let Some(word) = event.fault() {
            self.faults.count(word);
        }
        self.record.event(event);
        self.last_write = Instant::now();
        match event {
            Event::Commit(spec) => self.commit(spec),
            Event::Apply(object) => self.apply(object),
            Event::Delete(plural, name) => {
                let _ = self.cluster.delete(plural, &self.namespace, name);
            }
            Event::Act(action) => self.act(action),
            Event::Pods(image, pods) => self.kubelet.behave(image, *pods),
            Event::Evict(image, count) => self.kubelet.evict(image, *count, &self.cluster),
            Event::Answers(rule) => self.prometheus.rule(rule.clone()),
            Event::Prometheus(health) => self.prometheus.set_health(*health),
            Event::RevertRoutes => self.revert(),
            Event::Lag(plural, lag) => {
                if let Some(kind) = kind_of(plural) {
                    let lag = Duration::from_millis(*lag);
                    self.cluster.set_lag(kind.plural, lag);
                    self.model.lags(kind.plural, lag);
                    if kind.plural == "pods" {
                        self.kubelet.set_lag(lag);
                    }
                }
            }
            Event::DropWatches => self.cluster.drop_watches(),
            Event::Expire(refuses) => self.cluster.expire(*refuses),
            Event::Outage(lasts) => self.faults.begin_outage(Instant::now() + Duration::from_millis(*lasts)),
            Event::Kill(controller, pause) => self.kill(*controller, *pause),
            Event::Stop(controller, pause) => self.stop(*controller, *pause),
            Event::LeaseHangs(controller, lasts) => {
                self.faults.hang_lease(*controller, Instant::now() + Duration::from_millis(*lasts));
            }
            Event::RefuseStatus(lasts) => {
                let until = Instant::now() + Duration::from_millis(*lasts);
                self.faults.refuse_status(until);
                self.model.refuses_status(until);
            }
            Event::FreeLease => self.free_lease(),
            Event::ClockJump(by) => {
                self.jump.fetch_add(*by, Ordering::Relaxed);
                self.model.jumped();
            }
            Event::IstiodAway(lasts) => {
                let until = Instant::now() + Duration::from_millis(*lasts);
                self.mesh.istiod().leave(until);
                self.slow(until);
            }
            Event::Silent(proxy, lasts) => {
                let until = Instant::now() + Duration::from_millis(*lasts);
                self.mesh.silence(*proxy, until);
                self.slow(until);
            }
        }
    }

    /// Some proxy may take nothing until then; who has no route yet gets no requests.
    fn slow(&mut self, until: Instant) {
        self.model.slows(until);
        self.slow_until = self.slow_until.max(until);
        self.opens = self.opens.map(|at| if at > Instant::now() { at.max(until + self.settles) } else { at });
    }

    /// From now on nothing goes wrong between the controllers and the API server.
    fn be_fair(&mut self) {
        self.is_fair = true;
        self.faults.end();
        for kind in KINDS {
            self.cluster.set_lag(kind.plural, Duration::ZERO);
            self.model.lags(kind.plural, Duration::ZERO);
        }
        self.kubelet.set_lag(Duration::ZERO);
        self.mesh.heal();
        self.last_write = Instant::now();
        if self.story.heals {
            self.heal();
        }
    }

    /// From now on the world is well.
    fn heal(&mut self) {
        self.kubelet.heal();
        self.prometheus.heal();
        self.prometheus.set_health(Health::Up);
        for object in &self.story.objects {
            let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
            if let Some(plural) = plural_of(kind)
                && plural != "rollouts"
            {
                let (namespace, name) = key_of(object);
                if self.cluster.get(plural, &namespace, &name).is_none() {
                    self.apply(object);
                }
            }
        }
    }

    fn free_lease(&mut self) {
        let Some(lease) = self.cluster.get("leases", SYSTEM, LEASE) else { return };
        let mut lease = Value::clone(&lease);
        if let Some(holder) = lease.pointer_mut("/spec/holderIdentity") {
            *holder = json!("");
            let _ = self.cluster.replace("leases", lease);
        }
    }

    fn start_controllers(&mut self, now: Instant) {
        let due: Vec<u8> = self.starts.iter().filter(|(_, at)| **at <= now).map(|(number, _)| *number).collect();
        for number in due {
            self.starts.remove(&number);
            let controller = self.start(number);
            self.model.disturbed();
            self.controllers.insert(number, controller);
        }
    }

    fn start(&mut self, number: u8) -> Controller {
        let start = u64::try_from(self.violations.len()).unwrap_or(u64::MAX);
        let link = Link::new(number, start, &self.faults);
        let client = link.client(&self.cluster, SYSTEM);
        let (stop, stopped) = watch::channel(false);
        let (resign, resigned) = watch::channel(false);
        let elects = self.story.controllers > 1;
        let leadership = if elects { Leadership::candidate() } else { Leadership::alone() };
        let metrics = Arc::new(Metrics::default());
        self.violations.push(metrics.clone());
        let mut tasks = Vec::new();
        if elects {
            let candidate = Candidate {
                api: Api::namespaced(client.clone(), SYSTEM),
                name: LEASE.into(),
                identity: format!("controller-{number}-{}", self.began.elapsed().as_millis()),
                clock: self.clock.clone(),
                leadership: leadership.clone(),
            };
            tasks.push(tokio::spawn(candidate.run(resigned)));
        }
        let start = Start {
            client,
            namespace: None,
            clock: self.clock.clone(),
            leadership,
            meter: Arc::new(Asker { prometheus: self.prometheus.clone(), link: link.clone() }),
            default_provider: Some(MetricProviderSpec::at("http://prometheus.simulated")),
            proxies: self.story.slowest.map(|_| Arc::new(Searches(self.mesh.istiod())) as Arc<dyn Proxies>),
            sources: Sources::default(),
            settings: self.story.settings.clone(),
            metrics,
            readiness: controller::readiness(),
            notifications: None,
            tracer: None,
        };
        tasks.push(tokio::spawn(controller::run(start, stopped)));
        Controller { link, stop, resign, tasks }
    }

    fn kill(&mut self, number: u8, pause: u64) {
        let Some(controller) = self.controllers.remove(&number) else { return };
        controller.link.cut();
        controller.tasks.iter().for_each(JoinHandle::abort);
        self.model.disturbed();
        self.record.say(&format!("controller {number} is killed"));
        self.starts.insert(number, Instant::now() + Duration::from_millis(pause));
    }

    /// Asks a controller to stop; it finishes its passes, then gives its lease up.
    fn stop(&mut self, number: u8, pause: u64) {
        let Some(controller) = self.controllers.remove(&number) else { return };
        controller.stop.send_replace(true);
        controller.resign.send_replace(true);
        self.model.disturbed();
        self.record.say(&format!("controller {number} is asked to stop"));
        self.starts.insert(number, Instant::now() + Duration::from_millis(pause));
    }

    fn end(mut self, is_at_rest: bool) -> Left {
        self.mesh.act(&self.kubelet);
        for metrics in &self.violations {
            for violation in metrics.violations() {
                self.model.breaks("plan", violation);
            }
        }
        // Who empties the Lease takes it from one who believes that it is his.
        if !self.story.events.iter().any(|at| at.event == Event::FreeLease) {
            self.faults.trespasses().into_iter().for_each(|told| self.model.breaks("lease", told));
        }
        for controller in self.controllers.values() {
            controller.link.cut();
            controller.tasks.iter().for_each(JoinHandle::abort);
        }
        Left {
            cluster: self.cluster,
            model: self.model,
            record: self.record,
            mesh: self.mesh,
            injected: self.faults.injected(),
            requests: self.faults.requests(),
            took: self.began.elapsed(),
            prometheus: self.prometheus,
            jobs: self.jobs,
            is_at_rest,
            is_still: self.last_move.elapsed() >= REST,
        }
    }
}

/// The controllers' namespace.
pub const SYSTEM: &str = "serin-system";
/// The Lease of the controllers.
pub const LEASE: &str = "serin";

/// When every story begins.
pub fn beginning() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap_or_default()
}

/// A wall clock that passes as tokio's time does, in whole milliseconds, and jumps.
fn virtual_clock(began: Instant, jump: Arc<AtomicI64>) -> Clock {
    Arc::new(move || {
        let passed = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let passed = SignedDuration::from_millis(passed.saturating_add(jump.load(Ordering::Relaxed)));
        beginning().checked_add(passed).unwrap_or(Timestamp::MAX)
    })
}
