//! Values that every room shares: accounts, state deltas, transactions, receipts, executed blocks.
//!
//! Plain data only. Rooms meet through these types and three small traits ([`StateRead`],
//! [`RootCalculator`], [`TxSource`]); none of them names an EVM or a database type.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_consensus::{EthereumTxEnvelope, Header, TxEip4844};
use alloy_eips::eip4895::Withdrawal;
pub use alloy_primitives::{Address, Bloom, Bytes, Log, B256, U256};

/// A signed transaction as it stands in a block (blob transactions without their sidecar).
pub type Transaction = EthereumTxEnvelope<TxEip4844>;

/// The part of an account that the EVM sees. Storage and its root live in `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    pub nonce: u64,
    pub balance: U256,
    /// keccak256 of the code; `KECCAK_EMPTY` for an account without code.
    pub code_hash: B256,
}

/// What one block (or one devnet edit) does to one account: the values *after* it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountDelta {
    /// `None`: the account no longer exists (its storage goes with it).
    pub info: Option<AccountInfo>,
    /// The account's earlier storage is dropped before `storage` is applied.
    pub storage_wiped: bool,
    /// Slots that changed: slot → value after; zero deletes the slot.
    pub storage: BTreeMap<U256, U256>,
}

/// The effect of a block on the state, ordered so that applying it is deterministic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDelta {
    pub accounts: BTreeMap<Address, AccountDelta>,
    /// New code by its keccak256.
    pub code: BTreeMap<B256, Bytes>,
}

/// A failure of the store below a read; never a consequence of user input.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the state store failed: {0}")]
    Store(String),
    #[error("the state of block {requested} is pruned; the oldest kept block is {oldest}")]
    Pruned { requested: u64, oldest: u64 },
}

/// The state at one position of history.
pub trait StateRead {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError>;
    /// Zero for a slot that was never written or an account that does not exist.
    fn storage(&self, address: &Address, slot: &U256) -> Result<U256, ReadError>;
    /// Code by hash; `None` when unknown. `KECCAK_EMPTY` is never asked for.
    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError>;
    /// Hash of an ancestor block for BLOCKHASH; `None` beyond the kept range.
    fn block_hash(&self, number: u64) -> Result<Option<B256>, ReadError>;
    /// True if the account holds any non-zero slot. Asked only for targets of contract creation (EIP-7610); states
    /// in which accounts without code cannot hold storage may keep the default.
    fn has_storage(&self, _address: &Address) -> Result<bool, ReadError> {
        Ok(false)
    }
}

/// Computes state roots over a parent state plus deltas applied in order.
///
/// `apply` may be called several times (pre-Byzantium receipts want the root after every
/// transaction); a later delta overrides an earlier one key by key.
pub trait RootCalculator {
    fn apply(&mut self, delta: &StateDelta) -> Result<(), ReadError>;
    fn root(&mut self) -> Result<B256, ReadError>;
    /// The trie nodes to write for everything applied so far.
    fn take_updates(&mut self) -> Result<TrieUpdates, ReadError>;
}

/// Trie nodes changed by a block: table key → record, `None` deletes. Opaque outside `state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrieUpdates {
    pub nodes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Storage roots of the accounts whose storage changed.
    pub storage_roots: BTreeMap<Address, B256>,
    /// State root that the nodes build on; committing them on another one is refused.
    pub base: B256,
    pub root: B256,
}

/// A transaction with everything that is derived from it once.
#[derive(Clone, Debug)]
pub struct SignedTx {
    pub tx: Transaction,
    pub sender: Address,
    pub hash: B256,
    /// EIP-2718 encoding as it stands in a block (no sidecar).
    pub raw: Bytes,
    /// Sent by an impersonated account of a devnet: `sender` was not recovered from the signature.
    pub impersonated: bool,
}

/// How a receipt tells the outcome of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// EIP-658 (Byzantium on): success or failure.
    Status(bool),
    /// Before Byzantium: the state root after the transaction.
    PostState(B256),
}

/// A receipt with the fields that JSON-RPC wants beside the consensus ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub tx_type: u8,
    pub outcome: ReceiptOutcome,
    pub cumulative_gas_used: u64,
    pub logs: Vec<Log>,
    pub bloom: Bloom,
    pub gas_used: u64,
    pub effective_gas_price: u128,
    pub contract_address: Option<Address>,
}

/// A block with its hash and recovered senders.
#[derive(Clone, Debug)]
pub struct SealedBlock {
    pub header: Header,
    pub hash: B256,
    pub transactions: Vec<Arc<SignedTx>>,
    pub ommers: Vec<Header>,
    pub withdrawals: Option<Vec<Withdrawal>>,
}

/// The pure outcome of executing a block: all that `state` needs to commit it.
#[derive(Clone, Debug)]
pub struct ExecutedBlock {
    pub block: SealedBlock,
    pub receipts: Vec<Receipt>,
    pub delta: StateDelta,
    pub trie: TrieUpdates,
    /// EIP-7685 requests (type byte ‖ data), in order.
    pub requests: Vec<Bytes>,
}

/// Why a transaction was left out of a block under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// It does not fit into the rest of this block; it may go into a later one.
    NoRoom,
    /// It cannot run on this state now (base fee, nonce gap): keep it in the pool.
    NotNow(String),
    /// It can never run: drop it from the pool.
    Invalid(String),
}

/// A source of transactions in the order in which a block wants them.
pub trait TxSource {
    fn next(&mut self) -> Option<Arc<SignedTx>>;
    /// The last transaction given out was left out; the source gives no more of that sender.
    fn reject(&mut self, tx: &SignedTx, reason: SkipReason);
}
