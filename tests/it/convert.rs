//! Conversions: `convert/<situation>.in.yaml` is what a team has, `.out.yaml` what it gets, `.report.txt` what it is told.
//! Every result is checked against the definitions, read as the controller reads it, and simulated.

use std::collections::BTreeSet;

use expect_test::expect_file;
use proptest::prelude::*;
use serde_json::{Value, json};
use serin::convert::report::{Decision, Report};
use serin::convert::table::{Row, pattern};
use serin::convert::yaml::{self, Node};
use serin::convert::{Converted, Source, convert};
use serin::embedded::kind::plural_of;
use serin::lint;
use serin::lint::rule::Level;
use serin::plan::{strategy, template};
use serin::schema;
use serin::schema::check;
use serin::sim::show::Summary;
use serin::sim::verdict::Outcome;
use serin::sim::{self, input, scenario};

fn folder(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The texts of `<stem>.in.yaml`, by stem.
fn situations() -> Vec<(String, String)> {
    let mut stems: Vec<String> = std::fs::read_dir(folder("tests/it/convert"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().path().to_str()?.strip_suffix(".in.yaml")?.to_owned()))
        .collect();
    stems.sort();
    assert!(stems.len() > 5);
    stems.into_iter().map(|stem| (std::fs::read_to_string(format!("{stem}.in.yaml")).unwrap(), stem)).collect()
}

fn converted(text: &str) -> Converted {
    convert(&[Source { name: "manifests.yaml".into(), text: text.into() }]).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn golden_conversions() {
    for (text, stem) in situations() {
        let converted = converted(&text);
        expect_file![format!("{stem}.out.yaml")].assert_eq(&converted.files[0].text);
        expect_file![format!("{stem}.report.txt")].assert_eq(&converted.report.text());
    }
}

/// What a result must be, whatever it came from.
#[test]
fn results_pass_the_definitions_and_are_promoted() {
    for (text, stem) in situations() {
        let converted = converted(&text);
        let again: Vec<Value> = serde_saphyr::from_multiple(&converted.files[0].text).unwrap();
        let again: Vec<Value> = again.into_iter().filter(|value| !value.is_null()).collect();
        assert_eq!(again, converted.objects, "{stem}: the text is not what the objects are");
        let ours = |object: &&Value| object["apiVersion"] == "serin.dev/v1alpha1";
        for object in converted.objects.iter().filter(ours) {
            check_object(&stem, object);
        }
        lints(&stem, &converted);
        let is_rollout = |object: &Value| ours(&object) && object["kind"] == "Rollout";
        if converted.objects.iter().any(is_rollout) {
            simulate(&stem, &converted);
        }
    }
}

fn check_object(stem: &str, object: &Value) {
    let kind = object["kind"].as_str().unwrap();
    let plural = plural_of(kind).unwrap();
    let mut pruned = object.clone();
    assert_eq!(schema::prune(plural, &mut pruned), Vec::<String>::new(), "{stem}: {kind} has unknown fields");
    assert_eq!(check::problems(plural, object, None), [], "{stem}: {kind}");
    match kind {
        "Rollout" => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
            assert_eq!(strategy::parse(namespace, &object["spec"]).faults, [], "{stem}");
        }
        "AnalysisTemplate" | "ClusterAnalysisTemplate" => {
            let reads = template::parse_template(&object["spec"], template::End::Never);
            assert!(reads.is_ok(), "{stem}: {:?}", reads.err());
        }
        _ => {}
    }
}

/// A result has no errors but what stays of another controller's.
fn lints(stem: &str, converted: &Converted) {
    let source = |file: &Source| lint::Source { name: file.name.clone(), bytes: Ok(file.text.clone().into_bytes()) };
    let sources: Vec<lint::Source> = converted.files.iter().map(source).collect();
    let report = lint::lint(&sources, &lint::Settings::default()).without(&["other-controller".to_owned()]);
    let errors: Vec<_> = report.findings.iter().filter(|one| one.level() == Level::Error).collect();
    assert!(errors.is_empty(), "{stem}: {errors:#?}");
}

fn simulate(stem: &str, converted: &Converted) {
    let mut good = scenario::built_in("good").unwrap().unwrap();
    good.promote_after = Some(serin::api::duration::DurationText::Seconds(600));
    let texts: Vec<(String, String)> =
        converted.files.iter().map(|file| (file.name.clone(), without_foreign_rollouts(&file.text))).collect();
    let mut input = input::read(&texts, "default").unwrap();
    // A Deployment that is elsewhere brings its template there.
    let is_whole = |rollout: &Value| rollout["spec"]["workloadRef"].is_null();
    for at in (0..input.rollouts.len()).filter(|at| is_whole(&input.rollouts[*at])).collect::<Vec<_>>() {
        let story = input.story(at, &good, 0).unwrap();
        let summary = Summary::of(&story, "good", &sim::run(&story).unwrap());
        assert_eq!(summary.outcome, Outcome::Promoted, "{stem}: {}", summary.message);
        assert_eq!(summary.broken, Vec::<String>::new(), "{stem}");
    }
}

/// A Rollout that stays Argo's is not Serin's to simulate.
fn without_foreign_rollouts(text: &str) -> String {
    let kept =
        text.split("---\n").filter(|document| !document.contains("apiVersion: argoproj.io/v1alpha1\nkind: Rollout"));
    kept.collect::<Vec<_>>().join("---\n")
}

/// The patterns of all paths that the reports of the goldens tell of.
fn told() -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for (text, _) in situations() {
        for line in converted(&text).report.objects.iter().flat_map(|object| &object.fields) {
            let path = pattern(&line.path);
            // A field that is told of whole is told of with its members.
            told.insert(path);
        }
    }
    told
}

