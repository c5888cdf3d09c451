//! One canary at a time: its writes, its events, its speed, and how fast an abort is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::api::watched::{ReplicaSet, Rollout, VirtualService};
use serin::plan::revision;

use crate::bed::{Bed, Controller, Seen, difference, split_events, spread};

/// A Rollout that edits a VirtualService and a DestinationRule in place, as in the peer's measurement.
pub struct App {
    pub namespace: String,
    pub name: String,
    pub replicas: i32,
    pub steps: Value,
    pub annotations: Value,
    pub canary: Value,
}

impl App {
    pub fn new(namespace: &str, name: &str, steps: Value) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            replicas: 5,
            steps,
            annotations: json!({}),
            canary: json!({"scaleDownDelaySeconds": 30, "abortScaleDownDelaySeconds": 1}),
        }
    }

    pub fn template(&self, image: &str) -> Value {
        json!({
            "metadata": {"labels": {"app": self.name}, "annotations": self.annotations},
            "spec": {"containers": [{"name": "app", "image": image}]},
        })
    }

    pub fn rollout(&self, template: &Value) -> Value {
        let mut canary = self.canary.clone();
        canary["steps"] = self.steps.clone();
        canary["trafficRouting"] = json!({"istio": {
            "virtualService": {"name": self.name, "routes": ["primary"]},
            "destinationRule": {"name": self.name, "stableSubsetName": "stable", "canarySubsetName": "canary"}}});
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": self.name},
            "spec": {"replicas": self.replicas, "selector": {"matchLabels": {"app": self.name}}, "template": template, "strategy": {"canary": canary}},
        })
    }

    pub fn path(&self, group: &str, plural: &str) -> String {
        format!("/apis/{group}/namespaces/{}/{plural}", self.namespace)
    }

    /// The Service and both routes.
    pub async fn routes(&self, bed: &Bed, http: Value) {
        let name = &self.name;
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}});
        bed.post(&format!("/api/v1/namespaces/{}/services", self.namespace), &service).await;
        let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name},
            "spec": {"host": name, "subsets": [{"name": "stable"}, {"name": "canary"}]}});
        bed.post(&self.path("networking.istio.io/v1", "destinationrules"), &rule).await;
        let route = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
            "spec": {"hosts": [name], "http": http}});
        bed.post(&self.path("networking.istio.io/v1", "virtualservices"), &route).await;
    }

    /// The one route that is edited.
    pub fn primary(&self) -> Value {
        json!({"name": "primary", "route": [
            {"destination": {"host": self.name, "subset": "stable"}, "weight": 100},
            {"destination": {"host": self.name, "subset": "canary"}, "weight": 0}]})
    }

    pub async fn create(&self, bed: &Bed, template: &Value) {
        self.routes(bed, json!([self.primary()])).await;
        bed.post(&self.path("serin.dev/v1alpha1", "rollouts"), &self.rollout(template)).await;
    }

    /// Commits another template.
    pub async fn change(&self, bed: &Bed, template: &Value) {
        let path = format!("{}/{}", self.path("serin.dev/v1alpha1", "rollouts"), self.name);
        bed.patch(&path, &json!({"spec": {"template": template}})).await;
    }

    /// Deletes the Rollout and all that is its own, and waits until the Rollout is gone.
    pub async fn delete(&self, bed: &Bed) {
        let rollout = format!("{}/{}", self.path("serin.dev/v1alpha1", "rollouts"), self.name);
        bed.delete(&rollout).await;
        while bed.is_there(&rollout).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for plural in ["virtualservices", "destinationrules"] {
            bed.delete(&format!("{}/{}", self.path("networking.istio.io/v1", plural), self.name)).await;
        }
        bed.delete(&format!("/api/v1/namespaces/{}/services/{}", self.namespace, self.name)).await;
    }

    async fn act(&self, bed: &Bed, action: &str, hash: &str) {
        let object = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"generateName": "bench-"},
            "spec": {"rollout": self.name, "revision": hash, "action": action, "by": "bench", "reason": "measured"},
        });
        bed.post(&self.path("serin.dev/v1alpha1", "rolloutactions"), &object).await;
    }
}

/// The canary's weight in a VirtualService.
pub fn weight(route: &VirtualService) -> i32 {
    route
        .spec
        .http
        .iter()
        .flat_map(|route| &route.route)
        .filter(|one| one.destination.subset.as_deref() == Some("canary"))
        .map(|one| one.weight.unwrap_or(0))
        .max()
        .unwrap_or(0)
}

pub fn is_healthy(rollout: &Rollout, hash: &str) -> bool {
    rollout.status.phase == Some(Phase::Healthy)
        && rollout.metadata.generation == Some(rollout.status.observed_generation)
        && rollout.status.stable.as_ref().is_some_and(|stable| stable.hash == hash)
}

