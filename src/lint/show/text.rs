//! For people: file, line and column; what is wrong; the line of the text with a mark; how to mend it.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::printable;
use crate::lint::rule::Level;
use crate::lint::{Finding, Report};

/// Characters of a text's line that are shown.
const SHOWN: usize = 120;

/// The report, line by line.
pub fn lines(report: &Report) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for finding in &report.findings {
        lines.extend(told(finding));
        lines.push(Line::default());
    }
    lines.push(Line::from(summary(report)));
    lines
}

/// How many there are of each level.
pub fn summary(report: &Report) -> String {
    let count = |level: Level| {
        let count = report.count(level);
        format!("{count} {}{}", level.word(), if count == 1 { "" } else { "s" })
    };
    let hidden = if report.hidden == 0 { String::new() } else { format!(", {} ignored", report.hidden) };
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}, {}, {}{hidden} in {} of {}",
        count(Level::Error),
        count(Level::Warning),
        count(Level::Note),
        plural(report.objects, "object"),
        plural(report.files.len(), "file"),
    )
}

fn told(finding: &Finding) -> Vec<Line<'static>> {
    let color = match finding.level() {
        Level::Error => Color::Red,
        Level::Warning => Color::Yellow,
        Level::Note => Color::Cyan,
    };
    let strong = Style::new().fg(color).add_modifier(Modifier::BOLD);
    let dim = Style::new().fg(Color::DarkGray);
    let place = &finding.place;
    let mut lines = vec![Line::from(vec![
        Span::styled(
            format!("{}:{}:{}: ", printable(&finding.file), place.line, place.column),
            Style::new().add_modifier(Modifier::BOLD),
        ),
        Span::styled(finding.level().word(), strong),
        Span::raw(format!(": {}", printable(&finding.sentence()))),
        Span::styled(format!(" [{}]", finding.rule.id), dim),
    ])];
    if !finding.object.is_empty() {
        lines.push(Line::styled(format!("  {}", printable(&finding.object)), dim));
    }
    lines.extend(snippet(finding, strong).into_iter().flatten());
    let mut fix = finding.fix.lines();
    lines.extend(fix.next().map(|first| {
        Line::from(vec![Span::styled("  fix: ", Style::new().fg(Color::Green)), Span::raw(printable(first))])
    }));
    lines.extend(fix.map(|more| Line::raw(format!("    {}", printable(more)))));
    lines
}

/// The line of the text, and a mark under the place.
fn snippet(finding: &Finding, style: Style) -> Option<[Line<'static>; 2]> {
    if finding.line.trim().is_empty() {
        return None;
    }
    let before = finding.place.column - 1;
    // A line that is too long is shown around the place.
    let from = before.saturating_sub(SHOWN / 2);
    let from = if before + 1 < SHOWN { 0 } else { from };
    let shown: String = finding.line.chars().skip(from).take(SHOWN).collect();
    let lead: String = finding.line.chars().skip(from).take(before - from).collect();
    let marked: String = finding.line.chars().skip(before).take(finding.place.length).collect();
    let width = |text: &str| Span::raw(printable(text)).width();
    let room = SHOWN.saturating_sub(width(&lead)).max(1);
    let number = finding.place.line.to_string();
    Some([
        Line::from(format!("  {number} | {}", printable(&shown))),
        Line::from(vec![
            Span::raw(format!("  {} | {}", " ".repeat(number.len()), " ".repeat(width(&lead)))),
            Span::styled("^".repeat(width(&marked).clamp(1, room)), style),
        ]),
    ])
}
