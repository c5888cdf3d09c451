//! Decides what to do next: the one door is [`plan`]. Pure and total: the same input gives the same plan, nothing fails.
//!
//! `plan` knows no client, clock, randomness or log. Read this file, then `observed` (what it may know), `action` (what it
//! can do), and the parts in the order in which `plan` calls them.

pub mod action;
pub mod analysis;
pub mod attempt;
pub mod baseline;
pub mod command;
pub mod condition;
pub mod contest;
pub mod cost;
pub mod counted;
pub mod course;
pub mod events;
pub mod force;
pub mod gate;
pub mod invariant;
pub mod job;
pub mod json_path;
pub mod measurement;
pub mod narrate;
pub mod objects;
pub mod observed;
pub mod preset;
pub mod promotion;
pub mod ratio;
pub mod restart;
pub mod retention;
pub mod revision;
pub mod role;
pub mod route;
pub mod scale;
pub mod snapshot;
pub mod status;
pub mod step;
pub mod strategy;
pub mod tell;
pub mod template;
pub mod traffic;
pub mod weigh;
pub mod weight;
pub mod workload;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::action::Action;
use self::course::{Course, Facts};
use self::invariant::Violation;
use self::measurement::{Measurement, Query};
use self::narrate::Note;
use self::observed::Observed;
use self::route::{Change, Question};
use self::strategy::{Managed, Routing, Strategy};
use self::traffic::{Reached, Wanted};
use crate::api::status::{Phase, RevisionStatus, RolloutStatus};
use crate::api::watched::ServicePort;

/// All there is to do, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The writes besides the status, in order; after a failed one the rest is left.
    pub actions: Vec<Action>,
    /// The whole next status.
    pub status: RolloutStatus,
    /// Whether the status is written before the actions, because it decides what no later snapshot could show.
    pub is_status_first: bool,
    /// Whether this plan withdraws the canary in progress, by an abort, a revert or a newer revision: its route writes go
    /// out even if the status write fails.
    pub withdraws_canary: bool,
    /// Queries that are due; their answers come with a later pass.
    pub queries: Vec<Query>,
    /// The route that the proxies have not acknowledged yet, where they can be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// What to tell people.
    pub notes: Vec<Note>,
    /// When to look again if nothing changes, and why.
    pub wake: Option<Wake>,
    /// Whether the pods themselves are to be watched, because they are being restarted or their metadata is edited.
    pub watches_pods: bool,
}

/// When to look again, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// Decides what to do next.
pub fn plan(observed: &Observed, measured: &[Measurement], now: Timestamp) -> Plan {
    let strategy = strategy_at(observed, Some(now));
    decide(&Facts::of(observed, &strategy, now), measured)
}

/// Decides what to do next, and what of it breaks an invariant: nothing, or there is a bug.
pub fn checked(observed: &Observed, measured: &[Measurement], now: Timestamp) -> (Plan, Vec<Violation>) {
    let strategy = strategy_at(observed, Some(now));
    let facts = Facts::of(observed, &strategy, now);
    let plan = decide(&facts, measured);
    let violations = invariant::check(&facts, &plan);
    (plan, violations)
}

/// What of a plan breaks an invariant, whoever made it.
pub fn violations(observed: &Observed, plan: &Plan, now: Timestamp) -> Vec<Violation> {
    let strategy = strategy_at(observed, Some(now));
    invariant::check(&Facts::of(observed, &strategy, now), plan)
}

/// The spec of a snapshot's Rollout, understood.
pub fn strategy_of(observed: &Observed) -> Strategy {
    strategy_at(observed, None)
}

/// The same at a time, when what has just changed is left alone.
fn strategy_at(observed: &Observed, now: Option<Timestamp>) -> Strategy {
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    let mut strategy = strategy::of(namespace, &observed.rollout.spec.value(), &observed.workload);
    snapshot::resolve(observed, &mut strategy, now);
    strategy
}

