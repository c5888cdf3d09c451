//! Somebody else changes what Serin wrote of a route that Git holds: who, how often, and for how long Serin lets it be.
//!
//! While a canary has pods, which pods a weight leads to is put right at once, every time: until then a part of the requests
//! goes to the wrong ones. At rest all pods are stable's, and nothing is lost while Serin waits.

use jiff::{SignedDuration, Timestamp};

use super::analysis::later;
use super::course::{Course, Facts};
use super::route::{self, Change, HeldSides, Leg};
use super::strategy::RouteKind;
use crate::api::istio::Protocol;
use crate::api::names;
use crate::api::status::{AskedSides, RolloutStatus, RouteStatus};
use crate::api::watched::{writer, wrote_last};

/// Labels that stayed for so long are put right at once again: what comes next is counted anew.
const QUIET: SignedDuration = SignedDuration::from_mins(10);
/// Labels that stayed for so long are not contested any more. Tools that write what Git has do so each hour or each day, too, and
/// are one contest, which is told once.
const OVER: SignedDuration = SignedDuration::from_hours(25);

/// Counts what somebody else changed since the last pass.
pub fn track(facts: &Facts<'_>, course: &mut Course, route: &mut RouteStatus) {
    if has_moved_weights(facts, course, route) {
        route.contested += 1;
        route.contested_at = Some(facts.now);
    }
    let Some(held) = route::held_sides(facts.observed, facts.strategy).filter(|_| !facts.is_leaving) else {
        (route.relabelled, route.relabelled_at, route.asked_sides) = (0, None, None);
        return;
    };
    if has_relabelled(facts, route, &held) {
        let was_quiet = route.relabelled_at.is_some_and(|at| later(at, QUIET) <= facts.now);
        route.relabelled = if was_quiet { 1 } else { route.relabelled + 1 };
        route.relabelled_at = Some(facts.now);
    }
    let Some(at) = route.relabelled_at else { return };
    let until = later(at, OVER);
    if until <= facts.now {
        (route.relabelled, route.relabelled_at) = (0, None);
    } else {
        course.wakes.push((until, "the labels have stayed, so that they are not contested any more".into()));
    }
}

/// Whether somebody else changed the weights since the last pass. That may have been quicker than the next look.
fn has_moved_weights(facts: &Facts<'_>, course: &Course, route: &RouteStatus) -> bool {
    let Some(canary) = course.canary().filter(|_| route.since.is_some() && !facts.route.legs.is_empty()) else {
        return false;
    };
    let has_moved = route.unseen || route.observed != facts.route.line();
    let is_ours = |leg: &Leg| route::holder(facts.observed, leg).is_some_and(wrote_last);
    has_moved
        && facts.route.canary.as_ref() == Some(&canary.hash)
        && (!facts.route.is_at(route.asked) || !facts.route.has_names(&route.asked_managed))
        && !facts.route.legs.iter().all(is_ours)
}

/// Whether somebody else changed the revisions of the sides since they were as Serin gave them.
fn has_relabelled(facts: &Facts<'_>, route: &mut RouteStatus, held: &HeldSides<'_>) -> bool {
    let Some(asked) = route.asked_sides.as_mut().filter(|asked| asked.of == held.text) else {
        return false;
    };
    let is_as_asked =
        facts.route.stable.as_ref() == Some(&asked.stable) && facts.route.canary.as_ref() == Some(&asked.canary);
    // A write of Serin's own that arrived late is nobody else's.
    let is_taken = asked.held && !is_as_asked && !held.objects.iter().all(|one| wrote_last(one));
    asked.held = is_as_asked || (asked.held && !is_taken);
    is_taken
}

/// Remembers the revisions that the sides are given; whether that is known to be written.
pub fn remember(facts: &Facts<'_>, route: &mut RouteStatus, (stable, canary): (&str, &str), held: bool) {
    let sides = route::held_sides(facts.observed, facts.strategy);
    route.asked_sides =
        sides.map(|sides| AskedSides { of: sides.text, stable: stable.into(), canary: canary.into(), held });
}

/// Until when Serin lets a contested route be: not at all at first, then longer each time, a minute at most.
pub fn peace_at(route: &RouteStatus) -> Option<Timestamp> {
    let weights = peace(route.contested, route.contested_at);
    weights.max(peace(route.relabelled, route.relabelled_at))
}

fn peace(count: i32, last: Option<Timestamp>) -> Option<Timestamp> {
    let doublings = u32::try_from(count - 2).ok()?;
    let seconds = 1_i64.checked_shl(doublings).unwrap_or(60).clamp(1, 60);
    last.map(|at| later(at, SignedDuration::from_secs(seconds)))
}

/// Whether a change of the sides waits: they are contested, and all pods that there are, are stable's.
pub fn leaves_alone(facts: &Facts<'_>, course: &mut Course, change: &Change) -> bool {
    let route = course.route();
    let Some(at) = peace(route.relabelled, route.relabelled_at).filter(|at| *at > facts.now) else {
        return false;
    };
    let has_pods = |hash: &str| facts.pods.get(hash).is_some_and(|pods| pods.wanted > 0 || pods.exist > 0);
    let is_at_rest =
        course.canary().is_none() && !facts.pods.keys().any(|hash| course.stable() != Some(hash) && has_pods(hash));
    let waits = is_at_rest && !facts.is_leaving && matches!(change, Change::Subsets { .. });
    if waits {
        course.wakes.push((at, "the revision labels that somebody else took back".into()));
    }
    waits
}

