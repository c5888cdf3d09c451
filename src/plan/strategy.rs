//! Spec to strategy, or all faults with the path of the field and what to do. Parses, never validates twice.
//! A faulty spec still gives what could be read, so that scaling, an abort and the drain go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::names;
use crate::api::rollout::{
    ArgumentSpec, BackgroundAnalysisSpec, IstioSpec, RolloutSpec, StepSpec, TemplateRef, VirtualServiceRef,
};
use crate::api::schema::{ROLLOUT_REFUSED, Refused, STEP_MEMBERS};

/// What is wrong with one field, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// Path of the field, such as `spec.strategy.canary.steps[2].setWeight`.
    pub path: String,
    /// A sentence without the path.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A Rollout's spec, understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Strategy {
    /// Pods wanted, where Git says so.
    pub replicas: Option<i32>,
    /// Labels that select the pods.
    pub selector: BTreeMap<String, String>,
    /// The pod template, where there is one.
    pub template: Option<Value>,
    /// Seconds until a ready pod is available.
    pub min_ready_seconds: i32,
    /// How long a canary may wait for pods.
    pub progress_deadline: SignedDuration,
    /// Whether exceeding it aborts.
    pub deadline_aborts: bool,
    /// Old ReplicaSets to keep.
    pub history_limit: usize,
    /// Whether Git holds the rollout.
    pub paused: bool,
    /// Where the weights are, where that could be read.
    pub routing: Option<Routing>,
    /// How long pods without traffic are kept after a promotion.
    pub scale_down_delay: SignedDuration,
    /// How long an aborted canary's pods are kept; none keeps them.
    pub abort_scale_down_delay: Option<SignedDuration>,
    /// Analysis in the background.
    pub background: Option<Background>,
    /// The steps.
    pub steps: Vec<Step>,
    /// The steps as written, for telling whether passed ones were edited.
    pub steps_written: Vec<String>,
    /// All that is wrong; nothing new begins while there is any.
    pub faults: Vec<Fault>,
}

/// Where the weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// Serin owns both objects.
    Owned {
        /// The Service's host, in full.
        host: String,
        /// Hosts of the VirtualService; none for a delegate.
        hosts: Vec<String>,
        /// Gateways of the VirtualService.
        gateways: Vec<String>,
    },
    /// Git holds the VirtualServices.
    InPlace {
        /// Names of VirtualServices, each with the names of its routes.
        virtual_services: Vec<(String, Vec<String>)>,
        /// The DestinationRule that Git holds: name, stable subset, canary subset. None: Serin owns one.
        rule: Option<(String, String, String)>,
    },
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Percent of traffic for the canary.
    SetWeight(i32),
    /// Wait that long, or until promoted.
    Pause(Option<SignedDuration>),
    /// Wait for a verdict.
    Analysis(Gate),
    /// Cannot be read; the faults say why.
    Faulty,
}

/// Templates and arguments of one analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The templates.
    pub templates: Vec<TemplateRef>,
    /// The arguments.
    pub args: Vec<ArgumentSpec>,
}

/// Analysis in the background.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// Templates and arguments.
    pub gate: Gate,
    /// Index of the step with which it begins.
    pub starting_step: usize,
}

