//! Where the demo is shown: a live panel below a growing story on a terminal, one line a change elsewhere.
#![expect(clippy::print_stdout, reason = "the demo is shown on standard output")]

use std::io::{IsTerminal, Stdout, stdout};

use ratatui::backend::CrosstermBackend;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Widget, Wrap};
use ratatui::{Terminal, TerminalOptions, Viewport};
use tokio::time::Instant;

use super::view;
use crate::api::watched::Rollout;
use crate::plan::narrate::Note;

/// Lines of the panel, an empty one above it included.
const HEIGHT: u16 = 7;

/// The screen.
pub struct Screen {
    terminal: Option<Terminal<CrosstermBackend<Stdout>>>,
    has_color: bool,
    began: Instant,
    shown: Vec<String>,
    panel: Vec<Line<'static>>,
}

impl Screen {
    /// Opens a panel on a terminal; elsewhere lines are printed.
    pub fn open(has_color: bool) -> anyhow::Result<Self> {
        let terminal = if stdout().is_terminal() {
            let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
            Some(Terminal::with_options(CrosstermBackend::new(stdout()), options)?)
        } else {
            None
        };
        Ok(Self { terminal, has_color, began: Instant::now(), shown: Vec::new(), panel: Vec::new() })
    }

    /// Leaves the last panel where it is.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.redraw()?;
        if let Some(terminal) = &mut self.terminal {
            let bottom = terminal.get_frame().area().bottom().saturating_sub(1);
            terminal.set_cursor_position((0, bottom))?;
            terminal.show_cursor()?;
            println!();
        }
        Ok(())
    }

    /// Tells what the demo does.
    pub fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.story(vec![Span::styled(format!("» {text}"), Style::new().add_modifier(Modifier::BOLD))])
    }

    /// Tells what happened.
    pub fn note(&mut self, note: &Note) -> anyhow::Result<()> {
        let color = match note.reason.as_str() {
            "Promoted" | "AnalysisPassed" | "FirstDeployment" => Color::Green,
            _ if note.is_warning => Color::Red,
            _ => Color::Cyan,
        };
        self.story(vec![
            Span::styled(format!("{:<16}", note.reason), Style::new().fg(color)),
            Span::raw(note.message.clone()),
        ])
    }

    fn story(&mut self, mut spans: Vec<Span<'static>>) -> anyhow::Result<()> {
        spans.insert(
            0,
            Span::styled(format!("{:6.1}s  ", self.began.elapsed().as_secs_f64()), Style::new().fg(Color::DarkGray)),
        );
        let line = self.tint(Line::from(spans));
        let Some(terminal) = &mut self.terminal else {
            println!("{}", view::plain(&[line]).join(""));
            return Ok(());
        };
        let width = usize::from(terminal.size()?.width.max(1));
        let height = u16::try_from(line.width().div_ceil(width).max(1) + 1).unwrap_or(1).min(4);
        let paragraph = Paragraph::new(line).wrap(Wrap { trim: false });
        let lines = u16::try_from(paragraph.line_count(u16::try_from(width).unwrap_or(80))).unwrap_or(height);
        terminal.insert_before(lines, |buffer| paragraph.render(buffer.area, buffer))?;
        self.redraw()
    }

    /// Shows a Rollout as it is.
    pub fn draw(&mut self, rollout: &Rollout, condition: &str) -> anyhow::Result<()> {
        let lines = view::lines(rollout, condition);
        if self.terminal.is_none() {
            self.print_changes(&lines);
            return Ok(());
        }
        self.panel = lines.into_iter().map(|line| self.tint(line)).collect();
        self.redraw()
    }

    /// Draws the panel again, an empty line above it.
    fn redraw(&mut self) -> anyhow::Result<()> {
        let mut text = vec![Line::default()];
        text.extend(self.panel.iter().cloned());
        if let Some(terminal) = &mut self.terminal {
            terminal.draw(|frame| {
                frame.render_widget(Paragraph::new(Text::from(text)).wrap(Wrap { trim: false }), frame.area());
            })?;
        }
        Ok(())
    }

    /// Without a terminal: the lines of weights and metrics that changed.
    fn print_changes(&mut self, lines: &[Line<'static>]) {
        let plain = view::plain(lines);
        for (at, line) in plain.iter().enumerate().skip(1).take(3) {
            if self.shown.get(at) != Some(line) && !line.ends_with("  -") {
                println!("{:6.1}s  {line}", self.began.elapsed().as_secs_f64());
            }
        }
        self.shown = plain;
    }

    fn tint(&self, line: Line<'static>) -> Line<'static> {
        if self.has_color {
            return line;
        }
        Line::from(line.spans.into_iter().map(|span| Span::raw(span.content)).collect::<Vec<_>>())
    }
}
