//! keccak-256 of many messages of one length.
//!
//! The states of eight messages lie side by side ([`Lanes`]): word `i` of all of them is one vector. One permutation
//! over the eight costs about as much as one or two scalar ones where AVX-512 or AVX2 is there; which version runs
//! is found out once, at run time. Every version gives the results of the scalar one.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use super::Hash;

/// Messages that are hashed side by side.
pub const LANES: usize = 8;
/// Bytes that one permutation absorbs.
const RATE: usize = 136;

/// Eight keccak-f[1600] states, word by word.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Lanes(pub [[u64; LANES]; 25]);

impl Lanes {
    pub fn zero() -> Lanes {
        Lanes([[0; LANES]; 25])
    }

    /// keccak-f[1600] in every lane.
    #[inline]
    pub fn permute(&mut self) {
        backend().permute(self);
    }
}

/// A version of the permutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Backend {
    /// The versions that this machine can run, the fastest last.
    pub fn available() -> Vec<Backend> {
        #[allow(unused_mut)]
        let mut found = vec![Backend::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                found.push(Backend::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                found.push(Backend::Avx512);
            }
        }
        found
    }

    /// Whether one register holds a word of all [`LANES`].
    pub fn is_wide(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Backend::Avx512;
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// keccak-f[1600] in every lane. Falls back to the scalar version on a machine that lacks this one.
    #[inline]
    pub fn permute(self, lanes: &mut Lanes) {
        match self {
            Backend::Scalar => scalar::permute(lanes),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => x86::permute_avx2(lanes),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => x86::permute_avx512(lanes),
        }
    }

    fn hash_eight(self, messages: &[&[u8]; LANES], length: usize) -> [Hash; LANES] {
        let mut lanes = Lanes::zero();
        let mut at = 0;
        while length - at >= RATE {
            for (lane, message) in messages.iter().enumerate() {
                absorb(&mut lanes, lane, &message[at..at + RATE]);
            }
            self.permute(&mut lanes);
            at += RATE;
        }
        let tail = length - at;
        for (lane, message) in messages.iter().enumerate() {
            let mut block = [0; RATE];
            block[..tail].copy_from_slice(&message[at..length]);
            block[tail] = 1;
            block[RATE - 1] |= 0x80;
            let words = (tail / 8 + 1).min(RATE / 8);
            absorb(&mut lanes, lane, &block[..words * 8]);
            if words < RATE / 8 {
                lanes.0[16][lane] ^= 1 << 63;
            }
        }
        self.permute(&mut lanes);
        let mut hashes = [[0; 32]; LANES];
        for (lane, hash) in hashes.iter_mut().enumerate() {
            for (word, bytes) in hash.chunks_exact_mut(8).enumerate() {
                bytes.copy_from_slice(&lanes.0[word][lane].to_le_bytes());
            }
        }
        hashes
    }

    /// As [`many`], with this version.
    pub fn many(self, data: &[u8], length: usize, out: &mut [Hash]) {
        assert_eq!(data.len(), length * out.len(), "messages and hashes must match");
        let wide = if self == Backend::Scalar { 0 } else { out.len() / LANES * LANES };
        for first in (0..wide).step_by(LANES) {
            let messages: [&[u8]; LANES] = std::array::from_fn(|lane| &data[(first + lane) * length..][..length]);
            out[first..first + LANES].copy_from_slice(&self.hash_eight(&messages, length));
        }
        let rest = out.len() - wide;
        if self != Backend::Scalar && rest >= 3 {
            let messages: [&[u8]; LANES] =
                std::array::from_fn(|lane| &data[(wide + lane.min(rest - 1)) * length..][..length]);
            out[wide..].copy_from_slice(&self.hash_eight(&messages, length)[..rest]);
            return;
        }
        for index in wide..out.len() {
            out[index] = hash(&data[index * length..][..length]);
        }
    }
}

#[inline]
fn absorb(lanes: &mut Lanes, lane: usize, bytes: &[u8]) {
    for (word, bytes) in lanes.0.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut value = [0; 8];
        value.copy_from_slice(bytes);
        word[lane] ^= u64::from_le_bytes(value);
    }
}

/// The fastest version of this machine.
#[inline]
pub fn backend() -> Backend {
    static CHOSEN: OnceLock<Backend> = OnceLock::new();
    *CHOSEN.get_or_init(|| Backend::available().pop().unwrap_or(Backend::Scalar))
}

/// keccak-256 of one message.
#[inline]
pub fn hash(message: &[u8]) -> Hash {
    alloy_primitives::keccak256(message).0
}

/// keccak-256 of `left ‖ right`.
#[inline]
pub fn pair(left: &Hash, right: &Hash) -> Hash {
    let mut message = [0; 64];
    message[..32].copy_from_slice(left);
    message[32..].copy_from_slice(right);
    hash(&message)
}

/// keccak-256 of each of the messages of `length` bytes that lie one after the other in `data`.
pub fn many(data: &[u8], length: usize, out: &mut [Hash]) {
    backend().many(data, length, out);
}

#[cfg(test)]
mod tests;
