//! One object by itself: what its definition and the controller refuse, in their own words.

use std::sync::LazyLock;

use serde_json::Value;

use super::find::{Found, Mark, is_serin};
use super::input::{CHANNEL, CLUSTER_TEMPLATE, Object, PROVIDER, ROLLOUT, TEMPLATE};
use super::name::nearest;
use super::subject::Uses;
use super::{rule, rule::Rule};
use crate::api::notification::NotificationChannelSpec;
use crate::api::provider::MetricProviderSpec;
use crate::api::{crd, names};
use crate::notify::host::Hosts;
use crate::notify::service;
use crate::plan::strategy::{self, Fault};
use crate::plan::template;
use crate::schema;
use crate::schema::check::{self, Problem};

/// What serde says of a value that does not fit its type; the schema says it better.
const OF_TYPES: [&str; 6] =
    ["invalid type", "missing field", "invalid value", "invalid length", "unknown variant", "data did not match"];

/// Looks at one object.
pub(super) fn check(uses: &Uses, object: &Object, found: &mut Found) {
    if !is_serin(object) {
        return;
    }
    let Some(plural) = plural_of(object, found) else { return };
    check_metadata(object, found);
    let mut pruned = object.value.clone();
    let lost = schema::prune(&plural, &mut pruned);
    for path in &lost {
        let (parent, field) = path.rsplit_once('.').unwrap_or(("", path));
        unknown_field(object, path, field, &schema::known(&plural, parent), found);
    }
    // What lacks a field because its name is wrong was told so.
    let is_told = |path: &str, message: &str| {
        message.contains("exactly one of")
            && lost.iter().any(|lost| lost.rsplit_once('.').is_some_and(|(parent, _)| parent == path))
    };
    let mut problems = check::problems(&plural, &pruned, None);
    problems.extend(check::duplicates(&plural, &pruned));
    let mut faults = faults(uses, object, &pruned, &problems);
    problems.retain(|problem| !is_told(&problem.path, &problem.message));
    faults.retain(|fault| !is_told(&fault.path, &fault.message));
    tell(object, &problems, &faults, found);
    if object.is(CHANNEL) {
        check_hosts(object, &pruned, found);
    }
}

fn channel(spec: &Value) -> Option<NotificationChannelSpec> {
    serde_json::from_value(spec.clone()).ok()
}

/// Hosts that only an administrator's flag allows, which no manifest shows.
fn check_hosts(object: &Object, pruned: &Value, found: &mut Found) {
    let spec = pruned.get("spec").and_then(channel);
    let fault = spec.zip(Hosts::of(&[]).ok()).and_then(|(spec, hosts)| service::host_fault(&spec, &hosts));
    if let Some(fault) = fault {
        found.told(&rule::NOTIFICATION_HOST, object, &fault.path, &fault.message);
    }
}

/// Serin's kinds, each with its plural.
static KINDS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let name =
        |definition: &Value, key: &str| Some(definition.pointer(&format!("/spec/names/{key}"))?.as_str()?.to_owned());
    crd::definitions().iter().filter_map(|one| Some((name(one, "kind")?, name(one, "plural")?))).collect()
});

/// The plural of an object's kind.
fn plural_of(object: &Object, found: &mut Found) -> Option<String> {
    let Some((_, plural)) = KINDS.iter().find(|(kind, _)| *kind == object.kind) else {
        let known: Vec<String> = KINDS.iter().map(|(kind, _)| kind.clone()).collect();
        let fix = nearest(&object.kind, &known)
            .map_or_else(|| format!("kinds are {}", known.join(", ")), |kind| format!("write kind: {kind}"));
        let message = format!("{} has no kind {}", object.api_version, object.kind);
        found.add_with(&rule::UNKNOWN_KIND, (object, "kind", Mark::Value), message, &fix);
        return None;
    };
    if object.api_version != names::API_VERSION {
        let message = format!("{} is not served", object.api_version);
        let fix = format!("write apiVersion: {}", names::API_VERSION);
        found.add_with(&rule::UNKNOWN_KIND, (object, "apiVersion", Mark::Value), message, &fix);
        return None;
    }
    Some(plural.clone())
}

fn unknown_field(object: &Object, path: &str, field: &str, known: &[String], found: &mut Found) {
    let fix = nearest(field, known).map_or_else(
        || {
            if known.is_empty() {
                String::new()
            } else {
                format!("remove it, or correct its indentation; known here: {}", known.join(", "))
            }
        },
        |name| format!("write {name}"),
    );
    let message = "is unknown; API servers drop it silently".to_owned();
    found.add_with(&rule::UNKNOWN_FIELD, (object, path, Mark::Key), message, &fix);
}

