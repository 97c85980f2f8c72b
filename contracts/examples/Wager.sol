// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IInferenceConsumer} from "../inference/IInferenceConsumer.sol";
import {InferenceGate} from "../inference/InferenceGate.sol";
import {SamplingParams, Tier} from "../inference/InferenceTypes.sol";
import {ProvenConsumer} from "../inference/ProvenConsumer.sol";

/// @title A wager of two people on what a model answers
/// @notice An example of tier AUDITED: money moves only after drawn verifiers have repeated the computation.
/// @dev Winnings are credits, so that neither party can stop the callback. An answer that never becomes AUDITED gives
/// both their stakes back.
contract Wager is ProvenConsumer, IInferenceConsumer {
    /// @notice Gas that the gate gives to {onInference}.
    uint64 public constant CALLBACK_GAS = 150_000;

    /// @notice Who bets on an answer that begins with "Yes", and who on any other.
    address public immutable optimist;
    address public immutable sceptic;
    /// @notice Wei that each puts down.
    uint256 public immutable stake;
    /// @notice The request; zero before both have paid.
    bytes32 public requestId;
    /// @notice Whether the wager is over.
    bool public settled;
    /// @notice Wei that an account can take.
    mapping(address account => uint256 amount) public creditOf;

    event Settled(bool yes, bytes output);

    error AlreadyAsked();
    error StakeMismatch(uint256 given, uint256 required);
    error RequestUnknown(bytes32 requestId);
    error NotRefunded();
    error NothingToTake(address account);

    constructor(address optimist_, address sceptic_, uint256 stake_) {
        optimist = optimist_;
        sceptic = sceptic_;
        stake = stake_;
    }

    /// @notice Puts down both stakes and asks; what is sent beyond them is the fee.
    function ask(bytes32 modelId, bytes calldata question, SamplingParams calldata params) external payable {
        if (requestId != bytes32(0)) revert AlreadyAsked();
        if (msg.value < 2 * stake) revert StakeMismatch(msg.value, 2 * stake);
        requestId = InferenceGate(inferenceGate()).requestInference{value: msg.value - 2 * stake}(
            modelId,
            question,
            params,
            Tier.AUDITED,
            CALLBACK_GAS
        );
    }

    /// @inheritdoc IInferenceConsumer
    function onInference(bytes32 answered, bytes calldata output, uint8) external onlyGate {
        if (answered != requestId || settled) revert RequestUnknown(answered);
        settled = true;
        bool yes = output.length >= 3 && bytes3(output[:3]) == "Yes";
        creditOf[yes ? optimist : sceptic] = 2 * stake;
        emit Settled(yes, output);
    }

    /// @notice Ends a wager whose request the gate has refunded.
    function callOff() external {
        InferenceGate.Request memory request = InferenceGate(inferenceGate()).requestOf(requestId);
        if (settled || request.state != InferenceGate.State.Refunded) revert NotRefunded();
        settled = true;
        creditOf[optimist] += stake;
        creditOf[sceptic] += stake;
    }

    /// @notice Pays `account` what it won. Anybody may call.
    function take(address payable account) external {
        uint256 amount = creditOf[account];
        if (amount == 0) revert NothingToTake(account);
        creditOf[account] = 0;
        Address.sendValue(account, amount);
    }
}
