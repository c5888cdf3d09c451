//! Metrics that count requests, `compare` and `limit`: what is wrong with one, and what it asks. Knows nothing of answers.

use jiff::SignedDuration;

use super::baseline;
use super::preset;
use super::strategy::Fault;
use super::template::Names;
use crate::api::analysis::MetricSpec;
use crate::api::comparison::{CountPreset, Counts, Reference};
use crate::api::duration::DurationText;
use crate::evidence::{Against, Test};

/// Length of a window where the template does not say: Prometheus' usual interval of scrapes.
pub const WINDOW: SignedDuration = SignedDuration::from_secs(15);
/// How late a window is asked for where the template does not say: a scrape, and what Prometheus needs to store it.
const LAG: SignedDuration = SignedDuration::from_secs(20);
const TOLERANCE: f64 = 1.25;
const MARGIN: f64 = 2.0;
const CONFIDENCE: f64 = 0.95;
/// Why there is no baseline where the pods are the weight.
const WITHOUT_ROUTE: &str =
    "a baseline needs trafficRouting: without it its pods would take a part of the traffic of their own; remove it";
/// Why Envoy's counters know no baseline.
const OF_ENVOY: &str =
    "envoy counts by subset or Service, where the baseline's pods are stable's; use an istio preset, or remove it";
const REVISION: &str = "{{revision}}";
const WORKLOAD: &str = "{{workload}}";

/// A metric that counts requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The test, but for what is known of stable's past alone.
    pub test: Test,
    /// What the canary is held against; none for a limit.
    pub reference: Option<Reference>,
    /// The counters.
    pub counters: Counters,
    /// Its part of the probability of an abort without reason.
    pub weight: f64,
    /// Whether it passes early wherever it is measured.
    pub is_early: bool,
    /// How late a window is asked for.
    pub lag: SignedDuration,
}

impl Counted {
    /// Its part of the probability of an abort without reason, beside metrics with so much weight, its own among it.
    pub fn share(&self, alpha: f64, weights: f64) -> f64 {
        alpha * self.weight / weights.max(self.weight)
    }
}

/// The counters of a metric, in PromQL.
#[derive(Debug, Clone, PartialEq)]
pub enum Counters {
    /// Bad requests among all.
    Errors {
        /// The canary's.
        canary: Pair,
        /// What it is held against: stable's, or the baseline's; none for a limit.
        other: Option<Pair>,
        /// Stable's by the pods that answered, where they are told apart and matter.
        pods: Option<Pair>,
    },
    /// Buckets of a histogram.
    Latency {
        /// The canary's.
        canary: String,
        /// What it is held against: stable's, or the baseline's; none for a limit.
        other: Option<String>,
        /// Stable's past, where the bounds are taken from it.
        past: Option<String>,
        /// The one bound, in the histogram's unit; none takes all that fit.
        bound: Option<f64>,
    },
}

/// Two counters.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// All requests.
    pub total: String,
    /// The bad ones.
    pub bad: String,
}

impl Counted {
    /// What the canary is held against, in a word.
    pub fn other(&self) -> &'static str {
        if self.is_against_baseline() { "the baseline" } else { "stable" }
    }

    /// Whether the canary is held against a baseline.
    pub fn is_against_baseline(&self) -> bool {
        self.reference == Some(Reference::Baseline)
    }
}

impl Counters {
    /// The queries of every window, in the order in which their answers are read.
    pub fn texts(&self) -> Vec<String> {
        let pair = |pair: &Pair| [pair.total.clone(), pair.bad.clone()];
        match self {
            Self::Errors { canary, other, .. } => {
                [Some(canary), other.as_ref()].into_iter().flatten().flat_map(pair).collect()
            }
            Self::Latency { canary, other, .. } => {
                [Some(canary), other.as_ref()].into_iter().flatten().cloned().collect()
            }
        }
    }

    /// The queries about stable's past; none where nothing of it matters.
    pub fn calibration(&self) -> Vec<String> {
        match self {
            Self::Errors { pods, .. } => pods.iter().flat_map(|pods| [pods.total.clone(), pods.bad.clone()]).collect(),
            Self::Latency { past, .. } => past.iter().cloned().collect(),
        }
    }
}

