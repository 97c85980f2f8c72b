//! The whole server over a real engine, mined by a thread as the sequencer does it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hyper_tungstenite::tungstenite::{client, Message, WebSocket};

use super::*;
use crate::engine::Work;
use crate::rpc::config::Accounts;

const JUNK: &str = "test test test test test test test test test test test junk";
/// The first two accounts of that phrase.
const ALICE: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const BOB: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const STRANGER: &str = "0x00000000000000000000000000000000000000ff";
/// LOG1 of topic 7 with the call data; then returns nothing.
const LOGGER: &str = "0x0000000000000000000000000000000000001099";
const LOGGER_CODE: &str = "0x365f5f376007365fa100";
/// REVERT with four bytes of data.
const REVERTER: &str = "0x0000000000000000000000000000000000001011";

/// Jumps to itself.
const ENDLESS: &str = "0x000000000000000000000000000000000000e4d1";

struct Chain {
    engine: Arc<Engine>,
    server: Server,
    stop: Arc<AtomicBool>,
    miner: Option<JoinHandle<()>>,
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.engine.wake();
        if let Some(miner) = self.miner.take() {
            let _ = miner.join();
        }
    }
}

fn mine_one(engine: &Engine, max: Option<usize>) {
    let mut attributes = engine.next_attributes(1_700_000_000);
    attributes.max_transactions = max;
    let payload = engine.propose(&attributes).unwrap();
    engine.finalize_block(&payload).unwrap();
    engine.commit().unwrap();
}

fn start(config: RpcConfig) -> Chain {
    let rich = json!({"balance": "0x21e19e0c9bab2400000"});
    let engine = engine_with(json!({
        ALICE: rich, BOB: rich,
        LOGGER: {"balance": "0x0", "code": LOGGER_CODE},
        REVERTER: {"balance": "0x0", "code": "0x63deadbeef5f526004601cfd"},
        ENDLESS: {"balance": "0x0", "code": "0x5b5f56"},
        // The system contracts that a block must call; these do nothing.
        "0x00000961ef480eb55e80d19ad83579a64c007002": {"balance": "0x0", "code": "0x00"},
        "0x0000bbddc7ce488642fb579f8b00f3a590007251": {"balance": "0x0", "code": "0x00"},
    }));
    let accounts = Accounts::Mnemonic { mnemonic: JUNK.to_owned(), path: "m/44'/60'/0'/0/".to_owned(), count: 2 };
    let config = RpcConfig { port: 0, accounts, ..config };
    let context = Arc::new(Context::new(Arc::clone(&engine), config).unwrap());
    let server = Server::start(context, Some(Arc::new(FakeBridge::default())), vec!["test_echo".to_owned()]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let miner = {
        let (engine, stop) = (Arc::clone(&engine), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                if engine.wait_work(Duration::from_millis(200)) == Work::Ready {
                    mine_one(&engine, Some(1));
                }
            }
        })
    };
    Chain { engine, server, stop, miner: Some(miner) }
}

impl Chain {
    fn client(&self) -> Client {
        Client::connect(&self.server)
    }

    fn raw(&self, from: &str, nonce: u64) -> String {
        let request =
            json!({"from": from, "to": STRANGER, "value": "0x1", "nonce": format!("{nonce:#x}"), "gas": "0x5208"});
        result(self.client().call("eth_signTransaction", json!([request]))).as_str().unwrap().to_owned()
    }
}

fn result(answer: Value) -> Value {
    assert!(answer.get("error").is_none(), "{answer}");
    answer["result"].clone()
}

