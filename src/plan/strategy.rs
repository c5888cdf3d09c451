//! Spec to strategy, or all faults with the path of the field and what to do. Parses, never validates twice.
//! A faulty spec still gives what could be read, so that scaling, an abort and the drain go on.

mod managed;
mod metadata;
mod promotion;
mod routing;
mod step;
mod target;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::managed::Managed;
pub use self::metadata::PodMetadata;
pub use self::promotion::{ApprovalStep, Promotion, Windows};
pub use self::target::{Pick, RouteKind, Target};
use super::observed::Workload;
use super::snapshot::{Copy, Unknown};
use crate::api::analysis::RetentionSpec;
use crate::api::config::{ConfigKind, ConfigSnapshotsSpec};
use crate::api::rollout::{ArgumentSpec, CanarySpec, OnInconclusive, RolloutSpec, TemplateRef};
use crate::api::schema::{NEED_ROUTING, ROLLOUT_REFUSED, Refused};

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
    /// Name of the Deployment that the template is read from.
    pub workload: Option<String>,
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
    /// Where the weights are; none where that could not be read, and where the pods are the weight.
    pub routing: Option<Routing>,
    /// The canary by the ratio of pods, where there is no route.
    pub ratio: Option<Ratio>,
    /// Whether stable has only the pods that its share needs.
    pub dynamic_stable: bool,
    /// Pods that any revision with pods has at least.
    pub least_pods: i32,
    /// Pods that may be missing while pods are restarted.
    pub max_unavailable: Portion,
    /// Revisions that a rollback without steps may reach over.
    pub rollback_window: Option<usize>,
    /// Pods older than this are restarted.
    pub restart_at: Option<Timestamp>,
    /// How long pods without traffic are kept after a promotion.
    pub scale_down_delay: SignedDuration,
    /// How long an aborted canary's pods are kept; none keeps them.
    pub abort_scale_down_delay: Option<SignedDuration>,
    /// Analysis in the background.
    pub background: Option<Background>,
    /// What all analyses have in common.
    pub judging: Judging,
    /// Names of header and mirror routes in their order.
    pub managed_order: Vec<String>,
    /// What the canary's pods carry for their role.
    pub canary_metadata: PodMetadata,
    /// What stable's pods carry for their role.
    pub stable_metadata: PodMetadata,
    /// The steps.
    pub steps: Vec<Step>,
    /// The steps as written, for telling whether passed ones were edited.
    pub steps_written: Vec<String>,
    /// What Git declares for a person.
    pub promotion: Promotion,
    /// Which configuration belongs to a revision.
    pub snapshots: Option<ConfigSnapshots>,
    /// Copies of it that the template refers to.
    pub copies: Vec<Copy>,
    /// Why there is no template, though the spec has one.
    pub unknown: Option<Unknown>,
    /// All that is wrong; nothing new begins while there is any.
    pub faults: Vec<Fault>,
}

impl Strategy {
    /// The gates of the steps, each with the index of its step, then that of the background.
    pub fn gates(&self) -> impl Iterator<Item = (Option<usize>, &Gate)> {
        let steps = self.steps.iter().enumerate().filter_map(|(index, step)| Some((Some(index), step.gate()?)));
        steps.chain(self.background.iter().map(|background| (None, &background.gate)))
    }

    /// The approvals, each with the index of its step.
    pub fn approvals(&self) -> impl Iterator<Item = (usize, &ApprovalStep)> {
        self.steps.iter().enumerate().filter_map(|(index, step)| Some((index, step.approval()?)))
    }
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
        /// The Service's port, where the spec names one.
        port: Option<i32>,
    },
    /// Git holds the VirtualServices; the weights lie between two subsets of one host.
    InPlace {
        /// The routes to edit.
        targets: Vec<Target>,
        /// The DestinationRule that Git holds: name, stable subset, canary subset. None: Serin owns one.
        rule: Option<(String, String, String)>,
    },
    /// Git holds the VirtualServices or HTTPRoutes; the weights lie between two Services.
    Hosts {
        /// The kind of what Git holds.
        kind: RouteKind,
        /// The routes to edit.
        targets: Vec<Target>,
        /// Name of the Service that serves stable.
        stable: String,
        /// Name of the Service that serves the canary.
        canary: String,
    },
}

