//! Every documented field of Argo Rollouts' objects, with what becomes of it.

use super::super::table::Does::{Ask, Enter, Keep, Leave, Turn};
use super::super::table::Loss::{Harmless, Protection};
use super::super::table::{Row, row};
use super::{gateway, metadata, metric, rollout, steps};

const OF_THE_CLUSTER: &str = "is written by the API server; Git does not hold it";
const ISTIO_ONLY: &str =
    "Serin routes by Istio and by HTTPRoutes; put one of those in front, or leave the route out on purpose";
const NO_RUNS: &str = "there are no AnalysisRun objects; measurements are in the Rollout's status";
const NO_SECRET: &str = "Serin reads no Secrets of applications; put credentials into a MetricProvider";

/// What every object has.
pub const OBJECT: &[Row] = &[
    row("apiVersion", Turn("serin.dev/v1alpha1", metadata::api_version)),
    row("kind", Keep),
    row("metadata", Enter),
    row("metadata.name", Keep),
    row("metadata.generateName", Keep),
    row("metadata.namespace", Keep),
    row("metadata.labels", Keep),
    row("metadata.annotations", Turn("kept; those of Argo Rollouts are left out", metadata::annotations)),
    row("metadata.finalizers", Keep),
    row("metadata.creationTimestamp", Leave(Harmless, OF_THE_CLUSTER)),
    row("metadata.generation", Leave(Harmless, OF_THE_CLUSTER)),
    row("metadata.managedFields", Leave(Harmless, OF_THE_CLUSTER)),
    row("metadata.ownerReferences", Leave(Harmless, OF_THE_CLUSTER)),
    row("metadata.resourceVersion", Leave(Harmless, OF_THE_CLUSTER)),
    row("metadata.selfLink", Leave(Harmless, OF_THE_CLUSTER)),
    row("metadata.uid", Leave(Harmless, OF_THE_CLUSTER)),
    row("status", Leave(Harmless, "Serin writes a status of its own")),
];

/// A Rollout.
pub const ROLLOUT: &[Row] = &[
    row("spec", Enter),
    row("spec.replicas", Keep),
    row("spec.selector", Enter),
    row("spec.selector.matchLabels", Keep),
    row(
        "spec.selector.matchExpressions",
        Leave(Protection, "Serin selects by matchLabels; name the pods by labels alone"),
    ),
    row("spec.template", Keep),
    row("spec.workloadRef", Turn("kept for a Deployment, else spec.template of what it names", rollout::workload)),
    row("spec.minReadySeconds", Keep),
    row("spec.revisionHistoryLimit", Keep),
    row("spec.paused", Keep),
    row("spec.progressDeadlineSeconds", Keep),
    row("spec.progressDeadlineAbort", Keep),
    row("spec.restartAt", Keep),
    row("spec.rollbackWindow", Enter),
    row("spec.rollbackWindow.revisions", Keep),
    row("spec.analysis", Enter),
    row("spec.analysis.successfulRunHistoryLimit", Leave(Harmless, NO_RUNS)),
    row("spec.analysis.unsuccessfulRunHistoryLimit", Leave(Harmless, NO_RUNS)),
    row("spec.strategy", Enter),
    row(
        "spec.strategy.blueGreen",
        Leave(Protection, "Serin does canaries; write strategy.canary with steps, and convert again"),
    ),
    row("spec.strategy.canary", Enter),
    row("spec.strategy.canary.canaryService", Turn("kept between two Services, else not needed", rollout::services)),
    row("spec.strategy.canary.stableService", Turn("kept between two Services, else not needed", rollout::services)),
    row(
        "spec.strategy.canary.pingPong",
        Leave(
            Protection,
            "Serin does not take turns between Services; name stableService and canaryService, or use subsets of one Service",
        ),
    ),
    row("spec.strategy.canary.steps", Turn("each step on its own", steps::steps)),
    row("spec.strategy.canary.trafficRouting", Turn("kept with istio", rollout::routing)),
    row("spec.strategy.canary.maxSurge", Turn("kept without a route, where alone it means something", rollout::surge)),
    row("spec.strategy.canary.maxUnavailable", Keep),
    row("spec.strategy.canary.analysis", Turn("the analysis in the background", steps::background)),
    row(
        "spec.strategy.canary.antiAffinity",
        Leave(Harmless, "Serin does not write affinities; write podAntiAffinity into the pod template"),
    ),
    row("spec.strategy.canary.canaryMetadata", Keep),
    row("spec.strategy.canary.stableMetadata", Keep),
    row("spec.strategy.canary.scaleDownDelaySeconds", Turn("kept with a route", rollout::needs_route)),
    row(
        "spec.strategy.canary.scaleDownDelayRevisionLimit",
        Leave(Harmless, "every revision keeps its pods for scaleDownDelaySeconds and no longer"),
    ),
    row("spec.strategy.canary.abortScaleDownDelaySeconds", Turn("kept with a route", rollout::needs_route)),
    row("spec.strategy.canary.dynamicStableScale", Turn("kept with a route", rollout::needs_route)),
    row("spec.strategy.canary.minPodsPerReplicaSet", Turn("kept with a route", rollout::needs_route)),
    row("spec.strategy.canary.replicaProgressThreshold", Ask(Harmless)),
];

