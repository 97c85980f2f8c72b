//! The server, and the way of a call or an HTTP request to its Python handler and back.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::{error, work};
use super::exchange::HttpRequest;
use crate::engine as native;
use crate::rpc;

/// Calls `dispatch(method, params, reply)` and `http(request)` under the GIL, on the bridge's own thread.
struct PythonBridge {
    dispatch: Py<PyAny>,
    http: Option<Py<PyAny>>,
}

impl rpc::bridge::Bridge for PythonBridge {
    fn dispatch(&self, method: &str, params: &[u8], reply: rpc::bridge::Reply) {
        Python::attach(|py| {
            let agent = reply.agent().map(str::to_owned);
            let peer = reply.peer().map(|peer| peer.to_string());
            let push = reply.push().cloned().map(|push| Push { push });
            let reply = match Py::new(py, Reply { waiting: Mutex::new(Some(reply)), agent, peer, push }) {
                Ok(reply) => reply,
                // Dropped unanswered, the caller gets an internal error.
                Err(failure) => return failure.write_unraisable(py, None),
            };
            let called = self.dispatch.call1(py, (method, PyBytes::new(py, params), reply.clone_ref(py)));
            if let Err(failure) = called {
                if let Some(waiting) = reply.get().waiting.lock().take() {
                    waiting.reject(rpc::RpcError::internal(format!("{method} could not be started: {failure}")));
                }
            }
        });
    }

    fn exchange(&self, exchange: rpc::http::Exchange) {
        let Some(http) = &self.http else { return };
        Python::attach(|py| {
            // Dropped unanswered, the client gets status 500.
            let started = HttpRequest::new(py, exchange).and_then(|request| http.call1(py, (request,)));
            if let Err(failure) = started {
                failure.write_unraisable(py, None);
            }
        });
    }
}

/// The answer to one call: `resolve` or `reject` once, from any thread; later ones are ignored.
#[pyclass(module = "zerog._native", frozen)]
pub(super) struct Reply {
    waiting: Mutex<Option<rpc::bridge::Reply>>,
    /// The caller's User-Agent header.
    #[pyo3(get)]
    agent: Option<String>,
    /// The caller's address and port.
    #[pyo3(get)]
    peer: Option<String>,
    push: Option<Push>,
}

/// Sends notifications over the WebSocket connection of one call, from any thread.
#[pyclass(module = "zerog._native", frozen)]
#[derive(Clone)]
pub(super) struct Push {
    push: rpc::Push,
}

#[pymethods]
impl Push {
    /// Queues one notification, a whole JSON text; False when the connection does not take it any more.
    fn send(&self, py: Python<'_>, notification_json: &[u8]) -> PyResult<bool> {
        let text = String::from_utf8(notification_json.to_vec())
            .ok()
            .filter(|text| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok())
            .ok_or_else(|| error("other", "a notification must be JSON"))?;
        Ok(py.detach(|| self.push.send(text)))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.push.is_closed()
    }
}

#[pymethods]
impl Reply {
    /// The way to send notifications to the caller; None over HTTP.
    #[getter]
    fn push(&self) -> Option<Push> {
        self.push.clone()
    }

    fn resolve(&self, result_json: &[u8]) {
        if let Some(waiting) = self.waiting.lock().take() {
            waiting.resolve(result_json.to_vec());
        }
    }

    #[pyo3(signature = (code, message, data_json=None))]
    fn reject(&self, code: i64, message: String, data_json: Option<&[u8]>) -> PyResult<()> {
        let data = data_json.map(|json| String::from_utf8(json.to_vec())).transpose();
        let data = data.map_err(|_| error("rpc", "data of the error is not UTF-8"))?;
        if let Some(waiting) = self.waiting.lock().take() {
            let mut refusal = rpc::RpcError::new(code, message);
            refusal.data = data;
            waiting.reject(refusal);
        }
        Ok(())
    }
}

