//! Requests of JSON-RPC 2.0: one call or a batch, borrowed from the bytes that came, and the frame of a response.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::error::{RpcError, PARSE_ERROR};
use super::json::Json;
use crate::decode;

/// One call. Without an id it is a notification and gets no response.
#[derive(Debug)]
pub struct Call<'a> {
    pub id: Option<&'a RawValue>,
    pub method: Cow<'a, str>,
    pub params: Option<&'a RawValue>,
}

/// A member of a request that is not a call: the id to answer under, and why.
#[derive(Debug)]
pub struct Invalid<'a> {
    pub id: Option<&'a RawValue>,
    pub error: RpcError,
}

pub type Item<'a> = Result<Call<'a>, Invalid<'a>>;

#[derive(Debug)]
pub enum Request<'a> {
    Single(Item<'a>),
    Batch(Vec<Item<'a>>),
}

/// Reads a body. An `Err` concerns the body as a whole and is answered under the id `null`.
pub fn parse(body: &[u8], max_batch: usize) -> Result<Request<'_>, RpcError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => batch(body, max_batch).map(Request::Batch),
        Some(_) => single(body).map(Request::Single),
        None => Err(RpcError::new(PARSE_ERROR, "parse error: the body is empty")),
    }
}

/// The wire form of a call; `null` members are told apart from absent ones where it matters.
#[derive(serde::Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn single(body: &[u8]) -> Result<Item<'_>, RpcError> {
    match serde_json::from_slice::<Wire<'_>>(body) {
        Ok(wire) => Ok(check(wire)),
        Err(error) if error.classify() == Category::Data => {
            // Well-formed so far but no call. The id is worth a second look: the client matches on it.
            match serde_json::from_slice::<&RawValue>(body) {
                Ok(raw) => Ok(Err(not_a_call(raw.get(), &error))),
                Err(error) => Err(parse_error(&error)),
            }
        }
        Err(error) => Err(parse_error(&error)),
    }
}

fn check(wire: Wire<'_>) -> Item<'_> {
    if let Some(id) = wire.id {
        if !matches!(id.get().as_bytes().first(), Some(b'"' | b'-' | b'n' | b'0'..=b'9')) {
            let error = RpcError::invalid_request("invalid request: id must be a string, a number or null");
            return Err(Invalid { id: None, error });
        }
    }
    if wire.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        let error = RpcError::invalid_request("invalid request: jsonrpc must be \"2.0\"");
        return Err(Invalid { id: wire.id, error });
    }
    if let Some(params) = wire.params {
        if !matches!(params.get().as_bytes().first(), Some(b'[' | b'{' | b'n')) {
            let error = RpcError::invalid_request("invalid request: params must be an array or an object");
            return Err(Invalid { id: wire.id, error });
        }
    }
    Ok(Call { id: wire.id, method: wire.method, params: wire.params })
}

fn not_a_call<'a>(text: &'a str, why: &serde_json::Error) -> Invalid<'a> {
    #[derive(serde::Deserialize)]
    struct Id<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        id: Option<&'a RawValue>,
    }
    let id = serde_json::from_str::<Id<'_>>(text)
        .ok()
        .and_then(|wire| wire.id)
        .filter(|id| matches!(id.get().as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')));
    Invalid { id, error: RpcError::invalid_request(format!("invalid request: {}", decode::reason(why))) }
}

fn parse_error(error: &serde_json::Error) -> RpcError {
    RpcError::new(PARSE_ERROR, format!("parse error: {}", cut(error.to_string())))
}

/// serde repeats unknown names in its texts; they come from outside.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    text
}

fn batch(body: &[u8], max_batch: usize) -> Result<Vec<Item<'_>>, RpcError> {
    let mut too_long = false;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let split = Split { max: max_batch, too_long: &mut too_long };
    let parts = deserializer
        .deserialize_seq(split)
        .and_then(|parts| deserializer.end().map(|()| parts))
        .map_err(|error| parse_error(&error))?;
    if too_long {
        return Err(RpcError::invalid_request(format!("batch too large: want at most {max_batch} calls")));
    }
    if parts.is_empty() {
        return Err(RpcError::invalid_request("empty batch"));
    }
    Ok(parts
        .into_iter()
        .map(|raw| match serde_json::from_str::<Wire<'_>>(raw.get()) {
            Ok(wire) => check(wire),
            Err(error) => Err(not_a_call(raw.get(), &error)),
        })
        .collect())
}

/// Collects the elements of a batch up to a bound; the rest is only scanned.
struct Split<'f> {
    max: usize,
    too_long: &'f mut bool,
}

impl<'de> Visitor<'de> for Split<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a batch of calls")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut parts = Vec::new();
        while parts.len() < self.max {
            match seq.next_element::<&'de RawValue>()? {
                Some(part) => parts.push(part),
                None => return Ok(parts),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            *self.too_long = true;
        }
        Ok(parts)
    }
}

/// Starts a response; `result` or `error` follows.
fn open(out: &mut Json, id: Option<&RawValue>) {
    out.raw("{\"jsonrpc\":\"2.0\",\"id\":");
    out.raw(id.map_or("null", RawValue::get));
}

/// Writes a response whose result `write` appends; an error takes its place.
pub fn respond(out: &mut Json, id: Option<&RawValue>, write: impl FnOnce(&mut Json) -> Result<(), RpcError>) {
    open(out, id);
    let start = out.len();
    out.raw(",\"result\":");
    match write(out) {
        Ok(()) => out.byte(b'}'),
        Err(error) => {
            out.truncate(start);
            close_with_error(out, &error);
        }
    }
}

