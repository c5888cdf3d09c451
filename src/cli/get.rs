//! `kubectl serin get`, also `tree`: one Rollout as one screen, once or live.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch, watcher::watch_object};
use tokio::signal::unix::{SignalKind, signal};

use super::clock;
use super::cluster::Cluster;
use super::outcome::{NotFound, Outcome};
use super::screen::{self, Look, Screen};
use super::view;
use crate::api::names;
use crate::api::watched::{ReplicaSet, Rollout};

/// Which Rollout, and how.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kubectl serin get checkout -w          live, until q\n  kubectl serin get checkout -o yaml"
)]
pub struct Arguments {
    /// Name of the Rollout.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: String,
    /// Shows it again whenever something changes, until `q`.
    #[arg(short, long)]
    watch: bool,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// How one Rollout is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// One screen for people.
    Text,
    /// The object as JSON.
    Json,
    /// The object as YAML.
    Yaml,
    /// Its kind and name.
    Name,
}

/// Shows one Rollout.
pub async fn run(cluster: &Cluster, arguments: &Arguments, look: Look) -> anyhow::Result<Outcome> {
    match arguments.output {
        Output::Text if arguments.watch => live(cluster, &arguments.name, look).await,
        Output::Text => {
            let tree = cluster.tree(&arguments.name).await?;
            look.print(&view::lines(&tree, look.glyphs, clock::now()))?;
            Ok(Outcome::Reached)
        }
        Output::Json => {
            screen::print_json(&cluster.object(&arguments.name).await?)?;
            Ok(Outcome::Reached)
        }
        Output::Yaml => {
            screen::print_yaml(&cluster.object(&arguments.name).await?)?;
            Ok(Outcome::Reached)
        }
        Output::Name => {
            let object = cluster.object(&arguments.name).await?;
            writeln!(std::io::stdout(), "{}", full_name(&object))?;
            Ok(Outcome::Reached)
        }
    }
}

/// Kind and name, as kubectl prints them.
pub fn full_name(object: &DynamicObject) -> String {
    format!("rollout.{}/{}", names::GROUP, object.name_any())
}

/// Shows one Rollout whenever something changes.
async fn live(cluster: &Cluster, name: &str, look: Look) -> anyhow::Result<Outcome> {
    let mut tree = cluster.tree(name).await?;
    let own = watcher::Config::default().labels(&format!("{}={name}", names::ROLLOUT));
    let mut rollouts = pin!(watch_object(cluster.api::<Rollout>(), name).default_backoff());
    let mut sets = pin!(watch(cluster.api::<ReplicaSet>(), own.clone()).default_backoff());
    let mut pods = pin!(watch(cluster.api::<Pod>(), own).default_backoff());
    let mut sets_known = Known::default();
    let mut pods_known = Known::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut screen = Screen::open(look)?;
    let mut told = String::new();
    let mut quit = pin!(quit(screen.is_some()));
    loop {
        if let Some(screen) = &mut screen {
            screen.draw(&view::lines(&tree, look.glyphs, clock::now()))?;
        } else {
            tell_change(&tree.rollout, &mut told)?;
        }
        tokio::select! {
            Some(rollout) = rollouts.next() => match rollout {
                Ok(Some(rollout)) => tree.rollout = rollout,
                Ok(None) => return Err(NotFound(format!("rollout {name} any more: it was deleted")).into()),
                Err(_) => {}
            },
            Some(Ok(event)) = sets.next() => if sets_known.take(event) { tree.replica_sets = sets_known.all(); },
            Some(Ok(event)) = pods.next() => if pods_known.take(event) { tree.pods = pods_known.all(); },
            _ = tick.tick() => {}
            () = &mut quit => break,
        }
    }
    drop(screen);
    look.print(&view::lines(&tree, look.glyphs, clock::now()))?;
    Ok(Outcome::Reached)
}

/// Waits for the end: a key, Ctrl-C, or the end of the job, at which the terminal is given back, too.
async fn quit(has_screen: bool) {
    let pressed = async {
        if has_screen {
            screen::quit().await;
        } else {
            let _ = tokio::signal::ctrl_c().await;
        }
    };
    match signal(SignalKind::terminate()) {
        Ok(mut ended) => tokio::select! { () = pressed => {}, _ = ended.recv() => {} },
        Err(_) => pressed.await,
    }
}

/// One line a change, where there is no terminal.
fn tell_change(rollout: &Rollout, told: &mut String) -> anyhow::Result<()> {
    let line = summary(rollout);
    if line != *told {
        writeln!(std::io::stdout(), "{:.0}  {line}", clock::now())?;
        *told = line;
    }
    Ok(())
}

/// Phase, step, weight and message in one line.
pub fn summary(rollout: &Rollout) -> String {
    let status = &rollout.status;
    let phase = status.phase.map_or_else(|| "Unknown".to_owned(), |phase| phase.to_string());
    let step = status.step.as_ref().map_or_else(String::new, |step| format!("  step {step}"));
    let weight =
        status.canary.as_ref().map_or_else(String::new, |canary| format!("  canary {}%", canary.observed_weight));
    screen::clean(&format!("{phase}{step}{weight}  {}", status.message))
}

/// Objects of a watch by name.
struct Known<K> {
    known: BTreeMap<String, K>,
    next: BTreeMap<String, K>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), next: BTreeMap::new() }
    }
}

impl<K: kube::Resource + Clone> Known<K> {
    /// Takes a change in. Whether there is something new.
    fn take(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Apply(object) => drop(self.known.insert(object.name_any(), object)),
            Event::Delete(object) => drop(self.known.remove(&object.name_any())),
            Event::Init => {
                self.next.clear();
                return false;
            }
            Event::InitApply(object) => {
                self.next.insert(object.name_any(), object);
                return false;
            }
            Event::InitDone => self.known = std::mem::take(&mut self.next),
        }
        true
    }

    fn all(&self) -> Vec<K> {
        self.known.values().cloned().collect()
    }
}
