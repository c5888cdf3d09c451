//! Objects, versions and watchers. Everything happens under one lock, in one order.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Changes kept for watches that begin late; older versions answer 410.
const KEPT: usize = 4096;
/// Changes that a slow watcher may lag behind before it is cut off.
const LAG: usize = 4096;

/// One kind of objects.
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
}

impl Kind {
    /// `group/version`, as objects spell it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

const fn kind(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    has_status: bool,
) -> Kind {
    Kind { group, version, plural, kind, has_status }
}

/// Every kind that there is.
pub const KINDS: &[Kind] = &[
    kind("", "v1", "pods", "Pod", true),
    kind("", "v1", "services", "Service", true),
    kind("", "v1", "secrets", "Secret", false),
    kind("apps", "v1", "replicasets", "ReplicaSet", true),
    kind("coordination.k8s.io", "v1", "leases", "Lease", false),
    kind("events.k8s.io", "v1", "events", "Event", false),
    kind("networking.istio.io", "v1", "virtualservices", "VirtualService", false),
    kind("networking.istio.io", "v1", "destinationrules", "DestinationRule", false),
    kind("serin.dev", "v1alpha1", "rollouts", "Rollout", true),
    kind("serin.dev", "v1alpha1", "analysistemplates", "AnalysisTemplate", false),
    kind("serin.dev", "v1alpha1", "clusteranalysistemplates", "ClusterAnalysisTemplate", false),
    kind("serin.dev", "v1alpha1", "metricproviders", "MetricProvider", false),
    kind("serin.dev", "v1alpha1", "rolloutactions", "RolloutAction", true),
];

/// The kind of a plural.
pub fn kind_of(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

/// The plural of a kind.
pub fn plural_of(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|own| own.kind == kind).map(|own| own.plural)
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Kubernetes' reason.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Refusal {
    /// Any refusal.
    pub fn new(code: u16, reason: &'static str, message: &str) -> Self {
        Self { code, reason, message: message.to_owned() }
    }

    /// 404.
    pub fn not_found(plural: &str, name: &str) -> Self {
        Self::new(404, "NotFound", &format!("{plural} \"{name}\" not found"))
    }

    /// 409, for an old version.
    pub fn conflict(plural: &str, name: &str) -> Self {
        let message = "the object has been modified; please apply your changes to the latest version and try again";
        Self::new(409, "Conflict", &format!("Operation cannot be fulfilled on {plural} \"{name}\": {message}"))
    }

    /// 422.
    pub fn invalid(message: &str) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 400.
    pub fn bad_request(message: &str) -> Self {
        Self::new(400, "BadRequest", message)
    }
}

/// Which part of an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status.
    Status,
}

/// Which objects a list or a watch is about.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The one namespace; none for all.
    pub namespace: Option<String>,
    /// Labels: a key with its value, or a key that must exist.
    pub labels: Vec<(String, Option<String>)>,
}

impl Selection {
    /// Whether an object is meant.
    pub fn selects(&self, object: &Value) -> bool {
        let (namespace, _) = key_of(object);
        let labels = object.pointer("/metadata/labels");
        let has = |(key, value): &(String, Option<String>)| {
            let found = labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
            value.as_ref().map_or(found.is_some(), |value| found == Some(value))
        };
        self.namespace.as_ref().is_none_or(|wanted| *wanted == namespace) && self.labels.iter().all(has)
    }
}

/// One change of one object.
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// Plural of the kind.
    pub plural: &'static str,
    /// The object after it; at its removal, as it was last.
    pub object: Value,
    /// The object before it.
    pub before: Option<Value>,
    /// Who made it: the field manager.
    pub writer: String,
    is_removal: bool,
}

impl Change {
    /// Whether the object is gone.
    pub fn is_removal(&self) -> bool {
        self.is_removal
    }
}

struct Watcher {
    plural: &'static str,
    selection: Selection,
    sender: mpsc::Sender<Line>,
}

/// A line of a watch, and when it arrives.
pub type Line = (Instant, Bytes);

type Objects = BTreeMap<(String, String), Value>;

/// All that the cluster is.
pub struct State {
    version: u64,
    uids: u64,
    objects: BTreeMap<&'static str, Objects>,
    changes: VecDeque<Arc<Change>>,
    /// The last version whose change is not kept any more.
    forgotten: u64,
    watchers: Vec<Watcher>,
    followers: Vec<mpsc::UnboundedSender<Arc<Change>>>,
    absent: BTreeSet<&'static str>,
    /// How long a change takes to reach the watches of a kind.
    pub lags: BTreeMap<&'static str, Duration>,
    /// Requests that were answered: `verb resource`.
    pub requests: Vec<String>,
}

