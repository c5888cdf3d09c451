//! Routes that proxies acknowledge late, or never.

use serde_json::json;
use serin::plan::observed::{Acknowledgement, Proxies};

use crate::support::world::{self, World, commit, hash, owned};

/// A Rollout at rest whose canary gets 40%, is measured, and waits there. No proxy acknowledges any other route from now on.
fn silent() -> World {
    let steps = json!([
        {"setWeight": 40},
        {"analysis": {"templates": [{"templateName": "success-rate"}]}},
        {"pause": {}},
    ]);
    let canary = json!({"trafficRouting": {"istio": owned()}, "abortScaleDownDelaySeconds": 10});
    let mut world = world::at_rest(4, &steps, &canary);
    told(&mut world, "", Some("istiod is being asked"));
    world.settle();
    acknowledge(&mut world);
    world
}

fn told(world: &mut World, route: &str, missing: Option<&str>) {
    let acknowledgement = Acknowledgement { route: route.into(), missing: missing.map(str::to_owned) };
    world.observed.proxies = Proxies::Asked(acknowledgement);
}

/// Every proxy acknowledges the route as it is.
fn acknowledge(world: &mut World) {
    let question = world.plan().question.unwrap();
    told(world, &question.route, None);
    world.settle();
}

/// The same with the canary at 40%, acknowledged.
fn with_canary() -> World {
    let mut world = silent();
    commit(&mut world, "checkout:2");
    world.pass_time(5);
    acknowledge(&mut world);
    acknowledge(&mut world);
    assert_eq!(world.weight(), 40);
    world
}

fn blocked(world: &World) -> Vec<String> {
    world.observed.rollout.status.blocked_by.iter().map(|wait| format!("{}: {}", wait.reason, wait.message)).collect()
}

#[test]
fn more_weight_waits_for_every_proxy() {
    let mut world = silent();
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!((world.pods_of("checkout:2"), world.weight()), (2, 0), "the subset is not in force");
    assert!(blocked(&world)[0].starts_with("RouteSettling"), "{:?}", blocked(&world));
    world.pass_time(600);
    assert_eq!((world.weight(), world.phase().as_str()), (0, "Paused"));
    let asked = world.plan().question.unwrap().route;
    told(&mut world, &asked, Some("1 of 2 proxies have not acknowledged the route: gw-1.istio-system"));
    world.settle();
    let wanted = "RouteUnacknowledged: 1 of 2 proxies have not acknowledged the route: gw-1.istio-system; the rollout goes on when all proxies have it";
    assert_eq!(blocked(&world), [wanted]);
    told(&mut world, "stable=- canary=-", None);
    world.settle();
    assert_eq!(world.weight(), 0, "what is told of another route counts for nothing");
    acknowledge(&mut world);
    assert_eq!(world.weight(), 40);
}

#[test]
fn a_step_is_passed_when_every_proxy_has_its_weight() {
    let mut world = silent();
    commit(&mut world, "checkout:2");
    world.pass_time(5);
    acknowledge(&mut world);
    world.pass_time(20);
    let status = |world: &World| world.observed.rollout.status.clone();
    let canary = status(&world).canary.unwrap();
    assert_eq!((canary.weight, canary.observed_weight, canary.weight_in_force), (40, 40, Some(0)));
    assert_eq!((status(&world).current_step_index, status(&world).analysis.len()), (Some(0), 0), "nothing is measured");
    acknowledge(&mut world);
    let canary = status(&world).canary.unwrap();
    assert_eq!((status(&world).current_step_index, canary.weight_in_force), (Some(1), Some(40)));
    assert_eq!(status(&world).stable.unwrap().weight_in_force, Some(60));
    assert!(world.plan().question.is_none(), "a route that is acknowledged is asked about no more");
}

#[test]
fn an_abort_waits_for_nobody_and_its_pods_for_every_proxy() {
    let mut world = with_canary();
    world.act("abort");
    world.settle();
    assert_eq!(world.weight(), 0, "the weight goes at once");
    let restored =
        |world: &World| world.observed.rollout.status.aborted.clone().and_then(|aborted| aborted.restored_in());
    world.pass_time(500);
    assert_eq!((world.pods_of("checkout:2"), restored(&world)), (2, None), "a proxy may still send it requests");
    assert_eq!(world.observed.rollout.status.canary.clone().unwrap().weight_in_force, Some(40));
    acknowledge(&mut world);
    assert_eq!(restored(&world), Some(500.0));
    assert!(world.observed.rollout.status.message.contains("all requests since 500 s later"));
    world.pass_time(9);
    assert_eq!(world.pods_of("checkout:2"), 2, "its delay counts from then on");
    world.pass_time(1);
    acknowledge(&mut world);
    world.pass_time(10);
    assert_eq!(world.pods_of("checkout:2"), 0);
}

#[test]
fn a_proxy_that_never_answers_is_given_up() {
    let mut world = with_canary();
    world.act("abort");
    world.settle();
    world.pass_time(590);
    assert_eq!(world.pods_of("checkout:2"), 2);
    // The weight is given up after the drain time-out, then the subset that it had.
    world.pass_time(1300);
    assert_eq!(world.pods_of("checkout:2"), 0);
    let status = &world.observed.rollout.status;
    assert_eq!(status.aborted.as_ref().unwrap().restored_in(), None, "nobody knows");
    assert_eq!(status.stable.as_ref().unwrap().hash, hash("checkout:1"));
}

#[test]
fn a_promotion_keeps_the_old_pods_until_every_proxy_has_the_new() {
    let mut world = with_canary();
    world.pass_time(40);
    world.act("promote");
    world.pass_time(5);
    let is_promoted = |world: &World| world.observed.rollout.status.stable.as_ref().unwrap().hash == hash("checkout:2");
    assert!(is_promoted(&world), "the weight that was acknowledged is enough: {:?}", blocked(&world));
    world.pass_time(500);
    assert_eq!((world.phase().as_str(), world.pods_of("checkout:1")), ("Paused", 4), "{:?}", blocked(&world));
    acknowledge(&mut world);
    world.pass_time(60);
    assert_eq!((world.phase().as_str(), world.pods_of("checkout:1")), ("Healthy", 0));
}

#[test]
fn a_rollout_at_rest_asks_nobody() {
    let mut world = silent();
    assert_eq!(world.phase(), "Healthy");
    // Not either when nothing is known of long ago, as after an upgrade.
    world.pass_time(700);
    world.observed.rollout.status.route.as_mut().unwrap().acknowledged = None;
    world.settle();
    assert_eq!(world.phase(), "Healthy");
    assert!(world.plan().question.is_none());
}
