//! Schemas of the kinds: from the types, then tightened for the API server. Bounds make CEL rules affordable,
//! and a field that Serin does not support is declared only to be refused by name: an API server prunes unknown
//! fields silently, and a step pruned to `{}` would be a gate that vanished.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

mod notification;
mod refused;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde_json::{Map, Value, json};

pub use self::notification::{SERVICES, notification_channel};
pub use self::refused::{ROLLOUT_REFUSED, Refused, TEMPLATE_REFUSED};
use super::action::{RolloutActionSpec, RolloutActionStatus};
use super::analysis::AnalysisTemplateSpec;
use super::provider::MetricProviderSpec;
use super::rollout::RolloutSpec;
use super::status::RolloutStatus;

/// Schema of a Rollout.
pub fn rollout() -> Value {
    let mut schema = object::<RolloutSpec>(Some(of::<RolloutStatus>()));
    let spec = at(&mut schema, "spec");
    let template = tightened_template(at(spec, "template").take());
    strip_nullable(spec);
    strip_defaults(spec);
    *at(spec, "template") = template;
    for (path, items) in [
        ("strategy.canary.steps", 100),
        ("strategy.canary.steps[].analysis.templates", 20),
        ("strategy.canary.steps[].analysis.args", 50),
        ("strategy.canary.steps[].setHeaderRoute.match", 20),
        ("strategy.canary.steps[].setMirrorRoute.match", 20),
        ("strategy.canary.analysis.templates", 20),
        ("strategy.canary.analysis.dryRun", 50),
        ("strategy.canary.steps[].analysis.dryRun", 50),
        ("strategy.canary.analysis.measurementRetention", 50),
        ("strategy.canary.steps[].analysis.measurementRetention", 50),
        ("strategy.canary.analysis.args", 50),
        ("strategy.canary.trafficRouting.managedRoutes", 50),
        ("strategy.canary.trafficRouting.istio.virtualServices", 20),
        ("strategy.canary.trafficRouting.istio.virtualServices[].routes", 50),
        ("strategy.canary.trafficRouting.istio.virtualServices[].tlsRoutes", 50),
        ("strategy.canary.trafficRouting.istio.virtualServices[].tlsRoutes[].sniHosts", 50),
        ("strategy.canary.trafficRouting.istio.virtualServices[].tcpRoutes", 50),
        ("strategy.canary.trafficRouting.istio.virtualService.routes", 50),
        ("strategy.canary.trafficRouting.istio.virtualService.tlsRoutes", 50),
        ("strategy.canary.trafficRouting.istio.virtualService.tlsRoutes[].sniHosts", 50),
        ("strategy.canary.trafficRouting.istio.virtualService.tcpRoutes", 50),
        ("strategy.canary.trafficRouting.gatewayAPI.httpRoutes", 20),
        ("strategy.canary.trafficRouting.gatewayAPI.httpRoutes[].rules", 20),
        ("strategy.canary.trafficRouting.gatewayAPI.httpRoute.rules", 20),
        ("strategy.canary.trafficRouting.istio.owned.hosts", 100),
        ("strategy.canary.trafficRouting.istio.owned.gateways", 20),
        ("configSnapshots.except", 100),
        ("promotion.approvals", 100),
        ("promotion.reject", 100),
        ("promotion.windows", 20),
    ] {
        bound(spec, path, "maxItems", items);
    }
    let labels = at(spec, "selector.matchLabels");
    set(labels, "maxProperties", json!(32));
    set(labels, "minProperties", json!(1));
    set(at(labels, "{}"), "maxLength", json!(63));
    refuse(spec, ROLLOUT_REFUSED);
    rollout_rules(spec);
    schema
}

