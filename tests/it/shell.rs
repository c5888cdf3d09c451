//! The whole controller (client, watches, passes, writes) against the embedded API, on virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use serin::api::provider::MetricProviderSpec;
use serin::api::status::Phase;
use serin::api::watched::Rollout;
use serin::controller::client::consistent;
use serin::controller::clock::Clock;
use serin::controller::commit::Sources;
use serin::controller::lease::{Candidate, Leadership};
use serin::controller::measure::Meter;
use serin::controller::notify::Notifications;
use serin::controller::server::Readiness;
use serin::controller::telemetry::Metrics;
use serin::controller::{self, Start};
use serin::embedded::refusal::Refusal;
use serin::embedded::{Cluster, Fault, http, world};
use serin::plan::measurement::{Ask, Query, Sample, WebAnswer};
use serin::plan::observed::Settings;
use serin::sim::story::Answer;
use serin::sim::{counters, gateway};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower::Service as _;
use tower::util::MapRequest;

use crate::support::world::{hash, of_gateway, owned, spec};

/// Time that begins at some moment and passes as tokio's does.
pub fn virtual_clock() -> Clock {
    let began = Instant::now();
    Arc::new(move || {
        let passed = SignedDuration::try_from(began.elapsed()).unwrap();
        Timestamp::from_second(1_000_000).unwrap().checked_add(passed).unwrap()
    })
}

/// Answers every query alike, and counts them.
struct Always(f64, Arc<AtomicUsize>);

impl Meter for Always {
    fn measure(&self, query: Query, _: MetricProviderSpec) -> BoxFuture<'static, Result<Sample, String>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let canary = query.id.split('/').next().unwrap_or_default();
        let parts = counters::Parts { canary, share: 0.2, baseline: 0.2 };
        let sample = match &query.ask {
            Ask::Value(_) => Sample::Vector(vec![self.0]),
            Ask::Web(_) => Sample::Web(WebAnswer { status: 200, values: vec![self.0.into()] }),
            Ask::Counters(asked) => {
                Sample::Counters(counters::answer(asked, parts, 100.0, Answer::Value(1.0 - self.0)))
            }
        };
        async move { Ok(sample) }.boxed()
    }
}

pub struct Running {
    pub cluster: Cluster,
    /// Queries to the provider.
    pub asked: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// A cluster with pods, and a controller that leads as given.
pub fn start(cluster: &Cluster, clock: &Clock, leadership: Leadership, success_rate: f64) -> Running {
    run(cluster, clock, (leadership, controller::readiness()), success_rate)
}

/// The same, whose readiness is looked at.
fn start_with(cluster: &Cluster, clock: &Clock, readiness: Readiness) -> Running {
    run(cluster, clock, (Leadership::alone(), readiness), 1.0)
}

fn run(
    cluster: &Cluster,
    clock: &Clock,
    (leadership, readiness): (Leadership, Readiness),
    success_rate: f64,
) -> Running {
    let client = cluster.client("shop");
    run_with(cluster, clock, (client, None), (leadership, readiness), success_rate)
}

/// The same, over a way of its own to the API server, with people to tell.
pub fn start_telling(
    cluster: &Cluster,
    clock: &Clock,
    client: kube::Client,
    notifications: Notifications,
    success_rate: f64,
) -> Running {
    let leads = (Leadership::alone(), controller::readiness());
    run_with(cluster, clock, (client, Some(notifications)), leads, success_rate)
}

pub fn run_with(
    cluster: &Cluster,
    clock: &Clock,
    (client, notifications): (kube::Client, Option<Notifications>),
    (leadership, readiness): (Leadership, Readiness),
    success_rate: f64,
) -> Running {
    let (stop, stopped) = watch::channel(false);
    let asked = Arc::new(AtomicUsize::new(0));
    let start = Start {
        client,
        namespace: None,
        clock: clock.clone(),
        leadership,
        meter: Arc::new(Always(success_rate, asked.clone())),
        default_provider: Some(MetricProviderSpec::at("http://127.0.0.1:1")),
        proxies: None,
        sources: Sources { flux: true, argo: None },
        settings: Settings { route_wait_ms: 500, drain_ms: 500, ..Settings::default() },
        metrics: Arc::new(Metrics::default()),
        readiness,
        notifications,
        tracer: None,
    };
    Running { cluster: cluster.clone(), asked, stop, task: tokio::spawn(controller::run(start, stopped)) }
}

/// What meets a request on its way.
#[derive(Clone, Copy)]
pub enum Met {
    /// It is refused with this status code.
    Refusal(u16),
    /// It is never answered.
    Silence,
    /// It takes this long to arrive.
    Delay(Duration),
}

/// A client some of whose requests meet something.
pub fn client_with(
    cluster: &Cluster,
    meets: impl Fn(&str, &str) -> Option<Met> + Send + Sync + 'static,
) -> kube::Client {
    let (server, meets) = (http::Service::new(cluster.clone()), Arc::new(meets));
    let service = tower::service_fn(move |request: ::http::Request<Body>| {
        let (mut server, meets) = (server.clone(), meets.clone());
        async move {
            match meets(request.method().as_str(), request.uri().path()) {
                Some(Met::Refusal(code)) => Ok(http::refused(&Refusal::new(code, "Forbidden", "not here"))),
                Some(Met::Silence) => std::future::pending().await,
                Some(Met::Delay(time)) => {
                    sleep(time).await;
                    server.call(request).await
                }
                None => server.call(request).await,
            }
        }
    });
    kube::Client::new(MapRequest::new(service, consistent), "shop")
}

pub fn cluster(clock: &Clock) -> Cluster {
    let cluster = Cluster::new(clock.clone());
    tokio::spawn(world::run(cluster.clone(), SignedDuration::from_millis(200)));
    let metric = |name: &str| {
        json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": name, "namespace": "shop"}, "spec": {"metrics": [
            {"name": name, "interval": "1s", "count": 3, "successCondition": "result[0] >= 0.95", "prometheus": {"query": "rate"}}]}})
    };
    cluster.apply("analysistemplates", &metric("success-rate")).unwrap();
    cluster.apply("analysistemplates", &metric("background")).unwrap();
    cluster
}

