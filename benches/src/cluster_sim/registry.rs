//! The API server's memory: objects by kind, each change with a resource version, and the recent
//! changes for those who watch.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How many changes of a kind are kept; who has seen less is told that its version is gone.
const CHANGES_KEPT: usize = 4096;

/// The kinds of objects there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nodes,
    Pods,
    Namespaces,
}

impl Kind {
    /// The kind of a plural name in a path.
    pub(crate) fn of_plural(name: &str) -> Option<Self> {
        Some(match name {
            "nodes" => Self::Nodes,
            "pods" => Self::Pods,
            "namespaces" => Self::Namespaces,
            _ => return None,
        })
    }

    /// The name of one object of the kind.
    pub(crate) const fn singular(self) -> &'static str {
        match self {
            Self::Nodes => "Node",
            Self::Pods => "Pod",
            Self::Namespaces => "Namespace",
        }
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeType {
    Added,
    Modified,
    Deleted,
}

impl ChangeType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// An object as it is sent, with what is needed to select it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The JSON text.
    pub(crate) json: Bytes,
    /// Name of the node a pod is on.
    pub(crate) node_name: String,
}

/// One change: the line of a watch.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The version the change led to.
    pub(crate) version: u64,
    /// Key of the object.
    pub(crate) key: String,
    /// The object after the change, or as it was last.
    pub(crate) object: Stored,
    kind: ChangeType,
}

impl Change {
    /// The change as a line of a watch.
    pub(crate) fn line(&self) -> Bytes {
        watch_line(self.kind, &self.object)
    }
}

/// A line of a watch that tells of an object.
pub(crate) fn watch_line(kind: ChangeType, object: &Stored) -> Bytes {
    let mut line = format!("{{\"type\":\"{}\",\"object\":", kind.as_str()).into_bytes();
    line.extend_from_slice(&object.json);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// Why changes cannot be given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VersionIsGone;

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<String, Stored>,
    changes: VecDeque<Change>,
    /// Version up to which changes were forgotten.
    forgotten: u64,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    collections: [Collection; 3],
}

/// All objects. Keys are `namespace/name`, or `name` for what has no namespace.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Tells those who watch of the newest version.
    newest: watch::Sender<u64>,
}

impl Registry {
    /// A registry without objects.
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Puts an object in; `json` gets its resource version here.
    pub(crate) fn put(&self, kind: Kind, mut json: Value) {
        let mut state = self.state.lock();
        state.version += 1;
        let version = state.version;
        json["metadata"]["resourceVersion"] = json!(version.to_string());
        let (key, object) = (key_of(&json), stored(&json));
        let collection = &mut state.collections[kind as usize];
        let change = match collection.objects.insert(key.clone(), object.clone()) {
            Some(_) => ChangeType::Modified,
            None => ChangeType::Added,
        };
        collection.remember(Change { version, key, object, kind: change });
        drop(state);
        self.newest.send_replace(version);
    }

    /// Takes an object out; `false` when it was not there.
    pub(crate) fn delete(&self, kind: Kind, key: &str) -> bool {
        let mut state = self.state.lock();
        let Some(old) = state.collections[kind as usize].objects.remove(key) else { return false };
        state.version += 1;
        let version = state.version;
        // As the API server does, the last state is sent under the version of the deletion.
        let object = match serde_json::from_slice::<Value>(&old.json) {
            Ok(mut json) => {
                json["metadata"]["resourceVersion"] = json!(version.to_string());
                stored(&json)
            }
            Err(_) => old,
        };
        let change = Change { version, key: key.to_owned(), object, kind: ChangeType::Deleted };
        state.collections[kind as usize].remember(change);
        drop(state);
        self.newest.send_replace(version);
        true
    }

    /// One object.
    pub(crate) fn get(&self, kind: Kind, key: &str) -> Option<Stored> {
        self.state.lock().collections[kind as usize].objects.get(key).cloned()
    }

    /// The objects after a key, in order of their keys, with the version they are of.
    pub(crate) fn list(&self, kind: Kind, after: Option<&str>) -> (u64, Vec<(String, Stored)>) {
        let state = self.state.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let objects = state.collections[kind as usize]
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        (state.version, objects)
    }

    /// The changes after a version, and the version they lead to.
    ///
    /// # Errors
    /// [`VersionIsGone`]: changes since then were forgotten; list again.
    pub(crate) fn changes_since(
        &self,
        kind: Kind,
        version: u64,
    ) -> Result<(u64, Vec<Change>), VersionIsGone> {
        let state = self.state.lock();
        let collection = &state.collections[kind as usize];
        if version < collection.forgotten {
            return Err(VersionIsGone);
        }
        let first = collection.changes.partition_point(|change| change.version <= version);
        Ok((state.version, collection.changes.range(first..).cloned().collect()))
    }

    /// A receiver that wakes at every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

impl Collection {
    fn remember(&mut self, change: Change) {
        self.changes.push_back(change);
        if self.changes.len() > CHANGES_KEPT
            && let Some(oldest) = self.changes.pop_front()
        {
            self.forgotten = oldest.version;
        }
    }
}

fn stored(json: &Value) -> Stored {
    Stored {
        json: json.to_string().into(),
        node_name: json["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
    }
}

fn key_of(json: &Value) -> String {
    let part = |name| json["metadata"][name].as_str().unwrap_or_default();
    match part("namespace") {
        "" => part("name").to_owned(),
        namespace => format!("{namespace}/{}", part("name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, note: usize) -> Value {
        json!({"metadata": {"name": name, "note": note}})
    }

    #[test]
    fn changes_since_a_version_are_all_later_ones_of_the_kind() {
        let registry = Registry::new();
        registry.put(Kind::Nodes, object("a", 0));
        registry.put(Kind::Pods, object("p", 0));
        registry.put(Kind::Nodes, object("a", 1));
        assert!(registry.delete(Kind::Nodes, "a"));
        assert!(!registry.delete(Kind::Nodes, "a"));
        let (version, changes) = registry.changes_since(Kind::Nodes, 1).unwrap();
        assert_eq!(version, 4);
        let lines: Vec<Value> =
            changes.iter().map(|c| serde_json::from_slice(&c.line()).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (&lines[0]["type"], &lines[0]["object"]["metadata"]["note"]),
            (&json!("MODIFIED"), &json!(1))
        );
        assert_eq!(lines[1]["type"], "DELETED");
        assert_eq!(lines[1]["object"]["metadata"]["resourceVersion"], "4");
    }

    #[test]
    fn a_version_whose_changes_were_forgotten_is_gone() {
        let registry = Registry::new();
        for note in 0..=CHANGES_KEPT {
            registry.put(Kind::Nodes, object("a", note));
        }
        assert!(matches!(registry.changes_since(Kind::Nodes, 0), Err(VersionIsGone)));
        assert_eq!(registry.changes_since(Kind::Nodes, 1).unwrap().1.len(), CHANGES_KEPT);
        assert_eq!(registry.changes_since(Kind::Pods, 0).unwrap().1.len(), 0);
    }
}
