//! What a user writes for a metric that counts requests: the canary against stable, or against a limit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::DurationText;

/// The canary's bad requests against stable's: two counters of each, or a preset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompareMetric {
    /// Name of the MetricProvider. Absent: `default`.
    pub provider: Option<String>,
    /// Ready-made counters. Absent: `bad` and `total`.
    pub preset: Option<CountPreset>,
    /// What the canary is held against: `stable`, all pods of stable; or `baseline`, pods of the stable revision that are
    /// started together with the canary's, as many, and serve stable's requests beside its own pods. They are as young as the
    /// canary's; they cost as many pods again, and have fewer requests than all of stable. Not with an `envoy` preset, and not
    /// without `trafficRouting`. Absent: stable.
    pub against: Option<Reference>,
    /// PromQL for the counter of bad requests of a revision, by pod: `{{revision}}` is its hash (of the baseline, what its pods
    /// are labelled with as `service.istio.io/canonical-revision`), `{{workload}}` the name of its ReplicaSet. A counter, not
    /// its rate: Serin takes the differences.
    #[schemars(length(min = 1, max = 8192))]
    pub bad: Option<String>,
    /// PromQL for the counter of all requests of a revision, in the same form.
    #[schemars(length(min = 1, max = 8192))]
    pub total: Option<String>,
    /// For a preset of latency: the one duration above which a request is bad; a bound of the histogram's buckets. Absent:
    /// all bounds that between 0.05 % and 60 % of stable's requests exceed, together.
    pub slower_than: Option<DurationText>,
    /// The ratio of the canary's rate of bad requests to stable's that is still fine. Absent: 1.25.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub tolerance: Option<f64>,
    /// A rate of bad requests that is always fine, 0 to 1. Absent: 0.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: Option<f64>,
    /// Requests of either side at this weight without which nothing passes. Absent: 100.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub min_requests: Option<i64>,
    /// Windows without which nothing is aborted; 1 is as fast as possible, and trusts every burst. Absent: 3.
    #[schemars(range(min = 1, max = 1000))]
    pub min_windows: Option<i32>,
    /// How much more pods differ than chance alone makes them: `auto`, measured on the pods of stable; `none`, where errors are
    /// known to be independent; or a number of 1 or more, as text. Absent: auto.
    #[schemars(length(max = 20), regex(pattern = "^(auto|none|[1-9][0-9]*([.][0-9]+)?)$"))]
    pub dispersion: Option<String>,
    /// Passes before the time is over once the canary is proven not to be worse. Absent: only where the step waits for that.
    pub early_promotion: Option<EarlyPromotionSpec>,
    /// How long after its end a window is asked for: the interval of scrapes, and what the provider needs. Absent: 20s.
    pub lag: Option<DurationText>,
}

/// The canary's bad requests against a limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitMetric {
    /// Name of the MetricProvider. Absent: `default`.
    pub provider: Option<String>,
    /// Ready-made counters. Absent: `bad` and `total`.
    pub preset: Option<CountPreset>,
    /// PromQL for the counter of bad requests of a revision, by pod: `{{revision}}` is its hash, `{{workload}}` the name of
    /// its ReplicaSet. A counter, not its rate: Serin takes the differences.
    #[schemars(length(min = 1, max = 8192))]
    pub bad: Option<String>,
    /// PromQL for the counter of all requests of a revision, in the same form.
    #[schemars(length(min = 1, max = 8192))]
    pub total: Option<String>,
    /// For a preset of latency, where it is required: the duration above which a request is bad; a bound of the histogram's buckets.
    pub slower_than: Option<DurationText>,
    /// The rate of bad requests that is still fine, above 0 and below 1, such as 0.01.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max: f64,
    /// Requests of the canary at this weight without which nothing passes. Absent: 100.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub min_requests: Option<i64>,
    /// Windows without which nothing is aborted; 1 is as fast as possible, and trusts every burst. Absent: 3.
    #[schemars(range(min = 1, max = 1000))]
    pub min_windows: Option<i32>,
    /// How much more requests differ than chance alone makes them: `auto`, by the number of bad ones in a window; `none`, where errors
    /// are known to be independent; or a number of 1 or more, as text. Absent: auto.
    #[schemars(length(max = 20), regex(pattern = "^(auto|none|[1-9][0-9]*([.][0-9]+)?)$"))]
    pub dispersion: Option<String>,
    /// Passes before the time is over once the canary is proven to be below the limit. Absent: only where the step waits for that.
    pub early_promotion: Option<EarlyPromotionSpec>,
    /// How long after its end a window is asked for: the interval of scrapes, and what the provider needs. Absent: 20s.
    pub lag: Option<DurationText>,
}

