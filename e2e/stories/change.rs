//! The template changes in the middle.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serin::api::status::OutcomeKind;

use crate::support::world::is_healthy;
use crate::support::{Environment, Given, Ready, World};

/// Stable is wholly broken and a fixed version rolls forward; Argo Rollouts never promotes it.
pub async fn stable_broken_rolls_forward(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given::default();
    world.healthy(&first).await;
    world.ready("checkout:1", Ready::None);
    world
        .wait("stable is broken", 10, |rollout| rollout.status.stable.as_ref().is_some_and(|stable| stable.ready == 0))
        .await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.wait("the fix is promoted", 30, |rollout| is_healthy(rollout, &second.hash())).await;
    world.assert(world.monitor.weights("checkout").contains(&100), "the canary carried all while stable had no pod");
    world.end().await;
}

/// A newer revision supersedes the canary: weight zero first, steps from the beginning.
pub async fn newer_revision(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {"duration": "2s"}}]), ..Given::default() };
    world.healthy(&first).await;
    let (second, third) = (first.image("checkout:2"), first.image("checkout:3"));
    world.given(&second).await;
    world.reaches(40).await;
    world.given(&third).await;
    let rollout = world.wait("the newer one is promoted", 30, |rollout| is_healthy(rollout, &third.hash())).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 40, 0, 40, 0], &format!("weights were {weights:?}"));
    let outcomes: Vec<OutcomeKind> = rollout.status.history.iter().map(|outcome| outcome.outcome).collect();
    world.assert(
        outcomes == [OutcomeKind::Promoted, OutcomeKind::Superseded, OutcomeKind::Promoted],
        &format!("outcomes were {outcomes:?}"),
    );
    world.until("the superseded pods go", 10, || (world.pods_wanted(&second.hash()) == 0).then_some(())).await;
    world.end().await;
}

/// Stable's template again: no steps, no analysis.
pub async fn revert(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {}}]), ..Given::default() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(40).await;
    world.healthy(&first).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 40, 0], &format!("weights were {weights:?}"));
    world.until("the canary's pods go", 10, || (world.pods_wanted(&second.hash()) == 0).then_some(())).await;
    world.end().await;
}

/// Back to a revision that was promoted before: inside the window without steps, outside of it with all of them.
pub async fn rollback(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let window =
        |revisions: i32| Given { spec: json!({"rollbackWindow": {"revisions": revisions}}), ..Given::default() };
    let first = window(1);
    for image in ["checkout:1", "checkout:2", "checkout:3"] {
        world.healthy(&first.image(image)).await;
        // Creation times are whole seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let seen = || world.monitor.weights("checkout").len();
    let before = seen();
    let inside = first.image("checkout:2");
    world.given(&inside).await;
    let rollout = world.wait("back inside the window", 20, |rollout| is_healthy(rollout, &inside.hash())).await;
    let weights = world.monitor.weights("checkout").split_off(before);
    world.assert(!weights.contains(&20) && !weights.contains(&50), &format!("the steps are skipped: {weights:?}"));
    let decided = rollout.status.decisions.iter().any(|decision| decision.what == "Rollback");
    world.assert(decided, "the skip is on record");

    world.healthy(&first.image("checkout:3")).await;
    world.healthy(&first.image("checkout:4")).await;
    let before = seen();
    let outside = first.image("checkout:1");
    world.healthy(&outside).await;
    let weights = world.monitor.weights("checkout").split_off(before);
    world.assert(weights == [20, 50, 80, 0], &format!("the steps are run: {weights:?}"));
    world.end().await;
}
