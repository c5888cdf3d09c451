//! The route of a Rollout against the VirtualServices, DestinationRules and HTTPRoutes of the input, by the controller's own reading.

use std::collections::BTreeMap;

use serde_json::Value;

use super::find::{Found, Mark};
use super::input::{DESTINATION_RULE, HTTP_ROUTE, Kind, Object, SERVICE, VIRTUAL_SERVICE};
use super::name::{Missing, Target as Led, follow};
use super::rule;
use super::subject::{Subject, typed};
use crate::api::istio::{Protocol, full_host, service_of};
use crate::api::names;
use crate::api::watched::{DestinationRule, HttpRoute, Service, VirtualService};
use crate::plan::observed::Observed;
use crate::plan::route::{self, Leg, Problem, Route};
use crate::plan::strategy::{Pick, RouteKind, Routing, Strategy, Target};

/// Path of the route in a Rollout.
pub(super) const ISTIO: &str = "spec.strategy.canary.trafficRouting.istio";

/// Looks at the route of one Rollout.
pub(super) fn check(subject: &Subject<'_>, observed: &Observed, missing: &mut Vec<Missing>, found: &mut Found) {
    let Some(routing) = &subject.strategy.routing else { return };
    match routing {
        Routing::Owned { host, hosts, .. } => {
            follow_host(subject, (host, &format!("{ISTIO}.owned.host")), missing, found);
            for problem in read(subject, observed, routing.clone()).1 {
                let is_of_hosts = !hosts.is_empty() && problem.message.contains("already holds the host");
                let (path, told) = match problem.message.split_once(": ") {
                    Some((path, told)) if problem.reason == route::PORT_UNCLEAR => (path.to_owned(), told),
                    _ if is_of_hosts => (format!("{ISTIO}.owned.hosts"), problem.message.as_str()),
                    _ => (format!("{ISTIO}.owned"), problem.message.as_str()),
                };
                found.told(&rule::ROUTE, subject.object, &path, told);
            }
            check_delegate(subject, hosts, missing);
        }
        Routing::InPlace { targets, rule } => {
            let sides = Routing::InPlace { targets: Vec::new(), rule: rule.clone() };
            let can_read = rule.as_ref().is_none_or(|(name, ..)| {
                let path = format!("{ISTIO}.destinationRule.name");
                is_readable::<DestinationRule>(subject, (DESTINATION_RULE, name, &path), missing, found)
            });
            let known = if can_read { read(subject, observed, sides).1 } else { Vec::new() };
            let held = rule
                .as_ref()
                .and_then(|(name, ..)| subject.input.find(DESTINATION_RULE, &subject.object.namespace, name));
            for problem in &known {
                match held {
                    Some(held) => {
                        let path = if problem.reason == "RouteNotMergeable" {
                            "spec.workloadSelector"
                        } else {
                            "spec.subsets"
                        };
                        found.told(&rule::ROUTE, held, path, &problem.message);
                    }
                    None => found.told(&rule::ROUTE, subject.object, ISTIO, &problem.message),
                }
            }
            let with = |targets| Routing::InPlace { targets, rule: rule.clone() };
            check_targets(subject, observed, (targets, &with), missing, found);
        }
        Routing::Hosts { kind, targets, stable, canary } => {
            check_services(subject, observed, (stable, canary), missing, found);
            let with =
                |targets| Routing::Hosts { kind: *kind, targets, stable: stable.clone(), canary: canary.clone() };
            check_targets(subject, observed, (targets, &with), missing, found);
        }
    }
}

/// Reads a route as the controller does. A Service that is not in the input is told elsewhere.
fn read(subject: &Subject<'_>, observed: &Observed, routing: Routing) -> (Route, Vec<Problem>) {
    let strategy = Strategy { routing: Some(routing), ..subject.strategy.clone() };
    let (route, mut problems) = route::observe(observed, &strategy);
    problems.retain(|problem| problem.reason != "ServiceMissing" || !problem.message.contains("does not exist"));
    (route, problems)
}

/// Follows a host to its Service.
fn follow_host(subject: &Subject<'_>, (host, path): (&str, &str), missing: &mut Vec<Missing>, found: &mut Found) {
    let Some((name, namespace)) = service_of(host) else { return };
    if namespace == subject.object.namespace {
        follow(subject, (SERVICE, name, path), missing, found);
    }
}

/// Whether an object is in the input and can be read; tells why not.
fn is_readable<T: serde::de::DeserializeOwned>(
    subject: &Subject<'_>,
    name: (Kind, &str, &str),
    missing: &mut Vec<Missing>,
    found: &mut Found,
) -> bool {
    let Led::Found(object) = follow(subject, name, missing, found) else { return false };
    match typed::<T>(object) {
        Ok(_) => true,
        Err((path, message)) => {
            found.add(&rule::MALFORMED_OBJECT, object, &path, message);
            false
        }
    }
}

