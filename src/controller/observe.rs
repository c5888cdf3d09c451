//! Caches to one snapshot. Decides nothing, and asks the API server nothing but to watch what a Rollout names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::cache::Select;
use super::{Shell, configs, jobs};
use crate::api::istio::full_host;
use crate::api::names;
use crate::api::provider::MetricProviderSpec;
use crate::api::watched::{
    DestinationRule, HttpRoute, MetricProvider, ReplicaSet, Rollout, RolloutAction, Service, VirtualService,
};
use crate::plan::baseline;
use crate::plan::observed::{Observed, Proxies, Template, Workload};

/// Words under which each kind is found, and by which its changes reach the Rollouts that read it.
pub mod words {
    use super::{
        BTreeSet, DestinationRule, HttpRoute, MetricProvider, ReplicaSet, Rollout, RolloutAction, Service, Value,
        VirtualService, full_host, names,
    };
    use crate::api::watched::{AnalysisTemplate, ClusterAnalysisTemplate};

    /// The word of one object.
    pub fn of(kind: &str, namespace: &str, name: &str) -> String {
        format!("{kind}/{namespace}/{name}")
    }

    fn own(kind: &str, metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
        of(kind, metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    /// A Rollout: itself.
    pub fn rollout(one: &Rollout) -> Vec<String> {
        vec![own("rollout", &one.metadata)]
    }

    /// A ReplicaSet: its Rollout.
    pub fn replica_set(one: &ReplicaSet) -> Vec<String> {
        let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
        let owners = one
            .metadata
            .owner_references
            .iter()
            .flatten()
            .filter(|owner| owner.kind == "Rollout" && owner.api_version == names::API_VERSION);
        owners.map(|owner| of("rollout", namespace, &owner.name)).collect()
    }

    /// A VirtualService: itself, its hosts and what it delegates to.
    pub fn virtual_service(one: &VirtualService) -> Vec<String> {
        let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
        let hosts = one.spec.hosts.iter().map(|host| format!("vshost/{}", full_host(host, namespace)));
        let delegates = one.delegates().map(|(namespace, name)| of("delegate", namespace, name));
        std::iter::once(own("virtualservice", &one.metadata)).chain(hosts).chain(delegates).collect()
    }

    /// An HTTPRoute: itself, and the Services of its namespace that it leads to.
    pub fn http_route(one: &HttpRoute) -> Vec<String> {
        let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
        let backends = one.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
        let backends: BTreeSet<String> = backends
            .filter(|backend| backend.is_service(&backend.name, namespace))
            .map(|backend| of("backend", namespace, &backend.name))
            .collect();
        std::iter::once(own("httproute", &one.metadata)).chain(backends).collect()
    }

    /// A DestinationRule: itself and its host.
    pub fn destination_rule(one: &DestinationRule) -> Vec<String> {
        let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
        vec![own("destinationrule", &one.metadata), format!("drhost/{}", full_host(&one.spec.host, namespace))]
    }

    /// A Service: itself.
    pub fn service(one: &Service) -> Vec<String> {
        vec![own("service", &one.metadata)]
    }

    /// An AnalysisTemplate: itself.
    pub fn template(one: &AnalysisTemplate) -> Vec<String> {
        vec![own("analysistemplate", &one.metadata)]
    }

    /// A ClusterAnalysisTemplate: itself.
    pub fn cluster_template(one: &ClusterAnalysisTemplate) -> Vec<String> {
        vec![own("clusteranalysistemplate", &one.metadata)]
    }

    /// A MetricProvider: any Rollout may use it.
    pub fn provider(_: &MetricProvider) -> Vec<String> {
        vec!["metricprovider".to_owned()]
    }

    /// A RolloutAction: its Rollout.
    pub fn action(one: &RolloutAction) -> Vec<String> {
        let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
        let rollout = one.spec.value().get("rollout").and_then(Value::as_str).map(str::to_owned);
        rollout.map(|rollout| of("rollout", namespace, &rollout)).into_iter().collect()
    }
}

/// Reads one Rollout's world from the caches; the words it read stand in the second value.
pub fn observe(shell: &Shell, rollout: &Rollout) -> (Observed, BTreeSet<String>) {
    let namespace = rollout.metadata.namespace.clone().unwrap_or_default();
    let name = rollout.metadata.name.clone().unwrap_or_default();
    let uid = rollout.metadata.uid.clone();
    let spec = rollout.spec.value();
    let caches = &shell.caches;
    let mut read = BTreeSet::new();
    let own = words::of("rollout", &namespace, &name);
    let replica_sets = caches
        .replica_sets
        .find(&own)
        .into_iter()
        .filter(|one| one.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid.as_ref()));
    let (baselines, replica_sets) =
        replica_sets.map(|one| (*one).clone()).partition(|one: &ReplicaSet| baseline::is_one(one));
    let key = format!("{namespace}/{name}");
    let mut observed = Observed {
        rollout: rollout.clone(),
        replica_sets,
        baselines,
        actions: caches.actions.find(&own).into_iter().map(|one| (*one).clone()).collect(),
        settings: shell.settings.clone(),
        proxies: proxies(shell, &key),
        refusal: shell.refusal(&namespace, &name),
        pods: shell.pods.of(&key),
        eviction_refused: shell.eviction_refused(&key),
        edits_postponed: shell.edits_postponed(&key),
        ..Observed::default()
    };
    observed.configs = configs::observe(shell, &key, rollout, &observed.replica_sets);
    observed.workload = workload(shell, &key, &spec);
    read_route(shell, &namespace, &name, &spec, &mut observed, &mut read);
    read_http_routes(shell, &namespace, &spec, &mut observed, &mut read);
    read_templates(shell, &namespace, &spec, &mut observed, &mut read);
    observed.jobs = jobs::observe(shell, &key, rollout, &observed.templates);
    if spec.pointer("/strategy/canary/analysis").is_some() || !observed.templates.is_empty() {
        observed.providers = providers(shell, &namespace);
        read.insert("metricprovider".to_owned());
    }
    (observed, read)
}

/// What is known of the proxies.
fn proxies(shell: &Shell, rollout: &str) -> Proxies {
    if shell.proxies.is_some() { shell.inquiries.of(rollout) } else { Proxies::Unasked }
}

/// The Deployment that the Rollout names, which is watched from now on.
fn workload(shell: &Shell, rollout: &str, spec: &Value) -> Workload {
    let Some(name) = spec.pointer("/workloadRef/name").and_then(Value::as_str) else {
        shell.workloads.end(rollout);
        return Workload::Unlisted;
    };
    shell.workloads.begin(&shell.client, rollout, Select::Name(name.to_owned()), &shell.queue);
    match shell.workloads.of(rollout).map(|found| found.into_iter().next()) {
        None => Workload::Unlisted,
        Some(None) => Workload::Missing,
        Some(Some(deployment)) => Workload::Found(Box::new(deployment)),
    }
}

fn read_route(
    shell: &Shell,
    namespace: &str,
    name: &str,
    spec: &Value,
    observed: &mut Observed,
    read: &mut BTreeSet<String>,
) {
    let caches = &shell.caches;
    let istio = spec.pointer("/strategy/canary/trafficRouting/istio").cloned().unwrap_or_default();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let owned_name = names::owned_route(name);
    let mut services = BTreeSet::new();
    let mut virtual_services = vec![owned_name.clone()];
    virtual_services.extend(text(istio.pointer("/virtualService/name")));
    let several = istio.get("virtualServices").and_then(Value::as_array).into_iter().flatten();
    virtual_services.extend(several.filter_map(|one| text(one.get("name"))));
    let mut rules = BTreeSet::from([words::of("destinationrule", namespace, &owned_name)]);
    rules.extend(
        text(istio.pointer("/destinationRule/name")).map(|name| words::of("destinationrule", namespace, &name)),
    );
    let mut found: BTreeMap<String, VirtualService> = BTreeMap::new();
    let mut words_of_routes: BTreeSet<String> =
        virtual_services.iter().map(|name| words::of("virtualservice", namespace, name)).collect();
    for host in istio.pointer("/owned/hosts").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        words_of_routes.insert(format!("vshost/{}", full_host(host, namespace)));
    }
    words_of_routes.extend(virtual_services.iter().map(|name| words::of("delegate", namespace, name)));
    let sides =
        ["/strategy/canary/stableService", "/strategy/canary/canaryService"].map(|path| text(spec.pointer(path)));
    for host in sides.into_iter().flatten().chain(text(istio.pointer("/owned/host"))) {
        services.insert(full_host(&host, namespace));
    }
    for word in &words_of_routes {
        for one in caches.virtual_services.find(word) {
            let key = words::of(
                "",
                one.metadata.namespace.as_deref().unwrap_or_default(),
                one.metadata.name.as_deref().unwrap_or_default(),
            );
            found.insert(key, (*one).clone());
        }
    }
    for one in found.values().filter(|one| virtual_services.iter().any(|name| one.metadata.name.as_ref() == Some(name)))
    {
        let hosts = one
            .spec
            .all()
            .flat_map(|route| &route.route)
            .map(|weighted| full_host(&weighted.destination.host, namespace));
        services.extend(hosts);
    }
    rules.extend(services.iter().map(|host| format!("drhost/{host}")));
    // Clients may call another host than the sides of a route.
    for one in found.values() {
        let own = one.metadata.namespace.as_deref().unwrap_or_default();
        services.extend(one.spec.hosts.iter().map(|host| full_host(host, own)));
    }
    for host in &services {
        if let Some((service, namespace)) = crate::api::istio::service_of(host) {
            observed.services.extend(caches.services.get(namespace, service).map(|one| (*one).clone()));
            read.insert(words::of("service", namespace, service));
        }
    }
    observed.virtual_services = found.into_values().collect();
    observed.destination_rules = rules_of(shell, &rules);
    read.extend(words_of_routes);
    read.extend(rules);
}

