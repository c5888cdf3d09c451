//! Which deployment tool of the input applies an object, and how sure that is.

use serde_json::Value;

use super::gitops::APPLICATION;
use super::input::{Input, Object};
use super::subject::Subject;

/// How sure it is that a tool applies an object, from not at all; and what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    /// It does not.
    No,
    /// Nothing says.
    Unknown,
    /// Names or places say so.
    Likely(String),
    /// The object, the tool or the path says so.
    Surely(String),
}

impl Holds {
    fn rank(&self) -> u8 {
        match self {
            Self::No => 0,
            Self::Unknown => 1,
            Self::Likely(_) => 2,
            Self::Surely(_) => 3,
        }
    }

    /// The rest of a sentence about a tool and objects of this name.
    pub(super) fn told(&self, what: &str) -> String {
        match self {
            Self::No => format!("it does not apply {what}"),
            Self::Unknown => format!("whether it applies {what} is not known: nothing in the input says so"),
            Self::Likely(why) => format!("it probably applies {what}: {why}"),
            Self::Surely(why) => format!("it applies {what}: {why}"),
        }
    }
}

/// The tools that apply a Rollout's VirtualServices, each with how sure that is: those of which it is surest, so that one that
/// is known to hold them keeps the others out.
pub(super) fn of<'a>(subject: &Subject<'_>, tools: &[&'a Object], routes: &[Route<'_>]) -> Vec<(&'a Object, Holds)> {
    let all: Vec<(&Object, Holds)> = tools
        .iter()
        .map(|tool| {
            let holds = routes.iter().map(|route| holds(subject, tool, route));
            (*tool, holds.max_by_key(Holds::rank).unwrap_or(Holds::Unknown))
        })
        .collect();
    let most = all.iter().map(|(_, holds)| holds.rank()).max().unwrap_or(0);
    all.into_iter().filter(|(_, holds)| holds.rank() == most && *holds != Holds::No).collect()
}

/// A VirtualService: its name, and itself where it is in the input.
pub(super) struct Route<'a> {
    /// Its name.
    pub name: &'a str,
    /// Itself.
    pub object: Option<&'a Object>,
}

fn holds(subject: &Subject<'_>, tool: &Object, route: &Route<'_>) -> Holds {
    let own = route.object.and_then(|object| {
        by_record(tool, object).or_else(|| by_status(tool, object)).or_else(|| by_path(subject.input, tool, object))
    });
    own.unwrap_or_else(|| by_name(tool, &[route.name, &subject.object.name]))
}

/// What the object itself records of the tool, as one that was read from a cluster does.
fn by_record(tool: &Object, object: &Object) -> Option<Holds> {
    let label = |key: &str| object.value.pointer("/metadata/labels")?.get(key)?.as_str();
    let (record, key) = if tool.is(APPLICATION) {
        let tracked = object.annotation("argocd.argoproj.io/tracking-id").and_then(|id| id.split(':').next());
        (tracked.or_else(|| label("argocd.argoproj.io/instance"))?, "tracking")
    } else {
        (label("kustomize.toolkit.fluxcd.io/name")?, "label kustomize.toolkit.fluxcd.io/name")
    };
    // An Application outside Argo CD's own namespace has that before its name.
    let name = record.rsplit('_').next().unwrap_or(record);
    Some(if name == tool.name { Holds::Surely(format!("its {key} says so")) } else { Holds::No })
}

/// What the tool's status lists, where it was read from a cluster.
fn by_status(tool: &Object, object: &Object) -> Option<Holds> {
    let has = if tool.is(APPLICATION) {
        let listed = tool.value.pointer("/status/resources")?.as_array()?;
        let is = |one: &Value, key: &str, wanted: &str| one.get(key).and_then(Value::as_str) == Some(wanted);
        listed.iter().any(|one| {
            is(one, "kind", &object.kind) && is(one, "name", &object.name) && is(one, "namespace", &object.namespace)
        })
    } else {
        let listed = tool.value.pointer("/status/inventory/entries")?.as_array()?;
        let id = format!("{}_{}_{}_{}", object.namespace, object.name, object.group(), object.kind);
        listed.iter().any(|one| one.get("id").and_then(Value::as_str) == Some(&id))
    };
    Some(if has { Holds::Surely("its status lists it".to_owned()) } else { Holds::No })
}

/// Where the object's file is, against the paths that the tool applies.
fn by_path(input: &Input, tool: &Object, object: &Object) -> Option<Holds> {
    let paths = paths(tool);
    if let Some(path) = paths.iter().find(|path| is_below(&object.file, path)) {
        return Some(Holds::Surely(format!("its path {path} has {}", object.file)));
    }
    // A folder that is built may take in any other; one that is applied as it is does not.
    let is_plain = |path: &&str| {
        input.objects.iter().any(|other| is_below(&other.file, path))
            && !input.settings.built.iter().any(|folder| is_below(&format!("{folder}/x"), path))
    };
    (!paths.is_empty() && paths.iter().all(|path| is_plain(&path.as_str()))).then_some(Holds::No)
}

/// The paths in repositories that a tool applies, without those that say nothing.
fn paths(tool: &Object) -> Vec<String> {
    let of = |pointer: &str| tool.text(pointer).map(str::to_owned);
    let mut paths: Vec<String> =
        if tool.is(APPLICATION) { of("/spec/source/path") } else { of("/spec/path") }.into_iter().collect();
    let several = tool.list("/spec/sources").iter().filter_map(|source| source.get("path")?.as_str());
    paths.extend(several.map(str::to_owned));
    paths.retain(|path| !parts(path).is_empty());
    paths
}

/// The parts of a path; none for the root of a repository, or where it leads upwards.
fn parts(path: &str) -> Vec<&str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !["", "."].contains(part)).collect();
    if parts.contains(&"..") { Vec::new() } else { parts }
}

/// Whether a file is in a folder of a repository, whose root may be any folder above.
fn is_below(file: &str, folder: &str) -> bool {
    let (file, folder) = (parts(file), parts(folder));
    let (_, above) = file.split_last().unwrap_or((&"", &[]));
    !folder.is_empty() && above.windows(folder.len()).any(|part| part == folder)
}

/// What the names say.
fn by_name(tool: &Object, names: &[&str]) -> Holds {
    let is_alike = |text: &str, name: &str| {
        text == name || text.starts_with(&format!("{name}-")) || text.ends_with(&format!("-{name}"))
    };
    for name in names.iter().filter(|name| !name.is_empty()) {
        if is_alike(&tool.name, name) {
            return Holds::Likely("its name says so".to_owned());
        }
        if paths(tool).iter().any(|path| parts(path).iter().any(|part| part == name)) {
            return Holds::Likely("its path says so".to_owned());
        }
    }
    Holds::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_below_folders_of_a_repository() {
        assert!(is_below("deploy/apps/checkout/route.yaml", "apps/checkout"));
        assert!(is_below("apps/checkout/sub/route.yaml", "./apps/checkout/"));
        assert!(!is_below("apps/orders/route.yaml", "apps/checkout"));
        assert!(!is_below("stdin", "apps") && !is_below("apps", "apps"));
        assert!(!is_below("apps/route.yaml", ".") && !is_below("apps/route.yaml", "x/../apps"));
    }
}
