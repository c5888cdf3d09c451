//! How a run ended, and whether it may have ended so.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mesh::ROUTES;
use super::stage::Left;
use super::story::{Event, Pods, Story};
use crate::api::names;
use crate::api::status::{Phase, RolloutStatus};

/// How a Rollout ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// In one word.
    pub outcome: Outcome,
    /// The status' sentence.
    pub message: String,
    /// The revision that Git asks for.
    pub wanted: String,
    /// The stable revision.
    pub stable: Option<String>,
    /// Everything else that must be the same when faults change nothing but the delay.
    pub rest: BTreeMap<String, Value>,
}

/// How a Rollout ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// What Git asks for is stable.
    Promoted,
    /// What Git asks for was aborted.
    Aborted,
    /// It waits for a person.
    Waiting,
    /// It was deleted, and is gone.
    Deleted,
    /// None of these.
    Stuck,
}

/// Says how a run ended, and tells the model what must not be.
pub fn judge(story: &Story, left: &mut Left) -> End {
    let rollout = left.cluster.list("rollouts").into_iter().next().unwrap_or_default();
    let status = RolloutStatus::deserialize(&rollout["status"]).unwrap_or_default();
    let wanted = left.model.wanted().unwrap_or_default().to_owned();
    let stable = status.stable.as_ref().map(|stable| stable.hash.clone());
    let waits_for_people =
        ["AwaitingApproval", "Held", "PausedByStep", "PausedBySpec", "PausedByAction", "Inconclusive", "NoReplicas"];
    let is_waiting = status.blocked_by.iter().any(|wait| waits_for_people.contains(&wait.reason.as_str()));
    let is_rejected = status.blocked_by.iter().any(|wait| wait.reason == "Rejected");
    // Pods of a promoted revision may go on to misbehave as the scenario says.
    let is_well = status.phase == Some(Phase::Healthy) || !story.heals;
    let is_deleted =
        story.events.iter().any(|at| matches!(&at.event, Event::Delete(plural, _) if plural == "rollouts"));
    let outcome = if is_deleted && rollout.is_null() {
        Outcome::Deleted
    } else if is_well && !is_deleted && status.canary.is_none() && stable.as_deref() == Some(&wanted) {
        Outcome::Promoted
    } else if status.aborted.as_ref().is_some_and(|aborted| aborted.hash == wanted) {
        Outcome::Aborted
    } else if (status.phase == Some(Phase::Paused) && is_waiting) || is_rejected {
        Outcome::Waiting
    } else {
        Outcome::Stuck
    };
    if !story.heals {
        // What people's scenarios lead to is theirs to judge.
    } else if outcome == Outcome::Stuck {
        left.model.breaks("liveness", format!("at the end it is {:?}: {}", status.phase, status.message));
    } else if !left.is_at_rest && (outcome != Outcome::Waiting || !left.is_still) {
        left.model.breaks("rest", format!("it never comes to rest: {}", status.message));
    }
    check_questions(left);
    check_jobs(story, left, outcome);
    if outcome == Outcome::Deleted {
        check_routes(left);
    } else {
        check_abort(story, left, &status, &wanted);
    }
    if story.heals && matches!(outcome, Outcome::Promoted | Outcome::Aborted) && left.is_at_rest {
        check_rest(left, &rollout, stable.as_deref());
        check_routes(left);
    }
    check_traffic(story, left);
    End { outcome, message: status.message.clone(), wanted, stable, rest: rest(left) }
}

