//! What happened to a Rollout, as its status remembers it for those who are to be told.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutEvent {
    /// Counts the events of this Rollout, from 1.
    pub sequence: i64,
    /// When it was decided or seen.
    pub at: Timestamp,
    /// A word from the documented list of event reasons, such as `Aborted`.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Hash of the revision that it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The try of that revision, counting from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Commit that brought that revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Commit of the revision that served before, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_commit: Option<String>,
}
