//! Copies of the ConfigMaps and Secrets that a pod template refers to, so that a revision keeps its configuration.
//!
//! Each object that is referred to has an immutable copy for each content that a revision was made of, named
//! `<rollout>-<object>-<digest of the content>`, and the revision's template refers to the copy. So the revision hash covers
//! the content: another content is another revision, and an abort or a revert goes back to what was there. It is what
//! kustomize's `configMapGenerator` does with its hash suffix, for objects that come from elsewhere.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::action::Action;
use super::analysis::later;
use super::course::{Course, Facts};
use super::observed::{Config, Configs, Observed, Undeleted};
use super::revision::{hash, hash_of, hash_text};
use super::strategy::{ConfigSnapshots, Strategy};
use crate::api::config::{ConfigKind, ConfigMap, Secret};
use crate::api::names;

/// How long a changed object is left alone before a revision is made of it: a commit that changes several objects, or the
/// template as well, makes one revision and not several.
const SETTLE: SignedDuration = SignedDuration::from_secs(5);
/// The longest name of an object.
const NAME_MOST: usize = 253;
/// The wait for a copy that could not be deleted, which holds nothing: a Rollout at rest stays healthy.
pub const UNDELETED: &str = "CopyUndeleted";

/// A copy that the template's revision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// What is copied.
    pub kind: ConfigKind,
    /// Name of the object.
    pub source: String,
    /// Name of the copy.
    pub name: String,
    /// Digest of the content.
    pub digest: String,
}

/// Why the template's revision is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// A kind is being read, or may not be read.
    Unlisted(ConfigKind),
    /// Objects that the template refers to do not exist.
    Missing(Vec<String>),
    /// An object has changed a moment ago.
    Settling {
        /// Which.
        object: String,
        /// Until when it is left alone.
        until: Timestamp,
    },
}

/// The template with its references to copies, and the copies.
pub type Resolved = Result<(Value, Vec<Copy>), Unknown>;

/// Leads the template's references to the copies; while that cannot be, there is no template.
pub fn resolve(observed: &Observed, strategy: &mut Strategy, now: Option<Timestamp>) {
    let Some((snapshots, template)) = strategy.snapshots.clone().zip(strategy.template.as_ref()) else {
        return;
    };
    let rollout = observed.rollout.metadata.name.as_deref().unwrap_or_default();
    let resolved = resolved((rollout, template), &snapshots, &observed.configs);
    let gone = gone(observed, template, &snapshots);
    match resolved.and_then(|(template, copies)| settled(observed, (template, copies), gone, now)) {
        Ok((template, copies)) => {
            strategy.template = Some(template);
            strategy.copies = copies;
        }
        Err(unknown) => {
            strategy.template = None;
            strategy.unknown = Some(unknown);
        }
    }
}

/// Leaves a template alone for a while whose configuration has just changed. What is there already needs no wait: a touch that
/// changes nothing, a revert.
fn settled(
    observed: &Observed,
    (template, copies): (Value, Vec<Copy>),
    gone: Vec<(String, Timestamp)>,
    now: Option<Timestamp>,
) -> Resolved {
    let status = &observed.rollout.status;
    let hash = hash(&template);
    let is_there = [&status.stable, &status.canary].into_iter().flatten().any(|side| side.hash == hash);
    let Some(now) = now.filter(|_| status.stable.is_some() && !is_there) else {
        return Ok((template, copies));
    };
    let changed = |copy: &Copy| {
        let listed = observed.configs.of(copy.kind)?;
        let changed_at = listed.iter().find(|one| one.name == copy.source)?.changed_at?;
        Some((format!("{} {}", copy.kind, copy.source), changed_at))
    };
    let settles = |(object, changed_at): (String, Timestamp)| {
        let until = later(changed_at, SETTLE);
        // A clock that is ahead of this one by more says nothing.
        let is_due = until > now && until <= later(now, SETTLE + SETTLE);
        is_due.then_some(Unknown::Settling { object, until })
    };
    let mut last = copies.iter().rev().filter_map(changed).chain(gone);
    last.find_map(settles).map_or(Ok((template, copies)), Err)
}

