//! Istio's own metrics as queries: what is asked for each revision, in every kind of route, and what is refused.

use promql_parser::parser;
use proptest::prelude::*;
use serde_json::{Value, json};
use serin::api::json::Json;
use serin::api::rollout::TemplateRef;
use serin::plan::observed::{Observed, Template};
use serin::plan::preset::Place;
use serin::plan::strategy::{Gate, Strategy};
use serin::plan::template::{End, Names, metrics, parse_template};
use serin::plan::{route, strategy_of};

use crate::support::world::{World, hosts, in_place, owned, spec};

/// A world whose weights lie between these.
fn routed(istio: &Value) -> World {
    World::new(&spec("checkout:1", 4, istio))
}

fn between_services() -> World {
    let mut spec = spec("checkout:1", 4, &hosts());
    spec["strategy"]["canary"]["stableService"] = json!("checkout");
    spec["strategy"]["canary"]["canaryService"] = json!("checkout-canary");
    World::new(&spec)
}

fn without_a_route() -> World {
    let mut spec = spec("checkout:1", 4, &owned());
    spec["strategy"]["canary"].as_object_mut().unwrap().remove("trafficRouting");
    World::new(&spec)
}

/// The query of a preset, or what is in the way.
fn query(world: &World, preset: &Value) -> Result<String, String> {
    let spec = json!({"metrics": [{"name": "m", "interval": "30s", "count": 1, "istio": preset}]});
    let template = Template { name: "a".into(), cluster: false, spec: Json::from(&spec) };
    let observed = Observed { templates: vec![template], ..world.observed.clone() };
    let strategy: Strategy = strategy_of(&observed);
    let (route, _) = route::observe(&observed, &strategy);
    let place = Place::of(&observed, strategy.routing.as_ref(), &route);
    let templates: Vec<TemplateRef> = serde_json::from_value(json!([{"templateName": "a"}])).unwrap();
    let names = Names { rollout: "name", stable: "s1", canary: "c2", place };
    let metrics = metrics(&observed, &Gate { templates, ..Gate::default() }, End::Count, &names);
    let told = |obstacles: Vec<(&str, String)>| obstacles.into_iter().map(|(_, message)| message).collect::<String>();
    metrics.map_err(told).map(|metrics| metrics[0].query().unwrap().to_owned())
}

