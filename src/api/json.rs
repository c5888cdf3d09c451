//! A JSON value kept small: a pod template as a typed struct costs 90 KB in a cache, as compact text a dozen, packed two.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Texts of this many bytes and more are packed.
const PACKED_FROM: usize = 1024;

/// JSON kept as compact text, packed where that is worth it. Two values are equal when their texts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Text);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Plain(Arc<str>),
    /// Raw DEFLATE (RFC 1951).
    Packed(Arc<[u8]>),
}

impl Json {
    /// The value, parsed anew.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or(Value::Null)
    }

    /// The compact text.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Text::Plain(text) => Cow::Borrowed(text),
            Text::Packed(bytes) => {
                let mut text = String::new();
                // What was packed here is whole; anything else would read as null.
                let _ = DeflateDecoder::new(&**bytes).read_to_string(&mut text);
                Cow::Owned(text)
            }
        }
    }
}

impl Default for Json {
    fn default() -> Self {
        Self(Text::Plain("null".into()))
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        let text = value.to_string();
        let packed = if text.len() < PACKED_FROM { None } else { pack(&text).ok() };
        Self(packed.map_or_else(|| Text::Plain(text.into()), |bytes| Text::Packed(bytes.into())))
    }
}

fn pack(text: &str) -> std::io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::from(&value))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        for size in [0, 1, 100, 1_000, 20_000] {
            let value = json!({"text": "é\"\\\n".repeat(size), "list": (0..size).collect::<Vec<_>>()});
            let kept = Json::from(&value);
            assert_eq!(kept.value(), value, "{size}");
            assert_eq!(kept, Json::from(&value), "the same value is kept alike");
        }
    }
}
