//! Caches of slim objects with an index, each fed by a watch in a task of its own, so that a kind that fails delays no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::few::Few;
use super::server::Readiness;

/// How long a new list waits after an expired version.
const RELIST: Duration = Duration::from_millis(200);

/// Namespace and name; the namespace is empty for kinds without one.
pub type Key = (String, String);

/// Says under which words an object is found.
pub type Words<K> = fn(&K) -> Vec<String>;

/// What is called for every change, with the object's words before and after.
pub type OnChange<K> = Arc<dyn Fn(&K, &[String]) + Send + Sync>;

/// Objects of one kind.
pub struct Cache<K> {
    words: Words<K>,
    inner: Mutex<Inner<K>>,
}

struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    index: BTreeMap<String, Few<Key>>,
    listing: Option<BTreeMap<Key, Arc<K>>>,
    /// The newest version that the watch has told: of older ones it has told all.
    told: u64,
}

impl<K: Resource<DynamicType = ()> + Clone + PartialEq> Cache<K> {
    /// An empty cache.
    pub fn new(words: Words<K>) -> Self {
        let inner = Inner { objects: BTreeMap::new(), index: BTreeMap::new(), listing: None, told: 0 };
        Self { words, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object by namespace and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner().objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Objects that have a word.
    pub fn find(&self, word: &str) -> Vec<Arc<K>> {
        let inner = self.inner();
        let keys = inner.index.get(word).into_iter().flatten();
        keys.filter_map(|key| inner.objects.get(key).cloned()).collect()
    }

    /// Takes an answer of the API server over, unless the cache has a newer one, or the watch has told already that the
    /// object is gone. Says which words changed hands.
    pub fn put(&self, object: &K) -> Vec<String> {
        let mut inner = self.inner();
        if !inner.objects.contains_key(&key_of(object)) && version_of(object) <= inner.told {
            return Vec::new();
        }
        inner.store(object, self.words)
    }

    /// Takes an object over that the watch tells of, unless the cache has a newer one. Says which words changed hands.
    fn tell(&self, object: &K) -> Vec<String> {
        let mut inner = self.inner();
        inner.told = inner.told.max(version_of(object));
        inner.store(object, self.words)
    }

    /// Forgets an object that is gone, unless the cache has a newer one of that name.
    pub fn delete(&self, object: &K) -> Vec<String> {
        self.inner().delete(object, self.words)
    }

    /// Forgets an object that the watch tells is gone, unless the cache has a newer one of that name.
    fn tell_gone(&self, object: &K) -> Vec<String> {
        let mut inner = self.inner();
        inner.told = inner.told.max(version_of(object));
        inner.delete(object, self.words)
    }

    /// All objects of a namespace.
    pub fn of_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let inner = self.inner();
        let first = (namespace.to_owned(), String::new());
        inner
            .objects
            .range(first..)
            .take_while(|((of, _), _)| of == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Namespaces and names of all objects.
    pub fn keys(&self) -> Vec<Key> {
        self.inner().objects.keys().cloned().collect()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner().objects.values().cloned().collect()
    }

    /// Replaces everything by a finished list; the objects that changed or went, with their words.
    fn replace(&self) -> Vec<(Arc<K>, Vec<String>)> {
        let mut inner = self.inner();
        let listed = inner.listing.take().unwrap_or_default();
        let mut changes = Vec::new();
        let gone: Vec<Key> = inner.objects.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
        for key in gone {
            if let Some(object) = inner.objects.get(&key).cloned() {
                changes.push((object, inner.remove(&key, self.words)));
            }
        }
        for (key, object) in listed {
            let is_known = |known: &Arc<K>| *known == object || version_of(&**known) > version_of(&*object);
            if inner.objects.get(&key).is_some_and(is_known) {
                continue;
            }
            let after = (self.words)(&object);
            let before = inner.remove(&key, self.words);
            inner.insert(key, object.clone(), &after);
            changes.push((object, before.into_iter().chain(after).collect()));
        }
        changes
    }
}

/// An object to keep. What was read has room for more in each of its lists; a copy has not.
fn kept<K: Clone>(object: &K) -> Arc<K> {
    Arc::new(object.clone())
}

impl<K: Resource + Clone> Inner<K> {
    fn has_newer(&self, key: &Key, object: &K) -> bool {
        self.objects.get(key).is_some_and(|known| version_of(&**known) > version_of(object))
    }

    fn store(&mut self, object: &K, words: Words<K>) -> Vec<String> {
        let key = key_of(object);
        if self.has_newer(&key, object) {
            return Vec::new();
        }
        let after = words(object);
        let before = self.remove(&key, words);
        let object = kept(object);
        // The rest of a list that is on its way is older than this.
        if let Some(listing) = &mut self.listing {
            listing.insert(key.clone(), object.clone());
        }
        self.insert(key, object, &after);
        before.into_iter().chain(after).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn delete(&mut self, object: &K, words: Words<K>) -> Vec<String> {
        let key = key_of(object);
        if self.has_newer(&key, object) { Vec::new() } else { self.remove(&key, words) }
    }

    fn insert(&mut self, key: Key, object: Arc<K>, words: &[String]) {
        for word in words {
            self.index.entry(word.clone()).or_default().insert(key.clone());
        }
        self.objects.insert(key, object);
    }

    fn remove(&mut self, key: &Key, words: Words<K>) -> Vec<String> {
        let Some(object) = self.objects.remove(key) else {
            return Vec::new();
        };
        let words = words(&object);
        for word in &words {
            if let Some(keys) = self.index.get_mut(word) {
                keys.remove(key);
                if keys.is_empty() {
                    self.index.remove(word);
                }
            }
        }
        words
    }
}

fn key_of<K: Resource>(object: &K) -> Key {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// A resource version as a number; API servers give increasing ones.
pub fn version_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Which objects of a kind are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// All.
    All,
    /// Those with these labels.
    Labels(String),
    /// The one of this name.
    Name(String),
    /// Those with these fields.
    Fields(&'static str),
}

/// Feeds a cache for ever. Streaming lists keep the memory of a start small; a server without them is listed in pages.
pub async fn feed<K>(cache: Arc<Cache<K>>, api: Api<K>, select: Select, on_change: OnChange<K>, readiness: Readiness)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + PartialEq + Send + Sync + 'static,
{
    let kind = K::plural(&()).into_owned();
    let mut streams = true;
    loop {
        let mut config = watcher::Config::default();
        config = if streams { config.streaming_lists() } else { config.page_size(100) };
        config = match &select {
            Select::All => config,
            Select::Labels(labels) => config.labels(labels),
            Select::Name(name) => config.fields(&format!("metadata.name={name}")),
            Select::Fields(fields) => config.fields(fields),
        };
        let mut events = watch(api.clone(), config).default_backoff().boxed();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => take(&cache, (event, streams), &on_change, &readiness, &kind),
                Ok(None) => break,
                Err(error) if streams && is_unsupported(&error) => {
                    streams = false;
                    break;
                }
                Err(error) if is_expired(&error) => {
                    tracing::info!(%kind, "the watch's version has expired: everything is listed again");
                    tokio::time::sleep(RELIST).await;
                    break;
                }
                Err(error) if is_missing_kind(&error) && readiness.is_optional(&kind) => {
                    tracing::debug!(%kind, "the kind does not exist here");
                    readiness.absent(&kind);
                }
                Err(error) => {
                    tracing::warn!(%kind, %error, "the watch failed and is tried again");
                    if is_missing_kind(&error) {
                        readiness.absent(&kind);
                    }
                }
            }
        }
    }
}

fn take<K: Resource<DynamicType = ()> + Clone + PartialEq>(
    cache: &Cache<K>,
    (event, streams): (Event<K>, bool),
    on_change: &OnChange<K>,
    readiness: &Readiness,
    kind: &str,
) {
    match event {
        // A streamed list is of the time of its first line, one in pages of the time of its first page.
        Event::Init => cache.inner().listing = streams.then(BTreeMap::new),
        Event::InitApply(object) => {
            let mut inner = cache.inner();
            let listing = inner.listing.get_or_insert_default();
            let key = key_of(&object);
            if listing.get(&key).is_none_or(|known| version_of(&**known) < version_of(&object)) {
                listing.insert(key, kept(&object));
            }
        }
        Event::InitDone => {
            for (object, words) in cache.replace() {
                on_change(&object, &words);
            }
            readiness.listed(kind);
        }
        Event::Apply(object) => {
            let words = cache.tell(&object);
            on_change(&object, &words);
        }
        Event::Delete(object) => {
            let words = cache.tell_gone(&object);
            on_change(&object, &words);
        }
    }
}

/// Whether the server does not know streaming lists.
fn is_unsupported(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 400 || status.code == 422)
}

/// Whether the server refuses to watch from an old version. The client begins anew when the stream says so, as
/// kube-apiserver does, and would ask for the same version for ever when the answer itself is a 410.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

fn is_missing_kind(error: &watcher::Error) -> bool {
    let (watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::InitialListFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 404
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::watched::Service;

    fn service(name: &str, version: u64) -> Service {
        let object = json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string()}});
        serde_json::from_value(object).unwrap_or_default()
    }

