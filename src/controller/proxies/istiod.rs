//! Asks every istiod of the cluster: as a proxy, what it sends; and by its debug endpoints who has it: `/debug/syncz`,
//! `/debug/sidecarz`, and `/debug/config_dump` of gateways.
//!
//! An istiod answers only who runs on its own machine, or shows a token of a service account with the audience `istio-ca`. Newer
//! ones show the proxies of every namespace to accounts of istiod's own namespace alone, whatever
//! `DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES` says; so Serin has an account there, and asks the API server for its token, which is
//! worth nothing anywhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::Answer;
use super::dump::Dump;
use super::replica::{ProxyStatus, Scope};
use super::search::{Failure, Source, Told};
use super::seen::Shown;
use super::stream::{Streams, Way, Ways};
use crate::controller::measure::prometheus::{read, root};
use crate::plan::route::Question;

/// How long one request takes at most.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long one answer about all proxies serves every inquiry.
const STATUS_KEPT: Duration = Duration::from_millis(50);
/// How long the list of istiods is kept.
const ADDRESSES_KEPT: Duration = Duration::from_secs(5);
/// How long proxies that vanished together with their istiod are waited for: they are about to find another.
const RECONNECTING: Duration = Duration::from_secs(30);
/// The audience of the token, how long it is good for, when it is had anew, and when it is tried again where it was refused.
const AUDIENCE: &str = "istio-ca";
const TOKEN_SECONDS: i64 = 3600;
const TOKEN_KEPT: Duration = Duration::from_mins(40);
const REFUSAL_KEPT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_MOST: usize = 256 << 20;
/// The ports of the debug endpoints and of the streams, by their names in istiod's Service; and of streams where it has none.
const DEBUG_PORT: &str = "http-monitoring";
const SECURE_PORT: (&str, i32) = ("https-dns", 15012);
const PLAIN_PORT: (&str, i32) = ("grpc-xds", 15010);
/// The certificates that vouch for istiod, and how long they are kept.
const TRUST: (&str, &str) = ("istio-ca-root-cert", "root-cert.pem");
const TRUST_KEPT: Duration = Duration::from_mins(5);
/// What istiod's Services are labelled with, whatever their revision.
const LABEL: &str = "app=istiod";

/// Where the istiods are.
#[derive(Clone)]
pub enum Addresses {
    /// As the `EndpointSlice`s of istiod's Services say. Where none can be asked, nobody is.
    Found(Box<Api<EndpointSlice>>),
    /// At these URLs, each of them one istiod that must answer.
    Given(Vec<String>),
}

/// Asks istiod.
pub struct Istiod {
    access: Arc<Access>,
    streams: Streams,
    route_wait: Duration,
}

/// The ways to the istiods, and what was told there.
struct Access {
    addresses: Addresses,
    token: TokenOf,
    /// Where its certificates are, and its namespace.
    trust: (Api<ConfigMap>, String),
    client: reqwest::Client,
    shared: Mutex<Shared>,
}

/// Where one istiod is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    /// The URL of its debug endpoints.
    debug: String,
    /// The URLs of its streams: with a certificate, and without.
    secure: String,
    plain: String,
}

/// What an istiod is shown.
#[derive(Clone)]
pub enum TokenOf {
    /// A token of this service account, as the API server gives it.
    Account(Box<Api<ServiceAccount>>, String),
    /// What is in a file.
    File(PathBuf),
}

/// What all inquiries share.
#[derive(Default)]
struct Shared {
    /// The token, and until when it is not asked for again.
    token: Option<(Option<String>, Instant)>,
    found: Option<(Vec<Address>, Instant)>,
    trust: Option<(Option<String>, Instant)>,
    statuses: BTreeMap<String, Statuses>,
    /// Proxies by istiod, as last told.
    connected: BTreeMap<String, BTreeSet<String>>,
    /// Proxies that vanished together with their istiod, and when.
    vanished: BTreeMap<String, Instant>,
    has_answered: bool,
}

