//! Positional parameters of a call, borrowed from the request and decoded when a method asks.

use alloy_primitives::{Address, Bytes, B256, U256};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::codec::{self, HexError};
use super::error::RpcError;
use crate::decode;

/// No method of Ethereum takes more; a longer array is refused before it is stored.
const MAX_ARGUMENTS: usize = 32;

/// The elements of the `params` array. A trailing `null` counts as absent, as in geth.
#[derive(Clone, Debug, Default)]
pub struct Params<'p> {
    items: SmallVec<[&'p RawValue; 4]>,
}

impl<'p> Params<'p> {
    /// Splits the `params` member; a missing or `null` one has no elements.
    pub fn parse(raw: Option<&'p RawValue>) -> Result<Params<'p>, RpcError> {
        let Some(raw) = raw else { return Ok(Params::default()) };
        match raw.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str::<Elements<'p>>(raw.get())
                .map(|elements| Params { items: elements.0 })
                .map_err(|error| RpcError::invalid_params(decode::reason(&error))),
            Some(b'n') => Ok(Params::default()),
            _ => Err(RpcError::invalid_params("non-array args")),
        }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The element as it stands; `None` when it is absent or `null`.
    pub fn raw(&self, index: usize) -> Option<&'p RawValue> {
        self.items.get(index).copied().filter(|raw| raw.get() != "null")
    }

    /// -32602 when more than `count` elements came.
    pub fn at_most(&self, count: usize) -> Result<(), RpcError> {
        if self.items.len() > count {
            return Err(RpcError::invalid_params(format!("too many arguments, want at most {count}")));
        }
        Ok(())
    }

    pub fn required_raw(&self, index: usize) -> Result<&'p RawValue, RpcError> {
        self.raw(index).ok_or_else(|| missing(index))
    }

    /// Decodes through serde.
    pub fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        let raw = self.required_raw(index)?;
        decode::from_json(raw.get()).map_err(|why| invalid(index, why))
    }

    pub fn optional<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        match self.raw(index) {
            None => Ok(None),
            Some(raw) => decode::from_json(raw.get()).map(Some).map_err(|why| invalid(index, why)),
        }
    }

    pub fn address(&self, index: usize) -> Result<Address, RpcError> {
        self.hex(index, codec::parse_address)
    }

    pub fn hash(&self, index: usize) -> Result<B256, RpcError> {
        self.hex(index, codec::parse_hash)
    }

    pub fn data(&self, index: usize) -> Result<Bytes, RpcError> {
        self.hex(index, codec::parse_data)
    }

    pub fn quantity(&self, index: usize) -> Result<u64, RpcError> {
        self.hex(index, codec::parse_u64)
    }

    pub fn quantity_u256(&self, index: usize) -> Result<U256, RpcError> {
        self.hex(index, codec::parse_u256)
    }

    /// Any string value through one of [`codec`]'s parsers.
    pub fn hex<T>(&self, index: usize, parse: impl FnOnce(&str) -> Result<T, HexError>) -> Result<T, RpcError> {
        let raw = self.required_raw(index)?;
        codec::string(raw).and_then(|text| parse(&text)).map_err(|error| invalid(index, error))
    }
}

/// "missing value for required argument N"
pub fn missing(index: usize) -> RpcError {
    RpcError::invalid_params(format!("missing value for required argument {index}"))
}

/// "invalid argument N: why"
pub fn invalid(index: usize, why: impl std::fmt::Display) -> RpcError {
    RpcError::invalid_params(format!("invalid argument {index}: {why}"))
}

struct Elements<'p>(SmallVec<[&'p RawValue; 4]>);

impl<'de: 'p, 'p> Deserialize<'de> for Elements<'p> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split<'p>(std::marker::PhantomData<&'p ()>);
        impl<'de: 'p, 'p> Visitor<'de> for Split<'p> {
            type Value = Elements<'p>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array of arguments")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'p>, A::Error> {
                let mut items = SmallVec::new();
                while let Some(item) = seq.next_element::<&'de RawValue>()? {
                    if items.len() == MAX_ARGUMENTS {
                        return Err(serde::de::Error::custom(format_args!(
                            "too many arguments, want at most {MAX_ARGUMENTS}"
                        )));
                    }
                    items.push(item);
                }
                Ok(Elements(items))
            }
        }
        deserializer.deserialize_seq(Split(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn message<T: std::fmt::Debug>(result: Result<T, RpcError>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.code, super::super::error::INVALID_PARAMS);
        error.message.into_owned()
    }

    #[test]
    fn absent_null_and_empty_params_are_the_same() {
        for text in ["null", "[]", " [ ] ".trim()] {
            assert!(Params::parse(Some(&raw(text))).unwrap().is_empty());
        }
        assert!(Params::parse(None).unwrap().is_empty());
    }

    #[test]
    fn named_params_are_refused_by_positional_methods() {
        assert_eq!(message(Params::parse(Some(&raw("{\"a\":1}")))), "non-array args");
    }

    #[test]
    fn a_missing_argument_is_named_by_its_index() {
        let value = raw("[null]");
        let params = Params::parse(Some(&value)).unwrap();
        assert_eq!(message(params.address(0)), "missing value for required argument 0");
        assert_eq!(message(params.quantity(1)), "missing value for required argument 1");
    }

    #[test]
    fn an_invalid_argument_says_why() {
        let value = raw("[\"0x12\", 5, {\"x\": true}]");
        let params = Params::parse(Some(&value)).unwrap();
        assert_eq!(message(params.address(0)), "invalid argument 0: hex string has length 2, want 40 for address");
        assert_eq!(message(params.quantity(1)), "invalid argument 1: non-string");
        assert_eq!(message(params.required::<bool>(2)), "invalid argument 2: invalid type: map, expected a boolean");
    }

    #[test]
    fn surplus_arguments_are_refused() {
        let value = raw("[1,2,3]");
        let params = Params::parse(Some(&value)).unwrap();
        assert_eq!(message(params.at_most(2)), "too many arguments, want at most 2");
        let many = raw(&format!("[{}0]", "0,".repeat(40)));
        assert_eq!(message(Params::parse(Some(&many))), "too many arguments, want at most 32");
    }
}
