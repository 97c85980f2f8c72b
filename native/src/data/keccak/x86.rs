//! keccak-f[1600] in the vector registers of x86-64: eight states with AVX-512, four with AVX2.

use std::arch::x86_64::*;

use super::scalar::{self, ROUND_CONSTANTS};
use super::{Lanes, LANES};

/// One round over 25 vectors `$s`, written once for both widths: θ, ρ and π, χ, ι.
macro_rules! round {
    ($s:ident, $constant:expr, $xor3:ident, $xor:ident, $chi:ident, $rotate:ident) => {{
        let c0 = $xor3!($xor3!($s[0], $s[5], $s[10]), $s[15], $s[20]);
        let c1 = $xor3!($xor3!($s[1], $s[6], $s[11]), $s[16], $s[21]);
        let c2 = $xor3!($xor3!($s[2], $s[7], $s[12]), $s[17], $s[22]);
        let c3 = $xor3!($xor3!($s[3], $s[8], $s[13]), $s[18], $s[23]);
        let c4 = $xor3!($xor3!($s[4], $s[9], $s[14]), $s[19], $s[24]);
        let (r0, r1, r2) = ($rotate!(c0, 1), $rotate!(c1, 1), $rotate!(c2, 1));
        let (r3, r4) = ($rotate!(c3, 1), $rotate!(c4, 1));
        let b00 = $xor3!($s[0], c4, r1);
        let b01 = $rotate!($xor3!($s[6], c0, r2), 44);
        let b02 = $rotate!($xor3!($s[12], c1, r3), 43);
        let b03 = $rotate!($xor3!($s[18], c2, r4), 21);
        let b04 = $rotate!($xor3!($s[24], c3, r0), 14);
        let b05 = $rotate!($xor3!($s[3], c2, r4), 28);
        let b06 = $rotate!($xor3!($s[9], c3, r0), 20);
        let b07 = $rotate!($xor3!($s[10], c4, r1), 3);
        let b08 = $rotate!($xor3!($s[16], c0, r2), 45);
        let b09 = $rotate!($xor3!($s[22], c1, r3), 61);
        let b10 = $rotate!($xor3!($s[1], c0, r2), 1);
        let b11 = $rotate!($xor3!($s[7], c1, r3), 6);
        let b12 = $rotate!($xor3!($s[13], c2, r4), 25);
        let b13 = $rotate!($xor3!($s[19], c3, r0), 8);
        let b14 = $rotate!($xor3!($s[20], c4, r1), 18);
        let b15 = $rotate!($xor3!($s[4], c3, r0), 27);
        let b16 = $rotate!($xor3!($s[5], c4, r1), 36);
        let b17 = $rotate!($xor3!($s[11], c0, r2), 10);
        let b18 = $rotate!($xor3!($s[17], c1, r3), 15);
        let b19 = $rotate!($xor3!($s[23], c2, r4), 56);
        let b20 = $rotate!($xor3!($s[2], c1, r3), 62);
        let b21 = $rotate!($xor3!($s[8], c2, r4), 55);
        let b22 = $rotate!($xor3!($s[14], c3, r0), 39);
        let b23 = $rotate!($xor3!($s[15], c4, r1), 41);
        let b24 = $rotate!($xor3!($s[21], c0, r2), 2);
        $s[0] = $xor!($chi!(b00, b01, b02), $constant);
        $s[1] = $chi!(b01, b02, b03);
        $s[2] = $chi!(b02, b03, b04);
        $s[3] = $chi!(b03, b04, b00);
        $s[4] = $chi!(b04, b00, b01);
        $s[5] = $chi!(b05, b06, b07);
        $s[6] = $chi!(b06, b07, b08);
        $s[7] = $chi!(b07, b08, b09);
        $s[8] = $chi!(b08, b09, b05);
        $s[9] = $chi!(b09, b05, b06);
        $s[10] = $chi!(b10, b11, b12);
        $s[11] = $chi!(b11, b12, b13);
        $s[12] = $chi!(b12, b13, b14);
        $s[13] = $chi!(b13, b14, b10);
        $s[14] = $chi!(b14, b10, b11);
        $s[15] = $chi!(b15, b16, b17);
        $s[16] = $chi!(b16, b17, b18);
        $s[17] = $chi!(b17, b18, b19);
        $s[18] = $chi!(b18, b19, b15);
        $s[19] = $chi!(b19, b15, b16);
        $s[20] = $chi!(b20, b21, b22);
        $s[21] = $chi!(b21, b22, b23);
        $s[22] = $chi!(b22, b23, b24);
        $s[23] = $chi!(b23, b24, b20);
        $s[24] = $chi!(b24, b20, b21);
    }};
}

