//! Bad releases: stable serves one pass after the decision, whatever else is broken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::world::is_aborted;
use crate::support::{Environment, Given, Ready, World};

/// The longest from a decision to weight zero.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Aborted and at weight zero, one within a moment of the other.
async fn aborted(world: &World, reason: &str, seconds: u64) {
    world.wait(reason, seconds, |rollout| is_aborted(rollout, reason)).await;
    let decided = Instant::now();
    world.reaches(0).await;
    world.assert(decided.elapsed() < AT_ONCE, "weight zero came late");
}

/// A step's analysis fails.
pub async fn on_failing_metric(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.success_rate(json!({})).await;
    let first = Given {
        steps: json!([{"setWeight": 20}, {"setWeight": 40}, {"analysis": World::analysis()}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.errors(&second.hash(), 0.2);
    world.given(&second).await;
    aborted(&world, "AnalysisFailed", 30).await;
    let rollout = world.wait("the canary's pods go", 10, |_| world.pods_wanted(&second.hash()) == 0).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 20, 40, 0], &format!("weights were {weights:?}"));
    world.assert(rollout.status.stable.is_some_and(|stable| stable.hash == first.hash()), "stable serves");
    world.assert(rollout.status.message.contains("success-rate"), "the message names the metric");
    world.assert(world.events().await.iter().any(|reason| reason == "Aborted"), "an event tells");
    world.end().await;
}

/// The canary's pods never become ready.
pub async fn on_deadline(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { spec: json!({"progressDeadlineSeconds": 3}), ..Given::default() };
    world.healthy(&first).await;
    world.ready("checkout:2", Ready::None);
    world.given(&first.image("checkout:2")).await;
    aborted(&world, "ProgressDeadlineExceeded", 15).await;
    let third = first.image("checkout:3");
    world.healthy(&third).await;
    world.end().await;
}

/// One of five stable pods is unready; Argo Rollouts stays at weight 40.
pub async fn while_a_stable_pod_is_unready(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {}}]), ..Given::default() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(40).await;
    world.ready("checkout:1", Ready::AllBut(1));
    world
        .wait("a stable pod is unready", 10, |rollout| {
            rollout.status.stable.as_ref().is_some_and(|stable| stable.ready == 4)
        })
        .await;
    let action = world.act("abort", &second.hash(), None).await;
    aborted(&world, "AbortedByAction", 5).await;
    world.assert(world.answer(&action).await.0, "the abort is accepted");
    world.end().await;
}

/// One of two canary pods crash-loops and the background analysis fails; Argo Rollouts stays.
pub async fn background_fails_while_pods_crash(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.success_rate(json!({"count": null})).await;
    let first = Given {
        steps: json!([{"setWeight": 40}, {"pause": {}}]),
        canary: json!({"analysis": World::analysis(), "abortScaleDownDelaySeconds": 1}),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.errors(&second.hash(), 0.0);
    world.given(&second).await;
    world.reaches(40).await;
    world.ready("checkout:2", Ready::Flapping(1));
    world
        .until("the weight follows the pods down", 10, || world.monitor.weights("checkout").contains(&20).then_some(()))
        .await;
    world.errors(&second.hash(), 0.5);
    aborted(&world, "AnalysisFailed", 20).await;
    world.end().await;
}
