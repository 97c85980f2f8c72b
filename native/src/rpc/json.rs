//! Writes JSON straight into the response buffer: no tree of values, no copies.
//!
//! ```ignore
//! let mut object = out.object();
//! object.field("number").quantity(7);
//! object.field("hash").hex(hash.as_slice());
//! object.end();
//! ```

use alloy_primitives::{hex, U256};
use serde::Serialize;

use super::error::RpcError;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A growing JSON text. Every method appends exactly one value (or a piece of one).
#[derive(Debug, Default)]
pub struct Json {
    bytes: Vec<u8>,
}

impl Json {
    pub fn new() -> Json {
        Json::default()
    }

    pub fn with_capacity(capacity: usize) -> Json {
        Json { bytes: Vec::with_capacity(capacity) }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes back everything after `length`: a method that failed half-way leaves no trace.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    pub fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional);
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn into_string(self) -> String {
        String::from_utf8(self.bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Bytes that are JSON already (or a piece of it).
    pub fn raw(&mut self, json: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(json.as_ref());
    }

    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub fn null(&mut self) {
        self.raw("null");
    }

    pub fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// A plain JSON integer.
    pub fn number(&mut self, value: i64) {
        self.raw(itoa::Buffer::new().format(value));
    }

    /// `"0x…"` without leading zeros.
    pub fn quantity(&mut self, value: u64) {
        let mut text = [0u8; 19];
        let mut at = text.len() - 1;
        text[at] = b'"';
        let mut rest = value;
        loop {
            at -= 1;
            text[at] = DIGITS[(rest & 15) as usize];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        self.raw("\"0x");
        self.bytes.extend_from_slice(&text[at..]);
    }

    pub fn quantity_u128(&mut self, value: u128) {
        match u64::try_from(value) {
            Ok(small) => self.quantity(small),
            Err(_) => self.quantity_u256(&U256::from(value)),
        }
    }

    pub fn quantity_u256(&mut self, value: &U256) {
        let mut text = [0u8; 64];
        let limbs = value.as_limbs();
        for (position, slot) in text.iter_mut().rev().enumerate() {
            *slot = DIGITS[(limbs[position / 16] >> (position % 16 * 4) & 15) as usize];
        }
        let zeros = text.iter().take(63).take_while(|digit| **digit == b'0').count();
        self.raw("\"0x");
        self.bytes.extend_from_slice(&text[zeros..]);
        self.byte(b'"');
    }

    /// `"0x…"`, two digits a byte.
    pub fn hex(&mut self, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        self.raw("\"0x");
        let start = self.bytes.len();
        self.bytes.resize(start + 2 * data.len(), 0);
        // The slice has the exact length, the only thing that encoding can fail on.
        let _ = hex::encode_to_slice(data, &mut self.bytes[start..]);
        self.byte(b'"');
    }

    /// A 32-byte word of a number, zero-padded (storage values).
    pub fn word(&mut self, value: &U256) {
        self.hex(value.to_be_bytes::<32>());
    }

    /// A JSON string, escaped.
    pub fn string(&mut self, text: &str) {
        self.value(text);
    }

    /// Anything serde can serialise. A value that cannot be JSON (a map with odd keys) becomes `null`.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        let start = self.bytes.len();
        if serde_json::to_writer(&mut self.bytes, value).is_err() {
            self.bytes.truncate(start);
            self.null();
        }
    }

    /// An array of `items`, each written by `write`.
    pub fn array<I: IntoIterator>(&mut self, items: I, mut write: impl FnMut(&mut Json, I::Item)) {
        self.byte(b'[');
        let mut first = true;
        for item in items {
            if !first {
                self.byte(b',');
            }
            first = false;
            write(self, item);
        }
        self.byte(b']');
    }

    pub fn object(&mut self) -> Object<'_> {
        self.byte(b'{');
        Object { json: self, first: true }
    }

    /// `{"code":…,"message":…[,"data":…]}`
    pub fn error(&mut self, error: &RpcError) {
        self.raw("{\"code\":");
        self.number(error.code);
        self.raw(",\"message\":");
        self.string(&error.message);
        if let Some(data) = &error.data {
            self.raw(",\"data\":");
            self.raw(data);
        }
        self.byte(b'}');
    }
}

/// An object under construction; `end` closes it.
#[must_use = "an object is closed with `end`"]
pub struct Object<'j> {
    json: &'j mut Json,
    first: bool,
}

impl Object<'_> {
    /// Writes the key; the caller then writes exactly one value.
    pub fn field(&mut self, name: &str) -> &mut Json {
        if !self.first {
            self.json.byte(b',');
        }
        self.first = false;
        self.json.byte(b'"');
        self.json.raw(name);
        self.json.raw("\":");
        self.json
    }

    pub fn end(self) {
        self.json.byte(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(f: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::new();
        f(&mut json);
        json.into_string()
    }

    #[test]
    fn quantities_have_no_leading_zeros() {
        assert_eq!(written(|j| j.quantity(0)), "\"0x0\"");
        assert_eq!(written(|j| j.quantity(0x1a2)), "\"0x1a2\"");
        assert_eq!(written(|j| j.quantity(u64::MAX)), "\"0xffffffffffffffff\"");
        assert_eq!(written(|j| j.quantity_u256(&U256::ZERO)), "\"0x0\"");
        assert_eq!(written(|j| j.quantity_u256(&U256::MAX)), format!("\"0x{}\"", "f".repeat(64)));
        assert_eq!(written(|j| j.quantity_u128(1 << 64)), "\"0x10000000000000000\"");
    }

    #[test]
    fn objects_and_arrays_nest() {
        let text = written(|j| {
            let mut object = j.object();
            object.field("a").array([1u64, 2], |j, n| j.quantity(n));
            object.field("b").hex([0xde, 0xad]);
            object.field("c").string("q\"\n");
            object.end();
        });
        assert_eq!(text, r#"{"a":["0x1","0x2"],"b":"0xdead","c":"q\"\n"}"#);
    }

    #[test]
    fn an_error_carries_its_data() {
        let error = RpcError::new(3, "execution reverted").with_bytes(&[1]);
        assert_eq!(written(|j| j.error(&error)), r#"{"code":3,"message":"execution reverted","data":"0x01"}"#);
    }
}
