//! What one istiod knows of its proxies: which of them have acknowledged the route that an inquiry is about.
//!
//! A dump shows what istiod generates for a proxy from the state that it last began to push to it, and `/debug/syncz` tells the
//! push that each proxy was last sent, by kind of resource, and whether it acknowledged it. So a proxy has the route when its
//! dump shows it, and a moment later all that it was sent is acknowledged: while one push is under way to a proxy, istiod keeps
//! what changes meanwhile for the next one, so that nothing older follows. Any other has it too once it has acknowledged a push
//! that is not older; those that have not are asked for their dump, a few at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::dump::Has;

/// How long it takes at most from when istiod begins a push to a proxy until all of it is sent.
const SENDING: Duration = Duration::from_millis(100);
/// Dumps of one look; more while no proxy is known that uses the route.
const DUMPS_MOST: usize = 8;
const SEARCH_MOST: usize = 32;
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
}

/// The number of a push: a nonce is `TIME/NUMBER` and a UUID of 36 characters.
fn number(nonce: &str) -> Option<u64> {
    let version = nonce.get(..nonce.len().checked_sub(36)?)?;
    version.rsplit_once('/')?.1.parse().ok()
}

/// What the dump of a proxy showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It did not use the route then.
    Unused(Instant),
    /// It has something else.
    Other(String),
    /// It has the route since then, sent or about to be.
    Route(Instant),
}

/// What is known of one istiod's proxies.
#[derive(Debug)]
pub struct Replica {
    began: Instant,
    route_wait: Duration,
    first: BTreeMap<String, Option<u64>>,
    known: BTreeMap<String, Known>,
    /// When a route was first seen that no proxy had before: who will use it is known a while later.
    new_since: Option<Instant>,
    /// The push that brought the route.
    push: Option<u64>,
    /// The status of all proxies, as of when.
    statuses: Vec<ProxyStatus>,
    at: Instant,
}

impl Replica {
    /// Begins. Within `route_wait` every proxy has the route, unless istiod says otherwise.
    pub fn new(now: Instant, route_wait: Duration) -> Self {
        Self {
            began: now,
            route_wait,
            first: BTreeMap::new(),
            known: BTreeMap::new(),
            new_since: None,
            push: None,
            statuses: Vec::new(),
            at: now,
        }
    }

    /// Takes the status of all proxies as of a time. Which of their dumps are wanted next; those first that come first.
    pub fn look(&mut self, statuses: Vec<ProxyStatus>, at: Instant) -> Vec<String> {
        (self.statuses, self.at) = (statuses, at);
        self.known.retain(|proxy, _| self.statuses.iter().any(|status| status.proxy == *proxy));
        for status in &self.statuses {
            self.first.entry(status.proxy.clone()).or_insert_with(|| status.push());
        }
        // One that was shown to have it tells which push brought it.
        let shown = self.statuses.iter().find(|status| self.has_by_dump(status));
        self.push = self.push.or(shown.and_then(ProxyStatus::push));
        self.wanted()
    }

    /// Proxies that are not known to have the route, or not to use it.
    fn lacking(&self) -> impl Iterator<Item = &ProxyStatus> {
        self.statuses.iter().filter(|status| {
            let has_push = status.is_acknowledged() && self.push.is_some_and(|push| status.push() >= Some(push));
            !has_push && !self.is_unused(&status.proxy) && !self.has_by_dump(status)
        })
    }

    fn is_used(&self) -> bool {
        self.known.values().any(|known| !matches!(known, Known::Unused(_)))
    }

    /// Whether it does not use the route; a new one it may have been sent later than others.
    fn is_unused(&self, proxy: &str) -> bool {
        let is_final = |at: &Instant| self.new_since.is_none_or(|since| at.duration_since(since) >= self.route_wait);
        matches!(self.known.get(proxy), Some(Known::Unused(at)) if is_final(at))
    }

