//! The one change that brings the route nearer to what is wanted. Safety first: lowering never waits.
//!
//! In this order, the first that applies: an owned route that is missing or plain; weight that pods cannot carry, or
//! that is not wanted, goes down at once, and with it header and mirror routes to a canary that must not have them; the
//! stable subset holds stable; the canary subset holds what is wanted of it, while nothing leads to it; header and mirror
//! routes, then the weight goes up; at rest, what Git held.

use std::collections::BTreeMap;

use super::revision::Pods;
use super::route::{Change, Route};
use super::strategy::Managed;
use super::weight::{carried, enough};

/// What is said while a change of the route is not yet in force.
pub const SETTLING: &str = "the last change of the route is on its way to the proxies";

/// What is wanted of the route.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The revision that serves: stable, once it has ready pods; at a first deployment none, until it has enough of them.
    pub anchor: Option<&'a str>,
    /// The canary in progress; none at rest, after an abort and after a revert.
    pub canary: Option<&'a str>,
    /// The weight that the current step permits.
    pub goal: i32,
    /// The header and mirror routes that the current step permits, in order.
    pub front: &'a [Managed],
    /// Those of the steps that are passed.
    pub front_passed: &'a [Managed],
    /// Whether those may be put in front that are permitted.
    pub may_lead: bool,
    /// Canary pods for that weight.
    pub pods_wanted: i32,
    /// Canary pods for the weight that it has, as far as the step permits it.
    pub pods_now: i32,
    /// Whether weight may go up, the canary subset be pointed at the canary.
    pub may_raise: bool,
    /// Pods by revision.
    pub pods: &'a BTreeMap<String, Pods>,
    /// Pods of a full revision.
    pub replicas: i32,
    /// With `dynamicStableScale`, the weight that stable's ready pods cannot carry yet; else zero.
    pub stable_lacks: i32,
    /// How far the route as observed has come.
    pub reached: Reached,
    /// Whether the canary weight has been zero for so long that no request is left.
    pub drained: bool,
    /// Whether Serin owns the VirtualService.
    pub owned: bool,
    /// Weights to restore at rest.
    pub resting: Option<&'a BTreeMap<String, i32>>,
}

/// How far a written route has come on its way to the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// It is on its way.
    Sent,
    /// The proxies have had their time, and some have not acknowledged it.
    Due,
    /// So long ago that no proxy is waited for.
    Settled,
    /// Every proxy has it.
    InForce,
}

/// What the route waits for: a word from the documented list and a sentence.
pub type Waiting = (&'static str, String);

impl Wanted<'_> {
    fn ready(&self, hash: Option<&str>) -> i32 {
        hash.and_then(|hash| self.pods.get(hash)).map_or(0, |pods| pods.ready)
    }

    fn available(&self, hash: &str) -> i32 {
        self.pods.get(hash).map_or(0, |pods| pods.available)
    }

    fn is_wanted(&self, hash: &str) -> bool {
        self.canary == Some(hash)
    }
}

/// The next change of the route, or what it waits for.
pub fn next(route: &Route, want: &Wanted<'_>) -> (Option<Change>, Option<Waiting>) {
    if want.owned && (route.legs.is_empty() || route.is_plain) {
        return owned_start(route, want);
    }
    if route.legs.is_empty() {
        return (None, None);
    }
    let stay = staying(route, want);
    let lowered = lower(route, want, &stay);
    if !matches!(lowered, Some((Some(_), _))) && !route.has_only(&stay) {
        return (Some(Change::Keep(stay)), None);
    }
    if let Some(decided) = lowered {
        return decided;
    }
    let Some(anchor) = want.anchor else {
        return (None, None);
    };
    if let Some(decided) = anchor_subset(route, want, anchor) {
        return decided;
    }
    if let Some(decided) = canary_subset(route, want, anchor) {
        return decided;
    }
    match want.canary {
        Some(canary) => raise(route, want, canary, stay),
        None => rest(route, want, anchor),
    }
}

fn settling() -> (Option<Change>, Option<Waiting>) {
    (None, Some(("RouteSettling", SETTLING.into())))
}

#[expect(clippy::unnecessary_wraps, reason = "the answer of every part that decides")]
fn change(change: Change) -> Option<(Option<Change>, Option<Waiting>)> {
    Some((Some(change), None))
}

