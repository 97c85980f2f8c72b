//! One exception type; its `kind` says which room refused, so that Python can raise its own classes.

use std::panic::{catch_unwind, AssertUnwindSafe};

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde_json::Value;

use crate::engine::EngineError;
use crate::keys::KeyError;
use crate::rpc::RpcError;
use crate::state::StateError;

pyo3::create_exception!(
    zerog._native,
    NativeError,
    PyException,
    "A refusal of the native engine: `kind`, `message`, and for kind \"rpc\" `code` and `data`."
);

/// A value of kind `kind` with `message`; attributes are set so that no text must be parsed.
pub(super) fn error(kind: &str, message: impl std::fmt::Display) -> PyErr {
    let message = message.to_string();
    Python::attach(|py| {
        let error = NativeError::new_err(message.clone());
        let value = error.value(py);
        match value.setattr("kind", kind).and_then(|()| value.setattr("message", message)) {
            Ok(()) => error,
            Err(failure) => failure,
        }
    })
}

pub(super) fn rpc_error(refusal: RpcError) -> PyErr {
    Python::attach(|py| {
        let result = error("rpc", &refusal.message);
        let value = result.value(py);
        let data = refusal
            .data
            .as_deref()
            .and_then(|json| serde_json::from_str(json).ok())
            .map_or_else(|| Ok(py.None()), |data: Value| object_of(py, &data));
        match data.and_then(|data| value.setattr("code", refusal.code).and_then(|()| value.setattr("data", data))) {
            Ok(()) => result,
            Err(failure) => failure,
        }
    })
}

/// Runs native work without the GIL. A panic is a bug of ours: it becomes an error of its caller, because a
/// `BaseException` would pass every handler in Python and end the thread that makes the blocks.
pub(super) fn work<T: Send, E: Into<PyErr>>(py: Python<'_>, f: impl FnOnce() -> Result<T, E> + Send) -> PyResult<T> {
    py.detach(|| match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(Into::into),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            Err(error("other", format!("a bug in the native engine: {text}")))
        }
    })
}

fn object_of(py: Python<'_>, value: &Value) -> PyResult<Py<PyAny>> {
    Ok(match value {
        Value::Null => py.None(),
        Value::Bool(flag) => flag.into_pyobject(py)?.to_owned().into_any().unbind(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into_pyobject(py)?.into_any().unbind(),
            (None, Some(number)) => number.into_pyobject(py)?.into_any().unbind(),
            _ => number.as_f64().unwrap_or_default().into_pyobject(py)?.into_any().unbind(),
        },
        Value::String(text) => text.into_pyobject(py)?.into_any().unbind(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(object_of(py, item)?)?;
            }
            list.into_any().unbind()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, field) in fields {
                dict.set_item(name, object_of(py, field)?)?;
            }
            dict.into_any().unbind()
        }
    })
}

fn state_kind(error: &StateError) -> &'static str {
    match error {
        StateError::Open { .. } => "datadir",
        StateError::Corrupt(_) => "corrupt",
        _ => "other",
    }
}

impl From<EngineError> for PyErr {
    fn from(failure: EngineError) -> PyErr {
        let kind = match &failure {
            EngineError::State(state) => state_kind(state),
            EngineError::Genesis(_) => "genesis",
            EngineError::Block(_) => "block",
            EngineError::Read(_) | EngineError::Other(_) => "other",
            EngineError::Pool(_) => "pool",
            EngineError::Payload(_) => "payload",
            EngineError::WrongChain { .. } => "wrong_chain",
            EngineError::DataDir { .. } => "datadir",
            EngineError::Locked { .. } => "locked",
            EngineError::Foreign { .. } => "foreign_datadir",
        };
        error(kind, failure)
    }
}

impl From<KeyError> for PyErr {
    fn from(failure: KeyError) -> PyErr {
        error("keystore", failure)
    }
}
