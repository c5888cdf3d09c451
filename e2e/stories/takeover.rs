//! A Deployment is taken over: its template is the Rollout's, and its pods go when nothing is sent to them any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment as FullDeployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use serin::api::status::{Condition, Phase};
use serin::api::watched::{Deployment, Rollout};
use serin::plan::revision;

use crate::support::world::{NAME, is_healthy};
use crate::support::{Environment, Given, World};

/// The Deployment of a Rollout's template.
fn deployment(given: &Given, replicas: Option<i32>) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {"selector": {"matchLabels": {"app": NAME}}, "template": given.template()},
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

/// The Rollout with the Deployment's template, selector and replicas.
fn rollout(given: &Given) -> Value {
    let mut object = given.object();
    let spec = object["spec"].as_object_mut().unwrap();
    for field in ["template", "selector", "replicas"] {
        spec.remove(field);
    }
    spec.insert("workloadRef".into(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}));
    object
}

async fn read(world: &World) -> Deployment {
    Api::namespaced(world.client.clone(), &world.namespace).get(NAME).await.expect("the Deployment")
}

/// Waits until the Deployment is as wanted.
async fn until(world: &World, what: &str, is_so: impl Fn(&Deployment) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so(&read(world).await) {
        world.assert(Instant::now() < deadline, what);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Git leaves the replicas out: they are three because somebody scaled them, and none once stable serves.
pub async fn without_replicas_in_git(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given::default();
    world.apply(&deployment(&first, None)).await;
    let api: Api<FullDeployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    api.patch_scale(NAME, &PatchParams::default(), &scale).await.expect("a scale");
    until(&world, "the Deployment has three pods", |one| one.status.replicas == 3).await;

    world.apply(&rollout(&first)).await;
    let healthy = world.wait("Healthy", 30, |rollout| is_healthy(rollout, &first.hash())).await;
    let stable = healthy.status.stable.unwrap();
    assert_eq!((stable.replicas, stable.ready), (3, 3), "as many pods as the Deployment had");
    until(&world, "the Deployment has no pods", |one| one.spec.replicas == Some(0) && one.status.replicas == 0).await;
    world.wait("it says so", 10, |rollout| rollout.status.workload.as_ref().is_some_and(|one| one.replicas == 0)).await;

    let second = first.image("checkout:2");
    world.apply(&deployment(&second, None)).await;
    world.wait("promoted", 60, |rollout| is_healthy(rollout, &second.hash())).await;
    assert_eq!(read(&world).await.spec.replicas, Some(0), "a commit brings no pods back");
    let events = world.events().await;
    for reason in ["FirstDeployment", "WorkloadScaledDown", "RolloutStarted", "Promoted"] {
        assert!(events.iter().any(|event| event == reason), "{reason}: {events:?}");
    }
}

fn condition(rollout: &Rollout) -> Option<&Condition> {
    rollout.status.conditions.iter().find(|one| one.kind == "WorkloadScaledDown")
}

/// Git holds the replicas: the Rollout is healthy, says what it waits for, and sees the commit.
pub async fn with_replicas_in_git(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let given = Given::default();
    world.apply(&deployment(&given, Some(2))).await;
    world.apply(&rollout(&given)).await;
    let told = world.wait("it waits for Git", 30, |rollout| condition(rollout).is_some()).await;
    assert_eq!(told.status.phase, Some(Phase::Healthy));
    let told = condition(&told).unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "WorkloadScale"));
    assert!(told.message.contains("set its spec.replicas to 0 in Git"), "{}", told.message);
    assert_eq!(read(&world).await.spec.replicas, Some(2));

    world.apply(&deployment(&given, Some(0))).await;
    let is_done = |rollout: &Rollout| condition(rollout).is_none() && is_healthy(rollout, &given.hash());
    world.wait("Git has said so", 30, is_done).await;
}

/// What a real API server fills into a pod template is what the frozen table leaves out.
pub async fn defaults(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/workload");
    let text = |file: &str| std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
    let written: Value = serde_yaml::from_str(&text("written.yaml")).unwrap();
    world.apply(&written).await;
    let read = world.object("/apis/apps/v1/namespaces/{ns}/deployments/every-default").await.expect("the Deployment");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "every-default"},
            "spec": {"template": read["spec"]["template"]},
        });
        let note = "# The same, read from a real kube-apiserver; `UPDATE_EXPECT=1 e2e/run what-an-api-server-fills-in` writes it.";
        std::fs::write(format!("{folder}/read.yaml"), format!("{note}\n{}", serde_yaml::to_string(&object).unwrap()))
            .unwrap();
    }
    let kept: Value = serde_yaml::from_str(&text("read.yaml")).unwrap();
    assert_eq!(read["spec"]["template"], kept["spec"]["template"], "read.yaml is old");
    let canonical = |object: Value| {
        let deployment: Deployment = serde_json::from_value(object).unwrap();
        revision::canonical(&revision::template_of(&deployment))
    };
    assert_eq!(canonical(read), canonical(written));
}
