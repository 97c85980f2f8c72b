//! What single protocol features do to a block.

use alloy_consensus::{TxEip4844, TxEip7702, TxLegacy};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{bytes, hex, Signature};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::geth::{GethDebugTracingCallOptions, GethDebugTracingOptions};
use serde_json::{json, Value};

use super::super::evm::{Machine, Message, Overlay, Precompile, PrecompileCall, PrecompileResult, PrecompileSet};
use super::*;

const CONTRACT: Address = address!("0x0000000000000000000000000000000000c0de01");

fn sign<T: SignableTransaction<Signature>>(from: &PrivateKeySigner, tx: T) -> Arc<SignedTx>
where
    alloy_consensus::Signed<T>: Into<Transaction>,
{
    let signature = from.sign_hash_sync(&tx.signature_hash()).unwrap();
    Arc::new(signed(tx.into_signed(signature).into()))
}

fn call_to(from: &PrivateKeySigner, nonce: u64, to: TxKind, input: Bytes) -> Arc<SignedTx> {
    let tx = TxEip1559 {
        chain_id: 31337,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: 20_000_000_000,
        to,
        input,
        ..TxEip1559::default()
    };
    sign(from, tx)
}

fn install(chain: &mut Chain, address: Address, code: Bytes) {
    let hash = keccak256(&code);
    chain.state.code.insert(hash, code);
    let info = AccountInfo { nonce: 1, balance: U256::ZERO, code_hash: hash };
    chain.state.accounts.insert(address, (info, Default::default()));
    chain.head.state_root = chain.state.root();
}

/// Builds a block from the transactions, re-executes it strictly and adopts it.
fn mine(chain: &mut Chain, transactions: impl IntoIterator<Item = Arc<SignedTx>>) -> ExecutedBlock {
    let mut queue = Queue::default();
    queue.waiting.extend(transactions);
    let built = chain.build(&attributes(chain.head.timestamp + 1), &mut queue);
    assert_eq!(queue.rejected, [], "rejected");
    let again = chain.execute(built.block.clone(), false).unwrap();
    assert_eq!(again.delta, built.delta);
    chain.adopt(&built);
    built
}

fn slot(chain: &Chain, address: Address, slot: u64) -> U256 {
    chain.state.storage(&address, &U256::from(slot)).unwrap()
}

#[test]
fn a_contract_is_created_called_and_destroyed() {
    let mut chain = devnet();
    // Deploys code that stores its input at slot 0.
    let runtime = hex!("5f355f55");
    let init = [hex!("63").as_slice(), &runtime, &hex!("5f526004601cf3")].concat();
    let built = mine(&mut chain, [call_to(&key(1), 0, TxKind::Create, init.into())]);
    let created = built.receipts[0].contract_address.unwrap();
    assert_eq!(created, key(1).address().create(0));
    assert_eq!(built.delta.code.len(), 1);
    let input = U256::from(42).to_be_bytes::<32>();
    mine(&mut chain, [call_to(&key(1), 1, TxKind::Call(created), input.into())]);
    assert_eq!(slot(&chain, created, 0), U256::from(42));
    mine(&mut chain, [call_to(&key(1), 2, TxKind::Call(created), Bytes::new())]);
    assert_eq!(slot(&chain, created, 0), U256::ZERO);

    // SELFDESTRUCT in the transaction of its creation removes the account (EIP-6780).
    let built = mine(&mut chain, [call_to(&key(1), 3, TxKind::Create, bytes!("32ff"))]);
    let gone = built.receipts[0].contract_address.unwrap();
    assert!(chain.state.account(&gone).unwrap().is_none());
}

#[test]
fn a_failed_transaction_pays_and_leaves_no_trace() {
    let mut chain = devnet();
    install(&mut chain, CONTRACT, bytes!("60015f555f5f5f5fa15ffe"));
    let built = mine(&mut chain, [call_to(&key(1), 0, TxKind::Call(CONTRACT), Bytes::new())]);
    let receipt = &built.receipts[0];
    assert_eq!(receipt.outcome, ReceiptOutcome::Status(false));
    assert_eq!(receipt.gas_used, 1_000_000);
    assert!(receipt.logs.is_empty());
    assert_eq!(slot(&chain, CONTRACT, 0), U256::ZERO);
}

