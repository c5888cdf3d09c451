//! The caches of all kinds that are watched from the start.

use std::sync::Arc;

use super::cache::Cache;
use super::observe::words;
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
