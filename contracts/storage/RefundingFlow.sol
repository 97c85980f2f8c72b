// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {FixedPriceFlow} from "./FixedPriceFlow.sol";

/// @title The flow with a price per sector that gives change
/// @notice Same interface and events as {FixedPriceFlow}; what a caller sent beyond the fees of the call is sent back.
/// @dev The first submission after the end of an epoch pays the gas of opening the next. Who estimates gas some blocks
/// earlier cannot see that, and with short epochs such transactions would often run out. So a simulation shortly before
/// the end asks for {EPOCH_GAS} more, which the transaction then uses if need be.
contract RefundingFlow is FixedPriceFlow {
    /// @notice Gas that opening an epoch needs at most.
    uint256 public constant EPOCH_GAS = 220_000;
    /// Blocks between an estimate and its transaction.
    uint256 private constant FORESIGHT = 4;

    /// @notice The gas limit has no room for opening an epoch.
    error GasReserveTooLow(uint256 left, uint256 reserve);

    constructor(uint256 deployDelay_) FixedPriceFlow(deployDelay_) {}

    /// @dev Balance before the call: ether that was forced upon the contract is nobody's change.
    function _before() internal override returns (uint256) {
        return address(this).balance - msg.value;
    }

    /// @dev Last action of the call. A contract that takes no ether leaves its change here, where it pays for the next
    /// submission as in {FixedPriceFlow}: refusing it would break callers that work elsewhere.
    function _after(uint256 before) internal override {
        // Only a simulation has no gas price.
        if (tx.gasprice == 0 && gasleft() < EPOCH_GAS && _epochsDue(block.number + FORESIGHT) != 0) {
            revert GasReserveTooLow(gasleft(), EPOCH_GAS);
        }
        uint256 balance = address(this).balance;
        if (balance <= before) return;
        (bool taken, ) = msg.sender.call{value: balance - before}("");
        taken;
    }
}
