//! A restart of the pods without a new revision: stable's first, then the canary's, then the rest; a few at a time, and
//! by eviction, so that disruption budgets are honoured.

use jiff::Timestamp;

use super::action::Action;
use super::baseline::Baseline;
use super::course::{Course, Facts};
use super::revision::{Pods, is_own};
use crate::api::watched::Pod;

/// Pods older than this are to be restarted now; none when no restart is under way.
pub fn under_way(facts: &Facts<'_>, course: &Course) -> Option<Timestamp> {
    asked(facts, course).filter(|at| *at <= facts.now && !facts.is_leaving)
}

/// The newest restart that is asked for and not done.
fn asked(facts: &Facts<'_>, course: &Course) -> Option<Timestamp> {
    let by_action = course.status.restart.as_ref().map(|restart| restart.at);
    let asked = facts.strategy.restart_at.max(by_action)?;
    course.status.restarted_at.is_none_or(|done| done < asked).then_some(asked)
}

/// The evictions that are due, or the end of the restart.
pub fn actions(facts: &Facts<'_>, course: &mut Course) -> Vec<Action> {
    let Some(at) = under_way(facts, course) else {
        if let Some(at) = asked(facts, course).filter(|_| !facts.is_leaving) {
            course.wakes.push((at, "a restart is due".into()));
        }
        return Vec::new();
    };
    let Some(pods) = &facts.observed.pods else {
        course.wait("Restarting", "the pods are being listed");
        return Vec::new();
    };
    let old = |group: &Group<'_>| -> Vec<&Pod> {
        let mut old: Vec<&Pod> = pods.iter().filter(|pod| group.has(pod) && is_older(pod, at)).collect();
        old.sort_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.metadata.name.clone()));
        old
    };
    let order = order(facts, course);
    let left: usize = order.iter().map(|group| old(group).len()).sum();
    if left == 0 {
        course.status.restarted_at = Some(at);
        course.status.restart = None;
        return Vec::new();
    }
    course.wait("Restarting", format!("{left} pods are older than {at} and are restarted, a few at a time"));
    if let Some(refused) = facts.observed.eviction_refused.as_ref().filter(|refused| refused.until > facts.now) {
        course.wait_until("EvictionRefused", refused.message.clone(), refused.until);
        return Vec::new();
    }
    let Some(group) = order.iter().find(|group| !old(group).is_empty()) else {
        return Vec::new();
    };
    let own = group.pods(facts);
    let may_miss = facts.strategy.max_unavailable.floor(own.wanted).max(1);
    // An evicted pod is missing at once; the ReplicaSet counts it for a while.
    let staying = pods.iter().filter(|pod| group.has(pod) && pod.metadata.deletion_timestamp.is_none()).count();
    let available = own.available.min(i32::try_from(staying).unwrap_or(i32::MAX));
    let may_go = usize::try_from(may_miss - (own.wanted - available)).unwrap_or(0);
    old(group)
        .into_iter()
        .take(may_go)
        .map(|pod| Action::EvictPod {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        })
        .collect()
}

/// Pods that are restarted one after the other.
enum Group<'a> {
    /// Those of a revision.
    Revision(String),
    /// Those of a baseline.
    Baseline(&'a Baseline),
}

impl Group<'_> {
    fn pods(&self, facts: &Facts<'_>) -> Pods {
        match self {
            Self::Revision(hash) => facts.pods_of(hash),
            Self::Baseline(one) => one.pods.clone(),
        }
    }

    fn has(&self, pod: &Pod) -> bool {
        match self {
            Self::Revision(hash) => is_own(&pod.metadata, hash),
            Self::Baseline(one) => one.has(&pod.metadata),
        }
    }
}

/// What has pods: stable, the canary, baselines, the rest.
fn order<'a>(facts: &'a Facts<'_>, course: &Course) -> Vec<Group<'a>> {
    let canary = course.status.canary.as_ref().map(|canary| canary.hash.clone());
    let first: Vec<String> = course.stable().map(str::to_owned).into_iter().chain(canary).collect();
    let rest: Vec<String> = facts.pods.keys().filter(|hash| !first.contains(hash)).cloned().collect();
    let baselines = facts.baselines.iter().map(Group::Baseline);
    let groups = first.into_iter().map(Group::Revision).chain(baselines).chain(rest.into_iter().map(Group::Revision));
    groups.filter(|group| group.pods(facts).wanted > 0).collect()
}

/// Whether a pod that stays was created before a time. Creation times are whole seconds, rounded down.
fn is_older(pod: &Pod, at: Timestamp) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    pod.metadata.deletion_timestamp.is_none() && created.is_some_and(|created| created.as_second() < at.as_second())
}
