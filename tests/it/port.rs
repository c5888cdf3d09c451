//! The port of its Service that a route of Serin's leads to.

use serde_json::{Value, json};
use serin::plan::action::Action;
use serin::plan::objects;
use serin::plan::observed::Observed;
use serin::plan::strategy::Managed;
use serin::plan::weight::Split;

use crate::support::world::{World, at_rest, commit, in_place, owned, spec};

/// A name, a number, and what else a port has.
fn port(name: &str, number: i32, more: &Value) -> Value {
    let mut port = json!({"name": name, "port": number});
    json_patch::merge(&mut port, more);
    port
}

fn plain(name: &str, number: i32) -> Value {
    port(name, number, &json!({}))
}

/// The ports of every destination of a VirtualService.
fn ports(virtual_service: &Value) -> Vec<Value> {
    let routes = virtual_service["spec"]["http"].as_array().unwrap().iter();
    let destinations = routes.flat_map(|route| {
        let weighted = route["route"].as_array().unwrap().iter().map(|one| &one["destination"]);
        weighted.chain(route.get("mirror")).map(|one| one["port"]["number"].clone()).collect::<Vec<_>>()
    });
    destinations.collect()
}

/// Those of the VirtualService that Serin owns, which all are the same.
fn named(observed: &Observed) -> Option<i64> {
    let own = observed.virtual_services.iter().find(|one| one.metadata.name.as_deref() == Some("checkout-serin"));
    let all = ports(&serde_json::to_value(own.unwrap()).unwrap());
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    all[0].as_i64()
}

/// What a new Rollout says first, and where its route leads to then.
fn told(given: &Value, ports: &Value) -> String {
    let mut istio = owned();
    istio["owned"]["port"] = given.clone();
    let mut world = World::new(&spec("checkout:1", 2, &istio));
    world.set_ports(ports);
    world.settle();
    world.pass_time(20);
    let status = &world.observed.rollout.status;
    match status.blocked_by.first() {
        Some(wait) => {
            assert!(world.observed.virtual_services.is_empty(), "nothing is created that leads nowhere");
            assert_eq!(world.phase(), "Degraded");
            format!("{}: {}", wait.reason, wait.message)
        }
        None => named(&world.observed).map_or("none".to_owned(), |port| port.to_string()),
    }
}

#[test]
fn which_port_is_meant() {
    let none = json!(null);
    let check = |given: &Value, ports: Value, wanted: &str| assert_eq!(told(given, &ports), wanted, "{given} {ports}");
    check(&none, json!([]), "none");
    check(&none, json!([plain("http", 80)]), "none");
    check(&none, json!([plain("metrics", 9090)]), "none");
    check(&json!(80), json!([plain("http", 80)]), "80");
    // By name, up to the first hyphen.
    for name in ["http", "http-api", "http2", "HTTP-x", "grpc", "grpc-web", "grpc-web-x", "grpc-x"] {
        check(&none, json!([plain("metrics", 9090), plain(name, 8080)]), "8080");
    }
    // `appProtocol` comes first.
    let app = |name: &str, number: i32, protocol: &str| port(name, number, &json!({"appProtocol": protocol}));
    for protocol in ["http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c", "kubernetes.io/ws"] {
        check(&none, json!([app("http-admin", 9090, "tcp"), app("web", 81, protocol)]), "81");
    }
    // TLS is routed by server name, and UDP not at all; both count as ports.
    check(&none, json!([plain("http", 80), plain("https", 443)]), "80");
    check(&none, json!([plain("http", 443), port("http3", 443, &json!({"protocol": "UDP"}))]), "443");
    check(&none, json!([plain("http", 80), port("http-x", 81, &json!({"protocol": "UDP"}))]), "80");
    check(&json!(9090), json!([plain("http", 80), plain("metrics", 9090)]), "9090");

    let field = "RoutePort: spec.strategy.canary.trafficRouting.istio.owned.port";
    let missing = format!("{field}: is missing, and Service shop/checkout has the ports");
    check(
        &none,
        json!([plain("web", 80), app("api", 81, "tcp"), plain("metrics", 9090)]),
        &format!(
            "{missing} 80 (web), 81 (api, tcp) and 9090 (metrics), of which Istio takes none for HTTP by appProtocol and name; write the one that requests go to"
        ),
    );
    check(
        &none,
        json!([plain("http", 80), plain("grpc", 81), plain("metrics", 9090)]),
        &format!(
            "{missing} 80 (http), 81 (grpc) and 9090 (metrics), of which Istio takes 80 and 81 for HTTP by appProtocol and name; write the one that requests go to"
        ),
    );
    check(
        &json!(8080),
        json!([plain("http", 80)]),
        &format!("{field}: 8080 is no TCP port of Service shop/checkout, which has 80 (http); write one of them"),
    );
    check(
        &json!(81),
        json!([plain("http", 80), port("dns", 81, &json!({"protocol": "UDP"}))]),
        &format!(
            "{field}: 81 is no TCP port of Service shop/checkout, which has 80 (http) and 81 (dns, UDP); write one of them"
        ),
    );
}

