//! Incremental Merkle-Patricia trie over path-keyed records.
//!
//! A [`Trie`] starts as its root hash. Updates load only the branches on their paths, change them in memory
//! and mark them; `root` re-encodes and hashes only what is marked; `take_changes` gives the records to
//! write. Nothing is written here: the store writes the records together with the flat state.
//!
//! Keys of the state's tries are hashes of one length, but any keys of up to 32 bytes work.

mod node;
mod proof;
mod record;
pub(super) mod roots;
#[cfg(test)]
mod tests;

use alloy_trie::{Nibbles, EMPTY_ROOT_HASH};

use self::node::{Branch, Leaf, Node, Reference};
use crate::primitives::{ReadError, B256};

/// From this many updates on, hashing is spread over the cores.
const PARALLEL_UPDATES: usize = 256;

/// Where a trie finds its records.
pub(super) trait Records {
    fn record(&self, key: &[u8]) -> Result<Option<&[u8]>, ReadError>;
}

/// A store with nothing in it.
pub(super) struct NoRecords;

impl Records for NoRecords {
    fn record(&self, _key: &[u8]) -> Result<Option<&[u8]>, ReadError> {
        Ok(None)
    }
}

/// A key's new value; `None` deletes the key.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) key: Nibbles,
    pub(super) value: Option<Vec<u8>>,
}

/// Records to write, in key order: `None` deletes.
pub(super) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Root of a trie in memory after `updates`, applied one by one to the empty trie as the state's tries would
/// apply them; a key without value is deleted.
///
/// # Errors
/// A key above 32 bytes.
pub fn root_after(updates: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<B256, String> {
    let mut trie = Trie::open(&[], EMPTY_ROOT_HASH);
    for (key, value) in updates {
        if key.len() > 32 {
            return Err(format!("a key has {} bytes; the limit is 32", key.len()));
        }
        let update = Update { key: Nibbles::unpack(key), value: value.clone() };
        trie.update(&NoRecords, &mut [update]).map_err(|error| error.to_string())?;
        trie.root();
    }
    Ok(trie.root())
}

/// One trie: the account trie or the storage trie of an account.
#[derive(Clone, Debug)]
pub(super) struct Trie {
    root: Node,
    /// Record keys are this followed by the path, a byte per nibble.
    prefix: Vec<u8>,
    /// Keys whose records no longer belong to a branch.
    removed: Vec<Vec<u8>>,
    /// The store has a record for the root.
    root_stored: bool,
    root_changed: bool,
    /// Updates since the last sealing.
    unsealed: usize,
}

impl Trie {
    /// The trie with root hash `root` whose records lie under `prefix`.
    pub(super) fn open(prefix: &[u8], root: B256) -> Trie {
        let stored = root != EMPTY_ROOT_HASH;
        Trie {
            root: if stored { Node::Stored(Reference::hashed(root)) } else { Node::Empty },
            prefix: prefix.to_vec(),
            removed: Vec::new(),
            root_stored: stored,
            root_changed: false,
            unsealed: 0,
        }
    }

    /// The record of the root node has hash `root`.
    pub(super) fn check(source: &dyn Records, prefix: &[u8], root: B256) -> Result<(), ReadError> {
        if root == EMPTY_ROOT_HASH {
            return Ok(());
        }
        let mut node = load(source, prefix, &Nibbles::default(), Reference::hashed(root))?;
        match &mut node {
            Node::Branch(branch) => branch.touch(),
            Node::Leaf(leaf) => leaf.reference = None,
            Node::Empty | Node::Stored(_) => {}
        }
        node.seal(&mut Vec::new());
        if node.root_hash() != root {
            return Err(ReadError::Store(format!("the root of the trie is not {root}")));
        }
        Ok(())
    }

    /// Applies `updates`; their keys must be sorted and distinct.
    pub(super) fn update(&mut self, source: &dyn Records, updates: &mut [Update]) -> Result<(), ReadError> {
        debug_assert!(updates.is_sorted_by(|a, b| a.key < b.key));
        if updates.is_empty() {
            return Ok(());
        }
        let mut walk = Walk { source, prefix: &self.prefix, removed: &mut self.removed };
        if walk.update(&mut self.root, 0, updates)? {
            self.root_changed = true;
            self.unsealed += updates.len();
        }
        Ok(())
    }

    /// Drops every key. `known` are the keys of all records that the store has under the prefix.
    pub(super) fn clear(&mut self, known: Vec<Vec<u8>>) {
        let mut own = self.prefix.clone();
        forget_all(&self.root, &mut own, &mut self.removed);
        self.removed.extend(known);
        self.root = Node::Empty;
        self.root_changed = true;
    }

    /// The root hash now.
    pub(super) fn root(&mut self) -> B256 {
        if self.unsealed >= PARALLEL_UPDATES {
            self.root.seal_parallel();
        } else {
            self.root.seal(&mut Vec::with_capacity(600));
        }
        self.unsealed = 0;
        self.root.root_hash()
    }

    /// The records that changed since the last call.
    pub(super) fn take_changes(&mut self) -> Changes {
        self.root();
        let mut changes: Changes = self.removed.drain(..).map(|key| (key, None)).collect();
        let mut key = self.prefix.clone();
        if self.root_changed {
            match &self.root {
                Node::Leaf(leaf) => changes.push((key.clone(), Some(record::encode_root_leaf(leaf)))),
                Node::Empty if self.root_stored => changes.push((key.clone(), None)),
                _ => {}
            }
        }
        collect_records(&mut self.root, &mut key, &mut changes);
        self.root_stored = !self.root.is_empty();
        self.root_changed = false;
        // A place that was given up and taken again is written: the record comes after the deletion.
        changes.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.is_some().cmp(&b.1.is_some())));
        changes.reverse();
        changes.dedup_by(|later, kept| later.0 == kept.0);
        changes.reverse();
        changes
    }
}