/// What the template refers to, may be missing, and was there a moment ago: it may be on its way back.
fn gone(observed: &Observed, template: &Value, snapshots: &ConfigSnapshots) -> Vec<(String, Timestamp)> {
    let mut found = Vec::new();
    each_reference(&mut template.clone(), &mut |kind, name, is_optional| {
        let is_copied = is_optional && snapshots.kinds.contains(&kind) && !snapshots.except.contains(name);
        let missed = observed.configs.gone.iter().find(|one| is_copied && one.kind == kind && one.name == *name);
        found.extend(missed.map(|one| (format!("{kind} {name}"), one.at)));
    });
    found
}

/// Any template with its references to copies, and the copies.
pub fn resolved((rollout, template): (&str, &Value), snapshots: &ConfigSnapshots, configs: &Configs) -> Resolved {
    let mut copies: Vec<Copy> = Vec::new();
    let (mut missing, mut unlisted) = (BTreeSet::new(), None);
    let mut template = template.clone();
    each_reference(&mut template, &mut |kind, name, is_optional| {
        if !snapshots.kinds.contains(&kind) || snapshots.except.contains(name) {
            return;
        }
        let Some(listed) = configs.of(kind) else {
            unlisted = Some(kind);
            return;
        };
        let Some(config) = listed.iter().find(|one| one.name == *name) else {
            if !is_optional {
                missing.insert(format!("{kind} {name}"));
            }
            return;
        };
        let copy = copy_of(rollout, config);
        name.clone_from(&copy.name);
        if !copies.contains(&copy) {
            copies.push(copy);
        }
    });
    if let Some(kind) = unlisted {
        return Err(Unknown::Unlisted(kind));
    }
    if !missing.is_empty() {
        return Err(Unknown::Missing(missing.into_iter().collect()));
    }
    Ok((template, copies))
}

/// The copy of an object; a copy is its own. A name that is too long is cut; its digest keeps it apart.
fn copy_of(rollout: &str, config: &Config) -> Copy {
    // What `kubectl serin undo` finds of an earlier revision names its copies.
    if config.is_copy {
        let name = config.name.clone();
        return Copy { kind: config.kind, source: name.clone(), name, digest: config.digest.clone() };
    }
    let digest = hash_text(&format!("{}/{}/{}", config.kind, config.name, config.digest));
    let whole = format!("{rollout}-{}", config.name);
    let room = NAME_MOST - digest.len() - 1;
    let name: String = whole.chars().take(room).collect();
    Copy {
        kind: config.kind,
        source: config.name.clone(),
        name: format!("{name}-{digest}"),
        digest: config.digest.clone(),
    }
}

/// Every reference of a pod template to a ConfigMap or a Secret: its kind, its name, and whether it may be missing. Secrets that
/// images are pulled with are none: they say nothing of what a pod does.
fn each_reference(template: &mut Value, told: &mut dyn FnMut(ConfigKind, &mut String, bool)) {
    let Some(pod) = template.get_mut("spec") else { return };
    for list in ["containers", "initContainers"] {
        for container in list_at(pod, list) {
            for one in list_at(container, "envFrom") {
                told_at(one, "configMapRef", (ConfigKind::ConfigMap, "name"), told);
                told_at(one, "secretRef", (ConfigKind::Secret, "name"), told);
            }
            for one in list_at(container, "env").filter_map(|one| one.get_mut("valueFrom")) {
                told_at(one, "configMapKeyRef", (ConfigKind::ConfigMap, "name"), told);
                told_at(one, "secretKeyRef", (ConfigKind::Secret, "name"), told);
            }
        }
    }
    for volume in list_at(pod, "volumes") {
        told_at(volume, "configMap", (ConfigKind::ConfigMap, "name"), told);
        told_at(volume, "secret", (ConfigKind::Secret, "secretName"), told);
        if let Some(projected) = volume.get_mut("projected") {
            for source in list_at(projected, "sources") {
                told_at(source, "configMap", (ConfigKind::ConfigMap, "name"), told);
                told_at(source, "secret", (ConfigKind::Secret, "name"), told);
            }
        }
    }
}

