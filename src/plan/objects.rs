//! The objects and patches that actions stand for, as JSON. Whole objects for what Serin owns, guarded patches for what Git holds.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use serde_json::{Map, Value, json};

use super::action::{Action, FrontEdit, MetadataEdit, SubsetEdit, WeightEdit};
use super::observed::Observed;
use super::strategy::{Managed, PodMetadata, RouteKind, Routing};
use super::weight::Split;
use crate::api::istio::{Destination, PortNumber};
use crate::api::names;
use crate::api::watched::{HttpRoute, Rollout, ServicePort, VirtualService};

/// The owner reference of a child.
pub fn owner(rollout: &Rollout, controls: bool) -> Value {
    json!({
        "apiVersion": names::API_VERSION,
        "kind": "Rollout",
        "name": rollout.metadata.name,
        "uid": rollout.metadata.uid,
        "controller": controls,
        "blockOwnerDeletion": controls,
    })
}

/// The ReplicaSet of the template's revision; its pods carry what their role asks for, besides.
pub fn replica_set(observed: &Observed, hash: &str, (replicas, revision): (i32, i64), metadata: &PodMetadata) -> Value {
    let rollout = &observed.rollout;
    let strategy = super::strategy_of(observed);
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let selector: Map<String, Value> =
        strategy.selector.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let copies = super::snapshot::record(&strategy.copies);
    let mut template = strategy.template.unwrap_or_else(|| json!({}));
    label_pods(&mut template, name, hash);
    let mut labels: Map<String, Value> =
        template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    labels.retain(|key, _| !names::is_tracking_key(key) || selector.contains_key(key));
    let mut annotations = json!({names::REVISION: revision.to_string()});
    if let Some(copies) = copies {
        annotations[names::CONFIG_COPIES] = json!(copies);
    }
    if let Some(record) = metadata.record() {
        annotations[names::POD_METADATA] = json!(record);
        json_patch::merge(&mut template["metadata"], &json!(metadata));
        json_patch::merge(&mut template["metadata"], &json!({"annotations": {names::POD_METADATA: record}}));
    }
    let mut match_labels = selector;
    match_labels.insert(names::REVISION_HASH.into(), json!(hash));
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{name}-{hash}"),
            "namespace": rollout.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner(rollout, true)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": strategy.min_ready_seconds,
            "selector": {"matchLabels": match_labels},
            "template": template,
        },
    })
}

/// The ReplicaSet of a baseline, from that of stable as the API server has it: other pods of the same template.
pub fn baseline(observed: &Observed, source: &Value, action: &Action) -> Value {
    let Action::CreateBaseline { name, stable, canary, replicas, .. } = action else {
        return Value::Null;
    };
    let (metadata, spec) = (&source["metadata"], &source["spec"]);
    let mark = json!({names::BASELINE: canary});
    let with_mark = |labels: &Value| {
        let mut labels = labels.clone();
        json_patch::merge(&mut labels, &mark);
        labels
    };
    let mut template = spec["template"].clone();
    template["metadata"]["labels"] = with_mark(&template["metadata"]["labels"]);
    template["metadata"]["labels"][names::CANONICAL_REVISION] = json!(super::baseline::revision(stable, canary));
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": observed.rollout.metadata.namespace,
            "labels": with_mark(&metadata["labels"]),
            "ownerReferences": [owner(&observed.rollout, true)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": spec["minReadySeconds"],
            "selector": {"matchLabels": with_mark(&spec["selector"]["matchLabels"])},
            "template": template,
        },
    })
}

/// Sets the labels that tell revisions apart; a user's own canonical revision is kept in an annotation.
fn label_pods(template: &mut Value, rollout: &str, hash: &str) {
    if !template.is_object() {
        *template = json!({});
    }
    let users =
        template.pointer(&format!("/metadata/labels/{}", names::CANONICAL_REVISION.replace('/', "~1"))).cloned();
    let labels = &mut template["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[names::REVISION_HASH] = json!(hash);
    labels[names::ROLLOUT] = json!(rollout);
    labels[names::CANONICAL_REVISION] = json!(hash);
    if let Some(value) = users {
        if !template["metadata"]["annotations"].is_object() {
            template["metadata"]["annotations"] = json!({});
        }
        template["metadata"]["annotations"][names::USER_CANONICAL_REVISION] = value;
    }
    if let Some(annotations) = template.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !names::is_tracking_key(key));
    }
}

