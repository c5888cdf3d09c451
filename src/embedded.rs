//! A Kubernetes API in memory, under the real client: what the demo and the tests run the whole controller against.
//!
//! It answers as kube-apiserver does: get, list by pages, watch with bookmarks and streaming lists, create, replace, merge
//! patch, JSON patch, server-side apply with field ownership, delete with preconditions and finalizers, evictions, status
//! and scale subresources, resource versions, label selectors, pruning and defaults of Serin's own kinds. docs/embedded-api.md
//! lists every difference from a real one, as a test finds them. Owners' deletion is carried out by [`world`].

pub mod http;
pub mod kind;
pub mod log;
pub mod names;
pub mod owners;
pub mod patch;
pub mod read;
pub mod refusal;
pub mod select;
pub mod store;
pub mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::util::MapRequest;

use self::kind::known;
use self::log::Change;
use self::owners::Writer;
use self::refusal::Refusal;
use self::store::{Object, Part, Preconditions, State};
use crate::controller::client::consistent;
use crate::controller::clock::Clock;

/// The field manager of what the cluster itself writes.
const WORLD: &str = "cluster";
/// The field manager of what a GitOps tool writes.
const GIT: &str = "git";

/// What goes wrong with a request that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, with a status code and a reason.
    Refuse(u16, &'static str),
    /// It is carried out, and the answer is lost.
    LoseAnswer,
    /// It is never answered.
    Hang,
}

/// Decides what goes wrong with the n-th request that writes.
pub type Faults = Arc<dyn Fn(u64) -> Option<Fault> + Send + Sync>;

/// A cluster in memory; clones are the same cluster.
#[derive(Clone)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
    clock: Clock,
    faults: Arc<Mutex<(u64, Option<Faults>)>>,
}

impl Cluster {
    /// An empty cluster with Kubernetes' kinds, Istio's and Serin's.
    pub fn new(clock: Clock) -> Self {
        Self { state: Arc::new(Mutex::new(State::default())), clock, faults: Arc::default() }
    }

    /// A client of it.
    pub fn client(&self, namespace: &str) -> Client {
        Client::new(MapRequest::new(http::Service::new(self.clone()), consistent), namespace)
    }

    /// Lets requests that write go wrong from now on.
    pub fn set_faults(&self, faults: Option<Faults>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = (0, faults);
    }

    /// What goes wrong with the next request.
    fn fault(&self, method: &::http::Method) -> Option<Fault> {
        if *method == ::http::Method::GET {
            return None;
        }
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.0 += 1;
        let number = faults.0;
        faults.1.as_ref().and_then(|decide| decide(number))
    }

    /// Lets a kind not exist, as before its definition is applied; or exist again.
    pub fn set_absent(&self, plural: &'static str, is_absent: bool) {
        self.state().set_absent(plural, is_absent);
    }

    /// Lets the watches of a kind lag behind: each change from now on takes so long to arrive.
    pub fn set_lag(&self, plural: &'static str, lag: Duration) {
        self.state().log.lags.insert(plural, lag);
    }

    /// Ends every watch, as an API server does that is restarted.
    pub fn drop_watches(&self) {
        self.state().log.drop_watches();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time as Kubernetes writes it: to the second.
    fn now(&self) -> String {
        (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// All objects of a kind, by plural.
    pub fn list(&self, plural: &str) -> Vec<Object> {
        self.state().list(plural, None)
    }

    /// One object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Object> {
        self.state().get(plural, namespace, name)
    }

    /// Applies an object server-side, as a GitOps tool does.
    pub fn apply(&self, plural: &str, object: &Value) -> Result<Object, Refusal> {
        let kind = known(plural)?;
        self.write(GIT, |state, writer| {
            state.apply(kind, object.clone(), true, Writer { operation: "Apply", ..writer })
        })
    }

    /// Creates an object, as something in the cluster does.
    pub fn create(&self, plural: &str, object: Value) -> Result<Object, Refusal> {
        let kind = known(plural)?;
        self.write(WORLD, |state, writer| state.create(kind, object, writer))
    }

    /// Replaces the status of an object, as something in the cluster does.
    pub fn write_status(&self, plural: &str, object: Value) -> Result<Object, Refusal> {
        let kind = known(plural)?;
        self.write(WORLD, |state, writer| {
            state.update(kind, object, Part::Status, Writer { subresource: "status", ..writer })
        })
    }

    /// Replaces an object, as a GitOps tool does.
    pub fn replace(&self, plural: &str, object: Value) -> Result<Object, Refusal> {
        let kind = known(plural)?;
        self.write(GIT, |state, writer| state.update(kind, object, Part::Main, writer))
    }

    /// Deletes an object, as a person does.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> Result<Object, Refusal> {
        let kind = known(plural)?;
        let deleted =
            self.write(WORLD, |state, writer| state.delete(kind, (namespace, name), &Preconditions::default(), writer));
        deleted.map(|(object, _)| object)
    }

    /// A write by a manager at this time.
    fn write<T>(&self, manager: &str, write: impl FnOnce(&mut State, Writer<'_>) -> T) -> T {
        let now = self.now();
        write(&mut self.state(), Writer { manager, now: &now, operation: "Update", subresource: "" })
    }

    /// Every change from now on, in order.
    pub fn follow(&self) -> mpsc::UnboundedReceiver<Arc<Change>> {
        self.state().log.follow()
    }

    /// Ends every watch and forgets what was before, so that older versions cannot be watched from; whether that is told
    /// by HTTP 410, or by an event as kube-apiserver does.
    pub fn expire(&self, refuses: bool) {
        let mut state = self.state();
        state.log.expire();
        state.refuses_expired = refuses;
    }

    /// Requests that were answered, by verb and resource, watches and leases left out.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }
}
