//! One HTTP request for a route, and its answer, as a Python handler sees them.

use parking_lot::Mutex;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::errors::error;
use crate::rpc::http::{AnswerError, Exchange, Head, Passage, Responder, Stream};

/// Bytes of an answer or of a piece of one.
type Bytes = bytes::Bytes;

/// A request and the one answer to it: `respond`, or `start`, `write` and `finish`; from any thread. Dropped without
/// an answer, the client gets status 500; dropped in the middle of one, its connection breaks.
#[pyclass(module = "zerog._native", frozen)]
pub(super) struct HttpRequest {
    exchange: Parts,
    body: Mutex<Body>,
    answer: Mutex<Answer>,
}

/// What stays of the exchange while the handler has it.
struct Parts {
    method: String,
    path: String,
    query: String,
    route: String,
    headers: hyper::HeaderMap,
    peer: Option<String>,
    wakes: crate::rpc::bridge::Wakes,
    _held: Box<dyn Send + Sync>,
}

/// Copied for Python when it is first asked for.
enum Body {
    Native(Bytes),
    Python(Py<PyBytes>),
}

enum Answer {
    Due(Responder),
    Streamed(Stream),
    Done,
}

impl HttpRequest {
    pub(super) fn new(py: Python<'_>, exchange: Exchange) -> PyResult<Py<HttpRequest>> {
        let Exchange { method, path, query, route, headers, peer, body, held, responder, wakes } = exchange;
        let exchange = Parts {
            method: method.to_string(),
            path: path.into(),
            query: query.into(),
            route: route.into(),
            headers,
            peer: peer.map(|peer| peer.to_string()),
            wakes,
            _held: held,
        };
        let (body, answer) = (Mutex::new(Body::Native(body)), Mutex::new(Answer::Due(responder)));
        Py::new(py, HttpRequest { exchange, body, answer })
    }

    fn take_responder(&self) -> PyResult<Responder> {
        let mut answer = self.answer.lock();
        match std::mem::replace(&mut *answer, Answer::Done) {
            Answer::Due(responder) => Ok(responder),
            other => {
                *answer = other;
                Err(error("http", "the request has its answer already"))
            }
        }
    }

    /// The way of a piece to the client; `None` when it has gone.
    fn passage(&self, length: usize) -> PyResult<Option<Passage>> {
        match &mut *self.answer.lock() {
            Answer::Streamed(stream) => stream.passage(length).map_err(refusal),
            Answer::Due(_) => Err(error("http", "the answer has not been started")),
            Answer::Done => Err(error("http", "the answer is finished")),
        }
    }
}

#[pymethods]
impl HttpRequest {
    #[getter]
    fn method(&self) -> &str {
        &self.exchange.method
    }

    #[getter]
    fn path(&self) -> &str {
        &self.exchange.path
    }

    #[getter]
    fn query(&self) -> &str {
        &self.exchange.query
    }

    /// The prefix that covers the path.
    #[getter]
    fn route(&self) -> &str {
        &self.exchange.route
    }

    #[getter]
    fn peer(&self) -> Option<&str> {
        self.exchange.peer.as_deref()
    }