/// The status of all proxies of one istiod, asked for at a time.
#[derive(Clone)]
struct Statuses {
    at: Instant,
    told: Arc<OnceCell<Result<Arc<Vec<ProxyStatus>>, Failure>>>,
}

impl Istiod {
    /// Asks the istiods of a namespace at these addresses, with that token, where it can be had. Within `route_wait` every proxy
    /// has a route, unless istiod says otherwise.
    pub fn new(
        (kubernetes, namespace): (&kube::Client, &str),
        addresses: Addresses,
        token: TokenOf,
        route_wait: Duration,
    ) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        let trust = (Api::namespaced(kubernetes.clone(), namespace), namespace.to_owned());
        let access = Arc::new(Access { addresses, token, trust, client, shared: Mutex::default() });
        Ok(Self { access, streams: Streams::default(), route_wait })
    }
}

impl Access {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where each istiod is.
    async fn addresses(&self) -> Result<Vec<Address>, Failure> {
        let api = match &self.addresses {
            Addresses::Given(addresses) => return Ok(addresses.iter().map(|url| given(url)).collect()),
            Addresses::Found(api) => api,
        };
        if let Some((found, at)) = self.shared().found.clone()
            && at.elapsed() < ADDRESSES_KEPT
        {
            return Ok(found);
        }
        let listed = timeout(TIMEOUT, api.list(&ListParams::default().labels(LABEL))).await;
        let (message, is_refusal) = match listed {
            Ok(Ok(slices)) => {
                let found: Vec<Address> =
                    slices.items.iter().flat_map(found).collect::<BTreeSet<_>>().into_iter().collect();
                self.shared().found = Some((found.clone(), Instant::now()));
                return Ok(found);
            }
            Ok(Err(error)) => (error.to_string(), is_refusal(&error)),
            Err(_) => ("no answer in time".into(), false),
        };
        let mut shared = self.shared();
        // An API server that is away takes no istiod away.
        if let Some((found, at)) = shared.found.as_mut().filter(|_| !is_refusal) {
            *at = Instant::now();
            return Ok(found.clone());
        }
        Err(Failure { message: format!("the EndpointSlices of istiod cannot be listed: {message}"), is_refusal })
    }

    /// The token, which is had anew in time: where it cannot be, the one before is good for a while yet.
    async fn token(&self) -> Option<String> {
        let (accounts, name) = match &self.token {
            TokenOf::File(path) => return std::fs::read_to_string(path).ok().map(|token| token.trim().to_owned()),
            TokenOf::Account(accounts, name) => (accounts, name),
        };
        let before = self.shared().token.clone();
        if let Some((token, until)) = &before
            && Instant::now() < *until
        {
            return token.clone();
        }
        let spec = TokenRequestSpec {
            audiences: Some(vec![AUDIENCE.into()]),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = timeout(TIMEOUT, accounts.create_token_request(name, &PostParams::default(), &request)).await;
        let fresh = answer.ok().and_then(Result::ok).and_then(|answer| answer.status).and_then(|status| status.token);
        let kept = if fresh.is_some() { TOKEN_KEPT } else { REFUSAL_KEPT };
        let token = fresh.or_else(|| before.and_then(|(token, _)| token));
        self.shared().token = Some((token.clone(), Instant::now() + kept));
        token
    }

    /// The certificates that vouch for istiod, where they can be had.
    async fn trust(&self) -> Option<String> {
        if let Some((trust, at)) = self.shared().trust.clone()
            && at.elapsed() < if trust.is_some() { TRUST_KEPT } else { REFUSAL_KEPT }
        {
            return trust;
        }
        let (name, key) = TRUST;
        let answer = timeout(TIMEOUT, self.trust.0.get_opt(name)).await;
        let found = answer.ok().and_then(Result::ok).flatten();
        let trust = found.and_then(|found| found.data?.remove(key));
        self.shared().trust = Some((trust.clone(), Instant::now()));
        trust
    }

    async fn get<T: DeserializeOwned>(&self, address: &str, path: &str) -> Result<T, Failure> {
        let failure =
            |message: String| Failure { message: format!("istiod at {address}: {message}"), is_refusal: false };
        let mut request = self.client.get(format!("{}{path}", address.trim_end_matches('/')));
        if let Some(token) = self.token().await {
            request = request.bearer_auth(token);
        }
        let asked = async {
            let response = request.send().await.map_err(|error| failure(root(&error)))?;
            let status = response.status();
            if !status.is_success() {
                let hint = match status.as_u16() {
                    401 => "; it wants a token with the audience istio-ca",
                    403 | 404 => "; it tells of all proxies to service accounts of its own namespace",
                    _ => "",
                };
                let is_refusal = status.is_client_error();
                return Err(Failure { is_refusal, ..failure(format!("HTTP {status}{hint}")) });
            }
            let body = read(response, ANSWER_MOST).await.map_err(failure)?;
            serde_json::from_slice(&body).map_err(|error| failure(format!("an answer that is not istiod's: {error}")))
        };
        timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err(failure("no answer in time".into())))
    }

