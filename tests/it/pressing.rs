//! What of a status must be recorded at once, and what may wait for more.

use serde_json::{Value, json};
use serin::api::status::RolloutStatus;
use serin::plan::status::is_pressing;

/// A status in the middle of a canary, and something else in it.
fn status(patch: &Value) -> RolloutStatus {
    let mut status = json!({
        "phase": "Progressing", "message": "1 of 2 pods", "replicas": 6, "readyReplicas": 5, "availableReplicas": 5,
        "stable": {"hash": "a", "replicas": 4, "ready": 4, "weight": 80, "observedWeight": 80},
        "canary": {"hash": "b", "replicas": 2, "ready": 1, "weight": 20, "observedWeight": 20},
        "currentStepIndex": 1,
    });
    json_patch::merge(&mut status, patch);
    serde_json::from_value(status).unwrap()
}

#[test]
fn counts_and_words_may_wait() {
    let wait =
        |reason: &str| json!({"blockedBy": [{"reason": reason, "message": "", "since": "2026-01-01T00:00:00Z"}]});
    let condition = |status: &str, reason: &str| {
        json!({"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": reason, "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    let cases: [(Value, Value, bool); 11] = [
        (json!({}), json!({}), false),
        (json!({}), json!({"message": "2 of 2 pods"}), false),
        (json!({}), json!({"replicas": 7, "readyReplicas": 6, "availableReplicas": 6}), false),
        (json!({}), json!({"canary": {"replicas": 3, "ready": 2}}), false),
        (json!({}), wait("PodsNotReady"), false),
        (wait("PodsNotReady"), wait("Restarting"), false),
        (wait("PodsNotReady"), wait("NoData"), true),
        (condition("False", "Canary"), condition("False", "PodsNotReady"), false),
        (condition("False", "Canary"), condition("True", "Canary"), true),
        (json!({}), json!({"canary": {"observedWeight": 21}}), true),
        (json!({}), json!({"currentStepIndex": 2}), true),
    ];
    for (before, after, expected) in cases {
        assert_eq!(is_pressing(&status(&before), &status(&after)), expected, "{before} {after}");
    }
}
