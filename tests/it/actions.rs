//! What people ask is done once, whatever is lost in between.

use serde_json::json;

use crate::support::world::{World, at_rest, commit};

/// A canary at its first pause.
fn paused() -> World {
    let steps = json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]);
    let mut world = at_rest(4, &steps, &json!({}));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    world
}

#[test]
fn an_action_that_is_on_record_is_not_done_again() {
    let decided = |world: &World| {
        let decisions = &world.observed.rollout.status.decisions;
        decisions.iter().filter(|decision| decision.by.starts_with("alice")).count()
    };
    for (action, others) in [("promote", 0), ("promote", 1), ("promote", 2), ("restart", 0), ("restart", 2)] {
        let mut world = paused();
        world.act(action);
        (0..others).for_each(|_| world.act("pause"));
        // The status is written, the answer is lost.
        world.crash_after(1);
        assert_eq!(decided(&world), 1 + others, "{action} and {others} others");
        world.settle();
        assert_eq!(decided(&world), 1 + others, "{action} and {others} others");
        assert!(world.observed.rollout.status.handled_actions.is_empty(), "{action} and {others} others");
    }
}
