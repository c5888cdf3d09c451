//! The stream on which an istiod sends a proxy its configuration: Serin is one more proxy, without any traffic, that asks for the
//! routes and endpoints of the Rollouts under way, and for nothing else.
//!
//! The protocol is Envoy's aggregated discovery service, in its variant with the whole state in each response:
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>. A nonce of istiod is `TIME/NUMBER` of the push and a UUID.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_prost::ProstCodec;

use super::replica::number;
use super::seen::{Seen, Shown};
use super::xds::{DiscoveryRequest, DiscoveryResponse, ENDPOINTS, Node, ROUTES, Struct};
use crate::plan::route::Question;

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
/// How long it takes at most to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a look waits for what istiod sends, and how long endpoints may take after the first of them came.
const FIRST: Duration = Duration::from_secs(3);
const ABSENT: Duration = Duration::from_secs(2);
/// The wait before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// A stream on which nothing comes is asked for a sign this often.
const ALIVE: Duration = Duration::from_secs(10);
/// How long something is wanted after it was last asked about: as long as a step may take until the next question.
const WANTED_FOR: Duration = Duration::from_mins(15);
/// Bytes of a response.
const RESPONSE_MOST: usize = 64 << 20;

/// A way to an istiod.
#[derive(Clone)]
pub struct Way {
    /// Its URL: `https` where it shows a certificate.
    pub url: String,
    /// The certificates that vouch for it, as PEM, and the name that its own has.
    pub trust: Option<(String, String)>,
    /// What it is shown.
    pub token: Option<String>,
}

/// Tells the ways to an istiod, the best first.
pub trait Ways: Send + Sync + 'static {
    /// The ways to the istiod at an address.
    fn ways<'a>(&'a self, istiod: &'a str) -> BoxFuture<'a, Vec<Way>>;

    /// The namespace that Serin has as a proxy.
    fn namespace(&self) -> String;
}

/// A stream to each istiod that is asked.
#[derive(Default)]
pub struct Streams {
    all: Mutex<BTreeMap<String, Stream>>,
    /// Whether one was ever there.
    has_connected: Arc<AtomicBool>,
}

struct Stream {
    /// What is wanted, and when it was last asked about.
    wanted: watch::Sender<Wishes>,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Names of resources, and when each was last asked about.
type Wishes = BTreeMap<String, Instant>;

/// What came on a stream.
#[derive(Default)]
struct State {
    seen: Seen,
    /// When a response last came after endpoints were asked for anew: what was not in it by then is not there.
    asked: Option<Instant>,
    /// Why there is no stream.
    failure: Option<String>,
}

impl State {
    /// What is sent of a route, once that is known.
    fn told(&self, question: &Question, since: Instant) -> Option<Result<Shown, String>> {
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        let has_all = question.clusters.iter().all(|name| self.seen.has(name))
            || self.asked.is_some_and(|at| at.elapsed() >= ABSENT);
        let is_known = has_all && question.listeners.iter().all(|name| self.seen.has(name));
        is_known.then(|| Ok(self.seen.shown(question, since)))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    /// Whether an istiod was ever reached.
    pub fn has_connected(&self) -> bool {
        self.has_connected.load(Ordering::Relaxed)
    }

    /// Ends the streams to istiods that are gone.
    pub fn keep(&self, istiods: &[String]) {
        locked(&self.all).retain(|istiod, _| istiods.contains(istiod));
    }

    /// What an istiod sends of a route that is asked about since a time, as soon as that is known.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    pub async fn shown(
        &self,
        ways: &Arc<impl Ways>,
        istiod: &str,
        (question, since): (&Question, Instant),
    ) -> Result<Shown, String> {
        let mut state = self.wanted(ways, istiod, question);
        let known = async {
            loop {
                let told = state.borrow_and_update().told(question, since);
                if let Some(told) = told {
                    return told;
                }
                if state.changed().await.is_err() {
                    return Err("the stream has ended".to_owned());
                }
            }
        };
        if let Ok(told) = timeout(FIRST, known).await {
            return told;
        }
        let told = state.borrow().told(question, since);
        told.unwrap_or_else(|| Err("it does not tell which routes it sends".to_owned()))
    }

