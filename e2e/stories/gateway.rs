//! HTTPRoutes of the Gateway API that Git holds.

use std::sync::Arc;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use serin::api::watched::{HttpRoute, Rollout};

use super::route;
use crate::support::{Environment, Given, World};

const PATH: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/{ns}/httproutes/checkout";

/// An HTTPRoute in Git between two Services.
pub fn http_route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "checkout"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "checkout", "port": 80}], "rules": [
            {"name": "health", "matches": [{"path": {"type": "Exact", "value": "/health"}}],
             "backendRefs": [{"name": "checkout-stable", "port": 80}]},
            {"name": "primary", "timeouts": {"request": "7s"}, "backendRefs": [
                {"name": "checkout-stable", "port": 80, "weight": 100}, {"name": "checkout-canary", "port": 80, "weight": 0}]}]},
    })
}

/// Weights in an HTTPRoute: promoted, aborted, gone; what is not a weight stays as Git has it.
pub async fn weights(environment: Arc<Environment>, name: String) {
    let routing = json!({"gatewayAPI": {"httpRoute": {"name": "checkout"}}});
    let world = World::start(environment, &name).await;
    world.apply(&http_route()).await;
    let held = world.object(PATH).await.unwrap()["spec"].clone();
    route::two_services(&world, &routing).await;
    let left = world.object(PATH).await.unwrap()["spec"].clone();
    world.assert(left == held, &format!("at rest the HTTPRoute is what Git holds: {left}"));
    world.end().await;
}

/// A controller refuses the route: no revision begins until it takes it.
pub async fn rejected(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let stable = route::stable_service();
    world.apply(&stable).await;
    world.apply(&http_route()).await;
    let first = Given {
        istio: Value::Null,
        canary: json!({"stableService": "checkout-stable", "canaryService": "checkout-canary",
            "trafficRouting": {"gatewayAPI": {"httpRoute": {"name": "checkout"}}}}),
        steps: json!([{"setWeight": 40}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    answer(&world, "False").await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    let is_told = |rollout: &Rollout| {
        let waits = &rollout.status.blocked_by;
        waits.iter().any(|wait| wait.reason == "RouteRejected" && wait.message.contains("no listener allows it"))
    };
    world.wait("told", 10, is_told).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0], &format!("weights were {weights:?}"));
    answer(&world, "True").await;
    world.healthy(&second).await;
    world.end().await;
}

/// Says whether the route is accepted as it is now, as the controller of its parent does.
async fn answer(world: &World, status: &str) {
    let api: Api<HttpRoute> = Api::namespaced(world.client.clone(), &world.namespace);
    let generation = world.object(PATH).await.unwrap()["metadata"]["generation"].clone();
    let body = json!({"status": {"parents": [{
        "parentRef": {"group": "", "kind": "Service", "name": "checkout", "port": 80}, "controllerName": "istio.io/gateway-controller",
        "conditions": [{"type": "Accepted", "status": status, "reason": "NotAllowedByListeners", "message": "no listener allows it",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }]}});
    let params = PatchParams { field_manager: Some("istiod".into()), ..PatchParams::default() };
    api.patch_status("checkout", &params, &Patch::Merge(&body)).await.expect("the status is written");
}