fn refusal(answer: Value) -> String {
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Sends for the node to sign and returns the receipt, which must be there at once.
fn mined(client: &mut Client, request: Value) -> Value {
    let hash = result(client.call("eth_sendTransaction", json!([request])));
    let receipt = result(client.call("eth_getTransactionReceipt", json!([hash])));
    assert!(receipt.is_object(), "no receipt of {hash} after automine");
    receipt
}

#[test]
fn a_transaction_of_every_type_is_filled_signed_and_mined_before_the_answer() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    for (kind, extra) in [
        ("0x0", json!({"gasPrice": "0x77359400"})),
        ("0x0", json!({"type": "0x0"})),
        ("0x1", json!({"type": "0x1", "accessList": [{"address": BOB, "storageKeys": []}]})),
        ("0x2", json!({})),
        ("0x2", json!({"maxFeePerGas": "0x77359400"})),
        ("0x2", json!({"input": "0x", "data": "0x", "nonce": "0x5"})),
    ] {
        let mut request = json!({"from": ALICE, "to": BOB, "value": "0x1"});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let receipt = mined(&mut client, request);
        assert_eq!((receipt["type"].as_str(), receipt["status"].as_str()), (Some(kind), Some("0x1")));
    }
    assert_eq!(result(client.call("eth_getTransactionCount", json!([ALICE, "latest"]))), "0x6");
}

#[test]
fn transactions_sent_at_the_same_time_get_nonces_of_their_own() {
    let chain = start(RpcConfig::default());
    let mut clients: Vec<Client> = (0..24).map(|_| chain.client()).collect();
    let body =
        json!({"jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [{"from": ALICE, "to": BOB}]});
    for client in &mut clients {
        client.send(post(&body.to_string()).as_bytes());
    }
    for client in &mut clients {
        assert!(result(client.receive().json()).is_string());
    }
    assert_eq!(result(chain.client().call("eth_getTransactionCount", json!([ALICE, "latest"]))), "0x18");
}

#[test]
fn a_call_that_loops_for_ever_delays_nobody_and_ends() {
    let chain = start(RpcConfig { call_timeout_ms: 1_000, gas_cap: u64::MAX, ..RpcConfig::default() });
    let endless = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"to": ENDLESS}, "latest"]});
    let mut looping: Vec<Client> = (0..8).map(|_| chain.client()).collect();
    for client in &mut looping {
        client.send(post(&endless.to_string()).as_bytes());
    }
    let mut client = chain.client();
    for _ in 0..20 {
        assert_eq!(result(client.call("eth_blockNumber", json!([]))), "0x0");
    }
    for client in &mut looping {
        assert!(refusal(client.receive().json()).contains("timeout"));
    }
}

#[test]
fn a_creation_gets_its_gas_estimated() {
    let chain = start(RpcConfig::default());
    // Returns one byte of code: STOP.
    let receipt = mined(&mut chain.client(), json!({"from": ALICE, "input": "0x60015ff3"}));
    let address = receipt["contractAddress"].clone();
    assert_eq!(result(chain.client().call("eth_getCode", json!([address, "latest"]))), "0x00");
}

#[test]
fn an_authorization_list_makes_a_set_code_transaction() {
    let chain = start(RpcConfig::default());
    let authorization = json!({
        "chainId": "0x0", "address": LOGGER, "nonce": "0x0", "yParity": "0x0",
        "r": "0x1", "s": "0x1",
    });
    let receipt = mined(
        &mut chain.client(),
        json!({"from": ALICE, "to": BOB, "authorizationList": [authorization], "gas": "0x30d40"}),
    );
    assert_eq!(receipt["type"], "0x4");
}

#[test]
fn a_blob_transaction_is_signed_with_its_sidecar() {
    let chain = start(RpcConfig::default());
    let builder = alloy_consensus::SidecarBuilder::<alloy_consensus::SimpleCoder>::from_slice(b"zerog");
    let sidecar = builder.build_7594().unwrap();
    let mut request = serde_json::to_value(&sidecar).unwrap();
    let fields = json!({"from": ALICE, "to": BOB, "type": "0x3", "gas": "0x5208"});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let receipt = mined(&mut chain.client(), request);
    assert_eq!((receipt["type"].as_str(), receipt["blobGasUsed"].as_str()), (Some("0x3"), Some("0x20000")));
}