/// The route of a canary.
pub const ROUTING: &[Row] = &[
    row("spec.strategy.canary.trafficRouting.managedRoutes", Keep),
    row("spec.strategy.canary.trafficRouting.maxTrafficWeight", Leave(Harmless, "weights are percent")),
    row("spec.strategy.canary.trafficRouting.istio", Enter),
    row("spec.strategy.canary.trafficRouting.istio.virtualService", Enter),
    row(
        "spec.strategy.canary.trafficRouting.istio.virtualService.name",
        Turn("kept without a namespace", rollout::route_name),
    ),
    row("spec.strategy.canary.trafficRouting.istio.virtualService.routes", Keep),
    row("spec.strategy.canary.trafficRouting.istio.virtualService.tlsRoutes", Keep),
    row("spec.strategy.canary.trafficRouting.istio.virtualService.tcpRoutes", Keep),
    row("spec.strategy.canary.trafficRouting.istio.virtualServices", Enter),
    row(
        "spec.strategy.canary.trafficRouting.istio.virtualServices[].name",
        Turn("kept without a namespace", rollout::route_name),
    ),
    row("spec.strategy.canary.trafficRouting.istio.virtualServices[].routes", Keep),
    row("spec.strategy.canary.trafficRouting.istio.virtualServices[].tlsRoutes", Keep),
    row("spec.strategy.canary.trafficRouting.istio.virtualServices[].tcpRoutes", Keep),
    row("spec.strategy.canary.trafficRouting.istio.destinationRule", Enter),
    row("spec.strategy.canary.trafficRouting.istio.destinationRule.name", Keep),
    row("spec.strategy.canary.trafficRouting.istio.destinationRule.canarySubsetName", Keep),
    row("spec.strategy.canary.trafficRouting.istio.destinationRule.stableSubsetName", Keep),
    row(
        "spec.strategy.canary.trafficRouting.istio.destinationRule.additionalSubsetNames",
        Leave(Harmless, "is not needed: subsets that Serin does not own are kept"),
    ),
    row("spec.strategy.canary.trafficRouting.alb", Leave(Protection, ISTIO_ONLY)),
    row("spec.strategy.canary.trafficRouting.nginx", Leave(Protection, ISTIO_ONLY)),
    row("spec.strategy.canary.trafficRouting.smi", Leave(Protection, ISTIO_ONLY)),
    row("spec.strategy.canary.trafficRouting.ambassador", Leave(Protection, ISTIO_ONLY)),
    row("spec.strategy.canary.trafficRouting.appMesh", Leave(Protection, ISTIO_ONLY)),
    row("spec.strategy.canary.trafficRouting.traefik", Leave(Protection, ISTIO_ONLY)),
    row("spec.strategy.canary.trafficRouting.apisix", Leave(Protection, ISTIO_ONLY)),
    row("spec.strategy.canary.trafficRouting.plugins", Turn("HTTPRoutes become gatewayAPI", gateway::plugins)),
];

