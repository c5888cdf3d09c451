//! Runs the queries that are due, each in a task of its own. Cannot fail, only report; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::clock::Clock;
use crate::api::provider::MetricProviderSpec;
use crate::plan::measurement::{Measurement, Query, Sample};

pub mod answer;
pub mod prometheus;

/// Asks a provider.
pub trait Meter: Send + Sync {
    /// The answer, or a sentence that says why there is none. Never longer than the provider's time-out.
    fn measure(&self, query: Query, spec: MetricProviderSpec) -> BoxFuture<'static, Result<Sample, String>>;
}

/// Answers that wait to be recorded, and queries that are under way. Both by Rollout.
#[derive(Default)]
pub struct Inbox {
    inner: Mutex<BTreeMap<String, Mail>>,
}

#[derive(Default)]
struct Mail {
    asked: BTreeSet<String>,
    answered: Vec<Measurement>,
}

impl Inbox {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, Mail>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers of a Rollout, kept until they are recorded.
    pub fn answers(&self, rollout: &str) -> Vec<Measurement> {
        self.inner().get(rollout).map(|one| one.answered.clone()).unwrap_or_default()
    }

    /// Drops the answers that a written status has recorded, and those that it had no use for.
    pub fn drop_recorded(&self, rollout: &str, recorded: &[Measurement]) {
        let mut inner = self.inner();
        let Some(one) = inner.get_mut(rollout) else {
            return;
        };
        one.answered.retain(|answer| !recorded.iter().any(|done| done.id == answer.id));
        for done in recorded {
            one.asked.remove(&done.id);
        }
        if one.asked.is_empty() && one.answered.is_empty() {
            inner.remove(rollout);
        }
    }

    /// Marks a query as under way; false when it is already.
    fn ask(&self, rollout: &str, id: &str) -> bool {
        self.inner().entry(rollout.to_owned()).or_default().asked.insert(id.to_owned())
    }

    /// Keeps an answer, unless nobody waits for it any more.
    fn answer(&self, rollout: &str, measurement: Measurement) {
        if let Some(one) = self.inner().get_mut(rollout).filter(|one| one.asked.contains(&measurement.id)) {
            one.answered.push(measurement);
        }
    }

    /// Forgets a Rollout that is gone, or another replica's.
    pub fn forget(&self, rollout: &str) {
        self.inner().remove(rollout);
    }
}

/// Starts a query unless it is under way; `done` is called when its answer is in the inbox, with whether there
/// is one, and the seconds that it took.
pub fn start(
    inbox: &Arc<Inbox>,
    meter: &Arc<dyn Meter>,
    clock: &Clock,
    asked: (&str, Query, Option<MetricProviderSpec>),
    done: impl FnOnce(bool, f64) + Send + 'static,
) {
    let (rollout, query, spec) = asked;
    if !inbox.ask(rollout, &query.id) {
        return;
    }
    let (inbox, meter, clock, rollout) = (inbox.clone(), meter.clone(), clock.clone(), rollout.to_owned());
    tokio::spawn(async move {
        let (started_at, began) = (clock(), Instant::now());
        let outcome = match spec {
            Some(spec) => meter.measure(query.clone(), spec).await,
            None => Err(format!("MetricProvider {} does not exist", query.provider)),
        };
        let is_ok = outcome.is_ok();
        inbox.answer(&rollout, Measurement { id: query.id, started_at, finished_at: clock(), outcome });
        done(is_ok, began.elapsed().as_secs_f64());
    });
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn an_answer_to_a_rollout_that_is_forgotten_is_not_kept() {
        let inbox = Inbox::default();
        let now = Timestamp::UNIX_EPOCH;
        let answer = |id: &str| Measurement {
            id: id.to_owned(),
            started_at: now,
            finished_at: now,
            outcome: Err(String::new()),
        };
        assert!(inbox.ask("shop/checkout", "one"));
        inbox.answer("shop/checkout", answer("one"));
        assert_eq!(inbox.answers("shop/checkout").len(), 1);
        assert!(inbox.ask("shop/checkout", "two"));
        inbox.forget("shop/checkout");
        inbox.answer("shop/checkout", answer("two"));
        assert!(inbox.inner().is_empty());
    }
}
