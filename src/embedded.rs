//! A Kubernetes API in memory, under the real client: what the demo and the tests run the whole controller against.
//!
//! It answers as kube-apiserver does for what Serin uses: get, list, watch (streaming lists too), create, replace, merge
//! patch, JSON patch, server-side apply, delete with finalizers, status and scale subresources, resource versions as
//! preconditions, label selectors. Simplified: no admission, no schema validation, no field selectors, no paging; an
//! apply replaces lists whole and forces every conflict; owners' deletion is carried out by [`world`].

pub mod http;
pub mod patch;
pub mod store;
pub mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::sync::mpsc;

use self::store::{Change, Refusal, State};
use crate::controller::clock::Clock;

/// The field manager of what the cluster itself writes.
const WORLD: &str = "cluster";

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
        Self { state: Arc::new(Mutex::new(State::new())), clock, faults: Arc::default() }
    }

    /// A client of it.
    pub fn client(&self, namespace: &str) -> Client {
        Client::new(http::Service::new(self.clone()), namespace)
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
        self.state().lags.insert(plural, lag);
    }

    /// Ends every watch, as an API server does that is restarted.
    pub fn drop_watches(&self) {
        self.state().drop_watches();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> String {
        (self.clock)().to_string()
    }

    /// All objects of a kind, by plural.
    pub fn list(&self, plural: &str) -> Vec<Value> {
        self.state().list(plural, None)
    }

    /// One object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().get(plural, namespace, name)
    }

    /// Creates an object, or applies it as a GitOps tool does.
    pub fn apply(&self, plural: &str, object: &Value) -> Result<Value, Refusal> {
        let now = self.now();
        let (namespace, name) = store::key_of(object);
        let mut state = self.state();
        match state.get(plural, &namespace, &name) {
            None => state.create(plural, object.clone(), "git", &now),
            Some(mut current) => {
                patch::apply(&mut current, object);
                state.update(plural, current, store::Part::Main, "git", &now)
            }
        }
    }

    /// Creates an object, as something in the cluster does.
    pub fn create(&self, plural: &str, object: Value) -> Result<Value, Refusal> {
        let now = self.now();
        self.state().create(plural, object, WORLD, &now)
    }

    /// Replaces the status of an object, as something in the cluster does.
    pub fn write_status(&self, plural: &str, object: Value) -> Result<Value, Refusal> {
        let now = self.now();
        self.state().update(plural, object, store::Part::Status, WORLD, &now)
    }

    /// Replaces an object, as a GitOps tool does.
    pub fn replace(&self, plural: &str, object: Value) -> Result<Value, Refusal> {
        let now = self.now();
        self.state().update(plural, object, store::Part::Main, "git", &now)
    }

    /// Deletes an object, as a person does.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, Refusal> {
        let now = self.now();
        self.state().delete(plural, namespace, name, WORLD, &now)
    }

    /// Every change from now on, in order.
    pub fn follow(&self) -> mpsc::UnboundedReceiver<Arc<Change>> {
        self.state().follow()
    }

    /// Ends every watch and forgets what was before, so that older versions cannot be watched from.
    pub fn expire(&self) {
        self.state().expire();
    }

    /// Requests that were answered, by verb and resource, watches and leases left out.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }
}
