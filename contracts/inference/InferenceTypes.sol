// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @notice Identity of a model: everything that decides which tokens a prompt becomes and what comes back.
/// @param weightsRoot 0G-storage Merkle root of the weights file.
/// @param tokenizerHash keccak256 of the tokenizer file; zero when the tokenizer lies inside the weights file.
/// @param chatTemplateHash keccak256 of the UTF-8 chat template.
/// @param quantId keccak256 of the ASCII name of the quantisation, for example `Q4_1`.
/// @param uri Where the weights can be fetched; informative, not part of the identity.
struct Model {
    bytes32 weightsRoot;
    bytes32 tokenizerHash;
    bytes32 chatTemplateHash;
    bytes32 quantId;
    string uri;
}

/// @notice How tokens are chosen. Integers only, so that no float enters a hash.
/// @param maxTokens Largest number of generated tokens, the ending token included.
/// @param temperatureMilli Temperature in thousandths; 0 for greedy.
/// @param topPMilli Nucleus mass in thousandths; 1000 is neutral.
/// @param topK Number of candidates kept; 0 is neutral.
/// @param repeatPenaltyMilli Repetition penalty in thousandths; 1000 is neutral.
/// @param seed Seed of sampler 1; for gate requests it is derived from chain randomness.
/// @param stopHash Zero without stop strings, else keccak256(abi.encode(string[])).
/// @param sampler 0 greedy, 1 inverse CDF.
struct SamplingParams {
    uint32 maxTokens;
    uint32 temperatureMilli;
    uint32 topPMilli;
    uint32 topK;
    uint32 repeatPenaltyMilli;
    uint64 seed;
    bytes32 stopHash;
    uint8 sampler;
}

/// @notice What a provider signs about one inference.
/// @param requestId Identifier that can be used once per requester.
/// @param requester Account for which the output was made; the only one that can consume it.
/// @param provider Account whose stake stands behind the output.
/// @param modelId Identity of the model, see {ProofOfInference-modelId}.
/// @param engineId keccak256 of the engine string; its class decides how it can be audited.
/// @param inputHash keccak256 of the request bytes.
/// @param outputHash keccak256 of the output bytes.
/// @param paramsHash EIP-712 struct hash of {SamplingParams}.
/// @param traceRoot Root over one leaf per generated token; zero without logits.
/// @param dataRoot 0G-storage root of the transcript; zero when it is not published.
/// @param promptTokens Number of prompt tokens.
/// @param outputTokens Number of trace leaves.
/// @param issuedAt Unix seconds of signing.
/// @param deadline Unix seconds after which the receipt is void.
/// @param tier Evidence that the provider claims: 0, 3, 4 or 5.
/// @param evidenceHash Hash of the evidence of tiers 3 and 4, else zero.
struct InferenceReceipt {
    bytes32 requestId;
    address requester;
    address provider;
    bytes32 modelId;
    bytes32 engineId;
    bytes32 inputHash;
    bytes32 outputHash;
    bytes32 paramsHash;
    bytes32 traceRoot;
    bytes32 dataRoot;
    uint32 promptTokens;
    uint32 outputTokens;
    uint64 issuedAt;
    uint64 deadline;
    uint8 tier;
    bytes32 evidenceHash;
}

/// @notice What a verifier signs after re-executing a receipt.
/// @param receiptHash EIP-712 digest of the receipt.
/// @param verifier Account that re-executed.
/// @param verdict 1 good, 2 bad, 3 transcript unavailable.
/// @param badIndex First bad leaf; 0xffffffff when none.
/// @param traceRoot Root that the verifier computed; zero when none.
struct AuditVote {
    bytes32 receiptHash;
    address verifier;
    uint8 verdict;
    uint32 badIndex;
    bytes32 traceRoot;
}

/// @notice How receipts of an engine can be compared.
enum EngineClass {
    Unknown,
    Exact,
    Tolerant,
    Native
}

/// @notice Where the audit of a receipt stands.
/// @dev `Escalated` waits for the draw of a committee; `Committing` and `Revealing` have one. The others are verdicts.
enum AuditState {
    None,
    Committing,
    Revealing,
    Escalated,
    Good,
    Bad,
    Unavailable,
    Inconclusive
}

