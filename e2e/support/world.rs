//! One story's world: a namespace, a controller process under the shipped RBAC, pods, and the monitor.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::api::watched::{Rollout, RolloutAction, VirtualService};
use serin::plan::revision;

use super::environment::Environment;
use super::monitor::Monitor;
use super::pods::{GATE, Ready, Rules};
use super::shipped::apply_text;

/// The Rollout's, the Service's and the routes' name in every story.
pub const NAME: &str = "checkout";

/// One story's world. Dropping it ends its controller.
pub struct World {
    /// What all stories share.
    pub environment: Arc<Environment>,
    /// The story's namespace.
    pub namespace: String,
    /// The administrator's client.
    pub client: Client,
    /// What is seen.
    pub monitor: Monitor,
    rules: Rules,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    controller: Option<Child>,
    /// Address of the controller's /metrics.
    pub address: String,
    /// The binary that the next controller is started from.
    pub binary: PathBuf,
    arguments: Vec<String>,
    /// What the log says of a right that a story gives late.
    pub withheld: &'static str,
}

/// A Rollout to apply.
#[derive(Clone)]
pub struct Given {
    /// Image, which tells revisions apart.
    pub image: &'static str,
    /// Pods.
    pub replicas: i32,
    /// How long a pod takes to become ready.
    pub ready_after: &'static str,
    /// What its container requests of a core.
    pub cpu: &'static str,
    /// `trafficRouting.istio`; null for none.
    pub istio: Value,
    /// The steps.
    pub steps: Value,
    /// Other fields of `strategy.canary`.
    pub canary: Value,
    /// Other fields of `spec`.
    pub spec: Value,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            image: "checkout:1",
            replicas: 5,
            ready_after: "",
            cpu: "",
            istio: json!({"owned": {"host": NAME, "hosts": [NAME]}}),
            steps: json!([{"setWeight": 20}, {"setWeight": 50}, {"setWeight": 80}]),
            canary: json!({"scaleDownDelaySeconds": 1, "abortScaleDownDelaySeconds": 1}),
            spec: json!({}),
        }
    }
}

impl Given {
    /// The same with another image.
    pub fn image(&self, image: &'static str) -> Self {
        Self { image, ..self.clone() }
    }

    /// The pod template.
    pub fn template(&self) -> Value {
        let mut template = json!({
            "metadata": {"labels": {"app": NAME}},
            "spec": {"readinessGates": [{"conditionType": GATE}], "containers": [{"name": "app", "image": self.image}]},
        });
        if !self.ready_after.is_empty() {
            template["metadata"]["annotations"] = json!({"testbed.serin.dev/ready-after": self.ready_after});
        }
        if !self.cpu.is_empty() {
            template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": self.cpu}});
        }
        template
    }

    /// The revision hash, as the controller will have it.
    pub fn hash(&self) -> String {
        revision::hash(&self.template())
    }

    /// The object.
    pub fn object(&self) -> Value {
        let mut canary = json!({"steps": self.steps});
        if !self.istio.is_null() {
            canary["trafficRouting"] = json!({"istio": self.istio});
        }
        merge(&mut canary, &self.canary);
        let mut spec = json!({
            "replicas": self.replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "template": self.template(),
            "strategy": {"canary": canary},
        });
        merge(&mut spec, &self.spec);
        json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": NAME}, "spec": spec})
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            into[key] = value.clone();
        }
    }
}

impl World {
    /// A namespace with a Service, a running controller and the monitor.
    pub async fn start(environment: Arc<Environment>, story: &str) -> Self {
        Self::start_with(environment, story, &[]).await
    }