fn rollout_rules(spec: &mut Value) {
    rule(at(spec, "selector"), "self == oldSelf", "the selector cannot be changed; create another Rollout");
    one_of(spec, TEMPLATE_MEMBERS);
    rule(spec, "has(self.selector) || has(self.workloadRef)", "selector is required; only workloadRef brings one");
    rule(
        spec,
        "has(self.selector) || !has(oldSelf.selector)",
        "the selector cannot be removed; create another Rollout",
    );
    rule(
        at(spec, "workloadRef"),
        "self.apiVersion == 'apps/v1' && self.kind == 'Deployment'",
        "only a Deployment of apps/v1 is supported",
    );
    rule(
        spec,
        "!has(self.configSnapshots) || !has(self.workloadRef)",
        "configSnapshots cannot be given with workloadRef; write spec.template",
    );
    one_of(at(spec, "strategy.canary.trafficRouting"), ROUTING_MEMBERS);
    one_of(at(spec, "strategy.canary.trafficRouting.gatewayAPI"), &["httpRoute", "httpRoutes"]);
    let istio = at(spec, "strategy.canary.trafficRouting.istio");
    one_of(istio, &["owned", "virtualService", "virtualServices"]);
    rule(
        istio,
        "!has(self.owned) || !has(self.destinationRule)",
        "destinationRule cannot be given with owned: Serin writes its own",
    );
    one_of(at(spec, "strategy.canary.steps[]"), STEP_MEMBERS);
    one_of(at(spec, "strategy.canary.steps[].setCanaryScale"), SCALE_MEMBERS);
    for reference in ["virtualService", "virtualServices[]"] {
        let tls = at(spec, &format!("strategy.canary.trafficRouting.istio.{reference}.tlsRoutes[]"));
        rule(tls, "has(self.port) || has(self.sniHosts)", "port or sniHosts is required: what the route matches");
    }
    managed_rules(at(spec, "strategy.canary.steps[]"));
    ROLE_MEMBERS.iter().for_each(|role| metadata_rules(at(spec, &format!("strategy.canary.{role}"))));
    canary_rules(at(spec, "strategy.canary"));
    promotion_rules(spec);
    for args in ["strategy.canary.steps[].analysis.args[]", "strategy.canary.analysis.args[]"] {
        one_of(at(spec, args), &["value", "valueFrom"]);
        one_of(at(spec, &format!("{args}.valueFrom")), &["podTemplateHashValue", "fieldRef", "secretKeyRef"]);
    }
}

/// What Git declares for a person.
fn promotion_rules(spec: &mut Value) {
    for selector in ["promotion.approvals[].for", "promotion.reject[].for"] {
        let fields = SELECTOR_MEMBERS.map(|field| format!("has(self.{field})")).join(" || ");
        let says = format!("at least one of {} is required", SELECTOR_MEMBERS.join(", "));
        rule(at(spec, selector), &fields, &says);
    }
    rule(
        at(spec, "strategy.canary"),
        "!has(self.steps) || self.steps.filter(step, has(step.approval)).all(step, self.steps.exists_one(other, has(other.approval) && other.approval.name == step.approval.name))",
        "two approval steps have one name; give each its own",
    );
}

/// What header and mirror routes match.
fn managed_rules(step: &mut Value) {
    set(at(step, "setMirrorRoute.match[].headers"), "maxProperties", json!(20));
    for text in ["setHeaderRoute.match[].headerValue", "setMirrorRoute.match[].method", "setMirrorRoute.match[].path"] {
        one_of(at(step, text), TEXT_MEMBERS);
    }
    one_of(at(at(step, "setMirrorRoute.match[].headers"), "{}"), TEXT_MEMBERS);
    for route in ["setHeaderRoute", "setMirrorRoute"] {
        set(at(step, &format!("{route}.match")), "minItems", json!(1));
    }
    rule(
        at(step, "setMirrorRoute.match[]"),
        "has(self.method) || has(self.path) || has(self.headers)",
        "at least one of method, path, headers is required",
    );
}

/// Metadata of pods: so many keys, and none of Serin's.
fn metadata_rules(metadata: &mut Value) {
    for (map, longest) in [("labels", 63), ("annotations", 2048)] {
        let map = at(metadata, map);
        set(map, "maxProperties", json!(32));
        set(at(map, "{}"), "maxLength", json!(longest));
        let says = "keys that begin with serin.dev/ are set by Serin; remove them";
        rule(map, "self.all(key, !key.startsWith('serin.dev/'))", says);
    }
}