#[test]
fn a_request_that_cannot_be_sent_is_refused_with_its_reason() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    let mut refused = |request: Value| refusal(client.call("eth_sendTransaction", json!([request])));
    assert_eq!(refused(json!({"from": STRANGER, "to": BOB, "gas": "0x5208"})), "unknown account");
    assert_eq!(
        refused(json!({"from": ALICE, "to": BOB, "chainId": "0x1"})),
        "chainId does not match node's (have=1, want=31337)"
    );
    assert_eq!(
        refused(json!({"from": ALICE, "to": BOB, "gasPrice": "0x1", "maxFeePerGas": "0x1"})),
        "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"
    );
    assert_eq!(refused(json!({"from": ALICE})), "contract creation without any data provided");
    assert!(refused(json!({"from": ALICE, "to": BOB, "data": "0x01", "input": "0x02"})).starts_with("both \"data\""));
    assert!(refused(json!({"from": ALICE, "to": "0x12"})).starts_with("invalid argument 0: "));
    assert_eq!(refusal(client.call("eth_sendTransaction", json!([]))), "missing value for required argument 0");
}

#[test]
fn the_reason_of_a_revert_comes_with_the_refusal() {
    let chain = start(RpcConfig::default());
    let answer = chain.client().call("eth_sendTransaction", json!([{"from": ALICE, "to": REVERTER}]));
    assert_eq!(answer["error"]["code"], 3);
    assert_eq!(answer["error"]["data"], "0xdeadbeef");
}

#[test]
fn an_impersonated_account_sends_without_a_key() {
    let chain = start(RpcConfig::default());
    let stranger: Address = STRANGER.parse().unwrap();
    let mut client = chain.client();
    mined(&mut client, json!({"from": ALICE, "to": STRANGER, "value": "0xde0b6b3a7640000"}));
    chain.engine.update_controls(&mut |controls| {
        controls.impersonated.insert(stranger);
    });
    let receipt = mined(&mut client, json!({"from": STRANGER, "to": BOB, "value": "0x1"}));
    assert_eq!((receipt["from"].as_str(), receipt["status"].as_str()), (Some(STRANGER), Some("0x1")));
    chain.engine.update_controls(&mut |controls| controls.impersonated.clear());
    let answer = client.call("eth_sendTransaction", json!([{"from": STRANGER, "to": BOB, "gas": "0x5208"}]));
    assert_eq!(refusal(answer), "unknown account");
}

#[test]
fn raw_transactions_of_a_batch_are_mined_in_their_order() {
    let chain = start(RpcConfig::default());
    let calls: Vec<Value> = (0..40u64)
        .map(|nonce| {
            let raw = if nonce == 20 { json!("0x02") } else { json!(chain.raw(ALICE, nonce - u64::from(nonce > 20))) };
            json!({"jsonrpc": "2.0", "id": nonce, "method": "eth_sendRawTransaction", "params": [raw]})
        })
        .collect();
    let mut client = chain.client();
    let answer = client.post(&Value::from(calls).to_string()).json();
    for (index, item) in answer.as_array().unwrap().iter().enumerate() {
        assert_eq!(item["id"], index);
        assert_eq!(item.get("error").is_some(), index == 20, "{item}");
    }
    assert_eq!(result(client.call("eth_getTransactionCount", json!([ALICE, "latest"]))), "0x27");
    assert_eq!(result(client.call("eth_blockNumber", json!([]))), "0x27");
}

#[test]
fn a_transaction_behind_a_gap_is_answered_at_once_and_mined_when_the_gap_closes() {
    let chain = start(RpcConfig { mine_wait_ms: 3_600_000, ..RpcConfig::default() });
    let mut client = chain.client();
    let (first, second) = (chain.raw(ALICE, 0), chain.raw(ALICE, 1));
    let hash = result(client.call("eth_sendRawTransaction", json!([second])));
    assert!(result(client.call("eth_getTransactionReceipt", json!([hash]))).is_null());
    assert_eq!(result(client.call("txpool_status", json!([]))), json!({"pending": "0x0", "queued": "0x1"}));
    result(client.call("eth_sendRawTransaction", json!([first])));
    let deadline = Instant::now() + PATIENCE;
    while result(client.call("eth_getTransactionReceipt", json!([hash]))).is_null() {
        assert!(Instant::now() < deadline, "the second transaction was left behind");
    }
}

