//! The methods over a real engine, asked inside the process; blocks are mined where a test wants them.

use std::sync::Arc;

use serde_json::{json, Value};

use crate::engine::Engine;
use crate::rpc::config::Accounts;
use crate::rpc::tests::engine_with;
use crate::rpc::{Context, Dispatcher, RpcConfig, RpcError};

const JUNK: &str = "test test test test test test test test test test test junk";
const ALICE: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const STRANGER: &str = "0x00000000000000000000000000000000000000ff";
/// LOG1 of topic 7 with the call data.
const LOGGER: &str = "0x0000000000000000000000000000000000001099";
/// Reverts with data 0xdeadbeef.
const REVERTER: &str = "0x0000000000000000000000000000000000001011";
/// Jumps to itself for ever.
const LOOPER: &str = "0x0000000000000000000000000000000000001012";
/// Stores the call data's first word in slot 0.
const KEEPER: &str = "0x0000000000000000000000000000000000001013";
const WORD_SEVEN: &str = "0x0000000000000000000000000000000000000000000000000000000000000007";
const FUNDS: u128 = 10_000_000_000_000_000_000_000;

struct Node {
    engine: Arc<Engine>,
    dispatcher: Arc<Dispatcher>,
}

fn node_with(config: RpcConfig) -> Node {
    let nothing = json!({"balance": "0x0", "code": "0x00"});
    let engine = engine_with(json!({
        ALICE: {"balance": format!("{FUNDS:#x}")},
        LOGGER: {"balance": "0x0", "code": "0x365f5f376007365fa100"},
        REVERTER: {"balance": "0x0", "code": "0x63deadbeef5f526004601cfd"},
        LOOPER: {"balance": "0x0", "code": "0x5b5f56"},
        KEEPER: {"balance": "0x0", "code": "0x5f355f5500"},
        "0x00000961ef480eb55e80d19ad83579a64c007002": nothing,
        "0x0000bbddc7ce488642fb579f8b00f3a590007251": nothing,
    }));
    engine.set_automine(false);
    let accounts = Accounts::Mnemonic { mnemonic: JUNK.to_owned(), path: "m/44'/60'/0'/0/".to_owned(), count: 1 };
    let context = Context::new(Arc::clone(&engine), RpcConfig { accounts, ..config }).unwrap();
    Node { engine, dispatcher: Arc::new(Dispatcher::new(Arc::new(context), None)) }
}

fn node() -> Node {
    node_with(RpcConfig::default())
}

impl Node {
    fn ask(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let answer = self.dispatcher.call_blocking(method, &params.to_string())?;
        Ok(serde_json::from_str(&answer).unwrap())
    }

