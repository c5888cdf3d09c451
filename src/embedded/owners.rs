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
        let mut fields = Paths::new();
        decode(entry.get("fieldsV1")?, &mut Vec::new(), &mut fields);
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

/// Every field without fields below it.
fn leaves(object: &Value) -> Paths<'_> {
    let mut found = Paths::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (inner, value) in value.as_object().into_iter().flatten() {
                    if !IDENTITY.contains(&inner.as_str()) {
                        collect(value, &mut vec![key, inner], &mut found);
                    }
                }
            }
            _ => collect(value, &mut vec![key], &mut found),
        }
    }
    found
}

fn collect<'a>(value: &'a Value, path: &mut Path<'a>, found: &mut Paths<'a>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        None => {
            found.insert(path.clone());
        }
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

fn decode<'a>(fields: &'a Value, path: &mut Path<'a>, found: &mut Paths<'a>) {
    let mut inner = fields
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.strip_prefix("f:")?, value)))
        .peekable();
    if inner.peek().is_none() && !path.is_empty() {
        found.insert(path.clone());
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
