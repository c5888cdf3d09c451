//! A tree as lines, drawn with branches.

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::view::Glyphs;

/// One line, and what is below it.
pub struct Branch {
    /// The line.
    pub line: Line<'static>,
    /// What is below it.
    pub below: Vec<Self>,
}

impl Branch {
    /// A line with nothing below it.
    pub fn leaf(text: impl Into<Line<'static>>) -> Self {
        Self { line: text.into(), below: Vec::new() }
    }
}

/// The lines of branches, each after `indent`.
pub fn lines(branches: &[Branch], glyphs: &Glyphs, indent: &str) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (at, branch) in branches.iter().enumerate() {
        let is_last = at + 1 == branches.len();
        let mark = if is_last { glyphs.last } else { glyphs.branch };
        let mut spans = vec![Span::styled(format!("{indent}{mark}"), Style::new().fg(Color::DarkGray))];
        spans.extend(branch.line.spans.iter().cloned());
        lines.push(Line::from(spans).style(branch.line.style));
        let trunk = if is_last { "   " } else { glyphs.trunk };
        lines.extend(self::lines(&branch.below, glyphs, &format!("{indent}{trunk}")));
    }
    lines
}