pub fn rollout(name: &str, image: &str) -> Value {
    let mut spec = spec(image, 3, &owned());
    spec["strategy"]["canary"]["trafficRouting"]["istio"] = json!({"owned": {"host": name, "hosts": [name]}});
    json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": {"app": "checkout"}}})
}

impl Running {
    pub fn rollout(&self, name: &str) -> Rollout {
        Rollout::deserialize(&*self.cluster.get("rollouts", "shop", name).unwrap()).unwrap()
    }

    pub fn given(&self, name: &str, image: &str) {
        self.cluster.apply("services", &service(name)).unwrap();
        self.cluster.apply("rollouts", &rollout(name, image)).unwrap();
    }

    /// Waits in virtual time.
    pub async fn wait(&self, name: &str, what: &str, is_so: impl Fn(&Rollout) -> bool) -> Rollout {
        for _ in 0..40_000 {
            let rollout = self.rollout(name);
            if is_so(&rollout) {
                return rollout;
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("{name} never {what}: {}", self.rollout(name).status.message);
    }

    pub async fn healthy(&self, name: &str, image: &str) -> Rollout {
        let wanted = hash(image);
        self.wait(name, &format!("Healthy with {image}"), |rollout| {
            rollout.status.phase == Some(Phase::Healthy)
                && rollout.status.stable.as_ref().is_some_and(|stable| stable.hash == wanted)
        })
        .await
    }

    /// Ends it as a crash does: what it wrote last, it wrote.
    pub fn crash(self) {
        self.task.abort();
    }

    pub async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_rollouts_at_rest_send_nothing() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    let names: Vec<String> = (0..100).map(|number| format!("app-{number}")).collect();
    names.iter().for_each(|name| running.given(name, "checkout:1"));
    for name in &names {
        running.healthy(name, "checkout:1").await;
    }
    sleep(Duration::from_secs(30)).await;
    let before = cluster.requests().len();
    sleep(Duration::from_mins(5)).await;
    assert_eq!(cluster.requests()[before..], [] as [String; 0]);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_canary_costs_few_requests() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    sleep(Duration::from_mins(1)).await;
    let before = cluster.requests().len();
    running.given("checkout", "checkout:2");
    running.healthy("checkout", "checkout:2").await;
    sleep(Duration::from_mins(1)).await;
    let requests = cluster.requests()[before..].to_vec();
    let routes = requests.iter().filter(|request| request.contains("virtualservices")).count();
    assert_eq!(routes, 4, "three weights and back: {requests:#?}");
    let reads = requests.iter().filter(|request| request.starts_with("get") || request.starts_with("list")).count();
    assert_eq!(reads, 0, "nothing is read that a watch tells: {requests:#?}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_metric_aborts_with_one_route_write() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let running = start(&cluster, &clock, Leadership::alone(), 0.5);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    let aborted = running.wait("checkout", "aborted", |rollout| rollout.status.aborted.is_some()).await;
    assert_eq!(aborted.status.aborted.unwrap().reason, "AnalysisFailed");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(running.rollout("checkout").status.canary.unwrap().weight, 0);
    let routes: Vec<String> =
        cluster.requests().into_iter().filter(|request| request.contains("virtualservices")).collect();
    assert_eq!(
        routes,
        ["create virtualservices", "patch virtualservices", "patch virtualservices", "patch virtualservices"],
        "plain, subsets, 20, 0"
    );
    sleep(Duration::from_mins(10)).await;
    assert_eq!(running.rollout("checkout").status.phase, Some(Phase::Degraded));
    running.end().await;
}

/// A Deployment whose first list takes long: the first status comes all the same, within two seconds, and says so.
#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_listed_late_is_told() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    cluster.set_lag("deployments", Duration::from_secs(5));
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    let mut rollout = rollout("checkout", "checkout:1");
    let spec = rollout["spec"].as_object_mut().unwrap();
    let template = spec.remove("template").unwrap();
    spec.insert("workloadRef".into(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "checkout"}}, "template": template},
    });
    cluster.apply("services", &service("checkout")).unwrap();
    cluster.apply("deployments", &deployment).unwrap();
    let began = Instant::now();
    cluster.apply("rollouts", &rollout).unwrap();
    let waits = |rollout: &Rollout| rollout.status.blocked_by.iter().any(|wait| wait.reason == "WorkloadUnlisted");
    running.wait("checkout", "told what it waits for", waits).await;
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
    running.healthy("checkout", "checkout:1").await;
    running.end().await;
}

