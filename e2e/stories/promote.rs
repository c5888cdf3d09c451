//! Good releases.

use std::sync::Arc;

use serde_json::json;

use crate::support::{Environment, Given, World};

/// Three weights with a gate between them, owned route.
pub async fn through_three_weights(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.success_rate(json!({})).await;
    let first = Given {
        steps: json!([{"setWeight": 20}, {"analysis": World::analysis()}, {"setWeight": 50}, {"pause": {"duration": "500ms"}}, {"setWeight": 80}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.errors(&second.hash(), 0.01);
    world.healthy(&second).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 20, 50, 80, 0], &format!("weights were {weights:?}"));
    let rollout = world.wait("the old pods go", 10, |_| world.pods_wanted(&first.hash()) == 0).await;
    world.assert(
        rollout.status.history.last().is_some_and(|last| last.hash == second.hash()),
        "the history has the promotion",
    );
    world.assert(
        rollout.metadata.finalizers.is_none_or(|finalizers| finalizers.is_empty()),
        "the finalizer is gone at rest",
    );
    let events = world.events().await;
    for reason in ["FirstDeployment", "RolloutStarted", "WeightInForce", "AnalysisPassed", "Promoted"] {
        world.assert(events.iter().any(|event| event == reason), &format!("no event {reason} in {events:?}"));
    }
    world.end().await;
}

/// A delegate that a root VirtualService in Git names.
pub async fn owned_delegate(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let root = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "root"},
        "spec": {"hosts": ["checkout"], "http": [{"name": "primary", "timeout": "7s", "delegate": {"name": "checkout-serin"}}]},
    });
    world.apply(&root).await;
    let first = Given { istio: json!({"owned": {"host": "checkout"}}), ..Given::default() };
    world.healthy(&first).await;
    world.healthy(&first.image("checkout:2")).await;
    let owned = world
        .object("/apis/networking.istio.io/v1/namespaces/{ns}/virtualservices/checkout-serin")
        .await
        .expect("the delegate");
    world.assert(owned.pointer("/spec/hosts").is_none(), "a delegate has no hosts");
    world.assert(world.monitor.weights("checkout") == [0, 20, 50, 80, 0], "the delegate carries the weights");
    world.end().await;
}
