//! The rules of one chain: which fork is active when, and the fee formulas that depend on it.

use alloy_consensus::Header;
use alloy_eips::eip4844::{BLOB_TX_MIN_BLOB_GASPRICE, DATA_GAS_PER_BLOB};
use alloy_eips::eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS;
use alloy_eips::eip7594::MAX_BLOBS_PER_TX_FUSAKA;
use alloy_eips::eip7840::{BlobParams as StockBlobParams, BLOB_BASE_COST};

use super::evm::PrecompileSet;
use crate::primitives::*;

/// Initial base fee of the London fork block (EIP-1559).
pub const INITIAL_BASE_FEE: u64 = 1_000_000_000;
/// The base fee moves by at most 1/8 per block (EIP-1559).
const BASE_FEE_MAX_CHANGE_DENOMINATOR: u64 = 8;
/// The gas target is half of the gas limit (EIP-1559).
pub const ELASTICITY_MULTIPLIER: u64 = 2;

/// Hard forks in order of activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    Frontier,
    Homestead,
    TangerineWhistle,
    SpuriousDragon,
    Byzantium,
    Constantinople,
    Petersburg,
    Istanbul,
    MuirGlacier,
    Berlin,
    London,
    ArrowGlacier,
    GrayGlacier,
    Paris,
    Shanghai,
    Cancun,
    Prague,
    Osaka,
    Bpo1,
    Bpo2,
}

impl Fork {
    /// All forks in order.
    pub const ALL: [Fork; 20] = [
        Fork::Frontier,
        Fork::Homestead,
        Fork::TangerineWhistle,
        Fork::SpuriousDragon,
        Fork::Byzantium,
        Fork::Constantinople,
        Fork::Petersburg,
        Fork::Istanbul,
        Fork::MuirGlacier,
        Fork::Berlin,
        Fork::London,
        Fork::ArrowGlacier,
        Fork::GrayGlacier,
        Fork::Paris,
        Fork::Shanghai,
        Fork::Cancun,
        Fork::Prague,
        Fork::Osaka,
        Fork::Bpo1,
        Fork::Bpo2,
    ];

    /// The names that fixtures and command lines use, without regard to case.
    pub fn from_name(name: &str) -> Option<Fork> {
        Some(match name.to_ascii_lowercase().as_str() {
            "frontier" => Fork::Frontier,
            "homestead" => Fork::Homestead,
            "eip150" | "tangerinewhistle" | "tangerine" => Fork::TangerineWhistle,
            "eip158" | "spuriousdragon" => Fork::SpuriousDragon,
            "byzantium" => Fork::Byzantium,
            "constantinople" => Fork::Constantinople,
            "constantinoplefix" | "petersburg" => Fork::Petersburg,
            "istanbul" => Fork::Istanbul,
            "muirglacier" => Fork::MuirGlacier,
            "berlin" => Fork::Berlin,
            "london" => Fork::London,
            "arrowglacier" => Fork::ArrowGlacier,
            "grayglacier" => Fork::GrayGlacier,
            "paris" | "merge" => Fork::Paris,
            "shanghai" => Fork::Shanghai,
            "cancun" => Fork::Cancun,
            "prague" => Fork::Prague,
            "osaka" | "latest" => Fork::Osaka,
            "bpo1" => Fork::Bpo1,
            "bpo2" => Fork::Bpo2,
            _ => return None,
        })
    }
}

/// Blob capacity and price response from one moment on (EIP-7840).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobParams {
    pub target: u64,
    pub max: u64,
    pub update_fraction: u64,
}

impl BlobParams {
    fn stock(params: StockBlobParams) -> BlobParams {
        BlobParams {
            target: params.target_blob_count,
            max: params.max_blob_count,
            update_fraction: params.update_fraction as u64,
        }
    }

    pub fn cancun() -> BlobParams {
        BlobParams::stock(StockBlobParams::cancun())
    }
    pub fn prague() -> BlobParams {
        BlobParams::stock(StockBlobParams::prague())
    }
    pub fn bpo1() -> BlobParams {
        BlobParams::stock(StockBlobParams::bpo1())
    }
    pub fn bpo2() -> BlobParams {
        BlobParams::stock(StockBlobParams::bpo2())
    }
}

/// The gas rule of the 0G profiles: a transaction pays for at least `percent` of its gas limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinGasUsed {
    /// 0..=100.
    pub percent: u64,
    /// Unix seconds from which the rule holds.
    pub time: u64,
}

