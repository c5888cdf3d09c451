//! Asks which proxies have a written route, in a task a Rollout, until all of them have it. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::plan::observed::{self, Acknowledgement};
use crate::plan::route::Question;

pub mod dump;
pub mod istiod;
pub mod replica;
pub mod search;
pub mod seen;
pub mod stream;
pub mod xds;

/// The first wait between two looks, and the longest.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody can be asked, while nobody can.
const UNOFFERED_FOR: Duration = Duration::from_mins(1);

/// Knows the proxies.
pub trait Proxies: Send + Sync {
    /// Begins to look for a route that is there for some time.
    fn inquire(&self, question: Question, age: Duration) -> Box<dyn Inquiry>;

    /// Why nobody can be asked, if so.
    fn refusal(&self) -> BoxFuture<'_, Option<String>>;
}

/// Looks for one route.
pub trait Inquiry: Send {
    /// Looks once; answers within seconds.
    fn look(&mut self) -> BoxFuture<'_, Answer>;
}

/// What a look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Every proxy has acknowledged the route.
    Acknowledged,
    /// What is missing, as a sentence.
    Missing(String),
    /// This installation offers no way to ask: why.
    Unoffered(String),
}

/// The inquiries under way, by Rollout.
#[derive(Default)]
pub struct Inquiries {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: BTreeMap<String, Running>,
    /// Why nobody can be asked.
    refusal: Option<String>,
}

struct Running {
    question: Question,
    answer: Option<Answer>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inquiries {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the proxies, for the plan of a Rollout.
    pub fn of(&self, rollout: &str) -> observed::Proxies {
        let inner = self.inner();
        if inner.refusal.is_some() {
            return observed::Proxies::Unasked;
        }
        let told = inner.running.get(rollout).and_then(|one| Some((one.question.route.clone(), one.answer.clone()?)));
        let acknowledgement = match told {
            Some((route, Answer::Acknowledged)) => Acknowledgement { route, missing: None },
            Some((route, Answer::Missing(missing))) => Acknowledgement { route, missing: Some(missing) },
            Some((_, Answer::Unoffered(_))) | None => {
                Acknowledgement { route: String::new(), missing: Some("istiod is being asked".into()) }
            }
        };
        observed::Proxies::Asked(acknowledgement)
    }

    /// Remembers why nobody can be asked, or that somebody can.
    fn refused(&self, refusal: Option<String>) {
        let mut inner = self.inner();
        if inner.refusal == refusal {
            return;
        }
        match &refusal {
            Some(why) => {
                tracing::info!(%why, "proxies cannot be asked which route they have: each route is only waited for; kubectl serin doctor tells what is missing")
            }
            None => tracing::info!("proxies are asked which route they have"),
        }
        inner.refusal = refusal;
    }

    /// Looks whether anybody can be asked, again and again while nobody can.
    pub async fn look_out(&self, proxies: &dyn Proxies) {
        loop {
            sleep(UNOFFERED_FOR).await;
            if self.inner().refusal.is_some() {
                self.probe(proxies).await;
            }
        }
    }

    /// Looks once whether anybody can be asked.
    pub async fn probe(&self, proxies: &dyn Proxies) {
        let refusal = proxies.refusal().await;
        self.refused(refusal);
    }

    /// Ends an inquiry, if one is under way.
    pub fn end(&self, rollout: &str) {
        self.inner().running.remove(rollout);
    }

    /// Remembers an answer; whether it is another one than before.
    fn hear(&self, rollout: &str, question: &Question, answer: &Answer) -> bool {
        if let Answer::Unoffered(why) = answer {
            self.refused(Some(why.clone()));
        }
        let mut inner = self.inner();
        let Some(running) = inner.running.get_mut(rollout).filter(|one| one.question == *question) else {
            return false;
        };
        let is_new = running.answer.as_ref() != Some(answer);
        running.answer = Some(answer.clone());
        is_new
    }
}

/// Begins an inquiry about a route that is there for some time, unless it is under way; `done` is called whenever the answer is
/// another one.
pub fn begin(
    inquiries: &std::sync::Arc<Inquiries>,
    proxies: &dyn Proxies,
    (rollout, question, age): (&str, &Question, Duration),
    done: impl Fn() + Send + 'static,
) {
    let mut inner = inquiries.inner();
    let is_known = inner.running.get(rollout).is_some_and(|one| one.question == *question);
    let is_over = inner.running.get(rollout).is_some_and(|one| matches!(one.answer, Some(Answer::Unoffered(_))));
    if is_known && !is_over {
        return;
    }
    let mut inquiry = proxies.inquire(question.clone(), age);
    let (heard, name, asked) = (inquiries.clone(), rollout.to_owned(), question.clone());
    let task = tokio::spawn(async move {
        let mut wait = FIRST;
        loop {
            let answer = inquiry.look().await;
            if heard.hear(&name, &asked, &answer) {
                done();
            }
            if !matches!(answer, Answer::Missing(_)) {
                return;
            }
            sleep(wait).await;
            wait = (wait * 3 / 2).min(LONGEST);
        }
    });
    inner.running.insert(rollout.to_owned(), Running { question: question.clone(), answer: None, task });
}
