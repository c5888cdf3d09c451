//! Configuration that belongs to a revision, under the rights that are shipped.

use std::sync::Arc;

use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::api::watched::Rollout;

use crate::support::{Environment, Given, World};

fn settings(greeting: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"greeting": greeting}})
}

fn is_at_rest(rollout: &Rollout) -> bool {
    let is_current = rollout.metadata.generation == Some(rollout.status.observed_generation);
    is_current && rollout.status.phase == Some(Phase::Healthy) && rollout.status.blocked_by.is_empty()
}

fn waits_for(rollout: &Rollout, reason: &str) -> bool {
    rollout.status.blocked_by.iter().any(|wait| wait.reason == reason)
}

/// What the pods of stable are started with.
async fn greeting_of_stable(world: &World) -> Value {
    let hash = world.monitor.rollout("checkout").and_then(|rollout| rollout.status.stable).expect("stable").hash;
    let path = format!("/apis/apps/v1/namespaces/{{ns}}/replicasets/checkout-{hash}");
    let set = world.object(&path).await.expect("stable's ReplicaSet");
    let copy = set["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"].clone();
    let path = format!("/api/v1/namespaces/{{ns}}/configmaps/{}", copy.as_str().expect("a copy"));
    world.object(&path).await.expect("the copy")["data"]["greeting"].clone()
}

/// Without the right Serin says which it lacks; a change of a ConfigMap alone is a canary, its abort keeps the old content for
/// stable, Git's old content is the old revision, and a ConfigMap that is pruned breaks nothing.
pub async fn belongs_to_a_revision(environment: Arc<Environment>, name: String) {
    let mut world = World::start(environment, &name).await;
    world.withheld = "configmaps is forbidden";
    world.apply(&settings("hello")).await;
    let mut first = Given { steps: json!([{"setWeight": 50}, {"pause": {}}]), ..Given::default() };
    let mut template = first.template();
    template["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    first.spec = json!({"template": template, "configSnapshots": {"kinds": ["ConfigMap"]}});
    world.given(&first).await;
    world.wait("the right is awaited", 20, |rollout| waits_for(rollout, "ConfigUnlisted")).await;
    world
        .apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "serin-config-snapshots"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "serin-config-snapshots"},
            "subjects": [{"kind": "ServiceAccount", "name": "serin", "namespace": "serin-system"}],
        }))
        .await;
    let rollout = world.wait("the first deployment", 90, is_at_rest).await;
    let stable = rollout.status.stable.expect("stable").hash;
    world.assert(greeting_of_stable(&world).await == json!("hello"), "stable has its configuration");

    world.apply(&settings("good day")).await;
    world.reaches(50).await;
    let canary = world.monitor.rollout("checkout").and_then(|rollout| rollout.status.canary).expect("a canary").hash;
    world.assert(canary != stable, "other content is another revision");
    world.act("abort", &canary, None).await;
    world.reaches(0).await;
    world.wait("aborted", 10, |rollout| rollout.status.aborted.is_some()).await;
    world.assert(greeting_of_stable(&world).await == json!("hello"), "the abort brought back the configuration");

    world.apply(&settings("hello")).await;
    let rollout = world.wait("Git's old content is Healthy", 20, is_at_rest).await;
    world.assert(rollout.status.stable.is_some_and(|now| now.hash == stable), "it is the old revision");

    world.delete("/api/v1/namespaces/{ns}/configmaps/settings").await;
    world.wait("it is missed by name", 10, |rollout| waits_for(rollout, "ConfigMissing")).await;
    world.assert(greeting_of_stable(&world).await == json!("hello"), "stable's copy is there");
    world.apply(&settings("hello")).await;
    world.wait("Healthy again", 20, is_at_rest).await;
    world.end().await;
}
