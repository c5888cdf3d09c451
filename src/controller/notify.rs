//! Tells people and tools what happened: one pass a channel at a time, apart from the passes of Rollouts, which it never
//! delays. What is due is decided by [`crate::notify::ledger`]; here it is written, sent, and written again.

pub mod report;
pub mod secrets;
pub mod send;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::send::Courier;
use super::cache::{self, Cache, OnChange, Select};
use super::error::{Class, Error};
use super::lease::View;
use super::queue::Queue;
use super::server::Readiness;
use super::{Shell, clock};
use crate::api::names;
use crate::api::notification::{InFlight, NotificationChannelSpec, NotificationChannelStatus};
use crate::api::watched::{NotificationChannel, Rollout};
use crate::notify::answer::Outcome;
use crate::notify::context::Context;
use crate::notify::format::{Given, Outgoing, outgoing};
use crate::notify::host::Hosts;
use crate::notify::ledger::{Ledger, Next, thread_of};
use crate::notify::service::{self, Fault, Service};

/// Channels that send at once: one that hangs takes one of these for the length of its time-out.
const CONCURRENCY: usize = 512;
/// Messages in one pass, before others have their turn.
const MESSAGES_MOST: usize = 10;
const AT_ONCE: Duration = Duration::from_millis(1);
/// The wait after a failed write, and for a lease that is about to be renewed.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a Secret that cannot be read is left alone.
const SECRET_AGAIN: Duration = Duration::from_mins(1);
/// How long messages under way may take when the process is asked to stop.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// The plural of channels.
const KIND: &str = "notificationchannels";

/// What a controller needs to tell anybody anything.
pub struct Notifications {
    /// Where messages may go.
    pub hosts: Hosts,
    /// Who carries them.
    pub courier: Arc<dyn Courier>,
}

/// What the notifier remembers.
pub struct Notices {
    channels: Arc<Cache<NotificationChannel>>,
    queue: Queue,
    hosts: Hosts,
    courier: Arc<dyn Courier>,
    /// This process, as no other one is called.
    sender: String,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// The last event of each Rollout, so that other changes of it ask for nothing.
    events: BTreeMap<String, i64>,
    /// What became of the last message of each channel, until its status says so.
    ended: BTreeMap<String, (String, Outcome)>,
    /// Secrets that could not be read, by channel.
    secrets: BTreeMap<String, Fault>,
}

