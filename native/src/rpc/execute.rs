//! From the bytes of a request to the bytes of its response.
//!
//! Calls of a batch run in their order. Short ones run where they are, sharing one view of the chain while they follow
//! one another; long ones move to a bounded pool; neighbouring raw transactions become one submission to the pool.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::bridge::{BridgeHandle, Caller};
use super::config::RpcConfig;
use super::dispatch::{run, Attempt, Context, Method, Row, Scope, Table};
use super::error::RpcError;
use super::json::Json;
use super::pubsub::Session;
use super::request::{self, respond, respond_error, Call, Invalid, Item, Request};
use super::sending;

/// Longest stretch of short calls on a connection's thread before others get their turn.
const SLICE: Duration = Duration::from_micros(500);
/// Calls that may wait for the pool of heavy calls.
const MAX_WAITING: usize = 512;
/// geth's code for a response beyond the bound.
const RESPONSE_TOO_LARGE: i64 = -32_003;

/// Bytes from which reading a text is no short matter.
const LARGE: usize = 1 << 20;

/// The method that answers with or without a chain.
const MODULES: &str = "rpc_modules";

/// Methods that are no plain functions: they wait for a block, or belong to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    SendRaw,
    SendRawSync,
    SendTransaction,
    Subscribe,
    Unsubscribe,
}

const SPECIALS: [(&str, Special); 5] = [
    ("eth_sendRawTransaction", Special::SendRaw),
    ("eth_sendRawTransactionSync", Special::SendRawSync),
    ("eth_sendTransaction", Special::SendTransaction),
    ("eth_subscribe", Special::Subscribe),
    ("eth_unsubscribe", Special::Unsubscribe),
];

/// Runs `job`, whose time grows with `bytes`, so that the thread's other connections do not wait for it when it is
/// long.
pub(super) fn at_length<T>(bytes: usize, job: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let elsewhere = bytes > LARGE
        && Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    match elsewhere {
        true => tokio::task::block_in_place(job),
        false => job(),
    }
}

/// Bounds the calls that compute for long: as many at a time as there are cores, a limited number in line.
struct HeavyPool {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl HeavyPool {
    fn new() -> HeavyPool {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        HeavyPool { permits: Arc::new(Semaphore::new(cores.max(2))), waiting: AtomicUsize::new(0) }
    }

    /// Runs `job` on a thread that serves no connections.
    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, RpcError> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let in_line = Waiting(&self.waiting);
        if before >= MAX_WAITING {
            return Err(RpcError::limit(format!("{MAX_WAITING} long calls wait already; try again later")));
        }
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| RpcError::internal("the server is shutting down"))?;
        drop(in_line);
        // The permit goes with the job: a client that hangs up does not make room before the work has ended.
        tokio::task::spawn_blocking(move || {
            let outcome = job();
            drop(permit);
            outcome
        })
        .await
        .map_err(|error| RpcError::internal(format!("the call was lost: {error}")))
    }
}

/// A chain and the native methods that read and write it.
struct Chain {
    context: Arc<Context>,
    table: Table,
}

/// The native methods, the special ones and the bridge: everything that answers a request.
pub struct Dispatcher {
    config: Arc<RpcConfig>,
    chain: Option<Chain>,
    heavy: HeavyPool,
    bridge: Option<BridgeHandle>,
}

enum Route<'d> {
    Native(&'d Chain, &'d Row),
    Special(&'d Chain, Special),
    Modules,
    Bridge(&'d BridgeHandle),
    Unknown,
}

/// The scope of calls that follow one another, opened by the first native one.
#[derive(Default)]
struct Scopes<'d>(OnceCell<Scope<'d>>);

impl<'d> Scopes<'d> {
    fn on(&self, chain: &'d Chain) -> &Scope<'d> {
        self.0.get_or_init(|| Scope::new(&chain.context))
    }
}

impl Dispatcher {
    /// All native namespaces, and those of `bridge`. A native method wins over a bridged one of the same name.
    pub fn new(context: Arc<Context>, bridge: Option<BridgeHandle>) -> Dispatcher {
        Dispatcher::with_tables(context, bridge, super::TABLES)
    }

