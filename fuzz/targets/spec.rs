//! Specs that an API server without validation would have let through: of a Rollout, in the middle of a canary, and of an
//! analysis template. Whatever they say, a plan comes of them, the same each time, and it is safe.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serin::plan::strategy;
use serin::plan::template::{End, parse_template};

#[path = "../situation.rs"]
mod situation;

fuzz_target!(|text: &str| {
    let Some(mut spec) = situation::read(text) else { return };
    if let Some(inner) = spec.get_mut("spec").map(Value::take) {
        spec = inner;
    }
    let _ = parse_template(&spec, End::Count);
    let _ = strategy::parse("shop", &spec);
    let mut situation = situation::of(include_str!("../../tests/it/plan/canary-pod-died-mid-step.in.yaml"));
    situation.observed.rollout.spec = (&spec).into();
    situation.plan();
});
