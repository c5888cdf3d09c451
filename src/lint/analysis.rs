//! The analyses of a Rollout: templates, arguments, providers and queries; and whether their measurements can mean anything.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::Value;

use super::counted;
use super::find::{Found, Mark};
use super::input::{CLUSTER_TEMPLATE, Object, PROVIDER, TEMPLATE};
use super::name::{Missing, Target, follow};
use super::promql::{self, Query};
use super::rule;
use super::steps;
use super::subject::{GateAt, Subject};
use crate::api::analysis::{AnalysisTemplateSpec, IstioMetricName, MetricSpec, OnNoData};
use crate::api::status::Assessment;
use crate::plan::condition;
use crate::plan::measurement::Sample;
use crate::plan::observed::Observed;
use crate::plan::preset::Place;
use crate::plan::route::Route;
use crate::plan::strategy::{Gate, Routing, Step};
use crate::plan::template::{self, End, Metric, Names, Source};

/// What arguments stand for while queries are read.
fn names(subject: &Subject<'_>, observed: &Observed) -> Names<'static> {
    let place = Place::of(observed, subject.strategy.routing.as_ref(), &Route::default());
    Names { rollout: "name", stable: "stablehash", canary: "canaryhash", place }
}

/// A template that a gate names, and can be read.
struct Used<'a> {
    object: &'a Object,
    spec: AnalysisTemplateSpec,
}

/// Looks at the analyses of one Rollout.
pub(super) fn check(subject: &Subject<'_>, observed: &Observed, missing: &mut Vec<Missing>, found: &mut Found) {
    let weights = template::weights(observed, &subject.strategy);
    for at in subject.gates() {
        let mut used = Vec::new();
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for index in 0..at.gate.templates.len() {
            let Some(one) = used_at(subject, &at, index, missing, found) else { continue };
            let metrics = filled(subject, observed, (&at, index), &one, missing, found);
            for (position, metric) in metrics.iter().enumerate() {
                if let Some(first) = names.insert(metric.name.clone(), index).filter(|first| *first != index) {
                    let path = format!("{}.templates[{index}].templateName", at.path);
                    let message = format!("has a metric {}, which templates[{first}] has, too", metric.name);
                    found.add(&rule::METRIC_TWICE, subject.object, &path, message);
                }
                check_metric(subject, &at, (&one, position), (metric, weights), found);
            }
            used.push(one);
        }
        check_arguments(subject, &at, &used, found);
        check_traffic(subject, &at, &used, found);
    }
}

/// The template that a gate names at an index; none where it is missing or broken, which is told.
fn used_at<'a>(
    subject: &Subject<'a>,
    at: &GateAt<'_>,
    index: usize,
    missing: &mut Vec<Missing>,
    found: &mut Found,
) -> Option<Used<'a>> {
    let reference = at.gate.templates.get(index)?;
    let kind = if reference.cluster_scope.unwrap_or(false) { CLUSTER_TEMPLATE } else { TEMPLATE };
    let path = format!("{}.templates[{index}].templateName", at.path);
    match follow(subject, (kind, &reference.template_name, &path), missing, found) {
        Target::Found(object) => {
            let spec = template::parse_template(object.value.get("spec")?, End::of(at.gate, at.step.is_none())).ok()?;
            Some(Used { object, spec })
        }
        Target::Wrong | Target::Absent => None,
    }
}