fn collect_records(node: &mut Node, key: &mut Vec<u8>, changes: &mut Changes) {
    let Node::Branch(branch) = node else { return };
    if branch.saved {
        return;
    }
    changes.push((key.clone(), Some(record::encode_branch(branch))));
    branch.saved = true;
    branch.stored = true;
    let length = key.len();
    key.extend(branch.prefix.iter());
    for (nibble, child) in branch.children.iter_mut().enumerate() {
        key.push(nibble as u8);
        collect_records(child, key, changes);
        key.pop();
    }
    key.truncate(length);
}

fn forget_all(node: &Node, key: &mut Vec<u8>, removed: &mut Vec<Vec<u8>>) {
    let Node::Branch(branch) = node else { return };
    if branch.stored {
        removed.push(key.clone());
    }
    let length = key.len();
    key.extend(branch.prefix.iter());
    for (nibble, child) in branch.children.iter().enumerate() {
        key.push(nibble as u8);
        forget_all(child, key, removed);
        key.pop();
    }
    key.truncate(length);
}

/// Loads the record of the branch (or root leaf) at `path`.
fn load(source: &dyn Records, prefix: &[u8], path: &Nibbles, reference: Reference) -> Result<Node, ReadError> {
    let key = record_key(prefix, path);
    let missing = || ReadError::Store(format!("trie record {} is missing", alloy_primitives::hex::encode(&key)));
    let bytes = source.record(&key)?.ok_or_else(missing)?;
    Ok(record::decode(bytes, reference)?)
}

fn record_key(prefix: &[u8], path: &Nibbles) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + path.len());
    key.extend_from_slice(prefix);
    key.extend(path.iter());
    key
}

/// One pass of updates over a trie. The functions take a place, its depth in nibbles and the updates that
/// belong under it; the path of the place is the front of any of their keys.
struct Walk<'a> {
    source: &'a dyn Records,
    prefix: &'a [u8],
    removed: &'a mut Vec<Vec<u8>>,
}

