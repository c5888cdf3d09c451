//! A run as text and as Markdown.

use std::fmt::Write as _;

use super::Summary;
use crate::sim::record::{Kind, Point};

/// Cells of a bar.
const BAR: usize = 20;

/// Milliseconds as `1:02:03` or `2:03`.
pub fn clock(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// The whole run as text.
pub fn text(summary: &Summary) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}  scenario {}, seed {}", summary.rollout, summary.scenario, summary.seed);
    let _ = writeln!(out, "steps: {}", summary.steps.join(" → "));
    let _ = writeln!(out);
    let mut rows: Vec<(u64, usize, String)> = Vec::new();
    rows.extend(points(&summary.points).map(|point| (point.at, 1, row(point))));
    rows.extend(lines(summary).into_iter().map(|(at, text)| (at, 0, text)));
    rows.sort_by_key(|(at, order, _)| (*at, *order));
    for (at, _, text) in rows {
        let _ = writeln!(out, "{:>8}  {text}", clock(at));
    }
    let _ = writeln!(out, "\n{}", summary.verdict());
    for line in facts(summary) {
        let _ = writeln!(out, "{line}");
    }
    out
}

/// The points at which the weight or the pods changed.
fn points(points: &[Point]) -> impl Iterator<Item = &Point> {
    let state = |point: &Point| (point.weight, point.stable, point.canary);
    points
        .iter()
        .enumerate()
        .filter(move |(at, point)| {
            at.checked_sub(1).and_then(|at| points.get(at)).is_none_or(|before| state(before) != state(point))
        })
        .map(|(_, point)| point)
}

fn row(point: &Point) -> String {
    let filled = usize::try_from(point.weight).unwrap_or(0) * BAR / 100;
    let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled.min(BAR)));
    let step = point.step.map_or(String::new(), |step| format!("   step {}", step + 1));
    format!(
        "{bar} {:>3}%  canary {}/{}  stable {}/{}{step}",
        point.weight, point.canary.1, point.canary.0, point.stable.1, point.stable.0
    )
}

/// What happened, measurements of the same metric that say the same put together.
fn lines(summary: &Summary) -> Vec<(u64, String)> {
    let mut told: Vec<(u64, Kind, String, usize)> = Vec::new();
    for line in summary.told() {
        let text = match line.kind {
            Kind::Event => format!("» {}", line.text),
            Kind::Note | Kind::Write | Kind::Message | Kind::Measurement => line.text.clone(),
        };
        match told.last_mut() {
            Some((_, Kind::Measurement, before, times)) if line.kind == Kind::Measurement && *before == text => {
                *times += 1
            }
            _ => told.push((line.at, line.kind, text, 1)),
        }
    }
    let words = |(at, _, text, times): (u64, Kind, String, usize)| {
        (at, if times > 1 { format!("{text}, {times} times") } else { text })
    };
    told.into_iter().map(words).collect()
}

/// The figures, a sentence each.
pub fn facts(summary: &Summary) -> Vec<String> {
    let waited: Vec<String> =
        summary.waited.iter().map(|(reason, milliseconds)| format!("{reason} {}", clock(*milliseconds))).collect();
    let all = (summary.served_by_canary + summary.served_by_stable).max(1);
    let mut facts = vec![
        format!("waited for: {}", if waited.is_empty() { "nothing".to_owned() } else { waited.join(", ") }),
        format!(
            "requests: {}% served by the new revision, {}% by stable, {} lost (of 100 a second)",
            summary.served_by_canary * 100 / all,
            100 - summary.served_by_canary * 100 / all,
            summary.lost
        ),
        format!("capacity: {} pods at the peak, {} before", summary.pods_most, summary.pods_before),
    ];
    facts.extend(summary.broken.iter().map(|broken| format!("BROKEN, please report: {broken}")));
    facts
}

/// The whole run as Markdown, for a merge request.
pub fn markdown(summary: &Summary) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### `{}` under `{}`: {}\n", summary.rollout, summary.scenario, summary.verdict());
    let _ = writeln!(out, "Steps: {}\n", summary.steps.join(" → "));
    let _ = writeln!(out, "| time | canary | pods canary / stable | what |\n|---|---|---|---|");
    let mut rows: Vec<(u64, usize, String)> = Vec::new();
    let pods = |point: &Point| {
        format!(
            "| {}% | {}/{} · {}/{} | |",
            point.weight, point.canary.1, point.canary.0, point.stable.1, point.stable.0
        )
    };
    rows.extend(points(&summary.points).map(|point| (point.at, 1, pods(point))));
    rows.extend(lines(summary).into_iter().map(|(at, text)| (at, 0, format!("| | | {} |", text.replace('|', "\\|")))));
    rows.sort_by_key(|(at, order, _)| (*at, *order));
    for (at, _, text) in rows {
        let _ = writeln!(out, "| {} {text}", clock(at));
    }
    let _ = writeln!(out);
    for line in facts(summary) {
        let _ = writeln!(out, "- {line}");
    }
    out
}
