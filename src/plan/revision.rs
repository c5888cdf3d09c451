//! Revisions: the hash of a pod template, and the pods that each revision has.
//!
//! The hash is ten characters of SHA-256 over a canonical form, which does not move when Serin or Kubernetes is
//! upgraded: nulls, empty maps and lists, `creationTimestamp`, `protocol: TCP` and annotations `serin.dev/git-*` are
//! removed, and quantities are normalised. A template read from a Deployment is first taken back to what was written:
//! without what an API server fills in.

mod defaults;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::names;
use crate::api::watched::{Deployment, ReplicaSet};

/// Characters of a hash: no vowels, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const HASH_LENGTH: usize = 10;

/// Fields whose values are quantities, or maps of quantities.
const QUANTITIES: [&str; 6] = ["limits", "requests", "overhead", "capacity", "sizeLimit", "divisor"];

/// Hash of a pod template.
pub fn hash(template: &Value) -> String {
    hash_text(&canonical(template).to_string())
}

/// A Deployment's pod template as it may stand in a Rollout: without what an API server has filled in.
pub fn template_of(deployment: &Deployment) -> Value {
    without_defaults(&deployment.spec.template.value())
}

/// A pod template without what an API server has filled in.
pub fn without_defaults(template: &Value) -> Value {
    let mut template = template.clone();
    defaults::strip(&mut template);
    template
}

/// Hash of any text, in the characters of a revision hash.
pub fn hash_text(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut number = digest.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let mut hash = String::with_capacity(HASH_LENGTH);
    for _ in 0..HASH_LENGTH {
        let index = usize::try_from(number % 27).unwrap_or_default();
        hash.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'b')));
        number /= 27;
    }
    hash
}

/// The canonical form of a pod template. Keys are sorted, as `serde_json::Map` keeps them.
pub fn canonical(template: &Value) -> Value {
    canonical_field("", template).unwrap_or_else(|| json!({}))
}

fn canonical_field(name: &str, value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::String(text) if name == "protocol" && text == "TCP" => None,
        Value::String(_) | Value::Number(_) if QUANTITIES.contains(&name) => Some(quantity(value)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.clone()),
        Value::Array(items) => {
            let items: Vec<Value> = items.iter().map(|item| canonical_field("", item).unwrap_or(json!({}))).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Object(fields) => canonical_object(name, fields),
    }
}

fn canonical_object(name: &str, fields: &Map<String, Value>) -> Option<Value> {
    let mut kept = BTreeMap::new();
    for (key, value) in fields {
        let left_out = key == "creationTimestamp" || (name == "annotations" && key.starts_with(names::GIT_PREFIX));
        let inner = if QUANTITIES.contains(&name) { name } else { key };
        if let Some(value) = canonical_field(inner, value).filter(|_| !left_out) {
            kept.insert(key.clone(), value);
        }
    }
    (!kept.is_empty()).then(|| kept.into_iter().collect())
}

/// A quantity in billionths, so that `1`, `1000m` and `1.0` are the same; text that is none stays as it is.
fn quantity(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    nanos(text.trim()).map_or(Value::String(text), |nanos| Value::String(format!("{nanos}n")))
}

fn nanos(text: &str) -> Option<i128> {
    const SUFFIXES: [(&str, i128); 16] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("n", 0),
        ("u", -1),
        ("m", -2),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    let (number, scale) = SUFFIXES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale)))?;
    let billionths = match scale {
        0 => 1,
        -1 => 1_000,
        -2 => 1_000_000,
        scale => scale.checked_mul(1_000_000_000)?,
    };
    let (number, exponent) = match number.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    let scaled = digits.checked_mul(billionths)?;
    let total = if shift < 0 { scaled / power } else { scaled.checked_mul(power)? };
    Some(if negative { -total } else { total })
}

/// The pods of one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    /// Name of the ReplicaSet.
    pub name: String,
    /// Its version in the snapshot.
    pub version: String,
    /// Its generation in the snapshot.
    pub generation: i64,
    /// Pods wanted.
    pub wanted: i32,
    /// Pods there are.
    pub exist: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that have been ready long enough.
    pub available: i32,
    /// Revision number.
    pub revision: i64,
    /// When the ReplicaSet was created.
    pub created_at: Option<Timestamp>,
    /// Images, joined by commas.
    pub image: String,
}

/// Pods by revision hash.
pub fn pods(replica_sets: &[ReplicaSet]) -> BTreeMap<String, Pods> {
    replica_sets
        .iter()
        .filter(|replica_set| replica_set.metadata.deletion_timestamp.is_none())
        .filter_map(|replica_set| Some((hash_of(replica_set)?.to_owned(), pods_of(replica_set))))
        .collect()
}

