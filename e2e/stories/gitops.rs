//! Git declares everything, and a real engine applies it every second, prunes and heals, beside canaries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::api::watched::Rollout;

use super::{gateway, route};
use crate::support::gitops::{Engine, Git, Write};
use crate::support::world::{is_aborted, is_healthy};
use crate::support::{Environment, Given, World};

const ROUTES: &str = "/apis/networking.istio.io/v1/namespaces/{ns}/virtualservices/checkout";
const HTTP_ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/{ns}/httproutes/checkout";
/// Where that route has a timeout.
const TIMEOUT: &str = "/spec/http/1/timeout";
/// How long nothing may be written at rest, at least; and how often the engine must have looked meanwhile, which takes longer on
/// a machine with much to do.
const REST: Duration = Duration::from_secs(20);
const REST_MOST: Duration = Duration::from_mins(3);
const LOOKS: usize = 10;

/// Where the weights are, and what Git holds of it.
pub struct Mode {
    /// As the table has it.
    pub name: &'static str,
    /// The Rollout.
    pub given: Given,
    /// Files besides the Rollout.
    files: Vec<(&'static str, Value)>,
    /// The object in Git that has the weights.
    pub held: Option<(&'static str, &'static str)>,
}

impl Mode {
    fn new(name: &'static str, given: Given, mut files: Vec<(&'static str, Value)>) -> Self {
        let steps = json!([{"setWeight": 20}, {"setWeight": 50}, {"pause": {"duration": "4s"}}]);
        files.push(("service.yaml", service("checkout")));
        Self { name, given: Given { steps, ..given }, files, held: None }
    }

    /// All files.
    pub fn files(&self) -> Vec<(&'static str, Value)> {
        [("rollout.yaml", self.given.object())].into_iter().chain(self.files.clone()).collect()
    }
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "checkout"}, "ports": [{"name": "http", "port": 80}]}})
}

pub fn owned() -> Mode {
    Mode::new("owned", Given::default(), Vec::new())
}

pub fn delegate() -> Mode {
    let root = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "root"},
        "spec": {"hosts": ["checkout"], "http": [{"name": "primary", "timeout": "7s", "delegate": {"name": "checkout-serin"}}]},
    });
    let given = Given { istio: json!({"owned": {"host": "checkout"}}), ..Given::default() };
    Mode::new("delegate", given, vec![("root.yaml", root)])
}

/// A VirtualService and a DestinationRule in Git.
pub fn in_place() -> Mode {
    let files =
        vec![("virtualservice.yaml", route::virtual_service()), ("destinationrule.yaml", route::destination_rule())];
    Mode { held: Some(("virtualservice.yaml", ROUTES)), ..Mode::new("in place", route::in_place(), files) }
}

fn two_services(name: &'static str, routing: &Value, file: (&'static str, Value), path: &'static str) -> Mode {
    let given = Given {
        istio: Value::Null,
        canary: json!({"stableService": "checkout-stable", "canaryService": "checkout-canary", "scaleDownDelaySeconds": 1,
            "abortScaleDownDelaySeconds": 1, "trafficRouting": routing}),
        ..Given::default()
    };
    let name_of_file = file.0;
    let files = vec![file, ("stable.yaml", service("checkout-stable")), ("canary.yaml", service("checkout-canary"))];
    Mode { held: Some((name_of_file, path)), ..Mode::new(name, given, files) }
}

fn hosts() -> Mode {
    let weights = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "checkout"},
        "spec": {"hosts": ["checkout"], "http": [{"route": [
            {"destination": {"host": "checkout-stable"}, "weight": 100},
            {"destination": {"host": "checkout-canary"}, "weight": 0}]}]},
    });
    let routing = json!({"istio": {"virtualService": {"name": "checkout"}}});
    two_services("two Services", &routing, ("virtualservice.yaml", weights), ROUTES)
}