    pub(super) fn with_tables(context: Arc<Context>, bridge: Option<BridgeHandle>, tables: &[&[Method]]) -> Dispatcher {
        let config = Arc::clone(&context.config);
        let chain = Some(Chain { context, table: Table::new(tables) });
        Dispatcher { config, chain, heavy: HeavyPool::new(), bridge }
    }

    /// Without a chain: only what `bridge` answers, and `rpc_modules`.
    pub fn alone(config: RpcConfig, bridge: BridgeHandle) -> Dispatcher {
        Dispatcher { config: Arc::new(config), chain: None, heavy: HeavyPool::new(), bridge: Some(bridge) }
    }

    pub fn config(&self) -> &RpcConfig {
        &self.config
    }

    /// The chain that is served, if there is one.
    pub fn context(&self) -> Option<&Arc<Context>> {
        self.chain.as_ref().map(|chain| &chain.context)
    }

    pub fn bridge(&self) -> Option<&BridgeHandle> {
        self.bridge.as_ref()
    }

    fn route(&self, name: &str) -> Route<'_> {
        if let Some(chain) = &self.chain {
            if let Some(row) = chain.table.find(name) {
                return Route::Native(chain, row);
            }
            if let Some((_, special)) = SPECIALS.iter().find(|(special, _)| *special == name) {
                return Route::Special(chain, *special);
            }
        }
        if name == MODULES {
            return Route::Modules;
        }
        match &self.bridge {
            Some(bridge) if bridge.serves(name) => Route::Bridge(bridge),
            _ => Route::Unknown,
        }
    }

