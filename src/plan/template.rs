//! Analysis templates to metrics, arguments filled in, or all that is in the way.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::Value;

use super::counted::{self, Counted};
use super::job::{self, JobRun};
use super::measurement::WebQuery;
use super::observed::Observed;
use super::preset::{self, Place};
use super::retention;
use super::strategy::{Fault, Gate, Strategy, refused};
use super::{condition, json_path};
use crate::api::analysis::{
    AnalysisTemplateSpec, IstioMetric, IstioMetricName, MetricSpec, OnNoData, Role, WebMethod, WebMetric,
};
use crate::api::duration::DurationText;
use crate::api::rollout::{ArgumentSpec, HashOf, TemplateRef};
use crate::api::schema::TEMPLATE_REFUSED;

/// Name of the provider that a metric without one means.
const DEFAULT_PROVIDER: &str = "default";

/// One metric, arguments filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The template that it is of.
    pub template: String,
    /// The provider.
    pub provider: String,
    /// What is asked.
    pub source: Source,
    /// Time between measurements.
    pub interval: Option<SignedDuration>,
    /// Time before the first.
    pub delay: SignedDuration,
    /// Measurements wanted; none has no end.
    pub count: Option<i32>,
    /// Failures tolerated; none tolerates all.
    pub failure_limit: Option<i32>,
    /// Inconclusive measurements tolerated.
    pub inconclusive_limit: i32,
    /// Errors in a row tolerated.
    pub error_limit: i32,
    /// Passes in a row that are enough.
    pub enough_successes: Option<i32>,
    /// Success condition.
    pub success: Option<String>,
    /// Failure condition.
    pub failure: Option<String>,
    /// How long measurements must fail without a break before one counts as a failure.
    pub hold: Option<SignedDuration>,
    /// What no data means.
    pub on_no_data: OnNoData,
    /// Whether it judges nothing.
    pub is_dry: bool,
    /// Measurements that the status keeps.
    pub kept: usize,
}

/// What a metric asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The value of a query, which the conditions judge.
    Value(String),
    /// The answer of a server, which the conditions judge, or its status.
    Web(WebQuery),
    /// A Job, which completes or fails.
    Job(Box<JobRun>),
    /// Counts of requests, which a test judges.
    Counts(Box<Counted>),
}

impl Metric {
    /// The counts that it weighs.
    pub fn counted(&self) -> Option<&Counted> {
        if let Source::Counts(counted) = &self.source { Some(counted) } else { None }
    }

    /// The Job that it runs.
    pub fn job(&self) -> Option<&JobRun> {
        if let Source::Job(job) = &self.source { Some(job) } else { None }
    }

    /// The query whose value the conditions judge.
    pub fn query(&self) -> Option<&str> {
        if let Source::Value(query) = &self.source { Some(query) } else { None }
    }
}

/// When an analysis is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// With the steps: in the background.
    Never,
    /// When every metric has its measurements.
    Count,
    /// When the evidence is in.
    Evidence,
}

impl End {
    /// That of a step's analysis, or of one in the background.
    pub fn of(gate: &Gate, is_background: bool) -> Self {
        match (is_background, gate.until_decided) {
            (true, _) => Self::Never,
            (false, true) => Self::Evidence,
            (false, false) => Self::Count,
        }
    }
}

/// Why an analysis cannot be measured: a word and a sentence.
pub type Obstacle = (&'static str, String);

/// What arguments and presets may name.
pub struct Names<'a> {
    /// Name of the Rollout.
    pub rollout: &'a str,
    /// Hash of stable.
    pub stable: &'a str,
    /// Hash of the canary.
    pub canary: &'a str,
    /// Where the requests of both go.
    pub place: Place,
}

