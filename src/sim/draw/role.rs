//! What pods carry for their role, and changes of it.

use serde_json::{Value, json};

use super::Draw;
use crate::sim::story::Event;

impl Draw {
    /// Metadata for both roles, in some stories.
    pub(super) fn dress(&mut self, spec: &mut Value) {
        if !self.is_so(0.4) {
            return;
        }
        if let Some(canary) = spec.pointer_mut("/strategy/canary").and_then(Value::as_object_mut) {
            canary.insert("canaryMetadata".into(), self.metadata("canary"));
            canary.insert("stableMetadata".into(), self.metadata("stable"));
        }
    }

    fn metadata(&mut self, role: &str) -> Value {
        match self.chance.usize(..4) {
            0 => json!({"labels": {"role": role}}),
            1 => json!({"labels": {"role": role, "tier": self.one_of(&["a", "b"])}, "annotations": {"why": role}}),
            2 => json!({"annotations": {format!("of-{role}"): self.one_of(&["a", "b"])}}),
            _ => json!({}),
        }
    }

    /// Git brings other metadata, or none, now and then until that time; perhaps it goes back at once.
    pub(super) fn redress(&mut self, last: u64) {
        for _ in 0..self.chance.usize(..4) {
            let at = self.chance.u64(0..=last);
            let role = self.one_of(&["canary", "stable"]);
            let changed = if self.is_so(0.2) { Value::Null } else { self.metadata(role) };
            let commit =
                |metadata: Value| Event::Commit(json!({"strategy": {"canary": {format!("{role}Metadata"): metadata}}}));
            self.event(at, commit(Value::Null));
            let later = at + self.chance.u64(0..=5_000);
            self.event(later, commit(changed));
            if self.is_so(0.3) {
                let lag = self.seconds(0, 5);
                self.event(at, Event::Lag("pods".to_owned(), lag));
            }
        }
    }
}
