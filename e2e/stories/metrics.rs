//! Prometheus that does not answer as it should: no verdict, a name for the wait, and no other rollout is held up.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use serin::api::status::{MetricStatus, Phase};
use serin::api::watched::Rollout;

use crate::support::world::is_healthy;
use crate::support::{Environment, Given, World};

/// What the false Prometheus does now.
#[derive(Clone, Copy)]
enum Mood {
    Down,
    Garbage,
    NaN,
    Empty,
    Slow,
    Several,
    Good,
}

async fn answer(mood: Mood) -> axum::response::Response {
    let vector =
        |series: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#);
    match mood {
        Mood::Down => (StatusCode::SERVICE_UNAVAILABLE, "down").into_response(),
        Mood::Garbage => "<html>404</html>".into_response(),
        Mood::NaN => vector(r#"{"metric":{},"value":[1,"NaN"]}"#).into_response(),
        Mood::Empty => vector("").into_response(),
        Mood::Several => {
            vector(r#"{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"1"]}"#).into_response()
        }
        Mood::Good => vector(r#"{"metric":{},"value":[1,"1"]}"#).into_response(),
        Mood::Slow => std::future::pending().await,
    }
}

/// Down, garbage, NaN, empty, several series, slow: each waits, says so, and passes when the answer is good again.
pub async fn prometheus_misbehaves(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let mood = Arc::new(Mutex::new(Mood::Down));
    let served = mood.clone();
    let app = Router::new().route(
        "/api/v1/query",
        get(move || {
            let mood = *served.lock().unwrap();
            answer(mood)
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let provider = world.namespace.clone();
    world
        .apply(&json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "MetricProvider", "metadata": {"name": provider},
            "spec": {"prometheus": {"address": address}, "timeoutSeconds": 1},
        }))
        .await;
    world
        .success_rate(json!({"consecutiveErrorLimit": 1, "interval": "200ms", "count": 2, "prometheus": {"provider": provider, "query": "up"}}))
        .await;
    let mut given =
        Given { replicas: 1, steps: json!([{"setWeight": 50}, {"analysis": World::analysis()}]), ..Given::default() };
    world.healthy(&given).await;
    let cases: [(Mood, &str, &str, &'static str); 6] = [
        (Mood::Down, "ProviderDown", "503", "checkout:2"),
        (Mood::Garbage, "ProviderDown", "not Prometheus'", "checkout:3"),
        (Mood::NaN, "NoData", "no data", "checkout:4"),
        (Mood::Empty, "NoData", "no data", "checkout:5"),
        (Mood::Several, "ProviderDown", "2 series", "checkout:6"),
        (Mood::Slow, "ProviderDown", "no answer within 1 s", "checkout:7"),
    ];
    for (bad, reason, told, image) in cases {
        *mood.lock().unwrap() = bad;
        given = given.image(image);
        world.given(&given).await;
        let rollout = world
            .wait(&format!("{reason} {told}"), 20, |rollout| {
                rollout.status.phase == Some(Phase::Paused)
                    && rollout.status.blocked_by.iter().any(|wait| wait.reason == reason && wait.message.contains(told))
            })
            .await;
        world.assert(rollout.status.aborted.is_none(), "no answer is no verdict");
        *mood.lock().unwrap() = Mood::Good;
        world.wait("promoted once it answers", 30, |rollout| is_healthy(rollout, &given.hash())).await;
    }
    server.abort();
    world.end().await;
}

/// A metric that fails as often as its limit allows, and recovers: the canary is promoted.
pub async fn recovers_within_limits(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    world.success_rate(json!({"interval": "500ms", "count": 20, "failureLimit": 12})).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"analysis": World::analysis()}]), ..Given::default() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    let counted = |rollout: &Rollout, of: fn(&MetricStatus) -> i32| {
        rollout.status.analysis.iter().flat_map(|analysis| &analysis.metrics).map(of).sum::<i32>()
    };
    world.errors(&second.hash(), 0.5);
    world.given(&second).await;
    world.wait("some measurements fail", 30, |rollout| counted(rollout, |metric| metric.failures) >= 2).await;
    world.errors(&second.hash(), 0.0);
    let rollout = world.wait("promoted", 60, |rollout| is_healthy(rollout, &second.hash())).await;
    world.assert(rollout.status.aborted.is_none(), "never aborted");
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 40, 0], &format!("weights were {weights:?}"));
    world.end().await;
}
