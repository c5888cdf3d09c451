//! Which objects a list or a watch is about.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector, SelectorExt};
use serde_json::Value;

use super::refusal::Refusal;
use super::store::key_of;

/// Which objects a list or a watch is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The one namespace; none for all.
    pub namespace: Option<String>,
    /// The one name; none for all.
    pub name: Option<String>,
    /// Labels.
    pub labels: Selector,
    /// The one type that is not meant, of Secrets.
    pub other_than: Option<String>,
}

impl Selection {
    /// Reads the selectors of a request.
    pub fn of(namespace: Option<String>, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let mut selection = Self { namespace, ..Self::default() };
        for requirement in requirements(labels) {
            selection.labels.extend(expression(requirement)?);
        }
        for field in requirements(fields) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            if let Some(other) = field.strip_prefix("type!=") {
                selection.other_than = Some(other.to_owned());
                continue;
            }
            let value = value.trim_start_matches('=').to_owned();
            match key {
                "metadata.name" => selection.name = Some(value),
                "metadata.namespace" => selection.namespace = Some(value),
                other => return Err(Refusal::bad_request(&format!("field label not supported: {other}"))),
            }
        }
        Ok(selection)
    }

    /// Whether an object is meant.
    pub fn selects(&self, object: &Value) -> bool {
        let (namespace, name) = key_of(object);
        let labels = || -> BTreeMap<String, String> {
            let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        };
        self.namespace.as_ref().is_none_or(|wanted| *wanted == namespace)
            && self.name.as_ref().is_none_or(|wanted| *wanted == name)
            && self
                .other_than
                .as_deref()
                .is_none_or(|other| object.pointer("/type").and_then(Value::as_str) != Some(other))
            && (self.labels.selects_all() || self.labels.matches(&labels()))
    }
}

/// The parts between commas that are not in brackets.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let parts = text.split(move |letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn expression(text: &str) -> Result<Expression, Refusal> {
    let own = |text: &str| text.trim().to_owned();
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(own(key)));
    }
    for (word, is_in) in [(" notin ", false), (" in ", true)] {
        if let Some((key, values)) = text.split_once(word) {
            let values = values.trim();
            let inner = values.strip_prefix('(').and_then(|values| values.strip_suffix(')')).ok_or_else(|| {
                Refusal::bad_request(&format!("unable to parse requirement: found '{values}' expected: '('"))
            })?;
            let values: BTreeSet<String> = inner.split(',').map(own).collect();
            return Ok(if is_in { Expression::In(own(key), values) } else { Expression::NotIn(own(key), values) });
        }
    }
    Ok(match (text.split_once("!="), text.split_once('=')) {
        (Some((key, value)), _) => Expression::NotEqual(own(key), own(value)),
        (None, Some((key, value))) => Expression::Equal(own(key), own(value.trim_start_matches('='))),
        (None, None) => Expression::Exists(own(text)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_select() {
        let object =
            json!({"metadata": {"name": "a", "namespace": "shop", "labels": {"app": "checkout", "tier": "front"}}});
        for (labels, fields, wanted) in [
            ("", "", true),
            ("app=checkout", "", true),
            ("app == checkout,tier", "", true),
            ("app!=checkout", "", false),
            ("none!=checkout", "", true),
            ("app in (cart, checkout),tier notin (back)", "", true),
            ("app in (cart)", "", false),
            ("!none", "", true),
            ("!app", "", false),
            ("none", "", false),
            ("", "metadata.name=a", true),
            ("", "metadata.name=b", false),
            ("", "type!=Opaque", true),
        ] {
            let selection = Selection::of(Some("shop".into()), labels, fields).unwrap_or_default();
            assert_eq!(selection.selects(&object), wanted, "{labels} {fields}");
        }
    }
}
