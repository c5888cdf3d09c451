//! What goes wrong between the controller and the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serin::api::watched::Rollout;
use serin::controller;
use serin::controller::lease::Leadership;
use serin::embedded::Fault;
use tokio::time::sleep;

use crate::shell::{Met, client_with, cluster, run_with, start, virtual_clock};

/// Conflicts, refusals by load, server errors, lost answers, hanging writes: they change nothing but the delay.
#[tokio::test(start_paused = true)]
async fn faults_change_nothing_but_the_delay() {
    let faults = [
        Fault::Refuse(409, "Conflict"),
        Fault::Refuse(422, "Invalid"),
        Fault::Refuse(429, "TooManyRequests"),
        Fault::Refuse(500, "InternalError"),
        Fault::LoseAnswer,
        Fault::Hang,
    ];
    for fault in faults {
        for every in [2, 3, 5] {
            let clock = virtual_clock();
            let cluster = cluster(&clock);
            let running = start(&cluster, &clock, Leadership::alone(), 1.0);
            running.given("checkout", "checkout:1");
            running.healthy("checkout", "checkout:1").await;
            cluster.set_faults(Some(Arc::new(move |number| (number % every == 0).then_some(fault))));
            running.given("checkout", "checkout:2");
            let rollout = running.healthy("checkout", "checkout:2").await;
            let outcomes: Vec<String> =
                rollout.status.history.iter().map(|outcome| outcome.outcome.to_string()).collect();
            assert_eq!(outcomes, ["Promoted", "Promoted"], "{fault:?} every {every}");
            cluster.set_faults(None);
            running.end().await;
        }
    }
}

/// While an analysis cannot be recorded nothing is asked for it: it would begin anew after each answer, and ask again.
#[tokio::test(start_paused = true)]
async fn an_analysis_that_cannot_be_recorded_asks_nothing() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let is_refused = Arc::new(AtomicBool::new(false));
    let refused = is_refused.clone();
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = tries.clone();
    let meets = move |method: &str, path: &str| {
        let is_status = method != "GET" && path.ends_with("/rollouts/checkout/status");
        (is_status && refused.load(Ordering::Relaxed)).then(|| {
            tried.fetch_add(1, Ordering::Relaxed);
            Met::Refusal(500)
        })
    };
    let client = (client_with(&cluster, meets), None);
    let running = run_with(&cluster, &clock, client, (Leadership::alone(), controller::readiness()), 1.0);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    // The weight is on record, and the proxies do not have it yet.
    let is_led = |rollout: &Rollout| {
        rollout.status.route.as_ref().is_some_and(|route| route.since.is_some() && route.observed.contains("=80/20"))
    };
    running.wait("checkout", "at 20%", is_led).await;
    assert_eq!((running.rollout("checkout").status.analysis.len(), running.asked.load(Ordering::Relaxed)), (0, 0));
    is_refused.store(true, Ordering::Relaxed);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(running.asked.load(Ordering::Relaxed), 0);
    let tries = tries.load(Ordering::Relaxed);
    assert!((5..30).contains(&tries), "it waits longer after each refusal: {tries} tries in two minutes");
    is_refused.store(false, Ordering::Relaxed);
    running.healthy("checkout", "checkout:2").await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn dropped_watches_are_taken_up_again() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    for _ in 0..20 {
        cluster.drop_watches();
        sleep(Duration::from_millis(700)).await;
    }
    running.healthy("checkout", "checkout:2").await;
    running.end().await;
}

/// The watch of the Rollouts lags far behind the controller's own writes: it goes by the answers to those.
#[tokio::test(start_paused = true)]
async fn a_lagging_watch_costs_no_conflict() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    cluster.set_lag("rollouts", Duration::from_millis(400));
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    running.healthy("checkout", "checkout:2").await;
    sleep(Duration::from_mins(1)).await;
    let requests = cluster.requests();
    let reads: Vec<&String> = requests.iter().filter(|request| request.starts_with("get")).collect();
    assert!(reads.is_empty(), "nothing is read again after a conflict: {requests:#?}");
    running.end().await;
}
