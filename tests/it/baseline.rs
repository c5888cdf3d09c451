//! Canaries that are held against a baseline: pods of the stable revision that are as young as the canary's, and as many.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use serin::api::json::Json;
use serin::plan::action::Action;
use serin::plan::observed::Template;
use serin::plan::{baseline, revision};

use crate::counted::{counted_once, evidence, gate, pass};
use crate::shell::{cluster, start, virtual_clock};
use crate::support::world::{Answers, World, at_rest, commit, hash};

fn template(compare: &Value) -> Template {
    let mut own = json!({"against": "baseline", "bad": "bad{r=\"{{revision}}\"}", "total": "all{w=\"{{workload}}\"}"});
    json_patch::merge(&mut own, compare);
    Template {
        name: "errors".into(),
        cluster: false,
        spec: Json::from(&json!({"metrics": [{"name": "errors", "compare": own}]})),
    }
}

fn world(steps: &Value, canary: &Value, compare: &Value) -> World {
    let mut world = at_rest(4, steps, canary);
    world.observed.templates.push(template(compare));
    world
}

/// The names of baselines and the pods that they want.
fn baselines(world: &World) -> Vec<(String, i32)> {
    let all = world.observed.baselines.iter();
    all.map(|set| (set.metadata.name.clone().unwrap(), set.spec.replicas.unwrap())).collect()
}

/// The name of the baseline of a canary's image against stable's.
fn name(stable: &str, canary: &str) -> String {
    baseline::name("checkout", &hash(stable), &hash(canary))
}

/// A baseline has as many pods as the canary wants, from the write after the canary's until the last analysis is over; stable
/// keeps all of its own.
#[test]
fn as_many_as_the_canary_from_its_start_to_the_last_analysis() {
    let steps = json!([{"setWeight": 25}, gate(&json!({})), {"setWeight": 75}, gate(&json!({})), {"pause": {"duration": "5m"}}]);
    let mut world = world(&steps, &json!({}), &json!({}));
    commit(&mut world, "checkout:2");
    let created = world.log.iter().position(|line| line.contains("create ReplicaSet checkout-baseline")).unwrap();
    assert_eq!(world.log[created - 1], format!("create ReplicaSet checkout-{} with 1 pods", hash("checkout:2")));
    let mut seen = Vec::new();
    for _ in 0..1500 {
        let step = world.observed.rollout.status.current_step_index;
        let found = baselines(&world);
        if step.is_some_and(|step| step < 4) {
            assert_eq!(found, [(name("checkout:1", "checkout:2"), world.pods_of("checkout:2"))], "at step {step:?}");
        }
        assert_eq!(world.pods_of("checkout:1"), 4);
        assert!(world.observed.rollout.status.replicas >= 4 + world.pods_of("checkout:2") + world.baseline().0);
        if seen.last() != Some(&found.first().map_or(0, |one| one.1)) {
            seen.push(found.first().map_or(0, |one| one.1));
        }
        if step == Some(4) && found.is_empty() {
            break;
        }
        world.tick();
        world.settle();
    }
    // Of 4 + 3 pods one goes at a time.
    assert_eq!(seen, [1, 3, 2, 1, 0]);
    assert_eq!(world.observed.rollout.status.current_step_index, Some(4), "the canary pauses on");
    let stable = world.observed.rollout.status.stable.clone().unwrap();
    assert_eq!((stable.revision, world.observed.rollout.status.canary.clone().unwrap().revision), (1, 2));
}

/// Its pods carry what stable's do, and are told apart by two labels.
#[test]
fn pods_are_of_stable_and_told_apart() {
    let mut world = world(&json!([{"setWeight": 25}, gate(&json!({}))]), &json!({}), &json!({}));
    commit(&mut world, "checkout:2");
    let labels = world.observed.baselines[0].metadata.labels.clone().unwrap();
    let (stable, canary) = (hash("checkout:1"), hash("checkout:2"));
    assert_eq!(labels["serin.dev/revision-hash"], stable);
    assert_eq!(labels["serin.dev/baseline"], canary);
    assert_eq!(world.observed.baselines[0].spec.template.spec.containers[0].image, "checkout:1");
    assert_eq!(revision::hash_of(&world.observed.baselines[0]), None, "it is no revision's");
    let told = world.observed.rollout.status.baseline.clone().unwrap();
    assert_eq!(told.revision, Some(baseline::revision(&stable, &canary)));
    assert!(told.revision.unwrap().starts_with(&format!("{stable}-baseline-")));
}

