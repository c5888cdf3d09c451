//! A change of the route to its writes: one for each object that differs.

use std::collections::BTreeMap;

use super::read::{in_place_host, rule_named, service_named, virtual_service_named};
use super::{Change, Front, Leg, Names, Route, Sides, names_of};
use crate::api::istio::full_host;
use crate::api::names;
use crate::plan::action::{Action, SubsetEdit, WeightEdit};
use crate::plan::observed::Observed;
use crate::plan::strategy::{Managed, RouteKind, Routing};
use crate::plan::weight::Split;

/// The writes that make a change: one for each object that differs.
pub fn actions(observed: &Observed, routing: &Routing, route: &Route, change: &Change) -> Vec<Action> {
    let rollout = observed.rollout.metadata.name.clone().unwrap_or_default();
    let names = names_of(&rollout, routing);
    match change {
        Change::Weight { weight, stay } => {
            let split = |leg: &Leg| Split::of(leg.share, *weight);
            traffic_actions(observed, &names, route, &split, &|front| front.kept(stay))
        }
        Change::Restore(resting) => {
            let split = |leg: &Leg| {
                let canary = resting.get(&leg.key()).copied().unwrap_or(0).clamp(0, leg.share);
                Split { stable: leg.share - canary, canary }
            };
            traffic_actions(observed, &names, route, &split, &|_| Vec::new())
        }
        Change::Keep(stay) => traffic_actions(observed, &names, route, &split_now, &|front| front.kept(stay)),
        Change::Front(routes) => traffic_actions(observed, &names, route, &split_now, &|_| routes.clone()),
        Change::Subsets { stable, canary } => {
            side_actions(observed, &names, routing, route, (Some(stable), Some(canary)))
        }
        Change::Unlabel => side_actions(observed, &names, routing, route, (None, None)),
        Change::Port if route.is_plain => owned_virtual_service(observed, &names, None, Vec::new()),
        Change::Port => {
            let present = route.in_front();
            traffic_actions(observed, &names, route, &split_now, &|front| front.kept(&present))
        }
        Change::Plain => owned_virtual_service(observed, &names, None, Vec::new()),
        Change::ToSubsets => owned_virtual_service(observed, &names, Some(Split::of(100, 0)), Vec::new()),
    }
}

/// The weights stay as they are.
fn split_now(leg: &Leg) -> Split {
    Split { stable: leg.stable, canary: leg.canary }
}

fn owned_virtual_service(observed: &Observed, names: &Names, split: Option<Split>, front: Vec<Managed>) -> Vec<Action> {
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    let Some(name) = names.virtual_service.clone() else {
        return Vec::new();
    };
    let version =
        virtual_service_named(observed, &namespace, &name).and_then(|one| one.metadata.resource_version.clone());
    vec![Action::WriteVirtualService { name, version, split, front }]
}

/// The weights of each leg, and what stands in front: one write for each VirtualService that differs.
fn traffic_actions(
    observed: &Observed,
    names: &Names,
    route: &Route,
    split: &dyn Fn(&Leg) -> Split,
    front: &dyn Fn(&Front) -> Vec<Managed>,
) -> Vec<Action> {
    if names.virtual_service.is_some() {
        let routes = route.fronts.first().map(front).unwrap_or_default();
        return route
            .legs
            .first()
            .map_or_else(Vec::new, |leg| owned_virtual_service(observed, names, Some(split(leg)), routes));
    }
    // The objects of one Rollout are of one kind.
    let is_of_rules = route.legs.iter().any(|leg| leg.kind == RouteKind::HttpRoute);
    let mut edits: BTreeMap<&str, (String, Vec<WeightEdit>)> = BTreeMap::new();
    for leg in &route.legs {
        let split = split(leg);
        if split == split_now(leg) {
            continue;
        }
        let edit = WeightEdit {
            protocol: leg.protocol,
            at: leg.at,
            route: leg.route.clone(),
            stable_at: leg.stable_at,
            canary_at: leg.canary_at,
            split,
        };
        edits.entry(&leg.object).or_insert_with(|| (leg.version.clone(), Vec::new())).1.push(edit);
    }
    let mut fronts = BTreeMap::new();
    for one in &route.fronts {
        let edit = one.edit(front(one), edits.contains_key(one.virtual_service.as_str()));
        if let Some(edit) = edit {
            edits.entry(&one.virtual_service).or_insert_with(|| (one.version.clone(), Vec::new()));
            fronts.insert(one.virtual_service.as_str(), edit);
        }
    }
    edits
        .into_iter()
        .map(|(name, (version, edits))| {
            let (front, name) = (fronts.remove(name), name.to_owned());
            if is_of_rules {
                Action::EditHttpRoute { name, version, edits }
            } else {
                Action::EditVirtualService { name, version, edits, front }
            }
        })
        .collect()
}

fn side_actions(
    observed: &Observed,
    names: &Names,
    routing: &Routing,
    route: &Route,
    hashes: (Option<&String>, Option<&String>),
) -> Vec<Action> {
    match &names.sides {
        Sides::Subsets { rule, owns_rule: true, .. } => {
            write_rule(observed, rule, in_place_host(observed, routing, route), hashes)
        }
        Sides::Subsets { rule, owns_rule: false, stable, canary } => {
            edit_rule(observed, rule, [(stable, hashes.0), (canary, hashes.1)])
        }
        Sides::Services { stable, canary } => {
            let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
            let edit = |(name, hash): (&String, Option<&String>)| {
                let service = service_named(observed, namespace, name)?;
                let changes = service.spec.selector.get(names::REVISION_HASH) != hash;
                changes.then(|| Action::EditService {
                    name: name.clone(),
                    version: service.metadata.resource_version.clone().unwrap_or_default(),
                    hash: hash.cloned(),
                })
            };
            [(stable, hashes.0), (canary, hashes.1)].into_iter().filter_map(edit).collect()
        }
    }
}

/// The DestinationRule that Serin owns.
fn write_rule(
    observed: &Observed,
    name: &str,
    host: Option<String>,
    hashes: (Option<&String>, Option<&String>),
) -> Vec<Action> {
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    let (Some(stable), Some(canary)) = hashes else {
        return Vec::new();
    };
    let Some(host) = host else {
        return Vec::new();
    };
    let version = rule_named(observed, &namespace, name).and_then(|rule| rule.metadata.resource_version.clone());
    let users = observed.destination_rules.iter().find(|rule| {
        rule.metadata.name.as_deref() != Some(name)
            && full_host(&rule.spec.host, rule.metadata.namespace.as_deref().unwrap_or_default()) == host
    });
    let export_to = users.map(|rule| rule.spec.export_to.clone()).unwrap_or_default();
    vec![Action::WriteDestinationRule {
        name: name.to_owned(),
        version,
        host,
        export_to,
        stable: stable.clone(),
        canary: canary.clone(),
    }]
}

/// The two subsets of a DestinationRule that Git holds.
fn edit_rule(observed: &Observed, name: &str, subsets: [(&String, Option<&String>); 2]) -> Vec<Action> {
    let namespace = observed.rollout.metadata.namespace.clone().unwrap_or_default();
    let Some(rule) = rule_named(observed, &namespace, name) else {
        return Vec::new();
    };
    let Some(version) = rule.metadata.resource_version.clone() else {
        return Vec::new();
    };
    let edits: Vec<SubsetEdit> = subsets
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
        vec![Action::EditDestinationRule { name: name.to_owned(), version, edits }]
    }
}
