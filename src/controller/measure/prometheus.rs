//! Queries against a server with Prometheus' query API, and requests to others, bounded in time, size and number.
//!
//! The answer is read in pieces, so that its size can be bounded; `prometheus-http-query` builds and sends the request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use prometheus_http_query::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Meter;
use super::answer::{PLACES_MOST, parse, parse_counters};
use crate::api::analysis::WebMethod;
use crate::api::provider::{MetricProviderSpec, SecretKey};
use crate::evidence::Series;
use crate::plan::json_path;
use crate::plan::measurement::{Ask, CounterQuery, Counters, Query, Sample, WebAnswer, WebQuery};

/// Queries under way at once, a provider; others wait, and those of other providers do not.
const IN_FLIGHT: usize = 16;
/// How long a Secret is kept before it is read again.
const SECRET_KEPT: Duration = Duration::from_mins(1);
const TIMEOUT_SECONDS: i32 = 10;
const RESPONSE_BYTES: i64 = 1_048_576;

/// Asks Prometheus.
#[derive(Clone)]
pub struct PrometheusMeter {
    secrets: Api<Secret>,
    inner: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// What is kept of a provider.
#[derive(Clone)]
struct Known {
    spec: MetricProviderSpec,
    client: reqwest::Client,
    in_flight: Arc<Semaphore>,
    secret: Option<(String, Instant)>,
}

impl PrometheusMeter {
    /// A meter that reads credentials from Secrets of the controller's own namespace.
    pub fn new(secrets: Api<Secret>) -> Self {
        Self { secrets, inner: Arc::default() }
    }

    fn known(&self, name: &str, spec: &MetricProviderSpec) -> Result<Known, String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = inner.get(name).filter(|known| known.spec == *spec) {
            return Ok(known.clone());
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .danger_accept_invalid_certs(
                spec.endpoint().is_some_and(|endpoint| endpoint.insecure_skip_verify.unwrap_or(false)),
            )
            .build()
            .map_err(|error| format!("MetricProvider {name}: {error}"))?;
        let known = Known { spec: spec.clone(), client, in_flight: Arc::new(Semaphore::new(IN_FLIGHT)), secret: None };
        inner.insert(name.to_owned(), known.clone());
        Ok(known)
    }

    /// The value of a Secret's key, read at most once a minute.
    async fn secret(&self, name: &str, key: &SecretKey) -> Result<String, String> {
        let kept = {
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.get(name).and_then(|known| known.secret.clone())
        };
        if let Some((value, read)) = kept
            && read.elapsed() < SECRET_KEPT
        {
            return Ok(value);
        }
        let secret = self.secrets.get(&key.name).await.map_err(|_| {
            format!("MetricProvider {name}: the Secret {} cannot be read; create it in Serin's namespace", key.name)
        })?;
        let bytes = secret.data.unwrap_or_default().remove(&key.key);
        let bytes =
            bytes.ok_or_else(|| format!("MetricProvider {name}: the Secret {} has no key {}", key.name, key.key))?;
        let value = String::from_utf8(bytes.0)
            .map_err(|_| format!("MetricProvider {name}: the Secret {} is not text", key.name))?;
        let value = value.trim().to_owned();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = inner.get_mut(name) {
            known.secret = Some((value.clone(), Instant::now()));
        }
        Ok(value)
    }

    async fn authorization(&self, name: &str, spec: &MetricProviderSpec) -> Result<Option<String>, String> {
        let Some(authentication) = &spec.authentication else {
            return Ok(None);
        };
        if let Some(key) = &authentication.bearer_token {
            return Ok(Some(format!("Bearer {}", self.secret(name, key).await?)));
        }
        let Some(basic) = &authentication.basic else {
            return Ok(None);
        };
        let password = self.secret(name, &basic.password).await?;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", basic.username));
        Ok(Some(format!("Basic {text}")))
    }

