// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Values of the storage contracts
/// @dev Field order is the interface that existing clients encode and decode.

/// @notice Root of a perfect subtree of `2^height` sectors.
struct SubmissionNode {
    bytes32 root;
    uint256 height;
}

/// @notice A file: its size in bytes, free bytes, and the subtrees that its padded sectors split into.
struct SubmissionData {
    uint256 length;
    bytes tags;
    SubmissionNode[] nodes;
}

/// @notice A file and the account in whose name it is submitted.
struct Submission {
    SubmissionData data;
    address submitter;
}

/// @notice Sectors `[start, end)` that were added in one epoch.
struct EpochRange {
    uint128 start;
    uint128 end;
}

/// @notice An epoch's sectors and the digest of its context.
struct EpochRangeWithContextDigest {
    uint128 start;
    uint128 end;
    bytes32 digest;
}

/// @notice What miners work on in an epoch: the flow as it was at block `mineStart`.
struct MineContext {
    uint256 epoch;
    uint256 mineStart;
    bytes32 flowRoot;
    uint256 flowLength;
    bytes32 blockDigest;
    bytes32 digest;
}

/// @notice Part of the flow that a miner searches; lengths in sectors, shards as in {PoraMine}.
struct RecallRange {
    uint256 startPosition;
    uint256 mineLength;
    uint64 shardId;
    uint64 shardMask;
}

/// @notice A proof of random access: one sealed piece of 4096 bytes and its way to the flow root.
struct PoraAnswer {
    bytes32 contextDigest;
    bytes32 nonce;
    bytes32 minerId;
    RecallRange range;
    uint256 recallPosition;
    uint256 sealOffset;
    bytes32 sealedContextDigest;
    bytes32[128] sealedData;
    bytes32[] merkleProof;
}

/// @notice Everything that a miner needs for its next search; a zero target means that it has to wait.
struct WorkerContext {
    MineContext context;
    uint256 poraTarget;
    bytes32 subtaskDigest;
    uint64 maxShards;
}

/// @notice Parameters that {PoraMine} starts with; intervals in blocks.
struct MineInitParams {
    uint256 difficulty;
    uint256 targetMineBlocks;
    uint256 targetSubmissions;
    uint64 maxShards;
    uint256 nSubtasks;
    uint256 subtaskInterval;
}

/// @notice Fees of one pricing chunk in wei: not yet released, released, paid out; times in UNIX seconds.
struct Reward {
    uint128 lockedReward;
    uint128 claimableReward;
    uint128 distributedReward;
    uint40 startTime;
    uint40 lastUpdate;
}

/// @dev keccak256 of nothing: the digest of a context without usable block hash.
bytes32 constant EMPTY_HASH = 0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470;
/// @dev Bytes of a sector, the leaf of the flow tree.
uint256 constant SECTOR_BYTES = 256;
/// @dev Sectors of a load, which is also a segment.
uint256 constant SECTORS_PER_LOAD = 1024;
/// @dev Sectors of a sealed piece.
uint256 constant SECTORS_PER_SEAL = 16;
/// @dev Sealed pieces of a load.
uint256 constant SEALS_PER_LOAD = 64;
/// @dev Sectors of an 8 GiB pricing chunk, the default; mining ranges start at multiples of it.
uint256 constant SECTORS_PER_PRICE = 1 << 25;
/// @dev Most sectors that one shard mines: 8 TiB.
uint256 constant MAX_MINING_LENGTH = 1 << 35;
