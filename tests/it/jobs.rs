//! Jobs as measurements: each runs once, whatever crashes; none is left behind.

use serde_json::{Value, json};
use serin::api::status::{Assessment, MetricStatus, Phase, Verdict};
use serin::plan::job;
use serin::plan::observed::{JobRefused, Template, Undeleted};
use serin::plan::template::{End, parse_template};

use crate::support::world::{World, commit, owned, spec};

/// The metric of the template `tests`.
fn metric(more: &Value) -> Value {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "test", "image": "test:1", "args": ["--of={{args.revision}}"]}]});
    let job = json!({"metadata": {"labels": {"of": "test"}}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}});
    let mut metric = json!({"name": "smoke", "job": job});
    json_patch::merge(&mut metric, more);
    metric
}

fn template(metrics: &[Value], more: &Value) -> Template {
    let mut spec = json!({"args": [{"name": "revision", "value": "none"}], "metrics": metrics});
    json_patch::merge(&mut spec, more);
    Template { name: "tests".into(), cluster: false, spec: (&spec).into() }
}

/// A Rollout at rest whose first step runs these metrics, at 20 %.
fn at_rest(metrics: &[Value], more: &Value) -> World {
    let mut spec = spec("checkout:1", 4, &owned());
    let gate = json!({
        "templates": [{"templateName": "tests"}],
        "args": [{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}],
    });
    spec["strategy"]["canary"]["analysis"] = json!(null);
    spec["strategy"]["canary"]["steps"] =
        json!([{"setWeight": 20}, {"analysis": gate}, {"setWeight": 50}, {"pause": {}}]);
    let mut world = World::new(&spec);
    world.observed.templates.push(template(metrics, more));
    world.observed.jobs.listed = Some(Vec::new());
    world.settle();
    world.pass_time(20);
    assert_eq!(world.phase(), "Healthy");
    world
}

/// The same with a canary whose first Jobs run.
fn measuring(metrics: &[Value], more: &Value) -> World {
    let mut world = at_rest(metrics, more);
    commit(&mut world, "checkout:2");
    for _ in 0..60 {
        if !world.running_jobs().is_empty() {
            return world;
        }
        world.pass_time(1);
    }
    panic!("no Job runs: {}", world.observed.rollout.status.message);
}

fn smoke(world: &World) -> MetricStatus {
    let analysis = &world.observed.rollout.status.analysis[0];
    analysis.metrics.iter().find(|metric| metric.name == "smoke").unwrap().clone()
}

fn last(world: &World) -> (Assessment, String) {
    let last = smoke(world).measurements.last().unwrap().clone();
    (last.assessment, last.value)
}

fn names(world: &World) -> Vec<String> {
    world.observed.jobs.listed.iter().flatten().filter_map(|job| job.metadata.name.clone()).collect()
}

fn waits(world: &World) -> Vec<String> {
    world.observed.rollout.status.blocked_by.iter().map(|wait| wait.reason.clone()).collect()
}

#[test]
fn a_job_that_completes_passes_the_step_and_one_that_fails_aborts() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    let name = names(&world)[0].clone();
    assert!(name.starts_with("checkout-smoke-") && name.len() <= 63, "{name}");
    assert!(
        world.observed.rollout.status.message.contains(&format!("smoke (Job {name})")),
        "{}",
        world.observed.rollout.status.message
    );
    world.pass_time(30);
    assert_eq!((world.weight(), world.created_jobs.len()), (20, 1), "a Job that runs is waited for");
    world.end_jobs("Complete", "CompletionsReached", "");
    world.settle();
    assert_eq!(last(&world), (Assessment::Success, format!("Job {name} is complete")));
    world.pass_time(20);
    assert_eq!((world.weight(), names(&world)), (50, vec![name]), "its logs stay");

    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    let name = names(&world)[0].clone();
    world.end_jobs("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    world.log.clear();
    world.step();
    let status = &world.observed.rollout.status;
    let aborted = status.aborted.as_ref().unwrap();
    assert_eq!(
        aborted.message,
        format!(
            "metric smoke: Job {name} failed: BackoffLimitExceeded: Job has reached the specified backoff limit; 1 of 1 failed, limit 0"
        )
    );
    assert!(
        world.log.iter().any(|line| line.starts_with("write VirtualService checkout-serin with 100/0")),
        "S6: {:?}",
        world.log
    );
    world.settle();
    world.pass_time(60);
    assert_eq!(names(&world), [name], "its logs stay after the abort");
}

