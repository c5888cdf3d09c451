//! Pods of the Rollouts that are being restarted, or whose pods' metadata is edited: a watch a Rollout, from the beginning to
//! the end. At rest no pod is watched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Api;
use tokio::task::JoinHandle;

use super::cache::{Cache, OnChange, feed};
use super::queue::Queue;
use super::server::Readiness;
use crate::api::names;
use crate::api::watched::Pod;

/// The word under which all pods of a watch are found.
const ALL: &str = "pods";

/// The watches under way, by Rollout.
#[derive(Default)]
pub struct PodWatches {
    inner: Mutex<BTreeMap<String, PodWatch>>,
}

struct PodWatch {
    pods: Arc<Cache<Pod>>,
    readiness: Readiness,
    task: JoinHandle<()>,
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PodWatches {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, PodWatch>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods of a Rollout; none while they are not watched, or not listed.
    pub fn of(&self, rollout: &str) -> Option<Vec<Pod>> {
        let inner = self.inner();
        let watch = inner.get(rollout).filter(|watch| watch.readiness.is_listed())?;
        Some(watch.pods.find(ALL).into_iter().map(|pod| (*pod).clone()).collect())
    }

    /// Takes the answer to an edit of a pod, while the pods are watched.
    pub fn put(&self, rollout: &str, pod: Pod) {
        if let Some(watch) = self.inner().get(rollout) {
            watch.pods.put(pod);
        }
    }

    /// Begins to watch a Rollout's pods, unless they are watched.
    pub fn begin(&self, client: &kube::Client, rollout: &str, queue: &Queue) {
        let Some((namespace, name)) = rollout.split_once('/') else {
            return;
        };
        self.inner().entry(rollout.to_owned()).or_insert_with(|| {
            let pods = Arc::new(Cache::new(|_: &Pod| vec![ALL.to_owned()]));
            let readiness = Readiness::of(&[ALL]);
            let (queue, rollout) = (queue.clone(), rollout.to_owned());
            let (listed, asked) = (readiness.clone(), queue.clone());
            let of_list = rollout.clone();
            tokio::spawn(async move {
                listed.wait().await;
                asked.ask(&of_list);
            });
            let on_change: OnChange<Pod> = Arc::new(move |_, _| queue.ask(&rollout));
            let api = Api::namespaced(client.clone(), namespace);
            let selector = format!("{}={name}", names::ROLLOUT);
            let task = tokio::spawn(feed(pods.clone(), api, Some(selector), on_change, readiness.clone()));
            PodWatch { pods, readiness, task }
        });
    }

    /// Watches a Rollout's pods no more.
    pub fn end(&self, rollout: &str) {
        self.inner().remove(rollout);
    }
}
