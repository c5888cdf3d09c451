//! What is neither Argo's nor Flagger's and must change all the same: what scales a converted workload, and the workload.

use super::Fate;
use super::argo::{self, Argo};
use super::flagger::Flagger;
use super::report::{Decision, Line};
use super::yaml::{Map, Node, Scalar};
use crate::api::names::API_VERSION;

/// Converts an autoscaler that scales what is converted, and leaves out a workload that a Rollout has taken over.
pub(super) fn convert(node: &Node, argo: &Argo, flagger: &Flagger) -> Option<Fate> {
    let kind = node.text_at(&["kind"])?;
    let name = node.text_at(&["metadata", "name"])?.to_owned();
    match kind {
        "HorizontalPodAutoscaler" | "ScaledObject" => autoscaler(node, flagger),
        "ReplicaSet" | "PodTemplate" => {
            let is_taken = argo.taken.contains(&(kind.to_owned(), name));
            is_taken.then(|| Fate {
                becomes: Some(Vec::new()),
                words: "nothing: its pod template is the Rollout's now; it stays in Git until the second commit"
                    .to_owned(),
                lines: vec![line("spec.template", "in the Rollout")],
            })
        }
        _ => None,
    }
}

fn line(path: &str, note: &str) -> Line {
    Line {
        path: path.to_owned(),
        decision: Decision::Translated,
        note: note.to_owned(),
        is_lost: false,
        comments: Vec::new(),
    }
}

fn autoscaler(node: &Node, flagger: &Flagger) -> Option<Fate> {
    let target = node.at(&["spec", "scaleTargetRef"])?;
    let (kind, name) = (target.text_at(&["kind"]).unwrap_or("Deployment"), target.text_at(&["name"])?);
    let version = target.text_at(&["apiVersion"]).unwrap_or_default();
    let is_argos = kind == "Rollout" && version.starts_with(argo::GROUP);
    if !is_argos && !flagger.is_target(kind, name) {
        return None;
    }
    let mut turned = node.clone();
    let reference = reach(&mut turned, "spec").and_then(|spec| {
        let entry = spec.entries.iter_mut().find(|entry| entry.key.text == "scaleTargetRef")?;
        match &mut entry.value {
            Node::Map(map) => Some(map),
            Node::Scalar(_) | Node::List(_) => None,
        }
    })?;
    set(reference, "apiVersion", API_VERSION);
    set(reference, "kind", "Rollout");
    Some(Fate {
        becomes: Some(vec![turned]),
        words: "the same, for the Rollout of serin.dev".to_owned(),
        lines: vec![line("spec.scaleTargetRef", &format!("{API_VERSION} Rollout {name}"))],
    })
}

fn reach<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Map> {
    let Node::Map(root) = node else { return None };
    match &mut root.entries.iter_mut().find(|entry| entry.key.text == key)?.value {
        Node::Map(map) => Some(map),
        Node::Scalar(_) | Node::List(_) => None,
    }
}

fn set(map: &mut Map, key: &str, value: &str) {
    match map.entries.iter_mut().find(|entry| entry.key.text == key) {
        Some(entry) => entry.value = Node::string(value),
        None => map.entries.push(super::yaml::Entry::new(key, Scalar::string(value))),
    }
}
