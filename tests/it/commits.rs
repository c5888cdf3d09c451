//! The commit of a revision, as the tool that applied it has it on record, where that record cannot be read at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use serin::controller;
use serin::controller::lease::Leadership;
use serin::embedded::Cluster;
use tokio::time::sleep;

use crate::shell::{self, Met, Running, client_with};

const FIRST: &str = "4f2a91c05bd1f7a0c3fdb6b7c2d61f2f3c9a7b10";
const SECOND: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";
const THIRD: &str = "7d5f3a1907e1c3b5a79f81d2c4b6e8fa0c1e3d5b";

/// Flux's Kustomization, about to apply a commit.
fn kustomization(cluster: &Cluster, commit: &str) {
    let object = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "apps", "namespace": "flux-system"},
        "spec": {"sourceRef": {"kind": "GitRepository", "name": "shop"}},
    });
    let mut object = (*cluster.apply("kustomizations", &object).unwrap()).clone();
    object["status"] = json!({"lastAttemptedRevision": format!("main@sha1:{commit}")});
    cluster.write_status("kustomizations", object).unwrap();
}

/// A Rollout that Flux has applied.
fn given(cluster: &Cluster, image: &str, replicas: i32) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"selector": {"app": "checkout"}}});
    cluster.apply("services", &service).unwrap();
    let mut rollout: Value = shell::rollout("checkout", image);
    rollout["spec"]["replicas"] = json!(replicas);
    rollout["metadata"]["labels"] =
        json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    cluster.apply("rollouts", &rollout).unwrap();
}

/// A controller that cannot read the record for so many times; how often it has asked.
async fn unread(failures: usize) -> (Running, Arc<AtomicUsize>) {
    let clock = shell::virtual_clock();
    let cluster = shell::cluster(&clock);
    kustomization(&cluster, FIRST);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let meets = move |method: &str, path: &str| {
        let is_record = method == "GET" && path.ends_with("/kustomizations/apps");
        (is_record && counted.fetch_add(1, Ordering::Relaxed) < failures).then_some(Met::Refusal(500))
    };
    let client = (client_with(&cluster, meets), None);
    let running = shell::run_with(&cluster, &clock, client, (Leadership::alone(), controller::readiness()), 1.0);
    given(&running.cluster, "checkout:1", 3);
    running.healthy("checkout", "checkout:1").await;
    (running, asked)
}

fn commit(running: &Running) -> Option<String> {
    running.rollout("checkout").status.stable.unwrap().commit
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_asked_for_again() {
    let (running, asked) = unread(3).await;
    sleep(Duration::from_mins(2)).await;
    assert_eq!(commit(&running).as_deref(), Some(FIRST));
    let status = running.rollout("checkout").status;
    assert_eq!((status.commit.as_deref(), status.stable.unwrap().unread_generation), (Some(FIRST), None));
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    kustomization(&running.cluster, SECOND);
    given(&running.cluster, "checkout:2", 3);
    running.healthy("checkout", "checkout:2").await;
    sleep(Duration::from_mins(2)).await;
    assert_eq!(commit(&running).as_deref(), Some(SECOND));
    assert_eq!(asked.load(Ordering::Relaxed), 5, "once for each generation");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_stays_unreadable_is_left_alone() {
    let (running, asked) = unread(usize::MAX).await;
    sleep(Duration::from_mins(5)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 6, "for a minute");
    let status = running.rollout("checkout").status;
    assert_eq!((status.commit, status.stable.unwrap().unread_generation), (None, None));
    let before = running.cluster.requests().len();
    sleep(Duration::from_mins(20)).await;
    assert_eq!(running.cluster.requests()[before..], [] as [String; 0], "nothing at rest");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_generation_lends_no_commit_to_an_earlier_revision() {
    let (running, _) = unread(2).await;
    assert_eq!(commit(&running), None, "the test is too slow: it was read already");
    given(&running.cluster, "checkout:1", 4);
    sleep(Duration::from_mins(2)).await;
    let status = running.rollout("checkout").status;
    assert_eq!(status.commit.as_deref(), Some(FIRST));
    assert_eq!(status.stable.unwrap().commit, None, "that commit has not brought it, for all that is known");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_comes_in_the_middle_of_a_pass_is_not_taken_for_the_one_before() {
    let clock = shell::virtual_clock();
    let cluster = shell::cluster(&clock);
    kustomization(&cluster, FIRST);
    let (repository, created) = (cluster.clone(), AtomicUsize::new(0));
    // The third commit comes while the ReplicaSet of the second one is created.
    let meets = move |method: &str, path: &str| {
        let is_second =
            method == "POST" && path.ends_with("/replicasets") && created.fetch_add(1, Ordering::Relaxed) == 1;
        is_second.then(|| {
            kustomization(&repository, THIRD);
            given(&repository, "checkout:3", 3);
            Met::Delay(Duration::from_millis(50))
        })
    };
    let client = (client_with(&cluster, meets), None);
    let running = shell::run_with(&cluster, &clock, client, (Leadership::alone(), controller::readiness()), 1.0);
    given(&running.cluster, "checkout:1", 3);
    running.healthy("checkout", "checkout:1").await;
    kustomization(&running.cluster, SECOND);
    given(&running.cluster, "checkout:2", 3);
    running.healthy("checkout", "checkout:3").await;
    let history = running.rollout("checkout").status.history;
    let commits: Vec<Option<&str>> = history.iter().map(|outcome| outcome.commit.as_deref()).collect();
    assert_eq!(commits, [Some(FIRST), Some(SECOND), Some(THIRD)]);
    running.end().await;
}
