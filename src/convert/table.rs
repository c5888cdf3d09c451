//! Walks the fields of an object by a table that has a decision for each, and tells of each what became of it.

use std::collections::{BTreeMap, BTreeSet};

use super::argo::Argo;
use super::report::{Decision, Line};
use super::yaml::{Entry, Map, Node};
use crate::api::schema::Refused;

/// One documented field.
pub struct Row {
    /// Its path; `[]` stands for every item of a list.
    pub path: &'static str,
    /// What becomes of it.
    pub does: Does,
}

/// Turns an entry into what takes its place, and tells the work about it.
pub type Turn = fn(&mut Work<'_>, &str, Entry) -> Vec<Entry>;

/// What becomes of a field.
pub enum Does {
    /// It is kept with all that is in it.
    Keep,
    /// Its members have rows of their own.
    Enter,
    /// It is kept once Serin's definition has it; until then it is left out, with what the definition says.
    Ask(Loss),
    /// It is left out, for this reason.
    Leave(Loss, &'static str),
    /// It becomes something else, in this way.
    Become(&'static str),
    /// A function turns it, usually so.
    Turn(&'static str, Turn),
}

/// What it means that a field is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Production is protected as before.
    Harmless,
    /// A gate, a step, a route or an abort is gone.
    Protection,
}

/// A row.
pub const fn row(path: &'static str, does: Does) -> Row {
    Row { path, does }
}

/// The conversion of one object.
pub struct Work<'a> {
    /// The documented fields.
    pub rows: &'a [&'a [Row]],
    /// What Serin's definition of the result refuses.
    pub refused: &'static [Refused],
    /// What has been told so far.
    pub lines: Vec<Line>,
    /// What Argo's objects have in common.
    pub argo: &'a mut Argo,
    /// Whether the Rollout has a route.
    pub has_route: bool,
    /// Defaults of the template's arguments.
    pub defaults: BTreeMap<String, String>,
    /// The template's arguments that come from a Secret: its name and key.
    pub secrets: BTreeMap<String, (String, String)>,
    /// Those of them that a query names.
    pub asked: BTreeSet<String>,
    /// The MetricProvider of the metric under work.
    pub provider: Option<String>,
    /// Comments that are left at the place of what was left out.
    left: Vec<String>,
}

impl<'a> Work<'a> {
    /// Work on an object.
    pub fn new(rows: &'a [&'a [Row]], refused: &'static [Refused], argo: &'a mut Argo) -> Self {
        Self {
            rows,
            refused,
            lines: Vec::new(),
            argo,
            has_route: false,
            defaults: BTreeMap::new(),
            secrets: BTreeMap::new(),
            asked: BTreeSet::new(),
            provider: None,
            left: Vec::new(),
        }
    }

    /// Turns every entry of a mapping.
    pub fn fields(&mut self, place: &str, map: Map) -> Map {
        let mut map = map;
        let outer = std::mem::take(&mut self.left);
        let mut kept: Vec<Entry> = Vec::new();
        let mut held = Vec::new();
        for entry in std::mem::take(&mut map.entries) {
            let path = if place.is_empty() { entry.key.text.clone() } else { format!("{place}.{}", entry.key.text) };
            let mut turned = self.field(&path, entry);
            held.append(&mut self.left);
            if let Some(first) = turned.first_mut() {
                let own = std::mem::take(&mut first.above);
                first.above = held.drain(..).chain(own).collect();
            }
            kept.append(&mut turned);
        }
        map.below = held.into_iter().chain(map.below).collect();
        self.left = outer;
        map.with(kept)
    }

    fn field(&mut self, path: &str, entry: Entry) -> Vec<Entry> {
        let pattern = pattern(path);
        let rows = self.rows;
        let Some(row) = rows.iter().copied().flatten().find(|row| row.path == pattern) else {
            let note = "is not a field that is documented; compare its spelling";
            self.leave_out(path, &entry, (Loss::Protection, note));
            return Vec::new();
        };
        match &row.does {
            Does::Keep => {
                self.tell(path, Decision::Kept, "");
                vec![entry]
            }
            Does::Enter => self.enter(path, entry),
            Does::Ask(loss) => match self.refusal(&pattern) {
                None => {
                    self.tell(path, Decision::Kept, "");
                    vec![entry]
                }
                Some(advice) => {
                    self.leave_out(path, &entry, (*loss, advice));
                    Vec::new()
                }
            },
            Does::Leave(loss, why) => {
                self.leave_out(path, &entry, (*loss, why));
                Vec::new()
            }
            Does::Become(how) => {
                self.tell(path, Decision::Translated, how);
                Vec::new()
            }
            Does::Turn(_, turn) => turn(self, path, entry),
        }
    }

    /// Turns what is within an entry: the members of a mapping, or of each mapping in a list.
    pub fn enter(&mut self, path: &str, entry: Entry) -> Vec<Entry> {
        let before = self.lines.len();
        let value = match entry.value {
            Node::Map(map) => {
                let had_any = !map.entries.is_empty();
                let turned = self.fields(path, map);
                if had_any && turned.entries.is_empty() {
                    self.left.extend(entry.above.iter().filter(|line| !line.is_empty()).cloned());
                    self.left.extend(turned.below);
                    return Vec::new();
                }
                Node::Map(turned)
            }
            Node::List(mut list) => {
                for (index, item) in list.items.iter_mut().enumerate() {
                    let value = std::mem::replace(&mut item.value, Node::string(""));
                    item.value = match value {
                        Node::Map(map) => Node::Map(self.fields(&format!("{path}[{index}]"), map)),
                        Node::Scalar(_) | Node::List(_) => value,
                    };
                }
                Node::List(list)
            }
            Node::Scalar(_) => entry.value,
        };
        if self.lines.len() == before {
            self.tell(path, Decision::Kept, "");
        }
        vec![Entry { value, ..entry }]
    }

    /// What Serin's definition says against a field; nothing when it has it.
    pub fn refusal(&self, pattern: &str) -> Option<&'static str> {
        refusal(self.refused, pattern)
    }

    /// Tells what became of a field.
    pub fn tell(&mut self, path: &str, decision: Decision, note: &str) {
        self.lines.push(Line {
            path: path.to_owned(),
            decision,
            note: note.to_owned(),
            is_lost: false,
            comments: Vec::new(),
        });
    }

    /// Tells that an entry is left out; its comments stay in the report and at its place.
    pub fn leave_out(&mut self, path: &str, entry: &Entry, (loss, why): (Loss, &str)) {
        self.leave_out_with(path, &entry.key.text, entry.all_comments(), (loss, why));
    }

    /// The same of something that is no entry.
    pub fn leave_out_with(&mut self, path: &str, what: &str, comments: Vec<String>, (loss, why): (Loss, &str)) {
        let is_lost = loss == Loss::Protection;
        if is_lost || !comments.is_empty() {
            self.left.extend(comments.iter().cloned());
            self.left.push(comment(&format!("left out: {what}: {why}")));
        }
        self.lines.push(Line {
            path: path.to_owned(),
            decision: Decision::NotSupported,
            note: why.to_owned(),
            is_lost,
            comments,
        });
    }

    /// Comments that wait for the next thing that is kept.
    pub fn take_left(&mut self) -> Vec<String> {
        std::mem::take(&mut self.left)
    }

    /// Leaves comments at this place.
    pub fn leave_comments(&mut self, comments: Vec<String>) {
        self.left.extend(comments);
    }
}

/// What a definition says against a field at a path with `[]`; nothing when it has it.
pub fn refusal(table: &'static [Refused], pattern: &str) -> Option<&'static str> {
    let inner = pattern.strip_prefix("spec.")?;
    table.iter().find_map(|refused| {
        let field =
            if refused.path.is_empty() { inner } else { inner.strip_prefix(refused.path)?.strip_prefix('.')? };
        refused.fields.iter().find(|(name, _)| *name == field).map(|(_, advice)| *advice)
    })
}

/// Text as a comment on one line.
pub fn comment(text: &str) -> String {
    format!("# {}", text.split(|c: char| c.is_control()).collect::<Vec<_>>().join(" "))
}

/// A path with `[]` in place of every index.
pub fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        pattern.push_str(before);
        pattern.push_str("[]");
        rest = after.split_once(']').map_or("", |(_, after)| after);
    }
    pattern.push_str(rest);
    pattern
}
