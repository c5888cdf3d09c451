//! What each Rollout is at. These series are made when they are read, of the Rollouts that there are then: they go with their
//! Rollout, and nothing is kept for them.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::api::status::{
    Aborted, AnalysisKind, Assessment, EvidenceStatus, MetricStatus, Phase, RevisionStatus, RolloutStatus, Verdict,
};
use crate::api::watched::Rollout;

/// All Rollouts that this replica handles, once they are known.
pub(super) type Rollouts = Arc<OnceLock<Box<dyn Fn() -> Vec<Arc<Rollout>> + Send + Sync>>>;

type Labels = Vec<(&'static str, String)>;
type Series = Vec<(Labels, f64)>;

/// The series of each Rollout that this replica handles, so that each is there once.
pub(super) struct EachRollout {
    pub(super) rollouts: Rollouts,
}

impl Debug for EachRollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EachRollout")
    }
}

/// Name, help, and the series of one Rollout, each with the labels that it has besides the Rollout's name.
type Family = (&'static str, &'static str, fn(&RolloutStatus) -> Series);

const FAMILIES: &[Family] = &[
    ("rollout_info", "What each Rollout is at: its phase, and the revisions with the commits that brought them", info),
    ("rollout_phase", "1 for the phase that a Rollout is in, 0 for the others", phases),
    (
        "rollout_weight_percent",
        "Traffic of stable and canary: wanted, observed in the route, in force at every proxy",
        weights,
    ),
    ("rollout_replicas", "Pods of stable and canary: wanted and ready", replicas),
    ("rollout_step", "Step under way, counting from 1, while a canary is in progress", step),
    ("rollout_steps", "Steps of the canary in progress", steps),
    ("rollout_wait_timestamp_seconds", "Since when a Rollout waits, by what for", waits),
    ("rollout_analysis_verdict", "1 for the verdict of each metric of the canary", verdicts),
    ("rollout_analysis_value", "Last measurement of each metric of the canary", values),
    (
        "rollout_evidence",
        "How many times more likely the canary is worse, or better, than tolerated than that it is not",
        evidence,
    ),
    ("rollout_evidence_needed", "The evidence that aborts (worse) and that passes (better)", evidence_needed),
    ("rollout_evidence_requests", "Requests that the evidence is of, all and bad ones, by side", evidence_requests),
    (
        "rollout_restore_seconds",
        "From the abort until no proxy sent the canary requests, while it is aborted",
        restored,
    ),
    (
        "rollout_contested_writes",
        "How often somebody else changed the route during this rollout, or its labels lately",
        contested,
    ),
];