    /// Whether its dump showed the route, and all that it was sent since is acknowledged.
    fn has_by_dump(&self, status: &ProxyStatus) -> bool {
        let Some(Known::Route(since)) = self.known.get(&status.proxy) else {
            return false;
        };
        let has_moved = self.first.get(&status.proxy).is_some_and(|first| *first != status.push());
        let is_sent = has_moved || self.at.duration_since(self.began) >= self.route_wait;
        is_sent && self.at.duration_since(*since) >= SENDING && status.is_acknowledged()
    }

    fn wanted(&self) -> Vec<String> {
        let knows = |status: &ProxyStatus| self.known.get(&status.proxy);
        let is_user = |status: &&ProxyStatus| matches!(knows(status), Some(Known::Other(_) | Known::Route(_)));
        let is_open = |status: &&ProxyStatus| !matches!(knows(status), Some(Known::Route(_)));
        let name = |status: &ProxyStatus| status.proxy.clone();
        if !self.statuses.iter().any(|status| is_user(&status)) {
            // A new route is nowhere at first: who has been looked at is looked at again, last.
            let mut all: Vec<&ProxyStatus> = self.statuses.iter().collect();
            all.sort_by_key(|status| knows(status).is_some());
            return all.into_iter().take(SEARCH_MOST).map(name).collect();
        }
        let lacking = self.lacking().filter(is_open);
        if self.push.is_none() {
            // Until one has it, the others tell no more than that one does.
            return lacking.filter(is_user).take(1).map(name).collect();
        }
        lacking.filter(|status| status.is_acknowledged()).take(DUMPS_MOST).map(name).collect()
    }

    /// Takes what the dump of a proxy showed.
    pub fn dumped(&mut self, proxy: &str, has: Has, now: Instant) {
        let is_first = !self.is_used();
        let known = match (has, self.known.get(proxy)) {
            (Has::Nothing, _) => Known::Unused(now),
            (Has::Other(what), _) => Known::Other(what),
            (Has::Route, Some(Known::Route(since))) => Known::Route(*since),
            (Has::Route, Some(_) | None) => Known::Route(now),
        };
        if is_first && matches!(known, Known::Route(_)) {
            self.new_since = Some(now);
        }
        self.known.insert(proxy.to_owned(), known);
    }

    /// What is missing; none once every proxy has acknowledged the route.
    pub fn missing(&self) -> Option<String> {
        if !self.is_used() && self.at.duration_since(self.began) < self.route_wait {
            return Some("no proxy has the route yet".into());
        }
        let lacking: Vec<&ProxyStatus> = self.lacking().collect();
        if lacking.is_empty() {
            return None;
        }
        let named: Vec<String> = lacking.iter().take(NAMES_MOST).map(|status| self.told(&status.proxy)).collect();
        let more = lacking.len().saturating_sub(NAMES_MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (lacking, all) = (lacking.len(), self.statuses.len());
        Some(format!("{lacking} of {all} proxies have not acknowledged the route: {}{more}", named.join(", ")))
    }

    fn told(&self, proxy: &str) -> String {
        match self.known.get(proxy) {
            Some(Known::Other(what)) => format!("{proxy} (has {what})"),
            Some(Known::Unused(_) | Known::Route(_)) | None => proxy.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(2);
    const USES: &str = "a proxy that uses the route";

    /// A proxy that was sent a push, and acknowledged one.
    fn proxy(name: &str, sent: u64, acked: u64) -> ProxyStatus {
        let nonce = |number: u64| format!("2026-11-22T09:36:36Z/{number}{}", "0".repeat(36));
        ProxyStatus { proxy: name.into(), route_sent: nonce(sent), route_acked: nonce(acked), ..ProxyStatus::default() }
    }

    fn after(began: Instant, millis: u64) -> Instant {
        began + Duration::from_millis(millis)
    }

    #[test]
    fn one_dump_tells_which_push_brought_the_route() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        let all = |one: u64, two: u64| vec![proxy("one", one, one), proxy("two", two, two)];
        assert_eq!(replica.look(all(7, 7), began), ["one", "two"], "nothing is known");
        replica.dumped("one", Has::Other("stable 100".into()), began);
        assert!(replica.missing().unwrap().contains("one (has stable 100)"));
        assert_eq!(replica.look(all(7, 7), after(began, 50)), ["one"], "the others tell no more");
        replica.dumped("one", Has::Route, after(began, 60));
        replica.look(all(8, 7), after(began, 100));
        assert!(replica.missing().is_some(), "it may be about to be sent");
        replica.look(all(8, 7), after(began, 200));
        assert_eq!(replica.missing().unwrap(), "1 of 2 proxies have not acknowledged the route: two");
        replica.look(all(8, 8), after(began, 250));
        assert_eq!(replica.missing(), None, "{USES}: no second dump was needed");
    }

    #[test]
    fn what_is_sent_is_not_yet_acknowledged() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        replica.look(vec![proxy("one", 7, 7)], began);
        replica.dumped("one", Has::Route, began);
        replica.look(vec![proxy("one", 8, 7)], after(began, 30_000));
        assert!(replica.missing().is_some(), "a proxy that never answers");
        replica.look(vec![proxy("one", 8, 8)], after(began, 31_000));
        assert_eq!(replica.missing(), None);
    }

    #[test]
    fn a_push_that_came_before_the_first_look_is_waited_for() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        replica.look(vec![proxy("one", 8, 8)], began);
        replica.dumped("one", Has::Route, began);
        replica.look(vec![proxy("one", 8, 8)], after(began, 1_900));
        assert!(replica.missing().is_some(), "nobody knows whether it was sent");
        replica.look(vec![proxy("one", 8, 8)], after(began, 2_000));
        assert_eq!(replica.missing(), None);
    }

