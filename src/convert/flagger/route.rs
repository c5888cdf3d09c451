//! The route of a Canary: what Flagger writes by itself becomes manifests, as far as Serin does not own it.

use serde_json::{Value, json};

use super::super::report::Decision;
use super::super::yaml::{Entry, Item, List, Map, Node, Scalar};
use super::{Canary, number};
use crate::api::names;

/// What a VirtualService's route says besides its destinations.
const POLICIES: [&str; 6] = ["match", "rewrite", "timeout", "retries", "headers", "corsPolicy"];

/// Whether Git holds the VirtualService, because Serin's own cannot say all of it.
fn is_in_place(canary: &Canary<'_>) -> bool {
    POLICIES.iter().any(|field| canary.at(&["service", field]).is_some())
        || canary.is_true(&["service", "delegation"])
        || is_tcp(canary)
}

fn is_tcp(canary: &Canary<'_>) -> bool {
    canary.text(&["service", "appProtocol"]).is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp"))
}

/// The objects besides the Rollout, without those that the input holds.
pub(super) fn objects(canary: &mut Canary<'_>, has: &dyn Fn(&str, &str) -> bool) -> Vec<Node> {
    let mut objects = Vec::new();
    let apex = canary.apex.clone();
    if has("Service", &apex) {
        canary.has_service = true;
        canary.tell("spec.service.port", Decision::Translated, "the input holds the Service, which stays as it is");
    } else {
        objects.push(service(canary));
    }
    if let Some(policy) = canary.entry(&["service", "trafficPolicy"]) {
        let spec = Map::of(vec![Entry::new("host", Scalar::string(&apex)), policy]);
        objects.push(object(canary, ("networking.istio.io/v1", "DestinationRule"), &apex, spec));
    }
    if is_in_place(canary) {
        let spec = virtual_service(canary);
        objects.push(object(canary, ("networking.istio.io/v1", "VirtualService"), &apex, spec));
    }
    objects
}

fn object(canary: &Canary<'_>, (version, kind): (&str, &str), name: &str, spec: Map) -> Node {
    let mut metadata = vec![Entry::new("name", Scalar::string(name))];
    let namespace = canary.node.text_at(&["metadata", "namespace"]);
    metadata.extend(namespace.map(|namespace| Entry::new("namespace", Scalar::string(namespace))));
    if kind != "DestinationRule" {
        metadata.extend(["labels", "annotations"].iter().filter_map(|key| canary.entry(&["service", "apex", key])));
    }
    Map::of(vec![
        Entry::new("apiVersion", Scalar::string(version)),
        Entry::new("kind", Scalar::string(kind)),
        Entry::new("metadata", Map::of(metadata)),
        Entry::new("spec", spec),
    ])
    .into()
}

fn port(canary: &Canary<'_>) -> i64 {
    canary.at(&["service", "port"]).and_then(|node| node.value().as_i64()).unwrap_or(80)
}

/// Whether the Service has ports besides its own, so that a destination has to name one.
fn has_several_ports(canary: &Canary<'_>) -> bool {
    canary.is_true(&["service", "portDiscovery"])
}

fn service(canary: &Canary<'_>) -> Node {
    let name = canary.text(&["service", "portName"]).unwrap_or("http");
    let target = canary.at(&["service", "targetPort"]).map_or(Value::from(port(canary)), Node::value);
    let mut first = vec![
        Entry::new("name", Scalar::string(name)),
        Entry::new("port", number(port(canary))),
        Entry::new("targetPort", Node::from(&target)),
    ];
    first.extend(canary.entry(&["service", "appProtocol"]));
    if let (Some(entry), Some(comments)) = (first.get_mut(1), canary.entry(&["service", "port"])) {
        entry.above = comments.above.into_iter().filter(|line| !line.is_empty()).collect();
        entry.beside = comments.beside;
    }
    let mut ports = vec![Item::new(Map::of(first))];
    if has_several_ports(canary) {
        ports.extend(discovered(canary, &target).into_iter().map(|port| Item::new(Node::from(port))));
    }
    let labels = canary.deployment.as_ref().and_then(|deployment| deployment.at(&["spec", "selector", "matchLabels"]));
    let mut spec = Vec::new();
    if canary.is_true(&["service", "headless"]) {
        spec.push(Entry::new("clusterIP", Scalar::string("None")));
    }
    spec.extend(canary.entry(&["service", "trafficDistribution"]));
    spec.push(Entry::new("selector", labels.cloned().unwrap_or_else(|| Node::from(json!({"app": canary.target})))));
    spec.push(Entry::new("ports", List::of(ports)));
    object(canary, ("v1", "Service"), &canary.apex, Map::of(spec))
}

