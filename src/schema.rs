//! What the definitions of Serin's kinds say of an object: the fields that they know, what they fill in, what they refuse.
//!
//! kube-apiserver does the same with an object of these kinds (k8s.io/apiextensions-apiserver); here it is done offline.

pub mod check;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::api::crd;

/// Schemas of Serin's own kinds, by plural.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let of = |definition: Value| {
        let plural = definition.pointer("/spec/names/plural")?.as_str()?.to_owned();
        Some((plural, definition.pointer("/spec/versions/0/schema/openAPIV3Schema")?.clone()))
    };
    crd::definitions().into_iter().filter_map(of).collect()
});

/// One key on the way to a place in an object.
#[derive(Clone, Copy)]
enum Key<'a> {
    Field(&'a str),
    Item(usize),
}

/// A place as people write it: `spec.steps[0].setWeight`.
fn path(place: &[Key<'_>]) -> String {
    place.iter().fold(String::new(), |path, key| match key {
        Key::Field(key) if path.is_empty() => (*key).to_owned(),
        Key::Field(key) => format!("{path}.{key}"),
        Key::Item(index) => format!("{path}[{index}]"),
    })
}

/// The value at a place.
fn at<'a>(object: &'a Value, place: &[Key<'_>]) -> Option<&'a Value> {
    place.iter().try_fold(object, |value, key| match key {
        Key::Field(key) => value.get(key),
        Key::Item(index) => value.get(index),
    })
}

/// Prunes an object that is written. The paths of what it lost, as `spec.steps[0].weigth`.
pub fn prune(plural: &str, object: &mut Value) -> Vec<String> {
    let (Some(schema), Some(fields)) = (SCHEMAS.get(plural), object.as_object_mut()) else { return Vec::new() };
    let mut lost = Vec::new();
    fields.retain(|key, _| {
        let is_known = ["apiVersion", "kind", "metadata"].contains(&key.as_str()) || property(schema, key).is_some();
        if !is_known {
            lost.push(key.clone());
        }
        is_known
    });
    for (key, value) in fields {
        if let Some(schema) = property(schema, key).filter(|_| key != "metadata") {
            prune_by(schema, value, &mut vec![Key::Field(key)], &mut lost);
        }
    }
    lost
}

/// Fills in what an object that is read lacks.
pub fn fill_in(plural: &str, object: &mut Value) {
    if let Some(schema) = SCHEMAS.get(plural) {
        fill_in_by(schema, object);
    }
}

/// The fields that a definition knows of the object at a path such as `spec.strategy.canary.steps[0]`.
pub fn known(plural: &str, path: &str) -> Vec<String> {
    let schema = path.split('.').filter(|part| !part.is_empty()).try_fold(SCHEMAS.get(plural), |schema, part| {
        let (name, items) =
            part.split_once('[').map_or((part, 0), |(name, rest)| (name, 1 + rest.matches('[').count()));
        let inner = property(schema?, name).or_else(|| schema?.get("additionalProperties"));
        Some((0..items).fold(inner, |inner, _| inner?.get("items")))
    });
    let fields = schema.flatten().and_then(|schema| schema.get("properties")?.as_object());
    fields.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(key)
}

fn prune_by<'a>(schema: &Value, value: &'a mut Value, place: &mut Vec<Key<'a>>, lost: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            let Some(inner) = schema.get("items") else { return };
            for (index, item) in items.iter_mut().enumerate() {
                place.push(Key::Item(index));
                prune_by(inner, item, place, lost);
                place.pop();
            }
        }
        Value::Object(fields) => {
            let keeps = schema.get("x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool) == Some(true);
            let others = schema.get("additionalProperties");
            fields.retain(|key, _| {
                let is_known = keeps || others.is_some() || property(schema, key).is_some();
                if !is_known {
                    lost.push(format!("{}.{key}", path(place)));
                }
                is_known
            });
            for (key, value) in fields {
                if let Some(inner) = property(schema, key).or(others) {
                    place.push(Key::Field(key));
                    prune_by(inner, value, place, lost);
                    place.pop();
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill_in_by(schema: &Value, value: &mut Value) {
    match value {
        Value::Array(items) => {
            let inner = schema.get("items");
            items.iter_mut().for_each(|item| inner.into_iter().for_each(|inner| fill_in_by(inner, item)));
        }
        Value::Object(fields) => {
            for (key, inner) in schema.get("properties").and_then(Value::as_object).unwrap_or(&Map::new()) {
                if let Some(default) = inner.get("default").filter(|_| !fields.contains_key(key)) {
                    fields.insert(key.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(key) {
                    fill_in_by(inner, value);
                }
            }
            if let Some(others) = schema.get("additionalProperties").filter(|others| others.is_object()) {
                fields.values_mut().for_each(|value| fill_in_by(others, value));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
