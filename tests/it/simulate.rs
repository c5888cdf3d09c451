//! `serin simulate`: every example under the scenarios that are built in, and the output of one as its README shows it.

use expect_test::expect_file;
use serde_json::json;
use serin::sim::show::{Summary, svg, text};
use serin::sim::verdict::Outcome;
use serin::sim::{self, input, scenario};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{EXAMPLES}/{path}")).unwrap()
}

/// What an example comes to under a scenario; a pause without an end is promoted after ten minutes.
fn summary(example: &str, mut scenario: scenario::Scenario) -> Summary {
    scenario.promote_after = Some(serin::api::duration::DurationText::Seconds(600));
    let mut input = input::read(&[(example.to_owned(), read(&format!("{example}/rollout.yaml")))], "default").unwrap();
    let story = input.story(0, &scenario, 0).unwrap();
    Summary::of(&story, &scenario.name, &sim::run(&story).unwrap())
}

#[test]
fn every_example_is_promoted_when_all_is_good() {
    for entry in std::fs::read_dir(EXAMPLES).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        for built_in in ["good", "slow-pods"] {
            let summary = summary(&name, scenario::built_in(built_in).unwrap().unwrap());
            assert_eq!(summary.outcome, Outcome::Promoted, "{name} under {built_in}: {}", summary.message);
            assert_eq!(summary.broken, Vec::<String>::new(), "{name} under {built_in}");
            assert_eq!(summary.lost, 0, "{name} under {built_in}");
        }
    }
}

#[test]
fn a_long_pause_is_waited_for() {
    for (pause, outcome) in [("{duration: 45m}", Outcome::Promoted), ("{}", Outcome::Waiting)] {
        let text = read("02-pause-and-promote/rollout.yaml").replace("pause: {}", &format!("pause: {pause}"));
        let mut input = input::read(&[("rollout.yaml".to_owned(), text)], "default").unwrap();
        let scenario = scenario::built_in("good").unwrap().unwrap();
        let story = input.story(0, &scenario, 0).unwrap();
        let summary = Summary::of(&story, &scenario.name, &sim::run(&story).unwrap());
        assert_eq!(summary.outcome, outcome, "{pause}: {}", summary.message);
    }
}

#[test]
fn a_pause_before_the_first_weight_has_no_deadline() {
    let text = read("02-pause-and-promote/rollout.yaml");
    let mut input = input::read(&[("rollout.yaml".to_owned(), text)], "default").unwrap();
    let spec = &mut input.rollouts[0]["spec"];
    spec["progressDeadlineSeconds"] = json!(30);
    spec["strategy"]["canary"]["steps"] = json!([{"pause": {}}, {"setWeight": 50}]);
    let scenario = scenario::built_in("good").unwrap().unwrap();
    let story = input.story(0, &scenario, 0).unwrap();
    let summary = Summary::of(&story, &scenario.name, &sim::run(&story).unwrap());
    assert_eq!((summary.outcome, summary.broken), (Outcome::Waiting, Vec::new()));
}

#[test]
fn manifests_of_several_applications_are_told_one_by_one() {
    let own = read("08-without-a-route/rollout.yaml");
    let other = read("01-first-rollout/rollout.yaml").replace("checkout", "orders");
    let mut input = input::read(&[("all.yaml".to_owned(), format!("{own}\n---\n{other}"))], "default").unwrap();
    let scenario = scenario::built_in("good").unwrap().unwrap();
    assert_eq!(input.rollouts.len(), 2);
    for at in 0..2 {
        let story = input.story(at, &scenario, 0).unwrap();
        let summary = Summary::of(&story, &scenario.name, &sim::run(&story).unwrap());
        assert_eq!((summary.outcome, summary.lost, summary.broken), (Outcome::Promoted, 0, Vec::new()));
    }
}

#[test]
fn errors_abort_and_silence_holds() {
    for (built_in, outcome) in [
        ("errors-from=20%", Outcome::Aborted),
        ("errors-from=50%", Outcome::Aborted),
        ("errors-from=90%", Outcome::Promoted),
        ("no-traffic", Outcome::Stuck),
        ("prometheus-down", Outcome::Stuck),
    ] {
        let summary = summary("03-analysis", scenario::built_in(built_in).unwrap().unwrap());
        assert_eq!(summary.outcome, outcome, "{built_in}: {}", summary.message);
        assert_eq!(summary.broken, Vec::<String>::new(), "{built_in}");
    }
}

#[test]
fn the_example_prints_its_timeline() {
    let own = scenario::read(&read("10-before-the-merge/scenario.yaml")).unwrap();
    let summary = summary("10-before-the-merge", own);
    expect_file![format!("{EXAMPLES}/10-before-the-merge/timeline.txt")].assert_eq(&text::text(&summary));
    let markdown = text::markdown(&summary);
    assert!(
        markdown.starts_with("### `default/checkout` under `slow start, then errors under load`: aborted after"),
        "{markdown}"
    );
    let picture = svg::svg(&summary);
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"), "{picture}");
    assert_eq!(picture.matches("<circle").count(), summary.measurements.len());
}
