//! What is accepted and what is refused, with geth's words.
use alloy_consensus::crypto::SECP256K1N_HALF;
use alloy_consensus::{Signed, TxEip2930, TxEip7702};
use alloy_eips::eip7702::Authorization;

use super::*;

#[test]
fn every_transaction_type_without_blobs_is_accepted() {
    let world = World::new(config());
    world.send(sign(legacy(0, 5 * GWEI), 0)).unwrap();
    let unprotected = TxLegacy { chain_id: None, ..legacy(1, 5 * GWEI) };
    world.send(sign(unprotected, 0)).unwrap();
    let access_list = TxEip2930 {
        chain_id: CHAIN,
        nonce: 2,
        gas_price: 5 * GWEI,
        gas_limit: 30_000,
        to: TxKind::Call(Address::ZERO),
        ..TxEip2930::default()
    };
    world.send(sign(access_list, 0)).unwrap();
    world.send(Transfer::new(0, 3).raw()).unwrap();
    world.send(sign(set_code(4, 1), 0)).unwrap();
    assert_eq!(world.pool.status(), (5, 0));
}

fn set_code(nonce: u64, authorizations: usize) -> TxEip7702 {
    let authorization = Authorization { chain_id: U256::from(CHAIN), address: Address::ZERO, nonce: 0 };
    let signature = signer(7).sign_hash_sync(&authorization.signature_hash()).unwrap();
    TxEip7702 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 100_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        authorization_list: vec![authorization.into_signed(signature); authorizations],
        ..TxEip7702::default()
    }
}

#[test]
fn a_set_code_transaction_needs_an_authorization() {
    let world = World::new(config());
    let refusal = message(world.send(sign(set_code(0, 0), 0)));
    assert_eq!(refusal, "set code tx must have at least one authorization tuple");
}

#[test]
fn every_authorization_costs_intrinsic_gas() {
    let world = World::new(config());
    let refusal = message(world.send(sign(set_code(0, 4), 0)));
    assert_eq!(refusal, "intrinsic gas too low: gas 100000, minimum needed 121000");
}

#[test]
fn the_same_transaction_is_known_the_second_time() {
    let world = World::new(config());
    world.send(Transfer::new(0, 0).raw()).unwrap();
    assert_eq!(message(world.send(Transfer::new(0, 0).raw())), "already known");
}

#[test]
fn the_same_transaction_twice_in_a_batch_is_taken_once() {
    let world = World::new(config());
    let raws = vec![Transfer::new(0, 0).raw(); 20];
    let results = world.pool.add_many(&raws, &world.ctx, &world.chain);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(world.pool.status(), (1, 0));
}

#[test]
fn a_used_nonce_is_too_low() {
    let world = World::new(config());
    world.chain.set(signer(0).address(), 3, u128::MAX);
    assert_eq!(message(world.send(Transfer::new(0, 2).raw())), "nonce too low: next nonce 3, tx nonce 2");
}

#[test]
fn a_nonce_far_ahead_is_refused() {
    let world = World::new(config());
    world.send(Transfer::new(0, 64).raw()).unwrap();
    let refusal = message(world.send(Transfer::new(0, 65).raw()));
    assert_eq!(refusal, "nonce too high: next nonce 0, tx nonce 65, largest gap 64");
}

#[test]
fn the_last_nonce_is_refused() {
    let world = World::new(PoolConfig { max_nonce_gap: u64::MAX, ..config() });
    assert_eq!(message(world.send(Transfer::new(0, u64::MAX).raw())), "nonce has max value");
}

#[test]
fn a_foreign_chain_id_is_refused() {
    let world = World::new(config());
    let foreign = TxEip1559 { chain_id: 1, ..Transfer::new(0, 0).unsigned() };
    let refusal = message(world.send(sign(foreign, 0)));
    assert_eq!(refusal, "invalid sender: invalid chain id for signer: have 1 want 31337");
}

