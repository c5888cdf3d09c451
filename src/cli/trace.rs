//! `kubectl serin trace`: from the commit to the Rollout, its ReplicaSets, pods, Services and routes; and back from a pod, an
//! image or a commit.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Context as _;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::branch::{self, Branch};
use super::clock;
use super::cluster::{Cluster, Tree};
use super::origin::read_deployment;
use super::outcome::{NotFound, Outcome};
use super::screen::Look;
use super::view::{self, Glyphs, age, counted, short};
use crate::api::names;
use crate::api::status::{RevisionStatus, RolloutStatus};
use crate::api::watched::{DestinationRule, HttpRoute, ReplicaSet, Rollout, Service, VirtualService};
use crate::plan::observed::{Observed, Workload};
use crate::plan::revision::{self, Pods};
use crate::plan::route::{self, Leg, Route, Sides};
use crate::plan::strategy::{self, RouteKind, Strategy};

/// What to trace.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kubectl serin trace checkout\n  kubectl serin trace pod/checkout-s5d8sblfl7-x2k4j\n  kubectl serin trace deployment/checkout\n  kubectl serin trace image/checkout:2\n  kubectl serin trace commit/4f2a91c"
)]
pub struct Arguments {
    /// The name of a Rollout, or `pod/NAME`, `deployment/NAME`, `image/IMAGE`, `commit/SHA`.
    #[arg(add = super::completion::rollouts())]
    target: Target,
}

/// What a trace may begin with.
const FORMS: &str = "NAME, pod/NAME, deployment/NAME, image/IMAGE, commit/SHA";

/// Where a trace begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Rollout(String),
    Pod(String),
    Deployment(String),
    Image(String),
    Commit(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((kind, "")) = text.split_once('/') {
            return Err(format!("there is nothing after {kind}/; one of {FORMS}"));
        }
        Ok(match text.split_once('/') {
            None => Self::Rollout(text.to_owned()),
            Some(("rollout" | "sro" | "rollout.serin.dev", name)) => Self::Rollout(name.to_owned()),
            Some(("pod" | "pods" | "po", name)) => Self::Pod(name.to_owned()),
            Some(("deployment" | "deployments" | "deployment.apps" | "deploy", name)) => {
                Self::Deployment(name.to_owned())
            }
            Some(("image", image)) => Self::Image(image.to_owned()),
            Some(("commit", commit)) => Self::Commit(commit.to_owned()),
            Some((kind, _)) => {
                return Err(format!("{kind} cannot be traced; one of {FORMS}"));
            }
        })
    }
}

/// Traces.
pub async fn run(cluster: &Cluster, arguments: &Arguments, look: Look) -> anyhow::Result<Outcome> {
    let now = clock::now();
    let (names, told) = match &arguments.target {
        Target::Rollout(name) => (vec![name.clone()], Vec::new()),
        Target::Pod(pod) => (vec![rollout_of(cluster, pod).await?], Vec::new()),
        Target::Deployment(deployment) => (rollouts_of(cluster, deployment).await?, Vec::new()),
        Target::Image(image) => {
            search(cluster, &arguments.target, &|images, _| names_image(images, image), now).await?
        }
        Target::Commit(commit) => {
            search(cluster, &arguments.target, &|_, own| own.is_some_and(|own| own.starts_with(commit.as_str())), now)
                .await?
        }
    };
    look.print(&told)?;
    for name in names {
        let chain = Chain::of(cluster, &name).await?;
        look.print(&lines(&chain, look.glyphs, now))?;
    }
    Ok(Outcome::Reached)
}

/// Whether an image is the one that is asked for: all of it, or from a path segment on, such as `checkout:2`.
fn names_image(images: &str, wanted: &str) -> bool {
    images.split(',').any(|image| {
        image == wanted || image.ends_with(&format!("/{wanted}")) || image.ends_with(&format!("@{wanted}"))
    })
}

