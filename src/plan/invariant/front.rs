//! What must hold of header and mirror routes: S1 to S4 and S6.

use super::{Checks, Violation, broken};
use crate::plan::action::Action;
use crate::plan::strategy::Managed;

impl Checks<'_> {
    /// The header and mirror routes after the plan, by VirtualService; none stands for one that is not as Serin writes it.
    fn fronts_after(&self) -> Vec<(&str, Vec<Option<Managed>>)> {
        let after = |name: &str, present: Vec<Option<Managed>>| {
            let mut routes = present;
            for action in &self.plan.actions {
                if let Action::WriteVirtualService { front, .. } = action {
                    routes = front.iter().cloned().map(Some).collect();
                }
                if let Action::EditVirtualService { name: edited, front: Some(front), .. } = action
                    && *edited == name
                {
                    routes = front.added.iter().cloned().map(Some).collect();
                }
            }
            routes
        };
        let fronts = self.facts.route.fronts.iter();
        fronts
            .map(|front| {
                let present = front.present.iter().map(|present| present.managed.clone()).collect();
                (front.virtual_service.as_str(), after(&front.virtual_service, present))
            })
            .collect()
    }

    /// S1: of the routes that Git holds only those are touched whose names are on record as Serin's.
    pub(super) fn fronts_are_own(&self) -> Vec<Violation> {
        let known = self.before.route.as_ref().map_or(&[][..], |route| &route.managed);
        let mut violations = Vec::new();
        for action in &self.plan.actions {
            let Action::EditVirtualService { name, front: Some(front), .. } = action else { continue };
            let touched = front.removed.iter().map(|(_, name)| name).chain(front.added.iter().map(|route| &route.name));
            let foreign = touched.filter(|route| !known.contains(route));
            violations
                .extend(foreign.map(|route| broken("S1", format!("{name}: {route} is not on record as Serin's"))));
        }
        violations
    }

    /// S2, S3, S6: header and mirror routes lead to the canary in progress alone, while it has ready pods, as its steps permit.
    pub(super) fn fronts_are_permitted(&self) -> Vec<Violation> {
        let (stable, canary, _) = self.subsets_after();
        // Where nobody else serves, what there is stays.
        if stable == canary || self.ready(stable.as_deref()) == 0 || !self.facts.can_write_route() {
            return Vec::new();
        }
        let status = &self.plan.status;
        let is_skipped = status.attempt.as_ref().is_some_and(|attempt| attempt.skip_steps);
        let is_canary = status.in_progress().is_some_and(|one| Some(&one.hash) == canary.as_ref());
        let index = status.current_step_index.and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let may_be = is_canary && !is_skipped && !self.facts.is_leaving;
        let permitted: Vec<Managed> = [index, index + 1]
            .iter()
            .filter(|_| may_be)
            .flat_map(|steps| self.facts.strategy.managed(*steps))
            .collect();
        let mut violations = Vec::new();
        for (name, routes) in self.fronts_after() {
            if !routes.is_empty() && self.ready(canary.as_deref()) == 0 {
                violations.push(broken("S2", format!("{name}: requests are led to a canary without ready pods")));
            }
            let wrong = routes.iter().find(|route| route.as_ref().is_none_or(|route| !permitted.contains(route)));
            if let Some(route) = wrong {
                let told = route.as_ref().map_or("a route of somebody's", |route| &route.name);
                let invariant = if self.plan.withdraws_canary { "S6" } else { "S3" };
                violations
                    .push(broken(invariant, format!("{name}: {told} leads to the canary, and no step permits it")));
            }
        }
        violations
    }

    /// S4: a canary that a header or mirror route leads to keeps a pod.
    pub(super) fn led_pods_stay(&self) -> Vec<Violation> {
        let Some(canary) = self.facts.route.canary.as_ref().filter(|_| self.facts.route.leads()) else {
            return Vec::new();
        };
        let pods = self.facts.pods_of(canary);
        let is_last = |action: &&Action| matches!(action, Action::ScaleReplicaSet { name, replicas: 0, .. } if *name == pods.name && pods.wanted > 0);
        let is_due = self.facts.replicas > 0 && self.facts.route.stable.as_ref() != Some(canary);
        let is_lost = self.plan.status.draining.iter().any(|one| one.hash == *canary && self.facts.is_lost(one));
        let scaled = self.plan.actions.iter().find(is_last).filter(|_| is_due && !is_lost);
        scaled
            .map(|_| broken("S4", format!("{} loses its pods while requests are led to it", pods.name)))
            .into_iter()
            .collect()
    }
}
