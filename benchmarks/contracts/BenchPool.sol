// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// @title A constant-product pool in which every swap meets every other: the same two slots.
contract BenchPool {
    event Swap(address indexed trader, uint256 amountIn, uint256 amountOut, bool zeroForOne);

    uint128 public reserve0 = 1e30;
    uint128 public reserve1 = 1e30;
    uint256 public product = 1e60;
    mapping(address => int256) public position;

    function swap(uint256 amountIn, bool zeroForOne) external returns (uint256 amountOut) {
        (uint256 x, uint256 y) = zeroForOne ? (reserve0, reserve1) : (reserve1, reserve0);
        uint256 next = x + amountIn;
        amountOut = y - product / next;
        y -= amountOut;
        (reserve0, reserve1) = zeroForOne ? (uint128(next), uint128(y)) : (uint128(y), uint128(next));
        product = next * y;
        position[msg.sender] += zeroForOne ? int256(amountOut) : -int256(amountIn);
        emit Swap(msg.sender, amountIn, amountOut, zeroForOne);
    }
}