/// All that is wrong with a metric that counts requests.
pub fn check(path: &str, metric: &MetricSpec, counts: &Counts<'_>, faults: &mut Vec<Fault>) {
    let not_of_counts = [
        ("initialDelay", metric.initial_delay.is_some()),
        ("failureLimit", metric.failure_limit.is_some()),
        ("inconclusiveLimit", metric.inconclusive_limit.is_some()),
        ("consecutiveSuccessLimit", metric.consecutive_success_limit.is_some()),
        ("successCondition", metric.success_condition.is_some()),
        ("failureCondition", metric.failure_condition.is_some()),
        ("onNoData", metric.on_no_data.is_some()),
        ("for", metric.hold.is_some()),
    ];
    for (field, _) in not_of_counts.into_iter().filter(|(_, is_given)| *is_given) {
        let why = format!("is not of {}, which weighs the counts itself; remove it", counts.member);
        faults.push(Fault::new(format!("{path}.{field}"), why));
    }
    let interval = metric.interval.as_ref().and_then(|interval| interval.parse().ok());
    let is_whole = |interval: &SignedDuration| interval.as_secs() >= 1 && interval.subsec_nanos() == 0;
    if interval.is_some_and(|interval| !is_whole(&interval)) {
        faults.push(Fault::new(
            format!("{path}.interval"),
            "is not a whole number of seconds, which windows begin and end at",
        ));
    }
    let of_member = format!("{path}.{}", counts.member);
    let mut fault = |field: &str, why: String| faults.push(Fault::new(format!("{of_member}.{field}"), why));
    check_counters(counts, &mut fault);
    let least = |value: Option<f64>, least: f64| value.filter(|value| value.is_nan() || *value < least);
    if let Some(compare) = &metric.compare {
        if let Some(tolerance) = least(compare.tolerance, 1.0) {
            fault(
                "tolerance",
                format!("{tolerance} is less than 1: the canary would have to be better than stable; write 1 or more"),
            );
        }
        let is_of_envoy = matches!(compare.preset, Some(CountPreset::EnvoyErrors | CountPreset::EnvoyLatency));
        if compare.against == Some(Reference::Baseline) && is_of_envoy {
            fault("against", OF_ENVOY.into());
        }
        if let Some(floor) = compare.floor.filter(|floor| !(0.0..1.0).contains(floor)) {
            fault("floor", format!("{floor} is no rate: write 0 or more, and less than 1"));
        }
    }
    if let Some(limit) = metric.limit.as_ref().filter(|limit| !(limit.max > 0.0 && limit.max < 1.0)) {
        fault("max", format!("{} is no limit of a rate: write a number above 0 and below 1, such as 0.01", limit.max));
    }
    if let Some(early) = counts.early {
        if let Some(margin) = least(early.margin, 1.0) {
            fault("earlyPromotion.margin", format!("{margin} is less than 1; write 1 or more"));
        }
        if early.margin.is_some() && counts.member == "limit" {
            fault("earlyPromotion.margin", "is of compare alone; remove it".into());
        }
        if let Some(confidence) = early.confidence.filter(|confidence| !(*confidence > 0.5 && *confidence < 1.0)) {
            fault("earlyPromotion.confidence", format!("{confidence} is not above 0.5 and below 1"));
        }
    }
    if let Some(Err(why)) = counts.dispersion.map(dispersion) {
        fault("dispersion", why);
    }
    if let Some(Err(why)) = counts.lag.map(DurationText::parse) {
        fault("lag", why);
    }
}

fn check_counters(counts: &Counts<'_>, fault: &mut impl FnMut(&str, String)) {
    match (counts.preset, counts.bad, counts.total) {
        (Some(_), None, None) => {}
        (None, Some(bad), Some(total)) => {
            for (field, query) in [("bad", bad), ("total", total)] {
                if !query.contains(REVISION) && !query.contains(WORKLOAD) {
                    fault(
                        field,
                        format!(
                            "names neither {REVISION} nor {WORKLOAD}: canary and stable would have the same counts"
                        ),
                    );
                }
            }
        }
        (None, None, None) => fault("preset", "is required, or bad and total are".into()),
        (None, Some(_), None) => fault("total", "is required with bad".into()),
        (None, None, Some(_)) => fault("bad", "is required with total".into()),
        (Some(_), ..) => fault("preset", "has counters of its own; remove it, or bad and total".into()),
    }
    let is_latency = counts.preset.is_some_and(CountPreset::is_latency);
    match counts.slower_than.map(DurationText::parse) {
        Some(_) if !is_latency => fault("slowerThan", "is of a preset of latency alone; remove it".into()),
        Some(Err(why)) => fault("slowerThan", why),
        None if is_latency && counts.member == "limit" => {
            fault("slowerThan", "is required: a limit is one of requests that are slower than a bound".into());
        }
        Some(Ok(_)) | None => {}
    }
}

