//! The end-to-end stories: the release binary, under the shipped RBAC, against a real API server and a real Prometheus.
//!
//! `e2e/run` starts what they need. Names on the command line choose stories; `--repeat N` runs each N times.
#![expect(unreachable_pub, reason = "a test binary has no outside")]
#![expect(clippy::print_stdout, reason = "the runner reports on standard output")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing story may panic"
)]
#![expect(clippy::disallowed_methods, reason = "stories measure real time and read the environment")]

mod stories;
mod support;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use futures::{FutureExt, StreamExt};
use support::Environment;

/// Stories at once: they wait more than they work.
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() -> ExitCode {
    serin::controller::use_ring();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let repeat = arguments
        .iter()
        .position(|argument| argument == "--repeat")
        .map_or(1, |at| arguments[at + 1].parse().expect("a number after --repeat"));
    let wanted: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--") && argument.parse::<u32>().is_err()).collect();
    let environment = Environment::prepare().await;
    let choose = |all: Vec<(&'static str, stories::Story)>| -> Vec<(&'static str, stories::Story)> {
        let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(*wanted));
        all.into_iter().filter(|(name, _)| is_wanted(name)).collect()
    };
    let has_engines = std::env::var("E2E_WRITES").is_ok();
    let beside_engines = if has_engines { choose(stories::beside_engines()) } else { Vec::new() };
    let (together, alone) = (choose(stories::all()), choose(stories::alone()));
    let mut long = stories::long();
    long.retain(|(name, _)| has_engines && wanted.iter().any(|wanted| wanted == name));
    let together = [together, beside_engines, long].concat();
    println!("running {} stories, each {repeat} times", together.len() + alone.len());
    let mut results = tell(&environment, &together, repeat, AT_ONCE).await;
    results.extend(tell(&environment, &alone, repeat, 1).await);
    let passed = results.iter().filter(|passed| **passed).count();
    println!("\n{passed} passed, {} failed", results.len() - passed);
    // A few stories need few rights.
    let unused = if wanted.is_empty() { support::audit::unused() } else { Vec::new() };
    for right in &unused {
        println!("no story needs the right to {right}");
    }
    if passed == results.len() && passed > 0 && unused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells stories, so many at once; whether each went well.
async fn tell(
    environment: &Arc<Environment>,
    stories: &[(&'static str, stories::Story)],
    repeat: usize,
    at_once: usize,
) -> Vec<bool> {
    let runs: Vec<_> = (0..repeat).flat_map(|_| stories.iter().copied()).collect();
    futures::stream::iter(runs.into_iter().enumerate())
        .map(|(number, (name, story))| {
            let environment = environment.clone();
            async move {
                let began = Instant::now();
                let result = AssertUnwindSafe(story(environment, format!("{name}-{number}"))).catch_unwind().await;
                println!(
                    "story {name} ... {} ({:.1} s)",
                    if result.is_ok() { "ok" } else { "FAILED" },
                    began.elapsed().as_secs_f64()
                );
                result.is_ok()
            }
        })
        .buffer_unordered(at_once)
        .collect()
        .await
}
