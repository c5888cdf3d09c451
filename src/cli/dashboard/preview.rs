//! What a simulation foretells of a release as the cluster has it: the whole plan as a page, and the canary's weight beside what
//! really happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::{Path, Query, State};
use axum::response::{Html as Page, IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex as Turn;

use super::frame::{Frame, choice, choices, document, section};
use super::html::{Html, encoded};
use super::list::address;
use super::plot::{Face, Lane, Marker, Series, Window, marker};
use super::seen::Key;
use super::serve::{Dashboard, Shared, failed};
use super::timeline::{Foretold, figure, plain_table, range, row, table, tick};
use crate::api::names;
use crate::api::watched::{
    AnalysisTemplate, ClusterAnalysisTemplate, DestinationRule, HttpRoute, MetricProvider, Rollout, Service,
    VirtualService,
};
use crate::cli::cluster::Cluster;
use crate::cli::outcome;
use crate::cli::view::number;
use crate::sim;
use crate::sim::input;
use crate::sim::record::{Measured, Point};
use crate::sim::scenario::{self, BUILT_IN};
use crate::sim::show::Summary;
use crate::sim::show::text::clock as passed;
use crate::sim::verdict::Outcome;

/// Simulations that are kept.
const KEPT: usize = 16;
/// Rows of a table.
const ROWS: usize = 100;

/// A simulation, and what it assumed.
pub struct Preview {
    summary: Summary,
    notes: Vec<String>,
}

/// A Rollout at a generation under a scenario.
type Case = (Key, i64, String);

/// Simulations by what they are of; one runs at a time.
#[derive(Default)]
pub struct Previews {
    kept: Mutex<BTreeMap<Case, Arc<Preview>>>,
    turn: Turn<()>,
}

impl Previews {
    /// The simulation of a Rollout as the cluster has it.
    async fn get(&self, cluster: &Cluster, rollout: &Rollout, scenario: &str) -> anyhow::Result<Arc<Preview>> {
        let key = (cluster.namespace.clone(), rollout.name_any());
        let case = (key, rollout.metadata.generation.unwrap_or(0), scenario.to_owned());
        let _turn = self.turn.lock().await;
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&case) {
            return Ok(kept.clone());
        }
        let texts = manifests(cluster, rollout).await?;
        let (namespace, scenario) = (cluster.namespace.clone(), scenario.to_owned());
        let preview = tokio::task::spawn_blocking(move || simulate(&texts, &namespace, &scenario)).await??;
        let preview = Arc::new(preview);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() >= KEPT {
            kept.pop_first();
        }
        kept.insert(case, preview.clone());
        Ok(preview)
    }

    /// The canary's weight as foretold, from the time on at which the last rollout began.
    pub async fn weights(&self, cluster: &Cluster, rollout: &Rollout, scenario: &str) -> Result<Foretold, String> {
        let status = &rollout.status;
        let attempt = status.attempt.as_ref().map(|attempt| attempt.started_at);
        let began = attempt.or(status.history.last().map(|last| last.started_at));
        let began = began.ok_or("no rollout has begun yet")?;
        let preview = self.get(cluster, rollout, scenario).await.map_err(|error| outcome::told(&error))?;
        let at = |milliseconds| began.checked_add(milliseconds_of(milliseconds)).unwrap_or(began);
        let points = preview.summary.points.iter();
        let weights = points.map(|point| (at(point.at), Some(f64::from(point.weight)))).collect();
        Ok(Foretold { scenario: scenario.to_owned(), weights })
    }
}

fn milliseconds_of(count: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(count).unwrap_or(i64::MAX))
}

fn simulate(texts: &[(String, String)], namespace: &str, scenario: &str) -> anyhow::Result<Preview> {
    let known = scenario::built_in(scenario).with_context(|| format!("there is no scenario {scenario}"))??;
    let mut input = input::read(texts, namespace)?;
    let story = input.story(0, &known, 0)?;
    let summary = Summary::of(&story, scenario, &sim::run(&story)?);
    Ok(Preview { summary, notes: input.notes })
}

