//! The slim objects that caches hold: what a pass reads, and nothing else.
//! Specs of Serin's own kinds are kept as text, so that one object that does not parse cannot stop a watch.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use serde::{Deserialize, Deserializer, Serialize};

use super::action::RolloutActionStatus;
use super::gateway::{HttpRouteSpec, HttpRouteStatus};
use super::istio::{DestinationRuleSpec, VirtualServiceSpec};
use super::json::Json;
use super::names;
use super::notification::NotificationChannelStatus;
use super::status::RolloutStatus;

/// Declares a watched object: its fields besides the metadata, and where the API server has it.
macro_rules! watched {
    ($(#[$doc:meta])* $name:ident, $group:expr, $version:expr, $kind:expr, $plural:expr, $scope:ident, $slim:literal,
     { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            /// Name, version and owners.
            #[serde(deserialize_with = $slim)]
            pub metadata: ObjectMeta,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Resource for $name {
            type DynamicType = ();
            type Scope = k8s_openapi::$scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

pub(super) use watched;

watched!(
    /// A Rollout; its spec is parsed by `plan::strategy`.
    Rollout, names::GROUP, names::VERSION, "Rollout", "rollouts", NamespaceResourceScope, "users",
    {
        /// What the user wrote.
        spec: Json,
        /// What Serin wrote last.
        status: RolloutStatus,
    }
);

impl Rollout {
    /// Name of the Deployment that brings its pod template; none where it has its own.
    pub fn workload(&self) -> Option<String> {
        self.spec.value().pointer("/workloadRef/name")?.as_str().map(str::to_owned)
    }

    /// Whether the controller has not seen the last change of the spec yet, so that the status speaks of the one before.
    pub fn is_behind(&self) -> bool {
        self.metadata.generation.is_some_and(|generation| generation > self.status.observed_generation)
    }
}

watched!(
    /// An AnalysisTemplate.
    AnalysisTemplate, names::GROUP, names::VERSION, "AnalysisTemplate", "analysistemplates", NamespaceResourceScope, "users",
    {
        /// What the user wrote.
        spec: Json,
    }
);

watched!(
    /// A ClusterAnalysisTemplate.
    ClusterAnalysisTemplate, names::GROUP, names::VERSION, "ClusterAnalysisTemplate", "clusteranalysistemplates", ClusterResourceScope, "users",
    {
        /// What the administrator wrote.
        spec: Json,
    }
);

watched!(
    /// A MetricProvider.
    MetricProvider, names::GROUP, names::VERSION, "MetricProvider", "metricproviders", ClusterResourceScope, "users",
    {
        /// What the administrator wrote.
        spec: Json,
    }
);

watched!(
    /// A RolloutAction.
    RolloutAction, names::GROUP, names::VERSION, "RolloutAction", "rolloutactions", NamespaceResourceScope, "users",
    {
        /// What a person asked.
        spec: Json,
        /// The answer.
        status: Option<RolloutActionStatus>,
    }
);

watched!(
    /// A NotificationChannel.
    NotificationChannel, names::GROUP, names::VERSION, "NotificationChannel", "notificationchannels", NamespaceResourceScope, "users",
    {
        /// What a team wrote.
        spec: Json,
        /// What Serin wrote last.
        status: NotificationChannelStatus,
    }
);

watched!(
    /// A ReplicaSet that carries the revision-hash label.
    ReplicaSet, "apps", "v1", "ReplicaSet", "replicasets", NamespaceResourceScope, "children",
    {
        /// Pods wanted, and the images.
        spec: ReplicaSetSpec,
        /// Pods there are.
        status: ReplicaSetStatus,
    }
);

watched!(
    /// A Deployment that a Rollout names in `workloadRef`.
    Deployment, "apps", "v1", "Deployment", "deployments", NamespaceResourceScope, "workloads",
    {
        /// Pods wanted, their labels and their template.
        spec: DeploymentSpec,
        /// Pods there are.
        status: DeploymentStatus,
    }
);

watched!(
    /// An Istio VirtualService.
    VirtualService, "networking.istio.io", "v1", "VirtualService", "virtualservices", NamespaceResourceScope, "routes",
    {
        /// Hosts and HTTP routes.
        spec: VirtualServiceSpec,
    }
);

impl VirtualService {
    /// The VirtualServices that it delegates to: namespace and name. Only a root can, which has hosts.
    pub fn delegates(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let routes = self.spec.http.iter().filter(|_| !self.spec.hosts.is_empty());
        routes
            .filter_map(|route| route.delegate.as_ref())
            .map(move |delegate| (delegate.namespace.as_deref().unwrap_or(own), delegate.name.as_str()))
    }
}

watched!(
    /// An Istio DestinationRule.
    DestinationRule, "networking.istio.io", "v1", "DestinationRule", "destinationrules", NamespaceResourceScope, "subsets",
    {
        /// Host and subsets.
        spec: DestinationRuleSpec,
    }
);

watched!(
    /// An HTTPRoute of the Gateway API.
    HttpRoute, "gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", NamespaceResourceScope, "routes",
    {
        /// Hosts and rules.
        spec: HttpRouteSpec,
        /// What the controllers of its parents say.
        #[serde(skip_serializing_if = "HttpRouteStatus::is_empty")]
        status: HttpRouteStatus,
    }
);

watched!(
    /// A Service.
    Service, "", "v1", "Service", "services", NamespaceResourceScope, "selectors",
    {
        /// Its selector and ports.
        spec: ServiceSpec,
    }
);

watched!(
    /// A pod, almost by its metadata alone; watched only while pods are restarted or edited.
    Pod, "", "v1", "Pod", "pods", NamespaceResourceScope, "children",
    {
        /// How far it is.
        #[serde(skip_serializing_if = "PodStatus::is_empty")]
        status: PodStatus,
    }
);

/// The part of a pod's status that a pass reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: Option<String>,
}

impl PodStatus {
    fn is_empty(&self) -> bool {
        self.phase.is_none()
    }
}

impl Pod {
    /// Whether its ReplicaSet counts it: it is not deleted, and has not come to its end, as one that a node evicted has.
    pub fn is_active(&self) -> bool {
        let has_ended = ["Succeeded", "Failed"].iter().any(|phase| self.status.phase.as_deref() == Some(*phase));
        self.metadata.deletion_timestamp.is_none() && !has_ended
    }
}

/// The parts of a ReplicaSet's spec that a pass reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetSpec {
    /// Pods wanted.
    pub replicas: Option<i32>,
    /// Seconds until a ready pod is available.
    pub min_ready_seconds: Option<i32>,
    /// The images.
    pub template: ImagesTemplate,
}

/// The parts of a Deployment's spec that a pass reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentSpec {
    /// Pods wanted.
    pub replicas: Option<i32>,
    /// Labels of its pods.
    pub selector: DeploymentSelector,
    /// The pod template, with what the API server has filled in.
    pub template: Json,
}

/// A Deployment's selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSelector {
    /// Each key with the value it must have.
    pub match_labels: BTreeMap<String, String>,
    /// Conditions of other kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Json>,
}

/// The parts of a Deployment's status that a pass reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentStatus {
    /// Pods there are.
    pub replicas: i32,
}

