//! geth's genesis JSON → chain rules, header of block 0 and allocation.

use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_RECEIPTS, EMPTY_TRANSACTIONS, EMPTY_WITHDRAWALS};
use alloy_consensus::Header;
use alloy_eips::eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{hex, keccak256, B64, KECCAK256_EMPTY};
use serde_json::{Map, Value};

use super::spec::{BlobParams, ChainSpec, Fork, MinGasUsed, INITIAL_BASE_FEE};
use crate::primitives::*;

/// geth's gas limit of a genesis that names none.
const DEFAULT_GAS_LIMIT: u64 = 4_712_388;
/// geth's difficulty of a proof-of-work genesis that names none.
const DEFAULT_DIFFICULTY: u64 = 131_072;

/// A parsed geth-format genesis.
#[derive(Clone, Debug)]
pub struct Genesis {
    pub spec: ChainSpec,
    pub header: Header,
    pub alloc: StateDelta,
}

#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    #[error("genesis: {field}: {reason}")]
    Field { field: String, reason: String },
}

fn error<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, GenesisError> {
    Err(GenesisError::Field { field: field.into(), reason: reason.into() })
}

impl Genesis {
    /// geth's JSON (config, alloc, header fields). `header.state_root` is computed.
    pub fn from_json(json: &[u8]) -> Result<Genesis, GenesisError> {
        let mut genesis = Genesis::parse(json)?;
        genesis.header.state_root = crate::state::Store::root_of(&genesis.alloc);
        Ok(genesis)
    }

    /// Everything but the state root, which is left zero.
    pub(crate) fn parse(json: &[u8]) -> Result<Genesis, GenesisError> {
        let value: Value = match serde_json::from_slice(json) {
            Ok(value) => value,
            Err(e) => return error("(document)", format!("not JSON: {e}")),
        };
        let Value::Object(root) = value else {
            return error("(document)", "expected a JSON object");
        };
        let root = Object::new("", &root);
        let config = root.required_object("config")?;
        let spec = spec_from_config(&config)?;
        let header = header_of(&root, &config, &spec)?;
        let alloc = match root.object("alloc")? {
            Some(alloc) => alloc_of(&alloc)?,
            None => StateDelta::default(),
        };
        Ok(Genesis { spec, header, alloc })
    }
}

/// A JSON object that knows where it stands, for errors.
struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn new(path: impl Into<String>, map: &'a Map<String, Value>) -> Object<'a> {
        Object { path: path.into(), map }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// `null` counts as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn object(&self, key: &str) -> Result<Option<Object<'a>>, GenesisError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Object::new(self.path_of(key), map))),
            Some(_) => error(self.path_of(key), "expected an object"),
        }
    }

    fn required_object(&self, key: &str) -> Result<Object<'a>, GenesisError> {
        match self.object(key)? {
            Some(object) => Ok(object),
            None => error(self.path_of(key), "missing"),
        }
    }

    fn u256(&self, key: &str) -> Result<Option<U256>, GenesisError> {
        self.get(key).map(|value| quantity(&self.path_of(key), value)).transpose()
    }

    fn u64(&self, key: &str) -> Result<Option<u64>, GenesisError> {
        match self.u256(key)? {
            None => Ok(None),
            Some(value) => match u64::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => error(self.path_of(key), format!("{value} exceeds 2^64 - 1")),
            },
        }
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, GenesisError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => error(self.path_of(key), "expected true or false"),
        }
    }

    fn bytes(&self, key: &str) -> Result<Option<Bytes>, GenesisError> {
        self.get(key).map(|value| bytes(&self.path_of(key), value)).transpose()
    }

    fn b256(&self, key: &str) -> Result<Option<B256>, GenesisError> {
        match self.bytes(key)? {
            None => Ok(None),
            Some(value) if value.len() == 32 => Ok(Some(B256::from_slice(&value))),
            Some(value) => error(self.path_of(key), format!("expected 32 bytes, found {}", value.len())),
        }
    }

    fn address(&self, key: &str) -> Result<Option<Address>, GenesisError> {
        match self.bytes(key)? {
            None => Ok(None),
            Some(value) if value.len() == 20 => Ok(Some(Address::from_slice(&value))),
            Some(value) => error(self.path_of(key), format!("expected 20 bytes, found {}", value.len())),
        }
    }
}

