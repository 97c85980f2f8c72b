// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {InferenceReceipt} from "./InferenceTypes.sol";

/// @title What gates and consumers need of the inference registry
interface IInferenceRegistry {
    /// @notice Verifies a receipt without changing anything.
    /// @param receipt The receipt.
    /// @param signature 65 bytes `r || s || v`, low s, v 27 or 28.
    /// @param minTier Least acceptable tier.
    /// @return ok Always true: a receipt that fails reverts with its `PoI` error.
    /// @return tier Tier for which the registry itself has evidence; never a bare claim.
    /// @return receiptHash EIP-712 digest of the receipt.
    function verifyReceipt(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        uint8 minTier
    ) external view returns (bool ok, uint8 tier, bytes32 receiptHash);

    /// @notice Verifies a receipt and uses up its request id.
    /// @dev Callable by the requester named in the receipt, or by the gate that reserved the request id.
    function consume(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        uint8 minTier
    ) external returns (uint8 tier, bytes32 receiptHash);

    /// @notice Ties a request id of `requester` to the calling gate, so that nobody else can use it up.
    function reserve(bytes32 requestId, address requester) external;

    /// @notice Records that a receipt has reached a higher tier.
    function raiseTier(bytes32 receiptHash, uint8 tier) external;

    /// @notice Whether `provider` is active and holds the least stake.
    function isEligible(address provider) external view returns (bool);

    /// @notice Whether the model is registered.
    function isModel(bytes32 modelId) external view returns (bool);

    /// @notice What is kept of a receipt. Reverts for an unknown one.
    /// @return provider Account whose stake stands behind it.
    /// @return blockNumber Block in which the receipt became known.
    /// @return tier Tier reached.
    /// @return condemned Whether an audit found it wrong or undocumented.
    function receiptOf(
        bytes32 receiptHash
    ) external view returns (address provider, uint64 blockNumber, uint8 tier, bool condemned);
}
