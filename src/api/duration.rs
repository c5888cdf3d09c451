//! Durations as people write them in a Rollout: `30` (seconds), `"90s"`, `"5m"`, `"1h30m"`.

use std::borrow::Cow;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration as written: whole seconds, or text with units h, m, s and ms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DurationText {
    /// Whole seconds.
    Seconds(i64),
    /// Text such as `90s`, `5m`, `1h30m`, `500ms`; digits alone are seconds.
    Text(String),
}

impl DurationText {
    /// The duration, or what is wrong with the text.
    pub fn parse(&self) -> Result<SignedDuration, String> {
        match self {
            Self::Seconds(seconds) if *seconds < 0 => Err(format!("{seconds} is negative")),
            Self::Seconds(seconds) => Ok(SignedDuration::from_secs(*seconds)),
            Self::Text(text) => parse_text(text),
        }
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 32})
    }
}

fn parse_text(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} is not a duration; write 30s, 5m or 1h30m");
    let mut total = 0_i64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let (millis, tail) = unit(tail).ok_or_else(wrong)?;
        let part = number.checked_mul(millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(SignedDuration::from_millis(total))
}

/// Milliseconds of the unit that the text begins with, and what follows it.
fn unit(text: &str) -> Option<(i64, &str)> {
    const UNITS: [(&str, i64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    if text.is_empty() {
        return Some((1_000, text));
    }
    UNITS.iter().find_map(|(name, millis)| Some((*millis, text.strip_prefix(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, millis: Option<i64>) {
        let parsed = DurationText::Text(text.into()).parse();
        assert_eq!(parsed.ok(), millis.map(SignedDuration::from_millis), "{text}");
    }

    #[test]
    fn durations_as_written() {
        check("30", Some(30_000));
        check("90s", Some(90_000));
        check("1h30m", Some(5_400_000));
        check("500ms", Some(500));
        check("", None);
        check("5 minutes", None);
        check("-5s", None);
        check("m", None);
        check("99999999999999999999s", None);
        check("9999999999999999h", None);
    }

    #[test]
    fn negative_seconds_are_refused() {
        assert!(DurationText::Seconds(-1).parse().is_err());
    }
}
