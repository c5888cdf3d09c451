//! The snapshot to one route, and why it cannot be used.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Leg, Names, Problem, Route, Sides, front, names_of, port, rules};
use crate::api::istio::{self, Destination, Protocol, full_host, service_of};
use crate::api::names;
use crate::api::watched::{DestinationRule, Service, ServicePort, VirtualService};
use crate::plan::observed::Observed;
use crate::plan::strategy::{Pick, RouteKind, Routing, Strategy, Target};

/// Reads the route from the snapshot; what could be read stands beside the problems.
pub fn observe(observed: &Observed, strategy: &Strategy) -> (Route, Vec<Problem>) {
    let Some(routing) = &strategy.routing else {
        return Default::default();
    };
    let rollout = observed.rollout.metadata.name.clone().unwrap_or_default();
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    let mut names = names_of(&rollout, routing);
    names.managed = observed.rollout.status.route.iter().flat_map(|route| &route.managed).cloned().collect();
    let mut route = Route::default();
    let mut problems = Vec::new();
    read_sides(observed, &namespace, (strategy, &names.sides), &mut route, &mut problems);
    match routing {
        Routing::Owned { host, hosts, gateways, port } => {
            read_owned(observed, &namespace, &names, &mut route, &mut problems);
            problems.extend(taken_hosts(observed, &namespace, &names, hosts, gateways));
            problems.extend(port::read(observed, &namespace, (&names, host, *port), &mut route).err());
            route.has_root = hosts.is_empty().then(|| has_root(observed, &namespace, &names));
        }
        Routing::Hosts { kind: RouteKind::HttpRoute, targets, .. } => {
            for target in targets {
                rules::read(observed, &namespace, (&names.sides, target), &mut route, &mut problems);
            }
        }
        Routing::InPlace { targets, .. } | Routing::Hosts { kind: RouteKind::VirtualService, targets, .. } => {
            for target in targets {
                read_in_place(observed, &namespace, &names, target, &mut route, &mut problems);
                let virtual_service = virtual_service_named(observed, &namespace, &target.object);
                route.collisions.extend(virtual_service.into_iter().flat_map(|one| collisions(one, &names, strategy)));
            }
            problems.extend(not_http(&route, strategy));
        }
    }
    (route, problems)
}

/// Names of header and mirror routes that routes in Git have.
fn collisions(virtual_service: &VirtualService, names: &Names, strategy: &Strategy) -> Vec<String> {
    let name = virtual_service.metadata.name.as_deref().unwrap_or_default();
    let has = |route: &str| virtual_service.spec.http.iter().any(|one| one.name.as_deref() == Some(route));
    let new = strategy.managed_names().into_iter().filter(|(route, _)| !names.managed.contains(*route) && has(route));
    new.map(|(route, path)| {
        format!("{path}: VirtualService {name} has an HTTP route named {route} already; choose another name")
    })
    .collect()
}

/// Header and mirror routes need HTTP routes.
fn not_http(route: &Route, strategy: &Strategy) -> Option<Problem> {
    let leg = route.legs.iter().find(|leg| leg.protocol != Protocol::Http)?;
    let (name, path) = strategy.managed_names().into_iter().next()?;
    let message = format!(
        "VirtualService {} has {} routes, and {name} ({path}) is for HTTP only; remove the step",
        leg.object,
        leg.protocol.field().to_uppercase()
    );
    Some(Problem::missing(message))
}

fn find<'a, T>(
    objects: &'a [T],
    meta: impl Fn(&T) -> (Option<&str>, Option<&str>),
    namespace: &str,
    name: &str,
) -> Option<&'a T> {
    objects.iter().find(|object| meta(object) == (Some(namespace), Some(name)))
}

pub(super) fn rule_named<'a>(observed: &'a Observed, namespace: &str, name: &str) -> Option<&'a DestinationRule> {
    find(
        &observed.destination_rules,
        |rule| (rule.metadata.namespace.as_deref(), rule.metadata.name.as_deref()),
        namespace,
        name,
    )
}

pub(super) fn virtual_service_named<'a>(
    observed: &'a Observed,
    namespace: &str,
    name: &str,
) -> Option<&'a VirtualService> {
    find(
        &observed.virtual_services,
        |one| (one.metadata.namespace.as_deref(), one.metadata.name.as_deref()),
        namespace,
        name,
    )
}