/// Settings where no proxy runs: a route is in force as soon as it is observed.
pub const NO_PROXIES: [&str; 2] = ["--route-wait=0", "--drain=0"];

/// Nine canaries of five pods through 20, 50 and 80 percent.
pub async fn canary(bed: &Bed) {
    println!("\ncanary: 5 pods ready after 0.2 s, steps 20/50/80 without pauses, route wait 0, nine runs");
    bed.namespace("bench-canary").await;
    let controller = bed.start(&[&NO_PROXIES[..], &["--namespace", "bench-canary"]].concat()).await;
    let app = App::new("bench-canary", "app", json!([{"setWeight": 20}, {"setWeight": 50}, {"setWeight": 80}]));
    let rollouts: Seen<Rollout> = bed.follow(Some("bench-canary")).await;
    let routes: Seen<VirtualService> = bed.follow(Some("bench-canary")).await;
    let began = Instant::now();
    let first = app.template("app:0");
    app.create(bed, &first).await;
    rollouts.first(began, |rollout| is_healthy(rollout, &revision::hash(&first))).await;
    let (mut to_weight, mut to_promoted) = (Vec::new(), Vec::new());
    let at_first = controller.quiet(Duration::from_millis(500)).await;
    let mut counted = 0.0;
    for run in 1..=9 {
        let before = controller.quiet(Duration::from_millis(500)).await;
        let cpu = controller.cpu_seconds();
        let template = app.template(&format!("app:{run}"));
        let hash = revision::hash(&template);
        let began = Instant::now();
        app.change(bed, &template).await;
        let (first_weight, _) = routes.first(began, |route| weight(route) > 0).await;
        let (back, _) = routes.first(first_weight, |route| weight(route) == 0).await;
        let (healthy, _) = rollouts.first(first_weight, |rollout| is_healthy(rollout, &hash)).await;
        let promoted = back.max(healthy);
        let requests = difference(&before, &controller.quiet(Duration::from_millis(400)).await);
        let (events, writes) = split_events(&requests);
        let shown: BTreeSet<(i32, i32)> = rollouts
            .since(began, |_| true)
            .iter()
            .filter_map(|(_, rollout)| {
                Some((rollout.status.current_step_index?, rollout.status.canary.as_ref()?.observed_weight))
            })
            .collect();
        println!(
            "  run {run}: first weight {:.3} s, promoted {:.3} s; {writes} writes, {events} events, {:.2} CPU s; status showed {}",
            (first_weight - began).as_secs_f64(),
            (promoted - began).as_secs_f64(),
            controller.cpu_seconds() - cpu,
            shown.iter().map(|(step, weight)| format!("step {step} at {weight}%")).collect::<Vec<_>>().join(", "),
        );
        if run == 9 || writes > 18.0 {
            requests.iter().for_each(|(key, count)| println!("    {count} × {key}"));
        }
        counted += writes;
        to_weight.push((first_weight - began).as_secs_f64());
        to_promoted.push((promoted - began).as_secs_f64());
    }
    println!("  change → first weight: {}", spread(to_weight));
    println!("  change → promoted:     {}", spread(to_promoted));
    tokio::time::sleep(Duration::from_secs(35)).await;
    let all = split_events(&difference(&at_first, &controller.quiet(Duration::from_secs(1)).await)).1;
    println!("  the old pods' scale-down, 30 s later: {:.1} writes more a canary", (all - counted) / 9.0);
}

/// Pods that need twelve seconds: how long a weight waits once its pods are there.
pub async fn slow_pods(bed: &Bed) {
    println!("\nslow-pods: pods ready after 12 s; from enough available pods to the weight");
    bed.namespace("bench-slow").await;
    let _controller = bed.start(&[&NO_PROXIES[..], &["--namespace", "bench-slow"]].concat()).await;
    let rollouts: Seen<Rollout> = bed.follow(Some("bench-slow")).await;
    let routes: Seen<VirtualService> = bed.follow(Some("bench-slow")).await;
    let sets: Seen<ReplicaSet> = bed.follow(Some("bench-slow")).await;
    let began = Instant::now();
    let apps: Vec<App> = ["one", "two", "three"]
        .iter()
        .map(|name| App::new("bench-slow", name, json!([{"setWeight": 20}, {"setWeight": 50}, {"setWeight": 80}])))
        .collect();
    for app in &apps {
        let template = app.template("app:0");
        app.create(bed, &template).await;
        rollouts.first(began, |rollout| named(rollout, app) && is_healthy(rollout, &revision::hash(&template))).await;
    }
    let began = Instant::now();
    let slow = |app: &App| {
        let mut template = app.template("app:1");
        template["metadata"]["annotations"] = json!({"testbed.serin.dev/ready-after": "12s"});
        template
    };
    for app in &apps {
        app.change(bed, &slow(app)).await;
    }
    let mut waits = Vec::new();
    for app in &apps {
        let hash = revision::hash(&slow(app));
        rollouts.first(began, |rollout| named(rollout, app) && is_healthy(rollout, &hash)).await;
        for (wanted, pods) in [(20, 1), (50, 3), (80, 4)] {
            let of_app = |set: &ReplicaSet| set.metadata.name.as_deref() == Some(&format!("{}-{hash}", app.name));
            let (enough, _) = sets.first(began, |set| of_app(set) && set.status.available_replicas >= pods).await;
            let is_it =
                |route: &VirtualService| route.metadata.name.as_deref() == Some(&app.name) && weight(route) == wanted;
            let (written, _) = routes.first(began, is_it).await;
            waits.push(written.saturating_duration_since(enough).as_secs_f64());
        }
    }
    println!("  {}", spread(waits));
}

