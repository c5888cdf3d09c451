//! Many seeds: the real controller under faults, checked by the model (src/sim/model.rs).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serin::sim::{self, draw};

/// Seeds in every run, as many as `SIMULATION_SEEDS` says in a long one.
fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "the length of a soak is the environment's to say")]
    let text = std::env::var("SIMULATION_SEEDS").unwrap_or_else(|_| "0..200".into());
    let (from, to) = text.split_once("..").expect("write SIMULATION_SEEDS=0..2000");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn every_seed_stays_safe_and_comes_to_rest() {
    let seeds = seeds();
    if seeds.end - seeds.start == 1 {
        let _ = serin::controller::telemetry::init(serin::controller::telemetry::LogFormat::Text, "info,serin=debug");
    }
    let next = AtomicU64::new(seeds.start);
    let injected: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let broken: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let ends: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let requests = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = sim::run(&draw::story(seed)).unwrap();
                    requests.fetch_add(report.requests, Ordering::Relaxed);
                    for (word, count) in &report.injected {
                        *injected.lock().unwrap().entry(word.clone()).or_default() += count;
                    }
                    *ends.lock().unwrap().entry(format!("{:?}", report.end.outcome)).or_default() += 1;
                    if !report.broken.is_empty() {
                        let told: Vec<String> = report.broken.iter().map(|one| format!("{} {}: {}", one.at, one.rule, one.message)).collect();
                        broken.lock().unwrap().insert(seed, told.join("\n    "));
                        if seeds.end - seeds.start < 3 {
                            report.record.lines.iter().for_each(|line| println!("{:9.3} {:?} {}", line.at as f64 / 1000.0, line.kind, line.text));
                        }
                    }
                }
            });
        }
    });
    println!("ends: {:?}; {} requests", ends.lock().unwrap(), requests.load(Ordering::Relaxed));
    println!("faults: {:?}", injected.lock().unwrap());
    let broken = broken.lock().unwrap();
    let told: Vec<String> = broken.iter().map(|(seed, told)| format!("seed {seed}:\n    {told}")).collect();
    assert!(broken.is_empty(), "{} seeds are broken:\n{}", broken.len(), told.join("\n"));
}