/// A JSON number, a decimal string or a 0x string (geth's HexOrDecimal).
fn quantity(path: &str, value: &Value) -> Result<U256, GenesisError> {
    let text = match value {
        // Numbers beyond 2^64 (a chain's total difficulty) reach us as decimal text only when they are integers.
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return error(path, "expected a number or a hexadecimal string"),
    };
    if text.is_empty() || text == "0x" {
        return Ok(U256::ZERO);
    }
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => U256::from_str_radix(digits, 16),
        None => U256::from_str_radix(&text, 10),
    };
    parsed.or_else(|_| error(path, format!("{text:?} is not a number of at most 256 bits")))
}

fn bytes(path: &str, value: &Value) -> Result<Bytes, GenesisError> {
    let Value::String(text) = value else {
        return error(path, "expected a hexadecimal string");
    };
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match hex::decode(digits) {
        Ok(bytes) => Ok(bytes.into()),
        Err(e) => error(path, format!("not hexadecimal: {e}")),
    }
}

/// Block-activated forks by their geth names; several names may lead to one of ours.
const BLOCK_FORKS: [(&str, Fork); 13] = [
    ("homesteadBlock", Fork::Homestead),
    ("eip150Block", Fork::TangerineWhistle),
    ("eip155Block", Fork::SpuriousDragon),
    ("eip158Block", Fork::SpuriousDragon),
    ("byzantiumBlock", Fork::Byzantium),
    ("constantinopleBlock", Fork::Constantinople),
    ("petersburgBlock", Fork::Petersburg),
    ("istanbulBlock", Fork::Istanbul),
    ("muirGlacierBlock", Fork::MuirGlacier),
    ("berlinBlock", Fork::Berlin),
    ("londonBlock", Fork::London),
    ("arrowGlacierBlock", Fork::ArrowGlacier),
    ("grayGlacierBlock", Fork::GrayGlacier),
];

/// Forks that a schedule may leave out although later ones are present (difficulty bombs only).
const OPTIONAL: [&str; 3] = ["muirGlacierBlock", "arrowGlacierBlock", "grayGlacierBlock"];

const TIME_FORKS: [(&str, &str, Fork); 6] = [
    ("shanghaiTime", "", Fork::Shanghai),
    ("cancunTime", "cancun", Fork::Cancun),
    ("pragueTime", "prague", Fork::Prague),
    ("osakaTime", "osaka", Fork::Osaka),
    ("bpo1Time", "bpo1", Fork::Bpo1),
    ("bpo2Time", "bpo2", Fork::Bpo2),
];

fn spec_from_config(config: &Object<'_>) -> Result<ChainSpec, GenesisError> {
    let Some(chain_id) = config.u64("chainId")? else {
        return error("config.chainId", "missing");
    };
    if chain_id == 0 {
        return error("config.chainId", "must not be 0");
    }
    if config.get("amsterdamTime").is_some() {
        return error("config.amsterdamTime", "this fork is not supported");
    }

    let blocks = block_forks(config)?;
    let (times, blobs) = time_forks(config)?;

    let ttd = config.u256("terminalTotalDifficulty")?;
    let merge_block = match config.u64("mergeNetsplitBlock")? {
        Some(block) => Some(block),
        None if ttd.is_some_and(|ttd| ttd.is_zero()) => Some(0),
        None => None,
    };
    let passed = config.bool("terminalTotalDifficultyPassed")?.unwrap_or(false);
    let has_merge = merge_block.is_some() || ttd.is_some() || passed;
    if let (Some((fork, _)), false) = (times.first(), has_merge) {
        return error("config.terminalTotalDifficulty", format!("missing, but {fork:?} is scheduled by time"));
    }

    let dao_fork = match config.bool("daoForkSupport")? {
        Some(true) => config.u64("daoForkBlock")?,
        _ => None,
    };
    let zerog = config.object("zerog")?;
    let (min_gas_used, max_code_size) = match &zerog {
        Some(zerog) => (min_gas_rule(zerog)?, zerog.u64("maxCodeSize")?.map(|n| n as usize)),
        None => (None, None),
    };
    Ok(ChainSpec {
        chain_id,
        blocks,
        times,
        merge_block,
        has_merge,
        dao_fork,
        blobs,
        deposit_contract: config.address("depositContractAddress")?.unwrap_or(MAINNET_DEPOSIT_CONTRACT_ADDRESS),
        min_gas_used,
        max_code_size,
        precompiles: super::contracts::native_contracts(),
    })
}

