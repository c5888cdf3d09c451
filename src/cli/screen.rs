//! Where lines are shown: once, or again and again on the whole terminal. Colours and characters follow what is there.

use std::io::{IsTerminal, Stdout, Write as _, stdout};

use anyhow::Context as _;
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::StyledContent;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::{CrosstermBackend, IntoCrossterm};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;
use serde::Serialize;

use super::view::{ASCII, Glyphs, UNICODE};

/// How things look, as the person and the environment say.
#[derive(Debug, clap::Args)]
pub struct LookArguments {
    /// Uses no colours; so does a set `NO_COLOR`, and what is no terminal.
    #[arg(long, global = true)]
    no_color: bool,
    /// Uses ASCII characters only; so does a locale that is not UTF-8.
    #[arg(long, global = true)]
    ascii: bool,
    #[arg(long, env = "NO_COLOR", hide = true, num_args = 0..=1, default_value = "", default_missing_value = "1")]
    no_color_variable: String,
    #[arg(long, env = "LC_ALL", hide = true, default_value = "")]
    lc_all: String,
    #[arg(long, env = "LC_CTYPE", hide = true, default_value = "")]
    lc_ctype: String,
    #[arg(long, env = "LANG", hide = true, default_value = "")]
    lang: String,
}

impl LookArguments {
    /// What follows from them.
    pub fn look(&self) -> Look {
        let locale = [&self.lc_all, &self.lc_ctype, &self.lang].into_iter().find(|locale| !locale.is_empty());
        let locale = locale.map(|locale| locale.to_lowercase()).unwrap_or_default();
        let knows_unicode = locale.contains("utf-8") || locale.contains("utf8");
        Look {
            has_color: !self.no_color && self.no_color_variable.is_empty() && stdout().is_terminal(),
            glyphs: if self.ascii || !knows_unicode { &ASCII } else { &UNICODE },
        }
    }
}

/// How things look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    has_color: bool,
    /// The characters to draw with.
    pub glyphs: &'static Glyphs,
}

