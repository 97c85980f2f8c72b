//! `eth_config` (EIP-7910): the rules in force, those of the next fork, and those of the last one planned.

use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
use alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS;
use alloy_primitives::{Address, B256};

use crate::execution::{ChainSpec, Fork};
use crate::rpc::{Json, Params, RpcError, Scope};

/// Names of EIP-7910, the low bytes of the addresses, and the fork that brought them.
const PRECOMPILES: [(&str, u16, Fork); 18] = [
    ("ECREC", 0x01, Fork::Frontier),
    ("SHA256", 0x02, Fork::Frontier),
    ("RIPEMD160", 0x03, Fork::Frontier),
    ("ID", 0x04, Fork::Frontier),
    ("MODEXP", 0x05, Fork::Byzantium),
    ("BN254_ADD", 0x06, Fork::Byzantium),
    ("BN254_MUL", 0x07, Fork::Byzantium),
    ("BN254_PAIRING", 0x08, Fork::Byzantium),
    ("BLAKE2F", 0x09, Fork::Istanbul),
    ("KZG_POINT_EVALUATION", 0x0a, Fork::Cancun),
    ("BLS12_G1ADD", 0x0b, Fork::Prague),
    ("BLS12_G1MSM", 0x0c, Fork::Prague),
    ("BLS12_G2ADD", 0x0d, Fork::Prague),
    ("BLS12_G2MSM", 0x0e, Fork::Prague),
    ("BLS12_PAIRING_CHECK", 0x0f, Fork::Prague),
    ("BLS12_MAP_FP_TO_G1", 0x10, Fork::Prague),
    ("BLS12_MAP_FP2_TO_G2", 0x11, Fork::Prague),
    ("P256VERIFY", 0x100, Fork::Osaka),
];

pub fn config(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(0)?;
    let view = scope.view()?;
    let genesis = view.hash(0)?.ok_or_else(|| RpcError::internal("the genesis block is missing"))?;
    let genesis_time = view.header(0)?.map_or(0, |header| header.timestamp);
    let spec = scope.engine().spec();
    let now = view.head().header.timestamp;
    let current = spec.times.iter().rev().find(|(_, time)| *time <= now).map(|(_, time)| *time);
    let next = spec.times.iter().find(|(_, time)| *time > now).map(|(_, time)| *time);
    let last = next.and(spec.times.last().map(|(_, time)| *time));
    let mut object = out.object();
    for (name, time) in [("current", current), ("next", next), ("last", last)] {
        match time {
            Some(time) => write_fork(&spec, genesis, genesis_time, time, object.field(name)),
            None => object.field(name).null(),
        }
    }
    object.end();
    Ok(())
}

/// The rules from `time` on.
fn write_fork(spec: &ChainSpec, genesis: B256, genesis_time: u64, time: u64, out: &mut Json) {
    let fork = spec.fork(u64::MAX, time);
    let mut object = out.object();
    object.field("activationTime").value(if time <= genesis_time { &0 } else { &time });
    match spec.blob_params(time) {
        Some(params) => {
            let mut schedule = object.field("blobSchedule").object();
            schedule.field("baseFeeUpdateFraction").value(&params.update_fraction);
            schedule.field("max").value(&params.max);
            schedule.field("target").value(&params.target);
            schedule.end();
        }
        None => object.field("blobSchedule").null(),
    }
    object.field("chainId").quantity(spec.chain_id);
    object.field("forkId").hex(fork_id(spec, genesis, genesis_time, time).to_be_bytes());
    let mut precompiles = object.field("precompiles").object();
    for (name, low, _) in PRECOMPILES.iter().filter(|(_, _, since)| *since <= fork) {
        let mut address = Address::ZERO;
        address[18..].copy_from_slice(&low.to_be_bytes());
        precompiles.field(name).hex(address);
    }
    precompiles.end();
    let mut contracts = object.field("systemContracts").object();
    if fork >= Fork::Cancun {
        contracts.field("BEACON_ROOTS_ADDRESS").hex(BEACON_ROOTS_ADDRESS);
    }
    if fork >= Fork::Prague {
        contracts.field("CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS").hex(CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS);
        contracts.field("DEPOSIT_CONTRACT_ADDRESS").hex(spec.deposit_contract);
        contracts.field("HISTORY_STORAGE_ADDRESS").hex(HISTORY_STORAGE_ADDRESS);
        contracts.field("WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS").hex(WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS);
    }
    contracts.end();
    object.end();
}

/// EIP-2124 and EIP-6122: the checksum over the genesis hash and every fork passed by `time`.
fn fork_id(spec: &ChainSpec, genesis: B256, genesis_time: u64, time: u64) -> u32 {
    let mut blocks: Vec<u64> = spec.blocks.iter().map(|(_, block)| *block).collect();
    blocks.extend(spec.dao_fork);
    blocks.extend(spec.merge_block);
    blocks.retain(|block| *block > 0);
    blocks.sort_unstable();
    blocks.dedup();
    let mut times: Vec<u64> = spec.times.iter().map(|(_, at)| *at).collect();
    times.retain(|at| *at > genesis_time && *at <= time);
    times.dedup();
    let mut sum = Crc32::new();
    sum.update(genesis.as_slice());
    for passed in blocks.iter().chain(&times) {
        sum.update(&passed.to_be_bytes());
    }
    sum.finish()
}

/// The IEEE checksum, bit by bit: some hundred bytes a call.
struct Crc32(u32);

impl Crc32 {
    fn new() -> Crc32 {
        Crc32(u32::MAX)
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                let carry = self.0 & 1;
                self.0 = (self.0 >> 1) ^ (carry * 0xedb8_8320);
            }
        }
    }

    fn finish(&self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    #[test]
    fn the_checksum_is_the_ieee_one() {
        let mut sum = Crc32::new();
        sum.update(b"123456789");
        assert_eq!(sum.finish(), 0xcbf4_3926);
    }

    #[test]
    fn fork_ids_of_mainnet_are_those_of_eip_2124() {
        let genesis = b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
        let mut spec = ChainSpec::at(Fork::Frontier, 1);
        assert_eq!(fork_id(&spec, genesis, 0, 0), 0xfc64_ec04);
        spec.blocks = vec![(Fork::Homestead, 1_150_000)];
        assert_eq!(fork_id(&spec, genesis, 0, 0), 0x97c2_c34c);
        spec.dao_fork = Some(1_920_000);
        assert_eq!(fork_id(&spec, genesis, 0, 0), 0x91d1_f948);
    }
}
