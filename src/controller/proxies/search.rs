//! Looks for one route at the proxies of every istiod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::dump::{self, Config, Dump};
use super::replica::{ProxyStatus, Replica, Scope};
use super::seen::Shown;
use super::{Answer, Inquiry, Proxies};
use crate::plan::route::{Question, Side};

/// Looks in a row for which a proxy is not shown, before that is taken for an answer.
const REFUSED_MOST: u32 = 5;

/// A cluster that every istiod has.
const ANYTHING: &str = "outbound|443||kubernetes.default.svc.cluster.local";

/// Tells what the istiods know.
pub trait Source: Send + Sync + 'static {
    /// What each istiod tells of its proxies, a moment old at most; all of them answer, or none does.
    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Told>, Failure>>;

    /// What one istiod sends of a route that is asked about since a time.
    fn shown<'a>(&'a self, istiod: &'a str, asked: (&'a Question, Instant)) -> BoxFuture<'a, Result<Shown, Failure>>;

    /// The scope of one proxy of an istiod.
    fn scope<'a>(&'a self, istiod: &'a str, proxy: &'a str) -> BoxFuture<'a, Result<Scope, Failure>>;

    /// The resources of some kinds that one istiod generates for one of its proxies: routes of gateways, or listeners. Any
    /// other question does harm: istiod keeps what it generates.
    fn dump<'a>(&'a self, istiod: &'a str, proxy: &'a str, kinds: &'a str) -> BoxFuture<'a, Result<Dump, Failure>>;

    /// Proxies that are at no istiod and are expected back.
    fn vanished(&self, told: &[Told]) -> Vec<String>;

    /// What follows when there is no answer.
    fn failed(&self, failure: Failure) -> Answer;

    /// Within what time every proxy has a route, unless an istiod says otherwise.
    fn route_wait(&self) -> Duration;
}

/// What one istiod tells.
pub struct Told {
    /// Which istiod.
    pub istiod: String,
    /// As of when.
    pub at: Instant,
    /// Its proxies.
    pub proxies: Arc<Vec<ProxyStatus>>,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// A sentence.
    pub message: String,
    /// Whether it was understood and refused.
    pub is_refusal: bool,
}

/// Every inquiry asks one source.
pub struct Searches<S>(pub Arc<S>);

impl<S: Source> Proxies for Searches<S> {
    fn inquire(&self, question: Question, age: Duration) -> Box<dyn Inquiry> {
        let began = Instant::now();
        Box::new(Search {
            source: self.0.clone(),
            question,
            began,
            written: began.checked_sub(age).unwrap_or(began),
            replicas: BTreeMap::new(),
            refused: 0,
        })
    }

    fn refusal(&self) -> BoxFuture<'_, Option<String>> {
        async {
            match self.0.failed(refusal(self.0.as_ref()).await?) {
                Answer::Unoffered(why) => Some(why),
                Answer::Missing(_) | Answer::Acknowledged => None,
            }
        }
        .boxed()
    }
}

/// Why the status of proxies, the scope of one, or what they are sent is not told.
async fn refusal(source: &impl Source) -> Option<Failure> {
    let told = match source.statuses().await {
        Ok(told) => told,
        Err(failure) => return Some(failure),
    };
    for one in &told {
        // Any question will do.
        let question = Question { clusters: [ANYTHING.to_owned()].into(), ..Question::default() };
        if let Err(failure) = source.shown(&one.istiod, (&question, Instant::now())).await {
            return Some(failure);
        }
    }
    let (istiod, proxy) =
        told.iter().find_map(|one| Some((&one.istiod, one.proxies.iter().find(|one| one.is_routed())?)))?;
    source.scope(istiod, &proxy.proxy).await.err()
}

/// One route, looked for at every istiod.
struct Search<S> {
    source: Arc<S>,
    question: Question,
    began: Instant,
    /// Since when the route is there, as far as that is known.
    written: Instant,
    replicas: BTreeMap<String, Replica>,
    /// Looks in a row for which a proxy was not shown.
    refused: u32,
}

