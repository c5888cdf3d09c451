//! What pods carry for their role, and which keys that cannot be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fault, Strategy};
use crate::api::names;
use crate::api::rollout::PodMetadataSpec;
use crate::api::schema::ROLE_MEMBERS;
use crate::api::syntax::{self, LABEL_MOST, SUBDOMAIN_MOST};

/// Labels and annotations of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl PodMetadata {
    /// What a spec says; nothing where it says nothing.
    pub fn of(spec: Option<&PodMetadataSpec>) -> Self {
        let spec = spec.cloned().unwrap_or_default();
        Self { labels: spec.labels.unwrap_or_default(), annotations: spec.annotations.unwrap_or_default() }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// The text that records it on a ReplicaSet or a pod; none when it says nothing.
    pub fn record(&self) -> Option<String> {
        if self.is_empty() { None } else { serde_json::to_string(self).ok() }
    }

    /// What a record says; nothing where somebody has spoilt it.
    pub fn of_record(record: Option<&str>) -> Self {
        record.and_then(|record| serde_json::from_str(record).ok()).unwrap_or_default()
    }
}

/// Keys and values that pods cannot carry for their role.
pub(super) fn check(strategy: &mut Strategy) {
    let mut faults = Vec::new();
    for (role, metadata) in ROLE_MEMBERS.iter().zip([&strategy.canary_metadata, &strategy.stable_metadata]) {
        for (map, given) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
            let path = format!("spec.strategy.canary.{role}.{map}");
            for (key, value) in given {
                let why = key_fault(strategy, map, key).or_else(|| value_fault(map, key, value));
                faults.extend(why.map(|why| Fault::new(path.clone(), why)));
            }
        }
    }
    strategy.faults.extend(faults);
}

fn key_fault(strategy: &Strategy, map: &str, key: &str) -> Option<String> {
    if is_serins(key) {
        return Some(format!("{key} is set by Serin; remove it"));
    }
    if names::is_tracking_key(key) {
        return Some(format!("{key} belongs to a deployment tool, which would take the pods for its own; remove it"));
    }
    if map == "labels" && strategy.selector.contains_key(key) {
        return Some(format!("{key} selects the pods (spec.selector.matchLabels); remove it"));
    }
    let of_template = |template: &Value| template.get("metadata")?.get(map)?.get(key).map(|_| ());
    if strategy.template.as_ref().and_then(of_template).is_some() {
        let whose = strategy.workload.as_ref().map(|name| format!("Deployment {name}'s ")).unwrap_or_default();
        return Some(format!("{key} is in {whose}spec.template.metadata.{map}, too; remove it from one of the two"));
    }
    let why = "is not a key; write at most 63 letters, digits, '-', '_' and '.', or example.com/ before them";
    (!is_key(key)).then(|| format!("{key:?} {why}"))
}

/// Whether Serin alone sets a key.
fn is_serins(key: &str) -> bool {
    let domain = key.split_once('/').map(|(domain, _)| domain);
    domain == Some(names::GROUP) || key == names::CANONICAL_REVISION
}

fn value_fault(map: &str, key: &str, value: &str) -> Option<String> {
    let why = "is not a label's value; write at most 63 letters, digits, '-', '_' and '.'";
    (map == "labels" && !value.is_empty() && !is_name(value)).then(|| format!("{key}: {value:?} {why}"))
}

/// Whether the API server takes a text as the key of a label or annotation.
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => domain.len() <= SUBDOMAIN_MOST && syntax::is_subdomain(domain) && is_name(name),
        None => is_name(key),
    }
}

/// The name in a key, or the value of a label.
fn is_name(text: &str) -> bool {
    text.len() <= LABEL_MOST && syntax::is_name(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::strategy::parse;

    fn check(canary: &Value, faults: &[&str]) {
        let spec = json!({
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": {
                "metadata": {"labels": {"app": "checkout", "team": "payments"}, "annotations": {"note": "a"}},
                "spec": {"containers": [{"name": "app"}]},
            },
            "strategy": {"canary": canary},
        });
        let found = parse("shop", &spec).faults;
        let told = |fault: &Fault| fault.to_string().replacen("spec.strategy.canary.", "", 1);
        assert_eq!(found.iter().map(told).collect::<Vec<_>>(), faults, "{canary}");
    }

    fn check_label(key: &str, fault: &str) {
        let fault = format!("canaryMetadata.labels: {fault}");
        check(&json!({"canaryMetadata": {"labels": {key: "a"}}}), &[&fault]);
    }

    #[test]
    fn what_pods_may_carry() {
        let labels = json!({"role": "canary", "example.com/tier.a_b-c": "", "note": "v1.2_3-a"});
        let annotations = json!({"example.com/why": "any text: {}", "team": "a", "app": "a"});
        check(&json!({"canaryMetadata": {"labels": labels, "annotations": annotations}, "stableMetadata": {}}), &[]);
    }

    #[test]
    fn faults_name_the_field_and_what_to_do() {
        check_label("app", "app selects the pods (spec.selector.matchLabels); remove it");
        check_label("team", "team is in spec.template.metadata.labels, too; remove it from one of the two");
        check_label("serin.dev/rollout", "serin.dev/rollout is set by Serin; remove it");
        check_label(
            "service.istio.io/canonical-revision",
            "service.istio.io/canonical-revision is set by Serin; remove it",
        );
        for key in ["argocd.argoproj.io/instance", "app.kubernetes.io/instance", "helm.sh/chart"] {
            let why = format!("{key} belongs to a deployment tool, which would take the pods for its own; remove it");
            check_label(key, &why);
        }
        let why = "is not a key; write at most 63 letters, digits, '-', '_' and '.', or example.com/ before them";
        for key in ["", "a b", "-a", "a/", "/a", "Example.com/a", "a..b/c", "a/b/c", &"a".repeat(64)] {
            check_label(key, &format!("{key:?} {why}"));
        }
        check(
            &json!({"stableMetadata": {"annotations": {"note": "b"}}}),
            &[
                "stableMetadata.annotations: note is in spec.template.metadata.annotations, too; remove it from one of the two",
            ],
        );
        check(
            &json!({"stableMetadata": {"labels": {"role": "a b"}, "annotations": {"role": "a b"}}}),
            &[
                "stableMetadata.labels: role: \"a b\" is not a label's value; write at most 63 letters, digits, '-', '_' and '.'",
            ],
        );
        check(
            &json!({"stableMetadata": {"labels": {"count": 1}}}),
            &["stableMetadata.labels.count: invalid type: integer `1`, expected a string"],
        );
    }

    #[test]
    fn a_record_says_what_was_recorded() {
        let metadata =
            PodMetadata { labels: [("role".to_owned(), "canary".to_owned())].into(), ..PodMetadata::default() };
        assert_eq!(metadata.record().as_deref(), Some(r#"{"labels":{"role":"canary"}}"#));
        assert_eq!(PodMetadata::of_record(metadata.record().as_deref()), metadata);
        assert_eq!(PodMetadata::default().record(), None);
        assert_eq!(PodMetadata::of_record(Some("spoilt")), PodMetadata::default());
    }
}
