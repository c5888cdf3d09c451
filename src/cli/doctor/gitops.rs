//! Tools that apply routes from Git: found by who has written them, and whether they ignore the weights.

use std::collections::BTreeSet;

use kube::Api;
use kube::api::{DynamicObject, GroupVersionKind, ListParams};
use kube::core::ApiResource;
use serde_json::Value;

use super::{Check, Patient};
use crate::api::istio::Protocol;
use crate::api::watched::{HttpRoute, Rollout, VirtualService};
use crate::plan::strategy::{self, RouteKind, Routing};

const NAME: &str = "gitops";

fn argo(kind: RouteKind) -> String {
    format!(
        "\
in the Application that holds it:
spec:
  ignoreDifferences:
  - group: {}
    kind: {kind}
    jqPathExpressions: ['.spec.{}[]?.{}[]?.weight']
  syncPolicy: {{syncOptions: [ApplyOutOfSyncOnly=true]}}{}",
        kind.group(),
        kind.routes(Protocol::Http),
        kind.destinations(),
        or_owned(kind)
    )
}

fn flux(kind: RouteKind) -> String {
    let path = format!("/spec/{}/0/{}", kind.routes(Protocol::Http), kind.destinations());
    format!(
        "\
in the Kustomization that holds it (Flux 2.9 and later):
spec:
  ignore:
  - paths: [{path}/0/weight, {path}/1/weight]
    target: {{group: {}, kind: {kind}}}
before Flux 2.9, annotate it kustomize.toolkit.fluxcd.io/ssa: IfNotPresent; then what Git changes of it does not arrive{}",
        kind.group(),
        or_owned(kind)
    )
}

fn or_owned(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::VirtualService => "\nor let Serin own the route: strategy.canary.trafficRouting.istio.owned",
        RouteKind::HttpRoute => "",
    }
}

/// Every route in Git that Serin edits is left alone by the tool that applies it.
pub(super) async fn routes(patient: &Patient<'_>) -> Vec<Check> {
    let rollouts = match &patient.rollout {
        Some(rollout) => vec![rollout.clone()],
        None => match patient.cluster.api::<Rollout>().list(&ListParams::default()).await {
            Err(error) => return vec![Check::skipped(NAME, &error)],
            Ok(list) => list.items,
        },
    };
    let mut checks: Vec<Check> = rollouts.iter().filter_map(contested).collect();
    let routes: BTreeSet<(String, RouteKind)> = rollouts.iter().flat_map(in_git).collect();
    for (name, kind) in &routes {
        checks.push(route(patient, *kind, name).await);
    }
    if routes.is_empty() {
        let told = format!("no Rollout in namespace {} edits a route that Git holds", patient.cluster.namespace);
        checks.push(Check::ok(NAME, told));
    }
    checks
}

/// A fight that is under way.
fn contested(rollout: &Rollout) -> Option<Check> {
    let conditions = &rollout.status.conditions;
    let fight = conditions.iter().find(|condition| condition.kind == "RouteContested" && condition.status == "True")?;
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    Some(Check::failed(NAME, format!("Rollout {name}: {}", fight.message), "let that tool ignore them"))
}

fn in_git(rollout: &Rollout) -> Vec<(String, RouteKind)> {
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let routing = strategy::parse(namespace, &rollout.spec.value()).routing;
    let Some((kind, targets)) = routing.as_ref().and_then(Routing::in_git) else { return Vec::new() };
    targets.iter().map(|target| (target.object.clone(), kind)).collect()
}

