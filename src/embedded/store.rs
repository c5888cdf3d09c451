//! Objects and versions: every write, in one order.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::kind::Kind;
use super::log::{Change, Log};
use super::names;
use super::owners::{self, Writer};
use super::refusal::Refusal;
use super::select::Selection;
use crate::schema;
use crate::schema::check::Problem;

/// Which part of an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status.
    Status,
}

/// What a deletion presumes.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// The object's uid.
    pub uid: Option<String>,
    /// The object's version.
    pub version: Option<String>,
}

/// An object, shared by all who read it.
pub type Object = Arc<Value>;

type Objects = BTreeMap<(String, String), Object>;

/// All that the cluster is.
#[derive(Default)]
pub struct State {
    uids: u64,
    objects: BTreeMap<&'static str, Objects>,
    absent: BTreeSet<&'static str>,
    /// The changes, and who watches them.
    pub log: Log,
    /// Whether a watch from an expired version is refused by HTTP 410, not by an event.
    pub refuses_expired: bool,
    /// Requests that were answered: `verb resource`.
    pub requests: Vec<String>,
}

/// Namespace and name of an object.
pub fn key_of(object: &Value) -> (String, String) {
    let text = |key: &str| text_at(object, key).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}

fn text_at<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

impl State {
    /// All objects of a kind that are meant.
    pub fn list(&self, plural: &str, selection: Option<&Selection>) -> Vec<Object> {
        let all = self.objects.get(plural).into_iter().flat_map(BTreeMap::values);
        all.filter(|object| selection.is_none_or(|selection| selection.selects(object))).cloned().collect()
    }

    /// All objects of a kind that are meant, as they were at a version.
    pub fn list_at(&self, plural: &str, selection: &Selection, version: u64) -> Vec<Object> {
        if version == self.log.version() {
            return self.list(plural, Some(selection));
        }
        let mut then = self.objects.get(plural).cloned().unwrap_or_default();
        for change in self.log.after(version).filter(|change| change.plural == plural).rev() {
            let key = key_of(&change.object);
            match change.before.clone() {
                Some(before) => then.insert(key, before),
                None => then.remove(&key),
            };
        }
        then.into_values().filter(|object| selection.selects(object)).collect()
    }

