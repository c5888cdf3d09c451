//! Whole rollouts in virtual time: the real controller, client, watches and all, against the embedded Kubernetes API, with
//! faults drawn from a seed. The same [`story::Story`] gives the same run, byte by byte (docs/decisions/0005).

pub mod counters;
pub mod draw;
pub mod gateway;
pub mod input;
pub mod istiod;
pub mod jobs;
pub mod kubelet;
pub mod mesh;
pub mod model;
pub mod network;
pub mod prometheus;
pub mod record;
pub mod scenario;
pub mod show;
pub mod shrink;
pub mod stage;
pub mod story;
pub mod verdict;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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
    /// Jobs that there were.
    pub jobs: usize,
    /// Requests of the controllers, watches left out.
    pub requests: u64,
    /// How long it took, in virtual time.
    pub took: Duration,
}

/// Tells how long something takes, in real time.
pub fn stopwatch() -> std::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "the time that a soak took is told to people")]
    std::time::Instant::now()
}

/// Runs a story a seed on as many threads as there are processors; the reports come in any order.
pub fn run_each(
    seeds: Range<u64>,
    story: impl Fn(u64) -> Story + Sync,
    tell: impl Fn(&Story, Report) + Sync,
) -> anyhow::Result<()> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<anyhow::Error>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let story = story(seed);
                    match run(&story) {
                        Ok(report) => tell(&story, report),
                        Err(error) => {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) =
                                Some(error.context(format!("seed {seed}")));
                            return;
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
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
        jobs: left.jobs.count(),
        requests: left.requests,
        took: left.took,
    })
}