/// Prometheus comes and goes, the controller dies between any two writes and starts again, and in the end every window since the
/// first has counted once, of the baseline's pods alone.
#[test]
fn every_window_counts_once() {
    for seed in 0..20 {
        let steps = json!([{"setWeight": 20}, gate(&json!({}))]);
        let mut world = world(&steps, &json!({}), &json!({"minRequests": 1_000_000}));
        commit(&mut world, "checkout:2");
        let found = counted_once(&mut world, seed, 600);
        // One pod of five has a fifth of stable's 80 requests a second.
        let baseline = found.baseline.unwrap().total;
        assert!((baseline - f64::from(found.windows) * 240.0).abs() < 100.0, "seed {seed}: {found:?}");
        assert_eq!(found.stable, None, "seed {seed}");
    }
}

/// Pods of a baseline that do not come hold the rollout, which says so, and abort nothing; once they are there, they are warmed up.
#[test]
fn a_baseline_that_does_not_come_up_is_waited_for_by_name() {
    let steps = json!([{"setWeight": 25}, gate(&json!({})), {"setWeight": 50}]);
    let mut world = world(&steps, &json!({}), &json!({"minRequests": 1_000_000}));
    // One pod of stable's image fits nowhere: one of four, and the only one of the baseline.
    world.unready.insert("checkout:1".into(), 1);
    commit(&mut world, "checkout:2");
    pass(&mut world, 1200);
    let status = &world.observed.rollout.status;
    let wait = status.blocked_by.iter().find(|wait| wait.reason == "BaselineNotReady").expect("it is named");
    assert_eq!(wait.message, "0 of 1 baseline pods are ready; metric errors counts no requests until all are");
    assert!(status.message.contains("0 of 1 baseline pods"), "{}", status.message);
    assert_eq!((status.aborted.clone(), status.current_step_index), (None, Some(1)));
    assert!(evidence(&world).is_none_or(|evidence| evidence.windows == 0));
    world.unready.clear();
    let came = world.now.as_second();
    pass(&mut world, 59);
    assert!(evidence(&world).is_none_or(|evidence| evidence.windows == 0), "its pods are new");
    pass(&mut world, 120);
    let memory = world.observed.rollout.status.attempt.clone().unwrap().evidence[0].clone();
    assert!(memory.grown_at.as_second() >= came);
    let found = evidence(&world).unwrap();
    assert!((4..=8).contains(&found.windows), "{found:?}");
    assert!(!world.observed.rollout.status.blocked_by.iter().any(|wait| wait.reason == "BaselineNotReady"));
}

/// No window lies where a pod of the baseline was new.
#[test]
fn windows_begin_anew_when_its_pods_do() {
    let steps = json!([{"setWeight": 50}, gate(&json!({}))]);
    let mut world = world(&steps, &json!({}), &json!({"minRequests": 1_000_000}));
    commit(&mut world, "checkout:2");
    pass(&mut world, 200);
    let before = evidence(&world).unwrap().windows;
    world.unready.insert("checkout:1".into(), 1);
    pass(&mut world, 40);
    world.unready.clear();
    pass(&mut world, 75);
    let after = evidence(&world).unwrap().windows;
    assert!(after <= before + 2, "{before} windows, and {after} after a pod was new");
    pass(&mut world, 120);
    assert!(evidence(&world).unwrap().windows > after + 5);
}

/// Words and numbers are of the baseline.
#[test]
fn evidence_tells_of_the_baseline() {
    let steps = json!([{"setWeight": 50}, gate(&json!({}))]);
    let mut world = world(&steps, &json!({}), &json!({}));
    world.answers = Answers::Value(0.05);
    commit(&mut world, "checkout:2");
    pass(&mut world, 400);
    let status = &world.observed.rollout.status;
    let aborted = status.aborted.clone().unwrap();
    assert!(
        aborted.message.contains(", baseline ") && aborted.message.contains("times the baseline's rate"),
        "{}",
        aborted.message
    );
    assert!(!aborted.message.contains("stable"), "{}", aborted.message);
    let window = status.analysis[0].metrics[0].measurements.last().unwrap().value.clone();
    assert!(window.contains(", baseline 1% ("), "{window}");
}