async fn rollout_of(cluster: &Cluster, pod: &str) -> anyhow::Result<String> {
    let api = cluster.api::<k8s_openapi::api::core::v1::Pod>();
    let found = api.get_opt(pod).await.with_context(|| format!("get pod {pod}"))?;
    let found = found.ok_or_else(|| NotFound(format!("pod {pod} in namespace {}", cluster.namespace)))?;
    let rollout = found.labels().get(names::ROLLOUT).cloned();
    Ok(rollout.ok_or_else(|| NotFound(format!("Rollout of pod {pod}: it lacks the label {}", names::ROLLOUT)))?)
}

/// The Rollouts whose template a Deployment brings.
async fn rollouts_of(cluster: &Cluster, deployment: &str) -> anyhow::Result<Vec<String>> {
    let rollouts = cluster.api::<Rollout>().list(&ListParams::default()).await.context("list rollouts")?.items;
    let names_it = |rollout: &&Rollout| rollout.workload().as_deref() == Some(deployment);
    let names: Vec<String> = rollouts.iter().filter(names_it).map(Rollout::name_any).collect();
    if names.is_empty() {
        let namespace = &cluster.namespace;
        let what = format!("rollout in namespace {namespace} that names Deployment {deployment} in spec.workloadRef");
        return Err(NotFound(what).into());
    }
    Ok(names)
}

/// Whether a revision is the one that is asked for, by its images and its commit.
type Matches<'a> = dyn Fn(&str, Option<&String>) -> bool + 'a;

/// The Rollouts one of whose revisions matches, and what of it is past.
async fn search(
    cluster: &Cluster,
    target: &Target,
    matches: &Matches<'_>,
    now: Timestamp,
) -> anyhow::Result<(Vec<String>, Vec<Line<'static>>)> {
    let rollouts = cluster.api::<Rollout>().list(&ListParams::default()).await.context("list rollouts")?.items;
    // A history names no image: the ReplicaSets that are kept do.
    let sets = match target {
        Target::Image(_) => {
            let own = ListParams::default().labels(names::ROLLOUT);
            cluster.api::<ReplicaSet>().list(&own).await.context("list ReplicaSets")?.items
        }
        Target::Rollout(_) | Target::Pod(_) | Target::Deployment(_) | Target::Commit(_) => Vec::new(),
    };
    let (mut names, mut told) = (Vec::new(), Vec::new());
    for rollout in rollouts {
        if sides(&rollout.status).any(|(_, side)| matches(&side.image, side.commit.as_ref())) {
            names.push(rollout.name_any());
        } else {
            told.extend(past(&rollout, &sets, matches, now));
        }
    }
    if names.is_empty() && told.is_empty() {
        let what = match target {
            Target::Rollout(name) | Target::Pod(name) | Target::Deployment(name) => name.clone(),
            Target::Image(image) => format!("image {image}, nor a ReplicaSet kept of it,"),
            Target::Commit(commit) => format!("commit {commit}"),
        };
        return Err(NotFound(format!("rollout with {what} in namespace {}", cluster.namespace)).into());
    }
    Ok((names, told))
}

