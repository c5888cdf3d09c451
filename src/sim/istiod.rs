//! An istiod that pushes to the simulated proxies, and what its debug endpoints tell of that.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::kubelet::Labels;
use super::mesh::is_followed;
use crate::api::istio::full_host;
use crate::api::names;
use crate::controller::proxies::Answer;
use crate::controller::proxies::dump::Dump;
use crate::controller::proxies::search::{Failure, Source, Told};
use crate::embedded::Cluster;

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
}

impl Istiod {
    /// An istiod that has pushed nothing to so many proxies.
    pub fn new(proxies: usize, route_wait: Duration, now: Instant) -> Self {
        let inner = Inner {
            number: 0,
            proxies: std::iter::repeat_with(Vec::new).take(proxies).collect(),
            ready: Vec::new(),
            away_until: now,
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

    /// Takes note of a push to each proxy.
    pub fn push(&self, cluster: &Cluster, ready: &[(String, Labels)], arrivals: &[Arrival]) {
        let generated = Arc::new(generate(cluster));
        let mut inner = self.inner();
        inner.number += 1;
        inner.ready = ready.to_vec();
        let number = inner.number;
        let now = Instant::now();
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
        let inner = self.inner();
        if inner.away_until > Instant::now() {
            return Err(Failure { message: "istiod is away".into(), is_refusal: false });
        }
        Ok(tell(&inner))
    }
}

fn name_of(at: usize) -> String {
    format!("proxy-{at}.mesh")
}

impl Inner {
    fn status(at: usize, pushes: &[Push]) -> Value {
        let now = Instant::now();
        let nonce =
            |number: Option<u64>| number.map_or(String::new(), |number| format!("t/{number}{}", "-".repeat(36)));
        let newest =
            |is: &dyn Fn(&Push) -> bool| nonce(pushes.iter().filter(|push| is(push)).map(|push| push.number).max());
        json!({
            "proxy": name_of(at),
            "route_sent": newest(&|push| push.arrival.routes.is_some() && push.arrival.sent <= now),
            "route_acked": newest(&|push| push.arrival.routes.is_some_and(|due| due <= now)),
            "endpoint_sent": newest(&|push| push.arrival.endpoints.is_some() && push.arrival.sent <= now),
            "endpoint_acked": newest(&|push| push.arrival.endpoints.is_some_and(|due| due <= now)),
        })
    }

    /// What is generated from the push that was begun last, with the pods of now.
    fn dump(&self, name: &str) -> Value {
        let now = Instant::now();
        let at = self.proxies.iter().enumerate().find(|(at, _)| name_of(*at) == name);
        let push = at.and_then(|(_, pushes)| pushes.iter().rev().find(|push| push.arrival.begun <= now));
        let Some((routes, clusters)) = push.map(|push| push.generated.as_ref()) else {
            return json!({});
        };
        let endpoints = clusters.iter().map(|(name, wanted)| {
            let has = |own: &Labels| wanted.iter().all(|(key, value)| own.get(key) == Some(value));
            let pods = self.ready.iter().filter(|(_, own)| has(own)).map(|(pod, own)| {
                let revision = own.get(names::REVISION_HASH).map_or("", String::as_str);
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
            let all = inner.proxies.iter().enumerate().map(|(at, pushes)| Inner::status(at, pushes));
            let proxies = all.filter_map(|status| serde_json::from_value(status).ok()).collect();
            vec![Told { istiod: "istiod".into(), at: Instant::now(), proxies: Arc::new(proxies) }]
        });
        std::future::ready(told).boxed()
    }

    fn dump<'a>(&'a self, _: &'a str, proxy: &'a str, _: &'a str) -> BoxFuture<'a, Result<Dump, Failure>> {
        let told = self.answer(|inner| serde_json::from_value(inner.dump(proxy)).unwrap_or_default());
        std::future::ready(told).boxed()
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
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let host_of = |object: &Value, host: &Value| full_host(&text(host), &text(&object["metadata"]["namespace"]));
    let named = |object: &Value, destination: &Value| {
        let port = destination["port"]["number"].as_i64().unwrap_or(PORT);
        format!("outbound|{port}|{}|{}", text(&destination["subset"]), host_of(object, &destination["host"]))
    };
    let mut configs = Vec::new();
    let all = cluster.list("virtualservices");
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
                json!({"name": named(one, &weighted["destination"]), "weight": weighted["weight"].as_i64().unwrap_or(alone)})
            });
            let weighted: Vec<Value> = weighted.filter(|cluster| cluster["weight"] != 0).collect();
            let mirror = route.get("mirror").map(|mirror| json!({"cluster": named(one, mirror)}));
            json!({"weightedClusters": {"clusters": weighted}, "requestMirrorPolicies": mirror.into_iter().collect::<Vec<_>>()})
        };
        let http = one["spec"]["http"].as_array().into_iter().flatten().map(|route| {
            let name = format!("{prefix}{}", text(&route["name"]));
            json!({"name": name, "route": destinations(route), "metadata": {"filterMetadata": {"istio": {"config": path}}}})
        });
        configs.push(json!({"virtualHosts": [{"routes": http.collect::<Vec<_>>()}]}));
        let others = ["tls", "tcp"].iter().filter_map(|key| one["spec"][key].as_array()).flatten();
        configs
            .extend(others.map(|route| json!({"filterChains": [{"filters": [{"typedConfig": destinations(route)}]}]})));
    }
    // Every Service has a route of its own, and clusters at each of its ports.
    let labels = |value: &Value| -> Labels { serde_json::from_value(value.clone()).unwrap_or_default() };
    let mut hosts = BTreeMap::new();
    for service in cluster.list("services") {
        let host = host_of(&service, &service["metadata"]["name"]);
        let cluster = format!("outbound|{PORT}||{host}");
        configs.push(json!({"virtualHosts": [{"routes": [{"name": "default", "route": {"cluster": cluster}}]}]}));
        configs.push(json!({"filterChains": [{"filters": [{"typedConfig": {"cluster": cluster}}]}]}));
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports: Vec<i64> = ports.filter_map(|port| port["port"].as_i64()).collect();
        hosts.insert(host, (labels(&service["spec"]["selector"]), ports));
    }
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
    (Value::Array(configs), clusters)
}
