//! A chain in memory for the tests of the pool: accounts, signers and blocks.
mod admission;
mod blobs;
mod blocks;
mod concurrent;
mod hostile;
mod journal;
mod model;
mod order;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Signature, TxKind, KECCAK256_EMPTY};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use parking_lot::Mutex;

use super::*;
use crate::execution::Fork;

pub const GWEI: u128 = 1_000_000_000;
pub const CHAIN: u64 = 31337;

/// Accounts that the pool reads; changed by `mine` and by the tests.
#[derive(Default)]
pub struct Chain {
    accounts: Mutex<HashMap<Address, AccountInfo>>,
    code: Mutex<HashMap<B256, Bytes>>,
}

impl Chain {
    pub fn set(&self, address: Address, nonce: u64, balance: u128) {
        let info = AccountInfo { nonce, balance: U256::from(balance), code_hash: KECCAK256_EMPTY };
        self.accounts.lock().insert(address, info);
    }

    pub fn set_code(&self, address: Address, code: Bytes) {
        let hash = alloy_primitives::keccak256(&code);
        self.code.lock().insert(hash, code);
        self.accounts.lock().entry(address).and_modify(|info| info.code_hash = hash);
    }

    pub fn info(&self, address: &Address) -> AccountInfo {
        self.accounts.lock().get(address).cloned().unwrap_or_else(ledger::empty_account)
    }

    /// Executes transactions in order: nonce up, full cost paid.
    pub fn mine(&self, txs: &[Arc<SignedTx>]) -> ExecutedBlock {
        let mut accounts = self.accounts.lock();
        let mut delta = StateDelta::default();
        for tx in txs {
            let info = accounts.get_mut(&tx.sender).expect("a funded sender");
            assert_eq!(info.nonce, alloy_consensus::Transaction::nonce(&tx.tx), "blocks hold consecutive nonces");
            info.nonce += 1;
            info.balance = info.balance.saturating_sub(rules::cost(&tx.tx));
            let account = AccountDelta { info: Some(info.clone()), ..AccountDelta::default() };
            delta.accounts.insert(tx.sender, account);
        }
        block(txs.to_vec(), delta)
    }
}

impl StateRead for Chain {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        Ok(self.accounts.lock().get(address).cloned())
    }

    fn storage(&self, _: &Address, _: &U256) -> Result<U256, ReadError> {
        Ok(U256::ZERO)
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError> {
        Ok(self.code.lock().get(hash).cloned())
    }

    fn block_hash(&self, _: u64) -> Result<Option<B256>, ReadError> {
        Ok(None)
    }
}

pub fn block(transactions: Vec<Arc<SignedTx>>, delta: StateDelta) -> ExecutedBlock {
    let header = alloy_consensus::Header::default();
    ExecutedBlock {
        block: SealedBlock { header, hash: B256::ZERO, transactions, ommers: Vec::new(), withdrawals: None },
        receipts: Vec::new(),
        delta,
        trie: TrieUpdates::default(),
        requests: Vec::new(),
    }
}

pub fn config() -> PoolConfig {
    PoolConfig {
        max_pending: 10_000,
        max_queued: 1_000,
        max_per_account: 1_000,
        max_bytes: 64 << 20,
        max_nonce_gap: 64,
        min_tip: 0,
        fifo: false,
        journal: None,
        check_balance: true,
    }
}

pub fn context() -> PoolContext {
    PoolContext {
        chain_id: CHAIN,
        fork: Fork::Osaka,
        block_gas_limit: 30_000_000,
        base_fee: GWEI as u64,
        blob_base_fee: 1,
        max_blobs_per_tx: 6,
        max_blobs_per_block: 9,
        max_initcode_size: 49_152,
    }
}

/// A pool over a chain on which the first eight signers are rich.
pub struct World {
    pub chain: Chain,
    pub pool: Arc<Pool>,
    pub ctx: PoolContext,
}

