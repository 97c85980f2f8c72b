// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IInferenceConsumer} from "../inference/IInferenceConsumer.sol";
import {InferenceGate} from "../inference/InferenceGate.sol";
import {SamplingParams, Tier} from "../inference/InferenceTypes.sol";
import {ProvenConsumer} from "../inference/ProvenConsumer.sol";

/// @title A desk that lends by the word of a classifier
/// @notice Pays a loan only when the classifier puts the applicant into class {GRANTED}, and only on evidence that needs
/// no trust in the provider: a zero-knowledge proof (tier ZK) or evaluation by the chain itself (tier NATIVE).
/// @dev An example, not a product. Tier and form of the output belong together and are fixed at deployment: circuits
/// answer with fixed-point scores, native classifiers with label and scores.
contract LoanDesk is ProvenConsumer, IInferenceConsumer {
    /// @notice An application.
    /// @param applicant Who receives the loan.
    /// @param amount Wei.
    /// @param decided Whether the answer has come.
    /// @param granted Whether it was paid.
    struct Application {
        address payable applicant;
        uint256 amount;
        bool decided;
        bool granted;
    }

    /// @notice Class of applicants who get a loan.
    uint256 public constant GRANTED = 1;
    /// @notice Gas that the gate gives to {onInference}.
    uint64 public constant CALLBACK_GAS = 150_000;
    /// @dev Field elements above this stand for negative numbers.
    uint256 private constant HALF_FIELD =
        10944121435919637611123202872628637544274182200208017171849102093287904247808;

    /// @notice Model whose answers count.
    bytes32 public immutable modelId;
    /// @notice Least tier: ZK or NATIVE.
    uint8 public immutable minTier;

    /// @notice Applications by request.
    mapping(bytes32 requestId => Application application) public applications;

    event LoanAsked(bytes32 indexed requestId, address indexed applicant, uint256 amount);
    event LoanDecided(bytes32 indexed requestId, bool granted, uint256 label);

    error TierTooWeak(uint8 tier);
    error RequestUnknown(bytes32 requestId);
    error AlreadyDecided(bytes32 requestId);
    error NoScores();

    /// @param modelId_ Model whose answers count.
    /// @param minTier_ ZK or NATIVE.
    constructor(bytes32 modelId_, uint8 minTier_) payable {
        if (minTier_ < Tier.ZK) revert TierTooWeak(minTier_);
        modelId = modelId_;
        minTier = minTier_;
    }

    /// @notice Money to lend, and fees that the gate gives back.
    receive() external payable {}

    /// @notice Applies for a loan; the value sent is the provider's fee.
    /// @param amount Wei.
    /// @param features Input of the model, encoded as the model takes it.
    function applyForLoan(uint256 amount, bytes calldata features) external payable returns (bytes32 requestId) {
        // A classifier has no tokens to choose: neutral parameters.
        SamplingParams memory params = SamplingParams(1, 0, 1000, 0, 1000, 0, bytes32(0), 0);
        requestId = InferenceGate(inferenceGate()).requestInference{value: msg.value}(
            modelId,
            features,
            params,
            minTier,
            CALLBACK_GAS
        );
        applications[requestId] = Application(payable(msg.sender), amount, false, false);
        emit LoanAsked(requestId, msg.sender, amount);
    }

    /// @inheritdoc IInferenceConsumer
    /// @dev Reverts when the desk cannot pay: the gate then keeps the answer for another try.
    function onInference(bytes32 requestId, bytes calldata output, uint8) external onlyGate {
        Application storage application = applications[requestId];
        if (application.applicant == address(0)) revert RequestUnknown(requestId);
        if (application.decided) revert AlreadyDecided(requestId);
        uint256 label = minTier == Tier.ZK ? _highest(output) : abi.decode(output, (uint256));
        bool granted = label == GRANTED;
        application.decided = true;
        application.granted = granted;
        emit LoanDecided(requestId, granted, label);
        if (granted) Address.sendValue(application.applicant, application.amount);
    }

    /// @dev Class with the highest score; the lowest such class when several have it.
    function _highest(bytes calldata output) private pure returns (uint256 label) {
        uint256[] memory scores = abi.decode(output, (uint256[]));
        if (scores.length == 0) revert NoScores();
        for (uint256 i = 1; i < scores.length; ++i) {
            if (_signed(scores[i]) > _signed(scores[label])) label = i;
        }
    }

    /// @dev The number that a field element stands for.
    function _signed(uint256 element) private pure returns (int256) {
        return element > HALF_FIELD ? int256(element) - int256(2 * HALF_FIELD + 1) : int256(element);
    }
}
