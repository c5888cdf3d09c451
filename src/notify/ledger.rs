//! Which message is due: once per event, whatever crashes. A message is put on record before it is sent, and what became of
//! it after.
//!
//! ```text
//! nothing ──▶ sending ──▶ told (sent, failed or unconfirmed)
//!               ▲  │
//!               └──┘ not taken: tried again after a wait
//! ```
//! What is found as `sending` and was begun by a process that is gone may have arrived. Services that know a message when it
//! comes twice get it again; people do not, and it counts as unconfirmed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::answer::Outcome;
use super::service::{self, Service};
use crate::api::event::RolloutEvent;
use crate::api::notification::{
    InFlight, LastDelivery, NotificationChannelSpec, NotificationChannelStatus, Thread, Told,
};
use crate::api::watched::Rollout;

/// How often a message is tried, and how long.
const TRIES_MOST: i32 = 6;
const LONGEST: SignedDuration = SignedDuration::from_mins(20);
/// What is older is no news.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// The waits between tries.
const WAITS: [i64; 5] = [5, 20, 60, 120, 300];
/// The longest that a service may ask to be left alone.
const ASKED_MOST: SignedDuration = SignedDuration::from_mins(10);
/// Characters of an error.
const ERROR_MOST: usize = 300;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing, until something changes.
    Rest,
    /// Nothing, until this time.
    Wait(Timestamp),
    /// This message is to be sent, once the status that says so is written.
    Send(Box<InFlight>),
}

/// What a channel's messages depend on.
pub struct Ledger<'a> {
    /// The channel.
    pub spec: &'a NotificationChannelSpec,
    /// Its service.
    pub service: Service,
    /// Every Rollout of its namespace.
    pub rollouts: &'a [Arc<Rollout>],
    /// The process that sends.
    pub sender: &'a str,
    /// When the channel was created: what happens between then and the first look at it is told.
    pub created: Timestamp,
    /// The time.
    pub now: Timestamp,
}

impl Ledger<'_> {
    /// What is to be done next; the status says it, too. `ended` is what became of a message that this process sent, where the
    /// status does not say it yet.
    pub fn next(&self, status: &mut NotificationChannelStatus, ended: Option<Outcome>) -> Next {
        let since = *status.since.get_or_insert(self.created.min(self.now));
        status.rollouts.retain(|told| self.rollouts.iter().any(|rollout| is_of(rollout, told)));
        if let Some(in_flight) = status.in_flight.take()
            && let Some(next) = self.go_on(status, in_flight, ended)
        {
            return next;
        }
        let paced = status.last.as_ref().and_then(|last| last.at.checked_add(self.service.pace()).ok());
        let Some((rollout, event)) = self.pending(status, since) else { return Next::Rest };
        // A clock that was set back is waited for no longer than the pace.
        if let Some(at) = paced.filter(|at| *at > self.now && at.duration_since(self.now) <= self.service.pace()) {
            return Next::Wait(at);
        }
        let metadata = &rollout.metadata;
        let in_flight = InFlight {
            rollout: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            event: event.clone(),
            began: self.now,
            tries: 1,
            sender: Some(self.sender.to_owned()),
            retry_at: None,
            error: None,
        };
        status.in_flight = Some(in_flight.clone());
        Next::Send(Box::new(in_flight))
    }

    /// Goes on with the message under way; none where it has ended.
    fn go_on(
        &self,
        status: &mut NotificationChannelStatus,
        mut in_flight: InFlight,
        ended: Option<Outcome>,
    ) -> Option<Next> {
        let is_own = in_flight.sender.as_deref() == Some(self.sender);
        if let (true, Some(outcome)) = (is_own, ended) {
            self.settle(status, in_flight, outcome);
            return status.in_flight.as_ref().and_then(|waiting| waiting.retry_at).map(Next::Wait);
        }
        // Recorded by this process, and not sent yet: the answer to the record was lost.
        if is_own {
            status.in_flight = Some(in_flight.clone());
            return Some(Next::Send(Box::new(in_flight)));
        }
        if in_flight.sender.is_some() && !self.service.takes_twice() {
            let error = "the controller ended while it was sent; it is not sent twice".to_owned();
            self.settle(status, in_flight, Outcome::Unknown(error));
            return None;
        }
        if let Some(at) = in_flight.retry_at.filter(|at| *at > self.now && at.duration_since(self.now) <= LONGEST) {
            status.in_flight = Some(in_flight);
            return Some(Next::Wait(at));
        }
        in_flight.tries += 1;
        in_flight.sender = Some(self.sender.to_owned());
        in_flight.retry_at = None;
        status.in_flight = Some(in_flight.clone());
        Some(Next::Send(Box::new(in_flight)))
    }

    /// Records what became of a message.
    fn settle(&self, status: &mut NotificationChannelStatus, in_flight: InFlight, outcome: Outcome) {
        match outcome {
            Outcome::Sent(thread) => self.end(status, in_flight, ("Sent", None), thread),
            Outcome::Refused(error) => self.end(status, in_flight, ("Failed", Some(error)), None),
            Outcome::Unknown(error) if self.service.takes_twice() => self.later(status, in_flight, error, None),
            Outcome::Unknown(error) => self.end(status, in_flight, ("Unconfirmed", Some(error)), None),
            Outcome::Later(error, wait) => self.later(status, in_flight, error, wait),
        }
    }

    fn later(
        &self,
        status: &mut NotificationChannelStatus,
        in_flight: InFlight,
        error: String,
        asked: Option<SignedDuration>,
    ) {
        let index = usize::try_from(in_flight.tries - 1).unwrap_or(0);
        let own = SignedDuration::from_secs(WAITS.get(index).or(WAITS.last()).copied().unwrap_or(60));
        let wait = asked.map_or(own, |asked| asked.min(ASKED_MOST).max(own));
        let at = self.now.checked_add(wait).unwrap_or(self.now);
        if in_flight.tries >= TRIES_MOST || at.duration_since(in_flight.began) > LONGEST {
            return self.end(status, in_flight, ("Failed", Some(error)), None);
        }
        let error = Some(super::context::first(&error, ERROR_MOST));
        status.in_flight = Some(InFlight { sender: None, retry_at: Some(at), error, ..in_flight });
    }

    fn end(
        &self,
        status: &mut NotificationChannelStatus,
        in_flight: InFlight,
        (outcome, error): (&str, Option<String>),
        thread: Option<String>,
    ) {
        let count = match outcome {
            "Sent" => &mut status.sent,
            "Failed" => &mut status.failed,
            _ => &mut status.unconfirmed,
        };
        *count += 1;
        let InFlight { rollout, uid, event, .. } = in_flight;
        status.last = Some(LastDelivery {
            rollout: rollout.clone(),
            reason: event.reason.clone(),
            at: self.now,
            outcome: outcome.to_owned(),
            error: error.map(|error| super::context::first(&error, ERROR_MOST)),
        });
        let before = status.rollouts.iter().position(|told| told.uid == uid).map(|at| status.rollouts.remove(at));
        let known = before.as_ref().and_then(|told| told.thread.clone()).filter(|known| is_of_attempt(known, &event));
        // A thread is named after its first message.
        let begun = thread.map(|id| Thread { revision: event.revision.clone(), attempt: event.attempt, id });
        let at = before.map_or(event.at, |told| told.at.max(event.at));
        status.rollouts.push(Told { name: rollout, uid, sequence: event.sequence, at, thread: known.or(begun) });
        status.rollouts.sort_by(|left, right| left.name.cmp(&right.name));
        status.rollouts.retain(|told| self.rollouts.iter().any(|rollout| is_of(rollout, told)));
    }

    /// The oldest event that is to be told.
    fn pending(&self, status: &NotificationChannelStatus, since: Timestamp) -> Option<(&Arc<Rollout>, &RolloutEvent)> {
        let told: BTreeMap<&str, &Told> = status.rollouts.iter().map(|told| (told.uid.as_str(), told)).collect();
        let selector = service::selector(self.spec);
        let none = BTreeMap::new();
        let mut pending: Vec<(&Arc<Rollout>, &RolloutEvent)> = Vec::new();
        for rollout in self.rollouts {
            let known = told.get(rollout.metadata.uid.as_deref().unwrap_or_default());
            // Numbers begin anew where somebody emptied the status: later times are news, too.
            let is_new = |event: &&RolloutEvent| match known {
                Some(told) => event.sequence > told.sequence || event.at > told.at,
                None => event.at > since,
            };
            let is_told = |event: &&RolloutEvent| service::tells(self.spec, self.service, &event.reason);
            // What a channel could not tell, or was not asked to, is no news after an hour.
            let is_fresh = |event: &&RolloutEvent| self.now.duration_since(event.at) <= FRESH;
            let first = rollout.status.events.iter().filter(is_new).filter(is_fresh).find(is_told);
            let is_selected = || selector.selects(rollout.metadata.labels.as_ref().unwrap_or(&none));
            pending.extend(first.filter(|_| is_selected()).map(|event| (rollout, event)));
        }
        pending.into_iter().min_by_key(|(rollout, event)| (event.at, rollout.metadata.name.clone()))
    }
}

