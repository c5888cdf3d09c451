//! A report as a table.

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::report::{MetricReport, Report, Row};
use crate::cli::table;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The template's own thresholds.
    Usual,
    /// And the others that were tried.
    Wide,
}

/// The lines of a report.
pub(super) fn lines(report: &Report, detail: Detail) -> Vec<Line<'static>> {
    let steps: Vec<String> =
        report.steps.iter().map(|step| format!("{} % for {}", step.weight, duration(step.seconds))).collect();
    let mut lines = vec![
        Line::from(format!(
            "{}: {} hypothetical releases from {:.0} to {:.0}",
            report.rollout, report.releases, report.from, report.until
        )),
        Line::from(format!("steps: {}", steps.join(", "))),
    ];
    for metric in &report.metrics {
        lines.push(Line::default());
        lines.extend(of_metric(metric, detail));
    }
    if !report.notes.is_empty() {
        lines.push(Line::default());
        lines.extend(report.notes.iter().map(|note| Line::from(format!("note: {note}"))));
    }
    lines
}

fn of_metric(metric: &MetricReport, detail: Detail) -> Vec<Line<'static>> {
    let head = format!("{}/{} ({}): {}", metric.template, metric.metric, metric.kind, metric.own);
    let mut lines = vec![Line::from(Span::styled(head, Style::new().bold()))];
    if metric.releases > 0 {
        let mut rows = vec![table::head(&["CANARY", "ABORTED", "AFTER", "FAILED REQUESTS"])];
        rows.extend(metric.canaries.iter().map(|row| cells(metric, row)));
        lines.extend(table::lines(&rows).into_iter().map(indented));
    }
    if detail == Detail::Wide && metric.releases > 0 {
        let names: Vec<String> = metric.canaries.iter().map(|row| row.canary.to_uppercase()).collect();
        let mut rows = vec![std::iter::once("INSTEAD".to_owned()).chain(names).map(Span::raw).collect::<Vec<_>>()];
        for tried in &metric.alternatives {
            let cells = tried.canaries.iter().map(|row| short(metric, row));
            rows.push(std::iter::once(tried.thresholds.clone()).chain(cells).map(Span::raw).collect());
        }
        lines.extend(table::lines(&rows).into_iter().map(indented));
    }
    lines.push(Line::from(format!("  advice: {}", metric.advice)));
    lines.extend(metric.notes.iter().map(|note| Line::from(format!("  note: {note}"))));
    lines
}

fn indented(line: Line<'static>) -> Line<'static> {
    Line::from(std::iter::once(Span::raw("  ")).chain(line.spans).collect::<Vec<_>>())
}

fn cells(metric: &MetricReport, row: &Row) -> Vec<Span<'static>> {
    let is_mistake = row.is_good && !row.aborted_after.is_empty();
    let style = if is_mistake { Style::new().fg(Color::Red) } else { Style::new() };
    vec![
        Span::raw(row.canary.clone()),
        Span::styled(format!("{:.1} %", row.percent()), style),
        Span::raw(row.median().map_or("-".to_owned(), duration)),
        Span::raw(harmed(metric, row)),
    ]
}

/// Conditions on values know no requests.
fn harmed(metric: &MetricReport, row: &Row) -> String {
    if metric.kind == "threshold" { "-".to_owned() } else { format!("{:.1}", row.harm()) }
}

fn short(metric: &MetricReport, row: &Row) -> String {
    let after = row.median().map_or(String::new(), |seconds| format!(" {}", duration(seconds)));
    let harmed = if metric.kind == "threshold" { String::new() } else { format!(" {:.0}", row.harm()) };
    format!("{:.1} %{after}{harmed}", row.percent())
}

/// Seconds as people read them.
pub(super) fn duration(seconds: f64) -> String {
    let (minutes, rest) = ((seconds / 60.0).floor(), (seconds % 60.0).round());
    match (minutes > 0.0, rest > 0.0) {
        (true, true) => format!("{minutes}m{rest}s"),
        (true, false) => format!("{minutes}m"),
        (false, _) => format!("{rest}s"),
    }
}