impl MinGasUsed {
    /// Least gas charged for a transaction with this limit, rounded down without overflow.
    pub fn floor(&self, gas_limit: u64) -> u64 {
        gas_limit / 100 * self.percent + gas_limit % 100 * self.percent / 100
    }
}

/// The rules of one chain: id, fork schedule, blob schedule, gas rules. Built from a geth genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSpec {
    pub chain_id: u64,
    /// Activation block per fork before the merge, in order; forks that never activate are absent.
    pub blocks: Vec<(Fork, u64)>,
    /// Activation time per fork after the merge, in order.
    pub times: Vec<(Fork, u64)>,
    /// First block without proof of work, where the schedule names it.
    pub merge_block: Option<u64>,
    /// Blocks with difficulty 0 belong to proof of stake even where `merge_block` is unknown.
    pub has_merge: bool,
    /// Block of the irregular DAO state change.
    pub dao_fork: Option<u64>,
    /// Blob parameters by activation time, in order.
    pub blobs: Vec<(u64, BlobParams)>,
    /// Contract whose logs become EIP-6110 deposit requests.
    pub deposit_contract: Address,
    pub min_gas_used: Option<MinGasUsed>,
    /// Overrides the EIP-170 limit (bytes); the init code limit is twice this.
    pub max_code_size: Option<usize>,
    /// Native contracts beyond Ethereum's own.
    pub precompiles: PrecompileSet,
}

/// EIP-170, bytes.
const MAX_CODE_SIZE: usize = 24_576;

impl ChainSpec {
    /// EIP-3860: twice the largest code, bytes.
    pub fn max_initcode_size(&self) -> usize {
        2 * self.max_code_size.unwrap_or(MAX_CODE_SIZE)
    }

    /// A chain on which everything up to `fork` is active from genesis.
    pub fn at(fork: Fork, chain_id: u64) -> ChainSpec {
        let active = |f: &Fork| *f <= fork;
        let blobs = [
            (Fork::Cancun, BlobParams::cancun()),
            (Fork::Prague, BlobParams::prague()),
            (Fork::Bpo1, BlobParams::bpo1()),
            (Fork::Bpo2, BlobParams::bpo2()),
        ];
        ChainSpec {
            chain_id,
            blocks: Fork::ALL.into_iter().filter(|f| *f < Fork::Paris && active(f)).map(|f| (f, 0)).collect(),
            times: Fork::ALL.into_iter().filter(|f| *f > Fork::Paris && active(f)).map(|f| (f, 0)).collect(),
            merge_block: (fork >= Fork::Paris).then_some(0),
            has_merge: fork >= Fork::Paris,
            dao_fork: None,
            blobs: blobs.into_iter().filter(|(f, _)| active(f)).map(|(_, p)| (0, p)).collect(),
            deposit_contract: MAINNET_DEPOSIT_CONTRACT_ADDRESS,
            min_gas_used: None,
            max_code_size: None,
            precompiles: PrecompileSet::default(),
        }
    }

    pub fn fork(&self, number: u64, timestamp: u64) -> Fork {
        if let Some((fork, _)) = self.times.iter().rev().find(|(_, time)| timestamp >= *time) {
            // Timestamps of a chain that has not merged yet may already lie beyond a later fork.
            if self.merge_block.is_none_or(|merge| number >= merge) {
                return *fork;
            }
        }
        if self.merge_block.is_some_and(|merge| number >= merge) {
            return Fork::Paris;
        }
        self.blocks.iter().rev().find(|(_, block)| number >= *block).map_or(Fork::Frontier, |(fork, _)| *fork)
    }

    /// The fork of a complete header: difficulty 0 marks proof of stake where no merge block is configured.
    pub fn fork_of(&self, header: &Header) -> Fork {
        self.fork_with_difficulty(header.number, header.timestamp, header.difficulty)
    }

    pub(super) fn fork_with_difficulty(&self, number: u64, timestamp: u64, difficulty: U256) -> Fork {
        let fork = self.fork(number, timestamp);
        if fork < Fork::Paris && self.has_merge && difficulty.is_zero() && fork >= Fork::London {
            return Fork::Paris;
        }
        fork
    }

    /// When `fork` became or becomes active, by time; `None` for block-activated forks.
    pub fn activation_time(&self, fork: Fork) -> Option<u64> {
        self.times.iter().find(|(f, _)| *f == fork).map(|(_, t)| *t)
    }

