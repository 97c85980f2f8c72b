//! Decoding of JSON that comes from outside. Errors name the field that is wrong and speak of JSON, not of Rust types.

use serde::de::Deserialize;

/// Characters of an error: serde repeats names and values that come from outside.
const MAX_REASON: usize = 300;

/// What serde calls a Rust type, and the words for it. "untagged enum" comes before "enum".
const KINDS: [(&str, &str); 7] = [
    ("internally tagged enum ", "an object"),
    ("untagged enum ", "a value"),
    ("tuple struct ", "an array"),
    ("unit struct ", "null"),
    ("newtype struct ", "a value"),
    ("struct ", "an object"),
    ("enum ", "a name"),
];

/// Reads `text`. Only a failure pays for finding out where it happened.
pub fn from_json<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// [`from_json`] for bytes that may not be UTF-8.
pub fn from_json_bytes<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| match std::str::from_utf8(bytes) {
        Ok(text) => explain::<T>(text, &error),
        Err(_) => reason(&error),
    })
}

/// "path: reason", or the reason alone for the value as a whole.
fn explain<'de, T: Deserialize<'de>>(text: &'de str, error: &serde_json::Error) -> String {
    let mut json = serde_json::Deserializer::from_str(text);
    let Err(tracked) = serde_path_to_error::deserialize::<_, T>(&mut json) else { return reason(error) };
    // The path of a struct that serde buffers ends in places it cannot name.
    match tracked.path().to_string().as_str() {
        "" | "." | "?" => reason(error),
        path => cut(format!("{path}: {}", reason(tracked.inner()))),
    }
}

/// serde's text without its position, which is relative to a part of the input and misleads, and without type names.
pub fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    cut(plain(&text[..end]))
}

/// Puts plain words where serde names a Rust type.
fn plain(text: &str) -> String {
    if text.starts_with("data did not match any variant of untagged enum ") {
        return "the value has none of the accepted forms".to_owned();
    }
    // What was expected follows what was found, and only the latter comes from outside.
    let Some(at) = text.rfind("expected ") else { return text.to_owned() };
    let (before, expected) = text.split_at(at + "expected ".len());
    for (kind, words) in KINDS {
        if let Some(rest) = expected.strip_prefix(kind) {
            let name = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':' | '<' | '>'));
            return format!("{before}{words}{}", &rest[name.unwrap_or(rest.len())..]);
        }
    }
    text.to_owned()
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_REASON) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy_primitives::Address;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        count: u8,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Either {
        Text(String),
        Flag(bool),
    }

    fn refuse<'de, T: Deserialize<'de> + std::fmt::Debug>(text: &'de str) -> String {
        from_json::<T>(text).unwrap_err()
    }

    #[test]
    fn the_field_is_named_by_its_path() {
        let text = r#"{"a": [{"count": 1}, {"count": 300}]}"#;
        assert!(refuse::<BTreeMap<String, Vec<Inner>>>(text).starts_with("a[1].count: invalid value: integer `300`"));
    }

    #[test]
    fn a_wrong_key_is_named() {
        for text in [r#"{"0x12": {"count": 1}}"#, "{\n \"0x12\" : {\"count\": 1}}"] {
            assert_eq!(refuse::<BTreeMap<Address, Inner>>(text), "0x12: invalid string length");
        }
    }

    #[test]
    fn rust_types_are_not_named() {
        assert_eq!(refuse::<Inner>("5"), "invalid type: integer `5`, expected an object");
        assert_eq!(refuse::<Inner>("[]"), "invalid length 0, expected an object with 1 element");
        assert_eq!(refuse::<Either>("5"), "the value has none of the accepted forms");
        assert_eq!(
            refuse::<BTreeMap<String, Inner>>(r#"{"a": 5}"#),
            "a: invalid type: integer `5`, expected an object"
        );
    }

    #[test]
    fn a_missing_field_is_named_once() {
        assert_eq!(refuse::<Inner>("{}"), "missing field `count`");
    }
}
