//! Eight BLAKE2b states in the registers of AVX-512: word `i` of all of them is one vector.

use std::arch::x86_64::*;

use super::super::keccak::LANES;
use super::{Digest, Mixed, BLOCK};

/// Initial state (RFC 7693, section 2.6).
const IV: [u64; 8] = [
    0x6a09e667f3bcc908,
    0xbb67ae8584caa73b,
    0x3c6ef372fe94f82b,
    0xa54ff53a5f1d36f1,
    0x510e527fade682d1,
    0x9b05688c2b3e6c1f,
    0x1f83d9abfb41bd6b,
    0x5be0cd19137e2179,
];
/// What 64 bytes of output without a key add to the first word.
const PARAMETERS: u64 = 0x0101_0040;
/// Bytes of a register.
const WIDTH: usize = 64;

/// Even or odd words of eight rows, from pairs of rows, then blocks of 128 bits, even or odd ones of two vectors.
macro_rules! every_other {
    ($r:ident, $unpack:ident) => {{
        let (a, b) = ($unpack($r[0], $r[1]), $unpack($r[2], $r[3]));
        let (c, d) = ($unpack($r[4], $r[5]), $unpack($r[6], $r[7]));
        let (even, odd) = (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b));
        let (even2, odd2) = (_mm512_shuffle_i64x2::<0x88>(c, d), _mm512_shuffle_i64x2::<0xdd>(c, d));
        [
            _mm512_shuffle_i64x2::<0x88>(even, even2),
            _mm512_shuffle_i64x2::<0x88>(odd, odd2),
            _mm512_shuffle_i64x2::<0xdd>(even, even2),
            _mm512_shuffle_i64x2::<0xdd>(odd, odd2),
        ]
    }};
}

/// Word `i` of vector `j` becomes word `j` of vector `i`.
macro_rules! transpose {
    ($r:ident) => {{
        let [w0, w2, w4, w6] = every_other!($r, _mm512_unpacklo_epi64);
        let [w1, w3, w5, w7] = every_other!($r, _mm512_unpackhi_epi64);
        [w0, w1, w2, w3, w4, w5, w6, w7]
    }};
}

type Words = [__m512i; 16];

