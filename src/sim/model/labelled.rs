//! Which revision gets which weight by the objects alone.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::names;
use crate::embedded::Cluster;
use crate::embedded::store::Object;
use crate::sim::gateway::virtual_services;
use crate::sim::mesh::is_followed;

/// What tells which revision a destination means: the labels of subsets, and the selectors of Services.
pub(super) struct Labelled {
    rules: Vec<Object>,
    services: Vec<Object>,
}

impl Labelled {
    /// Reads it.
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self { rules: cluster.list("destinationrules"), services: cluster.list("services") }
    }

    /// The revision that a destination means.
    pub(super) fn revision(&self, destination: &Value) -> Option<String> {
        let short = |host: &Value| host.as_str().unwrap_or_default().split('.').next().unwrap_or_default().to_owned();
        let host = short(&destination["host"]);
        let of_host = self.rules.iter().filter(|rule| short(&rule["spec"]["host"]) == host);
        let mut subsets = of_host.filter_map(|rule| rule["spec"]["subsets"].as_array()).flatten();
        let subset = subsets.find(|subset| !destination["subset"].is_null() && subset["name"] == destination["subset"]);
        let service = self.services.iter().find(|service| service["metadata"]["name"] == json!(host));
        let label = subset.map(|subset| &subset["labels"][names::REVISION_HASH]);
        let label = label.or_else(|| service.map(|service| &service["spec"]["selector"][names::REVISION_HASH]));
        label.and_then(Value::as_str).map(str::to_owned)
    }
}

/// The weight that the routes assign each revision by their labels, whether or not it has pods; header and mirror routes are
/// no weights.
pub(super) fn assigned(cluster: &Cluster, labelled: &Labelled, managed: &BTreeSet<String>) -> BTreeMap<String, f64> {
    let mut most: BTreeMap<String, f64> = BTreeMap::new();
    let virtual_services = virtual_services(cluster);
    for object in virtual_services.iter().filter(|one| is_followed(one, &virtual_services)) {
        for route in ["http", "tls", "tcp"].iter().filter_map(|key| object["spec"][key].as_array()).flatten() {
            if route["name"].as_str().is_some_and(|name| managed.contains(name)) {
                continue;
            }
            let mut own: BTreeMap<String, f64> = BTreeMap::new();
            for one in route["route"].as_array().into_iter().flatten() {
                if let Some(revision) = labelled.revision(&one["destination"]) {
                    *own.entry(revision).or_default() += one["weight"].as_f64().unwrap_or(100.0);
                }
            }
            for (revision, weight) in own {
                let known = most.entry(revision).or_default();
                *known = known.max(weight);
            }
        }
    }
    most
}
