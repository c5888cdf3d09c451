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

/// Two VirtualServices, one with its only route unnamed; Serin owns the subsets, and copies `exportTo` from the user's rule.
pub async fn several(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let route = json!([
        {"destination": {"host": "checkout", "subset": "checkout-stable"}, "weight": 100},
        {"destination": {"host": "checkout", "subset": "checkout-canary"}, "weight": 0},
    ]);
    let held = |name: &str, http: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
            "spec": {"hosts": [name], "http": http},
        })
    };
    let inside = held("checkout", json!([{"route": route}]));
    let outside = held(
        "shop.example",
        json!([{"name": "api", "route": route}, {"name": "rest", "route": [{"destination": {"host": "web"}}]}]),
    );
    world.apply(&inside).await;
    world.apply(&outside).await;
    let mut users = destination_rule();
    users["spec"]["exportTo"] = json!(["."]);
    world.apply(&users).await;
    let first = Given {
        istio: json!({"virtualServices": [{"name": "checkout"}, {"name": "shop.example", "routes": ["api"]}]}),
        ..Given::default()
    };
    let dotted = world.try_apply(&first.object()).await;
    world.assert(dotted.is_ok(), "the API server admits a name with a dot");
    let told = "must be in the Rollout's namespace";
    world.wait("a name with a dot is refused", 10, |rollout| rollout.status.message.contains(told)).await;
    let mut outside = outside;
    outside["metadata"]["name"] = json!("outside");
    world.apply(&outside).await;
    let first = Given {
        istio: json!({"virtualServices": [{"name": "checkout"}, {"name": "outside", "routes": ["api"]}]}),
        ..first
    };
    world.healthy(&first).await;
    world.healthy(&first.image("checkout:2")).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 20, 50, 80, 0], &format!("weights were {weights:?}"));
    let path = |plural: &str, name: &str| format!("/apis/networking.istio.io/v1/namespaces/{{ns}}/{plural}/{name}");
    for object in [&inside, &outside] {
        let now = world.object(&path("virtualservices", object["metadata"]["name"].as_str().unwrap())).await.unwrap();
        world.assert(now["spec"] == object["spec"], &format!("at rest it is what Git holds: {}", now["spec"]));
    }
    let rule = world.object(&path("destinationrules", "checkout-serin")).await.unwrap();
    world.assert(rule["spec"]["exportTo"] == json!(["."]), "exportTo is the user's");
    let untouched = world.object(&path("destinationrules", "checkout")).await.unwrap();
    world.assert(untouched["spec"] == users["spec"], "the user's rule is not touched");
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
    world.reaches(40).await;
    world.edit_virtual_service("checkout", json!({"spec": {"http": virtual_service()["spec"]["http"]}})).await;
    let corrected = || world.monitor.weights("checkout").ends_with(&[40, 0, 40]).then_some(());
    world.until("the weights are corrected", 10, corrected).await;
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