/// The steps and the analysis in the background.
pub const STEPS: &[Row] = &[
    row("spec.strategy.canary.steps[].setWeight", Keep),
    row(
        "spec.strategy.canary.steps[].pause",
        Turn("kept; without an end where its duration cannot be kept", steps::held),
    ),
    row("spec.strategy.canary.steps[].pause.duration", Turn("kept; 1.5h becomes 90m", metric::duration)),
    row("spec.strategy.canary.steps[].setCanaryScale", Turn("kept with a route", steps::scale)),
    row("spec.strategy.canary.steps[].setCanaryScale.weight", Keep),
    row("spec.strategy.canary.steps[].setCanaryScale.replicas", Keep),
    row("spec.strategy.canary.steps[].setCanaryScale.matchTrafficWeight", Keep),
    row("spec.strategy.canary.steps[].analysis", Turn("kept; a pause where no template is left", steps::analysis)),
    row("spec.strategy.canary.steps[].analysis.templates", Enter),
    row("spec.strategy.canary.steps[].analysis.templates[].templateName", Keep),
    row("spec.strategy.canary.steps[].analysis.templates[].clusterScope", Keep),
    row("spec.strategy.canary.steps[].analysis.args", Enter),
    row("spec.strategy.canary.steps[].analysis.args[].name", Keep),
    row("spec.strategy.canary.steps[].analysis.args[].value", Keep),
    row("spec.strategy.canary.steps[].analysis.args[].valueFrom", Enter),
    row("spec.strategy.canary.steps[].analysis.args[].valueFrom.podTemplateHashValue", Keep),
    row("spec.strategy.canary.steps[].analysis.args[].valueFrom.fieldRef", Keep),
    row("spec.strategy.canary.steps[].analysis.args[].valueFrom.secretKeyRef", Leave(Protection, NO_SECRET)),
    row("spec.strategy.canary.steps[].analysis.dryRun", Keep),
    row("spec.strategy.canary.steps[].analysis.measurementRetention", Keep),
    row("spec.strategy.canary.steps[].analysis.analysisRunMetadata", Leave(Harmless, NO_RUNS)),
    row("spec.strategy.canary.steps[].experiment", Turn("a pause until a person promotes", steps::gate)),
    row("spec.strategy.canary.steps[].plugin", Turn("a pause until a person promotes", steps::gate)),
    row("spec.strategy.canary.steps[].setHeaderRoute", Turn("kept with a route of Istio", steps::lead)),
    row("spec.strategy.canary.steps[].setMirrorRoute", Turn("kept with a route of Istio", steps::lead)),
    row("spec.strategy.canary.steps[].replicaProgressThreshold", Ask(Harmless)),
    row("spec.strategy.canary.analysis.templates", Enter),
    row("spec.strategy.canary.analysis.templates[].templateName", Keep),
    row("spec.strategy.canary.analysis.templates[].clusterScope", Keep),
    row("spec.strategy.canary.analysis.startingStep", Turn("kept; counts the steps that are left", steps::starting)),
    row("spec.strategy.canary.analysis.args", Enter),
    row("spec.strategy.canary.analysis.args[].name", Keep),
    row("spec.strategy.canary.analysis.args[].value", Keep),
    row("spec.strategy.canary.analysis.args[].valueFrom", Enter),
    row("spec.strategy.canary.analysis.args[].valueFrom.podTemplateHashValue", Keep),
    row("spec.strategy.canary.analysis.args[].valueFrom.fieldRef", Keep),
    row("spec.strategy.canary.analysis.args[].valueFrom.secretKeyRef", Leave(Protection, NO_SECRET)),
    row("spec.strategy.canary.analysis.dryRun", Keep),
    row("spec.strategy.canary.analysis.measurementRetention", Keep),
    row("spec.strategy.canary.analysis.analysisRunMetadata", Leave(Harmless, NO_RUNS)),
];