    /// Runs one native or special method to its end on this thread, for callers inside the process. `params` is a JSON
    /// array; an empty string stands for none.
    pub fn call_blocking(&self, name: &str, params: &str) -> Result<String, RpcError> {
        let raw: Option<&RawValue> = match params.trim() {
            "" => None,
            text => Some(
                serde_json::from_str(text)
                    .map_err(|error| RpcError::invalid_params(format!("params is not JSON: {error}")))?,
            ),
        };
        let mut out = Json::new();
        match self.route(name) {
            Route::Native(chain, row) => run(&Scope::new(&chain.context), &row.method(), raw, &mut out)?,
            Route::Modules => self.modules(&mut out),
            Route::Special(chain, special) => tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|error| RpcError::internal(error.to_string()))?
                .block_on(self.special(chain, special, raw, None, &mut out))?,
            Route::Bridge(_) | Route::Unknown => return Err(RpcError::method_not_found(name)),
        }
        Ok(out.into_string())
    }

    /// Answers a body. `None`: it held notifications only.
    pub async fn answer(&self, body: &[u8], caller: Caller<'_>) -> Option<Vec<u8>> {
        match at_length(body.len(), || request::parse(body, self.config.max_batch)) {
            Ok(Request::Single(item)) => self.single(item, caller).await,
            Ok(Request::Batch(items)) => self.batch(&items, caller).await,
            Err(error) => {
                let mut out = Json::with_capacity(128);
                respond_error(&mut out, None, &error);
                Some(out.into_bytes())
            }
        }
    }

    async fn single(&self, item: Item<'_>, caller: Caller<'_>) -> Option<Vec<u8>> {
        let mut out = Json::with_capacity(160);
        if self.answer_here(&Scopes::default(), &item, &mut out) {
            return (!out.is_empty()).then(|| out.into_bytes());
        }
        let Ok(call) = item else { return None };
        let mut result = Json::new();
        let outcome = self.elsewhere(&call, caller, &mut result).await;
        call.id?;
        write_response(&mut out, &call, outcome, &result);
        Some(out.into_bytes())
    }

    async fn batch(&self, items: &[Item<'_>], caller: Caller<'_>) -> Option<Vec<u8>> {
        let mut out = Json::with_capacity(64 * items.len());
        out.byte(b'[');
        let mut next = 0;
        while next < items.len() {
            let stopped = self.batch_here(items, &mut next, &mut out);
            match stopped {
                Stopped::End => {}
                Stopped::Slice => tokio::task::yield_now().await,
                Stopped::Elsewhere => {
                    let raws = raw_transactions(&items[next..]);
                    if let (Some(context), true) = (self.context(), raws > 0) {
                        batch_raw(context, &items[next..next + raws], &mut out).await;
                        next += raws;
                    } else if let Ok(call) = &items[next] {
                        let mut result = Json::new();
                        let outcome = self.elsewhere(call, caller, &mut result).await;
                        if call.id.is_some() {
                            separate(&mut out);
                            write_response(&mut out, call, outcome, &result);
                        }
                        next += 1;
                    }
                }
            }
        }
        if out.len() == 1 {
            return None;
        }
        out.byte(b']');
        Some(out.into_bytes())
    }

    /// Answers items from `next` on while they are short.
    fn batch_here(&self, items: &[Item<'_>], next: &mut usize, out: &mut Json) -> Stopped {
        let scopes = Scopes::default();
        let opened = Instant::now();
        let begun = *next;
        while *next < items.len() {
            let start = out.len();
            if out.len() > self.config.max_result {
                self.refuse_response(&items[*next], out);
            } else {
                separate(out);
                let before = out.len();
                if !self.answer_here(&scopes, &items[*next], out) {
                    out.truncate(start);
                    return Stopped::Elsewhere;
                }
                if out.len() == before {
                    out.truncate(start);
                }
            }
            *next += 1;
            // The clock is read now and then: most calls are far shorter than a slice.
            if (*next - begun).is_multiple_of(8) && opened.elapsed() > SLICE {
                return if *next < items.len() { Stopped::Slice } else { Stopped::End };
            }
        }
        Stopped::End
    }

    fn refuse_response(&self, item: &Item<'_>, out: &mut Json) {
        let id = match item {
            Ok(Call { id: None, .. }) => return,
            Ok(Call { id, .. }) | Err(Invalid { id, .. }) => *id,
        };
        separate(out);
        let bound = self.config.max_result;
        respond_error(out, id, &RpcError::new(RESPONSE_TOO_LARGE, format!("response too large: over {bound} bytes")));
    }

    /// Writes the response if it can be had on this thread soon; `false` leaves the buffer as it was.
    fn answer_here<'d>(&'d self, scopes: &Scopes<'d>, item: &Item<'_>, out: &mut Json) -> bool {
        let call = match item {
            Ok(call) => call,
            Err(invalid) => {
                respond_error(out, invalid.id, &invalid.error);
                return true;
            }
        };
        let start = out.len();
        match self.route(&call.method) {
            Route::Native(chain, row) => {
                let mut offload = false;
                respond(out, call.id, |out| match row.attempt(scopes.on(chain), call.params, out) {
                    Attempt::Done(outcome) => outcome,
                    Attempt::Offload => {
                        offload = true;
                        Ok(())
                    }
                });
                if offload || call.id.is_none() {
                    out.truncate(start);
                }
                !offload
            }
            Route::Unknown => {
                if call.id.is_some() {
                    respond_error(out, call.id, &RpcError::method_not_found(&call.method));
                }
                true
            }
            Route::Special(..) | Route::Modules | Route::Bridge(_) => false,
        }
    }

    /// Runs a call that takes its time, and appends the bare result.
    async fn elsewhere(&self, call: &Call<'_>, caller: Caller<'_>, out: &mut Json) -> Result<(), RpcError> {
        match self.route(&call.method) {
            Route::Native(chain, row) => {
                out.raw(self.offload(chain, row.method(), call.params).await?);
                Ok(())
            }
            Route::Special(chain, special) => self.special(chain, special, call.params, caller.session, out).await,
            Route::Modules => {
                self.modules(out);
                Ok(())
            }
            Route::Bridge(bridge) => {
                out.raw(bridge.call(&call.method, call.params, caller).await?);
                Ok(())
            }
            Route::Unknown => Err(RpcError::method_not_found(&call.method)),
        }
    }

    async fn offload(&self, chain: &Chain, method: Method, params: Option<&RawValue>) -> Result<Vec<u8>, RpcError> {
        let context = Arc::clone(&chain.context);
        let params = params.map(RawValue::to_owned);
        let job = move || {
            let mut out = Json::new();
            run(&Scope::new(&context), &method, params.as_deref(), &mut out).map(|()| out.into_bytes())
        };
        self.heavy.run(job).await?
    }

    async fn special(
        &self,
        chain: &Chain,
        special: Special,
        params: Option<&RawValue>,
        session: Option<&Arc<Session>>,
        out: &mut Json,
    ) -> Result<(), RpcError> {
        let context = &chain.context;
        match special {
            Special::SendRaw => sending::send_raw(context, params, out).await,
            Special::SendRawSync => {
                let hash = sending::send_raw_sync(context, params).await?;
                let receipt = format!("[\"{hash}\"]");
                let raw: &RawValue =
                    serde_json::from_str(&receipt).map_err(|error| RpcError::internal(error.to_string()))?;
                let row = chain
                    .table
                    .find("eth_getTransactionReceipt")
                    .ok_or_else(|| RpcError::method_not_found("eth_getTransactionReceipt"))?;
                run(&Scope::new(context), &row.method(), Some(raw), out)
            }
            Special::SendTransaction => {
                let shared = Arc::clone(context);
                let params = params.map(RawValue::to_owned);
                let hash = self.heavy.run(move || sending::fill_and_submit(&shared, params.as_deref())).await??;
                sending::wait_for_block(context, hash).await?;
                out.hex(hash);
                Ok(())
            }
            Special::Subscribe => session_of(session)?.subscribe(context, params, out),
            Special::Unsubscribe => session_of(session)?.unsubscribe(context, params, out),
        }
    }

    /// rpc_modules: every namespace that answers here.
    fn modules(&self, out: &mut Json) {
        let bridged = self.bridge.as_ref().map(BridgeHandle::method_names).unwrap_or_default();
        let native = self.chain.iter().flat_map(|chain| chain.table.names().chain(SPECIALS.map(|(name, _)| name)));
        let names = native.chain([MODULES]).chain(bridged.iter().map(String::as_str));
        let spaces: BTreeSet<&str> = names.filter_map(|name| name.split_once('_').map(|(space, _)| space)).collect();
        let mut object = out.object();
        for space in spaces {
            object.field(space).string("1.0");
        }
        object.end();
    }
}