/// The metadata of the object that holds a leg.
pub fn holder<'a>(observed: &'a Observed, leg: &Leg) -> Option<&'a ObjectMeta> {
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    match leg.kind {
        RouteKind::VirtualService => virtual_service_named(observed, namespace, &leg.object).map(|one| &one.metadata),
        RouteKind::HttpRoute => rules::named(observed, namespace, &leg.object).map(|one| &one.metadata),
    }
}

/// Whether the objects to edit are all gone, so that requests go to the Service and to every pod behind it.
pub fn is_gone(observed: &Observed, routing: &Routing) -> bool {
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    match routing {
        Routing::InPlace { targets, .. } | Routing::Hosts { kind: RouteKind::VirtualService, targets, .. } => {
            targets.iter().all(|target| virtual_service_named(observed, namespace, &target.object).is_none())
        }
        Routing::Hosts { kind: RouteKind::HttpRoute, targets, .. } => {
            targets.iter().all(|target| rules::named(observed, namespace, &target.object).is_none())
        }
        // Serin creates its own again.
        Routing::Owned { .. } => false,
    }
}

pub(super) fn service_named<'a>(observed: &'a Observed, namespace: &str, name: &str) -> Option<&'a Service> {
    find(&observed.services, |one| (one.metadata.namespace.as_deref(), one.metadata.name.as_deref()), namespace, name)
}

fn read_sides(
    observed: &Observed,
    namespace: &str,
    (strategy, sides): (&Strategy, &Sides),
    route: &mut Route,
    problems: &mut Vec<Problem>,
) {
    match sides {
        Sides::Subsets { rule, owns_rule, stable, canary } => {
            read_rule(observed, (namespace, rule, *owns_rule), (stable, canary), route, problems);
        }
        Sides::Services { stable, canary } => {
            for (name, other) in [(stable, canary), (canary, stable)] {
                let Some(service) = service_named(observed, namespace, name) else {
                    let ports = service_named(observed, namespace, other)
                        .map_or_else(|| template_ports(strategy), |other| other.spec.ports.clone());
                    if ports.is_empty() {
                        problems.push(Problem {
                            reason: "ServiceMissing",
                            message: format!("Service {name} does not exist, and no container names a port for one; create the Service"),
                        });
                    } else {
                        route.to_create.push((name.clone(), ports));
                    }
                    continue;
                };
                if service.spec.selector.is_empty() {
                    problems.push(Problem {
                        reason: "ServiceMissing",
                        message: format!("Service {name} has no selector, so that it cannot lead to one revision; give it the pods' labels"),
                    });
                }
                let hash = service.spec.selector.get(names::REVISION_HASH).cloned();
                *(if name == stable { &mut route.stable } else { &mut route.canary }) = hash;
            }
            route.has_rule = route.to_create.is_empty();
        }
    }
}

/// Ports for a Service of the template's pods.
fn template_ports(strategy: &Strategy) -> Vec<ServicePort> {
    let containers =
        strategy.template.as_ref().and_then(|template| template.pointer("/spec/containers")?.as_array()).into_iter();
    let ports = containers.flatten().filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports
        .filter_map(|port| {
            let number = i32::try_from(port.get("containerPort")?.as_i64()?).ok()?;
            let name = port.get("name").and_then(Value::as_str).map_or_else(|| format!("port-{number}"), str::to_owned);
            Some(ServicePort { name: Some(name), port: number, ..ServicePort::default() })
        })
        .collect()
}

