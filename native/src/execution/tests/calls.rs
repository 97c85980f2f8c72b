//! Calls, estimates, overrides and their errors on a devnet state.

use std::time::{Duration, Instant};

use alloy_primitives::{bytes, hex};
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use alloy_rpc_types_eth::TransactionRequest;

use super::*;

const CONTRACT: Address = address!("0x0000000000000000000000000000000000c0de00");

fn request() -> TransactionRequest {
    TransactionRequest { from: Some(key(1).address()), to: Some(TxKind::Call(CONTRACT)), ..Default::default() }
}

/// Options under which `CONTRACT` has the given code.
fn with_code(code: Bytes) -> CallOptions {
    let account = AccountOverride { code: Some(code), ..Default::default() };
    CallOptions { state: Some(StateOverride::from_iter([(CONTRACT, account)])), ..CallOptions::default() }
}

fn run(request: &TransactionRequest, options: &CallOptions) -> Result<CallOutcome, CallError> {
    let chain = devnet();
    call(&chain.spec, &BlockContext::of(&chain.head), &chain.state, request, options)
}

fn estimate(request: &TransactionRequest, options: &CallOptions) -> Result<u64, CallError> {
    let chain = devnet();
    estimate_gas(&chain.spec, &BlockContext::of(&chain.head), &chain.state, request, options)
}

/// Code that returns the value on top of the stack.
fn returning(code: &[u8]) -> Bytes {
    [code, &hex!("5f5260205ff3")].concat().into()
}

fn word(outcome: &CallOutcome) -> U256 {
    U256::from_be_slice(&outcome.output)
}

#[test]
fn a_revert_carries_code_reason_and_data() {
    // Error("no") built in memory by hand.
    let data = [
        hex!("08c379a0").as_slice(),
        &U256::from(32).to_be_bytes::<32>(),
        &U256::from(2).to_be_bytes::<32>(),
        b"no",
        &[0; 30],
    ]
    .concat();
    // CODECOPY the data behind the code, then REVERT.
    let code = [hex!("6064600b5f3960645ffd00").as_slice(), &data].concat();
    let error = run(&request(), &with_code(code.into())).unwrap_err();
    assert_eq!(error.code, 3);
    assert_eq!(error.message, "execution reverted: no");
    assert_eq!(error.data.unwrap(), data);
}

