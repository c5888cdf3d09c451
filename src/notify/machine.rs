//! Messages in the forms of programs: a JSON document, a CloudEvent, an alert.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::context::{Context, Message};
use super::format::{Given, Request};
use super::sign;
use crate::api::provider::SecretKey;

/// How long an alert fires that nothing resolves: as long as an Alertmanager keeps it without being told again.
const FIRES: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A JSON document: the context, and of an abort what a revert needs.
pub fn webhook(given: &Given<'_>, message: &Message) -> Result<Request, String> {
    let spec = given.spec.webhook.as_ref().ok_or("the channel names no webhook")?;
    let url = url(given, (spec.url.as_deref(), spec.url_from.as_ref()))?;
    let mut request = Request::json(url, &document(message))
        .with("idempotency-key", message.context.id.clone())
        .with_token(given.secrets.maybe(spec.token.as_ref())?);
    if let Some(key) = given.secrets.maybe(spec.signing_key.as_ref())? {
        let signature = format!("sha256={}", sign::hex(key, request.body.as_bytes()));
        request = request.with("x-signature", signature);
    }
    Ok(request)
}

/// The URL, which may be a secret.
fn url<'a>(given: &Given<'a>, (url, from): (Option<&'a str>, Option<&SecretKey>)) -> Result<&'a str, String> {
    match (url, from) {
        (Some(url), _) => Ok(url),
        (None, Some(key)) => given.secrets.get(key).map(String::as_str),
        (None, None) => Err("exactly one of url, urlFrom is required".to_owned()),
    }
}

/// The document of a webhook, and the data of a CloudEvent.
fn document(message: &Message) -> Value {
    let context = &message.context;
    let mut document = context.value();
    if let Some(fields) = document.as_object_mut() {
        fields.insert("title".into(), json!(message.title));
        fields.insert("text".into(), json!(message.body));
        if context.reason == "Aborted" {
            fields.insert("revert".into(), revert(context));
        }
    }
    document
}

/// What somebody needs who takes the commit back.
fn revert(context: &Context) -> Value {
    json!({
        "repo": context.repo,
        "commit": context.commit,
        "previousCommit": context.previous_commit,
        "branch": context.commit.as_ref().map(|commit| format!("revert/{}/{commit}", context.rollout)),
    })
}

/// A CloudEvent in binary mode: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>.
pub fn cloud_event(given: &Given<'_>, message: &Message) -> Result<Request, String> {
    let spec = given.spec.cloud_events.as_ref().ok_or("the channel names no receiver")?;
    let url = url(given, (spec.url.as_deref(), spec.url_from.as_ref()))?;
    let context = &message.context;
    let source = format!("/apis/serin.dev/v1alpha1/namespaces/{}/rollouts/{}", context.namespace, context.rollout);
    let request = Request::json(url, &document(message))
        .with("ce-specversion", "1.0")
        .with("ce-id", context.id.clone())
        .with("ce-source", source)
        .with("ce-type", format!("dev.serin.rollout.{}", context.reason.to_lowercase()))
        .with("ce-subject", context.revision.clone())
        .with("ce-time", context.at.clone());
    Ok(request.with_token(given.secrets.maybe(spec.token.as_ref())?))
}

/// An alert that begins, or ends: <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>. None where the
/// event does neither.
pub fn alert(given: &Given<'_>, message: &Message) -> Result<Option<Request>, String> {
    let spec = given.spec.alertmanager.as_ref().ok_or("the channel names no Alertmanager")?;
    let context = &message.context;
    let firing = |alertname: &str, at: Timestamp| one_alert(spec.labels.as_ref(), message, alertname, (Some(at), None));
    let ended = |alertname: &str, at: Timestamp| one_alert(spec.labels.as_ref(), message, alertname, (None, Some(at)));
    let at: Timestamp = context.at.parse().map_err(|_| "the event has no time".to_owned())?;
    let alerts = match context.reason.as_str() {
        "Aborted" => vec![firing(ABORTED, at), ended(STALLED, at)],
        "Stalled" => vec![firing(STALLED, at)],
        "Recovered" => vec![ended(STALLED, at)],
        "FirstDeployment" | "RolloutStarted" | "Promoted" | "Superseded" | "Reverted" => {
            vec![ended(ABORTED, at), ended(STALLED, at)]
        }
        _ => return Ok(None),
    };
    let url = format!("{}/api/v2/alerts", spec.url.trim_end_matches('/'));
    let token = given.secrets.maybe(spec.token.as_ref())?;
    Ok(Some(Request::json(&url, &json!(alerts)).with_token(token)))
}

const ABORTED: &str = "SerinRolloutAborted";
const STALLED: &str = "SerinRolloutStalled";

fn one_alert(
    own: Option<&BTreeMap<String, String>>,
    message: &Message,
    alertname: &str,
    (begins, ends): (Option<Timestamp>, Option<Timestamp>),
) -> Value {
    let context = &message.context;
    // Labels name the alert: the one that ends must have those of the one that began.
    let mut labels: BTreeMap<String, String> = own.cloned().unwrap_or_default();
    for (label, value) in [("alertname", alertname), ("namespace", &context.namespace), ("rollout", &context.rollout)] {
        labels.insert(label.to_owned(), value.to_owned());
    }
    let annotations = json!({"summary": message.title, "description": message.body});
    match (begins, ends) {
        (Some(at), _) => {
            let until = at.checked_add(FIRES).unwrap_or(at);
            json!({"labels": labels, "annotations": annotations, "startsAt": at, "endsAt": until})
        }
        (None, ends) => json!({"labels": labels, "annotations": annotations, "endsAt": ends}),
    }
}
