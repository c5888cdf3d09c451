//! What the pods of a revision carry for its role: `stableMetadata` or `canaryMetadata`. New pods have it from their
//! ReplicaSet's template; those that exist are edited one by one, and are watched until the last of them has it.
//!
//! Annotations are the record: on a ReplicaSet of what Serin put into its template, on each pod of what Serin put on it, and
//! whether all pods of a ReplicaSet have it. It is metadata alone: nothing waits for it, and its writes come last.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::action::{Action, MetadataEdit};
use super::course::{Course, Facts};
use super::revision::{hash_of, is_own};
use super::strategy::PodMetadata;
use crate::api::names;
use crate::api::watched::{Pod, ReplicaSet};

/// Pods that are edited at once.
const PODS_MOST: usize = 10;

/// What the pods of a revision are to carry. A revision without a role keeps what it has: one that was aborted or superseded.
pub fn wanted<'a>(facts: &Facts<'a>, course: &Course, hash: &str) -> Option<&'a PodMetadata> {
    // What Git's template gives a key is not known while the template is not.
    if facts.strategy.unknown.is_some() {
        return None;
    }
    let is_first = course.stable().is_none() && facts.target.as_deref() == Some(hash);
    if is_first || course.stable() == Some(hash) {
        Some(&facts.strategy.stable_metadata)
    } else if course.canary().is_some_and(|canary| canary.hash == hash) {
        Some(&facts.strategy.canary_metadata)
    } else {
        None
    }
}

/// Whether pods are looked at: some may not carry what the template of their ReplicaSet says for their role.
pub fn is_under_way(facts: &Facts<'_>, course: &Course) -> bool {
    of_a_role(facts, course).any(|(set, _)| is_pending(set))
}

/// ReplicaSets of a role, with what their pods are to carry.
fn of_a_role<'a>(facts: &'a Facts<'_>, course: &'a Course) -> impl Iterator<Item = (&'a ReplicaSet, &'a PodMetadata)> {
    let may_edit = !facts.is_leaving && facts.strategy.faults.is_empty();
    let sets = facts.observed.replica_sets.iter().filter(move |_| may_edit);
    let sets = sets.filter(|set| set.metadata.deletion_timestamp.is_none());
    sets.filter_map(|set| Some((set, wanted(facts, course, hash_of(set)?)?)))
}

/// The edits that are due, after everything else that is planned.
pub fn actions(facts: &Facts<'_>, course: &mut Course, planned: &[Action]) -> Vec<Action> {
    let mut actions = Vec::new();
    for (set, wanted) in of_a_role(facts, course).filter(|(set, _)| !is_written(set, planned)) {
        if record(&set.metadata) != wanted.record().as_deref() {
            actions.push(Action::EditPodTemplate {
                name: set.metadata.name.clone().unwrap_or_default(),
                version: set.metadata.resource_version.clone().unwrap_or_default(),
                edit: edit(facts, set, &set.metadata, wanted),
            });
        } else if is_pending(set) {
            actions.extend(pods(facts, set, wanted));
        }
    }
    let Some(postponed) = facts.observed.edits_postponed.as_ref().filter(|one| one.until > facts.now) else {
        return actions;
    };
    if !actions.is_empty() {
        match &postponed.message {
            Some(message) => course.wait_until("PodMetadataRefused", message.clone(), postponed.until),
            None => course.wakes.push((postponed.until, "metadata of pods is due to be edited".into())),
        }
    }
    Vec::new()
}

/// Whether another write of a ReplicaSet is planned: it comes first, and changes the version.
fn is_written(set: &ReplicaSet, planned: &[Action]) -> bool {
    let writes = |action: &Action| {
        let (Action::ScaleReplicaSet { name, .. } | Action::DeleteReplicaSet { name, .. }) = action else {
            return false;
        };
        set.metadata.name.as_ref() == Some(name)
    };
    planned.iter().any(writes)
}

/// Edits of a ReplicaSet's pods, or their end once all of them are known and carry what they should.
fn pods(facts: &Facts<'_>, set: &ReplicaSet, wanted: &PodMetadata) -> Vec<Action> {
    let Some(pods) = &facts.observed.pods else {
        return Vec::new();
    };
    let is_of_set = |pod: &&Pod| pod.is_active() && hash_of(set).is_some_and(|hash| is_own(&pod.metadata, hash));
    let own: Vec<&Pod> = pods.iter().filter(is_of_set).collect();
    let text = wanted.record();
    let lacks = |pod: &&&Pod| record(&pod.metadata) != text.as_deref();
    let edits: Vec<Action> = own
        .iter()
        .filter(lacks)
        .take(PODS_MOST)
        .map(|pod| Action::EditPod {
            name: pod.metadata.name.clone().unwrap_or_default(),
            version: pod.metadata.resource_version.clone().unwrap_or_default(),
            edit: edit(facts, set, &pod.metadata, wanted),
        })
        .collect();
    if !edits.is_empty() || !has_all(set, own.len()) {
        return edits;
    }
    vec![Action::EndPodEdits {
        name: set.metadata.name.clone().unwrap_or_default(),
        version: set.metadata.resource_version.clone().unwrap_or_default(),
    }]
}

/// Whether so many are all pods of a ReplicaSet, and those that come are of its template of now: whoever makes them has seen it.
fn has_all(set: &ReplicaSet, pods: usize) -> bool {
    let is_seen = set.status.observed_generation.unwrap_or(0) >= set.metadata.generation.unwrap_or(0);
    let wanted = set.spec.replicas.unwrap_or(1);
    is_seen && set.status.replicas == wanted && i32::try_from(pods) == Ok(wanted)
}

/// From what a ReplicaSet's template or a pod carries to what it is to carry. A key that is taken away has the value again
/// that the template in Git gives it, where the ReplicaSet is of that template.
fn edit(facts: &Facts<'_>, set: &ReplicaSet, metadata: &ObjectMeta, wanted: &PodMetadata) -> MetadataEdit {
    let before = PodMetadata::of_record(record(metadata));
    let git = facts.strategy.template.as_ref().filter(|_| hash_of(set) == facts.target.as_deref());
    let of_git = |map: &str, key: &str| Some(git?.get("metadata")?.get(map)?.get(key)?.as_str()?.to_owned());
    let changed = |map: &str, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>| {
        let taken = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), of_git(map, key)));
        let given = after.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
        taken.chain(given).collect::<BTreeMap<_, _>>()
    };
    let mut annotations = changed("annotations", &before.annotations, &wanted.annotations);
    annotations.insert(names::POD_METADATA.to_owned(), wanted.record());
    MetadataEdit { labels: changed("labels", &before.labels, &wanted.labels), annotations }
}

fn record(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(names::POD_METADATA).map(String::as_str)
}

fn is_pending(set: &ReplicaSet) -> bool {
    set.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(names::POD_METADATA_PENDING))
}
