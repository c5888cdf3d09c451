//! The pods' template, and what else selects or scales its pods.

use std::collections::BTreeMap;

use serde_json::Value;

use super::find::{Found, Mark};
use super::input::{DEPLOYMENT, Input, Kind, Object, ROLLOUT};
use super::name::{Missing, Target, follow, nearest};
use super::rule;
use super::service::{changes, covers};
use super::subject::Subject;
use crate::api::names;
use crate::plan::strategy;

const AUTOSCALERS: [Kind; 2] = [("autoscaling", "HorizontalPodAutoscaler"), ("keda.sh", "ScaledObject")];

/// Looks at the template and the selector of one Rollout.
pub(super) fn check(subject: &Subject<'_>, missing: &mut Vec<Missing>, found: &mut Found) {
    check_reference(subject, missing, found);
    let object = subject.holder;
    for (index, container) in subject.in_template("/spec/containers").iter().enumerate() {
        let path = format!("spec.template.spec.containers[{index}]");
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
        if container.get("readinessProbe").is_none() {
            let message = format!("{name} has no readinessProbe: its pod gets traffic as soon as the process runs");
            found.add_with(&rule::NO_READINESS_PROBE, (object, &path, Mark::Key), message, "");
        }
        check_image(object, container, &format!("{path}.image"), found);
    }
    let labels = subject.labels();
    if labels.contains_key(names::CANONICAL_REVISION) {
        let path = format!("spec.template.metadata.labels.{}", names::CANONICAL_REVISION);
        let message =
            "is replaced by Serin, so that Istio's metrics tell canary from stable; the value is kept in an annotation"
                .to_owned();
        found.add_with(&rule::CANONICAL_REVISION, (object, &path, Mark::Key), message, "");
    }
    for key in subject.strategy.selector.keys().filter(|key| changes(key)) {
        let path = format!("spec.selector.matchLabels.{key}");
        let message = "changes with releases, and the selector cannot be changed: the next value is refused".to_owned();
        found.add_with(&rule::MUTABLE_SELECTOR, (subject.object, &path, Mark::Key), message, "");
    }
}

/// Looks at the Deployment that brings the template.
fn check_reference(subject: &Subject<'_>, missing: &mut Vec<Missing>, found: &mut Found) {
    let Some(name) = &subject.strategy.workload else { return };
    let place = (DEPLOYMENT, name.as_str(), "spec.workloadRef.name");
    let Target::Found(deployment) = follow(subject, place, missing, found) else { return };
    let written = subject.object.value.get("spec").unwrap_or(&Value::Null);
    let alone = strategy::parse(&subject.object.namespace, written).faults;
    for fault in subject.strategy.faults.iter().filter(|fault| !alone.contains(fault)) {
        let told = fault.to_string();
        let told = told.strip_prefix("spec.workloadRef: ").unwrap_or(&told);
        found.told(&rule::INVALID_STRATEGY, subject.object, "spec.workloadRef", told);
    }
    let held = deployment.value.pointer("/spec/replicas").and_then(Value::as_i64).filter(|replicas| *replicas > 0);
    if let Some(replicas) = held {
        let message = format!(
            "{replicas} pods stay beside those of {}, and get no requests once it serves",
            subject.object.title()
        );
        found.add(&rule::WORKLOAD_REPLICAS, deployment, "spec.replicas", message);
    }
}

fn check_image(object: &Object, container: &Value, path: &str, found: &mut Found) {
    let image = container.get("image").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if image.is_empty() || image.contains('@') {
        return;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None => found.add(&rule::IMAGE_NOT_PINNED, object, path, format!("{image} has no tag, and means latest")),
        Some((_, "latest")) => {
            found.add(&rule::IMAGE_NOT_PINNED, object, path, format!("{image} means another image every day"))
        }
        Some(_) => {}
    }
}

