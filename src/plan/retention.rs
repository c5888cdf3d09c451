//! How many measurements of a metric the status keeps.

use std::ops::RangeInclusive;

use regex::Regex;

use super::strategy::Fault;
use super::template::{check_patterns, pattern};
use crate::api::analysis::RetentionSpec;

/// Where nothing says how many.
pub const KEPT: usize = 10;
/// A status is one object, and all that is watched of it goes over the wire with each change.
const LIMITS: RangeInclusive<i32> = 1..=100;

/// All that is wrong with what says how many.
pub fn check(path: &str, retention: &[RetentionSpec], faults: &mut Vec<Fault>) {
    let path = format!("{path}.measurementRetention");
    check_patterns(&path, retention.iter().map(|one| &one.metric_name), faults);
    for (index, one) in retention.iter().enumerate().filter(|(_, one)| !LIMITS.contains(&one.limit)) {
        faults.push(Fault::new(format!("{path}[{index}].limit"), format!("{} is not between 1 and 100", one.limit)));
    }
}

/// Patterns of metrics, each with how many are kept, of those that can be read.
pub fn limits<'a>(retention: impl Iterator<Item = &'a RetentionSpec>) -> Vec<(Regex, usize)> {
    retention.filter_map(|one| Some((pattern(&one.metric_name).ok()?, usize::try_from(one.limit).ok()?))).collect()
}

/// How many of a metric: the most that names it.
pub fn kept(metric: &str, limits: &[(Regex, usize)]) -> usize {
    limits.iter().filter(|(pattern, _)| pattern.is_match(metric)).map(|(_, limit)| *limit).max().unwrap_or(KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_names_a_metric() {
        let of = |name: &str, limit| RetentionSpec { metric_name: name.to_owned(), limit };
        let all = [of("err", 3), of(".*", 2), of("^latency$", 50)];
        let limits = limits(all.iter());
        let check = |metric: &str, wanted| assert_eq!(kept(metric, &limits), wanted, "{metric}");
        check("errors", 3);
        check("latency", 50);
        check("other", 2);
        assert_eq!(kept("other", &[]), KEPT);
    }

    #[test]
    fn what_is_out_of_bounds_is_told() {
        let mut faults = Vec::new();
        let of = |name: &str, limit| RetentionSpec { metric_name: name.to_owned(), limit };
        check("spec", &[of("a", 100), of("(", 1), of("b", 0), of("c", 101)], &mut faults);
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("spec.measurementRetention[1].metricName"), "{told:?}");
        assert_eq!(told[1], "spec.measurementRetention[2].limit: 0 is not between 1 and 100");
    }
}