/// What of a Rollout's past matches: how it ended, and the ReplicaSets that are left.
fn past(rollout: &Rollout, sets: &[ReplicaSet], matches: &Matches<'_>, now: Timestamp) -> Vec<Line<'static>> {
    let name = rollout.name_any();
    let is_own = |set: &&ReplicaSet| set.labels().get(names::ROLLOUT) == Some(&name);
    let own: Vec<ReplicaSet> = sets.iter().filter(is_own).cloned().collect();
    let kept = revision::pods(&own);
    let left = |pods: &Pods| format!("; ReplicaSet {} is kept, with {} pods", pods.name, pods.exist);
    let history = &rollout.status.history;
    let mut told = Vec::new();
    for outcome in history {
        let pods = kept.get(&outcome.hash);
        if matches(pods.map_or("", |pods| &pods.image), outcome.commit.as_ref()) {
            let ago = age(outcome.ended_at, now);
            let left = pods.map_or_else(String::new, left);
            let number = outcome.revision;
            told.push(format!("{name} r{number}: {} {ago} ago, {}{left}", outcome.outcome, outcome.reason));
        }
    }
    let unknown = kept
        .iter()
        .filter(|(hash, pods)| matches(&pods.image, None) && !history.iter().any(|outcome| outcome.hash == **hash));
    told.extend(unknown.map(|(_, pods)| format!("{name} r{}: not in its history{}", pods.revision, left(pods))));
    told.into_iter().map(Line::from).collect()
}

fn sides(status: &RolloutStatus) -> impl Iterator<Item = (&'static str, &RevisionStatus)> {
    let canary = if status.aborted.is_some() { "aborted" } else { "canary" };
    [(canary, &status.canary), ("stable", &status.stable)]
        .into_iter()
        .filter_map(|(name, side)| Some((name, side.as_ref()?)))
}

/// A Rollout with all that its traffic goes through.
pub struct Chain {
    /// The Rollout, its ReplicaSets and its pods.
    pub tree: Tree,
    /// What is seen of its routes.
    pub observed: Observed,
}

impl Chain {
    /// Reads a chain.
    pub async fn of(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let tree = cluster.tree(name).await?;
        let all = ListParams::default();
        let (services, routes, rules) =
            (cluster.api::<Service>(), cluster.api::<VirtualService>(), cluster.api::<DestinationRule>());
        let (services, routes, rules) = tokio::join!(services.list(&all), routes.list(&all), rules.list(&all));
        let workload = match tree.rollout.workload() {
            Some(name) => match cluster.deployment(&name).await? {
                Some(found) => Workload::Found(Box::new(read_deployment(&found)?)),
                None => Workload::Missing,
            },
            None => Workload::Unlisted,
        };
        let is_of_gateway = tree.rollout.spec.value().pointer("/strategy/canary/trafficRouting/gatewayAPI").is_some();
        let http_routes = if is_of_gateway {
            cluster.api::<HttpRoute>().list(&all).await.context("list HTTPRoutes")?.items
        } else {
            Vec::new()
        };
        let observed = Observed {
            rollout: tree.rollout.clone(),
            http_routes,
            workload,
            replica_sets: tree.replica_sets.clone(),
            services: services.context("list Services")?.items,
            virtual_services: routes.context("list VirtualServices")?.items,
            destination_rules: rules.context("list DestinationRules")?.items,
            ..Observed::default()
        };
        Ok(Self { tree, observed })
    }
}

impl Chain {
    fn strategy(&self) -> Strategy {
        let rollout = &self.tree.rollout;
        let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
        strategy::of(namespace, &rollout.spec.value(), &self.observed.workload)
    }
}

/// The lines of a chain.
pub fn lines(chain: &Chain, glyphs: &Glyphs, now: Timestamp) -> Vec<Line<'static>> {
    let status = &chain.tree.rollout.status;
    let phase = status.phase.map_or_else(String::new, |phase| phase.to_string());
    let Branch { line, below } = branch(chain, &format!("  {phase}  {}", status.message), now);
    let mut lines = vec![line];
    lines.extend(branch::lines(&below, glyphs, ""));
    lines
}

/// A chain as a tree, with what is told behind the Rollout's name: the Deployment that brings the template is before it.
pub fn branch(chain: &Chain, told: &str, now: Timestamp) -> Branch {
    let rollout = &chain.tree.rollout;
    let strategy = chain.strategy();
    let mut below = Vec::new();
    for (name, side) in sides(&rollout.status) {
        below.push(revision_branch(chain, name, side, now));
    }
    below.extend(service_branches(chain, &strategy));
    below.extend(route_branches(chain, &strategy));
    let line = Line::from(vec![
        Span::raw("Rollout "),
        Span::styled(rollout.name_any(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(told.to_owned()),
    ]);
    let rollout = Branch { line, below };
    match deployment_line(chain) {
        Some(line) => Branch { line, below: vec![rollout] },
        None => rollout,
    }
}

/// `Deployment checkout  brings the template, 0 pods, commit 4f2a91c`
fn deployment_line(chain: &Chain) -> Option<Line<'static>> {
    let name = chain.tree.rollout.workload()?;
    let Some(deployment) = chain.observed.workload.found() else {
        let text = format!("Deployment {name}  does not exist; it brings the template");
        return Some(Line::styled(text, Style::new().fg(Color::Red)));
    };
    let commit = deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::GIT_COMMIT));
    let commit = commit.map_or_else(String::new, |commit| format!(", commit {}", short(commit)));
    Some(Line::from(format!("Deployment {name}  brings the template, {}{commit}", counted(deployment.pods()))))
}

