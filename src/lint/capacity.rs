//! Whether the pods can be what the steps ask for: counts, deadlines, disruption budgets and quotas.

use serde_json::Value;

use super::find::{Found, Mark};
use super::input::{Kind, Object};
use super::rule;
use super::service::covers;
use super::steps::STEPS;
use super::subject::Subject;
use crate::plan::ratio;
use crate::plan::strategy::{Scale, Step};
use crate::plan::weight::pods_for;

const DISRUPTION_BUDGET: Kind = ("policy", "PodDisruptionBudget");
const QUOTA: Kind = ("", "ResourceQuota");
/// How far, in percent, the pods' ratio may lie beside a weight.
const BESIDE_MOST: i32 = 10;

/// Looks at the pods of one Rollout.
pub(super) fn check(subject: &Subject<'_>, found: &mut Found) {
    check_deadline(subject, found);
    check_ratio(subject, found);
    check_scale(subject, found);
    check_budgets(subject, found);
    check_quotas(subject, found);
}

/// Pods need their probes' delays and `minReadySeconds` before they count.
fn check_deadline(subject: &Subject<'_>, found: &mut Found) {
    let containers = subject.in_template("/spec/containers").iter();
    let delay = |container: &Value, probe: &str| {
        container.pointer(&format!("/{probe}/initialDelaySeconds")).and_then(Value::as_i64).unwrap_or(0)
    };
    let startup = containers
        .map(|one| delay(one, "startupProbe").max(0) + delay(one, "readinessProbe").max(0))
        .max()
        .unwrap_or(0);
    let ready = i64::from(subject.strategy.min_ready_seconds);
    let deadline = subject.strategy.progress_deadline.as_secs();
    if startup > 0 && deadline > ready && startup.saturating_add(ready) >= deadline {
        let message = format!(
            "{deadline} s are over before a pod can be available: {startup} s of probes' delays and {ready} s of minReadySeconds"
        );
        let path = "spec.progressDeadlineSeconds";
        let fix = format!("write at least {}", startup.saturating_add(ready).saturating_mul(2));
        found.add_with(&rule::DEADLINE_TOO_SHORT, (subject.object, path, Mark::Value), message, &fix);
    }
}

/// Without a route the pods are the weight.
fn check_ratio(subject: &Subject<'_>, found: &mut Found) {
    let (Some(of), Some(replicas)) = (subject.strategy.ratio, subject.strategy.replicas) else { return };
    for (index, step) in subject.strategy.steps.iter().enumerate() {
        let Step::SetWeight(weight) = step else { continue };
        if *weight == 0 || *weight == 100 || replicas == 0 {
            continue;
        }
        let counts = ratio::split(*weight, replicas, of.max_surge);
        let all = counts.canary + counts.stable;
        let real = if all == 0 { 0 } else { counts.canary * 100 / all };
        let path = format!("{STEPS}[{index}].setWeight");
        if counts.canary == 0 || counts.stable == 0 {
            let whose = if counts.canary == 0 { "the canary" } else { "stable" };
            let message = format!("{weight}% leaves {whose} no pod of {replicas}");
            found.add(&rule::WEIGHT_WITHOUT_POD, subject.object, &path, message);
        } else if (real - weight).abs() > BESIDE_MOST {
            let message = format!(
                "{weight}% becomes {real}%: {} of {all} pods are the canary's, the nearest that {replicas} replicas can give",
                counts.canary
            );
            found.add(&rule::WEIGHT_WITHOUT_POD, subject.object, &path, message);
        }
    }
}

