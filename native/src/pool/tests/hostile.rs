//! Bytes from strangers: they are refused or taken, never a panic.
use proptest::prelude::*;

use super::*;

fn samples() -> Vec<Bytes> {
    let access_list = alloy_consensus::TxEip2930 {
        chain_id: CHAIN,
        gas_price: 5 * GWEI,
        gas_limit: 60_000,
        access_list: vec![alloy_eips::eip2930::AccessListItem {
            address: Address::ZERO,
            storage_keys: vec![B256::ZERO; 2],
        }]
        .into(),
        to: TxKind::Call(Address::ZERO),
        ..Default::default()
    };
    let blob = alloy_consensus::TxEip4844 {
        chain_id: CHAIN,
        gas_limit: 21_000,
        max_fee_per_gas: 5 * GWEI,
        max_fee_per_blob_gas: GWEI,
        blob_versioned_hashes: vec![B256::with_last_byte(1)],
        ..Default::default()
    };
    vec![sign(legacy(0, 5 * GWEI), 0), sign(access_list, 1), Transfer::new(2, 0).raw(), sign(blob, 3)]
}

/// A transaction that is taken must be stored as it was sent, under the hash of these bytes.
fn check(world: &World, raw: Bytes) {
    if let Ok(hash) = world.send(raw.clone()) {
        assert_eq!(hash, alloy_primitives::keccak256(&raw));
        assert_eq!(world.pool.get(&hash).unwrap().tx.raw, raw);
    }
    world.pool.ledger.lock().audit();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(kind in 0u8..6, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let world = World::new(config());
        check(&world, bytes.clone().into());
        let typed: Bytes = [&[kind], bytes.as_slice()].concat().into();
        check(&world, typed.clone());
        recover_many(&[typed]);
    }

    #[test]
    fn damaged_transactions_never_panic(
        sample in 0usize..4,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        extra in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let world = World::new(config());
        let mut bytes = samples()[sample].to_vec();
        for (index, value) in edits {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        check(&world, bytes.clone().into());
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes.extend(extra);
        check(&world, bytes.into());
    }
}

#[test]
fn lengths_beyond_the_input_are_refused_without_allocating() {
    let world = World::new(config());
    for raw in
        [vec![0xff; 9], vec![0xfb, 0xff, 0xff, 0xff, 0xff], vec![0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]
    {
        let refusal = message(world.send(raw.into()));
        assert!(refusal.starts_with("rlp: "), "{refusal}");
    }
}

#[test]
fn a_flood_from_one_sender_leaves_room_for_others() {
    let world = World::new(PoolConfig { max_pending: 64, max_per_account: 16, ..config() });
    for nonce in 0..40 {
        let taken = world.send(Transfer::new(0, nonce).fees(1_000, 1).raw()).is_ok();
        assert_eq!(taken, nonce < 16);
    }
    world.send(Transfer::new(1, 0).raw()).unwrap();
}

#[test]
fn a_replacement_loop_costs_the_sender_a_tenth_more_each_time() {
    let world = World::new(config());
    let mut fee = 100;
    for _ in 0..20 {
        world.send(Transfer::new(0, 0).fees(fee, fee).raw()).unwrap();
        assert!(world.send(Transfer::new(0, 0).fees(fee + fee / 20, fee + fee / 20).raw()).is_err());
        fee += fee.div_ceil(10);
    }
    assert_eq!(world.pool.status(), (1, 0));
    world.pool.ledger.lock().audit();
}
