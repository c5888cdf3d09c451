//! What a template says of a Job: all that is wrong with it, and the Job with arguments filled in.

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::super::observed::Observed;
use super::super::strategy::Fault;
use super::super::template::interpolate;
use super::DEADLINE;
use crate::api::analysis::MetricSpec;
use crate::api::job::{JobMetadataSpec, JobMetric};
use crate::api::names;

/// How long a Job that is over stays at least, so that its end is seen.
const TTL_LEAST: i32 = 60;

/// A metric's Job, arguments filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRun {
    /// Labels and annotations.
    pub metadata: JobMetadataSpec,
    /// The spec, with a deadline.
    pub spec: Value,
    /// How long it may run.
    pub deadline: SignedDuration,
    /// Whether the template says so.
    pub has_own_deadline: bool,
}

/// All that is wrong with the Job of a metric.
pub fn check(path: &str, metric: &MetricSpec, faults: &mut Vec<Fault>) {
    let Some(job) = &metric.job else { return };
    let of_values = [
        ("successCondition", metric.success_condition.is_some()),
        ("failureCondition", metric.failure_condition.is_some()),
        ("onNoData", metric.on_no_data.is_some()),
    ];
    for (field, _) in of_values.iter().filter(|(_, is_given)| *is_given) {
        let why = "is not of job: one that completes is a success, and one that fails a failure; remove it";
        faults.push(Fault::new(format!("{path}.{field}"), why));
    }
    let path = format!("{path}.job");
    if let Some(metadata) = &job.metadata {
        let keys = [("labels", &metadata.labels), ("annotations", &metadata.annotations)];
        for (field, all) in keys {
            let keys = all.iter().flatten().map(|(key, _)| key.as_str());
            check_keys(&format!("{path}.metadata.{field}"), keys, faults);
        }
    }
    let path = format!("{path}.spec");
    let spec = with_quantities(&job.spec);
    if !spec.is_object() {
        faults.push(Fault::new(path, "is required: the spec of a batch/v1 Job"));
        return;
    }
    let typed: Result<JobSpec, _> = serde_path_to_error::deserialize(&spec);
    match typed {
        Err(error) => faults.push(Fault::new(format!("{path}.{}", error.path()), error.inner().to_string())),
        Ok(typed) => {
            unknown(&path, &spec, &serde_json::to_value(&typed).unwrap_or_default(), faults);
            check_spec(&path, &typed, faults);
            check_pod(&format!("{path}.template.spec"), &typed, faults);
        }
    }
}

fn check_keys<'a>(path: &str, keys: impl Iterator<Item = &'a str>, faults: &mut Vec<Fault>) {
    let prefix = format!("{}/", names::GROUP);
    for key in keys.filter(|key| key.starts_with(&prefix)) {
        faults.push(Fault::new(format!("{path}[{key}]"), "is Serin's; remove it"));
    }
}

fn check_spec(path: &str, spec: &JobSpec, faults: &mut Vec<Fault>) {
    let refused = [
        ("selector", spec.selector.is_some(), "is Kubernetes' to write; remove it"),
        ("manualSelector", spec.manual_selector.is_some(), "is not for Jobs of metrics; remove it"),
        ("suspend", spec.suspend == Some(true), "keeps it from ever running; remove it"),
        ("parallelism", spec.parallelism.is_some_and(|pods| pods < 1), "is less than 1: it would never run; remove it"),
        (
            "activeDeadlineSeconds",
            spec.active_deadline_seconds.is_some_and(|seconds| seconds < 1),
            "is less than 1; write how many seconds it may run",
        ),
        (
            "ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.is_some_and(|seconds| seconds < TTL_LEAST),
            "is less than 60: it could be gone before its end is seen; remove it, measurementRetention says what is kept",
        ),
    ];
    for (field, _, why) in refused.iter().filter(|(_, is_wrong, _)| *is_wrong) {
        faults.push(Fault::new(format!("{path}.{field}"), *why));
    }
}

fn check_pod(path: &str, spec: &JobSpec, faults: &mut Vec<Fault>) {
    let metadata = spec.template.metadata.as_ref();
    for (field, all) in [
        ("labels", metadata.and_then(|metadata| metadata.labels.as_ref())),
        ("annotations", metadata.and_then(|metadata| metadata.annotations.as_ref())),
    ] {
        let path = format!("{}.metadata.{field}", path.trim_end_matches(".spec"));
        check_keys(&path, all.into_iter().flatten().map(|(key, _)| key.as_str()), faults);
    }
    let none = PodSpec::default();
    let pod = spec.template.spec.as_ref().unwrap_or(&none);
    match pod.restart_policy.as_deref() {
        Some("Never" | "OnFailure") => {}
        Some(other) => faults.push(Fault::new(
            format!("{path}.restartPolicy"),
            format!("{other:?} is not for a Job, which would never end; write Never or OnFailure"),
        )),
        None => faults.push(Fault::new(format!("{path}.restartPolicy"), "is required; write Never or OnFailure")),
    }
    if pod.containers.is_empty() {
        faults.push(Fault::new(format!("{path}.containers"), "is empty; add a container"));
    }
    let lists = [("containers", Some(&pod.containers)), ("initContainers", pod.init_containers.as_ref())];
    for (list, containers) in lists {
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let is_missing = [
                ("name", container.name.is_empty()),
                ("image", container.image.as_deref().unwrap_or_default().is_empty()),
            ];
            for (field, _) in is_missing.iter().filter(|(_, is_missing)| *is_missing) {
                faults.push(Fault::new(format!("{path}.{list}[{index}].{field}"), "is required"));
            }
        }
    }
}