/// With a route a scale may leave the canary fewer pods than its weight needs.
fn check_scale(subject: &Subject<'_>, found: &mut Found) {
    let Some(replicas) = subject.strategy.replicas.filter(|_| subject.strategy.routing.is_some()) else { return };
    let mut scaled: Option<i32> = None;
    for (index, step) in subject.strategy.steps.iter().enumerate() {
        match step {
            Step::SetCanaryScale(Scale::Replicas(pods)) => scaled = Some(*pods),
            Step::SetCanaryScale(Scale::Weight(weight)) => scaled = Some(pods_for(*weight, replicas)),
            Step::SetCanaryScale(Scale::MatchTrafficWeight) => scaled = None,
            Step::SetWeight(weight) => {
                let needs = pods_for(*weight, replicas);
                if let Some(pods) = scaled.filter(|pods| *pods > 0 && pods.saturating_mul(2) < needs) {
                    let message = format!(
                        "{weight}% is the traffic of {needs} pods, and setCanaryScale leaves the canary {pods}"
                    );
                    found.add(
                        &rule::SCALE_BELOW_WEIGHT,
                        subject.object,
                        &format!("{STEPS}[{index}].setWeight"),
                        message,
                    );
                }
            }
            Step::Pause(_) | Step::Analysis(_) | Step::Approval(_) | Step::SetRoute(_) | Step::Faulty => {}
        }
    }
}

/// Whether labels that an object selects are all the pods'.
fn selects(subject: &Subject<'_>, object: &Object) -> bool {
    covers(&object.map("/spec/selector/matchLabels"), &subject.labels())
}

fn check_budgets(subject: &Subject<'_>, found: &mut Found) {
    let namespace = subject.object.namespace.as_str();
    for budget in subject.input.of_in(DISRUPTION_BUDGET, namespace).filter(|budget| selects(subject, budget)) {
        let spec = |key: &str| budget.value.pointer(&format!("/spec/{key}"));
        let is_full = |value: &Value| match value {
            Value::String(text) => text == "100%",
            Value::Number(number) => subject
                .strategy
                .replicas
                .is_some_and(|all| all > 0 && number.as_i64().is_some_and(|least| least >= all.into())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
        };
        let is_none =
            |value: &Value| value.as_i64() == Some(0) || value.as_str().is_some_and(|text| text == "0%" || text == "0");
        let what = "so that no pod can be evicted: a node's drain and restarts of the Rollout wait for ever";
        if spec("minAvailable").is_some_and(is_full) {
            let message = format!("asks for every pod of {}, {what}", subject.object.title());
            found.add(&rule::DISRUPTION_BUDGET, budget, "spec.minAvailable", message);
        } else if spec("maxUnavailable").is_some_and(is_none) {
            found.add(
                &rule::DISRUPTION_BUDGET,
                budget,
                "spec.maxUnavailable",
                format!("lets no pod of {} be missing, {what}", subject.object.title()),
            );
        }
    }
}

/// The most pods that there are at once.
fn pods_most(subject: &Subject<'_>) -> Option<i64> {
    let replicas = subject.strategy.replicas?;
    Some(match subject.strategy.ratio {
        Some(of) => i64::from(replicas) + i64::from(of.max_surge.ceil(replicas)),
        None if subject.strategy.dynamic_stable => i64::from(replicas) + i64::from(subject.strategy.least_pods),
        None => 2 * i64::from(replicas),
    })
}

fn check_quotas(subject: &Subject<'_>, found: &mut Found) {
    let Some(most) = pods_most(subject) else { return };
    for quota in subject.input.of_in(QUOTA, &subject.object.namespace) {
        for key in ["pods", "count/pods"] {
            let hard = quota.value.pointer("/spec/hard").and_then(|hard| hard.get(key));
            let allowed = hard.and_then(|hard| hard.as_i64().or_else(|| hard.as_str()?.parse().ok()));
            if let Some(allowed) = allowed.filter(|allowed| *allowed < most) {
                let message = format!(
                    "allows {allowed} pods, and {} has up to {most} at once in a canary",
                    subject.object.title()
                );
                found.add(&rule::QUOTA_TOO_SMALL, quota, &format!("spec.hard.{key}"), message);
            }
        }
    }
}