/// What belongs to which kind of canary: weights between subsets, weights between Services, or pods alone.
fn canary_rules(canary: &mut Value) {
    rule(
        canary,
        "has(self.stableService) == has(self.canaryService)",
        "stableService and canaryService belong together; name both or none",
    );
    rule(
        canary,
        "!has(self.stableService) || (has(self.trafficRouting) && (!has(self.trafficRouting.istio) || (!has(self.trafficRouting.istio.owned) && !has(self.trafficRouting.istio.destinationRule))))",
        "stableService and canaryService need a virtualService or HTTPRoute whose weights lie between them: without owned, without destinationRule",
    );
    rule(
        canary,
        "has(self.stableService) || !has(self.trafficRouting) || !has(self.trafficRouting.gatewayAPI)",
        "gatewayAPI needs stableService and canaryService: the weights of an HTTPRoute lie between two Services",
    );
    rule(
        canary,
        "!has(self.maxSurge) || !has(self.trafficRouting)",
        "maxSurge has no meaning with trafficRouting; remove it",
    );
    for field in NEED_ROUTING {
        rule(
            canary,
            &format!("!has(self.{field}) || has(self.trafficRouting)"),
            &format!("{field} needs trafficRouting; remove it"),
        );
    }
    rule(
        canary,
        "has(self.trafficRouting) || !has(self.steps) || !self.steps.exists(step, has(step.setCanaryScale))",
        "setCanaryScale needs trafficRouting: without it the pods are the weight",
    );
    for route in MANAGED_MEMBERS {
        rule(
            canary,
            &format!(
                "!has(self.trafficRouting) || !has(self.trafficRouting.gatewayAPI) || !has(self.steps) || !self.steps.exists(step, has(step.{route}))"
            ),
            &format!("{route} is not supported with gatewayAPI: Serin edits weights of HTTPRoutes alone"),
        );
        rule(
            canary,
            &format!("has(self.trafficRouting) || !has(self.steps) || !self.steps.exists(step, has(step.{route}))"),
            &format!("{route} needs trafficRouting; remove it"),
        );
    }
}

/// Fields of the canary that mean nothing without a route.
pub const NEED_ROUTING: &[&str] =
    &["dynamicStableScale", "minPodsPerReplicaSet", "scaleDownDelaySeconds", "abortScaleDownDelaySeconds"];

/// The fields that say what pods carry for their role.
pub const ROLE_MEMBERS: &[&str] = &["canaryMetadata", "stableMetadata"];

/// Where the weights are.
pub const ROUTING_MEMBERS: &[&str] = &["istio", "gatewayAPI"];

/// Where the pod template is.
pub const TEMPLATE_MEMBERS: &[&str] = &["template", "workloadRef"];

/// What names a revision.
pub const SELECTOR_MEMBERS: [&str; 4] = ["image", "templateHash", "version", "commit"];

/// Every member of `setCanaryScale`.
pub const SCALE_MEMBERS: &[&str] = &["replicas", "weight", "matchTrafficWeight"];

/// Every member of what a text is compared with.
pub const TEXT_MEMBERS: &[&str] = &["exact", "prefix", "regex"];

/// The steps that put a route in front of the edited one.
pub const MANAGED_MEMBERS: &[&str] = &["setHeaderRoute", "setMirrorRoute"];

/// Every member that a step can have, supported or refused.
pub const STEP_MEMBERS: &[&str] = &[
    "setWeight",
    "pause",
    "analysis",
    "setCanaryScale",
    "setHeaderRoute",
    "setMirrorRoute",
    "approval",
    "experiment",
    "plugin",
    "replicaProgressThreshold",
];

/// Schema of an AnalysisTemplate and of a ClusterAnalysisTemplate.
pub fn analysis_template() -> Value {
    let mut schema = object::<AnalysisTemplateSpec>(None);
    let spec = at(&mut schema, "spec");
    strip_nullable(spec);
    bound(spec, "args", "maxItems", 50);
    bound(spec, "metrics", "maxItems", 50);
    bound(spec, "dryRun", "maxItems", 50);
    bound(spec, "measurementRetention", "maxItems", 50);
    set(at(spec, "metrics"), "minItems", json!(1));
    refuse(spec, TEMPLATE_REFUSED);
    one_of(at(spec, "metrics[]"), &["prometheus", "istio", "compare", "limit", "web", "job", "provider"]);
    *at(spec, "metrics[].job.spec") = json!({
        "type": "object",
        "description": "The spec of the Job, of batch/v1; `{{args.name}}` is filled in wherever it has a text. Without `activeDeadlineSeconds` it has an hour.",
        "x-kubernetes-preserve-unknown-fields": true,
    });
    rule(
        at(spec, "metrics[]"),
        "!has(self.weight) || has(self.compare) || has(self.limit)",
        "weight is of compare and limit alone; remove it",
    );
    for member in ["metrics[].compare", "metrics[].limit"] {
        rule(
            at(spec, member),
            "has(self.preset) ? !has(self.bad) && !has(self.total) : has(self.bad) && has(self.total)",
            "preset is required, or bad and total are, and never both",
        );
    }
    rule(
        at(spec, "metrics[].istio"),
        "!has(self.quantile) || self.metric == 'requestDuration'",
        "quantile is of requestDuration alone; remove it",
    );
    schema
}

