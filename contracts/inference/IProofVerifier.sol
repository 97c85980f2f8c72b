// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Verifier of zero-knowledge proofs of one circuit, as ezkl generates it
interface IProofVerifier {
    /// @notice Whether `proof` shows that the circuit holds for the public `instances`.
    /// @dev May also revert for a proof that it refuses.
    function verifyProof(bytes calldata proof, uint256[] calldata instances) external view returns (bool accepted);
}
