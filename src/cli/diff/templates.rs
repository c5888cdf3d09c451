//! Analysis templates that a commit changes: what each metric wants afterwards, and who is judged by it.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{Change, Difference, Effect, changes};
use crate::api::status::RolloutStatus;
use crate::embedded::store::key_of;
use crate::plan::strategy;
use crate::plan::template::{End, parse_template};

/// The kinds of analysis templates.
const KINDS: [&str; 2] = ["AnalysisTemplate", "ClusterAnalysisTemplate"];

/// What a commit does to one analysis template.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateDifference {
    /// `AnalysisTemplate namespace/name`, or `ClusterAnalysisTemplate name`.
    pub analysis_template: String,
    /// What happens, in a word.
    pub effect: TemplateEffect,
    /// What happens, in a sentence.
    pub summary: String,
    /// Every field of every metric that changes, metrics by their names.
    pub metrics: Vec<Change>,
    /// Every other field of the spec that changes.
    pub spec: Vec<Change>,
    /// The Rollouts whose gates name it, and where.
    pub used_by: Vec<String>,
    /// What it means for canaries under way.
    pub canaries: Vec<String>,
    /// What is wrong with it.
    pub faults: Vec<String>,
}

/// What a commit does to an analysis template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TemplateEffect {
    /// There is no such template yet.
    New,
    /// The template is taken away.
    Removed,
    /// What it measures, or how it judges, changes.
    Changed,
}

/// Whether an object is an analysis template.
pub(super) fn is_template(object: &Value) -> bool {
    KINDS.iter().any(|kind| object["kind"] == *kind)
        && object["apiVersion"].as_str().is_some_and(|version| version.starts_with("serin.dev/"))
}

/// Whether two objects are one template.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    one["kind"] == other["kind"] && key_of(one) == key_of(other)
}

/// Whether a commit changes a template; a new one is changed.
pub(super) fn is_changed(after: &Value, before: Option<&Value>) -> bool {
    before.is_none_or(|before| before["spec"] != after["spec"])
}

/// What of a Rollout names a template.
struct User {
    rollout: String,
    places: Vec<String>,
    /// When the analyses that name it are over.
    ends: BTreeSet<End>,
    /// Whether a canary that is under way stays so after the commit.
    stays: bool,
    /// The canary that stays under way.
    canary: Option<i64>,
}

/// What the commit does to one template: `rollouts` are those after it, each with its status.
pub fn template_difference(
    before: Option<&Value>,
    after: Option<&Value>,
    rollouts: &[Value],
    differences: &[Difference],
) -> Option<TemplateDifference> {
    let effect = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => TemplateEffect::New,
        (Some(_), None) => TemplateEffect::Removed,
        (Some(_), Some(after)) if !is_changed(after, before) => return None,
        (Some(_), Some(_)) => TemplateEffect::Changed,
    };
    let object = after.or(before)?;
    let users: Vec<User> = rollouts.iter().filter_map(|rollout| user(object, rollout, differences)).collect();
    let (mut metrics, mut spec) = (Vec::new(), Vec::new());
    if let (Some(before), Some(after)) = (before, after) {
        metrics = metric_changes(&before["spec"]["metrics"], &after["spec"]["metrics"]);
        spec = changes(&without_metrics(&before["spec"]), &without_metrics(&after["spec"]), "spec");
    }
    let (namespace, name) = key_of(object);
    let kind = object["kind"].as_str().unwrap_or_default();
    let analysis_template =
        if kind == KINDS[0] { format!("{kind} {namespace}/{name}") } else { format!("{kind} {name}") };
    Some(TemplateDifference {
        analysis_template,
        effect,
        summary: summary(effect, &users).to_owned(),
        metrics,
        spec,
        used_by: users.iter().map(|user| format!("{} ({})", user.rollout, user.places.join(", "))).collect(),
        canaries: users.iter().filter_map(|user| canary(effect, user)).collect(),
        faults: after.map_or_else(Vec::new, |after| faults(&after["spec"], &users)),
    })
}

