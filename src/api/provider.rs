//! What an administrator writes in a `MetricProvider`: where metrics are, who may ask, with which credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source of metrics. Rollouts name it and never hold a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricProviderSpec {
    /// A server with Prometheus' query API.
    pub prometheus: Option<EndpointSpec>,
    /// A server that `web` metrics ask for JSON, or tell of a rollout.
    pub web: Option<EndpointSpec>,
    /// Credentials. Absent: none.
    pub authentication: Option<AuthenticationSpec>,
    /// Namespaces whose Rollouts may ask. Absent: all.
    pub allowed_namespaces: Option<Vec<String>>,
    /// Seconds that a query may take, 1 to 60. Absent: 10.
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: Option<i32>,
    /// Bytes that an answer may have. Absent: 1048576.
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub max_response_bytes: Option<i64>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSpec {
    /// Its address, such as `http://prometheus.monitoring:9090`.
    #[schemars(length(min = 1, max = 2048))]
    pub address: String,
    /// Whether its certificate is not checked. Absent: false.
    pub insecure_skip_verify: Option<bool>,
}

/// Credentials, from a Secret in the controller's namespace: exactly one of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationSpec {
    /// A token, sent as `Authorization: Bearer`.
    pub bearer_token: Option<SecretKey>,
    /// A user and a password.
    pub basic: Option<BasicSpec>,
}

/// One key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BasicSpec {
    /// The user.
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// The password.
    pub password: SecretKey,
}

impl MetricProviderSpec {
    /// A provider without credentials, for everybody.
    pub fn at(address: &str) -> Self {
        Self {
            prometheus: Some(EndpointSpec { address: address.to_owned(), insecure_skip_verify: None }),
            web: None,
            authentication: None,
            allowed_namespaces: None,
            timeout_seconds: None,
            max_response_bytes: None,
        }
    }

    /// The server, whichever kind it is.
    pub fn endpoint(&self) -> Option<&EndpointSpec> {
        self.prometheus.as_ref().or(self.web.as_ref())
    }

    /// Whether Rollouts of a namespace may ask.
    pub fn allows(&self, namespace: &str) -> bool {
        self.allowed_namespaces.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == namespace))
    }

    /// What keeps Rollouts of a namespace from asking the provider of this name.
    pub fn fault_for(&self, name: &str, namespace: &str) -> Option<String> {
        if !self.allows(namespace) {
            return Some(format!(
                "MetricProvider {name} does not allow the namespace {namespace}; ask its administrator to add it to allowedNamespaces"
            ));
        }
        self.fault().map(|fault| format!("MetricProvider {name}: {fault}"))
    }

    /// What is wrong with the spec, with the field's path.
    pub fn fault(&self) -> Option<String> {
        let (kind, endpoint) = match (&self.prometheus, &self.web) {
            (Some(endpoint), None) => ("prometheus", endpoint),
            (None, Some(endpoint)) => ("web", endpoint),
            (None, None) | (Some(_), Some(_)) => {
                return Some("spec: exactly one of prometheus, web is required".to_owned());
            }
        };
        let address = &endpoint.address;
        if !(address.starts_with("http://") || address.starts_with("https://")) {
            return Some(format!("spec.{kind}.address: {address:?} is not a URL; write http://… or https://…"));
        }
        let authentication = self.authentication.as_ref()?;
        (authentication.bearer_token.is_some() == authentication.basic.is_some())
            .then(|| "spec.authentication: exactly one of bearerToken, basic is required".to_owned())
    }
}
