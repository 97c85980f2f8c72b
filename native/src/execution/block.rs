//! The life of a block in execution: begin, transactions, finish.
//!
//! Building and re-executing share one [`BlockRun`]; they differ in where transactions come from and in who
//! decides the header.

use std::sync::Arc;

use alloy_consensus::constants::EMPTY_OMMER_ROOT_HASH;
use alloy_consensus::proofs::{calculate_ommers_root, calculate_withdrawals_root};
use alloy_consensus::{Header, Transaction as _, Typed2718};
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip4895::Withdrawal;
use alloy_eips::eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE};
use alloy_eips::eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE};
use alloy_eips::eip7685::Requests;
use alloy_primitives::B64;
use alloy_rlp::Encodable;

use super::evm::{EvmError, InvalidKind, Machine, Overlay};
use super::receipt::{bloom_of, receipts_root};
use super::requests::deposits;
use super::spec::{ChainSpec, Fork};
use super::{dao, header, BlockAttributes, BlockContext, BlockError};
use crate::primitives::*;

/// EIP-7934: largest RLP encoding of a block from Osaka on (10 MiB less 2 MiB for the consensus layer), bytes.
const MAX_BLOCK_SIZE: usize = 8 * 1024 * 1024;
/// More than any header and the list prefixes of a block take, bytes.
const BLOCK_OVERHEAD: usize = 2_048;
/// The least gas of any transaction: with less room left a block is full.
const MIN_TRANSACTION_GAS: u64 = 21_000;
/// After this many transactions in a row that do not fit, the block counts as full.
const MAX_MISSES: usize = 64;
/// Wei of one gwei: withdrawals count in gwei.
const GWEI: u64 = 1_000_000_000;
/// Ether in wei.
const ETHER: u128 = 1_000_000_000_000_000_000;

/// Why a transaction cannot be part of this block.
enum Refusal {
    NoRoom(String),
    Evm(EvmError),
}

/// A block under execution.
struct BlockRun<'r, 'a> {
    spec: &'r ChainSpec,
    fork: Fork,
    context: BlockContext,
    machine: Machine<'a>,
    roots: &'r mut dyn RootCalculator,
    max_blob_gas: u64,
    gas_used: u64,
    blob_gas_used: u64,
    /// Bytes of the transactions so far in the encoding of the block.
    size: usize,
    receipts: Vec<Receipt>,
}

/// What remains of a run when all transactions are in.
struct Finished {
    gas_used: u64,
    blob_gas_used: u64,
    receipts: Vec<Receipt>,
    requests: Vec<Bytes>,
    delta: StateDelta,
    state_root: B256,
}

impl<'r, 'a> BlockRun<'r, 'a> {
    /// Opens the block: irregular state changes and the system calls before the first transaction.
    fn begin(
        spec: &'r ChainSpec,
        context: BlockContext,
        parent_hash: B256,
        state: &'a dyn StateRead,
        roots: &'r mut dyn RootCalculator,
    ) -> Result<Self, BlockError> {
        let fork = spec.fork_with_difficulty(context.number, context.timestamp, context.difficulty);
        let mut overlay = Overlay::new(state);
        if fork < Fork::Byzantium {
            overlay.track_steps();
        }
        let mut machine = Machine::new(spec, &context, overlay);
        begin_block(spec, &context, parent_hash, &mut machine)?;
        let mut run = BlockRun {
            spec,
            fork,
            machine,
            roots,
            max_blob_gas: spec.blob_limits(context.timestamp).1.saturating_mul(DATA_GAS_PER_BLOB),
            context,
            gas_used: 0,
            blob_gas_used: 0,
            size: 0,
            receipts: Vec::new(),
        };
        if fork < Fork::Byzantium {
            let step = run.machine.overlay().take_step();
            run.roots.apply(&step)?;
        }
        Ok(run)
    }

    fn gas_left(&self) -> u64 {
        self.context.gas_limit - self.gas_used
    }

