//! ConfigMaps and Secrets: `spec.configSnapshots`, and what is kept of them. Never their content: a digest of it.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use super::names;
use super::watched::watched;

/// A kind that pods take configuration from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ConfigKind {
    /// ConfigMaps.
    ConfigMap,
    /// Secrets.
    Secret,
}

impl ConfigKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ConfigMap, Self::Secret];

    /// The shipped ClusterRole that lets Serin copy them where it is bound.
    pub fn role(self) -> &'static str {
        match self {
            Self::ConfigMap => "serin-config-snapshots",
            Self::Secret => "serin-secret-snapshots",
        }
    }
}

impl fmt::Display for ConfigKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        })
    }
}

/// Which configuration belongs to a revision. The objects of these kinds that the pod template refers to are copied for each
/// revision, and a change of one begins a canary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSnapshotsSpec {
    /// The kinds. Serin needs a RoleBinding in the namespace for each: to ClusterRole `serin-config-snapshots`, and to
    /// `serin-secret-snapshots`.
    #[schemars(length(min = 1, max = 2))]
    pub kinds: Vec<ConfigKind>,
    /// Names of objects that are left as they are, such as a certificate that is renewed by itself.
    pub except: Option<Vec<String>>,
}

watched!(
    /// A ConfigMap.
    ConfigMap, "", "v1", "ConfigMap", "configmaps", NamespaceResourceScope, "newest",
    {
        /// Text.
        data: Digest,
        /// Bytes.
        binary_data: Digest,
    }
);

watched!(
    /// A Secret.
    Secret, "", "v1", "Secret", "secrets", NamespaceResourceScope, "newest",
    {
        /// Bytes.
        data: Digest,
    }
);

impl ConfigMap {
    /// A digest of its content.
    pub fn digest(&self) -> String {
        digest(&[&self.data.0, &self.binary_data.0])
    }
}

impl Secret {
    /// A digest of its content.
    pub fn digest(&self) -> String {
        digest(&[&self.data.0])
    }
}

/// SHA-256 of a map's entries; empty for an empty map, and for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Digest(String);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content =
            Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?.unwrap_or_default();
        let text =
            if content.is_empty() { String::new() } else { digest(&[&serde_json::Value::from(content).to_string()]) };
        Ok(Self(text))
    }
}

fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads the metadata: of labels and annotations what a copy is a copy of alone, and of `managedFields` the newest time.
fn newest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let metadata = ObjectMeta::deserialize(deserializer)?;
    let time = metadata.managed_fields.into_iter().flatten().filter_map(|entry| entry.time).max_by_key(|time| time.0);
    let managed_fields =
        time.map(|time| vec![ManagedFieldsEntry { time: Some(time), ..ManagedFieldsEntry::default() }]);
    let mut annotations = metadata.annotations;
    if let Some(all) = &mut annotations {
        all.retain(|key, _| key == names::CONFIG_SOURCE);
    }
    let annotations = annotations.filter(|all| !all.is_empty());
    Ok(ObjectMeta { labels: None, annotations, managed_fields, ..metadata })
}
