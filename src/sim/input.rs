//! Manifests as people have them, such as the output of `kustomize build`, to stories: the previous release is deployed,
//! then the one in the manifests is committed.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::scenario::{Scenario, with_image};
use super::story::{At, Event, Story};
use crate::api::duration::DurationText;
use crate::api::istio::{full_host, service_of};
use crate::api::names;
use crate::api::provider::MetricProviderSpec;
use crate::api::watched::Deployment;
use crate::embedded::kind::plural_of;
use crate::embedded::store::key_of;
use crate::plan::observed::Settings;
use crate::plan::revision;

/// When the release is committed, in milliseconds, once the previous one has been available for so long.
const COMMIT_AT: u64 = 60_000;
/// The longest that a release may take, in milliseconds: thirty days.
const LONGEST: u64 = 30 * 24 * 60 * 60 * 1000;
/// How much longer than its longest step a release may be without progress, in milliseconds.
const PATIENCE: u64 = 60 * 60 * 1000;

/// What manifests hold.
#[derive(Debug, Default)]
pub struct Input {
    /// Rollouts, each with the template of the Deployment that it names.
    pub rollouts: Vec<Value>,
    /// The same as they are written.
    pub written: Vec<Value>,
    /// Deployments, whose own pods play no part.
    pub deployments: Vec<Value>,
    /// Everything else that a simulation reads.
    pub others: Vec<Value>,
    /// ConfigMaps and Secrets, which the revision of a Rollout may cover.
    pub configs: Vec<Value>,
    /// `HorizontalPodAutoscalers`, which say how many pods a Rollout without `spec.replicas` has at least.
    pub autoscalers: Vec<Value>,
    /// What was assumed or left out, in sentences.
    pub notes: Vec<String>,
}

/// Reads YAML documents with at least one Rollout; each text has a name for error messages. Objects without a namespace are
/// in the one given.
pub fn read(texts: &[(String, String)], namespace: &str) -> anyhow::Result<Input> {
    let input = read_any(texts, namespace)?;
    if input.rollouts.is_empty() {
        bail!("no Rollout of serin.dev in the input; give its manifest with -f, or - for standard input");
    }
    Ok(input)
}

/// The same, with or without a Rollout.
pub fn read_any(texts: &[(String, String)], namespace: &str) -> anyhow::Result<Input> {
    let mut input = Input::default();
    let mut ignored = 0;
    for (name, text) in texts {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).with_context(|| format!("read {name}"))?;
        let mut objects: Vec<Value> = Vec::new();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            match document["items"].as_array() {
                Some(items) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                    objects.extend(items.iter().cloned())
                }
                _ => objects.push(document),
            }
        }
        for mut object in objects {
            // Values and settings often stand beside manifests.
            let Some(kind) = object["kind"].as_str().map(str::to_owned) else {
                ignored += 1;
                continue;
            };
            if !object["metadata"].is_object() {
                bail!("read {name}: metadata of this {kind} is no map with a name");
            }
            let group =
                object["apiVersion"].as_str().unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
            if object["metadata"]["namespace"].is_null() && !kind.starts_with("Cluster") && kind != "MetricProvider" {
                object["metadata"]["namespace"] = json!(namespace);
            }
            match (kind.as_str(), plural_of(&kind)) {
                ("Rollout", _) if group == "serin.dev" => input.rollouts.push(object),
                ("Rollout", _) => bail!("{name}: this Rollout is of {group}; Serin's are of serin.dev/v1alpha1"),
                ("HorizontalPodAutoscaler", _) if group == "autoscaling" => input.autoscalers.push(object),
                ("ConfigMap" | "Secret", _) if group == "v1" => input.configs.push(object),
                ("Pod" | "ReplicaSet" | "Lease" | "Event", _) | (_, None) => ignored += 1,
                (_, Some(_)) => input.others.push(object),
            }
        }
    }
    input.read_workloads();
    if ignored > 0 {
        input.notes.push(format!("{ignored} objects of other kinds play no part"));
    }
    Ok(input)
}

