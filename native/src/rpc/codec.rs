//! Hex of JSON-RPC: quantities (no leading zeros) and data (whole bytes), strict as in geth.
//!
//! Errors are geth's texts; [`super::Params`] puts "invalid argument N: " before them.

use std::borrow::Cow;

use alloy_primitives::{hex, Address, Bytes, FixedBytes, B256, U256};
use serde_json::value::RawValue;

/// Why a hex value is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    #[error("empty hex string")]
    Empty,
    #[error("hex string without 0x prefix")]
    NoPrefix,
    #[error("hex string \"0x\"")]
    NoDigits,
    #[error("hex number with leading zero digits")]
    LeadingZero,
    #[error("hex number > {0} bits")]
    Wide(usize),
    #[error("hex string of odd length")]
    Odd,
    #[error("invalid hex string")]
    Digit,
    #[error("hex string has length {got}, want {want} for {what}")]
    Length { got: usize, want: usize, what: &'static str },
    #[error("non-string")]
    NotString,
}

fn digits(text: &str) -> Result<&[u8], HexError> {
    if text.is_empty() {
        return Err(HexError::Empty);
    }
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).map(str::as_bytes).ok_or(HexError::NoPrefix)
}

fn number_digits(text: &str) -> Result<&[u8], HexError> {
    let digits = digits(text)?;
    match digits {
        [] => Err(HexError::NoDigits),
        [b'0', _, ..] => Err(HexError::LeadingZero),
        _ => Ok(digits),
    }
}

fn nibble(digit: u8) -> Result<u8, HexError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(HexError::Digit),
    }
}

/// `0x0`, `0x1a`, … up to 64 bits.
pub fn parse_u64(text: &str) -> Result<u64, HexError> {
    let digits = number_digits(text)?;
    let mut value = 0u64;
    for digit in digits {
        let nibble = nibble(*digit)?;
        if value >> 60 != 0 {
            return Err(HexError::Wide(64));
        }
        value = value << 4 | u64::from(nibble);
    }
    Ok(value)
}

/// A quantity up to 128 bits (fees).
pub fn parse_u128(text: &str) -> Result<u128, HexError> {
    let wide = parse_u256(text)?;
    u128::try_from(wide).map_err(|_| HexError::Wide(128))
}

/// A quantity up to 256 bits.
pub fn parse_u256(text: &str) -> Result<U256, HexError> {
    let digits = number_digits(text)?;
    if digits.len() > 64 {
        for digit in digits {
            nibble(*digit)?;
        }
        return Err(HexError::Wide(256));
    }
    let mut limbs = [0u64; 4];
    for (position, digit) in digits.iter().rev().enumerate() {
        limbs[position / 16] |= u64::from(nibble(*digit)?) << (position % 16 * 4);
    }
    Ok(U256::from_limbs(limbs))
}

/// Whole bytes; `0x` is the empty string.
pub fn parse_data(text: &str) -> Result<Bytes, HexError> {
    let digits = digits(text)?;
    if digits.len() % 2 != 0 {
        return Err(HexError::Odd);
    }
    hex::decode(digits).map(Bytes::from).map_err(|_| HexError::Digit)
}

/// Exactly `N` bytes; `what` names the type in the error.
pub fn parse_fixed<const N: usize>(text: &str, what: &'static str) -> Result<FixedBytes<N>, HexError> {
    let digits = digits(text)?;
    if digits.len() % 2 != 0 {
        return Err(HexError::Odd);
    }
    if digits.len() != 2 * N {
        return Err(HexError::Length { got: digits.len(), want: 2 * N, what });
    }
    let mut bytes = [0u8; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| HexError::Digit)?;
    Ok(FixedBytes(bytes))
}

pub fn parse_address(text: &str) -> Result<Address, HexError> {
    parse_fixed::<20>(text, "address").map(Address::from)
}

pub fn parse_hash(text: &str) -> Result<B256, HexError> {
    parse_fixed::<32>(text, "hash")
}

/// The text of a JSON string; borrowed unless it holds escapes.
pub fn string(raw: &RawValue) -> Result<Cow<'_, str>, HexError> {
    let text = raw.get();
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(HexError::NotString)?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(text).map(Cow::Owned).map_err(|_| HexError::NotString)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_read_up_to_its_width() {
        assert_eq!(parse_u64("0x0"), Ok(0));
        assert_eq!(parse_u64("0xffffffffffffffff"), Ok(u64::MAX));
        assert_eq!(parse_u64("0x10000000000000000"), Err(HexError::Wide(64)));
        assert_eq!(parse_u256(&format!("0x{}", "f".repeat(64))), Ok(U256::MAX));
        assert_eq!(parse_u256(&format!("0x1{}", "0".repeat(64))), Err(HexError::Wide(256)));
        assert_eq!(parse_u128("0x100000000000000000000000000000000"), Err(HexError::Wide(128)));
    }

    #[test]
    fn a_malformed_quantity_is_refused_for_its_own_reason() {
        assert_eq!(parse_u64(""), Err(HexError::Empty));
        assert_eq!(parse_u64("12"), Err(HexError::NoPrefix));
        assert_eq!(parse_u64("0x"), Err(HexError::NoDigits));
        assert_eq!(parse_u64("0x01"), Err(HexError::LeadingZero));
        assert_eq!(parse_u64("0xg"), Err(HexError::Digit));
        assert_eq!(parse_u256("0x1g"), Err(HexError::Digit));
    }

    proptest::proptest! {
        #[test]
        fn a_quantity_survives_the_way_through_text(value in proptest::num::u64::ANY, shift in 0usize..192) {
            proptest::prop_assert_eq!(parse_u64(&format!("{value:#x}")), Ok(value));
            let wide = U256::from(value) << shift;
            proptest::prop_assert_eq!(parse_u256(&format!("{wide:#x}")), Ok(wide));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let prefixed = format!("0x{text}");
            for text in [&text, &prefixed] {
                let _ = (parse_u64(text), parse_u128(text), parse_u256(text), parse_data(text), parse_address(text));
            }
        }
    }

    #[test]
    fn data_wants_whole_bytes() {
        assert_eq!(parse_data("0x"), Ok(Bytes::new()));
        assert_eq!(parse_data("0xAbcd"), Ok(Bytes::from_static(&[0xab, 0xcd])));
        assert_eq!(parse_data("0xabc"), Err(HexError::Odd));
        assert_eq!(parse_data("0xzz"), Err(HexError::Digit));
    }

    #[test]
    fn an_address_wants_twenty_bytes() {
        let error = parse_address("0x1234").unwrap_err();
        assert_eq!(error.to_string(), "hex string has length 4, want 40 for address");
    }
}
