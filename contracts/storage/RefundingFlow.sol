// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {FixedPriceFlow} from "./FixedPriceFlow.sol";

/// @title The flow with a price per sector that gives change
/// @notice Same interface and events as {FixedPriceFlow}; what a caller sent beyond the fees of the call is sent back.
contract RefundingFlow is FixedPriceFlow {
    constructor(uint256 deployDelay_) FixedPriceFlow(deployDelay_) {}

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
