//! Ten thousand Rollouts under one controller: memory, processor time, a restart, one change among many, two hundred at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use serin::api::watched::{Rollout, VirtualService};
use serin::plan::revision;

use crate::bed::{Bed, Controller, difference, split_events};
use crate::canary::{App, Prometheus, is_healthy, weight};

const NAMESPACES: usize = 20;
const CROWD: usize = 200;
/// Changes that are made one at a time, at rest, and as many among the crowd.
const SINGLES: usize = 20;
/// Requests of the benchmark at once.
const AT_ONCE: usize = 16;
/// Measurements of each analysis.
const MEASUREMENTS: u64 = 5;

/// How many Rollouts; fewer to try the benchmark itself.
fn rollouts() -> usize {
    std::env::var("BENCH_ROLLOUTS").map_or(10_000, |text| text.parse().unwrap())
}

/// What was seen of a Rollout and of its route.
#[derive(Default)]
struct Told {
    begun: Option<Instant>,
    weighted: Option<Instant>,
    healthy: BTreeMap<String, Instant>,
}

/// When each Rollout was first seen as it is waited for.
#[derive(Clone, Default)]
struct Tracker {
    told: Arc<Mutex<BTreeMap<String, Told>>>,
}

impl Tracker {
    async fn follow(bed: &Bed) -> Self {
        let tracker = Self::default();
        let (rollouts, routes) = (tracker.told.clone(), tracker.told.clone());
        let of_rollouts = watch(Api::<Rollout>::all(bed.client.clone()), move |rollout| {
            let mut told = rollouts.lock().unwrap();
            let told = told.entry(rollout.name_any()).or_default();
            if rollout.status.canary.is_some() && rollout.status.stable.is_some() {
                told.begun.get_or_insert_with(Instant::now);
            }
            if let Some(hash) = rollout.status.stable.as_ref().map(|stable| stable.hash.clone())
                && is_healthy(rollout, &hash)
            {
                told.healthy.entry(hash).or_insert_with(Instant::now);
            }
        });
        let of_routes = watch(Api::<VirtualService>::all(bed.client.clone()), move |route| {
            if weight(route) > 0 {
                let mut told = routes.lock().unwrap();
                told.entry(route.name_any()).or_default().weighted.get_or_insert_with(Instant::now);
            }
        });
        tokio::join!(of_rollouts, of_routes);
        tracker
    }

    fn forget(&self, app: &App) {
        let mut told = self.told.lock().unwrap();
        let told = told.entry(app.name.clone()).or_default();
        (told.begun, told.weighted) = (None, None);
    }

    fn healthy(&self, app: &App, hash: &str) -> Option<Instant> {
        self.told.lock().unwrap().get(&app.name).and_then(|told| told.healthy.get(hash).copied())
    }

    /// Waits until a Rollout rests on a revision; when it began, had its first weight, and rested.
    async fn promoted(&self, app: &App, hash: &str) -> [Instant; 3] {
        for _ in 0..60_000 {
            if let Some(at) = self.healthy(app, hash) {
                let told = self.told.lock().unwrap();
                let told = told.get(&app.name).unwrap();
                return [told.begun.unwrap(), told.weighted.unwrap(), at];
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} is not promoted within ten minutes", app.name);
    }
}

/// Follows a kind; returns when it is listed.
async fn watch<K>(api: Api<K>, take: impl Fn(&K) + Send + 'static)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (listed, is_listed) = tokio::sync::oneshot::channel::<()>();
    let mut listed = Some(listed);
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => take(&object),
                Ok(Some(watcher::Event::InitDone)) => drop(listed.take()),
                Ok(Some(watcher::Event::Init | watcher::Event::Delete(_))) | Err(_) => {}
                Ok(None) => return,
            }
        }
    });
    let _ = is_listed.await;
}

/// Least, middle, 95th of a hundred and most of some durations, in seconds.
fn quantiles(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    let at = |part: usize| seconds[(seconds.len() - 1) * part / 100];
    format!("{:.3} / {:.3} / {:.3} / {:.3} s, {} samples", at(0), at(50), at(95), at(100), seconds.len())
}

