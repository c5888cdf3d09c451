//! Pods and weights together: stable scaled with its share, scaling in the middle, canaries without a route.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use serin::api::status::OutcomeKind;
use serin::api::watched::Rollout;

use crate::support::world::{NAME, is_aborted, is_healthy};
use crate::support::{Environment, Given, Ready, World};

fn dynamic() -> Given {
    Given {
        steps: json!([{"setWeight": 40}, {"setWeight": 60}, {"pause": {}}]),
        canary: json!({"dynamicStableScale": true, "scaleDownDelaySeconds": 1, "abortScaleDownDelaySeconds": 1}),
        ..Given::default()
    }
}

/// Waits until both revisions have so many pods wanted.
async fn pods(world: &World, stable: (&str, i32), canary: (&str, i32)) {
    let now = || (world.pods_wanted(stable.0), world.pods_wanted(canary.0));
    let what = format!("{} stable and {} canary pods", stable.1, canary.1);
    world.until(&what, 20, || (now() == (stable.1, canary.1)).then_some(())).await;
}

/// Stable shrinks as the canary's weight grows, and the promotion leaves one full revision.
pub async fn dynamic_up_and_down(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given {
        steps: json!([{"setWeight": 60}, {"pause": {}}, {"setWeight": 20}, {"pause": {}}, {"setWeight": 100}]),
        ..dynamic()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    let (stable, canary) = (first.hash(), second.hash());
    world.given(&second).await;
    pods(&world, (&stable, 2), (&canary, 3)).await;
    world.act("promote", &canary, Some(1)).await;
    pods(&world, (&stable, 4), (&canary, 1)).await;
    world.reaches(20).await;
    world.act("promote", &canary, Some(3)).await;
    world.wait("promoted", 30, |rollout| is_healthy(rollout, &canary)).await;
    pods(&world, (&stable, 0), (&canary, 5)).await;
    world.end().await;
}

/// An abort at half: traffic goes back as stable's pods come, never more than they carry, and all of it at the end.
pub async fn dynamic_abort_at_half(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { ready_after: "1500ms", ..dynamic() };
    world.healthy_within(&first, 60).await;
    let second = first.image("checkout:2");
    let (stable, canary) = (first.hash(), second.hash());
    world.given(&second).await;
    world.reaches(60).await;
    pods(&world, (&stable, 2), (&canary, 3)).await;
    world.act("abort", &canary, None).await;
    world.wait("aborted", 5, |rollout| is_aborted(rollout, "AbortedByAction")).await;
    let waits = |rollout: &Rollout| rollout.status.blocked_by.iter().any(|wait| wait.reason == "StableNotReady");
    world.wait("the wait for stable's pods has a name", 5, waits).await;
    world.reaches(0).await;
    pods(&world, (&stable, 5), (&canary, 0)).await;
    world.end().await;
}

/// A newer revision while stable is small: stable grows first, then the superseded canary loses its traffic.
pub async fn dynamic_superseded(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { ready_after: "1s", ..dynamic() };
    world.healthy_within(&first, 60).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(60).await;
    pods(&world, (&first.hash(), 2), (&second.hash(), 3)).await;
    let third = Given { steps: json!([{"setWeight": 40}]), ..first.image("checkout:3") };
    world.given(&third).await;
    let rollout = world.wait("promoted", 60, |rollout| is_healthy(rollout, &third.hash())).await;
    let outcomes: Vec<OutcomeKind> = rollout.status.history.iter().map(|outcome| outcome.outcome).collect();
    world.assert(
        outcomes == [OutcomeKind::Promoted, OutcomeKind::Superseded, OutcomeKind::Promoted],
        &format!("{outcomes:?}"),
    );
    world.end().await;
}

/// Five to ten pods in the middle, slowly, and an abort a moment later; Argo Rollouts stays at the weight.
pub async fn scaled_in_the_middle_then_aborted(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {}}]), ready_after: "4s", ..Given::default() };
    world.healthy_within(&first, 60).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(40).await;
    let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": 10}}));
    api.patch_scale(NAME, &PatchParams::default(), &patch).await.expect("scaled");
    world.until("stable grows", 10, || (world.pods_wanted(&first.hash()) == 10).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.act("abort", &second.hash(), None).await;
    world.wait("aborted", 5, |rollout| is_aborted(rollout, "AbortedByAction")).await;
    world.until("weight zero at once", 1, || (world.monitor.weights(NAME).last() == Some(&0)).then_some(())).await;
    world.end().await;
}

