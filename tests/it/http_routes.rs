//! Weights in an HTTPRoute: what is read of its rules, what is written, and what its controllers say of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use serin::api::istio::Protocol;
use serin::api::watched::HttpRoute;
use serin::plan::action::WeightEdit;
use serin::plan::observed::{Acknowledgement, Proxies};
use serin::plan::strategy::parse;
use serin::plan::weight::Split;
use serin::plan::{objects, route, strategy_of};

use crate::support::world::{World, commit, of_gateway, template};

/// A Rollout at rest whose canary gets 40%.
fn at_rest() -> World {
    let mut world = new(&json!({}));
    world.settle();
    world.pass_time(20);
    world
}

/// A new Rollout whose canary gets 40%, with more of its canary strategy.
fn new(canary: &Value) -> World {
    let mut spec = of_gateway("checkout:1", 4);
    let own = &mut spec["strategy"]["canary"];
    own.as_object_mut().unwrap().remove("analysis");
    own["steps"] = json!([{"setWeight": 40}, {"pause": {}}]);
    json_patch::merge(own, canary);
    World::new(&spec)
}

fn with_canary() -> World {
    let mut world = at_rest();
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!(weights(&world), [60, 40]);
    world
}

/// The weights of the first rule.
fn weights(world: &World) -> Vec<i32> {
    world.observed.http_routes[0].spec.rules[0].backend_refs.iter().map(|one| one.weight.unwrap_or(-1)).collect()
}

fn set_rules(world: &mut World, rules: &Value) {
    world.observed.http_routes[0].spec.rules = serde_json::from_value(rules.clone()).unwrap();
}

fn backends(weights: &[Option<i32>]) -> Value {
    let names = ["checkout-stable", "checkout-canary", "legacy"];
    let all = names.iter().zip(weights).map(|(name, weight)| json!({"name": name, "port": 80, "weight": weight}));
    json!(all.collect::<Vec<_>>())
}

/// The route as it is read, or the first problem.
fn told(world: &World) -> String {
    let (route, problems) = route::observe(&world.observed, &strategy_of(&world.observed));
    match problems.first() {
        Some(problem) => format!("{}: {}", problem.reason, problem.message),
        None => route.line(),
    }
}

fn waits(world: &World) -> Vec<String> {
    let waits = world.observed.rollout.status.blocked_by.iter();
    waits.map(|wait| format!("{}: {}", wait.reason, wait.message)).collect()
}

#[test]
fn weights_are_shares_of_their_sum() {
    let mut world = new(&json!({}));
    for (shares, expected) in [
        (&[Some(100), Some(0)][..], "100/0"),
        (&[Some(1), Some(0)], "100/0"),
        (&[Some(9), Some(1)], "90/10"),
        (&[None, None], "50/50"),
        (&[Some(2), Some(1)], "66/34"),
        (&[Some(999_999), Some(1)], "99/1"),
        (&[Some(0), Some(0)], "0/0"),
        (&[Some(60), Some(30), Some(10)], "60/30"),
        (&[Some(1), Some(0), Some(0)], "100/0"),
    ] {
        set_rules(&mut world, &json!([{"backendRefs": backends(shares)}]));
        assert_eq!(told(&world), format!("stable=- canary=- checkout/0={expected}"), "{shares:?}");
    }
    set_rules(&mut world, &json!([{"backendRefs": backends(&[Some(1), Some(0), Some(1)])}]));
    assert_eq!(
        told(&world),
        "RouteMissing: HTTPRoute checkout rules[0].backendRefs give 1 of 2 to others; write weights that add up to 100"
    );
}

