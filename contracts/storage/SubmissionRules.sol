// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {SECTOR_BYTES, SubmissionData, SubmissionNode} from "./StorageTypes.sol";

/// @title Which submissions are well formed
/// @dev A file's sectors are padded so that they split into at most four subtrees of neighbouring heights. The rules
/// test that nodes and length are such a split; roots cannot be checked.
library SubmissionRules {
    uint256 private constant MAX_HEIGHT = 64;
    /// Heights of one file differ by less than this.
    uint256 private constant MAX_GAP = 4;

    /// @notice Sectors of the nodes, or zero when nodes and length break a rule.
    /// @param data The file.
    function sectorsIfValid(SubmissionData calldata data) internal pure returns (uint256 sectors) {
        SubmissionNode[] calldata nodes = data.nodes;
        uint256 count = nodes.length;
        // Strictly decreasing heights within the gap leave room for no more.
        if (count == 0 || count > MAX_GAP) return 0;
        uint256 top = nodes[0].height;
        if (top >= MAX_HEIGHT) return 0;
        uint256 height = top;
        sectors = 1 << top;
        for (uint256 i = 1; i < count; ++i) {
            uint256 next = nodes[i].height;
            if (next >= height) return 0;
            height = next;
            sectors += 1 << next;
        }
        if (top - height >= MAX_GAP) return 0;
        uint256 length = data.length;
        if (length > sectors * SECTOR_BYTES || length <= _smallerSplit(sectors, count, top) * SECTOR_BYTES) return 0;
    }

    /// @notice keccak256 of the node roots.
    function identity(SubmissionData calldata data) internal pure returns (bytes32) {
        SubmissionNode[] calldata nodes = data.nodes;
        uint256 count = nodes.length;
        bytes32[] memory roots = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) roots[i] = nodes[i].root;
        return keccak256(abi.encodePacked(roots));
    }

    /// @dev Sectors of the largest padded file that is smaller: the length must exceed it.
    function _smallerSplit(uint256 sectors, uint256 count, uint256 top) private pure returns (uint256) {
        if (sectors < 1 << MAX_GAP) return sectors - 1;
        if (count == 1) return sectors - (sectors >> MAX_GAP);
        return sectors - (1 << (top - MAX_GAP + 1));
    }
}
