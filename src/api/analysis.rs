//! What a user writes in an `AnalysisTemplate` or a `ClusterAnalysisTemplate`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::comparison::{CompareMetric, Counts, LimitMetric, Reference};
use super::duration::DurationText;
use super::job::JobMetric;

/// Metrics that judge a canary, with arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisTemplateSpec {
    /// Arguments that queries and conditions may name as `{{args.name}}`.
    pub args: Option<Vec<TemplateArgument>>,
    /// The metrics; all must pass.
    pub metrics: Vec<MetricSpec>,
    /// Metrics that are measured and told, and judge nothing.
    pub dry_run: Option<Vec<DryRunSpec>>,
    /// Measurements that the Rollout's status keeps, where ten a metric are too many or too few.
    pub measurement_retention: Option<Vec<RetentionSpec>>,
}

/// How many measurements of some metrics are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionSpec {
    /// A regular expression that is found in the metric's name, such as `.*` for all.
    #[schemars(length(min = 1, max = 256))]
    pub metric_name: String,
    /// The last measurements that are kept, 1 to 100; of several that name a metric, the most.
    #[schemars(range(min = 1, max = 100))]
    pub limit: i32,
}

/// Names metrics that judge nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRunSpec {
    /// A regular expression that is found in the metric's name, such as `.*` for all.
    #[schemars(length(min = 1, max = 256))]
    pub metric_name: String,
}

/// An argument of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateArgument {
    /// Its name.
    pub name: String,
    /// The value when the Rollout gives none. Absent: the Rollout must give one.
    pub value: Option<String>,
}

/// One metric: what is asked, how often, and what the answers mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricSpec {
    /// Its name, unique among the metrics of an analysis.
    pub name: String,
    /// Time between two measurements, such as `30s`. Absent: one measurement.
    pub interval: Option<DurationText>,
    /// Time before the first measurement. Absent: none.
    pub initial_delay: Option<DurationText>,
    /// Measurements wanted, those without data or with an error not counted. Absent: 1 without an interval, else no end (background only).
    #[schemars(range(min = 1))]
    pub count: Option<i32>,
    /// Failures that are tolerated; one more fails the metric. -1 tolerates all. Absent: 0.
    #[schemars(range(min = -1))]
    pub failure_limit: Option<i32>,
    /// Inconclusive measurements that are tolerated; one more pauses the rollout. Absent: 0.
    #[schemars(range(min = 0))]
    pub inconclusive_limit: Option<i32>,
    /// Errors in a row before the rollout pauses, until the provider answers again. Absent: 4.
    #[schemars(range(min = 0))]
    pub consecutive_error_limit: Option<i32>,
    /// Passes in a row that pass the metric early. Absent or 0: off.
    #[schemars(range(min = 0))]
    pub consecutive_success_limit: Option<i32>,
    /// CEL over `result` (a number, or a list of numbers for a vector): true is a success.
    #[schemars(length(max = 1024))]
    pub success_condition: Option<String>,
    /// CEL over `result`: true is a failure.
    #[schemars(length(max = 1024))]
    pub failure_condition: Option<String>,
    /// How long measurements must fail without a break before one counts as a failure, such as `2m`. Absent: each counts.
    #[serde(rename = "for")]
    pub hold: Option<DurationText>,
    /// What an empty answer or NaN means. Absent: Wait, because no traffic is not a failure.
    pub on_no_data: Option<OnNoData>,
    /// A query against a MetricProvider.
    pub prometheus: Option<PrometheusMetric>,
    /// One of Istio's own metrics of one revision, as its clients see it; Serin writes the query.
    pub istio: Option<IstioMetric>,
    /// An answer of a server, over HTTP: its JSON, or whether it succeeds.
    pub web: Option<WebMetric>,
    /// A Job of Kubernetes for each measurement, which succeeds or fails as it does.
    pub job: Option<JobMetric>,
    /// The canary's bad requests against stable's, by a sequential test that may be read after every window.
    pub compare: Option<CompareMetric>,
    /// The canary's bad requests against a limit, by a sequential test that may be read after every window.
    pub limit: Option<LimitMetric>,
    /// Its part, beside the other metrics with `compare` or `limit`, of the probability of an abort without reason. Absent: 1.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub weight: Option<f64>,
}

impl MetricSpec {
    /// The provider that it names.
    pub fn provider(&self) -> Option<&str> {
        let of_prometheus = self.prometheus.as_ref().and_then(|prometheus| prometheus.provider.as_deref());
        let of_istio = || self.istio.as_ref().and_then(|istio| istio.provider.as_deref());
        let of_web = || self.web.as_ref().map(|web| web.provider.as_str());
        of_prometheus.or_else(of_istio).or_else(of_web).or_else(|| self.counts().and_then(|counts| counts.provider))
    }