#[test]
fn a_raw_transaction_is_refused_with_geths_words() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    let raw = chain.raw(ALICE, 0);
    result(client.call("eth_sendRawTransaction", json!([raw])));
    let answer = client.call("eth_sendRawTransaction", json!([raw]));
    assert_eq!(answer["error"]["code"], -32000);
    assert!(refusal(answer).contains("nonce too low"));
    assert_eq!(refusal(client.call("eth_sendRawTransaction", json!([]))), "missing value for required argument 0");
    assert_eq!(
        refusal(client.call("eth_sendRawTransaction", json!(["0x1"]))),
        "invalid argument 0: hex string of odd length"
    );
}

#[test]
fn a_synchronous_submission_returns_the_receipt() {
    let chain = start(RpcConfig::default());
    let receipt = result(chain.client().call("eth_sendRawTransactionSync", json!([chain.raw(ALICE, 0), 20_000])));
    assert_eq!(receipt["status"], "0x1");
}

#[test]
fn a_synchronous_submission_that_is_not_mined_in_time_says_so_with_the_hash() {
    let chain = start(RpcConfig::default());
    chain.engine.set_automine(false);
    let answer = chain.client().call("eth_sendRawTransactionSync", json!([chain.raw(ALICE, 0), 50]));
    assert_eq!(answer["error"]["code"], 4);
    assert_eq!(answer["error"]["data"].as_str().unwrap().len(), 66);
}

#[test]
fn a_block_filter_gives_each_hash_once() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    let id = result(client.call("eth_newBlockFilter", json!([])));
    assert_eq!(result(client.call("eth_getFilterChanges", json!([id]))), json!([]));
    mined(&mut client, json!({"from": ALICE, "to": BOB}));
    mined(&mut client, json!({"from": ALICE, "to": BOB}));
    let hashes = result(client.call("eth_getFilterChanges", json!([id])));
    let second = result(client.call("eth_getBlockByNumber", json!(["0x2", false])));
    assert_eq!((hashes.as_array().unwrap().len(), &hashes[1]), (2, &second["hash"]));
    assert_eq!(result(client.call("eth_getFilterChanges", json!([id]))), json!([]));
    assert_eq!(result(client.call("eth_uninstallFilter", json!([id]))), true);
    assert_eq!(result(client.call("eth_uninstallFilter", json!([id]))), false);
    assert_eq!(refusal(client.call("eth_getFilterChanges", json!([id]))), "filter not found");
}

#[test]
fn a_log_filter_finds_what_matches_and_getfilterlogs_starts_over() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    let id = result(client.call("eth_newFilter", json!([{"fromBlock": "0x0", "address": LOGGER}])));
    let other = result(client.call("eth_newFilter", json!([{"address": BOB}])));
    mined(&mut client, json!({"from": ALICE, "to": LOGGER, "input": "0x0102"}));
    mined(&mut client, json!({"from": ALICE, "to": LOGGER, "input": "0x03"}));
    let logs = result(client.call("eth_getFilterChanges", json!([id])));
    let data: Vec<_> = logs.as_array().unwrap().iter().map(|log| log["data"].as_str().unwrap()).collect();
    assert_eq!(data, ["0x0102", "0x03"]);
    assert_eq!(result(client.call("eth_getFilterChanges", json!([id]))), json!([]));
    assert_eq!(result(client.call("eth_getFilterChanges", json!([other]))), json!([]));
    let all = json!([{"fromBlock": "0x0", "address": LOGGER}]);
    let direct = result(client.call("eth_getLogs", all));
    assert_eq!(direct, logs);
}

