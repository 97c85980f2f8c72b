// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title Reasons for which the registry refuses a receipt
/// @notice Inherited by whatever lets them through, so that every ABI can decode them. The `PoI` errors are fixed by the
/// protocol and checked in this order; the first failing one is reported.
interface IProofOfInferenceErrors {
    /// @notice Not a well-formed signature of the provider's registered signer.
    error PoIBadSignature();
    /// @notice The model is not registered.
    error PoIUnknownModel();
    /// @notice The provider is not active, or does not run this engine.
    error PoIProviderInactive();
    /// @notice The provider holds less than the least stake.
    error PoIUnderStaked();
    /// @notice The deadline has passed.
    error PoIExpired();
    /// @notice The request id was used before.
    error PoIReplayed();
    /// @notice The tier is below the one asked for, or no provider can claim it.
    error PoITierTooLow();
    /// @notice Only the requester named in a receipt can use it up.
    error NotRequester(address caller, address requester);
    /// @notice Only the gate that took the request can use up its receipt.
    error ReservedForGate(bytes32 requestId, address gate);
}
