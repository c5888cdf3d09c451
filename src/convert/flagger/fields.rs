//! Every documented field of Flagger's objects, with what becomes of it.

use super::super::table::Does::{Become, Enter, Keep, Leave};
use super::super::table::Loss::{Harmless, Protection};
use super::super::table::{Row, row};

const OTHER_ROUTER: &str = "Serin routes by Istio and by HTTPRoutes only";
const GATEWAY_API: &str = "write the HTTPRoute into Git, with both Services in its backendRefs, and name it in gatewayAPI; see docs/gateway-api.md";
const NO_COPY: &str = "Serin has one Service and no copies of it; label that Service";
const ALL_READY: &str = "Serin gives weight to ready pods only, as far as they carry it";

/// What every object has.
pub const OBJECT: &[Row] = &[
    row("apiVersion", Become("serin.dev/v1alpha1")),
    row("kind", Become("Rollout, with the objects that Flagger would write")),
    row("metadata", Enter),
    row("metadata.name", Become("the name of the Rollout is that of the target")),
    row("metadata.namespace", Keep),
    row("metadata.labels", Keep),
    row("metadata.annotations", Keep),
    row("status", Leave(Harmless, "Serin writes a status of its own")),
];

/// What an object has that goes into others.
pub const ABSORBED: &[Row] = &[
    row("apiVersion", Become("gone with the object")),
    row("kind", Become("gone with the object")),
    row("metadata", Become("gone with the object")),
    row("status", Leave(Harmless, "gone with the object")),
];

/// A Canary, but for its service and its analysis.
pub const CANARY: &[Row] = &[
    row("spec", Enter),
    row("spec.provider", Become("istio, which is the only one")),
    row("spec.metricsServer", Become("a MetricProvider")),
    row("spec.targetRef", Become("workloadRef of the Rollout")),
    row("spec.autoscalerRef", Become("the autoscaler scales the Rollout itself; there is no copy for stable")),
    row("spec.progressDeadlineSeconds", Keep),
    row("spec.skipAnalysis", Become("no steps: promoted as soon as the pods are available")),
    row("spec.revertOnDeletion", Leave(Harmless, "a Rollout that is deleted gives the route back by itself")),
    row("spec.suspend", Become("spec.paused; an abort still happens")),
    row("spec.ingressRef", Leave(Protection, OTHER_ROUTER)),
    row("spec.routeRef", Leave(Protection, OTHER_ROUTER)),
    row("spec.upstreamRef", Leave(Protection, OTHER_ROUTER)),
    row("spec.service", Enter),
    row("spec.analysis", Enter),
];

/// The service of a Canary.
pub const SERVICE: &[Row] = &[
    row("spec.service.name", Become("the Service, and the host of the route")),
    row("spec.service.port", Become("the port of the Service")),
    row("spec.service.portName", Become("the name of that port")),
    row("spec.service.targetPort", Become("its targetPort")),
    row("spec.service.appProtocol", Become("its appProtocol; tcp makes the route a TCP route")),
    row("spec.service.trafficDistribution", Become("trafficDistribution of the Service")),
    row("spec.service.headless", Become("clusterIP: None of the Service")),
    row("spec.service.portDiscovery", Become("the other ports of the pod template are ports of the Service")),
    row("spec.service.hosts", Become("hosts of the route")),
    row("spec.service.gateways", Become("gateways of the route")),
    row("spec.service.delegation", Become("the VirtualService has neither hosts nor gateways, as now")),
    row("spec.service.match", Become("match of the VirtualService's route")),
    row("spec.service.rewrite", Become("rewrite of the VirtualService's route")),
    row("spec.service.timeout", Become("timeout of the VirtualService's route")),
    row("spec.service.retries", Become("retries of the VirtualService's route")),
    row("spec.service.headers", Become("headers of the VirtualService's route")),
    row("spec.service.corsPolicy", Become("corsPolicy of the VirtualService's route")),
    row("spec.service.trafficPolicy", Become("trafficPolicy of a DestinationRule; Istio joins Serin's subsets to it")),
    row("spec.service.apex", Become("labels and annotations of the Service")),
    row("spec.service.primary", Leave(Harmless, NO_COPY)),
    row("spec.service.canary", Leave(Harmless, NO_COPY)),
    row("spec.service.unmanagedMetadata", Leave(Harmless, "Git holds the Service, and nobody else writes it")),
    row("spec.service.meshName", Leave(Protection, OTHER_ROUTER)),
    row("spec.service.backends", Leave(Protection, OTHER_ROUTER)),
    row("spec.service.gatewayRefs", Leave(Protection, GATEWAY_API)),
    row("spec.service.backendTimeout", Leave(Protection, OTHER_ROUTER)),
    row("spec.service.mirror", Leave(Protection, OTHER_ROUTER)),
];

/// The analysis of a Canary.
pub const ANALYSIS: &[Row] = &[
    row("spec.analysis.interval", Become("the interval and the initial delay of the metrics")),
    row("spec.analysis.threshold", Become("failureLimit, one less")),
    row("spec.analysis.maxWeight", Become("the last setWeight")),
    row("spec.analysis.stepWeight", Become("a setWeight for each")),
    row("spec.analysis.stepWeights", Become("a setWeight for each")),
    row(
        "spec.analysis.stepWeightPromotion",
        Leave(Harmless, "the canary's pods become stable where they are; no traffic goes back to a copy"),
    ),
    row(
        "spec.analysis.iterations",
        Leave(
            Protection,
            "checks without weight; the canary runs at full size and a pause stands in place, which a person ends",
        ),
    ),
    row("spec.analysis.match", Leave(Protection, "the route by headers; write a setHeaderRoute step")),
    row(
        "spec.analysis.mirror",
        Leave(Protection, "the mirrored traffic before the first weight; write a setMirrorRoute step"),
    ),
    row("spec.analysis.mirrorWeight", Leave(Harmless, "see mirror")),
    row("spec.analysis.primaryReadyThreshold", Leave(Harmless, ALL_READY)),
    row("spec.analysis.canaryReadyThreshold", Leave(Harmless, ALL_READY)),
    row(
        "spec.analysis.sessionAffinity",
        Leave(Protection, "cookies that keep a client on the canary; Serin shifts requests"),
    ),
    row(
        "spec.analysis.alerts",
        Leave(Harmless, "Serin does not notify yet; follow the Events and the status of the Rollout"),
    ),
    row("spec.analysis.webhooks", Become("each by its type")),
    row("spec.analysis.metrics", Become("metrics of an AnalysisTemplate")),
];

/// A MetricTemplate.
pub const TEMPLATE: &[Row] = &[
    row("spec", Enter),
    row("spec.provider", Enter),
    row("spec.provider.type", Become("prometheus is the only one")),
    row("spec.provider.address", Become("a MetricProvider")),
    row("spec.provider.insecureSkipVerify", Become("insecureSkipVerify of the MetricProvider")),
    row("spec.provider.region", Leave(Protection, "Serin measures by Prometheus only")),
    row(
        "spec.provider.secretRef",
        Leave(
            Protection,
            "name the Secret in authentication of the MetricProvider: bearerToken, or basic with the user's name",
        ),
    ),
    row(
        "spec.provider.headers",
        Leave(Protection, "a MetricProvider sends Authorization from a Secret, and no other header"),
    ),
    row("spec.query", Become("the query of every metric that names the template")),
];

/// An AlertProvider.
pub const ALERTS: &[Row] =
    &[row("spec", Leave(Harmless, "Serin does not notify yet; follow the Events and the status of the Rollout"))];
