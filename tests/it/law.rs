//! The laws and the safety invariants as properties: random stories in a world that does what plans say.
//! Law 2 (total) and 5 (fixpoint) hold in every pass; S1 to S8 are checked on every plan; liveness at the end.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;

use crate::support::world::{Answers, World, hash, hosts, in_place, of_gateway, owned, spec};

/// Anything that can happen.
#[derive(Debug, Clone)]
pub enum Event {
    Time(i64),
    Image(u8),
    Replicas(i32),
    Unready(u8, i32),
    Answers(Answers),
    Act(&'static str),
    Crash(usize),
    Paused(bool),
    EditSteps(i32),
    WeightsReverted,
    RouteGone,
    RouteBack,
    LabelsStripped,
    BadSpec,
    GoodSpec,
    Dynamic(bool),
    LeastPods(i32),
    Scale(Option<i32>),
    Window(i32),
    Metadata(&'static str, Option<u8>),
    Ports(usize),
}

/// Ports of a Service: the only one, one of two that is HTTP, one that was not there before, none that anybody could tell.
const PORTS: [&[(&str, i32)]; 4] = [
    &[("http", 80)],
    &[("http", 80), ("metrics", 9090)],
    &[("grpc", 8080), ("metrics", 80)],
    &[("web", 80), ("api", 81)],
];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_i64..40).prop_map(Event::Time),
        4 => (1_u8..4).prop_map(Event::Image),
        1 => (0_i32..12).prop_map(Event::Replicas),
        3 => ((1_u8..4), (0_i32..12)).prop_map(|(image, pods)| Event::Unready(image, pods)),
        2 => prop_oneof![Just(Answers::Good), Just(Answers::Bad), Just(Answers::Empty), Just(Answers::Down)].prop_map(Event::Answers),
        2 => prop_oneof![Just("promote"), Just("promoteFull"), Just("abort"), Just("retry"), Just("pause"), Just("resume"), Just("restart")].prop_map(Event::Act),
        4 => (0_usize..12).prop_map(Event::Crash),
        1 => any::<bool>().prop_map(Event::Paused),
        1 => (0_i32..100).prop_map(Event::EditSteps),
        2 => Just(Event::WeightsReverted),
        1 => Just(Event::RouteGone),
        1 => Just(Event::RouteBack),
        1 => Just(Event::LabelsStripped),
        1 => Just(Event::BadSpec),
        1 => Just(Event::GoodSpec),
        1 => any::<bool>().prop_map(Event::Dynamic),
        1 => (1_i32..4).prop_map(Event::LeastPods),
        1 => prop::option::of(1_i32..10).prop_map(Event::Scale),
        1 => (0_i32..4).prop_map(Event::Window),
        2 => (prop_oneof![Just("canaryMetadata"), Just("stableMetadata")], prop::option::of(0_u8..3))
            .prop_map(|(role, value)| Event::Metadata(role, value)),
    ]
}

/// The same, and the Service that a route of Serin's leads to gets other ports.
pub fn event_of_owned() -> impl Strategy<Value = Event> {
    prop_oneof![20 => event(), 1 => (0..PORTS.len()).prop_map(Event::Ports)]
}

fn image(number: u8) -> String {
    format!("checkout:{number}")
}

