//! Who follows the edited HTTPRoutes, and whether istiod can tell of all of them. It makes VirtualServices of its own of an
//! HTTPRoute; its proxies show the name of the rule, or the place of one that has none.

use super::question::listeners_of;
use super::{Leg, Route, rules};
use crate::api::gateway::{ParentRef, Rule};
use crate::api::istio::full_host;
use crate::api::watched::HttpRoute;
use crate::plan::observed::Observed;

/// The controller of the Gateway API that istiod is, for Gateways and for Services of the mesh.
const ISTIO: &str = "istio.io/gateway-controller";

/// Whether istiod can tell which proxies have the edited HTTPRoutes: nobody else follows them, its answer to Serin's stream tells
/// of every parent that is no Gateway, and no other rule looks as an edited one.
pub fn are_told_apart(observed: &Observed, route: &Route) -> bool {
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    let mut held = route.legs.iter().filter_map(|leg| Some((leg, rules::named(observed, namespace, &leg.object)?)));
    held.all(|(leg, one)| is_of_istio(one, namespace) && is_alone(observed, route, (leg, one)))
}

/// Whether nobody but istiod's proxies follows an HTTPRoute. Where no controller has answered yet, istiod may be the one.
fn is_of_istio(one: &HttpRoute, namespace: &str) -> bool {
    let is_known = |parent: &ParentRef| {
        // A Service of another namespace has the route for clients of this namespace alone, of which Serin is none.
        parent.is_gateway() || (parent.is_service() && parent.namespace(namespace) == namespace)
    };
    let answered = &one.status.parents;
    let has_answer = |parent: &ParentRef| {
        answered.is_empty() || answered.iter().any(|answer| answer.parent_ref.is(parent, namespace))
    };
    !one.spec.parent_refs.is_empty()
        && one.spec.parent_refs.iter().all(|parent| is_known(parent) && has_answer(parent))
        && answered.iter().all(|answer| answer.controller_name == ISTIO)
}

/// Whether no rule of another HTTPRoute has the name of an edited one and leads to one of the Services, unless it is edited to
/// the same weights.
fn is_alone(observed: &Observed, route: &Route, (leg, one): (&Leg, &HttpRoute)) -> bool {
    let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
    let backends = one.spec.rules.get(leg.at).map_or(&[][..], |rule| &rule.backend_refs);
    let sides = [leg.stable_at, leg.canary_at].map(|at| backends.get(at).map_or("", |backend| backend.name.as_str()));
    let leads =
        |rule: &Rule| rule.backend_refs.iter().any(|one| sides.iter().any(|side| one.is_service(side, namespace)));
    let is_as = |other: &HttpRoute, at: usize| {
        let edited = route.legs.iter().find(|leg| other.metadata.name.as_ref() == Some(&leg.object) && leg.at == at);
        edited.is_some_and(|other| (other.stable, other.canary) == (leg.stable, leg.canary))
    };
    let others = observed.http_routes.iter().filter(|other| other.metadata.name != one.metadata.name);
    let mut rules =
        others.flat_map(|other| other.spec.rules.iter().enumerate().map(move |(at, rule)| (other, at, rule)));
    leg.route.is_none() || rules.all(|(other, at, rule)| rule.name != leg.route || !leads(rule) || is_as(other, at))
}

/// The listeners of the mesh that have the routes of an HTTPRoute: those of the Services that it is for.
pub(super) fn listeners(observed: &Observed, one: &HttpRoute) -> Vec<String> {
    let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
    let services = one.spec.parent_refs.iter().filter(|parent| parent.is_service());
    let hosts = services.map(|parent| full_host(&parent.name, parent.namespace(namespace)));
    hosts.flat_map(|host| listeners_of(observed, &host)).collect()
}
