//! Lists, by pages too, and watches.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::convert::Infallible;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Cluster;
use super::http::{Answer, Asked, json_answer, respond};
use super::kind::Kind;
use super::log::{Begin, Line, Listing, bookmark, line};
use super::refusal::Refusal;
use super::select::Selection;
use super::store::key_of;

/// How often a watch that allows it is told where it is, as kube-apiserver does.
const BOOKMARKED: Duration = Duration::from_mins(1);

fn selection(asked: &Asked) -> Result<Selection, Refusal> {
    Selection::of(asked.namespace.clone(), asked.parameter("labelSelector"), asked.parameter("fieldSelector"))
}

/// Where the next page begins: the version that the pages are of, and the last object before it.
struct Token {
    version: u64,
    last: (String, String),
}

impl Token {
    fn write(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("{}/{}/{}", self.version, self.last.0, self.last.1))
    }

    fn read(text: &str) -> Result<Self, Refusal> {
        let invalid = || Refusal::bad_request("invalid continue token: continue key is not valid");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let [version, namespace, name] = text.splitn(3, '/').collect::<Vec<_>>()[..] else { return Err(invalid()) };
        let version = version.parse().map_err(|_| invalid())?;
        Ok(Self { version, last: (namespace.to_owned(), name.to_owned()) })
    }
}

/// A list, or a page of one.
pub fn list(cluster: &Cluster, asked: &Asked) -> Result<Answer, Refusal> {
    let state = cluster.state();
    let selection = selection(asked)?;
    let token = Some(asked.parameter("continue")).filter(|text| !text.is_empty()).map(Token::read).transpose()?;
    let version = token.as_ref().map_or(state.log.version(), |token| token.version);
    state.log.expired(version)?;
    let mut items = state.list_at(asked.kind.plural, &selection, version);
    items.retain(|item| token.as_ref().is_none_or(|token| key_of(item) > token.last));
    let mut metadata = json!({"resourceVersion": version.to_string(), "continue": ""});
    let limit = asked.parameter("limit").parse().unwrap_or(0);
    if limit > 0 && items.len() > limit {
        let rest = items.split_off(limit).len();
        let last = items.last().map(|item| key_of(item)).unwrap_or_default();
        metadata["continue"] = json!(Token { version, last }.write());
        if asked.parameter("labelSelector").is_empty() && asked.parameter("fieldSelector").is_empty() {
            metadata["remainingItemCount"] = json!(rest);
        }
    }
    if !asked.kind.is_custom {
        metadata.as_object_mut().into_iter().for_each(|metadata| metadata.retain(|_, value| *value != json!("")));
    }
    let items: Vec<Value> = items.iter().map(|item| listed(asked.kind, item)).collect();
    let (api_version, kind) = (asked.kind.api_version(), format!("{}List", asked.kind.kind));
    Ok(json_answer(200, &json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items})))
}

/// An object of a built-in kind has its kind from the list.
fn listed(kind: &Kind, item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(fields) = item.as_object_mut().filter(|_| !kind.is_custom) {
        fields.retain(|key, _| key != "apiVersion" && key != "kind");
    }
    item
}

/// A watch.
pub fn watch(cluster: &Cluster, asked: &Asked) -> Result<Answer, Refusal> {
    let selection = selection(asked)?;
    let begin = begin(asked)?;
    let mut state = cluster.state();
    if let Begin::After(version) = begin
        && let Err(refusal) = state.log.expired(version)
    {
        // kube-apiserver says so in the stream; one in front of it, or an older one, in the answer's code.
        if state.refuses_expired {
            return Err(refusal);
        }
        return Ok(stream(futures::stream::iter([line("ERROR", &refusal.status())])));
    }
    let version = match begin {
        Begin::After(version) => version,
        Begin::Everything(Listing { may_be_stale: true, .. }) => state.log.seen(asked.kind.plural),
        Begin::Everything(_) => state.log.version(),
    };
    let existing = match begin {
        Begin::After(_) => Vec::new(),
        Begin::Everything(_) => state.list_at(asked.kind.plural, &selection, version),
    };
    let receiver = state.log.watch(asked.kind, selection, begin, (version, existing));
    drop(state);
    let now = Instant::now();
    let watch = Watch {
        cluster: cluster.clone(),
        kind: asked.kind,
        receiver,
        ends: asked.parameter("timeoutSeconds").parse().ok().map(|seconds| now + Duration::from_secs(seconds)),
        marked: asked.says("allowWatchBookmarks").then(|| now + BOOKMARKED),
    };
    Ok(stream(futures::stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) })))
}

fn begin(asked: &Asked) -> Result<Begin, Refusal> {
    let version = asked.parameter("resourceVersion");
    if asked.says("sendInitialEvents") {
        if asked.parameter("resourceVersionMatch") != "NotOlderThan" {
            let message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            let field = ("resourceVersionMatch", message);
            let of = ("ListOptions", "ListOptions.meta.k8s.io");
            return Err(Refusal::invalid_as(of, "meta.k8s.io", "", field, "FieldValueForbidden"));
        }
        let is_marked = asked.says("allowWatchBookmarks");
        return Ok(Begin::Everything(Listing { may_be_stale: version == "0", is_marked }));
    }
    if ["", "0"].contains(&version) {
        return Ok(Begin::Everything(Listing { may_be_stale: true, is_marked: false }));
    }
    let after = version.parse().map_err(|_| {
        let why = format!(
            "resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax"
        );
        Refusal::new(500, "", &why)
    })?;
    Ok(Begin::After(after))
}

/// One watch.
struct Watch {
    cluster: Cluster,
    kind: &'static Kind,
    receiver: mpsc::Receiver<Line>,
    ends: Option<Instant>,
    marked: Option<Instant>,
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let until = |at: Option<Instant>| async move {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                line = self.receiver.recv() => {
                    let (arrives, line) = line?;
                    tokio::time::sleep_until(arrives).await;
                    return Some(line);
                }
                () = until(self.ends) => return None,
                () = until(self.marked) => {
                    self.marked = Some(Instant::now() + BOOKMARKED);
                    let state = self.cluster.state();
                    // What is on its way is not passed over.
                    if self.receiver.is_empty() {
                        let version = state.log.version().to_string();
                        return Some(bookmark(self.kind, json!({"resourceVersion": version})));
                    }
                }
            }
        }
    }
}

fn stream(lines: impl futures::Stream<Item = Bytes> + Send + 'static) -> Answer {
    let body = StreamBody::new(lines.map(|line| Ok::<_, Infallible>(Frame::data(line))));
    respond(200, "application/json", body.boxed_unsync())
}