fn decide(facts: &Facts<'_>, measured: &[Measurement]) -> Plan {
    let mut course = course::track(facts);
    name_obstacles(facts, &mut course);
    if facts.is_leaving {
        course::remember_resting(facts, &mut course);
        command::obey(facts, &mut course);
    } else {
        attempt::begin(facts, &mut course);
        promotion::reject(facts, &mut course);
        promotion::retry(facts, &mut course);
        course::remember_resting(facts, &mut course);
        step::reread(facts, &mut course);
        gate::judge(facts, &mut course, measured);
        command::obey(facts, &mut course);
        hold_by_people(facts, &mut course);
        step::deadline(facts, &mut course);
        step::advance(facts, &mut course);
        gate::ask(facts, &mut course);
    }
    scale::watch_draining(facts, &mut course);
    scale::watch_shrinking(facts, &mut course);
    baseline::watch(facts, &mut course);

    let change = route_change(facts, &mut course);
    let mut actions = route_actions(facts, &mut course, change.as_ref());
    let is_restored = restore(facts, &mut course);
    let holds_finalizer = is_in_flight(facts, &course);
    if holds_finalizer && !facts.has_finalizer() && !facts.is_leaving {
        actions.push(Action::AddFinalizer);
    }
    actions.extend(scale::actions(facts, &mut course));
    actions.extend(baseline::actions(facts, &mut course, &actions));
    actions.extend(workload::actions(facts, &mut course));
    actions.extend(restart::actions(facts, &mut course));
    actions.extend(leave(facts, &course, &actions));
    if !holds_finalizer && facts.has_finalizer() && !facts.is_leaving {
        actions.push(Action::RemoveFinalizer);
    }
    actions.extend(command::answers(facts, &mut course));
    actions.extend(job::actions(facts, &mut course));
    actions.extend(role::actions(facts, &mut course, &actions));
    settle(facts, &mut course, is_restored);
    complete(facts, course, actions)
}

/// Names what keeps anything new from beginning: a faulty spec, a route that cannot be used, a refused write.
fn name_obstacles(facts: &Facts<'_>, course: &mut Course) {
    for fault in &facts.strategy.faults {
        course.hold("InvalidSpec", fault.to_string());
    }
    workload::track(facts, course);
    snapshot::track(facts, course);
    for collision in &facts.route.collisions {
        course.hold("InvalidSpec", collision.clone());
    }
    for problem in &facts.problems {
        course.wait(problem.reason, problem.message.clone());
    }
    if let Some(refusal) = &facts.observed.refusal {
        course.wait("WriteRefused", refusal.clone());
    }
    promotion::hold(facts, course);
}

/// Holds that people asked for, named while there is something to hold.
fn hold_by_people(facts: &Facts<'_>, course: &mut Course) {
    promotion::name_holds(facts, course);
    let is_wanted = facts.target.as_deref() != course.stable();
    if facts.strategy.paused && is_wanted && !course.has_failed(facts) {
        course.hold("PausedBySpec", "spec.paused is true; set it to false to go on");
    }
    if let Some(pause) = course.status.paused.clone() {
        course.hold("PausedByAction", format!("paused by {}: {}; resume to go on", pause.by, pause.why));
    }
}

