//! Whatever is counted: no number leaves the evidence without one, nonsense changes nothing, and what was written by another
//! test is not read.

use base64::Engine as _;
use serin::evidence::{Against, Count, State, Test, Window};

const NONSENSE: [f64; 4] = [f64::NAN, -1.0, f64::INFINITY, f64::NEG_INFINITY];
const COUNTS: [f64; 11] = [0.0, 1e-300, 1e-9, 0.3, 1.0, 2.5, 17.0, 1e3, 1e6, 0.999e12, 1e12];

fn pick<T: Copy>(chance: &mut fastrand::Rng, of: &[T]) -> T {
    of[chance.usize(..of.len())]
}

/// A test as a user may write it, at the ends of what is allowed, too.
fn any_test(chance: &mut fastrand::Rng) -> Test {
    let floor = pick(chance, &[0.0, 1e-9, 0.001, 1.0]);
    let against = if chance.bool() {
        Against::Limit(pick(chance, &[1e-9, 0.001, 0.5, 1.0]))
    } else {
        Against::Stable {
            tolerance: pick(chance, &[1.0, 1.25, 1000.0]),
            margin: pick(chance, &[1.0, 2.0, 1000.0]),
            floor,
        }
    };
    Test {
        alpha: pick(chance, &[1e-9, 0.01, 0.49]),
        min_windows: pick(chance, &[0, 1, 3, 1000]),
        votes: pick(chance, &[None, Some(1.0), Some(10.0), Some(1e9)]),
        dispersion: pick(chance, &[None, Some(1.0), Some(1e6)]),
        bounds: pick(chance, &[1, 4, 20]),
        ..Test::against(against)
    }
}

fn any_window(chance: &mut fastrand::Rng) -> Window {
    let mut count = || Count { requests: pick(chance, &COUNTS), bad: pick(chance, &COUNTS) };
    Window { canary: count(), stable: count() }
}

#[test]
fn no_count_leaves_the_evidence_without_a_number() {
    let mut chance = fastrand::Rng::with_seed(5);
    for run in 0..600 {
        let test = any_test(&mut chance);
        let mut state = State::new(&test);
        for _ in 0..25 {
            let windows: Vec<Window> = (0..test.bounds).map(|_| any_window(&mut chance)).collect();
            test.look(&mut state, &windows);
            if chance.u8(..8) == 0 {
                state.begin_step();
            }
            let (worse, better) = (test.log_worse(&state), test.log_better(&state));
            assert!(worse.is_finite() && better.is_finite(), "run {run}: {test:?} {windows:?}: {worse} {better}");
            // What is written down can be read again: every number is one, and every mixture is whole.
            assert_eq!(State::decode(&test, &state.encode()).as_ref(), Some(&state), "run {run}: {test:?} {windows:?}");
            if let Some(range) = state.interval.range(test.alpha) {
                assert!(range.low.is_none_or(|low| low <= range.mode), "run {run}: {range:?}");
                assert!(range.high.is_none_or(|high| high >= range.mode), "run {run}: {range:?}");
            }
        }
    }
}

#[test]
fn more_bad_requests_than_requests_are_as_many() {
    let test = Test::against(Against::Stable { tolerance: 1.25, margin: 2.0, floor: 0.001 });
    let count = |requests, bad| Count { requests, bad };
    let look = |bad: f64| {
        let mut state = State::new(&test);
        test.look(&mut state, &[Window { canary: count(50.0, bad), stable: count(500.0, 3.0) }]);
        state
    };
    assert_eq!(look(50.0), look(80.0));
    assert_ne!(look(50.0), look(40.0));
}

#[test]
fn nonsense_changes_nothing() {
    for against in [Against::Stable { tolerance: 1.25, margin: 2.0, floor: 0.01 }, Against::Limit(0.01)] {
        let test = Test::against(against);
        let mut state = State::new(&test);
        let sound =
            Window { canary: Count { requests: 500.0, bad: 9.0 }, stable: Count { requests: 4000.0, bad: 41.0 } };
        test.look(&mut state, &[sound]);
        let before = state.clone();
        for number in NONSENSE {
            for at in 0..4 {
                let mut window = sound;
                let Window { canary, stable } = &mut window;
                *[&mut canary.requests, &mut canary.bad, &mut stable.requests, &mut stable.bad][at] = number;
                test.look(&mut state, &[window]);
                assert_eq!(state, before, "{window:?}");
            }
        }
        test.look(&mut state, &[]);
        assert_eq!(state, before);
        test.look(&mut state, &[sound]);
        assert_ne!(state, before);
    }
}

#[test]
fn what_another_test_wrote_is_not_read() {
    let usual = |tolerance, margin, floor| Test::against(Against::Stable { tolerance, margin, floor });
    let tests = [
        usual(1.25, 2.0, 0.0),
        usual(1.5, 2.0, 0.0),
        usual(1.25, 3.0, 0.0),
        usual(1.25, 2.0, 0.01),
        usual(1.25, 2.0, 0.02),
        Test { bounds: 4, ..usual(1.25, 2.0, 0.0) },
        Test { abstain: 0.4, ..usual(1.25, 2.0, 0.0) },
        Test::against(Against::Limit(0.01)),
        Test::against(Against::Limit(0.02)),
    ];
    for (at, writes) in tests.iter().enumerate() {
        let text = State::new(writes).encode();
        for (other, reads) in tests.iter().enumerate() {
            assert_eq!(State::decode(reads, &text).is_some(), at == other, "{writes:?} read as {reads:?}");
        }
        // How sure the answer must be, and what guards it, may change on the way.
        let surer = Test { alpha: 0.001, min_windows: 7, votes: None, dispersion: Some(2.0), ..writes.clone() };
        assert!(State::decode(&surer, &text).is_some());
    }
}

#[test]
fn garbage_is_not_read() {
    let test = Test::against(Against::Stable { tolerance: 1.25, margin: 2.0, floor: 0.0 });
    let mut state = State::new(&test);
    test.look(
        &mut state,
        &[Window { canary: Count { requests: 500.0, bad: 9.0 }, stable: Count { requests: 4000.0, bad: 41.0 } }],
    );
    let text = state.encode();
    let engine = base64::engine::general_purpose::STANDARD;
    for garbage in ["", "AAAA", "no base64!", &text[..text.len() - 4], &format!("{text}AAAA")] {
        assert_eq!(State::decode(&test, garbage), None, "{garbage}");
    }
    let bytes = engine.decode(&text).unwrap();
    let mut chance = fastrand::Rng::with_seed(9);
    for _ in 0..3000 {
        let noise: Vec<u8> = (0..bytes.len()).map(|_| chance.u8(..)).collect();
        assert_eq!(State::decode(&test, &engine.encode(noise)), None);
    }
    for at in (0..bytes.len()).step_by(8) {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            assert_eq!(State::decode(&test, &engine.encode(bytes)), None, "{number} at {at}");
        }
    }
}
