//! What Prometheus scrapes: request counters by story and revision, whose errors are set by the stories.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::routing::get;

/// Requests a second, a revision.
const RATE: f64 = 100.0;

/// Counters that grow with the time.
#[derive(Clone, Default)]
pub struct Exporter {
    series: Arc<Mutex<BTreeMap<(String, String), Series>>>,
}

struct Series {
    good: f64,
    bad: f64,
    errors: f64,
    since: Instant,
}

impl Exporter {
    /// Serves `/metrics`.
    pub async fn start(address: SocketAddr) -> Self {
        let exporter = Self::default();
        let served = exporter.clone();
        let app = Router::new().route("/metrics", get(move || std::future::ready(served.text())));
        let listener = tokio::net::TcpListener::bind(address).await.expect("the exporter's port is free");
        tokio::spawn(async move { axum::serve(listener, app).await });
        exporter
    }

    /// Sets the fraction of a revision's requests that fail from now on.
    pub fn set(&self, story: &str, revision: &str, errors: f64) {
        let mut all = self.series.lock().unwrap();
        let series = all.entry((story.to_owned(), revision.to_owned())).or_insert_with(|| Series {
            good: 0.0,
            bad: 0.0,
            errors,
            since: Instant::now(),
        });
        series.grow();
        series.errors = errors;
    }

    /// Ends all series of a story.
    pub fn clear(&self, story: &str) {
        self.series.lock().unwrap().retain(|(known, _), _| known != story);
    }

    fn text(&self) -> String {
        let mut text = String::from("# TYPE e2e_requests_total counter\n# TYPE istio_requests_total counter\n");
        for ((story, revision), series) in self.series.lock().unwrap().iter_mut() {
            series.grow();
            for (code, count) in [("200", series.good), ("500", series.bad)] {
                let _ = writeln!(
                    text,
                    "e2e_requests_total{{story=\"{story}\",revision=\"{revision}\",code=\"{code}\"}} {count}"
                );
                // As the proxies of clients report it.
                let _ = writeln!(
                    text,
                    "istio_requests_total{{reporter=\"source\",destination_workload_namespace=\"{story}\",destination_canonical_revision=\"{revision}\",response_code=\"{code}\"}} {count}"
                );
            }
        }
        text
    }
}

impl Series {
    fn grow(&mut self) {
        let requests = self.since.elapsed().as_secs_f64() * RATE;
        self.since = Instant::now();
        self.good += requests * (1.0 - self.errors);
        self.bad += requests * self.errors;
    }
}
