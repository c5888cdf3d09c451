//! Header and mirror routes, which stand in front of the edited routes of a VirtualService.

use super::{Leg, Names, Route};
use crate::api::istio::{self, Protocol};
use crate::api::names;
use crate::api::watched::VirtualService;
use crate::plan::action::FrontEdit;
use crate::plan::revision::hash_text;
use crate::plan::strategy::Managed;

/// What stands in front of the edited routes of one VirtualService.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// Name of the VirtualService.
    pub virtual_service: String,
    /// Its version in the snapshot.
    pub version: String,
    /// Index of its first edited HTTP route: its destinations count.
    pub at: usize,
    /// The name of that route, where it has one.
    pub route: Option<String>,
    /// Index of that route's canary destination.
    pub canary_at: usize,
    /// The header and mirror routes that there are, in order.
    pub present: Vec<Present>,
}

/// A header or mirror route that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Index among the HTTP routes.
    pub at: usize,
    /// Its name.
    pub name: String,
    /// What it does; none where it is not as Serin writes it.
    pub managed: Option<Managed>,
}

impl Front {
    /// Whether exactly these routes are there, in this order.
    pub fn is(&self, routes: &[Managed]) -> bool {
        self.present.iter().map(|present| present.managed.as_ref()).eq(routes.iter().map(Some))
    }

    /// The routes that there are, as far as they are among these.
    pub fn kept(&self, stay: &[Managed]) -> Vec<Managed> {
        let known = self.present.iter().filter_map(|present| present.managed.as_ref());
        known.filter(|route| stay.contains(route)).cloned().collect()
    }

    /// The edit that leaves exactly these routes; mirrors are written again where weights change.
    pub fn edit(&self, routes: Vec<Managed>, changes_weights: bool) -> Option<FrontEdit> {
        let copies = changes_weights && routes.iter().any(|route| route.mirror.is_some());
        (copies || !self.is(&routes)).then(|| FrontEdit {
            at: self.at,
            route: self.route.clone(),
            canary_at: self.canary_at,
            removed: self.present.iter().map(|present| (present.at, present.name.clone())).collect(),
            added: routes,
        })
    }

    fn line(&self) -> String {
        let told = self.present.iter().map(|present| match &present.managed {
            Some(route) => format!("{}~{}", present.name, hash_text(&format!("{:?}{:?}", route.matches, route.mirror))),
            None => format!("{}~?", present.name),
        });
        format!("{}:{}", self.virtual_service, told.collect::<Vec<_>>().join(","))
    }
}

impl Route {
    /// Whether a header or mirror route leads to the canary subset.
    pub fn leads(&self) -> bool {
        self.fronts.iter().any(|front| !front.present.is_empty())
    }

    /// Whether the canary subset gets any request, by weight or by a header or mirror route.
    pub fn carries(&self) -> bool {
        self.exceeds(0) || self.leads()
    }

    /// Whether every VirtualService has exactly these header and mirror routes.
    pub fn has_front(&self, routes: &[Managed]) -> bool {
        self.fronts.iter().all(|front| front.is(routes))
    }

    /// Whether nothing but these is in front anywhere.
    pub fn has_only(&self, routes: &[Managed]) -> bool {
        self.fronts.iter().all(|front| front.kept(routes).len() == front.present.len())
    }

    /// All header and mirror routes that there are and are as Serin writes them.
    pub fn in_front(&self) -> Vec<Managed> {
        self.fronts.iter().flat_map(|front| &front.present).filter_map(|present| present.managed.clone()).collect()
    }

    /// Whether every VirtualService has header and mirror routes of exactly these names.
    pub fn has_names(&self, names: &[String]) -> bool {
        let is = |front: &Front| front.present.iter().map(|present| &present.name).eq(names);
        self.fronts.iter().all(is)
    }

    /// The header and mirror routes as a part of the route's line.
    pub(super) fn front_line(&self) -> String {
        let fronts = self.fronts.iter().filter(|front| !front.present.is_empty());
        fronts.fold(String::new(), |line, front| line + " " + &front.line())
    }
}

impl Names {
    /// Whether an HTTP route is a header or mirror route of Serin's.
    pub(super) fn is_managed(&self, route: &istio::Route) -> bool {
        match (&self.virtual_service, &route.name) {
            (Some(_), name) => name.as_deref() != Some(names::OWNED_HTTP_ROUTE),
            (None, Some(name)) => self.managed.contains(name),
            (None, None) => false,
        }
    }
}

/// Reads what stands in front of the first edited HTTP route of a VirtualService.
pub(super) fn read(virtual_service: &VirtualService, names: &Names, legs: &[Leg]) -> Option<Front> {
    let leg = legs.iter().filter(|leg| leg.protocol == Protocol::Http).min_by_key(|leg| leg.at)?;
    let edited = virtual_service.spec.http.get(leg.at)?;
    let all = virtual_service.spec.http.iter().enumerate();
    let present = all.filter(|(_, route)| names.is_managed(route)).map(|(at, route)| Present {
        at,
        name: route.name.clone().unwrap_or_default(),
        managed: managed(route, edited, leg.canary_at).filter(|_| at < leg.at),
    });
    Some(Front {
        virtual_service: leg.object.clone(),
        version: leg.version.clone(),
        at: leg.at,
        route: leg.route.clone(),
        canary_at: leg.canary_at,
        present: present.collect(),
    })
}

/// A route as what a step made of it, where it is as Serin writes it.
fn managed(route: &istio::Route, edited: &istio::Route, canary_at: usize) -> Option<Managed> {
    let canary = edited.route.get(canary_at)?;
    let mirror = match (&route.mirror, route.route.as_slice()) {
        (None, [only]) if only.destination == canary.destination => None,
        (Some(mirror), destinations) if *mirror == canary.destination && *destinations == *edited.route => {
            let percent = route.mirror_percentage.as_ref().map_or(100, |percent| percent.value);
            Some(i32::try_from(percent).ok()?)
        }
        _ => return None,
    };
    Some(Managed { name: route.name.clone()?, matches: route.matches.clone(), mirror })
}
