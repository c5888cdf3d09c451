//! VirtualServices and DestinationRules to one route, and the one write that brings it nearer to what is wanted.
//! Two dependent writes are never planned at once: the second waits until the first is in force.

mod front;
mod held;
mod parents;
mod port;
mod question;
mod read;
mod rules;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub use self::front::{Front, Present};
pub use self::held::{HeldSides, held_sides};
pub use self::parents::are_told_apart;
pub(super) use self::port::written as port;
pub use self::port::{Port, UNCLEAR as PORT_UNCLEAR};
pub use self::question::{Expected, Question, Side, Split as ExpectedSplit, question};
pub use self::read::{holder, in_place_host, is_gone, observe};
pub use self::rules::REJECTED;
pub use self::write::actions;
use super::strategy::{Managed, RouteKind, Routing};
use super::weight::Split;
use crate::api::istio::Protocol;
use crate::api::names;
use crate::api::watched::ServicePort;

/// The route as the snapshot has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Revision hash of the stable subset, or Service, where it has one.
    pub stable: Option<String>,
    /// Revision hash of the canary subset, or Service, where it has one.
    pub canary: Option<String>,
    /// Whether the DestinationRule with the subsets exists, or both Services.
    pub has_rule: bool,
    /// Whether the owned VirtualService leads to the plain host.
    pub is_plain: bool,
    /// The port that the owned VirtualService leads to.
    pub port: Port,
    /// Whether a root names the owned VirtualService, where that is a delegate: else no request follows it.
    pub has_root: Option<bool>,
    /// Services of a canary between hosts that do not exist, and their ports.
    pub to_create: Vec<(String, Vec<ServicePort>)>,
    /// Each route that is edited.
    pub legs: Vec<Leg>,
    /// What stands in front of them, by VirtualService.
    pub fronts: Vec<Front>,
    /// Names of header or mirror routes that routes in Git have: path and sentence.
    pub collisions: Vec<String>,
}

/// One route of one VirtualService, or one rule of one HTTPRoute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// The kind of the object that holds it.
    pub kind: RouteKind,
    /// Name of that object.
    pub object: String,
    /// Its version in the snapshot.
    pub version: String,
    /// The route's protocol.
    pub protocol: Protocol,
    /// Index among the routes of its protocol.
    pub at: usize,
    /// How many header and mirror routes of Serin's come before it.
    pub behind: usize,
    /// Name of the route, where it has one.
    pub route: Option<String>,
    /// Index of the stable destination.
    pub stable_at: usize,
    /// Index of the canary destination.
    pub canary_at: usize,
    /// The canary's weight now; stable has the rest of the share.
    pub canary: i32,
    /// Stable's weight now.
    pub stable: i32,
    /// What foreign destinations leave, in percent.
    pub share: i32,
}

impl Leg {
    /// Names the leg in the status: `virtualservice/route`, `httproute/rule`.
    pub fn key(&self) -> String {
        match (&self.route, self.protocol) {
            (Some(route), _) => format!("{}/{route}", self.object),
            (None, Protocol::Http) => format!("{}/{}", self.object, self.at.saturating_sub(self.behind)),
            (None, protocol) => format!("{}/{}/{}", self.object, protocol.field(), self.at),
        }
    }

    /// Whether the canary has exactly this weight and stable the rest.
    fn is_at(&self, weight: i32) -> bool {
        Split::of(self.share, weight) == Split { stable: self.stable, canary: self.canary }
    }

    fn weight(&self) -> i32 {
        Split { stable: self.share - self.canary, canary: self.canary }.weight()
    }
}

/// Why the route cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A word from the documented list.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// Whether the route can be written in spite of it: what its parents' controllers say does not keep it from its rest.
    pub fn is_of_parents(&self) -> bool {
        self.reason == REJECTED
    }

    /// Whether it forbids every write of a route: that is another's, or would lead nowhere once it is created.
    pub fn forbids(&self, route: &Route) -> bool {
        let is_absent = route.legs.is_empty() && !route.is_plain;
        self.reason == "RouteTaken" || (self.reason == PORT_UNCLEAR && is_absent)
    }

    fn missing(message: String) -> Self {
        Self { reason: "RouteMissing", message }
    }
}

impl Route {
    /// The canary's weight: the highest of all legs.
    pub fn weight(&self) -> i32 {
        self.legs.iter().map(Leg::weight).max().unwrap_or(0)
    }

    /// Whether the owned VirtualService is a delegate.
    pub fn is_delegate(&self) -> bool {
        self.has_root.is_some()
    }

    /// Whether it is one that no root names.
    pub fn lacks_root(&self) -> bool {
        self.has_root == Some(false)
    }

