//! The way between one controller and the API server: requests take a moment, and some go wrong as the story says.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Method, Request, Response};
use bytes::Bytes;
use fastrand::Rng;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::Client;
use kube::client::Body;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tower::util::MapRequest;

use super::stage::{LEASE, SYSTEM};
use super::story::Fault;
use crate::controller::client::consistent;
use crate::embedded::Cluster;
use crate::embedded::http::{self, Answer, Service};
use crate::embedded::refusal::Refusal;

/// The longest moment that a request or its answer is on its way, in milliseconds.
const LATENCY_MOST: u64 = 8;

/// What all controllers of a run share: the number of requests, what goes wrong, and what did.
pub struct Faults {
    planned: BTreeMap<u64, Fault>,
    requests: AtomicU64,
    is_fair: AtomicBool,
    chance: Mutex<Rng>,
    outage: Mutex<Option<Instant>>,
    lease_hangs: Mutex<BTreeMap<u8, Instant>>,
    status_refused: Mutex<Option<Instant>>,
    late: Mutex<BTreeMap<String, Instant>>,
    trespasses: Mutex<Vec<String>>,
    injected: Mutex<BTreeMap<String, u64>>,
    kills: mpsc::UnboundedSender<Kill>,
}

/// A controller that is to be killed, and when it starts again.
pub struct Kill {
    /// The controller.
    pub controller: u8,
    /// Milliseconds until it starts again.
    pub pause: u64,
}

impl Faults {
    /// Faults by the number of the request; kills are told to the second value.
    pub fn new(planned: BTreeMap<u64, Fault>, seed: u64) -> (Arc<Self>, mpsc::UnboundedReceiver<Kill>) {
        let (kills, killed) = mpsc::unbounded_channel();
        let faults = Self {
            planned,
            requests: AtomicU64::new(0),
            is_fair: AtomicBool::new(false),
            chance: Mutex::new(Rng::with_seed(seed)),
            outage: Mutex::default(),
            lease_hangs: Mutex::default(),
            status_refused: Mutex::default(),
            late: Mutex::default(),
            trespasses: Mutex::default(),
            injected: Mutex::default(),
            kills,
        };
        (Arc::new(faults), killed)
    }

