//! Who wrote which field: `metadata.managedFields`, as Kubernetes documents it under "Server-Side Apply". Lists are
//! owned as a whole.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// A field: its keys from the object's root.
type Path<'a> = Vec<&'a str>;
/// Fields.
type Paths<'a> = BTreeSet<Path<'a>>;

/// What nobody owns.
const IDENTITY: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "managedFields",
];

/// Who writes, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The time, to the second.
    pub now: &'a str,
    /// `Apply`, or `Update` for every other write.
    pub operation: &'static str,
    /// The subresource; empty for the object itself.
    pub subresource: &'static str,
}

/// One manager's fields.
#[derive(Debug, Clone, PartialEq)]
struct Entry<'a> {
    /// The entry but its fields and its time.
    who: Value,
    time: Value,
    fields: Paths<'a>,
}

/// Records who owns what after an update.
pub fn update(before: Option<&Value>, after: &mut Value, writer: Writer<'_>) {
    if let Some(before) = before
        && touch(before, after, writer)
    {
        return;
    }
    let held = leaves(after);
    let is_new = |path: &Path<'_>| before.is_none_or(|before| at(before, path) != at(after, path));
    let changed: Paths<'_> = held.iter().filter(|path| is_new(path)).cloned().collect();
    let mut entries = read(before.unwrap_or(&Value::Null));
    let who = who(after, writer);
    let mut is_touched = !changed.is_empty();
    for entry in &mut entries {
        let is_own = entry.who == who;
        let fields = entry.fields.len();
        entry.fields.retain(|path| held.contains(path) && (is_own || !changed.contains(path)));
        is_touched |= is_own && entry.fields.len() != fields;
    }
    add(&mut entries, who, writer.now, changed, is_touched);
    let written = written(&entries);
    set_entries(after, written);
}

/// Records an update of nothing but values of fields that are the writer's alone already: the time is all that changes.
/// Whether it was one.
fn touch(before: &Value, after: &mut Value, writer: Writer<'_>) -> bool {
    let Some(changed) = changed(before, after).filter(|changed| !changed.is_empty()) else { return false };
    let who = who(after, writer);
    let is_own = |entry: &Value| {
        let of_entry = |key: &String| key != "time" && key != "fieldsV1";
        let own = entry.as_object().into_iter().flatten().filter(|(key, _)| of_entry(key));
        own.eq(who.as_object().into_iter().flatten())
    };
    let owns = |entry: &Value, path: &Path<'_>| {
        path.iter().try_fold(entry.get("fieldsV1")?, |fields, key| fields.get(format!("f:{key}"))).map(drop)
    };
    let entries = before.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is_alone = entries.into_iter().flatten().all(|entry| {
        let is_own = is_own(entry);
        changed.iter().all(|path| owns(entry, path).is_some() == is_own)
    });
    let Some(at) = entries.and_then(|entries| entries.iter().position(is_own)).filter(|_| is_alone) else {
        return false;
    };
    let mut entries = entries.cloned().unwrap_or_default();
    if let Some(entry) = entries.get_mut(at) {
        entry["time"] = json!(writer.now);
    }
    set_entries(after, entries);
    true
}

/// Fields that others own and that an apply would change: each manager, and the field's path.
pub fn conflicts(current: &Value, applied: &Value, writer: Writer<'_>) -> Vec<(String, String)> {
    let who = who(current, writer);
    let disputed: Vec<Path<'_>> =
        leaves(applied).into_iter().filter(|path| at(current, path) != at(applied, path)).collect();
    let others = read(current).into_iter().filter(|entry| entry.who != who);
    let told = |entry: &Entry<'_>| -> Vec<(String, String)> {
        let manager = entry.who.get("manager").and_then(Value::as_str).unwrap_or_default();
        let fields = disputed.iter().filter(|path| entry.fields.contains(*path));
        fields.map(|path| (manager.to_owned(), format!(".{}", path.join(".")))).collect()
    };
    others.flat_map(|entry| told(&entry)).collect()
}

/// Carries an apply out: what is applied is merged in, what the manager applied before and now leaves out goes unless
/// somebody else owns it too. Conflicts are forced.
pub fn apply(current: &Value, applied: &Value, writer: Writer<'_>) -> Value {
    let mut after = current.clone();
    let who = who(current, writer);
    let wanted = leaves(applied);
    let mut entries = read(current);
    let of_others = |path: &Path<'_>, entries: &[Entry<'_>]| {
        entries.iter().any(|entry| entry.who != who && entry.fields.contains(path))
    };
    let own = entries.iter().find(|entry| entry.who == who).map(|entry| entry.fields.clone()).unwrap_or_default();
    for path in own.iter().filter(|path| !wanted.contains(*path)) {
        if !of_others(path, &entries) {
            remove(&mut after, path);
        }
    }
    for path in &wanted {
        set(&mut after, path, at(applied, path).cloned().unwrap_or_default());
    }
    let held = leaves(&after);
    for entry in &mut entries {
        let is_own = entry.who == who;
        entry.fields.retain(|path| {
            held.contains(path) && if is_own { wanted.contains(path) } else { at(current, path) == at(&after, path) }
        });
    }
    let is_touched = own != wanted || after != *current;
    add(&mut entries, who, writer.now, wanted, is_touched);
    let written = written(&entries);
    set_entries(&mut after, written);
    after
}

fn who(object: &Value, writer: Writer<'_>) -> Value {
    let mut who = json!({
        "manager": writer.manager, "operation": writer.operation, "fieldsType": "FieldsV1",
        "apiVersion": object.get("apiVersion").cloned().unwrap_or_default(),
    });
    if let Some(who) = who.as_object_mut().filter(|_| !writer.subresource.is_empty()) {
        who.insert("subresource".into(), json!(writer.subresource));
    }
    who
}

