//! The engine as a Python class.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{json, Map, Value};

use super::errors::{error, rpc_error, work};
use super::server::{self, Server};
use crate::engine::{self as native, AccountEdit, Controls, EngineConfig, Verdict, Work};
use crate::execution::BlockAttributes;
use crate::pool::PoolConfig;
use crate::primitives::*;
use crate::rpc::{Context, Dispatcher, RpcConfig};
use crate::state::{Head, StoreOptions, SyncPolicy};

/// Name of the store's folder within the data directory.
const STORE_FOLDER: &str = "state";
/// Name of the file that keeps pending transactions.
const JOURNAL_FILE: &str = "pool.journal";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenConfig {
    #[serde(default)]
    data_dir: Option<PathBuf>,
    #[serde(default)]
    genesis: Option<Box<RawValue>>,
    #[serde(default)]
    sync: Sync,
    #[serde(default)]
    history_blocks: Option<u64>,
    #[serde(default = "default_max_bytes")]
    max_bytes: usize,
    #[serde(default)]
    pool: PoolSettings,
    #[serde(default)]
    coinbase: Address,
    #[serde(default)]
    gas_limit: u64,
    #[serde(default = "yes")]
    devnet: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sync {
    #[default]
    Safe,
    Full,
}

fn default_max_bytes() -> usize {
    1 << 40
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PoolSettings {
    max_pending: usize,
    max_queued: usize,
    max_per_account: usize,
    max_bytes: usize,
    max_nonce_gap: u64,
    min_tip: u128,
    order: Order,
    journal: bool,
    check_balance: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Fees,
    Fifo,
}

impl Default for PoolSettings {
    fn default() -> PoolSettings {
        PoolSettings {
            max_pending: 200_000,
            max_queued: 20_000,
            max_per_account: 100_000,
            max_bytes: 512 << 20,
            max_nonce_gap: 100_000,
            min_tip: 0,
            order: Order::Fees,
            journal: true,
            check_balance: true,
        }
    }
}

impl OpenConfig {
    fn into_engine(self) -> EngineConfig {
        let pool = self.pool;
        EngineConfig {
            store: StoreOptions {
                path: self.data_dir.as_ref().map(|path| path.join(STORE_FOLDER)),
                sync: match self.sync {
                    Sync::Safe => SyncPolicy::Safe,
                    Sync::Full => SyncPolicy::Full,
                },
                history_blocks: self.history_blocks,
                max_bytes: self.max_bytes,
            },
            pool: PoolConfig {
                max_pending: pool.max_pending,
                max_queued: pool.max_queued,
                max_per_account: pool.max_per_account,
                max_bytes: pool.max_bytes,
                max_nonce_gap: pool.max_nonce_gap,
                min_tip: pool.min_tip,
                fifo: matches!(pool.order, Order::Fifo),
                journal: self.data_dir.as_ref().filter(|_| pool.journal).map(|path| path.join(JOURNAL_FILE)),
                check_balance: pool.check_balance,
            },
            genesis: self
                .genesis
                .map(|json| json.get().as_bytes().to_vec())
                .filter(|json| json != b"null")
                .unwrap_or_default(),
            data_dir: self.data_dir,
            coinbase: self.coinbase,
            gas_limit: self.gas_limit,
            devnet: self.devnet,
        }
    }
}

/// [`BlockAttributes`] as JSON: numbers plain, binary as 0x-strings.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Attributes {
    timestamp: u64,
    beneficiary: Address,
    prevrandao: B256,
    gas_limit: u64,
    #[serde(default)]
    base_fee: Option<u64>,
    #[serde(default)]
    withdrawals: Vec<alloy_eips::eip4895::Withdrawal>,
    #[serde(default)]
    parent_beacon_block_root: B256,
    #[serde(default)]
    extra_data: Bytes,
    #[serde(default)]
    max_transactions: Option<usize>,
}

impl From<BlockAttributes> for Attributes {
    fn from(attributes: BlockAttributes) -> Attributes {
        Attributes {
            timestamp: attributes.timestamp,
            beneficiary: attributes.beneficiary,
            prevrandao: attributes.prevrandao,
            gas_limit: attributes.gas_limit,
            base_fee: attributes.base_fee,
            withdrawals: attributes.withdrawals,
            parent_beacon_block_root: attributes.parent_beacon_block_root,
            extra_data: attributes.extra_data,
            max_transactions: attributes.max_transactions,
        }
    }
}

impl From<Attributes> for BlockAttributes {
    fn from(attributes: Attributes) -> BlockAttributes {
        BlockAttributes {
            timestamp: attributes.timestamp,
            beneficiary: attributes.beneficiary,
            prevrandao: attributes.prevrandao,
            gas_limit: attributes.gas_limit,
            base_fee: attributes.base_fee,
            withdrawals: attributes.withdrawals,
            parent_beacon_block_root: attributes.parent_beacon_block_root,
            extra_data: attributes.extra_data,
            max_transactions: attributes.max_transactions,
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(what: &str, json: &'a str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|failure| error("other", format!("{what}: {failure}")))
}

fn text_of(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|failure| error("other", failure))
}

fn head_json(head: &Head) -> String {
    json!({
        "number": head.header.number,
        "hash": head.hash,
        "stateRoot": head.state_root,
        "timestamp": head.header.timestamp,
        "version": head.version,
    })
    .to_string()
}

fn hash_of(what: &str, text: &str) -> PyResult<B256> {
    text.parse()
        .map_err(|failure| error("other", format!("{what} {:?}: {failure}", text.chars().take(80).collect::<String>())))
}

/// The controls after an update: a JSON object with the fields to change; null clears an option.
fn changed(controls: &Controls, update: &str) -> PyResult<Controls> {
    let update: Map<String, Value> = parse("controls", update)?;
    let Value::Object(mut fields) = serde_json::to_value(controls).map_err(|failure| error("other", failure))? else {
        return Err(error("other", "controls do not serialise to an object"));
    };
    for (name, value) in update {
        match fields.get_mut(&name) {
            Some(field) => *field = value,
            None => return Err(error("other", format!("controls: {name:?} is not one of them"))),
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(|failure| error("other", format!("controls: {failure}")))
}

/// A chain: state, pool and blocks. Any thread may call any method.
#[pyclass(module = "zerog._native", frozen)]
pub(super) struct Engine {
    open: Mutex<Option<Open>>,
}

struct Open {
    engine: Arc<native::Engine>,
    /// Answers [`Engine::request`]; made at the first one.
    dispatcher: Option<Arc<Dispatcher>>,
    servers: Vec<server::Handle>,
}

impl Engine {
    fn native(&self) -> PyResult<Arc<native::Engine>> {
        match self.open.lock().as_ref() {
            Some(open) => Ok(open.engine.clone()),
            None => Err(error("other", "the engine is closed")),
        }
    }

    /// The dispatcher of a running server (it knows the node's accounts), or one of the engine's own.
    fn dispatcher(&self) -> PyResult<Arc<Dispatcher>> {
        let mut guard = self.open.lock();
        let Some(open) = guard.as_mut() else { return Err(error("other", "the engine is closed")) };
        if let Some(dispatcher) = open.servers.iter().rev().find_map(server::Handle::dispatcher) {
            return Ok(dispatcher);
        }
        if let Some(dispatcher) = &open.dispatcher {
            return Ok(dispatcher.clone());
        }
        let context =
            Context::new(open.engine.clone(), RpcConfig::default()).map_err(|failure| error("other", failure))?;
        let dispatcher = Arc::new(Dispatcher::new(Arc::new(context), None));
        open.dispatcher = Some(dispatcher.clone());
        Ok(dispatcher)
    }
}

#[pymethods]
impl Engine {
    /// Opens or creates a chain; `config` is a JSON object.
    #[staticmethod]
    fn open(py: Python<'_>, config: &str) -> PyResult<Engine> {
        let config: OpenConfig = parse("config", config)?;
        let engine = work(py, || native::Engine::open(config.into_engine()))?;
        Ok(Engine { open: Mutex::new(Some(Open { engine, dispatcher: None, servers: Vec::new() })) })
    }

    fn head(&self) -> PyResult<String> {
        Ok(head_json(&self.native()?.head()))
    }

    fn wait_work(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<&'static str> {
        let Ok(engine) = self.native() else { return Ok("closed") };
        // The engine may be closed and dropped by others while this thread sleeps; it holds its own reference.
        Ok(match py.detach(|| engine.wait_work(Duration::from_millis(timeout_ms))) {
            Work::Ready => "ready",
            Work::Timeout => "timeout",
            Work::Closed => "closed",
        })
    }

    fn wake(&self) {
        if let Ok(engine) = self.native() {
            engine.wake();
        }
    }

    fn next_attributes(&self, now: u64) -> PyResult<String> {
        text_of(&Attributes::from(self.native()?.next_attributes(now)))
    }

    fn propose<'py>(&self, py: Python<'py>, attributes: &str) -> PyResult<Bound<'py, PyBytes>> {
        let attributes: Attributes = parse("attributes", attributes)?;
        let engine = self.native()?;
        let payload = work(py, || engine.propose(&attributes.into()))?;
        Ok(PyBytes::new(py, &payload))
    }

    fn process_proposal(&self, py: Python<'_>, payload: &[u8]) -> PyResult<Option<String>> {
        let engine = self.native()?;
        Ok(match work(py, || engine.process_proposal(payload))? {
            Verdict::Accept => None,
            Verdict::Reject(reason) => Some(reason),
        })
    }

    fn finalize_block(&self, py: Python<'_>, payload: &[u8]) -> PyResult<String> {
        let engine = self.native()?;
        let executed = work(py, || engine.finalize_block(payload))?;
        let block = &executed.block;
        Ok(json!({
            "number": block.header.number,
            "hash": block.hash,
            "stateRoot": block.header.state_root,
            "gasUsed": block.header.gas_used,
            "transactions": block.transactions.len(),
            // The header's hash commits to state, transactions and receipts.
            "appHash": block.hash,
            "validatorUpdates": [],
        })
        .to_string())
    }

    fn commit(&self, py: Python<'_>) -> PyResult<String> {
        let engine = self.native()?;
        let head = work(py, || engine.commit())?;
        Ok(head_json(&head))
    }

    fn set_automine(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        let engine = self.native()?;
        py.detach(|| engine.set_automine(on));
        Ok(())
    }

    #[pyo3(signature = (update=None))]
    fn controls(&self, py: Python<'_>, update: Option<&str>) -> PyResult<String> {
        let engine = self.native()?;
        let Some(update) = update else { return text_of(&engine.controls()) };
        let mut merged = Err(error("other", "the controls were not changed"));
        py.detach(|| {
            // Merged under the engine's lock: a block may use up one of them at any moment.
            engine.update_controls(&mut |controls| {
                merged = changed(controls, update);
                if let Ok(wanted) = &merged {
                    controls.clone_from(wanted);
                }
            });
        });
        text_of(&merged?)
    }

    fn edit(&self, py: Python<'_>, delta: &str) -> PyResult<()> {
        let edits: BTreeMap<Address, AccountEdit> = parse("edit", delta)?;
        let engine = self.native()?;
        work(py, || engine.edit_accounts(&edits))?;
        Ok(())
    }

    fn snapshot(&self, py: Python<'_>) -> PyResult<u64> {
        let engine = self.native()?;
        work(py, || engine.snapshot())
    }

    fn revert(&self, py: Python<'_>, id: u64) -> PyResult<bool> {
        let engine = self.native()?;
        work(py, || engine.revert(id))
    }

    fn rollback(&self, py: Python<'_>, number: u64, reinject: bool) -> PyResult<()> {
        let engine = self.native()?;
        work(py, || engine.rollback(number, reinject))
    }

    /// Back to the genesis block as it was made.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.native()?;
        work(py, || engine.reset())
    }

    fn drop_transaction(&self, py: Python<'_>, hash: &str) -> PyResult<bool> {
        let hash = hash_of("transaction hash", hash)?;
        let engine = self.native()?;
        Ok(py.detach(|| engine.drop_transaction(&hash)))
    }

    fn drop_all_transactions(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.native()?;
        py.detach(|| engine.drop_all_transactions());
        Ok(())
    }

    fn drop_sender(&self, py: Python<'_>, address: &str) -> PyResult<usize> {
        let sender: Address = address.parse().map_err(|failure| error("other", format!("address: {failure}")))?;
        let engine = self.native()?;
        Ok(py.detach(|| engine.drop_sender(&sender)))
    }

    /// Answers a native JSON-RPC method; `params` is a JSON array.
    fn request(&self, py: Python<'_>, method: &str, params: &str) -> PyResult<String> {
        let dispatcher = self.dispatcher()?;
        py.detach(|| dispatcher.call_blocking(method, params)).map_err(rpc_error)
    }

    /// `progress` gets the head's number after every commit; an exception that it raises ends the import.
    #[pyo3(signature = (path, progress=None))]
    fn import_blocks(&self, py: Python<'_>, path: PathBuf, progress: Option<Py<PyAny>>) -> PyResult<u64> {
        let engine = self.native()?;
        let mut raised = None;
        let imported = work(py, || {
            let mut file = File::open(&path).map_err(|failure| file_error(&path, &failure))?;
            let mut tell = |number| {
                let told = Python::attach(|py| {
                    py.check_signals()?;
                    progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (number,)).map(drop))
                });
                told.map_err(|failure| raised = Some(failure)).is_ok()
            };
            Ok::<_, PyErr>(engine.import_blocks(&mut file, &mut tell))
        })?;
        match raised {
            Some(failure) => Err(failure),
            None => imported.map_err(|failure| error("block", failure)),
        }
    }

    fn export_blocks(&self, py: Python<'_>, path: PathBuf, first: u64, last: u64) -> PyResult<u64> {
        let engine = self.native()?;
        work(py, || {
            let mut written = 0;
            write_file(&path, &mut |out| {
                written = engine.export_blocks(out, first, last)?;
                Ok(())
            })?;
            Ok::<_, PyErr>(written)
        })
    }

    fn dump_state(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let engine = self.native()?;
        work(py, || write_file(&path, &mut |out| Ok(engine.dump_state(out)?)))
    }

    fn load_state(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let engine = self.native()?;
        work(py, || {
            let file = File::open(&path).map_err(|failure| file_error(&path, &failure))?;
            Ok::<_, PyErr>(engine.load_state(&mut BufReader::with_capacity(1 << 20, file))?)
        })
    }

    /// Rebuilds the state root of the head from the flat state.
    fn verify_state(&self, py: Python<'_>) -> PyResult<String> {
        let engine = self.native()?;
        let (root, rebuilt) = work(py, || engine.verify_state())?;
        Ok(json!({ "stateRoot": root, "rebuilt": rebuilt, "equal": root == rebuilt }).to_string())
    }

    /// Starts the JSON-RPC server. `dispatch(method, params_json, reply)` is called on one thread of the server for
    /// each call of a method in `methods`; it must return at once and answer through the reply, from any thread.
    /// `http(request)` is called likewise for each request whose path a route of `config` covers.
    #[pyo3(signature = (config, dispatch, methods, http=None))]
    fn serve(
        &self,
        py: Python<'_>,
        config: &str,
        dispatch: Py<PyAny>,
        methods: Vec<String>,
        http: Option<Py<PyAny>>,
    ) -> PyResult<Server> {
        let engine = self.native()?;
        let server = work(py, || server::start(engine, config, dispatch, methods, http))?;
        match self.open.lock().as_mut() {
            Some(open) => open.servers.push(server.handle()),
            None => return Err(error("other", "the engine is closed")),
        }
        Ok(server)
    }

    /// Closes servers, journal and store. Calls in flight end first; later ones are refused.
    fn close(&self, py: Python<'_>) {
        let Some(open) = self.open.lock().take() else { return };
        py.detach(|| {
            for server in &open.servers {
                server.close();
            }
            open.engine.close();
            drop(open);
        });
    }
}

fn file_error(path: &std::path::Path, failure: &std::io::Error) -> PyErr {
    error("other", format!("{}: {failure}", path.display()))
}

/// Writes a file under a temporary name and gives it its own only when it is complete.
fn write_file(path: &std::path::Path, write: &mut dyn FnMut(&mut dyn Write) -> PyResult<()>) -> PyResult<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let result = (|| {
        let file = File::create(&part).map_err(|failure| file_error(&part, &failure))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        write(&mut out)?;
        let file = out.into_inner().map_err(|failure| file_error(&part, failure.error()))?;
        file.sync_all().map_err(|failure| file_error(&part, &failure))?;
        std::fs::rename(&part, path).map_err(|failure| file_error(path, &failure))
    })();
    if result.is_err() {
        // What is incomplete is worth nothing; that it could not be removed changes nothing.
        let _ = std::fs::remove_file(&part);
    }
    result
}