impl Collector for EachRollout {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rollouts = self.rollouts.get().map(|rollouts| rollouts()).unwrap_or_default();
        if rollouts.is_empty() {
            return Ok(());
        }
        for (name, help, series_of) in FAMILIES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for rollout in &rollouts {
                for (labels, value) in series_of(&rollout.status) {
                    let labels: Labels = names(rollout).into_iter().chain(labels).collect();
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// A label `namespace` would be the scraped process's own.
fn names(rollout: &Rollout) -> [(&'static str, String); 2] {
    let metadata = &rollout.metadata;
    [
        ("rollout_namespace", metadata.namespace.clone().unwrap_or_default()),
        ("rollout", metadata.name.clone().unwrap_or_default()),
    ]
}

fn label(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

fn info(status: &RolloutStatus) -> Series {
    let hash = |side: &Option<RevisionStatus>| side.as_ref().map(|side| side.hash.clone()).unwrap_or_default();
    let commit = |side: &Option<RevisionStatus>| side.as_ref().and_then(|side| side.commit.clone()).unwrap_or_default();
    let labels = vec![
        ("phase", status.phase.map(|phase| phase.to_string()).unwrap_or_default()),
        ("stable", hash(&status.stable)),
        ("stable_commit", commit(&status.stable)),
        ("canary", hash(&status.canary)),
        ("canary_commit", commit(&status.canary)),
    ];
    vec![(labels, 1.0)]
}

fn phases(status: &RolloutStatus) -> Series {
    let all = [Phase::Healthy, Phase::Progressing, Phase::Paused, Phase::Degraded];
    let is = |phase| f64::from(u8::from(status.phase == Some(phase)));
    all.into_iter().map(|phase| (vec![label("phase", &phase.to_string())], is(phase))).collect()
}

fn sides(status: &RolloutStatus) -> impl Iterator<Item = (&'static str, &RevisionStatus)> {
    let (stable, canary) = (status.stable.iter(), status.canary.iter());
    stable.map(|side| ("stable", side)).chain(canary.map(|side| ("canary", side)))
}

fn weights(status: &RolloutStatus) -> Series {
    let of = |(role, side): (&str, &RevisionStatus)| {
        let known = [
            ("wanted", Some(side.weight)),
            ("observed", Some(side.observed_weight)),
            ("in_force", side.weight_in_force),
        ];
        let series = known.into_iter().filter_map(|(state, weight)| Some((state, weight?)));
        series.map(|(state, weight)| (vec![label("role", role), label("state", state)], f64::from(weight))).collect()
    };
    sides(status).flat_map(|side| -> Series { of(side) }).collect()
}

fn replicas(status: &RolloutStatus) -> Series {
    let of = |(role, side): (&str, &RevisionStatus)| {
        [("wanted", side.replicas), ("ready", side.ready)]
            .map(|(state, pods)| (vec![label("role", role), label("state", state)], f64::from(pods)))
    };
    sides(status).flat_map(of).collect()
}

fn step(status: &RolloutStatus) -> Series {
    let index = status.current_step_index.filter(|_| status.in_progress().is_some());
    let steps = status.attempt.as_ref().map_or(0, |attempt| attempt.steps);
    index.map(|index| (Vec::new(), f64::from(index.saturating_add(1).min(steps)))).into_iter().collect()
}

fn steps(status: &RolloutStatus) -> Series {
    let attempt = status.attempt.as_ref().filter(|_| status.in_progress().is_some());
    attempt.map(|attempt| (Vec::new(), f64::from(attempt.steps))).into_iter().collect()
}

fn waits(status: &RolloutStatus) -> Series {
    let mut since: BTreeMap<&str, f64> = BTreeMap::new();
    for wait in &status.blocked_by {
        let at = wait.since.as_duration().as_secs_f64();
        since.entry(&wait.reason).and_modify(|first| *first = first.min(at)).or_insert(at);
    }
    since.into_iter().map(|(reason, at)| (vec![label("reason", reason)], at)).collect()
}

/// The metrics of the canary's analyses, of its last step with one and in the background; each name once.
fn metrics(status: &RolloutStatus) -> BTreeMap<(&'static str, &str), &MetricStatus> {
    let mut found = BTreeMap::new();
    if status.canary.is_none() {
        return found;
    }
    let analyses = |kind: AnalysisKind| status.analysis.iter().filter(move |analysis| analysis.kind == kind);
    let background = analyses(AnalysisKind::Background).next_back();
    let step = analyses(AnalysisKind::Step).max_by_key(|analysis| analysis.started_at);
    for (name, analysis) in [("background", background), ("step", step)] {
        for metric in analysis.into_iter().flat_map(|analysis| &analysis.metrics) {
            found.insert((name, metric.name.as_str()), metric);
        }
    }
    found
}

fn of_metrics(status: &RolloutStatus, series: impl Fn(&MetricStatus) -> Series) -> Series {
    let mut all = Vec::new();
    for ((analysis, name), metric) in metrics(status) {
        for (labels, value) in series(metric) {
            all.push(([vec![label("analysis", analysis), label("metric", name)], labels].concat(), value));
        }
    }
    all
}

fn verdicts(status: &RolloutStatus) -> Series {
    of_metrics(status, |metric| vec![(vec![label("verdict", verdict(metric.verdict))], 1.0)])
}

/// A verdict as a label.
pub(in crate::controller) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Running => "Running",
        Verdict::Pass => "Pass",
        Verdict::Fail => "Fail",
        Verdict::Inconclusive => "Inconclusive",
    }
}

fn values(status: &RolloutStatus) -> Series {
    of_metrics(status, |metric| value(metric).map(|value| (Vec::new(), value)).into_iter().collect())
}

/// The number that a metric's last measurement gave, the first one of several; none while there is no data.
fn value(metric: &MetricStatus) -> Option<f64> {
    let last = metric.measurements.last()?;
    match last.assessment {
        Assessment::Success | Assessment::Failure | Assessment::Inconclusive | Assessment::Pending => {}
        Assessment::Counted | Assessment::NoData | Assessment::Error => return None,
    }
    last.value.split(", ").next()?.parse().ok()
}

fn of_evidence(status: &RolloutStatus, series: impl Fn(&EvidenceStatus) -> Series) -> Series {
    of_metrics(status, |metric| metric.evidence.as_ref().map(&series).unwrap_or_default())
}

fn evidence(status: &RolloutStatus) -> Series {
    of_evidence(status, |seen| {
        vec![(vec![label("that", "worse")], seen.worse), (vec![label("that", "better")], seen.better)]
    })
}

fn evidence_needed(status: &RolloutStatus) -> Series {
    of_evidence(status, |seen| {
        let known = [("worse", Some(seen.aborts_at)), ("better", seen.passes_at)];
        known.into_iter().filter_map(|(that, needed)| Some((vec![label("that", that)], needed?))).collect()
    })
}

fn evidence_requests(status: &RolloutStatus) -> Series {
    of_evidence(status, |seen| {
        let roles = [("canary", Some(seen.canary)), ("stable", seen.stable), ("baseline", seen.baseline)];
        let known = roles.into_iter().filter_map(|(role, requests)| Some((role, requests?)));
        let series = known.flat_map(|(role, requests)| {
            [("all", requests.total), ("bad", requests.bad)]
                .map(|(which, count)| (vec![label("role", role), label("which", which)], count))
        });
        series.collect()
    })
}

fn restored(status: &RolloutStatus) -> Series {
    let seconds = status.aborted.as_ref().and_then(Aborted::restored_in);
    seconds.map(|seconds| (Vec::new(), seconds)).into_iter().collect()
}

fn contested(status: &RolloutStatus) -> Series {
    let Some(route) = &status.route else { return Vec::new() };
    [("weights", route.contested), ("labels", route.relabelled)]
        .map(|(what, count)| (vec![label("what", what)], f64::from(count)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The series of one family of a status, as they are written but for the names.
    fn check(family: &str, status: &serde_json::Value, wanted: &[&str]) {
        let status: RolloutStatus = serde_json::from_value(status.clone()).unwrap();
        let (_, _, series_of) = FAMILIES.iter().find(|(name, _, _)| *name == family).unwrap();
        let shown = series_of(&status).into_iter().map(|(labels, value)| {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {value}", labels.join(",")).trim_start().to_owned()
        });
        assert_eq!(shown.collect::<Vec<_>>(), wanted, "{family}");
    }

    fn canary() -> serde_json::Value {
        let metric = |name: &str, measurements: serde_json::Value| serde_json::json!({"name": name, "verdict": "Running", "measurements": measurements});
        let measured = |assessment: &str, value: &str| serde_json::json!({"at": "2026-01-01T00:00:30Z", "assessment": assessment, "value": value});
        let mut errors = metric("errors", serde_json::json!([measured("Counted", "2 of 100")]));
        errors["evidence"] = serde_json::json!({
            "verdict": "Undecided", "message": "", "windows": 3, "canary": {"total": 100.0, "bad": 2.0},
            "stable": {"total": 900.0, "bad": 9.0}, "worse": 1.5, "abortsAt": 20.0, "better": 0.5,
        });
        let metrics = vec![
            metric("rate", serde_json::json!([measured("Success", "0.99"), measured("Success", "0.95, 0.9")])),
            metric("silent", serde_json::json!([measured("Success", "0.99"), measured("NoData", "no data")])),
            metric("web", serde_json::json!([measured("Success", "HTTP 200")])),
            errors,
        ];
        let analysis = |kind: &str, step: Option<i32>, metrics: Vec<serde_json::Value>| serde_json::json!({"kind": kind, "step": step, "startedAt": "2026-01-01T00:00:00Z", "verdict": "Running", "metrics": metrics});
        serde_json::json!({
            "phase": "Progressing",
            "stable": {"hash": "7c9f", "weight": 80, "observedWeight": 80, "replicas": 5, "ready": 5},
            "canary": {"hash": "4a1b", "weight": 20, "observedWeight": 20, "weightInForce": 10, "replicas": 2, "ready": 1},
            "currentStepIndex": 1,
            "attempt": {"number": 1, "startedAt": "2026-01-01T00:00:00Z", "steps": 3, "passedSteps": "", "stepStartedAt": "2026-01-01T00:00:00Z"},
            "blockedBy": [
                {"reason": "AnalysisRunning", "message": "", "since": "1970-01-01T00:00:02Z"},
                {"reason": "AnalysisRunning", "message": "", "since": "1970-01-01T00:00:01.5Z"},
            ],
            "analysis": [analysis("Background", None, vec![metric("rate", serde_json::json!([]))]), analysis("Step", Some(1), metrics)],
        })
    }

    #[test]
    fn a_canary_shows_what_it_is_at() {
        let status = canary();
        check(
            "rollout_phase",
            &status,
            &["phase=Healthy 0", "phase=Progressing 1", "phase=Paused 0", "phase=Degraded 0"],
        );
        let weights = [
            "role=stable,state=wanted 80",
            "role=stable,state=observed 80",
            "role=canary,state=wanted 20",
            "role=canary,state=observed 20",
            "role=canary,state=in_force 10",
        ];
        check("rollout_weight_percent", &status, &weights);
        check("rollout_step", &status, &["2"]);
        check("rollout_steps", &status, &["3"]);
        check("rollout_wait_timestamp_seconds", &status, &["reason=AnalysisRunning 1.5"]);
    }

    #[test]
    fn metrics_show_verdicts_values_and_evidence_each_once() {
        let status = canary();
        let verdicts = [
            "analysis=background,metric=rate,verdict=Running 1",
            "analysis=step,metric=errors,verdict=Running 1",
            "analysis=step,metric=rate,verdict=Running 1",
            "analysis=step,metric=silent,verdict=Running 1",
            "analysis=step,metric=web,verdict=Running 1",
        ];
        check("rollout_analysis_verdict", &status, &verdicts);
        // No data, no number, and counts are no values.
        check("rollout_analysis_value", &status, &["analysis=step,metric=rate 0.95"]);
        check(
            "rollout_evidence",
            &status,
            &["analysis=step,metric=errors,that=worse 1.5", "analysis=step,metric=errors,that=better 0.5"],
        );
        check("rollout_evidence_needed", &status, &["analysis=step,metric=errors,that=worse 20"]);
        let requests = [
            "analysis=step,metric=errors,role=canary,which=all 100",
            "analysis=step,metric=errors,role=canary,which=bad 2",
            "analysis=step,metric=errors,role=stable,which=all 900",
            "analysis=step,metric=errors,role=stable,which=bad 9",
        ];
        check("rollout_evidence_requests", &status, &requests);
    }

    #[test]
    fn at_rest_nothing_is_shown_of_a_canary() {
        let mut status = canary();
        status["canary"] = serde_json::Value::Null;
        status["attempt"] = serde_json::Value::Null;
        for family in ["rollout_step", "rollout_steps", "rollout_analysis_verdict", "rollout_analysis_value"] {
            check(family, &status, &[]);
        }
    }

    #[test]
    fn an_aborted_canary_shows_how_long_traffic_took_to_be_restored() {
        let mut status = canary();
        let aborted = |restored: Option<&str>| serde_json::json!({"hash": "4a1b", "at": "2026-01-01T00:01:00Z", "reason": "", "message": "", "restoredAt": restored});
        status["aborted"] = aborted(None);
        check("rollout_restore_seconds", &status, &[]);
        check("rollout_step", &status, &[]);
        status["aborted"] = aborted(Some("2026-01-01T00:01:00.520Z"));
        check("rollout_restore_seconds", &status, &["0.5"]);
        status["route"] = serde_json::json!({"observed": "", "contested": 2});
        check("rollout_contested_writes", &status, &["what=weights 2", "what=labels 0"]);
    }
}
