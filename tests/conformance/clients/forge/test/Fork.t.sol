// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {Probe} from "../src/Probe.sol";

interface Vm {
    function envAddress(string calldata name) external returns (address);
    function prank(address sender) external;
    function deal(address who, uint256 amount) external;
    function roll(uint256 number) external;
}

/// Runs on a fork of the node (`forge test --fork-url`).
contract ForkTest {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function test_reads_the_state_of_the_node() external {
        Probe probe = Probe(payable(vm.envAddress("PROBE")));
        require(probe.value() == 41, "value set through the script");
        (, , uint256 chain, ) = probe.context();
        require(chain == block.chainid, "chain id");
    }

    function test_writes_stay_in_the_fork() external {
        Probe probe = Probe(payable(vm.envAddress("PROBE")));
        vm.prank(address(0xBEEF));
        probe.set(99, "in the fork");
        require(probe.value() == 99, "value in the fork");
    }
}