/// How many of the first items are raw submissions: they go into the pool as one.
fn raw_transactions(items: &[Item<'_>]) -> usize {
    items.iter().take_while(|item| item.as_ref().is_ok_and(|call| call.method == "eth_sendRawTransaction")).count()
}

async fn batch_raw(context: &Context, items: &[Item<'_>], out: &mut Json) {
    let calls: Vec<&Call<'_>> = items.iter().filter_map(|item| item.as_ref().ok()).collect();
    let params: Vec<Option<&RawValue>> = calls.iter().map(|call| call.params).collect();
    let outcomes = sending::send_raw_many(context, &params).await;
    for (call, outcome) in calls.iter().zip(outcomes).filter(|(call, _)| call.id.is_some()) {
        separate(out);
        respond(out, call.id, |out| outcome.map(|hash| out.hex(hash)));
    }
}

/// Why the short calls of a batch paused.
enum Stopped {
    End,
    Slice,
    /// The next item is not short.
    Elsewhere,
}

fn session_of(session: Option<&Arc<Session>>) -> Result<&Arc<Session>, RpcError> {
    // geth's answer over HTTP.
    session.ok_or_else(|| RpcError::new(super::error::METHOD_NOT_FOUND, "notifications not supported"))
}

fn separate(out: &mut Json) {
    if out.len() > 1 {
        out.byte(b',');
    }
}

fn write_response(out: &mut Json, call: &Call<'_>, outcome: Result<(), RpcError>, result: &Json) {
    respond(out, call.id, |out| outcome.map(|()| out.raw(result.as_bytes())));
}