impl World {
    pub fn new(config: PoolConfig) -> World {
        let chain = Chain::default();
        for index in 0..8 {
            chain.set(signer(index).address(), 0, 1_000_000_000 * GWEI * GWEI);
        }
        World { chain, pool: Pool::new(config).expect("a pool"), ctx: context() }
    }

    pub fn send(&self, raw: Bytes) -> Result<B256, PoolError> {
        self.pool.add_many(&[raw], &self.ctx, &self.chain).pop().expect("one result")
    }

    /// The hashes that a block would take, best first, at the context's fees.
    pub fn order(&self) -> Vec<B256> {
        let mut best = self.pool.best(self.ctx.base_fee, self.ctx.blob_base_fee);
        std::iter::from_fn(|| best.next()).map(|tx| tx.hash).collect()
    }

    /// Mines the best `count` transactions.
    pub fn mine(&self, count: usize) -> Vec<B256> {
        let mut best = self.pool.best(self.ctx.base_fee, self.ctx.blob_base_fee);
        let txs: Vec<_> = std::iter::from_fn(|| best.next()).take(count).collect();
        let block = self.chain.mine(&txs);
        self.pool.on_block(&block, &self.ctx);
        txs.iter().map(|tx| tx.hash).collect()
    }
}

pub fn signer(index: u8) -> PrivateKeySigner {
    static SIGNERS: OnceLock<Vec<PrivateKeySigner>> = OnceLock::new();
    let all =
        || (1..=8).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).expect("a valid key")).collect();
    SIGNERS.get_or_init(all)[index as usize].clone()
}

/// A type-2 transfer; fees in gwei.
#[derive(Clone, Copy)]
pub struct Transfer {
    pub from: u8,
    pub nonce: u64,
    pub fee: u128,
    pub tip: u128,
    pub gas: u64,
    pub value: u128,
}

impl Transfer {
    pub fn new(from: u8, nonce: u64) -> Transfer {
        Transfer { from, nonce, fee: 100, tip: 2, gas: 21_000, value: 0 }
    }

    pub fn fees(self, fee: u128, tip: u128) -> Transfer {
        Transfer { fee, tip, ..self }
    }

    pub fn unsigned(self) -> TxEip1559 {
        TxEip1559 {
            chain_id: CHAIN,
            nonce: self.nonce,
            gas_limit: self.gas,
            max_fee_per_gas: self.fee * GWEI,
            max_priority_fee_per_gas: self.tip * GWEI,
            to: TxKind::Call(Address::repeat_byte(0xaa)),
            value: U256::from(self.value),
            ..TxEip1559::default()
        }
    }

    pub fn raw(self) -> Bytes {
        sign(self.unsigned(), self.from)
    }
}

pub fn sign<T>(tx: T, from: u8) -> Bytes
where
    T: SignableTransaction<Signature>,
    Transaction: From<alloy_consensus::Signed<T>>,
{
    let signature = signer(from).sign_hash_sync(&tx.signature_hash()).expect("a signature");
    Transaction::from(tx.into_signed(signature)).encoded_2718().into()
}

pub fn legacy(nonce: u64, gas_price: u128) -> TxLegacy {
    TxLegacy {
        chain_id: Some(CHAIN),
        nonce,
        gas_price,
        gas_limit: 21_000,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        ..TxLegacy::default()
    }
}

/// A transfer of an impersonated account: needs no signature.
pub fn unsigned(transfer: Transfer) -> PooledTx {
    let signature = Signature::new(U256::ONE, U256::ONE, false);
    let tx = Transaction::from(transfer.unsigned().into_signed(signature));
    let sender = Address::repeat_byte(0x10 + transfer.from);
    let raw: Bytes = tx.encoded_2718().into();
    let hash = alloy_primitives::keccak256([sender.as_slice(), &raw].concat());
    PooledTx { tx: Arc::new(SignedTx { tx, sender, hash, raw, impersonated: true }), sidecar: None }
}

pub fn message(result: Result<B256, PoolError>) -> String {
    result.expect_err("a refusal").to_string()
}
