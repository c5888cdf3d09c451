//! What a definition refuses: by its schema (types, bounds, required fields) and by its CEL rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use cel::{Context, Program};
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::LocationSegment;
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::{Value, json};

use super::SCHEMAS;

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
}

impl Problem {
    /// A value that is not allowed.
    pub fn invalid(path: &str, message: String) -> Self {
        Self { path: path.to_owned(), message, reason: "FieldValueInvalid", hides_rules: false }
    }
}

/// A rule of a definition.
struct Rule {
    program: Program,
    says: String,
    is_transition: bool,
}

/// A definition, ready to judge.
struct Judge {
    validator: Option<Validator>,
    /// By the path of the schema node, as `/properties/spec`.
    rules: BTreeMap<String, Vec<Rule>>,
}

static JUDGES: LazyLock<BTreeMap<&'static str, Judge>> =
    LazyLock::new(|| SCHEMAS.iter().map(|(plural, schema)| (plural.as_str(), Judge::of(schema))).collect());

/// All that the definition of a kind refuses of an object. What an update leaves as it was is tolerated.
pub fn problems(plural: &str, object: &Value, before: Option<&Value>) -> Vec<Problem> {
    let (Some(judge), Some(schema)) = (JUDGES.get(plural), SCHEMAS.get(plural)) else { return Vec::new() };
    let mut problems = judge.by_schema(object);
    if !problems.iter().any(|problem| problem.hides_rules) {
        let mut walk = Walk { judge, problems };
        walk.value((schema, ""), "", object, before);
        problems = walk.problems;
    }
    let is_new = |problem: &Problem| {
        let before = before.and_then(|before| at(before, &problem.path));
        before.is_none() || before != at(object, &problem.path)
    };
    problems.into_iter().filter(is_new).collect()
}

/// The value at a path such as `spec.steps[0].setWeight`.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = object;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (key, indices) = part.split_once('[').unwrap_or((part, ""));
        value = value.get(key)?;
        for index in indices.split('[').filter(|index| !index.is_empty()) {
            value = value.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    Some(value)
}

impl Judge {
    fn of(schema: &Value) -> Self {
        let mut rules = BTreeMap::new();
        collect_rules(schema, "", &mut rules);
        let options = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(false);
        Self { validator: options.build(&as_json_schema(schema)).ok(), rules }
    }

    fn by_schema(&self, object: &Value) -> BTreeSet<Problem> {
        let errors = self.validator.iter().flat_map(|validator| validator.iter_errors(object));
        errors.map(|error| told(&error)).collect()
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

fn collect_rules(schema: &Value, path: &str, rules: &mut BTreeMap<String, Vec<Rule>>) {
    let own = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    let own: Vec<Rule> = own.filter_map(rule).collect();
    if !own.is_empty() {
        rules.insert(path.to_owned(), own);
    }
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        collect_rules(inner, &format!("{path}/properties/{key}"), rules);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            collect_rules(inner, &format!("{path}/{key}"), rules);
        }
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
    judge: &'a Judge,
    problems: BTreeSet<Problem>,
}

impl Walk<'_> {
    fn value(&mut self, (schema, place): (&Value, &str), path: &str, value: &Value, before: Option<&Value>) {
        for rule in self.judge.rules.get(place).into_iter().flatten() {
            if !rule.is_transition || before.is_some() {
                let holds = holds(rule, value, before);
                let problem = |message| Problem::invalid(path, format!("Invalid value: {message}"));
                self.problems.extend(holds.err().map(problem));
            }
        }
        match value {
            Value::Object(fields) => {
                for (key, inner) in fields {
                    let place_of = |place: String, schema| Some((schema, place));
                    let own = super::property(schema, key)
                        .and_then(|schema| place_of(format!("{place}/properties/{key}"), schema));
                    let any = || place_of(format!("{place}/additionalProperties"), schema.get("additionalProperties")?);
                    let Some((schema, place)) = own.or_else(any) else { continue };
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.value((schema, &place), &path, inner, before.and_then(|before| before.get(key)));
                }
            }
            Value::Array(items) => {
                let Some(schema) = schema.get("items") else { return };
                let place = format!("{place}/items");
                for (index, inner) in items.iter().enumerate() {
                    // Items of a list are not the same ones as before.
                    self.value((schema, &place), &format!("{path}[{index}]"), inner, None);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Whether a rule holds, or why not.
fn holds(rule: &Rule, value: &Value, before: Option<&Value>) -> Result<(), String> {
    let mut context = Context::default();
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

/// A place as people write it.
fn path_of(error: &ValidationError<'_>) -> String {
    error.instance_path().into_iter().fold(String::new(), |path, segment| match segment {
        LocationSegment::Property(key) if path.is_empty() => key.into_owned(),
        LocationSegment::Property(key) => format!("{path}.{key}"),
        LocationSegment::Index(index) => format!("{path}[{index}]"),
    })
}

/// An error of the schema in kube-apiserver's words (k8s.io/kube-openapi, `pkg/validation/errors`).
#[expect(clippy::wildcard_enum_match_arm, reason = "the other keywords are in none of the definitions")]
fn told(error: &ValidationError<'_>) -> Problem {
    let path = path_of(error);
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
            (path.clone(), message, "FieldValueTypeInvalid")
        }
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            let path = if path.is_empty() { property.to_owned() } else { format!("{path}.{property}") };
            (path, "Required value".to_owned(), "FieldValueRequired")
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options.as_array().into_iter().flatten().map(shown).collect();
            let message = format!("Unsupported value: {}: supported values: {}", shown(value), options.join(", "));
            (path.clone(), message, "FieldValueNotSupported")
        }
        ValidationErrorKind::Maximum { limit } => {
            (path.clone(), body(format!("should be less than or equal to {limit}")), "FieldValueInvalid")
        }
        ValidationErrorKind::Minimum { limit } => {
            (path.clone(), body(format!("should be greater than or equal to {limit}")), "FieldValueInvalid")
        }
        ValidationErrorKind::MinLength { limit } => {
            (path.clone(), body(format!("should be at least {limit} chars long")), "FieldValueInvalid")
        }
        ValidationErrorKind::MaxLength { limit } => {
            let message = format!("Too long: may not be more than {limit} bytes");
            (path.clone(), message, "FieldValueTooLong")
        }
        ValidationErrorKind::MinItems { limit } => {
            let items = value.as_array().map_or(0, Vec::len);
            let message = format!("Invalid value: {items}: {path} in body should have at least {limit} items");
            (path.clone(), message, "FieldValueInvalid")
        }
        ValidationErrorKind::MaxItems { limit } => {
            let items = value.as_array().map_or(0, Vec::len);
            (path.clone(), format!("Too many: {items}: must have at most {limit} items"), "FieldValueTooMany")
        }
        _ => (path.clone(), format!("Invalid value: {}: {error}", shown(value)), "FieldValueInvalid"),
    };
    let hides_rules = reason != "FieldValueInvalid";
    Problem { path, message, reason, hides_rules }
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
    }

    #[test]
    fn every_schema_and_every_rule_is_understood() {
        for (plural, schema) in SCHEMAS.iter() {
            let judge = &JUDGES[plural.as_str()];
            assert!(judge.validator.is_some(), "{plural}");
            let written = schema.to_string().matches("\"rule\":").count();
            assert_eq!(judge.rules.values().map(Vec::len).sum::<usize>(), written, "{plural}");
        }
    }
}