/// Behind a delegate a Deployment serves until a root names it, in whatever namespace; that wakes the Rollout.
#[tokio::test(start_paused = true)]
async fn a_root_that_comes_ends_a_deployment() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    let mut rollout = rollout("checkout", "checkout:1");
    let spec = rollout["spec"].as_object_mut().unwrap();
    let template = spec.remove("template").unwrap();
    spec.insert("workloadRef".into(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}));
    rollout["spec"]["strategy"]["canary"]["trafficRouting"]["istio"] = json!({"owned": {"host": "checkout"}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "checkout"}}, "template": template},
    });
    let root = |name: &str, delegate: &Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": "edge"},
            "spec": {"hosts": [name], "gateways": ["edge"], "http": [{"delegate": delegate}]},
        })
    };
    cluster.apply("services", &service("checkout")).unwrap();
    cluster.apply("deployments", &deployment).unwrap();
    cluster.apply("rollouts", &rollout).unwrap();
    // One of its own namespace's is no root of this one.
    cluster.apply("virtualservices", &root("other.example", &json!({"name": "checkout-serin"}))).unwrap();
    running.wait("checkout", "healthy", |rollout| rollout.status.phase == Some(Phase::Healthy)).await;
    sleep(Duration::from_mins(1)).await;
    let replicas = || cluster.get("deployments", "shop", "checkout").unwrap()["spec"]["replicas"].clone();
    assert_eq!(replicas(), 1, "requests reach its pods");
    let waits: Vec<String> =
        running.rollout("checkout").status.blocked_by.iter().map(|wait| wait.reason.clone()).collect();
    assert_eq!(waits, ["RootMissing"]);
    let named = json!({"name": "checkout-serin", "namespace": "shop"});
    cluster.apply("virtualservices", &root("shop.example", &named)).unwrap();
    let has_none = |rollout: &Rollout| rollout.status.workload.as_ref().is_some_and(|workload| workload.replicas == 0);
    running.wait("checkout", "without the Deployment's pods", has_none).await;
    assert_eq!(replicas(), 0);
    running.end().await;
}

/// A kind that does not exist delays nothing: the status says what is missing, and the rollout goes on when it is there.
#[tokio::test(start_paused = true)]
async fn without_istio_the_status_says_so() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    cluster.set_absent("virtualservices", true);
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    running.given("checkout", "checkout:1");
    let began = Instant::now();
    let told = |rollout: &Rollout| rollout.status.message.contains("is Istio installed?");
    running.wait("checkout", "told", told).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    cluster.set_absent("virtualservices", false);
    running.healthy("checkout", "checkout:1").await;
    running.end().await;
}

/// A Rollout whose weights are in an HTTPRoute, which stands in its `objects` beside the stable Service.
fn by_http_route(image: &str) -> [(&'static str, Value); 3] {
    let mut rollout = rollout("checkout", image);
    rollout["spec"] = of_gateway(image, 3);
    let backend = |side: &str, weight: i32| json!({"name": format!("checkout-{side}"), "port": 80, "weight": weight});
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "checkout"}],
            "rules": [{"backendRefs": [backend("stable", 100), backend("canary", 0)]}],
        },
    });
    let mut stable = service("checkout-stable");
    stable["spec"]["ports"] = json!([{"port": 80}]);
    [("services", stable), ("httproutes", route), ("rollouts", rollout)]
}

