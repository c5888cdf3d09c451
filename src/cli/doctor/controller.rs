//! The controller: its pods, its leader, and what it may do.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};

use super::cluster::deployed;
use super::{Check, Patient};
use crate::cli::clock;
use crate::controller::apply::PERMISSIONS;
use crate::controller::lease;
use crate::controller::shard::RING;
use crate::controller::shard::guard::HOLDER;

/// Seconds after which a lease that nobody renews means that nobody leads.
const RENEWED_WITHIN: i64 = 30;
/// The label of the controller's Deployment, however it is named.
const SELECTOR: &str = "app.kubernetes.io/name=serin";

/// Controllers run, one leads, and none is of another version.
pub(super) async fn running(patient: &Patient<'_>) -> Vec<Check> {
    const NAME: &str = "controller";
    let api: Api<Deployment> = Api::namespaced(patient.cluster.client.clone(), patient.system);
    let found = match api.list(&ListParams::default().labels(SELECTOR)).await {
        Err(error) => return vec![Check::skipped(NAME, &error)],
        Ok(found) => found.items,
    };
    let mut checks: Vec<Check> =
        found.iter().map(|one| deployed(NAME, &one.metadata.name.clone().unwrap_or_default(), one)).collect();
    if checks.is_empty() {
        let message =
            format!("no Deployment with the label app.kubernetes.io/name=serin in namespace {}", patient.system);
        let hint = "kubectl apply --server-side -k deploy, or name its namespace with --system-namespace";
        checks.push(Check::warning(NAME, message, hint));
    }
    checks.push(leader(patient).await);
    checks
}

async fn leader(patient: &Patient<'_>) -> Check {
    const NAME: &str = "leader";
    let api: Api<Lease> = Api::namespaced(patient.cluster.client.clone(), patient.system);
    let lease = match api.get_opt(lease::NAME).await {
        Err(error) => return Check::skipped(NAME, &error),
        Ok(lease) => lease,
    };
    let members = lease.as_ref().and_then(|lease| lease.annotations().get(RING).cloned()).unwrap_or_default();
    let hint = "kubectl logs -n NAMESPACE -l app.kubernetes.io/name=serin".replace("NAMESPACE", patient.system);
    let held = lease.and_then(|lease| lease.spec).and_then(|spec| Some((spec.holder_identity?, spec.renew_time?.0)));
    match held {
        None => Check::failed(NAME, "no controller leads: nothing is promoted, nothing is aborted", hint),
        Some((holder, at)) => {
            let seconds = clock::now().as_second() - at.as_second();
            let is_shared = holder == HOLDER;
            let holder = if is_shared { format!("shared by {}", members.replace(',', ", ")) } else { holder };
            if seconds <= RENEWED_WITHIN {
                Check::ok(NAME, format!("{holder}, renewed {seconds} s ago"))
            } else {
                Check::failed(NAME, format!("{holder} has not renewed its lease for {seconds} s"), hint)
            }
        }
    }
}

/// As whom a controller works, and in which namespace where it is one alone.
fn works(deployment: &Deployment) -> Option<(Option<String>, Option<String>)> {
    let pod = deployment.spec.template.spec.as_ref()?;
    let mut arguments = pod.containers.iter().flat_map(|container| container.args.iter().flatten());
    let namespace = arguments.find_map(|argument| argument.strip_prefix("--namespace="));
    Some((pod.service_account_name.clone(), namespace.map(str::to_owned)))
}

/// The controller may do what it does.
pub(super) async fn permissions(patient: &Patient<'_>) -> Check {
    const NAME: &str = "rbac";
    let deployments: Api<Deployment> = Api::namespaced(patient.cluster.client.clone(), patient.system);
    let found = deployments.list(&ListParams::default().labels(SELECTOR)).await;
    let (account, namespace) = found.ok().and_then(|found| works(found.items.first()?)).unwrap_or_default();
    let account = account.unwrap_or_else(|| "serin".to_owned());
    let user = format!("system:serviceaccount:{}:{account}", patient.system);
    let api: Api<SubjectAccessReview> = Api::all(patient.cluster.client.clone());
    let mut refused = Vec::new();
    // An installation may go without Jobs; a Rollout that asks for one says so.
    for (group, resource, verbs) in PERMISSIONS.iter().filter(|(group, ..)| *group != "batch") {
        for verb in *verbs {
            let (resource, subresource) =
                resource.split_once('/').map_or((*resource, None), |(one, sub)| (one, Some(sub)));
            let attributes = ResourceAttributes {
                group: Some((*group).to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                verb: Some((*verb).to_owned()),
                namespace: namespace.clone(),
                ..ResourceAttributes::default()
            };
            let spec = SubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                user: Some(user.clone()),
                groups: Some(vec!["system:serviceaccounts".to_owned()]),
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            match api.create(&PostParams::default(), &review).await {
                Err(error) => return Check::skipped(NAME, &error),
                Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => {}
                Ok(_) => refused.push(format!(
                    "{verb} {resource}{}",
                    subresource.map_or_else(String::new, |sub| format!("/{sub}"))
                )),
            }
        }
    }
    if refused.is_empty() {
        return Check::ok(NAME, format!("{user} may do all that the controller does"));
    }
    let hint = "upgrade the chart to this version, or apply its deploy/rbac.yaml (docs/install.md)";
    Check::failed(NAME, format!("{user} may not: {}", refused.join(", ")), hint)
}