impl Routing {
    /// What Git holds of it: the kind of the objects, and each with its routes to edit.
    pub fn in_git(&self) -> Option<(RouteKind, &[Target])> {
        match self {
            Self::Owned { .. } => None,
            Self::InPlace { targets, .. } => Some((RouteKind::VirtualService, targets)),
            Self::Hosts { kind, targets, .. } => Some((*kind, targets)),
        }
    }
}

/// The canary by the ratio of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    /// Pods above the count while the ratio changes.
    pub max_surge: Portion,
    /// Pods that may be missing while the ratio changes.
    pub max_unavailable: Portion,
}

/// A number of pods, or percent of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// A number.
    Count(i32),
    /// Percent.
    Percent(i32),
}

impl Default for Portion {
    fn default() -> Self {
        Self::Percent(25)
    }
}

impl Portion {
    /// The number of all, rounded down.
    pub fn floor(self, all: i32) -> i32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => share(all, percent, 0),
        }
    }

    /// The number of all, rounded up.
    pub fn ceil(self, all: i32) -> i32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => share(all, percent, 99),
        }
    }
}

fn share(all: i32, percent: i32, rounding: i64) -> i32 {
    i32::try_from((i64::from(all) * i64::from(percent) + rounding) / 100).unwrap_or(i32::MAX)
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Percent of traffic for the canary.
    SetWeight(i32),
    /// Canary pods, until the next such step.
    SetCanaryScale(Scale),
    /// Wait that long, or until promoted.
    Pause(Option<SignedDuration>),
    /// Wait for a verdict.
    Analysis(Gate),
    /// Wait for an approval.
    Approval(ApprovalStep),
    /// A header or mirror route, set or taken away.
    SetRoute(Managed),
    /// Cannot be read; the faults say why.
    Faulty,
}

impl Step {
    /// The gate of an analysis.
    pub fn gate(&self) -> Option<&Gate> {
        if let Self::Analysis(gate) = self { Some(gate) } else { None }
    }

    /// The approval that is waited for.
    pub fn approval(&self) -> Option<&ApprovalStep> {
        if let Self::Approval(wanted) = self { Some(wanted) } else { None }
    }
}

/// How many pods the canary has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// So many.
    Replicas(i32),
    /// Percent of all.
    Weight(i32),
    /// What the weight needs.
    MatchTrafficWeight,
}

/// Templates and arguments of one analysis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gate {
    /// The templates.
    pub templates: Vec<TemplateRef>,
    /// The arguments.
    pub args: Vec<ArgumentSpec>,
    /// Patterns of metrics that judge nothing.
    pub dry_run: Vec<String>,
    /// Patterns of metrics, and how many of their measurements are kept.
    pub retention: Vec<RetentionSpec>,
    /// Whether it is over once the evidence is in, and not before.
    pub until_decided: bool,
    /// How long it may take.
    pub at_most: Option<SignedDuration>,
}

/// What all analyses have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Judging {
    /// The probability of an abort without reason, over the whole rollout.
    pub alpha: f64,
    /// How long requests of new pods are not counted.
    pub warmup: SignedDuration,
    /// What becomes of a step whose time is over while nothing is decided.
    pub on_inconclusive: OnInconclusive,
}

impl Default for Judging {
    fn default() -> Self {
        Self { alpha: 0.01, warmup: SignedDuration::from_mins(1), on_inconclusive: OnInconclusive::Pause }
    }
}

/// Analysis in the background.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// Templates and arguments.
    pub gate: Gate,
    /// Index of the step with which it begins.
    pub starting_step: usize,
}

/// Understands a Rollout's spec. A template of a Deployment is not known here: see [`of`].
pub fn parse(namespace: &str, spec: &Value) -> Strategy {
    of(namespace, spec, &Workload::Unlisted)
}