/// Understands a Rollout's spec.
pub fn parse(namespace: &str, spec: &Value) -> Strategy {
    let mut faults = refused("spec", spec, ROLLOUT_REFUSED);
    let typed: Result<RolloutSpec, _> = serde_path_to_error::deserialize(spec.clone());
    let spec = match typed {
        Ok(typed) => typed,
        Err(error) => {
            faults.push(Fault::new(format!("spec.{}", error.path()), error.inner().to_string()));
            return Strategy { faults, ..unreadable(spec) };
        }
    };
    let canary = &spec.strategy.canary;
    let steps_written =
        canary.steps.iter().flatten().map(|step| serde_json::to_string(step).unwrap_or_default()).collect();
    let steps: Vec<Step> =
        canary.steps.iter().flatten().enumerate().map(|(index, step)| parse_step(index, step, &mut faults)).collect();
    let background = canary.analysis.as_ref().map(|analysis| parse_background(analysis, steps.len(), &mut faults));
    check_template(&spec, &mut faults);
    if spec.progress_deadline_seconds.unwrap_or(600) <= spec.min_ready_seconds.unwrap_or(0) {
        faults.push(Fault::new("spec.progressDeadlineSeconds", "must be greater than minReadySeconds"));
    }
    let seconds = |value: Option<i32>, default: i32| SignedDuration::from_secs(value.unwrap_or(default).into());
    Strategy {
        replicas: spec.replicas,
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        progress_deadline: seconds(spec.progress_deadline_seconds, 600),
        deadline_aborts: spec.progress_deadline_abort.unwrap_or(true),
        history_limit: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
        paused: spec.paused.unwrap_or(false),
        routing: parse_routing(namespace, &canary.traffic_routing.istio, &mut faults),
        scale_down_delay: seconds(canary.scale_down_delay_seconds, 30),
        abort_scale_down_delay: Some(seconds(canary.abort_scale_down_delay_seconds, 30))
            .filter(|delay| !delay.is_zero()),
        background,
        steps,
        steps_written,
        selector: spec.selector.match_labels,
        template: Some(spec.template),
        faults,
    }
}

/// What can be said of a spec that does not parse: the pods that serve are still scaled.
fn unreadable(spec: &Value) -> Strategy {
    let replicas = spec.get("replicas").and_then(Value::as_i64).and_then(|replicas| i32::try_from(replicas).ok());
    Strategy {
        replicas,
        progress_deadline: SignedDuration::from_secs(600),
        history_limit: usize::MAX,
        ..Strategy::default()
    }
}

/// Fields that are present although Serin does not support them.
pub fn refused(root: &str, spec: &Value, table: &[Refused]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for refused in table {
        for (path, object) in objects_at(root, spec, refused.path) {
            for (field, advice) in refused.fields {
                if object.get(field).is_some_and(|value| !value.is_null()) {
                    faults.push(Fault::new(format!("{path}.{field}"), *advice));
                }
            }
        }
    }
    faults
}

/// Every object at a path with `[]` for all elements of a list, each with its own path.
fn objects_at<'a>(root: &str, spec: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let mut here = vec![(root.to_owned(), spec)];
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (name, list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        here = here
            .into_iter()
            .filter_map(|(path, object)| Some((format!("{path}.{name}"), object.get(name)?)))
            .flat_map(|(path, value)| match value.as_array().filter(|_| list) {
                Some(items) => {
                    items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect()
                }
                None => vec![(path, value)],
            })
            .collect();
    }
    here
}

fn parse_step(index: usize, step: &StepSpec, faults: &mut Vec<Fault>) -> Step {
    let path = format!("spec.strategy.canary.steps[{index}]");
    let refused_here = faults.iter().any(|fault| fault.path.starts_with(&format!("{path}.")));
    match (step.set_weight, &step.pause, &step.analysis) {
        (Some(weight), None, None) if (0..=100).contains(&weight) => Step::SetWeight(weight),
        (Some(weight), None, None) => {
            faults.push(Fault::new(format!("{path}.setWeight"), format!("{weight} is not between 0 and 100")));
            Step::Faulty
        }
        (None, Some(pause), None) => {
            match pause.duration.as_ref().map(crate::api::duration::DurationText::parse).transpose() {
                Ok(duration) => Step::Pause(duration),
                Err(message) => {
                    faults.push(Fault::new(format!("{path}.pause.duration"), message));
                    Step::Faulty
                }
            }
        }
        (None, None, Some(analysis)) => {
            let gate = Gate { templates: analysis.templates.clone(), args: analysis.args.clone().unwrap_or_default() };
            check_gate(&format!("{path}.analysis"), &gate, faults);
            Step::Analysis(gate)
        }
        (None, None, None) if refused_here => Step::Faulty,
        _ => {
            faults.push(Fault::new(path, format!("exactly one of {} is required", STEP_MEMBERS.join(", "))));
            Step::Faulty
        }
    }
}