/// Seconds from a change to each of the three moments.
fn print_reactions(samples: &[(Instant, [Instant; 3])]) {
    for (number, what) in ["begun", "first weight", "promoted"].into_iter().enumerate() {
        let seconds =
            samples.iter().map(|(moment, seen)| seen[number].saturating_duration_since(*moment).as_secs_f64());
        println!("    change → {what:<13} {}", quantiles(seconds.collect()));
    }
}

fn apps() -> Vec<App> {
    let analysis = json!({"templates": [{"templateName": "rate"}]});
    let steps = json!([{"setWeight": 20}, {"analysis": analysis}, {"setWeight": 50}, {"setWeight": 80}]);
    let app = |number: usize| {
        let mut app = App::new(&format!("bench-many-{}", number % NAMESPACES), &format!("app-{number}"), steps.clone());
        app.replicas = 1;
        app
    };
    (0..rollouts()).map(app).collect()
}

fn memory(controller: &Controller) -> String {
    format!("{:.1} MiB resident, at most {:.1}", controller.resident_mib("VmRSS"), controller.resident_mib("VmHWM"))
}

/// All of it; the namespaces are left to the end of the testbed.
pub async fn many(bed: &Bed) {
    let apps = apps();
    println!("\nmany: {} Rollouts of one pod, with a VirtualService, a DestinationRule and a Service each", apps.len());
    let prometheus = Prometheus::default();
    let address = prometheus.serve().await;
    let arguments = ["--route-wait=0", "--drain=0", "--prometheus-url", &address];
    let controller = bed.start(&arguments).await;
    let tracker = Tracker::follow(bed).await;
    create(bed, &controller, &tracker, &apps).await;
    rest(&controller).await;
    let controller = restart(bed, controller, &arguments, apps.len()).await;
    rest(&controller).await;
    alone(bed, &controller, (&tracker, &prometheus), &apps).await;
    crowd(bed, &controller, (&tracker, &prometheus), &apps).await;
    controller.kill();
}

