//! Services against the pods that they lead to: labels and ports.

use std::collections::BTreeMap;

use serde_json::Value;

use super::find::{Found, Mark};
use super::input::{Object, SERVICE};
use super::route;
use super::rule;
use super::subject::Subject;
use crate::api::names;
use crate::plan::observed::Observed;

/// Looks at the Services that lead to a Rollout's pods.
pub(super) fn check(subject: &Subject<'_>, observed: &Observed, found: &mut Found) {
    let routed = route::services(subject, observed);
    let labels = subject.labels();
    for service in subject.input.of_in(SERVICE, &subject.object.namespace) {
        let selector = service.map("/spec/selector");
        if selector.is_empty() {
            continue;
        }
        let lacking: Vec<(&String, &String)> = selector
            .iter()
            .filter(|(key, value)| *key != names::REVISION_HASH && labels.get(*key) != Some(value))
            .collect();
        if lacking.is_empty() {
            check_revisions(subject, service, &selector, found);
            check_ports(subject, service, found);
        } else if routed.contains(&service.name) && covers(&subject.strategy.selector, &labels) {
            lacking.iter().for_each(|pair| tell_lacking(subject, service, *pair, found));
        }
    }
}

/// Whether a selector selects pods of these labels.
pub(super) fn covers(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn tell_lacking(subject: &Subject<'_>, service: &Object, (key, value): (&String, &String), found: &mut Found) {
    let path = format!("spec.selector.{key}");
    let message = match subject.labels().get(key) {
        Some(other) => format!("{value} is not what the pods of {} have: {other}", subject.object.title()),
        None => format!("the pods of {} have no label {key}", subject.object.title()),
    };
    let is_of_kustomize = subject.object.map("/metadata/labels").get(key) == Some(value);
    let roles = [&subject.strategy.canary_metadata, &subject.strategy.stable_metadata];
    let fix = if roles.iter().any(|role| role.labels.contains_key(key)) {
        "remove it from the selector: pods get the labels of their role after the route has moved".to_owned()
    } else if is_of_kustomize {
        format!(
            "kustomize put {key} into the Service's selector and not into the Rollout's template: use `labels` with includeSelectors: false instead of commonLabels, or list spec/template/metadata/labels of Rollout under `configurations:`"
        )
    } else {
        format!("add {key}: {value} to spec.template.metadata.labels, or remove it from the selector")
    };
    found.add_with(&rule::SERVICE_SELECTS_NO_PODS, (service, &path, Mark::Value), message, &fix);
}

/// Labels that change with the revision keep the canary's pods, or stable's, out of the Service.
fn check_revisions(subject: &Subject<'_>, service: &Object, selector: &BTreeMap<String, String>, found: &mut Found) {
    for key in selector.keys() {
        if key == names::REVISION_HASH {
            let message = "is Serin's: in Git it holds the Service to one revision for ever".to_owned();
            let place = (service, format!("spec.selector.{key}"));
            found.add_with(
                &rule::SERVICE_SELECTS_ONE_REVISION,
                (place.0, &place.1, Mark::Key),
                message,
                "remove it from the selector",
            );
        } else if changes(key) && !subject.strategy.selector.contains_key(key) {
            let message =
                "changes with the release, so that only one revision's pods are behind the Service".to_owned();
            found.add_with(
                &rule::SERVICE_SELECTS_ONE_REVISION,
                (service, &format!("spec.selector.{key}"), Mark::Key),
                message,
                "",
            );
        }
    }
}

/// Whether a label is one that releases change.
pub(super) fn changes(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    [
        "version",
        "revision",
        "pod-template-hash",
        "rollouts-pod-template-hash",
        "canonical-revision",
        "chart",
        "commit",
        "build",
    ]
    .contains(&name)
}

fn check_ports(subject: &Subject<'_>, service: &Object, found: &mut Found) {
    let ports = ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .flat_map(|list| subject.in_template(list))
        .filter_map(|one| one.get("ports")?.as_array())
        .flatten();
    let known: Vec<&str> = ports.filter_map(|port| port.get("name")?.as_str()).collect();
    for (index, port) in service.list("/spec/ports").iter().enumerate() {
        let Some(name) = port.get("targetPort").and_then(Value::as_str) else { continue };
        if name.parse::<u16>().is_err() && !known.contains(&name) {
            let listed =
                if known.is_empty() { "they name none".to_owned() } else { format!("they name {}", known.join(", ")) };
            let message = format!("{name} is no port of the containers of {}: {listed}", subject.object.title());
            found.add(&rule::SERVICE_PORT, service, &format!("spec.ports[{index}].targetPort"), message);
        }
    }
}