/// When a canary passes before the time is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EarlyPromotionSpec {
    /// The ratio to stable's rate that the canary must be proven to stay below; of `compare` alone. Absent: 2.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub margin: Option<f64>,
    /// How sure that must be, above 0.5 and below 1. Absent: 0.95.
    #[schemars(range(min = 0.5, max = 1.0))]
    pub confidence: Option<f64>,
}

/// What a canary is held against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reference {
    /// All pods of stable.
    #[default]
    Stable,
    /// Pods of the stable revision that are started together with the canary's.
    Baseline,
}

/// Ready-made counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CountPreset {
    /// `istio_requests_total` as clients' proxies and gateways count it; bad: 5xx, and the gRPC statuses 2, 4, 12, 13, 14, 15.
    #[serde(rename = "istio-5xx")]
    IstioErrors,
    /// `istio_request_duration_milliseconds`; bad: slower than a bound.
    #[serde(rename = "istio-latency")]
    IstioLatency,
    /// `envoy_cluster_upstream_rq`; bad: 5xx.
    #[serde(rename = "envoy-5xx")]
    EnvoyErrors,
    /// `envoy_cluster_upstream_rq_time`; bad: slower than a bound.
    #[serde(rename = "envoy-latency")]
    EnvoyLatency,
}

impl CountPreset {
    /// Whether it counts slow requests, in place of errors.
    pub fn is_latency(self) -> bool {
        matches!(self, Self::IstioLatency | Self::EnvoyLatency)
    }
}

/// What `compare` and `limit` have in common.
#[derive(Debug, Clone, Copy)]
pub struct Counts<'a> {
    /// The member's name.
    pub member: &'static str,
    /// The provider.
    pub provider: Option<&'a str>,
    /// Ready-made counters.
    pub preset: Option<CountPreset>,
    /// The counter of bad requests.
    pub bad: Option<&'a str>,
    /// The counter of all requests.
    pub total: Option<&'a str>,
    /// The bound of latency.
    pub slower_than: Option<&'a DurationText>,
    /// Requests without which nothing passes.
    pub min_requests: Option<i64>,
    /// Windows without which nothing is aborted.
    pub min_windows: Option<i32>,
    /// How much more pods differ than chance alone makes them.
    pub dispersion: Option<&'a str>,
    /// When a canary passes early.
    pub early: Option<&'a EarlyPromotionSpec>,
    /// How late a window is asked for.
    pub lag: Option<&'a DurationText>,
}

impl CompareMetric {
    /// What it has in common with the other.
    pub(super) fn counts(&self) -> Counts<'_> {
        Counts {
            member: "compare",
            provider: self.provider.as_deref(),
            preset: self.preset,
            bad: self.bad.as_deref(),
            total: self.total.as_deref(),
            slower_than: self.slower_than.as_ref(),
            min_requests: self.min_requests,
            min_windows: self.min_windows,
            dispersion: self.dispersion.as_deref(),
            early: self.early_promotion.as_ref(),
            lag: self.lag.as_ref(),
        }
    }
}

impl LimitMetric {
    /// What it has in common with the other.
    pub(super) fn counts(&self) -> Counts<'_> {
        Counts {
            member: "limit",
            provider: self.provider.as_deref(),
            preset: self.preset,
            bad: self.bad.as_deref(),
            total: self.total.as_deref(),
            slower_than: self.slower_than.as_ref(),
            min_requests: self.min_requests,
            min_windows: self.min_windows,
            dispersion: self.dispersion.as_deref(),
            early: self.early_promotion.as_ref(),
            lag: self.lag.as_ref(),
        }
    }
}
