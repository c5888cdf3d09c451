//! Istio's own metrics to PromQL, for one revision of one Rollout. Knows nothing of verdicts.
//!
//! Proxies in front of clients and gateways count (`reporter="source"`), so that an answer that a proxy gives in place
//! of a pod counts, too. Istio's metrics name the revision of the pod that a proxy chose; where it found none to choose,
//! they name nothing but the Service, which tells the revisions apart only where each has one of its own.

use jiff::SignedDuration;

use super::baseline;
use super::counted::{Counters, Pair};
use super::observed::Observed;
use super::route::{self, Route, Sides};
use super::strategy::Routing;
use super::template::Names;
use crate::api::analysis::{IstioMetric, IstioMetricName, IstioSource, Role};
use crate::api::comparison::{CountPreset, Reference};
use crate::api::istio::{full_host, service_of};

/// How far a measurement looks back at least where the template does not say.
const WINDOW_LEAST: SignedDuration = SignedDuration::from_mins(1);
/// The quantile where the template does not say.
const QUANTILE: f64 = 0.99;
/// Why Envoy cannot tell the revisions apart.
const WITHOUT_CLUSTERS: &str =
    "envoy counts by subset or Service, and without trafficRouting there is one of each; use istio";
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

    /// Whether there is a route.
    pub fn is_routed(&self) -> bool {
        self.sides.is_some()
    }
}

/// Labels that select series, and the words that a metric's name has for each source.
#[derive(Clone)]
struct Series {
    /// A selector each; together they are the requests of the revision.
    selectors: Vec<String>,
    count: &'static str,
    duration: &'static str,
    /// Selects the requests that count.
    every: &'static str,
    /// Selects those of them that succeed.
    good: String,
    /// Select those of them that fail, none of them twice.
    bad: Vec<String>,
}

/// The query, or why there is none: the field and a sentence.
pub fn query(
    metric: &IstioMetric,
    interval: Option<SignedDuration>,
    hash: &str,
    place: &Place,
) -> Result<String, (&'static str, String)> {
    let role = metric.revision.unwrap_or_default();
    let series = match metric.source.unwrap_or_default() {
        IstioSource::Istio => of_istio(role, hash, place),
        IstioSource::Envoy => of_envoy(role, place).ok_or_else(|| ("source", WITHOUT_CLUSTERS.to_owned()))?,
    };
    let window = written(window(metric, interval));
    let over = |function: &str, name: &str, labels: &str| {
        let one = |selector: &String| {
            let separator = if labels.is_empty() { "" } else { "," };
            format!("{function}({name}{{{selector}{separator}{labels}}}[{window}])")
        };
        series.selectors.iter().map(one).collect::<Vec<_>>().join(" or ")
    };
    let rate = |name: &str, labels: &str| over("rate", name, labels);
    let all = format!("sum({})", rate(series.count, series.every));
    let asked = match metric.metric {
        IstioMetricName::RequestRate => all,
        // Without a success there is no series of successes, and without a request no answer.
        IstioMetricName::RequestSuccessRate => {
            format!("(sum({}) or vector(0)) / {all}", rate(series.count, &series.good))
        }
        IstioMetricName::RequestDuration => {
            let quantile = metric.quantile.unwrap_or(QUANTILE);
            format!("histogram_quantile({quantile}, sum by (le) ({}))", rate(series.duration, ""))
        }
    };
    // With fewer requests there is no answer, which is no data.
    let Some(least) = metric.min_requests else {
        return Ok(asked);
    };
    Ok(format!("({asked}) and on () (sum({}) >= {least})", over("increase", series.count, series.every)))
}

/// How far a measurement looks back.
pub fn window(metric: &IstioMetric, interval: Option<SignedDuration>) -> SignedDuration {
    let given = metric.window.as_ref().and_then(|window| window.parse().ok());
    given.unwrap_or_else(|| interval.unwrap_or_default().max(WINDOW_LEAST))
}

