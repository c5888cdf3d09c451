//! What the parts of a plan pass on: the facts of the snapshot, which never change, and the course, the plan in the making.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::action::Action;
use super::baseline::{self, Baseline};
use super::contest;
use super::force;
use super::measurement::Query;
use super::observed::Observed;
use super::ratio;
use super::revision::{self, Pods};
use super::route::{self, Problem, Route};
use super::strategy::{Managed, Routing, Scale, Step, Strategy};
use super::weight::pods_for;
use super::workload;
use crate::api::names;
use crate::api::status::{Decision, Draining, OutcomeKind, RevisionStatus, RolloutStatus, RouteStatus, WorkloadStatus};

/// Outcomes and decisions kept in the status.
const KEPT: usize = 10;

/// The snapshot, read once.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The snapshot.
    pub observed: &'a Observed,
    /// The spec, understood.
    pub strategy: &'a Strategy,
    /// The time.
    pub now: Timestamp,
    /// Hash of the template, where there is one.
    pub target: Option<String>,
    /// The Deployment that the template is read from.
    pub workload: Option<WorkloadStatus>,
    /// Pods by revision.
    pub pods: BTreeMap<String, Pods>,
    /// Pods that were started together with a canary's, to hold it against: of stable's revision, and none of its own.
    pub baselines: Vec<Baseline>,
    /// The route.
    pub route: Route,
    /// Why the route cannot be used.
    pub problems: Vec<Problem>,
    /// Pods of a full revision.
    pub replicas: i32,
    /// Whether the Rollout is being deleted.
    pub is_leaving: bool,
}

impl<'a> Facts<'a> {
    /// Reads a snapshot.
    pub fn of(observed: &'a Observed, strategy: &'a Strategy, now: Timestamp) -> Self {
        let (route, problems) = route::observe(observed, strategy);
        let status = &observed.rollout.status;
        let remembered = match (&status.stable, observed.workload.found().filter(|_| strategy.workload.is_some())) {
            (Some(stable), _) => stable.replicas.max(1),
            (None, Some(deployment)) => deployment.wanted().max(1),
            (None, None) => 1,
        };
        let workload = workload::read(observed, strategy);
        let own = strategy.template.as_ref().filter(|_| strategy.workload.is_none()).map(revision::hash);
        Self {
            observed,
            strategy,
            now,
            target: own.or_else(|| workload.as_ref().map(|workload| workload.revision_hash.clone())),
            workload,
            pods: revision::pods(&observed.replica_sets),
            baselines: baseline::all(observed),
            route,
            problems,
            replicas: strategy.replicas.filter(|replicas| *replicas >= 0).unwrap_or(remembered),
            is_leaving: observed.rollout.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Pods of a revision; none when it has no ReplicaSet.
    pub fn pods_of(&self, hash: &str) -> Pods {
        self.pods.get(hash).cloned().unwrap_or_default()
    }

    /// Whether the route can be written, whatever its parents' controllers say.
    pub fn can_write_route(&self) -> bool {
        self.problems.iter().all(Problem::is_of_parents)
    }

    /// Whether Serin owns the VirtualService.
    pub fn owns_route(&self) -> bool {
        matches!(self.strategy.routing, Some(Routing::Owned { .. }))
    }

    /// Whether a revision was aborted whose route in Git is gone, while stable serves: nothing but the end of its pods keeps
    /// requests from it. S6.
    pub fn is_lost(&self, draining: &Draining) -> bool {
        let is_gone = self.strategy.routing.as_ref().is_some_and(|routing| route::is_gone(self.observed, routing));
        let stable = self.observed.rollout.status.stable.as_ref();
        let serves = stable.is_some_and(|stable| self.pods_of(&stable.hash).ready > 0);
        draining.reason == OutcomeKind::Aborted && is_gone && serves
    }

    /// Pods of a revision that has any: `minPodsPerReplicaSet` at least, but never more than all.
    pub fn at_least(&self, pods: i32) -> i32 {
        if pods > 0 { pods.max(self.strategy.least_pods.min(self.replicas)) } else { pods }
    }

    /// Whether the finalizer is there.
    pub fn has_finalizer(&self) -> bool {
        self.observed.rollout.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::FINALIZER)
    }

    /// An annotation of the Deployment that brings the template, else of the Rollout.
    pub fn annotation(&self, key: &str) -> Option<String> {
        workload::annotation(self.holders(), key)
    }

    /// The commit: as an annotation says, else as the tool that applied it has it on record.
    pub fn commit(&self) -> Option<String> {
        self.annotation(names::GIT_COMMIT).or_else(|| self.observed.commit.clone())
    }

    /// A label of the Deployment that brings the template, else of the Rollout.
    pub fn label(&self, key: &str) -> Option<String> {
        let mut values = self.holders().filter_map(|metadata| metadata.labels.as_ref()?.get(key));
        values.find(|value| !value.is_empty()).cloned()
    }

    /// The objects that bring the template: the Deployment, and the Rollout.
    fn holders(&self) -> impl Iterator<Item = &ObjectMeta> {
        let workload = self.observed.workload.found().filter(|_| self.strategy.workload.is_some());
        workload.map(|one| &one.metadata).into_iter().chain([&self.observed.rollout.metadata])
    }
}

/// One thing that is awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// A word from the documented list.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// Until when at most.
    pub until: Option<Timestamp>,
}

