//! Steps and analyses of a spec, understood.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::super::{retention, template};
use super::{Background, Fault, Gate, Judging, Scale, Step, managed, promotion};
use crate::api::analysis::DryRunSpec;
use crate::api::duration::DurationText;
use crate::api::rollout::{BackgroundAnalysisSpec, CanaryScaleSpec, StepSpec};
use crate::api::schema::{SCALE_MEMBERS, STEP_MEMBERS};

/// All steps.
pub(super) fn parse(steps: &[StepSpec], faults: &mut Vec<Fault>) -> Vec<Step> {
    let parsed: Vec<Step> = steps.iter().enumerate().map(|(index, step)| parse_one(index, step, faults)).collect();
    check_scales(&parsed, faults);
    parsed
}

/// No weight without pods: a scale of no pods must be over before there is weight.
fn check_scales(steps: &[Step], faults: &mut Vec<Fault>) {
    let mut weight = 0;
    let mut without_pods = None;
    let mut routes = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::SetWeight(next) => weight = *next,
            Step::SetCanaryScale(Scale::Replicas(0) | Scale::Weight(0)) => without_pods = Some(index),
            Step::SetCanaryScale(_) => without_pods = None,
            Step::SetRoute(route) if route.matches.is_empty() => drop(routes.remove(&route.name)),
            Step::SetRoute(route) => drop(routes.insert(&route.name)),
            Step::Pause(_) | Step::Analysis(_) | Step::Approval(_) | Step::Faulty => continue,
        }
        if let (Some(scale), Some(route)) = (without_pods, routes.first()) {
            faults.push(Fault::new(
                format!("spec.strategy.canary.steps[{index}]"),
                format!("{route} leads requests to the canary while steps[{scale}].setCanaryScale leaves it no pods; scale it up before"),
            ));
            return;
        }
        if let Some(scale) = without_pods.filter(|_| weight > 0) {
            faults.push(Fault::new(
                format!("spec.strategy.canary.steps[{index}]"),
                format!("gives the canary {weight}% while steps[{scale}].setCanaryScale leaves it no pods; scale it up before"),
            ));
            return;
        }
    }
}

fn parse_one(index: usize, step: &StepSpec, faults: &mut Vec<Fault>) -> Step {
    let path = format!("spec.strategy.canary.steps[{index}]");
    let refused_here = faults.iter().any(|fault| fault.path.starts_with(&format!("{path}.")));
    match (&step.set_header_route, &step.set_mirror_route, &step.approval) {
        (None, None, None) => {}
        (None, None, Some(approval)) if is_alone(step) => return promotion::approval(&path, approval, faults),
        (Some(route), None, None) if is_alone(step) => {
            return managed::header(&format!("{path}.setHeaderRoute"), route, faults);
        }
        (None, Some(route), None) if is_alone(step) => {
            return managed::mirror(&format!("{path}.setMirrorRoute"), route, faults);
        }
        _ => {
            faults.push(Fault::new(path, format!("exactly one of {} is required", STEP_MEMBERS.join(", "))));
            return Step::Faulty;
        }
    }
    match (step.set_weight, &step.set_canary_scale, &step.pause, &step.analysis) {
        (Some(weight), None, None, None) if (0..=100).contains(&weight) => Step::SetWeight(weight),
        (None, Some(scale), None, None) => parse_scale(&format!("{path}.setCanaryScale"), scale, faults),
        (Some(weight), None, None, None) => {
            faults.push(Fault::new(format!("{path}.setWeight"), format!("{weight} is not between 0 and 100")));
            Step::Faulty
        }
        (None, None, Some(pause), None) => match pause.duration.as_ref().map(DurationText::parse).transpose() {
            Ok(duration) => Step::Pause(duration),
            Err(message) => {
                faults.push(Fault::new(format!("{path}.pause.duration"), message));
                Step::Faulty
            }
        },
        (None, None, None, Some(analysis)) => {
            let path = format!("{path}.analysis");
            let gate = Gate {
                templates: analysis.templates.clone(),
                args: analysis.args.clone().unwrap_or_default(),
                dry_run: patterns(analysis.dry_run.as_ref()),
                retention: analysis.measurement_retention.clone().unwrap_or_default(),
                until_decided: analysis.until.is_some(),
                at_most: parse_duration(&format!("{path}.atMost"), analysis.at_most.as_ref(), faults),
            };
            check_gate(&path, &gate, faults);
            Step::Analysis(gate)
        }
        (None, None, None, None) if refused_here => Step::Faulty,
        _ => {
            faults.push(Fault::new(path, format!("exactly one of {} is required", STEP_MEMBERS.join(", "))));
            Step::Faulty
        }
    }
}

/// Whether a step has no member but an approval, a header or a mirror route.
fn is_alone(step: &StepSpec) -> bool {
    step.set_weight.is_none() && step.set_canary_scale.is_none() && step.pause.is_none() && step.analysis.is_none()
}

fn patterns(dry_run: Option<&Vec<DryRunSpec>>) -> Vec<String> {
    dry_run.into_iter().flatten().map(|one| one.metric_name.clone()).collect()
}

