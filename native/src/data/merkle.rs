//! Trees over 256-byte leaves. An odd last node is carried up unchanged, so that the left subtree of every node has
//! the largest power of two of leaves below its own count.

use std::sync::OnceLock;

use super::{invalid, keccak, DataError, Hash, LEAF, MAX_FILE_SIZE};

/// Heights of perfect trees of zeros that are known.
pub const MAX_HEIGHT: usize = 64;
/// Leaves that one thread hashes before it splits its work.
const SERIAL_LEAVES: u64 = 4096;

/// Roots of perfect trees of zero leaves, by height.
pub fn zeros() -> &'static [Hash; MAX_HEIGHT + 1] {
    static ZEROS: OnceLock<[Hash; MAX_HEIGHT + 1]> = OnceLock::new();
    ZEROS.get_or_init(|| {
        let mut roots = [keccak::hash(&[0; LEAF]); MAX_HEIGHT + 1];
        for height in 1..=MAX_HEIGHT {
            roots[height] = keccak::pair(&roots[height - 1], &roots[height - 1]);
        }
        roots
    })
}

/// Root of a perfect tree of `2^height` zero leaves.
pub fn empty_root(height: usize) -> Result<Hash, DataError> {
    match zeros().get(height) {
        Some(root) => Ok(*root),
        None => invalid(format!("a tree has a height from 0 to {MAX_HEIGHT}, not {height}")),
    }
}

/// Leaves that hold `size` bytes.
pub fn leaves_of(size: u64) -> u64 {
    size.div_ceil(LEAF as u64)
}

/// Leaves of a file of `size` bytes (at least one) with the padding that the flow adds.
pub fn padded_leaves(size: u64) -> u64 {
    let count = leaves_of(size);
    let power = count.next_power_of_two();
    let unit = if power < 16 { 1 } else { power >> 4 };
    if power == count {
        count
    } else {
        count.div_ceil(unit) * unit
    }
}

/// Largest power of two below `count`, which is at least 2.
pub fn left_size(count: u64) -> u64 {
    count.next_power_of_two() >> 1
}

/// Hashes of the leaves of `data`; the last is filled with zeros, leaves beyond the data are zeros.
pub fn leaf_hashes(data: &[u8], out: &mut [Hash]) {
    let whole = (data.len() / LEAF).min(out.len());
    keccak::many(&data[..whole * LEAF], LEAF, &mut out[..whole]);
    let rest = &data[whole * LEAF..];
    let mut next = whole;
    if !rest.is_empty() && next < out.len() {
        let mut leaf = [0; LEAF];
        leaf[..rest.len()].copy_from_slice(rest);
        out[next] = keccak::hash(&leaf);
        next += 1;
    }
    out[next..].fill(zeros()[0]);
}

/// The level above `level`.
fn parents(level: &[Hash]) -> Vec<Hash> {
    let mut above = vec![[0; 32]; level.len().div_ceil(2)];
    let pairs = level.len() / 2;
    keccak::many(level[..pairs * 2].as_flattened(), 64, &mut above[..pairs]);
    if level.len() % 2 == 1 {
        above[pairs] = level[level.len() - 1];
    }
    above
}

/// Root over hashes, of which there is at least one.
pub fn fold(hashes: &[Hash]) -> Hash {
    if let [only] = hashes {
        return *only;
    }
    let mut level = parents(hashes);
    while level.len() > 1 {
        level = parents(&level);
    }
    level[0]
}

/// Root of `count` zero leaves, of which there is at least one.
fn zero_tree(count: u64) -> Hash {
    let mut rest = count;
    let mut root: Option<Hash> = None;
    while rest > 0 {
        let height = rest.trailing_zeros() as usize;
        let node = zeros()[height];
        root = Some(root.map_or(node, |right| keccak::pair(&node, &right)));
        rest &= rest - 1;
    }
    root.unwrap_or(zeros()[0])
}

/// Root over `leaves` leaves, the first of which hold `data`.
fn tree(data: &[u8], leaves: u64) -> Hash {
    if data.is_empty() {
        return zero_tree(leaves);
    }
    if leaves <= SERIAL_LEAVES {
        let mut hashes = vec![[0; 32]; leaves as usize];
        leaf_hashes(data, &mut hashes);
        return fold(&hashes);
    }
    let left = left_size(leaves);
    let cut = (left * LEAF as u64).min(data.len() as u64) as usize;
    let (a, b) = rayon::join(|| tree(&data[..cut], left), || tree(&data[cut..], leaves - left));
    keccak::pair(&a, &b)
}

/// Root of non-empty `data`, extended with zero leaves to `leaves` (0: as many as the data has).
pub fn root(data: &[u8], leaves: u64) -> Result<Hash, DataError> {
    if data.is_empty() {
        return invalid("a tree needs data: 0 bytes have no root");
    }
    let count = leaves_of(data.len() as u64);
    if leaves != 0 && leaves < count {
        return invalid(format!("{} bytes are {count} leaves and do not fit {leaves}", data.len()));
    }
    if leaves > MAX_FILE_SIZE / LEAF as u64 {
        return invalid(format!("a tree has at most {} leaves, not {leaves}", MAX_FILE_SIZE / LEAF as u64));
    }
    Ok(tree(data, leaves.max(count)))
}

/// All levels over `leaves` hashes, from the leaves up to the root.
pub fn levels(leaves: Vec<Hash>) -> Vec<Vec<Hash>> {
    let mut levels = vec![leaves];
    while let Some(last) = levels.last().filter(|level| level.len() > 1) {
        let above = parents(last);
        levels.push(above);
    }
    levels
}

/// Siblings and sides of a leaf: `[item, siblings bottom … top, root]` (the root alone for a single leaf), and for
/// every level whether the node is the left child.
pub type Proof = (Vec<Hash>, Vec<bool>);

/// Proof of leaf `index` out of the [`levels`] of a tree.
pub fn proof(levels: &[Vec<Hash>], index: usize) -> Result<Proof, DataError> {
    let count = levels.first().map_or(0, Vec::len);
    if index >= count {
        return invalid(format!("there are {count} segments; none has index {index}"));
    }
    let mut lemma = vec![levels[0][index]];
    let mut path = Vec::new();
    let mut at = index;
    for level in levels {
        if let Some(sibling) = level.get(at ^ 1) {
            lemma.push(*sibling);
            path.push(at.is_multiple_of(2));
        }
        at /= 2;
    }
    if let (true, Some(top)) = (count > 1, levels.last()) {
        lemma.push(top[0]);
    }
    Ok((lemma, path))
}

/// All levels of the perfect tree over `leaves` leaves, bottom to top, one after the other; `data` fills the first.
pub fn subtree(data: &[u8], leaves: u64) -> Result<Vec<Hash>, DataError> {
    const MOST: u64 = 1 << 20;
    if !leaves.is_power_of_two() || leaves > MOST {
        return invalid(format!("a perfect tree here has a power of two of leaves, at most {MOST}, not {leaves}"));
    }
    if leaves_of(data.len() as u64) > leaves {
        return invalid(format!("{} bytes do not fit {leaves} leaves", data.len()));
    }
    let mut hashes = vec![[0; 32]; leaves as usize];
    leaf_hashes(data, &mut hashes);
    Ok(levels(hashes).concat())
}