    /// One object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Object> {
        self.objects.get(plural)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// One object; that it is not there is refused.
    pub fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Object, Refusal> {
        self.get(kind.plural, namespace, name).ok_or_else(|| Refusal::not_found(kind, name))
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

    /// Creates an object.
    pub fn create(&mut self, kind: &'static Kind, mut object: Value, writer: Writer<'_>) -> Result<Object, Refusal> {
        self.identify(kind, &mut object)?;
        let key = key_of(&object);
        if let Some(existing) = self.objects.get(kind.plural).and_then(|objects| objects.get(&key)) {
            return Err(Refusal::exists(kind, &key.1, existing.pointer("/metadata/deletionTimestamp").is_some()));
        }
        self.uids += 1;
        object["metadata"]["uid"] = json!(format!("00000000-0000-0000-0000-{:012}", self.uids));
        object["metadata"]["creationTimestamp"] = json!(writer.now);
        if kind.has_generation {
            object["metadata"]["generation"] = json!(1);
        }
        tidy(kind, &mut object);
        if let Some(object) = object.as_object_mut().filter(|_| kind.has_status) {
            object.remove("status");
        }
        owners::update(None, &mut object, writer);
        fill_in(kind.plural, &mut object);
        presume_valid(kind, &object, None)?;
        Ok(self.put(kind, object, writer.manager))
    }

    /// Checks what a new object says of itself, and adds what it leaves out.
    fn identify(&self, kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
        let name = text_at(object, "/metadata/name").unwrap_or_default().to_owned();
        if text_at(object, "/metadata/resourceVersion").is_some_and(|version| !version.is_empty()) {
            return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        let says = text_at(object, "/kind").unwrap_or(kind.kind).to_owned();
        if says != kind.kind {
            let message = format!("Invalid value: \"{says}\": must be {}", kind.kind);
            let spelt = format!("{says}.{}", kind.group);
            let field = ("kind", message.as_str());
            return Err(Refusal::invalid_as((&says, &spelt), kind.group, &name, field, "FieldValueInvalid"));
        }
        if name.is_empty() {
            let Some(prefix) = text_at(object, "/metadata/generateName").map(str::to_owned) else {
                let field = ("metadata.name", "Required value: name or generateName is required");
                return Err(Refusal::invalid(kind, &name, field, "FieldValueRequired"));
            };
            object["metadata"]["name"] = json!(format!("{prefix}{:05}", self.uids + 1));
        }
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        names::check(kind, object)
    }

    /// Replaces one part of an object. An unchanged object is no change.
    pub fn update(
        &mut self,
        kind: &'static Kind,
        mut object: Value,
        part: Part,
        writer: Writer<'_>,
    ) -> Result<Object, Refusal> {
        let (namespace, name) = key_of(&object);
        let before = self.find(kind, &namespace, &name)?;
        presume_version(kind, &object, &before)?;
        let found = text_at(&before, "/metadata/uid").unwrap_or_default();
        if let Some(asked) = text_at(&object, "/metadata/uid").filter(|asked| *asked != found) {
            return Err(Refusal::other_uid(kind, (&namespace, &name), asked, found));
        }
        let mut object = match part {
            Part::Status => with_status(kind, object["status"].take(), &before),
            Part::Main => with_own(kind, object, &before),
        };
        presume_valid(kind, &object, Some(&before))?;
        if part == Part::Main {
            presume_finalizers(kind, &object, &before)?;
            grow(kind, &mut object, &before);
        }
        owners::update(Some(&before), &mut object, writer);
        Ok(self.store(kind, object, &before, writer.manager))
    }

    /// Applies an object server-side: creates it, or merges it by who owns what.
    pub fn apply(
        &mut self,
        kind: &'static Kind,
        mut applied: Value,
        is_forced: bool,
        writer: Writer<'_>,
    ) -> Result<Object, Refusal> {
        let (namespace, name) = key_of(&applied);
        if applied.pointer("/metadata/managedFields").is_some() {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let Some(before) = self.get(kind.plural, &namespace, &name) else {
            return self.create(kind, applied, writer);
        };
        presume_version(kind, &applied, &before)?;
        tidy(kind, &mut applied);
        if let Some(fields) = applied.as_object_mut().filter(|_| kind.has_status) {
            fields.remove("status");
        }
        let conflicts = owners::conflicts(&before, &applied, writer);
        if !conflicts.is_empty() && !is_forced {
            return Err(Refusal::apply_conflict(&conflicts));
        }
        let mut object = owners::apply(&before, &applied, writer);
        presume_finalizers(kind, &object, &before)?;
        fill_in(kind.plural, &mut object);
        presume_valid(kind, &object, Some(&before))?;
        grow(kind, &mut object, &before);
        Ok(self.store(kind, object, &before, writer.manager))
    }

    /// Keeps what is different; an object that is on its way out and that nothing holds any more goes.
    fn store(&mut self, kind: &'static Kind, mut object: Value, before: &Object, writer: &str) -> Object {
        object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        if object == **before {
            return before.clone();
        }
        if object.pointer("/metadata/deletionTimestamp").is_some() && finalizers(&object).is_empty() {
            self.remove(kind, object.clone(), writer);
            return Arc::new(object);
        }
        self.put(kind, object, writer)
    }

    /// Deletes an object, or marks it while finalizers hold it; whether it is gone.
    pub fn delete(
        &mut self,
        kind: &'static Kind,
        (namespace, name): (&str, &str),
        presumed: &Preconditions,
        writer: Writer<'_>,
    ) -> Result<(Object, bool), Refusal> {
        let object = self.find(kind, namespace, name)?;
        for (what, presumed, pointer, why) in [
            ("UID", &presumed.uid, "/metadata/uid", "The object might have been deleted and then recreated"),
            ("ResourceVersion", &presumed.version, "/metadata/resourceVersion", "The object might have been modified"),
        ] {
            let found = text_at(&object, pointer).unwrap_or_default();
            if let Some(asked) = presumed.as_deref().filter(|asked| *asked != found) {
                return Err(Refusal::precondition(kind, name, (what, asked, found), why));
            }
        }
        if finalizers(&object).is_empty() {
            return Ok((self.remove(kind, Value::clone(&object), writer.manager), true));
        }
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok((object, false));
        }
        let mut object = Value::clone(&object);
        object["metadata"]["deletionTimestamp"] = json!(writer.now);
        object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        if let Some(generation) = object["metadata"]["generation"].as_i64() {
            object["metadata"]["generation"] = json!(generation + 1);
        }
        Ok((self.put(kind, object, writer.manager), false))
    }

    fn put(&mut self, kind: &'static Kind, object: Value, writer: &str) -> Object {
        self.change(kind, object, writer, false)
    }

    fn remove(&mut self, kind: &'static Kind, object: Value, writer: &str) -> Object {
        self.change(kind, object, writer, true)
    }

    /// Makes a version, and tells everybody who follows.
    fn change(&mut self, kind: &'static Kind, mut object: Value, writer: &str, is_removal: bool) -> Object {
        object["metadata"]["resourceVersion"] = json!(self.log.advance().to_string());
        let objects = self.objects.entry(kind.plural).or_default();
        let key = key_of(&object);
        let object = Arc::new(object);
        let before = if is_removal { objects.remove(&key) } else { objects.insert(key, object.clone()) };
        self.log.announce(Change::new(kind, object.clone(), before, writer, is_removal));
        object
    }
}

fn finalizers(object: &Value) -> Vec<&str> {
    let all = object.pointer("/metadata/finalizers").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).collect()
}

/// An object that names a version is written onto that version only.
fn presume_version(kind: &Kind, object: &Value, before: &Value) -> Result<(), Refusal> {
    let version = text_at(object, "/metadata/resourceVersion").filter(|version| !version.is_empty());
    if version.is_some_and(|version| text_at(before, "/metadata/resourceVersion") != Some(version)) {
        return Err(Refusal::conflict(kind, &key_of(before).1));
    }
    Ok(())
}

/// What is on its way out gets no new finalizers.
fn presume_finalizers(kind: &Kind, object: &Value, before: &Value) -> Result<(), Refusal> {
    if before.pointer("/metadata/deletionTimestamp").is_none() {
        return Ok(());
    }
    let known = finalizers(before);
    let new: Vec<String> =
        finalizers(object).into_iter().filter(|one| !known.contains(one)).map(|one| format!("{one:?}")).collect();
    if new.is_empty() {
        return Ok(());
    }
    let message = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        new.join(", ")
    );
    let field = ("metadata.finalizers", message.as_str());
    Err(Refusal::invalid(kind, &key_of(before).1, field, "FieldValueForbidden"))
}

