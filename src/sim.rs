//! Whole rollouts in virtual time: the real controller, client, watches and all, against the embedded Kubernetes API, with
//! faults drawn from a seed. The same [`story::Story`] gives the same run, byte by byte (docs/decisions/0005).

pub mod draw;
pub mod kubelet;
pub mod mesh;
pub mod model;
pub mod network;
pub mod prometheus;
pub mod record;
pub mod stage;
pub mod story;
pub mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use self::mesh::Traffic;
use self::model::Broken;
use self::record::Record;
use self::stage::Stage;
use self::story::Story;
use self::verdict::End;

/// What a run tells.
pub struct Report {
    /// How the Rollout ended.
    pub end: End,
    /// What must not be and was; nothing, or there is a bug.
    pub broken: Vec<Broken>,
    /// What happened.
    pub record: Record,
    /// What became of the requests.
    pub traffic: Traffic,
    /// Faults that were injected, and how often.
    pub injected: BTreeMap<String, u64>,
    /// Requests of the controllers, watches left out.
    pub requests: u64,
    /// How long it took, in virtual time.
    pub took: Duration,
}

/// Runs a story on a thread of its own, so that nothing of one run reaches another.
pub fn run(story: &Story) -> anyhow::Result<Report> {
    let story = story.clone();
    let runs = std::thread::Builder::new().name("simulation".into()).spawn(move || run_here(&story))?;
    runs.join().map_err(|_| anyhow::anyhow!("the simulation panicked"))?
}

fn run_here(story: &Story) -> anyhow::Result<Report> {
    // The one source of chance in production code: the jitter of the watches' back-off.
    fastrand::seed(story.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let (left, end) = runtime.block_on(async {
        let mut left = Stage::new(story).play().await;
        let end = verdict::judge(story, &mut left);
        (left, end)
    });
    Ok(Report {
        end,
        broken: left.model.broken,
        record: left.record,
        traffic: left.mesh.traffic,
        injected: left.injected,
        requests: left.requests,
        took: left.took,
    })
}