pub fn happen(world: &mut World, event: &Event) {
    let spec = world.observed.rollout.spec.value();
    let is_routed = spec.pointer("/strategy/canary/trafficRouting").is_some();
    let is_between_hosts = spec.pointer("/strategy/canary/stableService").is_some();
    let is_of_gateway = spec.pointer("/strategy/canary/trafficRouting/gatewayAPI").is_some();
    let is_in_place = !is_between_hosts
        && world
            .observed
            .rollout
            .spec
            .value()
            .pointer("/strategy/canary/trafficRouting/istio/virtualService")
            .is_some();
    match event {
        Event::Time(seconds) => world.pass_time(*seconds),
        Event::Image(number) => {
            world.edit(|spec| spec["template"]["spec"]["containers"][0]["image"] = json!(image(*number)));
        }
        Event::Replicas(replicas) => world.edit(|spec| spec["replicas"] = json!(replicas)),
        Event::Unready(number, pods) => {
            world.unready.insert(image(*number), *pods);
        }
        Event::Answers(answers) => world.answers = *answers,
        Event::Act(action) => world.act(action),
        Event::Crash(writes) => world.crash_after(*writes),
        Event::Paused(paused) => world.edit(|spec| spec["paused"] = json!(paused)),
        Event::EditSteps(weight) => {
            world.edit(|spec| spec["strategy"]["canary"]["steps"][0]["setWeight"] = json!(weight));
        }
        Event::WeightsReverted => revert_weights(world),
        Event::RouteGone => {
            world.observed.virtual_services.clear();
            world.observed.http_routes.clear();
        }
        Event::RouteBack if is_of_gateway && world.observed.http_routes.is_empty() => {
            world.create_http_route();
        }
        Event::RouteBack if is_of_gateway => {}
        Event::RouteBack if is_in_place && world.observed.virtual_services.is_empty() => world.create_routes(),
        Event::RouteBack if is_between_hosts && world.observed.virtual_services.is_empty() => world.create_hosts(),
        Event::RouteBack => {}
        Event::LabelsStripped => {
            for rule in &mut world.observed.destination_rules {
                rule.spec.subsets.iter_mut().for_each(|subset| subset.labels.clear());
            }
        }
        Event::BadSpec => world.edit(|spec| spec["minReadySeconds"] = json!(10_000)),
        Event::GoodSpec => world.edit(|spec| spec["minReadySeconds"] = json!(0)),
        Event::Dynamic(_) | Event::LeastPods(_) | Event::Scale(_) if !is_routed => {}
        Event::Dynamic(is_on) => world.edit(|spec| spec["strategy"]["canary"]["dynamicStableScale"] = json!(is_on)),
        Event::LeastPods(pods) => {
            world.edit(|spec| spec["strategy"]["canary"]["minPodsPerReplicaSet"] = json!(pods));
        }
        Event::Scale(pods) => world.edit(|spec| {
            let scale = pods.map_or(json!({"matchTrafficWeight": true}), |pods| json!({"replicas": pods}));
            let steps = spec["strategy"]["canary"]["steps"].as_array_mut().unwrap();
            steps.retain(|step| step.get("setCanaryScale").is_none());
            steps.insert(2, json!({"setCanaryScale": scale}));
        }),
        Event::Metadata(role, value) => world.edit(|spec| {
            let labels = |value: &u8| json!({"labels": {"role": format!("{role}-{value}"), format!("of-{value}"): ""}});
            spec["strategy"]["canary"][role] = value.as_ref().map_or(json!({}), labels);
        }),
        Event::Ports(_) if is_between_hosts => {}
        Event::Ports(which) => {
            let ports: Vec<_> = PORTS[*which].iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
            world.set_ports(&json!(ports));
        }
        Event::Window(revisions) => world.edit(|spec| spec["rollbackWindow"] = json!({"revisions": revisions})),
    }
}

/// A GitOps tool puts its weights back.
fn revert_weights(world: &mut World) {
    if !world.observed.http_routes.is_empty() {
        world.write_rule_weights([1, 0]);
    }
    for virtual_service in &mut world.observed.virtual_services {
        for route in virtual_service.spec.http.iter_mut().flat_map(|route| &mut route.route) {
            route.weight = match route.destination.subset.as_deref() {
                Some(subset) if subset.ends_with("stable") => Some(if subset == "stable" { 90 } else { 100 }),
                Some(_) => Some(0),
                None => match route.destination.host.as_str() {
                    "checkout-stable" => Some(100),
                    "checkout-canary" => Some(0),
                    _ => route.weight,
                },
            };
        }
    }
}