/// A route without hosts needs a root that delegates to it.
fn check_delegate(subject: &Subject<'_>, hosts: &[String], missing: &mut Vec<Missing>) {
    if !hosts.is_empty() {
        return;
    }
    let name = names::owned_route(&subject.object.name);
    let namespace = subject.object.namespace.as_str();
    let delegates = |object: &Object| {
        object.list("/spec/http").iter().any(|route| {
            let text = |key: &str| route.pointer(&format!("/delegate/{key}")).and_then(|value| value.as_str());
            text("name") == Some(name.as_str()) && text("namespace").unwrap_or(&object.namespace) == namespace
        })
    };
    if !subject.input.of(VIRTUAL_SERVICE).any(delegates) {
        missing.push(Missing::of("a VirtualService that delegates to", &name));
    }
}

/// The Services between which the weights lie. Serin creates one that is absent where it knows the ports.
fn check_services(
    subject: &Subject<'_>,
    observed: &Observed,
    (stable, canary): (&str, &str),
    missing: &mut Vec<Missing>,
    found: &mut Found,
) {
    let mut absent = Vec::new();
    for (field, name) in [("stableService", stable), ("canaryService", canary)] {
        let path = format!("spec.strategy.canary.{field}");
        if let Led::Found(service) = follow(subject, (SERVICE, name, &path), &mut absent, found)
            && let Err((path, message)) = typed::<Service>(service)
        {
            found.add(&rule::MALFORMED_OBJECT, service, &path, message);
        }
    }
    let kind = RouteKind::VirtualService;
    let sides = Routing::Hosts { kind, targets: Vec::new(), stable: stable.to_owned(), canary: canary.to_owned() };
    let (route, problems) = read(subject, observed, sides);
    problems.iter().for_each(|problem| {
        found.told(&rule::ROUTE, subject.object, "spec.strategy.canary.stableService", &problem.message);
    });
    if route.to_create.len() != absent.len() || absent.len() == 2 {
        missing.append(&mut absent);
    }
}

/// The VirtualServices or HTTPRoutes in Git, route by route.
fn check_targets(
    subject: &Subject<'_>,
    observed: &Observed,
    (targets, with): (&[Target], &dyn Fn(Vec<Target>) -> Routing),
    missing: &mut Vec<Missing>,
    found: &mut Found,
) {
    let sides = read(subject, observed, with(Vec::new())).1;
    for (index, target) in targets.iter().enumerate() {
        let base = base(subject, index);
        let (kind, path) = (kind_of(subject), format!("{base}.name"));
        let name = (of_input(kind), target.object.as_str(), path.as_str());
        let can_read = match kind {
            RouteKind::VirtualService => is_readable::<VirtualService>(subject, name, missing, found),
            RouteKind::HttpRoute => is_readable::<HttpRoute>(subject, name, missing, found),
        };
        if !can_read {
            continue;
        }
        let picks: Vec<Vec<Pick>> = match target.routes.as_slice() {
            [] => vec![Vec::new()],
            picks => picks.iter().map(|pick| vec![pick.clone()]).collect(),
        };
        for (at, picks) in picks.into_iter().enumerate() {
            let path = pick_path(&base, &target.routes, at);
            let narrow = Target { object: target.object.clone(), routes: picks };
            let (route, mut problems) = read(subject, observed, with(vec![narrow.clone()]));
            problems.retain(|problem| !sides.contains(problem));
            tell(subject, (&narrow, &path), &problems, found);
            check_rest(subject, &narrow, &route, found);
            for host in hosts(subject, &narrow, &route) {
                follow_host(subject, (&host, &path), missing, found);
            }
        }
    }
}

/// The kind of what Git holds of a Rollout's route.
fn kind_of(subject: &Subject<'_>) -> RouteKind {
    let in_git = subject.strategy.routing.as_ref().and_then(Routing::in_git);
    in_git.map_or(RouteKind::VirtualService, |(kind, _)| kind)
}

/// A kind of routes as the input has it.
pub(super) fn of_input(kind: RouteKind) -> Kind {
    match kind {
        RouteKind::VirtualService => VIRTUAL_SERVICE,
        RouteKind::HttpRoute => HTTP_ROUTE,
    }
}

/// The path of the reference to one VirtualService or HTTPRoute.
fn base(subject: &Subject<'_>, index: usize) -> String {
    let field = kind_of(subject).field();
    if subject.names_one() { field.to_owned() } else { format!("{field}s[{index}]") }
}

