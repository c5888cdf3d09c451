//! What happened between two statuses, as finished spans: one trace an attempt, from its begin until it is promoted, aborted,
//! superseded or reverted. Pure: no client, clock or task; [`export`] sends them.
//!
//! Every identity comes from what the statuses say, so that another leader goes on with the same trace, and a span that is
//! sent twice is the same one:
//!
//! ```text
//! rollout checkout                        attempt begun -> outcome
//!   setWeight 20, pause, analysis …       step begun -> passed, or the outcome
//!     analysis                            begun -> decided
//!       metric success-rate               with its last measurements as events
//!     wait PodsNotReady                   what else the step waited for
//!     route in force                      route written -> acknowledged by every proxy
//!   promotion                             all steps passed -> promoted: the canary gets all its pods
//!   abort                                 decided -> no proxy sends the canary requests
//! ```

pub mod export;
pub mod span;

use std::collections::BTreeMap;

use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, Status};
use opentelemetry_sdk::trace::SpanData;
use serde_json::Value;

use self::span::{Shape, Traced, finished};
use crate::api::status::{
    AnalysisKind, AnalysisStatus, Attempt, MetricStatus, Outcome, OutcomeKind, RolloutStatus, Verdict, Wait,
};
use crate::api::watched::Rollout;

/// Waits that another span tells: the analysis, the step, the route in force.
const TOLD: [&str; 2] = ["AnalysisRunning", "PausedByStep"];
const SETTLING: &str = "RouteSettling";

/// The spans that ended between two stored statuses of a Rollout; `now` ends what the status has no time for.
pub fn spans(rollout: &Rollout, before: &RolloutStatus, after: &RolloutStatus, now: Timestamp) -> Vec<SpanData> {
    if before == after || (before.attempt.is_none() && after.attempt.is_none()) {
        return Vec::new();
    }
    let mut spans = Vec::new();
    let steps = steps_of(rollout);
    if let Some(passage) = Passage::of(rollout, before, after, (&steps, now)) {
        passage.tell(&mut spans);
    }
    // What begins may have passed its first steps already.
    let is_new = |attempt: &&Attempt| {
        after.in_progress().is_some()
            && before.attempt.as_ref().is_none_or(|known| known.started_at != attempt.started_at)
    };
    if let Some(attempt) = after.attempt.as_ref().filter(is_new) {
        let begun = RolloutStatus {
            canary: after.canary.clone(),
            current_step_index: Some(0),
            attempt: Some(Attempt { step_started_at: attempt.started_at, ..attempt.clone() }),
            ..RolloutStatus::default()
        };
        if let Some(passage) = Passage::of(rollout, &begun, after, (&steps, now)) {
            passage.tell(&mut spans);
        }
    }
    spans.extend(restored(rollout, before, after));
    spans
}

/// The steps as they are written, each by its one word, with what tells it from others.
fn steps_of(rollout: &Rollout) -> Vec<String> {
    let spec = rollout.spec.value();
    let steps = spec.pointer("/strategy/canary/steps").and_then(Value::as_array);
    let name = |step: &Value| {
        let (kind, value) = step.as_object()?.iter().next()?;
        let name = value.get("name").and_then(Value::as_str).map(str::to_owned);
        let told = name.or_else(|| value.as_i64().map(|weight| weight.to_string()));
        Some(told.map_or_else(|| kind.clone(), |told| format!("{kind} {told}")))
    };
    steps.into_iter().flatten().map(|step| name(step).unwrap_or_else(|| "step".to_owned())).collect()
}

/// How an aborted canary lost its traffic.
fn restored(rollout: &Rollout, before: &RolloutStatus, after: &RolloutStatus) -> Option<SpanData> {
    let aborted = after.aborted.as_ref()?;
    let restored_at = aborted.restored_at?;
    if before.aborted.as_ref().is_some_and(|known| known.restored_at.is_some()) {
        return None;
    }
    let traced = Traced::of(rollout, after)?;
    let attributes = vec![KeyValue::new("serin.reason", aborted.reason.clone())];
    let of = ("abort", aborted.at.as_millisecond(), "");
    let shape = Shape { of, parent: Some(traced.root()), name: "abort".into(), attributes, ..Shape::default() };
    Some(finished(&traced, (aborted.at, restored_at), shape))
}

