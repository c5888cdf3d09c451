//! Finished spans, and their identities: hashes of what a status says.

use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest as _, Sha256};

use super::counts;
use crate::api::event::RolloutEvent;
use crate::api::status::{Assessment, Attempt, MetricStatus, Outcome, OutcomeKind, RevisionStatus, RolloutStatus};
use crate::api::watched::Rollout;

/// Who decides when nobody asked.
const SERIN: &str = "serin";

/// One attempt of one revision of one Rollout: what its trace is.
pub(super) struct Traced<'a> {
    rollout: &'a Rollout,
    canary: &'a RevisionStatus,
    trace: TraceId,
}

impl<'a> Traced<'a> {
    /// The attempt that a status has.
    pub(super) fn of(rollout: &'a Rollout, status: &'a RolloutStatus) -> Option<Self> {
        let (canary, attempt) = (status.canary.as_ref()?, status.attempt.as_ref()?);
        let trace = trace_of(rollout, &canary.hash, attempt.number, attempt.started_at);
        Some(Self { rollout, canary, trace })
    }

    /// Identity of a part, by its kind, when it began, and what tells it from others that began then.
    pub(super) fn id(&self, kind: &str, began: i64, which: &str) -> SpanId {
        id_in(self.trace, kind, began, which)
    }

    /// Identity of the whole.
    pub(super) fn root(&self) -> SpanId {
        root_of(self.trace)
    }
}

/// The trace of an attempt. A revision may be tried anew with the same number after it was stable, so that the time tells.
fn trace_of(rollout: &Rollout, hash: &str, number: i32, started_at: Timestamp) -> TraceId {
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("serin trace\n{uid}\n{hash}\n{number}\n{}", started_at.as_millisecond()));
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    TraceId::from_bytes(bytes)
}

fn root_of(trace: TraceId) -> SpanId {
    id_in(trace, "rollout", 0, "")
}

fn id_in(trace: TraceId, kind: &str, began: i64, which: &str) -> SpanId {
    let digest = Sha256::digest(format!("serin span\n{trace}\n{kind}\n{began}\n{which}"));
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    SpanId::from_bytes(bytes)
}

/// What a span is besides its times.
#[derive(Default)]
pub(super) struct Shape<'a> {
    /// What its identity is made of; the whole has none.
    pub(super) of: (&'a str, i64, &'a str),
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    pub(super) attributes: Vec<KeyValue>,
    pub(super) events: Vec<Event>,
    pub(super) links: Vec<Link>,
    pub(super) status: Status,
}

/// A finished span. Clocks of two leaders may differ: none ends before it began.
pub(super) fn finished(traced: &Traced<'_>, (began, ended): (Timestamp, Timestamp), shape: Shape<'_>) -> SpanData {
    let own = if shape.parent.is_some() { traced.id(shape.of.0, shape.of.1, shape.of.2) } else { traced.root() };
    let mut events = SpanEvents::default();
    events.events = shape.events;
    let mut links = SpanLinks::default();
    links.links = shape.links;
    let mut attributes = names(traced);
    attributes.extend(shape.attributes);
    SpanData {
        span_context: context(traced.trace, own),
        parent_span_id: shape.parent.unwrap_or(SpanId::INVALID),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: shape.name.into(),
        start_time: SystemTime::from(began),
        end_time: SystemTime::from(ended.max(began)),
        attributes,
        dropped_attributes_count: 0,
        events,
        links,
        status: shape.status,
        instrumentation_scope: InstrumentationScope::builder("serin").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

/// What every span is of.
fn names(traced: &Traced<'_>) -> Vec<KeyValue> {
    let metadata = &traced.rollout.metadata;
    vec![
        KeyValue::new("k8s.namespace.name", metadata.namespace.clone().unwrap_or_default()),
        KeyValue::new("serin.rollout.name", metadata.name.clone().unwrap_or_default()),
        KeyValue::new("serin.revision.hash", traced.canary.hash.clone()),
    ]
}

/// A metric of an analysis, with the measurements that the status keeps.
pub(super) fn of_metric<'a>(metric: &MetricStatus, began: Timestamp, shape: Shape<'a>) -> Shape<'a> {
    let measured = metric.measurements.iter().filter(|one| one.at >= began);
    let events = measured.map(|one| {
        let attributes = vec![
            KeyValue::new("serin.measurement.assessment", assessment(one.assessment)),
            KeyValue::new("serin.measurement.value", one.value.clone()),
        ];
        Event::new("measurement", SystemTime::from(one.at), attributes, 0)
    });
    Shape { name: format!("metric {}", metric.name), attributes: counts(metric), events: events.collect(), ..shape }
}