/// The path of the reference to one route: `routes[1]`, `tcpRoutes[0]`, or the whole where none is named.
fn pick_path(base: &str, picks: &[Pick], at: usize) -> String {
    let Some(pick) = picks.get(at) else { return format!("{base}.name") };
    let before = picks.iter().take(at).filter(|one| one.protocol() == pick.protocol()).count();
    let list = match pick {
        Pick::Named(_) => "routes",
        Pick::Tls(..) => "tlsRoutes",
        Pick::Tcp(_) => "tcpRoutes",
        Pick::Rule(_) => "rules",
    };
    format!("{base}.{list}[{before}]")
}

/// Tells problems where they are mended: in the VirtualService's route, where that is there, else at the reference.
fn tell(subject: &Subject<'_>, (target, path): (&Target, &str), problems: &[Problem], found: &mut Found) {
    let kind = kind_of(subject);
    let object = subject.input.find(of_input(kind), &subject.object.namespace, &target.object);
    let place = object.and_then(|object| {
        let list = kind.routes(Protocol::Http);
        let http = object.list(&format!("/spec/{list}"));
        let index = match target.routes.first() {
            Some(Pick::Named(name) | Pick::Rule(name)) => {
                http.iter().position(|route| route.get("name").and_then(|it| it.as_str()) == Some(name))
            }
            Some(Pick::Tls(..) | Pick::Tcp(_)) => None,
            None => (http.len() == 1).then_some(0),
        };
        Some((object, format!("spec.{list}[{}].{}", index?, kind.destinations())))
    });
    for problem in problems {
        match &place {
            Some((object, path)) => found.told(&rule::ROUTE, object, path, &problem.message),
            None => found.told(&rule::ROUTE, subject.object, path, &problem.message),
        }
    }
}

/// At rest a route in Git gives stable everything.
fn check_rest(subject: &Subject<'_>, target: &Target, route: &Route, found: &mut Found) {
    let Some(object) = subject.input.find(of_input(kind_of(subject)), &subject.object.namespace, &target.object) else {
        return;
    };
    for leg in &route.legs {
        let list = format!("spec.{}[{}].{}", leg.kind.routes(leg.protocol), leg.at, leg.kind.destinations());
        if leg.canary > 0 {
            let path = format!("{list}[{}].weight", leg.canary_at);
            let message = format!(
                "is {} at rest, where Serin writes what Git holds; both destinations lead to stable then",
                leg.canary
            );
            found.add_with(
                &rule::ROUTE_AT_REST,
                (object, &path, Mark::Value),
                message,
                "write 0, and give stable the rest",
            );
        } else if leg.stable != leg.share {
            let path = format!("{list}[{}].weight", leg.stable_at);
            let message = format!("is {}, and the weights of the route do not sum to 100", leg.stable);
            let fix = format!("write {}", leg.share);
            found.add_with(&rule::ROUTE_AT_REST, (object, &path, Mark::Value), message, &fix);
        } else if let Some(sum) = shares(object, leg).filter(|sum| *sum != 100) {
            let path = format!("{list}[{}].weight", leg.stable_at);
            let message = format!(
                "is a share of {sum}, and Serin writes percent: after a rollout the route is another than in Git"
            );
            let fix = format!("write {}, and 0 for the canary", leg.share);
            found.add_with(&rule::ROUTE_AT_REST, (object, &path, Mark::Value), message, &fix);
        }
    }
}

/// What the weights of an HTTPRoute's rule add up to; absent ones are 1.
fn shares(object: &Object, leg: &Leg) -> Option<i64> {
    if leg.kind != RouteKind::HttpRoute {
        return None;
    }
    let backends = object.list(&format!("/spec/rules/{}/backendRefs", leg.at));
    Some(backends.iter().map(|one| one.get("weight").and_then(Value::as_i64).unwrap_or(1)).sum())
}

/// The hosts that a route in Git leads to, in full.
fn hosts(subject: &Subject<'_>, target: &Target, route: &Route) -> Vec<String> {
    let object = subject.input.find(VIRTUAL_SERVICE, &subject.object.namespace, &target.object);
    let Some(typed) = object.and_then(|object| typed::<VirtualService>(object).ok()) else { return Vec::new() };
    let mut hosts: Vec<String> = route
        .legs
        .iter()
        .filter_map(|leg| typed.spec.routes(leg.protocol).get(leg.at)?.route.get(leg.stable_at))
        .map(|one| full_host(&one.destination.host, &subject.object.namespace))
        .collect();
    hosts.dedup();
    // The two Services are followed by themselves.
    if matches!(subject.strategy.routing, Some(Routing::Hosts { .. })) { Vec::new() } else { hosts }
}

