// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {InferenceReceipt, Tier} from "../inference/InferenceTypes.sol";
import {ProvenConsumer} from "../inference/ProvenConsumer.sol";

/// @title Urgency of reports, decided inside attested hardware
/// @notice An example of tier TEE, without the gate: whoever has a report asks a provider off chain and brings the
/// receipt. It counts at once, because the signer's key was admitted by a quote and its attestation has not run out.
contract Triage is ProvenConsumer {
    /// @notice Model and sampling parameters whose answers count.
    bytes32 public immutable modelId;
    bytes32 public immutable paramsHash;
    /// @notice Answer to a report; empty before.
    mapping(bytes32 reportHash => string answer) public answerOf;

    event Sorted(bytes32 indexed reportHash, string answer);

    error AnotherModel(bytes32 modelId);
    error OtherParams(bytes32 paramsHash);

    constructor(bytes32 modelId_, bytes32 paramsHash_) {
        modelId = modelId_;
        paramsHash = paramsHash_;
    }

    /// @notice Takes an answer whose receipt names this contract as its requester. Only the report's hash becomes public.
    function sort(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        bytes calldata output
    ) external onlyProven(receipt, signature, output, Tier.TEE) {
        if (receipt.modelId != modelId) revert AnotherModel(receipt.modelId);
        if (receipt.paramsHash != paramsHash) revert OtherParams(receipt.paramsHash);
        answerOf[receipt.inputHash] = string(output);
        emit Sorted(receipt.inputHash, string(output));
    }
}