fn named(rollout: &Rollout, app: &App) -> bool {
    rollout.metadata.name.as_deref() == Some(&app.name)
}

/// A Prometheus whose answers turn bad, when the first bad one was sent, and how often it was asked.
#[derive(Clone, Default)]
pub struct Prometheus {
    is_bad: Arc<AtomicBool>,
    answered: Arc<Mutex<Option<Instant>>>,
    asked: Arc<AtomicU64>,
}

impl Prometheus {
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let own = self.clone();
        let answer = move || async move {
            own.asked.fetch_add(1, Ordering::SeqCst);
            let is_bad = own.is_bad.load(Ordering::SeqCst);
            if is_bad {
                own.answered.lock().unwrap().get_or_insert_with(Instant::now);
            }
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1,"{}"]}}]}}}}"#,
                if is_bad { "0.5" } else { "1" }
            )
        };
        let app = Router::new().route("/api/v1/query", get(answer.clone()).post(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }
}

/// Healthy aborts at weight 40, by action and by verdict.
pub async fn abort(bed: &Bed) {
    println!("\nabort: weight 40, everything healthy, to weight 0");
    bed.namespace("bench-abort").await;
    let prometheus = Prometheus::default();
    let address = prometheus.serve().await;
    let controller =
        bed.start(&[&NO_PROXIES[..], &["--namespace", "bench-abort", "--prometheus-url", &address]].concat()).await;
    let template = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "rate"},
        "spec": {"metrics": [{"name": "rate", "interval": "1s", "count": 1000, "successCondition": "result[0] > 0.9", "prometheus": {"query": "rate"}}]}});
    bed.post("/apis/serin.dev/v1alpha1/namespaces/bench-abort/analysistemplates", &template).await;
    let steps = json!([{"setWeight": 40}, {"analysis": {"templates": [{"templateName": "rate"}]}}]);
    let app = App::new("bench-abort", "app", steps);
    let rollouts: Seen<Rollout> = bed.follow(Some("bench-abort")).await;
    let routes: Seen<VirtualService> = bed.follow(Some("bench-abort")).await;
    let began = Instant::now();
    let first = app.template("app:0");
    app.create(bed, &first).await;
    rollouts.first(began, |rollout| is_healthy(rollout, &revision::hash(&first))).await;
    let (mut by_action, mut by_verdict) = (Vec::new(), Vec::new());
    for run in 1..=10 {
        let template = app.template(&format!("app:{run}"));
        let (began, hash) = (Instant::now(), revision::hash(&template));
        app.change(bed, &template).await;
        routes.first(began, |route| weight(route) == 40).await;
        rollouts
            .first(began, |rollout| rollout.status.current_step_index == Some(1) && !rollout.status.analysis.is_empty())
            .await;
        let before = quiet(&controller).await;
        let asked = Instant::now();
        if run % 2 == 0 {
            app.act(bed, "abort", &hash).await;
            let (zero, _) = routes.first(asked, |route| weight(route) == 0).await;
            by_action.push((zero - asked).as_secs_f64());
        } else {
            prometheus.is_bad.store(true, Ordering::SeqCst);
            let (zero, _) = routes.first(asked, |route| weight(route) == 0).await;
            let answered = prometheus.answered.lock().unwrap().take().unwrap();
            by_verdict.push((zero - answered).as_secs_f64());
            prometheus.is_bad.store(false, Ordering::SeqCst);
        }
        let requests = difference(&before, &quiet(&controller).await);
        if run >= 9 {
            let (events, writes) = split_events(&requests);
            println!("  {}: {writes} writes, {events} events", if run % 2 == 0 { "by action" } else { "by verdict" });
        }
    }
    println!("  by action, from its creation:            {}", spread(by_action));
    println!("  by verdict, from Prometheus' bad answer: {}", spread(by_verdict));
}

async fn quiet(controller: &Controller) -> std::collections::BTreeMap<String, f64> {
    controller.quiet(Duration::from_millis(300)).await
}
