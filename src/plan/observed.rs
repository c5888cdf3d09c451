//! The whole snapshot of one Rollout's world as one owned, serializable value.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::api::config::ConfigKind;
use crate::api::job::Job;
use crate::api::json::Json;
use crate::api::watched::{
    Deployment, DestinationRule, HttpRoute, Pod, ReplicaSet, Rollout, RolloutAction, Service, VirtualService,
};

/// All that `plan` may know besides measurements and the time. A support dump of it is a test case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// The Rollout itself.
    pub rollout: Rollout,
    /// The Deployment that it names in `workloadRef`.
    #[serde(skip_serializing_if = "Workload::is_unlisted")]
    pub workload: Workload,
    /// The commit that brought this generation, where the GitOps tool that applied it has it on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether that record could not be read, and is asked for again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_commit_unread: bool,
    /// What its pods may take configuration from, where it asks for copies.
    #[serde(skip_serializing_if = "Configs::is_empty")]
    pub configs: Configs,
    /// Jobs of its metrics, where there are any.
    #[serde(skip_serializing_if = "Jobs::is_empty")]
    pub jobs: Jobs,
    /// ReplicaSets that it owns, of its revisions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replica_sets: Vec<ReplicaSet>,
    /// Those of them that are baselines, which are no revision's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<ReplicaSet>,
    /// VirtualServices that it names or owns, and others that hold the same hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub virtual_services: Vec<VirtualService>,
    /// HTTPRoutes that it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_routes: Vec<HttpRoute>,
    /// DestinationRules that it names or owns, and others for the same host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_rules: Vec<DestinationRule>,
    /// Services that its routes lead to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Analysis templates that it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Template>,
    /// Metric providers by name: what is wrong with each for this namespace, or nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, Option<String>>,
    /// Its pods, while they are restarted or their metadata is edited, and once they are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Vec<Pod>>,
    /// The disruption budget's refusal of the last eviction, and until when nothing else is evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eviction_refused: Option<EvictionRefused>,
    /// What became of the last edit of pods' metadata, and until when no other is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits_postponed: Option<EditsPostponed>,
    /// Whether the proxies have the route.
    #[serde(skip_serializing_if = "Proxies::is_unasked")]
    pub proxies: Proxies,
    /// Actions that name it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<RolloutAction>,
    /// The API server's refusal of the last write, while nothing has changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The controller's settings.
    pub settings: Settings,
}

/// ConfigMaps and Secrets of the namespace, each by a digest of its content; none of a kind that is not listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configs {
    /// ConfigMaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_maps: Option<Vec<Config>>,
    /// Secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<Config>>,
    /// Objects that were there a moment ago.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<GoneConfig>,
    /// What became of the last deletion of a copy that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undeleted: Option<Undeleted>,
}

/// A ConfigMap or a Secret that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneConfig {
    /// What it was.
    pub kind: ConfigKind,
    /// Its name.
    pub name: String,
    /// When it was missed.
    pub at: Timestamp,
}

/// A copy, or a Job, that could not be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undeleted {
    /// What the API server said.
    pub message: String,
    /// Until when no deletion is tried.
    pub until: Timestamp,
}

impl Configs {
    /// Those of a kind.
    pub fn of(&self, kind: ConfigKind) -> Option<&[Config]> {
        let listed = match kind {
            ConfigKind::ConfigMap => &self.config_maps,
            ConfigKind::Secret => &self.secrets,
        };
        listed.as_deref()
    }

    /// Whether no kind is asked for, and nothing remains of the time when one was.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A ConfigMap or a Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// What it is.
    pub kind: ConfigKind,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Digest of its content.
    pub digest: String,
    /// When it was last written, where the API server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// Whether it is a copy of this Rollout's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_copy: bool,
}

/// Jobs of a Rollout's metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Jobs {
    /// Those that there are; none while they are not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed: Option<Vec<Job>>,
    /// Those that could not be created.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<JobRefused>,
    /// What became of the last deletion of a Job that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undeleted: Option<Undeleted>,
}

impl Jobs {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A Job that could not be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRefused {
    /// Its name.
    pub name: String,
    /// What the API server said.
    pub message: String,
    /// Whether it is not tried again.
    pub is_final: bool,
    /// Until when it is not tried.
    pub until: Timestamp,
}

/// What is known of the Deployment that a Rollout names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Workload {
    /// None is named, or it is not read yet.
    #[default]
    Unlisted,
    /// It does not exist.
    Missing,
    /// It exists.
    Found(Box<Deployment>),
}

impl Workload {
    /// The Deployment, once it is read.
    pub fn found(&self) -> Option<&Deployment> {
        match self {
            Self::Unlisted | Self::Missing => None,
            Self::Found(deployment) => Some(deployment),
        }
    }

    fn is_unlisted(&self) -> bool {
        *self == Self::Unlisted
    }
}

/// What is known of the proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proxies {
    /// Nobody can be asked: a written route counts as in force after [`Settings::route_wait`].
    #[default]
    Unasked,
    /// istiod is asked.
    Asked(Acknowledgement),
}

impl Proxies {
    fn is_unasked(&self) -> bool {
        *self == Self::Unasked
    }
}

/// What istiod says of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The route, as one line.
    pub route: String,
    /// What is missing, as a sentence; none once every proxy has acknowledged it.
    pub missing: Option<String>,
}

/// An eviction that a disruption budget refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictionRefused {
    /// What the API server said.
    pub message: String,
    /// Until when nothing is tried.
    pub until: Timestamp,
}

/// An edit of pods' metadata that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditsPostponed {
    /// What the API server said; none where the snapshot was old.
    pub message: Option<String>,
    /// Until when nothing is tried.
    pub until: Timestamp,
}

/// An analysis template that a Rollout names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Whether it is a ClusterAnalysisTemplate.
    pub cluster: bool,
    /// Its spec.
    pub spec: Json,
}

/// Settings of the controller that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How long a written route takes at most to reach every proxy, in milliseconds, where nobody can be asked.
    pub route_wait_ms: i64,
    /// How long proxies have to acknowledge a written route, in milliseconds: after it, only what makes no canary weight goes on.
    pub route_ack_timeout_ms: i64,
    /// How long subsets and pods are kept for proxies that do not acknowledge, in milliseconds.
    pub drain_timeout_ms: i64,
    /// How long the longest request takes, in milliseconds: a revision without traffic is drained after it.
    pub drain_ms: i64,
    /// Whether an admission policy holds that `spec.by` of a `RolloutAction` is the user who created it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub verified_requesters: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            route_wait_ms: 2_000,
            route_ack_timeout_ms: 30_000,
            drain_timeout_ms: 600_000,
            drain_ms: 5_000,
            verified_requesters: false,
        }
    }
}

impl Settings {
    /// [`Settings::route_wait_ms`] as a duration.
    pub fn route_wait(&self) -> SignedDuration {
        SignedDuration::from_millis(self.route_wait_ms)
    }

    /// [`Settings::route_ack_timeout_ms`] as a duration.
    pub fn route_ack_timeout(&self) -> SignedDuration {
        SignedDuration::from_millis(self.route_ack_timeout_ms)
    }

    /// [`Settings::drain_timeout_ms`] as a duration.
    pub fn drain_timeout(&self) -> SignedDuration {
        SignedDuration::from_millis(self.drain_timeout_ms)
    }

    /// [`Settings::drain_ms`] as a duration.
    pub fn drain(&self) -> SignedDuration {
        SignedDuration::from_millis(self.drain_ms)
    }
}
