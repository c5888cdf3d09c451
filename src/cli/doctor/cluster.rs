//! The API server, the definitions, what the person may do, and Istio.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::Value;

use super::{Check, Patient};
use crate::api::{crd, names};

/// The oldest Kubernetes that Serin is tested with, as minor version.
const KUBERNETES_LEAST: u32 = 32;
const INSTALL: &str = "serin crds | kubectl apply --server-side -f -";
/// What a person needs for every command: group, resource, verb.
const PERSON: &[(&str, &str, &str)] = &[
    (names::GROUP, "rollouts", "get"),
    (names::GROUP, "rollouts", "list"),
    (names::GROUP, "rollouts", "watch"),
    (names::GROUP, "rolloutactions", "create"),
    (names::GROUP, "rolloutactions", "watch"),
    ("apps", "replicasets", "list"),
    ("apps", "deployments", "get"),
    ("", "pods", "list"),
    ("", "services", "list"),
    ("networking.istio.io", "virtualservices", "list"),
    ("networking.istio.io", "destinationrules", "list"),
];

/// Kubernetes answers, and is not too old.
pub(super) async fn version(patient: &Patient<'_>) -> anyhow::Result<Check> {
    let info = patient.cluster.client.apiserver_version().await?;
    let minor: u32 = info.minor.trim_end_matches('+').parse().unwrap_or(0);
    let told = format!("Kubernetes {}", info.git_version);
    Ok(if minor >= KUBERNETES_LEAST {
        Check::ok("kubernetes", told)
    } else {
        Check::warning("kubernetes", told, format!("Serin is tested from 1.{KUBERNETES_LEAST} on; upgrade the cluster"))
    })
}

/// The definitions are there, and know what this plugin knows.
pub(super) async fn definitions(patient: &Patient<'_>) -> Vec<Check> {
    const NAME: &str = "definitions";
    let api: Api<CustomResourceDefinition> = Api::all(patient.cluster.client.clone());
    let mut checks = Vec::new();
    for definition in crd::definitions() {
        let name = definition.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let found = match api.get_opt(name).await {
            Err(error) => return vec![Check::skipped(NAME, &error)],
            Ok(None) => {
                checks.push(Check::failed(NAME, format!("{name} is not installed"), INSTALL));
                continue;
            }
            Ok(Some(found)) => serde_json::to_value(found).unwrap_or_default(),
        };
        let lacking = lacking(&definition, &found);
        if let Some(path) = lacking.first() {
            let message =
                format!("{name} is older than this plugin: it does not know {path} and {} more", lacking.len() - 1);
            checks.push(Check::failed(NAME, message, INSTALL));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, format!("{} definitions of {}", crd::definitions().len(), names::API_VERSION)));
    }
    checks
}

/// Paths of fields that a definition has and another lacks.
fn lacking(wanted: &Value, found: &Value) -> Vec<String> {
    const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";
    let mut lacking = Vec::new();
    compare(wanted.pointer(SCHEMA), found.pointer(SCHEMA), "", &mut lacking);
    lacking
}

fn compare(wanted: Option<&Value>, found: Option<&Value>, path: &str, lacking: &mut Vec<String>) {
    let properties = wanted.and_then(|wanted| wanted.get("properties")).and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let own = found.and_then(|found| found.get("properties")?.get(name));
        if own.is_none() {
            lacking.push(path);
        } else {
            compare(Some(property), own, &path, lacking);
        }
    }
    if let Some(items) = wanted.and_then(|wanted| wanted.get("items")) {
        compare(Some(items), found.and_then(|found| found.get("items")), &format!("{path}[]"), lacking);
    }
}

/// The person may do what the commands do.
pub(super) async fn permissions(patient: &Patient<'_>) -> Check {
    const NAME: &str = "permissions";
    let api: Api<SelfSubjectAccessReview> = Api::all(patient.cluster.client.clone());
    let mut refused = Vec::new();
    for (group, resource, verb) in PERSON {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes(patient, group, resource, verb)),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        match api.create(&PostParams::default(), &review).await {
            Err(error) => return Check::skipped(NAME, &error),
            Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(_) => refused.push(format!("{verb} {resource}")),
        }
    }
    let namespace = &patient.cluster.namespace;
    if refused.is_empty() {
        return Check::ok(NAME, format!("you may see and act in namespace {namespace}"));
    }
    let message = format!("in namespace {namespace} you may not: {}", refused.join(", "));
    Check::warning(NAME, message, "ask for these permissions, or choose another account with --context")
}

