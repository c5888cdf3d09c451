//! Replica arithmetic in whole situations, as users of other controllers know it: tables of steps and pods.

use serde_json::{Value, json};
use serin::api::status::{Draining, OutcomeKind};
use serin::plan::action::Action;
use serin::plan::observed::EvictionRefused;

use crate::support::world::{World, at_rest, commit, hash};

/// Steps with the pods and the weight that the canary has once everything that can happen without people has happened.
#[test]
fn canary_pods_by_steps() {
    let pause = json!({"pause": {}});
    let cases: [(i32, Value, Value, i32, i32); 14] = [
        (10, json!([{"setWeight": 15}]), json!({}), 2, 15),
        (10, json!([{"setWeight": 1}]), json!({}), 1, 1),
        (10, json!([{"setWeight": 1}]), json!({"minPodsPerReplicaSet": 3}), 3, 1),
        (2, json!([{"setWeight": 1}]), json!({"minPodsPerReplicaSet": 3}), 2, 1),
        (10, json!([{"setWeight": 0}]), json!({"minPodsPerReplicaSet": 3}), 0, 0),
        (10, json!([{"setCanaryScale": {"replicas": 3}}]), json!({}), 3, 0),
        (10, json!([{"setCanaryScale": {"weight": 25}}]), json!({}), 3, 0),
        (10, json!([{"setCanaryScale": {"replicas": 1}}, {"setWeight": 90}]), json!({}), 1, 90),
        (10, json!([{"setCanaryScale": {"replicas": 12}}, {"setWeight": 10}]), json!({}), 12, 10),
        (10, json!([{"setWeight": 50}, {"setCanaryScale": {"replicas": 2}}]), json!({}), 2, 50),
        (
            10,
            json!([{"setCanaryScale": {"replicas": 7}}, {"setCanaryScale": {"matchTrafficWeight": true}}, {"setWeight": 20}]),
            json!({}),
            2,
            20,
        ),
        (10, json!([{"setCanaryScale": {"weight": 50}}, {"setWeight": 5}, {"setWeight": 20}]), json!({}), 5, 20),
        (10, json!([{"setCanaryScale": {"weight": 1}}, {"setWeight": 20}]), json!({"minPodsPerReplicaSet": 2}), 2, 20),
        (10, json!([{"setCanaryScale": {"replicas": 0}}]), json!({}), 0, 0),
    ];
    for (replicas, mut steps, canary, pods, weight) in cases {
        steps.as_array_mut().unwrap().push(pause.clone());
        let mut world = at_rest(replicas, &steps, &canary);
        commit(&mut world, "checkout:2");
        world.pass_time(60);
        let told = (world.pods_of("checkout:2"), world.weight(), world.pods_of("checkout:1"));
        assert_eq!(told, (pods, weight, replicas), "{steps} {canary}: {}", world.observed.rollout.status.message);
    }
}

/// With `dynamicStableScale`: stable's pods by the canary's weight, in tens.
#[test]
fn stable_pods_by_weight() {
    for (weight, least, stable, canary) in
        [(10, 1, 9, 1), (25, 1, 8, 3), (50, 1, 5, 5), (90, 1, 1, 9), (95, 3, 3, 10), (100, 1, 1, 10), (100, 3, 3, 10)]
    {
        let options = json!({"dynamicStableScale": true, "minPodsPerReplicaSet": least});
        let mut world = at_rest(10, &json!([{"setWeight": weight}, {"pause": {}}]), &options);
        commit(&mut world, "checkout:2");
        world.pass_time(60);
        let told = (world.pods_of("checkout:1"), world.pods_of("checkout:2"), world.weight());
        assert_eq!(told, (stable, canary, weight), "{weight}% with {least} at least");
    }
}

/// The pods of a revision in the next minute, as often as they change: how many seconds after the first change, and how many.
fn changes(world: &mut World, image: &str) -> Vec<(i32, i32)> {
    let mut last = world.pods_of(image);
    let mut changes: Vec<(i32, i32)> = Vec::new();
    for second in 0..60 {
        world.pass_time(1);
        let pods = world.pods_of(image);
        if pods != last {
            changes.push((second, pods));
        }
        last = pods;
    }
    let began = changes[0].0;
    changes.iter().map(|(second, pods)| (second - began, *pods)).collect()
}

