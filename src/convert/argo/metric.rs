//! The metrics of a template of Argo. A metric whose meaning cannot be kept exactly is left out whole: no gate is guessed.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::expression;
use super::super::report::Decision;
use super::super::table::{Loss, Work};
use super::super::yaml::{Entry, Item, List, Map, Node, Scalar};
use super::Template;
use super::fields;
use super::provider::{self, Arguments};
use crate::api::analysis::MetricSpec;
use crate::api::duration::DurationText;
use crate::api::status::Assessment;
use crate::plan::job;

/// Looks at a template before its fields are turned: which arguments are of a Secret.
pub(super) fn prepare(work: &mut Work<'_>, template: &Node) {
    work.secrets = secrets(template);
    let metrics = template.at(&["spec", "metrics"]).map_or(&[][..], Node::items).iter();
    let queries: String = metrics.filter_map(|item| item.value.text_at(&["provider", "prometheus", "query"])).collect();
    work.asked = work.secrets.keys().filter(|name| queries.contains(&format!("args.{name}"))).cloned().collect();
}

fn secrets(template: &Node) -> BTreeMap<String, (String, String)> {
    let secret = |item: &Item| {
        let reference = item.value.at(&["valueFrom", "secretKeyRef"])?;
        let name = item.value.text_at(&["name"])?.to_owned();
        Some((name, (reference.text_at(&["name"])?.to_owned(), reference.text_at(&["key"])?.to_owned())))
    };
    template.at(&["spec", "args"]).map_or(&[][..], Node::items).iter().filter_map(secret).collect()
}

/// Every metric.
pub(super) fn metrics(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let Node::List(mut list) = entry.value else {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    };
    let mut kept: Vec<Item> = Vec::new();
    for (index, item) in std::mem::take(&mut list.items).into_iter().enumerate() {
        let place = format!("{path}[{index}]");
        let Node::Map(map) = item.value.clone() else { continue };
        match obstacle(work, &item.value) {
            Some((field, why)) => {
                let what = item.value.text_at(&["name"]).unwrap_or("a metric").to_owned();
                let why = format!("{why}; the metric {what} is left out");
                work.leave_out_with(&format!("{place}.{field}"), &what, item.all_comments(), (Loss::Protection, &why));
                for entry in map.entries.iter().filter(|entry| !field.starts_with(&entry.key.text)) {
                    work.tell(
                        &format!("{place}.{}", entry.key.text),
                        Decision::NotSupported,
                        "left out with its metric",
                    );
                }
            }
            None => {
                let map = if is_job(&item.value) { without_conditions(work, &place, map) } else { map };
                let mut map = work.fields(&place, map);
                finish(work, &place, &item.value, &mut map);
                let above = work.take_left().into_iter().chain(item.above).collect();
                kept.push(Item { above, beside: item.beside, value: Node::Map(map) });
            }
        }
    }
    list.below = work.take_left().into_iter().chain(list.below).collect();
    if kept.is_empty() {
        work.leave_comments(list.below);
        return Vec::new();
    }
    vec![Entry { value: Node::List(List::with(list, kept)), ..entry }]
}

fn is_job(metric: &Node) -> bool {
    metric.at(&["provider", "job"]).is_some()
}

/// A metric of a Job without conditions, which Argo Rollouts does not look at.
fn without_conditions(work: &mut Work<'_>, place: &str, mut map: Map) -> Map {
    for field in ["successCondition", "failureCondition"] {
        if let Some(entry) = map.take(field) {
            let how = "left out: a Job is complete or failed, and Argo Rollouts asks no condition";
            work.tell(&format!("{place}.{field}"), Decision::Translated, how);
            work.leave_comments(entry.all_comments());
        }
    }
    map
}

