//! Manifests of Flagger to Serin's: a Canary with its Deployment and its MetricTemplates becomes a Rollout, and the
//! objects that Flagger would write become manifests.

mod analysis;
pub mod fields;
mod metric;
mod route;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::argo::{Argo, Providers};
use super::report::{Decision, Line};
use super::table::{Row, Work};
use super::yaml::{Entry, Map, Node, Scalar};
use super::{Fate, Manifests, group};
use crate::api::names::API_VERSION;

/// The API group.
pub const GROUP: &str = "flagger.app";

/// What Flagger's objects have in common.
#[derive(Debug, Default)]
pub struct Flagger {
    templates: BTreeMap<String, Node>,
    workloads: BTreeMap<(String, String), Node>,
    /// Kind and name of what is in the input besides.
    others: BTreeSet<(String, String)>,
    targets: BTreeSet<(String, String)>,
    providers: Providers,
}

/// A Canary under work.
struct Canary<'a> {
    node: &'a Node,
    /// Name of the Canary.
    name: String,
    /// Name of the target, and of the Rollout.
    target: String,
    /// Name of the Service that clients call.
    apex: String,
    /// The Deployment, where it is in the input.
    deployment: Option<Node>,
    /// What the report says in place of the table: decision, note, and whether protection is gone.
    told: BTreeMap<String, (Decision, String, bool)>,
    /// Comments that belong above the steps.
    of_steps: Vec<String>,
    /// Whether the input holds the Service.
    has_service: bool,
}

impl Canary<'_> {
    fn at(&self, keys: &[&str]) -> Option<&Node> {
        self.node.at(&["spec"])?.at(keys)
    }

    /// An entry of the spec, with its comments.
    fn entry(&self, keys: &[&str]) -> Option<Entry> {
        let (last, before) = keys.split_last()?;
        self.at(before)?.entries().iter().find(|entry| entry.key.text == *last).cloned()
    }

    fn text(&self, keys: &[&str]) -> Option<&str> {
        self.at(keys).and_then(Node::text)
    }

    fn is_true(&self, keys: &[&str]) -> bool {
        self.at(keys).is_some_and(|node| node.value() == true)
    }

    fn tell(&mut self, path: &str, decision: Decision, note: &str) {
        self.told.insert(path.to_owned(), (decision, note.to_owned(), false));
    }

    fn lose(&mut self, path: &str, note: &str) {
        self.told.insert(path.to_owned(), (Decision::NotSupported, note.to_owned(), true));
    }
}

impl Flagger {
    /// Knows what the manifests hold.
    pub fn new(manifests: &Manifests) -> Self {
        let mut flagger = Self::default();
        for node in manifests.objects() {
            let kind = node.text_at(&["kind"]).unwrap_or_default().to_owned();
            let name = node.text_at(&["metadata", "name"]).unwrap_or_default().to_owned();
            match (group(node), kind.as_str()) {
                (GROUP, "MetricTemplate") => {
                    flagger.templates.insert(name, node.clone());
                }
                ("apps", "Deployment") => {
                    flagger.workloads.insert((kind, name), node.clone());
                }
                _ => {
                    flagger.others.insert((kind, name));
                }
            }
        }
        flagger
    }

    /// Whether a Rollout stands in for this workload.
    pub fn is_target(&self, kind: &str, name: &str) -> bool {
        self.targets.contains(&(kind.to_owned(), name.to_owned()))
    }

    /// What a team does now.
    pub fn next(&self) -> Vec<String> {
        let mut next = Vec::new();
        if !self.providers.names().is_empty() {
            next.push(format!(
                "Have an administrator apply {}: a MetricProvider belongs to the cluster, not to a team.",
                self.providers.names().join(", ")
            ));
        }
        if !self.targets.is_empty() {
            next.extend(TAKEOVER.iter().map(|step| (*step).to_owned()));
        }
        next
    }

    /// Converts an object of Flagger.
    pub fn convert(&mut self, node: &Node) -> Fate {
        match node.text_at(&["kind"]).unwrap_or_default() {
            "Canary" => self.canary(node),
            "MetricTemplate" => Fate {
                becomes: Some(Vec::new()),
                words: "nothing: its query is in the analysis templates of the Canaries that name it".to_owned(),
                lines: lines(node, &[fields::ABSORBED, fields::TEMPLATE], of_provider(node)),
            },
            "AlertProvider" => Fate {
                becomes: Some(Vec::new()),
                words: "nothing: Serin does not notify yet".to_owned(),
                lines: lines(node, &[fields::ABSORBED, fields::ALERTS], BTreeMap::new()),
            },
            kind => Fate { becomes: None, words: format!("the same: {kind} is no kind of Flagger"), lines: Vec::new() },
        }
    }

