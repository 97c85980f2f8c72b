//! Chains as files: RLP blocks one after another, as geth's `export` and `import` have them.

use std::io::{BufReader, Read, Write};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Block, BlockBody};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::keccak256;
use alloy_rlp::{Decodable, Encodable};
use rayon::prelude::*;

use super::lifecycle::follows;
use super::overlay::Overlay;
use super::{ChainEvent, Engine, EngineError};
use crate::execution::{execute_block, BlockError, Fork};
use crate::primitives::*;

/// A larger item is refused unread.
const MAX_BLOCK_BYTES: u64 = 64 << 20;
/// Blocks (or bytes of them) that go into one commit.
const BATCH_BLOCKS: usize = 256;
const BATCH_BYTES: usize = 8 << 20;
/// Blocks that one read transaction of an export covers, so that it does not pin old pages for long.
const EXPORT_CHUNK: u64 = 256;

impl Engine {
    /// Executes and commits RLP blocks one after another; returns how many were new. Blocks that the
    /// chain has are skipped; the first bad block ends the import, those before it stay.
    /// `progress` gets the head's number after every commit; false ends the import.
    pub fn import_blocks(&self, rlp: &mut dyn Read, progress: &mut dyn FnMut(u64) -> bool) -> Result<u64, EngineError> {
        let mut items = Items { input: BufReader::with_capacity(1 << 20, rlp), offset: 0 };
        let mut imported = 0;
        loop {
            let batch = items.batch()?;
            if batch.is_empty() {
                return Ok(imported);
            }
            imported += self.import_batch(batch)?;
            if !progress(self.head.load().header.number) {
                return Err(EngineError::Other(format!("the import was stopped; {imported} blocks are committed")));
            }
        }
    }

    fn import_batch(&self, raw: Vec<Block<Transaction>>) -> Result<u64, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let blocks = self.seal(raw)?;
        let (executed, failure) = self.execute_batch(blocks)?;
        let count = executed.len() as u64;
        if count > 0 {
            let head = Arc::new(self.store.commit_blocks(&executed)?);
            life.clear();
            let context = self.publish(head);
            for block in executed {
                self.pool.on_block(&block, &context);
                self.mined.release(block.block.transactions.iter().map(|tx| &tx.hash));
                if self.events.receiver_count() > 0 {
                    // No receiver any more is no fault.
                    let _ = self.events.send(ChainEvent::Committed(block));
                }
            }
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.signal.notify();
        }
        failure.map_or(Ok(count), Err)
    }

    /// Executes as many as are good; the error of the first bad one comes beside them.
    #[allow(clippy::type_complexity)]
    fn execute_batch(
        &self,
        blocks: Vec<SealedBlock>,
    ) -> Result<(Vec<Arc<ExecutedBlock>>, Option<EngineError>), EngineError> {
        let view = self.view()?;
        let latest = view.latest();
        let mut overlay = Overlay::new(&latest);
        let mut roots = view.root_calculator();
        let mut head = view.head().clone();
        let mut executed = Vec::with_capacity(blocks.len());
        for block in blocks {
            let number = block.header.number;
            let named = |error: EngineError| EngineError::Other(format!("block {number}: {error}"));
            if number <= view.head().header.number {
                match view.hash(number)? {
                    Some(hash) if hash == block.hash => continue,
                    Some(hash) => {
                        let text = format!("block {number} is {} here, the file has {}", hash, block.hash);
                        return Ok((executed, Some(EngineError::Other(text))));
                    }
                    None => return Ok((executed, Some(EngineError::Other(format!("block {number} is not kept"))))),
                }
            }
            if let Err(error) = follows(&block.header, &head) {
                return Ok((executed, Some(named(error.into()))));
            }
            let hash = block.hash;
            match execute_block(&self.spec, &head.header, block, self.devnet, &overlay, &mut *roots) {
                Ok(done) => {
                    overlay.apply(&done);
                    head.header = Arc::new(done.block.header.clone());
                    head.hash = hash;
                    executed.push(Arc::new(done));
                }
                Err(BlockError::Read(error)) => return Err(error.into()),
                Err(error) => return Ok((executed, Some(named(error.into())))),
            }
        }
        Ok((executed, None))
    }

    /// Hashes the blocks and recovers all their senders in parallel.
    fn seal(&self, blocks: Vec<Block<Transaction>>) -> Result<Vec<SealedBlock>, EngineError> {
        blocks
            .into_par_iter()
            .map(|block| {
                let Block { header, body } = block;
                // Before Homestead a signature's s was not bound to the lower half.
                let strict = self.spec.fork(header.number, header.timestamp) >= Fork::Homestead;
                let transactions = body
                    .transactions
                    .into_par_iter()
                    .enumerate()
                    .map(|(index, tx)| signed(tx, strict, header.number, index))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(SealedBlock {
                    hash: header.hash_slow(),
                    header,
                    transactions,
                    ommers: body.ommers,
                    withdrawals: body.withdrawals.map(|list| list.0),
                })
            })
            .collect()
    }

    /// Writes the blocks `from..=to` one after another; returns how many.
    pub fn export_blocks(&self, out: &mut dyn Write, from: u64, to: u64) -> Result<u64, EngineError> {
        let last = self.head.load().header.number;
        if from > to || to > last {
            return Err(EngineError::Other(format!(
                "blocks {from} to {to} cannot be exported: the chain has 0 to {last}"
            )));
        }
        let mut buffer = Vec::new();
        let mut first = from;
        while first <= to {
            let end = to.min(first.saturating_add(EXPORT_CHUNK - 1));
            let view = self.view()?;
            for number in first..=end {
                let block =
                    view.block(number)?.ok_or_else(|| EngineError::Other(format!("block {number} is not kept")))?;
                if let Some(index) = block.transactions.iter().position(|tx| tx.impersonated) {
                    return Err(EngineError::Other(format!(
                        "block {number} cannot be exported: transaction {index} was sent by an impersonated account and carries no valid signature"
                    )));
                }
                buffer.clear();
                unsealed(block).encode(&mut buffer);
                out.write_all(&buffer)
                    .map_err(|error| EngineError::Other(format!("block {number} cannot be written: {error}")))?;
            }
            first = end + 1;
        }
        out.flush().map_err(|error| EngineError::Other(format!("the export cannot be written: {error}")))?;
        Ok(to - from + 1)
    }
}

