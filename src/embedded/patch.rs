//! The kinds of patches, on JSON.

use serde_json::Value;

use super::refusal::Refusal;

/// Carries a patch out by its content type; server-side apply is [`super::owners`]'s.
pub fn carry_out(object: &mut Value, content_type: &str, body: &[u8], is_custom: bool) -> Result<(), Refusal> {
    let undecodable = |error: serde_json::Error| Refusal::bad_request(&format!("error decoding patch: {error}"));
    match content_type {
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(body).map_err(undecodable)?;
            json_patch::patch(object, &patch).map_err(|_| Refusal::unprocessable())
        }
        "application/strategic-merge-patch+json" if is_custom => Err(unsupported()),
        // Of the strategic kind Serin sends none; people's tools do, for maps alone.
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            json_patch::merge(object, &serde_json::from_slice(body).map_err(undecodable)?);
            Ok(())
        }
        _ => Err(unsupported()),
    }
}

fn unsupported() -> Refusal {
    let known = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    let message = format!("the body of the request was in an unknown format - accepted media types include: {known}");
    Refusal::new(415, "UnsupportedMediaType", &message)
}