fn parse_duration(path: &str, text: Option<&DurationText>, faults: &mut Vec<Fault>) -> Option<SignedDuration> {
    match text?.parse() {
        Ok(duration) => Some(duration),
        Err(message) => {
            faults.push(Fault::new(path, message));
            None
        }
    }
}

/// What all analyses have in common.
pub(super) fn parse_judging(analysis: &BackgroundAnalysisSpec, faults: &mut Vec<Fault>) -> Judging {
    let path = "spec.strategy.canary.analysis";
    let default = Judging::default();
    let confidence = analysis.confidence.unwrap_or(1.0 - default.alpha);
    if !(confidence > 0.5 && confidence < 1.0) {
        faults.push(Fault::new(format!("{path}.confidence"), format!("{confidence} is not above 0.5 and below 1")));
    }
    Judging {
        alpha: 1.0 - confidence,
        warmup: parse_duration(&format!("{path}.warmup"), analysis.warmup.as_ref(), faults).unwrap_or(default.warmup),
        on_inconclusive: analysis.on_inconclusive.unwrap_or_default(),
    }
}

pub(super) fn parse_background(
    analysis: &BackgroundAnalysisSpec,
    steps: usize,
    faults: &mut Vec<Fault>,
) -> Option<Background> {
    let path = "spec.strategy.canary.analysis";
    let Some(templates) = analysis.templates.clone() else {
        for (field, is_given) in [
            ("startingStep", analysis.starting_step.is_some()),
            ("args", analysis.args.is_some()),
            ("dryRun", analysis.dry_run.is_some()),
            ("measurementRetention", analysis.measurement_retention.is_some()),
        ] {
            if is_given {
                faults.push(Fault::new(
                    format!("{path}.{field}"),
                    "is of templates in the background; name some in templates",
                ));
            }
        }
        return None;
    };
    let args = analysis.args.clone().unwrap_or_default();
    let dry_run = patterns(analysis.dry_run.as_ref());
    let retention = analysis.measurement_retention.clone().unwrap_or_default();
    let gate = Gate { templates, args, dry_run, retention, ..Gate::default() };
    check_gate(path, &gate, faults);
    let starting_step = usize::try_from(analysis.starting_step.unwrap_or(0)).unwrap_or(0);
    if starting_step >= steps.max(1) {
        faults.push(Fault::new(
            format!("{path}.startingStep"),
            format!("{starting_step} is not the index of one of the {steps} steps"),
        ));
    }
    Some(Background { gate, starting_step })
}

fn check_gate(path: &str, gate: &Gate, faults: &mut Vec<Fault>) {
    template::check_patterns(&format!("{path}.dryRun"), gate.dry_run.iter(), faults);
    retention::check(path, &gate.retention, faults);
    if gate.templates.is_empty() {
        faults.push(Fault::new(format!("{path}.templates"), "names no template; add templateName"));
    }
    let mut names = BTreeSet::new();
    for (index, arg) in gate.args.iter().enumerate() {
        let path = format!("{path}.args[{index}]");
        if !names.insert(&arg.name) {
            faults.push(Fault::new(format!("{path}.name"), format!("{} is given twice", arg.name)));
        }
        let sources = arg.value_from.as_ref().map(|source| {
            usize::from(source.pod_template_hash_value.is_some()) + usize::from(source.field_ref.is_some())
        });
        match (&arg.value, sources) {
            (Some(_), None) | (None, Some(1)) => {}
            (None, Some(_)) if faults.iter().any(|fault| fault.path.starts_with(&path)) => {}
            (None, Some(_)) => faults.push(Fault::new(
                format!("{path}.valueFrom"),
                "exactly one of podTemplateHashValue, fieldRef is required",
            )),
            _ => faults.push(Fault::new(path, "exactly one of value, valueFrom is required")),
        }
    }
}

fn parse_scale(path: &str, scale: &CanaryScaleSpec, faults: &mut Vec<Fault>) -> Step {
    match (scale.replicas, scale.weight, scale.match_traffic_weight) {
        (Some(replicas), None, None) if replicas >= 0 => Step::SetCanaryScale(Scale::Replicas(replicas)),
        (None, Some(weight), None) if (0..=100).contains(&weight) => Step::SetCanaryScale(Scale::Weight(weight)),
        (None, None, Some(true)) => Step::SetCanaryScale(Scale::MatchTrafficWeight),
        (Some(replicas), None, None) => {
            faults.push(Fault::new(format!("{path}.replicas"), format!("{replicas} is negative")));
            Step::Faulty
        }
        (None, Some(weight), None) => {
            faults.push(Fault::new(format!("{path}.weight"), format!("{weight} is not between 0 and 100")));
            Step::Faulty
        }
        (None, None, Some(false)) => {
            faults.push(Fault::new(format!("{path}.matchTrafficWeight"), "must be true; or remove the step"));
            Step::Faulty
        }
        _ => {
            faults.push(Fault::new(path, format!("exactly one of {} is required", SCALE_MEMBERS.join(", "))));
            Step::Faulty
        }
    }
}
