//! What pods carry for their role: from birth, and after a change of the role or of Git without a restart.

use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::plan::action::Action;
use serin::plan::observed::EditsPostponed;

use crate::support::world::{World, at_rest, commit, hash};

fn world(replicas: i32, steps: &Value) -> World {
    let labels = |role: &str| json!({"labels": {"role": role}, "annotations": {format!("why-{role}"): "x"}});
    at_rest(replicas, steps, &json!({"canaryMetadata": labels("canary"), "stableMetadata": labels("stable")}))
}

const CANARY: &str = "app=checkout,role=canary,why-canary=x";
const STABLE: &str = "app=checkout,role=stable,why-stable=x";

fn pods(count: usize, carried: &str) -> Vec<String> {
    vec![carried.to_owned(); count]
}

fn edits(world: &World) -> Vec<&String> {
    world.log.iter().filter(|line| line.starts_with("set ") && line.contains(" pod")).collect()
}

fn uids(world: &World, image: &str) -> Vec<Option<String>> {
    let own = format!("checkout-{}.", hash(image));
    let pods = world.pods().into_iter().map(|pod| pod.metadata);
    pods.filter(|pod| pod.name.as_ref().unwrap().starts_with(&own)).map(|pod| pod.uid).collect()
}

#[test]
fn pods_are_born_with_their_role_and_change_it_on_promotion_without_a_restart() {
    let mut world = world(12, &json!([{"setWeight": 50}, {"pause": {}}]));
    assert_eq!(world.carried("checkout:1"), pods(12, STABLE));
    assert_eq!(edits(&world), Vec::<&String>::new(), "who is born with it needs no edit");
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!((world.carried("checkout:1"), world.carried("checkout:2")), (pods(12, STABLE), pods(6, CANARY)));
    assert_eq!(edits(&world), Vec::<&String>::new());
    world.act("promote");
    world.pass_time(2);
    let before = uids(&world, "checkout:2");
    assert_eq!((before.len(), world.carried("checkout:2").pop().as_deref()), (12, Some(CANARY)));
    world.pass_time(10);
    assert_eq!(world.phase(), "Healthy");
    assert_eq!((world.carried("checkout:2"), uids(&world, "checkout:2")), (pods(12, STABLE), before));
    assert_eq!(world.carried("checkout:1"), pods(12, STABLE), "who is superseded keeps what it has");
    assert_eq!(edits(&world).len(), 1 + 12, "the template once, each pod once");
    assert!(!world.plan().watches_pods, "at rest no pod is watched");
}

#[test]
fn a_change_in_git_reaches_pods_of_both_roles_and_starts_no_canary() {
    let mut world = world(3, &json!([{"setWeight": 50}, {"pause": {}}]));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    let step = world.observed.rollout.status.current_step_index;
    world.edit(|spec| {
        spec["strategy"]["canary"]["canaryMetadata"] = json!({"labels": {"role": "tested", "tier": "a"}});
        spec["strategy"]["canary"]["stableMetadata"]["annotations"] = Value::Null;
    });
    world.settle();
    assert_eq!(world.carried("checkout:1"), pods(3, "app=checkout,role=stable"));
    assert_eq!(world.carried("checkout:2"), pods(2, "app=checkout,role=tested,tier=a"));
    assert_eq!(world.observed.rollout.status.current_step_index, step);
    world.edit(|spec| {
        let canary = spec["strategy"]["canary"].as_object_mut().unwrap();
        canary.retain(|field, _| !field.ends_with("Metadata"));
    });
    world.settle();
    assert_eq!(world.carried("checkout:1"), pods(3, "app=checkout"));
    assert_eq!(world.carried("checkout:2"), pods(2, "app=checkout"));
    let left = world.observed.replica_sets.iter().flat_map(|set| set.metadata.annotations.iter().flatten());
    assert_eq!(left.filter(|(key, _)| key.contains("pod-metadata")).collect::<Vec<_>>(), []);
    assert!(!world.plan().watches_pods);
}

#[test]
fn who_is_aborted_keeps_it_and_who_is_tried_again_has_it_again() {
    let mut world = world(4, &json!([{"setWeight": 50}, {"pause": {}}]));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    world.act("abort");
    world.settle();
    world.edit(|spec| spec["strategy"]["canary"]["canaryMetadata"]["labels"]["role"] = json!("second"));
    world.settle();
    assert_eq!(world.carried("checkout:2"), pods(2, CANARY));
    world.act("retry");
    world.settle();
    assert_eq!(world.carried("checkout:2"), pods(2, "app=checkout,role=second,why-canary=x"));
}