#[test]
fn a_high_s_is_refused() {
    let world = World::new(config());
    let tx = Transfer::new(0, 0).unsigned();
    let low = signer(0).sign_hash_sync(&tx.signature_hash()).unwrap();
    let order = SECP256K1N_HALF * U256::from(2) + U256::ONE;
    let high = Signature::new(low.r(), order - low.s(), !low.v());
    let raw = Transaction::from(Signed::new_unhashed(tx, high)).encoded_2718();
    assert_eq!(message(world.send(raw.into())), "invalid sender: invalid transaction v, r, s values");
}

#[test]
fn bytes_behind_the_transaction_are_refused() {
    let world = World::new(config());
    for raw in [Transfer::new(0, 0).raw(), sign(legacy(0, GWEI), 0)] {
        let longer: Bytes = [raw.as_ref(), &[0]].concat().into();
        assert_eq!(message(world.send(longer)), "rlp: input contains more than one value");
    }
}

#[test]
fn an_unknown_type_is_refused() {
    let world = World::new(config());
    for raw in [vec![0x05, 0xc0], vec![0x7f, 0xc0], vec![0x00, 0xc0]] {
        assert_eq!(message(world.send(raw.into())), "transaction type not supported");
    }
    assert_eq!(message(world.send(Bytes::new())), "typed transaction too short");
}

#[test]
fn too_many_bytes_are_refused_before_they_are_decoded() {
    let world = World::new(config());
    let huge = vec![0x02; 128 * 1024 + 1];
    assert_eq!(message(world.send(huge.into())), "oversized data: transaction size 131073, limit 131072");
}

#[test]
fn types_are_gated_by_their_fork() {
    let mut world = World::new(config());
    world.ctx.fork = Fork::Berlin;
    let refusal = message(world.send(Transfer::new(0, 0).raw()));
    assert_eq!(refusal, "transaction type not supported: type 2 rejected, pool not yet in London");
    world.ctx.fork = Fork::Cancun;
    let refusal = message(world.send(sign(set_code(0, 1), 0)));
    assert_eq!(refusal, "transaction type not supported: type 4 rejected, pool not yet in Prague");
}

#[test]
fn gas_has_a_floor_and_two_ceilings() {
    let mut world = World::new(config());
    let refusal = message(world.send(Transfer { gas: 20_999, ..Transfer::new(0, 0) }.raw()));
    assert_eq!(refusal, "intrinsic gas too low: gas 20999, minimum needed 21000");
    let refusal = message(world.send(Transfer { gas: (1 << 24) + 1, ..Transfer::new(0, 0) }.raw()));
    assert_eq!(refusal, "transaction gas limit too high (cap: 16777216, tx: 16777217)");
    world.ctx.fork = Fork::Prague;
    world.send(Transfer { gas: (1 << 24) + 1, ..Transfer::new(0, 0) }.raw()).unwrap();
    let refusal = message(world.send(Transfer { gas: 30_000_001, ..Transfer::new(0, 1) }.raw()));
    assert_eq!(refusal, "exceeds block gas limit");
}

#[test]
fn calldata_has_a_floor_price_from_prague_on() {
    let mut world = World::new(config());
    let data = TxEip1559 { gas_limit: 21_000 + 16 * 100, input: vec![1; 100].into(), ..Transfer::new(0, 0).unsigned() };
    let refusal = message(world.send(sign(data.clone(), 0)));
    assert_eq!(refusal, "insufficient gas for floor data gas cost: gas 22600, minimum needed 25000");
    world.ctx.fork = Fork::Cancun;
    world.send(sign(data, 0)).unwrap();
}

#[test]
fn initcode_has_a_largest_size_and_a_price_per_word() {
    let world = World::new(config());
    let create = |length: usize, gas_limit: u64| TxEip1559 {
        gas_limit,
        to: TxKind::Create,
        input: vec![0; length].into(),
        ..Transfer::new(0, 0).unsigned()
    };
    let refusal = message(world.send(sign(create(49_153, 10_000_000), 0)));
    assert_eq!(refusal, "max initcode size exceeded: code size 49153, limit 49152");
    let refusal = message(world.send(sign(create(64, 53_000), 0)));
    assert_eq!(refusal, "intrinsic gas too low: gas 53000, minimum needed 53260");
}