/// The one change of the route.
fn route_change(facts: &Facts<'_>, course: &mut Course) -> Option<Change> {
    facts.strategy.routing.as_ref()?;
    if facts.is_leaving && facts.route.stable.is_none() && facts.route.canary.is_none() {
        return None;
    }
    let route = course.route();
    let peace = contest::peace_at(&route);
    let (front, front_passed) = (course.front(facts), course.front_passed(facts));
    let is_short = facts.route.weight() < course.permitted(facts) || !facts.route.has_front(&front);
    let is_contested = peace.is_some_and(|at| at > facts.now) && is_short;
    if let Some(at) = peace.filter(|_| is_contested) {
        course.wait_until("RouteContested", "somebody else changes the route; see condition RouteContested", at);
    }
    let lacks = stable_lacks(facts, course);
    let stable = course
        .stable()
        .filter(|stable| facts.pods_of(stable).ready > 0 || facts.route.stable.as_deref() == Some(*stable));
    let canary = course.canary().map(|canary| canary.hash.clone()).filter(|_| !facts.is_leaving);
    let is_drained = course.drained_at(facts).is_some_and(|at| at <= facts.now);
    let may_act =
        facts.has_finalizer() && facts.strategy.faults.is_empty() && facts.route.collisions.is_empty() && !is_contested;
    // Their names are on record first, so that they are found again whatever becomes of the steps.
    let recorded = facts.observed.rollout.status.route.as_ref().map_or(&[][..], |route| &route.managed);
    let are_recorded = front.iter().all(|one| recorded.contains(&one.name));
    let has_no_stable = stable.is_some() && !course.has_ready_stable(facts);
    let wanted = Wanted {
        anchor: stable,
        canary: canary.as_deref(),
        goal: course.permitted(facts),
        pods_wanted: course.pods_carrying(facts),
        pods_now: course.pods_at(facts, facts.route.weight().min(course.permitted(facts))),
        front: &front,
        front_passed: &front_passed,
        may_lead: may_act && are_recorded && (!course.is_held || front == front_passed),
        may_raise: may_act && !(course.is_held && course.permitted(facts) > course.weight_passed()),
        pods: &facts.pods,
        replicas: facts.replicas,
        stable_lacks: lacks,
        reached: course.reached(facts),
        drained: is_drained,
        owned: facts.owns_route(),
        resting: route.resting.as_ref(),
    };
    let (change, waiting) = traffic::next(&facts.route, &wanted);
    let change = change.filter(|change| !contest::leaves_alone(facts, course, change));
    // No weight moves with it, so that it waits for nothing.
    let moves_port = facts.route.port.is_wrong && !facts.is_leaving;
    let change = change.or_else(|| moves_port.then_some(Change::Port));
    if canary.is_some() && facts.route.canary == canary && facts.route.is_at(100) && has_no_stable {
        course.wait("StableNotReady", "stable has no ready pod; the canary has all traffic until it has");
    }
    if let Some((reason, message)) = waiting {
        match reason {
            "RouteSettling" => course.await_route(facts),
            "Draining" => {
                let at = course.drained_at(facts);
                course.wait_towards(facts.now, (reason, message), at);
            }
            _ => course.wait(reason, message),
        }
    }
    change
}

/// With `dynamicStableScale`: the weight that stable's ready pods cannot carry yet. Pods that do not come are waited for
/// as long as a canary's.
fn stable_lacks(facts: &Facts<'_>, course: &mut Course) -> i32 {
    let Some(stable) = course.stable().filter(|_| facts.strategy.dynamic_stable) else {
        return 0;
    };
    let lacks = 100 - weight::capacity(facts.pods_of(stable).ready, facts.replicas);
    let ended = course
        .status
        .history
        .last()
        .map(|outcome| analysis::later(outcome.ended_at.min(facts.now), facts.strategy.progress_deadline));
    let is_going = facts.route.canary.as_ref() != course.canary().map(|canary| &canary.hash);
    match ended.filter(|_| is_going && lacks > 0) {
        Some(until) if until <= facts.now => 0,
        Some(until) => {
            course.wakes.push((until, "stable's pods are waited for no longer".into()));
            lacks
        }
        None => lacks,
    }
}

/// The writes of a change, and what is remembered of it.
fn route_actions(facts: &Facts<'_>, course: &mut Course, change: Option<&Change>) -> Vec<Action> {
    if !facts.route.to_create.is_empty() && !facts.is_leaving && facts.strategy.faults.is_empty() {
        let create = |(name, ports): &(String, Vec<ServicePort>)| Action::CreateService {
            name: name.clone(),
            ports: ports.clone(),
        };
        return facts.route.to_create.iter().map(create).collect();
    }
    let (Some(change), Some(routing)) = (change, &facts.strategy.routing) else {
        return Vec::new();
    };
    if facts.problems.iter().any(|problem| problem.forbids(&facts.route)) {
        return Vec::new();
    }
    let actions = route::actions(facts.observed, routing, &facts.route, change);
    // Once it is mended, no snapshot shows that the proxies had another route until now.
    course.has_decided |= course.has_moved && !actions.is_empty();
    remember(facts, course, change, &actions);
    actions
}

/// What Serin asked for, so that a change by somebody else is told apart.
fn remember(facts: &Facts<'_>, course: &mut Course, change: &Change, actions: &[Action]) {
    let Some(route) = course.status.route.as_mut().filter(|_| !actions.is_empty()) else {
        return;
    };
    let names = |routes: &[Managed]| routes.iter().map(|route| route.name.clone()).collect();
    let kept = |stay: &[Managed]| names(&facts.route.fronts.first().map(|front| front.kept(stay)).unwrap_or_default());
    match change {
        Change::Weight { weight, stay } => {
            route.asked = *weight;
            route.asked_managed = kept(stay);
        }
        Change::Keep(stay) => route.asked_managed = kept(stay),
        Change::Front(routes) => route.asked_managed = names(routes),
        Change::Restore(_) | Change::Plain | Change::ToSubsets => {
            route.asked_managed.clear();
            return;
        }
        Change::Subsets { stable, canary } => {
            contest::remember(facts, route, (stable, canary), !course.has_decided);
            return;
        }
        Change::Unlabel | Change::Port => return,
    }
    // A status that is written first speaks of a write that may fail.
    route.unseen = !course.has_decided;
}

