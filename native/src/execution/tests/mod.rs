//! Blocks end to end on a state in memory.

use std::path::PathBuf;
use std::sync::Arc;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Block, Header, SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{address, keccak256, TxKind};
use alloy_rlp::Decodable;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;

use super::memory::{MemoryRoots, MemoryState};
use super::spec::MinGasUsed;
use super::*;

pub(super) fn fixtures() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let path = std::env::var_os("ZEROG_FIXTURES").map_or(beside, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: no fixtures at {}", path.display());
    None
}

/// Recovers senders and hashes of a decoded block.
pub(super) fn seal(block: Block<Transaction>) -> SealedBlock {
    let transactions = block.body.transactions.into_iter().map(|tx| Arc::new(signed(tx))).collect();
    SealedBlock {
        hash: block.header.hash_slow(),
        header: block.header,
        transactions,
        ommers: block.body.ommers,
        withdrawals: block.body.withdrawals.map(|w| w.into_inner()),
    }
}

fn signed(tx: Transaction) -> SignedTx {
    SignedTx {
        sender: tx.recover_signer().unwrap(),
        hash: *tx.tx_hash(),
        raw: tx.encoded_2718().into(),
        impersonated: false,
        tx,
    }
}

mod calls;
mod features;
mod public_calls;

struct Chain {
    spec: ChainSpec,
    state: MemoryState,
    head: Header,
}

impl Chain {
    fn from_genesis(json: &[u8]) -> Chain {
        let mut genesis = Genesis::parse(json).unwrap();
        let mut state = MemoryState::from_delta(&genesis.alloc);
        genesis.header.state_root = state.root();
        state.block_hashes.insert(0, genesis.header.hash_slow());
        Chain { spec: genesis.spec, state, head: genesis.header }
    }

    fn adopt(&mut self, executed: &ExecutedBlock) {
        self.state.apply(&executed.delta);
        assert_eq!(self.state.root(), executed.block.header.state_root);
        self.state.block_hashes.insert(executed.block.header.number, executed.block.hash);
        self.head = executed.block.header.clone();
    }

    fn execute(&self, block: SealedBlock, relaxed: bool) -> Result<ExecutedBlock, BlockError> {
        let mut roots = MemoryRoots::over(&self.state);
        execute_block(&self.spec, &self.head, block, relaxed, &self.state, &mut roots)
    }

    fn build(&self, attributes: &BlockAttributes, source: &mut Queue) -> ExecutedBlock {
        let mut roots = MemoryRoots::over(&self.state);
        let hash = self.head.hash_slow();
        build_block(&self.spec, &self.head, hash, attributes, &self.state, &mut roots, source).unwrap()
    }

    fn balance(&self, address: Address) -> U256 {
        self.state.account(&address).unwrap().map(|info| info.balance).unwrap_or_default()
    }
}

/// Gives out transactions in order and remembers rejections.
#[derive(Default)]
struct Queue {
    waiting: std::collections::VecDeque<Arc<SignedTx>>,
    rejected: Vec<(B256, SkipReason)>,
}

impl TxSource for Queue {
    fn next(&mut self) -> Option<Arc<SignedTx>> {
        self.waiting.pop_front()
    }
    fn reject(&mut self, tx: &SignedTx, reason: SkipReason) {
        self.rejected.push((tx.hash, reason));
    }
}

fn key(n: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(n)).unwrap()
}

/// An Osaka chain with system contracts and one rich account per key 1..=3.
fn devnet() -> Chain {
    let mut chain = devnet_with_rule(None);
    chain.spec.min_gas_used = None;
    chain
}

fn devnet_with_rule(rule: Option<MinGasUsed>) -> Chain {
    let mut state = MemoryState::default();
    for n in 1..=3 {
        let info =
            AccountInfo { nonce: 0, balance: U256::from(10u128.pow(22)), code_hash: alloy_primitives::KECCAK256_EMPTY };
        state.accounts.insert(key(n).address(), (info, Default::default()));
    }
    // PUSH0 PUSH0 RETURN: an empty list of requests.
    let code = Bytes::from_static(&[0x5f, 0x5f, 0xf3]);
    let hash = keccak256(&code);
    state.code.insert(hash, code);
    for contract in [
        alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    ] {
        let info = AccountInfo { nonce: 1, balance: U256::ZERO, code_hash: hash };
        state.accounts.insert(contract, (info, Default::default()));
    }
    let mut spec = ChainSpec::at(Fork::Osaka, 31337);
    spec.min_gas_used = rule;
    let head = Header {
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(1_000_000_000),
        withdrawals_root: Some(alloy_consensus::constants::EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH),
        state_root: state.root(),
        ..Header::default()
    };
    Chain { spec, state, head }
}

