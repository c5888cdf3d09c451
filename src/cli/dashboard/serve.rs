//! The pages by their addresses, and the stream that tells of changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::stream::{self, Stream};
use kube::Client;
use serde::Deserialize;

use super::act::{self, Wish};
use super::frame::{Frame, document};
use super::guard::{Guard, harden};
use super::list::{self, Filter};
use super::page::Shown;
use super::plot::Face;
use super::preview::Previews;
use super::read::Reads;
use super::seen::{Key, Past, Seen};
use super::timeline::Span;
use crate::cli::cluster::Cluster;
use crate::cli::outcome::{self, Outcome};
use crate::controller::clock::Clock;

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/live.js");
const ICON: &str = include_str!("assets/icon.svg");
/// The least time between two tidings of changes.
const PAUSE: Duration = Duration::from_millis(400);

/// What the dashboard is made of.
pub struct Dashboard {
    /// The way to the API server, as the person.
    pub client: Client,
    /// The one namespace; absent: all.
    pub namespace: Option<String>,
    /// What is watched.
    pub seen: Seen,
    /// Who may ask.
    pub guard: Guard,
    /// The time.
    pub clock: Clock,
    /// How times are told.
    pub face: Face,
    /// Whether people may act on it.
    pub acts: bool,
    /// What was read a moment ago.
    pub reads: Reads,
    /// What was simulated.
    pub previews: Previews,
}

impl Dashboard {
    /// A dashboard that has seen nothing yet.
    pub fn new(client: Client, namespace: Option<String>, guard: Guard, (clock, face): (Clock, Face)) -> Self {
        Self {
            client,
            namespace,
            seen: Seen::default(),
            guard,
            clock,
            face,
            acts: false,
            reads: Reads::default(),
            previews: Previews::default(),
        }
    }

    /// Watches Rollouts for as long as it is polled.
    pub async fn follow(&self) {
        let api = match &self.namespace {
            Some(namespace) => kube::Api::namespaced(self.client.clone(), namespace),
            None => kube::Api::all(self.client.clone()),
        };
        self.seen.follow(api, self.clock.clone()).await;
    }

    /// The cluster in one of the namespaces that are shown.
    pub fn cluster(&self, namespace: &str) -> anyhow::Result<Cluster> {
        if self.namespace.as_ref().is_some_and(|own| own != namespace) {
            let what = format!("page of namespace {namespace}; start the dashboard with -A, or with -n {namespace}");
            return Err(outcome::NotFound(what).into());
        }
        Ok(Cluster { client: self.client.clone(), namespace: namespace.to_owned() })
    }

    /// What is told below each page.
    pub fn source(&self) -> String {
        let place =
            self.namespace.as_ref().map_or_else(|| "all namespaces".to_owned(), |own| format!("namespace {own}"));
        let acts = if self.acts { "it may act, as you" } else { "it only looks" };
        let whose = if self.guard.key.is_some() { "your rights" } else { "the rights of its own account" };
        format!("Serin's dashboard of {place}, with {whose}: {acts}. Times are those of the machine that serves it.")
    }
}

/// The dashboard, shared.
pub type Shared = State<Arc<Dashboard>>;

