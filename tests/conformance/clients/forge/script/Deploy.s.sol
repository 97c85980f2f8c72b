// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {Probe} from "../src/Probe.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Several transactions of one sender in one go (nonces ahead of the chain).
contract Deploy {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external {
        vm.startBroadcast();
        Probe probe = new Probe(1);
        probe.set(40, "script");
        probe.raise(41);
        vm.stopBroadcast();
    }
}
