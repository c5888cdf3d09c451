//! What Kustomize must know to merge lists by their keys: an `OpenAPI` document of Serin's kinds and of Kubernetes' own.
//!
//! Kustomize takes one such file in the place of its own, so that Kubernetes' kinds belong in it, too. The document has only
//! what leads to a list that is merged; Kustomize merges maps and replaces lists that it knows nothing of.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplate, ReplicationController, Service, ServiceAccount};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::{crd, schema};

/// A list that Kubernetes merges.
struct Merged {
    /// How its path ends.
    path: &'static str,
    /// The strategy and the key of a strategic merge patch; no key: an item is itself the key.
    strategy: &'static str,
    key: &'static str,
    /// What tells two items apart, where that is more than the key.
    keys: &'static [&'static str],
}

const fn by(path: &'static str, key: &'static str) -> Merged {
    Merged { path, strategy: "merge", key, keys: &[] }
}

const fn by_all(path: &'static str, keys: &'static [&'static str], key: &'static str) -> Merged {
    Merged { path, strategy: "merge", key, keys }
}

/// `patchStrategy`, `patchMergeKey` and `listMapKey` of the types in `k8s.io/api`; generated schemas do not have them.
const MERGED: &[Merged] = &[
    by(".containers", "name"),
    by(".initContainers", "name"),
    by(".ephemeralContainers", "name"),
    by(".env", "name"),
    by_all(".ports", &["containerPort", "protocol"], "containerPort"),
    by_all(".ports", &["port", "protocol"], "port"),
    by(".volumeMounts", "mountPath"),
    by(".volumeDevices", "devicePath"),
    Merged { path: ".spec.volumes", strategy: "merge,retainKeys", key: "name", keys: &[] },
    by(".spec.imagePullSecrets", "name"),
    by(".hostAliases", "ip"),
    by_all(".topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"], "topologyKey"),
    by(".schedulingGates", "name"),
    Merged { path: ".resourceClaims", strategy: "merge,retainKeys", key: "name", keys: &[] },
    by(".secrets", "name"),
    by(".webhooks", "name"),
    by(".metadata.finalizers", ""),
    by(".metadata.ownerReferences", "uid"),
];

/// The definition that pods of every kind share.
const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";

/// The document.
pub fn openapi() -> Value {
    let pod = merged(&schema::of::<PodSpec>(), ".spec").unwrap_or_default();
    let mut definitions = Map::new();
    let mut paths = Map::new();
    for (id, group_version_kind, schema) in built_in().into_iter().chain(own(&mut paths)) {
        let Some(mut definition) = merged(&schema, "") else { continue };
        share(&mut definition, &pod);
        if let Some(definition) = definition.as_object_mut() {
            definition.insert("x-kubernetes-group-version-kind".into(), json!([group_version_kind]));
        }
        definitions.insert(id, definition);
    }
    definitions.insert(POD_SPEC.into(), pod);
    json!({"definitions": definitions, "paths": paths})
}

/// Kubernetes' kinds that have lists that are merged, besides those of `metadata`.
fn built_in() -> Vec<(String, Value, Value)> {
    vec![
        kind::<Pod>(),
        kind::<PodTemplate>(),
        kind::<ReplicationController>(),
        kind::<Deployment>(),
        kind::<StatefulSet>(),
        kind::<DaemonSet>(),
        kind::<ReplicaSet>(),
        kind::<Job>(),
        kind::<CronJob>(),
        kind::<Service>(),
        kind::<ServiceAccount>(),
        kind::<MutatingWebhookConfiguration>(),
        kind::<ValidatingWebhookConfiguration>(),
    ]
}

fn kind<K: k8s_openapi::Resource + JsonSchema>() -> (String, Value, Value) {
    let group = if K::GROUP.is_empty() { "core" } else { K::GROUP.trim_end_matches(".k8s.io") };
    let id = format!("io.k8s.api.{group}.{}.{}", K::VERSION, K::KIND);
    (id, json!({"group": K::GROUP, "version": K::VERSION, "kind": K::KIND}), schema::of::<K>())
}

/// Serin's kinds; `paths` tells Kustomize which of them have a namespace.
fn own(paths: &mut Map<String, Value>) -> Vec<(String, Value, Value)> {
    let text =
        |definition: &Value, path: &str| definition.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut kinds = Vec::new();
    for definition in crd::definitions() {
        let (group, kind) = (text(&definition, "/spec/group"), text(&definition, "/spec/names/kind"));
        let (version, plural) = (text(&definition, "/spec/versions/0/name"), text(&definition, "/spec/names/plural"));
        let group_version_kind = json!({"group": group, "version": version, "kind": kind});
        let namespace = if text(&definition, "/spec/scope") == "Namespaced" { "namespaces/{namespace}/" } else { "" };
        let operation = json!({"x-kubernetes-action": "get", "x-kubernetes-group-version-kind": group_version_kind});
        paths.insert(format!("/apis/{group}/{version}/{namespace}{plural}/{{name}}"), json!({"get": operation}));
        let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default();
        kinds.push((format!("dev.serin.{version}.{kind}"), group_version_kind, schema));
    }
    kinds
}

/// What of a schema leads to lists that are merged.
fn merged(schema: &Value, path: &str) -> Option<Value> {
    if let Some(items) = schema.get("items") {
        let has = |key: &str| key.is_empty() || items.pointer(&format!("/properties/{key}")).is_some();
        let own = MERGED.iter().find(|list| path.ends_with(list.path) && has(list.key));
        let below = merged(items, path);
        if own.is_none() && below.is_none() {
            return None;
        }
        let items = below.unwrap_or_else(|| json!({"type": items.get("type")}));
        let mut list = Map::from_iter([("type".to_owned(), json!("array")), ("items".to_owned(), items)]);
        if let Some(own) = own {
            list.insert("x-kubernetes-patch-strategy".into(), json!(own.strategy));
            if !own.key.is_empty() {
                list.insert("x-kubernetes-patch-merge-key".into(), json!(own.key));
            }
            if !own.keys.is_empty() {
                list.insert("x-kubernetes-list-type".into(), json!("map"));
                list.insert("x-kubernetes-list-map-keys".into(), json!(own.keys));
            }
        }
        return Some(list.into());
    }
    let fields = schema.get("properties")?.as_object()?.iter().filter(|(name, _)| *name != "status");
    let fields = fields.filter_map(|(name, field)| Some((name.clone(), merged(field, &format!("{path}.{name}"))?)));
    let fields: Map<String, Value> = fields.collect();
    (!fields.is_empty()).then(|| json!({"type": "object", "properties": fields}))
}

/// Refers to the definition of a pod where one is.
fn share(definition: &mut Value, pod: &Value) {
    if definition == pod {
        *definition = json!({"$ref": format!("#/definitions/{POD_SPEC}")});
    } else if let Some(fields) = definition.as_object_mut() {
        fields.values_mut().for_each(|field| share(field, pod));
    }
}
