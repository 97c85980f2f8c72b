// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {SubmissionNode} from "./StorageTypes.sol";
import {EmptyTrees} from "./EmptyTrees.sol";

/// @title Append-only Merkle tree of the flow, kept as its frontier
/// @notice The tree over `length` sectors is the smallest perfect one that holds them; what is not filled counts as
/// zero sectors. Of all its nodes only the complete left subtrees on the way to the end matter: `_frontier[h]` is one
/// of `2^h` sectors exactly where bit `h` of the length is set.
/// @dev A submission works on a copy in memory that loads each level at most once and writes back only those that are
/// still part of the frontier afterwards.
library FlowTree {
    /// Levels that lengths up to 2^64 need.
    uint256 private constant LEVELS = 65;

    /// @dev Frontier in storage, by height.
    struct Frontier {
        mapping(uint256 height => bytes32 root) roots;
    }

    /// @dev Frontier in memory. Bit `h` of `loaded` and `dirty` speaks of `roots[h]`.
    struct Cursor {
        uint256 length;
        uint256 loaded;
        uint256 dirty;
        bytes32[LEVELS] roots;
        bytes zeros;
    }

    /// @notice The flow cannot hold 2^64 sectors or more.
    error FlowFull(uint256 sectors);

    /// @notice Starts work on a tree of `length` sectors.
    function open(uint256 length) internal pure returns (Cursor memory cursor) {
        cursor.length = length;
        cursor.zeros = EmptyTrees.ROOTS;
    }

    /// @notice The least multiple of `2^height` that is not below `length`.
    function align(uint256 length, uint256 height) internal pure returns (uint256) {
        uint256 below = (1 << height) - 1;
        return (length + below) & ~below;
    }

    /// @notice Fills up with zero sectors to the next multiple of `2^height`, then appends the node.
    /// @return start First sector of the node.
    function append(
        Frontier storage frontier,
        Cursor memory cursor,
        SubmissionNode calldata node
    ) internal view returns (uint256 start) {
        uint256 height = node.height;
        fill(frontier, cursor, height);
        start = cursor.length;
        uint256 end = start + (1 << height);
        if (end >= 1 << (LEVELS - 1)) revert FlowFull(end);
        _carry(frontier, cursor, node.root, height, start >> height);
        cursor.length = end;
    }

    /// @notice Fills up with zero sectors to the next multiple of `2^height`.
    function fill(Frontier storage frontier, Cursor memory cursor, uint256 height) internal view {
        uint256 length = cursor.length;
        uint256 target = align(length, height);
        if (target == length) return;
        if (target >= 1 << (LEVELS - 1)) revert FlowFull(target);
        // The subtree that holds the last sector grows level by level, with zeros to its right.
        uint256 level = _lowestBit(length);
        uint256 index = (length - 1) >> level;
        bytes32 node = _at(frontier, cursor, level);
        while (level < height) {
            node = index & 1 == 0 ? _pair(node, _zero(cursor, level)) : _pair(_at(frontier, cursor, level), node);
            ++level;
            index >>= 1;
        }
        cursor.length = target;
        _carry(frontier, cursor, node, height, index);
    }

    /// @notice Root of the smallest perfect tree that holds all sectors.
    function root(Frontier storage frontier, Cursor memory cursor) internal view returns (bytes32 node) {
        uint256 length = cursor.length;
        uint256 level = _lowestBit(length);
        node = _at(frontier, cursor, level);
        for (uint256 index = (length - 1) >> level; index != 0; index >>= 1) {
            node = index & 1 == 0 ? _pair(node, _zero(cursor, level)) : _pair(_at(frontier, cursor, level), node);
            ++level;
        }
    }

    /// @notice Writes back what changed.
    function close(Frontier storage frontier, Cursor memory cursor) internal {
        uint256 changed = cursor.dirty & cursor.length;
        for (uint256 level = 0; changed != 0; ++level) {
            if (changed & 1 == 1) frontier.roots[level] = cursor.roots[level];
            changed >>= 1;
        }
    }

    /// @notice Levels of the smallest perfect tree over `length` sectors, leaves included.
    function levels(uint256 length) internal pure returns (uint256 count) {
        count = 1;
        for (uint256 rest = length - 1; rest != 0; rest >>= 1) ++count;
    }

    /// @dev Places the complete node number `index` of a level: pairs it with its left neighbours as long as it is a
    /// right child, then keeps it.
    function _carry(
        Frontier storage frontier,
        Cursor memory cursor,
        bytes32 node,
        uint256 level,
        uint256 index
    ) private view {
        while (index & 1 == 1) {
            node = _pair(_at(frontier, cursor, level), node);
            ++level;
            index >>= 1;
        }
        cursor.roots[level] = node;
        cursor.loaded |= 1 << level;
        cursor.dirty |= 1 << level;
    }

    function _at(Frontier storage frontier, Cursor memory cursor, uint256 level) private view returns (bytes32 node) {
        uint256 bit = 1 << level;
        if (cursor.loaded & bit != 0) return cursor.roots[level];
        node = frontier.roots[level];
        cursor.roots[level] = node;
        cursor.loaded |= bit;
    }

    function _zero(Cursor memory cursor, uint256 level) private pure returns (bytes32 node) {
        bytes memory zeros = cursor.zeros;
        // Levels stay below 64: a tree of 2^64 sectors is refused before.
        assembly ("memory-safe") {
            node := mload(add(add(zeros, 0x20), shl(5, level)))
        }
    }

    function _pair(bytes32 left, bytes32 right) private pure returns (bytes32 node) {
        assembly ("memory-safe") {
            mstore(0x00, left)
            mstore(0x20, right)
            node := keccak256(0x00, 0x40)
        }
    }

    function _lowestBit(uint256 value) private pure returns (uint256 bit) {
        while ((value >> bit) & 1 == 0) ++bit;
    }
}