/// Digests of eight messages that are equally long; `None` on a processor without AVX-512.
pub(super) fn eight(messages: &[&Mixed<'_>; LANES]) -> Option<[Digest; LANES]> {
    // SAFETY: the processor has AVX-512F, as just asked (a cached flag).
    is_x86_feature_detected!("avx512f").then(|| unsafe { avx512(messages) })
}

/// The block of header, then the mixed blocks. All in one function: what crosses a call goes through memory.
#[target_feature(enable = "avx512f")]
fn avx512(messages: &[&Mixed<'_>; LANES]) -> [Digest; LANES] {
    let length = messages.iter().map(|message| message.data.len().min(message.mask.len())).min().unwrap_or(0);
    let mut state = [_mm512_setzero_si512(); 8];
    for (vector, word) in state.iter_mut().zip(IV) {
        *vector = _mm512_set1_epi64(word as i64);
    }
    state[0] = _mm512_xor_si512(state[0], _mm512_set1_epi64(PARAMETERS as i64));
    for done in (BLOCK..=BLOCK + length).step_by(BLOCK) {
        let mut low = [_mm512_setzero_si512(); LANES];
        let mut high = low;
        for (lane, message) in messages.iter().enumerate() {
            if done == BLOCK {
                low[lane] = load(&message.head[..WIDTH]);
                high[lane] = load(&message.head[WIDTH..]);
            } else {
                let (data, mask) =
                    (&message.data[done - 2 * BLOCK..][..BLOCK], &message.mask[done - 2 * BLOCK..][..BLOCK]);
                low[lane] = _mm512_xor_si512(load(&data[..WIDTH]), load(&mask[..WIDTH]));
                high[lane] = _mm512_xor_si512(load(&data[WIDTH..]), load(&mask[WIDTH..]));
            }
        }
        let [m0, m1, m2, m3, m4, m5, m6, m7] = transpose!(low);
        let [m8, m9, m10, m11, m12, m13, m14, m15] = transpose!(high);
        let block = [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15];
        compress(&mut state, &block, done as u64, done == BLOCK + length);
    }
    let mut digests = [[0; 64]; LANES];
    for (digest, vector) in digests.iter_mut().zip(transpose!(state)) {
        // SAFETY: a digest is 64 bytes, which are written.
        unsafe { _mm512_storeu_si512(digest.as_mut_ptr().cast(), vector) };
    }
    digests
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    assert!(bytes.len() == WIDTH);
    // SAFETY: `bytes` is the 64 bytes that are read; an unaligned load needs no more.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The compression function F of RFC 7693, section 3.2. `counter`: bytes so far with those of this block.
#[inline]
#[target_feature(enable = "avx512f")]
fn compress(state: &mut [__m512i; 8], m: &Words, counter: u64, last: bool) {
    let mut v = [_mm512_setzero_si512(); 16];
    v[..8].copy_from_slice(state);
    for (vector, word) in v[8..].iter_mut().zip(IV) {
        *vector = _mm512_set1_epi64(word as i64);
    }
    v[12] = _mm512_xor_si512(v[12], _mm512_set1_epi64(counter as i64));
    if last {
        v[14] = _mm512_xor_si512(v[14], _mm512_set1_epi64(-1));
    }
    /// Half of G in four columns or diagonals at once: `a += b + word; d = (d ^ a) >>> r; c += d; b = (b ^ c) >>> s`.
    macro_rules! mix {
        ($($a:literal $b:literal $c:literal $d:literal $x:literal),*; $r:literal, $s:literal) => {
            $(v[$a] = _mm512_add_epi64(_mm512_add_epi64(v[$a], m[$x]), v[$b]);)*
            $(v[$d] = _mm512_ror_epi64::<$r>(_mm512_xor_si512(v[$d], v[$a]));)*
            $(v[$c] = _mm512_add_epi64(v[$c], v[$d]);)*
            $(v[$b] = _mm512_ror_epi64::<$s>(_mm512_xor_si512(v[$b], v[$c]));)*
        };
    }
    /// Columns, then diagonals, with the words of the message in the order of one row of SIGMA.
    macro_rules! round {
        ($s0:literal $s1:literal $s2:literal $s3:literal $s4:literal $s5:literal $s6:literal $s7:literal
         $s8:literal $s9:literal $s10:literal $s11:literal $s12:literal $s13:literal $s14:literal $s15:literal) => {
            mix!(0 4 8 12 $s0, 1 5 9 13 $s2, 2 6 10 14 $s4, 3 7 11 15 $s6; 32, 24);
            mix!(0 4 8 12 $s1, 1 5 9 13 $s3, 2 6 10 14 $s5, 3 7 11 15 $s7; 16, 63);
            mix!(0 5 10 15 $s8, 1 6 11 12 $s10, 2 7 8 13 $s12, 3 4 9 14 $s14; 32, 24);
            mix!(0 5 10 15 $s9, 1 6 11 12 $s11, 2 7 8 13 $s13, 3 4 9 14 $s15; 16, 63);
        };
    }
    round!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3);
    round!(11 8 12 0 5 2 15 13 10 14 3 6 7 1 9 4);
    round!(7 9 3 1 13 12 11 14 2 6 5 10 4 0 15 8);
    round!(9 0 5 7 2 4 10 15 14 1 11 12 6 8 3 13);
    round!(2 12 6 10 0 11 8 3 4 13 7 5 15 14 1 9);
    round!(12 5 1 15 14 13 4 10 0 7 6 3 9 2 8 11);
    round!(13 11 7 14 12 1 3 9 5 0 15 4 8 6 2 10);
    round!(6 15 14 9 11 3 0 8 12 2 13 7 1 4 10 5);
    round!(10 2 8 4 7 6 1 5 15 11 9 14 3 12 13 0);
    round!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3);
    for (index, vector) in state.iter_mut().enumerate() {
        *vector = _mm512_ternarylogic_epi64::<0x96>(*vector, v[index], v[index + 8]);
    }
}
