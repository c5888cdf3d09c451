//! What a Prometheus, or something that says it is one, answers.
#![no_main]

use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use serin::controller::measure::answer::{PLACES_MOST, parse, parse_counters};
use serin::plan::condition;
use serin::plan::measurement::CounterQuery;

fuzz_target!(|body: &[u8]| {
    if let Ok(sample) = parse(body) {
        let _ = condition::assess(&sample, Some("result.all(x, x >= 0.95)"), Some("isNaN(result[0])"));
    }
    let asked = CounterQuery {
        texts: vec!["up".to_owned()],
        from: Timestamp::from_second(1_000).unwrap(),
        step: SignedDuration::from_secs(15),
        steps: 40,
    };
    for series in parse_counters(body, &asked, PLACES_MOST).into_iter().flatten() {
        assert_eq!(series.values.len(), 41);
        assert!(series.values.iter().flatten().all(|value| value.is_finite()));
    }
});