/// @title Verdicts of a verifier
library Verdict {
    /// @notice The re-execution agrees with the receipt in everything.
    uint8 internal constant GOOD = 1;
    /// @notice The re-execution differs; the vote names the first bad leaf.
    uint8 internal constant BAD = 2;
    /// @notice The transcript was not to be had under its root.
    uint8 internal constant UNAVAILABLE = 3;
    /// @notice Bad index of a vote that names no leaf.
    uint32 internal constant NO_LEAF = 0xffffffff;
}

/// @title Tiers of Proof-of-Inference
/// @notice A higher value is stronger evidence that the named model produced the output.
library Tier {
    /// @notice Signature of an active, staked provider.
    uint8 internal constant SIGNED = 0;
    /// @notice The audit window passed without dispute.
    uint8 internal constant OPTIMISTIC = 1;
    /// @notice Verifiers re-executed it and nobody objected.
    uint8 internal constant AUDITED = 2;
    /// @notice The signer is bound to a verified quote of an allowed image.
    uint8 internal constant TEE = 3;
    /// @notice A zero-knowledge proof was accepted.
    uint8 internal constant ZK = 4;
    /// @notice Every validator executed it.
    uint8 internal constant NATIVE = 5;
}

/// @title Hashes of Proof-of-Inference
/// @notice Identities and EIP-712 hashes, the same on every chain. The domain separator is computed at each call, never
/// cached: the contracts are predeploys without a constructor and must stay right after a change of chain id.
library ProofOfInference {
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant RECEIPT_TYPEHASH =
        keccak256(
            "InferenceReceipt(bytes32 requestId,address requester,address provider,bytes32 modelId,bytes32 engineId,bytes32 inputHash,bytes32 outputHash,bytes32 paramsHash,bytes32 traceRoot,bytes32 dataRoot,uint32 promptTokens,uint32 outputTokens,uint64 issuedAt,uint64 deadline,uint8 tier,bytes32 evidenceHash)"
        );
    bytes32 internal constant PARAMS_TYPEHASH =
        keccak256(
            "SamplingParams(uint32 maxTokens,uint32 temperatureMilli,uint32 topPMilli,uint32 topK,uint32 repeatPenaltyMilli,uint64 seed,bytes32 stopHash,uint8 sampler)"
        );
    bytes32 internal constant VOTE_TYPEHASH =
        keccak256("AuditVote(bytes32 receiptHash,address verifier,uint8 verdict,uint32 badIndex,bytes32 traceRoot)");
    string internal constant NAME = "ProofOfInference";
    string internal constant VERSION = "1";
    bytes32 internal constant NAME_HASH = keccak256("ProofOfInference");
    bytes32 internal constant VERSION_HASH = keccak256("1");

    /// @notice Separator of the domain of `registry` on this chain.
    function domainSeparator(address registry) internal view returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    DOMAIN_TYPEHASH,
                    NAME_HASH,
                    VERSION_HASH,
                    block.chainid,
                    registry
                )
            );
    }

    /// @notice EIP-712 struct hash of a receipt.
    function hashStruct(InferenceReceipt calldata receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, receipt));
    }

    /// @notice EIP-712 struct hash of sampling parameters: the `paramsHash` of a receipt.
    function hashStruct(SamplingParams memory params) internal pure returns (bytes32) {
        return keccak256(abi.encode(PARAMS_TYPEHASH, params));
    }

    /// @notice EIP-712 struct hash of a vote.
    function hashStruct(AuditVote calldata vote) internal pure returns (bytes32) {
        return keccak256(abi.encode(VOTE_TYPEHASH, vote));
    }

    /// @notice Identity of a model; the URI is not part of it.
    function modelId(Model calldata model) internal pure returns (bytes32) {
        return
            keccak256(
                abi.encode(model.weightsRoot, model.tokenizerHash, model.chatTemplateHash, model.quantId)
            );
    }

    /// @notice Identity of the `nonce`-th request of `requester` at `gate` on this chain.
    function requestId(address gate, address requester, uint256 nonce) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, gate, requester, nonce));
    }

    /// @notice Seed of sampler 1 for a gate request, which neither requester nor provider can choose.
    function seed(bytes32 id, bytes32 randomness) internal pure returns (uint64) {
        return uint64(uint256(keccak256(abi.encode(id, randomness))));
    }
}