/// Whether the route is away from its rest, so that a deletion must bring it back first.
fn is_in_flight(facts: &Facts<'_>, course: &Course) -> bool {
    if facts.strategy.ratio.is_some() {
        return false;
    }
    if course.canary().is_some() && !facts.is_leaving {
        return true;
    }
    let Some(stable) = course.stable() else {
        return false;
    };
    if facts.route.legs.is_empty() || facts.route.is_plain {
        return false;
    }
    // Nothing of Serin's is in the route yet.
    let is_untouched = facts.route.stable.is_none() && facts.route.canary.is_none() && course.route().resting.is_none();
    if (facts.replicas == 0 || is_untouched) && !facts.route.carries() {
        return false;
    }
    // A deletion has no later pass to mend what somebody writes meanwhile: it remembers the weights to the end.
    let has_come_back =
        |resting| facts.is_leaving && course.reached(facts) >= Reached::Due && facts.route.resting() == resting;
    let is_resting = match course.route().resting {
        _ if facts.owns_route() => !facts.route.carries(),
        resting => resting.is_none_or(has_come_back),
    };
    !(facts.route.rests_on(stable) && is_resting && !facts.route.leads())
}

/// What remains of a deletion once the route is back: in-place labels, then the finalizer.
fn leave(facts: &Facts<'_>, course: &Course, planned: &[Action]) -> Vec<Action> {
    if !facts.is_leaving || !facts.has_finalizer() {
        return Vec::new();
    }
    let Some(routing) = &facts.strategy.routing else {
        return vec![Action::RemoveFinalizer];
    };
    if facts.route.legs.is_empty() || !facts.can_write_route() {
        return vec![Action::RemoveFinalizer];
    }
    let is_unlabelled = facts.route.stable.is_none() && facts.route.canary.is_none();
    if is_unlabelled || !course.has_ready_stable(facts) {
        return leave_together(facts, course, routing);
    }
    let others =
        facts.pods.iter().any(|(hash, pods)| course.stable() != Some(hash) && (pods.wanted > 0 || pods.exist > 0));
    let others = others || !facts.baselines.is_empty();
    if is_in_flight(facts, course) || others || !planned.is_empty() || course.reached(facts) < Reached::Due {
        return Vec::new();
    }
    let unlabel = route::actions(facts.observed, routing, &facts.route, &Change::Unlabel);
    if unlabel.is_empty() { vec![Action::RemoveFinalizer] } else { unlabel }
}

/// What remains of a deletion while stable has no ready pod. Once both subsets hold the same pods, the weights decide
/// nothing any more and go back to what Git held; what Serin owns goes with the Rollout.
fn leave_together(facts: &Facts<'_>, course: &Course, routing: &Routing) -> Vec<Action> {
    if facts.owns_route() {
        return vec![Action::RemoveFinalizer];
    }
    let change = |change: &Change| route::actions(facts.observed, routing, &facts.route, change);
    let unlabel = change(&Change::Unlabel);
    let serving = facts.route.canary.clone().filter(|canary| facts.pods_of(canary).ready > 0);
    let together = match serving.filter(|serving| facts.route.stable.as_ref() != Some(serving)) {
        _ if !unlabel.is_empty() => unlabel,
        Some(hash) => change(&Change::Subsets { stable: hash.clone(), canary: hash }),
        None => Vec::new(),
    };
    let restore = course.route().resting.map_or_else(Vec::new, |resting| change(&Change::Restore(resting)));
    let next = if together.is_empty() { restore } else { together };
    if next.is_empty() {
        return vec![Action::RemoveFinalizer];
    }
    if course.reached(facts) >= Reached::Due { next } else { Vec::new() }
}

