//! What people asked by actions, and whether it was refused.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Model, STALE};
use crate::embedded::store::key_of;
use crate::sim::prometheus::Answered;

/// Something that a person asked.
pub(super) struct Act {
    pub(super) at: Instant,
    name: String,
    action: String,
    step: Option<usize>,
    is_refused: bool,
}

impl Model {
    /// A person acted: the name of the object, what is asked, and of which step.
    pub fn acted(&mut self, name: &str, action: &str, step: Option<usize>) {
        let (name, action) = (name.to_owned(), action.to_owned());
        self.acts.push(Act { at: Instant::now(), name, action, step, is_refused: false });
    }

    /// Takes the answer to an action in.
    pub(super) fn see_answer(&mut self, object: &Value) {
        let name = key_of(object).1;
        if object["status"]["accepted"] == false {
            self.acts.iter_mut().filter(|act| act.name == name).for_each(|act| act.is_refused = true);
        }
    }

    fn valid(&self, since: Instant) -> impl DoubleEndedIterator<Item = &Act> {
        self.acts.iter().filter(move |act| act.at >= since && !act.is_refused)
    }

    /// Whether one of these was asked since then, and not refused.
    pub(super) fn has_acted(&self, actions: &[&str], since: Instant) -> bool {
        self.valid(since).any(|act| actions.contains(&act.action.as_str()))
    }

    /// Whether a person passed or approved this step since then.
    pub(super) fn has_passed(&self, step: usize, since: Instant) -> bool {
        self.valid(since).any(|act| ["approve", "promote"].contains(&act.action.as_str()) && act.step == Some(step))
    }

    /// When a revision was last asked to be tried again.
    pub(super) fn retried_at(&self) -> Option<Instant> {
        let by_act = self.valid(self.began).rev().find(|act| act.action == "retry").map(|act| act.at);
        by_act.max(self.asked_again_at())
    }

    /// Whether a person has held the attempt that began then, for as long as a controller may not know.
    pub(super) fn is_held(&self, began: Instant) -> bool {
        let last = self.valid(began).rfind(|act| !["restart", "abort", "approve"].contains(&act.action.as_str()));
        self.is_held_by_git() || last.is_some_and(|act| act.action == "pause" && act.at.elapsed() > STALE)
    }

    /// S5: no step is passed while a person holds the rollout, or while the background analysis says nothing.
    pub(super) fn check_pass(&mut self, next: i64, answered: &[Answered]) {
        let (revision, step) = (self.attempt.0.0.clone(), self.attempt.1);
        let Some(began) = self.began_at(&revision, Duration::ZERO) else { return };
        if self.is_held(began) {
            self.breaks("S5", format!("step {step} is passed while a person holds the rollout"));
        }
        let is_promoted = self.has_acted(&["promote", "promoteFull"], began);
        if !is_promoted {
            self.check_led_by_passed(&revision, step..next);
        }
        if !is_promoted && self.jumped_at.is_none() && self.is_silent(&revision, began, answered) {
            self.breaks("S5", format!("step {step} is passed while the background analysis has no answers"));
        }
    }
}