fn attributes(timestamp: u64) -> BlockAttributes {
    BlockAttributes {
        timestamp,
        beneficiary: address!("0x00000000000000000000000000000000c01bba5e"),
        prevrandao: B256::repeat_byte(9),
        gas_limit: 30_000_000,
        base_fee: None,
        withdrawals: Vec::new(),
        parent_beacon_block_root: B256::ZERO,
        extra_data: Bytes::new(),
        max_transactions: None,
    }
}

fn transfer(from: &PrivateKeySigner, nonce: u64, gas_limit: u64) -> Arc<SignedTx> {
    let tx = TxEip1559 {
        chain_id: 31337,
        nonce,
        gas_limit,
        max_fee_per_gas: 20_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(Address::repeat_byte(0xee)),
        value: U256::from(7),
        ..TxEip1559::default()
    };
    let signature = from.sign_hash_sync(&tx.signature_hash()).unwrap();
    Arc::new(signed(tx.into_signed(signature).into()))
}

#[test]
fn the_public_chain_executes_with_equal_roots() {
    let Some(fixtures) = fixtures() else { return };
    let folder = fixtures.join("execution-apis/tests");
    let mut chain = Chain::from_genesis(&std::fs::read(folder.join("genesis.json")).unwrap());
    let bytes = std::fs::read(folder.join("chain.rlp")).unwrap();
    let mut rest = bytes.as_slice();
    let mut count = 0;
    while !rest.is_empty() {
        let block = seal(Block::<Transaction>::decode(&mut rest).unwrap());
        let number = block.header.number;
        let executed = chain.execute(block, true).unwrap_or_else(|e| panic!("block {number}: {e}"));
        chain.adopt(&executed);
        count += 1;
    }
    assert_eq!(count, 54);
    assert_eq!(chain.spec.fork_of(&chain.head), Fork::Bpo2);
}

#[test]
fn a_built_block_executes_to_the_same_header_and_receipts() {
    let chain = devnet();
    let mut queue = Queue::default();
    queue.waiting.extend([transfer(&key(1), 0, 21_000), transfer(&key(2), 0, 50_000), transfer(&key(1), 1, 21_000)]);
    let built = chain.build(&attributes(5), &mut queue);
    assert_eq!(built.receipts.len(), 3);
    assert_eq!(built.block.header.gas_used, 63_000);
    let again = chain.execute(built.block.clone(), false).unwrap();
    assert_eq!(again.receipts, built.receipts);
    assert_eq!(again.delta, built.delta);
    assert_eq!(again.block.hash, built.block.hash);
}

