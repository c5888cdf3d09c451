//! VirtualServices and DestinationRules to one route, and the one write that brings it nearer to what is wanted.
//! Two dependent writes are never planned at once: the second waits until the first is in force.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::action::{Action, SubsetEdit, WeightEdit};
use super::observed::Observed;
use super::strategy::Routing;
use super::weight::Split;
use crate::api::istio::{Destination, HttpRoute, full_host, service_of};
use crate::api::names;
use crate::api::watched::{DestinationRule, VirtualService};

/// The route as the snapshot has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Revision hash of the stable subset, where it has one.
    pub stable: Option<String>,
    /// Revision hash of the canary subset, where it has one.
    pub canary: Option<String>,
    /// Whether the DestinationRule with the subsets exists.
    pub has_rule: bool,
    /// Whether the owned VirtualService leads to the plain host.
    pub is_plain: bool,
    /// Each HTTP route that is edited.
    pub legs: Vec<Leg>,
}

/// One HTTP route of one VirtualService.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Name of the VirtualService.
    pub virtual_service: String,
    /// Its version in the snapshot.
    pub version: String,
    /// Index in `spec.http`.
    pub http: usize,
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
    /// Names the leg in the status: `virtualservice/route`.
    pub fn key(&self) -> String {
        self.route.as_ref().map_or_else(
            || format!("{}/{}", self.virtual_service, self.http),
            |route| format!("{}/{route}", self.virtual_service),
        )
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
    fn missing(message: String) -> Self {
        Self { reason: "RouteMissing", message }
    }
}

impl Route {
    /// The canary's weight: the highest of all legs.
    pub fn weight(&self) -> i32 {
        self.legs.iter().map(Leg::weight).max().unwrap_or(0)
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
        for leg in &self.legs {
            let _ = write!(line, " {}={}/{}", leg.key(), leg.stable, leg.canary);
        }
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
    /// The DestinationRule.
    pub rule: String,
    /// Whether Serin owns the DestinationRule.
    pub owns_rule: bool,
    /// The stable subset.
    pub stable: String,
    /// The canary subset.
    pub canary: String,
}

/// The names that a routing gives.
pub fn names_of(rollout: &str, routing: &Routing) -> Names {
    let owned = Names {
        virtual_service: matches!(routing, Routing::Owned { .. }).then(|| names::owned_route(rollout)),
        rule: names::owned_route(rollout),
        owns_rule: true,
        stable: names::owned_stable_subset(rollout),
        canary: names::owned_canary_subset(rollout),
    };
    match routing {
        Routing::InPlace { rule: Some((rule, stable, canary)), .. } => {
            Names { rule: rule.clone(), owns_rule: false, stable: stable.clone(), canary: canary.clone(), ..owned }
        }
        Routing::InPlace { rule: None, .. } | Routing::Owned { .. } => owned,
    }
}

/// Reads the route from the snapshot; what could be read stands beside the problems.
pub fn observe(observed: &Observed, routing: &Routing) -> (Route, Vec<Problem>) {
    let rollout = observed.rollout.metadata.name.clone().unwrap_or_default();
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    let names = names_of(&rollout, routing);
    let mut route = Route::default();
    let mut problems = Vec::new();
    read_rule(observed, &namespace, &names, &mut route, &mut problems);
    match routing {
        Routing::Owned { host, hosts, gateways } => {
            read_owned(observed, &namespace, &names, &mut route, &mut problems);
            problems.extend(taken_hosts(observed, &namespace, &names, hosts, gateways));
            problems.extend(service_problem(observed, host));
        }
        Routing::InPlace { virtual_services, .. } => {
            for (name, routes) in virtual_services {
                read_in_place(observed, &namespace, &names, (name, routes), &mut route, &mut problems);
            }
        }
    }
    (route, problems)
}

fn find<'a, T>(
    objects: &'a [T],
    meta: impl Fn(&T) -> (Option<&str>, Option<&str>),
    namespace: &str,
    name: &str,
) -> Option<&'a T> {
    objects.iter().find(|object| meta(object) == (Some(namespace), Some(name)))
}