/// Fields of `metadata`, which definitions do not describe.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn check_metadata(object: &Object, found: &mut Found) {
    let metadata = object.value.get("metadata");
    let known: Vec<String> = METADATA.iter().map(|&name| name.to_owned()).collect();
    for key in metadata.and_then(Value::as_object).into_iter().flat_map(|fields| fields.keys()) {
        if !known.contains(key) {
            unknown_field(object, &format!("metadata.{key}"), key, &known, found);
        }
    }
    if object.name.is_empty() {
        found.add(&rule::SCHEMA, object, "metadata.name", "Required value");
    }
    for map in ["labels", "annotations"] {
        let fields = metadata.and_then(|metadata| metadata.get(map)?.as_object());
        for (key, value) in fields.into_iter().flatten().filter(|(_, value)| !value.is_string()) {
            let path = format!("metadata.{map}.{key}");
            let message = format!("must be text, and {value} is not");
            found.add_with(&rule::SCHEMA, (object, &path, Mark::Value), message, "put it in quotes");
        }
    }
}

/// What the controller says of an object.
fn faults(uses: &Uses, object: &Object, pruned: &Value, problems: &[Problem]) -> Vec<Fault> {
    let Some(spec) = pruned.get("spec") else { return Vec::new() };
    let mut faults = if object.is(ROLLOUT) {
        strategy::parse(&object.namespace, spec).faults
    } else if object.is(TEMPLATE) || object.is(CLUSTER_TEMPLATE) {
        let told = |end| template::parse_template(spec, end).err().unwrap_or_default();
        let mut faults: Vec<Fault> = uses.get(object).into_iter().flat_map(told).collect();
        faults.sort();
        faults.dedup();
        faults
    } else if object.is(PROVIDER) {
        let fault = serde_json::from_value::<MetricProviderSpec>(spec.clone()).ok().and_then(|spec| spec.fault());
        let split = |fault: String| fault.split_once(": ").map(|(path, message)| Fault::new(path, message));
        fault.and_then(split).into_iter().collect()
    } else if object.is(CHANNEL) {
        let faults = channel(spec).map(|spec| service::faults(&spec)).unwrap_or_default();
        faults.into_iter().map(|fault| Fault::new(&fault.path, &fault.message)).collect()
    } else {
        Vec::new()
    };
    if problems.iter().any(|problem| problem.hides_rules) {
        faults.retain(|fault| !OF_TYPES.iter().any(|words| fault.message.starts_with(words)));
    }
    faults
}

/// Tells each mistake once: by the controller's words where it has any, under the rule of whoever refuses it first.
fn tell(object: &Object, problems: &[Problem], faults: &[Fault], found: &mut Found) {
    let mut told: Vec<(usize, &'static Rule)> = Vec::new();
    for problem in problems {
        let of = if problem.is_of_rule { &rule::CEL_RULE } else { &rule::SCHEMA };
        let same = faults.iter().position(|fault| is_same(problem, fault));
        match same {
            Some(index) => told.push((index, of)),
            None => {
                let message = if problem.is_of_rule {
                    problem.message.trim_start_matches("Invalid value: ").to_owned()
                } else if problem.message.starts_with("Duplicate value") {
                    format!("{}; remove one of them", problem.message)
                } else {
                    problem.message.clone()
                };
                found.told(of, object, &problem.path, &message);
            }
        }
    }
    let of_controller = if object.is(ROLLOUT) {
        &rule::INVALID_STRATEGY
    } else if object.is(PROVIDER) {
        &rule::INVALID_PROVIDER
    } else if object.is(CHANNEL) {
        &rule::INVALID_CHANNEL
    } else {
        &rule::INVALID_TEMPLATE
    };
    for (index, fault) in faults.iter().enumerate() {
        let of = told.iter().find(|(told, _)| *told == index).map_or(of_controller, |(_, of)| *of);
        found.told(of, object, &fault.path, &fault.message);
    }
}

/// Whether the definition and the controller speak of one mistake.
fn is_same(problem: &Problem, fault: &Fault) -> bool {
    if problem.path == fault.path {
        return true;
    }
    let below = fault.path.strip_prefix(&problem.path).and_then(|rest| rest.strip_prefix('.'));
    problem.is_of_rule && below.is_some_and(|field| !field.contains(['.', '[']) && problem.message.contains(field))
}
