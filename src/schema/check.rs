//! What a definition refuses: by its schema (types, bounds, required fields) and by its CEL rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use cel::{Context, Program};
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::LocationSegment;
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::{Value, json};

use super::{Key, SCHEMAS, at, path};

/// Something that a definition refuses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where, as `spec.strategy.canary.steps[0].setWeight`.
    pub path: String,
    /// What, in kube-apiserver's words.
    pub message: String,
    /// Kubernetes' word for it, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// Whether no rule is evaluated because of it.
    pub hides_rules: bool,
    /// Whether a CEL rule says it.
    pub is_of_rule: bool,
}

impl Problem {
    /// A value that is not allowed.
    pub fn invalid(path: &str, message: String) -> Self {
        Self { path: path.to_owned(), message, reason: "FieldValueInvalid", hides_rules: false, is_of_rule: false }
    }
}

/// A rule of a definition.
struct Rule {
    program: Program,
    says: String,
    is_transition: bool,
}

/// The rules of a schema and of what is below it; parts without any are left out.
struct Rules {
    own: Vec<Rule>,
    properties: BTreeMap<String, Self>,
    items: Option<Box<Self>>,
    others: Option<Box<Self>>,
}

/// A definition, ready to judge.
struct Judge {
    validator: Option<Validator>,
    rules: Option<Rules>,
}

static JUDGES: LazyLock<BTreeMap<&'static str, Judge>> =
    LazyLock::new(|| SCHEMAS.iter().map(|(plural, schema)| (plural.as_str(), Judge::of(schema))).collect());

/// All that the definition of a kind refuses of an object. What an update leaves as it was is tolerated.
pub fn problems(plural: &str, object: &Value, before: Option<&Value>) -> Vec<Problem> {
    let Some(judge) = JUDGES.get(plural) else { return Vec::new() };
    let mut problems = judge.by_schema(object, before);
    if let Some(rules) = judge.rules.as_ref().filter(|_| !problems.iter().any(|problem| problem.hides_rules)) {
        let mut walk = Walk { object, old: before, place: Vec::new(), problems };
        walk.value(rules, object, before);
        problems = walk.problems;
    }
    problems.into_iter().collect()
}

/// Items of a list that API servers merge by keys, where two have the same keys.
pub fn duplicates(plural: &str, object: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(schema) = SCHEMAS.get(plural) {
        find_duplicates(schema, object, &mut Vec::new(), &mut problems);
    }
    problems
}

fn find_duplicates<'a>(schema: &Value, value: &'a Value, place: &mut Vec<Key<'a>>, problems: &mut Vec<Problem>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                let own = schema.get("properties").and_then(|all| all.get(key));
                let Some(below) = own.or_else(|| schema.get("additionalProperties")) else { continue };
                place.push(Key::Field(key));
                find_duplicates(below, inner, place, problems);
                place.pop();
            }
        }
        Value::Array(items) => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            let keys: Vec<&str> = keys.filter_map(Value::as_str).collect();
            let default = |key: &str| schema.pointer(&format!("/items/properties/{key}/default")).cloned();
            let of = |item: &Value, key: &str| item.get(key).cloned().or_else(|| default(key)).unwrap_or_default();
            let mut known = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                place.push(Key::Item(index));
                let own: Value = keys.iter().map(|key| ((*key).to_owned(), of(item, key))).collect();
                if !keys.is_empty() && !known.insert(own.to_string()) {
                    problems.push(Problem::invalid(&path(place), format!("Duplicate value: {own}")));
                }
                if let Some(below) = schema.get("items") {
                    find_duplicates(below, item, place, problems);
                }
                place.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a place is as it was before.
fn is_same(place: &[Key<'_>], object: &Value, before: Option<&Value>) -> bool {
    let before = before.and_then(|before| at(before, place));
    before.is_some() && before == at(object, place)
}

impl Judge {
    fn of(schema: &Value) -> Self {
        let options = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(false);
        Self { validator: options.build(&as_json_schema(schema)).ok(), rules: Rules::of(schema) }
    }

    fn by_schema(&self, object: &Value, before: Option<&Value>) -> BTreeSet<Problem> {
        let errors = self.validator.iter().flat_map(|validator| validator.iter_errors(object));
        let problem = |error: ValidationError<'_>| {
            let segments: Vec<LocationSegment<'_>> = error.instance_path().into_iter().collect();
            let place: Vec<Key<'_>> = segments.iter().map(key).collect();
            (!is_same(&place, object, before)).then(|| told(&error, &path(&place)))
        };
        errors.filter_map(problem).collect()
    }
}

fn key<'a>(segment: &'a LocationSegment<'_>) -> Key<'a> {
    match segment {
        LocationSegment::Property(key) => Key::Field(key),
        LocationSegment::Index(index) => Key::Item(*index),
    }
}

