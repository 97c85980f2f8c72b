// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Judge of TEE quotes
interface ITeeAttestation {
    /// @notice Admits a signer whose key a verified quote of an allowed image reports; reverts for any other.
    /// @param provider Provider that registers the signer.
    /// @param signer Key that the quote must report.
    /// @param quote TDX or SGX quote.
    /// @param collateral Collateral that proves the quote.
    /// @return until Unix seconds of the last moment at which the admission counts.
    /// @return mock Whether the quote hangs on a certificate that only a devnet trusts.
    function admit(
        address provider,
        address signer,
        bytes calldata quote,
        bytes calldata collateral
    ) external returns (uint64 until, bool mock);
}
