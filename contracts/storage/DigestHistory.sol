// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IDigestHistory} from "./IDigestHistory.sol";

/// @title Ring of the latest digests with look-up in constant gas
/// @dev Only its creator appends: otherwise anybody could push the creator's digests out.
contract DigestHistory is IDigestHistory {
    /// @notice Number of digests kept.
    uint256 public immutable capacity;
    /// @notice The only account that appends.
    address public immutable owner;

    uint256 private _next;
    mapping(uint256 place => bytes32 digest) private _ring;
    // One more than the latest index of a digest; zero for one never seen.
    mapping(bytes32 digest => uint256 indexPlusOne) private _latest;

    /// @notice The digest at this index was overwritten or not written yet.
    error UnavailableIndex(uint256 index);
    /// @notice Only the creator appends.
    error NotOwner(address caller);
    /// @notice A history must keep something.
    error ZeroCapacity();

    constructor(uint256 capacity_) {
        if (capacity_ == 0) revert ZeroCapacity();
        capacity = capacity_;
        owner = msg.sender;
    }

    /// @inheritdoc IDigestHistory
    function insert(bytes32 digest) external returns (uint256 index) {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        index = _next;
        _ring[index % capacity] = digest;
        _latest[digest] = index + 1;
        _next = index + 1;
    }

    /// @inheritdoc IDigestHistory
    function available(uint256 index) public view returns (bool) {
        uint256 next = _next;
        return index < next && next - index <= capacity;
    }

    /// @inheritdoc IDigestHistory
    function contains(bytes32 digest) external view returns (bool) {
        uint256 indexPlusOne = _latest[digest];
        return indexPlusOne != 0 && available(indexPlusOne - 1);
    }

    /// @inheritdoc IDigestHistory
    function at(uint256 index) external view returns (bytes32) {
        if (!available(index)) revert UnavailableIndex(index);
        return _ring[index % capacity];
    }
}