fn parse_background(analysis: &BackgroundAnalysisSpec, steps: usize, faults: &mut Vec<Fault>) -> Background {
    let path = "spec.strategy.canary.analysis";
    let gate = Gate { templates: analysis.templates.clone(), args: analysis.args.clone().unwrap_or_default() };
    check_gate(path, &gate, faults);
    let starting_step = usize::try_from(analysis.starting_step.unwrap_or(0)).unwrap_or(0);
    if starting_step >= steps.max(1) {
        faults.push(Fault::new(
            format!("{path}.startingStep"),
            format!("{starting_step} is not the index of one of the {steps} steps"),
        ));
    }
    Background { gate, starting_step }
}

fn check_gate(path: &str, gate: &Gate, faults: &mut Vec<Fault>) {
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

fn parse_routing(namespace: &str, istio: &IstioSpec, faults: &mut Vec<Fault>) -> Option<Routing> {
    let path = "spec.strategy.canary.trafficRouting.istio";
    let several = istio.virtual_services.as_deref();
    let given = usize::from(istio.owned.is_some())
        + usize::from(istio.virtual_service.is_some())
        + usize::from(several.is_some());
    if given != 1 {
        faults.push(Fault::new(path, "exactly one of owned, virtualService, virtualServices is required"));
        return None;
    }
    if let Some(owned) = &istio.owned {
        if istio.destination_rule.is_some() {
            faults.push(Fault::new(
                format!("{path}.destinationRule"),
                "cannot be given with owned: Serin writes its own; remove it",
            ));
        }
        if owned.host.is_empty() {
            faults.push(Fault::new(format!("{path}.owned.host"), "is empty; name the Service that clients call"));
            return None;
        }
        return Some(Routing::Owned {
            host: crate::api::istio::full_host(&owned.host, namespace),
            hosts: owned.hosts.clone().unwrap_or_default(),
            gateways: owned.gateways.clone().unwrap_or_default(),
        });
    }
    let virtual_services = virtual_services(path, istio.virtual_service.as_ref(), several, faults);
    let rule = istio.destination_rule.as_ref().map(|rule| {
        if rule.stable_subset_name == rule.canary_subset_name {
            faults.push(Fault::new(
                format!("{path}.destinationRule.canarySubsetName"),
                "is the stable subset too; name another subset",
            ));
        }
        (rule.name.clone(), rule.stable_subset_name.clone(), rule.canary_subset_name.clone())
    });
    Some(Routing::InPlace { virtual_services, rule })
}

fn virtual_services(
    path: &str,
    one: Option<&VirtualServiceRef>,
    several: Option<&[VirtualServiceRef]>,
    faults: &mut Vec<Fault>,
) -> Vec<(String, Vec<String>)> {
    let listed: Vec<(String, &VirtualServiceRef)> = match (one, several) {
        (Some(one), _) => vec![(format!("{path}.virtualService"), one)],
        (None, several) => several
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(index, one)| (format!("{path}.virtualServices[{index}]"), one))
            .collect(),
    };
    if listed.is_empty() {
        faults.push(Fault::new(format!("{path}.virtualServices"), "is empty; name at least one VirtualService"));
    }
    let mut names = BTreeSet::new();
    for (path, reference) in &listed {
        if reference.name.contains('.') {
            faults.push(Fault::new(
                format!("{path}.name"),
                "must be in the Rollout's namespace; write the name without a dot",
            ));
        }
        if !names.insert(&reference.name) {
            faults.push(Fault::new(
                format!("{path}.name"),
                format!("{} is named twice; list its routes together", reference.name),
            ));
        }
    }
    listed.iter().map(|(_, reference)| (reference.name.clone(), reference.routes.clone().unwrap_or_default())).collect()
}

