//! The method table and the execution of one native call.

use std::cell::{Cell, OnceCell};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::map::HashMap;
use serde_json::value::RawValue;

pub use super::config::RpcConfig;
use super::error::RpcError;
use super::eth::Caches;
use super::filters::Filters;
use super::json::Json;
use super::params::Params;
use super::pubsub::Hub;
use super::sending::Sending;
use super::wallet::{Wallet, WalletError};
use crate::engine::Engine;
use crate::state::View;

/// The chain and what every method on it may use, shared by all connections.
pub struct Context {
    pub engine: Arc<Engine>,
    pub config: Arc<RpcConfig>,
    pub wallet: Wallet,
    pub(super) eth: Caches,
    pub(super) filters: Filters,
    pub(super) hub: Hub,
    pub(super) sending: Sending,
}

impl Context {
    pub fn new(engine: Arc<Engine>, config: RpcConfig) -> Result<Context, WalletError> {
        let wallet = Wallet::new(&config.accounts)?;
        let filters = Filters::new(&config);
        Ok(Context {
            engine,
            config: Arc::new(config),
            wallet,
            eth: Caches::default(),
            filters,
            hub: Hub::default(),
            sending: Sending::default(),
        })
    }
}

/// One call, or consecutive calls of a batch: they read one consistent view of the chain.
///
/// Lives on one thread; the view is opened when a method first asks for it.
pub struct Scope<'c> {
    context: &'c Context,
    view: OnceCell<View>,
    deadline: Cell<Instant>,
    /// True while a method is tried on a connection's thread.
    attempted: Cell<bool>,
    deferred: Cell<bool>,
}

impl<'c> Scope<'c> {
    pub fn new(context: &'c Context) -> Scope<'c> {
        let deadline = Instant::now() + Duration::from_millis(context.config.call_timeout_ms);
        Scope {
            context,
            view: OnceCell::new(),
            deadline: Cell::new(deadline),
            attempted: Cell::new(false),
            deferred: Cell::new(false),
        }
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

    /// When the call must have ended. A [`Class::Adaptive`] method that gives up at this instant is run again
    /// elsewhere with more time; any other one answers an error.
    pub fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// The error of a method that reached [`Scope::deadline`], worded as geth does.
    pub fn timed_out(&self) -> RpcError {
        RpcError::server(format!("execution aborted (timeout = {}ms)", self.context.config.call_timeout_ms))
    }

    /// For a method that sees before it starts that its work is large: where connections are served it ends here, and
    /// is run again on the pool of heavy calls.
    pub fn defer_large(&self) -> Result<(), RpcError> {
        if !self.attempted.get() {
            return Ok(());
        }
        self.deferred.set(true);
        Err(self.timed_out())
    }
}

/// Appends its result to the buffer as JSON. Whatever it wrote before an error is taken back.
pub type Handler = fn(&Scope<'_>, Params<'_>, &mut Json) -> Result<(), RpcError>;

/// Where a method may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A few microseconds and no loop over user-sized input: answered on the connection's thread, unless it calls
    /// [`Scope::defer_large`].
    Inline,
    /// Usually short, sometimes not, free of side effects, and honours [`Scope::deadline`]: tried on the connection's
    /// thread for a fraction of a millisecond, then run again on the pool of heavy calls.
    Adaptive,
    /// Long: always on the bounded pool of heavy calls.
    Heavy,
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub name: &'static str,
    pub class: Class,
    pub handler: Handler,
}

pub const fn method(name: &'static str, class: Class, handler: Handler) -> Method {
    Method { name, class, handler }
}

/// A method in service.
pub(super) struct Row {
    method: Method,
    /// How many of the next calls of an adaptive method go to the pool at once, since one ran long.
    detour: AtomicU32,
}

/// What became of an attempt on the connection's thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Done(Result<(), RpcError>),
    /// Belongs on the pool of heavy calls; nothing was written.
    Offload,
}

/// Longest attempt of an adaptive method on a connection's thread.
const INLINE_BUDGET: Duration = Duration::from_micros(300);
/// Calls of an adaptive method that avoid the connection's thread after one that ran out of the budget.
const DETOUR: u32 = 16;
/// Parameters beyond this size make any method heavy: decoding alone takes a while.
const LARGE_PARAMS: usize = 64 << 10;

impl Row {
    pub(super) fn method(&self) -> Method {
        self.method
    }

    /// Runs the method here if it is short.
    pub(super) fn attempt(&self, scope: &Scope<'_>, params: Option<&RawValue>, out: &mut Json) -> Attempt {
        if params.is_some_and(|params| params.get().len() > LARGE_PARAMS) {
            return Attempt::Offload;
        }
        match self.method.class {
            Class::Inline => self.attempt_unless_large(scope, params, out),
            Class::Heavy => Attempt::Offload,
            Class::Adaptive => self.attempt_bounded(scope, params, out),
        }
    }

    fn attempt_bounded(&self, scope: &Scope<'_>, params: Option<&RawValue>, out: &mut Json) -> Attempt {
        // A lost update only shortens or lengthens the detour by one.
        let detour = self.detour.load(Ordering::Relaxed);
        if detour > 0 {
            self.detour.store(detour - 1, Ordering::Relaxed);
            return Attempt::Offload;
        }
        let whole = scope.deadline.get();
        let bounded = Instant::now() + INLINE_BUDGET;
        scope.deadline.set(bounded);
        let attempt = self.attempt_unless_large(scope, params, out);
        scope.deadline.set(whole);
        if matches!(attempt, Attempt::Done(Err(_))) && Instant::now() >= bounded {
            self.detour.store(DETOUR, Ordering::Relaxed);
            return Attempt::Offload;
        }
        attempt
    }

    fn attempt_unless_large(&self, scope: &Scope<'_>, params: Option<&RawValue>, out: &mut Json) -> Attempt {
        scope.attempted.set(true);
        let outcome = run(scope, &self.method, params, out);
        scope.attempted.set(false);
        if scope.deferred.take() {
            return Attempt::Offload;
        }
        Attempt::Done(outcome)
    }
}

/// The native methods by name.
pub struct Table {
    rows: HashMap<&'static str, Row>,
}

impl Table {
    pub fn new(tables: &[&[Method]]) -> Table {
        let rows = tables
            .iter()
            .flat_map(|table| table.iter())
            .map(|method| (method.name, Row { method: *method, detour: AtomicU32::new(0) }))
            .collect();
        Table { rows }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Row> {
        self.rows.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().copied()
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