/// The plan in the making.
#[derive(Debug)]
pub struct Course {
    /// The next status.
    pub status: RolloutStatus,
    /// What is awaited.
    pub waits: Vec<Waiting>,
    /// Whether no step may pass and nothing new may begin.
    pub is_held: bool,
    /// Whether something was decided that no later snapshot could show.
    pub has_decided: bool,
    /// Whether the route is not as the last recorded pass saw it.
    pub has_moved: bool,
    /// Queries that are due.
    pub queries: Vec<Query>,
    /// Jobs of measurements that are to be created.
    pub jobs: Vec<Action>,
    /// When to look again, and why.
    pub wakes: Vec<(Timestamp, String)>,
}

impl Course {
    /// Waits, without holding the steps.
    pub fn wait(&mut self, reason: &'static str, message: impl Into<String>) {
        self.note(Waiting { reason, message: message.into(), until: None });
    }

    fn note(&mut self, waiting: Waiting) {
        if !self.waits.iter().any(|known| known.reason == waiting.reason && known.message == waiting.message) {
            self.waits.push(waiting);
        }
    }

    /// Waits until a time at most, and looks again then.
    pub fn wait_until(&mut self, reason: &'static str, message: impl Into<String>, until: Timestamp) {
        self.note(Waiting { reason, message: message.into(), until: Some(until) });
        self.wakes.push((until, reason.to_owned()));
    }

