//! The events that a status remembers: numbered without a gap, none lost, none twice, whatever is planned how often.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;
use serin::api::json::Json;
use serin::api::status::RolloutStatus;
use serin::plan::events::{KEPT, record};
use serin::plan::narrate::{Note, REASONS};

use crate::support::world::{Answers, World, commit, owned, spec};

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

/// How often an event of this reason was told.
fn count(world: &World, reason: &str) -> usize {
    world.observed.rollout.status.events.iter().filter(|event| event.reason == reason).count()
}

/// A canary in an analysis that takes an hour.
fn measuring() -> World {
    let mut spec = spec("checkout:1", 4, &owned());
    let canary = &mut spec["strategy"]["canary"];
    canary["steps"] = json!([{"setWeight": 50}, {"analysis": {"templates": [{"templateName": "success-rate"}]}}]);
    canary["analysis"] = json!(null);
    let mut world = World::new(&spec);
    let metric = json!({
        "name": "success-rate", "interval": "5s", "count": 720, "successCondition": "result[0] >= 0.95",
        "prometheus": {"query": "rate"},
    });
    world.observed.templates[0].spec = Json::from(&json!({"metrics": [metric]}));
    world.settle();
    world.pass_time(20);
    commit(&mut world, "checkout:2");
    world.pass_time(60);
    world
}

#[test]
fn a_pause_that_comes_and_goes_is_told_once() {
    let mut world = measuring();
    assert_eq!((world.phase().as_str(), count(&world, "Paused")), ("Progressing", 0));
    for _ in 0..3 {
        world.answers = Answers::Empty;
        world.pass_time(60);
        assert_eq!(world.phase(), "Paused");
        world.answers = Answers::Good;
        world.pass_time(60);
    }
    assert_eq!(count(&world, "Paused"), 1);
    world.pass_time(11 * 60);
    world.answers = Answers::Empty;
    world.pass_time(60);
    assert_eq!(count(&world, "Paused"), 2, "it had ended");
}

#[test]
fn a_moment_without_data_is_not_told() {
    let mut world = measuring();
    for _ in 0..3 {
        world.answers = Answers::Empty;
        world.pass_time(25);
        assert_eq!((world.phase().as_str(), count(&world, "Paused")), ("Paused", 0));
        world.answers = Answers::Good;
        world.pass_time(60);
    }
}

#[test]
fn a_pause_of_a_person_is_told_each_time() {
    let mut world = measuring();
    for times in 1..4 {
        world.act("pause");
        world.pass_time(10);
        assert_eq!((world.phase().as_str(), count(&world, "Paused")), ("Paused", times));
        world.act("resume");
        world.pass_time(10);
    }
}

#[test]
fn what_is_mended_at_rest_is_told() {
    let mut world = measuring();
    world.act("promoteFull");
    world.pass_time(60);
    assert_eq!(world.phase(), "Healthy");
    for times in 1..3 {
        world.edit(|spec| spec["strategy"]["canary"]["steps"] = json!([{"setWeight": 120}]));
        world.settle();
        assert_eq!((count(&world, "Stalled"), count(&world, "Recovered")), (times, times - 1));
        world.edit(|spec| spec["strategy"]["canary"]["steps"] = json!([{"setWeight": 50}]));
        world.settle();
        assert_eq!((world.phase().as_str(), count(&world, "Recovered")), ("Healthy", times));
    }
    let told = world.observed.rollout.status.events.last().unwrap();
    assert_eq!((told.reason.as_str(), told.revision.as_str()), ("Recovered", ""), "no commit is blamed, nor praised");
    assert!(told.message.ends_with("serves"), "{}", told.message);
}

#[test]
fn an_abort_and_a_deletion_are_no_recovery() {
    let mut world = measuring();
    world.act("abort");
    world.pass_time(30);
    commit(&mut world, "checkout:3");
    world.pass_time(30);
    assert_eq!((world.phase().as_str(), count(&world, "Recovered")), ("Progressing", 0));
    world.edit(|spec| spec["strategy"]["canary"]["steps"] = json!([{"setWeight": 120}]));
    world.settle();
    assert_eq!(count(&world, "Stalled"), 1);
    world.observed.rollout.metadata.deletion_timestamp = Some(Time(world.now));
    world.step();
    assert_eq!(count(&world, "Recovered"), 0);
}
