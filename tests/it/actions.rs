//! What people ask is done once, whatever is lost in between.

use serde_json::json;

use crate::support::world::{World, at_rest, commit};

/// A canary whose first step two people approve.
fn awaiting_two() -> World {
    let steps = json!([{"approval": {"name": "signoff", "approvers": 2}}, {"pause": {}}]);
    let mut world = at_rest(4, &steps, &json!({}));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    world
}

/// Has somebody approve the canary; what follows is waited for.
fn approve(world: &mut World, by: Option<&str>) {
    let revision = world.observed.rollout.status.canary.as_ref().unwrap().hash.clone();
    world.ask("approve", &revision, by);
    world.settle();
}

fn answers(world: &World) -> Vec<String> {
    let answers = world.observed.actions.iter().filter_map(|action| action.status.as_ref()?.message.clone());
    answers.map(|answer| answer.split(" for revision").next().unwrap().to_owned()).collect()
}

#[test]
fn two_people_approve_and_nobody_twice() {
    let mut world = awaiting_two();
    for by in [Some("ada"), Some("Ada"), None, Some("grace")] {
        approve(&mut world, by);
    }
    let told = [
        "signoff has 1 of 2 approvals",
        "Ada (unverified) has approved signoff already; it has 1 of 2 approvals, and another person must give the next",
        "signoff is approved by 2 different people: say in spec.by who approves",
        "signoff is approved",
    ];
    assert_eq!(answers(&world), told);
    assert_eq!(world.observed.rollout.status.current_step_index, Some(1));
}

#[test]
fn one_of_two_passes_nothing() {
    let mut world = awaiting_two();
    let hash = world.observed.rollout.status.canary.as_ref().unwrap().hash.clone();
    let told = |world: &World| world.observed.rollout.status.blocked_by[0].message.clone();
    let waits = format!("step 1 of 2 waits for the approval signoff of revision {hash}");
    assert_eq!(told(&world), format!("{waits} by 2 different people"));
    approve(&mut world, Some("ada"));
    world.pass_time(600);
    assert_eq!(world.observed.rollout.status.current_step_index, Some(0));
    assert_eq!(told(&world), format!("{waits}; it has 1 of 2: ada (unverified)"));
    // The same person in Git is no other one; until there are enough, Git may take its own back.
    let declare = |world: &mut World, people: &[&str]| {
        let all = people.iter().map(|by| json!({"step": "signoff", "for": {"templateHash": hash}, "by": by}));
        let all: Vec<_> = all.collect();
        world.edit(|spec| spec["promotion"] = json!({"approvals": all}));
        world.settle();
    };
    declare(&mut world, &["ada"]);
    assert_eq!(world.observed.rollout.status.current_step_index, Some(0));
    declare(&mut world, &["ada", "grace"]);
    assert_eq!(world.observed.rollout.status.current_step_index, Some(1));
    let approvals = world.observed.rollout.status.attempt.as_ref().unwrap().approvals.clone();
    let by: Vec<&str> = approvals.iter().map(|approval| approval.by.as_str()).collect();
    assert_eq!(by, ["ada (unverified)", "grace"]);
}

#[test]
fn who_asks_is_unverified_unless_a_policy_is_there() {
    let by = |is_verified: bool| {
        let mut world = paused();
        world.observed.settings.verified_requesters = is_verified;
        world.act("promote");
        world.settle();
        let decisions = &world.observed.rollout.status.decisions;
        decisions.iter().find(|decision| decision.what == "Promote step").unwrap().by.clone()
    };
    assert_eq!((by(false), by(true)), ("alice (unverified)".to_owned(), "alice".to_owned()));
}

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
