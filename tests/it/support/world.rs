//! A world for plans alone: it does what actions say, makes pods ready, answers queries, and checks every plan.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin::api::config::ConfigKind;
use serin::api::job::Job;
use serin::api::json::Json;
use serin::api::status::RolloutStatus;
use serin::api::watched::{Pod, ReplicaSet, Rollout, RolloutAction, Service, VirtualService};
use serin::plan::action::Action;
use serin::plan::measurement::{Ask, CounterQuery, Measurement, Sample};
use serin::plan::observed::{Config, Observed, Settings, Template, Workload};
use serin::plan::{Plan, checked, objects, plan, revision};
use serin::sim::counters::Parts;
use serin::sim::story::Answer;

/// Passes after which nothing may be left to do at one moment.
const PASSES_MOST: usize = 40;

/// How long a pod takes to become ready.
const READY_AFTER: SignedDuration = SignedDuration::from_secs(3);

/// When every world begins, in seconds.
pub const BEGAN: i64 = 1_000_000;

/// How Prometheus answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answers {
    Good,
    Bad,
    Value(f64),
    Empty,
    Down,
}

/// The world.
pub struct World {
    pub observed: Observed,
    pub now: Timestamp,
    pub answers: Answers,
    /// Requests a second of both revisions.
    pub requests: f64,
    /// Unready pods by image.
    pub unready: BTreeMap<String, i32>,
    /// Measurements whose Job was created.
    pub created_jobs: Vec<String>,
    /// Writes of the current story, for transcripts.
    pub log: Vec<String>,
    /// Each write of the status, where they are kept: the Rollout after it, the status before it, and when.
    pub passages: Option<Vec<(Rollout, RolloutStatus, Timestamp)>>,
    /// What was asked and is not recorded.
    measured: Vec<Measurement>,
    ready_at: BTreeMap<String, Vec<Timestamp>>,
    /// What the templates of ReplicaSets say for a role, and what each pod carries, by name.
    templates: BTreeMap<String, Value>,
    carried: BTreeMap<String, Vec<Value>>,
    version: u64,
    /// When the last plan wanted to look again.
    wake: Option<Timestamp>,
    /// Whether the last plan wanted to see the pods.
    watches_pods: bool,
}

pub fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

/// The hash of an image's template.
pub fn hash(image: &str) -> String {
    revision::hash(&template(image))
}

/// A spec with a gate and a background analysis, routed as given.
pub fn spec(image: &str, replicas: i32, istio: &Value) -> Value {
    let gate = json!({"templates": [{"templateName": "success-rate"}]});
    json!({
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "checkout"}},
        "template": template(image),
        "progressDeadlineSeconds": 60,
        "strategy": {"canary": {
            "trafficRouting": {"istio": istio},
            "steps": [{"setWeight": 20}, {"analysis": gate}, {"setWeight": 50}, {"pause": {"duration": "10s"}}, {"setWeight": 80}],
            "analysis": {"templates": [{"templateName": "background"}], "startingStep": 2},
        }},
    })
}

pub fn owned() -> Value {
    json!({"owned": {"host": "checkout", "hosts": ["checkout"]}})
}

pub fn in_place() -> Value {
    json!({
        "virtualService": {"name": "checkout", "routes": ["primary"]},
        "destinationRule": {"name": "checkout", "stableSubsetName": "stable", "canarySubsetName": "canary"},
    })
}

/// Weights between two Services.
pub fn hosts() -> Value {
    json!({"virtualService": {"name": "checkout", "routes": ["primary"]}})
}

/// A spec with a gate and a background analysis, by an HTTPRoute.
pub fn of_gateway(image: &str, replicas: i32) -> Value {
    let mut spec = spec(image, replicas, &json!({}));
    let canary = &mut spec["strategy"]["canary"];
    canary["trafficRouting"] = json!({"gatewayAPI": {"httpRoute": {"name": "checkout"}}});
    canary["stableService"] = json!("checkout-stable");
    canary["canaryService"] = json!("checkout-canary");
    spec
}

/// A Rollout at rest with these steps, without analysis, and more of its canary strategy.
pub fn at_rest(replicas: i32, steps: &Value, canary: &Value) -> World {
    let mut spec = spec("checkout:1", replicas, &owned());
    let own = spec["strategy"]["canary"].as_object_mut().unwrap();
    own.remove("analysis");
    own.insert("steps".into(), steps.clone());
    for (key, value) in canary.as_object().unwrap() {
        own.insert(key.clone(), value.clone());
    }
    let mut world = World::new(&spec);
    world.settle();
    world.pass_time(20);
    world
}