    /// Nothing goes wrong any more.
    pub fn end(&self) {
        self.is_fair.store(true, Ordering::Relaxed);
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.status_refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Nothing is answered until then.
    pub fn begin_outage(&self, until: Instant) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// No request of a controller for the Lease is answered until then.
    pub fn hang_lease(&self, controller: u8, until: Instant) {
        self.lease_hangs.lock().unwrap_or_else(PoisonError::into_inner).insert(controller, until);
    }

    fn lease_hangs(&self, controller: u8) -> Option<Instant> {
        let hangs = self.lease_hangs.lock().unwrap_or_else(PoisonError::into_inner);
        hangs.get(&controller).copied().filter(|_| !self.is_fair.load(Ordering::Relaxed))
    }

    /// Every write of a Rollout's status is refused until then.
    pub fn refuse_status(&self, until: Instant) {
        *self.status_refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn refuses(&self, request: &Request<Body>) -> bool {
        let until = *self.status_refused.lock().unwrap_or_else(PoisonError::into_inner);
        let is_status = request.uri().path().ends_with("/status") && request.uri().path().contains("/rollouts/");
        is_status && request.method() != Method::GET && until.is_some_and(|until| until > Instant::now())
    }

    /// When the write of an object that has just arrived late was sent.
    pub fn sent_late(&self, plural: &str, name: &str) -> Option<Instant> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let path = late.keys().find(|path| path.ends_with(&format!("/{plural}/{name}"))).cloned()?;
        late.remove(&path)
    }

    /// Writes that arrived when another controller had the Lease.
    pub fn trespasses(&self) -> Vec<String> {
        self.trespasses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn outage(&self) -> Option<Instant> {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one thing that went wrong.
    pub fn count(&self, word: &str) {
        let mut injected = self.injected.lock().unwrap_or_else(PoisonError::into_inner);
        *injected.entry(word.to_owned()).or_insert(0) += 1;
    }

    /// What went wrong so far, and how often.
    pub fn injected(&self) -> BTreeMap<String, u64> {
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests so far, watches left out.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn next(&self) -> Option<Fault> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let fault = self.planned.get(&number).copied().filter(|_| !self.is_fair.load(Ordering::Relaxed));
        if let Some(fault) = &fault {
            self.count(&fault.word());
        }
        fault
    }

    fn latency(&self) -> Duration {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_millis(chance.u64(1..=LATENCY_MOST))
    }
}

/// One controller's connection; cut once and for all when the controller is killed.
pub struct Link {
    controller: u8,
    /// Numbers the starts of all controllers.
    pub start: u64,
    faults: Arc<Faults>,
    is_cut: AtomicBool,
    cut: Notify,
}

impl Link {
    /// A connection of a controller.
    pub fn new(controller: u8, start: u64, faults: &Arc<Faults>) -> Arc<Self> {
        let link =
            Self { controller, start, faults: faults.clone(), is_cut: AtomicBool::new(false), cut: Notify::new() };
        Arc::new(link)
    }

    /// Nothing goes through any more.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.cut.notify_waiters();
    }

    /// Whether it is cut.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// A client that speaks through it.
    pub fn client(self: &Arc<Self>, cluster: &Cluster, namespace: &str) -> Client {
        let wire = Wire { link: self.clone(), cluster: cluster.clone(), server: Service::new(cluster.clone()) };
        Client::new(MapRequest::new(wire, consistent), namespace)
    }

    /// Waits for what is in the way; for ever once the connection is cut.
    async fn travel(&self) {
        sleep(self.faults.latency()).await;
        while let Some(until) = self.faults.outage().filter(|until| *until > Instant::now()) {
            self.faults.count("request in an outage");
            sleep_until(until).await;
        }
        if self.is_cut() {
            std::future::pending::<()>().await;
        }
    }

    async fn kill(&self, pause: u64) -> io::Result<Answer> {
        self.cut();
        let _ = self.faults.kills.send(Kill { controller: self.controller, pause });
        std::future::pending().await
    }
}

/// The service under a controller's client.
#[derive(Clone)]
struct Wire {
    link: Arc<Link>,
    cluster: Cluster,
    server: Service,
}

impl Wire {
    /// Notes a write of one controller while another has the Lease.
    fn check_lease(&self, request: &Request<Body>) {
        let own = format!("controller-{}-", self.link.controller);
        let lease = self.cluster.get("leases", SYSTEM, LEASE);
        let holder = lease.as_ref().and_then(|lease| lease.pointer("/spec/holderIdentity")?.as_str());
        let is_write = request.method() != Method::GET && !is_of_lease(request);
        if let Some(holder) = holder.filter(|holder| is_write && !holder.starts_with(&own)) {
            let told = format!("{} {} while {holder} leads: {own}", request.method(), request.uri().path());
            self.link.faults.trespasses.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        }
    }
}

fn is_of_lease(request: &Request<Body>) -> bool {
    request.uri().path().contains("/leases")
}

impl tower::Service<Request<Body>> for Wire {
    type Response = Answer;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Answer>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (wire, link, mut server) = (self.clone(), self.link.clone(), self.server.clone());
        Box::pin(async move {
            link.travel().await;
            if let Some(until) = link.faults.lease_hangs(link.controller).filter(|_| is_of_lease(&request)) {
                sleep_until(until).await;
            }
            let is_watch = request.method() == Method::GET
                && request.uri().query().is_some_and(|query| query.split('&').any(|part| part.starts_with("watch=")));
            if is_watch {
                let (head, body) = server.call(request).await?.into_parts();
                return Ok(Response::from_parts(head, until_cut(body, link)));
            }
            if link.faults.refuses(&request) {
                link.faults.count("status refused");
                return Ok(refused(500));
            }
            match link.faults.next() {
                None => {}
                Some(Fault::Refused(code)) => return Ok(refused(code)),
                Some(Fault::Hangs) => return std::future::pending().await,
                Some(Fault::KilledBefore(pause)) => return link.kill(pause).await,
                Some(Fault::Late(late)) => {
                    // It is on its way, whether or not somebody still waits for the answer.
                    let carried_out = tokio::spawn(async move {
                        let (sent, path) = (Instant::now(), request.uri().path().to_owned());
                        let is_patch = request.method() == Method::PATCH;
                        sleep(Duration::from_millis(late)).await;
                        let answer = server.call(request).await;
                        if is_patch && answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                            link.faults.late.lock().unwrap_or_else(PoisonError::into_inner).insert(path, sent);
                        }
                        answer
                    });
                    return carried_out.await.unwrap_or_else(|error| Err(io::Error::other(error)));
                }
                Some(Fault::AnswerLost) => {
                    wire.check_lease(&request);
                    server.call(request).await?;
                    return Err(io::Error::other("the connection broke before the answer came"));
                }
                Some(Fault::KilledAfter(pause)) => {
                    wire.check_lease(&request);
                    server.call(request).await?;
                    return link.kill(pause).await;
                }
            }
            wire.check_lease(&request);
            let answer = server.call(request).await?;
            link.travel().await;
            Ok(answer)
        })
    }
}

/// A watch's lines, until the connection is cut.
fn until_cut(
    body: UnsyncBoxBody<Bytes, std::convert::Infallible>,
    link: Arc<Link>,
) -> UnsyncBoxBody<Bytes, std::convert::Infallible> {
    let frames = futures::stream::unfold((body, link), |(mut body, link)| async move {
        if link.is_cut() {
            return None;
        }
        let frame = tokio::select! {
            biased;
            () = link.cut.notified() => None,
            frame = body.frame() => frame,
        };
        frame.map(|frame| (frame, (body, link)))
    });
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

fn refused(code: u16) -> Answer {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    http::refused(&Refusal::new(code, reason, &format!("{reason}: a fault of the simulation")))
}
