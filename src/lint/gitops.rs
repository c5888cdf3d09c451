//! What Argo CD, Flux and kustomize do to a Rollout and its route.

use std::fmt::Write as _;

use serde_json::Value;

use super::find::{Found, Mark};
use super::holder::{self, Holds, Route as Held};
use super::input::{DESTINATION_RULE, Input, Kind, Object};
use super::route::of_input;
use super::rule;
use super::steps;
use super::subject::Subject;
use crate::api::duration::DurationText;
use crate::api::istio::Protocol;
use crate::api::names;
use crate::plan::strategy::{RouteKind, Routing, Target};

pub(super) const APPLICATION: Kind = ("argoproj.io", "Application");
const KUSTOMIZATION: Kind = ("kustomize.toolkit.fluxcd.io", "Kustomization");
/// Annotations by which Flux writes an object once, or never.
const ONCE: [(&str, &str); 3] = [
    ("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent"),
    ("kustomize.toolkit.fluxcd.io/ssa", "Ignore"),
    ("kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
];
/// Kinds of other progressive delivery controllers.
const OTHERS: [Kind; 6] = [
    ("argoproj.io", "Rollout"),
    ("argoproj.io", "AnalysisTemplate"),
    ("argoproj.io", "ClusterAnalysisTemplate"),
    ("argoproj.io", "AnalysisRun"),
    ("argoproj.io", "Experiment"),
    ("flagger.app", "Canary"),
];

/// Looks at what deployment tools do to one Rollout.
pub(super) fn check(subject: &Subject<'_>, found: &mut Found) {
    let object = subject.object;
    if [object, subject.holder].iter().all(|one| one.annotation(names::GIT_COMMIT).is_none()) {
        let message = format!("has no annotation {}, so that statuses and events name no commit", names::GIT_COMMIT);
        found.add_with(&rule::NO_GIT_COMMIT, (object, "metadata", Mark::Key), message, "");
    }
    check_annotations(object, found);
    let tools: Vec<&Object> = subject
        .input
        .of(APPLICATION)
        .chain(subject.input.of(KUSTOMIZATION))
        .filter(|tool| deploys_to(tool, object))
        .collect();
    if let Some((kind, targets)) = subject.strategy.routing.as_ref().and_then(Routing::in_git) {
        let named = |target: &'_ Target| target.object.clone();
        let names: Vec<String> = targets.iter().map(named).collect();
        let find = |name: &str| subject.input.find(of_input(kind), &object.namespace, name);
        let routes: Vec<Held<'_>> = names.iter().map(|name| Held { name, object: find(name) }).collect();
        let holders = holder::of(subject, &tools, &routes);
        if holders.is_empty() {
            let message = "is in Git: a sync in the middle of a canary writes the weights back".to_owned();
            let or_owned = if kind == RouteKind::VirtualService { ", or use `owned`" } else { "" };
            let fix = format!("give Argo CD or Flux what docs/lint.md#{} shows{or_owned}", rule::ROUTE_IN_GIT.id);
            let path = if subject.names_one() { kind.field().to_owned() } else { format!("{}s", kind.field()) };
            found.add_with(&rule::ROUTE_IN_GIT, (object, &path, Mark::Key), message, &fix);
        }
        for (tool, holds) in &holders {
            check_drift(subject, (kind, targets), (tool, holds), found);
        }
    }
    for tool in tools.iter().filter(|tool| tool.is(KUSTOMIZATION)) {
        check_wait(subject, tool, found);
    }
}

/// Whether a tool deploys into the namespace of an object, as far as both say.
fn deploys_to(tool: &Object, object: &Object) -> bool {
    let into = if tool.is(APPLICATION) {
        tool.text("/spec/destination/namespace")
    } else {
        tool.text("/spec/targetNamespace")
    };
    let own = object.text("/metadata/namespace");
    match (into, own) {
        (Some(into), Some(own)) => into == own,
        (None, _) | (_, None) => true,
    }
}

fn check_annotations(object: &Object, found: &mut Found) {
    const FORCED: [(&str, &str); 2] =
        [("kustomize.toolkit.fluxcd.io/force", "enabled"), ("argocd.argoproj.io/sync-options", "Replace=true")];
    for (key, value) in FORCED.iter().filter(|pair| is_annotated(object, pair)) {
        let message =
            format!("{value} replaces the whole Rollout: its replicas, and its pods where it is created again");
        found.add_with(&rule::FORCED_APPLY, (object, &format!("metadata.annotations.{key}"), Mark::Key), message, "");
    }
    for (key, value) in ONCE.iter().filter(|pair| is_annotated(object, pair)) {
        let message = format!("{value} keeps every later commit from the cluster: no canary ever begins");
        found.add_with(&rule::APPLIED_ONCE, (object, &format!("metadata.annotations.{key}"), Mark::Key), message, "");
    }
}

fn is_annotated(object: &Object, (key, value): &(&str, &str)) -> bool {
    let given = object.annotation(key).unwrap_or_default().to_lowercase();
    given.split(',').any(|one| one.trim() == value.to_lowercase())
}

/// Whether a tool leaves alone what Serin writes in the middle of a canary.
fn check_drift(
    subject: &Subject<'_>,
    (kind, targets): (RouteKind, &[Target]),
    (tool, holds): (&Object, &Holds),
    found: &mut Found,
) {
    let is_argo = tool.is(APPLICATION);
    let rule = if let Some(Routing::InPlace { rule: Some((name, ..)), .. }) = &subject.strategy.routing {
        Some(name.as_str())
    } else {
        None
    };
    let routes: Vec<&str> = targets.iter().map(|target| target.object.as_str()).collect();
    let spares = |kind: Kind, names: &[&str]| {
        let is_once = |object: &Object| ONCE.iter().any(|pair| is_annotated(object, pair));
        let find = |name: &str| subject.input.find(kind, &subject.object.namespace, name);
        ignores(tool, kind) || (!is_argo && names.iter().all(|name| find(name).is_some_and(is_once)))
    };
    let mut lacking = Vec::new();
    if !spares(of_input(kind), &routes) {
        lacking.push("weights");
    }
    if rule.is_some_and(|rule| !spares(DESTINATION_RULE, &[rule])) {
        lacking.push("subsets");
    }
    if !lacking.is_empty() {
        let message = format!(
            "does not ignore the {} of {} that Serin writes; {}",
            lacking.join(" and the "),
            subject.object.title(),
            holds.told(&format!("{kind} {}", routes.join(", ")))
        );
        let fix = if is_argo { argo_snippet(kind, rule.is_some()) } else { flux_snippet((kind, targets), subject) };
        let path =
            if tool.value.pointer("/spec/ignoreDifferences").is_some() { "spec.ignoreDifferences" } else { "spec" };
        found.add_with(&rule::ROUTE_DRIFT, (tool, path, Mark::Key), message, &fix);
    } else if is_argo {
        check_options(tool, found);
    }
}

/// Argo CD compares without the weights: with what else may it write them, and does it write what Git changes?
fn check_options(tool: &Object, found: &mut Found) {
    let options = tool.list("/spec/syncPolicy/syncOptions");
    let place = |wanted: &str| options.iter().position(|option| option.as_str() == Some(wanted));
    if let Some(index) = place("RespectIgnoreDifferences=true") {
        let message = "keeps every list that has something ignored as the cluster has it: what Git changes of the route never arrives";
        found.add(&rule::EDITS_NOT_APPLIED, tool, &format!("spec.syncPolicy.syncOptions[{index}]"), message.to_owned());
    } else if place("ApplyOutOfSyncOnly=true").is_none() {
        let message =
            "ignores the weights in the comparison alone: a sync for any other reason writes them back".to_owned();
        found.add_with(&rule::IGNORE_NOT_RESPECTED, (tool, "spec.ignoreDifferences", Mark::Key), message, "");
    }
}

/// Whether a tool ignores what Serin writes in objects of a kind.
fn ignores(tool: &Object, (group, kind): Kind) -> bool {
    let names = |entry: &Value, key: &str, wanted: &str| {
        entry.get(key).and_then(Value::as_str).is_none_or(|it| it == wanted || it == "*")
    };
    if tool.is(APPLICATION) {
        let hides = |entry: &Value| {
            let list =
                |key: &str| entry.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            list("jqPathExpressions").any(|one| one.contains("weight") || one.contains("subsets"))
                || list("jsonPointers").any(|one| one.starts_with("/spec"))
                || list("managedFieldsManagers").any(|one| one == names::FIELD_MANAGER)
        };
        return tool.list("/spec/ignoreDifferences").iter().any(|entry| {
            entry.get("kind").is_some() && names(entry, "kind", kind) && names(entry, "group", group) && hides(entry)
        });
    }
    tool.list("/spec/ignore").iter().any(|entry| {
        let target = entry.get("target").unwrap_or(&Value::Null);
        names(target, "kind", kind) && names(target, "group", group)
    })
}

fn argo_snippet(route: RouteKind, has_rule: bool) -> String {
    let (group, path) =
        (route.group(), format!(".spec.{}[]?.{}[]?.weight", route.routes(Protocol::Http), route.destinations()));
    let rule = "\n  - group: networking.istio.io\n    kind: DestinationRule\n    jqPathExpressions:\n    - .spec.subsets[]?.labels";
    format!(
        "add to the Application:\nspec:\n  ignoreDifferences:\n  - group: {group}\n    kind: {route}\n    jqPathExpressions:\n    - {path}{}\n  syncPolicy:\n    syncOptions: [ApplyOutOfSyncOnly=true]",
        if has_rule { rule } else { "" }
    )
}

/// Flux names list items by their index.
fn flux_snippet((kind, targets): (RouteKind, &[Target]), subject: &Subject<'_>) -> String {
    let (list, inner) = (kind.routes(Protocol::Http), kind.destinations());
    let mut text = "add to the Kustomization (Flux 2.9 and later):\nspec:\n  ignore:".to_owned();
    for target in targets {
        let object = subject.input.find(of_input(kind), &subject.object.namespace, &target.object);
        let routes = object.map_or(&[][..], |object| object.list(&format!("/spec/{list}")));
        let mut paths: Vec<String> = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let legs = route.get(inner).and_then(Value::as_array).map_or(0, Vec::len);
            paths.extend((0..legs).map(|leg| format!("/spec/{list}/{at}/{inner}/{leg}/weight")));
        }
        if paths.is_empty() {
            paths = [0, 1].map(|leg| format!("/spec/{list}/0/{inner}/{leg}/weight")).to_vec();
        }
        let name = &target.object;
        let _ = write!(
            text,
            "\n  - paths: [{}]\n    target: {{group: {}, kind: {kind}, name: {name}}}",
            paths.join(", "),
            kind.group()
        );
    }
    if let Some(Routing::InPlace { rule: Some((name, ..)), .. }) = &subject.strategy.routing {
        let _ = write!(
            text,
            "\n  - paths: [/spec/subsets]\n    target: {{group: networking.istio.io, kind: DestinationRule, name: {name}}}"
        );
    }
    text.push_str("\nor, before Flux 2.9, annotate these objects: kustomize.toolkit.fluxcd.io/ssa: IfNotPresent; then what Git changes of them does not arrive");
    text
}

