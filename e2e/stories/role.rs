//! What pods carry for their role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use serin::api::names;

use crate::support::world::is_healthy;
use crate::support::{Environment, Given, World};

/// UIDs of a revision's pods, by what their label `role` says.
async fn roles(world: &World, hash: &str) -> BTreeMap<String, BTreeSet<String>> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let of_revision = ListParams::default().labels(&format!("{}={hash}", names::REVISION_HASH));
    let mut roles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in api.list(&of_revision).await.expect("pods") {
        let role = pod.metadata.labels.unwrap_or_default().remove("role").unwrap_or_default();
        roles.entry(role).or_default().extend(pod.metadata.uid.filter(|_| pod.metadata.deletion_timestamp.is_none()));
    }
    roles.retain(|_, pods| !pods.is_empty());
    roles
}

async fn all_have(world: &World, hash: &str, role: &str) -> BTreeSet<String> {
    for _ in 0..100 {
        let mut roles = roles(world, hash).await;
        if roles.len() == 1
            && let Some(pods) = roles.remove(role)
        {
            return pods;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.fail(&format!("not all pods of {hash} have the role {role}: {:?}", roles(world, hash).await))
}

/// New pods are born with their role; a promotion and a commit change it on the pods that exist.
pub async fn told_by_pods(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let metadata = |role: &str| json!({"labels": {"role": role}, "annotations": {"example.com/why": role}});
    let canary = json!({"canaryMetadata": metadata("canary"), "stableMetadata": metadata("stable")});
    let first = Given { steps: json!([{"setWeight": 50}, {"pause": {}}]), canary, ..Given::default() };
    world.healthy(&first).await;
    all_have(&world, &first.hash(), "stable").await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(50).await;
    let before = all_have(&world, &second.hash(), "canary").await;
    world.act("promoteFull", &second.hash(), None).await;
    world.wait("promoted", 30, |rollout| is_healthy(rollout, &second.hash())).await;
    let after = all_have(&world, &second.hash(), "stable").await;
    world.assert(before.is_subset(&after), "no pod was restarted");
    let mut without = second.object();
    without["spec"]["strategy"]["canary"]["stableMetadata"] = json!({"labels": {"role": "serving"}});
    world.apply(&without).await;
    let serving = all_have(&world, &second.hash(), "serving").await;
    world.assert(serving == after, "a commit restarts none either");
    without["spec"]["strategy"]["canary"]["stableMetadata"] = json!({"labels": {"serin.dev/role": "x"}});
    let refused = world.try_apply(&without).await.err().map(|error| error.to_string()).unwrap_or_default();
    world.assert(refused.contains("are set by Serin"), &format!("a key of Serin's is refused: {refused}"));
    world.end().await;
}
