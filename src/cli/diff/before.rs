//! What there is before a commit, of a cluster or of files: Rollouts, the Deployments that bring their templates, and analysis
//! templates.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeSet;

use anyhow::Context as _;
use kube::Resource;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::templates;
use crate::api::status::RolloutStatus;
use crate::api::watched::{AnalysisTemplate, ClusterAnalysisTemplate, Deployment, Rollout};
use crate::cli::cluster::Cluster;
use crate::cli::outcome::NotFound;
use crate::embedded::store::key_of;
use crate::plan::{revision, snapshot, workload};
use crate::sim::input::{Input, deployment_of, inline};

/// What there is before the commit.
#[derive(Default)]
pub struct Before {
    /// Rollouts, each with the template of the Deployment that it names.
    pub(super) rollouts: Vec<Value>,
    /// The same as they are written.
    written: Vec<Value>,
    /// Deployments.
    pub(super) deployments: Vec<Value>,
    /// Analysis templates.
    pub(super) templates: Vec<Value>,
    /// ConfigMaps and Secrets that revisions cover.
    pub(super) configs: Vec<Value>,
    /// Whether what is not here is not there.
    pub(super) is_all: bool,
}

impl Before {
    /// Rollouts as they are written, with Deployments.
    pub fn of(written: Vec<Value>, deployments: Vec<Value>) -> Self {
        let mut rollouts = written.clone();
        for rollout in &mut rollouts {
            if let Some(deployment) = deployment_of(rollout, &deployments) {
                inline(rollout, deployment);
            }
        }
        Self { rollouts, written, deployments, ..Self::default() }
    }

    /// All that files have.
    pub(super) fn of_files(input: Input) -> anyhow::Result<Self> {
        for at in 0..input.rollouts.len() {
            input.whole(at).context("read --from")?;
        }
        let templates = input.others.into_iter().filter(templates::is_template).collect();
        let Input { rollouts, written, deployments, configs, .. } = input;
        Ok(Self { rollouts, written, deployments, templates, configs, is_all: true })
    }

    /// What the cluster has of what manifests have.
    pub(super) async fn of_cluster(cluster: &Cluster, input: &Input) -> anyhow::Result<Self> {
        let (mut rollouts, mut deployments) = (Vec::new(), Vec::new());
        for rollout in &input.written {
            let live = live_object::<Rollout>(cluster, rollout).await?;
            let name = |one: &Value| one["spec"]["workloadRef"]["name"].as_str().map(str::to_owned);
            let of_live = live.as_ref().and_then(name);
            for deployment in of_live.clone().into_iter().chain(name(rollout)).collect::<BTreeSet<String>>() {
                let found = live_deployment(cluster, rollout, &deployment).await?;
                if found.is_none() && of_live.as_ref() == Some(&deployment) {
                    let (namespace, name) = key_of(rollout);
                    let what = "which brings the pod template of rollout";
                    let hint = "create it, or compare with files: --from";
                    let told = format!("Deployment {deployment} in namespace {namespace}, {what} {name}; {hint}");
                    return Err(NotFound(told).into());
                }
                deployments.extend(found);
            }
            rollouts.extend(live);
        }
        let mut before = Self::of(rollouts, deployments);
        before.add_configs(cluster).await;
        before.add_templates(cluster, input).await?;
        Ok(before)
    }

