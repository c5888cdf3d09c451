//! The order of the house: who may import whom, what `plan` and `api` may not know, how long a file may be.

use std::path::{Path, PathBuf};

/// Each room with the rooms that it may import.
const IMPORTS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("evidence", &[]),
    ("plan", &["api", "evidence"]),
    ("notify", &["api", "plan"]),
    ("controller", &["api", "evidence", "plan", "notify"]),
    ("schema", &["api"]),
    ("embedded", &["controller", "schema"]),
    ("lint", &["api", "evidence", "plan", "notify", "schema"]),
    ("sim", &["api", "evidence", "plan", "controller", "embedded"]),
    ("convert", &["api", "plan"]),
    ("cli", &["api", "evidence", "plan", "controller", "embedded", "schema", "sim", "lint", "convert"]),
    ("demo", &["api", "plan", "controller", "embedded", "cli"]),
];
/// What `api` and `plan` never name: clients, clocks, chance, logs, tasks.
const BANNED: &[&str] = &[
    "kube::Client",
    "kube::Api",
    "tokio::",
    "async fn",
    "Timestamp::now",
    "Instant::now",
    "rand::",
    "HashMap",
    "HashSet",
    "tracing::",
];
const LINES_MOST: usize = 600;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The room of a file: `src/plan/step.rs` and `src/plan.rs` are of `plan`.
fn room(path: &Path) -> Option<String> {
    let inner = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).ok()?;
    let first = inner.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

#[test]
fn rooms_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let Some((own, allowed)) = room(&path).and_then(|room| IMPORTS.iter().find(|(name, _)| *name == room)) else {
            continue;
        };
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            for (other, _) in IMPORTS.iter().filter(|(other, _)| other != own && !allowed.contains(other)) {
                if line.contains(&format!("crate::{other}")) {
                    wrong.push(format!("{}:{}: {own} must not import {other}", path.display(), number + 1));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn plan_and_api_are_pure() {
    let mut wrong = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        if !matches!(room(&path).as_deref(), Some("plan" | "api")) {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            wrong.extend(
                BANNED
                    .iter()
                    .filter(|banned| line.contains(*banned))
                    .map(|banned| format!("{}:{}: {banned}", path.display(), number + 1)),
            );
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn files_begin_with_their_purpose_and_end_in_time() {
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not say what it is for", path.display());
        assert!(text.lines().count() <= LINES_MOST, "{} has {} lines", path.display(), text.lines().count());
    }
}

#[test]
fn shared_words_are_used() {
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for banned in ["todo!(", "unimplemented!(", "FIXME", "mod utils", "mod helpers", "mod common"] {
            assert!(!text.contains(banned), "{}: {banned}", path.display());
        }
    }
}

/// What bounds a threat is where docs/threats.md says.
#[test]
fn the_threat_model_names_code_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<(PathBuf, String)> = sources(&root.join("src"))
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let page = std::fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let mut named = 0;
    for inner in page.split('(').skip(1).filter_map(|rest| rest.split_once(')')).map(|(inner, _)| inner) {
        let mut file = None;
        for token in inner.split('`').skip(1).step_by(2) {
            if Path::new(token).extension().is_some_and(|extension| extension == "rs") {
                file = sources.iter().find(|(path, _)| path.ends_with(token));
                assert!(file.is_some(), "docs/threats.md names {token}, which is not there");
                named += 1;
            } else if let Some((path, text)) = file {
                assert!(text.contains(&format!("fn {token}")), "{} has no function {token}", path.display());
            }
        }
    }
    assert!(named > 20, "{named} files are named");
}
