//! What names, labels, containers and ports may be. API servers refuse the object, or the pods that a Rollout asks for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::find::{Found, Mark};
use super::input::{DEPLOYMENT, Object, ROLLOUT, SERVICE};
use super::rule::{self, Rule};
use crate::api::syntax::{self, LABEL_MOST, SUBDOMAIN_MOST};

/// What a text may be.
struct Form {
    /// Its characters, in words.
    words: &'static str,
    /// Bytes that it may have.
    most: usize,
    /// Whether its characters, and their places, are right.
    fits: fn(&str) -> bool,
}

/// RFC 1123: most objects.
const SUBDOMAIN: Form = Form {
    words: "lower case letters, digits, - and ., and each part between dots begins and ends with a letter or a digit",
    most: SUBDOMAIN_MOST,
    fits: syntax::is_subdomain,
};
/// RFC 1123: namespaces, containers, ports of Services.
const LABEL: Form = Form {
    words: "lower case letters, digits and -, and begins and ends with a letter or a digit",
    most: LABEL_MOST,
    fits: syntax::is_label,
};
/// RFC 1035: Services.
const SERVICE_NAME: Form = Form {
    words: "lower case letters, digits and -, begins with a letter and ends with a letter or a digit",
    most: LABEL_MOST,
    fits: |text| syntax::is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase()),
};
/// Values of labels.
const LABEL_VALUE: Form = Form {
    words: "letters, digits, -, _ and ., and begins and ends with a letter or a digit",
    most: LABEL_MOST,
    fits: |text| text.is_empty() || syntax::is_name(text),
};
/// Keys of labels and annotations, after the slash.
const KEY: Form = Form { words: LABEL_VALUE.words, most: LABEL_MOST, fits: syntax::is_name };
/// RFC 6335: ports of containers.
const PORT: Form = Form {
    words: "lower case letters, digits and single - between them, with one letter at least",
    most: 15,
    fits: |text| syntax::is_label(text) && !text.contains("--") && text.contains(|one: char| one.is_ascii_lowercase()),
};

impl Form {
    /// Why a text is not of this form.
    fn fault(&self, text: &str) -> Option<String> {
        if (self.fits)(text) && text.len() <= self.most {
            return None;
        }
        if text.is_empty() {
            return Some("is empty".to_owned());
        }
        if text.len() > self.most {
            return Some(format!("has {} characters, and may have {}", text.len(), self.most));
        }
        Some(format!("{text} is refused: it may have only {}", self.words))
    }

    /// What a text may have been meant to be.
    fn near(&self, text: &str) -> String {
        let plain: String = text
            .to_lowercase()
            .chars()
            .map(|one| {
                if one.is_ascii_lowercase() || one.is_ascii_digit() || (one == '.' && self.most == SUBDOMAIN.most) {
                    one
                } else {
                    '-'
                }
            })
            .collect();
        let plain = plain.trim_matches(['-', '.']);
        if self.fault(plain).is_none() { format!("write {plain}") } else { String::new() }
    }
}

/// Looks at an object's own names and labels, and at the pods of a Rollout.
pub(super) fn check(object: &Object, found: &mut Found) {
    check_name(object, found);
    check_maps(object, "metadata", found);
    if object.is(SERVICE) {
        check_labels(object, "spec.selector", found);
        check_service_ports(object, found);
    }
    if object.is(ROLLOUT) {
        check_template(object, found);
    }
}

/// Looks at the pods of a Rollout, in an object that holds their template: the Rollout, or the Deployment that it names.
pub(super) fn check_template(object: &Object, found: &mut Found) {
    check_labels(object, "spec.selector.matchLabels", found);
    check_maps(object, "spec.template.metadata", found);
    check_labels(object, "spec.template.spec.nodeSelector", found);
    check_containers(object, found);
}

/// The value at a path without lists.
fn at<'a>(object: &'a Object, path: &str) -> Option<&'a Value> {
    object.value.pointer(&format!("/{}", path.replace('.', "/")))
}

