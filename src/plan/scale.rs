//! How many pods each revision has, and when a revision without traffic loses them. S4.

use std::cmp::Reverse;

use super::action::Action;
use super::analysis::later;
use super::course::{Course, Facts};
use super::force;
use super::ratio;
use super::role;
use super::snapshot;
use super::traffic::Reached;
use super::weight::pods_for;
use crate::api::status::{Draining, OutcomeKind};

/// Remembers since when a revision gets no traffic.
pub fn watch_draining(facts: &Facts<'_>, course: &mut Course) {
    let serving: Vec<String> = serving(facts, course);
    for (hash, pods) in &facts.pods {
        let is_known = course.status.draining.iter().any(|draining| draining.hash == *hash);
        if pods.wanted > 0 && !is_known && !serving.contains(hash) && course.stable().is_some() {
            course.status.draining.push(Draining {
                hash: hash.clone(),
                reason: OutcomeKind::Superseded,
                since: None,
                acknowledged: None,
            });
        }
    }
    let route = &facts.route;
    let acknowledged = course.route().acknowledged;
    // A subset without its label selects the pods of every revision; so does the Service, to the plain host or without a route.
    let selects_all = route.is_plain
        || route.legs.is_empty()
        || route.stable.is_none()
        || (route.canary.is_none() && route.carries());
    course.status.draining.retain(|draining| {
        let has_pods = facts.pods.get(&draining.hash).is_some_and(|pods| pods.wanted > 0 || pods.exist > 0);
        has_pods && !serving.contains(&draining.hash)
    });
    for draining in &mut course.status.draining {
        let is_in_canary_subset = route.canary.as_deref() == Some(draining.hash.as_str());
        let is_in_stable_subset = route.stable.as_deref() == Some(draining.hash.as_str());
        // Who wants no pods wants no traffic; where pods share it by their number, all have some until they are gone.
        let is_routed = facts.replicas > 0 && facts.strategy.ratio.is_none();
        let has_traffic = is_routed && (selects_all || is_in_stable_subset || (is_in_canary_subset && route.carries()));
        draining.since = if has_traffic { None } else { draining.since.or(Some(facts.now)) };
        draining.acknowledged = if has_traffic { None } else { draining.acknowledged.or(acknowledged) };
    }
}

/// Remembers since when a revision has fewer pods than before, while there is a canary.
pub fn watch_shrinking(facts: &Facts<'_>, course: &mut Course) {
    let has_canary = course.canary().is_some() && facts.strategy.ratio.is_none() && !facts.is_leaving;
    for side in [&mut course.status.stable, &mut course.status.canary].into_iter().flatten() {
        let has_shrunk = (1..side.replicas).contains(&facts.pods_of(&side.hash).wanted);
        let at = if has_shrunk { Some(facts.now) } else { side.shrunk_at };
        side.shrunk_at = at.filter(|_| has_canary);
    }
}

/// Revisions that keep their pods: stable, the canary in progress, the only one of a first deployment.
fn serving(facts: &Facts<'_>, course: &Course) -> Vec<String> {
    let first = facts.target.clone().filter(|_| course.stable().is_none());
    let canary = course.canary().filter(|_| !facts.is_leaving).map(|canary| canary.hash.clone());
    course.stable().map(str::to_owned).into_iter().chain(canary).chain(first).collect()
}

/// The ReplicaSets to create, scale and delete.
pub fn actions(facts: &Facts<'_>, course: &mut Course) -> Vec<Action> {
    let mut actions = Vec::new();
    if facts.strategy.replicas.is_none() && !facts.is_leaving {
        actions.push(Action::SetReplicas { replicas: facts.replicas });
    }
    let stable = course.stable().map(str::to_owned);
    match (&stable, &facts.target, facts.strategy.ratio) {
        (Some(_), _, Some(ratio)) if !facts.is_leaving => {
            actions.extend(ratio::actions(facts, course, ratio));
            actions.extend(surplus(facts, course));
            actions.extend(snapshot::surplus(facts));
            return actions;
        }
        (Some(stable), _, _) => {
            let pods = stable_pods(facts, course, stable);
            actions.extend(set(facts, course, stable, pods));
        }
        (None, Some(target), _) if !course.is_held => actions.extend(set(facts, course, target, facts.replicas)),
        (None, _, _) => {}
    }
    if let Some(canary) = course.canary().map(|canary| canary.hash.clone()).filter(|_| !facts.is_leaving) {
        actions.extend(canary_pods(facts, course, &canary));
    }
    actions.extend(drained(facts, course));
    actions.extend(surplus(facts, course));
    actions.extend(snapshot::surplus(facts));
    actions
}

