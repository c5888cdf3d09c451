//! YAML to trees in which every node knows its place, read as Kubernetes reads it. Bounded in size, depth and aliases.

mod scalar;
mod tree;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScanError, Span, options};

use self::tree::{Builder, Wrong};
pub use self::tree::{Content, Entry, Node};
use super::rule::{self, Rule};

/// Bytes that one text may have.
pub const BYTES_MOST: usize = 32 * 1024 * 1024;
/// Lists and maps that may be nested.
const DEPTH_MOST: usize = 100;
/// Errors of one text after which the rest is left.
const ERRORS_MOST: usize = 20;

/// A place in a text, counted from 1, and how many characters of its line belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// Characters, at least one.
    pub length: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1, length: 1 }
    }
}

impl Place {
    fn of(span: Span) -> Self {
        let length =
            if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        Self { length: length.max(1), ..Self::at(&span.start) }
    }

    fn at(marker: &Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1, length: 1 }
    }
}

/// Something about the text itself.
#[derive(Debug, Clone)]
pub struct Remark {
    /// The rule.
    pub rule: &'static Rule,
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
    /// How to mend it; empty: as the rule says.
    pub fix: String,
}

/// One document of a text.
#[derive(Debug, Clone)]
pub struct Document {
    /// The whole of it.
    pub root: Node,
    /// Scalars that readers of YAML understand differently.
    pub ambiguous: Vec<Remark>,
}

/// The documents of a text, and what is wrong with the others. Documents that are empty are left out.
pub fn read(bytes: &[u8]) -> (Vec<Document>, Vec<Remark>) {
    if bytes.len() > BYTES_MOST {
        let message = format!("has {} MiB; lint reads at most {} MiB of one text", bytes.len() >> 20, BYTES_MOST >> 20);
        return (Vec::new(), vec![remark(&rule::YAML_TOO_LARGE, Place::default(), message)]);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => documents(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let before = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
            let column = before.lines().next_back().map_or(0, |line| line.chars().count());
            let ends_line = before.is_empty() || before.ends_with('\n');
            let line = before.lines().count() + usize::from(ends_line);
            let place = Place { line, column: if ends_line { 1 } else { column + 1 }, length: 1 };
            let is_wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
            let what = if is_wide { "is UTF-16" } else { "has a byte that is not UTF-8" };
            (Vec::new(), vec![remark(&rule::YAML_NOT_TEXT, place, what.to_owned())])
        }
    }
}

fn remark(rule: &'static Rule, place: Place, message: String) -> Remark {
    Remark { rule, place, message, fix: String::new() }
}

fn documents(text: &str) -> (Vec<Document>, Vec<Remark>) {
    let options = options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MOST,
        block_nesting_limit: DEPTH_MOST,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut remarks = Vec::new();
    let mut builder = Builder::new(DEPTH_MOST);
    while remarks.len() < ERRORS_MOST {
        let broken = match parser.next_event() {
            None => break,
            Some(Ok((Event::DocumentStart(..), _))) => {
                builder = Builder::new(DEPTH_MOST);
                continue;
            }
            Some(Ok((Event::DocumentEnd, _))) => {
                let (document, wrong) = std::mem::replace(&mut builder, Builder::new(DEPTH_MOST)).finish();
                documents.extend(document);
                remarks.extend(wrong);
                continue;
            }
            Some(Ok((event, span))) => builder.take(event, Place::of(span)).err(),
            Some(Err(error)) => Some(Wrong(told(&error))),
        };
        if let Some(Wrong(remark)) = broken {
            remarks.push(explained(remark, text));
            match parser.proceed_next_document() {
                Ok(true) => builder = Builder::new(DEPTH_MOST),
                Ok(false) | Err(_) => break,
            }
        }
    }
    (documents, remarks)
}

/// An error of the parser in words for people.
#[expect(clippy::wildcard_enum_match_arm, reason = "the parser's own words are good for the others")]
fn told(error: &ScanError) -> Remark {
    let place = Place::at(error.marker());
    let (rule, message, fix) = match error.kind() {
        ErrorKind::RecursionLimitExceeded => {
            (&rule::YAML_TOO_LARGE, format!("nests lists and maps more than {DEPTH_MOST} deep"), "")
        }
        ErrorKind::UnexpectedCharacter { character } => {
            (&rule::YAML_SYNTAX, format!("has {character:?} where no value can begin"), "put the value in quotes")
        }
        _ => (&rule::YAML_SYNTAX, error.info(), ""),
    };
    Remark { rule, place, message, fix: fix.to_owned() }
}

