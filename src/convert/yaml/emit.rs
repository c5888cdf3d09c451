//! A tree to text.

use serde_json::Value;

use super::{Entry, Flow, Item, List, Map, Node, STEP, Scalar, Style};

/// The longest line that braces are kept on, in characters.
const LONGEST: usize = 140;

/// A document as text; a null is nothing.
pub fn document(root: &Node) -> String {
    let mut out = String::new();
    match root {
        Node::Map(map) if !map.entries.is_empty() => block_map(&mut out, map, 0, false),
        Node::List(list) if !list.items.is_empty() => block_list(&mut out, list, 0, false),
        Node::Map(_) | Node::List(_) | Node::Scalar(_) => {
            let text = inline(root);
            if !text.is_empty() {
                out.push_str(&text);
                out.push('\n');
            }
        }
    }
    out
}

fn comments(out: &mut String, lines: &[String], indent: usize) {
    for line in lines {
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn block_map(out: &mut String, map: &Map, indent: usize, is_begun: bool) {
    for (at, entry) in map.entries.iter().enumerate() {
        if at > 0 || !is_begun {
            comments(out, &entry.above, indent);
            out.push_str(&" ".repeat(indent));
        }
        block_entry(out, entry, indent);
    }
    comments(out, &map.below, indent);
}

fn block_entry(out: &mut String, entry: &Entry, indent: usize) {
    out.push_str(&key(&entry.key));
    out.push(':');
    block_value(out, &entry.value, entry.beside.as_deref(), indent);
}

fn key(key: &Scalar) -> String {
    match key.lines.as_slice() {
        [line] if key.style != Style::Block => line.clone(),
        _ => Value::from(key.text.as_str()).to_string(),
    }
}

/// What follows a key or a dash, when it does not begin on the same line as a dash.
fn block_value(out: &mut String, value: &Node, beside: Option<&str>, indent: usize) {
    let beside = beside.unwrap_or_default();
    match value {
        Node::Scalar(scalar) => {
            scalar_lines(out, scalar, beside, indent);
        }
        Node::Map(map) if is_block(value) => {
            out.push_str(beside);
            out.push('\n');
            block_map(out, map, indent + map.step.unwrap_or(STEP).max(1), false);
        }
        Node::List(list) if is_block(value) => {
            out.push_str(beside);
            out.push('\n');
            block_list(out, list, indent + list.step.unwrap_or(0), false);
        }
        Node::Map(_) | Node::List(_) => {
            out.push(' ');
            out.push_str(&inline(value));
            out.push_str(beside);
            out.push('\n');
        }
    }
}

fn scalar_lines(out: &mut String, scalar: &Scalar, beside: &str, indent: usize) {
    let mut lines = scalar.lines.iter();
    let first = lines.next().map_or("", String::as_str);
    if !first.is_empty() {
        out.push(' ');
        out.push_str(first);
    }
    let is_block = scalar.style == Style::Block;
    if is_block {
        out.push_str(beside);
    }
    for line in lines {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent + scalar.step));
            out.push_str(line);
        }
    }
    if !is_block {
        out.push_str(beside);
    }
    out.push('\n');
}

fn block_list(out: &mut String, list: &List, indent: usize, is_begun: bool) {
    for (at, item) in list.items.iter().enumerate() {
        if at > 0 || !is_begun {
            comments(out, &item.above, indent);
        }
        block_item(out, item, indent, at == 0 && is_begun);
    }
    comments(out, &list.below, indent);
}

fn block_item(out: &mut String, item: &Item, indent: usize, is_begun: bool) {
    let first = match &item.value {
        Node::Map(map) if is_block(&item.value) => map.entries.first().map_or(&[][..], |entry| &entry.above),
        Node::List(list) if is_block(&item.value) => list.items.first().map_or(&[][..], |item| &item.above),
        Node::Scalar(_) | Node::Map(_) | Node::List(_) => &[],
    };
    if !is_begun {
        comments(out, first, indent);
        out.push_str(&" ".repeat(indent));
    }
    out.push('-');
    match &item.value {
        Node::Map(map) if is_block(&item.value) => {
            let step = map.step.unwrap_or(STEP).max(STEP);
            begin(out, item.beside.as_deref(), indent, step);
            block_map(out, map, indent + step, true);
        }
        Node::List(list) if is_block(&item.value) => {
            let step = list.step.unwrap_or(STEP).max(STEP);
            begin(out, item.beside.as_deref(), indent, step);
            block_list(out, list, indent + step, true);
        }
        Node::Scalar(_) | Node::Map(_) | Node::List(_) => {
            block_value(out, &item.value, item.beside.as_deref(), indent);
        }
    }
}

/// From the dash to the first entry: on the same line, or below the comment beside the dash.
fn begin(out: &mut String, beside: Option<&str>, indent: usize, step: usize) {
    match beside {
        Some(comment) => {
            out.push_str(comment);
            out.push('\n');
            out.push_str(&" ".repeat(indent + step));
        }
        None => out.push_str(&" ".repeat(step - 1)),
    }
}

/// Whether a collection is written as a block: it was, it is new, or it no longer fits on one line.
fn is_block(node: &Node) -> bool {
    let (flow, is_empty, has_below) = match node {
        Node::Scalar(_) => return false,
        Node::Map(map) => (map.flow, map.entries.is_empty(), !map.below.is_empty()),
        Node::List(list) => (list.flow, list.items.is_empty(), !list.below.is_empty()),
    };
    !is_empty && (flow.is_none() || has_below || !fits(node) || inline(node).chars().count() > LONGEST)
}

/// Whether nothing below has comments or lines of its own.
fn fits(node: &Node) -> bool {
    match node {
        Node::Scalar(scalar) => scalar.lines.len() <= 1,
        Node::Map(map) => {
            map.below.is_empty()
                && map
                    .entries
                    .iter()
                    .all(|entry| entry.beside.is_none() && entry.above.is_empty() && fits(&entry.value))
        }
        Node::List(list) => {
            list.below.is_empty()
                && list.items.iter().all(|item| item.beside.is_none() && item.above.is_empty() && fits(&item.value))
        }
    }
}

/// A part on one line.
fn inline(node: &Node) -> String {
    let within = |flow: Option<Flow>, text: String, (open, close): (char, char)| {
        let space = if flow.is_some_and(|flow| flow.is_spaced) && !text.is_empty() { " " } else { "" };
        format!("{open}{space}{text}{space}{close}")
    };
    match node {
        Node::Scalar(scalar) => inline_scalar(scalar),
        Node::Map(map) => {
            let entry = |entry: &Entry| {
                let value = inline(&entry.value);
                if value.is_empty() { format!("{}:", key(&entry.key)) } else { format!("{}: {value}", key(&entry.key)) }
            };
            within(map.flow, map.entries.iter().map(entry).collect::<Vec<_>>().join(", "), ('{', '}'))
        }
        Node::List(list) => {
            let items = list.items.iter().map(|item| inline(&item.value));
            within(list.flow, items.collect::<Vec<_>>().join(", "), ('[', ']'))
        }
    }
}

/// A scalar within braces: plain text that would end there is quoted.
fn inline_scalar(scalar: &Scalar) -> String {
    let quoted = || Value::from(scalar.text.as_str()).to_string();
    match (scalar.style, scalar.lines.as_slice()) {
        (Style::Quoted, [line]) => line.clone(),
        (Style::Plain, [line]) if !line.contains([',', '[', ']', '{', '}']) => line.clone(),
        (Style::Plain, []) => String::new(),
        (Style::Plain | Style::Quoted | Style::Block, _) => quoted(),
    }
}