/// A Rollout with what a simulation reads, as it would be applied.
async fn manifests(cluster: &Cluster, rollout: &Rollout) -> anyhow::Result<Vec<(String, String)>> {
    let mut objects = vec![cluster.object(&rollout.name_any()).await?];
    objects.extend(cluster.deployment_of(rollout).await?);
    let own = &cluster.namespace;
    for (resource, is_namespaced) in [
        (ApiResource::erase::<Service>(&()), true),
        (ApiResource::erase::<VirtualService>(&()), true),
        (ApiResource::erase::<DestinationRule>(&()), true),
        (ApiResource::erase::<HttpRoute>(&()), true),
        (ApiResource::erase::<AnalysisTemplate>(&()), true),
        (ApiResource::erase::<ClusterAnalysisTemplate>(&()), false),
        (ApiResource::erase::<MetricProvider>(&()), false),
    ] {
        let client = cluster.client.clone();
        let api: Api<DynamicObject> =
            if is_namespaced { Api::namespaced_with(client, own, &resource) } else { Api::all_with(client, &resource) };
        // What the person may not list, or is not there, is assumed as in a simulation of manifests.
        let found = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let is_own = |object: &DynamicObject| object.owner_references().iter().any(|owner| owner.kind == "Rollout");
        let with_type = |mut object: DynamicObject| {
            let (api_version, kind) = (resource.api_version.clone(), resource.kind.clone());
            object.types.get_or_insert(kube::core::TypeMeta { api_version, kind });
            object
        };
        objects.extend(found.into_iter().filter(|object| !is_own(object)).map(with_type));
    }
    let text = |object: &DynamicObject| Ok((object.name_any(), serde_json::to_string(&applied(object)?)?));
    objects.iter().map(text).collect()
}

/// An object without what the cluster and Serin have written into it.
fn applied(object: &DynamicObject) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
    }
    let selectors = ["/spec/selector", "/metadata/labels"];
    for place in selectors {
        if let Some(map) = value.pointer_mut(place).and_then(Value::as_object_mut) {
            map.remove(names::REVISION_HASH);
        }
    }
    for subset in value.pointer_mut("/spec/subsets").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(labels) = subset.pointer_mut("/labels").and_then(Value::as_object_mut) {
            labels.remove(names::REVISION_HASH);
        }
    }
    Ok(value)
}

/// Which scenario is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    scenario: Option<String>,
}

/// The page of a simulation.
pub async fn page(
    State(dashboard): Shared,
    Path((namespace, name)): Path<Key>,
    Query(asked): Query<Asked>,
) -> Response {
    let scenario = asked.scenario.as_deref().unwrap_or("good");
    match written(&dashboard, (&namespace, &name), scenario).await {
        Ok(text) => Page(text).into_response(),
        Err(error) => failed(&dashboard, &error),
    }
}

async fn written(dashboard: &Dashboard, (namespace, name): (&str, &str), scenario: &str) -> anyhow::Result<String> {
    let cluster = dashboard.cluster(namespace)?;
    let rollout = cluster.rollout(name).await?;
    let preview = dashboard.previews.get(&cluster, &rollout, scenario).await;
    let (above, source) = (format!("{name} in {namespace}"), dashboard.source());
    let back = address(&rollout);
    let frame = Frame {
        title: "Simulation",
        above: &[("Rollouts", "/"), (&above, &back)],
        changes: None,
        told: "",
        trouble: None,
        source: &source,
    };
    Ok(document(&frame, |html| {
        html.line("h1", &[], &format!("{name}: what a release would do"));
        html.line("p", &[], "The spec as the cluster has it, released in virtual time against simulated pods, traffic and metrics; what kubectl serin simulate does. Nothing here happens in the cluster.");
        choices(html, "Scenario", |html| {
            for (own, what) in BUILT_IN {
                let target = format!("{back}/simulate?scenario={}", encoded(own));
                choice(html, (&target, own), what, own == scenario);
            }
        });
        match &preview {
            Ok(preview) => preview.write(html, &back),
            Err(error) => {
                html.line("p", &[("class", "bad")], &format!("It cannot be simulated: {}", outcome::told(error)))
            }
        }
    }))
}

