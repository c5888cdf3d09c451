//! `kubectl serin list`: every Rollout in one line, with one request.

use std::io::Write as _;
use std::pin::pin;

use anyhow::Context as _;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use serde_json::{Value, json};

use super::clock;
use super::cluster::Cluster;
use super::outcome::Outcome;
use super::screen::Look;
use super::view::{age, color_of, place};
use crate::api::names;
use crate::api::status::{Phase, RevisionStatus};
use crate::api::watched::Rollout;

/// Which Rollouts, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Labels that they have, such as `team=payments`.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Prints a line whenever one changes, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// How to show them.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// How Rollouts are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table.
    Text,
    /// A table with revisions and the message.
    Wide,
    /// A list as JSON.
    Json,
    /// A list as YAML.
    Yaml,
    /// Kinds and names.
    Name,
}

/// Lists Rollouts.
pub async fn run(cluster: &Cluster, arguments: &Arguments, look: Look) -> anyhow::Result<Outcome> {
    let mut wanted = ListParams::default();
    wanted.label_selector.clone_from(&arguments.selector);
    let list = cluster.objects(arguments.all_namespaces).list(&wanted).await.context("list rollouts")?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&whole(&list.items))?)?,
        Output::Yaml => write!(out, "{}", serde_yaml::to_string(&whole(&list.items))?)?,
        Output::Name => {
            for object in &list.items {
                writeln!(out, "rollout.{}/{}", names::GROUP, object.name_any())?;
            }
        }
        Output::Text | Output::Wide => {
            drop(out);
            let rollouts = list.items.into_iter().map(parsed).collect::<anyhow::Result<Vec<Rollout>>>()?;
            if rollouts.is_empty() && !arguments.watch {
                let place = if arguments.all_namespaces {
                    String::new()
                } else {
                    format!(" in namespace {}", cluster.namespace)
                };
                writeln!(std::io::stderr(), "There is no rollout{place}.")?;
                return Ok(Outcome::Reached);
            }
            let columns = Columns { namespace: arguments.all_namespaces, wide: arguments.output == Output::Wide };
            look.print(&table(&rollouts, columns, clock::now()))?;
        }
    }
    if arguments.watch {
        follow(cluster, arguments, look).await?;
    }
    Ok(Outcome::Reached)
}

/// A list as kubectl prints it.
fn whole(items: &[DynamicObject]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

/// Prints a line whenever a Rollout changes.
async fn follow(cluster: &Cluster, arguments: &Arguments, look: Look) -> anyhow::Result<()> {
    let mut config = watcher::Config::default();
    config.label_selector.clone_from(&arguments.selector);
    let mut events = pin!(watch(cluster.objects(arguments.all_namespaces), config).default_backoff());
    let columns = Columns { namespace: arguments.all_namespaces, wide: arguments.output == Output::Wide };
    loop {
        let event = tokio::select! {
            Some(event) = events.next() => event,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        if let Ok(Event::Apply(object) | Event::Delete(object)) = event {
            let rows = table(&[parsed(object)?], columns, clock::now());
            look.print(rows.get(1..).unwrap_or_default())?;
        }
    }
}

fn parsed(object: DynamicObject) -> anyhow::Result<Rollout> {
    let name = object.name_any();
    serde_json::to_value(object).and_then(serde_json::from_value).with_context(|| format!("read rollout {name}"))
}

/// Which columns there are besides the usual ones.
#[derive(Debug, Clone, Copy)]
struct Columns {
    namespace: bool,
    wide: bool,
}

/// The head and a line a Rollout, in columns.
fn table(rollouts: &[Rollout], columns: Columns, now: Timestamp) -> Vec<Line<'static>> {
    let mut head = vec!["NAME", "PHASE", "STEP", "WEIGHT", "READY", "AGE", "IMAGE"];
    if columns.namespace {
        head.insert(0, "NAMESPACE");
    }
    if columns.wide {
        head.extend(["STABLE", "CANARY", "MESSAGE"]);
    }
    let rows: Vec<Vec<String>> = std::iter::once(head.into_iter().map(str::to_owned).collect())
        .chain(rollouts.iter().map(|rollout| cells(rollout, columns, now)))
        .collect();
    let phase_at = 1 + usize::from(columns.namespace);
    let phases = std::iter::once(None).chain(rollouts.iter().map(|rollout| rollout.status.phase));
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    rows.iter()
        .zip(phases)
        .map(|(row, phase)| {
            let cell = |(at, (cell, width)): (usize, (&String, &usize))| {
                let text = if at + 1 == row.len() { cell.clone() } else { format!("{cell:<width$}   ") };
                let style =
                    phase.filter(|_| at == phase_at).map_or_else(Style::new, |phase| Style::new().fg(color_of(phase)));
                Span::styled(text, style)
            };
            Line::from(row.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>())
        })
        .collect()
}

fn cells(rollout: &Rollout, columns: Columns, now: Timestamp) -> Vec<String> {
    let (metadata, status) = (&rollout.metadata, &rollout.status);
    let none = || "-".to_owned();
    let shown = status.canary.as_ref().or(status.stable.as_ref());
    let revision =
        |side: Option<&RevisionStatus>| side.map_or_else(none, |side| format!("r{} {}", side.revision, side.hash));
    let mut cells = vec![
        metadata.name.clone().unwrap_or_default(),
        status.phase.map_or_else(|| "Unknown".to_owned(), |phase: Phase| phase.to_string()),
        place(status).unwrap_or_else(none),
        status.in_progress().map_or_else(none, |canary| format!("{}%", canary.observed_weight)),
        format!("{}/{}", status.ready_replicas, status.replicas),
        metadata.creation_timestamp.as_ref().map_or_else(none, |at| age(at.0, now)),
        shown.map_or_else(none, |side| side.image.clone()),
    ];
    if columns.namespace {
        cells.insert(0, metadata.namespace.clone().unwrap_or_default());
    }
    if columns.wide {
        cells.extend([revision(status.stable.as_ref()), revision(status.canary.as_ref()), status.message.clone()]);
    }
    cells
}