/// Who changes what, and the snippet that ends it: a reason and a sentence.
pub fn told(facts: &Facts<'_>, status: &RolloutStatus) -> Option<(&'static str, String)> {
    let route = status.route.as_ref().filter(|route| route.contested > 0 || route.relabelled > 0)?;
    // Who it was is read when it is noticed: with the route corrected the object no longer says.
    let before = &facts.observed.rollout.status;
    let known = before.conditions.iter().find(|condition| condition.kind == "RouteContested");
    let reason = if route.relabelled > 0 { "LabelsReverted" } else { "WeightsReverted" };
    let same = |earlier: &RouteStatus| (earlier.contested, earlier.relabelled) == (route.contested, route.relabelled);
    if let Some(known) = known.filter(|_| before.route.as_ref().is_some_and(same)) {
        return Some((reason, known.message.clone()));
    }
    let told = [labels(facts, route), weights(facts, route)].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Some((reason, format!("{told}; field manager of Serin: {}", names::FIELD_MANAGER)))
}

/// Who changes the weights of a route in flight.
fn weights(facts: &Facts<'_>, route: &RouteStatus) -> Option<String> {
    let leg = facts.route.legs.first().filter(|_| route.contested > 0)?;
    let who = writer(route::holder(facts.observed, leg)?).map_or_else(|| "somebody".to_owned(), |(name, _)| name);
    let path = format!(".spec.{}[].{}[].weight", leg.kind.routes(Protocol::Http), leg.kind.destinations());
    let remedy = if facts.owns_route() {
        "it is Serin's: nothing else may write it".to_owned()
    } else {
        format!("{}{}", remedy(&path, &who), or_owned(leg.kind))
    };
    let (kind, object, count) = (leg.kind, &leg.object, route.contested);
    Some(format!("{who} changed the weights of {kind} {object} {count} times during this rollout; {remedy}"))
}

/// Who changes which pods the sides lead to.
fn labels(facts: &Facts<'_>, route: &RouteStatus) -> Option<String> {
    let held = route::held_sides(facts.observed, facts.strategy).filter(|_| route.relabelled > 0)?;
    // The last of them who wrote one that is not as Serin wrote it.
    let taken = held.objects.iter().filter(|one| !wrote_last(one)).filter_map(|one| writer(one));
    let who = taken.max_by_key(|(_, at)| *at).map_or_else(|| "somebody".to_owned(), |(name, _)| name);
    let (path, what) = if held.are_services {
        (format!(".spec.selector[\"{}\"]", names::REVISION_HASH), "selectors")
    } else {
        (".spec.subsets[].labels".to_owned(), "subsets' labels")
    };
    let (of, count) = (&held.text, route.relabelled);
    Some(format!(
        "{who} took Serin's label {} out of the {what} of {of} {count} times, and without it both sides lead to every pod; {}{}",
        names::REVISION_HASH,
        remedy(&path, &who),
        facts.route.legs.first().map_or("", |leg| or_owned(leg.kind))
    ))
}

/// The field managers that are told apart.
const MANAGERS: [&str; 7] =
    ["argocd-controller", "kustomize-controller", "helm-controller", "helm", "kubectl-edit", "kubectl", "istioctl"];

/// Who it was, as one of a few words, by the sentence of the condition `RouteContested`.
pub fn manager(told: &str) -> &'static str {
    MANAGERS.into_iter().find(|manager| told.starts_with(manager)).unwrap_or("other")
}

/// How the tool that writes what is in Git is told to leave a field alone.
fn remedy(path: &str, who: &str) -> String {
    let setting = if who.starts_with("kustomize-controller") {
        "Flux 2.9: spec.ignore of the Kustomization; before: annotation kustomize.toolkit.fluxcd.io/ssa: IfNotPresent"
    } else {
        "Argo CD: ignoreDifferences with ApplyOutOfSyncOnly=true"
    };
    format!("let Git ignore `{path}` there ({setting})")
}

/// What else ends it.
fn or_owned(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::VirtualService => ", or use `owned`",
        RouteKind::HttpRoute => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_are_a_few_words() {
        let check = |told, wanted| assert_eq!(manager(told), wanted, "{told}");
        check("argocd-controller changed the weights of VirtualService checkout 2 times", "argocd-controller");
        check("helm-controller took Serin's label", "helm-controller");
        check("kubectl-edit changed", "kubectl-edit");
        check("kubectl-client-side-apply changed", "kubectl");
        check("pipeline-4711 changed", "other");
        check("", "other");
    }

    #[test]
    fn each_tool_is_told_in_its_own_words() {
        let check = |who, wanted: &str| assert_eq!(remedy(".spec.http[].route[].weight", who), wanted);
        check(
            "argocd-controller",
            "let Git ignore `.spec.http[].route[].weight` there (Argo CD: ignoreDifferences with ApplyOutOfSyncOnly=true)",
        );
        check(
            "kustomize-controller",
            "let Git ignore `.spec.http[].route[].weight` there (Flux 2.9: spec.ignore of the Kustomization; before: annotation kustomize.toolkit.fluxcd.io/ssa: IfNotPresent)",
        );
    }
}
