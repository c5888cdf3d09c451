//! The narrow view of the Gateway API's HTTPRoute that Serin watches. Edits never pass through these types.

use serde::{Deserialize, Serialize};

/// The group of Gateways and HTTPRoutes.
const GROUP: &str = "gateway.networking.k8s.io";

/// The parts of an HTTPRoute's spec that weights depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// Who is to follow it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts that it answers for; empty for those of its parents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Rules, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Its name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where its requests go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
}

/// A backend and its share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendRef {
    /// Its group; absent: the core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; absent: a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Its namespace; absent: that of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its share among the weights of the rule; absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

impl BackendRef {
    /// Its share.
    pub fn share(&self) -> i32 {
        self.weight.unwrap_or(1).max(0)
    }

    /// Whether it is this Service of the route's namespace.
    pub fn is_service(&self, name: &str, namespace: &str) -> bool {
        self.name == name
            && self.group.as_deref().unwrap_or_default().is_empty()
            && self.kind.as_deref().is_none_or(|kind| kind == "Service")
            && self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// What the controllers of its parents say of an HTTPRoute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpRouteStatus {
    /// Each parent that a controller has answered for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentStatus>,
}

impl HttpRouteStatus {
    /// Whether nobody has answered.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }
}

/// What one controller says of a route at one parent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentStatus {
    /// The parent.
    pub parent_ref: ParentRef,
    /// The controller.
    pub controller_name: String,
    /// Its answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ParentCondition>,
}

/// A Gateway, or a Service of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// Its group; absent: that of Gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; absent: a Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace; absent: that of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The listener of it; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The port of it; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

impl ParentRef {
    /// Its group and kind.
    pub fn kind(&self) -> (&str, &str) {
        (self.group.as_deref().unwrap_or(GROUP), self.kind.as_deref().unwrap_or("Gateway"))
    }

    /// Its namespace, as a route of a namespace means it.
    pub fn namespace<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }

    /// Whether it is a Gateway.
    pub fn is_gateway(&self) -> bool {
        self.kind() == (GROUP, "Gateway")
    }

    /// Whether it is a Service of the mesh.
    pub fn is_service(&self) -> bool {
        self.kind() == ("", "Service")
    }

    /// Whether both are the same to a route of a namespace.
    pub fn is(&self, other: &Self, own: &str) -> bool {
        self.kind() == other.kind()
            && self.namespace(own) == other.namespace(own)
            && (&self.name, &self.section_name, self.port) == (&other.name, &other.section_name, other.port)
    }
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentCondition {
    /// `Accepted`, `ResolvedRefs`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The generation of the route that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
