//! Tells a scenario's requests to an API server through the real client, and writes its answers down so that two
//! servers' answers can be compared: what is each server's own (uids, versions, times) is numbered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// How long a server may take for what it does by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests, one after the other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Words that the steps' texts may use in braces, beside `{namespace}`.
    #[serde(default, rename = "let")]
    words: BTreeMap<String, String>,
    /// Objects that the steps' bodies may name.
    #[serde(default)]
    objects: BTreeMap<String, Value>,
    steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// What its answer is called: `{name:/metadata/uid}` in later steps is a part of it.
    name: String,
    /// Method and URL.
    #[serde(default)]
    send: String,
    /// Content type of the body: merge, json, apply, or as it is.
    #[serde(default, rename = "type")]
    content_type: Option<String>,
    /// The body; a text names one of the objects.
    #[serde(default)]
    body: Option<Value>,
    /// Changes of the body by JSON pointer; null removes.
    #[serde(default)]
    with: BTreeMap<String, Value>,
    /// The body as a text that need not be JSON.
    #[serde(default)]
    raw: Option<String>,
    /// Asks again until the answer has these values, by JSON pointer; `/code` is the HTTP status.
    #[serde(default)]
    until: BTreeMap<String, Value>,
    /// A watch: reads so many events, or to its end.
    #[serde(default)]
    events: Option<usize>,
}

/// All scenarios, by name.
pub fn scenarios() -> Vec<(String, PathBuf, Scenario)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/conformance");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".requests.yaml"));
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().replace(".requests.yaml", "");
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (
            name,
            path.with_file_name(path.file_name().unwrap().to_string_lossy().replace("requests", "answers")),
            scenario,
        )
    };
    paths.into_iter().map(read).collect()
}

/// The answers to a scenario: each step's name, its code and its body, or its events.
pub async fn tell(client: &Client, namespace: &str, scenario: &Scenario) -> Vec<Value> {
    let mut answers = Map::new();
    for step in &scenario.steps {
        let told = Told { client, namespace, scenario, answers: &answers };
        let answer = told.step(step).await;
        assert!(answers.insert(step.name.clone(), answer).is_none(), "two steps are called {}", step.name);
    }
    let mut known = Known { namespace: namespace.to_owned(), ..Known::default() };
    let told = scenario.steps.iter().map(|step| {
        let mut answer = answers[&step.name].clone();
        known.normalise("", &mut answer);
        answer["step"] = json!(step.name);
        answer
    });
    told.collect()
}

struct Told<'a> {
    client: &'a Client,
    namespace: &'a str,
    scenario: &'a Scenario,
    answers: &'a Map<String, Value>,
}

impl Told<'_> {
    async fn step(&self, step: &Step) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.send(step)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{} is not answered", step.name));
            let find = |pointer: &String| answer.pointer(pointer).or_else(|| answer["body"].pointer(pointer));
            let text = |value: &Value| self.resolve(&value.to_string());
            if step.until.iter().all(|(pointer, wanted)| find(pointer).map(Value::to_string) == Some(text(wanted))) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{}: {:?} never came: {answer}", step.name, step.until);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn send(&self, step: &Step) -> Value {
        let text = self.resolve(&step.send);
        let (method, url) = text.split_once(' ').unwrap_or_else(|| panic!("{}: method and URL: {text}", step.name));
        let body = step.raw.clone().unwrap_or_else(|| self.body(step));
        let content_type = match step.content_type.as_deref() {
            Some("merge") => "application/merge-patch+json",
            Some("json") => "application/json-patch+json",
            Some("apply") => "application/apply-patch+yaml",
            Some(other) => other,
            None => "application/json",
        };
        let request = http::Request::builder().method(method).uri(url).header("content-type", content_type);
        let request = request.body(Body::from(body.into_bytes())).unwrap();
        let answer = self.client.send(request).await.unwrap_or_else(|error| panic!("{}: {error}", step.name));
        let code = answer.status().as_u16();
        if let Some(most) = step.events {
            return json!({"code": code, "events": events(answer.into_body(), most).await});
        }
        let bytes = answer.into_body().collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        json!({"code": code, "body": body})
    }

    fn body(&self, step: &Step) -> String {
        let mut body = match &step.body {
            None => return String::new(),
            Some(Value::String(name)) => match name.split_once(':') {
                Some((earlier, "")) => self.answers[earlier]["body"].clone(),
                _ => self.scenario.objects.get(name).unwrap_or_else(|| panic!("no object {name}")).clone(),
            },
            Some(body) => body.clone(),
        };
        for (pointer, value) in &step.with {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = body.pointer_mut(parent).unwrap_or_else(|| panic!("{}: no {pointer}", step.name));
            if value.is_null() {
                parent.as_object_mut().unwrap().remove(key);
            } else {
                parent[key] = value.clone();
            }
        }
        self.resolve(&body.to_string())
    }

    /// Puts the words and the parts of earlier answers in.
    fn resolve(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (word, meaning) in &self.scenario.words {
            text = text.replace(&format!("{{{word}}}"), meaning);
        }
        text = text.replace("{namespace}", self.namespace);
        for (name, answer) in self.answers {
            let open = format!("{{{name}:/");
            while let Some(at) = text.find(&open) {
                let end = text[at..].find('}').unwrap() + at;
                let pointer = text[at + open.len() - 1..end].to_owned();
                let value = answer["body"].pointer(&pointer).or_else(|| answer.pointer(&pointer));
                let value =
                    value.map_or("missing".to_owned(), |value| value.as_str().map_or(value.to_string(), str::to_owned));
                text.replace_range(at..=end, &value);
            }
        }
        text
    }
}

