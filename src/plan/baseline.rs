//! Baselines: pods of the stable revision that are started together with a canary's, as many, so that both are of the same age
//! when their requests are counted. They carry stable's revision hash, so that whatever selects stable's pods selects them, too,
//! and no route changes. They are none of stable's own: nothing that needs stable's pods counts them, and they are in no history.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::action::{Action, pods_after};
use super::analysis::later;
use super::course::{Course, Facts};
use super::observed::Observed;
use super::revision::{Pods, hash_text, pods_of};
use super::strategy::Gate;
use super::template::{End, parse_template};
use super::traffic::Reached;
use crate::api::comparison::Reference;
use crate::api::names;
use crate::api::status::BaselineStatus;
use crate::api::watched::ReplicaSet;

/// The pods that were started together with a canary's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The stable revision that they are of.
    pub stable: String,
    /// The canary that they were started with.
    pub canary: String,
    /// The pods.
    pub pods: Pods,
}

/// The baselines of a snapshot.
pub fn all(observed: &Observed) -> Vec<Baseline> {
    observed.baselines.iter().filter(|one| one.metadata.deletion_timestamp.is_none()).filter_map(read).collect()
}

/// That of a ReplicaSet; none of a revision's.
pub fn read(set: &ReplicaSet) -> Option<Baseline> {
    let labels = set.metadata.labels.as_ref()?;
    let (stable, canary) = (labels.get(names::REVISION_HASH)?, labels.get(names::BASELINE)?);
    Some(Baseline { stable: stable.clone(), canary: canary.clone(), pods: pods_of(set) })
}

/// Whether a ReplicaSet is a baseline's.
pub fn is_one(set: &ReplicaSet) -> bool {
    set.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(names::BASELINE))
}

/// What names the baseline of a canary against stable: one for each pair, so that the pods of another canary are others.
fn word(stable: &str, canary: &str) -> String {
    hash_text(&format!("{stable}/{canary}"))
}

/// Name of its ReplicaSet.
pub fn name(rollout: &str, stable: &str, canary: &str) -> String {
    names::baseline(rollout, &word(stable, canary))
}

/// What Istio's metrics know its pods by.
pub fn revision(stable: &str, canary: &str) -> String {
    names::baseline_revision(stable, &word(stable, canary))
}

/// Whether a gate holds the canary against a baseline; none where its templates cannot be read.
fn names_one(observed: &Observed, gate: &Gate) -> Option<bool> {
    let mut is_known = true;
    for reference in &gate.templates {
        let is_cluster = reference.cluster_scope.unwrap_or(false);
        let mut templates = observed.templates.iter();
        let template = templates.find(|one| one.name == reference.template_name && one.cluster == is_cluster);
        match template.and_then(|template| parse_template(&template.spec.value(), End::Never).ok()) {
            Some(spec) if spec.metrics.iter().any(|metric| metric.reference() == Reference::Baseline) => {
                return Some(true);
            }
            Some(_) => {}
            None => is_known = false,
        }
    }
    is_known.then_some(false)
}

/// Stable and the canary of the baseline that the attempt under way needs: from its start until the last analysis that asks for
/// one is passed. While the spec or a template cannot be read, one that is there stays.
fn wanted(facts: &Facts<'_>, course: &Course) -> Option<(String, String)> {
    let pair = (course.stable()?.to_owned(), course.canary()?.hash.clone());
    let is_skipping = course.status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
    if facts.is_leaving || is_skipping || facts.strategy.routing.is_none() {
        return None;
    }
    let step = course.step_index();
    let left = facts.strategy.gates().filter(|(at, _)| at.is_none_or(|at| at >= step));
    let asked: BTreeSet<Option<bool>> = left.map(|(_, gate)| names_one(facts.observed, gate)).collect();
    let is_unknown = asked.contains(&None) || !facts.strategy.faults.is_empty();
    let is_there = facts.baselines.iter().any(|one| one.is_of(&pair));
    (asked.contains(&Some(true)) || (is_unknown && is_there)).then_some(pair)
}

impl Baseline {
    /// Whether a pod is one of them.
    pub fn has(&self, pod: &ObjectMeta) -> bool {
        let labels = pod.labels.as_ref();
        let is = |key: &str, value: &String| labels.and_then(|labels| labels.get(key)) == Some(value);
        is(names::REVISION_HASH, &self.stable) && is(names::BASELINE, &self.canary)
    }

    fn is_of(&self, (stable, canary): &(String, String)) -> bool {
        self.stable == *stable && self.canary == *canary
    }
}

/// That of the canary in progress.
pub fn current<'a>(facts: &'a Facts<'_>, course: &Course) -> Option<&'a Baseline> {
    let pair = (course.stable()?.to_owned(), course.canary()?.hash.clone());
    facts.baselines.iter().find(|one| one.is_of(&pair))
}

