//! What one istiod sends its proxies of the routes that are asked about, and by which push that came.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::dump::Config;
use crate::plan::route::Question;

/// The push that brought something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// Its number; none where it came before there was any that was seen.
    pub number: Option<u64>,
    /// The last push before it that was seen. What changed in one after that, istiod may have sent together with it.
    pub after: Option<u64>,
    /// When it was seen.
    pub at: Instant,
    /// What the number says.
    pub bound: Bound,
}

/// What the number of a push says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// It was this one, or one that was not seen came after: who has this, and has waited, has it.
    Least,
    /// It was this one or an earlier one: who has this, or has waited, has it.
    Most,
    /// It was this one: who has this has it.
    Exact,
}

impl Brought {
    /// Whether a wait is over since it was seen.
    pub fn is_over(&self, wait: Duration, now: Instant) -> bool {
        now.duration_since(self.at) >= wait
    }

    /// The same of a route that is there since a time: what came before Serin looked came no earlier.
    #[must_use]
    pub fn written(self, since: Instant) -> Self {
        let at = if self.bound == Bound::Least { self.at.min(since) } else { self.at };
        Self { at, ..self }
    }

    /// The later one of two; of one push that which is exact.
    fn latest(self, other: Self) -> Self {
        std::cmp::max_by_key(self, other, |one| (one.number, one.bound))
    }
}

/// What an istiod sends of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The resources.
    pub configs: Vec<Config>,
    /// The push that brought the routes, where some are sent.
    pub routes: Option<Brought>,
    /// The push that brought the revisions of the endpoints.
    pub endpoints: Option<Brought>,
}

/// Resources by name, as they were last sent.
#[derive(Debug, Default)]
pub struct Seen {
    resources: BTreeMap<String, Resource>,
    /// The last push that was seen, and the last before it.
    last: Option<u64>,
    before: Option<u64>,
}

#[derive(Debug)]
struct Resource {
    config: Config,
    brought: Brought,
}

impl Seen {
    /// Takes a resource of a push. Pods that come and go change nothing, only revisions of them do.
    pub fn take(&mut self, config: Config, number: u64, now: Instant) {
        let is_same = |known: &Config| {
            if config.is_endpoints() { known.revisions() == config.revisions() } else { *known == config }
        };
        if self.last != Some(number) {
            self.before = self.last.replace(number);
        }
        let brought = match self.resources.get(config.name()) {
            Some(known) if is_same(&known.config) => known.brought,
            Some(_) => Brought { number: Some(number), after: self.before, at: now, bound: Bound::Exact },
            // It may have been there for long: this is the answer to a question, not a push.
            None => Brought { number: None, after: None, at: now, bound: Bound::Least },
        };
        self.resources.insert(config.name().to_owned(), Resource { config, brought });
    }

    /// Forgets what nobody asks about any more.
    pub fn keep(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.resources.retain(|name, _| is_wanted(name));
    }

    /// Whether a resource was sent.
    pub fn has(&self, name: &str) -> bool {
        self.resources.contains_key(name)
    }

    /// What is sent of a route that is asked about since a time.
    pub fn shown(&self, question: &Question, since: Instant) -> Shown {
        let named = question.listeners.iter().chain(&question.clusters);
        let all: Vec<&Resource> = named.filter_map(|name| self.resources.get(name)).collect();
        let (endpoints, routes): (Vec<&Resource>, Vec<&Resource>) =
            all.iter().partition(|one| one.config.is_endpoints());
        // Who does not have these endpoints gets no push of theirs.
        let endpoints = endpoints.iter().map(|one| Brought { after: None, ..one.brought }).reduce(Brought::latest);
        // A push of endpoints since then ends what may have been in between, too: it comes after.
        let is_ended = endpoints.is_some_and(|endpoints| endpoints.bound == Bound::Exact && endpoints.at >= since);
        let routes = routes.iter().map(|one| if is_ended { one.brought } else { one.brought_since(since) });
        Shown {
            configs: all.iter().map(|one| one.config.clone()).collect(),
            routes: routes.reduce(Brought::latest),
            endpoints,
        }
    }
}

impl Resource {
    /// The push that brought it, to who asks since a time. What was there before may have been something else in between, which
    /// other proxies were sent.
    fn brought_since(&self, since: Instant) -> Brought {
        if self.brought.at >= since {
            return self.brought;
        }
        Brought { at: since, bound: Bound::Least, ..self.brought }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn routes(weight: i64) -> Config {
        let route = json!({"name": "serin", "route": {"weightedClusters": {"clusters": [{"name": "outbound|80|canary|a", "weight": weight}]}}});
        serde_json::from_value(json!({"name": "a:80", "virtualHosts": [{"routes": [route]}]})).unwrap()
    }

    fn endpoints(revisions: &[&str]) -> Config {
        let workloads = revisions.iter().map(|revision| Some(format!("pod;shop;a;{revision};Kubernetes"))).collect();
        Config::of_endpoints("outbound|80|canary|a".into(), workloads)
    }

    fn after(began: Instant, millis: u64) -> Instant {
        began + Duration::from_millis(millis)
    }

    #[test]
    fn the_push_that_brought_a_route_is_known_where_it_was_seen() {
        let began = Instant::now();
        let question = Question {
            listeners: ["a:80".to_owned()].into(),
            clusters: ["outbound|80|canary|a".to_owned()].into(),
            ..Question::default()
        };
        let mut seen = Seen::default();
        assert_eq!(seen.shown(&question, began), Shown::default());
        let brought =
            |number, after_push, at, bound| Some(Brought { number, after: after_push, at: after(began, at), bound });
        seen.take(routes(10), 4, began);
        let shown = seen.shown(&question, began);
        assert_eq!(shown.routes, brought(None, None, 0, Bound::Least), "it may have been there for long");
        seen.take(routes(20), 6, after(began, 20));
        seen.take(routes(20), 7, after(began, 30));
        assert_eq!(seen.shown(&question, began).routes, brought(Some(6), Some(4), 20, Bound::Exact));
        // What was there before the question may have been something else in between.
        let shown = seen.shown(&question, after(began, 25));
        assert_eq!(shown.routes, brought(Some(6), Some(4), 25, Bound::Least));
        let written = shown.routes.map(|routes| routes.written(after(began, 10)));
        assert_eq!(written, brought(Some(6), Some(4), 10, Bound::Least));
        seen.take(endpoints(&["1", "1"]), 8, after(began, 50));
        seen.take(endpoints(&["1"]), 9, after(began, 60));
        let shown = seen.shown(&question, after(began, 40));
        assert_eq!((shown.endpoints, shown.configs.len()), (brought(None, None, 50, Bound::Least), 2), "a pod went");
        seen.take(endpoints(&["2"]), 10, after(began, 70));
        assert_eq!(seen.shown(&question, began).endpoints, brought(Some(10), None, 70, Bound::Exact));
        let shown = seen.shown(&question, after(began, 65));
        assert_eq!(shown.routes, brought(Some(6), Some(4), 20, Bound::Exact), "what comes after tells of all before");
        seen.keep(|name| name == "a:80");
        assert_eq!((seen.has("a:80"), seen.has("outbound|80|canary|a")), (true, false));
    }
}
