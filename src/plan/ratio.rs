//! The canary without a route: the ratio of pods behind one Service is the weight.
//!
//! The counts for a weight are the nearest ratio; on the way to them no more than `maxSurge` pods are added and no more
//! than `maxUnavailable` are missing, as in a Deployment.

use super::action::Action;
use super::course::{Course, Facts};
use super::scale;
use super::strategy::{Portion, Ratio};
use super::weight::pods_for;

/// Pods of both revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Pods of the canary.
    pub canary: i32,
    /// Pods of stable.
    pub stable: i32,
}

/// The pods whose ratio is nearest to a weight: `replicas` in all, or one more where a surge allows it.
/// Both revisions have a pod at any weight between 0 and 100, where there are two pods to give; of two ratios that are
/// equally near, the one with fewer pods, then the one with the smaller canary.
pub fn split(weight: i32, replicas: i32, max_surge: Portion) -> Counts {
    let weight = weight.clamp(0, 100);
    if weight == 0 || weight == 100 || replicas == 0 {
        let canary = if weight == 100 { replicas } else { 0 };
        return Counts { canary, stable: replicas - canary };
    }
    let most = replicas + i32::from(max_surge.ceil(replicas) > 0);
    let error = |canary: i32, all: i32| {
        // |canary/all - weight/100|, in parts of 100·all: compared across by multiplying out.
        (i64::from(canary) * 100 - i64::from(weight) * i64::from(all)).abs()
    };
    let near = |all: i32| {
        let up = pods_for(weight, all);
        [up - 1, up].into_iter().filter(move |canary| (1..all).contains(canary)).map(move |canary| (canary, all))
    };
    let nearest = (replicas..=most).flat_map(near).min_by(|(canary, all), (other, of)| {
        (error(*canary, *all) * i64::from(*of), all, canary).cmp(&(error(*other, *of) * i64::from(*all), of, other))
    });
    // One pod, and no surge: it is the canary's from half the weight on.
    let (canary, all) = nearest.unwrap_or((i32::from(weight >= 50), replicas));
    Counts { canary, stable: all - canary }
}

/// The pods that both should have now.
fn wanted(facts: &Facts<'_>, course: &Course, ratio: Ratio) -> Counts {
    if course.canary().is_none() {
        return Counts { canary: 0, stable: facts.replicas };
    }
    let weight = if course.has_passed_all(facts) { 100 } else { course.permitted(facts) };
    split(weight, facts.replicas, ratio.max_surge)
}

/// Whether the pods are what the current step asks for: the canary available, nobody else with more than its part.
pub fn is_settled(facts: &Facts<'_>, course: &Course) -> bool {
    let (Some(ratio), Some(canary)) = (facts.strategy.ratio, course.canary()) else {
        return false;
    };
    let counts = wanted(facts, course, ratio);
    let own = facts.pods_of(&canary.hash);
    let others_fit = facts.pods.iter().filter(|(hash, _)| **hash != canary.hash).all(|(hash, pods)| {
        let most = if course.stable() == Some(hash.as_str()) { counts.stable } else { 0 };
        pods.wanted <= most && pods.exist <= most
    });
    own.available >= counts.canary && own.wanted == counts.canary && others_fit && course.is_in_force(facts)
}

/// The pods as one line, for telling whether the ratio changed.
pub fn line(facts: &Facts<'_>, course: &Course) -> String {
    let pods = |hash: Option<&str>| hash.map(|hash| facts.pods_of(hash)).unwrap_or_default();
    let canary = pods(course.canary().map(|canary| canary.hash.as_str()));
    format!("pods stable={} canary={}", pods(course.stable()).exist, canary.available.min(canary.wanted))
}

/// Percent of the ready pods that are the canary's.
pub fn weight(facts: &Facts<'_>, course: &Course) -> i32 {
    let ready = |hash: Option<&str>| hash.map_or(0, |hash| facts.pods_of(hash).ready);
    // An aborted canary's pods serve until they are gone.
    let canary = ready(course.status.canary.as_ref().map(|canary| canary.hash.as_str()));
    let all = canary + ready(course.stable());
    if all == 0 { 0 } else { canary * 100 / all }
}

