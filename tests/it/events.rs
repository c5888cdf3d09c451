//! The events that a status remembers: numbered without a gap, none lost, none twice, whatever is planned how often.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use serin::api::status::RolloutStatus;
use serin::plan::events::{KEPT, record};
use serin::plan::narrate::{Note, REASONS};

fn notes() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(0..REASONS.len(), 0..4), 0..30)
}

proptest! {
    #[test]
    fn events_are_neither_lost_nor_doubled(passes in notes(), crashes in prop::collection::vec(any::<bool>(), 30)) {
        let mut stored = RolloutStatus::default();
        let mut told: Vec<String> = Vec::new();
        for (pass, is_lost) in passes.iter().zip(crashes) {
            let notes: Vec<Note> = pass
                .iter()
                .map(|reason| Note { reason: REASONS[*reason].0.into(), is_warning: false, message: told.len().to_string() })
                .collect();
            let now = Timestamp::from_second(1_000).unwrap();
            let events = record(&stored, &stored, &notes, now);
            prop_assert_eq!(&events, &record(&stored, &stored, &notes, now), "the same plan made twice");
            // A crash before the write loses the whole status: the next plan tells the same again.
            if is_lost {
                continue;
            }
            stored.events = events;
            told.extend(notes.iter().map(|note| note.reason.clone()));
            let kept: Vec<String> = stored.events.iter().map(|event| event.reason.clone()).collect();
            let wanted = &told[told.len().saturating_sub(KEPT)..];
            prop_assert_eq!(&kept[..], wanted);
            let first = stored.events.first().map_or(1, |event| event.sequence);
            let numbers: Vec<i64> = stored.events.iter().map(|event| event.sequence).collect();
            let contiguous: Vec<i64> = (first..).take(numbers.len()).collect();
            prop_assert_eq!(numbers, contiguous);
            prop_assert_eq!(stored.events.last().map_or(0, |event| event.sequence), i64::try_from(told.len()).unwrap());
        }
    }
}

#[test]
fn a_status_without_events_reads() {
    let status: RolloutStatus = serde_json::from_value(json!({"message": "from before", "replicas": 3})).unwrap();
    assert_eq!(status.events, []);
    assert!(serde_json::to_value(&status).unwrap().get("events").is_none());
}

#[test]
fn an_event_names_its_revision_and_what_served_before() {
    let side = |hash: &str, commit: &str| json!({"hash": hash, "commit": commit});
    let attempt = json!({"number": 2, "startedAt": "2026-01-01T00:00:00Z", "steps": 3, "passedSteps": "", "stepStartedAt": "2026-01-01T00:00:00Z"});
    let of = |status: &serde_json::Value| serde_json::from_value::<RolloutStatus>(status.clone()).unwrap();
    let canary = of(&json!({"stable": side("a", "c1"), "canary": side("b", "c2"), "attempt": attempt}));
    let promoted = of(&json!({"stable": side("b", "c2")}));
    let back = of(&json!({"stable": side("a", "c1")}));
    let check =
        |before: &RolloutStatus, after: &RolloutStatus, reason: &str, wanted: (&str, Option<&str>, Option<&str>)| {
            let note = Note { reason: reason.into(), is_warning: false, message: "é".repeat(600) };
            let event = record(before, after, &[note], Timestamp::UNIX_EPOCH).pop().unwrap();
            let told = (event.revision.as_str(), event.commit.as_deref(), event.previous_commit.as_deref());
            assert_eq!(told, wanted, "{reason}");
            assert_eq!(event.attempt, Some(2), "{reason}");
            assert_eq!(event.message.len(), 512, "{reason}");
        };
    check(&canary, &canary, "Aborted", ("b", Some("c2"), Some("c1")));
    check(&canary, &promoted, "Promoted", ("b", Some("c2"), Some("c1")));
    check(&canary, &back, "Reverted", ("b", Some("c2"), Some("c1")));
}