/// The metrics of one template as the controller fills them in; tells what is in the way.
fn filled(
    subject: &Subject<'_>,
    observed: &Observed,
    (at, index): (&GateAt<'_>, usize),
    used: &Used<'_>,
    missing: &mut Vec<Missing>,
    found: &mut Found,
) -> Vec<Metric> {
    let mut observed = Observed {
        rollout: observed.rollout.clone(),
        templates: observed.templates.clone(),
        providers: observed.providers.clone(),
        ..Observed::default()
    };
    for (position, metric) in used.spec.metrics.iter().enumerate() {
        let name = metric.provider().unwrap_or("default");
        if observed.providers.contains_key(name) {
            continue;
        }
        // `default` may come from the controller's own arguments.
        if name != "default" {
            let known: Vec<String> = subject.input.of(PROVIDER).map(|one| one.name.clone()).collect();
            match super::name::nearest(name, &known) {
                Some(other) => {
                    let source = metric.sources().first().copied().unwrap_or_default();
                    let path = format!("spec.metrics[{position}].{source}.provider");
                    let message = format!("MetricProvider {name} is not in the input, and {other} is");
                    found.add_with(
                        &rule::NAME_MISSPELT,
                        (used.object, &path, Mark::Value),
                        message,
                        &format!("write {other}"),
                    );
                }
                None => missing.push(Missing::of("MetricProvider", name)),
            }
        }
        observed.providers.insert(name.to_owned(), None);
    }
    let templates = at.gate.templates.get(index).cloned().into_iter().collect();
    let gate = Gate { templates, ..at.gate.clone() };
    match template::metrics(&observed, &gate, End::of(&gate, at.step.is_none()), &names(subject, &observed)) {
        Ok(metrics) => metrics,
        Err(obstacles) => {
            for (reason, message) in obstacles {
                tell_obstacle(subject, (at, index), used, (reason, &message), found);
            }
            Vec::new()
        }
    }
}

fn tell_obstacle(
    subject: &Subject<'_>,
    (at, index): (&GateAt<'_>, usize),
    used: &Used<'_>,
    (reason, message): (&str, &str),
    found: &mut Found,
) {
    let path = format!("{}.templates[{index}].templateName", at.path);
    let of_template = message.strip_prefix(&format!("{} {}: ", used.object.kind, used.object.name));
    match of_template.and_then(|told| told.split_once(": ")) {
        Some((place, told)) if told.contains("does not declare") => {
            // A declared argument without a value is told as such.
            let is_declared = |name: &str| used.spec.args.iter().flatten().any(|arg| arg.name == name);
            let named = told.split_once("{{args.").and_then(|(_, rest)| rest.split_once("}}"));
            if !named.is_some_and(|(name, _)| is_declared(name)) {
                found.told(&rule::ARGUMENT, used.object, place, told);
            }
        }
        // What a preset cannot measure in this Rollout.
        Some((place, told)) if [".istio.", ".compare.", ".limit."].iter().any(|member| place.contains(member)) => {
            found.told(&rule::INVALID_TEMPLATE, used.object, place, told);
        }
        Some((_, told)) => {
            let message = format!("{} {}: {told}", used.object.kind, used.object.name);
            found.told(&rule::ARGUMENT, subject.object, &path, &message);
        }
        // What is wrong with the provider itself is told there.
        None if reason == "ProviderInvalid" && !message.contains("does not allow") => {}
        None if reason == "ProviderInvalid" => found.told(&rule::INVALID_PROVIDER, subject.object, &path, message),
        None => {
            let twice = message.contains("stands in two templates");
            found.told(
                if twice { &rule::METRIC_TWICE } else { &rule::INVALID_TEMPLATE },
                subject.object,
                &path,
                message,
            );
        }
    }
}

/// Arguments that no template declares.
fn check_arguments(subject: &Subject<'_>, at: &GateAt<'_>, used: &[Used<'_>], found: &mut Found) {
    if used.len() != at.gate.templates.len() || used.is_empty() {
        return;
    }
    let declared: Vec<String> =
        used.iter().flat_map(|one| one.spec.args.iter().flatten()).map(|arg| arg.name.clone()).collect();
    for (index, arg) in at.gate.args.iter().enumerate().filter(|(_, arg)| !declared.contains(&arg.name)) {
        let fix = super::name::nearest(&arg.name, &declared).map(|name| format!("write {name}")).unwrap_or_default();
        let path = format!("{}.args[{index}].name", at.path);
        let message = format!("{} is declared by none of the templates", arg.name);
        found.add_with(&rule::ARGUMENT_UNUSED, (subject.object, &path, Mark::Value), message, &fix);
    }
}

/// A step that measures before the canary has traffic. A test that a server or a Job runs needs none.
fn check_traffic(subject: &Subject<'_>, at: &GateAt<'_>, used: &[Used<'_>], found: &mut Found) {
    let Some(step) = at.step else { return };
    let is_known = used.len() == at.gate.templates.len();
    if is_known
        && used.iter().flat_map(|one| &one.spec.metrics).all(|metric| metric.web.is_some() || metric.job.is_some())
    {
        return;
    }
    let has_weight = |step: &Step| matches!(step, Step::SetWeight(weight) if *weight > 0);
    let mut before = subject.strategy.steps.iter().take(step);
    let weight = before.rfind(|step| matches!(step, Step::SetWeight(_)));
    if weight.is_none_or(|weight| !has_weight(weight)) {
        let message = "runs while the canary has no traffic; a metric of its requests has no data".to_owned();
        found.add_with(&rule::ANALYSIS_BEFORE_TRAFFIC, (subject.object, &at.path, Mark::Key), message, "");
    }
}

fn check_metric(
    subject: &Subject<'_>,
    at: &GateAt<'_>,
    (used, index): (&Used<'_>, usize),
    (metric, weights): (&Metric, f64),
    found: &mut Found,
) {
    let object = used.object;
    let path = format!("spec.metrics[{index}]");
    if let Some(counted) = metric.counted() {
        let is_given = used.spec.metrics.get(index).is_some_and(|spec| spec.interval.is_some());
        counted::check(subject, (object, &path), (metric, counted, is_given), found);
        counted::check_sight(subject, at, (object, &path), (metric, counted, weights), found);
        return;
    }
    if matches!(metric.source, Source::Web(_) | Source::Job(_)) {
        check_end(subject, at, (object, &path), metric, found);
        return;
    }
    let of_query = match used.spec.metrics.get(index).and_then(|metric| metric.istio.as_ref()) {
        Some(istio) if istio.window.is_some() => format!("{path}.istio.window"),
        Some(_) => format!("{path}.istio"),
        None => format!("{path}.prometheus.query"),
    };
    let text = metric.query().unwrap_or_default();
    match promql::read(text) {
        Err(message) => {
            let filled = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let shown =
                if text.contains("canaryhash") { format!("{message}; it was read as {filled}") } else { message };
            found.add_with(&rule::PROMQL, (object, &of_query, Mark::Key), shown, "");
        }
        Ok(query) => {
            if let Some(unknown) = query.as_ref().and_then(|query| query.unknown.as_ref()) {
                let message = format!("Prometheus has no function {unknown}");
                found.add_with(&rule::PROMQL_FUNCTION, (object, &of_query, Mark::Key), message, "");
            }
            check_query(subject, at, (object, &of_query), (used, index, metric), query.as_ref(), found);
        }
    }
    if metric.success.is_none() && metric.failure.is_none() {
        let message = format!("{} has no condition", metric.name);
        found.add_with(&rule::ANALYSIS_ALWAYS_PASSES, (object, &path, Mark::Key), message, "");
    } else {
        let path = format!("{path}.failureLimit");
        match (metric.failure_limit, metric.count) {
            (None, _) => found.add(&rule::ANALYSIS_CANNOT_FAIL, object, &path, "tolerates every failure"),
            (Some(limit), Some(count)) if limit >= count => {
                let message = format!("tolerates {limit} failures of {count} measurements");
                found.add(&rule::ANALYSIS_CANNOT_FAIL, object, &path, message);
            }
            (Some(_), _) => {}
        }
    }
    check_best(object, (&path, used.spec.metrics.get(index)), metric, found);
    if metric.on_no_data == OnNoData::Pass {
        found.add(&rule::NO_DATA_PASSES, object, &format!("{path}.onNoData"), "lets a canary without any traffic pass");
    }
    if let Some(interval) = metric.interval.filter(|interval| *interval < subject.input.settings.scrape_interval) {
        let message = format!(
            "{interval:#} is shorter than a scrape ({:#}): several measurements see one sample",
            subject.input.settings.scrape_interval
        );
        found.add(&rule::INTERVAL_TOO_SHORT, object, &format!("{path}.interval"), message);
    }
    check_end(subject, at, (object, &path), metric, found);
}

/// A preset whose conditions the best answer does not pass.
fn check_best(object: &Object, (path, spec): (&str, Option<&MetricSpec>), metric: &Metric, found: &mut Found) {
    let best = match spec.and_then(|spec| spec.istio.as_ref()).map(|istio| istio.metric) {
        Some(IstioMetricName::RequestSuccessRate) => 1.0,
        Some(IstioMetricName::RequestDuration) => 0.0,
        Some(IstioMetricName::RequestRate) | None => return,
    };
    let answer = Sample::Vector(vec![best]);
    let (success, failure) = (metric.success.as_deref(), metric.failure.as_deref());
    match condition::assess(&answer, success, failure) {
        Ok(Assessment::Success) => {}
        Ok(_) => {
            let message = format!("{} does not pass by the best answer there is, {best}", metric.name);
            found.add_with(&rule::ANALYSIS_NEVER_PASSES, (object, path, Mark::Key), message, "");
        }
        Err(error) => {
            let message = format!("{} cannot be judged: {error}", metric.name);
            found.add_with(&rule::ANALYSIS_NEVER_PASSES, (object, path, Mark::Key), message, "write result[0]");
        }
    }
}

/// What a query sees: whose requests, and from when.
fn check_query(
    subject: &Subject<'_>,
    at: &GateAt<'_>,
    (object, path): (&Object, &str),
    (used, index, metric): (&Used<'_>, usize, &Metric),
    query: Option<&Query>,
    found: &mut Found,
) {
    let place = (object, path, Mark::Key);
    let is_of_canary = tells_canary(subject, at, (used, index), metric);
    if !is_of_canary {
        let message =
            "names neither the canary's revision nor its subset: at a small weight stable's requests hide the canary's"
                .to_owned();
        found.add_with(&rule::QUERY_WITHOUT_REVISION, place, message, "");
    }
    let Some(windows) = query.map(|query| &query.windows) else { return };
    let least = subject.input.settings.scrape_interval.saturating_mul(2);
    if let Some(window) = windows.first().filter(|window| **window < least) {
        let message =
            format!("looks at {window:#}, less than two scrapes of {:#}", subject.input.settings.scrape_interval);
        let is_preset = used.spec.metrics.get(index).is_some_and(|metric| metric.istio.is_some());
        let fix =
            if is_preset { format!("write window: {least:#}, or more") } else { format!("write [{least:#}] or more") };
        found.add_with(&rule::WINDOW_TOO_SHORT, place, message, &fix);
    }
    if let Some(window) = windows.last().filter(|window| **window > metric.delay && !is_of_canary && at.step.is_some())
    {
        let message =
            format!("looks back {window:#}, and the first measurement comes {:#} after the weight", metric.delay);
        found.add_with(&rule::WINDOW_BEFORE_STEP, place, message, &format!("write initialDelay: {window:#}"));
    }
}

/// Whether a query names something that only the canary has.
fn tells_canary(subject: &Subject<'_>, at: &GateAt<'_>, (used, index): (&Used<'_>, usize), metric: &Metric) -> bool {
    let names: Vec<&str> = match &subject.strategy.routing {
        Some(Routing::Hosts { canary, .. }) => vec![canary],
        Some(Routing::InPlace { rule: Some((_, _, canary)), .. }) => vec![canary],
        Some(Routing::InPlace { rule: None, .. } | Routing::Owned { .. }) | None => Vec::new(),
    };
    let Some(spec) = used.spec.metrics.get(index) else { return false };
    // A preset says whose requests it counts.
    if spec.istio.is_some() {
        return true;
    }
    let written = spec.prometheus.as_ref().map_or("", |one| &one.query);
    let from_rollout = at.gate.args.iter().filter(|arg| arg.value_from.is_some());
    let mut marks = from_rollout.map(|arg| format!("args.{}", arg.name));
    let query = metric.query().unwrap_or_default();
    query.to_lowercase().contains("canary")
        || names.iter().any(|name| query.contains(name))
        || marks.any(|mark| written.contains(&mark))
}

/// A background analysis that is over long before the steps are.
fn check_end(
    subject: &Subject<'_>,
    at: &GateAt<'_>,
    (object, path): (&Object, &str),
    metric: &Metric,
    found: &mut Found,
) {
    let (Some(background), Some(count), Some(interval)) = (&subject.strategy.background, metric.count, metric.interval)
    else {
        return;
    };
    if at.step.is_some() {
        return;
    }
    let takes = metric.delay.saturating_add(interval.saturating_mul(count.saturating_sub(1)));
    let steps = steps::length(subject, background.starting_step);
    if steps.is_none_or(|steps| takes < steps) {
        let last = steps.map_or_else(|| "wait for a person".to_owned(), |steps| format!("take {steps:#}"));
        let message =
            format!("ends the background analysis after {takes:#}, and the steps {last}: what fails later is not seen");
        found.add(&rule::BACKGROUND_ENDS_EARLY, object, &format!("{path}.count"), message);
    }
}

/// How long a gate takes at least: its longest metric. Nothing for templates that are not in the input.
pub(super) fn length(subject: &Subject<'_>, gate: &Gate) -> SignedDuration {
    let of_template = |name: &str, is_cluster: bool| {
        let kind = if is_cluster { CLUSTER_TEMPLATE } else { TEMPLATE };
        let spec: &Value = subject.input.find(kind, &subject.object.namespace, name)?.value.get("spec")?;
        let spec: AnalysisTemplateSpec = serde_json::from_value(spec.clone()).ok()?;
        let of = |text: &Option<crate::api::duration::DurationText>| {
            text.as_ref().and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let lengths = spec.metrics.iter().map(|metric| {
            let more = metric.count.unwrap_or(1).saturating_sub(1).max(0);
            of(&metric.initial_delay).saturating_add(of(&metric.interval).saturating_mul(more))
        });
        lengths.max()
    };
    let templates = gate.templates.iter();
    templates
        .filter_map(|one| of_template(&one.template_name, one.cluster_scope.unwrap_or(false)))
        .max()
        .unwrap_or_default()
}
