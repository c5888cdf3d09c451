//! What people ask is done once, whatever is lost in between.

use serde_json::json;

use crate::support::world::{World, owned, spec, template};

/// A canary at its first pause.
fn paused() -> World {
    let mut spec = spec("checkout:1", 4, &owned());
    let canary = spec["strategy"]["canary"].as_object_mut().unwrap();
    canary.remove("analysis");
    canary.insert("steps".into(), json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]));
    let mut world = World::new(&spec);
    world.settle();
    world.pass_time(20);
    world.edit(|spec| spec["template"] = template("checkout:2"));
    world.settle();
    world.pass_time(20);
    world
}

#[test]
fn an_action_that_is_on_record_is_not_done_again() {
    let decided = |world: &World| {
        let decisions = &world.observed.rollout.status.decisions;
        decisions.iter().filter(|decision| decision.by.starts_with("alice")).count()
    };
    for others in 0..3 {
        let mut world = paused();
        world.act("promote");
        (0..others).for_each(|_| world.act("pause"));
        // The status is written, the answer is lost.
        world.crash_after(1);
        assert_eq!(decided(&world), 1 + others, "{others} others");
        world.settle();
        assert_eq!(decided(&world), 1 + others, "{others} others");
        assert!(world.observed.rollout.status.handled_actions.is_empty(), "{others} others");
    }
}