    /// EIP-1559 base fee of the child of `parent`; `None` before London.
    pub fn next_base_fee(&self, parent: &Header, timestamp: u64) -> Option<u64> {
        let number = parent.number + 1;
        if self.fork(number, timestamp) < Fork::London {
            return None;
        }
        let Some(base_fee) = parent.base_fee_per_gas else {
            return Some(INITIAL_BASE_FEE);
        };
        let target = parent.gas_limit / ELASTICITY_MULTIPLIER;
        if target == 0 || parent.gas_used == target {
            return Some(base_fee);
        }
        let step = |difference: u64| {
            u128::from(base_fee) * u128::from(difference)
                / u128::from(target)
                / u128::from(BASE_FEE_MAX_CHANGE_DENOMINATOR)
        };
        Some(if parent.gas_used > target {
            let rise = step(parent.gas_used - target).max(1);
            u64::try_from(u128::from(base_fee) + rise).unwrap_or(u64::MAX)
        } else {
            let fall = step(target - parent.gas_used);
            // `fall` is at most an eighth of `base_fee`.
            base_fee - fall as u64
        })
    }

    /// Blob parameters at a time; `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        self.blobs.iter().rev().find(|(time, _)| timestamp >= *time).map(|(_, params)| *params)
    }

    /// EIP-4844 excess of the child of `parent`, with the reserve price of EIP-7918 from Osaka on; `None` before Cancun.
    pub fn next_excess_blob_gas(&self, parent: &Header, timestamp: u64) -> Option<u64> {
        let fork = self.fork(parent.number + 1, timestamp);
        if fork < Fork::Cancun {
            return None;
        }
        let params = self.blob_params(timestamp)?;
        let excess = parent.excess_blob_gas.unwrap_or(0);
        let used = parent.blob_gas_used.unwrap_or(0);
        let total = excess.saturating_add(used);
        let target = params.target.saturating_mul(DATA_GAS_PER_BLOB);
        if total < target {
            return Some(0);
        }
        if fork >= Fork::Osaka && params.max > 0 {
            let reserve = U256::from(BLOB_BASE_COST) * U256::from(parent.base_fee_per_gas.unwrap_or(0));
            let price = U256::from(DATA_GAS_PER_BLOB) * U256::from(blob_fee(params, excess));
            if reserve > price {
                let scaled =
                    u128::from(used) * u128::from(params.max.saturating_sub(params.target)) / u128::from(params.max);
                return Some(excess.saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX)));
            }
        }
        Some(total - target)
    }

    /// Price of one unit of blob gas in wei; 1 before Cancun.
    pub fn blob_base_fee(&self, excess_blob_gas: u64, timestamp: u64) -> u128 {
        self.blob_params(timestamp).map_or(BLOB_TX_MIN_BLOB_GASPRICE, |params| blob_fee(params, excess_blob_gas))
    }

    /// (target, max) blobs per block; zeros before Cancun.
    pub fn blob_limits(&self, timestamp: u64) -> (u64, u64) {
        self.blob_params(timestamp).map_or((0, 0), |p| (p.target, p.max))
    }

    /// Blobs that one transaction may carry: six from Osaka on (EIP-7594), before that the block's maximum.
    pub fn max_blobs_per_transaction(&self, number: u64, timestamp: u64) -> u64 {
        let max = self.blob_limits(timestamp).1;
        if self.fork(number, timestamp) >= Fork::Osaka {
            max.min(MAX_BLOBS_PER_TX_FUSAKA)
        } else {
            max
        }
    }

    /// The minimum-charge rule if it holds at `timestamp`.
    pub fn min_gas_used(&self, timestamp: u64) -> Option<MinGasUsed> {
        self.min_gas_used.filter(|rule| rule.percent > 0 && timestamp >= rule.time)
    }
}

fn blob_fee(params: BlobParams, excess_blob_gas: u64) -> u128 {
    fake_exponential(BLOB_TX_MIN_BLOB_GASPRICE, excess_blob_gas, params.update_fraction)
}

