//! Byte-crunching kernels of storage: Merkle trees, segment proofs, the flow tree, proof of random access.
//!
//! Pure functions over bytes; the rules are those of the 0G storage contracts and node.
//!
//! * [`keccak`]: keccak-256 of many messages at once, in the lanes of vector registers.
//! * [`blake2b`]: BLAKE2b of many mixed messages at once.
//! * [`merkle`]: trees over 256-byte leaves; [`file`]: the tree of a whole file, streamed.
//! * [`segment`]: what makes a segment with its proof acceptable.
//! * [`flow`]: the append-only tree of the Flow contract.
//! * [`pora`]: sealing, scratch pads, the search for an answer and its check.

pub mod blake2b;
pub mod file;
pub mod flow;
pub mod keccak;
pub mod merkle;
pub mod pora;
pub mod segment;

/// A keccak-256 hash.
pub type Hash = [u8; 32];

/// Bytes of a leaf: "chunk" in a file, "sector" in the flow.
pub const LEAF: usize = 256;
/// Leaves of a segment ("load" in the flow).
pub const SEGMENT_LEAVES: usize = 1024;
/// Bytes of a segment.
pub const SEGMENT: usize = LEAF * SEGMENT_LEAVES;
/// Height of the perfect tree over a segment.
pub const SEGMENT_HEIGHT: usize = 10;
/// Largest file, bytes (64 TiB): keeps every computation far from its limits.
pub const MAX_FILE_SIZE: u64 = 1 << 46;

/// A refusal of these kernels.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DataError {
    /// An argument that no correct caller passes, or a file that cannot be read.
    #[error("{0}")]
    Invalid(String),
    /// A segment that is not acceptable: the field at fault and the detail, as the node's RPC answers them.
    #[error("{detail}")]
    Segment { field: &'static str, detail: &'static str },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

pub(crate) fn invalid<T>(text: impl Into<String>) -> Result<T, DataError> {
    Err(DataError::Invalid(text.into()))
}

#[cfg(test)]
mod tests;
