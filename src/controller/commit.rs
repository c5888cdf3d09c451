//! The commit that a Rollout is of, where nobody wrote it into an annotation: what the tool that applied it has on record.
//!
//! Flux puts the name of its Kustomization into labels, and records the revision that it is about to apply in
//! `status.lastAttemptedRevision` before it applies it. Argo CD puts the name of its Application into an annotation, and records
//! the revision of the sync under way in `status.operationState`. Each is read once for each new generation of a Rollout; one that
//! cannot be read is asked for again for a minute, while nothing waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::Shell;
use crate::api::names;
use crate::api::status::RolloutStatus;
use crate::api::watched::Rollout;

/// How long a record is waited for; without it the commit stays unknown.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often a record is asked for, and the first wait between two tries; each is twice as long as the one before. Later than
/// that the tool may have applied another commit, which has not brought this generation.
const TRIES_MOST: u32 = 6;
const AGAIN: Duration = Duration::from_secs(2);
/// Labels that Flux gives what it applies.
const FLUX_NAME: &str = "kustomize.toolkit.fluxcd.io/name";
const FLUX_NAMESPACE: &str = "kustomize.toolkit.fluxcd.io/namespace";
/// The annotation that Argo CD gives what it applies: `APPLICATION:GROUP/KIND:NAMESPACE/NAME`.
const ARGO_TRACKING: &str = "argocd.argoproj.io/tracking-id";

/// Whose records are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Flux's Kustomizations.
    pub flux: bool,
    /// Argo CD's Applications, those of this namespace unless their name says another.
    pub argo: Option<String>,
}

/// Where the commit of a Rollout is on record.
#[derive(Debug, PartialEq, Eq)]
enum Record {
    Kustomization { namespace: String, name: String },
    Application { namespace: String, name: String },
}

/// What is known of the commit of a generation.
#[derive(Debug, Default)]
pub struct Known {
    /// The commit.
    pub commit: Option<String>,
    /// After what time it is asked for again, where it could not be read.
    pub again: Option<Duration>,
}

/// Records that could not be read, by Rollout.
#[derive(Default)]
pub struct Unread {
    failures: Mutex<BTreeMap<String, Failure>>,
}

/// What is remembered of a record that could not be read.
#[derive(Clone, Copy)]
struct Failure {
    generation: i64,
    tries: u32,
    again: Instant,
}

impl Unread {
    fn failures(&self) -> MutexGuard<'_, BTreeMap<String, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what failed for a Rollout.
    pub fn forget(&self, rollout: &str) {
        self.failures().remove(rollout);
    }

    /// The last failure for this generation.
    fn last(&self, rollout: &str, generation: i64) -> Option<Failure> {
        self.failures().get(rollout).filter(|failure| failure.generation == generation).copied()
    }

    /// Remembers one more failure; after what time the next try is due, if any.
    fn fail(&self, rollout: &str, generation: i64) -> Option<Duration> {
        let mut failures = self.failures();
        let before = failures.get(rollout).filter(|failure| failure.generation == generation);
        let tries = before.map_or(0, |failure| failure.tries) + 1;
        let again = Instant::now() + AGAIN.saturating_mul(1 << (tries - 1).min(TRIES_MOST));
        let failure = Failure { generation, tries, again };
        let left = failure.left();
        failures.insert(rollout.to_owned(), failure);
        left
    }
}

impl Failure {
    fn left(&self) -> Option<Duration> {
        (self.tries < TRIES_MOST).then(|| self.again.saturating_duration_since(Instant::now()))
    }
}

/// The commit of a Rollout without an annotation for it. While its generation is the one of its status, that of its status,
/// unless it could not be read.
pub async fn of(shell: &Shell, rollout: &Rollout) -> Known {
    let Some(record) = record(&shell.sources, rollout) else { return Known::default() };
    let (name, status) = (shell.name_of(rollout), &rollout.status);
    let generation = rollout.metadata.generation.unwrap_or_default();
    if let Some(failure) = shell.unread.last(&name, generation) {
        let again = failure.left();
        if again.is_none_or(|left| !left.is_zero()) {
            return Known { commit: None, again };
        }
    } else if generation == status.observed_generation && !has_unread(status) {
        return Known { commit: status.commit.clone(), again: None };
    }
    match read(shell, rollout, &record).await {
        Ok(commit) => {
            shell.unread.forget(&name);
            Known { commit, again: None }
        }
        Err(Unreadable) => Known { commit: None, again: shell.unread.fail(&name, generation) },
    }
}

