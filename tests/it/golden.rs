//! Golden plans: `plan/<situation>.in.yaml` is a snapshot with measurements, `plan/<situation>.out.yaml` what is planned of it.
//! `UPDATE_EXPECT=1 cargo test golden` rewrites them; commit a changed one only if you can say why it changed.

use expect_test::expect_file;
use jiff::Timestamp;
use serde::Deserialize;
use serin::plan::measurement::{Ask, Measurement};
use serin::plan::observed::Observed;
use serin::plan::{Plan, checked};

use crate::support::golden_inputs;

#[derive(Deserialize)]
struct Situation {
    now: Timestamp,
    #[serde(default)]
    measured: Vec<Measurement>,
    observed: Observed,
}

/// What people compare: actions in words, and the parts of the status that tell.
fn told(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("phase: {}", plan.phase()));
    line(format!("message: {}", plan.status.message));
    line(format!("statusFirst: {}", plan.is_status_first));
    line("actions:".into());
    plan.actions.iter().for_each(|action| line(format!("- {action}")));
    line("queries:".into());
    for query in &plan.queries {
        let asked = match &query.ask {
            Ask::Value(text) => text.clone(),
            Ask::Web(asked) => format!("{:?} {}", asked.method, asked.path),
            Ask::Counters(asked) => {
                format!("{} × {:#} from {}: {}", asked.steps, asked.step, asked.from, asked.texts.join("; "))
            }
        };
        line(format!("- {} asks {}: {asked}", query.id, query.provider));
    }
    line("notes:".into());
    plan.notes.iter().for_each(|note| line(format!("- {}: {}", note.reason, note.message)));
    line(format!(
        "wake: {}",
        plan.wake.as_ref().map_or_else(|| "-".into(), |wake| format!("{} ({})", wake.at, wake.reason))
    ));
    line(format!("step: {:?}", plan.status.current_step_index));
    line("status:".into());
    let status = serde_yaml::to_string(&plan.status).unwrap();
    status.lines().for_each(|inner| line(format!("  {inner}")));
    text
}

#[test]
fn golden_plans() {
    for (situation, expected) in golden_inputs::<Situation>("plan") {
        let (decided, violations) = checked(&situation.observed, &situation.measured, situation.now);
        assert_eq!(violations, [], "{expected}");
        expect_file![format!("{expected}.out.yaml")].assert_eq(&told(&decided));
    }
}