/// One attempt between two statuses: what of it was open before, and what ended it.
struct Passage<'a> {
    traced: Traced<'a>,
    before: &'a RolloutStatus,
    after: &'a RolloutStatus,
    attempt: &'a Attempt,
    steps: &'a [String],
    outcome: Option<&'a Outcome>,
    now: Timestamp,
}

impl<'a> Passage<'a> {
    fn of(
        rollout: &'a Rollout,
        before: &'a RolloutStatus,
        after: &'a RolloutStatus,
        (steps, now): (&'a [String], Timestamp),
    ) -> Option<Self> {
        let canary = before.in_progress()?;
        let attempt = before.attempt.as_ref()?;
        let ended = |outcome: &&Outcome| {
            outcome.hash == canary.hash && outcome.started_at == attempt.started_at && !before.history.contains(outcome)
        };
        let outcome = after.history.iter().rev().find(ended);
        let goes_on = after.attempt.as_ref().is_some_and(|known| known.started_at == attempt.started_at);
        if outcome.is_none() && !goes_on {
            return None;
        }
        let traced = Traced::of(rollout, before)?;
        Some(Self { traced, before, after, attempt, steps, outcome, now })
    }

    fn tell(&self, spans: &mut Vec<SpanData>) {
        self.steps_passed(spans);
        let open = self.before.analysis.iter().filter(|one| self.was_open(one));
        let new = self.after.analysis.iter().filter(|one| {
            let is_known = self.before.analysis.iter().any(|known| is_same(known, one));
            !is_known && one.started_at >= self.attempt.started_at
        });
        for analysis in open.chain(new) {
            self.analysis_decided(analysis, spans);
        }
        let in_force = self.route_in_force();
        self.waits_over(in_force.is_some(), spans);
        spans.extend(in_force);
        spans.extend(self.outcome.map(|outcome| self.ended(outcome)));
    }

    /// The step that was under way, counting from 0.
    fn index(&self) -> usize {
        self.before.current_step_index.and_then(|index| usize::try_from(index).ok()).unwrap_or(0)
    }

    fn step_count(&self) -> usize {
        usize::try_from(self.attempt.steps).unwrap_or(0)
    }

    /// The step that is under way now: it has not moved where the attempt ended otherwise than by a promotion or an abort.
    fn index_after(&self) -> usize {
        let is_cleared = self.outcome.is_some_and(|outcome| match outcome.outcome {
            OutcomeKind::Superseded | OutcomeKind::Reverted => true,
            OutcomeKind::Promoted | OutcomeKind::Aborted => false,
        });
        let index = self.after.current_step_index.filter(|_| !is_cleared);
        index.and_then(|index| usize::try_from(index).ok()).unwrap_or_else(|| self.index())
    }

    /// When what ended with this pass ended, where the status says so: with the attempt, or with the step.
    fn moved_at(&self) -> Option<Timestamp> {
        if let Some(outcome) = self.outcome {
            return Some(outcome.ended_at);
        }
        let began = self.after.attempt.as_ref()?.step_started_at;
        (began != self.attempt.step_started_at || self.index() != self.index_after()).then_some(began)
    }

    /// The span that is under way: of the step, or after the last one of the promotion.
    fn under_way(&self) -> SpanId {
        let began = self.attempt.step_started_at.as_millisecond();
        self.traced.id("step", began, &self.index().to_string())
    }

    /// What began before the step under way belongs to the whole.
    fn parent_at(&self, began: Timestamp) -> SpanId {
        if began >= self.attempt.step_started_at { self.under_way() } else { self.traced.root() }
    }

    /// The steps that ended: passed, edited, or with the attempt; after the last one, the promotion.
    fn steps_passed(&self, spans: &mut Vec<SpanData>) {
        let (index, index_after) = (self.index(), self.index_after());
        let Some(moved_at) = self.moved_at() else { return };
        let skips = |status: &RolloutStatus| status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
        // Steps that are skipped at the begin are told of the whole.
        let is_skipping = self.outcome.is_none() && skips(self.after);
        if is_skipping && self.attempt.step_started_at == self.attempt.started_at && skips(self.before) {
            return;
        }
        let how = if index_after > index {
            if is_skipping && !skips(self.before) { "skipped" } else { "passed" }
        } else if self.outcome.is_some() {
            "ended"
        } else {
            "edited"
        };
        spans.push(self.step(index, (self.attempt.step_started_at, moved_at), how));
        let is_promoted = self.outcome.is_some_and(|outcome| outcome.outcome == OutcomeKind::Promoted);
        if how == "passed" {
            let also = (index + 1)..index_after.min(self.step_count());
            spans.extend(also.map(|index| self.step(index, (moved_at, moved_at), how)));
            let is_last = self.outcome.is_some() && index < self.step_count() && index_after >= self.step_count();
            if is_last && is_promoted {
                spans.push(self.step(self.step_count(), (moved_at, moved_at), "ended"));
            }
        }
    }

    fn step(&self, index: usize, times: (Timestamp, Timestamp), how: &'static str) -> SpanData {
        let is_step = index < self.step_count();
        let name = if is_step { self.steps.get(index).map_or("step", String::as_str) } else { "promotion" };
        let mut attributes = vec![KeyValue::new("serin.step.outcome", how)];
        if is_step {
            attributes.push(KeyValue::new("serin.step.number", number(index + 1)));
        }
        // The same identity whether steps are added meanwhile or not.
        let which = index.to_string();
        let of = ("step", times.0.as_millisecond(), which.as_str());
        let is_aborted = how == "ended" && self.is_aborted();
        let status = if is_aborted { Status::error("aborted") } else { Status::Unset };
        let parent = Some(self.traced.root());
        finished(&self.traced, times, Shape { of, parent, name: name.into(), attributes, status, ..Shape::default() })
    }

    fn is_aborted(&self) -> bool {
        self.outcome.is_some_and(|outcome| outcome.outcome == OutcomeKind::Aborted)
    }

    fn was_open(&self, analysis: &AnalysisStatus) -> bool {
        is_open(self.before, analysis)
    }

    /// An analysis that decided, or was given up with its step or the attempt.
    fn analysis_decided(&self, known: &AnalysisStatus, spans: &mut Vec<SpanData>) {
        let now = self.after.analysis.iter().find(|one| is_same(one, known));
        let goes_on = self.outcome.is_none() && now.is_some_and(|one| is_open(self.after, one));
        if goes_on {
            return;
        }
        let analysis = now.unwrap_or(known);
        let last = analysis.metrics.iter().flat_map(|metric| &metric.measurements).map(|one| one.at).max();
        let ended = self.moved_at().or(last).unwrap_or(self.now);
        let times = (analysis.started_at, ended);
        let is_of_step = analysis.step.and_then(|step| usize::try_from(step).ok()) == Some(self.index());
        let (parent, kind, name) = match analysis.kind {
            AnalysisKind::Step if is_of_step => (self.under_way(), "step", "analysis"),
            AnalysisKind::Step => (self.traced.root(), "step", "analysis"),
            AnalysisKind::Background => (self.traced.root(), "background", "background analysis"),
        };
        let of = ("analysis", analysis.started_at.as_millisecond(), kind);
        let own = self.traced.id(of.0, of.1, of.2);
        let attributes = vec![
            KeyValue::new("serin.analysis.kind", kind),
            KeyValue::new("serin.analysis.verdict", verdict(analysis.verdict)),
        ];
        let status = failed(analysis.verdict);
        let parent = Some(parent);
        let shape = Shape { of, parent, name: name.into(), attributes, status, ..Shape::default() };
        spans.push(finished(&self.traced, times, shape));
        for metric in &analysis.metrics {
            let key = format!("{kind}/{}", metric.name);
            let of = ("metric", analysis.started_at.as_millisecond(), key.as_str());
            let shape = span::of_metric(metric, times.0, Shape { of, parent: Some(own), ..Shape::default() });
            spans.push(finished(&self.traced, times, Shape { status: failed(metric.verdict), ..shape }));
        }
    }

    /// The route that every proxy has acknowledged.
    fn route_in_force(&self) -> Option<SpanData> {
        let route = self.after.route.as_ref().filter(|_| self.outcome.is_none())?;
        let (since, acknowledged) = (route.since?, route.acknowledged?);
        let known = self.before.route.as_ref().and_then(|known| Some((known.since?, known.acknowledged?)));
        if known == Some((since, acknowledged)) || since < self.attempt.started_at {
            return None;
        }
        let weight = self.after.canary.as_ref().map_or(0, |canary| canary.observed_weight);
        let attributes = vec![
            KeyValue::new("serin.weight", i64::from(weight)),
            KeyValue::new("serin.route", route.observed.clone()),
        ];
        let of = ("route", since.as_millisecond(), "");
        let parent = Some(self.parent_at(since));
        let shape = Shape { of, parent, name: "route in force".into(), attributes, ..Shape::default() };
        Some(finished(&self.traced, (since, acknowledged), shape))
    }

    /// What is awaited no longer.
    fn waits_over(&self, is_in_force: bool, spans: &mut Vec<SpanData>) {
        let lasts =
            |wait: &Wait| self.after.blocked_by.iter().any(|one| one.reason == wait.reason && one.since == wait.since);
        let over = self.before.blocked_by.iter().filter(|wait| {
            let is_told = TOLD.contains(&wait.reason.as_str()) || (is_in_force && wait.reason == SETTLING);
            !is_told && (self.outcome.is_some() || !lasts(wait))
        });
        let over: BTreeMap<&str, &Wait> = over.map(|wait| (wait.reason.as_str(), wait)).collect();
        for (reason, wait) in over {
            let (began, ended) = (wait.since.max(self.attempt.started_at), self.moved_at().unwrap_or(self.now));
            if began >= ended {
                continue;
            }
            let attributes = vec![
                KeyValue::new("serin.wait.reason", reason.to_owned()),
                KeyValue::new("serin.wait.message", wait.message.clone()),
            ];
            let of = ("wait", began.as_millisecond(), reason);
            let parent = Some(self.parent_at(began));
            let shape = Shape { of, parent, name: format!("wait {reason}"), attributes, ..Shape::default() };
            spans.push(finished(&self.traced, (began, ended), shape));
        }
    }

    /// The whole attempt.
    fn ended(&self, outcome: &Outcome) -> SpanData {
        let skipped = self.attempt.skip_steps || self.after.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
        span::of_attempt(&self.traced, (self.attempt, skipped), outcome, self.after)
    }
}

fn is_same(one: &AnalysisStatus, other: &AnalysisStatus) -> bool {
    (one.kind, one.started_at, one.step) == (other.kind, other.started_at, other.step)
}

/// Whether an analysis is under way: undecided, and of the step under way or in the background.
fn is_open(status: &RolloutStatus, analysis: &AnalysisStatus) -> bool {
    let is_current = match analysis.kind {
        AnalysisKind::Background => true,
        AnalysisKind::Step => analysis.step == status.current_step_index,
    };
    status.in_progress().is_some() && analysis.verdict == Verdict::Running && is_current
}

fn verdict(verdict: Verdict) -> &'static str {
    super::telemetry::rollouts::verdict(verdict)
}

fn failed(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Fail => Status::error("failed"),
        Verdict::Running | Verdict::Pass | Verdict::Inconclusive => Status::Unset,
    }
}

fn number(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// A metric's counts as attributes.
fn counts(metric: &MetricStatus) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("serin.metric.name", metric.name.clone()),
        KeyValue::new("serin.analysis.verdict", verdict(metric.verdict)),
    ];
    for (name, count) in [
        ("serin.metric.taken", metric.taken),
        ("serin.metric.successes", metric.successes),
        ("serin.metric.failures", metric.failures),
        ("serin.metric.inconclusive", metric.inconclusive),
        ("serin.metric.no_data", metric.no_data),
        ("serin.metric.errors", metric.errors),
    ] {
        attributes.push(KeyValue::new(name, i64::from(count)));
    }
    if metric.dry_run {
        attributes.push(KeyValue::new("serin.metric.dry_run", true));
    }
    if let Some(evidence) = &metric.evidence {
        attributes.push(KeyValue::new("serin.evidence", evidence.message.clone()));
        attributes.push(KeyValue::new("serin.evidence.worse", evidence.worse));
        attributes.push(KeyValue::new("serin.evidence.better", evidence.better));
    }
    attributes
}