fn http_route() -> Mode {
    let routing = json!({"gatewayAPI": {"httpRoute": {"name": "checkout"}}});
    two_services("HTTPRoute", &routing, ("httproute.yaml", gateway::http_route()), HTTP_ROUTE)
}

/// What docs/gitops.md lets Argo CD ignore.
pub fn ignored() -> Value {
    let rule = |group: &str, kind: &str, path: &str| json!({"group": group, "kind": kind, "jqPathExpressions": [path]});
    json!({
        "ignoreDifferences": [
            rule("networking.istio.io", "VirtualService", ".spec.http[]?.route[]?.weight"),
            rule("networking.istio.io", "DestinationRule", ".spec.subsets[]?.labels"),
            rule("gateway.networking.k8s.io", "HTTPRoute", ".spec.rules[]?.backendRefs[]?.weight"),
            rule("", "Service", ".spec.selector[\"serin.dev/revision-hash\"]"),
        ],
        "syncOptions": ["ApplyOutOfSyncOnly=true"],
    })
}

/// What docs/gitops.md lets Flux leave alone, once it is there: everything that Serin writes to.
pub fn applied_once(mut mode: Mode) -> Mode {
    for (name, object) in &mut mode.files {
        if *name != "service.yaml" {
            object["metadata"]["annotations"] = json!({"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"});
        }
    }
    mode
}

