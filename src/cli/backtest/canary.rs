//! Hypothetical canaries: a part of the requests that were really made, as they were, or worse. No verdicts.

use fastrand::Rng;
use jiff::SignedDuration;

use super::plan::{Phase, Plan};
use crate::evidence::{Count, Window, binomial};
use crate::plan::weigh::steps_in;

/// Requests between two instants of the past: all, and those beyond each bound, the lowest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slice {
    pub(super) requests: f64,
    pub(super) bad: Vec<f64>,
}

/// One pod in each window; none where it was not counted.
pub(super) type Pod = Vec<Option<Count>>;

/// A canary that there was not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Canary {
    /// Requests by chance: as good as stable, since it is stable.
    Good,
    /// Whole pods of stable, with all that only they have.
    Pods,
    /// So many times as many bad requests.
    Times(f64),
    /// So much more of the requests is bad.
    More(f64),
}

impl Canary {
    /// Its name.
    pub(super) fn name(self) -> String {
        match self {
            Self::Good => "good".to_owned(),
            Self::Pods => "good, whole pods".to_owned(),
            Self::Times(factor) => format!("x{factor}"),
            Self::More(part) => format!("+{} pp", part * 100.0),
        }
    }

    /// Whether a verdict against it would be wrong.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Good | Self::Pods)
    }
}

/// One window of a release.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Both sides, one entry a bound.
    pub(super) windows: Vec<Window>,
    /// Whether it counts, and not only harms: pods are warm.
    pub(super) counts: bool,
    /// Bad requests of the canary.
    pub(super) harmed: f64,
}

/// The part of the canary in each window of a release, and whether the window counts.
pub(super) fn shares(plan: &Plan, step: SignedDuration) -> Vec<(f64, bool)> {
    let cold = steps_in(plan.warmup + step - SignedDuration::from_millis(1), step);
    let mut before = 0;
    let mut shares = Vec::new();
    for Phase { weight, lasts } in &plan.phases {
        let cold = if *weight > before { cold } else { 0 };
        before = *weight;
        shares.extend((0..steps_in(*lasts, step)).map(|at| (f64::from(*weight) / 100.0, at >= cold)));
    }
    shares
}

/// A release with a canary that got its share of what was requested.
pub(super) fn release(
    slices: &[Slice],
    shares: &[(f64, bool)],
    canary: Canary,
    rates: &[f64],
    chance: &mut Rng,
) -> Vec<Seen> {
    let each = slices.iter().zip(shares);
    each.map(|(slice, (share, counts))| {
        let (own, rest) = thinned(slice, *share, chance);
        seen(&worse(own, canary, rates, chance), &rest, *counts)
    })
    .collect()
}

/// Divides the requests of a window between canary and stable, each request by itself.
fn thinned(slice: &Slice, share: f64, chance: &mut Rng) -> (Slice, Slice) {
    let mut own = Vec::new();
    let mut sum = 0.0;
    let mut beyond = 0.0;
    // From the highest bound down: what is beyond a bound is beyond the lower ones, too.
    for bad in slice.bad.iter().rev() {
        sum += binomial(chance, bad - beyond, share);
        beyond = *bad;
        own.push(sum);
    }
    own.reverse();
    let requests = sum + binomial(chance, slice.requests - beyond, share);
    let rest = slice.bad.iter().zip(&own).map(|(all, own)| all - own).collect();
    (Slice { requests, bad: own }, Slice { requests: slice.requests - requests, bad: rest })
}

/// Makes good requests bad ones: of the rate that requests had around that time, at the bound in the middle.
fn worse(mut own: Slice, canary: Canary, rates: &[f64], chance: &mut Rng) -> Slice {
    let middle = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
    let more = match canary {
        Canary::Good | Canary::Pods => return own,
        Canary::Times(factor) => middle * (factor - 1.0),
        Canary::More(part) => part,
    };
    let good = own.requests - own.bad.first().copied().unwrap_or(0.0);
    let usual = 1.0 - rates.first().copied().unwrap_or(0.0);
    let extra = binomial(chance, good, (more / usual.max(more)).min(1.0));
    own.bad.iter_mut().for_each(|bad| *bad += extra);
    own
}

