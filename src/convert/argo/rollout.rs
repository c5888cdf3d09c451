//! The parts of a Rollout of Argo that depend on each other: its template, its route and what needs one.

use super::super::report::Decision;
use super::super::table::{Loss, Work};
use super::super::yaml::{Entry, Node, Scalar};

/// `workloadRef`: kept for a Deployment; the template of another kind is written out.
pub(super) fn workload(work: &mut Work<'_>, path: &str, mut entry: Entry) -> Vec<Entry> {
    if entry.value.text_at(&["kind"]) == Some("Deployment") {
        work.tell(path, Decision::Kept, "");
        if let Node::Map(map) = &mut entry.value
            && map.get("scaleDown").is_some()
        {
            map.entries.retain(|one| one.key.text != "scaleDown");
            let how = "nothing: once stable serves, Serin scales the Deployment to 0 where Git leaves its replicas out";
            work.tell(&format!("{path}.scaleDown"), Decision::Translated, how);
        }
        return vec![entry];
    }
    let (kind, name) =
        (entry.value.text_at(&["kind"]).unwrap_or_default(), entry.value.text_at(&["name"]).unwrap_or_default());
    let Some(found) = work.argo.workload(kind, name).cloned() else {
        let why = format!(
            "Serin takes the template of a Deployment and of no {kind}; give the manifest of {kind} {name} with -f, or write the template"
        );
        work.leave_out(path, &entry, (Loss::Protection, &why));
        return Vec::new();
    };
    let how = format!("spec.template is that of {kind} {name}");
    work.tell(path, Decision::Translated, &how);
    work.argo.taken.insert((kind.to_owned(), name.to_owned()));
    let mut entries = Vec::new();
    let spec = found.at(&["spec"]);
    if !work.argo.has_selector
        && let Some(selector) =
            spec.and_then(Node::map).and_then(|map| map.entries.iter().find(|one| one.key.text == "selector"))
    {
        entries.push(Entry { above: Vec::new(), ..selector.clone() });
    }
    let template = if kind == "PodTemplate" { found.at(&["template"]) } else { found.at(&["spec", "template"]) };
    entries.extend(template.map(|template| Entry::new("template", template.clone())));
    if let Some(first) = entries.first_mut() {
        first.above.clone_from(&entry.above);
        first.beside.clone_from(&entry.beside);
    }
    entries
}

/// The route: Istio's is kept, and so are HTTPRoutes.
pub(super) fn routing(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    if work.has_route {
        return work.enter(path, entry);
    }
    let others: Vec<&str> = entry.value.entries().iter().map(|one| one.key.text.as_str()).collect();
    let why = format!(
        "Serin routes by Istio and by HTTPRoutes, and this is {}; without a route the pods are the weight, behind one Service",
        if others.is_empty() { "empty".to_owned() } else { others.join(", ") }
    );
    for one in entry.value.entries() {
        work.tell(&format!("{path}.{}", one.key.text), Decision::NotSupported, "see trafficRouting");
    }
    work.leave_out(path, &entry, (Loss::Protection, &why));
    Vec::new()
}

/// The name of a VirtualService: it is in the Rollout's namespace.
pub(super) fn route_name(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let name = entry.value.text().unwrap_or_default().to_owned();
    match name.split_once('.') {
        None => {
            work.tell(path, Decision::Kept, "");
            vec![entry]
        }
        Some((name, namespace)) if Some(namespace) == work.argo.namespace.as_deref() => {
            work.tell(path, Decision::Translated, "without the namespace, which is the Rollout's");
            vec![entry.with(Scalar::string(name))]
        }
        Some((_, namespace)) => {
            let why = format!(
                "the VirtualService is in namespace {namespace}; move its route into the Rollout's namespace, as a delegate"
            );
            work.leave_out(path, &entry, (Loss::Protection, &why));
            vec![entry]
        }
    }
}

/// The two Services: for weights between hosts.
pub(super) fn services(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let why = if !work.has_route {
        "without a route the pods are the weight, behind one Service that selects them all"
    } else if work.argo.has_subsets {
        "is not needed: the weights lie between two subsets of one Service"
    } else {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    };
    work.leave_out(path, &entry, (Loss::Harmless, why));
    Vec::new()
}

/// `maxSurge`, which means something without a route alone.
pub(super) fn surge(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    if work.has_route {
        work.leave_out(path, &entry, (Loss::Harmless, "means nothing with a route, neither there nor here"));
        return Vec::new();
    }
    work.tell(path, Decision::Kept, "");
    vec![entry]
}

/// What means something with a route alone.
pub(super) fn needs_route(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    if !work.has_route {
        work.leave_out(path, &entry, (Loss::Harmless, "means nothing without a route"));
        return Vec::new();
    }
    work.tell(path, Decision::Kept, "");
    vec![entry]
}
