//! The first page: every Rollout in one line, those that need somebody first.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Deserialize;

use super::frame::{choice, choices, head_row, section, table};
use super::html::{Html, encoded};
use crate::api::status::Phase;
use crate::api::watched::Rollout;
use crate::cli::view::{age, short};

/// Rollouts that are listed at most.
const MOST: usize = 500;
/// Phases in the order in which they need somebody.
const PHASES: [Phase; 4] = [Phase::Degraded, Phase::Paused, Phase::Progressing, Phase::Healthy];

/// Which Rollouts are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// A part of the namespace, name, image or commit.
    pub q: String,
    /// A phase.
    pub phase: String,
}

impl Filter {
    fn takes(&self, rollout: &Rollout) -> bool {
        let status = &rollout.status;
        let phase = status.phase.map_or_else(String::new, |phase| phase.to_string());
        let sides = [&status.canary, &status.stable].into_iter().flatten();
        let mut texts = vec![format!("{}/{}", rollout.namespace().unwrap_or_default(), rollout.name_any())];
        texts.extend(sides.flat_map(|side| std::iter::once(side.image.clone()).chain(side.commit.clone())));
        let wanted = self.q.trim();
        (self.phase.is_empty() || self.phase == phase)
            && (wanted.is_empty() || texts.iter().any(|text| text.contains(wanted)))
    }
}

/// The address of a Rollout's page.
pub fn address(rollout: &Rollout) -> String {
    format!("/rollouts/{}/{}", encoded(&rollout.namespace().unwrap_or_default()), encoded(&rollout.name_any()))
}

/// Writes the list.
pub fn write(html: &mut Html, mut all: Vec<Arc<Rollout>>, filter: &Filter, (is_listed, now): (bool, Timestamp)) {
    let urgency = |rollout: &Rollout| PHASES.iter().position(|phase| rollout.status.phase == Some(*phase));
    all.sort_by_key(|rollout| (urgency(rollout), rollout.namespace(), rollout.name_any()));
    html.line("h1", &[], "Rollouts");
    html.element("form", &[("class", "filter"), ("role", "search")], |html| {
        html.line("label", &[("for", "q")], "Name, image or commit");
        html.void("input", &[("id", "q"), ("name", "q"), ("type", "search"), ("value", &filter.q)]);
        if !filter.phase.is_empty() {
            html.void("input", &[("type", "hidden"), ("name", "phase"), ("value", &filter.phase)]);
        }
        html.line("button", &[("type", "submit")], "Filter");
    });
    section(html, "rollouts", "All that are watched", |html| {
        counts(html, &all, filter);
        let found: Vec<&Arc<Rollout>> = all.iter().filter(|rollout| filter.takes(rollout)).collect();
        if found.is_empty() {
            let told = match (is_listed, all.is_empty()) {
                (false, _) => "Rollouts are being read.",
                (true, true) => "There is no Rollout here.",
                (true, false) => "No Rollout is like that.",
            };
            html.line("p", &[], told);
            return;
        }
        table(html, "Rollouts", "rollouts", |html| {
            let wide = "wide";
            head_row(
                html,
                &[
                    ("", "Rollout"),
                    ("", "Phase"),
                    ("", "Step"),
                    ("", "Canary"),
                    (wide, "Ready"),
                    (wide, "Age"),
                    (wide, "Image"),
                ],
            );
            html.element("tbody", &[], |html| found.iter().take(MOST).for_each(|rollout| row(html, rollout, now)));
        });
        if found.len() > MOST {
            html.line("p", &[], &format!("{} more are not shown; filter them by name or phase.", found.len() - MOST));
        }
    });
}

/// How many there are of each phase, as links that show these alone.
fn counts(html: &mut Html, all: &[Arc<Rollout>], filter: &Filter) {
    let link = |html: &mut Html, phase: &str, text: &str| {
        let address = format!("/?q={}&phase={phase}", encoded(&filter.q));
        choice(html, (&address, text), "", filter.phase == phase);
    };
    choices(html, "By phase", |html| {
        link(html, "", &format!("All {}", all.len()));
        for phase in PHASES {
            let count = all.iter().filter(|rollout| rollout.status.phase == Some(phase)).count();
            if count > 0 || filter.phase == phase.to_string() {
                link(html, &phase.to_string(), &format!("{phase} {count}"));
            }
        }
    });
}

fn row(html: &mut Html, rollout: &Rollout, now: Timestamp) {
    let status = &rollout.status;
    let shown = status.canary.as_ref().or(status.stable.as_ref());
    let is_told = status.phase != Some(Phase::Healthy) && !status.message.is_empty();
    html.element("tr", &[("class", if is_told { "told" } else { "" })], |html| {
        html.element("th", &[("scope", "row")], |html| {
            html.line("span", &[("class", "dim")], &format!("{} / ", rollout.namespace().unwrap_or_default()));
            html.line("a", &[("href", &address(rollout))], &rollout.name_any());
        });
        html.element("td", &[], |html| badge(html, rollout));
        html.line("td", &[], status.step.as_deref().unwrap_or("-"));
        html.element("td", &[("class", "number")], |html| match status.in_progress() {
            Some(canary) => bar(html, canary.observed_weight, "canary"),
            None => drop(html.text("-")),
        });
        html.line("td", &[("class", "wide number")], &format!("{}/{}", status.ready_replicas, status.replicas));
        let created = rollout.metadata.creation_timestamp.as_ref();
        html.line("td", &[("class", "wide")], &created.map_or_else(|| "-".to_owned(), |at| age(at.0, now)));
        html.element("td", &[("class", "wide")], |html| {
            html.line("span", &[("class", "code")], shown.map_or("-", |side| side.image.as_str()));
            if let Some(commit) = shown.and_then(|side| side.commit.as_deref()) {
                html.line("span", &[("class", "dim")], &format!(" {}", short(commit)));
            }
        });
    });
    if is_told {
        html.element("tr", &[], |html| html.line("td", &[("colspan", "7"), ("class", "message")], &status.message));
    }
}

/// The phase: a word, a form and a colour.
pub fn badge(html: &mut Html, rollout: &Rollout) {
    let (word, sign, class) = match (&rollout.metadata.deletion_timestamp, rollout.status.phase) {
        (Some(_), _) => ("Terminating", "×", "dim"),
        (None, None) => ("Unknown", "?", "dim"),
        (None, Some(Phase::Healthy)) => ("Healthy", "✓", "good"),
        (None, Some(Phase::Progressing)) => ("Progressing", "▸", "busy"),
        (None, Some(Phase::Paused)) => ("Paused", "‖", "warn"),
        (None, Some(Phase::Degraded)) => ("Degraded", "!", "bad"),
    };
    html.element("span", &[("class", &format!("badge {class}"))], |html| {
        html.line("span", &[("aria-hidden", "true")], sign);
        html.text(" ").text(word);
    });
}

/// A weight as a bar and a number.
pub fn bar(html: &mut Html, percent: i32, class: &str) {
    let width = format!("{}%", percent.clamp(0, 100));
    html.element("svg", &[("class", "bar"), ("height", "10"), ("aria-hidden", "true")], |html| {
        html.shape("rect", &[("class", "empty"), ("width", "100%"), ("height", "10"), ("rx", "2")], "");
        html.shape("rect", &[("class", class), ("width", &width), ("height", "10"), ("rx", "2")], "");
    });
    html.text(" ").text(&width);
}