#[test]
fn a_tip_above_the_fee_cap_is_refused() {
    let world = World::new(config());
    let refusal = message(world.send(Transfer::new(0, 0).fees(1, 2).raw()));
    assert!(refusal.starts_with("max priority fee per gas higher than max fee per gas"), "{refusal}");
}

#[test]
fn a_tip_below_the_configured_minimum_is_refused() {
    let world = World::new(PoolConfig { min_tip: 2 * GWEI, ..config() });
    let refusal = message(world.send(Transfer::new(0, 0).fees(100, 1).raw()));
    assert_eq!(refusal, "transaction gas price below minimum: gas tip cap 1000000000, minimum needed 2000000000");
    world.send(Transfer::new(0, 0).fees(100, 2).raw()).unwrap();
}

#[test]
fn a_sender_without_the_money_is_refused() {
    let world = World::new(config());
    world.chain.set(signer(0).address(), 0, 1_000);
    let refusal = message(world.send(Transfer::new(0, 0).raw()));
    let expected =
        "insufficient funds for gas * price + value: balance 1000, tx cost 2100000000000000, overshot 2099999999999000";
    assert_eq!(refusal, expected);
}

#[test]
fn pending_costs_add_up() {
    let world = World::new(config());
    let cost = 21_000 * 100 * GWEI;
    world.chain.set(signer(0).address(), 0, cost + cost / 2);
    world.send(Transfer::new(0, 0).raw()).unwrap();
    let refusal = message(world.send(Transfer::new(0, 1).raw()));
    assert!(refusal.starts_with("insufficient funds for gas * price + value: balance"), "{refusal}");
    assert!(refusal.contains("queued cost 2100000000000000"), "{refusal}");
    // A replacement only needs the difference.
    world.send(Transfer::new(0, 0).fees(120, 3).raw()).unwrap();
}

#[test]
fn balances_are_not_looked_at_when_switched_off() {
    let world = World::new(PoolConfig { check_balance: false, ..config() });
    world.chain.set(signer(0).address(), 0, 0);
    world.send(Transfer::new(0, 0).raw()).unwrap();
    world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
    assert_eq!(world.pool.status(), (1, 0));
}

#[test]
fn a_contract_sends_nothing_unless_it_is_a_delegation_or_impersonated() {
    let world = World::new(config());
    let address = signer(0).address();
    world.send(Transfer::new(1, 0).raw()).unwrap();
    let mut pooled = world.pool.content_from(&signer(1).address()).pending[0].1[0].clone();
    world.chain.set_code(address, Bytes::from_static(&[0x60, 0x00]));
    let refusal = message(world.send(Transfer::new(0, 0).raw()));
    assert!(refusal.starts_with("sender not an eoa: address 0x"), "{refusal}");

    let impersonated =
        SignedTx { sender: address, hash: B256::repeat_byte(9), impersonated: true, ..(*pooled.tx).clone() };
    pooled.tx = Arc::new(impersonated);
    world.pool.add_recovered(vec![pooled], &world.ctx, &world.chain).pop().unwrap().unwrap();
    world.pool.clear();

    let mut delegation = vec![0xef, 0x01, 0x00];
    delegation.extend([0x11; 20]);
    world.chain.set_code(address, delegation.into());
    world.send(Transfer::new(0, 0).raw()).unwrap();
}

#[test]
fn a_replacement_must_raise_both_fees_by_a_tenth() {
    let world = World::new(config());
    let old = world.send(Transfer::new(0, 0).fees(100, 10).raw()).unwrap();
    for (fee, tip) in [(109, 11), (110, 10), (200, 10), (100, 20)] {
        let refusal = message(world.send(Transfer::new(0, 0).fees(fee, tip).raw()));
        assert_eq!(refusal, "replacement transaction underpriced", "fee {fee} tip {tip}");
    }
    let new = world.send(Transfer::new(0, 0).fees(110, 11).raw()).unwrap();
    assert!(world.pool.get(&old).is_none());
    assert_eq!(world.order(), [new]);
    assert_eq!(world.pool.status(), (1, 0));
}

