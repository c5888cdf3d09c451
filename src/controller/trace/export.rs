//! Sends spans by OTLP, out of the way of a pass: a bounded queue, and batches. A collector that is away or slow costs spans,
//! which are counted, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::controller::telemetry::Metrics;

/// Spans that wait: those of a hundred rollouts that end at once.
const QUEUE: usize = 2048;
/// Spans in a request, and how long the first of them waits for others.
const BATCH: usize = 512;
const LINGER: Duration = Duration::from_secs(1);
/// How long a request with its repetitions may take, whatever the variables say.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a process that ends waits for its last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where spans go, as the standard variables of OpenTelemetry say; the crate reads time-outs, headers and compression itself.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: of all signals.
    pub endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`: of traces alone, taken as it is.
    pub traces_endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, else `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub protocol: Option<String>,
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// The pod.
    pub identity: String,
    /// The controller's own namespace.
    pub namespace: String,
}

impl Collector {
    /// Whether spans go anywhere.
    pub fn is_named(&self) -> bool {
        let is_set = |one: &Option<String>| one.as_ref().is_some_and(|text| !text.is_empty());
        is_set(&self.endpoint) || is_set(&self.traces_endpoint)
    }

    /// What sends to it; a sentence where the variables make no sense.
    pub fn exporter(&self) -> Result<SpanExporter, String> {
        let set = |one: &Option<String>| one.clone().filter(|text| !text.is_empty());
        let protocol = set(&self.protocol);
        let own = set(&self.traces_endpoint);
        let all = set(&self.endpoint).unwrap_or_default();
        let built = match protocol.as_deref() {
            None | Some("http/protobuf") => {
                let path = || format!("{}/v1/traces", all.trim_end_matches('/'));
                let http = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
                http.with_endpoint(own.unwrap_or_else(path)).build()
            }
            Some("grpc") => SpanExporter::builder().with_tonic().with_endpoint(own.unwrap_or(all)).build(),
            Some(other) => {
                return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL: {other:?} is neither http/protobuf nor grpc"));
            }
        };
        let mut exporter = built.map_err(|error| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))?;
        exporter.set_resource(&self.resource());
        Ok(exporter)
    }

    /// Who sends: what the variables say wins.
    fn resource(&self) -> Resource {
        let own = [
            KeyValue::new("service.name", "serin"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", self.identity.clone()),
            KeyValue::new("k8s.namespace.name", self.namespace.clone()),
            KeyValue::new("k8s.pod.name", self.identity.clone()),
        ];
        let resource = Resource::builder_empty()
            .with_attributes(own)
            .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
        let name = self.service_name.clone().filter(|name| !name.is_empty());
        name.into_iter().fold(resource, opentelemetry_sdk::resource::ResourceBuilder::with_service_name).build()
    }
}

enum Message {
    Span(Box<SpanData>),
    Flush(oneshot::Sender<()>),
}

/// Takes spans.
#[derive(Clone)]
pub struct Tracer {
    queue: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
    is_told: Arc<AtomicBool>,
}

impl Tracer {
    /// Starts the task that sends.
    pub fn spawn(exporter: SpanExporter, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let is_told = Arc::new(AtomicBool::new(false));
        tokio::spawn(send(exporter, waiting, metrics.clone(), is_told.clone()));
        Self { queue, metrics, is_told }
    }

    /// Sends spans, as far as there is room.
    pub fn send(&self, spans: Vec<SpanData>) {
        let refused = spans.into_iter().filter_map(|span| self.queue.try_send(Message::Span(Box::new(span))).err());
        let dropped = refused.count();
        if dropped > 0 {
            self.metrics.spans("dropped", dropped);
            tell(&self.is_told, "the queue of spans is full");
        }
    }

    /// Waits until what was taken is sent, for a few seconds.
    pub async fn flush(&self) {
        let flushed = async {
            let (done, is_done) = oneshot::channel();
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = is_done.await;
            }
        };
        let _ = timeout(FLUSH_TIMEOUT, flushed).await;
    }
}

/// Once, until the collector answers again.
fn tell(is_told: &AtomicBool, why: &str) {
    if !is_told.swap(true, Ordering::Relaxed) {
        tracing::warn!(%why, "spans of traces are lost; serin_spans_total counts them, and this is not said again until the collector answers");
    }
}

async fn send(
    exporter: SpanExporter,
    mut waiting: mpsc::Receiver<Message>,
    metrics: Arc<Metrics>,
    is_told: Arc<AtomicBool>,
) {
    while let Some((batch, flushed)) = next(&mut waiting).await {
        let count = batch.len();
        if count > 0 {
            let sent = timeout(SEND_TIMEOUT, exporter.export(batch)).await;
            match sent
                .map_err(|_| "no answer in time".to_owned())
                .and_then(|sent| sent.map_err(|error| error.to_string()))
            {
                Ok(()) => {
                    metrics.spans("sent", count);
                    if is_told.swap(false, Ordering::Relaxed) {
                        tracing::info!("the collector of traces answers again");
                    }
                }
                Err(why) => {
                    metrics.spans("failed", count);
                    tell(&is_told, &why);
                }
            }
        }
        if let Some(flushed) = flushed {
            let _ = flushed.send(());
        }
    }
}

/// The next spans, and who waits for them; none when nobody can send any more.
async fn next(waiting: &mut mpsc::Receiver<Message>) -> Option<(Vec<SpanData>, Option<oneshot::Sender<()>>)> {
    let mut batch = Vec::new();
    let mut message = waiting.recv().await?;
    let until = Instant::now() + LINGER;
    loop {
        match message {
            Message::Span(span) => batch.push(*span),
            Message::Flush(flushed) => return Some((batch, Some(flushed))),
        }
        if batch.len() >= BATCH {
            return Some((batch, None));
        }
        match timeout_at(until, waiting.recv()).await {
            Ok(Some(more)) => message = more,
            Ok(None) | Err(_) => return Some((batch, None)),
        }
    }
}
