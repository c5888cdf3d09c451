//! An istiod that pushes to the simulated proxies, and what its debug endpoints tell of that.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::gateway::virtual_services;
use super::kubelet::Labels;
use super::mesh::is_followed;
use crate::api::istio::full_host;
use crate::api::names;
use crate::controller::proxies::Answer;
use crate::controller::proxies::dump::{Config, Dump};
use crate::controller::proxies::replica::Scope;
use crate::controller::proxies::search::{Failure, Source, Told};
use crate::controller::proxies::seen::{Seen, Shown};
use crate::embedded::Cluster;
use crate::plan::route::Question;

/// How long at most until a push is sent to Serin, in milliseconds; what comes meanwhile takes its place.
const OWN_MOST: u64 = 250;
/// The proxy that is a gateway; all are where routes are not of the mesh.
const GATEWAY: usize = 0;
/// Sidecars that never use the route: one that istiod sends nothing since nothing of it changes, and one that answers nothing.
const BYSTANDER: &str = "bystander.elsewhere";
const SILENT: &str = "silent.elsewhere";

/// The port by which requests come, where a destination names none.
const PORT: i64 = 80;

/// Routes as Envoy has them, and the labels of each cluster's pods, by name.
type Generated = (Value, BTreeMap<String, Labels>);

/// When a proxy has what is in a push.
#[derive(Clone)]
pub struct Arrival {
    /// When it begins to be sent, and when it is.
    pub begun: Instant,
    pub sent: Instant,
    /// When its routes are acknowledged, where it has any.
    pub routes: Option<Instant>,
    /// When its endpoints are acknowledged, where it has any.
    pub endpoints: Option<Instant>,
}

/// One push to one proxy.
struct Push {
    number: u64,
    generated: Arc<Generated>,
    arrival: Arrival,
}

/// What an istiod knows.
pub struct Istiod {
    inner: Mutex<Inner>,
    route_wait: Duration,
}

struct Inner {
    number: u64,
    proxies: Vec<Vec<Push>>,
    /// Ready pods, as they are now.
    ready: Vec<(String, Labels)>,
    away_until: Instant,
    /// What was sent to Serin, and what is about to be.
    seen: Seen,
    own: Option<(Instant, u64, Vec<Config>)>,
    chance: fastrand::Rng,
}

impl Istiod {
    /// An istiod that has pushed nothing to so many proxies.
    pub fn new(seed: u64, proxies: usize, route_wait: Duration, now: Instant) -> Self {
        let inner = Inner {
            number: 0,
            proxies: std::iter::repeat_with(Vec::new).take(proxies).collect(),
            ready: Vec::new(),
            away_until: now,
            seen: Seen::default(),
            own: None,
            chance: fastrand::Rng::with_seed(seed),
        };
        Self { inner: Mutex::new(inner), route_wait }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It does nothing and answers nobody until then.
    pub fn leave(&self, until: Instant) {
        self.inner().away_until = until;
    }

    /// Until when it is away, while it is.
    pub fn away_until(&self) -> Option<Instant> {
        Some(self.inner().away_until).filter(|until| *until > Instant::now())
    }

    /// Takes note of a push to each proxy, which has routes or endpoints alone.
    pub fn push(&self, cluster: &Cluster, ready: &[(String, Labels)], arrivals: &[Arrival], has_routes: bool) {
        let generated = Arc::new(generate(cluster));
        let mut inner = self.inner();
        inner.number += 1;
        inner.ready = ready.to_vec();
        let number = inner.number;
        let now = Instant::now();
        inner.arrive(now);
        let is_full =
            has_routes || inner.own.as_ref().is_some_and(|(_, _, all)| all.iter().any(|one| !one.is_endpoints()));
        let mut configs = serde_json::from_value::<Dump>(inner.generated(&generated)).unwrap_or_default().configs;
        configs.retain(|config| is_full || config.is_endpoints());
        let late = Duration::from_millis(inner.chance.u64(0..=OWN_MOST));
        let due = inner.own.as_ref().map_or(now + late, |(due, _, _)| *due);
        inner.own = Some((due, number, configs));
        for (pushes, arrival) in inner.proxies.iter_mut().zip(arrivals) {
            pushes.retain(|push| push.arrival.begun <= now);
            pushes.push(Push { number, generated: generated.clone(), arrival: arrival.clone() });
        }
    }

    /// A proxy acknowledges nothing before a time.
    pub fn silence(&self, at: usize, until: Instant) {
        let now = Instant::now();
        for push in self.inner().proxies.get_mut(at).into_iter().flatten() {
            let late = |due: &mut Instant| *due = if *due > now { (*due).max(until) } else { *due };
            push.arrival.routes.iter_mut().chain(&mut push.arrival.endpoints).for_each(late);
        }
    }

    fn answer<T>(&self, tell: impl FnOnce(&Inner) -> T) -> Result<T, Failure> {
        let mut inner = self.inner();
        let now = Instant::now();
        if inner.away_until > now {
            return Err(Failure { message: "istiod is away".into(), is_refusal: false });
        }
        inner.arrive(now);
        Ok(tell(&inner))
    }
}

fn name_of(at: usize) -> String {
    format!("proxy-{at}.mesh")
}

fn nonce(number: Option<u64>) -> String {
    number.map_or(String::new(), |number| format!("t/{number}{}", "-".repeat(36)))
}

fn bystanders() -> [Value; 2] {
    let of = |name: &str, acked: u64| json!({"proxy": name, "proxy_type": "sidecar", "route_sent": nonce(Some(1)), "route_acked": nonce(Some(acked))});
    [of(BYSTANDER, 1), of(SILENT, 0)]
}

impl Inner {
    /// Sends Serin what is due.
    fn arrive(&mut self, now: Instant) {
        if let Some((due, number, configs)) = self.own.take_if(|(due, _, _)| *due <= now) {
            configs.into_iter().for_each(|config| self.seen.take(config, number, due));
        }
    }

