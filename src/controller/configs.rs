//! ConfigMaps and Secrets of Rollouts that ask for copies: watched in their namespaces, and copied. Their content is read when it
//! is copied, and kept nowhere.

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
use crate::api::watched::ReplicaSet;
use crate::plan::action::Action;
use crate::plan::observed::{Config, Configs, Observed};
use crate::plan::snapshot;

/// What Helm keeps of its releases, large and of no use to pods.
const OTHER_SECRETS: &str = "type!=helm.sh/release.v1";

/// The watches.
#[derive(Default)]
pub struct ConfigWatches {
    maps: Watches<ConfigMap>,
    secrets: Watches<Secret>,
}

impl ConfigWatches {
    /// Watches no more.
    pub fn end(&self, rollout: &str) {
        self.maps.end(rollout);
        self.secrets.end(rollout);
    }

    /// Since when a list is awaited.
    pub fn awaited_since(&self, rollout: &str) -> Option<Instant> {
        self.maps.awaited_since(rollout).into_iter().chain(self.secrets.awaited_since(rollout)).min()
    }
}

/// What is known of a Rollout's, which are watched from now on; of one that asks for no copies, and has none left, nothing.
pub fn observe(shell: &Shell, rollout: &str, spec: &Value, (uid, sets): (&str, &[ReplicaSet])) -> Configs {
    let recorded = |set: &ReplicaSet| set.metadata.annotations.as_ref()?.get(names::CONFIG_COPIES).cloned();
    let left: Vec<String> = sets.iter().filter_map(recorded).collect();
    let asked = spec.pointer("/configSnapshots/kinds").and_then(Value::as_array);
    let is_wanted = |kind: ConfigKind| {
        let (word, of_copy) = (kind.to_string(), format!("{kind}/"));
        asked.into_iter().flatten().any(|one| one.as_str() == Some(&word))
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
    let created = shell.write(resource(kind), "create", &action.to_string(), api.create(&params, &body)).await;
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
            ConfigMap::deserialize(object).into_iter().for_each(|one| shell.configs.maps.put(&rollout, one));
        }
        ConfigKind::Secret => {
            Secret::deserialize(object).into_iter().for_each(|one| shell.configs.secrets.put(&rollout, one));
        }
    }
}

fn digest_of(kind: ConfigKind, object: &Value) -> Option<String> {
    match kind {
        ConfigKind::ConfigMap => ConfigMap::deserialize(object).ok().map(|one| one.digest()),
        ConfigKind::Secret => Secret::deserialize(object).ok().map(|one| one.digest()),
    }
}

/// Deletes a copy.
pub async fn delete(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (kind, name, uid): (ConfigKind, &str, &str),
) -> Result<(), Error> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    let api = api(shell, observed, kind);
    let deleted = shell.write(resource(kind), "delete", &action.to_string(), api.delete(name, &params)).await;
    let rollout = shell.name_of(&observed.rollout);
    match deleted {
        Err(error) if error.class() != Class::Conflict => return Err(error),
        Err(_) | Ok(_) => {}
    }
    match kind {
        ConfigKind::ConfigMap => shell.configs.maps.forget(&rollout, name),
        ConfigKind::Secret => shell.configs.secrets.forget(&rollout, name),
    }
    Ok(())
}
