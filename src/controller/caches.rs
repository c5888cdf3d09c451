//! The caches of all kinds that are watched from the start.

use std::fmt::Debug;
use std::sync::Arc;

use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::Shell;
use super::cache::{self, Cache, OnChange, Select};
use super::observe::words;
use crate::api::names;
use crate::api::watched::{
    AnalysisTemplate, ClusterAnalysisTemplate, DestinationRule, HttpRoute, MetricProvider, ReplicaSet, Rollout,
    RolloutAction, Service, VirtualService,
};

/// Caches of all kinds.
pub struct Caches {
    /// Rollouts.
    pub rollouts: Arc<Cache<Rollout>>,
    /// ReplicaSets that carry the revision-hash label.
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    /// VirtualServices.
    pub virtual_services: Arc<Cache<VirtualService>>,
    /// DestinationRules.
    pub destination_rules: Arc<Cache<DestinationRule>>,
    /// HTTPRoutes.
    pub http_routes: Arc<Cache<HttpRoute>>,
    /// Services.
    pub services: Arc<Cache<Service>>,
    /// AnalysisTemplates.
    pub templates: Arc<Cache<AnalysisTemplate>>,
    /// ClusterAnalysisTemplates.
    pub cluster_templates: Arc<Cache<ClusterAnalysisTemplate>>,
    /// MetricProviders.
    pub providers: Arc<Cache<MetricProvider>>,
    /// RolloutActions.
    pub actions: Arc<Cache<RolloutAction>>,
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            rollouts: Arc::new(Cache::new(words::rollout)),
            replica_sets: Arc::new(Cache::new(words::replica_set)),
            virtual_services: Arc::new(Cache::new(words::virtual_service)),
            destination_rules: Arc::new(Cache::new(words::destination_rule)),
            http_routes: Arc::new(Cache::new(words::http_route)),
            services: Arc::new(Cache::new(words::service)),
            templates: Arc::new(Cache::new(words::template)),
            cluster_templates: Arc::new(Cache::new(words::cluster_template)),
            providers: Arc::new(Cache::new(words::provider)),
            actions: Arc::new(Cache::new(words::action)),
        }
    }
}

/// The objects of one namespace, or of all.
pub fn scoped<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
    client: &Client,
    namespace: Option<&str>,
) -> Api<K> {
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

/// Begins to watch every kind.
pub fn feed(shell: &Arc<Shell>, namespace: Option<&str>) -> Vec<JoinHandle<()>> {
    let (client, caches) = (&shell.client, &shell.caches);
    vec![
        feed_one(shell, &caches.rollouts, scoped(client, namespace), Select::All),
        feed_one(shell, &caches.replica_sets, scoped(client, namespace), Select::Labels(names::REVISION_HASH.into())),
        feed_one(shell, &caches.virtual_services, scoped(client, namespace), Select::All),
        feed_one(shell, &caches.destination_rules, scoped(client, namespace), Select::All),
        feed_one(shell, &caches.http_routes, scoped(client, namespace), Select::All),
        feed_one(shell, &caches.services, scoped(client, namespace), Select::All),
        feed_one(shell, &caches.templates, scoped(client, namespace), Select::All),
        feed_one(shell, &caches.cluster_templates, Api::all(client.clone()), Select::All),
        feed_one(shell, &caches.providers, Api::all(client.clone()), Select::All),
        feed_one(shell, &caches.actions, scoped(client, namespace), Select::All),
    ]
}

fn feed_one<K>(shell: &Arc<Shell>, cache: &Arc<Cache<K>>, api: Api<K>, select: Select) -> JoinHandle<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + PartialEq + Send + Sync + 'static,
{
    let told = shell.clone();
    let on_change: OnChange<K> = Arc::new(move |_, words| told.changed(words));
    tokio::spawn(cache::feed(cache.clone(), api, select, on_change, shell.readiness.clone()))
}
