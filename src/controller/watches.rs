//! Objects that few Rollouts need, and these not always: a watch a Rollout, from when it is wanted until it is not. The pods
//! of a Rollout whose pods are being restarted or edited; the Deployment that a Rollout names.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cache::{Cache, OnChange, Select, feed};
use super::queue::Queue;
use super::server::Readiness;

/// The word under which all objects of a watch are found.
const ALL: &str = "all";

/// The watches of one kind that are under way, by Rollout.
pub struct Watches<K> {
    inner: Mutex<BTreeMap<String, Watch<K>>>,
}

struct Watch<K> {
    objects: Arc<Cache<K>>,
    select: Select,
    began: Instant,
    readiness: Readiness,
    task: JoinHandle<()>,
}

impl<K> Default for Watches<K> {
    fn default() -> Self {
        Self { inner: Mutex::default() }
    }
}

impl<K> Drop for Watch<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K> Watches<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + PartialEq
        + Send
        + Sync
        + 'static,
{
    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, Watch<K>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The objects of a Rollout; none while they are not watched, or not listed.
    pub fn of(&self, rollout: &str) -> Option<Vec<K>> {
        let inner = self.inner();
        let watch = inner.get(rollout).filter(|watch| watch.readiness.is_listed())?;
        Some(watch.objects.find(ALL).into_iter().map(|object| (*object).clone()).collect())
    }

    /// Since when a Rollout's objects are watched, while they are not listed.
    pub fn awaited_since(&self, rollout: &str) -> Option<Instant> {
        self.inner().get(rollout).filter(|watch| !watch.readiness.is_listed()).map(|watch| watch.began)
    }

    /// Begins to watch a Rollout's objects, unless just these are watched.
    pub fn begin(&self, client: &kube::Client, rollout: &str, select: Select, queue: &Queue) {
        let Some((namespace, _)) = rollout.split_once('/') else {
            return;
        };
        let mut inner = self.inner();
        if inner.get(rollout).is_some_and(|watch| watch.select == select) {
            return;
        }
        let objects = Arc::new(Cache::new(|_: &K| vec![ALL.to_owned()]));
        let kind = K::plural(&()).into_owned();
        let readiness = Readiness::of(&[&kind]);
        let (queue, name) = (queue.clone(), rollout.to_owned());
        let (listed, asked, of_list) = (readiness.clone(), queue.clone(), name.clone());
        let tell = async move {
            listed.wait().await;
            asked.ask(&of_list);
        };
        let on_change: OnChange<K> = Arc::new(move |_, _| queue.ask(&name));
        let api = Api::namespaced(client.clone(), namespace);
        let fed = feed(objects.clone(), api, select.clone(), on_change, readiness.clone());
        let task = tokio::spawn(async move {
            tokio::join!(fed, tell);
        });
        inner.insert(rollout.to_owned(), Watch { objects, select, began: Instant::now(), readiness, task });
    }

    /// Takes the answer to an own write in.
    pub fn put(&self, rollout: &str, object: &K) {
        if let Some(watch) = self.inner().get(rollout) {
            watch.objects.put(object);
        }
    }

    /// Forgets an object that was deleted.
    pub fn forget(&self, rollout: &str, name: &str) {
        let inner = self.inner();
        let Some((watch, (namespace, _))) = inner.get(rollout).zip(rollout.split_once('/')) else {
            return;
        };
        if let Some(object) = watch.objects.get(namespace, name) {
            watch.objects.delete(&object);
        }
    }

    /// Watches a Rollout's objects no more.
    pub fn end(&self, rollout: &str) {
        self.inner().remove(rollout);
    }
}