/// Whether the tool that has applied a route ignores its weights.
async fn route(patient: &Patient<'_>, route: RouteKind, name: &str) -> Check {
    let resource = match route {
        RouteKind::VirtualService => ApiResource::erase::<VirtualService>(&()),
        RouteKind::HttpRoute => ApiResource::erase::<HttpRoute>(&()),
    };
    let client = patient.cluster.client.clone();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &patient.cluster.namespace, &resource);
    let object = match api.get_opt(name).await {
        Err(error) => return Check::skipped(NAME, &error),
        Ok(None) => return Check::failed(NAME, format!("{route} {name} does not exist"), "create it in Git"),
        Ok(Some(object)) => object,
    };
    let writers: Vec<&str> =
        object.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref()).collect();
    let by = |tool: &str| writers.iter().any(|writer| writer.starts_with(tool));
    let (tool, kind, hint) = if by("argocd") {
        ("Argo CD", GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"), argo(route))
    } else if by("kustomize-controller") {
        ("Flux", GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization"), flux(route))
    } else {
        return Check::ok(NAME, format!("{route} {name} is applied by none of Argo CD and Flux"));
    };
    let api: Api<DynamicObject> = Api::all_with(patient.cluster.client.clone(), &ApiResource::from_gvk(&kind));
    match api.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Check::warning(
            NAME,
            format!("{tool} applies {route} {name} from another cluster; see that it ignores the weights"),
            hint,
        ),
        Err(error) => Check::skipped(NAME, &error),
        Ok(list) if list.items.iter().any(|one| ignores(&one.data, route, name)) => {
            Check::ok(NAME, format!("{tool} applies {route} {name} and ignores its weights"))
        }
        Ok(_) => Check::warning(NAME, format!("{tool} applies {route} {name} and takes its weights back"), hint),
    }
}

/// Whether an Application or a Kustomization ignores the weights of a route.
fn ignores(tool: &Value, route: RouteKind, name: &str) -> bool {
    let wanted = route.to_string();
    let is_named = |wanted: Option<&Value>| wanted.and_then(Value::as_str).is_none_or(|wanted| wanted == name);
    let rules = |path: &str| tool.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let argo = rules("/spec/ignoreDifferences").any(|rule| {
        let is_kind = rule.get("kind").and_then(Value::as_str) == Some(&wanted);
        is_kind && is_named(rule.get("name")) && rule.to_string().contains("weight")
    });
    // Else a sync of something else writes the weights.
    let spares = |option: &Value| option == "ApplyOutOfSyncOnly=true" || option == "RespectIgnoreDifferences=true";
    let respects = rules("/spec/syncPolicy/syncOptions").any(spares);
    let flux = rules("/spec/ignore").any(|rule| {
        let target = rule.get("target");
        let kind = target.and_then(|target| target.get("kind")).and_then(Value::as_str);
        kind == Some(&wanted)
            && is_named(target.and_then(|target| target.get("name")))
            && rule.get("paths").is_some_and(|paths| paths.to_string().contains("weight"))
    });
    (argo && respects) || flux
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_that_ignore_the_weights() {
        let ignores = |tool: &Value, name: &str| ignores(tool, RouteKind::VirtualService, name);
        let rule = json!({"kind": "VirtualService", "jqPathExpressions": [".spec.http[]?.route[]?.weight"]});
        let options = json!({"syncOptions": ["ApplyOutOfSyncOnly=true"]});
        assert!(ignores(&json!({"spec": {"ignoreDifferences": [rule], "syncPolicy": options}}), "checkout"));
        assert!(!ignores(&json!({"spec": {"ignoreDifferences": [rule]}}), "checkout"), "a sync takes them back");
        let named = json!({"kind": "VirtualService", "name": "other", "jsonPointers": ["/spec/http/0/route/0/weight"]});
        assert!(!ignores(&json!({"spec": {"ignoreDifferences": [named], "syncPolicy": options}}), "checkout"));
        let flux =
            json!({"paths": ["/spec/http/0/route/0/weight"], "target": {"kind": "VirtualService", "name": "checkout"}});
        assert!(ignores(&json!({"spec": {"ignore": [flux]}}), "checkout"));
        assert!(!ignores(&json!({"spec": {}}), "checkout"));
        let rules = json!({"kind": "HTTPRoute", "jqPathExpressions": [".spec.rules[]?.backendRefs[]?.weight"]});
        let tool = json!({"spec": {"ignoreDifferences": [rules], "syncPolicy": options}});
        assert!(!ignores(&tool, "checkout") && super::ignores(&tool, RouteKind::HttpRoute, "checkout"));
    }
}