/// For each peer the file of its documented fields, and the tables of decisions.
fn peers() -> [(&'static str, Vec<&'static [Row]>); 2] {
    use serin::convert::{argo::fields as argo, flagger::fields as flagger};
    [
        ("argo", vec![argo::OBJECT, argo::ROLLOUT, argo::ROUTING, argo::STEPS, argo::TEMPLATE]),
        (
            "flagger",
            vec![
                flagger::OBJECT,
                flagger::CANARY,
                flagger::SERVICE,
                flagger::ANALYSIS,
                flagger::TEMPLATE,
                flagger::ALERTS,
            ],
        ),
    ]
}

#[test]
fn every_documented_field_has_a_decision_and_a_golden() {
    let told = told();
    for (peer, rows) in peers() {
        let known: BTreeSet<&str> = rows.iter().copied().flatten().map(|row| row.path).collect();
        let written = std::fs::read_to_string(folder(&format!("tests/it/convert/{peer}-fields.txt"))).unwrap();
        let documented: Vec<&str> = written.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(documented.len() > 50, "{peer}");
        let undecided: Vec<&&str> = documented.iter().filter(|path| !known.contains(**path)).collect();
        assert_eq!(undecided, Vec::<&&str>::new(), "{peer}: no decision");
        let is_shown = |path: &str| {
            told.iter()
                .any(|told| told == path || told.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])))
        };
        let unshown: Vec<&&str> = documented.iter().filter(|path| !is_shown(path)).collect();
        assert_eq!(unshown, Vec::<&&str>::new(), "{peer}: no golden");
    }
}

#[test]
fn what_is_not_ours_passes_byte_for_byte() {
    let mut texts = 0;
    for entry in std::fs::read_dir(folder("examples")).unwrap() {
        let path = entry.unwrap().path().join("rollout.yaml");
        if let Ok(text) = std::fs::read_to_string(path) {
            assert_eq!(converted(&text).files[0].text, text);
            texts += 1;
        }
    }
    assert!(texts >= 5);
    let odd = "# only a comment\n---   # and another\na: &a {b:   [1,2] }\nc: *a\n...\n---\n\n'x':   |+\n  text\n\n";
    assert_eq!(converted(odd).files[0].text, odd);
}

/// Well-formed files are written again as they were, comments and blank lines among them.
#[test]
fn a_tree_is_written_as_it_was_read() {
    let mut texts = 0;
    for dir in ["examples", "deploy", "crds", "tests/it/convert"] {
        for path in yaml_files(&folder(dir)) {
            let text = std::fs::read_to_string(&path).unwrap();
            let is_more = |document: &&str| document.lines().any(|line| !line.starts_with('#') && !line.is_empty());
            for document in text.split("---\n").filter(is_more) {
                let node = yaml::read(document).unwrap_or_else(|fault| panic!("{path}: {fault}"));
                let written = yaml::document(&node);
                assert_eq!(yaml::read(&written).unwrap().value(), node.value(), "{path}");
                if !dir.starts_with("crds") && !is_written_otherwise(document) {
                    assert_eq!(written, document, "{path}");
                }
                texts += 1;
            }
        }
    }
    assert!(texts > 30);
}

