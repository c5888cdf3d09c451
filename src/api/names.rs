//! Every label, annotation, finalizer, field manager and API group that Serin writes or reads, once.

/// API group of every kind.
pub const GROUP: &str = "serin.dev";
/// Served and stored API version of every kind.
pub const VERSION: &str = "v1alpha1";
/// `GROUP/VERSION`, as `apiVersion` spells it.
pub const API_VERSION: &str = "serin.dev/v1alpha1";

/// Label on pods, ReplicaSets and DestinationRule subsets: which revision.
pub const REVISION_HASH: &str = "serin.dev/revision-hash";
/// Annotation on ReplicaSets: the revision's number, counting from 1.
pub const REVISION: &str = "serin.dev/revision";
/// Annotation on ReplicaSets and pods: the labels and annotations that Serin put on the pods for their role, as JSON.
pub const POD_METADATA: &str = "serin.dev/pod-metadata";
/// Annotation on ReplicaSets whose pods do not all carry yet what the template says for their role.
pub const POD_METADATA_PENDING: &str = "serin.dev/pod-metadata-pending";
/// Annotation on ReplicaSets: the copies of ConfigMaps and Secrets that their template refers to.
pub const CONFIG_COPIES: &str = "serin.dev/config-copies";
/// Annotation on such a copy: the name of what it is a copy of.
pub const CONFIG_SOURCE: &str = "serin.dev/config-source";
/// Annotation on the Job of a metric: which measurement of which analysis it is.
pub const MEASUREMENT: &str = "serin.dev/measurement";
/// Annotation on the Job of a metric: how many of its metric are kept once they are over.
pub const MEASUREMENTS_KEPT: &str = "serin.dev/measurements-kept";
/// Label on every child: the Rollout's name.
pub const ROLLOUT: &str = "serin.dev/rollout";
/// Label on pods that Istio's own metrics carry as `destination_canonical_revision`.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Annotation on pods: the user's own value of [`CANONICAL_REVISION`], which Serin replaces.
pub const USER_CANONICAL_REVISION: &str = "serin.dev/canonical-revision";
/// Label on the ReplicaSet of a baseline and on its pods, which carry stable's [`REVISION_HASH`]: the canary that they were
/// started with.
pub const BASELINE: &str = "serin.dev/baseline";
/// Prefix of the annotations that a pipeline sets; never part of the revision hash.
pub const GIT_PREFIX: &str = "serin.dev/git-";
/// Annotation: the commit that was applied.
pub const GIT_COMMIT: &str = "serin.dev/git-commit";
/// Annotation: who wrote that commit.
pub const GIT_AUTHOR: &str = "serin.dev/git-author";
/// Annotation: the repository of that commit, as a URL or `owner/name`.
pub const GIT_REPO: &str = "serin.dev/git-repo";
/// Annotation: a page that shows that commit.
pub const GIT_URL: &str = "serin.dev/git-url";

/// Label: the version of an application, as Kubernetes recommends it
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>).
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// Finalizer of a Rollout in flight: the route goes back to stable before the object goes.
pub const FINALIZER: &str = "serin.dev/route";
/// Field manager of every write.
pub const FIELD_MANAGER: &str = "serin";
/// Service account in istiod's namespace whose token istiod is shown.
pub const ISTIOD_SERVICE_ACCOUNT: &str = "serin-proxies";
/// What events name as their reporting controller.
pub const REPORTER: &str = "serin.dev/rollout-controller";

/// Suffix of the VirtualService and DestinationRule that Serin owns: `<rollout>-serin`.
const OWNED_SUFFIX: &str = "-serin";

/// Name of the one HTTP route of a VirtualService that Serin owns.
pub const OWNED_HTTP_ROUTE: &str = "serin";

/// Name of the VirtualService and the DestinationRule that Serin owns for a Rollout.
pub fn owned_route(rollout: &str) -> String {
    format!("{rollout}{OWNED_SUFFIX}")
}

/// Name of the stable subset in a DestinationRule that Serin owns.
pub fn owned_stable_subset(rollout: &str) -> String {
    format!("{rollout}-stable")
}

/// Name of the canary subset in a DestinationRule that Serin owns.
pub fn owned_canary_subset(rollout: &str) -> String {
    format!("{rollout}-canary")
}

/// What stands between the hash of stable and the word of a baseline in its canonical revision.
const BASELINE_INFIX: &str = "-baseline-";

/// Name of the ReplicaSet of a baseline. It begins as no other revision's, so that no pattern of their pods' names matches its own.
pub fn baseline(rollout: &str, word: &str) -> String {
    format!("{rollout}{BASELINE_INFIX}{word}")
}

/// What the pods of a baseline carry as [`CANONICAL_REVISION`].
pub fn baseline_revision(stable: &str, word: &str) -> String {
    format!("{stable}{BASELINE_INFIX}{word}")
}

/// The revision that a [`CANONICAL_REVISION`] is of: a baseline's is stable's.
pub fn revision_of(canonical: &str) -> &str {
    canonical.split_once(BASELINE_INFIX).map_or(canonical, |(stable, _)| stable)
}

/// Whether a query is about a baseline.
pub fn is_of_baseline(query: &str) -> bool {
    query.contains(BASELINE_INFIX)
}

/// Whether a label or annotation key belongs to a deployment tool's bookkeeping and must not reach children.
pub fn is_tracking_key(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or_default();
    domain == "argocd.argoproj.io"
        || domain.ends_with("toolkit.fluxcd.io")
        || domain == "helm.sh"
        || domain == "meta.helm.sh"
        || key == "app.kubernetes.io/instance"
        || key == "kubectl.kubernetes.io/last-applied-configuration"
}
