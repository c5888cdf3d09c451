//! The narrow view of Istio's VirtualService and DestinationRule that Serin watches. Edits never pass through these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// The parts of a VirtualService's spec that weights depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualServiceSpec {
    /// Hosts that it answers for; empty for a delegate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Gateways that it is bound to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// HTTP routes, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<Route>,
    /// TLS routes, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<Route>,
    /// TCP routes, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<Route>,
}

impl VirtualServiceSpec {
    /// The routes of a protocol.
    pub fn routes(&self, protocol: Protocol) -> &[Route] {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Tls => &self.tls,
            Protocol::Tcp => &self.tcp,
        }
    }

    /// Every route.
    pub fn all(&self) -> impl Iterator<Item = &Route> {
        self.http.iter().chain(&self.tls).chain(&self.tcp)
    }
}

/// The protocol of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP, gRPC among it.
    #[default]
    Http,
    /// TLS, passed through by server name.
    Tls,
    /// TCP.
    Tcp,
}

impl Protocol {
    /// Its field in a VirtualService's spec.
    pub fn field(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

/// One route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    /// Its name; HTTP routes alone have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it matches: ports and server names, methods, paths and headers; a match by nothing of these is not kept.
    #[serde(rename = "match", deserialize_with = "matches", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// Its destinations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<WeightedDestination>,
    /// Where copies of its requests go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Destination>,
    /// How many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror_percentage: Option<Percentage>,
    /// The VirtualService whose routes count in place of destinations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegate>,
}

/// A VirtualService without hosts, which a root names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; absent: that of the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

fn matches<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Match>, D::Error> {
    let all = Vec::<Match>::deserialize(deserializer)?;
    Ok(all.into_iter().filter(|one| *one != Match::default()).collect())
}

/// A part of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Percentage {
    /// Percent, rounded: nobody but others writes a fraction.
    #[serde(deserialize_with = "rounded")]
    pub value: i64,
}

fn rounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[expect(clippy::cast_possible_truncation, reason = "percent")]
    f64::deserialize(deserializer).map(|value| value.round() as i64)
}

/// What a route matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Server names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sni_hosts: Vec<String>,
    /// The method of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<TextMatch>,
    /// Its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<TextMatch>,
    /// Its headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, TextMatch>,
}

/// What a text is compared with; at most one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextMatch {
    /// The whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// How it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A regular expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// A destination and its share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightedDestination {
    /// Where to.
    pub destination: Destination,
    /// Percent; absent means 100 for a single destination, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// A host and one of its subsets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// Host name.
    pub host: String,
    /// Subset of the host's DestinationRule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Port of the host; absent: the only one that it has, else that of the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortNumber>,
}

/// A port of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortNumber {
    /// Its number.
    pub number: i32,
}

/// The parts of a DestinationRule's spec that subsets depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRuleSpec {
    /// The host.
    pub host: String,
    /// Namespaces that see it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Present when the rule is for some client workloads only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Its subsets, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Subset>,
}

/// Selects client workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Labels of the workloads.
    pub match_labels: BTreeMap<String, String>,
}

/// One subset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Labels of its pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The full host name of a destination's host: short names belong to the namespace.
pub fn full_host(host: &str, namespace: &str) -> String {
    if host.contains('.') || host == "*" { host.to_owned() } else { format!("{host}.{namespace}.svc.cluster.local") }
}

/// The Service that a full host name means: name and namespace; `None` for hosts outside the cluster.
pub fn service_of(full_host: &str) -> Option<(&str, &str)> {
    let (name, rest) = full_host.split_once('.')?;
    let (namespace, domain) = rest.split_once('.')?;
    (domain == "svc.cluster.local" || domain == "svc").then_some((name, namespace))
}