fn list_at<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

fn told_at(
    holder: &mut Value,
    field: &str,
    (kind, key): (ConfigKind, &str),
    told: &mut dyn FnMut(ConfigKind, &mut String, bool),
) {
    let Some(reference) = holder.get_mut(field) else { return };
    let is_optional = reference.get("optional").and_then(Value::as_bool).unwrap_or(false);
    if let Some(Value::String(name)) = reference.get_mut(key) {
        told(kind, name, is_optional);
    }
}

/// A template as the controller leads it to copies, by ConfigMaps and Secrets as manifests have them.
pub fn offline(template: (&str, &Value), snapshots: &ConfigSnapshots, objects: &[&Value]) -> Resolved {
    let of = |kind: ConfigKind| {
        let word = kind.to_string();
        let own = objects.iter().filter(move |object| object["kind"] == word.as_str());
        Some(own.filter_map(|object| written(kind, object)).collect())
    };
    let configs =
        Configs { config_maps: of(ConfigKind::ConfigMap), secrets: of(ConfigKind::Secret), ..Configs::default() };
    resolved(template, snapshots, &configs)
}

/// A ConfigMap or a Secret of a manifest, as the API server will have it.
fn written(kind: ConfigKind, object: &Value) -> Option<Config> {
    let digest = match kind {
        ConfigKind::ConfigMap => ConfigMap::deserialize(object).ok()?.digest(),
        ConfigKind::Secret => {
            let mut object = object.clone();
            for (key, text) in object["stringData"].take().as_object().into_iter().flatten() {
                object["data"][key] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
            }
            Secret::deserialize(&object).ok()?.digest()
        }
    };
    let name = object["metadata"]["name"].as_str()?.to_owned();
    Some(Config { kind, name, uid: String::new(), digest, changed_at: None, is_copy: false })
}

/// The ConfigMaps and Secrets that a template refers to.
pub fn references(template: &Value) -> BTreeSet<(ConfigKind, String)> {
    let mut found = BTreeSet::new();
    each_reference(&mut template.clone(), &mut |kind, name, _| {
        found.insert((kind, name.clone()));
    });
    found
}

/// Kinds of which there are copies; of one that is not listed, as it was.
pub fn kinds(facts: &Facts<'_>) -> Vec<ConfigKind> {
    let known = &facts.observed.rollout.status.config_copies;
    let has_copies = |kind: &ConfigKind| match facts.observed.configs.of(*kind) {
        Some(listed) => listed.iter().any(|one| one.is_copy),
        None => known.contains(kind),
    };
    ConfigKind::ALL.into_iter().filter(has_copies).collect()
}

/// The failure of the last deletion of a copy, while none is tried.
fn undeleted<'a>(facts: &'a Facts<'_>) -> Option<&'a Undeleted> {
    facts.observed.configs.undeleted.as_ref().filter(|one| one.until > facts.now)
}