/// A query that must be PromQL.
fn asks(world: &World, preset: &Value) -> String {
    let query = query(world, preset).unwrap();
    parser::parse(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
    query
}

#[test]
fn a_revision_is_told_by_its_hash() {
    let of = r#"reporter="source",destination_workload_namespace="shop",destination_canonical_revision="c2""#;
    let good = r#"response_code!~"5..",grpc_response_status!~"2|4|12|13|14|15""#;
    for world in [routed(&owned()), routed(&in_place()), without_a_route()] {
        assert_eq!(
            asks(&world, &json!({"metric": "requestSuccessRate"})),
            format!(
                "(sum(rate(istio_requests_total{{{of},{good}}}[1m])) or vector(0)) / sum(rate(istio_requests_total{{{of}}}[1m]))"
            )
        );
        assert_eq!(
            asks(&world, &json!({"metric": "requestDuration"})),
            format!(
                "histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{{{of}}}[1m])))"
            )
        );
        assert_eq!(
            asks(&world, &json!({"metric": "requestRate", "window": "90s", "revision": "stable"})),
            format!("sum(rate(istio_requests_total{{{}}}[90s]))", of.replace("c2", "s1"))
        );
    }
}

#[test]
fn between_services_what_reaches_no_pod_counts_too() {
    let world = between_services();
    let of = |revision: &str, hash: &str, service: &str| {
        let asked = asks(&world, &json!({"metric": "requestRate", "revision": revision}));
        let by_hash = format!(
            r#"rate(istio_requests_total{{reporter="source",destination_workload_namespace="shop",destination_canonical_revision="{hash}"}}[1m])"#
        );
        let by_service = format!(
            r#"rate(istio_requests_total{{reporter="source",destination_workload="unknown",destination_service=~"{service}\\.shop\\.svc\\..+"}}[1m])"#
        );
        assert_eq!(asked, format!("sum({by_hash} or {by_service})"));
    };
    of("canary", "c2", "checkout-canary");
    of("stable", "s1", "checkout");
}

#[test]
fn envoy_tells_subsets_or_services() {
    let of = |world: &World, revision: &str| {
        asks(world, &json!({"metric": "requestRate", "source": "envoy", "revision": revision}))
    };
    let cluster = |pattern: &str| {
        format!(
            r#"sum(rate(envoy_cluster_upstream_rq{{cluster_name=~"outbound\\|[0-9]+\\|{pattern}\\.shop\\.svc\\..+",response_code_class!=""}}[1m]))"#
        )
    };
    assert_eq!(of(&routed(&owned()), "canary"), cluster(r"checkout-canary\\|checkout"));
    assert_eq!(of(&routed(&owned()), "stable"), cluster(r"checkout-stable\\|checkout"));
    assert_eq!(of(&routed(&in_place()), "canary"), cluster(r"canary\\|checkout"));
    assert_eq!(of(&between_services(), "canary"), cluster(r"\\|checkout-canary"));
    let world = routed(&owned());
    let class = |metric: &str| asks(&world, &json!({"metric": metric, "source": "envoy", "window": 10}));
    assert!(class("requestSuccessRate").contains(r#"response_code_class!="",response_code_class!="5xx"}[10s]"#));
    assert!(class("requestDuration").contains("rate(envoy_cluster_upstream_rq_time_bucket{cluster_name=~"));
    let told = query(&without_a_route(), &json!({"metric": "requestRate", "source": "envoy"})).unwrap_err();
    assert!(told.contains("spec.metrics[0].istio.source: envoy counts by subset or Service"), "{told}");
}

#[test]
fn names_are_texts_and_patterns() {
    let mut istio = in_place();
    istio["destinationRule"]["canarySubsetName"] = json!("v2.\"x|\\");
    let asked = asks(&routed(&istio), &json!({"metric": "requestRate", "source": "envoy"}));
    // The name as a pattern, and that as a string of PromQL.
    assert!(asked.contains(r#"\\|v2\\.\\\"x\\|\\\\\\|"#), "{asked}");
    let outside = json!({"owned": {"host": "api.example.com", "hosts": ["api.example.com"]}});
    let asked = asks(&routed(&outside), &json!({"metric": "requestRate", "source": "envoy"}));
    assert!(asked.contains(r#"\\|checkout-canary\\|api\\.example\\.com","#), "{asked}");
}

proptest! {
    #[test]
    fn any_name_gives_promql(subset in "\\PC{1,30}", host in "[a-z\\\\\"|.*{}]{1,30}") {
        let mut istio = in_place();
        istio["destinationRule"]["canarySubsetName"] = json!(subset);
        asks(&routed(&istio), &json!({"metric": "requestSuccessRate", "source": "envoy"}));
        let outside = json!({"owned": {"host": host, "hosts": ["a.example"]}});
        asks(&routed(&outside), &json!({"metric": "requestDuration", "source": "envoy"}));
    }
}

#[test]
fn windows_are_as_long_as_intervals() {
    let window = |interval: Value| {
        let metric = json!({"name": "m", "interval": interval, "count": 1, "istio": {"metric": "requestRate"}});
        let parsed = parse_template(&json!({"metrics": [metric]}), End::Count).unwrap();
        let metric = &parsed.metrics[0];
        let interval = metric.interval.as_ref().map(|interval| interval.parse().unwrap());
        serin::plan::preset::window(metric.istio.as_ref().unwrap(), interval).as_secs()
    };
    assert_eq!([window(json!("10s")), window(json!("5m")), window(Value::Null)], [60, 300, 60]);
}

#[test]
fn presets_that_cannot_be() {
    let told = |metric: Value| {
        let faults = parse_template(&json!({"metrics": [metric]}), End::Count).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let of = |preset: Value| told(json!({"name": "m", "istio": preset}));
    let members = "exactly one of prometheus, istio, compare, limit, web, job is required";
    let path = "spec.metrics[0]";
    for (told, wanted) in [
        (told(json!({"name": "m"})), format!("{path}: {members}")),
        (
            told(json!({"name": "m", "prometheus": {"query": "up"}, "istio": {"metric": "requestRate"}})),
            format!("{path}: {members}"),
        ),
        (
            of(json!({"metric": "requestRate", "window": "0s"})),
            format!("{path}.istio.window: is shorter than 1s; write a longer one"),
        ),
        (
            of(json!({"metric": "requestRate", "window": "soon"})),
            format!("{path}.istio.window: \"soon\" is not a duration; write 30s, 5m or 1h30m"),
        ),
        (
            of(json!({"metric": "requestRate", "quantile": 0.5})),
            format!("{path}.istio.quantile: is of requestDuration alone; remove it"),
        ),
        (
            of(json!({"metric": "requestDuration", "quantile": 99})),
            format!("{path}.istio.quantile: 99 is not between 0 and 1"),
        ),
    ] {
        assert_eq!(told, wanted);
    }
    assert!(of(json!({"metric": "successRate"})).starts_with("spec.metrics[0].istio.metric: unknown variant"));
    assert!(of(json!({})).contains("missing field `metric`"));
}
