//! What a user writes in a `Rollout`. The field comments become `kubectl explain`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::analysis::{DryRunSpec, RetentionSpec};
use super::config::ConfigSnapshotsSpec;
use super::duration::DurationText;
use super::promotion::{ApprovalStepSpec, PromotionSpec};

/// A workload whose new revisions become canaries: shifted step by step, gated by metrics, promoted or aborted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// Pods wanted. When absent, Serin writes it once through the scale subresource, so that autoscalers can read it.
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Selects this Rollout's pods; must match the template's labels. Cannot be changed. Absent with `workloadRef`: the
    /// Deployment's selector.
    pub selector: Option<Selector>,
    /// The pod template. Changing it starts a canary; metadata annotations that begin with `serin.dev/git-` do not count.
    #[schemars(with = "Option<PodTemplateSpec>")]
    pub template: Option<Value>,
    /// A Deployment whose pod template is this Rollout's, in place of `template`. Its own pods are not needed any more once
    /// stable serves: Serin scales it to 0 where Git leaves its `replicas` out, else Git must say `replicas: 0`.
    pub workload_ref: Option<WorkloadRef>,
    /// Seconds that a pod must be ready, without a crash, before it counts as available. Absent: 0.
    #[schemars(range(min = 0))]
    pub min_ready_seconds: Option<i32>,
    /// Seconds that a canary may wait for its pods without progress before it is aborted. Absent: 600.
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: Option<i32>,
    /// Whether exceeding `progressDeadlineSeconds` aborts the canary. Absent: true.
    pub progress_deadline_abort: Option<bool>,
    /// How many old ReplicaSets without pods are kept. Absent: 10.
    #[schemars(range(min = 0))]
    pub revision_history_limit: Option<i32>,
    /// Revisions that may be gone back to without steps. Absent: every older revision runs the steps again.
    pub rollback_window: Option<RollbackWindow>,
    /// Restarts the pods that are older than this time, a few at a time and as disruption budgets allow. May lie ahead.
    pub restart_at: Option<Timestamp>,
    /// Holds the rollout where it is. An abort and a revert to stable still happen; a newer template ends the canary, and waits.
    pub paused: Option<bool>,
    /// Keeps the ConfigMaps and Secrets that the template refers to as they were for each revision, so that an abort brings back
    /// code and configuration; a change of one alone begins a canary. Absent: pods read them as they are.
    pub config_snapshots: Option<ConfigSnapshotsSpec>,
    /// How a new template reaches traffic.
    pub strategy: StrategySpec,
    /// What a person decides, declared in Git: approvals, hold, reject, retry and windows.
    pub promotion: Option<PromotionSpec>,
}

/// A Deployment in the Rollout's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How far a rollback reaches that skips the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollbackWindow {
    /// A revision that was promoted before skips steps and analysis when fewer revisions than this lie between it and
    /// stable, by age. Its pods still come first.
    #[schemars(range(min = 0))]
    pub revisions: i32,
}

/// Labels that a pod must carry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Each key with the value it must have.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
}

/// The strategy: `canary` is the only one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StrategySpec {
    /// Canary by weights of a route, or by the ratio of pods.
    pub canary: CanarySpec,
}