fn read_rule(
    observed: &Observed,
    (namespace, name, is_owned): (&str, &str, bool),
    (stable, canary): (&str, &str),
    route: &mut Route,
    problems: &mut Vec<Problem>,
) {
    let Some(rule) = rule_named(observed, namespace, name) else {
        if !is_owned {
            problems.push(Problem::missing(format!(
                "DestinationRule {name} does not exist; create it with the subsets {stable} and {canary}"
            )));
        }
        return;
    };
    if is_owned && !is_ours(observed, &rule.metadata) {
        problems.push(Problem {
            reason: "RouteTaken",
            message: format!("DestinationRule {name} exists and is not this Rollout's; delete or rename it"),
        });
        return;
    }
    route.has_rule = true;
    let hash = |name: &str| {
        rule.spec
            .subsets
            .iter()
            .find(|subset| subset.name == name)
            .map(|subset| subset.labels.get(names::REVISION_HASH).cloned())
    };
    for (subset, slot) in [(stable, &mut route.stable), (canary, &mut route.canary)] {
        match hash(subset) {
            Some(found) => *slot = found,
            None if is_owned => {}
            None => problems.push(Problem::missing(format!("DestinationRule {name} has no subset {subset}; add it"))),
        }
    }
    if rule.spec.workload_selector.is_some() {
        problems.push(Problem {
            reason: "RouteNotMergeable",
            message: format!("DestinationRule {name} has a workloadSelector, so that its subsets do not hold for every client; remove the workloadSelector"),
        });
    }
}

/// Whether an object's controller is this Rollout.
pub(super) fn is_ours(observed: &Observed, metadata: &ObjectMeta) -> bool {
    let uid = observed.rollout.metadata.uid.as_deref();
    metadata.owner_references.iter().flatten().any(|owner| Some(owner.uid.as_str()) == uid)
}

fn read_owned(observed: &Observed, namespace: &str, names: &Names, route: &mut Route, problems: &mut Vec<Problem>) {
    let Some(name) = &names.virtual_service else {
        return;
    };
    let Some(virtual_service) = virtual_service_named(observed, namespace, name) else {
        return;
    };
    if !is_ours(observed, &virtual_service.metadata) {
        problems.push(Problem {
            reason: "RouteTaken",
            message: format!("VirtualService {name} exists and is not this Rollout's; delete or rename it"),
        });
        return;
    }
    let legs = legs(virtual_service, names, &[], None);
    match legs {
        Ok(legs) => {
            route.fronts.extend(front::read(virtual_service, names, &legs));
            route.legs.extend(legs);
        }
        Err(_) => {
            route.is_plain = true;
            route.legs.clear();
        }
    }
}

/// Whether a root names the owned VirtualService as a delegate.
fn has_root(observed: &Observed, namespace: &str, names: &Names) -> bool {
    let mut delegates = observed.virtual_services.iter().flat_map(VirtualService::delegates);
    delegates.any(|one| (one.0, Some(one.1)) == (namespace, names.virtual_service.as_deref()))
}

fn read_in_place(
    observed: &Observed,
    namespace: &str,
    names: &Names,
    target: &Target,
    route: &mut Route,
    problems: &mut Vec<Problem>,
) {
    let name = &target.object;
    let Some(virtual_service) = virtual_service_named(observed, namespace, name) else {
        let snippet = match &names.sides {
            Sides::Subsets { stable, canary, .. } => format!(
                "route: [{{destination: {{host: …, subset: {stable}}}, weight: 100}}, {{destination: {{host: …, subset: {canary}}}, weight: 0}}]"
            ),
            Sides::Services { stable, canary } => format!(
                "route: [{{destination: {{host: {stable}}}, weight: 100}}, {{destination: {{host: {canary}}}, weight: 0}}]"
            ),
        };
        problems.push(Problem::missing(format!("VirtualService {name} does not exist; create it with {snippet}")));
        return;
    };
    let host = match &names.sides {
        Sides::Subsets { rule, owns_rule: false, .. } => {
            rule_named(observed, namespace, rule).map(|rule| full_host(&rule.spec.host, namespace))
        }
        Sides::Subsets { owns_rule: true, .. } | Sides::Services { .. } => None,
    };
    match legs(virtual_service, names, &target.routes, host.as_deref()) {
        Ok(legs) => {
            let is_of_subsets = matches!(names.sides, Sides::Subsets { .. });
            if let Some(host) = host_of(virtual_service, &legs).filter(|_| is_of_subsets) {
                problems.extend(service_problem(observed, &full_host(&host, namespace)));
            }
            route.fronts.extend(front::read(virtual_service, names, &legs));
            route.legs.extend(legs);
        }
        Err(problem) => problems.push(problem),
    }
}

fn host_of(virtual_service: &VirtualService, legs: &[Leg]) -> Option<String> {
    let leg = legs.first()?;
    let route = virtual_service.spec.routes(leg.protocol).get(leg.at)?;
    Some(route.route.get(leg.stable_at)?.destination.host.clone())
}

