//! What is measured: a cluster, a controller process, and what a watch sees of both.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::shipped::{apply_shipped, write_kubeconfig};

/// The cluster and the binary.
pub struct Bed {
    pub client: Client,
    binary: PathBuf,
    kubeconfig: PathBuf,
    dir: PathBuf,
}

/// A controller process; dropping it ends it.
pub struct Controller {
    child: Child,
    address: String,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bed {
    pub async fn prepare() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; start the benchmarks by e2e/bench"))
        };
        let client = Client::try_default().await.expect("KUBECONFIG leads to a cluster");
        apply_shipped(&client).await;
        let dir = PathBuf::from(variable("E2E_DIR"));
        let kubeconfig = dir.join("serin.kubeconfig");
        write_kubeconfig(&client, std::env::var("KUBECONFIG").expect("KUBECONFIG").as_ref(), &kubeconfig).await;
        Self { client, binary: variable("SERIN_BIN").into(), kubeconfig, dir }
    }

    pub fn binary_mb(&self) -> f64 {
        std::fs::metadata(&self.binary).unwrap().len() as f64 / 1e6
    }

    /// Resident memory of a controller with nothing to do.
    pub async fn idle_mib(&self) -> f64 {
        let controller = self.start(&[]).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        controller.resident_mib("VmRSS")
    }

    /// Starts a controller under the shipped RBAC, and waits until it is ready.
    pub async fn start(&self, arguments: &[&str]) -> Controller {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("bench.log")).unwrap();
        let child = Command::new(&self.binary)
            .args(["run", "--leader-election=false", "--listen", &address, "--log=info,serin=info"])
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(shipped_environment())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the release binary starts");
        let controller = Controller { child, address };
        controller.ready().await;
        controller
    }

    /// Creates a namespace.
    pub async fn namespace(&self, name: &str) {
        self.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await;
    }

    /// Deletes namespaces and waits until they are gone.
    pub async fn delete_namespaces(&self, names: &[String]) {
        for name in names {
            let _: Result<Value, _> =
                self.client.request(request("DELETE", &format!("/api/v1/namespaces/{name}"), Vec::new())).await;
        }
        for name in names {
            let path = format!("/api/v1/namespaces/{name}");
            while self.client.request::<Value>(request("GET", &path, Vec::new())).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    pub async fn post(&self, path: &str, object: &Value) {
        let body = serde_json::to_vec(object).unwrap();
        self.client
            .request::<Value>(request("POST", path, body))
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Deletes an object.
    pub async fn delete(&self, path: &str) {
        self.client
            .request::<Value>(request("DELETE", path, Vec::new()))
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Whether an object is there.
    pub async fn is_there(&self, path: &str) -> bool {
        self.client.request::<Value>(request("GET", path, Vec::new())).await.is_ok()
    }

    /// Merges a patch into an object.
    pub async fn patch(&self, path: &str, patch: &Value) {
        let body = serde_json::to_vec(patch).unwrap();
        let mut request = request("PATCH", path, body);
        request.headers_mut().insert("content-type", "application/merge-patch+json".parse().unwrap());
        self.client.request::<Value>(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Follows a kind in a namespace, or everywhere: each version of each object with the moment at which it was seen.
    pub async fn follow<K>(&self, namespace: Option<&str>) -> Seen<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<K> = namespace
            .map_or_else(|| Api::all(self.client.clone()), |namespace| Api::namespaced(self.client.clone(), namespace));
        let seen = Seen { versions: Arc::default() };
        let versions = seen.versions.clone();
        let (listed, is_listed) = tokio::sync::oneshot::channel::<()>();
        let mut listed = Some(listed);
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Ok(Some(event)) = events.try_next().await {
                match event {
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                        versions.lock().unwrap().push((Instant::now(), object));
                    }
                    watcher::Event::InitDone => drop(listed.take()),
                    watcher::Event::Init | watcher::Event::Delete(_) => {}
                }
            }
        });
        let _ = is_listed.await;
        seen
    }
}

fn request(method: &str, path: &str, body: Vec<u8>) -> http::Request<Vec<u8>> {
    http::Request::builder().method(method).uri(path).header("content-type", "application/json").body(body).unwrap()
}

/// Versions of objects, in the order in which they were seen.
pub struct Seen<K> {
    versions: Arc<Mutex<Vec<(Instant, K)>>>,
}

impl<K: Clone> Seen<K> {
    /// All versions seen since a moment that are as wanted.
    pub fn since(&self, moment: Instant, is_wanted: impl Fn(&K) -> bool) -> Vec<(Instant, K)> {
        let versions = self.versions.lock().unwrap();
        versions.iter().filter(|(at, object)| *at >= moment && is_wanted(object)).cloned().collect()
    }

    /// Waits for the first version since a moment that is as wanted.
    pub async fn first(&self, moment: Instant, is_wanted: impl Fn(&K) -> bool) -> (Instant, K) {
        for _ in 0..12_000 {
            if let Some(found) = self.since(moment, &is_wanted).into_iter().next() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not seen within a minute");
    }
}

impl Controller {
    /// The process that ends it, without a word.
    pub fn kill(self) {
        drop(self);
    }

    async fn ready(&self) {
        for _ in 0..6000 {
            let answer = reqwest::get(format!("http://{}/readyz", self.address)).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the controller is not ready within a minute");
    }

    pub async fn metrics(&self) -> String {
        reqwest::get(format!("http://{}/metrics", self.address)).await.unwrap().text().await.unwrap()
    }

    /// Requests that were sent besides watches, by verb and resource, and by outcome where that is not good.
    pub async fn requests(&self) -> BTreeMap<String, f64> {
        let mut requests = BTreeMap::new();
        for line in self.metrics().await.lines().filter(|line| line.starts_with("serin_requests_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
                rest.split_once('"').unwrap().0.to_owned()
            };
            let count: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
            let outcome = if label("outcome") == "ok" { String::new() } else { format!("({}) ", label("outcome")) };
            *requests.entry(format!("{outcome}{} {}", label("verb"), label("resource"))).or_insert(0.0) += count;
        }
        requests
    }

    /// Passes over Rollouts that went well.
    pub async fn passes(&self) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.starts_with("serin_passes_total{outcome=\"ok\"}"));
        line.map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    /// Waits until no request was sent for so long; the requests then.
    pub async fn quiet(&self, quiet: Duration) -> BTreeMap<String, f64> {
        let mut last = self.requests().await;
        let mut since = Instant::now();
        while since.elapsed() < quiet {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.requests().await;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    /// A field of /proc/PID/status, in MiB.
    pub fn resident_mib(&self, field: &str) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// CPU seconds used.
    pub fn cpu_seconds(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

/// What came after what was before.
pub fn difference(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let changed = after.iter().map(|(key, count)| (key.clone(), count - before.get(key).unwrap_or(&0.0)));
    changed.filter(|(_, count)| *count > 0.0).collect()
}

/// Requests that are events, and all others.
pub fn split_events(requests: &BTreeMap<String, f64>) -> (f64, f64) {
    let events = requests.iter().filter(|(key, _)| key.ends_with(" events")).fold(0.0, |sum, (_, count)| sum + count);
    let all = requests.values().fold(0.0, |sum, count| sum + count);
    (events, all - events)
}

/// Smallest, middle and largest of some durations, in seconds.
pub fn spread(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (seconds.first(), seconds.last()) else {
        return "none".to_owned();
    };
    let middle = seconds[seconds.len() / 2];
    format!("{first:.3} / {middle:.3} / {last:.3} s, spread {:.3} s, {} samples", last - first, seconds.len())
}

/// The environment that the shipped Deployment gives the controller, besides what the cluster fills in.
fn shipped_environment() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/deployment.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let documents = serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap());
    let deployment = documents.into_iter().find(|one| one["kind"] == "Deployment").unwrap();
    let environment = deployment.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    environment.iter().filter_map(|one| Some((text(&one["name"])?, text(&one["value"])?))).collect()
}
