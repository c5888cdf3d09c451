//! `kubectl serin backtest` against a server that answers range queries from counters that are known.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

/// Requests a second, and how many of them fail.
const RPS: f64 = 50.0;
const RATE: f64 = 0.01;
const UNTIL: &str = "2026-11-22T00:00:00Z";
const RELEASES: usize = 12;

const TEMPLATE: &str = r#"
apiVersion: serin.dev/v1alpha1
kind: AnalysisTemplate
metadata: {name: checkout}
spec:
  metrics:
  - name: errors
    compare:
      bad: sum by (pod) (requests_total{workload="{{workload}}",code=~"5.."})
      total: sum by (pod) (requests_total{workload="{{workload}}"})
"#;

/// What was asked, and how much at once.
#[derive(Default)]
struct Asked {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
    points: AtomicUsize,
    /// Questions after which it refuses; 0 for never.
    refuses_after: AtomicUsize,
}

/// A Prometheus with four pods, each with counters that grow as they should; nothing where a query names `nothing`.
async fn answer(
    State(asked): State<Arc<Asked>>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
) -> Result<String, StatusCode> {
    let number = asked.all.fetch_add(1, Ordering::SeqCst);
    let refuses_after = asked.refuses_after.load(Ordering::SeqCst);
    if refuses_after > 0 && number >= refuses_after {
        return Err(StatusCode::BAD_REQUEST);
    }
    asked.most.fetch_max(asked.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let field = |name: &str| query[name].parse::<f64>().unwrap();
    let (start, end, step) = (field("start"), field("end"), field("step"));
    let text = &query["query"];
    let part = if text.contains("5..") { RATE } else { 1.0 };
    let instants: Vec<f64> =
        std::iter::successors(Some(start), |at| Some(at + step)).take_while(|at| *at <= end).collect();
    asked.points.fetch_max(instants.len(), Ordering::SeqCst);
    let series = |pod: u32| {
        let value = |at: &f64| json!([at, format!("{}", ((at - 1.79e9) * RPS / 4.0 * part).floor())]);
        json!({"metric": {"pod": format!("pod-{pod}")}, "values": instants.iter().map(value).collect::<Vec<_>>()})
    };
    let ratio = |at: &f64| json!([at, format!("{}", 1.0 - RATE)]);
    let result = if text.contains("nothing") {
        Vec::new()
    } else if text.contains("ratio") {
        vec![json!({"metric": {}, "values": instants.iter().map(ratio).collect::<Vec<_>>()})]
    } else {
        (0..4).map(series).collect()
    };
    asked.now.fetch_sub(1, Ordering::SeqCst);
    Ok(json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string())
}

/// The server, on a thread of its own: the command blocks the test's.
fn serve() -> (String, Arc<Asked>) {
    let asked = Arc::new(Asked::default());
    let app = Router::new().route("/api/v1/query_range", get(answer)).with_state(asked.clone());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
    });
    (format!("http://{}", receiver.recv().unwrap()), asked)
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("backtest").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn run(address: &str, name: &str, template: &str, more: &[&str]) -> Output {
    let file = folder(&format!("{name}-manifests")).join("template.yaml");
    std::fs::write(&file, template).unwrap();
    Command::new(env!("CARGO_BIN_EXE_kubectl-serin"))
        .args(["backtest", "--rollout", "checkout", "--since", "2d", "--at", &RELEASES.to_string(), "--prometheus-url"])
        .args([address, "-f", file.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn aborted(report: &Value, canary: &str) -> usize {
    let rows = report["metrics"][0]["canaries"].as_array().unwrap();
    let row = rows.iter().find(|row| row["canary"] == canary).unwrap_or_else(|| panic!("{canary}: {report}"));
    assert_eq!(row["releases"], RELEASES, "{row}");
    row["abortedAfter"].as_array().unwrap().len()
}

#[test]
fn good_canaries_are_left_alone_and_bad_ones_caught() {
    let (address, asked) = serve();
    let plot = folder("plot").join("checkout.svg");
    let output = run(&address, "good", TEMPLATE, &["-o", "json", "--until", UNTIL, "--plot", plot.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&output);
    for good in ["good", "good, whole pods"] {
        assert_eq!(aborted(&report, good), 0, "{report}");
    }
    assert_eq!(aborted(&report, "x5"), RELEASES, "{report}");
    let harm = |canary: &str| {
        let rows = report["metrics"][0]["canaries"].as_array().unwrap().iter();
        rows.into_iter().find(|row| row["canary"] == canary).unwrap()["harmed"].as_f64().unwrap()
    };
    // A good canary is never stopped: it has a quarter of all requests of 15 minutes, and a hundredth of them fails.
    let all = RPS * RATE * 900.0 * 0.25 * f64::from(u32::try_from(RELEASES).unwrap());
    assert!((harm("good") / all - 1.0).abs() < 0.1, "{} of {all}", harm("good"));
    assert!(harm("x5") < 4.0 * all, "an abort saves requests: {}", harm("x5"));
    assert!(asked.most.load(Ordering::SeqCst) <= 2, "at once");
    // Half an hour before, and a release: 45 minutes in windows of 15 s.
    assert_eq!(asked.points.load(Ordering::SeqCst), 181);
    // Two counters of all, and the same of the pods.
    assert_eq!(asked.all.load(Ordering::SeqCst), 4 * RELEASES);
    let picture = std::fs::read_to_string(plot).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("good, whole pods") && picture.ends_with("</svg>\n"));
}

#[test]
fn what_was_answered_is_not_asked_again() {
    let (address, asked) = serve();
    let cache = folder("cache");
    let ask = || run(&address, "cache", TEMPLATE, &["-o", "json", "--cache", cache.to_str().unwrap()]);
    asked.refuses_after.store(17, Ordering::SeqCst);
    let refused = ask();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("run it again to go on") && told.contains("HTTP 400"), "{told}");
    let before = asked.all.swap(0, Ordering::SeqCst);
    assert!(before >= 17, "{before}");
    asked.refuses_after.store(0, Ordering::SeqCst);
    let whole = ask();
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let rest = asked.all.swap(0, Ordering::SeqCst);
    assert!(rest > 0 && rest <= 4 * RELEASES - 8, "{rest}: what was answered before is kept");
    // Until when it looks is kept, too, so that nothing is new to it.
    let again = ask();
    assert_eq!((asked.all.load(Ordering::SeqCst), again.stdout), (0, whole.stdout));
}

#[test]
fn a_limit_that_stable_itself_exceeds_breaks_its_promise() {
    let (address, _) = serve();
    let limit = TEMPLATE.replace("compare:", "limit:\n      max: 0.002");
    let output = run(&address, "limit", &limit, &["-o", "json", "--until", UNTIL]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let report = report(&output);
    assert_eq!(aborted(&report, "good"), RELEASES);
    let advice = report["metrics"][0]["advice"].as_str().unwrap();
    assert!(advice.starts_with("take max 0.0") && !advice.starts_with("take max 0.00"), "{advice}");
}

#[test]
fn conditions_are_tried_on_the_values_of_the_past() {
    let (address, _) = serve();
    let of = |name: &str, least: f64| {
        let template = format!(
            "apiVersion: serin.dev/v1alpha1\nkind: AnalysisTemplate\nmetadata: {{name: checkout}}\nspec:\n  metrics:\n  \
             - name: rate\n    interval: 1m\n    failureLimit: 2\n    successCondition: result[0] >= {least}\n    \
             prometheus: {{query: ratio}}\n"
        );
        run(&address, name, &template, &["-o", "json", "--until", UNTIL])
    };
    let (fine, strict) = (of("fine", 0.98), of("strict", 0.995));
    assert_eq!([fine.status.code(), strict.status.code()], [Some(0), Some(2)], "{strict:?}");
    assert_eq!([aborted(&report(&fine), "good"), aborted(&report(&strict), "good")], [0, RELEASES]);
    // The third failure is one too many: at the begin, after one minute, and after two.
    let report = report(&strict);
    assert_eq!(report["metrics"][0]["canaries"][0]["abortedAfter"][0], 120.0);
    assert!(report["metrics"][0]["notes"][0].as_str().unwrap().contains("names no revision"), "{report}");
}

const ROLLOUT: &str = "
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: checkout}
spec:
  replicas: 4
  selector: {matchLabels: {app: checkout}}
  template: {metadata: {labels: {app: checkout}}, spec: {containers: [{name: app, image: checkout:1}]}}
  strategy:
    canary:
      trafficRouting: {istio: {owned: {host: checkout, hosts: [checkout]}}}
      steps: [{setWeight: 20}, {analysis: {templates: [{templateName: checkout}], until: decided, atMost: 10m}}]
---";

/// `lint` and `simulate` reckon with what the metrics have counted in the last hour.
#[test]
fn the_present_traffic_is_asked_for() {
    let (address, asked) = serve();
    let file = folder("present").join("manifests.yaml");
    let run = |manifests: &str, words: &[&str]| {
        std::fs::write(&file, manifests).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-serin"))
            .args(words)
            .args([file.to_str().unwrap(), "--prometheus-url", &address])
            .output()
            .unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let manifests = format!("{ROLLOUT}{TEMPLATE}");
    let known = "by the last hour's 50 requests a second, 1% bad";
    let (linted, _) = run(&manifests, &["lint"]);
    let line = linted.lines().find(|line| line.contains(known)).unwrap_or_else(|| panic!("{linted}"));
    assert!(line.contains("errors at 20% (step 2): sees ") && line.contains(" times stable's rate"), "{line}");
    assert_eq!(asked.all.load(Ordering::SeqCst), 4, "two counters, and the pods'");
    assert_eq!(asked.points.load(Ordering::SeqCst), 241, "an hour in windows of 15 s");
    let (simulated, _) = run(&manifests, &["simulate", "-f"]);
    assert!(simulated.contains(known), "{simulated}");
    let (idle, _) = run(&manifests.replace("requests_total", "nothing_total"), &["lint"]);
    assert!(idle.contains("sees nothing within 9m, however bad, by the last hour's 0 requests a second"), "{idle}");
    let (_, unknown) = run(ROLLOUT, &["lint"]);
    assert!(unknown.contains("note: the present traffic of checkout is unknown: no AnalysisTemplate"), "{unknown}");
}

#[test]
fn nothing_to_count_is_not_found() {
    let (address, _) = serve();
    let nothing = TEMPLATE.replace("requests_total", "nothing_total");
    let output = run(&address, "nothing", &nothing, &["--until", UNTIL]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let none = run("http://127.0.0.1:9", "none", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n", &[]);
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    assert!(String::from_utf8(none.stderr).unwrap().contains("no AnalysisTemplate"));
}
