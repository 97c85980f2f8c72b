//! Random operation sequences against a plain model: states are kept whole, one per version.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::keccak256;
use alloy_trie::proof::verify_proof;
use alloy_trie::Nibbles;
use proptest::prelude::*;

use super::support::*;
use crate::primitives::*;
use crate::state::{Store, StoreOptions, Version};

type Accounts = BTreeMap<Address, (AccountInfo, BTreeMap<U256, U256>)>;

#[derive(Clone, Debug)]
enum Operation {
    Block(StateDelta),
    Edit(StateDelta),
    /// To the version that many steps back.
    Revert(usize),
    Reopen,
}

/// Few addresses and slots, so that changes meet.
fn account_delta() -> impl Strategy<Value = AccountDelta> {
    let storage = prop::collection::btree_map((0u64..12).prop_map(U256::from), (0u64..4).prop_map(U256::from), 0..6);
    prop_oneof![
        6 => (0u64..3, 0u64..1000, storage.clone()).prop_map(|(nonce, balance, storage)| {
            AccountDelta { info: Some(info(nonce, balance)), storage_wiped: false, storage }
        }),
        1 => Just(AccountDelta::default()),
        1 => (0u64..3, 0u64..1000, storage).prop_map(|(nonce, balance, storage)| {
            AccountDelta { info: Some(info(nonce, balance)), storage_wiped: true, storage }
        }),
    ]
}

fn state_delta() -> impl Strategy<Value = StateDelta> {
    prop::collection::btree_map((0u8..20).prop_map(Address::repeat_byte), account_delta(), 0..8)
        .prop_map(|accounts| StateDelta { accounts, code: BTreeMap::new() })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => state_delta().prop_map(Operation::Block),
        2 => state_delta().prop_map(Operation::Edit),
        1 => (0usize..6).prop_map(Operation::Revert),
        1 => Just(Operation::Reopen),
    ]
}

fn apply(accounts: &mut Accounts, delta: &StateDelta) {
    for (address, change) in &delta.accounts {
        let Some(info) = &change.info else {
            accounts.remove(address);
            continue;
        };
        let entry = accounts.entry(*address).or_insert_with(|| (info.clone(), BTreeMap::new()));
        entry.0 = info.clone();
        if change.storage_wiped {
            entry.1.clear();
        }
        for (slot, value) in &change.storage {
            if value.is_zero() {
                entry.1.remove(slot);
            } else {
                entry.1.insert(*slot, *value);
            }
        }
    }
}

/// The model: the whole state after every version, with its block.
struct Model {
    versions: Vec<(u64, Accounts)>,
    oldest: u64,
}

impl Model {
    fn latest(&self) -> &(u64, Accounts) {
        self.versions.last().unwrap()
    }

    fn push(&mut self, block: u64, delta: &StateDelta) {
        let mut accounts = self.latest().1.clone();
        apply(&mut accounts, delta);
        self.versions.push((block, accounts));
    }

    fn at(&self, block: u64) -> &Accounts {
        &self.versions.iter().rev().find(|(number, _)| *number == block).unwrap().1
    }

    /// The last version of the oldest kept block: nothing before it can be reverted to.
    fn oldest_version(&self) -> Version {
        self.versions.iter().rposition(|(number, _)| *number == self.oldest).unwrap() as Version
    }
}

fn assert_state(state: &dyn StateRead, accounts: &Accounts) {
    for byte in 0..20 {
        let address = Address::repeat_byte(byte);
        let expected = accounts.get(&address);
        assert_eq!(state.account(&address).unwrap().as_ref(), expected.map(|(info, _)| info));
        for slot in (0..12).map(U256::from) {
            let value = expected.and_then(|(_, storage)| storage.get(&slot)).copied().unwrap_or_default();
            assert_eq!(state.storage(&address, &slot).unwrap(), value);
        }
    }
}