/// With `dynamicStableScale`: stable loses a quarter of its pods at a time, and more when proxies know that these have gone.
#[test]
fn stable_shrinks_little_by_little() {
    let mut world = at_rest(12, &json!([{"setWeight": 90}, {"pause": {}}]), &json!({"dynamicStableScale": true}));
    commit(&mut world, "checkout:2");
    assert_eq!(changes(&mut world, "checkout:1"), [(0, 9), (2, 7), (4, 6), (6, 5), (8, 4), (10, 3), (12, 2)]);
    assert!(world.observed.rollout.status.stable.as_ref().unwrap().shrunk_at.is_some());
    // What an abort needs comes at once.
    world.act("abort");
    world.settle();
    let stable = world.observed.rollout.status.stable.clone().unwrap();
    assert_eq!((world.pods_of("checkout:1"), stable.shrunk_at), (12, None));
}

/// A canary at weight, too.
#[test]
fn a_canary_shrinks_little_by_little() {
    let steps = json!([
        {"setCanaryScale": {"replicas": 12}}, {"setWeight": 20}, {"pause": {"duration": "5s"}},
        {"setCanaryScale": {"matchTrafficWeight": true}}, {"pause": {}},
    ]);
    let mut world = at_rest(12, &steps, &json!({}));
    commit(&mut world, "checkout:2");
    while world.weight() == 0 {
        world.pass_time(1);
    }
    assert_eq!(world.pods_of("checkout:2"), 12);
    assert_eq!(changes(&mut world, "checkout:2"), [(0, 9), (2, 7), (4, 6), (6, 5), (8, 4), (10, 3)]);
    assert_eq!(world.phase(), "Paused");
}

/// Pods that somebody asks for no more go at once, as without a canary; a step that lasts less than the shrinking goes on.
#[test]
fn nothing_waits_for_a_shrinking_stable() {
    let steps = json!([{"setWeight": 50}, {"setWeight": 90}, {"pause": {"duration": "1s"}}]);
    let mut world = at_rest(12, &steps, &json!({"dynamicStableScale": true}));
    commit(&mut world, "checkout:2");
    while world.weight() < 90 {
        world.pass_time(1);
    }
    assert!(world.pods_of("checkout:1") > 6, "stable still shrinks for 50%");
    world.pass_time(10);
    assert_eq!(world.phase(), "Healthy", "{}", world.observed.rollout.status.message);

    let mut world = at_rest(12, &json!([{"setWeight": 50}, {"pause": {}}]), &json!({"dynamicStableScale": true}));
    commit(&mut world, "checkout:2");
    world.pass_time(60);
    assert_eq!(world.pods_of("checkout:1"), 6);
    world.edit(|spec| spec["replicas"] = json!(4));
    world.settle();
    assert_eq!(world.pods_of("checkout:1"), 4);
}

/// With `dynamicStableScale`: what supersedes a canary begins at 0%, and stable grows for that at once.
#[test]
fn stable_grows_for_what_supersedes() {
    let mut world = at_rest(10, &json!([{"setWeight": 80}, {"pause": {}}]), &json!({"dynamicStableScale": true}));
    commit(&mut world, "checkout:2");
    world.pass_time(60);
    assert_eq!((world.pods_of("checkout:1"), world.weight()), (2, 80));
    commit(&mut world, "checkout:3");
    assert_eq!(world.pods_of("checkout:1"), 10);
}

/// An abort with a small stable: the canary keeps what stable's ready pods cannot carry, second by second.
#[test]
fn an_abort_goes_as_stable_comes() {
    let mut world = at_rest(10, &json!([{"setWeight": 80}, {"pause": {}}]), &json!({"dynamicStableScale": true}));
    commit(&mut world, "checkout:2");
    world.pass_time(60);
    assert_eq!((world.pods_of("checkout:1"), world.weight()), (2, 80));
    world.unready.insert("checkout:1".into(), 4);
    world.act("abort");
    world.settle();
    assert_eq!((world.pods_of("checkout:1"), world.weight()), (10, 80), "stable grows, and has two ready pods");
    world.pass_time(4);
    assert_eq!(world.weight(), 40, "six of ten are ready");
    let status = &world.observed.rollout.status;
    assert!(status.blocked_by.iter().any(|wait| wait.reason == "StableNotReady"), "{}", status.message);
    world.unready.insert("checkout:1".into(), 2);
    world.pass_time(1);
    assert_eq!(world.weight(), 0, "eight of ten are enough: nobody waits for all");
}