/// A pod template's images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagesTemplate {
    /// The pod spec.
    pub spec: ImagesPod,
}

/// A pod spec's images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagesPod {
    /// Its containers.
    pub containers: Vec<ImageContainer>,
}

/// A container's image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageContainer {
    /// The image.
    pub image: String,
}

/// The parts of a ReplicaSet's status that a pass reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetStatus {
    /// Pods there are.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Pods that have been ready for `minReadySeconds`.
    pub available_replicas: i32,
    /// The generation that these numbers speak of.
    pub observed_generation: Option<i64>,
}

/// The parts of a Service's spec that a pass reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// Labels of the pods behind it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its number.
    pub port: i32,
    /// The pod's port, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// The protocol that Istio takes it for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// `UDP` or `SCTP`; absent: TCP.
    #[serde(deserialize_with = "other_than_tcp", skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

fn other_than_tcp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|protocol| protocol != "TCP"))
}

/// The metadata that a pass reads. `managedFields`, the largest part of most objects, are skipped and never built.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Slim {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
}

impl From<Slim> for ObjectMeta {
    fn from(slim: Slim) -> Self {
        Self {
            name: slim.name,
            namespace: slim.namespace,
            uid: slim.uid,
            resource_version: slim.resource_version,
            generation: slim.generation,
            creation_timestamp: slim.creation_timestamp,
            deletion_timestamp: slim.deletion_timestamp,
            labels: slim.labels,
            annotations: slim.annotations,
            owner_references: slim.owner_references,
            finalizers: slim.finalizers,
            ..Self::default()
        }
    }
}

