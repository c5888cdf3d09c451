//! Lint: `lint/<situation>.in.yaml` is what somebody wrote, `lint/<situation>.out.txt` what lint says of it.
//! `UPDATE_EXPECT=1 cargo test lint` rewrites them; commit a changed one only if you can say why it changed.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use expect_test::expect_file;
use proptest::prelude::*;
use serde_json::Value;
use serin::lint::rule::{self, Level};
use serin::lint::show::{github, json, junit, sarif, text};
use serin::lint::{Expected, Report, Settings, Source, lint};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/lint");

fn of(name: &str, bytes: &[u8]) -> Report {
    let source = Source { name: name.to_owned(), bytes: Ok(bytes.to_vec()) };
    lint(&[source], &Settings::default())
}

/// Every situation with what it holds.
fn situations() -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(FOLDER)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let stem = path.file_name()?.to_str()?.strip_suffix(".in.yaml")?.to_owned();
            Some((stem, std::fs::read(path).unwrap()))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn told(report: &Report) -> String {
    let line = |line: &ratatui::text::Line<'_>| {
        let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
        text.trim_end().to_owned() + "\n"
    };
    text::lines(report).iter().map(line).collect()
}

#[test]
fn situations_are_told() {
    for (situation, bytes) in situations() {
        let report = of(&format!("{situation}.in.yaml"), &bytes);
        expect_file![format!("{FOLDER}/{situation}.out.txt")].assert_eq(&told(&report));
    }
}

/// The example that compares, linted with the traffic that is said to come.
fn with_traffic(requests: f64, bad: f64) -> Report {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/19-canary-against-stable/rollout.yaml");
    let source = Source { name: "rollout.yaml".to_owned(), bytes: Ok(std::fs::read(path).unwrap()) };
    lint(&[source], &Settings { expected: Some(Expected { requests, bad }), ..Settings::default() })
}

#[test]
fn what_each_step_can_see_is_told() {
    let told = [(1000.0, 0.01), (100.0, 0.01), (10.0, 0.001), (0.05, 0.01)].map(|(requests, bad)| {
        let report = with_traffic(requests, bad);
        let seen = report.findings.iter().filter(|one| one.rule == &rule::SMALLEST_REGRESSION);
        let lines: Vec<&str> = seen.map(|one| one.message.as_str()).collect();
        format!("{requests} requests a second, {bad} of them bad\n{}\n", lines.join("\n"))
    });
    expect_file![format!("{FOLDER}/what-each-step-can-see.txt")].assert_eq(&told.join("\n"));
}

#[test]
fn every_rule_has_a_situation() {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for (situation, bytes) in situations() {
        found.extend(of(&situation, &bytes).findings.iter().map(|one| one.rule.id));
    }
    let unreadable = Source { name: "gone.yaml".to_owned(), bytes: Err("no such file".to_owned()) };
    found.extend(lint(&[unreadable], &Settings::default()).findings.iter().map(|one| one.rule.id));
    found.extend(with_traffic(100.0, 0.01).findings.iter().map(|one| one.rule.id));
    let missing: Vec<&str> = rule::ALL.iter().map(|one| one.id).filter(|id| !found.contains(id)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// `docs/lint.md` has a section `### id` for every rule, in their order, that begins with its level.
#[test]
fn every_rule_is_explained() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lint.md")).unwrap();
    let sections: Vec<&str> = text.split("\n### ").skip(1).collect();
    let explained: Vec<(&str, &str)> = sections
        .iter()
        .map(|section| {
            let (id, rest) = section.split_once('\n').unwrap();
            let level = rest.trim_start().split_once(['.', ' ']).map_or("", |(level, _)| level);
            (id, level)
        })
        .collect();
    let level = |level: Level| match level {
        Level::Error => "Error",
        Level::Warning => "Warning",
        Level::Note => "Note",
    };
    let rules: Vec<(&str, &str)> = rule::ALL.iter().map(|one| (one.id, level(one.level))).collect();
    assert_eq!(explained, rules);
}

#[test]
fn rules_have_stable_names() {
    let ids: BTreeSet<&str> = rule::ALL.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), rule::ALL.len(), "a name stands twice");
    for one in rule::ALL {
        assert!(one.id.chars().all(|char| char.is_ascii_lowercase() || char == '-'), "{}", one.id);
        assert!(one.title.ends_with('.') && !one.fix.ends_with('.'), "{}", one.id);
    }
}

