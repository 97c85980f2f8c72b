use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn every_version_permutes_like_the_scalar_one(words in prop::collection::vec(any::<u64>(), 25 * LANES)) {
        let mut start = Lanes::zero();
        for (index, word) in words.iter().enumerate() {
            start.0[index / LANES][index % LANES] = *word;
        }
        let mut expected = start.clone();
        scalar::permute(&mut expected);
        for version in Backend::available() {
            let mut lanes = start.clone();
            version.permute(&mut lanes);
            prop_assert_eq!(&lanes.0, &expected.0, "{:?}", version);
        }
    }

    #[test]
    fn many_hashes_equal_single_ones(length in 0usize..700, count in 0usize..40, seed in any::<u64>()) {
        let data: Vec<u8> =
            (0..length * count).map(|i| (seed.wrapping_mul(i as u64 ^ 0x9e37_79b9) >> 24) as u8).collect();
        let expected: Vec<Hash> = (0..count).map(|i| hash(&data[i * length..(i + 1) * length])).collect();
        for version in Backend::available() {
            let mut hashes = vec![[0; 32]; count];
            version.many(&data, length, &mut hashes);
            prop_assert_eq!(&hashes, &expected, "{:?}", version);
        }
    }
}

#[test]
fn lengths_around_the_rate_are_padded_right() {
    for length in [0, 1, 7, 8, 127, 128, 129, 134, 135, 136, 137, 143, 144, 271, 272, 273] {
        let data: Vec<u8> = (0..length * 8).map(|i| i as u8).collect();
        for version in Backend::available() {
            let mut hashes = [[0; 32]; 8];
            version.many(&data, length, &mut hashes);
            for (lane, found) in hashes.iter().enumerate() {
                assert_eq!(*found, hash(&data[lane * length..(lane + 1) * length]), "{version:?} {length} {lane}");
            }
        }
    }
}
