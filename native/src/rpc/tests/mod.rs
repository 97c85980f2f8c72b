//! The server over real sockets, with a table of test methods and a fake bridge.

mod batches;
mod chain;
mod http;
mod routes;
mod websocket;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use parking_lot::Mutex;
use serde_json::{json, Value};

use super::bridge::tests::{FakeBridge, FAKE_METHODS};
use super::bridge::BridgeHandle;
use super::dispatch::{method, Class, Context, Method, RpcConfig, Scope};
use super::http::Routes;
use super::{Dispatcher, Json, Params, RpcError, Server};
use crate::engine::{Engine, EngineConfig};
use crate::pool::PoolConfig;
use crate::primitives::{Address, SignedTx, Transaction};
use crate::state::{StoreOptions, SyncPolicy};

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const TEST_METHODS: &[Method] = &[
    method("test_ping", Class::Inline, ping),
    method("test_fail", Class::Inline, fail),
    method("test_crash", Class::Inline, crash),
    method("test_text", Class::Inline, text),
    method("test_wait", Class::Heavy, wait),
    method("test_adapt", Class::Adaptive, adapt),
];

fn ping(_: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.string("pong");
    Ok(())
}

fn fail(_: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.raw("[1,2,");
    Err(RpcError::new(3, "execution reverted").with_bytes(&[0xab]))
}

fn crash(_: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.raw("[1,2,");
    panic!("a bug in a method")
}

/// A string of as many bytes as asked for.
fn text(_: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    // Not through the serialiser: it is slow without optimisation, and the tests ask for megabytes.
    out.byte(b'"');
    out.raw("x".repeat(params.required(0)?));
    out.byte(b'"');
    Ok(())
}

/// Gates that `test_wait` stops at, by number.
static GATES: LazyLock<Mutex<HashMap<u64, Receiver<()>>>> = LazyLock::new(Mutex::default);

/// A call of `test_wait(number)` ends when the returned sender is dropped or used.
pub fn gate(number: u64) -> Sender<()> {
    let (open, closed) = channel();
    GATES.lock().insert(number, closed);
    open
}

fn wait(_: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    let number: u64 = params.required(0)?;
    if let Some(closed) = { GATES.lock().remove(&number) } {
        let _ = closed.recv_timeout(PATIENCE);
    }
    out.number(number as i64);
    Ok(())
}

/// Takes all the time it is given unless that is plenty.
fn adapt(scope: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.raw("\"partial");
    if scope.deadline() > Instant::now() + Duration::from_secs(1) {
        out.raw(" on the pool\"");
        return Ok(());
    }
    while Instant::now() < scope.deadline() {
        std::hint::spin_loop();
    }
    Err(scope.timed_out())
}

/// An engine over a throw-away chain that starts with `alloc`.
pub fn engine_with(alloc: Value) -> Arc<Engine> {
    let genesis = json!({
        "config": {
            "chainId": 31337, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0,
            "londonBlock": 0, "terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0,
            "osakaTime": 0,
            "blobSchedule": {
                "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477},
                "prague": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5007716},
                "osaka": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5007716},
            },
        },
        "gasLimit": "0x1c9c380", "difficulty": "0x0", "baseFeePerGas": "0x3b9aca00", "timestamp": "0x1",
        "alloc": alloc,
    });
    Engine::open(EngineConfig {
        store: StoreOptions { path: None, sync: SyncPolicy::Safe, history_blocks: None, max_bytes: 1 << 30 },
        pool: PoolConfig {
            max_pending: 10_000,
            max_queued: 1_000,
            max_per_account: 1_000,
            max_bytes: 64 << 20,
            max_nonce_gap: 1_000,
            min_tip: 0,
            fifo: false,
            journal: None,
            check_balance: true,
        },
        genesis: genesis.to_string().into_bytes(),
        data_dir: None,
        coinbase: Address::ZERO,
        gas_limit: 30_000_000,
        devnet: true,
    })
    .unwrap()
}

pub fn engine() -> Arc<Engine> {
    engine_with(json!({}))
}

/// A transaction of nobody, for what only carries one.
pub fn some_transaction() -> Arc<SignedTx> {
    let signature = alloy_primitives::Signature::test_signature();
    let tx = Transaction::Legacy(TxLegacy::default().into_signed(signature));
    let raw = tx.encoded_2718().into();
    Arc::new(SignedTx { hash: *tx.tx_hash(), tx, sender: Address::ZERO, raw, impersonated: false })
}

pub fn serve(config: RpcConfig) -> Server {
    let config = RpcConfig { port: 0, ..config };
    let bridge = BridgeHandle::start(
        Arc::new(FakeBridge::default()),
        FAKE_METHODS.map(str::to_owned),
        Duration::from_millis(config.bridge_timeout_ms),
    )
    .unwrap();
    bridge.set_routes(Routes::new(config.routes.iter().cloned()).unwrap());
    let context = Arc::new(Context::new(engine(), config).unwrap());
    Server::serve(Arc::new(Dispatcher::with_tables(context, Some(bridge), &[TEST_METHODS]))).unwrap()
}

pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A client that shows every byte.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(server: &Server) -> Client {
        Client::to(server.address())
    }

    pub fn to(address: std::net::SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    pub fn post(&mut self, body: &str) -> Answer {
        self.send(post(body).as_bytes());
        self.receive()
    }

    /// Calls a method and returns the whole response object.
    pub fn call(&mut self, name: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": name, "params": params}).to_string();
        let answer = self.post(&body);
        assert_eq!(answer.status, 200);
        answer.json()
    }

    pub fn receive(&mut self) -> Answer {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut headers = HashMap::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            return Answer { status, headers, body: self.chunks() };
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        Answer { status, headers, body }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let start = body.len();
            body.resize(start + length + 2, 0);
            self.reader.read_exact(&mut body[start..]).unwrap();
            body.truncate(start + length);
            if length == 0 {
                return body;
            }
        }
    }

    /// True once the server has closed the connection; reads and drops whatever comes before.
    pub fn is_closed(&mut self) -> bool {
        let mut scratch = [0u8; 4096];
        loop {
            match self.reader.read(&mut scratch) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

pub fn post(body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"test_ping","params":[]}"#;
