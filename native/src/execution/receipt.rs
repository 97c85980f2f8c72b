//! Consensus encoding of receipts.

use alloy_primitives::logs_bloom;
use alloy_rlp::{BufMut, Encodable, Header};

use crate::primitives::*;

/// The bloom filter of some logs; cheap when there are none.
pub fn bloom_of(logs: &[Log]) -> Bloom {
    if logs.is_empty() {
        Bloom::ZERO
    } else {
        logs_bloom(logs)
    }
}

impl Receipt {
    /// EIP-2718 encoding as it enters the receipts root.
    pub fn encode_2718(&self, out: &mut dyn BufMut) {
        if self.tx_type != 0 {
            out.put_u8(self.tx_type);
        }
        let outcome_length = match &self.outcome {
            ReceiptOutcome::Status(status) => status.length(),
            ReceiptOutcome::PostState(root) => root.length(),
        };
        let payload_length =
            outcome_length + self.cumulative_gas_used.length() + self.bloom.length() + self.logs.length();
        Header { list: true, payload_length }.encode(out);
        match &self.outcome {
            ReceiptOutcome::Status(status) => status.encode(out),
            ReceiptOutcome::PostState(root) => root.encode(out),
        }
        self.cumulative_gas_used.encode(out);
        self.bloom.encode(out);
        self.logs.encode(out);
    }
}

/// Root of the receipts trie.
pub fn receipts_root(receipts: &[Receipt]) -> B256 {
    alloy_trie::root::ordered_trie_root_with_encoder(receipts, |receipt, out| receipt.encode_2718(out))
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{Eip658Value, ReceiptEnvelope, ReceiptWithBloom};
    use alloy_eips::Encodable2718;
    use alloy_primitives::{address, LogData};

    use super::*;

    #[test]
    fn encoding_equals_the_library() {
        let logs = vec![Log {
            address: address!("0x0000000000000000000000000000000000001234"),
            data: LogData::new_unchecked(vec![B256::repeat_byte(7)], Bytes::from_static(b"data")),
        }];
        for (tx_type, outcome) in [
            (0, ReceiptOutcome::PostState(B256::repeat_byte(3))),
            (0, ReceiptOutcome::Status(false)),
            (2, ReceiptOutcome::Status(true)),
        ] {
            let receipt = Receipt {
                tx_type,
                outcome,
                cumulative_gas_used: 123_456,
                bloom: bloom_of(&logs),
                logs: logs.clone(),
                gas_used: 0,
                effective_gas_price: 0,
                contract_address: None,
            };
            let inner = ReceiptWithBloom {
                receipt: alloy_consensus::Receipt {
                    status: match outcome {
                        ReceiptOutcome::Status(status) => Eip658Value::Eip658(status),
                        ReceiptOutcome::PostState(root) => Eip658Value::PostState(root),
                    },
                    cumulative_gas_used: 123_456,
                    logs: logs.clone(),
                },
                logs_bloom: receipt.bloom,
            };
            let library = match tx_type {
                0 => ReceiptEnvelope::Legacy(inner),
                _ => ReceiptEnvelope::Eip1559(inner),
            };
            let mut ours = Vec::new();
            receipt.encode_2718(&mut ours);
            assert_eq!(ours, library.encoded_2718());
        }
    }
}