    /// Asks for what a question is about.
    fn wanted(&self, ways: &Arc<impl Ways>, istiod: &str, question: &Question) -> watch::Receiver<State> {
        let mut all = locked(&self.all);
        all.retain(|_, stream| !stream.task.is_finished());
        let stream = all.entry(istiod.to_owned()).or_insert_with(|| {
            let (wanted, wishes) = watch::channel(BTreeMap::new());
            let (told, state) = watch::channel(State::default());
            let client = Client {
                ways: ways.clone(),
                istiod: istiod.to_owned(),
                wishes,
                told,
                has_connected: self.has_connected.clone(),
            };
            Stream { wanted, state, task: tokio::spawn(client.run()) }
        });
        let now = Instant::now();
        let names = question.listeners.iter().chain(&question.clusters);
        stream.wanted.send_if_modified(|wanted| {
            let before = wanted.len();
            wanted.retain(|_, at| now.duration_since(*at) < WANTED_FOR);
            let mut is_new = wanted.len() != before;
            for name in names {
                is_new |= wanted.insert(name.clone(), now).is_none();
            }
            is_new
        });
        stream.state.clone()
    }
}

/// Keeps one stream.
struct Client<W> {
    ways: Arc<W>,
    istiod: String,
    wishes: watch::Receiver<Wishes>,
    told: watch::Sender<State>,
    has_connected: Arc<AtomicBool>,
}

impl<W: Ways> Client<W> {
    /// Connects again whenever the stream ends; what was seen on an earlier one says nothing of the pushes of this one.
    async fn run(mut self) {
        loop {
            let mut why = "there is no way to it".to_owned();
            for way in self.ways.ways(&self.istiod).await {
                let ended = self.stream(&way).await;
                self.told.send_replace(State::default());
                match ended {
                    Ok(()) => return,
                    Err(failure) => why = format!("{}: {failure}", way.url),
                }
                tracing::debug!(istiod = %self.istiod, %why, "there is no stream");
            }
            self.told.send_replace(State { failure: Some(why), ..State::default() });
            sleep(AGAIN).await;
        }
    }

    /// One stream, until it fails or nobody wants it any more.
    async fn stream(&mut self, way: &Way) -> Result<(), String> {
        let channel = connect(way).await?;
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(RESPONSE_MOST);
        client.ready().await.map_err(|error| error.to_string())?;
        let (requests, outbound) = unbounded();
        let mut request = tonic::Request::new(outbound);
        if let Some(token) = &way.token {
            let value: MetadataValue<Ascii> =
                format!("Bearer {token}").parse().map_err(|_| "a token of strange characters".to_owned())?;
            request.metadata_mut().insert("authorization", value);
        }
        let codec: ProstCodec<DiscoveryRequest, DiscoveryResponse> = ProstCodec::default();
        let mut talk = Talk { requests, namespace: self.ways.namespace(), types: BTreeMap::new() };
        talk.ask(&self.wishes.borrow_and_update())?;
        let answer = client.streaming(request, PathAndQuery::from_static(METHOD), codec).await;
        let mut inbound = answer.map_err(|status| status.message().to_owned())?.into_inner();
        while self.wishes.borrow().values().any(|at| at.elapsed() < WANTED_FOR) {
            tokio::select! {
                () = sleep(WANTED_FOR) => {}
                message = inbound.message() => {
                    let message = message.map_err(|status| status.message().to_owned())?;
                    let Some(message) = message else { return Err("istiod has ended the stream".to_owned()) };
                    self.has_connected.store(true, Ordering::Relaxed);
                    let mut taken = Ok(());
                    self.told.send_modify(|state| {
                        state.failure = None;
                        taken = talk.take(&message, state);
                    });
                    taken?;
                }
                changed = self.wishes.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let wanted = self.wishes.borrow_and_update().clone();
                    let is_new = talk.ask(&wanted)?;
                    self.told.send_if_modified(|state| {
                        state.seen.keep(|name| wanted.contains_key(name));
                        state.asked = state.asked.filter(|_| !is_new);
                        false
                    });
                }
            }
        }
        Ok(())
    }
}

