//! What one istiod knows of its proxies: which of them have acknowledged the route that an inquiry is about.
//!
//! A push has a number, and what a proxy was sent and has acknowledged tells the number of its push, by kind of resource
//! (`/debug/syncz`). So the question is which push brought the route. The stream that Serin has as a proxy tells, where the route
//! is one of the mesh; for a route of gateways alone the dump of one of them shows it. Every proxy that istiod sends the route to
//! has it once it has acknowledged that push or a later one; istiod sends a push to those alone whose scope it changes, and the
//! scope of the others (`/debug/sidecarz`) tells that they have passed it.
//!
//! Dumps are asked for of gateways, or for listeners, only: to answer, istiod generates what it dumps from the state that it last
//! pushed, and puts routes of sidecars, clusters and endpoints that it so generates into the cache that its next pushes are made
//! of, even where they are old by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::dump::Has;
use super::seen::{Bound, Brought};

/// How long it takes at most from when istiod begins a push to a proxy until all of it is sent.
const SENDING: Duration = Duration::from_secs(1);
/// How long a proxy may take that was sent a push, but not of the number that was seen: two may have become one for Serin alone.
/// A proxy that has no use for endpoints is not told from one to which istiod has not sent them yet for so long.
const MERGED: Duration = Duration::from_secs(20);
/// How long a proxy may take before its scope is asked for.
const SCOPE_AFTER: Duration = Duration::from_millis(500);
/// Scopes, and dumps, of one look.
const SCOPES_MOST: usize = 8;
const DUMPS_MOST: usize = 32;
/// Names in a message.
const NAMES_MOST: usize = 3;

/// What `/debug/syncz` tells of one proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProxyStatus {
    /// `name.namespace`.
    pub proxy: String,
    proxy_type: String,
    cluster_sent: String,
    cluster_acked: String,
    listener_sent: String,
    listener_acked: String,
    route_sent: String,
    route_acked: String,
    endpoint_sent: String,
    endpoint_acked: String,
}

impl ProxyStatus {
    /// Whether the proxy is of a namespace.
    pub fn is_of(&self, namespace: &str) -> bool {
        self.proxy.rsplit_once('.').is_some_and(|(_, own)| own == namespace)
    }

    /// Whether it is a gateway.
    pub fn is_gateway(&self) -> bool {
        self.proxy_type == "router"
    }

    /// Whether it gets routes and sends requests: not ambient mode's ztunnels, and not Serin itself.
    pub fn is_routed(&self) -> bool {
        self.proxy_type != "ztunnel" && !self.proxy.starts_with(super::stream::NAME)
    }

    fn is_acknowledged(&self) -> bool {
        self.cluster_sent == self.cluster_acked
            && self.listener_sent == self.listener_acked
            && self.route_sent == self.route_acked
            && self.endpoint_sent == self.endpoint_acked
    }

    /// The push that brought its last routes, or listeners: one that brings endpoints alone brings no route.
    fn push(&self) -> Option<u64> {
        number(&self.route_sent).or_else(|| number(&self.listener_sent))
    }

    /// The last push that it was sent anything of.
    fn head(&self) -> Option<u64> {
        let all = [&self.cluster_sent, &self.endpoint_sent, &self.listener_sent, &self.route_sent];
        all.into_iter().filter_map(|nonce| number(nonce)).max()
    }
}

/// What `/debug/sidecarz` tells of one proxy: of which push its scope is, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Scope {
    version: String,
    /// None where a `Sidecar` imports nothing: istiod says null.
    services: Option<Vec<ServiceOfScope>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct ServiceOfScope {
    hostname: String,
}

impl Scope {
    fn number(&self) -> Option<u64> {
        self.version.rsplit_once('/')?.1.parse().ok()
    }

    /// Whether one of these hosts is in it.
    pub fn has_any(&self, hosts: &BTreeSet<&str>) -> bool {
        self.services.iter().flatten().any(|service| hosts.contains(service.hostname.as_str()))
    }
}

/// The number of a push: a nonce is `TIME/NUMBER` and a UUID of 36 characters.
pub fn number(nonce: &str) -> Option<u64> {
    let version = nonce.get(..nonce.len().checked_sub(36)?)?;
    version.rsplit_once('/')?.1.parse().ok()
}

