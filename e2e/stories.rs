//! All stories, by the situation that they tell.

mod abort;
mod autoscale;
mod change;
mod config;
mod conformance;
mod example;
mod gateway;
mod gitops;
mod jobs;
mod metrics;
mod people;
mod plugin;
mod promote;
mod rest;
mod restart;
mod role;
mod route;
mod scale;
mod shards;
mod soak;
mod spec;
mod takeover;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::support::Environment;

type Told = Pin<Box<dyn Future<Output = ()>>>;
/// A story: told in a world of its own, under a name of its own.
pub type Story = fn(Arc<Environment>, String) -> Told;

macro_rules! stories {
    ($($name:literal => $path:path),* $(,)?) => {
        vec![$(($name, (|environment, name| Box::pin($path(environment, name))) as Story)),*]
    };
}

/// Every story with its name.
pub fn all() -> Vec<(&'static str, Story)> {
    stories![
        "promote-through-three-weights" => promote::through_three_weights,
        "promote-owned-delegate" => promote::owned_delegate,
        "abort-on-failing-metric" => abort::on_failing_metric,
        "abort-on-deadline" => abort::on_deadline,
        "abort-while-stable-pod-unready" => abort::while_a_stable_pod_is_unready,
        "background-fails-while-pods-crash" => abort::background_fails_while_pods_crash,
        "stable-broken-rolls-forward" => change::stable_broken_rolls_forward,
        "newer-revision-mid-canary" => change::newer_revision,
        "revert-mid-canary" => change::revert,
        "rollback-window" => change::rollback,
        "dynamic-stable-up-and-down" => scale::dynamic_up_and_down,
        "dynamic-stable-abort-at-half" => scale::dynamic_abort_at_half,
        "dynamic-stable-superseded" => scale::dynamic_superseded,
        "scaled-in-the-middle-then-aborted" => scale::scaled_in_the_middle_then_aborted,
        "unready-stable-pod-from-the-start" => scale::unready_stable_pod_from_the_start,
        "canary-scale" => scale::canary_scale,
        "ratio-of-pods" => scale::ratio_of_pods,
        "autoscaled" => autoscale::autoscaled,
        "restarted" => restart::restarted,
        "metadata-by-role" => role::told_by_pods,
        "configuration-of-a-revision" => config::belongs_to_a_revision,
        "pause-and-promote-by-action" => people::pause_and_promote,
        "abort-and-retry-by-action" => people::abort_and_retry,
        "declared-in-git" => people::declared,
        "told-by-a-channel" => people::told,
        "plugin-watched" => plugin::watched,
        "foreign-parts-survive" => route::foreign_parts_survive,
        "testers-first" => route::testers_first,
        "several-virtual-services" => route::several,
        "virtual-service-created-later" => route::created_later,
        "route-contested" => route::contested,
        "weights-between-hosts" => route::between_hosts,
        "weights-in-an-http-route" => gateway::weights,
        "http-route-rejected" => gateway::rejected,
        "tls-and-tcp-routes" => route::tls_and_tcp,
        "prometheus-misbehaves" => metrics::prometheus_misbehaves,
        "metric-recovers-within-limits" => metrics::recovers_within_limits,
        "jobs-as-measurements" => jobs::as_measurements,
        "invalid-specs" => spec::invalid,
        "faulty-specs" => spec::faulty,
        "scale-subresource" => spec::scale,
        "template-deleted-while-healthy" => spec::template_deleted,
        "takes-a-deployment-over" => takeover::without_replicas_in_git,
        "takes-over-what-git-holds" => takeover::with_replicas_in_git,
        "what-an-api-server-fills-in" => takeover::defaults,
        "controller-killed" => rest::controller_killed,
        "deleted-mid-canary" => rest::deleted,
        "uninstalled-twenty-times" => rest::uninstalled,
        "upgraded-mid-canary" => rest::upgraded,
        "downgraded-mid-canary" => rest::downgraded,
        "leader-hands-over" => rest::leader_hands_over,
        "at-rest" => rest::at_rest,
        "api-conforms" => conformance::answers,
    ]
}

/// Stories that disturb others, or share a lease with them: they are told one after the other, when the rest is over.
pub fn alone() -> Vec<(&'static str, Story)> {
    stories!["plugin-doctor" => plugin::doctor, "paused-leader-wakes-late" => rest::paused_leader, "api-server-restarted" => rest::api_server_restarted, "replicas-killed" => shards::replicas_killed]
}

/// Stories beside the GitOps engines, which `e2e/run gitops` alone builds and starts.
pub fn beside_engines() -> Vec<(&'static str, Story)> {
    stories![
        "gitops-flux-owned" => gitops::flux_owned,
        "gitops-argo-owned" => gitops::argo_owned,
        "gitops-argo-owned-server-side" => gitops::argo_owned_server_side,
        "gitops-flux-delegate" => gitops::flux_delegate,
        "gitops-argo-delegate" => gitops::argo_delegate,
        "gitops-argo-delegate-server-side" => gitops::argo_delegate_server_side,
        "gitops-flux-in-place" => gitops::flux_in_place,
        "gitops-argo-in-place" => gitops::argo_in_place,
        "gitops-flux-hosts" => gitops::flux_hosts,
        "gitops-argo-hosts-server-side" => gitops::argo_hosts_server_side,
        "gitops-argo-in-place-ignored" => gitops::argo_in_place_ignored,
        "gitops-argo-in-place-ignored-server-side" => gitops::argo_in_place_ignored_server_side,
        "gitops-argo-hosts-ignored" => gitops::argo_hosts_ignored,
        "gitops-argo-hosts-ignored-server-side" => gitops::argo_hosts_ignored_server_side,
        "gitops-argo-http-route-ignored" => gitops::argo_http_route_ignored,
        "gitops-flux-in-place-applied-once" => gitops::flux_in_place_applied_once,
        "gitops-flux-http-route-applied-once" => gitops::flux_http_route_applied_once,
        "gitops-argo-route-edited" => gitops::argo_route_edited,
        "gitops-argo-route-edited-server-side" => gitops::argo_route_edited_server_side,
        "gitops-argo-route-kept" => gitops::argo_route_kept,
        "gitops-example-gitlab-argo" => example::gitlab_argo,
        "gitops-example-flux" => example::flux,
        "gitops-example-merge-to-publish" => example::merge_to_publish,
        "gitops-example-rings" => example::rings,
    ]
}

/// Stories that take long: told only where the whole name is given.
pub fn long() -> Vec<(&'static str, Story)> {
    stories!["gitops-soak" => soak::soak]
}
