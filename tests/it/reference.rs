//! docs/reference/ is written from the definitions and from the binaries' own help: `UPDATE_EXPECT=1 cargo test reference`.

use std::fmt::Write as _;
use std::process::Command;

use expect_test::expect_file;
use serde_json::Value;
use serin::api::crd;

const MADE: &str = "<!-- Written by `UPDATE_EXPECT=1 cargo test reference`. -->\n\n";

fn check(name: &str, text: &str) {
    let path = format!("{}/docs/reference/{name}.md", env!("CARGO_MANIFEST_DIR"));
    expect_file![path].assert_eq(text);
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    let outside =
        |(index, part): (usize, &str)| if index % 2 == 0 { part.replace('<', "&lt;") } else { part.to_owned() };
    let escaped: Vec<String> = text.split('`').enumerate().map(outside).collect();
    escaped.join("`").replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or_default()
}

/// What a value is.
fn kind(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "integer or text".to_owned();
    }
    match text(schema, "type") {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", kind(&schema["additionalProperties"]))
        }
        "string" if text(schema, "format") == "date-time" => "time".to_owned(),
        "string" => "text".to_owned(),
        "" => "any".to_owned(),
        other => other.to_owned(),
    }
}

/// What bounds a value, and its default.
fn bounds(schema: &Value, is_required: bool) -> String {
    let mut told: Vec<String> = is_required.then(|| "required".to_owned()).into_iter().collect();
    if let Some(values) = schema["enum"].as_array() {
        let values =
            values.iter().map(|value| format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        told.push(values.collect::<Vec<_>>().join(", "));
    }
    let named = [
        ("minimum", "at least "),
        ("maximum", "at most "),
        ("minLength", "characters at least "),
        ("maxLength", "characters at most "),
        ("minItems", "entries at least "),
        ("maxItems", "entries at most "),
        ("maxProperties", "entries at most "),
    ];
    let number = |value: &Value| value.as_f64().map_or_else(String::new, |number| number.to_string());
    told.extend(
        named
            .iter()
            .filter(|(key, _)| !schema[*key].is_null())
            .map(|(key, words)| format!("{words}{}", number(&schema[*key]))),
    );
    if let Some(pattern) = schema["pattern"].as_str() {
        told.push(format!("`{pattern}`"));
    }
    if !schema["default"].is_null() {
        told.push(format!("default `{}`", schema["default"]));
    }
    told.join("; ")
}

/// Why a field is refused that is kept only to say so.
fn refusal(parent: &Value, name: &str) -> Option<String> {
    let rules = parent["x-kubernetes-validations"].as_array()?;
    let rule = rules.iter().find(|rule| text(rule, "rule") == format!("!has(self.{name})"))?;
    Some(format!("Refused: {}.", text(rule, "message")))
}

/// The schema of a list's entries, of a map's values, or the schema itself, and what its path has then.
fn inner(schema: &Value) -> (&Value, &'static str) {
    if schema["items"].is_object() {
        let (found, more) = inner(&schema["items"]);
        return (found, if more.is_empty() { "[]" } else { "[].*" });
    }
    if schema["additionalProperties"].is_object() {
        return (&schema["additionalProperties"], ".*");
    }
    (schema, "")
}

/// The page of an object and of all that is in it, but of the pod template, which is Kubernetes' own.
fn object(path: &str, schema: &Value, out: &mut String) {
    writeln!(out, "\n## {path}\n").unwrap();
    let told = text(schema, "description");
    if !told.is_empty() {
        writeln!(out, "{}\n", cell(told)).unwrap();
    }
    writeln!(out, "| field | type | bounds | meaning |\n|---|---|---|---|").unwrap();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut within = Vec::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let (deeper, more) = inner(field);
        let own = format!("{path}.{name}{more}");
        let is_template = own == "spec.template";
        let has_page = deeper["properties"].as_object().is_some_and(|fields| !fields.is_empty()) && !is_template;
        let shown = if has_page { format!("[`{name}`](#{})", anchor(&own)) } else { format!("`{name}`") };
        let mut meaning = refusal(schema, name).unwrap_or_else(|| cell(text(field, "description")));
        if is_template {
            meaning.push_str(" Its fields are those of Kubernetes' PodTemplateSpec.");
        }
        let bounds = cell(&bounds(field, required.contains(&name.as_str())));
        writeln!(out, "| {shown} | {} | {bounds} | {meaning} |", kind(field)).unwrap();
        if has_page {
            within.push((own, deeper));
        }
    }
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let rules: Vec<&str> = rules
        .filter(|rule| !text(rule, "rule").starts_with("!has(self.") || text(rule, "rule").contains("||"))
        .map(|rule| text(rule, "message"))
        .collect();
    if !rules.is_empty() {
        let listed: Vec<String> = rules.iter().map(|rule| format!("- {}", cell(rule))).collect();
        writeln!(out, "\nRefused with these messages:\n\n{}", listed.join("\n")).unwrap();
    }
    for (path, schema) in within {
        object(&path, schema, out);
    }
}

