// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {InferenceReceipt} from "./InferenceTypes.sol";

/// @title What judges of evidence need of the inference registry
interface IEvidenceRegistry {
    /// @notice EIP-712 digest of a receipt in the domain of this registry.
    function hashReceipt(InferenceReceipt calldata receipt) external view returns (bytes32);

    /// @notice Whether the model is registered.
    function isModel(bytes32 modelId) external view returns (bool);

    /// @notice Records that a proof of a receipt was accepted; its claim of that tier counts from now on.
    function recordEvidence(bytes32 receiptHash, uint8 tier) external;
}
