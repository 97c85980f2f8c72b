// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title A model so small that every validator runs it
/// @notice Deterministic by construction: integers only, no state that changes.
interface INativeModel {
    /// @notice Identity of the model, computed from the weights that the contract holds.
    function modelId() external view returns (bytes32);

    /// @notice Evaluates an input. Reverts for one that the model does not take.
    /// @param input Canonical encoding of the input; its keccak256 is the `inputHash` of a receipt.
    /// @return output Canonical encoding of the output; its keccak256 is the `outputHash`.
    function evaluate(bytes calldata input) external view returns (bytes memory output);
}