fn told(form: &Form, (rule, object, path, text): (&'static Rule, &Object, &str, &str), found: &mut Found) {
    if let Some(fault) = form.fault(text) {
        found.add_with(rule, (object, path, Mark::Value), fault, &form.near(text));
    }
}

fn check_name(object: &Object, found: &mut Found) {
    let form = if object.is(SERVICE) { &SERVICE_NAME } else { &SUBDOMAIN };
    if let Some(name) = object.text("/metadata/name").filter(|name| !name.is_empty()) {
        let path = "metadata.name";
        told(form, (&rule::OBJECT_NAME, object, path, name), found);
        // Its children carry it as the value of a label.
        if object.is(ROLLOUT) && name.len() > LABEL_VALUE.most && form.fault(name).is_none() {
            let message = format!("has {} characters: the label of its pods may have {}", name.len(), LABEL_VALUE.most);
            found.add(&rule::OBJECT_NAME, object, path, message);
        }
    } else if let Some(prefix) = object.text("/metadata/generateName").filter(|name| !name.is_empty()) {
        // What is put behind it is letters and digits.
        let whole = format!("{prefix}x");
        if form.fault(&whole).is_some() && whole.len() <= form.most {
            let message = format!("{prefix} is refused: it may have only {}", form.words);
            found.add(&rule::OBJECT_NAME, object, "metadata.generateName", message);
        }
    }
    if let Some(namespace) = object.text("/metadata/namespace").filter(|name| !name.is_empty()) {
        told(&LABEL, (&rule::OBJECT_NAME, object, "metadata.namespace", namespace), found);
    }
}

/// Labels and annotations below a path.
fn check_maps(object: &Object, path: &str, found: &mut Found) {
    check_labels(object, &format!("{path}.labels"), found);
    let path = format!("{path}.annotations");
    for key in at(object, &path).and_then(Value::as_object).into_iter().flat_map(|fields| fields.keys()) {
        // Annotations alone may have capital letters before the slash.
        let lower = key.split_once('/').map_or_else(|| key.clone(), |(front, name)| front.to_lowercase() + "/" + name);
        check_key(object, &path, (key, &lower), found);
    }
}

fn check_labels(object: &Object, path: &str, found: &mut Found) {
    for (key, value) in at(object, path).and_then(Value::as_object).into_iter().flatten() {
        check_key(object, path, (key, key), found);
        // A selector's length is the schema's, which is there for Serin's kinds.
        let is_told = object.is(ROLLOUT)
            && path.ends_with("matchLabels")
            && value.as_str().is_some_and(|value| value.len() > LABEL_VALUE.most);
        if let Some(value) = value.as_str().filter(|_| !is_told)
            && let Some(fault) = LABEL_VALUE.fault(value)
        {
            found.add(&rule::LABEL, object, &format!("{path}.{key}"), fault);
        }
    }
}

/// A key as it is written, and as it is judged.
fn check_key(object: &Object, path: &str, (key, judged): (&str, &str), found: &mut Found) {
    let fault = match judged.split_once('/') {
        Some(("", _)) => Some("has nothing before its slash".to_owned()),
        Some((_, name)) if name.contains('/') => Some("has two slashes, and may have one".to_owned()),
        Some((prefix, name)) => SUBDOMAIN
            .fault(prefix)
            .map(|fault| format!("before the slash: {fault}"))
            .or_else(|| KEY.fault(name).map(|fault| format!("after the slash: {fault}"))),
        None => KEY.fault(judged),
    };
    if let Some(fault) = fault {
        found.add_with(&rule::LABEL, (object, &format!("{path}.{key}"), Mark::Key), fault, "");
    }
}

/// The lists of containers in a template.
const LISTS: [&str; 2] = ["initContainers", "containers"];

fn check_containers(object: &Object, found: &mut Found) {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for list in LISTS {
        for (index, container) in object.list(&format!("/spec/template/spec/{list}")).iter().enumerate() {
            let path = format!("spec.template.spec.{list}[{index}]");
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            let own = format!("{path}.name");
            if !name.is_empty() {
                told(&LABEL, (&rule::CONTAINER, object, &own, name), found);
            }
            match known.get(name) {
                // Two in one list are the schema's, which is there for Serin's kinds.
                Some(other) if *other != list || object.is(DEPLOYMENT) => {
                    let message = format!("{name} is the name of one of the {other}, too");
                    found.add_with(&rule::CONTAINER, (object, &own, Mark::Value), message, "rename one of them");
                }
                Some(_) => {}
                None => {
                    known.insert(name, list);
                }
            }
            check_image(object, container, &path, found);
            check_ports(object, container, &path, found);
        }
    }
}

fn check_image(object: &Object, container: &Value, path: &str, found: &mut Found) {
    let image = container.get("image").unwrap_or(&Value::Null);
    let name = container.get("name").and_then(Value::as_str).unwrap_or("this container");
    let path = format!("{path}.image");
    if image.is_null() || image.as_str() == Some("") {
        let message = format!("{name} has no image");
        found.add_with(&rule::CONTAINER, (object, &path, Mark::Key), message, "name its image");
    } else if image.as_str().is_some_and(|image| image.trim() != image) {
        let message = "begins or ends with a blank".to_owned();
        found.add_with(&rule::CONTAINER, (object, &path, Mark::Value), message, "remove the blank");
    }
}

fn check_ports(object: &Object, container: &Value, path: &str, found: &mut Found) {
    let mut known: Vec<&str> = Vec::new();
    let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    for (index, port) in ports.enumerate() {
        let Some(name) = port.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else { continue };
        let path = format!("{path}.ports[{index}].name");
        told(&PORT, (&rule::PORT_NAME, object, &path, name), found);
        check_twice(object, &path, (name, &mut known), found);
    }
}

fn check_service_ports(object: &Object, found: &mut Found) {
    let ports = object.list("/spec/ports");
    let mut known: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() {
            if ports.len() > 1 {
                let message = "has no name, as each of several ports must".to_owned();
                found.add_with(&rule::PORT_NAME, (object, &path, Mark::Key), message, "name it");
            }
            continue;
        }
        let path = format!("{path}.name");
        told(&LABEL, (&rule::PORT_NAME, object, &path, name), found);
        check_twice(object, &path, (name, &mut known), found);
    }
}

