//! Whether a segment with its proof belongs to a file. Everything here comes from a stranger.

use super::merkle::{self, leaf_hashes, left_size, padded_leaves, zeros};
use super::{keccak, DataError, Hash, LEAF, MAX_FILE_SIZE, SEGMENT, SEGMENT_HEIGHT, SEGMENT_LEAVES};

/// Longest path of an acceptable proof: segments of the largest file are fewer than 2^this.
pub const MAX_PATH: usize = 40;

fn refuse<T>(field: &'static str, detail: &'static str) -> Result<T, DataError> {
    Err(DataError::Segment { field, detail })
}

/// A segment as it travels.
pub struct Segment<'a> {
    pub root: &'a Hash,
    pub file_size: u64,
    pub index: u64,
    pub data: &'a [u8],
    pub lemma: &'a [Hash],
    pub path: &'a [bool],
}

impl Segment<'_> {
    /// Checks every rule; the root of the segment in the padded file.
    pub fn verify(&self) -> Result<Hash, DataError> {
        self.check_lengths()?;
        let (lemma, path) = (self.lemma, self.path);
        let expected = if path.is_empty() { 1 } else { path.len() + 2 };
        if lemma.len() != expected || path.len() > MAX_PATH {
            return refuse("proof", "invalid proof");
        }
        let padded = padded_leaves(self.file_size);
        let segments = padded.div_ceil(SEGMENT_LEAVES as u64);
        let leaves = (padded - self.index * SEGMENT_LEAVES as u64).min(SEGMENT_LEAVES as u64);
        let mut hashes = vec![[0; 32]; leaves as usize];
        leaf_hashes(self.data, &mut hashes);
        let root = merkle::fold(&hashes);
        if !self.proves(&root, segments) {
            return refuse("proof", "validation failed");
        }
        if !self.padding_is_empty(segments) {
            return refuse("proof", "invalid proof node value in the padding range");
        }
        Ok(root)
    }

    fn check_lengths(&self) -> Result<(), DataError> {
        if self.data.is_empty() {
            return refuse("", "data is empty");
        }
        if !self.data.len().is_multiple_of(LEAF) {
            return refuse("", "invalid data length");
        }
        if self.file_size == 0 {
            return refuse("file_size", "file is empty");
        }
        if self.file_size > MAX_FILE_SIZE {
            return refuse("file_size", "file is too large");
        }
        let segments = self.file_size.div_ceil(SEGMENT as u64);
        if self.index >= segments {
            return refuse("index", "index out of bound");
        }
        let bytes = (self.file_size - self.index * SEGMENT as u64).min(SEGMENT as u64);
        if self.data.len() as u64 != bytes.next_multiple_of(LEAF as u64) {
            return refuse("data", "invalid data length");
        }
        Ok(())
    }

    /// Whether the path leads from leaf `index` of `segments` to the root, and the hashes with it.
    fn proves(&self, segment_root: &Hash, segments: u64) -> bool {
        let (mut left, mut position) = (segments, 0);
        for is_left in self.path.iter().rev() {
            if left < 2 {
                return false;
            }
            let half = left_size(left);
            if *is_left {
                left = half;
            } else {
                position += half;
                left -= half;
            }
        }
        if left != 1 || position != self.index || self.lemma[0] != *segment_root {
            return false;
        }
        let mut node = *segment_root;
        for (sibling, is_left) in self.lemma[1..].iter().zip(self.path) {
            node = if *is_left { keccak::pair(&node, sibling) } else { keccak::pair(sibling, &node) };
        }
        node == self.lemma[self.lemma.len() - 1] && node == *self.root
    }

    /// A sibling that covers only padding has the value of zeros.
    fn padding_is_empty(&self, segments: u64) -> bool {
        let filled = self.file_size.div_ceil(SEGMENT as u64);
        let (mut left, mut position) = (segments, 0);
        let siblings = self.lemma[..self.lemma.len() - 1].iter().rev();
        for (is_left, sibling) in self.path.iter().rev().zip(siblings) {
            let half = left_size(left);
            if !is_left {
                position += half;
                left -= half;
                continue;
            }
            left = half;
            let height = half.ilog2() as usize + SEGMENT_HEIGHT;
            if position + half >= filled && *sibling != zeros()[height] {
                return false;
            }
        }
        true
    }
}
