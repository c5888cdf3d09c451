//! Configuration that belongs to a revision, under the rights that are shipped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::api::watched::Rollout;

use crate::support::{Environment, Given, World};

fn settings(greeting: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"greeting": greeting}})
}

/// A Secret that changes together with it.
fn token(word: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"word": word}})
}

/// Lets Serin copy one kind in the story's namespace.
fn right(role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "serin", "namespace": "serin-system"}],
    })
}

/// Waits until a namespace has this many objects of a kind whose names begin with the Rollout's: copies.
async fn has_copies(world: &World, plural: &str, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let list = world.object(&format!("/api/v1/namespaces/{{ns}}/{plural}")).await.expect("a list");
        let names = list["items"].as_array().into_iter().flatten().filter_map(|one| one["metadata"]["name"].as_str());
        let copies: Vec<&str> = names.filter(|name| name.starts_with("checkout-")).collect();
        if copies.len() == wanted {
            return;
        }
        world.assert(Instant::now() < deadline, &format!("{wanted} copies are wanted of {plural}: {copies:?}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
/// stable, Git's old content is the old revision, copies go with the revisions that no history keeps, and a ConfigMap that is
/// pruned breaks nothing.
pub async fn belongs_to_a_revision(environment: Arc<Environment>, name: String) {
    let mut world = World::start(environment, &name).await;
    world.withheld = "configmaps is forbidden";
    world.apply(&settings("hello")).await;
    world.apply(&token("open")).await;
    world.apply(&right("serin-secret-snapshots")).await;
    let mut first = Given { steps: json!([{"setWeight": 50}, {"pause": {}}]), ..Given::default() };
    let mut template = first.template();
    template["spec"]["containers"][0]["envFrom"] =
        json!([{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "token"}}]);
    first.spec =
        json!({"template": template, "configSnapshots": {"kinds": ["ConfigMap", "Secret"]}, "revisionHistoryLimit": 0});
    world.given(&first).await;
    world.wait("the right is awaited", 20, |rollout| waits_for(rollout, "ConfigUnlisted")).await;
    world.apply(&right("serin-config-snapshots")).await;
    let rollout = world.wait("the first deployment", 90, is_at_rest).await;
    let stable = rollout.status.stable.expect("stable").hash;
    world.assert(greeting_of_stable(&world).await == json!("hello"), "stable has its configuration");

    world.apply(&settings("good day")).await;
    world.apply(&token("sesame")).await;
    world.reaches(50).await;
    let canary = world.monitor.rollout("checkout").and_then(|rollout| rollout.status.canary).expect("a canary").hash;
    world.assert(canary != stable, "other content is another revision");
    world.act("abort", &canary, None).await;
    world.reaches(0).await;
    world.wait("aborted", 10, |rollout| rollout.status.aborted.is_some()).await;
    world.assert(greeting_of_stable(&world).await == json!("hello"), "the abort brought back the configuration");

    has_copies(&world, "configmaps", 2).await;
    has_copies(&world, "secrets", 2).await;

    world.apply(&settings("hello")).await;
    world.apply(&token("open")).await;
    let rollout = world.wait("Git's old content is Healthy", 20, is_at_rest).await;
    world.assert(rollout.status.stable.is_some_and(|now| now.hash == stable), "it is the old revision");
    has_copies(&world, "configmaps", 1).await;
    has_copies(&world, "secrets", 1).await;

    world.delete("/api/v1/namespaces/{ns}/configmaps/settings").await;
    world.wait("it is missed by name", 10, |rollout| waits_for(rollout, "ConfigMissing")).await;
    world.assert(greeting_of_stable(&world).await == json!("hello"), "stable's copy is there");
    world.apply(&settings("hello")).await;
    world.wait("Healthy again", 20, is_at_rest).await;
    world.end().await;
}