/// After an abort, a promotion and a revert nothing is left of it; a newer canary gets pods of its own at once.
#[test]
fn each_attempt_has_pods_of_its_own() {
    let steps = json!([{"setWeight": 25}, gate(&json!({})), {"pause": {}}]);
    let mut world = world(&steps, &json!({}), &json!({"minRequests": 1_000_000}));
    commit(&mut world, "checkout:2");
    pass(&mut world, 30);
    let old = name("checkout:1", "checkout:2");
    assert_eq!(baselines(&world), [(old.clone(), 1)]);
    commit(&mut world, "checkout:3");
    let new = name("checkout:1", "checkout:3");
    assert_ne!(old, new);
    assert!(baselines(&world).contains(&(new.clone(), 1)), "{:?}", baselines(&world));
    pass(&mut world, 30);
    assert_eq!(baselines(&world), [(new.clone(), 1)], "that of the earlier canary is gone");
    world.act("abort");
    pass(&mut world, 30);
    assert_eq!(baselines(&world), [], "{}", world.observed.rollout.status.message);
    world.act("retry");
    pass(&mut world, 10);
    assert_eq!(baselines(&world), [(new, 1)]);
    commit(&mut world, "checkout:1");
    pass(&mut world, 30);
    assert_eq!(baselines(&world), []);
    commit(&mut world, "checkout:4");
    pass(&mut world, 30);
    world.act("promoteFull");
    pass(&mut world, 60);
    assert_eq!((world.phase().as_str(), baselines(&world)), ("Healthy", vec![]));
    assert_eq!(world.observed.rollout.status.stable.as_ref().unwrap().hash, hash("checkout:4"));
    assert_eq!(world.observed.rollout.status.baseline, None);
}

/// Whatever asked for it goes: the metric, the step, the route, the Rollout.
#[test]
fn it_goes_when_nothing_asks_for_it_any_more() {
    type Edit = fn(&mut World);
    let cases: [(&str, Edit); 4] = [
        ("the metric compares with stable", |world| {
            world.observed.templates.retain(|one| one.name != "errors");
            world.observed.templates.push(template(&json!({"against": "stable"})));
        }),
        ("no step names the template", |world| {
            world.edit(|spec| spec["strategy"]["canary"]["steps"] = json!([{"setWeight": 25}, {"pause": {}}]));
        }),
        ("all steps are skipped", |world| world.act("promoteFull")),
        ("the Rollout is deleted", |world| {
            world.observed.rollout.metadata.deletion_timestamp = Some(Time(world.now));
        }),
    ];
    for (case, edit) in cases {
        let steps = json!([{"setWeight": 25}, gate(&json!({}))]);
        let mut world = world(&steps, &json!({}), &json!({"minRequests": 1_000_000}));
        commit(&mut world, "checkout:2");
        pass(&mut world, 30);
        assert_eq!(baselines(&world).len(), 1, "{case}");
        edit(&mut world);
        world.settle();
        pass(&mut world, 60);
        assert_eq!(baselines(&world), [], "{case}: {}", world.observed.rollout.status.message);
        assert_eq!(world.pods_of("checkout:1") > 0, case != "all steps are skipped", "{case}");
    }
}

/// While the spec or a template cannot be read, what is there stays, and nothing new comes.
#[test]
fn what_cannot_be_read_changes_nothing() {
    let steps = json!([{"setWeight": 25}, gate(&json!({}))]);
    let mut world = world(&steps, &json!({}), &json!({"minRequests": 1_000_000}));
    commit(&mut world, "checkout:2");
    pass(&mut world, 30);
    let known = baselines(&world);
    world.edit(|spec| spec["minReadySeconds"] = json!(10_000));
    world.settle();
    pass(&mut world, 60);
    assert_eq!(baselines(&world), known);
    world.edit(|spec| spec["minReadySeconds"] = json!(0));
    world.observed.templates.retain(|one| one.name != "errors");
    world.settle();
    pass(&mut world, 60);
    assert_eq!(baselines(&world), known);
}

