//! Who wrote the weights, and the labels that they lead to, last.

use jiff::SignedDuration;
use serde_json::json;
use serin::api::names::REVISION_HASH;
use serin::plan::analysis::later;

use crate::support::world::{World, commit, hosts, in_place, of_gateway, spec};

#[test]
fn a_route_of_the_same_name_elsewhere_contests_nothing() {
    let world = |elsewhere: Option<&str>| {
        let mut spec = spec("checkout:1", 4, &in_place());
        spec["strategy"]["canary"]["analysis"] = json!(null);
        spec["strategy"]["canary"]["steps"] = json!([{"setWeight": 40}, {"pause": {}}]);
        let mut world = World::new(&spec);
        if let Some(namespace) = elsewhere {
            let mut namesake = world.observed.virtual_services[0].clone();
            namesake.metadata.namespace = Some(namespace.into());
            let managed = json!([{"manager": "argocd-controller", "fieldsV1": {"f:spec": {"f:http": {}}}}]);
            namesake.metadata.managed_fields = serde_json::from_value(managed).unwrap();
            namesake.spec.hosts = vec!["legacy".into()];
            world.observed.virtual_services.insert(0, namesake);
        }
        world.settle();
        world.pass_time(10);
        commit(&mut world, "checkout:2");
        world.pass_time(60);
        world
    };
    assert_eq!(world(Some("billing")).log, world(None).log);
    // A write of Serin's own that arrived late is nobody else's.
    for elsewhere in [None, Some("billing")] {
        let mut world = world(elsewhere);
        let route = world.observed.rollout.status.route.as_mut().unwrap();
        (route.asked, route.unseen) = (route.asked + 10, true);
        assert_eq!(world.plan().status.route.unwrap().contested, 0, "{elsewhere:?}");
    }
}

/// A Rollout at rest whose canary gets 40%, with a route of which Git holds both sides.
fn at_rest(routing: &str) -> World {
    let mut given = match routing {
        "subsets" => spec("checkout:1", 4, &in_place()),
        "services" => spec("checkout:1", 4, &hosts()),
        _ => of_gateway("checkout:1", 4),
    };
    let canary = &mut given["strategy"]["canary"];
    canary["analysis"] = json!(null);
    canary["steps"] = json!([{"setWeight": 40}, {"pause": {}}]);
    if routing == "services" {
        (canary["stableService"], canary["canaryService"]) = (json!("checkout-stable"), json!("checkout-canary"));
    }
    let mut world = World::new(&given);
    world.settle();
    world.pass_time(20);
    world
}

/// The revisions that both sides lead to.
fn sides(world: &World) -> Vec<Option<String>> {
    let services = world.observed.services.iter().filter(|one| one.metadata.name.as_deref() != Some("checkout"));
    let services = services.map(|one| one.spec.selector.get(REVISION_HASH).cloned());
    let subsets = world.observed.destination_rules.iter().flat_map(|rule| &rule.spec.subsets);
    services.chain(subsets.map(|subset| subset.labels.get(REVISION_HASH).cloned())).collect()
}

fn told(world: &World) -> Option<String> {
    let conditions = &world.observed.rollout.status.conditions;
    conditions.iter().find(|one| one.kind == "RouteContested").map(|one| format!("{}: {}", one.reason, one.message))
}

#[test]
fn who_takes_labels_back_at_rest_is_named_and_less_and_less_is_written() {
    for (routing, of, remedy) in [
        (
            "subsets",
            "subsets' labels of DestinationRule checkout",
            "`.spec.subsets[].labels` there (Flux 2.9: spec.ignore of the Kustomization; before: annotation kustomize.toolkit.fluxcd.io/ssa: IfNotPresent), or use `owned`",
        ),
        (
            "services",
            "selectors of Service checkout-stable",
            "`.spec.selector[\"serin.dev/revision-hash\"]` there (Flux 2.9: spec.ignore of the Kustomization; before: annotation kustomize.toolkit.fluxcd.io/ssa: IfNotPresent), or use `owned`",
        ),
    ] {
        let mut world = at_rest(routing);
        assert_eq!(told(&world), None, "{routing}");
        let labelled = sides(&world);
        let writes = |world: &World| {
            world.log.iter().filter(|line| line.contains("Service") || line.contains("DestinationRule")).count()
        };
        let before = writes(&world);
        for _ in 0..60 {
            world.take_labels_back("kustomize-controller");
            world.pass_time(1);
        }
        let told_now = told(&world).unwrap();
        let count = world.observed.rollout.status.route.as_ref().unwrap().relabelled;
        assert_eq!(
            told_now,
            format!(
                "LabelsReverted: kustomize-controller took Serin's label serin.dev/revision-hash out of the {of} {count} times, and without it both sides lead to every pod; let Git ignore {remedy}; field manager of Serin: serin"
            ),
        );
        assert!(
            (5..=8).contains(&count),
            "{routing}: {count} times in a minute, at once at first, then less and less often"
        );
        assert!(writes(&world) - before <= 20, "{routing}: {} writes", writes(&world) - before);
        assert_eq!(world.phase(), "Healthy", "all pods are stable's");
        world.pass_time(60);
        assert_eq!(sides(&world), labelled, "{routing}: what nobody takes back any more is there");
        assert!(told(&world).is_some());
    }
}

/// How often an event of this reason was told.
fn events(world: &World, reason: &str) -> usize {
    world.observed.rollout.status.events.iter().filter(|event| event.reason == reason).count()
}

#[test]
fn a_tool_that_writes_each_quarter_of_an_hour_is_one_contest() {
    let mut world = at_rest("services");
    for _ in 0..6 {
        world.take_labels_back("kustomize-controller");
        world.settle();
        world.pass_time(2);
        assert!(sides(&world).iter().all(Option::is_some), "what comes seldom is put right at once");
        world.pass_time(15 * 60);
        assert!(told(&world).is_some());
    }
    assert_eq!(events(&world, "RouteContested"), 1);
    world.now = later(world.now, SignedDuration::from_hours(26));
    world.settle();
    assert_eq!(told(&world), None, "it is over");
    world.take_labels_back("kustomize-controller");
    world.settle();
    assert_eq!(events(&world, "RouteContested"), 2);
}

#[test]
fn labels_are_put_right_at_once_while_a_canary_has_pods() {
    for routing in ["subsets", "services", "http-route"] {
        let mut world = at_rest(routing);
        for _ in 0..20 {
            world.take_labels_back("argocd-controller");
            world.pass_time(1);
        }
        commit(&mut world, "checkout:2");
        let log = world.log[world.log.len() - 12..].join("\n");
        assert!(sides(&world).iter().all(Option::is_some), "{routing}: before the canary has a pod: {log}");
        for _ in 0..30 {
            world.pass_time(1);
            let labelled = sides(&world);
            world.take_labels_back("argocd-controller");
            world.settle();
            assert_eq!(sides(&world), labelled, "{routing}");
        }
        let message = told(&world).unwrap();
        assert!(message.contains("argocd-controller took Serin's label"), "{routing}: {message}");
        assert_eq!(
            world.weight(),
            0,
            "{routing}: the canary is not raised while both sides lead to every pod again and again"
        );
        world.pass_time(120);
        assert_eq!(world.weight(), 40, "{routing}");
    }
}

#[test]
fn a_newer_revision_and_a_promotion_take_no_label_back() {
    let mut world = at_rest("services");
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    commit(&mut world, "checkout:3");
    world.pass_time(60);
    assert_eq!(world.observed.rollout.status.route.as_ref().unwrap().relabelled, 0);
    assert_eq!(told(&world), None);
}