/// Canary by weights of a route, or by the ratio of pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    /// The route whose weights are shifted, of Istio or of the Gateway API. Absent: a canary by the ratio of pods behind one Service.
    pub traffic_routing: Option<TrafficRoutingSpec>,
    /// The Service that serves stable, for weights between two Services. Serin adds the key `serin.dev/revision-hash` to
    /// its selector; absent in the cluster, Serin creates and owns it.
    pub stable_service: Option<String>,
    /// The Service that serves the canary, likewise.
    pub canary_service: Option<String>,
    /// Whether stable has only the pods that its share of the traffic needs. An abort then waits for stable's pods. Absent: false.
    pub dynamic_stable_scale: Option<bool>,
    /// Pods that any ReplicaSet with pods has at least, never more than `replicas`; with `trafficRouting` only. Absent: 1.
    #[schemars(range(min = 1))]
    pub min_pods_per_replica_set: Option<i32>,
    /// Pods above `replicas` while their ratio changes: a number, or percent rounded up; without `trafficRouting` only. Absent: 25%.
    pub max_surge: Option<IntOrString>,
    /// Pods that may be missing while their ratio changes, and while pods are restarted: a number, or percent rounded down. Absent: 25%.
    pub max_unavailable: Option<IntOrString>,
    /// Seconds that the previous stable's pods are kept after a promotion, or a superseded canary's. Absent: 30.
    #[schemars(range(min = 0))]
    pub scale_down_delay_seconds: Option<i32>,
    /// Seconds that an aborted canary's pods are kept; 0 keeps them until the next revision. Absent: 30.
    #[schemars(range(min = 0))]
    pub abort_scale_down_delay_seconds: Option<i32>,
    /// What the canary's pods carry while it is one. Its pods are not restarted when it changes, nor does it start a canary.
    pub canary_metadata: Option<PodMetadataSpec>,
    /// What stable's pods carry; after a promotion those of the new stable, in place of `canaryMetadata`.
    pub stable_metadata: Option<PodMetadataSpec>,
    /// Analysis in the background of the steps.
    pub analysis: Option<BackgroundAnalysisSpec>,
    /// The steps, in order. Without steps a new revision is promoted as soon as its pods are available.
    pub steps: Option<Vec<StepSpec>>,
}

/// Metadata of pods. Keys that the pod template has, that select the pods, or that Serin sets are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodMetadataSpec {
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Where the weights are: `istio` or `gatewayAPI`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficRoutingSpec {
    /// Istio's own objects.
    pub istio: Option<IstioSpec>,
    /// HTTPRoutes of the Gateway API, with `stableService` and `canaryService`.
    #[serde(rename = "gatewayAPI")]
    pub gateway_api: Option<GatewayApiSpec>,
    /// The order among header and mirror routes, the first in front. Routes that are not listed come after, in the order of their steps.
    pub managed_routes: Option<Vec<ManagedRoute>>,
}

/// The name of a header or mirror route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ManagedRoute {
    /// Name of the route.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// The Istio objects: owned by Serin, or held by Git and edited in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioSpec {
    /// Serin writes a VirtualService and a DestinationRule of its own, both named `<rollout>-serin`; Git never holds them.
    pub owned: Option<OwnedRouteSpec>,
    /// One VirtualService that Git holds, whose weights Serin edits during a rollout.
    pub virtual_service: Option<VirtualServiceRef>,
    /// Several such VirtualServices.
    pub virtual_services: Option<Vec<VirtualServiceRef>>,
    /// The DestinationRule that holds both subsets. Absent: Serin owns one with the subsets `<rollout>-stable` and `<rollout>-canary`.
    pub destination_rule: Option<DestinationRuleRef>,
}

/// HTTPRoutes that Git holds, whose weights between the two Services Serin edits during a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayApiSpec {
    /// One HTTPRoute.
    pub http_route: Option<HttpRouteRef>,
    /// Several HTTPRoutes.
    pub http_routes: Option<Vec<HttpRouteRef>>,
}

/// An HTTPRoute in the Rollout's namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRouteRef {
    /// Its name.
    pub name: String,
    /// Names of its rules to edit. Absent: every rule whose backendRefs name both Services.
    pub rules: Option<Vec<String>>,
}