#[test]
fn every_destination_names_it() {
    let mut world = World::new(&spec("checkout:1", 2, &owned()));
    world.set_ports(&json!([plain("http", 80), plain("metrics", 9090)]));
    let matches = json!([{"headers": {"x-canary": {"exact": "true"}}}]);
    let front = |name: &str, mirror: Option<i32>| Managed {
        name: name.to_owned(),
        matches: serde_json::from_value(matches.clone()).unwrap(),
        mirror,
    };
    let fronts = [front("testers", None), front("shadow", Some(50))];
    let written =
        |split, fronts: &[Managed]| objects::virtual_service(&world.observed, "checkout-serin", None, (split, fronts));
    assert_eq!(ports(&written(None, &[])), [80]);
    assert_eq!(ports(&written(Some(Split { stable: 70, canary: 30 }), &fronts)), [80; 6]);
}

/// Routes that were written before Serin named ports.
#[test]
fn a_route_without_its_port_gets_it_in_one_write() {
    let mut world = at_rest(4, &json!([{"setWeight": 20}, {"pause": {}}]), &json!({}));
    let both = json!([plain("http", 80), plain("metrics", 9090)]);
    let rest = |world: &World| (world.plan().actions, world.phase());
    world.set_ports(&json!([plain("http", 80)]));
    assert_eq!(rest(&world), (vec![], "Healthy".to_owned()), "the only port needs no name");
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!((world.weight(), named(&world.observed)), (20, None));
    world.set_ports(&both);
    let actions: Vec<String> = world.plan().actions.iter().map(Action::to_string).collect();
    assert_eq!(actions, ["write VirtualService checkout-serin with 80/20"]);
    world.settle();
    world.pass_time(5);
    assert_eq!((world.weight(), named(&world.observed)), (20, Some(80)));
    assert_eq!(world.observed.rollout.status.blocked_by[0].reason, "PausedByStep", "nothing else has changed");

    // At the plain host, too.
    let mut world = World::new(&spec("checkout:1", 4, &owned()));
    world.settle();
    world.set_ports(&both);
    assert_eq!(named(&world.observed), None);
    world.settle();
    assert_eq!(named(&world.observed), Some(80));
}

/// What nobody can tell any more stays as it is, and the canary can be taken back all the same.
#[test]
fn a_port_that_becomes_unclear_stays() {
    let mut world = at_rest(4, &json!([{"setWeight": 20}, {"pause": {}}]), &json!({}));
    world.set_ports(&json!([plain("http", 80), plain("metrics", 9090)]));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    assert_eq!((world.weight(), named(&world.observed)), (20, Some(80)));
    world.set_ports(&json!([plain("http", 80), plain("http-api", 8080)]));
    world.settle();
    assert_eq!(world.phase(), "Degraded");
    world.act("abort");
    world.settle();
    assert_eq!((world.weight(), named(&world.observed)), (0, Some(80)));
    let services = std::mem::take(&mut world.observed.services);
    world.settle();
    assert_eq!(named(&world.observed), Some(80), "a Service that is away says nothing");
    world.observed.services = services;
    world.set_ports(&json!([plain("http", 80)]));
    world.settle();
    assert_eq!(named(&world.observed), None);
}

/// In place Git names the ports, and what is put in front copies them.
#[test]
fn routes_in_front_in_place_lead_to_the_same_port() {
    let testers = json!({"name": "testers", "match": [{"headerName": "x-canary", "headerValue": {"exact": "true"}}]});
    let shadow = json!({"name": "shadow", "percentage": 50, "match": [{"path": {"prefix": "/"}}]});
    let mut spec = spec("checkout:1", 2, &in_place());
    spec["strategy"]["canary"]["analysis"] = json!(null);
    spec["strategy"]["canary"]["steps"] =
        json!([{"setHeaderRoute": testers}, {"setMirrorRoute": shadow}, {"setWeight": 50}, {"pause": {}}]);
    let mut world = World::new(&spec);
    let mut body = serde_json::to_value(&world.observed.virtual_services[0]).unwrap();
    for one in body["spec"]["http"][0]["route"].as_array_mut().unwrap() {
        one["destination"]["port"] = json!({"number": 8080});
    }
    world.observed.virtual_services[0] = serde_json::from_value(body).unwrap();
    world.settle();
    world.pass_time(20);
    commit(&mut world, "checkout:2");
    world.pass_time(40);
    assert_eq!((world.weight(), world.phase().as_str()), (50, "Paused"), "{}", world.observed.rollout.status.message);
    let body = serde_json::to_value(&world.observed.virtual_services[0]).unwrap();
    assert_eq!(ports(&body), [8080; 8], "one of the header route, four of the mirror, three of Git's");
}
