//! The error object of JSON-RPC, shaped and worded as geth does: clients match on code and text.

use std::borrow::Cow;

use alloy_primitives::hex;

use crate::engine::EngineError;
use crate::execution::CallError;
use crate::pool::PoolError;
use crate::primitives::ReadError;
use crate::state::StateError;

pub const PARSE_ERROR: i64 = -32700;
pub const INVALID_REQUEST: i64 = -32600;
pub const METHOD_NOT_FOUND: i64 = -32601;
pub const INVALID_PARAMS: i64 = -32602;
pub const INTERNAL: i64 = -32603;
/// geth's default for everything that a method itself refuses.
pub const SERVER: i64 = -32000;
/// EIP-1474 "resource not found".
pub const NOT_FOUND: i64 = -32001;
/// EIP-1474 "limit exceeded".
pub const LIMIT: i64 = -32005;

/// What goes into the `error` member of a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    pub code: i64,
    pub message: Cow<'static, str>,
    /// Serialised JSON.
    pub data: Option<String>,
}

impl RpcError {
    pub fn new(code: i64, message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError { code, message: message.into(), data: None }
    }

    /// -32000: the method ran and refuses.
    pub fn server(message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError::new(SERVER, message)
    }

    /// -32602 with the text as it is (positional errors come from [`super::Params`]).
    pub fn invalid_params(message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError::new(INVALID_PARAMS, message)
    }

    /// -32600.
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError::new(INVALID_REQUEST, message)
    }

    /// -32603: a failure below the method that no input explains.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError::new(INTERNAL, message)
    }

    /// -32001.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError::new(NOT_FOUND, message)
    }

    /// -32005: a bound of the server was reached.
    pub fn limit(message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError::new(LIMIT, message)
    }

    /// -32601 as geth words it.
    pub fn method_not_found(method: &str) -> RpcError {
        // A hostile name must not come back megabytes long.
        let shown: String = method.chars().take(100).collect();
        RpcError::new(METHOD_NOT_FOUND, format!("the method {shown} does not exist/is not available"))
    }

    /// Attaches `data` as a `0x…` string.
    #[must_use]
    pub fn with_bytes(mut self, data: &[u8]) -> RpcError {
        self.data = Some(format!("\"{}\"", hex::encode_prefixed(data)));
        self
    }

    /// Attaches `data`, which is JSON already.
    #[must_use]
    pub fn with_data(mut self, json: String) -> RpcError {
        self.data = Some(json);
        self
    }
}

impl From<ReadError> for RpcError {
    fn from(error: ReadError) -> RpcError {
        match error {
            ReadError::Pruned { .. } => RpcError::not_found(error.to_string()),
            ReadError::Store(_) => RpcError::internal(error.to_string()),
        }
    }
}

impl From<StateError> for RpcError {
    fn from(error: StateError) -> RpcError {
        match error {
            StateError::Read(read) => read.into(),
            other => RpcError::internal(other.to_string()),
        }
    }
}

impl From<PoolError> for RpcError {
    fn from(error: PoolError) -> RpcError {
        RpcError::server(error.to_string())
    }
}

impl From<EngineError> for RpcError {
    fn from(error: EngineError) -> RpcError {
        match error {
            EngineError::Read(read) => read.into(),
            EngineError::State(state) => state.into(),
            other => RpcError::server(other.to_string()),
        }
    }
}

impl From<CallError> for RpcError {
    fn from(error: CallError) -> RpcError {
        let plain = RpcError::new(error.code, error.message);
        match error.data {
            Some(data) => plain.with_bytes(&data),
            None => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_method_name_is_cut_in_the_answer() {
        let error = RpcError::method_not_found(&"x".repeat(1_000_000));
        assert!(error.message.len() < 200);
    }
}
