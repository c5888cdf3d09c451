//! For code scanning: SARIF 2.1.0.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::lint::rule::{Level, Rule};
use crate::lint::{Finding, Report};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The report as SARIF.
pub fn sarif(report: &Report) -> serde_json::Result<String> {
    let rules: BTreeMap<&str, &'static Rule> = report.findings.iter().map(|one| (one.rule.id, one.rule)).collect();
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(index, id)| (*id, index)).collect();
    let results: Vec<Value> = report.findings.iter().map(|one| result(one, index.get(one.rule.id).copied())).collect();
    let told = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "kubectl-serin lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.values().map(|rule| described(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&told).map(|text| text + "\n")
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    }
}

fn described(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "help": {"text": format!("{} ({})", rule.fix, rule.help()).trim_start()},
        "defaultConfiguration": {"level": level(rule.level)},
    })
}

fn result(finding: &Finding, index: Option<usize>) -> Value {
    let place = &finding.place;
    let mut location = json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(&finding.file)},
        "region": {"startLine": place.line, "startColumn": place.column, "endColumn": place.column + place.length},
    }});
    if let Some(location) = location.as_object_mut().filter(|_| !finding.object.is_empty()) {
        let name = [finding.object.as_str(), finding.path.as_str()].join(" ");
        location.insert("logicalLocations".into(), json!([{"fullyQualifiedName": name.trim(), "kind": "object"}]));
    }
    let mut result = json!({
        "ruleId": finding.rule.id,
        "level": level(finding.level()),
        "message": {"text": finding.told()},
        "locations": [location],
    });
    if let (Some(result), Some(index)) = (result.as_object_mut(), index) {
        result.insert("ruleIndex".into(), json!(index));
    }
    result
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            other => {
                let _ = write!(uri, "%{other:02X}");
            }
        }
    }
    uri
}
