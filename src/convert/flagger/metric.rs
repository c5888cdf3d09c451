//! Metrics of a Canary: the two that Flagger knows by name, which are presets in Serin, and queries of templates.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::yaml::{Entry, Item, Map, Node, Scalar};
use crate::api::duration::DurationText;

/// What queries may speak of.
pub(super) struct Subject<'a> {
    pub(super) name: &'a str,
    pub(super) target: &'a str,
    pub(super) service: &'a str,
    /// MetricTemplates, by name.
    pub(super) templates: &'a BTreeMap<String, Node>,
}

/// A metric: what is measured, its condition, and the MetricTemplate that says where it is asked.
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) measure: Measure,
    pub(super) condition: Option<String>,
    pub(super) template: Option<String>,
}

impl Metric {
    /// Whether its query has this text.
    fn names(&self, text: &str) -> bool {
        match &self.measure {
            Measure::Query(query) => query.contains(text),
            Measure::Preset(..) => false,
        }
    }
}

/// What is measured.
pub(super) enum Measure {
    /// A query.
    Query(String),
    /// One of Istio's own metrics, by its name, and how far each measurement looks back.
    Preset(&'static str, String),
}

/// A metric of a Canary, or why there is none.
pub(super) fn metric(subject: &Subject<'_>, metric: &Node) -> Result<Metric, String> {
    let name = metric.text_at(&["name"]).ok_or("it has no name")?.to_owned();
    let interval = metric.text_at(&["interval"]).unwrap_or("1m");
    let reference = metric.text_at(&["templateRef", "name"]);
    let inline = metric.text_at(&["query"]);
    let measure = match (reference, inline, name.as_str()) {
        (Some(reference), _, _) => {
            let template = subject
                .templates
                .get(reference)
                .ok_or_else(|| format!("MetricTemplate {reference} is not in the input; give it with -f"))?;
            let kind = template.text_at(&["spec", "provider", "type"]).unwrap_or("prometheus");
            if kind != "prometheus" {
                return Err(format!("Serin measures by Prometheus only, and MetricTemplate {reference} is of {kind}"));
            }
            let query = template.text_at(&["spec", "query"]).unwrap_or_default();
            Measure::Query(of_revision(subject, query, interval, metric)?)
        }
        (None, Some(query), _) => Measure::Query(of_revision(subject, query, interval, metric)?),
        (None, None, "request-success-rate") => preset("requestSuccessRate", interval)?,
        (None, None, "request-duration") => preset("requestDuration", interval)?,
        (None, None, _) => {
            return Err("it has neither a template nor a query, and Flagger does not know its name".to_owned());
        }
    };
    let condition = condition(&name, &measure, metric)?;
    Ok(Metric { condition, name, measure, template: reference.map(str::to_owned) })
}

fn preset(name: &'static str, interval: &str) -> Result<Measure, String> {
    DurationText::Text(interval.to_owned()).parse().map_err(|why| format!("interval: {why}"))?;
    Ok(Measure::Preset(name, interval.to_owned()))
}

/// The range as a condition; nothing where there is none, which always passes.
fn condition(name: &str, measure: &Measure, metric: &Node) -> Result<Option<String>, String> {
    let number = |keys: &[&str]| -> Result<Option<String>, String> {
        let Some(node) = metric.at(keys) else { return Ok(None) };
        match node.value() {
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                Err(format!("{} is no number", keys.join(".")))
            }
        }
    };
    let (mut least, mut most) = (number(&["thresholdRange", "min"])?, number(&["thresholdRange", "max"])?);
    if least.is_none() && most.is_none() {
        let old = number(&["threshold"])?;
        if name == "request-success-rate" { least = old } else { most = old }
    }
    // Flagger counts in percent, the preset in fractions.
    let is_fraction = matches!(measure, Measure::Preset("requestSuccessRate", _));
    let bound = |bound: String| if is_fraction { hundredth(&bound) } else { bound };
    let parts: Vec<String> = [(least, ">="), (most, "<=")]
        .into_iter()
        .filter_map(|(value, sign)| Some(format!("result[0] {sign} {}", bound(value?))))
        .collect();
    Ok((!parts.is_empty()).then(|| parts.join(" && ")))
}

/// The hundredth of a number, digit by digit: 99.9 becomes 0.999.
fn hundredth(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole:0>3}{rest}");
    let (whole, rest) = all.split_at(all.len() - rest.len() - 2);
    let rest = rest.trim_end_matches('0');
    let rest = if rest.is_empty() { "0" } else { rest };
    format!("{sign}{whole}.{rest}")
}

