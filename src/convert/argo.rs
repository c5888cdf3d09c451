//! Manifests of Argo Rollouts to Serin's: mostly the same fields under another version.

pub mod fields;
mod gateway;
mod metadata;
mod metric;
mod provider;
mod rollout;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use super::Manifests;
use super::report::{Decision, Line};
use super::table::{Loss, Work};
use super::yaml::{Entry, Map, Node, Scalar};
use crate::api::schema::{ROLLOUT_REFUSED, TEMPLATE_REFUSED};

pub use provider::Providers;

/// The API group.
pub const GROUP: &str = "argoproj.io";

/// Names an analysis template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Whether it is a ClusterAnalysisTemplate.
    pub is_cluster: bool,
}

impl Template {
    /// Of a reference.
    pub fn of(reference: &Node) -> Option<Self> {
        let name = reference.text_at(&["templateName"])?.to_owned();
        let is_cluster = reference.at(&["clusterScope"]).is_some_and(|node| node.value() == true);
        Some(Self { name, is_cluster })
    }
}

/// What a template is to those that name it.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The templates that it is composed of.
    nested: Vec<Template>,
    /// Its arguments with their defaults.
    args: BTreeMap<String, Option<String>>,
    /// Whether it has metrics of its own.
    has_metrics: bool,
}

/// What Argo's objects have in common.
#[derive(Debug, Default)]
pub struct Argo {
    templates: BTreeMap<Template, Known>,
    lost: BTreeSet<Template>,
    workloads: BTreeMap<(String, String), Node>,
    /// Workloads whose template a Rollout has taken over: kind and name.
    pub taken: BTreeSet<(String, String)>,
    /// The MetricProviders that are needed.
    pub providers: Providers,
    /// The namespace of the object under work.
    pub namespace: Option<String>,
    /// Whether the Rollout under work has a selector of its own.
    pub has_selector: bool,
    /// Whether its weights lie between two subsets.
    pub has_subsets: bool,
    /// Whether its route is an HTTPRoute.
    pub is_by_gateway: bool,
    /// Indexes of its steps that are left out wholly.
    pub dropped_steps: Vec<usize>,
}

impl Argo {
    /// Knows what the manifests hold.
    pub fn new(manifests: &Manifests) -> Self {
        let mut argo = Self::default();
        for node in manifests.objects() {
            let kind = node.text_at(&["kind"]).unwrap_or_default();
            let name = node.text_at(&["metadata", "name"]).unwrap_or_default().to_owned();
            if ["Deployment", "ReplicaSet", "PodTemplate"].contains(&kind) {
                argo.workloads.insert((kind.to_owned(), name), node.clone());
            } else if ["AnalysisTemplate", "ClusterAnalysisTemplate"].contains(&kind) {
                let key = Template { name, is_cluster: kind == "ClusterAnalysisTemplate" };
                argo.templates.insert(key, Known::of(node));
            }
        }
        argo
    }

    fn workload(&self, kind: &str, name: &str) -> Option<&Node> {
        self.workloads.get(&(kind.to_owned(), name.to_owned()))
    }

    /// Whether nothing of a template and of what it is composed of could be converted.
    fn is_lost(&self, template: &Template) -> bool {
        self.composed(std::slice::from_ref(template)).is_empty()
    }

    /// The templates that are meant by these: with those that they are composed of, without those that have no metrics.
    fn composed(&self, named: &[Template]) -> Vec<Template> {
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        let mut queue: Vec<Template> = named.iter().rev().cloned().collect();
        while let Some(template) = queue.pop() {
            if !seen.insert(template.clone()) {
                continue;
            }
            let known = self.templates.get(&template);
            let is_lost = self.lost.contains(&template);
            if !is_lost && known.is_none_or(|known| known.has_metrics || known.nested.is_empty()) {
                all.push(template);
            }
            queue.extend(known.into_iter().flat_map(|known| known.nested.iter().rev().cloned()));
        }
        all
    }

    /// Defaults that the composing templates give and the composed ones lack, where the Rollout gives no value.
    fn defaults(&self, named: &[Template], all: &[Template], given: &[String]) -> Vec<(String, String)> {
        let declared = |templates: &[Template]| -> Vec<(String, Option<String>)> {
            let known = templates.iter().filter_map(|template| self.templates.get(template));
            known.flat_map(|known| known.args.clone()).collect()
        };
        let composing: BTreeMap<String, String> =
            declared(named).into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let lacking: BTreeSet<String> = declared(all)
            .into_iter()
            .filter(|(name, value)| value.is_none() && !given.contains(name))
            .map(|(name, _)| name)
            .collect();
        lacking.into_iter().filter_map(|name| Some((name.clone(), composing.get(&name)?.clone()))).collect()
    }
}