impl Walk<'_> {
    /// Says whether anything changed.
    fn update(&mut self, node: &mut Node, depth: usize, updates: &mut [Update]) -> Result<bool, ReadError> {
        if let Node::Stored(reference) = node {
            *node = load(self.source, self.prefix, &updates[0].key.slice(..depth), *reference)?;
        }
        match node {
            Node::Empty => {
                *node = build(depth, &mut inserts(updates));
                Ok(!node.is_empty())
            }
            Node::Leaf(_) => Ok(update_leaf(node, depth, updates)),
            Node::Branch(_) => self.update_branch(node, depth, updates),
            Node::Stored(_) => Err(ReadError::Store("a trie record did not decode to a node".into())),
        }
    }

    fn update_branch(&mut self, node: &mut Node, depth: usize, updates: &mut [Update]) -> Result<bool, ReadError> {
        let split = self.split(node, depth, updates);
        let Node::Branch(branch) = node else { return Ok(split) };
        // What does not run through the extension is a deletion of something that is not there.
        let updates = within(updates, depth, &branch.prefix);
        let Some(first) = updates.first() else { return Ok(split) };
        let level = depth + branch.prefix.len();
        let path = first.key.slice(..level);

        let mut changed = split;
        let mut rest = updates;
        if rest[0].key.len() == level {
            let value = rest[0].value.take();
            changed |= branch.value != value;
            branch.value = value;
            rest = &mut rest[1..];
        }
        while let Some(first) = rest.first() {
            let nibble = first.key.get_unchecked(level);
            let end = rest.iter().position(|update| update.key.get_unchecked(level) != nibble).unwrap_or(rest.len());
            let (group, others) = rest.split_at_mut(end);
            changed |= self.update(&mut branch.children[usize::from(nibble)], level + 1, group)?;
            rest = others;
        }
        if changed {
            branch.touch();
            self.normalize(node, &path)?;
        }
        Ok(changed)
    }

    /// Splits the extension of a branch where an insertion leaves it.
    fn split(&mut self, node: &mut Node, depth: usize, updates: &[Update]) -> bool {
        let Node::Branch(branch) = node else { return false };
        let shared = updates
            .iter()
            .filter(|update| update.value.is_some())
            .map(|update| update.key.slice(depth..).common_prefix_length(&branch.prefix))
            .min()
            .unwrap_or(branch.prefix.len());
        if shared == branch.prefix.len() {
            return false;
        }
        let path = updates[0].key.slice(..depth);
        if branch.stored {
            self.removed.push(record_key(self.prefix, &path));
            branch.stored = false;
        }
        let nibble = branch.prefix.get_unchecked(shared);
        let above = Branch::new(branch.prefix.slice(..shared));
        branch.prefix = branch.prefix.slice(shared + 1..);
        branch.touch();
        let below = std::mem::replace(node, Node::Branch(above));
        if let Node::Branch(above) = node {
            above.children[usize::from(nibble)] = below;
        }
        true
    }

    /// Replaces a branch with fewer than two entries by what is left of it. `path` includes its extension.
    fn normalize(&mut self, node: &mut Node, path: &Nibbles) -> Result<(), ReadError> {
        let Node::Branch(branch) = node else { return Ok(()) };
        let mut occupied = (0..16usize).filter(|&nibble| !branch.children[nibble].is_empty());
        let (first, second) = (occupied.next(), occupied.next());
        let place = path.slice(..path.len() - branch.prefix.len());
        match (first, second, branch.value.take()) {
            (None, _, None) => {
                self.forget(branch.stored, &place);
                *node = Node::Empty;
            }
            (None, _, Some(value)) => {
                self.forget(branch.stored, &place);
                *node = Leaf::node(branch.prefix, value);
            }
            (Some(nibble), None, None) => {
                let mut child_path = *path;
                child_path.push(nibble as u8);
                let mut child = std::mem::take(&mut branch.children[nibble]);
                if let Node::Stored(reference) = child {
                    child = load(self.source, self.prefix, &child_path, reference)?;
                }
                let mut prefix = branch.prefix;
                prefix.push(nibble as u8);
                let stored = branch.stored;
                *node = self.lift(child, prefix, &child_path, stored);
                if !matches!(node, Node::Branch(_)) {
                    self.forget(stored, &place);
                }
            }
            (_, _, value) => branch.value = value,
        }
        Ok(())
    }

    /// An only child takes the place of its branch: `prefix` is what lay between them.
    fn lift(&mut self, child: Node, mut prefix: Nibbles, child_path: &Nibbles, stored: bool) -> Node {
        match child {
            Node::Leaf(leaf) => {
                prefix.extend(&leaf.suffix);
                Leaf::node(prefix, leaf.value)
            }
            Node::Branch(mut below) => {
                self.forget(below.stored, child_path);
                prefix.extend(&below.prefix);
                below.prefix = prefix;
                below.stored = stored;
                below.touch();
                Node::Branch(below)
            }
            other => other,
        }
    }

    fn forget(&mut self, stored: bool, path: &Nibbles) {
        if stored {
            self.removed.push(record_key(self.prefix, path));
        }
    }
}

