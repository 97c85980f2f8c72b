// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Flow} from "./Flow.sol";
import {IMarket} from "./IMarket.sol";

/// @title The flow with a price per sector
/// @notice The fee is the price times the sectors of the file; sectors skipped for alignment are free. What a caller
/// sends beyond the fee stays in this contract and pays for the next submission, whoever sends it.
/// {RefundingFlow} gives it back.
contract FixedPriceFlow is Flow {
    /// @notice The contract holds less than the fee.
    error NotEnoughFee(uint256 price, uint256 amount, uint256 paid);
    /// @notice The market did not take the fee.
    error FeeRefused(address market, uint256 fee);

    constructor(uint256 deployDelay_) Flow(deployDelay_) {}

    /// @inheritdoc Flow
    function _beforeSubmit(uint256 sectors) internal virtual override {
        address payable market_ = market();
        uint256 price = IMarket(market_).pricePerSector();
        uint256 fee = sectors * price;
        uint256 paid = address(this).balance;
        if (paid < fee) revert NotEnoughFee(price, sectors, paid);
        if (fee == 0) return;
        // The stipend of 2300 gas is enough for a market, and leaves it no way to call back.
        (bool taken, ) = market_.call{value: fee, gas: 0}("");
        if (!taken) revert FeeRefused(market_, fee);
    }
}