/// A query with Flagger's words filled in. Flagger tells canary from stable by the name of the target, Serin by the
/// revision: only Istio's labels can be said the other way.
fn of_revision(subject: &Subject<'_>, query: &str, interval: &str, metric: &Node) -> Result<String, String> {
    let mut text = spaced(query);
    for side in ["destination", "source"] {
        for sign in ["=~", "="] {
            for (whose, arg) in [("{{target}}-primary", "stable"), ("{{target}}", "revision")] {
                let old = format!("{side}_workload{sign}\"{whose}\"");
                text = text.replace(&old, &format!("{side}_canonical_revision=\"{{{{args.{arg}}}}}\""));
            }
        }
    }
    if text.contains("{{target}}") {
        return Err(format!(
            "the query tells the canary by the name of its workload, which in Serin is a ReplicaSet's and changes with each revision; select by destination_canonical_revision=\"{{{{args.revision}}}}\" in place of {}",
            subject.target
        ));
    }
    let mut filled = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let (word, tail) = after.split_once("}}").ok_or("its query has braces that are not closed")?;
        filled.push_str(before);
        match word {
            "namespace" => filled.push_str("{{args.namespace}}"),
            "name" => filled.push_str(subject.name),
            "service" => filled.push_str(subject.service),
            "interval" => filled.push_str(interval),
            _ if word.starts_with("args.") => filled.extend(["{{", word, "}}"]),
            _ => {
                let variable =
                    word.strip_prefix("variables.").and_then(|key| metric.text_at(&["templateVariables", key]));
                filled.push_str(variable.ok_or_else(|| format!("its query names {word}, which has no value here"))?);
            }
        }
        rest = tail;
    }
    Ok(filled + rest)
}

/// A query without spaces within its braces.
fn spaced(query: &str) -> String {
    let mut text = String::new();
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((word, tail)) = after.split_once("}}") else { break };
        text.extend([before, "{{", word.trim(), "}}"]);
        rest = tail;
    }
    text + rest
}

/// How a metric is measured.
#[derive(Clone, Copy)]
pub(super) struct Pace<'a> {
    pub(super) interval: &'a str,
    pub(super) threshold: i64,
    /// At each weight, until one check passes; else over the whole release.
    pub(super) is_per_weight: bool,
}

/// A metric as an item of a template, with the comments of the Canary's.
pub(super) fn item(metric: &Metric, pace: Pace<'_>, provider: Option<&str>, from: &Item) -> Item {
    let mut entries = vec![
        Entry::new("name", Scalar::string(&metric.name)),
        Entry::new("initialDelay", Scalar::string(pace.interval)),
        Entry::new("interval", Scalar::string(pace.interval)),
    ];
    if pace.is_per_weight {
        entries.push(Entry::new("count", Scalar::plain(&pace.threshold.to_string())));
        entries.push(Entry::new("consecutiveSuccessLimit", Scalar::plain("1")));
    }
    entries.push(Entry::new("failureLimit", Scalar::plain(&(pace.threshold - 1).to_string())));
    entries.extend(metric.condition.iter().map(|condition| Entry::new("successCondition", Scalar::string(condition))));
    entries.push(Entry::new("onNoData", Scalar::string("Fail")));
    let mut source = Vec::new();
    source.extend(provider.map(|provider| Entry::new("provider", Scalar::string(provider))));
    match &metric.measure {
        Measure::Query(query) => {
            source.push(Entry::new("query", Scalar::string(query)));
            entries.push(Entry::new("prometheus", Map::of(source)));
        }
        Measure::Preset(name, window) => {
            source.push(Entry::new("metric", Scalar::string(name)));
            source.push(Entry::new("window", Scalar::string(window)));
            entries.push(Entry::new("istio", Map::of(source)));
        }
    }
    Item { above: from.all_comments(), beside: None, value: Map::of(entries).into() }
}

/// The arguments that the queries name, as a template declares them and as a Rollout gives them.
pub(super) fn arguments(metrics: &[Metric]) -> (Vec<Value>, Vec<Value>) {
    let known = [
        ("namespace", json!({"fieldRef": {"fieldPath": "metadata.namespace"}})),
        ("revision", json!({"podTemplateHashValue": "Latest"})),
        ("stable", json!({"podTemplateHashValue": "Stable"})),
    ];
    let named = known
        .into_iter()
        .filter(|(name, _)| metrics.iter().any(|metric| metric.names(&format!("{{{{args.{name}}}}}"))));
    named.map(|(name, from)| (json!({"name": name}), json!({"name": name, "valueFrom": from}))).unzip()
}

#[cfg(test)]
mod tests {
    use super::hundredth;

    #[test]
    fn hundredths_have_all_their_digits() {
        for (number, part) in
            [("99", "0.99"), ("99.9", "0.999"), ("100", "1.0"), ("0", "0.0"), ("5", "0.05"), ("-1", "-0.01")]
        {
            assert_eq!(hundredth(number), part, "{number}");
        }
        assert_eq!(hundredth("99.0"), "0.99");
    }
}
