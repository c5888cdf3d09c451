//! Stories in which canaries are held against a baseline.

use serde_json::{Value, json};

/// Every gate holds the canary against a baseline, too, and judges nothing by it.
pub(super) fn beside(spec: &mut Value) -> Value {
    let steps = spec.pointer_mut("/strategy/canary/steps").and_then(Value::as_array_mut);
    for templates in steps.into_iter().flatten().filter_map(|step| step.pointer_mut("/analysis/templates")) {
        templates.as_array_mut().into_iter().for_each(|all| all.push(json!({"templateName": "beside"})));
    }
    let compare = json!({"against": "baseline", "bad": "bad{r=\"{{revision}}\"}", "total": "all{r=\"{{revision}}\"}"});
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "beside", "namespace": "shop"},
        "spec": {
            "metrics": [{"name": "beside", "interval": "5s", "count": 3, "compare": compare}],
            "dryRun": [{"metricName": "beside"}],
        },
    })
}
