//! Kubernetes Events about Rollouts, out of the way of a pass: a bounded queue, and a bound a Rollout.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::telemetry::Metrics;
use crate::api::names;
use crate::plan::narrate::Note;

/// Events that wait.
const QUEUE: usize = 1024;
/// Events that a Rollout may have at once; then one more every [`REFILL`].
const BURST: u32 = 30;
const REFILL: Duration = Duration::from_secs(20);
/// Bytes of an event's note, which the API bounds at 1024.
const NOTE_BYTES: usize = 1000;
/// Rollouts whose bound is remembered.
const REMEMBERED: usize = 10_000;

/// Publishes events.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<(ObjectReference, Note)>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// Starts the task that sends.
    pub fn spawn(client: Client, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(send(client, waiting, metrics.clone()));
        Self { queue, metrics }
    }

    /// Publishes a note about an object, if there is room.
    pub fn publish(&self, about: ObjectReference, note: Note) {
        if self.queue.try_send((about, note)).is_err() {
            self.metrics.event_dropped();
        }
    }
}

async fn send(client: Client, mut waiting: mpsc::Receiver<(ObjectReference, Note)>, metrics: Arc<Metrics>) {
    let reporter = Reporter { controller: names::REPORTER.into(), instance: None };
    let recorder = Recorder::new(client, reporter);
    let mut budgets: BTreeMap<String, (u32, Instant)> = BTreeMap::new();
    while let Some((about, note)) = waiting.recv().await {
        if !take(&mut budgets, about.uid.clone().unwrap_or_default(), Instant::now()) {
            metrics.event_dropped();
            continue;
        }
        let event = Event {
            type_: if note.is_warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason,
            note: Some(cut(&note.message).to_owned()),
            action: "Rollout".into(),
            secondary: None,
        };
        let began = Instant::now();
        let published = recorder.publish(&event, &about).await;
        let outcome = published.as_ref().map_or("transient", |()| "ok");
        metrics.request(("events", "create"), outcome, began.elapsed().as_secs_f64());
        if let Err(error) = published {
            tracing::debug!(%error, "an event could not be published");
            metrics.event_dropped();
        }
    }
}

/// Takes one event of a Rollout's budget.
fn take(budgets: &mut BTreeMap<String, (u32, Instant)>, uid: String, now: Instant) -> bool {
    if budgets.len() > REMEMBERED {
        budgets.retain(|_, (_, since)| now.duration_since(*since) < REFILL * BURST);
    }
    let (left, since) = budgets.entry(uid).or_insert((BURST, now));
    let gained = u32::try_from(now.duration_since(*since).as_secs() / REFILL.as_secs()).unwrap_or(BURST);
    if gained > 0 {
        *left = left.saturating_add(gained).min(BURST);
        *since = now;
    }
    let has = *left > 0;
    *left = left.saturating_sub(1);
    has
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(NOTE_BYTES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_has_a_bound() {
        let mut budgets = BTreeMap::new();
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now: Instant = std::time::Instant::now().into();
        let taken = (0..100).filter(|_| take(&mut budgets, "a".into(), now)).count();
        assert_eq!(taken, 30);
        assert!(take(&mut budgets, "b".into(), now));
        assert!(take(&mut budgets, "a".into(), now + REFILL));
    }

    #[test]
    fn rollouts_that_are_gone_are_forgotten() {
        let mut budgets = BTreeMap::new();
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now: Instant = std::time::Instant::now().into();
        (0..=REMEMBERED).for_each(|number| assert!(take(&mut budgets, number.to_string(), now)));
        assert!(take(&mut budgets, "later".into(), now + REFILL * BURST));
        assert_eq!(budgets.len(), 1);
    }

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(cut(&"é".repeat(600)).len(), 1000);
        assert_eq!(cut("short"), "short");
    }
}