/// Stable's pods: all, or with `dynamicStableScale` what its share needs, now and at the weight that is wanted.
/// It grows at once, and shrinks little by little when the route is in force.
fn stable_pods(facts: &Facts<'_>, course: &mut Course, stable: &str) -> i32 {
    let Some(canary) = course.canary().filter(|_| facts.strategy.dynamic_stable && !facts.is_leaving) else {
        return facts.replicas;
    };
    let is_routed = facts.route.canary.as_ref() == Some(&canary.hash) && facts.route.stable.as_deref() == Some(stable);
    let weight = if is_routed { facts.route.weight().min(course.permitted(facts)) } else { 0 };
    // One pod stays at 100% too: an abort has somewhere to go at once.
    let needed = facts.at_least(pods_for(100 - weight, facts.replicas).max(1.min(facts.replicas)));
    // Those that nobody asks for any more go at once, as without a canary.
    needed.max(kept(facts, course, stable, needed).min(facts.replicas))
}

/// The pods that a revision with requests keeps for now, of those above what it needs: a request that a proxy sends to a pod
/// that has just gone is tried again at two others, so that most must be there until every proxy knows that it has.
fn kept(facts: &Facts<'_>, course: &mut Course, hash: &str, needed: i32) -> i32 {
    let pods = facts.pods_of(hash);
    if course.reached(facts) < Reached::Settled || pods.exist > pods.wanted {
        return pods.wanted;
    }
    let mut sides = [&course.status.stable, &course.status.canary].into_iter().flatten();
    let shrunk_at = sides.find(|side| side.hash == hash).and_then(|side| side.shrunk_at);
    let next = shrunk_at.map(|at| later(at, facts.observed.settings.route_wait())).filter(|at| *at > facts.now);
    match next.filter(|_| pods.wanted > needed) {
        Some(at) => {
            course.wakes.push((at, format!("revision {hash} is due to lose more pods")));
            pods.wanted
        }
        None => pods.wanted - shrinks_by(pods.wanted),
    }
}

/// How many of so many pods may go at a time: a quarter, but one at least.
fn shrinks_by(pods: i32) -> i32 {
    (pods / 4).max(1)
}

/// The canary's pods: as many as the next weight needs, and never fewer than the weight in force has.
fn canary_pods(facts: &Facts<'_>, course: &mut Course, hash: &str) -> Option<Action> {
    let current = facts.pods.get(hash).map_or(0, |pods| pods.wanted);
    if facts.route.is_plain {
        return None;
    }
    let carried = course.pods_at(facts, facts.route.weight());
    let has_weight = facts.route.canary.as_deref() == Some(hash) && facts.route.weight() > 0;
    // A header or mirror route that is not wanted any more has its requests until it is out of force.
    let leads = facts.route.canary.as_deref() == Some(hash) && facts.route.leads() && course.front(facts).is_empty();
    let led = if leads { current } else { 0 };
    // What somebody else has written is carried by the pods that there are, until it is corrected.
    let wanted = course.pods_wanted(facts).max(if has_weight { carried.min(current) } else { 0 }).max(led);
    // A revision that is rolled back to right after a promotion may still be in the stable subset.
    let serves = facts.route.stable.as_deref() == Some(hash);
    // The last pod stays until no request is left.
    let is_drained = course.drained_at(facts).is_some_and(|at| at <= facts.now);
    // Who wants no pods at all keeps none: stable will have no ready pod either.
    let may_shrink = facts.replicas == 0
        || (course.reached(facts) >= Reached::Settled
            && course.has_ready_stable(facts)
            && !serves
            && (wanted > 0 || is_drained));
    // Subsets that somebody has taken the labels from select every pod.
    let is_unlabelled = !facts.route.legs.is_empty() && facts.route.canary.is_none();
    let is_due = course.permitted(facts) > 0;
    let has_requests = facts.replicas > 0 && (has_weight || leads || is_unlabelled || is_due);
    let pods = if !may_shrink {
        wanted.max(current)
    } else if has_requests {
        wanted.max(kept(facts, course, hash, wanted))
    } else {
        wanted
    };
    set(facts, course, hash, pods)
}

