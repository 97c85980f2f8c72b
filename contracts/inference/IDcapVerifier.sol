// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Verifier of quotes: precompile 0x…0A11
interface IDcapVerifier {
    /// @notice Verifies a quote at the block's time.
    function verifyDcap(
        bytes calldata quote,
        bytes calldata collateral
    ) external view returns (uint8 status, bytes32 mrtd, bytes memory reportData);

    /// @notice The same, with the Unix second in which the first part of the collateral expires.
    function verifyDcapWithExpiry(
        bytes calldata quote,
        bytes calldata collateral
    ) external view returns (uint8 status, bytes32 mrtd, bytes memory reportData, uint64 expires);
}