    /// The status of all proxies of one istiod, a moment old at most.
    async fn statuses_at(&self, address: &str) -> (Instant, Result<Arc<Vec<ProxyStatus>>, Failure>) {
        let statuses = {
            let mut shared = self.shared();
            let now = Instant::now();
            let fresh = shared.statuses.get(address).filter(|one| now.duration_since(one.at) < STATUS_KEPT).cloned();
            fresh.unwrap_or_else(|| {
                let new = Statuses { at: now, told: Arc::default() };
                shared.statuses.insert(address.to_owned(), new.clone());
                new
            })
        };
        let told =
            statuses.told.get_or_init(|| async { self.get(address, "/debug/syncz").await.map(Arc::new) }).await.clone();
        if let Ok(told) = &told {
            self.connected(address, told);
        }
        (statuses.at, told)
    }

    /// Takes note of who is connected, and of who vanished together with most others of an istiod.
    fn connected(&self, address: &str, told: &[ProxyStatus]) {
        let now: BTreeSet<String> = told.iter().map(|one| one.proxy.clone()).collect();
        let mut shared = self.shared();
        shared.has_answered = true;
        let before = shared.connected.insert(address.to_owned(), now.clone()).unwrap_or_default();
        let gone: Vec<&String> = before.difference(&now).collect();
        if gone.len() * 2 >= before.len() {
            shared.vanished.extend(gone.into_iter().map(|proxy| (proxy.clone(), Instant::now())));
        }
        shared.vanished.retain(|proxy, at| at.elapsed() < RECONNECTING && !now.contains(proxy));
    }

    /// Takes note of istiods that are gone, and tells which of their proxies are not back yet.
    fn vanished_from(&self, addresses: &[&str]) -> Vec<String> {
        let mut shared = self.shared();
        let gone: Vec<String> =
            shared.connected.keys().filter(|one| !addresses.contains(&one.as_str())).cloned().collect();
        for address in gone {
            let proxies = shared.connected.remove(&address).unwrap_or_default();
            let elsewhere: BTreeSet<String> = shared.connected.values().flatten().cloned().collect();
            let left = proxies.into_iter().filter(|proxy| !elsewhere.contains(proxy));
            shared.vanished.extend(left.map(|proxy| (proxy, Instant::now())));
        }
        shared.vanished.retain(|_, at| at.elapsed() < RECONNECTING);
        shared.vanished.keys().cloned().collect()
    }
}

/// Whether the API server understood a question and does not answer it, now or later.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code))
}

/// Where the endpoints of a slice are that serve.
fn found(slice: &EndpointSlice) -> Vec<Address> {
    let port = |name: &str| slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name))?.port;
    let Some(debug) = port(DEBUG_PORT) else { return Vec::new() };
    let serves = |one: &&k8s_openapi::api::discovery::v1::Endpoint| {
        one.conditions.as_ref().is_none_or(|conditions| conditions.serving.or(conditions.ready).unwrap_or(true))
    };
    let addresses = slice.endpoints.iter().flatten().filter(serves).flat_map(|endpoint| &endpoint.addresses);
    let host = |address: &String| if address.contains(':') { format!("[{address}]") } else { address.clone() };
    let of_stream = |(name, number)| port(name).unwrap_or(number);
    let address = |host: String| Address {
        debug: format!("http://{host}:{debug}"),
        secure: format!("https://{host}:{}", of_stream(SECURE_PORT)),
        plain: format!("http://{host}:{}", of_stream(PLAIN_PORT)),
    };
    addresses.map(host).map(address).collect()
}

