//! The Deployment that a Rollout names in `workloadRef`: which revision its template is, and when its pods may go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::action::Action;
use super::analysis::later;
use super::course::{Course, Facts};
use super::observed::{Observed, Workload};
use super::revision;
use super::strategy::Strategy;
use crate::api::names;
use crate::api::status::WorkloadStatus;
use crate::api::watched::Deployment;

/// What a Rollout at rest says while the Deployment has pods that only Git may take away. It is healthy all the same: the
/// commit that takes them away may come only after this one is.
pub const HELD: &str = "WorkloadScale";

/// What it says while it has pods that requests still reach, because no root names Serin's VirtualService. It is healthy all
/// the same: the commit that brings the root's entry may come only after this one is.
pub const ROOTLESS: &str = "RootMissing";

/// Whether a reason is one of those that leave a Rollout healthy.
pub fn is_held(reason: &str) -> bool {
    [HELD, ROOTLESS].contains(&reason)
}

/// What is read of the Deployment, and which revision its template is. A hash that differs while the Deployment is the same,
/// or a Deployment that differs while the hash is the same, is no new revision.
pub fn read(observed: &Observed, strategy: &Strategy) -> Option<WorkloadStatus> {
    strategy.workload.as_ref()?;
    let deployment = observed.workload.found()?;
    Some(read_as(deployment, strategy.template.as_ref()?, observed.rollout.status.workload.as_ref()))
}

/// The same for one template, where this is known from before.
pub fn read_as(deployment: &Deployment, template: &Value, known: Option<&WorkloadStatus>) -> WorkloadStatus {
    let metadata = &deployment.metadata;
    let template_hash = revision::hash(template);
    let (uid, generation) = (metadata.uid.clone().unwrap_or_default(), metadata.generation.unwrap_or(0));
    let known = known
        .filter(|known| known.template_hash == template_hash || (known.uid == uid && known.generation == generation));
    let revision_hash = known.map_or_else(|| template_hash.clone(), |known| known.revision_hash.clone());
    WorkloadStatus { uid, generation, replicas: deployment.wanted(), template_hash, revision_hash }
}

/// An annotation that speaks of a revision: that of the first object which has it, of a Deployment before its Rollout.
pub fn annotation<'a>(objects: impl IntoIterator<Item = &'a ObjectMeta>, key: &str) -> Option<String> {
    let mut values = objects.into_iter().filter_map(|metadata| metadata.annotations.as_ref()?.get(key));
    values.find(|value| !value.is_empty()).cloned()
}

/// Takes what was read into the status, and names what is in the way of it.
pub fn track(facts: &Facts<'_>, course: &mut Course) {
    let Some(name) = &facts.strategy.workload else {
        course.status.workload = None;
        return;
    };
    match &facts.observed.workload {
        Workload::Unlisted => {
            let message =
                format!("Deployment {name} is being read; if that lasts, Serin may not list Deployments here");
            course.hold("WorkloadUnlisted", message);
        }
        Workload::Missing => {
            course.hold(
                "WorkloadMissing",
                format!("Deployment {name} does not exist; create it, or write spec.template"),
            );
        }
        Workload::Found(deployment) => {
            course.status.workload.clone_from(&facts.workload);
            // Where pods share the traffic by their number, those of the Deployment would take a canary's unasked.
            if facts.strategy.ratio.is_some() && course.stable().is_some() && deployment.pods() > 0 {
                course.hold(HELD, awaited(name, deployment));
            }
            if facts.route.is_delegate() && course.stable().is_some() && deployment.pods() > 0 {
                await_root(facts, course, name);
            }
        }
    }
}

/// Past a delegate that nothing leads to, the Service sends requests to every pod, as without a route: no other revision
/// begins until the proxies have a root that leads there.
fn await_root(facts: &Facts<'_>, course: &mut Course, name: &str) {
    if facts.route.lacks_root() {
        course.hold(ROOTLESS, rootless(facts, name));
    } else if course.canary().is_none() && !course.is_in_force(facts) {
        course.await_route(facts);
        course.is_held = true;
    }
}

/// Scales the Deployment to 0 once nothing is sent to its pods any more, where Git leaves that to others.
pub fn actions(facts: &Facts<'_>, course: &mut Course) -> Vec<Action> {
    let Some((name, deployment)) = with_pods(facts).filter(|_| !facts.is_leaving) else {
        return Vec::new();
    };
    if course.canary().is_some() || !is_served_without(facts, course.stable()) {
        return Vec::new();
    }
    let at = if facts.strategy.ratio.is_some() {
        facts.now
    } else {
        later(course.settled_at(facts), facts.observed.settings.drain())
    };
    if at > facts.now {
        course.wait_until("Draining", format!("requests of Deployment {name} are finishing"), at);
    } else if deployment.wanted() > 0 && deployment.replicas_holder().is_some() {
        course.wait(HELD, awaited(name, deployment));
    } else if deployment.wanted() > 0 {
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        return vec![Action::ScaleWorkload { name: name.to_owned(), uid, replicas: deployment.wanted() }];
    }
    Vec::new()
}

/// The Deployment, while it has pods.
fn with_pods<'a>(facts: &'a Facts<'_>) -> Option<(&'a str, &'a Deployment)> {
    let deployment = facts.observed.workload.found().filter(|deployment| deployment.pods() > 0)?;
    facts.strategy.workload.as_deref().map(|name| (name, deployment))
}

/// Whether stable has all its pods, and the route leads to no others. S4.
pub fn is_served_without(facts: &Facts<'_>, stable: Option<&str>) -> bool {
    let Some(stable) = stable else { return false };
    let has_pods = facts.pods_of(stable).available >= facts.replicas && facts.strategy.faults.is_empty();
    let leads_elsewhere = facts.strategy.ratio.is_none()
        && (facts.route.legs.is_empty()
            || facts.route.is_plain
            || facts.route.lacks_root()
            || !facts.route.rests_on(stable)
            || !facts.problems.is_empty());
    has_pods && !leads_elsewhere
}

fn awaited(name: &str, deployment: &Deployment) -> String {
    let pods = deployment.pods();
    match deployment.replicas_holder() {
        Some(holder) => format!(
            "Deployment {name} still has {pods} pods, which {holder} holds; set its spec.replicas to 0 in Git, or leave it out with server-side apply or `kubectl apply`"
        ),
        None => format!("Deployment {name} still has {pods} pods; they go once stable is available"),
    }
}

fn rootless(facts: &Facts<'_>, name: &str) -> String {
    let metadata = &facts.observed.rollout.metadata;
    let delegate = names::owned_route(metadata.name.as_deref().unwrap_or_default());
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    format!(
        "no VirtualService delegates to {delegate}, so that requests still reach the pods of Deployment {name}; in the one that holds the host, write under spec.http: - delegate: {{name: {delegate}, namespace: {namespace}}}"
    )
}
