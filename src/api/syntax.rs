//! What names, keys and values are made of in Kubernetes (k8s.io/apimachinery, `util/validation`). How long they may be is
//! another question, with another answer each time.

/// Bytes that a subdomain may have.
pub const SUBDOMAIN_MOST: usize = 253;
/// Bytes that a label, its value, and the name in a key may have.
pub const LABEL_MOST: usize = 63;

/// RFC 1123 subdomain: labels between dots.
pub fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// RFC 1123 label: lower case letters, digits, and hyphens between them.
pub fn is_label(text: &str) -> bool {
    is_word(text, |letter| letter.is_ascii_lowercase() || letter.is_ascii_digit(), "-")
}

/// The name in a key, and the value of a label: letters, digits, and hyphens, underscores and dots between them.
pub fn is_name(text: &str) -> bool {
    is_word(text, |letter| letter.is_ascii_alphanumeric(), "-_.")
}

/// Letters, with others between them only.
fn is_word(text: &str, is_letter: fn(char) -> bool, between: &str) -> bool {
    text.starts_with(is_letter)
        && text.ends_with(is_letter)
        && text.chars().all(|one| is_letter(one) || between.contains(one))
}