/// Namespace and name of an object.
pub fn key_of(object: &Value) -> (String, String) {
    let text = |key: &str| object.pointer(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}

impl State {
    /// Nothing.
    pub fn new() -> Self {
        Self {
            version: 1,
            uids: 0,
            objects: BTreeMap::new(),
            changes: VecDeque::new(),
            forgotten: 0,
            watchers: Vec::new(),
            followers: Vec::new(),
            absent: BTreeSet::new(),
            lags: BTreeMap::new(),
            requests: Vec::new(),
        }
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All objects of a kind that are meant.
    pub fn list(&self, plural: &str, selection: Option<&Selection>) -> Vec<Value> {
        let all = self.objects.get(plural).into_iter().flat_map(BTreeMap::values);
        all.filter(|object| selection.is_none_or(|selection| selection.selects(object))).cloned().collect()
    }

    /// One object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.objects.get(plural)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Creates an object.
    pub fn create(&mut self, plural: &str, mut object: Value, manager: &str, now: &str) -> Result<Value, Refusal> {
        let kind = kind_of(plural).ok_or_else(|| Refusal::not_found(plural, ""))?;
        self.uids += 1;
        let uid = self.uids;
        if let Some(prefix) = object.pointer("/metadata/generateName").and_then(Value::as_str).map(str::to_owned)
            && object.pointer("/metadata/name").is_none()
        {
            object["metadata"]["name"] = json!(format!("{prefix}{uid:05}"));
        }
        let key = key_of(&object);
        if self.objects.get(kind.plural).is_some_and(|objects| objects.contains_key(&key)) {
            return Err(Refusal::new(409, "AlreadyExists", &format!("{plural} \"{}\" already exists", key.1)));
        }
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        object["metadata"]["uid"] = json!(format!("00000000-0000-0000-0000-{uid:012}"));
        object["metadata"]["creationTimestamp"] = json!(now);
        object["metadata"]["generation"] = json!(1);
        if kind.has_status
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
        sign(&mut object, manager, now);
        Ok(self.put(kind, object, manager))
    }

    /// Replaces one part of an object. An unchanged object is no change.
    pub fn update(
        &mut self,
        plural: &str,
        mut object: Value,
        part: Part,
        manager: &str,
        now: &str,
    ) -> Result<Value, Refusal> {
        let kind = kind_of(plural).ok_or_else(|| Refusal::not_found(plural, ""))?;
        let (namespace, name) = key_of(&object);
        let before = self.get(plural, &namespace, &name).ok_or_else(|| Refusal::not_found(plural, &name))?;
        let version = object.pointer("/metadata/resourceVersion");
        if version
            .is_some_and(|version| !version.is_null() && Some(version) != before.pointer("/metadata/resourceVersion"))
        {
            return Err(Refusal::conflict(plural, &name));
        }
        match part {
            Part::Status => {
                let status = object["status"].take();
                object = before.clone();
                object["status"] = status;
            }
            Part::Main => {
                if kind.has_status {
                    object["status"] = before["status"].clone();
                }
                for key in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "managedFields"] {
                    object["metadata"][key] = before["metadata"][key].clone();
                }
                let grows = without_metadata(&object) != without_metadata(&before);
                object["metadata"]["generation"] =
                    json!(before["metadata"]["generation"].as_i64().unwrap_or(0) + i64::from(grows));
                if grows {
                    sign(&mut object, manager, now);
                }
            }
        }
        object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        strip_nulls(&mut object);
        if object == before {
            return Ok(before);
        }
        let is_leaving = object.pointer("/metadata/deletionTimestamp").is_some();
        let is_held = object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|finalizers| !finalizers.is_empty());
        if is_leaving && !is_held {
            return Ok(self.remove(kind, object, manager));
        }
        Ok(self.put(kind, object, manager))
    }

    /// Deletes an object, or marks it while finalizers hold it.
    pub fn delete(
        &mut self,
        plural: &str,
        namespace: &str,
        name: &str,
        manager: &str,
        now: &str,
    ) -> Result<Value, Refusal> {
        let kind = kind_of(plural).ok_or_else(|| Refusal::not_found(plural, name))?;
        let mut object = self.get(plural, namespace, name).ok_or_else(|| Refusal::not_found(plural, name))?;
        let is_held = object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|finalizers| !finalizers.is_empty());
        if !is_held {
            return Ok(self.remove(kind, object, manager));
        }
        if object.pointer("/metadata/deletionTimestamp").is_none() {
            object["metadata"]["deletionTimestamp"] = json!(now);
            object = self.put(kind, object, manager);
        }
        Ok(object)
    }

    fn put(&mut self, kind: &'static Kind, mut object: Value, writer: &str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.objects.entry(kind.plural).or_default().insert(key_of(&object), object.clone());
        self.announce(Change {
            version: self.version,
            plural: kind.plural,
            object: object.clone(),
            before,
            writer: writer.to_owned(),
            is_removal: false,
        });
        object
    }

    fn remove(&mut self, kind: &'static Kind, mut object: Value, writer: &str) -> Value {
        self.version += 1;
        let before = self.objects.entry(kind.plural).or_default().remove(&key_of(&object));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.announce(Change {
            version: self.version,
            plural: kind.plural,
            object: object.clone(),
            before,
            writer: writer.to_owned(),
            is_removal: true,
        });
        object
    }

    fn announce(&mut self, change: Change) {
        let arrives = Instant::now() + self.lags.get(change.plural).copied().unwrap_or_default();
        self.watchers.retain(|watcher| {
            let line = event(&change, watcher.plural, &watcher.selection);
            line.is_none_or(|line| watcher.sender.try_send((arrives, line)).is_ok()) && !watcher.sender.is_closed()
        });
        let change = Arc::new(change);
        self.followers.retain(|follower| follower.send(change.clone()).is_ok());
        self.changes.push_back(change);
        if self.changes.len() > KEPT
            && let Some(oldest) = self.changes.pop_front()
        {
            self.forgotten = oldest.version;
        }
    }

    /// Every change from now on.
    pub fn follow(&mut self) -> mpsc::UnboundedReceiver<Arc<Change>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.followers.push(sender);
        receiver
    }

    /// Ends every watch, and forgets what was before.
    pub fn expire(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.changes.clear();
        self.watchers.clear();
    }

    /// Lets a kind not exist, or exist again.
    pub fn set_absent(&mut self, plural: &'static str, is_absent: bool) {
        if is_absent {
            self.absent.insert(plural);
        } else {
            self.absent.remove(plural);
        }
    }

    /// Whether a kind exists.
    pub fn has(&self, plural: &str) -> bool {
        !self.absent.contains(plural)
    }

    /// Ends every watch.
    pub fn drop_watches(&mut self) {
        self.watchers.clear();
    }

    /// Begins a watch: after a version, or with everything there is and a bookmark.
    pub fn watch(
        &mut self,
        plural: &'static str,
        selection: Selection,
        after: Option<u64>,
    ) -> Result<mpsc::Receiver<Line>, Refusal> {
        let (sender, receiver) = mpsc::channel(LAG);
        let mut lines = Vec::new();
        match after {
            Some(after) => {
                if after < self.forgotten {
                    return Err(Refusal::new(410, "Expired", "too old resource version"));
                }
                lines.extend(
                    self.changes
                        .iter()
                        .filter(|change| change.version > after)
                        .filter_map(|change| event(change, plural, &selection)),
                );
            }
            None => {
                lines.extend(self.list(plural, Some(&selection)).into_iter().map(|object| line("ADDED", &object)));
                let (api_version, kind) =
                    kind_of(plural).map_or_else(Default::default, |kind| (kind.api_version(), kind.kind));
                let end = json!({
                    "apiVersion": api_version,
                    "kind": kind,
                    "metadata": {"resourceVersion": self.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}},
                });
                lines.push(line("BOOKMARK", &end));
            }
        }
        let arrives = Instant::now() + self.lags.get(plural).copied().unwrap_or_default();
        if lines.into_iter().all(|line| sender.try_send((arrives, line)).is_ok()) {
            self.watchers.push(Watcher { plural, selection, sender });
        }
        Ok(receiver)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