/// The Services that a Rollout's route leads to, by name.
pub(super) fn services(subject: &Subject<'_>, observed: &Observed) -> Vec<String> {
    let own = |host: &str| {
        service_of(host).filter(|(_, of)| *of == subject.object.namespace).map(|(name, _)| name.to_owned())
    };
    match &subject.strategy.routing {
        None => Vec::new(),
        Some(Routing::Owned { host, .. }) => own(host).into_iter().collect(),
        Some(Routing::Hosts { stable, canary, .. }) => vec![stable.clone(), canary.clone()],
        Some(Routing::InPlace { targets, rule }) => {
            let of = |target: &Target| {
                let narrow = Routing::InPlace { targets: vec![target.clone()], rule: rule.clone() };
                hosts(subject, target, &read(subject, observed, narrow).0)
            };
            targets.iter().flat_map(of).filter_map(|host| own(&host)).collect()
        }
    }
}

/// What several Rollouts have in common and must not.
pub(super) fn check_all(subjects: &[Subject<'_>], found: &mut Found) {
    let mut taken: BTreeMap<String, &Subject<'_>> = BTreeMap::new();
    for subject in subjects {
        for (what, path) in claims(subject) {
            match taken.get(&what) {
                Some(other) if other.object.title() == subject.object.title() => {}
                Some(other) => {
                    let message = format!("{what} is {}'s, too", other.object.title());
                    found.add(&rule::ROUTE_SHARED, subject.object, &path, message);
                }
                None => {
                    taken.insert(what, subject);
                }
            }
        }
    }
    check_hosts(subjects, found);
}

/// What a Rollout writes, each with the path that says so.
fn claims(subject: &Subject<'_>) -> Vec<(String, String)> {
    let namespace = subject.object.namespace.as_str();
    let base = |index: usize| base(subject, index);
    let of_targets = |targets: &[Target]| -> Vec<(String, String)> {
        let mut claims = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let (kind, name) = (kind_of(subject), &target.object);
            if target.routes.is_empty() {
                claims.push((format!("the route of {kind} {namespace}/{name}"), format!("{}.name", base(index))));
            }
            for (at, pick) in target.routes.iter().enumerate() {
                let path = pick_path(&base(index), &target.routes, at);
                claims.push((format!("the {pick} of {kind} {namespace}/{name}"), path));
            }
        }
        claims
    };
    match &subject.strategy.routing {
        None => Vec::new(),
        Some(Routing::Owned { host, .. }) => vec![(format!("the host {host}"), format!("{ISTIO}.owned.host"))],
        Some(Routing::InPlace { targets, rule }) => {
            let rule = rule.iter().map(|(name, stable, _)| {
                (
                    format!("the subset {stable} of DestinationRule {namespace}/{name}"),
                    format!("{ISTIO}.destinationRule.stableSubsetName"),
                )
            });
            of_targets(targets).into_iter().chain(rule).collect()
        }
        Some(Routing::Hosts { targets, stable, canary, .. }) => {
            let services = [("stableService", stable), ("canaryService", canary)];
            let services = services
                .map(|(field, name)| (format!("Service {namespace}/{name}"), format!("spec.strategy.canary.{field}")));
            of_targets(targets).into_iter().chain(services).collect()
        }
    }
}

/// Two VirtualServices for one host in the mesh: a sidecar follows one of them.
fn check_hosts(subjects: &[Subject<'_>], found: &mut Found) {
    let named = |object: &Object| {
        subjects.iter().any(|subject| match subject.strategy.routing.as_ref().and_then(Routing::in_git) {
            Some((RouteKind::VirtualService, targets)) => {
                subject.object.namespace == object.namespace
                    && targets.iter().any(|target| target.object == object.name)
            }
            Some((RouteKind::HttpRoute, _)) | None => false,
        })
    };
    let Some(input) = subjects.first().map(|subject| subject.input) else { return };
    let mut held: BTreeMap<String, &Object> = BTreeMap::new();
    for object in input.of(VIRTUAL_SERVICE) {
        let Ok(typed) = typed::<VirtualService>(object) else { continue };
        if !typed.spec.gateways.is_empty() && !typed.spec.gateways.iter().any(|gateway| gateway == "mesh") {
            continue;
        }
        for (index, host) in typed.spec.hosts.iter().enumerate() {
            match held.get(&full_host(host, &object.namespace)) {
                Some(other) if named(object) || named(other) => {
                    let message =
                        format!("{host} is held by {}, too; a sidecar follows only one of them", other.title());
                    found.add(&rule::HOST_TWICE, object, &format!("spec.hosts[{index}]"), message);
                }
                Some(_) => {}
                None => {
                    held.insert(full_host(host, &object.namespace), object);
                }
            }
        }
    }
}