#[test]
fn examples_are_clean() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        let sources: Vec<Source> = ["rollout.yaml", "provider.yaml", "promote.yaml"]
            .iter()
            .filter_map(|name| {
                Some(Source { name: (*name).to_owned(), bytes: Ok(std::fs::read(folder.join(name)).ok()?) })
            })
            .collect();
        let report = lint(&sources, &Settings::default());
        let bad: Vec<_> = report.findings.iter().filter(|one| one.level() != Level::Note).collect();
        assert!(bad.is_empty(), "{}: {bad:#?}", folder.display());
        count += usize::from(!sources.is_empty());
    }
    assert!(count >= 10);
}

/// Two files, of which one holds what formats must escape.
fn report() -> Report {
    let good = std::fs::read(format!("{FOLDER}/nothing-is-wrong.in.yaml")).unwrap();
    let bad = "apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {name: a, namespace: shop}\nspec:\n  \"<&\\u001b[1m::%,\": 1\n---\na: [\n";
    let sources = [
        Source { name: "good.yaml".to_owned(), bytes: Ok(good) },
        Source { name: "a b,c/100%.yaml".to_owned(), bytes: Ok(bad.as_bytes().to_vec()) },
        Source { name: "gone.yaml".to_owned(), bytes: Err("no such file".to_owned()) },
    ];
    lint(&sources, &Settings::default())
}

#[test]
fn formats() {
    let report = report();
    expect_file![format!("{FOLDER}/formats.text.txt")].assert_eq(&told(&report));
    expect_file![format!("{FOLDER}/formats.json")].assert_eq(&json::json(&report).unwrap());
    expect_file![format!("{FOLDER}/formats.sarif")].assert_eq(&sarif::sarif(&report).unwrap());
    expect_file![format!("{FOLDER}/formats.junit.xml")].assert_eq(&junit::junit(&report));
    expect_file![format!("{FOLDER}/formats.github.txt")].assert_eq(&github::github(&report));
}

/// The official schema of SARIF 2.1.0, as the package of a development dependency has it.
fn schema_of_sarif() -> Value {
    let told = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let rustc = told(Command::new("rustc").arg("-vV"));
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // Only packages of this platform are sure to be here.
    cargo.args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&told(cargo.current_dir(env!("CARGO_MANIFEST_DIR")))).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "serde-sarif").unwrap();
    let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap());
    serde_json::from_slice(&std::fs::read(manifest.with_file_name("src").join("schema.json")).unwrap()).unwrap()
}

#[test]
fn sarif_is_valid_by_its_schema() {
    let mut schema = schema_of_sarif();
    // Two fields that lint does not write have a pattern with a bracket too many, which not every reader takes.
    for kind in ["run", "toolComponent"] {
        let language = schema["definitions"][kind]["properties"]["language"].as_object_mut().unwrap();
        assert_eq!(language.remove("pattern").unwrap(), "^[a-zA-Z]{2}|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$");
    }
    assert!(schema["$id"].as_str().unwrap().ends_with("/sarif-schema-2.1.0.json"));
    let validator = jsonschema::draft7::options().should_validate_formats(true).build(&schema).unwrap();
    let mut reports: Vec<Report> =
        situations().iter().map(|(situation, bytes)| of(&format!("{situation}.in.yaml"), bytes)).collect();
    reports.push(report());
    for report in reports {
        let log: Value = serde_json::from_str(&sarif::sarif(&report).unwrap()).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert_eq!(errors, Vec::<String>::new(), "{:?}", report.files);
    }
    let mut log: Value = serde_json::from_str(&sarif::sarif(&report()).unwrap()).unwrap();
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0.into();
    assert!(!validator.is_valid(&log), "lines count from 1");
}

