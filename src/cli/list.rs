//! `kubectl serin list`: every Rollout in one line, with one request.

use std::io::Write as _;
use std::pin::pin;

use anyhow::Context as _;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use serde_json::{Value, json};

use super::clock;
use super::cluster::{Cluster, parsed};
use super::get::full_name;
use super::outcome::Outcome;
use super::screen::{Look, print_json, print_yaml};
use super::table;
use super::view::{age, color_of};
use crate::api::status::{Phase, RevisionStatus};
use crate::api::watched::Rollout;

/// Which Rollouts, and how.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kubectl serin list -A\n  kubectl serin list -l team=payments -o wide")]
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
    match arguments.output {
        Output::Json => print_json(&whole(&list.items))?,
        Output::Yaml => print_yaml(&whole(&list.items))?,
        Output::Name => {
            for object in &list.items {
                writeln!(std::io::stdout(), "{}", full_name(object))?;
            }
        }
        Output::Text | Output::Wide => {
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

/// Which columns there are besides the usual ones.
#[derive(Debug, Clone, Copy)]
struct Columns {
    namespace: bool,
    wide: bool,
}

/// The head and a line a Rollout, in columns.
fn table(rollouts: &[Rollout], columns: Columns, now: Timestamp) -> Vec<Line<'static>> {
    let mut head = table::head(&["NAME", "PHASE", "STEP", "WEIGHT", "READY", "AGE", "IMAGE"]);
    if columns.namespace {
        head.insert(0, Span::raw("NAMESPACE"));
    }
    if columns.wide {
        head.extend(table::head(&["STABLE", "CANARY", "MESSAGE"]));
    }
    let rows: Vec<_> =
        std::iter::once(head).chain(rollouts.iter().map(|rollout| cells(rollout, columns, now))).collect();
    table::lines(&rows)
}

fn cells(rollout: &Rollout, columns: Columns, now: Timestamp) -> Vec<Span<'static>> {
    let (metadata, status) = (&rollout.metadata, &rollout.status);
    let none = || "-".to_owned();
    let shown = status.canary.as_ref().or(status.stable.as_ref());
    let revision =
        |side: Option<&RevisionStatus>| side.map_or_else(none, |side| format!("r{} {}", side.revision, side.hash));
    let phase = |phase: Phase| Span::styled(phase.to_string(), Style::new().fg(color_of(phase)));
    let mut cells = vec![
        Span::raw(metadata.name.clone().unwrap_or_default()),
        match (&metadata.deletion_timestamp, status.phase) {
            (Some(_), _) => Span::raw("Terminating"),
            (None, own) => own.map_or_else(|| Span::raw("Unknown"), phase),
        },
        Span::raw(status.step.clone().unwrap_or_else(none)),
        Span::raw(status.in_progress().map_or_else(none, |canary| format!("{}%", canary.observed_weight))),
        Span::raw(format!("{}/{}", status.ready_replicas, status.replicas)),
        Span::raw(metadata.creation_timestamp.as_ref().map_or_else(none, |at| age(at.0, now))),
        Span::raw(shown.map_or_else(none, |side| side.image.clone())),
    ];
    if columns.namespace {
        cells.insert(0, Span::raw(metadata.namespace.clone().unwrap_or_default()));
    }
    if columns.wide {
        let sides = [revision(status.stable.as_ref()), revision(status.canary.as_ref()), status.message.clone()];
        cells.extend(sides.map(Span::raw));
    }
    cells
}
