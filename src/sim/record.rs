//! What happened in a run, line by line and as points over time.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::mesh::Traffic;
use super::prometheus::Prometheus;
use super::story::Event;
use crate::api::names;
use crate::api::status::{Assessment, RolloutStatus};
use crate::embedded::log::Change;
use crate::embedded::store::key_of;
use crate::plan::narrate::narrate;

/// A record under way.
pub struct Record {
    began: Instant,
    measured: usize,
    status: RolloutStatus,
    /// Lines, each with its time in milliseconds.
    pub lines: Vec<Line>,
    /// The Rollout after each status.
    pub points: Vec<Point>,
    /// Every measurement.
    pub measurements: Vec<Measured>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// What kind of thing.
    pub kind: Kind,
    /// What.
    pub text: String,
}

/// Kinds of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Somebody did something, or something went wrong.
    Event,
    /// Serin wrote an object besides the status.
    Write,
    /// Serin told people something.
    Note,
    /// Serin waits for something else than before.
    Message,
    /// A measurement.
    Measurement,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// The metric.
    pub metric: String,
    /// The number, or why there is none.
    pub value: String,
    /// What it says: `good`, `bad`, `inconclusive`, `no verdict`.
    pub says: &'static str,
}

/// The Rollout at a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// The phase, as text.
    pub phase: String,
    /// Index of the current step.
    pub step: Option<i32>,
    /// Percent of traffic that the route gives the canary.
    pub weight: i32,
    /// The status' sentence.
    pub message: String,
    /// What it waits for, the most important first.
    pub waits: Vec<String>,
    /// The stable revision.
    pub revision: String,
    /// Pods wanted and ready of stable.
    pub stable: (i32, i32),
    /// Pods wanted and ready of the canary.
    pub canary: (i32, i32),
    /// Pods of all revisions.
    pub pods: i32,
    /// Requests lost so far.
    #[serde(skip)]
    pub lost: f64,
    /// Requests served so far, by revision.
    #[serde(skip)]
    pub served: BTreeMap<String, f64>,
}

impl Record {
    /// Nothing has happened.
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            measured: 0,
            status: RolloutStatus::default(),
            lines: Vec::new(),
            points: Vec::new(),
            measurements: Vec::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn line(&mut self, kind: Kind, text: String) {
        self.lines.push(Line { at: self.now(), kind, text });
    }

    /// Something of the stage's own.
    pub fn say(&mut self, text: &str) {
        self.line(Kind::Event, text.to_owned());
    }

    /// Something of the story.
    pub fn event(&mut self, event: &Event) {
        let text = event.to_string();
        self.line(Kind::Event, text);
    }

    /// A change of the cluster.
    pub fn see(&mut self, change: &Change, prometheus: &Prometheus, traffic: &Traffic) {
        for answered in prometheus.answered_since(self.measured) {
            self.measured += 1;
            let says = match answered.assessment {
                Some(Assessment::Success) => "good",
                Some(Assessment::Failure) => "bad",
                Some(Assessment::Inconclusive) => "inconclusive",
                Some(Assessment::Counted) => "counted",
                Some(Assessment::Pending | Assessment::NoData | Assessment::Error) | None => "no verdict",
            };
            self.line(Kind::Measurement, format!("{} {}: {says}", answered.metric, answered.value));
            let (at, metric, value) = (self.now(), answered.metric, answered.value);
            self.measurements.push(Measured { at, metric, value, says });
        }
        if change.writer != names::FIELD_MANAGER || ["leases", "events"].contains(&change.plural) {
            return;
        }
        let before = change.before.as_ref().map(|before| &before["status"]);
        if change.plural == "rollouts" && before != Some(&change.object["status"]) {
            self.take_status(&change.object, traffic);
            return;
        }
        if change.plural == "rolloutactions" {
            return;
        }
        let verb = if change.is_removal() {
            "delete"
        } else if change.before.is_none() {
            "create"
        } else {
            "write"
        };
        let text = format!("{verb} {} {}{}", change.plural, key_of(&change.object).1, detail(change));
        self.line(Kind::Write, text);
    }

    fn take_status(&mut self, rollout: &Value, traffic: &Traffic) {
        let Ok(status) = serde_json::from_value::<RolloutStatus>(rollout["status"].clone()) else { return };
        for note in narrate(&self.status, &status) {
            self.line(Kind::Note, format!("{} {}", note.reason, note.message));
        }
        if status.message != self.status.message {
            self.line(Kind::Message, status.message.clone());
        }
        let pods =
            |side: Option<&crate::api::status::RevisionStatus>| side.map_or((0, 0), |side| (side.replicas, side.ready));
        self.points.push(Point {
            at: self.now(),
            phase: status.phase.map(|phase| phase.to_string()).unwrap_or_default(),
            step: status.current_step_index,
            weight: status.canary.as_ref().map_or(0, |canary| canary.observed_weight),
            waits: status.blocked_by.iter().map(|wait| wait.reason.clone()).collect(),
            message: status.message.clone(),
            revision: status.stable.as_ref().map(|stable| stable.hash.clone()).unwrap_or_default(),
            stable: pods(status.stable.as_ref()),
            canary: pods(status.canary.as_ref()),
            pods: status.replicas,
            lost: traffic.lost(),
            served: traffic.served.clone(),
        });
        self.status = status;
    }
}

/// What of an object is worth a word.
fn detail(change: &Change) -> String {
    let object = &change.object;
    match change.plural {
        "replicasets" | "deployments" => format!(": {} pods", object["spec"]["replicas"].as_i64().unwrap_or(1)),
        "virtualservices" => {
            let routes = ["http", "tls", "tcp"].iter().filter_map(|key| object["spec"][key].as_array()).flatten();
            let weights = routes.filter_map(|route| route["route"].as_array()).map(|destinations| {
                let weights: Vec<String> = destinations.iter().map(|one| one["weight"].to_string()).collect();
                weights.join("/")
            });
            format!(": {}", weights.collect::<Vec<_>>().join(" "))
        }
        "httproutes" => {
            let rules = object["spec"]["rules"].as_array().into_iter().flatten();
            let weights = rules.filter_map(|rule| rule["backendRefs"].as_array()).map(|backends| {
                let weights: Vec<String> =
                    backends.iter().map(|one| one["weight"].as_i64().unwrap_or(1).to_string()).collect();
                weights.join("/")
            });
            format!(": {}", weights.collect::<Vec<_>>().join(" "))
        }
        "destinationrules" => {
            let subsets = object["spec"]["subsets"].as_array().into_iter().flatten();
            let told = subsets.map(|subset| {
                let revision = subset["labels"][names::REVISION_HASH].as_str().unwrap_or("-");
                format!("{}={revision}", subset["name"].as_str().unwrap_or_default())
            });
            format!(": {}", told.collect::<Vec<_>>().join(" "))
        }
        "services" => format!(": {}", object["spec"]["selector"][names::REVISION_HASH].as_str().unwrap_or("-")),
        _ => String::new(),
    }
}