/// A cluster without the Gateway API is whole. A Rollout that names an HTTPRoute waits for it, and goes on when it is there.
#[tokio::test(start_paused = true)]
async fn without_the_gateway_api_others_go_on() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    cluster.set_absent("httproutes", true);
    let readiness = controller::readiness();
    let running = start_with(&cluster, &clock, readiness.clone());
    running.given("orders", "checkout:1");
    running.healthy("orders", "checkout:1").await;
    assert_eq!(readiness.missing(), [] as [String; 0]);
    let [service, route, rollout] = by_http_route("checkout:1");
    for (plural, object) in [&service, &rollout] {
        cluster.apply(plural, object).unwrap();
    }
    let told = |rollout: &Rollout| rollout.status.message.contains("HTTPRoute checkout does not exist");
    running.wait("checkout", "told", told).await;
    cluster.set_absent("httproutes", false);
    cluster.apply(route.0, &route.1).unwrap();
    running.healthy("checkout", "checkout:1").await;
    running.end().await;
}

/// A controller of the Gateway API answers each change of the route in its status, so that the version is always another one.
#[tokio::test(start_paused = true)]
async fn answers_in_a_routes_status_hold_no_weight_up() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let answers = cluster.clone();
    tokio::spawn(async move {
        loop {
            gateway::answer(&answers);
            sleep(Duration::from_millis(5)).await;
        }
    });
    // What the controller knows of the route is always old.
    cluster.set_lag("httproutes", Duration::from_millis(300));
    let running = start(&cluster, &clock, Leadership::alone(), 1.0);
    for (plural, object) in by_http_route("checkout:1") {
        cluster.apply(plural, &object).unwrap();
    }
    running.healthy("checkout", "checkout:1").await;
    cluster.apply("rollouts", &by_http_route("checkout:2")[2].1).unwrap();
    running.healthy("checkout", "checkout:2").await;
    let route = cluster.get("httproutes", "shop", "checkout").unwrap();
    assert_eq!(route.pointer("/spec/rules/0/backendRefs/0/weight"), Some(&json!(100)));
    assert_eq!(route.pointer("/status/parents/0/conditions/1/status"), Some(&json!("True")), "{route}");
    running.end().await;
}

pub fn candidate(cluster: &Cluster, clock: &Clock, identity: &str) -> (Leadership, Candidate) {
    let leadership = Leadership::candidate();
    let api = kube::Api::namespaced(cluster.client("serin-system"), "serin-system");
    let candidate = Candidate {
        api,
        name: "serin".into(),
        identity: identity.into(),
        clock: clock.clone(),
        leadership: leadership.clone(),
    };
    (leadership, candidate)
}

#[tokio::test(start_paused = true)]
async fn a_successor_waits_for_a_silent_leader_and_not_for_a_stopped_one() {
    let clock = virtual_clock();
    let cluster = Cluster::new(clock.clone());
    let (first, one) = candidate(&cluster, &clock, "one");
    let (second, two) = candidate(&cluster, &clock, "two");
    let (stop, stopped) = watch::channel(false);
    let (_never, forever) = watch::channel(false);
    let silent = tokio::spawn(one.run(stopped.clone()));
    sleep(Duration::from_secs(1)).await;
    assert!(first.may_write());
    tokio::spawn(two.run(forever));
    sleep(Duration::from_mins(1)).await;
    assert!(first.may_write() && !second.may_write(), "one leads as long as it renews");
    silent.abort();
    let began = Instant::now();
    while !second.may_write() {
        assert!(!(first.may_write() && second.may_write()), "never both");
        sleep(Duration::from_millis(100)).await;
    }
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(13) && waited <= Duration::from_secs(20),
        "the lease expired first: {waited:?}"
    );
    let _ = stop.send(true);
}

/// Two candidates under faults of every kind: never both may write.
#[tokio::test(start_paused = true)]
async fn never_two_leaders() {
    for seed in 0_u64..40 {
        let clock = virtual_clock();
        let cluster = Cluster::new(clock.clone());
        cluster.set_faults(Some(Arc::new(move |number| {
            match number.wrapping_mul(0x9E37_79B9).wrapping_add(seed.wrapping_mul(0x85EB_CA6B)) % 11 {
                0 | 1 => Some(Fault::Refuse(500, "InternalError")),
                2 => Some(Fault::LoseAnswer),
                3..=5 => Some(Fault::Hang),
                _ => None,
            }
        })));
        let (first, one) = candidate(&cluster, &clock, "one");
        let (second, two) = candidate(&cluster, &clock, "two");
        let (stop, stopped) = watch::channel(false);
        let tasks = [tokio::spawn(one.run(stopped.clone())), tokio::spawn(two.run(stopped))];
        let mut led = 0;
        for _ in 0..1_200 {
            assert!(!(first.may_write() && second.may_write()), "seed {seed}");
            led += i32::from(first.may_write() || second.may_write());
            sleep(Duration::from_millis(100)).await;
        }
        assert!(led > 0, "seed {seed}: somebody leads some of the time");
        stop.send(true).unwrap();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