#[test]
fn reverts_with_odd_data_keep_the_plain_message() {
    for data in ["", "08c379a0", "08c379a0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "12345678"]
    {
        let error = CallError::reverted(hex::decode(data).unwrap().into());
        assert_eq!((error.code, error.message.as_str()), (3, "execution reverted"), "{data}");
    }
    let mut panic = hex!("4e487b71").to_vec();
    panic.extend(U256::from(0x11).to_be_bytes::<32>());
    let error = CallError::reverted(panic.into());
    assert_eq!(error.message, "execution reverted: arithmetic underflow or overflow");
}

#[test]
fn halts_have_the_customary_texts() {
    let cases = [
        (bytes!("fe"), "invalid opcode: INVALID"),
        (bytes!("0c"), "invalid opcode"),
        (bytes!("5f56"), "invalid jump destination"),
        (bytes!("50"), "stack underflow"),
        (bytes!("5b5f56"), "out of gas"),
        (bytes!("5f5f5f3e60015f5f3e"), "return data out of bounds"),
    ];
    for (code, text) in cases {
        let limited = TransactionRequest { gas: Some(100_000), ..request() };
        let error = run(&limited, &with_code(code)).unwrap_err();
        assert_eq!((error.code, error.message.as_str(), error.data), (-32000, text, None));
    }
}

#[test]
fn a_call_without_a_price_needs_no_funds_but_its_value_does() {
    let poor = Address::repeat_byte(0x99);
    let free = TransactionRequest { from: Some(poor), ..request() };
    assert!(run(&free, &CallOptions::default()).is_ok());
    let valued = TransactionRequest { value: Some(U256::from(5)), ..free.clone() };
    let error = run(&valued, &CallOptions::default()).unwrap_err();
    assert!(error.message.contains("insufficient funds for gas * price + value"), "{error}");
    let priced = TransactionRequest { gas_price: Some(2_000_000_000), ..free.clone() };
    assert!(run(&priced, &CallOptions::default()).unwrap_err().message.contains("insufficient funds"));
    let cheap = TransactionRequest { gas_price: Some(1), from: Some(key(1).address()), ..free };
    assert!(run(&cheap, &CallOptions::default()).unwrap_err().message.contains("less than block base fee"));
}

#[test]
fn contradicting_and_foreign_fields_are_named() {
    let cases = [
        (TransactionRequest { gas_price: Some(1), max_fee_per_gas: Some(1), ..request() }, "both gasPrice and"),
        (TransactionRequest { chain_id: Some(5), ..request() }, "chainId does not match"),
        (TransactionRequest { to: None, ..request() }, "contract creation without any data"),
        (TransactionRequest { blob_versioned_hashes: Some(vec![]), ..request() }, "at least 1 blob"),
        (
            TransactionRequest { max_fee_per_gas: Some(1), max_priority_fee_per_gas: Some(2), ..request() },
            "maxPriorityFeePerGas (2)",
        ),
    ];
    for (request, text) in cases {
        let error = run(&request, &CallOptions::default()).unwrap_err();
        assert!(error.message.contains(text), "{error}");
    }
}

#[test]
fn state_overrides_hold_for_the_call_only() {
    let chain = devnet();
    let before = chain.state.root();
    let slot = B256::with_last_byte(1);
    let account = AccountOverride {
        balance: Some(U256::from(77)),
        code: Some(returning(&hex!("600154"))),
        state_diff: Some([(slot, B256::with_last_byte(9))].into_iter().collect()),
        ..Default::default()
    };
    let options =
        CallOptions { state: Some(StateOverride::from_iter([(CONTRACT, account)])), ..CallOptions::default() };
    let outcome = call(&chain.spec, &BlockContext::of(&chain.head), &chain.state, &request(), &options).unwrap();
    assert_eq!(word(&outcome), U256::from(9));
    assert_eq!(chain.state.root(), before);

    let both =
        AccountOverride { state: Some(Default::default()), state_diff: Some(Default::default()), ..Default::default() };
    let options = CallOptions { state: Some(StateOverride::from_iter([(CONTRACT, both)])), ..CallOptions::default() };
    assert!(run(&request(), &options).unwrap_err().message.contains("both 'state' and 'stateDiff'"));
}

#[test]
fn block_overrides_reach_the_opcodes() {
    use alloy_rpc_types_eth::BlockOverrides;
    let coinbase = Address::repeat_byte(0x41);
    let block = BlockOverrides {
        number: Some(U256::from(1234)),
        time: Some(99),
        gas_limit: Some(5_000_000),
        coinbase: Some(coinbase),
        random: Some(B256::with_last_byte(8)),
        ..Default::default()
    };
    let cases = [
        (0x43u8, U256::from(1234)),
        (0x42, U256::from(99)),
        (0x45, U256::from(5_000_000)),
        (0x41, U256::from_be_slice(coinbase.as_slice())),
        (0x44, U256::from(8)),
        // BASEFEE is 0 for a call without a gas price.
        (0x48, U256::ZERO),
    ];
    for (opcode, expected) in cases {
        let options = CallOptions { block: Some(block.clone()), ..with_code(returning(&[opcode])) };
        assert_eq!(word(&run(&request(), &options).unwrap()), expected, "opcode {opcode:#x}");
    }
}

#[test]
fn a_moved_precompile_answers_at_its_new_place() {
    let identity = Address::with_last_byte(4);
    let target = Address::repeat_byte(0x50);
    let account = AccountOverride { move_precompile_to: Some(target), ..Default::default() };
    let options =
        CallOptions { state: Some(StateOverride::from_iter([(identity, account)])), ..CallOptions::default() };
    let asked = TransactionRequest { to: Some(TxKind::Call(target)), input: bytes!("abcd").into(), ..request() };
    assert_eq!(run(&asked, &options).unwrap().output, bytes!("abcd"));
    let other = AccountOverride { move_precompile_to: Some(target), ..Default::default() };
    let options = CallOptions { state: Some(StateOverride::from_iter([(CONTRACT, other)])), ..CallOptions::default() };
    assert!(run(&asked, &options).unwrap_err().message.contains("is not a precompile"));
}

#[test]
fn the_gas_cap_bounds_a_call() {
    // GAS
    let options = CallOptions { gas_cap: 60_000, ..with_code(returning(&[0x5a])) };
    let outcome = run(&TransactionRequest { gas: Some(10_000_000), ..request() }, &options).unwrap();
    assert_eq!(word(&outcome), U256::from(60_000 - 21_000 - 2));
}

#[test]
fn an_endless_loop_ends_at_the_deadline() {
    // JUMPDEST PUSH0 JUMP, and a contract that calls itself forever.
    for code in [bytes!("5b5f56"), bytes!("5f5f5f5f5f305af1505f5f5f5f5f305af1")] {
        let options = CallOptions {
            deadline: Some(Instant::now() + Duration::from_millis(50)),
            gas_cap: u64::MAX / 2,
            ..with_code(code)
        };
        let error = run(&request(), &options).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (-32000, "execution aborted (timeout)"));
    }
}

