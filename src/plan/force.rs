//! When the route is in force: every proxy has acknowledged it, or where nobody can be asked, a wait is over.
//!
//! Proxies that are asked and stay silent hold what gives a canary more weight, and what an analysis would judge, for as long
//! as they do. What takes weight away is not held at all; what only follows from it goes on after `route_ack_timeout`, and
//! subsets and pods that a silent proxy may still use stay until `drain_timeout` is over.

use jiff::Timestamp;

use super::analysis::later;
use super::course::{Course, Facts};
use super::observed::{Acknowledgement, Proxies};
use super::route::{self, Question};
use super::strategy::{RouteKind, Routing};
use super::traffic::{Reached, SETTLING};
use crate::api::istio::Protocol;
use crate::api::status::RouteStatus;

/// What is said of a route that proxies do not acknowledge in time.
pub const UNACKNOWLEDGED: &str = "RouteUnacknowledged";

/// What istiod says of the route as observed; none where it cannot be asked.
pub fn acknowledgement<'a>(facts: &'a Facts<'_>) -> Option<&'a Acknowledgement> {
    // Between two Services, a listener for TCP looks as the one that every Service has; and others than istiod's proxies may
    // follow an HTTPRoute.
    let is_told_apart = match facts.strategy.routing {
        Some(Routing::Hosts { kind: RouteKind::HttpRoute, .. }) => route::are_told_apart(facts.observed, &facts.route),
        Some(Routing::Hosts { kind: RouteKind::VirtualService, .. }) => {
            facts.route.legs.iter().all(|leg| leg.protocol == Protocol::Http)
        }
        Some(Routing::Owned { .. } | Routing::InPlace { .. }) | None => true,
    };
    let is_route = (!facts.route.legs.is_empty() || facts.route.is_plain) && is_told_apart;
    match &facts.observed.proxies {
        Proxies::Asked(acknowledgement) if is_route && facts.strategy.ratio.is_none() => Some(acknowledgement),
        Proxies::Asked(_) | Proxies::Unasked => None,
    }
}

/// Remembers since when every proxy has the route, and one without canary weight.
pub fn track(facts: &Facts<'_>, route: &mut RouteStatus) {
    let is_told = acknowledgement(facts).is_some_and(|told| told.route == route.observed && told.missing.is_none());
    if is_told {
        route.acknowledged.get_or_insert(facts.now);
    }
    route.zero_acknowledged =
        if route.zero_since.is_none() { None } else { route.zero_acknowledged.or(route.acknowledged) };
}

/// What to ask about the proxies: whether they have the route as observed, until they have. Nobody is asked about a route that has
/// been at rest for long.
pub fn question(facts: &Facts<'_>, course: &Course) -> Option<Question> {
    let is_open = course.canary().is_some() || course.reached(facts) < Reached::Settled;
    acknowledgement(facts).filter(|_| course.route().acknowledged.is_none() && is_open)?;
    route::question(facts)
}

impl Course {
    /// When every proxy has the route as observed, or should have.
    pub fn in_force_at(&self, facts: &Facts<'_>) -> Timestamp {
        let settings = &facts.observed.settings;
        let is_asked = acknowledgement(facts).is_some();
        self.reached_at(facts, if is_asked { settings.route_ack_timeout() } else { settings.route_wait() })
    }

    /// How far the route as observed has come.
    pub fn reached(&self, facts: &Facts<'_>) -> Reached {
        let is_known = self.route().acknowledged.is_some() || acknowledgement(facts).is_none();
        match facts.now {
            now if is_known && self.in_force_at(facts) <= now => Reached::InForce,
            now if self.settled_at(facts) <= now => Reached::Settled,
            now if self.in_force_at(facts) <= now => Reached::Due,
            _ => Reached::Sent,
        }
    }

    /// Whether every proxy has the route as observed.
    pub fn is_in_force(&self, facts: &Facts<'_>) -> bool {
        self.reached(facts) == Reached::InForce
    }

    /// When no proxy sends requests by an earlier route any more, or none is waited for any longer.
    pub fn settled_at(&self, facts: &Facts<'_>) -> Timestamp {
        if acknowledgement(facts).is_none() {
            return self.in_force_at(facts);
        }
        self.reached_at(facts, facts.observed.settings.drain_timeout())
    }

    fn reached_at(&self, facts: &Facts<'_>, most: jiff::SignedDuration) -> Timestamp {
        let route = self.route();
        route.acknowledged.unwrap_or_else(|| later(route.since.unwrap_or(facts.now), most))
    }

    /// When the last request that the canary weight brought is finished; none while there is weight.
    pub fn drained_at(&self, facts: &Facts<'_>) -> Option<Timestamp> {
        let route = self.route();
        Some(later(unused_at(facts, route.zero_since?, route.zero_acknowledged), facts.observed.settings.drain()))
    }

    /// Waits for the proxies.
    pub fn await_route(&mut self, facts: &Facts<'_>) {
        let at = self.in_force_at(facts);
        match acknowledgement(facts).filter(|_| at <= facts.now) {
            Some(told) => {
                let missing = told.missing.as_deref().filter(|_| told.route == self.route().observed);
                let missing = missing.unwrap_or("istiod is being asked which proxies have the route");
                self.wait(UNACKNOWLEDGED, format!("{missing}; the rollout goes on when all proxies have it"));
            }
            None => self.wait_until("RouteSettling", SETTLING, at),
        }
    }
}

/// When the proxies have stopped using something that no route has named since a time, or nobody waits for it any longer.
pub fn unused_at(facts: &Facts<'_>, since: Timestamp, acknowledged: Option<Timestamp>) -> Timestamp {
    let settings = &facts.observed.settings;
    let is_asked = acknowledgement(facts).is_some();
    acknowledged
        .unwrap_or_else(|| later(since, if is_asked { settings.drain_timeout() } else { settings.route_wait() }))
}
