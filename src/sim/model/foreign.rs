//! What is not Serin's in the routes that Git holds.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use serde_json::{Value, json};

use super::Model;
use crate::api::names;
use crate::embedded::log::Change;
use crate::embedded::store::key_of;

impl Model {
    /// S1: what is not Serin's stays as Git has it.
    pub(super) fn check_foreign(&mut self, change: &Change) {
        let name = key_of(&change.object).1;
        let Some(git) = self.git.get(&(change.plural.to_owned(), name.clone())) else {
            return;
        };
        let (git, mut own) = (without_own(&git["spec"]), without_own(&change.object["spec"]));
        if let Some(routes) = own.get_mut("http").and_then(Value::as_array_mut) {
            routes.retain(|route| route["name"].as_str().is_none_or(|name| !self.managed.contains(name)));
        }
        if git != own {
            self.breaks("S1", format!("{} {name}: fields of others were changed: {own} was {git}", change.plural));
        }
        let lists = [("http", "route"), ("tls", "route"), ("tcp", "route"), ("rules", "backendRefs")];
        let routes = lists.iter().filter_map(|(key, inner)| Some((change.object["spec"][key].as_array()?, inner)));
        for destinations in routes.flat_map(|(routes, inner)| routes.iter().map(move |route| &route[inner])) {
            let weights: Vec<i64> =
                destinations.as_array().into_iter().flatten().map(|one| one["weight"].as_i64().unwrap_or(0)).collect();
            if weights.len() > 1 && weights.iter().sum::<i64>() != 100 {
                self.breaks("S1", format!("{name}: weights {weights:?} do not sum to 100"));
            }
        }
    }
}

/// A route's spec without what is Serin's: weights, and the revision label of subsets and selectors.
fn without_own(spec: &Value) -> Value {
    match spec {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| *key != "weight" && *key != names::REVISION_HASH);
            let kept = kept.map(|(key, value)| (key.clone(), without_own(value)));
            Value::Object(kept.filter(|(key, value)| !(key == "labels" && *value == json!({}))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_own).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => spec.clone(),
    }
}