/// What is known of one istiod's proxies.
#[derive(Debug)]
pub struct Replica {
    began: Instant,
    route_wait: Duration,
    /// The push of each proxy at the first look.
    first: BTreeMap<String, Option<u64>>,
    /// Proxies whose dumps may be asked for.
    dumpable: BTreeSet<String>,
    /// What the dump of a proxy showed, since when.
    dumps: BTreeMap<String, (Has, Instant)>,
    /// The latest push that a proxy was sent anything of, and since when it is that.
    heads: BTreeMap<String, (u64, Instant)>,
    /// The scope of a proxy, as last told.
    scopes: BTreeMap<String, Scoped>,
    /// What istiod sends of the route, and the push that brought it and its endpoints.
    sends: Has,
    routes: Option<Brought>,
    endpoints: Option<Brought>,
    /// The status of all proxies, as of when.
    statuses: Vec<ProxyStatus>,
    at: Instant,
}

/// The scope of a proxy.
#[derive(Debug, Clone, Copy)]
struct Scoped {
    /// The push that it is of.
    push: Option<u64>,
    /// Whether the route is in it.
    is_in: bool,
    /// Since when it is that, and when it was told last.
    since: Instant,
    told: Instant,
}

/// What to ask about next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Proxies whose dump may show the route.
    pub dumps: Vec<String>,
    /// Proxies whose scope tells whether they have passed the push.
    pub scopes: Vec<String>,
}

impl Replica {
    /// Begins with a route that is there since a time. Within `route_wait` every proxy has it, unless istiod says otherwise.
    pub fn new(since: Instant, route_wait: Duration) -> Self {
        Self {
            began: since,
            route_wait,
            first: BTreeMap::new(),
            dumpable: BTreeSet::new(),
            dumps: BTreeMap::new(),
            heads: BTreeMap::new(),
            scopes: BTreeMap::new(),
            sends: Has::Nothing,
            routes: None,
            endpoints: None,
            statuses: Vec::new(),
            at: since,
        }
    }

    /// Takes what istiod sends of the route: whether that is the route, and the push that brought it and its endpoints.
    pub fn sent(&mut self, has: Has, routes: Option<Brought>, endpoints: Option<Brought>) {
        self.routes = routes.filter(|_| has == Has::Route);
        self.endpoints = endpoints;
        self.sends = has;
    }

    /// Takes the status of all proxies as of a time; those first that are most likely to use the route.
    pub fn look(
        &mut self,
        statuses: Vec<ProxyStatus>,
        at: Instant,
        is_dumped: impl Fn(&ProxyStatus) -> bool,
    ) -> Wanted {
        self.statuses = statuses.into_iter().filter(ProxyStatus::is_routed).collect();
        self.at = at;
        let dumpable = self.statuses.iter().filter(|status| is_dumped(status));
        self.dumpable = dumpable.map(|status| status.proxy.clone()).collect();
        let statuses = &self.statuses;
        let is_there = |proxy: &String| statuses.iter().any(|status| status.proxy == *proxy);
        self.dumps.retain(|proxy, _| is_there(proxy));
        self.scopes.retain(|proxy, _| is_there(proxy));
        for status in &self.statuses {
            self.first.entry(status.proxy.clone()).or_insert_with(|| status.push());
            if let Some(head) = status.head() {
                let known = self.heads.entry(status.proxy.clone()).or_insert((head, at));
                *known = if known.0 == head { *known } else { (head, at) };
            }
        }
        if self.sends == Has::Nothing {
            self.routes = self.routes.or_else(|| self.statuses.iter().find_map(|status| self.brought(status)));
        }
        Wanted { dumps: self.dumps_wanted(), scopes: self.scopes_wanted() }
    }

    /// The push, or an earlier one, that brought the route to a proxy whose dump shows it, once all of that is acknowledged.
    fn brought(&self, status: &ProxyStatus) -> Option<Brought> {
        let Some((Has::Route, since)) = self.dumps.get(&status.proxy) else {
            return None;
        };
        let has_moved = self.first.get(&status.proxy).is_some_and(|first| *first != status.push());
        let is_sent = has_moved || self.at.duration_since(self.began) >= self.route_wait;
        let is_there = is_sent && self.at.duration_since(*since) >= SENDING && status.is_acknowledged();
        Some(Brought { number: Some(status.push()?), after: None, at: *since, bound: Bound::Most }).filter(|_| is_there)
    }

    /// Proxies that are not known to have the route, or not to use it.
    fn lacking(&self) -> impl Iterator<Item = &ProxyStatus> {
        self.statuses.iter().filter(|status| !self.has(status))
    }