    fn canary(&mut self, node: &Node) -> Fate {
        let rows = [fields::OBJECT, fields::CANARY, fields::SERVICE, fields::ANALYSIS];
        let name = node.text_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        let target = node.text_at(&["spec", "targetRef", "name"]).unwrap_or(&name).to_owned();
        let kind = node.text_at(&["spec", "targetRef", "kind"]).unwrap_or("Deployment").to_owned();
        let apex = node.text_at(&["spec", "service", "name"]).unwrap_or(&target).to_owned();
        let key = (kind.clone(), target.clone());
        let deployment = self.workloads.get(&key).cloned();
        let mut canary = Canary {
            node,
            name,
            target,
            apex,
            deployment,
            told: BTreeMap::new(),
            of_steps: Vec::new(),
            has_service: false,
        };
        if kind != "Deployment" {
            let why = format!("a Rollout takes the place of a Deployment, and of no {kind}");
            canary.lose("spec.targetRef", &why);
            return Fate { becomes: None, words: format!("the same: {why}"), lines: lines(node, &rows, canary.told) };
        }
        self.targets.insert(key);
        tell_plain(&mut canary);
        let mut objects = self.objects(&mut canary);
        let mut becomes = self.providers.take_fresh();
        becomes.append(&mut objects);
        let kinds: Vec<&str> = becomes.iter().filter_map(|node| node.text_at(&["kind"])).collect();
        let words = kinds.join(", ");
        Fate { becomes: Some(becomes), words, lines: lines(node, &rows, canary.told) }
    }

    fn objects(&mut self, canary: &mut Canary<'_>) -> Vec<Node> {
        let has = |kind: &str, name: &str| self.others.contains(&(kind.to_owned(), name.to_owned()));
        let mut objects = route::objects(canary, &has);
        let analysed = analysis::analyse(canary, &self.templates, &mut self.providers);
        objects.extend(analysed.templates);
        let mut spec = workload(canary);
        spec.extend(canary.entry(&["progressDeadlineSeconds"]));
        if let Some(suspend) = canary.entry(&["suspend"]) {
            spec.push(suspend.named("paused"));
        }
        let mut inner = vec![Entry::new("trafficRouting", Map::of(vec![Entry::new("istio", route::istio(canary))]))];
        inner.extend(analysed.background.map(|background| Entry::new("analysis", background)));
        if let Some(steps) = analysed.steps {
            let mut entry = Entry::new("steps", steps);
            entry.above.append(&mut canary.of_steps);
            inner.push(entry);
        }
        let mut strategy = Entry::new("strategy", Map::of(vec![Entry::new("canary", Map::of(inner))]));
        strategy.above = rest(canary).into_iter().chain(std::mem::take(&mut canary.of_steps)).collect();
        spec.push(strategy);
        objects.push(rollout(canary, spec));
        objects
    }
}

/// What there is to say of a MetricTemplate of something other than Prometheus.
fn of_provider(template: &Node) -> BTreeMap<String, (Decision, String, bool)> {
    let kind = template.text_at(&["spec", "provider", "type"]).unwrap_or("prometheus");
    let why = format!("Serin measures by Prometheus only, and this is of {kind}");
    let told = (kind != "prometheus").then(|| ("spec.provider.type".to_owned(), (Decision::NotSupported, why, true)));
    told.into_iter().collect()
}

/// What a field says that could as well be absent, or that Serin cannot do at all.
fn tell_plain(canary: &mut Canary<'_>) {
    for keys in [
        &["skipAnalysis"][..],
        &["suspend"],
        &["service", "headless"],
        &["service", "portDiscovery"],
        &["service", "delegation"],
    ] {
        if canary.at(keys).is_some_and(|node| node.value() == false) {
            canary.tell(&format!("spec.{}", keys.join(".")), Decision::Translated, "false, as without it");
        }
    }
    if canary.is_true(&["skipAnalysis"]) {
        let fields: Vec<String> = canary
            .at(&["analysis"])
            .map_or(&[][..], Node::entries)
            .iter()
            .map(|entry| entry.key.text.clone())
            .collect();
        for field in fields {
            let path = format!("spec.analysis.{field}");
            canary.tell(&path, Decision::Translated, "nothing, as long as skipAnalysis is true");
        }
    }
    if let Some(provider) = canary.text(&["provider"]).filter(|provider| *provider != "istio").map(str::to_owned) {
        let why = if provider.starts_with("gatewayapi") {
            "the route is one of Istio here; for the Gateway API write the HTTPRoute into Git and name it in gatewayAPI, see docs/gateway-api.md".to_owned()
        } else {
            format!("Serin routes by Istio and by HTTPRoutes only, and this is {provider}")
        };
        canary.lose("spec.provider", &why);
    }
}