/// Stable's pods that never come are not waited for longer than a canary's.
#[test]
fn an_abort_ends_though_stable_does_not_come() {
    let mut world = at_rest(10, &json!([{"setWeight": 80}, {"pause": {}}]), &json!({"dynamicStableScale": true}));
    commit(&mut world, "checkout:2");
    world.pass_time(60);
    world.unready.insert("checkout:1".into(), 8);
    world.act("abort");
    world.settle();
    world.pass_time(58);
    assert_eq!(world.weight(), 80);
    world.pass_time(3);
    assert_eq!(world.weight(), 0, "after progressDeadlineSeconds");
}

/// Which revisions may skip the steps: the window, what lies between, and whether it was ever promoted.
#[test]
fn rollbacks_by_window() {
    for (window, deployed, target, skips) in [
        (Some(1), &[1, 2][..], 1, true),
        (Some(0), &[1, 2][..], 1, false),
        (None, &[1, 2][..], 1, false),
        (Some(1), &[1, 2, 3][..], 1, false),
        (Some(2), &[1, 2, 3][..], 1, true),
        (Some(1), &[1, 2, 3][..], 2, true),
        (Some(3), &[1, 2][..], 3, false),
        (Some(1), &[1, 2, 1][..], 2, false),
    ] {
        let mut world = at_rest(4, &json!([{"setWeight": 50}, {"pause": {"duration": "30s"}}]), &json!({}));
        if let Some(revisions) = window {
            world.edit(|spec| spec["rollbackWindow"] = json!({"revisions": revisions}));
        }
        for number in &deployed[1..] {
            commit(&mut world, &format!("checkout:{number}"));
            world.pass_time(120);
        }
        let image = format!("checkout:{target}");
        commit(&mut world, &image);
        world.pass_time(20);
        let is_there = world.phase() == "Healthy"
            && world.observed.rollout.status.stable.as_ref().is_some_and(|stable| stable.hash == hash(&image));
        assert_eq!(is_there, skips, "window {window:?}, {deployed:?} then {target}");
        world.pass_time(120);
        assert_eq!(world.phase(), "Healthy", "{deployed:?} then {target}");
    }
}

/// A revision that was aborted is older than stable, and still runs its steps: it was never promoted.
#[test]
fn an_aborted_revision_is_no_rollback() {
    let mut world = at_rest(4, &json!([{"setWeight": 50}, {"pause": {"duration": "30s"}}]), &json!({}));
    world.edit(|spec| spec["rollbackWindow"] = json!({"revisions": 5}));
    commit(&mut world, "checkout:2");
    world.pass_time(10);
    world.act("abort");
    world.settle();
    commit(&mut world, "checkout:3");
    world.pass_time(120);
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!(world.phase(), "Paused", "{}", world.observed.rollout.status.message);
    let outcomes: Vec<OutcomeKind> = world.observed.rollout.status.history.iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [OutcomeKind::Promoted, OutcomeKind::Aborted, OutcomeKind::Promoted]);
}

/// A restart replaces every pod, one at a time, and ends.
#[test]
fn a_restart_replaces_every_pod_one_at_a_time() {
    let mut world = at_rest(4, &json!([{"setWeight": 50}]), &json!({"maxUnavailable": 1}));
    let before = world.pods();
    world.act("restart");
    for _ in 0..60 {
        world.pass_time(1);
        assert!(world.observed.rollout.status.ready_replicas >= 3, "one at a time");
    }
    let status = &world.observed.rollout.status;
    assert!(status.restart.is_none() && status.restarted_at.is_some(), "{}", status.message);
    let after = world.pods();
    assert!(before.iter().all(|pod| after.iter().all(|other| other.metadata.uid != pod.metadata.uid)));
    assert_eq!(world.phase(), "Healthy");
    assert!(world.observed.pods.is_none(), "pods are watched no longer");
}

