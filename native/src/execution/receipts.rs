//! Verification of inference receipts as a native contract. `InferenceRegistry.verifyReceipt` is its executable
//! specification: same calldata, same answer, same errors in the same order, and it reads that contract's storage.
//!
//! A call costs [`BASE_GAS`] and for each of at most nine slots [`COLD_SLOT_GAS`] or [`WARM_SLOT_GAS`], so at most 9,800.
//! The price of a cold slot is below EIP-2929's 2,100 because a read here is one look-up in a flat table. It stays
//! safe because nobody can read many fresh slots: the first check that fails ends the call, the provider's slots cost
//! a stake each, and behind a valid signature at most two keys are the caller's choice. A fresh slot therefore costs
//! more than 2,100 gas whatever the calldata is.

use alloy_primitives::{b256, keccak256};

use super::calldata::Arguments;
use super::evm::{recover, Precompile, PrecompileCall, PrecompileResult};
use crate::primitives::*;

/// 0x…0A10.
pub const RECEIPTS_ADDRESS: Address = Address::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x10]);
/// The registry whose state decides and whose domain was signed: 0x…7001.
pub const REGISTRY: Address = Address::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x70, 0x01]);

/// ecrecover (3,000), a dozen hashes of short words and decoding.
const BASE_GAS: u64 = 3_500;
const COLD_SLOT_GAS: u64 = 700;
const WARM_SLOT_GAS: u64 = 100;

/// `verifyReceipt(InferenceReceipt,bytes,uint8)`.
const SELECTOR: [u8; 4] = [0x54, 0x46, 0xd4, 0x0e];
const RECEIPT_WORDS: usize = 16;
/// Behind the receipt: offset of the signature, least tier.
const SIGNATURE: usize = RECEIPT_WORDS;
const MIN_TIER: usize = RECEIPT_WORDS + 1;
/// Bits of each member of a receipt: wider values are refused.
const WIDTHS: [usize; RECEIPT_WORDS] = [256, 160, 160, 256, 256, 256, 256, 256, 256, 256, 32, 32, 64, 64, 8, 256];

/// keccak256 of the EIP-712 types and of the domain's name and version, see the tests.
const RECEIPT_TYPEHASH: B256 = b256!("f8bf698e1984a8d4e2856bbcc3a1247be92441796e93fbd1e1bf643e9c65ebca");
const DOMAIN_TYPEHASH: B256 = b256!("8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");
const NAME_HASH: B256 = b256!("107dd647ba20647c845fa95d692c7b078231633f7f1911d0ae251c2f5bb77592");
const VERSION_HASH: B256 = b256!("c89efdaa54c0f20c7adf612882df0950f5a951637e0307cdcb4c672f298b8bc6");

const SIGNED: u8 = 0;
const TEE: u8 = 3;
const ZK: u8 = 4;
const NATIVE: u8 = 5;

/// Where the registry keeps what decides, as its compiler laid it out; a test compares them with the artifact.
pub const SLOTS: [(&str, u64); 8] = [
    ("minStake", MIN_STAKE),
    ("_knownModels", KNOWN_MODELS),
    ("engineClass", ENGINE_CLASS),
    ("_providers", PROVIDERS),
    ("_engines", ENGINES),
    ("_usage", USAGE),
    ("_evidence", EVIDENCE),
    ("_attested", ATTESTED),
];
const MIN_STAKE: u64 = 1;
const KNOWN_MODELS: u64 = 4;
const ENGINE_CLASS: u64 = 5;
const PROVIDERS: u64 = 6;
const ENGINES: u64 = 7;
const USAGE: u64 = 8;
const EVIDENCE: u64 = 10;
const ATTESTED: u64 = 11;

/// `Provider.active`, `Usage.used`: the byte behind an address in one slot.
const FLAG_OFFSET: usize = 160;

pub(super) struct ReceiptVerifier;

impl Precompile for ReceiptVerifier {
    fn address(&self) -> Address {
        RECEIPTS_ADDRESS
    }

    fn name(&self) -> &'static str {
        "VERIFY_RECEIPT"
    }

    fn call(&self, mut call: PrecompileCall<'_, '_>) -> PrecompileResult {
        if BASE_GAS > call.gas {
            return PrecompileResult::OutOfGas;
        }
        let mut gas_used = BASE_GAS;
        let outcome = match Claim::decode(&call) {
            Some(claim) => claim.check(&mut Registry { call: &mut call, gas_used: &mut gas_used }),
            None => Err(Refusal::Malformed),
        };
        match outcome {
            Ok((tier, digest)) => PrecompileResult::Return { gas_used, output: answer(tier, digest) },
            Err(Refusal::OutOfGas) => PrecompileResult::OutOfGas,
            Err(Refusal::Broken(reason)) => PrecompileResult::Fatal(reason),
            Err(refusal) => PrecompileResult::Revert { gas_used, output: refusal.data() },
        }
    }
}

