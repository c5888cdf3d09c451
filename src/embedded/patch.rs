//! The kinds of patches, on JSON.

use serde_json::Value;

use super::store::Refusal;

/// Server-side apply, simplified: maps are merged, everything else is replaced; a conflict is forced.
pub fn apply(object: &mut Value, applied: &Value) {
    match (object, applied) {
        (Value::Object(object), Value::Object(applied)) => {
            for (key, value) in applied {
                match object.get_mut(key) {
                    Some(known) if known.is_object() && value.is_object() => apply(known, value),
                    _ => {
                        object.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (object, applied) => *object = applied.clone(),
    }
}

/// Carries a patch out by its content type.
pub fn carry_out(object: &mut Value, content_type: &str, body: &[u8]) -> Result<(), Refusal> {
    let invalid = |error: serde_json::Error| Refusal::bad_request(&error.to_string());
    match content_type {
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(body).map_err(invalid)?;
            json_patch::patch(object, &patch).map_err(|error| {
                Refusal::invalid(&format!("the server rejected our request due to an error in our request: {error}"))
            })
        }
        "application/apply-patch+yaml" => {
            apply(object, &serde_json::from_slice(body).map_err(invalid)?);
            Ok(())
        }
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            json_patch::merge(object, &serde_json::from_slice(body).map_err(invalid)?);
            Ok(())
        }
        other => Err(Refusal::new(
            415,
            "UnsupportedMediaType",
            &format!("the body of the request was in an unknown format: {other}"),
        )),
    }
}
