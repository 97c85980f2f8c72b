// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IInferenceConsumer} from "../inference/IInferenceConsumer.sol";
import {InferenceGate} from "../inference/InferenceGate.sol";
import {SamplingParams, Tier} from "../inference/InferenceTypes.sol";
import {ProvenConsumer} from "../inference/ProvenConsumer.sol";

/// @title Summaries of texts, good enough when nobody objects
/// @notice An example of tier OPTIMISTIC: the answer counts once its window has passed without a dispute.
contract Summaries is ProvenConsumer, IInferenceConsumer {
    /// @notice Gas that the gate gives to {onInference}.
    uint64 public constant CALLBACK_GAS = 300_000;

    /// @notice keccak256 of the text of a request; zero for one of somebody else.
    mapping(bytes32 requestId => bytes32 textHash) public textOf;
    /// @notice Summary of a text; empty until its window has passed.
    mapping(bytes32 textHash => string summary) public summaryOf;

    error RequestUnknown(bytes32 requestId);

    /// @notice Asks for a summary; the value sent is the provider's fee.
    function ask(
        bytes32 modelId,
        string calldata text,
        SamplingParams calldata params
    ) external payable returns (bytes32 requestId) {
        InferenceGate gate = InferenceGate(inferenceGate());
        bytes memory prompt = abi.encodePacked("Summarise in one sentence: ", text);
        requestId = gate.requestInference{value: msg.value}(modelId, prompt, params, Tier.OPTIMISTIC, CALLBACK_GAS);
        textOf[requestId] = keccak256(bytes(text));
    }

    /// @inheritdoc IInferenceConsumer
    function onInference(bytes32 requestId, bytes calldata output, uint8) external onlyGate {
        bytes32 textHash = textOf[requestId];
        if (textHash == bytes32(0)) revert RequestUnknown(requestId);
        summaryOf[textHash] = string(output);
    }
}
