//! The objects of the texts, each with the place of every field.

use std::collections::BTreeMap;

use serde_json::Value;

use super::find::{Found, Mark};
use super::yaml::{self, Content, Node, Place};
use super::{Settings, Source, rule};

/// A kind: its API group and its name.
pub(super) type Kind = (&'static str, &'static str);

pub(super) const ROLLOUT: Kind = ("serin.dev", "Rollout");
pub(super) const TEMPLATE: Kind = ("serin.dev", "AnalysisTemplate");
pub(super) const CLUSTER_TEMPLATE: Kind = ("serin.dev", "ClusterAnalysisTemplate");
pub(super) const PROVIDER: Kind = ("serin.dev", "MetricProvider");
pub(super) const CHANNEL: Kind = ("serin.dev", "NotificationChannel");
pub(super) const SERVICE: Kind = ("", "Service");
pub(super) const DEPLOYMENT: Kind = ("apps", "Deployment");
pub(super) const VIRTUAL_SERVICE: Kind = ("networking.istio.io", "VirtualService");
pub(super) const DESTINATION_RULE: Kind = ("networking.istio.io", "DestinationRule");
pub(super) const HTTP_ROUTE: Kind = ("gateway.networking.k8s.io", "HTTPRoute");

/// Kinds without a namespace.
const CLUSTER_KINDS: [Kind; 2] = [CLUSTER_TEMPLATE, PROVIDER];

/// Values that an object may have which lint reads; API servers take hardly more.
const VALUES_MOST: usize = 20_000;

/// One object.
pub(super) struct Object {
    /// Its index among all.
    pub index: usize,
    /// Name of its text.
    pub file: String,
    /// Its fields with their places.
    pub root: Node,
    /// Its fields.
    pub value: Value,
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// Its namespace; empty where its kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Object {
    /// Its API group; empty for the core.
    pub(super) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub(super) fn is(&self, (group, kind): Kind) -> bool {
        self.kind == kind && self.group() == group
    }

    /// `Rollout shop/checkout`; without the namespace where the text names none.
    pub(super) fn title(&self) -> String {
        let namespace = self.value.pointer("/metadata/namespace").and_then(Value::as_str);
        let name = namespace.map_or_else(|| self.name.clone(), |namespace| format!("{namespace}/{}", self.name));
        format!("{} {name}", self.kind).trim_end().to_owned()
    }

    /// The place of a field, or of the nearest field around it that there is.
    pub(super) fn place(&self, path: &str, mark: Mark) -> Place {
        let mut here = &self.root;
        let mut place = here.place;
        let mut rest = path;
        while let Some((node, key, tail)) = next(here, rest) {
            let is_scalar = matches!(node.content, Content::Scalar(ref value) if !value.is_null());
            let wants_value = mark == Mark::Value && tail.is_empty() && is_scalar;
            place = key.filter(|_| !wants_value).unwrap_or(node.place);
            here = node;
            rest = tail;
        }
        place
    }

    /// A string at a JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer)?.as_str()
    }

    /// Items of a list at a JSON pointer.
    pub(super) fn list(&self, pointer: &str) -> &[Value] {
        self.value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Text values of a map at a JSON pointer.
    pub(super) fn map(&self, pointer: &str) -> BTreeMap<String, String> {
        texts(self.value.pointer(pointer))
    }

    /// An annotation.
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.value.pointer("/metadata/annotations")?.get(key)?.as_str()
    }
}

/// Text values of a map.
pub(super) fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The next part of a path: its node, its key's place, and the rest. Keys may hold dots, so that the longest one counts.
fn next<'a, 'p>(here: &'a Node, path: &'p str) -> Option<(&'a Node, Option<Place>, &'p str)> {
    match &here.content {
        Content::Scalar(_) => None,
        Content::List(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            Some((item, None, rest.strip_prefix('.').unwrap_or(rest)))
        }
        Content::Map(fields) => {
            let ends = |rest: &&str| rest.is_empty() || rest.starts_with(['.', '[']);
            let fits =
                fields.iter().filter_map(|field| Some((field, path.strip_prefix(field.key.as_str()).filter(ends)?)));
            let (field, rest) = fits.max_by_key(|(field, _)| field.key.len())?;
            Some((&field.value, Some(field.place), rest.strip_prefix('.').unwrap_or(rest)))
        }
    }
}

/// Everything that was read.
pub(super) struct Input {
    /// The objects, in order.
    pub objects: Vec<Object>,
    /// What is assumed.
    pub settings: Settings,
}

