//! `kubectl serin dashboard` against the embedded API: what its pages show, who is refused, and that nothing that a cluster says
//! becomes markup.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures::StreamExt as _;
use jiff::tz::TimeZone;
use kube::Client;
use serde_json::{Value, json};
use serin::api::status::Phase;
use serin::cli::dashboard::guard::Guard;
use serin::cli::dashboard::plot::Face;
use serin::cli::dashboard::serve::{Dashboard, app};
use serin::controller::clock::Clock;
use serin::controller::lease::Leadership;
use serin::embedded::Cluster;
use tokio::time::sleep;
use tower::ServiceExt as _;

use crate::shell::{self, Met, Running};
use crate::support::world::of_gateway;

const HOST: &str = "127.0.0.1:8046";
const PAGE: &str = "/rollouts/shop/checkout";

/// A dashboard of one namespace, that watches.
fn open(client: Client, clock: &Clock, acts: bool) -> Router {
    let guard = Guard { port: Some(8046), key: Some("k1".to_owned()) };
    let look = (clock.clone(), Face::Zone(TimeZone::UTC));
    let mut dashboard = Dashboard::new(client, Some("shop".to_owned()), guard, look);
    dashboard.acts = acts;
    let dashboard = Arc::new(dashboard);
    let watched = dashboard.clone();
    tokio::spawn(async move { watched.follow().await });
    app(dashboard)
}

/// A controller, and a dashboard beside it.
fn started(acts: bool) -> (Running, Router) {
    let clock = shell::virtual_clock();
    let api = shell::cluster(&clock);
    let running = shell::start(&api, &clock, Leadership::alone(), 1.0);
    let app = open(api.client("shop"), &clock, acts);
    (running, app)
}

struct Told {
    code: StatusCode,
    headers: HeaderMap,
    text: String,
}

async fn ask(app: &Router, request: Request<Body>) -> Told {
    let response = app.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, 10_000_000).await.unwrap().to_vec()).unwrap();
    Told { code: head.status, headers: head.headers, text }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", HOST).header("cookie", "serin-8046=k1")
}

async fn get(app: &Router, path: &str) -> String {
    let told = ask(app, request("GET", path).body(Body::empty()).unwrap()).await;
    assert_eq!(told.code, StatusCode::OK, "{path}: {}", told.text);
    told.text
}

async fn send(app: &Router, path: &str, form: &str) -> Told {
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let sent = request("POST", path).header(kind.0, kind.1).header("origin", format!("http://{HOST}"));
    ask(app, sent.body(Body::from(form.to_owned())).unwrap()).await
}