fn anchor(path: &str) -> String {
    path.to_lowercase().replace(|char: char| !char.is_alphanumeric(), "")
}

#[test]
fn definitions() {
    let mut list = String::new();
    for definition in crd::definitions() {
        let spec = &definition["spec"];
        let version = &spec["versions"][0];
        let (kind, plural) = (text(&spec["names"], "kind"), text(&spec["names"], "plural"));
        let scope = if spec["scope"] == "Cluster" { "of the cluster" } else { "of a namespace" };
        let short: Vec<String> = spec["names"]["shortNames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|name| format!(", `{name}`"))
            .collect();
        let root = &version["schema"]["openAPIV3Schema"];
        let told = cell(text(&root["properties"]["spec"], "description"));
        let mut page = format!(
            "{MADE}# {kind}\n\n`apiVersion: {}/{}`, {scope}; for kubectl `{plural}`{}.\n",
            text(spec, "group"),
            text(version, "name"),
            short.concat(),
        );
        for part in ["spec", "status"] {
            let schema = &root["properties"][part];
            if schema["properties"].is_object() {
                object(part, schema, &mut page);
            }
        }
        check(&kind.to_lowercase(), &page);
        writeln!(list, "- [{kind}]({}.md), {scope}: {}", kind.to_lowercase(), told).unwrap();
    }
    let about =
        "Every field of every kind, and every flag of every command, as the definitions and the binaries have them.";
    let rest = "- [kubectl serin](kubectl-serin.md): the plugin's commands.\n- [serin](serin.md): the controller's flags, and what needs no cluster.\n";
    check("README", &format!("{MADE}# Reference\n\n{about}\n\n{list}{rest}"));
}

fn help(binary: &str, arguments: &[&str]) -> String {
    let output = Command::new(binary).args(arguments).arg("--help").env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    let lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// The names of the commands that a help lists.
fn named(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

fn commands(title: &str, binary: &str, path: &[&str], out: &mut String) {
    let text = help(binary, path);
    let heading: Vec<&str> = [title].into_iter().chain(path.iter().copied()).collect();
    let level = if path.is_empty() { "#" } else { "##" };
    write!(out, "{level} {}\n\n```text\n{text}\n```\n", heading.join(" ")).unwrap();
    for name in named(&text) {
        let deeper: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        out.push('\n');
        commands(title, binary, &deeper, out);
    }
}

#[test]
fn command_lines() {
    for (title, name, binary) in [
        ("kubectl serin", "kubectl-serin", env!("CARGO_BIN_EXE_kubectl-serin")),
        ("serin", "serin", env!("CARGO_BIN_EXE_serin")),
    ] {
        let mut page = MADE.to_owned();
        commands(title, binary, &[], &mut page);
        assert!(page.matches("\n## ").count() >= 5);
        check(name, &page);
    }
}
