//! The method table and the execution of one call.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::error::RpcError;
use super::json::Json;
use super::params::Params;
use crate::engine::Engine;
use crate::state::View;

/// Bounds and settings of the server and its methods.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcConfig {
    pub host: String,
    /// 0 picks a free port.
    pub port: u16,
    /// Bytes of a request body or WebSocket message.
    pub max_body: usize,
    /// Calls of one batch.
    pub max_batch: usize,
    pub max_connections: usize,
    /// Allowed origins; `*` allows all, an empty list sends no CORS header.
    pub cors: Vec<String>,
    /// Gas of eth_call and eth_estimateGas.
    pub gas_cap: u64,
    /// Time of one call, in milliseconds.
    pub call_timeout_ms: u64,
    /// Blocks that one eth_getLogs may span.
    pub log_range: u64,
    /// Bytes of one result (logs, traces).
    pub max_result: usize,
}

impl Default for RpcConfig {
    fn default() -> RpcConfig {
        RpcConfig {
            host: "127.0.0.1".to_owned(),
            port: 8545,
            max_body: 15 << 20,
            max_batch: 1_000,
            max_connections: 12_000,
            cors: vec!["*".to_owned()],
            gas_cap: 50_000_000,
            call_timeout_ms: 5_000,
            log_range: 100_000,
            max_result: 128 << 20,
        }
    }
}

/// What every method may use, shared by all connections.
pub struct Context {
    pub engine: Arc<Engine>,
    pub config: RpcConfig,
    /// Decoded blocks and suggestions that the `eth` methods keep.
    pub eth: super::eth::Caches,
}

impl Context {
    pub fn new(engine: Arc<Engine>, config: RpcConfig) -> Context {
        Context { engine, config, eth: super::eth::Caches::default() }
    }
}

/// One call, or consecutive calls of a batch: they read one consistent view of the chain.
///
/// Lives on one thread; opened when a method first asks for the view.
pub struct Scope<'c> {
    context: &'c Context,
    view: OnceCell<View>,
    deadline: Cell<Instant>,
}

impl<'c> Scope<'c> {
    pub fn new(context: &'c Context) -> Scope<'c> {
        let deadline = Instant::now() + Duration::from_millis(context.config.call_timeout_ms);
        Scope { context, view: OnceCell::new(), deadline: Cell::new(deadline) }
    }

    pub fn context(&self) -> &'c Context {
        self.context
    }

    pub fn engine(&self) -> &'c Arc<Engine> {
        &self.context.engine
    }

    pub fn config(&self) -> &'c RpcConfig {
        &self.context.config
    }

    /// The committed chain as this scope sees it.
    pub fn view(&self) -> Result<&View, RpcError> {
        if let Some(view) = self.view.get() {
            return Ok(view);
        }
        let view = self.context.engine.view()?;
        Ok(self.view.get_or_init(|| view))
    }

    /// When the call must have ended. An [`Class::Adaptive`] method that gives up at this instant is run again
    /// elsewhere with more time; any other one answers an error.
    pub fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// The error of a method that reached [`Scope::deadline`], worded as geth does.
    pub fn timed_out(&self) -> RpcError {
        RpcError::server(format!("execution aborted (timeout = {}ms)", self.context.config.call_timeout_ms))
    }

    pub(super) fn set_deadline(&self, deadline: Instant) {
        self.deadline.set(deadline);
    }
}

/// Appends its result to the buffer as JSON. Whatever it wrote before an error is taken back.
pub type Handler = fn(&Scope<'_>, Params<'_>, &mut Json) -> Result<(), RpcError>;

/// Where a method may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A few microseconds and no loop over user-sized input: answered on the connection's thread.
    Inline,
    /// Usually short, sometimes not, free of side effects, and honours [`Scope::deadline`]: tried on the connection's
    /// thread for a fraction of a millisecond, then run again on the pool of heavy calls.
    Adaptive,
    /// Long: always on the bounded pool of heavy calls.
    Heavy,
}

/// One row of a table.
#[derive(Clone, Copy)]
pub struct Method {
    pub name: &'static str,
    pub class: Class,
    pub handler: Handler,
}

pub const fn method(name: &'static str, class: Class, handler: Handler) -> Method {
    Method { name, class, handler }
}

/// The native methods by name.
pub struct Dispatcher {
    context: Arc<Context>,
    table: HashMap<&'static str, Method>,
}

impl Dispatcher {
    pub fn new(context: Arc<Context>) -> Dispatcher {
        let mut table = HashMap::new();
        for tables in [super::eth::METHODS] {
            for method in tables {
                table.insert(method.name, *method);
            }
        }
        Dispatcher { context, table }
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn find(&self, name: &str) -> Option<&Method> {
        self.table.get(name)
    }

    /// Runs a native method on this thread, for callers inside the process. `params` is a JSON array.
    pub fn call_blocking(&self, name: &str, params: &str) -> Result<String, RpcError> {
        let method = self.find(name).ok_or_else(|| RpcError::method_not_found(name))?;
        let raw: &RawValue = serde_json::from_str(params)
            .map_err(|error| RpcError::invalid_params(format!("params is not JSON: {error}")))?;
        let scope = Scope::new(&self.context);
        let mut out = Json::new();
        run(&scope, method, Some(raw), &mut out)?;
        Ok(out.into_string())
    }
}

/// Executes one call on this thread; on an error the buffer is as before.
pub(super) fn run(
    scope: &Scope<'_>,
    method: &Method,
    params: Option<&RawValue>,
    out: &mut Json,
) -> Result<(), RpcError> {
    let params = Params::parse(params)?;
    let start = out.len();
    // A bug in one method must not take the node down. The buffer is restored below; the scope holds no state that a
    // panic could leave half-changed.
    let outcome = catch_unwind(AssertUnwindSafe(|| (method.handler)(scope, params, out)))
        .unwrap_or_else(|_| Err(RpcError::internal(format!("{} crashed", method.name))));
    if outcome.is_err() {
        out.truncate(start);
    }
    outcome
}