    /// The same, with other arguments for the controller.
    pub async fn start_with(environment: Arc<Environment>, story: &str, arguments: &[&str]) -> Self {
        let client = environment.client.clone();
        let namespace = format!("e2e-{story}");
        let api: Api<Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        api.create(&PostParams::default(), &object).await.expect("a new namespace");
        let (rules, pods) = Rules::start(client.clone(), &namespace);
        let (monitor, mut tasks) = Monitor::start(&client, &namespace);
        tasks.push(pods);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut world = Self {
            binary: environment.binary.clone(),
            environment,
            namespace,
            client,
            monitor,
            rules,
            tasks,
            controller: None,
            address: free_address(),
            arguments,
            withheld: "\0",
        };
        world.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}, "ports": [{"port": 80}]}})).await;
        world.start_controller();
        world
    }

    /// Starts the release binary as its service account.
    pub fn start_controller(&mut self) {
        self.controller = Some(self.spawn(&self.arguments, &self.address));
    }

    /// Starts a controller with other arguments; none for one that leads alone.
    pub fn spawn(&self, arguments: &[String], address: &str) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "--namespace", &self.namespace, "--log-format=text", "--log=info,serin=debug"])
            .args(["--prometheus-url", &self.environment.prometheus, "--route-wait=0.2", "--drain=0.2"])
            .args(if arguments.is_empty() { vec!["--leader-election=false".to_owned()] } else { arguments.to_vec() })
            .args(["--listen", address])
            .env("KUBECONFIG", &self.environment.kubeconfig)
            // `e2e/run gitops` starts the engines and gives the rules.
            .envs(std::env::var_os("E2E_REPOSITORIES").map(|_| ("SERIN_COMMIT_FROM", "flux,argocd")))
            .stdout(Stdio::null())
            .stderr(log);
        command.spawn().expect("the release binary starts")
    }

    /// Sends a signal to the controller, such as `STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.controller.as_ref().expect("a controller").id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill");
        assert!(sent.success(), "no signal was sent");
    }

    /// Whether the controller runs.
    pub fn is_running(&mut self) -> bool {
        self.controller.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Ends the monitor, whose checks of every object at every write are not for hundreds of Rollouts.
    pub fn stop_monitor(&self) {
        self.tasks.iter().take(self.tasks.len() - 1).for_each(tokio::task::JoinHandle::abort);
    }

    /// Kills the controller without a word.
    pub fn kill_controller(&mut self) {
        if let Some(mut child) = self.controller.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn log(&self) -> PathBuf {
        self.environment.dir.join(format!("{}.log", self.namespace))
    }

    /// Applies an object as Git would.
    pub async fn apply(&self, object: &Value) {
        self.try_apply(object).await.unwrap_or_else(|error| panic!("apply: {error}"));
    }

    /// Applies an object; a refusal is a result.
    pub async fn try_apply(&self, object: &Value) -> Result<(), kube::Error> {
        apply_text(&self.client, Some(&self.namespace), &serde_json::to_string(object).unwrap()).await
    }

    /// Applies a Rollout.
    pub async fn given(&self, given: &Given) {
        self.apply(&given.object()).await;
    }

    /// Applies a Rollout and waits until it is Healthy with that revision.
    pub async fn healthy(&self, given: &Given) {
        self.given(given).await;
        let hash = given.hash();
        self.wait("Healthy", 30, |rollout| is_healthy(rollout, &hash)).await;
    }

    /// Sets which pods of an image are ready.
    pub fn ready(&self, image: &str, ready: Ready) {
        self.rules.set(image, ready);
    }

    /// Sets the fraction of a revision's requests that fail.
    pub fn errors(&self, hash: &str, fraction: f64) {
        self.environment.exporter.set(&self.namespace, hash, fraction);
    }

    /// Waits until Prometheus has the rate of these revisions' requests.
    pub async fn is_measured(&self, hashes: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        for hash in hashes {
            let query = format!("rate(e2e_requests_total{{story=\"{}\",revision=\"{hash}\"}}[3s]) > 0", self.namespace);
            let query = form_urlencoded::byte_serialize(query.as_bytes()).collect::<String>();
            let url = format!("{}/api/v1/query?query={query}", self.environment.prometheus);
            while !reqwest::get(&url).await.unwrap().text().await.unwrap().contains(hash) {
                self.assert(Instant::now() < deadline, "Prometheus has no rate of requests");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// An analysis template `success-rate` on this story's counters.
    pub async fn success_rate(&self, metric: Value) {
        let selector = format!("story=\"{}\",revision=\"{{{{args.revision}}}}\"", self.namespace);
        let query = format!(
            "sum(rate(e2e_requests_total{{{selector},code=\"200\"}}[3s])) / sum(rate(e2e_requests_total{{{selector}}}[3s]))"
        );
        let mut full = json!({"name": "success-rate", "interval": "500ms", "count": 3, "successCondition": "result[0] >= 0.95", "prometheus": {"query": query}});
        merge(&mut full, &metric);
        self.apply(&json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "success-rate"},
            "spec": {"args": [{"name": "revision"}], "metrics": [full]},
        }))
        .await;
    }

    /// An analysis of the template `success-rate` for the canary.
    pub fn analysis() -> Value {
        json!({"templates": [{"templateName": "success-rate"}], "args": [{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}]})
    }

    /// Waits until the Rollout is as wanted.
    pub async fn wait(&self, what: &str, seconds: u64, is_so: impl Fn(&Rollout) -> bool) -> Rollout {
        self.until(what, seconds, || self.monitor.rollout(NAME).filter(|rollout| is_so(rollout))).await
    }

    /// Waits until something is there.
    pub async fn until<T>(&self, what: &str, seconds: u64, look: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() > deadline {
                self.fail(&format!("{what} did not come within {seconds} s"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the canary has this weight.
    pub async fn reaches(&self, weight: i32) {
        let is_there = || (self.monitor.weights(NAME).last() == Some(&weight)).then_some(());
        self.until(&format!("weight {weight}"), 60, is_there).await;
    }

    /// Fails with what was seen.
    pub fn fail(&self, what: &str) -> ! {
        let seen = self.monitor.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        println!(
            "--- {}: {what}\n{}\n--- controller\n{}",
            self.namespace,
            seen.timeline.join("\n"),
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
        drop(seen);
        panic!("{what}");
    }

    /// Fails unless it is so.
    pub fn assert(&self, is_so: bool, what: &str) {
        if !is_so {
            self.fail(what);
        }
    }

    /// Creates a `RolloutAction`.
    pub async fn act(&self, action: &str, revision: &str, step: Option<i32>) -> String {
        let api: Api<RolloutAction> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut body = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"generateName": format!("{action}-").to_lowercase()},
            "spec": {"rollout": NAME, "revision": revision, "action": action, "by": "alice", "reason": "because"},
        });
        if let Some(step) = step {
            body["spec"]["step"] = json!(step);
        }
        let mut object: RolloutAction = serde_json::from_value(body.clone()).unwrap();
        object.status = None;
        let url = <RolloutAction as kube::Resource>::url_path(&(), Some(&self.namespace));
        let request =
            kube::core::Request::new(url).create(&PostParams::default(), serde_json::to_vec(&body).unwrap()).unwrap();
        let created: RolloutAction = self.client.request(request).await.expect("an action");
        drop(api);
        created.metadata.name.unwrap()
    }

    /// The answer to an action.
    pub async fn answer(&self, name: &str) -> (bool, String) {
        let api: Api<RolloutAction> = Api::namespaced(self.client.clone(), &self.namespace);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let action = api.get(name).await.expect("the action");
            if let Some(status) = action.status.filter(|status| status.accepted.is_some()) {
                return (status.accepted.unwrap(), status.message.unwrap_or_default());
            }
            if Instant::now() > deadline {
                self.fail("an action was not answered");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Applies a Rollout and waits until it is Healthy with that revision, however long its pods take.
    pub async fn healthy_within(&self, given: &Given, seconds: u64) {
        self.given(given).await;
        let hash = given.hash();
        self.wait("Healthy", seconds, |rollout| is_healthy(rollout, &hash)).await;
    }

    /// Merges a patch into an object that Git holds, as another writer.
    pub async fn edit_virtual_service(&self, name: &str, patch: Value) {
        let api: Api<VirtualService> = Api::namespaced(self.client.clone(), &self.namespace);
        api.patch(
            name,
            &PatchParams { field_manager: Some("argocd-controller".into()), ..PatchParams::default() },
            &Patch::Merge(&patch),
        )
        .await
        .expect("a patch");
    }

    /// A whole object, as JSON.
    pub async fn object(&self, path: &str) -> Option<Value> {
        let url = format!("{}/{}", path.replace("{ns}", &self.namespace), "");
        let request = http::Request::get(url.trim_end_matches('/')).body(Vec::new()).unwrap();
        self.client.request(request).await.ok()
    }

    /// Deletes one object.
    pub async fn delete(&self, path: &str) {
        let request = http::Request::delete(path.replace("{ns}", &self.namespace)).body(Vec::new()).unwrap();
        let deleted: Result<Value, kube::Error> = self.client.request(request).await;
        self.assert(deleted.is_ok(), &format!("deleted: {deleted:?}"));
    }

    /// Reasons of the events about the Rollout.
    pub async fn events(&self) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = api.list(&ListParams::default()).await.expect("events");
        let ours = listed
            .items
            .into_iter()
            .filter(|event| event.regarding.as_ref().is_some_and(|about| about.kind.as_deref() == Some("Rollout")));
        ours.filter_map(|event| event.reason).collect()
    }

    /// The status code of one of the controller's own paths.
    pub async fn probe(&self, path: &str) -> u16 {
        reqwest::get(format!("http://{}{path}", self.address)).await.unwrap().status().as_u16()
    }

    /// Requests that the controller has sent, besides watches and leases.
    pub async fn requests(&self) -> f64 {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with("serin_requests_total{"));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// Pods wanted of a revision.
    pub fn pods_wanted(&self, hash: &str) -> i32 {
        let sets = self.monitor.replica_sets();
        sets.iter().find(|one| revision::hash_of(one) == Some(hash)).map_or(0, |one| one.spec.replicas.unwrap_or(0))
    }

    /// Ends the story: no invariant was broken.
    pub async fn end(mut self) {
        let (violations, has_outage) = {
            let seen = self.monitor.seen.lock().unwrap();
            (seen.violations.clone(), seen.has_outage)
        };
        self.assert(violations.is_empty(), &violations.join("; "));
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        self.assert(!log.contains("breaks an invariant"), "a plan broke an invariant; see the log");
        // A server that has just begun does not know its own roles yet.
        let lacks = log.lines().any(|line| line.contains("forbidden") && !line.contains(self.withheld));
        self.assert(has_outage || !lacks, "the shipped RBAC lacks a permission; see the log");
        self.kill_controller();
        self.environment.exporter.clear(&self.namespace);
        let api: Api<Namespace> = Api::all(self.client.clone());
        let rollouts: Api<Rollout> = Api::namespaced(self.client.clone(), &self.namespace);
        for rollout in rollouts.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = rollouts.patch(rollout.metadata.name.as_deref().unwrap(), &PatchParams::default(), &patch).await;
        }
        let _ = api.delete(&self.namespace, &DeleteParams::background()).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_controller();
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// An address of loopback that nobody listens on.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

/// Whether a Rollout rests on a revision.
pub fn is_healthy(rollout: &Rollout, hash: &str) -> bool {
    let is_current = rollout.metadata.generation == Some(rollout.status.observed_generation);
    is_current
        && rollout.status.phase == Some(Phase::Healthy)
        && rollout.status.stable.as_ref().is_some_and(|stable| stable.hash == hash)
}

/// Whether a Rollout is aborted, for a reason.
pub fn is_aborted(rollout: &Rollout, reason: &str) -> bool {
    rollout.status.phase == Some(Phase::Degraded)
        && rollout.status.aborted.as_ref().is_some_and(|aborted| aborted.reason == reason)
}