/// The ports of the pod template, without that of the Service and those of proxies.
fn discovered(canary: &Canary<'_>, target: &Value) -> Vec<Value> {
    let template =
        canary.deployment.as_ref().and_then(|deployment| deployment.at(&["spec", "template", "spec", "containers"]));
    let containers = template.map_or(&[][..], Node::items).iter().map(|item| &item.value);
    let own = containers
        .filter(|container| !["istio-proxy", "envoy"].contains(&container.text_at(&["name"]).unwrap_or_default()));
    let ports = own.flat_map(|container| container.at(&["ports"]).map_or(&[][..], Node::items));
    let mut found = Vec::new();
    for item in ports {
        let Some(number) = item.value.at(&["containerPort"]).map(Node::value) else { continue };
        let name = item.value.text_at(&["name"]).map(str::to_owned);
        let is_known =
            number == *target || name.as_deref().map(Value::from).as_ref() == Some(target) || number == port(canary);
        if !is_known {
            let name = name.unwrap_or_else(|| format!("port-{number}"));
            found.push(json!({"name": name, "port": number, "targetPort": number}));
        }
    }
    found
}

fn hosts(canary: &Canary<'_>) -> Entry {
    let given = canary.entry(&["service", "hosts"]);
    let mut entry = given.unwrap_or_else(|| Entry::new("hosts", List::default()));
    if let Node::List(list) = &mut entry.value {
        let has_apex =
            list.items.iter().any(|item| [Some("*"), Some(canary.apex.as_str())].contains(&item.value.text()));
        if !has_apex {
            list.items.push(Item::new(Scalar::string(&canary.apex)));
        }
    }
    entry
}

fn virtual_service(canary: &Canary<'_>) -> Map {
    let mut spec = Vec::new();
    if !canary.is_true(&["service", "delegation"]) {
        spec.push(hosts(canary));
        spec.extend(canary.entry(&["service", "gateways"]));
    }
    let destination = |subset: String, weight: i64| {
        let mut destination = json!({"host": canary.apex, "subset": subset});
        if has_several_ports(canary) {
            json_patch::merge(&mut destination, &json!({"port": {"number": port(canary)}}));
        }
        json!({"destination": destination, "weight": weight})
    };
    let destinations = json!([
        destination(names::owned_stable_subset(&canary.target), 100),
        destination(names::owned_canary_subset(&canary.target), 0),
    ]);
    if is_tcp(canary) {
        let route = json!([{"match": [{"port": port(canary)}], "route": destinations}]);
        spec.push(Entry::new("tcp", Node::from(route)));
        return Map::of(spec);
    }
    let mut route = vec![Entry::new("name", Scalar::string("primary"))];
    route.extend(POLICIES.iter().filter_map(|field| canary.entry(&["service", field])));
    route.push(Entry::new("route", Node::from(destinations)));
    spec.push(Entry::new("http", List::of(vec![Item::new(Map::of(route))])));
    Map::of(spec)
}

/// The route as the Rollout names it.
pub(super) fn istio(canary: &Canary<'_>) -> Map {
    let apex = || Entry::new("host", Scalar::string(&canary.apex));
    if !is_in_place(canary) {
        let mut owned = vec![apex(), hosts(canary)];
        owned.extend(canary.entry(&["service", "gateways"]));
        owned.extend(has_several_ports(canary).then(|| Entry::new("port", number(port(canary)))));
        return Map::of(vec![Entry::new("owned", Map::of(owned))]);
    }
    let mut reference = vec![Entry::new("name", Scalar::string(&canary.apex))];
    if is_tcp(canary) {
        reference.push(Entry::new("tcpRoutes", Node::from(json!([{"port": port(canary)}]))));
    } else {
        reference.push(Entry::new("routes", Node::from(json!(["primary"]))));
    }
    Map::of(vec![Entry::new("virtualService", Map::of(reference))])
}
