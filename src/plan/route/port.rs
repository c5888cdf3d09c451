//! The port of its Service that a route of Serin's leads to. Where a destination names none, Istio takes the only one that the
//! Service has; of several it takes that of the listener by which the request came, which the Service may not even have.

use super::read::{service_named, service_problem, virtual_service_named};
use super::{Names, Problem, Route};
use crate::api::istio::{Destination, service_of};
use crate::api::watched::{Service, ServicePort, VirtualService};
use crate::plan::observed::Observed;

/// Said where nobody can tell which port is meant.
pub const UNCLEAR: &str = "RoutePort";

/// The field that names the port.
const PATH: &str = "spec.strategy.canary.trafficRouting.istio.owned.port";

/// The port that an owned VirtualService leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Its number, where one is named.
    pub named: Option<i32>,
    /// Whether it has to be another.
    pub is_wrong: bool,
}

/// Reads the port that the owned VirtualService leads to, and whether it has to be another.
pub(super) fn read(
    observed: &Observed,
    namespace: &str,
    (names, host, given): (&Names, &str, Option<i32>),
    route: &mut Route,
) -> Result<(), Problem> {
    let own = names.virtual_service.as_deref().and_then(|name| virtual_service_named(observed, namespace, name));
    route.port.named = own.and_then(named);
    let wanted = wanted(observed, host, given)?;
    route.port.is_wrong = own.into_iter().flat_map(destinations).any(|one| number(one) != wanted);
    Ok(())
}

/// The port that is written: the right one; where that cannot be told, the one that is there.
pub(in crate::plan) fn written(observed: &Observed, name: &str, host: &str, given: Option<i32>) -> Option<i32> {
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    let present = virtual_service_named(observed, namespace, name);
    wanted(observed, host, given).unwrap_or_else(|_| present.map_or(given, named))
}

/// The port that every destination has to name; none where the Service has only one.
fn wanted(observed: &Observed, host: &str, given: Option<i32>) -> Result<Option<i32>, Problem> {
    let Some((name, namespace)) = service_of(host) else { return Ok(given) };
    if let Some(problem) = service_problem(observed, host) {
        return Err(problem);
    }
    let ports = service_named(observed, namespace, name).map_or(&[][..], |service: &Service| &service.spec.ports);
    let http: Vec<i32> = ports.iter().filter(|port| is_http(port)).map(|port| port.port).collect();
    let unclear = |message: String| Problem { reason: UNCLEAR, message };
    let listed = list(ports.iter().map(told));
    match (given, http.as_slice()) {
        (Some(given), _) if ports.iter().any(|port| port.port == given && port.protocol.is_none()) => Ok(Some(given)),
        (Some(given), _) => Err(unclear(format!(
            "{PATH}: {given} is no TCP port of Service {namespace}/{name}, which has {listed}; write one of them"
        ))),
        (None, _) if ports.len() < 2 => Ok(None),
        (None, [one]) => Ok(Some(*one)),
        (None, http) => {
            let which = if http.is_empty() { "none".to_owned() } else { list(http.iter().map(i32::to_string)) };
            Err(unclear(format!(
                "{PATH}: is missing, and Service {namespace}/{name} has the ports {listed}, of which Istio takes {which} for HTTP by appProtocol and name; write the one that requests go to"
            )))
        }
    }
}

/// Whether Istio routes a port's requests as HTTP, by its `appProtocol`, else by its name up to the first hyphen.
/// What it has to find out by looking at requests is not known here, and TLS it routes by server name alone.
/// <https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/>
fn is_http(port: &ServicePort) -> bool {
    if port.protocol.is_some() {
        return false;
    }
    let name = match (&port.app_protocol, &port.name) {
        (Some(protocol), _) if ["kubernetes.io/h2c", "kubernetes.io/ws"].contains(&protocol.as_str()) => return true,
        (Some(name), _) | (None, Some(name)) => name.to_lowercase(),
        (None, None) => return false,
    };
    // `grpc-web` begins as `grpc` does.
    ["http", "http2", "grpc"].contains(&name.split('-').next().unwrap_or_default())
}

fn told(port: &ServicePort) -> String {
    let known = [&port.name, &port.app_protocol, &port.protocol].into_iter().flatten();
    let known: Vec<&str> = known.map(String::as_str).collect();
    if known.is_empty() { port.port.to_string() } else { format!("{} ({})", port.port, known.join(", ")) }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// The first port that a VirtualService names.
fn named(virtual_service: &VirtualService) -> Option<i32> {
    destinations(virtual_service).find_map(number)
}

fn number(destination: &Destination) -> Option<i32> {
    destination.port.map(|port| port.number)
}

fn destinations(virtual_service: &VirtualService) -> impl Iterator<Item = &Destination> {
    let routes = virtual_service.spec.http.iter();
    routes.flat_map(|route| route.route.iter().map(|one| &one.destination).chain(&route.mirror))
}
