//! A snapshot of the golden plans, in which one object is replaced.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serin::plan::measurement::Measurement;
use serin::plan::observed::Observed;
use serin::plan::{Plan, checked};

#[derive(Deserialize)]
pub struct Situation {
    now: Timestamp,
    #[serde(default)]
    measured: Vec<Measurement>,
    pub observed: Observed,
}

impl Situation {
    /// The plan, which is safe and the same each time.
    pub fn plan(&self) -> Plan {
        let (plan, violations) = checked(&self.observed, &self.measured, self.now);
        assert_eq!(violations, [], "{:?}", plan.actions);
        let (again, _) = checked(&self.observed, &self.measured, self.now);
        assert_eq!((&plan.actions, &plan.status), (&again.actions, &again.status));
        plan
    }
}

pub fn of(text: &str) -> Situation {
    serde_yaml::from_str(text).unwrap()
}

/// A text as an API server has it: JSON, or the YAML that people write, whose aliases are not written out too often.
pub fn read(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok().or_else(|| {
        if text.contains('*') || text.contains('&') { None } else { serde_yaml::from_str(text).ok() }
    })?;
    value.is_object().then_some(value)
}