/// Understands a Rollout's spec, with the Deployment that it names.
pub fn of(namespace: &str, spec: &Value, workload: &Workload) -> Strategy {
    let mut faults = refused("spec", spec, ROLLOUT_REFUSED);
    let typed: Result<RolloutSpec, _> = serde_path_to_error::deserialize(spec);
    let mut spec = match typed {
        Ok(typed) => typed,
        Err(error) => {
            faults.push(Fault::new(format!("spec.{}", error.path()), error.inner().to_string()));
            return Strategy { faults, ..unreadable(spec) };
        }
    };
    workload::resolve(&mut spec, workload, &mut faults);
    let canary = &spec.strategy.canary;
    let steps_written =
        canary.steps.iter().flatten().map(|step| serde_json::to_string(step).unwrap_or_default()).collect();
    let steps = step::parse(canary.steps.as_deref().unwrap_or_default(), &mut faults);
    let background =
        canary.analysis.as_ref().and_then(|analysis| step::parse_background(analysis, steps.len(), &mut faults));
    let judging =
        canary.analysis.as_ref().map(|analysis| step::parse_judging(analysis, &mut faults)).unwrap_or_default();
    workload::check_template(&spec, workload, &mut faults);
    let promotion = promotion::parse(spec.promotion.as_ref(), &steps, &mut faults);
    if spec.progress_deadline_seconds.unwrap_or(600) <= spec.min_ready_seconds.unwrap_or(0) {
        faults.push(Fault::new("spec.progressDeadlineSeconds", "must be greater than minReadySeconds"));
    }
    if let Some(replicas) = spec.replicas.filter(|replicas| *replicas < 0) {
        faults.push(Fault::new("spec.replicas", format!("{replicas} is below 0; write how many pods are wanted")));
    }
    let max_surge = portion("maxSurge", canary.max_surge.as_ref(), &mut faults);
    let max_unavailable = portion("maxUnavailable", canary.max_unavailable.as_ref(), &mut faults);
    check_kind(canary, &mut faults);
    let seconds = |value: Option<i32>, default: i32| SignedDuration::from_secs(value.unwrap_or(default).into());
    let managed_order = canary.traffic_routing.as_ref().and_then(|routing| routing.managed_routes.as_ref());
    let mut strategy = Strategy {
        replicas: spec.replicas,
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        progress_deadline: seconds(spec.progress_deadline_seconds, 600),
        deadline_aborts: spec.progress_deadline_abort.unwrap_or(true),
        history_limit: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
        paused: spec.paused.unwrap_or(false),
        routing: routing::parse(namespace, canary, &mut faults),
        ratio: canary.traffic_routing.is_none().then_some(Ratio { max_surge, max_unavailable }),
        dynamic_stable: canary.dynamic_stable_scale.unwrap_or(false),
        least_pods: canary.min_pods_per_replica_set.unwrap_or(1),
        max_unavailable,
        rollback_window: spec.rollback_window.and_then(|window| usize::try_from(window.revisions).ok()),
        restart_at: spec.restart_at,
        scale_down_delay: seconds(canary.scale_down_delay_seconds, 30),
        abort_scale_down_delay: Some(seconds(canary.abort_scale_down_delay_seconds, 30))
            .filter(|delay| !delay.is_zero()),
        background,
        judging,
        managed_order: managed_order.into_iter().flatten().map(|route| route.name.clone()).collect(),
        canary_metadata: PodMetadata::of(canary.canary_metadata.as_ref()),
        stable_metadata: PodMetadata::of(canary.stable_metadata.as_ref()),
        steps,
        steps_written,
        promotion,
        selector: spec.selector.map(|selector| selector.match_labels).unwrap_or_default(),
        template: spec.template,
        snapshots: snapshots(spec.config_snapshots.as_ref(), spec.workload_ref.is_some(), &mut faults),
        copies: Vec::new(),
        unknown: None,
        workload: spec.workload_ref.map(|workload| workload.name),
        faults,
    };
    managed::check(&spec.strategy.canary, &mut strategy);
    metadata::check(&mut strategy);
    strategy
}

/// Which configuration belongs to a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigSnapshots {
    /// The kinds.
    pub kinds: BTreeSet<ConfigKind>,
    /// Names of objects that are left as they are.
    pub except: BTreeSet<String>,
}