#[test]
fn rules_are_picked_by_name_or_by_both_services() {
    let both = backends(&[Some(100), Some(0)]);
    let alone = backends(&[None]);
    let rules = json!([
        {"name": "health", "backendRefs": alone}, {"name": "primary", "backendRefs": both}, {"backendRefs": both},
        {"filters": [{"type": "RequestRedirect"}]},
    ]);
    let picked = |reference: Value| {
        let mut world = new(&json!({"trafficRouting": {"gatewayAPI": {"httpRoute": reference}}}));
        set_rules(&mut world, &rules);
        told(&world)
    };
    let at = |legs: &str| format!("stable=- canary=- {legs}");
    assert_eq!(picked(json!({})), at("checkout/primary=100/0 checkout/2=100/0"));
    assert_eq!(picked(json!({"rules": ["primary", "primary"]})), at("checkout/primary=100/0"));
    assert_eq!(
        picked(json!({"rules": ["gone"]})),
        "RouteMissing: HTTPRoute checkout has no rule named gone; add it, or correct the reference"
    );
    assert_eq!(
        picked(json!({"rules": ["health"]})),
        "RouteMissing: HTTPRoute checkout rules[0].backendRefs do not name checkout-canary; add it"
    );
    assert!(picked(json!({"name": "gone"})).starts_with("RouteMissing: HTTPRoute gone does not exist; create it with"));

    let mut world = new(&json!({}));
    let not_ours = [
        json!({"name": "checkout-canary", "namespace": "elsewhere"}),
        json!({"name": "checkout-canary", "kind": "Other"}),
        json!({"name": "checkout-canary", "group": "multicluster.x-k8s.io", "kind": "ServiceImport"}),
    ];
    for other in not_ours {
        set_rules(&mut world, &json!([{"backendRefs": [{"name": "checkout-stable"}, other]}]));
        assert_eq!(
            told(&world),
            "RouteMissing: HTTPRoute checkout has no rule whose backendRefs name both checkout-stable and checkout-canary; add both to one"
        );
    }
    let ours = json!({"name": "checkout-canary", "namespace": "shop", "kind": "Service", "group": "", "weight": 0});
    set_rules(&mut world, &json!([{"backendRefs": [{"name": "checkout-stable"}, ours]}]));
    assert_eq!(told(&world), at("checkout/0=100/0"));
}

#[test]
fn faults_name_the_field() {
    let routing = "spec.strategy.canary.trafficRouting";
    let gateway = |gateway: Value| json!({"trafficRouting": {"gatewayAPI": gateway}});
    let named = json!({"httpRoute": {"name": "checkout"}});
    let header =
        json!({"setHeaderRoute": {"name": "a", "match": [{"headerName": "x", "headerValue": {"exact": "1"}}]}});
    let mirror = json!({"setMirrorRoute": {"name": "b", "match": [{"path": {"prefix": "/"}}]}});
    let not_edited =
        "is not supported with gatewayAPI: Serin edits weights of HTTPRoutes alone; remove it, or use istio";
    let none = json!({"trafficRouting": null, "stableService": null, "canaryService": null});
    let cases = [
        (gateway(named.clone()), vec![]),
        (
            json!({"trafficRouting": {"gatewayAPI": named, "istio": {"virtualService": {"name": "checkout"}}}}),
            vec![format!("{routing}: exactly one of istio, gatewayAPI is required")],
        ),
        (
            json!({"trafficRouting": {"gatewayAPI": null}}),
            vec![format!("{routing}: exactly one of istio, gatewayAPI is required")],
        ),
        (
            gateway(json!({"httpRoutes": []})),
            vec![format!("{routing}.gatewayAPI.httpRoutes: is empty; name at least one HTTPRoute")],
        ),
        (
            gateway(json!({"httpRoutes": [{"name": "shop.example"}, {"name": "b"}, {"name": "b"}]})),
            vec![format!("{routing}.gatewayAPI.httpRoutes[2].name: b is named twice; list its rules together")],
        ),
        (
            gateway(json!({"httpRoute": null})),
            vec![format!("{routing}.gatewayAPI: exactly one of httpRoute, httpRoutes is required")],
        ),
        (
            json!({"stableService": null, "canaryService": null}),
            vec![format!(
                "{routing}.gatewayAPI: needs stableService and canaryService: the weights of an HTTPRoute lie between two Services"
            )],
        ),
        (
            gateway(json!({"httpRoute": {"name": "checkout"}, "namespace": "shop"})),
            vec![format!(
                "{routing}.gatewayAPI.namespace: is not supported: HTTPRoutes are those of the Rollout's namespace; remove it"
            )],
        ),
        (
            json!({"steps": [header, {"setWeight": 20}, mirror]}),
            vec![
                format!("spec.strategy.canary.steps[0].setHeaderRoute: {not_edited}"),
                format!("spec.strategy.canary.steps[2].setMirrorRoute: {not_edited}"),
            ],
        ),
        (none, vec![]),
    ];
    for (canary, expected) in cases {
        let mut spec = of_gateway("checkout:1", 4);
        let routed = &mut spec["strategy"]["canary"];
        if let Some(own) = canary.pointer("/trafficRouting/gatewayAPI").filter(|own| own.get("httpRoutes").is_some()) {
            routed["trafficRouting"]["gatewayAPI"] = own.clone();
        } else {
            json_patch::merge(routed, &canary);
        }
        let faults: Vec<String> = parse("shop", &spec).faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, expected, "{canary}");
    }
}

