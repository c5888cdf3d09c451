//! The pod template: the Rollout's own, or that of the Deployment that it names.

use serde_json::Value;

use super::Fault;
use crate::api::names;
use crate::api::rollout::{RolloutSpec, Selector};
use crate::api::schema::TEMPLATE_MEMBERS;
use crate::plan::observed::Workload;
use crate::plan::revision;

/// Takes the template, and the selector where none is given, from the Deployment once it is read.
pub(super) fn resolve(spec: &mut RolloutSpec, workload: &Workload, faults: &mut Vec<Fault>) {
    let Some(reference) = &spec.workload_ref else {
        if spec.template.is_none() {
            faults.push(Fault::new("spec", format!("exactly one of {} is required", TEMPLATE_MEMBERS.join(", "))));
        }
        return;
    };
    if spec.template.take().is_some() {
        faults.push(Fault::new("spec.template", "cannot be given with workloadRef; remove one of the two"));
    }
    if (reference.api_version.as_str(), reference.kind.as_str()) != ("apps/v1", "Deployment") {
        faults.push(Fault::new("spec.workloadRef", "only a Deployment of apps/v1 is supported"));
        return;
    }
    let Some(deployment) = workload.found() else {
        return;
    };
    spec.template = Some(revision::template_of(deployment));
    if spec.selector.is_none() {
        let selector = &deployment.spec.selector;
        if !selector.match_expressions.is_empty() {
            let message = format!(
                "is required: Deployment {} selects by matchExpressions, which are not supported; give matchLabels",
                reference.name
            );
            faults.push(Fault::new("spec.selector", message));
        }
        spec.selector = Some(Selector { match_labels: selector.match_labels.clone() });
    }
}

/// Whether the selector selects the template's pods, and what the API server refuses in a template.
pub(super) fn check_template(spec: &RolloutSpec, workload: &Workload, faults: &mut Vec<Fault>) {
    let place = |field: &str| match &spec.workload_ref {
        Some(reference) => format!("spec.workloadRef: Deployment {}: spec.template.{field}", reference.name),
        None => format!("spec.template.{field}"),
    };
    let is_awaited = spec.template.is_none() && spec.workload_ref.is_some() && workload.found().is_none();
    check_selector(spec, is_awaited, &place, faults);
    let Some(template) = &spec.template else {
        return;
    };
    if template.pointer("/spec/containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        faults.push(Fault::new(place("spec.containers"), "is empty; add a container"));
    }
    if template.pointer("/spec/restartPolicy").and_then(Value::as_str).is_some_and(|policy| policy != "Always") {
        faults.push(Fault::new(place("spec.restartPolicy"), "must be Always; remove it"));
    }
}

fn check_selector(spec: &RolloutSpec, is_awaited: bool, place: &dyn Fn(&str) -> String, faults: &mut Vec<Fault>) {
    let Some(selector) = &spec.selector else {
        if !is_awaited {
            faults.push(Fault::new("spec.selector", "is required; name at least one label of the template"));
        }
        return;
    };
    if selector.match_labels.is_empty() {
        faults.push(Fault::new("spec.selector.matchLabels", "is empty; name at least one label of the template"));
    }
    let labels = spec.template.as_ref().map(|template| template.pointer("/metadata/labels"));
    for (key, value) in &selector.match_labels {
        if key == names::REVISION_HASH {
            faults.push(Fault::new("spec.selector.matchLabels", format!("{key} is set by Serin; remove it")));
        } else if labels
            .is_some_and(|labels| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str) != Some(value))
        {
            faults.push(Fault::new(
                place("metadata.labels"),
                format!("lacks {key}: {value}, which the selector asks for; add it"),
            ));
        }
    }
}