/// The schema without what belongs to Kubernetes alone; metadata is checked elsewhere.
fn as_json_schema(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| {
                !key.starts_with("x-kubernetes-")
                    && !["description", "default", "format", "nullable"].contains(&key.as_str())
            });
            let mut kept: serde_json::Map<String, Value> =
                kept.map(|(key, value)| (key.clone(), as_json_schema(value))).collect();
            let says = |key: &str| fields.get(key).and_then(Value::as_bool) == Some(true);
            if says("x-kubernetes-int-or-string") {
                kept.insert("type".into(), json!(["integer", "string"]));
                kept.remove("anyOf");
            }
            if says("nullable")
                && let Some(kind) = kept.get("type").and_then(Value::as_str).map(str::to_owned)
            {
                kept.insert("type".into(), json!([kind, "null"]));
            }
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(items.iter().map(as_json_schema).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}

impl Rules {
    fn of(schema: &Value) -> Option<Self> {
        let own = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let below = |key: &str| schema.get(key).and_then(Self::of).map(Box::new);
        let rules = Self {
            own: own.filter_map(rule).collect(),
            properties: properties.filter_map(|(key, inner)| Some((key.clone(), Self::of(inner)?))).collect(),
            items: below("items"),
            others: below("additionalProperties"),
        };
        let has_any =
            !rules.own.is_empty() || !rules.properties.is_empty() || rules.items.is_some() || rules.others.is_some();
        has_any.then_some(rules)
    }
}

fn rule(rule: &Value) -> Option<Rule> {
    let text = rule.get("rule")?.as_str()?;
    let says = rule.get("message").and_then(Value::as_str);
    Some(Rule {
        program: Program::compile(text).ok()?,
        says: says.map_or_else(|| format!("failed rule: {text}"), str::to_owned),
        is_transition: text.contains("oldSelf"),
    })
}

