//! What a proxy must have, for the route to be in force there. Asked of whoever knows the proxies.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::read::{service_named, virtual_service_named};
use super::{RouteKind, Sides, in_place_host, names_of, parents, rules};
use crate::api::gateway::{BackendRef, Rule};
use crate::api::istio::{self, Protocol, full_host, service_of};
use crate::api::watched::{HttpRoute, VirtualService};
use crate::plan::course::Facts;
use crate::plan::observed::Observed;

/// Whether every proxy has this route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The route as one line; the answer is for this one alone.
    pub route: String,
    /// The VirtualServices that it is made of, and those that istiod makes of HTTPRoutes.
    pub virtual_services: Vec<Expected>,
    /// Both sides, and the plain host that both are subsets of.
    pub sides: Vec<Side>,
    /// Listeners of the mesh that may have its routes: `host:port` of each Service that a VirtualService is for, and of each side.
    pub listeners: BTreeSet<String>,
    /// Clusters of both sides: `outbound|port|subset|host`.
    pub clusters: BTreeSet<String>,
    /// The port at which they are reached, where Serin names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Whether all of its routes are HTTP.
    pub is_http: bool,
}

/// What a VirtualService becomes at a proxy, or an HTTPRoute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether istiod makes VirtualServices of it, under names of its own: it is an HTTPRoute.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_made: bool,
    /// Its routes.
    pub splits: Vec<Split>,
}

/// One route of a VirtualService.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name, where it has one.
    pub route: Option<String>,
    /// Weights above zero by side, none where it leads elsewhere, and 1 for a side behind `~` that gets copies.
    pub weights: BTreeMap<String, i64>,
    /// Whether Serin writes it.
    pub is_own: bool,
}

/// A subset, or a host, and the revision that its endpoints are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// `subset|host`, as the end of a cluster's name at a proxy; the port comes before it.
    pub cluster: String,
    /// The revision, where one is selected.
    pub revision: Option<String>,
    /// Whether that has ready pods.
    pub has_pods: bool,
}

impl Side {
    /// Its host.
    pub fn host(&self) -> &str {
        self.cluster.rsplit_once('|').map_or("", |(_, host)| host)
    }
}

/// The question about the route as observed; none where there is no route.
pub fn question(facts: &Facts<'_>) -> Option<Question> {
    let routing = facts.strategy.routing.as_ref()?;
    if facts.route.legs.is_empty() && !facts.route.is_plain {
        return None;
    }
    let metadata = &facts.observed.rollout.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let names = names_of(metadata.name.as_deref().unwrap_or_default(), routing);
    let is_of_subsets = matches!(names.sides, Sides::Subsets { .. });
    let host = in_place_host(facts.observed, routing, &facts.route).filter(|_| is_of_subsets);
    let host = host.map(|host| full_host(&host, namespace));
    let cluster = |side: &str| match &names.sides {
        Sides::Subsets { .. } => format!("{side}|{}", host.as_deref().unwrap_or_default()),
        Sides::Services { .. } => format!("|{}", full_host(side, namespace)),
    };
    let (stable, canary) = names.sides.both();
    let side = |name: &str, revision: &Option<String>| Side {
        cluster: cluster(name),
        revision: revision.clone(),
        has_pods: revision.as_ref().is_some_and(|hash| facts.pods_of(hash).ready > 0),
    };
    let mut sides = vec![side(stable, &facts.route.stable), side(canary, &facts.route.canary)];
    if let Some(host) = &host {
        sides.push(Side { cluster: format!("|{host}"), revision: None, has_pods: false });
    }
    let mut names_used: Vec<(RouteKind, String)> =
        facts.route.legs.iter().map(|leg| (leg.kind, leg.object.clone())).collect();
    let plain = names.virtual_service.filter(|_| facts.route.is_plain);
    names_used.extend(plain.map(|name| (RouteKind::VirtualService, name)));
    names_used.dedup();
    let of_kind = |kind: RouteKind| names_used.iter().filter(move |used| used.0 == kind).map(|(_, name)| name.as_str());
    let used: Vec<&VirtualService> = of_kind(RouteKind::VirtualService)
        .filter_map(|name| virtual_service_named(facts.observed, namespace, name))
        .collect();
    let http_routes: Vec<&HttpRoute> =
        of_kind(RouteKind::HttpRoute).filter_map(|name| rules::named(facts.observed, namespace, name)).collect();
    let clusters = sides.iter().filter(|side| side.revision.is_some()).flat_map(|side| {
        ports(facts.observed, side.host()).map(|port| format!("outbound|{port}|{}", side.cluster)).collect::<Vec<_>>()
    });
    let of_sides = sides.iter().flat_map(|side| {
        ports(facts.observed, side.host()).map(|port| format!("{}:{port}", side.host())).collect::<Vec<_>>()
    });
    let listeners = used.iter().flat_map(|one| listeners(facts.observed, one));
    let of_parents = http_routes.iter().flat_map(|one| parents::listeners(facts.observed, one));
    let expected = used.iter().map(|one| expected(facts, one, &sides));
    Some(Question {
        route: facts.route.line(),
        listeners: listeners.chain(of_parents).chain(of_sides).collect(),
        clusters: clusters.collect(),
        virtual_services: expected.chain(http_routes.iter().map(|one| made(facts, one, &sides))).collect(),
        is_http: facts.route.legs.iter().all(|leg| leg.protocol == Protocol::Http),
        port: facts.route.port.named,
        sides,
    })
}

