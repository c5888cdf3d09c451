//! `kubectl serin backtest`: what the metrics of a template would have done to hypothetical canaries of past weeks.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};

use super::cluster::Connection;
use super::outcome::Outcome;
use super::screen::{Look, print_json};
use super::{clock, plugin};

mod canary;
mod judge;
mod plan;
mod plot;
mod present;
mod report;
mod show;
mod source;
mod value;

use crate::plan::weigh;
use judge::Past;
use plan::Plan;
pub(super) use present::present;
use report::Report;
use source::Source;

/// Requests at the server at once.
const AT_ONCE: usize = 2;
/// Releases that are tried at most.
const MOST: u32 = 5000;

/// What to try, and on which past.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// Manifests with AnalysisTemplates, and with the Rollout that names them; or `-` for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, add = super::completion::manifests())]
    files: Vec<String>,
    /// Name of the Rollout: which one of the input, or whose requests count where the input has none.
    #[arg(long)]
    rollout: Option<String>,
    /// Prometheus' address, from here; one such as `http://prometheus.monitoring:9090` is asked by the API server's proxy.
    #[arg(long, value_name = "URL")]
    prometheus_url: String,
    /// How much of the past.
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = days)]
    since: SignedDuration,
    /// Until when; absent: now, or with --cache when its first run began.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Releases that are tried, at moments spread over that time.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    at: u32,
    /// Seeds the moments and the chance.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keeps the answers in this directory, so that an interrupted run goes on.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Writes a picture of it to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// How the outcome is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table.
    Table,
    /// A table, and the other thresholds that were tried.
    Wide,
    /// Everything, for programs.
    Json,
}

const AFTER: &str = "\
Examples:
  kubectl serin backtest -f rollout.yaml -f analysis.yaml --prometheus-url http://prometheus.monitoring:9090
  kubectl serin backtest -f analysis.yaml --rollout checkout --since 28d --at 500 --cache answers --plot checkout.svg \\
      --prometheus-url http://127.0.0.1:9090

Exit codes: 0 done, 1 error, 2 good releases would have been aborted more often than promised, 5 no requests found";

/// A duration that may be in days or weeks.
fn days(text: &str) -> Result<SignedDuration, String> {
    let whole = |unit: &str| text.strip_suffix(unit)?.parse::<i32>().ok();
    let hours =
        whole("w").and_then(|weeks| weeks.checked_mul(24 * 7)).or(whole("d").and_then(|days| days.checked_mul(24)));
    let duration = match hours {
        Some(hours) => SignedDuration::from_hours(i64::from(hours)),
        None => crate::api::duration::DurationText::Text(text.to_owned()).parse()?,
    };
    if duration < SignedDuration::from_hours(1) {
        return Err(format!("{text} is shorter than an hour; write 14d"));
    }
    Ok(duration)
}

/// Runs it; the exit code tells whether good releases would have been left alone.
pub fn run(arguments: &Arguments, connection: &Connection, look: Look) -> anyhow::Result<Outcome> {
    let plan = Plan::read(&arguments.files, connection.namespace.as_deref(), arguments.rollout.as_deref())?;
    let runtime = plugin::runtime()?;
    let report = runtime.block_on(report(arguments, connection, &plan))?;
    match arguments.output {
        Output::Table => look.print_whole(&show::lines(&report, show::Detail::Usual))?,
        Output::Wide => look.print_whole(&show::lines(&report, show::Detail::Wide))?,
        Output::Json => print_json(&report)?,
    }
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::svg(&report)).with_context(|| format!("write {}", path.display()))?;
    }
    if report.metrics.iter().all(|metric| metric.releases == 0) {
        return Ok(Outcome::NotFound);
    }
    Ok(if report.breaks_promise() { Outcome::Aborted } else { Outcome::Reached })
}

async fn report(arguments: &Arguments, connection: &Connection, plan: &Plan) -> anyhow::Result<Report> {
    let source = Source::new(&arguments.prometheus_url, connection, arguments.cache.clone()).await?;
    let until = source.until(arguments.until.unwrap_or_else(clock::now))?;
    let begins = begins(plan, arguments, until)?;
    let mut report = Report::new(plan, arguments.since, until, begins.len());
    let mut progress = Progress::new(plan.metrics.len() * begins.len());
    for metric in &plan.metrics {
        let asked = begins.iter().map(|begin| judge::past(&source, plan, metric, *begin));
        let mut asked = futures::stream::iter(asked).buffered(AT_ONCE);
        let mut pasts: Vec<Past> = Vec::new();
        while let Some(past) = asked.next().await {
            pasts.push(past.with_context(|| told(arguments, &progress))?);
            progress.step()?;
        }
        report.metrics.push(judge::judged(plan, metric, &pasts, arguments.seed));
    }
    Ok(report)
}

/// What an interrupted run leaves.
fn told(arguments: &Arguments, progress: &Progress) -> String {
    let kept = if arguments.cache.is_some() { "run it again to go on" } else { "--cache keeps the answers of a run" };
    format!("ask Prometheus, {} of {} done ({kept})", progress.done, progress.all)
}

/// When the releases begin: spread over the time, each by chance within its part of it.
fn begins(plan: &Plan, arguments: &Arguments, until: Timestamp) -> anyhow::Result<Vec<Timestamp>> {
    let free = arguments.since - plan.lasts() - weigh::PAST;
    if free <= SignedDuration::ZERO {
        bail!(
            "--since {:#} is shorter than a release of {:#} and the half hour before it",
            arguments.since,
            plan.lasts()
        );
    }
    let first = until.checked_sub(arguments.since)?.checked_add(weigh::PAST)?;
    let mut chance = fastrand::Rng::with_seed(arguments.seed);
    let part = free.as_secs_f64() / f64::from(arguments.at);
    let moment = |at: u32| {
        let offset = SignedDuration::try_from_secs_f64((f64::from(at) + chance.f64()) * part)?;
        // Whole minutes are multiples of the usual steps.
        let second = first.checked_add(offset)?.as_second();
        Ok(Timestamp::from_second(second - second.rem_euclid(60))?)
    };
    (0..arguments.at).map(moment).collect()
}

/// How far it is, beside the output.
struct Progress {
    done: usize,
    all: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { done: 0, all }
    }

    /// One more is done: a bar on a terminal, else a line each tenth.
    fn step(&mut self) -> anyhow::Result<()> {
        const CELLS: usize = 30;
        self.done += 1;
        let (done, all) = (self.done, self.all.max(1));
        let mut err = stderr();
        if err.is_terminal() {
            let full = CELLS * done / all;
            let end = if done == all { "\n" } else { "" };
            write!(err, "\r[{}{}] {done} of {all}{end}", "#".repeat(full), "-".repeat(CELLS - full))?;
            err.flush()?;
        } else if done * 10 / all > (done - 1) * 10 / all {
            writeln!(err, "{done} of {all}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_told_in_days() {
        assert_eq!(days("14d"), Ok(SignedDuration::from_hours(14 * 24)));
        assert_eq!(days("2w"), days("14d"));
        assert_eq!(days("90m"), Ok(SignedDuration::from_mins(90)));
        for wrong in ["", "d", "5s", "-3d", "14 days", "99999999w"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }
}