/// A change as a watcher sees it: an object that a selector no longer selects is deleted for it.
fn event(change: &Change, plural: &str, selection: &Selection) -> Option<Bytes> {
    if change.plural != plural {
        return None;
    }
    let was = change.before.as_ref().is_some_and(|before| selection.selects(before));
    let is = !change.is_removal && selection.selects(&change.object);
    match (was, is) {
        (false, true) => Some(line("ADDED", &change.object)),
        (true, true) => Some(line("MODIFIED", &change.object)),
        (true, false) => Some(line("DELETED", &change.object)),
        (false, false) => None,
    }
}

fn without_metadata(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("metadata");
        object.remove("status");
    }
    strip_nulls(&mut object);
    object
}

/// Records who wrote the spec last.
fn sign(object: &mut Value, manager: &str, now: &str) {
    let Some(spec) = object.get("spec").and_then(Value::as_object) else {
        return;
    };
    let fields: serde_json::Map<String, Value> = spec.keys().map(|key| (format!("f:{key}"), json!({}))).collect();
    let entry = json!({"manager": manager, "operation": "Update", "time": now, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}});
    let mut entries: Vec<Value> =
        object.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
    entries.retain(|known| known["manager"] != manager);
    entries.push(entry);
    object["metadata"]["managedFields"] = json!(entries);
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
