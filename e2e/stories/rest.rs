//! Crashes, leaders and deletions.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use serin::api::status::{OutcomeKind, Phase};
use serin::api::watched::{DestinationRule, Rollout, VirtualService};

use crate::support::world::{free_address, is_healthy};
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

/// The leader is paused for longer than its lease, another finishes the rollout, and the first wakes up in the middle of
/// the next one: it must not write.
pub async fn paused_leader(environment: Arc<Environment>, name: String) {
    let world = World::start_with(environment, &name, &["--identity=sleeper"]).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {"duration": "2s"}}]), ..Given::default() };
    world.healthy(&first).await;
    let mut other = world.spawn(&["--identity=waker".to_owned()], &free_address());
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(40).await;
    world.signal("STOP");
    world.wait("promoted by the other", 60, |rollout| is_healthy(rollout, &second.hash())).await;
    let third = first.image("checkout:3");
    world.given(&third).await;
    world.reaches(40).await;
    world.signal("CONT");
    world.wait("promoted once more", 30, |rollout| is_healthy(rollout, &third.hash())).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 40, 0, 40, 0], &format!("weights were {weights:?}"));
    other.kill().unwrap();
    other.wait().unwrap();
    world.end().await;
}

/// Twenty Rollouts are deleted together with their routes and Services, twenty times over; Argo's controller dies of it.
pub async fn uninstalled(environment: Arc<Environment>, name: String) {
    let mut world = World::start(environment, &name).await;
    world.stop_monitor();
    for round in 0..20 {
        for number in 0..20 {
            uninstallable(&world, number).await;
        }
        let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
        let mut healthy = 0;
        for _ in 0..300 {
            let listed = api.list(&ListParams::default()).await.expect("a list").items;
            healthy = listed.iter().filter(|rollout| rollout.status.phase == Some(Phase::Healthy)).count();
            if healthy == 20 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.assert(healthy == 20, &format!("{healthy} of 20 are Healthy in round {round}"));
        let all = ListParams::default().labels("part-of=uninstall");
        let background = DeleteParams::background();
        let (rules, routes): (Api<DestinationRule>, Api<VirtualService>) = (
            Api::namespaced(world.client.clone(), &world.namespace),
            Api::namespaced(world.client.clone(), &world.namespace),
        );
        let services: Api<Service> = Api::namespaced(world.client.clone(), &world.namespace);
        let deleted = futures::join!(
            api.delete_collection(&background, &all),
            rules.delete_collection(&background, &all),
            routes.delete_collection(&background, &all),
            async {
                for number in 0..20 {
                    services.delete(&format!("app-{number}"), &background).await.expect("deleted");
                }
            },
        );
        deleted.0.expect("Rollouts deleted");
        deleted.1.expect("DestinationRules deleted");
        deleted.2.expect("VirtualServices deleted");
        let mut left = usize::MAX;
        for _ in 0..400 {
            left = api.list(&ListParams::default()).await.expect("a list").items.len();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.assert(left == 0, &format!("{left} Rollouts are left in round {round}"));
        let runs = world.is_running();
        world.assert(runs, &format!("the controller died in round {round}"));
    }
    world.assert(world.probe("/readyz").await == 200, "it is ready");
    world.end().await;
}

/// A Rollout with routes and a Service of its own, all labelled alike.
async fn uninstallable(world: &World, number: usize) {
    let name = format!("app-{number}");
    let labels = json!({"part-of": "uninstall"});
    let mut object = Given {
        replicas: 1,
        istio: json!({"virtualService": {"name": name}, "destinationRule": {"name": name, "stableSubsetName": "stable", "canarySubsetName": "canary"}}),
        ..Given::default()
    }
    .object();
    object["metadata"] = json!({"name": name, "labels": labels});
    object["spec"]["selector"]["matchLabels"]["app"] = json!(name);
    object["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
    world.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})).await;
    world
        .apply(&json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name, "labels": labels},
            "spec": {"host": name, "subsets": [{"name": "stable"}, {"name": "canary"}]},
        }))
        .await;
    world
        .apply(&json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "labels": labels},
            "spec": {"hosts": [name], "http": [{"route": [
                {"destination": {"host": name, "subset": "stable"}, "weight": 100},
                {"destination": {"host": name, "subset": "canary"}, "weight": 0}]}]},
        }))
        .await;
    world.apply(&object).await;
}

