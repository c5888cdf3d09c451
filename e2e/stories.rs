//! All stories, by the situation that they tell.

mod abort;
mod change;
mod metrics;
mod people;
mod promote;
mod rest;
mod route;
mod spec;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::support::Environment;

type Told = Pin<Box<dyn Future<Output = ()>>>;
type Story = fn(Arc<Environment>, String) -> Told;

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
        "pause-and-promote-by-action" => people::pause_and_promote,
        "abort-and-retry-by-action" => people::abort_and_retry,
        "foreign-parts-survive" => route::foreign_parts_survive,
        "several-virtual-services" => route::several,
        "virtual-service-created-later" => route::created_later,
        "route-contested" => route::contested,
        "prometheus-misbehaves" => metrics::prometheus_misbehaves,
        "invalid-specs" => spec::invalid,
        "faulty-specs" => spec::faulty,
        "scale-subresource" => spec::scale,
        "controller-killed" => rest::controller_killed,
        "deleted-mid-canary" => rest::deleted,
        "leader-hands-over" => rest::leader_hands_over,
        "at-rest" => rest::at_rest,
    ]
}