fn assessment(assessment: Assessment) -> &'static str {
    match assessment {
        Assessment::Success => "Success",
        Assessment::Failure => "Failure",
        Assessment::Inconclusive => "Inconclusive",
        Assessment::Counted => "Counted",
        Assessment::Pending => "Pending",
        Assessment::NoData => "NoData",
        Assessment::Error => "Error",
    }
}

/// The whole attempt, with what people were told and what people decided as events.
pub(super) fn of_attempt(
    traced: &Traced<'_>,
    (attempt, are_skipped): (&Attempt, bool),
    outcome: &Outcome,
    after: &RolloutStatus,
) -> SpanData {
    let is_ours = |at: Timestamp| at >= outcome.started_at && at <= outcome.ended_at;
    let told = after.events.iter().filter(|event| event.revision == outcome.hash && is_ours(event.at)).map(of_event);
    let decided = after.decisions.iter().filter(|one| one.by != SERIN && is_ours(one.at)).map(|decision| {
        let attributes = vec![
            KeyValue::new("serin.decision.by", decision.by.clone()),
            KeyValue::new("serin.decision.why", decision.why.clone()),
        ];
        Event::new(decision.what.clone(), SystemTime::from(decision.at), attributes, 0)
    });
    let mut events: Vec<Event> = told.chain(decided).collect();
    events.sort_by_key(|event| event.timestamp);
    let status = match outcome.outcome {
        OutcomeKind::Promoted => Status::Ok,
        OutcomeKind::Aborted => Status::error(outcome.reason.clone()),
        OutcomeKind::Superseded | OutcomeKind::Reverted => Status::Unset,
    };
    let name = traced.rollout.metadata.name.as_deref().unwrap_or_default();
    let shape = Shape {
        name: format!("rollout {name}"),
        attributes: of_whole(traced, (attempt, are_skipped), outcome),
        events,
        links: earlier(traced, attempt, after),
        status,
        ..Shape::default()
    };
    finished(traced, (outcome.started_at, outcome.ended_at), shape)
}

fn of_event(event: &RolloutEvent) -> Event {
    let attributes = vec![KeyValue::new("serin.event.message", event.message.clone())];
    Event::new(event.reason.clone(), SystemTime::from(event.at), attributes, 0)
}

fn of_whole(traced: &Traced<'_>, (attempt, are_skipped): (&Attempt, bool), outcome: &Outcome) -> Vec<KeyValue> {
    let canary = traced.canary;
    let status = match outcome.outcome {
        OutcomeKind::Promoted => "succeeded",
        OutcomeKind::Aborted | OutcomeKind::Superseded | OutcomeKind::Reverted => "failed",
    };
    let mut attributes = vec![
        KeyValue::new("deployment.name", traced.rollout.metadata.name.clone().unwrap_or_default()),
        KeyValue::new("deployment.status", status),
        KeyValue::new("serin.rollout.uid", traced.rollout.metadata.uid.clone().unwrap_or_default()),
        KeyValue::new("serin.revision.number", canary.revision),
        KeyValue::new("serin.attempt", i64::from(attempt.number)),
        KeyValue::new("serin.steps", i64::from(attempt.steps)),
        KeyValue::new("serin.outcome", outcome.outcome.to_string()),
        KeyValue::new("serin.reason", outcome.reason.clone()),
        KeyValue::new("container.image.name", canary.image.clone()),
    ];
    if are_skipped {
        attributes.push(KeyValue::new("serin.steps.skipped", true));
    }
    let known = [
        ("vcs.ref.head.revision", &canary.commit),
        ("serin.commit.author", &canary.author),
        ("service.version", &canary.version),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some(KeyValue::new(name, value.clone()?)));
    attributes.extend(known);
    attributes
}

/// The attempt of the same revision before a retry, where the status remembers it.
fn earlier(traced: &Traced<'_>, attempt: &Attempt, after: &RolloutStatus) -> Vec<Link> {
    let is_earlier = |outcome: &&Outcome| {
        let is_own = outcome.hash == traced.canary.hash && outcome.outcome == OutcomeKind::Aborted;
        is_own && outcome.started_at < attempt.started_at
    };
    let last = after.history.iter().rev().find(is_earlier).filter(|_| attempt.number > 1);
    let linked = last.map(|outcome| {
        let trace = trace_of(traced.rollout, &outcome.hash, attempt.number - 1, outcome.started_at);
        let attributes = vec![KeyValue::new("serin.attempt", i64::from(attempt.number - 1))];
        Link::new(context(trace, root_of(trace)), attributes, 0)
    });
    linked.into_iter().collect()
}
