//! Where a spec has its weights, understood.

use std::collections::BTreeSet;

use super::{Fault, Pick, RouteKind, Routing, Target};
use crate::api::rollout::{CanarySpec, GatewayApiSpec, HttpRouteRef, IstioSpec, VirtualServiceRef};

const ROUTING: &str = "spec.strategy.canary.trafficRouting";
const PATH: &str = "spec.strategy.canary.trafficRouting.istio";
const GATEWAY: &str = "spec.strategy.canary.trafficRouting.gatewayAPI";

/// Where the weights are; none where there is no route, or where that cannot be read.
pub(super) fn parse(namespace: &str, canary: &CanarySpec, faults: &mut Vec<Fault>) -> Option<Routing> {
    let services = services(canary, faults);
    let routing = canary.traffic_routing.as_ref()?;
    match (&routing.istio, &routing.gateway_api, services) {
        (Some(istio), None, Some(services)) => parse_hosts(istio, services, faults),
        (Some(istio), None, None) => parse_subsets(namespace, istio, faults),
        (None, Some(gateway), services) => parse_gateway(gateway, services, faults),
        (Some(_), Some(_), _) | (None, None, _) => {
            faults.push(Fault::new(ROUTING, "exactly one of istio, gatewayAPI is required"));
            None
        }
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
            "needs trafficRouting with weights between both Services, by istio.virtualService or gatewayAPI; without a route remove it",
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
    Some(Routing::Hosts { kind: RouteKind::VirtualService, targets, stable, canary })
}

/// HTTPRoutes have no subsets: their weights always lie between two Services.
fn parse_gateway(
    gateway: &GatewayApiSpec,
    services: Option<(String, String)>,
    faults: &mut Vec<Fault>,
) -> Option<Routing> {
    if gateway.http_route.is_some() == gateway.http_routes.is_some() {
        faults.push(Fault::new(GATEWAY, "exactly one of httpRoute, httpRoutes is required"));
        return None;
    }
    let Some((stable, canary)) = services else {
        let why = "needs stableService and canaryService: the weights of an HTTPRoute lie between two Services";
        faults.push(Fault::new(GATEWAY, why));
        return None;
    };
    let listed = listed(GATEWAY, ("httpRoute", gateway.http_route.as_ref()), gateway.http_routes.as_deref());
    let named = |(path, reference): &(String, &HttpRouteRef)| (path.clone(), reference.name.clone());
    check_names(&listed.iter().map(named).collect::<Vec<_>>(), (GATEWAY, RouteKind::HttpRoute), faults);
    let rules = |one: &HttpRouteRef| one.rules.iter().flatten().cloned().map(Pick::Rule).collect();
    let targets = listed.iter().map(|(_, one)| Target { object: one.name.clone(), routes: rules(one) }).collect();
    Some(Routing::Hosts { kind: RouteKind::HttpRoute, targets, stable, canary })
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
        let hosts = owned.hosts.iter().flatten().enumerate().map(|(at, host)| (format!("hosts[{at}]"), host));
        for (field, host) in std::iter::once(("host".to_owned(), &owned.host)).chain(hosts) {
            if is_of_another_namespace(host, namespace) {
                let path = format!("{path}.owned.{field}");
                let why = "is a Service of another namespace, whose requests are not this Rollout's to lead";
                faults.push(Fault::new(path, format!("{host} {why}; name one of {namespace}")));
            }
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

/// Whether a host is, or takes in, Services of the cluster that are not of this namespace: Istio follows a route of the mesh in
/// every namespace, and who may write Rollouts in one must not lead the requests of another.
fn is_of_another_namespace(host: &str, namespace: &str) -> bool {
    let host = host.trim_end_matches('.').to_lowercase();
    let is_of_cluster = [".svc.cluster.local", ".svc"].iter().any(|domain| host.ends_with(domain))
        || ["*.cluster.local", "*.local"].contains(&host.as_str());
    let is_own = [format!(".{namespace}.svc.cluster.local"), format!(".{namespace}.svc")];
    is_of_cluster && !is_own.iter().any(|domain| host.ends_with(domain))
}

fn targets(
    path: &str,
    one: Option<&VirtualServiceRef>,
    several: Option<&[VirtualServiceRef]>,
    faults: &mut Vec<Fault>,
) -> Vec<Target> {
    let listed = listed(path, ("virtualService", one), several);
    let named = |(path, reference): &(String, &VirtualServiceRef)| (path.clone(), reference.name.clone());
    check_names(&listed.iter().map(named).collect::<Vec<_>>(), (path, RouteKind::VirtualService), faults);
    listed.iter().map(|(path, reference)| target(path, reference, faults)).collect()
}

/// References in a field, or in the list that is named after it, each with its path.
fn listed<'a, T>(path: &str, (field, one): (&str, Option<&'a T>), several: Option<&'a [T]>) -> Vec<(String, &'a T)> {
    if let Some(one) = one {
        return vec![(format!("{path}.{field}"), one)];
    }
    let several = several.unwrap_or_default().iter().enumerate();
    several.map(|(index, one)| (format!("{path}.{field}s[{index}]"), one)).collect()
}

/// Names of objects that hold routes: of the Rollout's namespace, each once.
fn check_names(listed: &[(String, String)], (path, kind): (&str, RouteKind), faults: &mut Vec<Fault>) {
    let (list, routes) = match kind {
        RouteKind::VirtualService => ("virtualServices", "routes"),
        RouteKind::HttpRoute => ("httpRoutes", "rules"),
    };
    if listed.is_empty() {
        faults.push(Fault::new(format!("{path}.{list}"), format!("is empty; name at least one {kind}")));
    }
    let mut names = BTreeSet::new();
    for (path, name) in listed {
        if kind == RouteKind::VirtualService && name.contains('.') {
            faults.push(Fault::new(
                format!("{path}.name"),
                "must be in the Rollout's namespace; write the name without a dot",
            ));
        }
        if !names.insert(name) {
            faults
                .push(Fault::new(format!("{path}.name"), format!("{name} is named twice; list its {routes} together")));
        }
    }
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
    Target { object: reference.name.clone(), routes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_other_namespaces_are_refused() {
        for (host, is_refused) in [
            ("checkout", false),
            ("checkout.shop.svc.cluster.local", false),
            ("checkout.shop.svc", false),
            ("*.shop.svc.cluster.local", false),
            ("shop.example", false),
            ("*.shop.example", false),
            ("payments.pay.svc.cluster.local", true),
            ("Payments.Pay.svc.Cluster.local.", true),
            ("payments.pay.svc", true),
            ("*.pay.svc.cluster.local", true),
            ("*.svc.cluster.local", true),
            ("*.cluster.local", true),
            ("payments.workshop.svc.cluster.local", true),
        ] {
            assert_eq!(is_of_another_namespace(host, "shop"), is_refused, "{host}");
        }
        let faults = |owned: serde_json::Value| {
            let routing = serde_json::json!({"istio": {"owned": owned}});
            let canary = serde_json::json!({"steps": [], "trafficRouting": routing});
            let spec = serde_json::json!({"strategy": {"canary": canary}, "template": {}, "selector": {"matchLabels": {"a": "b"}}});
            let strategy = crate::plan::strategy::parse("shop", &spec);
            strategy
                .faults
                .iter()
                .map(|fault| fault.path.clone())
                .filter(|path| path.contains("owned"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            faults(serde_json::json!({"host": "checkout", "hosts": ["checkout", "shop.example"]})),
            Vec::<String>::new()
        );
        let told = faults(serde_json::json!({"host": "a.pay.svc.cluster.local", "hosts": ["checkout", "a.pay.svc"]}));
        assert_eq!(told, [format!("{PATH}.owned.host"), format!("{PATH}.owned.hosts[1]")]);
    }
}
