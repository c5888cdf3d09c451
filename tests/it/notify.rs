//! Channels of the whole controller against the embedded API, on virtual time: once per event, whatever crashes, and no
//! Rollout waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize as _;
use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::api::watched::NotificationChannel;
use serin::controller;
use serin::controller::clock::Clock;
use serin::controller::lease::Leadership;
use serin::controller::notify::Notifications;
use serin::controller::notify::send::Courier;
use serin::embedded::Cluster;
use serin::embedded::kind::KINDS;
use serin::notify::answer::Outcome;
use serin::notify::format::{Outgoing, Request};
use serin::notify::host::Hosts;
use serin::notify::service::Service;
use serin::sim::network::{Faults, Link};
use serin::sim::story;
use tokio::time::{Instant, sleep};

use crate::shell::{Met, Running, candidate, client_with, cluster, run_with, start_telling, virtual_clock};

type Reply = Arc<dyn Fn(&Request, usize) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Takes messages and answers as a test says.
#[derive(Clone)]
struct Mailbox {
    taken: Arc<Mutex<Vec<Request>>>,
    reply: Reply,
}

impl Mailbox {
    fn of(reply: impl Fn(&Request, usize) -> BoxFuture<'static, Outcome> + Send + Sync + 'static) -> Self {
        Self { taken: Arc::default(), reply: Arc::new(reply) }
    }

    fn taking() -> Self {
        Self::of(|_, number| async move { Outcome::Sent(Some(format!("ts-{number}"))) }.boxed())
    }

    fn taken(&self) -> Vec<Request> {
        self.taken.lock().unwrap().clone()
    }

    fn notifications(&self) -> Notifications {
        let hosts = Hosts::of(&["hooks.example".to_owned()]).unwrap();
        Notifications { hosts, courier: Arc::new(self.clone()) }
    }
}

impl Courier for Mailbox {
    fn carry(&self, outgoing: Outgoing, _: Service) -> BoxFuture<'static, Outcome> {
        let Outgoing::Http(request) = outgoing else { panic!("{outgoing:?}") };
        let number = {
            let mut taken = self.taken.lock().unwrap();
            taken.push(request.clone());
            taken.len()
        };
        (self.reply)(&request, number)
    }
}

fn channel(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "serin.dev/v1alpha1", "kind": "NotificationChannel", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn slack() -> Value {
    channel(
        "slack",
        &json!({"on": ["RolloutStarted", "Promoted", "Aborted"], "slack": {"token": {"name": "slack", "key": "token"}, "channel": "C1"}}),
    )
}

fn webhook() -> Value {
    channel("webhook", &json!({"webhook": {"url": "https://hooks.example/x"}}))
}

fn town(channels: &[Value]) -> (Cluster, Clock) {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "slack", "namespace": "shop"}, "data": {"token": "eG94Yi0x"}});
    cluster.apply("secrets", &secret).unwrap();
    channels.iter().for_each(|one| drop(cluster.apply("notificationchannels", one).unwrap()));
    (cluster, clock)
}

fn status(cluster: &Cluster, name: &str) -> NotificationChannel {
    NotificationChannel::deserialize(&*cluster.get("notificationchannels", "shop", name).unwrap()).unwrap()
}

fn ready(cluster: &Cluster, name: &str) -> (String, String, String) {
    let channel = status(cluster, name);
    let ready = channel.status.conditions.into_iter().find(|one| one.kind == "Ready").unwrap();
    (ready.status, ready.reason, ready.message)
}

fn reasons(taken: &[Request]) -> Vec<String> {
    let of = |request: &Request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        match (body["reason"].as_str(), body["text"].as_str()) {
            (Some(reason), _) => reason.to_owned(),
            (None, text) => {
                text.unwrap().lines().next().unwrap().trim_matches('*').rsplit(' ').next().unwrap().to_owned()
            }
        }
    };
    taken.iter().map(of).collect()
}

fn id(request: &Request) -> String {
    request.headers.iter().find(|(name, _)| name == "idempotency-key").unwrap().1.clone()
}

fn begin(cluster: &Cluster, clock: &Clock, post: &Mailbox) -> Running {
    start_telling(cluster, clock, cluster.client("shop"), post.notifications(), 1.0)
}

