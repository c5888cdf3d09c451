//! Benchmarks on a real API server: counts, ratios and times. Nothing is asserted; docs/benchmarks.md has the method.
#![expect(unreachable_pub, reason = "a test binary has no outside")]
#![expect(clippy::print_stdout, reason = "the benchmarks report on standard output")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot run may panic, and its numbers are small"
)]
#![expect(clippy::disallowed_methods, reason = "benchmarks measure real time and read the environment")]

#[path = "measure/bed.rs"]
mod bed;
#[path = "measure/canary.rs"]
mod canary;
#[path = "measure/churn.rs"]
mod churn;
#[path = "measure/fleet.rs"]
mod fleet;
#[path = "measure/many.rs"]
mod many;
#[path = "support/shipped.rs"]
mod shipped;

use bed::Bed;

#[tokio::main]
async fn main() {
    serin::controller::use_ring();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let bed = Bed::prepare().await;
    println!("binary {:.1} MB, idle {:.1} MiB resident", bed.binary_mb(), bed.idle_mib().await);
    if is_wanted("canary") {
        canary::canary(&bed).await;
    }
    if is_wanted("slow-pods") {
        canary::slow_pods(&bed).await;
    }
    if is_wanted("abort") {
        canary::abort(&bed).await;
    }
    if is_wanted("thousand") || is_wanted("crowd") {
        fleet::thousand(&bed, is_wanted("crowd")).await;
    }
    if is_wanted("real-size") {
        fleet::real_size(&bed).await;
    }
    // They take long: told only where they are named.
    if wanted.iter().any(|wanted| wanted == "many") {
        many::many(&bed).await;
    }
    if wanted.iter().any(|wanted| wanted == "churn") {
        churn::churn(&bed).await;
    }
}