/// A tool that waits for health gives up before the steps are over.
fn check_wait(subject: &Subject<'_>, tool: &Object, found: &mut Found) {
    let waits = tool.value.pointer("/spec/wait").and_then(Value::as_bool) == Some(true)
        || !tool.list("/spec/healthChecks").is_empty();
    let written = ["timeout", "interval"].into_iter().find_map(|key| Some((key, tool.text(&format!("/spec/{key}"))?)));
    let Some((key, text)) = written.filter(|_| waits) else { return };
    let Ok(limit) = DurationText::Text(text.to_owned()).parse() else { return };
    let takes = steps::length(subject, 0);
    if takes.is_none_or(|takes| takes > limit) {
        let takes = takes.map_or_else(|| "wait for a person".to_owned(), |takes| format!("take {takes:#}"));
        let message = format!("{text} is over before the steps of {} are: they {takes}", subject.object.title());
        found.add(&rule::WAIT_TOO_SHORT, tool, &format!("spec.{key}"), message);
    }
}

/// Looks at deployment tools and at objects of other controllers.
pub(super) fn check_all(input: &Input, found: &mut Found) {
    for object in input.objects.iter().filter(|object| OTHERS.iter().any(|kind| object.is(*kind))) {
        let message = format!("{} of {} is not Serin's, and Serin does not look at it", object.kind, object.group());
        found.add(&rule::OTHER_CONTROLLER, object, "apiVersion", message);
    }
    for tool in input.of(KUSTOMIZATION) {
        if tool.value.pointer("/spec/force").and_then(Value::as_bool) == Some(true) {
            let message = "deletes and creates again what cannot be changed, such as a Rollout with another selector: its pods go first";
            found.add(&rule::FORCED_APPLY, tool, "spec.force", message);
        }
    }
    for tool in input.of(APPLICATION) {
        let options = tool.list("/spec/syncPolicy/syncOptions");
        for (index, option) in options.iter().enumerate() {
            if let Some(option) = option.as_str().filter(|option| ["Replace=true", "Force=true"].contains(option)) {
                let message = format!("{option} replaces whole objects, a Rollout's replicas and pods among them");
                found.add(&rule::FORCED_APPLY, tool, &format!("spec.syncPolicy.syncOptions[{index}]"), message);
            }
        }
        check_revision(tool, found);
    }
}

fn check_revision(tool: &Object, found: &mut Found) {
    let one = tool.value.pointer("/spec/source").map(|source| (source, "spec.source".to_owned()));
    let several =
        tool.list("/spec/sources").iter().enumerate().map(|(index, source)| (source, format!("spec.sources[{index}]")));
    for (source, path) in one.into_iter().chain(several) {
        let revision = source.get("targetRevision").and_then(Value::as_str).unwrap_or_default();
        if ["", "HEAD", "*"].contains(&revision) {
            let message = if revision.is_empty() { "is missing".to_owned() } else { format!("is {revision}") };
            found.add(&rule::REVISION_NOT_PINNED, tool, &format!("{path}.targetRevision"), message);
        }
    }
}
