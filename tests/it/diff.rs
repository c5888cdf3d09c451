//! `kubectl serin diff`: what a commit does, by what there is.

use serde_json::{Value, json};
use serin::cli::diff::{Difference, Effect, difference};
use serin::plan::revision;
use serin::sim::input::{self, Input};

use crate::support::world::{hash, owned, spec, template};

/// A Rollout without analysis, at an image.
fn rollout(image: &str) -> Value {
    let mut spec = spec(image, 5, &owned());
    let canary = spec["strategy"]["canary"].as_object_mut().unwrap();
    canary.remove("analysis");
    canary.insert("steps".to_owned(), json!([{"setWeight": 20}, {"pause": {"duration": "1m"}}, {"setWeight": 50}]));
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec,
    })
}

/// One that runs stable at `checkout:1`, and what its status says besides.
fn running(status: &Value) -> Value {
    let mut before = rollout("checkout:1");
    before["status"] = json!({"stable": {"hash": hash("checkout:1"), "revision": 1}});
    before["status"].as_object_mut().unwrap().extend(status.as_object().cloned().unwrap());
    before
}

fn told(after: &Value, before: Option<&Value>) -> Difference {
    let mut input: Input = input::read(&[("git".to_owned(), after.to_string())], "shop").unwrap();
    difference(&mut input, 0, before).unwrap()
}

fn check(after: &Value, before: Option<&Value>, effect: Effect, summary: &str) {
    let difference = told(after, before);
    assert_eq!((difference.effect, difference.summary.contains(summary)), (effect, true), "{}", difference.summary);
    assert_eq!(difference.time.is_some(), effect == Effect::Rollout);
}

#[test]
fn what_a_commit_does() {
    let second = rollout("checkout:2");
    check(&second, None, Effect::New, "without steps");
    check(&second, Some(&running(&json!({}))), Effect::Rollout, "a rollout starts");
    check(&rollout("checkout:1"), Some(&running(&json!({}))), Effect::Nothing, "nothing changes");
    let mut scaled = rollout("checkout:1");
    scaled["spec"]["replicas"] = json!(8);
    check(&scaled, Some(&running(&json!({}))), Effect::NoRollout, "no rollout starts");
    let mut faulty = second.clone();
    faulty["spec"]["strategy"]["canary"]["steps"] = json!([{"setWeight": 200}]);
    check(&faulty, Some(&running(&json!({}))), Effect::Invalid, "nothing begins");
}

#[test]
fn what_a_commit_does_in_the_middle_of_a_canary() {
    let canary = json!({"canary": {"hash": hash("checkout:2"), "revision": 2, "observedWeight": 20}});
    let mut before = running(&canary);
    before["spec"]["template"] = template("checkout:2");
    check(&rollout("checkout:1"), Some(&before), Effect::Revert, "at once");
    check(
        &rollout("checkout:3"),
        Some(&before),
        Effect::Rollout,
        "it supersedes r2, whose 20% of traffic goes to stable first",
    );
    let mut aborted = running(&canary);
    aborted["status"]["aborted"] =
        json!({"hash": hash("checkout:2"), "at": "2026-01-01T00:00:00Z", "reason": "AnalysisFailed", "message": ""});
    check(&rollout("checkout:2"), Some(&aborted), Effect::Aborted, "kubectl serin retry");
}

#[test]
fn an_earlier_revision_within_the_window() {
    let promoted = |image: &str, revision: i64| {
        let at = "2026-01-01T00:00:00Z";
        json!({"hash": hash(image), "revision": revision, "outcome": "Promoted", "startedAt": at, "endedAt": at, "reason": ""})
    };
    let mut before =
        running(&json!({"history": [promoted("checkout:8", 1), promoted("checkout:9", 2), promoted("checkout:1", 3)]}));
    before["spec"]["rollbackWindow"] = json!({"revisions": 1});
    let with_window = |image: &str| {
        let mut after = rollout(image);
        after["spec"]["rollbackWindow"] = json!({"revisions": 1});
        after
    };
    check(&with_window("checkout:9"), Some(&before), Effect::Rollback, "its steps are skipped");
    check(&with_window("checkout:8"), Some(&before), Effect::Rollout, "a rollout starts");
    check(&rollout("checkout:9"), Some(&before), Effect::Rollout, "a rollout starts");
}

#[test]
fn time_steps_and_changes() {
    let difference = told(&rollout("checkout:2"), Some(&running(&json!({}))));
    assert_eq!(difference.to_revision, revision::hash(&template("checkout:2")));
    assert_eq!(difference.steps, ["setWeight 20%", "pause 1m", "setWeight 50%"]);
    let paths: Vec<&str> = difference.template.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["spec.template.spec.containers[0].image"]);
    let time = difference.time.unwrap();
    assert!((60_000..120_000).contains(&time.least) && time.most > time.least, "{time:?}");
    assert_eq!((time.pods_before, time.pods_most), (5, 10));
    let mut paused = rollout("checkout:2");
    paused["spec"]["strategy"]["canary"]["steps"][1] = json!({"pause": {}});
    let waits = told(&paused, Some(&running(&json!({}))));
    assert_eq!(waits.people, 1);
    assert!(waits.time.is_some_and(|time| time.least < 60_000), "a person is not counted");
}

#[test]
fn what_would_not_be_promoted_is_told() {
    let mut held = rollout("checkout:2");
    held["spec"]["paused"] = json!(true);
    let difference = told(&held, Some(&running(&json!({}))));
    assert!(difference.summary.contains("even when all is good it would not be promoted"), "{}", difference.summary);
}

#[test]
fn pods_must_be_available_before_their_deadline() {
    let mut after = rollout("checkout:2");
    after["spec"]["minReadySeconds"] = json!(30);
    let difference = told(&after, Some(&running(&json!({}))));
    assert!(difference.time.is_some(), "{}", difference.summary);
}

#[test]
fn an_autoscaler_says_how_many_pods_there_are_before() {
    let mut after = rollout("checkout:2");
    after["spec"].as_object_mut().unwrap().remove("replicas");
    let mut before = running(&json!({}));
    before["spec"].as_object_mut().unwrap().remove("replicas");
    let scaler = |name: &str| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {"minReplicas": 4, "maxReplicas": 9, "scaleTargetRef": {"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": name}},
        })
    };
    let time = |scaler: Value| {
        let texts = [("git".to_owned(), format!("{after}\n---\n{scaler}"))];
        let mut input: Input = input::read(&texts, "shop").unwrap();
        let time = difference(&mut input, 0, Some(&before)).unwrap().time.unwrap();
        (time.pods_before, time.pods_before_from, input.notes)
    };
    let (pods, from, notes) = time(scaler("checkout"));
    assert_eq!((pods, from.as_deref()), (4, Some("minReplicas of HorizontalPodAutoscaler checkout")));
    let told =
        "Rollout checkout has no spec.replicas: it starts from minReplicas of HorizontalPodAutoscaler checkout, 4";
    assert_eq!(notes.iter().filter(|note| *note == told).count(), 1, "{notes:?}");
    assert_eq!((time(scaler("orders")).0, time(scaler("orders")).1), (1, None), "another's");
}
