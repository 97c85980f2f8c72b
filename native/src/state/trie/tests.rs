//! The incremental trie against the definition, over random keys of any length.

use std::collections::BTreeMap;

use alloy_primitives::{hex, keccak256};
use alloy_trie::nodes::encode_path_leaf;
use alloy_trie::proof::verify_proof;
use alloy_trie::{HashBuilder, Nibbles, EMPTY_ROOT_HASH};
use proptest::prelude::*;

use super::{Changes, Records, Trie, Update};
use crate::primitives::{ReadError, B256};

/// A table of records in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for Table {
    fn record(&self, key: &[u8]) -> Result<Option<&[u8]>, ReadError> {
        Ok(self.0.get(key).map(Vec::as_slice))
    }
}

impl Table {
    fn write(&mut self, changes: Changes) {
        assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "one change per record, in order");
        for (key, record) in changes {
            match record {
                Some(record) => self.0.insert(key, record),
                None => self.0.remove(&key),
            };
        }
    }
}

type Content = BTreeMap<Nibbles, Vec<u8>>;

/// The trie root by definition (yellow paper, appendix D): no caching, no sharing.
fn defined_root(content: &Content) -> B256 {
    if content.is_empty() {
        return EMPTY_ROOT_HASH;
    }
    keccak256(defined_node(&content.iter().map(|(key, value)| (*key, value.as_slice())).collect::<Vec<_>>(), 0))
}

fn defined_node(entries: &[(Nibbles, &[u8])], depth: usize) -> Vec<u8> {
    if let [(key, value)] = entries {
        return list(&[string(&encode_path_leaf(&key.slice(depth..), true)), string(value)]);
    }
    let shared = entries[0].0.common_prefix_length(&entries[entries.len() - 1].0);
    if shared > depth {
        let path = encode_path_leaf(&entries[0].0.slice(depth..shared), false);
        return list(&[string(&path), reference(&defined_node(entries, shared))]);
    }
    let mut items = Vec::new();
    for nibble in 0..16 {
        let below: Vec<_> = entries.iter().filter(|(key, _)| key.get(depth) == Some(nibble)).copied().collect();
        items.push(if below.is_empty() { vec![0x80] } else { reference(&defined_node(&below, depth + 1)) });
    }
    let own = entries.iter().find(|(key, _)| key.len() == depth).map_or(&[][..], |(_, value)| value);
    items.push(string(own));
    list(&items)
}

fn reference(node: &[u8]) -> Vec<u8> {
    if node.len() < 32 {
        node.to_vec()
    } else {
        string(keccak256(node).as_slice())
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    alloy_rlp::encode(bytes)
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    let mut out = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.extend(payload);
    out
}

fn updates(batch: &BTreeMap<Nibbles, Option<Vec<u8>>>) -> Vec<Update> {
    batch.iter().map(|(key, value)| Update { key: *key, value: value.clone() }).collect()
}

fn built(content: &Content, prefix: &[u8]) -> (B256, Table) {
    let mut trie = Trie::open(prefix, EMPTY_ROOT_HASH);
    let mut table = Table::default();
    let mut all: Vec<Update> =
        content.iter().map(|(key, value)| Update { key: *key, value: Some(value.clone()) }).collect();
    trie.update(&table, &mut all).unwrap();
    let root = trie.root();
    table.write(trie.take_changes());
    (root, table)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 1..4), prop::collection::vec(any::<u8>(), 30..40)]
}

/// Short keys of few nibbles: many are prefixes of others, many nodes are inline.
fn any_key() -> impl Strategy<Value = Nibbles> {
    prop::collection::vec(0u8..3, 0..8).prop_map(Nibbles::from_nibbles)
}

/// Keys of one length, as hashes are, that share prefixes of random length.
fn even_key() -> impl Strategy<Value = Nibbles> {
    (0usize..10, 0u8..4).prop_map(|(shared, tail)| {
        let mut nibbles = [0u8; 12];
        nibbles[shared] = tail;
        Nibbles::from_nibbles(nibbles)
    })
}

type Batch = BTreeMap<Nibbles, Option<Vec<u8>>>;

fn batches(key: impl Strategy<Value = Nibbles> + 'static) -> impl Strategy<Value = Vec<(Batch, bool)>> {
    let batch = prop::collection::btree_map(key, prop::option::weighted(0.6, value()), 0..12);
    prop::collection::vec((batch, any::<bool>()), 1..10)
}

