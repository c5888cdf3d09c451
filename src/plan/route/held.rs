//! What of the two sides Git holds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::read::{is_ours, rule_named, service_named};
use super::{Sides, names_of};
use crate::plan::observed::Observed;
use crate::plan::strategy::Strategy;

/// The sides that Git holds.
#[derive(Debug)]
pub struct HeldSides<'a> {
    /// Their objects, for people and for telling whether they are the same still.
    pub text: String,
    /// The objects.
    pub objects: Vec<&'a ObjectMeta>,
    /// Whether they are Services, and not subsets of a DestinationRule.
    pub are_services: bool,
}

/// The DestinationRule, or the Services, in which Serin keeps a label though Git holds them.
pub fn held_sides<'a>(observed: &'a Observed, strategy: &Strategy) -> Option<HeldSides<'a>> {
    let rollout = observed.rollout.metadata.name.as_deref().unwrap_or_default();
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    match names_of(rollout, strategy.routing.as_ref()?).sides {
        Sides::Subsets { owns_rule: true, .. } => None,
        Sides::Subsets { rule, owns_rule: false, .. } => {
            let objects = vec![&rule_named(observed, namespace, &rule)?.metadata];
            Some(HeldSides { text: format!("DestinationRule {rule}"), objects, are_services: false })
        }
        Sides::Services { stable, canary } => {
            let service = |name: &str| service_named(observed, namespace, name).map(|one| &one.metadata);
            let found: Vec<&ObjectMeta> = [&stable, &canary].into_iter().filter_map(|name| service(name)).collect();
            let objects: Vec<&ObjectMeta> = found.into_iter().filter(|one| !is_ours(observed, one)).collect();
            let names: Vec<&str> = objects.iter().filter_map(|one| one.name.as_deref()).collect();
            let text = format!("Service {}", names.join(" and Service "));
            (!objects.is_empty()).then_some(HeldSides { text, objects, are_services: true })
        }
    }
}
