//! The wire: requests of the real client to the store, and its answers.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};

use super::kind::{KINDS, Kind};
use super::log::text_of;
use super::owners::Writer;
use super::refusal::{Refusal, details};
use super::store::{Object, Part, Preconditions, key_of};
use super::{Cluster, Fault, patch, read};
use crate::schema;

/// What the service answers.
pub type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The cluster as a service under a client.
#[derive(Clone)]
pub struct Service {
    cluster: Cluster,
}

impl Service {
    /// A service of a cluster.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }
}

impl tower::Service<Request<Body>> for Service {
    type Response = Answer;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Answer>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let cluster = self.cluster.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let fault = cluster.fault(&head.method);
            match fault {
                Some(Fault::Refuse(code, reason)) => {
                    return Ok(refused(&Refusal::new(code, reason, "a fault of the test")));
                }
                Some(Fault::Hang) => std::future::pending().await,
                Some(Fault::LoseAnswer) | None => {}
            }
            let answer = answer(&cluster, &head, &body);
            if fault.is_some() { Err(io::Error::other("the answer was lost")) } else { Ok(answer) }
        })
    }
}

/// What a request is about.
pub struct Asked {
    /// The kind.
    pub kind: &'static Kind,
    /// The namespace of the URL.
    pub namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
    parameters: BTreeMap<String, String>,
    content_type: String,
}

impl Asked {
    fn of(head: &http::request::Parts) -> Option<Self> {
        let parts: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, rest) = rest.split_first()?;
        let kind = KINDS.iter().find(|kind| kind.group == group && kind.plural == *plural)?;
        let own = |at: usize| rest.get(at).map(|part| (*part).to_owned());
        let query = head.uri.query().unwrap_or_default();
        let content_type = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Some(Self {
            kind,
            namespace,
            name: own(0),
            subresource: own(1),
            parameters: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            content_type: content_type.unwrap_or_default().to_owned(),
        })
    }

    /// A parameter of the query; empty when it is not there.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// Whether a parameter of the query is true.
    pub fn says(&self, name: &str) -> bool {
        ["1", "true"].contains(&self.parameter(name))
    }

    fn named(&self) -> (String, String) {
        (self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }

    fn is_apply(&self) -> bool {
        self.content_type == "application/apply-patch+yaml"
    }

    fn subresource(&self) -> &str {
        self.subresource.as_deref().unwrap_or_default()
    }

    fn part(&self) -> Part {
        if self.subresource() == "status" { Part::Status } else { Part::Main }
    }

    fn writer<'a>(&'a self, now: &'a str) -> Writer<'a> {
        let manager = Some(self.parameter("fieldManager")).filter(|manager| !manager.is_empty());
        Writer {
            manager: manager.unwrap_or("unknown"),
            now,
            operation: if self.is_apply() { "Apply" } else { "Update" },
            subresource: match self.subresource() {
                "status" => "status",
                "scale" => "scale",
                _ => "",
            },
        }
    }
}

fn answer(cluster: &Cluster, head: &http::request::Parts, body: &[u8]) -> Answer {
    let Some(asked) = Asked::of(head).filter(|asked| cluster.state().has(asked.kind.plural)) else {
        return respond(404, "text/plain", Full::new(Bytes::from("404 page not found\n")).boxed_unsync());
    };
    carry_out(cluster, &asked, &head.method, body).unwrap_or_else(|refusal| refused(&refusal))
}

