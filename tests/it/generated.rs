//! What is generated or written twice agrees with its source.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize as _;
use serde_json::{Value, json};
use serin::api::{crd, kustomize};
use serin::controller::apply::PERMISSIONS;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn definitions_are_fresh() {
    for definition in crd::definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let fresh = crd::yaml(&definition).unwrap();
        let is_fresh = read(&format!("crds/{name}.yaml")) == fresh;
        assert!(is_fresh, "{name} is old: run `cargo run -- crds --output-dir crds`");
        assert_eq!(serde_yaml::from_str::<Value>(&fresh).unwrap(), definition, "{name} is what is meant");
    }
}

#[test]
fn what_kustomize_reads_is_fresh() {
    let is_fresh = read("deploy/kustomize/openapi.json") == format!("{:#}\n", kustomize::openapi());
    assert!(is_fresh, "run `cargo run -- crds --kustomize-openapi >deploy/kustomize/openapi.json`");
}

#[test]
fn definitions_fit_an_api_server() {
    for definition in crd::definitions() {
        let text = definition.to_string();
        assert!(text.len() < 256 * 1024, "{} bytes", text.len());
        assert!(!text.contains(":null"), "a rule was put where no field is: {}", definition["metadata"]["name"]);
    }
}

#[test]
fn fields_are_in_camel_case() {
    for definition in crd::definitions() {
        let mut wrong = Vec::new();
        find_underscores(&definition["spec"]["versions"][0]["schema"], "", &mut wrong);
        assert_eq!(wrong, Vec::<String>::new(), "{}", definition["metadata"]["name"]);
    }
}

fn find_underscores(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (key, value) in schema.as_object().into_iter().flatten() {
        if key == "properties" {
            let names = value.as_object().into_iter().flat_map(serde_json::Map::keys);
            found.extend(names.filter(|name| name.contains('_')).map(|name| format!("{path}/{name}")));
        }
        find_underscores(value, &format!("{path}/{key}"), found);
    }
}

#[test]
fn no_default_in_a_spec_but_list_map_keys() {
    let definition = crd::definitions().into_iter().find(|one| one["spec"]["names"]["kind"] == "Rollout").unwrap();
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut defaults = Vec::new();
    find_defaults(spec, "", &mut defaults);
    let others: Vec<&String> = defaults.iter().filter(|path| !path.ends_with("/protocol/default")).collect();
    assert_eq!(others, Vec::<&String>::new());
}

fn find_defaults(schema: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(fields) = schema.as_object() {
        for (key, value) in fields {
            if key == "default" && !path.ends_with("/properties") {
                found.push(format!("{path}/default"));
            }
            find_defaults(value, &format!("{path}/{key}"), found);
        }
    }
}

#[test]
fn the_cluster_role_is_what_the_controller_needs() {
    let text = read("deploy/rbac.yaml");
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap()).collect();
    let role = documents.iter().find(|one| one["kind"] == "ClusterRole").unwrap();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut shipped: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                shipped.insert((group.clone(), resource), list(&rule["verbs"]));
            }
        }
    }
    let needed: BTreeMap<(String, String), Vec<String>> = PERMISSIONS
        .iter()
        .map(|(group, resource, verbs)| {
            (((*group).to_owned(), (*resource).to_owned()), verbs.iter().map(|verb| (*verb).to_owned()).collect())
        })
        .collect();
    assert_eq!(shipped, needed);
}

#[test]
fn the_toolchain_is_named_once() {
    let pinned = read("rust-toolchain.toml");
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        pinned.contains(&format!("channel = \"{version}")),
        "rust-toolchain.toml and rust-version name the same Rust"
    );
}

#[test]
fn event_reasons_are_documented() {
    let documented = read("docs/events.md");
    for (reason, meaning) in serin::plan::narrate::REASONS {
        assert!(documented.contains(&format!("| `{reason}` | {meaning} |")), "docs/events.md lacks {reason}");
    }
}

/// Every word that a plan waits with stands in docs/waits.md.
#[test]
fn waits_are_documented() {
    let documented = read("docs/waits.md");
    let openings =
        ["hold(\"", "wait(\"", "wait_until(\"", "reason: \"", "push((\"", "Some((\"", "        \"", "&str = \""];
    let mut found = 0;
    for file in [
        "plan.rs",
        "plan/gate.rs",
        "plan/analysis.rs",
        "plan/template.rs",
        "plan/step.rs",
        "plan/route.rs",
        "plan/traffic.rs",
        "plan/role.rs",
        "plan/workload.rs",
        "plan/snapshot.rs",
        "plan/force.rs",
        "plan/route/port.rs",
    ] {
        for line in read(&format!("src/{file}")).lines() {
            let word = openings.iter().find_map(|opening| line.split_once(opening)?.1.split('"').next());
            let is_reason = |word: &&str| {
                word.len() > 4 && word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphabetic)
            };
            let Some(word) = word.filter(is_reason).filter(|word| *word != "Promote" && !word.starts_with("Steps"))
            else {
                continue;
            };
            found += 1;
            assert!(documented.contains(&format!("`{word}`")), "docs/waits.md lacks {word} of {file}");
        }
    }
    assert!(found > 15, "only {found} words were found: does the test still read the code?");
}

/// The deliberate mistakes still fit the code that they are made in (tests/mutations/run).
#[test]
fn mistakes_can_be_made() {
    let root = env!("CARGO_MANIFEST_DIR");
    for entry in std::fs::read_dir(format!("{root}/tests/mutations")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let mut git = Command::new("git");
            let output = git.args(["apply", "--check"]).arg(&path).current_dir(root).output().unwrap();
            assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// `.krew.yaml` as krew-release-bot fills it in.
fn krew() -> Value {
    let text = read(".krew.yaml");
    let fill = |line: &str| match line.trim().strip_prefix("{{ addURIAndSha \"").and_then(|rest| rest.split('"').next())
    {
        Some(uri) => format!("    uri: {uri}\n    sha256: {}", "0".repeat(64)),
        None => line.to_owned(),
    };
    let text = text.replace("{{ .TagName }}", concat!("v", env!("CARGO_PKG_VERSION")));
    let filled = text.lines().map(fill).collect::<Vec<_>>().join("\n");
    serde_yaml::from_str(&filled).unwrap()
}

#[test]
fn the_krew_manifest_is_one() {
    let krew = krew();
    assert_eq!(krew["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((&krew["kind"], &krew["metadata"]["name"]), (&json!("Plugin"), &json!("serin")));
    assert_eq!(krew["spec"]["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    assert!(krew["spec"]["shortDescription"].as_str().unwrap().len() <= 50);
    // What the plugin itself says needs no cluster.
    let caveats = krew["spec"]["caveats"].as_str().unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_kubectl-serin")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let offline = help.lines().filter(|line| line.ends_with("needs no cluster"));
    let offline: Vec<&str> = offline.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(offline.len() >= 3 && offline.iter().all(|command| caveats.contains(command)), "{offline:?}");
    assert!(caveats.contains("diff between files (--from)"), "diff alone asks the cluster");
    let platforms = krew["spec"]["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 4);
    for platform in platforms {
        let of = |key: &str| platform["selector"]["matchLabels"][key].as_str().unwrap().to_owned();
        let archive = format!("/v{}/kubectl-serin_{}_{}.tar.gz", env!("CARGO_PKG_VERSION"), of("os"), of("arch"));
        assert!(platform["uri"].as_str().unwrap().ends_with(&archive), "{platform}");
        assert_eq!(platform["bin"], "kubectl-serin");
    }
}
