//! What every object of Argo Rollouts has: its version and its annotations.

use super::super::report::Decision;
use super::super::table::{Loss, Work};
use super::super::yaml::{Entry, Map, Node};
use crate::api::names::API_VERSION;

/// The API version of Serin.
pub(super) fn api_version(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    work.tell(path, Decision::Translated, API_VERSION);
    vec![entry.with(Node::string(API_VERSION))]
}

/// Annotations, without those that Argo Rollouts writes or reads.
pub(super) fn annotations(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let Node::Map(mut map) = entry.value else {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    };
    let mut kept: Vec<Entry> = Vec::new();
    for one in std::mem::take(&mut map.entries) {
        match verdict(&one.key.text) {
            Some(why) => work.leave_out(&format!("{path}[{}]", one.key.text), &one, (Loss::Harmless, why)),
            None => kept.push(Entry { above: work.take_left().into_iter().chain(one.above).collect(), ..one }),
        }
    }
    map.below = work.take_left().into_iter().chain(map.below).collect();
    if kept.is_empty() && map.below.is_empty() {
        return Vec::new();
    }
    if kept.is_empty() {
        work.leave_comments(map.below);
        return Vec::new();
    }
    work.tell(path, Decision::Kept, "");
    vec![Entry { value: Node::Map(Map::with(map, kept)), ..entry }]
}

/// Why an annotation is left out.
fn verdict(key: &str) -> Option<&'static str> {
    let domain = key.split('/').next().unwrap_or_default();
    match domain {
        "notifications.argoproj.io" => {
            Some("Serin does not notify yet; follow the Events and the status of the Rollout")
        }
        "rollout.argoproj.io" | "argo-rollouts.argoproj.io" | "notified.notifications.argoproj.io" => {
            Some("is written by Argo Rollouts; Serin keeps its own record in the status")
        }
        _ if key == "kubectl.kubernetes.io/last-applied-configuration" => {
            Some("is written by kubectl; Git does not hold it")
        }
        _ => None,
    }
}