#[tokio::test(start_paused = true)]
async fn each_event_is_told_once_and_nothing_of_the_past() {
    let (cluster, clock) = town(&[slack()]);
    let post = Mailbox::taking();
    let running = begin(&cluster, &clock, &post);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    running.healthy("checkout", "checkout:2").await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(reasons(&post.taken()), ["RolloutStarted", "Promoted"]);
    let told = status(&cluster, "slack").status;
    assert_eq!((told.sent, told.failed, told.unconfirmed), (2, 0, 0));
    assert_eq!(told.last.unwrap().outcome, "Sent");
    assert_eq!(ready(&cluster, "slack").0, "True");
    // One that comes later begins with what happens later; nobody asks anything at rest.
    cluster.apply("notificationchannels", &webhook()).unwrap();
    sleep(Duration::from_secs(30)).await;
    let before = cluster.requests().len();
    sleep(Duration::from_mins(30)).await;
    assert_eq!(cluster.requests()[before..], [] as [String; 0]);
    assert_eq!(post.taken().len(), 2);
    running.given("checkout", "checkout:3");
    running.healthy("checkout", "checkout:3").await;
    sleep(Duration::from_mins(1)).await;
    let events: Vec<String> =
        running.rollout("checkout").status.events.iter().map(|event| event.reason.clone()).collect();
    let of_webhook: Vec<Request> = post.taken().into_iter().filter(|one| one.url.contains("hooks.example")).collect();
    assert!(!of_webhook.is_empty() && events.ends_with(&reasons(&of_webhook)), "{events:?}");
    assert_eq!(of_webhook[0].body.matches("RolloutStarted").count(), 2, "the reason and the title");
    // A Rollout that is gone is forgotten with the next message.
    cluster.delete("rollouts", "shop", "checkout").unwrap();
    sleep(Duration::from_mins(2)).await;
    assert_eq!(status(&cluster, "slack").status.rollouts, []);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_channel_could_not_tell_is_no_news_after_an_hour() {
    let (cluster, clock) = town(&[channel("webhook", &json!({"webhook": {"url": "https://other.example/x"}}))]);
    let post = Mailbox::taking();
    let running = begin(&cluster, &clock, &post);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    assert_eq!(ready(&cluster, "webhook").1, "HostNotAllowed");
    sleep(Duration::from_hours(2)).await;
    cluster.apply("notificationchannels", &webhook()).unwrap();
    sleep(Duration::from_mins(1)).await;
    assert_eq!((ready(&cluster, "webhook").0.as_str(), post.taken().len()), ("True", 0));
    running.given("checkout", "checkout:2");
    running.healthy("checkout", "checkout:2").await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(reasons(&post.taken()).first().map(String::as_str), Some("RolloutStarted"));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn threads_hold_an_attempt_together_and_survive_a_restart() {
    let (cluster, clock) = town(&[slack()]);
    let post = Mailbox::taking();
    let running = begin(&cluster, &clock, &post);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    running.wait("checkout", "started", |_| post.taken().len() == 1).await;
    sleep(Duration::from_millis(100)).await;
    running.end().await;
    let running = begin(&cluster, &clock, &post);
    running.healthy("checkout", "checkout:2").await;
    running.given("checkout", "checkout:3");
    running.healthy("checkout", "checkout:3").await;
    sleep(Duration::from_mins(1)).await;
    let thread = |request: &Request| serde_json::from_str::<Value>(&request.body).unwrap()["thread_ts"].clone();
    let threads: Vec<Value> = post.taken().iter().map(thread).collect();
    assert_eq!(threads, [Value::Null, json!("ts-1"), Value::Null, json!("ts-3")]);
    running.end().await;
}

/// A message is tried again after a while, and given up after some tries; the next event is told all the same.
#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_for_a_while() {
    let (cluster, clock) = town(&[slack()]);
    let post = Mailbox::of(|_, number| {
        let answer = match number {
            1 => Outcome::Later("HTTP 429".into(), Some(jiff::SignedDuration::from_secs(90))),
            2 => Outcome::Sent(None),
            _ => Outcome::Later("HTTP 503".into(), None),
        };
        async move { answer }.boxed()
    });
    let running = begin(&cluster, &clock, &post);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.given("checkout", "checkout:2");
    running.wait("checkout", "tried", |_| post.taken().len() == 1).await;
    sleep(Duration::from_secs(1)).await;
    let (truth, reason, message) = ready(&cluster, "slack");
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "Retrying"));
    assert_eq!(message, "RolloutStarted of checkout is tried again: HTTP 429");
    sleep(Duration::from_secs(85)).await;
    assert_eq!(post.taken().len(), 1, "a service that asks for 90 s is left alone for them");
    sleep(Duration::from_secs(6)).await;
    assert!(post.taken().len() >= 2);
    sleep(Duration::from_mins(30)).await;
    let told = status(&cluster, "slack").status;
    assert_eq!((told.sent, told.failed, told.unconfirmed), (1, 1, 0));
    assert_eq!(post.taken().len(), 2 + 6, "six tries");
    let (truth, reason, message) = ready(&cluster, "slack");
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "DeliveryFailed"));
    assert!(message.starts_with("Promoted of checkout was not sent: HTTP 503"), "{message}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_hangs_delays_nothing() {
    let mut took = Vec::new();
    for hangs in [false, true] {
        let channels = [slack(), webhook()];
        let (cluster, clock) = town(if hangs { &channels } else { &[] });
        let post = Mailbox::of(|request, _| {
            let is_slack = request.url.contains("slack.com");
            async move {
                if is_slack {
                    sleep(Duration::from_secs(10)).await;
                    return Outcome::Unknown("no answer within 10 s".into());
                }
                Outcome::Sent(None)
            }
            .boxed()
        });
        let running = begin(&cluster, &clock, &post);
        running.given("checkout", "checkout:1");
        running.healthy("checkout", "checkout:1").await;
        let began = Instant::now();
        running.given("checkout", "checkout:2");
        running.healthy("checkout", "checkout:2").await;
        took.push(began.elapsed());
        if hangs {
            sleep(Duration::from_secs(1)).await;
            let webhooks = post.taken().into_iter().filter(|one| one.url.contains("hooks.example")).collect::<Vec<_>>();
            assert_eq!(reasons(&webhooks).last().map(String::as_str), Some("Promoted"), "another channel is in time");
            sleep(Duration::from_mins(1)).await;
            let told = status(&cluster, "slack").status;
            assert_eq!((told.sent, told.unconfirmed), (0, 2), "nobody knows, and nobody is told twice");
        }
        running.end().await;
    }
    assert_eq!(took[0], took[1]);
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_channel_from_telling_is_told() {
    let hook = |url: &str| channel("channel", &json!({"webhook": {"url": url}}));
    let secret =
        |name: &str, key: &str| channel("channel", &json!({"wecom": {"webhookUrl": {"name": name, "key": key}}}));
    let words = |text: &str| {
        channel("channel", &json!({"webhook": {"url": "https://hooks.example/"}, "template": {"title": text}}))
    };
    let reason = channel("channel", &json!({"on": ["Abort"], "webhook": {"url": "https://hooks.example/"}}));
    for (spec, wanted, told) in [
        (hook("https://169.254.169.254/"), "HostNotAllowed", "--notification-host=169.254.169.254"),
        (hook("http://hooks.example/"), "HostNotAllowed", "--notification-host=hooks.example"),
        (secret("absent", "url"), "SecretMissing", "the Secret absent does not exist in shop"),
        (secret("slack", "url"), "SecretKeyMissing", "has no text under the key url"),
        (words("{{ nothing }}"), "TemplateInvalid", "spec.template.title: nothing is no field"),
        (reason, "ReasonUnknown", "spec.on[0]: Abort is no reason of an event"),
    ] {
        let (cluster, clock) = town(&[spec]);
        let running = begin(&cluster, &clock, &Mailbox::taking());
        sleep(Duration::from_secs(5)).await;
        let (truth, reason, message) = ready(&cluster, "channel");
        assert_eq!((truth.as_str(), reason.as_str()), ("False", wanted), "{message}");
        assert!(message.contains(told), "{message}");
        assert!(status(&cluster, "channel").status.conditions.iter().any(|one| one.kind == "Stalled"));
        running.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_comes_later_is_found() {
    let (cluster, clock) =
        town(&[channel("channel", &json!({"wecom": {"webhookUrl": {"name": "late", "key": "url"}}}))]);
    let running = begin(&cluster, &clock, &Mailbox::taking());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(ready(&cluster, "channel").1, "SecretMissing");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", "namespace": "shop"}, "data": {"url": "aHR0cHM6Ly94"}});
    cluster.apply("secrets", &secret).unwrap();
    sleep(Duration::from_mins(2)).await;
    assert_eq!(ready(&cluster, "channel").1, "Ready");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_never_answered_silences_no_channel_for_ever() {
    let (cluster, clock) =
        town(&[channel("channel", &json!({"wecom": {"webhookUrl": {"name": "slack", "key": "token"}}}))]);
    let is_answered = Arc::new(AtomicBool::new(false));
    let answered = is_answered.clone();
    let meets = move |_: &str, path: &str| {
        (path.ends_with("/secrets/slack") && !answered.load(Ordering::Relaxed)).then_some(Met::Silence)
    };
    let post = Mailbox::taking();
    let client = client_with(&cluster, meets);
    let running = start_telling(&cluster, &clock, client, post.notifications(), 1.0);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(ready(&cluster, "channel").1, "SecretUnreadable");
    is_answered.store(true, Ordering::Relaxed);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(ready(&cluster, "channel").1, "Ready");
    running.end().await;
}

/// What a story with crashes comes to: counts, and what was sent.
async fn crash_at(number: u64, fault: story::Fault) -> bool {
    let (cluster, clock) = town(&[slack(), webhook()]);
    let post = Mailbox::taking();
    let first = begin(&cluster, &clock, &post);
    first.given("checkout", "checkout:1");
    first.healthy("checkout", "checkout:1").await;
    sleep(Duration::from_secs(20)).await;
    first.end().await;
    let (faults, mut killed) = Faults::new(BTreeMap::from([(number, fault)]), number);
    let mut link = Link::new(1, 0, &faults);
    let mut running = Some(start_telling(&cluster, &clock, link.client(&cluster, "shop"), post.notifications(), 1.0));
    sleep(Duration::from_secs(1)).await;
    running.as_ref().unwrap().given("checkout", "checkout:2");
    let mut was_killed = false;
    for _ in 0..1_200 {
        sleep(Duration::from_millis(50)).await;
        if killed.try_recv().is_ok() {
            was_killed = true;
            link.cut();
            running.take().unwrap().crash();
            sleep(Duration::from_millis(700)).await;
            link = Link::new(1, 1, &faults);
            running = Some(start_telling(&cluster, &clock, link.client(&cluster, "shop"), post.notifications(), 1.0));
        }
    }
    let running = running.unwrap();
    let events = running.healthy("checkout", "checkout:2").await.status.events;
    sleep(Duration::from_mins(2)).await;
    let what = format!("request {number}, killed: {was_killed}");
    let taken = post.taken();
    let (hooks, chats): (Vec<Request>, Vec<Request>) =
        taken.into_iter().partition(|one| one.url.contains("hooks.example"));
    // A webhook is told everything, an event always under the same id.
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for (request, reason) in hooks.iter().zip(reasons(&hooks)) {
        assert_eq!(ids.entry(id(request)).or_insert_with(|| reason.clone()), &reason, "{what}");
    }
    let told: Vec<i64> = {
        let number = |id: &String| id.split('.').nth(1).unwrap().parse::<i64>().unwrap();
        let mut told: Vec<i64> = ids.keys().map(number).collect();
        told.sort_unstable();
        told
    };
    let happened: Vec<i64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(told, happened, "{what}: no event is lost, none is invented");
    let hook = status(&cluster, "webhook").status;
    assert_eq!((hook.sent, hook.failed, hook.unconfirmed), (i64::try_from(events.len()).unwrap(), 0, 0), "{what}");
    // People are told nothing twice, and what nobody knows is counted.
    let chat = status(&cluster, "slack").status;
    let mut words = reasons(&chats);
    assert!(words.len() <= 2, "{what}: {words:?}");
    words.dedup();
    assert_eq!(words.len(), chats.len(), "{what}");
    assert_eq!((chat.sent + chat.unconfirmed, chat.failed), (2, 0), "{what}: {words:?}");
    assert!(i64::try_from(chats.len()).unwrap() >= chat.sent, "{what}");
    assert!(chat.in_flight.is_none() && hook.in_flight.is_none(), "{what}");
    running.end().await;
    was_killed
}

/// The controller is killed before and after each of its requests, and each answer is lost.
#[tokio::test(start_paused = true)]
async fn a_crash_between_any_two_requests_loses_and_doubles_nothing() {
    let mut kills = 0;
    for number in 1..90 {
        kills += i32::from(crash_at(number, story::Fault::KilledBefore(500)).await);
        kills += i32::from(crash_at(number, story::Fault::KilledAfter(500)).await);
        assert!(!crash_at(number, story::Fault::AnswerLost).await);
    }
    assert!(kills > 60, "only {kills} kills: does the story still have so many requests?");
}

/// A leader that goes silent in the middle of a message, and its successor.
#[tokio::test(start_paused = true)]
async fn two_leaders_tell_nobody_twice() {
    let (cluster, clock) = town(&[slack(), webhook()]);
    let post = Mailbox::of(|_, _| {
        async {
            sleep(Duration::from_secs(8)).await;
            Outcome::Sent(None)
        }
        .boxed()
    });
    let (faults, _killed) = Faults::new(BTreeMap::new(), 1);
    let (_never, forever) = tokio::sync::watch::channel(false);
    let mut leaders = Vec::new();
    for number in [1, 2] {
        let link = Link::new(number, 0, &faults);
        let (leadership, mut election) = candidate(&cluster, &clock, &format!("controller-{number}"));
        election.api = kube::Api::namespaced(link.client(&cluster, "serin-system"), "serin-system");
        tokio::spawn(election.run(forever.clone()));
        let client = (link.client(&cluster, "shop"), Some(post.notifications()));
        let running = run_with(&cluster, &clock, client, (leadership.clone(), controller::readiness()), 1.0);
        leaders.push((link, leadership, running));
        sleep(Duration::from_secs(5)).await;
    }
    let (first, second) = (&leaders[0], &leaders[1]);
    let is_leading = |leadership: &Leadership| leadership.may_write();
    assert!(is_leading(&first.1) && !is_leading(&second.1));
    first.2.given("checkout", "checkout:1");
    first.2.healthy("checkout", "checkout:1").await;
    sleep(Duration::from_mins(1)).await;
    first.2.given("checkout", "checkout:2");
    second
        .2
        .wait("checkout", "told of", |_| reasons(&post.taken()).iter().any(|reason| reason == "RolloutStarted"))
        .await;
    // The first one hears nothing more, in the middle of its messages; it goes on by itself for as long as it may.
    first.0.cut();
    second.2.healthy("checkout", "checkout:2").await;
    sleep(Duration::from_mins(5)).await;
    assert!(is_leading(&second.1));
    let taken = post.taken();
    let (hooks, chats): (Vec<Request>, Vec<Request>) =
        taken.into_iter().partition(|one| one.url.contains("hooks.example"));
    let chat = status(&cluster, "slack").status;
    assert_eq!(reasons(&chats), ["RolloutStarted", "Promoted"]);
    assert_eq!((chat.sent, chat.unconfirmed, chat.failed), (1, 1, 0));
    let events = second.2.rollout("checkout").status.events;
    let ids: std::collections::BTreeSet<String> = hooks.iter().map(id).collect();
    assert_eq!(ids.len(), events.len(), "each event, however often it was sent");
    assert_eq!(status(&cluster, "webhook").status.sent, i64::try_from(events.len()).unwrap());
}

/// The example, applied and rolled to a bad revision: what its channels send.
#[tokio::test(start_paused = true)]
async fn the_example_tells() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/17-told-where-people-are");
    let (cluster, clock) = town(&[]);
    let data =
        json!({"slack-token": "eG94Yi0x", "revert-url": "aHR0cHM6Ly9ob29rcy5leGFtcGxlL3g=", "revert-key": "a2V5"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "serin-notifications", "namespace": "shop"}, "data": data});
    cluster.apply("secrets", &secret).unwrap();
    let post = Mailbox::taking();
    let running = start_telling(&cluster, &clock, cluster.client("shop"), post.notifications(), 0.5);
    let text = std::fs::read_to_string(format!("{dir}/rollout.yaml")).unwrap();
    let mut objects: Vec<Value> =
        serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap()).collect();
    for object in &mut objects {
        object["metadata"]["namespace"] = json!("shop");
        let kind = KINDS.iter().find(|kind| object["kind"] == kind.kind).unwrap();
        cluster.apply(kind.plural, object).unwrap();
    }
    running.wait("checkout", "Healthy", |rollout| rollout.status.phase == Some(Phase::Healthy)).await;
    let next = objects.iter_mut().find(|one| one["kind"] == "Rollout").unwrap();
    next["metadata"]["annotations"]["serin.dev/git-commit"] = json!("4f2c1d0e9b8a7f6e5d4c3b2a190807f6e5d4c3b2");
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example/checkout:2");
    cluster.apply("rollouts", next).unwrap();
    running.wait("checkout", "aborted", |rollout| rollout.status.aborted.is_some()).await;
    sleep(Duration::from_secs(30)).await;
    let uid = running.rollout("checkout").metadata.uid.unwrap();
    let told = |request: &Request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let text = body["revert"].is_object().then(|| format!("revert: {:#}", body["revert"]));
        let text = text.unwrap_or_else(|| body["text"].as_str().unwrap().to_owned());
        let thread = body["thread_ts"].as_str().map_or(String::new(), |thread| format!(" (in the thread {thread})"));
        format!("POST {}{thread}\n{text}\n", request.url).replace(&uid, "UID")
    };
    let told: Vec<String> = post.taken().iter().map(told).collect();
    expect_test::expect_file![format!("{dir}/told.txt")].assert_eq(&told.join("\n"));
    running.end().await;
}