fn add<'a>(entries: &mut Vec<Entry<'a>>, who: Value, now: &str, fields: Paths<'a>, is_touched: bool) {
    match entries.iter_mut().find(|entry| entry.who == who) {
        Some(entry) => {
            entry.fields.extend(fields);
            if is_touched {
                entry.time = json!(now);
            }
        }
        None => entries.push(Entry { who, time: json!(now), fields }),
    }
    entries.retain(|entry| !entry.fields.is_empty());
}

fn read(object: &Value) -> Vec<Entry<'_>> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(Entry::of).collect()
}

impl<'a> Entry<'a> {
    fn of(entry: &'a Value) -> Option<Self> {
        let is_identity = |key: &str| key != "time" && key != "fieldsV1";
        let own = entry.as_object()?.iter().filter(|(key, _)| is_identity(key));
        let who = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut fields = Vec::new();
        decode(entry.get("fieldsV1")?, &mut Vec::new(), &mut fields);
        let fields = fields.into_iter().collect();
        Some(Self { who: Value::Object(who), time: entry.get("time").cloned().unwrap_or_default(), fields })
    }
}

fn written(entries: &[Entry<'_>]) -> Vec<Value> {
    let encoded = entries.iter().map(|entry| {
        let mut text = entry.who.clone();
        if let Some(fields) = text.as_object_mut() {
            fields.insert("time".into(), entry.time.clone());
            fields.insert("fieldsV1".into(), encode(&entry.fields));
        }
        text
    });
    encoded.collect()
}

fn set_entries(object: &mut Value, entries: Vec<Value>) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".into(), Value::Array(entries));
    }
}

/// The parts of an object that have owners.
fn parts(object: &Value) -> Vec<(Path<'_>, &Value)> {
    let mut parts = Vec::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let inner = value.as_object().into_iter().flatten();
                let owned = inner.filter(|(inner, _)| !IDENTITY.contains(&inner.as_str()));
                parts.extend(owned.map(|(inner, value)| (vec![key.as_str(), inner], value)));
            }
            _ => parts.push((vec![key], value)),
        }
    }
    parts
}

/// Every field without fields below it.
fn leaves(object: &Value) -> Paths<'_> {
    let mut found = Vec::new();
    for (mut path, value) in parts(object) {
        collect(value, &mut path, &mut found);
    }
    found.into_iter().collect()
}

/// The fields whose values differ, where both have the same fields.
fn changed<'a>(before: &Value, after: &'a Value) -> Option<Paths<'a>> {
    let (before, after) = (parts(before), parts(after));
    let mut changed = Paths::new();
    let has_same = before.len() == after.len()
        && before.iter().zip(after).all(|((name, before), (mut path, after))| {
            *name == path && compare(before, after, &mut path, &mut changed)
        });
    has_same.then_some(changed)
}

/// Adds the fields whose values differ; whether both have the same fields.
fn compare<'a>(before: &Value, after: &'a Value, path: &mut Path<'a>, changed: &mut Paths<'a>) -> bool {
    match (fields_of(before), fields_of(after)) {
        (None, None) => {
            if before != after {
                changed.insert(path.clone());
            }
            true
        }
        (Some(before), Some(after)) if before.len() == after.len() => after.iter().all(|(key, after)| {
            path.push(key);
            let has_same = before.get(key).is_some_and(|before| compare(before, after, path, changed));
            path.pop();
            has_same
        }),
        (Some(_), Some(_) | None) | (None, Some(_)) => false,
    }
}

/// The fields below a field; none below an empty map.
fn fields_of(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|fields| !fields.is_empty())
}

fn collect<'a>(value: &'a Value, path: &mut Path<'a>, found: &mut Vec<Path<'a>>) {
    match fields_of(value) {
        None => found.push(path.clone()),
        Some(fields) => {
            for (key, value) in fields {
                path.push(key);
                collect(value, path, found);
                path.pop();
            }
        }
    }
}

fn encode(fields: &Paths<'_>) -> Value {
    let mut encoded = json!({});
    for path in fields {
        let mut place = &mut encoded;
        for key in path {
            let Some(inner) = place.as_object_mut() else { break };
            place = inner.entry(format!("f:{key}")).or_insert_with(|| json!({}));
        }
    }
    encoded
}

fn decode<'a>(fields: &'a Value, path: &mut Path<'a>, found: &mut Vec<Path<'a>>) {
    let mut inner = fields
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.strip_prefix("f:")?, value)))
        .peekable();
    if inner.peek().is_none() && !path.is_empty() {
        found.push(path.clone());
    }
    for (key, value) in inner {
        path.push(key);
        decode(value, path, found);
        path.pop();
    }
}

fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |place, key| place.get(key))
}

fn set(object: &mut Value, path: &[&str], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *object = value;
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Some(fields) = object.as_object_mut() {
        set(fields.entry(*key).or_insert(Value::Null), rest, value);
    }
}

/// Removes a field, and the maps above it that become empty.
fn remove(object: &mut Value, path: &[&str]) {
    let (Some((key, rest)), Some(fields)) = (path.split_first(), object.as_object_mut()) else { return };
    if let Some(inner) = fields.get_mut(*key).filter(|_| !rest.is_empty()) {
        remove(inner, rest);
        if inner.as_object().is_some_and(Map::is_empty) {
            fields.remove(*key);
        }
    } else {
        fields.remove(*key);
    }
}