    /// Executes and commits one transaction.
    fn transaction(&mut self, tx: &SignedTx) -> Result<(), Refusal> {
        let gas_limit = tx.tx.gas_limit();
        if gas_limit > self.gas_left() {
            return Err(Refusal::NoRoom(format!(
                "gas limit reached: the transaction wants {gas_limit}, the block has {} left",
                self.gas_left()
            )));
        }
        let blob_gas = tx.tx.blob_gas_used().unwrap_or(0);
        if blob_gas > self.max_blob_gas - self.blob_gas_used {
            return Err(Refusal::NoRoom(format!(
                "blob gas limit reached: the transaction wants {blob_gas}, the block has {} left",
                self.max_blob_gas - self.blob_gas_used
            )));
        }
        let size = if tx.tx.ty() == 0 { tx.raw.len() } else { tx.raw.length() };
        if self.fork >= Fork::Osaka && self.size + size + BLOCK_OVERHEAD > MAX_BLOCK_SIZE {
            return Err(Refusal::NoRoom(format!("block size limit of {MAX_BLOCK_SIZE} bytes reached")));
        }
        let outcome = self.machine.transact(tx).map_err(Refusal::Evm)?;
        self.gas_used += outcome.gas_used;
        self.blob_gas_used += blob_gas;
        self.size += size;
        let status = if self.fork >= Fork::Byzantium {
            ReceiptOutcome::Status(outcome.success)
        } else {
            ReceiptOutcome::PostState(self.step_root().map_err(|e| Refusal::Evm(EvmError::Read(e)))?)
        };
        self.receipts.push(Receipt {
            tx_type: tx.tx.ty(),
            outcome: status,
            cumulative_gas_used: self.gas_used,
            bloom: bloom_of(&outcome.logs),
            logs: outcome.logs,
            gas_used: outcome.gas_used,
            effective_gas_price: tx.tx.effective_gas_price(self.context.base_fee),
            contract_address: tx.tx.to().is_none().then(|| tx.sender.create(tx.tx.nonce())),
        });
        Ok(())
    }

    /// State root after the last transaction, for receipts before Byzantium.
    fn step_root(&mut self) -> Result<B256, ReadError> {
        let step = self.machine.overlay().take_step();
        self.roots.apply(&step)?;
        self.roots.root()
    }

    /// Closes the block: requests, withdrawals, rewards, state root.
    fn finish(mut self, withdrawals: &[Withdrawal], ommers: &[Header]) -> Result<Finished, BlockError> {
        let requests = collect_requests(self.spec, self.fork, &self.receipts, &mut self.machine)?;
        credit_withdrawals(self.machine.overlay(), withdrawals)?;
        credit_reward(self.machine.overlay(), self.fork, &self.context, ommers)?;
        if self.fork < Fork::Byzantium {
            let step = self.machine.overlay().take_step();
            self.roots.apply(&step)?;
        }
        let delta = self.machine.into_overlay().delta();
        if self.fork >= Fork::Byzantium {
            self.roots.apply(&delta)?;
        }
        Ok(Finished {
            gas_used: self.gas_used,
            blob_gas_used: self.blob_gas_used,
            receipts: self.receipts,
            requests,
            delta,
            state_root: self.roots.root()?,
        })
    }
}

/// Everything that precedes the first transaction of a block of the chain: irregular state changes and system calls.
pub(super) fn begin_block<I>(
    spec: &ChainSpec,
    context: &BlockContext,
    parent_hash: B256,
    machine: &mut Machine<'_, I>,
) -> Result<(), BlockError> {
    machine.overlay().set_block_hash(context.number - 1, parent_hash);
    if spec.dao_fork == Some(context.number) {
        dao::drain(machine.overlay())?;
    }
    let fork = spec.fork_with_difficulty(context.number, context.timestamp, context.difficulty);
    open_block(fork, parent_hash, context.parent_beacon_block_root, machine)
}

/// The system calls before the first transaction: EIP-4788 and EIP-2935.
pub(super) fn open_block<I>(
    fork: Fork,
    parent_hash: B256,
    parent_beacon_block_root: Option<B256>,
    machine: &mut Machine<'_, I>,
) -> Result<(), BlockError> {
    if fork >= Fork::Cancun {
        let root = parent_beacon_block_root.unwrap_or_default();
        system_call(machine, BEACON_ROOTS_ADDRESS, root.0.into())?;
    }
    if fork >= Fork::Prague {
        system_call(machine, HISTORY_STORAGE_ADDRESS, parent_hash.0.into())?;
    }
    Ok(())
}

fn system_call<I>(machine: &mut Machine<'_, I>, contract: Address, input: Bytes) -> Result<Option<Bytes>, BlockError> {
    let outcome = machine.system_call(contract, input).map_err(|e| fatal(e, "system call"))?;
    Ok(outcome.success.then_some(outcome.output))
}

