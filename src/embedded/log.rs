//! Every change in its order, and the watches that follow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::kind::Kind;
use super::refusal::Refusal;
use super::select::Selection;
use super::store::Object;

/// Changes kept for watches that begin late; older versions have expired.
const KEPT: usize = 4096;
/// Changes that a slow watcher may lag behind before it is cut off.
const LAG: usize = 4096;

/// One change of one object.
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// Plural of the kind.
    pub plural: &'static str,
    /// The object after it; at its removal, as it was last.
    pub object: Object,
    /// The object before it.
    pub before: Option<Object>,
    /// Who made it: the field manager.
    pub writer: String,
    is_removal: bool,
    at: Instant,
}

impl Change {
    /// A change whose version its object tells.
    pub fn new(kind: &'static Kind, object: Object, before: Option<Object>, writer: &str, is_removal: bool) -> Self {
        let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let version = version.and_then(|version| version.parse().ok()).unwrap_or_default();
        Self { version, plural: kind.plural, object, before, writer: writer.to_owned(), is_removal, at: Instant::now() }
    }

    /// Whether the object is gone.
    pub fn is_removal(&self) -> bool {
        self.is_removal
    }
}

/// A line of a watch, and when it arrives.
pub type Line = (Instant, Bytes);

struct Watcher {
    plural: &'static str,
    selection: Selection,
    sender: mpsc::Sender<Line>,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// After a version.
    After(u64),
    /// With all that there is.
    Everything(Listing),
}

/// How a watch lists what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Whether the server may answer from a cache that lags behind: `resourceVersion=0`.
    pub may_be_stale: bool,
    /// Whether a bookmark says where the list ends.
    pub is_marked: bool,
}

/// All changes that are kept, and who follows them.
pub struct Log {
    version: u64,
    changes: VecDeque<Arc<Change>>,
    /// The last version whose change is not kept any more.
    forgotten: u64,
    watchers: Vec<Watcher>,
    followers: Vec<mpsc::UnboundedSender<Arc<Change>>>,
    /// How long a change takes to reach the watches of a kind.
    pub lags: BTreeMap<&'static str, Duration>,
}

impl Default for Log {
    fn default() -> Self {
        // A real server has versions from before the first object: from 1 nothing can be watched.
        Self {
            version: 2,
            changes: VecDeque::new(),
            forgotten: 2,
            watchers: Vec::new(),
            followers: Vec::new(),
            lags: BTreeMap::new(),
        }
    }
}

impl Log {
    /// The newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Makes a new version.
    pub fn advance(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The changes after a version.
    pub fn after(&self, version: u64) -> impl DoubleEndedIterator<Item = &Arc<Change>> {
        self.changes.iter().filter(move |change| change.version > version)
    }

    /// Whether what was at a version is forgotten: then, the refusal.
    pub fn expired(&self, version: u64) -> Result<(), Refusal> {
        if version < self.forgotten { Err(Refusal::expired(version, self.forgotten)) } else { Ok(()) }
    }

    /// Tells everybody who follows.
    pub fn announce(&mut self, change: Change) {
        let arrives = self.arrives(change.plural);
        let mut known: Vec<(Selection, Option<Bytes>)> = Vec::new();
        self.watchers.retain(|watcher| {
            if watcher.plural != change.plural {
                return !watcher.sender.is_closed();
            }
            // Most watchers of a kind select the same.
            let at = known.iter().position(|(selection, _)| *selection == watcher.selection).unwrap_or_else(|| {
                known.push((watcher.selection.clone(), event(&change, watcher.plural, &watcher.selection)));
                known.len() - 1
            });
            let line = known.get(at).and_then(|(_, line)| line.clone());
            line.is_none_or(|line| watcher.sender.try_send((arrives, line)).is_ok()) && !watcher.sender.is_closed()
        });
        let change = Arc::new(change);
        self.followers.retain(|follower| follower.send(change.clone()).is_ok());
        self.changes.push_back(change);
        if self.changes.len() > KEPT
            && let Some(oldest) = self.changes.pop_front()
        {
            self.forgotten = oldest.version;
        }
    }

    fn lag(&self, plural: &str) -> Duration {
        self.lags.get(plural).copied().unwrap_or_default()
    }

    fn arrives(&self, plural: &str) -> Instant {
        Instant::now() + self.lag(plural)
    }

    /// The newest version that a cache of a kind has which lags behind.
    pub fn seen(&self, plural: &str) -> u64 {
        let lag = self.lag(plural);
        let has_arrived = |change: &&Arc<Change>| change.at + lag <= Instant::now();
        self.changes.iter().rev().find(has_arrived).map_or(self.forgotten, |change| change.version)
    }

    /// Every change from now on.
    pub fn follow(&mut self) -> mpsc::UnboundedReceiver<Arc<Change>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.followers.push(sender);
        receiver
    }

