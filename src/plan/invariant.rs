//! What must hold of every plan: the safety invariants S1 to S8, checked against the snapshot that it was planned from.

mod front;

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::action::{Action, pods_after};
use super::analysis::later;
use super::course::Facts;
use super::force;
use super::route::Leg;
use super::strategy::{ApprovalStep, Scale, Step};
use super::weight::{Split, carried_at_most, pods_for};
use super::{Plan, attempt, workload};
use crate::api::status::{OutcomeKind, RolloutStatus, Verdict};

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one: `S1` to `S8`.
    pub invariant: &'static str,
    /// What was planned, and against which fact.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.message)
    }
}

/// All broken invariants of a plan, checked against the facts that it was made from.
pub fn check(facts: &Facts<'_>, plan: &Plan) -> Vec<Violation> {
    let checks = Checks { before: &facts.observed.rollout.status, plan, facts };
    let mut violations = Vec::new();
    violations.extend(checks.weights_sum());
    violations.extend(checks.weight_has_pods());
    violations.extend(checks.weight_is_permitted());
    violations.extend(checks.selected_pods_stay());
    violations.extend(checks.baseline_is_beside());
    violations.extend(checks.workload_is_idle());
    violations.extend(checks.fronts_are_own());
    violations.extend(checks.fronts_are_permitted());
    violations.extend(checks.led_pods_stay());
    violations.extend(checks.ratio_keeps_capacity());
    violations.extend(checks.stable_changes_by_promotion());
    violations.extend(checks.approvals_are_given());
    violations.extend(checks.abort_moves_traffic());
    violations.extend(checks.failed_stays_failed());
    violations.extend(checks.measured_in_force());
    violations
}

struct Checks<'a> {
    before: &'a RolloutStatus,
    plan: &'a Plan,
    facts: &'a Facts<'a>,
}

fn broken(invariant: &'static str, message: String) -> Violation {
    Violation { invariant, message }
}