/// The thread that a message belongs to.
pub fn thread_of(status: &NotificationChannelStatus, in_flight: &InFlight) -> Option<String> {
    let told = status.rollouts.iter().find(|told| told.uid == in_flight.uid)?;
    told.thread.as_ref().filter(|thread| is_of_attempt(thread, &in_flight.event)).map(|thread| thread.id.clone())
}

fn is_of_attempt(thread: &Thread, event: &RolloutEvent) -> bool {
    thread.revision == event.revision && (event.attempt.is_none() || thread.attempt == event.attempt)
}

fn is_of(rollout: &Rollout, told: &Told) -> bool {
    rollout.metadata.uid.as_deref() == Some(told.uid.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn next(created: &str, happened: &str) -> Next {
        let spec = serde_json::from_value(json!({"webhook": {"url": "https://hooks.example/x"}})).unwrap();
        let rollout = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "checkout", "namespace": "shop", "uid": "1"},
            "spec": {}, "status": {"events": [{"sequence": 1, "at": happened, "reason": "Promoted", "message": "all steps passed"}]},
        });
        let rollouts = [Arc::new(serde_json::from_value(rollout).unwrap())];
        let ledger = Ledger {
            spec: &spec,
            service: Service::of(&spec).unwrap(),
            rollouts: &rollouts,
            sender: "serin-1",
            created: created.parse().unwrap(),
            now: "2026-01-01T00:01:00Z".parse().unwrap(),
        };
        ledger.next(&mut NotificationChannelStatus::default(), None)
    }

    #[test]
    fn what_happens_before_a_new_channel_is_looked_at_is_told() {
        let happened = "2026-01-01T00:00:30Z";
        assert!(matches!(next("2026-01-01T00:00:29Z", happened), Next::Send(_)));
        assert_eq!(next("2026-01-01T00:00:31Z", happened), Next::Rest);
        // A clock that is behind the API server's.
        assert!(matches!(next("2026-01-01T00:02:00Z", "2026-01-01T00:01:00.5Z"), Next::Send(_)));
    }
}