/// Evaluates the rules of every part of an object.
struct Walk<'a> {
    object: &'a Value,
    old: Option<&'a Value>,
    place: Vec<Key<'a>>,
    problems: BTreeSet<Problem>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, rules: &Rules, value: &'a Value, before: Option<&Value>) {
        if is_same(&self.place, self.object, self.old) {
            return;
        }
        for rule in rules.own.iter().filter(|rule| !rule.is_transition || before.is_some()) {
            if let Err(message) = holds(rule, value, before) {
                let problem = Problem::invalid(&path(&self.place), format!("Invalid value: {message}"));
                self.problems.insert(Problem { is_of_rule: true, ..problem });
            }
        }
        match value {
            Value::Object(fields) => {
                for (key, inner) in fields {
                    let Some(rules) = rules.properties.get(key).or(rules.others.as_deref()) else { continue };
                    self.place.push(Key::Field(key));
                    self.value(rules, inner, before.and_then(|before| before.get(key)));
                    self.place.pop();
                }
            }
            Value::Array(items) => {
                let Some(rules) = &rules.items else { return };
                for (index, inner) in items.iter().enumerate() {
                    self.place.push(Key::Item(index));
                    // Items of a list are not the same ones as before.
                    self.value(rules, inner, None);
                    self.place.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// CEL's own functions.
static STANDARD: LazyLock<Context<'static, 'static>> = LazyLock::new(Context::default);

/// Whether a rule holds, or why not.
fn holds(rule: &Rule, value: &Value, before: Option<&Value>) -> Result<(), String> {
    let mut context = STANDARD.new_inner_scope();
    context.add_variable("self", value).map_err(|error| error.to_string())?;
    if let Some(before) = before.filter(|_| rule.is_transition) {
        context.add_variable("oldSelf", before).map_err(|error| error.to_string())?;
    }
    match rule.program.execute(&context) {
        Ok(cel::Value::Bool(true)) => Ok(()),
        Ok(_) => Err(rule.says.clone()),
        Err(error) => Err(format!("{}: {error}", rule.says)),
    }
}

/// An error of the schema in kube-apiserver's words (k8s.io/kube-openapi, `pkg/validation/errors`).
#[expect(clippy::wildcard_enum_match_arm, reason = "the other keywords are in none of the definitions")]
fn told(error: &ValidationError<'_>, path: &str) -> Problem {
    let value = error.instance();
    let body = |words: String| format!("Invalid value: {}: {path} in body {words}", shown(value));
    let (path, message, reason) = match error.kind() {
        ValidationErrorKind::Type { kind } => {
            let kind = match kind {
                TypeKind::Single(kind) => kind.to_string(),
                TypeKind::Multiple(kinds) => kinds.iter().map(|kind| kind.to_string()).collect::<Vec<_>>().join(","),
            };
            let is = kind_of(value);
            let message = format!("Invalid value: \"{is}\": {path} in body must be of type {kind}: \"{is}\"");
            (path.to_owned(), message, "FieldValueTypeInvalid")
        }
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            let path = if path.is_empty() { property.to_owned() } else { format!("{path}.{property}") };
            (path, "Required value".to_owned(), "FieldValueRequired")
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options.as_array().into_iter().flatten().map(shown).collect();
            let message = format!("Unsupported value: {}: supported values: {}", shown(value), options.join(", "));
            (path.to_owned(), message, "FieldValueNotSupported")
        }
        ValidationErrorKind::Maximum { limit } => {
            (path.to_owned(), body(format!("should be less than or equal to {limit}")), "FieldValueInvalid")
        }
        ValidationErrorKind::Minimum { limit } => {
            (path.to_owned(), body(format!("should be greater than or equal to {limit}")), "FieldValueInvalid")
        }
        ValidationErrorKind::MinLength { limit } => {
            (path.to_owned(), body(format!("should be at least {limit} chars long")), "FieldValueInvalid")
        }
        ValidationErrorKind::MaxLength { limit } => {
            let message = format!("Too long: may not be more than {limit} bytes");
            (path.to_owned(), message, "FieldValueTooLong")
        }
        ValidationErrorKind::MinItems { limit } => {
            let items = value.as_array().map_or(0, Vec::len);
            let message = format!("Invalid value: {items}: {path} in body should have at least {limit} items");
            (path.to_owned(), message, "FieldValueInvalid")
        }
        ValidationErrorKind::MaxItems { limit } => {
            let items = value.as_array().map_or(0, Vec::len);
            (path.to_owned(), format!("Too many: {items}: must have at most {limit} items"), "FieldValueTooMany")
        }
        _ => (path.to_owned(), format!("Invalid value: {}: {error}", shown(value)), "FieldValueInvalid"),
    };
    let hides_rules = reason != "FieldValueInvalid";
    Problem { path, message, reason, hides_rules, is_of_rule: false }
}

fn shown(value: &Value) -> String {
    value.to_string()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Rules {
        fn count(&self) -> usize {
            let below = self.properties.values().chain(self.items.as_deref()).chain(self.others.as_deref());
            self.own.len() + below.map(Self::count).sum::<usize>()
        }
    }

    fn rollout() -> Value {
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "checkout"},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"app": "checkout"}},
                "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app", "image": "checkout:1"}]}},
                "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {"duration": "1m"}}]}},
            },
        })
    }

    fn check(pointer: &str, value: &Value, want: &[(&str, &str)]) {
        let mut object = rollout();
        *object.pointer_mut(pointer).unwrap() = value.clone();
        let told: Vec<(String, String)> =
            problems("rollouts", &object, None).into_iter().map(|problem| (problem.path, problem.message)).collect();
        let want: Vec<(String, String)> =
            want.iter().map(|(path, message)| ((*path).to_owned(), (*message).to_owned())).collect();
        assert_eq!(told, want, "{value} at {pointer}");
    }

    #[test]
    fn schemas_and_rules_refuse() {
        let step = "spec.strategy.canary.steps[0]";
        check("/spec/replicas", &json!(3), &[]);
        check(
            "/spec/replicas",
            &json!("two"),
            &[(
                "spec.replicas",
                "Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"",
            )],
        );
        check(
            "/spec/strategy/canary/steps/0/setWeight",
            &json!(120),
            &[(
                "spec.strategy.canary.steps[0].setWeight",
                "Invalid value: 120: spec.strategy.canary.steps[0].setWeight in body should be less than or equal to 100",
            )],
        );
        check(
            "/spec/strategy/canary/steps/0",
            &json!({"setWeight": 1, "experiment": {}}),
            &[
                (
                    step,
                    "Invalid value: exactly one of setWeight, pause, analysis, setCanaryScale, setHeaderRoute, setMirrorRoute, approval, experiment, plugin, replicaProgressThreshold is required",
                ),
                (step, "Invalid value: experiment is not supported; use an analysis step"),
            ],
        );
    }

    #[test]
    fn what_was_there_before_is_tolerated() {
        let mut before = rollout();
        before["spec"]["strategy"]["canary"]["steps"][0] = json!({});
        let mut after = before.clone();
        after["spec"]["replicas"] = json!(5);
        assert_eq!(problems("rollouts", &after, Some(&before)), []);
        assert_eq!(problems("rollouts", &after, None).len(), 1);
        // A key with a dot in it is one key.
        before["spec"]["selector"]["matchLabels"] = json!({"app.kubernetes.io/name": 5});
        after["spec"]["selector"] = before["spec"]["selector"].clone();
        assert_eq!(problems("rollouts", &after, Some(&before)), []);
        assert_eq!(problems("rollouts", &after, None).len(), 1);
    }

    #[test]
    fn every_schema_and_every_rule_is_understood() {
        for (plural, schema) in SCHEMAS.iter() {
            let judge = &JUDGES[plural.as_str()];
            assert!(judge.validator.is_some(), "{plural}");
            let written = schema.to_string().matches("\"rule\":").count();
            assert_eq!(judge.rules.as_ref().map_or(0, Rules::count), written, "{plural}");
        }
    }
}
