//! What a run shows to people: one summary, as text, Markdown, JSON or a picture.

pub mod svg;
pub mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use super::record::{Kind, Line, Measured, Point};
use super::story::{Event, Story};
use super::verdict::Outcome;

/// One run, told from the commit on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// `namespace/name` of the Rollout.
    pub rollout: String,
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The status' last sentence.
    pub message: String,
    /// Milliseconds from the commit to the end.
    pub took: u64,
    /// Milliseconds by what was awaited.
    pub waited: BTreeMap<String, u64>,
    /// Requests served by the new revision until the end, of 100 a second.
    pub served_by_canary: u64,
    /// Requests served by others until the end.
    pub served_by_stable: u64,
    /// Requests lost until the end.
    pub lost: u64,
    /// Pods of all revisions at the peak.
    pub pods_most: i32,
    /// Pods before the commit.
    pub pods_before: i32,
    /// The largest weight that the canary had, in percent.
    pub weight_most: i32,
    /// The steps, in words.
    pub steps: Vec<String>,
    /// The Rollout over time.
    pub points: Vec<Point>,
    /// Every measurement.
    pub measurements: Vec<Measured>,
    /// What happened, line by line.
    pub lines: Vec<Line>,
    /// What must not be and was: bugs of Serin.
    pub broken: Vec<String>,
}

impl Summary {
    /// Tells a run from its commit on.
    pub fn of(story: &Story, scenario: &str, report: &Report) -> Self {
        let commit_at = story.events.iter().find(|at| matches!(at.event, Event::Commit(_))).map_or(0, |at| at.at);
        let since = |at: u64| at.saturating_sub(commit_at);
        let all = &report.record.points;
        let before = all.iter().rev().find(|point| point.at < commit_at);
        let mut points: Vec<Point> = all.iter().filter(|point| point.at >= commit_at).cloned().collect();
        points.iter_mut().for_each(|point| point.at = since(point.at));
        let ended = ended(&points, report.end.outcome, &report.end.wanted);
        let took = ended.map_or(0, |point| point.at);
        let served = |is_new: bool| {
            let served = ended.iter().flat_map(|point| &point.served);
            served
                .filter(|(hash, _)| (**hash == report.end.wanted) == is_new)
                .map(|(_, requests)| requests)
                .sum::<f64>()
        };
        let lines = report.record.lines.iter().filter(|line| line.at >= commit_at);
        let lines = lines.map(|line| Line { at: since(line.at), ..line.clone() }).collect();
        let measurements = report.record.measurements.iter().filter(|one| one.at >= commit_at);
        let rollout = story.objects.iter().find(|object| object.get("kind").is_some_and(|kind| kind == "Rollout"));
        let (namespace, name) = rollout.map(crate::embedded::store::key_of).unwrap_or_default();
        Self {
            rollout: format!("{namespace}/{name}"),
            scenario: scenario.to_owned(),
            seed: story.seed,
            outcome: report.end.outcome,
            message: report.end.message.clone(),
            took,
            waited: waited(&points, took),
            served_by_canary: count(served(true)),
            served_by_stable: count(served(false)),
            lost: count(ended.map_or(0.0, |point| point.lost)),
            pods_most: points.iter().map(|point| point.pods).max().unwrap_or(0),
            pods_before: before.map_or(0, |point| point.pods),
            weight_most: points.iter().map(|point| point.weight).max().unwrap_or(0),
            steps: rollout.map(steps).unwrap_or_default(),
            measurements: measurements.map(|one| Measured { at: since(one.at), ..one.clone() }).collect(),
            lines,
            broken: report
                .broken
                .iter()
                .map(|one| format!("{} ms {}: {}", since(one.at), one.rule, one.message))
                .collect(),
            points,
        }
    }

    /// The lines that people read: without what Serin writes and each change of words.
    pub fn told(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| matches!(line.kind, Kind::Event | Kind::Note | Kind::Measurement))
    }

    /// How it ended, in a sentence.
    pub fn verdict(&self) -> String {
        let took = text::clock(self.took);
        match self.outcome {
            Outcome::Promoted => format!("promoted after {took}"),
            Outcome::Aborted => format!("aborted after {took}: {}", self.message),
            Outcome::Waiting => format!("waits for a person after {took}: {}", self.message),
            Outcome::Deleted => format!("deleted, and gone after {took}"),
            Outcome::Stuck => format!("stuck after {took}: {}", self.message),
        }
    }
}

/// The first of the points that say the end.
fn ended<'a>(points: &'a [Point], outcome: Outcome, wanted: &str) -> Option<&'a Point> {
    let phase = match outcome {
        Outcome::Promoted => {
            let is_stable = |point: &&Point| point.revision == wanted;
            let is_at_rest = |point: &&Point| is_stable(point) && point.phase == "Healthy";
            return points.iter().find(is_at_rest).or(points.iter().find(is_stable)).or(points.last());
        }
        Outcome::Aborted => "Degraded",
        Outcome::Waiting | Outcome::Stuck | Outcome::Deleted => return points.last(),
    };
    let after = points.iter().rposition(|point| point.phase != phase).map_or(0, |at| at + 1);
    points.get(after).or(points.last())
}

/// How long each thing was awaited; of several at once the first counts.
fn waited(points: &[Point], until: u64) -> BTreeMap<String, u64> {
    let mut waited = BTreeMap::new();
    for (at, point) in points.iter().enumerate() {
        let end = points.get(at + 1).map_or(until, |next| next.at).min(until);
        if let Some(reason) = point.waits.first().filter(|_| end > point.at) {
            *waited.entry(reason.clone()).or_insert(0) += end - point.at;
        }
    }
    waited
}

/// The steps of a Rollout, in words.
fn steps(rollout: &serde_json::Value) -> Vec<String> {
    let steps = rollout.pointer("/spec/strategy/canary/steps").and_then(serde_json::Value::as_array);
    let word = |step: &serde_json::Value| {
        let (name, inner) = step.as_object().and_then(|step| step.iter().next())?;
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(match name.as_str() {
            "setWeight" => format!("{inner}%"),
            "pause" => inner.get("duration").map_or("pause".to_owned(), |duration| format!("pause {}", text(duration))),
            other => other.to_owned(),
        })
    };
    steps.into_iter().flatten().filter_map(word).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
fn count(requests: f64) -> u64 {
    requests.round().max(0.0) as u64
}