impl<S: Source> Inquiry for Search<S> {
    fn look(&mut self) -> BoxFuture<'_, Answer> {
        self.look_once().boxed()
    }
}

impl<S: Source> Search<S> {
    async fn look_once(&mut self) -> Answer {
        let source = self.source.clone();
        let told = match source.statuses().await {
            Ok(told) => told,
            Err(failure) => return source.failed(failure),
        };
        self.replicas.retain(|istiod, _| told.iter().any(|one| one.istiod == *istiod));
        let mut missing = Vec::new();
        for one in &told {
            match self.look_at(one).await {
                Ok(lack) => missing.extend(lack),
                Err(failure) => return source.failed(failure),
            }
        }
        let vanished = source.vanished(&told);
        if let Some(one) = vanished.first() {
            missing.push(format!("{} proxies are not back at an istiod yet, {one} among them", vanished.len()));
        }
        if missing.is_empty() { Answer::Acknowledged } else { Answer::Missing(missing.join("; ")) }
    }

    /// Looks at the proxies of one istiod; what is missing there.
    async fn look_at(&mut self, told: &Told) -> Result<Option<String>, Failure> {
        // Those that are most likely to use the route come first.
        let namespace = self.question.virtual_services.first().map_or("", |one| one.namespace.as_str());
        let mut proxies = told.proxies.as_ref().clone();
        proxies.sort_by_key(|proxy| (!proxy.is_of(namespace), !proxy.is_gateway()));
        let (written, route_wait) = (self.written, self.source.route_wait());
        let shown = self.source.shown(&told.istiod, (&self.question, self.began)).await?;
        let replica = self.replicas.entry(told.istiod.clone()).or_insert_with(|| Replica::new(written, route_wait));
        let sent = Dump { configs: shown.configs };
        let [routes, endpoints] = [shown.routes, shown.endpoints].map(|one| one.map(|one| one.written(written)));
        replica.sent(dump::has(&self.question, &sent), routes, endpoints);
        // Listeners hold the routes that are not HTTP.
        let is_http = self.question.is_http;
        let wanted = replica.look(proxies, told.at, |proxy| proxy.is_gateway() || !is_http);
        let endpoints: Vec<_> = sent.configs.into_iter().filter(Config::is_endpoints).collect();
        let mut refusal = None;
        let kinds = |proxy: &String| match told.proxies.iter().any(|one| one.proxy == *proxy && one.is_gateway()) {
            true if is_http => "rds",
            true => "rds,lds",
            false => "lds",
        };
        let dumps = wanted.dumps.iter().map(|proxy| self.source.dump(&told.istiod, proxy, kinds(proxy)));
        let dumps = join_all(dumps).await;
        for (proxy, dump) in wanted.dumps.iter().zip(dumps) {
            match dump {
                Ok(mut dump) => {
                    dump.configs.extend(endpoints.iter().cloned());
                    replica.dumped(proxy, dump::has(&self.question, &dump), Instant::now());
                }
                Err(failure) => refusal = Some(failure),
            }
        }
        let hosts: BTreeSet<&str> = self.question.sides.iter().map(Side::host).collect();
        let scopes = join_all(wanted.scopes.iter().map(|proxy| self.source.scope(&told.istiod, proxy))).await;
        for (proxy, scope) in wanted.scopes.iter().zip(scopes) {
            match scope {
                Ok(scope) => replica.scoped(proxy, &scope, scope.has_any(&hosts), Instant::now()),
                Err(failure) => refusal = Some(failure),
            }
        }
        let missing = replica.missing();
        self.refused(refusal).map_or(Ok(missing), Err)
    }

    /// Takes note of a proxy that is not shown: one that has just gone, or all of them, when that has lasted.
    fn refused(&mut self, failure: Option<Failure>) -> Option<Failure> {
        if let Some(failure) = &failure {
            tracing::debug!(error = %failure.message, "a proxy is not shown");
        }
        let refusal = failure.filter(|failure| failure.is_refusal);
        self.refused = if refusal.is_some() { self.refused + 1 } else { 0 };
        refusal.filter(|_| self.refused >= REFUSED_MOST)
    }
}