#[test]
fn every_changed_header_field_is_refused() {
    let chain = devnet();
    let mut queue = Queue::default();
    queue.waiting.push_back(transfer(&key(1), 0, 21_000));
    let built = chain.build(&attributes(5), &mut queue).block;
    type Change = (&'static str, fn(&mut Header));
    let changes: [Change; 14] = [
        ("parentHash", |h| h.parent_hash.0[0] ^= 1),
        ("number", |h| h.number += 1),
        ("timestamp", |h| h.timestamp = 0),
        ("stateRoot", |h| h.state_root.0[0] ^= 1),
        ("receiptsRoot", |h| h.receipts_root.0[0] ^= 1),
        ("transactionsRoot", |h| h.transactions_root.0[0] ^= 1),
        ("logsBloom", |h| h.logs_bloom.0[0] ^= 1),
        ("gasUsed", |h| h.gas_used += 1),
        ("gasLimit", |h| h.gas_limit *= 2),
        ("baseFeePerGas", |h| h.base_fee_per_gas = Some(1)),
        ("blobGasUsed", |h| h.blob_gas_used = Some(131_072)),
        ("excessBlobGas", |h| h.excess_blob_gas = Some(1)),
        ("requestsHash", |h| h.requests_hash = Some(B256::ZERO)),
        ("extraData", |h| h.extra_data = vec![0; 33].into()),
    ];
    for (field, change) in changes {
        let mut block = built.clone();
        change(&mut block.header);
        block.hash = block.header.hash_slow();
        let error = chain.execute(block, false).unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    let mut block = built;
    block.hash = B256::ZERO;
    assert!(chain.execute(block, false).unwrap_err().to_string().contains("hash"));
}

#[test]
fn transactions_that_cannot_run_are_rejected_with_the_right_reason() {
    let chain = devnet();
    let mut queue = Queue::default();
    let gap = transfer(&key(1), 1, 21_000);
    let poor = transfer(&key(9), 0, 21_000);
    let large = transfer(&key(2), 0, 16_000_000);
    let second_large = transfer(&key(3), 0, 16_000_000);
    queue.waiting.extend([gap.clone(), poor.clone(), large, second_large.clone()]);
    // The first large transaction uses 21,000 gas only: the second one fits.
    let built = chain.build(&attributes(5), &mut queue);
    assert_eq!(built.block.transactions.len(), 2);
    assert!(matches!(&queue.rejected[0], (h, SkipReason::NotNow(_)) if *h == gap.hash));
    assert!(
        matches!(&queue.rejected[1], (h, SkipReason::Invalid(m)) if *h == poor.hash && m.contains("insufficient funds"))
    );

    let mut queue = Queue::default();
    queue.waiting.push_back(second_large);
    let mut small = attributes(5);
    small.gas_limit = 100_000;
    assert!(chain.build(&small, &mut queue).block.transactions.is_empty());
    assert!(matches!(queue.rejected[0].1, SkipReason::Invalid(_)));
}

#[test]
fn automine_takes_one_transaction_and_leaves_the_rest() {
    let chain = devnet();
    let mut queue = Queue::default();
    queue.waiting.extend([transfer(&key(1), 0, 21_000), transfer(&key(2), 0, 21_000)]);
    let built = chain.build(&BlockAttributes { max_transactions: Some(1), ..attributes(5) }, &mut queue);
    assert_eq!(built.block.transactions.len(), 1);
    assert_eq!(queue.waiting.len(), 1);
    assert!(queue.rejected.is_empty());
}

#[test]
fn the_minimum_charge_holds_in_settlement_and_block_accounting() {
    // (limit, charged) of the public vectors whose raw gas is that of a transfer.
    for (limit, charged) in
        [(21_000, 21_000), (26_250, 21_000), (26_251, 21_000), (100_000, 80_000), (1_000_007, 800_005)]
    {
        let mut chain = devnet_with_rule(Some(MinGasUsed { percent: 80, time: 0 }));
        let sender = key(1).address();
        let before = chain.balance(sender);
        let mut queue = Queue::default();
        queue.waiting.push_back(transfer(&key(1), 0, limit));
        let built = chain.build(&attributes(5), &mut queue);
        assert_eq!(built.block.header.gas_used, charged);
        assert_eq!(built.receipts[0].gas_used, charged);
        assert_eq!(built.receipts[0].cumulative_gas_used, charged);
        let base_fee = built.block.header.base_fee_per_gas.unwrap();
        chain.adopt(&built);
        let price = u128::from(base_fee) + 1_000_000_000;
        assert_eq!(before - chain.balance(sender), U256::from(price * u128::from(charged) + 7));
        assert_eq!(chain.balance(attributes(5).beneficiary), U256::from(1_000_000_000u128 * u128::from(charged)));
    }
}

#[test]
fn withdrawals_are_credited_in_gwei() {
    let mut chain = devnet();
    let to = Address::repeat_byte(0x77);
    let withdrawal = Withdrawal { index: 0, validator_index: 1, address: to, amount: 3 };
    let built = chain.build(&BlockAttributes { withdrawals: vec![withdrawal], ..attributes(5) }, &mut Queue::default());
    chain.execute(built.block.clone(), false).unwrap();
    chain.adopt(&built);
    assert_eq!(chain.balance(to), U256::from(3_000_000_000u64));
}
