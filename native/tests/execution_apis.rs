//! The public execution-API fixtures against a node in this process: genesis and chain imported, every recorded
//! request asked, every answer compared by the rules of the upstream runner.
//!
//! The fixtures lie outside the repository: in `$ZEROG_FIXTURES/execution-apis`, or in `../shared/fixtures` beside it.
//! Without them the test says so and passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::Address;
use serde_json::Value;
use zerog_native::engine::{Engine, EngineConfig};
use zerog_native::pool::PoolConfig;
use zerog_native::rpc::{Caller, Context, Dispatcher, RpcConfig};
use zerog_native::state::{StoreOptions, SyncPolicy};

/// A header line that makes the recorded answer an example among many.
const SPEC_ONLY: &str = "speconly:";

fn fixtures() -> Option<PathBuf> {
    let root = match std::env::var_os("ZEROG_FIXTURES") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"),
    };
    let tests = root.join("execution-apis/tests");
    tests.is_dir().then_some(tests)
}

fn node(tests: &Path) -> Arc<Dispatcher> {
    let engine = Engine::open(EngineConfig {
        store: StoreOptions { path: None, sync: SyncPolicy::Safe, history_blocks: None, max_bytes: 1 << 30 },
        pool: PoolConfig {
            max_pending: 1_000,
            max_queued: 1_000,
            max_per_account: 100,
            max_bytes: 64 << 20,
            max_nonce_gap: 100,
            min_tip: 0,
            fifo: false,
            journal: None,
            check_balance: true,
        },
        genesis: fs::read(tests.join("genesis.json")).unwrap(),
        data_dir: None,
        coinbase: Address::ZERO,
        gas_limit: 30_000_000,
        devnet: true,
    })
    .unwrap();
    let mut chain = fs::File::open(tests.join("chain.rlp")).unwrap();
    assert_eq!(engine.import_blocks(&mut chain, &mut |_| true).unwrap(), 54);
    // Nothing seals blocks here: an answer that waited for one would only wait.
    engine.set_automine(false);
    let context = Context::new(engine, RpcConfig::default()).unwrap();
    Arc::new(Dispatcher::new(Arc::new(context), None))
}

struct Case {
    name: String,
    spec_only: bool,
    /// Request and expected answer.
    exchanges: Vec<(String, Value)>,
}

fn cases(tests: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = fs::read_dir(tests)
        .unwrap()
        .filter_map(|folder| fs::read_dir(folder.unwrap().path()).ok())
        .flatten()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "io"))
        .collect();
    files.sort();
    files.iter().map(|path| case(tests, path)).collect()
}

fn case(tests: &Path, path: &Path) -> Case {
    let mut case =
        Case { name: path.strip_prefix(tests).unwrap().display().to_string(), spec_only: false, exchanges: vec![] };
    let mut request = None;
    for line in fs::read_to_string(path).unwrap().lines() {
        if let Some(comment) = line.strip_prefix("//") {
            case.spec_only |= comment.contains(SPEC_ONLY);
        } else if let Some(sent) = line.strip_prefix(">> ") {
            request = Some(sent.to_owned());
        } else if let Some(answer) = line.strip_prefix("<< ") {
            case.exchanges.push((request.take().unwrap(), serde_json::from_str(answer).unwrap()));
        }
    }
    case
}

/// Drops the texts of errors that both sides have: only their codes and data are compared.
fn drop_messages(left: &mut Value, right: &mut Value) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            if let (Some(Value::Object(a)), Some(Value::Object(b))) = (left.get_mut("error"), right.get_mut("error")) {
                if a.contains_key("message") && b.contains_key("message") {
                    a.remove("message");
                    b.remove("message");
                }
            }
            for (key, value) in left.iter_mut() {
                if let Some(other) = right.get_mut(key) {
                    drop_messages(value, other);
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            for (value, other) in left.iter_mut().zip(right) {
                drop_messages(value, other);
            }
        }
        _ => {}
    }
}

/// Where two values differ first, for the report.
fn difference(path: &str, got: &Value, want: &Value) -> Option<String> {
    let short = |value: &Value| value.to_string().chars().take(160).collect::<String>();
    match (got, want) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().chain(b.keys()).find_map(|key| match (a.get(key), b.get(key)) {
                (Some(x), Some(y)) => difference(&format!("{path}.{key}"), x, y),
                (Some(x), None) => Some(format!("{path}.{key}: surplus {}", short(x))),
                (None, y) => Some(format!("{path}.{key}: missing {}", short(y.unwrap_or(&Value::Null)))),
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (x, y))| difference(&format!("{path}[{i}]"), x, y))
        }
        _ if got == want => None,
        _ => Some(format!("{path}: got {}, want {}", short(got), short(want))),
    }
}

fn failure(node: &Arc<Dispatcher>, runtime: &tokio::runtime::Runtime, case: &Case) -> Option<String> {
    for (request, want) in &case.exchanges {
        let body = runtime.block_on(node.answer(request.as_bytes(), Caller::default())).unwrap();
        let mut got: Value = serde_json::from_slice(&body).unwrap();
        let mut want = want.clone();
        if case.spec_only && got.get("error").is_none() && want.get("error").is_none() {
            continue;
        }
        drop_messages(&mut got, &mut want);
        if let Some(difference) = difference("", &got, &want) {
            return Some(difference);
        }
    }
    None
}

#[test]
fn every_recorded_answer_is_given() {
    let Some(tests) = fixtures() else {
        eprintln!("skipped: no execution-apis fixtures; set ZEROG_FIXTURES to the folder that holds them");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = {
        let _guard = runtime.enter();
        node(&tests)
    };
    let cases = cases(&tests);
    let only = std::env::var("ZEROG_ONLY").unwrap_or_default();
    let failures: Vec<String> = cases
        .iter()
        .filter(|case| case.name.contains(&only))
        .filter_map(|case| Some(format!("{}: {}", case.name, failure(&node, &runtime, case)?)))
        .collect();
    assert!(cases.len() >= 150, "only {} cases were found", cases.len());
    assert!(failures.is_empty(), "{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