pub fn respond_error(out: &mut Json, id: Option<&RawValue>, error: &RpcError) {
    open(out, id);
    close_with_error(out, error);
}

fn close_with_error(out: &mut Json, error: &RpcError) {
    out.raw(",\"error\":");
    out.error(error);
    out.byte(b'}');
}

/// True when `json` nests deeper than `limit`: what is handed to other parsers must not exhaust their stacks.
pub fn deeper_than(json: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::error::INVALID_REQUEST;
    use super::*;

    fn call(text: &str) -> Call<'_> {
        match parse(text.as_bytes(), 10).unwrap() {
            Request::Single(Ok(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    fn invalid(text: &str) -> (Option<String>, RpcError) {
        match parse(text.as_bytes(), 10).unwrap() {
            Request::Single(Err(invalid)) => (invalid.id.map(|id| id.get().to_owned()), invalid.error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ids_come_back_as_they_were_written() {
        for id in ["1", "-7", "1.50", "18446744073709551617123", "\"x\\u0041\"", "null"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
            assert_eq!(call(&text).id.unwrap().get(), id);
        }
    }

    #[test]
    fn a_call_without_id_is_a_notification() {
        assert!(call(r#"{"jsonrpc":"2.0","method":"m","params":[1]}"#).id.is_none());
    }

    #[test]
    fn escapes_in_a_method_name_are_decoded() {
        assert_eq!(call(r#"{"jsonrpc":"2.0","id":1,"method":"\u0065th"}"#).method, "eth");
    }

    #[test]
    fn malformed_json_is_a_parse_error() {
        for text in ["", "  ", "{", "nope", r#"{"jsonrpc":"2.0","id":1,"method":"m"}x"#, "[1,", "[]]", "\u{0}"] {
            let error = parse(text.as_bytes(), 10).unwrap_err();
            assert_eq!(error.code, PARSE_ERROR, "{text:?}: {error:?}");
        }
        assert_eq!(parse(b"{\"id\":\"\xff\"}", 10).unwrap_err().code, PARSE_ERROR);
    }

    #[test]
    fn a_wrong_shape_is_an_invalid_request_under_its_own_id() {
        for text in [
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":5}"#,
            r#"{"jsonrpc":"1.0","id":7,"method":"m"}"#,
            r#"{"id":7,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"m","params":3}"#,
            r#"{"jsonrpc":"2.0","id":7,"id":7,"method":"m"}"#,
        ] {
            let (id, error) = invalid(text);
            assert_eq!(error.code, INVALID_REQUEST, "{text}");
            if !text.contains(r#""id":7,"id":7"#) {
                assert_eq!(id.as_deref(), Some("7"), "{text}");
            }
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_an_invalid_request() {
        for text in ["5", "\"x\"", "true", "null"] {
            assert_eq!(invalid(text).1.code, INVALID_REQUEST);
        }
    }

    #[test]
    fn an_id_must_be_a_scalar() {
        let (id, error) = invalid(r#"{"jsonrpc":"2.0","id":{"a":1},"method":"m"}"#);
        assert_eq!((id, error.code), (None, INVALID_REQUEST));
    }

    #[test]
    fn a_bad_element_does_not_spoil_its_batch() {
        let Request::Batch(items) = parse(br#"[1,{"jsonrpc":"2.0","id":2,"method":"m"},{"foo":1}]"#, 10).unwrap()
        else {
            panic!("no batch")
        };
        assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn batches_are_bounded_and_not_empty() {
        assert_eq!(parse(b"[]", 10).unwrap_err().message, "empty batch");
        let text = format!("[{}1]", "1,".repeat(10));
        assert_eq!(parse(text.as_bytes(), 10).unwrap_err().message, "batch too large: want at most 10 calls");
        let text = format!("[{}1]", "1,".repeat(9));
        assert!(parse(text.as_bytes(), 10).is_ok());
    }

    #[test]
    fn deep_nesting_is_read_without_recursion() {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let call = call(&deep);
        assert!(deeper_than(call.params.unwrap().get(), 64));
        assert!(!deeper_than("[\"[[[[\\\"[[[[\", {}]", 2));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = parse(&body, 5);
        }

        #[test]
        fn a_mutilated_call_is_read_or_refused(cut in 0usize..80, at in 0usize..80, byte in proptest::num::u8::ANY) {
            let mut body = br#"[{"jsonrpc":"2.0","id":"a\"b","method":"eth_\u0061","params":[{"x":[1e3,null]}]}]"#.to_vec();
            let at = at % body.len();
            body[at] = byte;
            body.truncate(body.len() - cut % body.len());
            if let Ok(Request::Batch(items)) = parse(&body, 5) {
                for call in items.into_iter().flatten() {
                    let _ = crate::rpc::Params::parse(call.params);
                }
            }
        }

        #[test]
        fn a_call_survives_the_way_through_text(id in proptest::num::u64::ANY, method in "\\PC{0,20}", params in "\\PC{0,20}") {
            let text = serde_json::json!({"jsonrpc": "2.0", "id": id, "method": method, "params": [params]}).to_string();
            let call = call(&text);
            proptest::prop_assert_eq!(call.id.unwrap().get(), id.to_string());
            proptest::prop_assert_eq!(&*call.method, method.as_str());
            let params_read = crate::rpc::Params::parse(call.params).unwrap();
            proptest::prop_assert_eq!(params_read.required::<String>(0).unwrap(), params);
        }
    }

    #[test]
    fn a_failed_result_is_replaced_by_its_error() {
        let mut out = Json::new();
        respond(&mut out, None, |out| {
            out.raw("[1,2");
            Err(RpcError::server("no"))
        });
        assert_eq!(out.into_string(), r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no"}}"#);
    }
}
