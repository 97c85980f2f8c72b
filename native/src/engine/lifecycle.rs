//! propose → process_proposal → finalize_block → commit.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::{payload, ChainEvent, Engine, EngineError, Verdict};
use crate::execution::{execute_block, BlockAttributes, BlockError};
use crate::pool::Pool;
use crate::primitives::*;
use crate::state::{Head, Version, View};

/// Candidates kept at one height: the own proposal and a few of others.
const MAX_CANDIDATES: usize = 4;

/// An executed block that is not committed.
#[derive(Clone)]
struct Candidate {
    payload: Arc<[u8]>,
    /// The version of the state that it was executed on.
    parent: Version,
    block: Arc<ExecutedBlock>,
}

/// What the writer lock protects: the executed candidates of the next height and the decided one.
#[derive(Default)]
pub(super) struct Candidates {
    cache: VecDeque<Candidate>,
    finalized: Option<Candidate>,
}

impl Candidates {
    fn find(&self, payload: &[u8], parent: Version) -> Option<Candidate> {
        // Whole payloads are compared: as good as a hash, and cheaper than computing one.
        self.cache.iter().find(|candidate| candidate.parent == parent && *candidate.payload == *payload).cloned()
    }

    fn keep(&mut self, candidate: Candidate) {
        while self.cache.len() >= MAX_CANDIDATES {
            self.cache.pop_front();
        }
        self.cache.push_back(candidate);
    }

    /// The chain moved: nothing executed on the old head can be committed.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.finalized = None;
    }
}

impl Engine {
    /// PrepareProposal: builds and executes the next block from the pool. Changes nothing that is committed.
    pub fn propose(&self, attributes: &BlockAttributes) -> Result<Vec<u8>, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let generation = self.generation.load(Ordering::Acquire);
        let view = self.view()?;
        let block = self.build(&view, attributes, Pool::best)?;
        if block.block.transactions.is_empty() {
            // Ready by the pool's measure, yet none fits: do not wake the proposer again for them.
            self.signal.mark_fruitless(generation);
        }
        let bytes = payload::encode(&block.block)?;
        life.keep(Candidate { payload: bytes.as_slice().into(), parent: view.head().version, block: Arc::new(block) });
        Ok(bytes)
    }

    /// ProcessProposal: executes a proposal and compares every claimed root. Deterministic in
    /// (committed state, payload); an `Err` is a failure of this node, never a judgement.
    pub fn process_proposal(&self, payload: &[u8]) -> Result<Verdict, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        match self.executed(&mut life, payload) {
            Ok(_) => Ok(Verdict::Accept),
            Err(error @ (EngineError::Payload(_) | EngineError::Block(BlockError::Invalid(_)))) => {
                Ok(Verdict::Reject(error.to_string()))
            }
            Err(error @ EngineError::Block(BlockError::Transaction { .. })) => Ok(Verdict::Reject(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// FinalizeBlock: the decided block; executed here unless a proposal step did it. May be called
    /// again, also with another payload: the last one counts.
    pub fn finalize_block(&self, payload: &[u8]) -> Result<Arc<ExecutedBlock>, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let candidate = self.executed(&mut life, payload)?;
        let block = candidate.block.clone();
        life.finalized = Some(candidate);
        Ok(block)
    }

    /// Commit: the finalized block becomes the head in one store transaction, then visible.
    pub fn commit(&self) -> Result<Arc<Head>, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let Some(candidate) = life.finalized.as_ref() else {
            return Err(EngineError::Other("commit without a finalized block".into()));
        };
        let block = candidate.block.clone();
        let head = self.head.load();
        if candidate.parent != head.version {
            return Err(EngineError::Other(format!(
                "the finalized block {} was executed on version {}, the head is at {}",
                block.block.header.number, candidate.parent, head.version
            )));
        }
        let committed = self.store.commit_blocks(std::slice::from_ref(&block));
        self.trouble.store(committed.as_ref().err().map(|error| Arc::new(error.to_string())));
        if committed.is_err() {
            // Who waits for a block shall hear of the trouble instead of waiting on.
            self.mined.release_all();
        }
        let head = Arc::new(committed?);
        life.clear();
        self.consume_controls(block.block.header.timestamp);
        let context = self.publish(head.clone());
        self.pool.on_block(&block, &context);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.mined.release(block.block.transactions.iter().map(|tx| &tx.hash));
        if self.events.receiver_count() > 0 {
            // No receiver any more is no fault.
            let _ = self.events.send(ChainEvent::Committed(block));
        }
        self.signal.notify();
        Ok(head)
    }

    /// The payload as an executed candidate on the present head, from the cache or by executing it.
    fn executed(&self, life: &mut super::lifecycle::Candidates, payload: &[u8]) -> Result<Candidate, EngineError> {
        let version = self.head.load().version;
        if let Some(candidate) = life.find(payload, version) {
            return Ok(candidate);
        }
        let view = self.view()?;
        let block = self.verify(&view, payload)?;
        let candidate = Candidate { payload: payload.into(), parent: view.head().version, block: Arc::new(block) };
        life.keep(candidate.clone());
        Ok(candidate)
    }

    fn verify(&self, view: &View, payload: &[u8]) -> Result<ExecutedBlock, EngineError> {
        let block = payload::decode(payload, self.devnet)?;
        let head = view.head();
        follows(&block.header, head)?;
        let mut roots = view.root_calculator();
        Ok(execute_block(&self.spec, &head.header, block, self.devnet, &view.latest(), &mut *roots)?)
    }
}

/// The header names the head as its parent.
pub(super) fn follows(header: &alloy_consensus::Header, head: &Head) -> Result<(), BlockError> {
    if header.number != head.header.number + 1 {
        return Err(BlockError::Invalid(format!("number {}, expected {}", header.number, head.header.number + 1)));
    }
    if header.parent_hash != head.hash {
        return Err(BlockError::Invalid(format!("parent hash {}, the head is {}", header.parent_hash, head.hash)));
    }
    Ok(())
}
