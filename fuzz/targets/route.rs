//! VirtualServices that Git holds, whatever stands in them: an edit changes weights alone, which sum to what they were, and all
//! else stays byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use serin::plan::action::Action;
use serin::plan::objects::weight_patch;

#[path = "../situation.rs"]
mod situation;

fuzz_target!(|text: &str| {
    let Some(mut object) = situation::read(text) else { return };
    if let Some(inner) = object.get("spec") {
        object = json!({"spec": inner});
    } else {
        object = json!({"spec": object});
    }
    let mut situation = situation::of(include_str!("../../tests/it/plan/stable-template-again-in-place.in.yaml"));
    let Some(held) = situation.observed.virtual_services.first().cloned() else { panic!("no VirtualService") };
    object["metadata"] = serde_json::to_value(&held.metadata).unwrap();
    let Ok(read) = serde_json::from_value(object.clone()) else { return };
    situation.observed.virtual_services = vec![read];
    for action in situation.plan().actions {
        let Action::EditVirtualService { version, edits, front: None, .. } = &action else { continue };
        let patch: json_patch::Patch = serde_json::from_value(weight_patch(version, edits, None)).unwrap();
        let mut after = object.clone();
        if let Err(error) = json_patch::patch(&mut after, &patch) {
            panic!("{error}: {patch:?}");
        }
        assert_eq!(without_weights(&object), without_weights(&after), "more than weights changed");
    }
});

fn without_weights(object: &Value) -> Value {
    let mut object = object.clone();
    for protocol in ["http", "tls", "tcp"] {
        for route in object["spec"][protocol].as_array_mut().into_iter().flatten() {
            for destination in route["route"].as_array_mut().into_iter().flatten() {
                if let Some(fields) = destination.as_object_mut() {
                    fields.remove("weight");
                }
            }
        }
    }
    object
}