/// Schema of a MetricProvider.
pub fn metric_provider() -> Value {
    let mut schema = object::<MetricProviderSpec>(None);
    let spec = at(&mut schema, "spec");
    strip_nullable(spec);
    bound(spec, "allowedNamespaces", "maxItems", 1000);
    one_of(at(spec, "authentication"), &["bearerToken", "basic"]);
    one_of(spec, &["prometheus", "web"]);
    for address in ["prometheus.address", "web.address"] {
        rule(
            at(spec, address),
            "self.startsWith('http://') || self.startsWith('https://')",
            "must be a URL that begins with http:// or https://",
        );
    }
    schema
}

/// Schema of a RolloutAction.
pub fn rollout_action() -> Value {
    let mut schema = object::<RolloutActionSpec>(Some(of::<RolloutActionStatus>()));
    let spec = at(&mut schema, "spec");
    strip_nullable(spec);
    *at(spec, "step") = {
        let mut step = of::<IntOrString>();
        set(&mut step, "maxLength", json!(63));
        set(
            &mut step,
            "description",
            json!(
                "The step that it was decided on: for `promote` its index, counting from 0; for `approve` the name of an `approval` step, or its index."
            ),
        );
        step
    };
    for field in ["rollout", "revision"] {
        set(at(spec, field), "maxLength", json!(253));
    }
    rule(spec, "self == oldSelf", "a RolloutAction cannot be changed; create another");
    rule(
        spec,
        "self.action != 'promote' || has(self.step)",
        "step is required for promote: the index of the step to pass, counting from 0",
    );
    rule(
        spec,
        "self.action != 'approve' || has(self.step)",
        "step is required for approve: the name of the approval step",
    );
    schema
}

/// The schema of a type, in one piece.
pub(super) fn of<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
    }
    schema
}

fn object<T: JsonSchema>(status: Option<Value>) -> Value {
    let mut properties = Map::new();
    properties.insert("apiVersion".into(), json!({"type": "string"}));
    properties.insert("kind".into(), json!({"type": "string"}));
    properties.insert("metadata".into(), json!({"type": "object"}));
    properties.insert("spec".into(), of::<T>());
    if let Some(mut status) = status {
        strip_nullable(&mut status);
        strip_defaults(&mut status);
        if status.pointer("/properties/observedGeneration").is_some() {
            set(&mut status, "default", json!({"observedGeneration": -1}));
        }
        properties.insert("status".into(), status);
    }
    json!({"type": "object", "required": ["spec"], "properties": properties})
}

/// The schema of the field at a path: `a.b` for fields, `[]` for a list's elements, `{}` for a map's values.
/// A path that does not exist leads to a detached null; the tests on the generated files would show it.
fn at<'a>(schema: &'a mut Value, path: &str) -> &'a mut Value {
    let mut here = schema;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (name, list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        here = if name == "{}" { &mut here["additionalProperties"] } else { &mut here["properties"][name] };
        if list {
            here = &mut here["items"];
        }
    }
    here
}

fn set(schema: &mut Value, key: &str, value: Value) {
    if let Some(object) = schema.as_object_mut() {
        object.insert(key.into(), value);
    }
}

fn bound(spec: &mut Value, path: &str, key: &str, limit: i64) {
    let schema = at(spec, path);
    if schema.is_object() {
        set(schema, key, json!(limit));
    }
}

fn rule(schema: &mut Value, rule: &str, message: &str) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let rules = object.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Some(rules) = rules.as_array_mut() {
        rules.push(json!({"rule": rule, "message": message}));
    }
}

fn one_of(schema: &mut Value, members: &[&str]) {
    let known: Vec<String> = members
        .iter()
        .filter(|member| schema.pointer(&format!("/properties/{member}")).is_some())
        .map(|member| format!("has(self.{member})"))
        .collect();
    let text = format!("[{}].filter(x, x).size() == 1", known.join(", "));
    rule(schema, &text, &format!("exactly one of {} is required", members.join(", ")));
}