/// One of five stable pods is unready from the start, and the canary goes through; Argo Rollouts never promotes.
pub async fn unready_stable_pod_from_the_start(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.ready("checkout:1", Ready::AllBut(1));
    let first = Given::default();
    world.given(&first).await;
    world.wait("four of five serve as stable", 20, |rollout| rollout.status.stable.is_some()).await;
    let second = first.image("checkout:2");
    world.healthy(&second).await;
    let weights = world.monitor.weights(NAME);
    world.assert(weights == [0, 20, 50, 80, 0], &format!("weights were {weights:?}"));
    world.end().await;
}

/// `setCanaryScale` gives the canary pods apart from its weight, and takes them back.
pub async fn canary_scale(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given {
        steps: json!([
            {"setCanaryScale": {"replicas": 3}}, {"pause": {}},
            {"setWeight": 20}, {"setCanaryScale": {"weight": 80}}, {"pause": {}},
            {"setCanaryScale": {"matchTrafficWeight": true}}, {"pause": {}},
        ]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    let (stable, canary) = (first.hash(), second.hash());
    world.given(&second).await;
    pods(&world, (&stable, 5), (&canary, 3)).await;
    world.assert(world.monitor.weights(NAME) == [0], "pods without weight");
    world.wait("the first pause", 10, |rollout| rollout.status.current_step_index == Some(1)).await;
    world.act("promote", &canary, Some(1)).await;
    pods(&world, (&stable, 5), (&canary, 4)).await;
    world.reaches(20).await;
    world.wait("the second pause", 10, |rollout| rollout.status.current_step_index == Some(4)).await;
    world.act("promote", &canary, Some(4)).await;
    pods(&world, (&stable, 5), (&canary, 1)).await;
    world.wait("the third pause", 10, |rollout| rollout.status.current_step_index == Some(6)).await;
    world.act("promote", &canary, Some(6)).await;
    world.wait("promoted", 20, |rollout| is_healthy(rollout, &canary)).await;
    world.end().await;
}

/// Without a route the pods are the weight: up, aborted, and up again to the end.
pub async fn ratio_of_pods(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given {
        istio: json!(null),
        steps: json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {"duration": "1s"}}]),
        canary: json!({"maxSurge": 1, "maxUnavailable": 0}),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    let (stable, canary) = (first.hash(), second.hash());
    world.given(&second).await;
    pods(&world, (&stable, 4), (&canary, 1)).await;
    world
        .wait("a fifth of the pods", 10, |rollout| {
            rollout.status.canary.as_ref().is_some_and(|canary| canary.observed_weight == 20)
        })
        .await;
    let abort = world.act("abort", &canary, None).await;
    world.assert(world.answer(&abort).await.0, "the abort is accepted");
    pods(&world, (&stable, 5), (&canary, 0)).await;
    let third = first.image("checkout:3");
    world.given(&third).await;
    pods(&world, (&stable, 4), (&third.hash(), 1)).await;
    world.wait("the pause", 10, |rollout| rollout.status.current_step_index == Some(1)).await;
    world.act("promote", &third.hash(), Some(1)).await;
    world.wait("promoted", 30, |rollout| is_healthy(rollout, &third.hash())).await;
    pods(&world, (&stable, 0), (&third.hash(), 5)).await;
    world.end().await;
}