#[test]
fn estimates_are_tight() {
    // SSTORE(1, 1) when unset, a refund-earning clear, and an inner call that needs the 1/64 rule.
    let store = bytes!("6001600155");
    let clear = bytes!("5f600155");
    let inner = bytes!("5f35600a575f5f5f5f6001305af1005b600160015500");
    let cases = [("store", store), ("clear", clear), ("inner", inner)];
    for (name, code) in cases {
        let mut options = with_code(code);
        if let Some(account) = options.state.as_mut().and_then(|state| state.get_mut(&CONTRACT)) {
            if name == "clear" {
                account.state_diff = Some([(B256::with_last_byte(1), B256::with_last_byte(1))].into_iter().collect());
            }
        }
        let gas = estimate(&request(), &options).unwrap();
        let with = |gas| run(&TransactionRequest { gas: Some(gas), ..request() }, &options);
        assert!(with(gas).is_ok(), "{name}: {gas} suffices");
        assert!(with(gas - 1).is_err(), "{name}: {} does not suffice", gas - 1);
    }
}

#[test]
fn a_transfer_is_estimated_at_its_intrinsic_gas() {
    let transfer = TransactionRequest { value: Some(U256::from(1)), ..request() };
    assert_eq!(estimate(&transfer, &CallOptions::default()).unwrap(), 21_000);
}

#[test]
fn estimate_errors_are_the_customary_ones() {
    let endless = with_code(bytes!("5b5f56"));
    let error = estimate(&TransactionRequest { gas: Some(50_000), ..request() }, &endless).unwrap_err();
    assert_eq!(error.message, "gas required exceeds allowance (50000)");
    let reverting = with_code(bytes!("5f5ffd"));
    let error = estimate(&request(), &reverting).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (3, "execution reverted"));
    let rich = U256::from(10u128.pow(30));
    let error =
        estimate(&TransactionRequest { value: Some(rich), gas_price: Some(1), ..request() }, &CallOptions::default())
            .unwrap_err();
    assert_eq!(error.message, "insufficient funds for transfer");
    // What the sender can pay for bounds the search.
    let account = AccountOverride { balance: Some(U256::from(30_000)), ..Default::default() };
    let mut options = with_code(bytes!("6001600155"));
    options.state.get_or_insert_default().insert(key(1).address(), account);
    let error = estimate(&TransactionRequest { gas_price: Some(1), ..request() }, &options).unwrap_err();
    assert!(error.message.contains("allowance (30000)") || error.message.contains("base fee"), "{error}");
}

#[test]
fn the_minimum_charge_does_not_raise_estimates() {
    let mut chain = devnet();
    chain.spec.min_gas_used = Some(MinGasUsed { percent: 80, time: 0 });
    let options = with_code(bytes!("6001600155"));
    let context = BlockContext::of(&chain.head);
    let gas = estimate_gas(&chain.spec, &context, &chain.state, &request(), &options).unwrap();
    assert_eq!(gas, estimate(&request(), &options).unwrap());
}

#[test]
fn access_lists_hold_what_execution_touches() {
    let chain = devnet();
    // SLOAD(5), BALANCE(0xaa..aa), CALL of the identity precompile, which stays out.
    let code =
        [hex!("600554").as_slice(), &[0x73], Address::repeat_byte(0xaa).as_slice(), &hex!("315f5f5f5f5f60045af100")]
            .concat();
    let options = with_code(code.into());
    let context = BlockContext::of(&chain.head);
    let (list, gas, error) = create_access_list(&chain.spec, &context, &chain.state, &request(), &options).unwrap();
    assert_eq!(error, None);
    assert!(gas > 21_000);
    let found: Vec<_> = list.0.iter().map(|item| (item.address, item.storage_keys.len())).collect();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&(CONTRACT, 1)) && found.contains(&(Address::repeat_byte(0xaa), 0)));
}
