//! How much more the pods of one revision differ from each other than chance alone makes them.

use super::Count;

/// Bad requests without which nothing is said.
const BAD_LEAST: f64 = 20.0;

/// Windows of pods of the same revision to their dispersion, 1 at least: `sum (x - m p)^2 / sum m p (1 - p)`, with the share
/// `p` of a pod in a window's requests and `m` bad requests in it. What hits all pods alike does not count. None with fewer
/// than two pods, or too few bad requests.
pub fn dispersion(windows: &[Vec<Count>]) -> Option<f64> {
    let (mut found, mut expected, mut all_bad) = (0.0, 0.0, 0.0);
    for pods in windows {
        let pods: Vec<Count> = pods.iter().filter_map(|pod| pod.checked()).filter(|pod| pod.requests > 0.0).collect();
        let requests: f64 = pods.iter().map(|pod| pod.requests).sum();
        let bad: f64 = pods.iter().map(|pod| pod.bad).sum();
        if pods.len() < 2 {
            continue;
        }
        all_bad += bad;
        for pod in pods {
            let share = pod.requests / requests;
            found += (pod.bad - bad * share).powi(2);
            expected += bad * share * (1.0 - share);
        }
    }
    (all_bad >= BAD_LEAST && expected > 0.0).then(|| (found / expected).max(1.0))
}
