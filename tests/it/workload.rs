//! A Deployment's pod template has one hash, as people write it and as an API server gives it back.

use serde_json::{Value, json};
use serin::api::watched::Deployment;
use serin::plan::revision;

use crate::support::world::{World, spec, template};

fn deployment(name: &str) -> Deployment {
    let path = format!("{}/tests/it/workload/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn hash(template: &Value) -> String {
    let deployment: Deployment = serde_json::from_value(json!({"spec": {"template": template}})).unwrap();
    revision::hash(&revision::template_of(&deployment))
}

/// Pointers to every value that is no map and no list.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                leaves(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, inner)| leaves(inner, &format!("{at}/{index}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push(at.to_owned()),
    }
}

#[test]
fn what_an_api_server_fills_in_does_not_count() {
    let (written, read) = (deployment("written"), deployment("read"));
    assert_eq!(
        revision::canonical(&revision::template_of(&written)),
        revision::canonical(&revision::template_of(&read))
    );
    // Were it to move, every Rollout of a Deployment would begin a canary with the next version of Serin.
    assert_eq!(hash(&read.spec.template.value()), "j4tqvkdbfw");
}

#[test]
fn everything_else_counts() {
    let template = deployment("read").spec.template.value();
    let known = hash(&template);
    let mut all = Vec::new();
    leaves(&template, "", &mut all);
    assert!(all.len() > 90, "{}", all.len());
    // The old name of `serviceAccountName` means nothing beside it.
    let counts = |pointer: &&String| !pointer.contains("git-commit") && !pointer.ends_with("/serviceAccount");
    for pointer in all.iter().filter(counts) {
        let mut other = template.clone();
        let value = other.pointer_mut(pointer).unwrap();
        *value = if let Some(number) = value.as_i64() {
            json!(number + 2)
        } else if let Some(is_so) = value.as_bool() {
            json!(!is_so)
        } else {
            json!(format!("{}x", value.as_str().unwrap_or_default()))
        };
        assert_ne!(hash(&other), known, "{pointer}");
    }
}

#[test]
fn an_image_says_how_it_is_pulled() {
    let with =
        |image: &str, policy: &str| json!({"spec": {"containers": [{"image": image, "imagePullPolicy": policy}]}});
    let without = |image: &str| json!({"spec": {"containers": [{"image": image}]}});
    for (image, policy) in [
        ("app", "Always"),
        ("app:latest", "Always"),
        ("registry:5000/app", "Always"),
        ("app:1", "IfNotPresent"),
        ("app@sha256:4f2a", "IfNotPresent"),
        ("app:latest@sha256:4f2a", "IfNotPresent"),
    ] {
        let other = if policy == "Always" { "IfNotPresent" } else { "Always" };
        assert_eq!(hash(&with(image, policy)), hash(&without(image)), "{image}");
        assert_ne!(hash(&with(image, other)), hash(&without(image)), "{image}");
        assert_ne!(hash(&with(image, "Never")), hash(&without(image)), "{image}");
    }
}

#[test]
fn what_was_written_inline_has_the_same_hash() {
    let template = json!({"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app", "image": "checkout:1"}]}});
    assert_eq!(hash(&template), revision::hash(&template));
}

/// Past a delegate that no root names, the Service sends requests to every pod: no revision begins that would get some unasked.
#[test]
fn no_revision_begins_behind_a_delegate_without_a_root() {
    let mut spec = spec("checkout:1", 2, &json!({"owned": {"host": "checkout"}}));
    let own = spec.as_object_mut().unwrap();
    own.remove("template");
    own.insert("workloadRef".into(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}));
    let mut world = World::new(&spec);
    let brings = |world: &mut World, generation: i64| {
        let template = template(&format!("checkout:{generation}"));
        world.patch_deployment(&json!({"metadata": {"generation": generation}, "spec": {"template": template}}));
        world.settle();
        world.pass_time(30);
    };
    brings(&mut world, 1);
    brings(&mut world, 2);
    let reasons = |world: &World| {
        world.observed.rollout.status.blocked_by.iter().map(|wait| wait.reason.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (world.pods_of("checkout:2"), world.phase().as_str(), reasons(&world)),
        (0, "Healthy", vec!["RootMissing".to_owned()])
    );
    world.create_root();
    world.settle();
    assert_eq!((world.pods_of("checkout:2"), reasons(&world)[0].as_str()), (0, "RouteSettling"));
    world.pass_time(3);
    assert!(world.pods_of("checkout:2") > 0, "{}", world.observed.rollout.status.message);
    // Where the Deployment has no pods, nothing is held.
    let mut world = World::new(&spec);
    brings(&mut world, 1);
    world.patch_deployment(&json!({"spec": {"replicas": 0}}));
    brings(&mut world, 2);
    assert!(world.pods_of("checkout:2") > 0, "{}", world.observed.rollout.status.message);
}
