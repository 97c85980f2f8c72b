//! Blob transactions: network form, sidecars of both generations, blob fees.
use std::sync::OnceLock;

use alloy_consensus::{SidecarBuilder, Signed, SimpleCoder, TxEip4844, TxEip4844WithSidecar};
use alloy_eips::eip4844::BlobTransactionSidecar;
use alloy_eips::eip7594::BlobTransactionSidecarVariant as Sidecar;

use super::*;

/// One blob with an EIP-4844 proof, computed once for all tests.
fn proof_sidecar() -> &'static BlobTransactionSidecar {
    static SIDECAR: OnceLock<BlobTransactionSidecar> = OnceLock::new();
    SIDECAR.get_or_init(|| {
        SidecarBuilder::<SimpleCoder>::from_slice(b"blob")
            .build_4844_with_settings(c_kzg::ethereum_kzg_settings(0))
            .expect("a sidecar")
    })
}

/// The same blob with EIP-7594 cell proofs.
fn cell_sidecar() -> &'static Sidecar {
    static SIDECAR: OnceLock<Sidecar> = OnceLock::new();
    SIDECAR.get_or_init(|| {
        Sidecar::Eip4844(proof_sidecar().clone())
            .try_convert_into_eip7594_with_settings(c_kzg::ethereum_kzg_settings(0))
            .expect("cell proofs")
    })
}

fn blob_tx(nonce: u64, fee: u128, blob_fee: u128) -> TxEip4844 {
    TxEip4844 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: fee * GWEI,
        max_priority_fee_per_gas: fee * GWEI / 10,
        max_fee_per_blob_gas: blob_fee,
        to: Address::repeat_byte(0xaa),
        blob_versioned_hashes: proof_sidecar().versioned_hashes().collect(),
        ..TxEip4844::default()
    }
}

fn network_form(tx: TxEip4844, sidecar: Sidecar, from: u8) -> Bytes {
    let signature = signer(from).sign_hash_sync(&tx.signature_hash()).unwrap();
    let tx = TxEip4844WithSidecar::from_tx_and_sidecar(tx, sidecar);
    let envelope = alloy_consensus::EthereumTxEnvelope::Eip4844(Signed::new_unhashed(tx, signature));
    envelope.encoded_2718().into()
}

fn prague() -> World {
    let mut world = World::new(config());
    world.ctx.fork = Fork::Prague;
    world
}

#[test]
fn cell_proofs_are_taken_from_osaka_on() {
    let world = World::new(config());
    let hash = world.send(network_form(blob_tx(0, 10, 5), cell_sidecar().clone(), 0)).unwrap();
    let pooled = world.pool.get(&hash).unwrap();
    assert!(pooled.sidecar.unwrap().is_eip7594());
    // The hash and the stored bytes are those of the form without the sidecar.
    assert_eq!(alloy_primitives::keccak256(&pooled.tx.raw), hash);
    assert!(pooled.tx.raw.len() < 1_000);
    assert_eq!(world.order(), [hash]);
}

#[test]
fn a_blob_proof_is_converted_to_cell_proofs_in_osaka_and_kept_before() {
    let raw = network_form(blob_tx(0, 10, 5), Sidecar::Eip4844(proof_sidecar().clone()), 0);
    let world = World::new(config());
    let hash = world.send(raw.clone()).unwrap();
    assert_eq!(world.pool.sidecar(&hash).as_deref(), Some(cell_sidecar()));
    let world = prague();
    let hash = world.send(raw).unwrap();
    assert!(world.pool.sidecar(&hash).unwrap().is_eip4844());
}

#[test]
fn cell_proofs_are_refused_before_osaka() {
    let refusal = message(prague().send(network_form(blob_tx(0, 10, 5), cell_sidecar().clone(), 0)));
    assert_eq!(refusal, "unexpected sidecar version, want: 0, got: 1");
}

#[test]
fn a_blob_transaction_without_its_sidecar_is_refused() {
    let refusal = message(World::new(config()).send(sign(blob_tx(0, 10, 5), 0)));
    assert_eq!(refusal, "missing sidecar in blob transaction");
}

#[test]
fn a_blob_transaction_without_blobs_is_refused() {
    let tx = TxEip4844 { blob_versioned_hashes: Vec::new(), ..blob_tx(0, 10, 5) };
    let refusal = message(World::new(config()).send(network_form(tx, cell_sidecar().clone(), 0)));
    assert_eq!(refusal, "blobless blob transaction");
}

