//! Which Rollouts wait for a pass, and until when: one pass a Rollout at a time, a bounded number at once, in the order in
//! which they are due. No order here is that of a hash table, so that a run can be repeated (docs/decisions/0005).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// Rollouts by `namespace/name`; clones are the same queue.
#[derive(Clone, Default)]
pub struct Queue {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    turns: BTreeSet<Turn>,
    waiting: BTreeMap<String, Turn>,
    under_way: BTreeMap<String, Option<Instant>>,
    asked: u64,
}

/// A place in the queue: when it is due, how many asked before it, and for which Rollout.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Instant,
    number: u64,
    name: String,
}

impl Queue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a pass at once, or right after the one that is under way.
    pub fn ask(&self, name: &str) {
        self.inner().ask(name, Instant::now());
        self.changed.notify_one();
    }

    /// How many Rollouts are due and wait for their pass.
    pub fn due(&self) -> usize {
        let now = Instant::now();
        self.inner().turns.iter().take_while(|turn| turn.at <= now).count()
    }

    /// Takes the first Rollout that is due, and since how long it is.
    fn take(&self) -> Option<(String, Duration)> {
        let mut inner = self.inner();
        let now = Instant::now();
        let turn = inner.turns.first().filter(|turn| turn.at <= now)?.clone();
        inner.turns.remove(&turn);
        inner.waiting.remove(&turn.name);
        inner.under_way.insert(turn.name.clone(), None);
        Some((turn.name, now.duration_since(turn.at)))
    }

    /// A pass has ended, and wants another one.
    fn end(&self, name: &str, again: Option<Duration>) {
        let mut inner = self.inner();
        let asked = inner.under_way.remove(name).flatten();
        let wanted = again.map(|again| Instant::now() + again);
        if let Some(at) = asked.into_iter().chain(wanted).min() {
            inner.ask(name, at);
        }
    }

    /// When the next pass is due.
    fn next_at(&self) -> Option<Instant> {
        self.inner().turns.first().map(|turn| turn.at)
    }

    /// Runs passes until `stop` turns true, then waits for those under way. A pass is told how long it was due, and says when it
    /// wants to run again.
    pub async fn run<F>(&self, most: usize, mut stop: watch::Receiver<bool>, pass: impl Fn(String, Duration) -> F)
    where
        F: Future<Output = Option<Duration>>,
    {
        let mut under_way = FuturesUnordered::new();
        loop {
            let is_stopping = *stop.borrow_and_update();
            if is_stopping && under_way.is_empty() {
                return;
            }
            while !is_stopping
                && under_way.len() < most
                && let Some((name, waited)) = self.take()
            {
                let ended = pass(name.clone(), waited);
                under_way.push(async move { (name, ended.await) });
            }
            let next_at = self.next_at().filter(|_| !is_stopping && under_way.len() < most);
            tokio::select! {
                biased;
                Some((name, again)) = under_way.next() => self.end(&name, again),
                () = self.changed.notified() => {}
                () = sleep_until(next_at.unwrap_or_else(Instant::now)), if next_at.is_some() => {}
                Ok(()) = stop.changed(), if !is_stopping => {}
            }
        }
    }
}

impl Inner {
    fn ask(&mut self, name: &str, at: Instant) {
        if let Some(asked) = self.under_way.get_mut(name) {
            *asked = Some(asked.map_or(at, |asked| asked.min(at)));
            return;
        }
        match self.waiting.get(name) {
            Some(turn) if turn.at <= at => return,
            Some(turn) => {
                self.turns.remove(turn);
            }
            None => {}
        }
        self.asked += 1;
        let turn = Turn { at, number: self.asked, name: name.to_owned() };
        self.turns.insert(turn.clone());
        self.waiting.insert(name.to_owned(), turn);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::sleep;

    use super::*;

    /// Runs a queue in virtual time; the passes as they began, with the second at which they did.
    async fn run(queue: &Queue, most: usize, seconds: u64, again: Option<Duration>) -> Vec<(u64, String)> {
        let (stop, stopped) = watch::channel(false);
        let began = Instant::now();
        let passes = RefCell::new(Vec::new());
        let at_once = Cell::new(0);
        let pass = |name: String, _| {
            passes.borrow_mut().push((began.elapsed().as_secs(), name));
            let at_once = &at_once;
            async move {
                at_once.set(at_once.get() + 1);
                assert!(at_once.get() <= most, "no more than {most} at once");
                sleep(Duration::from_secs(1)).await;
                at_once.set(at_once.get() - 1);
                again
            }
        };
        let stopping = async {
            sleep(Duration::from_secs(seconds)).await;
            stop.send_replace(true);
        };
        tokio::join!(queue.run(most, stopped, pass), stopping);
        passes.into_inner()
    }

    fn named(passes: &[(u64, &str)]) -> Vec<(u64, String)> {
        passes.iter().map(|(at, name)| (*at, (*name).to_owned())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn passes_run_in_the_order_of_asking_and_no_more_than_so_many_at_once() {
        let queue = Queue::default();
        ["c", "a", "b", "a"].iter().for_each(|name| queue.ask(name));
        assert_eq!(queue.due(), 3);
        assert_eq!(run(&queue, 2, 10, None).await, named(&[(0, "c"), (0, "a"), (1, "b")]));
        assert_eq!(queue.due(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_is_told_how_long_it_was_due() {
        let queue = Queue::default();
        queue.ask("a");
        queue.inner().ask("b", Instant::now() + Duration::from_secs(3));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(queue.due(), 1);
        assert_eq!(queue.take(), Some(("a".to_owned(), Duration::from_secs(2))));
        assert_eq!((queue.due(), queue.take()), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_in_the_middle_of_a_pass_follows_it() {
        let queue = Queue::default();
        queue.ask("a");
        let asks = async {
            sleep(Duration::from_millis(500)).await;
            queue.ask("a");
            queue.ask("a");
        };
        let (passes, ()) = tokio::join!(run(&queue, 8, 10, None), asks);
        assert_eq!(passes, named(&[(0, "a"), (1, "a")]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_wants_to_run_again_waits_and_an_event_does_not() {
        let queue = Queue::default();
        queue.ask("a");
        let asks = async {
            sleep(Duration::from_millis(3_500)).await;
            queue.ask("a");
        };
        let (passes, ()) = tokio::join!(run(&queue, 8, 12, Some(Duration::from_secs(5))), asks);
        assert_eq!(passes, named(&[(0, "a"), (3, "a"), (9, "a")]));
    }
}
