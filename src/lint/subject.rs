//! One Rollout of the input, understood as the controller understands it, with what it would see of the input.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Path;

use super::input::{
    CLUSTER_TEMPLATE, DEPLOYMENT, DESTINATION_RULE, HTTP_ROUTE, Input, Kind, Object, PROVIDER, ROLLOUT, SERVICE,
    TEMPLATE, VIRTUAL_SERVICE,
};
use crate::api::provider::MetricProviderSpec;
use crate::api::rollout::RolloutSpec;
use crate::api::watched::{DestinationRule, HttpRoute, Service, VirtualService};
use crate::plan::observed::{Observed, Template, Workload};
use crate::plan::strategy::{self, Gate, Strategy};
use crate::plan::template::End;

/// A Rollout that can be read.
pub(super) struct Subject<'a> {
    /// Everything.
    pub input: &'a Input,
    /// The Rollout.
    pub object: &'a Object,
    /// Its spec as written.
    pub spec: RolloutSpec,
    /// Its spec, understood, with the template of the Deployment that it names.
    pub strategy: Strategy,
    /// What holds the pod template in `spec.template`: the Rollout, or the Deployment that it names.
    pub holder: &'a Object,
}

impl<'a> Subject<'a> {
    /// A Rollout; none where its spec cannot be read, which is told elsewhere.
    pub(super) fn of(input: &'a Input, object: &'a Object) -> Option<Self> {
        if !object.is(ROLLOUT) {
            return None;
        }
        let written = object.value.get("spec")?;
        let spec: RolloutSpec = serde_json::from_value(written.clone()).ok()?;
        let name = spec.workload_ref.as_ref().map(|reference| reference.name.as_str());
        let deployment = name.and_then(|name| input.find(DEPLOYMENT, &object.namespace, name));
        let read = deployment.and_then(|deployment| typed(deployment).ok());
        let workload = read.map_or(Workload::Unlisted, |read| Workload::Found(Box::new(read)));
        let strategy = strategy::of(&object.namespace, written, &workload);
        Some(Self { input, object, spec, strategy, holder: deployment.unwrap_or(object) })
    }

    /// Items of a list in its pod template, at a JSON pointer.
    pub(super) fn in_template(&self, pointer: &str) -> &[Value] {
        let template = self.strategy.template.as_ref();
        template.and_then(|template| template.pointer(pointer)?.as_array()).map_or(&[], Vec::as_slice)
    }

    /// Whether it names its VirtualService in `virtualService`, and not in `virtualServices`; likewise its HTTPRoute.
    pub(super) fn names_one(&self) -> bool {
        self.spec.strategy.canary.traffic_routing.as_ref().is_some_and(|routing| {
            routing.istio.as_ref().is_some_and(|istio| istio.virtual_service.is_some())
                || routing.gateway_api.as_ref().is_some_and(|gateway| gateway.http_route.is_some())
        })
    }

    /// The labels of its pods.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        super::input::texts(self.strategy.template.as_ref().and_then(|template| template.pointer("/metadata/labels")))
    }

    /// Its gates, each with its path: of the steps, then of the background.
    pub(super) fn gates(&self) -> Vec<GateAt<'_>> {
        let of_step = |step: Option<usize>| step.map_or_else(String::new, |index| format!(".steps[{index}]"));
        let path = |step| format!("spec.strategy.canary{}.analysis", of_step(step));
        self.strategy.gates().map(|(step, gate)| GateAt { gate, path: path(step), step }).collect()
    }
}

/// A gate and where it is.
pub(super) struct GateAt<'a> {
    /// The gate.
    pub gate: &'a Gate,
    /// Its path.
    pub path: String,
    /// The step; none for the background.
    pub step: Option<usize>,
}

/// What the controller would see of the input. Objects that cannot be read are left out, and told where they are needed.
pub(super) struct World {
    virtual_services: Vec<VirtualService>,
    http_routes: Vec<HttpRoute>,
    destination_rules: Vec<DestinationRule>,
    services: Vec<Service>,
}