impl Input {
    /// Gives each Rollout the template of the Deployment that it names, as it stands in the input.
    fn read_workloads(&mut self) {
        self.written.clone_from(&self.rollouts);
        self.deployments = self.others.extract_if(.., |object| object["kind"] == "Deployment").collect();
        for rollout in &mut self.rollouts {
            if let Some(deployment) = deployment_of(rollout, &self.deployments) {
                let told = (key_of(rollout).1, key_of(deployment).1);
                inline(rollout, deployment);
                self.notes.push(format!("Rollout {} has the pod template of Deployment {}", told.0, told.1));
            }
        }
    }

    /// Simulated pods read no configuration, and what of it the cluster has is not known here.
    fn leave_configuration_out(&mut self, rollout: &mut Value) {
        let (_, name) = key_of(rollout);
        let spec = rollout["spec"].as_object_mut();
        if spec.and_then(|spec| spec.remove("configSnapshots")).is_some() {
            let note =
                format!("Rollout {name}: spec.configSnapshots plays no part; hashes of revisions are those without it");
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// A Rollout with its pod template.
    pub fn whole(&self, at: usize) -> anyhow::Result<&Value> {
        let rollout = self.rollouts.get(at).context("no such Rollout")?;
        if let Some(workload) = rollout["spec"]["workloadRef"]["name"].as_str() {
            let (_, name) = key_of(rollout);
            if rollout["spec"]["workloadRef"]["kind"] != "Deployment" {
                bail!("Rollout {name} has the pod template of {workload} in spec.workloadRef, which is no Deployment");
            }
            bail!("Rollout {name} has the pod template of Deployment {workload}; give that manifest, too");
        }
        Ok(rollout)
    }

    /// The story of one of the Rollouts under a scenario; the release before has the image's tag `previous`.
    pub fn story(&mut self, at: usize, scenario: &Scenario, seed: u64) -> anyhow::Result<Story> {
        let rollout = self.whole(at)?;
        let template = &rollout["spec"]["template"];
        let before = with_image(template, &previous(&image_of(template)));
        if before == *template {
            bail!("Rollout {}: spec.template.spec.containers[0].image is missing", key_of(rollout).1);
        }
        self.story_after(at, before, scenario, seed)
    }

    /// The same, where the release before has this template.
    pub fn story_after(&mut self, at: usize, before: Value, scenario: &Scenario, seed: u64) -> anyhow::Result<Story> {
        let mut rollout = self.whole(at)?.clone();
        let (namespace, name) = key_of(&rollout);
        self.assume(&rollout, &namespace);
        let template = rollout["spec"]["template"].clone();
        let image = image_of(&template);
        self.leave_configuration_out(&mut rollout);
        let mut earlier = rollout.clone();
        earlier["spec"]["template"] = before;
        if let Some((replicas, said_by)) = self.least_replicas(&rollout) {
            let note = format!("Rollout {name} has no spec.replicas: it starts from {said_by}, {replicas}");
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
            earlier["spec"]["replicas"] = json!(replicas);
        }
        let mut objects = self.others.clone();
        objects.push(earlier);
        let ready = rollout["spec"]["minReadySeconds"].as_u64().unwrap_or(0) * 1000;
        let commit_at = COMMIT_AT + ready;
        let mut events = vec![At { at: commit_at, event: Event::Commit(json!({"template": template})) }];
        events.extend(scenario.events(commit_at, &image, &template)?);
        events.sort_by_key(|at| at.at);
        let last = events.last().map_or(commit_at, |at| at.at);
        Ok(Story {
            seed,
            objects,
            settings: Settings::default(),
            controllers: 1,
            events,
            fair_at: last,
            requests_from: commit_at,
            promotes_after: scenario.promotes_after()?,
            gives_up_after: Some(self.longest_wait(&rollout) + scenario.promotes_after()?.unwrap_or(0)),
            ends_at: last + LONGEST,
            ..Story::default()
        })
    }

    /// The fewest pods of a Rollout that leaves `spec.replicas` to an autoscaler of the input, and what says so.
    pub fn least_replicas(&self, rollout: &Value) -> Option<(i64, String)> {
        let (namespace, name) = key_of(rollout);
        let is_own = |scaler: &&Value| {
            let target = &scaler["spec"]["scaleTargetRef"];
            let group = target["apiVersion"].as_str().unwrap_or_default();
            group.starts_with("serin.dev/")
                && target["kind"] == "Rollout"
                && target["name"] == json!(name)
                && key_of(scaler).0 == namespace
        };
        let scaler = self.autoscalers.iter().find(is_own).filter(|_| rollout["spec"]["replicas"].is_null())?;
        let least = scaler["spec"]["minReplicas"].as_i64().unwrap_or(1);
        Some((least, format!("minReplicas of HorizontalPodAutoscaler {}", key_of(scaler).1)))
    }

    /// Adds what every cluster has and manifests of one application often lack.
    fn assume(&mut self, rollout: &Value, namespace: &str) {
        let canary = &rollout["spec"]["strategy"]["canary"];
        let mut hosts: Vec<String> = Vec::new();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        hosts.extend(text(&canary["stableService"]));
        hosts.extend(text(&canary["trafficRouting"]["istio"]["owned"]["host"]));
        for route in self.others.iter().filter(|object| object["kind"] == "VirtualService") {
            for key in ["http", "tls", "tcp"] {
                let routes = route["spec"][key].as_array().into_iter().flatten();
                let destinations = routes.filter_map(|route| route["route"].as_array()).flatten();
                hosts.extend(destinations.filter_map(|one| text(&one["destination"]["host"])));
            }
        }
        for host in hosts {
            let full = full_host(&host, namespace);
            let Some((service, of)) = service_of(&full) else { continue };
            let is_canary = canary["canaryService"] == json!(service);
            let is_known = self
                .others
                .iter()
                .any(|object| object["kind"] == "Service" && key_of(object) == (of.to_owned(), service.to_owned()));
            if is_known || is_canary {
                continue;
            }
            self.notes.push(format!("Service {service} is not in the input and is assumed"));
            self.others.push(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": of},
                "spec": {"selector": rollout["spec"]["selector"]["matchLabels"], "ports": [{"port": 80}]},
            }));
        }
        self.assume_root(rollout, namespace);
        self.assume_providers();
    }

