//! The steps of a canary of Argo, and its analysis in the background. A gate that has no equal becomes a pause that a
//! person ends: no step lets through what it held before.

use super::super::report::Decision;
use super::super::table::{Loss, Work, comment, pattern, refusal};
use super::super::yaml::{Entry, Item, List, Map, Node, Scalar};
use super::Template;
use crate::api::schema::ROLLOUT_REFUSED;

/// Every step.
pub(super) fn steps(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let Node::List(mut list) = entry.value else {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    };
    let mut kept: Vec<Item> = Vec::new();
    for (index, item) in std::mem::take(&mut list.items).into_iter().enumerate() {
        let place = format!("{path}[{index}]");
        let Node::Map(map) = item.value else {
            kept.push(item);
            continue;
        };
        if map.entries.len() > 1 {
            work.tell(&place, Decision::NotSupported, "a step has exactly one member; write one step for each");
        }
        let map = work.fields(&place, map);
        let above: Vec<String> = work.take_left().into_iter().chain(item.above).collect();
        if map.entries.is_empty() {
            work.leave_comments(above.into_iter().chain(map.below).collect());
        } else {
            kept.push(Item { above, beside: item.beside, value: Node::Map(map) });
        }
    }
    list.below = work.take_left().into_iter().chain(list.below).collect();
    if kept.is_empty() && list.below.is_empty() {
        work.tell(path, Decision::Kept, "");
    }
    vec![Entry { value: Node::List(List::with(list, kept)), ..entry }]
}

/// A step that Serin does not have and that held the canary until something was well.
pub(super) fn gate(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let what = entry.key.text.clone();
    let advice = work.refusal(&pattern(path));
    let Some(advice) = advice else {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    };
    let why = format!("{advice}; a pause stands in its place, which a person ends");
    work.leave_out(path, &entry, (Loss::Protection, &why));
    let mut pause = pause();
    pause.above = work.take_left();
    if let Some(last) = pause.above.last_mut() {
        *last = comment(&format!("in place of {what}: {advice}"));
    }
    vec![pause]
}

/// A pause; one whose duration cannot be kept stays, and waits for a person.
pub(super) fn held(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let kept = work.enter(path, entry);
    if !kept.is_empty() {
        return kept;
    }
    let mut pause = pause();
    pause.above = work.take_left();
    vec![pause]
}

fn pause() -> Entry {
    Entry::new("pause", Map::default())
}

/// `setCanaryScale`, which needs a route.
pub(super) fn scale(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    if work.has_route {
        return work.enter(path, entry);
    }
    work.leave_out(path, &entry, (Loss::Harmless, "means nothing without a route: the pods are the weight"));
    Vec::new()
}

/// A header or mirror route, which needs a route of Istio.
pub(super) fn lead(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    if work.argo.is_by_gateway {
        let why = "is not supported with an HTTPRoute: Serin edits its weights alone";
        work.leave_out(path, &entry, (Loss::Protection, why));
        return Vec::new();
    }
    work.tell(path, Decision::Kept, "");
    vec![entry]
}

/// The analysis of a step.
pub(super) fn analysis(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let references = references(&entry.value);
    if !references.is_empty() && references.iter().all(|one| work.argo.is_lost(one)) {
        let why = "no metric of its templates could be converted; a pause stands in its place, which a person ends";
        work.leave_out(path, &entry, (Loss::Protection, why));
        let mut pause = pause();
        pause.above = work.take_left();
        if let Some(last) = pause.above.last_mut() {
            "# in place of analysis: no metric of its templates could be converted".clone_into(last);
        }
        return vec![pause];
    }
    analyse(work, path, entry)
}

/// The analysis in the background.
pub(super) fn background(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let references = references(&entry.value);
    if !references.is_empty() && references.iter().all(|one| work.argo.is_lost(one)) {
        let why = "no metric of its templates could be converted; nothing judges the canary in the background";
        work.leave_out(path, &entry, (Loss::Protection, why));
        return Vec::new();
    }
    analyse(work, path, entry)
}

