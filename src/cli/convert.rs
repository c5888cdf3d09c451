//! `kubectl serin convert`: manifests of Argo Rollouts and Flagger to Serin's; the result on standard output, the report beside.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::files;
use super::outcome::Outcome;
use crate::convert::report::Report;
use crate::convert::{self, Converted, Source};

/// What to convert, and where to put it.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// A file of manifests, a folder of such files, or `-` for standard input; may be given again.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, add = super::completion::manifests())]
    files: Vec<String>,
    /// How the manifests are written.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Output,
    /// Writes a file for each that was read into this folder, instead of standard output.
    #[arg(long, value_name = "DIR", add = super::completion::folders())]
    output_dir: Option<PathBuf>,
    /// How the report is written.
    #[arg(long, value_enum, default_value = "text")]
    report: Form,
    /// Writes the report into this file, instead of standard error.
    #[arg(long, value_name = "FILE", add = super::completion::files())]
    report_file: Option<PathBuf>,
    /// Exits with 0 even if something that protects production could not be converted.
    #[arg(long)]
    force: bool,
}

const HELP: &str = "\
Examples:
  kubectl serin convert -f rollout.yaml > serin.yaml
  kustomize build . | kubectl serin convert -f - --report markdown --report-file report.md
  kubectl serin convert -f deploy/ --output-dir serin/

Exit codes: 0 converted, 1 the input cannot be read, or a gate, a step, a route or an abort condition has no equal (--force: 0)";

/// How manifests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// As they were, with their comments.
    Yaml,
    /// One List, without comments.
    Json,
}

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line for each field.
    Text,
    /// For programs.
    Json,
    /// Tables, for a merge request.
    Markdown,
    /// Not at all.
    None,
}

/// Converts; the exit code tells whether something that protects production is gone.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let sources: Vec<Source> =
        files::texts(&arguments.files)?.into_iter().map(|(name, text)| Source { name, text }).collect();
    let converted = convert::convert(&sources)?;
    write(arguments, &converted)?;
    let told = told(&converted.report, arguments.report)?;
    match &arguments.report_file {
        Some(path) => std::fs::write(path, told).with_context(|| format!("write {}", path.display()))?,
        None => std::io::stderr().write_all(told.as_bytes())?,
    }
    let is_whole = converted.report.lost() == 0 || arguments.force;
    Ok(if is_whole { Outcome::Reached.into() } else { Outcome::Failed.into() })
}

fn write(arguments: &Arguments, converted: &Converted) -> anyhow::Result<()> {
    let Some(folder) = &arguments.output_dir else {
        let mut out = std::io::stdout().lock();
        return match arguments.output {
            Output::Json => Ok(writeln!(out, "{}", list(converted)?)?),
            Output::Yaml => Ok(write!(out, "{}", joined(&converted.files))?),
        };
    };
    if arguments.output == Output::Json {
        let path = folder.join("serin.json");
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        return std::fs::write(&path, list(converted)? + "\n").with_context(|| format!("write {}", path.display()));
    }
    for file in &converted.files {
        let path = folder.join(place(&file.name));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        std::fs::write(&path, &file.text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The path of a file within the folder for results: never outside of it.
fn place(name: &str) -> PathBuf {
    if name == files::STDIN {
        return PathBuf::from("serin.yaml");
    }
    let parts = Path::new(name).components().filter_map(|part| match part {
        std::path::Component::Normal(part) => Some(part),
        std::path::Component::Prefix(_)
        | std::path::Component::RootDir
        | std::path::Component::CurDir
        | std::path::Component::ParentDir => None,
    });
    parts.collect()
}

/// All files as one text of several documents.
fn joined(files: &[Source]) -> String {
    let mut text = String::new();
    for file in files.iter().filter(|file| !file.text.trim().is_empty()) {
        if !text.is_empty() {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            if !file.text.starts_with("---") {
                text.push_str("---\n");
            }
        }
        text.push_str(&file.text);
    }
    text
}

fn list(converted: &Converted) -> anyhow::Result<String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": converted.objects});
    Ok(serde_json::to_string_pretty(&list)?)
}

fn told(report: &Report, form: Form) -> anyhow::Result<String> {
    Ok(match form {
        Form::Text => report.text(),
        Form::Json => serde_json::to_string_pretty(&report.json())? + "\n",
        Form::Markdown => report.markdown(),
        Form::None => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stay_in_their_folder() {
        assert_eq!(place("../../etc/passwd.yaml"), PathBuf::from("etc/passwd.yaml"));
        assert_eq!(place("/deploy/a.yaml"), PathBuf::from("deploy/a.yaml"));
        assert_eq!(place(files::STDIN), PathBuf::from("serin.yaml"));
    }

    #[test]
    fn files_are_joined_as_documents() {
        let file = |text: &str| Source { name: String::new(), text: text.to_owned() };
        assert_eq!(
            joined(&[file("a: 1"), file(""), file("---\nb: 2\n"), file("c: 3\n")]),
            "a: 1\n---\nb: 2\n---\nc: 3\n"
        );
    }
}
