//! The real `HorizontalPodAutoscaler` controller on a metrics API whose load the story writes.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::world::{NAME, is_aborted, is_healthy};
use crate::support::{Environment, Given, World};

/// The load of the namespace, in thousandths of a core; the autoscaler wants 100 a pod.
async fn load(world: &World, milli: i32) {
    let data = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "load"}, "data": {"milli": milli.to_string()}});
    world.apply(&data).await;
}

fn given() -> Given {
    Given { cpu: "200m", steps: json!([{"setWeight": 40}, {"pause": {}}]), ..Given::default() }
}

/// The object without replicas, as Git holds it beside an autoscaler.
fn without_replicas(given: &Given) -> Value {
    let mut object = given.object();
    object["spec"].as_object_mut().unwrap().remove("replicas");
    object
}

/// Waits until the autoscaler has set so many replicas, and stable has them.
async fn scaled(world: &World, hash: &str, replicas: i32) {
    let is_so = || {
        let wanted = world.monitor.rollout(NAME)?.spec.value()["replicas"].as_i64()?;
        (wanted == i64::from(replicas) && world.pods_wanted(hash) == replicas).then_some(())
    };
    world.until(&format!("{replicas} replicas"), 40, is_so).await;
}

/// Absent replicas, up and down in the middle of a canary, during an abort, and at rest.
pub async fn autoscaled(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = given();
    load(&world, 400).await;
    world.apply(&without_replicas(&first)).await;
    world.wait("Healthy with one pod", 20, |rollout| is_healthy(rollout, &first.hash())).await;
    world
        .apply(&json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": NAME},
            "spec": {"minReplicas": 2, "maxReplicas": 10,
                "scaleTargetRef": {"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": NAME},
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
        }))
        .await;
    scaled(&world, &first.hash(), 4).await;

    // In the middle: both revisions share the load, and the count follows it up and down.
    let second = first.image("checkout:2");
    world.apply(&without_replicas(&second)).await;
    world.reaches(40).await;
    load(&world, 800).await;
    scaled(&world, &first.hash(), 8).await;
    world.until("the canary's part of eight", 20, || (world.pods_wanted(&second.hash()) == 4).then_some(())).await;
    load(&world, 500).await;
    scaled(&world, &first.hash(), 5).await;

    // During an abort.
    world.act("abort", &second.hash(), None).await;
    load(&world, 700).await;
    world.wait("aborted", 10, |rollout| is_aborted(rollout, "AbortedByAction")).await;
    world.reaches(0).await;
    scaled(&world, &first.hash(), 7).await;

    // At rest, after Git went back.
    world.apply(&without_replicas(&first)).await;
    world.wait("at rest", 20, |rollout| is_healthy(rollout, &first.hash())).await;
    load(&world, 300).await;
    scaled(&world, &first.hash(), 3).await;
    world.end().await;
}
