//! The requests of the last hour: what `lint` and `simulate` reckon with.

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::judge;
use super::plan::Plan;
use super::source::Source;
use crate::cli::clock;
use crate::cli::cluster::Connection;
use crate::embedded::store::key_of;
use crate::lint::{Expected, Measured};
use crate::sim::input;

/// How much of the past.
const LATELY: SignedDuration = SignedDuration::from_hours(1);
/// The last scrapes may not be stored yet.
const LAG: i64 = 60;

/// The requests that the metrics of each Rollout have counted of late, and why some are unknown.
pub(in crate::cli) async fn present(
    texts: &[(String, String)],
    namespace: &str,
    (address, connection): (&str, &Connection),
) -> anyhow::Result<(Vec<Measured>, Vec<String>)> {
    let source = Source::new(address, connection, None).await?;
    let input = input::read_any(texts, namespace)?;
    let second = clock::now().as_second() - LAG;
    let until = Timestamp::from_second(second - second.rem_euclid(60))?;
    let (mut measured, mut unknown) = (Vec::new(), Vec::new());
    for rollout in &input.rollouts {
        let told = of_rollout(&source, &input, rollout, until).await;
        match told.with_context(|| format!("the present traffic of {} is unknown", key_of(rollout).1)) {
            Ok(of_rollout) => measured.extend(of_rollout),
            Err(error) => unknown.push(format!("{error:#}")),
        }
    }
    Ok((measured, unknown))
}

async fn of_rollout(
    source: &Source,
    input: &input::Input,
    rollout: &Value,
    until: Timestamp,
) -> anyhow::Result<Vec<Measured>> {
    let (namespace, name) = key_of(rollout);
    let plan = Plan::of(input, Some(rollout), &namespace, None)?;
    let mut measured = Vec::new();
    for metric in plan.metrics.iter().filter(|metric| metric.counted().is_some()) {
        let (requests, bad) = judge::sum(source, &plan, metric, (until.checked_sub(LATELY)?, until)).await?;
        // None in an hour is no promise: it is taken as half of one.
        let bad = if requests > 0.0 { bad.max(0.5).min(requests) / requests } else { 0.0 };
        measured.push(Measured {
            rollout: (namespace.clone(), name.clone()),
            metric: (metric.template.clone(), metric.name.clone()),
            expected: Expected { requests: requests / LATELY.as_secs_f64(), bad },
        });
    }
    Ok(measured)
}
