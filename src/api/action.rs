//! `RolloutAction`: the audited way out of Git, and its answer.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing a person asks of one Rollout at one revision. Cannot be changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutActionSpec {
    /// Name of the Rollout, in the same namespace.
    pub rollout: String,
    /// The revision hash that it was decided on; any other revision refuses the action.
    pub revision: String,
    /// What to do.
    pub action: Verb,
    /// The step that it was decided on: for `promote` its index, counting from 0; for `approve` the name of an `approval`
    /// step, or its index.
    pub step: Option<IntOrString>,
    /// Why.
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who asks, as the person says; unverified unless an admission policy enforces it.
    #[schemars(length(max = 253))]
    pub by: Option<String>,
}

/// What a person may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Approve an `approval` step for the revision, now or before it is reached.
    Approve,
    /// Pass the current step, unless it waits for an approval.
    Promote,
    /// Pass all steps.
    PromoteFull,
    /// All traffic to stable, and stay there.
    Abort,
    /// Begin the aborted revision again from step 0.
    Retry,
    /// Hold at the current step.
    Pause,
    /// Go on.
    Resume,
    /// Restart all pods, a few at a time. The revision is stable's, or the canary's.
    Restart,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Approve => "approve",
            Self::Promote => "promote",
            Self::PromoteFull => "promoteFull",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Restart => "restart",
        })
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutActionStatus {
    /// Whether it was done.
    pub accepted: Option<bool>,
    /// What was done, or why not and what to do instead.
    pub message: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
}
