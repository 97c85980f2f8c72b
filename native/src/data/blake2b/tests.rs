use proptest::prelude::*;

use super::*;

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

fn expected(message: &Mixed<'_>) -> Digest {
    let mut whole = Vec::new();
    message.write(&mut whole);
    *blake2b_simd::blake2b(&whole).as_array()
}

proptest! {
    #[test]
    fn every_version_hashes_like_the_plain_one(
        blocks in 1usize..40, count in 0usize..70, seed in any::<u64>(), heads in any::<[u8; 32]>(),
    ) {
        let length = blocks * BLOCK;
        let (data, masks) = (bytes(seed, count * length), bytes(!seed, count * length));
        let messages: Vec<Mixed<'_>> = (0..count)
            .map(|index| {
                let mut head = [0; BLOCK];
                head[..32].copy_from_slice(&heads);
                head[index] ^= 0xa5;
                let span = index * length..(index + 1) * length;
                Mixed { head, data: &data[span.clone()], mask: &masks[span] }
            })
            .collect();
        let expected: Vec<Digest> = messages.iter().map(expected).collect();
        for version in Backend::available() {
            let mut digests = vec![[0; 64]; count];
            many_with(version, &messages, &mut digests);
            prop_assert_eq!(&digests, &expected, "{:?}", version);
        }
    }
}

#[test]
fn a_message_is_its_head_and_the_mixed_data() {
    let mut message = Vec::new();
    Mixed { head: [3; BLOCK], data: &[0b1100; BLOCK], mask: &[0b1010; BLOCK] }.write(&mut message);
    assert_eq!(message, [[3; BLOCK], [0b0110; BLOCK]].concat());
}

#[test]
#[should_panic(expected = "equally long")]
fn messages_of_different_lengths_are_refused() {
    let data = [0; 2 * BLOCK];
    let messages = [128, 256].map(|length| Mixed { head: [0; BLOCK], data: &data[..length], mask: &data[..length] });
    many(&messages, &mut [[0; 64]; 2]);
}

#[test]
#[should_panic(expected = "blocks of 128 bytes")]
fn data_that_is_no_whole_blocks_is_refused() {
    let data = [0; BLOCK];
    many(&[Mixed { head: [0; BLOCK], data: &data[..127], mask: &data[..127] }], &mut [[0; 64]]);
}