    /// A root for a VirtualService of Serin's that has no hosts.
    fn assume_root(&mut self, rollout: &Value, namespace: &str) {
        let owned = &rollout["spec"]["strategy"]["canary"]["trafficRouting"]["istio"]["owned"];
        let delegate = names::owned_route(&key_of(rollout).1);
        let names_it = |route: &Value| route["delegate"]["name"] == json!(delegate);
        let is_root =
            |object: &Value| object["spec"]["http"].as_array().is_some_and(|routes| routes.iter().any(names_it));
        let has_hosts = owned["hosts"].as_array().is_some_and(|hosts| !hosts.is_empty());
        if !owned.is_object() || has_hosts || self.others.iter().any(is_root) {
            return;
        }
        self.notes.push(format!("a VirtualService that delegates to {delegate} is not in the input and is assumed"));
        self.others.push(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": format!("{delegate}-root"), "namespace": namespace},
            "spec": {"hosts": [owned["host"]], "http": [{"delegate": {"name": delegate, "namespace": namespace}}]},
        }));
    }

    /// The longest that a release may be without progress, in milliseconds: its longest pause or analysis, and an hour.
    fn longest_wait(&self, rollout: &Value) -> u64 {
        let millis = |value: &Value| {
            let text = serde_json::from_value::<DurationText>(value.clone()).ok();
            text.and_then(|text| text.parse().ok())
                .and_then(|duration| u64::try_from(duration.as_millis()).ok())
                .unwrap_or(0)
        };
        let spec = &rollout["spec"];
        let steps = spec["strategy"]["canary"]["steps"].as_array().into_iter().flatten();
        let pauses = steps.map(|step| millis(&step["pause"]["duration"]));
        let metrics = self.others.iter().filter_map(|object| object["spec"]["metrics"].as_array()).flatten();
        let measured = metrics.map(|metric| {
            let count = metric["count"].as_u64().or_else(|| metric["count"].as_str()?.parse().ok()).unwrap_or(1);
            millis(&metric["initialDelay"]) + millis(&metric["interval"]).max(10_000) * count
        });
        let deadline = spec["progressDeadlineSeconds"].as_u64().unwrap_or(600) * 1000;
        pauses.chain(measured).max().unwrap_or(0) + deadline + PATIENCE
    }

    fn assume_providers(&mut self) {
        let is_template = |object: &&Value| {
            ["AnalysisTemplate", "ClusterAnalysisTemplate"].iter().any(|kind| object["kind"] == *kind)
        };
        let metrics = self
            .others
            .iter()
            .filter(is_template)
            .filter_map(|template| template["spec"]["metrics"].as_array())
            .flatten();
        let named: std::collections::BTreeMap<String, bool> =
            metrics.filter_map(provider_of).map(|(name, is_web)| (name.to_owned(), is_web)).collect();
        for (name, is_web) in named {
            let is_known =
                self.others.iter().any(|object| object["kind"] == "MetricProvider" && key_of(object).1 == name);
            if !is_known && name != "default" {
                self.notes.push(format!("MetricProvider {name} is not in the input and is assumed"));
                let spec = MetricProviderSpec::at("http://metrics.simulated");
                let spec =
                    if is_web { MetricProviderSpec { web: spec.prometheus, prometheus: None, ..spec } } else { spec };
                self.others.push(json!({
                    "apiVersion": "serin.dev/v1alpha1", "kind": "MetricProvider", "metadata": {"name": name}, "spec": spec,
                }));
            }
        }
    }
}

