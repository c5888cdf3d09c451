//! What must be true of header and mirror routes: they lead to a canary that Git asks for and whose steps have them, while it has
//! pods, and nowhere else.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;
use tokio::time::Instant;

use super::labelled::Labelled;
use super::{LATE, Model, STALE};
use crate::embedded::Cluster;
use crate::embedded::log::Change;

/// The step that sets a header or mirror route.
fn route_of(step: &Value) -> Option<&Value> {
    step.get("setHeaderRoute").or_else(|| step.get("setMirrorRoute"))
}

fn steps(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["strategy"]["canary"]["steps"].as_array().into_iter().flatten()
}

/// The names of the header and mirror routes that a spec's steps set.
pub(super) fn names(spec: &Value) -> impl Iterator<Item = String> {
    steps(spec).filter_map(route_of).filter_map(|route| route["name"].as_str().map(str::to_owned))
}

impl Model {
    /// The revisions that header and mirror routes lead to, each with the route's name.
    fn led_in(&self, virtual_service: &Value, labelled: &Labelled) -> Vec<(String, String)> {
        let name =
            |route: &Value| route["name"].as_str().filter(|name| self.managed.contains(*name)).map(str::to_owned);
        let routes = virtual_service["spec"]["http"].as_array().into_iter().flatten();
        routes
            .filter_map(|route| {
                let mirror = &route["mirror"];
                let destination = if mirror.is_null() { &route["route"][0]["destination"] } else { mirror };
                Some((name(route)?, labelled.revision(destination)?))
            })
            .collect()
    }

    /// S2, S3, S7: what a new header or mirror route leads to.
    pub(super) fn check_led(&mut self, change: &Change, labelled: &Labelled) {
        let before = change.before.as_deref();
        let had = |name: &str| {
            let routes = before.and_then(|before| before["spec"]["http"].as_array()).into_iter().flatten();
            routes.into_iter().any(|route| route["name"] == name)
        };
        let since = Instant::now().checked_sub(STALE).unwrap_or(self.began).max(self.began);
        for (name, revision) in self.led_in(&change.object, labelled).into_iter().filter(|(name, _)| !had(name)) {
            let of_revision = self.specs.iter().filter(|spec| spec.hash == revision);
            let asks = of_revision.flat_map(|spec| steps(&spec.value)).filter_map(route_of);
            let is_asked = asks.into_iter().any(|route| route["name"] == name && !route["match"].is_null());
            let is_late = self.specs_of_late(STALE).iter().all(|spec| spec.hash != revision);
            if !is_asked || is_late {
                self.breaks("S3", format!("{name} leads to {revision}, and Git does not ask for that"));
            }
            if self.aborted.as_ref() == Some(&revision) {
                self.breaks("S7", format!("{name} leads to {revision} after it was aborted"));
            }
            if self.ready_since(&revision, since) == 0 {
                self.breaks("S2", format!("{name} leads to {revision}, which has had no ready pod"));
            }
        }
    }

    /// Notes since when header and mirror routes lead to which revisions.
    pub(super) fn take_led(&mut self, cluster: &Cluster, labelled: &Labelled) {
        let now = Instant::now();
        let services = cluster.list("virtualservices");
        let fronts: BTreeSet<(String, String)> = services.iter().flat_map(|one| self.led_in(one, labelled)).collect();
        for (_, gone) in self.fronts.iter_mut().filter(|(front, _)| !fronts.contains(*front)) {
            gone.get_or_insert(now);
        }
        let led: BTreeSet<String> = fronts.iter().map(|(_, revision)| revision.clone()).collect();
        self.fronts.extend(fronts.into_iter().map(|front| (front, None)));
        self.led.retain(|revision, _| led.contains(revision));
        for revision in led {
            self.led.entry(revision).or_insert(now);
        }
    }

    /// S5: the header or mirror route of a step that is passed leads to the canary, or did of late.
    pub(super) fn check_led_by_passed(&mut self, revision: &str, passed: Range<i64>) {
        let mut of_revision = self.specs.iter().filter(|spec| spec.hash == revision);
        let Some(last) = of_revision.next_back() else { return };
        let is_edited = of_revision.any(|spec| !steps(&spec.value).eq(steps(&last.value)));
        let goes_back = !last.value["rollbackWindow"].is_null() && self.was_stable.contains(revision);
        if is_edited || goes_back {
            return;
        }
        let at = |step: i64| steps(&last.value).nth(usize::try_from(step).ok()?);
        let sets = passed.filter_map(at).filter_map(route_of).filter(|route| !route["match"].is_null());
        let is_recent = |gone: &Option<Instant>| gone.is_none_or(|gone| gone.elapsed() < STALE);
        let led = |name: &str| self.fronts.get(&(name.to_owned(), revision.to_owned())).is_some_and(is_recent);
        let lacking = sets.filter_map(|route| route["name"].as_str()).find(|name| !led(name)).map(str::to_owned);
        if let Some(name) = lacking {
            self.breaks("S5", format!("the step of {name} is passed, and it has not led to {revision}"));
        }
    }

    /// S2, S6: a header or mirror route goes with the canary and with its pods.
    pub(super) fn check_still_led(&mut self) {
        let Some(wanted) = self.wanted().map(str::to_owned) else { return };
        let since_commit = self.specs.iter().rev().take_while(|spec| spec.hash == wanted).last().map(|spec| spec.at);
        if since_commit.is_none_or(|at| at.elapsed() <= LATE) || !self.may_move() {
            return;
        }
        let since = Instant::now().checked_sub(LATE).unwrap_or(self.began).max(self.began);
        let old: Vec<String> =
            self.led.iter().filter(|(_, at)| at.elapsed() > LATE).map(|(revision, _)| revision.clone()).collect();
        for revision in old {
            let is_aborted =
                self.aborted.as_ref() == Some(&revision) && self.aborted_at.is_some_and(|at| at.elapsed() > LATE);
            let is_stable =
                self.stable.as_ref() == Some(&revision) && self.stable_since.is_some_and(|at| at.elapsed() > LATE);
            if revision != wanted || is_aborted || is_stable {
                self.breaks_for_long("led", "S6", format!("requests are still led to {revision}"));
            } else if self.ready_since(&revision, since) == 0 {
                self.breaks_for_long(
                    "led",
                    "S2",
                    format!("requests are led to {revision}, which has no ready pod for long"),
                );
            }
        }
    }
}
