//! Text to a tree. Aliases and merge keys are written out, so that every part can be moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};
use serde_json::Value;

use super::{Entry, Flow, Item, List, Map, Node, STEP, Scalar, Style};

/// The most nodes that a document may have once its aliases are written out.
const MOST_NODES: usize = 500_000;

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, counting from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads one document; one without content is null.
pub fn read(text: &str) -> Result<Node, Fault> {
    let mut events = Vec::new();
    for next in Parser::new_from_str(text) {
        let (event, span) =
            next.map_err(|error| Fault { line: error.marker().line(), message: error.kind().to_string() })?;
        events.push((event, span));
    }
    let mut reader = Reader {
        lines: text.lines().collect(),
        events,
        at: 0,
        pending: Vec::new(),
        spaced: BTreeSet::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
    };
    reader.document()
}

/// A comment on a line of its own that waits for what it speaks of.
struct Waiting {
    column: usize,
    lines: Vec<String>,
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    events: Vec<(Event<'a>, Span)>,
    at: usize,
    pending: Vec<Waiting>,
    /// Lines whose blank lines before are taken.
    spaced: BTreeSet<usize>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = Node::Scalar(Scalar::plain(""));
        let mut is_read = false;
        loop {
            self.own_line_comments();
            match self.peek() {
                None | Some(Event::StreamEnd) => break,
                Some(Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd) => self.at += 1,
                Some(_) if is_read => return Err(self.fault("there is more than one document")),
                Some(_) => {
                    root = self.node(0)?;
                    is_read = true;
                    if let Some(comment) = self.right_comment() {
                        self.pending.insert(0, Waiting { column: 0, lines: vec![comment.trim().to_owned()] });
                    }
                }
            }
        }
        let rest = self.waiting();
        match &mut root {
            Node::Map(map) => map.below.extend(rest),
            Node::List(list) => list.below.extend(rest),
            Node::Scalar(_) => {}
        }
        Ok(root)
    }

