//! What leaves: a canary that is not wanted any more, and a Rollout that is deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::support::world::{self, World, commit, hash, hosts, in_place, owned, template};

const UNLABEL: &str = "label the subsets of DestinationRule checkout: stable=(none) canary=(none)";
const LET_GO: &str = "remove the finalizer";

/// What happens to a world.
type Happening = fn(&mut World);

/// A Rollout at rest, routed as given, whose canary gets 40%.
fn at_rest(istio: &Value, services: &Value) -> World {
    let mut canary = services.clone();
    canary["trafficRouting"] = json!({"istio": istio});
    world::at_rest(4, &json!([{"setWeight": 40}, {"pause": {}}]), &canary)
}

fn in_place_at_rest() -> World {
    at_rest(&in_place(), &json!({}))
}

fn between_services_at_rest() -> World {
    at_rest(&hosts(), &json!({"stableService": "checkout-stable", "canaryService": "checkout-canary"}))
}

/// The VirtualService is Git's, its subsets are Serin's.
fn own_rule_at_rest() -> World {
    let mut world = at_rest(&hosts(), &json!({}));
    let routes = serde_json::to_string(&world.observed.virtual_services).unwrap();
    let routes = routes.replace(r#""subset":""#, r#""subset":"checkout-"#);
    world.observed.virtual_services = serde_json::from_str(&routes).unwrap();
    world.observed.destination_rules.clear();
    world.settle();
    world.pass_time(10);
    world
}

/// The same with a canary at 40%.
fn with_canary(mut world: World) -> World {
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!(world.weight(), 40);
    world
}

/// The writes of the next pass.
fn planned(world: &World) -> Vec<String> {
    world.plan().actions.iter().map(ToString::to_string).collect()
}

/// The writes of the next pass once somebody has deleted the Rollout.
fn planned_at_deletion(world: &mut World) -> Vec<String> {
    world.observed.rollout.metadata.deletion_timestamp = Some(Time(world.now));
    planned(world)
}

/// A deletion in the middle of a canary, once the route is back and the canary's pods are drained.
fn back() -> World {
    let mut world = with_canary(in_place_at_rest());
    assert_eq!(planned_at_deletion(&mut world), ["set the weights of VirtualService checkout to 90/0"]);
    world.settle();
    let drained = format!("scale ReplicaSet checkout-{} to 0", hash("checkout:2"));
    while planned(&world) != [drained.as_str()] {
        world.settle();
        world.tick();
    }
    pods_of_canary(&mut world, 0, 0);
    world
}

/// So many pods of the canary are wanted and there.
fn pods_of_canary(world: &mut World, wanted: i32, exist: i32) {
    let set = world.replica_set(&format!("checkout-{}", hash("checkout:2")));
    set.spec.replicas = Some(wanted);
    set.status.replicas = exist;
    (set.status.ready_replicas, set.status.available_replicas) = (exist, exist);
}

#[test]
fn a_canary_is_withdrawn() {
    let cases: [(&str, Happening, bool); 6] = [
        ("aborted", |world| world.act("abort"), true),
        ("reverted", |world| world.edit(|spec| spec["template"] = template("checkout:1")), true),
        ("superseded", |world| world.edit(|spec| spec["template"] = template("checkout:3")), true),
        ("held", |world| world.act("pause"), false),
        ("promoted", |world| world.act("promoteFull"), false),
        ("left alone", |_| {}, false),
    ];
    for (what, happen, is_withdrawn) in cases {
        let mut world = with_canary(in_place_at_rest());
        happen(&mut world);
        assert_eq!(world.plan().withdraws_canary, is_withdrawn, "{what}");
    }
}

#[test]
fn a_deletion_takes_the_labels_off_and_lets_go() {
    let mut world = back();
    assert_eq!(planned(&world), [UNLABEL]);
    world.settle();
    assert_eq!(world.observed.rollout.metadata.finalizers, None);
}

#[test]
fn a_deletion_waits_for_what_leaves() {
    let mut world = back();
    pods_of_canary(&mut world, 0, 1);
    assert_eq!(planned(&world), [""; 0], "a pod ends");

    let mut world = back();
    world.observed.rollout.status.route.as_mut().unwrap().since = Some(world.now);
    assert_eq!(planned(&world), [""; 0], "the route is on its way");

    let mut world = with_canary(in_place_at_rest());
    planned_at_deletion(&mut world);
    world.settle();
    world.pass_time(3);
    pods_of_canary(&mut world, 0, 0);
    assert_eq!(planned(&world), [""; 0], "requests of the canary are under way, though its pods are gone");
}

#[test]
fn a_deletion_does_not_wait_for_a_route_that_it_cannot_mend() {
    let mut world = with_canary(in_place_at_rest());
    world.observed.destination_rules.clear();
    assert_eq!(planned_at_deletion(&mut world), [LET_GO], "a DestinationRule that is gone");

    let mut world = with_canary(in_place_at_rest());
    world.observed.virtual_services[0].spec.http.clear();
    assert_eq!(planned_at_deletion(&mut world), [LET_GO], "a VirtualService without its route");

    let mut world = with_canary(at_rest(&owned(), &json!({})));
    world.observed.virtual_services.clear();
    assert_eq!(
        planned_at_deletion(&mut world),
        ["write VirtualService checkout-serin with 100/0", LET_GO],
        "a VirtualService that is gone"
    );
}

#[test]
fn a_deletion_mends_a_route_that_lost_a_label() {
    for (lost, mended) in ["stable", "canary"].into_iter().enumerate() {
        let mut world = back();
        let subsets = &mut world.observed.destination_rules[0];
        let mut body = serde_json::to_value(&*subsets).unwrap();
        body["spec"]["subsets"][lost].as_object_mut().unwrap().remove("labels");
        *subsets = serde_json::from_value(body).unwrap();
        let expected = format!("label the subsets of DestinationRule checkout: {mended}={}", hash("checkout:1"));
        assert_eq!(planned(&world), [expected], "{mended}");
    }
}

/// Once both sides hold the same pods the weights decide nothing, and go back to what Git holds.
#[test]
fn a_deletion_while_stable_is_down_leaves_one_side() {
    let services =
        ["select all revisions in Service checkout-stable", "select all revisions in Service checkout-canary"];
    let own = |hash: String| format!("write DestinationRule checkout-serin with stable {hash}, canary {hash}");
    let (of_canary, of_stable) = (own(hash("checkout:2")), own(hash("checkout:1")));
    let cases: [(&str, World, i32, &[&str]); 4] = [
        ("in place", in_place_at_rest(), 0, &[UNLABEL]),
        ("between Services", between_services_at_rest(), 0, &services),
        ("its own DestinationRule", own_rule_at_rest(), 0, &[&of_canary]),
        ("its own DestinationRule, and no pods", own_rule_at_rest(), 4, &[&of_stable, LET_GO]),
    ];
    for (what, world, unready, expected) in cases {
        let mut world = with_canary(world);
        world.unready.insert("checkout:1".into(), 4);
        world.pass_time(10);
        world.unready.insert("checkout:2".into(), unready);
        world.pass_time(10);
        assert_eq!(planned_at_deletion(&mut world), expected, "{what}");
        world.settle();
        world.pass_time(5);
        assert_eq!(world.observed.rollout.metadata.finalizers, None, "{what}");
    }
}
