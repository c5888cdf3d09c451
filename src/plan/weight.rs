//! Percent of traffic and pods that carry it. Knows nothing of routes or steps.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How one route divides its traffic between stable and canary, in percent of the route's whole traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Percent for stable.
    pub stable: i32,
    /// Percent for the canary.
    pub canary: i32,
}

impl Split {
    /// Divides a share of the traffic (100, less what foreign destinations have) by the canary's weight, never above it.
    pub fn of(share: i32, weight: i32) -> Self {
        let canary = share * weight.clamp(0, 100) / 100;
        Self { stable: share - canary, canary }
    }

    /// The share that both have together.
    pub fn share(self) -> i32 {
        self.stable + self.canary
    }

    /// The canary's weight of the share, in percent, rounded up.
    pub fn weight(self) -> i32 {
        if self.share() <= 0 { 0 } else { (self.canary * 100 + self.share() - 1) / self.share() }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stable, self.canary)
    }
}

/// Pods that carry a weight: that percent of all, rounded up, at least one for any weight.
pub fn pods_for(weight: i32, replicas: i32) -> i32 {
    let pods = (i64::from(weight.clamp(0, 100)) * i64::from(replicas.max(0)) + 99) / 100;
    i32::try_from(pods).unwrap_or(i32::MAX)
}

/// The weight that ready pods carry, of a weight that wants so many pods: each carries its part of the weight.
pub fn carried(weight: i32, ready: i32, wanted: i32) -> i32 {
    if ready <= 0 {
        return 0;
    }
    if ready >= wanted {
        return weight;
    }
    let part = i64::from(weight) * i64::from(ready) / i64::from(wanted);
    i32::try_from(part).unwrap_or(0).max(1).min(weight)
}

/// Pods that are enough to serve everything: all but a quarter, rounded down, as a Deployment has it.
pub fn enough(replicas: i32) -> i32 {
    replicas - replicas / 4
}

/// Percent of traffic that a revision of so many pods carries with those that are ready: all of it with [`enough`].
pub fn capacity(ready: i32, replicas: i32) -> i32 {
    if ready >= enough(replicas) {
        return 100;
    }
    i32::try_from(i64::from(ready.max(0)) * 100 / i64::from(replicas.max(1))).unwrap_or(0)
}

/// The most weight that S3 allows: what ready pods carry, plus one pod's share, never above the weight itself.
pub fn carried_at_most(weight: i32, ready: i32, wanted: i32) -> i32 {
    if ready <= 0 {
        return 0;
    }
    let most = i64::from(weight) * (i64::from(ready) + 1) / i64::from(wanted.max(1));
    i32::try_from(most).unwrap_or(i32::MAX).min(weight).max(i32::from(weight > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_rounded_up() {
        for (weight, replicas, pods) in
            [(0, 5, 0), (1, 5, 1), (20, 5, 1), (21, 5, 2), (50, 5, 3), (100, 5, 5), (5, 0, 0), (80, 1, 1)]
        {
            assert_eq!(pods_for(weight, replicas), pods, "{weight} of {replicas}");
        }
    }

    #[test]
    fn weight_follows_dying_pods_down() {
        for (weight, ready, wanted, want) in [
            (40, 2, 2, 40),
            (40, 3, 2, 40),
            (40, 1, 2, 20),
            (40, 0, 2, 0),
            (50, 1, 3, 16),
            (50, 2, 3, 33),
            (50, 1, 150, 1),
            (0, 1, 0, 0),
            (0, 0, 0, 0),
        ] {
            assert_eq!(carried(weight, ready, wanted), want, "{weight}: {ready} ready of {wanted}");
        }
    }

    #[test]
    fn a_quarter_may_be_missing() {
        for (replicas, want) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (10, 8)] {
            assert_eq!(enough(replicas), want, "{replicas}");
        }
        for (ready, replicas, want) in [(0, 5, 0), (1, 5, 20), (3, 5, 60), (4, 5, 100), (1, 3, 33), (0, 0, 100)] {
            assert_eq!(capacity(ready, replicas), want, "{ready} of {replicas}");
        }
    }

    #[test]
    fn what_is_carried_is_what_s3_allows() {
        for replicas in 1..40 {
            for weight in 0..=100 {
                let wanted = pods_for(weight, replicas);
                for ready in 0..=wanted {
                    assert!(
                        carried(weight, ready, wanted) <= carried_at_most(weight, ready, wanted),
                        "{weight}: {ready} of {wanted}, {replicas} in all"
                    );
                }
            }
        }
    }

    #[test]
    fn a_ready_pod_carries_one_percent() {
        let carried = [(1, 1), (0, 1), (1, 0)].map(|(weight, ready)| carried_at_most(weight, ready, 300));
        assert_eq!(carried, [1, 0, 0]);
    }

    #[test]
    fn foreign_share_stays() {
        assert_eq!(Split::of(90, 20), Split { stable: 72, canary: 18 });
        assert_eq!(Split::of(100, 5), Split { stable: 95, canary: 5 });
        assert_eq!(Split { stable: 72, canary: 18 }.weight(), 20);
    }
}