/// Creates or scales the ReplicaSet of a revision; only the template's revision can be created.
pub fn set(facts: &Facts<'_>, course: &Course, hash: &str, replicas: i32) -> Option<Action> {
    let number = [&course.status.stable, &course.status.canary]
        .into_iter()
        .flatten()
        .find(|one| one.hash == hash)
        .map(|one| one.revision);
    // Pods that come later need it as well.
    let has_pods = replicas > 0 || !facts.pods.contains_key(hash);
    if let Some(copy) = snapshot::missing(facts).filter(|_| has_pods && facts.target.as_deref() == Some(hash)) {
        return Some(copy);
    }
    match facts.pods.get(hash) {
        Some(pods) => {
            let revision = number.filter(|number| *number != pods.revision);
            (pods.wanted != replicas || revision.is_some()).then(|| Action::ScaleReplicaSet {
                name: pods.name.clone(),
                generation: pods.generation,
                number: pods.revision,
                replicas,
                revision,
            })
        }
        None if facts.target.as_deref() == Some(hash) => {
            let rollout = facts.observed.rollout.metadata.name.as_deref().unwrap_or_default();
            let newest = facts.pods.values().map(|pods| pods.revision).max().unwrap_or(0);
            let revision = number.unwrap_or(newest + 1);
            Some(Action::CreateReplicaSet {
                name: format!("{rollout}-{hash}"),
                hash: hash.to_owned(),
                replicas,
                revision,
                metadata: role::wanted(facts, course, hash).cloned().unwrap_or_default(),
            })
        }
        None => None,
    }
}

/// Scales down what has been without traffic for its delay, and what no subset selects any more.
fn drained(facts: &Facts<'_>, course: &mut Course) -> Vec<Action> {
    let settings = &facts.observed.settings;
    let mut actions = Vec::new();
    for draining in course.status.draining.clone() {
        let pods = facts.pods_of(&draining.hash);
        let is_lost = facts.is_lost(&draining);
        let since = if is_lost { course.route().since } else { draining.since };
        let Some(since) = since.filter(|_| pods.wanted > 0) else {
            continue;
        };
        let delay = match draining.reason {
            _ if facts.is_leaving || is_lost => Some(jiff::SignedDuration::ZERO),
            OutcomeKind::Aborted => facts.strategy.abort_scale_down_delay,
            OutcomeKind::Promoted | OutcomeKind::Superseded | OutcomeKind::Reverted => {
                Some(facts.strategy.scale_down_delay)
            }
        };
        let Some(delay) = delay else { continue };
        let acknowledged = draining.acknowledged.filter(|_| !is_lost);
        let at = later(force::unused_at(facts, since, acknowledged), delay.max(settings.drain()));
        if facts.now < at {
            course.wakes.push((at, format!("revision {} is due to be scaled down", draining.hash)));
            continue;
        }
        if facts.route.selects(&draining.hash) && facts.replicas > 0 && !is_lost {
            continue;
        }
        if course.reached(facts) < Reached::Settled {
            course.wakes.push((course.settled_at(facts), "the route is due to be in force".into()));
            continue;
        }
        actions.push(Action::ScaleReplicaSet {
            name: pods.name,
            generation: pods.generation,
            number: pods.revision,
            replicas: 0,
            revision: None,
        });
    }
    actions
}

/// Old ReplicaSets without pods beyond the history limit, the oldest first.
fn surplus(facts: &Facts<'_>, course: &Course) -> Vec<Action> {
    let kept =
        [course.stable(), course.status.canary.as_ref().map(|canary| canary.hash.as_str()), facts.target.as_deref()];
    let mut old: Vec<_> = facts
        .pods
        .iter()
        .filter(|(hash, pods)| {
            pods.wanted == 0 && pods.exist == 0 && !kept.contains(&Some(hash.as_str())) && !facts.route.selects(hash)
        })
        .map(|(_, pods)| pods)
        .collect();
    old.sort_by_key(|pods| Reverse(pods.revision));
    old.into_iter()
        .skip(facts.strategy.history_limit)
        .map(|pods| Action::DeleteReplicaSet { name: pods.name.clone(), version: pods.version.clone() })
        .collect()
}
