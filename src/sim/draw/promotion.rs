//! Steps that wait for an approval, and what Git declares for people.

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Draw, Wildness, image};
use crate::sim::story::{At, Event};

/// Names of the approvals.
const NAMES: [&str; 2] = ["testers", "business-signoff"];

/// In one of eight wild stories, what people do about the approvals that are put among the steps, by a chance of its own.
pub(super) fn events((seed, wildness): (u64, Wildness), spec: &mut Value, last: u64) -> Vec<At> {
    let mut draw = Draw { chance: Rng::with_seed(seed.rotate_left(48) | 1), events: Vec::new() };
    if wildness == Wildness::Wild && seed % 8 == 7 {
        draw.promotion(spec, last);
    }
    draw.events
}

impl Draw {
    /// Puts approvals among the steps; and then Git approves, rejects, holds and asks again, and a person approves.
    fn promotion(&mut self, spec: &mut Value, last: u64) {
        let Some(steps) = spec.pointer_mut("/strategy/canary/steps").and_then(Value::as_array_mut) else { return };
        let count = self.chance.usize(1..=NAMES.len());
        for name in NAMES.into_iter().take(count) {
            let at = self.chance.usize(0..=steps.len());
            steps.insert(at, json!({"approval": {"name": name}}));
        }
        let mut retry = 0;
        for _ in 0..self.chance.usize(1..=6) {
            retry += i64::from(self.is_so(0.3));
            let approvals: Vec<Value> = (0..self.chance.usize(0..=4)).map(|_| self.approval()).collect();
            // The first revision has nothing to go back to.
            let rejected = self.is_so(0.2).then(|| json!([{"for": {"image": image(self.chance.u8(2..=4))}}]));
            let promotion =
                json!({"approvals": approvals, "reject": rejected, "hold": self.is_so(0.15), "retry": retry});
            let at = self.chance.u64(0..=last);
            self.event(at, Event::Commit(json!({"promotion": promotion})));
        }
        for _ in 0..self.chance.usize(0..=3) {
            let (at, step) = (self.chance.u64(0..=last), self.chance.usize(0..8));
            self.event(at, Event::Act(format!("approve@{step}")));
        }
    }

    fn approval(&mut self) -> Value {
        json!({"step": self.one_of(&NAMES), "for": {"image": image(self.chance.u8(1..=4))}})
    }
}
