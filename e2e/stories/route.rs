//! VirtualServices and DestinationRules that Git holds.

use std::sync::Arc;

use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::api::watched::Rollout;

use crate::support::world::{is_aborted, is_healthy};
use crate::support::{Environment, Given, World};

/// A route in Git between subsets, with routes and a destination of others.
pub fn virtual_service() -> Value {
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

/// The subsets of that route, in Git too.
pub fn destination_rule() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "checkout"},
        "spec": {"host": "checkout", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 777}}}, "subsets": [
            {"name": "stable", "labels": {"app": "checkout"}}, {"name": "canary"}, {"name": "debug", "labels": {"debug": "yes"}}]},
    })
}

/// A Rollout on both.
pub fn in_place() -> Given {
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
    let told = |rollout: &Rollout| {
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

/// The Service that Git holds of two.
pub fn stable_service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout-stable"},
        "spec": {"selector": {"app": "checkout"}, "ports": [{"name": "http", "port": 80}]},
    })
}

/// Weights between two Services in a VirtualService.
pub async fn between_hosts(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world
        .apply(&json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "checkout"},
            "spec": {"hosts": ["checkout"], "http": [{"route": [
                {"destination": {"host": "checkout-stable"}, "weight": 100},
                {"destination": {"host": "checkout-canary"}, "weight": 0}]}]},
        }))
        .await;
    two_services(&world, &json!({"istio": {"virtualService": {"name": "checkout"}}})).await;
    world.end().await;
}

