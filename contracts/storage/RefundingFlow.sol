// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {FixedPriceFlow} from "./FixedPriceFlow.sol";

/// @title The flow with a price per sector that gives change
/// @notice Same interface and events as {FixedPriceFlow}; what a caller sent beyond the fees of the call is sent back.
/// @dev What a submission costs depends on those that come before it in the block, and the first one after the end of
/// an epoch opens the next. An estimate cannot foresee either, and with short epochs and many senders such transactions
/// would often run out of gas. So every submission asks for {SUBMISSION_GAS} to be left when it begins: estimates then
/// contain it, what is not needed is not charged, and the outcome no longer depends on the order of transactions.
contract RefundingFlow is FixedPriceFlow {
    /// @notice Gas that a submission needs at most, opening an epoch included.
    uint256 public constant SUBMISSION_GAS = 480_000;

    /// @notice The gas limit is too low for the dearest outcome.
    error GasReserveTooLow(uint256 left, uint256 reserve);

    constructor(uint256 deployDelay_) FixedPriceFlow(deployDelay_) {}

    /// @inheritdoc FixedPriceFlow
    function _beforeSubmit(uint256 sectors) internal override {
        super._beforeSubmit(sectors);
        if (gasleft() < SUBMISSION_GAS) revert GasReserveTooLow(gasleft(), SUBMISSION_GAS);
    }

    /// @dev Balance before the call: ether that was forced upon the contract is nobody's change.
    function _before() internal override returns (uint256) {
        return address(this).balance - msg.value;
    }

    /// @dev Last action of the call. A contract that takes no ether leaves its change here, where it pays for the next
    /// submission as in {FixedPriceFlow}: refusing it would break callers that work elsewhere.
    function _after(uint256 before) internal override {
        uint256 balance = address(this).balance;
        if (balance <= before) return;
        (bool taken, ) = msg.sender.call{value: balance - before}("");
        taken;
    }
}