/// An abort has a reason that the story gives; a metric that failed is followed by one.
fn check_abort(story: &Story, left: &mut Left, status: &RolloutStatus, wanted: &str) {
    let answered = left.prometheus.answered();
    let (must, may) = (left.model.must_abort(wanted, &answered), left.model.may_abort(wanted, &answered));
    let events = || story.events.iter().map(|at| &at.event);
    let has_acted =
        |action: &str| events().any(|event| matches!(event, Event::Act(own) if own.split('@').next() == Some(action)));
    match status.aborted.as_ref().filter(|aborted| aborted.hash == wanted) {
        None => {
            let is_excused = has_acted("promoteFull") || has_acted("promote") || status.phase == Some(Phase::Paused);
            if must && !is_excused {
                left.model.breaks("liveness", format!("{wanted} is not aborted, and its metric failed"));
            }
        }
        Some(aborted) => {
            let has_reason = match aborted.reason.as_str() {
                // A clock that jumps begins analyses anew in the middle, with what they have counted.
                "AnalysisFailed" => may || events().any(|event| matches!(event, Event::ClockJump(_))),
                "AbortedByAction" => has_acted("abort"),
                "Rejected" => left.model.was_rejected(wanted),
                "ProgressDeadlineExceeded" => {
                    !is_gentle(story) || events().any(|event| matches!(event, Event::Pods(..)))
                }
                _ => false,
            };
            if !has_reason {
                left.model.breaks("end", format!("aborted without reason: {} {}", aborted.reason, aborted.message));
            }
        }
    }
}

/// A controller asks nothing twice: answers are kept until they are recorded, or the Rollout is gone.
fn check_questions(left: &mut Left) {
    let mut asked = std::collections::BTreeSet::new();
    for answered in left.prometheus.answered() {
        let is_new = asked.insert((answered.asker, answered.id.clone()));
        if !is_new && !left.model.was_gone(answered.asked_at) {
            left.model.breaks("once", format!("{} is asked twice by the same controller", answered.id));
        }
    }
}

/// A measurement has one Job at most. At rest none runs, and of those that are over as many are left as are kept.
fn check_jobs(story: &Story, left: &mut Left, outcome: Outcome) {
    let twice: Vec<String> = left.jobs.twice().map(str::to_owned).collect();
    twice.into_iter().for_each(|id| left.model.breaks("once", format!("the Job of {id} ran twice")));
    let jobs = left.cluster.list("jobs");
    if outcome == Outcome::Deleted && !jobs.is_empty() {
        left.model.breaks("rest", format!("{} Jobs are left of a Rollout that is gone", jobs.len()));
    }
    if !story.heals || !left.is_at_rest || outcome == Outcome::Waiting {
        return;
    }
    for job in jobs.iter().filter(|job| job["status"]["conditions"].is_null()) {
        left.model.breaks("rest", format!("Job {} runs for nothing", job["metadata"]["name"]));
    }
    let kept = |job: &Value| job["metadata"]["annotations"][names::MEASUREMENTS_KEPT].as_str()?.parse().ok();
    let most: usize = jobs.iter().filter_map(|job| kept(job)).max().unwrap_or(0);
    if jobs.len() > most {
        left.model.breaks("rest", format!("{} Jobs are left, and {most} are kept", jobs.len()));
    }
}

/// At rest stable has all, nobody else has pods.
fn check_rest(left: &mut Left, rollout: &Value, stable: Option<&str>) {
    let hash = |set: &Value| set["metadata"]["labels"][names::REVISION_HASH].as_str().unwrap_or_default().to_owned();
    for set in left.cluster.list("replicasets") {
        let own = hash(&set);
        if !set["metadata"]["labels"][names::BASELINE].is_null() {
            left.model.breaks("rest", format!("a baseline of {own} is left"));
        }
        if Some(own.as_str()) != stable && set["spec"]["replicas"].as_i64() != Some(0) {
            left.model.breaks("rest", format!("{own} keeps pods for nothing"));
        }
        let is_pending = !set["metadata"]["annotations"][names::POD_METADATA_PENDING].is_null();
        if Some(own.as_str()) == stable && is_pending {
            left.model.breaks("rest", format!("the pods of {own} are watched for ever"));
        }
    }
    for deployment in left.cluster.list("deployments") {
        if !left.model.holds_replicas() && deployment["spec"]["replicas"].as_i64() != Some(0) {
            left.model.breaks("rest", "the Deployment keeps pods for nothing".to_owned());
        }
    }
    let is_routed = rollout["spec"]["strategy"]["canary"].get("trafficRouting").is_some();
    for (revision, weight) in left.mesh.weights() {
        if is_routed && Some(revision.as_str()) != stable && *weight > 0.0 {
            left.model.breaks("rest", format!("{revision} still gets {weight:.0}%"));
        }
    }
}