/// The Rollout, under the metadata of the Canary.
fn rollout(canary: &Canary<'_>, spec: Vec<Entry>) -> Node {
    let root = canary.node.entries();
    let taken = |key: &str| root.iter().find(|entry| entry.key.text == key).cloned();
    let own = |key: &str, value: Node| {
        taken(key).map_or_else(|| Entry::new(key, value.clone()), |entry| entry.with(value.clone()))
    };
    let mut metadata = taken("metadata").unwrap_or_else(|| Entry::new("metadata", Map::default()));
    if let Node::Map(map) = &mut metadata.value {
        map.entries.retain(|entry| ["name", "namespace", "labels", "annotations"].contains(&entry.key.text.as_str()));
        if let Some(name) = map.entries.iter_mut().find(|entry| entry.key.text == "name") {
            name.value = Node::string(&canary.target);
        }
    }
    let spec = taken("spec")
        .map_or_else(|| Entry::new("spec", Map::default()), |entry| Entry { value: Node::string(""), ..entry })
        .with(Map::of(spec));
    Map::of(vec![own("apiVersion", Node::string(API_VERSION)), own("kind", Node::string("Rollout")), metadata, spec])
        .into()
}

/// What the Deployment says of its pods besides their template, and the Deployment's name.
fn workload(canary: &Canary<'_>) -> Vec<Entry> {
    let mut wanted = vec!["minReadySeconds", "revisionHistoryLimit"];
    if canary.at(&["autoscalerRef"]).is_none() {
        wanted.push("replicas");
    }
    if canary.at(&["progressDeadlineSeconds"]).is_none() {
        wanted.push("progressDeadlineSeconds");
    }
    let spec =
        canary.deployment.as_ref().and_then(|deployment| deployment.at(&["spec"])).map_or(&[][..], Node::entries);
    let mut entries: Vec<Entry> =
        spec.iter().filter(|entry| wanted.contains(&entry.key.text.as_str())).cloned().collect();
    let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": canary.target});
    entries.push(Entry::new("workloadRef", Node::from(reference)));
    if let Some(first) = entries.first_mut() {
        first.above.retain(|line| !line.is_empty());
    }
    entries
}

/// Comments of the Canary that have no other place: above what they had part in.
fn rest(canary: &Canary<'_>) -> Vec<String> {
    const ROUTE: [&str; 9] =
        ["hosts", "gateways", "match", "rewrite", "timeout", "retries", "headers", "corsPolicy", "trafficPolicy"];
    const SERVICE: [&str; 4] = ["port", "appProtocol", "trafficDistribution", "apex"];
    let comments = |entry: &Entry| match entry.key.text.as_str() {
        "progressDeadlineSeconds" | "suspend" | "analysis" => Vec::new(),
        "service" => {
            let is_moved = |key: &str| ROUTE.contains(&key) || !canary.has_service && SERVICE.contains(&key);
            let within = entry.value.entries().iter().filter(|entry| !is_moved(&entry.key.text));
            entry.comments().into_iter().chain(within.flat_map(Entry::all_comments)).collect()
        }
        _ => entry.all_comments(),
    };
    canary.node.at(&["spec"]).map_or(&[][..], Node::entries).iter().flat_map(comments).collect()
}

/// What became of every field: by the table, and where the conversion knows better by what it told.
fn lines(node: &Node, rows: &[&[Row]], told: BTreeMap<String, (Decision, String, bool)>) -> Vec<Line> {
    let Node::Map(root) = node.clone() else { return Vec::new() };
    let mut argo = Argo::default();
    let mut work = Work::new(rows, &[], &mut argo);
    work.fields("", root);
    let mut lines = Vec::new();
    for line in work.lines {
        let better = told.get(&line.path).map(|(decision, note, is_lost)| Line {
            decision: *decision,
            note: note.clone(),
            is_lost: *is_lost,
            ..line.clone()
        });
        let line = better.unwrap_or(line);
        let below = told.iter().filter(|(path, _)| path.starts_with(&format!("{}[", line.path)));
        let below: Vec<Line> = below
            .map(|(path, (decision, note, is_lost))| Line {
                path: path.clone(),
                decision: *decision,
                note: note.clone(),
                is_lost: *is_lost,
                comments: Vec::new(),
            })
            .collect();
        lines.push(line);
        lines.extend(below);
    }
    for (path, (decision, note, is_lost)) in told {
        if !lines.iter().any(|line| line.path == path) {
            lines.push(Line { path, decision, note, is_lost, comments: Vec::new() });
        }
    }
    lines
}

/// A number of checks, a weight or a port as an entry's value.
fn number(value: i64) -> Scalar {
    Scalar::plain(&value.to_string())
}

/// How a team goes over from Flagger to Serin.
pub const TAKEOVER: [&str; 4] = [
    "First commit, while no release is under way: write `suspend: true` and `revertOnDeletion: false` into the Canary, and add the converted manifests beside it, without the Service and with `trafficRouting` taken out of the Rollout. Its pods come up beside those of the primary; Flagger's Service still selects the primary's.",
    "Wait until the Rollout is Healthy: kubectl serin status NAME --watch.",
    "Second commit: remove the Canary and its MetricTemplates, and add the Service and `trafficRouting`. The Deployment stays, with replicas: 0 or without replicas. Have the tool that applies Git leave the Canary alone meanwhile, and delete it with `kubectl delete canary NAME --cascade=orphan`, so that nothing that serves goes with it.",
    "Then delete what Flagger wrote: the VirtualService first, on which the Rollout waits with RouteTaken; then the DestinationRules, the Services and the Deployment that end in -primary and -canary.",
];