/// The metrics of a gate, arguments filled in, or all that is in the way.
pub fn metrics(observed: &Observed, gate: &Gate, end: End, names: &Names<'_>) -> Result<Vec<Metric>, Vec<Obstacle>> {
    let mut metrics = Vec::new();
    let mut obstacles = Vec::new();
    for reference in &gate.templates {
        let cluster = reference.cluster_scope.unwrap_or(false);
        let kind = if cluster { "ClusterAnalysisTemplate" } else { "AnalysisTemplate" };
        let name = &reference.template_name;
        let Some(template) =
            observed.templates.iter().find(|template| template.name == *name && template.cluster == cluster)
        else {
            obstacles.push(("TemplateMissing", format!("{kind} {name} does not exist; create it")));
            continue;
        };
        let invalid = |fault: &Fault| ("TemplateInvalid", format!("{kind} {name}: {fault}"));
        match parse_template(&template.spec.value(), end) {
            Ok(spec) => match fill(observed, &spec, gate, names) {
                Ok(filled) => {
                    let of_template = spec.dry_run.iter().flatten().map(|one| &one.metric_name);
                    let dry: Vec<regex::Regex> =
                        of_template.chain(&gate.dry_run).filter_map(|text| pattern(text).ok()).collect();
                    let of_template = spec.measurement_retention.iter().flatten();
                    let limits = retention::limits(of_template.chain(&gate.retention));
                    metrics.extend(filled.into_iter().map(|metric| {
                        let is_dry = dry.iter().any(|pattern| pattern.is_match(&metric.name));
                        let kept = retention::kept(&metric.name, &limits);
                        Metric { template: name.clone(), is_dry, kept, ..metric }
                    }));
                }
                Err(faults) => obstacles.extend(faults.iter().map(invalid)),
            },
            Err(faults) => obstacles.extend(faults.iter().map(invalid)),
        }
    }
    let mut seen = BTreeSet::new();
    for metric in &metrics {
        if !seen.insert(&metric.name) {
            obstacles.push(("TemplateInvalid", format!("metric {} stands in two templates; rename one", metric.name)));
        }
        if metric.job().is_some() {
            continue;
        }
        match observed.providers.get(&metric.provider) {
            Some(None) => {}
            Some(Some(fault)) => obstacles.push(("ProviderInvalid", fault.clone())),
            None => obstacles.push((
                "ProviderMissing",
                format!(
                    "MetricProvider {} does not exist; create it, or start Serin with --prometheus-url",
                    metric.provider
                ),
            )),
        }
    }
    if obstacles.is_empty() { Ok(metrics) } else { Err(obstacles) }
}

/// The sum of the weights of all metrics that count requests, of every analysis of a Rollout. A template that several steps name
/// is one test; in the background it is another.
pub fn weights(observed: &Observed, strategy: &Strategy) -> f64 {
    let mut named: Vec<(&TemplateRef, End)> = Vec::new();
    for (step, gate) in strategy.gates() {
        let end = End::of(gate, step.is_none());
        for reference in &gate.templates {
            let is_same = |(known, other): &(&TemplateRef, End)| {
                *known == reference && (*other == End::Never) == (end == End::Never)
            };
            if !named.iter().any(is_same) {
                named.push((reference, end));
            }
        }
    }
    let counted = named.into_iter().filter_map(|(reference, end)| {
        let cluster = reference.cluster_scope.unwrap_or(false);
        let mut templates = observed.templates.iter();
        let template = templates.find(|one| one.name == reference.template_name && one.cluster == cluster)?;
        let spec = parse_template(&template.spec.value(), end).ok()?;
        let counted = spec.metrics.iter().filter(|metric| metric.counts().is_some());
        Some(counted.map(|metric| metric.weight.unwrap_or(1.0)).sum::<f64>())
    });
    counted.sum()
}

/// A regular expression of metrics' names, small enough to be read in every pass.
pub(super) fn pattern(text: &str) -> Result<regex::Regex, String> {
    const BYTES_MOST: usize = 1 << 16;
    let built = regex::RegexBuilder::new(text).size_limit(BYTES_MOST).build();
    built.map_err(|error| {
        let error = error.to_string();
        format!("{text:?} is no regular expression: {}", error.lines().last().unwrap_or_default())
    })
}

/// All that is wrong with the patterns of metrics' names in a list.
pub fn check_patterns<'a>(path: &str, patterns: impl Iterator<Item = &'a String>, faults: &mut Vec<Fault>) {
    for (index, text) in patterns.enumerate() {
        if let Err(why) = pattern(text) {
            faults.push(Fault::new(format!("{path}[{index}].metricName"), why));
        }
    }
}