/// `auto`, `none`, or a number of 1 or more.
fn dispersion(text: &str) -> Result<Dispersion, String> {
    match text {
        "auto" => Ok(Dispersion::Measured),
        "none" => Ok(Dispersion::None),
        text => match text.parse() {
            Ok(number) if (1.0..1e9).contains(&number) => Ok(Dispersion::Known(number)),
            Ok(_) | Err(_) => Err(format!("{text:?} is not auto, none, or a number of 1 or more")),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Dispersion {
    Measured,
    None,
    Known(f64),
}

/// A metric without faults, its queries filled in; or the field that cannot be measured here, and why.
pub fn fill(
    metric: &MetricSpec,
    counts: &Counts<'_>,
    filled: impl Fn(&str) -> Result<String, Fault>,
    names: &Names<'_>,
) -> Result<Result<Counted, Fault>, (&'static str, String)> {
    let margin = counts.early.and_then(|early| early.margin).unwrap_or(MARGIN);
    let against = match (&metric.compare, &metric.limit) {
        (Some(compare), _) => Against::Stable {
            tolerance: compare.tolerance.unwrap_or(TOLERANCE),
            margin,
            floor: compare.floor.unwrap_or(0.0),
        },
        (None, limit) => Against::Limit(limit.as_ref().map_or(1.0, |limit| limit.max)),
    };
    let dispersion = counts.dispersion.and_then(|text| dispersion(text).ok()).unwrap_or(Dispersion::Measured);
    let usual = Test::against(against);
    let test = Test {
        beta: 1.0 - counts.early.and_then(|early| early.confidence).unwrap_or(CONFIDENCE),
        min_requests: counts
            .min_requests
            .and_then(|least| u32::try_from(least).ok())
            .map_or(usual.min_requests, f64::from),
        min_windows: counts.min_windows.and_then(|least| u32::try_from(least).ok()).unwrap_or(usual.min_windows),
        votes: if dispersion == Dispersion::Measured { usual.votes } else { None },
        dispersion: if let Dispersion::Known(number) = dispersion { Some(number) } else { None },
        ..usual
    };
    let reference = metric.compare.as_ref().map(|_| metric.reference());
    if reference == Some(Reference::Baseline) && !names.place.is_routed() {
        return Err(("against", WITHOUT_ROUTE.to_owned()));
    }
    let counters = match counts.preset {
        Some(preset) => {
            let bound = counts.slower_than.and_then(|text| text.parse().ok());
            preset::counters(preset, bound, reference, names)?
        }
        None => match pairs(counts, reference, filled, names) {
            Ok(counters) => counters,
            Err(fault) => return Ok(Err(fault)),
        },
    };
    // What pods of stable differ by is measured only where it is asked for.
    let counters = match counters {
        Counters::Errors { canary, other, .. } if dispersion != Dispersion::Measured || reference.is_none() => {
            Counters::Errors { canary, other, pods: None }
        }
        Counters::Errors { .. } | Counters::Latency { .. } => counters,
    };
    Ok(Ok(Counted {
        test,
        reference,
        counters,
        weight: metric.weight.unwrap_or(1.0),
        is_early: counts.early.is_some(),
        lag: counts.lag.and_then(|lag| lag.parse().ok()).unwrap_or(LAG),
    }))
}

/// The user's own counters of both sides.
fn pairs(
    counts: &Counts<'_>,
    reference: Option<Reference>,
    filled: impl Fn(&str) -> Result<String, Fault>,
    names: &Names<'_>,
) -> Result<Counters, Fault> {
    let (bad, total) = (filled(counts.bad.unwrap_or_default())?, filled(counts.total.unwrap_or_default())?);
    let of = |revision: &str, workload: &str| {
        let own = |query: &str| query.replace(REVISION, revision).replace(WORKLOAD, workload);
        Pair { total: own(&total), bad: own(&bad) }
    };
    let of_revision = |hash: &str| of(hash, &format!("{}-{hash}", names.rollout));
    let stable = reference.is_some().then(|| of_revision(names.stable));
    let other = match reference {
        Some(Reference::Baseline) => {
            let (stable, canary) = (names.stable, names.canary);
            Some(of(&baseline::revision(stable, canary), &baseline::name(names.rollout, stable, canary)))
        }
        Some(Reference::Stable) | None => stable.clone(),
    };
    Ok(Counters::Errors { canary: of_revision(names.canary), other, pods: stable })
}