/// With `dynamicStableScale` stable has few pods of its own, and its baseline many: what an abort gives back follows the pods of
/// stable's own, and the baseline goes little by little.
#[test]
fn stable_is_carried_by_its_own_pods() {
    let steps = json!([{"setWeight": 75}, gate(&json!({}))]);
    let mut world = world(&steps, &json!({"dynamicStableScale": true}), &json!({"minRequests": 1_000_000}));
    commit(&mut world, "checkout:2");
    pass(&mut world, 60);
    assert_eq!((world.pods_of("checkout:1"), world.pods_of("checkout:2"), world.baseline()), (1, 3, (3, 3)));
    world.act("abort");
    world.settle();
    assert_eq!(world.weight(), 75, "one pod of four carries a quarter, whatever the baseline has");
    let mut wanted = vec![world.baseline().0];
    for _ in 0..60 {
        world.tick();
        world.settle();
        let now = world.baseline().0;
        if wanted.last() != Some(&now) {
            wanted.push(now);
        }
    }
    assert_eq!((world.weight(), world.pods_of("checkout:1")), (0, 4));
    assert!(wanted.windows(2).all(|pair| pair[0] - pair[1] == 1), "{wanted:?}");
    assert_eq!(baselines(&world), []);
}

/// A restart is one of all pods: what is older than the others would be compared with what is younger.
#[test]
fn a_restart_restarts_it_too() {
    let steps = json!([{"setWeight": 25}, gate(&json!({}))]);
    let mut world = world(&steps, &json!({}), &json!({"minRequests": 1_000_000}));
    commit(&mut world, "checkout:2");
    pass(&mut world, 30);
    world.log.clear();
    world.act("restart");
    world.settle();
    pass(&mut world, 120);
    let evicted: Vec<&String> = world.log.iter().filter(|line| line.starts_with("evict")).collect();
    let own = name("checkout:1", "checkout:2");
    let of_baseline = evicted.iter().position(|line| line.contains(&own)).expect("it is restarted");
    assert_eq!((of_baseline, evicted.len()), (5, 6), "stable's first, then the canary's, then its: {evicted:?}");
    assert!(world.observed.rollout.status.restarted_at.is_some());
}

/// What pods carry for their role is edited until all have it, and those of the baseline are none of them.
#[test]
fn roles_are_of_revisions() {
    let steps = json!([{"setWeight": 25}, gate(&json!({}))]);
    let canary = json!({"stableMetadata": {"labels": {"role": "stable"}}});
    let mut world = world(&steps, &canary, &json!({"minRequests": 1_000_000}));
    commit(&mut world, "checkout:2");
    pass(&mut world, 30);
    world.edit(|spec| spec["strategy"]["canary"]["stableMetadata"] = json!({"labels": {"role": "other"}}));
    world.settle();
    pass(&mut world, 30);
    assert_eq!(world.carried("checkout:1"), ["app=checkout,role=other"; 4]);
    assert!(!world.plan().watches_pods, "all of stable's own pods have it");
}

/// One that cannot be told from stable, or that would take traffic of its own, is refused by its field's path.
#[test]
fn what_cannot_be_is_refused() {
    let told = |routed: bool, compare: &Value| {
        let steps = json!([{"setWeight": 25}, gate(&json!({}))]);
        let mut world = at_rest(4, &steps, &json!({}));
        let own = json!([{"name": "errors", "compare": compare}]);
        world.observed.templates.push(Template {
            name: "errors".into(),
            cluster: false,
            spec: Json::from(&json!({"metrics": own})),
        });
        if !routed {
            world.edit(|spec| {
                spec["strategy"]["canary"].as_object_mut().unwrap().remove("trafficRouting");
            });
            world.settle();
        }
        commit(&mut world, "checkout:2");
        pass(&mut world, 60);
        assert_eq!(baselines(&world), []);
        world.observed.rollout.status.message.clone()
    };
    let envoy = told(true, &json!({"against": "baseline", "preset": "envoy-5xx"}));
    assert!(envoy.contains("spec.metrics[0].compare.against: envoy counts by subset or Service"), "{envoy}");
    let ratio = told(false, &json!({"against": "baseline", "preset": "istio-5xx"}));
    assert!(ratio.contains("spec.metrics[0].compare.against: a baseline needs trafficRouting"), "{ratio}");
    let other = told(true, &json!({"against": "pods", "preset": "istio-5xx"}));
    assert!(other.contains("compare.against: unknown variant `pods`"), "{other}");
}

