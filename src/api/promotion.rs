//! What a person decides about a rollout, as Git declares it: `spec.promotion`. No part of it is in the revision hash.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::DurationText;

/// What a person decides, declared in Git. None of it begins a canary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PromotionSpec {
    /// Approvals of `approval` steps, each for one revision. One for another revision has no effect, and may stay.
    pub approvals: Option<Vec<ApprovalSpec>>,
    /// Holds the rollout where it is. An abort and a revert to stable still happen; a newer template ends the canary, and waits.
    pub hold: Option<bool>,
    /// Revisions that are aborted, and not tried again. Stronger than an approval; of no effect on a revision that is stable.
    pub reject: Option<Vec<RejectionSpec>>,
    /// Raised above its value at the time of an abort, it begins the aborted revision again at step 0. Absent: 0.
    #[schemars(range(min = 0))]
    pub retry: Option<i32>,
    /// When a revision may begin, go on and be promoted. Aborts, reverts, first deployments and rollbacks within
    /// `rollbackWindow` happen at any time. Absent: always.
    pub windows: Option<Vec<WindowSpec>>,
}

/// An approval of one step for one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalSpec {
    /// Name of the `approval` step.
    #[schemars(length(min = 1, max = 63))]
    pub step: String,
    /// The revision that it is for.
    #[serde(rename = "for")]
    pub selector: RevisionSelector,
    /// Who approves, for people to read; the proof is in Git.
    #[schemars(length(max = 253))]
    pub by: Option<String>,
    /// Why, such as the number of a change.
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// A revision that must not be released.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectionSpec {
    /// The revision.
    #[serde(rename = "for")]
    pub selector: RevisionSelector,
    /// Who rejects it, for people to read; the proof is in Git.
    #[schemars(length(max = 253))]
    pub by: Option<String>,
    /// Why.
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// Names a revision: by all of the fields that are given, at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSelector {
    /// The image of one of its containers, as the pod template writes it.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its revision hash, as `status.canary.hash` and `kubectl serin diff` tell it.
    #[schemars(length(min = 1, max = 63))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// The label `app.kubernetes.io/version` of its pod template, else of the Rollout when the revision began.
    #[schemars(length(min = 1, max = 63))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commit that brought it; at least the first seven characters.
    #[schemars(length(min = 7, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// A time that comes again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WindowSpec {
    /// When it begins: minute, hour, day of the month, month and day of the week, as in crontab(5).
    #[schemars(length(min = 1, max = 100))]
    pub cron: String,
    /// How long it lasts, such as `8h`; a minute at least, 60 days at most.
    pub duration: DurationText,
    /// The time zone of `cron`, such as `Asia/Shanghai` (<https://www.iana.org/time-zones>). Absent: UTC.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Whether rollouts go on in it, or not. Without any `Allow` they go on outside every `Deny`; `Deny` is stronger.
    /// Absent: `Allow`.
    pub mode: Option<WindowMode>,
}

/// What a window is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WindowMode {
    /// Rollouts go on in it.
    #[default]
    Allow,
    /// Rollouts are held in it.
    Deny,
}

/// Waits for an approval of this revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalStepSpec {
    /// What it is called in `spec.promotion.approvals` and in `RolloutAction`s.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How many different people must approve, by `by` of the approvals. Absent: 1.
    #[schemars(range(min = 1, max = 10))]
    // Absent it is not part of the steps' hash, so that an upgrade begins no steps again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvers: Option<i32>,
}
