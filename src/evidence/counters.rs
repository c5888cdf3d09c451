//! Raw counters of pods at aligned instants to windows of counts.

use std::collections::{BTreeMap, BTreeSet};

use super::Count;

/// One counter at the instants that were asked for, oldest first; none where it has no value.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its values.
    pub values: Vec<Option<f64>>,
}

/// The counts of every pod between each two instants, of so many instants. A pod that is missing at either of them is left
/// out, and so is one whose bad requests alone went back; one that was restarted counts from zero.
pub fn windows(total: &[Series], bad: &[Series], instants: usize) -> Vec<Vec<Count>> {
    let bad_of: BTreeMap<&BTreeMap<String, String>, &Series> = bad.iter().map(|one| (&one.labels, one)).collect();
    let value = |series: &Series, at: usize| series.values.get(at).copied().flatten();
    (1..instants)
        .map(|at| {
            let pods = total.iter().filter_map(|pod| {
                let (before, after) = (value(pod, at - 1)?, value(pod, at)?);
                // A counter of bad requests begins with the first of them.
                let bad = |at| bad_of.get(&pod.labels).and_then(|series| value(series, at)).unwrap_or(0.0);
                if after < before {
                    return Count { requests: after, bad: bad(at) }.checked();
                }
                Count { requests: after - before, bad: bad(at) - bad(at - 1) }.checked()
            });
            pods.collect()
        })
        .collect()
}

/// The upper bounds of a histogram's buckets, in ascending order, without the last, which is infinite.
pub fn bounds_of(buckets: &[Series]) -> Vec<f64> {
    let texts: BTreeSet<&String> = buckets.iter().filter_map(|one| one.labels.get(LE)).collect();
    let mut bounds: Vec<f64> =
        texts.into_iter().filter_map(|text| text.parse().ok()).filter(|bound: &f64| bound.is_finite()).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}

/// The label of a bucket's upper bound.
const LE: &str = "le";

/// Two buckets of a pod.
#[derive(Default)]
struct Pod<'a> {
    all: Option<&'a Series>,
    fast: Option<&'a Series>,
}

/// A histogram's buckets to two counters a pod: all requests, and those slower than a bound.
pub fn slower(buckets: &[Series], bound: f64) -> (Vec<Series>, Vec<Series>) {
    let mut pods: BTreeMap<BTreeMap<String, String>, Pod<'_>> = BTreeMap::new();
    for series in buckets {
        let Some(le) = series.labels.get(LE).and_then(|text| text.parse::<f64>().ok()) else {
            continue;
        };
        let mut labels = series.labels.clone();
        labels.remove(LE);
        let pod = pods.entry(labels).or_default();
        if le == f64::INFINITY {
            pod.all = Some(series);
        } else if le.total_cmp(&bound).is_eq() {
            pod.fast = Some(series);
        }
    }
    let (mut total, mut slow) = (Vec::new(), Vec::new());
    for (labels, pod) in pods {
        let (Some(all), Some(fast)) = (pod.all, pod.fast) else {
            continue;
        };
        let rest = all.values.iter().zip(&fast.values).map(|(all, fast)| Some((*all)? - (*fast)?)).collect();
        slow.push(Series { labels: labels.clone(), values: rest });
        total.push(Series { labels, values: all.values.clone() });
    }
    (total, slow)
}