/// Reads the metadata of an object that people write: all but `managedFields` and what `kubectl apply` remembers.
fn users<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let mut metadata = Slim::deserialize(deserializer)?;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    Ok(metadata.into())
}

/// Reads the metadata of a child: of its labels and annotations Serin's own.
pub(super) fn children<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let mut metadata = Slim::deserialize(deserializer)?;
    for map in [&mut metadata.labels, &mut metadata.annotations].into_iter().flatten() {
        map.retain(|key, _| key.starts_with(names::GROUP));
    }
    Ok(metadata.into())
}

/// Reads the metadata of a VirtualService or an HTTPRoute.
fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Ok(with_writers(ObjectMeta::deserialize(deserializer)?, &["f:http", "f:tls", "f:tcp", "f:rules"]))
}

/// Reads the metadata of a DestinationRule.
fn subsets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Ok(with_writers(ObjectMeta::deserialize(deserializer)?, &["f:subsets"]))
}

/// Reads the metadata of a Service.
fn selectors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Ok(with_writers(ObjectMeta::deserialize(deserializer)?, &["f:selector"]))
}

/// The metadata of an object that Serin edits: neither labels nor annotations, and of `managedFields` the last foreign writer
/// of the spec, and Serin's own entry while one of these fields is as Serin wrote it last. Each of them is owned as a whole.
fn with_writers(metadata: ObjectMeta, edited: &[&str]) -> ObjectMeta {
    let (own, foreign): (Vec<_>, Vec<_>) = metadata.managed_fields.into_iter().flatten().partition(is_own);
    let spec = |entry: &ManagedFieldsEntry| entry.fields_v1.as_ref().map(|fields| fields.0.get("f:spec").cloned());
    let last = foreign
        .into_iter()
        .filter(|entry| spec(entry).is_none_or(|spec| spec.is_some()))
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    let own = own.into_iter().find(|entry| {
        let owns = |field: &&str| spec(entry).flatten().is_some_and(|spec| spec.get(*field).is_some());
        edited.iter().any(owns)
    });
    let kept: Vec<ManagedFieldsEntry> = last
        .into_iter()
        .chain(own)
        .map(|entry| ManagedFieldsEntry { manager: entry.manager, time: entry.time, ..ManagedFieldsEntry::default() })
        .collect();
    let managed_fields = (!kept.is_empty()).then_some(kept);
    ObjectMeta { labels: None, annotations: None, managed_fields, ..metadata }
}

/// Reads the metadata of a Deployment: of its annotations Serin's own, and of `managedFields` who holds `spec.replicas`.
fn workloads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let mut metadata = ObjectMeta::deserialize(deserializer)?;
    let manager = replicas_manager(&metadata);
    let entry = manager.map(|name| ManagedFieldsEntry { manager: Some(name), ..ManagedFieldsEntry::default() });
    metadata.managed_fields = entry.map(|entry| vec![entry]);
    metadata.labels = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key.starts_with(names::GROUP));
    }
    Ok(metadata)
}

/// Annotation: what `kubectl apply` and tools like it applied last, so that they see what was left out.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manager that holds a Deployment's `spec.replicas` for Git; none where Git leaves them out. Server-side apply says so
/// field by field, `kubectl apply` in an annotation. Whoever writes whole objects holds the replicas, too: the API server
/// counts what it filled in as theirs, so that nobody can tell.
fn replicas_manager(metadata: &ObjectMeta) -> Option<String> {
    let holds = |entry: &&ManagedFieldsEntry, field: &str| {
        let spec = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
        entry.subresource.is_none() && spec.is_some_and(|spec| spec.get(field).is_some())
    };
    let is_apply = |entry: &&ManagedFieldsEntry| entry.operation.as_deref() == Some("Apply");
    let entries = || metadata.managed_fields.iter().flatten().filter(|entry| !is_own(entry));
    let named = |entry: &ManagedFieldsEntry| entry.manager.clone().unwrap_or_else(|| "an unnamed manager".to_owned());
    // An entry without fields is what is left of an object that was read here.
    let is_told = |entry: &&ManagedFieldsEntry| entry.fields_v1.is_none();
    if let Some(entry) = entries().find(|entry| is_told(entry) || (is_apply(entry) && holds(entry, "f:replicas"))) {
        return Some(named(entry));
    }
    let writer = entries().find(|entry| !is_apply(entry) && holds(entry, "f:template"));
    if let Some(applied) = metadata.annotations.as_ref().and_then(|annotations| annotations.get(LAST_APPLIED)) {
        let applied: Option<serde_json::Value> = serde_json::from_str(applied).ok();
        let is_held = applied.is_none_or(|applied| applied.pointer("/spec/replicas").is_some());
        return is_held.then(|| writer.map_or_else(|| "kubectl apply".to_owned(), named));
    }
    let is_applied = entries().any(|entry| is_apply(&entry) && holds(&entry, "f:template"));
    writer.filter(|_| !is_applied).map(named)
}