async fn connect(way: &Way) -> Result<Channel, String> {
    let told = |error: tonic::transport::Error| crate::controller::measure::prometheus::root(&error);
    let endpoint = Endpoint::from_shared(way.url.clone()).map_err(told)?;
    let endpoint = endpoint.connect_timeout(CONNECT).http2_keep_alive_interval(ALIVE).keep_alive_while_idle(true);
    let endpoint = match &way.trust {
        Some((certificates, name)) => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates)).domain_name(name);
            endpoint.tls_config(tls).map_err(told)?
        }
        None => endpoint,
    };
    timeout(CONNECT, endpoint.connect()).await.map_err(|_| "no answer in time".to_owned())?.map_err(told)
}

/// What is said on one stream.
struct Talk {
    requests: UnboundedSender<DiscoveryRequest>,
    namespace: String,
    /// What is subscribed to of each type, and what was acknowledged last.
    types: BTreeMap<&'static str, Subscription>,
}

#[derive(Default)]
struct Subscription {
    names: BTreeSet<String>,
    version: String,
    nonce: String,
}

impl Talk {
    /// Subscribes to what is wanted; whether that is something else than before.
    fn ask(&mut self, wanted: &Wishes) -> Result<bool, String> {
        let mut is_new = false;
        for kind in [ROUTES, ENDPOINTS] {
            // A cluster's name has bars, a listener's has none.
            let names = wanted.keys().filter(|name| name.contains('|') == (kind == ENDPOINTS)).cloned().collect();
            let subscription = self.types.entry(kind).or_default();
            if subscription.names != names {
                subscription.names = names;
                self.send(kind)?;
                is_new = true;
            }
        }
        Ok(is_new)
    }

    /// Takes a response, and acknowledges it.
    fn take(&mut self, message: &DiscoveryResponse, state: &mut State) -> Result<(), String> {
        let Some(kind) = [ROUTES, ENDPOINTS].into_iter().find(|kind| **kind == message.type_url) else {
            return Ok(());
        };
        let number = number(&message.nonce).ok_or("a nonce that is not istiod's")?;
        let now = Instant::now();
        for config in message.configs().map_err(|error| error.to_string())? {
            state.seen.take(config, number, now);
        }
        if kind == ENDPOINTS {
            state.asked.get_or_insert(now);
        }
        let subscription = self.types.entry(kind).or_default();
        subscription.version.clone_from(&message.version_info);
        subscription.nonce.clone_from(&message.nonce);
        self.send(kind)
    }

    fn send(&self, kind: &'static str) -> Result<(), String> {
        let Some(subscription) = self.types.get(kind) else { return Ok(()) };
        let request = DiscoveryRequest {
            version_info: subscription.version.clone(),
            node: Some(self.node()),
            resource_names: subscription.names.iter().cloned().collect(),
            type_url: kind.to_owned(),
            response_nonce: subscription.nonce.clone(),
        };
        self.requests.unbounded_send(request).map_err(|_| "the stream has ended".to_owned())
    }

    /// A proxy of a sidecar that no pod has.
    fn node(&self) -> Node {
        let namespace = &self.namespace;
        Node {
            id: format!("sidecar~127.0.0.1~{NAME}.{namespace}~{namespace}.svc.cluster.local"),
            cluster: NAME.to_owned(),
            metadata: Some(Struct::of_texts([("NAMESPACE", namespace.as_str())])),
        }
    }
}

/// Its name as a proxy: no pod can have it.
pub const NAME: &str = "serin:controller";

#[cfg(test)]
pub(super) mod fake;

#[cfg(test)]
mod tests {
    use super::super::xds::samples;
    use super::fake::Fake;
    use super::*;

