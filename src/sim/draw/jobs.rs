//! Stories in which gates wait for Jobs, too.

use fastrand::Rng;
use serde_json::{Value, json};

/// Every gate runs Jobs beside its queries, some of them in the background as well.
pub(super) fn beside(seed: u64, spec: &mut Value) -> Value {
    let mut chance = Rng::with_seed(seed.rotate_left(56) | 1);
    let named = json!({"templateName": "jobs"});
    let steps = spec.pointer_mut("/strategy/canary/steps").and_then(Value::as_array_mut);
    for templates in steps.into_iter().flatten().filter_map(|step| step.pointer_mut("/analysis/templates")) {
        templates.as_array_mut().into_iter().for_each(|all| all.push(named.clone()));
    }
    let interval = ["1s", "5s", "20s"].get(chance.usize(..3)).copied().unwrap_or("5s");
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "test", "image": "test:1"}]});
    let job = json!({"metadata": {"labels": {"of": "test"}}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}});
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "jobs", "namespace": "shop"},
        "spec": {
            "metrics": [{"name": "jobs", "interval": interval, "count": chance.i64(1..=3), "failureLimit": 0, "job": job}],
            "measurementRetention": [{"metricName": "jobs", "limit": chance.i64(1..=3)}],
        },
    })
}
