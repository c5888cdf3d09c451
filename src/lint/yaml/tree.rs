//! Events of the parser to one tree: aliases and merge keys resolved, within a budget.

use std::collections::BTreeMap;
use std::rc::Rc;

use granit_parser::{Event, ScalarStyle};
use serde_json::Value;

use super::scalar::{self, Scalar};
use super::{Document, Place, Remark, remark};
use crate::lint::rule;

/// Nodes that a document may have once its aliases are followed.
const NODES_MOST: usize = 500_000;

/// One node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub content: Content,
    /// Nodes in it with their aliases followed, itself among them.
    size: usize,
    /// Lists and maps nested in it, itself among them.
    height: usize,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Content {
    /// Null, a boolean, a number or text.
    Scalar(Value),
    /// Items.
    List(Vec<Rc<Node>>),
    /// Fields, in order, each key once.
    Map(Vec<Entry>),
}

/// A field.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is.
    pub place: Place,
    /// The value.
    pub value: Rc<Node>,
}

impl Node {
    /// The node as JSON.
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(|item| item.value()).collect()),
            Content::Map(fields) => {
                Value::Object(fields.iter().map(|field| (field.key.clone(), field.value.value())).collect())
            }
        }
    }

    /// Values in it, itself among them, with its aliases followed.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The field of a key.
    pub fn field(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(fields) => fields.iter().find(|field| field.key == key),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    /// Its items, where it is a list.
    pub fn items(&self) -> &[Rc<Self>] {
        match &self.content {
            Content::List(items) => items,
            Content::Scalar(_) | Content::Map(_) => &[],
        }
    }

    fn of(place: Place, content: Content) -> Self {
        let (size, height) = match &content {
            Content::Scalar(_) => (1, 0),
            Content::List(items) => sum(items.iter()),
            Content::Map(fields) => sum(fields.iter().map(|field| &field.value)),
        };
        Self { place, content, size, height }
    }
}

fn sum<'a>(nodes: impl Iterator<Item = &'a Rc<Node>>) -> (usize, usize) {
    let (size, height) =
        nodes.fold((1_usize, 0), |(size, height), node| (size.saturating_add(node.size), height.max(node.height)));
    (size, height + 1)
}

/// Why a document cannot be read.
pub(super) struct Wrong(pub Remark);

/// A list or a map that is not at its end.
struct Open {
    place: Place,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Rc<Node>>),
    Map { fields: Vec<Entry>, known: BTreeMap<String, usize>, merged: Vec<Rc<Node>>, key: Option<Key> },
}

enum Key {
    Named(String, Place),
    Merge,
}

/// Puts one document together.
pub(super) struct Builder {
    depth_most: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    spent: usize,
    ambiguous: Vec<Remark>,
    wrong: Vec<Remark>,
}

