//! `/healthz`, `/readyz` and `/metrics`. Readiness names what is missing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use super::telemetry::Metrics;

/// What must be there before the process is ready: caches by kind, each with what is missing or nothing.
#[derive(Clone)]
pub struct Readiness {
    missing: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    listed: Arc<watch::Sender<bool>>,
}

impl Readiness {
    /// Waits for these kinds.
    pub fn of(kinds: &[&str]) -> Self {
        let missing = kinds
            .iter()
            .map(|kind| ((*kind).to_owned(), Some(format!("waiting for the first list of {kind}"))))
            .collect();
        Self { missing: Arc::new(Mutex::new(missing)), listed: Arc::new(watch::Sender::new(false)) }
    }

    /// Says what a kind is missing, or that it is there.
    pub fn set(&self, kind: &str, missing: Option<String>) {
        let mut all = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(kind.to_owned(), missing);
        let is_ready = all.values().all(Option::is_none);
        drop(all);
        self.listed.send_if_modified(|listed| std::mem::replace(listed, is_ready) != is_ready);
    }

    /// All that is missing.
    pub fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).values().flatten().cloned().collect()
    }

    /// Whether everything is there; once.
    pub async fn wait(&self) {
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }
}

/// Serves until `stop` turns true.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state((readiness, metrics));
    let listener = tokio::net::TcpListener::bind(address).await?;
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await
}

type Served = State<(Readiness, Arc<Metrics>)>;

async fn readyz(State((readiness, _)): Served) -> impl IntoResponse {
    let missing = readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")))
    }
}

async fn exposition(State((_, metrics)): Served) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}