/// What the specification asks of a log, and code scanning of its results.
#[test]
fn sarif_has_its_parts() {
    let report = report();
    let log: Value = serde_json::from_str(&sarif::sarif(&report).unwrap()).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), report.findings.len());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].iter().any(|level| result["level"] == *level));
        let place = &result["locations"][0]["physicalLocation"];
        assert!(
            place["region"]["startLine"].as_u64().unwrap() >= 1
                && place["region"]["startColumn"].as_u64().unwrap() >= 1
        );
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte)), "{uri}");
    }
}

/// One line a finding, however hostile the input.
#[test]
fn github_commands_are_one_line_each() {
    let report = report();
    let text = github::github(&report);
    assert_eq!(text.lines().count(), report.findings.len());
    assert!(
        text.lines().all(|line| line.starts_with("::error ")
            || line.starts_with("::warning ")
            || line.starts_with("::notice "))
    );
}

#[test]
fn findings_can_be_left_out() {
    let bytes = std::fs::read(format!("{FOLDER}/weights-fall.in.yaml")).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let report = of("a", text.as_bytes());
    assert!(report.findings.iter().any(|one| one.rule.id == "weight-not-rising"));
    let left = report.clone().without(&["weight-not-rising".to_owned()]);
    assert!(left.hidden > 0 && left.findings.iter().all(|one| one.rule.id != "weight-not-rising"));
    let annotated = text.replace(
        "serin.dev/git-commit: ",
        "serin.dev/lint-ignore: no-gate, weight-not-rising\n    serin.dev/git-commit: ",
    );
    let report = of("a", annotated.as_bytes());
    assert!(report.hidden > 0 && report.findings.iter().all(|one| one.rule.id != "weight-not-rising"));
}

