//! HTTPRoutes to legs of the route. Weights of a rule are shares of their sum, which Serin reads as percent: what it writes adds
//! up to 100.

use super::{Leg, Problem, Route, Sides};
use crate::api::gateway::{ParentStatus, Rule};
use crate::api::istio::Protocol;
use crate::api::watched::HttpRoute;
use crate::plan::observed::Observed;
use crate::plan::strategy::{Pick, RouteKind, Target};

/// Said where a controller refuses the route at one of its parents.
pub const REJECTED: &str = "RouteRejected";

/// What controllers say of a route that concerns its backends.
const CONDITIONS: [&str; 2] = ["Accepted", "ResolvedRefs"];

pub(super) fn named<'a>(observed: &'a Observed, namespace: &str, name: &str) -> Option<&'a HttpRoute> {
    let is_it = |one: &&HttpRoute| {
        (one.metadata.namespace.as_deref(), one.metadata.name.as_deref()) == (Some(namespace), Some(name))
    };
    observed.http_routes.iter().find(is_it)
}

/// Reads one HTTPRoute that Git holds.
pub(super) fn read(
    observed: &Observed,
    namespace: &str,
    (sides, target): (&Sides, &Target),
    route: &mut Route,
    problems: &mut Vec<Problem>,
) {
    let name = &target.object;
    let (stable, canary) = sides.both();
    let Some(http_route) = named(observed, namespace, name) else {
        problems.push(Problem::missing(format!(
            "HTTPRoute {name} does not exist; create it with backendRefs: [{{name: {stable}, port: …, weight: 100}}, {{name: {canary}, port: …, weight: 0}}]"
        )));
        return;
    };
    match legs(http_route, (stable, canary), &target.routes) {
        Ok(legs) => route.legs.extend(legs),
        Err(problem) => problems.push(problem),
    }
    problems.extend(rejections(http_route));
}

/// The rules that are edited.
fn legs(http_route: &HttpRoute, (stable, canary): (&str, &str), picks: &[Pick]) -> Result<Vec<Leg>, Problem> {
    let name = http_route.metadata.name.as_deref().unwrap_or_default();
    let namespace = http_route.metadata.namespace.as_deref().unwrap_or_default();
    let rules: Vec<(usize, &Rule)> = http_route.spec.rules.iter().enumerate().collect();
    let at = |rule: &Rule, side: &str| rule.backend_refs.iter().position(|one| one.is_service(side, namespace));
    let mut chosen: Vec<(usize, &Rule)> = Vec::new();
    for pick in picks {
        let is_picked =
            |(_, rule): &&(usize, &Rule)| rule.name.as_ref().is_some_and(|name| *pick == Pick::Rule(name.clone()));
        let Some(found) = rules.iter().find(is_picked) else {
            return Err(Problem::missing(format!("HTTPRoute {name} has no {pick}; add it, or correct the reference")));
        };
        if !chosen.iter().any(|(index, _)| *index == found.0) {
            chosen.push(*found);
        }
    }
    if picks.is_empty() {
        chosen = rules;
        chosen.retain(|(_, rule)| at(rule, stable).is_some() && at(rule, canary).is_some());
    }
    if chosen.is_empty() {
        return Err(Problem::missing(format!(
            "HTTPRoute {name} has no rule whose backendRefs name both {stable} and {canary}; add both to one"
        )));
    }
    let leg_of = |(index, rule): (usize, &Rule)| {
        let (Some(stable_at), Some(canary_at)) = (at(rule, stable), at(rule, canary)) else {
            let missing = if at(rule, stable).is_none() { stable } else { canary };
            return Err(Problem::missing(format!(
                "HTTPRoute {name} rules[{index}].backendRefs do not name {missing}; add it"
            )));
        };
        leg(http_route, (index, rule), (stable_at, canary_at))
    };
    chosen.into_iter().map(leg_of).collect()
}

/// One rule, its weights in percent.
fn leg(
    http_route: &HttpRoute,
    (index, rule): (usize, &Rule),
    (stable_at, canary_at): (usize, usize),
) -> Result<Leg, Problem> {
    let name = http_route.metadata.name.clone().unwrap_or_default();
    let shares: Vec<i64> = rule.backend_refs.iter().map(|one| i64::from(one.share())).collect();
    let share = |at: usize| shares.get(at).copied().unwrap_or(0);
    let all: i64 = shares.iter().sum();
    let foreign = all - share(stable_at) - share(canary_at);
    if foreign > 0 && all != 100 {
        return Err(Problem::missing(format!(
            "HTTPRoute {name} rules[{index}].backendRefs give {foreign} of {all} to others; write weights that add up to 100"
        )));
    }
    // Whole already, where they add up to 100; else the canary's is rounded up, and stable has the rest.
    let percent = |share: i64| i32::try_from((share * 100 + all - 1).checked_div(all).unwrap_or(0)).unwrap_or(0);
    let (canary, foreign) = (percent(share(canary_at)), percent(foreign));
    Ok(Leg {
        kind: RouteKind::HttpRoute,
        object: name,
        version: http_route.metadata.resource_version.clone().unwrap_or_default(),
        protocol: Protocol::Http,
        at: index,
        behind: 0,
        route: rule.name.clone(),
        stable_at,
        canary_at,
        canary,
        stable: if all == 0 { 0 } else { 100 - foreign - canary },
        share: 100 - foreign,
    })
}

/// What controllers say against the route as it is now. What nobody has said yet, or has said of an earlier one, is no obstacle:
/// not every controller answers.
fn rejections(http_route: &HttpRoute) -> Vec<Problem> {
    let name = http_route.metadata.name.as_deref().unwrap_or_default();
    let generation = http_route.metadata.generation;
    let told = |parent: &ParentStatus| {
        let against = parent.conditions.iter().filter(|one| {
            one.status == "False" && one.observed_generation == generation && CONDITIONS.contains(&one.kind.as_str())
        });
        let place = format!("{} {}", parent.parent_ref.kind.as_deref().unwrap_or("Gateway"), parent.parent_ref.name);
        let problem = |kind: &str, reason: &str, message: &str| Problem {
            reason: REJECTED,
            message: format!(
                "{} says of HTTPRoute {name} at {place}: {kind} is False, {reason}: {message}",
                parent.controller_name
            ),
        };
        against.map(|one| problem(&one.kind, &one.reason, &one.message)).collect::<Vec<_>>()
    };
    http_route.status.parents.iter().flat_map(told).collect()
}
