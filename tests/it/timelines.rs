//! Timelines: `timelines/<story>.in.yaml` is a Rollout and what happens to it, second by second, in a world for plans alone;
//! `timelines/<story>.out.txt` is every write, note, question and change of the status that follows.
//! `UPDATE_EXPECT=1 cargo test timelines` rewrites them; commit a changed one only if you can say why it changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::expect_file;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::{Value, json};
use serin::api::json::Json;
use serin::plan::observed::Template;

use crate::support::golden_inputs;
use crate::support::world::{Answers, BEGAN, World, hash, hosts, in_place, of_gateway, owned, spec, template};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Story {
    /// `owned`, `inPlace`, `hosts` or `ratio`.
    routing: String,
    replicas: i32,
    /// A merge patch of the world's spec.
    #[serde(default)]
    spec: Value,
    /// How long it is watched.
    seconds: i64,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    at: i64,
    #[serde(flatten)]
    happening: Happening,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Happening {
    Commit(String),
    Spec(Value),
    /// A merge patch of the Deployment; null takes it away.
    Deployment(Value),
    Act(String),
    /// An action at another revision, by its image.
    ActOn(String, String),
    Answers(String),
    Value(f64),
    /// Requests a second of both revisions.
    Requests(f64),
    Unready(BTreeMap<String, i32>),
    /// An action whose step is told as text.
    ActAtText(String),
    /// An action approve for the step of this name.
    Approve(String),
    /// Another manager writes the canary's weight in place.
    Weight(i32),
    /// Another manager writes the routes as Git has them, header and mirror routes away.
    Revert(String),
    /// Annotations of the Rollout from now on.
    Annotate(BTreeMap<String, String>),
    /// Somebody else's VirtualService for these hosts.
    Foreign(Vec<String>),
    /// `routes`, or `rollout`, which is on its way out from then on.
    Delete(String),
    /// `routes`, as Git has them, or `root`, which delegates to Serin's VirtualService.
    Create(String),
    Metric(String, Value),
    Refusal(Option<String>),
    CrashAfter(usize),
}

fn world(story: &Story) -> World {
    let (istio, is_ratio) = match story.routing.as_str() {
        "owned" => (owned(), false),
        "inPlace" => (in_place(), false),
        "hosts" => (hosts(), false),
        "httpRoute" => (json!({}), false),
        _ => (json!({}), true),
    };
    let mut spec = spec("checkout:1", story.replicas, &istio);
    if story.routing == "httpRoute" {
        spec = of_gateway("checkout:1", story.replicas);
    }
    let canary = spec["strategy"]["canary"].as_object_mut().unwrap();
    if is_ratio {
        canary.remove("trafficRouting");
    }
    if story.routing == "hosts" {
        canary.insert("stableService".into(), json!("checkout-stable"));
        canary.insert("canaryService".into(), json!("checkout-canary"));
    }
    if !story.spec.is_null() {
        json_patch::merge(&mut spec, &story.spec);
    }
    World::new(&spec)
}

fn happen(world: &mut World, happening: &Happening) {
    match happening {
        Happening::Commit(image) => world.edit(|spec| spec["template"] = template(image)),
        Happening::Spec(patch) => world.edit(|spec| json_patch::merge(spec, patch)),
        Happening::Deployment(patch) => world.patch_deployment(patch),
        Happening::Act(action) => world.act(action),
        Happening::ActOn(action, image) => world.act_on(action, &hash(image)),
        Happening::Answers(answers) => {
            world.answers = match answers.as_str() {
                "good" => Answers::Good,
                "bad" => Answers::Bad,
                "empty" => Answers::Empty,
                _ => Answers::Down,
            }
        }
        Happening::Value(value) => world.answers = Answers::Value(*value),
        Happening::Requests(requests) => world.requests = *requests,
        Happening::Unready(pods) => world.unready.clone_from(pods),
        Happening::ActAtText(action) => {
            world.act(action);
            let action = world.observed.actions.last_mut().unwrap();
            let mut spec = action.spec.value();
            spec["step"] = json!(spec["step"].to_string());
            action.spec = Json::from(&spec);
        }
        Happening::Approve(step) => {
            world.act("approve");
            let action = world.observed.actions.last_mut().unwrap();
            let mut spec = action.spec.value();
            spec["step"] = json!(step);
            action.spec = Json::from(&spec);
        }
        Happening::Weight(weight) => world.write_weight(*weight),
        Happening::Revert(what) => {
            assert_eq!(what, "routes");
            world.revert_routes();
        }
        Happening::Annotate(annotations) => {
            world.observed.rollout.metadata.annotations = Some(annotations.clone());
        }
        Happening::Foreign(hosts) => {
            let route = json!({
                "metadata": {"name": "foreign", "namespace": "shop", "resourceVersion": "1"},
                "spec": {"hosts": hosts, "http": [{"route": [{"destination": {"host": "legacy"}}]}]},
            });
            world.observed.virtual_services.push(serde_json::from_value(route).unwrap());
        }
        Happening::Delete(what) if what == "rollout" => {
            world.observed.rollout.metadata.deletion_timestamp = Some(Time(world.now));
        }
        Happening::Delete(_) => {
            world.observed.virtual_services.clear();
            world.observed.destination_rules.clear();
        }
        Happening::Create(what) if what == "root" => world.create_root(),
        Happening::Create(what) => {
            assert_eq!(what, "routes");
            world.create_routes();
        }
        Happening::Metric(name, metric) => {
            let spec = Json::from(&json!({"metrics": [metric]}));
            world.observed.templates.retain(|one| one.name != *name);
            world.observed.templates.push(Template { name: name.clone(), cluster: false, spec });
        }
        Happening::Refusal(refusal) => world.observed.refusal.clone_from(refusal),
        Happening::CrashAfter(writes) => world.crash_after(*writes),
    }
}

/// Parts of the status by name, in words that do not depend on when and with which hashes it was.
fn parts(world: &World, names: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let status = serde_json::to_value(&world.observed.rollout.status).unwrap();
    let mut parts = BTreeMap::new();
    for (key, value) in status.as_object().unwrap() {
        match (key.as_str(), value) {
            ("conditions" | "blockedBy" | "analysis", Value::Array(items)) => {
                for item in items {
                    let mut item = item.clone();
                    let own = item.as_object_mut().unwrap();
                    own.remove("observedGeneration");
                    own.retain(|key, value| key != "message" || *value != status["message"]);
                    let name = ["type", "reason", "kind"].iter().find_map(|name| own.remove(*name)).unwrap();
                    parts.insert(format!("{key} {}", name.as_str().unwrap()), told(&item, names));
                }
            }
            ("decisions" | "history", Value::Array(items)) => {
                items.last().map(|item| parts.insert(key.clone(), told(item, names)));
            }
            _ => {
                parts.insert(key.clone(), told(value, names));
            }
        }
    }
    let wake = world.plan().wake.map(|wake| (wake.at, wake.reason));
    parts.insert("looks again".into(), told(&json!(wake), names));
    parts
}

fn told(value: &Value, names: &BTreeMap<String, String>) -> String {
    let plain = |text: &str| names.iter().fold(text.to_owned(), |text, (hash, name)| text.replace(hash, name));
    match value {
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(at) => format!("{} s", (at.as_second() - BEGAN)),
            Err(_) => plain(text),
        },
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| told(item, names)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let of = |(key, value): (&String, &Value)| format!("{key}: {}", told(value, names));
            let tells = |(key, value): &(&String, &Value)| {
                // Hashes, and a test's own numbers.
                !matches!(key.as_str(), "passedSteps" | "state") && ![json!(0), json!(""), json!([])].contains(value)
            };
            format!("{{{}}}", fields.iter().filter(tells).map(of).collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => plain(&value.to_string()),
    }
}

fn play(story: &Story) -> String {
    let mut world = world(story);
    let names: BTreeMap<String, String> = (1..=9)
        .map(|number| format!("checkout:{number}"))
        .map(|image| (hash(&image), image.replace(':', "-")))
        .collect();
    let mut known = BTreeMap::new();
    let mut text = String::new();
    for second in 0..=story.seconds {
        if second > 0 {
            world.tick();
        }
        for event in story.events.iter().filter(|event| event.at == second) {
            happen(&mut world, &event.happening);
        }
        world.settle();
        let parts = parts(&world, &names);
        let mut lines: Vec<String> = world.log.drain(..).collect();
        lines.extend(
            parts
                .iter()
                .filter(|(key, value)| known.get(*key) != Some(*value))
                .map(|(key, value)| format!("{key}: {value}")),
        );
        lines.extend(known.keys().filter(|key| !parts.contains_key(*key)).map(|key: &String| format!("{key}: -")));
        known = parts;
        if !lines.is_empty() {
            writeln!(text, "{second} s").unwrap();
        }
        for line in lines {
            let line = names.iter().fold(line, |line, (hash, name)| line.replace(hash, name));
            writeln!(text, "  {line}").unwrap();
        }
    }
    text
}

#[test]
fn timelines() {
    for (story, expected) in golden_inputs::<Story>("timelines") {
        expect_file![format!("{expected}.out.txt")].assert_eq(&play(&story));
    }
}