fn assert_proofs(store: &Store, block: u64, root: B256, accounts: &Accounts) {
    let view = store.view().unwrap().unwrap();
    for address in [3u8, 7].map(Address::repeat_byte) {
        let slots = [1, 5].map(U256::from);
        let proof = view.proof(block, &address, &slots).unwrap();
        let value = accounts.get(&address).map(|(info, _)| {
            alloy_rlp::encode(alloy_trie::TrieAccount {
                nonce: info.nonce,
                balance: info.balance,
                storage_root: proof.storage_root,
                code_hash: info.code_hash,
            })
        });
        verify_proof(root, Nibbles::unpack(keccak256(address)), value, &proof.account_proof).unwrap();
        for (slot, value, nodes) in &proof.storage {
            let expected = (!value.is_zero()).then(|| alloy_rlp::encode(value));
            let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
            verify_proof(proof.storage_root, key, expected, nodes).unwrap();
        }
    }
}

fn whole(accounts: &Accounts) -> StateDelta {
    let account = |(info, storage): &(AccountInfo, BTreeMap<U256, U256>)| AccountDelta {
        info: Some(info.clone()),
        storage_wiped: false,
        storage: storage.clone(),
    };
    delta(accounts.iter().map(|(address, content)| (*address, account(content))))
}

fn trie_records(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.view().unwrap().unwrap().trie_records().unwrap()
}

fn run(operations: Vec<Operation>, history_blocks: Option<u64>) {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        Store::open(StoreOptions { history_blocks, max_bytes: 64 << 20, ..options(Some(directory.path())) }).unwrap()
    };
    let mut store: Arc<Store> = open();
    genesis(&store, &StateDelta::default());
    let mut model = Model { versions: vec![(0, Accounts::new())], oldest: 0 };
    let mut roots: BTreeMap<u64, B256> = BTreeMap::from([(0, head(&store).state_root)]);
    for operation in operations {
        match operation {
            Operation::Block(change) => {
                model.push(model.latest().0 + 1, &change);
                commit(&store, change);
                if let Some(keep) = history_blocks {
                    model.oldest = model.oldest.max((model.latest().0 + 1).saturating_sub(keep));
                }
            }
            Operation::Edit(change) => {
                model.push(model.latest().0, &change);
                store.commit_edit(&change).unwrap();
            }
            Operation::Revert(steps) => {
                let target = (model.versions.len() - 1).saturating_sub(steps) as Version;
                if target < model.oldest_version() {
                    continue;
                }
                let (back, _) = store.revert_to(target).unwrap();
                model.versions.truncate(target as usize + 1);
                assert_eq!((back.version, back.header.number), (target, model.latest().0));
            }
            Operation::Reopen => {
                drop(store);
                store = open();
            }
        }
        assert_roots_agree(&store);
        let head = head(&store);
        assert_eq!((head.version as usize, head.header.number), (model.versions.len() - 1, model.latest().0));
        roots.insert(head.header.number, head.state_root);
    }
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.oldest_state().unwrap(), model.oldest);
    for block in model.oldest..=model.latest().0 {
        assert_state(&view.state_at(block).unwrap(), model.at(block));
        assert_proofs(&store, block, roots[&block], model.at(block));
    }
    assert_eq!(trie_records(&store), trie_records(&store_with(&whole(&model.latest().1))), "no record is left over");
    let mut listed = Accounts::new();
    view.for_each_account(&mut |address, info, storage| {
        listed.insert(address, (info, storage.into_iter().collect()));
        true
    })
    .unwrap();
    assert_eq!(&listed, &model.latest().1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_archive_keeps_every_state(operations in prop::collection::vec(operation(), 1..25)) {
        run(operations, None);
    }

    #[test]
    fn a_pruned_store_keeps_the_latest_states(operations in prop::collection::vec(operation(), 1..25), keep in 1u64..5) {
        run(operations, Some(keep));
    }
}
