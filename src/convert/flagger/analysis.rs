//! The analysis of a Canary: its weights become steps, its metrics the analysis between them, its webhooks pauses where
//! they are gates.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::argo::Providers;
use super::super::report::Decision;
use super::super::yaml::{Entry, Item, List, Map, Node, Scalar};
use super::metric::{self, Measure, Metric, Pace, Subject};
use super::{Canary, number};
use crate::api::duration::DurationText;
use crate::api::names::API_VERSION;

/// Seconds that Flagger waits for an answer.
const TIMEOUT: i64 = 5;
/// The shortest interval that Flagger keeps, in seconds, and the one that it takes for text that it does not understand.
const INTERVAL: (i64, i64) = (10, 60);

/// The analysis in Serin's words.
pub(super) struct Analysed {
    pub(super) templates: Vec<Node>,
    pub(super) steps: Option<Node>,
    pub(super) background: Option<Node>,
}

/// What a step of the canary waits for.
enum Gate {
    /// The analysis template of this name.
    Analysis(String, Vec<Value>),
    /// A person.
    Person,
    /// Time alone.
    Time(String),
}

/// Understands the analysis of a Canary.
pub(super) fn analyse(canary: &mut Canary<'_>, known: &BTreeMap<String, Node>, providers: &mut Providers) -> Analysed {
    if canary.is_true(&["skipAnalysis"]) || canary.at(&["analysis"]).is_none() {
        canary.of_steps = own_comments(canary);
        return Analysed { templates: Vec::new(), steps: None, background: None };
    }
    canary.of_steps = own_comments(canary);
    let interval = interval(canary);
    let threshold = canary.at(&["analysis", "threshold"]).and_then(|node| node.value().as_i64()).unwrap_or(1).max(1);
    let weights = weights(canary);
    let (metrics, items) = if weights.is_empty() { unmeasured(canary) } else { metrics(canary, known) };
    let sources: Vec<Option<String>> =
        metrics.iter().map(|metric| provider(canary, metric, known, providers)).collect();
    let template = |name: String, is_per_weight: bool| {
        let pace = Pace { interval: &interval, threshold, is_per_weight };
        let items = metrics.iter().zip(&sources).zip(&items);
        let items = items.map(|((metric, source), from)| {
            let bare = Item::new(Map::default());
            metric::item(metric, pace, source.as_deref(), if is_per_weight { from } else { &bare })
        });
        of_metrics(canary, &name, &metrics, items.collect())
    };
    let (per_weight, whole) = (format!("{}-each-weight", canary.target), format!("{}-whole-release", canary.target));
    let mut templates = Vec::new();
    let mut background = None;
    let given = metric::arguments(&metrics).1;
    if !metrics.is_empty() {
        templates.push(template(per_weight.clone(), true));
        if threshold > 1 {
            templates.push(template(whole.clone(), false));
            background = Some(reference(&whole, &given));
        }
    }
    tell_limits(canary, (&interval, threshold), metrics.is_empty());
    let had_metrics = canary.at(&["analysis", "metrics"]).is_some_and(|metrics| !metrics.items().is_empty());
    let gate = match (metrics.is_empty(), had_metrics) {
        (false, _) => Gate::Analysis(per_weight, given),
        (true, true) => Gate::Person,
        (true, false) => Gate::Time(interval),
    };
    let hooks = hooks(canary);
    let steps = steps(&weights, &gate, &hooks);
    Analysed { templates, steps: Some(steps), background }
}

/// Comments of the fields that become steps.
fn own_comments(canary: &Canary<'_>) -> Vec<String> {
    let analysis = canary.entry(&["analysis"]);
    let own = analysis.iter().flat_map(Entry::comments).collect::<Vec<_>>();
    let fields = canary.at(&["analysis"]).map_or(&[][..], Node::entries).iter();
    let within =
        fields.flat_map(|entry| if entry.key.text == "metrics" { entry.comments() } else { entry.all_comments() });
    own.into_iter().chain(within).collect()
}

fn interval(canary: &mut Canary<'_>) -> String {
    let text = canary.text(&["analysis", "interval"]).unwrap_or("60s").to_owned();
    let seconds = DurationText::Text(text.clone()).parse().ok().map_or(INTERVAL.1, |duration| duration.as_secs());
    if seconds >= INTERVAL.0 && DurationText::Text(text.clone()).parse().is_ok() {
        return text;
    }
    let seconds = seconds.max(INTERVAL.0);
    let how = format!("{seconds}s, which Flagger makes of {text}: the interval and the initial delay of the metrics");
    canary.tell("spec.analysis.interval", Decision::Translated, &how);
    format!("{seconds}s")
}

fn tell_limits(canary: &mut Canary<'_>, (interval, threshold): (&str, i64), has_none: bool) {
    if has_none {
        return;
    }
    let how = if threshold == 1 {
        "failureLimit: 0: the first failed check aborts".to_owned()
    } else {
        format!(
            "failureLimit: {} of each metric, at each weight and over the whole release; Flagger counts the failures of all metrics together",
            threshold - 1
        )
    };
    canary.tell("spec.analysis.threshold", Decision::Translated, &how);
    if !canary.told.contains_key("spec.analysis.interval") {
        let how = format!("{interval} between checks; a weight stays until one check of each metric passes");
        canary.tell("spec.analysis.interval", Decision::Translated, &how);
    }
}