/// The VirtualService that Serin owns: to both subsets, or to the plain host; header and mirror routes in front.
pub fn virtual_service(
    observed: &Observed,
    name: &str,
    version: Option<&str>,
    (split, front): (Option<Split>, &[Managed]),
) -> Value {
    let rollout = observed.rollout.metadata.name.as_deref().unwrap_or_default();
    let routing = super::strategy_of(observed).routing;
    let (host, hosts, gateways, port) = match routing {
        Some(Routing::Owned { host, hosts, gateways, port }) => {
            let port = super::route::port(observed, name, &host, port);
            (host, hosts, gateways, port)
        }
        Some(Routing::InPlace { .. } | Routing::Hosts { .. }) | None => Default::default(),
    };
    let destination = |subset: Option<String>| {
        let port = port.map(|number| PortNumber { number });
        json!(Destination { host: host.clone(), subset, port })
    };
    let canary = destination(Some(names::owned_canary_subset(rollout)));
    let route = match split {
        None => json!([{"destination": destination(None)}]),
        Some(split) => json!([
            {"destination": destination(Some(names::owned_stable_subset(rollout))), "weight": split.stable},
            {"destination": canary, "weight": split.canary},
        ]),
    };
    let mut http: Vec<Value> = front
        .iter()
        .map(|one| match one.mirror {
            None => managed(one, &json!([{"destination": canary, "weight": 100}]), None),
            Some(_) => managed(one, &route, Some(&canary)),
        })
        .collect();
    http.push(json!({"name": names::OWNED_HTTP_ROUTE, "route": route}));
    let mut spec = json!({"http": http});
    if !hosts.is_empty() {
        spec["hosts"] = json!(hosts);
    }
    if !gateways.is_empty() {
        spec["gateways"] = json!(gateways);
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": owned_metadata(&observed.rollout, name, version),
        "spec": spec,
    })
}

/// A header or mirror route with its destinations.
fn managed(one: &Managed, route: &Value, mirror: Option<&Value>) -> Value {
    let mut value = json!({"name": one.name, "match": one.matches, "route": route});
    if let Some(percentage) = one.mirror {
        value["mirror"] = mirror.cloned().unwrap_or_default();
        value["mirrorPercentage"] = json!({"value": percentage});
    }
    value
}

/// The DestinationRule that Serin owns: nothing but the two subsets.
pub fn destination_rule(observed: &Observed, action: &Action) -> Value {
    let Action::WriteDestinationRule { name, version, host, export_to, stable, canary } = action else {
        return Value::Null;
    };
    let rollout = observed.rollout.metadata.name.as_deref().unwrap_or_default();
    let mut spec = json!({
        "host": host,
        "subsets": [
            {"name": names::owned_stable_subset(rollout), "labels": {names::REVISION_HASH: stable}},
            {"name": names::owned_canary_subset(rollout), "labels": {names::REVISION_HASH: canary}},
        ],
    });
    if !export_to.is_empty() {
        spec["exportTo"] = json!(export_to);
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": owned_metadata(&observed.rollout, name, version.as_deref()),
        "spec": spec,
    })
}

fn owned_metadata(rollout: &Rollout, name: &str, version: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "namespace": rollout.metadata.namespace,
        "labels": {names::ROLLOUT: rollout.metadata.name},
        "ownerReferences": [owner(rollout, true)],
    });
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    metadata
}

/// A Service that Serin owns, of a canary between hosts; it selects all revisions until it is told one.
pub fn service(observed: &Observed, name: &str, ports: &[ServicePort]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owned_metadata(&observed.rollout, name, None),
        "spec": {"selector": super::strategy_of(observed).selector, "ports": ports},
    })
}

