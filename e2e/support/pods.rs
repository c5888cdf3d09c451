//! Decides which pods are ready, by the readiness gate that every story's template has: works on any cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;

/// Condition that the templates' readiness gate names.
pub const GATE: &str = "e2e.serin.dev/ready";

/// Which pods of an image are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// All.
    All,
    /// None.
    None,
    /// All but so many, the first by name.
    AllBut(usize),
    /// All but so many, which become ready and unready in turns.
    Flapping(usize),
}

/// Rules by image.
#[derive(Clone)]
pub struct Rules {
    rules: Arc<Mutex<BTreeMap<String, Ready>>>,
    changed: Arc<Notify>,
}

impl Rules {
    /// Follows the pods of a namespace; everything is ready unless a rule says otherwise.
    pub fn start(client: Client, namespace: &str) -> (Self, tokio::task::JoinHandle<()>) {
        let rules = Self { rules: Arc::default(), changed: Arc::default() };
        let task = tokio::spawn(rules.clone().follow(Api::namespaced(client, namespace)));
        (rules, task)
    }

    /// Sets the rule of an image.
    pub fn set(&self, image: &str, ready: Ready) {
        self.rules.lock().unwrap().insert(image.to_owned(), ready);
        self.changed.notify_one();
    }

    async fn follow(self, api: Api<Pod>) {
        let mut events =
            std::pin::pin!(watcher(api.clone(), watcher::Config::default()).default_backoff().touched_objects());
        let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
        let mut turn = 0_u64;
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(pod)) => { pods.insert(pod.metadata.name.clone().unwrap(), pod); }
                    Ok(None) => return,
                    Err(_) => {}
                },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(400)) => turn += 1,
            }
            let wanted = self.wanted(&pods, turn);
            for (name, is_ready) in wanted {
                let condition = json!({"type": GATE, "status": if is_ready { "True" } else { "False" }});
                let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
                match api.patch_status(&name, &PatchParams::default(), &patch).await {
                    Ok(pod) => pods.insert(name, pod),
                    Err(_) => pods.remove(&name),
                };
            }
        }
    }

    /// Pods whose gate must change.
    fn wanted(&self, pods: &BTreeMap<String, Pod>, turn: u64) -> Vec<(String, bool)> {
        let rules = self.rules.lock().unwrap().clone();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut wanted = Vec::new();
        for (name, pod) in pods.iter().filter(|(_, pod)| pod.metadata.deletion_timestamp.is_none()) {
            let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
            let at = seen.entry(image.clone()).or_default();
            let is_ready = match rules.get(&image).copied().unwrap_or(Ready::All) {
                Ready::All => true,
                Ready::None => false,
                Ready::AllBut(unready) => *at >= unready,
                Ready::Flapping(unready) => *at >= unready || turn.is_multiple_of(2),
            };
            *at += 1;
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let now = conditions
                .into_iter()
                .find(|condition| condition.type_ == GATE)
                .map(|condition| condition.status == "True");
            if now != Some(is_ready) {
                wanted.push((name.clone(), is_ready));
            }
        }
        wanted
    }
}