/// The updates whose keys run through `prefix` at `depth` (a contiguous range, as they are sorted).
fn within<'u>(updates: &'u mut [Update], depth: usize, prefix: &Nibbles) -> &'u mut [Update] {
    if prefix.is_empty() {
        return updates;
    }
    let inside = |update: &Update| update.key.slice(depth..).starts_with(prefix);
    let start = updates.iter().position(inside).unwrap_or(updates.len());
    let end = updates.iter().rposition(inside).map_or(start, |last| last + 1);
    &mut updates[start..end]
}

fn inserts(updates: &mut [Update]) -> Vec<Update> {
    updates
        .iter_mut()
        .filter(|update| update.value.is_some())
        .map(|update| Update { key: update.key, value: update.value.take() })
        .collect()
}

fn update_leaf(node: &mut Node, depth: usize, updates: &mut [Update]) -> bool {
    let Node::Leaf(leaf) = node else { return false };
    let mut key = updates[0].key.slice(..depth);
    key.extend(&leaf.suffix);
    let mut entries = match updates.iter().position(|update| update.key == key) {
        Some(at) if updates.len() == 1 => match updates[at].value.take() {
            Some(value) if value == leaf.value => return false,
            Some(value) => {
                leaf.value = value;
                leaf.reference = None;
                return true;
            }
            None => Vec::new(),
        },
        Some(_) => inserts(updates),
        None => {
            let mut entries = inserts(updates);
            if entries.is_empty() {
                return false;
            }
            let at = entries.partition_point(|entry| entry.key < key);
            entries.insert(at, Update { key, value: Some(std::mem::take(&mut leaf.value)) });
            entries
        }
    };
    *node = build(depth, &mut entries);
    true
}

/// The subtree of `entries` (sorted, distinct, all with values) below `depth`.
fn build(depth: usize, entries: &mut [Update]) -> Node {
    match entries {
        [] => Node::Empty,
        [only] => Leaf::node(only.key.slice(depth..), only.value.take().unwrap_or_default()),
        [first, .., last] => {
            let level = first.key.common_prefix_length(&last.key);
            let mut branch = Branch::new(first.key.slice(depth..level));
            let mut rest = entries;
            if rest[0].key.len() == level {
                branch.value = rest[0].value.take();
                rest = &mut rest[1..];
            }
            while let Some(first) = rest.first() {
                let nibble = first.key.get_unchecked(level);
                let end = rest.iter().position(|entry| entry.key.get_unchecked(level) != nibble).unwrap_or(rest.len());
                let (group, others) = rest.split_at_mut(end);
                branch.children[usize::from(nibble)] = build(level + 1, group);
                rest = others;
            }
            Node::Branch(branch)
        }
    }
}