/// JSON patch for the pods wanted of a ReplicaSet, and for the revision's number where it changes: tests the generation,
/// and the number where there is one.
pub fn scale_patch((generation, number): (i64, i64), replicas: i32, revision: Option<i64>) -> Value {
    let path = format!("/metadata/annotations/{}", names::REVISION.replace('/', "~1"));
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/generation", "value": generation}),
        json!({"op": "add", "path": "/spec/replicas", "value": replicas}),
    ];
    if number > 0 {
        operations.push(json!({"op": "test", "path": path, "value": number.to_string()}));
    }
    if let Some(revision) = revision {
        operations.push(json!({"op": "add", "path": path, "value": revision.to_string()}));
    }
    Value::Array(operations)
}

/// Merge patch for what the pod template of a ReplicaSet says for a role: its pods do not all have it yet.
pub fn pod_template_patch(version: &str, edit: &MetadataEdit) -> Value {
    let record = edit.annotations.get(names::POD_METADATA);
    json!({
        "metadata": {
            "resourceVersion": version,
            "annotations": {names::POD_METADATA: record, names::POD_METADATA_PENDING: "true"},
        },
        "spec": {"template": {"metadata": edit}},
    })
}

/// Merge patch for what a pod carries for a role.
pub fn pod_patch(version: &str, edit: &MetadataEdit) -> Value {
    json!({"metadata": {"resourceVersion": version, "labels": edit.labels, "annotations": edit.annotations}})
}

/// Merge patch for a ReplicaSet whose pods all have what its template says.
pub fn end_of_pod_edits(version: &str) -> Value {
    json!({"metadata": {"resourceVersion": version, "annotations": {names::POD_METADATA_PENDING: null}}})
}

/// JSON patch of a Deployment's scale, to 0: tests that it is the one, and wants as many pods as in the snapshot.
pub fn workload_patch(uid: &str, replicas: i32) -> Value {
    json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/spec/replicas", "value": replicas},
        {"op": "replace", "path": "/spec/replicas", "value": 0},
    ])
}

/// Merge patch for the revision key of a Service's selector.
pub fn selector_patch(version: &str, hash: Option<&str>) -> Value {
    json!({"metadata": {"resourceVersion": version}, "spec": {"selector": {names::REVISION_HASH: hash}}})
}

/// JSON patch for the weights of routes that Git holds: tests the version and the routes' names, then replaces two numbers a
/// route, and last what stands in front.
pub fn weight_patch(version: &str, edits: &[WeightEdit], front: Option<&FrontEdit>) -> Value {
    let mut operations = vec![test_of(version)];
    operations.extend(edits.iter().flat_map(|edit| weight_operations(edit, RouteKind::VirtualService)));
    operations.extend(front.into_iter().flat_map(front_operations));
    Value::Array(operations)
}

/// JSON patch for the weights of rules that Git holds, likewise.
pub fn rule_patch(version: &str, edits: &[WeightEdit]) -> Value {
    let weights = edits.iter().flat_map(|edit| weight_operations(edit, RouteKind::HttpRoute));
    Value::Array(std::iter::once(test_of(version)).chain(weights).collect())
}

fn test_of(version: &str) -> Value {
    json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})
}

/// Tests the name of a route, and replaces two numbers of it.
fn weight_operations(edit: &WeightEdit, kind: RouteKind) -> Vec<Value> {
    let (route, list) = (format!("/spec/{}/{}", kind.routes(edit.protocol), edit.at), kind.destinations());
    let test = |name: &String| json!({"op": "test", "path": format!("{route}/name"), "value": name});
    let weights = [(edit.stable_at, edit.split.stable), (edit.canary_at, edit.split.canary)];
    let add = |(at, weight): (usize, i32)| json!({"op": "add", "path": format!("{route}/{list}/{at}/weight"), "value": weight});
    edit.route.iter().map(test).chain(weights.map(add)).collect()
}