#[test]
fn the_job_is_what_the_template_says() {
    let job = json!({"metadata": {"annotations": {"of": "{{args.revision}}"}}, "spec": {"activeDeadlineSeconds": 30}});
    let mut world = measuring(
        &[metric(&json!({"job": job}))],
        &json!({"measurementRetention": [{"metricName": "smoke", "limit": 3}]}),
    );
    let hash = world.observed.rollout.status.canary.clone().unwrap().hash;
    // The plan that creates it, once more.
    world.observed.jobs.listed = Some(Vec::new());
    world.observed.rollout.status.analysis[0].metrics[0].job.as_mut().unwrap().uid = None;
    let plan = world.plan();
    let serin::plan::action::Action::CreateJob { body, .. } = &plan.actions[0] else { panic!("{:?}", plan.actions) };
    let body = body.value();
    assert_eq!(body["metadata"]["labels"], json!({"of": "test", "serin.dev/rollout": "checkout"}));
    assert_eq!(body["metadata"]["annotations"]["of"], json!(hash));
    assert_eq!(body["metadata"]["annotations"]["serin.dev/measurements-kept"], json!("3"));
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], json!("Rollout"));
    assert_eq!(body["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], json!(true));
    assert_eq!(body["spec"]["activeDeadlineSeconds"], json!(30));
    assert_eq!(body.pointer("/spec/template/spec/containers/0/args/0"), Some(&json!(format!("--of={hash}"))));
}

/// Whatever the number of writes after which a controller is gone, a measurement has one Job, and its end is counted.
#[test]
fn a_crash_runs_no_job_twice_and_loses_none() {
    let more = json!({"count": 2, "interval": "5s"});
    for writes in 0..8 {
        for second in 0..12 {
            let mut world = at_rest(&[metric(&more)], &json!({}));
            commit(&mut world, "checkout:2");
            // `create_job` panics for a measurement that has had one.
            for now in 0..60 {
                if now == second || now == second + 7 {
                    world.crash_after(writes);
                    world.now = world.now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
                    world.settle();
                }
                world.pass_time(1);
                if now % 4 == 3 {
                    world.end_jobs("Complete", "", "");
                    if now % 8 == 3 {
                        world.crash_after(writes);
                        world.now = world.now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
                    }
                    world.settle();
                }
            }
            assert_eq!(
                world.weight(),
                50,
                "after {writes} writes in second {second}: {}",
                world.observed.rollout.status.message
            );
            assert_eq!(world.created_jobs.len(), 2, "after {writes} writes in second {second}");
            assert!(world.running_jobs().is_empty());
        }
    }
}

/// A clock that is set back changes no name of a Job that is asked for.
#[test]
fn a_clock_that_is_set_back_begins_no_job_anew() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    world.pass_time(60);
    world.now = world.now.checked_sub(jiff::SignedDuration::from_secs(45)).unwrap();
    world.settle();
    world.pass_time(30);
    assert_eq!(world.created_jobs.len(), 1);
    world.end_jobs("Complete", "", "");
    world.settle();
    world.pass_time(20);
    assert_eq!(world.weight(), 50);
}

#[test]
fn a_job_that_somebody_deletes_is_an_error_and_the_next_measurement_runs_another() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    let name = names(&world)[0].clone();
    world.settle();
    world.observed.jobs.listed = Some(Vec::new());
    world.settle();
    assert_eq!(smoke(&world).taken, 0, "a cache may be behind");
    world.pass_time(6);
    assert_eq!(last(&world), (Assessment::Error, format!("Job {name} was deleted before its end")));
    assert_eq!((world.weight(), smoke(&world).verdict), (20, Verdict::Running));
    world.pass_time(10);
    assert_eq!((world.created_jobs.len(), world.running_jobs().len()), (2, 1));
    assert_ne!(names(&world), [name]);
    world.end_jobs("Complete", "", "");
    world.settle();
    world.pass_time(20);
    assert_eq!(world.weight(), 50);
}

/// Five errors in a row pause, and no more Jobs are begun until a person says so.
#[test]
fn errors_are_tried_again_a_few_times() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    for _ in 0..600 {
        world.observed.jobs.listed = Some(Vec::new());
        world.settle();
        world.pass_time(1);
    }
    assert_eq!((world.created_jobs.len(), smoke(&world).consecutive_errors), (5, 5));
    let status = &world.observed.rollout.status;
    assert_eq!((status.phase, waits(&world)[0].as_str()), (Some(Phase::Paused), "Inconclusive"));
    assert!(
        status.message.starts_with("metric smoke: 5 errors in a row, the last: Job checkout-smoke-"),
        "{}",
        status.message
    );
    world.act("resume");
    world.settle();
    world.pass_time(2);
    assert_eq!((world.created_jobs.len(), world.running_jobs().len()), (6, 1));
}

