// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Predeploys} from "../Predeploys.sol";
import {IInferenceRegistry} from "./IInferenceRegistry.sol";
import {IProofOfInferenceErrors} from "./IProofOfInferenceErrors.sol";
import {InferenceReceipt} from "./InferenceTypes.sol";

/// @title Base of contracts that act on AI outputs
/// @notice {onlyProven} lets a function run only with an output that a staked provider has signed for this very
/// contract and that was not used before. {onlyGate} guards the callback of the gate.
/// @dev A receipt proves that the output belongs to `receipt.inputHash`, `modelId` and `paramsHash`. The function must
/// still compare these with what it asked: a genuine answer to another question is no answer.
abstract contract ProvenConsumer is IProofOfInferenceErrors {
    /// @notice Only the gate may call.
    error NotGate(address caller);
    /// @notice The output is not the one that the receipt commits to.
    error OutputNotReceipted(bytes32 expected, bytes32 given);

    /// @dev Verifies and uses up `receipt`, reverting with the registry's `PoI` errors.
    modifier onlyProven(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        bytes calldata output,
        uint8 minTier
    ) {
        _useProven(receipt, signature, output, minTier);
        _;
    }

    /// @dev Refuses callers other than the gate.
    modifier onlyGate() {
        if (msg.sender != inferenceGate()) revert NotGate(msg.sender);
        _;
    }

    /// @notice Registry that verifies receipts.
    function inferenceRegistry() public view virtual returns (address) {
        return Predeploys.INFERENCE_REGISTRY;
    }

    /// @notice Gate that calls back.
    function inferenceGate() public view virtual returns (address) {
        return Predeploys.INFERENCE_GATE;
    }

    function _useProven(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        bytes calldata output,
        uint8 minTier
    ) private {
        IInferenceRegistry(inferenceRegistry()).consume(receipt, signature, minTier);
        bytes32 outputHash = keccak256(output);
        if (outputHash != receipt.outputHash) revert OutputNotReceipted(receipt.outputHash, outputHash);
    }
}
