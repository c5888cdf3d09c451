//! What istiod does with HTTPRoutes: it makes VirtualServices of them, and says in their status whether it can.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::sync::Arc;

use serde_json::{Value, json};

use crate::embedded::Cluster;
use crate::embedded::store::{Object, key_of};

/// The VirtualServices, and those that istiod makes of HTTPRoutes.
pub fn virtual_services(cluster: &Cluster) -> Vec<Object> {
    let made = cluster.list("httproutes").into_iter().map(|route| Arc::new(made_of(&route)));
    cluster.list("virtualservices").into_iter().chain(made).collect()
}

/// Weights of a rule are shares of their sum; absent ones are 1.
fn made_of(http_route: &Value) -> Value {
    let rules = http_route["spec"]["rules"].as_array().into_iter().flatten();
    let http = rules.map(|rule| {
        let backends = || rule["backendRefs"].as_array().into_iter().flatten();
        let share = |backend: &Value| backend["weight"].as_f64().unwrap_or(1.0);
        let all: f64 = backends().map(share).sum();
        let to = |backend: &Value| {
            let weight = if all > 0.0 { share(backend) * 100.0 / all } else { 0.0 };
            json!({"destination": {"host": backend["name"]}, "weight": weight})
        };
        json!({"name": rule["name"], "route": backends().map(to).collect::<Vec<_>>()})
    });
    let http: Vec<Value> = http.collect();
    json!({"metadata": {"name": format!("{}-made", key_of(http_route).1)}, "spec": {"hosts": ["*"], "http": http}})
}

/// Writes what istiod says of each HTTPRoute, where that changes.
pub fn answer(cluster: &Cluster) {
    for route in cluster.list("httproutes") {
        let (namespace, _) = key_of(&route);
        let backends = route["spec"]["rules"].as_array().into_iter().flatten();
        let backends = backends.filter_map(|rule| rule["backendRefs"].as_array()).flatten();
        let names = backends.filter_map(|backend| backend["name"].as_str());
        let missing = names.into_iter().find(|name| cluster.get("services", &namespace, name).is_none());
        let condition = |kind: &str, why: Option<String>| {
            let generation = &route["metadata"]["generation"];
            let (status, reason) = if why.is_some() { ("False", "BackendNotFound") } else { ("True", kind) };
            json!({"type": kind, "status": status, "reason": reason, "message": why.unwrap_or_default(), "observedGeneration": generation})
        };
        let resolved = condition("ResolvedRefs", missing.map(|name| format!("backend({name}) not found")));
        let status = json!({"parents": [{
            "parentRef": {"kind": "Service", "name": "checkout"}, "controllerName": "istio.io/gateway-controller",
            "conditions": [condition("Accepted", None), resolved],
        }]});
        if route["status"] != status {
            let mut next = Value::clone(&route);
            next["status"] = status;
            let _ = cluster.write_status("httproutes", next);
        }
    }
}
