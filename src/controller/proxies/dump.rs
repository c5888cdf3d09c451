//! What istiod generates for one proxy, and whether that is the route that was asked about.
//!
//! `/debug/config_dump?types=rds,lds,eds` answers Envoy's resources as protobuf's JSON. A cluster is named
//! `outbound|PORT|SUBSET|HOST`; a route's metadata tell its VirtualService, an endpoint's its revision:
//! `istio.workload` is `workload;namespace;canonical name;canonical revision;cluster`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::plan::route::{Expected, ExpectedSplit, Question, Side};

/// The resources of one proxy, as far as routes depend on them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dump {
    configs: Vec<Config>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    virtual_hosts: Vec<VirtualHost>,
    filter_chains: Vec<FilterChain>,
    cluster_name: String,
    endpoints: Vec<Locality>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VirtualHost {
    routes: Vec<Route>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Route {
    name: String,
    route: Destinations,
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Destinations {
    cluster: Option<String>,
    weighted_clusters: Clusters,
    request_mirror_policies: Vec<Weighted>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Clusters {
    clusters: Vec<Weighted>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Weighted {
    #[serde(alias = "cluster")]
    name: String,
    weight: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FilterChain {
    filters: Vec<Filter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    typed_config: Destinations,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Locality {
    lb_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    filter_metadata: FilterMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FilterMetadata {
    istio: Istio,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Istio {
    config: Option<String>,
    workload: Option<String>,
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
    }
    // A proxy has the VirtualServices of its gateways: each that it has must be there with what Serin writes in it.
    let has_of =
        |from: &Expected| has.iter().any(|one| expected.iter().any(|known| known.from == from && one.may_be(known)));
    let named = expected.iter().filter(|known| known.split.is_own && known.split.route.is_some());
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
}

impl Found<'_> {
    /// Whether it may be this route of this VirtualService. A match's name follows the route's behind a dot. A delegate's
    /// has the root's path, and the name of the root's route before its own.
    fn may_be(&self, known: &Known<'_>) -> bool {
        let name = known.split.route.as_deref().unwrap_or_default();
        let ends = |rest: &str| rest.is_empty() || rest.starts_with('.');
        match self.config {
            None => true,
            Some(_) if self.is_from(known.from) => self.name.strip_prefix(name).is_some_and(ends),
            Some(_) => !name.is_empty() && self.name.split(&format!("-{name}")).skip(1).any(ends),
        }
    }

    fn is(&self, known: &Known<'_>) -> bool {
        self.may_be(known) && self.weights == known.split.weights
    }

    fn is_from(&self, from: &Expected) -> bool {
        let path = format!("/namespaces/{}/virtual-service/{}", from.namespace, from.name);
        self.config.is_some_and(|config| config.ends_with(&path))
    }

    fn is_of(&self, question: &Question) -> bool {
        question.virtual_services.iter().any(|from| self.is_from(from))
    }
}

fn found<'a>(dump: &'a Dump, question: &Question) -> impl Iterator<Item = Found<'a>> {
    let http = dump.configs.iter().flat_map(|config| &config.virtual_hosts).flat_map(|host| &host.routes);
    let http =
        http.map(|route| (route.name.as_str(), route.metadata.filter_metadata.istio.config.as_deref(), &route.route));
    let tcp = dump.configs.iter().flat_map(|config| &config.filter_chains).flat_map(|chain| &chain.filters);
    let tcp = tcp.map(|filter| ("", None, &filter.typed_config));
    http.chain(tcp).map(|(name, config, route)| Found { name, config, weights: weights(route, &question.sides) })
}

fn weights(route: &Destinations, sides: &[Side]) -> BTreeMap<String, i64> {
    let mut weights: BTreeMap<String, i64> = BTreeMap::new();
    let mut add = |cluster: &str, mark: &str, weight: i64| {
        let side = sides.iter().find(|side| outbound(cluster) == Some(side.cluster.as_str())).filter(|_| weight > 0);
        if let Some(side) = side {
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

/// `subset|host` of a cluster's name.
fn outbound(cluster: &str) -> Option<&str> {
    cluster.strip_prefix("outbound|")?.split_once('|').map(|(_, rest)| rest)
}

fn told(weights: &BTreeMap<String, i64>) -> String {
    let side = |cluster: &str| cluster.split('|').find(|part| !part.is_empty()).unwrap_or_default().to_owned();
    weights.iter().map(|(cluster, weight)| format!("{} {weight}", side(cluster))).collect::<Vec<_>>().join(", ")
}

/// What is wrong with the endpoints of a side: none are there, or they are of another revision. A side that the proxy does
/// not have at all gets no requests from it.
fn wrong_endpoints(side: &Side, dump: &Dump) -> Option<String> {
    let revision = side.revision.as_deref()?;
    let clusters: Vec<&Config> =
        dump.configs.iter().filter(|config| outbound(&config.cluster_name) == Some(side.cluster.as_str())).collect();
    let all = clusters.iter().flat_map(|config| &config.endpoints).flat_map(|locality| &locality.lb_endpoints);
    let revisions: BTreeSet<Option<&str>> = all
        .map(|one| one.metadata.filter_metadata.istio.workload.as_deref().and_then(|text| text.split(';').nth(3)))
        .collect();
    let name = side.cluster.split('|').find(|part| !part.is_empty()).unwrap_or_default();
    if let Some(other) = revisions.iter().flatten().find(|other| **other != revision) {
        return Some(format!("{name} with pods of {other}"));
    }
    (side.has_pods && !clusters.is_empty() && revisions.is_empty()).then(|| format!("{name} without pods"))
}