fn answer(tier: u8, digest: B256) -> Bytes {
    let mut words = [0; 96];
    words[31] = 1;
    words[63] = tier;
    words[64..].copy_from_slice(digest.as_slice());
    words.to_vec().into()
}

enum Refusal {
    /// Solidity's decoder reverts without data.
    Malformed,
    BadSignature,
    UnknownModel,
    ProviderInactive,
    UnderStaked,
    Expired,
    Replayed,
    TierTooLow,
    OutOfGas,
    /// The state cannot be read.
    Broken(String),
}

impl Refusal {
    fn data(&self) -> Bytes {
        match self {
            Refusal::BadSignature => Bytes::from_static(&[0x1c, 0x5b, 0xf0, 0x6f]),
            Refusal::UnknownModel => Bytes::from_static(&[0xc7, 0x9f, 0xf0, 0x60]),
            Refusal::ProviderInactive => Bytes::from_static(&[0xe0, 0xa1, 0x74, 0x03]),
            Refusal::UnderStaked => Bytes::from_static(&[0xfd, 0x75, 0x0e, 0xae]),
            Refusal::Expired => Bytes::from_static(&[0x9f, 0x81, 0x75, 0x1f]),
            Refusal::Replayed => Bytes::from_static(&[0xc7, 0x12, 0xf4, 0x6f]),
            Refusal::TierTooLow => Bytes::from_static(&[0xa1, 0xb7, 0x15, 0x74]),
            Refusal::Malformed | Refusal::OutOfGas | Refusal::Broken(_) => Bytes::new(),
        }
    }
}

/// The registry's storage at the price of this contract.
struct Registry<'a, 'c, 'i> {
    call: &'a mut PrecompileCall<'c, 'i>,
    gas_used: &'a mut u64,
}

impl Registry<'_, '_, '_> {
    fn read(&mut self, slot: U256) -> Result<U256, Refusal> {
        let load = self.call.load_noting(REGISTRY, slot).map_err(Refusal::Broken)?;
        *self.gas_used += if load.was_cold { COLD_SLOT_GAS } else { WARM_SLOT_GAS };
        if *self.gas_used > self.call.gas {
            return Err(Refusal::OutOfGas);
        }
        Ok(load.value)
    }
}

/// A call whose calldata is well formed.
struct Claim<'a> {
    request: B256,
    requester: Address,
    provider: Address,
    model: B256,
    engine: B256,
    deadline: U256,
    tier: u8,
    evidence: B256,
    signature: &'a [u8],
    min_tier: u8,
    digest: B256,
}