/// EIP-7002 and EIP-7251: the contract must exist and succeed.
fn request_call<I>(machine: &mut Machine<'_, I>, contract: Address) -> Result<Bytes, BlockError> {
    let exists =
        machine.overlay().account(contract)?.is_some_and(|info| info.code_hash != alloy_primitives::KECCAK256_EMPTY);
    if !exists {
        return Err(BlockError::Invalid(format!("system contract {contract} has no code")));
    }
    match system_call(machine, contract, Bytes::new())? {
        Some(output) => Ok(output),
        None => Err(BlockError::Invalid(format!("the call of system contract {contract} failed"))),
    }
}

/// EIP-7685 requests of a block in order of their types.
pub(super) fn collect_requests<I>(
    spec: &ChainSpec,
    fork: Fork,
    receipts: &[Receipt],
    machine: &mut Machine<'_, I>,
) -> Result<Vec<Bytes>, BlockError> {
    if fork < Fork::Prague {
        return Ok(Vec::new());
    }
    let mut requests = Requests::default();
    let deposits = deposits(spec.deposit_contract, receipts)?;
    if !deposits.is_empty() {
        requests.push_request_with_type(alloy_eips::eip6110::DEPOSIT_REQUEST_TYPE, deposits);
    }
    for (kind, contract) in [
        (WITHDRAWAL_REQUEST_TYPE, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
        (CONSOLIDATION_REQUEST_TYPE, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
    ] {
        let data = request_call(machine, contract)?;
        if !data.is_empty() {
            requests.push_request_with_type(kind, data);
        }
    }
    Ok(requests.take())
}

pub(super) fn credit_withdrawals(overlay: &mut Overlay<'_>, withdrawals: &[Withdrawal]) -> Result<(), ReadError> {
    for withdrawal in withdrawals {
        let amount = U256::from(withdrawal.amount) * U256::from(GWEI);
        overlay.credit(withdrawal.address, amount)?;
    }
    Ok(())
}

/// Proof of work pays the miner and the miners of ommers. A block without difficulty was not mined.
pub(super) fn credit_reward(
    overlay: &mut Overlay<'_>,
    fork: Fork,
    context: &BlockContext,
    ommers: &[Header],
) -> Result<(), ReadError> {
    if fork >= Fork::Paris || context.difficulty.is_zero() {
        return Ok(());
    }
    let full = match fork {
        f if f >= Fork::Constantinople => 2 * ETHER,
        Fork::Byzantium => 3 * ETHER,
        _ => 5 * ETHER,
    };
    for ommer in ommers {
        let share = u128::from((ommer.number + 8).saturating_sub(context.number));
        overlay.credit(ommer.beneficiary, U256::from(full / 8 * share))?;
    }
    let nephew = full / 32 * ommers.len() as u128;
    overlay.credit(context.beneficiary, U256::from(full + nephew))
}

fn fatal(error: EvmError, what: &str) -> BlockError {
    match error {
        EvmError::Read(error) => BlockError::Read(error),
        other => BlockError::Invalid(format!("{what}: {other}")),
    }
}

/// What becomes of a refused transaction of a block under construction.
fn skip(refusal: Refusal, tx: &SignedTx, block_gas_limit: u64) -> Result<SkipReason, BlockError> {
    let error = match refusal {
        Refusal::NoRoom(reason) if tx.tx.gas_limit() > block_gas_limit => {
            return Ok(SkipReason::Invalid(reason));
        }
        Refusal::NoRoom(_) => return Ok(SkipReason::NoRoom),
        Refusal::Evm(error) => error,
    };
    match error {
        EvmError::Invalid { kind, message } => Ok(match kind {
            InvalidKind::NonceTooHigh | InvalidKind::FeeCapBelowBaseFee => SkipReason::NotNow(message),
            InvalidKind::Blobs if message.starts_with("max fee per blob gas") => SkipReason::NotNow(message),
            _ => SkipReason::Invalid(message),
        }),
        other => Err(fatal(other, "transaction")),
    }
}

/// Builds and executes the child of `parent` from `source`; transactions that cannot run are rejected back to it.
pub fn build_block(
    spec: &ChainSpec,
    parent: &Header,
    parent_hash: B256,
    attributes: &BlockAttributes,
    state: &dyn StateRead,
    roots: &mut dyn RootCalculator,
    source: &mut dyn TxSource,
) -> Result<ExecutedBlock, BlockError> {
    let number = parent.number + 1;
    let timestamp = attributes.timestamp;
    let next_base_fee = spec.next_base_fee(parent, timestamp);
    // The last proof-of-work block may lie before the merge block; this one is never mined.
    let context = BlockContext {
        number,
        timestamp,
        beneficiary: attributes.beneficiary,
        gas_limit: attributes.gas_limit,
        base_fee: next_base_fee.map(|rule| attributes.base_fee.unwrap_or(rule)),
        prevrandao: attributes.prevrandao,
        difficulty: U256::ZERO,
        excess_blob_gas: spec.next_excess_blob_gas(parent, timestamp),
        parent_beacon_block_root: Some(attributes.parent_beacon_block_root),
    };
    let mut run = BlockRun::begin(spec, context.clone(), parent_hash, state, &mut *roots)?;
    let fork = run.fork;
    if fork >= Fork::Shanghai {
        run.size = attributes.withdrawals.length();
    }
    let transactions = fill(&mut run, attributes, source)?;
    let withdrawals = (fork >= Fork::Shanghai).then(|| attributes.withdrawals.clone());
    let finished = run.finish(withdrawals.as_deref().unwrap_or_default(), &[])?;

    let cancun = fork >= Fork::Cancun;
    let header = Header {
        parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: attributes.beneficiary,
        state_root: finished.state_root,
        transactions_root: transactions_root(&transactions),
        receipts_root: receipts_root(&finished.receipts),
        logs_bloom: block_bloom(&finished.receipts),
        difficulty: U256::ZERO,
        number,
        gas_limit: attributes.gas_limit,
        gas_used: finished.gas_used,
        timestamp,
        extra_data: attributes.extra_data.clone(),
        mix_hash: attributes.prevrandao,
        nonce: B64::ZERO,
        base_fee_per_gas: context.base_fee,
        withdrawals_root: withdrawals.as_deref().map(calculate_withdrawals_root),
        blob_gas_used: cancun.then_some(finished.blob_gas_used),
        excess_blob_gas: context.excess_blob_gas,
        parent_beacon_block_root: cancun.then_some(attributes.parent_beacon_block_root),
        requests_hash: (fork >= Fork::Prague).then(|| requests_hash(&finished.requests)),
        block_access_list_hash: None,
        slot_number: None,
    };
    if header.extra_data.len() > header::MAX_EXTRA_DATA {
        return Err(BlockError::Invalid(format!(
            "extraData has {} bytes, at most {}",
            header.extra_data.len(),
            header::MAX_EXTRA_DATA
        )));
    }
    let hash = header.hash_slow();
    let block = SealedBlock { header, hash, transactions, ommers: Vec::new(), withdrawals };
    executed(block, finished, roots)
}

/// Takes transactions from the source until the block is full or the source is empty.
fn fill(
    run: &mut BlockRun<'_, '_>,
    attributes: &BlockAttributes,
    source: &mut dyn TxSource,
) -> Result<Vec<Arc<SignedTx>>, BlockError> {
    let limit = attributes.max_transactions.unwrap_or(usize::MAX);
    let mut transactions = Vec::new();
    let mut misses = 0;
    while transactions.len() < limit && misses < MAX_MISSES && run.gas_left() >= MIN_TRANSACTION_GAS {
        let Some(tx) = source.next() else { break };
        match run.transaction(&tx) {
            Ok(()) => {
                misses = 0;
                transactions.push(tx);
            }
            Err(refusal) => {
                let reason = skip(refusal, &tx, attributes.gas_limit)?;
                if reason == SkipReason::NoRoom {
                    misses += 1;
                }
                source.reject(&tx, reason);
            }
        }
    }
    Ok(transactions)
}

/// Re-executes a complete block and checks every field of its header. `relaxed` accepts PoW headers without a seal
/// or difficulty check and header fields that only a devnet may choose (base fee, gas limit, equal timestamps).
pub fn execute_block(
    spec: &ChainSpec,
    parent: &Header,
    block: SealedBlock,
    relaxed: bool,
    state: &dyn StateRead,
    roots: &mut dyn RootCalculator,
) -> Result<ExecutedBlock, BlockError> {
    header::validate(spec, parent, &block.header, relaxed)?;
    body_matches_header(spec, &block)?;
    let header = &block.header;
    let mut run = BlockRun::begin(spec, BlockContext::of(header), header.parent_hash, state, &mut *roots)?;
    let fork = run.fork;
    for (index, tx) in block.transactions.iter().enumerate() {
        run.transaction(tx).map_err(|refusal| {
            let reason = match refusal {
                Refusal::Evm(EvmError::Read(error)) => return BlockError::Read(error),
                Refusal::Evm(error) => error.to_string(),
                Refusal::NoRoom(reason) => reason,
            };
            BlockError::Transaction { index, hash: tx.hash, reason }
        })?;
    }
    let finished = run.finish(block.withdrawals.as_deref().unwrap_or_default(), &block.ommers)?;

    check("gasUsed", header.gas_used, finished.gas_used)?;
    if fork >= Fork::Cancun {
        check("blobGasUsed", header.blob_gas_used, Some(finished.blob_gas_used))?;
    }
    check("receiptsRoot", header.receipts_root, receipts_root(&finished.receipts))?;
    check("logsBloom", header.logs_bloom, block_bloom(&finished.receipts))?;
    if fork >= Fork::Prague {
        check("requestsHash", header.requests_hash, Some(requests_hash(&finished.requests)))?;
    }
    check("stateRoot", header.state_root, finished.state_root)?;
    executed(block, finished, roots)
}

/// The parts of the header that follow from the body alone.
fn body_matches_header(spec: &ChainSpec, block: &SealedBlock) -> Result<(), BlockError> {
    let header = &block.header;
    check("hash", block.hash, header.hash_slow())?;
    check("transactionsRoot", header.transactions_root, transactions_root(&block.transactions))?;
    let withdrawals_root = block.withdrawals.as_deref().map(calculate_withdrawals_root);
    check("withdrawalsRoot", header.withdrawals_root, withdrawals_root)?;
    check("sha3Uncles", header.ommers_hash, ommers_root(&block.ommers))?;
    if block.ommers.len() > 2 {
        return Err(BlockError::Invalid(format!("{} ommers, at most 2", block.ommers.len())));
    }
    for ommer in &block.ommers {
        let depth = header.number.saturating_sub(ommer.number);
        if !(1..=7).contains(&depth) {
            return Err(BlockError::Invalid(format!("ommer of block {} is too far away", ommer.number)));
        }
    }
    if spec.fork_of(header) >= Fork::Osaka {
        let size = encoded_size(block);
        if size > MAX_BLOCK_SIZE {
            return Err(BlockError::Invalid(format!("block has {size} bytes, at most {MAX_BLOCK_SIZE}")));
        }
    }
    Ok(())
}

fn ommers_root(ommers: &[Header]) -> B256 {
    if ommers.is_empty() {
        EMPTY_OMMER_ROOT_HASH
    } else {
        calculate_ommers_root(ommers)
    }
}

/// Length of the RLP encoding of the block in bytes.
fn encoded_size(block: &SealedBlock) -> usize {
    let transactions: usize =
        block.transactions.iter().map(|tx| if tx.tx.ty() == 0 { tx.raw.len() } else { tx.raw.length() }).sum();
    let list = |payload: usize| payload + alloy_rlp::length_of_length(payload);
    let withdrawals = block.withdrawals.as_ref().map_or(0, |w| w.length());
    list(block.header.length() + list(transactions) + block.ommers.length() + withdrawals)
}

fn check<T: PartialEq + std::fmt::Debug>(field: &str, found: T, expected: T) -> Result<(), BlockError> {
    if found == expected {
        return Ok(());
    }
    Err(BlockError::Invalid(format!("{field} is {found:?}, expected {expected:?}")))
}

fn executed(
    block: SealedBlock,
    finished: Finished,
    roots: &mut dyn RootCalculator,
) -> Result<ExecutedBlock, BlockError> {
    Ok(ExecutedBlock {
        block,
        receipts: finished.receipts,
        delta: finished.delta,
        trie: roots.take_updates()?,
        requests: finished.requests,
    })
}

pub(super) fn transactions_root(transactions: &[Arc<SignedTx>]) -> B256 {
    alloy_trie::root::ordered_trie_root_with_encoder(transactions, |tx, out| out.extend_from_slice(&tx.raw))
}

pub(super) fn block_bloom(receipts: &[Receipt]) -> Bloom {
    receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom)
}

pub(super) fn requests_hash(requests: &[Bytes]) -> B256 {
    Requests::new(requests.to_vec()).requests_hash()
}
