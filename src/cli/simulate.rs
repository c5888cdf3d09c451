//! `serin simulate`: what a release will do, in virtual time, before it is merged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::cluster::Connection;
use super::files;
use super::lint::Traffic;
use super::screen::print_json;
use super::view::Glyphs;
use crate::lint::{self, Source, rule};
use crate::sim::input::{self, Input};
use crate::sim::scenario::{self, BUILT_IN, Scenario};
use crate::sim::show::{Summary, svg, text};
use crate::sim::story::Story;
use crate::sim::verdict::Outcome;
use crate::sim::{self, Report, draw};

/// The namespace of manifests that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Seeds that are told one by one when they end otherwise than without faults.
const TOLD: usize = 10;

/// What to simulate, and how to show it.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub struct Arguments {
    /// A file of manifests, or `-` for standard input, such as the output of `kustomize build`; without any, stories are drawn from the seed.
    #[arg(short = 'f', long = "filename", value_name = "FILE", add = super::completion::manifests())]
    files: Vec<String>,
    /// A scenario that is built in, or a file of one.
    #[arg(long, default_value = "good", add = super::completion::scenarios())]
    scenario: String,
    /// Only the Rollout of this name.
    #[arg(long)]
    rollout: Option<String>,
    /// Seeds the order of what happens at the same moment.
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Runs so many times, each with other faults between the controller and the API server.
    #[arg(long)]
    seeds: Option<u64>,
    #[command(flatten)]
    traffic: Traffic,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// How a simulation is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A timeline.
    Text,
    /// Everything, for programs.
    Json,
    /// A table, for a merge request.
    Markdown,
    /// A picture of weights, pods and measurements.
    Svg,
}

fn help() -> String {
    let scenarios: Vec<String> = BUILT_IN.iter().map(|(name, what)| format!("  {name:<16} {what}")).collect();
    format!(
        "Scenarios:\n{}\n\nExit codes: 0 promoted, 1 error, 2 aborted, 3 waits for a person, 4 stuck",
        scenarios.join("\n")
    )
}