#[test]
fn weights_alone_are_written_and_go_back_to_what_git_held() {
    let mut world = at_rest();
    let held = serde_json::to_value(&world.observed.http_routes[0].spec).unwrap();
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!(weights(&world), [60, 40]);
    let mut flat = serde_json::to_value(&world.observed.http_routes[0].spec).unwrap();
    flat["rules"][0]["backendRefs"][0]["weight"] = json!(100);
    flat["rules"][0]["backendRefs"][1]["weight"] = json!(0);
    assert_eq!(flat, held, "nothing but the two weights is touched");
    world.act("promoteFull");
    world.pass_time(60);
    assert_eq!((world.phase().as_str(), weights(&world)), ("Healthy", vec![100, 0]));
    assert!(world.plan().actions.is_empty());

    // Weights that Git holds as other shares come back as percent.
    let mut world = at_rest();
    set_rules(&mut world, &json!([{"backendRefs": backends(&[None, None])}]));
    world.settle();
    world.pass_time(10);
    assert_eq!(weights(&world), [-1, -1], "at rest both Services lead to stable");
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!(weights(&world), [60, 40]);
    world.act("abort");
    world.pass_time(90);
    assert_eq!(weights(&world), [50, 50]);
}

#[test]
fn an_abort_takes_the_weight_in_the_pass_that_decides_it() {
    let mut world = with_canary();
    world.act("abort");
    let planned: Vec<String> = world.plan().actions.iter().map(ToString::to_string).collect();
    assert_eq!(
        planned.first().map(String::as_str),
        Some("set the weights of HTTPRoute checkout to 100/0"),
        "{planned:?}"
    );
}

#[test]
fn a_deletion_brings_the_route_back_whatever_its_controllers_say() {
    let mut world = with_canary();
    world.answer_http_route("Accepted", "False", 0);
    world.observed.rollout.metadata.deletion_timestamp = Some(Time(world.now));
    let planned: Vec<String> = world.plan().actions.iter().map(ToString::to_string).collect();
    assert_eq!(planned, ["set the weights of HTTPRoute checkout to 100/0"]);
    world.settle();
    world.pass_time(60);
    assert_eq!(weights(&world), [100, 0]);
    assert_eq!(world.observed.rollout.metadata.finalizers, None);
    let selectors = world.observed.services.iter().map(|one| one.spec.selector.len());
    assert_eq!(selectors.collect::<Vec<_>>(), [1, 1], "the selectors are without Serin's key");
}

#[test]
fn who_reverts_the_weights_is_named() {
    let mut world = with_canary();
    world.write_rule_weights([100, 0]);
    world.settle();
    world.pass_time(5);
    assert_eq!(weights(&world), [60, 40], "they are corrected");
    let conditions = &world.observed.rollout.status.conditions;
    let contested = conditions.iter().find(|condition| condition.kind == "RouteContested").unwrap();
    assert_eq!(
        contested.message,
        "argocd-controller changed the weights of HTTPRoute checkout 1 times during this rollout; let Git ignore `.spec.rules[].backendRefs[].weight` there (Argo CD: ignoreDifferences with ApplyOutOfSyncOnly=true); field manager of Serin: serin"
    );
}

