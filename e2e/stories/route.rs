//! VirtualServices and DestinationRules that Git holds.

use std::sync::Arc;

use serde_json::{Value, json};
use serin::api::status::Phase;

use crate::support::world::is_healthy;
use crate::support::{Environment, Given, World};

fn virtual_service() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "checkout"},
        "spec": {"hosts": ["checkout"], "gateways": ["mesh"], "http": [
            {"name": "admin", "match": [{"uri": {"prefix": "/admin"}}], "route": [{"destination": {"host": "admin"}}]},
            {"name": "primary", "timeout": "7s", "retries": {"attempts": 3, "perTryTimeout": "2s"}, "headers": {"request": {"set": {"x-team": "shop"}}},
             "route": [
                {"destination": {"host": "checkout", "subset": "stable"}, "weight": 90},
                {"destination": {"host": "checkout", "subset": "canary"}, "weight": 0},
                {"destination": {"host": "legacy"}, "weight": 10}]},
        ]},
    })
}

fn destination_rule() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "checkout"},
        "spec": {"host": "checkout", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 777}}}, "subsets": [
            {"name": "stable", "labels": {"app": "checkout"}}, {"name": "canary"}, {"name": "debug", "labels": {"debug": "yes"}}]},
    })
}

fn in_place() -> Given {
    Given {
        istio: json!({
            "virtualService": {"name": "checkout", "routes": ["primary"]},
            "destinationRule": {"name": "checkout", "stableSubsetName": "stable", "canarySubsetName": "canary"},
        }),
        ..Given::default()
    }
}

/// Takes Serin's own writes out of the spec.
fn without_ours(mut object: Value) -> Value {
    for route in object.pointer_mut("/spec/http").and_then(Value::as_array_mut).into_iter().flatten() {
        for destination in route["route"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter(|one| one.pointer("/destination/host") == Some(&json!("checkout")))
        {
            destination.as_object_mut().unwrap().remove("weight");
        }
    }
    for subset in object.pointer_mut("/spec/subsets").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(labels) = subset.get_mut("labels").and_then(Value::as_object_mut) else {
            continue;
        };
        labels.remove("serin.dev/revision-hash");
        if labels.is_empty() {
            subset.as_object_mut().unwrap().remove("labels");
        }
    }
    object["spec"].clone()
}

/// Destinations, subsets, routes, headers and retries of others survive to the byte; Argo Rollouts deletes them.
pub async fn foreign_parts_survive(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.apply(&virtual_service()).await;
    world.apply(&destination_rule()).await;
    let first = in_place();
    world.healthy(&first).await;
    world.healthy(&first.image("checkout:2")).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 20, 50, 80, 0], &format!("weights were {weights:?}"));
    let path = |plural: &str| format!("/apis/networking.istio.io/v1/namespaces/{{ns}}/{plural}/checkout");
    let virtual_service_now = world.object(&path("virtualservices")).await.unwrap();
    let rule_now = world.object(&path("destinationrules")).await.unwrap();
    world.assert(
        virtual_service_now["spec"] == virtual_service()["spec"],
        &format!("at rest the VirtualService is what Git holds: {}", virtual_service_now["spec"]),
    );
    world.assert(
        without_ours(rule_now.clone()) == without_ours(destination_rule()),
        &format!("the DestinationRule keeps what is not Serin's: {}", rule_now["spec"]),
    );
    let second = first.image("checkout:2").hash();
    world.assert(
        rule_now.pointer("/spec/subsets/0/labels/serin.dev~1revision-hash") == Some(&json!(second)),
        "the stable subset holds stable",
    );
    world.end().await;
}

/// The VirtualService does not exist at first, and the rollout says so.
pub async fn created_later(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = in_place();
    world.given(&first).await;
    let rollout = world.wait("Degraded", 10, |rollout| rollout.status.phase == Some(Phase::Degraded)).await;
    world.assert(
        rollout
            .status
            .blocked_by
            .iter()
            .any(|wait| wait.reason == "RouteMissing" && wait.message.contains("VirtualService checkout")),
        "the wait has a name",
    );
    world.apply(&destination_rule()).await;
    world.apply(&virtual_service()).await;
    world.wait("Healthy", 20, |rollout| is_healthy(rollout, &first.hash())).await;
    world.end().await;
}

/// A GitOps tool reverts the weights: corrected, counted, and its name told.
pub async fn contested(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.apply(&virtual_service()).await;
    world.apply(&destination_rule()).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {}}]), ..in_place() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.until("weight 40", 20, || (world.monitor.weights("checkout").last() == Some(&40)).then_some(())).await;
    world.edit_virtual_service("checkout", json!({"spec": {"http": virtual_service()["spec"]["http"]}})).await;
    world.until("weight 0", 5, || (world.monitor.weights("checkout").last() == Some(&0)).then_some(())).await;
    world.until("weight 40 again", 10, || (world.monitor.weights("checkout").last() == Some(&40)).then_some(())).await;
    let told = |rollout: &serin::api::watched::Rollout| {
        rollout
            .status
            .conditions
            .iter()
            .any(|one| one.kind == "RouteContested" && one.message.contains("argocd-controller"))
    };
    world.wait("the writer is named", 10, told).await;
    world.act("promoteFull", &second.hash(), None).await;
    world.wait("promoted", 20, |rollout| is_healthy(rollout, &second.hash())).await;
    world.end().await;
}