/// Takes the header and mirror routes that there are away, the last first, then puts others in front, the last first.
/// Their destinations are copied from the edited route, with all that Git says of them.
fn front_operations(edit: &FrontEdit) -> Vec<Value> {
    let test = |at: usize, name: &str| json!({"op": "test", "path": format!("/spec/http/{at}/name"), "value": name});
    let mut operations: Vec<Value> = edit.route.iter().map(|name| test(edit.at, name)).collect();
    for (at, name) in edit.removed.iter().rev() {
        operations.push(test(*at, name));
        operations.push(json!({"op": "remove", "path": format!("/spec/http/{at}")}));
    }
    let mut at = edit.at - edit.removed.iter().filter(|(removed, _)| *removed < edit.at).count();
    for one in edit.added.iter().rev() {
        at += 1;
        operations
            .push(json!({"op": "add", "path": "/spec/http/0", "value": managed(one, &json!([]), Some(&json!({})))}));
        let edited = format!("/spec/http/{at}/route");
        let canary = format!("{edited}/{}", edit.canary_at);
        let mut copy = |from: &str, path: &str| operations.push(json!({"op": "copy", "from": from, "path": path}));
        if one.mirror.is_some() {
            copy(&edited, "/spec/http/0/route");
            copy(&format!("{canary}/destination"), "/spec/http/0/mirror");
        } else {
            copy(&canary, "/spec/http/0/route/0");
            operations.push(json!({"op": "add", "path": "/spec/http/0/route/0/weight", "value": 100}));
        }
    }
    operations
}

/// JSON patch for the revision labels of subsets that Git holds: tests the version and the subsets' names.
pub fn subset_patch(version: &str, edits: &[SubsetEdit]) -> Value {
    let mut operations = vec![test_of(version)];
    for edit in edits {
        let subset = format!("/spec/subsets/{}", edit.at);
        let label = format!("{subset}/labels/{}", names::REVISION_HASH.replace('/', "~1"));
        operations.push(json!({"op": "test", "path": format!("{subset}/name"), "value": edit.name}));
        operations.push(match &edit.hash {
            Some(hash) if edit.has_labels => json!({"op": "add", "path": label, "value": hash}),
            Some(hash) => {
                json!({"op": "add", "path": format!("{subset}/labels"), "value": {names::REVISION_HASH: hash}})
            }
            None => json!({"op": "remove", "path": label}),
        });
    }
    Value::Array(operations)
}

/// Whether a newer version of a VirtualService still has the edited destinations where the snapshot had them.
pub fn has_same_routes(
    current: &VirtualService,
    (edits, front): (&[WeightEdit], Option<&FrontEdit>),
    observed: &Observed,
    name: &str,
) -> bool {
    let known = observed
        .virtual_services
        .iter()
        .find(|one| one.metadata.name.as_deref() == Some(name) && one.metadata.namespace == current.metadata.namespace);
    let Some(known) = known else { return false };
    if front.is_some() && current.spec.http != known.spec.http {
        return false;
    }
    edits.iter().all(|edit| {
        let destinations = |one: &VirtualService| {
            one.spec.routes(edit.protocol).get(edit.at).map(|route| {
                (
                    route.name.clone(),
                    route.route.iter().map(|weighted| weighted.destination.clone()).collect::<Vec<_>>(),
                )
            })
        };
        let foreign = |one: &VirtualService| {
            let route = one.spec.routes(edit.protocol).get(edit.at);
            let others = route
                .into_iter()
                .flat_map(|route| route.route.iter().enumerate())
                .filter(|(at, _)| *at != edit.stable_at && *at != edit.canary_at);
            others.map(|(_, weighted)| weighted.weight.unwrap_or(0)).collect::<Vec<_>>()
        };
        destinations(current) == destinations(known) && foreign(current) == foreign(known)
    })
}

/// Whether a newer version of an HTTPRoute still has the edited backends where the snapshot had them.
pub fn has_same_rules(current: &HttpRoute, edits: &[WeightEdit], observed: &Observed, name: &str) -> bool {
    let known = observed
        .http_routes
        .iter()
        .find(|one| one.metadata.name.as_deref() == Some(name) && one.metadata.namespace == current.metadata.namespace);
    let without_weights = |one: &HttpRoute, edit: &WeightEdit| {
        let mut rule = one.spec.rules.get(edit.at).cloned()?;
        for at in [edit.stable_at, edit.canary_at] {
            rule.backend_refs.get_mut(at)?.weight = None;
        }
        Some(rule)
    };
    known.is_some_and(|known| edits.iter().all(|edit| without_weights(current, edit) == without_weights(known, edit)))
}
