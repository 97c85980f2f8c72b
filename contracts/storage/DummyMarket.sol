// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IMarket} from "./IMarket.sol";

/// @title Market of a flow without fees
contract DummyMarket is IMarket {
    /// @inheritdoc IMarket
    function pricePerSector() external pure returns (uint256) {
        return 0;
    }

    /// @inheritdoc IMarket
    function chargeFee(uint256, uint256, uint256) external {}
}