#[test]
fn blockhash_and_history_contract_see_the_parent() {
    let mut chain = devnet();
    // BLOCKHASH(NUMBER - 1) into slot 0.
    install(&mut chain, CONTRACT, bytes!("60014303405f55"));
    mine(&mut chain, []);
    let parent = chain.head.hash_slow();
    mine(&mut chain, [call_to(&key(1), 0, TxKind::Call(CONTRACT), Bytes::new())]);
    assert_eq!(B256::from(slot(&chain, CONTRACT, 0)), parent);
}

#[test]
fn a_set_code_transaction_delegates_and_clears() {
    let mut chain = devnet();
    install(&mut chain, CONTRACT, bytes!("60075f55"));
    let authority = key(2);
    let delegate = |address: Address, nonce: u64| {
        let auth = Authorization { chain_id: U256::from(31337), address, nonce };
        auth.clone().into_signed(authority.sign_hash_sync(&auth.signature_hash()).unwrap())
    };
    let set = |nonce, auth| {
        let tx = TxEip7702 {
            chain_id: 31337,
            nonce,
            gas_limit: 200_000,
            max_fee_per_gas: 20_000_000_000,
            to: authority.address(),
            authorization_list: vec![auth],
            ..TxEip7702::default()
        };
        sign(&key(1), tx)
    };
    mine(&mut chain, [set(0, delegate(CONTRACT, 0))]);
    assert_eq!(slot(&chain, authority.address(), 0), U256::from(7));
    let info = chain.state.account(&authority.address()).unwrap().unwrap();
    assert_eq!(info.nonce, 1);
    let code = chain.state.code(&info.code_hash).unwrap().unwrap();
    assert_eq!(code, [hex!("ef0100").as_slice(), CONTRACT.as_slice()].concat());
    // A delegated account still sends transactions.
    mine(&mut chain, [transfer(&authority, 1, 100_000)]);
    mine(&mut chain, [set(1, delegate(Address::ZERO, 2))]);
    let info = chain.state.account(&authority.address()).unwrap().unwrap();
    assert_eq!(info.code_hash, alloy_primitives::KECCAK256_EMPTY);
}

#[test]
fn blob_transactions_fill_their_own_space() {
    let mut chain = devnet();
    let blob = |nonce, count| {
        let mut hash = B256::repeat_byte(3);
        hash.0[0] = 1;
        let tx = TxEip4844 {
            chain_id: 31337,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 20_000_000_000,
            max_fee_per_blob_gas: 1_000,
            to: Address::repeat_byte(1),
            blob_versioned_hashes: vec![hash; count],
            ..TxEip4844::default()
        };
        sign(&key(1), tx)
    };
    let built = mine(&mut chain, [blob(0, 6), blob(1, 3)]);
    assert_eq!(built.block.header.blob_gas_used, Some(9 * 131_072));
    // Nine of nine blobs are taken: the rest of the block has no room for another one.
    let mut queue = Queue::default();
    queue.waiting.extend([blob(2, 6), blob(3, 6)]);
    let built = chain.build(&attributes(9), &mut queue);
    assert_eq!(built.block.transactions.len(), 1);
    assert_eq!(queue.rejected[0].1, SkipReason::NoRoom);
    // Seven blobs in one transaction are never valid from Osaka on.
    let mut queue = Queue::default();
    queue.waiting.push_back(blob(2, 7));
    chain.build(&attributes(9), &mut queue);
    assert!(matches!(&queue.rejected[0].1, SkipReason::Invalid(m) if m.contains("too many blobs")));
}

#[test]
fn transactions_above_the_gas_cap_are_refused_from_osaka_on() {
    let chain = devnet();
    let mut queue = Queue::default();
    queue.waiting.push_back(transfer(&key(1), 0, (1 << 24) + 1));
    chain.build(&attributes(5), &mut queue);
    assert!(matches!(&queue.rejected[0].1, SkipReason::Invalid(m) if m.contains("16777216")));
}