pub(super) fn permute_avx512(lanes: &mut Lanes) {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F, as just asked (a cached flag).
        unsafe { avx512(lanes) }
    } else {
        scalar::permute(lanes);
    }
}

pub(super) fn permute_avx2(lanes: &mut Lanes) {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as just asked (a cached flag).
        unsafe {
            avx2(lanes, 0);
            avx2(lanes, LANES / 2);
        }
    } else {
        scalar::permute(lanes);
    }
}

#[target_feature(enable = "avx512f")]
fn avx512(lanes: &mut Lanes) {
    macro_rules! xor3 {
        ($a:expr, $b:expr, $c:expr) => {
            _mm512_ternarylogic_epi64::<0x96>($a, $b, $c)
        };
    }
    macro_rules! xor {
        ($a:expr, $b:expr) => {
            _mm512_xor_si512($a, $b)
        };
    }
    macro_rules! chi {
        ($a:expr, $b:expr, $c:expr) => {
            _mm512_ternarylogic_epi64::<0xd2>($a, $b, $c)
        };
    }
    macro_rules! rotate {
        ($a:expr, $n:literal) => {
            _mm512_rol_epi64::<$n>($a)
        };
    }
    let mut s = [_mm512_setzero_si512(); 25];
    for (vector, words) in s.iter_mut().zip(&lanes.0) {
        // SAFETY: `words` is eight u64, the 64 bytes that are read; an unaligned load needs no more.
        *vector = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
    }
    for constant in ROUND_CONSTANTS {
        round!(s, _mm512_set1_epi64(constant as i64), xor3, xor, chi, rotate);
    }
    for (vector, words) in s.iter().zip(&mut lanes.0) {
        // SAFETY: `words` is eight u64, the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), *vector) };
    }
}

/// Four of the lanes, from `first` on.
#[target_feature(enable = "avx2")]
fn avx2(lanes: &mut Lanes, first: usize) {
    macro_rules! xor3 {
        ($a:expr, $b:expr, $c:expr) => {
            _mm256_xor_si256(_mm256_xor_si256($a, $b), $c)
        };
    }
    macro_rules! xor {
        ($a:expr, $b:expr) => {
            _mm256_xor_si256($a, $b)
        };
    }
    macro_rules! chi {
        ($a:expr, $b:expr, $c:expr) => {
            _mm256_xor_si256($a, _mm256_andnot_si256($b, $c))
        };
    }
    macro_rules! rotate {
        ($a:expr, $n:literal) => {{
            let value = $a;
            _mm256_or_si256(_mm256_slli_epi64::<$n>(value), _mm256_srli_epi64::<{ 64 - $n }>(value))
        }};
    }
    let mut s = [_mm256_setzero_si256(); 25];
    for (vector, words) in s.iter_mut().zip(&lanes.0) {
        let half = &words[first..first + LANES / 2];
        // SAFETY: `half` is four u64, the 32 bytes that are read; an unaligned load needs no more.
        *vector = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    }
    for constant in ROUND_CONSTANTS {
        round!(s, _mm256_set1_epi64x(constant as i64), xor3, xor, chi, rotate);
    }
    for (vector, words) in s.iter().zip(&mut lanes.0) {
        let half = &mut words[first..first + LANES / 2];
        // SAFETY: `half` is four u64, the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), *vector) };
    }
}