impl World {
    /// Reads the objects once.
    pub(super) fn of(input: &Input) -> Self {
        Self {
            virtual_services: all(input, VIRTUAL_SERVICE),
            http_routes: all(input, HTTP_ROUTE),
            destination_rules: all(input, DESTINATION_RULE),
            services: all(input, SERVICE),
        }
    }

    /// The snapshot of one Rollout.
    pub(super) fn observed(&self, subject: &Subject<'_>) -> Observed {
        let (input, namespace) = (subject.input, subject.object.namespace.as_str());
        let template = |template: &Object, cluster: bool| {
            let spec = serde_json::from_value(template.value.get("spec")?.clone()).ok()?;
            Some(Template { name: template.name.clone(), cluster, spec })
        };
        let provider = |provider: &Object| {
            let spec: MetricProviderSpec = serde_json::from_value(provider.value.get("spec")?.clone()).ok()?;
            Some((provider.name.clone(), spec.fault_for(&provider.name, namespace)))
        };
        let is_near = |of: &Option<String>| of.as_deref() == Some(namespace);
        Observed {
            rollout: typed(subject.object).unwrap_or_default(),
            virtual_services: self.virtual_services.clone(),
            http_routes: self.http_routes.clone(),
            destination_rules: self
                .destination_rules
                .iter()
                .filter(|one| is_near(&one.metadata.namespace))
                .cloned()
                .collect(),
            services: self.services.clone(),
            templates: input
                .of_in(TEMPLATE, namespace)
                .filter_map(|one| template(one, false))
                .chain(input.of(CLUSTER_TEMPLATE).filter_map(|one| template(one, true)))
                .collect(),
            providers: input.of(PROVIDER).filter_map(provider).collect(),
            ..Observed::default()
        }
    }
}

fn all<T: DeserializeOwned>(input: &Input, kind: Kind) -> Vec<T> {
    input.of(kind).filter_map(|object| typed(object).ok()).collect()
}

/// How Rollouts use templates: when the analyses that name them are over.
#[derive(Default)]
pub(super) struct Uses(BTreeMap<(String, String, bool), BTreeSet<End>>);

impl Uses {
    /// All uses.
    pub(super) fn of(subjects: &[Subject<'_>]) -> Self {
        let mut uses = Self::default();
        for subject in subjects {
            for at in subject.gates() {
                for template in &at.gate.templates {
                    let is_cluster = template.cluster_scope.unwrap_or(false);
                    let namespace = if is_cluster { "" } else { subject.object.namespace.as_str() };
                    let key = (namespace.to_owned(), template.template_name.clone(), is_cluster);
                    uses.0.entry(key).or_default().insert(End::of(at.gate, at.step.is_none()));
                }
            }
        }
        uses
    }

    /// When the analyses that use a template are over. What nothing uses may be meant for the background.
    pub(super) fn get(&self, template: &Object) -> BTreeSet<End> {
        let is_cluster = template.is(CLUSTER_TEMPLATE);
        let key = (template.namespace.clone(), template.name.clone(), is_cluster);
        self.0.get(&key).cloned().unwrap_or_else(|| BTreeSet::from([End::Never]))
    }
}

/// An object as the controller reads it, or the path and the reason why it cannot.
pub(super) fn typed<T: DeserializeOwned>(object: &Object) -> Result<T, (String, String)> {
    let mut value: Value = object.value.clone();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
        && !object.namespace.is_empty()
    {
        metadata.insert("namespace".to_owned(), Value::from(object.namespace.as_str()));
    }
    serde_path_to_error::deserialize(&value).map_err(|error| (told(error.path()), error.inner().to_string()))
}

fn told(path: &Path) -> String {
    let text = path.to_string();
    if text == "." { String::new() } else { text }
}