    fn get(&self, method: &str, params: Value) -> Value {
        self.ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn refusal(&self, method: &str, params: Value) -> RpcError {
        self.ask(method, params).expect_err(method)
    }

    fn send(&self, to: &str, value: u64, input: &str) -> Value {
        let request = json!({"from": ALICE, "to": to, "value": format!("{value:#x}"), "input": input});
        self.get("eth_sendTransaction", json!([request]))
    }

    fn mine(&self) -> Value {
        let attributes = self.engine.next_attributes(1_700_000_000);
        let payload = self.engine.propose(&attributes).unwrap();
        self.engine.finalize_block(&payload).unwrap();
        self.engine.commit().unwrap();
        self.get("eth_getBlockByNumber", json!(["latest", false]))
    }

    fn balance(&self, address: &str, block: Value) -> u128 {
        let answer = self.get("eth_getBalance", json!([address, block]));
        u128::from_str_radix(&answer.as_str().unwrap()[2..], 16).unwrap()
    }
}

#[test]
fn a_transaction_in_the_pool_has_no_block_and_shows_its_fee_cap() {
    let node = node();
    let hash = node.send(STRANGER, 1, "0x");
    let pooled = node.get("eth_getTransactionByHash", json!([hash]));
    for field in ["blockHash", "blockNumber", "blockTimestamp", "transactionIndex"] {
        assert_eq!(pooled[field], Value::Null, "{field}");
    }
    assert_eq!(pooled["gasPrice"], pooled["maxFeePerGas"]);
    assert_eq!(node.get("eth_getTransactionReceipt", json!([hash])), Value::Null);
    node.mine();
    let mined = node.get("eth_getTransactionByHash", json!([hash]));
    assert_eq!(mined["blockNumber"], "0x1");
    assert_ne!(mined["gasPrice"], mined["maxFeePerGas"]);
    let raw = node.get("eth_getRawTransactionByHash", json!([hash]));
    assert_eq!(raw, node.get("debug_getRawTransaction", json!([hash])));
}

#[test]
fn pending_state_counts_what_waits_in_the_pool_and_latest_does_not() {
    let node = node();
    node.send(STRANGER, 5, "0x");
    assert_eq!(node.balance(STRANGER, json!("pending")), 5);
    assert_eq!(node.balance(STRANGER, json!("latest")), 0);
    assert_eq!(node.get("eth_getTransactionCount", json!([ALICE, "pending"])), "0x1");
    assert_eq!(node.get("eth_getTransactionCount", json!([ALICE, "latest"])), "0x0");
    let block = node.get("eth_getBlockByNumber", json!(["pending", true]));
    assert_eq!((&block["number"], &block["hash"], &block["miner"]), (&json!("0x1"), &Value::Null, &Value::Null));
    assert_eq!(block["transactions"].as_array().unwrap().len(), 1);
    assert_eq!(block["transactions"][0]["blockHash"], Value::Null);
    assert_eq!(node.get("eth_getBlockTransactionCountByNumber", json!(["pending"])), "0x1");
    assert_eq!(node.get("eth_blockNumber", json!([])), "0x0", "asking must not mine");
}

#[test]
fn state_is_read_at_any_block_by_number_and_by_hash() {
    let node = node();
    let mut hashes = vec![node.get("eth_getBlockByNumber", json!(["0x0", false]))["hash"].clone()];
    for _ in 0..3 {
        node.send(STRANGER, 1, "0x");
        hashes.push(node.mine()["hash"].clone());
    }
    for (number, hash) in hashes.iter().enumerate() {
        let expected = number as u128;
        assert_eq!(node.balance(STRANGER, json!(format!("{number:#x}"))), expected);
        assert_eq!(node.balance(STRANGER, hash.clone()), expected);
        assert_eq!(node.balance(STRANGER, json!({"blockHash": hash, "requireCanonical": true})), expected);
    }
    assert_eq!(node.refusal("eth_getBalance", json!([ALICE, "0x4"])).message, "header not found");
    let unknown = format!("0x{}", "11".repeat(32));
    assert_eq!(node.refusal("eth_getBalance", json!([ALICE, unknown])).message, "header for hash not found");
}

#[test]
fn a_call_that_reverts_carries_its_data() {
    let node = node();
    let error = node.refusal("eth_call", json!([{"to": REVERTER}]));
    assert_eq!((error.code, error.data.as_deref()), (3, Some("\"0xdeadbeef\"")));
    let error = node.refusal("eth_estimateGas", json!([{"to": REVERTER}]));
    assert_eq!((error.code, error.data.as_deref()), (3, Some("\"0xdeadbeef\"")));
}

#[test]
fn an_endless_call_ends_with_its_gas_or_its_time() {
    let node = node();
    let error = node.refusal("eth_call", json!([{"to": LOOPER, "gas": "0x186a0"}]));
    assert_eq!((error.code, &*error.message), (-32000, "out of gas"));
    let hasty = node_with(RpcConfig { gas_cap: u64::MAX, call_timeout_ms: 20, ..RpcConfig::default() });
    let error = hasty.refusal("eth_call", json!([{"to": LOOPER}]));
    assert!(error.message.contains("timeout"), "{error}");
}

#[test]
fn overrides_change_what_a_call_sees_and_nothing_else() {
    let node = node();
    // Returns BALANCE of the stranger.
    let overrides = json!({
        STRANGER: {"balance": "0x2a"},
        REVERTER: {"code": "0x60ff315f5260205ff3"},
    });
    let output = node.get("eth_call", json!([{"to": REVERTER}, "latest", overrides]));
    assert_eq!(output, format!("0x{:064x}", 0x2a));
    // NUMBER
    let number = json!({REVERTER: {"code": "0x435f5260205ff3"}});
    let output = node.get("eth_call", json!([{"to": REVERTER}, "latest", number, {"number": "0x99"}]));
    assert_eq!(output, format!("0x{:064x}", 0x99));
    assert_eq!(node.balance(STRANGER, json!("latest")), 0);
}

#[test]
fn logs_are_found_by_address_and_topic_over_ranges() {
    let node = node();
    node.send(LOGGER, 0, "0x01");
    node.mine();
    node.send(STRANGER, 1, "0x");
    node.mine();
    node.send(LOGGER, 0, "0x02");
    node.send(LOGGER, 0, "0x03");
    let last = node.mine();
    let find = |filter: Value| node.get("eth_getLogs", json!([filter])).as_array().unwrap().clone();
    let data = |logs: &[Value]| logs.iter().map(|log| log["data"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let all = find(json!({"fromBlock": "earliest", "address": LOGGER, "topics": [WORD_SEVEN]}));
    assert_eq!(data(&all), ["0x01", "0x02", "0x03"]);
    assert_eq!((&all[2]["logIndex"], &all[2]["blockTimestamp"]), (&json!("0x1"), &last["timestamp"]));
    assert_eq!(data(&find(json!({"fromBlock": "0x2", "toBlock": "0x3"}))), ["0x02", "0x03"]);
    assert_eq!(data(&find(json!({"blockHash": last["hash"]}))), ["0x02", "0x03"]);
    assert!(find(json!({"fromBlock": "earliest", "address": STRANGER})).is_empty());
    assert!(find(json!({"fromBlock": "earliest", "topics": [[], []]})).is_empty(), "there is no second topic");
    let receipts = node.get("eth_getBlockReceipts", json!(["latest"]));
    assert_eq!(receipts[1]["logs"][0], all[2]);
}

#[test]
fn log_queries_out_of_bounds_are_refused() {
    let node = node_with(RpcConfig { log_range: 1, max_result: 100, ..RpcConfig::default() });
    node.send(LOGGER, 0, "0x01");
    node.mine();
    node.mine();
    let refuse = |filter: Value| node.refusal("eth_getLogs", json!([filter])).message.into_owned();
    assert_eq!(refuse(json!({"fromBlock": "0x2", "toBlock": "0x1"})), "invalid block range params");
    assert_eq!(refuse(json!({"fromBlock": "0x0", "toBlock": "0x9"})), "block range extends beyond current head block");
    assert_eq!(refuse(json!({"fromBlock": "0x0"})), "exceed maximum block range 1");
    assert_eq!(refuse(json!({"fromBlock": "pending"})), "pending logs are not supported");
    assert!(refuse(json!({"fromBlock": "0x1"})).contains("exceeds 100 bytes"));
}

#[test]
fn fee_history_covers_the_pending_block() {
    let node = node();
    node.send(STRANGER, 1, "0x");
    node.mine();
    node.send(STRANGER, 1, "0x");
    let history = node.get("eth_feeHistory", json!(["0x5", "pending", [50]]));
    assert_eq!(history["oldestBlock"], "0x0");
    assert_eq!(history["baseFeePerGas"].as_array().unwrap().len(), 4);
    assert_eq!(history["gasUsedRatio"].as_array().unwrap().len(), 3);
    assert_eq!(history["reward"].as_array().unwrap().len(), 3);
    assert_eq!(history["reward"][0], json!(["0x0"]));
    assert_eq!(history["reward"][1], history["reward"][2]);
    let error = node.refusal("eth_feeHistory", json!(["0x1", "0x9", []]));
    assert_eq!(error.message, "request beyond head block: requested 9, head 1");
}

#[test]
fn suggested_fees_are_enough_for_the_next_block() {
    let node = node();
    assert_eq!(node.get("eth_maxPriorityFeePerGas", json!([])), "0x3b9aca00");
    let number = |value: Value| u64::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap();
    let price = number(node.get("eth_gasPrice", json!([])));
    assert_eq!(price, number(node.get("eth_baseFee", json!([]))) + 1_000_000_000);
    let request = json!({"from": ALICE, "to": STRANGER, "gasPrice": format!("{price:#x}")});
    let hash = node.get("eth_sendTransaction", json!([request]));
    node.mine();
    assert_eq!(node.get("eth_getTransactionReceipt", json!([hash]))["status"], "0x1");
}

#[test]
fn a_filled_transaction_wants_only_a_signature() {
    let node = node();
    let filled = node.get("eth_fillTransaction", json!([{"from": ALICE, "to": STRANGER, "value": "0x1"}]));
    let tx = &filled["tx"];
    assert_eq!((&tx["gas"], &tx["nonce"], &tx["type"]), (&json!("0x5208"), &json!("0x0"), &json!("0x2")));
    assert_eq!((&tx["chainId"], &tx["r"], &tx["s"]), (&json!("0x7a69"), &json!("0x0"), &json!("0x0")));
    assert!(filled["raw"].as_str().unwrap().starts_with("0x02"));
}

#[test]
fn a_simulation_on_an_old_block_does_not_depend_on_what_came_later() {
    let node = node();
    let keep = |word: u64| json!({"from": ALICE, "to": KEEPER, "input": format!("0x{word:064x}")});
    node.get("eth_sendTransaction", json!([keep(1)]));
    node.mine();
    let plan = json!({"blockStateCalls": [
        {"calls": [keep(2), {"from": ALICE, "to": LOGGER, "value": "0x3", "input": "0x05"}]},
        {"blockOverrides": {"number": "0x9"}, "calls": [keep(1)]},
    ], "traceTransfers": true});
    let before = node.get("eth_simulateV1", json!([plan, "0x1"]));
    assert_eq!(before.as_array().unwrap().len(), 8);
    assert_eq!(before[0]["calls"][1]["logs"].as_array().unwrap().len(), 2);
    for word in 7..10 {
        node.get("eth_sendTransaction", json!([keep(word)]));
        node.send(STRANGER, 1, "0x");
        node.mine();
    }
    assert_eq!(node.get("eth_simulateV1", json!([plan, "0x1"])), before);
    assert_ne!(node.get("eth_simulateV1", json!([plan, "latest"])), before);
}

#[test]
fn a_block_under_test_is_built_and_not_kept() {
    let node = node();
    let head = node.get("eth_getBlockByNumber", json!(["latest", false]));
    node.send(STRANGER, 7, "0x");
    let attributes = json!({
        "timestamp": "0x7fffffff", "prevRandao": WORD_SEVEN, "suggestedFeeRecipient": STRANGER,
        "withdrawals": [], "parentBeaconBlockRoot": WORD_SEVEN,
    });
    let built = node.get("testing_buildBlockV1", json!([head["hash"], attributes, null, "0x01"]));
    assert_eq!(built["executionPayload"]["transactions"].as_array().unwrap().len(), 1);
    assert_eq!(built["executionPayload"]["extraData"], "0x01");
    let empty = node.get("testing_buildBlockV1", json!([head["hash"], attributes, [], null]));
    assert_eq!((&empty["executionPayload"]["gasUsed"], &empty["blockValue"]), (&json!("0x0"), &json!("0x0")));
    assert_eq!(node.get("eth_blockNumber", json!([])), "0x0");
    let error = node.refusal("testing_buildBlockV1", json!([WORD_SEVEN, attributes, [], null]));
    assert_eq!(error.message, "parentHash is not current head");
}

#[test]
fn proofs_and_account_records_agree_with_the_state() {
    let node = node();
    let slot = format!("0x{:064x}", 0);
    node.get("eth_sendTransaction", json!([{"from": ALICE, "to": KEEPER, "input": WORD_SEVEN}]));
    node.mine();
    let proof = node.get("eth_getProof", json!([KEEPER, [slot, "0x1"], "latest"]));
    assert_eq!(proof["storageProof"][0]["value"], "0x7");
    assert_eq!((&proof["storageProof"][0]["key"], &proof["storageProof"][1]["key"]), (&json!(slot), &json!("0x1")));
    assert_eq!(node.get("eth_getStorageAt", json!([KEEPER, "0x0"])), WORD_SEVEN);
    let account = node.get("eth_getAccount", json!([KEEPER, "latest"]));
    assert_eq!((&account["storageRoot"], &account["codeHash"]), (&proof["storageHash"], &proof["codeHash"]));
    assert_eq!(node.get("eth_getAccount", json!([STRANGER, "latest"])), Value::Null);
    let old = node.get("eth_getProof", json!([KEEPER, [slot], "0x0"]));
    assert_eq!(old["storageProof"][0]["value"], "0x0");
}

#[test]
fn the_configuration_names_the_fork_in_force() {
    let config = node().get("eth_config", json!([]));
    assert_eq!((&config["next"], &config["last"]), (&Value::Null, &Value::Null));
    let current = &config["current"];
    assert_eq!((&current["activationTime"], &current["chainId"]), (&json!(0), &json!("0x7a69")));
    assert_eq!(current["blobSchedule"]["max"], 9);
    assert_eq!(current["precompiles"]["P256VERIFY"], "0x0000000000000000000000000000000000000100");
    assert_eq!(current["systemContracts"].as_object().unwrap().len(), 5);
}

#[test]
fn malformed_arguments_are_named() {
    let node = node();
    let refuse = |method: &str, params: Value| node.refusal(method, params).message.into_owned();
    assert_eq!(refuse("eth_getBalance", json!([])), "missing value for required argument 0");
    assert_eq!(
        refuse("eth_getBalance", json!(["0x12"])),
        "invalid argument 0: hex string has length 2, want 40 for address"
    );
    assert_eq!(refuse("eth_getBalance", json!([ALICE, "newest"])), "invalid argument 1: hex string without 0x prefix");
    assert_eq!(refuse("eth_getBalance", json!([ALICE, "latest", 1])), "too many arguments, want at most 2");
    assert!(refuse("eth_call", json!([{"to": ALICE, "gas": 5.5}])).starts_with("invalid argument 0: "));
    assert!(refuse("eth_call", json!([{"to": ALICE}, "latest", {ALICE: {"balance": "lots"}}]))
        .starts_with("invalid argument 2"));
    assert!(refuse("eth_getBlockByNumber", json!(["latest", "yes"])).starts_with("invalid argument 1: "));
}

#[test]
fn a_malformed_member_is_named_and_no_rust_type_is() {
    let node = node();
    let call = |request: Value, overrides: Value| {
        node.refusal("eth_call", json!([request, "latest", overrides])).message.into_owned()
    };
    assert_eq!(call(json!({"to": "0x12"}), json!({})), "invalid argument 0: to: invalid string length");
    assert!(call(json!({"data": "0x1"}), json!({})).starts_with("invalid argument 0: data: "));
    assert!(call(json!({"gas": "0x10000000000000000"}), json!({})).starts_with("invalid argument 0: gas: "));
    assert_eq!(call(json!("x"), json!({})), "invalid argument 0: invalid type: string \"x\", expected an object");
    let wrong = call(json!({}), json!({ALICE: {"balance": "zz"}})).to_lowercase();
    assert!(wrong.starts_with(&format!("invalid argument 2: {}.balance: ", ALICE.to_lowercase())), "{wrong}");
    assert_eq!(call(json!({}), json!({"0x12": {}})), "invalid argument 2: 0x12: invalid string length");
}

#[test]
fn malformed_tracing_options_are_explained() {
    let node = node();
    let trace = |options: Value| {
        node.refusal("debug_traceCall", json!([{"to": ALICE}, "latest", options])).message.into_owned()
    };
    assert_eq!(trace(json!({"tracer": 5})), "invalid argument 2: tracer: the value has none of the accepted forms");
    assert!(trace(json!(5)).ends_with("expected an object"));
    let unknown = trace(json!({"tracer": "foo"}));
    assert!(unknown.contains("unknown tracer \"foo\"; supported: callTracer, "), "{unknown}");
}