    #[test]
    fn who_does_not_use_the_route_is_not_waited_for() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        let all = |one: u64| vec![proxy("one", one, one), proxy("other", 3, 3)];
        replica.look(all(7), began);
        replica.dumped("one", Has::Other("stable 100".into()), began);
        replica.dumped("other", Has::Nothing, began);
        replica.look(all(7), after(began, 50));
        replica.dumped("one", Has::Route, after(began, 50));
        replica.look(all(8), after(began, 200));
        assert_eq!(replica.missing(), None);
    }

    #[test]
    fn who_uses_a_new_route_is_known_a_while_later() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        let all = |one: u64, two: u64| vec![proxy("one", one, one), proxy("two", two, two)];
        replica.look(all(7, 7), began);
        replica.dumped("one", Has::Nothing, began);
        replica.dumped("two", Has::Nothing, began);
        assert_eq!(replica.missing().unwrap(), "no proxy has the route yet");
        assert_eq!(replica.look(all(7, 7), after(began, 50)).len(), 2, "they are looked at again");
        replica.dumped("one", Has::Route, after(began, 60));
        replica.dumped("two", Has::Nothing, after(began, 60));
        replica.look(all(8, 7), after(began, 300));
        assert!(replica.missing().unwrap().contains("two"), "it may get it, too");
        replica.dumped("two", Has::Nothing, after(began, 2_100));
        replica.look(all(8, 7), after(began, 2_100));
        assert_eq!(replica.missing(), None);
    }

    #[test]
    fn a_route_that_nobody_uses_is_waited_for() {
        let began = Instant::now();
        let mut replica = Replica::new(began, WAIT);
        replica.look(vec![proxy("one", 7, 7)], after(began, 1_000));
        replica.dumped("one", Has::Nothing, after(began, 1_000));
        assert!(replica.missing().is_some());
        replica.look(vec![proxy("one", 7, 7)], after(began, 2_000));
        assert_eq!(replica.missing(), None);
    }

    #[test]
    fn a_nonce_has_the_number_of_its_push() {
        assert_eq!(number("2026-11-22T09:36:36Z/49c0b19ba-3ad4-4939-9308-12ac6198b1b6"), Some(4));
        assert_eq!(number(""), None);
        assert_eq!(number("2026-11-22T09:36:36Z/1239c0b19ba-3ad4-4939-9308-12ac6198b1b6"), Some(123));
    }
}