/// An analysis template's spec, or all its faults.
pub fn parse_template(spec: &Value, end: End) -> Result<AnalysisTemplateSpec, Vec<Fault>> {
    let mut faults = refused("spec", spec, TEMPLATE_REFUSED);
    let typed: Result<AnalysisTemplateSpec, _> = serde_path_to_error::deserialize(spec);
    let typed = match typed {
        Ok(typed) => typed,
        Err(error) => {
            faults.push(Fault::new(format!("spec.{}", error.path()), error.inner().to_string()));
            return Err(faults);
        }
    };
    if typed.metrics.is_empty() {
        faults.push(Fault::new("spec.metrics", "is empty; add a metric"));
    }
    check_patterns("spec.dryRun", typed.dry_run.iter().flatten().map(|one| &one.metric_name), &mut faults);
    retention::check("spec", typed.measurement_retention.as_deref().unwrap_or_default(), &mut faults);
    for (index, metric) in typed.metrics.iter().enumerate() {
        check_metric(&format!("spec.metrics[{index}]"), metric, end, &mut faults);
    }
    if faults.is_empty() { Ok(typed) } else { Err(faults) }
}

fn check_metric(path: &str, metric: &MetricSpec, end: End, faults: &mut Vec<Fault>) {
    for (field, duration) in
        [("interval", &metric.interval), ("initialDelay", &metric.initial_delay), ("for", &metric.hold)]
    {
        if let Some(Err(message)) = duration.as_ref().map(DurationText::parse) {
            faults.push(Fault::new(format!("{path}.{field}"), message));
        }
    }
    if metric
        .interval
        .as_ref()
        .is_some_and(|interval| interval.parse().is_ok_and(|interval| interval < SignedDuration::from_millis(100)))
    {
        faults.push(Fault::new(format!("{path}.interval"), "is shorter than 100ms; write a longer one"));
    }
    for (field, condition) in
        [("successCondition", &metric.success_condition), ("failureCondition", &metric.failure_condition)]
    {
        if let Some(message) = condition.as_ref().and_then(|condition| condition::fault(&with_numbers(condition))) {
            faults.push(Fault::new(format!("{path}.{field}"), message));
        }
    }
    let sources = metric.sources();
    let is_told = || faults.iter().any(|fault| fault.path.starts_with(&format!("{path}.")));
    if sources.len() > 1 || (sources.is_empty() && !is_told()) {
        faults.push(Fault::new(path, "exactly one of prometheus, istio, compare, limit, web, job is required"));
    }
    if let Some(istio) = &metric.istio {
        check_preset(&format!("{path}.istio"), istio, faults);
    }
    job::check(path, metric, faults);
    if let Some(web) = &metric.web {
        check_web(&format!("{path}.web"), web, faults);
    }
    if let Some(counts) = metric.counts() {
        counted::check(path, metric, &counts, faults);
    } else if metric.weight.is_some() {
        faults.push(Fault::new(format!("{path}.weight"), "is of compare and limit alone; remove it"));
    }
    let is_counted = metric.counts().is_some();
    if metric.count.is_some_and(|count| count > 1) && metric.interval.is_none() && !is_counted {
        faults.push(Fault::new(format!("{path}.interval"), "is required when count is above 1"));
    }
    let is_over = match end {
        End::Never => true,
        End::Count => metric.count.is_some() || (metric.interval.is_none() && !is_counted),
        End::Evidence => metric.count.is_some() || metric.interval.is_none() || is_counted,
    };
    if !is_over {
        let why = "is required in a step's analysis: without it the step never ends";
        let otherwise = if is_counted { "; or write until: decided in the step" } else { "" };
        faults.push(Fault::new(format!("{path}.count"), format!("{why}{otherwise}")));
    }
}

fn check_web(path: &str, web: &WebMetric, faults: &mut Vec<Fault>) {
    if !web.path.starts_with('/') {
        faults.push(Fault::new(format!("{path}.path"), format!("{:?} does not begin with /", web.path)));
    }
    if web.body.is_some() && web.method.unwrap_or_default() == WebMethod::Get {
        faults.push(Fault::new(format!("{path}.body"), "is not of GET; write method: POST or PUT, or remove it"));
    }
    if let Some(why) = web.json_path.as_deref().and_then(json_path::fault) {
        faults.push(Fault::new(format!("{path}.jsonPath"), why));
    }
}

