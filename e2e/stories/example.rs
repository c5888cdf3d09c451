//! The examples of `examples/gitops`: what their pages tell is done with the real engines, and compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gitops::{reverts, settled};
use crate::support::example::Place;
use crate::support::gitops::{Engine, Git};
use crate::support::{Environment, Example, Inboxes, World};

/// How long nothing may be written at the end.
const REST: Duration = Duration::from_secs(5);

/// GitLab's jobs set images in overlays, and Argo CD applies those.
pub async fn gitlab_argo(environment: Arc<Environment>, name: String) {
    let dev = World::start(environment.clone(), &format!("{name}-dev")).await;
    let prod = World::start(environment, &format!("{name}-prod")).await;
    let places: [Place<'_>; 2] = [("dev", &dev), ("prod", &prod)];
    let example = Example::new("gitlab-argo", "main", &places, None);
    for heading in ["First deployment", "A good image, approved in Git", "A bad image", "Back"] {
        example.tell(heading).await;
    }
    has_weights(&prod, &[0, 20, 50, 0, 20, 0]);
    for (_, world) in places {
        is_at_peace(world, &Git::at(world, Engine::Argo, example.server(), "main")).await;
    }
    drop(example);
    dev.end().await;
    prod.end().await;
}

/// Flux applies what a job has stamped, and Prometheus judges.
pub async fn flux(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let example = Example::new("flux", "main", &[("prod", &world)], None);
    for heading in ["First deployment", "A good image, approved in Git", "A bad image", "Back"] {
        example.tell(heading).await;
    }
    has_weights(&world, &[0, 25, 50, 0, 25, 0]);
    is_at_peace(&world, &Git::at(&world, Engine::Flux, example.server(), "deployed")).await;
    world.end().await;
}

/// A platform's merges publish, and take back; Argo CD applies.
pub async fn merge_to_publish(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let example = Example::new("merge-to-publish", "master", &[("prod", &world)], None);
    for heading in ["First deployment", "Publish, and approve", "A bad image", "Further back"] {
        example.tell(heading).await;
    }
    let weights = world.monitor.weights("checkout");
    let is_so =
        weights.starts_with(&[0, 25, 50, 0, 25, 0]) && weights[6..].iter().all(|weight| [0, 100].contains(weight));
    world.assert(is_so, &format!("weights were {weights:?}"));
    is_at_peace(&world, &Git::at(&world, Engine::Argo, example.server(), "master")).await;
    world.end().await;
}

/// From ring to ring by merges, of which the last waits for the outcome in another cluster. People and tools are told
/// where the owner of a namespace permits it.
pub async fn rings(environment: Arc<Environment>, name: String) {
    let inboxes = Inboxes::open(environment.dir.join(format!("{name}.inbox/messages"))).await;
    let arguments = inboxes.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let other = environment.other().await;
    let preview = World::start(environment.clone(), &format!("{name}-preview")).await;
    let pre_release = World::start_with(environment, &format!("{name}-pre-release"), &arguments).await;
    let production = World::start_with(other, &format!("{name}-production"), &arguments).await;
    let places = [("preview", &preview), ("pre-release", &pre_release), ("production", &production)];
    let example = Example::new("rings", "main", &places, Some(&inboxes));
    example.tell("First deployment").await;
    production.assert(inboxes.mention(&pre_release.namespace), "who may read its Secret has told something");
    production.assert(!inboxes.mention(&production.namespace), "who may not has told nothing");
    for heading in ["Who is told", "From ring to ring"] {
        example.tell(heading).await;
    }
    let git = |world, branch| Git::at(world, Engine::Argo, example.server(), branch).told_in(&preview);
    let in_production = git(&production, "production");
    settled(&production, &in_production).await;
    let (merges, writes) = (in_production.commits(), in_production.writes().len());
    example.tell("Aborted in pre-release").await;
    production.assert(in_production.commits() == merges, "production is not merged");
    production.assert(in_production.writes().len() == writes, "nothing was applied to production");
    example.tell("Back").await;
    has_weights(&pre_release, &[0, 25, 0, 25, 0]);
    has_weights(&production, &[0, 25, 50, 0]);
    for (world, branch) in [(&production, "production"), (&pre_release, "pre-release"), (&preview, "main")] {
        is_at_peace(world, &git(world, branch)).await;
    }
    for world in [production, pre_release, preview] {
        world.end().await;
    }
}

fn has_weights(world: &World, wanted: &[i32]) {
    let weights = world.monitor.weights("checkout");
    world.assert(weights == wanted, &format!("weights were {weights:?}"));
}

/// The engine and Serin have not fought: nobody has taken a weight back, the engine has written no object more often than Git
/// has commits, only objects that Git has, and nothing once all is as Git has it.
async fn is_at_peace(world: &World, git: &Git<'_>) {
    settled(world, git).await;
    world.assert(reverts(world) == 0, "nobody has changed a weight");
    world.assert(!world.events().await.contains(&"RouteContested".to_owned()), "no route is contested");
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let writes = git.writes();
    for write in writes.iter().filter(|write| write.changed) {
        *counts.entry((write.resource.clone(), write.name.clone())).or_default() += 1;
    }
    let commits = git.commits();
    let kinds = ["rollouts", "services", "analysistemplates", "notificationchannels"];
    let is_in_git = |resource: &str| kinds.contains(&resource);
    for ((resource, name), count) in &counts {
        let is_so = is_in_git(resource) && *count <= commits;
        world.assert(is_so, &format!("{commits} commits, and {count} writes of {resource} {name}"));
    }
    world.assert(counts.keys().any(|(resource, _)| resource == "rollouts"), "the engine has written the Rollout");
    let (before, began) = (git.writes().len(), Instant::now());
    while began.elapsed() < REST {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let written = git.writes().split_off(before);
    world.assert(written.is_empty(), &format!("at rest the engine writes nothing: {written:?}"));
    git.leave().await;
}
