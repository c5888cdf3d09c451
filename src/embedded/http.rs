//! The wire: requests of the real client to the store, and its answers.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};

use super::store::{KINDS, Kind, Part, Refusal, Selection, key_of};
use super::{Cluster, Fault, patch};

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
            let answer = answer(&cluster, &head, &body).unwrap_or_else(|refusal| refused(&refusal));
            if fault.is_some() { Err(io::Error::other("the answer was lost")) } else { Ok(answer) }
        })
    }
}

/// What a URL is about.
struct Target {
    kind: &'static Kind,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

fn target(path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
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
    Some(Target { kind, namespace, name: own(0), subresource: own(1) })
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let found = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    Some(found.1.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",").replace('+', " "))
}

fn selection(namespace: Option<String>, query: &str) -> Selection {
    let text = parameter(query, "labelSelector").unwrap_or_default();
    let labels = text.split(',').filter(|part| !part.is_empty()).map(|part| match part.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.trim_start_matches('=').to_owned())),
        None => (part.to_owned(), None),
    });
    Selection { namespace, labels: labels.collect() }
}

fn answer(cluster: &Cluster, head: &http::request::Parts, body: &[u8]) -> Result<Answer, Refusal> {
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    let known = target(path).filter(|target| cluster.state().has(target.kind.plural));
    let target =
        known.ok_or_else(|| Refusal::new(404, "NotFound", "the server could not find the requested resource"))?;
    let manager = parameter(query, "fieldManager").unwrap_or_else(|| "unknown".into());
    let verb = match (&head.method, &target.name) {
        (&Method::GET, None) if parameter(query, "watch").is_some() => {
            return watch(cluster, target, query);
        }
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "replace",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, _) => "delete",
        _ => {
            return Err(Refusal::new(405, "MethodNotAllowed", "the server does not allow this method"));
        }
    };
    if target.kind.plural != "leases" {
        let subresource = target.subresource.as_ref().map_or(String::new(), |name| format!("/{name}"));
        cluster.state().requests.push(format!("{verb} {}{subresource}", target.kind.plural));
    }
    if target.subresource.as_deref() == Some("scale") {
        return scale(cluster, &target, body, &manager);
    }
    match verb {
        "list" => Ok(list(cluster, &target, query)),
        "get" => get(cluster, &target).map(|object| json_answer(200, &object)),
        "create" if target.subresource.as_deref() == Some("eviction") => {
            let (namespace, name) = named(&target);
            cluster.state().delete(target.kind.plural, &namespace, &name, &manager, &cluster.now())?;
            Ok(json_answer(201, &json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"})))
        }
        "create" => create(cluster, &target, body, &manager),
        "replace" => replace(cluster, &target, body, &manager),
        "patch" => patch_object(cluster, &target, content_type(head), body, &manager),
        _ => {
            let (namespace, name) = named(&target);
            let deleted = cluster.state().delete(target.kind.plural, &namespace, &name, &manager, &cluster.now())?;
            Ok(json_answer(200, &deleted))
        }
    }
}

fn content_type(head: &http::request::Parts) -> &str {
    head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn named(target: &Target) -> (String, String) {
    (target.namespace.clone().unwrap_or_default(), target.name.clone().unwrap_or_default())
}

fn part(target: &Target) -> Part {
    if target.subresource.as_deref() == Some("status") { Part::Status } else { Part::Main }
}

fn get(cluster: &Cluster, target: &Target) -> Result<Value, Refusal> {
    let (namespace, name) = named(target);
    cluster
        .state()
        .get(target.kind.plural, &namespace, &name)
        .ok_or_else(|| Refusal::not_found(target.kind.plural, &name))
}

fn list(cluster: &Cluster, target: &Target, query: &str) -> Answer {
    let state = cluster.state();
    let items = state.list(target.kind.plural, Some(&selection(target.namespace.clone(), query)));
    let api_version = target.kind.api_version();
    let metadata = json!({"resourceVersion": state.version().to_string()});
    json_answer(
        200,
        &json!({"apiVersion": api_version, "kind": format!("{}List", target.kind.kind), "metadata": metadata, "items": items}),
    )
}

fn parse(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(&error.to_string()))
}

fn create(cluster: &Cluster, target: &Target, body: &[u8], manager: &str) -> Result<Answer, Refusal> {
    let mut object = parse(body)?;
    if let Some(namespace) = &target.namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    let created = cluster.state().create(target.kind.plural, object, manager, &cluster.now())?;
    Ok(json_answer(201, &created))
}

fn replace(cluster: &Cluster, target: &Target, body: &[u8], manager: &str) -> Result<Answer, Refusal> {
    let object = parse(body)?;
    if key_of(&object) != named(target) {
        return Err(Refusal::bad_request("the name of the object does not match the name on the URL"));
    }
    let replaced = cluster.state().update(target.kind.plural, object, part(target), manager, &cluster.now())?;
    Ok(json_answer(200, &replaced))
}

fn patch_object(
    cluster: &Cluster,
    target: &Target,
    content_type: &str,
    body: &[u8],
    manager: &str,
) -> Result<Answer, Refusal> {
    let mut object = get(cluster, target)?;
    let version = object.pointer("/metadata/resourceVersion").cloned();
    patch::carry_out(&mut object, content_type, body)?;
    let asked = object.pointer("/metadata/resourceVersion").cloned();
    if asked.is_some() && asked != version {
        return Err(Refusal::conflict(target.kind.plural, &named(target).1));
    }
    let written = cluster.state().update(target.kind.plural, object, part(target), manager, &cluster.now())?;
    Ok(json_answer(200, &written))
}

/// The scale subresource, by a merge patch of `spec.replicas`.
fn scale(cluster: &Cluster, target: &Target, body: &[u8], manager: &str) -> Result<Answer, Refusal> {
    let mut object = get(cluster, target)?;
    if !body.is_empty() {
        let replicas = parse(body)?.pointer("/spec/replicas").cloned().unwrap_or_default();
        object["spec"]["replicas"] = replicas;
        object = cluster.state().update(target.kind.plural, object, Part::Main, manager, &cluster.now())?;
    }
    let metadata = object["metadata"].clone();
    let answer = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "resourceVersion": metadata["resourceVersion"]},
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": object["status"]["selector"]},
    });
    Ok(json_answer(200, &answer))
}

fn watch(cluster: &Cluster, target: Target, query: &str) -> Result<Answer, Refusal> {
    let streams = parameter(query, "sendInitialEvents").as_deref() == Some("true");
    let after = parameter(query, "resourceVersion").and_then(|version| version.parse().ok()).filter(|_| !streams);
    let receiver = cluster.state().watch(target.kind.plural, selection(target.namespace, query), after)?;
    let lines = futures::stream::unfold(receiver, |mut receiver| async {
        let (arrives, line) = receiver.recv().await?;
        tokio::time::sleep_until(arrives).await;
        Some((line, receiver))
    });
    let body = StreamBody::new(lines.map(|line| Ok::<_, Infallible>(Frame::data(line))));
    Ok(respond(200, body.boxed_unsync()))
}

fn json_answer(code: u16, value: &Value) -> Answer {
    respond(code, Full::new(Bytes::from(value.to_string())).boxed_unsync())
}

/// A refusal as a `Status`.
pub fn refused(refusal: &Refusal) -> Answer {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": refusal.code, "reason": refusal.reason, "message": refusal.message});
    json_answer(refusal.code, &status)
}

fn respond(code: u16, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}