/// The API server goes away in the middle of a canary and comes back: the canary goes on where it was.
pub async fn api_server_restarted(environment: Arc<Environment>, name: String) {
    let restart = environment.dir.join("testbed/restart-apiserver");
    if !environment.dir.join("testbed").exists() {
        println!(
            "story {name} needs the testbed, whose API server can be restarted; this is another cluster: left out"
        );
        return;
    }
    let world = World::start(environment, &name).await;
    world.monitor.seen.lock().unwrap().has_outage = true;
    let first = Given {
        steps: json!([{"setWeight": 40}, {"pause": {"duration": "4s"}}, {"setWeight": 80}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    for image in ["checkout:2", "checkout:3"] {
        let next = first.image(image);
        world.given(&next).await;
        world.reaches(40).await;
        std::fs::write(&restart, "").unwrap();
        world.until("the API server is back", 60, || (!restart.exists()).then_some(())).await;
        world.wait("promoted all the same", 60, |rollout| is_healthy(rollout, &next.hash())).await;
    }
    // The story's own watches may miss what happens while they come back.
    let weights = world.monitor.weights("checkout");
    world.assert(weights.iter().all(|weight| [0, 40, 80].contains(weight)), &format!("weights were {weights:?}"));
    let rollout = world.wait("all on record", 10, |rollout| rollout.status.history.len() == 3).await;
    let promoted = rollout.status.history.iter().all(|outcome| outcome.outcome == OutcomeKind::Promoted);
    world.assert(promoted, "each was promoted, and none begun twice");
    world.end().await;
}

/// The controller is upgraded in the middle of a canary, from the binary of an earlier commit: no pod restarts, no step
/// is lost or run again.
pub async fn upgraded(environment: Arc<Environment>, name: String) {
    let Some(earlier) = earlier(&name) else {
        return;
    };
    let mut world = World::start(environment, &name).await;
    let current = exchange(&mut world, earlier);
    let first = Given {
        steps: json!([{"setWeight": 40}, {"pause": {"duration": "6s"}}, {"setWeight": 80}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    let waits = |rollout: &Rollout| rollout.status.current_step_index == Some(1);
    world.wait("the earlier one has come to the pause", 20, waits).await;
    let before = pods_of(&world).await;
    exchange(&mut world, current);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rollout = world.wait("still at the pause", 5, waits).await;
    world.assert(rollout.status.decisions.iter().all(|decision| decision.what != "StepsEdited"), "no step runs again");
    world.assert(pods_of(&world).await == before, "the pods are those of before");
    world.wait("promoted by this one", 30, |rollout| is_healthy(rollout, &second.hash())).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 40, 80, 0], &format!("weights were {weights:?}"));
    world.end().await;
}

/// The controller goes back to an earlier commit in the middle of an analysis, and comes again at rest: what was measured
/// counts, no pod restarts, no step is lost or run again.
pub async fn downgraded(environment: Arc<Environment>, name: String) {
    const MEASUREMENTS: i32 = 12;
    let Some(earlier) = earlier(&name) else {
        return;
    };
    let mut world = World::start(environment, &name).await;
    world.success_rate(json!({"count": MEASUREMENTS})).await;
    let first = Given {
        steps: json!([{"setWeight": 40}, {"analysis": World::analysis()}, {"setWeight": 80}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.errors(&second.hash(), 0.01);
    world.given(&second).await;
    let taken = |rollout: &Rollout| {
        rollout.status.analysis.iter().flat_map(|analysis| &analysis.metrics).map(|metric| metric.taken).max()
    };
    let rollout = world.wait("some measurements", 40, |rollout| taken(rollout) >= Some(3)).await;
    let began = rollout.status.analysis.first().map(|analysis| analysis.started_at);
    let before = pods_of(&world).await;
    let current = exchange(&mut world, earlier);
    let rollout = world.wait("more measurements", 20, |rollout| taken(rollout) >= Some(MEASUREMENTS - 3)).await;
    let goes_on = rollout.status.analysis.first().map(|analysis| analysis.started_at) == began;
    world.assert(goes_on, "the analysis goes on");
    world.assert(pods_of(&world).await == before, "the pods are those of before");
    world.wait("promoted by the earlier one", 40, |rollout| is_healthy(rollout, &second.hash())).await;
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 40, 80, 0], &format!("weights were {weights:?}"));
    let stays = pods_of(&world).await;
    exchange(&mut world, current);
    world.wait("the old pods go", 20, |_| world.pods_wanted(&first.hash()) == 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let now = pods_of(&world).await;
    world.assert(now.len() == 5 && now.is_subset(&stays), "nothing happens to the pods of one at rest");
    world.wait("still at rest", 5, |rollout| is_healthy(rollout, &second.hash())).await;
    world.end().await;
}

/// The binary of an earlier commit.
fn earlier(name: &str) -> Option<PathBuf> {
    let earlier = std::env::var_os("E2E_EARLIER_BIN");
    if earlier.is_none() {
        println!(
            "story {name} needs the binary of an earlier commit, which this checkout's history does not have: left out"
        );
    }
    earlier.map(PathBuf::from)
}

/// Ends the controller as a crash does, and starts another in its place; which one it was.
fn exchange(world: &mut World, binary: PathBuf) -> PathBuf {
    world.kill_controller();
    let before = std::mem::replace(&mut world.binary, binary);
    world.start_controller();
    before
}

async fn pods_of(world: &World) -> BTreeSet<String> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let listed = pods.list(&ListParams::default()).await.expect("pods").items;
    listed.into_iter().filter_map(|pod| pod.metadata.uid).collect()
}
