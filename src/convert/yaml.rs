//! Manifests as people write them: a tree that keeps comments, blank lines, the order and the way each scalar is written.

mod emit;
mod read;

use serde_json::{Map as Object, Number, Value};

pub use emit::document;
pub use read::{Fault, read};

/// Columns by which the content of a mapping, or of a block of text, is further in than what holds it.
const STEP: usize = 2;

/// A part of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A string, a number, a truth value or null.
    Scalar(Scalar),
    /// A mapping.
    Map(Map),
    /// A sequence.
    List(List),
}

/// A scalar: what it means, and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Its text, without quotes and escapes.
    pub text: String,
    /// Its lines as written: the first as it is, the others without their indentation.
    lines: Vec<String>,
    style: Style,
    step: usize,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Quoted,
    /// A block of lines under a header such as `|`.
    Block,
}

/// A mapping.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    /// Its entries, in order.
    pub entries: Vec<Entry>,
    /// Own-line comments after the last entry.
    pub below: Vec<String>,
    flow: Option<Flow>,
    step: Option<usize>,
}

/// A sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct List {
    /// Its items, in order.
    pub items: Vec<Item>,
    /// Own-line comments after the last item.
    pub below: Vec<String>,
    flow: Option<Flow>,
    step: Option<usize>,
}

/// Written within braces or brackets, on one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    /// Whether there is a space inside of the braces.
    is_spaced: bool,
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Own-line comments above, and blank lines as empty ones.
    pub above: Vec<String>,
    /// The key.
    pub key: Scalar,
    /// The comment on the same line, with the spaces before it.
    pub beside: Option<String>,
    /// The value.
    pub value: Node,
}

/// One item of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Own-line comments above, and blank lines as empty ones.
    pub above: Vec<String>,
    /// The comment on the line of the dash, with the spaces before it.
    pub beside: Option<String>,
    /// The value.
    pub value: Node,
}

impl Entry {
    /// An entry without comments.
    pub fn new(key: &str, value: impl Into<Node>) -> Self {
        Self { above: Vec::new(), key: Scalar::string(key), beside: None, value: value.into() }
    }

    /// The same entry with another value.
    #[must_use]
    pub fn with(self, value: impl Into<Node>) -> Self {
        Self { value: value.into(), ..self }
    }

    /// The same entry under another key.
    #[must_use]
    pub fn named(self, key: &str) -> Self {
        Self { key: Scalar::string(key), ..self }
    }

    /// Its own comments: above and beside, not those within.
    pub fn comments(&self) -> Vec<String> {
        let beside = self.beside.iter().map(|comment| comment.trim().to_owned());
        self.above.iter().filter(|line| !line.is_empty()).cloned().chain(beside).collect()
    }

    /// Every comment of it, those within among them.
    pub fn all_comments(&self) -> Vec<String> {
        let mut all = self.comments();
        self.value.collect_comments(&mut all);
        all
    }
}

impl Item {
    /// An item without comments.
    pub fn new(value: impl Into<Node>) -> Self {
        Self { above: Vec::new(), beside: None, value: value.into() }
    }

    /// Every comment of it, those within among them.
    pub fn all_comments(&self) -> Vec<String> {
        let mut all: Vec<String> = self.above.iter().filter(|line| !line.is_empty()).cloned().collect();
        all.extend(self.beside.iter().map(|comment| comment.trim().to_owned()));
        self.value.collect_comments(&mut all);
        all
    }
}

impl Scalar {
    /// A string, quoted where that is needed.
    pub fn string(text: &str) -> Self {
        if text.contains('\n') && is_block(text) {
            return Self::block(text);
        }
        let is_plain = !text.is_empty()
            && text.chars().all(|c| {
                c.is_ascii_alphanumeric()
                    || "-_./ {}[]()=<>!&|*+^$%@~,;?".contains(c)
                    || !c.is_ascii() && !c.is_control()
            })
            && text.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == '_')
            && !text.ends_with(' ')
            || is_plain_with_marks(text);
        if is_plain && matches!(resolve(text), Value::String(_)) {
            return Self { text: text.to_owned(), lines: vec![text.to_owned()], style: Style::Plain, step: STEP };
        }
        let quoted = Value::from(text).to_string();
        Self { text: text.to_owned(), lines: vec![quoted], style: Style::Quoted, step: STEP }
    }

    /// A number or a truth value, as its text.
    pub fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), lines: vec![text.to_owned()], style: Style::Plain, step: STEP }
    }

    fn block(text: &str) -> Self {
        let header = if text.ends_with('\n') { "|" } else { "|-" };
        let lines = std::iter::once(header).chain(text.trim_end_matches('\n').split('\n')).map(str::to_owned);
        Self { text: text.to_owned(), lines: lines.collect(), style: Style::Block, step: STEP }
    }

    /// What it means.
    pub fn value(&self) -> Value {
        match self.style {
            Style::Plain => resolve(&self.text),
            Style::Quoted | Style::Block => Value::String(self.text.clone()),
        }
    }
}

/// Text with colons, quotes or hashes that is plain all the same: none of them begins or ends anything.
fn is_plain_with_marks(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !text.chars().any(char::is_control)
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
}

/// Whether text may stand as a block of lines.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    !body.is_empty()
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n'])
        && !text.chars().any(|c| c.is_control() && c != '\n')
}