    /// Adds the ConfigMaps and Secrets that revisions cover. What may not be read is not compared.
    async fn add_configs(&mut self, cluster: &Cluster) {
        let covered = self.rollouts.iter().filter(|rollout| !rollout["spec"]["configSnapshots"].is_null());
        for rollout in covered {
            for (kind, name) in snapshot::references(&rollout["spec"]["template"]) {
                let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", &kind.to_string()));
                let (namespace, _) = key_of(rollout);
                let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &namespace, &resource);
                let found = api.get(&name).await.ok().and_then(|object| serde_json::to_value(object).ok());
                self.configs.extend(found);
            }
        }
    }

    /// Adds the analysis templates of manifests as the cluster has them, and the Rollouts that those which change may judge.
    async fn add_templates(&mut self, cluster: &Cluster, input: &Input) -> anyhow::Result<()> {
        let mut changed = BTreeSet::new();
        for template in input.others.iter().filter(|object| templates::is_template(object)) {
            let known = if template["kind"] == "AnalysisTemplate" {
                live_object::<AnalysisTemplate>(cluster, template).await?
            } else {
                live_object::<ClusterAnalysisTemplate>(cluster, template).await?
            };
            if templates::is_changed(template, known.as_ref()) {
                let (namespace, _) = key_of(template);
                changed.insert(if namespace.is_empty() { cluster.namespace.clone() } else { namespace });
            }
            self.templates.extend(known);
        }
        for namespace in changed {
            let near = Cluster { namespace, ..cluster.clone() };
            for object in near.objects(false).list(&ListParams::default()).await.context("list rollouts")?.items {
                let rollout = serde_json::to_value(object)?;
                if !self.rollouts.iter().any(|known| key_of(known) == key_of(&rollout)) {
                    self.rollouts.push(rollout.clone());
                    self.written.push(rollout);
                }
            }
        }
        Ok(())
    }

    /// One of the Rollouts.
    pub(super) fn find(&self, rollout: &Value) -> Option<Known<'_>> {
        let at = self.rollouts.iter().position(|one| key_of(one) == key_of(rollout))?;
        let written = self.written.get(at)?;
        let status = serde_json::from_value(written["status"].clone()).unwrap_or_default();
        Some(Known {
            spec: &self.rollouts.get(at)?["spec"],
            written: &written["spec"],
            deployment: deployment_of(written, &self.deployments),
            status,
        })
    }
}

/// A Rollout before the commit.
#[derive(Clone)]
pub(super) struct Known<'a> {
    /// Its spec, with the template of the Deployment that it names.
    pub spec: &'a Value,
    /// Its spec as it is written.
    pub written: &'a Value,
    /// The Deployment that it names.
    pub deployment: Option<&'a Value>,
    /// Its status.
    pub status: RolloutStatus,
}

impl Known<'_> {
    /// The revision that it asks for, as the controller calls it.
    pub(super) fn revision(&self) -> String {
        let deployment = self.deployment.and_then(read);
        revision_of(&self.spec["template"], deployment.as_ref(), &self.status)
    }
}

/// The revision hash of a template after the commit; what the controller knows of a Deployment's counts.
pub(super) fn revision_after(template: &Value, deployment: Option<&Value>, status: &RolloutStatus) -> String {
    // A manifest that was read from a cluster may carry a generation, and be edited since.
    let deployment = deployment.and_then(read).map(|read| Deployment { spec: read.spec, ..Deployment::default() });
    revision_of(template, deployment.as_ref(), status)
}

fn revision_of(template: &Value, deployment: Option<&Deployment>, status: &RolloutStatus) -> String {
    match deployment {
        Some(deployment) => workload::read_as(deployment, template, status.workload.as_ref()).revision_hash,
        None => revision::hash(template),
    }
}

/// A Deployment as the controller reads it.
pub(super) fn read(deployment: &Value) -> Option<Deployment> {
    serde_json::from_value(deployment.clone()).ok()
}

async fn live_deployment(cluster: &Cluster, rollout: &Value, name: &str) -> anyhow::Result<Option<Value>> {
    let (namespace, of) = key_of(rollout);
    let wanted = json!({"kind": "Deployment", "metadata": {"name": name, "namespace": namespace}});
    let found = live_object::<Deployment>(cluster, &wanted).await;
    found.with_context(|| format!("read the pod template of rollout {of}; with --from, no cluster is asked"))
}

/// An object as the cluster has it.
async fn live_object<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    object: &Value,
) -> anyhow::Result<Option<Value>> {
    let (namespace, name) = key_of(object);
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(cluster.client.clone(), &resource)
    } else {
        Api::namespaced_with(cluster.client.clone(), &namespace, &resource)
    };
    let found = api.get_opt(&name).await.with_context(|| format!("get {} {name}", resource.kind.to_lowercase()))?;
    let mut value = found.map(serde_json::to_value).transpose()?;
    if let Some(value) = &mut value {
        value["kind"] = object["kind"].clone();
    }
    Ok(value)
}