    fn status(at: usize, is_gateway: bool, pushes: &[Push]) -> Value {
        let now = Instant::now();
        let newest =
            |is: &dyn Fn(&Push) -> bool| nonce(pushes.iter().filter(|push| is(push)).map(|push| push.number).max());
        json!({
            "proxy": name_of(at),
            "proxy_type": if is_gateway { "router" } else { "sidecar" },
            "route_sent": newest(&|push| push.arrival.routes.is_some() && push.arrival.sent <= now),
            "route_acked": newest(&|push| push.arrival.routes.is_some_and(|due| due <= now)),
            "endpoint_sent": newest(&|push| push.arrival.endpoints.is_some() && push.arrival.sent <= now),
            "endpoint_acked": newest(&|push| push.arrival.endpoints.is_some_and(|due| due <= now)),
        })
    }

    fn is_gateway(&self, at: usize) -> bool {
        let is_of_gateways = |push: &Push| {
            push.generated
                .0
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| one["virtualHosts"].is_array() && one["name"].is_null())
        };
        at == GATEWAY || self.proxies.get(at).into_iter().flatten().any(is_of_gateways)
    }

    /// The push to a proxy that was begun last, of those that are of a kind.
    fn begun(&self, name: &str, is: impl Fn(&&Push) -> bool) -> Option<&Push> {
        let now = Instant::now();
        let pushes = self.proxies.iter().enumerate().find(|(at, _)| name_of(*at) == name)?.1;
        pushes.iter().rev().filter(|push| push.arrival.begun <= now).find(is)
    }

    /// The scope of a proxy, which has every Service; those of bystanders have not.
    fn scope(&self, name: &str) -> Value {
        let of_routes = |push: &&Push| push.arrival.routes.is_some();
        let number = self.begun(name, of_routes).map_or(self.number, |push| push.number);
        let hosts = self.begun(name, |_| true).into_iter().flat_map(|push| push.generated.1.keys());
        let services: Vec<Value> =
            hosts.filter_map(|name| name.rsplit('|').next()).map(|host| json!({"hostname": host})).collect();
        json!({"version": format!("t/{number}"), "services": services})
    }

