//! Three replicas share the Rollouts, and are killed and stopped one after the other in the middle of canaries: whatever the API
//! server was asked to write of a Rollout came from one replica at a time, and all are promoted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use serin::api::status::OutcomeKind;
use serin::api::watched::Rollout;
use serin::controller::shard::RING;
use serin::controller::shard::ring::Ring;

use crate::support::world::{free_address, is_healthy};
use crate::support::{Environment, Given, World};

const ROLLOUTS: usize = 36;
/// How far the moments that the API server and the story tell may be apart.
const BLUR: jiff::SignedDuration = jiff::SignedDuration::from_millis(500);

/// What a replica's Lease said, since when.
type Said = Arc<Mutex<BTreeMap<String, Vec<(Timestamp, Ring)>>>>;

/// One write of one Rollout or of what belongs to it.
struct Write {
    began: Timestamp,
    ended: Timestamp,
    replica: String,
    what: String,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} from {} to {}", self.what, self.replica, self.began, self.ended)
    }
}

struct Replica {
    child: Child,
}

impl Replica {
    fn start(world: &World, number: usize) -> Self {
        let name = format!("{}-r{number}", world.namespace);
        let arguments = ["--sharding".to_owned(), format!("--identity={name}")];
        Self { child: world.spawn(&arguments, &free_address()) }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success(), "no signal was sent");
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn names() -> Vec<String> {
    (0..ROLLOUTS).map(|number| format!("app-{number:02}")).collect()
}

fn given(image: &'static str) -> Given {
    let pause = json!({"pause": {"duration": "3s"}});
    let steps = json!([{"setWeight": 20}, pause, {"setWeight": 50}, pause, {"setWeight": 80}]);
    Given { replicas: 2, image, steps, ..Given::default() }
}

/// A Rollout with another name than those of other stories have.
fn object(name: &str, image: &'static str) -> (Value, String) {
    let mut object = given(image).object();
    object["metadata"]["name"] = json!(name);
    object["spec"]["selector"]["matchLabels"]["app"] = json!(name);
    object["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
    object["spec"]["strategy"]["canary"]["trafficRouting"]["istio"] =
        json!({"owned": {"host": "checkout", "hosts": [name]}});
    let hash = serin::plan::revision::hash(&object["spec"]["template"]);
    (object, hash)
}

/// Kills, stops and ends replicas under load.
pub async fn replicas_killed(environment: Arc<Environment>, name: String) {
    let world = World::start_with(environment, &name, &["--sharding", &format!("--identity=e2e-{name}-r0")]).await;
    world.stop_monitor();
    let said = Said::default();
    let listens = tokio::spawn(listen(world.client.clone(), format!("e2e-{name}-r"), said.clone()));
    let mut world = world;
    let (second, third) = (Replica::start(&world, 1), Replica::start(&world, 2));
    commit(&world, "checkout:1").await;
    settled(&world, "checkout:1").await;
    println!("  {} handle {} Rollouts", shares(&said), ROLLOUTS);

    commit(&world, "checkout:2").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.kill_controller();
    println!("  r0 is killed");
    settled(&world, "checkout:2").await;

    let fourth = Replica::start(&world, 3);
    commit(&world, "checkout:3").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    second.signal("STOP");
    println!("  r3 has joined; r1 is stopped for 25 s");
    tokio::time::sleep(Duration::from_secs(22)).await;
    commit(&world, "checkout:4").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    second.signal("CONT");
    println!("  r1 goes on, in the middle of the next canaries");
    settled(&world, "checkout:4").await;

    commit(&world, "checkout:5").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    third.signal("TERM");
    println!("  r2 is asked to end");
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(fourth);
    println!("  r3 is killed");
    settled(&world, "checkout:5").await;
    drop(second);
    listens.abort();
    judge(&world, &said).await;
    world.end().await;
}

async fn commit(world: &World, image: &'static str) {
    for name in names() {
        world.apply(&object(&name, image).0).await;
    }
}

async fn settled(world: &World, image: &'static str) {
    let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut left = names();
    for _ in 0..600 {
        let listed = api.list(&ListParams::default()).await.expect("a list").items;
        left.retain(|name| {
            let hash = object(name, image).1;
            !listed.iter().any(|rollout| rollout.name_any() == *name && is_healthy(rollout, &hash))
        });
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.fail(&format!("{image} does not come to rest: {left:?}"));
}

/// Notes what the replicas' Leases say, ten times a second.
async fn listen(client: Client, prefix: String, said: Said) {
    let api: Api<Lease> = Api::namespaced(client, "serin-system");
    loop {
        for lease in api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
            let Some(ring) = lease.annotations().get(RING).filter(|_| holder.starts_with(&prefix)) else { continue };
            let ring = Ring::parse(ring);
            let mut said = said.lock().unwrap();
            let rings = said.entry(holder).or_default();
            if rings.last().is_none_or(|(_, last)| *last != ring) {
                rings.push((Timestamp::now(), ring));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn shares(said: &Said) -> String {
    let said = said.lock().unwrap();
    let members: Vec<&str> = said.keys().map(String::as_str).collect();
    members.join(", ")
}

/// What the API server was asked to write, by Rollout.
fn writes(world: &World, log: &str) -> BTreeMap<String, Vec<Write>> {
    let mut writes: BTreeMap<String, Vec<Write>> = BTreeMap::new();
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let is_write = ["create", "patch", "update", "delete"].contains(&text("/verb"));
        let (of, resource) = (text("/objectRef/name"), text("/objectRef/resource"));
        let is_taken = event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
        if text("/objectRef/namespace") != world.namespace || !is_write || !is_taken || resource == "events" {
            continue;
        }
        let Some(name) = names().into_iter().find(|name| of.starts_with(name.as_str())) else { continue };
        let Some((_, agent)) = text("/userAgent").split_once('(') else { continue };
        let moment = |path: &str| text(path).parse::<Timestamp>().expect("a moment");
        writes.entry(name).or_default().push(Write {
            began: moment("/requestReceivedTimestamp"),
            ended: moment("/stageTimestamp"),
            replica: agent.trim_end_matches(')').to_owned(),
            what: format!("{} {resource} {} {of}", text("/verb"), text("/objectRef/subresource")),
        });
    }
    writes.values_mut().for_each(|all| all.sort_by_key(|write| write.began));
    writes
}

/// One replica at a time, each by right of what its Lease said, and each change of hands by a change of members.
async fn judge(world: &World, said: &Said) {
    let Ok(path) = std::env::var("E2E_AUDIT") else {
        println!("  nobody writes an audit here: who wrote what is not looked at");
        return;
    };
    let writes = writes(world, &std::fs::read_to_string(path).expect("the audit"));
    world.assert(writes.len() == ROLLOUTS, &format!("the audit has writes of {} Rollouts", writes.len()));
    let said = said.lock().unwrap().clone();
    let (mut count, mut handed, mut by) = (0, 0, BTreeMap::<&str, usize>::new());
    for (name, writes) in &writes {
        let key = format!("{}/{name}", world.namespace);
        let mut turns = 0;
        for (one, next) in writes.iter().zip(writes.iter().skip(1)) {
            if one.replica != next.replica {
                turns += 1;
                world.assert(one.ended <= next.began, &format!("{name} is written by two: {one}, and {next}"));
            }
        }
        world.assert(turns <= 8, &format!("{name} changed hands {turns} times"));
        for write in writes {
            *by.entry(&write.replica).or_default() += 1;
            world.assert(claims(&said, &key, write), &format!("{name}: no right to {write}: {said:?}"));
        }
        (count, handed) = (count + writes.len(), handed + turns);
    }
    println!(
        "  {count} writes of {ROLLOUTS} Rollouts, {handed} changes of hands, by replica {by:?}: never two at a time"
    );
    world.assert(handed > ROLLOUTS, "Rollouts change hands");
    world.assert(by.len() == 4, "all four replicas wrote");
    let api: Api<Rollout> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut outcomes: BTreeSet<String> = BTreeSet::new();
    for rollout in api.list(&ListParams::default()).await.expect("a list").items {
        let history = &rollout.status.history;
        let wrong = history.iter().any(|one| ![OutcomeKind::Promoted, OutcomeKind::Superseded].contains(&one.outcome));
        let hashes: BTreeSet<&String> = history.iter().map(|one| &one.hash).collect();
        if wrong || hashes.len() != history.len() {
            outcomes.insert(format!("{}: {history:?}", rollout.name_any()));
        }
    }
    world.assert(outcomes.is_empty(), &format!("{outcomes:?}"));
}

/// Whether the writer's Lease gave it the Rollout then.
fn claims(said: &BTreeMap<String, Vec<(Timestamp, Ring)>>, key: &str, write: &Write) -> bool {
    let members = said.iter().filter(|(member, _)| member.starts_with(&format!("{}-", write.replica)));
    members.into_iter().any(|(member, rings)| {
        let next = rings.iter().map(|(since, _)| *since).skip(1).chain([Timestamp::MAX]);
        rings.iter().zip(next).any(|((since, ring), until)| {
            let stood = *since <= write.ended + BLUR && until >= write.began - BLUR;
            stood && ring.gives(member, key)
        })
    })
}
