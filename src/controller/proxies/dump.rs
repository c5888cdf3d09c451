//! What istiod sends a proxy, and whether that is the route that was asked about.
//!
//! It comes by the stream on which every proxy has it, or as protobuf's JSON from `/debug/config_dump`. A cluster is named
//! `outbound|PORT|SUBSET|HOST`; a route's metadata tell its VirtualService, an endpoint's its revision:
//! `istio.workload` is `workload;namespace;canonical name;canonical revision;cluster`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::api::names;
use crate::plan::route::{Expected, ExpectedSplit, Question, Side};

/// The resources of one proxy, as far as routes depend on them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dump {
    pub configs: Vec<Config>,
}

/// One resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    name: String,
    virtual_hosts: Vec<VirtualHost>,
    filter_chains: Vec<FilterChain>,
    cluster_name: String,
    endpoints: Vec<Locality>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct VirtualHost {
    routes: Vec<Route>,
}

/// One route of HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Route {
    name: String,
    #[serde(rename = "route")]
    leads: Destinations,
    metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Destinations {
    cluster: Option<String>,
    weighted_clusters: Clusters,
    request_mirror_policies: Vec<Weighted>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Clusters {
    clusters: Vec<Weighted>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Weighted {
    #[serde(alias = "cluster")]
    name: String,
    weight: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct FilterChain {
    filters: Vec<Filter>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    typed_config: Destinations,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Locality {
    lb_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Endpoint {
    metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    filter_metadata: FilterMetadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct FilterMetadata {
    istio: Istio,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Istio {
    config: Option<String>,
    workload: Option<String>,
}

impl Config {
    /// The routes of a listener.
    pub fn of_routes(name: String, routes: Vec<Route>) -> Self {
        Self { name, virtual_hosts: vec![VirtualHost { routes }], ..Self::default() }
    }

    /// The endpoints of a cluster, by their workloads.
    pub fn of_endpoints(cluster_name: String, workloads: Vec<Option<String>>) -> Self {
        let endpoint = |workload| Endpoint {
            metadata: Metadata { filter_metadata: FilterMetadata { istio: Istio { config: None, workload } } },
        };
        let lb_endpoints = workloads.into_iter().map(endpoint).collect();
        Self { cluster_name, endpoints: vec![Locality { lb_endpoints }], ..Self::default() }
    }

    /// Its name, by which it is asked for.
    pub fn name(&self) -> &str {
        if self.cluster_name.is_empty() { &self.name } else { &self.cluster_name }
    }

    /// Whether it is the endpoints of a cluster.
    pub fn is_endpoints(&self) -> bool {
        !self.cluster_name.is_empty()
    }

    /// The revisions of its endpoints, a baseline's that of stable; none for one that has no workload.
    pub fn revisions(&self) -> BTreeSet<Option<&str>> {
        let all = self.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
        all.map(|one| {
            one.metadata
                .filter_metadata
                .istio
                .workload
                .as_deref()
                .and_then(|text| text.split(';').nth(3))
                .map(names::revision_of)
        })
        .collect()
    }
}

impl Route {
    /// A route of a VirtualService (its path), which leads to one cluster or to several by weight, and is copied to others.
    pub fn new(
        name: String,
        config: Option<String>,
        (cluster, weights): (Option<String>, BTreeMap<String, i64>),
        mirrors: impl Iterator<Item = String>,
    ) -> Self {
        let clusters = weights.into_iter().map(|(name, weight)| Weighted { name, weight }).collect();
        let leads = Destinations {
            cluster,
            weighted_clusters: Clusters { clusters },
            request_mirror_policies: mirrors.map(|name| Weighted { name, weight: 0 }).collect(),
        };
        let metadata = Metadata { filter_metadata: FilterMetadata { istio: Istio { config, workload: None } } };
        Self { name, leads, metadata }
    }
}

/// What a proxy is to have, of a route that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Has {
    /// No part of it: the proxy sends nothing there.
    Nothing,
    /// Something else: what.
    Other(String),
    /// The route.
    Route,
}

/// What a proxy has of the route.
pub fn has(question: &Question, dump: &Dump) -> Has {
    let expected: Vec<Known<'_>> = question
        .virtual_services
        .iter()
        .flat_map(|from| from.splits.iter().map(move |split| Known { from, split }))
        .collect();
    let has: Vec<Found<'_>> = found(dump, question)
        .filter(|one| one.is_of(question) || !one.weights.is_empty())
        .filter(|one| one.is_of(question) || expected.iter().any(|known| one.may_be(known)))
        .collect();
    for one in &has {
        if !expected.iter().any(|known| one.may_be(known)) {
            return Has::Other(format!("the route {}", one.name));
        }
        if !expected.iter().any(|known| one.is(known)) {
            return Has::Other(told(&one.weights));
        }
        if let Some(port) = one.other_port {
            return Has::Other(format!("port {port}"));
        }
    }
    // A proxy has the VirtualServices of its gateways: each that it has must be there with what Serin writes in it.
    let has_of =
        |from: &Expected| has.iter().any(|one| expected.iter().any(|known| known.from == from && one.may_be(known)));
    // The rules of an HTTPRoute come and go together.
    let named =
        expected.iter().filter(|known| known.split.is_own && known.split.route.is_some() && !known.from.is_made);
    for known in named.filter(|known| has_of(known.from)) {
        if !has.iter().any(|one| one.is(known)) {
            return Has::Other(format!("no route {}", known.split.route.as_deref().unwrap_or_default()));
        }
    }
    if !expected.iter().any(|known| known.split.is_own && has.iter().any(|one| one.is(known))) {
        return Has::Nothing;
    }
    question.sides.iter().find_map(|side| wrong_endpoints(side, dump)).map_or(Has::Route, Has::Other)
}

/// A route that was asked about.
struct Known<'a> {
    from: &'a Expected,
    split: &'a ExpectedSplit,
}

/// A route of a proxy, as far as it leads to a side.
struct Found<'a> {
    name: &'a str,
    /// The path of its VirtualService, or of the root that names it as a delegate; TCP routes have none.
    config: Option<&'a str>,
    weights: BTreeMap<String, i64>,
    /// A port of a side that is not the one that was asked about.
    other_port: Option<&'a str>,
}

impl Found<'_> {
    /// Whether it may be this route of this VirtualService. A match's name follows the route's behind a dot. A delegate's
    /// has the root's path, and the name of the root's route before its own. What is made of an HTTPRoute has the rule's name.
    fn may_be(&self, known: &Known<'_>) -> bool {
        let name = known.split.route.as_deref().unwrap_or_default();
        let ends = |rest: &str| rest.is_empty() || rest.starts_with('.');
        match self.config {
            None => true,
            Some(_) if known.from.is_made => self.is_from(known.from) && self.name == name,
            Some(_) if self.is_from(known.from) => self.name.strip_prefix(name).is_some_and(ends),
            Some(_) => !name.is_empty() && self.name.split(&format!("-{name}")).skip(1).any(ends),
        }
    }

    fn is(&self, known: &Known<'_>) -> bool {
        self.may_be(known) && self.weights == known.split.weights
    }

    /// Whether it is of this VirtualService, or of one that is made of some HTTPRoute of the namespace.
    fn is_from(&self, from: &Expected) -> bool {
        let of_namespace = format!("/namespaces/{}/virtual-service/", from.namespace);
        let name = self.config.and_then(|config| config.split_once(&of_namespace)).map(|(_, name)| name);
        name.is_some_and(|name| if from.is_made { is_made(name) } else { name == from.name })
    }

    fn is_of(&self, question: &Question) -> bool {
        question.virtual_services.iter().any(|from| !from.is_made && self.is_from(from))
    }
}

/// Whether a VirtualService has a name that istiod gives to what it makes of HTTPRoutes, now and in earlier versions.
fn is_made(name: &str) -> bool {
    name.contains('~') || name.ends_with("istio-autogenerated-k8s-gateway")
}

fn found<'a>(dump: &'a Dump, question: &Question) -> impl Iterator<Item = Found<'a>> {
    let http = dump.configs.iter().flat_map(|config| &config.virtual_hosts).flat_map(|host| &host.routes);
    // A route without a VirtualService is the one that every Service has.
    let http = http.filter_map(|route| {
        let config = route.metadata.filter_metadata.istio.config.as_deref()?;
        Some((route.name.as_str(), Some(config), &route.leads))
    });
    let tcp = dump.configs.iter().flat_map(|config| &config.filter_chains).flat_map(|chain| &chain.filters);
    let tcp = tcp.map(|filter| ("", None, &filter.typed_config));
    let all = http.chain(tcp).map(|(name, config, route)| Found {
        name,
        config,
        weights: weights(route, &question.sides),
        other_port: other_port(route, question),
    });
    all.filter(|one| one.config.is_some() || one.weights.keys().any(|cluster| !cluster.starts_with('|')))
}

fn weights(route: &Destinations, sides: &[Side]) -> BTreeMap<String, i64> {
    let mut weights: BTreeMap<String, i64> = BTreeMap::new();
    let mut add = |cluster: &str, mark: &str, weight: i64| {
        if let Some(side) = sides.iter().find(|side| side.is(cluster)).filter(|_| weight > 0) {
            *weights.entry(format!("{mark}{}", side.cluster)).or_default() += weight;
        }
    };
    route.cluster.iter().for_each(|cluster| add(cluster, "", 100));
    route.weighted_clusters.clusters.iter().for_each(|one| add(&one.name, "", one.weight));
    for mirror in route.request_mirror_policies.iter().map(|one| one.name.as_str()).collect::<BTreeSet<_>>() {
        add(mirror, "~", 1);
    }
    weights
}

/// The port by which a route leads to a side, where that is not the one that was asked about.
fn other_port<'a>(route: &'a Destinations, question: &Question) -> Option<&'a str> {
    let wanted = question.port?.to_string();
    let weighted = route.weighted_clusters.clusters.iter().filter(|one| one.weight > 0);
    let named = weighted.chain(&route.request_mirror_policies).map(|one| &one.name).chain(&route.cluster);
    let mut sides = named.filter(|cluster| question.sides.iter().any(|side| side.is(cluster)));
    sides.find_map(|cluster| outbound(cluster).map(|(port, _)| port).filter(|port| *port != wanted))
}