fn refuse(spec: &mut Value, table: &[Refused]) {
    for refused in table {
        let schema = at(spec, refused.path);
        for (field, advice) in refused.fields {
            if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert((*field).into(), refused_schema(field));
            }
            rule(schema, &format!("!has(self.{field})"), &format!("{field} {advice}"));
        }
    }
}

/// Schema of a refused field: CEL sees only fields with a type, so that each has the one that its author means.
fn refused_schema(field: &str) -> Value {
    const LISTS: [&str; 5] = ["templates", "matchExpressions", "grpcRoutes", "tcpRoutes", "tlsRoutes"];
    const SCALARS: [&str; 12] = [
        "namespace",
        "grpcRoute",
        "tcpRoute",
        "tlsRoute",
        "scaleDownDelayRevisionLimit",
        "scaleDown",
        "maxTrafficWeight",
        "confidence",
        "warmup",
        "onInconclusive",
        "until",
        "atMost",
    ];
    let object = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    match field {
        "additionalSubsetNames" => json!({"type": "array", "items": {"type": "string"}}),
        list if LISTS.contains(&list) => json!({"type": "array", "items": object}),
        scalar if SCALARS.contains(&scalar) => json!({"x-kubernetes-int-or-string": true}),
        _ => object,
    }
}

/// Removes `nullable`, so that a null is refused by its path instead of meaning something.
fn strip_nullable(schema: &mut Value) {
    walk(schema, &mut |object| {
        object.remove("nullable");
    });
}

fn strip_defaults(schema: &mut Value) {
    walk(schema, &mut |object| {
        if !object.get("default").is_some_and(Value::is_number) {
            object.remove("default");
        }
    });
}

/// Calls `edit` on every schema below this one, never on the map of a schema's properties.
fn walk(schema: &mut Value, edit: &mut impl FnMut(&mut Map<String, Value>)) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    edit(object);
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| walk(property, edit));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            walk(inner, edit);
        }
    }
}

/// Lists of the pod spec that Kubernetes itself merges by keys.
const LIST_MAP_KEYS: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("volumes", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("schedulingGates", &["name"]),
    ("resourceClaims", &["name"]),
    ("claims", &["name"]),
];

/// The pod template's schema: without descriptions, with list-map keys, with quantities that accept any number.
fn tightened_template(mut template: Value) -> Value {
    walk(&mut template, &mut |object| {
        object.remove("description");
        object.remove("format");
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.iter_mut().for_each(|(name, property)| tighten_property(name, property));
        }
    });
    set(
        &mut template,
        "description",
        json!(
            "The pod template. Changing it starts a canary; annotations that begin with `serin.dev/git-` do not count."
        ),
    );
    template
}

fn tighten_property(name: &str, property: &mut Value) {
    let any_number = || json!({"x-kubernetes-preserve-unknown-fields": true});
    match name {
        "limits" | "requests" | "overhead" | "capacity" => set(property, "additionalProperties", any_number()),
        "sizeLimit" | "divisor" => *property = any_number(),
        _ => {}
    }
    let Some((_, keys)) = LIST_MAP_KEYS.iter().find(|(list, _)| *list == name) else {
        return;
    };
    let required = |item: &Value| keys.iter().all(|key| item.pointer(&format!("/properties/{key}")).is_some());
    if property.get("type") != Some(&json!("array")) || !property.get("items").is_some_and(required) {
        return;
    }
    set(property, "x-kubernetes-list-type", json!("map"));
    set(property, "x-kubernetes-list-map-keys", json!(keys));
    let item = &mut property["items"];
    for key in *keys {
        let is_required = item["required"].as_array().is_some_and(|required| required.contains(&json!(key)));
        if *key == "protocol" {
            item["properties"]["protocol"]["default"] = json!("TCP");
        } else if !is_required {
            let mut list = item["required"].as_array().cloned().unwrap_or_default();
            list.push(json!(key));
            item["required"] = json!(list);
        }
    }
    if let Some(properties) = item.get_mut("properties").and_then(Value::as_object_mut) {
        for key in *keys {
            if let Some(object) = properties.get_mut(*key).and_then(Value::as_object_mut) {
                object.remove("nullable");
            }
        }
    }
}