#[test]
fn more_blobs_than_allowed_are_refused() {
    let hash = proof_sidecar().versioned_hashes().next().unwrap();
    let tx = TxEip4844 { blob_versioned_hashes: vec![hash; 7], ..blob_tx(0, 10, 5) };
    let refusal = message(World::new(config()).send(network_form(tx, cell_sidecar().clone(), 0)));
    assert_eq!(refusal, "transaction blob limit exceeded: blob count 7 exceeds max 6");
}

#[test]
fn a_wrong_hash_a_wrong_proof_and_a_wrong_count_are_refused() {
    let tx = TxEip4844 { blob_versioned_hashes: vec![B256::with_last_byte(1)], ..blob_tx(0, 10, 5) };
    let refusal = message(prague().send(network_form(tx, Sidecar::Eip4844(proof_sidecar().clone()), 0)));
    assert_eq!(refusal, "blob 0 has invalid hash version");

    let mut hash = B256::with_last_byte(1);
    hash[0] = 1;
    let tx = TxEip4844 { blob_versioned_hashes: vec![hash], ..blob_tx(0, 10, 5) };
    let refusal = message(prague().send(network_form(tx, Sidecar::Eip4844(proof_sidecar().clone()), 0)));
    assert!(refusal.starts_with("blob 0: computed hash 0x01"), "{refusal}");

    let mut wrong = proof_sidecar().clone();
    wrong.proofs[0] = wrong.commitments[0];
    let refusal = message(prague().send(network_form(blob_tx(0, 10, 5), Sidecar::Eip4844(wrong), 0)));
    assert!(refusal.starts_with("invalid blob proof"), "{refusal}");

    let mut short = proof_sidecar().clone();
    short.proofs.clear();
    let refusal = message(prague().send(network_form(blob_tx(0, 10, 5), Sidecar::Eip4844(short), 0)));
    assert_eq!(refusal, "invalid number of 0 blob proofs expected 1");
}

#[test]
fn a_blob_transaction_waits_until_its_blob_fee_is_enough() {
    let mut world = prague();
    world.ctx.blob_base_fee = 10;
    let hash = world.send(network_form(blob_tx(0, 10, 5), Sidecar::Eip4844(proof_sidecar().clone()), 0)).unwrap();
    assert!(world.order().is_empty());
    assert!(!world.pool.has_ready(world.ctx.base_fee));
    world.ctx.blob_base_fee = 5;
    assert_eq!(world.order(), [hash]);
    assert!(world.pool.has_ready(world.ctx.base_fee));
}

#[test]
fn a_blob_replacement_must_double_every_fee() {
    let world = prague();
    let send = |fee, blob_fee| {
        world.send(network_form(blob_tx(0, fee, blob_fee), Sidecar::Eip4844(proof_sidecar().clone()), 0))
    };
    send(10, 5).unwrap();
    for (fee, blob_fee) in [(19, 10), (20, 9)] {
        assert_eq!(message(send(fee, blob_fee)), "replacement transaction underpriced");
    }
    send(20, 10).unwrap();
    assert_eq!(world.pool.status(), (1, 0));
}

#[test]
fn a_sidecar_survives_its_block_and_comes_back_with_a_reorg() {
    let world = prague();
    let hash = world.send(network_form(blob_tx(0, 10, 5), Sidecar::Eip4844(proof_sidecar().clone()), 0)).unwrap();
    let tx = world.pool.get(&hash).unwrap().tx;
    world.mine(1);
    assert!(world.pool.get(&hash).is_none());
    assert!(world.pool.sidecar(&hash).is_some());
    world.chain.set(signer(0).address(), 0, u128::MAX);
    world.pool.on_reset(vec![tx], &world.ctx, &world.chain);
    assert!(world.pool.get(&hash).unwrap().sidecar.is_some());
}

#[test]
fn a_sidecar_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let config = PoolConfig { journal: Some(folder.path().join("pool")), ..config() };
    let world = World::new(config.clone());
    let hash = world.send(network_form(blob_tx(0, 10, 5), cell_sidecar().clone(), 0)).unwrap();
    let reopened = Pool::new(config).unwrap();
    assert_eq!(reopened.load_journal(&world.ctx, &world.chain), 1);
    assert_eq!(reopened.sidecar(&hash).as_deref(), Some(cell_sidecar()));
}

#[test]
fn bytes_behind_a_sidecar_are_refused() {
    let raw = network_form(blob_tx(0, 10, 5), Sidecar::Eip4844(proof_sidecar().clone()), 0);
    let longer: Bytes = [raw.as_ref(), &[0x80]].concat().into();
    assert_eq!(message(prague().send(longer)), "rlp: input contains more than one value");
}