#[test]
fn a_refusal_is_an_error_of_the_measurement_alone() {
    let mut world = at_rest(&[metric(&json!({"consecutiveErrorLimit": 1}))], &json!({}));
    commit(&mut world, "checkout:2");
    let quota = "create Job x: jobs.batch \"x\" is forbidden: exceeded quota: small";
    for _ in 0..40 {
        // The shell takes what is planned, and the API server refuses it.
        let pending = |world: &World| {
            let analysis = world.observed.rollout.status.analysis.first()?;
            Some(analysis.metrics.first()?.job.as_ref()?.name.clone())
        };
        world.pass_time(1);
        if let Some(name) = pending(&world) {
            let refused = JobRefused { name, message: quota.into(), is_final: true, until: world.now };
            world.observed.jobs.listed = Some(Vec::new());
            world.observed.rollout.status.analysis[0].metrics[0].job.as_mut().unwrap().uid = None;
            world.observed.jobs.refused = vec![refused];
            world.settle();
            world.observed.jobs.refused.clear();
        }
    }
    let (assessment, told) = last(&world);
    assert_eq!(assessment, Assessment::Error);
    assert_eq!(
        told,
        format!("smoke: the Job of template tests is refused; correct its job.spec, or what refuses it: {quota}")
    );
    assert_eq!((world.weight(), waits(&world)[0].as_str()), (20, "Inconclusive"));
}

#[test]
fn what_was_not_answered_is_tried_again_later() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    let name = names(&world)[0].clone();
    world.observed.jobs.listed = Some(Vec::new());
    world.observed.rollout.status.analysis[0].metrics[0].job.as_mut().unwrap().uid = None;
    let until = world.now.checked_add(jiff::SignedDuration::from_secs(2)).unwrap();
    world.observed.jobs.refused =
        vec![JobRefused { name: name.clone(), message: "no answer in time".into(), is_final: false, until }];
    world.created_jobs.clear();
    world.settle();
    assert_eq!(names(&world), Vec::<String>::new());
    world.pass_time(3);
    assert_eq!(names(&world), [name], "the same Job");
}

/// With the end of its analysis a Job is deleted; those that are over stay as many as are kept, of one attempt.
#[test]
fn no_job_is_left_behind() {
    let slow = json!({"name": "slow"});
    let (mut abort, retention) =
        (metric(&json!({"failureLimit": 0})), json!({"measurementRetention": [{"metricName": ".*", "limit": 2}]}));
    abort["count"] = json!(9);
    abort["interval"] = json!("2s");
    let mut world = measuring(&[abort, metric(&slow)], &retention);
    assert_eq!(world.running_jobs().len(), 2);
    let end_smoke = |world: &mut World, kind: &str| {
        let own = |name: Option<&String>| name.is_some_and(|name| name.starts_with("checkout-smoke-"));
        for job in world.running_jobs().into_iter().filter(|job| own(job.metadata.name.as_ref())) {
            job.status.conditions.push(serde_json::from_value(json!({"type": kind, "status": "True"})).unwrap());
        }
    };
    for _ in 0..4 {
        end_smoke(&mut world, "Complete");
        world.settle();
        world.pass_time(4);
    }
    assert_eq!((world.running_jobs().len(), names(&world).len()), (2, 4), "two that are over, two that run");
    assert_eq!(world.observed.rollout.status.jobs, 4);
    end_smoke(&mut world, "Failed");
    world.settle();
    assert!(world.observed.rollout.status.aborted.is_some());
    assert_eq!((world.running_jobs().len(), names(&world).len()), (0, 2), "the slow one is deleted");
    world.pass_time(60);
    let before = names(&world);
    assert_eq!(before.len(), 2);
    // Another revision has Jobs of its own.
    commit(&mut world, "checkout:3");
    world.pass_time(30);
    assert!(names(&world).iter().all(|name| !before.contains(name)), "{before:?} {:?}", names(&world));
    // A newer one supersedes it in the middle.
    let superseded = names(&world);
    commit(&mut world, "checkout:4");
    world.pass_time(40);
    assert!(names(&world).iter().all(|name| !superseded.contains(name)));
}