/// What becomes of the providers that Serin has no exact equal of.
pub(super) const OTHER_PROVIDER: &str = "Serin asks Prometheus, by `web` servers that answer JSON, and runs Jobs; bring the number into one of them, or gate by a pause";
/// What becomes of a web metric: its conditions know types that the template does not tell.
pub(super) const WEB: &str = "write it as a `web` metric of Serin by hand: a MetricProvider has the address, jsonPath is RFC 9535, conditions are CEL";

/// An AnalysisTemplate, or a ClusterAnalysisTemplate.
pub const TEMPLATE: &[Row] = &[
    row("spec", Enter),
    row("spec.args", Turn("each argument; those of a Secret are the MetricProvider's", metric::arguments)),
    row("spec.args[].name", Keep),
    row("spec.args[].value", Keep),
    row("spec.args[].valueFrom", Enter),
    row(
        "spec.args[].valueFrom.secretKeyRef",
        Leave(Protection, "Serin reads Secrets for MetricProviders only; a token in a header becomes one's"),
    ),
    row(
        "spec.args[].valueFrom.fieldRef",
        Leave(Protection, "give the value in the Rollout's args: there fieldRef is supported"),
    ),
    row("spec.dryRun", Keep),
    row("spec.measurementRetention", Keep),
    row("spec.templates", Turn("every Rollout that names this template names those too", metric::nested)),
    row("spec.metrics", Turn("each metric on its own", metric::metrics)),
    row("spec.metrics[].name", Keep),
    row("spec.metrics[].interval", Turn("kept; 1.5h becomes 90m", metric::duration)),
    row("spec.metrics[].initialDelay", Turn("kept; 1.5h becomes 90m", metric::duration)),
    row("spec.metrics[].count", Turn("kept, as a number", metric::whole)),
    row("spec.metrics[].successCondition", Turn("the same in CEL", metric::condition)),
    row("spec.metrics[].failureCondition", Turn("the same in CEL", metric::condition)),
    row("spec.metrics[].failureLimit", Turn("kept, as a number", metric::whole)),
    row("spec.metrics[].inconclusiveLimit", Turn("kept, as a number", metric::whole)),
    row("spec.metrics[].consecutiveErrorLimit", Turn("kept; one more pauses and does not abort", metric::errors)),
    row("spec.metrics[].consecutiveSuccessLimit", Turn("kept, as a number", metric::whole)),
    row(
        "spec.metrics[].provider",
        Turn("prometheus, with a MetricProvider for its address; job as it is", metric::provider),
    ),
    row("spec.metrics[].provider.prometheus.query", Keep),
    row("spec.metrics[].provider.prometheus.address", Turn("a MetricProvider", metric::of_provider)),
    row(
        "spec.metrics[].provider.prometheus.timeout",
        Turn("timeoutSeconds of the MetricProvider", metric::of_provider),
    ),
    row(
        "spec.metrics[].provider.prometheus.insecure",
        Turn("insecureSkipVerify of the MetricProvider", metric::of_provider),
    ),
    row(
        "spec.metrics[].provider.prometheus.headers",
        Turn("a bearer token of the MetricProvider", metric::of_provider),
    ),
    row("spec.metrics[].provider.prometheus.authentication", Turn("left out with the metric", metric::of_provider)),
    row("spec.metrics[].provider.prometheus.rangeQuery", Turn("left out with the metric", metric::of_provider)),
    row("spec.metrics[].provider.web", Leave(Protection, WEB)),
    row("spec.metrics[].provider.job", Keep),
    row("spec.metrics[].provider.datadog", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.newRelic", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.wavefront", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.kayenta", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.cloudWatch", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.graphite", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.influxdb", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.skywalking", Leave(Protection, OTHER_PROVIDER)),
    row("spec.metrics[].provider.plugin", Leave(Protection, OTHER_PROVIDER)),
];