/// Why a metric cannot be converted: the field, and the reason.
fn obstacle(work: &Work<'_>, metric: &Node) -> Option<(String, String)> {
    let provider = metric.at(&["provider"]);
    if let Some(job) = provider.and_then(|provider| provider.at(&["job"])) {
        return job_obstacle(work, job).or_else(|| number_obstacle(work, metric));
    }
    let Some(prometheus) = provider.and_then(|provider| provider.at(&["prometheus"])) else {
        let other = provider.and_then(|provider| provider.entries().first()).map(|entry| entry.key.text.clone());
        let why = if other.as_deref() == Some("web") { fields::WEB } else { fields::OTHER_PROVIDER };
        let field = other.map_or("provider".to_owned(), |other| format!("provider.{other}"));
        return Some((field, why.to_owned()));
    };
    if prometheus.at(&["rangeQuery"]).is_some() {
        let why = "the answer is a list of points in time; write the range in the query, such as avg_over_time(…[5m:])";
        return Some(("provider.prometheus.rangeQuery".to_owned(), why.to_owned()));
    }
    let arguments = Arguments { defaults: &work.defaults, secrets: &work.secrets };
    if let Err(why) = provider::spec(prometheus, &arguments) {
        let field =
            ["authentication", "headers", "address"].into_iter().find(|field| prometheus.at(&[field]).is_some());
        return Some((format!("provider.prometheus.{}", field.unwrap_or("address")), why));
    }
    for field in ["successCondition", "failureCondition"] {
        if let Some(Err(why)) = metric.text_at(&[field]).filter(|text| !text.trim().is_empty()).map(expression::to_cel)
        {
            return Some((field.to_owned(), format!("the condition has no exact equal in CEL: {why}")));
        }
    }
    number_obstacle(work, metric)
}

/// Why a Job cannot be kept as it is.
fn job_obstacle(work: &Work<'_>, job: &Node) -> Option<(String, String)> {
    let text = job.value().to_string();
    let secret = work.secrets.keys().find(|name| text.contains(&format!("args.{name}")));
    if let Some(name) = secret {
        let why = format!("{{{{args.{name}}}}} is of a Secret; let its pods read the Secret themselves");
        return Some(("provider.job".to_owned(), why));
    }
    let metric: MetricSpec = serde_json::from_value(json!({"name": "metric", "job": job.value()})).ok()?;
    let mut faults = Vec::new();
    job::check("provider", &metric, &mut faults);
    let fault = faults.into_iter().next()?;
    Some(("provider.job".to_owned(), fault.to_string()))
}

/// A number or a duration that cannot be kept.
fn number_obstacle(work: &Work<'_>, metric: &Node) -> Option<(String, String)> {
    let arguments = Arguments { defaults: &work.defaults, secrets: &work.secrets };
    for field in ["count", "failureLimit", "inconclusiveLimit", "consecutiveErrorLimit", "consecutiveSuccessLimit"] {
        if let Some(Err(why)) = metric.text_at(&[field]).map(|text| whole_number(&arguments, text)) {
            return Some((field.to_owned(), why));
        }
    }
    for field in ["interval", "initialDelay"] {
        if let Some(Err(why)) = metric.text_at(&[field]).map(|text| filled_duration(&arguments, text)) {
            return Some((field.to_owned(), why));
        }
    }
    None
}

/// What the metric does not say and means otherwise in Serin.
fn finish(work: &mut Work<'_>, place: &str, metric: &Node, map: &mut Map) {
    if is_job(metric) {
        return;
    }
    let original = |key: &str| metric.text_at(&[key]).filter(|text| !text.trim().is_empty());
    let (meaning, how) = no_data(original("successCondition"), original("failureCondition"));
    if let Some(meaning) = meaning {
        map.entries.push(Entry::new("onNoData", Scalar::string(meaning)));
        work.tell(&format!("{place}.onNoData"), Decision::Translated, how);
    }
}

/// What Argo Rollouts makes of an answer without data, in Serin's word, and how that is told.
fn no_data(success: Option<&str>, failure: Option<&str>) -> (Option<&'static str>, &'static str) {
    if success.is_none() && failure.is_none() {
        return (Some("Pass"), "added: without a condition every answer is a success, and so is none");
    }
    let [success_seen, failure_seen] = [success, failure].map(|text| text.map(expression::without_data));
    let assess = |at: usize| -> Option<Assessment> {
        let of = |seen: Option<[Option<bool>; 2]>| seen.map(|seen| seen.get(at).copied().flatten());
        Some(match (of(success_seen), of(failure_seen)) {
            (None, None) => Assessment::Success,
            (Some(success), None) => {
                if success? {
                    Assessment::Success
                } else {
                    Assessment::Failure
                }
            }
            (None, Some(failure)) => {
                if failure? {
                    Assessment::Failure
                } else {
                    Assessment::Success
                }
            }
            (Some(success), Some(failure)) => match (success?, failure?) {
                (_, true) => Assessment::Failure,
                (true, false) => Assessment::Success,
                (false, false) => Assessment::Inconclusive,
            },
        })
    };
    match (assess(0), assess(1)) {
        (Some(Assessment::Failure), _) => {
            (Some("Fail"), "added: as in Argo Rollouts NaN fails; without the line Serin waits for traffic")
        }
        (Some(Assessment::Success), Some(Assessment::Success)) => {
            (Some("Pass"), "added: the condition takes an answer without data for a success")
        }
        _ => (None, ""),
    }
}

