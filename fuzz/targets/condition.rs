//! CEL conditions and JSONPaths over answers of every kind: the first line is the text, the rest the JSON of an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serin::plan::measurement::{Sample, WebAnswer};
use serin::plan::{condition, json_path};

fuzz_target!(|input: &str| {
    let (text, answer) = input.split_once('\n').unwrap_or((input, "[1, 0.5]"));
    let answer: Option<Value> = serde_json::from_str(answer).ok();
    if json_path::fault(text).is_none()
        && let Some(answer) = &answer
    {
        let _ = json_path::find(text, answer);
    }
    if condition::fault(text).is_some() {
        return;
    }
    let numbers = answer.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64).collect();
    let web = WebAnswer { status: 200, values: answer.into_iter().collect() };
    for sample in [Sample::Scalar(0.5), Sample::Vector(numbers), Sample::Web(web)] {
        let _ = condition::assess(&sample, Some(text), None);
        let _ = condition::assess(&sample, None, Some(text));
    }
});