#[test]
fn blocks_stay_below_the_size_limit() {
    let mut chain = devnet();
    chain.head.gas_limit = 1_000_000_000;
    let big = |nonce| {
        let tx = TxEip1559 {
            chain_id: 31337,
            nonce,
            gas_limit: 16_000_000,
            max_fee_per_gas: 2_000_000_000,
            to: TxKind::Call(Address::repeat_byte(2)),
            input: vec![0; 1_000_000].into(),
            ..TxEip1559::default()
        };
        sign(&key(1), tx)
    };
    let mut queue = Queue::default();
    queue.waiting.extend((0..9).map(big));
    let built = chain.build(&BlockAttributes { gas_limit: 1_000_000_000, ..attributes(5) }, &mut queue);
    assert_eq!(built.block.transactions.len(), 8);
    assert_eq!(queue.rejected.len(), 1);
    assert_eq!(queue.rejected[0].1, SkipReason::NoRoom);
    chain.execute(built.block, false).unwrap();
}

#[test]
fn deposit_logs_become_requests() {
    let mut chain = devnet();
    chain.spec.deposit_contract = CONTRACT;
    let mut event = Vec::new();
    for offset in [160u64, 256, 320, 384, 512] {
        event.extend(U256::from(offset).to_be_bytes::<32>());
    }
    for (length, fill) in [(48usize, 1u8), (32, 2), (8, 3), (96, 4), (8, 5)] {
        event.extend(U256::from(length).to_be_bytes::<32>());
        event.extend(vec![fill; length]);
        event.extend(vec![0; (32 - length % 32) % 32]);
    }
    // Logs its calldata under the topic of deposits.
    let code = [
        hex!("365f5f37").as_slice(),
        &[0x7f],
        &hex!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5"),
        &hex!("365fa1"),
    ]
    .concat();
    install(&mut chain, CONTRACT, code.into());
    let built = mine(&mut chain, [call_to(&key(1), 0, TxKind::Call(CONTRACT), event.into())]);
    let expected = [vec![0], vec![1; 48], vec![2; 32], vec![3; 8], vec![4; 96], vec![5; 8]].concat();
    assert_eq!(built.requests, [Bytes::from(expected)]);
    assert_ne!(built.block.header.requests_hash, Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH));

    let mut queue = Queue::default();
    queue.waiting.push_back(call_to(&key(1), 1, TxKind::Call(CONTRACT), vec![0; 576].into()));
    let mut roots = MemoryRoots::over(&chain.state);
    let hash = chain.head.hash_slow();
    let error =
        build_block(&chain.spec, &chain.head, hash, &attributes(9), &chain.state, &mut roots, &mut queue).unwrap_err();
    assert!(error.to_string().contains("deposit event"), "{error}");
}

#[test]
fn a_chain_without_request_contracts_cannot_make_prague_blocks() {
    let mut chain = devnet();
    chain.state.accounts.remove(&alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS);
    let mut roots = MemoryRoots::over(&chain.state);
    let hash = chain.head.hash_slow();
    let error =
        build_block(&chain.spec, &chain.head, hash, &attributes(9), &chain.state, &mut roots, &mut Queue::default())
            .unwrap_err();
    assert!(error.to_string().contains("has no code"), "{error}");
}

#[test]
fn impersonated_contracts_may_send() {
    let mut chain = devnet();
    install(&mut chain, CONTRACT, bytes!("00"));
    chain.state.accounts.get_mut(&CONTRACT).unwrap().0.balance = U256::from(10u128.pow(18));
    chain.head.state_root = chain.state.root();
    let unsigned = TxLegacy {
        chain_id: Some(31337),
        nonce: 1,
        gas_limit: 21_000,
        gas_price: 2_000_000_000,
        to: TxKind::Call(Address::repeat_byte(2)),
        value: U256::from(3),
        ..TxLegacy::default()
    };
    let tx: Transaction = unsigned.into_signed(Signature::test_signature()).into();
    let mut tx =
        SignedTx { sender: CONTRACT, hash: *tx.tx_hash(), raw: tx.encoded_2718().into(), impersonated: true, tx };
    mine(&mut chain, [Arc::new(tx.clone())]);
    assert_eq!(chain.balance(Address::repeat_byte(2)), U256::from(3));
    // Without impersonation EIP-3607 stands in the way.
    tx.impersonated = false;
    let mut queue = Queue::default();
    queue.waiting.push_back(Arc::new(tx));
    chain.build(&attributes(9), &mut queue);
    assert!(matches!(&queue.rejected[0].1, SkipReason::Invalid(_)));
}

