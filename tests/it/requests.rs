//! What commands of the plugin ask of the API server: how often, and of what.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Client;
use serin::cli::cluster::Cluster;
use serin::cli::outcome::Outcome;
use serin::cli::{get, list, trace};
use serin::controller::lease::Leadership;

use crate::shell;
use crate::support::typed;

/// Fifty Rollouts at rest, and a client whose requests are recorded.
async fn fleet() -> (Cluster, Arc<Mutex<Vec<String>>>) {
    let clock = shell::virtual_clock();
    let api = shell::cluster(&clock);
    let running = shell::start(&api, &clock, Leadership::alone(), 1.0);
    let names: Vec<String> = (0..50).map(|number| format!("app-{number}")).collect();
    names.iter().for_each(|name| running.given(name, "checkout:1"));
    for name in &names {
        running.healthy(name, "checkout:1").await;
    }
    running.end().await;
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (inner, recorded) = (api.client("shop"), asked.clone());
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let line = format!("{} {}", request.method(), request.uri());
        recorded.lock().unwrap().push(line.replace("/?", "?").trim_end_matches(['?', '&']).to_owned());
        let inner = inner.clone();
        async move { inner.send(request).await }
    });
    (Cluster { client: Client::new(service, "shop"), namespace: "shop".to_owned() }, asked)
}

#[tokio::test(start_paused = true)]
async fn a_list_of_all_namespaces_is_one_request() {
    let (cluster, asked) = fleet().await;
    let words = typed::<list::Arguments>(&["-A", "-o", "name"]);
    assert_eq!(list::run(&cluster, &words.own, words.look.look()).await.unwrap(), Outcome::Reached);
    assert_eq!(*asked.lock().unwrap(), ["GET /apis/serin.dev/v1alpha1/rollouts"]);
}

#[tokio::test(start_paused = true)]
async fn one_rollout_is_three_requests_and_one_a_template() {
    let (cluster, asked) = fleet().await;
    let words = typed::<get::Arguments>(&["app-7"]);
    get::run(&cluster, &words.own, words.look.look()).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "GET /apis/serin.dev/v1alpha1/namespaces/shop/rollouts/app-7",
            "GET /apis/apps/v1/namespaces/shop/replicasets?&labelSelector=serin.dev%2Frollout%3Dapp-7",
            "GET /api/v1/namespaces/shop/pods?&labelSelector=serin.dev%2Frollout%3Dapp-7",
            "GET /apis/serin.dev/v1alpha1/namespaces/shop/analysistemplates/background",
            "GET /apis/serin.dev/v1alpha1/namespaces/shop/analysistemplates/success-rate",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_live_screen_watches_only_what_it_shows() {
    let (cluster, asked) = fleet().await;
    let words = typed::<get::Arguments>(&["app-7", "-w"]);
    let watched = tokio::time::timeout(Duration::from_secs(5), get::run(&cluster, &words.own, words.look.look())).await;
    assert!(watched.is_err(), "it goes on until somebody ends it");
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().filter(|line| line.contains("watch=true")).count() >= 3, "{asked:#?}");
    let is_own = |line: &&String| line.contains("app-7") || line.contains("/analysistemplates/");
    assert_eq!(asked.iter().filter(|line| !is_own(line)).count(), 0, "{asked:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_no_pod_runs_is_found_by_its_replica_set() {
    let clock = shell::virtual_clock();
    let api = shell::cluster(&clock);
    let running = shell::start(&api, &clock, Leadership::alone(), 1.0);
    for image in ["checkout:1", "checkout:2"] {
        running.given("checkout", image);
        running.healthy("checkout", image).await;
    }
    running.end().await;
    let cluster = Cluster { client: api.client("shop"), namespace: "shop".to_owned() };
    for (target, is_known) in [("image/checkout:2", true), ("image/checkout:1", true), ("image/checkout:3", false)] {
        let words = typed::<trace::Arguments>(&[target]);
        let outcome = trace::run(&cluster, &words.own, words.look.look()).await;
        assert_eq!(outcome.is_ok(), is_known, "{target}: {outcome:?}");
    }
}