/// A release whose canary is some of stable's pods, as many as come next to its share.
pub(super) fn of_pods(pods: &[Pod], shares: &[(f64, bool)], chance: &mut Rng) -> Vec<Seen> {
    let mut pods: Vec<&Pod> = pods.iter().collect();
    chance.shuffle(&mut pods);
    let each = shares.iter().enumerate();
    each.map(|(at, (share, counts))| {
        let present: Vec<Count> = pods.iter().filter_map(|pod| pod.get(at).copied().flatten()).collect();
        let total: f64 = present.iter().map(|pod| pod.requests).sum();
        let (mut own, mut rest) = (Slice { requests: 0.0, bad: vec![0.0] }, Slice { requests: 0.0, bad: vec![0.0] });
        for (index, pod) in present.iter().enumerate() {
            let is_canary = index == 0 || own.requests + pod.requests / 2.0 <= share * total;
            // One pod at least is left to stable.
            let side = if is_canary && index + 1 < present.len() { &mut own } else { &mut rest };
            side.requests += pod.requests;
            side.bad.iter_mut().for_each(|bad| *bad += pod.bad);
        }
        seen(&own, &rest, *counts)
    })
    .collect()
}

fn seen(own: &Slice, rest: &Slice, counts: bool) -> Seen {
    let pairs = own.bad.iter().zip(&rest.bad);
    let windows: Vec<Window> = pairs
        .map(|(bad, other)| Window {
            canary: Count { requests: own.requests, bad: *bad },
            stable: Count { requests: rest.requests, bad: *other },
        })
        .collect();
    let harmed = own.bad.get(own.bad.len() / 2).copied().unwrap_or(0.0);
    Seen { windows, counts, harmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_is_lost_or_made() {
        let mut chance = Rng::with_seed(1);
        let slice = Slice { requests: 1000.0, bad: vec![300.0, 40.0, 0.0] };
        let mut shares = 0.0;
        for _ in 0..400 {
            let (own, rest) = thinned(&slice, 0.2, &mut chance);
            assert!((own.requests + rest.requests - 1000.0).abs() < 1e-9);
            let sums: Vec<f64> = own.bad.iter().zip(&rest.bad).map(|(one, other)| one + other).collect();
            assert_eq!(sums, slice.bad);
            assert!(own.bad.is_sorted_by(|one, other| one >= other) && own.bad[0] <= own.requests, "{own:?}");
            shares += own.bad[0] / 300.0 / 400.0;
        }
        assert!((shares - 0.2).abs() < 0.01, "{shares}");
    }

    #[test]
    fn a_regression_has_the_rate_that_it_is_named_for() {
        let mut chance = Rng::with_seed(2);
        let slice = Slice { requests: 10_000.0, bad: vec![100.0] };
        let mut rate = |canary: Canary| {
            let seen = release(&vec![slice.clone(); 200], &[(0.5, true); 200], canary, &[0.01], &mut chance);
            let sum: f64 = seen.iter().map(|one| one.harmed).sum();
            sum / (200.0 * 5000.0)
        };
        for (canary, wanted) in
            [(Canary::Good, 0.01), (Canary::Times(2.0), 0.02), (Canary::Times(5.0), 0.05), (Canary::More(0.01), 0.02)]
        {
            let found = rate(canary);
            assert!((found / wanted - 1.0).abs() < 0.05, "{canary:?}: {found}, not {wanted}");
        }
    }

    #[test]
    fn whole_pods_are_on_one_side() {
        let pod = |bad: f64| vec![Some(Count { requests: 100.0, bad }); 3];
        let pods = [pod(50.0), pod(0.0), pod(0.0), pod(0.0)];
        let mut chance = Rng::with_seed(3);
        for _ in 0..20 {
            for one in of_pods(&pods, &[(0.05, true), (0.2, true), (0.5, false)], &mut chance) {
                let [window] = one.windows.as_slice() else { panic!("{one:?}") };
                assert!(window.canary.bad > 49.0 || window.canary.bad < 1.0, "{window:?}");
                assert!(window.canary.requests >= 100.0 && window.stable.requests >= 100.0, "{window:?}");
            }
        }
    }
}
