//! `kubectl serin lint`: what is wrong with manifests, before they are applied.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::cluster::Connection;
use super::files::{File, Files, STDIN};
use super::outcome::Outcome;
use super::screen::Look;
use super::{backtest, plugin};
use crate::api::duration::DurationText;
use crate::lint::rule::{self, Level};
use crate::lint::show::{github, json, junit, sarif, text};
use crate::lint::{Expected, Settings, Source, lint};

/// What to lint, and how to show what is found.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// Files, directories with `.yaml`, `.yml` and `.json` files, or `-` for standard input.
    #[arg(value_name = "PATH", required_unless_present = "rules", add = super::completion::manifests())]
    paths: Vec<String>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Makes warnings count like errors.
    #[arg(long)]
    strict: bool,
    /// Leaves out the findings of these rules; may be repeated, or hold commas.
    #[arg(long, value_name = "RULE", value_delimiter = ',', add = super::completion::rules())]
    ignore: Vec<String>,
    /// Leaves out notes.
    #[arg(short, long)]
    quiet: bool,
    /// Time between two scrapes of a metric.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    scrape_interval: SignedDuration,
    #[command(flatten)]
    traffic: Traffic,
    /// Lists the rules.
    #[arg(long)]
    rules: bool,
}

/// Requests that are said to come: what the smallest regression that each step can see is reckoned from.
#[derive(Debug, Clone, Args)]
pub struct Traffic {
    /// Requests a second, of both revisions: tells the smallest regression that `compare` and `limit` see.
    #[arg(long, value_name = "NUMBER", value_parser = requests)]
    requests_per_second: Option<f64>,
    /// The part of stable's requests that is bad, 0 to 1.
    #[arg(long, value_name = "NUMBER", default_value = "0.01", value_parser = rate)]
    bad_rate: f64,
    /// Prometheus' address: what the metrics have counted in the last hour, in place of the two numbers. From here; one such as
    /// `http://prometheus.monitoring:9090` is asked by the API server's proxy.
    #[arg(long, value_name = "URL", conflicts_with = "requests_per_second")]
    prometheus_url: Option<String>,
}

impl Traffic {
    /// Whether anything is known of it.
    pub fn is_known(&self) -> bool {
        self.requests_per_second.is_some() || self.prometheus_url.is_some()
    }

    /// Puts it into settings: what is said, or what the metrics of some manifests have counted.
    pub fn put(&self, settings: &mut Settings, sources: &[Source], connection: &Connection) -> anyhow::Result<()> {
        settings.expected = self.requests_per_second.map(|requests| Expected { requests, bad: self.bad_rate });
        if let Some(url) = &self.prometheus_url {
            let text = |source: &Source| {
                Some((source.name.clone(), String::from_utf8(source.bytes.as_ref().ok()?.clone()).ok()?))
            };
            let texts: Vec<(String, String)> = sources.iter().filter_map(text).collect();
            let present = backtest::present(&texts, &settings.namespace, (url, connection));
            let (measured, unknown) = plugin::runtime()?.block_on(present)?;
            settings.measured = measured;
            unknown.iter().try_for_each(|why| writeln!(stderr(), "note: {why}"))?;
        }
        Ok(())
    }
}

fn requests(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if number > 0.0 && number < 1e7 { Ok(number) } else { Err("is not above 0".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.0..1.0).contains(&number) { Ok(number) } else { Err("is not 0 or more, and less than 1".to_owned()) }
}

/// How findings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For code scanning: SARIF 2.1.0.
    Sarif,
    /// For test reports: `JUnit` XML.
    Junit,
    /// For GitHub Actions: annotations of the pull request.
    Github,
}

const AFTER: &str = "\
Examples:
  kustomize build overlays/prod | kubectl serin lint -   what is applied, as it is applied
  helm template . | kubectl serin lint - -o github       annotations in a pull request
  kubectl serin lint deploy/ --strict                    warnings fail, too

An object leaves rules out for itself by the annotation serin.dev/lint-ignore: rule, rule
docs/lint.md explains every rule.

Exit codes: 0 no errors, 1 errors (with --strict: or warnings), or the input cannot be read";

fn duration(text: &str) -> Result<SignedDuration, String> {
    DurationText::Text(text.to_owned()).parse()
}

/// Lints; the exit code tells whether there is anything bad.
pub fn run(arguments: &Arguments, connection: &Connection, look: Look) -> anyhow::Result<ExitCode> {
    if arguments.rules {
        for rule in rule::ALL {
            writeln!(stdout(), "{:<30} {:<8} {}", rule.id, rule.level.word(), rule.title)?;
        }
        return Ok(Outcome::Reached.into());
    }
    if let Some(unknown) = arguments.ignore.iter().find(|id| rule::named(id).is_none()) {
        bail!("there is no rule {unknown}; kubectl serin lint --rules lists them");
    }
    let mut settings = Settings { scrape_interval: arguments.scrape_interval, ..Settings::default() };
    if let Some(namespace) = &connection.namespace {
        namespace.clone_into(&mut settings.namespace);
    }
    let input = Files::of(&arguments.paths);
    let is_blank = |file: &File| file.bytes.as_ref().is_ok_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace));
    if input.files.iter().any(|file| file.name == STDIN && is_blank(file)) {
        bail!("standard input is empty; did what writes it fail?");
    }
    let charts = input.files.iter().filter_map(|file| file.name.strip_suffix("/Chart.yaml"));
    settings.built = input.built.iter().cloned().chain(charts.map(str::to_owned)).collect();
    let sources: Vec<Source> =
        input.files.into_iter().map(|file| Source { name: file.name, bytes: file.bytes }).collect();
    arguments.traffic.put(&mut settings, &sources, connection)?;
    let mut report = lint(&sources, &settings).without(&arguments.ignore);
    if arguments.quiet {
        report.findings.retain(|one| one.level() != Level::Note);
    }
    let told = match arguments.output {
        Output::Text => {
            look.print_whole(&text::lines(&report))?;
            String::new()
        }
        Output::Json => json::json(&report)?,
        Output::Sarif => sarif::sarif(&report)?,
        Output::Junit => junit::junit(&report),
        Output::Github => github::github(&report),
    };
    stdout().lock().write_all(told.as_bytes())?;
    for folder in &input.built {
        let pipeline = format!("kustomize build {folder} | kubectl serin lint -");
        writeln!(stderr(), "hint: {folder} is built by kustomize; lint the result: {pipeline}")?;
    }
    let bad = report.count(Level::Error) + if arguments.strict { report.count(Level::Warning) } else { 0 };
    Ok(if bad == 0 { Outcome::Reached } else { Outcome::Failed }.into())
}
