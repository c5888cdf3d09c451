//! Istio's own metrics to PromQL, for one revision of one Rollout. Knows nothing of verdicts.
//!
//! Proxies in front of clients and gateways count (`reporter="source"`), so that an answer that a proxy gives in place
//! of a pod counts, too. Istio's metrics name the revision of the pod that a proxy chose; where it found none to choose,
//! they name nothing but the Service, which tells the revisions apart only where each has one of its own.

use jiff::SignedDuration;

use super::observed::Observed;
use super::route::{self, Route, Sides};
use super::strategy::Routing;
use crate::api::analysis::{IstioMetric, IstioMetricName, IstioSource, Role};
use crate::api::istio::{full_host, service_of};

/// How far a measurement looks back at least where the template does not say.
const WINDOW_LEAST: SignedDuration = SignedDuration::from_mins(1);
/// The quantile where the template does not say.
const QUANTILE: f64 = 0.99;
/// Statuses of gRPC that are the server's fault, as OpenTelemetry counts them for servers; each maps to a 5xx of HTTP.
const GRPC_FAILURES: &str = "2|4|12|13|14|15";

/// Where the requests of both revisions go.
#[derive(Debug, Clone, Default)]
pub struct Place {
    namespace: String,
    /// What the weights lie between; none without a route.
    sides: Option<Sides>,
    /// The host of both subsets, in full, where it is known.
    host: Option<String>,
}

impl Place {
    /// Where the snapshot has them.
    pub fn of(observed: &Observed, routing: Option<&Routing>, route: &Route) -> Self {
        let metadata = &observed.rollout.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            sides: routing.map(|routing| route::names_of(name, routing).sides),
            host: routing.and_then(|routing| route::in_place_host(observed, routing, route)),
        }
    }
}

/// Labels that select series, and the words that a metric's name has for each source.
struct Series {
    /// A selector each; together they are the requests of the revision.
    selectors: Vec<String>,
    count: &'static str,
    duration: &'static str,
    /// Selects the requests that count.
    every: &'static str,
    /// Selects those of them that succeed.
    good: String,
}

/// The query, or why there is none: the field and a sentence.
pub fn query(
    metric: &IstioMetric,
    interval: Option<SignedDuration>,
    hash: &str,
    place: &Place,
) -> Result<String, (&'static str, String)> {
    let series = match metric.source.unwrap_or_default() {
        IstioSource::Istio => of_istio(metric, hash, place),
        IstioSource::Envoy => of_envoy(metric, place).ok_or_else(|| {
            let why = "envoy counts by subset or Service, and without trafficRouting there is one of each; use istio";
            ("source", why.to_owned())
        })?,
    };
    let window = written(window(metric, interval));
    let rate = |name: &str, labels: &str| {
        let one = |selector: &String| {
            let separator = if labels.is_empty() { "" } else { "," };
            format!("rate({name}{{{selector}{separator}{labels}}}[{window}])")
        };
        series.selectors.iter().map(one).collect::<Vec<_>>().join(" or ")
    };
    let all = format!("sum({})", rate(series.count, series.every));
    Ok(match metric.metric {
        IstioMetricName::RequestRate => all,
        // Without a success there is no series of successes, and without a request no answer.
        IstioMetricName::RequestSuccessRate => {
            format!("(sum({}) or vector(0)) / {all}", rate(series.count, &series.good))
        }
        IstioMetricName::RequestDuration => {
            let quantile = metric.quantile.unwrap_or(QUANTILE);
            format!("histogram_quantile({quantile}, sum by (le) ({}))", rate(series.duration, ""))
        }
    })
}

/// How far a measurement looks back.
pub fn window(metric: &IstioMetric, interval: Option<SignedDuration>) -> SignedDuration {
    let given = metric.window.as_ref().and_then(|window| window.parse().ok());
    given.unwrap_or_else(|| interval.unwrap_or_default().max(WINDOW_LEAST))
}

fn of_istio(metric: &IstioMetric, hash: &str, place: &Place) -> Series {
    let namespace = text(&place.namespace);
    let mut selectors = vec![format!(
        "reporter=\"source\",destination_workload_namespace={namespace},destination_canonical_revision={}",
        text(hash)
    )];
    if let Some(Sides::Services { stable, canary }) = &place.sides {
        let service = if metric.revision.unwrap_or_default() == Role::Stable { stable } else { canary };
        let host = text(&host_pattern(service, &place.namespace));
        selectors.push(format!("reporter=\"source\",destination_workload=\"unknown\",destination_service=~{host}"));
    }
    Series {
        selectors,
        count: "istio_requests_total",
        duration: "istio_request_duration_milliseconds_bucket",
        every: "",
        good: format!("response_code!~\"5..\",grpc_response_status!~\"{GRPC_FAILURES}\""),
    }
}

/// None where both revisions are one cluster to Envoy.
fn of_envoy(metric: &IstioMetric, place: &Place) -> Option<Series> {
    let is_stable = metric.revision.unwrap_or_default() == Role::Stable;
    let (stable, canary) = place.sides.as_ref()?.both();
    let side = if is_stable { stable } else { canary };
    let (subset, host) = match place.sides.as_ref()? {
        Sides::Services { .. } => (String::new(), host_pattern(side, &place.namespace)),
        Sides::Subsets { .. } => {
            let host = place.host.as_ref().map(|host| host_pattern(host, &place.namespace));
            (literal(side), host.unwrap_or_else(|| "[^|]+".to_owned()))
        }
    };
    let cluster = text(&format!("outbound\\|[0-9]+\\|{subset}\\|{host}"));
    Some(Series {
        selectors: vec![format!("cluster_name=~{cluster}")],
        count: "envoy_cluster_upstream_rq",
        duration: "envoy_cluster_upstream_rq_time_bucket",
        // The same name has a series for each code, too.
        every: "response_code_class!=\"\"",
        good: "response_code_class!=\"\",response_code_class!=\"5xx\"".to_owned(),
    })
}

/// A host as a pattern: that of a Service in any domain of clusters.
fn host_pattern(host: &str, namespace: &str) -> String {
    let host = full_host(host, namespace);
    match service_of(&host) {
        Some((name, namespace)) => format!("{}\\.{}\\.svc\\..+", literal(name), literal(namespace)),
        None => literal(&host),
    }
}

/// A pattern that nothing but this text matches.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for one in text.chars() {
        if one.is_ascii_punctuation() && !matches!(one, '-' | '_') {
            pattern.push('\\');
        }
        pattern.push(one);
    }
    pattern
}

/// A string of PromQL, in quotes.
fn text(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for one in value.chars() {
        match one {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(one),
        }
    }
    quoted.push('"');
    quoted
}

/// A duration as PromQL writes it.
fn written(duration: SignedDuration) -> String {
    let millis = duration.as_millis();
    match (millis % 60_000, millis % 1_000) {
        (0, _) => format!("{}m", millis / 60_000),
        (_, 0) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}
