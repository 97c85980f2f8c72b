// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title A contract that asks the gate and receives proven outputs
interface IInferenceConsumer {
    /// @notice Called by the gate with an output whose receipt it has verified.
    /// @param requestId Identifier that `requestInference` returned.
    /// @param output Output bytes; their hash is in the receipt.
    /// @param tier Tier that the output has reached; at least the one asked for.
    function onInference(bytes32 requestId, bytes calldata output, uint8 tier) external;
}