#[test]
fn a_job_that_cannot_be_deleted_holds_nothing() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    let until = world.now.checked_add(jiff::SignedDuration::from_secs(100)).unwrap();
    world.observed.jobs.undeleted = Some(Undeleted { message: "jobs.batch is forbidden".into(), until });
    world.act("abort");
    world.settle();
    world.pass_time(30);
    assert_eq!((world.running_jobs().len(), waits(&world)), (1, vec!["JobUndeleted".to_owned()]));
    assert!(world.observed.rollout.status.aborted.is_some());
    world.pass_time(80);
    assert_eq!(names(&world), Vec::<String>::new(), "it is tried again");
}

#[test]
fn a_job_that_cannot_be_deleted_leaves_a_rollout_at_rest_healthy() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    let until = world.now.checked_add(jiff::SignedDuration::from_mins(10)).unwrap();
    world.observed.jobs.undeleted = Some(Undeleted { message: "jobs.batch is forbidden".into(), until });
    commit(&mut world, "checkout:1");
    world.pass_time(120);
    assert_eq!((world.phase().as_str(), waits(&world)), ("Healthy", vec!["JobUndeleted".to_owned()]));
}

#[test]
fn a_job_without_an_end_has_one() {
    let check = |own: Option<i64>, ends: i64, told: &str| {
        let deadline = json!({"job": {"spec": {"activeDeadlineSeconds": own}}});
        let mut world = measuring(&[metric(&deadline)], &json!({}));
        let name = names(&world)[0].clone();
        world.now = world.now.checked_add(jiff::SignedDuration::from_secs(ends - 5)).unwrap();
        world.settle();
        assert_eq!(smoke(&world).taken, 0, "{own:?}");
        world.now = world.now.checked_add(jiff::SignedDuration::from_secs(6)).unwrap();
        world.settle();
        let (assessment, value) = last(&world);
        assert_eq!(assessment, Assessment::Error);
        assert!(value.starts_with(&format!("Job {name} {told}")), "{value}");
        assert!(!names(&world).contains(&name), "nothing waits for it");
    };
    check(Some(30), 90, "has not ended within its activeDeadlineSeconds");
    check(None, 3_660, "has not ended within its activeDeadlineSeconds");

    // Kubernetes ends it: by the template's own deadline that is a failure, by Serin's an error.
    let ended = |deadline: Value| {
        let mut world =
            measuring(&[metric(&json!({"job": {"spec": {"activeDeadlineSeconds": deadline}}}))], &json!({}));
        world.end_jobs("Failed", "DeadlineExceeded", "Job was active longer than specified deadline");
        world.settle();
        last(&world).0
    };
    assert_eq!(ended(json!(30)), Assessment::Failure);
    assert_eq!(ended(json!(null)), Assessment::Error);
}

#[test]
fn jobs_that_cannot_be_listed_are_waited_for_by_name() {
    let mut world = at_rest(&[metric(&json!({}))], &json!({}));
    world.observed.jobs.listed = None;
    commit(&mut world, "checkout:2");
    world.pass_time(30);
    assert!(waits(&world).contains(&"JobsUnlisted".to_owned()), "{:?}", waits(&world));
    assert_eq!(world.weight(), 20);
    world.observed.jobs.listed = Some(Vec::new());
    world.settle();
    assert_eq!(world.running_jobs().len(), 1);
}

#[test]
fn a_rollout_that_is_deleted_ends_its_jobs() {
    let mut world = measuring(&[metric(&json!({}))], &json!({}));
    world.observed.rollout.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    world.settle();
    world.pass_time(30);
    assert!(world.running_jobs().is_empty());
    assert!(world.observed.rollout.metadata.finalizers.as_ref().is_none_or(Vec::is_empty));
}

#[test]
fn dry_run_and_initial_delay_are_as_for_other_metrics() {
    let mut world = at_rest(
        &[metric(&json!({"initialDelay": "20s"})), metric(&json!({"name": "dry"}))],
        &json!({"dryRun": [{"metricName": "^dry$"}]}),
    );
    commit(&mut world, "checkout:2");
    world.pass_time(15);
    assert_eq!(world.running_jobs().len(), 1, "one waits for its delay");
    world.end_jobs("Failed", "", "");
    world.settle();
    world.pass_time(20);
    assert!(world.observed.rollout.status.aborted.is_none());
    world.end_jobs("Complete", "", "");
    world.settle();
    world.pass_time(20);
    assert_eq!(world.weight(), 50);
}