/// A canary that is measured in the background, at 50%.
async fn canary(running: &Running) {
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    sleep(Duration::from_secs(5)).await;
    let mut second = shell::rollout("checkout", "checkout:2");
    second["metadata"]["annotations"] =
        json!({"serin.dev/git-commit": "4f2a91cd01e3", "serin.dev/git-author": "Grace"});
    running.cluster.apply("rollouts", &second).unwrap();
    let at_fifty = |side: &serin::api::status::RevisionStatus| side.weight_in_force == Some(50);
    running.wait("checkout", "at 50%", |rollout| rollout.status.canary.as_ref().is_some_and(at_fifty)).await;
    sleep(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn rollouts_are_listed_and_each_has_a_page() {
    let (running, app) = started(false);
    canary(&running).await;
    let list = get(&app, "/").await;
    for part in [r#"<a href="/rollouts/shop/checkout">checkout</a>"#, "All 1", "4/5", "50%", "checkout:2", "4f2a91c"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    assert!(get(&app, "/?q=nothing").await.contains("No Rollout is like that."));
    assert!(get(&app, "/?q=checkout:2").await.contains(PAGE));
    let page = get(&app, PAGE).await;
    let status = running.rollout("checkout").status;
    let parts = [
        // Where it is.
        status.message.as_str(),
        r#"aria-current="step">pause 10s<span class="unseen">, under way"#,
        " commit 4f2a91c</span><span class=\"dim\"> by Grace",
        // Its past: each change with its time, as a sentence and as a table.
        "Weight of the canary in force, from ",
        "<td>20%</td><td>20%</td>",
        "<td>50%</td><td>50%</td><td>50%</td><td>4/5</td>",
        "Metric success-rate",
        "Metric background, in the background",
        "Wanted is result[0] &gt;= 0.95.",
        "the API server keeps no earlier ones",
        // What is below it.
        "ReplicaSet checkout-",
        "VirtualService checkout-serin",
        "FirstDeployment",
        "WeightInForce",
    ];
    for part in parts {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<form"), "it only looks");
    let steps = page.matches("<li class=\"passed\">").count();
    assert_eq!(steps, 3, "of five");
    running.healthy("checkout", "checkout:2").await;
    let page = get(&app, PAGE).await;
    assert!(page.contains("<td>r2</td><td class=\"good\">Promoted</td>"), "{page}");
    assert!(page.contains("r2, commit 4f2a91c by Grace"), "decisions tell whose commit they were about: {page}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_cluster_says_is_never_markup() {
    let (running, app) = started(true);
    canary(&running).await;
    // Nobody writes over what is written now.
    let cluster = running.cluster.clone();
    running.end().await;
    let hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u{202e}\u{7}";
    let mut object = (*cluster.get("rollouts", "shop", "checkout").unwrap()).clone();
    poison(&mut object["status"], hostile);
    let now = "1970-01-12T13:47:00Z";
    let decision = json!({"at": now, "by": hostile, "what": hostile, "why": hostile, "commit": hostile});
    object["status"]["decisions"] = json!([decision]);
    object["status"]["blockedBy"] = json!([{"reason": hostile, "message": hostile, "since": now}]);
    cluster.write_status("rollouts", object).unwrap();
    sleep(Duration::from_secs(2)).await;
    for path in
        ["/", PAGE, &format!("{PAGE}?span=1d"), &format!("{PAGE}?compare=%3Cscript%3E"), "/?q=%3Cscript%3Ealert(1)%22"]
    {
        let page = get(&app, path).await;
        assert!(page.contains("&lt;script&gt;"), "{path} does not show it");
        assert_eq!(page.matches("<script").count(), 1, "{path}: its own alone");
        assert!(!page.contains("<img") && !page.contains(" onerror=\"") && !page.contains('\u{202e}'), "{path}");
        assert_plain(path, &page);
    }
}

/// Puts a text at every place of a status that holds one and is not read as anything else.
fn poison(value: &mut Value, text: &str) {
    let read =
        ["phase", "verdict", "assessment", "kind", "outcome", "status", "type", "hash", "resourceVersion", "value"];
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_time = value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok());
                let is_read = read.contains(&key.as_str()) || key.ends_with("Hash");
                match value {
                    Value::String(_) if is_time || is_read => {}
                    Value::String(own) => text.clone_into(own),
                    Value::Object(_) if ["route", "workload"].contains(&key.as_str()) => {}
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        poison(value, text)
                    }
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| poison(item, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// That a page needs nothing of other servers, and nothing that its policy forbids.
fn assert_plain(path: &str, page: &str) {
    let tags = page.split('<').filter_map(|part| part.split_once('>')).map(|(tag, _)| tag);
    for tag in tags {
        let bare = |name: &str| tag.split([' ', '"']).any(|word| word.starts_with(name));
        assert!(!bare("style=") && !bare("onload=") && !bare("onclick="), "{path}: <{tag}>");
        for key in ["src=\"", "href=\"", "action=\""] {
            let Some((_, rest)) = tag.split_once(key) else { continue };
            assert!(rest.starts_with('/') && !rest.starts_with("//") || rest.starts_with('#'), "{path}: <{tag}>");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_whole_and_hold_to_their_policy() {
    let (running, app) = started(true);
    canary(&running).await;
    let paths =
        ["/", PAGE, "/rollouts/shop/checkout/simulate", "/rollouts/shop/none", "/rollouts/other/checkout", "/none"];
    for path in paths {
        let told = ask(&app, request("GET", path).body(Body::empty()).unwrap()).await;
        let of = |name: &str| told.headers[name].to_str().unwrap();
        assert!(of("content-security-policy").starts_with("default-src 'none'; style-src 'self'; script-src 'self'"));
        assert!(!of("content-security-policy").contains("unsafe"));
        let wanted =
            [("x-content-type-options", "nosniff"), ("cache-control", "no-store"), ("x-frame-options", "DENY")];
        wanted.into_iter().for_each(|(name, value)| assert_eq!(of(name), value, "{path}"));
        assert_plain(path, &told.text);
        for (part, count) in
            [("<main ", 1), ("<header>", 1), ("<nav ", 1), ("<footer>", 1), ("<h1>", 1), ("<title>", 1)]
        {
            assert!(told.text.matches(part).count() >= count, "{path} lacks {part}");
        }
        assert_eq!(told.text.matches("<h1>").count(), 1, "{path}");
        well_formed(path, &told.text);
        // Each picture is told in words, too, or is beside words that tell it.
        for tag in told.text.split("<svg ").skip(1).filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag) {
            let is_part = tag.contains("class=\"marker");
            assert!(
                is_part || tag.contains("aria-label=\"") || tag.contains("aria-hidden=\"true\""),
                "{path}: <svg {tag}>"
            );
        }
    }
    for (path, kind) in [("style.css", "text/css"), ("live.js", "text/javascript"), ("icon.svg", "image/svg+xml")] {
        let told = ask(&app, request("GET", &format!("/assets/{path}")).body(Body::empty()).unwrap()).await;
        assert!(told.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(kind), "{path}");
        assert!(!told.text.contains("http") || path == "icon.svg", "{path} asks nobody else");
    }
    running.end().await;
}

/// That every element is closed in its turn.
fn well_formed(path: &str, page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(2).filter_map(|part| part.split_once('>')).map(|(tag, _)| tag) {
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{path}"),
            None if ["meta", "link", "input"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "{path}");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_ask_is_refused() {
    let (running, app) = started(true);
    canary(&running).await;
    let with = |method: &str, path: &str, pairs: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        ask(
            &app,
            request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from("revision=a&step=null"))
                .unwrap(),
        )
    };
    let cookie = ("cookie", "serin-8046=k1");
    for path in ["/", PAGE, "/changes", "/assets/live.js", "/none"] {
        let told = with("GET", path, &[("host", "rebound.example:8046"), cookie]).await;
        assert_eq!(told.code, StatusCode::MISDIRECTED_REQUEST, "{path}");
        assert!(!told.text.contains("checkout:2") && told.headers.contains_key("content-security-policy"));
        let told = with("GET", path, &[("host", HOST)]).await;
        assert_eq!(told.code, StatusCode::UNAUTHORIZED, "{path}");
        let told = with("GET", path, &[("host", HOST), cookie, ("origin", "http://127.0.0.1:3000")]).await;
        assert_eq!(told.code, StatusCode::FORBIDDEN, "{path}");
    }
    let path = format!("{PAGE}/abort");
    let own = ("host", HOST);
    let refused: [&[(&str, &str)]; 5] = [
        &[own, cookie, ("origin", "http://evil.example")],
        &[own, cookie, ("origin", "null")],
        &[own, cookie],
        &[own, ("origin", "http://127.0.0.1:8046")],
        &[own, cookie, ("origin", "http://127.0.0.1:8046"), ("sec-fetch-site", "same-site")],
    ];
    for pairs in refused {
        let told = with("POST", &path, pairs).await;
        assert!([StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&told.code), "{pairs:?}");
    }
    assert_eq!(running.cluster.list("rolloutactions").len(), 0, "nothing was asked for");
    // The address that the terminal shows gives the browser a key, and does not stay in its history.
    let told = with("GET", "/?key=k1", &[own]).await;
    assert_eq!((told.code, &told.headers[header::LOCATION]), (StatusCode::SEE_OTHER, &"/".parse().unwrap()));
    assert_eq!(told.headers[header::SET_COOKIE], "serin-8046=k1; Path=/; HttpOnly; SameSite=Strict");
    assert_eq!(with("GET", "/?key=k2", &[own]).await.code, StatusCode::UNAUTHORIZED);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_acts_where_it_is_started_for_it() {
    let (running, app) = started(true);
    canary(&running).await;
    let page = get(&app, PAGE).await;
    let hash = running.rollout("checkout").status.canary.unwrap().hash;
    assert!(page.contains(&format!("name=\"revision\" value=\"{hash}\"")), "{page}");
    assert!(page.contains("Abort checkout:2 of checkout? All traffic goes to stable."), "{page}");
    // What somebody saw and is no more is refused by the controller.
    let told = send(&app, &format!("{PAGE}/promote"), "revision=gone&step=3&reason=").await;
    assert_eq!(told.code, StatusCode::SEE_OTHER);
    sleep(Duration::from_secs(2)).await;
    let page = get(&app, told.headers[header::LOCATION].to_str().unwrap()).await;
    assert!(page.contains("Refused: decided on revision gone"), "{page}");
    let told = send(&app, &format!("{PAGE}/abort"), &format!("revision={hash}&step=null&reason=orders+fail")).await;
    assert_eq!(told.code, StatusCode::SEE_OTHER);
    running.wait("checkout", "aborted", |rollout| rollout.status.phase == Some(Phase::Degraded)).await;
    sleep(Duration::from_secs(2)).await;
    let page = get(&app, told.headers[header::LOCATION].to_str().unwrap()).await;
    assert!(page.contains("Done: ") && page.contains("orders fail"), "{page}");
    assert!(page.contains("<summary>Retry…") && !page.contains("<summary>Abort…"), "{page}");
    assert_eq!(send(&app, &format!("{PAGE}/dance"), "revision=a&step=null").await.code, StatusCode::BAD_GATEWAY);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_only_looks_where_it_is_not() {
    let (running, app) = started(false);
    canary(&running).await;
    let told = send(&app, &format!("{PAGE}/abort"), "revision=a&step=null").await;
    assert_eq!((told.code, running.cluster.list("rolloutactions").len()), (StatusCode::NOT_FOUND, 0));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_page_is_told_of_changes() {
    let (running, app) = started(false);
    running.given("checkout", "checkout:1");
    running.given("other", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.healthy("other", "checkout:1").await;
    sleep(Duration::from_secs(20)).await;
    let asked = request("GET", "/changes?namespace=shop&name=checkout").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(asked).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut tidings = response.into_body().into_data_stream();
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(10), tidings.next()).await;
        next.ok().map(|chunk| String::from_utf8(chunk.unwrap().unwrap().to_vec()).unwrap())
    };
    running.cluster.apply("rollouts", &shell::rollout("other", "checkout:2")).unwrap();
    assert_eq!(next().await, None, "another Rollout's changes are not its own");
    running.cluster.apply("rollouts", &shell::rollout("checkout", "checkout:2")).unwrap();
    assert!(next().await.is_some_and(|text| text.starts_with("data: ")));
    running.end().await;
}

/// A Rollout and a dashboard whose requests meet something.
async fn meeting(meets: impl Fn(&str, &str) -> Option<Met> + Send + Sync + 'static) -> (Cluster, Router) {
    let clock = shell::virtual_clock();
    let api = shell::cluster(&clock);
    let running = shell::start(&api, &clock, Leadership::alone(), 1.0);
    running.given("checkout", "checkout:1");
    running.healthy("checkout", "checkout:1").await;
    running.end().await;
    let app = open(shell::client_with(&api, meets), &clock, false);
    sleep(Duration::from_secs(2)).await;
    (api, app)
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_seen_is_said() {
    let (_, app) = meeting(|_, path| path.contains("virtualservices").then_some(Met::Refusal(403))).await;
    let page = get(&app, PAGE).await;
    assert!(page.contains("Routes are not shown: ") && page.contains("ReplicaSet checkout-"), "{page}");
    let (_, app) = meeting(|_, path| path.contains("/rollouts").then_some(Met::Refusal(403))).await;
    let list = get(&app, "/").await;
    assert!(list.contains("role=\"alert\"") && list.contains("What is shown may be old."), "{list}");
    let told = ask(&app, request("GET", PAGE).body(Body::empty()).unwrap()).await;
    assert_eq!(told.code, StatusCode::FORBIDDEN, "{}", told.text);
}

#[tokio::test(start_paused = true)]
async fn only_its_namespaces_are_served() {
    let (_, app) = meeting(|_, _| None).await;
    let told = ask(&app, request("GET", "/rollouts/kube-system/checkout").body(Body::empty()).unwrap()).await;
    assert_eq!(told.code, StatusCode::NOT_FOUND);
    assert!(told.text.contains("start the dashboard with -A, or with -n kube-system"), "{}", told.text);
    let told = ask(&app, request("GET", "/rollouts/shop/none").body(Body::empty()).unwrap()).await;
    assert_eq!(told.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_simulated_and_compared() {
    let (running, app) = started(false);
    canary(&running).await;
    let plan = get(&app, &format!("{PAGE}/simulate")).await;
    for part in ["It is promoted after ", "Weight of the canary over ", "<td>50%</td>", "Metric "] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    let plan = get(&app, &format!("{PAGE}/simulate?scenario=errors-from%3D50%25")).await;
    assert!(plan.contains("It is aborted after "), "{plan}");
    let page = get(&app, &format!("{PAGE}?compare=good")).await;
    assert!(page.contains("simulated: good") && page.contains("<g class=\"foretold\"><line"), "{page}");
    let page = get(&app, &format!("{PAGE}?compare=nothing")).await;
    assert!(page.contains("It cannot be simulated: there is no scenario nothing"), "{page}");
    assert_eq!(running.cluster.list("rolloutactions").len(), 0);
    running.end().await;
}

/// The plural of a kind that a path names, after its group.
fn asked_for(path: &str) -> (String, String) {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        other => panic!("{other:?}"),
    };
    let plural = if rest[0] == "namespaces" { rest[2] } else { rest[0] };
    (group.to_owned(), plural.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_pods_page_has_the_rights_that_it_needs() {
    let asked: Arc<Mutex<BTreeSet<(String, String, String)>>> = Arc::default();
    let noted = asked.clone();
    let (api, app) = meeting(move |method, path| {
        let (group, plural) = asked_for(path);
        assert_eq!(method, "GET", "it only looks");
        let is_one = path.trim_matches('/').rsplit('/').next() != Some(plural.as_str());
        noted.lock().unwrap().insert((group, plural, if is_one { "get" } else { "list" }.to_owned()));
        None
    })
    .await;
    let mut spec = shell::rollout("taken", "checkout:1");
    let own = spec["spec"].as_object_mut().unwrap();
    own.remove("template");
    own.insert("workloadRef".to_owned(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "taken"}));
    let templates = json!([{"templateName": "everywhere", "clusterScope": true}]);
    spec["spec"]["strategy"]["canary"]["analysis"] = json!({"templates": templates});
    api.apply("rollouts", &spec).unwrap();
    let mut gateway = shell::rollout("gateway", "checkout:1");
    gateway["spec"] = of_gateway("checkout:1", 1);
    api.apply("rollouts", &gateway).unwrap();
    sleep(Duration::from_secs(2)).await;
    for name in ["checkout", "taken", "gateway"] {
        for path in [format!("/rollouts/shop/{name}"), format!("/rollouts/shop/{name}/simulate")] {
            ask(&app, request("GET", &path).body(Body::empty()).unwrap()).await;
        }
    }
    // A watch has the path of a list.
    asked.lock().unwrap().insert(("serin.dev".to_owned(), "rollouts".to_owned(), "watch".to_owned()));
    let text = include_str!("../../deploy/dashboard/rbac.yaml");
    let documents = text.split("---\n").map(|text| serde_yaml::from_str::<Value>(text).unwrap());
    let role = documents.into_iter().find(|one| one["kind"] == "ClusterRole").unwrap();
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut given = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let verbs = words(&rule["verbs"]).into_iter();
                given.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    assert_eq!(*asked.lock().unwrap(), given);
}