#[test]
fn a_queued_transaction_can_be_replaced_too() {
    let world = World::new(config());
    world.send(Transfer::new(0, 2).fees(100, 10).raw()).unwrap();
    let new = world.send(Transfer::new(0, 2).fees(110, 11).raw()).unwrap();
    assert_eq!(world.pool.status(), (0, 1));
    assert_eq!(world.pool.content_from(&signer(0).address()).queued[0].1[0].tx.hash, new);
}

#[test]
fn an_account_has_a_largest_share() {
    let world = World::new(PoolConfig { max_per_account: 2, ..config() });
    world.send(Transfer::new(0, 0).raw()).unwrap();
    world.send(Transfer::new(0, 1).raw()).unwrap();
    let refusal = message(world.send(Transfer::new(0, 2).raw()));
    assert_eq!(refusal, "account limit exceeded: an account may have 2 transactions in the pool");
    world.send(Transfer::new(0, 1).fees(200, 20).raw()).unwrap();
    world.send(Transfer::new(1, 0).raw()).unwrap();
}

#[test]
fn a_full_pool_drops_the_cheapest_last_transaction_of_a_sender() {
    let world = World::new(PoolConfig { max_pending: 3, ..config() });
    let head = world.send(Transfer::new(0, 0).fees(50, 1).raw()).unwrap();
    let cheap = world.send(Transfer::new(0, 1).fees(10, 1).raw()).unwrap();
    world.send(Transfer::new(1, 0).fees(60, 1).raw()).unwrap();
    world.send(Transfer::new(2, 0).fees(40, 1).raw()).unwrap();
    assert!(world.pool.get(&cheap).is_none());
    assert!(world.pool.get(&head).is_some());
    assert_eq!(message(world.send(Transfer::new(3, 0).fees(20, 1).raw())), "txpool is full");
    assert_eq!(world.pool.status(), (3, 0));
}

#[test]
fn a_full_queue_drops_its_cheapest() {
    let world = World::new(PoolConfig { max_queued: 2, ..config() });
    let cheap = world.send(Transfer::new(0, 5).fees(10, 1).raw()).unwrap();
    world.send(Transfer::new(1, 5).fees(60, 1).raw()).unwrap();
    world.send(Transfer::new(2, 5).fees(40, 1).raw()).unwrap();
    assert!(world.pool.get(&cheap).is_none());
    assert_eq!(message(world.send(Transfer::new(3, 5).fees(20, 1).raw())), "txpool is full");
    assert_eq!(world.pool.status(), (0, 2));
}

#[test]
fn short_memory_costs_queued_transactions_first() {
    let world = World::new(PoolConfig { max_bytes: 4_000, ..config() });
    let queued = world.send(Transfer::new(0, 5).fees(500, 1).raw()).unwrap();
    world.send(Transfer::new(1, 0).fees(60, 1).raw()).unwrap();
    world.send(Transfer::new(2, 0).fees(40, 1).raw()).unwrap();
    world.send(Transfer::new(3, 0).fees(50, 1).raw()).unwrap();
    assert!(world.pool.get(&queued).is_none());
    assert_eq!(world.pool.status(), (3, 0));
    assert_eq!(message(world.send(Transfer::new(4, 0).fees(30, 1).raw())), "txpool is full");
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let world = World::new(config());
    world.send(Transfer::new(0, 0).raw()).unwrap();
    let before = world.order();
    world.send(Transfer::new(0, 0).fees(101, 2).raw()).unwrap_err();
    world.send(Transfer { gas: 1, ..Transfer::new(1, 0) }.raw()).unwrap_err();
    world.send(Bytes::from_static(&[1, 2, 3])).unwrap_err();
    assert_eq!(world.order(), before);
    assert_eq!(world.pool.content().pending.len(), 1);
}