impl Known {
    fn of(template: &Node) -> Self {
        let list = |key: &str| template.at(&["spec", key]).map_or(&[][..], Node::items);
        let arg =
            |node: &Node| Some((node.text_at(&["name"])?.to_owned(), node.text_at(&["value"]).map(str::to_owned)));
        Self {
            nested: list("templates").iter().filter_map(|item| Template::of(&item.value)).collect(),
            args: list("args").iter().filter_map(|item| arg(&item.value)).collect(),
            has_metrics: !list("metrics").is_empty(),
        }
    }
}

/// What an object becomes.
pub struct Outcome {
    /// The object, or nothing.
    pub object: Option<Node>,
    /// What it becomes, in words.
    pub becomes: String,
    /// Its fields.
    pub lines: Vec<Line>,
    /// Whether it stays as it was, byte for byte.
    pub is_untouched: bool,
}

impl Outcome {
    fn gone(becomes: &str, (path, loss): (&str, Loss)) -> Self {
        let line = Line {
            path: path.to_owned(),
            decision: Decision::NotSupported,
            note: becomes.to_owned(),
            is_lost: loss == Loss::Protection,
            comments: Vec::new(),
        };
        Self { object: None, becomes: becomes.to_owned(), lines: vec![line], is_untouched: false }
    }
}

/// Converts a template. The first pass, because Rollouts depend on what is left of it.
pub fn template(root: Map, argo: &mut Argo) -> Outcome {
    let node = Node::Map(root.clone());
    let name = node.text_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    let is_cluster = node.text_at(&["kind"]) == Some("ClusterAnalysisTemplate");
    let key = Template { name, is_cluster };
    let defaults = argo.templates.get(&key).map(|known| known.args.clone()).unwrap_or_default();
    let mut work = Work::new(&[fields::OBJECT, fields::TEMPLATE], TEMPLATE_REFUSED, argo);
    work.defaults = defaults.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    metric::prepare(&mut work, &node);
    let turned = Node::Map(work.fields("", root));
    let lines = work.lines;
    let has_metrics = turned.at(&["spec", "metrics"]).is_some_and(|metrics| !metrics.items().is_empty());
    if has_metrics {
        let becomes = format!("{} of serin.dev", node.text_at(&["kind"]).unwrap_or_default());
        return Outcome { object: Some(turned), becomes, lines, is_untouched: false };
    }
    let is_composed = argo.templates.get(&key).is_some_and(|known| !known.nested.is_empty() && !known.has_metrics);
    let becomes = if is_composed {
        "nothing: what names it names the templates that it is composed of"
    } else {
        argo.lost.insert(key);
        "nothing: no metric of it could be converted"
    };
    Outcome { object: None, becomes: becomes.to_owned(), lines, is_untouched: false }
}

/// Converts an object that is not a template.
pub fn object(root: Map, argo: &mut Argo) -> Outcome {
    let node = Node::Map(root.clone());
    match node.text_at(&["kind"]).unwrap_or_default() {
        "Rollout" if node.at(&["spec", "strategy", "blueGreen"]).is_some() => blue_green(&node),
        "Rollout" => canary(root, &node, argo),
        "AnalysisRun" => Outcome::gone(
            "nothing: an AnalysisRun is a record that Argo Rollouts writes; Serin keeps measurements in the status of the Rollout",
            ("spec", Loss::Harmless),
        ),
        "Experiment" => Outcome::gone(
            "nothing: Serin has no experiments; gate the release by an analysis step",
            ("spec", Loss::Protection),
        ),
        kind => Outcome {
            object: None,
            becomes: format!("the same: {kind} is no kind of Argo Rollouts"),
            lines: Vec::new(),
            is_untouched: true,
        },
    }
}

/// A Rollout with the strategy that Serin does not have stays Argo's.
fn blue_green(node: &Node) -> Outcome {
    let fields = node.at(&["spec", "strategy", "blueGreen"]).map_or(&[][..], Node::entries);
    let line = |path: String, note: &str, is_lost: bool| Line {
        path,
        decision: Decision::NotSupported,
        note: note.to_owned(),
        is_lost,
        comments: Vec::new(),
    };
    let why = "Serin does canaries; write strategy.canary with steps, and convert again";
    let mut lines = vec![line("spec.strategy.blueGreen".to_owned(), why, true)];
    lines.extend(fields.iter().map(|entry| {
        line(format!("spec.strategy.blueGreen.{}", entry.key.text), blue_green_advice(&entry.key.text), false)
    }));
    Outcome {
        object: None,
        becomes: "the same: it stays a Rollout of Argo, because Serin has no blueGreen".to_owned(),
        lines,
        is_untouched: true,
    }
}

