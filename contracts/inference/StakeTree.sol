// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

/// @title Weights of members, drawn by lot as they were at a past block
/// @notice A Fenwick tree whose every node keeps its history. A draw at block b sees the weights of block b, whatever
/// happened since: nobody who has seen the randomness can still change what it draws from.
/// @dev Positions are never given up, so that the ranges of nodes stay; a member that left weighs nothing and takes its
/// old position when it comes back. Costs grow with the logarithm of the number of members ever.
library StakeTree {
    using Checkpoints for Checkpoints.Trace208;

    /// @param size Number of positions.
    /// @param sums Weight of the range that a node covers: node i covers the lowest set bit of i positions up to i.
    /// @param positions Position of a member, from 1; zero for a stranger.
    /// @param weights Weight of a member now.
    /// @param members Members by position.
    struct Tree {
        Checkpoints.Trace208 size;
        mapping(uint256 node => Checkpoints.Trace208 sum) sums;
        mapping(address member => uint256 position) positions;
        mapping(address member => uint256 weight) weights;
        address[] members;
    }

    /// @dev State of one draw: intervals of the number line that are out of it, in ascending order.
    struct Urn {
        uint48 at;
        uint256 size;
        uint256 total;
        uint256 taken;
        uint256 count;
        uint256[] starts;
        uint256[] widths;
    }

    /// @dev Gas that a change needs at most: per level of the tree a new checkpoint, and the words of a new member.
    uint256 private constant LEVEL_GAS = 40_000;
    uint256 private constant CHANGE_GAS = 40_000;
    uint256 private constant MEMBER_GAS = 180_000;

    /// @notice Gas that {set} needs at most.
    /// @dev A second change in one block is cheaper than the first. Who demands this much before anything else makes sure
    /// that an estimate made in the block of another change suffices in the next one.
    function changeGas(Tree storage tree, address member) internal view returns (uint256) {
        uint256 levels = Math.log2(tree.members.length + 1) + 1;
        return CHANGE_GAS + LEVEL_GAS * levels + (tree.positions[member] == 0 ? MEMBER_GAS : 0);
    }

    /// @notice Gives `member` the weight `weight` from this block on.
    function set(Tree storage tree, address member, uint256 weight) internal {
        uint256 before = tree.weights[member];
        if (weight == before) return;
        tree.weights[member] = weight;
        uint256 position = tree.positions[member];
        if (position == 0) {
            _append(tree, member, weight);
            return;
        }
        uint48 key = uint48(block.number);
        uint256 size = tree.members.length;
        for (uint256 node = position; node <= size; node += _lowestBit(node)) {
            uint256 sum = tree.sums[node].latest();
            tree.sums[node].push(key, uint208(sum + weight - before));
        }
    }

    /// @notice Sum of all weights as of block `at`.
    function totalAt(Tree storage tree, uint48 at) internal view returns (uint256) {
        return _prefixAt(tree, tree.size.upperLookupRecent(at), at);
    }

    /// @notice An urn of all members as of block `at`, for at most `draws` draws and exclusions.
    function urn(Tree storage tree, uint48 at, uint256 draws) internal view returns (Urn memory made) {
        made.at = at;
        made.size = tree.size.upperLookupRecent(at);
        made.total = _prefixAt(tree, made.size, at);
        made.starts = new uint256[](draws);
        made.widths = new uint256[](draws);
    }

    /// @notice Takes `member` out of the urn.
    function exclude(Tree storage tree, Urn memory from, address member) internal view {
        uint256 position = tree.positions[member];
        if (position == 0 || position > from.size) return;
        uint256 width = _weightAt(tree, position, from.at);
        if (width > 0) _take(from, _prefixAt(tree, position - 1, from.at), width);
    }

    /// @notice Draws one member and takes it out of the urn, which must not be empty.
    /// @param seed Uniform number.
    /// @return member Who was drawn, with the probability of its weight among those in the urn.
    /// @return weight Its weight as of the urn's block.
    function pick(
        Tree storage tree,
        Urn memory from,
        uint256 seed
    ) internal view returns (address member, uint256 weight) {
        uint256 target = seed % (from.total - from.taken);
        for (uint256 i = 0; i < from.count && target >= from.starts[i]; ++i) target += from.widths[i];
        (uint256 position, uint256 start) = _locate(tree, from, target);
        weight = _weightAt(tree, position, from.at);
        _take(from, start, weight);
        member = tree.members[position - 1];
    }

    // ---------------------------------------------------------------- internals

    function _append(Tree storage tree, address member, uint256 weight) private {
        uint48 key = uint48(block.number);
        tree.members.push(member);
        uint256 position = tree.members.length;
        tree.positions[member] = position;
        uint256 sum = weight;
        uint256 last = position - _lowestBit(position);
        for (uint256 node = position - 1; node > last; node -= _lowestBit(node)) sum += tree.sums[node].latest();
        tree.sums[position].push(key, uint208(sum));
        tree.size.push(key, uint208(position));
    }

    function _prefixAt(Tree storage tree, uint256 position, uint48 at) private view returns (uint256 sum) {
        for (uint256 node = position; node > 0; node -= _lowestBit(node)) {
            sum += tree.sums[node].upperLookupRecent(at);
        }
    }

    function _weightAt(Tree storage tree, uint256 position, uint48 at) private view returns (uint256 weight) {
        weight = tree.sums[position].upperLookupRecent(at);
        uint256 last = position - _lowestBit(position);
        for (uint256 node = position - 1; node > last; node -= _lowestBit(node)) {
            weight -= tree.sums[node].upperLookupRecent(at);
        }
    }

    /// @dev Position whose interval contains `target`, and where that interval starts.
    function _locate(
        Tree storage tree,
        Urn memory from,
        uint256 target
    ) private view returns (uint256 position, uint256 start) {
        uint256 step = 1;
        while (step << 1 <= from.size) step <<= 1;
        for (; step > 0; step >>= 1) {
            uint256 node = position + step;
            if (node > from.size) continue;
            uint256 sum = tree.sums[node].upperLookupRecent(from.at);
            if (start + sum > target) continue;
            start += sum;
            position = node;
        }
        ++position;
    }

    /// @dev Inserts an interval in ascending order.
    function _take(Urn memory from, uint256 start, uint256 width) private pure {
        uint256 place = from.count++;
        for (; place > 0 && from.starts[place - 1] > start; --place) {
            from.starts[place] = from.starts[place - 1];
            from.widths[place] = from.widths[place - 1];
        }
        from.starts[place] = start;
        from.widths[place] = width;
        from.taken += width;
    }

    function _lowestBit(uint256 value) private pure returns (uint256) {
        unchecked {
            return value & (0 - value);
        }
    }
}
