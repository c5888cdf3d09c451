//! Traces of rollouts: what statuses give as spans, in random stories and as a picture, and that a collector gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use expect_test::expect_file;
use opentelemetry::trace::{SpanId, Status, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_sdk::trace::SpanData;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;
use serin::controller::telemetry::Metrics;
use serin::controller::trace::export::{Collector, Tracer};
use serin::controller::trace::spans;

use crate::law::{config, event_of_owned, happen, heal};
use crate::support::receivers::receiver;
use crate::support::world::{Answers, BEGAN, World, at_rest, commit, in_place, owned, spec};

/// All spans of a story, in the order in which they are sent; `later` is how many seconds later the clock tells.
fn told(world: &World, later: i64) -> Vec<SpanData> {
    let passages = world.passages.as_ref().unwrap();
    let of = |(rollout, before, now): &(
        serin::api::watched::Rollout,
        serin::api::status::RolloutStatus,
        jiff::Timestamp,
    )| { spans(rollout, before, &rollout.status, *now + jiff::SignedDuration::from_secs(later)) };
    passages.iter().flat_map(of).collect()
}

type Identity = (TraceId, SpanId, SpanId);

fn identity(span: &SpanData) -> Identity {
    (span.span_context.trace_id(), span.span_context.span_id(), span.parent_span_id)
}

/// What must hold of the spans of any story.
fn check(world: &World) {
    let all = told(world, 0);
    let mut traces: BTreeMap<[u8; 16], Vec<&SpanData>> = BTreeMap::new();
    for span in &all {
        traces.entry(span.span_context.trace_id().to_bytes()).or_default().push(span);
        assert!(span.end_time >= span.start_time, "{} ends before it starts", span.name);
        assert!(span.span_context.is_valid());
    }
    let mut wholes = 0;
    for spans in traces.values() {
        let ids: BTreeSet<[u8; 8]> = spans.iter().map(|span| span.span_context.span_id().to_bytes()).collect();
        assert_eq!(ids.len(), spans.len(), "each span is told once: {:#?}", names(spans));
        let roots: Vec<_> = spans.iter().filter(|span| span.parent_span_id == SpanId::INVALID).collect();
        assert!(roots.len() <= 1, "one trace a rollout: {:#?}", names(spans));
        let Some(root) = roots.first() else { continue };
        wholes += 1;
        for span in spans {
            assert!(span.start_time >= root.start_time, "{} began before {}", span.name, root.name);
            let parent = span.parent_span_id;
            let is_there = parent == SpanId::INVALID || ids.contains(&parent.to_bytes());
            assert!(is_there, "{} has no parent among {:#?}", span.name, names(spans));
        }
    }
    assert_eq!(wholes, outcomes(world), "as many traces as rollouts that ended");
    let identities = |spans: &[SpanData]| spans.iter().map(identity).collect::<Vec<_>>();
    let again = told(world, 0);
    assert_eq!(all, again, "the same statuses give the same spans");
    let since: BTreeSet<_> = identities(&told(world, 100)).into_iter().map(|one| format!("{one:?}")).collect();
    let lost = identities(&all).into_iter().find(|one| !since.contains(&format!("{one:?}")));
    assert_eq!(lost, None, "a clock that goes ahead changes no identity");
}

fn names(spans: &[&SpanData]) -> Vec<String> {
    spans
        .iter()
        .map(|span| format!("{} {} of {}", span.name, span.span_context.span_id(), span.parent_span_id))
        .collect()
}

/// Rollouts that ended, first deployments aside.
fn outcomes(world: &World) -> usize {
    let passages = world.passages.as_ref().unwrap();
    let new = |(rollout, before, _): &(serin::api::watched::Rollout, serin::api::status::RolloutStatus, _)| {
        let is_new =
            |outcome: &&serin::api::status::Outcome| before.stable.is_some() && !before.history.contains(outcome);
        rollout.status.history.iter().filter(is_new).count()
    };
    passages.iter().map(new).sum()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_rollout_is_one_whole_trace(
        replicas in 1_i32..8, in_git in any::<bool>(), events in prop::collection::vec(event_of_owned(), 0..14)
    ) {
        let mut world = World::new(&spec("checkout:1", replicas, &if in_git { in_place() } else { owned() }));
        world.passages = Some(Vec::new());
        world.settle();
        for event in &events {
            happen(&mut world, event);
            world.settle();
        }
        heal(&mut world);
        world.pass_time(400);
        check(&world);
    }
}

/// A promoted canary, one that is aborted, and its retry that a newer revision supersedes.
fn story() -> World {
    let steps = json!([
        {"setWeight": 20},
        {"analysis": {"templates": [{"templateName": "success-rate"}]}},
        {"pause": {"duration": "10s"}},
        {"setWeight": 50},
    ]);
    let mut world = at_rest(4, &steps, &json!({}));
    world.passages = Some(Vec::new());
    commit(&mut world, "checkout:2");
    world.pass_time(60);
    world.answers = Answers::Bad;
    commit(&mut world, "checkout:3");
    world.pass_time(60);
    world.answers = Answers::Good;
    world.act("retry");
    world.settle();
    world.pass_time(15);
    commit(&mut world, "checkout:4");
    world.pass_time(5);
    world
}

/// Traces as trees: when each span began and how long it took, in seconds, and what it says.
fn picture(all: &[SpanData]) -> String {
    let since =
        |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGAN.unsigned_abs())).unwrap();
    let mut lines = Vec::new();
    let mut roots: Vec<&SpanData> = all.iter().filter(|span| span.parent_span_id == SpanId::INVALID).collect();
    roots.sort_by_key(|span| span.start_time);
    let mut stack: Vec<(usize, &SpanData)> = roots.into_iter().rev().map(|span| (0, span)).collect();
    while let Some((depth, span)) = stack.pop() {
        let (began, took) = (since(span.start_time), span.end_time.duration_since(span.start_time).unwrap());
        let indent = "  ".repeat(depth);
        let said: Vec<String> = span.attributes.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
        let status = match &span.status {
            Status::Error { description } => format!(" ERROR {description}"),
            Status::Ok => " OK".into(),
            Status::Unset => String::new(),
        };
        lines.push(format!("{:>5}s +{:<3}{indent} {}{status}", began.as_secs(), took.as_secs(), span.name));
        lines.push(format!("            {indent} {}", said.join(" ")));
        for event in &span.events.events {
            let said: Vec<String> = event.attributes.iter().map(|one| one.value.to_string()).collect();
            lines.push(format!(
                "            {indent} {}s {}: {}",
                since(event.timestamp).as_secs(),
                event.name,
                said.join(" ")
            ));
        }
        let links = span.links.links.len();
        if links > 0 {
            lines.push(format!("            {indent} {links} link"));
        }
        let own = span.span_context.span_id();
        let of_it = |other: &&SpanData| {
            other.parent_span_id == own && other.span_context.trace_id() == span.span_context.trace_id()
        };
        let mut children: Vec<&SpanData> = all.iter().filter(of_it).collect();
        children.sort_by_key(|span| std::cmp::Reverse((span.start_time, span.end_time)));
        stack.extend(children.into_iter().map(|child| (depth + 1, child)));
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_promoted_an_aborted_and_a_superseded_rollout_are_three_trees() {
    let world = story();
    check(&world);
    expect_file!["traces/story.txt"].assert_eq(&picture(&told(&world, 0)));
}

#[test]
fn a_retry_is_linked_to_the_attempt_before() {
    let all = told(&story(), 0);
    let wholes: Vec<&SpanData> = all.iter().filter(|span| span.parent_span_id == SpanId::INVALID).collect();
    let linked: Vec<_> = wholes.iter().flat_map(|span| &span.links.links).collect();
    assert_eq!(linked.len(), 1);
    assert_eq!(linked[0].span_context, wholes[1].span_context, "the aborted one");
}

/// A collector on loopback that answers with a status, after a while: where it is, and the requests it got.
async fn collector(status: StatusCode, wait: Duration) -> (String, Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let got: Arc<Mutex<Vec<ExportTraceServiceRequest>>> = Arc::default();
    let requests = got.clone();
    let address = receiver(move |request| {
        assert_eq!((request.uri.path(), request.header("content-type")), ("/v1/traces", "application/x-protobuf"));
        requests.lock().unwrap().push(ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap());
        std::thread::sleep(wait);
        status
    })
    .await;
    (address, got)
}

fn tracer(endpoint: &str) -> (Tracer, Arc<Metrics>) {
    serin::controller::use_ring();
    let collector = Collector { endpoint: Some(endpoint.into()), identity: "serin-0".into(), ..Collector::default() };
    let metrics = Arc::new(Metrics::default());
    (Tracer::spawn(collector.exporter().unwrap(), metrics.clone()), metrics)
}

fn counted(metrics: &Metrics, result: &str) -> Option<String> {
    let start = format!("serin_spans_total{{result=\"{result}\"}} ");
    metrics.text().lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|one| one.key == key).and_then(|one| one.value.clone()?.value);
    match value {
        Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_every_span_as_it_is() {
    let (address, got) = collector(StatusCode::OK, Duration::ZERO).await;
    let (tracer, metrics) = tracer(&address);
    let all = told(&story(), 0);
    tracer.send(all.clone());
    tracer.flush().await;
    assert_eq!(counted(&metrics, "sent"), Some(all.len().to_string()));
    let requests = got.lock().unwrap();
    let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(text(&resource.attributes, "service.name"), "serin");
    assert_eq!(text(&resource.attributes, "service.instance.id"), "serin-0");
    let spans =
        requests.iter().flat_map(|one| &one.resource_spans).flat_map(|one| &one.scope_spans).flat_map(|one| &one.spans);
    let mut left: BTreeMap<Vec<u8>, &SpanData> =
        all.iter().map(|span| (span.span_context.span_id().to_bytes().to_vec(), span)).collect();
    for span in spans {
        let sent = left.remove(&span.span_id).unwrap_or_else(|| panic!("{} is not known, or twice", span.name));
        assert_eq!(span.trace_id, sent.span_context.trace_id().to_bytes());
        assert_eq!(span.name, sent.name);
        let took = sent.end_time.duration_since(sent.start_time).unwrap().as_nanos();
        assert_eq!(u128::from(span.end_time_unix_nano - span.start_time_unix_nano), took, "{}", span.name);
        assert_eq!(text(&span.attributes, "k8s.namespace.name"), "shop");
        assert_eq!(text(&span.attributes, "serin.rollout.name"), "checkout");
        assert_eq!(span.events.len(), sent.events.len());
    }
    assert!(left.is_empty(), "{} spans did not arrive", left.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_that_are_counted_and_nothing_else() {
    let (tracer, metrics) = tracer("http://127.0.0.1:9");
    let all = told(&story(), 0);
    tracer.send(all.clone());
    tracer.flush().await;
    assert_eq!(counted(&metrics, "failed"), Some(all.len().to_string()));
    let (address, _) = collector(StatusCode::BAD_REQUEST, Duration::ZERO).await;
    let (tracer, metrics) = self::tracer(&address);
    tracer.send(all.clone());
    tracer.flush().await;
    assert_eq!(counted(&metrics, "failed"), Some(all.len().to_string()), "it refuses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_collector_is_not_waited_for_and_the_queue_is_bounded() {
    let (address, _) = collector(StatusCode::OK, Duration::from_secs(2)).await;
    let (tracer, metrics) = tracer(&address);
    let all = told(&story(), 0);
    let (count, began) = (5_000 / all.len() + 1, clock());
    for _ in 0..count {
        tracer.send(all.clone());
    }
    assert!(clock().duration_since(began).unwrap() < Duration::from_secs(1), "a pass does not wait");
    let dropped: usize = counted(&metrics, "dropped").unwrap().parse().unwrap();
    // The queue, and what the task had taken out of it by then.
    assert!((count * all.len() - 2048 - 2 * 512..=count * all.len() - 2048).contains(&dropped), "{dropped}");
}

#[expect(clippy::disallowed_methods, reason = "it is measured")]
fn clock() -> SystemTime {
    SystemTime::now()
}

#[test]
fn what_makes_no_sense_is_told() {
    let of = |endpoint: &str, protocol: Option<&str>| {
        let collector = Collector {
            endpoint: Some(endpoint.into()),
            protocol: protocol.map(str::to_owned),
            ..Collector::default()
        };
        collector.exporter().map(|_| ()).unwrap_err()
    };
    serin::controller::use_ring();
    let told = of("http://collector:4318", Some("http/json"));
    assert_eq!(told, "OTEL_EXPORTER_OTLP_PROTOCOL: \"http/json\" is neither http/protobuf nor grpc");
    let told = of("not a url", None);
    assert!(told.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: "), "{told}");
    assert!(
        !Collector::default().is_named()
            && !Collector { endpoint: Some(String::new()), ..Collector::default() }.is_named()
    );
}
