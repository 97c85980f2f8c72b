// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Where fees wait for miners
interface IStorageReward {
    /// @notice A miner was credited for an accepted answer.
    event DistributeReward(
        uint256 indexed pricingIndex,
        address indexed beneficiary,
        bytes32 indexed minerId,
        uint256 amount
    );

    /// @notice Spreads the value over the pricing chunks of `sectors` sectors after `beforeLength`; market only.
    function fillReward(uint256 beforeLength, uint256 sectors) external payable;

    /// @notice Credits a miner for an answer in a pricing chunk; mine only.
    function claimMineReward(uint256 pricingIndex, address payable beneficiary, bytes32 minerId) external;
}