/// What was numbered.
#[derive(Default)]
struct Known {
    namespace: String,
    uids: Vec<String>,
    versions: Vec<String>,
}

impl Known {
    /// Numbers uids and versions, names times by their precision, and writes managed fields as sets of paths.
    fn normalise(&mut self, key: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let is_list = fields.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
                let is_bookmark = fields.get("type").is_some_and(|kind| kind == "BOOKMARK");
                if fields.contains_key("generateName") {
                    fields.insert("name".into(), json!("generated"));
                }
                for (key, value) in fields.iter_mut() {
                    let version = match key.as_str() {
                        "metadata" if is_list => value.get_mut("resourceVersion"),
                        "object" if is_bookmark => value.pointer_mut("/metadata/resourceVersion"),
                        _ => None,
                    };
                    version.into_iter().for_each(|version| *version = json!("present"));
                    self.normalise(key, value);
                }
            }
            Value::Array(items) => {
                if key == "managedFields" {
                    *value = owners(items);
                    return;
                }
                items.iter_mut().for_each(|item| self.normalise("", item));
            }
            Value::String(text) => *text = self.named(key, text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn named(&mut self, key: &str, text: &str) -> String {
        match key {
            "uid" => return number("uid", &mut self.uids, text),
            "resourceVersion" if text != "present" => return number("version", &mut self.versions, text),
            "continue" if !text.is_empty() => return "token".into(),
            _ => {}
        }
        if let Some(precision) = precision_of(text) {
            return format!("time of {precision} digits");
        }
        let mut text = text.replace(&self.namespace, "{namespace}");
        for (at, uid) in self.uids.iter().enumerate() {
            text = text.replace(uid, &format!("uid {}", at + 1));
        }
        for (at, version) in self.versions.iter().enumerate() {
            text = text.replace(&format!("({version})"), &format!("(version {})", at + 1));
        }
        if let Some((before, _)) = text.split_once("too old resource version: 1 (") {
            text = format!("{before}too old resource version: 1 (the oldest)");
        }
        text
    }
}

/// So many lines of a watch, or all to its end.
async fn events(body: Body, most: usize) -> Vec<Value> {
    let mut chunks = body.into_data_stream();
    let (mut text, mut events) = (String::new(), Vec::new());
    while events.len() < most
        && let Some(Ok(chunk)) = chunks.next().await
    {
        text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some((line, rest)) = text.split_once('\n') {
            events.push(serde_json::from_str(line).unwrap_or_else(|_| json!(line)));
            text = rest.to_owned();
        }
    }
    // A refusal is one text without an end of line.
    events.extend(serde_json::from_str(&text));
    events
}

fn number(what: &str, known: &mut Vec<String>, text: &str) -> String {
    let at = known.iter().position(|one| one == text).unwrap_or_else(|| {
        known.push(text.to_owned());
        known.len() - 1
    });
    format!("{what} {}", at + 1)
}

/// Digits of a time's seconds after the point.
fn precision_of(text: &str) -> Option<usize> {
    text.parse::<jiff::Timestamp>().ok()?;
    Some(text.split_once('.').map_or(0, |(_, rest)| rest.trim_end_matches('Z').len()))
}

/// Managed fields by manager, as paths. Items of lists with keys count as their list, and parents only if they are empty.
fn owners(entries: &[Value]) -> Value {
    let mut owners = Map::new();
    for entry in entries {
        let mut paths = Vec::new();
        collect(&entry["fieldsV1"], String::new(), &mut paths);
        paths.dedup();
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let name = format!("{} {} {}", text("manager"), text("operation"), text("subresource"));
        owners.insert(name.trim().to_owned(), json!(paths));
    }
    Value::Object(owners)
}

fn collect(fields: &Value, path: String, paths: &mut Vec<String>) {
    let members = fields.as_object().into_iter().flatten();
    let inner: Vec<_> = members.filter_map(|(key, value)| Some((key.strip_prefix("f:")?, value))).collect();
    if inner.is_empty() {
        paths.push(path);
        return;
    }
    for (key, value) in inner {
        collect(value, format!("{path}/{key}"), paths);
    }
}
