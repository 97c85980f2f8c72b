// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Price of storage, and where the fees go
interface IMarket {
    /// @notice Price of one sector in wei.
    function pricePerSector() external view returns (uint256);

    /// @notice Passes the fee that the market holds on to the reward contract; only the flow calls it.
    /// @param beforeLength Sectors of the flow before the submission.
    /// @param uploadSectors Sectors of the file, padding of the file included.
    /// @param paddingSectors Sectors skipped before it, which nobody is charged for.
    function chargeFee(uint256 beforeLength, uint256 uploadSectors, uint256 paddingSectors) external;
}
