//! What the next block will look like: controls, timestamp rule, fees, and the `pending` block.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::keccak256;

use super::{Controls, Engine, EngineError, MAX_PAYLOAD_BYTES};
use crate::execution::{build_block, BlockAttributes, BlockContext, ChainSpec, Fork};
use crate::pool::{Pool, PoolContext};
use crate::primitives::*;
use crate::state::{Head, View};

/// Key under which the controls that outlive a restart are kept.
const CONTROLS_KEY: &str = "controls";
/// EIP-7594: blobs that one transaction may carry from Osaka on.
const MAX_BLOBS_PER_TX_OSAKA: u64 = 6;

/// Bytes of a payload that are left for everything but the transactions.
const PAYLOAD_RESERVE: usize = 1 << 20;

/// Transactions up to the size of a payload: before EIP-7934 gas alone does not bound a block's bytes.
struct Bounded {
    inner: Box<dyn TxSource + Send>,
    left: usize,
}

impl TxSource for Bounded {
    fn next(&mut self) -> Option<Arc<SignedTx>> {
        loop {
            let tx = self.inner.next()?;
            // The RLP prefix of its byte string takes at most five bytes.
            let size = tx.raw.len() + 5;
            if size <= self.left {
                self.left -= size;
                return Some(tx);
            }
            self.inner.reject(&tx, SkipReason::NoRoom);
        }
    }

    fn reject(&mut self, tx: &SignedTx, reason: SkipReason) {
        self.left += tx.raw.len() + 5;
        self.inner.reject(tx, reason);
    }
}

/// The `pending` block and what it was computed from.
pub(super) struct PendingBlock {
    generation: u64,
    version: u64,
    timestamp: u64,
    block: Arc<ExecutedBlock>,
}

/// Seconds since the Unix epoch.
pub(super) fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// The controls of the last run. Coinbase and gas limit come from the configuration, and what was
/// meant for one block does not outlive a restart.
pub(super) fn restore_controls(view: &View, coinbase: Address, gas_limit: u64) -> Result<Controls, EngineError> {
    let mut controls: Controls = match view.meta(CONTROLS_KEY)? {
        Some(json) => {
            serde_json::from_slice(&json).map_err(|error| EngineError::Other(format!("stored controls: {error}")))?
        }
        None => Controls::default(),
    };
    controls.coinbase = coinbase;
    controls.gas_limit = gas_limit;
    controls.next_timestamp = None;
    controls.next_base_fee = None;
    controls.next_prevrandao = None;
    Ok(controls)
}

/// Wall clock plus the devnet's offset.
fn shifted(now: u64, offset: i64) -> u64 {
    now.saturating_add_signed(offset)
}

fn next_timestamp(parent: u64, controls: &Controls, now: u64) -> u64 {
    if let Some(exact) = controls.next_timestamp {
        return exact.max(parent);
    }
    if let Some(interval) = controls.timestamp_interval {
        return parent.saturating_add(interval);
    }
    shifted(now, controls.time_offset).max(parent.saturating_add(1))
}

/// keccak(parent randao ‖ proposer ‖ height): predictable, and documented so.
fn derived_randao(head: &Head, proposer: &Address) -> B256 {
    let mut input = [0u8; 60];
    input[..32].copy_from_slice(head.header.mix_hash.as_slice());
    input[32..52].copy_from_slice(proposer.as_slice());
    input[52..].copy_from_slice(&(head.header.number + 1).to_be_bytes());
    keccak256(input)
}

fn gas_limit(head: &Head, controls: &Controls) -> u64 {
    match controls.gas_limit {
        0 => head.header.gas_limit,
        limit => limit,
    }
}

fn attributes_for(head: &Head, controls: &Controls, now: u64) -> BlockAttributes {
    BlockAttributes {
        timestamp: next_timestamp(head.header.timestamp, controls, now),
        beneficiary: controls.coinbase,
        prevrandao: controls.next_prevrandao.unwrap_or_else(|| derived_randao(head, &controls.coinbase)),
        gas_limit: gas_limit(head, controls),
        base_fee: controls.next_base_fee,
        withdrawals: Vec::new(),
        parent_beacon_block_root: B256::ZERO,
        extra_data: Bytes::new(),
        max_transactions: None,
    }
}

/// The chain as the pool needs it to judge transactions for the child of `head`.
pub(super) fn pool_context(spec: &ChainSpec, head: &Head, controls: &Controls) -> PoolContext {
    let timestamp = next_timestamp(head.header.timestamp, controls, wall_clock());
    let fork = spec.fork(head.header.number + 1, timestamp);
    let base_fee = controls.next_base_fee.or_else(|| spec.next_base_fee(&head.header, timestamp)).unwrap_or(0);
    let blob_base_fee =
        spec.next_excess_blob_gas(&head.header, timestamp).map_or(1, |excess| spec.blob_base_fee(excess, timestamp));
    let (_, max_blobs) = spec.blob_limits(timestamp);
    PoolContext {
        chain_id: spec.chain_id,
        fork,
        block_gas_limit: gas_limit(head, controls),
        base_fee,
        blob_base_fee,
        max_blobs_per_tx: if fork >= Fork::Osaka { MAX_BLOBS_PER_TX_OSAKA.min(max_blobs) } else { max_blobs },
        max_blobs_per_block: max_blobs,
        max_initcode_size: spec.max_initcode_size(),
    }
}

impl Engine {
    pub fn controls(&self) -> Controls {
        self.controls.lock().clone()
    }