#[test]
fn a_relaxed_execution_accepts_devnet_headers_and_a_strict_one_does_not() {
    let chain = devnet();
    let unusual = BlockAttributes { base_fee: Some(5), gas_limit: 77_000_000, ..attributes(chain.head.timestamp) };
    let built = chain.build(&unusual, &mut Queue::default());
    assert_eq!(built.block.header.base_fee_per_gas, Some(5));
    chain.execute(built.block.clone(), true).unwrap();
    assert!(chain.execute(built.block, false).is_err());
}

/// Adds one to the word it is given and keeps a count in its own storage.
struct Counter;

impl Precompile for Counter {
    fn address(&self) -> Address {
        Address::with_last_byte(0xcc)
    }
    fn name(&self) -> &'static str {
        "counter"
    }
    fn call(&self, mut call: PrecompileCall<'_, '_>) -> PrecompileResult {
        let Ok(input) = <[u8; 32]>::try_from(call.input) else {
            return PrecompileResult::Revert { gas_used: 100, output: Bytes::from_static(b"length") };
        };
        if !call.is_static && call.is_direct {
            let count = call.load(self.address(), U256::ZERO).unwrap();
            call.store(self.address(), U256::ZERO, count + U256::from(1)).unwrap();
        }
        let output = (U256::from_be_bytes(input) + U256::from(1)).to_be_bytes_vec().into();
        PrecompileResult::Return { gas_used: 1_000, output }
    }
}

#[test]
fn native_contracts_are_called_and_keep_state() {
    let mut chain = devnet();
    chain.spec.precompiles = PrecompileSet::new(vec![Arc::new(Counter)]);
    let counter = Counter.address();
    install(&mut chain, counter, bytes!("00"));
    let ask = |input: Bytes| TransactionRequest {
        to: Some(TxKind::Call(counter)),
        input: input.into(),
        ..Default::default()
    };
    let asked = |chain: &Chain, input: Bytes| {
        call(&chain.spec, &BlockContext::of(&chain.head), &chain.state, &ask(input), &CallOptions::default())
    };
    let input = Bytes::from(U256::from(41).to_be_bytes_vec());
    assert_eq!(asked(&chain, input.clone()).unwrap().output, U256::from(42).to_be_bytes_vec());
    let error = asked(&chain, Bytes::new()).unwrap_err();
    assert_eq!((error.code, error.data), (3, Some(Bytes::from_static(b"length"))));
    mine(
        &mut chain,
        [call_to(&key(1), 0, TxKind::Call(counter), input.clone()), call_to(&key(1), 1, TxKind::Call(counter), input)],
    );
    assert_eq!(slot(&chain, counter, 0), U256::from(2));
}

#[test]
fn an_overlay_outlives_calls_and_blocks() {
    let mut chain = devnet();
    install(&mut chain, CONTRACT, bytes!("5f546001015f55"));
    let mut overlay = Overlay::new(&chain.state);
    for number in 1..=3 {
        let context = BlockContext { number, ..BlockContext::of(&chain.head) };
        let mut machine = Machine::new(&chain.spec, &context, overlay);
        let message = Message { to: TxKind::Call(CONTRACT), gas_limit: 100_000, ..Message::default() };
        let checks = super::super::evm::Checks { base_fee: false, ..super::super::evm::Checks::CALL };
        assert!(machine.run(message.clone(), checks).unwrap().success);
        assert!(machine.probe(message, checks).unwrap().success);
        overlay = machine.into_overlay();
    }
    assert_eq!(overlay.slot(CONTRACT, U256::ZERO).unwrap(), U256::from(3));
    let delta = overlay.delta();
    assert_eq!(delta.accounts[&CONTRACT].storage[&U256::ZERO], U256::from(3));
}

fn traced(chain: &Chain, tracer: &str, config: Value) -> Value {
    let request = TransactionRequest {
        from: Some(key(1).address()),
        to: Some(TxKind::Call(CONTRACT)),
        input: bytes!("aabbccdd01").into(),
        ..Default::default()
    };
    let options: GethDebugTracingCallOptions =
        serde_json::from_value(json!({"tracer": tracer, "tracerConfig": config})).unwrap();
    let context = BlockContext::of(&chain.head);
    let trace = trace_call(&chain.spec, &context, &chain.state, &request, &options, &CallOptions::default());
    serde_json::to_value(trace.unwrap()).unwrap()
}