/// Without a weight there is no traffic to measure.
fn unmeasured(canary: &mut Canary<'_>) -> (Vec<Metric>, Vec<Item>) {
    let items = canary.at(&["analysis", "metrics"]).map_or(&[][..], Node::items).to_vec();
    if !items.is_empty() {
        canary.lose(
            "spec.analysis.metrics",
            "the canary has no weight, so that nothing is measured; give it weights by stepWeight",
        );
        canary.of_steps.extend(items.iter().flat_map(Item::all_comments));
    }
    (Vec::new(), Vec::new())
}

/// The metrics that can be kept, each with the item that it comes from.
fn metrics(canary: &mut Canary<'_>, known: &BTreeMap<String, Node>) -> (Vec<Metric>, Vec<Item>) {
    let items: Vec<Item> = canary.at(&["analysis", "metrics"]).map_or(&[][..], Node::items).to_vec();
    let (name, target, apex) = (canary.name.clone(), canary.target.clone(), canary.apex.clone());
    let subject = Subject { name: &name, target: &target, service: &apex, templates: known };
    let mut metrics = Vec::new();
    let mut kept = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("spec.analysis.metrics[{index}]");
        match metric::metric(&subject, &item.value) {
            Ok(metric) => {
                tell_metric(canary, &path, &item.value, &metric);
                metrics.push(metric);
                kept.push(item);
            }
            Err(why) => {
                canary.lose(&path, &format!("{why}; the metric is left out"));
                canary.of_steps.extend(item.all_comments());
            }
        }
    }
    (metrics, kept)
}

fn tell_metric(canary: &mut Canary<'_>, path: &str, item: &Node, metric: &Metric) {
    let is_preset = matches!(metric.measure, Measure::Preset(..));
    let is_success_rate = matches!(metric.measure, Measure::Preset("requestSuccessRate", _));
    for entry in item.entries() {
        let how = match entry.key.text.as_str() {
            "name" if is_preset => {
                "a preset: Istio's numbers of this revision, as clients see them; Flagger counts at the pods".to_owned()
            }
            "name" => "the name of the metric".to_owned(),
            "interval" if is_preset => "the window of the preset".to_owned(),
            "interval" => "the range of the query".to_owned(),
            "thresholdRange" | "threshold" => {
                let unit = if is_success_rate { ", a fraction in place of percent" } else { "" };
                format!("successCondition: {}{unit}", metric.condition.as_deref().unwrap_or("none"))
            }
            "templateRef" => "its query, written out; workload names in it became revisions".to_owned(),
            "templateVariables" => "filled in".to_owned(),
            "query" => "the query; workload names in it became revisions".to_owned(),
            other => {
                canary.lose(&format!("{path}.{other}"), "is not a field that is documented; compare its spelling");
                continue;
            }
        };
        canary.tell(&format!("{path}.{}", entry.key.text), Decision::Translated, &how);
    }
    canary.tell(
        &format!("{path}.onNoData"),
        Decision::Translated,
        "added as Fail: no value is a failed check in Flagger; without the line Serin waits",
    );
}

/// The MetricProvider of a metric; none for the default one.
fn provider(
    canary: &Canary<'_>,
    metric: &Metric,
    known: &BTreeMap<String, Node>,
    providers: &mut Providers,
) -> Option<String> {
    let template = metric.template.as_ref().and_then(|name| known.get(name));
    let address = match template {
        Some(template) => template.text_at(&["spec", "provider", "address"]),
        None => canary.text(&["metricsServer"]),
    }?;
    let mut prometheus = json!({"address": address});
    let skips = template.and_then(|template| template.at(&["spec", "provider", "insecureSkipVerify"]));
    if let (Some(fields), true) = (prometheus.as_object_mut(), skips.is_some_and(|node| node.value() == true)) {
        fields.insert("insecureSkipVerify".to_owned(), json!(true));
    }
    Some(providers.name(&json!({"prometheus": prometheus, "timeoutSeconds": TIMEOUT})))
}

fn of_metrics(canary: &Canary<'_>, name: &str, metrics: &[Metric], items: Vec<Item>) -> Node {
    let mut metadata = vec![Entry::new("name", Scalar::string(name))];
    let namespace = canary.node.text_at(&["metadata", "namespace"]);
    metadata.extend(namespace.map(|namespace| Entry::new("namespace", Scalar::string(namespace))));
    let declared = metric::arguments(metrics).0;
    let mut spec = Vec::new();
    if !declared.is_empty() {
        spec.push(Entry::new("args", Node::from(Value::Array(declared))));
    }
    spec.push(Entry::new("metrics", List::of(items)));
    Map::of(vec![
        Entry::new("apiVersion", Scalar::string(API_VERSION)),
        Entry::new("kind", Scalar::string("AnalysisTemplate")),
        Entry::new("metadata", Map::of(metadata)),
        Entry::new("spec", Map::of(spec)),
    ])
    .into()
}

