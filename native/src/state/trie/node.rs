//! Trie nodes in memory and their Merkle-Patricia encoding.

use alloy_primitives::keccak256;
use alloy_trie::nodes::encode_path_leaf;
use alloy_trie::{Nibbles, EMPTY_ROOT_HASH};
use rayon::prelude::*;

use crate::primitives::B256;

/// How a parent names a child: the hash of its encoding, or the encoding itself when it is below 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// 32 for a hash.
    len: u8,
    bytes: [u8; 32],
}

impl Reference {
    pub(super) fn of(rlp: &[u8]) -> Reference {
        if rlp.len() >= 32 {
            return Reference::hashed(keccak256(rlp));
        }
        let mut bytes = [0; 32];
        bytes[..rlp.len()].copy_from_slice(rlp);
        Reference { len: rlp.len() as u8, bytes }
    }

    pub(super) fn hashed(hash: B256) -> Reference {
        Reference { len: 32, bytes: hash.0 }
    }

    /// `None` when the encoding is carried inline.
    pub(super) fn hash(&self) -> Option<B256> {
        (self.len == 32).then(|| B256::from(self.bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn encoded_len(&self) -> usize {
        usize::from(self.len) + usize::from(self.len == 32)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if self.len == 32 {
            out.push(0x80 + 32);
        }
        out.extend_from_slice(self.bytes());
    }
}

/// A place in the trie.
#[derive(Clone, Debug, Default)]
pub(super) enum Node {
    #[default]
    Empty,
    Leaf(Box<Leaf>),
    Branch(Box<Branch>),
    /// A branch that was not needed yet: its record lies in the store under its path.
    Stored(Reference),
}

#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) suffix: Nibbles,
    pub(super) value: Vec<u8>,
    /// `None` until sealed.
    pub(super) reference: Option<Reference>,
}

/// A branch together with the extension above it, if any: they have one record.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    /// The extension's path; empty for a plain branch.
    pub(super) prefix: Nibbles,
    pub(super) children: [Node; 16],
    /// Value of the key that ends here (never in the state's tries, whose keys have one length).
    pub(super) value: Option<Vec<u8>>,
    /// Of the extension when there is one; `None` until sealed.
    pub(super) reference: Option<Reference>,
    /// A record lies in the store under this place's path.
    pub(super) stored: bool,
    /// That record equals this branch.
    pub(super) saved: bool,
}

impl Leaf {
    pub(super) fn node(suffix: Nibbles, value: Vec<u8>) -> Node {
        Node::Leaf(Box::new(Leaf { suffix, value, reference: None }))
    }

    pub(super) fn rlp(&self, out: &mut Vec<u8>) {
        encode_pair(&encode_path_leaf(&self.suffix, true), &self.value, out);
    }

    fn seal(&mut self, scratch: &mut Vec<u8>) -> Reference {
        if let Some(reference) = self.reference {
            return reference;
        }
        scratch.clear();
        self.rlp(scratch);
        let reference = Reference::of(scratch);
        self.reference = Some(reference);
        reference
    }
}

impl Branch {
    pub(super) fn new(prefix: Nibbles) -> Box<Branch> {
        Box::new(Branch {
            prefix,
            children: Default::default(),
            value: None,
            reference: None,
            stored: false,
            saved: false,
        })
    }

    /// Something below or in this branch changed.
    pub(super) fn touch(&mut self) {
        self.reference = None;
        self.saved = false;
    }

    /// Encoding of the branch itself, without its extension. All children must be sealed.
    pub(super) fn branch_rlp(&self, out: &mut Vec<u8>) {
        let references = || self.children.iter().map(Node::reference);
        let value = self.value.as_deref().unwrap_or_default();
        let payload = references().map(|child| child.map_or(1, |child| child.encoded_len())).sum::<usize>()
            + alloy_rlp::Encodable::length(value);
        alloy_rlp::Header { list: true, payload_length: payload }.encode(out);
        for child in references() {
            match child {
                Some(child) => child.encode(out),
                None => out.push(0x80),
            }
        }
        alloy_rlp::Encodable::encode(value, out);
    }

    /// Encoding of the extension above the branch `child`.
    pub(super) fn extension_rlp(&self, child: &Reference, out: &mut Vec<u8>) {
        let path = encode_path_leaf(&self.prefix, false);
        let payload = alloy_rlp::Encodable::length(&path[..]) + child.encoded_len();
        alloy_rlp::Header { list: true, payload_length: payload }.encode(out);
        alloy_rlp::Encodable::encode(&path[..], out);
        child.encode(out);
    }

    fn seal(&mut self, scratch: &mut Vec<u8>) -> Reference {
        if let Some(reference) = self.reference {
            return reference;
        }
        for child in &mut self.children {
            child.seal(scratch);
        }
        self.seal_self(scratch)
    }

    fn seal_self(&mut self, scratch: &mut Vec<u8>) -> Reference {
        scratch.clear();
        self.branch_rlp(scratch);
        let mut reference = Reference::of(scratch);
        if !self.prefix.is_empty() {
            scratch.clear();
            self.extension_rlp(&reference, scratch);
            reference = Reference::of(scratch);
        }
        self.reference = Some(reference);
        reference
    }
}

impl Node {
    /// `None` for an empty place or one that is not sealed.
    pub(super) fn reference(&self) -> Option<Reference> {
        match self {
            Node::Empty => None,
            Node::Leaf(leaf) => leaf.reference,
            Node::Branch(branch) => branch.reference,
            Node::Stored(reference) => Some(*reference),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Node::Empty)
    }

    /// Computes the missing references of this place and everything below.
    pub(super) fn seal(&mut self, scratch: &mut Vec<u8>) {
        match self {
            Node::Leaf(leaf) => {
                leaf.seal(scratch);
            }
            Node::Branch(branch) => {
                branch.seal(scratch);
            }
            Node::Empty | Node::Stored(_) => {}
        }
    }

    /// `seal` on all cores: the sixteen children of the top branch side by side.
    pub(super) fn seal_parallel(&mut self) {
        if let Node::Branch(branch) = self {
            if branch.reference.is_none() {
                branch.children.par_iter_mut().for_each(|child| child.seal(&mut Vec::with_capacity(600)));
            }
        }
        self.seal(&mut Vec::with_capacity(600));
    }

    /// Hash of the trie whose root this is. Must be sealed.
    pub(super) fn root_hash(&self) -> B256 {
        self.reference()
            .map_or(EMPTY_ROOT_HASH, |reference| reference.hash().unwrap_or_else(|| keccak256(reference.bytes())))
    }
}

fn encode_pair(path: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let payload = alloy_rlp::Encodable::length(path) + alloy_rlp::Encodable::length(value);
    alloy_rlp::Header { list: true, payload_length: payload }.encode(out);
    alloy_rlp::Encodable::encode(path, out);
    alloy_rlp::Encodable::encode(value, out);
}
