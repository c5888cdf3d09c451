//! The events that a status remembers: what [`narrate`](super::narrate) tells, numbered, for those who are told outside of
//! the cluster. They are part of the status that decides, so that no crash tells something twice or loses it.

use jiff::Timestamp;

use super::narrate::Note;
use crate::api::event::RolloutEvent;
use crate::api::status::{RevisionStatus, RolloutStatus};

/// Events that a status keeps.
pub const KEPT: usize = 20;
/// Bytes of an event's message.
const MESSAGE_BYTES: usize = 512;

/// The events of the next status: those of the one before, and what happened since.
pub fn record(before: &RolloutStatus, after: &RolloutStatus, notes: &[Note], now: Timestamp) -> Vec<RolloutEvent> {
    let mut events = before.events.clone();
    for note in notes {
        let sequence = events.last().map_or(0, |last| last.sequence) + 1;
        events.push(event(before, after, note, (sequence, now)));
    }
    events.drain(..events.len().saturating_sub(KEPT));
    events
}

fn event(before: &RolloutStatus, after: &RolloutStatus, note: &Note, (sequence, at): (i64, Timestamp)) -> RolloutEvent {
    let revision = subject(before, after, &note.reason);
    let hash = revision.map(|one| one.hash.clone()).unwrap_or_default();
    let commit = revision.and_then(|one| one.commit.clone());
    let is_stable = after.stable.as_ref().is_some_and(|stable| stable.hash == hash);
    let served = if is_stable { &before.stable } else { &after.stable };
    let served = served.as_ref().filter(|served| served.hash != hash).and_then(|served| served.commit.clone());
    // What ended with this pass had the attempt of the pass before.
    let of_after = after.canary.as_ref().filter(|canary| canary.hash == hash).and(after.attempt.as_ref());
    let of_before = before.canary.as_ref().filter(|canary| canary.hash == hash).and(before.attempt.as_ref());
    RolloutEvent {
        sequence,
        at,
        reason: note.reason.clone(),
        message: cut(&note.message).to_owned(),
        revision: hash,
        attempt: of_after.or(of_before).map(|attempt| attempt.number),
        previous_commit: served.filter(|served| Some(served) != commit.as_ref()),
        commit,
    }
}

/// The revision that a note is about.
fn subject<'a>(before: &'a RolloutStatus, after: &'a RolloutStatus, reason: &str) -> Option<&'a RevisionStatus> {
    let canary = after.canary.as_ref();
    match reason {
        "Superseded" | "Reverted" => before.canary.as_ref(),
        "FirstDeployment" | "Promoted" => after.stable.as_ref(),
        // At rest no commit is at fault, nor waits.
        "Stalled" | "Recovered" | "Paused" => canary,
        _ => canary.or(after.stable.as_ref()),
    }
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MESSAGE_BYTES)).unwrap_or_default()
}
