//! Restarts of the pods without a new revision.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use serin::api::watched::Rollout;

use crate::support::world::{NAME, is_healthy};
use crate::support::{Environment, Given, World};

async fn pod_uids(world: &World) -> BTreeSet<String> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let listed = api.list(&ListParams::default()).await.expect("pods");
    let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    listed.items.into_iter().filter(stays).filter_map(|pod| pod.metadata.uid).collect()
}

/// `restartAt` replaces every pod, one at a time, and an action does it again; a disruption budget holds it.
pub async fn restarted(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { replicas: 3, canary: json!({"maxUnavailable": 1}), ..Given::default() };
    world.healthy(&first).await;
    let budget = |least: i32| {
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": NAME},
            "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": NAME}}}})
    };
    world.apply(&budget(3)).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let before = pod_uids(&world).await;
    let now = jiff::Timestamp::now().to_string();
    let at = format!("{}Z", now.split('.').next().unwrap().trim_end_matches('Z'));
    let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
    let patch = Patch::Merge(json!({"spec": {"restartAt": at}}));
    api.patch(NAME, &PatchParams::default(), &patch).await.expect("restartAt");
    let held = |rollout: &Rollout| rollout.status.blocked_by.iter().any(|wait| wait.reason == "EvictionRefused");
    world.wait("the disruption budget holds it", 10, held).await;
    world.assert(pod_uids(&world).await == before, "no pod was evicted");
    world.apply(&budget(2)).await;
    world
        .wait("restarted", 60, |rollout| rollout.status.restarted_at.is_some() && is_healthy(rollout, &first.hash()))
        .await;
    let after = pod_uids(&world).await;
    world.assert(after.is_disjoint(&before), "every pod is another");
    let budgets: Api<k8s_openapi::api::policy::v1::PodDisruptionBudget> =
        Api::namespaced(world.client.clone(), &world.namespace);
    budgets.delete(NAME, &DeleteParams::default()).await.expect("deleted");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let action = world.act("restart", &first.hash(), None).await;
    world.assert(world.answer(&action).await.0, "the restart is accepted");
    world
        .wait("restarted again", 60, |rollout| rollout.status.restart.is_none() && is_healthy(rollout, &first.hash()))
        .await;
    world.assert(pod_uids(&world).await.is_disjoint(&after), "every pod is another once more");
    world.assert(world.events().await.iter().any(|reason| reason == "Restarted"), "an event tells");
    world.end().await;
}