/// `stable r1, 80% of traffic` with the commit, the ReplicaSet and the pods below it.
fn revision_branch(chain: &Chain, name: &str, side: &RevisionStatus, now: Timestamp) -> Branch {
    let color = match name {
        "stable" => Color::Green,
        "canary" => Color::Yellow,
        _ => Color::Red,
    };
    let head = Line::from(vec![
        Span::styled(name.to_owned(), Style::new().fg(color)),
        Span::raw(format!(" r{}  {}  {}% of traffic", side.revision, side.image, side.observed_weight)),
    ]);
    let mut below = Vec::new();
    if let Some(commit) = &side.commit {
        let author = side.author.as_ref().map_or_else(String::new, |author| format!(" by {author}"));
        below.push(Branch::leaf(format!("commit {}{author}", short(commit))));
    }
    let set = chain.tree.replica_sets.iter().find(|set| revision::hash_of(set) == Some(side.hash.as_str()));
    below.extend(set.map(|set| view::set_branch(&chain.tree, set, now)));
    Branch { line: head, below }
}

/// The Services whose selector takes the Rollout's pods.
fn service_branches(chain: &Chain, strategy: &Strategy) -> Vec<Branch> {
    let template = strategy.template.as_ref().and_then(|template| template.pointer("/metadata/labels"));
    let template = template.cloned().unwrap_or_default();
    let selects = |selector: &BTreeMap<String, String>| {
        let mut wanted = selector.iter().filter(|(key, _)| *key != names::REVISION_HASH);
        !selector.is_empty()
            && wanted.all(|(key, value)| template.get(key).and_then(|own| own.as_str()) == Some(value.as_str()))
    };
    let services = chain.observed.services.iter().filter(|service| selects(&service.spec.selector));
    services
        .map(|service| {
            let selector: Vec<String> =
                service.spec.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            Branch::leaf(format!("Service {}  selects {}", service.name_any(), selector.join(",")))
        })
        .collect()
}

/// The hosts of the object that holds a leg.
fn hosts(observed: &Observed, leg: &Leg) -> String {
    let (hosts, none) = match leg.kind {
        RouteKind::VirtualService => {
            let found = observed.virtual_services.iter().find(|one| one.name_any() == leg.object);
            (found.map(|one| one.spec.hosts.join(",")), "delegate")
        }
        RouteKind::HttpRoute => {
            let found = observed.http_routes.iter().find(|one| one.name_any() == leg.object);
            (found.map(|one| one.spec.hostnames.join(",")), "hosts of its parents")
        }
    };
    match hosts.filter(|hosts| !hosts.is_empty()) {
        Some(hosts) => format!("hosts {hosts}"),
        None => none.to_owned(),
    }
}

/// The VirtualServices or HTTPRoutes with each route's weights, the DestinationRule, and what is wrong with them.
fn route_branches(chain: &Chain, strategy: &Strategy) -> Vec<Branch> {
    let rollout = &chain.tree.rollout;
    let Some(routing) = &strategy.routing else { return Vec::new() };
    let (route, problems) = route::observe(&chain.observed, strategy);
    let sides = route::names_of(&rollout.name_any(), routing).sides;
    let mut branches: BTreeMap<String, Branch> = BTreeMap::new();
    for leg in &route.legs {
        let hosts = hosts(&chain.observed, leg);
        let branch = branches
            .entry(leg.object.clone())
            .or_insert_with(|| Branch::leaf(format!("{} {}  {hosts}", leg.kind, leg.object)));
        branch.below.push(Branch::leaf(leg_text(leg, &sides)));
    }
    let mut branches: Vec<Branch> = branches.into_values().collect();
    branches.extend(sides_branch(&route, &sides, &rollout.status));
    let warning = Style::new().fg(Color::Yellow);
    let told = problems.into_iter().map(|problem| format!("{}: {}", problem.reason, problem.message));
    branches.extend(told.map(|text| Branch::leaf(Line::styled(text, warning))));
    branches
}

