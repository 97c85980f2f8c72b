// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Fixed addresses of zerog's contracts, the same on every profile
library Predeploys {
    address internal constant VALIDATION_REGISTRY = 0x0000000000000000000000000000000000007000;
    address internal constant INFERENCE_REGISTRY = 0x0000000000000000000000000000000000007001;
    address internal constant INFERENCE_GATE = 0x0000000000000000000000000000000000007002;
    address internal constant STORAGE_FLOW = 0x0000000000000000000000000000000000007100;
    address internal constant STORAGE_MARKET = 0x0000000000000000000000000000000000007101;
    address internal constant STORAGE_REWARD = 0x0000000000000000000000000000000000007102;
    address internal constant PORA_MINE = 0x0000000000000000000000000000000000007103;
}