/// Simulates, drawn with some characters; the exit code tells how it ended.
pub fn run(arguments: &Arguments, connection: &Connection, glyphs: &Glyphs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let texts = files::texts(&arguments.files)?;
    let stories = stories(arguments, &texts)?;
    if let Some(seeds) = arguments.seeds {
        let (told, code) = soak(&stories, arguments, seeds)?;
        write!(out, "{told}")?;
        return Ok(code);
    }
    let mut summaries = Vec::new();
    for story in &stories {
        summaries.push(Summary::of(story, scenario_name(arguments), &sim::run(story)?));
    }
    match arguments.output {
        Output::Text => {
            let told: Vec<String> = summaries.iter().map(text::text).collect();
            write!(out, "{}", glyphs.drawn(&told.join("\n")))?;
            sights(arguments, texts, connection)?.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
        Output::Markdown => {
            let told: Vec<String> = summaries.iter().map(text::markdown).collect();
            write!(out, "{}", glyphs.drawn(&told.join("\n")))?;
            sights(arguments, texts, connection)?.iter().try_for_each(|line| writeln!(out, "- {line}"))?;
        }
        Output::Json => print_json(&summaries)?,
        Output::Svg => match summaries.as_slice() {
            [summary] => write!(out, "{}", svg::svg(summary))?,
            _ => bail!("a picture shows one Rollout, and the input has {}; name it with --rollout", summaries.len()),
        },
    }
    if summaries.iter().any(|summary| !summary.broken.is_empty()) {
        return Ok(ExitCode::from(1));
    }
    Ok(worst(summaries.iter().map(|summary| summary.outcome)))
}

/// The smallest regression that each step can see at the traffic that is said to come.
fn sights(arguments: &Arguments, texts: Vec<(String, String)>, connection: &Connection) -> anyhow::Result<Vec<String>> {
    if !arguments.traffic.is_known() {
        return Ok(Vec::new());
    }
    let mut settings = lint::Settings { namespace: DEFAULT_NAMESPACE.to_owned(), ..lint::Settings::default() };
    let sources: Vec<Source> =
        texts.into_iter().map(|(name, text)| Source { name, bytes: Ok(text.into_bytes()) }).collect();
    arguments.traffic.put(&mut settings, &sources, connection)?;
    let findings = lint::lint(&sources, &settings).findings.into_iter();
    Ok(findings.filter(|one| one.rule == &rule::SMALLEST_REGRESSION).map(|one| one.message).collect())
}

fn scenario_name(arguments: &Arguments) -> &str {
    if arguments.files.is_empty() { "drawn from the seed" } else { &arguments.scenario }
}

/// The exit code of several ends: that of the worst.
fn worst(outcomes: impl Iterator<Item = Outcome>) -> ExitCode {
    let code = |outcome| match outcome {
        Outcome::Promoted => 0,
        Outcome::Aborted | Outcome::Deleted => 2,
        Outcome::Waiting => 3,
        Outcome::Stuck => 4,
    };
    ExitCode::from(outcomes.map(code).max().unwrap_or(0))
}

/// A story a Rollout of the input; one drawn from the seed where there is none.
fn stories(arguments: &Arguments, texts: &[(String, String)]) -> anyhow::Result<Vec<Story>> {
    if arguments.files.is_empty() {
        return Ok(vec![draw::story(arguments.seed)]);
    }
    let scenario = read_scenario(&arguments.scenario)?;
    let mut input: Input = input::read(texts, DEFAULT_NAMESPACE)?;
    let mut stories = Vec::new();
    for at in 0..input.rollouts.len() {
        let name = input.rollouts.get(at).and_then(|rollout| rollout.pointer("/metadata/name")).cloned();
        if arguments.rollout.as_ref().is_none_or(|wanted| name.is_some_and(|name| name == *wanted)) {
            stories.push(input.story(at, &scenario, arguments.seed)?);
        }
    }
    for note in &input.notes {
        writeln!(std::io::stderr(), "note: {note}")?;
    }
    if stories.is_empty() {
        bail!("the input has no Rollout {}", arguments.rollout.as_deref().unwrap_or_default());
    }
    Ok(stories)
}

fn read_scenario(name: &str) -> anyhow::Result<Scenario> {
    if let Some(scenario) = scenario::built_in(name) {
        return scenario;
    }
    let text = std::fs::read_to_string(name).with_context(|| {
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        format!("read the scenario {name}; built in are {}", names.join(", "))
    })?;
    scenario::read(&text).with_context(|| format!("read the scenario {name}"))
}

/// What many runs have in common.
#[derive(Default)]
struct Tally {
    done: u64,
    requests: u64,
    seconds: f64,
    lost: f64,
    outcomes: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    broken: BTreeMap<u64, Vec<String>>,
    otherwise: BTreeMap<u64, String>,
}

/// Runs many seeds; what they have in common, as text, and the exit code.
fn soak(stories: &[Story], arguments: &Arguments, seeds: u64) -> anyhow::Result<(String, ExitCode)> {
    let mut told = String::new();
    let mut outcomes = Vec::new();
    let mut is_broken = false;
    for story in stories {
        let is_drawn = arguments.files.is_empty();
        let expected = if is_drawn { None } else { Some(sim::run(story)?.end.outcome) };
        let tally: Mutex<Tally> = Mutex::default();
        let began = sim::stopwatch();
        sim::run_each(
            0..seeds,
            |seed| if is_drawn { draw::story(seed) } else { draw::disturb(story, seed) },
            |story, report| count(&tally, story, &report, (expected, seeds)),
        )?;
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        told += &tell(&tally, began.elapsed().as_secs_f64());
        is_broken |= !tally.broken.is_empty();
        outcomes.extend(expected.filter(|_| tally.otherwise.is_empty()));
        outcomes.extend((!tally.otherwise.is_empty()).then_some(Outcome::Stuck));
    }
    let code = if is_broken { ExitCode::from(1) } else { worst(outcomes.into_iter()) };
    Ok((told, code))
}

fn count(tally: &Mutex<Tally>, story: &Story, report: &Report, (expected, seeds): (Option<Outcome>, u64)) {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    tally.done += 1;
    tally.requests += report.requests;
    tally.seconds += report.took.as_secs_f64();
    tally.lost += report.traffic.lost();
    *tally.outcomes.entry(format!("{:?}", report.end.outcome).to_lowercase()).or_insert(0) += 1;
    for (word, times) in &report.injected {
        *tally.faults.entry(word.clone()).or_insert(0) += times;
    }
    if !report.broken.is_empty() {
        let told = report.broken.iter().map(|one| format!("{} ms {}: {}", one.at, one.rule, one.message));
        tally.broken.insert(story.seed, told.collect());
    }
    if expected.is_some_and(|expected| expected != report.end.outcome) {
        tally.otherwise.insert(story.seed, format!("{:?}: {}", report.end.outcome, report.end.message));
    }
    if tally.done.is_multiple_of(500) {
        let _ = writeln!(std::io::stderr(), "{} of {seeds} seeds", tally.done);
    }
}

fn tell(tally: &Tally, seconds: f64) -> String {
    let pairs = |counts: &BTreeMap<String, u64>| {
        let pairs: Vec<String> = counts.iter().map(|(word, times)| format!("{times} {word}")).collect();
        pairs.join(", ")
    };
    let mut told = format!(
        "{} seeds, {:.0} virtual hours, {} requests, {seconds:.0} s\nended: {}\n{} kinds of faults: {}\nrequests lost: {:.0}\n",
        tally.done,
        tally.seconds / 3600.0,
        tally.requests,
        pairs(&tally.outcomes),
        tally.faults.len(),
        pairs(&tally.faults),
        tally.lost,
    );
    for (seed, end) in tally.otherwise.iter().take(TOLD) {
        let _ = writeln!(told, "seed {seed} ends otherwise than without faults: {end}");
    }
    for (seed, broken) in tally.broken.iter().take(TOLD) {
        let _ = writeln!(told, "seed {seed} BROKEN, please report:\n  {}", broken.join("\n  "));
    }
    told
}
