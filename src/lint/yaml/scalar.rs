//! What a scalar is to Kubernetes, whose reader follows YAML 1.1: `on` is true, `012` is ten.

use serde_json::{Number, Value};

/// A scalar, understood.
pub(super) struct Scalar {
    /// What it is.
    pub value: Value,
    /// What Kubernetes takes it for, where other readers and people take it for something else.
    pub reads_as: Option<String>,
}

/// Understands a scalar; an error where JSON has no such value.
pub(super) fn resolve(text: &str, is_plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    let sure = |value: Value| Ok(Scalar { value, reads_as: None });
    match tag {
        None if !is_plain => return sure(Value::from(text)),
        None | Some("int" | "float" | "bool" | "null") => {}
        Some(_) => return sure(Value::from(text)),
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return sure(Value::Null),
        "true" | "True" | "TRUE" => return sure(Value::Bool(true)),
        "false" | "False" | "FALSE" => return sure(Value::Bool(false)),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Ok(Scalar { value: Value::Bool(true), reads_as: Some("true".to_owned()) });
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Ok(Scalar { value: Value::Bool(false), reads_as: Some("false".to_owned()) });
        }
        _ => {}
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    match unsigned {
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => return Err(format!("JSON has no {text}")),
        _ => {}
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') || text.len() - unsigned.len() > 1 {
        return sure(Value::from(text));
    }
    if let Some((number, is_plain)) = integer(text) {
        return Ok(Scalar {
            reads_as: (!is_plain).then(|| format!("the number {number}")),
            value: Value::Number(number),
        });
    }
    let digits: String = text.chars().filter(|one| *one != '_').collect();
    let is_float =
        digits.trim_start_matches(['+', '-']).chars().all(|one| one.is_ascii_digit() || ".eE+-".contains(one))
            && digits.contains(|one: char| one.is_ascii_digit());
    match digits.parse::<f64>().ok().filter(|_| is_float).and_then(Number::from_f64) {
        Some(number) => {
            let is_sure =
                text.contains('.') && !text.contains(['e', 'E', '_']) || text.bytes().all(|one| one.is_ascii_digit());
            Ok(Scalar { reads_as: (!is_sure).then(|| format!("the number {number}")), value: Value::Number(number) })
        }
        None => sure(Value::from(text)),
    }
}

/// A whole number, and whether everybody reads it so.
fn integer(text: &str) -> Option<(Number, bool)> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits: String = unsigned.chars().filter(|one| *one != '_').collect();
    let lower = digits.to_ascii_lowercase();
    let (body, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (lower.get(2..)?, 16),
        [b'0', b'b', ..] => (lower.get(2..)?, 2),
        [b'0', b'o', ..] => (lower.get(2..)?, 8),
        [b'0', _, ..] => (lower.get(1..)?, 8),
        _ => (lower.as_str(), 10),
    };
    if body.starts_with(['+', '-']) {
        return None;
    }
    let number = u64::from_str_radix(body, radix).ok()?;
    let number = if is_negative { Number::from(0_i64.checked_sub_unsigned(number)?) } else { Number::from(number) };
    Some((number, radix == 10 && digits.len() == unsigned.len()))
}

/// A scalar as a key: keys are text in JSON.
pub(super) fn key(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, value: &Value, is_ambiguous: bool) {
        let Ok(scalar) = resolve(text, true, None) else { panic!("{text} is refused") };
        assert_eq!(&scalar.value, value, "{text}");
        assert_eq!(scalar.reads_as.is_some(), is_ambiguous, "{text}");
    }

    #[test]
    fn scalars_are_what_kubernetes_takes_them_for() {
        check("on", &json!(true), true);
        check("No", &json!(false), true);
        check("true", &json!(true), false);
        check("012", &json!(10), true);
        check("08", &json!(8.0), false);
        check("0x1F", &json!(31), true);
        check("1_000", &json!(1000), true);
        check("42", &json!(42), false);
        check("-7", &json!(-7), false);
        check("1.10", &json!(1.1), false);
        check("1e3", &json!(1000.0), true);
        check("1.2.3", &json!("1.2.3"), false);
        check("12:30", &json!("12:30"), false);
        check("2026-01-01", &json!("2026-01-01"), false);
        check("5m", &json!("5m"), false);
        check("--1", &json!("--1"), false);
        check("-", &json!("-"), false);
        check("~", &json!(null), false);
        check("18446744073709551616", &json!(18_446_744_073_709_551_616.0), false);
        assert!(resolve("-.inf", true, None).is_err());
        assert!(resolve("on", false, None).is_ok_and(|scalar| scalar.value == json!("on")));
        assert!(resolve("12", true, Some("str")).is_ok_and(|scalar| scalar.value == json!("12")));
    }
}
