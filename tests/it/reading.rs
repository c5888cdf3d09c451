//! What is read of specs, templates and routes: what is wrong with them, as tables, and what they mean.

use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::api::rollout::TemplateRef;
use serin::plan::action::Action;
use serin::plan::observed::{Observed, Template};
use serin::plan::preset::Place;
use serin::plan::route;
use serin::plan::strategy::{Gate, Portion, Strategy, parse};
use serin::plan::template::{End, Metric, Names, metrics, parse_template};

use crate::support::world::{World, hosts, in_place, owned, spec};

/// A spec with another canary strategy; null takes a field away.
fn with(canary: &Value) -> Value {
    let mut spec = spec("checkout:1", 4, &owned());
    spec["strategy"]["canary"]["analysis"] = json!(null);
    if canary.get("trafficRouting").is_some() {
        spec["strategy"]["canary"].as_object_mut().unwrap().remove("trafficRouting");
    }
    json_patch::merge(&mut spec["strategy"]["canary"], canary);
    spec
}

fn faults(spec: &Value) -> Vec<String> {
    parse("shop", spec).faults.iter().map(ToString::to_string).collect()
}

#[test]
fn steps_that_cannot_be() {
    let one_of = "exactly one of replicas, weight, matchTrafficWeight is required";
    let gives = "gives the canary 20% while steps[0].setCanaryScale leaves it no pods; scale it up before";
    let scale = |scale: Value| json!({"setCanaryScale": scale});
    let analysis = |args: Value| json!({"analysis": {"templates": [{"templateName": "a"}], "args": args}});
    let hash = || json!({"podTemplateHashValue": "Latest"});
    let cases: [(Value, &str); 19] = [
        (
            json!([analysis(json!([{"name": "a", "valueFrom": {"secretKeyRef": {}}}]))]),
            "[0].analysis.args[0].valueFrom.secretKeyRef: is not supported: Serin reads no Secrets of applications; put credentials into a MetricProvider",
        ),
        (json!([scale(json!({"replicas": -1}))]), "[0].setCanaryScale.replicas: -1 is negative"),
        (json!([scale(json!({"weight": 101}))]), "[0].setCanaryScale.weight: 101 is not between 0 and 100"),
        (
            json!([scale(json!({"matchTrafficWeight": false}))]),
            "[0].setCanaryScale.matchTrafficWeight: must be true; or remove the step",
        ),
        (json!([scale(json!({"replicas": 1, "weight": 2}))]), &format!("[0].setCanaryScale: {one_of}")),
        (json!([scale(json!({}))]), &format!("[0].setCanaryScale: {one_of}")),
        (json!([scale(json!({"replicas": 0})), {"setWeight": 20}]), &format!("[1]: {gives}")),
        (json!([scale(json!({"weight": 0})), {"pause": {}}, {"setWeight": 20}]), &format!("[2]: {gives}")),
        (
            json!([{"setWeight": 20}, scale(json!({"replicas": 0}))]),
            "[1]: gives the canary 20% while steps[1].setCanaryScale leaves it no pods; scale it up before",
        ),
        (
            json!([scale(json!({"replicas": 0})), {"setWeight": 0}, scale(json!({"replicas": 1})), {"setWeight": 20}]),
            "",
        ),
        (json!([{"analysis": {"templates": []}}]), "[0].analysis.templates: names no template; add templateName"),
        (
            json!([analysis(json!([{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]))]),
            "[0].analysis.args[1].name: a is given twice",
        ),
        (json!([analysis(json!([{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]))]), ""),
        (
            json!([analysis(json!([{"name": "a", "value": "1", "valueFrom": hash()}]))]),
            "[0].analysis.args[0]: exactly one of value, valueFrom is required",
        ),
        (
            json!([analysis(json!([{"name": "a"}]))]),
            "[0].analysis.args[0]: exactly one of value, valueFrom is required",
        ),
        (
            json!([analysis(json!([{"name": "a", "valueFrom": {}}]))]),
            "[0].analysis.args[0].valueFrom: exactly one of podTemplateHashValue, fieldRef is required",
        ),
        (
            json!([analysis(
                json!([{"name": "a", "valueFrom": {"podTemplateHashValue": "Latest", "fieldRef": {"fieldPath": "x"}}}])
            )]),
            "[0].analysis.args[0].valueFrom: exactly one of podTemplateHashValue, fieldRef is required",
        ),
        (json!([analysis(json!([{"name": "a", "valueFrom": hash()}]))]), ""),
        (json!([analysis(json!([{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]))]), ""),
    ];
    for (steps, expected) in cases {
        let expected: Vec<String> = Some(expected)
            .filter(|text| !text.is_empty())
            .map(|text| format!("spec.strategy.canary.steps{text}"))
            .into_iter()
            .collect();
        assert_eq!(faults(&with(&json!({"steps": steps}))), expected, "{steps}");
    }
}

#[test]
fn fields_that_do_not_fit() {
    let canary = |patch: Value| with(&patch);
    let template = |patch: Value| {
        let mut spec = with(&json!({}));
        json_patch::merge(&mut spec, &patch);
        spec
    };
    let placed = |reference: Value| {
        let mut istio = in_place();
        istio["virtualService"] = reference;
        with(&json!({"trafficRouting": {"istio": istio}}))
    };
    let several = json!({"virtualServices": [{"name": "checkout", "routes": ["primary"]}], "destinationRule": in_place()["destinationRule"]});
    let cases: [(Value, &str); 16] = [
        (placed(json!({"name": "checkout", "tlsRoutes": [{"port": 443}]})), ""),
        (
            placed(json!({"name": "checkout", "tlsRoutes": [{}]})),
            "spec.strategy.canary.trafficRouting.istio.virtualService.tlsRoutes[0]: needs port or sniHosts: what the route matches",
        ),
        (with(&json!({"trafficRouting": {"istio": several}})), ""),
        (canary(json!({"maxUnavailable": "2"})), ""),
        (
            canary(json!({"maxUnavailable": "-2"})),
            "spec.strategy.canary.maxUnavailable: is not a number of pods; write 2, or 25%",
        ),
        (
            canary(json!({"maxSurge": 1})),
            "spec.strategy.canary.maxSurge: has no meaning with trafficRouting; remove it",
        ),
        (
            canary(json!({"maxUnavailable": -1})),
            "spec.strategy.canary.maxUnavailable: is not a number of pods; write 2, or 25%",
        ),
        (canary(json!({"maxUnavailable": 0})), ""),
        (
            canary(json!({"maxUnavailable": "101%"})),
            "spec.strategy.canary.maxUnavailable: is not a number of pods; write 2, or 25%",
        ),
        (
            canary(json!({"trafficRouting": null, "dynamicStableScale": true})),
            "spec.strategy.canary.dynamicStableScale: needs trafficRouting; remove it",
        ),
        (
            canary(json!({"trafficRouting": null, "steps": [{"setCanaryScale": {"replicas": 1}}]})),
            "spec.strategy.canary.steps[0].setCanaryScale: needs trafficRouting: without it the pods are the weight; remove it",
        ),
        (
            canary(
                json!({"trafficRouting": {"istio": {"owned": {"host": "checkout"}, "virtualService": {"name": "checkout"}}}}),
            ),
            "spec.strategy.canary.trafficRouting.istio: exactly one of owned, virtualService, virtualServices is required",
        ),
        (
            template(json!({"template": {"metadata": {"labels": {"app": "other"}}}})),
            "spec.template.metadata.labels: lacks app: checkout, which the selector asks for; add it",
        ),
        (
            template(json!({"template": {"spec": {"containers": []}}})),
            "spec.template.spec.containers: is empty; add a container",
        ),
        (
            template(json!({"template": {"spec": {"restartPolicy": "Never"}}})),
            "spec.template.spec.restartPolicy: must be Always; remove it",
        ),
        (template(json!({"template": {"spec": {"restartPolicy": "Always"}}})), ""),
    ];
    for (spec, expected) in cases {
        let expected: Vec<&str> = Some(expected).filter(|text| !text.is_empty()).into_iter().collect();
        assert_eq!(faults(&spec), expected, "{}", spec["strategy"]["canary"]);
    }
}

#[test]
fn a_spec_that_does_not_parse_still_scales() {
    let mut spec = with(&json!({"steps": "none"}));
    spec["replicas"] = json!(7);
    let strategy = parse("shop", &spec);
    assert_eq!(strategy.replicas, Some(7));
    assert_eq!(strategy.progress_deadline, SignedDuration::from_secs(600));
    assert_eq!(strategy.history_limit, usize::MAX, "nothing is taken away");
    assert_eq!(strategy.faults.len(), 1, "{:?}", strategy.faults);
}

#[test]
fn percent_of_pods_is_rounded_down_or_up() {
    for (percent, all, down, up) in [(25, 10, 2, 3), (25, 8, 2, 2), (0, 10, 0, 0), (100, 3, 3, 3), (1, 99, 0, 1)] {
        let portion = Portion::Percent(percent);
        assert_eq!((portion.floor(all), portion.ceil(all)), (down, up), "{percent}% of {all}");
    }
}

#[test]
fn templates_that_cannot_be() {
    let metric = |patch: Value| {
        let mut metric = json!({"name": "a", "interval": "5s", "count": 3, "prometheus": {"query": "up"}});
        json_patch::merge(&mut metric, &patch);
        json!({"metrics": [metric]})
    };
    let cases: [(Value, bool, &str); 9] = [
        (metric(json!({})), false, ""),
        (metric(json!({"interval": "50ms"})), false, "interval: is shorter than 100ms; write a longer one"),
        (metric(json!({"interval": "100ms"})), false, ""),
        (metric(json!({"interval": null})), false, "interval: is required when count is above 1"),
        (metric(json!({"interval": null, "count": 1})), false, ""),
        (metric(json!({"interval": null, "count": null})), false, ""),
        (
            metric(json!({"count": null})),
            false,
            "count: is required in a step's analysis: without it the step never ends",
        ),
        (metric(json!({"count": null})), true, ""),
        (
            metric(json!({"prometheus": null})),
            false,
            "exactly one of prometheus, istio, compare, limit, web, job is required",
        ),
    ];
    for (template, endless, expected) in cases {
        let told: Vec<String> = parse_template(&template, if endless { End::Never } else { End::Count })
            .err()
            .into_iter()
            .flatten()
            .map(|fault| {
                fault.to_string().replace("spec.metrics[0]", "").trim_start_matches(['.', ':', ' ']).to_owned()
            })
            .collect();
        let expected: Vec<&str> = Some(expected).filter(|text| !text.is_empty()).into_iter().collect();
        assert_eq!(told, expected, "{template}");
    }
}

/// The metrics of a template that a step of a Rollout names.
fn metrics_of(template: &Value, args: &Value, retention: &Value) -> Result<Vec<Metric>, String> {
    let mut world = World::new(&with(&json!({})));
    world.observed.rollout.metadata.labels = Some([("region".to_owned(), "eu".to_owned())].into());
    let template = Template { name: "a".into(), cluster: false, spec: serin::api::json::Json::from(template) };
    let observed = Observed { templates: vec![template], ..world.observed };
    let templates: Vec<TemplateRef> = serde_json::from_value(json!([{"templateName": "a"}])).unwrap();
    let args = serde_json::from_value(args.clone()).unwrap();
    let retention = serde_json::from_value(retention.clone()).unwrap();
    let gate = Gate { templates, args, retention, ..Gate::default() };
    let names = Names { rollout: "name", stable: "s1", canary: "c2", place: Place::default() };
    metrics(&observed, &gate, End::Count, &names)
        .map_err(|obstacles| obstacles.into_iter().map(|(_, message)| message).collect())
}

/// The query of a template that names one argument, as a Rollout gives it.
fn query(declared: &Value, given: &Value) -> Result<String, String> {
    let template = json!({"args": [declared], "metrics": [{"name": "m", "consecutiveSuccessLimit": 0, "prometheus": {"query": "{{args.a}} {{ x }}"}}]});
    metrics_of(&template, given, &json!([])).map(|metrics| {
        assert_eq!(metrics[0].enough_successes, None);
        metrics[0].query().unwrap().to_owned()
    })
}

#[test]
fn a_template_and_a_rollout_say_how_many_measurements_are_kept() {
    let kept = |of_template: Value, of_rollout: Value| {
        let template =
            json!({"metrics": [{"name": "errors", "prometheus": {"query": "q"}}], "measurementRetention": of_template});
        metrics_of(&template, &json!([]), &of_rollout).map(|metrics| metrics[0].kept)
    };
    let errors = |limit: i32| json!([{"metricName": "^err", "limit": limit}]);
    assert_eq!(kept(json!([]), json!([])), Ok(10));
    assert_eq!(kept(errors(3), json!([])), Ok(3));
    assert_eq!(kept(json!([]), errors(30)), Ok(30));
    assert_eq!(kept(errors(30), errors(3)), Ok(30));
    let told = kept(errors(101), json!([])).unwrap_err();
    assert!(told.contains("spec.measurementRetention[0].limit: 101 is not between 1 and 100"), "{told}");
}

#[test]
fn arguments_have_values() {
    let declared = json!({"name": "a"});
    let from = |source: Value| json!([{"name": "b", "value": "no"}, {"name": "a", "valueFrom": source}]);
    let field = |path: &str| from(json!({"fieldRef": {"fieldPath": path}}));
    let good =
        |given: &Value, value: &str| assert_eq!(query(&declared, given), Ok(format!("{value} {{{{ x }}}}")), "{given}");
    good(&json!([{"name": "a", "value": "1"}]), "1");
    good(&from(json!({"podTemplateHashValue": "Stable"})), "s1");
    good(&from(json!({"podTemplateHashValue": "Latest"})), "c2");
    good(&field("metadata.labels['region']"), "eu");
    good(&field("metadata.name"), "checkout");
    good(&field("spec.replicas"), "4");
    assert_eq!(query(&json!({"name": "a", "value": "9"}), &json!([])), Ok("9 {{ x }}".into()));
    let bad = |declared: &Value, given: &Value, part: &str| {
        let told = query(declared, given).unwrap_err();
        assert!(told.contains(part), "{told}");
    };
    bad(&declared, &json!([]), "spec.args[0]: a has no value; give it in the Rollout's args");
    bad(&declared, &field("metadata.labels['zone']"), "a: the Rollout has no field metadata.labels['zone']");
    bad(&declared, &field("metadata.labels"), "a: the Rollout has no field metadata.labels");
    bad(&json!({"name": "other", "value": "1"}), &json!([]), "names {{args.a}}, which spec.args does not declare");
}

/// The first problem of a route, or its legs.
fn told(observed: &Observed, strategy: &Strategy) -> String {
    let (route, problems) = route::observe(observed, strategy);
    problems.first().map_or_else(|| route.line(), |problem| format!("{}: {}", problem.reason, problem.message))
}

/// A world in place with other routes, and the strategy that names them.
fn routed(istio: &Value, virtual_service: &Value) -> (Observed, Strategy) {
    let spec = with(&json!({"trafficRouting": {"istio": istio}}));
    let mut world = World::new(&spec);
    if !virtual_service.is_null() {
        world.observed.virtual_services[0].spec = serde_json::from_value(virtual_service.clone()).unwrap();
    }
    (world.observed, parse("shop", &spec))
}

#[test]
fn routes_are_picked_by_what_they_match() {
    let route = json!([{"destination": {"host": "checkout", "subset": "stable"}, "weight": 100}, {"destination": {"host": "checkout", "subset": "canary"}, "weight": 0}]);
    let tls = |port: u16, hosts: &[&str]| json!({"match": [{"port": port, "sniHosts": hosts}], "route": route});
    let virtual_service = json!({
        "hosts": ["checkout"],
        "http": [{"name": "primary", "route": route}, {"name": "other", "route": route}],
        "tls": [tls(443, &["a", "b"]), tls(8443, &["a"])],
        "tcp": [{"match": [{"port": 5432}], "route": route}, {"match": [{"port": 6379}], "route": route}],
    });
    let picked = |picks: Value| {
        let mut istio = in_place();
        istio["virtualService"] = picks;
        istio["virtualService"]["name"] = json!("checkout");
        let (observed, strategy) = routed(&istio, &virtual_service);
        told(&observed, &strategy)
    };
    let at = |legs: &str| format!("stable=- canary=- {legs}");
    assert_eq!(picked(json!({"routes": ["other"]})), at("checkout/other=100/0"));
    assert_eq!(picked(json!({"routes": ["other", "other"]})), at("checkout/other=100/0"));
    assert_eq!(picked(json!({"routes": ["other", "primary"]})), at("checkout/other=100/0 checkout/primary=100/0"));
    assert_eq!(picked(json!({"tlsRoutes": [{"port": 443}]})), at("checkout/tls/0=100/0"));
    assert_eq!(picked(json!({"tlsRoutes": [{"sniHosts": ["a"]}]})), at("checkout/tls/1=100/0"));
    assert_eq!(picked(json!({"tlsRoutes": [{"port": 443, "sniHosts": ["b", "a"]}]})), at("checkout/tls/0=100/0"));
    assert_eq!(
        picked(json!({"tlsRoutes": [{"port": 443, "sniHosts": ["a"]}]})),
        "RouteMissing: VirtualService checkout has no TLS route that matches port 443 sniHosts a; add it, or correct the reference"
    );
    assert_eq!(picked(json!({"tcpRoutes": [{"port": 6379}]})), at("checkout/tcp/1=100/0"));
    assert_eq!(
        picked(json!({"tcpRoutes": [{"port": 1}]})),
        "RouteMissing: VirtualService checkout has no TCP route that matches port 1; add it, or correct the reference"
    );
    assert_eq!(
        picked(json!({"routes": ["gone"]})),
        "RouteMissing: VirtualService checkout has no HTTP route named gone; add it, or correct the reference"
    );
}

#[test]
fn routes_that_cannot_be() {
    let (mut observed, strategy) = routed(&in_place(), &Value::Null);
    observed.destination_rules[0].spec.subsets.pop();
    assert_eq!(told(&observed, &strategy), "RouteMissing: DestinationRule checkout has no subset canary; add it");

    let (mut observed, strategy) = routed(&owned(), &Value::Null);
    let rule = json!({"metadata": {"name": "checkout-serin", "namespace": "shop"}, "spec": {"host": "checkout"}});
    observed.destination_rules = vec![serde_json::from_value(rule).unwrap()];
    assert_eq!(
        told(&observed, &strategy),
        "RouteTaken: DestinationRule checkout-serin exists and is not this Rollout's; delete or rename it"
    );
    // One of its own whose subsets somebody took away is written again.
    let own = json!([{"uid": "rollout", "name": "checkout", "kind": "Rollout", "apiVersion": "serin.dev/v1alpha1"}]);
    observed.destination_rules[0].metadata.owner_references = serde_json::from_value(own).unwrap();
    assert_eq!(told(&observed, &strategy), "stable=- canary=-");

    observed.services.clear();
    assert_eq!(told(&observed, &strategy), "ServiceMissing: Service shop/checkout does not exist; create it");
    let elsewhere = json!({"metadata": {"name": "checkout", "namespace": "other"}, "spec": {}});
    observed.services = vec![serde_json::from_value(elsewhere).unwrap()];
    assert_eq!(told(&observed, &strategy), "ServiceMissing: Service shop/checkout does not exist; create it");
}

#[test]
fn a_host_is_taken_at_a_shared_gateway() {
    let taken = |ours: Value, namespace: &str, theirs: Value| {
        let (mut observed, strategy) =
            routed(&json!({"owned": {"host": "checkout", "hosts": ["shop.example"], "gateways": ours}}), &Value::Null);
        let other = json!({"metadata": {"name": "other", "namespace": namespace}, "spec": {"hosts": ["shop.example"], "gateways": theirs}});
        observed.virtual_services = vec![serde_json::from_value(other).unwrap()];
        told(&observed, &strategy).starts_with("RouteTaken")
    };
    assert!(taken(json!(["edge"]), "shop", json!(["edge"])));
    assert!(!taken(json!(["edge"]), "billing", json!(["edge"])), "gateways of two namespaces");
    assert!(taken(json!(["edge"]), "billing", json!(["shop/edge"])));
    assert!(!taken(json!(["edge"]), "shop", json!(["mesh"])));
    assert!(taken(json!(["mesh"]), "billing", json!(["mesh"])), "the mesh is one for all");
    assert!(taken(json!(["mesh"]), "billing", json!([])), "the mesh is what no gateway means");
}

#[test]
fn services_and_rules_are_written_with_what_belongs_in_them() {
    let mut spec = with(&json!({
        "trafficRouting": {"istio": hosts()}, "stableService": "checkout-stable", "canaryService": "checkout-canary",
    }));
    spec["template"]["spec"]["containers"][0]["ports"] =
        json!([{"name": "http", "containerPort": 8080}, {"containerPort": 9090}]);
    let mut world = World::new(&spec);
    world.observed.services.clear();
    let mut ports = Vec::new();
    for action in world.plan().actions {
        if let Action::CreateService { ports: own, .. } = action {
            ports.push(own.into_iter().map(|port| (port.name.unwrap_or_default(), port.port)).collect::<Vec<_>>());
        }
    }
    let both = vec![("http".to_owned(), 8080), ("port-9090".to_owned(), 9090)];
    assert_eq!(ports, [both.clone(), both]);

    // The DestinationRule that Serin owns beside a route in place: the route's host, visible where the user's own is.
    let mut world = World::new(&with(&json!({"trafficRouting": {"istio": hosts()}})));
    let routes = serde_json::to_string(&world.observed.virtual_services).unwrap();
    let routes = routes.replace(r#""subset":""#, r#""subset":"checkout-"#);
    world.observed.virtual_services = serde_json::from_str(&routes).unwrap();
    world.observed.destination_rules = serde_json::from_value(json!([
        {"metadata": {"name": "elsewhere", "namespace": "shop"}, "spec": {"host": "legacy", "exportTo": ["*"]}},
        {"metadata": {"name": "users", "namespace": "shop"}, "spec": {"host": "checkout", "exportTo": ["."]}},
    ]))
    .unwrap();
    let mut written = Vec::new();
    world.settle();
    for _ in 0..20 {
        world.tick();
        for action in world.plan().actions {
            if let Action::WriteDestinationRule { host, export_to, .. } = action {
                written.push((host, export_to));
            }
        }
        world.settle();
    }
    assert_eq!(written.first(), Some(&("checkout.shop.svc.cluster.local".to_owned(), vec![".".to_owned()])));
}

#[test]
fn weights_that_git_has_at_rest_come_back() {
    let mut spec = with(&json!({"trafficRouting": {"istio": in_place()}, "steps": [{"setWeight": 50}, {"pause": {}}]}));
    spec["replicas"] = json!(2);
    let mut world = World::new(&spec);
    let weights = |world: &World| {
        let route = &world.observed.virtual_services[0].spec.http[0].route;
        route.iter().map(|one| one.weight.unwrap_or(0)).collect::<Vec<_>>()
    };
    world.observed.virtual_services[0].spec.http[0].route[0].weight = Some(60);
    world.observed.virtual_services[0].spec.http[0].route[1].weight = Some(30);
    world.settle();
    world.pass_time(10);
    crate::support::world::commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!(weights(&world), [45, 45, 10]);
    world.act("promoteFull");
    world.pass_time(60);
    assert_eq!(world.phase(), "Healthy");
    assert_eq!(weights(&world), [60, 30, 10]);
}