#[test]
fn a_rollback_gives_an_older_revision_its_role() {
    let mut world = world(2, &json!([{"setWeight": 50}, {"pause": {}}]));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    world.act("promoteFull");
    world.pass_time(120);
    assert_eq!((world.pods_of("checkout:1"), world.phase().as_str()), (0, "Healthy"));
    commit(&mut world, "checkout:1");
    world.pass_time(20);
    assert_eq!(world.carried("checkout:1"), pods(1, CANARY));
    world.act("promoteFull");
    world.pass_time(120);
    assert_eq!(world.carried("checkout:1"), pods(2, STABLE));
}

#[test]
fn a_key_that_moves_back_into_the_template_is_not_lost() {
    let mut world = world(2, &json!([{"setWeight": 50}, {"pause": {}}]));
    let with_team = |spec: &mut Value| spec["template"]["metadata"]["labels"]["team"] = json!("payments");
    world.edit(with_team);
    world.settle();
    world.act("promoteFull");
    world.pass_time(60);
    world.edit(|spec| {
        spec["template"]["metadata"]["labels"].as_object_mut().unwrap().remove("team");
        spec["strategy"]["canary"]["stableMetadata"] = json!({"labels": {"team": "checkout"}});
    });
    world.settle();
    let set = world.observed.rollout.status.stable.clone().unwrap().hash;
    world.edit(|spec| {
        spec["strategy"]["canary"]["stableMetadata"] = json!({});
        with_team(spec);
    });
    world.settle();
    assert_eq!(world.carried_of(&set), pods(2, "app=checkout,team=payments"));
}

#[test]
fn the_end_waits_for_pods_that_may_be_of_the_template_before() {
    let mut world = world(3, &json!([]));
    world.edit(|spec| spec["strategy"]["canary"]["stableMetadata"]["labels"]["role"] = json!("other"));
    let ends = |world: &World| world.plan().actions.iter().any(|action| matches!(action, Action::EndPodEdits { .. }));
    (0..3).for_each(|_| world.step());
    assert!(ends(&world), "all pods are edited");
    let mut evicted = world.observed.pods.as_ref().unwrap()[0].clone();
    evicted.metadata.annotations = None;
    evicted.status.phase = Some("Failed".into());
    world.observed.pods.as_mut().unwrap().push(evicted);
    assert!(ends(&world), "a pod that a node evicted is no pod any more");
    let whole = world.observed.clone();
    for spoil in [
        |world: &mut World| drop(world.observed.pods.as_mut().unwrap().remove(0)),
        |world: &mut World| world.observed.replica_sets[0].status.replicas = 2,
        |world: &mut World| world.observed.replica_sets[0].spec.replicas = Some(2),
        |world: &mut World| world.observed.replica_sets[0].metadata.generation = Some(7),
        |world: &mut World| world.observed.pods = None,
    ] {
        world.observed = whole.clone();
        spoil(&mut world);
        assert!(!ends(&world) && world.plan().watches_pods);
    }
}

#[test]
fn an_edit_that_fails_delays_nothing_else() {
    let mut world = world(4, &json!([{"setWeight": 50}, {"pause": {}}]));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    let until = world.now.checked_add(SignedDuration::from_secs(600)).unwrap();
    world.observed.edits_postponed = Some(EditsPostponed { message: Some("pods is forbidden".into()), until });
    world.edit(|spec| spec["strategy"]["canary"]["canaryMetadata"] = json!({"labels": {"role": "second"}}));
    world.settle();
    let waits = world.observed.rollout.status.blocked_by.iter().map(|wait| wait.reason.as_str());
    assert_eq!(waits.collect::<Vec<_>>(), ["PausedByStep", "PodMetadataRefused"]);
    assert_eq!(world.weight(), 50);
    world.act("promote");
    world.pass_time(60);
    assert_eq!(world.observed.rollout.status.stable.as_ref().unwrap().hash, hash("checkout:2"), "it is promoted");
    assert_eq!(world.carried("checkout:2"), pods(4, CANARY));
    commit(&mut world, "checkout:3");
    world.pass_time(20);
    world.act("abort");
    world.settle();
    assert_eq!((world.weight(), world.phase().as_str()), (0, "Degraded"));
    world.pass_time(600);
    assert_eq!(world.carried("checkout:2"), pods(4, STABLE), "and mended as soon as it can be");
}

#[test]
fn nothing_is_edited_while_the_spec_is_faulty_or_the_rollout_leaves() {
    let mut world = world(2, &json!([]));
    world.edit(|spec| spec["strategy"]["canary"]["stableMetadata"] = json!({"labels": {"app": "other"}}));
    world.settle();
    assert_eq!(world.carried("checkout:1"), pods(2, STABLE));
    assert_eq!(
        world.observed.rollout.status.message,
        "spec.strategy.canary.stableMetadata.labels: app selects the pods (spec.selector.matchLabels); remove it"
    );
    world.edit(|spec| spec["strategy"]["canary"]["stableMetadata"] = json!({}));
    world.observed.rollout.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("1970-01-12T13:46:40Z")).unwrap());
    assert_eq!(world.plan().actions, []);
}