/// An error with what people most often mean where it is.
fn explained(remark: Remark, text: &str) -> Remark {
    if remark.rule != &rule::YAML_SYNTAX {
        return remark;
    }
    let mut lines = text.lines().enumerate().skip(remark.place.line - 1).take(2);
    if lines.clone().next().is_some_and(|(_, line)| line.contains("{{")) {
        let fix = "this looks like a template; lint what it renders, such as `helm template . | kubectl serin lint -`";
        return Remark { fix: fix.to_owned(), ..remark };
    }
    let tab = lines.find_map(|(index, line)| {
        let blank = line.len() - line.trim_start().len();
        let column = line.get(..blank)?.find('\t')?;
        Some(Place { line: index + 1, column: column + 1, length: 1 })
    });
    match tab {
        Some(place) => Remark {
            place,
            message: "has a tab where only spaces may indent".to_owned(),
            fix: "replace the tab by spaces".to_owned(),
            ..remark
        },
        None => remark,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn values(text: &str) -> Vec<Value> {
        let (documents, remarks) = read(text.as_bytes());
        assert!(remarks.is_empty(), "{text}: {remarks:?}");
        documents.iter().map(|document| document.root.value()).collect()
    }

    fn check_wrong(text: &[u8], want: &[(&str, usize, usize)], documents: usize) {
        let (read, remarks) = read(text);
        let got: Vec<_> = remarks.iter().map(|one| (one.rule.id, one.place.line, one.place.column)).collect();
        assert_eq!(got, want, "{remarks:?}");
        assert_eq!(read.len(), documents);
    }

    #[test]
    fn documents_become_json() {
        assert_eq!(
            values("a: 1\n---\n# nothing\n---\nb: [x, {c: null}]\n"),
            [json!({"a": 1}), json!({"b": ["x", {"c": null}]})]
        );
        assert_eq!(
            values("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\ne: [*x]\n"),
            [json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": [{"b": 1, "c": 2}]})]
        );
        assert_eq!(values("{\"a\":\t[1, 2]}"), [json!({"a": [1, 2]})]);
        assert_eq!(values("\u{feff}a: |\n  two\n  lines\n"), [json!({"a": "two\nlines\n"})]);
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        check_wrong(b"a: 1\nb: [\n---\nc: 2\n", &[("yaml-syntax", 2, 4)], 1);
        check_wrong(b"a:\n\tb: 1\n", &[("yaml-syntax", 2, 1)], 0);
        check_wrong(b"a: 1\na: 2\n", &[("yaml-duplicate-key", 2, 1)], 1);
        check_wrong(b"a: *b\n---\nc: 1\n", &[("yaml-alias", 1, 4)], 1);
        check_wrong(b"a: &b [*b]\n", &[("yaml-alias", 1, 8)], 0);
        check_wrong(b"a: 1\nb: \xff\n", &[("yaml-not-text", 2, 4)], 0);
        check_wrong(b"\xff\xfea\0", &[("yaml-not-text", 1, 1)], 0);
        check_wrong(b"a: .inf\n", &[("yaml-syntax", 1, 4)], 0);
        check_wrong(b"? [a]\n: 1\n", &[("yaml-syntax", 1, 3)], 0);
    }

    #[test]
    fn hostile_texts_are_refused_at_once() {
        let laughs = (1..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, at| {
            let before = at - 1;
            text + &format!("a{at}: &a{at} [*a{before}, *a{before}, *a{before}]\n")
        });
        let (read, remarks) = read(laughs.as_bytes());
        assert!(read.is_empty());
        assert_eq!(remarks.first().map(|one| one.rule.id), Some("yaml-too-large"));
        check_wrong("[".repeat(100_000).as_bytes(), &[("yaml-too-large", 1, 101)], 0);
        let chain =
            (1..2000).fold("a0: &a0 x\n".to_owned(), |text, at| text + &format!("a{at}: &a{at} [*a{}]\n", at - 1));
        let (_, remarks) = super::read(chain.as_bytes());
        assert_eq!(remarks.first().map(|one| one.rule.id), Some("yaml-too-large"));
    }
}