fn check_twice<'a>(object: &Object, path: &str, (name, known): (&'a str, &mut Vec<&'a str>), found: &mut Found) {
    if known.contains(&name) {
        let message = format!("{name} is the name of another port, too");
        found.add_with(&rule::PORT_NAME, (object, path, Mark::Value), message, "rename one of them");
    }
    known.push(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &Form, good: &[&str], bad: &[&str]) {
        good.iter().for_each(|text| assert_eq!(form.fault(text), None, "{text}"));
        bad.iter().for_each(|text| assert!(form.fault(text).is_some(), "{text}"));
    }

    #[test]
    fn what_api_servers_take() {
        let long = |many: usize| "a".repeat(many);
        check(&SUBDOMAIN, &["a", "1.b-c", &long(253)], &["A", "a_b", "-a", "a-", "a..b", "a.-b", "", "ä", &long(254)]);
        check(&LABEL, &["a", "1a", &long(63)], &["a.b", "A", "a-", &long(64)]);
        check(&SERVICE_NAME, &["a1", "a-b"], &["1a", "a.b", "a-", &long(64)]);
        check(&LABEL_VALUE, &["", "V1.2_3-x", &long(63)], &["a b", "-a", "a/b", &long(64)]);
        check(&PORT, &["http", "h2-c", "8a"], &["8080", "a--b", "-a", "Http", "a-very-long-port"]);
    }

    #[test]
    fn what_may_have_been_meant() {
        assert_eq!(SUBDOMAIN.near("Check_Out.v2"), "write check-out.v2");
        assert_eq!(LABEL.near("Check.Out_"), "write check-out");
        assert_eq!(SERVICE_NAME.near("1a"), "", "a digit is not guessed away");
    }
}
