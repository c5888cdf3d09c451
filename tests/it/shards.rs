//! Several controllers on one API server, each with a share of the Rollouts: who writes is the only one who may, one that hears
//! nothing any more stops by itself, and a leader and members exclude each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serin::controller;
use serin::controller::clock::Clock;
use serin::controller::lease::Leadership;
use serin::controller::shard::{Member, Shards};
use serin::controller::telemetry::Metrics;
use serin::embedded::Cluster;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::shell::{Met, Running, candidate, client_with, cluster, run_with, virtual_clock};

const ROLLOUTS: usize = 24;

/// Who may handle what, and the writes of Rollouts' statuses by the replica that sent them.
#[derive(Clone, Default)]
struct Town {
    leaderships: Arc<Mutex<Vec<Leadership>>>,
    writes: Arc<Mutex<Vec<(usize, String)>>>,
}

struct Replica {
    running: Running,
    leadership: Leadership,
    is_cut: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    member: tokio::task::JoinHandle<()>,
}

fn member(clock: &Clock, client: kube::Client, name: &str) -> (Leadership, Member) {
    let shards = Shards::new(name);
    let leadership = Leadership::shared(shards.clone());
    let api = kube::Api::namespaced(client, "serin-system");
    let metrics = Arc::new(Metrics::default());
    let member =
        Member { api, name: name.to_owned(), clock: clock.clone(), leadership: leadership.clone(), shards, metrics };
    (leadership, member)
}

impl Town {
    /// A replica whose requests are looked at, and are not answered while it is cut off.
    fn replica(&self, cluster: &Cluster, clock: &Clock, number: usize) -> Replica {
        let (town, is_cut) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let cut = is_cut.clone();
        let client = client_with(cluster, move |method, path| {
            if cut.load(Ordering::SeqCst) {
                return Some(Met::Silence);
            }
            town.look(number, method, path);
            None
        });
        let (leadership, member) = member(clock, client.clone(), &format!("serin-{number}"));
        self.leaderships.lock().unwrap().push(leadership.clone());
        let (stop, stopped) = watch::channel(false);
        let running = run_with(cluster, clock, (client, None), (leadership.clone(), controller::readiness()), 1.0);
        Replica { running, leadership, is_cut, stop, member: tokio::spawn(member.run(stopped)) }
    }

    fn look(&self, number: usize, method: &str, path: &str) {
        let Some(name) = path.split("/rollouts/").nth(1).and_then(|rest| rest.strip_suffix("/status")) else { return };
        if method == "GET" {
            return;
        }
        let key = format!("shop/{name}");
        for (other, leadership) in self.leaderships.lock().unwrap().iter().enumerate() {
            assert!(other == number || !leadership.may_handle(&key), "{number} writes {key}, and {other} may");
        }
        self.writes.lock().unwrap().push((number, key));
    }

    fn writers(&self) -> Vec<usize> {
        let mut writers: Vec<usize> = self.writes.lock().unwrap().drain(..).map(|(number, _)| number).collect();
        writers.sort_unstable();
        writers.dedup();
        writers
    }
}

async fn released(replica: &Replica, image: &str) {
    for number in 0..ROLLOUTS {
        replica.running.given(&format!("app-{number}"), image);
    }
    for number in 0..ROLLOUTS {
        replica.running.healthy(&format!("app-{number}"), image).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_writes_is_the_only_one_who_may_and_what_one_leaves_others_finish() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let town = Town::default();
    let replicas: Vec<Replica> = (0..3).map(|number| town.replica(&cluster, &clock, number)).collect();
    sleep(Duration::from_secs(10)).await;
    released(&replicas[0], "checkout:1").await;
    assert_eq!(town.writers(), [0, 1, 2], "each has a share");
    let held = |replica: &Replica| {
        (0..ROLLOUTS).filter(|number| replica.leadership.may_handle(&format!("shop/app-{number}"))).count()
    };
    assert_eq!(replicas.iter().map(held).sum::<usize>(), ROLLOUTS, "every Rollout is somebody's");

    // The first hears nothing more in the middle of its canaries, and comes back when the others have taken them over.
    for number in 0..ROLLOUTS {
        replicas[1].running.given(&format!("app-{number}"), "checkout:2");
    }
    sleep(Duration::from_secs(3)).await;
    replicas[0].is_cut.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(13)).await;
    assert_eq!(held(&replicas[0]), 0, "it stops by itself");
    town.writers();
    for number in 0..ROLLOUTS {
        replicas[1].running.healthy(&format!("app-{number}"), "checkout:2").await;
    }
    assert_eq!(town.writers(), [1, 2]);
    replicas[0].is_cut.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(20)).await;
    released(&replicas[1], "checkout:3").await;
    assert_eq!(town.writers(), [0, 1, 2], "it has its share again");

    // One that leaves says so: its share is taken over at once.
    replicas[2].stop.send_replace(true);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(replicas[..2].iter().map(held).sum::<usize>(), ROLLOUTS, "nobody waits for who has left");
    for replica in replicas {
        replica.running.end().await;
        replica.member.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_and_members_exclude_each_other() {
    let clock = virtual_clock();
    let cluster = Cluster::new(clock.clone());
    let (leads, one) = candidate(&cluster, &clock, "one");
    let (shares, two) = member(&clock, cluster.client("serin-system"), "two");
    let (succeeds, three) = candidate(&cluster, &clock, "three");
    let both =
        || assert!(!(shares.may_write() && (leads.may_write() || succeeds.may_write())), "a leader and a member");
    let (stop, stopped) = watch::channel(false);
    let (_never, forever) = watch::channel(false);
    tokio::spawn(one.run(stopped));
    sleep(Duration::from_secs(5)).await;
    let joined = tokio::spawn(two.run(forever.clone()));
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        both();
    }
    assert!(leads.may_write() && !shares.may_write(), "a leader that works is waited for");
    stop.send_replace(true);
    sleep(Duration::from_secs(5)).await;
    assert!(shares.may_write() && shares.may_handle("shop/checkout"), "it gave up its lease");
    tokio::spawn(three.run(forever));
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        both();
    }
    assert!(shares.may_write() && !succeeds.may_write(), "no leader is elected while a member works");
    joined.abort();
    for _ in 0..200 {
        sleep(Duration::from_millis(100)).await;
        both();
    }
    assert!(succeeds.may_write(), "the member is gone");
}
