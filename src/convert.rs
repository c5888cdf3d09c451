//! `kubectl serin convert`: manifests of Argo Rollouts and Flagger to Serin's, with a report of every field.
//!
//! Texts in, texts and a report out. What is neither Argo's nor Flagger's passes through byte for byte; what is converted
//! keeps its comments, its order and the way it is written. A gate whose meaning cannot be kept is never guessed.

pub mod argo;
mod expression;
pub mod flagger;
pub mod report;
pub mod table;
mod target;
pub mod yaml;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use self::argo::Argo;
use self::report::{Line, Report, Subject};
use self::yaml::{Map, Node};

/// A text that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name of its file.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// A text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The name of its file.
    pub name: String,
    /// Where and why.
    pub fault: yaml::Fault,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.fault)
    }
}

impl std::error::Error for Unreadable {}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// A file for each that was read, under the same name.
    pub files: Vec<Source>,
    /// Every object, as JSON.
    pub objects: Vec<Value>,
    /// What became of every field.
    pub report: Report,
}

/// One document of a file.
struct Document {
    source: usize,
    /// The line of dashes before it, as it stands.
    separator: String,
    body: String,
    node: Node,
    /// What comes in its place; nothing when it stays as it is.
    becomes: Option<Vec<Node>>,
    /// Comments in the place of what is gone.
    remark: Vec<String>,
}

/// Everything that was read.
pub struct Manifests {
    documents: Vec<Document>,
}

impl Manifests {
    fn read(sources: &[Source]) -> Result<Self, Unreadable> {
        let mut documents = Vec::new();
        for (source, Source { name, text }) in sources.iter().enumerate() {
            for (line, separator, body) in split(text) {
                let node = yaml::read(&body).map_err(|fault| Unreadable {
                    name: name.clone(),
                    fault: yaml::Fault { line: fault.line + line, message: fault.message },
                })?;
                documents.extend(unpacked(Document {
                    source,
                    separator,
                    body,
                    node,
                    becomes: None,
                    remark: Vec::new(),
                }));
            }
        }
        Ok(Self { documents })
    }

    /// Every object.
    pub fn objects(&self) -> impl Iterator<Item = &Node> {
        self.documents.iter().map(|document| &document.node)
    }
}

/// The documents of a text: each with the number of lines before it, its line of dashes and the rest.
fn split(text: &str) -> Vec<(usize, String, String)> {
    let mut parts: Vec<(usize, String, String)> = vec![(0, String::new(), String::new())];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let after =
            line.strip_prefix("---").filter(|after| after.starts_with([' ', '\t', '\n', '\r']) || after.is_empty());
        match after {
            Some(after) if after.trim().is_empty() || after.trim_start().starts_with('#') => {
                parts.push((number + 1, line.to_owned(), String::new()));
            }
            Some(after) => parts.push((number, "---\n".to_owned(), after.to_owned())),
            None => {
                if let Some((_, _, body)) = parts.last_mut() {
                    body.push_str(line);
                }
            }
        }
    }
    let is_empty = |(_, separator, body): &(usize, String, String)| separator.is_empty() && body.is_empty();
    parts.retain(|part| !is_empty(part));
    parts
}

/// A list that holds something to convert becomes its items.
fn unpacked(document: Document) -> Vec<Document> {
    let is_list = document.node.text_at(&["kind"]).is_some_and(|kind| kind.ends_with("List"));
    let items = document.node.at(&["items"]).map_or(&[][..], Node::items);
    if !is_list || !items.iter().any(|item| is_ours(&item.value)) {
        return vec![document];
    }
    let header = document.node.entries().iter().flat_map(yaml::Entry::comments);
    let mut separator = header.fold(document.separator.clone(), |text, comment| text + &comment + "\n");
    let mut documents = Vec::new();
    for item in items {
        let node = item.value.clone();
        let above = item.above.iter().filter(|line| !line.is_empty());
        let before = std::mem::replace(&mut separator, "---\n".to_owned());
        documents.push(Document {
            source: document.source,
            separator: above.fold(before, |text, comment| text + comment + "\n"),
            body: yaml::document(&node),
            node,
            becomes: None,
            remark: Vec::new(),
        });
    }
    documents
}