    /// Waits; until a time at most, where one is known and still to come.
    pub fn wait_towards(&mut self, now: Timestamp, (reason, message): (&'static str, String), at: Option<Timestamp>) {
        match at.filter(|at| *at > now) {
            Some(at) => self.wait_until(reason, message, at),
            None => self.wait(reason, message),
        }
    }

    /// Waits, and holds the steps.
    pub fn hold(&mut self, reason: &'static str, message: impl Into<String>) {
        self.wait(reason, message);
        self.is_held = true;
    }

    /// Puts a decision on record.
    pub fn decide(&mut self, decision: Decision) {
        self.status.decisions.push(decision);
        let surplus = self.status.decisions.len().saturating_sub(KEPT);
        self.status.decisions.drain(..surplus);
        self.has_decided = true;
    }

    /// Puts an outcome on record.
    pub fn end(&mut self, outcome: crate::api::status::Outcome) {
        self.status.history.push(outcome);
        let surplus = self.status.history.len().saturating_sub(KEPT);
        self.status.history.drain(..surplus);
    }

    /// The canary, while it is in progress: not after an abort.
    pub fn canary(&self) -> Option<&RevisionStatus> {
        self.status.in_progress()
    }

    /// Whether what Git asks for was aborted.
    pub fn has_failed(&self, facts: &Facts<'_>) -> bool {
        self.status.aborted.as_ref().is_some_and(|aborted| facts.target.as_ref() == Some(&aborted.hash))
    }

    /// Hash of stable.
    pub fn stable(&self) -> Option<&str> {
        self.status.stable.as_ref().map(|stable| stable.hash.as_str())
    }

    /// Index of the current step.
    pub fn step_index(&self) -> usize {
        self.status.current_step_index.and_then(|index| usize::try_from(index).ok()).unwrap_or(0)
    }

    /// Whether all steps are passed.
    pub fn has_passed_all(&self, facts: &Facts<'_>) -> bool {
        self.step_index() >= facts.strategy.steps.len()
    }

    /// The weight that the current step permits: that of the last `setWeight` up to it.
    pub fn permitted(&self, facts: &Facts<'_>) -> i32 {
        if self.canary().is_none() {
            return 0;
        }
        let passed = facts.strategy.steps.iter().take(self.step_index() + 1);
        passed.rev().find_map(|step| if let Step::SetWeight(weight) = step { Some(*weight) } else { None }).unwrap_or(0)
    }

    /// The header and mirror routes that the current step permits.
    pub fn front(&self, facts: &Facts<'_>) -> Vec<Managed> {
        self.front_after(facts, self.step_index() + 1)
    }

    /// The header and mirror routes of the steps that are passed.
    pub fn front_passed(&self, facts: &Facts<'_>) -> Vec<Managed> {
        self.front_after(facts, self.step_index())
    }

    /// Those after so many steps; none once the steps are skipped.
    fn front_after(&self, facts: &Facts<'_>, steps: usize) -> Vec<Managed> {
        let is_skipping = self.status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
        if self.canary().is_none() || is_skipping || facts.is_leaving || facts.strategy.routing.is_none() {
            return Vec::new();
        }
        facts.strategy.managed(steps)
    }

    /// The weight of the last `setWeight` that is passed.
    pub fn weight_passed(&self) -> i32 {
        self.status.attempt.as_ref().map_or(0, |attempt| attempt.weight)
    }

    /// Canary pods that are wanted before the next thing can happen.
    pub fn pods_wanted(&self, facts: &Facts<'_>) -> i32 {
        if self.canary().is_none() {
            0
        } else if self.has_passed_all(facts) || self.is_alone(facts) {
            facts.replicas
        } else {
            self.pods_at(facts, self.permitted(facts))
        }
    }

    /// Canary pods that the permitted weight needs; all of them where stable has no ready pod.
    pub fn pods_carrying(&self, facts: &Facts<'_>) -> i32 {
        if self.is_alone(facts) { self.pods_wanted(facts) } else { self.pods_at(facts, self.permitted(facts)) }
    }

    /// Canary pods for a weight: what the last `setCanaryScale` says, else what the weight needs.
    pub fn pods_at(&self, facts: &Facts<'_>, weight: i32) -> i32 {
        if let Some(ratio) = facts.strategy.ratio {
            return ratio::split(weight, facts.replicas, ratio.max_surge).canary;
        }
        let mut passed = facts.strategy.steps.iter().take(self.step_index() + 1).rev();
        let scale = passed.find_map(|step| if let Step::SetCanaryScale(scale) = step { Some(*scale) } else { None });
        let pods = match scale {
            Some(Scale::Replicas(pods)) if facts.replicas > 0 => pods,
            Some(Scale::Weight(percent)) => pods_for(percent, facts.replicas),
            Some(Scale::Replicas(_) | Scale::MatchTrafficWeight) | None => pods_for(weight, facts.replicas),
        };
        let leads = facts.replicas > 0 && !self.front(facts).is_empty();
        facts.at_least(pods.max(i32::from(leads)))
    }

    /// Whether there is stable, with a ready pod.
    pub fn has_ready_stable(&self, facts: &Facts<'_>) -> bool {
        self.stable().is_some_and(|stable| facts.pods_of(stable).ready > 0)
    }

    /// Whether stable has no ready pod, so that the canary has all traffic.
    fn is_alone(&self, facts: &Facts<'_>) -> bool {
        facts.strategy.ratio.is_none() && !self.has_ready_stable(facts)
    }

    /// What is remembered of the route.
    pub fn route(&self) -> RouteStatus {
        self.status.route.clone().unwrap_or_default()
    }
}

/// Begins a course: remembers what of the route changed since the last pass.
pub fn track(facts: &Facts<'_>) -> Course {
    let mut course = Course {
        status: begun_by_now(facts.observed.rollout.status.clone(), facts.now),
        waits: Vec::new(),
        is_held: false,
        has_decided: false,
        has_moved: false,
        queries: Vec::new(),
        jobs: Vec::new(),
        wakes: Vec::new(),
    };
    if facts.strategy.routing.is_none() && facts.strategy.ratio.is_none() {
        return course;
    }
    let mut route = course.route();
    let line = if facts.strategy.ratio.is_some() { ratio::line(facts, &course) } else { facts.route.line() };
    let has_weight = facts.route.carries();
    contest::track(facts, &mut course, &mut route);
    route.unseen = false;
    if route.observed != line {
        course.has_moved = route.since.is_some();
        route.since = Some(facts.now);
        route.acknowledged = None;
        route.observed = line;
    }
    route.zero_since = if has_weight { None } else { route.zero_since.or(Some(facts.now)) };
    force::track(facts, &mut route);
    route.managed = managed_names(facts, &course, route.managed);
    course.status.route = Some(route);
    course
}

/// Remembers the weights that Git holds, before a canary's are written.
pub fn remember_resting(facts: &Facts<'_>, course: &mut Course) {
    let is_due = course.canary().is_some() && !facts.owns_route() && !facts.route.legs.is_empty();
    if let Some(route) = course.status.route.as_mut().filter(|_| is_due) {
        route.resting.get_or_insert_with(|| facts.route.resting());
    }
}

/// The names of header and mirror routes that are Serin's: those of the steps while a rollout is in flight, and all that were,
/// until none of them is left.
fn managed_names(facts: &Facts<'_>, course: &Course, mut known: Vec<String>) -> Vec<String> {
    if facts.route.legs.is_empty() || !facts.problems.is_empty() {
        return known;
    }
    if course.canary().is_none() || facts.is_leaving {
        if !facts.route.leads() {
            known.clear();
        }
    } else if facts.route.collisions.is_empty() {
        let new: Vec<String> = facts.strategy.managed_names().into_keys().map(str::to_owned).collect();
        known.extend(new.into_iter().filter(|name| !known.contains(name)).collect::<Vec<_>>());
    }
    known
}

/// What has begun has begun by now: were a clock set back, every wait would be longer by as much. Times that nothing is
/// awaited from stay: they say which attempt and which outcome is meant.
fn begun_by_now(mut status: RolloutStatus, now: Timestamp) -> RolloutStatus {
    let clamp = |at: &mut Timestamp| *at = (*at).min(now);
    if let Some(attempt) = &mut status.attempt {
        clamp(&mut attempt.step_started_at);
        attempt.short_of_pods.iter_mut().for_each(|short| clamp(&mut short.since));
    }
    let sides = [&mut status.stable, &mut status.canary].into_iter().flatten();
    let shrunk = sides.filter_map(|side| side.shrunk_at.as_mut());
    shrunk.chain(status.baseline.iter_mut().filter_map(|baseline| baseline.shrunk_at.as_mut())).for_each(clamp);
    if let Some(route) = &mut status.route {
        let times = [&mut route.since, &mut route.acknowledged, &mut route.zero_since, &mut route.zero_acknowledged];
        times.into_iter().chain([&mut route.contested_at, &mut route.relabelled_at]).flatten().for_each(clamp);
    }
    for analysis in &mut status.analysis {
        clamp(&mut analysis.started_at);
        let jobs = analysis.metrics.iter_mut().filter_map(|metric| metric.job.as_mut());
        jobs.for_each(|job| {
            clamp(&mut job.asked_at);
            job.missing_since.iter_mut().for_each(clamp);
        });
        let measurements = analysis.metrics.iter_mut().flat_map(|metric| &mut metric.measurements);
        measurements.for_each(|measurement| clamp(&mut measurement.at));
    }
    let draining = status.draining.iter_mut().flat_map(|draining| [&mut draining.since, &mut draining.acknowledged]);
    draining.flatten().for_each(clamp);
    status
}