fn rule_named<'a>(observed: &'a Observed, namespace: &str, name: &str) -> Option<&'a DestinationRule> {
    find(
        &observed.destination_rules,
        |rule| (rule.metadata.namespace.as_deref(), rule.metadata.name.as_deref()),
        namespace,
        name,
    )
}

fn virtual_service_named<'a>(observed: &'a Observed, namespace: &str, name: &str) -> Option<&'a VirtualService> {
    find(
        &observed.virtual_services,
        |one| (one.metadata.namespace.as_deref(), one.metadata.name.as_deref()),
        namespace,
        name,
    )
}

fn read_rule(observed: &Observed, namespace: &str, names: &Names, route: &mut Route, problems: &mut Vec<Problem>) {
    let Some(rule) = rule_named(observed, namespace, &names.rule) else {
        if !names.owns_rule {
            problems.push(Problem::missing(format!(
                "DestinationRule {} does not exist; create it with the subsets {} and {}",
                names.rule, names.stable, names.canary
            )));
        }
        return;
    };
    if names.owns_rule && !is_ours(observed, &rule.metadata) {
        problems.push(Problem {
            reason: "RouteTaken",
            message: format!("DestinationRule {} exists and is not this Rollout's; delete or rename it", names.rule),
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
    for (name, slot) in [(&names.stable, &mut route.stable), (&names.canary, &mut route.canary)] {
        match hash(name) {
            Some(found) => *slot = found,
            None if names.owns_rule => {}
            None => {
                problems.push(Problem::missing(format!("DestinationRule {} has no subset {name}; add it", names.rule)))
            }
        }
    }
    if rule.spec.workload_selector.is_some() {
        problems.push(Problem {
            reason: "RouteNotMergeable",
            message: format!("DestinationRule {} has a workloadSelector, so that its subsets do not hold for every client; remove the workloadSelector", names.rule),
        });
    }
}

/// Whether an object's controller is this Rollout.
fn is_ours(observed: &Observed, metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
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
        Ok(legs) => route.legs.extend(legs),
        Err(_) => {
            route.is_plain = true;
            route.legs.clear();
        }
    }
}

fn read_in_place(
    observed: &Observed,
    namespace: &str,
    names: &Names,
    (name, routes): (&str, &[String]),
    route: &mut Route,
    problems: &mut Vec<Problem>,
) {
    let Some(virtual_service) = virtual_service_named(observed, namespace, name) else {
        let snippet = format!(
            "route: [{{destination: {{host: …, subset: {}}}, weight: 100}}, {{destination: {{host: …, subset: {}}}, weight: 0}}]",
            names.stable, names.canary
        );
        problems.push(Problem::missing(format!("VirtualService {name} does not exist; create it with {snippet}")));
        return;
    };
    let rule = rule_named(observed, namespace, &names.rule);
    let host = rule.filter(|_| !names.owns_rule).map(|rule| full_host(&rule.spec.host, namespace));
    match legs(virtual_service, names, routes, host.as_deref()) {
        Ok(legs) => {
            if let Some(host) = host_of(virtual_service, &legs) {
                problems.extend(service_problem(observed, &full_host(&host, namespace)));
            }
            route.legs.extend(legs);
        }
        Err(problem) => problems.push(problem),
    }
}

fn host_of(virtual_service: &VirtualService, legs: &[Leg]) -> Option<String> {
    let leg = legs.first()?;
    Some(virtual_service.spec.http.get(leg.http)?.route.get(leg.stable_at)?.destination.host.clone())
}

/// The host that an in-place route leads to, for the DestinationRule that Serin owns.
pub fn in_place_host(observed: &Observed, routing: &Routing, route: &Route) -> Option<String> {
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    match routing {
        Routing::Owned { host, .. } => Some(host.clone()),
        Routing::InPlace { .. } => {
            let leg = route.legs.first()?;
            let virtual_service = virtual_service_named(observed, &namespace, &leg.virtual_service)?;
            host_of(virtual_service, std::slice::from_ref(leg)).map(|host| full_host(&host, &namespace))
        }
    }
}

/// The HTTP routes of one VirtualService that are edited.
fn legs(
    virtual_service: &VirtualService,
    names: &Names,
    routes: &[String],
    host: Option<&str>,
) -> Result<Vec<Leg>, Problem> {
    let name = virtual_service.metadata.name.clone().unwrap_or_default();
    let namespace = virtual_service.metadata.namespace.clone().unwrap_or_default();
    let http = &virtual_service.spec.http;
    let chosen: Vec<(usize, &HttpRoute)> = if routes.is_empty() {
        if http.len() != 1 {
            return Err(Problem::missing(format!(
                "VirtualService {name} has {} HTTP routes; name the ones to shift in `routes`",
                http.len()
            )));
        }
        http.iter().enumerate().collect()
    } else {
        let mut chosen = Vec::new();
        for wanted in routes {
            let found = http.iter().enumerate().find(|(_, route)| route.name.as_ref() == Some(wanted));
            chosen.push(found.ok_or_else(|| {
                Problem::missing(format!("VirtualService {name} has no HTTP route named {wanted}; name the route"))
            })?);
        }
        chosen
    };
    chosen
        .into_iter()
        .map(|(index, route)| {
            let at = |subset: &str| position(route, subset, host, &namespace);
            let (stable_at, canary_at) = (at(&names.stable), at(&names.canary));
            let (Some(stable_at), Some(canary_at)) = (stable_at, canary_at) else {
                let missing = if stable_at.is_none() { &names.stable } else { &names.canary };
                return Err(Problem::missing(format!(
                    "VirtualService {name} http[{index}] has no destination with subset {missing}; add it"
                )));
            };
            leg(virtual_service, (index, route), (stable_at, canary_at))
        })
        .collect()
}

fn position(route: &HttpRoute, subset: &str, host: Option<&str>, namespace: &str) -> Option<usize> {
    let is_it = |destination: &Destination| {
        destination.subset.as_deref() == Some(subset)
            && host.is_none_or(|host| full_host(&destination.host, namespace) == host)
    };
    route.route.iter().position(|weighted| is_it(&weighted.destination))
}

fn leg(
    virtual_service: &VirtualService,
    (http, route): (usize, &HttpRoute),
    (stable_at, canary_at): (usize, usize),
) -> Result<Leg, Problem> {
    let name = virtual_service.metadata.name.clone().unwrap_or_default();
    let weight = |at: usize| route.route.get(at).and_then(|weighted| weighted.weight).unwrap_or(0);
    let foreign: i32 = (0..route.route.len()).filter(|at| *at != stable_at && *at != canary_at).map(weight).sum();
    if !(0..=100).contains(&foreign) {
        return Err(Problem {
            reason: "RouteMissing",
            message: format!(
                "VirtualService {name} http[{http}] gives {foreign} percent to other destinations; leave some for {}",
                "stable and canary"
            ),
        });
    }
    Ok(Leg {
        virtual_service: name,
        version: virtual_service.metadata.resource_version.clone().unwrap_or_default(),
        http,
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

fn service_problem(observed: &Observed, host: &str) -> Option<Problem> {
    let (name, namespace) = service_of(host)?;
    let exists = observed.services.iter().any(|service| {
        service.metadata.name.as_deref() == Some(name) && service.metadata.namespace.as_deref() == Some(namespace)
    });
    (!exists).then(|| Problem {
        reason: "ServiceMissing",
        message: format!("Service {namespace}/{name} does not exist; create it"),
    })
}

/// What the route should become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The canary's weight on every leg.
    Weight(i32),
    /// The weights that Git held before the rollout.
    Restore(BTreeMap<String, i32>),
    /// The revisions of both subsets.
    Subsets {
        /// Hash of the stable subset.
        stable: String,
        /// Hash of the canary subset.
        canary: String,
    },
    /// No revision labels in subsets that Git holds.
    Unlabel,
    /// The owned VirtualService, to the plain host.
    Plain,
    /// The owned VirtualService from the plain host, or from nothing, to the stable subset.
    ToSubsets,
}

/// The writes that make a change: one for each object that differs.
pub fn actions(observed: &Observed, routing: &Routing, route: &Route, change: &Change) -> Vec<Action> {
    let rollout = observed.rollout.metadata.name.clone().unwrap_or_default();
    let names = names_of(&rollout, routing);
    match change {
        Change::Weight(weight) => weight_actions(observed, &names, route, |leg| Split::of(leg.share, *weight)),
        Change::Restore(resting) => weight_actions(observed, &names, route, |leg| {
            let canary = resting.get(&leg.key()).copied().unwrap_or(0).clamp(0, leg.share);
            Split { stable: leg.share - canary, canary }
        }),
        Change::Subsets { stable, canary } => {
            subset_actions(observed, &names, routing, route, (Some(stable), Some(canary)))
        }
        Change::Unlabel => subset_actions(observed, &names, routing, route, (None, None)),
        Change::Plain => owned_virtual_service(observed, &names, None),
        Change::ToSubsets => owned_virtual_service(observed, &names, Some(Split::of(100, 0))),
    }
}

fn owned_virtual_service(observed: &Observed, names: &Names, split: Option<Split>) -> Vec<Action> {
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    let Some(name) = names.virtual_service.clone() else {
        return Vec::new();
    };
    let version =
        virtual_service_named(observed, &namespace, &name).and_then(|one| one.metadata.resource_version.clone());
    vec![Action::WriteVirtualService { name, version, split }]
}

fn weight_actions(observed: &Observed, names: &Names, route: &Route, split: impl Fn(&Leg) -> Split) -> Vec<Action> {
    if names.virtual_service.is_some() {
        return route
            .legs
            .first()
            .map_or_else(Vec::new, |leg| owned_virtual_service(observed, names, Some(split(leg))));
    }
    let mut edits: BTreeMap<&str, (String, Vec<WeightEdit>)> = BTreeMap::new();
    for leg in &route.legs {
        let split = split(leg);
        if split == (Split { stable: leg.stable, canary: leg.canary }) {
            continue;
        }
        let edit = WeightEdit {
            http: leg.http,
            route: leg.route.clone(),
            stable_at: leg.stable_at,
            canary_at: leg.canary_at,
            split,
        };
        edits.entry(&leg.virtual_service).or_insert_with(|| (leg.version.clone(), Vec::new())).1.push(edit);
    }
    edits
        .into_iter()
        .map(|(name, (version, edits))| Action::EditVirtualService { name: name.to_owned(), version, edits })
        .collect()
}

fn subset_actions(
    observed: &Observed,
    names: &Names,
    routing: &Routing,
    route: &Route,
    (stable, canary): (Option<&String>, Option<&String>),
) -> Vec<Action> {
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    let rule = rule_named(observed, &namespace, &names.rule);
    let version = rule.and_then(|rule| rule.metadata.resource_version.clone());
    if names.owns_rule {
        let (Some(stable), Some(canary)) = (stable, canary) else {
            return Vec::new();
        };
        let Some(host) = in_place_host(observed, routing, route) else {
            return Vec::new();
        };
        let users = observed.destination_rules.iter().find(|rule| {
            rule.metadata.name.as_deref() != Some(names.rule.as_str())
                && full_host(&rule.spec.host, rule.metadata.namespace.as_deref().unwrap_or_default()) == host
        });
        let export_to = users.map(|rule| rule.spec.export_to.clone()).unwrap_or_default();
        return vec![Action::WriteDestinationRule {
            name: names.rule.clone(),
            version,
            host,
            export_to,
            stable: stable.clone(),
            canary: canary.clone(),
        }];
    }
    let (Some(rule), Some(version)) = (rule, version) else {
        return Vec::new();
    };
    let edits: Vec<SubsetEdit> = [(&names.stable, stable), (&names.canary, canary)]
        .into_iter()
        .filter_map(|(name, hash)| {
            let (at, subset) = rule.spec.subsets.iter().enumerate().find(|(_, subset)| subset.name == *name)?;
            let changes = subset.labels.get(names::REVISION_HASH) != hash;
            changes.then(|| SubsetEdit {
                at,
                name: name.clone(),
                has_labels: !subset.labels.is_empty(),
                hash: hash.cloned(),
            })
        })
        .collect();
    if edits.is_empty() {
        Vec::new()
    } else {
        vec![Action::EditDestinationRule { name: names.rule.clone(), version, edits }]
    }
}