    struct One(String);

    impl Ways for One {
        fn ways<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Vec<Way>> {
            let dead = Way { url: "http://127.0.0.1:1".into(), trust: None, token: None };
            let alive = Way { url: self.0.clone(), trust: None, token: Some("t0ken".into()) };
            Box::pin(std::future::ready(vec![dead, alive]))
        }

        fn namespace(&self) -> String {
            "istio-system".into()
        }
    }

    fn question(host: &str) -> Question {
        Question {
            listeners: [format!("{host}:80")].into(),
            clusters: [format!("outbound|80|canary|{host}")].into(),
            ..Question::default()
        }
    }

    #[tokio::test]
    async fn what_istiod_sends_is_seen_as_it_comes() {
        crate::controller::use_ring();
        let (istiod, url) = Fake::serve().await;
        let (streams, ways) = (Streams::default(), Arc::new(One(url)));
        let routes = |weight| samples::routes("a:80", "serin", &[("outbound|80|canary|a", weight)]);
        let endpoints = samples::endpoints("outbound|80|canary|a", &["pod;shop;a;hash;Kubernetes"]);
        istiod.push(4, &[("a:80", ROUTES, &routes(10))]);
        istiod.push(5, &[("outbound|80|canary|a", ENDPOINTS, &endpoints)]);
        let began = Instant::now();
        let shown = streams.shown(&ways, "one", (&question("a"), began)).await.unwrap();
        assert!(streams.has_connected());
        assert_eq!(shown.routes.map(|one| one.number), Some(None));
        let weights = BTreeMap::from([("outbound|80|canary|a".to_owned(), 10)]);
        let config = "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/checkout".to_owned();
        let route = super::super::dump::Route::new("serin".into(), Some(config), (None, weights), std::iter::empty());
        assert_eq!(shown.configs[0], super::super::dump::Config::of_routes("a:80".into(), vec![route]));
        assert_eq!(shown.configs[1].revisions(), [Some("hash")].into());
        istiod.push(6, &[("a:80", ROUTES, &routes(20))]);
        istiod.push(7, &[("a:80", ROUTES, &routes(20))]);
        loop {
            let shown = streams.shown(&ways, "one", (&question("a"), began)).await.unwrap();
            if let Some(routes) = shown.routes.filter(|routes| routes.number.is_some()) {
                assert!([Some(6), Some(7)].contains(&routes.number), "{routes:?}");
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let asked = istiod.asked.borrow().clone();
        assert_eq!(asked.0[ROUTES], ["a:80".to_owned()].into());
        assert_eq!(asked.1.as_deref(), Some("Bearer t0ken"));
    }

    #[tokio::test]
    async fn what_istiod_does_not_send_is_not_there_a_while_later() {
        crate::controller::use_ring();
        let (istiod, url) = Fake::serve().await;
        let (streams, ways) = (Streams::default(), Arc::new(One(url)));
        istiod.push(4, &[("a:80", ROUTES, &samples::routes("a:80", "serin", &[]))]);
        let began = Instant::now();
        let shown = streams.shown(&ways, "one", (&question("a"), began)).await.unwrap();
        assert!(began.elapsed() >= ABSENT, "its endpoints may be on their way");
        assert_eq!((shown.configs.len(), shown.endpoints), (1, None));
        let listener = streams.shown(&ways, "one", (&question("b"), began)).await;
        assert_eq!(listener.unwrap_err(), "it does not tell which routes it sends", "if only that there are none");
    }

    #[tokio::test]
    async fn an_istiod_that_cannot_be_reached_is_said_to_be() {
        crate::controller::use_ring();
        let (streams, ways) = (Streams::default(), Arc::new(One("http://127.0.0.1:1".into())));
        let why = streams.shown(&ways, "one", (&question("a"), Instant::now())).await.unwrap_err();
        assert!(why.contains("127.0.0.1:1") && why.contains("refused"), "{why}");
        assert!(!streams.has_connected());
    }
}