/// Weights between two Services, of which Git holds one: promoted, aborted, and both Services as they were at the end.
pub async fn two_services(world: &World, routing: &Value) {
    world.apply(&stable_service()).await;
    let first = Given {
        istio: Value::Null,
        canary: json!({"stableService": "checkout-stable", "canaryService": "checkout-canary", "scaleDownDelaySeconds": 1,
            "abortScaleDownDelaySeconds": 1, "trafficRouting": routing}),
        steps: json!([{"setWeight": 20}, {"setWeight": 60}, {"pause": {"duration": "1s"}}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let service = |name: &str| format!("/api/v1/namespaces/{{ns}}/services/{name}");
    let created = world.object(&service("checkout-canary")).await.expect("Serin creates the Service that is absent");
    world.assert(created["spec"]["ports"][0]["port"] == 80, "with the ports of the other");
    world.assert(created["metadata"]["ownerReferences"][0]["name"] == "checkout", "and owns it");
    let second = first.image("checkout:2");
    world.healthy(&second).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 20, 60, 0], &format!("weights were {weights:?}"));
    let third = first.image("checkout:3");
    world.given(&third).await;
    world.reaches(60).await;
    world.act("abort", &third.hash(), None).await;
    world.wait("aborted", 5, |rollout| is_aborted(rollout, "AbortedByAction")).await;
    world.reaches(0).await;
    let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
    api.delete("checkout", &DeleteParams::background()).await.expect("deleted");
    world.until("the Rollout is gone", 20, || world.monitor.rollout("checkout").is_none().then_some(())).await;
    let left = world.object(&service("checkout-stable")).await.expect("Git's Service stays");
    world.assert(left["spec"]["selector"] == json!({"app": "checkout"}), "with its own selector");
}

/// TLS routes by server name and TCP routes by port move together with a named HTTP route.
pub async fn tls_and_tcp(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let both = |port: i32| {
        json!([
            {"destination": {"host": "checkout", "subset": "stable", "port": {"number": port}}, "weight": 100},
            {"destination": {"host": "checkout", "subset": "canary", "port": {"number": port}}, "weight": 0}])
    };
    let route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "checkout"},
        "spec": {"hosts": ["checkout"], "http": [{"name": "primary", "route": both(80)}],
            "tls": [
                {"match": [{"port": 443, "sniHosts": ["other.example"]}], "route": [{"destination": {"host": "other"}}]},
                {"match": [{"port": 443, "sniHosts": ["checkout.example"]}], "route": both(443)}],
            "tcp": [{"match": [{"port": 5432}], "route": both(5432)}]},
    });
    world.apply(&route).await;
    world.apply(&destination_rule()).await;
    let first = Given {
        istio: json!({
            "virtualService": {"name": "checkout", "routes": ["primary"],
                "tlsRoutes": [{"sniHosts": ["checkout.example"]}], "tcpRoutes": [{"port": 5432}]},
            "destinationRule": {"name": "checkout", "stableSubsetName": "stable", "canarySubsetName": "canary"},
        }),
        steps: json!([{"setWeight": 30}, {"pause": {}}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.wait("paused", 20, |rollout| rollout.status.phase == Some(Phase::Paused)).await;
    let path = "/apis/networking.istio.io/v1/namespaces/{ns}/virtualservices/checkout";
    let now = world.object(path).await.unwrap();
    for pointer in ["/spec/http/0", "/spec/tls/1", "/spec/tcp/0"] {
        let weights = [0, 1].map(|at| now.pointer(&format!("{pointer}/route/{at}/weight")).cloned());
        world.assert(weights == [Some(json!(70)), Some(json!(30))], &format!("{pointer} has {weights:?}"));
    }
    world.act("promote", &second.hash(), Some(1)).await;
    world.wait("promoted", 20, |rollout| is_healthy(rollout, &second.hash())).await;
    let end = world.object(path).await.unwrap();
    let without_zero = |mut object: Value| {
        for kind in ["http", "tls", "tcp"] {
            for route in object["spec"][kind].as_array_mut().into_iter().flatten() {
                for one in route["route"].as_array_mut().into_iter().flatten() {
                    if one["weight"] == 0 {
                        one.as_object_mut().unwrap().remove("weight");
                    }
                }
            }
        }
        object["spec"].take()
    };
    world.assert(
        without_zero(end.clone()) == without_zero(route),
        &format!("at rest it is what Git holds: {}", end["spec"]),
    );
    world.end().await;
}

/// A header route and a mirror route stand in front of Git's routes while their steps say so; at the end the VirtualService is
/// Git's again.
pub async fn testers_first(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.apply(&virtual_service()).await;
    world.apply(&destination_rule()).await;
    let testers = json!({"name": "testers", "match": [{"headerName": "x-canary", "headerValue": {"exact": "true"}}]});
    let shadow = json!({"name": "shadow", "percentage": 10, "match": [{"method": {"exact": "GET"}}]});
    let steps = json!([{"setHeaderRoute": testers}, {"pause": {}}, {"setMirrorRoute": shadow}, {"setWeight": 50}, {"pause": {}}]);
    let first = Given { steps, ..in_place() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    let path = "/apis/networking.istio.io/v1/namespaces/{ns}/virtualservices/checkout";
    for (step, front) in [(1, json!(["testers"])), (4, json!(["testers", "shadow"]))] {
        let waits = |rollout: &Rollout| {
            let is_paused = rollout.status.blocked_by.iter().any(|wait| wait.reason == "PausedByStep");
            is_paused && rollout.status.current_step_index == Some(step)
        };
        world.wait("the pause", 20, waits).await;
        let spec = world.object(path).await.unwrap()["spec"].clone();
        let names: Vec<Value> = spec["http"].as_array().unwrap().iter().map(|route| route["name"].clone()).collect();
        let wanted = front.as_array().unwrap();
        world.assert(names.starts_with(wanted), &format!("{front} stand in front: {names:?}"));
        let leads = spec.pointer("/http/0/route/0/destination/subset") == Some(&json!("canary"));
        world.assert(leads, &format!("testers go to the canary: {spec}"));
        world.act("promote", &second.hash(), Some(step)).await;
    }
    world.wait("promoted", 30, |rollout| is_healthy(rollout, &second.hash())).await;
    let spec = world.object(path).await.unwrap()["spec"].clone();
    world.assert(spec == virtual_service()["spec"], &format!("at rest the VirtualService is what Git holds: {spec}"));
    world.end().await;
}
