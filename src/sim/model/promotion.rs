//! What Git declares for people: approvals, holds, rejections and retries.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use serde_json::Value;
use tokio::time::Instant;

use super::{Model, STALE, Spec};

fn retry(spec: &Spec) -> i64 {
    spec.value["promotion"]["retry"].as_i64().unwrap_or(0)
}

fn image(spec: &Spec) -> &Value {
    &spec.value["template"]["spec"]["containers"][0]["image"]
}

/// Whether Git rejects its own revision.
pub(super) fn is_rejected(spec: &Spec) -> bool {
    let rejections = spec.value["promotion"]["reject"].as_array().into_iter().flatten();
    rejections.into_iter().any(|rejection| rejection["for"]["image"] == *image(spec))
}

/// Whether Git holds the rollout.
pub(super) fn is_held(spec: &Spec) -> bool {
    spec.value["promotion"]["hold"] == true
}

impl Model {
    /// Since when all that Git has asked for is so, where it is so now.
    fn so_since(&self, is_so: impl Fn(&Spec) -> bool) -> Option<Instant> {
        self.specs.iter().rev().take_while(|spec| is_so(spec)).last().map(|spec| spec.at)
    }

    /// Whether Git has held the rollout for as long as a controller may not know.
    pub(super) fn is_held_by_git(&self) -> bool {
        self.so_since(is_held).is_some_and(|since| since.elapsed() > STALE)
    }

    /// Whether Git has rejected a revision for as long as a controller may not know.
    pub(super) fn is_rejected(&self, revision: &str) -> bool {
        self.so_since(|spec| spec.hash == revision && is_rejected(spec)).is_some_and(|since| since.elapsed() > STALE)
    }

    /// Whether Git ever rejected a revision.
    pub fn was_rejected(&self, revision: &str) -> bool {
        self.specs.iter().any(|spec| spec.hash == revision && is_rejected(spec))
    }

    /// Whether Git approved a step for a revision, at any time since then.
    pub(super) fn is_approved(&self, revision: &str, step: &Value, since: Instant) -> bool {
        let until = self.specs.iter().skip(1).map(|next| next.at).chain([Instant::now()]);
        self.specs.iter().zip(until).any(|(spec, until)| {
            let approvals = spec.value["promotion"]["approvals"].as_array().into_iter().flatten();
            let mut own = approvals.filter(|approval| approval["step"] == *step);
            spec.hash == revision && until >= since && own.any(|approval| approval["for"]["image"] == *image(spec))
        })
    }

    /// When Git last asked for an aborted revision to be tried again: that counts if it is aborted, or is a moment later.
    pub(super) fn asked_again_at(&self) -> Option<Instant> {
        self.raised_at.filter(|_| self.raised_counts)
    }

    /// Takes a commit in that may ask for another try.
    pub(super) fn see_retry(&mut self) {
        let mut last = self.specs.iter().rev();
        if let (Some(after), Some(before)) = (last.next(), last.next())
            && retry(after) > retry(before)
        {
            let is_aborted = self.aborted.as_ref() == Some(&after.hash);
            if is_aborted && retry(after) <= self.retry_at_abort {
                return;
            }
            (self.raised_at, self.raised_counts) = (Some(after.at), is_aborted);
        }
    }

    /// Takes an abort in: what Git asked a moment ago was not known yet.
    pub(super) fn see_abort(&mut self) {
        if self.aborted.is_some() {
            self.raised_counts |= self.raised_at.is_some_and(|raised| raised.elapsed() < STALE);
            self.retry_at_abort = self.specs.last().map_or(0, retry);
        }
    }
}