/// Routes are as Git has them, and no header or mirror route is left.
fn check_routes(left: &mut Left) {
    let managed = left.model.managed.clone();
    for object in left.cluster.list("virtualservices") {
        let mut routes = object["spec"]["http"].as_array().into_iter().flatten();
        let is_left = |route: &&Value| route["name"].as_str().is_some_and(|name| managed.contains(name));
        if let Some(route) = routes.find(is_left).filter(|_| !left.model.is_late_for_the_end) {
            left.model.breaks("rest", format!("{} is left behind", route["name"]));
        }
    }
    for (plural, git) in left.model.git_routes() {
        let name = git["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let namespace = git["metadata"]["namespace"].as_str().unwrap_or_default();
        let is = left.cluster.get(&plural, namespace, &name).unwrap_or_default();
        if ["virtualservices", "httproutes"].contains(&plural.as_str())
            && is["spec"] != git["spec"]
            && !left.model.is_late_for_the_end
        {
            left.model.breaks("rest", format!("{plural} {name} is not as Git has it: {}", is["spec"]));
        }
    }
}

/// Whether no pod dies or is not ready that was, and no route is taken away: then no request may be lost.
pub fn is_gentle(story: &Story) -> bool {
    story.events.iter().all(|at| match &at.event {
        Event::Pods(_, Pods::Flapping(_) | Pods::Unready(_) | Pods::Crashing(_))
        | Event::Evict(..)
        | Event::Delete(..)
        | Event::RevertRoutes => false,
        Event::Act(action) => action != "restart",
        Event::Commit(spec) => spec.get("replicas").is_none_or(|replicas| replicas.as_i64() > Some(0)),
        // Git's weights are those at rest.
        Event::Apply(object) => object.get("kind").is_none_or(|kind| kind != "VirtualService" && kind != "HTTPRoute"),
        Event::Pods(_, Pods::ReadyAfter(_))
        | Event::Answers(_)
        | Event::Prometheus(_)
        | Event::Lag(..)
        | Event::DropWatches
        | Event::Expire(_)
        | Event::Outage(_)
        | Event::Kill(..)
        | Event::Stop(..)
        | Event::LeaseHangs(..)
        | Event::RefuseStatus(_)
        | Event::FreeLease
        | Event::ClockJump(_)
        | Event::IstiodAway(_)
        | Event::Silent(..) => true,
    })
}

fn check_traffic(story: &Story, left: &mut Left) {
    let lost = left.mesh.traffic.lost();
    if lost > 0.0 && is_gentle(story) {
        let told: Vec<String> =
            left.mesh.traffic.lost.iter().map(|(reason, requests)| format!("{requests:.0} {reason}")).collect();
        let first = left.mesh.traffic.first_lost.map_or(0, |first| first.as_secs());
        left.model.breaks("lost", format!("requests were lost, the first before {first} s: {}", told.join(", ")));
    }
}

/// What the cluster is at the end, besides versions and times.
fn rest(left: &Left) -> BTreeMap<String, Value> {
    let mut rest = BTreeMap::new();
    for plural in ROUTES {
        for object in left.cluster.list(plural) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            rest.insert(format!("{plural}/{name}"), object["spec"].clone());
        }
    }
    for set in left.cluster.list("replicasets") {
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        rest.insert(format!("replicasets/{name}"), set["spec"]["replicas"].clone());
    }
    rest
}