/// An object with another status.
fn with_status(kind: &Kind, status: Value, before: &Value) -> Value {
    let mut written = json!({"metadata": {}});
    written["status"] = status;
    tidy(kind, &mut written);
    fill_in(kind.plural, &mut written);
    let kept = fields(before).filter(|(key, _)| *key != "status").map(|(key, value)| (key.clone(), value.clone()));
    let status = written.as_object_mut().and_then(|written| written.remove_entry("status"));
    Value::Object(kept.chain(status).collect())
}

/// A replacement with what it cannot change.
fn with_own(kind: &Kind, mut object: Value, before: &Value) -> Value {
    if kind.has_status {
        object["status"] = Value::Null;
    }
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"] {
        object["metadata"][key] = before["metadata"][key].clone();
    }
    tidy(kind, &mut object);
    fill_in(kind.plural, &mut object);
    if let Some(status) = before.get("status").filter(|_| kind.has_status) {
        object["status"] = status.clone();
    }
    object
}

/// Counts a generation when the spec is another.
fn grow(kind: &Kind, object: &mut Value, before: &Value) {
    if !kind.has_generation {
        return;
    }
    let is_other = {
        let spec =
            |object| fields(object).filter(|(key, _)| *key != "metadata" && (*key != "status" || !kind.has_status));
        !spec(object).eq(spec(before))
    };
    let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = json!(generation + i64::from(is_other));
}

fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// Refuses what the definition of a kind does not allow.
fn presume_valid(kind: &Kind, object: &Value, before: Option<&Value>) -> Result<(), Refusal> {
    let mut problems = schema::check::problems(kind.plural, object, before);
    if kind.plural == "rollouts" {
        problems.extend(["spec", "status"].iter().filter_map(|part| scale_problem(part, &object[part]["replicas"])));
    }
    if problems.is_empty() { Ok(()) } else { Err(Refusal::all_invalid(kind, &key_of(object).1, &problems)) }
}

/// What the API server fills in: by the definitions of custom kinds, and of Deployments what others read.
fn fill_in(plural: &str, object: &mut Value) {
    schema::fill_in(plural, object);
    if plural == "deployments" && object["spec"]["replicas"].is_null() {
        object["spec"]["replicas"] = json!(1);
    }
}

/// Beside the schema, the scale subresource has a word on the fields that it stands for.
fn scale_problem(part: &str, replicas: &Value) -> Option<Problem> {
    let path = format!(".{part}.replicas");
    let says = match replicas {
        Value::String(text) => {
            format!("Invalid value: 0: {path} accessor error: {text} is of the type string, expected int64")
        }
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            format!("Invalid value: {number}: should be a non-negative integer")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(Problem::invalid(&path, says))
}

/// Leaves out what is null, what is empty in the metadata, and what the schema does not know.
fn tidy(kind: &Kind, object: &mut Value) {
    strip_nulls(object);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let is_empty = |value: &Value| {
            value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        metadata.retain(|_, value| !is_empty(value));
    }
    schema::prune(kind.plural, object);
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
