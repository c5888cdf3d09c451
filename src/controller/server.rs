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

/// How a kind's cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listed {
    /// Not listed yet.
    Waiting,
    /// The kind does not exist; its cache is rightly empty.
    Absent,
    /// Listed.
    Done,
}

/// What must be there before the process is ready: a list of each kind.
#[derive(Clone)]
pub struct Readiness {
    kinds: Arc<Mutex<BTreeMap<String, Listed>>>,
    optional: Vec<String>,
    listed: Arc<watch::Sender<bool>>,
}

impl Readiness {
    /// Waits for these kinds.
    pub fn of(kinds: &[&str]) -> Self {
        let kinds = kinds.iter().map(|kind| ((*kind).to_owned(), Listed::Waiting)).collect();
        Self { kinds: Arc::new(Mutex::new(kinds)), optional: Vec::new(), listed: Arc::new(watch::Sender::new(false)) }
    }

    /// That these kinds do not exist is nothing that is missing.
    #[must_use]
    pub fn without(mut self, kinds: &[&str]) -> Self {
        self.optional = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        self
    }

    /// Whether a cluster may do without a kind.
    pub fn is_optional(&self, kind: &str) -> bool {
        self.optional.iter().any(|optional| optional == kind)
    }

    /// A kind is listed.
    pub fn listed(&self, kind: &str) {
        self.set(kind, Listed::Done);
    }

    /// A kind does not exist: passes may begin without it, and say what they miss.
    pub fn absent(&self, kind: &str) {
        self.set(kind, Listed::Absent);
    }

    fn set(&self, kind: &str, listed: Listed) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.insert(kind.to_owned(), listed);
        let may_begin = kinds.values().all(|listed| *listed != Listed::Waiting);
        drop(kinds);
        self.listed.send_if_modified(|listed| std::mem::replace(listed, may_begin) != may_begin);
    }

    /// All that is missing.
    pub fn missing(&self) -> Vec<String> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let told = kinds.iter().filter_map(|(kind, listed)| match listed {
            Listed::Waiting => Some(format!("waiting for the first list of {kind}")),
            Listed::Absent if self.is_optional(kind) => None,
            Listed::Absent => Some(format!(
                "the kind {kind} does not exist here: is Istio installed, are Serin's definitions applied?"
            )),
            Listed::Done => None,
        });
        told.collect()
    }

    /// Whether every kind is listed, or known to be absent.
    pub fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// Waits until passes may begin.
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
