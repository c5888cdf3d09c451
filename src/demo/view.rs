//! A Rollout as lines: pure. The words are those of the status.

use std::cmp::Ordering;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::api::status::{Assessment, MetricStatus, Phase, RevisionStatus, Verdict};
use crate::api::watched::Rollout;

/// Cells of a bar.
const BAR: usize = 25;

/// The lines of one Rollout, as many each time.
pub fn lines(rollout: &Rollout, condition: &str) -> Vec<Line<'static>> {
    let status = &rollout.status;
    let name = rollout.metadata.name.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or(Phase::Progressing);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{name}  "), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(phase.to_string(), Style::new().fg(color(phase)).add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {}", steps(rollout))),
    ])];
    lines.push(revision_line("stable", status.stable.as_ref(), Color::Green));
    let canary_color = if status.aborted.is_some() { Color::Red } else { Color::Yellow };
    lines.push(revision_line("canary", status.canary.as_ref(), canary_color));
    let metric = status.analysis.iter().rev().flat_map(|analysis| &analysis.metrics).next();
    lines.push(metric.map_or_else(|| Line::from("metric  -"), |metric| metric_line(metric, condition)));
    lines.push(Line::from(Span::styled(status.message.clone(), Style::new().fg(Color::Gray))));
    lines
}

fn color(phase: Phase) -> Color {
    match phase {
        Phase::Healthy => Color::Green,
        Phase::Progressing => Color::Cyan,
        Phase::Paused => Color::Yellow,
        Phase::Degraded => Color::Red,
    }
}

/// `[##>....] step 3 of 6`
fn steps(rollout: &Rollout) -> String {
    let status = &rollout.status;
    let Some(attempt) = &status.attempt else {
        return String::new();
    };
    let total = usize::try_from(attempt.steps).unwrap_or(0);
    let at = usize::try_from(status.current_step_index.unwrap_or(0)).unwrap_or(0);
    let marks: String = (0..total)
        .map(|step| match step.cmp(&at) {
            Ordering::Less => '●',
            Ordering::Equal => '◉',
            Ordering::Greater => '○',
        })
        .collect();
    if at < total { format!("{marks} step {} of {total}", at + 1) } else { format!("{marks} all steps passed") }
}

fn revision_line(title: &str, side: Option<&RevisionStatus>, color: Color) -> Line<'static> {
    let Some(side) = side else {
        return Line::from(format!("{title}  -"));
    };
    let filled = usize::try_from(side.observed_weight).unwrap_or(0) * BAR / 100;
    let bar: String = "█".repeat(filled);
    let rest = "░".repeat(BAR - filled.min(BAR));
    Line::from(vec![
        Span::raw(format!("{title}  {:<11} {:<11} {}/{} pods  ", side.image, side.hash, side.ready, side.replicas)),
        Span::styled(bar, Style::new().fg(color)),
        Span::styled(rest, Style::new().fg(Color::DarkGray)),
        Span::raw(format!(" {:>3}%", side.observed_weight)),
    ])
}

fn metric_line(metric: &MetricStatus, condition: &str) -> Line<'static> {
    let mut spans = vec![Span::raw(format!("metric  {} wants {condition}  ", metric.name))];
    for measurement in &metric.measurements {
        let color = match measurement.assessment {
            Assessment::Counted => Color::Cyan,
            Assessment::Success => Color::Green,
            Assessment::Failure => Color::Red,
            Assessment::Inconclusive | Assessment::Pending | Assessment::NoData | Assessment::Error => Color::Yellow,
        };
        spans.push(Span::styled(format!("{} ", measurement.value), Style::new().fg(color)));
    }
    let verdict = match metric.verdict {
        Verdict::Running => "",
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Inconclusive => "inconclusive",
    };
    spans.push(Span::raw(verdict));
    Line::from(spans)
}

/// The lines as plain text.
pub fn plain(lines: &[Line<'_>]) -> Vec<String> {
    lines
        .iter()
        .map(|line| line.spans.iter().map(|span| span.content.as_ref()).collect::<String>().trim_end().to_owned())
        .collect()
}