impl Notices {
    /// A notifier that has told nothing.
    pub fn new(notifications: Notifications) -> Self {
        Self {
            channels: Arc::new(Cache::new(|_| Vec::new())),
            queue: Queue::default(),
            hosts: notifications.hosts,
            courier: notifications.courier,
            sender: format!("{:016x}", fastrand::u64(..)),
            memory: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Rollout changed, or went: its channels look at it where it has news.
    pub fn changed(&self, name: &str, rollout: Option<&Rollout>) {
        let last = rollout.map(|rollout| rollout.status.events.last().map_or(0, |event| event.sequence));
        let mut memory = self.memory();
        let before = match last {
            Some(last) => memory.events.insert(name.to_owned(), last),
            None => memory.events.remove(name),
        };
        drop(memory);
        if before != last {
            self.ask(name.split_once('/').map(|(namespace, _)| namespace));
        }
    }

    /// Asks for a pass of the channels of a namespace, or of all.
    fn ask(&self, of: Option<&str>) {
        for (namespace, name) in self.channels.keys() {
            if of.is_none_or(|of| of == namespace) {
                self.queue.ask(&format!("{namespace}/{name}"));
            }
        }
    }
}

/// Starts the notifier.
pub fn begin(
    shell: &Arc<Shell>,
    notices: &Arc<Notices>,
    namespace: Option<&str>,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let api = super::caches::scoped::<NotificationChannel>(&shell.client, namespace);
    let (shell, notices) = (shell.clone(), notices.clone());
    tokio::spawn(async move {
        let readiness = Readiness::of(&[KIND]).without(&[KIND]);
        let asked = notices.clone();
        let on_change: OnChange<NotificationChannel> = Arc::new(move |channel, _| asked.queue.ask(&name_of(channel)));
        let fed = tokio::spawn(cache::feed(notices.channels.clone(), api, Select::All, on_change, readiness));
        let leading = tokio::spawn(follow_leadership(shell.clone(), notices.clone()));
        let pass = |name: String, _| pass(shell.clone(), notices.clone(), name);
        notices.queue.run(CONCURRENCY, stop, pass).await;
        fed.abort();
        leading.abort();
    })
}

/// Waits for messages under way, for a while.
pub async fn end(task: JoinHandle<()>) {
    let abort = task.abort_handle();
    if timeout(STOP_WAIT, task).await.is_err() {
        abort.abort();
    }
}

/// Looks at every channel that this process begins to tell of.
async fn follow_leadership(shell: Arc<Shell>, notices: Arc<Notices>) {
    let mut leads = shell.leadership.watch();
    let mut before = View::Nothing;
    loop {
        leads.borrow_and_update();
        let view = shell.leadership.view();
        if view != before {
            for (namespace, name) in notices.channels.keys() {
                let name = format!("{namespace}/{name}");
                if view.holds(&key_of(&name)) && !before.holds(&key_of(&name)) {
                    notices.queue.ask(&name);
                }
            }
        }
        before = view;
        if leads.changed().await.is_err() {
            return;
        }
    }
}

/// The key of a channel by `namespace/name`, apart from that of a Rollout of the same name.
fn key_of(name: &str) -> String {
    format!("notificationchannels/{name}")
}

fn name_of(channel: &NotificationChannel) -> String {
    let metadata = &channel.metadata;
    format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// One pass over one channel; after what time to look again.
async fn pass(shell: Arc<Shell>, notices: Arc<Notices>, name: String) -> Option<Duration> {
    let (namespace, own) = name.split_once('/')?;
    let Some(channel) = notices.channels.get(namespace, own) else {
        let mut memory = notices.memory();
        memory.ended.remove(&name);
        memory.secrets.remove(&name);
        return None;
    };
    let Some(_permit) = shell.leadership.begin(&key_of(&name)) else {
        let may_be_soon = shell.leadership.view().holds(&key_of(&name));
        return may_be_soon.then_some(AGAIN);
    };
    let mut pass = Pass { shell: &shell, notices: &notices, name: &name, namespace, channel: (*channel).clone() };
    match pass.tell().await {
        Ok(again) => again,
        Err(error) if error.class() == Class::Conflict => {
            let api: Api<NotificationChannel> = Api::namespaced(shell.client.clone(), namespace);
            let read = shell.reread(&api, &notices.channels, &pass.channel).await;
            Some(if read.is_ok() { AT_ONCE } else { AGAIN })
        }
        Err(error) if error.class() == Class::NotLeading => Some(AGAIN),
        Err(error) => {
            tracing::warn!(channel = %name, %error, "the channel's status could not be written");
            Some(AGAIN)
        }
    }
}

/// A pass under way.
struct Pass<'a> {
    shell: &'a Arc<Shell>,
    notices: &'a Arc<Notices>,
    name: &'a str,
    namespace: &'a str,
    /// The channel as the API server has it.
    channel: NotificationChannel,
}

impl Pass<'_> {
    async fn tell(&mut self) -> Result<Option<Duration>, Error> {
        let spec: Result<NotificationChannelSpec, _> = serde_path_to_error::deserialize(self.channel.spec.value());
        let spec = match spec {
            Ok(spec) => spec,
            Err(error) => {
                let message = format!("spec.{}: {}", error.path(), error.inner());
                let fault = Fault { reason: "SpecInvalid", path: String::new(), message };
                return self.rest(self.channel.status.clone(), Some(&fault)).await;
            }
        };
        let faults = service::faults(&spec);
        // A template that cannot be read is no reason to be silent: the words are Serin's own then.
        let blocks = |fault: &&Fault| fault.reason == "SpecInvalid";
        let fault = faults.iter().find(blocks).cloned().or_else(|| service::host_fault(&spec, &self.notices.hosts));
        let (Some(service), None) = (Service::of(&spec), &fault) else {
            return self.rest(self.channel.status.clone(), fault.as_ref()).await;
        };
        self.look_at_secrets(&spec).await;
        for _ in 0..MESSAGES_MOST {
            let rollouts = self.shell.caches.rollouts.of_namespace(self.namespace);
            let now = (self.shell.clock)();
            let created = self.channel.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
            let sender = &self.notices.sender;
            let ledger = Ledger { spec: &spec, service, rollouts: &rollouts, sender, created, now };
            let mut status = self.channel.status.clone();
            let next = ledger.next(&mut status, self.ended());
            let known = faults.first().cloned().or_else(|| self.notices.memory().secrets.get(self.name).cloned());
            self.write(status, known.as_ref(), Some(service)).await?;
            match next {
                Next::Rest => {
                    return Ok(known.filter(|known| known.reason.starts_with("Secret")).map(|_| SECRET_AGAIN));
                }
                Next::Wait(at) => return Ok(Some(clock::until((self.shell.clock)(), at).max(AT_ONCE))),
                Next::Send(in_flight) if !self.shell.leadership.may_handle(&key_of(self.name)) => {
                    tracing::debug!(channel = %self.name, rollout = %in_flight.rollout, "another replica may lead");
                    return Err(Error::NotLeading);
                }
                Next::Send(in_flight) => {
                    let outcome = self.send(&spec, service, &in_flight, &rollouts).await;
                    self.notices.memory().ended.insert(self.name.to_owned(), (token(&in_flight), outcome));
                }
            }
        }
        Ok(Some(AT_ONCE))
    }

    /// A channel that cannot tell anything says why.
    async fn rest(
        &mut self,
        status: NotificationChannelStatus,
        fault: Option<&Fault>,
    ) -> Result<Option<Duration>, Error> {
        self.write(status, fault, None).await?;
        Ok(None)
    }

    /// What became of the message that the status says is sent by this process.
    fn ended(&self) -> Option<Outcome> {
        let in_flight = self.channel.status.in_flight.as_ref()?;
        let memory = self.notices.memory();
        memory.ended.get(self.name).filter(|(known, _)| *known == token(in_flight)).map(|(_, outcome)| outcome.clone())
    }

    /// Reads the Secrets of a channel that was changed, or whose Secrets could not be read, so that it says so before the night.
    async fn look_at_secrets(&self, spec: &NotificationChannelSpec) {
        let status = &self.channel.status;
        let is_new = self.channel.metadata.generation != Some(status.observed_generation);
        let is_faulty = status.conditions.iter().any(|one| one.kind == "Ready" && one.reason.starts_with("Secret"));
        if is_new || is_faulty {
            let _ = self.read_secrets(spec).await;
        }
    }

    async fn read_secrets(&self, spec: &NotificationChannelSpec) -> Result<crate::notify::format::Secrets, Fault> {
        let read = secrets::read(&self.shell.client, self.namespace, spec).await;
        let mut memory = self.notices.memory();
        match &read {
            Ok(_) => memory.secrets.remove(self.name),
            Err(fault) => memory.secrets.insert(self.name.to_owned(), fault.clone()),
        };
        read
    }

    /// Sends one message; what became of it.
    async fn send(
        &self,
        spec: &NotificationChannelSpec,
        service: Service,
        in_flight: &InFlight,
        rollouts: &[Arc<Rollout>],
    ) -> Outcome {
        let is_it = |rollout: &&Arc<Rollout>| rollout.metadata.uid.as_deref() == Some(in_flight.uid.as_str());
        let Some(rollout) = rollouts.iter().find(is_it) else {
            return Outcome::Refused("the Rollout is gone".to_owned());
        };
        let secrets = match self.read_secrets(spec).await {
            Ok(secrets) => secrets,
            Err(fault) => return Outcome::Later(fault.message, None),
        };
        let thread = thread_of(&self.channel.status, in_flight);
        let template = spec.template.clone().unwrap_or_default();
        let message = Context::of(rollout, &in_flight.event).message(&template, thread);
        let (_, channel) = self.name.split_once('/').unwrap_or_default();
        let given = Given { channel, spec, secrets: &secrets, now: (self.shell.clock)() };
        let ready = outgoing(&given, &message).and_then(|ready| ready.check(&self.notices.hosts).map(|()| ready));
        match ready {
            Ok(Outgoing::Nothing) => Outcome::Sent(None),
            Ok(Outgoing::Object(object)) => {
                send::object(self.shell, (&key_of(self.name), self.namespace), rollout, object).await
            }
            Ok(ready) => self.notices.courier.carry(ready, service).await,
            Err(error) => Outcome::Refused(error),
        }
    }

    /// Writes the status where it differs, only onto the version that was read.
    async fn write(
        &mut self,
        status: NotificationChannelStatus,
        fault: Option<&Fault>,
        service: Option<Service>,
    ) -> Result<(), Error> {
        let status = report::complete(status, &self.channel, fault, (self.shell.clock)());
        if status == self.channel.status {
            return Ok(());
        }
        let metadata = &self.channel.metadata;
        let patch = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
            {"op": "add", "path": "/status", "value": status},
        ]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap_or_default());
        let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api: Api<NotificationChannel> = Api::namespaced(self.shell.client.clone(), self.namespace);
        let name = metadata.name.clone().unwrap_or_default();
        let request = api.patch_status(&name, &params, &patch);
        let key = key_of(self.name);
        let written =
            self.shell.write(&key, ("notificationchannels/status", "patch"), "write the channel's status", request);
        let written = written.await?;
        report::count(self.shell, self.name, service, (&self.channel.status, &status));
        self.notices.channels.put(&written);
        self.channel = written;
        Ok(())
    }
}

/// One try of one message.
fn token(in_flight: &InFlight) -> String {
    format!("{}.{}.{}", in_flight.uid, in_flight.event.sequence, in_flight.tries)
}