/// Why nothing can be held against it yet; nothing where all its pods are ready.
pub fn lack(facts: &Facts<'_>, course: &Course) -> Option<String> {
    let Some(Baseline { pods, .. }) = current(facts, course) else {
        return Some("the baseline has no pods yet".to_owned());
    };
    let told = format!("{} of {} baseline pods are ready", pods.ready, pods.wanted);
    (pods.wanted == 0 || pods.ready < pods.wanted).then_some(told)
}

/// Remembers how many there are, and when some were taken away.
pub fn watch(facts: &Facts<'_>, course: &mut Course) {
    let known = course.status.baseline.take().unwrap_or_default();
    if facts.baselines.is_empty() {
        return;
    }
    let sum = |count: fn(&Pods) -> i32| facts.baselines.iter().map(|one| count(&one.pods)).sum();
    let replicas = sum(|pods| pods.wanted);
    let own = current(facts, course);
    let leaving = replicas - own.map_or(0, |one| one.pods.wanted);
    let revision = own.map(|one| revision(&one.stable, &one.canary));
    // Those of a new canary come while those of another go.
    let known_leaving = if known.revision == revision { known.leaving } else { known.replicas };
    let has_shrunk = leaving < known_leaving || replicas - leaving < known.replicas - known_leaving;
    course.status.baseline = Some(BaselineStatus {
        revision,
        replicas,
        leaving,
        ready: sum(|pods| pods.ready),
        shrunk_at: if has_shrunk { Some(facts.now) } else { known.shrunk_at },
    });
}

/// The ReplicaSets to create, scale and delete, after the canary's: as many pods as that wants, and none once nothing asks for
/// them.
pub fn actions(facts: &Facts<'_>, course: &mut Course, planned: &[Action]) -> Vec<Action> {
    let wanted = wanted(facts, course);
    let pods = wanted.as_ref().map_or(0, |(_, canary)| pods_after(planned, canary, &facts.pods_of(canary)));
    let mut actions: Vec<Action> = wanted.iter().filter_map(|pair| create(facts, pair, pods)).collect();
    let mut has_shrunk = false;
    for one in &facts.baselines {
        let least = if wanted.as_ref().is_some_and(|pair| one.is_of(pair)) { pods } else { 0 };
        if least == 0 && one.pods.wanted == 0 && one.pods.exist == 0 {
            let (name, version) = (one.pods.name.clone(), one.pods.version.clone());
            actions.push(Action::DeleteReplicaSet { name, version });
            continue;
        }
        let next = match one.pods.wanted {
            now if now <= least => least,
            now if has_shrunk => now,
            _ => lowered(facts, course, one, least),
        };
        has_shrunk |= next < one.pods.wanted;
        if next != one.pods.wanted {
            actions.push(Action::ScaleReplicaSet {
                name: one.pods.name.clone(),
                generation: one.pods.generation,
                number: one.pods.revision,
                replicas: next,
                revision: None,
            });
        }
    }
    actions
}

fn create(facts: &Facts<'_>, (stable, canary): &(String, String), replicas: i32) -> Option<Action> {
    let rollout = facts.observed.rollout.metadata.name.as_deref().unwrap_or_default();
    let name = name(rollout, stable, canary);
    let is_there = facts.observed.baselines.iter().any(|one| one.metadata.name.as_ref() == Some(&name));
    let source = facts.pods.get(stable).filter(|_| replicas > 0 && !is_there)?;
    let (stable, canary) = (stable.clone(), canary.clone());
    Some(Action::CreateBaseline { name, source: source.name.clone(), stable, canary, replicas })
}

/// The pods that one with too many keeps for now. Proxies send stable's requests to them, so that they go as a revision's with
/// requests: a quarter of all that share these at a time, once every proxy knows that the last ones have gone.
fn lowered(facts: &Facts<'_>, course: &mut Course, one: &Baseline, least: i32) -> i32 {
    // Who wants no pods wants no requests.
    if facts.replicas == 0 {
        return least;
    }
    let shrunk_at = course.status.baseline.as_ref().and_then(|known| known.shrunk_at);
    let again = shrunk_at.map(|at| later(at, facts.observed.settings.route_wait())).filter(|at| *at > facts.now);
    let settled = Some(course.settled_at(facts)).filter(|_| course.reached(facts) < Reached::Settled);
    if let Some(at) = again.max(settled) {
        course.wakes.push((at, "the baseline is due to lose pods".into()));
        return one.pods.wanted;
    }
    if one.pods.exist > one.pods.wanted {
        return one.pods.wanted;
    }
    let beside = facts.baselines.iter().filter(|other| other.stable == one.stable).map(|other| other.pods.wanted);
    let all = facts.pods_of(&one.stable).wanted + beside.sum::<i32>();
    (one.pods.wanted - (all / 4).max(1)).max(least)
}
