//! Specs: what the API server refuses, what the status says, the scale subresource.

use std::sync::Arc;

use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use serin::api::watched::AnalysisTemplate;

use crate::support::world::is_healthy;
use crate::support::{Environment, Given, World};

/// A Rollout with this one step.
fn step(step: Value) -> Value {
    Given { steps: Value::Array(vec![step]), ..Given::default() }.object()
}

/// A Rollout with another value at a pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut object = Given::default().object();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    object
}

/// A dozen invalid specs, each refused with the path of the field; pruned steps among them.
pub async fn invalid(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let good = Given::default();
    world.healthy(&good).await;
    let workload = |kind: &str| json!({"apiVersion": "apps/v1", "kind": kind, "name": "checkout"});
    let mut chosen = workload("Deployment");
    chosen["scaleDown"] = json!("onsuccess");
    let refused: [(&str, Value, &str); 19] = [
        ("a misspelt step, pruned to nothing", step(json!({"setWieght": 20})), "spec.strategy.canary.steps[0]"),
        ("an empty step", step(json!({})), "exactly one of setWeight"),
        ("two members", step(json!({"setWeight": 5, "pause": {}})), "exactly one of setWeight"),
        ("a weight above 100", step(json!({"setWeight": 120})), "spec.strategy.canary.steps[0].setWeight"),
        ("a null pause", step(json!({"pause": null})), "spec.strategy.canary.steps[0]"),
        ("an unsupported step", step(json!({"experiment": {"duration": "5m"}})), "experiment is not supported"),
        (
            "a scale of two kinds",
            step(json!({"setCanaryScale": {"replicas": 2, "weight": 5}})),
            "exactly one of replicas",
        ),
        ("an experiment", step(json!({"experiment": {"templates": []}})), "experiment is not supported"),
        ("blue-green", with("/spec/strategy/blueGreen", json!({"activeService": "a"})), "blueGreen is not supported"),
        ("another mesh", with("/spec/strategy/canary/trafficRouting/smi", json!({})), "smi is not supported"),
        ("no route at all", with("/spec/strategy/canary/trafficRouting/istio", json!({})), "exactly one of owned"),
        (
            "two kinds of route",
            with("/spec/strategy/canary/trafficRouting/istio/virtualService", json!({"name": "x"})),
            "exactly one of owned",
        ),
        (
            "one Service of two",
            with("/spec/strategy/canary/stableService", json!("checkout-stable")),
            "stableService and canaryService belong together",
        ),
        ("a surge with a route", with("/spec/strategy/canary/maxSurge", json!("25%")), "maxSurge has no meaning"),
        (
            "a template and a Deployment",
            with("/spec/workloadRef", workload("Deployment")),
            "exactly one of template, workloadRef is required",
        ),
        ("another workload", with("/spec/workloadRef", workload("ReplicaSet")), "only a Deployment of apps/v1"),
        ("a choice of when it goes", with("/spec/workloadRef", chosen), "scaleDown is not supported"),
        (
            "a label of Serin's own",
            with("/spec/strategy/canary/canaryMetadata", json!({"labels": {"serin.dev/revision-hash": "x"}})),
            "keys that begin with serin.dev/ are set by Serin",
        ),
        ("another selector", with("/spec/selector/matchLabels/app", json!("cart")), "the selector cannot be changed"),
    ];
    for (what, mut object, told) in refused {
        if what != "another selector" {
            object["metadata"]["name"] = json!("invalid");
        }
        match world.try_apply(&object).await {
            Ok(()) => world.fail(&format!("{what} was accepted")),
            Err(error) => world.assert(error.to_string().contains(told), &format!("{what}: {error} lacks {told}")),
        }
    }
    world.end().await;
}

/// What the API server admits and the controller refuses: the status says so, and stable serves on.
pub async fn faulty(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let good = Given::default();
    world.healthy(&good).await;
    let admitted: [(&str, Value, &str); 3] = [
        (
            "a duration that is none",
            step(json!({"pause": {"duration": "soon"}})),
            "spec.strategy.canary.steps[0].pause.duration",
        ),
        (
            "labels that the selector misses",
            with("/spec/template/metadata/labels", json!({"other": "label"})),
            "spec.template.metadata.labels",
        ),
        ("a deadline below minReadySeconds", with("/spec/minReadySeconds", json!(700)), "spec.progressDeadlineSeconds"),
    ];
    for (what, object, told) in admitted {
        world.apply(&object).await;
        let rollout = world.wait(what, 10, |rollout| rollout.status.message.contains(told)).await;
        world.assert(
            rollout.status.conditions.iter().any(|one| one.kind == "Stalled" && one.reason == "InvalidSpec"),
            "Stalled says InvalidSpec",
        );
        world.assert(rollout.status.stable.is_some_and(|stable| stable.ready == 5), "stable serves on");
    }
    world.given(&good).await;
    world.healthy(&good).await;
    world.end().await;
}

/// Replicas through the scale subresource, as an autoscaler does; absent ones are written once.
pub async fn scale(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let mut object = Given::default().object();
    object["spec"].as_object_mut().unwrap().remove("replicas");
    world.apply(&object).await;
    world
        .wait("one replica is written", 10, |rollout| {
            rollout.spec.value()["replicas"] == 1 && rollout.status.replicas == 1
        })
        .await;
    let path = format!("/apis/serin.dev/v1alpha1/namespaces/{}/rollouts/checkout/scale", world.namespace);
    let request = http::Request::patch(&path)
        .header("content-type", "application/merge-patch+json")
        .body(br#"{"spec":{"replicas":4}}"#.to_vec())
        .unwrap();
    let answer: Value = world.client.request(request).await.expect("a scale");
    world.assert(answer["status"]["selector"] == "app=checkout", "the scale has the selector");
    world.wait("four pods", 10, |rollout| rollout.status.stable.as_ref().is_some_and(|stable| stable.ready == 4)).await;
    world.end().await;
}

/// The AnalysisTemplate of a Healthy Rollout is deleted: scaling goes on; Argo Rollouts stops.
pub async fn template_deleted(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.success_rate(json!({})).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"analysis": World::analysis()}]), ..Given::default() };
    world.healthy(&first).await;
    let templates: Api<AnalysisTemplate> = Api::namespaced(world.client.clone(), &world.namespace);
    templates.delete("success-rate", &DeleteParams::default()).await.expect("deleted");
    let grown = Given { replicas: 8, ..first.clone() };
    world.given(&grown).await;
    world
        .wait("eight pods, and Healthy", 10, |rollout| {
            is_healthy(rollout, &first.hash()) && rollout.status.available_replicas == 8
        })
        .await;
    world.end().await;
}
