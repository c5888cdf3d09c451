//! The objects in Git whose weights are edited, and what picks routes of them.

use std::fmt;

use crate::api::istio::Protocol;

/// The kind of an object that holds routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// Istio's VirtualService.
    VirtualService,
    /// The Gateway API's HTTPRoute.
    HttpRoute,
}

impl RouteKind {
    /// Its API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::VirtualService => "networking.istio.io",
            Self::HttpRoute => "gateway.networking.k8s.io",
        }
    }

    /// The field of its spec that lists routes.
    pub fn routes(self, protocol: Protocol) -> &'static str {
        match self {
            Self::VirtualService => protocol.field(),
            Self::HttpRoute => "rules",
        }
    }

    /// The field of a route that lists weights.
    pub fn destinations(self) -> &'static str {
        match self {
            Self::VirtualService => "route",
            Self::HttpRoute => "backendRefs",
        }
    }

    /// The field of a Rollout that refers to one; that of several has an `s` behind.
    pub fn field(self) -> &'static str {
        match self {
            Self::VirtualService => "spec.strategy.canary.trafficRouting.istio.virtualService",
            Self::HttpRoute => "spec.strategy.canary.trafficRouting.gatewayAPI.httpRoute",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VirtualService => "VirtualService",
            Self::HttpRoute => "HTTPRoute",
        })
    }
}

/// One object that Git holds, and its routes to edit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Name of the VirtualService or HTTPRoute.
    pub object: String,
    /// The routes; none for the only HTTP route of a VirtualService, and for every rule of an HTTPRoute that names both Services.
    pub routes: Vec<Pick>,
}

/// Picks one route of a VirtualService, or one rule of an HTTPRoute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The HTTP route of this name.
    Named(String),
    /// The TLS route that matches this port, these server names, or both.
    Tls(Option<i32>, Option<Vec<String>>),
    /// The TCP route that matches this port.
    Tcp(i32),
    /// The rule of this name.
    Rule(String),
}

impl Pick {
    /// The protocol of the picked route.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Named(_) | Self::Rule(_) => Protocol::Http,
            Self::Tls(..) => Protocol::Tls,
            Self::Tcp(_) => Protocol::Tcp,
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "HTTP route named {name}"),
            Self::Tls(port, hosts) => {
                f.write_str("TLS route that matches")?;
                port.iter().try_for_each(|port| write!(f, " port {port}"))?;
                hosts.iter().try_for_each(|hosts| write!(f, " sniHosts {}", hosts.join(",")))
            }
            Self::Tcp(port) => write!(f, "TCP route that matches port {port}"),
            Self::Rule(name) => write!(f, "rule named {name}"),
        }
    }
}