/// The revision hash that a ReplicaSet carries; none of a baseline, whose pods are not the revision's own.
pub fn hash_of(replica_set: &ReplicaSet) -> Option<&str> {
    let labels = replica_set.metadata.labels.as_ref()?;
    labels.get(names::REVISION_HASH).filter(|_| !labels.contains_key(names::BASELINE)).map(String::as_str)
}

/// Whether a pod is one of a revision's own.
pub fn is_own(pod: &ObjectMeta, hash: &str) -> bool {
    let labels = pod.labels.as_ref();
    labels.is_some_and(|labels| {
        labels.get(names::REVISION_HASH).is_some_and(|own| own == hash) && !labels.contains_key(names::BASELINE)
    })
}

/// The counts of one ReplicaSet.
pub fn pods_of(replica_set: &ReplicaSet) -> Pods {
    let metadata = &replica_set.metadata;
    let revision = metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::REVISION)?.parse().ok());
    let images: Vec<&str> =
        replica_set.spec.template.spec.containers.iter().map(|container| container.image.as_str()).collect();
    Pods {
        name: metadata.name.clone().unwrap_or_default(),
        version: metadata.resource_version.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        wanted: replica_set.spec.replicas.unwrap_or(1),
        exist: replica_set.status.replicas,
        ready: replica_set.status.ready_replicas,
        available: replica_set.status.available_replicas,
        revision: revision.unwrap_or(0),
        created_at: metadata.creation_timestamp.as_ref().map(|time| time.0),
        image: images.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_same(left: &Value, right: &Value) {
        assert_eq!(hash(left), hash(right), "{left} {right}");
    }

    #[test]
    fn what_does_not_count() {
        let plain =
            json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        check_same(
            &plain,
            &json!({
                "metadata": {"labels": {"app": "a"}, "creationTimestamp": null, "annotations": {"serin.dev/git-commit": "4f2a"}},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": {}, "ports": []}], "volumes": null},
            }),
        );
        let mut annotated = plain.clone();
        annotated["metadata"]["annotations"] = json!({"team": "payments"});
        assert_ne!(hash(&plain), hash(&annotated));
        assert_ne!(
            hash(&plain),
            hash(&json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "j"}]}}))
        );
    }

    #[test]
    fn quantities_are_numbers() {
        let with = |cpu: Value, memory: Value| json!({"spec": {"containers": [{"resources": {"limits": {"cpu": cpu, "memory": memory}}}]}});
        check_same(&with(json!("1000m"), json!("1024Mi")), &with(json!(1), json!("1Gi")));
        check_same(&with(json!("0.5"), json!("1e3")), &with(json!(0.5), json!("1k")));
        assert_ne!(hash(&with(json!("1"), json!("1G"))), hash(&with(json!("1"), json!("1Gi"))));
        assert_ne!(hash(&with(json!("1E"), json!("1"))), hash(&with(json!("1Ei"), json!("1"))));
        for (one, other) in [
            ("1Ki", "1024"),
            ("1Mi", "1024Ki"),
            ("1Gi", "1024Mi"),
            ("1Ti", "1024Gi"),
            ("1Pi", "1024Ti"),
            ("1Ei", "1024Pi"),
            ("1u", "1000n"),
            ("1m", "1000u"),
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1.5k", "1500"),
        ] {
            check_same(&with(json!(one), json!("1")), &with(json!(other), json!("1")));
        }
        assert_ne!(hash(&with(json!("1"), json!("-1"))), hash(&with(json!("1"), json!("1"))));
    }

    #[test]
    fn an_env_value_named_like_a_quantity_is_text() {
        let with = |value: &str| json!({"spec": {"containers": [{"env": [{"name": "requests", "value": value}]}]}});
        assert_ne!(hash(&with("1")), hash(&with("1000m")));
    }

    #[test]
    fn default_protocol_does_not_count() {
        let with = |port: Value| json!({"spec": {"containers": [{"ports": [port]}]}});
        check_same(&with(json!({"containerPort": 80, "protocol": "TCP"})), &with(json!({"containerPort": 80})));
        assert_ne!(
            hash(&with(json!({"containerPort": 80, "protocol": "UDP"}))),
            hash(&with(json!({"containerPort": 80})))
        );
        assert_ne!(hash(&with(json!({"containerPort": 80, "name": "TCP"}))), hash(&with(json!({"containerPort": 80}))));
    }

    #[test]
    fn the_hash_never_moves() {
        let template = json!({"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app", "image": "checkout:1"}]}});
        assert_eq!(hash(&template), HASH_OF_CHECKOUT_1);
    }

    const HASH_OF_CHECKOUT_1: &str = "s5d8sblfl7";
}
