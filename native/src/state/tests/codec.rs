//! Golden bytes and round trips of the table records. A change of the bytes needs a new format version.

use alloy_consensus::Header;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{hex, LogData, KECCAK256_EMPTY};
use alloy_trie::EMPTY_ROOT_HASH;
use proptest::prelude::*;

use super::support::*;
use crate::primitives::*;
use crate::state::codec::{self, AccountRecord, BodyRecord, ChangesRecord, HeadRecord};
use crate::state::TxLocation;

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn word(byte: u8) -> String {
    hex::encode([byte; 32])
}

#[test]
fn accounts_have_golden_bytes() {
    let plain = AccountRecord { info: info(300, 0x1234), storage_root: EMPTY_ROOT_HASH };
    assert_eq!(hex::encode(encoded(|out| plain.encode(out))), "00ac02021234");
    let contract = AccountRecord {
        info: AccountInfo { nonce: 1, balance: U256::ZERO, code_hash: B256::repeat_byte(0xc0) },
        storage_root: B256::repeat_byte(0x50),
    };
    let expected = format!("030100{}{}", word(0xc0), word(0x50));
    assert_eq!(hex::encode(encoded(|out| contract.encode(out))), expected);
    assert_eq!(AccountRecord::decode_optional(&[]), Ok(None));
}

#[test]
fn headers_and_bodies_have_golden_bytes() {
    let header = Header::default();
    let record = codec::encode_header(&B256::repeat_byte(1), &header);
    assert_eq!(hex::encode(&record), format!("{}{}", word(1), hex::encode(alloy_rlp::encode(&header))));
    assert_eq!(codec::decode_header(&record), Ok((B256::repeat_byte(1), header)));
    let body = BodyRecord {
        transactions: 300,
        ommers: vec![],
        withdrawals: Some(vec![Withdrawal { index: 1, validator_index: 2, address: ALICE, amount: 3 }]),
        requests: vec![Bytes::from_static(&[0, 7])],
    };
    let expected = "ac0201c0d9d801029400000000000000000000000000000000000a11ce03c3820007";
    assert_eq!(hex::encode(body.encode()), expected);
    assert_eq!(BodyRecord::decode(&body.encode()), Ok(body));
    assert_eq!(BodyRecord::decode_count(&[0xac, 0x02]), Ok(300));
}

#[test]
fn transactions_have_golden_bytes() {
    let tx = transaction(1);
    let expected = format!("01{}{}{}", hex::encode(ALICE), hex::encode(tx.hash), hex::encode(&tx.raw));
    let record = encoded(|out| codec::encode_transaction(&tx, out));
    assert_eq!(hex::encode(&record), expected);
    let found = codec::decode_transaction(&record).unwrap();
    assert_eq!((&found.tx, found.sender, found.hash, &found.raw), (&tx.tx, tx.sender, tx.hash, &tx.raw));
    assert!(codec::decode_transaction(&[&record[..], &[0]].concat()).is_err(), "trailing bytes");
}

#[test]
fn receipts_have_golden_bytes() {
    let mut receipt = receipt(vec![]);
    assert_eq!(hex::encode(encoded(|out| codec::encode_receipt(&receipt, 5, out))), "010088a40188a40107050000");
    receipt.logs = vec![Log { address: BOB, data: LogData::new_unchecked(vec![B256::ZERO], vec![1, 2].into()) }];
    receipt.bloom = Bloom::from([0; 256]);
    receipt.bloom[255] = 0x81;
    receipt.outcome = ReceiptOutcome::PostState(B256::repeat_byte(9));
    receipt.contract_address = Some(TOKEN);
    let expected = format!(
        "060088a40188a4010705{}{}0207f807ff01{}01{}020102",
        word(9),
        hex::encode(TOKEN),
        hex::encode(BOB),
        word(0)
    );
    let record = encoded(|out| codec::encode_receipt(&receipt, 5, out));
    assert_eq!(hex::encode(&record), expected);
    assert_eq!(codec::decode_receipt(&record), Ok((receipt, 5)));
}