/// The last foreign writer of an object's spec: its name and when.
pub fn writer(metadata: &ObjectMeta) -> Option<(String, Option<Timestamp>)> {
    let entry = metadata.managed_fields.iter().flatten().find(|entry| !is_own(entry))?;
    Some((entry.manager.clone()?, entry.time.as_ref().map(|time| time.0)))
}

impl Deployment {
    /// The manager that holds its `spec.replicas` for Git; none where Git leaves them out.
    pub fn replicas_holder(&self) -> Option<&str> {
        self.metadata.managed_fields.iter().flatten().find_map(|entry| entry.manager.as_deref())
    }

    /// Pods that it wants.
    pub fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Pods that there are or are wanted.
    pub fn pods(&self) -> i32 {
        self.wanted().max(self.status.replicas)
    }
}

/// Whether what Serin edits of an object is as Serin wrote it last: nobody has changed it since.
pub fn wrote_last(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(is_own)
}

fn is_own(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(names::FIELD_MANAGER)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check_holder(annotations: &Value, entries: &Value, wanted: Option<&str>) {
        let object = json!({"metadata": {"name": "checkout", "annotations": annotations, "managedFields": entries}});
        let read: Deployment = serde_json::from_value(object).unwrap();
        assert_eq!(read.replicas_holder(), wanted, "{annotations} {entries}");
        let again: Deployment = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(again, read, "what was read is read the same");
    }

    #[test]
    fn who_holds_a_deployments_replicas() {
        let both = json!({"f:spec": {"f:replicas": {}, "f:template": {}}});
        let template = json!({"f:spec": {"f:template": {}}});
        let entry = |manager: &str, operation: &str, fields: &Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let scaled = json!({"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let applied = |spec: &Value| json!({LAST_APPLIED: json!({"spec": spec}).to_string()});
        let none = json!({});
        // Server-side apply owns what it names.
        check_holder(&none, &json!([entry("kustomize-controller", "Apply", &both)]), Some("kustomize-controller"));
        check_holder(&none, &json!([entry("kustomize-controller", "Apply", &template), scaled]), None);
        // `kubectl apply` says in an annotation what it left out, and owns what the API server filled in.
        let kubectl = entry("kubectl-client-side-apply", "Update", &both);
        check_holder(&applied(&json!({"replicas": 3})), &json!([kubectl]), Some("kubectl-client-side-apply"));
        check_holder(&applied(&json!({"template": {}})), &json!([kubectl]), None);
        check_holder(&json!({LAST_APPLIED: "no JSON"}), &json!([kubectl]), Some("kubectl-client-side-apply"));
        // Whoever writes whole objects may hold them.
        check_holder(&none, &json!([entry("helm", "Update", &both), scaled]), Some("helm"));
        check_holder(&none, &json!([{"manager": "serin", "operation": "Update", "fieldsV1": both}]), None);
        check_holder(&none, &json!([]), None);
    }

    fn read(entries: &Value) -> ObjectMeta {
        let object = json!({"metadata": {"name": "checkout", "managedFields": entries}});
        serde_json::from_value::<VirtualService>(object).unwrap_or_default().metadata
    }

    #[test]
    fn who_wrote_the_routes_last() {
        let own = json!({"manager": "serin", "time": "2026-01-01T00:00:01Z", "fieldsV1": {"f:spec": {"f:http": {}}}});
        let git = json!({"manager": "argocd-controller", "time": "2026-01-01T00:00:01Z", "fieldsV1": {"f:spec": {"f:hosts": {}}}});
        let labels = json!({"manager": "kubectl-label", "fieldsV1": {"f:metadata": {}}});
        let both = read(&json!([own, git, labels]));
        assert!(wrote_last(&both), "{both:?}");
        assert_eq!(writer(&both).map(|(name, _)| name).as_deref(), Some("argocd-controller"));
        let reverted = read(&json!([{"manager": "serin", "fieldsV1": {"f:spec": {"f:hosts": {}}}}, git]));
        assert!(!wrote_last(&reverted), "{reverted:?}");
    }
}
