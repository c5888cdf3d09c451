//! ConfigMaps and Secrets of Rollouts that ask for copies: watched in their namespaces, and copied. Their content is read when it
//! is copied, and kept nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams, Preconditions};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::time::Instant;

use super::Shell;
use super::cache::Select;
use super::error::{Class, Error};
use super::watches::Watches;
use crate::api::config::{ConfigKind, ConfigMap, Secret};
use crate::api::names;
use crate::api::watched::{ReplicaSet, Rollout};
use crate::plan::action::Action;
use crate::plan::analysis::later;
use crate::plan::observed::{Config, Configs, GoneConfig, Observed, Undeleted};
use crate::plan::snapshot;

/// How long what could not be deleted is left alone: where that was refused, and else.
const REFUSED_AGAIN: SignedDuration = SignedDuration::from_mins(10);
const FAILED_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// How long an object that is gone is remembered: longer than anything waits for it to come back.
const GONE: SignedDuration = SignedDuration::from_secs(30);
/// What Helm keeps of its releases, large and of no use to pods.
const OTHER_SECRETS: &str = "type!=helm.sh/release.v1";

/// The watches.
#[derive(Default)]
pub struct ConfigWatches {
    maps: Watches<ConfigMap>,
    secrets: Watches<Secret>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// What was seen of a Rollout's objects when they were last looked at.
#[derive(Default)]
struct Seen {
    names: BTreeSet<(ConfigKind, String)>,
    gone: Vec<GoneConfig>,
    undeleted: Option<Undeleted>,
}

impl ConfigWatches {
    /// Watches no more.
    pub fn end(&self, rollout: &str) {
        self.maps.end(rollout);
        self.secrets.end(rollout);
        self.seen().remove(rollout);
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what the lists do not tell: what was there before, and what could not be deleted.
    fn look_back(&self, rollout: &str, configs: &mut Configs, now: Timestamp) {
        let mut all = self.seen();
        if configs.is_empty() {
            all.remove(rollout);
            return;
        }
        let seen = all.entry(rollout.to_owned()).or_default();
        let listed = ConfigKind::ALL.into_iter().filter_map(|kind| configs.of(kind)).flatten();
        let names: BTreeSet<_> = listed.filter(|one| !one.is_copy).map(|one| (one.kind, one.name.clone())).collect();
        let missed = seen.names.difference(&names).filter(|(kind, _)| configs.of(*kind).is_some());
        seen.gone.extend(missed.map(|(kind, name)| GoneConfig { kind: *kind, name: name.clone(), at: now }));
        seen.gone.retain(|one| now.duration_since(one.at) <= GONE && !names.contains(&(one.kind, one.name.clone())));
        seen.names = names;
        configs.gone.clone_from(&seen.gone);
        configs.undeleted.clone_from(&seen.undeleted);
    }

    /// Whether copies are left alone for a while.
    fn leaves_copies(&self, rollout: &str, now: Timestamp) -> bool {
        let seen = self.seen();
        let undeleted = seen.get(rollout).and_then(|seen| seen.undeleted.as_ref());
        undeleted.is_some_and(|undeleted| undeleted.until > now)
    }

    /// Remembers that a copy could not be deleted.
    fn postpone(&self, rollout: &str, error: &Error, now: Timestamp) {
        self.seen().entry(rollout.to_owned()).or_default().undeleted = Some(undeleted(error, now));
    }

    /// Since when a list is awaited.
    pub fn awaited_since(&self, rollout: &str) -> Option<Instant> {
        self.maps.awaited_since(rollout).into_iter().chain(self.secrets.awaited_since(rollout)).min()
    }
}

/// What could not be deleted, and until when it is left alone.
pub fn undeleted(error: &Error, now: Timestamp) -> Undeleted {
    let wait = match error.class() {
        Class::Refused => REFUSED_AGAIN,
        Class::Conflict | Class::Transient | Class::NotLeading => FAILED_AGAIN,
    };
    Undeleted { message: error.to_string(), until: later(now, wait) }
}

/// What is known of a Rollout's, which are watched from now on; of one that asks for no copies, and has none left, nothing.
pub fn observe(shell: &Shell, rollout: &str, of: &Rollout, sets: &[ReplicaSet]) -> Configs {
    let (spec, uid) = (of.spec.value(), of.metadata.uid.as_deref().unwrap_or_default());
    let recorded = |set: &ReplicaSet| set.metadata.annotations.as_ref()?.get(names::CONFIG_COPIES).cloned();
    let left: Vec<String> = sets.iter().filter_map(recorded).collect();
    let asked = spec.pointer("/configSnapshots/kinds").and_then(Value::as_array);
    let is_wanted = |kind: ConfigKind| {
        let (word, of_copy) = (kind.to_string(), format!("{kind}/"));
        asked.into_iter().flatten().any(|one| one.as_str() == Some(&word))
            || of.status.config_copies.contains(&kind)
            || left.iter().flat_map(|all| all.split(',')).any(|one| one.starts_with(&of_copy))
    };
    let mut configs = Configs::default();
    let watches = &shell.configs;
    if is_wanted(ConfigKind::ConfigMap) {
        watches.maps.begin(&shell.client, rollout, Select::All, &shell.queue);
        let told = |one: ConfigMap| config(ConfigKind::ConfigMap, one.digest(), &one.metadata, uid);
        configs.config_maps = watches.maps.of(rollout).map(|all| all.into_iter().map(told).collect());
    } else {
        watches.maps.end(rollout);
    }
    if is_wanted(ConfigKind::Secret) {
        watches.secrets.begin(&shell.client, rollout, Select::Fields(OTHER_SECRETS), &shell.queue);
        let told = |one: Secret| config(ConfigKind::Secret, one.digest(), &one.metadata, uid);
        configs.secrets = watches.secrets.of(rollout).map(|all| all.into_iter().map(told).collect());
    } else {
        watches.secrets.end(rollout);
    }
    watches.look_back(rollout, &mut configs, (shell.clock)());
    configs
}

fn config(kind: ConfigKind, digest: String, metadata: &ObjectMeta, rollout: &str) -> Config {
    Config {
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        digest,
        changed_at: metadata.managed_fields.iter().flatten().find_map(|entry| entry.time.as_ref()).map(|time| time.0),
        is_copy: is_copy(metadata, rollout),
    }
}

/// Whether Serin made it for this Rollout: what a user lets go with the Rollout is the user's.
fn is_copy(metadata: &ObjectMeta, rollout: &str) -> bool {
    let is_made = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::CONFIG_SOURCE));
    is_made
        && metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.uid == rollout && owner.controller == Some(true))
}

