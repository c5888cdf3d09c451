//! The messages of the stream on which istiod sends a proxy its configuration, as far as they are read.
//!
//! Field numbers are those of Envoy's protocol, version 3: `envoy/service/discovery/v3/discovery.proto`,
//! `envoy/config/route/v3/route.proto`, `route_components.proto`, `envoy/config/endpoint/v3/endpoint.proto`,
//! `endpoint_components.proto` and `envoy/config/core/v3/base.proto`; and of `google/protobuf/struct.proto`.

use std::collections::BTreeMap;

use prost::Message;

use super::dump;

/// Routes of HTTP.
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Endpoints of clusters.
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// Asks for resources, or acknowledges some.
#[derive(Clone, PartialEq, Message)]
pub struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub response_nonce: String,
}

/// Who asks.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub cluster: String,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
}

/// Resources of one type.
#[derive(Clone, PartialEq, Message)]
pub struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(oneof = "Kind", tags = "3, 5")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Struct),
}

#[derive(Clone, PartialEq, Message)]
struct RouteConfiguration {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    virtual_hosts: Vec<VirtualHost>,
}

#[derive(Clone, PartialEq, Message)]
struct VirtualHost {
    #[prost(message, repeated, tag = "3")]
    routes: Vec<Route>,
}

#[derive(Clone, PartialEq, Message)]
struct Route {
    #[prost(message, optional, tag = "2")]
    action: Option<RouteAction>,
    #[prost(message, optional, tag = "4")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "14")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct RouteAction {
    #[prost(oneof = "Leads", tags = "1, 3")]
    leads: Option<Leads>,
    #[prost(message, repeated, tag = "30")]
    request_mirror_policies: Vec<Mirror>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Leads {
    #[prost(string, tag = "1")]
    Cluster(String),
    #[prost(message, tag = "3")]
    Clusters(Clusters),
}

#[derive(Clone, PartialEq, Message)]
struct Mirror {
    #[prost(string, tag = "1")]
    cluster: String,
}

#[derive(Clone, PartialEq, Message)]
struct Clusters {
    #[prost(message, repeated, tag = "1")]
    clusters: Vec<Weighted>,
}

#[derive(Clone, PartialEq, Message)]
struct Weighted {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    weight: Option<UInt32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct UInt32 {
    #[prost(uint32, tag = "1")]
    value: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    filter_metadata: BTreeMap<String, Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<Locality>,
}

#[derive(Clone, PartialEq, Message)]
struct Locality {
    #[prost(message, repeated, tag = "2")]
    lb_endpoints: Vec<Endpoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Endpoint {
    #[prost(message, optional, tag = "3")]
    metadata: Option<Metadata>,
}

impl Struct {
    /// A struct of texts.
    pub fn of_texts<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let text = |text: &str| Value { kind: Some(Kind::Text(text.to_owned())) };
        Self { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect() }
    }
}

impl Metadata {
    fn istio(self, key: &str) -> Option<String> {
        match self.filter_metadata.get("istio")?.fields.get(key)?.kind.as_ref()? {
            Kind::Text(text) => Some(text.clone()),
            Kind::Struct(_) => None,
        }
    }
}

impl DiscoveryResponse {
    /// Its resources; none of a type that is not read.
    ///
    /// # Errors
    ///
    /// A resource that is not what its type says.
    pub fn configs(&self) -> Result<Vec<dump::Config>, prost::DecodeError> {
        self.resources.iter().filter_map(|any| any.config().transpose()).collect()
    }
}

impl Any {
    fn config(&self) -> Result<Option<dump::Config>, prost::DecodeError> {
        Ok(match self.type_url.as_str() {
            ROUTES => Some(RouteConfiguration::decode(self.value.as_slice())?.into()),
            ENDPOINTS => Some(ClusterLoadAssignment::decode(self.value.as_slice())?.into()),
            _ => None,
        })
    }
}

impl From<RouteConfiguration> for dump::Config {
    fn from(one: RouteConfiguration) -> Self {
        let routes = one.virtual_hosts.into_iter().flat_map(|host| host.routes).map(dump::Route::from).collect();
        Self::of_routes(one.name, routes)
    }
}

impl From<Route> for dump::Route {
    fn from(one: Route) -> Self {
        let action = one.action.unwrap_or_default();
        let (mut cluster, mut weights) = (None, BTreeMap::new());
        match action.leads {
            Some(Leads::Cluster(name)) => cluster = Some(name),
            Some(Leads::Clusters(all)) => {
                for one in all.clusters {
                    *weights.entry(one.name).or_default() += one.weight.map_or(0, |weight| i64::from(weight.value));
                }
            }
            None => {}
        }
        let mirrors = action.request_mirror_policies.into_iter().map(|mirror| mirror.cluster);
        Self::new(one.name, one.metadata.and_then(|all| all.istio("config")), (cluster, weights), mirrors)
    }
}

impl From<ClusterLoadAssignment> for dump::Config {
    fn from(one: ClusterLoadAssignment) -> Self {
        let all = one.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
        let workloads = all.map(|endpoint| endpoint.metadata.and_then(|all| all.istio("workload")));
        Self::of_endpoints(one.cluster_name, workloads.collect())
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! Resources as istiod sends them.

    use super::*;

    fn istio(key: &str, value: &str) -> Metadata {
        let fields = Struct::of_texts([(key, value)]);
        Metadata { filter_metadata: BTreeMap::from([("istio".to_owned(), fields)]) }
    }

    /// A listener with one route of the VirtualService `checkout` in `shop`.
    pub(crate) fn routes(listener: &str, route: &str, weights: &[(&str, u32)]) -> impl Message + use<> {
        let weighted =
            |(name, value): &(&str, u32)| Weighted { name: (*name).to_owned(), weight: Some(UInt32 { value: *value }) };
        let clusters = Clusters { clusters: weights.iter().map(weighted).collect() };
        let route = Route {
            action: Some(RouteAction { leads: Some(Leads::Clusters(clusters)), request_mirror_policies: Vec::new() }),
            metadata: Some(istio("config", "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/checkout")),
            name: route.to_owned(),
        };
        RouteConfiguration { name: listener.to_owned(), virtual_hosts: vec![VirtualHost { routes: vec![route] }] }
    }

    /// A cluster with endpoints of these workloads.
    pub(crate) fn endpoints(cluster: &str, workloads: &[&str]) -> impl Message + use<> {
        let endpoint = |workload: &&str| Endpoint { metadata: Some(istio("workload", workload)) };
        let lb_endpoints = workloads.iter().map(endpoint).collect();
        ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: vec![Locality { lb_endpoints }] }
    }
}
