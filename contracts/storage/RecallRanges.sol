// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {MAX_MINING_LENGTH, RecallRange, SECTORS_PER_LOAD, SECTORS_PER_PRICE} from "./StorageTypes.sol";

/// @title Which part of the flow a miner searches
/// @dev A shard mask has a zero for every bit that the shard id chooses: `~(shards - 1)` for a power of two.
library RecallRanges {
    /// @notice Reverts unless the range covers all that can be mined, up to the limit of a shard.
    /// @param end Sectors of the complete loads of the flow.
    function check(RecallRange calldata range, uint256 end) internal pure {
        require(range.startPosition % SECTORS_PER_PRICE == 0, "Start position is not aligned");
        uint256 length = range.mineLength;
        require(range.startPosition + length <= end, "Mining range overflow");
        uint256 limit = MAX_MINING_LENGTH * shards(range);
        require(length <= limit, "Mining range too long");
        require(length >= (end < limit ? end : limit) && length >= SECTORS_PER_LOAD, "Mining range too short");
        require(range.shardId & range.shardMask == 0, "Masked bits should be zero");
    }

    /// @notice Number of shards: two for every zero of the mask.
    function shards(RecallRange calldata range) internal pure returns (uint256 count) {
        uint256 free = uint64(~range.shardMask);
        if (free & (free + 1) == 0) return free + 1;
        for (count = 1; free != 0; free &= free - 1) count *= 2;
    }

    /// @notice By how much a shard's target is below that of the whole flow, times 2^64; at least 2^64.
    function targetScaleX64(RecallRange calldata range, uint256 flowLength) internal pure returns (uint256) {
        uint256 whole = flowLength < MAX_MINING_LENGTH ? flowLength : MAX_MINING_LENGTH;
        uint256 shard = flowLength / shards(range);
        return (whole << 64) / (shard < MAX_MINING_LENGTH ? shard : MAX_MINING_LENGTH);
    }

    /// @notice keccak256 of the four fields.
    function digest(RecallRange calldata range) internal pure returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    range.startPosition,
                    range.mineLength,
                    uint256(range.shardId),
                    uint256(range.shardMask)
                )
            );
    }

    /// @notice First sector of the load that a seed recalls; it may lie outside of the range.
    function recall(RecallRange calldata range, bytes32 seed) internal pure returns (uint256) {
        uint256 offset = uint256(seed) % (range.mineLength / SECTORS_PER_LOAD);
        uint256 load = (uint64(offset) & range.shardMask) | range.shardId;
        return range.startPosition + load * SECTORS_PER_LOAD;
    }
}