/// The ports of the Service that a host is of.
fn ports<'a>(observed: &'a Observed, host: &str) -> impl Iterator<Item = i32> + 'a {
    let service = service_of(host).and_then(|(name, namespace)| service_named(observed, namespace, name));
    service.into_iter().flat_map(|service| &service.spec.ports).map(|port| port.port)
}

/// The listeners of the mesh that have the routes of a VirtualService; of a delegate those of its roots.
fn listeners(observed: &Observed, one: &VirtualService) -> Vec<String> {
    let (namespace, name) = (one.metadata.namespace.as_deref().unwrap_or_default(), one.metadata.name.as_deref());
    let is_root =
        |root: &&VirtualService| root.delegates().any(|known| Some(known) == name.map(|name| (namespace, name)));
    let roots = observed.virtual_services.iter().filter(is_root).filter(|_| one.spec.hosts.is_empty());
    let is_of_mesh =
        |one: &VirtualService| one.spec.gateways.is_empty() || one.spec.gateways.iter().any(|it| it == "mesh");
    let hosts = std::iter::once(one).chain(roots).filter(|one| is_of_mesh(one)).flat_map(|one| {
        let own = one.metadata.namespace.as_deref().unwrap_or_default();
        one.spec.hosts.iter().map(move |host| full_host(host, own))
    });
    hosts.flat_map(|host| listeners_of(observed, &host)).collect()
}

/// The listeners of the mesh for a host. One without a Service has its routes at those of port 80.
pub(super) fn listeners_of(observed: &Observed, host: &str) -> Vec<String> {
    let known: Vec<i32> = ports(observed, host).collect();
    let ports = if known.is_empty() { vec![80] } else { known };
    ports.into_iter().map(|port| format!("{host}:{port}")).collect()
}

fn expected(facts: &Facts<'_>, one: &VirtualService, sides: &[Side]) -> Expected {
    let name = one.metadata.name.clone().unwrap_or_default();
    let namespace = one.metadata.namespace.clone().unwrap_or_default();
    let is_own = |route: &istio::Route| {
        let is_front = facts.route.fronts.iter().flat_map(|front| &front.present).map(|present| &present.name);
        let is_leg = |leg: &super::Leg| {
            leg.object == name && one.spec.routes(leg.protocol).get(leg.at).is_some_and(|own| std::ptr::eq(own, route))
        };
        facts.route.is_plain
            || route.name.as_ref().is_some_and(|name| is_front.clone().any(|front| front == name))
            || facts.route.legs.iter().any(is_leg)
    };
    let split = |route: &istio::Route| Split {
        route: route.name.clone(),
        weights: weights(route, &namespace, sides),
        is_own: is_own(route),
    };
    Expected { splits: one.spec.all().map(split).collect(), is_made: false, namespace, name }
}

/// What istiod makes of an HTTPRoute: a rule without a name gets one of its place, and a single backend with weight has all.
fn made(facts: &Facts<'_>, one: &HttpRoute, sides: &[Side]) -> Expected {
    let name = one.metadata.name.clone().unwrap_or_default();
    let namespace = one.metadata.namespace.clone().unwrap_or_default();
    let split = |(at, rule): (usize, &Rule)| {
        let with_weight: Vec<&BackendRef> = rule.backend_refs.iter().filter(|one| one.share() > 0).collect();
        let mut weights: BTreeMap<String, i64> = BTreeMap::new();
        for backend in &with_weight {
            let is_it = |name: &str| backend.is_service(name, &namespace);
            let side = sides.iter().find(|side| service_of(side.host()).is_some_and(|(name, _)| is_it(name)));
            let share = if with_weight.len() == 1 { 100 } else { i64::from(backend.share()) };
            if let Some(side) = side {
                *weights.entry(side.cluster.clone()).or_default() += share;
            }
        }
        let is_own = facts.route.legs.iter().any(|leg| leg.object == name && leg.at == at);
        Split { route: Some(rule.name.clone().unwrap_or_else(|| format!("{namespace}.{name}.{at}"))), weights, is_own }
    };
    Expected { splits: one.spec.rules.iter().enumerate().map(split).collect(), is_made: true, namespace, name }
}

fn weights(route: &istio::Route, namespace: &str, sides: &[Side]) -> BTreeMap<String, i64> {
    let cluster = |destination: &istio::Destination| {
        let subset = destination.subset.as_deref().unwrap_or_default();
        format!("{subset}|{}", full_host(&destination.host, namespace))
    };
    let alone = if route.route.len() == 1 { 100 } else { 0 };
    let mut weights: BTreeMap<String, i64> = BTreeMap::new();
    for weighted in &route.route {
        *weights.entry(cluster(&weighted.destination)).or_default() += i64::from(weighted.weight.unwrap_or(alone));
    }
    weights.extend(route.mirror.iter().map(|mirror| (format!("~{}", cluster(mirror)), 1)));
    weights.retain(|cluster, weight| {
        *weight > 0 && sides.iter().any(|side| side.cluster == cluster.trim_start_matches('~'))
    });
    weights
}