fn check_template(spec: &RolloutSpec, faults: &mut Vec<Fault>) {
    let labels = spec.template.pointer("/metadata/labels");
    if spec.selector.match_labels.is_empty() {
        faults.push(Fault::new("spec.selector.matchLabels", "is empty; name at least one label of the template"));
    }
    for (key, value) in &spec.selector.match_labels {
        if key == names::REVISION_HASH {
            faults.push(Fault::new("spec.selector.matchLabels", format!("{key} is set by Serin; remove it")));
        } else if labels.and_then(|labels| labels.get(key)).and_then(Value::as_str) != Some(value) {
            faults.push(Fault::new(
                "spec.template.metadata.labels",
                format!("lacks {key}: {value}, which the selector asks for; add it"),
            ));
        }
    }
    if spec.template.pointer("/spec/containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        faults.push(Fault::new("spec.template.spec.containers", "is empty; add a container"));
    }
    if spec.template.pointer("/spec/restartPolicy").and_then(Value::as_str).is_some_and(|policy| policy != "Always") {
        faults.push(Fault::new("spec.template.spec.restartPolicy", "must be Always; remove it"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        json!({
            "replicas": 5,
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app", "image": "checkout:1"}]}},
            "strategy": {"canary": {
                "trafficRouting": {"istio": {"owned": {"host": "checkout"}}},
                "steps": [{"setWeight": 20}, {"pause": {"duration": "1m"}}, {"analysis": {"templates": [{"templateName": "success-rate"}]}}],
            }},
        })
    }

    fn check(pointer: &str, value: Value, faults: &[&str]) {
        let mut spec = spec();
        *spec.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        let found: Vec<String> = parse("shop", &spec).faults.iter().map(ToString::to_string).collect();
        assert_eq!(found, faults, "{pointer}");
    }

    #[test]
    fn a_good_spec_has_no_faults() {
        let strategy = parse("shop", &spec());
        assert_eq!(strategy.faults, []);
        assert_eq!(strategy.steps.len(), 3);
        assert_eq!(strategy.steps.get(1), Some(&Step::Pause(Some(SignedDuration::from_secs(60)))));
    }

    #[test]
    fn faults_name_the_field_and_what_to_do() {
        let steps = "/strategy/canary/steps";
        let members = STEP_MEMBERS.join(", ");
        check(
            steps,
            json!([{"setWeight": 120}]),
            &["spec.strategy.canary.steps[0].setWeight: 120 is not between 0 and 100"],
        );
        check(steps, json!([{}]), &[&format!("spec.strategy.canary.steps[0]: exactly one of {members} is required")]);
        check(
            steps,
            json!([{"setWeight": 5, "pause": {}}]),
            &[&format!("spec.strategy.canary.steps[0]: exactly one of {members} is required")],
        );
        check(
            steps,
            json!([{"setCanaryScale": {"replicas": 3}}]),
            &["spec.strategy.canary.steps[0].setCanaryScale: is not supported yet; remove it"],
        );
        check(
            steps,
            json!([{"pause": {"duration": "soon"}}]),
            &["spec.strategy.canary.steps[0].pause.duration: \"soon\" is not a duration; write 30s, 5m or 1h30m"],
        );
        check(
            steps,
            json!([{"setWeight": "ten"}]),
            &["spec.strategy.canary.steps[0].setWeight: invalid type: string \"ten\", expected i32"],
        );
        check(
            "/selector/matchLabels",
            json!({"app": "cart"}),
            &["spec.template.metadata.labels: lacks app: cart, which the selector asks for; add it"],
        );
        check(
            "/strategy/canary/trafficRouting/istio",
            json!({}),
            &[
                "spec.strategy.canary.trafficRouting.istio: exactly one of owned, virtualService, virtualServices is required",
            ],
        );
    }
}
