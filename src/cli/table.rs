//! Cells to lines, in columns.

use ratatui::text::{Line, Span};

/// Blank cells between two columns.
const GAP: usize = 3;

/// One line a row; every column is as wide as its widest cell.
pub fn lines(rows: &[Vec<Span<'static>>]) -> Vec<Line<'static>> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(Span::width).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let padded = |(at, cell): (usize, &Span<'static>)| {
                let width = widths.get(at).copied().unwrap_or(0) + GAP;
                let blank = if at + 1 == row.len() { 0 } else { width.saturating_sub(cell.width()) };
                Span::styled(format!("{}{}", cell.content, " ".repeat(blank)), cell.style)
            };
            Line::from(row.iter().enumerate().map(padded).collect::<Vec<_>>())
        })
        .collect()
}

/// The head of a table.
pub fn head(names: &[&'static str]) -> Vec<Span<'static>> {
    names.iter().map(|name| Span::raw(*name)).collect()
}