fn group(node: &Node) -> &str {
    node.text_at(&["apiVersion"]).and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

fn is_argos(node: &Node) -> bool {
    let kinds = ["Rollout", "AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun", "Experiment"];
    group(node) == argo::GROUP && node.text_at(&["kind"]).is_some_and(|kind| kinds.contains(&kind))
}

fn is_ours(node: &Node) -> bool {
    is_argos(node) || group(node) == flagger::GROUP
}

/// What becomes of a document.
pub struct Fate {
    /// What comes in its place; nothing when it stays as it is.
    pub becomes: Option<Vec<Node>>,
    /// That in words.
    pub words: String,
    /// Its fields.
    pub lines: Vec<Line>,
}

/// Converts manifests.
pub fn convert(sources: &[Source]) -> Result<Converted, Unreadable> {
    let mut manifests = Manifests::read(sources)?;
    let mut argo = Argo::new(&manifests);
    let mut flagger = flagger::Flagger::new(&manifests);
    let mut fates: BTreeMap<usize, Fate> = BTreeMap::new();
    // Rollouts depend on what is left of the templates, and what scales depends on the Rollouts.
    for pass in 0..3 {
        for (at, document) in manifests.documents.iter().enumerate() {
            let Node::Map(root) = &document.node else { continue };
            let fate = match (pass, is_argos(&document.node), group(&document.node)) {
                (0, true, _) if is_template(&document.node) => Some(of_template(root.clone(), &mut argo)),
                (1, true, _) if !is_template(&document.node) => Some(of_object(root.clone(), &mut argo)),
                (1, false, flagger::GROUP) => Some(flagger.convert(&document.node)),
                (2, false, group) if group != flagger::GROUP => target::convert(&document.node, &argo, &flagger),
                _ => None,
            };
            if let Some(fate) = fate {
                fates.insert(at, fate);
            }
        }
    }
    let report = report(&manifests, sources, &fates, (&argo, &flagger));
    for (at, document) in manifests.documents.iter_mut().enumerate() {
        if let Some(fate) = fates.remove(&at) {
            document.remark = remark(&document.node, &fate);
            document.becomes = fate.becomes;
        }
    }
    Ok(Converted { files: files(sources, &manifests), objects: objects(&manifests), report })
}

fn is_template(node: &Node) -> bool {
    node.text_at(&["kind"]).is_some_and(|kind| kind.ends_with("AnalysisTemplate"))
}

fn of_template(root: Map, argo: &mut Argo) -> Fate {
    let outcome = argo::template(root, argo);
    let mut becomes = argo.providers.take_fresh();
    becomes.extend(outcome.object);
    Fate { becomes: Some(becomes), words: outcome.becomes, lines: outcome.lines }
}

fn of_object(root: Map, argo: &mut Argo) -> Fate {
    let outcome = argo::object(root, argo);
    let becomes = (!outcome.is_untouched).then(|| outcome.object.into_iter().collect());
    Fate { becomes, words: outcome.becomes, lines: outcome.lines }
}

/// What stands in the place of a document that is gone: its comments, and why.
fn remark(node: &Node, fate: &Fate) -> Vec<String> {
    if !fate.becomes.as_ref().is_some_and(Vec::is_empty) {
        return Vec::new();
    }
    let kind = node.text_at(&["kind"]).unwrap_or_default();
    // The comments within a workload went over to the Rollout with its template.
    let is_moved = ["Deployment", "ReplicaSet", "PodTemplate"].contains(&kind);
    let comments = |entry: &yaml::Entry| if is_moved { entry.comments() } else { entry.all_comments() };
    let mut lines: Vec<String> = node.entries().iter().flat_map(comments).collect();
    let name = node.text_at(&["metadata", "name"]).unwrap_or_default();
    let why = fate.words.strip_prefix("nothing: ").unwrap_or(&fate.words);
    lines.push(table::comment(&format!("left out: {kind} {name}: {why}")));
    lines
}

fn report(
    manifests: &Manifests,
    sources: &[Source],
    fates: &BTreeMap<usize, Fate>,
    (argo, flagger): (&Argo, &flagger::Flagger),
) -> Report {
    let mut report = Report::default();
    for (at, document) in manifests.documents.iter().enumerate() {
        let node = &document.node;
        let Some(fate) = fates.get(&at) else {
            report.untouched += usize::from(node.text_at(&["kind"]).is_some());
            continue;
        };
        let text = |keys: &[&str]| node.text_at(keys).unwrap_or_default().to_owned();
        let name = match node.text_at(&["metadata", "namespace"]) {
            Some(namespace) => format!("{namespace}/{}", text(&["metadata", "name"])),
            None => text(&["metadata", "name"]),
        };
        report.objects.push(Subject {
            file: sources.get(document.source).map(|source| source.name.clone()).unwrap_or_default(),
            kind: format!("{} {}", text(&["apiVersion"]), text(&["kind"])),
            name,
            becomes: fate.words.clone(),
            fields: fate.lines.clone(),
        });
    }
    report.next = next(manifests, argo, flagger);
    report
}

/// What a team does now: what the cluster needs, then the takeover in two commits.
fn next(manifests: &Manifests, argo: &Argo, flagger: &flagger::Flagger) -> Vec<String> {
    let mut next = Vec::new();
    for (provider, secret) in argo.providers.secrets() {
        next.push(format!(
            "Copy the Secret {secret} into the controller's namespace: MetricProvider {provider} reads it there."
        ));
    }
    if !argo.providers.names().is_empty() {
        next.push(format!(
            "Have an administrator apply {}: a MetricProvider belongs to the cluster, not to a team.",
            argo.providers.names().join(", ")
        ));
    }
    let has_argo = manifests.objects().any(|node| is_argos(node) && node.at(&["spec", "strategy", "canary"]).is_some());
    if has_argo {
        next.extend(argo::TAKEOVER.iter().map(|step| (*step).to_owned()));
    }
    next.extend(flagger.next());
    next
}

fn files(sources: &[Source], manifests: &Manifests) -> Vec<Source> {
    let of = |(at, source): (usize, &Source)| {
        let mut text = String::new();
        for document in manifests.documents.iter().filter(|document| document.source == at) {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&document.separator);
            match &document.becomes {
                None => text.push_str(&document.body),
                Some(nodes) => {
                    text.extend(document.remark.iter().flat_map(|line| [line.as_str(), "\n"]));
                    let texts: Vec<String> = nodes.iter().map(yaml::document).collect();
                    text.push_str(&texts.join("---\n"));
                }
            }
        }
        Source { name: source.name.clone(), text }
    };
    sources.iter().enumerate().map(of).collect()
}

fn objects(manifests: &Manifests) -> Vec<Value> {
    let of = |document: &Document| -> Vec<Value> {
        match &document.becomes {
            None => vec![document.node.value()],
            Some(nodes) => nodes.iter().map(Node::value).collect(),
        }
    };
    manifests.documents.iter().flat_map(of).filter(|value| !value.is_null()).collect()
}
