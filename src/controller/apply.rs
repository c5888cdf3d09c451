//! Action to exactly one API request, guarded by the version of the snapshot. Acts, never decides.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet as FullReplicaSet;
use kube::api::{DeleteParams, Evict, EvictParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::{Class, Error};
use super::{Shell, configs, jobs};
use crate::api::names;
use crate::api::status::RolloutStatus;
use crate::api::watched::{
    Deployment, DestinationRule, HttpRoute, Pod, ReplicaSet, Rollout, RolloutAction, Service, VirtualService,
};
use crate::plan::action::{Action, SubsetEdit};
use crate::plan::observed::Observed;
use crate::plan::{Plan, objects};

/// The longest that a write may take; leadership reckons with it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Edits of one object in one pass, when others write it too.
const EDITS_MOST: usize = 3;

/// Every permission that the controller needs: API group, resource, verbs. The shipped ClusterRole holds exactly these.
pub const PERMISSIONS: &[(&str, &str, &[&str])] = &[
    ("serin.dev", "rollouts", &["get", "list", "watch", "patch"]),
    ("serin.dev", "rollouts/status", &["patch"]),
    ("serin.dev", "rollouts/scale", &["patch"]),
    ("serin.dev", "rollouts/finalizers", &["update"]),
    ("serin.dev", "analysistemplates", &["list", "watch"]),
    ("serin.dev", "clusteranalysistemplates", &["list", "watch"]),
    ("serin.dev", "metricproviders", &["list", "watch"]),
    ("serin.dev", "rolloutactions", &["list", "watch", "patch", "delete"]),
    ("serin.dev", "rolloutactions/status", &["patch"]),
    ("serin.dev", "notificationchannels", &["get", "list", "watch"]),
    ("serin.dev", "notificationchannels/status", &["patch"]),
    ("", "pods", &["list", "watch", "patch"]),
    ("", "pods/eviction", &["create"]),
    ("apps", "replicasets", &["get", "list", "watch", "create", "patch", "delete"]),
    ("apps", "deployments", &["get", "list", "watch"]),
    ("apps", "deployments/scale", &["patch"]),
    ("batch", "jobs", &["list", "watch", "create", "delete"]),
    ("", "services", &["get", "list", "watch", "create", "patch"]),
    ("networking.istio.io", "virtualservices", &["get", "list", "watch", "create", "patch"]),
    ("networking.istio.io", "destinationrules", &["get", "list", "watch", "create", "patch"]),
    ("gateway.networking.k8s.io", "httproutes", &["get", "list", "watch", "patch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// Carries the actions of a plan out, in order; after a failed one the rest is left.
/// Where the status could not be recorded before them, only route writes go out that withdraw a canary.
pub async fn apply(shell: &Shell, observed: &Observed, plan: &Plan, is_recorded: bool) -> Result<(), Error> {
    for action in plan.actions.iter().filter(|action| is_recorded || action.is_route()) {
        carry_out(shell, observed, action).await?;
    }
    Ok(())
}

/// Writes the whole status, only onto the version that was read.
pub async fn write_status(shell: &Shell, observed: &Observed, status: &RolloutStatus) -> Result<(), Error> {
    let metadata = &observed.rollout.metadata;
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": shell.version_of(&observed.rollout)},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let api: Api<Rollout> = api(shell, observed);
    let name = metadata.name.clone().unwrap_or_default();
    let patch = json_patch_of(patch);
    let written = send(
        shell,
        observed,
        ("rollouts/status", "patch"),
        "write the status",
        api.patch_status(&name, &params(), &patch),
    )
    .await?;
    shell.wrote(&written);
    Ok(())
}

impl Evict for Pod {}

fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(shell: &Shell, observed: &Observed) -> Api<K> {
    Api::namespaced(shell.client.clone(), observed.rollout.metadata.namespace.as_deref().unwrap_or_default())
}

/// Sends one write about a Rollout.
async fn send<T>(
    shell: &Shell,
    observed: &Observed,
    what: (&'static str, &'static str),
    action: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    shell.write(&shell.name_of(&observed.rollout), what, action, request).await
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn create_params() -> PostParams {
    PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

async fn carry_out(shell: &Shell, observed: &Observed, action: &Action) -> Result<(), Error> {
    tracing::info!(%action, "write");
    match action {
        Action::SetReplicas { replicas } => set_replicas(shell, observed, action, *replicas).await,
        Action::AddFinalizer | Action::RemoveFinalizer => set_finalizer(shell, observed, action).await,
        Action::CreateReplicaSet { name, hash, replicas, revision, metadata } => {
            let body = objects::replica_set(observed, hash, (*replicas, *revision), metadata);
            create_replica_set(shell, observed, action, (name, &body)).await
        }
        Action::CreateBaseline { name, source, stable, .. } => {
            create_baseline(shell, observed, action, (name, source, stable)).await
        }
        Action::ScaleReplicaSet { name, generation, number, replicas, revision } => {
            let patch = objects::scale_patch((*generation, *number), *replicas, *revision);
            patch_replica_set(shell, observed, action, (name, &json_patch_of(patch))).await
        }
        Action::DeleteReplicaSet { name, version } => {
            let api: Api<FullReplicaSet> = api(shell, observed);
            let preconditions = Preconditions { resource_version: Some(version.clone()), uid: None };
            let delete = DeleteParams::background().preconditions(preconditions);
            send(shell, observed, ("replicasets", "delete"), &action.to_string(), api.delete(name, &delete))
                .await
                .map(|_| ())
        }
        Action::CopyConfig { kind, source, name, digest } => {
            configs::copy(shell, observed, action, (*kind, source, name, digest)).await
        }
        Action::DeleteCopy { kind, name, uid } => configs::delete(shell, observed, action, (*kind, name, uid)).await,
        Action::CreateJob { .. } | Action::DeleteJob { .. } => jobs::carry_out(shell, observed, action).await,
        Action::WriteVirtualService { name, version, split, front } => {
            let body = objects::virtual_service(observed, name, version.as_deref(), (*split, front));
            let written: VirtualService =
                write_owned(shell, observed, action, ("virtualservices", name, version.is_some()), &body).await?;
            shell.caches.virtual_services.put(&written);
            Ok(())
        }
        Action::WriteDestinationRule { name, version, .. } => {
            let body = objects::destination_rule(observed, action);
            let written: DestinationRule =
                write_owned(shell, observed, action, ("destinationrules", name, version.is_some()), &body).await?;
            shell.caches.destination_rules.put(&written);
            Ok(())
        }
        Action::EditVirtualService { .. } | Action::EditHttpRoute { .. } => edit_route(shell, observed, action).await,
        Action::EditDestinationRule { name, version, edits } => {
            edit_destination_rule(shell, observed, action, (name, version, edits)).await
        }
        Action::CreateService { name, ports } => {
            let body = objects::service(observed, name, ports);
            let created = create(shell, observed, action, "services", &body).await?;
            shell.caches.services.put(&created);
            Ok(())
        }
        Action::EditService { name, version, hash } => {
            edit_service(shell, observed, action, (name, version, hash.as_deref())).await
        }
        Action::ScaleWorkload { name, uid, replicas } => {
            scale_workload(shell, observed, action, (name, uid, *replicas)).await
        }
        Action::EvictPod { name, uid } => evict(shell, observed, action, (name, uid)).await,
        Action::EditPodTemplate { .. } | Action::EditPod { .. } | Action::EndPodEdits { .. } => {
            edit_pods(shell, observed, action).await
        }
        Action::Answer { .. } | Action::OwnAction { .. } | Action::DeleteAction { .. } => {
            answer(shell, observed, action).await
        }
    }
}

async fn create_replica_set(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, body): (&str, &Value),
) -> Result<(), Error> {
    let created = create(shell, observed, action, "replicasets", body).await;
    let created = told_if_taken(shell, observed, created, name).await?;
    shell.caches.replica_sets.put(&created);
    Ok(())
}

/// Creates a baseline from the whole ReplicaSet of stable, of which the caches have a few fields.
async fn create_baseline(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, source, hash): (&str, &str, &str),
) -> Result<(), Error> {
    let api: Api<FullReplicaSet> = api(shell, observed);
    let source = shell.read(api.get(source)).await?;
    let is_stable = source.metadata.labels.as_ref().is_some_and(|labels| {
        labels.get(names::REVISION_HASH).is_some_and(|own| own == hash) && !labels.contains_key(names::BASELINE)
    });
    if !is_stable {
        return Err(Error::Old { action: action.to_string() });
    }
    let source = serde_json::to_value(&source).unwrap_or_default();
    create_replica_set(shell, observed, action, (name, &objects::baseline(observed, &source, action))).await
}

async fn edit_service(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, version, hash): (&str, &str, Option<&str>),
) -> Result<(), Error> {
    let api: Api<Service> = api(shell, observed);
    let body = objects::selector_patch(version, hash);
    let patch = Patch::Merge(&body);
    let written =
        send(shell, observed, ("services", "patch"), &action.to_string(), api.patch(name, &params(), &patch)).await;
    let written = reread_on_conflict(shell, &api, name, &shell.caches.services, written).await?;
    shell.caches.services.put(&written);
    Ok(())
}

/// Scales a Deployment to 0. The answer is a Scale: the Deployment is known as it was, without its pods.
async fn scale_workload(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, uid, replicas): (&str, &str, i32),
) -> Result<(), Error> {
    let api: Api<Deployment> = api(shell, observed);
    let patch = json_patch_of(objects::workload_patch(uid, replicas));
    let params = params();
    let scaled = api.patch_scale(name, &params, &patch);
    let rollout = shell.name_of(&observed.rollout);
    match send(shell, observed, ("deployments/scale", "patch"), &action.to_string(), scaled).await {
        Ok(scale) => {
            if let Some(known) = observed.workload.found() {
                let mut known = known.clone();
                known.spec.replicas = Some(0);
                known.metadata.resource_version = scale.metadata.resource_version;
                shell.workloads.put(&rollout, &known);
            }
            Ok(())
        }
        Err(error) => {
            if error.class() == Class::Conflict
                && let Ok(current) = shell.read(api.get(name)).await
            {
                shell.workloads.put(&rollout, &current);
            }
            Err(error)
        }
    }
}

/// Evicts a pod; a disruption budget that refuses is asked again later.
async fn evict(shell: &Shell, observed: &Observed, action: &Action, (name, uid): (&str, &str)) -> Result<(), Error> {
    let api: Api<Pod> = api(shell, observed);
    let delete_options = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    let params = EvictParams { delete_options: Some(delete_options), ..EvictParams::default() };
    match send(shell, observed, ("pods/eviction", "create"), &action.to_string(), api.evict(name, &params)).await {
        Err(error) if error.code() == Some(429) => {
            shell.refuse_eviction(&observed.rollout, &error);
            Ok(())
        }
        Err(error) if error.code() == Some(404) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Edits metadata of pods. Nothing else waits for it: what fails is tried again later, and the others meanwhile left alone.
async fn edit_pods(shell: &Shell, observed: &Observed, action: &Action) -> Result<(), Error> {
    if shell.edits_postponed(&shell.name_of(&observed.rollout)).is_some_and(|one| one.until > (shell.clock)()) {
        return Ok(());
    }
    let edited = if let Action::EditPodTemplate { name, version, edit } = action {
        let body = objects::pod_template_patch(version, edit);
        edit_replica_set(shell, observed, action, (name, &body)).await
    } else if let Action::EndPodEdits { name, version } = action {
        let body = objects::end_of_pod_edits(version);
        edit_replica_set(shell, observed, action, (name, &body)).await
    } else if let Action::EditPod { name, version, edit } = action {
        let api: Api<Pod> = api(shell, observed);
        let patch = Patch::Merge(objects::pod_patch(version, edit));
        let written =
            send(shell, observed, ("pods", "patch"), &action.to_string(), api.patch(name, &params(), &patch)).await;
        written.map(|written| shell.pods.put(&shell.name_of(&observed.rollout), &written))
    } else {
        Ok(())
    };
    match edited {
        Err(Error::NotLeading) => Err(Error::NotLeading),
        Err(error) => {
            shell.postpone_edits(&observed.rollout, &error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn edit_replica_set(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, body): (&str, &Value),
) -> Result<(), Error> {
    patch_replica_set(shell, observed, action, (name, &Patch::Merge(body))).await
}

async fn patch_replica_set<T: Serialize + Debug>(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, patch): (&str, &Patch<T>),
) -> Result<(), Error> {
    let api: Api<ReplicaSet> = api(shell, observed);
    let written =
        send(shell, observed, ("replicasets", "patch"), &action.to_string(), api.patch(name, &params(), patch)).await;
    let written = reread_on_conflict(shell, &api, name, &shell.caches.replica_sets, written).await?;
    shell.caches.replica_sets.put(&written);
    Ok(())
}

/// After a conflict the cache is old: reads the object, so that the next plan is made from it.
async fn reread_on_conflict<K>(
    shell: &Shell,
    api: &Api<K>,
    name: &str,
    cache: &super::cache::Cache<K>,
    written: Result<K, Error>,
) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + PartialEq,
{
    if let Err(error) = &written
        && error.class() == Class::Conflict
        && let Ok(current) = shell.read(api.get(name)).await
    {
        cache.put(&current);
    }
    written
}

/// A ReplicaSet's name that something else has is told, not tried for ever; our own is taken into the cache.
async fn told_if_taken(
    shell: &Shell,
    observed: &Observed,
    created: Result<ReplicaSet, Error>,
    name: &str,
) -> Result<ReplicaSet, Error> {
    let Err(error) = created else { return created };
    if error.class() != Class::Conflict {
        return Err(error);
    }
    let api: Api<ReplicaSet> = api(shell, observed);
    let existing = shell.read(api.get(name)).await?;
    let uid = observed.rollout.metadata.uid.as_ref();
    if existing.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid) {
        shell.caches.replica_sets.put(&existing);
        return Err(error);
    }
    let message = format!("ReplicaSet {name} exists and is not this Rollout's; delete or rename it");
    Err(Error::Told { message })
}

async fn set_replicas(shell: &Shell, observed: &Observed, action: &Action, replicas: i32) -> Result<(), Error> {
    let api: Api<Rollout> = api(shell, observed);
    let name = observed.rollout.metadata.name.clone().unwrap_or_default();
    let body = json!({"metadata": {"resourceVersion": observed.rollout.metadata.resource_version}, "spec": {"replicas": replicas}});
    let patch = Patch::Merge(&body);
    send(shell, observed, ("rollouts/scale", "patch"), &action.to_string(), api.patch_scale(&name, &params(), &patch))
        .await?;
    // The answer is a Scale: the Rollout that it belongs to is read once.
    shell.reread_rollout(&observed.rollout).await
}

async fn set_finalizer(shell: &Shell, observed: &Observed, action: &Action) -> Result<(), Error> {
    let api: Api<Rollout> = api(shell, observed);
    let metadata = &observed.rollout.metadata;
    let mut finalizers: Vec<String> = metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != names::FINALIZER);
    if *action == Action::AddFinalizer {
        finalizers.push(names::FINALIZER.to_owned());
    }
    let body = json!({"metadata": {"resourceVersion": shell.version_of(&observed.rollout), "finalizers": finalizers}});
    let patch = Patch::Merge(&body);
    let name = metadata.name.clone().unwrap_or_default();
    let written =
        send(shell, observed, ("rollouts", "patch"), &action.to_string(), api.patch(&name, &params(), &patch)).await?;
    shell.wrote(&written);
    Ok(())
}

/// Creates an object.
pub(super) async fn create<K, T>(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    resource: &'static str,
    body: &T,
) -> Result<K, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    T: Serialize,
{
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    let url = K::url_path(&(), Some(namespace));
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let request = kube::core::Request::new(url).create(&create_params(), bytes);
    let request = request.map_err(kube::Error::BuildRequest);
    let answer = async { shell.client.request::<K>(request?).await };
    match send(shell, observed, (resource, "create"), &action.to_string(), answer).await {
        Err(error) if error.code() == Some(404) => {
            let message = format!("{action}: the kind {resource} does not exist here: is Istio installed?");
            Err(Error::Told { message })
        }
        answered => answered,
    }
}

/// Writes an object that Serin owns: creates it, or applies it server-side onto the version of the snapshot.
async fn write_owned<K>(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (resource, name, exists): (&'static str, &str, bool),
    body: &Value,
) -> Result<K, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + PartialEq,
{
    if !exists {
        return create(shell, observed, action, resource, body).await;
    }
    let api: Api<K> = api(shell, observed);
    let apply = PatchParams::apply(names::FIELD_MANAGER).force();
    send(shell, observed, (resource, "patch"), &action.to_string(), api.patch(name, &apply, &Patch::Apply(body))).await
}

/// Edits the weights of a route that Git holds, and what stands in front of it.
async fn edit_route(shell: &Shell, observed: &Observed, action: &Action) -> Result<(), Error> {
    if let Action::EditVirtualService { name, version, edits, front } = action {
        let front = front.as_ref();
        let patch = |version: &str| objects::weight_patch(version, edits, front);
        let is_same = |current: &VirtualService| objects::has_same_routes(current, (edits, front), observed, name);
        let edit: Edit<'_, VirtualService> = ("virtualservices", &patch, &is_same, &shell.caches.virtual_services);
        edit_weights(shell, observed, action, (name, version), edit).await?;
    } else if let Action::EditHttpRoute { name, version, edits } = action {
        let patch = |version: &str| objects::rule_patch(version, edits);
        let is_same = |current: &HttpRoute| objects::has_same_rules(current, edits, observed, name);
        let edit: Edit<'_, HttpRoute> = ("httproutes", &patch, &is_same, &shell.caches.http_routes);
        edit_weights(shell, observed, action, (name, version), edit).await?;
    }
    Ok(())
}

/// The resource, the patch onto a version, whether it still means the same in a newer object, and where that is kept.
type Edit<'a, K> =
    (&'static str, &'a (dyn Fn(&str) -> Value + Sync), &'a (dyn Fn(&K) -> bool + Sync), &'a super::cache::Cache<K>);

/// Edits weights by JSON patch with tests; when somebody else wrote the object, reads it and tries again at once.
async fn edit_weights<K>(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, version): (&str, &str),
    (resource, patch_onto, is_same, cache): Edit<'_, K>,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + PartialEq,
{
    let api: Api<K> = api(shell, observed);
    let mut version = version.to_owned();
    let mut tries = 0;
    loop {
        tries += 1;
        let patch = json_patch_of(patch_onto(&version));
        match send(shell, observed, (resource, "patch"), &action.to_string(), api.patch(name, &params(), &patch)).await
        {
            Ok(written) => {
                cache.put(&written);
                return Ok(());
            }
            Err(error) if error.class() == Class::Conflict && tries < EDITS_MOST => {
                let current = shell.read(api.get(name)).await?;
                if !is_same(&current) {
                    cache.put(&current);
                    return Err(error);
                }
                version = current.meta().resource_version.clone().unwrap_or_default();
            }
            Err(error) => return Err(error),
        }
    }
}

async fn edit_destination_rule(
    shell: &Shell,
    observed: &Observed,
    action: &Action,
    (name, version, edits): (&str, &str, &[SubsetEdit]),
) -> Result<(), Error> {
    let api: Api<DestinationRule> = api(shell, observed);
    let patch = json_patch_of(objects::subset_patch(version, edits));
    let written =
        send(shell, observed, ("destinationrules", "patch"), &action.to_string(), api.patch(name, &params(), &patch))
            .await;
    let written = reread_on_conflict(shell, &api, name, &shell.caches.destination_rules, written).await?;
    shell.caches.destination_rules.put(&written);
    Ok(())
}

fn json_patch_of(operations: Value) -> Patch<()> {
    Patch::Json(serde_json::from_value(operations).unwrap_or_default())
}

async fn answer(shell: &Shell, observed: &Observed, action: &Action) -> Result<(), Error> {
    let api: Api<RolloutAction> = api(shell, observed);
    if let Action::Answer { name, accepted, message, at, .. } = action {
        let body = json!({"status": {"accepted": accepted, "message": message, "at": at}});
        let patch = Patch::Merge(&body);
        let written = send(
            shell,
            observed,
            ("rolloutactions/status", "patch"),
            &action.to_string(),
            api.patch_status(name, &params(), &patch),
        )
        .await;
        if written.as_ref().is_err_and(|error| error.code() == Some(404)) {
            return Ok(());
        }
        shell.caches.actions.put(&written?);
    } else if let Action::OwnAction { name, version } = action {
        let owner = objects::owner(&observed.rollout, false);
        let body = json!({"metadata": {"resourceVersion": version, "ownerReferences": [owner]}});
        let patch = Patch::Merge(&body);
        let written =
            send(shell, observed, ("rolloutactions", "patch"), &action.to_string(), api.patch(name, &params(), &patch))
                .await?;
        shell.caches.actions.put(&written);
    } else if let Action::DeleteAction { name, uid } = action {
        let preconditions = Preconditions { resource_version: None, uid: Some(uid.clone()) };
        let delete = DeleteParams::background().preconditions(preconditions);
        send(shell, observed, ("rolloutactions", "delete"), &action.to_string(), api.delete(name, &delete)).await?;
    }
    Ok(())
}