fn carry_out(cluster: &Cluster, asked: &Asked, method: &Method, body: &[u8]) -> Result<Answer, Refusal> {
    let verb = match (method, &asked.name) {
        (&Method::GET, None) if asked.says("watch") => return read::watch(cluster, asked),
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, Some(_)) => "replace",
        (&Method::PATCH, Some(_)) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        (&Method::PUT | &Method::PATCH, None) => return Err(Refusal::bad_request("name must be provided")),
        _ => {
            return Err(Refusal::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ));
        }
    };
    if asked.kind.plural != "leases" {
        let subresource = asked.subresource.as_ref().map_or(String::new(), |name| format!("/{name}"));
        cluster.state().requests.push(format!("{verb} {}{subresource}", asked.kind.plural));
    }
    match (asked.subresource(), verb) {
        ("scale", "get" | "replace" | "patch") => scale(cluster, asked, verb, body),
        ("eviction", "create") => evict(cluster, asked, body),
        ("", "list") => read::list(cluster, asked),
        ("", "create") => create(cluster, asked, body),
        ("", "delete") => delete(cluster, asked, body),
        ("" | "status", "get") => get(cluster, asked).map(|object| json_answer(200, &object)),
        ("status", _) if !asked.kind.has_status => Err(Refusal::no_such_resource()),
        ("" | "status", "replace") => replace(cluster, asked, body),
        ("" | "status", "patch") => patch_object(cluster, asked, body),
        _ => Err(Refusal::no_such_resource()),
    }
}

fn get(cluster: &Cluster, asked: &Asked) -> Result<Object, Refusal> {
    let (namespace, name) = asked.named();
    cluster.state().find(asked.kind, &namespace, &name)
}

fn parse(asked: &Asked, body: &[u8]) -> Result<Value, Refusal> {
    let mut object: Value = serde_json::from_slice(body).map_err(|error| {
        let message = format!("the object provided is unrecognized (must be of type {}): {error}", asked.kind.kind);
        Refusal::bad_request(&message)
    })?;
    let Some(namespace) = &asked.namespace else { return Ok(object) };
    let says = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    if says != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(message));
    }
    object["metadata"]["namespace"] = json!(namespace);
    Ok(object)
}

/// Refuses fields that the schema does not know, where the client asks for that.
fn presume_known(asked: &Asked, object: &Value) -> Result<(), Refusal> {
    if asked.parameter("fieldValidation") != "Strict" {
        return Ok(());
    }
    let lost = schema::prune(asked.kind.plural, &mut object.clone());
    if lost.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = lost.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    let (kind, version) = (asked.kind.kind, asked.kind.version);
    let what = format!("{kind} in version \"{version}\" cannot be handled as a {kind}");
    Err(Refusal::bad_request(&format!("{what}: strict decoding error: {}", told.join(", "))))
}

fn create(cluster: &Cluster, asked: &Asked, body: &[u8]) -> Result<Answer, Refusal> {
    let now = cluster.now();
    let object = parse(asked, body)?;
    presume_known(asked, &object)?;
    let created = cluster.state().create(asked.kind, object, asked.writer(&now))?;
    Ok(json_answer(201, &created))
}

fn replace(cluster: &Cluster, asked: &Asked, body: &[u8]) -> Result<Answer, Refusal> {
    let object = parse(asked, body)?;
    presume_known(asked, &object)?;
    let ((_, says), (_, name)) = (key_of(&object), asked.named());
    if says != name {
        let message = format!("the name of the object ({says}) does not match the name on the URL ({name})");
        return Err(Refusal::bad_request(&message));
    }
    get(cluster, asked)?;
    if object["metadata"]["resourceVersion"].is_null() && !asked.kind.is_unconditional {
        let (of, spelt) = (asked.kind.plural, asked.kind.resource());
        let field = ("metadata.resourceVersion", "Invalid value: 0: must be specified for an update");
        return Err(Refusal::invalid_as((of, &spelt), asked.kind.group, &name, field, "FieldValueInvalid"));
    }
    let now = cluster.now();
    let replaced = cluster.state().update(asked.kind, object, asked.part(), asked.writer(&now))?;
    Ok(json_answer(200, &replaced))
}

fn patch_object(cluster: &Cluster, asked: &Asked, body: &[u8]) -> Result<Answer, Refusal> {
    let now = cluster.now();
    if asked.is_apply() {
        return apply(cluster, asked, body, &now);
    }
    let mut object = Value::clone(&*get(cluster, asked)?);
    patch::carry_out(&mut object, &asked.content_type, body, asked.kind.is_custom)?;
    let written = cluster.state().update(asked.kind, object, asked.part(), asked.writer(&now))?;
    Ok(json_answer(200, &written))
}