/// A moment of a simulation, as a time of its window.
fn moment(milliseconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(milliseconds_of(milliseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Preview {
    fn write(&self, html: &mut Html, back: &str) {
        let summary = &self.summary;
        let what = BUILT_IN.iter().find(|(name, _)| *name == summary.scenario).map_or("", |(_, what)| what);
        html.line("p", &[("class", "dim")], &format!("{}: {what}.", summary.scenario));
        section(html, "verdict", "How it ends", |html| {
            let is = if summary.outcome == Outcome::Waiting { "It" } else { "It is" };
            html.line("p", &[("class", "lead")], &format!("{is} {}.", summary.verdict()));
            let (served, lost) = (summary.served_by_canary, summary.lost);
            let (most, before) = (summary.pods_most, summary.pods_before);
            html.line("p", &[], &format!("Of 100 requests a second the new revision serves {served} until the end; {lost} are lost. {most} pods at the peak, {before} before."));
            let target = format!("{back}?compare={}", encoded(&summary.scenario));
            html.line("a", &[("href", &target)], "Compare with what really happens");
        });
        section(html, "plan", "Over time", |html| self.lanes(html));
        section(html, "lines", "What happens", |html| {
            let lines = summary.told().take(ROWS).map(|line| vec![passed(line.at), line.text.clone()]);
            plain_table(html, "What happens", &["After", "What"], lines.collect());
        });
        if !self.notes.is_empty() {
            section(html, "notes", "What is assumed", |html| {
                html.element("ul", &[], |html| self.notes.iter().for_each(|note| html.line("li", &[], note)));
            });
        }
    }

    fn lanes(&self, html: &mut Html) {
        let summary = &self.summary;
        let end =
            summary.points.last().map_or(0, |point| point.at).min(summary.took + summary.took / 8 + 10_000).max(1_000);
        let window = Window { from: moment(0), to: moment(end), face: Face::Passed };
        let series = |pick: fn(&Point) -> i32| -> Series {
            summary.points.iter().map(|point| (moment(point.at), Some(f64::from(pick(point))))).collect()
        };
        let most = summary.points.iter().map(|point| point.stable.0.max(point.canary.0)).max().unwrap_or(1).max(1);
        let rows = |cells: fn(&Point) -> Vec<String>| {
            let mut rows: Vec<Vec<String>> = Vec::new();
            for point in &summary.points {
                if rows.last().is_none_or(|last| last.get(1..) != Some(&cells(point))) {
                    rows.push(std::iter::once(passed(point.at)).chain(cells(point)).collect());
                }
            }
            rows.truncate(ROWS);
            rows
        };
        html.element("div", &[("class", "lanes")], |html| {
            let lane = Lane { window: &window, height: 132.0, low: 0.0, high: 100.0 };
            let weights = series(|point| point.weight);
            let told = format!("Weight of the canary over {}, {}% at most.", passed(end), summary.weight_most);
            figure(html, "Weight of the canary", &[("observed", "in the route")], |html| {
                row(html, &["100%", "50%", "0%"], &window, |html| {
                    lane.draw(html, &told, |html| {
                        [0.0, 50.0, 100.0].into_iter().for_each(|level| lane.level(html, "grid", level));
                        lane.area(html, "inforce", &weights);
                        lane.stairs(html, "observed", &weights);
                    });
                });
                table(
                    html,
                    "Weights",
                    &["After", "Weight", "Phase"],
                    rows(|point| vec![format!("{}%", point.weight), point.phase.clone()]),
                );
            });
            let lane = Lane { window: &window, height: 84.0, low: 0.0, high: f64::from(most) };
            let told = format!("Ready pods over {}, {} at most of all revisions.", passed(end), summary.pods_most);
            figure(html, "Ready pods", &[("canaryready", "canary"), ("stableready", "stable")], |html| {
                row(html, &[&most.to_string(), "0"], &window, |html| {
                    lane.draw(html, &told, |html| {
                        [0.0, f64::from(most)].into_iter().for_each(|level| lane.level(html, "grid", level));
                        lane.stairs(html, "stableready", &series(|point| point.stable.1));
                        lane.stairs(html, "canaryready", &series(|point| point.canary.1));
                    });
                });
                table(
                    html,
                    "Pods",
                    &["After", "Canary", "Stable"],
                    rows(|point| vec![point.canary.1.to_string(), point.stable.1.to_string()]),
                );
            });
            let mut metrics: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
            summary.measurements.iter().for_each(|one| metrics.entry(&one.metric).or_default().push(one));
            metrics.into_iter().for_each(|(name, taken)| metric(html, &window, name, &taken));
        });
    }
}

fn metric(html: &mut Html, window: &Window, name: &str, taken: &[&Measured]) {
    let valued = taken.iter().filter_map(|one| number(&one.value));
    let (low, high) = range(valued.collect::<Vec<_>>().into_iter());
    let lane = Lane { window, height: 84.0, low, high };
    let bad = taken.iter().filter(|one| one.says == "bad").count();
    let told = format!("Metric {name}: {} measurements, {bad} of them bad.", taken.len());
    let legend = [("good", "good"), ("bad", "bad"), ("warn", "no verdict")];
    figure(html, &format!("Metric {name}"), &legend, |html| {
        row(html, &[&tick(high), &tick(low)], window, |html| {
            lane.draw(html, &told, |html| {
                for one in taken {
                    let form = match one.says {
                        "good" => (Marker::Disc, "good"),
                        "bad" => (Marker::Cross, "bad"),
                        _ => (Marker::Ring, "warn"),
                    };
                    let place = (window.x(moment(one.at)), lane.y(number(&one.value).unwrap_or(low)));
                    marker(html, place, form, &format!("{} {}: {}", passed(one.at), one.says, one.value));
                }
            });
        });
        let rows = taken.iter().take(ROWS).map(|one| vec![passed(one.at), one.value.clone(), one.says.to_owned()]);
        table(html, &format!("Measurements of {name}"), &["After", "Value", "Assessment"], rows.collect());
    });
}
