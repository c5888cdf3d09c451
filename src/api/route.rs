//! What is remembered of a Rollout's route.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::is_zero;

/// The route as last observed, and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// What is observed, as one line: subsets and weights.
    pub observed: String,
    /// Since when it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Since when every proxy is known to have it; absent where nobody can be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Timestamp>,
    /// Since when the canary weight is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_since: Option<Timestamp>,
    /// Since when every proxy is known to have a route in which it is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_acknowledged: Option<Timestamp>,
    /// Canary weights that Git held when the rollout began, by `virtualservice/route`; present while they must be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resting: Option<BTreeMap<String, i32>>,
    /// How often somebody else changed the weights during this rollout.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub contested: i32,
    /// When that was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contested_at: Option<Timestamp>,
    /// How often somebody else changed the revision labels of the two subsets, or the selectors of the two Services, that Git
    /// holds; zero again once they have stayed as they are for ten minutes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub relabelled: i32,
    /// When that was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relabelled_at: Option<Timestamp>,
    /// The revisions that Serin last gave the two subsets, or Services, that Git holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_sides: Option<AskedSides>,
    /// The canary weight that Serin last asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asked: i32,
    /// Names of the header and mirror routes that are Serin's, from the beginning of a rollout until none is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed: Vec<String>,
    /// Names of those that Serin last asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_managed: Vec<String>,
    /// Whether that weight was written by the last pass, and not looked at since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
}

/// The revisions that Serin last gave the two subsets, or Services, that Git holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AskedSides {
    /// The objects, as in `DestinationRule checkout`.
    pub of: String,
    /// Hash of the stable side.
    pub stable: String,
    /// Hash of the canary side.
    pub canary: String,
    /// Whether they have them, as far as is known: nobody else has changed them since.
    pub held: bool,
}