/// Names what is in the way of the template's revision, and of tidying up.
pub fn track(facts: &Facts<'_>, course: &mut Course) {
    if let Some(undeleted) = undeleted(facts).filter(|_| unused(facts).next().is_some()) {
        course.wait_until(UNDELETED, undeleted.message.clone(), undeleted.until);
    }
    let Some(unknown) = &facts.strategy.unknown else { return };
    match unknown {
        Unknown::Unlisted(kind) => course.hold(
            "ConfigUnlisted",
            format!("{kind}s are being read, as spec.configSnapshots asks; if that lasts, Serin may not list them here: bind ClusterRole {} in this namespace", kind.role()),
        ),
        Unknown::Missing(objects) => course.hold(
            "ConfigMissing",
            format!("the template refers to {}, which does not exist; create it, or list it in spec.configSnapshots.except", objects.join(" and ")),
        ),
        Unknown::Settling { object, until } => {
            course.is_held = true;
            course.wait_until("ConfigSettling", format!("{object} has just changed; what else the commit changes may follow"), *until);
        }
    }
}

/// The first copy that the template's revision needs and that is not there.
pub fn missing(facts: &Facts<'_>) -> Option<Action> {
    let is_there = |copy: &&Copy| {
        let listed = facts.observed.configs.of(copy.kind).unwrap_or_default();
        listed.iter().any(|one| one.is_copy && one.name == copy.name)
    };
    let copy = facts.strategy.copies.iter().find(|copy| !is_there(copy))?;
    Some(Action::CopyConfig {
        kind: copy.kind,
        source: copy.source.clone(),
        name: copy.name.clone(),
        digest: copy.digest.clone(),
    })
}

/// Deletes the copies that no revision needs. Where one could not be deleted, all are left alone for a while: nothing waits for
/// that.
pub fn surplus(facts: &Facts<'_>) -> Vec<Action> {
    if undeleted(facts).is_some() {
        return Vec::new();
    }
    let delete = |one: &Config| Action::DeleteCopy { kind: one.kind, name: one.name.clone(), uid: one.uid.clone() };
    unused(facts).map(delete).collect()
}

/// Copies that no ReplicaSet refers to, nor the template. While the template is not known, all are needed.
fn unused<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a Config> {
    let sets = &facts.observed.replica_sets;
    let recorded = sets.iter().filter(|set| hash_of(set).is_some());
    let recorded = recorded.filter_map(|set| set.metadata.annotations.as_ref()?.get(names::CONFIG_COPIES));
    let wanted = facts.strategy.copies.iter().map(|copy| word(copy.kind, &copy.name));
    let used: BTreeSet<String> = recorded.flat_map(|all| all.split(',').map(str::to_owned)).chain(wanted).collect();
    let copies = ConfigKind::ALL.into_iter().filter_map(|kind| facts.observed.configs.of(kind)).flatten();
    let is_known = facts.strategy.unknown.is_none();
    copies.filter(move |one| is_known && one.is_copy && !used.contains(&word(one.kind, &one.name)))
}

/// What a ReplicaSet records of the copies that its template refers to.
pub fn record(copies: &[Copy]) -> Option<String> {
    let words: Vec<String> = copies.iter().map(|copy| word(copy.kind, &copy.name)).collect();
    (!words.is_empty()).then(|| words.join(","))
}

fn word(kind: ConfigKind, name: &str) -> String {
    format!("{kind}/{name}")
}

/// The copy of an object's content, which goes with the Rollout.
pub fn body(observed: &Observed, (kind, source, name): (ConfigKind, &str, &str), content: &Value) -> Value {
    let rollout = &observed.rollout;
    let mut body = json!({
        "apiVersion": "v1",
        "kind": kind.to_string(),
        "metadata": {
            "name": name,
            "namespace": rollout.metadata.namespace,
            "labels": {names::ROLLOUT: rollout.metadata.name},
            "annotations": {names::CONFIG_SOURCE: source},
            "ownerReferences": [super::objects::owner(rollout, true)],
        },
        "immutable": true,
    });
    // A Secret's type says what else reads it; pods read keys alone.
    let own = ["data", "binaryData"].into_iter().filter_map(|field| Some((field, content.get(field)?)));
    if let Some(fields) = body.as_object_mut() {
        fields.extend(own.map(|(field, value)| (field.to_owned(), value.clone())));
    }
    body
}