fn check_preset(path: &str, istio: &IstioMetric, faults: &mut Vec<Fault>) {
    match istio.window.as_ref().map(DurationText::parse) {
        Some(Err(message)) => faults.push(Fault::new(format!("{path}.window"), message)),
        Some(Ok(window)) if window < SignedDuration::from_secs(1) => {
            faults.push(Fault::new(format!("{path}.window"), "is shorter than 1s; write a longer one"));
        }
        Some(Ok(_)) | None => {}
    }
    if istio.quantile.is_some() && istio.metric != IstioMetricName::RequestDuration {
        faults.push(Fault::new(format!("{path}.quantile"), "is of requestDuration alone; remove it"));
    }
    if let Some(quantile) = istio.quantile.filter(|quantile| !(0.0..=1.0).contains(quantile)) {
        faults.push(Fault::new(format!("{path}.quantile"), format!("{quantile} is not between 0 and 1")));
    }
}

/// A condition with a number in place of every argument, so that it can be checked before the values are known.
fn with_numbers(condition: &str) -> String {
    let mut filled = String::with_capacity(condition.len());
    let mut rest = condition;
    while let Some((before, (inside, after))) =
        rest.split_once("{{").and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        let is_argument = inside.trim().starts_with("args.");
        filled.extend(if is_argument { [before, "1.0", ""] } else { [before, "{{", inside] });
        if !is_argument {
            filled.push_str("}}");
        }
        rest = after;
    }
    filled + rest
}

