//! Fields that Serin does not support, each with what to do instead: those of Argo Rollouts, and of Serin's own design.

/// Fields of one object that Serin does not support, and what to do instead.
pub struct Refused {
    /// The object, as a path from the spec; `[]` stands for every element of a list.
    pub path: &'static str,
    /// The fields, each with what to do instead.
    pub fields: &'static [(&'static str, &'static str)],
}

const NOT_YET: &str = "is not supported yet; remove it";
const OF_PROVIDER: &str = "is not supported here; create a MetricProvider and name it in `provider`";
const ISTIO_ONLY: &str =
    "is not supported: Serin routes by Istio and by HTTPRoutes; use trafficRouting.istio or trafficRouting.gatewayAPI";
const HTTP_ONLY: &str = "is not supported: of the Gateway API Serin edits HTTPRoutes only; remove it";
const NO_RUNS: &str = "is not supported: measurements are kept in the Rollout's status; remove it";

/// Fields of Argo Rollouts, and of Serin's own design, that a Rollout's spec cannot have.
pub const ROLLOUT_REFUSED: &[Refused] = &[
    Refused {
        path: "",
        fields: &[("analysis", "is not supported: there are no AnalysisRun objects to limit; remove it")],
    },
    Refused {
        path: "workloadRef",
        fields: &[(
            "scaleDown",
            "is not supported: the Deployment is scaled to 0 once stable serves, by Serin where Git leaves its replicas out, else by Git; remove it",
        )],
    },
    Refused { path: "selector", fields: &[("matchExpressions", "is not supported; use matchLabels")] },
    Refused { path: "strategy", fields: &[("blueGreen", "is not supported; use canary")] },
    Refused {
        path: "strategy.canary",
        fields: &[
            ("pingPong", "is not supported; use stableService and canaryService, or subsets of one Service"),
            ("antiAffinity", "is not supported; write the affinity in the pod template"),
            ("scaleDownDelayRevisionLimit", "is not supported; use scaleDownDelaySeconds"),
            ("replicaProgressThreshold", NOT_YET),
        ],
    },
    Refused {
        path: "strategy.canary.trafficRouting",
        fields: &[
            ("alb", ISTIO_ONLY),
            ("nginx", ISTIO_ONLY),
            ("smi", ISTIO_ONLY),
            ("ambassador", ISTIO_ONLY),
            ("appMesh", ISTIO_ONLY),
            ("traefik", ISTIO_ONLY),
            ("apisix", ISTIO_ONLY),
            (
                "plugins",
                "is not supported; what plugins.argoproj-labs/gatewayAPI says of HTTPRoutes stands in trafficRouting.gatewayAPI",
            ),
            ("maxTrafficWeight", "is not supported by Istio; weights are percent"),
        ],
    },
    Refused {
        path: "strategy.canary.trafficRouting.gatewayAPI",
        fields: &[
            ("namespace", "is not supported: HTTPRoutes are those of the Rollout's namespace; remove it"),
            ("grpcRoute", HTTP_ONLY),
            ("grpcRoutes", HTTP_ONLY),
            ("tcpRoute", HTTP_ONLY),
            ("tcpRoutes", HTTP_ONLY),
            ("tlsRoute", HTTP_ONLY),
            ("tlsRoutes", HTTP_ONLY),
        ],
    },
    Refused {
        path: "strategy.canary.trafficRouting.istio.destinationRule",
        fields: &[("additionalSubsetNames", "is not needed: subsets that Serin does not own are kept; remove it")],
    },
    Refused {
        path: "strategy.canary.steps[]",
        fields: &[
            ("experiment", "is not supported; use an analysis step"),
            ("plugin", "is not supported; use an analysis step"),
            ("replicaProgressThreshold", NOT_YET),
        ],
    },
    Refused { path: "strategy.canary.steps[].analysis", fields: &[("analysisRunMetadata", NO_RUNS)] },
    Refused { path: "strategy.canary.steps[].analysis.args[].valueFrom", fields: SECRET_REFUSED },
    Refused { path: "strategy.canary.analysis", fields: &[("analysisRunMetadata", NO_RUNS)] },
    Refused { path: "strategy.canary.analysis.args[].valueFrom", fields: SECRET_REFUSED },
];

const SECRET_REFUSED: &[(&str, &str)] = &[(
    "secretKeyRef",
    "is not supported: Serin reads no Secrets of applications; put credentials into a MetricProvider",
)];

/// Fields of Argo Rollouts, and of Serin's own design, that an analysis template's spec cannot have.
pub const TEMPLATE_REFUSED: &[Refused] = &[
    Refused { path: "", fields: &[("templates", "is not supported; name all templates in the Rollout")] },
    Refused { path: "args[]", fields: &[("valueFrom", "is not supported here; give the value in the Rollout")] },
    Refused {
        path: "metrics[]",
        fields: &[("provider", "is not supported; write `prometheus: {provider, query}` in the metric itself")],
    },
    Refused {
        path: "metrics[].prometheus",
        fields: &[
            ("address", OF_PROVIDER),
            ("authentication", OF_PROVIDER),
            ("headers", OF_PROVIDER),
            ("insecure", OF_PROVIDER),
            ("timeout", OF_PROVIDER),
            ("rangeQuery", "is not supported; write the range in the query"),
        ],
    },
];