#[test]
fn a_pending_filter_gives_hashes_and_whole_transactions() {
    let chain = start(RpcConfig::default());
    chain.engine.set_automine(false);
    let mut client = chain.client();
    let hashes = result(client.call("eth_newPendingTransactionFilter", json!([])));
    let full = result(client.call("eth_newPendingTransactionFilter", json!([true])));
    let hash = result(client.call("eth_sendTransaction", json!([{"from": ALICE, "to": BOB}])));
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        let found = result(client.call("eth_getFilterChanges", json!([hashes])));
        if found != json!([]) {
            break found;
        }
        assert!(Instant::now() < deadline, "the filter never heard of the transaction");
    };
    assert_eq!(found, json!([hash]));
    let found = result(client.call("eth_getFilterChanges", json!([full])));
    assert_eq!((&found[0]["hash"], found[0]["from"].as_str()), (&hash, Some(ALICE)));
}

#[test]
fn after_a_revert_filters_see_the_blocks_that_take_the_place_of_the_old_ones() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    let snapshot = chain.engine.snapshot().unwrap();
    let id = result(client.call("eth_newBlockFilter", json!([])));
    mined(&mut client, json!({"from": ALICE, "to": BOB}));
    assert_eq!(result(client.call("eth_getFilterChanges", json!([id]))).as_array().unwrap().len(), 1);
    assert!(chain.engine.revert(snapshot).unwrap());
    mined(&mut client, json!({"from": ALICE, "to": BOB, "value": "0x5"}));
    let first = result(client.call("eth_getBlockByNumber", json!(["0x1", false])));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let hashes = result(client.call("eth_getFilterChanges", json!([id])));
        if hashes == json!([first["hash"]]) {
            break;
        }
        assert!(Instant::now() < deadline, "the new block was not reported: {hashes}");
    }
}

#[test]
fn the_pool_is_shown_by_sender_and_nonce() {
    let chain = start(RpcConfig::default());
    chain.engine.set_automine(false);
    let mut client = chain.client();
    let request = json!({"from": ALICE, "to": BOB, "value": "0x7", "gas": "0x5208", "gasPrice": "0x77359400"});
    let hash = result(client.call("eth_sendTransaction", json!([request])));
    result(client.call("eth_sendRawTransaction", json!([chain.raw(BOB, 3)])));
    let (alice, bob) = ("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
    let content = result(client.call("txpool_content", json!([])));
    assert_eq!(content["pending"][alice]["0"]["hash"], hash);
    assert_eq!(content["queued"][bob]["3"]["nonce"], "0x3");
    let from = result(client.call("txpool_contentFrom", json!([ALICE])));
    assert_eq!((&from["pending"]["0"]["hash"], &from["queued"]), (&hash, &json!({})));
    let inspect = result(client.call("txpool_inspect", json!([])));
    assert_eq!(inspect["pending"][alice]["0"], format!("{bob}: 7 wei + 21000 gas × 2000000000 wei"));
    assert_eq!(result(client.call("txpool_status", json!([]))), json!({"pending": "0x1", "queued": "0x1"}));
}

#[test]
fn messages_and_typed_data_are_signed_so_that_the_signer_is_recovered() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    let signature = result(client.call("eth_sign", json!([ALICE, "0x68656c6c6f"])));
    assert_eq!(signature, result(client.call("personal_sign", json!(["hello", ALICE]))));
    assert_eq!(signature, result(client.call("personal_sign", json!(["0x68656c6c6f", ALICE]))));
    let parsed: alloy_primitives::Signature = signature.as_str().unwrap().parse().unwrap();
    assert_eq!(parsed.recover_address_from_msg("hello").unwrap(), ALICE.parse::<Address>().unwrap());
    let typed = json!({
        "types": {"EIP712Domain": [{"name": "name", "type": "string"}], "Vote": [{"name": "yes", "type": "bool"}]},
        "primaryType": "Vote", "domain": {"name": "zerog"}, "message": {"yes": true},
    });
    let signature = result(client.call("eth_signTypedData_v4", json!([ALICE, typed])));
    let hash = crate::rpc::wallet::typed_data_hash(&typed.to_string()).unwrap();
    let parsed: alloy_primitives::Signature = signature.as_str().unwrap().parse().unwrap();
    assert_eq!(parsed.recover_address_from_prehash(&hash).unwrap(), ALICE.parse::<Address>().unwrap());
    assert_eq!(refusal(client.call("eth_sign", json!([STRANGER, "0x"]))), "unknown account");
}

