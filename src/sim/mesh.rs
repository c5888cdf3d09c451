//! Proxies that take routes and endpoints late, each at its own time, and the requests that they send.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::time::Instant;

use super::gateway;
use super::istiod::{Arrival, Istiod};
use super::kubelet::{Kubelet, Labels};
use crate::api::names;
use crate::embedded::Cluster;
use crate::embedded::store::Object;

/// Kinds that say where requests go.
pub const ROUTES: [&str; 4] = ["virtualservices", "destinationrules", "httproutes", "services"];

/// Proxies.
const PROXIES: usize = 3;
/// How long at most from the beginning of a push to a proxy until it is sent, in milliseconds.
const SENDING_MOST: u64 = 90;
/// How much of the controllers' wait for a route the slowest proxy needs.
const SLOWEST: f64 = 0.9;
/// The shortest time that a change takes to reach a proxy: istiod's debounce.
const PUSH_LEAST: Duration = Duration::from_millis(100);
/// Percent of the requests that header routes match: less than what counts as weight, and yet lost where it goes wrong.
const MATCHED: f64 = 0.4;
/// Requests a second, of all proxies.
pub const RATE: f64 = 100.0;

/// A host and a subset; the subset is empty for the host as a whole.
type Destination = (String, String);
/// Destinations and weights, by route.
type Routes = BTreeMap<String, Vec<(Destination, f64)>>;
/// Pods by destination; none for a subset that does not exist.
type Endpoints = BTreeMap<Destination, Option<Vec<(String, String)>>>;

/// Something that a proxy has, and what of it is on its way.
#[derive(Default)]
struct Late<T> {
    current: Arc<T>,
    /// When each begins to be sent, when it arrives, and what.
    coming: VecDeque<(Instant, Instant, Arc<T>)>,
}

impl<T> Late<T> {
    /// Sends something; nothing overtakes what was sent before.
    fn send(&mut self, begun: Instant, due: Instant, sent: &Arc<T>) -> Instant {
        let due = self.coming.back().map_or(due, |(_, last, _)| due.max(*last));
        self.coming.push_back((begun, due, sent.clone()));
        due
    }

    /// Takes back what has not begun to be sent. When it would have arrived.
    fn recall(&mut self, now: Instant) -> Option<Instant> {
        let due = self.coming.iter().find(|(begun, _, _)| *begun > now).map(|(_, due, _)| *due);
        self.coming.retain(|(begun, _, _)| *begun <= now);
        due
    }

    /// Nothing arrives before a time.
    fn hold(&mut self, until: Instant) {
        self.coming.iter_mut().for_each(|(_, due, _)| *due = (*due).max(until));
    }

    /// Takes what has arrived; whether there was something.
    fn arrive(&mut self, now: Instant) -> bool {
        let mut has_come = false;
        while let Some((_, _, sent)) = self.coming.pop_front_if(|(_, due, _)| *due <= now) {
            self.current = sent;
            has_come = true;
        }
        has_come
    }

    /// When the next arrives.
    fn next(&self) -> Option<Instant> {
        self.coming.front().map(|(_, due, _)| *due)
    }
}

/// What one proxy knows.
struct Proxy {
    routes: Late<Routes>,
    endpoints: Late<Endpoints>,
    /// Until when it takes nothing.
    silent_until: Instant,
    /// When the last push to it begins, and when it is sent.
    begun: Instant,
    sent: Instant,
}

impl Proxy {
    fn new(now: Instant) -> Self {
        Self { routes: Late::default(), endpoints: Late::default(), silent_until: now, begun: now, sent: now }
    }
}

/// What changed of the routes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    #[default]
    Nothing,
    /// A VirtualService.
    Routes,
    /// A DestinationRule or a Service: everything is sent anew.
    Rules,
}

/// All proxies and their traffic.
pub struct Mesh {
    began: Instant,
    istiod: Arc<Istiod>,
    /// Whether istiod is asked, and proxies may be slow: then requests are tried again at another pod.
    is_asked: bool,
    sending: Rng,
    proxies: Vec<Proxy>,
    /// What changed since the last push.
    changed: Changed,
    /// The pods that were ready at the last push.
    ready: Vec<(String, Labels)>,
    pushed: Arc<Routes>,
    pushed_endpoints: Arc<Endpoints>,
    slowest: Duration,
    chance: Rng,
    counted_at: Instant,
    is_open: bool,
    settled_at: Option<Instant>,
    weights: BTreeMap<String, f64>,
    weighted: BTreeMap<String, Instant>,
    /// What became of the requests.
    pub traffic: Traffic,
}