/// The command on its arguments, with this on standard input: its exit code, what it prints, what it warns of.
fn run(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-serin"))
        .arg("lint")
        .args(arguments)
        .current_dir(FOLDER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Without `-` nobody reads it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_reads_files_directories_and_standard_input() {
    let good = std::fs::read(format!("{FOLDER}/nothing-is-wrong.in.yaml")).unwrap();
    assert_eq!(run(&["-"], &good).0, 0);
    let (code, told, _) = run(&["-", "weights-fall.in.yaml"], &good);
    assert_eq!((code, told.lines().last()), (0, Some("0 errors, 4 warnings, 0 notes in 5 objects of 2 files")));
    assert_eq!(run(&["--strict", "weights-fall.in.yaml"], b"").0, 1);
    assert_eq!(run(&["--strict", "--ignore", "weight-not-rising", "weights-fall.in.yaml"], b"").0, 0);
    assert_eq!(run(&["the-schema-refuses.in.yaml"], b"").0, 1);
    let (code, told, _) = run(&["no-such-file.yaml", "-"], &good);
    assert!(code == 1 && told.contains("no-such-file.yaml:1:1: error: No such file"), "{told}");
    let (code, told, _) = run(&["-o", "json", "."], b"");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(code == 1 && told["files"].as_array().unwrap().len() > 50);
    let (code, told, _) = run(&["-o", "junit", "-n", "shop", "../lint/../lint/nothing-is-wrong.in.yaml"], b"");
    assert!(code == 0 && told.contains("failures=\"0\""), "{told}");
    let (code, _, warned) = run(&["--ignore", "no-such-rule", "-"], b"");
    assert!(code == 1 && warned.contains("there is no rule no-such-rule"), "{warned}");
    let (code, told, _) = run(&["--rules"], b"");
    assert_eq!((code, told.lines().count()), (0, rule::ALL.len()));
    assert_eq!(run(&[], b"").0, 1);
}

#[test]
fn a_directory_of_kustomize_is_told_to_be_built() {
    let (_, _, warned) = run(&[concat!(env!("CARGO_MANIFEST_DIR"), "/deploy")], b"");
    assert!(warned.contains("kustomize build"), "{warned}");
}

/// Lint of a text that may be anything, in time.
#[expect(clippy::disallowed_methods, reason = "a test of how long it really takes")]
fn ends(bytes: &[u8]) {
    let began = Instant::now();
    let report = of("any.yaml", bytes);
    let _ = (told(&report), sarif::sarif(&report).unwrap(), junit::junit(&report), github::github(&report));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn hostile_texts_end_in_time() {
    let good = std::fs::read_to_string(format!("{FOLDER}/nothing-is-wrong.in.yaml")).unwrap();
    let query =
        |query: &str| good.replace("sum(rate(istio_requests_total", &format!("{query}sum(rate(istio_requests_total"));
    let condition = |condition: &str| good.replace("result[0] >= 0.95", condition);
    let keys: Vec<String> = (0..5_000).map(|at| format!("k{at}: 1")).collect();
    let fields =
        |indent: &str, count: usize| (0..count).map(|at| format!("{indent}k{at}: 1")).collect::<Vec<_>>().join("\n");
    let texts = [
        "[".repeat(1_000_000),
        "{a: ".repeat(300_000),
        "- ".repeat(300_000),
        "a: &a [*a, *a]\n".to_owned(),
        format!("a: &a {{{}}}\nb: [{}]\n", keys.join(", "), "{<<: *a}, ".repeat(5_000)),
        format!("a: \"{}\"\n", "x".repeat(4_000_000)),
        "a: 1\n---\n".repeat(100_000),
        "? ".repeat(100_000),
        "!!binary ".repeat(10_000),
        format!("%TAG ! {}\n---\na: 1\n", "x".repeat(100_000)),
        query(&"(".repeat(8_000)),
        query(&"-".repeat(8_000)),
        query(&"1^".repeat(4_000)),
        query(&"a and ".repeat(1_200)),
        condition(&"(".repeat(1_000)),
        condition(&"!".repeat(1_000)),
        condition(&"[".repeat(1_000)),
        condition(&"a.".repeat(500)),
        condition(&format!("result{}", ".all(x, x".repeat(100))),
        condition(&"(".repeat(1_000_000)),
        good.replace("  replicas: 5", &fields("  ", 100_000)),
        good.replace("  replicas: 5", &fields("  ", 15_000)),
        good.replace("      steps:\n", &format!("      steps:\n{}", "      - setWeight: 120\n".repeat(100_000))),
        good.replace("      steps:\n", &format!("      steps:\n{}", "      - setWeight: 120\n".repeat(6_000))),
        good.replace("    serin.dev/git-commit", &format!("{}\n    serin.dev/git-commit", fields("    ", 15_000))),
        good.replace("  replicas: 5", &format!("  replicas: {}", "x".repeat(1_000_000))),
    ];
    for text in &texts {
        assert_ne!(*text, good);
        ends(text.as_bytes());
    }
}

#[test]
fn many_objects_end_in_time() {
    let good = std::fs::read_to_string(format!("{FOLDER}/nothing-is-wrong.in.yaml")).unwrap();
    let many: Vec<String> = (0..200).map(|at| good.replace("checkout", &format!("checkout-{at}"))).collect();
    ends(many.join("\n---\n").as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        ends(&bytes);
    }

    #[test]
    fn any_text_ends(text in "[ \\n\\t:\\-\\[\\]{}&*!|>'\"%@`#,?a-c0-9~<=.]{0,400}") {
        ends(text.as_bytes());
    }

    /// Manifests with lines that moved, went or came twice, and bytes that changed.
    #[test]
    fn mutated_manifests_end(which in any::<prop::sample::Index>(), edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..6, any::<u8>()), 1..6)) {
        let all = situations();
        let (_, bytes) = which.get(&all);
        let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for (at, edit, byte) in edits {
            let at = at.index(lines.len());
            match edit {
                0 => lines[at].insert(0, b' '),
                1 => { let line = lines[at].clone(); lines.insert(at, line); }
                2 if lines.len() > 1 => { lines.remove(at); }
                3 => { let end = lines[at].len(); lines[at].insert(end / 2, byte); }
                4 => { let line = lines[at].iter().map(|one| if *one == b':' { byte } else { *one }).collect(); lines[at] = line; }
                _ => { let end = lines.len() - 1; lines.swap(at, end); }
            }
        }
        ends(&lines.join(&b'\n'));
    }
}

/// What is told of drift, by the name of the tool; the objects of a situation but its last are in one file, tools in others.
fn drift(files: &[(&str, &str)], built: &[&str]) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{FOLDER}/argo-cd-does-not-ignore-weights.in.yaml")).unwrap();
    let (objects, _) = text.rsplit_once("---\n").unwrap();
    let source =
        |name: &str, text: &str| Source { name: name.to_owned(), bytes: Ok(text.replace("ROUTE", objects).into()) };
    let sources: Vec<Source> = files.iter().map(|(name, text)| source(name, text)).collect();
    let built = built.iter().map(|&folder| folder.to_owned()).collect();
    let report = lint(&sources, &Settings { built, ..Settings::default() });
    let told = report.findings.iter().filter(|one| one.rule.id == "route-drift");
    told.map(|one| {
        (one.object.rsplit('/').next().unwrap().to_owned(), one.message.rsplit("; ").next().unwrap().to_owned())
    })
    .collect()
}