impl Input {
    /// Reads the texts.
    pub(super) fn read(sources: &[Source], settings: &Settings) -> (Self, Found) {
        let mut input = Self { objects: Vec::new(), settings: settings.clone() };
        let mut found = Found::default();
        for source in sources {
            let bytes = match &source.bytes {
                Ok(bytes) => bytes,
                Err(message) => {
                    found.text(&rule::UNREADABLE, &source.name, Place::default(), (message.clone(), ""));
                    continue;
                }
            };
            let (documents, remarks) = yaml::read(bytes);
            for remark in remarks {
                found.text(remark.rule, &source.name, remark.place, (remark.message, &remark.fix));
            }
            let mut strangers = Vec::new();
            for document in documents {
                let before = input.objects.len();
                input.take(source, &document.root, &mut strangers, &mut found);
                // A scalar of an object that lint does not read is not lint's to judge.
                if let Some(object) = input.objects.get(before).filter(|object| is_known(object)) {
                    document.ambiguous.into_iter().for_each(|remark| found.scalar(object, remark));
                }
            }
            if let Some(first) = strangers.first() {
                let message = match strangers.len() {
                    1 => "has no apiVersion or no kind, and is not linted".to_owned(),
                    more => {
                        format!("has no apiVersion or no kind, and is not linted (and {} more in this file)", more - 1)
                    }
                };
                found.text(&rule::NOT_AN_OBJECT, &source.name, *first, (message, ""));
            }
        }
        input.check_twice(&mut found);
        (input, found)
    }

    fn take(&mut self, source: &Source, root: &Node, strangers: &mut Vec<Place>, found: &mut Found) {
        let text = |key: &str| match root.field(key).map(|field| &field.value.content) {
            Some(Content::Scalar(Value::String(text))) => text.clone(),
            _ => String::new(),
        };
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version.is_empty() || kind.is_empty() {
            strangers.push(root.place);
            return;
        }
        if let Some(items) = root.field("items").filter(|_| kind.ends_with("List") && api_version == "v1") {
            for item in items.value.items() {
                self.take(source, item, strangers, found);
            }
            return;
        }
        let value = root.value();
        let of = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let mut object = Object {
            index: self.objects.len(),
            file: source.name.clone(),
            root: root.clone(),
            name: of("/metadata/name").or_else(|| of("/metadata/generateName")).unwrap_or_default(),
            namespace: of("/metadata/namespace").unwrap_or_else(|| self.settings.namespace.clone()),
            value,
            api_version,
            kind,
        };
        if CLUSTER_KINDS.iter().any(|kind| object.is(*kind)) {
            object.namespace.clear();
        }
        if is_known(&object) && root.size() > VALUES_MOST {
            let message = format!("has {} values; lint reads objects of at most {VALUES_MOST}", root.size());
            found.add(&rule::YAML_TOO_LARGE, &object, "", message);
            return;
        }
        self.objects.push(object);
    }

    fn check_twice(&self, found: &mut Found) {
        let mut known: BTreeMap<(&str, &str, &str, &str), &Object> = BTreeMap::new();
        for object in self.objects.iter().filter(|object| !object.name.is_empty()) {
            let key = (object.group(), object.kind.as_str(), object.namespace.as_str(), object.name.as_str());
            match known.get(&key) {
                Some(first) => {
                    let line = first.root.place.line;
                    let message = format!("{} stands in {} on line {line}, too", object.title(), first.file);
                    found.add(&rule::DUPLICATE_OBJECT, object, "metadata.name", message);
                }
                None => {
                    known.insert(key, object);
                }
            }
        }
    }

    /// Objects of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.is(kind))
    }

    /// Objects of a kind in a namespace.
    pub(super) fn of_in<'a>(&'a self, kind: Kind, namespace: &'a str) -> impl Iterator<Item = &'a Object> {
        let is_cluster = CLUSTER_KINDS.contains(&kind);
        self.of(kind).filter(move |object| is_cluster || object.namespace == namespace)
    }

    /// An object by its name.
    pub(super) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let is_cluster = CLUSTER_KINDS.contains(&kind);
        self.of(kind).find(|object| object.name == name && (is_cluster || object.namespace == namespace))
    }
}

/// Whether lint reads objects of this kind.
pub(super) fn is_known(object: &Object) -> bool {
    const GROUPS: [&str; 6] =
        ["serin.dev", "networking.istio.io", "autoscaling", "policy", "argoproj.io", "kustomize.toolkit.fluxcd.io"];
    object.is(HTTP_ROUTE)
        || GROUPS.contains(&object.group())
        || ["Service", "Deployment", "ResourceQuota"].contains(&object.kind.as_str())
}
