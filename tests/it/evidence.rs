//! The sequential tests against reference vectors, and what they promise.

mod counters;
mod fair;
mod input;

use serde_json::Value;
use serin::evidence::{Against, Count, Interval, State, Test, Verdict, Window, dispersion};

/// The reference vectors: of the file that `SERIN_VECTORS` names, else the project's own copy.
fn vectors() -> Value {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/evidence/vectors.json");
    let path = of_environment("SERIN_VECTORS").unwrap_or_else(|| own.into());
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line")]
fn of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0)
}

fn test_of(case: &Value) -> Test {
    let of = |key: &str| number(&case["params"][key]);
    let known = |key: &str| (!case["params"][key].is_null()).then(|| of(key));
    let against = match case.get("limit") {
        Some(limit) => Against::Limit(number(limit)),
        None => Against::Stable { tolerance: of("tolerance"), margin: of("promoteMargin"), floor: of("floor") },
    };
    Test {
        against,
        alpha: of("alpha") * of("alphaWeight"),
        beta: of("beta"),
        min_requests: of("minRequests"),
        min_windows: u32::try_from(case["params"]["minWindows"].as_u64().unwrap()).unwrap(),
        votes: known("votes"),
        dispersion: known("dispersion"),
        abstain: of("abstain"),
        share: of("share"),
        bounds: 1,
    }
}

fn window(numbers: &Value) -> Window {
    let at = |index: usize| numbers.get(index).map_or(0.0, number);
    Window { canary: Count { requests: at(0), bad: at(1) }, stable: Count { requests: at(2), bad: at(3) } }
}

/// Looks at every window of a case, and is written down and read back between any two.
fn check(case: &Value) -> u32 {
    let test = test_of(case);
    let mut state = State::new(&test);
    let name = case["name"].as_str().unwrap();
    for (at, (numbers, look)) in
        case["windows"].as_array().unwrap().iter().zip(case["looks"].as_array().unwrap()).enumerate()
    {
        if case["newStepBefore"].as_array().is_some_and(|before| before.contains(&at.into())) {
            state.begin_step();
        }
        if !numbers.is_null() {
            test.look(&mut state, &[window(numbers)]);
        }
        state = State::decode(&test, &state.encode()).unwrap();
        let (worse, better) = (test.log_worse(&state), test.log_better(&state));
        assert!(close(worse, number(&look["logEWorse"])), "{name}, look {at}: worse {worse}, {look}");
        assert!(close(better, number(&look["logEBetter"])), "{name}, look {at}: better {better}, {look}");
        let verdict = match test.verdict(&state) {
            Verdict::Worse => "worse",
            Verdict::NotWorse => "not_worse",
            Verdict::Undecided => "undecided",
            Verdict::InsufficientTraffic => "insufficient_traffic",
        };
        assert_eq!(verdict, look["verdict"], "{name}, look {at}");
        let Window { canary, stable } = state.step;
        for (found, wanted) in [canary.requests, canary.bad, stable.requests, stable.bad]
            .into_iter()
            .zip(look["totals"].as_array().into_iter().flatten())
        {
            assert!(close(found, number(wanted)), "{name}, look {at}: {found}, {look}");
        }
    }
    state.windows
}

#[test]
fn every_reference_vector() {
    let vectors = vectors();
    for kind in ["cases", "limitCases"] {
        let seen: u32 = vectors[kind].as_array().unwrap().iter().map(check).sum();
        assert!(seen > 10, "{kind} has {seen} windows");
    }
}

#[test]
fn dispersions_of_the_reference() {
    let vectors = vectors();
    let mut known = 0;
    for case in vectors["dispersion"].as_array().unwrap() {
        let windows: Vec<Vec<Count>> = case["windows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|window| {
                let pods = window.as_array().unwrap().iter();
                pods.map(|pod| Count { requests: number(&pod[0]), bad: number(&pod[1]) }).collect()
            })
            .collect();
        match (dispersion(&windows), &case["dispersion"]) {
            (None, Value::Null) => {}
            (Some(found), wanted) => {
                known += 1;
                assert!(close(found, number(wanted)), "{case}: {found}");
            }
            (None, wanted) => panic!("{wanted}: nothing found"),
        }
    }
    assert!(known > 1);
}

#[test]
fn intervals_of_the_reference() {
    for case in vectors()["confidenceSequence"].as_array().unwrap() {
        let against = Against::Stable { tolerance: 1.25, margin: 2.0, floor: 0.0 };
        let test = Test { dispersion: Some(number(&case["phi"])), votes: None, ..Test::against(against) };
        let mut state = State::new(&test);
        assert_eq!(state.interval, Interval::default());
        case["windows"].as_array().unwrap().iter().for_each(|numbers| test.look(&mut state, &[window(numbers)]));
        let range = state.interval.range(number(&case["alpha"])).unwrap();
        let edge = |found: Option<f64>, wanted: &Value| match found {
            Some(found) => assert!(close(found, number(wanted)), "{case}: {range:?}"),
            None => assert!(wanted.is_null() || number(wanted) == 0.0, "{case}: {range:?}"),
        };
        edge(range.low, &case["low"]);
        edge(Some(range.mode), &case["mode"]);
        edge(range.high, &case["high"]);
    }
}