fn min_gas_rule(zerog: &Object<'_>) -> Result<Option<MinGasUsed>, GenesisError> {
    let Some(percent) = zerog.u64("minGasUsedPercent")? else {
        return Ok(None);
    };
    if percent > 100 {
        return error(zerog.path_of("minGasUsedPercent"), format!("{percent} is above 100"));
    }
    let time = zerog.u64("minGasUsedTime")?.unwrap_or(0);
    Ok(Some(MinGasUsed { percent, time }))
}

fn block_forks(config: &Object<'_>) -> Result<Vec<(Fork, u64)>, GenesisError> {
    let mut blocks: Vec<(Fork, u64)> = vec![(Fork::Frontier, 0)];
    let mut last: (&str, Option<u64>) = ("homesteadBlock", Some(0));
    for (key, fork) in BLOCK_FORKS {
        let mut at = config.u64(key)?;
        // geth: Petersburg comes with Constantinople unless it is named.
        if key == "petersburgBlock" && at.is_none() {
            at = config.u64("constantinopleBlock")?;
        }
        match (at, last.1) {
            (Some(block), Some(before)) if block < before => {
                return error(format!("config.{key}"), format!("block {block} lies before {} ({before})", last.0));
            }
            (Some(_), None) => {
                return error(format!("config.{key}"), format!("scheduled, but the earlier {} is not", last.0));
            }
            _ => {}
        }
        if at.is_some() || !OPTIONAL.contains(&key) {
            last = (key, at);
        }
        if let Some(block) = at {
            if blocks.last().is_some_and(|(f, _)| *f == fork) {
                blocks.pop();
            }
            blocks.push((fork, block));
        }
    }
    Ok(blocks)
}

type Schedule = (Vec<(Fork, u64)>, Vec<(u64, BlobParams)>);

fn time_forks(config: &Object<'_>) -> Result<Schedule, GenesisError> {
    let schedule = config.object("blobSchedule")?;
    let mut times: Vec<(Fork, u64)> = Vec::new();
    let mut blobs: Vec<(u64, BlobParams)> = Vec::new();
    let mut last: (&str, Option<u64>) = ("shanghaiTime", Some(0));
    for (key, name, fork) in TIME_FORKS {
        let at = config.u64(key)?;
        let only_blobs = fork >= Fork::Bpo1;
        match (at, last.1) {
            (Some(time), Some(before)) if time < before => {
                return error(format!("config.{key}"), format!("time {time} lies before {} ({before})", last.0));
            }
            (Some(_), None) => {
                return error(format!("config.{key}"), format!("scheduled, but the earlier {} is not", last.0));
            }
            _ => {}
        }
        if at.is_some() || !only_blobs {
            last = (key, at);
        }
        let Some(time) = at else { continue };
        times.push((fork, time));
        if name.is_empty() {
            continue;
        }
        let configured = match &schedule {
            Some(schedule) => schedule.object(name)?,
            None => None,
        };
        match configured {
            Some(entry) => blobs.push((time, blob_params(&entry)?)),
            None => {
                if let Some(params) = default_blobs(fork) {
                    blobs.push((time, params));
                }
            }
        }
    }
    for (key, name) in [("bpo3Time", "bpo3"), ("bpo4Time", "bpo4"), ("bpo5Time", "bpo5")] {
        let Some(time) = config.u64(key)? else { continue };
        if blobs.last().is_none_or(|(before, _)| time < *before) {
            return error(format!("config.{key}"), "lies before an earlier blob schedule");
        }
        let entry = match &schedule {
            Some(schedule) => schedule.object(name)?,
            None => None,
        };
        match entry {
            Some(entry) => blobs.push((time, blob_params(&entry)?)),
            None => return error(format!("config.blobSchedule.{name}"), "missing"),
        }
    }
    Ok((times, blobs))
}

/// Osaka changes no blob count of its own.
fn default_blobs(fork: Fork) -> Option<BlobParams> {
    match fork {
        Fork::Cancun => Some(BlobParams::cancun()),
        Fork::Prague => Some(BlobParams::prague()),
        Fork::Bpo1 => Some(BlobParams::bpo1()),
        Fork::Bpo2 => Some(BlobParams::bpo2()),
        _ => None,
    }
}

fn blob_params(entry: &Object<'_>) -> Result<BlobParams, GenesisError> {
    let required = |key: &str| match entry.u64(key)? {
        Some(value) => Ok(value),
        None => error(entry.path_of(key), "missing"),
    };
    let params = BlobParams {
        target: required("target")?,
        max: required("max")?,
        update_fraction: required("baseFeeUpdateFraction")?,
    };
    if params.update_fraction == 0 {
        return error(entry.path_of("baseFeeUpdateFraction"), "must not be 0");
    }
    if params.target > params.max {
        return error(entry.path_of("target"), format!("{} exceeds max {}", params.target, params.max));
    }
    Ok(params)
}

