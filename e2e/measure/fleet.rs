//! Many Rollouts at once: memory, a restart, what is sent at rest, and two hundred canaries in a crowd.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use serin::api::watched::Rollout;
use serin::plan::revision;

use crate::bed::{Bed, Controller, Seen, difference, split_events, spread};
use crate::canary::{App, is_healthy};

const ROLLOUTS: usize = 1000;
const NAMESPACES: usize = 10;
const CROWD: usize = 200;
/// Requests of the benchmark at once.
const AT_ONCE: usize = 16;
/// Settings where no proxy runs.
const NO_PROXIES: [&str; 2] = ["--route-wait=0", "--drain=0"];

fn apps(prefix: &str) -> Vec<App> {
    let steps = json!([{"setWeight": 20}, {"setWeight": 50}, {"setWeight": 80}]);
    let app = |number: usize| {
        let mut app = App::new(&format!("{prefix}-{}", number % NAMESPACES), &format!("app-{number}"), steps.clone());
        app.replicas = 1;
        app
    };
    (0..ROLLOUTS).map(app).collect()
}

fn namespaces(prefix: &str) -> Vec<String> {
    (0..NAMESPACES).map(|number| format!("{prefix}-{number}")).collect()
}

/// A thousand Healthy Rollouts of one pod, a VirtualService, a DestinationRule and a Service each; then the crowd.
pub async fn thousand(bed: &Bed, with_crowd: bool) {
    println!("\nthousand: {ROLLOUTS} Rollouts of one pod, with a VirtualService, a DestinationRule and a Service each");
    let apps = apps("bench-thousand");
    let controller = fleet(bed, "bench-thousand", &apps, |app| (app.template("app:0"), json!([app.primary()]))).await;
    rest(&controller).await;
    let controller = restart(bed, controller).await;
    if with_crowd {
        crowd(bed, &controller, &apps).await;
    }
    controller.kill();
    bed.delete_namespaces(&namespaces("bench-thousand")).await;
}

/// The same with pod templates and VirtualServices of the size that real ones have.
pub async fn real_size(bed: &Bed) {
    println!("\nreal-size: the same with sidecar-injected pod templates and VirtualServices of six routes");
    let apps = apps("bench-real");
    println!(
        "  a Rollout has {} bytes, a VirtualService {}",
        apps[0].rollout(&injected(&apps[0])).to_string().len(),
        six_routes(&apps[0]).to_string().len()
    );
    let controller = fleet(bed, "bench-real", &apps, |app| (injected(app), six_routes(app))).await;
    let controller = restart(bed, controller).await;
    controller.kill();
    bed.delete_namespaces(&namespaces("bench-real")).await;
}

/// Creates the Rollouts and waits until all are Healthy.
async fn fleet(bed: &Bed, prefix: &str, apps: &[App], objects: impl Fn(&App) -> (Value, Value)) -> Controller {
    for name in namespaces(prefix) {
        bed.namespace(&name).await;
    }
    let controller = bed.start(&NO_PROXIES).await;
    let rollouts: Seen<Rollout> = bed.follow(None).await;
    let began = Instant::now();
    futures::stream::iter(apps)
        .for_each_concurrent(AT_ONCE, |app| {
            let (template, http) = objects(app);
            async move {
                app.routes(bed, http).await;
                bed.post(&app.path("serin.dev/v1alpha1", "rollouts"), &app.rollout(&template)).await;
            }
        })
        .await;
    let created = began.elapsed();
    let hashes: BTreeMap<&str, String> =
        apps.iter().map(|app| (app.name.as_str(), revision::hash(&objects(app).0))).collect();
    let mut left: Vec<&str> = hashes.keys().copied().collect();
    while !left.is_empty() {
        let healthy = rollouts.since(began, |rollout| {
            let name = rollout.metadata.name.as_deref().unwrap_or_default();
            hashes.get(name).is_some_and(|hash| is_healthy(rollout, hash))
        });
        let names: std::collections::BTreeSet<&str> =
            healthy.iter().filter_map(|(_, rollout)| rollout.metadata.name.as_deref()).collect();
        left.retain(|name| !names.contains(name));
        assert!(began.elapsed() < Duration::from_mins(10), "{} are not Healthy: {:?}", left.len(), left.first());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let healthy = began.elapsed();
    let (events, writes) = split_events(&controller.quiet(Duration::from_secs(2)).await);
    println!(
        "  created in {:.1} s, all Healthy after {:.1} s; {:.1} writes and {:.1} events a Rollout, {:.1} CPU s; resident {:.1} MiB, at most {:.1}",
        created.as_secs_f64(),
        healthy.as_secs_f64(),
        writes / ROLLOUTS as f64,
        events / ROLLOUTS as f64,
        controller.cpu_seconds(),
        controller.resident_mib("VmRSS"),
        controller.resident_mib("VmHWM"),
    );
    controller
}

/// A minute at rest.
async fn rest(controller: &Controller) {
    let (before, cpu) = (controller.requests().await, controller.cpu_seconds());
    tokio::time::sleep(Duration::from_mins(1)).await;
    let requests: f64 = difference(&before, &controller.requests().await).values().sum::<f64>() + 0.0;
    let text = controller.metrics().await;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "  a minute at rest: {requests} requests besides watches, {:.2} CPU s; /metrics has {series} series, {} bytes",
        controller.cpu_seconds() - cpu,
        text.len()
    );
}

