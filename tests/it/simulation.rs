//! Many seeds: the real controller under faults, checked by the model (src/sim/model.rs); and the stories that once failed.
//!
//! `SIMULATION_SEEDS=2000..20000` runs others, `SIMULATION_KEEP=1` writes what is broken into `simulations/`, shortened.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serin::sim::draw::{self, Wildness};
use serin::sim::shrink::shrink;
use serin::sim::story::Story;
use serin::sim::{self, Report};

#[expect(clippy::disallowed_methods, reason = "the length of a soak is the environment's to say")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Seeds in every run, as many as `SIMULATION_SEEDS` says in a long one.
fn seeds() -> std::ops::Range<u64> {
    let text = environment("SIMULATION_SEEDS").unwrap_or_else(|| "0..2000".into());
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// A run as text, to the last byte.
fn transcript(report: &Report) -> String {
    let lines = report.record.lines.iter().map(|line| format!("{:>9} {:?} {}\n", line.at, line.kind, line.text));
    let end = format!("{:?}\n{:?}\n{:?} {}", report.end, report.traffic, report.injected, report.requests);
    lines.collect::<String>() + &end
}

/// What is broken about a run: what the model says, and an end that faults have changed.
fn broken(story: &Story, report: &Report) -> Vec<String> {
    let mut broken: Vec<String> =
        report.broken.iter().map(|one| format!("{} ms {}: {}", one.at, one.rule, one.message)).collect();
    if draw::wildness(story.seed) == Wildness::Silent {
        let undisturbed = sim::run(&draw::without_faults(story)).unwrap();
        let ends = [report, &undisturbed].map(|report| (report.end.outcome, &report.end.stable, &report.end.rest));
        if ends[0] != ends[1] {
            broken.push(format!("faults changed the end:\n      {:?}\n      {:?}", ends[0], ends[1]));
        }
    }
    broken
}

#[test]
#[expect(clippy::print_stdout, reason = "a soak tells what it did")]
fn every_seed_stays_safe_and_comes_to_rest() {
    let injected: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let ends: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let told: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let seeds = seeds();
    let shows = seeds.end - seeds.start == 1;
    sim::run_each(seeds, draw::story, |story, report| {
        for (word, count) in &report.injected {
            *injected.lock().unwrap().entry(word.clone()).or_default() += count;
        }
        *ends.lock().unwrap().entry(format!("{:?}", report.end.outcome)).or_default() += 1;
        let broken = broken(story, &report);
        if shows {
            println!("{}", transcript(&report));
        }
        if !broken.is_empty() && environment("SIMULATION_KEEP").is_some() {
            keep(story);
        }
        if !broken.is_empty() {
            told.lock().unwrap().insert(story.seed, broken.join("\n    "));
        }
    })
    .unwrap();
    let (injected, ends, told) =
        (injected.into_inner().unwrap(), ends.into_inner().unwrap(), told.into_inner().unwrap());
    println!("ends: {ends:?}\n{} kinds of faults: {injected:?}", injected.len());
    let told: Vec<String> = told.iter().map(|(seed, told)| format!("seed {seed}:\n    {told}")).collect();
    assert!(told.is_empty(), "{} seeds are broken:\n{}", told.len(), told.join("\n"));
}

/// Shortens a broken story, as long as the same rule stays broken, and writes it beside this file.
fn keep(story: &Story) {
    let rules = |story: &Story| {
        let broken = broken(story, &sim::run(story).unwrap());
        broken.iter().filter_map(|told| told.split(':').next()?.rsplit(' ').next().map(str::to_owned)).collect()
    };
    let first: Vec<String> = rules(story);
    let shortest = shrink(story.clone(), |story| rules(story).first() == first.first());
    let path = format!("{FOLDER}/seed-{}.json", story.seed);
    std::fs::write(path, serde_json::to_string_pretty(&shortest).unwrap() + "\n").unwrap();
}

/// Stories that were broken once: each has the bug's name.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/simulations");

#[test]
#[expect(clippy::print_stdout, reason = "a broken story is told in full")]
fn what_was_broken_once_stays_whole() {
    let mut told = Vec::new();
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let story: Story = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let report = sim::run(&story).unwrap();
        let broken = broken(&story, &report);
        if !broken.is_empty() {
            println!("{}:\n{}", path.display(), transcript(&report));
            told.push(format!("{}:\n    {}", path.display(), broken.join("\n    ")));
            if environment("SIMULATION_KEEP").is_some() {
                keep(&story);
            }
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..30 {
        let [first, second] = [(), ()].map(|()| transcript(&sim::run(&draw::story(seed)).unwrap()));
        let differs = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
}
