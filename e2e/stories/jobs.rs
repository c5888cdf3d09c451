//! Jobs as measurements, by the real controller of Jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serin::api::status::{Assessment, MeasurementStatus};
use serin::api::watched::Rollout;

use crate::support::world::{is_aborted, is_healthy};
use crate::support::{Environment, Given, World};

/// A template whose Job does so: its pod carries these annotations, which the imitated kubelet reads.
fn tests(annotations: &Value) -> Value {
    let pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [
        {"name": "tests", "image": "tests:1", "args": ["--revision={{args.revision}}"]},
    ]});
    let template = json!({"metadata": {"annotations": annotations, "labels": {"of": "tests"}}, "spec": pod});
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "tests"},
        "spec": {
            "args": [{"name": "revision"}],
            "metrics": [{"name": "tests", "job": {"spec": {"backoffLimit": 0, "template": template}}}],
        },
    })
}

/// The Jobs that there are.
async fn jobs(world: &World) -> Vec<Value> {
    let list = world.object("/apis/batch/v1/namespaces/{ns}/jobs").await.expect("a list");
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Those of them that a test finds, once there are so many.
async fn has_jobs(world: &World, what: &str, wanted: usize, is_meant: fn(&Value) -> bool) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found: Vec<Value> = jobs(world).await.into_iter().filter(is_meant).collect();
        let names = found.iter().filter_map(|job| job["metadata"]["name"].as_str().map(str::to_owned)).collect();
        if found.len() == wanted {
            return names;
        }
        world.assert(Instant::now() < deadline, &format!("{wanted} Jobs are wanted, {what}: {names:?}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn runs(job: &Value) -> bool {
    job["status"]["active"] == json!(1) && job["metadata"]["deletionTimestamp"].is_null()
}

fn is_there(_: &Value) -> bool {
    true
}

fn last(rollout: &Rollout) -> Option<&MeasurementStatus> {
    rollout.status.analysis.first()?.metrics.first()?.measurements.last()
}

/// One that completes lets the step pass, one that fails aborts. Whatever becomes of the controller, a measurement has one Job; one
/// that somebody deletes, and one that a quota refuses, are errors, and another is run. A Job that nothing waits for is deleted, and
/// all of them go with the Rollout.
pub async fn as_measurements(environment: Arc<Environment>, name: String) {
    let mut world = World::start(environment, &name).await;
    world.withheld = "exceeded quota";
    world.apply(&tests(&json!({"testbed.serin.dev/exit-code": "0", "testbed.serin.dev/exit-after": "500ms"}))).await;
    let gate = json!({"templates": [{"templateName": "tests"}], "args": World::analysis()["args"]});
    let first = Given {
        replicas: 2,
        steps: json!([{"setWeight": 20}, {"analysis": gate}, {"setWeight": 50}]),
        ..Given::default()
    };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    let rollout = world.wait("a Job completes", 60, |rollout| is_healthy(rollout, &second.hash())).await;
    let kept = has_jobs(&world, "kept for its logs", 1, is_there).await;
    let told = last(&rollout).map(|last| (last.assessment, last.value.clone()));
    world.assert(told == Some((Assessment::Success, format!("Job {} is complete", kept[0]))), &format!("{told:?}"));
    let pods = world.object("/api/v1/namespaces/{ns}/pods?labelSelector=of%3Dtests").await.expect("pods");
    let argument = pods["items"][0].pointer("/spec/containers/0/args/0").cloned();
    world.assert(argument == Some(json!(format!("--revision={}", second.hash()))), &format!("{argument:?}"));

    world.apply(&tests(&json!({"testbed.serin.dev/exit-code": "1"}))).await;
    world.given(&first.image("checkout:3")).await;
    let rollout = world.wait("a Job fails", 60, |rollout| is_aborted(rollout, "AnalysisFailed")).await;
    world.reaches(0).await;
    let failed = has_jobs(&world, "the one that failed", 1, |job| job["status"]["failed"] == json!(1)).await;
    let message = format!("Job {} failed: BackoffLimitExceeded", failed[0]);
    world.assert(rollout.status.message.contains(&message), &rollout.status.message);
    has_jobs(&world, "of the newest attempt alone", 1, is_there).await;

    // One that does not end: the controller dies beside it, somebody deletes it, a quota refuses the next.
    world.apply(&tests(&json!({}))).await;
    let fourth = first.image("checkout:4");
    world.given(&fourth).await;
    let running = has_jobs(&world, "runs", 1, runs).await;
    for moment in [0, 150, 400] {
        tokio::time::sleep(Duration::from_millis(moment)).await;
        world.kill_controller();
        world.start_controller();
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.assert(has_jobs(&world, "after three kills", 1, is_there).await == running, "it is the same Job");
    world
        .apply(&json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "0"}}}))
        .await;
    world.delete(&format!("/apis/batch/v1/namespaces/{{ns}}/jobs/{}?propagationPolicy=Background", running[0])).await;
    let is_told = |rollout: &Rollout, word: &str| {
        last(rollout).is_some_and(|last| last.assessment == Assessment::Error && last.value.contains(word))
    };
    world.wait("its deletion is told", 30, |rollout| is_told(rollout, "was deleted before its end")).await;
    let rollout = world.wait("the quota is told", 60, |rollout| is_told(rollout, "exceeded quota")).await;
    let aborted = rollout.status.aborted.is_some();
    world.assert(!aborted && rollout.status.in_progress().is_some(), "an error is no verdict");
    world.apply(&tests(&json!({"testbed.serin.dev/exit-code": "0"}))).await;
    world.delete("/api/v1/namespaces/{ns}/resourcequotas/few").await;
    world.wait("promoted by another Job", 90, |rollout| is_healthy(rollout, &fourth.hash())).await;

    // A person aborts while one runs; the next canary is deleted with its Rollout.
    world.apply(&tests(&json!({}))).await;
    let fifth = first.image("checkout:5");
    world.given(&fifth).await;
    has_jobs(&world, "runs", 1, runs).await;
    world.act("abort", &fifth.hash(), None).await;
    world.wait("aborted", 20, |rollout| rollout.status.aborted.is_some()).await;
    has_jobs(&world, "nothing waits for it", 0, is_there).await;
    world.given(&first.image("checkout:6")).await;
    has_jobs(&world, "runs", 1, runs).await;
    world.delete("/apis/serin.dev/v1alpha1/namespaces/{ns}/rollouts/checkout").await;
    has_jobs(&world, "gone with the Rollout", 0, is_there).await;
    world.end().await;
}
