//! The cluster that the person's kubeconfig names, and one Rollout with what belongs to it.

use std::error::Error as _;
use std::path::PathBuf;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Api, Client, Config};
use serde_json::Value;

use super::outcome::{NoCluster, NotFound};
use crate::api::names;
use crate::api::watched::{AnalysisTemplate, ClusterAnalysisTemplate, Deployment, ReplicaSet, Rollout};
use crate::plan::strategy::{self, Strategy};

/// Which cluster, as with kubectl.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// Namespace; absent: that of the context.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; absent: the current one.
    #[arg(long, global = true, add = super::completion::contexts())]
    pub context: Option<String>,
    /// Cluster of the kubeconfig; absent: that of the context.
    #[arg(long, global = true, add = super::completion::clusters())]
    pub cluster: Option<String>,
    /// User of the kubeconfig; absent: that of the context.
    #[arg(long, global = true, add = super::completion::users())]
    pub user: Option<String>,
    /// Path of the kubeconfig; absent: `KUBECONFIG`, then `~/.kube/config`, then the pod's own account.
    #[arg(long, global = true, add = super::completion::files())]
    pub kubeconfig: Option<PathBuf>,
    /// Acts as this user.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Acts as a member of this group; may be repeated.
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub impersonate_groups: Vec<String>,
}

/// The name of a Rollout as kubectl takes it: alone, or after its kind and a slash.
pub fn name(text: &str) -> Result<String, String> {
    let kinds = ["rollout", "rollouts", "rollout.serin.dev", "rollouts.serin.dev", "sro"];
    let name = match text.split_once('/') {
        Some((kind, name)) if kinds.contains(&kind) => name,
        Some((kind, _)) => return Err(format!("{kind} is no Rollout")),
        None => text,
    };
    let is_plain = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-' || char == '.';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err("a name has lower case letters, digits, - and . only".to_owned());
    }
    Ok(name.to_owned())
}

/// A connected cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace that names without one are in.
    pub namespace: String,
}

impl Connection {
    /// Connects. Nothing is asked of the API server yet.
    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        let options =
            KubeConfigOptions { context: self.context.clone(), cluster: self.cluster.clone(), user: self.user.clone() };
        let names_any = self.context.is_some() || self.cluster.is_some() || self.user.is_some();
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await?
            }
            None if names_any => {
                Config::from_kubeconfig(&options).await.map_err(|error| NoCluster(error.to_string()))?
            }
            None => Config::infer()
                .await
                .map_err(|error| NoCluster(error.source().map_or_else(|| error.to_string(), ToString::to_string)))?,
        };
        config.auth_info.impersonate.clone_from(&self.impersonate);
        if !self.impersonate_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(self.impersonate_groups.clone());
        }
        let namespace =
            self.namespace.clone().filter(|own| !own.is_empty()).unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("connect to Kubernetes")?;
        Ok(Cluster { client, namespace })
    }
}

/// One Rollout and what belongs to it.
pub struct Tree {
    /// The Rollout.
    pub rollout: Rollout,
    /// Its ReplicaSets.
    pub replica_sets: Vec<ReplicaSet>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// What the person may not list.
    pub unseen: Vec<&'static str>,
    /// Success conditions by metric, as its templates give them.
    pub conditions: Vec<(String, String)>,
}

impl Tree {
    /// What a metric's success condition is.
    pub fn condition(&self, metric: &str) -> Option<&str> {
        self.conditions.iter().find(|(name, _)| name == metric).map(|(_, condition)| condition.as_str())
    }
}