#[test]
fn the_node_introduces_itself() {
    let chain = start(RpcConfig::default());
    let mut client = chain.client();
    assert!(result(client.call("web3_clientVersion", json!([]))).as_str().unwrap().starts_with("zerog/v"));
    assert_eq!(result(client.call("net_version", json!([]))), "31337");
    assert_eq!(result(client.call("net_listening", json!([]))), true);
    assert_eq!(result(client.call("net_peerCount", json!([]))), "0x0");
    assert_eq!(result(client.call("eth_accounts", json!([]))), json!([ALICE, BOB]));
    assert_eq!(
        result(client.call("web3_sha3", json!(["0x"]))),
        "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    );
    let modules = result(client.call("rpc_modules", json!([])));
    for space in ["debug", "eth", "net", "test", "txpool", "web3"] {
        assert_eq!(modules[space], "1.0", "{space}");
    }
}

fn open(chain: &Chain) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(chain.server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client(format!("ws://{}/", chain.server.address()), stream).unwrap().0
}

fn subscribe(chain: &Chain, params: Value) -> WebSocket<TcpStream> {
    let mut socket = open(chain);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": params}).to_string();
    socket.send(Message::from(body)).unwrap();
    assert!(result(hear(&mut socket)).is_string());
    socket
}

fn hear(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn heads_logs_and_pending_transactions_are_pushed_as_they_happen() {
    let chain = start(RpcConfig::default());
    let mut heads = subscribe(&chain, json!(["newHeads"]));
    let mut logs = subscribe(&chain, json!(["logs", {"address": LOGGER, "topics": [format!("0x{:064x}", 7)]}]));
    let mut hashes = subscribe(&chain, json!(["newPendingTransactions"]));
    let mut full = subscribe(&chain, json!(["newPendingTransactions", true]));
    let mut client = chain.client();
    mined(&mut client, json!({"from": ALICE, "to": BOB}));
    let receipt = mined(&mut client, json!({"from": ALICE, "to": LOGGER, "input": "0xaa"}));
    for number in ["0x1", "0x2"] {
        let head = hear(&mut heads)["params"]["result"].clone();
        let block = result(client.call("eth_getBlockByNumber", json!([number, false])));
        assert_eq!((&head["number"], &head["hash"]), (&json!(number), &block["hash"]));
        assert_eq!(head["parentHash"], block["parentHash"]);
    }
    assert_eq!(hear(&mut logs)["params"]["result"], receipt["logs"][0]);
    hear(&mut hashes);
    assert_eq!(hear(&mut hashes)["params"]["result"], receipt["transactionHash"]);
    hear(&mut full);
    assert_eq!(hear(&mut full)["params"]["result"]["input"], "0xaa");
}

#[test]
fn a_batch_reads_what_its_own_writes_did() {
    let chain = start(RpcConfig::default());
    let body = json!([
        {"jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber"},
        {"jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [{"from": ALICE, "to": BOB}]},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_blockNumber"},
    ]);
    let answer = chain.client().post(&body.to_string()).json();
    assert_eq!((&answer[0]["result"], &answer[2]["result"]), (&json!("0x0"), &json!("0x1")));
}

#[test]
fn calls_inside_the_process_reach_every_native_method() {
    let chain = start(RpcConfig::default());
    let dispatcher = chain.server.dispatcher();
    let hash =
        dispatcher.call_blocking("eth_sendTransaction", &json!([{"from": ALICE, "to": BOB}]).to_string()).unwrap();
    let receipt = dispatcher.call_blocking("eth_getTransactionReceipt", &format!("[{hash}]")).unwrap();
    assert!(receipt.contains("\"status\":\"0x1\""), "{receipt}");
    assert_eq!(dispatcher.call_blocking("test_echo", "[]").unwrap_err().code, -32601);
}
