//! Metric providers: whether they answer, and have the requests of a Rollout.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;

use super::{Check, Patient};
use crate::api::provider::{EndpointSpec, MetricProviderSpec};
use crate::api::watched::MetricProvider;
use crate::controller::measure::Meter as _;
use crate::controller::measure::answer::parse;
use crate::controller::measure::prometheus::PrometheusMeter;
use crate::plan::measurement::{Ask, Query, Sample};

const NAME: &str = "metrics";
/// How long an answer is waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Every provider answers; where a Rollout is named, they have its requests.
pub(super) async fn providers(patient: &Patient<'_>) -> Vec<Check> {
    let api: Api<MetricProvider> = Api::all(patient.cluster.client.clone());
    let mut known: Vec<(String, MetricProviderSpec)> = match api.list(&ListParams::default()).await {
        Err(error) => return vec![Check::skipped(NAME, &error)],
        Ok(list) => {
            let read = |one: MetricProvider| {
                Some((one.metadata.name?, serde_json::from_value(one.spec.value().clone()).ok()?))
            };
            list.items.into_iter().filter_map(read).collect()
        }
    };
    known
        .extend(default_address(patient).await.map(|address| ("default".to_owned(), MetricProviderSpec::at(&address))));
    if known.is_empty() {
        let hint = "start Serin with --prometheus-url, or create a MetricProvider";
        return vec![Check::warning(NAME, "there is no MetricProvider: analyses cannot be measured", hint)];
    }
    let mut checks = Vec::new();
    for (name, spec) in known {
        checks.push(answers(patient, &name, &spec).await);
    }
    checks
}

/// The address that the controller was started with.
async fn default_address(patient: &Patient<'_>) -> Option<String> {
    let api: Api<Deployment> = Api::namespaced(patient.cluster.client.clone(), patient.system);
    let found = api.list(&ListParams::default().labels("app.kubernetes.io/name=serin")).await.ok()?;
    let containers = found.items.into_iter().filter_map(|one| one.spec.template.spec).flat_map(|spec| spec.containers);
    containers
        .flat_map(|container| {
            let arguments = container.args.unwrap_or_default().into_iter();
            let of_argument =
                arguments.filter_map(|argument| argument.strip_prefix("--prometheus-url=").map(str::to_owned));
            let variables = container.env.unwrap_or_default().into_iter();
            let of_variable = variables.filter(|one| one.name == "SERIN_PROMETHEUS_URL").filter_map(|one| one.value);
            of_argument.chain(of_variable).collect::<Vec<_>>()
        })
        .next()
}

async fn answers(patient: &Patient<'_>, name: &str, spec: &MetricProviderSpec) -> Check {
    let Some(EndpointSpec { address, .. }) = &spec.prometheus else {
        return Check::ok(NAME, format!("MetricProvider {name} is for web metrics, and is not asked"));
    };
    let told = format!("MetricProvider {name} at {address}");
    if let Err(error) = ask(patient, name, spec, "vector(1)").await {
        return Check::failed(NAME, format!("{told} does not answer: {error}"), "correct its address, or repair it");
    }
    let Some(rollout) = &patient.rollout else { return Check::ok(NAME, format!("{told} answers")) };
    let Some(stable) = &rollout.status.stable else { return Check::ok(NAME, format!("{told} answers")) };
    let query = format!(
        "count(istio_requests_total{{reporter=\"source\",destination_canonical_revision=\"{}\"}})",
        stable.hash
    );
    match ask(patient, name, spec, &query).await {
        Ok(Sample::Vector(values)) if !values.is_empty() => {
            Check::ok(NAME, format!("{told} has the requests of r{} ({})", stable.revision, stable.hash))
        }
        Ok(_) => Check::warning(
            NAME,
            format!("{told} has no istio_requests_total of r{} ({})", stable.revision, stable.hash),
            "send requests through the mesh, and let it scrape the gateways and the clients' sidecars; queries of your own metrics do not need this",
        ),
        Err(error) => Check::failed(NAME, format!("{told}: {error}"), "correct its address, or repair it"),
    }
}

/// Asks one query: by the API server's proxy where the address is a Service, else from here.
async fn ask(patient: &Patient<'_>, name: &str, spec: &MetricProviderSpec, query: &str) -> Result<Sample, String> {
    let asked = async {
        match spec.prometheus.as_ref().and_then(|endpoint| service_of(&endpoint.address)) {
            Some(service) => {
                let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
                let url = format!("{service}/api/v1/query?query={query}");
                let request = http::Request::get(url).body(Vec::new()).map_err(|error| error.to_string())?;
                let text = patient.cluster.client.request_text(request).await.map_err(|error| error.to_string())?;
                parse(text.as_bytes())
            }
            None => {
                let secrets: Api<Secret> = Api::namespaced(patient.cluster.client.clone(), patient.system);
                let query = Query { id: String::new(), provider: name.to_owned(), ask: Ask::Value(query.to_owned()) };
                PrometheusMeter::new(secrets).measure(query, spec.clone()).await
            }
        }
    };
    tokio::time::timeout(ANSWERED_WITHIN, asked).await.unwrap_or_else(|_| Err("no answer within 10 s".to_owned()))
}

/// The path of the API server's proxy to a Service, for an address such as `http://prometheus.monitoring:9090`.
pub fn service_of(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host.split_once(':').unwrap_or((host, if scheme == "https" { "443" } else { "80" }));
    let mut labels = host.split('.');
    let (service, namespace) = (labels.next()?, labels.next()?);
    let is_service =
        matches!(labels.next(), None | Some("svc")) && !host.starts_with(|first: char| first.is_ascii_digit());
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    is_service.then(|| format!("/api/v1/namespaces/{namespace}/services/{scheme}:{service}:{port}/proxy{prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_asked_by_the_proxy() {
        let proxy = "/api/v1/namespaces/monitoring/services/http:prometheus:9090/proxy";
        assert_eq!(service_of("http://prometheus.monitoring:9090").as_deref(), Some(proxy));
        assert_eq!(service_of("http://prometheus.monitoring.svc.cluster.local:9090/").as_deref(), Some(proxy));
        assert_eq!(
            service_of("http://prometheus.monitoring:9090/base").as_deref(),
            Some(format!("{proxy}/base").as_str())
        );
        assert_eq!(service_of("http://127.0.0.1:9090"), None);
        assert_eq!(service_of("https://prometheus.example.com"), None);
        assert_eq!(service_of("http://localhost:9090"), None);
    }
}