/// All addresses.
pub fn app(dashboard: Arc<Dashboard>) -> Router {
    let mut app = Router::new()
        .route("/", get(rollouts))
        .route("/rollouts/{namespace}/{name}", get(rollout))
        .route("/rollouts/{namespace}/{name}/simulate", get(super::preview::page))
        .route("/changes", get(changes));
    if dashboard.acts {
        app = app.route("/rollouts/{namespace}/{name}/{verb}", post(act::answer));
    }
    app.route("/assets/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/assets/live.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/assets/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
        .fallback(nothing)
        .layer(middleware::from_fn_with_state(dashboard.clone(), guarded))
        .with_state(dashboard)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[derive(Deserialize)]
struct Shows {
    key: Option<String>,
}

/// Lets only those through who may ask; the address that the terminal shows gives a browser the key.
async fn guarded(State(dashboard): Shared, request: Request, next: Next) -> Response {
    let mut response = match admitted(&dashboard.guard, &request) {
        Admission::In => next.run(request).await,
        Admission::Out(response) => response,
    };
    harden(response.headers_mut());
    response
}

enum Admission {
    In,
    Out(Response),
}

fn admitted(guard: &Guard, request: &Request) -> Admission {
    let refusal = match guard.check(request.method(), request.headers()) {
        Ok(()) => return Admission::In,
        Err(refusal) => refusal,
    };
    let shown = Query::<Shows>::try_from_uri(request.uri()).ok().and_then(|Query(shows)| shows.key);
    if refusal == super::guard::Refusal::Key && shown.is_some_and(|shown| guard.takes(&shown)) {
        let mut headers = HeaderMap::new();
        headers.extend(guard.set_cookie().map(|cookie| (header::SET_COOKIE, cookie)));
        // Without the key, which would stay in the browser's history.
        headers.extend(HeaderValue::from_str(request.uri().path()).ok().map(|path| (header::LOCATION, path)));
        return Admission::Out((StatusCode::SEE_OTHER, headers).into_response());
    }
    let (code, told) = refusal.told();
    let frame = Frame {
        title: "Refused",
        above: &[],
        changes: None,
        told: "",
        trouble: None,
        source: "kubectl serin dashboard",
    };
    let text = document(&frame, |html| {
        html.line("h1", &[], "Refused");
        html.line("p", &[], told);
    });
    Admission::Out((code, Html(text)).into_response())
}

async fn rollouts(State(dashboard): Shared, Query(filter): Query<Filter>) -> Response {
    let seen = &dashboard.seen;
    let trouble = seen.trouble();
    let source = dashboard.source();
    let frame = Frame {
        title: "Rollouts",
        above: &[],
        changes: Some(""),
        told: "",
        trouble: trouble.as_deref(),
        source: &source,
    };
    let state = (seen.is_listed(), (dashboard.clock)());
    Html(document(&frame, |html| list::write(html, seen.all(), &filter, state))).into_response()
}

/// What a Rollout's page is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    span: Option<String>,
    compare: Option<String>,
    action: Option<String>,
}

async fn rollout(State(dashboard): Shared, Path(key): Path<Key>, Query(asked): Query<Asked>) -> Response {
    match page(&dashboard, &key, &asked).await {
        Ok(text) => Html(text).into_response(),
        Err(error) => failed(&dashboard, &error),
    }
}

async fn page(dashboard: &Dashboard, key: &Key, asked: &Asked) -> anyhow::Result<String> {
    let (namespace, name) = key;
    let cluster = dashboard.cluster(namespace)?;
    let now = (dashboard.clock)();
    let read = dashboard.reads.get(&cluster, name, (now, dashboard.seen.version_of(key))).await?;
    let past = dashboard.seen.get(key).map_or_else(|| Past::of(&read.tree.rollout, now), |known| known.past);
    let foretold = match &asked.compare {
        Some(scenario) => Some(dashboard.previews.weights(&cluster, &read.tree.rollout, scenario).await),
        None => None,
    };
    let wish = Wish { cluster: &cluster, rollout: &read.tree.rollout, action: asked.action.as_deref() };
    let answer = if dashboard.acts { wish.answer().await } else { None };
    let span = Span::named(asked.span.as_deref());
    let shown = Shown { read: read.clone(), past, span, foretold, now, face: dashboard.face.clone() };
    let (told, source) = (shown.told(), dashboard.source());
    let title = format!("{name} in {namespace}");
    let changes = form_urlencoded::Serializer::new(String::new())
        .append_pair("namespace", namespace)
        .append_pair("name", name)
        .finish();
    let trouble = dashboard.seen.trouble();
    let frame = Frame {
        title: &title,
        above: &[("Rollouts", "/")],
        changes: Some(&changes),
        told: &told,
        trouble: trouble.as_deref(),
        source: &source,
    };
    Ok(document(&frame, |html| {
        shown.write(html, |html| {
            if dashboard.acts {
                wish.write(html, answer.as_ref());
            }
        });
    }))
}

/// The page of an error.
pub fn failed(dashboard: &Dashboard, error: &anyhow::Error) -> Response {
    let is_forbidden = error.chain().any(|cause| {
        cause
            .downcast_ref::<kube::Error>()
            .is_some_and(|cause| matches!(cause, kube::Error::Api(status) if status.code == 403))
    });
    let code = match outcome::of(error) {
        Outcome::NotFound => StatusCode::NOT_FOUND,
        _ if is_forbidden => StatusCode::FORBIDDEN,
        Outcome::Reached | Outcome::Failed | Outcome::Aborted | Outcome::Waits | Outcome::TimedOut => {
            StatusCode::BAD_GATEWAY
        }
    };
    let source = dashboard.source();
    let title = code.canonical_reason().unwrap_or("Error");
    let frame = Frame { title, above: &[("Rollouts", "/")], changes: None, told: "", trouble: None, source: &source };
    let text = document(&frame, |html| {
        html.line("h1", &[], title);
        html.line("p", &[], &outcome::told(error));
        if let Some(hint) = outcome::hint(error) {
            html.line("p", &[("class", "dim")], &hint);
        }
    });
    (code, Html(text)).into_response()
}

async fn nothing(State(dashboard): Shared) -> Response {
    failed(&dashboard, &outcome::NotFound("such page".to_owned()).into())
}

#[derive(Deserialize)]
struct Scope {
    namespace: Option<String>,
    name: Option<String>,
}

/// Tells a page that what it shows has changed.
async fn changes(
    State(dashboard): Shared,
    Query(scope): Query<Scope>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let key = scope.namespace.zip(scope.name);
    let version = move |dashboard: &Dashboard, all: u64| key.as_ref().map_or(all, |key| dashboard.seen.version_of(key));
    let receiver = dashboard.seen.changes();
    let last = version(&dashboard, *receiver.borrow());
    let tidings = stream::unfold((receiver, last), move |(mut receiver, last)| {
        let (dashboard, version) = (dashboard.clone(), version.clone());
        async move {
            loop {
                receiver.changed().await.ok()?;
                let all = *receiver.borrow_and_update();
                let now = version(&dashboard, all);
                if now != last {
                    tokio::time::sleep(PAUSE).await;
                    return Some((Ok(Event::default().data(now.to_string())), (receiver, now)));
                }
            }
        }
    });
    Sse::new(tidings).keep_alive(KeepAlive::default())
}