/// Braces over several lines are written as blocks, and aliases are written out.
fn is_written_otherwise(text: &str) -> bool {
    text.contains(": *") || text.lines().any(|line| line.trim_end().ends_with(['{', '[']) || line.len() > 140)
}

fn yaml_files(dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(yaml_files(path.to_str().unwrap()));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn comments_stay_with_what_they_speak_of() {
    let text = "\
# the shop
apiVersion: argoproj.io/v1alpha1 # was
kind: Rollout
metadata: {name: a}

spec: # all of it
  # five of them
  replicas: 5 # for now

  # gone
  analysis:
    # how many
    successfulRunHistoryLimit: 3
  strategy:
    canary:
      steps:
      # carefully
      - setWeight: 5 # percent
      # then wait
      - pause: {}
      # the end of the steps
# the end
";
    let written = converted(text).files[0].text.clone();
    let expected = "\
# the shop
apiVersion: serin.dev/v1alpha1 # was
kind: Rollout
metadata: {name: a}

spec: # all of it
  # five of them
  replicas: 5 # for now
  # as Argo Rollouts does; without this line a canary whose pods do not come is aborted
  progressDeadlineAbort: false
  # gone
  # how many
  # left out: successfulRunHistoryLimit: there are no AnalysisRun objects; measurements are in the Rollout's status
  strategy:
    canary:
      steps:
      # carefully
      - setWeight: 5 # percent
      # then wait
      - pause: {}
      # the end of the steps
# the end
";
    assert_eq!(written, expected);
}

#[test]
fn unreadable_text_is_told_with_its_file_and_line() {
    let told = |text: &str| convert(&[Source { name: "a.yaml".into(), text: text.into() }]).unwrap_err().to_string();
    assert!(told("a: 1\n---\nb: [\n").starts_with("a.yaml: line "), "{}", told("a: 1\n---\nb: [\n"));
    assert_eq!(told("a: 1\n---\nb: 1\nb: 2\n"), "a.yaml: line 4: b is given twice");
    assert!(told("a: !secret x\n").contains("tags"));
}

#[test]
fn reports_say_the_same_in_every_form() {
    for (text, stem) in situations() {
        let report: Report = converted(&text).report;
        let fields: usize = report.objects.iter().map(|object| object.fields.len()).sum();
        let json = report.json();
        let sum = ["kept", "translated", "notSupported"].map(|key| json["summary"][key].as_u64().unwrap());
        assert_eq!(sum.iter().sum::<u64>(), fields as u64, "{stem}");
        assert_eq!(json["summary"]["lost"], json!(report.lost()), "{stem}");
        let markdown = report.markdown();
        assert_eq!(markdown.lines().filter(|line| line.starts_with("| `")).count(), fields, "{stem}");
        for line in report.objects.iter().flat_map(|object| &object.fields) {
            assert!(
                line.decision != Decision::NotSupported || !line.note.is_empty(),
                "{stem}: {} says no reason",
                line.path
            );
        }
    }
}

/// Runs the plugin with a text on its stdin: exit code, standard output, standard error.
fn run(arguments: &[&str], text: &str) -> (i32, String, String) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-serin"))
        .arg("convert")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_tells_by_its_exit_code_what_is_lost() {
    let read = |name: &str| std::fs::read_to_string(folder(&format!("tests/it/convert/{name}"))).unwrap();
    let whole = read("argo-routes-in-git.in.yaml");
    let (code, out, told) = run(&["-f", "-"], &whole);
    assert_eq!((code, out.as_str()), (0, read("argo-routes-in-git.out.yaml").as_str()));
    assert_eq!(told, read("argo-routes-in-git.report.txt").replace("manifests.yaml", "stdin"));

    let lossy = read("argo-every-metric-field.in.yaml");
    assert_eq!(run(&["-f", "-"], &lossy).0, 1);
    assert_eq!(run(&["-f", "-", "--force"], &lossy).0, 0);
    let (code, out, told) = run(&["-f", "-", "-o", "json", "--report", "none"], &whole);
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, list["items"].as_array().unwrap().len(), told.as_str()), (0, 7, ""));
    let (code, out, told) = run(&["-f", "-"], "a: [");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(told.starts_with("error: stdin: line 1"), "{told}");
}