#[test]
fn what_controllers_say_of_the_route_as_it_is_now_counts() {
    let says = "istio.io/gateway-controller says of HTTPRoute checkout at Service checkout: Accepted is False, NotAllowed: no listener allows it";
    // A condition, whether it is True, how many generations ago, and whether a new revision begins.
    for (kind, status, ago, begins) in [
        ("Accepted", "False", 0, false),
        ("ResolvedRefs", "False", 0, false),
        ("Accepted", "True", 0, true),
        ("Accepted", "Unknown", 0, true),
        ("Accepted", "False", 1, true),
        ("Programmed", "False", 0, true),
    ] {
        let mut world = at_rest();
        world.answer_http_route(kind, status, ago);
        commit(&mut world, "checkout:2");
        world.pass_time(10);
        let has_canary = world.observed.rollout.status.canary.is_some();
        assert_eq!(has_canary, begins, "{kind} {status} {ago}: {:?}", waits(&world));
        if kind == "Accepted" && !begins {
            assert!(waits(&world).contains(&format!("RouteRejected: {says}")), "{:?}", waits(&world));
            assert_eq!(world.phase(), "Degraded");
        }
    }
    // In the middle of a canary no step passes, and an abort goes out.
    let mut world = new(&json!({"steps": [{"setWeight": 40}, {"pause": {"duration": "30s"}}, {"setWeight": 60}]}));
    world.settle();
    world.pass_time(20);
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    world.answer_http_route("Accepted", "False", 0);
    world.pass_time(60);
    assert_eq!((world.observed.rollout.status.current_step_index, weights(&world)), (Some(1), vec![60, 40]));
    world.act("abort");
    world.settle();
    assert_eq!(weights(&world), [100, 0]);
    // Git goes back: traffic follows at once.
    let mut world = with_canary();
    world.answer_http_route("ResolvedRefs", "False", 0);
    world.edit(|spec| spec["template"] = template("checkout:1"));
    world.settle();
    assert_eq!(weights(&world), [100, 0]);
}

/// A canary that no proxy acknowledges, by an HTTPRoute for these parents, which these controllers have answered for.
fn unacknowledged(parents: &[Value], answers: &[(&Value, &str)]) -> World {
    let mut world = at_rest();
    let parent = |one: &Value| serde_json::from_value(one.clone()).unwrap();
    let answer = |(one, controller): &(&Value, &str)| json!({"parentRef": one, "controllerName": controller});
    let route = &mut world.observed.http_routes[0];
    route.spec.parent_refs = parents.iter().map(parent).collect();
    let answers: Vec<Value> = answers.iter().map(answer).collect();
    route.status = serde_json::from_value(json!({"parents": answers})).unwrap();
    let silent = Acknowledgement { route: String::new(), missing: Some("no proxy has it".into()) };
    world.observed.proxies = Proxies::Asked(silent);
    commit(&mut world, "checkout:2");
    world
}

/// The weights after a minute of silence.
fn weights_in_silence(mut world: World) -> Vec<i32> {
    for _ in 0..6 {
        world.pass_time(10);
    }
    weights(&world)
}

#[test]
fn proxies_are_asked_where_nobody_else_follows_the_route() {
    let istio = "istio.io/gateway-controller";
    let service = json!({"group": "", "kind": "Service", "name": "checkout"});
    let gateway = json!({"name": "edge", "namespace": "istio-system"});
    // As the API server fills it in.
    let filled = json!({
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "istio-system",
    });
    let listener = json!({"name": "edge", "namespace": "istio-system", "sectionName": "https"});
    let elsewhere = json!({"group": "", "kind": "Service", "name": "checkout", "namespace": "payments"});
    let own = json!({"group": "", "kind": "Service", "name": "checkout", "namespace": "shop"});
    let entry = json!({"group": "networking.istio.io", "kind": "ServiceEntry", "name": "checkout"});
    let both = [gateway.clone(), service.clone()];
    let one = std::slice::from_ref;
    for (parents, answers, is_asked) in [
        (one(&service), vec![(&service, istio)], true),
        (one(&own), vec![(&service, istio)], true),
        (one(&gateway), vec![(&filled, istio)], true),
        (&both[..], vec![(&gateway, istio), (&service, istio)], true),
        (&both[..], vec![], true),
        (&both[..], vec![(&service, istio)], false),
        (&both[..], vec![(&gateway, "example.com/gateway"), (&service, istio)], false),
        (&both[..], vec![(&gateway, istio), (&gateway, "example.com/gateway"), (&service, istio)], false),
        (one(&listener), vec![(&gateway, istio)], false),
        (one(&elsewhere), vec![(&elsewhere, istio)], false),
        (one(&entry), vec![(&entry, istio)], false),
        (&[], vec![], false),
    ] {
        let world = unacknowledged(parents, &answers);
        let expected = if is_asked { [100, 0] } else { [60, 40] };
        assert_eq!(weights_in_silence(world), expected, "{parents:?} {answers:?}");
    }
}

