//! Counters of pods to windows: a request is counted once or not at all, wherever a range is split.

use std::collections::BTreeMap;

use serin::evidence::{Count, Series, bounds_of, slower, windows};

const INSTANTS: usize = 30;

/// A pod: what it really served between two instants, and what its counters say at each.
#[derive(Default)]
struct Pod {
    served: Vec<Count>,
    total: Vec<Option<f64>>,
    bad: Vec<Option<f64>>,
}

/// A pod that comes, goes, misses scrapes and starts again by chance, and whose series of bad requests begins with the first.
fn pod(chance: &mut fastrand::Rng) -> Pod {
    let mut pod = Pod::default();
    let (mut total, mut bad) = (f64::from(chance.u16(..500)), 0.0);
    let (born, gone) = (chance.usize(..INSTANTS), INSTANTS / 2 + chance.usize(..INSTANTS));
    for at in 0..INSTANTS {
        let is_there = at >= born && at <= gone;
        if chance.u8(..12) == 0 {
            (total, bad) = (0.0, 0.0);
        }
        let requests = if is_there { f64::from(chance.u8(..60)) } else { 0.0 };
        let failed = if chance.u8(..3) == 0 { (requests / 4.0).floor() } else { 0.0 };
        (total, bad) = (total + requests, bad + failed);
        pod.served.push(Count { requests, bad: failed });
        let is_seen = is_there && chance.u8(..10) > 0;
        pod.total.push(is_seen.then_some(total));
        pod.bad.push((is_seen && bad > 0.0).then_some(bad));
    }
    pod
}

fn series(name: usize, values: &[Option<f64>]) -> Series {
    Series { labels: BTreeMap::from([("pod".to_owned(), format!("checkout-{name}"))]), values: values.to_vec() }
}

/// Its counters between two instants, both included.
fn cut(all: &[Series], first: usize, last: usize) -> Vec<Series> {
    let part = |one: &Series| Series { labels: one.labels.clone(), values: one.values[first..=last].to_vec() };
    // Prometheus has no series where it has no value.
    all.iter().map(part).filter(|one| one.values.iter().any(Option::is_some)).collect()
}

fn sum(counts: &[Count]) -> Count {
    let plus = |sum: Count, one: &Count| Count { requests: sum.requests + one.requests, bad: sum.bad + one.bad };
    counts.iter().fold(Count::default(), plus)
}

#[test]
fn a_request_is_counted_once_or_not_at_all() {
    let mut chance = fastrand::Rng::with_seed(2);
    let (mut counted, mut served) = (0.0, 0.0);
    for _ in 0..500 {
        let pods: Vec<Pod> = (0..5).map(|_| pod(&mut chance)).collect();
        let total: Vec<Series> = pods.iter().enumerate().map(|(name, pod)| series(name, &pod.total)).collect();
        let bad: Vec<Series> = pods.iter().enumerate().map(|(name, pod)| series(name, &pod.bad)).collect();
        let found = windows(&total, &bad, INSTANTS);
        assert_eq!(found.len(), INSTANTS - 1);
        for (at, counts) in found.iter().enumerate() {
            let really: Vec<Count> = pods.iter().map(|pod| pod.served[at + 1]).collect();
            let (found, really) = (sum(counts), sum(&really));
            assert!(found.requests <= really.requests, "window {at}: {found:?} of {really:?}");
            assert!(found.bad <= really.bad, "window {at}: {found:?} of {really:?}");
            counted += found.requests;
            served += really.requests;
        }
    }
    // Gaps cost requests, and not most of them.
    assert!(counted > 0.6 * served && counted < served, "{counted} of {served}");
}

#[test]
fn a_range_may_be_split_at_any_instant() {
    let mut chance = fastrand::Rng::with_seed(4);
    for _ in 0..200 {
        let pods: Vec<Pod> = (0..4).map(|_| pod(&mut chance)).collect();
        let total: Vec<Series> = pods.iter().enumerate().map(|(name, pod)| series(name, &pod.total)).collect();
        let bad: Vec<Series> = pods.iter().enumerate().map(|(name, pod)| series(name, &pod.bad)).collect();
        let whole: Vec<Count> = windows(&total, &bad, INSTANTS).iter().map(|counts| sum(counts)).collect();
        let split = chance.usize(1..INSTANTS - 1);
        let part = |first: usize, last: usize| {
            let (total, bad) = (cut(&total, first, last), cut(&bad, first, last));
            windows(&total, &bad, last - first + 1).iter().map(|counts| sum(counts)).collect::<Vec<_>>()
        };
        let parts: Vec<Count> = part(0, split).into_iter().chain(part(split, INSTANTS - 1)).collect();
        assert_eq!(parts, whole, "split at {split}");
    }
}

#[test]
fn what_is_no_number_is_left_out() {
    let total = [series(0, &[Some(10.0), Some(f64::NAN), Some(30.0), Some(50.0)])];
    let bad = [series(0, &[None, None, Some(f64::NAN), Some(2.0)])];
    assert_eq!(windows(&total, &bad, 4), vec![vec![]; 3]);
    assert_eq!(windows(&total, &[], 4)[2], [Count { requests: 20.0, bad: 0.0 }]);
    assert!(windows(&total, &bad, 0).is_empty());
    assert!(windows(&[], &bad, 3).iter().all(Vec::is_empty));
}

#[test]
fn buckets_are_two_counters_a_pod() {
    let bucket = |le: &str, values: &[Option<f64>]| {
        let mut one = series(0, values);
        one.labels.insert("le".to_owned(), le.to_owned());
        one
    };
    let buckets = [
        bucket("100", &[Some(5.0), Some(9.0)]),
        bucket("250.0", &[Some(8.0), Some(15.0)]),
        bucket("+Inf", &[Some(9.0), Some(20.0)]),
    ];
    assert_eq!(bounds_of(&buckets), [100.0, 250.0]);
    let (total, slow) = slower(&buckets, 250.0);
    assert_eq!(windows(&total, &slow, 2), [[Count { requests: 11.0, bad: 4.0 }]]);
    let (total, slow) = slower(&buckets, 300.0);
    assert!(total.is_empty() && slow.is_empty(), "a bound that no bucket has");
}