/// The DestinationRules that are found under some words, each once.
fn rules_of(shell: &Shell, listed: &BTreeSet<String>) -> Vec<DestinationRule> {
    let mut found: BTreeMap<String, DestinationRule> = BTreeMap::new();
    for one in listed.iter().flat_map(|word| shell.caches.destination_rules.find(word)) {
        let (namespace, name) = (one.metadata.namespace.as_deref(), one.metadata.name.as_deref());
        found.insert(words::of("", namespace.unwrap_or_default(), name.unwrap_or_default()), (*one).clone());
    }
    found.into_values().collect()
}

/// The HTTPRoutes that it names, others that lead to its Services, and the Services of the mesh that they are for.
fn read_http_routes(
    shell: &Shell,
    namespace: &str,
    spec: &Value,
    observed: &mut Observed,
    read: &mut BTreeSet<String>,
) {
    let Some(gateway) = spec.pointer("/strategy/canary/trafficRouting/gatewayAPI") else { return };
    let several = gateway.get("httpRoutes").and_then(Value::as_array).into_iter().flatten();
    let named = gateway.get("httpRoute").into_iter().chain(several);
    let named = named.filter_map(|one| Some(words::of("httproute", namespace, one.get("name")?.as_str()?)));
    let sides = ["/strategy/canary/stableService", "/strategy/canary/canaryService"];
    let leading = sides.iter().filter_map(|path| Some(words::of("backend", namespace, spec.pointer(path)?.as_str()?)));
    let wanted: BTreeSet<String> = named.chain(leading).collect();
    let found = wanted.iter().flat_map(|word| shell.caches.http_routes.find(word));
    let found: BTreeMap<String, HttpRoute> =
        found.map(|one| (one.metadata.name.clone().unwrap_or_default(), (*one).clone())).collect();
    let is_known = |observed: &Observed, name: &str| {
        observed.services.iter().any(|service| service.metadata.name.as_deref() == Some(name))
    };
    for parent in found.values().flat_map(|one| &one.spec.parent_refs) {
        if parent.is_service() && parent.namespace(namespace) == namespace && !is_known(observed, &parent.name) {
            observed.services.extend(shell.caches.services.get(namespace, &parent.name).map(|one| (*one).clone()));
            read.insert(words::of("service", namespace, &parent.name));
        }
    }
    observed.http_routes = found.into_values().collect();
    read.extend(wanted);
}

