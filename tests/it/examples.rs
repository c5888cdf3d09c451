//! Every example is executed: applied, and rolled to `checkout:2` by the real controller on virtual time.

use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};
use serin::api::status::{OutcomeKind, Phase};
use serin::controller::lease::Leadership;
use serin::embedded::kind::KINDS;
use serin::plan::strategy;
use serin::plan::template::{self, End};
use tokio::time::sleep;

use crate::shell::{Running, cluster, start, virtual_clock};

fn documents(dir: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(format!("{dir}/rollout.yaml")).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap()).collect()
}

fn plural(object: &Value) -> &'static str {
    KINDS.iter().find(|kind| object["kind"] == kind.kind).unwrap().plural
}

/// Passes pause steps without an end as a person does, and collects the weights until the rollout has ended.
async fn told(running: &Running) -> String {
    let mut weights: Vec<i32> = Vec::new();
    for _ in 0..200_000 {
        let rollout = running.rollout("checkout");
        let status = &rollout.status;
        let weight = status.canary.as_ref().map_or(0, |canary| canary.observed_weight);
        if weights.last() != Some(&weight) && !(weights.is_empty() && weight == 0) {
            weights.push(weight);
        }
        let words =
            |end: &str| weights.iter().map(ToString::to_string).chain([end.to_owned()]).collect::<Vec<_>>().join(" ");
        if status.aborted.is_some() && weight == 0 {
            return words("aborted");
        }
        let outcomes = status.history.iter().map(|outcome| outcome.outcome).collect::<Vec<_>>();
        if outcomes == [OutcomeKind::Promoted, OutcomeKind::Promoted] {
            weights.retain(|weight| *weight > 0);
            return weights
                .iter()
                .map(ToString::to_string)
                .chain(["promoted".to_owned()])
                .collect::<Vec<_>>()
                .join(" ");
        }
        let waits = status.blocked_by.iter().any(|wait| wait.reason == "PausedByStep" && wait.until.is_none());
        if status.blocked_by.iter().any(|wait| wait.reason == "AwaitingApproval") {
            approve(running).await;
        } else if waits && status.phase == Some(Phase::Paused) {
            promote(running, status.canary.as_ref().map_or("", |canary| &canary.hash)).await;
        }
        sleep(Duration::from_millis(25)).await;
    }
    panic!("no end: {}", running.rollout("checkout").status.message);
}

/// Commits the example's `approval.yaml`.
async fn approve(running: &Running) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/16-approved-in-git/approval.yaml");
    let approval: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut rollout = Value::clone(&running.cluster.get("rollouts", "shop", "checkout").unwrap());
    json_patch::merge(&mut rollout["spec"], &approval["spec"]);
    running.cluster.replace("rollouts", rollout).unwrap();
    sleep(Duration::from_millis(25)).await;
}

/// Does with the example's `promote.yaml` what its README says.
async fn promote(running: &Running, hash: &str) {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/02-pause-and-promote/promote.yaml"))
            .unwrap();
    let mut action: Value = serde_yaml::from_str(&text.replace("CANARY_HASH", hash)).unwrap();
    action["metadata"] = json!({"name": "promote-1", "namespace": "shop"});
    running.cluster.apply("rolloutactions", &action).unwrap();
    sleep(Duration::from_millis(25)).await;
}

#[tokio::test(start_paused = true)]
async fn every_example_runs() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut names: Vec<String> =
        std::fs::read_dir(root).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.chars().next().is_some_and(|first| first.is_ascii_digit()));
    names.sort();
    assert!(names.len() >= 5);
    for name in names {
        let dir = format!("{root}/{name}");
        let expected = std::fs::read_to_string(format!("{dir}/expected.txt")).unwrap();
        let clock = virtual_clock();
        let cluster = cluster(&clock);
        let success_rate = if expected.contains("aborted") { 0.5 } else { 1.0 };
        let running = start(&cluster, &clock, Leadership::alone(), success_rate);
        if let Ok(text) = std::fs::read_to_string(format!("{dir}/provider.yaml")) {
            for one in serde_yaml::Deserializer::from_str(&text) {
                cluster.apply("metricproviders", &Value::deserialize(one).unwrap()).unwrap();
            }
        }
        for mut object in documents(&dir) {
            object["metadata"]["namespace"] = json!("shop");
            if object["kind"] == "Rollout" {
                assert_eq!(strategy::parse("shop", &object["spec"]).faults, [], "{name}");
            }
            if object["kind"] == "AnalysisTemplate" {
                let reads = |end| template::parse_template(&object["spec"], end).is_ok();
                assert!([End::Never, End::Count, End::Evidence].into_iter().any(reads), "{name}");
            }
            cluster.apply(plural(&object), &object).unwrap();
        }
        running.wait("checkout", "Healthy", |rollout| rollout.status.phase == Some(Phase::Healthy)).await;
        let of_kind = |kind: &str| documents(&dir).into_iter().find(|one| one["kind"] == kind);
        let mut next = of_kind("Deployment").or_else(|| of_kind("Rollout")).unwrap();
        next["metadata"]["namespace"] = json!("shop");
        next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example/checkout:2");
        cluster.apply(plural(&next), &next).unwrap();
        assert_eq!(told(&running).await, expected.trim(), "{name}");
        for deployment in cluster.list("deployments") {
            assert_eq!(deployment["spec"]["replicas"], 0, "{name}");
        }
        running.end().await;
    }
}

/// Those with GitOps engines are told by `e2e/run gitops`: each has a story, a page and a line in the list.
#[test]
fn every_gitops_example_has_a_story() {
    let root = env!("CARGO_MANIFEST_DIR");
    let stories = std::fs::read_to_string(format!("{root}/e2e/stories.rs")).unwrap();
    let list = std::fs::read_to_string(format!("{root}/examples/README.md")).unwrap();
    let folders = std::fs::read_dir(format!("{root}/examples/gitops")).unwrap();
    let names: Vec<String> = folders.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 4);
    for name in names {
        assert!(stories.contains(&format!("\"gitops-example-{name}\" => example::")), "{name} is not told");
        assert!(list.contains(&format!("(gitops/{name}/)")), "{name} is not in the list");
        let page = std::fs::read_to_string(format!("{root}/examples/gitops/{name}/README.md")).unwrap();
        assert!(page.contains("\n```console\n$ "), "{name} shows no commands");
        let base =
            ["deploy", "deploy/base"].map(|folder| format!("{root}/examples/gitops/{name}/{folder}/rollout.yaml"));
        let text = base.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap();
        let rollout: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(strategy::parse("shop", &rollout["spec"]).faults, [], "{name}");
    }
}
