//! Canaries for a quarter of an hour beside engines that apply Git every second: who has written what, as a table. Nothing is
//! asserted of a mode in place but that it is promoted; it is told by its name alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::gitops::{Mode, applied_once, delegate, ignored, in_place, owned, settled};
use crate::support::gitops::{Engine, Git};
use crate::support::world::is_healthy;
use crate::support::{Environment, World};

/// Minutes, unless this variable says another number.
const MINUTES: &str = "E2E_SOAK_MINUTES";
const MINUTES_ABSENT: u64 = 15;

/// One mode beside one engine.
struct Lane {
    mode: Mode,
    engine: Engine,
    /// What the engine is told to leave alone; null for nothing.
    rules: Value,
}

fn lanes() -> Vec<Lane> {
    let mut lanes = Vec::new();
    for engine in [Engine::Flux, Engine::Argo] {
        lanes.push(Lane { mode: owned(), engine, rules: Value::Null });
        lanes.push(Lane { mode: delegate(), engine, rules: Value::Null });
        let mode = if engine == Engine::Flux { applied_once(in_place()) } else { in_place() };
        lanes.push(Lane { mode, engine, rules: ignored() });
    }
    lanes
}

/// All modes and engines at once.
pub async fn soak(environment: Arc<Environment>, name: String) {
    let minutes = std::env::var(MINUTES).ok().and_then(|given| given.parse().ok()).unwrap_or(MINUTES_ABSENT);
    let told = lanes().into_iter().enumerate().map(|(number, lane)| {
        let (environment, name) = (environment.clone(), format!("{name}-{number}"));
        async move { released(environment, &name, &lane, Duration::from_secs(minutes * 60)).await }
    });
    let rows = futures::future::join_all(told).await;
    println!(
        "| mode | engine | canaries, each a commit | writes of the engine (those that changed the object) | contested |"
    );
    println!("|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
}

/// Releases images one after the other, and tells what was written meanwhile as a row of the table.
async fn released(environment: Arc<Environment>, name: &str, lane: &Lane, time: Duration) -> String {
    let world = World::start(environment, name).await;
    let git = Git::new(&world, lane.engine, &lane.mode.files());
    git.follow(&lane.rules).await;
    let first = lane.mode.given.clone();
    world.wait("the first deployment", 120, |rollout| is_healthy(rollout, &first.hash())).await;
    settled(&world, &git).await;
    let (began, before) = (Instant::now(), git.writes().len());
    let (mut canaries, mut contested) = (0, 0);
    while began.elapsed() < time {
        let image: &'static str = format!("checkout:{}", canaries + 2).leak();
        git.image(image);
        let next = first.image(image);
        world.wait("the canary is promoted", 180, |rollout| is_healthy(rollout, &next.hash())).await;
        canaries += 1;
        let is_contested = world
            .monitor
            .rollout("checkout")
            .is_some_and(|rollout| rollout.status.route.is_some_and(|route| route.contested > 0));
        contested += usize::from(is_contested);
    }
    settled(&world, &git).await;
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for write in git.writes().split_off(before) {
        contested += usize::from(write.changed && write.resource != "rollouts");
        let (sent, changed) = counts.entry(write.resource).or_default();
        *sent += 1;
        *changed += usize::from(write.changed);
    }
    let counts: Vec<String> =
        counts.iter().map(|(what, (sent, changed))| format!("{what} {sent} ({changed})")).collect();
    git.leave().await;
    let row = format!("| {} | {:?} | {canaries} | {} | {contested} |", lane.mode.name, lane.engine, counts.join(", "));
    world.assert(contested == 0 || lane.mode.held.is_some(), &row);
    world.end().await;
    row
}