fn read_templates(shell: &Shell, namespace: &str, spec: &Value, observed: &mut Observed, read: &mut BTreeSet<String>) {
    let canary = spec.pointer("/strategy/canary");
    let steps = canary
        .and_then(|canary| canary.get("steps")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(|step| step.get("analysis"));
    let background = canary.and_then(|canary| canary.get("analysis"));
    let mut wanted = BTreeSet::new();
    for analysis in steps.chain(background) {
        for reference in analysis.get("templates").and_then(Value::as_array).into_iter().flatten() {
            let cluster = reference.get("clusterScope").and_then(Value::as_bool).unwrap_or(false);
            wanted.extend(reference.get("templateName").and_then(Value::as_str).map(|name| (cluster, name.to_owned())));
        }
    }
    for (cluster, name) in wanted {
        let spec = if cluster {
            read.insert(words::of("clusteranalysistemplate", "", &name));
            shell.caches.cluster_templates.get("", &name).map(|one| one.spec.clone())
        } else {
            read.insert(words::of("analysistemplate", namespace, &name));
            shell.caches.templates.get(namespace, &name).map(|one| one.spec.clone())
        };
        observed.templates.extend(spec.map(|spec| Template { name, cluster, spec }));
    }
}

/// Metric providers by name: what is wrong with each for this namespace, or nothing.
fn providers(shell: &Shell, namespace: &str) -> BTreeMap<String, Option<String>> {
    let mut providers = BTreeMap::new();
    if shell.default_provider.is_some() {
        providers.insert("default".to_owned(), None);
    }
    for one in shell.caches.providers.find("metricprovider") {
        let name = one.metadata.name.clone().unwrap_or_default();
        let fault = match serde_json::from_str::<MetricProviderSpec>(&one.spec.text()) {
            Err(error) => Some(format!("MetricProvider {name}: {error}")),
            Ok(spec) => spec.fault_for(&name, namespace),
        };
        providers.insert(name, fault);
    }
    providers
}

/// The spec of a metric provider.
pub fn provider(shell: &Shell, name: &str) -> Option<MetricProviderSpec> {
    let found = shell.caches.providers.get("", name).and_then(|one| serde_json::from_str(&one.spec.text()).ok());
    found.or_else(|| shell.default_provider.clone().filter(|_| name == "default"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_http_route_is_found_by_itself_and_by_its_backends() {
        let backend = |kind: &str, namespace: &str| json!({"name": "checkout", "kind": kind, "namespace": namespace});
        let rules = json!([
            {"backendRefs": [{"name": "checkout-stable"}, backend("Service", "shop")]},
            {"backendRefs": [{"name": "checkout-stable"}, backend("ServiceImport", "shop"), backend("Service", "payments")]},
        ]);
        let route = json!({"metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"rules": rules}});
        let words = words::http_route(&serde_json::from_value(route).unwrap());
        assert_eq!(words, ["httproute/shop/checkout", "backend/shop/checkout", "backend/shop/checkout-stable"]);
    }
}