fn check(batches: Vec<(Batch, bool)>) {
    let prefix = [9u8, 9];
    let mut content = Content::new();
    let mut table = Table::default();
    let mut trie = Trie::open(&prefix, EMPTY_ROOT_HASH);
    for (batch, reopen) in batches {
        trie.update(&table, &mut updates(&batch)).unwrap();
        for (key, value) in batch {
            match value {
                Some(value) => content.insert(key, value),
                None => content.remove(&key),
            };
        }
        let root = trie.root();
        assert_eq!(root, defined_root(&content));
        if reopen {
            table.write(trie.take_changes());
            assert_eq!((root, &table), (root, &built(&content, &prefix).1), "records depend on the content alone");
            trie = Trie::open(&prefix, root);
        }
    }
}

proptest! {
    #[test]
    fn any_keys_give_the_defined_root_and_canonical_records(batches in batches(any_key())) {
        check(batches);
    }

    #[test]
    fn keys_of_one_length_give_the_defined_root_and_canonical_records(batches in batches(even_key())) {
        check(batches);
    }

    #[test]
    fn hashed_keys_prove_presence_and_absence(
        content in prop::collection::btree_map(any::<u8>().prop_map(hashed), value(), 0..60),
        asked in any::<u8>(),
    ) {
        let (root, table) = built(&content, &[]);
        let mut builder = HashBuilder::default();
        for (key, value) in &content {
            builder.add_leaf(*key, value);
        }
        prop_assert_eq!(root, builder.root());
        let key = hashed(asked);
        let proof = Trie::open(&[], root).prove(&table, &key).unwrap();
        verify_proof(root, key, content.get(&key).cloned(), &proof).unwrap();
    }
}

fn hashed(seed: u8) -> Nibbles {
    Nibbles::unpack(keccak256([seed]))
}

#[test]
fn clearing_leaves_no_record() {
    let content: Content = (0..50).map(|seed| (hashed(seed), vec![seed; 40])).collect();
    let (root, mut table) = built(&content, &[7]);
    let mut trie = Trie::open(&[7], root);
    trie.update(&table, &mut [Update { key: hashed(3), value: None }]).unwrap();
    table.write(trie.take_changes());
    trie.clear(table.0.keys().cloned().collect());
    assert_eq!(trie.root(), EMPTY_ROOT_HASH);
    table.write(trie.take_changes());
    assert_eq!(table, Table::default());
}

#[test]
fn a_large_batch_equals_its_parts() {
    let key = |n: u32| Nibbles::unpack(keccak256(n.to_be_bytes()));
    let content: Content = (0..3000).map(|n| (key(n), n.to_be_bytes().repeat(9))).collect();
    let (whole, whole_table) = built(&content, &[]);
    let mut trie = Trie::open(&[], EMPTY_ROOT_HASH);
    let mut table = Table::default();
    for part in content.iter().collect::<Vec<_>>().chunks(17) {
        let mut part: Vec<Update> =
            part.iter().map(|(key, value)| Update { key: **key, value: Some((*value).clone()) }).collect();
        trie.update(&table, &mut part).unwrap();
        table.write(trie.take_changes());
    }
    assert_eq!((trie.root(), table), (whole, whole_table));
}

#[test]
fn a_missing_record_is_an_error() {
    let (root, _) = built(&(0..9).map(|seed| (hashed(seed), vec![seed])).collect(), &[]);
    let error = Trie::open(&[], root).update(&Table::default(), &mut [Update { key: hashed(1), value: None }]);
    assert!(error.unwrap_err().to_string().contains("missing"));
}

/// A change of these bytes needs a new format version of the data directory.
#[test]
fn records_have_golden_bytes() {
    let content: Content = [
        (Nibbles::from_nibbles([1, 2, 3, 4]), vec![0xaa; 33]),
        (Nibbles::from_nibbles([1, 2, 3, 5]), vec![0xbb]),
        (Nibbles::from_nibbles([1, 2, 9, 0]), vec![0xcc]),
    ]
    .into();
    let (root, table) = built(&content, &[0]);
    assert_eq!(root, defined_root(&content));
    let records: Vec<(String, String)> =
        table.0.iter().map(|(key, record)| (hex::encode(key), hex::encode(record))).collect();
    let child = "2c06fb4e3f39d7e9a50396bad4097b0b55525111b3faadf04fac1d61d692015e";
    let leaf = "51e5afbb6c9963059723d7a9f230b5abfce29770e802b3f640fc2a331abf2905";
    let expected = [
        ("00".to_owned(), format!("01021200020802000200{child}010002cc")),
        ("00010203".to_owned(), format!("010000003000300020{leaf}0042{}0002bb", "aa".repeat(33))),
    ];
    assert_eq!(records, expected);
}
