//! One Rollout with all that belongs to it, read when its page is asked for, and for a moment kept: several open pages, and pages
//! that are loaded again at each change, ask the API server once a change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::seen::Key;
use crate::cli::branch::Branch;
use crate::cli::cluster::{Cluster, Tree};
use crate::cli::outcome;
use crate::cli::trace::{self, Chain};
use crate::cli::view;

/// How long what was read is good for.
const FRESH: SignedDuration = SignedDuration::from_millis(900);
/// Rollouts that are kept.
const KEPT: usize = 32;

/// What was read of one Rollout.
pub struct Read {
    /// The Rollout, its ReplicaSets and its pods.
    pub tree: Tree,
    /// The way from the Rollout to its pods and routes.
    pub branch: Branch,
    /// What of that way could not be read, and why.
    pub lacking: Option<String>,
}

impl Read {
    /// Reads a Rollout; without its routes where the person may not see those.
    async fn of(cluster: &Cluster, name: &str, now: Timestamp) -> anyhow::Result<Self> {
        let error = match Chain::of(cluster, name).await {
            Ok(chain) => {
                let branch = trace::branch(&chain, "", now);
                return Ok(Self { tree: chain.tree, branch, lacking: None });
            }
            Err(error) => error,
        };
        let tree = cluster.tree(name).await?;
        let sets = tree.replica_sets.iter();
        let below = sets.map(|set| view::set_branch(&tree, set, now));
        let branch = Branch { line: format!("Rollout {name}").into(), below: below.collect() };
        Ok(Self { tree, branch, lacking: Some(outcome::told(&error)) })
    }
}

/// When something was read, and the number of the last change that was seen before.
pub type Moment = (Timestamp, u64);

/// What was read a moment ago.
#[derive(Default)]
pub struct Reads(Mutex<BTreeMap<Key, (Moment, Arc<Read>)>>);

impl Reads {
    /// One Rollout, not older than a moment.
    pub async fn get(&self, cluster: &Cluster, name: &str, moment: Moment) -> anyhow::Result<Arc<Read>> {
        let key = (cluster.namespace.clone(), name.to_owned());
        if let Some(kept) = self.kept(&key, moment) {
            return Ok(kept);
        }
        let read = Arc::new(Read::of(cluster, name, moment.0).await?);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(key, (moment, read.clone()));
        kept.retain(|_, ((at, _), _)| moment.0.duration_since(*at) < FRESH);
        while kept.len() > KEPT {
            kept.pop_first();
        }
        Ok(read)
    }

    fn kept(&self, key: &Key, (now, version): Moment) -> Option<Arc<Read>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.get(key).filter(|((at, own), _)| *own == version && now.duration_since(*at) < FRESH);
        fresh.map(|(_, read)| read.clone())
    }
}