fn snapshots(
    spec: Option<&ConfigSnapshotsSpec>,
    has_workload: bool,
    faults: &mut Vec<Fault>,
) -> Option<ConfigSnapshots> {
    let spec = spec?;
    let path = "spec.configSnapshots";
    if has_workload {
        faults.push(Fault::new(
            path,
            "cannot be given with workloadRef: the Deployment's pods have no copies; write spec.template",
        ));
    }
    if spec.kinds.is_empty() {
        faults.push(Fault::new(format!("{path}.kinds"), "is empty; write ConfigMap, Secret or both"));
    }
    Some(ConfigSnapshots {
        kinds: spec.kinds.iter().copied().collect(),
        except: spec.except.iter().flatten().cloned().collect(),
    })
}

/// A number of pods, or percent such as `25%`.
fn portion(field: &str, value: Option<&IntOrString>, faults: &mut Vec<Fault>) -> Portion {
    let read = match value {
        None => Some(Portion::default()),
        Some(IntOrString::Int(count)) => Some(Portion::Count(*count)).filter(|_| *count >= 0),
        Some(IntOrString::String(text)) => match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| (0..=100).contains(percent)).map(Portion::Percent),
            None => text.parse().ok().filter(|count| *count >= 0).map(Portion::Count),
        },
    };
    read.unwrap_or_else(|| {
        let path = format!("spec.strategy.canary.{field}");
        faults.push(Fault::new(path, "is not a number of pods; write 2, or 25%"));
        Portion::default()
    })
}

/// Fields that mean something only with a route, or only without one.
fn check_kind(canary: &CanarySpec, faults: &mut Vec<Fault>) {
    let path = "spec.strategy.canary";
    if canary.traffic_routing.is_some() {
        if canary.max_surge.is_some() {
            faults.push(Fault::new(format!("{path}.maxSurge"), "has no meaning with trafficRouting; remove it"));
        }
        return;
    }
    let given = serde_json::to_value(canary).unwrap_or_default();
    for field in NEED_ROUTING.iter().filter(|field| given.get(field).is_some_and(|value| !value.is_null())) {
        faults.push(Fault::new(format!("{path}.{field}"), "needs trafficRouting; remove it"));
    }
    for (index, _) in canary.steps.iter().flatten().enumerate().filter(|(_, step)| step.set_canary_scale.is_some()) {
        faults.push(Fault::new(
            format!("{path}.steps[{index}].setCanaryScale"),
            "needs trafficRouting: without it the pods are the weight; remove it",
        ));
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
        refused_at(spec, refused.path, refused.fields, &|| root.to_owned(), &mut faults);
    }
    faults
}

/// The refused fields of every object at a path with `[]` for all elements of a list. The place is told for faults alone:
/// every pass looks at all of them.
fn refused_at(value: &Value, path: &str, fields: &[(&str, &str)], place: &dyn Fn() -> String, faults: &mut Vec<Fault>) {
    if path.is_empty() {
        let given = fields.iter().filter(|(field, _)| value.get(field).is_some_and(|value| !value.is_null()));
        faults.extend(given.map(|(field, advice)| Fault::new(format!("{}.{field}", place()), *advice)));
        return;
    }
    let (part, rest) = path.split_once('.').unwrap_or((path, ""));
    let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
    let Some(inner) = value.get(name) else { return };
    match inner.as_array().filter(|_| is_list) {
        Some(items) => {
            for (index, item) in items.iter().enumerate() {
                refused_at(item, rest, fields, &|| format!("{}.{name}[{index}]", place()), faults);
            }
        }
        None => refused_at(inner, rest, fields, &|| format!("{}.{name}", place()), faults),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::schema::STEP_MEMBERS;

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
        check("/replicas", json!(-1), &["spec.replicas: -1 is below 0; write how many pods are wanted"]);
        check(steps, json!([{}]), &[&format!("spec.strategy.canary.steps[0]: exactly one of {members} is required")]);
        check(
            steps,
            json!([{"setWeight": 5, "pause": {}}]),
            &[&format!("spec.strategy.canary.steps[0]: exactly one of {members} is required")],
        );
        check(
            steps,
            json!([{"approval": {"name": "testers"}}, {"approval": {"name": "testers"}}]),
            &["spec.strategy.canary.steps[1].approval.name: testers is the name of an earlier step; give each its own"],
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