/// A first deployment, a canary that is promoted, one that is aborted, and its commit reverted; then rest.
async fn released(world: &World, git: &Git<'_>, mode: &Mode, more: &Value) -> Vec<Write> {
    git.follow(more).await;
    let first = &mode.given;
    world.wait("the first deployment", 180, |rollout| is_healthy(rollout, &first.hash())).await;
    settled(world, git).await;
    let (began, before) = (Instant::now(), git.writes().len());
    let (second, third) = (first.image("checkout:2"), first.image("checkout:3"));
    git.image("checkout:2");
    world.wait("the canary is promoted", 180, |rollout| is_healthy(rollout, &second.hash())).await;
    git.image("checkout:3");
    world.reaches(50).await;
    world.act("abort", &third.hash(), None).await;
    world.wait("aborted", 30, |rollout| is_aborted(rollout, "AbortedByAction")).await;
    world.reaches(0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let still = world.monitor.rollout("checkout").is_some_and(|rollout| is_aborted(&rollout, "AbortedByAction"));
    world.assert(still, "what Git asks for again is not tried again");
    git.revert();
    world.wait("Git's stable is Healthy", 60, |rollout| is_healthy(rollout, &second.hash())).await;
    has_commits(world, git, &[third.hash(), second.hash()]);
    let weights = world.monitor.weights("checkout");
    world.assert(weights == [0, 20, 50, 0, 20, 50, 0], &format!("weights were {weights:?}"));
    settled(world, git).await;
    let writes = tell(mode, "in flight", git, (before, began));
    at_rest(world, git).await;
    writes
}

/// No pipeline has written a commit: it is what the engine has on record.
fn has_commits(world: &World, git: &Git<'_>, hashes: &[String]) {
    let status = world.monitor.rollout("checkout").expect("the Rollout").status;
    let of = |hash: &String| status.history.iter().find(|one| one.hash == *hash).and_then(|one| one.commit.clone());
    let told: Vec<Option<String>> = std::iter::once(status.commit.clone()).chain(hashes.iter().map(of)).collect();
    let wanted: Vec<Option<String>> = git.hashes().into_iter().take(told.len()).map(Some).collect();
    world.assert(told == wanted, &format!("the commits are known, newest first: {told:?}, of {wanted:?}"));
}

/// The engine's writes after so many, since then; printed as docs/gitops.md has them in its table.
fn tell(mode: &Mode, when: &str, git: &Git<'_>, (before, since): (usize, Instant)) -> Vec<Write> {
    let writes = git.writes().split_off(before);
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for write in &writes {
        let (sent, changed) = counts.entry(&write.resource).or_default();
        *sent += 1;
        *changed += usize::from(write.changed);
    }
    let counts: Vec<String> =
        counts.iter().map(|(what, (sent, changed))| format!("{what} {sent} ({changed})")).collect();
    println!("| {} | {:?} | {when} | {} s | {} |", mode.name, git.engine, since.elapsed().as_secs(), counts.join(", "));
    writes
}

/// Waits until the engine says that the cluster is as Git has it.
pub async fn settled(world: &World, git: &Git<'_>) {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let (is_as_git, _, status) = git.state().await;
        if is_as_git {
            return;
        }
        world.assert(Instant::now() < deadline, &format!("the engine does not come to rest: {status}"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The engine looks again and again, and finds nothing to write; nor is the Rollout another one.
async fn at_rest(world: &World, git: &Git<'_>) {
    // The last answers of what has just ended are on their way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let generation = || world.monitor.rollout("checkout").and_then(|rollout| rollout.metadata.generation);
    let (before, generation_before) = (git.writes().len(), generation());
    let (_, mut looked, _) = git.state().await;
    let (began, mut looks) = (Instant::now(), 0);
    while began.elapsed() < REST || looks < LOOKS && began.elapsed() < REST_MOST {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (is_as_git, now, status) = git.state().await;
        looks += usize::from(now != looked);
        looked = now;
        world.assert(is_as_git, &format!("at rest the engine finds a difference: {status}"));
    }
    let written = git.writes().split_off(before);
    world.assert(looks >= LOOKS, &format!("the engine has looked {looks} times"));
    world.assert(written.is_empty(), &format!("at rest the engine writes nothing: {written:?}"));
    world.assert(generation() == generation_before, "the Rollout is as it was");
}

/// What an engine writes where nothing of the weights is in Git: three times the Rollout, and no route.
async fn leaves_alone(environment: Arc<Environment>, name: String, engine: Engine, mode: Mode) {
    let world = World::start(environment, &name).await;
    let git = Git::new(&world, engine, &mode.files());
    let writes = released(&world, &git, &mode, &Value::Null).await;
    let changes: Vec<&Write> = writes.iter().filter(|write| write.changed).collect();
    let is_rollout = |write: &&Write| write.resource == "rollouts";
    world.assert(changes.len() == 3 && changes.iter().all(is_rollout), &format!("three commits: {changes:?}"));
    world.assert(reverts(&world) == 0, "nobody has changed a weight");
    if mode.name == "owned" {
        pruned(&world, &git).await;
    }
    git.leave().await;
    world.end().await;
}

/// The Rollout leaves Git, and so the cluster, with its pods and the route that is Serin's.
async fn pruned(world: &World, git: &Git<'_>) {
    git.remove("rollout.yaml");
    world.until("the Rollout is gone", 120, || world.monitor.rollout("checkout").is_none().then_some(())).await;
    world.until("its ReplicaSets are gone", 120, || world.monitor.replica_sets().is_empty().then_some(())).await;
    let left = world.object("/apis/networking.istio.io/v1/namespaces/{ns}/virtualservices/checkout-serin").await;
    world.assert(left.is_none(), "its route is gone");
    let deadline = Instant::now() + Duration::from_mins(2);
    while world.object("/api/v1/namespaces/{ns}/pods").await.is_none_or(|pods| pods["items"] != json!([])) {
        world.assert(Instant::now() < deadline, "its pods are gone");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub fn reverts(world: &World) -> i32 {
    let rollout = world.monitor.rollout("checkout");
    rollout.and_then(|rollout| rollout.status.route).map_or(0, |route| route.contested)
}

/// Where Git holds the weights and the engine ignores them, it does not write them; at rest they are Git's.
async fn ignores(environment: Arc<Environment>, name: String, engine: Engine, mode: Mode) {
    let world = World::start(environment, &name).await;
    let mode = if engine == Engine::Flux { applied_once(mode) } else { mode };
    let git = Git::new(&world, engine, &mode.files());
    let writes = released(&world, &git, &mode, &ignored()).await;
    let changes: Vec<&Write> = writes.iter().filter(|write| write.changed).collect();
    let is_rollout = |write: &&Write| write.resource == "rollouts";
    world.assert(changes.len() == 3 && changes.iter().all(is_rollout), &format!("three commits: {changes:?}"));
    world.assert(!world.events().await.contains(&"RouteContested".to_owned()), "nobody has changed a weight");
    is_as_git(&world, &mode).await;
    git.leave().await;
    world.end().await;
}

/// What else Git changes of a route whose weights are ignored arrives, at rest and in the middle of a canary. There it comes
/// with Git's weights, which Serin corrects.
async fn edits(environment: Arc<Environment>, name: String, engine: Engine, mode: Mode) {
    let world = World::start(environment, &name).await;
    let mode = Mode { given: Given { steps: json!([{"setWeight": 40}, {"pause": {}}]), ..mode.given }, ..mode };
    let git = Git::new(&world, engine, &mode.files());
    git.follow(&ignored()).await;
    let (first, second) = (&mode.given, mode.given.image("checkout:2"));
    world.wait("the first deployment", 180, |rollout| is_healthy(rollout, &first.hash())).await;
    settled(&world, &git).await;
    edit(&git, &mode, "9s");
    arrives(&world, "9s").await;
    is_as_git(&world, &mode).await;
    git.image("checkout:2");
    world.reaches(40).await;
    edit(&git, &mode, "11s");
    arrives(&world, "11s").await;
    let corrected = || (world.monitor.weights("checkout") == [0, 40, 0, 40]).then_some(());
    world.until("Git's weights are corrected once", 60, corrected).await;
    world.wait("the pause", 120, |rollout| rollout.status.phase == Some(Phase::Paused)).await;
    world.act("promote", &second.hash(), Some(1)).await;
    world.wait("promoted", 120, |rollout| is_healthy(rollout, &second.hash())).await;
    settled(&world, &git).await;
    is_as_git(&world, &mode).await;
    git.leave().await;
    world.end().await;
}

/// With `RespectIgnoreDifferences=true` nothing that Git changes of a route arrives: why lint warns of it.
async fn keeps(environment: Arc<Environment>, name: String, engine: Engine, mode: Mode) {
    let world = World::start(environment, &name).await;
    let git = Git::new(&world, engine, &mode.files());
    let mut respected = ignored();
    respected["syncOptions"] = json!(["ApplyOutOfSyncOnly=true", "RespectIgnoreDifferences=true"]);
    git.follow(&respected).await;
    world.wait("the first deployment", 180, |rollout| is_healthy(rollout, &mode.given.hash())).await;
    settled(&world, &git).await;
    edit(&git, &mode, "9s");
    let (began, mut syncs) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        syncs += usize::from(!git.state().await.0);
    }
    world.assert(syncs >= 5, "the Application stays OutOfSync");
    world.assert(timeout(&world).await == json!("7s"), "the timeout has not arrived");
    git.leave().await;
    world.end().await;
}

/// Commits another timeout of the route.
fn edit(git: &Git<'_>, mode: &Mode, timeout: &str) {
    let (file, _) = mode.held.expect("a route in Git");
    let mut object = mode.files.iter().find(|(name, _)| *name == file).expect("the file").1.clone();
    *object.pointer_mut(TIMEOUT).expect("a timeout") = json!(timeout);
    git.write(file, &object);
    git.commit(timeout);
}

async fn timeout(world: &World) -> Value {
    world.object(ROUTES).await.expect("the route").pointer(TIMEOUT).cloned().unwrap_or_default()
}

async fn arrives(world: &World, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while timeout(world).await != json!(wanted) {
        world.assert(Instant::now() < deadline, "what Git changes of a route arrives");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// At rest the weights are those that Git has.
async fn is_as_git(world: &World, mode: &Mode) {
    let (file, path) = mode.held.expect("a route in Git");
    let wanted = &mode.files.iter().find(|(name, _)| *name == file).expect("the file").1;
    let now = world.object(path).await.expect("the route");
    let weights = |object: &Value| {
        let routes = object["spec"]["http"].as_array().or(object["spec"]["rules"].as_array()).expect("routes").clone();
        let destinations = |route: &Value| route["route"].as_array().or(route["backendRefs"].as_array()).cloned();
        // A lone destination without a weight has 1 or none.
        let several = routes.iter().filter_map(destinations).filter(|all| all.len() > 1);
        several.flatten().map(|one| one["weight"].clone()).collect::<Vec<_>>()
    };
    world.assert(weights(&now) == weights(wanted), &format!("the weights are Git's: {}", now["spec"]));
}

/// Where nobody tells the engine, it takes the weights back: it is named, with what ends it, and a revert of the commit still
/// heals.
async fn contests(environment: Arc<Environment>, name: String, engine: Engine, mode: Mode) {
    let world = World::start(environment, &name).await;
    let git = Git::new(&world, engine, &mode.files());
    git.follow(&Value::Null).await;
    let first = &mode.given;
    world.wait("the first deployment", 180, |rollout| is_healthy(rollout, &first.hash())).await;
    settled(&world, &git).await;
    let (began, before) = (Instant::now(), git.writes().len());
    git.image("checkout:2");
    let told = |rollout: &Rollout| {
        let mut conditions = rollout.status.conditions.iter();
        let names = |message: &str| message.starts_with(engine.manager()) && message.contains(engine.setting());
        conditions.any(|one| one.kind == "RouteContested" && names(&one.message))
    };
    world.wait("the writer is named", 180, told).await;
    git.revert();
    world.wait("Git's stable is Healthy", 180, |rollout| is_healthy(rollout, &first.hash())).await;
    tell(&mode, "in flight", &git, (before, began));
    settled(&world, &git).await;
    is_as_git(&world, &mode).await;
    let (began, before) = (Instant::now(), git.writes().len());
    tokio::time::sleep(Duration::from_secs(10)).await;
    tell(&mode, "at rest", &git, (before, began));
    git.leave().await;
    world.end().await;
}

macro_rules! stories {
    ($($name:ident: $tell:ident, $engine:ident, $mode:ident;)*) => {
        $(pub async fn $name(environment: Arc<Environment>, name: String) {
            $tell(environment, name, Engine::$engine, $mode()).await;
        })*
    };
}

stories! {
    flux_owned: leaves_alone, Flux, owned;
    argo_owned: leaves_alone, Argo, owned;
    argo_owned_server_side: leaves_alone, ArgoServerSide, owned;
    flux_delegate: leaves_alone, Flux, delegate;
    argo_delegate: leaves_alone, Argo, delegate;
    flux_in_place: contests, Flux, in_place;
    argo_in_place: contests, Argo, in_place;
    flux_hosts: contests, Flux, hosts;
    argo_hosts_server_side: contests, ArgoServerSide, hosts;
    argo_delegate_server_side: leaves_alone, ArgoServerSide, delegate;
    argo_in_place_ignored: ignores, Argo, in_place;
    argo_in_place_ignored_server_side: ignores, ArgoServerSide, in_place;
    argo_hosts_ignored: ignores, Argo, hosts;
    argo_hosts_ignored_server_side: ignores, ArgoServerSide, hosts;
    argo_http_route_ignored: ignores, Argo, http_route;
    flux_in_place_applied_once: ignores, Flux, in_place;
    flux_http_route_applied_once: ignores, Flux, http_route;
    argo_route_edited: edits, Argo, in_place;
    argo_route_edited_server_side: edits, ArgoServerSide, in_place;
    argo_route_kept: keeps, Argo, in_place;
}