fn header_of(root: &Object<'_>, config: &Object<'_>, spec: &ChainSpec) -> Result<Header, GenesisError> {
    let number = root.u64("number")?.unwrap_or(0);
    let timestamp = root.u64("timestamp")?.unwrap_or(0);
    let mix_hash = root.b256("mixHash")?.or(root.b256("mixhash")?).unwrap_or_default();
    let extra_data = root.bytes("extraData")?.unwrap_or_default();
    if extra_data.len() > 32 && config.get("clique").is_none() {
        return error("extraData", format!("{} bytes, at most 32", extra_data.len()));
    }
    let pow_by_default = config.get("ethash").is_some() && mix_hash.is_zero();
    let difficulty = match root.u256("difficulty")? {
        Some(difficulty) => difficulty,
        None if pow_by_default => U256::from(DEFAULT_DIFFICULTY),
        None => U256::ZERO,
    };
    let gas_limit = match root.u64("gasLimit")? {
        None | Some(0) => DEFAULT_GAS_LIMIT,
        Some(limit) => limit,
    };
    let fork = spec.fork_with_difficulty(number, timestamp, difficulty);
    let cancun = fork >= Fork::Cancun;
    Ok(Header {
        parent_hash: root.b256("parentHash")?.unwrap_or_default(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: root.address("coinbase")?.unwrap_or_default(),
        state_root: B256::ZERO,
        transactions_root: EMPTY_TRANSACTIONS,
        receipts_root: EMPTY_RECEIPTS,
        difficulty,
        number,
        gas_limit,
        gas_used: root.u64("gasUsed")?.unwrap_or(0),
        timestamp,
        extra_data,
        mix_hash,
        nonce: B64::from(root.u64("nonce")?.unwrap_or(0)),
        base_fee_per_gas: match root.u64("baseFeePerGas")? {
            _ if fork < Fork::London => None,
            Some(fee) => Some(fee),
            None => Some(INITIAL_BASE_FEE),
        },
        withdrawals_root: (fork >= Fork::Shanghai).then_some(EMPTY_WITHDRAWALS),
        blob_gas_used: match root.u64("blobGasUsed")? {
            _ if !cancun => None,
            given => Some(given.unwrap_or(0)),
        },
        excess_blob_gas: match root.u64("excessBlobGas")? {
            _ if !cancun => None,
            given => Some(given.unwrap_or(0)),
        },
        parent_beacon_block_root: match root.b256("parentBeaconBlockRoot")? {
            _ if !cancun => None,
            given => Some(given.unwrap_or_default()),
        },
        requests_hash: (fork >= Fork::Prague).then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    })
}

fn alloc_of(alloc: &Object<'_>) -> Result<StateDelta, GenesisError> {
    let mut delta = StateDelta::default();
    for (key, value) in alloc.map {
        let path = format!("alloc.{key}");
        let raw = bytes(&path, &Value::String(key.clone()))?;
        if raw.len() != 20 {
            return error(path, format!("an address has 20 bytes, this has {}", raw.len()));
        }
        let address = Address::from_slice(&raw);
        let Value::Object(map) = value else {
            return error(path, "expected an object");
        };
        let account = Object::new(path.clone(), map);
        let code = account.bytes("code")?.unwrap_or_default();
        let mut code_hash = KECCAK256_EMPTY;
        if !code.is_empty() {
            code_hash = keccak256(&code);
            delta.code.insert(code_hash, code);
        }
        let mut entry = AccountDelta {
            info: Some(AccountInfo {
                nonce: account.u64("nonce")?.unwrap_or(0),
                balance: account.u256("balance")?.unwrap_or_default(),
                code_hash,
            }),
            ..AccountDelta::default()
        };
        if let Some(storage) = account.object("storage")? {
            for (slot, value) in storage.map {
                let path = storage.path_of(slot);
                let slot = word(&path, &Value::String(slot.clone()))?;
                let value = word(&path, value)?;
                if !value.is_zero() {
                    entry.storage.insert(slot, value);
                }
            }
        }
        if delta.accounts.insert(address, entry).is_some() {
            return error(path, "the address appears twice");
        }
    }
    Ok(delta)
}

/// A storage key or value: hexadecimal of at most 32 bytes.
fn word(path: &str, value: &Value) -> Result<U256, GenesisError> {
    let Value::String(text) = value else {
        return error(path, "expected a hexadecimal string");
    };
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() {
        return Ok(U256::ZERO);
    }
    U256::from_str_radix(digits, 16)
        .or_else(|_| error(path, format!("{text:?} is not hexadecimal of at most 32 bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing_field(json: &str) -> String {
        match Genesis::parse(json.as_bytes()) {
            Err(GenesisError::Field { field, .. }) => field,
            Ok(_) => panic!("accepted: {json}"),
        }
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            ("[]", "(document)"),
            ("{", "(document)"),
            ("{}", "config"),
            (r#"{"config":{}}"#, "config.chainId"),
            (r#"{"config":{"chainId":"x"}}"#, "config.chainId"),
            (r#"{"config":{"chainId":1},"gasLimit":"0x1ffffffffffffffff"}"#, "gasLimit"),
            (r#"{"config":{"chainId":1},"alloc":{"0x12":{}}}"#, "alloc.0x12"),
            (
                r#"{"config":{"chainId":1},"alloc":{"0x0000000000000000000000000000000000000001":{"balance":[]}}}"#,
                "alloc.0x0000000000000000000000000000000000000001.balance",
            ),
            (r#"{"config":{"chainId":1,"homesteadBlock":5,"eip150Block":4}}"#, "config.eip150Block"),
            (r#"{"config":{"chainId":1,"homesteadBlock":0,"byzantiumBlock":0}}"#, "config.byzantiumBlock"),
            (r#"{"config":{"chainId":1,"terminalTotalDifficulty":0,"cancunTime":5}}"#, "config.cancunTime"),
            (r#"{"config":{"chainId":1,"shanghaiTime":5}}"#, "config.terminalTotalDifficulty"),
            (r#"{"config":{"chainId":1,"zerog":{"minGasUsedPercent":101}}}"#, "config.zerog.minGasUsedPercent"),
            (
                r#"{"config":{"chainId":1},"extraData":"0x0000000000000000000000000000000000000000000000000000000000000000ff"}"#,
                "extraData",
            ),
        ];
        for (json, field) in cases {
            assert_eq!(failing_field(json), field, "{json}");
        }
    }

    #[test]
    fn header_extras_follow_the_fork_of_block_zero() {
        let json = |times: &str| {
            format!(
                r#"{{"config":{{"chainId":7,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,"eip158Block":0,"byzantiumBlock":0,
                "constantinopleBlock":0,"petersburgBlock":0,"istanbulBlock":0,"berlinBlock":0,"londonBlock":0,
                "terminalTotalDifficulty":0{times}}},"timestamp":"0x10"}}"#
            )
        };
        let header = |times: &str| Genesis::parse(json(times).as_bytes()).unwrap().header;
        let paris = header("");
        assert_eq!(paris.base_fee_per_gas, Some(INITIAL_BASE_FEE));
        assert_eq!(paris.withdrawals_root, None);
        let shanghai = header(r#","shanghaiTime":0"#);
        assert_eq!(shanghai.withdrawals_root, Some(EMPTY_WITHDRAWALS));
        assert_eq!(shanghai.excess_blob_gas, None);
        let prague = header(r#","shanghaiTime":0,"cancunTime":16,"pragueTime":16"#);
        assert_eq!(prague.excess_blob_gas, Some(0));
        assert_eq!(prague.parent_beacon_block_root, Some(B256::ZERO));
        assert_eq!(prague.requests_hash, Some(EMPTY_REQUESTS_HASH));
    }

    #[test]
    fn numbers_may_be_decimal_or_hexadecimal() {
        let json = r#"{"config":{"chainId":"0x10"},"gasLimit":"1000","nonce":66,"alloc":{
            "0000000000000000000000000000000000000001":{"balance":"12","storage":{"0x1":"0x02","0x2":"0x00"}}}}"#;
        let genesis = Genesis::parse(json.as_bytes()).unwrap();
        assert_eq!(genesis.spec.chain_id, 16);
        assert_eq!(genesis.header.gas_limit, 1000);
        assert_eq!(genesis.header.nonce, B64::from(66u64));
        let account = genesis.alloc.accounts.values().next().unwrap();
        assert_eq!(account.info.as_ref().unwrap().balance, U256::from(12));
        assert_eq!(account.storage.len(), 1);
    }
}
