// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// @title A contract with one of everything that a client decodes.
contract Probe {
    /// @notice A value below the stored one was offered.
    error TooLow(uint256 offered, uint256 stored);

    event Changed(address indexed by, uint256 indexed value, string note);

    uint256 public value;
    mapping(address => uint256) public paid;

    constructor(uint256 initial) payable {
        value = initial;
    }

    receive() external payable {
        paid[msg.sender] += msg.value;
    }

    function set(uint256 next, string calldata note) external {
        value = next;
        emit Changed(msg.sender, next, note);
    }

    function raise(uint256 next) external {
        if (next < value) revert TooLow(next, value);
        value = next;
    }

    function refuse() external pure {
        require(false, "refused on purpose");
    }

    function overflow(uint8 by) external pure returns (uint8) {
        return 255 + by;
    }

    function context() external view returns (uint256 number, uint256 time, uint256 chain, address sender) {
        return (block.number, block.timestamp, block.chainid, msg.sender);
    }
}