/// A route that Serin owns wholly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OwnedRouteSpec {
    /// The Service that clients call: a name in the Rollout's namespace, or a full host name.
    pub host: String,
    /// Hosts of the owned VirtualService. Absent: a delegate, which a root VirtualService in Git names `<rollout>-serin`.
    pub hosts: Option<Vec<String>>,
    /// Gateways of the owned VirtualService. Absent: the mesh.
    pub gateways: Option<Vec<String>>,
    /// The Service's port that requests go to. Absent: its only one, or of several the only one that Istio takes for HTTP by its
    /// `appProtocol` or its name (<https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/>).
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// A VirtualService in the Rollout's namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServiceRef {
    /// Its name.
    pub name: String,
    /// Names of its HTTP routes to edit. Absent: the only HTTP route it has, unless TLS or TCP routes are named.
    pub routes: Option<Vec<String>>,
    /// Its TLS routes to edit.
    pub tls_routes: Option<Vec<TlsRouteRef>>,
    /// Its TCP routes to edit.
    pub tcp_routes: Option<Vec<TcpRouteRef>>,
}

/// A TLS route, by what it matches: `port`, `sniHosts`, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteRef {
    /// The port that one of its matches names.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The server names that one of its matches holds, all of them and no other.
    pub sni_hosts: Option<Vec<String>>,
}

/// A TCP route, by the port that it matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpRouteRef {
    /// The port that one of its matches names.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A DestinationRule in the Rollout's namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRuleRef {
    /// Its name.
    pub name: String,
    /// Name of the subset that serves stable.
    pub stable_subset_name: String,
    /// Name of the subset that serves the canary.
    pub canary_subset_name: String,
}

/// One step: exactly one of its fields.
// The steps that are passed are hashed as JSON: a member that comes later is left out where it is absent, so that no
// rollout begins again when Serin is upgraded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepSpec {
    /// Percent of traffic for the canary, 0 to 100. Its pods come first.
    #[schemars(range(min = 0, max = 100))]
    pub set_weight: Option<i32>,
    /// Canary pods from here on, whatever the weight; holds until the next such step. All pods come once the steps are passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_canary_scale: Option<CanaryScaleSpec>,
    /// Waits.
    pub pause: Option<PauseSpec>,
    /// Waits for an analysis to pass; a failed one aborts.
    pub analysis: Option<StepAnalysisSpec>,
    /// Sends requests with certain headers to the canary, whatever the weight, until such a step without `match` or the end of
    /// the rollout. HTTP only; the canary has a pod at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_header_route: Option<HeaderRouteSpec>,
    /// Copies requests to the canary and ignores its answers, until such a step without `match` or the end of the rollout.
    /// HTTP only; the canary has a pod at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_mirror_route: Option<MirrorRouteSpec>,
    /// Waits until this revision is approved, in `spec.promotion.approvals` or by a `RolloutAction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalStepSpec>,
}

/// An HTTP route in front of all others, that leads to the canary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderRouteSpec {
    /// Name of the route; no route in Git has it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Requests with any of these headers. Absent: the route of this name is removed.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<HeaderMatchSpec>>,
}

/// One header.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatchSpec {
    /// Name of the header, in lower case.
    #[schemars(length(min = 1, max = 256))]
    pub header_name: String,
    /// Its value.
    pub header_value: TextMatchSpec,
}

/// A text: exactly one of its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextMatchSpec {
    /// The whole text.
    #[schemars(length(max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// How it begins.
    #[schemars(length(max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A regular expression (RE2) of the whole text.
    #[schemars(length(max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// An HTTP route in front of all others, that serves as the edited one does and copies requests to the canary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MirrorRouteSpec {
    /// Name of the route; no route in Git has it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Percent of the matching requests that are copied. Absent: 100.
    #[schemars(range(min = 0, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<i32>,
    /// Requests that match any of these. Absent: the route of this name is removed.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<RequestMatchSpec>>,
}

/// A request: all fields that are given match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestMatchSpec {
    /// Its method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<TextMatchSpec>,
    /// Its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<TextMatchSpec>,
    /// Its headers, by name in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, TextMatchSpec>>,
}