/// An owned VirtualService that does not exist, or leads to the plain host.
fn owned_start(route: &Route, want: &Wanted<'_>) -> (Option<Change>, Option<Waiting>) {
    let subsets_serve = route.has_rule && want.ready(route.stable.as_deref()) > 0;
    if route.legs.is_empty() && !route.is_plain {
        // The subsets are known to the proxies for long: only the VirtualService was deleted. While no weight is on them,
        // stable's subset may move, so that nothing goes back to the revision before.
        let serves = |anchor: &&str| want.ready(Some(*anchor)) >= enough(want.replicas);
        let change = match want.anchor.filter(|anchor| route.stable.as_deref() != Some(*anchor)).filter(serves) {
            _ if !subsets_serve => Change::Plain,
            Some(anchor) => Change::Subsets { stable: anchor.to_owned(), canary: anchor.to_owned() },
            None => Change::ToSubsets,
        };
        return (Some(change), None);
    }
    match want.anchor {
        None => (None, None),
        Some(anchor) if !route.rests_on(anchor) => {
            (Some(Change::Subsets { stable: anchor.to_owned(), canary: anchor.to_owned() }), None)
        }
        Some(_) if want.reached == Reached::InForce => (Some(Change::ToSubsets), None),
        Some(_) => settling(),
    }
}

/// The header and mirror routes that may stay where they are: those of the steps, while the canary has a ready pod. Where
/// stable has none and the canary has, all stay. S2, S3, S6.
fn staying(route: &Route, want: &Wanted<'_>) -> Vec<Managed> {
    let ready = want.ready(route.canary.as_deref());
    if route.stable.is_some() && want.ready(route.stable.as_deref()) == 0 && ready > 0 {
        return route.in_front();
    }
    let is_wanted = route.canary.as_deref().is_some_and(|canary| want.is_wanted(canary));
    if !is_wanted || ready == 0 || want.replicas == 0 {
        return Vec::new();
    }
    // What the current step changes stays as it is until that may be written.
    let is_named = |passed: &&Managed| want.front.iter().any(|route| route.name == passed.name);
    want.front.iter().chain(want.front_passed.iter().filter(is_named)).cloned().collect()
}

/// Weight goes down: the canary is not wanted, its pods died, or the step permits less. S2, S3, S6.
fn lower(route: &Route, want: &Wanted<'_>, stay: &[Managed]) -> Option<(Option<Change>, Option<Waiting>)> {
    let is_own = |canary: &&str| route.stable.as_deref() != Some(*canary) && want.anchor != Some(*canary);
    // A canary that is stable now keeps its weight until the stable subset holds it too.
    let canary = route.canary.as_deref().filter(is_own)?;
    let canary_ready = want.ready(Some(canary));
    let stable_ready = want.ready(route.stable.as_deref());
    if route.stable.is_some() && stable_ready == 0 && canary_ready > 0 {
        if !want.is_wanted(canary) {
            let message =
                "stable has no ready pod; traffic stays where pods are ready, and moves the moment stable has one";
            return Some((None, Some(("StableNotReady", message.into()))));
        }
        if route.is_at(100) {
            return None;
        }
        return if want.reached >= Reached::Due {
            change(Change::Weight { weight: 100, stay: stay.to_vec() })
        } else {
            Some(settling())
        };
    }
    let cap = if want.is_wanted(canary) && want.replicas > 0 {
        // While pods for a higher weight come, those that there are keep the weight that they carry.
        let now = carried(route.weight().min(want.goal), canary_ready, want.pods_now);
        carried(want.goal, canary_ready, want.pods_wanted).max(now)
    } else {
        0
    };
    // What a shrunk stable cannot carry stays at the canary's ready pods, never more than they have.
    let kept = carried(route.weight(), canary_ready, want.pods.get(canary).map_or(0, |pods| pods.wanted));
    let floor = want.stable_lacks.min(kept);
    if route.exceeds(cap.max(floor)) {
        return change(Change::Weight { weight: cap.max(floor), stay: stay.to_vec() });
    }
    (floor > cap && route.exceeds(cap)).then(|| {
        let message = format!(
            "{stable_ready} of {} stable pods are ready; {floor}% stays where pods are ready, and moves as stable's come",
            want.replicas
        );
        (None, Some(("StableNotReady", message)))
    })
}