impl Builder {
    pub(super) fn new(depth_most: usize) -> Self {
        Self {
            depth_most,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
            spent: 0,
            ambiguous: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// The document, none where it is empty, and what is wrong with it all the same.
    pub(super) fn finish(self) -> (Option<Document>, Vec<Remark>) {
        let root = self.root.filter(|root| !matches!(root.content, Content::Scalar(Value::Null)));
        let document = root.map(|root| Document { root: root.as_ref().clone(), ambiguous: self.ambiguous });
        (document, self.wrong)
    }

    /// Takes the next event.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the beginning and the end of texts, comments and anchors' names say nothing"
    )]
    pub(super) fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Wrong> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag
                    .as_deref()
                    .and_then(|tag| tag.core_suffix().map(str::to_owned).or_else(|| Some("str".to_owned())));
                self.scalar(&text, style, tag.as_deref(), (anchor, place))
            }
            Event::SequenceStart(_, anchor, _) => self.begin(place, anchor, Kind::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let kind = Kind::Map { fields: Vec::new(), known: BTreeMap::new(), merged: Vec::new(), key: None };
                self.begin(place, anchor, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.put(node, place),
                None => Err(Wrong(remark(&rule::YAML_ALIAS, place, "stands for a part that holds it".to_owned()))),
            },
            Event::UnresolvedAlias(name) => {
                let message = format!("*{name} has no anchor &{name} before it in this document");
                Err(Wrong(remark(&rule::YAML_ALIAS, place, message)))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, kind: Kind) -> Result<(), Wrong> {
        if let Some(Open { kind: Kind::Map { key: None, .. }, .. }) = self.open.last() {
            let message = "a list or a map cannot be a key".to_owned();
            return Err(Wrong(remark(&rule::YAML_SYNTAX, place, message)));
        }
        self.open.push(Open { place, anchor, kind });
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&str>,
        (anchor, place): (usize, Place),
    ) -> Result<(), Wrong> {
        let is_plain = style == ScalarStyle::Plain;
        let is_key = matches!(self.open.last(), Some(Open { kind: Kind::Map { key: None, .. }, .. }));
        if is_key && is_plain && text == "<<" {
            if let Some(Open { kind: Kind::Map { key, .. }, .. }) = self.open.last_mut() {
                *key = Some(Key::Merge);
            }
            return Ok(());
        }
        let Scalar { value, reads_as } = scalar::resolve(text, is_plain, tag)
            .map_err(|message| Wrong(remark(&rule::YAML_SYNTAX, place, message)))?;
        if let Some(reads_as) = reads_as {
            self.ambiguous.push(Remark {
                rule: &rule::YAML_AMBIGUOUS,
                place,
                message: format!("Kubernetes reads `{text}` as {reads_as}"),
                fix: format!("write \"{text}\" for the text, or {value} for what it is now"),
            });
        }
        let node = Rc::new(Node::of(place, Content::Scalar(value)));
        self.name(anchor, &node);
        self.put(node, place)
    }

    fn name(&mut self, anchor: usize, node: &Rc<Node>) {
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(node));
        }
    }

    fn end(&mut self) -> Result<(), Wrong> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = match open.kind {
            Kind::List(items) => Content::List(items),
            Kind::Map { mut fields, mut known, merged, .. } => {
                for node in merged {
                    self.merge(&node, open.place, &mut fields, &mut known)?;
                }
                Content::Map(fields)
            }
        };
        let node = Rc::new(Node::of(open.place, content));
        self.name(open.anchor, &node);
        self.put(node, open.place)
    }

    /// Adds the fields of `<<` that are not there.
    fn merge(
        &mut self,
        node: &Rc<Node>,
        place: Place,
        fields: &mut Vec<Entry>,
        known: &mut BTreeMap<String, usize>,
    ) -> Result<(), Wrong> {
        let maps = match &node.content {
            Content::List(items) => items.as_slice(),
            Content::Map(_) | Content::Scalar(_) => std::slice::from_ref(node),
        };
        for map in maps {
            let Content::Map(others) = &map.content else {
                return Err(Wrong(remark(&rule::YAML_ALIAS, place, "`<<` takes a map, or a list of maps".to_owned())));
            };
            self.spend(others.len(), place)?;
            for other in others {
                if !known.contains_key(&other.key) {
                    known.insert(other.key.clone(), fields.len());
                    fields.push(other.clone());
                }
            }
        }
        Ok(())
    }

    fn spend(&mut self, nodes: usize, place: Place) -> Result<(), Wrong> {
        self.spent = self.spent.saturating_add(nodes);
        if self.spent > NODES_MOST {
            let message = format!("has more than {NODES_MOST} values once its aliases are followed");
            return Err(Wrong(remark(&rule::YAML_TOO_LARGE, place, message)));
        }
        Ok(())
    }

    /// Puts a node where it belongs.
    fn put(&mut self, node: Rc<Node>, place: Place) -> Result<(), Wrong> {
        // A list or a map is counted when it ends, its parts before.
        self.spend(if place == node.place { 1 } else { node.size }, place)?;
        if self.open.len() + node.height > self.depth_most {
            let message = format!("nests lists and maps more than {} deep", self.depth_most);
            return Err(Wrong(remark(&rule::YAML_TOO_LARGE, place, message)));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            Kind::List(items) => items.push(node),
            Kind::Map { fields, known, merged, key } => match key.take() {
                Some(Key::Merge) => merged.push(node),
                Some(Key::Named(name, at)) => {
                    let entry = Entry { key: name.clone(), place: at, value: node };
                    match known.get(&name).and_then(|index| fields.get_mut(*index)) {
                        Some(before) => {
                            let message = format!("{name} stands here and on line {}", before.place.line);
                            self.wrong.push(remark(&rule::YAML_DUPLICATE_KEY, at, message));
                            *before = entry;
                        }
                        None => {
                            known.insert(name, fields.len());
                            fields.push(entry);
                        }
                    }
                }
                None => match &node.content {
                    Content::Scalar(value) => *key = Some(Key::Named(scalar::key(value), place)),
                    Content::List(_) | Content::Map(_) => {
                        let message = "a list or a map cannot be a key".to_owned();
                        return Err(Wrong(remark(&rule::YAML_SYNTAX, place, message)));
                    }
                },
            },
        }
        Ok(())
    }
}
