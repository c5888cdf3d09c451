//! How `kubectl serin status --watch` ends where a release is aborted.

use serde_json::json;
use serin::api::watched::Rollout;
use serin::cli::cluster::Cluster;
use serin::cli::outcome::Outcome;
use serin::cli::status;
use serin::controller::lease::Leadership;
use tokio::time::Instant;

use crate::shell::{self, rollout, virtual_clock};
use crate::support::typed;

/// How a pipeline's command ends, and after how many seconds.
async fn watched(cluster: &Cluster, words: &[&str]) -> (Outcome, u64) {
    let began = Instant::now();
    let words = [&["checkout", "--watch"][..], words].concat();
    let outcome = status::run(cluster, &typed::<status::Arguments>(&words).own).await.unwrap();
    (outcome, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_told_once_no_request_reaches_the_canary() {
    let clock = virtual_clock();
    let api = shell::cluster(&clock);
    let running = shell::start(&api, &clock, Leadership::alone(), 0.5);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    let cluster = Cluster { client: api.client("shop"), namespace: "shop".to_owned() };
    running.given("checkout", "checkout:2");
    let is_decided = |rollout: &Rollout| rollout.status.aborted.is_some();
    let (told, decided) =
        tokio::join!(watched(&cluster, &["--timeout", "10m"]), running.wait("checkout", "aborted", is_decided));
    assert_eq!(told.0, Outcome::Aborted);
    let restored = |rollout: &Rollout| rollout.status.aborted.as_ref().and_then(|aborted| aborted.restored_at);
    assert!(restored(&decided).is_none(), "the decision is on record before the proxies have the route");
    assert!(restored(&running.rollout("checkout")).is_some(), "it ended when they had it");
    running.end().await;
}

/// No controller comes to put on record that the proxies have the route.
#[tokio::test(start_paused = true)]
async fn an_abort_is_told_without_it_too() {
    let clock = virtual_clock();
    let api = shell::cluster(&clock);
    let mut object = rollout("checkout", "checkout:2");
    api.apply("rollouts", &object).unwrap();
    let generation = api.get("rollouts", "shop", "checkout").unwrap()["metadata"]["generation"].clone();
    object["status"] = json!({
        "phase": "Degraded", "observedGeneration": generation,
        "aborted": {"hash": "h", "at": "2026-11-20T10:00:00Z", "reason": "AnalysisFailed", "message": ""},
    });
    api.write_status("rollouts", object).unwrap();
    let cluster = Cluster { client: api.client("shop"), namespace: "shop".to_owned() };
    assert_eq!(watched(&cluster, &[]).await, (Outcome::Aborted, 30));
    // A pipeline's own limit is kept, and what happened is told.
    assert_eq!(watched(&cluster, &["--timeout", "5s"]).await, (Outcome::Aborted, 5));
    assert_eq!(watched(&cluster, &["--for", "phase=Degraded"]).await, (Outcome::Reached, 0));
}