/// The ReplicaSets to create and scale on the way to the wanted ratio.
pub fn actions(facts: &Facts<'_>, course: &Course, ratio: Ratio) -> Vec<Action> {
    let counts = wanted(facts, course, ratio);
    let canary = course.canary().map(|canary| canary.hash.clone());
    let goal = |hash: &str| {
        if course.stable() == Some(hash) {
            counts.stable
        } else if canary.as_deref() == Some(hash) {
            counts.canary
        } else {
            0
        }
    };
    let surge = ratio.max_surge.ceil(facts.replicas);
    let missing = ratio.max_unavailable.floor(facts.replicas).max(i32::from(surge == 0));
    // The last pod waits for the next where there is room for one more.
    let least = (facts.replicas - missing).max(i32::from(surge > 0 && facts.replicas > 0));
    let all: i32 = facts.pods.values().map(|pods| pods.wanted).sum();
    let mut room = (facts.replicas.max(counts.canary + counts.stable) + surge - all).max(0);
    let available: i32 = facts.pods.values().map(|pods| pods.available.min(pods.wanted)).sum();
    let mut spare = (available - least).max(0);

    // The canary first when it grows, the superseded first when something shrinks.
    let mut hashes: Vec<&str> = canary.iter().map(String::as_str).chain(course.stable()).collect();
    let others: Vec<&str> = facts.pods.keys().map(String::as_str).filter(|hash| !hashes.contains(hash)).collect();
    hashes.splice(0..0, others);
    let mut actions = Vec::new();
    for hash in hashes {
        let pods = facts.pods_of(hash);
        let goal = goal(hash);
        let next = if goal >= pods.wanted {
            let more = (goal - pods.wanted).min(room);
            room -= more;
            pods.wanted + more
        } else {
            // Pods that serve nobody go at once; of those that serve, as many as may be missing.
            let fewer = pods.wanted - goal;
            let idle = (pods.wanted - pods.available).clamp(0, fewer);
            let serving = (fewer - idle).min(spare);
            spare -= serving;
            pods.wanted - idle - serving
        };
        actions.extend(scale::set(facts, course, hash, next));
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    const SURGE: Portion = Portion::Percent(25);
    const NONE: Portion = Portion::Count(0);

    #[test]
    fn the_nearest_ratio() {
        for (weight, replicas, surge, canary, stable) in [
            (0, 5, SURGE, 0, 5),
            (100, 5, SURGE, 5, 0),
            (20, 5, SURGE, 1, 4),
            (20, 5, NONE, 1, 4),
            (50, 5, SURGE, 3, 3),
            (50, 5, NONE, 2, 3),
            (5, 10, SURGE, 1, 10),
            (5, 10, NONE, 1, 9),
            (99, 10, NONE, 9, 1),
            (50, 1, SURGE, 1, 1),
            (50, 1, NONE, 1, 0),
            (49, 1, NONE, 0, 1),
            (33, 3, SURGE, 1, 2),
            (50, 0, SURGE, 0, 0),
        ] {
            let want = Counts { canary, stable };
            assert_eq!(split(weight, replicas, surge), want, "{weight}% of {replicas}");
        }
    }

    #[test]
    fn every_ratio_is_complete_and_near() {
        for replicas in 1..60 {
            for weight in 0..=100 {
                for surge in [SURGE, NONE] {
                    let Counts { canary, stable } = split(weight, replicas, surge);
                    let all = canary + stable;
                    let most = replicas + i32::from(surge != NONE);
                    assert!((replicas..=most).contains(&all), "{weight}% of {replicas}: {canary}+{stable}");
                    if (1..100).contains(&weight) && most > 1 {
                        assert!(canary > 0 && stable > 0, "{weight}% of {replicas}: {canary}+{stable}");
                        let nearest = (1..replicas).map(|one| (one * 100 - weight * replicas).abs()).min();
                        let error = (canary * 100 - weight * all).abs();
                        assert!(
                            nearest.is_none_or(|nearest| error * replicas <= nearest * all),
                            "{weight}% of {replicas}"
                        );
                    }
                }
            }
        }
    }
}
