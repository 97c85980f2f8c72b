// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IInferenceConsumer} from "../inference/IInferenceConsumer.sol";
import {InferenceGate} from "../inference/InferenceGate.sol";
import {InferenceReceipt, SamplingParams} from "../inference/InferenceTypes.sol";
import {ProvenConsumer} from "../inference/ProvenConsumer.sol";

/// @dev A consumer that misbehaves on demand.
contract ConsumerMock is ProvenConsumer, IInferenceConsumer {
    enum Mode {
        Accept,
        Revert,
        RevertHuge,
        BurnGas,
        Reenter,
        AskAgain
    }

    Mode public mode;
    bytes32 public lastRequestId;
    bytes public lastOutput;
    uint8 public lastTier;
    uint256 public gasSeen;
    bytes public reentryResult;
    bytes private _reentry;

    error Refused(bytes32 requestId);
    /// @dev The registry names it; here for who reads it from this contract.
    error ReceiptIsCondemned(bytes32 receiptHash);

    function setMode(Mode newMode) external {
        mode = newMode;
    }

    function setReentry(bytes calldata data) external {
        _reentry = data;
    }

    function ask(
        bytes32 modelId,
        bytes calldata input,
        SamplingParams calldata params,
        uint8 minTier,
        uint64 gasLimit
    ) external payable returns (bytes32) {
        return
            InferenceGate(inferenceGate()).requestInference{value: msg.value}(
                modelId,
                input,
                params,
                minTier,
                gasLimit
            );
    }

    function use(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        bytes calldata output,
        uint8 minTier
    ) external onlyProven(receipt, signature, output, minTier) {
        lastRequestId = receipt.requestId;
        lastOutput = output;
    }

    function onInference(bytes32 requestId, bytes calldata output, uint8 tier) external onlyGate {
        gasSeen = gasleft();
        if (mode == Mode.Revert) revert Refused(requestId);
        if (mode == Mode.RevertHuge) {
            assembly {
                revert(0, 100000)
            }
        }
        if (mode == Mode.BurnGas) {
            while (true) {}
        }
        if (mode == Mode.Reenter) {
            (, reentryResult) = inferenceGate().call(_reentry);
        }
        if (mode == Mode.AskAgain) {
            SamplingParams memory params = SamplingParams(1, 0, 1000, 0, 1000, 0, bytes32(0), 0);
            bytes32 model = InferenceGate(inferenceGate()).requestOf(requestId).modelId;
            lastRequestId = InferenceGate(inferenceGate()).requestInference(model, "again", params, 0, 0);
            return;
        }
        lastRequestId = requestId;
        lastOutput = output;
        lastTier = tier;
    }
}
