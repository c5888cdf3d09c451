//! Deployments that bring a Rollout's template: whether they are there, and who holds their replicas.

use kube::ResourceExt as _;
use kube::api::ListParams;

use super::{Check, Patient};
use crate::api::watched::{Deployment, Rollout};
use crate::cli::view::counted;

const NAME: &str = "workload";

/// Every Deployment that a Rollout names.
pub(super) async fn deployments(patient: &Patient<'_>) -> Vec<Check> {
    let rollouts = match &patient.rollout {
        Some(rollout) => vec![rollout.clone()],
        None => match patient.cluster.api::<Rollout>().list(&ListParams::default()).await {
            Err(error) => return vec![Check::skipped(NAME, &error)],
            Ok(list) => list.items,
        },
    };
    let mut checks = Vec::new();
    for rollout in rollouts {
        let Some(name) = rollout.workload() else { continue };
        let found = patient.cluster.api::<Deployment>().get_opt(&name).await;
        checks.push(match found {
            Err(error) => Check::skipped(NAME, &error),
            Ok(found) => deployment(&rollout, &name, found.as_ref()),
        });
    }
    checks
}

/// How the Deployment of a Rollout is.
fn deployment(rollout: &Rollout, name: &str, found: Option<&Deployment>) -> Check {
    let of = rollout.name_any();
    let Some(deployment) = found else {
        let message = format!("Deployment {name}, which brings the pod template of Rollout {of}, does not exist");
        return Check::failed(NAME, message, "create it, or correct its name in spec.workloadRef");
    };
    let told = format!("Deployment {name} brings the pod template of Rollout {of}");
    let pods = counted(deployment.pods());
    match deployment.replicas_holder() {
        _ if deployment.pods() == 0 => Check::ok(NAME, format!("{told}, and has no pods")),
        _ if rollout.status.stable.is_none() => Check::ok(NAME, format!("{told}, and serves with {pods}")),
        Some(holder) => Check::warning(
            NAME,
            format!("{told}, and still has {pods}: {holder} holds its replicas"),
            "write replicas: 0 into it in Git, or leave replicas out, with server-side apply or kubectl apply",
        ),
        None => Check::ok(NAME, format!("{told}; its {pods} go once stable is available")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Result;
    use super::*;

    fn check(replicas: i32, manager: &str, is_stable: bool) -> (Result, String) {
        let entry = json!({"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}, "f:replicas": {}}}});
        let fields = if manager.is_empty() { json!([]) } else { json!([entry]) };
        let metadata = json!({"name": "checkout", "managedFields": fields});
        let deployment: Deployment =
            serde_json::from_value(json!({"metadata": metadata, "spec": {"replicas": replicas}})).unwrap();
        let stable = if is_stable { json!({"hash": "a"}) } else { Value::Null };
        let rollout: Rollout =
            serde_json::from_value(json!({"metadata": {"name": "shop"}, "spec": {}, "status": {"stable": stable}}))
                .unwrap();
        let check = super::deployment(&rollout, "checkout", Some(&deployment));
        (check.result, check.message)
    }

    #[test]
    fn who_holds_the_replicas_is_told() {
        assert_eq!(check(0, "flux", true).0, Result::Ok);
        assert_eq!(check(3, "flux", false).0, Result::Ok, "it serves until the Rollout does");
        assert_eq!(check(3, "", true).0, Result::Ok, "the controller scales it");
        let (result, message) = check(1, "flux", true);
        assert_eq!(result, Result::Warning);
        assert!(message.ends_with("and still has 1 pod: flux holds its replicas"), "{message}");
        assert_eq!(deployment(&Rollout::default(), "checkout", None).result, Result::Failed);
    }
}