fn fill(
    observed: &Observed,
    spec: &AnalysisTemplateSpec,
    gate: &Gate,
    names: &Names<'_>,
) -> Result<Vec<Metric>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut values = Vec::new();
    for (index, arg) in spec.args.iter().flatten().enumerate() {
        let given = gate.args.iter().find(|given| given.name == arg.name);
        match given.map_or_else(|| Ok(arg.value.clone()), |given| argument(observed, given, names)) {
            Ok(Some(value)) => values.push((arg.name.clone(), value)),
            Ok(None) => faults.push(Fault::new(
                format!("spec.args[{index}]"),
                format!("{} has no value; give it in the Rollout's args", arg.name),
            )),
            Err(message) => faults.push(Fault::new(format!("spec.args[{index}]"), message)),
        }
    }
    let mut metrics = Vec::new();
    for (index, metric) in spec.metrics.iter().enumerate() {
        let path = format!("spec.metrics[{index}]");
        match fill_metric(&path, metric, &values, names) {
            Ok(metric) => {
                faults.extend(metric.job().and_then(|run| job::selected(&path, run, observed)));
                metrics.push(metric);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(metrics) } else { Err(faults) }
}

/// The value of an argument that a Rollout gives.
fn argument(observed: &Observed, given: &ArgumentSpec, names: &Names<'_>) -> Result<Option<String>, String> {
    let Some(source) = &given.value_from else {
        return Ok(given.value.clone());
    };
    if let Some(whose) = source.pod_template_hash_value {
        let hash = match whose {
            HashOf::Stable => names.stable,
            HashOf::Latest => names.canary,
        };
        return Ok(Some(hash.to_owned()));
    }
    let Some(field) = &source.field_ref else {
        return Ok(None);
    };
    let rollout = serde_json::to_value(&observed.rollout).unwrap_or_default();
    field_at(&rollout, &field.field_path)
        .map(Some)
        .ok_or_else(|| format!("{}: the Rollout has no field {}", given.name, field.field_path))
}

/// A field by a path such as `metadata.labels['region']` or `spec.replicas`, as text.
fn field_at(object: &Value, path: &str) -> Option<String> {
    let (path, key) = match path.split_once("['") {
        Some((path, key)) => (path, Some(key.strip_suffix("']")?)),
        None => (path, None),
    };
    let mut here = object;
    for part in path.split('.') {
        here = here.get(part)?;
    }
    if let Some(key) = key {
        here = here.get(key)?;
    }
    match here {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(here.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn fill_metric(
    path: &str,
    metric: &MetricSpec,
    values: &[(String, String)],
    names: &Names<'_>,
) -> Result<Metric, Fault> {
    let duration = |text: &Option<DurationText>| text.as_ref().and_then(|text| text.parse().ok());
    let interval = duration(&metric.interval);
    let filled = |text: &str| {
        let told = |unknown| format!("names {{{{args.{unknown}}}}}, which spec.args does not declare; declare it");
        interpolate(text, values).map_err(|unknown| Fault::new(path, told(unknown)))
    };
    let text = |text: &Option<String>| text.as_deref().map(filled).transpose();
    let web = metric.web.as_ref().map(|web| fill_web(path, web, values)).transpose()?;
    let job = metric.job.as_ref().map(|one| job::fill(path, one, values)).transpose()?;
    let asked = web.map(Source::Web).or(job.map(|job| Source::Job(Box::new(job))));
    let source = match (metric.counts(), &metric.istio) {
        (Some(counts), _) => {
            let counted = counted::fill(metric, &counts, filled, names)
                .map_err(|(field, why)| Fault::new(format!("{path}.{}.{field}", counts.member), why))??;
            Source::Counts(Box::new(counted))
        }
        (None, Some(istio)) => {
            let hash = if istio.revision.unwrap_or_default() == Role::Stable { names.stable } else { names.canary };
            let query = preset::query(istio, interval, hash, &names.place);
            Source::Value(query.map_err(|(field, why)| Fault::new(format!("{path}.istio.{field}"), why))?)
        }
        (None, None) => match asked {
            Some(asked) => asked,
            None => Source::Value(filled(metric.prometheus.as_ref().map_or("", |prometheus| &prometheus.query))?),
        },
    };
    let is_counted = matches!(source, Source::Counts(_));
    Ok(Metric {
        name: metric.name.clone(),
        template: String::new(),
        provider: metric.provider().unwrap_or(DEFAULT_PROVIDER).to_owned(),
        source,
        interval: interval.or(is_counted.then_some(counted::WINDOW)),
        delay: duration(&metric.initial_delay).unwrap_or_default(),
        count: metric.count.or((interval.is_none() && !is_counted).then_some(1)),
        failure_limit: Some(metric.failure_limit.unwrap_or(0)).filter(|limit| *limit >= 0),
        inconclusive_limit: metric.inconclusive_limit.unwrap_or(0),
        error_limit: metric.consecutive_error_limit.unwrap_or(4),
        enough_successes: metric.consecutive_success_limit.filter(|limit| *limit > 0),
        success: text(&metric.success_condition)?,
        failure: text(&metric.failure_condition)?,
        hold: duration(&metric.hold),
        on_no_data: metric.on_no_data.unwrap_or_default(),
        is_dry: false,
        kept: retention::KEPT,
    })
}

/// A request, arguments filled in: encoded where they are part of a path, escaped where they stand in JSON.
fn fill_web(path: &str, web: &WebMetric, values: &[(String, String)]) -> Result<WebQuery, Fault> {
    let encoded = |write: &dyn Fn(&str) -> String| -> Vec<(String, String)> {
        values.iter().map(|(name, value)| (name.clone(), write(value))).collect()
    };
    // A space is a plus in forms alone.
    let in_path =
        encoded(&|value| form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20"));
    let climbs = values
        .iter()
        .find(|(name, value)| matches!(value.as_str(), "." | "..") && web.path.contains(&format!("args.{name}")));
    if let Some((name, value)) = climbs {
        let why = format!("args.{name} is {value:?}, which leads to another path; give another value");
        return Err(Fault::new(format!("{path}.web.path"), why));
    }
    let in_json = encoded(&|value| {
        let quoted = Value::from(value).to_string();
        quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned()
    });
    let told = |field: &str, unknown: String| {
        let why = format!("names {{{{args.{unknown}}}}}, which spec.args does not declare; declare it");
        Fault::new(format!("{path}.web.{field}"), why)
    };
    let body = web.body.as_ref().map(|body| interpolate(body, &in_json).map_err(|unknown| told("body", unknown)));
    Ok(WebQuery {
        method: web.method.unwrap_or_default(),
        path: interpolate(&web.path, &in_path).map_err(|unknown| told("path", unknown))?,
        body: body.transpose()?,
        json_path: web.json_path.clone(),
    })
}

/// Fills `{{args.name}}` in; the name of an unknown argument is the error.
pub(super) fn interpolate(text: &str, values: &[(String, String)]) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, tail)) = after.split_once("}}") else {
            break;
        };
        filled.push_str(before);
        match inside.trim().strip_prefix("args.") {
            Some(name) => {
                let value = values.iter().find(|(known, _)| known == name).map(|(_, value)| value);
                filled.push_str(value.ok_or_else(|| name.to_owned())?);
            }
            None => filled.extend(["{{", inside, "}}"]),
        }
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests;