    /// Ends every watch, and forgets what was before.
    pub fn expire(&mut self) {
        self.forgotten = self.advance();
        self.changes.clear();
        self.watchers.clear();
    }

    /// Ends every watch.
    pub fn drop_watches(&mut self) {
        self.watchers.clear();
    }

    /// Begins a watch of a kind: after a version that has not expired, or with the objects as they were at a version.
    pub fn watch(
        &mut self,
        kind: &'static Kind,
        selection: Selection,
        begin: Begin,
        (version, existing): (u64, Vec<Object>),
    ) -> mpsc::Receiver<Line> {
        let (sender, receiver) = mpsc::channel(LAG);
        let mut lines: Vec<Line> = Vec::new();
        if let Begin::Everything(listing) = begin {
            // A list that may not be stale waits until the cache has all that there was when it was asked for.
            let arrives = if listing.may_be_stale { Instant::now() } else { self.arrives(kind.plural) };
            lines.extend(existing.iter().map(|object| (arrives, line("ADDED", object))));
            if listing.is_marked {
                let end = json!({"resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
                lines.push((arrives, bookmark(kind, end)));
            }
        }
        let lag = self.lag(kind.plural);
        let missed = self.after(version);
        lines.extend(missed.filter_map(|change| Some((change.at + lag, event(change, kind.plural, &selection)?))));
        if lines.into_iter().all(|line| sender.try_send(line).is_ok()) {
            self.watchers.push(Watcher { plural: kind.plural, selection, sender });
        }
        receiver
    }
}

/// A line of a watch.
pub fn line(kind: &str, object: &Value) -> Bytes {
    let mut line = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    line.extend(text_of(object));
    line.extend(b"}\n");
    Bytes::from(line)
}

/// An object as JSON: quicker than by its `Display`, and the same.
pub fn text_of(object: &Value) -> Vec<u8> {
    serde_json::to_vec(object).unwrap_or_default()
}

/// A line that says up to where a watch is.
pub fn bookmark(kind: &Kind, mut metadata: Value) -> Bytes {
    if let Some(metadata) = metadata.as_object_mut().filter(|_| !kind.is_custom) {
        metadata.insert("creationTimestamp".into(), Value::Null);
    }
    line("BOOKMARK", &json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata}))
}

/// A change as a watcher sees it: an object that a selector no longer selects is deleted for it, as it was.
fn event(change: &Change, plural: &str, selection: &Selection) -> Option<Bytes> {
    if change.plural != plural {
        return None;
    }
    let was = change.before.as_ref().is_some_and(|before| selection.selects(before));
    let is = !change.is_removal && selection.selects(&change.object);
    match (was, is) {
        (false, true) => Some(line("ADDED", &change.object)),
        (true, true) => Some(line("MODIFIED", &change.object)),
        (true, false) => {
            let mut last = Value::clone(change.before.as_ref()?);
            let metadata = last.get_mut("metadata").and_then(Value::as_object_mut)?;
            metadata.insert("resourceVersion".into(), json!(change.version.to_string()));
            Some(line("DELETED", &last))
        }
        (false, false) => None,
    }
}