fn unsealed(block: SealedBlock) -> Block<Transaction> {
    Block {
        header: block.header,
        body: BlockBody {
            transactions: block.transactions.iter().map(|tx| tx.tx.clone()).collect(),
            ommers: block.ommers,
            withdrawals: block.withdrawals.map(Into::into),
        },
    }
}

fn signed(tx: Transaction, strict: bool, block: u64, index: usize) -> Result<Arc<SignedTx>, EngineError> {
    let recovered = if strict { tx.recover_signer() } else { tx.recover_signer_unchecked() };
    let sender = recovered
        .map_err(|error| EngineError::Other(format!("block {block}: transaction {index}: signature: {error}")))?;
    let raw: Bytes = tx.encoded_2718().into();
    Ok(Arc::new(SignedTx { hash: keccak256(&raw), tx, sender, raw, impersonated: false }))
}

/// Reads RLP lists from a stream, each bounded before it is allocated.
struct Items<R> {
    input: R,
    offset: u64,
}

impl<R: Read> Items<R> {
    fn batch(&mut self) -> Result<Vec<Block<Transaction>>, EngineError> {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        while blocks.len() < BATCH_BLOCKS && bytes < BATCH_BYTES {
            let at = self.offset;
            let Some(item) = self.item()? else { break };
            let mut rest = item.as_slice();
            let block = Block::<Transaction>::decode(&mut rest)
                .map_err(|error| EngineError::Other(format!("block at byte {at}: {error}")))?;
            if !rest.is_empty() {
                return Err(EngineError::Other(format!("block at byte {at}: {} trailing bytes", rest.len())));
            }
            bytes += item.len();
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// One whole item with its prefix; `None` at the end of the stream.
    fn item(&mut self) -> Result<Option<Vec<u8>>, EngineError> {
        let at = self.offset;
        let fail = |reason: String| EngineError::Other(format!("block at byte {at}: {reason}"));
        let mut item = Vec::with_capacity(1024);
        if self.more(&mut item, 1).map_err(|error| fail(error.to_string()))? == 0 {
            return Ok(None);
        }
        let prefix = item[0];
        let length = match prefix {
            0..=0xbf => return Err(fail(format!("starts with {prefix:#04x}, not with an RLP list"))),
            0xc0..=0xf7 => u64::from(prefix - 0xc0),
            0xf8..=0xff => {
                let width = usize::from(prefix - 0xf7);
                let read = self.more(&mut item, width as u64).map_err(|error| fail(error.to_string()))?;
                if read < width as u64 {
                    return Err(fail("ends within its length".into()));
                }
                item[1..].iter().fold(0u64, |length, byte| length << 8 | u64::from(*byte))
            }
        };
        if length > MAX_BLOCK_BYTES {
            return Err(fail(format!("{length} bytes exceed the limit of {MAX_BLOCK_BYTES}")));
        }
        let read = self.more(&mut item, length).map_err(|error| fail(error.to_string()))?;
        if read < length {
            return Err(fail(format!("ends after {read} of {length} bytes")));
        }
        Ok(Some(item))
    }

    fn more(&mut self, item: &mut Vec<u8>, count: u64) -> std::io::Result<u64> {
        let read = (&mut self.input).take(count).read_to_end(item)? as u64;
        self.offset += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(bytes: &[u8]) -> String {
        Items { input: bytes, offset: 0 }.batch().unwrap_err().to_string()
    }

    #[test]
    fn an_empty_stream_holds_no_blocks() {
        assert!(Items { input: &[][..], offset: 0 }.batch().unwrap().is_empty());
    }

    #[test]
    fn a_stream_that_is_not_a_list_is_refused_with_its_offset() {
        assert_eq!(error_of(&[0x80]), "block at byte 0: starts with 0x80, not with an RLP list");
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_read() {
        let mut bytes = vec![0xff];
        bytes.extend(u64::MAX.to_be_bytes());
        assert!(error_of(&bytes).contains("exceed the limit"));
    }

    #[test]
    fn a_stream_that_ends_within_a_block_is_refused() {
        assert_eq!(error_of(&[0xc5, 1, 2]), "block at byte 0: ends after 2 of 5 bytes");
    }
}
