//! The kinds that there are, and what the API server does with each.

use super::refusal::Refusal;

/// One kind of objects.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural, as in URLs.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Whether the status is written apart.
    pub has_status: bool,
    /// Whether it counts generations of its spec.
    pub has_generation: bool,
    /// Whether a definition made it, so that its schema fills in and prunes.
    pub is_custom: bool,
    /// Whether a replacement may leave the version out.
    pub is_unconditional: bool,
    /// Whether a deletion answers the object that it deleted.
    pub answers_deleted: bool,
}

impl Kind {
    /// `group/version`, as objects spell it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Plural with its group, as messages spell it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Kind with its group, as messages about an object's content spell it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }
}

const fn kind(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Kind {
    Kind {
        group,
        version,
        plural,
        kind,
        has_status: false,
        has_generation: false,
        is_custom: false,
        is_unconditional: false,
        answers_deleted: false,
    }
}

const fn core(plural: &'static str, name: &'static str) -> Kind {
    Kind { is_unconditional: true, ..kind("", "v1", plural, name) }
}

const fn custom(group: &'static str, version: &'static str, plural: &'static str, name: &'static str) -> Kind {
    Kind { is_custom: true, has_generation: true, ..kind(group, version, plural, name) }
}

const fn istio(plural: &'static str, name: &'static str) -> Kind {
    custom("networking.istio.io", "v1", plural, name)
}

const fn serin(plural: &'static str, name: &'static str, has_status: bool) -> Kind {
    Kind { has_status, ..custom("serin.dev", "v1alpha1", plural, name) }
}

/// Every kind that there is.
pub const KINDS: &[Kind] = &[
    Kind { has_status: true, has_generation: true, answers_deleted: true, ..core("pods", "Pod") },
    Kind { has_status: true, answers_deleted: true, ..core("services", "Service") },
    core("secrets", "Secret"),
    core("configmaps", "ConfigMap"),
    Kind {
        has_status: true,
        has_generation: true,
        is_unconditional: true,
        ..kind("apps", "v1", "replicasets", "ReplicaSet")
    },
    Kind {
        has_status: true,
        has_generation: true,
        is_unconditional: true,
        ..kind("apps", "v1", "deployments", "Deployment")
    },
    Kind { has_status: true, has_generation: true, is_unconditional: true, ..kind("batch", "v1", "jobs", "Job") },
    kind("coordination.k8s.io", "v1", "leases", "Lease"),
    Kind { is_unconditional: true, ..kind("events.k8s.io", "v1", "events", "Event") },
    istio("virtualservices", "VirtualService"),
    istio("destinationrules", "DestinationRule"),
    Kind { has_status: true, ..custom("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute") },
    serin("rollouts", "Rollout", true),
    serin("analysistemplates", "AnalysisTemplate", false),
    serin("clusteranalysistemplates", "ClusterAnalysisTemplate", false),
    serin("metricproviders", "MetricProvider", false),
    serin("rolloutactions", "RolloutAction", true),
    serin("notificationchannels", "NotificationChannel", true),
    Kind { has_status: true, ..custom("promoter.argoproj.io", "v1alpha1", "commitstatuses", "CommitStatus") },
    Kind { has_status: true, ..custom("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization") },
];

/// The kind of a plural.
pub fn kind_of(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

/// The kind of a plural; that it does not exist is refused.
pub fn known(plural: &str) -> Result<&'static Kind, Refusal> {
    kind_of(plural).ok_or_else(Refusal::no_such_resource)
}

/// The plural of a kind.
pub fn plural_of(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|own| own.kind == kind).map(|own| own.plural)
}