    fn has(&self, status: &ProxyStatus) -> bool {
        let scope = self.scopes.get(&status.proxy);
        if scope.is_some_and(|scope| !scope.is_in) {
            return true;
        }
        let Some(routes) = self.routes.filter(|_| status.is_acknowledged()) else {
            return false;
        };
        let endpoint_push = number(&status.endpoint_sent);
        // Its own dump says more than a wait.
        let has_routes = if self.sends == Has::Nothing && self.dumpable.contains(&status.proxy) {
            let by_dump = match self.dumps.get(&status.proxy) {
                Some((Has::Route, _)) => self.brought(status).is_some(),
                Some((Has::Nothing, at)) => routes.is_over(self.route_wait, *at),
                Some((Has::Other(_), _)) | None => false,
            };
            by_dump || status.push() >= routes.number
        } else {
            self.is_had(status, &routes, status.push())
        };
        has_routes && self.endpoints.is_none_or(|endpoints| self.is_had(status, &endpoints, endpoint_push))
    }

    /// Whether a proxy, which has acknowledged all that it was sent, has what a push brought.
    fn is_had(&self, status: &ProxyStatus, brought: &Brought, push: Option<u64>) -> bool {
        let has_reached = |number: Option<u64>| push >= number || self.has_passed(status, number);
        let is_over = |wait: Duration| brought.is_over(wait, self.at);
        // The next push that it was sent, of whatever, may be the one.
        let is_there =
            || has_reached(brought.number) || (is_over(MERGED) && has_reached(brought.after.map(|after| after + 1)));
        match brought.bound {
            Bound::Exact => is_there(),
            Bound::Most => has_reached(brought.number) || is_over(self.route_wait),
            Bound::Least => is_there() && is_over(self.route_wait),
        }
    }

    /// Whether istiod has sent a proxy all of a push, which may be nothing.
    fn has_passed(&self, status: &ProxyStatus, number: Option<u64>) -> bool {
        let is_sent = |since: Instant| self.at.duration_since(since) >= SENDING;
        let by_head = self
            .heads
            .get(&status.proxy)
            .is_some_and(|(head, since)| Some(*head) > number || (Some(*head) == number && is_sent(*since)));
        let by_scope = |scope: &Scoped| scope.push >= number && is_sent(scope.since);
        by_head || self.scopes.get(&status.proxy).is_some_and(by_scope)
    }

    fn dumps_wanted(&self) -> Vec<String> {
        let is_dumped = |status: &&ProxyStatus| self.dumpable.contains(&status.proxy);
        if self.sends != Has::Nothing {
            return Vec::new();
        }
        if self.routes.is_some() {
            let late = self.lacking().filter(is_dumped);
            return late.take(SCOPES_MOST).map(|status| status.proxy.clone()).collect();
        }
        let knows = |status: &ProxyStatus| self.dumps.get(&status.proxy).map(|(has, _)| has);
        let name = |status: &ProxyStatus| status.proxy.clone();
        let is_user = |status: &&ProxyStatus| matches!(knows(status), Some(Has::Other(_) | Has::Route));
        if let Some(user) = self.statuses.iter().find(is_user) {
            // Until it has it, the others tell no more than that one does.
            return Some(user).filter(|user| knows(user) != Some(&Has::Route)).map(name).into_iter().collect();
        }
        // A new route is nowhere at first: who has been looked at is looked at again, last.
        let mut all: Vec<&ProxyStatus> = self.statuses.iter().filter(is_dumped).collect();
        all.sort_by_key(|status| knows(status).is_some());
        all.into_iter().take(DUMPS_MOST).map(name).collect()
    }

    fn scopes_wanted(&self) -> Vec<String> {
        let is_late = self.routes.is_some_and(|routes| routes.is_over(SCOPE_AFTER, self.at));
        let mut late: Vec<&ProxyStatus> = self.lacking().filter(|_| is_late).collect();
        late.sort_by_key(|status| self.scopes.get(&status.proxy).map(|scope| scope.told));
        late.into_iter().take(SCOPES_MOST).map(|status| status.proxy.clone()).collect()
    }

    /// Takes what the dump of a proxy showed.
    pub fn dumped(&mut self, proxy: &str, has: Has, now: Instant) {
        let since = match (&has, self.dumps.get(proxy)) {
            (Has::Route, Some((Has::Route, since))) => *since,
            (Has::Nothing | Has::Other(_) | Has::Route, _) => now,
        };
        self.dumps.insert(proxy.to_owned(), (has, since));
    }