fn blue_green_advice(field: &str) -> &'static str {
    match field {
        "activeService" => "the Service that clients call stays the host of the route",
        "previewService" => "a canary at weight 0 can be reached by a header route: write a setHeaderRoute step",
        "previewReplicaCount" => "setCanaryScale: {replicas: …} as the first step",
        "autoPromotionEnabled" | "autoPromotionSeconds" => "a pause step, with a duration or without",
        "prePromotionAnalysis" => "an analysis step before the last weight",
        "postPromotionAnalysis" => "an analysis step after setWeight: 100",
        "scaleDownDelaySeconds" | "abortScaleDownDelaySeconds" | "maxUnavailable" => {
            "the same field of strategy.canary"
        }
        "antiAffinity" => "podAntiAffinity in the pod template",
        "activeMetadata" => "stableMetadata of strategy.canary",
        "previewMetadata" => "canaryMetadata of strategy.canary",
        _ => "has no equal",
    }
}

fn canary(root: Map, node: &Node, argo: &mut Argo) -> Outcome {
    let canary = |keys: &[&str]| node.at(&["spec", "strategy", "canary"]).and_then(|canary| canary.at(keys));
    argo.is_by_gateway = gateway::names_route(canary(&["trafficRouting", "plugins"]));
    let has_route = argo.is_by_gateway || canary(&["trafficRouting", "istio"]).is_some();
    argo.namespace = node.text_at(&["metadata", "namespace"]).map(str::to_owned);
    argo.has_selector = node.at(&["spec", "selector"]).is_some();
    argo.has_subsets = canary(&["trafficRouting", "istio", "destinationRule"]).is_some();
    argo.dropped_steps =
        steps::dropped(canary(&["steps"]).map_or(&[][..], Node::items), (has_route, argo.is_by_gateway));
    let rows = [fields::OBJECT, fields::ROLLOUT, fields::ROUTING, fields::STEPS];
    let mut work = Work::new(&rows, ROLLOUT_REFUSED, argo);
    work.has_route = has_route;
    let mut turned = work.fields("", root);
    say_defaults(&mut work, &mut turned);
    Outcome {
        object: Some(Node::Map(turned)),
        becomes: "Rollout of serin.dev".to_owned(),
        lines: work.lines,
        is_untouched: false,
    }
}

/// What means something else in Serin when it is absent.
fn say_defaults(work: &mut Work<'_>, root: &mut Map) {
    let Some(Entry { value: Node::Map(spec), .. }) = root.entries.iter_mut().find(|entry| entry.key.text == "spec")
    else {
        return;
    };
    if spec.get("progressDeadlineAbort").is_some() {
        return;
    }
    let mut entry = Entry::new("progressDeadlineAbort", Scalar::plain("false"));
    entry.above =
        vec!["# as Argo Rollouts does; without this line a canary whose pods do not come is aborted".to_owned()];
    let at = spec.entries.iter().position(|entry| entry.key.text == "progressDeadlineSeconds");
    let at = at.map(|at| at + 1).or_else(|| spec.entries.iter().position(|entry| entry.key.text == "strategy"));
    spec.entries.insert(at.unwrap_or(spec.entries.len()), entry);
    let how = "added as false, which it is without a word in Argo Rollouts; Serin's default is true";
    work.tell("spec.progressDeadlineAbort", Decision::Translated, how);
}

/// How a team goes over from Argo Rollouts to Serin.
pub const TAKEOVER: [&str; 3] = [
    "First commit, while no release is under way: add the converted manifests beside the old ones, with spec.replicas as many as run now, and write `strategy: {canary: {}}` into the Rollout of argoproj.io: it lets go of the route and keeps its pods. Autoscalers go over to the new Rollout here.",
    "Wait until the Rollout of serin.dev is Healthy: kubectl serin status NAME --watch. Both serve behind the same Service until then.",
    "Second commit: remove the Rollout of argoproj.io and its analysis templates; with an autoscaler remove spec.replicas too. A Deployment that workloadRef names stays, with replicas: 0 or without replicas.",
];