fn attributes(patient: &Patient<'_>, group: &str, resource: &str, verb: &str) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        namespace: Some(patient.cluster.namespace.clone()),
        ..ResourceAttributes::default()
    }
}

/// Istio's definitions are there, and istiod runs.
pub(super) async fn istio(patient: &Patient<'_>) -> Vec<Check> {
    const NAME: &str = "istio";
    let api: Api<CustomResourceDefinition> = Api::all(patient.cluster.client.clone());
    for plural in ["virtualservices", "destinationrules"] {
        let served = match api.get_opt(&format!("{plural}.networking.istio.io")).await {
            Err(error) => return vec![Check::skipped(NAME, &error)],
            Ok(found) => found
                .is_some_and(|found| found.spec.versions.iter().any(|version| version.name == "v1" && version.served)),
        };
        if !served {
            let message = format!("{plural} of networking.istio.io/v1 are not served");
            return vec![Check::failed(NAME, message, "install Istio 1.22 or newer")];
        }
    }
    let istiod: Api<Deployment> = Api::all(patient.cluster.client.clone());
    let found = match istiod.list(&ListParams::default().labels("app=istiod")).await {
        Err(error) => return vec![Check::skipped(NAME, &error)],
        Ok(found) => found.items,
    };
    if found.is_empty() {
        let hint = "routes take effect once istiod runs; a mesh that is managed elsewhere shows none here";
        return vec![Check::warning(NAME, "its definitions are served, and no istiod runs in this cluster", hint)];
    }
    let mut checks: Vec<Check> = found.iter().map(|one| deployed(NAME, "istiod", one)).collect();
    let namespaces: BTreeSet<&str> = found.iter().filter_map(|one| one.metadata.namespace.as_deref()).collect();
    for namespace in namespaces {
        checks.extend(asked(NAME, patient, namespace).await);
    }
    checks
}

/// Serin can ask the istiods of a namespace which proxies have a route.
async fn asked(name: &'static str, patient: &Patient<'_>, namespace: &str) -> Option<Check> {
    let accounts: Api<ServiceAccount> = Api::namespaced(patient.cluster.client.clone(), namespace);
    match accounts.get_opt(names::ISTIOD_SERVICE_ACCOUNT).await {
        Err(error) => Some(Check::skipped(name, &error)),
        Ok(Some(_)) => None,
        Ok(None) => {
            let message = format!(
                "{namespace} has no service account {}: written routes are only waited for",
                names::ISTIOD_SERVICE_ACCOUNT
            );
            Some(Check::warning(
                name,
                message,
                "set istiod.ask of the chart, or apply deploy/istiod.yaml, so that Serin can ask which proxies have a route",
            ))
        }
    }
}

/// A Deployment that must run: its version and its pods.
pub(super) fn deployed(name: &'static str, what: &str, deployment: &Deployment) -> Check {
    let containers = deployment.spec.template.spec.iter().flat_map(|spec| &spec.containers);
    let image = containers.into_iter().find_map(|container| container.image.clone()).unwrap_or_default();
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let told = format!("{what} in {namespace}: {ready} ready, image {image}");
    if ready > 0 {
        Check::ok(name, told)
    } else {
        Check::failed(name, told, format!("kubectl get pods -n {namespace}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_older_definition_is_told_by_what_it_lacks() {
        let of = |steps: Value| json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties": {"spec": {"properties": {"steps": {"items": {"properties": steps}}}}}}}}]}});
        let (new, old) = (of(json!({"setWeight": {}, "pause": {}})), of(json!({"setWeight": {}})));
        assert_eq!(lacking(&new, &old), ["spec.steps[].pause"]);
        assert_eq!(lacking(&old, &new), Vec::<String>::new());
    }
}