impl<'a> Claim<'a> {
    fn decode(call: &PrecompileCall<'a, '_>) -> Option<Claim<'a>> {
        if !call.value.is_zero() {
            return None; // the Solidity function is not payable
        }
        let input = call.input;
        let arguments = Arguments::of(input, SELECTOR, MIN_TIER + 1)?;
        for (index, width) in WIDTHS.into_iter().enumerate() {
            arguments.uint(index, width)?;
        }
        let receipt = &input[SELECTOR.len()..SELECTOR.len() + RECEIPT_WORDS * 32];
        let hash = |index| B256::from(arguments.word(index));
        Some(Claim {
            request: hash(0),
            requester: arguments.address(1)?,
            provider: arguments.address(2)?,
            model: hash(3),
            engine: hash(4),
            deadline: arguments.uint(13, 64)?,
            tier: arguments.word(14)[31],
            evidence: hash(15),
            signature: arguments.bytes(SIGNATURE)?,
            min_tier: arguments.uint(MIN_TIER, 8)?.to(),
            digest: digest(receipt, call.chain_id),
        })
    }

    /// Tier for which the registry has evidence, and the digest. The order of the checks is part of the protocol.
    fn check(&self, registry: &mut Registry<'_, '_, '_>) -> Result<(u8, B256), Refusal> {
        let provider = mapping(PROVIDERS, self.provider.into_word());
        let identity = registry.read(provider)?;
        if self.signer().is_none_or(|signer| signer != address_in(identity)) {
            return Err(Refusal::BadSignature);
        }
        if registry.read(mapping(KNOWN_MODELS, self.model))?.is_zero() {
            return Err(Refusal::UnknownModel);
        }
        if !flag_in(identity) || !self.provider_runs_engine(registry)? {
            return Err(Refusal::ProviderInactive);
        }
        if registry.read(provider + U256::from(1))? < registry.read(U256::from(MIN_STAKE))? {
            return Err(Refusal::UnderStaked);
        }
        if registry.call.timestamp() > self.deadline {
            return Err(Refusal::Expired);
        }
        if flag_in(registry.read(nested(mapping(USAGE, self.request), self.requester.into_word()))?) {
            return Err(Refusal::Replayed);
        }
        let tier = self.proven_tier(registry, identity)?;
        if tier < self.min_tier {
            return Err(Refusal::TierTooLow);
        }
        Ok((tier, self.digest))
    }

    fn signer(&self) -> Option<Address> {
        let signature: &[u8; 65] = self.signature.try_into().ok()?;
        let (r, s) = (B256::from_slice(&signature[..32]), B256::from_slice(&signature[32..64]));
        // A high s is the malleable twin of a signature (EIP-2).
        (U256::from_be_bytes(s.0) <= SECP256K1_HALF_ORDER).then(|| recover(&self.digest, &r, &s, signature[64]))?
    }

    fn provider_runs_engine(&self, registry: &mut Registry<'_, '_, '_>) -> Result<bool, Refusal> {
        if registry.read(mapping(ENGINE_CLASS, self.engine))?.is_zero() {
            return Ok(false);
        }
        // EnumerableSet: the values, then a mapping of each value to its position.
        let positions = mapping(ENGINES, self.provider.into_word()) + U256::from(1);
        Ok(!registry.read(nested(positions, self.engine))?.is_zero())
    }

    /// OPTIMISTIC and AUDITED are states of the registry, never claims; another claim counts as far as it is proven.
    fn proven_tier(&self, registry: &mut Registry<'_, '_, '_>, identity: U256) -> Result<u8, Refusal> {
        let proven = match self.tier {
            SIGNED => true,
            TEE => self.is_attested(registry, address_in(identity))?,
            ZK..=NATIVE => registry.read(mapping(EVIDENCE, self.digest))? == U256::from(self.tier),
            _ => return Err(Refusal::TierTooLow),
        };
        Ok(if proven { self.tier } else { SIGNED })
    }

    fn is_attested(&self, registry: &mut Registry<'_, '_, '_>, signer: Address) -> Result<bool, Refusal> {
        let attestation = mapping(ATTESTED, signer.into_word());
        let until = registry.read(attestation)? & U256::from(u64::MAX);
        if until < registry.call.timestamp() {
            return Ok(false);
        }
        Ok(registry.read(attestation + U256::from(1))? == U256::from_be_bytes(self.evidence.0))
    }
}

const SECP256K1_HALF_ORDER: U256 =
    U256::from_limbs([0xdfe9_2f46_681b_20a0, 0x5d57_6e73_57a4_501d, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff]);

fn address_in(word: U256) -> Address {
    Address::from_word(word.into())
}

fn flag_in(word: U256) -> bool {
    word.byte(FLAG_OFFSET / 8) != 0
}

fn mapping(slot: u64, key: B256) -> U256 {
    nested(U256::from(slot), key)
}

fn nested(slot: U256, key: B256) -> U256 {
    keccak256([key.0, slot.to_be_bytes()].as_flattened()).into()
}

/// EIP-712 digest in the registry's domain, computed at each call because the chain id of a devnet can change.
fn digest(receipt: &[u8], chain_id: u64) -> B256 {
    let domain =
        [DOMAIN_TYPEHASH.0, NAME_HASH.0, VERSION_HASH.0, U256::from(chain_id).to_be_bytes(), REGISTRY.into_word().0];
    let separator = keccak256(domain.as_flattened());
    let structure = keccak256([RECEIPT_TYPEHASH.as_slice(), receipt].concat());
    keccak256([&[0x19, 0x01], separator.as_slice(), structure.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_of_the_types() {
        let receipt = "InferenceReceipt(bytes32 requestId,address requester,address provider,bytes32 modelId,\
bytes32 engineId,bytes32 inputHash,bytes32 outputHash,bytes32 paramsHash,bytes32 traceRoot,bytes32 dataRoot,\
uint32 promptTokens,uint32 outputTokens,uint64 issuedAt,uint64 deadline,uint8 tier,bytes32 evidenceHash)";
        assert_eq!(keccak256(receipt), RECEIPT_TYPEHASH);
        let domain = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
        assert_eq!(keccak256(domain), DOMAIN_TYPEHASH);
        assert_eq!(keccak256("ProofOfInference"), NAME_HASH);
        assert_eq!(keccak256("1"), VERSION_HASH);
    }

    #[test]
    fn the_empty_receipt_has_the_digest_of_the_vectors() {
        let expected = b256!("ce5371d573798ead38ea30fb19d7f93f8fc4d1d48a9cc1f72142042b9ed53f43");
        assert_eq!(digest(&[0; RECEIPT_WORDS * 32], 31337), expected);
    }

    #[test]
    fn no_call_costs_more_than_ten_thousand() {
        assert_eq!(BASE_GAS + 9 * COLD_SLOT_GAS, 9_800);
    }
}
