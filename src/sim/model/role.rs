//! What pods carry for their role, by the pods themselves: new revisions from their birth, others some time after a
//! promotion or a commit.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{LATE, Model, STALE};
use crate::api::names;
use crate::embedded::log::Change;
use crate::embedded::store::key_of;

/// The two maps of metadata.
const MAPS: [&str; 2] = ["labels", "annotations"];

/// How late the metadata of a pod may be: pods are edited one after the other, and a controller may be killed at each.
const POD_LATE: Duration = LATE.saturating_mul(2);

/// What is known of pods and roles.
#[derive(Default)]
pub(super) struct Roles {
    /// Every key that Git has ever asked for, with its map.
    keys: BTreeSet<(&'static str, String)>,
    pods: BTreeMap<(String, String), Pod>,
    /// The canary in progress, and since when.
    canary: Option<(String, Instant)>,
    /// Whether somebody deletes the Rollout: its pods stay as they are.
    is_leaving: bool,
}

struct Pod {
    revision: String,
    metadata: Value,
    born: Instant,
    /// Whether its last edit came late: nobody can tell it from one in time, and nobody looks again.
    is_late: bool,
}

impl Roles {
    /// Takes a spec of Git in.
    pub(super) fn extend(&mut self, spec: &Value) {
        for (role, map) in ["canary", "stable"].iter().flat_map(|role| MAPS.map(|map| (role, map))) {
            let asked = spec["strategy"]["canary"][format!("{role}Metadata")][map].as_object();
            self.keys.extend(asked.into_iter().flatten().map(|(key, _)| (map, key.clone())));
        }
    }

    /// What of some metadata is not as a role asks: a key that should have another value, or none.
    fn differs(&self, metadata: &Value, wanted: &Value) -> Option<String> {
        let mut keys = self.keys.iter();
        let (map, key) = keys.find(|(map, key)| metadata[*map][key] != wanted[*map][key])?;
        Some(format!("{key} is {}, not {}", metadata[*map][key], wanted[*map][key]))
    }
}

impl Model {
    /// Takes the canary in progress in.
    pub(super) fn take_canary(&mut self, rollout: &Value) {
        self.roles.is_leaving = !rollout["metadata"]["deletionTimestamp"].is_null();
        let status = &rollout["status"];
        let canary = status["canary"]["hash"].as_str().filter(|hash| status["aborted"]["hash"] != *hash);
        if self.roles.canary.as_ref().map(|(hash, _)| hash.as_str()) != canary {
            self.roles.canary = canary.map(|hash| (hash.to_owned(), Instant::now()));
        }
    }

    /// Takes a change of a pod in.
    pub(super) fn take_pod(&mut self, change: &Change) {
        let (key, metadata) = (key_of(&change.object), &change.object["metadata"]);
        if change.is_removal() {
            self.roles.pods.remove(&key);
            return;
        }
        // They keep what stable's template said when they came.
        if !metadata["labels"][names::BASELINE].is_null() {
            return;
        }
        let is_late = self.late.is_some_and(|(version, _)| version == change.version);
        let born = self.roles.pods.get(&key).map_or_else(Instant::now, |pod| pod.born);
        let revision = metadata["labels"][names::REVISION_HASH].as_str().unwrap_or_default().to_owned();
        self.roles.pods.insert(key, Pod { revision, metadata: metadata.clone(), born, is_late });
    }

    /// The pods of a new revision have its role's metadata from birth.
    pub(super) fn check_born(&mut self, change: &Change) {
        if change.before.is_some() || change.is_removal() || self.roles.keys.is_empty() {
            return;
        }
        let revision = change.object["metadata"]["labels"][names::REVISION_HASH].as_str().unwrap_or_default();
        let is_stable = self.stable.as_deref().is_none_or(|stable| stable == revision);
        let field = if is_stable { "stableMetadata" } else { "canaryMetadata" };
        let of_pods = &change.object["spec"]["template"]["metadata"];
        let of_late = self.specs_of_late(STALE).iter();
        let differs: Vec<Option<String>> =
            of_late.map(|spec| self.roles.differs(of_pods, &spec.value["strategy"]["canary"][field])).collect();
        if let Some(Some(differs)) = differs.last().filter(|_| !differs.contains(&None)) {
            let message = format!("pods of {revision} are born without their {field}: {differs}");
            self.breaks("role", message);
        }
    }

    /// The pods of stable and of a canary carry what their role asks, and nothing that it does not.
    pub(super) fn check_roles(&mut self) {
        if self.roles.keys.is_empty() || self.roles.is_leaving {
            return;
        }
        let stable = self.stable.clone().zip(self.stable_since);
        let sides = [(stable, "stableMetadata"), (self.roles.canary.clone(), "canaryMetadata")];
        for (side, field) in sides {
            let Some((revision, since)) = side else { continue };
            if let Some(message) = self.lacks_metadata(&revision, since, field) {
                self.breaks_for_long(field, "role", message);
            }
        }
    }

    fn lacks_metadata(&self, revision: &str, since: Instant, field: &str) -> Option<String> {
        let asked = |spec: &super::Spec| spec.value["strategy"]["canary"][field].clone();
        let wanted = asked(self.specs.last()?);
        let asked_at = self.specs.iter().rev().take_while(|spec| asked(spec) == wanted).last()?.at;
        let is_new = |at: Instant| at.elapsed() <= POD_LATE;
        // What must be on record first keeps all that comes after it back while no status can be written.
        if is_new(since) || is_new(asked_at) || self.status_refused_at.is_some_and(is_new) {
            return None;
        }
        let mut own = self.roles.pods.iter().filter(|(_, pod)| pod.revision == revision && !pod.is_late);
        own.find_map(|((_, name), pod)| {
            let differs = self.roles.differs(&pod.metadata, &wanted).filter(|_| !is_new(pod.born))?;
            Some(format!("pod {name} does not carry {field}: {differs}"))
        })
    }
}