/// The port of a cluster's name, and `subset|host`.
fn outbound(cluster: &str) -> Option<(&str, &str)> {
    cluster.strip_prefix("outbound|")?.split_once('|')
}

impl Side {
    fn is(&self, cluster: &str) -> bool {
        outbound(cluster).is_some_and(|(_, side)| side == self.cluster)
    }
}

fn told(weights: &BTreeMap<String, i64>) -> String {
    let side = |cluster: &str| cluster.split('|').find(|part| !part.is_empty()).unwrap_or_default().to_owned();
    weights.iter().map(|(cluster, weight)| format!("{} {weight}", side(cluster))).collect::<Vec<_>>().join(", ")
}

/// What is wrong with the endpoints of a side: none are there, or they are of another revision. A side that the proxy does
/// not have at all gets no requests from it.
fn wrong_endpoints(side: &Side, dump: &Dump) -> Option<String> {
    let revision = side.revision.as_deref()?;
    let clusters: Vec<&Config> = dump.configs.iter().filter(|config| side.is(&config.cluster_name)).collect();
    let revisions: BTreeSet<Option<&str>> = clusters.iter().flat_map(|config| config.revisions()).collect();
    let name = side.cluster.split('|').find(|part| !part.is_empty()).unwrap_or_default();
    if let Some(other) = revisions.iter().flatten().find(|other| **other != revision) {
        return Some(format!("{name} with pods of {other}"));
    }
    (side.has_pods && !clusters.is_empty() && revisions.is_empty()).then(|| format!("{name} without pods"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HOST: &str = "checkout.shop.svc.cluster.local";

    fn cluster(subset: &str) -> String {
        format!("outbound|80|{subset}|{HOST}")
    }

    /// A route of a VirtualService as a proxy has it.
    fn route(name: &str, of: &str, weights: &[(&str, i64)]) -> Value {
        let clusters: Vec<Value> =
            weights.iter().map(|(subset, weight)| json!({"name": cluster(subset), "weight": weight})).collect();
        let config = format!("/apis/networking.istio.io/v1/namespaces/shop/virtual-service/{of}");
        json!({
            "name": name, "route": {"weightedClusters": {"clusters": clusters}},
            "metadata": {"filterMetadata": {"istio": {"config": config}}},
        })
    }

    fn endpoints(subset: &str, revisions: &[&str]) -> Value {
        let endpoint = |revision: &&str| {
            let workload = format!("checkout-{revision};shop;checkout;{revision};Kubernetes");
            json!({"metadata": {"filterMetadata": {"istio": {"workload": workload}}}})
        };
        let endpoints: Vec<Value> = revisions.iter().map(endpoint).collect();
        json!({"clusterName": cluster(subset), "endpoints": [{"lbEndpoints": endpoints}]})
    }

    fn dump(routes: &[Value], others: &[Value]) -> Dump {
        // The route that every Service has, and one of another application, say nothing.
        let plain = json!({"name": "default", "route": {"cluster": cluster("")}});
        let mut configs = vec![json!({"virtualHosts": [{"routes": [plain]}, {"routes": routes}]})];
        configs.extend(others.iter().cloned());
        serde_json::from_value(json!({"configs": configs})).unwrap()
    }

    fn split(route: Option<&str>, weights: &[(&str, i64)]) -> ExpectedSplit {
        let weights = weights.iter().map(|(subset, weight)| (format!("{subset}|{HOST}"), *weight)).collect();
        ExpectedSplit { route: route.map(str::to_owned), weights, is_own: true }
    }

    /// The question of a VirtualService `checkout` with these routes, stable `a` and canary `b`.
    fn question(splits: Vec<ExpectedSplit>) -> Question {
        let side = |subset: &str, revision: &str| Side {
            cluster: format!("{subset}|{HOST}"),
            revision: Some(revision.to_owned()),
            has_pods: true,
        };
        Question {
            route: "line".into(),
            virtual_services: vec![Expected {
                namespace: "shop".into(),
                name: "checkout".into(),
                is_made: false,
                splits,
            }],
            sides: vec![
                side("stable", "a"),
                side("canary", "b"),
                Side { cluster: format!("|{HOST}"), revision: None, has_pods: false },
            ],
            port: None,
            is_http: true,
            ..Question::default()
        }
    }

    fn told(question: &Question, routes: &[Value], others: &[Value]) -> String {
        match has(question, &dump(routes, others)) {
            Has::Nothing => "nothing".into(),
            Has::Other(what) => what,
            Has::Route => "route".into(),
        }
    }

    #[test]
    fn weights_and_endpoints_are_compared() {
        let wanted = question(vec![split(Some("primary"), &[("stable", 80), ("canary", 20)])]);
        let both = [endpoints("stable", &["a", "a"]), endpoints("canary", &["b"])];
        let at = |stable, canary| route("primary", "checkout", &[("stable", stable), ("canary", canary)]);
        assert_eq!(told(&wanted, &[at(80, 20)], &both), "route");
        assert_eq!(
            told(&wanted, &[route("primary.match", "checkout", &[("stable", 80), ("canary", 20)])], &both),
            "route"
        );
        assert_eq!(told(&wanted, &[at(50, 50)], &both), "canary 50, stable 50");
        assert_eq!(told(&wanted, &[], &both), "nothing", "it sends nothing there");
        let late = [endpoints("stable", &["a"]), endpoints("canary", &["a"])];
        assert_eq!(told(&wanted, &[at(80, 20)], &late), "canary with pods of a");
        assert_eq!(
            told(&wanted, &[at(80, 20)], &[endpoints("stable", &["a"]), endpoints("canary", &[])]),
            "canary without pods"
        );
        assert_eq!(told(&wanted, &[at(80, 20)], &[]), "route", "a cluster that it does not have gets no requests");
    }

    #[test]
    fn a_route_that_goes_or_comes_is_seen() {
        let both = [endpoints("stable", &["a"]), endpoints("canary", &["b"])];
        let primary = || route("primary", "checkout", &[("stable", 100)]);
        let testers = || route("testers", "checkout", &[("canary", 100)]);
        let with =
            question(vec![split(Some("testers"), &[("canary", 100)]), split(Some("primary"), &[("stable", 100)])]);
        assert_eq!(told(&with, &[testers(), primary()], &both), "route");
        assert_eq!(told(&with, &[primary()], &both), "no route testers");
        let without = question(vec![split(Some("primary"), &[("stable", 100)])]);
        assert_eq!(told(&without, &[testers(), primary()], &both), "the route testers");
        // An owned route moves from the plain host to the subsets.
        let plain = route("primary", "checkout", &[("", 100)]);
        assert_eq!(told(&without, &[plain], &both), format!("{HOST} 100"));
    }

    /// A route that gets a port has the same weights as before.
    #[test]
    fn the_port_is_compared_where_one_is_named() {
        let at = |port| Question { port, ..question(vec![split(Some("serin"), &[("stable", 100)])]) };
        let both = [endpoints("stable", &["a"]), endpoints("canary", &["b"])];
        let serin = || route("serin", "checkout", &[("stable", 100)]);
        assert_eq!(told(&at(Some(80)), &[serin()], &both), "route");
        assert_eq!(told(&at(Some(8080)), &[serin()], &both), "port 80");
        // Which port others lead to is theirs.
        let other = route("other", "files", &[("stable", 100)]);
        assert_eq!(told(&at(Some(8080)), &[other], &both), "nothing");
        let mirror = || {
            let mut route = serin();
            route["route"]["requestMirrorPolicies"] = json!([{"cluster": format!("outbound|81|canary|{HOST}")}]);
            route
        };
        let copied = split(Some("serin"), &[("stable", 100)]);
        let copied = ExpectedSplit {
            weights: copied.weights.into_iter().chain([(format!("~canary|{HOST}"), 1)]).collect(),
            ..copied
        };
        let wanted = Question { port: Some(80), ..question(vec![copied]) };
        assert_eq!(told(&wanted, &[mirror()], &both), "port 81");
    }

    #[test]
    fn a_delegate_has_the_path_of_its_root() {
        let wanted = question(vec![split(Some("serin"), &[("stable", 100)])]);
        assert_eq!(told(&wanted, &[route("main-serin", "root", &[("stable", 100)])], &[]), "route");
        assert_eq!(told(&wanted, &[route("main-serin", "root", &[("canary", 100)])], &[]), "canary 100");
        assert_eq!(told(&wanted, &[route("main-serine", "root", &[("stable", 100)])], &[]), "nothing");
    }

    /// istiod makes a VirtualService for each parent and host of an HTTPRoute, and of several for one host a single one.
    #[test]
    fn what_is_made_of_an_http_route_has_the_rules_names() {
        let with = |splits| {
            let mut wanted = question(splits);
            wanted.virtual_services[0].is_made = true;
            wanted
        };
        let both = [("stable", 50), ("canary", 50)];
        let other = ExpectedSplit { is_own: false, ..split(Some("shop.checkout.1"), &[("stable", 100)]) };
        let wanted = with(vec![split(Some("primary"), &both), other]);
        let mesh = "shop~80~checkout.shop.svc.cluster.local";
        let gateway = "istio-system~gw-1~istio-autogenerated-k8s-gateway~http~checkout.example";
        for made in [mesh, gateway, "checkout-0-istio-autogenerated-k8s-gateway"] {
            assert_eq!(told(&wanted, &[route("primary", made, &both)], &[]), "route", "{made}");
            let late = route("primary", made, &[("stable", 80), ("canary", 20)]);
            assert_eq!(told(&wanted, std::slice::from_ref(&late), &[]), "canary 20, stable 80", "{made}");
            // One of two parents is behind.
            assert_eq!(told(&wanted, &[route("primary", mesh, &both), late], &[]), "canary 20, stable 80", "{made}");
        }
        // Rules that Serin does not edit, of the same HTTPRoute and of others.
        let fixed = || route("shop.checkout.1", mesh, &[("stable", 100)]);
        assert_eq!(told(&wanted, &[route("primary", mesh, &both), fixed()], &[]), "route");
        assert_eq!(told(&wanted, &[fixed()], &[]), "nothing");
        assert_eq!(told(&wanted, &[route("shop.other.0", mesh, &[("stable", 100)])], &[]), "nothing");
        // VirtualServices have names of their own, and a match's name is no rule's.
        assert_eq!(told(&wanted, &[route("primary", "checkout", &both)], &[]), "nothing");
        assert_eq!(told(&wanted, &[route("primary.match", mesh, &both)], &[]), "nothing");
        let stale = [endpoints("canary", &["a"])];
        assert_eq!(told(&wanted, &[route("primary", mesh, &both)], &stale), "canary with pods of a");
    }

    #[test]
    fn a_route_without_a_name_is_its_weights() {
        let other = ExpectedSplit { is_own: false, ..split(None, &[]) };
        let wanted = question(vec![other, split(None, &[("stable", 90), ("canary", 10)])]);
        let elsewhere = || {
            json!({"route": {"cluster": "outbound|80||files.shop.svc.cluster.local"}, "metadata": {"filterMetadata": {"istio":
                {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/checkout"}}}})
        };
        let at = |stable, canary| route("", "checkout", &[("stable", stable), ("canary", canary)]);
        assert_eq!(told(&wanted, &[elsewhere(), at(90, 10)], &[]), "route");
        assert_eq!(told(&wanted, &[elsewhere(), at(80, 20)], &[]), "canary 20, stable 80");
    }

    #[test]
    fn tcp_listeners_are_routes() {
        let wanted = Question { is_http: false, ..question(vec![split(None, &[("stable", 70), ("canary", 30)])]) };
        let listener = |weights: &[(&str, i64)]| {
            let clusters: Vec<Value> =
                weights.iter().map(|(subset, weight)| json!({"name": cluster(subset), "weight": weight})).collect();
            json!({"filterChains": [{"filters": [{"typedConfig": {"weightedClusters": {"clusters": clusters}}}]}]})
        };
        assert_eq!(told(&wanted, &[], &[listener(&[("stable", 70), ("canary", 30)])]), "route");
        assert_eq!(told(&wanted, &[], &[listener(&[("stable", 100)])]), "stable 100");
        let plain = json!({"filterChains": [{"filters": [{"typedConfig": {"cluster": cluster("")}}]}]});
        assert_eq!(told(&wanted, &[], &[plain]), "nothing");
    }
}
