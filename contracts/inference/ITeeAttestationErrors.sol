// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Reasons for which a quote admits no signer
/// @notice Inherited by whatever lets them through, so that every ABI can decode them.
interface ITeeAttestationErrors {
    /// @notice The quote, its chain of trust or its collateral is invalid at the block's time; from the precompile.
    error DcapInvalid(string reason);
    /// @notice This chain has no verifier of quotes.
    error DcapUnavailable();
    /// @notice The chain of trust ends in the mock root, which this chain does not accept.
    error MockRefused();
    /// @notice The platform's status is not accepted; numbers as in docs/attestation.md.
    error StatusRefused(uint8 status);
    /// @notice The image is not on the allow-list.
    error MeasurementRefused(bytes32 measurement);
    /// @notice The quote was made for another signer.
    error BoundToAnother(address signer, bytes reportData);
}