/// The world becomes fair: good answers, ready pods, a route, a good spec, nobody pauses.
pub fn heal(world: &mut World) {
    world.answers = Answers::Good;
    world.unready.clear();
    happen(world, &Event::RouteBack);
    happen(world, &Event::Ports(1));
    world.edit(|spec| {
        spec["paused"] = json!(false);
        spec["minReadySeconds"] = json!(0);
    });
    world.act("resume");
    world.settle();
}

fn story(istio: &serde_json::Value, replicas: i32, events: &[Event]) -> World {
    story_of(&spec("checkout:1", replicas, istio), events)
}

fn story_of(spec: &serde_json::Value, events: &[Event]) -> World {
    let mut world = World::new(spec);
    world.settle();
    for event in events {
        happen(&mut world, event);
        world.settle();
    }
    heal(&mut world);
    world.pass_time(400);
    world
}

fn check_end(world: &World) {
    let status = &world.observed.rollout.status;
    let stable = status.stable.as_ref().map(|stable| stable.hash.clone());
    assert_eq!(world.weight(), 0, "at the end nothing is in between: {}", status.message);
    if status.blocked_by.iter().any(|wait| wait.reason == "NoReplicas") {
        assert_eq!(world.phase(), "Paused", "without pods a canary is neither promoted nor aborted");
    } else if world.phase() == "Degraded" {
        assert!(status.aborted.is_some(), "only an abort stays degraded: {}", status.message);
    } else {
        let wanted = world.observed.rollout.spec.value()["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!((world.phase().as_str(), &stable), ("Healthy", &Some(hash(&wanted))), "{}", status.message);
    }
    for replica_set in &world.observed.replica_sets {
        let own = serin::plan::revision::hash_of(replica_set).unwrap();
        let serves = status.stable.as_ref().is_some_and(|stable| stable.hash == own);
        assert!(serves || replica_set.spec.replicas == Some(0), "{own} keeps pods for nothing: {}", status.message);
    }
    assert_eq!(world.observed.baselines.len(), 0, "a baseline is left: {}", status.message);
    for own in
        world.observed.virtual_services.iter().filter(|one| one.metadata.name.as_deref() == Some("checkout-serin"))
    {
        for one in own.spec.http.iter().flat_map(|route| &route.route) {
            assert_eq!(one.destination.port.map(|port| port.number), Some(80), "{}", status.message);
        }
    }
    let labels = world.observed.rollout.spec.value()["strategy"]["canary"]["stableMetadata"]["labels"].clone();
    let mut carried: Vec<String> = labels.as_object().into_iter().flatten().map(pair).collect();
    carried.extend(["app=checkout".to_owned()]);
    carried.sort();
    let stable = (1..4).map(image).find(|image| Some(hash(image)) == stable);
    for pod in stable.iter().flat_map(|image| world.carried(image)) {
        assert_eq!(pod, carried.join(","), "pods carry what stable's should: {}", status.message);
    }
}

fn pair((key, value): (&String, &serde_json::Value)) -> String {
    format!("{key}={}", value.as_str().unwrap())
}

/// Stories a property: the same few in every run, and as many new ones as `PROPTEST_CASES` says in a long one.
pub fn config() -> ProptestConfig {
    let default = ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return default;
    }
    ProptestConfig { cases: 100, rng_seed: RngSeed::Fixed(1), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn owned_routes_stay_safe_and_come_to_rest(replicas in 0_i32..8, events in prop::collection::vec(event_of_owned(), 0..14)) {
        check_end(&story(&owned(), replicas, &events));
    }

    #[test]
    fn routes_in_place_stay_safe_and_come_to_rest(replicas in 0_i32..8, events in prop::collection::vec(event(), 0..14)) {
        check_end(&story(&in_place(), replicas, &events));
    }

    #[test]
    fn routes_between_hosts_stay_safe_and_come_to_rest(replicas in 0_i32..8, events in prop::collection::vec(event(), 0..14)) {
        let mut spec = spec("checkout:1", replicas, &hosts());
        spec["strategy"]["canary"]["stableService"] = json!("checkout-stable");
        spec["strategy"]["canary"]["canaryService"] = json!("checkout-canary");
        check_end(&story_of(&spec, &events));
    }

    #[test]
    fn http_routes_stay_safe_and_come_to_rest(replicas in 0_i32..8, events in prop::collection::vec(event(), 0..14)) {
        check_end(&story_of(&of_gateway("checkout:1", replicas), &events));
    }

    #[test]
    fn stable_scaled_with_its_share_stays_safe_and_comes_to_rest(replicas in 0_i32..8, events in prop::collection::vec(event(), 0..14)) {
        let mut spec = spec("checkout:1", replicas, &owned());
        spec["strategy"]["canary"]["dynamicStableScale"] = json!(true);
        check_end(&story_of(&spec, &events));
    }

    #[test]
    fn baselines_stay_beside_stable_and_go(
        replicas in 0_i32..8, dynamic in any::<bool>(), events in prop::collection::vec(event(), 0..14)
    ) {
        let mut spec = spec("checkout:1", replicas, &owned());
        let canary = &mut spec["strategy"]["canary"];
        canary["dynamicStableScale"] = json!(dynamic);
        canary["steps"][1]["analysis"]["templates"].as_array_mut().unwrap().push(json!({"templateName": "beside"}));
        check_end(&story_of(&spec, &events));
    }

    #[test]
    fn ratios_of_pods_stay_safe_and_come_to_rest(replicas in 0_i32..8, surge in 0_i32..3, missing in 0_i32..3, events in prop::collection::vec(event(), 0..14)) {
        let mut spec = spec("checkout:1", replicas, &owned());
        let canary = spec["strategy"]["canary"].as_object_mut().unwrap();
        canary.remove("trafficRouting");
        canary.insert("maxSurge".into(), json!(surge));
        canary.insert("maxUnavailable".into(), json!(missing));
        check_end(&story_of(&spec, &events));
    }

    /// Law 2: any JSON is a spec that gives a plan.
    #[test]
    fn any_spec_gives_a_plan(text in "[a-z{}\":,0-9\\[\\]]{0,60}", field in 0_usize..6) {
        let mut world = World::new(&spec("checkout:1", 3, &owned()));
        world.settle();
        let value = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
        let path = ["/replicas", "/template", "/strategy/canary/steps", "/strategy/canary/trafficRouting/istio", "/selector", "/strategy/canary/analysis"];
        world.edit(|spec| *spec.pointer_mut(path[field]).unwrap() = value);
        world.settle();
        prop_assert!(!world.observed.rollout.status.message.is_empty());
    }
}

/// Where an API server lets it through, by whatever way: the pods that serve stay.
#[test]
fn fewer_pods_than_none_are_not_wanted() {
    let mut world = World::new(&spec("checkout:1", 5, &owned()));
    world.settle();
    world.edit(|spec| spec["replicas"] = serde_json::json!(-1));
    world.settle();
    assert_eq!(world.pods_of("checkout:1"), 5);
    assert!(world.observed.rollout.status.message.contains("spec.replicas: -1 is below 0"));
}

/// With a permanently failing canary: aborted, stable has all, one pass after the deciding measurement.
#[test]
fn a_failing_canary_is_aborted_in_the_pass_that_measures() {
    let mut world = World::new(&spec("checkout:1", 5, &owned()));
    world.settle();
    world.pass_time(20);
    world.answers = Answers::Bad;
    world.edit(|spec| spec["template"] = crate::support::world::template("checkout:2"));
    let mut weight_before = 0;
    for _ in 0..120 {
        world.pass_time(1);
        if world.observed.rollout.status.aborted.is_some() {
            break;
        }
        weight_before = world.weight();
    }
    assert_eq!(weight_before, 20, "the canary had traffic");
    assert_eq!(world.weight(), 0, "and lost it in the very pass");
    let last: Vec<&String> = world.log.iter().filter(|line| line.contains("VirtualService")).collect();
    assert_eq!(last.last().unwrap().as_str(), "write VirtualService checkout-serin with 100/0");
    world.pass_time(3600);
    assert_eq!(world.phase(), "Degraded", "S7: it is not tried again");
}