fn references(analysis: &Node) -> Vec<Template> {
    analysis
        .at(&["templates"])
        .map_or(&[][..], Node::items)
        .iter()
        .filter_map(|item| Template::of(&item.value))
        .collect()
}

/// Templates that are composed of others are named with those; their arguments keep the defaults of what composed them.
fn analyse(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let mut turned = work.enter(path, entry);
    let Some(Entry { value: Node::Map(map), .. }) = turned.first_mut() else { return turned };
    let named = references(&Node::Map(map.clone()));
    let all = work.argo.composed(&named);
    let given: Vec<String> = map
        .get("args")
        .map_or(&[][..], Node::items)
        .iter()
        .filter_map(|item| item.value.text_at(&["name"]).map(str::to_owned))
        .collect();
    let defaults = work.argo.defaults(&named, &all, &given);
    if all != named {
        let told: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        let how =
            format!("{}: what is composed is written out, what could not be converted is left out", told.join(", "));
        work.lines.retain(|line| !line.path.starts_with(&format!("{path}.templates")));
        work.tell(&format!("{path}.templates"), Decision::Translated, &how);
        rewrite_templates(map, &named, &all);
    }
    if !defaults.is_empty() {
        let told: Vec<&str> = defaults.iter().map(|(name, _)| name.as_str()).collect();
        let how = format!("{} of the composing template added", told.join(", "));
        work.tell(&format!("{path}.args"), Decision::Translated, &how);
        add_arguments(map, defaults);
    }
    turned
}

fn rewrite_templates(map: &mut Map, named: &[Template], all: &[Template]) {
    let Some(entry) = map.entries.iter_mut().find(|entry| entry.key.text == "templates") else { return };
    let Node::List(list) = &mut entry.value else { return };
    let items = all.iter().map(|template| {
        let known = named.iter().position(|one| one == template).and_then(|at| list.items.get(at).cloned());
        known.unwrap_or_else(|| {
            let mut entries = vec![Entry::new("templateName", Scalar::string(&template.name))];
            if template.is_cluster {
                entries.push(Entry::new("clusterScope", Scalar::plain("true")));
            }
            Item::new(Map::of(entries))
        })
    });
    list.items = items.collect();
}

fn add_arguments(map: &mut Map, defaults: Vec<(String, String)>) {
    let items = defaults.into_iter().map(|(name, value)| {
        Item::new(Map::of(vec![Entry::new("name", Scalar::string(&name)), Entry::new("value", Scalar::string(&value))]))
    });
    match map.entries.iter_mut().find(|entry| entry.key.text == "args") {
        Some(Entry { value: Node::List(list), .. }) => list.items.extend(items),
        _ => map.entries.push(Entry::new("args", List::of(items.collect()))),
    }
}

/// The step with which the background begins, counted without the steps that are left out.
pub(super) fn starting(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let index: usize = entry.value.text().and_then(|text| text.parse().ok()).unwrap_or(0);
    let gone = work.argo.dropped_steps.iter().filter(|dropped| **dropped < index).count();
    if gone == 0 {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    }
    let left = index - gone;
    work.tell(path, Decision::Translated, &format!("{left}: {gone} of the steps before are left out"));
    vec![entry.with(Scalar::plain(&left.to_string()))]
}

/// The indexes of the steps that are left out wholly.
pub(super) fn dropped(steps: &[Item], (has_route, is_by_gateway): (bool, bool)) -> Vec<usize> {
    let is_gone = |key: &str| match key {
        "setCanaryScale" => !has_route,
        "setHeaderRoute" | "setMirrorRoute" => is_by_gateway,
        "replicaProgressThreshold" => {
            refusal(ROLLOUT_REFUSED, &format!("spec.strategy.canary.steps[].{key}")).is_some()
        }
        _ => false,
    };
    let gone = |item: &Item| {
        let entries = item.value.entries();
        !entries.is_empty() && entries.iter().all(|entry| is_gone(&entry.key.text))
    };
    steps.iter().enumerate().filter(|(_, item)| gone(item)).map(|(index, _)| index).collect()
}
