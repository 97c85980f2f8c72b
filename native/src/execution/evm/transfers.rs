//! Logs and value transfers of one transaction in the order in which they happen, for `eth_simulateV1`.

use alloy_primitives::{address, b256};
use revm::context_interface::{ContextTr, JournalTr};
use revm::inspector::Inspector;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome};

use super::EvmContext;
use crate::primitives::*;

/// Where transfers of the chain's own coin seem to be logged (ERC-7528).
const EMITTER: Address = address!("eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");
/// keccak256("Transfer(address,address,uint256)")
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// A log and its position among all that its block recorded, logs of reverted frames included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedLog {
    pub log: Log,
    pub index: u64,
}

/// Collects logs frame by frame: those of a frame that reverts are dropped, their positions stay used.
#[derive(Debug, Default)]
pub struct LogRecorder {
    with_transfers: bool,
    next_index: u64,
    frames: Vec<Vec<IndexedLog>>,
    finished: Vec<IndexedLog>,
}

impl LogRecorder {
    /// `with_transfers` adds a log for every transfer of value.
    pub fn new(with_transfers: bool) -> LogRecorder {
        LogRecorder { with_transfers, ..LogRecorder::default() }
    }

    /// The logs of the last transaction; the next one starts afresh, positions count on.
    pub fn take(&mut self) -> Vec<IndexedLog> {
        self.frames.clear();
        std::mem::take(&mut self.finished)
    }

    fn record(&mut self, log: Log) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.push(IndexedLog { log, index: self.next_index });
        self.next_index += 1;
    }

    fn transfer(&mut self, from: Address, to: Address, value: U256) {
        if !self.with_transfers || value.is_zero() {
            return;
        }
        let topics = vec![TRANSFER, from.into_word(), to.into_word()];
        self.record(Log::new_unchecked(EMITTER, topics, value.to_be_bytes::<32>().into()));
    }

    fn close(&mut self, success: bool) {
        let logs = self.frames.pop().unwrap_or_default();
        if !success {
            return;
        }
        match self.frames.last_mut() {
            Some(parent) => parent.extend(logs),
            None => self.finished = logs,
        }
    }
}

impl<'a> Inspector<EvmContext<'a>, EthInterpreter> for LogRecorder {
    fn log(&mut self, _context: &mut EvmContext<'a>, log: Log) {
        self.record(log);
    }

    fn call(&mut self, _context: &mut EvmContext<'a>, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.frames.push(Vec::new());
        if inputs.scheme == CallScheme::Call {
            if let Some(value) = inputs.transfer_value() {
                self.transfer(inputs.transfer_from(), inputs.transfer_to(), value);
            }
        }
        None
    }

    fn call_end(&mut self, _context: &mut EvmContext<'a>, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.close(outcome.result.result.is_ok());
    }

    fn create(&mut self, context: &mut EvmContext<'a>, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.frames.push(Vec::new());
        if self.with_transfers && !inputs.value().is_zero() {
            // The creator's nonce is raised only after this hook.
            if let Ok(creator) = context.journal_mut().load_account(inputs.caller()) {
                let created = inputs.created_address(creator.data.info.nonce);
                self.transfer(inputs.caller(), created, inputs.value());
            }
        }
        None
    }

    fn create_end(&mut self, _context: &mut EvmContext<'a>, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.close(outcome.result.result.is_ok());
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.transfer(contract, target, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(n: u8) -> Log {
        Log::new_unchecked(Address::repeat_byte(n), vec![], Bytes::new())
    }

    fn emitters(logs: &[IndexedLog]) -> Vec<(u8, u64)> {
        logs.iter().map(|entry| (entry.log.address[0], entry.index)).collect()
    }

    #[test]
    fn logs_of_a_reverted_frame_go_but_their_positions_stay_used() {
        let mut recorder = LogRecorder::new(false);
        recorder.frames.push(vec![]);
        recorder.record(log(1));
        recorder.frames.push(vec![]);
        recorder.record(log(2));
        recorder.close(false);
        recorder.frames.push(vec![]);
        recorder.record(log(3));
        recorder.close(true);
        recorder.close(true);
        assert_eq!(emitters(&recorder.take()), [(1, 0), (3, 2)]);
        recorder.frames.push(vec![]);
        recorder.record(log(4));
        recorder.close(true);
        assert_eq!(emitters(&recorder.take()), [(4, 3)]);
    }

    #[test]
    fn transfers_are_logged_only_on_demand_and_only_with_value() {
        let (from, to) = (Address::repeat_byte(1), Address::repeat_byte(2));
        for (with_transfers, value, expected) in [(true, 5, 1), (true, 0, 0), (false, 5, 0)] {
            let mut recorder = LogRecorder::new(with_transfers);
            recorder.frames.push(vec![]);
            recorder.transfer(from, to, U256::from(value));
            recorder.close(true);
            assert_eq!(recorder.take().len(), expected);
        }
    }
}
