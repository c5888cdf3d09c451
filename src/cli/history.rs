//! `kubectl serin history`: how the last rollouts ended, and who decided what.

use jiff::Timestamp;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use serde_json::json;

use super::cluster::Cluster;
use super::outcome::Outcome;
use super::screen::{Look, print_json, print_yaml};
use super::view::{age, decision_line, short, title};
use super::{clock, table};
use crate::api::status;
use crate::api::status::{OutcomeKind, RolloutStatus};

/// Which Rollout, and how.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kubectl serin history checkout\n  kubectl serin history checkout -o json | jq '.history[-1].outcome'"
)]
pub struct Arguments {
    /// Name of the Rollout.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: String,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// How a history is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table, newest first, and the decisions.
    Text,
    /// Both lists of the status as JSON.
    Json,
    /// Both lists of the status as YAML.
    Yaml,
}

/// Shows how the last rollouts ended.
pub async fn run(cluster: &Cluster, arguments: &Arguments, look: Look) -> anyhow::Result<Outcome> {
    let status = cluster.rollout(&arguments.name).await?.status;
    let lists = || json!({"history": status.history, "decisions": status.decisions});
    match arguments.output {
        Output::Text => look.print(&lines(&status, clock::now()))?,
        Output::Json => print_json(&lists())?,
        Output::Yaml => print_yaml(&lists())?,
    }
    Ok(Outcome::Reached)
}

/// The table and the decisions, newest first.
pub fn lines(status: &RolloutStatus, now: Timestamp) -> Vec<Line<'static>> {
    let mut rows = vec![table::head(&["REVISION", "OUTCOME", "ENDED", "TOOK", "COMMIT", "REASON"])];
    rows.extend(under_way(status, now));
    rows.extend(status.history.iter().rev().map(|outcome| row(outcome, now)));
    if rows.len() == 1 {
        return vec![Line::from("No rollout has ended yet.")];
    }
    let mut lines = table::lines(&rows);
    if !status.decisions.is_empty() {
        lines.push(title("DECISIONS"));
        lines.extend(status.decisions.iter().rev().map(|decision| decision_line(decision, now)));
    }
    lines
}

/// The rollout that has not ended.
fn under_way(status: &RolloutStatus, now: Timestamp) -> Option<Vec<Span<'static>>> {
    let canary = status.in_progress()?;
    let attempt = status.attempt.as_ref()?;
    Some(vec![
        Span::raw(format!("r{}", canary.revision)),
        Span::styled("under way", Style::new().fg(Color::Cyan)),
        Span::raw("-"),
        Span::raw(age(attempt.started_at, now)),
        Span::raw(commit(canary.commit.as_ref())),
        Span::raw(status.step.as_ref().map_or_else(String::new, |step| format!("step {step}"))),
    ])
}

fn row(outcome: &status::Outcome, now: Timestamp) -> Vec<Span<'static>> {
    vec![
        Span::raw(format!("r{}", outcome.revision)),
        Span::styled(outcome.outcome.to_string(), Style::new().fg(color_of(outcome.outcome))),
        Span::raw(format!("{} ago", age(outcome.ended_at, now))),
        Span::raw(age(outcome.started_at, outcome.ended_at)),
        Span::raw(commit(outcome.commit.as_ref())),
        Span::raw(outcome.reason.clone()),
    ]
}

fn commit(commit: Option<&String>) -> String {
    commit.map_or_else(|| "-".to_owned(), |commit| short(commit).to_owned())
}

fn color_of(outcome: OutcomeKind) -> Color {
    match outcome {
        OutcomeKind::Promoted => Color::Green,
        OutcomeKind::Aborted => Color::Red,
        OutcomeKind::Superseded => Color::Yellow,
        OutcomeKind::Reverted => Color::Yellow,
    }
}