#[test]
fn a_rule_that_looks_as_another_is_waited_for() {
    let service = json!({"group": "", "kind": "Service", "name": "checkout"});
    let edited = || unacknowledged(std::slice::from_ref(&service), &[]);
    let other = |rule: Value| -> HttpRoute {
        serde_json::from_value(json!({"metadata": {"name": "admin", "namespace": "shop"}, "spec": {"rules": [rule]}}))
            .unwrap()
    };
    let to = |name: &str| json!([{"name": name, "port": 80}]);
    for (rule, is_asked) in [
        (json!({"name": "primary", "backendRefs": to("checkout-stable")}), false),
        (json!({"name": "primary", "backendRefs": to("admin")}), true),
        (json!({"name": "secondary", "backendRefs": to("checkout-stable")}), true),
        (json!({"backendRefs": to("checkout-stable")}), true),
    ] {
        let mut world = edited();
        world.observed.http_routes.push(other(rule.clone()));
        let expected = if is_asked { [100, 0] } else { [60, 40] };
        assert_eq!(weights_in_silence(world), expected, "{rule}");
    }
}

#[test]
fn what_istiod_makes_of_the_rules_is_asked_about() {
    let service = json!({"group": "", "kind": "Service", "name": "checkout", "port": 80});
    let mut world = unacknowledged(&[service, json!({"name": "edge"})], &[]);
    set_rules(
        &mut world,
        &json!([
            {"backendRefs": backends(&[Some(3), Some(1)])},
            {"name": "primary", "backendRefs": backends(&[None, Some(0), Some(0)])},
            {"name": "legacy", "backendRefs": [{"name": "legacy"}]},
        ]),
    );
    let question = world.plan().question.unwrap();
    let [made] = question.virtual_services.as_slice() else { panic!("{question:?}") };
    assert_eq!((made.namespace.as_str(), made.name.as_str(), made.is_made), ("shop", "checkout", true));
    let host = |side: &str| format!("|checkout-{side}.shop.svc.cluster.local");
    let split = |name: &str, weights: &[(&str, i64)], is_own: bool| route::ExpectedSplit {
        route: Some(name.into()),
        weights: weights.iter().map(|(side, weight)| (host(side), *weight)).collect(),
        is_own,
    };
    let first = split("shop.checkout.0", &[("stable", 3), ("canary", 1)], true);
    // A single backend with weight has all of it.
    let second = split("primary", &[("stable", 100)], true);
    assert_eq!(made.splits, [first, second, split("legacy", &[], false)]);
    let of_parent = "checkout.shop.svc.cluster.local:80".to_owned();
    assert!(question.is_http && question.listeners.contains(&of_parent), "{question:?}");
    assert_eq!(
        question.sides.iter().map(|side| side.cluster.clone()).collect::<Vec<_>>(),
        ["stable", "canary"].map(host)
    );
}

#[test]
fn a_newer_route_is_told_from_the_one_that_was_planned_for() {
    let mut world = at_rest();
    let split = Split { stable: 50, canary: 50 };
    let edit = WeightEdit {
        protocol: Protocol::Http,
        at: 0,
        route: Some("primary".into()),
        stable_at: 0,
        canary_at: 1,
        split,
    };
    set_rules(&mut world, &json!([{"name": "primary", "backendRefs": backends(&[Some(80), Some(10), Some(10)])}]));
    let known = world.observed.http_routes[0].clone();
    let same = |rule: Value| {
        let mut newer: HttpRoute = known.clone();
        newer.spec.rules = serde_json::from_value(json!([rule])).unwrap();
        objects::has_same_rules(&newer, std::slice::from_ref(&edit), &world.observed, "checkout")
    };
    let rule = |name: &str, weights: &[Option<i32>]| json!({"name": name, "backendRefs": backends(weights)});
    assert!(same(rule("primary", &[Some(1), None, Some(10)])), "other weights of its own");
    assert!(!same(rule("primary", &[Some(80), Some(5), Some(15)])), "another foreign weight");
    assert!(!same(rule("secondary", &[Some(80), Some(10), Some(10)])), "another rule");
    let mut turned = rule("primary", &[Some(80), Some(10), Some(10)]);
    turned["backendRefs"].as_array_mut().unwrap().reverse();
    assert!(!same(turned), "backends turned around");
    assert_eq!(
        objects::rule_patch("7", &[edit]),
        json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "test", "path": "/spec/rules/0/name", "value": "primary"},
            {"op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": 50},
            {"op": "add", "path": "/spec/rules/0/backendRefs/1/weight", "value": 50},
        ])
    );
}
