//! The tree of the Flow contract: a perfect tree over all sectors, to which perfect subtrees are appended.
//!
//! Kept is the frontier: for every set bit of the length, the root of the complete subtree that ends there.

use super::merkle::{zeros, MAX_HEIGHT};
use super::{invalid, keccak, DataError, Hash, SEGMENT_LEAVES};

/// Version of [`FlowFrontier::state`].
const VERSION: u8 = 1;
/// Sectors of the longest flow.
const MAX_LENGTH: u64 = 1 << 62;

/// The flow as far as it must be known to append to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFrontier {
    length: u64,
    /// Roots by height, zero where the bit of `length` is not set.
    roots: [Hash; MAX_HEIGHT],
}

impl Default for FlowFrontier {
    /// A fresh flow: one leaf that is 32 zero bytes.
    fn default() -> FlowFrontier {
        FlowFrontier { length: 1, roots: [[0; 32]; MAX_HEIGHT] }
    }
}

/// First position from `length` on at which a subtree of `height` may stand.
fn align(length: u64, height: u32) -> u64 {
    length.next_multiple_of(1 << height)
}

impl FlowFrontier {
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends the nodes of a submission; the position of the first. Nothing changes on an error.
    ///
    /// A submission of at most one segment never crosses a segment border, a larger one starts on one.
    pub fn append(&mut self, nodes: &[(Hash, u32)]) -> Result<u64, DataError> {
        let Some((_, highest)) = nodes.first() else {
            return invalid("a submission has at least one node");
        };
        if nodes.windows(2).any(|pair| pair[0].1 <= pair[1].1) {
            return invalid("the heights of the nodes must fall strictly");
        }
        if *highest >= 62 {
            return invalid(format!("a node of height {highest} does not fit the flow"));
        }
        let size: u64 = nodes.iter().map(|(_, height)| 1 << height).sum();
        if self.length.next_multiple_of(1 << highest) > MAX_LENGTH - size - SEGMENT_LEAVES as u64 {
            return invalid(format!("{size} sectors do not fit a flow of {}", self.length));
        }
        let segment = SEGMENT_LEAVES as u64;
        let start = align(self.length, *highest);
        let within = start % segment;
        if within != 0 && start / segment != (start + size - 1) / segment {
            self.fill(start + segment - within);
        }
        let mut first = None;
        for (root, height) in nodes {
            let position = align(self.length, *height);
            self.fill(position);
            self.push(*root, *height as usize);
            first.get_or_insert(position);
        }
        Ok(first.unwrap_or(start))
    }

    /// Zero sectors up to `position`, in the largest subtrees that fit.
    fn fill(&mut self, position: u64) {
        while self.length < position {
            let aligned = self.length.trailing_zeros();
            let height = aligned.min((position - self.length).ilog2()) as usize;
            self.push(zeros()[height], height);
        }
    }

    fn push(&mut self, root: Hash, height: usize) {
        let (mut node, mut at) = (root, height);
        while self.length >> at & 1 == 1 {
            node = keccak::pair(&std::mem::take(&mut self.roots[at]), &node);
            at += 1;
        }
        self.roots[at] = node;
        self.length += 1 << height;
    }

    /// Root of the smallest perfect tree that holds the flow; zeros behind its end.
    pub fn root(&self) -> Hash {
        let lowest = self.length.trailing_zeros() as usize;
        let top = self.length.next_power_of_two().trailing_zeros() as usize;
        let mut node = self.roots[lowest];
        for height in lowest..top {
            node = if height > lowest && self.length >> height & 1 == 1 {
                keccak::pair(&self.roots[height], &node)
            } else {
                keccak::pair(&node, &zeros()[height])
            };
        }
        node
    }

    /// A version byte, the length (big-endian), and the roots of its set bits from the lowest up.
    pub fn state(&self) -> Vec<u8> {
        let mut state = vec![VERSION];
        state.extend(self.length.to_be_bytes());
        for height in (0..MAX_HEIGHT).filter(|height| self.length >> height & 1 == 1) {
            state.extend(self.roots[height]);
        }
        state
    }

    pub fn from_state(state: &[u8]) -> Result<FlowFrontier, DataError> {
        let Some((&[VERSION], rest)) = state.split_first_chunk() else {
            return invalid("this is no state of a flow, or one of another version");
        };
        let (length, roots) = match rest.split_first_chunk() {
            Some((length, roots)) => (u64::from_be_bytes(*length), roots),
            None => return invalid("the state of the flow is cut off"),
        };
        if length == 0 || length > MAX_LENGTH || roots.len() != length.count_ones() as usize * 32 {
            return invalid("the state of the flow contradicts itself");
        }
        let mut frontier = FlowFrontier { length, ..FlowFrontier::default() };
        let heights = (0..MAX_HEIGHT).filter(|height| length >> height & 1 == 1);
        for (height, root) in heights.zip(roots.chunks_exact(32)) {
            frontier.roots[height].copy_from_slice(root);
        }
        Ok(frontier)
    }
}