/// Requests, counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Served, by revision.
    pub served: BTreeMap<String, f64>,
    /// Lost, by reason.
    pub lost: BTreeMap<&'static str, f64>,
    /// When the first one was lost, since the beginning.
    pub first_lost: Option<Duration>,
}

impl Mesh {
    /// Proxies that take a change within the controllers' wait; or in at most `slowest`, and try requests again.
    pub fn new(seed: u64, (slowest, route_wait): (Option<Duration>, Duration), now: Instant) -> Self {
        Self {
            began: now,
            istiod: Arc::new(Istiod::new(seed ^ 2, PROXIES, route_wait, now)),
            is_asked: slowest.is_some(),
            sending: Rng::with_seed(seed ^ 1),
            proxies: std::iter::repeat_with(|| Proxy::new(now)).take(PROXIES).collect(),
            changed: Changed::Rules,
            ready: Vec::new(),
            pushed: Arc::default(),
            pushed_endpoints: Arc::default(),
            slowest: slowest.unwrap_or_else(|| route_wait.mul_f64(SLOWEST)),
            chance: Rng::with_seed(seed),
            counted_at: now,
            is_open: false,
            settled_at: None,
            weights: BTreeMap::new(),
            weighted: BTreeMap::new(),
            traffic: Traffic::default(),
        }
    }

    /// Requests begin to come.
    pub fn open(&mut self) {
        if !self.is_open {
            self.counted_at = Instant::now();
        }
        self.is_open = true;
    }

    /// A route, a rule or a Service changed.
    pub fn changed(&mut self, plural: &str) {
        let changed =
            if ["virtualservices", "httproutes"].contains(&plural) { Changed::Routes } else { Changed::Rules };
        self.changed = self.changed.max(changed);
    }