/// A running server; `close` ends it.
#[pyclass(module = "zerog._native", frozen)]
pub(super) struct Server {
    #[pyo3(get)]
    url: String,
    #[pyo3(get)]
    port: u16,
    /// Ports of the further listeners, in the order of the configuration; None for one that could not be had.
    #[pyo3(get)]
    listening: Vec<Option<u16>>,
    handle: Handle,
}

/// Shared by the Python object and the engine, which closes its servers when it is closed.
#[derive(Clone)]
pub(super) struct Handle {
    server: Arc<Mutex<Option<rpc::Server>>>,
}

impl Handle {
    pub(super) fn close(&self) {
        // Taken out first: closing waits for calls in flight, and those may ask for the dispatcher.
        let server = self.server.lock().take();
        drop(server);
    }

    pub(super) fn dispatcher(&self) -> Option<Arc<rpc::Dispatcher>> {
        self.server.lock().as_ref().map(|server| server.dispatcher().clone())
    }
}

pub(super) fn start(
    engine: Arc<native::Engine>,
    config: &str,
    dispatch: Py<PyAny>,
    methods: Vec<String>,
    http: Option<Py<PyAny>>,
) -> PyResult<Server> {
    let context = rpc::Context::new(engine, parse(config)?).map_err(|failure| error("other", failure))?;
    let bridge = Arc::new(PythonBridge { dispatch, http });
    rpc::Server::start(Arc::new(context), Some(bridge), methods).map(Server::new).map_err(refusal)
}

/// Starts a server without a chain: it answers `methods` and the routes of its configuration only.
#[pyfunction]
#[pyo3(signature = (config, dispatch, methods, http=None))]
fn serve_alone(
    py: Python<'_>,
    config: &str,
    dispatch: Py<PyAny>,
    methods: Vec<String>,
    http: Option<Py<PyAny>>,
) -> PyResult<Server> {
    work(py, || {
        let bridge = Arc::new(PythonBridge { dispatch, http });
        rpc::Server::start_alone(parse(config)?, bridge, methods).map(Server::new).map_err(refusal)
    })
}

fn parse(config: &str) -> PyResult<rpc::RpcConfig> {
    serde_json::from_str(config).map_err(|failure| error("other", format!("server config: {failure}")))
}

fn refusal(failure: rpc::ServeError) -> PyErr {
    let kind = if matches!(failure, rpc::ServeError::PortTaken { .. }) { "port" } else { "other" };
    error(kind, failure)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Server>()?;
    module.add_class::<Reply>()?;
    module.add_class::<Push>()?;
    module.add_class::<HttpRequest>()?;
    module.add_function(wrap_pyfunction!(serve_alone, module)?)
}

impl Server {
    fn new(server: rpc::Server) -> Server {
        let listening = server.listening().iter().map(|address| address.map(|address| address.port())).collect();
        let (url, port) = (server.url(), server.address().port());
        Server { url, port, listening, handle: Handle { server: Arc::new(Mutex::new(Some(server))) } }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

#[pymethods]
impl Server {
    fn set_methods(&self, py: Python<'_>, methods: Vec<String>) {
        py.detach(|| {
            if let Some(server) = self.handle.server.lock().as_ref() {
                server.set_methods(methods);
            }
        });
    }

    /// Replaces the path prefixes that `http` answers; `limits` bounds the bodies of some of them, in bytes.
    #[pyo3(signature = (routes, limits=None))]
    fn set_routes(&self, py: Python<'_>, routes: Vec<String>, limits: Option<HashMap<String, usize>>) -> PyResult<()> {
        py.detach(|| match self.handle.server.lock().as_ref() {
            Some(server) => server.set_routes(routes, limits.unwrap_or_default()).map_err(refusal),
            None => Ok(()),
        })
    }

    /// Ends the server: no new connections, calls in flight are cut.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.handle.close());
    }
}