    /// The counters of `compare` or `limit`.
    pub fn counts(&self) -> Option<Counts<'_>> {
        let of_compare = self.compare.as_ref().map(CompareMetric::counts);
        of_compare.or_else(|| self.limit.as_ref().map(LimitMetric::counts))
    }

    /// What `compare` holds the canary against.
    pub fn reference(&self) -> Reference {
        self.compare.as_ref().and_then(|compare| compare.against).unwrap_or_default()
    }

    /// The names of the members that say what is measured, of those that it has.
    pub fn sources(&self) -> Vec<&'static str> {
        let is_given = [
            ("prometheus", self.prometheus.is_some()),
            ("istio", self.istio.is_some()),
            ("compare", self.compare.is_some()),
            ("limit", self.limit.is_some()),
            ("web", self.web.is_some()),
            ("job", self.job.is_some()),
        ];
        is_given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }
}

/// What an answer without data means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnNoData {
    /// Wait for data; the measurement does not count.
    #[default]
    Wait,
    /// It is a success.
    Pass,
    /// It is a failure.
    Fail,
}

/// A PromQL query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrometheusMetric {
    /// Name of the MetricProvider. Absent: `default`.
    pub provider: Option<String>,
    /// The instant query in PromQL.
    #[schemars(length(min = 1, max = 8192))]
    pub query: String,
}

/// A request to a server of a MetricProvider with `web`. Without conditions an answer of 2xx is a success and every other one a
/// failure, so that a test or a load can be asked for; with them, an answer other than 2xx is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebMetric {
    /// Name of the MetricProvider, which has `web`.
    #[schemars(length(min = 1, max = 253))]
    pub provider: String,
    /// Path below the provider's address, and the query; `{{args.name}}` is filled in, and encoded.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^/"))]
    pub path: String,
    /// GET, POST or PUT. Absent: GET.
    pub method: Option<WebMethod>,
    /// What is sent, as `application/json`; `{{args.name}}` is filled in, as the inside of a JSON string.
    #[schemars(length(max = 8192))]
    pub body: Option<String>,
    /// Where in the JSON of the answer `result` is, as a JSONPath (RFC 9535) such as `$.data.errors`. Absent: all of it.
    #[schemars(length(max = 1024))]
    pub json_path: Option<String>,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum WebMethod {
    /// GET.
    #[default]
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
}

/// One of Istio's own metrics of one revision, as clients' proxies and gateways count it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioMetric {
    /// Name of the MetricProvider. Absent: `default`.
    pub provider: Option<String>,
    /// What is measured: `requestSuccessRate`, the fraction of requests that succeed, 0 to 1 (neither 5xx nor one of the
    /// gRPC statuses 2, 4, 12, 13, 14, 15); `requestDuration`, a quantile in milliseconds; `requestRate`, requests a second.
    pub metric: IstioMetricName,
    /// How far each measurement looks back, such as `2m`; at least 1s. Absent: as long as `interval`, and 1m at least.
    pub window: Option<DurationText>,
    /// The quantile of `requestDuration`, 0 to 1. Absent: 0.99.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub quantile: Option<f64>,
    /// Requests of the revision in the window without which there is no data. Absent: one is enough.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_requests: Option<i64>,
    /// Whose requests. Absent: canary.
    pub revision: Option<Role>,
    /// Which metrics are asked. Absent: istio.
    pub source: Option<IstioSource>,
}

/// One of Istio's own metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IstioMetricName {
    /// The fraction of requests that succeed, 0 to 1: neither 5xx, nor a gRPC status 2, 4, 12, 13, 14 or 15.
    RequestSuccessRate,
    /// A quantile of the durations of requests, in milliseconds.
    RequestDuration,
    /// Requests a second.
    RequestRate,
}

/// Whose requests: those of the canary or of stable. Absent: canary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The canary.
    #[default]
    Canary,
    /// Stable.
    Stable,
}

/// Which metrics are asked: `istio`, Istio's own by the revision of the pod; or `envoy`, Envoy's statistics by subset or
/// Service, which Istio's proxies leave out unless they are told to keep them. Absent: istio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IstioSource {
    /// `istio_requests_total` and `istio_request_duration_milliseconds`, by the revision of the pod.
    #[default]
    Istio,
    /// `envoy_cluster_upstream_rq` and `envoy_cluster_upstream_rq_time`, which know no status of gRPC.
    Envoy,
}