/// The controller is killed and started again.
async fn restart(bed: &Bed, controller: Controller) -> Controller {
    controller.kill();
    let began = Instant::now();
    let controller = bed.start(&NO_PROXIES).await;
    let ready = began.elapsed();
    while controller.passes().await < ROLLOUTS as f64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(began.elapsed() < Duration::from_mins(2), "not settled");
    }
    let settled = began.elapsed();
    let requests: f64 = controller.quiet(Duration::from_secs(5)).await.values().sum::<f64>() + 0.0;
    println!(
        "  restart: ready after {:.2} s, every Rollout looked at after {:.2} s; {requests} requests besides lists and watches, {:.1} CPU s; resident {:.1} MiB, at most {:.1}",
        ready.as_secs_f64(),
        settled.as_secs_f64(),
        controller.cpu_seconds(),
        controller.resident_mib("VmRSS"),
        controller.resident_mib("VmHWM"),
    );
    controller
}

/// Two hundred canaries at once.
async fn crowd(bed: &Bed, controller: &Controller, apps: &[App]) {
    println!("\ncrowd: {CROWD} canaries at once among {ROLLOUTS} Rollouts");
    let rollouts: Seen<Rollout> = bed.follow(None).await;
    let last = &apps[ROLLOUTS - 1];
    let (alone, template) = (controller.quiet(Duration::from_secs(1)).await, last.template("app:1"));
    let began = Instant::now();
    last.change(bed, &template).await;
    let is_last = |rollout: &Rollout| rollout.metadata.name.as_deref() == Some(&last.name);
    rollouts.first(began, |rollout| is_last(rollout) && is_healthy(rollout, &revision::hash(&template))).await;
    let before = controller.quiet(Duration::from_secs(1)).await;
    let (alone_events, alone_writes) = split_events(&difference(&alone, &before));
    let (cpu, busy) = (controller.cpu_seconds(), machine_seconds());
    let chosen = &apps[..CROWD];
    let hash = |app: &App| revision::hash(&app.template("app:1"));
    let began = Instant::now();
    let moments: Vec<(&App, Instant)> = futures::stream::iter(chosen)
        .map(|app| async move {
            app.change(bed, &app.template("app:1")).await;
            (app, Instant::now())
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let changed = began.elapsed();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for (app, moment) in moments {
        let is_own = |rollout: &Rollout| rollout.metadata.name.as_deref() == Some(&app.name);
        let (started, _) = rollouts.first(began, |rollout| is_own(rollout) && rollout.status.canary.is_some()).await;
        let (ended, _) = rollouts.first(began, |rollout| is_own(rollout) && is_healthy(rollout, &hash(app))).await;
        starts.push(started.saturating_duration_since(moment).as_secs_f64());
        ends.push((ended - moment).as_secs_f64());
    }
    let requests = difference(&before, &controller.quiet(Duration::from_millis(500)).await);
    let (events, writes) = split_events(&requests);
    let (used, idle) = machine_seconds();
    let busy = (used - busy.0) / (used - busy.0 + idle - busy.1);
    println!(
        "  all changed within {:.1} s, all promoted after {:.1} s; the machine, API server and all, was {:.0}% busy",
        changed.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        100.0 * busy
    );
    println!("  change → begun:    {}", spread(starts));
    println!("  change → promoted: {}", spread(ends));
    println!(
        "  {:.1} writes and {:.1} events a canary (one alone: {alone_writes} and {alone_events}), {:.1} CPU s; resident {:.1} MiB, at most {:.1}",
        writes / CROWD as f64,
        events / CROWD as f64,
        controller.cpu_seconds() - cpu,
        controller.resident_mib("VmRSS"),
        controller.resident_mib("VmHWM"),
    );
    requests.iter().for_each(|(key, count)| println!("    {:.2} × {key}", count / CROWD as f64));
}

/// Seconds that the machine's processors worked, and that they were idle.
fn machine_seconds() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<f64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|one| one.parse().unwrap()).collect();
    let idle = (ticks[3] + ticks[4]) / 100.0;
    (ticks.iter().take(8).sum::<f64>() / 100.0 - idle, idle)
}

