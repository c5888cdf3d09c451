//! Crashes, leaders and deletions.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use serin::api::status::Phase;
use serin::api::watched::Rollout;

use crate::support::world::is_healthy;
use crate::support::{Environment, Given, World};

/// SIGKILL at twenty moments of good rollouts: each ends promoted, by the same weights.
pub async fn controller_killed(environment: Arc<Environment>, name: String) {
    let mut world = World::start(environment, &name).await;
    let mut given = Given { replicas: 3, steps: json!([{"setWeight": 34}, {"setWeight": 67}]), ..Given::default() };
    world.healthy(&given).await;
    let mut kills = 0;
    for (round, image) in ["checkout:2", "checkout:3", "checkout:4", "checkout:5", "checkout:6"].into_iter().enumerate()
    {
        given = given.image(image);
        world.given(&given).await;
        for kill in 0..4 {
            let moment = 40 + (round * 4 + kill) * 97 % 450;
            tokio::time::sleep(Duration::from_millis(u64::try_from(moment).unwrap())).await;
            world.kill_controller();
            world.start_controller();
            kills += 1;
        }
        world.wait("promoted all the same", 30, |rollout| is_healthy(rollout, &given.hash())).await;
    }
    world.assert(kills == 20, "twenty kills");
    let weights = world.monitor.weights("checkout");
    world.assert(weights.iter().all(|weight| [0, 34, 67].contains(weight)), &format!("weights were {weights:?}"));
    world.end().await;
}

/// Deleted in the middle: the route goes back to stable first, then everything goes.
pub async fn deleted(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {}}]), ..Given::default() };
    world.healthy(&first).await;
    world.given(&first.image("checkout:2")).await;
    world.reaches(40).await;
    let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
    api.delete("checkout", &DeleteParams::background()).await.expect("deleted");
    world.reaches(0).await;
    world.until("the Rollout is gone", 20, || world.monitor.rollout("checkout").is_none().then_some(())).await;
    world.until("its ReplicaSets are gone", 40, || world.monitor.replica_sets().is_empty().then_some(())).await;
    world.end().await;
}

/// Two replicas: the second takes over when the first is stopped, and finishes the rollout.
pub async fn leader_hands_over(environment: Arc<Environment>, name: String) {
    let mut world = World::start_with(environment, &name, &["--identity=first"]).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {"duration": "3s"}}]), ..Given::default() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(40).await;
    world.kill_controller();
    world.start_controller();
    world.wait("promoted by the successor", 60, |rollout| is_healthy(rollout, &second.hash())).await;
    world.end().await;
}

/// A hundred Healthy Rollouts send nothing but watches: for five minutes in a full run, else for half a minute.
pub async fn at_rest(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.stop_monitor();
    let names: Vec<String> = (0..100).map(|number| format!("app-{number}")).collect();
    for name in &names {
        let mut object =
            Given { replicas: 1, istio: json!({"owned": {"host": "checkout", "hosts": [name]}}), ..Given::default() }
                .object();
        object["metadata"]["name"] = json!(name);
        object["spec"]["selector"]["matchLabels"]["app"] = json!(name);
        object["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
        world.apply(&object).await;
    }
    let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
    for _ in 0..120 {
        let listed = api.list(&ListParams::default()).await.expect("a list").items;
        let healthy = listed.iter().filter(|rollout| rollout.status.phase == Some(Phase::Healthy)).count();
        if healthy == names.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.assert(world.probe("/healthz").await == 200 && world.probe("/readyz").await == 200, "it is alive and ready");
    let before = world.requests().await;
    world.assert(before > 500.0, "the hundred were made by requests that are counted");
    let seconds = std::env::var("E2E_REST_SECONDS").map_or(30, |text| text.parse().unwrap());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = world.requests().await;
    world.assert((after - before).abs() < 0.5, &format!("{} requests in {seconds} s at rest", after - before));
    world.end().await;
}
