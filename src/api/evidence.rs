//! What metrics with `compare` and `limit` have seen: as people read it, and as it is remembered.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::{AnalysisKind, is_zero};

/// What a metric with `compare` or `limit` has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceStatus {
    /// What it says.
    pub verdict: EvidenceVerdict,
    /// The same in words: rates, their ratio, the evidence, and what is still needed.
    pub message: String,
    /// Windows with data in this analysis.
    pub windows: i32,
    /// Requests of the canary at this weight, and the bad ones among them.
    pub canary: Requests,
    /// Requests of stable in the same windows; absent for `limit` and against a baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<Requests>,
    /// Requests of the baseline in the same windows, where that is what the canary is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Requests>,
    /// How many times the canary's rate at this weight is stable's, the baseline's, or the limit; absent while there are no bad requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioStatus>,
    /// How many times more likely it is that the canary is worse than tolerated than that it is not.
    pub worse: f64,
    /// The `worse` that aborts.
    pub aborts_at: f64,
    /// How many times more likely it is that the canary is better than the margin than that it is not.
    pub better: f64,
    /// The `better` that passes, where the metric can pass by evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes_at: Option<f64>,
}

/// The pods that were started together with a canary's, to hold it against.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BaselineStatus {
    /// What they carry as `service.istio.io/canonical-revision`; absent while only those of an earlier canary are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Pods wanted, those of earlier canaries included.
    pub replicas: i32,
    /// Those of them that nothing asks for any more, and that go one after the other.
    #[serde(skip_serializing_if = "is_zero")]
    pub leaving: i32,
    /// Ready pods.
    pub ready: i32,
    /// When some of them were last taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shrunk_at: Option<Timestamp>,
}

/// What the evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EvidenceVerdict {
    /// The canary is worse than tolerated.
    Worse,
    /// It is not worse than the margin.
    NotWorse,
    /// Neither is proven.
    Undecided,
    /// A side has had too few requests at this weight to say that it is not worse.
    InsufficientTraffic,
}

/// Requests of one side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requests {
    /// All of them.
    pub total: f64,
    /// The bad ones.
    pub bad: f64,
}

/// A ratio, and the range that holds it with the confidence of the analysis, whenever one looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RatioStatus {
    /// The lowest; absent where it may be anything below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// That of the rates seen; absent while the other rate is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<f64>,
    /// The highest; absent where it may be anything above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

/// What is remembered of a metric with `compare` or `limit`, over all steps of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Where its analysis belongs.
    pub kind: AnalysisKind,
    /// The template and the metric, such as `errors/5xx`.
    pub metric: String,
    /// The weight of which what passes a step is counted.
    pub weight: i32,
    /// Ready pods of the canary when last seen.
    pub ready: i32,
    /// Ready pods of the baseline when last seen, where that is what the canary is held against.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub baseline_ready: i32,
    /// Since when there are no more of them.
    pub grown_at: Timestamp,
    /// Until when windows are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether what must be known of stable's past is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub calibrated: bool,
    /// How much more stable's pods differ than chance alone makes them, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispersion: Option<f64>,
    /// Bounds of latency, in the histogram's unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<f64>,
    /// The test's own numbers, to the last bit: eight bytes each, little end first, in base64.
    pub state: String,
}