/// Forgets the weights to restore once they are in force. Whether the route has them.
fn restore(facts: &Facts<'_>, course: &mut Course) -> bool {
    let is_wanted = course.canary().is_none() || facts.is_leaving;
    let rests = course.stable().is_some_and(|stable| facts.route.rests_on(stable));
    let has_weights = course.route().resting.is_some_and(|resting| resting == facts.route.resting());
    let is_restored = is_wanted && rests && has_weights && !facts.route.leads();
    let is_due = course.reached(facts) >= Reached::Due;
    if let Some(route) = course.status.route.as_mut().filter(|_| is_restored && is_due && !facts.is_leaving) {
        route.resting = None;
    }
    is_restored
}

/// Names what a rollout at rest still waits for.
fn settle(facts: &Facts<'_>, course: &mut Course, is_restored: bool) {
    let stable = course.stable().map(str::to_owned);
    let changes_ratio = facts.strategy.ratio.is_some() && course.canary().is_some();
    let observed_weight = status::observed_weight(facts, course);
    let is_told = |canary: &RevisionStatus| canary.weight_in_force == Some(observed_weight);
    let is_awaited = is_restored
        || is_in_flight(facts, course)
        || changes_ratio
        || facts.route.is_plain
        || facts.is_leaving
        || course.status.canary.as_ref().is_some_and(|canary| !is_told(canary));
    let is_silent = force::acknowledgement(facts).is_some() && course.reached(facts) < Reached::Settled;
    if is_awaited || is_silent {
        course.wakes.push((course.in_force_at(facts), "the route is due to be in force".into()));
    }
    if is_silent {
        course.wakes.push((course.settled_at(facts), "silent proxies are waited for no longer".into()));
    }
    if let Some(at) = course.drained_at(facts).filter(|at| *at > facts.now && is_in_flight(facts, course)) {
        course.wakes.push((at, "the canary is due to be drained".into()));
    }
    if course.status.canary.is_none() && !facts.is_leaving {
        let hash = stable.or_else(|| facts.target.clone());
        let available = hash.map_or(0, |hash| facts.pods_of(&hash).available);
        if available < facts.replicas && facts.strategy.faults.is_empty() {
            course.wait("PodsNotReady", format!("{available} of {} pods are available", facts.replicas));
        } else if course.stable().is_some()
            && is_in_flight(facts, course)
            && !course.waits.iter().any(|wait| ["RouteSettling", force::UNACKNOWLEDGED].contains(&wait.reason))
        {
            let at = course.in_force_at(facts);
            course.wait_towards(facts.now, ("RouteSettling", "the route is on its way to rest".into()), Some(at));
        } else if course.stable().is_some() && is_silent {
            course.await_route(facts);
        }
    }
}

/// Puts the plan together.
fn complete(facts: &Facts<'_>, course: Course, actions: Vec<Action>) -> Plan {
    let before = &facts.observed.rollout.status;
    let is_status_first = course.has_decided;
    let withdraws_canary = withdraws_canary(before, &course);
    let queries = course.queries.clone();
    let question = force::question(facts, &course);
    let wake = course
        .wakes
        .iter()
        .filter(|(at, _)| *at > facts.now)
        .min()
        .map(|(at, reason)| Wake { at: *at, reason: reason.clone() });
    let wanted_weight = course.permitted(facts);
    let watches_pods = restart::under_way(facts, &course).is_some() || role::is_under_way(facts, &course);
    let mut status = status::finish(facts, course, wanted_weight);
    narrate::remember(before, &mut status, facts.now);
    let notes = narrate::narrate(before, &status);
    status.events = events::record(before, &status, &notes, facts.now);
    Plan { actions, status, is_status_first, withdraws_canary, queries, question, notes, wake, watches_pods }
}

/// Whether a canary was in progress that is no longer, and has not become stable.
fn withdraws_canary(before: &RolloutStatus, course: &Course) -> bool {
    let hash = |status: &RolloutStatus| status.in_progress().map(|canary| canary.hash.clone());
    let canary = hash(before);
    canary.is_some() && hash(&course.status) != canary && course.stable() != canary.as_deref()
}

impl Plan {
    /// Whether there is nothing to do: no write, no status change, no query.
    pub fn is_idle(&self, before: &RolloutStatus) -> bool {
        self.actions.is_empty() && self.queries.is_empty() && self.status == *before
    }

    /// The phase that the plan leads to.
    pub fn phase(&self) -> Phase {
        self.status.phase.unwrap_or(Phase::Progressing)
    }
}
