//! Trie records: a branch with its extension and its leaves in one value.
//!
//! A branch has to be rewritten whenever one of its leaves changes, so the leaves lie inside it: half the
//! rows, half the reads. Children that are branches have rows of their own and are named by reference.
//!
//! ```text
//! kind 1 (branch) or 2 (leaf: only the root of a trie with one key)
//! branch: path of the extension ‖ flag: has value ‖ [value] ‖ three bit maps of 2 bytes:
//!         occupied, leaf, inline ‖ per occupied child: reference ‖ [leaf: path ‖ value]
//! path:   nibble count ‖ packed nibbles
//! reference: 32 bytes of hash, or for an inline child its length and encoding (nothing for a leaf)
//! value:  length · 2 + cut ‖ bytes; cut: the bytes end where the tail of an account without storage and
//!         code would follow
//! ```

use alloy_primitives::KECCAK256_EMPTY;
use alloy_trie::{Nibbles, EMPTY_ROOT_HASH};

use super::node::{Branch, Leaf, Node, Reference};
use crate::state::codec::{put_varint, Malformed, Reader};

const BRANCH: u8 = 1;
const LEAF: u8 = 2;

/// RLP of an empty storage root and an empty code hash: how most account values end.
const TAIL: [u8; 66] = {
    let mut tail = [0xa0; 66];
    let mut at = 0;
    while at < 32 {
        tail[1 + at] = EMPTY_ROOT_HASH.0[at];
        tail[34 + at] = KECCAK256_EMPTY.0[at];
        at += 1;
    }
    tail
};

/// Record of a branch whose children are sealed.
pub(super) fn encode_branch(branch: &Branch) -> Vec<u8> {
    let mut out = Vec::with_capacity(640);
    out.push(BRANCH);
    put_path(&mut out, &branch.prefix);
    out.push(u8::from(branch.value.is_some()));
    if let Some(value) = &branch.value {
        put_value(&mut out, value);
    }
    let (mut occupied, mut leaves, mut inline) = (0u16, 0u16, 0u16);
    for (index, child) in branch.children.iter().enumerate() {
        let Some(reference) = child.reference() else { continue };
        occupied |= 1 << index;
        leaves |= u16::from(matches!(child, Node::Leaf(_))) << index;
        inline |= u16::from(reference.hash().is_none()) << index;
    }
    for map in [occupied, leaves, inline] {
        out.extend_from_slice(&map.to_be_bytes());
    }
    for child in &branch.children {
        let Some(reference) = child.reference() else { continue };
        let leaf = match child {
            Node::Leaf(leaf) => Some(leaf),
            _ => None,
        };
        if reference.hash().is_some() {
            out.extend_from_slice(reference.bytes());
        } else if leaf.is_none() {
            out.push(reference.bytes().len() as u8);
            out.extend_from_slice(reference.bytes());
        }
        if let Some(leaf) = leaf {
            put_path(&mut out, &leaf.suffix);
            put_value(&mut out, &leaf.value);
        }
    }
    out
}

/// Record of a trie that is one leaf.
pub(super) fn encode_root_leaf(leaf: &Leaf) -> Vec<u8> {
    let mut out = vec![LEAF];
    put_path(&mut out, &leaf.suffix);
    put_value(&mut out, &leaf.value);
    out
}

/// The node of a record; `reference` is how its parent names it.
pub(super) fn decode(bytes: &[u8], reference: Reference) -> Result<Node, Malformed> {
    let mut reader = Reader::new(bytes, "trie");
    let node = match reader.byte()? {
        LEAF => {
            let (suffix, value) = (path(&mut reader)?, value(&mut reader)?);
            Node::Leaf(Box::new(Leaf { suffix, value, reference: Some(reference) }))
        }
        BRANCH => Node::Branch(branch(&mut reader, reference)?),
        _ => return Err(Malformed("trie")),
    };
    reader.finish()?;
    Ok(node)
}

fn branch(reader: &mut Reader<'_>, reference: Reference) -> Result<Box<Branch>, Malformed> {
    let mut branch = Branch::new(path(reader)?);
    branch.reference = Some(reference);
    branch.stored = true;
    branch.saved = true;
    if reader.byte()? != 0 {
        branch.value = Some(value(reader)?);
    }
    let occupied = u16::from_be_bytes(reader.array()?);
    let leaves = u16::from_be_bytes(reader.array()?);
    let inline = u16::from_be_bytes(reader.array()?);
    for (index, child) in branch.children.iter_mut().enumerate() {
        let has = |map: u16| map & 1 << index != 0;
        if !has(occupied) {
            continue;
        }
        let reference = match (has(inline), has(leaves)) {
            (false, _) => Some(Reference::hashed(reader.hash()?)),
            (true, true) => None,
            (true, false) => {
                let length = usize::from(reader.byte()?);
                if length >= 32 {
                    return Err(Malformed("trie"));
                }
                Some(Reference::of(reader.take(length)?))
            }
        };
        *child = if has(leaves) {
            let (suffix, value) = (path(reader)?, value(reader)?);
            let mut leaf = Leaf { suffix, value, reference };
            if reference.is_none() {
                let mut rlp = Vec::with_capacity(32);
                leaf.rlp(&mut rlp);
                leaf.reference = Some(Reference::of(&rlp));
            }
            Node::Leaf(Box::new(leaf))
        } else {
            Node::Stored(reference.ok_or(Malformed("trie"))?)
        };
    }
    Ok(branch)
}

fn put_path(out: &mut Vec<u8>, path: &Nibbles) {
    out.push(path.len() as u8);
    out.extend_from_slice(&path.pack());
}

fn path(reader: &mut Reader<'_>) -> Result<Nibbles, Malformed> {
    let length = usize::from(reader.byte()?);
    if length > 64 {
        return Err(Malformed("trie"));
    }
    let mut path = Nibbles::unpack(reader.take(length.div_ceil(2))?);
    path.truncate(length);
    Ok(path)
}

fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    let (kept, cut) = match value.strip_suffix(&TAIL) {
        Some(front) => (front, 1),
        None => (value, 0),
    };
    put_varint(out, (kept.len() as u128) << 1 | cut);
    out.extend_from_slice(kept);
}

fn value(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let header = reader.length()?;
    let kept = reader.take(header >> 1)?;
    let mut value = Vec::with_capacity(kept.len() + if header & 1 == 1 { TAIL.len() } else { 0 });
    value.extend_from_slice(kept);
    if header & 1 == 1 {
        value.extend_from_slice(&TAIL);
    }
    Ok(value)
}
