// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {PoraAnswer} from "../storage/StorageTypes.sol";
import {PoraVerifier} from "../storage/PoraVerifier.sol";

/// @dev Both ways of verifying, side by side.
contract PoraVerifierHarness {
    function unseal(PoraAnswer calldata answer) external pure returns (bytes32[128] memory) {
        return PoraVerifier.unsealed(answer);
    }

    function recoverMerkleRoot(
        PoraAnswer calldata answer,
        bytes32[128] calldata unsealedData
    ) external pure returns (bytes32) {
        return PoraVerifier.recoverMerkleRoot(answer, unsealedData);
    }

    function inSolidity(
        PoraAnswer calldata answer,
        bytes32 subtaskDigest,
        bool sealedData
    ) external view returns (bytes32 poraHash, bytes32 flowRoot, uint256 recallPosition, uint256 gasUsed) {
        gasUsed = gasleft();
        flowRoot = PoraVerifier.recoverMerkleRoot(answer, sealedData);
        (poraHash, recallPosition) = PoraVerifier.poraHash(answer, subtaskDigest);
        gasUsed -= gasleft();
    }

    function byPrecompile(
        PoraAnswer calldata answer,
        bytes32 subtaskDigest,
        bool sealedData
    ) external view returns (bool answered, bytes32 poraHash, bytes32 flowRoot, uint256 recallPosition) {
        PoraVerifier.Result memory result;
        (answered, result) = PoraVerifier.precompiled(answer, subtaskDigest, sealedData);
        return (answered, result.poraHash, result.flowRoot, result.recallPosition);
    }
}
