//! Manifests that somebody lints before the merge: YAML of every kind, PromQL, CEL, regular expressions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serin::lint::{Settings, Source, lint};

fuzz_target!(|bytes: &[u8]| {
    let source = Source { name: "manifest.yaml".to_owned(), bytes: Ok(bytes.to_vec()) };
    let _ = lint(&[source], &Settings::default());
});