/// The provider that a metric names, and whether it is asked for JSON.
fn provider_of(metric: &Value) -> Option<(&str, bool)> {
    let sources = ["prometheus", "istio", "compare", "limit", "web"];
    sources.into_iter().find_map(|source| Some((metric[source]["provider"].as_str()?, source == "web")))
}

/// The Deployment that a Rollout names, among some.
pub fn deployment_of<'a>(rollout: &Value, deployments: &'a [Value]) -> Option<&'a Value> {
    let (namespace, _) = key_of(rollout);
    let name = rollout["spec"]["workloadRef"]["name"].as_str()?;
    deployments.iter().find(|deployment| key_of(deployment) == (namespace.clone(), name.to_owned()))
}

/// Gives a Rollout the template of the Deployment that it names, as the controller reads it.
pub fn inline(rollout: &mut Value, deployment: &Value) {
    let read: Deployment = serde_json::from_value(deployment.clone()).unwrap_or_default();
    let Some(spec) = rollout["spec"].as_object_mut() else { return };
    spec.remove("workloadRef");
    spec.insert("template".into(), revision::template_of(&read));
    spec.entry("selector").or_insert_with(|| json!({"matchLabels": read.spec.selector.match_labels}));
    if let Some(replicas) = read.spec.replicas.filter(|replicas| *replicas > 0) {
        spec.entry("replicas").or_insert(json!(replicas));
    }
}

/// The image of the first container.
fn image_of(template: &Value) -> String {
    template.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or("image:new").to_owned()
}

/// The image of the release before: the same without its tag or digest.
fn previous(image: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    let untagged = match name.rsplit_once(':') {
        Some((untagged, tag)) if !tag.contains('/') => untagged,
        _ => name,
    };
    format!("{untagged}:previous")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_a_release_before() {
        assert_eq!(previous("checkout:2"), "checkout:previous");
        assert_eq!(previous("registry:5000/shop/checkout"), "registry:5000/shop/checkout:previous");
        assert_eq!(previous("registry:5000/checkout:2@sha256:abc"), "registry:5000/checkout:previous");
    }

    #[test]
    fn what_is_no_rollout_is_told() {
        let told = |text: &str| format!("{:#}", read(&[("stdin".into(), text.into())], "default").unwrap_err());
        assert!(told("kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}").contains("no Rollout of serin.dev"));
        assert!(
            told("kind: Rollout\napiVersion: argoproj.io/v1alpha1\nmetadata: {name: a}").contains("is of argoproj.io")
        );
        assert!(told("kind: [").starts_with("read stdin"));
        let faulty = "kind: Rollout\napiVersion: serin.dev/v1alpha1\nmetadata: 5\nspec: []";
        assert!(told(faulty).contains("metadata of this Rollout is no map"));
        assert!(told("replicaCount: 3").contains("no Rollout of serin.dev"));
    }
}