    /// What is generated, with the pods of now.
    fn generated(&self, (routes, clusters): &Generated) -> Value {
        let endpoints = clusters.iter().map(|(name, wanted)| {
            let has = |own: &Labels| wanted.iter().all(|(key, value)| own.get(key) == Some(value));
            let pods = self.ready.iter().filter(|(_, own)| has(own)).map(|(pod, own)| {
                let revision = own.get(names::CANONICAL_REVISION).map_or("", String::as_str);
                json!({"metadata": {"filterMetadata": {"istio": {"workload": format!("{pod};ns;app;{revision};c")}}}})
            });
            json!({"clusterName": name, "endpoints": [{"lbEndpoints": pods.collect::<Vec<_>>()}]})
        });
        json!({"configs": routes.as_array().into_iter().flatten().cloned().chain(endpoints).collect::<Vec<_>>()})
    }
}

impl Source for Istiod {
    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Told>, Failure>> {
        let told = self.answer(|inner| {
            let all =
                inner.proxies.iter().enumerate().map(|(at, pushes)| Inner::status(at, inner.is_gateway(at), pushes));
            let all = all.chain(bystanders());
            let proxies = all.filter_map(|status| serde_json::from_value(status).ok()).collect();
            vec![Told { istiod: "istiod".into(), at: Instant::now(), proxies: Arc::new(proxies) }]
        });
        std::future::ready(told).boxed()
    }

    fn shown<'a>(&'a self, _: &'a str, asked: (&'a Question, Instant)) -> BoxFuture<'a, Result<Shown, Failure>> {
        let (question, since) = asked;
        std::future::ready(self.answer(|inner| inner.seen.shown(question, since))).boxed()
    }

    fn scope<'a>(&'a self, _: &'a str, proxy: &'a str) -> BoxFuture<'a, Result<Scope, Failure>> {
        let told = self.answer(|inner| serde_json::from_value(inner.scope(proxy)).unwrap_or_default());
        std::future::ready(told).boxed()
    }

    /// Who asks for more would bring old routes of sidecars back: istiod keeps what it generates.
    fn dump<'a>(&'a self, _: &'a str, proxy: &'a str, kinds: &'a str) -> BoxFuture<'a, Result<Dump, Failure>> {
        let told = self.answer(|inner| {
            let is_gateway = (0..inner.proxies.len()).any(|at| name_of(at) == proxy && inner.is_gateway(at));
            let is_harmless = kinds == "lds" || (is_gateway && !kinds.contains("eds"));
            if !is_harmless {
                let message = format!("a dump of {kinds} of {proxy} would do harm");
                return Err(Failure { message, is_refusal: false });
            }
            let of = |push: &Push| serde_json::from_value(inner.generated(&push.generated)).unwrap_or_default();
            Ok(inner.begun(proxy, |_| true).map_or_else(Dump::default, of))
        });
        std::future::ready(told.flatten()).boxed()
    }

    fn vanished(&self, _: &[Told]) -> Vec<String> {
        Vec::new()
    }

    fn failed(&self, failure: Failure) -> Answer {
        Answer::Missing(failure.message)
    }

    fn route_wait(&self) -> Duration {
        self.route_wait
    }
}

