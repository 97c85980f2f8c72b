//! BLAKE2b-512 of many messages of one length, each a block of its own followed by data that is mixed with a mask.
//!
//! That is what a search for a proof of random access hashes: the pieces of a load, XORed with a scratch pad. With
//! AVX-512 eight messages lie side by side in vector registers, as in [`keccak`](super::keccak), and the mixing happens
//! on the way there; elsewhere the messages are put together and handed to `blake2b_simd`.

#[cfg(target_arch = "x86_64")]
mod x86;

use blake2b_simd::many::{hash_many, HashManyJob};
use blake2b_simd::Params;

use super::keccak::{self, Backend, LANES};

/// Bytes that one compression takes in.
pub const BLOCK: usize = 128;

/// BLAKE2b with 64 bytes of output.
pub type Digest = [u8; 64];

/// The message `head ‖ (data ⊕ mask)`. Data and mask are equally long: whole blocks, at least one.
#[derive(Clone, Copy)]
pub struct Mixed<'a> {
    pub head: [u8; BLOCK],
    pub data: &'a [u8],
    pub mask: &'a [u8],
}

impl Mixed<'_> {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend(self.data.iter().zip(self.mask).map(|(data, mask)| data ^ mask));
    }
}

/// Digests of messages that are equally long.
pub fn many(messages: &[Mixed<'_>], out: &mut [Digest]) {
    many_with(keccak::backend(), messages, out);
}

/// As [`many`], with the vector registers of a version of keccak.
fn many_with(version: Backend, messages: &[Mixed<'_>], out: &mut [Digest]) {
    assert_eq!(messages.len(), out.len(), "messages and digests must match");
    let Some(first) = messages.first() else { return };
    let length = first.data.len();
    let whole = length > 0 && length.is_multiple_of(BLOCK);
    assert!(whole, "data comes in blocks of {BLOCK} bytes, not {length}");
    for message in messages {
        assert!(message.data.len() == length && message.mask.len() == length, "messages are equally long");
    }
    for (messages, out) in messages.chunks(LANES).zip(out.chunks_mut(LANES)) {
        if version.is_wide() && messages.len() >= LANES / 2 {
            if let Some(digests) = eight(messages) {
                out.copy_from_slice(&digests[..messages.len()]);
                continue;
            }
        }
        portable(messages, out);
    }
}

/// One to eight messages in eight lanes; `None` on a processor without the registers.
fn eight(messages: &[Mixed<'_>]) -> Option<[Digest; LANES]> {
    #[cfg(target_arch = "x86_64")]
    {
        let lanes: [&Mixed<'_>; LANES] = std::array::from_fn(|lane| &messages[lane.min(messages.len() - 1)]);
        x86::eight(&lanes)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = messages;
        None
    }
}

fn portable(messages: &[Mixed<'_>], out: &mut [Digest]) {
    let Some(first) = messages.first() else { return };
    let length = BLOCK + first.data.len();
    let mut bytes = Vec::with_capacity(messages.len() * length);
    for message in messages {
        message.write(&mut bytes);
    }
    let params = Params::new();
    let mut jobs: Vec<HashManyJob<'_>> =
        bytes.chunks_exact(length).map(|message| HashManyJob::new(&params, message)).collect();
    hash_many(jobs.iter_mut());
    for (digest, job) in out.iter_mut().zip(&jobs) {
        *digest = *job.to_hash().as_array();
    }
}

#[cfg(test)]
mod tests;
