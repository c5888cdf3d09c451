//! Jobs of Kubernetes as measurements: what a template says of one, and what is kept and watched of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::watched::watched;

/// A Job of Kubernetes, one for each measurement: one that completes is a success, one that fails is a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobMetric {
    /// Labels and annotations of the Job.
    pub metadata: Option<JobMetadataSpec>,
    /// The spec of the Job, of batch/v1; `{{args.name}}` is filled in wherever it has a text. Without `activeDeadlineSeconds` it
    /// has an hour.
    pub spec: Value,
}

/// Labels and annotations of a Job. Those that begin with `serin.dev/` are Serin's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobMetadataSpec {
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The Job of a measurement that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Its name; no other measurement has it.
    pub name: String,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Its UID, once it was seen: from then on it is not created again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Since when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
}

watched!(
    /// A Job that runs for a metric.
    Job, "batch", "v1", "Job", "jobs", NamespaceResourceScope, "super::watched::children",
    {
        /// How far it is.
        status: JobState,
    }
);

/// The part of a Job's status that a pass reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobState {
    /// What is said of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<JobCondition>,
}

/// A condition of a Job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobCondition {
    /// `Complete`, `Failed` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Job {
    /// The condition that says that it is over, and whether it is complete: none while its pods may still run.
    pub fn end(&self) -> Option<(&JobCondition, bool)> {
        let is_true = |condition: &&JobCondition| condition.status == "True";
        let mut ends = self.status.conditions.iter().filter(is_true);
        ends.find_map(|condition| match condition.kind.as_str() {
            "Complete" => Some((condition, true)),
            "Failed" => Some((condition, false)),
            _ => None,
        })
    }
}