/// What every proxy gets of the routes, rules and Services that there are.
fn generate(cluster: &Cluster) -> Generated {
    let named = |object: &Value, destination: &Value| {
        let port = destination["port"]["number"].as_i64().unwrap_or(PORT);
        format!("outbound|{port}|{}|{}", text(&destination["subset"]), host_of(object, &destination["host"]))
    };
    let hosts = hosts(cluster);
    let mut configs = Vec::new();
    let mut listeners: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let all = virtual_services(cluster);
    for one in all.iter().filter(|one| is_followed(one, &all)) {
        // A delegate is told by its root's path, and the name of the root's route comes before its own.
        let names_it = |route: &&Value| route["delegate"]["name"] == one["metadata"]["name"];
        let root = all.iter().find_map(|root| Some((root, root["spec"]["http"].as_array()?.iter().find(names_it)?)));
        let prefix = root.map_or(String::new(), |(_, route)| format!("{}-", text(&route["name"])));
        let metadata = &root.map_or(one, |(root, _)| root)["metadata"];
        let path = format!("/namespaces/{}/virtual-service/{}", text(&metadata["namespace"]), text(&metadata["name"]));
        let destinations = |route: &Value| {
            let alone = if route["route"].as_array().is_some_and(|all| all.len() == 1) { 100 } else { 0 };
            let weighted = route["route"].as_array().into_iter().flatten().map(|weighted| {
                let weight = weighted["share"].as_i64().or(weighted["weight"].as_i64()).unwrap_or(alone);
                json!({"name": named(one, &weighted["destination"]), "weight": weight})
            });
            let weighted: Vec<Value> = weighted.filter(|cluster| cluster["weight"] != 0).collect();
            let mirror = route.get("mirror").map(|mirror| json!({"cluster": named(one, mirror)}));
            json!({"weightedClusters": {"clusters": weighted}, "requestMirrorPolicies": mirror.into_iter().collect::<Vec<_>>()})
        };
        let http = one["spec"]["http"].as_array().into_iter().flatten().map(|route| {
            let name = format!("{prefix}{}", text(&route["name"]));
            json!({"name": name, "route": destinations(route), "metadata": {"filterMetadata": {"istio": {"config": path}}}})
        });
        let http: Vec<Value> = http.collect();
        let of_root = root.map_or(one, |(root, _)| root);
        let is_of_mesh = of_root["spec"]
            .get("gateways")
            .is_none_or(|all| all.as_array().is_some_and(|all| all.contains(&json!("mesh"))));
        for host in of_root["spec"]["hosts"].as_array().into_iter().flatten().filter(|_| is_of_mesh) {
            let host = host_of(of_root, host);
            let ports = hosts.get(&host).map_or_else(|| vec![PORT], |(_, ports)| ports.clone());
            for port in ports {
                listeners.entry(format!("{host}:{port}")).or_default().extend(http.iter().cloned());
            }
        }
        if !is_of_mesh {
            configs.push(json!({"virtualHosts": [{"routes": http}]}));
        }
        let others = ["tls", "tcp"].iter().filter_map(|key| one["spec"][key].as_array()).flatten();
        configs
            .extend(others.map(|route| json!({"filterChains": [{"filters": [{"typedConfig": destinations(route)}]}]})));
    }
    // Every Service has a route of its own.
    for service in cluster.list("services") {
        let host = host_of(&service, &service["metadata"]["name"]);
        let cluster = format!("outbound|{PORT}||{host}");
        for port in hosts.get(&host).into_iter().flat_map(|(_, ports)| ports) {
            let route = json!({"name": "default", "route": {"cluster": format!("outbound|{port}||{host}")}});
            listeners.entry(format!("{host}:{port}")).or_default().push(route);
        }
        configs.push(json!({"filterChains": [{"filters": [{"typedConfig": {"cluster": cluster}}]}]}));
    }
    configs.extend(
        listeners.into_iter().map(|(name, routes)| json!({"name": name, "virtualHosts": [{"routes": routes}]})),
    );
    (Value::Array(configs), clusters(cluster, &hosts))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn labels(value: &Value) -> Labels {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn host_of(object: &Value, host: &Value) -> String {
    full_host(&text(host), &text(&object["metadata"]["namespace"]))
}

/// The selector and the ports of every Service, by its host.
fn hosts(cluster: &Cluster) -> BTreeMap<String, (Labels, Vec<i64>)> {
    let all = cluster.list("services").into_iter().map(|service| {
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|port| port["port"].as_i64()).collect();
        (host_of(&service, &service["metadata"]["name"]), (labels(&service["spec"]["selector"]), ports))
    });
    all.collect()
}

/// The labels of each cluster's pods: those of every Service, and of every subset, at each port.
fn clusters(cluster: &Cluster, hosts: &BTreeMap<String, (Labels, Vec<i64>)>) -> BTreeMap<String, Labels> {
    let mut clusters = BTreeMap::new();
    let mut add = |host: &str, subset: &str, own: &Labels| {
        for port in hosts.get(host).into_iter().flat_map(|(_, ports)| ports) {
            clusters.insert(format!("outbound|{port}|{subset}|{host}"), own.clone());
        }
    };
    hosts.iter().for_each(|(host, (selector, _))| add(host, "", selector));
    for rule in cluster.list("destinationrules") {
        let host = host_of(&rule, &rule["spec"]["host"]);
        let of_host = hosts.get(&host).map(|(selector, _)| selector.clone()).unwrap_or_default();
        for subset in rule["spec"]["subsets"].as_array().into_iter().flatten() {
            let mut own = labels(&subset["labels"]);
            own.extend(of_host.clone());
            add(&host, &text(&subset["name"]), &own);
        }
    }
    clusters
}
