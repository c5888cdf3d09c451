//! The CustomResourceDefinitions: names, scopes, columns, subresources. Schemas come from `schema`.

use serde_json::{Value, json};

use super::{names, schema};

/// All definitions, in the order of their file names.
pub fn definitions() -> Vec<Value> {
    vec![
        analysis_template("AnalysisTemplate", "analysistemplates", "Namespaced"),
        analysis_template("ClusterAnalysisTemplate", "clusteranalysistemplates", "Cluster"),
        metric_provider(),
        notification_channel(),
        rollout_action(),
        rollout(),
    ]
}

fn rollout() -> Value {
    let mut version = version(&schema::rollout());
    let columns = json!([
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
        {"name": "Step", "type": "string", "jsonPath": ".status.step"},
        {"name": "Weight", "type": "integer", "jsonPath": ".status.canary.observedWeight"},
        {"name": "Image", "type": "string", "jsonPath": ".spec.template.spec.containers[0].image"},
        {"name": "Commit", "type": "string", "jsonPath": ".metadata.annotations.serin\\.dev/git-commit"},
        {"name": "Message", "type": "string", "jsonPath": ".status.message"},
        age_column(),
    ]);
    let scale = json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    });
    if let Some(version) = version.as_object_mut() {
        version.insert("additionalPrinterColumns".into(), columns);
        version.insert("subresources".into(), json!({"status": {}, "scale": scale}));
    }
    definition("Rollout", "rollouts", "Namespaced", &["sro"], &version)
}

fn rollout_action() -> Value {
    let mut version = version(&schema::rollout_action());
    let columns = json!([
        {"name": "Rollout", "type": "string", "jsonPath": ".spec.rollout"},
        {"name": "Action", "type": "string", "jsonPath": ".spec.action"},
        {"name": "Revision", "type": "string", "jsonPath": ".spec.revision"},
        {"name": "Accepted", "type": "boolean", "jsonPath": ".status.accepted"},
        {"name": "Message", "type": "string", "jsonPath": ".status.message"},
        age_column(),
    ]);
    if let Some(version) = version.as_object_mut() {
        version.insert("additionalPrinterColumns".into(), columns);
        version.insert("subresources".into(), json!({"status": {}}));
    }
    definition("RolloutAction", "rolloutactions", "Namespaced", &["sra"], &version)
}

fn analysis_template(kind: &str, plural: &str, scope: &str) -> Value {
    let mut version = version(&schema::analysis_template());
    if let Some(version) = version.as_object_mut() {
        version.insert("additionalPrinterColumns".into(), json!([age_column()]));
    }
    definition(kind, plural, scope, &[], &version)
}

fn metric_provider() -> Value {
    let mut version = version(&schema::metric_provider());
    let address = json!({"name": "Address", "type": "string", "jsonPath": ".spec['prometheus', 'web'].address"});
    if let Some(version) = version.as_object_mut() {
        version.insert("additionalPrinterColumns".into(), json!([address, age_column()]));
    }
    definition("MetricProvider", "metricproviders", "Cluster", &[], &version)
}

fn notification_channel() -> Value {
    let mut version = version(&schema::notification_channel());
    let columns = json!([
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
        {"name": "Sent", "type": "integer", "jsonPath": ".status.sent"},
        {"name": "Failed", "type": "integer", "jsonPath": ".status.failed"},
        {"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message"},
        age_column(),
    ]);
    if let Some(version) = version.as_object_mut() {
        version.insert("additionalPrinterColumns".into(), columns);
        version.insert("subresources".into(), json!({"status": {}}));
    }
    definition("NotificationChannel", "notificationchannels", "Namespaced", &["snc"], &version)
}

fn age_column() -> Value {
    json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})
}

fn version(schema: &Value) -> Value {
    json!({
        "name": names::VERSION,
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": schema},
    })
}

fn definition(kind: &str, plural: &str, scope: &str, short_names: &[&str], version: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", names::GROUP)},
        "spec": {
            "group": names::GROUP,
            "names": {
                "categories": ["serin"],
                "kind": kind,
                "plural": plural,
                "shortNames": short_names,
                "singular": kind.to_lowercase(),
            },
            "scope": scope,
            "versions": [version],
        },
    })
}

/// What readers of YAML 1.1 take for a boolean, and those of 1.2 for a text.
const BOOLEANS_OF_OLD: &[&str] = &["y", "yes", "on", "n", "no", "off"];

/// A definition as YAML that kubectl and Helm read as it is meant: to them a bare `on` is true.
pub fn yaml(definition: &Value) -> Result<String, serde_yaml::Error> {
    let text = serde_yaml::to_string(definition)?;
    let lines = text.lines().map(quoted);
    Ok(std::iter::once("# Generated by `serin crds`; do not edit.".to_owned())
        .chain(lines)
        .map(|line| line + "\n")
        .collect())
}

/// A line whose key, or whose whole value, is in quotes where it has to be.
fn quoted(line: &str) -> String {
    let content = line.trim_start_matches([' ', '-']);
    let (indent, _) = line.split_at(line.len() - content.len());
    let quote = |word: &str| {
        let is_boolean = BOOLEANS_OF_OLD.iter().any(|old| old.eq_ignore_ascii_case(word));
        if is_boolean { format!("\"{word}\"") } else { word.to_owned() }
    };
    if let Some((key, value)) = content.split_once(": ") {
        return format!("{indent}{}: {}", quote(key), quote(value));
    }
    match content.strip_suffix(':') {
        Some(key) => format!("{indent}{}:", quote(key)),
        None => format!("{indent}{}", quote(content)),
    }
}