/// Canary pods: exactly one of its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryScaleSpec {
    /// A number of pods.
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Percent of `spec.replicas`, rounded up.
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i32>,
    /// True: what the weight needs again, as without this step.
    pub match_traffic_weight: Option<bool>,
}

/// How long to wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PauseSpec {
    /// Seconds, or text such as `5m`. Absent: until somebody promotes.
    pub duration: Option<DurationText>,
}

/// The analysis of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepAnalysisSpec {
    /// Templates whose metrics are measured together.
    pub templates: Vec<TemplateRef>,
    /// Values for the templates' arguments.
    pub args: Option<Vec<ArgumentSpec>>,
    /// Metrics that are measured and told, and judge nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<Vec<DryRunSpec>>,
    /// Measurements that the status keeps, where ten a metric are too many or too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurement_retention: Option<Vec<RetentionSpec>>,
    /// `decided`: the step is over once every metric with `compare` or `limit` is proven not to be worse, and not before.
    /// Absent: it is over when all metrics have the measurements that they want.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<AnalysisUntil>,
    /// How long the step may measure, such as `30m`; then `strategy.canary.analysis.onInconclusive` says what becomes of it.
    /// Absent: without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<DurationText>,
}

/// Until when a step measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AnalysisUntil {
    /// Until the evidence is in.
    Decided,
}

/// What becomes of a step whose time is over while its metrics have decided nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnInconclusive {
    /// The rollout pauses until somebody promotes the step, resumes it to measure again, or aborts.
    #[default]
    Pause,
    /// The step passes.
    Promote,
    /// The rollout is aborted.
    Abort,
}

/// Analysis in the background of the steps, from one of them on; and what all analyses have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackgroundAnalysisSpec {
    /// Templates whose metrics are measured together in the background. Absent: none are.
    pub templates: Option<Vec<TemplateRef>>,
    /// Index of the step, counting from 0, with which the analysis begins. Absent: 0.
    #[schemars(range(min = 0))]
    pub starting_step: Option<i32>,
    /// Values for the templates' arguments.
    pub args: Option<Vec<ArgumentSpec>>,
    /// Metrics that are measured and told, and judge nothing.
    pub dry_run: Option<Vec<DryRunSpec>>,
    /// Measurements that the status keeps, where ten a metric are too many or too few.
    pub measurement_retention: Option<Vec<RetentionSpec>>,
    /// How sure an abort by metrics with `compare` or `limit` must be, over the whole rollout and all of them together, above 0.5
    /// and below 1. Absent: 0.99.
    #[schemars(range(min = 0.5, max = 1.0))]
    pub confidence: Option<f64>,
    /// How long after the canary got more ready pods its requests are not counted by `compare` and `limit`. Absent: 60s.
    pub warmup: Option<DurationText>,
    /// What becomes of a step whose `atMost` is over while its metrics have decided nothing. Absent: pause.
    pub on_inconclusive: Option<OnInconclusive>,
}

/// Names an AnalysisTemplate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// Its name.
    pub template_name: String,
    /// Whether it is a ClusterAnalysisTemplate. Absent: false.
    pub cluster_scope: Option<bool>,
}

/// A value for an argument: `value` or `valueFrom`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArgumentSpec {
    /// Name of the argument; queries write it `{{args.name}}`.
    pub name: String,
    /// The value.
    pub value: Option<String>,
    /// Where the value comes from.
    pub value_from: Option<ArgumentSource>,
}

/// Where an argument's value comes from: exactly one of its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArgumentSource {
    /// The revision hash of stable or of the canary (`Latest`).
    pub pod_template_hash_value: Option<HashOf>,
    /// A field of the Rollout.
    pub field_ref: Option<FieldRef>,
}

/// Whose revision hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashOf {
    /// The stable revision.
    Stable,
    /// The canary.
    Latest,
}

/// A field of the Rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Path such as `metadata.labels['region']` or `spec.replicas`.
    pub field_path: String,
}