impl Checks<'_> {
    fn ready(&self, hash: Option<&str>) -> i32 {
        hash.map_or(0, |hash| self.facts.pods_of(hash).ready)
    }

    /// S4: a Deployment that is taken over keeps its pods until stable has all of its own and the route leads to no others.
    fn workload_is_idle(&self) -> Option<Violation> {
        let scaled = self.plan.actions.iter().find(|action| matches!(action, Action::ScaleWorkload { .. }))?;
        let stable = self.plan.status.stable.as_ref().map(|stable| stable.hash.as_str());
        let is_in_force = self.facts.strategy.ratio.is_some() || self.settled_at() <= self.facts.now;
        let is_idle = workload::is_served_without(self.facts, stable) && is_in_force;
        (!is_idle).then(|| broken("S4", format!("{scaled} while requests may reach its pods")))
    }

    /// The weights of each leg after the plan, and whether the plan writes them.
    fn legs_after(&self) -> Vec<(Leg, bool)> {
        let mut legs: Vec<(Leg, bool)> = self.facts.route.legs.iter().map(|leg| (leg.clone(), false)).collect();
        for action in &self.plan.actions {
            match action {
                Action::WriteVirtualService { split: Some(split), .. } => {
                    for (leg, is_written) in &mut legs {
                        (leg.stable, leg.canary, *is_written) = (split.stable, split.canary, true);
                    }
                }
                Action::EditVirtualService { name, edits, .. } | Action::EditHttpRoute { name, edits, .. } => {
                    for (leg, is_written) in &mut legs {
                        if let Some(edit) = edits
                            .iter()
                            .find(|edit| leg.object == *name && (leg.protocol, leg.at) == (edit.protocol, edit.at))
                        {
                            (leg.stable, leg.canary, *is_written) = (edit.split.stable, edit.split.canary, true);
                        }
                    }
                }
                Action::SetReplicas { .. }
                | Action::AddFinalizer
                | Action::RemoveFinalizer
                | Action::CreateReplicaSet { .. }
                | Action::CreateBaseline { .. }
                | Action::ScaleReplicaSet { .. }
                | Action::DeleteReplicaSet { .. }
                | Action::CopyConfig { .. }
                | Action::DeleteCopy { .. }
                | Action::CreateJob { .. }
                | Action::DeleteJob { .. }
                | Action::WriteVirtualService { split: None, .. }
                | Action::WriteDestinationRule { .. }
                | Action::EditDestinationRule { .. }
                | Action::CreateService { .. }
                | Action::EditService { .. }
                | Action::ScaleWorkload { .. }
                | Action::EvictPod { .. }
                | Action::EditPodTemplate { .. }
                | Action::EditPod { .. }
                | Action::EndPodEdits { .. }
                | Action::Answer { .. }
                | Action::OwnAction { .. }
                | Action::DeleteAction { .. } => {}
            }
        }
        legs
    }

    /// The revisions of both subsets after the plan.
    fn subsets_after(&self) -> (Option<String>, Option<String>, bool) {
        let (mut stable, mut canary, mut is_written) =
            (self.facts.route.stable.clone(), self.facts.route.canary.clone(), false);
        for action in &self.plan.actions {
            if let Action::WriteDestinationRule { stable: to_stable, canary: to_canary, .. } = action {
                (stable, canary, is_written) = (Some(to_stable.clone()), Some(to_canary.clone()), true);
            }
            let names = self.facts.strategy.routing.as_ref().map(|routing| super::route::names_of("", routing));
            let is_stable = |name: &str| names.as_ref().is_some_and(|names| names.sides.both().0 == name);
            if let Action::EditDestinationRule { edits, .. } = action {
                for edit in edits {
                    if is_stable(&edit.name) { &mut stable } else { &mut canary }.clone_from(&edit.hash);
                    is_written |= edit.hash.is_some();
                }
            }
            if let Action::EditService { name, hash, .. } = action {
                if is_stable(name) { &mut stable } else { &mut canary }.clone_from(hash);
                is_written |= hash.is_some();
            }
        }
        (stable, canary, is_written)
    }

    /// S1: the weights of a route sum to 100, what others have of it included.
    fn weights_sum(&self) -> Vec<Violation> {
        let wrong = |(leg, is_written): &(Leg, bool)| {
            let split = Split { stable: leg.stable, canary: leg.canary };
            *is_written && (split.share() != leg.share || split.stable < 0 || split.canary < 0)
        };
        let legs = self.legs_after();
        legs.iter()
            .filter(|leg| wrong(leg))
            .map(|(leg, _)| broken("S1", format!("{}: {}+{} is not {}", leg.key(), leg.stable, leg.canary, leg.share)))
            .collect()
    }

    /// S2: no weight goes to a revision without ready pods while another has some.
    fn weight_has_pods(&self) -> Vec<Violation> {
        let (stable, canary, moves_subsets) = self.subsets_after();
        let (stable_ready, canary_ready) = (self.ready(stable.as_deref()), self.ready(canary.as_deref()));
        let mut violations = Vec::new();
        for (leg, is_written) in self.legs_after() {
            if !(is_written || moves_subsets) || stable == canary {
                continue;
            }
            if leg.canary > 0 && canary_ready == 0 && stable_ready > 0 {
                violations.push(broken("S2", format!("{}: {}% to a canary without ready pods", leg.key(), leg.canary)));
            }
            let before =
                self.facts.route.legs.iter().find(|known| known.key() == leg.key()).map_or(0, |known| known.stable);
            if leg.stable > before && stable_ready == 0 && canary_ready > 0 && stable.is_some() {
                violations.push(broken("S2", format!("{}: {}% to a stable without ready pods", leg.key(), leg.stable)));
            }
        }
        violations
    }

    /// S3: no more weight than the step permits, and than the ready pods carry plus one pod's share.
    fn weight_is_permitted(&self) -> Vec<Violation> {
        let (stable, canary, _) = self.subsets_after();
        let status = &self.plan.status;
        let is_promoted = status.stable.as_ref().map(|stable| &stable.hash) == canary.as_ref();
        if stable == canary || is_promoted || self.ready(stable.as_deref()) == 0 || !self.facts.can_write_route() {
            return Vec::new();
        }
        let is_canary = status.in_progress().is_some_and(|one| Some(&one.hash) == canary.as_ref());
        let permitted = if is_canary && !self.facts.is_leaving { self.permitted() } else { 0 };
        let wanted = self.pods_at(permitted);
        let most = carried_at_most(permitted, self.ready(canary.as_deref()), wanted).max(self.stable_lacks());
        let over = |leg: &Leg| leg.canary > Split::of(leg.share, most).canary;
        let legs = self.legs_after();
        legs.iter()
            .filter(|(leg, _)| over(leg))
            .map(|(leg, _)| broken("S3", format!("{}: {}% is above {most}%", leg.key(), leg.canary)))
            .collect()
    }

    fn permitted(&self) -> i32 {
        let index = self.plan.status.current_step_index.and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let mut weights = self.facts.strategy.steps.iter().take(index + 1).rev();
        weights.find_map(|step| if let Step::SetWeight(weight) = step { Some(*weight) } else { None }).unwrap_or(0)
    }

    /// With `dynamicStableScale`: the weight of the route that stable's ready pods cannot carry.
    fn stable_lacks(&self) -> i32 {
        if !self.facts.strategy.dynamic_stable {
            return 0;
        }
        let stable = self.before.stable.as_ref().map(|stable| stable.hash.as_str());
        let carries = self.ready(stable).saturating_mul(100) / self.facts.replicas.max(1);
        (100 - carries).clamp(0, self.facts.route.weight())
    }

    /// Pods for a weight: what the last `setCanaryScale` says, else that percent of all; the least of any revision.
    fn pods_at(&self, weight: i32) -> i32 {
        let index = self.plan.status.current_step_index.and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let mut scales = self.facts.strategy.steps.iter().take(index + 1).rev();
        let scale = scales.find_map(|step| if let Step::SetCanaryScale(scale) = step { Some(*scale) } else { None });
        let pods = match scale {
            Some(Scale::Replicas(pods)) => pods,
            Some(Scale::Weight(percent)) => pods_for(percent, self.facts.replicas),
            Some(Scale::MatchTrafficWeight) | None => pods_for(weight, self.facts.replicas),
        };
        let leads = self.facts.replicas > 0 && !self.facts.strategy.managed(index + 1).is_empty();
        let pods = pods.max(i32::from(leads));
        if pods > 0 { pods.max(self.facts.strategy.least_pods.min(self.facts.replicas)) } else { 0 }
    }

    /// S4: what a subset selects, or a route gives weight, keeps its pods.
    fn selected_pods_stay(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for action in &self.plan.actions {
            let Action::ScaleReplicaSet { name, replicas, .. } = action else {
                continue;
            };
            let Some((hash, pods)) = self.facts.pods.iter().find(|(_, pods)| pods.name == *name) else {
                continue;
            };
            if *replicas >= pods.wanted {
                continue;
            }
            let is_canary =
                self.facts.route.canary.as_ref() == Some(hash) && self.facts.route.stable.as_ref() != Some(hash);
            let share = if self.facts.strategy.dynamic_stable { 100 - self.facts.route.weight() } else { 100 };
            let needed = if is_canary {
                self.pods_at(self.facts.route.weight()).min(self.facts.replicas)
            } else {
                pods_for(share, self.facts.replicas)
            };
            let most = if is_canary { pods.wanted } else { pods.wanted.min(self.facts.replicas) };
            if self.shrinks(hash) && *replicas < most - (most / 4).max(1) {
                violations.push(broken("S4", format!("{name} loses {} of {most} pods at a time", most - replicas)));
            }
            // An aborted canary without a route: its pods are the last lever.
            let is_lost = self.plan.status.draining.iter().any(|one| one.hash == *hash && self.facts.is_lost(one));
            if self.facts.route.selects(hash) && *replicas < needed && !is_lost {
                violations.push(broken(
                    "S4",
                    format!("{name} is scaled from {} to {replicas} while the route selects it", pods.wanted),
                ));
            }
        }
        violations
    }

    /// S4: a baseline has no more pods than its canary, is of the canary in progress and of stable, and loses a quarter of the
    /// pods at a time that share stable's requests.
    fn baseline_is_beside(&self) -> Vec<Violation> {
        let status = &self.plan.status;
        let canary = status.in_progress().filter(|_| !self.facts.is_leaving).map(|canary| canary.hash.as_str());
        let stable = status.stable.as_ref().map(|stable| stable.hash.as_str());
        let canary_pods =
            canary.map_or(0, |canary| pods_after(&self.plan.actions, canary, &self.facts.pods_of(canary)));
        let is_current = |of: (&str, &str)| stable == Some(of.0) && canary == Some(of.1);
        let mut found = Vec::new();
        for action in &self.plan.actions {
            if let Action::CreateBaseline { name, stable, canary, replicas, .. } = action
                && (!is_current((stable, canary)) || *replicas > canary_pods)
            {
                found.push(broken("S4", format!("{name} is created with {replicas} pods beside {canary_pods}")));
            }
            let Action::ScaleReplicaSet { name, replicas, .. } = action else { continue };
            let Some(own) = self.facts.baselines.iter().find(|one| one.pods.name == *name) else { continue };
            let was = own.pods.wanted;
            if *replicas > was && (!is_current((&own.stable, &own.canary)) || *replicas > canary_pods) {
                found.push(broken("S4", format!("{name} is scaled to {replicas} beside {canary_pods} pods")));
            }
            let beside = self.facts.baselines.iter().filter(|one| one.stable == own.stable);
            let all = self.facts.pods_of(&own.stable).wanted + beside.map(|one| one.pods.wanted).sum::<i32>();
            if was - replicas > (all / 4).max(1) && self.facts.replicas > 0 {
                found.push(broken("S4", format!("{name} loses {} of {all} pods at a time", was - replicas)));
            }
        }
        found
    }

    /// Whether a revision loses pods while it has requests: stable to a canary, or the canary at weight.
    fn shrinks(&self, hash: &str) -> bool {
        let status = &self.plan.status;
        let Some(canary) = status.in_progress().filter(|_| !self.facts.is_leaving) else { return false };
        let is_stable = status.stable.as_ref().is_some_and(|stable| stable.hash == hash);
        let is_canary = canary.hash == hash && self.facts.route.canary.as_deref() == Some(hash);
        (is_stable && self.facts.strategy.dynamic_stable)
            || (is_canary && self.facts.route.weight() > 0 && self.facts.replicas > 0)
    }

    /// S4 without a route: pods that serve are not taken below what may be missing.
    fn ratio_keeps_capacity(&self) -> Option<Violation> {
        let ratio = self.facts.strategy.ratio.filter(|_| !self.facts.is_leaving)?;
        let available = |name: &str, replicas: i32| {
            let pods = self.facts.pods.values().find(|pods| pods.name == name);
            pods.map_or(0, |pods| (pods.available.min(pods.wanted) - replicas).max(0))
        };
        let taken: i32 = self
            .plan
            .actions
            .iter()
            .map(|action| {
                if let Action::ScaleReplicaSet { name, replicas, .. } = action { available(name, *replicas) } else { 0 }
            })
            .sum();
        let all: i32 = self.facts.pods.values().map(|pods| pods.available.min(pods.wanted)).sum();
        let missing = ratio.max_unavailable.floor(self.facts.replicas).max(1);
        (taken > 0 && all - taken < self.facts.replicas - missing)
            .then(|| broken("S4", format!("{taken} of {all} available pods are taken; {missing} may be missing")))
    }

    /// S5: stable changes only by promotion, with every step passed.
    fn stable_changes_by_promotion(&self) -> Option<Violation> {
        let before = self.before.stable.as_ref()?;
        let after = self.plan.status.stable.as_ref();
        if after.is_some_and(|after| after.hash == before.hash) {
            return None;
        }
        let is_recorded = self.plan.status.history.last().is_some_and(|last| {
            last.outcome == OutcomeKind::Promoted && after.is_some_and(|after| after.hash == last.hash)
        });
        let passed = self.plan.status.current_step_index.and_then(|index| usize::try_from(index).ok())
            == Some(self.facts.strategy.steps.len());
        let failing = self.plan.status.analysis.iter().any(|analysis| analysis.verdict == Verdict::Fail);
        (!is_recorded || !passed || failing || !self.plan.is_status_first).then(|| {
            broken(
                "S5",
                format!(
                    "stable changes from {}: recorded {is_recorded}, all steps passed {passed}, failing {failing}",
                    before.hash
                ),
            )
        })
    }

    /// S5: no approval step is passed without an approval on record.
    fn approvals_are_given(&self) -> Option<Violation> {
        let status = &self.plan.status;
        let attempt = status.attempt.as_ref().filter(|attempt| !attempt.skip_steps)?;
        let index = usize::try_from(status.current_step_index?).ok()?;
        // Steps that were edited begin again as soon as they may.
        if attempt.passed_steps != attempt::passed_steps(self.facts, index) {
            return None;
        }
        let mut passed = self.facts.strategy.approvals().filter(|(step, _)| *step < index);
        let given = |step: &ApprovalStep| {
            let of_step = attempt.approvals.iter().filter(|approval| approval.step == step.name);
            of_step.map(|approval| &approval.by).collect::<BTreeSet<_>>().len()
        };
        let (_, step) = passed.find(|(_, step)| given(step) < step.approvers)?;
        let ApprovalStep { name, approvers } = step;
        Some(broken("S5", format!("the approval {name} of {approvers} is passed, and {} gave it", given(step))))
    }

    /// S6: an abort, a revert and a newer revision move traffic in the pass that decides them, whenever stable has a ready pod.
    fn abort_moves_traffic(&self) -> Option<Violation> {
        let has_stable = self.ready(self.facts.route.stable.as_deref()) > 0 || self.facts.route.stable.is_none();
        let next = self.plan.status.in_progress();
        let is_next = next.is_some_and(|next| self.facts.route.canary.as_ref() == Some(&next.hash));
        if !self.plan.withdraws_canary
            || !has_stable
            || is_next
            || !self.facts.can_write_route()
            || self.facts.route.stable == self.facts.route.canary
        {
            return None;
        }
        let left = self.legs_after().iter().map(|(leg, _)| leg.canary).max().unwrap_or(0);
        (left > self.stable_lacks()).then(|| broken("S6", format!("{left}% stays at a canary that is withdrawn")))
    }

    /// S7: a failed revision is tried again only by a recorded retry.
    fn failed_stays_failed(&self) -> Option<Violation> {
        let failed = self.before.aborted.as_ref()?;
        if self.facts.target.as_ref() != Some(&failed.hash) || self.plan.status.aborted.is_some() {
            return None;
        }
        let is_retried = self
            .plan
            .status
            .decisions
            .iter()
            .any(|decision| decision.what == "Retry" && !self.before.decisions.contains(decision));
        (!is_retried).then(|| broken("S7", format!("{} is tried again, and nobody asked", failed.hash)))
    }

    /// When every proxy has the route as observed: as they said, else after a time; a silent one has a longer time.
    fn reached_at(&self, silent: SignedDuration) -> Timestamp {
        let route = self.plan.status.route.clone().unwrap_or_default();
        let is_asked = force::acknowledgement(self.facts).is_some();
        let wait = if is_asked { silent } else { self.facts.observed.settings.route_wait() };
        route.acknowledged.unwrap_or_else(|| later(route.since.unwrap_or(self.facts.now), wait))
    }

    fn settled_at(&self) -> Timestamp {
        self.reached_at(self.facts.observed.settings.drain_timeout())
    }

    /// S8: an analysis begins when its weight is in force, and counts nothing from before.
    fn measured_in_force(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        // Proxies that are silent for ever have it never.
        let in_force = self.reached_at(SignedDuration::MAX);
        for analysis in &self.plan.status.analysis {
            // A clock that was set back has moved what is known to now.
            let is_new = !self.before.analysis.iter().any(|known| {
                known.kind == analysis.kind && known.started_at.min(self.facts.now) == analysis.started_at
            });
            if is_new && analysis.started_at < in_force {
                violations.push(broken(
                    "S8",
                    format!("an analysis begins at {} and the route is in force at {in_force}", analysis.started_at),
                ));
            }
            let early = analysis
                .metrics
                .iter()
                .flat_map(|metric| &metric.measurements)
                .filter(|measurement| measurement.at < analysis.started_at);
            violations.extend(early.map(|measurement| {
                broken(
                    "S8",
                    format!("a measurement of {} counts for an analysis of {}", measurement.at, analysis.started_at),
                )
            }));
        }
        violations
    }
}