async fn create(bed: &Bed, controller: &Controller, tracker: &Tracker, apps: &[App]) {
    let template = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "rate"},
        "spec": {"metrics": [{"name": "rate", "interval": "1s", "count": MEASUREMENTS, "successCondition": "result[0] > 0.9", "prometheus": {"query": "rate"}}]}});
    for number in 0..NAMESPACES {
        let name = format!("bench-many-{number}");
        bed.namespace(&name).await;
        bed.post(&format!("/apis/serin.dev/v1alpha1/namespaces/{name}/analysistemplates"), &template).await;
    }
    let began = Instant::now();
    futures::stream::iter(apps)
        .for_each_concurrent(AT_ONCE, |app| async move {
            app.create(bed, &app.template("app:0")).await;
        })
        .await;
    let created = began.elapsed();
    for app in apps {
        let hash = revision::hash(&app.template("app:0"));
        while tracker.healthy(app, &hash).is_none() {
            assert!(began.elapsed() < Duration::from_hours(1), "{} is not Healthy", app.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let healthy = began.elapsed();
    let (events, writes) = split_events(&controller.quiet(Duration::from_secs(2)).await);
    println!(
        "  created in {:.1} s, all Healthy after {:.1} s; {:.1} writes and {:.1} events a Rollout, {:.1} CPU s; {}",
        created.as_secs_f64(),
        healthy.as_secs_f64(),
        writes / apps.len() as f64,
        events / apps.len() as f64,
        controller.cpu_seconds(),
        memory(controller),
    );
}

async fn rest(controller: &Controller) {
    let (before, cpu) = (controller.requests().await, controller.cpu_seconds());
    tokio::time::sleep(Duration::from_mins(1)).await;
    let requests: f64 = difference(&before, &controller.requests().await).values().sum::<f64>() + 0.0;
    println!(
        "  a minute at rest: {requests} requests besides watches, {:.2} CPU s; {}",
        controller.cpu_seconds() - cpu,
        memory(controller)
    );
}

async fn restart(bed: &Bed, controller: Controller, arguments: &[&str], count: usize) -> Controller {
    controller.kill();
    let began = Instant::now();
    let controller = bed.start(arguments).await;
    let ready = began.elapsed();
    while controller.passes().await < count as f64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(began.elapsed() < Duration::from_mins(5), "not settled");
    }
    let settled = began.elapsed();
    let requests: f64 = controller.quiet(Duration::from_secs(5)).await.values().sum::<f64>() + 0.0;
    println!(
        "  restart: ready after {:.2} s, every Rollout looked at after {:.2} s; {requests} requests besides lists and watches, {:.1} CPU s; {}",
        ready.as_secs_f64(),
        settled.as_secs_f64(),
        controller.cpu_seconds(),
        memory(&controller),
    );
    controller
}

/// One change at a time, while nothing else happens.
async fn alone(bed: &Bed, controller: &Controller, (tracker, prometheus): (&Tracker, &Prometheus), apps: &[App]) {
    let before = controller.quiet(Duration::from_secs(1)).await;
    let (cpu, asked) = (controller.cpu_seconds(), prometheus.asked());
    let mut samples = Vec::new();
    for app in apps.iter().rev().take(SINGLES) {
        samples.push(change(bed, tracker, app, "app:1").await);
    }
    let (events, writes) = split_events(&difference(&before, &controller.quiet(Duration::from_secs(1)).await));
    println!("  one among many, {SINGLES} times: least / median / 95th / most");
    print_reactions(&samples);
    println!(
        "    {:.1} writes, {:.1} events, {:.1} queries, {:.3} CPU s a canary",
        writes / SINGLES as f64,
        events / SINGLES as f64,
        (prometheus.asked() - asked) as f64 / SINGLES as f64,
        (controller.cpu_seconds() - cpu) / SINGLES as f64
    );
}

/// Changes a Rollout and waits until it is promoted.
async fn change(bed: &Bed, tracker: &Tracker, app: &App, image: &str) -> (Instant, [Instant; 3]) {
    let template = app.template(image);
    tracker.forget(app);
    let moment = Instant::now();
    app.change(bed, &template).await;
    (moment, tracker.promoted(app, &revision::hash(&template)).await)
}

/// Two hundred at once, and others one after the other while these are under way.
async fn crowd(bed: &Bed, controller: &Controller, (tracker, prometheus): (&Tracker, &Prometheus), apps: &[App]) {
    let before = controller.quiet(Duration::from_secs(1)).await;
    let (cpu, asked, began) = (controller.cpu_seconds(), prometheus.asked(), Instant::now());
    let of_crowd = futures::stream::iter(&apps[..CROWD])
        .map(|app| async move {
            let template = app.template("app:1");
            tracker.forget(app);
            let moment = Instant::now();
            app.change(bed, &template).await;
            (app, moment, template)
        })
        .buffer_unordered(AT_ONCE)
        .map(|(app, moment, template)| async move { (moment, tracker.promoted(app, &revision::hash(&template)).await) })
        .buffer_unordered(CROWD)
        .collect::<Vec<_>>();
    let latecomers = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        futures::stream::iter(apps[CROWD..CROWD + SINGLES].iter().enumerate())
            .map(|(number, app)| async move {
                tokio::time::sleep(Duration::from_millis(200) * u32::try_from(number).unwrap()).await;
                change(bed, tracker, app, "app:1").await
            })
            .buffer_unordered(SINGLES)
            .collect::<Vec<_>>()
            .await
    };
    let (of_crowd, latecomers) = tokio::join!(of_crowd, latecomers);
    let ended = began.elapsed();
    let canaries = (CROWD + SINGLES) as f64;
    let (events, writes) = split_events(&difference(&before, &controller.quiet(Duration::from_secs(1)).await));
    println!("  {CROWD} at once, all promoted after {:.1} s: least / median / 95th / most", ended.as_secs_f64());
    print_reactions(&of_crowd);
    println!("  {SINGLES} others, one each 0.2 s, while these were under way");
    print_reactions(&latecomers);
    println!(
        "    {:.1} writes, {:.1} events, {:.1} queries, {:.3} CPU s a canary; {}",
        writes / canaries,
        events / canaries,
        (prometheus.asked() - asked) as f64 / canaries,
        (controller.cpu_seconds() - cpu) / canaries,
        memory(controller)
    );
}
