//! Names that lead from one object to another: found, misspelt, not rewritten by kustomize, or not in the input.

use std::collections::BTreeMap;

use super::find::{Found, Mark};
use super::input::{Kind, Object};
use super::rule;
use super::subject::Subject;

/// What a name leads to.
pub(super) enum Target<'a> {
    /// The object.
    Found(&'a Object),
    /// Nothing, and that was told.
    Wrong,
    /// Nothing in the input.
    Absent,
}

/// Something that is not in the input, and what was not checked because of it.
pub(super) struct Missing {
    kind: &'static str,
    name: String,
}

impl Missing {
    /// Of a kind, or in other words.
    pub(super) fn of(kind: &'static str, name: &str) -> Self {
        Self { kind, name: name.to_owned() }
    }
}

/// Follows a name in a field of a Rollout; tells where it is clearly wrong.
pub(super) fn follow<'a>(
    subject: &Subject<'a>,
    (kind, name, path): (Kind, &str, &str),
    missing: &mut Vec<Missing>,
    found: &mut Found,
) -> Target<'a> {
    let namespace = subject.object.namespace.as_str();
    if let Some(object) = subject.input.find(kind, namespace, name) {
        return Target::Found(object);
    }
    if let Some(other) = renamed(subject, kind, name) {
        let message = format!(
            "{name} is not in the input, and {} {} is: kustomize renamed the object and not this field",
            kind.1, other.name
        );
        let fix = format!(
            "list the field in kustomize's `configurations:` under nameReference (kind: {}, fieldSpecs: [{{path: {}, kind: Rollout}}])",
            kind.1,
            field_spec(path)
        );
        found.add_with(&rule::NAME_NOT_REWRITTEN, (subject.object, path, Mark::Value), message, &fix);
        return Target::Wrong;
    }
    let others: Vec<String> = subject.input.of_in(kind, namespace).map(|other| other.name.clone()).collect();
    if let Some(other) = nearest(name, &others).filter(|_| name.len() >= 4) {
        let message = format!("{} {name} is not in the input, and {other} is", kind.1);
        let fix = format!("write {other}, or add {name} to the input");
        found.add_with(&rule::NAME_MISSPELT, (subject.object, path, Mark::Value), message, &fix);
        return Target::Wrong;
    }
    missing.push(Missing::of(kind.1, name));
    Target::Absent
}

/// The one object whose name is this one with the prefix or suffix that the Rollout's own name has.
fn renamed<'a>(subject: &Subject<'a>, kind: Kind, name: &str) -> Option<&'a Object> {
    let own = subject.object.name.as_str();
    let is_renamed = |other: &&Object| {
        let prefix = other.name.strip_suffix(name).filter(|prefix| prefix.ends_with('-') && own.starts_with(*prefix));
        let suffix = other.name.strip_prefix(name).filter(|suffix| suffix.starts_with('-') && own.ends_with(*suffix));
        prefix.or(suffix).is_some_and(|affix| affix.len() > 1)
    };
    let mut all = subject.input.of_in(kind, &subject.object.namespace).filter(is_renamed);
    all.next().filter(|_| all.next().is_none())
}

/// A path as kustomize writes it: `spec/strategy/canary/steps[]/analysis/templates[]/templateName`.
fn field_spec(path: &str) -> String {
    let parts = path.split('.').map(|part| part.split_once('[').map_or(part, |(name, _)| name));
    parts.collect::<Vec<_>>().join("/")
}

/// The one name that is nearly this one.
pub(super) fn nearest(name: &str, known: &[String]) -> Option<String> {
    let limit = if name.len() <= 4 { 1 } else { 2 };
    let lower = name.to_lowercase();
    let distance = |other: &String| strsim::osa_distance(&lower, &other.to_lowercase());
    let best = known.iter().map(distance).min().filter(|best| *best <= limit)?;
    let mut near = known.iter().filter(|other| distance(other) == best);
    near.next().filter(|_| near.next().is_none()).cloned()
}

/// One note of all that a Rollout names and the input lacks.
pub(super) fn tell_missing(subject: &Subject<'_>, missing: &[Missing], found: &mut Found) {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in missing {
        let of_kind = names.entry(one.kind).or_default();
        if !of_kind.contains(&one.name.as_str()) {
            of_kind.push(&one.name);
        }
    }
    if names.is_empty() {
        return;
    }
    let named: Vec<String> = names.iter().map(|(kind, names)| format!("{kind} {}", names.join(", "))).collect();
    let message = format!("was not checked against what the input lacks: {}", named.join("; "));
    found.add_with(&rule::NOT_IN_INPUT, (subject.object, "spec", Mark::Key), message, "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_right() {
        let known = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(nearest("setWieght", &known(&["setWeight", "pause"])), Some("setWeight".into()));
        assert_eq!(nearest("setweight", &known(&["setWeight", "pause"])), Some("setWeight".into()));
        assert_eq!(nearest("weight", &known(&["setWeight", "pause"])), None);
        assert_eq!(nearest("app1", &known(&["app2", "app3"])), None);
    }

    #[test]
    fn field_specs_are_kustomizes() {
        assert_eq!(
            field_spec("spec.strategy.canary.steps[2].analysis.templates[0].templateName"),
            "spec/strategy/canary/steps/analysis/templates/templateName"
        );
    }
}