    /// Whether every leg has this weight.
    pub fn is_at(&self, weight: i32) -> bool {
        !self.legs.is_empty() && self.legs.iter().all(|leg| leg.is_at(weight))
    }

    /// Whether some leg gives the canary more than this weight.
    pub fn exceeds(&self, weight: i32) -> bool {
        self.legs.iter().any(|leg| leg.canary > Split::of(leg.share, weight).canary)
    }

    /// Whether both subsets hold this revision.
    pub fn rests_on(&self, hash: &str) -> bool {
        self.stable.as_deref() == Some(hash) && self.canary.as_deref() == Some(hash)
    }

    /// Whether a subset selects this revision.
    pub fn selects(&self, hash: &str) -> bool {
        self.stable.as_deref() == Some(hash) || self.canary.as_deref() == Some(hash)
    }

    /// The route as one line, for telling whether it changed.
    pub fn line(&self) -> String {
        let mut line = format!(
            "stable={} canary={}",
            self.stable.as_deref().unwrap_or("-"),
            self.canary.as_deref().unwrap_or("-")
        );
        if self.is_plain {
            line.push_str(" plain");
        }
        if let Some(port) = self.port.named {
            let _ = write!(line, " port={port}");
        }
        if self.lacks_root() {
            line.push_str(" rootless");
        }
        for leg in &self.legs {
            let _ = write!(line, " {}={}/{}", leg.key(), leg.stable, leg.canary);
        }
        line.push_str(&self.front_line());
        line
    }

    /// Canary weights by leg, those above zero.
    pub fn resting(&self) -> BTreeMap<String, i32> {
        self.legs.iter().filter(|leg| leg.canary > 0).map(|leg| (leg.key(), leg.canary)).collect()
    }
}

/// Names that a Rollout's routing has in the cluster.
#[derive(Debug, Clone)]
pub struct Names {
    /// The VirtualService that Serin owns.
    pub virtual_service: Option<String>,
    /// What the weights lie between.
    pub sides: Sides,
    /// Names of the header and mirror routes that are Serin's in VirtualServices that Git holds.
    pub managed: BTreeSet<String>,
}

/// What the weights lie between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sides {
    /// Two subsets of one host.
    Subsets {
        /// The DestinationRule.
        rule: String,
        /// Whether Serin owns it.
        owns_rule: bool,
        /// The stable subset.
        stable: String,
        /// The canary subset.
        canary: String,
    },
    /// Two Services.
    Services {
        /// The stable Service.
        stable: String,
        /// The canary Service.
        canary: String,
    },
}

impl Sides {
    /// The names of both sides, stable first.
    pub fn both(&self) -> (&str, &str) {
        let (Self::Subsets { stable, canary, .. } | Self::Services { stable, canary }) = self;
        (stable, canary)
    }
}

/// The names that a routing gives.
pub fn names_of(rollout: &str, routing: &Routing) -> Names {
    let sides = match routing {
        Routing::InPlace { rule: Some((rule, stable, canary)), .. } => {
            Sides::Subsets { rule: rule.clone(), owns_rule: false, stable: stable.clone(), canary: canary.clone() }
        }
        Routing::InPlace { rule: None, .. } | Routing::Owned { .. } => Sides::Subsets {
            rule: names::owned_route(rollout),
            owns_rule: true,
            stable: names::owned_stable_subset(rollout),
            canary: names::owned_canary_subset(rollout),
        },
        Routing::Hosts { stable, canary, .. } => Sides::Services { stable: stable.clone(), canary: canary.clone() },
    };
    let virtual_service = matches!(routing, Routing::Owned { .. }).then(|| names::owned_route(rollout));
    Names { virtual_service, sides, managed: BTreeSet::new() }
}

/// What the route should become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The canary's weight on every leg.
    Weight {
        /// The weight.
        weight: i32,
        /// Header and mirror routes that stay where they are; all others go.
        stay: Vec<Managed>,
    },
    /// Nothing but these header and mirror routes stays.
    Keep(Vec<Managed>),
    /// Exactly these header and mirror routes are in front of the edited ones.
    Front(Vec<Managed>),
    /// The weights that Git held before the rollout, and nothing in front.
    Restore(BTreeMap<String, i32>),
    /// The revisions of both subsets, or Services.
    Subsets {
        /// Hash of the stable subset.
        stable: String,
        /// Hash of the canary subset.
        canary: String,
    },
    /// No revision labels in subsets, or selectors, that Git holds.
    Unlabel,
    /// The port of the owned VirtualService, and nothing else of it.
    Port,
    /// The owned VirtualService, to the plain host.
    Plain,
    /// The owned VirtualService from the plain host, or from nothing, to the stable subset.
    ToSubsets,
}
