//! The JSON-RPC server and the way of a call to its Python handler and back.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::error;
use crate::engine as native;
use crate::rpc;

/// Calls `dispatch(method, params, reply)` under the GIL, on the bridge's own thread.
struct PythonBridge {
    dispatch: Py<PyAny>,
}

impl rpc::bridge::Bridge for PythonBridge {
    fn dispatch(&self, method: &str, params: &[u8], reply: rpc::bridge::Reply) {
        Python::attach(|py| {
            let reply = match Py::new(py, Reply { waiting: Mutex::new(Some(reply)) }) {
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
}

/// The answer to one call: `resolve` or `reject` once, from any thread; later ones are ignored.
#[pyclass(module = "zerog._native", frozen)]
pub(super) struct Reply {
    waiting: Mutex<Option<rpc::bridge::Reply>>,
}

#[pymethods]
impl Reply {
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
) -> PyResult<Server> {
    let config: rpc::RpcConfig =
        serde_json::from_str(config).map_err(|failure| error("other", format!("server config: {failure}")))?;
    let context = rpc::Context::new(engine, config).map_err(|failure| error("other", failure))?;
    let bridge = Arc::new(PythonBridge { dispatch });
    let server = rpc::Server::start(Arc::new(context), Some(bridge), methods).map_err(|failure| {
        let kind = if matches!(failure, rpc::ServeError::PortTaken { .. }) { "port" } else { "other" };
        error(kind, failure)
    })?;
    let port = server.address().port();
    Ok(Server { url: server.url(), port, handle: Handle { server: Arc::new(Mutex::new(Some(server))) } })
}

impl Server {
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

    /// Ends the server: no new connections, calls in flight are cut.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.handle.close());
    }
}
