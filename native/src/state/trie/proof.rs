//! Merkle proofs: the encodings of the nodes on a key's path, as `eth_getProof` wants them.

use alloy_trie::Nibbles;

use super::node::{Node, Reference};
use super::{load, Records, Trie};
use crate::primitives::{Bytes, ReadError};

impl Trie {
    /// Nodes from the root towards `key`, up to its leaf or to the node that shows its absence. Nodes below
    /// 32 bytes are part of their parent and have no entry of their own; an empty trie has no nodes.
    pub(in crate::state) fn prove(&mut self, source: &dyn Records, key: &Nibbles) -> Result<Vec<Bytes>, ReadError> {
        self.root();
        let mut proof = Vec::new();
        let prefix = &self.prefix;
        let mut node = &mut self.root;
        let mut depth = 0;
        loop {
            if let Node::Stored(reference) = node {
                *node = load(source, prefix, &key.slice(..depth), *reference)?;
            }
            let mut rlp = Vec::new();
            match node {
                Node::Leaf(leaf) => {
                    leaf.rlp(&mut rlp);
                    push(&mut proof, rlp);
                    return Ok(proof);
                }
                Node::Branch(branch) => {
                    branch.branch_rlp(&mut rlp);
                    if !branch.prefix.is_empty() {
                        let mut extension = Vec::new();
                        branch.extension_rlp(&Reference::of(&rlp), &mut extension);
                        push(&mut proof, extension);
                        if !key.slice(depth..).starts_with(&branch.prefix) {
                            return Ok(proof);
                        }
                    }
                    push(&mut proof, rlp);
                    depth += branch.prefix.len();
                    if depth == key.len() {
                        return Ok(proof);
                    }
                    node = &mut branch.children[usize::from(key.get_unchecked(depth))];
                    depth += 1;
                }
                Node::Empty | Node::Stored(_) => return Ok(proof),
            }
        }
    }
}

/// The root has an entry whatever its size.
fn push(proof: &mut Vec<Bytes>, rlp: Vec<u8>) {
    if proof.is_empty() || rlp.len() >= 32 {
        proof.push(rlp.into());
    }
}
