//! What tests stand on: a small world that does what actions say, and the inputs of golden files.

pub mod markdown;
pub mod receivers;
pub mod transcript;
pub mod world;

use clap::Parser;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serin::cli::screen::LookArguments;

/// A command's arguments, and how its screen looks.
#[derive(Parser)]
pub struct Typed<A: clap::Args> {
    #[command(flatten)]
    pub look: LookArguments,
    #[command(flatten)]
    pub own: A,
}

/// What a person types after the command's name.
pub fn typed<A: clap::Args>(words: &[&str]) -> Typed<A> {
    Typed::parse_from(std::iter::once("serin").chain(words.iter().copied()))
}

/// Every `<name>.in.yaml` of a folder beside the tests, in order, each with the path of its golden file up to the extension.
pub fn golden_inputs<T: DeserializeOwned>(folder: &str) -> Vec<(T, String)> {
    let folder = format!("{}/tests/it/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut stems: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().path().to_str()?.strip_suffix(".in.yaml")?.to_owned()))
        .collect();
    stems.sort();
    assert!(!stems.is_empty());
    let read = |stem: String| {
        let text = std::fs::read_to_string(format!("{stem}.in.yaml")).unwrap();
        let value: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{stem}: {error}"));
        (serde_json::from_value(value).unwrap_or_else(|error| panic!("{stem}: {error}")), stem)
    };
    stems.into_iter().map(read).collect()
}