/// What a plain scalar means to Kubernetes, which reads YAML 1.1.
fn resolve(text: &str) -> Value {
    let number = |digits: &str, radix: u32, is_negative: bool| {
        let digits = digits.replace('_', "");
        let whole = i64::from_str_radix(&digits, radix).ok()?;
        Some(Value::from(if is_negative { -whole } else { whole }))
    };
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let is_negative = text.starts_with('-');
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = match bare.get(..2) {
        Some("0x") => number(bare.get(2..).unwrap_or_default(), 16, is_negative),
        Some("0o") => number(bare.get(2..).unwrap_or_default(), 8, is_negative),
        Some("0b") => number(bare.get(2..).unwrap_or_default(), 2, is_negative),
        Some(two) if two.starts_with('0') && bare.chars().all(|c| c.is_ascii_digit()) => number(bare, 8, is_negative),
        _ if bare.starts_with(|c: char| c.is_ascii_digit()) => number(bare, 10, is_negative),
        _ => None,
    };
    let is_decimal = bare.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && bare.contains(|c: char| c.is_ascii_digit())
        && bare.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c));
    whole
        .or_else(|| text.parse().ok().filter(|_| is_decimal).and_then(Number::from_f64).map(Value::Number))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

impl Map {
    /// A mapping of these entries.
    pub fn of(entries: Vec<Entry>) -> Self {
        Self { entries, ..Self::default() }
    }

    /// The same mapping with these entries.
    #[must_use]
    pub fn with(self, entries: Vec<Entry>) -> Self {
        Self { entries, ..self }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key.text == key).map(|entry| &entry.value)
    }

    /// Takes an entry out.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key.text == key)?;
        Some(self.entries.remove(at))
    }
}

impl List {
    /// A sequence of these items.
    pub fn of(items: Vec<Item>) -> Self {
        Self { items, ..Self::default() }
    }

    /// The same sequence with these items.
    #[must_use]
    pub fn with(self, items: Vec<Item>) -> Self {
        Self { items, ..self }
    }
}

impl Node {
    /// A string.
    pub fn string(text: &str) -> Self {
        Self::Scalar(Scalar::string(text))
    }

    /// The value at the end of these keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| node.map().and_then(|map| map.get(key)))
    }

    /// The mapping that it is.
    pub fn map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    /// The text of the scalar that it is.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(scalar) => Some(&scalar.text),
            Self::Map(_) | Self::List(_) => None,
        }
    }

    /// The text at the end of these keys.
    pub fn text_at(&self, keys: &[&str]) -> Option<&str> {
        self.at(keys).and_then(Self::text)
    }

    /// The items of the sequence that it is.
    pub fn items(&self) -> &[Item] {
        match self {
            Self::List(list) => &list.items,
            Self::Scalar(_) | Self::Map(_) => &[],
        }
    }

    /// The entries of the mapping that it is.
    pub fn entries(&self) -> &[Entry] {
        self.map().map_or(&[], |map| &map.entries)
    }

    /// What it means, as JSON.
    pub fn value(&self) -> Value {
        match self {
            Self::Scalar(scalar) => scalar.value(),
            Self::Map(map) => {
                let pairs = map.entries.iter().map(|entry| (entry.key.text.clone(), entry.value.value()));
                Value::Object(pairs.collect::<Object<_, _>>())
            }
            Self::List(list) => Value::Array(list.items.iter().map(|item| item.value.value()).collect()),
        }
    }

    fn collect_comments(&self, all: &mut Vec<String>) {
        let own = |lines: &[String]| lines.iter().filter(|line| !line.is_empty()).cloned().collect::<Vec<_>>();
        match self {
            Self::Scalar(_) => {}
            Self::Map(map) => {
                map.entries.iter().for_each(|entry| all.extend(entry.all_comments()));
                all.extend(own(&map.below));
            }
            Self::List(list) => {
                list.items.iter().for_each(|item| all.extend(item.all_comments()));
                all.extend(own(&list.below));
            }
        }
    }
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Scalar(Scalar::plain(&value.to_string())),
            Value::String(text) => Self::string(text),
            Value::Array(items) => Self::List(List::of(items.iter().map(|item| Item::new(Self::from(item))).collect())),
            Value::Object(fields) => {
                let entries = fields.iter().map(|(key, value)| Entry::new(key, Self::from(value)));
                Self::Map(Map::of(entries.collect()))
            }
        }
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<Map> for Node {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<List> for Node {
    fn from(list: List) -> Self {
        Self::List(list)
    }
}

impl From<Scalar> for Node {
    fn from(scalar: Scalar) -> Self {
        Self::Scalar(scalar)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_mean_what_kubernetes_reads() {
        for (text, value) in [
            ("5", json!(5)),
            ("-3", json!(-3)),
            ("0644", json!(420)),
            ("0x1f", json!(31)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("1.2.3", json!("1.2.3")),
            ("5m", json!("5m")),
            ("-", json!("-")),
            (".", json!(".")),
        ] {
            assert_eq!(resolve(text), value, "{text}");
        }
    }

    #[test]
    fn strings_are_quoted_where_that_is_needed() {
        for text in [
            "5",
            "true",
            "a: b",
            "a #b",
            "",
            " a",
            "-a",
            "*",
            "{a}",
            "it's",
            "result[0] >= 0.95",
            "http://a:9090",
            "x:",
        ] {
            let written = document(&Map::of(vec![Entry::new("key", Node::string(text))]).into());
            let again = read(&written).unwrap();
            assert_eq!(again.value(), json!({"key": text}), "{written}");
        }
        assert_eq!(Scalar::string("result[0] >= 0.95").lines, ["result[0] >= 0.95"]);
        assert_eq!(Scalar::string("http://prometheus:9090").lines, ["http://prometheus:9090"]);
    }
}