/// The host that an in-place route leads to, for the DestinationRule that Serin owns.
pub fn in_place_host(observed: &Observed, routing: &Routing, route: &Route) -> Option<String> {
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    match routing {
        Routing::Owned { host, .. } => Some(host.clone()),
        Routing::InPlace { .. } | Routing::Hosts { .. } => {
            let leg = route.legs.first()?;
            let virtual_service = virtual_service_named(observed, &namespace, &leg.object)?;
            host_of(virtual_service, std::slice::from_ref(leg)).map(|host| full_host(&host, &namespace))
        }
    }
}

/// The routes of one VirtualService that are edited.
fn legs(
    virtual_service: &VirtualService,
    names: &Names,
    picks: &[Pick],
    host: Option<&str>,
) -> Result<Vec<Leg>, Problem> {
    let name = virtual_service.metadata.name.clone().unwrap_or_default();
    let namespace = virtual_service.metadata.namespace.clone().unwrap_or_default();
    let behind =
        |index: usize| virtual_service.spec.http.iter().take(index).filter(|one| names.is_managed(one)).count();
    chosen(virtual_service, names, picks)?
        .into_iter()
        .map(|(protocol, index, route)| {
            let at = |side: &str| position(route, side, (&names.sides, host), &namespace);
            let (stable, canary) = names.sides.both();
            let (Some(stable_at), Some(canary_at)) = (at(stable), at(canary)) else {
                let missing = if at(stable).is_none() { stable } else { canary };
                let what = match names.sides {
                    Sides::Subsets { .. } => "destination with subset",
                    Sides::Services { .. } => "destination with host",
                };
                return Err(Problem::missing(format!(
                    "VirtualService {name} {}[{index}] has no {what} {missing}; add it",
                    protocol.field()
                )));
            };
            let leg = leg(virtual_service, (protocol, index, route), (stable_at, canary_at))?;
            let behind = if protocol == Protocol::Http { behind(index) } else { 0 };
            Ok(Leg { behind, ..leg })
        })
        .collect()
}

/// The routes that are picked, or the only one there is.
fn chosen<'a>(
    virtual_service: &'a VirtualService,
    names: &Names,
    picks: &[Pick],
) -> Result<Vec<(Protocol, usize, &'a istio::Route)>, Problem> {
    let name = virtual_service.metadata.name.as_deref().unwrap_or_default();
    let spec = &virtual_service.spec;
    let of = |protocol: Protocol| {
        spec.routes(protocol).iter().enumerate().map(move |(index, route)| (protocol, index, route))
    };
    if picks.is_empty() {
        let http: Vec<_> = of(Protocol::Http).filter(|(_, _, route)| !names.is_managed(route)).collect();
        let all = if http.is_empty() { of(Protocol::Tls).chain(of(Protocol::Tcp)).collect() } else { http };
        return match all.as_slice() {
            [_] => Ok(all),
            [] => Err(Problem::missing(format!("VirtualService {name} has no route; add one"))),
            [(protocol, ..), ..] => Err(Problem::missing(format!(
                "VirtualService {name} has {} {} routes; name the ones to shift in `{}`",
                all.len(),
                protocol.field().to_uppercase(),
                if *protocol == Protocol::Http { "routes" } else { "tlsRoutes or tcpRoutes" }
            ))),
        };
    }
    let mut chosen: Vec<(Protocol, usize, &istio::Route)> = Vec::new();
    for pick in picks {
        let found: Vec<_> = of(pick.protocol()).filter(|(_, _, route)| is_picked(pick, route)).collect();
        if found.is_empty() {
            return Err(Problem::missing(format!(
                "VirtualService {name} has no {pick}; add it, or correct the reference"
            )));
        }
        let is_new = |one: &(Protocol, usize, &istio::Route)| {
            !chosen.iter().any(|(protocol, index, _)| (*protocol, *index) == (one.0, one.1))
        };
        let new: Vec<_> = found.into_iter().filter(is_new).collect();
        chosen.extend(new);
    }
    Ok(chosen)
}