/// A plan that is made of a snapshot from before a write is made again of the one after it: nothing is created twice.
#[test]
fn crashes_anywhere_leave_one_baseline() {
    for writes in 0..8 {
        let steps = json!([{"setWeight": 25}, gate(&json!({})), {"setWeight": 75}]);
        let mut world = world(&steps, &json!({}), &json!({}));
        world.edit(|spec| spec["template"] = crate::support::world::template("checkout:2"));
        world.crash_after(writes);
        world.settle();
        assert_eq!(baselines(&world), [(name("checkout:1", "checkout:2"), 1)], "after {writes} writes");
        pass(&mut world, 20);
        world.crash_after(writes);
        world.act("abort");
        world.crash_after(writes);
        for _ in 0..40 {
            world.tick();
            world.crash_after(writes);
            world.settle();
        }
        assert_eq!(baselines(&world), [], "after {writes} writes");
        assert!(!world.plan().actions.iter().any(|action| matches!(action, Action::CreateBaseline { .. })));
    }
}

/// The controller itself, with the longest name that a Rollout can have: the name of the baseline is one, its labels are labels.
#[tokio::test(start_paused = true)]
async fn a_long_name_has_a_baseline() {
    let clock = virtual_clock();
    let cluster = cluster(&clock);
    let running = start(&cluster, &clock, serin::controller::lease::Leadership::alone(), 0.99);
    let rollout = "c".repeat(63);
    let apply = |plural: &'static str, mut object: Value| {
        object["metadata"]["namespace"] = json!("shop");
        cluster.apply(plural, &object).unwrap();
    };
    let pods = |image: &str| json!({"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app", "image": image}]}});
    let spec = |image: &str| {
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": rollout},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"app": "checkout"}}, "template": pods(image),
                "strategy": {"canary": {
                    "trafficRouting": {"istio": {"owned": {"host": "checkout", "hosts": ["checkout"]}}},
                    "steps": [{"setWeight": 50}, {"analysis": {"templates": [{"templateName": "errors"}], "until": "decided"}}],
                }},
            },
        })
    };
    apply(
        "services",
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout"}, "spec": {"selector": {"app": "checkout"}, "ports": [{"name": "http", "port": 80}]}}),
    );
    apply(
        "metricproviders",
        json!({"apiVersion": "serin.dev/v1alpha1", "kind": "MetricProvider", "metadata": {"name": "default"}, "spec": {"prometheus": {"address": "http://prometheus"}}}),
    );
    apply(
        "analysistemplates",
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "errors"},
            "spec": {"metrics": [{"name": "errors", "compare": {"preset": "istio-5xx", "against": "baseline", "minRequests": 1_000_000}}]},
        }),
    );
    apply("rollouts", spec("registry.example/checkout:1"));
    running.wait(&rollout, "Healthy", |one| one.status.phase == Some(serin::api::status::Phase::Healthy)).await;
    apply("rollouts", spec("registry.example/checkout:2"));
    running
        .wait(&rollout, "a ready baseline", |one| one.status.baseline.as_ref().is_some_and(|own| own.ready == 1))
        .await;
    let (stable, canary) =
        (revision::hash(&pods("registry.example/checkout:1")), revision::hash(&pods("registry.example/checkout:2")));
    let set = cluster.get("replicasets", "shop", &baseline::name(&rollout, &stable, &canary)).unwrap();
    let of_stable = cluster.get("replicasets", "shop", &format!("{rollout}-{stable}")).unwrap();
    assert!(set["metadata"]["name"].as_str().unwrap().len() <= 253);
    let labels = set["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    assert!(labels.values().all(|value| value.as_str().unwrap().len() <= 63), "{labels:?}");
    assert_eq!(labels["service.istio.io/canonical-revision"], json!(baseline::revision(&stable, &canary)));
    for (key, value) in of_stable["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[key], *value, "stable's selector selects its pods, too");
    }
    let with_mark = set["spec"]["selector"]["matchLabels"]["serin.dev/baseline"].clone();
    assert_eq!(with_mark, json!(canary), "and its own selects none of stable's");
    assert_eq!(set["spec"]["template"]["spec"], of_stable["spec"]["template"]["spec"]);
    assert_eq!(of_stable["status"]["readyReplicas"], 2);
    running.end().await;
}