#[test]
fn every_tracer_tells_its_part() {
    let mut chain = devnet();
    let inner = Address::repeat_byte(0x1a);
    install(&mut chain, inner, bytes!("60025f5500"));
    // A call of `inner` with the caller's input, then a log.
    let code = [hex!("365f5f375f5f365f5f73").as_slice(), inner.as_slice(), &hex!("5af15f5fa000")].concat();
    install(&mut chain, CONTRACT, code.into());

    let call = traced(&chain, "callTracer", json!({"withLog": true}));
    assert_eq!(call["type"], "CALL");
    assert_eq!(call["calls"][0]["to"], json!(inner));
    assert_eq!(call["logs"].as_array().unwrap().len(), 1);
    let top = traced(&chain, "callTracer", json!({"onlyTopCall": true}));
    assert!(top.get("calls").is_none());

    let before = traced(&chain, "prestateTracer", json!({}));
    assert!(before[inner.to_string().to_lowercase()].get("code").is_some());
    let diff = traced(&chain, "prestateTracer", json!({"diffMode": true}));
    let changed = &diff["post"][inner.to_string().to_lowercase()]["storage"];
    assert_eq!(changed[B256::ZERO.to_string()], json!(B256::with_last_byte(2)));

    let selectors = traced(&chain, "4byteTracer", json!({}));
    assert_eq!(selectors["0xaabbccdd-1"], 2);
    assert_eq!(traced(&chain, "noopTracer", json!({})), json!({}));
    let both = traced(&chain, "muxTracer", json!({"callTracer": {}, "4byteTracer": {}}));
    assert_eq!(both["callTracer"]["type"], "CALL");
    assert_eq!(both["4byteTracer"]["0xaabbccdd-1"], 2);
}

#[test]
fn unknown_tracers_and_endless_traces_are_errors() {
    let mut chain = devnet();
    install(&mut chain, CONTRACT, bytes!("5b5f56"));
    let context = BlockContext::of(&chain.head);
    let request = TransactionRequest { to: Some(TxKind::Call(CONTRACT)), ..Default::default() };
    let run = |options: Value| {
        let options: GethDebugTracingOptions = serde_json::from_value(options).unwrap();
        let options = GethDebugTracingCallOptions::new(options);
        let bounds = CallOptions { gas_cap: 50_000_000, ..CallOptions::default() };
        trace_call(&chain.spec, &context, &chain.state, &request, &options, &bounds)
    };
    assert!(run(json!({"tracer": "{step: function() {}}"})).is_err());
    assert!(run(json!({"tracer": "callTracer", "tracerConfig": {"onlyTopCall": 5}})).is_err());
    let error = run(json!({})).unwrap_err();
    assert!(error.message.contains("the trace exceeds"), "{error}");
    // With a limit the trace ends early but the call runs on.
    assert!(run(json!({"limit": 10})).is_ok());
}

#[test]
fn one_transaction_of_a_block_is_traced_on_the_state_before_it() {
    let mut chain = devnet();
    install(&mut chain, CONTRACT, bytes!("5f546001015f55"));
    let (parent, before) = (chain.head.clone(), chain.state.clone());
    let calls = (0..3).map(|nonce| call_to(&key(1), nonce, TxKind::Call(CONTRACT), Bytes::new()));
    let built = mine(&mut chain, calls);
    let options: GethDebugTracingOptions =
        serde_json::from_value(json!({"tracer": "prestateTracer", "tracerConfig": {"diffMode": true}})).unwrap();
    let trace = |only| trace_block(&chain.spec, &parent, &built.block, &before, only, &options, None).unwrap();
    let all = trace(None);
    assert_eq!(all.len(), 3);
    let one = trace(Some(2));
    assert_eq!(one.len(), 1);
    assert_eq!(one[0], all[2]);
    let value = serde_json::to_value(one[0].1.as_ref().unwrap()).unwrap();
    let storage = &value["post"][CONTRACT.to_string().to_lowercase()]["storage"];
    assert_eq!(storage[B256::ZERO.to_string()], json!(B256::with_last_byte(3)));
}
