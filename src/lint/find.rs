//! Findings: where, what, and how to mend it; and all of them in order.

use serde_json::Value;

use super::Source;
use super::input::{Input, Object};
use super::rule::{Level, Rule};
use super::yaml::{Place, Remark};
use crate::api::names;

/// Something that lint found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// Name of the text.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// The line of the text, where it is known.
    pub line: String,
    /// The object, such as `Rollout shop/checkout`; empty for a text that holds none.
    pub object: String,
    /// Path of the field in it; may be empty.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub fix: String,
}

impl Finding {
    /// How bad it is.
    pub fn level(&self) -> Level {
        self.rule.level
    }

    /// The path and what is wrong with it.
    pub fn sentence(&self) -> String {
        if self.path.is_empty() { self.message.clone() } else { format!("{}: {}", self.path, self.message) }
    }

    /// What is wrong and how to mend it, in lines.
    pub fn told(&self) -> String {
        if self.fix.is_empty() { self.sentence() } else { format!("{}\nfix: {}", self.sentence(), self.fix) }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// By file, line, column and rule.
    pub findings: Vec<Finding>,
    /// Names of the texts, in order.
    pub files: Vec<String>,
    /// Objects that were read.
    pub objects: usize,
    /// Findings that annotations of their objects hide.
    pub hidden: usize,
}

/// Characters that a message may have.
const MESSAGE_MOST: usize = 1_000;

/// Annotation: rules that do not apply to this object, between commas.
const IGNORE: &str = "serin.dev/lint-ignore";

impl Report {
    /// Findings in order, each with its line.
    pub(super) fn of(sources: &[Source], input: &Input, found: Found) -> Self {
        let all = found.0.len();
        let is_hidden = |one: &(Finding, Option<usize>)| {
            let object = one.1.and_then(|index| input.objects.get(index));
            object.is_some_and(|object| hides(object, one.0.rule.id))
        };
        let mut findings: Vec<Finding> =
            found.0.into_iter().filter(|one| !is_hidden(one)).map(|(finding, _)| finding).collect();
        let hidden = all - findings.len();
        let rank = |name: &str| sources.iter().position(|source| source.name == name);
        findings.sort_by_cached_key(|one| {
            (rank(&one.file), one.place, one.rule.level, one.rule.id, one.path.clone(), one.message.clone())
        });
        findings.dedup();
        let mut report = Self {
            files: sources.iter().map(|one| one.name.clone()).collect(),
            objects: input.objects.len(),
            findings,
            hidden,
        };
        for source in sources {
            report.show_lines(source);
        }
        report
    }

    fn show_lines(&mut self, source: &Source) {
        let mut own = self.findings.iter_mut().filter(|one| one.file == source.name).peekable();
        let Ok(bytes) = &source.bytes else { return };
        let mut lines = bytes.split(|byte| *byte == b'\n').enumerate();
        let mut now = lines.next();
        while let (Some(finding), Some((index, bytes))) = (own.peek_mut(), now) {
            if finding.place.line == index + 1 {
                let line = String::from_utf8_lossy(bytes);
                line.trim_end().trim_start_matches('\u{feff}').clone_into(&mut finding.line);
                own.next();
            } else {
                now = lines.next();
            }
        }
    }

    /// How many findings have a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|one| one.level() == level).count()
    }

    /// Leaves out the findings of rules.
    #[must_use]
    pub fn without(mut self, ids: &[String]) -> Self {
        let all = self.findings.len();
        self.findings.retain(|one| !ids.iter().any(|id| id == one.rule.id));
        self.hidden += all - self.findings.len();
        self
    }
}

fn hides(object: &Object, id: &str) -> bool {
    let list = object.value.pointer("/metadata/annotations").and_then(|all| all.get(IGNORE)).and_then(Value::as_str);
    list.is_some_and(|list| list.split(',').any(|one| one.trim() == id))
}

/// Findings as they come, each with the object it is about.
#[derive(Default)]
pub(super) struct Found(Vec<(Finding, Option<usize>)>);

/// Which part of a field a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Its key.
    Key,
    /// Its value, where that is one scalar.
    Value,
}

impl Found {
    /// Adds a finding about a text.
    pub(super) fn text(&mut self, rule: &'static Rule, file: &str, place: Place, (message, fix): (String, &str)) {
        let fix = if fix.is_empty() { rule.fix } else { fix };
        let finding = Finding {
            rule,
            file: file.to_owned(),
            place,
            line: String::new(),
            object: String::new(),
            path: String::new(),
            message: bounded(message),
            fix: fix.to_owned(),
        };
        self.0.push((finding, None));
    }

    /// Adds a finding about a scalar of an object.
    pub(super) fn scalar(&mut self, object: &Object, remark: Remark) {
        self.text(remark.rule, &object.file, remark.place, (remark.message, &remark.fix));
        if let Some((finding, index)) = self.0.last_mut() {
            finding.object = object.title();
            *index = Some(object.index);
        }
    }

    /// Adds a finding about an object, mended as the rule says.
    pub(super) fn add(&mut self, rule: &'static Rule, object: &Object, path: &str, message: impl Into<String>) {
        self.add_with(rule, (object, path, Mark::Value), message.into(), rule.fix);
    }

    /// Adds a finding about an object; an empty way to mend it is the rule's.
    pub(super) fn add_with(
        &mut self,
        rule: &'static Rule,
        (object, path, mark): (&Object, &str, Mark),
        message: String,
        fix: &str,
    ) {
        let fix = if fix.is_empty() { rule.fix } else { fix };
        let finding = Finding {
            rule,
            file: object.file.clone(),
            place: object.place(path, mark),
            line: String::new(),
            object: object.title(),
            path: bounded(path.to_owned()),
            message: bounded(message),
            fix: fix.to_owned(),
        };
        self.0.push((finding, Some(object.index)));
    }

    /// Adds what the controller says of a field: what is wrong before the last `; `, what to do after it.
    pub(super) fn told(&mut self, rule: &'static Rule, object: &Object, path: &str, told: &str) {
        let (message, fix) = told.rsplit_once("; ").unwrap_or((told, ""));
        self.add_with(rule, (object, path, Mark::Value), message.to_owned(), fix);
    }
}

/// A message of the input's own words, of bounded length.
fn bounded(message: String) -> String {
    match message.char_indices().nth(MESSAGE_MOST) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message,
    }
}

/// Whether an object is of one of Serin's kinds.
pub(super) fn is_serin(object: &Object) -> bool {
    object.group() == names::GROUP
}