    /// Changes the controls; the pool and `pending` see the next block as they make it.
    pub fn update_controls(&self, f: &mut dyn FnMut(&mut Controls)) {
        let changed = {
            let mut controls = self.controls.lock();
            let before = controls.clone();
            f(&mut controls);
            let head = self.head.load();
            let context = pool_context(&self.spec, &head, &controls);
            self.pool_context.store(Arc::new(context));
            (*controls != before).then(|| controls.clone())
        };
        if let Some(controls) = changed {
            self.keep_controls(&controls);
        }
        self.touch();
    }

    /// Impersonation and clock survive a restart. A store that refuses this small write refuses the
    /// next block too and is reported there.
    fn keep_controls(&self, controls: &Controls) {
        if let Ok(json) = serde_json::to_vec(controls) {
            let _ = self.store.put_meta(CONTROLS_KEY, Some(&json));
        }
    }

    /// What a committed block used up: exact timestamp (the clock goes on from it), base fee, randao.
    pub(super) fn consume_controls(&self, timestamp: u64) {
        let kept = {
            let mut controls = self.controls.lock();
            let exact = controls.next_timestamp.take().is_some();
            controls.next_base_fee = None;
            controls.next_prevrandao = None;
            if exact {
                controls.time_offset = timestamp as i64 - wall_clock() as i64;
            }
            exact.then(|| controls.clone())
        };
        if let Some(controls) = kept {
            self.keep_controls(&controls);
        }
    }

    /// Sets the clock so that "now" is `clock` (revert gives the time of the snapshot back).
    pub(super) fn reset_clock(&self, clock: u64) {
        let controls = {
            let mut controls = self.controls.lock();
            controls.time_offset = clock as i64 - wall_clock() as i64;
            controls.next_timestamp = None;
            controls.next_base_fee = None;
            controls.next_prevrandao = None;
            controls.clone()
        };
        self.keep_controls(&controls);
    }

    /// The devnet's clock: wall clock plus offset, seconds.
    pub fn clock(&self) -> u64 {
        shifted(wall_clock(), self.controls.lock().time_offset)
    }

    /// Timestamp rule, base fee, beneficiary, randao of the next block under the controls, with wall clock `now`.
    pub fn next_attributes(&self, now: u64) -> BlockAttributes {
        let controls = self.controls.lock();
        attributes_for(&self.head.load(), &controls, now)
    }

    /// Attributes of an empty block on `head`, without what the controls say about the next block alone.
    pub(super) fn filler_attributes(&self, head: &Head) -> BlockAttributes {
        let controls = self.controls.lock();
        let plain = Controls { coinbase: controls.coinbase, gas_limit: controls.gas_limit, ..Controls::default() };
        attributes_for(head, &plain, 0)
    }

    /// Context for `pending` calls.
    pub fn pending_context(&self) -> BlockContext {
        let head = self.head.load();
        let attributes = {
            let controls = self.controls.lock();
            attributes_for(&head, &controls, wall_clock())
        };
        let (number, timestamp) = (head.header.number + 1, attributes.timestamp);
        let fork = self.spec.fork(number, timestamp);
        BlockContext {
            number,
            timestamp,
            beneficiary: attributes.beneficiary,
            gas_limit: attributes.gas_limit,
            base_fee: self.spec.next_base_fee(&head.header, timestamp).map(|fee| attributes.base_fee.unwrap_or(fee)),
            prevrandao: attributes.prevrandao,
            difficulty: if fork >= Fork::Paris { U256::ZERO } else { head.header.difficulty },
            excess_blob_gas: self.spec.next_excess_blob_gas(&head.header, timestamp),
            parent_beacon_block_root: (fork >= Fork::Cancun).then_some(attributes.parent_beacon_block_root),
        }
    }

    /// The next block, executed from the pool but not proposed: for the `pending` tag.
    pub fn pending_block(&self) -> Result<Arc<ExecutedBlock>, EngineError> {
        let mut cached = self.pending.lock();
        // Read before the pool is: a transaction that arrives meanwhile makes the next call look again.
        let generation = self.generation.load(Ordering::Acquire);
        let view = self.view()?;
        let head = view.head();
        let attributes = {
            let controls = self.controls.lock();
            attributes_for(head, &controls, wall_clock())
        };
        if let Some(pending) = cached.as_ref() {
            let same = (pending.generation, pending.version, pending.timestamp)
                == (generation, head.version, attributes.timestamp);
            if same {
                return Ok(pending.block.clone());
            }
        }
        let block = Arc::new(self.build(&view, &attributes, Pool::preview)?);
        *cached = Some(PendingBlock {
            generation,
            version: head.version,
            timestamp: attributes.timestamp,
            block: block.clone(),
        });
        Ok(block)
    }

    /// Builds the child of the view's head from the pool: `source` is [`Pool::best`] for a proposal, [`Pool::preview`]
    /// for a block that is only looked at (its view may be older than the pool's head).
    pub(super) fn build(
        &self,
        view: &View,
        attributes: &BlockAttributes,
        source: fn(&Pool, u64, u128) -> Box<dyn TxSource + Send>,
    ) -> Result<ExecutedBlock, EngineError> {
        let head = view.head();
        let context = self.pool_context.load();
        let base_fee =
            attributes.base_fee.or_else(|| self.spec.next_base_fee(&head.header, attributes.timestamp)).unwrap_or(0);
        let mut source = Bounded {
            inner: source(&self.pool, base_fee, context.blob_base_fee),
            left: MAX_PAYLOAD_BYTES - PAYLOAD_RESERVE,
        };
        let mut roots = view.root_calculator();
        Ok(build_block(&self.spec, &head.header, head.hash, attributes, &view.latest(), &mut *roots, &mut source)?)
    }
}