/// An istiod whose debug endpoints are at a URL: its streams are at the ports that istiods have them at.
fn given(url: &str) -> Address {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        Some(_) | None => authority,
    };
    Address {
        debug: url.to_owned(),
        secure: format!("https://{host}:{}", SECURE_PORT.1),
        plain: format!("http://{host}:{}", PLAIN_PORT.1),
    }
}

impl Ways for Access {
    fn ways<'a>(&'a self, istiod: &'a str) -> BoxFuture<'a, Vec<Way>> {
        async move {
            let addresses = self.addresses().await.unwrap_or_default();
            let Some(address) = addresses.into_iter().find(|one| one.debug == istiod) else {
                return Vec::new();
            };
            let (token, trust) = (self.token().await, self.trust().await);
            let secure = trust.map(|certificates| Way {
                url: address.secure,
                trust: Some((certificates, format!("istiod.{}.svc", self.trust.1))),
                token,
            });
            secure.into_iter().chain([Way { url: address.plain, trust: None, token: None }]).collect()
        }
        .boxed()
    }

    fn namespace(&self) -> String {
        self.trust.1.clone()
    }
}

impl Source for Istiod {
    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Told>, Failure>> {
        async {
            let addresses = self.access.addresses().await?;
            if addresses.is_empty() {
                return Err(Failure { message: "no istiod is ready".to_owned(), is_refusal: false });
            }
            let istiods: Vec<String> = addresses.into_iter().map(|address| address.debug).collect();
            self.streams.keep(&istiods);
            let told = join_all(istiods.iter().map(|istiod| self.access.statuses_at(istiod))).await;
            istiods.into_iter().zip(told).map(|(istiod, (at, told))| Ok(Told { istiod, at, proxies: told? })).collect()
        }
        .boxed()
    }

    fn shown<'a>(&'a self, istiod: &'a str, asked: (&'a Question, Instant)) -> BoxFuture<'a, Result<Shown, Failure>> {
        async move {
            let shown = self.streams.shown(&self.access, istiod, asked).await;
            // Where there never was a stream, none is offered.
            let is_refusal = !self.streams.has_connected();
            shown.map_err(|why| Failure { message: format!("istiod at {istiod} sends nothing: {why}"), is_refusal })
        }
        .boxed()
    }

    fn scope<'a>(&'a self, istiod: &'a str, proxy: &'a str) -> BoxFuture<'a, Result<Scope, Failure>> {
        let path = format!("/debug/sidecarz?proxyID={}", escaped(proxy));
        async move { self.access.get(istiod, &path).await }.boxed()
    }

    fn dump<'a>(&'a self, istiod: &'a str, proxy: &'a str, kinds: &'a str) -> BoxFuture<'a, Result<Dump, Failure>> {
        let path = format!("/debug/config_dump?proxyID={}&types={kinds}", escaped(proxy));
        async move { self.access.get(istiod, &path).await }.boxed()
    }

    fn vanished(&self, told: &[Told]) -> Vec<String> {
        self.access.vanished_from(&told.iter().map(|one| one.istiod.as_str()).collect::<Vec<_>>())
    }

    /// An istiod that does not answer must, where it was named or has answered before.
    fn failed(&self, failure: Failure) -> Answer {
        let is_given = matches!(self.access.addresses, Addresses::Given(_));
        if is_given || (self.access.shared().has_answered && !failure.is_refusal) {
            Answer::Missing(failure.message)
        } else {
            Answer::Unoffered(failure.message)
        }
    }

    fn route_wait(&self) -> Duration {
        self.route_wait
    }
}

fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::IntoResponse;
    use axum::routing::get;
    use serde_json::json;

    use super::super::Proxies as _;
    use super::super::search::Searches;
    use super::super::stream::fake::Fake;
    use super::super::xds::{ENDPOINTS, samples};
    use super::*;

    async fn serve(app: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    /// The debug endpoints of an istiod with one proxy, which tells scopes by this status.
    fn debug(scope: StatusCode) -> Router {
        let is_right = |headers: &HeaderMap| headers.get("authorization").is_some_and(|value| value == "Bearer t0ken");
        let status = move |headers: HeaderMap| async move {
            if is_right(&headers) {
                json!([{"proxy": "gw-1.istio-system", "proxy_type": "router"}]).to_string().into_response()
            } else {
                StatusCode::UNAUTHORIZED.into_response()
            }
        };
        Router::new()
            .route("/debug/syncz", get(status))
            .route("/debug/sidecarz", get(move || std::future::ready((scope, "{}"))))
            .route("/debug/config_dump", get(|| std::future::ready("{}")))
    }

    fn port(url: &str) -> i32 {
        url.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// The API server of a cluster with an istiod at these ports, which gives tokens away.
    async fn kubernetes(debug: &str, stream: i32) -> kube::Client {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": {},
            "items": [{
                "metadata": {"name": "istiod-1"}, "addressType": "IPv4",
                "ports": [{"name": "grpc-xds", "port": stream}, {"name": "http-monitoring", "port": port(debug)}],
                "endpoints": [
                    {"addresses": ["127.0.0.1"], "conditions": {"ready": true, "serving": true}},
                    {"addresses": ["127.0.0.9"], "conditions": {"ready": false, "serving": false}},
                ],
            }],
        });
        let token = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["istio-ca"]},
            "status": {"token": "t0ken", "expirationTimestamp": "2026-11-22T10:00:00Z"},
        });
        let slices = "/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices";
        let tokens = "/api/v1/namespaces/istio-system/serviceaccounts/serin-proxies/token";
        let app = Router::new()
            .route(slices, get(move || std::future::ready(slice.to_string())))
            .route(tokens, axum::routing::post(move || std::future::ready(token.to_string())));
        client(&serve(app).await)
    }

    fn client(url: &str) -> kube::Client {
        crate::controller::use_ring();
        kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
    }

    fn searches(client: &kube::Client, addresses: Addresses, token: TokenOf) -> Searches<Istiod> {
        let istiod = Istiod::new((client, "istio-system"), addresses, token, Duration::from_secs(2));
        Searches(Arc::new(istiod.unwrap()))
    }

    fn found(client: &kube::Client, account: &str) -> Searches<Istiod> {
        let token = TokenOf::Account(Box::new(Api::namespaced(client.clone(), "istio-system")), account.into());
        searches(client, Addresses::Found(Box::new(Api::namespaced(client.clone(), "istio-system"))), token)
    }

    /// A stream on which there are the endpoints of the API server.
    async fn stream() -> i32 {
        let (istiod, url) = Fake::serve().await;
        let name = "outbound|443||kubernetes.default.svc.cluster.local";
        istiod.push(1, &[(name, ENDPOINTS, &samples::endpoints(name, &[]))]);
        port(&url)
    }

    #[tokio::test]
    async fn an_istiod_is_found_and_shown_a_token() {
        let client = kubernetes(&serve(debug(StatusCode::OK)).await, stream().await).await;
        let found = found(&client, "serin-proxies");
        assert_eq!(found.refusal().await, None);
        let answer = found.inquire(Question::default(), Duration::ZERO).look().await;
        assert_eq!(answer, Answer::Missing("istiod does not send the route to anybody yet".into()));
    }

    #[tokio::test]
    async fn who_is_refused_asks_nobody_and_says_why() {
        let client = kubernetes(&serve(debug(StatusCode::OK)).await, stream().await).await;
        let why = found(&client, "another").refusal().await.unwrap();
        assert!(why.contains("401") && why.contains("istio-ca"), "{why}");
        let client = kubernetes(&serve(debug(StatusCode::NOT_FOUND)).await, stream().await).await;
        let why = found(&client, "serin-proxies").refusal().await.unwrap();
        assert!(why.contains("404") && why.contains("its own namespace"), "{why}");
        let client = kubernetes(&serve(debug(StatusCode::OK)).await, 1).await;
        let why = found(&client, "serin-proxies").refusal().await.unwrap();
        assert!(why.contains("sends nothing: http://127.0.0.1:1"), "{why}");
        let none = Router::new().route("/", get(|| async { "" }));
        let why = found(&self::client(&serve(none).await), "serin-proxies").refusal().await.unwrap();
        assert!(why.contains("EndpointSlices"), "{why}");
    }

    #[tokio::test]
    async fn an_istiod_that_is_named_must_answer() {
        let given = Addresses::Given(vec!["http://127.0.0.1:1".into()]);
        let away = searches(&client("http://127.0.0.1:1"), given, TokenOf::File("/nowhere".into()));
        assert_eq!(away.refusal().await, None);
        let answer = away.inquire(Question::default(), Duration::ZERO).look().await;
        assert!(matches!(&answer, Answer::Missing(why) if why.contains("refused")), "{answer:?}");
    }

    #[tokio::test]
    async fn an_api_server_that_is_away_takes_no_istiod_away() {
        let all = kubernetes(&serve(debug(StatusCode::OK)).await, 15010).await;
        let away = client(&serve(Router::new().fallback(|| async { StatusCode::SERVICE_UNAVAILABLE })).await);
        let known = found(&all, "serin-proxies").0.access.clone();
        let (addresses, token) = (known.addresses().await.unwrap(), known.token().await);
        assert_eq!((addresses.len(), token.as_deref()), (1, Some("t0ken")));
        let source = found(&away, "serin-proxies").0;
        let failure = source.access.addresses().await.unwrap_err();
        assert!(!failure.is_refusal, "{}", failure.message);
        assert_eq!(source.access.token().await, None);
        source.access.shared().has_answered = true;
        assert!(matches!(source.failed(failure), Answer::Missing(_)), "one that has answered is one that must");
        // What was known before is long ago.
        let long_ago = Instant::now().checked_sub(ADDRESSES_KEPT).unwrap();
        source.access.shared().found = Some((addresses.clone(), long_ago));
        source.access.shared().token = Some((token.clone(), long_ago));
        assert_eq!(source.access.addresses().await.unwrap(), addresses);
        assert_eq!(source.access.token().await, token);
    }

    #[test]
    fn streams_are_beside_the_debug_endpoints() {
        for (url, host) in [
            ("http://istiod.example:15014", "istiod.example"),
            ("https://[::1]:8080/", "[::1]"),
            ("http://[::1]", "[::1]"),
            ("http://istiod", "istiod"),
        ] {
            let address = given(url);
            let wanted = (format!("https://{host}:15012"), format!("http://{host}:15010"));
            assert_eq!((address.secure, address.plain), wanted, "{url}");
        }
    }

    #[tokio::test]
    async fn proxies_that_vanish_with_their_istiod_are_waited_for() {
        let client = client("http://127.0.0.1:1");
        let source = searches(&client, Addresses::Given(Vec::new()), TokenOf::File("/nowhere".into()));
        let source = &source.0.access;
        let proxies = |names: &[&str]| -> Vec<ProxyStatus> {
            names.iter().map(|name| serde_json::from_value(json!({"proxy": name})).unwrap()).collect()
        };
        source.connected("one", &proxies(&["a", "b", "c", "d"]));
        source.connected("one", &proxies(&["a", "b", "c"]));
        assert_eq!(source.vanished_from(&["one"]), Vec::<String>::new(), "a pod went");
        source.connected("one", &proxies(&[]));
        assert_eq!(source.vanished_from(&["one"]), ["a", "b", "c"], "it started again");
        source.connected("two", &proxies(&["a", "b", "c"]));
        assert_eq!(source.vanished_from(&["one", "two"]), Vec::<String>::new(), "they are at another one");
        assert_eq!(source.vanished_from(&["one"]), ["a", "b", "c"], "which is gone");
    }
}