/// Fields that a Job of Kubernetes has not: an API server drops them silently.
fn unknown(path: &str, given: &Value, read: &Value, faults: &mut Vec<Fault>) {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            for (key, value) in given.iter().filter(|(_, value)| !is_empty(value)) {
                let path = format!("{path}.{key}");
                match read.get(key) {
                    Some(read) => unknown(&path, value, read, faults),
                    None => {
                        let why = "is unknown in a batch/v1 Job; remove it, or correct its indentation";
                        faults.push(Fault::new(path, why));
                    }
                }
            }
        }
        (Value::Array(given), Value::Array(read)) => {
            for (index, (given, read)) in given.iter().zip(read).enumerate() {
                unknown(&format!("{path}[{index}]"), given, read, faults);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The spec with quantities as text, which Kubernetes takes as numbers, too.
fn with_quantities(spec: &Value) -> Value {
    let text = |value: &Value| if value.is_number() { json!(value.to_string()) } else { with_quantities(value) };
    match spec {
        Value::Object(all) => all
            .iter()
            .map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("limits" | "requests" | "overhead", Value::Object(quantities)) => {
                        quantities.iter().map(|(name, one)| (name.clone(), text(one))).collect()
                    }
                    ("sizeLimit" | "divisor", one) => text(one),
                    (_, other) => with_quantities(other),
                };
                (key.clone(), value)
            })
            .collect(),
        Value::Array(all) => all.iter().map(with_quantities).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => spec.clone(),
    }
}

/// A Job with arguments filled in; a name that nothing declares is the fault.
pub fn fill(path: &str, job: &JobMetric, values: &[(String, String)]) -> Result<JobRun, Fault> {
    let path = format!("{path}.job");
    let mut spec = filled(&format!("{path}.spec"), &with_quantities(&job.spec), values)?;
    let own = spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    if let Some(all) = spec.as_object_mut().filter(|_| own.is_none()) {
        all.insert("activeDeadlineSeconds".into(), json!(DEADLINE.as_secs()));
    }
    let metadata = serde_json::to_value(job.metadata.clone().unwrap_or_default()).unwrap_or_default();
    let metadata = filled(&format!("{path}.metadata"), &metadata, values)?;
    Ok(JobRun {
        metadata: serde_json::from_value(metadata).unwrap_or_default(),
        spec,
        deadline: own.map_or(DEADLINE, SignedDuration::from_secs),
        has_own_deadline: own.is_some(),
    })
}

fn filled(path: &str, value: &Value, values: &[(String, String)]) -> Result<Value, Fault> {
    match value {
        Value::String(text) => interpolate(text, values).map(Value::String).map_err(|unknown| {
            let why = format!("names {{{{args.{unknown}}}}}, which spec.args does not declare; declare it");
            Fault::new(path, why)
        }),
        Value::Array(all) => {
            let one = |(index, value): (usize, &Value)| filled(&format!("{path}[{index}]"), value, values);
            all.iter().enumerate().map(one).collect()
        }
        Value::Object(all) => {
            let one =
                |(key, value): (&String, &Value)| Ok((key.clone(), filled(&format!("{path}.{key}"), value, values)?));
            all.iter().map(one).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
    }
}

/// Whether a Job's pods would be taken for the Rollout's own, and get their requests.
pub fn selected(path: &str, run: &JobRun, observed: &Observed) -> Option<Fault> {
    let spec = observed.rollout.spec.value();
    let own = spec.pointer("/selector/matchLabels").and_then(Value::as_object).cloned();
    let of_workload = || {
        let labels = &observed.workload.found()?.spec.selector.match_labels;
        Some(labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect())
    };
    let selector: serde_json::Map<String, Value> = own.or_else(of_workload)?;
    let labels = run.spec.pointer("/template/metadata/labels")?;
    let is_selected = !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    is_selected.then(|| {
        let told: Vec<String> =
            selector.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let why = format!(
            "are what the Rollout's selector selects ({}), so that requests would go to its pods; write others",
            told.join(",")
        );
        Fault::new(format!("{path}.job.spec.template.metadata.labels"), why)
    })
}