fn api(shell: &Shell, observed: &Observed, kind: ConfigKind) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", &kind.to_string()));
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced_with(shell.client.clone(), namespace, &resource)
}

fn resource(kind: ConfigKind) -> &'static str {
    match kind {
        ConfigKind::ConfigMap => "configmaps",
        ConfigKind::Secret => "secrets",
    }
}

/// Copies an object, unless its content is another one by now.
pub async fn copy(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (kind, source, name, digest): (ConfigKind, &str, &str, &str),
) -> Result<(), Error> {
    let api = api(shell, observed, kind);
    let content = shell.read(api.get(source)).await?;
    let content = serde_json::to_value(&content).unwrap_or_default();
    if digest_of(kind, &content).as_deref() != Some(digest) {
        // The watch has told, or will in a moment.
        return Err(Error::Old { action: action.to_string() });
    }
    let body = snapshot::body(observed, (kind, source, name), &content);
    let Ok(body) = serde_json::from_value::<DynamicObject>(body) else {
        return Ok(());
    };
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let created = shell
        .write(
            &shell.name_of(&observed.rollout),
            (resource(kind), "create"),
            &action.to_string(),
            api.create(&params, &body),
        )
        .await;
    let (written, failed) = match created {
        Ok(written) => (written, None),
        Err(error) if error.class() == Class::Conflict => (shell.read(api.get(name)).await?, Some(error)),
        Err(error) => return Err(error),
    };
    if !is_copy(&written.metadata, observed.rollout.metadata.uid.as_deref().unwrap_or_default()) {
        let message = format!("{kind} {name} exists and is not this Rollout's; delete or rename it");
        return Err(Error::Told { message });
    }
    put(shell, observed, kind, &serde_json::to_value(&written).unwrap_or_default());
    failed.map_or(Ok(()), Err)
}

/// Takes an object into its cache, as the watch would.
fn put(shell: &Shell, observed: &Observed, kind: ConfigKind, object: &Value) {
    let rollout = shell.name_of(&observed.rollout);
    match kind {
        ConfigKind::ConfigMap => {
            ConfigMap::deserialize(object).into_iter().for_each(|one| shell.configs.maps.put(&rollout, &one));
        }
        ConfigKind::Secret => {
            Secret::deserialize(object).into_iter().for_each(|one| shell.configs.secrets.put(&rollout, &one));
        }
    }
}

fn digest_of(kind: ConfigKind, object: &Value) -> Option<String> {
    match kind {
        ConfigKind::ConfigMap => ConfigMap::deserialize(object).ok().map(|one| one.digest()),
        ConfigKind::Secret => Secret::deserialize(object).ok().map(|one| one.digest()),
    }
}

/// Deletes a copy. What keeps it from going stands in the status, and keeps nothing else from being done.
pub async fn delete(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (kind, name, uid): (ConfigKind, &str, &str),
) -> Result<(), Error> {
    let rollout = shell.name_of(&observed.rollout);
    // What keeps one copy from going keeps the others, too.
    if shell.configs.leaves_copies(&rollout, (shell.clock)()) {
        return Ok(());
    }
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    let api = api(shell, observed, kind);
    let deleted = shell
        .write(
            &shell.name_of(&observed.rollout),
            (resource(kind), "delete"),
            &action.to_string(),
            api.delete(name, &params),
        )
        .await;
    if let Err(error) = deleted {
        match error.class() {
            // It is gone, or another one has its name.
            Class::Conflict => {}
            Class::NotLeading => return Err(error),
            Class::Refused | Class::Transient => {
                tracing::warn!(%rollout, %error, "a copy that no revision needs stays for a while");
                shell.configs.postpone(&rollout, &error, (shell.clock)());
                return Ok(());
            }
        }
    }
    match kind {
        ConfigKind::ConfigMap => shell.configs.maps.forget(&rollout, name),
        ConfigKind::Secret => shell.configs.secrets.forget(&rollout, name),
    }
    Ok(())
}
