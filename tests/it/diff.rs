//! `kubectl serin diff`: what a commit does, by what there is.

use serde_json::{Value, json};
use serin::cli::cluster::Cluster;
use serin::cli::diff::{
    Before, Difference, Effect, Item, TemplateDifference, TemplateEffect, difference, from_cluster, template_difference,
};
use serin::controller::lease::Leadership;
use serin::plan::revision;
use serin::sim::input::{self, Input};

use crate::shell;
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
    difference(&mut input, 0, &before_of(before)).unwrap()
}

fn before_of(before: Option<&Value>) -> Before {
    Before::of(before.cloned().into_iter().collect(), Vec::new())
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
        let time = difference(&mut input, 0, &before_of(Some(&before))).unwrap().time.unwrap();
        (time.pods_before, time.pods_before_from, input.notes)
    };
    let (pods, from, notes) = time(scaler("checkout"));
    assert_eq!((pods, from.as_deref()), (4, Some("minReplicas of HorizontalPodAutoscaler checkout")));
    let told =
        "Rollout checkout has no spec.replicas: it starts from minReplicas of HorizontalPodAutoscaler checkout, 4";
    assert_eq!(notes.iter().filter(|note| *note == told).count(), 1, "{notes:?}");
    assert_eq!((time(scaler("orders")).0, time(scaler("orders")).1), (1, None), "another's");
}

fn thresholds(condition: &str, more: &Value) -> Value {
    let mut metric = json!({"name": "success-rate", "interval": "30s", "count": 5, "failureLimit": 1,
        "successCondition": condition, "prometheus": {"query": "rate"}});
    metric.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate",
        "metadata": {"name": "success-rate", "namespace": "shop"}, "spec": {"metrics": [metric]},
    })
}

/// A Rollout that measures in its second step, and whose canary is under way.
fn measured() -> Value {
    let canary = json!({"canary": {"hash": hash("checkout:2"), "revision": 2, "observedWeight": 20}});
    let mut rollout = running(&canary);
    rollout["spec"]["template"] = template("checkout:2");
    rollout["spec"]["strategy"]["canary"]["steps"][1] =
        json!({"analysis": {"templates": [{"templateName": "success-rate"}]}});
    rollout
}

fn of_template(before: Option<&Value>, after: Option<&Value>, rollouts: &[Value]) -> Option<TemplateDifference> {
    template_difference(before, after, rollouts, &[])
}

#[test]
fn thresholds_that_change_start_no_rollout_and_judge_the_canary_under_way() {
    let before = thresholds("result[0] >= 0.95", &json!({}));
    let after = thresholds("result[0] >= 0.99", &json!({"count": 10, "prometheus": {"query": "other"}}));
    let told = of_template(Some(&before), Some(&after), &[measured()]).unwrap();
    assert_eq!(
        (told.effect, told.analysis_template.as_str()),
        (TemplateEffect::Changed, "AnalysisTemplate shop/success-rate")
    );
    let summary = "no rollout starts by it; a canary under way is judged by it from its next measurement on";
    assert_eq!(told.summary, summary);
    let changes: Vec<(&str, &Value, &Value)> =
        told.metrics.iter().map(|one| (one.path.as_str(), &one.from, &one.to)).collect();
    assert_eq!(
        changes,
        [
            ("metrics[success-rate].count", &json!(5), &json!(10)),
            ("metrics[success-rate].prometheus.query", &json!("rate"), &json!("other")),
            ("metrics[success-rate].successCondition", &json!("result[0] >= 0.95"), &json!("result[0] >= 0.99")),
        ]
    );
    assert_eq!(told.used_by, ["shop/checkout (step 2)"]);
    assert!(told.canaries[0].starts_with("r2 of shop/checkout is under way: what was counted stays"));
    assert_eq!(of_template(Some(&before), Some(&before), &[measured()]), None, "nothing changes");
}

#[test]
fn templates_come_go_and_may_be_faulty() {
    let template = thresholds("result[0] >= 0.95", &json!({}));
    let gone = of_template(Some(&template), None, &[measured()]).unwrap();
    assert!(gone.effect == TemplateEffect::Removed && gone.summary.contains("TemplateMissing"), "{gone:?}");
    let new = of_template(None, Some(&template), &[]).unwrap();
    assert!(new.effect == TemplateEffect::New && new.canaries.is_empty() && new.summary.contains("nothing names it"));
    let faulty = thresholds("result[0] >=", &json!({}));
    let told = of_template(Some(&template), Some(&faulty), &[measured()]).unwrap();
    assert!(told.faults[0].starts_with("spec.metrics[0].successCondition"), "{:?}", told.faults);
    // A commit that brings another revision ends the canary under way.
    let mut input: Input = input::read(&[("git".to_owned(), rollout("checkout:3").to_string())], "shop").unwrap();
    let next = difference(&mut input, 0, &before_of(Some(&measured()))).unwrap();
    let told = template_difference(Some(&template), Some(&faulty), &[measured()], &[next]).unwrap();
    assert_eq!(told.canaries, Vec::<String>::new());
    assert_eq!(told.summary, "no rollout starts by it: what is measured is no part of a revision");
}

/// What `diff` says of a canary under way is what the controller does.
#[tokio::test(start_paused = true)]
async fn a_canary_under_way_is_judged_by_the_template_of_now() {
    let template =
        |condition: &str| thresholds(condition, &json!({"interval": "1s", "count": 1000, "failureLimit": 0}));
    let clock = shell::virtual_clock();
    let api = shell::cluster(&clock);
    api.apply("analysistemplates", &template("result[0] >= 0.95")).unwrap();
    let running = shell::start(&api, &clock, Leadership::alone(), 1.0);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    let counted = |rollout: &serin::api::watched::Rollout| {
        let metrics = rollout.status.analysis.iter().flat_map(|analysis| &analysis.metrics);
        metrics
            .filter(|metric| metric.name == "success-rate")
            .map(|metric| (metric.successes, metric.failures))
            .next_back()
    };
    running.wait("checkout", "measured", |rollout| counted(rollout).is_some_and(|(good, _)| good >= 3)).await;
    let cluster = Cluster { client: api.client("shop"), namespace: "shop".to_owned() };
    let stricter = template("result[0] >= 2");
    let told = |text: String| {
        let cluster = cluster.clone();
        async move { from_cluster(&cluster, &[("git".to_owned(), text)]).await }
    };
    let items = told(stricter.to_string()).await.unwrap();
    let [Item::Template(change)] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!(change.metrics.len(), 1, "{change:?}");
    assert!(change.canaries[0].starts_with("r2 of shop/checkout is under way: what was counted stays"), "{change:?}");
    assert_eq!(told(template("result[0] >= 0.95").to_string()).await.unwrap(), [], "it is as it was");
    let nothing = "{apiVersion: v1, kind: Service, metadata: {name: a}}".to_owned();
    assert!(told(nothing).await.unwrap_err().to_string().contains("no Rollout of serin.dev"));
    api.apply("analysistemplates", &stricter).unwrap();
    let ended = running.wait("checkout", "aborted", |rollout| rollout.status.aborted.is_some()).await;
    let (good, bad) = counted(&ended).unwrap();
    assert!(good >= 3 && bad == 1, "what was counted stays: {good} {bad}");
    running.end().await;
}