/// `restartAt` waits for its time, is done once, and an action asks for another.
#[test]
fn a_restart_begins_at_its_time_and_is_done_once() {
    let mut world = at_rest(2, &json!([{"setWeight": 50}]), &json!({"maxUnavailable": 1}));
    let at = world.now.checked_add(jiff::SignedDuration::from_secs(30)).unwrap();
    let before = world.pods();
    world.edit(|spec| spec["restartAt"] = json!(at));
    world.pass_time(28);
    assert_eq!(world.pods(), before, "it is not yet time");
    assert!(world.observed.pods.is_none(), "and nobody watches pods");
    world.pass_time(30);
    let after = world.pods();
    assert_ne!(after, before);
    assert_eq!(world.observed.rollout.status.restarted_at, Some(at));
    world.pass_time(30);
    assert_eq!(world.pods(), after, "it was done");
    assert!(world.observed.pods.is_none(), "pods are watched no longer");
    world.act("restart");
    world.pass_time(30);
    assert!(world.observed.rollout.status.restarted_at.is_some_and(|done| done > at));
    assert!(world.pods().iter().all(|pod| !after.contains(pod)), "once more");
}

/// A refused eviction is tried again when its time has come, not before.
#[test]
fn a_refused_eviction_is_waited_out() {
    let mut world = at_rest(2, &json!([{"setWeight": 50}]), &json!({"maxUnavailable": 1}));
    let until = world.now.checked_add(jiff::SignedDuration::from_secs(20)).unwrap();
    let before = world.pods();
    world.observed.eviction_refused =
        Some(EvictionRefused { message: "the budget allows no disruption".into(), until });
    world.act("restart");
    world.pass_time(18);
    assert_eq!(world.pods(), before);
    let waits = &world.observed.rollout.status.blocked_by;
    assert!(waits.iter().any(|wait| wait.reason == "EvictionRefused" && wait.until == Some(until)), "{waits:?}");
    world.pass_time(30);
    assert!(world.pods().iter().all(|pod| !before.contains(pod)));
}

/// A deletion restarts nothing.
#[test]
fn a_deletion_ends_a_restart() {
    let mut world = at_rest(2, &json!([{"setWeight": 50}]), &json!({"maxUnavailable": 1}));
    world.act("restart");
    world.observed.rollout.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    let before = world.pods();
    world.pass_time(20);
    assert_eq!(world.pods(), before);
}

/// Pods of a ReplicaSet that is scaled to nothing go anyway.
#[test]
fn a_restart_leaves_what_goes_anyway() {
    let mut world = with_another(0, 1, None);
    world.act("restart");
    let pod = json!({"metadata": {
        "name": "other.0", "labels": {"serin.dev/revision-hash": "other"}, "creationTimestamp": "1970-01-01T00:00:00Z",
    }});
    world.observed.pods = Some(vec![serde_json::from_value(pod).unwrap()]);
    let plan = world.plan();
    assert!(plan.status.restarted_at.is_some(), "{:?} {}", plan.actions, plan.status.message);
}

/// A world at rest with a ReplicaSet of another revision, pods wanted and there, and since when it drains on record.
fn with_another(wanted: i32, exist: i32, since: Option<i64>) -> World {
    let mut world = at_rest(4, &json!([{"setWeight": 50}]), &json!({}));
    let mut other = serde_json::to_value(&world.observed.replica_sets[0]).unwrap();
    other["metadata"]["name"] = json!("checkout-other");
    other["metadata"]["labels"]["serin.dev/revision-hash"] = json!("other");
    other["spec"]["replicas"] = json!(wanted);
    other["status"] = json!({"replicas": exist, "readyReplicas": exist, "availableReplicas": exist});
    world.observed.replica_sets.push(serde_json::from_value(other).unwrap());
    let since = since.map(|ago| world.now.checked_sub(jiff::SignedDuration::from_secs(ago)).unwrap());
    let draining = Draining { hash: "other".into(), reason: OutcomeKind::Superseded, since, acknowledged: None };
    world.observed.rollout.status.draining.extend(since.map(|_| draining));
    world
}

