//! `kubectl serin doctor`: what a release needs, each as a check with what to do where it fails.

mod cluster;
mod controller;
mod gitops;
mod metrics;
mod workload;

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use serde::Serialize;

pub use self::metrics::service_of;
use super::cluster::Cluster;
use super::outcome::Outcome;
use super::screen::{Look, print_json};
use crate::api::watched::Rollout;

/// What to check.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kubectl serin doctor\n  kubectl serin doctor checkout -n shop\n\nExit codes: 0 nothing failed, 1 something did"
)]
pub struct Arguments {
    /// A Rollout whose routes and metrics are checked, too.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: Option<String>,
    /// The controller's namespace.
    #[arg(long, default_value = "serin-system")]
    system_namespace: String,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// How checks are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A line a check.
    Text,
    /// For programs.
    Json,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Result {
    /// As it must be.
    Ok,
    /// Works, but not for long or not for all.
    Warning,
    /// Does not work.
    Failed,
    /// Could not be looked at.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub result: Result,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, result: Result::Ok, message: message.into(), hint: None }
    }

    fn warning(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, result: Result::Warning, message: message.into(), hint: Some(hint.into()) }
    }

    fn failed(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, result: Result::Failed, message: message.into(), hint: Some(hint.into()) }
    }

    /// What could not be looked at, and why.
    fn skipped(name: &'static str, error: &kube::Error) -> Self {
        let why = if let kube::Error::Api(status) = error { status.message.clone() } else { error.to_string() };
        Self { name, result: Result::Skipped, message: format!("not looked at: {why}"), hint: None }
    }
}

/// What every check may use.
pub struct Patient<'a> {
    cluster: &'a Cluster,
    system: &'a str,
    rollout: Option<Rollout>,
}

/// Runs every check.
pub async fn run(cluster: &Cluster, arguments: &Arguments, look: Look) -> anyhow::Result<Outcome> {
    let rollout = match &arguments.name {
        Some(name) => Some(cluster.rollout(name).await?),
        None => None,
    };
    let patient = Patient { cluster, system: &arguments.system_namespace, rollout };
    let mut checks = vec![cluster::version(&patient).await?];
    checks.extend(cluster::definitions(&patient).await);
    checks.push(cluster::permissions(&patient).await);
    checks.extend(controller::running(&patient).await);
    checks.push(controller::permissions(&patient).await);
    checks.extend(cluster::istio(&patient).await);
    checks.extend(workload::deployments(&patient).await);
    checks.extend(metrics::providers(&patient).await);
    checks.extend(gitops::routes(&patient).await);
    match arguments.output {
        Output::Text => look.print(&checks.iter().flat_map(lines).collect::<Vec<_>>())?,
        Output::Json => print_json(&checks)?,
    }
    let has_failed = checks.iter().any(|check| check.result == Result::Failed);
    Ok(if has_failed { Outcome::Failed } else { Outcome::Reached })
}

fn lines(check: &Check) -> Vec<Line<'static>> {
    let (word, color) = match check.result {
        Result::Ok => ("ok", Color::Green),
        Result::Warning => ("warning", Color::Yellow),
        Result::Failed => ("FAILED", Color::Red),
        Result::Skipped => ("skipped", Color::DarkGray),
    };
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{word:<8} "), Style::new().fg(color)),
        Span::raw(format!("{:<12} {}", check.name, check.message)),
    ])];
    lines.extend(check.hint.iter().flat_map(|hint| hint.lines()).map(|line| Line::from(format!("{:<22}{line}", ""))));
    lines
}
