//! Where a spec has its weights, understood.

use std::collections::BTreeSet;

use super::{Fault, Pick, Routing, Target};
use crate::api::rollout::{CanarySpec, IstioSpec, VirtualServiceRef};

const PATH: &str = "spec.strategy.canary.trafficRouting.istio";

/// Where the weights are; none where there is no route, or where that cannot be read.
pub(super) fn parse(namespace: &str, canary: &CanarySpec, faults: &mut Vec<Fault>) -> Option<Routing> {
    let services = services(canary, faults);
    let istio = &canary.traffic_routing.as_ref()?.istio;
    match services {
        Some((stable, canary)) => parse_hosts(istio, (stable, canary), faults),
        None => parse_subsets(namespace, istio, faults),
    }
}

/// The two Services of a canary between hosts.
fn services(canary: &CanarySpec, faults: &mut Vec<Fault>) -> Option<(String, String)> {
    let (stable, other) = match (&canary.stable_service, &canary.canary_service) {
        (None, None) => return None,
        (Some(stable), Some(other)) => (stable.clone(), other.clone()),
        (Some(stable), None) => (stable.clone(), String::new()),
        (None, Some(other)) => (String::new(), other.clone()),
    };
    for (field, name) in [("stableService", &stable), ("canaryService", &other)] {
        if name.is_empty() {
            let path = format!("spec.strategy.canary.{field}");
            faults.push(Fault::new(path, "is missing; stableService and canaryService belong together"));
        }
    }
    if stable == other {
        faults.push(Fault::new("spec.strategy.canary.canaryService", "is the stable Service too; name another"));
    }
    if canary.traffic_routing.is_none() {
        faults.push(Fault::new(
            "spec.strategy.canary.stableService",
            "needs trafficRouting.istio.virtualService with weights between both Services; without a route remove it",
        ));
    }
    Some((stable, other))
}

fn parse_hosts(istio: &IstioSpec, (stable, canary): (String, String), faults: &mut Vec<Fault>) -> Option<Routing> {
    for (field, is_given) in [("owned", istio.owned.is_some()), ("destinationRule", istio.destination_rule.is_some())] {
        if is_given {
            faults.push(Fault::new(
                format!("{PATH}.{field}"),
                "cannot be given with stableService and canaryService: their weights lie between hosts; remove either",
            ));
        }
    }
    if istio.virtual_service.is_none() && istio.virtual_services.is_none() {
        faults.push(Fault::new(PATH, "exactly one of virtualService, virtualServices is required with stableService"));
        return None;
    }
    let targets = targets(PATH, istio.virtual_service.as_ref(), istio.virtual_services.as_deref(), faults);
    Some(Routing::Hosts { targets, stable, canary })
}

fn parse_subsets(namespace: &str, istio: &IstioSpec, faults: &mut Vec<Fault>) -> Option<Routing> {
    let path = PATH;
    let several = istio.virtual_services.as_deref();
    let given = usize::from(istio.owned.is_some())
        + usize::from(istio.virtual_service.is_some())
        + usize::from(several.is_some());
    if given != 1 {
        faults.push(Fault::new(path, "exactly one of owned, virtualService, virtualServices is required"));
        return None;
    }
    if let Some(owned) = &istio.owned {
        if istio.destination_rule.is_some() {
            faults.push(Fault::new(
                format!("{path}.destinationRule"),
                "cannot be given with owned: Serin writes its own; remove it",
            ));
        }
        if owned.host.is_empty() {
            faults.push(Fault::new(format!("{path}.owned.host"), "is empty; name the Service that clients call"));
            return None;
        }
        return Some(Routing::Owned {
            host: crate::api::istio::full_host(&owned.host, namespace),
            hosts: owned.hosts.clone().unwrap_or_default(),
            gateways: owned.gateways.clone().unwrap_or_default(),
            port: owned.port,
        });
    }
    let targets = targets(path, istio.virtual_service.as_ref(), several, faults);
    let rule = istio.destination_rule.as_ref().map(|rule| {
        if rule.stable_subset_name == rule.canary_subset_name {
            faults.push(Fault::new(
                format!("{path}.destinationRule.canarySubsetName"),
                "is the stable subset too; name another subset",
            ));
        }
        (rule.name.clone(), rule.stable_subset_name.clone(), rule.canary_subset_name.clone())
    });
    Some(Routing::InPlace { targets, rule })
}

fn targets(
    path: &str,
    one: Option<&VirtualServiceRef>,
    several: Option<&[VirtualServiceRef]>,
    faults: &mut Vec<Fault>,
) -> Vec<Target> {
    let listed: Vec<(String, &VirtualServiceRef)> = match (one, several) {
        (Some(one), _) => vec![(format!("{path}.virtualService"), one)],
        (None, several) => several
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(index, one)| (format!("{path}.virtualServices[{index}]"), one))
            .collect(),
    };
    if listed.is_empty() {
        faults.push(Fault::new(format!("{path}.virtualServices"), "is empty; name at least one VirtualService"));
    }
    let mut names = BTreeSet::new();
    for (path, reference) in &listed {
        if reference.name.contains('.') {
            faults.push(Fault::new(
                format!("{path}.name"),
                "must be in the Rollout's namespace; write the name without a dot",
            ));
        }
        if !names.insert(&reference.name) {
            faults.push(Fault::new(
                format!("{path}.name"),
                format!("{} is named twice; list its routes together", reference.name),
            ));
        }
    }
    listed.iter().map(|(path, reference)| target(path, reference, faults)).collect()
}

fn target(path: &str, reference: &VirtualServiceRef, faults: &mut Vec<Fault>) -> Target {
    let named = reference.routes.iter().flatten().cloned().map(Pick::Named);
    let tcp = reference.tcp_routes.iter().flatten().map(|route| Pick::Tcp(route.port));
    let tls = reference.tls_routes.iter().flatten().enumerate().map(|(index, route)| {
        if route.port.is_none() && route.sni_hosts.as_ref().is_none_or(Vec::is_empty) {
            let path = format!("{path}.tlsRoutes[{index}]");
            faults.push(Fault::new(path, "needs port or sniHosts: what the route matches"));
        }
        Pick::Tls(route.port, route.sni_hosts.clone())
    });
    let routes = named.chain(tls).chain(tcp).collect();
    Target { virtual_service: reference.name.clone(), routes }
}