    /// Takes the scope of a proxy, and whether the route is in it.
    pub fn scoped(&mut self, proxy: &str, scope: &Scope, is_in: bool, now: Instant) {
        let push = scope.number();
        let number = [self.routes, self.endpoints].into_iter().flatten().filter_map(|brought| brought.number).max();
        let before = self.scopes.get(proxy).filter(|before| before.push >= number);
        let since = before.map_or(now, |before| before.since);
        self.scopes.insert(proxy.to_owned(), Scoped { push, is_in, since, told: now });
    }

    /// What is missing; none once every proxy has acknowledged the route.
    pub fn missing(&self) -> Option<String> {
        if let Has::Other(what) = &self.sends {
            return Some(format!("istiod still sends {what}"));
        }
        if self.routes.is_none() {
            let other = self.dumps.iter().find_map(|(proxy, (has, _))| match has {
                Has::Other(what) => Some(format!("{proxy} still has {what}")),
                Has::Route => Some(format!("{proxy} has not acknowledged the route")),
                Has::Nothing => None,
            });
            let is_early = self.at.duration_since(self.began) < self.route_wait;
            return other.or_else(|| is_early.then(|| "istiod does not send the route to anybody yet".to_owned()));
        }
        let lacking: Vec<&ProxyStatus> = self.lacking().collect();
        if lacking.is_empty() {
            return None;
        }
        let named: Vec<&str> = lacking.iter().take(NAMES_MOST).map(|status| status.proxy.as_str()).collect();
        let more = lacking.len().saturating_sub(NAMES_MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (lacking, all) = (lacking.len(), self.statuses.len());
        Some(format!("{lacking} of {all} proxies have not acknowledged the route: {}{more}", named.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    /// A sidecar that was sent a push, and acknowledged one.
    fn proxy(name: &str, sent: u64, acked: u64) -> ProxyStatus {
        let nonce = |number: u64| format!("2026-11-22T09:36:36Z/{number}{}", "0".repeat(36));
        let (route_sent, route_acked) = (nonce(sent), nonce(acked));
        ProxyStatus {
            proxy: name.into(),
            proxy_type: "sidecar".into(),
            route_sent,
            route_acked,
            ..ProxyStatus::default()
        }
    }

    fn gateway(name: &str, sent: u64, acked: u64) -> ProxyStatus {
        ProxyStatus { proxy_type: "router".into(), ..proxy(name, sent, acked) }
    }

    fn scope(number: u64) -> Scope {
        serde_json::from_value(json!({"version": format!("2026-11-22T09:36:36Z/{number}")})).unwrap()
    }

    /// A push that was seen right after the one before it.
    fn brought(number: u64, at: Instant) -> Brought {
        Brought { number: Some(number), after: Some(number - 1), at, bound: Bound::Exact }
    }

    /// A replica at which Serin saw a push bring the route.
    fn replica(began: Instant, number: u64) -> Replica {
        let mut replica = Replica::new(began, WAIT);
        replica.sent(Has::Route, Some(brought(number, began)), None);
        replica
    }

    fn after(began: Instant, millis: u64) -> Instant {
        began + Duration::from_millis(millis)
    }

    /// Looks at statuses; what is missing.
    fn look(replica: &mut Replica, statuses: Vec<ProxyStatus>, at: Instant) -> Option<String> {
        replica.look(statuses, at, ProxyStatus::is_gateway);
        replica.missing()
    }

    #[test]
    fn the_push_that_brought_the_route_is_acknowledged_by_all() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        replica.sent(Has::Other("canary 40, stable 60".into()), None, None);
        assert_eq!(
            look(&mut replica, vec![proxy("one", 7, 7)], began).unwrap(),
            "istiod still sends canary 40, stable 60"
        );
        replica.sent(Has::Route, Some(brought(8, began)), None);
        let all = |one: u64, two: u64| vec![proxy("one", 8, one), gateway("two", two, two)];
        assert_eq!(
            look(&mut replica, all(7, 7), after(began, 100)).unwrap(),
            "2 of 2 proxies have not acknowledged the route: one, two"
        );
        assert_eq!(
            look(&mut replica, all(8, 7), after(began, 30_000)).unwrap(),
            "1 of 2 proxies have not acknowledged the route: two",
            "however long it takes"
        );
        assert_eq!(look(&mut replica, all(8, 9), after(began, 30_001)), None);
    }

    #[test]
    fn who_is_not_concerned_has_passed_the_push_by_its_scope() {
        let began = Instant::now();
        let mut replica = replica(began, 8);
        let all = || vec![proxy("one", 8, 8), proxy("two", 3, 3)];
        assert_eq!(
            replica.look(all(), after(began, 100), ProxyStatus::is_gateway),
            Wanted::default(),
            "it may come yet"
        );
        let wanted = replica.look(all(), after(began, 600), ProxyStatus::is_gateway);
        assert_eq!((wanted.dumps, wanted.scopes), (vec![], vec!["two".to_owned()]));
        replica.scoped("two", &scope(7), true, after(began, 600));
        assert!(look(&mut replica, all(), after(began, 9_000)).is_some(), "it is in the queue");
        replica.scoped("two", &scope(8), true, after(began, 9_000));
        assert!(look(&mut replica, all(), after(began, 9_050)).is_some(), "its routes may be about to be sent");
        assert_eq!(look(&mut replica, all(), after(began, 10_000)), None);
    }

    #[test]
    fn who_is_silent_is_waited_for_where_it_may_use_the_route() {
        let began = Instant::now();
        let mut replica = replica(began, 8);
        let all = || vec![proxy("one", 8, 7)];
        assert!(look(&mut replica, all(), after(began, 60_000)).is_some());
        replica.scoped("one", &scope(8), true, after(began, 60_000));
        assert!(look(&mut replica, all(), after(began, 70_000)).is_some());
        replica.scoped("one", &scope(8), false, after(began, 70_000));
        assert_eq!(look(&mut replica, all(), after(began, 70_000)), None);
    }

    #[test]
    fn who_has_a_sidecar_that_imports_nothing_is_not_waited_for() {
        let began = Instant::now();
        let mut replica = replica(began, 8);
        let all = || vec![proxy("one", 5, 4)];
        assert_eq!(replica.look(all(), after(began, 600), ProxyStatus::is_gateway).scopes, ["one"]);
        // As istiod tells it, but for what is not read.
        let told = r#"{"egressListeners": [{"hosts": {}}], "services": null, "version": "2026-11-22T09:36:36Z/5"}"#;
        let scope: Scope = serde_json::from_str(told).unwrap();
        let is_in = scope.has_any(&["checkout.shop.svc.cluster.local"].into());
        replica.scoped("one", &scope, is_in, after(began, 600));
        assert_eq!(look(&mut replica, all(), after(began, 650)), None);
    }

    #[test]
    fn a_push_that_may_have_come_before_is_waited_for() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        let all = || vec![proxy("one", 7, 7)];
        let brought = |number, bound| Some(Brought { number, after: Some(5), at: began, bound });
        for (number, bound, at_first, later) in [
            (None, Bound::Least, true, false),
            (Some(7), Bound::Least, true, false),
            (Some(9), Bound::Least, true, true),
            (Some(7), Bound::Most, false, false),
            (Some(9), Bound::Most, true, false),
            (Some(9), Bound::Exact, true, true),
        ] {
            replica.sent(Has::Route, brought(number, bound), None);
            let seen = [1_900, 2_000].map(|millis| look(&mut replica, all(), after(began, millis)).is_some());
            assert_eq!(seen, [at_first, later], "{number:?} {bound:?}");
        }
    }

    #[test]
    fn a_push_that_became_one_with_the_next_for_serin_alone_is_told_a_while_later() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        let all = |number: u64| vec![proxy("one", number, number)];
        replica.sent(Has::Route, Some(Brought { after: Some(7), ..brought(9, began) }), None);
        assert!(look(&mut replica, all(8), after(began, 19_000)).is_some());
        assert_eq!(look(&mut replica, all(8), after(began, 20_000)), None);
        assert!(look(&mut replica, all(7), after(began, 30_000)).is_some(), "it was sent nothing since");
    }

    #[test]
    fn endpoints_come_by_pushes_of_their_own() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        replica.sent(Has::Route, Some(brought(8, began)), Some(Brought { after: None, ..brought(9, began) }));
        let status = |sent: u64| {
            let endpoint_sent = proxy("", sent, sent).route_sent;
            vec![ProxyStatus { endpoint_acked: endpoint_sent.clone(), endpoint_sent, ..proxy("one", 8, 8) }]
        };
        assert!(look(&mut replica, status(7), after(began, 9_000)).is_some());
        assert_eq!(look(&mut replica, status(9), after(began, 9_000)), None);
        replica.scoped("one", &scope(9), true, after(began, 9_000));
        assert_eq!(look(&mut replica, status(7), after(began, 10_000)), None, "a rule moved, and it passed that");
        let mut replica = Replica::new(began, WAIT);
        replica.sent(Has::Route, Some(brought(8, began)), Some(Brought { after: None, ..brought(9, began) }));
        assert_eq!(look(&mut replica, status(7), after(began, 20_000)), None, "it may not have this cluster");
    }

