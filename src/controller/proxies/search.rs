//! Looks for one route at the proxies of every istiod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::dump::{self, Dump};
use super::replica::{ProxyStatus, Replica};
use super::{Answer, Inquiry, Proxies};
use crate::plan::route::Question;

/// Looks in a row for which no dump is shown, before that is taken for an answer.
const REFUSED_MOST: u32 = 5;

/// Tells what the istiods know.
pub trait Source: Send + Sync + 'static {
    /// What each istiod tells of its proxies, a moment old at most; all of them answer, or none does.
    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Told>, Failure>>;

    /// The resources of some kinds that one istiod generates for one of its proxies.
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
    fn inquire(&self, question: Question) -> Box<dyn Inquiry> {
        Box::new(Search {
            source: self.0.clone(),
            question,
            began: Instant::now(),
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

/// Why the status or the dump of a proxy is not shown.
async fn refusal(source: &impl Source) -> Option<Failure> {
    let told = match source.statuses().await {
        Ok(told) => told,
        Err(failure) => return Some(failure),
    };
    let (istiod, proxy) = told.iter().find_map(|one| Some((&one.istiod, one.proxies.first()?)))?;
    source.dump(istiod, &proxy.proxy, "rds").await.err()
}

/// One route, looked for at every istiod.
struct Search<S> {
    source: Arc<S>,
    question: Question,
    began: Instant,
    replicas: BTreeMap<String, Replica>,
    /// Looks in a row for which no dump was shown.
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
        let (began, route_wait) = (self.began, self.source.route_wait());
        let replica = self.replicas.entry(told.istiod.clone()).or_insert_with(|| Replica::new(began, route_wait));
        let wanted = replica.look(proxies, told.at);
        // Endpoints, and HTTP or other routes: listeners hold the others.
        let kinds = if self.question.is_http { "rds,eds" } else { "rds,lds,eds" };
        let dumps = wanted.iter().map(|proxy| self.source.dump(&told.istiod, proxy, kinds));
        let mut refusal = None;
        for (proxy, dump) in wanted.iter().zip(join_all(dumps).await) {
            match dump {
                Ok(dump) => {
                    replica.dumped(proxy, dump::has(&self.question, &dump), Instant::now());
                    self.refused = 0;
                }
                // A proxy that has just gone has none.
                Err(failure) => {
                    tracing::debug!(%proxy, error = %failure.message, "there is no dump of a proxy");
                    refusal = Some(failure).filter(|failure| failure.is_refusal);
                }
            }
        }
        self.refused += u32::from(refusal.is_some());
        match refusal.filter(|_| self.refused >= REFUSED_MOST) {
            Some(refusal) => Err(refusal),
            None => Ok(replica.missing()),
        }
    }
}