/// Looks at what several objects have in common.
pub(super) fn check_all(input: &Input, subjects: &[Subject<'_>], found: &mut Found) {
    check_selectors(subjects, found);
    for subject in subjects {
        for deployment in input.of_in(DEPLOYMENT, &subject.object.namespace) {
            let labels = deployment.map("/spec/template/metadata/labels");
            let is_stopped = deployment.value.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0);
            let is_named = subject.strategy.workload.as_ref() == Some(&deployment.name);
            if !is_stopped && !is_named && covers(&subject.strategy.selector, &labels) {
                let message = format!(
                    "runs pods that {} selects, too: they get its traffic without any weight",
                    subject.object.title()
                );
                found.add(&rule::DEPLOYMENT_OVERLAPS, deployment, "spec.template.metadata.labels", message);
            }
        }
    }
    for kind in AUTOSCALERS {
        input.of(kind).for_each(|autoscaler| check_autoscaler(input, autoscaler, found));
    }
}

fn check_selectors(subjects: &[Subject<'_>], found: &mut Found) {
    let mut by_namespace: BTreeMap<&str, Vec<&Subject<'_>>> = BTreeMap::new();
    for subject in subjects {
        let others = by_namespace.entry(&subject.object.namespace).or_default();
        let labels = subject.labels();
        let overlaps = |other: &&&Subject<'_>| {
            covers(&other.strategy.selector, &labels) || covers(&subject.strategy.selector, &other.labels())
        };
        if let Some(other) = others.iter().find(overlaps).filter(|other| other.object.name != subject.object.name) {
            let message = format!("selects pods that {} selects, too", other.object.title());
            found.add_with(
                &rule::SELECTORS_OVERLAP,
                (subject.object, "spec.selector.matchLabels", Mark::Key),
                message,
                "",
            );
        }
        others.push(subject);
    }
}

fn check_autoscaler(input: &Input, autoscaler: &Object, found: &mut Found) {
    let of = |key: &str| autoscaler.text(&format!("/spec/scaleTargetRef/{key}")).unwrap_or_default();
    let (version, kind, name) = (of("apiVersion"), of("kind"), of("name"));
    let rollout = input.find(ROLLOUT, &autoscaler.namespace, name);
    let path = |key: &str| format!("spec.scaleTargetRef.{key}");
    let is_ours = kind == "Rollout" && version == names::API_VERSION;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let is_leftover = kind == "Deployment" && input.find(DEPLOYMENT, &autoscaler.namespace, name).is_none();
    let brings = |rollout: &&Object| kind == "Deployment" && rollout.text("/spec/workloadRef/name") == Some(name);
    if let Some(rollout) = input.of_in(ROLLOUT, &autoscaler.namespace).find(brings) {
        let message =
            format!("Deployment {name} brings {} its template and goes to 0: it scales nothing", rollout.title());
        let fix = format!("write apiVersion: {}, kind: Rollout, name: {}", names::API_VERSION, rollout.name);
        found.add_with(&rule::AUTOSCALER_TARGET, (autoscaler, &path("kind"), Mark::Value), message, &fix);
        return;
    }
    match rollout {
        Some(rollout) if is_ours => {
            if rollout.value.pointer("/spec/replicas").is_some() {
                let message = format!("is set back with every sync, against {}", autoscaler.title());
                found.add(&rule::REPLICAS_AND_AUTOSCALER, rollout, "spec.replicas", message);
            }
        }
        Some(rollout) if kind == "Rollout" || is_leftover => {
            let written = format!("{version} {kind}");
            let message = format!("{} {name} is not what runs the pods: {} does", written.trim(), rollout.title());
            let key = if kind == "Rollout" { "apiVersion" } else { "kind" };
            let fix = format!("write apiVersion: {}, kind: Rollout, name: {name}", names::API_VERSION);
            found.add_with(&rule::AUTOSCALER_TARGET, (autoscaler, &path(key), Mark::Value), message, &fix);
        }
        None if kind == "Rollout" && group == names::GROUP => {
            let known: Vec<String> = input.of_in(ROLLOUT, &autoscaler.namespace).map(|one| one.name.clone()).collect();
            let near =
                nearest(name, &known).or_else(|| known.iter().find(|one| one.ends_with(&format!("-{name}"))).cloned());
            if let Some(other) = near {
                let message = format!("Rollout {name} is not in the input, and {other} is");
                found.add_with(
                    &rule::AUTOSCALER_TARGET,
                    (autoscaler, &path("name"), Mark::Value),
                    message,
                    &format!("write {other}"),
                );
            }
        }
        Some(_) | None => {}
    }
}