/// `http serin: checkout-stable 80%, checkout-canary 20%`
fn leg_text(leg: &Leg, sides: &Sides) -> String {
    let (stable, canary) = sides.both();
    let name = leg.route.clone().unwrap_or_else(|| leg.at.to_string());
    format!("{} {name}: {stable} {}%, {canary} {}%", leg.kind.routes(leg.protocol), leg.stable, leg.canary)
}

/// Which revision each subset, or Service, leads to.
fn sides_branch(route: &Route, sides: &Sides, status: &RolloutStatus) -> Option<Branch> {
    let named = |hash: &Option<String>| {
        let Some(hash) = hash else { return "every revision".to_owned() };
        let own = [&status.stable, &status.canary].into_iter().flatten().find(|side| side.hash == *hash);
        own.map_or_else(|| hash.clone(), |side| format!("r{} {hash}", side.revision))
    };
    let (stable, canary) = sides.both();
    let below = [(stable, &route.stable), (canary, &route.canary)];
    let line = match sides {
        Sides::Subsets { rule, .. } => format!("DestinationRule {rule}"),
        Sides::Services { .. } => "Services by revision".to_owned(),
    };
    let below = below.into_iter().map(|(name, hash)| Branch::leaf(format!("{name}: {}", named(hash)))).collect();
    route.has_rule.then(|| Branch { line: Line::from(line), below })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(image: &str) -> Vec<String> {
        let at = "2026-01-01T00:00:00Z";
        let rollout: Rollout = serde_json::from_value(json!({
            "metadata": {"name": "checkout"}, "spec": {},
            "status": {"stable": {"hash": "b", "revision": 2, "image": "shop/checkout:2"}, "history": [
                {"hash": "a", "revision": 1, "outcome": "Promoted", "startedAt": at, "endedAt": at, "reason": "first"}]},
        }))
        .unwrap();
        let set = |rollout: &str, hash: &str, image: &str, number: &str| {
            let labels = json!({names::ROLLOUT: rollout, names::REVISION_HASH: hash});
            let metadata = json!({"name": format!("{rollout}-{hash}"), "labels": labels, "annotations": {names::REVISION: number}});
            let template = json!({"spec": {"containers": [{"name": "app", "image": image}]}});
            serde_json::from_value(json!({"metadata": metadata, "spec": {"replicas": 0, "template": template}}))
                .unwrap()
        };
        let sets: Vec<ReplicaSet> = vec![
            set("checkout", "a", "shop/checkout:1", "1"),
            set("checkout", "c", "shop/checkout:3", "3"),
            set("other", "a", "shop/checkout:9", "1"),
        ];
        let now = at.parse().unwrap();
        let lines = past(&rollout, &sets, &|images, _| names_image(images, image), now);
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_image_of_the_past_is_found() {
        assert_eq!(
            told("checkout:1"),
            ["checkout r1: Promoted 0s ago, first; ReplicaSet checkout-a is kept, with 0 pods"]
        );
        assert_eq!(told("checkout:3"), ["checkout r3: not in its history; ReplicaSet checkout-c is kept, with 0 pods"]);
        assert_eq!(told("checkout:9"), Vec::<String>::new(), "it is another's");
    }

    #[test]
    fn nothing_after_the_slash_is_no_target() {
        for text in ["image/", "commit/", "pod/", "rollout/", "deploy/"] {
            assert!(text.parse::<Target>().unwrap_err().contains("there is nothing after"), "{text}");
        }
        assert_eq!("image/shop/checkout:1".parse(), Ok(Target::Image("shop/checkout:1".to_owned())));
    }
}