fn is_picked(pick: &Pick, route: &istio::Route) -> bool {
    match pick {
        Pick::Named(name) => route.name.as_ref() == Some(name),
        Pick::Tls(port, hosts) => route.matches.iter().any(|one| {
            let same_hosts = hosts.as_ref().is_none_or(|hosts| {
                hosts.len() == one.sni_hosts.len() && hosts.iter().all(|host| one.sni_hosts.contains(host))
            });
            same_hosts && port.is_none_or(|port| one.port == Some(port))
        }),
        Pick::Tcp(port) => route.matches.iter().any(|one| one.port == Some(*port)),
        Pick::Rule(_) => false,
    }
}

fn position(route: &istio::Route, side: &str, (sides, host): (&Sides, Option<&str>), namespace: &str) -> Option<usize> {
    let is_it = |destination: &Destination| match sides {
        Sides::Subsets { .. } => {
            destination.subset.as_deref() == Some(side)
                && host.is_none_or(|host| full_host(&destination.host, namespace) == host)
        }
        Sides::Services { .. } => {
            destination.subset.is_none() && full_host(&destination.host, namespace) == full_host(side, namespace)
        }
    };
    route.route.iter().position(|weighted| is_it(&weighted.destination))
}

fn leg(
    virtual_service: &VirtualService,
    (protocol, index, route): (Protocol, usize, &istio::Route),
    (stable_at, canary_at): (usize, usize),
) -> Result<Leg, Problem> {
    let name = virtual_service.metadata.name.clone().unwrap_or_default();
    let weight = |at: usize| route.route.get(at).and_then(|weighted| weighted.weight).unwrap_or(0);
    let foreign: i32 = (0..route.route.len()).filter(|at| *at != stable_at && *at != canary_at).map(weight).sum();
    if !(0..=100).contains(&foreign) {
        return Err(Problem {
            reason: "RouteMissing",
            message: format!(
                "VirtualService {name} {}[{index}] gives {foreign} percent to other destinations; leave some for stable and canary",
                protocol.field()
            ),
        });
    }
    Ok(Leg {
        kind: RouteKind::VirtualService,
        object: name,
        version: virtual_service.metadata.resource_version.clone().unwrap_or_default(),
        protocol,
        at: index,
        behind: 0,
        route: route.name.clone(),
        stable_at,
        canary_at,
        canary: weight(canary_at),
        stable: weight(stable_at),
        share: 100 - foreign,
    })
}

/// Hosts of an owned VirtualService that another one holds at the same gateway.
fn taken_hosts(
    observed: &Observed,
    namespace: &str,
    names: &Names,
    hosts: &[String],
    gateways: &[String],
) -> Option<Problem> {
    let gateways_of = |gateways: &[String], namespace: &str| -> Vec<String> {
        if gateways.is_empty() {
            return vec!["mesh".into()];
        }
        gateways
            .iter()
            .map(|gateway| {
                if gateway == "mesh" || gateway.contains('/') {
                    gateway.clone()
                } else {
                    format!("{namespace}/{gateway}")
                }
            })
            .collect()
    };
    let ours = gateways_of(gateways, namespace);
    observed.virtual_services.iter().find_map(|other| {
        let other_namespace = other.metadata.namespace.as_deref().unwrap_or_default();
        let other_name = other.metadata.name.as_deref().unwrap_or_default();
        if other_namespace == namespace && Some(other_name) == names.virtual_service.as_deref() {
            return None;
        }
        let theirs: Vec<String> = other.spec.hosts.iter().map(|host| full_host(host, other_namespace)).collect();
        let host = hosts.iter().find(|host| theirs.contains(&full_host(host, namespace)))?;
        let shared = gateways_of(&other.spec.gateways, other_namespace).iter().any(|gateway| ours.contains(gateway));
        shared.then(|| Problem {
            reason: "RouteTaken",
            message: format!("VirtualService {other_namespace}/{other_name} already holds the host {host}; remove the host there, or edit it in place with `virtualService`"),
        })
    })
}

pub(super) fn service_problem(observed: &Observed, host: &str) -> Option<Problem> {
    let (name, namespace) = service_of(host)?;
    let exists = observed.services.iter().any(|service| {
        service.metadata.name.as_deref() == Some(name) && service.metadata.namespace.as_deref() == Some(namespace)
    });
    (!exists).then(|| Problem {
        reason: "ServiceMissing",
        message: format!("Service {namespace}/{name} does not exist; create it"),
    })
}
