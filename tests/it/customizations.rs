//! What `deploy/argocd` is tested with: each file is a Rollout or a RolloutAction as Serin leaves it, so that what Argo CD,
//! Flux and Helm are shown in `e2e/gitops` is what they see in a cluster. `UPDATE_EXPECT=1` rewrites the files.

use expect_test::expect_file;
use serde_json::{Value, json};
use serin::api::watched::RolloutAction;
use serin::schema::{self, check};

use crate::support::world::{World, at_rest, commit};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/argocd/resource_customizations/serin.dev");

fn serving() -> World {
    let mut world =
        at_rest(5, &json!([{"setWeight": 20}, {"approval": {"name": "business-signoff"}}, {"pause": {}}]), &json!({}));
    world.pass_time(20);
    world
}

fn progressing() -> World {
    let mut world = serving();
    commit(&mut world, "checkout:2");
    world
}

fn awaiting_approval() -> World {
    let mut world = progressing();
    world.pass_time(20);
    world
}

fn paused_by_step() -> World {
    let mut world = awaiting_approval();
    world.act("approve");
    world.settle();
    world.pass_time(5);
    world
}

fn paused_by_action() -> World {
    let mut world = progressing();
    world.act("pause");
    world.settle();
    world.pass_time(20);
    world
}

fn aborted() -> World {
    let mut world = awaiting_approval();
    world.act("abort");
    world.settle();
    world.pass_time(60);
    world
}

const STATES: [&str; 9] = [
    "new",
    "behind",
    "healthy",
    "progressing",
    "awaiting-approval",
    "paused-by-step",
    "paused-by-action",
    "aborted",
    "invalid",
];

/// The world of a file's name.
fn world(state: &str) -> World {
    match state {
        "new" => World::new(&serving().observed.rollout.spec.value()),
        "behind" => {
            let mut world = serving();
            world.edit(|spec| spec["template"]["spec"]["containers"][0]["image"] = json!("checkout:2"));
            world
        }
        "healthy" => serving(),
        "progressing" => progressing(),
        "awaiting-approval" => awaiting_approval(),
        "paused-by-step" => paused_by_step(),
        "paused-by-action" => paused_by_action(),
        "aborted" => aborted(),
        "invalid" => {
            let mut world = serving();
            // The definition accepts any text here.
            world.edit(|spec| spec["promotion"] = json!({"windows": [{"cron": "every day", "duration": "8h"}]}));
            world.settle();
            world
        }
        other => panic!("no such state: {other}"),
    }
}

/// An object as an API server answers it; its definition accepts it.
fn answered(plural: &str, kind: &str, object: &impl serde::Serialize) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    object.as_object_mut().unwrap().retain(|_, field| !field.is_null());
    (object["apiVersion"], object["kind"]) = (json!("serin.dev/v1alpha1"), json!(kind));
    schema::fill_in(plural, &mut object);
    assert_eq!(check::problems(plural, &object, None), [], "{object}");
    assert_eq!(schema::prune(plural, &mut object), Vec::<String>::new());
    object
}

fn yaml(object: &Value) -> String {
    serde_yaml::to_string(object).unwrap()
}

#[test]
fn every_state_of_a_rollout() {
    for state in STATES {
        let rollout = answered("rollouts", "Rollout", &world(state).observed.rollout);
        expect_file![format!("{FOLDER}/Rollout/testdata/{state}.yaml")].assert_eq(&yaml(&rollout));
    }
}

#[test]
fn every_state_of_an_action() {
    let asked = |mut world: World| {
        world.act("abort");
        let new = world.observed.actions[0].clone();
        world.settle();
        (new, world.observed.actions[0].clone())
    };
    let (new, accepted) = asked(awaiting_approval());
    let (_, refused) = asked(serving());
    for (state, action) in [("new", new), ("accepted", accepted), ("refused", refused)] {
        let action = answered("rolloutactions", "RolloutAction", &action);
        expect_file![format!("{FOLDER}/RolloutAction/testdata/{state}.yaml")].assert_eq(&yaml(&action));
    }
}

/// What an action of Argo CD creates is accepted in the state that it is tested with.
#[test]
fn what_argo_cd_creates_is_accepted() {
    let read = |path: &str| -> Value {
        serde_yaml::from_str(&std::fs::read_to_string(format!("{FOLDER}/Rollout/actions/{path}")).unwrap()).unwrap()
    };
    let tests = read("action_test.yaml");
    let tests = tests["actionTests"].as_array().unwrap();
    assert!(!tests.is_empty());
    for test in tests {
        let of = |key: &str| test[key].as_str().unwrap();
        let state = of("inputPath").trim_start_matches("../testdata/").trim_end_matches(".yaml");
        let mut world = world(state);
        let created = read(of("expectedOutputPath"));
        assert_eq!(created[0]["k8sOperation"], "create");
        let mut object = answered("rolloutactions", "RolloutAction", &created[0]["unstructuredObj"]);
        object["metadata"]["uid"] = json!("of-argo-cd");
        object["metadata"]["resourceVersion"] = json!("1");
        object["metadata"]["creationTimestamp"] = json!(world.now);
        let action: RolloutAction = serde_json::from_value(object).unwrap();
        world.observed.actions.push(action);
        world.settle();
        let answer = serde_json::to_value(world.observed.actions.last().unwrap()).unwrap();
        assert_eq!(answer["status"]["accepted"], true, "{}: {}", of("action"), answer["status"]["message"]);
    }
}