    /// Names in lower case; values of a name that comes several times are joined by commas.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let headers = PyDict::new(py);
        for name in self.exchange.headers.keys() {
            let values =
                self.exchange.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            headers.set_item(name.as_str(), values.collect::<Vec<_>>().join(", "))?;
        }
        Ok(headers)
    }

    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        let mut body = self.body.lock();
        let bytes = match &*body {
            Body::Python(bytes) => return bytes.clone_ref(py),
            Body::Native(bytes) => PyBytes::new(py, bytes).unbind(),
        };
        *body = Body::Python(bytes.clone_ref(py));
        bytes
    }

    /// True when nobody waits for the answer any more.
    #[getter]
    fn gone(&self) -> bool {
        match &*self.answer.lock() {
            Answer::Due(responder) => responder.is_gone(),
            Answer::Streamed(stream) => stream.is_gone(),
            Answer::Done => false,
        }
    }

    /// The whole answer.
    fn respond(&self, status: u16, headers: &Bound<'_, PyDict>, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let head = head(status, headers)?;
        let body = whole(body)?;
        self.take_responder()?.respond(head, body);
        Ok(())
    }

    /// Begins an answer that `write` continues; `length` announces its bytes, None sends it in chunks.
    #[pyo3(signature = (status, headers, length=None))]
    fn start(&self, status: u16, headers: &Bound<'_, PyDict>, length: Option<u64>) -> PyResult<()> {
        let head = head(status, headers)?;
        let stream = self.take_responder()?.start(head, length);
        *self.answer.lock() = Answer::Streamed(stream);
        Ok(())
    }

    /// Sends a piece; waits while the client is slow. False when it has gone, and after the answer to HEAD.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<bool> {
        let piece = bytes_of(data)?;
        let Some(passage) = self.passage(piece.len())? else { return Ok(false) };
        if piece.is_empty() {
            return Ok(true);
        }
        Ok(py.detach(|| passage.blocking_send(piece).is_ok()))
    }

    /// `write` without waiting: True or False as there; None when the client is slow, and then `told(taken)` is called
    /// later, on a thread of the server.
    fn write_soon(&self, data: &Bound<'_, PyAny>, told: Py<PyAny>) -> PyResult<Option<bool>> {
        use tokio::sync::mpsc::error::TrySendError;
        let piece = bytes_of(data)?;
        let Some(passage) = self.passage(piece.len())? else { return Ok(Some(false)) };
        if piece.is_empty() {
            return Ok(Some(true));
        }
        match passage.try_send(piece) {
            Ok(()) => Ok(Some(true)),
            Err(TrySendError::Closed(_)) => Ok(Some(false)),
            Err(TrySendError::Full(piece)) => {
                self.exchange.wakes.send_later(passage, piece, move |taken| {
                    Python::attach(|py| {
                        if let Err(failure) = told.call1(py, (taken,)) {
                            failure.write_unraisable(py, None);
                        }
                    });
                });
                Ok(None)
            }
        }
    }

    /// Ends a streamed answer; an error when bytes of the announced length are missing.
    fn finish(&self) -> PyResult<()> {
        let mut answer = self.answer.lock();
        match std::mem::replace(&mut *answer, Answer::Done) {
            Answer::Streamed(stream) => stream.finish().map_err(refusal),
            Answer::Done => Ok(()),
            due @ Answer::Due(_) => {
                *answer = due;
                Err(error("http", "the answer has not been started"))
            }
        }
    }

    /// Breaks off: the client gets status 500, or sees the connection end if its answer has begun.
    fn abort(&self) {
        *self.answer.lock() = Answer::Done;
    }
}

fn refusal(failure: AnswerError) -> PyErr {
    error("http", failure)
}

fn head(status: u16, headers: &Bound<'_, PyDict>) -> PyResult<Head> {
    let pairs: Vec<(String, String)> =
        headers.iter().map(|(name, value)| Ok((name.extract()?, value.extract()?))).collect::<PyResult<_>>()?;
    Head::new(status, pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))).map_err(refusal)
}

fn whole(body: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let Ok(parts) = body.cast::<PyList>() else { return bytes_of(body) };
    let parts: Vec<Bytes> = parts.iter().map(|part| bytes_of(&part)).collect::<PyResult<_>>()?;
    Ok(parts.concat().into())
}

/// The bytes of any buffer; those of `bytes` are shared, not copied.
fn bytes_of(data: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if data.is_instance_of::<PyBytes>() {
        return Ok(Bytes::from_owner(data.extract::<PyBackedBytes>()?));
    }
    Ok(PyBuffer::<u8>::get(data)?.to_vec(data.py())?.into())
}