    /// Pushes what has changed to every proxy, each with its own delay.
    pub fn push(&mut self, cluster: &Cluster, kubelet: &Kubelet) {
        if self.changed == Changed::Nothing
            && kubelet.ready().eq(self.ready.iter().map(|(pod, labels)| (pod.as_str(), labels)))
        {
            return;
        }
        if self.istiod.away_until().is_some() {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        self.ready = kubelet.ready().map(|(pod, labels)| (pod.to_owned(), labels.clone())).collect();
        let now = Instant::now();
        let routes = routes(cluster);
        let endpoints = endpoints(cluster, kubelet);
        let (has_routes, has_endpoints) = (*self.pushed != routes, *self.pushed_endpoints != endpoints);
        if has_routes {
            self.pushed = Arc::new(routes);
        }
        if has_endpoints {
            self.pushed_endpoints = Arc::new(endpoints);
        }
        if self.is_asked {
            // A rule or a Service brings everything anew, a route the routes, a pod the endpoints.
            self.push_in_order(
                cluster,
                now,
                (has_routes || changed >= Changed::Routes, has_endpoints || changed == Changed::Rules),
            );
            return;
        }
        // Each proxy has its own time for each part.
        for at in (0..self.proxies.len()).filter(|_| has_routes) {
            let due = now + self.delay();
            self.proxies[at].routes.send(now, due, &self.pushed);
        }
        for at in (0..self.proxies.len()).filter(|_| has_endpoints) {
            let due = now + self.delay();
            self.proxies[at].endpoints.send(now, due, &self.pushed_endpoints);
        }
    }

    /// Pushes as istiod does: a proxy that is busy gets what has changed meanwhile in one push, and nothing overtakes.
    fn push_in_order(&mut self, cluster: &Cluster, now: Instant, (routes, endpoints): (bool, bool)) {
        let mut arrivals = Vec::new();
        for at in 0..self.proxies.len() {
            let (first, second) = (now + self.delay(), now + self.delay());
            let sending = Duration::from_millis(self.sending.u64(0..=SENDING_MOST));
            let proxy = &mut self.proxies[at];
            let waits =
                if proxy.sent > now { Some((proxy.begun, proxy.sent)).filter(|(begun, _)| *begun > now) } else { None };
            let sent = first.min(second).max(proxy.sent);
            let (begun, sent) = waits.unwrap_or(((sent - sending).max(proxy.sent), sent));
            (proxy.begun, proxy.sent) = (begun, sent);
            let due = |due: Instant| due.max(sent).max(proxy.silent_until);
            let routes = proxy.routes.recall(now).or(routes.then(|| due(first)));
            let routes = routes.map(|due| proxy.routes.send(begun, due, &self.pushed));
            let endpoints = proxy.endpoints.recall(now).or(endpoints.then(|| due(second)));
            let endpoints = endpoints.map(|due| proxy.endpoints.send(begun, due, &self.pushed_endpoints));
            arrivals.push(Arrival { begun, sent, routes, endpoints });
        }
        if arrivals.iter().any(|arrival| arrival.routes.or(arrival.endpoints).is_some()) {
            self.istiod.push(cluster, &self.ready, &arrivals, routes);
        }
    }

    /// What istiod tells.
    pub fn istiod(&self) -> Arc<Istiod> {
        self.istiod.clone()
    }

    /// How long a change takes at most to reach a proxy.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// A proxy takes nothing until then.
    pub fn silence(&mut self, at: usize, until: Instant) {
        if let Some(proxy) = self.proxies.get_mut(at) {
            proxy.silent_until = until;
            proxy.routes.hold(until);
            proxy.endpoints.hold(until);
            self.istiod.silence(at, until);
        }
    }

    /// Every proxy, and istiod, does its work from now on.
    pub fn heal(&mut self) {
        let now = Instant::now();
        self.istiod.leave(now);
        self.proxies.iter_mut().for_each(|proxy| proxy.silent_until = now);
    }

    fn delay(&mut self) -> Duration {
        let most = self.slowest.saturating_sub(PUSH_LEAST);
        let most = u64::try_from(most.as_millis()).unwrap_or(0);
        PUSH_LEAST.min(self.slowest) + Duration::from_millis(self.chance.u64(0..=most))
    }

    /// Counts the requests until now, then lets the proxies take what has reached them. When to look again.
    pub fn act(&mut self, kubelet: &Kubelet) -> Option<Instant> {
        let now = Instant::now();
        self.count(kubelet, now);
        let mut has_come = false;
        for proxy in &mut self.proxies {
            has_come |= proxy.routes.arrive(now);
            has_come |= proxy.endpoints.arrive(now);
        }
        if has_come {
            self.weights = self.weigh();
        }
        let is_last = |routes: &Arc<Routes>| *routes == self.pushed;
        let has_last = |proxy: &Proxy| {
            is_last(&proxy.routes.current) && proxy.routes.coming.iter().all(|(_, _, sent)| is_last(sent))
        };
        self.settled_at = if self.proxies.iter().all(has_last) { self.settled_at.or(Some(now)) } else { None };
        for (revision, _) in self.weights.iter().filter(|(_, weight)| **weight > 0.0) {
            match self.weighted.get_mut(revision) {
                Some(at) => *at = now,
                None => drop(self.weighted.insert(revision.clone(), now)),
            }
        }
        let coming = |proxy: &Proxy| proxy.routes.next().into_iter().chain(proxy.endpoints.next()).min();
        self.proxies.iter().filter_map(coming).chain(self.istiod.away_until()).min()
    }

    /// Since when every proxy has the routes that were pushed last; nothing while one has not.
    pub fn settled_since(&self) -> Option<Instant> {
        self.settled_at
    }

    /// The largest weight that any proxy gives each revision, of 100.
    pub fn weights(&self) -> &BTreeMap<String, f64> {
        &self.weights
    }

    fn weigh(&self) -> BTreeMap<String, f64> {
        let mut weights: BTreeMap<String, f64> = BTreeMap::new();
        for proxy in &self.proxies {
            let mut own: BTreeMap<String, f64> = BTreeMap::new();
            for (destination, weight) in proxy.routes.current.values().flatten() {
                let pods = proxy.endpoints.current.get(destination).and_then(Option::as_ref);
                let Some(pods) = pods.filter(|pods| !pods.is_empty()) else { continue };
                for (_, revision) in pods {
                    #[expect(clippy::cast_precision_loss, reason = "pods are few")]
                    let share = weight / pods.len() as f64 / proxy.routes.current.len() as f64;
                    *own.entry(revision.clone()).or_default() += share;
                }
            }
            for (revision, weight) in own {
                let most = weights.entry(revision).or_default();
                *most = most.max(weight);
            }
        }
        weights
    }

    /// When a proxy last sent requests to a revision.
    pub fn last_weight_at(&self, revision: &str) -> Option<Instant> {
        self.weighted.get(revision).copied()
    }

    #[expect(clippy::cast_precision_loss, reason = "proxies, routes and pods are few")]
    fn count(&mut self, kubelet: &Kubelet, now: Instant) {
        let seconds = (now - self.counted_at).as_secs_f64();
        self.counted_at = now;
        if !self.is_open || seconds <= 0.0 {
            return;
        }
        let mut lost_now = false;
        for proxy in &self.proxies {
            let requests = RATE * seconds / self.proxies.len() as f64;
            if proxy.routes.current.is_empty() {
                *self.traffic.lost.entry("no route").or_default() += requests;
                lost_now = true;
            }
            for destinations in proxy.routes.current.values() {
                let of_route = requests / proxy.routes.current.len() as f64;
                for (destination, weight) in destinations.iter().filter(|(_, weight)| *weight > 0.0) {
                    let sent = of_route * weight / 100.0;
                    let mut lose = |reason, requests: f64| {
                        *self.traffic.lost.entry(reason).or_default() += requests;
                        lost_now = true;
                    };
                    let pods = match proxy.endpoints.current.get(destination) {
                        None | Some(None) => {
                            lose("no such subset", sent);
                            continue;
                        }
                        Some(Some(pods)) if pods.is_empty() => {
                            lose("no endpoints", sent);
                            continue;
                        }
                        Some(Some(pods)) => pods,
                    };
                    // A connection that is refused is tried again at another pod, where endpoints may be late.
                    let answering = pods.iter().filter(|(pod, _)| kubelet.answers(pod)).count();
                    let (tried, all) =
                        if self.is_asked && answering > 0 { (true, answering) } else { (false, pods.len()) };
                    for (pod, revision) in pods {
                        let own = sent / all as f64;
                        if kubelet.answers(pod) {
                            *self.traffic.served.entry(revision.clone()).or_default() += own;
                        } else if !tried {
                            lose("pod is gone", own);
                        }
                    }
                }
            }
        }
        if lost_now {
            self.traffic.first_lost.get_or_insert(now - self.began);
        }
    }
}

impl Traffic {
    /// All requests that were lost.
    pub fn lost(&self) -> f64 {
        self.lost.values().sum()
    }
}

/// The routes of every VirtualService and HTTPRoute; the plain Services where there is none. What leads to the pods of others is left out:
/// manifests of several applications are told one Rollout at a time.
fn routes(cluster: &Cluster) -> Routes {
    let mut routes = Routes::new();
    let (rollouts, services) = (cluster.list("rollouts"), cluster.list("services"));
    let foreign = foreign(&rollouts, &services, &cluster.list("deployments"));
    let managed: Vec<&Value> =
        rollouts.iter().filter_map(|one| one["status"]["route"]["managed"].as_array()).flatten().collect();
    let virtual_services = gateway::virtual_services(cluster);
    for virtual_service in virtual_services.iter().filter(|one| is_followed(one, &virtual_services)) {
        let name = virtual_service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut matched = Vec::new();
        for protocol in ["http", "tls", "tcp"] {
            for (at, route) in virtual_service["spec"][protocol].as_array().into_iter().flatten().enumerate() {
                let destinations = route["route"].as_array().into_iter().flatten();
                let alone = if route["route"].as_array().is_some_and(|all| all.len() == 1) { 100.0 } else { 0.0 };
                let destinations = destinations.map(|one| {
                    let host = one["destination"]["host"].as_str().unwrap_or_default();
                    let subset = one["destination"]["subset"].as_str().unwrap_or_default();
                    ((short(host), subset.to_owned()), one["weight"].as_f64().unwrap_or(alone))
                });
                let mut destinations: Vec<_> = destinations.filter(|((host, _), _)| !foreign.contains(host)).collect();
                if managed.iter().any(|name| **name == route["name"]) {
                    matched.extend(destinations);
                    continue;
                }
                lead(&mut destinations, &matched);
                if !destinations.is_empty() {
                    routes.insert(format!("{name}/{protocol}/{at}"), destinations);
                }
            }
        }
    }
    if routes.is_empty() {
        for service in &services {
            let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if !foreign.contains(&name) {
                routes.insert(name.clone(), vec![((name, String::new()), 100.0)]);
            }
        }
    }
    routes
}

/// Whether requests follow a VirtualService: it has hosts, or a root names it as a delegate.
pub fn is_followed(one: &Value, all: &[Object]) -> bool {
    let names_it = |route: &Value| route["delegate"]["name"] == one["metadata"]["name"];
    let routes = |root: &Object| root["spec"]["http"].as_array().is_some_and(|routes| routes.iter().any(names_it));
    one["spec"]["hosts"].as_array().is_some_and(|hosts| !hosts.is_empty()) || all.iter().any(routes)
}

/// Names of the Services that select no pods of the Rollout, whatever their revision.
fn foreign(rollouts: &[Object], services: &[Object], deployments: &[Object]) -> BTreeSet<String> {
    let Some(rollout) = rollouts.first() else { return BTreeSet::new() };
    let workload = &rollout["spec"]["workloadRef"]["name"];
    let holder = deployments.iter().find(|one| one["metadata"]["name"] == *workload).unwrap_or(rollout);
    let own = labels(&holder["spec"]["template"]["metadata"]["labels"]);
    let selects = |service: &Value| {
        let selector = labels(&service["spec"]["selector"]);
        selector.iter().all(|(key, value)| key == names::REVISION_HASH || own.get(key) == Some(value))
    };
    let others = services.iter().filter(|service| !selects(service));
    others.map(|service| service["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Takes the requests that the routes in front match from a route.
fn lead(destinations: &mut Vec<(Destination, f64)>, matched: &[(Destination, f64)]) {
    let taken: f64 = matched.iter().map(|(_, weight)| weight * MATCHED / 100.0).sum();
    destinations.iter_mut().for_each(|(_, weight)| *weight *= 1.0 - taken / 100.0);
    destinations.extend(matched.iter().map(|(destination, weight)| (destination.clone(), weight * MATCHED / 100.0)));
}

/// The name of a host's Service: all are in one namespace here.
fn short(host: &str) -> String {
    host.split('.').next().unwrap_or_default().to_owned()
}

/// The ready pods of every destination that there is.
fn endpoints(cluster: &Cluster, kubelet: &Kubelet) -> Endpoints {
    let services = cluster.list("services");
    let rules = cluster.list("destinationrules");
    let selector = |host: &str| {
        let service = services.iter().find(|service| service["metadata"]["name"] == host)?;
        Some(labels(&service["spec"]["selector"]))
    };
    let mut found = Endpoints::new();
    let subsets = rules.iter().flat_map(|rule| {
        let host = short(rule["spec"]["host"].as_str().unwrap_or_default());
        let subsets = rule["spec"]["subsets"].as_array().into_iter().flatten();
        subsets.map(move |subset| {
            (host.clone(), subset["name"].as_str().unwrap_or_default().to_owned(), labels(&subset["labels"]))
        })
    });
    for (host, subset, own) in subsets {
        let selector = selector(&host).unwrap_or_default();
        found.insert((host, subset), Some(pods(kubelet, &[&selector, &own])));
    }
    for service in &services {
        let host = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let selector = labels(&service["spec"]["selector"]);
        found.insert((host, String::new()), Some(pods(kubelet, &[&selector])));
    }
    found
}

fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// Ready pods that have all labels, each with its revision.
fn pods(kubelet: &Kubelet, wanted: &[&Labels]) -> Vec<(String, String)> {
    let has = |own: &Labels| wanted.iter().all(|all| all.iter().all(|(key, value)| own.get(key) == Some(value)));
    let revision = |own: &Labels| own.get(names::REVISION_HASH).cloned().unwrap_or_default();
    kubelet.ready().filter(|(_, own)| has(own)).map(|(pod, own)| (pod.to_owned(), revision(own))).collect()
}
