//! What a commit does, as text and as Markdown.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Change, Difference, Item, TemplateDifference, Time, metric_text};
use crate::sim::show::text::clock;

/// All as text.
pub(super) fn text(items: &[Item]) -> String {
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let (kind, name) = item.title();
        let _ = writeln!(out, "{kind} {name}: {}", item.summary());
        for (title, lines) in item.parts() {
            for (at, line) in lines.iter().enumerate() {
                let _ = writeln!(out, "  {:<9} {line}", if at == 0 { title } else { "" });
            }
        }
    }
    out
}

/// All as Markdown.
pub(super) fn markdown(items: &[Item]) -> String {
    let mut out = String::new();
    for item in items {
        let (kind, name) = item.title();
        let _ = writeln!(out, "### {kind} `{name}`\n\n{}\n", capital(item.summary()));
        let _ = writeln!(out, "| | |\n|---|---|");
        for (title, lines) in item.parts() {
            let lines: Vec<String> = lines.iter().map(|line| line.replace('|', "\\|")).collect();
            let _ = writeln!(out, "| {title} | {} |", lines.join("<br>"));
        }
        out.push('\n');
    }
    out
}

impl Item {
    /// The kind and the name.
    fn title(&self) -> (&str, &str) {
        match self {
            Self::Rollout(difference) => ("Rollout", &difference.rollout),
            Self::Template(difference) => {
                difference.analysis_template.split_once(' ').unwrap_or(("", &difference.analysis_template))
            }
        }
    }

    fn summary(&self) -> &str {
        match self {
            Self::Rollout(difference) => &difference.summary,
            Self::Template(difference) => &difference.summary,
        }
    }

    /// The parts that there is something to say of, each with its lines.
    fn parts(&self) -> Vec<(&'static str, Vec<String>)> {
        let parts = match self {
            Self::Rollout(difference) => parts(difference),
            Self::Template(difference) => template_parts(difference),
        };
        parts.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
    }
}

fn template_parts(difference: &TemplateDifference) -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("metrics", difference.metrics.iter().map(metric_change).collect()),
        ("spec", difference.spec.iter().map(change).collect()),
        ("faults", difference.faults.clone()),
        ("used by", difference.used_by.clone()),
        ("canary", difference.canaries.clone()),
    ]
}

/// A metric that comes or goes is told by what it wants.
fn metric_change(one: &Change) -> String {
    match (&one.from, &one.to) {
        (Value::Null, Value::Object(fields)) if fields.contains_key("name") => {
            format!("new: {}", metric_text(&one.to))
        }
        (Value::Object(fields), Value::Null) if fields.contains_key("name") => {
            format!("removed: {}", metric_text(&one.from))
        }
        _ => change(one),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}

fn parts(difference: &Difference) -> Vec<(&'static str, Vec<String>)> {
    let revision = difference
        .from_revision
        .as_ref()
        .filter(|from| **from != difference.to_revision)
        .map(|from| format!("{from} -> {}", difference.to_revision));
    let steps = difference.steps.iter().enumerate().map(|(at, step)| format!("{} {step}", at + 1)).collect();
    let people = match difference.people {
        0 => None,
        1 => Some("one step waits until somebody promotes it".to_owned()),
        more => Some(format!("{more} steps wait until somebody promotes them")),
    };
    vec![
        ("WARNING", difference.warnings.clone()),
        ("revision", revision.into_iter().collect()),
        ("source", difference.source.iter().cloned().collect()),
        ("template", difference.template.iter().map(change).collect()),
        ("spec", difference.spec.iter().map(change).collect()),
        ("faults", difference.faults.clone()),
        ("steps", steps),
        ("gates", difference.gates.clone()),
        ("people", people.into_iter().collect()),
        ("time", difference.time.iter().map(|time| took(time, difference.people > 0)).collect()),
        ("capacity", difference.time.iter().map(capacity).collect()),
        ("revert", difference.revert.iter().cloned().collect()),
    ]
}

fn change(change: &Change) -> String {
    let told = |value: &Value| match value {
        Value::Null => "(none)".to_owned(),
        // A query of several lines stays one.
        Value::String(text) => text.trim_end().replace('\n', "\\n"),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    format!("{}: {} -> {}", change.path, told(&change.from), told(&change.to))
}

fn took(time: &Time, has_people: bool) -> String {
    let people = if has_people { ", besides what people take" } else { "" };
    format!(
        "{} with pods that are ready after 3 s, {} with pods that just make their deadline{people}; longer without data",
        clock(time.least),
        clock(time.most)
    )
}

fn capacity(time: &Time) -> String {
    let from = time.pods_before_from.as_ref().map_or_else(String::new, |said_by| format!(" ({said_by})"));
    format!("{} pods at the peak, {} before{from}", time.pods_most, time.pods_before)
}