    fn peek(&self) -> Option<&Event<'a>> {
        self.events.get(self.at).map(|(event, _)| event)
    }

    fn span(&self) -> Option<Span> {
        self.events.get(self.at).map(|(_, span)| *span)
    }

    fn line(&self) -> usize {
        self.span().map_or(self.lines.len(), |span| span.start.line())
    }

    fn column(&self) -> usize {
        self.span().map_or(0, |span| span.start.col())
    }

    /// The column of the dash that a sequence begins with; the parser may name what follows it.
    fn dash(&self) -> usize {
        let column = self.column();
        let line = self.lines.get(self.line().saturating_sub(1)).copied().unwrap_or_default();
        let until: Vec<char> = line.chars().take(column + 1).collect();
        until.iter().rposition(|c| *c == '-').unwrap_or(column)
    }

    fn fault(&self, message: &str) -> Fault {
        Fault { line: self.line(), message: message.to_owned() }
    }

    /// Comments on lines of their own, as far as they come next.
    fn own_line_comments(&mut self) {
        while let Some((Event::Comment(text, _), span)) = self.events.get(self.at) {
            let (line, column) = (span.start.line(), span.start.col());
            if self.is_beside(line, column) {
                return;
            }
            let comment = format!("#{}", text.trim_end());
            let mut lines = self.blanks(line);
            lines.push(comment);
            self.pending.push(Waiting { column, lines });
            self.at += 1;
        }
    }

    /// The comment that comes next, if it stands on the line of what was read last; with the spaces before it.
    fn right_comment(&mut self) -> Option<String> {
        let Some((Event::Comment(text, _), span)) = self.events.get(self.at) else { return None };
        let (line, column) = (span.start.line(), span.start.col());
        if !self.is_beside(line, column) {
            return None;
        }
        let before: String = self.lines.get(line.saturating_sub(1))?.chars().take(column).collect();
        let spaces = before.len() - before.trim_end().len();
        let comment = format!("{}#{}", " ".repeat(spaces.max(1)), text.trim_end());
        self.at += 1;
        Some(comment)
    }

    fn is_beside(&self, line: usize, column: usize) -> bool {
        let line = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        line.chars().take(column).any(|c| !c.is_whitespace())
    }

    /// An empty line for each blank line before this one, once.
    fn blanks(&mut self, line: usize) -> Vec<String> {
        if !self.spaced.insert(line) {
            return Vec::new();
        }
        let before = self.lines.iter().take(line.saturating_sub(1)).rev();
        before.take_while(|line| line.trim().is_empty()).map(|_| String::new()).collect()
    }

    /// The comments that wait.
    fn waiting(&mut self) -> Vec<String> {
        self.pending.drain(..).flat_map(|waiting| waiting.lines).collect()
    }

    /// The comments that wait and stand at least this far in: they belong to the end of what ends here.
    fn waiting_from(&mut self, column: usize) -> Vec<String> {
        let end = self.pending.iter().position(|waiting| waiting.column < column).unwrap_or(self.pending.len());
        self.pending.drain(..end).flat_map(|waiting| waiting.lines).collect()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser may come to tell of more; none of it is a node")]
    fn node(&mut self, parent: usize) -> Result<Node, Fault> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(self.fault("the document is too large"));
        }
        let Some((event, span)) = self.events.get(self.at).cloned() else {
            return Err(self.fault("the document ends too early"));
        };
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.at += 1;
                (Node::Scalar(self.scalar(&text, style, tag.as_deref(), (span, parent))?), anchor)
            }
            Event::MappingStart(style, anchor, tag) => {
                self.refuse_tag(tag.as_deref())?;
                (Node::Map(self.map(style, parent)?), anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.refuse_tag(tag.as_deref())?;
                (Node::List(self.list(style, parent)?), anchor)
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(self.fault("an alias stands within what it names"));
                };
                self.at += 1;
                self.nodes += count(&node);
                (node, 0)
            }
            _ => return Err(self.fault("a value is missing")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn refuse_tag(&self, tag: Option<&Tag>) -> Result<(), Fault> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => Err(self.fault("tags are not supported")),
            _ => Ok(()),
        }
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        (span, parent): (Span, usize),
    ) -> Result<Scalar, Fault> {
        self.refuse_tag(tag)?;
        let is_string = tag.is_some_and(|tag| tag.suffix() == "str");
        let written = self.written(span);
        let fallback = || {
            let lines = vec![Value::from(text).to_string()];
            Scalar { text: text.to_owned(), lines, style: Style::Quoted, step: STEP }
        };
        if is_string && style == ScalarStyle::Plain {
            return Ok(fallback());
        }
        Ok(match style {
            ScalarStyle::Literal | ScalarStyle::Folded => self.block(text, span, parent).unwrap_or_else(|| {
                if text.contains('\n') {
                    let plain = Scalar::string(text);
                    if plain.text == text { plain } else { fallback() }
                } else {
                    fallback()
                }
            }),
            ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                let lines: Vec<String> = written
                    .iter()
                    .enumerate()
                    .map(|(at, line)| if at == 0 { line.clone() } else { line.trim_start().to_owned() })
                    .collect();
                let step = written
                    .iter()
                    .skip(1)
                    .find(|line| !line.trim().is_empty())
                    .map_or(STEP, |line| (line.len() - line.trim_start().len()).saturating_sub(parent).max(1));
                Scalar { text: text.to_owned(), lines, style, step }
            }
        })
    }

    /// The source of a span, line by line.
    fn written(&self, span: Span) -> Vec<String> {
        let (first, last) = (span.start.line(), span.end.line().max(span.start.line()));
        let cut = |number: usize| {
            let line = self.lines.get(number.saturating_sub(1)).copied().unwrap_or_default();
            let from = if number == first { span.start.col() } else { 0 };
            let to = if number == last { span.end.col() } else { usize::MAX };
            line.chars().enumerate().filter(|(at, _)| (from..to).contains(at)).map(|(_, c)| c).collect::<String>()
        };
        (first..=last).map(cut).collect()
    }

    /// A block of lines as it is written; none where its header says more than how its end is meant.
    fn block(&self, text: &str, span: Span, parent: usize) -> Option<Scalar> {
        let first = span.start.line();
        let head = self.lines.get(first.checked_sub(1)?)?;
        let header: String = head.chars().skip(span.start.col()).collect();
        let header = header.split_whitespace().next()?.to_owned();
        if !["|", "|-", ">", ">-"].contains(&header.as_str()) {
            return None;
        }
        let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let body = self.lines.get(first..)?;
        let margin = body.iter().find(|line| !line.trim().is_empty()).map(|line| indentation(line))?;
        let end = body.iter().position(|line| !line.trim().is_empty() && indentation(line) < margin);
        let body = body.get(..end.unwrap_or(body.len()))?;
        let used = body.iter().rposition(|line| !line.trim().is_empty())? + 1;
        let cut = |line: &&str| line.get(margin..).unwrap_or_default().to_owned();
        let lines = std::iter::once(header).chain(body.get(..used)?.iter().map(cut)).collect();
        let step = margin.checked_sub(parent).filter(|step| *step > 0)?;
        Some(Scalar { text: text.to_owned(), lines, style: Style::Block, step })
    }

    /// How a collection is written: on one line within braces, or as a block.
    fn flow(&self, style: StructureStyle, start: usize, end: usize) -> Option<Flow> {
        if style == StructureStyle::Block {
            return None;
        }
        let from = self.events.get(start)?.1.start;
        let to = self.events.get(end)?.1.end;
        let line: Vec<char> = self.lines.get(from.line().checked_sub(1)?)?.chars().collect();
        (from.line() == to.line()).then(|| Flow { is_spaced: line.get(from.col() + 1) == Some(&' ') })
    }

    fn map(&mut self, style: StructureStyle, parent: usize) -> Result<Map, Fault> {
        let (start, column) = (self.at, self.column());
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        let mut keys = BTreeSet::new();
        loop {
            self.own_line_comments();
            if let (Some(comment), Some(last)) = (self.right_comment(), entries.last_mut()) {
                last.above.push(comment.trim().to_owned());
                continue;
            }
            if matches!(self.peek(), None | Some(Event::MappingEnd)) {
                break;
            }
            let line = self.line();
            let entry = self.entry(column)?;
            if !keys.insert(entry.key.text.clone()) {
                return Err(Fault { line, message: format!("{} is given twice", entry.key.text) });
            }
            entries.push(entry);
        }
        let flow = self.flow(style, start, self.at);
        self.at += 1;
        let below = if style == StructureStyle::Block { self.waiting_from(column) } else { self.waiting() };
        let step = (style == StructureStyle::Block).then(|| column.saturating_sub(parent));
        merge(&mut entries);
        Ok(Map { entries, below, flow, step })
    }

    fn entry(&mut self, column: usize) -> Result<Entry, Fault> {
        let mut above = self.waiting();
        let blanks = self.blanks(self.line());
        above.extend(blanks);
        let Node::Scalar(key) = self.node(column)? else { return Err(self.fault("a key is not a scalar")) };
        let mut beside = self.right_comment();
        self.own_line_comments();
        let is_empty = matches!(self.peek(), Some(Event::Scalar(text, ScalarStyle::Plain, _, None)) if text.is_empty());
        let held = if is_empty { std::mem::take(&mut self.pending) } else { Vec::new() };
        let is_scalar = matches!(self.peek(), Some(Event::Scalar(..) | Event::Alias(_)));
        if is_scalar {
            above.extend(self.waiting());
        }
        let value = self.node(column)?;
        self.pending.splice(0..0, held);
        if beside.is_none() {
            beside = self.right_comment();
        }
        Ok(Entry { above, key, beside, value })
    }

    fn list(&mut self, style: StructureStyle, parent: usize) -> Result<List, Fault> {
        let (start, column) = (self.at, self.dash());
        self.at += 1;
        let mut items: Vec<Item> = Vec::new();
        loop {
            self.own_line_comments();
            if matches!(self.peek(), None | Some(Event::SequenceEnd)) {
                break;
            }
            let early = self.right_comment();
            self.own_line_comments();
            if matches!(self.peek(), Some(Event::SequenceEnd)) {
                self.pending.extend(early.map(|comment| Waiting { column, lines: vec![comment.trim().to_owned()] }));
                break;
            }
            let mut above = self.waiting();
            above.extend(self.blanks(self.line()));
            let value = self.node(column)?;
            let beside = early.or_else(|| self.right_comment());
            items.push(Item { above, beside, value });
        }
        let flow = self.flow(style, start, self.at);
        self.at += 1;
        let is_block = style == StructureStyle::Block;
        let is_inside = column > parent;
        let below = match (is_block, is_inside) {
            (true, true) => self.waiting_from(column),
            (true, false) => Vec::new(),
            (false, _) => self.waiting(),
        };
        Ok(List { items, below, flow, step: is_block.then(|| column.saturating_sub(parent)) })
    }
}

fn count(node: &Node) -> usize {
    1 + node.entries().iter().map(|entry| count(&entry.value)).sum::<usize>()
        + node.items().iter().map(|item| count(&item.value)).sum::<usize>()
}

/// Writes merge keys out: what the mapping has itself goes before.
fn merge(entries: &mut Vec<Entry>) {
    while let Some(at) = entries.iter().position(|entry| entry.key.text == "<<" && entry.key.style == Style::Plain) {
        let merged = entries.remove(at).value;
        let sources: Vec<&Node> = match &merged {
            Node::List(list) => list.items.iter().map(|item| &item.value).collect(),
            Node::Map(_) | Node::Scalar(_) => vec![&merged],
        };
        for entry in sources.into_iter().flat_map(Node::entries) {
            if !entries.iter().any(|own| own.key.text == entry.key.text) {
                entries.push(entry.clone());
            }
        }
    }
}