fn summary(effect: TemplateEffect, users: &[User]) -> &'static str {
    match effect {
        TemplateEffect::New if users.is_empty() => "a new template: nothing names it",
        TemplateEffect::New => "a new template: no rollout starts by it",
        TemplateEffect::Removed => {
            "REMOVED: where its tool prunes, gates that name it wait with TemplateMissing until it is there again"
        }
        TemplateEffect::Changed if users.is_empty() => "no rollout starts: nothing names it",
        TemplateEffect::Changed if users.iter().all(|user| !user.stays) => {
            "no rollout starts by it: what is measured is no part of a revision"
        }
        TemplateEffect::Changed => {
            "no rollout starts by it; a canary under way is judged by it from its next measurement on"
        }
    }
}

/// Templates are read anew in every pass, and a verdict is made only of a new measurement.
fn canary(effect: TemplateEffect, user: &User) -> Option<String> {
    let number = user.canary?;
    let who = format!("r{number} of {} is under way", user.rollout);
    Some(match effect {
        TemplateEffect::New => format!("{who}: gates that waited for this template measure by it"),
        TemplateEffect::Removed => format!("{who}: it stays where it is at these gates"),
        TemplateEffect::Changed => {
            format!("{who}: what was counted stays counted, and a metric or a step that has its verdict keeps it")
        }
    })
}

fn user(template: &Value, rollout: &Value, differences: &[Difference]) -> Option<User> {
    let (namespace, name) = key_of(rollout);
    let strategy = strategy::parse(&namespace, &rollout["spec"]);
    let (of, wanted) = key_of(template);
    let is_cluster = template["kind"] == KINDS[1];
    let mut user = User {
        rollout: format!("{namespace}/{name}"),
        places: Vec::new(),
        ends: BTreeSet::new(),
        stays: true,
        canary: None,
    };
    for (step, gate) in strategy.gates() {
        let names_it = gate.templates.iter().any(|one| {
            one.template_name == wanted
                && one.cluster_scope.unwrap_or(false) == is_cluster
                && (is_cluster || of == namespace)
        });
        if names_it {
            user.places.push(step.map_or_else(|| "background".to_owned(), |step| format!("step {}", step + 1)));
            user.ends.insert(End::of(gate, step.is_none()));
        }
    }
    if user.places.is_empty() {
        return None;
    }
    let difference = differences.iter().find(|one| one.rollout == user.rollout);
    // A commit that changes the revision, too, ends the canary that is under way.
    user.stays =
        difference.is_none_or(|one| matches!(one.effect, Effect::Nothing | Effect::NoRollout | Effect::Invalid));
    let status: RolloutStatus = serde_json::from_value(rollout["status"].clone()).unwrap_or_default();
    user.canary = status.in_progress().filter(|_| user.stays).map(|canary| canary.revision);
    Some(user)
}

/// What the controller says of the template where it is used.
fn faults(spec: &Value, users: &[User]) -> Vec<String> {
    let mut ends: BTreeSet<End> = users.iter().flat_map(|user| user.ends.iter().copied()).collect();
    // What nothing names may be meant for the background.
    if ends.is_empty() {
        ends.insert(End::Never);
    }
    let told = ends.into_iter().filter_map(|end| parse_template(spec, end).err());
    let all: BTreeSet<String> = told.flatten().map(|fault| fault.to_string()).collect();
    all.into_iter().collect()
}

fn without_metrics(spec: &Value) -> Value {
    let mut rest = spec.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("metrics");
    }
    rest
}

/// Every field of every metric that differs; metrics are the same by their names.
fn metric_changes(from: &Value, to: &Value) -> Vec<Change> {
    let by_name = |list: &Value| -> BTreeMap<String, Value> {
        let metrics = list.as_array().into_iter().flatten();
        metrics.map(|metric| (metric["name"].as_str().unwrap_or_default().to_owned(), metric.clone())).collect()
    };
    let (from, to) = (by_name(from), by_name(to));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let of = |name: &String| {
        let side = |side: &BTreeMap<String, Value>| side.get(name).cloned().unwrap_or_default();
        changes(&side(&from), &side(&to), &format!("metrics[{name}]"))
    };
    names.into_iter().flat_map(of).collect()
}
