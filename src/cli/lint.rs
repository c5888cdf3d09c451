//! `kubectl serin lint`: what is wrong with manifests, before they are applied.

use std::collections::BTreeSet;
use std::io::{Read, Write as _, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::outcome::Outcome;
use super::screen::Look;
use crate::api::duration::DurationText;
use crate::lint::rule::{self, Level};
use crate::lint::show::{github, json, junit, sarif, text};
use crate::lint::yaml::BYTES_MOST;
use crate::lint::{Settings, Source, lint};

/// Directories below a directory that are read.
const DEPTH_MOST: usize = 32;
/// Files that are read.
const FILES_MOST: usize = 20_000;

/// What to lint, and how to show what is found.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// Files, directories with `.yaml`, `.yml` and `.json` files, or `-` for standard input.
    #[arg(value_name = "PATH", required_unless_present = "rules")]
    paths: Vec<String>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Makes warnings count like errors.
    #[arg(long)]
    strict: bool,
    /// Leaves out the findings of these rules; may be repeated, or hold commas.
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Leaves out notes.
    #[arg(short, long)]
    quiet: bool,
    /// Time between two scrapes of a metric.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    scrape_interval: SignedDuration,
    /// Lists the rules.
    #[arg(long)]
    rules: bool,
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
pub fn run(arguments: &Arguments, namespace: Option<&str>, look: Look) -> anyhow::Result<ExitCode> {
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
    if let Some(namespace) = namespace {
        namespace.clone_into(&mut settings.namespace);
    }
    let mut input = Files::default();
    for path in &arguments.paths {
        input.add(path);
    }
    let mut report = lint(&input.sources, &settings).without(&arguments.ignore);
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
    for hint in &input.hints {
        writeln!(stderr(), "hint: {hint}")?;
    }
    let bad = report.count(Level::Error) + if arguments.strict { report.count(Level::Warning) } else { 0 };
    Ok(if bad == 0 { Outcome::Reached } else { Outcome::Failed }.into())
}

/// The texts of the arguments, and what could not be read.
#[derive(Default)]
struct Files {
    sources: Vec<Source>,
    known: BTreeSet<PathBuf>,
    hints: Vec<String>,
}

impl Files {
    fn add(&mut self, path: &str) {
        if path == "-" {
            self.take("stdin".to_owned(), &mut stdin().lock());
            return;
        }
        let path = Path::new(path);
        if path.is_dir() {
            let before = self.sources.len();
            self.add_directory(path, 0);
            if self.sources.len() == before {
                self.fail(path, "holds no .yaml, .yml or .json file".to_owned());
            }
        } else {
            self.add_file(path);
        }
    }

    fn add_file(&mut self, path: &Path) {
        let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.known.insert(name) {
            return;
        }
        match std::fs::File::open(path) {
            Ok(mut file) => self.take(path.display().to_string(), &mut file),
            Err(error) => self.fail(path, error.to_string()),
        }
    }

    fn fail(&mut self, path: &Path, message: String) {
        self.sources.push(Source { name: path.display().to_string(), bytes: Err(message) });
    }

    fn take(&mut self, name: String, reader: &mut impl Read) {
        // One byte more than lint takes, so that it says so.
        let limit = u64::try_from(BYTES_MOST).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        match reader.take(limit).read_to_end(&mut bytes) {
            Ok(_) => self.sources.push(Source { name, bytes: Ok(bytes) }),
            Err(error) => self.sources.push(Source { name, bytes: Err(error.to_string()) }),
        }
    }

    /// Files of a directory in the order of their names; hidden ones and links to directories are left out.
    fn add_directory(&mut self, path: &Path, depth: usize) {
        if depth > DEPTH_MOST || self.sources.len() >= FILES_MOST {
            return self.fail(path, format!("has more than {FILES_MOST} files, or is deeper than {DEPTH_MOST}"));
        }
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fail(path, error.to_string()),
        };
        let mut entries: Vec<_> = entries.flatten().map(|entry| (entry.path(), entry.file_type())).collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        for (path, kind) in entries {
            let name = name(&path);
            if name.starts_with('.') || name == "node_modules" {
                continue;
            }
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                self.add_directory(&path, depth + 1);
            } else if ["kustomization.yaml", "kustomization.yml", "Kustomization"].contains(&name.as_str()) {
                let folder = path.parent().unwrap_or(&path).display().to_string();
                self.hints.push(format!(
                    "{folder} is built by kustomize; lint the result: kustomize build {folder} | kubectl serin lint -"
                ));
            } else if matches!(path.extension().and_then(|one| one.to_str()), Some("yaml" | "yml" | "json")) {
                self.add_file(&path);
            }
        }
    }
}
