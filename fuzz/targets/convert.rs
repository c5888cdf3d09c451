//! Manifests of Argo Rollouts and Flagger, or of anything: what is converted can be read again, and has nothing left to convert.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serin::convert::{Source, convert};

fuzz_target!(|text: &str| {
    let source = |text: &str| [Source { name: "manifest.yaml".to_owned(), text: text.to_owned() }];
    let Ok(converted) = convert(&source(text)) else { return };
    for file in &converted.files {
        if let Err(unreadable) = convert(&source(&file.text)) {
            panic!("{unreadable}\n{}", file.text);
        }
    }
});
