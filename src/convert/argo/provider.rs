//! Where Argo's metrics say themselves how Prometheus is reached, Serin has a MetricProvider: one for each way.
#![expect(clippy::indexing_slicing, reason = "a JSON object takes any key")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::yaml::Node;
use crate::api::names::API_VERSION;

/// Seconds that Argo Rollouts waits for an answer when nothing is said.
const TIMEOUT: i64 = 30;
/// The longest that a MetricProvider waits.
const LONGEST: i64 = 60;

/// The MetricProviders that are needed, by name.
#[derive(Debug, Default)]
pub struct Providers {
    specs: BTreeMap<String, Value>,
    fresh: Vec<String>,
}

impl Providers {
    /// The name of the provider of this spec.
    pub fn name(&mut self, spec: &Value) -> String {
        let plain = name_of(spec["prometheus"]["address"].as_str().unwrap_or_default());
        let digest = Sha256::digest(spec.to_string().as_bytes());
        let mark: Vec<String> = digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
        let mark = mark.concat();
        let name = [plain.clone(), format!("{plain}-{mark}")]
            .into_iter()
            .find(|name| self.specs.get(name).is_none_or(|known| known == spec))
            .unwrap_or(plain);
        if self.specs.insert(name.clone(), spec.clone()).is_none() {
            self.fresh.push(name.clone());
        }
        name
    }

    /// The providers that no document holds yet.
    pub fn take_fresh(&mut self) -> Vec<Node> {
        let objects = std::mem::take(&mut self.fresh).into_iter().map(|name| {
            let spec = self.specs.get(&name).cloned().unwrap_or_default();
            Node::from(
                json!({"apiVersion": API_VERSION, "kind": "MetricProvider", "metadata": {"name": name}, "spec": spec}),
            )
        });
        objects.collect()
    }

    /// Each provider with the Secret that it needs.
    pub fn secrets(&self) -> Vec<(String, String)> {
        let secret = |(name, spec): (&String, &Value)| {
            let secret = spec.pointer("/authentication/bearerToken/name")?.as_str()?;
            Some((name.clone(), secret.to_owned()))
        };
        self.specs.iter().filter_map(secret).collect()
    }

    /// The names of all.
    pub fn names(&self) -> Vec<String> {
        self.specs.keys().cloned().collect()
    }
}

/// A name from an address: its host without what every Service has, its port where it is not the usual one, its path.
fn name_of(address: &str) -> String {
    let bare = address.split_once("://").map_or(address, |(_, bare)| bare);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    let port = if ["9090", "80", "443"].contains(&port) { "" } else { port };
    let text = format!("{host}-{port}-{path}").to_ascii_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: String = words.collect::<Vec<_>>().join("-").chars().take(50).collect();
    if name.is_empty() { "prometheus".to_owned() } else { name.trim_end_matches('-').to_owned() }
}

/// The spec of a provider, or why there is none; nothing where no address is given.
pub(super) fn spec(prometheus: &Node, arguments: &Arguments<'_>) -> Result<Option<Value>, String> {
    if let Some(authentication) = prometheus.at(&["authentication"]).filter(|node| !node.entries().is_empty()) {
        let ways: Vec<&str> = authentication.entries().iter().map(|entry| entry.key.text.as_str()).collect();
        return Err(format!(
            "authentication by {} is not supported; a MetricProvider has bearerToken or basic",
            ways.join(", ")
        ));
    }
    let token = token(prometheus, arguments)?;
    let Some(address) = prometheus.text_at(&["address"]).filter(|address| !address.is_empty()) else {
        return match token {
            None => Ok(None),
            Some(_) => {
                Err("headers without an address: give the address, so that a MetricProvider can hold both".to_owned())
            }
        };
    };
    let address = arguments.fill(address)?;
    if !(address.starts_with("http://") || address.starts_with("https://")) {
        return Err(format!("its address {address} is no URL"));
    }
    let mut spec = json!({"prometheus": {"address": address}});
    if prometheus.at(&["insecure"]).is_some_and(|node| node.value() == true) {
        spec["prometheus"]["insecureSkipVerify"] = json!(true);
    }
    if let Some((name, key)) = token {
        spec["authentication"] = json!({"bearerToken": {"name": name, "key": key}});
    }
    let timeout = prometheus.at(&["timeout"]).and_then(|node| node.value().as_i64()).filter(|seconds| *seconds > 0);
    spec["timeoutSeconds"] = json!(timeout.unwrap_or(TIMEOUT).min(LONGEST));
    Ok(Some(spec))
}

/// The arguments of a template: defaults, and keys of Secrets.
pub(super) struct Arguments<'a> {
    /// Values by name.
    pub(super) defaults: &'a BTreeMap<String, String>,
    /// The Secret's name and key, by name.
    pub(super) secrets: &'a BTreeMap<String, (String, String)>,
}

impl Arguments<'_> {
    /// Text with the defaults filled in.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, tail) = after.split_once("}}").ok_or("an argument is not closed")?;
            let name = name.trim().trim_start_matches("args.");
            let value = self.defaults.get(name).ok_or_else(|| {
                format!("{text} names the argument {name}, which has no default; write the value itself")
            })?;
            filled.push_str(before);
            filled.push_str(value);
            rest = tail;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// The Secret of a bearer token that a header holds.
fn token(prometheus: &Node, arguments: &Arguments<'_>) -> Result<Option<(String, String)>, String> {
    let headers = prometheus.at(&["headers"]).map_or(&[][..], Node::items);
    let mut found = None;
    for header in headers {
        let key = header.value.text_at(&["key"]).unwrap_or_default();
        let value = header.value.text_at(&["value"]).unwrap_or_default();
        let argument = value.trim().strip_prefix("Bearer ").and_then(|rest| {
            let inner = rest.trim().strip_prefix("{{")?.strip_suffix("}}")?;
            inner.trim().strip_prefix("args.").map(str::to_owned)
        });
        let secret = argument.and_then(|name| arguments.secrets.get(&name).cloned());
        match secret {
            Some(secret) if key.eq_ignore_ascii_case("authorization") => found = Some(secret),
            _ => {
                return Err(format!(
                    "the header {key} is not supported; a MetricProvider sends Authorization: Bearer with a token from a Secret"
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_addresses() {
        for (address, name) in [
            ("http://prometheus.monitoring.svc.cluster.local:9090", "prometheus-monitoring"),
            ("http://prometheus:9090", "prometheus"),
            ("https://metrics.example.com/select/0", "metrics-example-com-select-0"),
            ("http://thanos.monitoring:10902", "thanos-monitoring-10902"),
            ("http://", "prometheus"),
        ] {
            assert_eq!(name_of(address), name, "{address}");
        }
        let mut providers = Providers::default();
        let (one, other) =
            (json!({"prometheus": {"address": "http://a"}}), json!({"prometheus": {"address": "https://a"}}));
        assert_eq!(providers.name(&one), "a");
        assert_eq!(providers.name(&one), "a");
        assert_ne!(providers.name(&other), "a");
        assert_eq!(providers.take_fresh().len(), 2);
        assert_eq!(providers.take_fresh().len(), 0);
    }
}
