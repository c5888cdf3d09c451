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
use super::outcome::{NotFound, Outcome};
use super::screen::Look;
use super::view::{self, Glyphs, age, short};
use crate::api::names;
use crate::api::status::{RevisionStatus, RolloutStatus};
use crate::api::watched::{DestinationRule, Rollout, Service, VirtualService};
use crate::plan::observed::Observed;
use crate::plan::route::{self, Leg, Route, Sides};
use crate::plan::{revision, strategy};

/// What to trace.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kubectl serin trace checkout\n  kubectl serin trace pod/checkout-s5d8sblfl7-x2k4j\n  kubectl serin trace image/checkout:2\n  kubectl serin trace commit/4f2a91c"
)]
pub struct Arguments {
    /// The name of a Rollout, or `pod/NAME`, `image/IMAGE`, `commit/SHA`.
    #[arg(add = super::completion::rollouts())]
    target: Target,
}

/// Where a trace begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Rollout(String),
    Pod(String),
    Image(String),
    Commit(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('/') {
            None => Self::Rollout(text.to_owned()),
            Some(("rollout" | "sro" | "rollout.serin.dev", name)) => Self::Rollout(name.to_owned()),
            Some(("pod" | "pods" | "po", name)) => Self::Pod(name.to_owned()),
            Some(("image", image)) => Self::Image(image.to_owned()),
            Some(("commit", commit)) => Self::Commit(commit.to_owned()),
            Some((kind, _)) => {
                return Err(format!("{kind} cannot be traced; one of NAME, pod/NAME, image/IMAGE, commit/SHA"));
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
        Target::Image(image) => {
            search(cluster, &arguments.target, &|side, _| names_image(&side.image, image), now).await?
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

/// The Rollouts one of whose revisions matches, and what of it is past.
async fn search(
    cluster: &Cluster,
    target: &Target,
    matches: &dyn Fn(&RevisionStatus, Option<&String>) -> bool,
    now: Timestamp,
) -> anyhow::Result<(Vec<String>, Vec<Line<'static>>)> {
    let (mut names, mut told) = (Vec::new(), Vec::new());
    for rollout in cluster.api::<Rollout>().list(&ListParams::default()).await.context("list rollouts")?.items {
        let status = &rollout.status;
        let is_live = sides(status).any(|(_, side)| matches(side, side.commit.as_ref()));
        if is_live {
            names.push(rollout.name_any());
        }
        let past = status
            .history
            .iter()
            .filter(|outcome| !is_live && matches(&RevisionStatus::default(), outcome.commit.as_ref()));
        told.extend(past.map(|outcome| {
            let ago = age(outcome.ended_at, now);
            Line::from(format!(
                "{} r{}: {} {ago} ago, {}",
                rollout.name_any(),
                outcome.revision,
                outcome.outcome,
                outcome.reason
            ))
        }));
    }
    if names.is_empty() && told.is_empty() {
        let what = match target {
            Target::Rollout(name) | Target::Pod(name) => name.clone(),
            Target::Image(image) => format!("image {image}"),
            Target::Commit(commit) => format!("commit {commit}"),
        };
        return Err(NotFound(format!("rollout with {what} in namespace {}", cluster.namespace)).into());
    }
    Ok((names, told))
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
    async fn of(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let tree = cluster.tree(name).await?;
        let all = ListParams::default();
        let (services, routes, rules) =
            (cluster.api::<Service>(), cluster.api::<VirtualService>(), cluster.api::<DestinationRule>());
        let (services, routes, rules) = tokio::join!(services.list(&all), routes.list(&all), rules.list(&all));
        let observed = Observed {
            rollout: tree.rollout.clone(),
            replica_sets: tree.replica_sets.clone(),
            services: services.context("list Services")?.items,
            virtual_services: routes.context("list VirtualServices")?.items,
            destination_rules: rules.context("list DestinationRules")?.items,
            ..Observed::default()
        };
        Ok(Self { tree, observed })
    }
}

/// The lines of a chain.
pub fn lines(chain: &Chain, glyphs: &Glyphs, now: Timestamp) -> Vec<Line<'static>> {
    let rollout = &chain.tree.rollout;
    let mut branches = Vec::new();
    for (name, side) in sides(&rollout.status) {
        branches.push(revision_branch(chain, name, side, now));
    }
    branches.extend(service_branches(chain));
    branches.extend(route_branches(chain));
    let phase = rollout.status.phase.map_or_else(String::new, |phase| phase.to_string());
    let mut lines = vec![Line::from(vec![
        Span::raw("Rollout "),
        Span::styled(rollout.name_any(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {phase}  {}", rollout.status.message)),
    ])];
    lines.extend(branch::lines(&branches, glyphs, ""));
    lines
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
    below.extend(set.map(|set| view::set_branch(&chain.tree, set, &side.hash, now)));
    Branch { line: head, below }
}

/// The Services whose selector takes the Rollout's pods.
fn service_branches(chain: &Chain) -> Vec<Branch> {
    let template = chain.tree.rollout.spec.value().pointer("/template/metadata/labels").cloned().unwrap_or_default();
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

/// The VirtualServices with each route's weights, the DestinationRule, and what is wrong with them.
fn route_branches(chain: &Chain) -> Vec<Branch> {
    let rollout = &chain.tree.rollout;
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let strategy = strategy::parse(namespace, &rollout.spec.value());
    let Some(routing) = &strategy.routing else { return Vec::new() };
    let (route, problems) = route::observe(&chain.observed, &strategy);
    let sides = route::names_of(&rollout.name_any(), routing).sides;
    let mut branches: BTreeMap<String, Branch> = BTreeMap::new();
    for leg in &route.legs {
        let virtual_service = chain.observed.virtual_services.iter().find(|one| one.name_any() == leg.virtual_service);
        let hosts = virtual_service.map_or_else(String::new, |one| one.spec.hosts.join(","));
        let hosts = if hosts.is_empty() { "delegate".to_owned() } else { format!("hosts {hosts}") };
        let branch = branches
            .entry(leg.virtual_service.clone())
            .or_insert_with(|| Branch::leaf(format!("VirtualService {}  {hosts}", leg.virtual_service)));
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
    format!("{} {name}: {stable} {}%, {canary} {}%", leg.protocol.field(), leg.stable, leg.canary)
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