fn apply(cluster: &Cluster, asked: &Asked, body: &[u8], now: &str) -> Result<Answer, Refusal> {
    if asked.parameter("fieldManager").is_empty() {
        let field = ("fieldManager", "Required value: is required for apply patch");
        let of = ("PatchOptions", "PatchOptions.meta.k8s.io");
        return Err(Refusal::invalid_as(of, "meta.k8s.io", "", field, "FieldValueRequired"));
    }
    let mut object = parse(asked, body)?;
    object["metadata"]["name"] = json!(asked.name);
    let is_new = get(cluster, asked).is_err();
    let applied = cluster.state().apply(asked.kind, object, asked.says("force"), asked.writer(now))?;
    Ok(json_answer(if is_new { 201 } else { 200 }, &applied))
}

/// The options in the body of a deletion.
fn preconditions(options: &Value) -> Preconditions {
    let of = |key: &str| options["preconditions"][key].as_str().map(str::to_owned);
    Preconditions { uid: of("uid"), version: of("resourceVersion") }
}

fn delete(cluster: &Cluster, asked: &Asked, body: &[u8]) -> Result<Answer, Refusal> {
    let ((namespace, name), now) = (asked.named(), cluster.now());
    let presumed = preconditions(&serde_json::from_slice(body).unwrap_or_default());
    let key = (namespace.as_str(), name.as_str());
    let (object, is_gone) = cluster.state().delete(asked.kind, key, &presumed, asked.writer(&now))?;
    if !is_gone || asked.kind.answers_deleted {
        return Ok(json_answer(200, &object));
    }
    let mut details = details(asked.kind, asked.kind.plural, &name);
    details["uid"] = object["metadata"]["uid"].clone();
    let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "details": details});
    Ok(json_answer(200, &status))
}

/// An eviction deletes; there are no disruption budgets.
fn evict(cluster: &Cluster, asked: &Asked, body: &[u8]) -> Result<Answer, Refusal> {
    let ((namespace, name), now) = (asked.named(), cluster.now());
    let presumed = preconditions(&parse(asked, body)?["deleteOptions"]);
    cluster.state().delete(asked.kind, (&namespace, &name), &presumed, asked.writer(&now))?;
    Ok(json_answer(
        201,
        &json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// The scale subresource.
fn scale(cluster: &Cluster, asked: &Asked, verb: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let object = get(cluster, asked)?;
    if object["spec"]["replicas"].is_null() && verb == "get" {
        let why = "the spec replicas field \".spec.replicas\" does not exist";
        let message = format!("Internal error occurred: {why}");
        let details = json!({"causes": [{"message": why}]});
        return Err(Refusal { details, ..Refusal::new(500, "InternalError", &message) });
    }
    if verb == "get" {
        return Ok(json_answer(200, &scale_of(&object)));
    }
    let mut scale = scale_of(&object);
    if verb == "patch" {
        patch::carry_out(&mut scale, &asked.content_type, body, asked.kind.is_custom)?;
    } else {
        scale = parse(asked, body)?;
    }
    let (mut object, now) = (Value::clone(&object), cluster.now());
    object["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    object["spec"]["replicas"] = scale["spec"]["replicas"].clone();
    let scaled = cluster.state().update(asked.kind, object, Part::Main, asked.writer(&now))?;
    Ok(json_answer(200, &scale_of(&scaled)))
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata[key] = object["metadata"][key].clone();
    }
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": object["status"]["selector"]},
    })
}

/// An answer in JSON.
pub fn json_answer(code: u16, value: &Value) -> Answer {
    respond(code, "application/json", Full::new(Bytes::from(text_of(value))).boxed_unsync())
}

/// A refusal as a `Status`.
pub fn refused(refusal: &Refusal) -> Answer {
    json_answer(refusal.code, &refusal.status())
}

/// Any answer.
pub fn respond(code: u16, content_type: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