#[test]
fn locations_heads_and_changes_have_golden_bytes() {
    let at = TxLocation { block: 258, index: 3 };
    assert_eq!(hex::encode(codec::encode_location(at)), "000000000000010200000003");
    assert_eq!(codec::decode_location(&codec::encode_location(at)), Some(at));
    assert_eq!(codec::decode_location(&[0; 8]), None);
    let head =
        HeadRecord { number: 1, hash: B256::repeat_byte(2), state_root: B256::repeat_byte(3), version: 4, oldest: 5 };
    let expected = format!("0000000000000001{}{}00000000000000040000000000000005", word(2), word(3));
    assert_eq!(hex::encode(head.encode()), expected);
    assert_eq!(HeadRecord::decode(&head.encode()), Ok(head));
    let changes = ChangesRecord {
        edit: true,
        root: B256::repeat_byte(6),
        accounts: vec![(BOB, vec![U256::from(7)]), (TOKEN, vec![])],
    };
    let expected = format!("01{}02{}01{:064x}{}00", word(6), hex::encode(BOB), 7, hex::encode(TOKEN));
    assert_eq!(hex::encode(changes.encode()), expected);
    assert_eq!(ChangesRecord::decode(&changes.encode()), Ok(changes));
}

fn any_log() -> impl Strategy<Value = Log> {
    let topics = prop::collection::vec(any::<[u8; 32]>().prop_map(B256::from), 0..=4);
    (any::<[u8; 20]>(), topics, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(address, topics, data)| Log {
        address: address.into(),
        data: LogData::new_unchecked(topics, data.into()),
    })
}

prop_compose! {
    fn any_receipt()(
        logs in prop::collection::vec(any_log(), 0..30),
        post_state in prop::option::of(any::<[u8; 32]>()),
        success in any::<bool>(),
        created in prop::option::of(any::<[u8; 20]>()),
        numbers in any::<(u8, u64, u64, u128)>(),
    ) -> Receipt {
        Receipt {
            tx_type: numbers.0,
            outcome: post_state.map_or(ReceiptOutcome::Status(success), |root| ReceiptOutcome::PostState(root.into())),
            cumulative_gas_used: numbers.1,
            bloom: logs.iter().collect(),
            logs,
            gas_used: numbers.2,
            effective_gas_price: numbers.3,
            contract_address: created.map(Into::into),
        }
    }
}

proptest! {
    #[test]
    fn accounts_survive(nonce: u64, balance: [u8; 32], code in any::<bool>(), storage in any::<bool>()) {
        let record = AccountRecord {
            info: AccountInfo {
                nonce,
                balance: U256::from_be_bytes(balance),
                code_hash: if code { B256::repeat_byte(7) } else { KECCAK256_EMPTY },
            },
            storage_root: if storage { B256::repeat_byte(8) } else { EMPTY_ROOT_HASH },
        };
        let bytes = encoded(|out| record.encode(out));
        prop_assert_eq!(AccountRecord::decode(&bytes), Ok(record));
    }

    #[test]
    fn receipts_survive(receipt in any_receipt(), first_log: u64) {
        let bytes = encoded(|out| codec::encode_receipt(&receipt, first_log, out));
        prop_assert_eq!(codec::decode_receipt(&bytes), Ok((receipt, first_log)));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // Whatever comes out, it comes out.
        drop(AccountRecord::decode(&bytes));
        drop(BodyRecord::decode(&bytes));
        drop(ChangesRecord::decode(&bytes));
        drop(codec::decode_header(&bytes));
        drop(codec::decode_receipt(&bytes));
        drop(codec::decode_transaction(&bytes));
    }

    #[test]
    fn a_cut_receipt_is_malformed(receipt in any_receipt(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(|out| codec::encode_receipt(&receipt, 0, out));
        prop_assert!(codec::decode_receipt(&bytes[..cut.index(bytes.len())]).is_err());
    }
}
