//! The shell: caches, watches, writes, leadership, server. Acts, never decides; the decisions are `plan`'s.

pub mod apply;
pub mod cache;
pub mod caches;
pub mod client;
pub mod clock;
pub mod commit;
pub mod configs;
pub mod error;
pub mod few;
pub mod jobs;
pub mod lease;
pub mod measure;
pub mod notify;
pub mod observe;
pub mod proxies;
pub mod publish;
pub mod queue;
pub mod reconcile;
pub mod server;
pub mod shard;
pub mod telemetry;
pub mod trace;
pub mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::apply::WRITE_TIMEOUT;
use self::cache::{Cache, version_of};
use self::caches::Caches;
use self::clock::Clock;
use self::error::{Class, Error};
use self::few::Few;
use self::lease::{Leadership, View};
use self::measure::{Inbox, Meter};
use self::notify::{Notices, Notifications};
use self::proxies::{Inquiries, Proxies};
use self::publish::Publisher;
use self::queue::Queue;
use self::server::Readiness;
use self::telemetry::Metrics;
use self::trace::export::Tracer;
use self::watches::Watches;
use crate::api::provider::MetricProviderSpec;
use crate::api::watched::{Deployment, Pod, Rollout};
use crate::plan::analysis::later;
use crate::plan::observed::{EditsPostponed, EvictionRefused, Settings};

/// Passes at once.
const CONCURRENCY: usize = 64;
/// The least time between two writes of a status that differ in counts and wording alone.
const COUNTS_WAIT: Duration = Duration::from_secs(1);
/// How long a pass waits for the first list of the Deployment that a Rollout names. After it, the status says so.
const LIST_WAIT: Duration = Duration::from_secs(1);
/// How long nothing is evicted after a disruption budget refused.
const EVICTION_WAIT: SignedDuration = SignedDuration::from_secs(5);
/// How long no metadata of pods is edited after an edit failed, and after one whose snapshot was old.
const EDIT_WAIT: SignedDuration = SignedDuration::from_secs(10);
const OLD_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// Kinds that must be listed before the first pass.
const KINDS: [&str; 10] = [
    "rollouts",
    "replicasets",
    "virtualservices",
    "destinationrules",
    "httproutes",
    "services",
    "analysistemplates",
    "clusteranalysistemplates",
    "metricproviders",
    "rolloutactions",
];
/// Kinds of these that a cluster may do without.
const OPTIONAL_KINDS: [&str; 1] = ["httproutes"];

/// What all passes share.
pub struct Shell {
    /// The API server.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// What was watched.
    pub caches: Caches,
    /// Asks metric providers.
    pub meter: Arc<dyn Meter>,
    /// The provider named `default` of the command line.
    pub default_provider: Option<MetricProviderSpec>,
    /// Answers and queries under way.
    pub inbox: Arc<Inbox>,
    /// Knows the proxies; none where written routes are only waited for.
    pub proxies: Option<Arc<dyn Proxies>>,
    /// Routes that proxies are asked about.
    pub inquiries: Arc<Inquiries>,
    /// Whose records of commits are read.
    pub sources: commit::Sources,
    /// Records of commits that could not be read.
    pub unread: commit::Unread,
    /// Settings that plans depend on.
    pub settings: Settings,
    /// Events.
    pub publisher: Publisher,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// What is missing.
    pub readiness: Readiness,
    /// Which Rollouts wait for a pass.
    pub queue: Queue,
    /// Pods of the Rollouts that are being restarted, or whose pods' metadata is edited.
    pub pods: Watches<Pod>,
    /// Deployments that Rollouts name in `workloadRef`.
    pub workloads: Watches<Deployment>,
    /// ConfigMaps and Secrets of Rollouts that ask for copies.
    pub configs: configs::ConfigWatches,
    /// Jobs of metrics.
    pub jobs: jobs::JobWatches,
    /// Tells people and tools outside of the cluster; none where nobody is told.
    pub notices: Option<Arc<Notices>>,
    /// Takes spans of traces; none where nobody asked for them.
    pub tracer: Option<Tracer>,
    memory: Mutex<Memory>,
}