/// The stable subset holds the revision that serves.
fn anchor_subset(route: &Route, want: &Wanted<'_>, anchor: &str) -> Option<(Option<Change>, Option<Waiting>)> {
    if route.stable.as_deref() == Some(anchor) {
        return None;
    }
    let ready = want.ready(Some(anchor));
    let serving = want.ready(route.stable.as_deref());
    if ready == 0 || (serving > 0 && ready < enough(want.replicas)) {
        return Some((
            None,
            Some((
                "PodsNotReady",
                format!("{ready} of {} pods of {anchor} are ready to take over the stable subset", want.replicas),
            )),
        ));
    }
    if route.stable.is_some() && want.reached < Reached::Settled {
        return Some(settling());
    }
    let keeps =
        route.canary.as_deref().filter(|canary| *canary != anchor && (want.is_wanted(canary) || !is_free(route, want)));
    change(Change::Subsets { stable: anchor.to_owned(), canary: keeps.unwrap_or(anchor).to_owned() })
}

/// Whether the canary subset carries nothing any more.
fn is_free(route: &Route, want: &Wanted<'_>) -> bool {
    !route.carries() && want.drained
}

/// The canary subset holds the canary once its pods are there, else stable; it moves at weight zero only.
fn canary_subset(route: &Route, want: &Wanted<'_>, anchor: &str) -> Option<(Option<Change>, Option<Waiting>)> {
    let exposed = |canary: &str| {
        let is_due = want.goal > 0 || !want.front.is_empty();
        want.pods_wanted > 0 && is_due && want.available(canary) >= want.pods_wanted && want.may_raise
    };
    let target = match want.canary {
        Some(canary) if route.canary.as_deref() == Some(canary) || exposed(canary) => canary,
        Some(_) | None => anchor,
    };
    if route.canary.as_deref() == Some(target) {
        return None;
    }
    let distinct = route.canary.as_deref().is_some_and(|canary| canary != anchor);
    if route.carries() {
        // Before it is in force that both subsets hold the anchor, some proxy gives all to the one that was stable.
        return if distinct {
            Some((None, None))
        } else if route.canary.is_some() && want.reached < Reached::Settled {
            Some(settling())
        } else {
            change(Change::Weight { weight: 0, stay: Vec::new() })
        };
    }
    if distinct && !want.drained {
        return Some((None, Some(("Draining", "requests of the previous canary are finishing".into()))));
    }
    let enough = if target == anchor { Reached::Settled } else { Reached::InForce };
    if want.reached < enough && route.canary.is_some() {
        return Some(settling());
    }
    change(Change::Subsets { stable: anchor.to_owned(), canary: target.to_owned() })
}

/// Header and mirror routes come, then weight goes up to what the step permits, pods first.
fn raise(route: &Route, want: &Wanted<'_>, canary: &str, stay: Vec<Managed>) -> (Option<Change>, Option<Waiting>) {
    let has_pods = want.pods_wanted > 0 && want.available(canary) >= want.pods_wanted;
    if route.canary.as_deref() == Some(canary) && !route.has_front(want.front) && has_pods && want.may_lead {
        return if want.reached == Reached::InForce {
            (Some(Change::Front(want.front.to_vec())), None)
        } else {
            settling()
        };
    }
    if route.canary.as_deref() != Some(canary) || want.goal == 0 || route.is_at(want.goal) || route.is_at(100) {
        return (None, None);
    }
    // Zero replicas carry nothing.
    if !has_pods || !want.may_raise {
        return (None, None);
    }
    if want.reached == Reached::InForce { (Some(Change::Weight { weight: want.goal, stay }), None) } else { settling() }
}

/// Nothing is in progress: the weights are what they were.
fn rest(route: &Route, want: &Wanted<'_>, anchor: &str) -> (Option<Change>, Option<Waiting>) {
    if !route.rests_on(anchor) {
        return (None, None);
    }
    let wanted = match want.resting {
        Some(resting) if route.resting() != *resting => Change::Restore(resting.clone()),
        None if want.owned && route.exceeds(0) => Change::Weight { weight: 0, stay: Vec::new() },
        Some(_) | None => return (None, None),
    };
    if want.reached >= Reached::Due { (Some(wanted), None) } else { settling() }
}