#[test]
fn a_folder_becomes_a_folder() {
    let root = std::env::temp_dir().join(format!("serin-convert-{}", std::process::id()));
    let (input, output) = (root.join("in"), root.join("out"));
    std::fs::create_dir_all(input.join("app")).unwrap();
    let text = std::fs::read_to_string(folder("tests/it/convert/argo-workload-ref.in.yaml")).unwrap();
    let (deployment, others) = text.split_once("---\n").unwrap();
    std::fs::write(input.join("app/deployment.yaml"), deployment).unwrap();
    std::fs::write(input.join("rollout.yml"), others).unwrap();
    std::fs::write(input.join("README.md"), "not a manifest: [").unwrap();
    let paths = [input.to_str().unwrap(), output.to_str().unwrap()];
    let (code, out, told) = run(&["-f", paths[0], "--output-dir", paths[1], "--report", "json"], "");
    assert_eq!((code, out.as_str()), (0, ""), "{told}");
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(report["objects"][0]["file"], "rollout.yml");
    assert!(std::fs::read_to_string(output.join("rollout.yml")).unwrap().contains("the chart of the vendor"));
    assert_eq!(std::fs::read_to_string(output.join("app/deployment.yaml")).unwrap(), deployment);
    std::fs::remove_dir_all(root).unwrap();
}

/// Any value, as YAML may hold it.
fn any_value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("name"),
        Just("kind"),
        Just("Rollout"),
        Just("Canary"),
        Just("AnalysisTemplate"),
        Just("argoproj.io/v1alpha1"),
        Just("flagger.app/v1beta1"),
        Just("apiVersion"),
        Just("strategy"),
        Just("canary"),
        Just("steps"),
        Just("analysis"),
        Just("metrics"),
        Just("service"),
        Just("provider"),
        Just("prometheus"),
        Just("templates"),
        Just("args"),
        Just("trafficRouting"),
        Just("istio"),
        Just("stepWeight"),
        Just("5"),
        Just("a: b"),
        Just(""),
        Just("# no comment"),
        Just("line\nline\n"),
        Just("{{args.x}}"),
        Just("result[0] >= 1"),
        Just("1.5h"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_converted_or_refused(text in "[-a-z:# \\n\\[\\]{}\"'|>&*!%0-9,.]{0,120}") {
        let _ = convert(&[Source { name: "any".into(), text }]);
    }

    #[test]
    fn any_value_survives_the_way_through_text(value in any_value()) {
        let written = yaml::document(&Node::from(json!({"value": value})));
        let again = yaml::read(&written).unwrap_or_else(|fault| panic!("{fault}\n{written}"));
        prop_assert_eq!(again.value(), json!({"value": value}), "{}", written);
    }

    #[test]
    fn any_object_is_converted(kind in 0..4_usize, spec in any_value()) {
        let (version, kind) = [
            ("argoproj.io/v1alpha1", "Rollout"), ("argoproj.io/v1alpha1", "AnalysisTemplate"),
            ("flagger.app/v1beta1", "Canary"), ("flagger.app/v1beta1", "MetricTemplate"),
        ][kind];
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
        let converted = converted(&yaml::document(&Node::from(object)));
        let again = yaml::read(converted.files[0].text.split("---\n").next().unwrap());
        prop_assert!(again.is_ok(), "{}", converted.files[0].text);
    }

    #[test]
    fn any_mixture_of_known_fields_is_converted(cuts in prop::collection::vec(0..400_usize, 0..12), which in 0..20_usize) {
        let situations = situations();
        let (text, stem) = &situations[which % situations.len()];
        let mut lines: Vec<&str> = text.lines().collect();
        for cut in cuts {
            let at = cut % lines.len().max(1);
            if at < lines.len() {
                lines.remove(at);
            }
        }
        let Ok(converted) = convert(&[Source { name: stem.clone(), text: lines.join("\n") + "\n" }]) else { return Ok(()) };
        let again: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&converted.files[0].text);
        prop_assert!(again.is_ok(), "{:?}\n{}", again.err(), converted.files[0].text);
    }
}
