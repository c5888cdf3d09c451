//! The embedded API answers as the real API server did: `UPDATE_EXPECT=1 e2e/run api-conforms` writes the real answers down, this test
//! compares. Differences are listed, each with its reason, in docs/embedded-api.md, and only those are there.

#[path = "conformance/transcript.rs"]
mod transcript;

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::controller::clock;
use serin::embedded::{Cluster, world};

const DOCS: &str = include_str!("../../docs/embedded-api.md");

#[tokio::test(start_paused = true)]
async fn the_embedded_api_answers_as_the_real_one() {
    let mut found = Vec::new();
    for (name, path, scenario) in transcript::scenarios() {
        let cluster = Cluster::new(clock::wall());
        let namespace = "conformance";
        let playing = tokio::spawn(world::run(cluster.clone(), SignedDuration::ZERO));
        let client = cluster.client(namespace);
        let telling = transcript::tell(&client, namespace, &scenario);
        let ours = tokio::time::timeout(Duration::from_mins(1), telling).await.unwrap();
        playing.abort();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let real: Vec<Value> = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(real.len(), ours.len(), "{name}: e2e/run api-conforms writes the answers down");
        for (real, ours) in real.iter().zip(&ours) {
            differ(&format!("{name}/{}", real["step"].as_str().unwrap()), real, ours, &mut found);
        }
    }
    let known = known();
    let unknown: Vec<&String> =
        found.iter().filter(|line| !known.iter().any(|pattern| matches(pattern, line))).collect();
    assert!(unknown.is_empty(), "differences that docs/embedded-api.md does not list:\n{}", lines(&unknown));
    let gone: Vec<&String> = known.iter().filter(|pattern| !found.iter().any(|line| matches(pattern, line))).collect();
    assert!(gone.is_empty(), "docs/embedded-api.md lists what does not differ:\n{}", lines(&gone));
}

fn lines(all: &[&String]) -> String {
    all.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// The patterns of the table: the code in its first column.
fn known() -> Vec<String> {
    DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(one, _)| one.to_owned()).collect()
}

/// Whether a difference is of a pattern: its path, where a star stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let mut rest = line.split_once(": ").map_or(line, |(path, _)| path);
    let mut parts = pattern.split('*');
    let Some(begin) = parts.next().and_then(|first| rest.strip_prefix(first)) else { return false };
    rest = begin;
    let mut last = "";
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    rest.is_empty() || (pattern.ends_with('*') && last.is_empty())
}

/// Every place where two answers differ.
fn differ(path: &str, real: &Value, ours: &Value, found: &mut Vec<String>) {
    match (real, ours) {
        (Value::Object(of_real), Value::Object(of_ours)) => {
            let mut keys: Vec<&String> = of_real.keys().chain(of_ours.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let missing = json!("(none)");
                let of = |fields: &serde_json::Map<String, Value>| fields.get(key).unwrap_or(&missing).clone();
                differ(&format!("{path}/{key}"), &of(of_real), &of(of_ours), found);
            }
        }
        (Value::Array(of_real), Value::Array(of_ours)) if of_real.len() == of_ours.len() => {
            for (at, (real, ours)) in of_real.iter().zip(of_ours).enumerate() {
                differ(&format!("{path}/{at}"), real, ours, found);
            }
        }
        _ if real == ours => {}
        _ => found.push(format!("{path}: real {real}, embedded {ours}")),
    }
}
