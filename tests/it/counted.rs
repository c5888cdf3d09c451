//! Metrics that count requests, over whole rollouts: every window counts once, whatever goes wrong between.

use serde_json::{Value, json};
use serin::api::json::Json;
use serin::api::status::{EvidenceStatus, Phase, Verdict};
use serin::evidence::{Against, Test};
use serin::plan::observed::Template;

use crate::support::world::{Answers, World, at_rest, commit};

/// Seconds of a window.
const WINDOW: i64 = 15;

fn world(steps: &Value, canary: &Value, compare: &Value) -> World {
    let mut world = at_rest(4, steps, canary);
    let mut compare = compare.clone();
    json_patch::merge(&mut compare, &json!({"bad": "bad{r=\"{{revision}}\"}", "total": "all{r=\"{{revision}}\"}"}));
    let spec = Json::from(&json!({"metrics": [{"name": "errors", "compare": compare}]}));
    world.observed.templates.push(Template { name: "errors".into(), cluster: false, spec });
    world
}

pub fn gate(more: &Value) -> Value {
    let mut gate = json!({"templates": [{"templateName": "errors"}], "until": "decided"});
    json_patch::merge(&mut gate, more);
    json!({"analysis": gate})
}

pub fn evidence(world: &World) -> Option<EvidenceStatus> {
    world.observed.rollout.status.analysis.first()?.metrics.first()?.evidence.clone()
}

pub fn pass(world: &mut World, seconds: i64) {
    for _ in 0..seconds {
        world.tick();
        world.settle();
    }
}

/// Seconds in which Prometheus comes and goes and the controller dies between any two writes, then a quiet minute: every window
/// since the canary is warm has counted, once.
pub fn counted_once(world: &mut World, seed: u64, seconds: u32) -> EvidenceStatus {
    let mut chance = fastrand::Rng::with_seed(seed);
    for _ in 0..seconds {
        world.tick();
        match chance.u8(..100) {
            0 => world.answers = Answers::Down,
            1..5 => world.answers = Answers::Good,
            5..10 => world.crash_after(chance.usize(..4)),
            _ => {}
        }
        world.settle();
    }
    world.answers = Answers::Good;
    pass(world, 60);
    let found = evidence(world).unwrap();
    let memory = world.observed.rollout.status.attempt.clone().unwrap().evidence[0].clone();
    let warm = memory.grown_at.as_second() + 60;
    let first = (warm + WINDOW - 1).div_euclid(WINDOW) * WINDOW;
    let windows = (memory.until.unwrap().as_second() - first) / WINDOW;
    assert_eq!(i64::from(found.windows), windows, "seed {seed}");
    found
}

/// Prometheus comes and goes, the controller dies between any two writes and starts again, and in the end every window since the
/// first has counted once: each has as many requests as any other.
#[test]
fn every_window_counts_once() {
    for seed in 0..30 {
        let mut world =
            world(&json!([{"setWeight": 20}, gate(&json!({}))]), &json!({}), &json!({"minRequests": 1_000_000}));
        commit(&mut world, "checkout:2");
        let found = counted_once(&mut world, seed, 900);
        assert!((found.canary.total - f64::from(found.windows) * 300.0).abs() < 1.0, "seed {seed}: {found:?}");
        assert!(
            (found.stable.unwrap().total - f64::from(found.windows) * 1200.0).abs() < 100.0,
            "seed {seed}: {found:?}"
        );
    }
}

/// No window lies where the weight was not in force, or a pod of the canary was new.
#[test]
fn no_window_straddles_a_change() {
    let steps = json!([{"setWeight": 50}, gate(&json!({}))]);
    let warmup = json!({"analysis": {"warmup": "20s"}});
    let mut world = world(&steps, &warmup, &json!({"minRequests": 1_000_000}));
    commit(&mut world, "checkout:2");
    let mut lost = 0;
    for second in 0..600 {
        world.tick();
        // A pod dies, its weight follows; then it comes back.
        if second == 200 {
            world.unready.insert("checkout:2".into(), 2);
        }
        if second == 250 {
            world.unready.clear();
        }
        world.settle();
        lost += i32::from((200..250).contains(&second) && world.weight() < 50);
    }
    assert!(lost > 30, "the weight went down for {lost} s");
    let found = evidence(&world).unwrap();
    let per_window = found.canary.total / f64::from(found.windows);
    assert!((per_window - 750.0).abs() < 1.0, "windows with another weight were counted: {found:?}");
    assert!(found.windows < 35, "the warm-up after the pod came back was left out: {found:?}");
}

/// What is over when its time is over.
#[test]
fn an_end_without_evidence_is_what_the_rollout_says() {
    for (says, phase, verdict) in [
        ("pause", Phase::Paused, Some(Verdict::Inconclusive)),
        ("promote", Phase::Healthy, Some(Verdict::Pass)),
        ("abort", Phase::Degraded, Some(Verdict::Fail)),
    ] {
        let steps = json!([{"setWeight": 20}, gate(&json!({"atMost": "3m"})), {"setWeight": 50}]);
        let canary = json!({"analysis": {"onInconclusive": says}});
        let mut world = world(&steps, &canary, &json!({"minRequests": 1_000_000}));
        commit(&mut world, "checkout:2");
        for _ in 0..170 {
            world.tick();
            world.settle();
        }
        assert_eq!(world.phase(), "Progressing", "{says}");
        for _ in 0..120 {
            world.tick();
            world.settle();
        }
        assert_eq!(
            world.observed.rollout.status.phase,
            Some(phase),
            "{says}: {}",
            world.observed.rollout.status.message
        );
        let found = world.observed.rollout.status.analysis.first().map(|analysis| analysis.verdict);
        assert!(found.is_none() || found == verdict, "{says}: {found:?}");
    }
}

/// Two metrics share the error of an abort, by their weights; so do two analyses.
#[test]
fn metrics_share_the_error() {
    let metrics = |names: &[&str]| {
        let one = |name: &&str| json!({"name": name, "compare": {"preset": "istio-5xx"}, "weight": if *name == "a" { 3 } else { 1 }});
        Json::from(&json!({"metrics": names.iter().map(one).collect::<Vec<_>>()}))
    };
    let steps = json!([{"setWeight": 20}, {"analysis": {"templates": [{"templateName": "two"}], "until": "decided"}}]);
    let canary = json!({"analysis": {"templates": [{"templateName": "one"}], "confidence": 0.95}});
    let mut world = at_rest(4, &steps, &canary);
    for (name, spec) in [("two", metrics(&["a", "b"])), ("one", metrics(&["c"]))] {
        world.observed.templates.push(Template { name: name.into(), cluster: false, spec });
    }
    commit(&mut world, "checkout:2");
    for _ in 0..200 {
        world.tick();
        world.settle();
    }
    let at = |name: &str| {
        let metrics = world.observed.rollout.status.analysis.iter().flat_map(|analysis| &analysis.metrics);
        metrics.clone().find(|metric| metric.name == name).unwrap().evidence.clone().unwrap().aborts_at
    };
    // 5 % in five parts: three, one and one.
    assert_eq!([at("a"), at("b"), at("c")].map(|at| format!("{at:.0}")), ["33", "100", "100"]);
    assert!((Test::against(Against::Limit(0.5)).aborts_at().exp() - 100.0).abs() < 1e-9);
}