/// Git brings an image.
pub fn commit(world: &mut World, image: &str) {
    world.edit(|spec| spec["template"] = template(image));
    world.settle();
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl World {
    /// A new Rollout with its Service, its templates and, in place, its routes.
    pub fn new(spec: &Value) -> Self {
        let rollout: Rollout = from(json!({
            "metadata": {"name": "checkout", "namespace": "shop", "uid": "rollout", "generation": 1, "resourceVersion": "1"},
            "spec": spec,
        }));
        let service: Service = from(
            json!({"metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"selector": {"app": "checkout"}}}),
        );
        let metric = |count: Value| {
            Json::from(&json!({"metrics": [{
                "name": "success-rate", "interval": "5s", "count": count, "failureLimit": 1, "successCondition": "result[0] >= 0.95",
                "prometheus": {"query": "rate"},
            }]}))
        };
        let template = |name: &str, spec: Json| Template { name: name.into(), cluster: false, spec };
        let mut background = metric(json!(null)).value();
        background["metrics"][0].as_object_mut().unwrap().remove("count");
        background["metrics"][0]["name"] = json!("background");
        // Held against a baseline, without a word in the verdict.
        let beside = json!({
            "metrics": [{"name": "beside", "count": 1, "compare": {"preset": "istio-5xx", "against": "baseline"}}],
            "dryRun": [{"metricName": "beside"}],
        });
        let observed = Observed {
            rollout,
            services: vec![service],
            templates: vec![
                template("success-rate", metric(json!(3))),
                template("background", Json::from(&background)),
                template("beside", Json::from(&beside)),
            ],
            providers: BTreeMap::from([("default".to_owned(), None)]),
            settings: Settings { route_wait_ms: 2_000, drain_ms: 3_000, ..Settings::default() },
            ..Observed::default()
        };
        let mut world = Self {
            observed,
            now: Timestamp::from_second(BEGAN).unwrap(),
            answers: Answers::Good,
            requests: serin::sim::counters::REQUESTS,
            unready: BTreeMap::new(),
            created_jobs: Vec::new(),
            log: Vec::new(),
            passages: None,
            measured: Vec::new(),
            ready_at: BTreeMap::new(),
            templates: BTreeMap::new(),
            carried: BTreeMap::new(),
            version: 10,
            wake: None,
            watches_pods: false,
        };
        if spec.pointer("/strategy/canary/trafficRouting/istio/virtualService").is_some() {
            world.create_routes();
        }
        if spec.pointer("/strategy/canary/stableService").is_some() {
            world.create_hosts();
        }
        if spec.pointer("/strategy/canary/trafficRouting/gatewayAPI").is_some() {
            world.create_http_route();
        }
        world
    }

    /// The routes that Git holds: a foreign destination has a tenth.
    pub fn create_routes(&mut self) {
        let version = self.next_version();
        self.observed.virtual_services = vec![from(json!({
            "metadata": {"name": "checkout", "namespace": "shop", "resourceVersion": version},
            "spec": {"hosts": ["checkout"], "http": [{"name": "primary", "route": [
                {"destination": {"host": "checkout", "subset": "stable"}, "weight": 90},
                {"destination": {"host": "checkout", "subset": "canary"}, "weight": 0},
                {"destination": {"host": "legacy"}, "weight": 10},
            ]}]},
        }))];
        self.observed.destination_rules = vec![from(json!({
            "metadata": {"name": "checkout", "namespace": "shop", "resourceVersion": version},
            "spec": {"host": "checkout", "subsets": [{"name": "stable"}, {"name": "canary", "labels": {"app": "checkout"}}]},
        }))];
    }

    /// A root of another namespace that delegates to the VirtualService that Serin owns.
    pub fn create_root(&mut self) {
        let version = self.next_version();
        self.observed.virtual_services.push(from(json!({
            "metadata": {"name": "root", "namespace": "edge", "resourceVersion": version},
            "spec": {"hosts": ["shop.example"], "gateways": ["edge"], "http": [{"delegate": {"name": "checkout-serin", "namespace": "shop"}}]},
        })));
    }

    /// The ports of the Service that the route leads to.
    pub fn set_ports(&mut self, ports: &Value) {
        self.observed.services[0].spec.ports = from(ports.clone());
    }

    /// Routes between two Services, of which Git holds one.
    pub fn create_hosts(&mut self) {
        let version = self.next_version();
        self.observed.destination_rules.clear();
        self.observed.virtual_services = vec![from(json!({
            "metadata": {"name": "checkout", "namespace": "shop", "resourceVersion": version},
            "spec": {"hosts": ["checkout"], "http": [{"name": "primary", "route": [
                {"destination": {"host": "checkout-stable"}, "weight": 100},
                {"destination": {"host": "checkout-canary"}, "weight": 0},
            ]}]},
        }))];
        self.observed.services = vec![from(json!({
            "metadata": {"name": "checkout-stable", "namespace": "shop", "resourceVersion": version},
            "spec": {"selector": {"app": "checkout"}, "ports": [{"name": "http", "port": 80}]},
        }))];
    }

    /// The same in an HTTPRoute, which has a rule for stable alone besides.
    pub fn create_http_route(&mut self) {
        let version = self.next_version();
        self.observed.virtual_services.clear();
        self.observed.http_routes = vec![from(json!({
            "metadata": {"name": "checkout", "namespace": "shop", "resourceVersion": version, "generation": 1},
            "spec": {"rules": [
                {"name": "primary", "backendRefs": [
                    {"name": "checkout-stable", "port": 80, "weight": 100}, {"name": "checkout-canary", "port": 80, "weight": 0}]},
                {"backendRefs": [{"name": "checkout-stable", "port": 80}]},
            ]},
        }))];
    }

    /// Another manager writes the weights of the HTTPRoute's first rule.
    pub fn write_rule_weights(&mut self, weights: [i32; 2]) {
        let add = |at: usize| json!({"op": "add", "path": format!("/spec/rules/0/backendRefs/{at}/weight"), "value": weights[at]});
        self.patch_http_route(&[add(0), add(1)], "argocd-controller");
    }

    /// The HTTPRoute as it is after a JSON patch of this manager.
    fn patch_http_route(&mut self, operations: &[Value], manager: &str) {
        let mut body = serde_json::to_value(&self.observed.http_routes[0]).unwrap();
        json_patch::patch(&mut body, &from::<json_patch::Patch>(json!(operations))).unwrap();
        body["metadata"]["resourceVersion"] = json!(self.next_version());
        body["metadata"]["generation"] = json!(body["metadata"]["generation"].as_i64().unwrap() + 1);
        body["metadata"]["managedFields"] = json!([{"manager": manager, "fieldsV1": {"f:spec": {"f:rules": {}}}}]);
        self.observed.http_routes[0] = from(body);
    }

    /// A controller says something of the HTTPRoute as it was so many generations ago.
    pub fn answer_http_route(&mut self, kind: &str, status: &str, generations_ago: i64) {
        let generation = self.observed.http_routes[0].metadata.generation.unwrap() - generations_ago;
        self.observed.http_routes[0].status = from(json!({"parents": [{
            "parentRef": {"kind": "Service", "name": "checkout"}, "controllerName": "istio.io/gateway-controller",
            "conditions": [{"type": kind, "status": status, "reason": "NotAllowed", "message": "no listener allows it", "observedGeneration": generation}],
        }]}));
        self.wake = Some(self.now);
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// Edits the spec as Git does.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        self.wake = Some(self.now);
        let mut spec = self.observed.rollout.spec.value();
        edit(&mut spec);
        self.observed.rollout.spec = Json::from(&spec);
        let version = self.next_version();
        let metadata = &mut self.observed.rollout.metadata;
        metadata.generation = metadata.generation.map(|generation| generation + 1);
        metadata.resource_version = Some(version);
    }

    /// Patches the Deployment that the Rollout names; null takes it away.
    pub fn patch_deployment(&mut self, patch: &Value) {
        self.wake = Some(self.now);
        if patch.is_null() {
            self.observed.workload = Workload::Missing;
            return;
        }
        let known = self.observed.workload.found().map(|known| serde_json::to_value(known).unwrap());
        let mut body = known.unwrap_or_else(|| {
            json!({
                "metadata": {"name": "checkout", "namespace": "shop", "uid": "deployment", "generation": 1},
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "checkout"}}},
            })
        });
        json_patch::merge(&mut body, patch);
        body["metadata"]["resourceVersion"] = json!(self.next_version());
        self.observed.workload = Workload::Found(Box::new(from(body)));
    }

    /// Asks for something by RolloutAction, at the revision and step that are current.
    pub fn act(&mut self, action: &str) {
        let status = &self.observed.rollout.status;
        let revision =
            status.canary.as_ref().or(status.stable.as_ref()).map_or("none", |one| one.hash.as_str()).to_owned();
        self.act_on(action, &revision);
    }

    /// Asks for something by RolloutAction, at a revision.
    pub fn act_on(&mut self, action: &str, revision: &str) {
        self.ask(action, revision, Some("alice"));
    }

    /// Asks for something by RolloutAction, as somebody.
    pub fn ask(&mut self, action: &str, revision: &str, by: Option<&str>) {
        self.wake = Some(self.now);
        let status = &self.observed.rollout.status;
        let step = status.current_step_index.unwrap_or(0);
        let version = self.next_version();
        let object: RolloutAction = from(json!({
            "metadata": {"name": format!("action-{version}"), "namespace": "shop", "uid": version, "resourceVersion": version, "creationTimestamp": self.now},
            "spec": {"rollout": "checkout", "revision": revision, "action": action, "step": step, "by": by, "reason": "because"},
        }));
        self.observed.actions.push(object);
    }

    /// Another manager writes the canary's weight into the first route in place.
    pub fn write_weight(&mut self, weight: i32) {
        let version = self.next_version();
        let mut body = serde_json::to_value(&self.observed.virtual_services[0]).unwrap();
        let route = &mut body["spec"]["http"][0]["route"];
        let whole = route[0]["weight"].as_i64().unwrap() + route[1]["weight"].as_i64().unwrap();
        route[1]["weight"] = json!(weight);
        route[0]["weight"] = json!(whole - i64::from(weight));
        body["metadata"]["resourceVersion"] = json!(version);
        body["metadata"]["managedFields"] =
            json!([{"manager": "argocd-controller", "fieldsV1": {"f:spec": {"f:http": {}}}}]);
        self.observed.virtual_services[0] = from(body);
    }

    /// Another manager writes the only route in place as Git has it.
    pub fn revert_routes(&mut self) {
        let version = self.next_version();
        let mut body = serde_json::to_value(&self.observed.virtual_services[0]).unwrap();
        let routes = body["spec"]["http"].as_array_mut().unwrap();
        routes.retain(|route| route["name"] == "primary");
        body["metadata"]["resourceVersion"] = json!(version);
        body["metadata"]["managedFields"] =
            json!([{"manager": "argocd-controller", "fieldsV1": {"f:spec": {"f:http": {}}}}]);
        self.observed.virtual_services[0] = from(body);
    }

    /// Another manager writes the Services, or the DestinationRule, as Git has them: without Serin's label.
    pub fn take_labels_back(&mut self, manager: &str) {
        let version = self.next_version();
        for service in &mut self.observed.services {
            service.spec.selector.remove("serin.dev/revision-hash");
            let body = written_by(serde_json::to_value(&*service).unwrap(), manager, &["f:selector"]);
            *service = from(body);
            service.metadata.resource_version = Some(version.clone());
        }
        for rule in &mut self.observed.destination_rules {
            rule.spec.subsets.iter_mut().for_each(|subset| subset.labels.clear());
            *rule = from(written_by(serde_json::to_value(&*rule).unwrap(), manager, &["f:subsets"]));
            rule.metadata.resource_version = Some(version.clone());
        }
        self.wake = Some(self.now);
    }

    /// ConfigMaps, or Secrets, that there are.
    fn configs(&mut self, kind: ConfigKind) -> &mut Vec<Config> {
        let configs = &mut self.observed.configs;
        let listed = match kind {
            ConfigKind::ConfigMap => &mut configs.config_maps,
            ConfigKind::Secret => &mut configs.secrets,
        };
        listed.get_or_insert_default()
    }

    /// A ConfigMap or a Secret is gone.
    pub fn remove_config(&mut self, kind: ConfigKind, name: &str) {
        self.configs(kind).retain(|one| one.name != name);
        self.wake = Some(self.now);
    }

    /// A ConfigMap or a Secret has this content now.
    pub fn set_config(&mut self, kind: ConfigKind, name: &str, digest: &str, is_copy: bool) {
        let uid = format!("uid-of-{name}");
        let config =
            Config { kind, name: name.into(), uid, digest: digest.into(), changed_at: Some(self.now), is_copy };
        let configs = self.configs(kind);
        configs.retain(|one| one.name != name);
        configs.push(config);
        self.wake = Some(self.now);
    }

    /// Lets time pass, a second at a time, and plans whenever something is due.
    pub fn pass_time(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.tick();
            self.settle();
        }
    }

    /// Lets a second pass.
    pub fn tick(&mut self) {
        self.now = self.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        let before = self.observed.clone();
        self.play_pods();
        // Law 8: what only time changes, the last plan has named a time for.
        if self.observed == before && self.wake.is_none_or(|wake| wake > self.now) {
            let plan = self.plan();
            assert!(
                plan.is_idle(&self.observed.rollout.status),
                "there is something to do at {}, and nobody looks before {:?}: {:?} {}",
                self.now,
                self.wake,
                plan.actions,
                plan.status.message
            );
        }
    }

    /// Plans and carries out until nothing is left to do at this moment; a plan that never ends breaks law 5.
    pub fn settle(&mut self) {
        for _ in 0..PASSES_MOST {
            self.play_pods();
            let plan = self.plan();
            if plan.is_idle(&self.observed.rollout.status) && plan.watches_pods == self.watches_pods {
                self.wake = plan.wake.map(|wake| wake.at);
                return;
            }
            self.carry_out(&plan);
        }
        panic!("no fixpoint after {PASSES_MOST} passes: {}", self.observed.rollout.status.message);
    }

    /// Carries one plan out.
    pub fn step(&mut self) {
        self.play_pods();
        let plan = self.plan();
        self.carry_out(&plan);
        self.play_pods();
    }

    /// One plan, checked.
    pub fn plan(&self) -> Plan {
        let (decided, violations) = checked(&self.observed, &self.measured, self.now);
        assert_eq!(decided, plan(&self.observed, &self.measured, self.now), "the same input gives the same plan");
        // Law 4: metadata delays nothing.
        let is_edit = |action: &Action| {
            matches!(action, Action::EditPodTemplate { .. } | Action::EditPod { .. } | Action::EndPodEdits { .. })
        };
        assert!(decided.actions.is_sorted_by_key(is_edit), "metadata comes last: {:?}", decided.actions);
        assert!(
            violations.is_empty(),
            "{}\n{:#?}\n{}",
            violations[0],
            decided.actions,
            serde_yaml::to_string(&self.observed).unwrap()
        );
        decided
    }

    /// One pass that crashes after so many writes: its plans are made of the answers to the writes before, and its status
    /// is lost unless it was written.
    pub fn crash_after(&mut self, writes: usize) {
        let mut left = writes;
        let mut stored = self.observed.rollout.status.clone();
        // Of the rounds of a pass, only what is written lasts.
        let passages = self.passages.take();
        let mut written = vec![stored.clone()];
        'pass: for _ in 0..PASSES_MOST {
            self.play_pods();
            let plan = self.plan();
            if plan.is_status_first && plan.status != stored {
                let Some(less) = left.checked_sub(1) else { break };
                left = less;
                self.write_status(&plan);
                stored = self.observed.rollout.status.clone();
                written.push(stored.clone());
            }
            for action in &plan.actions {
                let Some(less) = left.checked_sub(1) else { break 'pass };
                left = less;
                self.log.push(action.to_string());
                self.act_out(action);
            }
            self.write_status(&plan);
            if plan.actions.is_empty() {
                if left > 0 {
                    stored = self.observed.rollout.status.clone();
                    written.push(stored.clone());
                }
                break;
            }
        }
        self.passages = passages;
        for pair in written.windows(2) {
            self.observed.rollout.status = pair[1].clone();
            self.passed(pair[0].clone());
        }
        self.observed.rollout.status = stored;
        self.measured.clear();
    }

    fn carry_out(&mut self, plan: &Plan) {
        self.watches_pods = plan.watches_pods;
        let told = |is_warning| if is_warning { "warning" } else { "note" };
        self.log.extend(
            plan.notes.iter().map(|note| format!("{} {}: {}", told(note.is_warning), note.reason, note.message)),
        );
        if plan.is_status_first {
            self.log.extend((!plan.actions.is_empty()).then(|| "record this first".to_owned()));
            self.write_status(plan);
        }
        for action in &plan.actions {
            self.log.push(action.to_string());
            self.act_out(action);
        }
        if !plan.is_status_first {
            self.write_status(plan);
        }
        for query in &plan.queries {
            if self.measured.iter().any(|known| known.id == query.id) {
                continue;
            }
            let (outcome, asked) = match &query.ask {
                Ask::Value(text) => (self.value(), text.clone()),
                Ask::Web(asked) => (Err("no server".to_owned()), asked.path.clone()),
                Ask::Counters(asked) => {
                    let first = asked.texts.first().cloned().unwrap_or_default();
                    let from = asked.from.as_second() - BEGAN;
                    (
                        self.counters(&query.id, asked),
                        format!("{} × {:#} from {from} s: {first}, …", asked.steps, asked.step),
                    )
                }
            };
            self.log.push(format!("asks {}: {asked}", query.provider));
            self.measured.push(Measurement {
                id: query.id.clone(),
                started_at: self.now,
                finished_at: self.now,
                outcome,
            });
        }
    }

    fn value(&self) -> Result<Sample, String> {
        match self.answers {
            Answers::Good => Ok(Sample::Vector(vec![0.99])),
            Answers::Bad => Ok(Sample::Vector(vec![0.5])),
            Answers::Value(value) => Ok(Sample::Vector(vec![value])),
            Answers::Empty => Ok(Sample::Vector(vec![])),
            Answers::Down => Err("connection refused".to_owned()),
        }
    }

    fn counters(&self, id: &str, asked: &CounterQuery) -> Result<Sample, String> {
        let answer = match self.answers {
            Answers::Good => Answer::Good,
            Answers::Bad => Answer::Bad,
            Answers::Value(value) => Answer::Value(value),
            Answers::Empty => Answer::Nothing,
            Answers::Down => return Err("connection refused".to_owned()),
        };
        let share = self.observed.rollout.status.canary.as_ref().map_or(0, |canary| canary.observed_weight);
        let ready = |set: &ReplicaSet| f64::from(set.status.ready_replicas);
        let own: f64 = self.observed.baselines.iter().map(ready).sum();
        let stable = self.observed.rollout.status.stable.as_ref().map_or("", |stable| stable.hash.as_str());
        let sets = self.observed.replica_sets.iter().filter(|set| revision::hash_of(set) == Some(stable));
        let all = own + sets.map(ready).sum::<f64>();
        let parts = Parts {
            canary: id.split('/').next().unwrap_or_default(),
            share: f64::from(share) / 100.0,
            baseline: own / all.max(1.0),
        };
        Ok(Sample::Counters(serin::sim::counters::answer(asked, parts, self.requests, answer)))
    }

    fn write_status(&mut self, plan: &Plan) {
        let before = self.observed.rollout.status.clone();
        if plan.status != self.observed.rollout.status {
            self.observed.rollout.metadata.resource_version = Some(self.next_version());
        }
        // What the API server keeps is what JSON keeps.
        self.observed.rollout.status = from(serde_json::to_value(&plan.status).unwrap());
        self.passed(before);
    }

    /// The status was written over the one before.
    fn passed(&mut self, before: RolloutStatus) {
        if let Some(passages) = self.passages.as_mut().filter(|_| before != self.observed.rollout.status) {
            passages.push((self.observed.rollout.clone(), before, self.now));
        }
    }

    fn act_out(&mut self, action: &Action) {
        let version = self.next_version();
        let patched = |mut object: Value, patch: Value| {
            let patch: json_patch::Patch = from(patch);
            json_patch::patch(&mut object, &patch).unwrap();
            object["metadata"]["resourceVersion"] = json!(version);
            object
        };
        match action {
            Action::SetReplicas { replicas } => self.edit(|spec| spec["replicas"] = json!(replicas)),
            Action::AddFinalizer => self.observed.rollout.metadata.finalizers = Some(vec!["serin.dev/route".into()]),
            Action::RemoveFinalizer => self.observed.rollout.metadata.finalizers = None,
            Action::CreateReplicaSet { .. } => self.create_set(action, &version),
            Action::CreateBaseline { source, .. } => self.create_baseline(source, action, &version),
            Action::ScaleReplicaSet { name, replicas, revision, .. } => {
                self.scale_set(name, version, (*replicas, *revision));
            }
            Action::DeleteReplicaSet { name, .. } => {
                self.observed.replica_sets.retain(|one| one.metadata.name.as_ref() != Some(name));
                self.observed.baselines.retain(|one| one.metadata.name.as_ref() != Some(name));
                self.ready_at.remove(name);
                self.carried.remove(name);
            }
            Action::CopyConfig { kind, name, digest, .. } => self.set_config(*kind, name, digest, true),
            Action::DeleteCopy { kind, name, .. } => self.configs(*kind).retain(|one| one.name != *name),
            Action::CreateJob { name, body } => self.create_job(name, body.value(), &version),
            Action::DeleteJob { name, uid } => self.delete_job(name, uid),
            Action::WriteVirtualService { name, split, front, .. } => {
                let body =
                    written_by_serin(objects::virtual_service(&self.observed, name, Some(&version), (*split, front)));
                self.observed.virtual_services.retain(|one| one.metadata.name.as_ref() != Some(name));
                self.observed.virtual_services.push(from(body));
            }
            Action::WriteDestinationRule { name, .. } => {
                let mut body = objects::destination_rule(&self.observed, action);
                body["metadata"]["resourceVersion"] = json!(version);
                self.observed.destination_rules.retain(|one| one.metadata.name.as_ref() != Some(name));
                self.observed.destination_rules.push(from(body));
            }
            Action::EditVirtualService { version: known, edits, front, .. } => {
                let own = self.routes();
                let body = serde_json::to_value(&*own).unwrap();
                *own = from(written_by_serin(patched(body, objects::weight_patch(known, edits, front.as_ref()))));
            }
            Action::EditHttpRoute { version: known, edits, .. } => {
                let patch = objects::rule_patch(known, edits);
                self.patch_http_route(patch.as_array().unwrap(), "serin");
            }
            Action::EditDestinationRule { version: known, edits, .. } => {
                let body = serde_json::to_value(&self.observed.destination_rules[0]).unwrap();
                let next = written_by(patched(body, objects::subset_patch(known, edits)), "serin", &["f:subsets"]);
                self.observed.destination_rules[0] = from(next);
            }
            Action::CreateService { .. }
            | Action::EditService { .. }
            | Action::EvictPod { .. }
            | Action::ScaleWorkload { .. } => self.act_on_pods_and_services(action, &version),
            Action::EditPod { name, version: known, edit } => {
                let (set, index) = name.rsplit_once('.').unwrap();
                let carried = &mut self.carried.get_mut(set).unwrap()[index.parse::<usize>().unwrap()];
                json_patch::merge(carried, &objects::pod_patch(known, edit)["metadata"]);
            }
            Action::EditPodTemplate { name, version: known, edit } => {
                self.edit_set(name, objects::pod_template_patch(known, edit), &version);
            }
            Action::EndPodEdits { name, version: known } => {
                self.edit_set(name, objects::end_of_pod_edits(known), &version);
            }
            Action::Answer { .. } | Action::OwnAction { .. } | Action::DeleteAction { .. } => self.answer(action),
        }
    }

    fn delete_job(&mut self, name: &str, uid: &String) {
        let listed = self.observed.jobs.listed.as_mut().unwrap();
        assert!(listed.iter().any(|one| one.metadata.uid.as_ref() == Some(uid)), "{name} is gone already");
        listed.retain(|one| one.metadata.uid.as_ref() != Some(uid));
    }

    fn create_job(&mut self, name: &str, mut body: Value, version: &str) {
        let id = body["metadata"]["annotations"]["serin.dev/measurement"].as_str().unwrap().to_owned();
        assert!(!self.created_jobs.contains(&id), "the Job of {id} is created twice");
        self.created_jobs.push(id);
        body["metadata"]["uid"] = json!(format!("{name}-{version}"));
        body["metadata"]["resourceVersion"] = json!(version);
        body["metadata"]["creationTimestamp"] = json!(self.now);
        self.observed.jobs.listed.as_mut().unwrap().push(from(body));
    }

    /// The Jobs that run.
    pub fn running_jobs(&mut self) -> Vec<&mut Job> {
        self.observed.jobs.listed.iter_mut().flatten().filter(|job| job.end().is_none()).collect()
    }

    /// Every Job that runs ends, by the words of a condition.
    pub fn end_jobs(&mut self, kind: &str, reason: &str, message: &str) {
        let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message});
        for job in self.running_jobs() {
            job.status.conditions.push(from(condition.clone()));
        }
    }

    fn answer(&mut self, action: &Action) {
        let owner = objects::owner(&self.observed.rollout, false);
        let actions = &mut self.observed.actions;
        if let Action::Answer { uid, accepted, message, at, .. } = action {
            let own = actions.iter_mut().find(|one| one.metadata.uid.as_ref() == Some(uid)).unwrap();
            own.status = from(json!({"accepted": accepted, "message": message, "at": at}));
        }
        if let Action::OwnAction { name, .. } = action {
            let own = actions.iter_mut().find(|one| one.metadata.name.as_ref() == Some(name)).unwrap();
            own.metadata.owner_references = Some(vec![from(owner)]);
        }
        if let Action::DeleteAction { uid, .. } = action {
            actions.retain(|one| one.metadata.uid.as_ref() != Some(uid));
        }
    }

    fn scale_set(&mut self, name: &str, version: String, (replicas, revision): (i32, Option<i64>)) {
        let replica_set = self.replica_set(name);
        replica_set.spec.replicas = Some(replicas);
        replica_set.metadata.resource_version = Some(version);
        if let Some(revision) = revision {
            let annotations = replica_set.metadata.annotations.get_or_insert_default();
            annotations.insert("serin.dev/revision".into(), revision.to_string());
        }
    }

    fn act_on_pods_and_services(&mut self, action: &Action, version: &str) {
        if let Action::CreateService { name, ports } = action {
            let mut body = objects::service(&self.observed, name, ports);
            body["metadata"]["resourceVersion"] = json!(version);
            self.observed.services.push(from(body));
        }
        if let Action::EditService { name, hash, .. } = action {
            let known = self.observed.services.iter_mut().find(|one| one.metadata.name.as_ref() == Some(name)).unwrap();
            let mut body = serde_json::to_value(&*known).unwrap();
            json_patch::merge(&mut body, &objects::selector_patch(version, hash.as_deref()));
            *known = from(written_by(body, "serin", &["f:selector"]));
        }
        if let Action::ScaleWorkload { replicas, .. } = action {
            let Workload::Found(deployment) = &mut self.observed.workload else { panic!("there is no Deployment") };
            assert_eq!(deployment.spec.replicas, Some(*replicas));
            deployment.spec.replicas = Some(0);
            deployment.status.replicas = 0;
            deployment.metadata.generation = deployment.metadata.generation.map(|generation| generation + 1);
            deployment.metadata.resource_version = Some(version.to_owned());
        }
        if let Action::EvictPod { name, .. } = action {
            let (set, index) = name.rsplit_once('.').unwrap();
            let ready_at = self.ready_at.get_mut(set).unwrap();
            let index: usize = index.parse().unwrap();
            ready_at[index] = self.now.checked_add(READY_AFTER).unwrap();
            self.carried.get_mut(set).unwrap()[index] = self.templates.get(set).cloned().unwrap_or_default();
        }
    }

    fn create_set(&mut self, action: &Action, version: &str) {
        let Action::CreateReplicaSet { hash, replicas, revision, metadata, name } = action else { return };
        let mut body = objects::replica_set(&self.observed, hash, (*replicas, *revision), metadata);
        self.templates.insert(name.clone(), body["spec"]["template"]["metadata"].clone());
        body["metadata"]["resourceVersion"] = json!(version);
        body["metadata"]["creationTimestamp"] = json!(self.now);
        self.observed.replica_sets.push(from(body));
    }

    /// From stable's, with the template and the selector that a snapshot has not.
    fn create_baseline(&mut self, source: &str, action: &Action, version: &str) {
        let mut stable = serde_json::to_value(self.replica_set(source)).unwrap();
        stable["spec"]["template"]["metadata"] = self.templates[source].clone();
        let hash = &stable["metadata"]["labels"]["serin.dev/revision-hash"];
        stable["spec"]["selector"] = json!({"matchLabels": {"app": "checkout", "serin.dev/revision-hash": hash}});
        let mut body = objects::baseline(&self.observed, &stable, action);
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        self.templates.insert(name, body["spec"]["template"]["metadata"].clone());
        body["metadata"]["resourceVersion"] = json!(version);
        body["metadata"]["creationTimestamp"] = json!(self.now);
        self.observed.baselines.push(from(body));
    }

    /// A merge patch of a ReplicaSet and of what its pods are born with.
    fn edit_set(&mut self, set: &str, mut patch: Value, version: &str) {
        let known = &patch["metadata"]["resourceVersion"];
        assert_eq!(*known, json!(self.replica_set(set).metadata.resource_version), "a stale write lands");
        if let Some(of_pods) = patch.pointer("/spec/template/metadata") {
            json_patch::merge(self.templates.entry(set.to_owned()).or_default(), of_pods);
        }
        patch["metadata"]["resourceVersion"] = json!(version);
        let set = self.replica_set(set);
        let mut body = serde_json::to_value(&*set).unwrap();
        json_patch::merge(&mut body, &json!({"metadata": patch["metadata"]}));
        *set = from(body);
    }

    /// What the pods of an image carry besides what Serin tells revisions apart by, each as `key=value` by commas.
    pub fn carried(&self, image: &str) -> Vec<String> {
        self.carried_of(&hash(image))
    }

    /// The same of a revision.
    pub fn carried_of(&self, revision: &str) -> Vec<String> {
        let told = |metadata: &Value| {
            let maps = [&metadata["labels"], &metadata["annotations"]].into_iter().filter_map(Value::as_object);
            let pairs = maps.flatten().filter(|(key, _)| !key.contains("serin.dev/") && !key.contains("istio.io/"));
            pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap())).collect::<Vec<_>>().join(",")
        };
        let pods = self.carried.get(&format!("checkout-{revision}")).into_iter().flatten();
        pods.map(told).collect()
    }

    /// The VirtualService that Git holds for the Rollout.
    fn routes(&mut self) -> &mut VirtualService {
        let namespace = &self.observed.rollout.metadata.namespace;
        self.observed.virtual_services.iter_mut().find(|one| one.metadata.namespace == *namespace).unwrap()
    }

    /// The ReplicaSet of this name.
    pub fn replica_set(&mut self, name: &str) -> &mut ReplicaSet {
        let all = self.observed.replica_sets.iter_mut().chain(&mut self.observed.baselines);
        all.into_iter().find(|one| one.metadata.name.as_deref() == Some(name)).unwrap()
    }

    /// Pods wanted of the baseline, and those of it that are ready.
    pub fn baseline(&self) -> (i32, i32) {
        let all = self.observed.baselines.iter();
        all.fold((0, 0), |sum, set| (sum.0 + set.spec.replicas.unwrap_or(1), sum.1 + set.status.ready_replicas))
    }

    /// Pods become ready three seconds after they are wanted, but for those that may not.
    fn play_pods(&mut self) {
        let now = self.now;
        for replica_set in self.observed.replica_sets.iter_mut().chain(&mut self.observed.baselines) {
            let wanted = usize::try_from(replica_set.spec.replicas.unwrap_or(1)).unwrap();
            let name = replica_set.metadata.name.clone().unwrap();
            let born = self.templates.get(&name).cloned().unwrap_or_default();
            self.carried.entry(name.clone()).or_default().resize(wanted, born);
            let ready_at = self.ready_at.entry(name).or_default();
            ready_at.resize(wanted, now.checked_add(READY_AFTER).unwrap());
            let image = replica_set.spec.template.spec.containers[0].image.clone();
            let may_be = i32::try_from(wanted).unwrap() - self.unready.get(&image).copied().unwrap_or(0);
            let ready = i32::try_from(ready_at.iter().filter(|at| **at <= now).count()).unwrap().min(may_be.max(0));
            replica_set.status.replicas = i32::try_from(wanted).unwrap();
            replica_set.status.ready_replicas = ready;
            replica_set.status.available_replicas = ready;
        }
        self.observed.pods = self.watches_pods.then(|| self.pods());
    }

    /// Every pod, with the time of its creation.
    pub fn pods(&self) -> Vec<Pod> {
        let of_set = |set: &ReplicaSet| -> Vec<Pod> {
            let name = set.metadata.name.clone().unwrap();
            let pods = self.ready_at.get(&name).into_iter().flatten().enumerate();
            pods.map(|(index, ready_at)| {
                from(json!({"metadata": {
                    "name": format!("{name}.{index}"), "uid": format!("{name}.{index}.{ready_at}"), "labels": set.metadata.labels,
                    "annotations": self.carried[&name][index]["annotations"],
                    "creationTimestamp": ready_at.checked_sub(READY_AFTER).unwrap(),
                }}))
            })
            .collect()
        };
        self.observed.replica_sets.iter().chain(&self.observed.baselines).flat_map(of_set).collect()
    }

    /// Pods wanted of an image.
    pub fn pods_of(&self, image: &str) -> i32 {
        let own = hash(image);
        let set = self.observed.replica_sets.iter().find(|one| revision::hash_of(one) == Some(&own));
        set.and_then(|set| set.spec.replicas).unwrap_or(0)
    }

    /// The canary's weight, of all traffic that is not foreign.
    pub fn weight(&self) -> i32 {
        self.observed.rollout.status.canary.as_ref().map_or(0, |canary| canary.observed_weight)
    }

    /// Phase as text.
    pub fn phase(&self) -> String {
        self.observed.rollout.status.phase.map(|phase| phase.to_string()).unwrap_or_default()
    }
}

/// A VirtualService whose routes Serin wrote last.
fn written_by_serin(object: Value) -> Value {
    written_by(object, "serin", &["f:http", "f:tls", "f:tcp"])
}

/// An object of whose spec this manager wrote these fields last.
fn written_by(mut object: Value, manager: &str, fields: &[&str]) -> Value {
    let fields: serde_json::Map<String, Value> = fields.iter().map(|field| ((*field).to_owned(), json!({}))).collect();
    object["metadata"]["managedFields"] = json!([{"manager": manager, "fieldsV1": {"f:spec": fields}}]);
    object
}
