// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title The latest digests of a sequence
interface IDigestHistory {
    /// @notice Appends a digest.
    /// @return index Its place in the whole sequence.
    function insert(bytes32 digest) external returns (uint256 index);

    /// @notice Whether the digest at `index` is still kept.
    function available(uint256 index) external view returns (bool);

    /// @notice Whether `digest` is among those kept.
    function contains(bytes32 digest) external view returns (bool);

    /// @notice The digest at `index`; reverts when it is not kept.
    function at(uint256 index) external view returns (bytes32);
}