impl Cluster {
    /// Rollouts as the API server has them, in the namespace or in all.
    pub fn objects(&self, all_namespaces: bool) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<Rollout>(&());
        if all_namespaces {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        }
    }

    /// Objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One Rollout as the API server has it.
    pub async fn object(&self, name: &str) -> anyhow::Result<DynamicObject> {
        self.found(self.objects(false).get_opt(name).await, name)
    }

    /// One Rollout.
    pub async fn rollout(&self, name: &str) -> anyhow::Result<Rollout> {
        self.found(self.api().get_opt(name).await, name)
    }

    /// The Deployment that brings a Rollout's template, as the API server has it; none where the Rollout has its own.
    pub async fn deployment_of(&self, rollout: &Rollout) -> anyhow::Result<Option<DynamicObject>> {
        let Some(workload) = rollout.workload() else { return Ok(None) };
        let found = self.deployment(&workload).await?;
        let lacking = || {
            let of = rollout.name_any();
            NotFound(format!("Deployment {workload}, which brings the pod template of rollout {of}; create it"))
        };
        Ok(Some(found.ok_or_else(lacking)?))
    }

    /// A Deployment of the namespace as the API server has it; none where there is none.
    pub async fn deployment(&self, name: &str) -> anyhow::Result<Option<DynamicObject>> {
        let resource = ApiResource::erase::<Deployment>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        api.get_opt(name).await.with_context(|| format!("get deployment {name}, which brings a pod template"))
    }

    fn found<K>(&self, answer: kube::Result<Option<K>>, name: &str) -> anyhow::Result<K> {
        let object = answer.with_context(|| format!("get rollout {name}"))?;
        Ok(object.ok_or_else(|| NotFound(format!("rollout {name} in namespace {}", self.namespace)))?)
    }

    /// One Rollout with its ReplicaSets, its pods and its conditions: three requests, and one a template.
    pub async fn tree(&self, name: &str) -> anyhow::Result<Tree> {
        let rollout = self.rollout(name).await?;
        let own = ListParams::default().labels(&format!("{}={name}", names::ROLLOUT));
        let (sets, pods) = (self.api::<ReplicaSet>(), self.api::<Pod>());
        let (sets, pods) = tokio::join!(sets.list(&own), pods.list(&own));
        let conditions = self.conditions(&rollout).await;
        let mut unseen = Vec::new();
        Ok(Tree {
            rollout,
            replica_sets: allowed(sets, "ReplicaSets", &mut unseen)?,
            pods: allowed(pods, "pods", &mut unseen)?,
            unseen,
            conditions,
        })
    }

    /// Success conditions by metric. A template that cannot be read gives none: the status says why already.
    async fn conditions(&self, rollout: &Rollout) -> Vec<(String, String)> {
        let strategy = strategy::parse(&self.namespace, &rollout.spec.value());
        let mut conditions = Vec::new();
        for (name, is_cluster) in template_names(&strategy) {
            let spec = if is_cluster {
                let api: Api<ClusterAnalysisTemplate> = Api::all(self.client.clone());
                api.get_opt(&name).await.ok().flatten().map(|template| template.spec)
            } else {
                self.api::<AnalysisTemplate>().get_opt(&name).await.ok().flatten().map(|template| template.spec)
            };
            conditions.extend(spec.iter().flat_map(|spec| conditions_of(&spec.value())));
        }
        conditions
    }
}

/// A Rollout as the API server has it, as one that is read.
pub fn parsed(object: DynamicObject) -> anyhow::Result<Rollout> {
    let name = object.name_any();
    serde_json::to_value(object).and_then(serde_json::from_value).with_context(|| format!("read rollout {name}"))
}

/// What a list has; nothing where the person may not see it, which is noted.
fn allowed<K: Clone>(
    list: kube::Result<kube::api::ObjectList<K>>,
    what: &'static str,
    unseen: &mut Vec<&'static str>,
) -> anyhow::Result<Vec<K>> {
    match list {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            unseen.push(what);
            Ok(Vec::new())
        }
        list => Ok(list.with_context(|| format!("list {what}"))?.items),
    }
}

/// Names of the templates that a strategy uses, each once, and whether each is of the cluster.
fn template_names(strategy: &Strategy) -> Vec<(String, bool)> {
    let mut names: Vec<(String, bool)> = strategy
        .gates()
        .flat_map(|(_, gate)| &gate.templates)
        .map(|template| (template.template_name.clone(), template.cluster_scope.unwrap_or(false)))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn conditions_of(spec: &Value) -> Vec<(String, String)> {
    let text = |metric: &Value, key: &str| metric.get(key).and_then(Value::as_str).map(str::to_owned);
    let metrics = spec.get("metrics").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let condition = |metric: &Value| {
        let failure = || text(metric, "failureCondition").map(|condition| format!("not {condition}"));
        Some((text(metric, "name")?, text(metric, "successCondition").or_else(failure)?))
    };
    metrics.iter().filter_map(condition).collect()
}
