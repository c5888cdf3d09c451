//! What brings a Rollout's template before a commit and after it: the Rollout, or a Deployment.

use serde_json::Value;

use super::before::{Before, Known, read};
use crate::api::status::RolloutStatus;
use crate::embedded::store::key_of;
use crate::sim::input::deployment_of;

/// What brings the template, where there is something to say of it.
pub(super) fn told(known: Option<&Known<'_>>, after: Option<&Value>, is_changed: bool) -> Option<String> {
    let named = |deployment: Option<&Value>| deployment.map(|one| format!("Deployment {}", key_of(one).1));
    let (from, to) = (known.map(|known| named(known.deployment)), named(after));
    match (from, to) {
        (None, Some(to)) => Some(format!("{to} brings the template")),
        (Some(Some(from)), Some(to)) if from == to => is_changed.then(|| format!("{to} brings the template")),
        (Some(from), to) if from != to => {
            let side = |side: Option<String>| side.unwrap_or_else(|| "the Rollout itself".to_owned());
            Some(format!("{} brings the template from now on; {} did before", side(to), side(from)))
        }
        (None | Some(_), _) => None,
    }
}

/// What API servers say of a selector that there was and is not any more.
pub(super) fn refused(before: &Value, after: &Value) -> Option<String> {
    let selector = |spec: &Value| spec.get("selector").filter(|selector| !selector.is_null()).cloned();
    let (before, after) = (selector(before)?, selector(after));
    let told = |what: &str, how: &str| format!("API servers refuse it: the selector cannot be {what}; {how}");
    match after {
        None => Some(told("removed", "keep spec.selector beside workloadRef, or create another Rollout")),
        Some(after) if after != before => Some(told("changed", "keep it, or create another Rollout")),
        Some(_) => None,
    }
}

/// What is lost where a commit takes the Deployment's pods away before the Rollout has any, and what to do.
pub(super) fn takeover(
    before: &Before,
    status: &RolloutStatus,
    written: &Value,
    after: Option<&Value>,
) -> Option<String> {
    let is_stopped = after.and_then(|after| after.pointer("/spec/replicas")).and_then(Value::as_i64) == Some(0);
    if !is_stopped || status.stable.is_some() {
        return None;
    }
    let deployment = deployment_of(written, &before.deployments).and_then(read)?;
    let name = deployment.metadata.name.clone().unwrap_or_default();
    let pods = deployment.pods();
    (pods > 0).then(|| {
        format!(
            "Deployment {name} goes from {pods} pods to 0 in this commit, and nobody answers until the Rollout's pods are ready: leave its replicas as they are, and commit replicas: 0 once the Rollout is Healthy"
        )
    })
}