/// The counters of a preset, or why there are none: the field and a sentence.
pub fn counters(
    preset: CountPreset,
    bound: Option<SignedDuration>,
    reference: Option<Reference>,
    names: &Names<'_>,
) -> Result<Counters, (&'static str, String)> {
    let series = |role: Role| {
        let hash = if role == Role::Stable { names.stable } else { names.canary };
        match preset {
            CountPreset::IstioErrors | CountPreset::IstioLatency => Ok(of_istio(role, hash, &names.place)),
            CountPreset::EnvoyErrors | CountPreset::EnvoyLatency => {
                of_envoy(role, &names.place).ok_or_else(|| ("preset", WITHOUT_CLUSTERS.to_owned()))
            }
        }
    };
    let canary = series(Role::Canary)?;
    let stable = reference.map(|_| series(Role::Stable)).transpose()?;
    let other = match reference {
        // Requests that reached no pod are stable's, and never the baseline's.
        Some(Reference::Baseline) => {
            Some(of_pods(&baseline::revision(names.stable, names.canary), &names.place.namespace))
        }
        Some(Reference::Stable) | None => stable.clone(),
    };
    if preset.is_latency() {
        let buckets = |series: &Series| format!("sum by (pod, instance, le) ({})", series.all(series.duration, ""));
        let bound = bound.map(|bound| bound.as_secs_f64() * 1000.0);
        return Ok(Counters::Latency {
            canary: buckets(&canary),
            other: other.as_ref().map(buckets),
            past: stable.as_ref().filter(|_| bound.is_none()).map(buckets),
            bound,
        });
    }
    let pair = |series: &Series| Pair {
        total: by_pod(&series.all(series.count, series.every)),
        bad: by_pod(&series.bad.iter().map(|labels| series.all(series.count, labels)).collect::<Vec<_>>().join(" or ")),
    };
    // Only the pods' own proxies tell which of them answered.
    let pods = (preset == CountPreset::IstioErrors).then(|| {
        let own = |one: &String| one.replace("reporter=\"source\"", "reporter=\"destination\"");
        stable.as_ref().map(|stable| {
            pair(&Series { selectors: stable.selectors.iter().take(1).map(own).collect(), ..stable.clone() })
        })
    });
    Ok(Counters::Errors { canary: pair(&canary), other: other.as_ref().map(pair), pods: pods.flatten() })
}

fn by_pod(query: &str) -> String {
    format!("sum by (pod, instance) ({query})")
}

impl Series {
    /// The series of a metric that all selectors and these labels select.
    fn all(&self, name: &str, labels: &str) -> String {
        let separator = if labels.is_empty() { "" } else { "," };
        let one = |selector: &String| format!("{name}{{{selector}{separator}{labels}}}");
        self.selectors.iter().map(one).collect::<Vec<_>>().join(" or ")
    }
}

fn of_istio(role: Role, hash: &str, place: &Place) -> Series {
    let mut series = of_pods(hash, &place.namespace);
    if let Some(Sides::Services { stable, canary }) = &place.sides {
        let service = if role == Role::Stable { stable } else { canary };
        let host = text(&host_pattern(service, &place.namespace));
        let unreached = format!("reporter=\"source\",destination_workload=\"unknown\",destination_service=~{host}");
        series.selectors.push(unreached);
    }
    series
}

/// The requests that pods with this canonical revision were chosen for.
fn of_pods(revision: &str, namespace: &str) -> Series {
    let (namespace, revision) = (text(namespace), text(revision));
    Series {
        selectors: vec![format!(
            "reporter=\"source\",destination_workload_namespace={namespace},destination_canonical_revision={revision}"
        )],
        count: "istio_requests_total",
        duration: "istio_request_duration_milliseconds_bucket",
        every: "",
        good: format!("response_code!~\"5..\",grpc_response_status!~\"{GRPC_FAILURES}\""),
        bad: vec![
            "response_code=~\"5..\"".to_owned(),
            format!("response_code!~\"5..\",grpc_response_status=~\"{GRPC_FAILURES}\""),
        ],
    }
}

/// None where both revisions are one cluster to Envoy.
fn of_envoy(role: Role, place: &Place) -> Option<Series> {
    let is_stable = role == Role::Stable;
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
        bad: vec!["response_code_class=\"5xx\"".to_owned()],
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