#[test]
fn what_is_wrong_with_a_job_is_told_by_its_path() {
    let told = |more: Value| {
        let spec = json!({"args": [{"name": "revision"}], "metrics": [metric(&more)]});
        parse_template(&spec, End::Count).err().into_iter().flatten().map(|fault| fault.to_string()).collect::<Vec<_>>()
    };
    let check = |more: Value, path: &str, why: &str| {
        let faults = told(more);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with(&format!("spec.metrics[0].{path}: ")) && faults[0].contains(why), "{faults:?}");
    };
    let of_spec = |more: Value| json!({"job": {"spec": more}});
    let of_pod = |more: Value| json!({"job": {"spec": {"template": {"spec": more}}}});
    assert_eq!(told(json!({})), Vec::<String>::new());
    check(of_pod(json!({"restartPolicy": null})), "job.spec.template.spec.restartPolicy", "write Never or OnFailure");
    check(
        of_pod(json!({"restartPolicy": "Always"})),
        "job.spec.template.spec.restartPolicy",
        "write Never or OnFailure",
    );
    check(of_pod(json!({"containers": []})), "job.spec.template.spec.containers", "add a container");
    check(of_pod(json!({"containers": [{"name": "a"}]})), "job.spec.template.spec.containers[0].image", "is required");
    check(of_pod(json!({"container": {"image": "a"}})), "job.spec.template.spec.container", "is unknown");
    check(of_spec(json!({"backoffLimits": 3})), "job.spec.backoffLimits", "is unknown");
    check(of_spec(json!({"backoffLimit": "three"})), "job.spec.backoffLimit", "invalid type");
    check(of_spec(json!({"selector": {"matchLabels": {"a": "b"}}})), "job.spec.selector", "remove it");
    check(of_spec(json!({"manualSelector": true})), "job.spec.manualSelector", "remove it");
    check(of_spec(json!({"suspend": true})), "job.spec.suspend", "from ever running");
    check(of_spec(json!({"parallelism": 0})), "job.spec.parallelism", "never run");
    check(of_spec(json!({"activeDeadlineSeconds": 0})), "job.spec.activeDeadlineSeconds", "less than 1");
    check(of_spec(json!({"ttlSecondsAfterFinished": 5})), "job.spec.ttlSecondsAfterFinished", "less than 60");
    check(
        json!({"job": {"metadata": {"labels": {"serin.dev/rollout": "a"}}}}),
        "job.metadata.labels[serin.dev/rollout]",
        "is Serin's",
    );
    let labels = json!({"template": {"metadata": {"labels": {"serin.dev/revision-hash": "a"}}}});
    check(of_spec(labels), "job.spec.template.metadata.labels[serin.dev/revision-hash]", "is Serin's");
    check(json!({"successCondition": "result > 1"}), "successCondition", "is not of job");
    check(json!({"onNoData": "Pass"}), "onNoData", "is not of job");
    let quantities = json!([{"name": "a", "image": "a", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]);
    assert_eq!(told(of_pod(json!({"containers": quantities}))), Vec::<String>::new());
}

#[test]
fn pods_of_a_job_are_not_the_rollouts() {
    let labels = json!({"job": {"spec": {"template": {"metadata": {"labels": {"app": "checkout"}}}}}});
    let mut world = at_rest(&[metric(&labels)], &json!({}));
    commit(&mut world, "checkout:2");
    world.pass_time(20);
    let told = &world.observed.rollout.status.blocked_by;
    let invalid = told.iter().find(|wait| wait.reason == "TemplateInvalid").unwrap();
    assert!(
        invalid.message.contains(
            "spec.metrics[0].job.spec.template.metadata.labels: are what the Rollout's selector selects (app=checkout)"
        ),
        "{}",
        invalid.message
    );
    assert!(world.running_jobs().is_empty());
}

#[test]
fn names_fit_and_differ() {
    let long = "a".repeat(90);
    for (rollout, metric) in [("checkout", "smoke"), (long.as_str(), "x"), ("checkout", "Über/smoke.test"), ("-", "-")]
    {
        let (one, two) = (job::name(rollout, metric, "h/1/step1/5/m/0"), job::name(rollout, metric, "h/1/step1/5/m/1"));
        assert_ne!(one, two);
        assert!(
            one.len() <= 63
                && one.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{one}"
        );
        assert!(!one.starts_with('-'));
    }
}

/// The random stories have Jobs in some of them, and none of it breaks what must be.
#[test]
fn random_stories_run_jobs() {
    let (mut jobs, mut aborted) = (0, 0);
    for seed in (2..62).step_by(5) {
        let report = serin::sim::run(&serin::sim::draw::story(seed)).unwrap();
        assert!(report.broken.is_empty(), "seed {seed}: {:?}", report.broken);
        jobs += report.jobs;
        aborted += usize::from(report.end.message.contains("Job checkout-jobs-"));
    }
    assert!(jobs > 10 && aborted > 0, "{jobs} Jobs ran, and {aborted} stories ended by one");
}