/// What the shell remembers between passes, all of it lost without harm.
#[derive(Default)]
struct Memory {
    /// The version that the last own write of a Rollout made.
    written: BTreeMap<String, String>,
    /// Failures in a row.
    failures: BTreeMap<String, u32>,
    /// The last refusal, and whether the status says so yet.
    refusals: BTreeMap<String, Refusal>,
    /// Rollouts by the words that they read.
    readers: BTreeMap<String, Few<String>>,
    /// Words by Rollout.
    read: BTreeMap<String, Box<[String]>>,
    /// Phases, for counting.
    phases: BTreeMap<String, &'static str>,
    /// When a status was last written.
    stored: BTreeMap<String, Instant>,
    /// Rollouts whose passes were left because this process might not write.
    deferred: BTreeSet<String>,
    /// Evictions that a disruption budget refused.
    evictions: BTreeMap<String, EvictionRefused>,
    /// Edits of pods' metadata that failed.
    edits: BTreeMap<String, EditsPostponed>,
}

struct Refusal {
    message: String,
    is_told: bool,
}

/// What a controller is started with.
pub struct Start {
    /// The API server.
    pub client: Client,
    /// The one namespace to work in; none for all.
    pub namespace: Option<String>,
    /// The time.
    pub clock: Clock,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// Asks metric providers.
    pub meter: Arc<dyn Meter>,
    /// The provider named `default`.
    pub default_provider: Option<MetricProviderSpec>,
    /// Knows the proxies; none where written routes are only waited for.
    pub proxies: Option<Arc<dyn Proxies>>,
    /// Whose records of commits are read.
    pub sources: commit::Sources,
    /// Settings that plans depend on.
    pub settings: Settings,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// What is missing.
    pub readiness: Readiness,
    /// Where messages may go, and who carries them; none where nobody is told.
    pub notifications: Option<Notifications>,
    /// Takes spans of traces; none where nobody asked for them.
    pub tracer: Option<Tracer>,
}

/// Readiness of a controller that has listed nothing.
pub fn readiness() -> Readiness {
    Readiness::of(&KINDS).without(&OPTIONAL_KINDS)
}