/// `factor * e^(numerator / denominator)` by the Taylor series of EIP-4844, saturating: a header from outside may
/// claim any excess.
fn fake_exponential(factor: u128, numerator: u64, denominator: u64) -> u128 {
    // Beyond e^88 the result exceeds 2^128 and the series only burns time.
    if denominator == 0 || numerator / denominator >= 88 {
        return u128::MAX;
    }
    let denominator = U256::from(denominator);
    let numerator = U256::from(numerator);
    let mut term = U256::from(factor) * denominator;
    let mut sum = U256::ZERO;
    let mut i = U256::from(1);
    while !term.is_zero() {
        sum += term;
        term = term * numerator / (denominator * i);
        i += U256::from(1);
    }
    (sum / denominator).saturating_to()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(gas_used: u64, base_fee: u64) -> Header {
        Header { gas_limit: 30_000_000, gas_used, base_fee_per_gas: Some(base_fee), ..Header::default() }
    }

    #[test]
    fn base_fee_moves_by_an_eighth_at_most() {
        let spec = ChainSpec::at(Fork::Osaka, 1);
        let next = |used, fee| spec.next_base_fee(&parent(used, fee), 1).unwrap();
        assert_eq!(next(15_000_000, 1_000_000_000), 1_000_000_000);
        assert_eq!(next(30_000_000, 1_000_000_000), 1_125_000_000);
        assert_eq!(next(0, 1_000_000_000), 875_000_000);
        assert_eq!(next(15_000_001, 7), 8);
        assert_eq!(next(0, 7), 7);
    }

    #[test]
    fn base_fee_starts_at_one_gwei_and_is_absent_before_london() {
        let spec = ChainSpec::at(Fork::London, 1);
        assert_eq!(spec.next_base_fee(&Header::default(), 1), Some(INITIAL_BASE_FEE));
        let berlin = ChainSpec::at(Fork::Berlin, 1);
        assert_eq!(berlin.next_base_fee(&Header::default(), 1), None);
    }

    #[test]
    fn excess_blob_gas_keeps_its_reserve_price_from_osaka_on() {
        let mut header = parent(0, 1_000_000_000);
        header.excess_blob_gas = Some(0);
        header.blob_gas_used = Some(9 * DATA_GAS_PER_BLOB);
        let prague = ChainSpec::at(Fork::Prague, 1);
        assert_eq!(prague.next_excess_blob_gas(&header, 1), Some(3 * DATA_GAS_PER_BLOB));
        let osaka = ChainSpec::at(Fork::Osaka, 1);
        // The execution base fee dominates: excess grows by used * (max - target) / max.
        assert_eq!(osaka.next_excess_blob_gas(&header, 1), Some(3 * DATA_GAS_PER_BLOB));
        header.blob_gas_used = Some(6 * DATA_GAS_PER_BLOB);
        assert_eq!(prague.next_excess_blob_gas(&header, 1), Some(0));
        assert_eq!(osaka.next_excess_blob_gas(&header, 1), Some(2 * DATA_GAS_PER_BLOB));
    }

    #[test]
    fn blob_fee_agrees_with_the_library_and_saturates() {
        let spec = ChainSpec::at(Fork::Bpo2, 1);
        let stock = StockBlobParams::bpo2();
        for excess in [0, 1, DATA_GAS_PER_BLOB, 50_000_000, 300_000_000] {
            assert_eq!(spec.blob_base_fee(excess, 1), stock.calc_blob_fee(excess));
        }
        assert_eq!(spec.blob_base_fee(u64::MAX, 1), u128::MAX);
    }

    #[test]
    fn forks_follow_blocks_then_times() {
        let mut spec = ChainSpec::at(Fork::Bpo2, 1);
        spec.blocks = vec![(Fork::Homestead, 0), (Fork::London, 5)];
        spec.merge_block = Some(10);
        spec.times = vec![(Fork::Shanghai, 100), (Fork::Osaka, 200)];
        assert_eq!(spec.fork(4, 50), Fork::Homestead);
        assert_eq!(spec.fork(5, 150), Fork::London);
        assert_eq!(spec.fork(10, 50), Fork::Paris);
        assert_eq!(spec.fork(11, 100), Fork::Shanghai);
        assert_eq!(spec.fork(11, 250), Fork::Osaka);
    }

    #[test]
    fn minimum_charge_matches_both_official_formulas() {
        let rule = MinGasUsed { percent: 80, time: 0 };
        for limit in 1..3_000u64 {
            assert_eq!(rule.floor(limit), limit * 4 / 5, "limit {limit}");
        }
        // No overflow at the edge.
        assert_eq!(rule.floor(u64::MAX), (u128::from(u64::MAX) * 4 / 5) as u64);
    }
}
