// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IInferenceRegistry} from "./IInferenceRegistry.sol";
import {AuditVote, EngineClass, InferenceReceipt} from "./InferenceTypes.sol";

/// @title What audits need of the inference registry
interface IAuditableRegistry is IInferenceRegistry {
    /// @notice EIP-712 digest of a receipt in the domain of this registry.
    function hashReceipt(InferenceReceipt calldata receipt) external view returns (bytes32);

    /// @notice EIP-712 digest of a vote in the domain of this registry.
    function hashVote(AuditVote calldata vote) external view returns (bytes32);

    /// @notice Class of an engine.
    function engineClass(bytes32 engineId) external view returns (EngineClass);

    /// @notice Stake of a provider that can be taken, its stake on the way out included, in wei.
    function atRiskOf(address account) external view returns (uint256);

    /// @notice Marks a receipt as proven wrong or undocumented: no contract can use it any more.
    function condemn(bytes32 receiptHash) external;

    /// @notice Takes up to `amount` of a provider's stake; `keepPpm` millionths of it go to the caller, the rest is burnt.
    /// @return taken Wei taken.
    /// @return kept Wei sent to the caller.
    function seize(
        address account,
        uint256 amount,
        uint32 keepPpm,
        bytes32 reason
    ) external returns (uint256 taken, uint256 kept);
}