/// Whether a controller that is gone could not read the commit of this generation.
fn has_unread(status: &RolloutStatus) -> bool {
    let mut sides = [&status.stable, &status.canary].into_iter().flatten();
    sides.any(|side| side.unread_generation == Some(status.observed_generation))
}

/// The record cannot be read, and the log says why.
struct Unreadable;

/// The commit that a record tells.
async fn read(shell: &Shell, rollout: &Rollout, record: &Record) -> Result<Option<String>, Unreadable> {
    let (kind, namespace, name) = match record {
        Record::Kustomization { namespace, name } => {
            (GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization"), namespace, name)
        }
        Record::Application { namespace, name } => {
            (GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"), namespace, name)
        }
    };
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(shell.client.clone(), namespace, &resource);
    let error = match timeout(TIMEOUT, api.get(name)).await {
        Ok(Ok(object)) => {
            return Ok(match record {
                Record::Kustomization { .. } => attempted(&object.data),
                Record::Application { .. } => synced(&object.data),
            });
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    let (own, kind) = (rollout.name_any(), kind.kind);
    tracing::warn!(rollout = %own, %error, "the commit is not known: {kind} {namespace}/{name} cannot be read; deploy/commit has the rules for it");
    Err(Unreadable)
}

/// Where its commit is on record, if a tool applied it whose records are read. A new image of a Deployment, or another content of
/// a ConfigMap, does not change the Rollout, which tells when to read.
fn record(sources: &Sources, rollout: &Rollout) -> Option<Record> {
    let record = named(sources, rollout)?;
    let spec = rollout.spec.value();
    let comes_otherwise =
        ["workloadRef", "configSnapshots"].iter().any(|field| spec.get(field).is_some_and(|given| !given.is_null()));
    (!comes_otherwise).then_some(record)
}

/// The record that its labels or annotations name.
fn named(sources: &Sources, rollout: &Rollout) -> Option<Record> {
    let (labels, annotations) = (rollout.labels(), rollout.annotations());
    if annotations.contains_key(names::GIT_COMMIT) {
        return None;
    }
    if let (true, Some(name), Some(namespace)) = (sources.flux, labels.get(FLUX_NAME), labels.get(FLUX_NAMESPACE)) {
        return Some(Record::Kustomization { namespace: namespace.clone(), name: name.clone() });
    }
    let own = sources.argo.as_ref()?;
    // A copy of another object's annotation names another object.
    let (application, tracked) = annotations.get(ARGO_TRACKING)?.split_once(':')?;
    let namespace = rollout.namespace().unwrap_or_default();
    if tracked != format!("{}/Rollout:{namespace}/{}", names::GROUP, rollout.name_any()) {
        return None;
    }
    // An Application of another namespace than Argo CD's is told with it.
    let (namespace, name) = application.split_once('_').unwrap_or((own, application));
    Some(Record::Application { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// The commit that a Kustomization applies: `main@sha1:…`, of Git alone. A digest of an OCI artifact is no commit.
fn attempted(kustomization: &Value) -> Option<String> {
    let is_of_git = kustomization.pointer("/spec/sourceRef/kind").and_then(Value::as_str) == Some("GitRepository");
    let revision = kustomization.pointer("/status/lastAttemptedRevision").filter(|_| is_of_git)?.as_str()?;
    commit(revision.rsplit([':', '/']).next()?)
}

/// The commit that an Application syncs, or has synced last.
fn synced(application: &Value) -> Option<String> {
    let at = |path: &str| application.pointer(path).and_then(Value::as_str).and_then(commit);
    let several =
        |path: &str| application.pointer(path).and_then(|all| all.get(0)).and_then(Value::as_str).and_then(commit);
    let is_running = application.pointer("/status/operationState/phase").and_then(Value::as_str) == Some("Running");
    let under_way = || {
        at("/status/operationState/operation/sync/revision")
            .or_else(|| several("/status/operationState/operation/sync/revisions"))
    };
    let last = || {
        at("/status/operationState/syncResult/revision")
            .or_else(|| several("/status/operationState/syncResult/revisions"))
            .or_else(|| at("/status/sync/revision"))
            .or_else(|| several("/status/sync/revisions"))
    };
    is_running.then(under_way).flatten().or_else(last)
}

/// A hash of Git's, by SHA-1 or SHA-256.
fn commit(text: &str) -> Option<String> {
    let is_hash = [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COMMIT: &str = "4f2a91c05bd1f7a0c3fdb6b7c2d61f2f3c9a7b10";

    fn given(labels: &Value, annotations: &Value) -> Rollout {
        let metadata = json!({"name": "checkout", "namespace": "shop", "labels": labels, "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn each_tool_is_believed_of_its_own() {
        let flux = json!({FLUX_NAME: "apps", FLUX_NAMESPACE: "flux-system"});
        let both = Sources { flux: true, argo: Some("argocd".into()) };
        let kustomization = Record::Kustomization { namespace: "flux-system".into(), name: "apps".into() };
        assert_eq!(record(&both, &given(&flux, &json!({}))), Some(kustomization));
        assert_eq!(record(&Sources::default(), &given(&flux, &json!({}))), None, "nobody asked for it");
        assert_eq!(record(&both, &given(&flux, &json!({names::GIT_COMMIT: "4f2a91c"}))), None, "a pipeline says it");

        let argo = |tracking: &str| record(&both, &given(&json!({}), &json!({ARGO_TRACKING: tracking})));
        let application =
            |namespace: &str| Some(Record::Application { namespace: namespace.into(), name: "web".into() });
        assert_eq!(argo("web:serin.dev/Rollout:shop/checkout"), application("argocd"));
        assert_eq!(argo("team_web:serin.dev/Rollout:shop/checkout"), application("team"));
        assert_eq!(argo("web:serin.dev/Rollout:shop/cart"), None, "copied from another object");
        assert_eq!(argo("web"), None);
        for field in
            [json!({"workloadRef": {"name": "checkout"}}), json!({"configSnapshots": {"kinds": ["ConfigMap"]}})]
        {
            let mut other = given(&flux, &json!({}));
            other.spec = serde_json::from_value(field).unwrap();
            assert_eq!(record(&both, &other), None, "what changes a revision does not change the Rollout");
        }
        assert_eq!(record(&both, &given(&json!({}), &json!({}))), None);
    }

    #[test]
    fn a_revision_of_flux_is_a_commit_of_git() {
        let told = |kind: &str, revision: &str| {
            attempted(&json!({"spec": {"sourceRef": {"kind": kind}}, "status": {"lastAttemptedRevision": revision}}))
        };
        assert_eq!(told("GitRepository", &format!("main@sha1:{COMMIT}")).as_deref(), Some(COMMIT));
        assert_eq!(told("GitRepository", &format!("main/{COMMIT}")).as_deref(), Some(COMMIT), "before Flux 2.0");
        assert_eq!(told("GitRepository", &format!("sha1:{COMMIT}")).as_deref(), Some(COMMIT));
        assert_eq!(told("GitRepository", "main"), None);
        assert_eq!(told("OCIRepository", &format!("latest@sha256:{}", "0".repeat(64))), None);
        assert_eq!(attempted(&json!({})), None);
    }

    #[test]
    fn an_application_tells_of_the_sync_under_way() {
        let (old, new) = ("0".repeat(40), COMMIT);
        let told = |phase: &str| {
            synced(&json!({"status": {
                "sync": {"revision": new},
                "operationState": {"phase": phase, "operation": {"sync": {"revision": new}}, "syncResult": {"revision": old}},
            }}))
        };
        assert_eq!(told("Running").as_deref(), Some(new));
        assert_eq!(told("Succeeded"), Some(old.clone()), "a newer commit that is not synced yet has not brought it");
        assert_eq!(synced(&json!({"status": {"sync": {"revisions": [new, old]}}})).as_deref(), Some(new));
        assert_eq!(synced(&json!({"status": {"sync": {"revision": "1.2.3"}}})), None, "the version of a chart");
        assert_eq!(synced(&json!({})), None);
    }
}
