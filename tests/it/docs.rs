//! What the pages say holds: every command is executed somewhere or read by its own parser, every link leads somewhere, every
//! reason has a row. `e2e/docs/run` executes the pages that act on a cluster; its `pages.json` is read here, too.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use clap::error::ErrorKind;
use regex::Regex;
use serde_json::Value;
use serin::cli::plugin;

use crate::support::markdown::{Line, anchors, commands, links, pages, spans, words};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Commands of `kubectl serin` that are executed here.
const OFFLINE: [&str; 4] = ["lint", "simulate", "convert", "diff"];
/// Pages whose `console` blocks are executed, or compared with what was printed, by whom.
const CONSOLES: &[(&str, &str, &str)] = &[
    ("docs/install.md", "e2e/helm/chart_test.go", "docs/install.md"),
    ("docs/policies.md", "e2e/helm/policies_test.go", "docs/policies.md"),
    ("docs/kubectl-serin/acting.md", "e2e/stories/plugin.rs", "kubectl-serin/acting"),
    ("docs/kubectl-serin/before-the-merge.md", "tests/it/pages.rs", "kubectl-serin/before-the-merge"),
    ("docs/kubectl-serin/doctor.md", "e2e/stories/plugin.rs", "kubectl-serin/doctor"),
    ("docs/kubectl-serin/watching.md", "e2e/stories/plugin.rs", "kubectl-serin/watching"),
    ("examples/gitops/flux/README.md", "e2e/stories.rs", "gitops-example-flux"),
    ("examples/gitops/gitlab-argo/README.md", "e2e/stories.rs", "gitops-example-gitlab-argo"),
    ("examples/gitops/merge-to-publish/README.md", "e2e/stories.rs", "gitops-example-merge-to-publish"),
    ("examples/gitops/rings/README.md", "e2e/stories.rs", "gitops-example-rings"),
];
/// Words of the sources that look like reasons and are none.
const NO_REASONS: &[&str] = &[
    // Kinds, and what Kubernetes writes.
    "AnalysisTemplate",
    "ClusterAnalysisTemplate",
    "CommitStatus",
    "Deployment",
    "DestinationRule",
    "Gateway",
    "HTTPRoute",
    "ReplicaSet",
    "Rollout",
    "Secret",
    "Service",
    "VirtualService",
    "DeadlineExceeded",
    "Never",
    "OnFailure",
    "Accepted",
    "ResolvedRefs",
    "Always",
    "ClusterFirst",
    "File",
    "Filesystem",
    "HTTP",
    "IfNotPresent",
    "ReadWrite",
    "Shared",
    "ThinProvisioned",
    "True",
    "False",
    "Unknown",
    "DeadlineExceeded",
    "Never",
    "OnFailure",
    // Fields of messages.
    "AdaptiveCard",
    "Bolder",
    "Medium",
    "SMTP",
    "SerinRolloutAborted",
    "SerinRolloutStalled",
    "StatusCode",
    "TextBlock",
    // What became of a message, which docs/notifications.md lists.
    "Failed",
    "Sent",
    "Unconfirmed",
    // What was decided, in `status.decisions`.
    "Abort",
    "Approve",
    "Pause",
    "Promote",
    "Restart",
    "Resume",
    "Retry",
    "Revert",
    "Rollback",
    "StepsEdited",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `e2e/docs/run` does.
fn plan() -> Value {
    serde_json::from_str(&read("e2e/docs/pages.json")).unwrap()
}

fn texts<'a>(list: &'a Value, field: &'a str) -> impl Iterator<Item = &'a str> {
    list.as_array().into_iter().flatten().map(move |one| one[field].as_str().unwrap())
}

/// Where a command stands.
fn place(page: &str, line: &Line) -> String {
    format!("{page}:{}: {}", line.number, line.text)
}

/// Whether a command is executed by the test below.
fn is_offline(command: &str) -> bool {
    command.contains("serin simulate ")
        || OFFLINE.iter().any(|verb| command.contains(&format!("kubectl serin {verb} ")))
}

#[test]
fn every_command_is_executed() {
    let plan = plan();
    let played: BTreeSet<&str> = texts(&plan["pages"], "page").collect();
    let never: BTreeSet<&str> = texts(&plan["never"], "command").collect();
    let elsewhere: BTreeSet<&str> = texts(&plan["elsewhere"], "command").collect();
    let mut found = Vec::new();
    for page in pages() {
        let shown = commands(&page, &["sh", "bash", "shell"]);
        found.extend(shown.into_iter().map(|line| (page.clone(), line)));
    }
    let told: BTreeSet<&str> =
        found.iter().filter(|(page, _)| played.contains(page.as_str())).map(|(_, line)| line.text.as_str()).collect();
    let is_held = |page: &str, text: &str| {
        let is_known = elsewhere.contains(text) || never.contains(text);
        // A page that is played is played whole, and what stands in two pages is the same command.
        is_known || is_offline(text) || played.contains(page) || told.contains(text)
    };
    let alone = found.iter().filter(|(page, line)| !is_held(page, &line.text)).map(|(page, line)| place(page, line));
    assert_eq!(alone.collect::<Vec<_>>(), [] as [String; 0], "no test executes these; see e2e/docs/pages.json");
    let texts: BTreeSet<&str> = found.iter().map(|(_, line)| line.text.as_str()).collect();
    let idle: Vec<&&str> = never.iter().chain(&elsewhere).filter(|command| !texts.contains(*command)).collect();
    assert_eq!(idle, [] as [&&str; 0], "no page shows these of e2e/docs/pages.json");
    assert!(found.len() > 60, "{} commands were found", found.len());
}

/// What others execute is written there, and what nobody can execute has a reason.
#[test]
fn who_executes_a_command_names_it() {
    let plan = plan();
    for one in plan["elsewhere"].as_array().unwrap() {
        let (by, text) = (one["by"].as_str().unwrap(), one["text"].as_str().unwrap());
        assert!(read(by).contains(text), "{by} does not have {text:?}, which should execute {}", one["command"]);
    }
    for one in plan["never"].as_array().unwrap() {
        assert!(one["why"].as_str().unwrap().split_whitespace().count() > 3, "{one}");
    }
    assert!(read(".ci/run").contains("e2e/docs/run"));
    let pages: Vec<String> = texts(&plan["pages"], "page").map(str::to_owned).collect();
    let distinct: BTreeSet<&String> = pages.iter().collect();
    assert_eq!((pages.first().map(String::as_str), distinct.len()), (Some("docs/tutorial.md"), pages.len()));
}

/// The path from nothing to an aborted canary.
#[test]
fn the_tutorial_takes_fewer_than_ten_commands() {
    let path: Vec<String> = commands("docs/tutorial.md", &["sh"]).into_iter().map(|line| line.text).collect();
    assert!(path.len() < 10, "{path:#?}");
    for needed in ["helm install serin", "serin get checkout -n shop --watch", "serin dashboard", "bad.yaml"] {
        assert!(path.iter().any(|command| command.contains(needed)), "no {needed}");
    }
}

#[test]
fn transcripts_are_executed() {
    for page in pages() {
        if commands(&page, &["console"]).is_empty() {
            continue;
        }
        let (_, by, text) = CONSOLES.iter().find(|(known, ..)| *known == page).unwrap_or_else(|| {
            panic!("{page} has a transcript that no test compares");
        });
        assert!(read(by).contains(text), "{by} does not name {text}");
    }
}

/// A folder with what the commands speak of, and a script in the place of each tool that may not be there.
fn folder(name: &str, own: Option<&Path>) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    for inner in ["bin", "deploy", "flagger", "argo-or-flagger", "overlays/production"] {
        std::fs::create_dir_all(folder.join(inner)).unwrap();
    }
    let plugin = env!("CARGO_BIN_EXE_kubectl-serin");
    // These print what a kustomization lists, and what a chart without values has.
    let listed = "cd \"$2\"; for one in $(sed -n 's/^- //p' kustomization.yaml); do echo ---; cat \"$one\"; done";
    let scripts = [
        ("kubectl", format!("shift; exec {plugin} \"$@\"")),
        ("serin", format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_serin"))),
        ("kustomize", listed.to_owned()),
        ("helm", "exec cat overlays/production/all.yaml".to_owned()),
    ];
    for (name, script) in scripts {
        let path = folder.join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let release =
        format!("{}---\n{}", read("examples/03-analysis/provider.yaml"), read("examples/03-analysis/rollout.yaml"));
    let argo = read("tests/it/convert/argo-two-services.in.yaml");
    let first = read("examples/01-first-rollout/rollout.yaml");
    let files = [
        ("overlays/production/all.yaml", release.replace("checkout:1", "checkout:2")),
        ("overlays/production/kustomization.yaml", "resources:\n- all.yaml\n".to_owned()),
        ("running.yaml", release),
        ("deploy/argo.yaml", argo.clone()),
        ("argo-or-flagger/argo.yaml", argo),
        ("flagger/canary.yaml", read("tests/it/convert/flagger-weights.in.yaml")),
        ("kustomization.yaml", "resources:\n- deploy/argo.yaml\n".to_owned()),
        ("more.yaml", first),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    for file in own.into_iter().flat_map(|own| std::fs::read_dir(own).unwrap()) {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// Commands that need no cluster do what they should: none of them is misused, none fails.
#[test]
fn commands_without_a_cluster_are_executed() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let shown = commands(&page, &["sh"]).into_iter().filter(|line| is_offline(&line.text)).collect::<Vec<_>>();
        if shown.is_empty() {
            continue;
        }
        let own = Path::new(ROOT).join(&page);
        let folder = folder(&page.replace('/', "-"), own.parent().filter(|_| page.starts_with("examples/")));
        for line in shown {
            count += 1;
            // A thousand seeds take a minute of a debug build, and twenty are the same command.
            let ended = Command::new("sh")
                .args(["-c", &line.text.replace("--seeds 1000", "--seeds 20")])
                .env("PATH", format!("{}:/usr/bin:/bin", folder.join("bin").display()))
                .env("LC_ALL", "C.UTF-8")
                .current_dir(&folder)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            let is_misused = said.lines().any(|line| line.starts_with("error:") || line.starts_with("Usage:"));
            // 1 is what lint and convert answer when they find something, 2 to 4 are ends of a simulated release.
            if is_misused || ended.status.code().is_none_or(|code| code > 4) {
                wrong.push(format!("{}: {}\n{said}", place(&page, &line), ended.status));
            }
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
    assert!(count >= 10, "{count} commands were executed");
}

/// What a word in capitals stands for.
fn filled_in(word: &str) -> String {
    let is_blank = word.len() > 1 && word.chars().all(|char| char.is_ascii_uppercase() || char == '_');
    if is_blank { "checkout".to_owned() } else { word.to_owned() }
}

/// Why a command line of `kubectl serin` is none, as its own parser says.
fn fault(words: &[String], is_mention: bool) -> Option<String> {
    let given = ["kubectl serin".to_owned()].into_iter().chain(words.iter().map(|word| filled_in(word)));
    let error = plugin::Arguments::try_parse_from(given).err()?;
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Prose names a command or a flag without all that belongs to it.
    let is_part = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::MissingSubcommand
    ) || error.to_string().contains("a value is required for");
    if is_help || is_mention && is_part { None } else { Some(error.to_string()) }
}

/// The flags of each command of `serin`.
fn flags() -> BTreeMap<String, String> {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_serin")).args(arguments).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = ["run", "demo", "simulate", "dashboard", "crds"];
    commands.into_iter().map(|command| (command.to_owned(), help(&[command]))).collect()
}

#[test]
fn commands_are_those_of_the_binaries() {
    let flags = flags();
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages().into_iter().filter(|page| page != "CHANGELOG.md") {
        let shown = commands(&page, &["sh", "console"]).into_iter().map(|line| (line, false));
        let named = spans(&page).into_iter().map(|line| (line, true));
        for (line, is_mention) in shown.chain(named).filter(|(line, _)| !line.text.contains('…')) {
            for simple in words(&line.text) {
                let begin = simple.iter().position(|word| !word.contains('=')).unwrap_or(0);
                let fault = match simple.get(begin..).unwrap_or_default() {
                    [kubectl, serin, rest @ ..] if kubectl == "kubectl" && serin == "serin" => {
                        count += 1;
                        fault(rest, is_mention)
                    }
                    [serin, command, rest @ ..] if serin == "serin" => {
                        count += 1;
                        let known = flags.get(command).map_or("", String::as_str);
                        let unknown = rest
                            .iter()
                            .find(|word| word.starts_with("--") && !known.contains(word.split('=').next().unwrap()));
                        let is_command = command.starts_with('-') || !known.is_empty() || command == "help";
                        unknown
                            .map(|flag| format!("no flag {flag}"))
                            .or_else(|| (!is_command).then(|| format!("no command {command}")))
                    }
                    _ => None,
                };
                wrong.extend(fault.map(|fault| format!("{}: {fault}", place(&page, &line))));
            }
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
    assert!(count > 150, "{count} commands were read");
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let folder = Path::new(&page).parent().unwrap().to_owned();
        for link in
            links(&page).into_iter().filter(|link| !link.text.contains("://") && !link.text.starts_with("mailto:"))
        {
            count += 1;
            let (path, anchor) =
                link.text.split_once('#').map_or((link.text.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { PathBuf::from(&page) } else { folder.join(path) };
            let Ok(full) = Path::new(ROOT).join(&target).canonicalize() else {
                wrong.push(format!("{} is not there", place(&page, &link)));
                continue;
            };
            let Some(anchor) = anchor else { continue };
            let inner =
                full.strip_prefix(Path::new(ROOT).canonicalize().unwrap()).unwrap().to_str().unwrap().to_owned();
            if !anchors(&inner).iter().any(|known| known == anchor) {
                wrong.push(format!("{} has no such heading", place(&page, &link)));
            }
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
    assert!(count > 150, "{count} links were followed");
}

/// Each page under docs/ can be reached from its entry.
#[test]
fn the_entry_leads_to_every_page() {
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut next = vec!["docs/README.md".to_owned()];
    while let Some(page) = next.pop() {
        if !reached.insert(PathBuf::from(&page)) {
            continue;
        }
        for link in links(&page).into_iter().filter(|link| !link.text.contains("://")) {
            let path = link.text.split('#').next().unwrap_or_default().to_owned();
            let target = Path::new(ROOT).join(Path::new(&page).parent().unwrap()).join(path);
            let root = Path::new(ROOT).canonicalize().unwrap();
            let inner = target.canonicalize().ok().and_then(|full| Some(full.strip_prefix(root).ok()?.to_owned()));
            next.extend(
                inner
                    .filter(|inner| inner.extension().is_some_and(|extension| extension == "md"))
                    .map(|inner| inner.to_str().unwrap().to_owned()),
            );
        }
    }
    let lost: Vec<String> =
        pages().into_iter().filter(|page| page.starts_with("docs/") && !reached.contains(Path::new(page))).collect();
    assert_eq!(lost, [] as [String; 0], "no page leads there");
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), found));
    } else {
        found.push(path.to_owned());
    }
}

/// Whatever may stand as a reason in a status has a row in docs/troubleshooting.md, and each row is one that the code can write.
#[test]
fn every_reason_has_a_row() {
    let literal = Regex::new(r#""([A-Z][A-Za-z]{3,})""#).unwrap();
    let mut files = Vec::new();
    for path in ["src/plan.rs", "src/plan", "src/notify", "src/controller/notify.rs", "src/controller/notify"] {
        sources(&Path::new(ROOT).join(path), &mut files);
    }
    let mut written: BTreeSet<String> = BTreeSet::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            written.extend(literal.captures_iter(line).map(|found| found[1].to_owned()));
        }
    }
    let row = Regex::new(r"(?m)^\| ((?:`[A-Za-z]+`(?:, )?)+) \|").unwrap();
    let page = read("docs/troubleshooting.md");
    let rows: BTreeSet<String> = row
        .captures_iter(&page)
        .flat_map(|found| found[1].split(", ").map(|word| word.trim_matches('`').to_owned()).collect::<Vec<_>>())
        .collect();
    // Events have a page of their own, which another test holds; some of them are reasons of conditions, too.
    let events: BTreeSet<String> =
        serin::plan::narrate::REASONS.iter().map(|(reason, _)| (*reason).to_owned()).collect();
    let is_other = |word: &&String| NO_REASONS.contains(&word.as_str()) || events.contains(*word);
    let lacking: Vec<&String> = written.iter().filter(|word| !rows.contains(*word) && !is_other(word)).collect();
    assert_eq!(lacking, [] as [&String; 0], "docs/troubleshooting.md lacks these, or NO_REASONS does");
    let unknown: Vec<&String> = rows.iter().filter(|word| !written.contains(*word)).collect();
    assert_eq!(unknown, [] as [&String; 0], "nothing writes these");
    let idle: Vec<&&str> = NO_REASONS.iter().filter(|word| !written.contains(**word)).collect();
    assert_eq!(idle, [] as [&&str; 0], "the sources have no such words any more");
}

/// What goldens show as reasons of conditions and waits is among the rows.
#[test]
fn reasons_of_goldens_have_a_row() {
    let page = read("docs/troubleshooting.md");
    let mut count = 0;
    for entry in std::fs::read_dir(format!("{ROOT}/tests/it/plan")).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_str().unwrap().ends_with(".out.yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, status) = text.split_once("\nstatus:\n").unwrap();
        let golden: Value = serde_yaml::from_str(&format!("status:\n{status}")).unwrap();
        let conditions = golden["status"]["conditions"].as_array().into_iter().flatten();
        let waits = golden["status"]["blockedBy"].as_array().into_iter().flatten();
        for one in conditions.chain(waits) {
            let word = one["reason"].as_str().unwrap();
            count += 1;
            assert!(page.contains(&format!("`{word}`")), "docs/troubleshooting.md lacks {word} of {}", path.display());
        }
    }
    assert!(count > 20, "{count} reasons");
}

/// Scripts of the repository that pages name are there, and know their flags.
#[test]
fn scripts_know_their_flags() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        for line in commands(&page, &["sh"]) {
            for simple in words(&line.text) {
                let Some(at) = simple.iter().position(|word| word.starts_with("e2e/") || word.starts_with("fuzz/"))
                else {
                    continue;
                };
                let (script, flags) = (&simple[at], simple[at + 1..].iter().filter(|word| word.starts_with("--")));
                count += 1;
                if !Path::new(ROOT).join(script).is_file() {
                    wrong.push(format!("{} is not there", place(&page, &line)));
                    continue;
                }
                // What a script does not read itself, the command that it runs does.
                let text = read(script) + &script.strip_suffix("/run").map_or_else(String::new, beside);
                let unknown = flags.filter(|flag| !text.contains(flag.trim_start_matches("--")));
                wrong.extend(unknown.map(|flag| format!("{}: no flag {flag}", place(&page, &line))));
            }
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
    assert!(count > 15, "{count} commands");
}

/// The sources of the commands in a folder.
fn beside(folder: &str) -> String {
    let mut files = Vec::new();
    sources(&Path::new(ROOT).join(folder), &mut files);
    let is_source = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "go" || extension == "py");
    files.iter().filter(is_source).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}