/// Somebody labels the subsets.
fn label_subsets(world: &mut World, stable: Option<&str>, canary: Option<&str>) {
    let mut rule = serde_json::to_value(&world.observed.destination_rules[0]).unwrap();
    for (subset, hash) in rule["spec"]["subsets"].as_array_mut().unwrap().iter_mut().zip([stable, canary]) {
        subset["labels"] = hash.map_or(json!({}), |hash| json!({"serin.dev/revision-hash": hash}));
    }
    world.observed.destination_rules[0] = serde_json::from_value(rule).unwrap();
}

#[test]
fn what_drains_is_remembered() {
    let remembered = |world: &World| world.plan().status.draining.iter().map(|one| one.since).collect::<Vec<_>>();
    // Somebody scaled another revision up; one whose last pods are going is nobody's matter.
    let unknown = with_another(1, 0, None);
    assert_eq!(remembered(&unknown), [Some(unknown.now)]);
    assert_eq!(remembered(&with_another(0, 1, None)), []);
    // It is remembered until its pods are gone.
    for (wanted, exist, is_kept) in [(1, 0, true), (0, 1, true), (1, 1, true), (0, 0, false)] {
        assert_eq!(remembered(&with_another(wanted, exist, Some(3))).len(), usize::from(is_kept), "{wanted} {exist}");
    }
    // Whatever may send it a request keeps it from draining.
    let since = |route: &dyn Fn(&mut World)| {
        let mut world = with_another(1, 1, Some(3));
        route(&mut world);
        remembered(&world)[0].is_some()
    };
    let stable = hash("checkout:1");
    assert!(since(&|_| {}));
    assert!(!since(&|world| world.observed.virtual_services.clear()), "without a route the Service selects every pod");
    assert!(!since(&|world| label_subsets(world, None, Some(&stable))), "a subset without its label selects every pod");
    assert!(!since(&|world| label_subsets(world, Some("other"), Some(&stable))));
    assert!(since(&|world| label_subsets(world, Some(&stable), None)), "no weight, no pods");
    assert!(since(&|world| label_subsets(world, Some(&stable), Some("other"))));
    let canary_gets = |hash: Option<&'static str>, replicas: i32| {
        let stable = stable.clone();
        move |world: &mut World| {
            label_subsets(world, Some(&stable), hash);
            world.write_weight(10);
            world.edit(|spec| spec["replicas"] = json!(replicas));
        }
    };
    assert!(!since(&canary_gets(None, 4)));
    assert!(!since(&canary_gets(Some("other"), 4)));
    assert!(since(&canary_gets(Some("other"), 0)), "who wants no pods wants no traffic");
}

#[test]
fn what_is_drained_loses_its_pods_once() {
    let told = |world: &World| world.plan().actions.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(&with_another(2, 2, Some(100))), ["scale ReplicaSet checkout-other to 0"]);
    assert_eq!(told(&with_another(2, 2, Some(3))), Vec::<String>::new());
    assert_eq!(told(&with_another(0, 2, Some(100))), Vec::<String>::new());
    // What a subset selects keeps its pods.
    let mut world = with_another(2, 2, Some(100));
    label_subsets(&mut world, Some(&hash("checkout:1")), Some("other"));
    assert!(!told(&world).iter().any(|action| action.starts_with("scale")));
}

#[test]
fn sets_beyond_the_history_go_when_their_pods_are_gone() {
    let goes = |wanted: i32, exist: i32| {
        let mut world = with_another(wanted, exist, None);
        world.edit(|spec| spec["revisionHistoryLimit"] = json!(0));
        let actions = world.plan().actions;
        actions.iter().any(|action| matches!(action, Action::DeleteReplicaSet { name, .. } if name == "checkout-other"))
    };
    assert!(goes(0, 0));
    assert!(!goes(0, 1));
    assert!(!goes(1, 0));
}

#[test]
fn only_the_template_s_revision_is_created() {
    let mut world = at_rest(4, &json!([{"setWeight": 50}, {"pause": {}}]), &json!({}));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    // Somebody deletes stable's ReplicaSet: what its template was is not known any more.
    let stable = format!("checkout-{}", hash("checkout:1"));
    world.observed.replica_sets.retain(|set| set.metadata.name.as_ref() != Some(&stable));
    let created = world.plan().actions.into_iter().find(|action| matches!(action, Action::CreateReplicaSet { .. }));
    assert_eq!(created, None);
}