/// Names ring as the process's TLS provider; once, later calls change nothing.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs until `stop` turns true; passes under way are finished.
pub async fn run(start: Start, mut stop: watch::Receiver<bool>) {
    let namespace = start.namespace.clone();
    let shell = Arc::new(Shell::new(start));
    let rollouts = shell.caches.rollouts.clone();
    let leadership = shell.leadership.clone();
    shell.metrics.find_rollouts(move || {
        let view = leadership.view();
        rollouts.all().into_iter().filter(|rollout| view.holds(&rollout_key(rollout))).collect()
    });
    let queue = shell.queue.clone();
    shell.metrics.find_due(move || queue.due());
    let mut tasks = caches::feed(&shell, namespace.as_deref());
    tokio::select! {
        biased;
        () = shell.readiness.wait() => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    tracing::info!("all caches are listed");
    if let Some(proxies) = shell.proxies.clone() {
        shell.inquiries.probe(proxies.as_ref()).await;
        let inquiries = shell.inquiries.clone();
        tasks.push(tokio::spawn(async move { inquiries.look_out(proxies.as_ref()).await }));
    }
    tasks.push(tokio::spawn(follow_leadership(shell.clone())));
    let notices = shell.notices.as_ref();
    let notifier = notices.map(|notices| notify::begin(&shell, notices, namespace.as_deref(), stop.clone()));
    shell.queue.run(CONCURRENCY, stop, |name, waited| reconcile::reconcile(name, waited, shell.clone())).await;
    if let Some(notifier) = notifier {
        notify::end(notifier).await;
    }
    tasks.into_iter().for_each(|task| task.abort());
}

/// Looks once at everything that this process begins to handle, and at each renewal at what was left meanwhile. What it has
/// given away is asked for, too, so that a pass forgets it.
async fn follow_leadership(shell: Arc<Shell>) {
    let mut leads = shell.leadership.watch();
    let mut before = View::Nothing;
    loop {
        let leads_now = leads.borrow_and_update().is_some();
        let is_shared = shell.leadership.shards().is_some();
        if !is_shared {
            shell.metrics.leads(leads_now);
        }
        if shell.leadership.may_write() {
            shell.take_deferred().iter().for_each(|name| shell.queue.ask(name));
        }
        let view = shell.leadership.view();
        if view != before {
            let keys = shell.caches.rollouts.keys().into_iter().map(|(namespace, name)| format!("{namespace}/{name}"));
            keys.filter(|key| {
                let (had, has) = (before.holds(key), view.holds(key));
                has && !had || is_shared && had && !has
            })
            .for_each(|key| shell.queue.ask(&key));
        }
        before = view;
        if leads.changed().await.is_err() {
            return;
        }
    }
}

fn rollout_key(rollout: &Rollout) -> String {
    let metadata = &rollout.metadata;
    format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

impl Shell {
    fn new(start: Start) -> Self {
        Self {
            publisher: Publisher::spawn(start.client.clone(), start.metrics.clone()),
            client: start.client,
            clock: start.clock,
            leadership: start.leadership,
            caches: Caches::default(),
            meter: start.meter,
            default_provider: start.default_provider,
            inbox: Arc::default(),
            proxies: start.proxies,
            sources: start.sources,
            unread: commit::Unread::default(),
            inquiries: Arc::default(),
            settings: start.settings,
            metrics: start.metrics,
            readiness: start.readiness,
            queue: Queue::default(),
            pods: Watches::default(),
            workloads: Watches::default(),
            configs: configs::ConfigWatches::default(),
            jobs: jobs::JobWatches::default(),
            notices: start.notifications.map(|notifications| Arc::new(Notices::new(notifications))),
            tracer: start.tracer,
            memory: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `namespace/name` of a Rollout.
    pub fn name_of(&self, rollout: &Rollout) -> String {
        rollout_key(rollout)
    }

    /// Sends one write about a key, if this process may, and gives it up in time for its lease.
    pub async fn write<T>(
        &self,
        key: &str,
        (resource, verb): (&'static str, &'static str),
        action: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        if !self.leadership.may_handle(key) {
            return Err(Error::NotLeading);
        }
        let began = Instant::now();
        let result = match timeout(WRITE_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Write { action: action.to_owned(), source: Box::new(source) }),
            Err(_) => Err(Error::TimeOut { action: action.to_owned() }),
        };
        let outcome = result.as_ref().map_or_else(Error::metric_label, |_| "ok");
        self.metrics.request((resource, verb), outcome, began.elapsed().as_secs_f64());
        result
    }

    /// Reads one object, after a conflict.
    pub async fn read<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        let action = || "read after a conflict".to_owned();
        let began = Instant::now();
        let result = match timeout(WRITE_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Write { action: action(), source: Box::new(source) }),
            Err(_) => Err(Error::TimeOut { action: action() }),
        };
        let outcome = result.as_ref().map_or_else(Error::metric_label, |_| "ok");
        self.metrics.request(("any", "get"), outcome, began.elapsed().as_secs_f64());
        result
    }

    /// Takes the answer to an own write of a Rollout.
    pub fn wrote(&self, written: &Rollout) {
        if let Some(version) = written.metadata.resource_version.clone() {
            self.memory().written.insert(self.name_of(written), version);
        }
        self.caches.rollouts.put(written);
    }

    /// The version to write onto: that of the snapshot, or of an own write since; never one that somebody else made since.
    pub fn version_of(&self, snapshot: &Rollout) -> Option<String> {
        let memory = self.memory();
        let written = memory.written.get(&self.name_of(snapshot));
        let is_later = |written: &&String| written.parse::<u64>().is_ok_and(|version| version > version_of(snapshot));
        written.filter(is_later).cloned().or_else(|| snapshot.metadata.resource_version.clone())
    }

    /// A Rollout as it is known, by `namespace/name`.
    pub fn rollout(&self, name: &str) -> Option<Arc<Rollout>> {
        let (namespace, name) = name.split_once('/')?;
        self.caches.rollouts.get(namespace, name)
    }

    /// Reads an object, because a conflict said that the cache is old.
    pub async fn reread<K>(&self, api: &Api<K>, cache: &Cache<K>, known: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + PartialEq,
    {
        match self.read(api.get(known.meta().name.as_deref().unwrap_or_default())).await {
            Ok(current) => {
                cache.put(&current);
                Ok(())
            }
            Err(error) if error.code() == Some(404) => {
                cache.delete(known);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a Rollout, because a conflict said that the cache is old.
    pub async fn reread_rollout(&self, rollout: &Rollout) -> Result<(), Error> {
        let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
        self.reread(&Api::namespaced(self.client.clone(), namespace), &self.caches.rollouts, rollout).await
    }

    /// Remembers which words a Rollout reads, so that their changes reach it.
    pub fn refer(&self, name: &str, read: BTreeSet<String>) {
        let mut memory = self.memory();
        if memory.read.get(name).is_some_and(|known| known.iter().eq(&read)) {
            return;
        }
        memory.unrefer(name);
        for word in &read {
            memory.readers.entry(word.clone()).or_default().insert(name.to_owned());
        }
        memory.read.insert(name.to_owned(), read.into_iter().collect());
    }

    /// Asks for a pass of every Rollout that reads one of the words.
    fn changed(&self, words: &[String]) {
        let memory = self.memory();
        let mut asked = BTreeSet::new();
        for word in words {
            match word.strip_prefix("rollout/") {
                Some(name) => {
                    asked.insert(name.to_owned());
                }
                None => asked.extend(memory.readers.get(word).into_iter().flatten().cloned()),
            }
        }
        drop(memory);
        asked.iter().for_each(|name| self.queue.ask(name));
        if let Some(notices) = &self.notices {
            let changed = words.iter().filter_map(|word| word.strip_prefix("rollout/"));
            changed.for_each(|name| notices.changed(name, self.rollout(name).as_deref()));
        }
    }

    /// Forgets a Rollout that is gone.
    pub fn forget(&self, name: &str) {
        let mut memory = self.memory();
        memory.unrefer(name);
        memory.written.remove(name);
        memory.failures.remove(name);
        memory.refusals.remove(name);
        memory.stored.remove(name);
        memory.deferred.remove(name);
        memory.evictions.remove(name);
        memory.edits.remove(name);
        let phase = memory.phases.remove(name);
        drop(memory);
        self.pods.end(name);
        self.workloads.end(name);
        self.configs.end(name);
        self.jobs.end(name);
        self.inbox.forget(name);
        self.unread.forget(name);
        self.inquiries.end(name);
        self.metrics.phase(phase, None);
    }

    /// Counts a Rollout's phase.
    pub fn in_phase(&self, name: &str, phase: &'static str) {
        let before = self.memory().phases.insert(name.to_owned(), phase);
        self.metrics.phase(before, Some(phase));
    }

    /// Leaves a pass until this process may write again.
    pub fn defer(&self, name: &str) {
        self.memory().deferred.insert(name.to_owned());
    }

    fn take_deferred(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.memory().deferred)
    }

    /// Remembers when a status was written.
    pub fn store(&self, name: &str) {
        self.memory().stored.insert(name.to_owned(), Instant::now());
    }

    /// How long the counts of a status may still wait, so that pods that come one by one make no write each.
    pub fn may_wait(&self, name: &str) -> Option<Duration> {
        let stored = self.memory().stored.get(name).copied()?;
        COUNTS_WAIT.checked_sub(stored.elapsed()).filter(|left| !left.is_zero())
    }

    /// How long the first list of the Deployment that a Rollout names, or of its configuration, is still waited for.
    pub fn list_wait(&self, name: &str) -> Option<Duration> {
        let since = self.workloads.awaited_since(name).into_iter().chain(self.configs.awaited_since(name)).min()?;
        LIST_WAIT.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    /// Remembers that a disruption budget refused an eviction.
    pub fn refuse_eviction(&self, rollout: &Rollout, error: &Error) {
        let until = later((self.clock)(), EVICTION_WAIT);
        let refused = EvictionRefused { message: error.to_string(), until };
        self.memory().evictions.insert(self.name_of(rollout), refused);
    }

    /// The last refusal of an eviction.
    pub fn eviction_refused(&self, name: &str) -> Option<EvictionRefused> {
        self.memory().evictions.get(name).cloned()
    }

    /// Remembers that an edit of pods' metadata failed; where the snapshot was old, the watch has told more in a moment.
    pub fn postpone_edits(&self, rollout: &Rollout, error: &Error) {
        let (message, wait) = match error.class() {
            Class::Conflict => (None, OLD_WAIT),
            Class::Refused | Class::Transient | Class::NotLeading => (Some(error.to_string()), EDIT_WAIT),
        };
        let postponed = EditsPostponed { message, until: later((self.clock)(), wait) };
        self.memory().edits.insert(self.name_of(rollout), postponed);
    }

    /// What became of the last edit of pods' metadata that failed; were the clock set back, the wait would be longer by as much.
    pub fn edits_postponed(&self, name: &str) -> Option<EditsPostponed> {
        let longest = later((self.clock)(), EDIT_WAIT);
        self.memory().edits.get(name).filter(|one| one.until <= longest).cloned()
    }

    /// Counts a failure; the failures before it.
    pub fn fail(&self, name: &str) -> u32 {
        let mut memory = self.memory();
        let failures = memory.failures.entry(name.to_owned()).or_insert(0);
        *failures = failures.saturating_add(1);
        *failures - 1
    }

    /// Forgets the failures after a whole pass.
    pub fn calm(&self, name: &str) {
        self.memory().failures.remove(name);
    }

    /// The last refusal of a write of a Rollout.
    pub fn refusal(&self, namespace: &str, name: &str) -> Option<String> {
        self.memory().refusals.get(&format!("{namespace}/{name}")).map(|refusal| refusal.message.clone())
    }

    /// Remembers a refusal; whether it is another one than before.
    pub fn refuse(&self, name: &str, error: &Error) -> bool {
        let message = error.to_string();
        let mut memory = self.memory();
        let is_new = memory.refusals.get(name).is_none_or(|refusal| refusal.message != message);
        if is_new {
            memory.refusals.insert(name.to_owned(), Refusal { message, is_told: false });
        }
        is_new
    }

    /// Whether the status does not say yet that a write was refused; from now on it does.
    pub fn tells_refusal(&self, name: &str) -> bool {
        self.memory().refusals.get_mut(name).is_some_and(|refusal| !std::mem::replace(&mut refusal.is_told, true))
    }

    /// Forgets a refusal after a whole pass, and looks again so that the status forgets it too.
    pub fn forget_refusal(&self, name: &str) {
        if self.memory().refusals.remove(name).is_some() {
            self.queue.ask(name);
        }
    }
}

impl Memory {
    fn unrefer(&mut self, name: &str) {
        for word in self.read.remove(name).unwrap_or_default() {
            if let Some(readers) = self.readers.get_mut(&word) {
                readers.remove(name);
                if readers.is_empty() {
                    self.readers.remove(&word);
                }
            }
        }
    }
}