    async fn ask(&self, name: &str, spec: &MetricProviderSpec, ask: &Ask) -> Result<Sample, String> {
        let asked = match ask {
            Ask::Value(text) => self.value(name, spec, text).await,
            Ask::Counters(asked) => {
                let each = asked.texts.iter().map(|text| self.counter(name, spec, asked, text));
                let CounterQuery { from, step, steps, .. } = *asked;
                let series = futures::future::try_join_all(each).await;
                series.map(|series| Sample::Counters(Counters { from, step, steps, series }))
            }
            Ask::Web(asked) => self.web(name, spec, asked).await,
        };
        asked.map_err(|error| format!("MetricProvider {name}: {error}"))
    }

    /// The value of a query now.
    async fn value(&self, name: &str, spec: &MetricProviderSpec, text: &str) -> Result<Sample, String> {
        let way = self.way(name, spec).await?;
        let mut request = way.prometheus(spec)?.query(text);
        if let Some(value) = way.authorization {
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        let response = request.get_raw().await.map_err(|error| root(&error))?;
        let (status, body) = whole(response, spec).await?;
        parse(&body).map_err(|error| with_status(status, error))
    }

    /// The series of a counter at the instants that are asked for.
    async fn counter(
        &self,
        name: &str,
        spec: &MetricProviderSpec,
        asked: &CounterQuery,
        text: &str,
    ) -> Result<Vec<Series>, String> {
        let way = self.way(name, spec).await?;
        let (from, to) = asked.range();
        let mut request = way.prometheus(spec)?.query_range(text, from, to, asked.step.as_secs_f64());
        if let Some(value) = way.authorization {
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        let response = request.get_raw().await.map_err(|error| root(&error))?;
        let (status, body) = whole(response, spec).await?;
        parse_counters(&body, asked, PLACES_MOST).map_err(|error| with_status(status, error))
    }

    /// Waits for a place among the queries under way.
    async fn way(&self, name: &str, spec: &MetricProviderSpec) -> Result<Way, String> {
        let known = self.known(name, spec)?;
        let permit = known.in_flight.acquire_owned().await.map_err(|_| "the meter is closed".to_owned())?;
        let authorization = match self.authorization(name, spec).await? {
            Some(value) => Some(
                reqwest::header::HeaderValue::from_str(&value)
                    .map_err(|_| "the credentials are not a header's text".to_owned())?,
            ),
            None => None,
        };
        Ok(Way { client: known.client, authorization, _permit: permit })
    }

    /// The answer of a server.
    async fn web(&self, name: &str, spec: &MetricProviderSpec, asked: &WebQuery) -> Result<Sample, String> {
        let endpoint = spec.web.as_ref().ok_or("is no server for web metrics; name a MetricProvider with web")?;
        let way = self.way(name, spec).await?;
        let method = match asked.method {
            WebMethod::Get => reqwest::Method::GET,
            WebMethod::Post => reqwest::Method::POST,
            WebMethod::Put => reqwest::Method::PUT,
        };
        let mut request = way.client.request(method, below(&endpoint.address, &asked.path)?);
        if let Some(value) = way.authorization {
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        if let Some(body) = &asked.body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let response = request.send().await.map_err(|error| root(&error))?;
        let (status, body) = whole(response, spec).await?;
        let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let values = match (json, &asked.json_path) {
            (None, _) => Vec::new(),
            (Some(json), None) => vec![json],
            (Some(json), Some(path)) => json_path::find(path, &json)?,
        };
        Ok(Sample::Web(WebAnswer { status: status.as_u16(), values }))
    }
}

/// The URL of a path below a provider's address. Dots, whichever way they are written, lead out of neither host nor path.
fn below(address: &str, path: &str) -> Result<reqwest::Url, String> {
    let address = address.trim_end_matches('/');
    let read = |text: &str| reqwest::Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"));
    let (base, url) = (read(address)?, read(&format!("{address}{path}"))?);
    let root = base.path().trim_end_matches('/');
    let is_below = url.path().strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let is_same = url.origin() == base.origin() && url.username() == base.username();
    if path.starts_with('/') && is_same && is_below {
        Ok(url)
    } else {
        Err(format!("the path {path:?} leads out of {address}; write one below it, without dots"))
    }
}

/// What one query needs.
struct Way {
    client: reqwest::Client,
    authorization: Option<reqwest::header::HeaderValue>,
    _permit: OwnedSemaphorePermit,
}

impl Way {
    fn prometheus(&self, spec: &MetricProviderSpec) -> Result<Client, String> {
        let endpoint = spec.prometheus.as_ref().ok_or("is no Prometheus; name a MetricProvider with prometheus")?;
        Client::from(self.client.clone(), &endpoint.address).map_err(|error| error.to_string())
    }
}

/// An answer's status, and its body, of so many bytes as the provider allows at most.
async fn whole(
    response: reqwest::Response,
    spec: &MetricProviderSpec,
) -> Result<(reqwest::StatusCode, Vec<u8>), String> {
    let limit = usize::try_from(spec.max_response_bytes.unwrap_or(RESPONSE_BYTES)).unwrap_or(usize::MAX);
    Ok((response.status(), read(response, limit).await?))
}

fn with_status(status: reqwest::StatusCode, error: String) -> String {
    if status.is_success() { error } else { format!("HTTP {status}; {error}") }
}

impl Meter for PrometheusMeter {
    fn measure(&self, query: Query, spec: MetricProviderSpec) -> BoxFuture<'static, Result<Sample, String>> {
        let meter = self.clone();
        let Query { provider: name, ask, .. } = query;
        let seconds = u64::try_from(spec.timeout_seconds.unwrap_or(TIMEOUT_SECONDS)).unwrap_or(1);
        async move {
            let answer = tokio::time::timeout(Duration::from_secs(seconds), meter.ask(&name, &spec, &ask)).await;
            answer.unwrap_or_else(|_| Err(format!("MetricProvider {name}: no answer within {seconds} s")))
        }
        .boxed()
    }
}

/// The innermost cause, which says what happened.
pub fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The body of an answer, of so many bytes at most.
pub async fn read(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| root(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > limit {
            return Err(format!(
                "the answer has more than {limit} bytes; aggregate in PromQL, or raise maxResponseBytes"
            ));
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{IntoResponse, Redirect};
    use axum::routing::get;

    use super::*;
    use crate::api::provider::EndpointSpec;

    fn query(provider: &str) -> Query {
        Query { id: "id".into(), provider: provider.into(), ask: Ask::Value("up".into()) }
    }

    /// Serves one answer for ever, on a loopback port.
    async fn serve<T: IntoResponse + Clone + Send + Sync + 'static>(answer: T) -> String {
        let app = Router::new().route("/api/v1/query", get(move || std::future::ready(answer.clone())));
        serve_app(app).await
    }

    async fn serve_app(app: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    fn meter() -> PrometheusMeter {
        crate::controller::use_ring();
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        PrometheusMeter::new(Api::namespaced(kube::Client::try_from(config).unwrap(), "serin-system"))
    }

    async fn ask(address: &str) -> Result<Sample, String> {
        let spec = MetricProviderSpec {
            timeout_seconds: Some(2),
            max_response_bytes: Some(2048),
            ..MetricProviderSpec::at(address)
        };
        meter().measure(query("p"), spec).await
    }

    #[tokio::test]
    async fn answers() {
        let vector =
            |series: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#);
        let two = r#"{"metric":{"a":"2"},"value":[1,"2"]},{"metric":{"a":"1"},"value":[1,"NaN"]}"#;
        assert_eq!(
            ask(&serve(r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"3"]}}"#).await).await,
            Ok(Sample::Scalar(3.0))
        );
        assert_eq!(ask(&serve(vector("")).await).await, Ok(Sample::Vector(vec![])));
        let Ok(Sample::Vector(numbers)) = ask(&serve(vector(two)).await).await else { panic!("no vector") };
        assert!(numbers[0].is_nan() && (numbers[1] - 2.0).abs() < f64::EPSILON, "in the order of labels: {numbers:?}");
    }

    #[tokio::test]
    async fn what_is_no_answer_says_why() {
        let check = |answer: Result<Sample, String>, wanted: &str| {
            assert!(answer.as_ref().is_err_and(|error| error.contains(wanted)), "{answer:?} lacks {wanted}")
        };
        check(ask(&serve("<html>").await).await, "not Prometheus'");
        check(ask(&serve((StatusCode::INTERNAL_SERVER_ERROR, "oh")).await).await, "HTTP 500");
        check(
            ask(&serve(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#).await).await,
            "parse error",
        );
        check(ask(&serve("x".repeat(4096)).await).await, "more than 2048 bytes");
        check(ask(&serve(Redirect::temporary("http://127.0.0.1:1/")).await).await, "HTTP 307");
        check(ask("http://127.0.0.1:1").await, "refused");
        let hangs = Router::new().route("/api/v1/query", get(std::future::pending::<&str>));
        check(ask(&serve_app(hangs).await).await, "no answer within 2 s");
    }

    #[tokio::test]
    async fn servers_are_asked_as_web_metrics_say() {
        let app = Router::new()
            .route(
                "/load",
                axum::routing::post(|body: String| async move { format!(r#"{{"got": {body}, "errors": [3, 4]}}"#) }),
            )
            .route("/text", get(|| async { "well" }))
            .route("/broken", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, r#"{"errors": 1}"#) }));
        let address = serve_app(app).await;
        let web = EndpointSpec { address: format!("{address}/"), insecure_skip_verify: None };
        let spec = MetricProviderSpec { prometheus: None, web: Some(web), ..MetricProviderSpec::at("") };
        let ask = |method, path: &str, json_path: Option<&str>| {
            let body = (method == WebMethod::Post).then(|| r#"{"name": "checkout"}"#.to_owned());
            let ask = Ask::Web(WebQuery { method, path: path.into(), body, json_path: json_path.map(str::to_owned) });
            let query = Query { id: "id".into(), provider: "tests".into(), ask };
            let asked = meter().measure(query, spec.clone());
            async move { asked.await.map(|sample| format!("{sample:?}")) }
        };
        let told = |status: u16, values: Vec<serde_json::Value>| {
            Ok(format!("{:?}", Sample::Web(WebAnswer { status, values })))
        };
        assert_eq!(ask(WebMethod::Post, "/load", Some("$.got.name")).await, told(200, vec!["checkout".into()]));
        assert_eq!(ask(WebMethod::Post, "/load", Some("$.errors[*]")).await, told(200, vec![3.into(), 4.into()]));
        assert_eq!(ask(WebMethod::Post, "/load", Some("$.nothing")).await, told(200, vec![]));
        assert_eq!(ask(WebMethod::Get, "/text", None).await, told(200, vec![]), "an answer that is no JSON");
        assert_eq!(ask(WebMethod::Get, "/broken", Some("$.errors")).await, told(503, vec![1.into()]));
        let wrong = ask_of(&spec, Ask::Value("up".into())).await;
        assert!(wrong.as_ref().is_err_and(|error| error.contains("is no Prometheus")), "{wrong:?}");
        let wrong = Ask::Web(WebQuery { method: WebMethod::Get, path: "/".into(), body: None, json_path: None });
        let wrong = ask_of(&MetricProviderSpec::at(&address), wrong).await;
        assert!(wrong.as_ref().is_err_and(|error| error.contains("no server for web metrics")), "{wrong:?}");
    }

    #[test]
    fn paths_lead_out_of_nothing() {
        let root = "http://ci.example:8080/tests/";
        for (path, url) in [
            ("/load?a=../b", Some("http://ci.example:8080/tests/load?a=../b")),
            ("/a/../load", Some("http://ci.example:8080/tests/load")),
            ("/../admin", None),
            ("/a/../../admin", None),
            ("/%2e%2e/admin", None),
            ("/.%2E/admin", None),
            ("/..\\admin", None),
            ("/../tests-of-others/", None),
            ("@evil.example/", None),
            (".evil.example/", None),
        ] {
            assert_eq!(below(root, path).ok().as_ref().map(reqwest::Url::as_str), url, "{path}");
        }
        assert_eq!(below("http://ci", "/../x").map(String::from), Ok("http://ci/x".to_owned()));
    }

    async fn ask_of(spec: &MetricProviderSpec, ask: Ask) -> Result<Sample, String> {
        meter().measure(Query { id: "id".into(), provider: "p".into(), ask }, spec.clone()).await
    }

    #[tokio::test]
    async fn counters_come_at_the_instants_that_are_asked_for() {
        let asked = CounterQuery {
            texts: vec!["a".into(), "b".into()],
            from: jiff::Timestamp::from_second(1_000).unwrap(),
            step: jiff::SignedDuration::from_secs(15),
            steps: 2,
        };
        let answer = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"pod":"p"},"values":[[1000,"1"],[1030,"7.5"]]}, {"metric":{"pod":"q"},"values":[[1015,"NaN"]]}]}}"#;
        let app = Router::new().route(
            "/api/v1/query_range",
            get(move |axum::extract::RawQuery(query): axum::extract::RawQuery| async move {
                let query = query.unwrap_or_default();
                if query.contains("start=1000") && query.contains("end=1030") && query.contains("step=15") {
                    answer.to_owned()
                } else {
                    query
                }
            }),
        );
        let spec = MetricProviderSpec::at(&serve_app(app).await);
        let Ok(Sample::Counters(counters)) = ask_of(&spec, Ask::Counters(asked)).await else { panic!("no counters") };
        assert_eq!(counters.series.len(), 2, "a query each");
        let values: Vec<Vec<Option<f64>>> = counters.series[0].iter().map(|one| one.values.clone()).collect();
        assert_eq!(format!("{values:?}"), "[[Some(1.0), None, Some(7.5)], [None, None, None]]");
        assert_eq!(counters.series[0][0].labels["pod"], "p");
    }

    #[tokio::test]
    async fn a_slow_provider_delays_no_other() {
        let meter = meter();
        let hangs = serve_app(Router::new().route("/api/v1/query", get(std::future::pending::<&str>))).await;
        let slow: Vec<_> = (0..2 * IN_FLIGHT)
            .map(|_| tokio::spawn(meter.measure(query("slow"), MetricProviderSpec::at(&hangs))))
            .collect();
        let fast = serve(r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#).await;
        assert_eq!(meter.measure(query("fast"), MetricProviderSpec::at(&fast)).await, Ok(Sample::Scalar(1.0)));
        assert!(slow.iter().all(|task| !task.is_finished()));
        slow.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn the_token_comes_from_the_secret() {
        let app = Router::new().route(
            "/api/v1/query",
            get(|headers: HeaderMap| async move {
                let is_right = headers.get("authorization").is_some_and(|value| value == "Bearer s3cret");
                if is_right { r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"# } else { "no" }
            }),
        );
        let secret = Router::new().route(
            "/api/v1/namespaces/serin-system/secrets/token",
            get(|| async {
                r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"token"},"data":{"key":"czNjcmV0Cg=="}}"#
            }),
        );
        crate::controller::use_ring();
        let kubernetes = kube::Client::try_from(kube::Config::new(serve_app(secret).await.parse().unwrap())).unwrap();
        let meter = PrometheusMeter::new(Api::namespaced(kubernetes, "serin-system"));
        let key = |key: &str| SecretKey { name: "token".into(), key: key.into() };
        let with = |token| crate::api::provider::AuthenticationSpec { bearer_token: Some(token), basic: None };
        let spec = MetricProviderSpec {
            authentication: Some(with(key("key"))),
            ..MetricProviderSpec::at(&serve_app(app).await)
        };
        assert_eq!(meter.measure(query("p"), spec.clone()).await, Ok(Sample::Scalar(1.0)));
        let wrong = MetricProviderSpec { authentication: Some(with(key("other"))), ..spec };
        assert!(meter.measure(query("q"), wrong).await.is_err_and(|error| error.contains("no key other")));
    }
}