/// `templates`: those that name this template name them.
#[expect(clippy::needless_pass_by_value, reason = "every field's function takes its entry")]
pub(super) fn nested(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let names: Vec<String> =
        entry.value.items().iter().filter_map(|item| Some(Template::of(&item.value)?.name)).collect();
    let how = format!("Rollouts that name this template name {} too", names.join(", "));
    work.tell(path, Decision::Translated, &how);
    Vec::new()
}

/// A duration; Go's have fractions, Serin's have not.
pub(super) fn duration(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let text = entry.value.text().unwrap_or_default().to_owned();
    let arguments = Arguments { defaults: &work.defaults, secrets: &work.secrets };
    match filled_duration(&arguments, &text) {
        Ok(turned) if turned == text => {
            work.tell(path, Decision::Kept, "");
            vec![entry]
        }
        Ok(turned) => {
            work.tell(path, Decision::Translated, &turned);
            vec![entry.with(Scalar::string(&turned))]
        }
        Err(why) => {
            work.leave_out(
                path,
                &entry,
                (Loss::Protection, &format!("{why}; a pause without a duration waits for a person")),
            );
            Vec::new()
        }
    }
}

fn filled_duration(arguments: &Arguments<'_>, text: &str) -> Result<String, String> {
    let text = arguments.fill(text)?;
    if DurationText::Text(text.clone()).parse().is_ok() {
        return Ok(text);
    }
    let wrong = || format!("{text} is no duration that Serin knows; write 30s, 5m or 1h30m");
    let mut millis = 0.0_f64;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let units = [("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(wrong)?;
        millis += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = tail.get(unit.len()..).unwrap_or_default();
    }
    if millis.fract() != 0.0 || millis > 1e15 {
        return Err(wrong());
    }
    let in_units = [("h", 3.6e6), ("m", 6e4), ("s", 1e3), ("ms", 1.0)];
    let (unit, factor) = in_units.into_iter().find(|(_, factor)| millis % factor == 0.0).ok_or_else(wrong)?;
    Ok(format!("{:.0}{unit}", millis / factor))
}

/// A whole number, which Argo Rollouts takes as text too.
pub(super) fn whole(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let text = entry.value.text().unwrap_or_default().to_owned();
    let arguments = Arguments { defaults: &work.defaults, secrets: &work.secrets };
    let is_number = entry.value.value().is_i64();
    match whole_number(&arguments, &text) {
        Ok(number) if !is_number => {
            let how = if text.contains("{{") {
                format!("{number}, the default of {text}: a number has no arguments in Serin")
            } else {
                "as a number".to_owned()
            };
            work.tell(path, Decision::Translated, &how);
            vec![entry.with(Scalar::plain(&number.to_string()))]
        }
        _ => {
            work.tell(path, Decision::Kept, "");
            vec![entry]
        }
    }
}

fn whole_number(arguments: &Arguments<'_>, text: &str) -> Result<i64, String> {
    let text = arguments.fill(text)?;
    text.trim().parse().map_err(|_| format!("{text} is no whole number"))
}

/// Errors in a row: Serin pauses where Argo Rollouts aborts.
pub(super) fn errors(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let turned = whole(work, path, entry);
    if let Some(last) = work.lines.last_mut() {
        "one more pauses the rollout until Prometheus answers again; Argo Rollouts aborts".clone_into(&mut last.note);
    }
    turned
}

/// A condition in CEL; that there is one was seen before.
pub(super) fn condition(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let text = entry.value.text().unwrap_or_default().to_owned();
    if text.trim().is_empty() {
        work.tell(path, Decision::Translated, "left out: it is empty");
        return Vec::new();
    }
    let Ok(cel) = expression::to_cel(&text) else {
        work.leave_out(path, &entry, (Loss::Protection, "the condition has no exact equal in CEL"));
        return Vec::new();
    };
    if cel == text.trim() {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    }
    work.tell(path, Decision::Translated, &format!("in CEL: {cel}"));
    vec![entry.with(Scalar::string(&cel))]
}

/// The provider: `prometheus` in the metric itself, and a MetricProvider for its address.
pub(super) fn provider(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    if let Some(job) = entry.value.at(&["job"]).cloned() {
        work.tell(path, Decision::Translated, "job, as it is");
        let inner = entry.value.entries().iter().find(|entry| entry.key.text == "job");
        let mut turned = Entry::new("job", job);
        turned.above = entry.above.iter().chain(inner.iter().flat_map(|inner| &inner.above)).cloned().collect();
        turned.beside = entry.beside.clone().or_else(|| inner.and_then(|inner| inner.beside.clone()));
        return vec![turned];
    }
    let Some(prometheus) = entry.value.at(&["prometheus"]).cloned() else {
        work.tell(path, Decision::Kept, "");
        return vec![entry];
    };
    let arguments = Arguments { defaults: &work.defaults, secrets: &work.secrets };
    let spec = provider::spec(&prometheus, &arguments).ok().flatten();
    let name = spec.map(|spec| work.argo.providers.name(&spec));
    let how = match &name {
        Some(name) => format!("prometheus, of the MetricProvider {name}"),
        None => "prometheus, of the provider default: start Serin with --prometheus-url".to_owned(),
    };
    work.tell(path, Decision::Translated, &how);
    work.provider.clone_from(&name);
    let Node::Map(map) = prometheus else { return Vec::new() };
    let mut map = work.fields(&format!("{path}.prometheus"), map);
    if let Some(name) = name {
        map.entries.insert(0, Entry::new("provider", Scalar::string(&name)));
    }
    let inner = entry.value.entries().iter().find(|entry| entry.key.text == "prometheus");
    let mut turned = Entry::new("prometheus", map);
    turned.above = entry.above.iter().chain(inner.iter().flat_map(|inner| &inner.above)).cloned().collect();
    turned.beside = entry.beside.clone().or_else(|| inner.and_then(|inner| inner.beside.clone()));
    vec![turned]
}

/// What the MetricProvider says.
#[expect(clippy::needless_pass_by_value, reason = "every field's function takes its entry")]
pub(super) fn of_provider(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let how = match &work.provider {
        Some(name) => format!("in the MetricProvider {name}"),
        None => "left to the provider default".to_owned(),
    };
    work.tell(path, Decision::Translated, &how);
    work.leave_comments(entry.all_comments());
    Vec::new()
}

/// The arguments of a template. One of a Secret that no query names was for a header, and is the MetricProvider's now.
pub(super) fn arguments(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let mut entry = entry;
    let Node::List(list) = &mut entry.value else { return work.enter(path, entry) };
    let mut gone = Vec::new();
    for (index, item) in list.items.iter().enumerate() {
        let name = item.value.text_at(&["name"]).unwrap_or_default();
        if work.secrets.contains_key(name) && !work.asked.contains(name) {
            gone.push(index);
        }
    }
    // Turned first, so that the indexes in the report are those of the input.
    let mut turned = Vec::new();
    for (index, item) in std::mem::take(&mut list.items).into_iter().enumerate() {
        let place = format!("{path}[{index}]");
        if gone.contains(&index) {
            work.tell(
                &format!("{place}.valueFrom.secretKeyRef"),
                Decision::Translated,
                "the token of a MetricProvider, which reads the Secret itself",
            );
            work.leave_comments(item.all_comments());
            continue;
        }
        let value = match item.value {
            Node::Map(map) => Node::Map(work.fields(&place, map)),
            Node::Scalar(_) | Node::List(_) => item.value,
        };
        let above = work.take_left().into_iter().chain(item.above).collect();
        turned.push(Item { above, beside: item.beside, value });
    }
    list.below = work.take_left().into_iter().chain(std::mem::take(&mut list.below)).collect();
    if turned.is_empty() {
        work.leave_comments(std::mem::take(&mut list.below));
        return Vec::new();
    }
    list.items = turned;
    vec![entry]
}