impl Look {
    /// Prints lines on standard output; on a terminal those that are longer than it is wide are broken between words.
    pub fn print(self, lines: &[Line<'static>]) -> anyhow::Result<()> {
        let size = || crossterm::terminal::size().ok().filter(|(width, _)| *width > 0).map_or(80, |(width, _)| width);
        let width = stdout().is_terminal().then(size);
        self.write(lines, width)
    }

    /// Prints lines on standard output, however long they are.
    pub fn print_whole(self, lines: &[Line<'static>]) -> anyhow::Result<()> {
        self.write(lines, None)
    }

    fn write(self, lines: &[Line<'static>], width: Option<u16>) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        let whole = |line: &Line<'static>| match width {
            Some(width) => wrapped(line, usize::from(width)),
            None => vec![line.clone()],
        };
        for line in lines.iter().map(plain).collect::<Vec<_>>().iter().flat_map(whole) {
            for span in &line.spans {
                let style = line.style.patch(span.style);
                if self.has_color {
                    write!(out, "{}", StyledContent::new(style.into_crossterm(), span.content.as_ref()))?;
                } else {
                    write!(out, "{}", span.content)?;
                }
            }
            writeln!(out)?;
        }
        out.flush().context("write to standard output")
    }
}

/// Prints a value as JSON on standard output.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(writeln!(stdout(), "{}", serde_json::to_string_pretty(value)?)?)
}

/// Prints a value as YAML on standard output.
pub fn print_yaml(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(write!(stdout(), "{}", serde_yaml::to_string(value)?)?)
}

/// A text without control characters: what others have written must not steer the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn plain(line: &Line<'static>) -> Line<'static> {
    let spans = line.spans.iter().map(|span| Span::styled(clean(&span.content), span.style));
    Line::from(spans.collect::<Vec<_>>()).style(line.style)
}

/// A line as lines of at most so many cells, broken between words; what goes on is set in.
fn wrapped(line: &Line<'static>, width: usize) -> Vec<Line<'static>> {
    if line.width() <= width {
        return vec![line.clone()];
    }
    let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
    let inset = (text.len() - text.trim_start_matches(' ').len() + 4).min(width / 2);
    let mut lines = vec![Line::default().style(line.style)];
    let mut used = 0;
    for span in &line.spans {
        for word in span.content.split_inclusive(' ') {
            for piece in pieces(word, width.saturating_sub(inset).max(1)) {
                let cells = Span::raw(piece.trim_end_matches(' ').to_owned()).width();
                if used + cells > width {
                    lines.push(Line::from(" ".repeat(inset)).style(line.style));
                    used = inset;
                }
                used += Span::raw(piece.clone()).width();
                if let Some(last) = lines.last_mut() {
                    last.push_span(Span::styled(piece, span.style));
                }
            }
        }
    }
    lines
}

/// A word in pieces of at most so many cells.
fn pieces(word: &str, most: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for char in word.chars() {
        let cells = Span::raw(char.to_string()).width();
        if used + cells > most && char != ' ' {
            pieces.push(String::new());
            used = 0;
        }
        used += cells;
        if let Some(last) = pieces.last_mut() {
            last.push(char);
        }
    }
    pieces
}

/// The whole terminal, given back when it is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    look: Look,
}

impl Screen {
    /// Takes the terminal; none where there is none.
    pub fn open(look: Look) -> anyhow::Result<Option<Self>> {
        // Some terminals have no size.
        if !stdout().is_terminal() || crossterm::terminal::size().is_ok_and(|(width, height)| width == 0 || height == 0)
        {
            return Ok(None);
        }
        enable_raw_mode().context("take the terminal")?;
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(Some(Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))?, look }))
    }

    /// Draws lines from the top; what does not fit is counted.
    pub fn draw(&mut self, lines: &[Line<'static>]) -> anyhow::Result<()> {
        let area = self.terminal.size()?;
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let mut shown: Vec<Line<'static>> = lines.iter().flat_map(|line| wrapped(&plain(line), width)).collect();
        if shown.len() > height {
            let more = shown.len() - height + 1;
            shown.truncate(height.saturating_sub(1));
            shown.push(Line::from(format!("{more} more lines: make the terminal higher")));
        }
        if !self.look.has_color {
            let colorless = |line: Line<'static>| {
                Line::from(line.spans.into_iter().map(|span| Span::raw(span.content)).collect::<Vec<_>>())
            };
            shown = shown.into_iter().map(colorless).collect();
        }
        self.terminal.draw(|frame| frame.render_widget(Paragraph::new(Text::from(shown)), frame.area()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// Waits until somebody presses `q`, Escape or Ctrl-C. On a terminal that was taken.
pub async fn quit() {
    let pressed = tokio::task::spawn_blocking(|| {
        while let Ok(event) = event::read() {
            if let Event::Key(key) = event
                && key.kind == KeyEventKind::Press
                && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                    || key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
            {
                return;
            }
        }
    });
    let _ = pressed.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, width: usize, expected: &[&str]) {
        let told: Vec<String> = wrapped(&Line::from(text.to_owned()), width).iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        check("  short", 10, &["  short"]);
        check("  one two three four", 14, &["  one two ", "      three ", "      four"]);
        check("abcdefghijklmnop", 8, &["abcdefgh", "    ijkl", "    mnop"]);
        check("██ ██ ██", 5, &["██ ██ ", "  ██"]);
        check("", 0, &[""]);
    }

    #[test]
    fn what_others_write_does_not_steer_the_terminal() {
        assert_eq!(clean("\u{1b}[31mred\u{7}\n"), "\u{fffd}[31mred\u{fffd}\u{fffd}");
    }

    #[test]
    fn colours_stay_with_their_words() {
        let red = ratatui::style::Style::new().fg(ratatui::style::Color::Red);
        let line = Line::from(vec![Span::raw("one two "), Span::styled("three", red)]);
        let lines = wrapped(&line, 9);
        assert_eq!(lines[1].spans.last(), Some(&Span::styled("three", red)));
    }
}
