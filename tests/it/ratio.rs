//! The ratio of pods where there is no route: which pods come and go next, as a table.

use serde_json::{Value, json};
use serin::plan::action::Action;
use serin::plan::plan;

use crate::support::world::{World, commit, hash, spec};

/// Pods wanted, there, and available.
type Pods = (i32, i32, i32);

/// What the table says: a name, replicas, weight, surge and unavailable, the pods, and who is scaled to what.
type Case<'a> = (&'a str, i32, i32, (i32, i32), [Pods; 3], Value);

/// A Rollout of 1 at rest, of which 3 is the canary at this weight and 2 was superseded, with these pods.
fn world(replicas: i32, weight: i32, (surge, unavailable): (i32, i32), pods: [Pods; 3]) -> World {
    let mut spec = spec("checkout:1", replicas.max(1), &json!({}));
    spec["strategy"] = json!({"canary": {
        "maxSurge": surge, "maxUnavailable": unavailable, "steps": [{"setWeight": weight}, {"pause": {}}],
    }});
    let mut world = World::new(&spec);
    world.settle();
    world.pass_time(20);
    for image in ["checkout:2", "checkout:3"] {
        commit(&mut world, image);
    }
    world.edit(|spec| spec["replicas"] = json!(replicas));
    for (image, (wanted, exist, available)) in ["checkout:1", "checkout:2", "checkout:3"].iter().zip(pods) {
        let name = format!("checkout-{}", hash(image));
        let set = world.replica_set(&name);
        set.spec.replicas = Some(wanted);
        (set.status.replicas, set.status.ready_replicas, set.status.available_replicas) = (exist, available, available);
    }
    world
}

#[test]
fn pods_come_and_go_within_surge_and_unavailable() {
    let all = |wanted| (wanted, wanted, wanted);
    let none = all(0);
    let cases: [Case<'_>; 13] = [
        ("the canary takes the surge", 10, 50, (2, 0), [all(10), none, none], json!({"3": 2})),
        ("what came lets others go", 10, 50, (2, 0), [all(10), none, all(2)], json!({"1": 8})),
        ("who is not available serves nobody", 10, 50, (2, 0), [(10, 10, 7), none, all(2)], json!({"1": 7})),
        ("no surge: what may be missing", 10, 50, (0, 3), [all(10), none, none], json!({"1": 7})),
        ("no surge, nothing may be missing: one", 10, 50, (0, 0), [all(10), none, none], json!({"1": 9})),
        ("both ways at once", 10, 50, (1, 2), [all(10), none, none], json!({"1": 8, "3": 1})),
        ("the superseded go first", 10, 20, (2, 0), [all(8), all(4), none], json!({"2": 2})),
        ("what the superseded take is taken", 10, 20, (3, 0), [all(9), all(4), none], json!({"2": 1})),
        ("the canary comes first", 10, 20, (1, 0), [all(6), all(3), all(1)], json!({"3": 2})),
        ("idle and serving together", 10, 50, (2, 5), [(10, 10, 9), none, all(5)], json!({"1": 5})),
        ("the last pod waits for the next", 1, 100, (1, 1), [all(1), none, (1, 1, 0)], json!({})),
        ("without room it cannot", 1, 100, (0, 0), [all(1), none, none], json!({"1": 0})),
        ("nobody is wanted", 0, 50, (1, 0), [all(1), none, none], json!({"1": 0})),
    ];
    for (what, replicas, weight, limits, pods, want) in cases {
        let world = world(replicas, weight, limits, pods);
        let mut told = json!({});
        for action in plan(&world.observed, &[], world.now).actions {
            if let Action::ScaleReplicaSet { name, replicas, .. } = action {
                let image =
                    ["1", "2", "3"].into_iter().find(|image| name.ends_with(&hash(&format!("checkout:{image}"))));
                told[image.unwrap()] = json!(replicas);
            }
        }
        assert_eq!(told, want, "{what}");
    }
}

#[test]
fn a_step_is_passed_when_nobody_else_has_pods_left() {
    let all = |wanted| (wanted, wanted, wanted);
    let none = all(0);
    for (what, pods, step) in [
        ("all is as wanted", [all(5), none, all(5)], 1),
        ("a pod of stable is on its way out", [(5, 6, 5), none, all(5)], 0),
        ("stable wants one too many", [(6, 5, 5), none, all(5)], 0),
        ("a pod of the superseded is on its way out", [all(5), (0, 1, 0), all(5)], 0),
        ("the canary lacks one", [all(5), none, (5, 5, 4)], 0),
    ] {
        let mut world = world(10, 50, (2, 0), pods);
        // The first look records the pods; what they are is in force later.
        for seconds in [0, 10] {
            let now = world.now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
            let decided = plan(&world.observed, &[], now);
            world.observed.rollout.status = decided.status;
        }
        assert_eq!(world.observed.rollout.status.current_step_index, Some(step), "{what}");
    }
}