    #[test]
    fn a_route_of_gateways_is_shown_by_the_dump_of_one() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        let all = |number: u64| vec![proxy("one", 7, 7), gateway("two", number, number)];
        let wanted = replica.look(all(7), began, ProxyStatus::is_gateway);
        assert_eq!(wanted.dumps, ["two"], "no sidecar is asked for its dump");
        replica.dumped("two", Has::Other("stable 100".into()), began);
        assert_eq!(replica.missing().unwrap(), "two still has stable 100");
        replica.dumped("two", Has::Route, after(began, 60));
        assert!(look(&mut replica, all(8), after(began, 1_000)).is_some(), "it may be about to be sent");
        assert_eq!(
            look(&mut replica, all(8), after(began, 1_100)).unwrap(),
            "1 of 2 proxies have not acknowledged the route: one"
        );
        replica.scoped("one", &scope(8), true, after(began, 1_100));
        assert_eq!(look(&mut replica, all(8), after(began, 2_100)), None);
        // Another gateway is late: its own dump tells.
        let all = |number: u64| vec![gateway("two", 9, 9), gateway("three", number, number)];
        assert_eq!(replica.look(all(7), after(began, 2_200), ProxyStatus::is_gateway).dumps, ["three"]);
        replica.dumped("three", Has::Other("stable 100".into()), after(began, 2_200));
        assert!(look(&mut replica, all(7), after(began, 30_000)).unwrap().ends_with(": three"));
        replica.dumped("three", Has::Route, after(began, 30_000));
        assert!(look(&mut replica, all(7), after(began, 30_100)).is_some(), "it may be about to be sent");
        assert_eq!(look(&mut replica, all(7), after(began, 31_000)), None);
    }

    #[test]
    fn a_route_that_nobody_gets_is_waited_for() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        let all = || vec![gateway("one", 7, 7)];
        replica.look(all(), after(began, 1_000), ProxyStatus::is_gateway);
        replica.dumped("one", Has::Nothing, after(began, 1_000));
        assert_eq!(replica.missing().unwrap(), "istiod does not send the route to anybody yet");
        assert_eq!(look(&mut replica, all(), after(began, 2_000)), None);
    }

    #[test]
    fn neither_ztunnels_nor_serin_itself_are_waited_for() {
        let began = Instant::now();
        let mut replica = replica(began, 8);
        let ztunnel = ProxyStatus { proxy_type: "ztunnel".into(), ..proxy("one", 1, 0) };
        assert_eq!(look(&mut replica, vec![ztunnel, proxy("serin:controller.istio-system", 3, 2)], began), None);
    }

    #[test]
    fn a_waypoint_has_its_routes_in_its_listeners() {
        let began = Instant::now();
        let mut replica = replica(began, 8);
        let all = |sent: u64, acked: u64| {
            let ProxyStatus { route_sent, route_acked, .. } = proxy("", sent, acked);
            let waypoint = ProxyStatus { proxy: "one".into(), proxy_type: "waypoint".into(), ..ProxyStatus::default() };
            vec![ProxyStatus { listener_sent: route_sent, listener_acked: route_acked, ..waypoint }]
        };
        for (sent, acked) in [(7, 7), (8, 7)] {
            assert!(look(&mut replica, all(sent, acked), after(began, 30_000)).is_some(), "{sent} {acked}");
        }
        assert_eq!(look(&mut replica, all(8, 8), after(began, 30_001)), None);
    }

    #[test]
    fn a_nonce_has_the_number_of_its_push() {
        assert_eq!(number("2026-11-22T09:36:36Z/49c0b19ba-3ad4-4939-9308-12ac6198b1b6"), Some(4));
        assert_eq!(number(""), None);
        assert_eq!(number("2026-11-22T09:36:36Z/1239c0b19ba-3ad4-4939-9308-12ac6198b1b6"), Some(123));
    }
}
