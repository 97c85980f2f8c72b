// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {BlockHeader} from "@openzeppelin/contracts/utils/BlockHeader.sol";
import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";

/// @title Why a header is refused
interface IBeaconErrors {
    /// @notice More bytes than a header has.
    error HeaderTooLarge(uint256 size, uint256 limit);
    /// @notice Not the header of this block, or a block of which the chain knows no hash any more.
    error HeaderMismatch(uint256 blockNumber, bytes32 given, bytes32 expected);
}

/// @title Randomness of a past block
/// @notice A contract sees only the randomness of its own block; that of an earlier one is in its header, which anybody
/// can bring and which the block's hash proves. The hash of the last 256 blocks comes from the machine, that of the last
/// 8,191 from the history contract of EIP-2935.
library BeaconHeader {
    /// @dev Headers have about 600 bytes; the bound keeps hashing and parsing cheap whatever is brought.
    uint256 internal constant MAX_SIZE = 1_024;

    /// @notice Randomness (`mixHash`) of block `number`.
    /// @param header RLP of the header of that block.
    /// @param number Number of the block; before the current one.
    function randomness(bytes memory header, uint256 number) internal view returns (bytes32) {
        if (header.length > MAX_SIZE) revert IBeaconErrors.HeaderTooLarge(header.length, MAX_SIZE);
        bytes32 given = keccak256(header);
        bytes32 expected = Blockhash.blockHash(number);
        if (expected == bytes32(0) || given != expected) revert IBeaconErrors.HeaderMismatch(number, given, expected);
        return BlockHeader.getPrevRandao(header);
    }
}
