//! The template of an earlier revision as the user wrote it, from its ReplicaSet: what API servers fill in stays out. Nothing is
//! believed that does not have the revision's hash.

use serde_json::{Map, Value};
use thiserror::Error;

use super::origin::without_own;
use crate::plan::revision;

/// Places that look like a default and may have been written: all combinations are tried for so many.
const TRIED_MOST: usize = 12;
/// Places that an error names.
const TOLD_MOST: usize = 8;

/// The template cannot be had back.
#[derive(Debug, Error)]
#[error(
    "the template of revision {hash} cannot be had back exactly from its ReplicaSet: what API servers filled in and what Git held look alike in {}; take it from Git, as kubectl serin undo {rollout} tells", told(.places)
)]
pub struct Lost {
    rollout: String,
    hash: String,
    places: Vec<String>,
}

fn told(places: &[String]) -> String {
    let told: Vec<&str> = places.iter().take(TOLD_MOST).map(String::as_str).collect();
    match places.len().saturating_sub(TOLD_MOST) {
        0 if told.is_empty() => "spec.template".to_owned(),
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// The user's template of a revision: what both ReplicaSets have and the user's template of now lacks was filled in, and so was
/// what is a default in the other alone, as far as the hash agrees.
pub fn template(
    (rollout, hash): (&str, &str),
    now: &Value,
    set_of_now: &Value,
    set_of_other: &Value,
) -> Result<Value, Lost> {
    let mut walk = Walk::default();
    let other = without_own(set_of_other);
    let plain = revision::without_defaults(&other);
    let template = walk.value((Some(now), &without_own(set_of_now)), (&other, &plain), "");
    let doubtful = walk.doubtful;
    let is_it = |one: &Value| revision::hash(one) == hash;
    let without = |chosen: &dyn Fn(usize) -> bool| {
        let places = doubtful.iter().enumerate().filter(|(at, _)| chosen(*at));
        places.fold(template.clone(), |template, (_, place)| removed(template, place))
    };
    let all = without(&|_| true);
    if is_it(&all) {
        return Ok(all);
    }
    if doubtful.len() <= TRIED_MOST {
        let several = (0..1_usize << doubtful.len()).map(|bits| without(&|at| bits >> at & 1 == 1));
        if let Some(found) = several.into_iter().find(is_it) {
            return Ok(found);
        }
    }
    let places = doubtful.iter().map(|place| format!("spec.template{}", place.replace('/', "."))).collect();
    Err(Lost { rollout: rollout.to_owned(), hash: hash.to_owned(), places })
}

/// A value without the field at a place.
fn removed(mut value: Value, place: &str) -> Value {
    let (parent, key) = place.rsplit_once('/').unwrap_or_default();
    if let Some(fields) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        fields.remove(&key.replace("~1", "/").replace("~0", "~"));
    }
    value
}

/// Finds places that may be defaults.
#[derive(Default)]
struct Walk {
    doubtful: Vec<String>,
}

impl Walk {
    /// The other's value as the user would have written it; `now` is how the user writes it now, `filled` what became of that,
    /// `plain` the other without defaults.
    fn value(
        &mut self,
        (now, filled): (Option<&Value>, &Value),
        (other, plain): (&Value, &Value),
        place: &str,
    ) -> Value {
        match (now, other) {
            (Some(now), _) if filled == other => now.clone(),
            (_, Value::Object(fields)) => {
                let empty = Map::new();
                let of = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
                let now = now.and_then(Value::as_object).unwrap_or(&empty);
                Value::Object(self.fields((now, &of(filled)), (fields, &of(plain)), place))
            }
            (_, Value::Array(items)) => {
                let now = now.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
                self.items((now, &list(filled)), (items, &list(plain)), place)
            }
            (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other.clone(),
        }
    }

    fn fields(
        &mut self,
        (now, filled): (&Map<String, Value>, &Map<String, Value>),
        (other, plain): (&Map<String, Value>, &Map<String, Value>),
        place: &str,
    ) -> Map<String, Value> {
        let mut fields = Map::new();
        for (key, value) in other {
            let (own, was) = (now.get(key), filled.get(key));
            if own.is_none() && was == Some(value) {
                // Filled into both.
                continue;
            }
            let place = format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
            let is_default = !plain.contains_key(key);
            if is_default && value.as_object().is_some_and(Map::is_empty) {
                continue;
            }
            if is_default && was != Some(value) {
                self.doubtful.push(place.clone());
            }
            let plain = plain.get(key).unwrap_or(&Value::Null);
            fields.insert(key.clone(), self.value((own, was.unwrap_or(&Value::Null)), (value, plain), &place));
        }
        fields
    }

    /// Items are paired by their names, else by their places.
    fn items(
        &mut self,
        (now, filled): (&[Value], &[Value]),
        (other, plain): (&[Value], &[Value]),
        place: &str,
    ) -> Value {
        let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
        let pair = |at: usize, item: &Value| match name(item) {
            Some(name_of) => filled.iter().position(|one| name(one).as_ref() == Some(&name_of)),
            None => filled.iter().position(|one| one == item).or(Some(at)),
        };
        let items = other.iter().enumerate().map(|(at, item)| {
            let pair = pair(at, item);
            let was = pair.and_then(|at| filled.get(at)).unwrap_or(&Value::Null);
            // API servers keep the order of lists.
            let own = pair.and_then(|at| now.get(at)).filter(|own| name(own) == name(was));
            self.value((own, was), (item, plain.get(at).unwrap_or(&Value::Null)), &format!("{place}/{at}"))
        });
        Value::Array(items.collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template_with(image: &str, container: &Value, pod: &Value) -> Value {
        let mut own = json!({"name": "app", "image": image});
        own.as_object_mut().unwrap().extend(container.as_object().cloned().unwrap());
        let mut spec = json!({"containers": [own]});
        spec.as_object_mut().unwrap().extend(pod.as_object().cloned().unwrap());
        json!({"metadata": {"labels": {"app": "a"}}, "spec": spec})
    }

    /// What API servers make of a template.
    fn filled(template: &Value) -> Value {
        let mut template = template.clone();
        let fill = |value: &mut Value, defaults: &Value| {
            let fields = value.as_object_mut().unwrap();
            for (key, default) in defaults.as_object().unwrap() {
                fields.entry(key.clone()).or_insert_with(|| default.clone());
            }
        };
        fill(
            &mut template["spec"],
            &json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "securityContext": {}}),
        );
        for container in template["spec"]["containers"].as_array_mut().unwrap() {
            fill(
                container,
                &json!({"imagePullPolicy": "IfNotPresent", "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}),
            );
            if let Some(probe) = container.get_mut("readinessProbe") {
                fill(
                    probe,
                    &json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
                );
                fill(&mut probe["httpGet"], &json!({"scheme": "HTTP"}));
            }
        }
        json!({"spec": {"template": template}})
    }

    fn check(now: &Value, earlier: &Value) {
        let hash = revision::hash(earlier);
        let found = template(("checkout", &hash), now, &filled(now), &filled(earlier));
        assert_eq!(found.as_ref().ok(), Some(earlier), "{:?}", found.as_ref().err());
    }

    #[test]
    fn a_template_comes_back_without_defaults() {
        check(&template_with("a:2", &json!({}), &json!({})), &template_with("a:1", &json!({}), &json!({})));
    }

    #[test]
    fn what_was_removed_is_removed_and_no_default_takes_its_place() {
        let plain = template_with("a:1", &json!({}), &json!({}));
        let probe = json!({"httpGet": {"path": "/", "port": 80}});
        let container =
            json!({"imagePullPolicy": "Always", "readinessProbe": probe, "resources": {"limits": {"cpu": "1"}}});
        let pod = json!({"terminationGracePeriodSeconds": 60, "nodeSelector": {"disk": "ssd"}});
        let rich = template_with("a:2", &container, &pod);
        check(&rich, &plain);
        check(&plain, &rich);
        let mut annotated = rich.clone();
        annotated["metadata"]["annotations"] = json!({"team": "payments"});
        check(&annotated, &rich);
        check(&rich, &annotated);
    }

    #[test]
    fn a_default_that_was_written_comes_back() {
        let written = json!({"terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"});
        let now =
            template_with("a:2", &json!({"imagePullPolicy": "Always"}), &json!({"terminationGracePeriodSeconds": 60}));
        check(&now, &template_with("a:1", &json!({"imagePullPolicy": "IfNotPresent"}), &json!({})));
        let mut one = written.clone();
        one.as_object_mut().unwrap().remove("dnsPolicy");
        check(&now, &template_with("a:1", &json!({}), &one));
    }

    #[test]
    fn containers_come_and_go() {
        let one = template_with("a:1", &json!({}), &json!({}));
        let mut two = one.clone();
        let side = json!({"name": "side", "image": "s:1", "readinessProbe": {"httpGet": {"port": 1}}});
        two["spec"]["containers"].as_array_mut().unwrap().insert(0, side);
        two["spec"]["volumes"] = json!([{"name": "cache", "emptyDir": {}}]);
        check(&one, &two);
        check(&two, &one);
    }

    #[test]
    fn a_template_that_would_be_another_is_refused() {
        let now = template_with("a:2", &json!({}), &json!({"terminationGracePeriodSeconds": 60}));
        let earlier = template_with("a:1", &json!({}), &json!({}));
        let error = template(("checkout", "another"), &now, &filled(&now), &filled(&earlier)).unwrap_err().to_string();
        assert!(error.contains("look alike in spec.template.spec.terminationGracePeriodSeconds;"), "{error}");
        assert!(error.ends_with("take it from Git, as kubectl serin undo checkout tells"), "{error}");
    }
}
