//! The chart agrees with the code: its version, its rules, its queries, its values on their page. Helm itself renders and
//! installs it in `e2e/helm`, which compares `deploy/` with it, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use expect_test::expect_file;
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};
use serde::Deserialize as _;
use serde_json::Value;
use serin::api::crd;
use serin::api::status::RolloutStatus;
use serin::controller::apply::PERMISSIONS;
use serin::controller::telemetry::Metrics;

/// What a scrape adds.
const OF_THE_TARGET: &[&str] = &["namespace", "pod", "job", "instance", "container", "service", "endpoint"];
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/install.md");

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(path: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&read(path)).map(|one| Value::deserialize(one).unwrap()).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// Rules as `PERMISSIONS` has them.
fn permissions(rules: &Value) -> BTreeMap<(String, String), Vec<String>> {
    let mut found = BTreeMap::new();
    for rule in rules.as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let before = found.insert((group.clone(), resource.clone()), texts(&rule["verbs"]));
                assert_eq!(before, None, "{resource} is there twice");
            }
        }
    }
    found
}

#[test]
fn the_version_is_that_of_the_package() {
    let chart = &documents("charts/serin/Chart.yaml")[0];
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    let deployment = &documents("deploy/deployment.yaml")[0];
    let image = deployment.pointer("/spec/template/spec/containers/0/image").unwrap();
    assert_eq!(image, concat!("serin:", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_rules_are_what_the_controller_needs() {
    let (of_cluster, of_namespaces) =
        (documents("charts/serin/files/rules/cluster.yaml"), documents("charts/serin/files/rules/namespaced.yaml"));
    let of_cluster = permissions(&of_cluster[0]);
    let mut all = permissions(&of_namespaces[0]);
    all.extend(permissions(&documents("charts/serin/files/rules/jobs.yaml")[0]));
    // A Role gives nothing of the cluster's kinds, and only rights that a Role gives may be left out of a ClusterRole.
    let plurals = crd::definitions()
        .into_iter()
        .filter(|one| one["spec"]["scope"] == "Cluster")
        .map(|one| one["spec"]["names"]["plural"].as_str().unwrap().to_owned());
    assert_eq!(of_cluster.keys().map(|(_, resource)| resource.clone()).collect::<BTreeSet<_>>(), plurals.collect());
    all.extend(of_cluster);
    let needed = PERMISSIONS.iter().map(|(group, resource, verbs)| {
        (((*group).to_owned(), (*resource).to_owned()), verbs.iter().map(|verb| (*verb).to_owned()).collect())
    });
    assert_eq!(all, needed.collect());
}

#[test]
fn people_read_every_kind_and_write_no_status() {
    let roles = documents("deploy/user-roles.yaml");
    let (view, edit) = (permissions(&roles[0]["rules"]), permissions(&roles[1]["rules"]));
    for definition in crd::definitions() {
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap().to_owned();
        assert!(view.contains_key(&("serin.dev".to_owned(), plural.clone())), "nobody may look at {plural}");
    }
    for ((group, resource), verbs) in &view {
        assert_eq!((group.as_str(), verbs.join(" ").as_str()), ("serin.dev", "get list watch"), "{resource}");
    }
    for (group, resource) in view.keys().chain(edit.keys()) {
        assert_eq!(group, "serin.dev");
        assert!(!resource.contains('*') && !resource.ends_with("/status"), "{resource}");
    }
    let actions = &edit[&("serin.dev".to_owned(), "rolloutactions".to_owned())];
    assert!(!actions.iter().any(|verb| verb == "update" || verb == "patch"), "an action is written once");
}

#[test]
fn definitions_are_those_of_the_repository() {
    for definition in crd::definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let linked = read(&format!("charts/serin/files/crds/{name}.yaml"));
        assert_eq!(linked, read(&format!("crds/{name}.yaml")));
        // The chart puts its labels and annotations there.
        assert_eq!(linked.matches("\nmetadata:\n").count(), 1, "{name}");
    }
}

/// The statuses of tests/it/exported.yaml, which have something of everything that is exported.
fn status_of(name: &str) -> RolloutStatus {
    let all: Value = serde_yaml::from_str(&read("tests/it/exported.yaml")).unwrap();
    serde_json::from_value(all[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every metric with its labels, as it is exported.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::default();
    metrics.pass("ok", 0.01);
    metrics.waited(0.01);
    metrics.request(("pods", "patch"), "ok", 0.01);
    metrics.query(true, 0.01);
    metrics.spans("sent", 1);
    metrics.wrote(&status_of("before"), &status_of("after"));
    metrics.phase(None, Some("Healthy"));
    metrics.event_dropped();
    metrics.notified("slack", "sent");
    let rollouts = ["canary", "after"].map(|name| {
        let metadata = serde_json::json!({"name": name, "namespace": "shop"});
        let rollout = serde_json::json!({"metadata": metadata, "status": status_of(name)});
        Arc::new(serde_json::from_value(rollout).unwrap())
    });
    metrics.find_rollouts(move || rollouts.to_vec());
    metrics.leads(true);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        found.entry(name.to_owned()).or_default().extend(labels);
    }
    found
}

/// The queries of the alerts and of the dashboard.
fn queries() -> Vec<String> {
    let alerts = &documents("charts/serin/files/alerts.yaml")[0];
    let rules = alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let mut queries: Vec<String> = rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    let dashboard: Value = serde_json::from_str(&read("charts/serin/files/dashboard.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let asked = panel["targets"].as_array().unwrap().iter().map(|one| one["expr"].as_str().unwrap().to_owned());
        queries.extend(asked);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let asked = variable["query"].as_str().and_then(|query| query.strip_prefix("label_values("));
        queries.extend(asked.and_then(|rest| rest.split(',').next()).map(str::to_owned));
    }
    queries
}

fn inner(expression: &Expr) -> Vec<&Expr> {
    match expression {
        Expr::Subquery(one) => vec![&one.expr],
        Expr::Aggregate(one) => one.param.iter().chain([&one.expr]).map(|inner| &**inner).collect(),
        Expr::Unary(one) => vec![&one.expr],
        Expr::Binary(one) => vec![&one.lhs, &one.rhs],
        Expr::Paren(one) => vec![&one.expr],
        Expr::Call(one) => one.args.args.iter().map(|inner| &**inner).collect(),
        Expr::MatrixSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::Extension(_) => Vec::new(),
    }
}

fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    match expression {
        Expr::VectorSelector(one) => vec![one],
        Expr::MatrixSelector(one) => vec![&one.vs],
        Expr::Subquery(_)
        | Expr::Aggregate(_)
        | Expr::Unary(_)
        | Expr::Binary(_)
        | Expr::Paren(_)
        | Expr::Call(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::Extension(_) => inner(expression).into_iter().flat_map(selectors).collect(),
    }
}

/// What is wrong with a query, given what is exported, and the code that fills the labels in.
fn faults(query: &str, exported: &BTreeMap<String, BTreeSet<String>>, code: &str) -> Vec<String> {
    let expression = parser::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut found = Vec::new();
    for selector in selectors(&expression) {
        let name = selector.name.clone().unwrap_or_default();
        let Some(labels) = exported.get(&name) else {
            found.push(format!("{name} is not exported"));
            continue;
        };
        for Matcher { op, name: label, value } in &selector.matchers.matchers {
            if OF_THE_TARGET.contains(&label.as_str()) {
                continue;
            }
            if !labels.contains(label) {
                found.push(format!("{name} has no label {label}"));
            }
            let is_pattern = matches!(op, MatchOp::Re(_) | MatchOp::NotRe(_));
            let values: Vec<&str> = if is_pattern { value.split('|').collect() } else { vec![value] };
            // What somebody chose at the top of the dashboard is any.
            let written = values.into_iter().filter(|value| !value.starts_with('$'));
            let unknown = written.filter(|value| !code.contains(&format!("\"{value}\"")));
            found.extend(unknown.map(|value| format!("{label} of {name} is never {value}")));
        }
    }
    found.extend(unknown_groups(&expression, exported));
    found
}

/// The labels that are grouped by and that nothing inside has.
fn unknown_groups(expression: &Expr, exported: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found: Vec<String> =
        inner(expression).into_iter().flat_map(|inner| unknown_groups(inner, exported)).collect();
    if let Expr::Aggregate(aggregate) = expression {
        let inside: Vec<&VectorSelector> = selectors(expression);
        let known = inside.iter().filter_map(|one| exported.get(one.name.as_deref()?)).flatten().map(String::as_str);
        let known: BTreeSet<&str> = known.chain(OF_THE_TARGET.iter().copied()).collect();
        let grouped = aggregate.modifier.iter().flat_map(|modifier| &modifier.labels().labels);
        found.extend(grouped.filter(|label| !known.contains(label.as_str())).map(|label| format!("by {label}")));
    }
    found
}

#[test]
fn alerts_and_dashboard_ask_for_what_is_exported() {
    let exported = exported();
    let code: String =
        ["error.rs", "reconcile.rs", "telemetry.rs", "telemetry/rollouts.rs", "trace/export.rs", "notify/report.rs"]
            .map(|file| read(&format!("src/controller/{file}")))
            .concat();
    let queries = queries();
    for query in &queries {
        assert_eq!(faults(query, &exported, &code), Vec::<String>::new(), "{query}");
    }
    // Nothing that is exported is shown nowhere.
    let shown = queries.concat();
    for name in exported.keys().filter(|name| !name.ends_with("_sum") && !name.ends_with("_count")) {
        assert!(shown.contains(name), "neither an alert nor the dashboard asks for {name}");
    }
    let wrong = "sum by (reason) (serin_passes_total{outcom=\"ok\"}) + serin_x + serin_queries_total{outcome=\"eror\"}";
    let told = [
        "serin_passes_total has no label outcom",
        "serin_x is not exported",
        "outcome of serin_queries_total is never eror",
        "by reason",
    ];
    assert_eq!(faults(wrong, &exported, &code), told);
}

/// One row a value: its path, its default, the comment above it.
fn value_rows() -> String {
    let text = read("charts/serin/values.yaml");
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let mut rows = vec!["| value | default | meaning |".to_owned(), "|---|---|---|".to_owned()];
    let (mut group, mut meaning) = ("", Vec::new());
    for line in text.lines() {
        let content = line.trim_start();
        if let Some(comment) = content.strip_prefix("# ") {
            meaning.push(comment);
            continue;
        }
        let is_inner = line.starts_with("  ");
        let key = content.split_once(':').map(|(key, _)| key).filter(|_| !content.starts_with('-'));
        match key {
            Some(key) if meaning.is_empty() && !is_inner => group = key,
            Some(key) if !meaning.is_empty() => {
                let path = if is_inner { format!("/{group}/{key}") } else { format!("/{key}") };
                let default = values.pointer(&path).unwrap_or_else(|| panic!("{path} is not there"));
                let path = path.trim_start_matches('/').replace('/', ".");
                rows.push(format!("| `{path}` | `{default}` | {} |", meaning.join(" ").replace('|', "\\|")));
            }
            _ => {}
        }
        meaning.clear();
    }
    rows.join("\n") + "\n"
}

/// Every leaf of the values has a row, for which it needs a comment.
#[test]
fn every_value_is_documented() {
    let rows = value_rows();
    let values: Value = serde_yaml::from_str(&read("charts/serin/values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("charts/serin/values.schema.json")).unwrap();
    for (key, value) in values.as_object().unwrap() {
        let is_row = |path: &str| rows.contains(&format!("| `{path}` |"));
        let of_schema = &schema["properties"][key];
        assert!(of_schema.is_object(), "values.schema.json lacks {key}");
        if is_row(key) {
            continue;
        }
        assert_eq!(of_schema["additionalProperties"], false, "{key}");
        for inner in value.as_object().unwrap().keys() {
            assert!(is_row(&format!("{key}.{inner}")), "values.yaml does not say what {key}.{inner} is");
            assert!(of_schema["properties"][inner].is_object(), "values.schema.json lacks {key}.{inner}");
        }
    }
    assert_eq!(schema["additionalProperties"], false);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once("| value | default | meaning |\n").unwrap();
    let after: Vec<&str> = rest.lines().skip_while(|line| line.starts_with('|')).collect();
    expect_file![PAGE].assert_eq(&format!("{before}{rows}{}\n", after.join("\n")));
}

/// The page has a reason for every rule.
#[test]
fn every_rule_is_documented() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    for (group, resource, verbs) in PERMISSIONS {
        let group = if group.is_empty() { "core" } else { group };
        let row = format!("| {group} | `{resource}` | {} | ", verbs.join(", "));
        assert!(page.contains(&row), "docs/install.md lacks the row {row:?}");
    }
}

/// So has the other page for every alert, and for every metric with its labels.
#[test]
fn every_alert_and_every_metric_is_documented() {
    let page = read("docs/observability.md");
    let alerts = &documents("charts/serin/files/alerts.yaml")[0];
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        let row =
            format!("| `{}` | {} |", rule["alert"].as_str().unwrap(), rule["labels"]["severity"].as_str().unwrap());
        assert!(page.contains(&row), "docs/observability.md lacks the row {row:?}");
    }
    for (name, labels) in exported() {
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
        let row = page.lines().find(|line| line.starts_with("| `serin_") && line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("docs/observability.md lacks {name}"));
        for label in labels.iter().filter(|label| !["rollout", "rollout_namespace", "le"].contains(&label.as_str())) {
            assert!(row.contains(&format!("`{label}`")), "docs/observability.md lacks the label {label} of {name}");
        }
    }
}

#[test]
fn the_image_is_built_with_the_same_rust() {
    assert!(read("Dockerfile").contains(&format!("FROM rust:{}", env!("CARGO_PKG_RUST_VERSION"))));
}