    fn versions(cache: &Cache<Service>) -> Vec<(String, u64)> {
        let all = cache.keys().into_iter();
        all.filter_map(|(space, name)| Some((name.clone(), version_of(&*cache.get(&space, &name)?)))).collect()
    }

    #[test]
    fn an_answer_brings_nothing_back_that_is_gone() {
        let cache = Cache::new(|_| Vec::new());
        let (on_change, readiness): (OnChange<Service>, _) = (Arc::new(|_, _| {}), Readiness::of(&["services"]));
        let take = |event| take(&cache, (event, true), &on_change, &readiness, "services");
        take(Event::Apply(service("written", 5)));
        // Written as 6, and deleted as 7 before the answer to the write came.
        take(Event::Apply(service("written", 6)));
        take(Event::Delete(service("written", 7)));
        cache.put(&service("written", 6));
        assert_eq!(versions(&cache), []);
        cache.put(&service("written", 8));
        assert_eq!(versions(&cache), [("written".to_owned(), 8)]);
    }

    #[test]
    fn a_list_takes_nothing_newer_back() {
        for (streams, wanted) in [
            // What was written while a streamed list was on its way is newer than the list.
            (true, vec![("early", 7), ("listed", 5), ("newer", 8), ("own", 9)]),
            // A list in pages begins with its first page: what was written before may be gone in it.
            (false, vec![("listed", 5), ("newer", 8), ("own", 9)]),
        ] {
            let cache = Cache::new(|_| Vec::new());
            let (on_change, readiness): (OnChange<Service>, _) = (Arc::new(|_, _| {}), Readiness::of(&["services"]));
            let take = |event| take(&cache, (event, streams), &on_change, &readiness, "services");
            cache.put(&service("gone", 3));
            cache.put(&service("own", 9));
            take(Event::Init);
            cache.put(&service("early", 7));
            take(Event::InitApply(service("listed", 5)));
            cache.put(&service("newer", 6));
            take(Event::InitApply(service("newer", 8)));
            take(Event::InitApply(service("own", 4)));
            take(Event::InitDone);
            let wanted: Vec<_> = wanted.into_iter().map(|(name, version)| (name.to_owned(), version)).collect();
            assert_eq!(versions(&cache), wanted, "streams: {streams}");
        }
    }
}