fn reference(template: &str, given: &[Value]) -> Node {
    let mut entries = vec![Entry::new("templates", Node::from(json!([{"templateName": template}])))];
    if !given.is_empty() {
        entries.push(Entry::new("args", Node::from(Value::Array(given.to_vec()))));
    }
    Map::of(entries).into()
}

/// The weights, in order.
fn weights(canary: &mut Canary<'_>) -> Vec<i64> {
    let whole = |keys: &[&str]| canary.at(keys).and_then(|node| node.value().as_i64());
    let listed: Vec<i64> = canary
        .at(&["analysis", "stepWeights"])
        .map_or(&[][..], Node::items)
        .iter()
        .filter_map(|item| item.value.value().as_i64())
        .collect();
    let (step, most) = (
        whole(&["analysis", "stepWeight"]).unwrap_or(0),
        whole(&["analysis", "maxWeight"]).unwrap_or(100).clamp(1, 100),
    );
    let weights: Vec<i64> = if listed.is_empty() && step > 0 {
        let count = (most + step - 1) / step.min(100);
        (1..=count.clamp(1, 100)).map(|at| (at * step.min(100)).min(100)).collect()
    } else {
        listed.iter().map(|weight| (*weight).clamp(0, 100)).collect()
    };
    if listed.windows(2).any(|pair| matches!(pair, [one, next] if next <= one)) {
        canary.lose(
            "spec.analysis.stepWeights",
            "is not in rising order: Flagger stops at the first weight that is lower; look at the steps",
        );
    }
    if !listed.is_empty() && canary.at(&["analysis", "maxWeight"]).is_some() {
        canary.tell(
            "spec.analysis.maxWeight",
            Decision::Translated,
            "nothing: with stepWeights it means nothing in Flagger either",
        );
    }
    weights
}

/// Pauses in place of webhooks that are gates.
#[derive(Default)]
struct Hooks {
    before: bool,
    at_each: bool,
    after: bool,
}

fn hooks(canary: &mut Canary<'_>) -> Hooks {
    let items: Vec<Item> = canary.at(&["analysis", "webhooks"]).map_or(&[][..], Node::items).to_vec();
    let mut hooks = Hooks::default();
    for (index, item) in items.iter().enumerate() {
        let path = format!("spec.analysis.webhooks[{index}]");
        match item.value.text_at(&["type"]).unwrap_or("rollout") {
            "confirm-rollout" => {
                hooks.before = true;
                canary.lose(
                    &path,
                    "a pause with one pod before the first weight, which a person ends: Serin calls no webhooks",
                );
            }
            "pre-rollout" => {
                hooks.before = true;
                canary.lose(
                    &path,
                    "a pause with one pod before the first weight, which a person ends after the test: Serin calls no webhooks",
                );
            }
            "confirm-traffic-increase" => {
                hooks.at_each = true;
                canary.lose(&path, "a pause before each weight, which a person ends: Serin calls no webhooks");
            }
            "confirm-promotion" => {
                hooks.after = true;
                canary.lose(&path, "a pause after the last weight, which a person ends: Serin calls no webhooks");
            }
            "rollback" => canary.lose(&path, "Serin calls no webhooks; abort with kubectl serin abort"),
            "rollout" => canary
                .lose(&path, "Serin calls no webhooks; run the load or the test beside, and gate by a metric of it"),
            kind => {
                let note = format!(
                    "Serin calls no webhooks; {kind} tells and holds nothing, follow the Events of the Rollout"
                );
                canary.tell(&path, Decision::NotSupported, &note);
            }
        }
    }
    hooks
}

fn steps(weights: &[i64], gate: &Gate, hooks: &Hooks) -> Node {
    let step = |key: &str, value: Node| Item::new(Map::of(vec![Entry::new(key, value)]));
    let person = || step("pause", Map::default().into());
    let wait = || match gate {
        Gate::Analysis(template, given) => step("analysis", reference(template, given)),
        Gate::Person => person(),
        Gate::Time(interval) => step("pause", Map::of(vec![Entry::new("duration", Scalar::string(interval))]).into()),
    };
    let mut items = Vec::new();
    if (hooks.before || hooks.at_each) && !weights.is_empty() {
        // One pod to look at, or to test.
        items.push(step("setCanaryScale", Map::of(vec![Entry::new("replicas", number(1))]).into()));
        items.push(person());
        items.push(step(
            "setCanaryScale",
            Map::of(vec![Entry::new("matchTrafficWeight", Scalar::plain("true"))]).into(),
        ));
    }
    if weights.is_empty() {
        items.push(step("setCanaryScale", Map::of(vec![Entry::new("weight", number(100))]).into()));
        items.push(person());
    }
    for (at, weight) in weights.iter().enumerate() {
        if hooks.at_each && at > 0 {
            items.push(person());
        }
        items.push(step("setWeight", number(*weight).into()));
        items.push(wait());
    }
    if hooks.after {
        items.push(person());
    }
    List::of(items).into()
}