/// A pod template of the size that one with an injected sidecar has.
fn injected(app: &App) -> Value {
    let env = |prefix: &str, count: usize| -> Value {
        (0..count).map(|number| json!({"name": format!("{prefix}_{number}"), "value": format!("a value of some length for {prefix} number {number}")})).collect()
    };
    let probe = json!({"httpGet": {"path": "/healthz", "port": 15021, "scheme": "HTTP"}, "failureThreshold": 30, "periodSeconds": 15, "timeoutSeconds": 3});
    let mounts: Value = (0..8)
        .map(|number| json!({"name": format!("volume-{number}"), "mountPath": format!("/var/run/volume-{number}")}))
        .collect();
    let volumes: Value = (0..8)
        .map(
            |number| json!({"name": format!("volume-{number}"), "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}),
        )
        .collect();
    let arguments: Value =
        (0..24).map(|number| json!(format!("--argument-{number}=a-value-of-some-length-{number}"))).collect();
    let resources = json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}});
    let mut template = app.template("app:0");
    template["metadata"]["annotations"] = (0..12)
        .map(|number| {
            (
                format!("example.com/annotation-{number}"),
                json!("a value of some length, as injectors and agents write them"),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    template["spec"] = json!({
        "serviceAccountName": "default",
        "initContainers": [{"name": "istio-init", "image": "istio/proxyv2:1.31", "args": arguments, "env": env("INIT", 10), "resources": resources}],
        "containers": [
            {"name": "app", "image": "app:0", "env": env("APP", 40), "ports": [{"name": "http", "containerPort": 8080}], "resources": resources, "volumeMounts": mounts, "readinessProbe": probe, "livenessProbe": probe},
            {"name": "istio-proxy", "image": "istio/proxyv2:1.31", "args": arguments, "env": env("ISTIO", 40), "resources": resources, "volumeMounts": mounts, "readinessProbe": probe, "startupProbe": probe},
        ],
        "volumes": volumes,
    });
    template
}

/// Six routes with matches, retries and headers; the last is edited.
fn six_routes(app: &App) -> Value {
    let mut routes: Vec<Value> = (0..5)
        .map(|number| {
            json!({
                "name": format!("route-{number}"),
                "match": [{"uri": {"prefix": format!("/v{number}/")}, "headers": {"x-tenant": {"exact": format!("tenant-{number}")}}}, {"uri": {"regex": format!("^/legacy-{number}/.*$")}}],
                "retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "connect-failure,refused-stream,unavailable,cancelled,503"},
                "timeout": "15s",
                "headers": {"request": {"set": {"x-route": format!("route-{number}")}}, "response": {"remove": ["server"]}},
                "route": [{"destination": {"host": app.name, "subset": "stable"}, "weight": 100}],
            })
        })
        .collect();
    routes.push(app.primary());
    Value::Array(routes)
}
