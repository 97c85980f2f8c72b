//! Arguments of a call, accepted and refused exactly as code of solc 0.8 does (its ABI coder v2): what that answers with
//! a revert without data is `None` here.

use crate::primitives::*;

/// Calldata behind its selector. Offsets count from there, trailing bytes are allowed, parts may overlap.
#[derive(Clone, Copy)]
pub struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    /// `None` for another selector or a head shorter than `words` words.
    pub fn of(input: &'a [u8], selector: [u8; 4], words: usize) -> Option<Arguments<'a>> {
        let rest = input.strip_prefix(&selector)?;
        (rest.len() >= words * 32).then_some(Arguments(rest))
    }

    /// Word `index`, which must lie in the head.
    pub fn word(&self, index: usize) -> &'a [u8; 32] {
        &self.0.as_chunks::<32>().0[index]
    }

    /// An unsigned integer of at most `bits` bits in word `index`.
    pub fn uint(&self, index: usize, bits: usize) -> Option<U256> {
        let value = U256::from_be_bytes(*self.word(index));
        (value.bit_len() <= bits).then_some(value)
    }

    pub fn address(&self, index: usize) -> Option<Address> {
        let word = self.word(index);
        word[..12].iter().all(|byte| *byte == 0).then(|| Address::from_slice(&word[12..]))
    }

    /// Dynamic `bytes` whose offset is word `index`.
    pub fn bytes(&self, index: usize) -> Option<&'a [u8]> {
        let offset = usize::try_from(self.uint(index, 64)?).ok()?;
        let tail = self.0.get(offset..)?;
        let (length, rest) = tail.split_first_chunk::<32>()?;
        let length = U256::from_be_bytes(*length);
        rest.get(..usize::try_from(length).ok()?)
    }
}

/// `bytes` or `string` in memory order: length, content, padding.
pub fn encode_bytes(into: &mut Vec<u8>, content: &[u8]) {
    into.extend(U256::from(content.len()).to_be_bytes::<32>());
    into.extend(content);
    into.resize(into.len().next_multiple_of(32), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELECTOR: [u8; 4] = [1, 2, 3, 4];

    fn words(values: &[U256]) -> Vec<u8> {
        let mut data = SELECTOR.to_vec();
        values.iter().for_each(|value| data.extend(value.to_be_bytes::<32>()));
        data
    }

    fn bytes_of(data: &[u8]) -> Option<&[u8]> {
        Arguments::of(data, SELECTOR, 1).and_then(|arguments| arguments.bytes(0))
    }

    #[test]
    fn a_dynamic_argument_may_lie_anywhere_and_need_not_be_padded() {
        let mut data = words(&[U256::from(33), U256::ZERO]);
        data.splice(36..37, [0]);
        data.truncate(36 + 1);
        data.extend(U256::from(3).to_be_bytes::<32>());
        data.extend(b"abc");
        assert_eq!(bytes_of(&data), Some(b"abc".as_slice()));
        data.extend(b"trailing");
        assert_eq!(bytes_of(&data), Some(b"abc".as_slice()));
        // An offset of zero: the offset is read as the length, too.
        assert_eq!(bytes_of(&words(&[U256::ZERO])), Some(b"".as_slice()));
    }

    #[test]
    fn what_does_not_lie_in_the_calldata_is_refused() {
        let huge = U256::from(u64::MAX);
        for head in [U256::from(33), U256::from(64), huge, huge + U256::from(1), U256::MAX] {
            assert_eq!(bytes_of(&words(&[head, U256::ZERO])), None, "{head}");
        }
        for length in [U256::from(1), huge, huge + U256::from(1), U256::MAX] {
            assert_eq!(bytes_of(&words(&[U256::from(32), length])), None, "{length}");
        }
        assert_eq!(bytes_of(&words(&[U256::from(32), U256::ZERO])), Some(b"".as_slice()));
        assert_eq!(bytes_of(&words(&[])), None);
        assert_eq!(bytes_of(&[1, 2, 3]), None);
        assert_eq!(bytes_of(&[0; 100]), None);
    }

    #[test]
    fn dirty_upper_bits_are_refused() {
        let data = words(&[U256::from(0x100), U256::from(1) << 160]);
        let arguments = Arguments::of(&data, SELECTOR, 2).unwrap();
        assert_eq!(arguments.uint(0, 8), None);
        assert_eq!(arguments.uint(0, 9), Some(U256::from(0x100)));
        assert_eq!(arguments.address(1), None);
        assert_eq!(arguments.address(0), Some(Address::from_word(B256::from(U256::from(0x100)))));
    }

    #[test]
    fn encoded_bytes_fill_whole_words() {
        for size in [0, 1, 32, 33] {
            let mut data = Vec::new();
            encode_bytes(&mut data, &vec![7; size]);
            assert_eq!(data.len(), 32 + size.next_multiple_of(32));
            let mut whole = words(&[U256::from(32)]);
            whole.extend(&data);
            assert_eq!(bytes_of(&whole), Some(vec![7; size].as_slice()));
        }
    }
}
