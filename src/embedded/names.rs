//! What names and labels may be: RFC 1123 subdomains, and label values (k8s.io/apimachinery, `util/validation`).

use serde_json::Value;

use super::kind::Kind;
use super::refusal::Refusal;

const NAME_MOST: usize = 253;
const LABEL_MOST: usize = 63;
const NAME: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Refuses an object whose name or label none may have.
pub fn check(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let refuse = |field: &str, value: &str, why: &str| {
        let message = format!("Invalid value: \"{value}\": {why}");
        Err(Refusal::invalid(kind, name, (field, &message), "FieldValueInvalid"))
    };
    if name.len() > NAME_MOST {
        return refuse("metadata.name", name, &format!("must be no more than {NAME_MOST} bytes"));
    }
    let is_lower = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    if !name.split('.').all(|part| is_word(part, is_lower, |letter| letter == '-')) {
        return refuse("metadata.name", name, NAME);
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    for value in labels.filter_map(|(_, value)| value.as_str()) {
        if value.len() > LABEL_MOST {
            return refuse("metadata.labels", value, &format!("must be no more than {LABEL_MOST} bytes"));
        }
        let is_alphanumeric = |letter: char| letter.is_ascii_alphanumeric();
        if !value.is_empty() && !is_word(value, is_alphanumeric, |letter| "-_.".contains(letter)) {
            return refuse("metadata.labels", value, LABEL);
        }
    }
    Ok(())
}

/// Letters, with others between them only.
fn is_word(text: &str, is_letter: impl Fn(char) -> bool, is_between: impl Fn(char) -> bool) -> bool {
    text.starts_with(&is_letter)
        && text.ends_with(&is_letter)
        && text.chars().all(|one| is_letter(one) || is_between(one))
}