fn application(name: &str, path: &str) -> String {
    format!(
        "---\napiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: argocd}}\nspec:\n  source: {{repoURL: https://git.example/shop, path: {path}, targetRevision: main}}\n  destination: {{namespace: shop}}\n"
    )
}

#[test]
fn drift_is_told_of_the_tool_that_holds_the_route() {
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n";
    let apps = application("one", "apps/orders") + &application("two", "apps/checkout");
    let files = [("apps/checkout/all.yaml", "ROUTE"), ("apps/orders/a.yaml", other), ("argo/apps.yaml", &apps)];
    let surely = "it applies VirtualService checkout: its path apps/checkout has apps/checkout/all.yaml";
    assert_eq!(drift(&files, &[]), [("two".to_owned(), surely.to_owned())]);
    // One whose folder is in the input and has no such file.
    let alone = application("one", "apps/orders");
    let files = [("apps/checkout/all.yaml", "ROUTE"), ("apps/orders/a.yaml", other), ("argo/apps.yaml", &alone)];
    assert_eq!(drift(&files, &[]), []);
    // kustomize may take the file in from there.
    let unknown = "whether it applies VirtualService checkout is not known: nothing in the input says so";
    assert_eq!(drift(&files, &["apps/orders"]), [("one".to_owned(), unknown.to_owned())]);
    // Nothing but names, as in the output of kustomize.
    let apps = application("orders", "apps/orders") + &application("checkout", "apps/x");
    let probably = "it probably applies VirtualService checkout: its name says so";
    assert_eq!(drift(&[("stdin", &format!("ROUTE{apps}"))], &[]), [("checkout".to_owned(), probably.to_owned())]);
    let elsewhere = alone.replace("namespace: shop", "namespace: other");
    assert_eq!(drift(&[("stdin", &format!("ROUTE{elsewhere}"))], &[]), []);
}

#[test]
fn drift_is_told_by_what_a_cluster_records() {
    let tracked = |by: &str| {
        let tracking = format!("annotations: {{argocd.argoproj.io/tracking-id: \"{by}:a\"}}");
        let text = std::fs::read_to_string(format!("{FOLDER}/argo-cd-does-not-ignore-weights.in.yaml")).unwrap();
        let (objects, _) = text.rsplit_once("---\n").unwrap();
        let of_route = "kind: VirtualService\nmetadata:\n";
        let objects = objects.replace(of_route, &format!("{of_route}  {tracking}\n"));
        drift(&[("stdin", &(objects + &application("one", "x")))], &[])
    };
    let surely = "it applies VirtualService checkout: its tracking says so";
    assert_eq!(tracked("argocd_one"), [("one".to_owned(), surely.to_owned())]);
    assert_eq!(tracked("two"), []);
    let listed = |name: &str| {
        let resource = format!("{{kind: VirtualService, name: {name}, namespace: shop}}");
        let app = application("one", "x") + &format!("status: {{resources: [{resource}]}}\n");
        drift(&[("stdin", &format!("ROUTE{app}"))], &[])
    };
    assert_eq!(listed("checkout").len(), 1);
    assert_eq!(listed("orders"), []);
}
