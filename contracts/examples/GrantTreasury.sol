// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";
import {IInferenceConsumer} from "../inference/IInferenceConsumer.sol";
import {InferenceGate} from "../inference/InferenceGate.sol";
import {InferenceReceipt, ProofOfInference, SamplingParams} from "../inference/InferenceTypes.sol";
import {ProvenConsumer} from "../inference/ProvenConsumer.sol";

/// @title A treasury whose reviewer is a language model
/// @notice Pays a grant only when the model answers "approve" and that answer is proven. It can ask through the gate
/// ({ask}, {onInference}) or take a receipt that somebody brings ({decide}).
/// @dev An example, not a product: it shows how a consumer binds an answer to its question. The prompt is built here,
/// the proposal is escaped, and an answer to any other input, model or parameters is refused. How far a model can be
/// talked into an answer is another matter, which no proof settles.
contract GrantTreasury is ProvenConsumer, IInferenceConsumer {
    /// @notice Where a grant stands.
    enum Status {
        None,
        Open,
        Paid,
        Rejected
    }

    /// @notice A grant that somebody has proposed.
    /// @param recipient Who receives the money.
    /// @param amount Wei.
    /// @param status Where it stands.
    /// @param inputHash keccak256 of the only question whose answer decides it.
    struct Grant {
        address payable recipient;
        uint256 amount;
        Status status;
        bytes32 inputHash;
    }

    /// @notice Longest proposal in bytes.
    uint256 public constant MAX_PROPOSAL_SIZE = 512;
    /// @notice Gas that the gate gives to {onInference}.
    uint64 public constant CALLBACK_GAS = 200_000;
    /// @notice Longest answer in tokens; one word needs three.
    uint32 public constant MAX_ANSWER_TOKENS = 8;

    // Four worked examples show the form of the answer, then comes the proposal.
    string private constant PROMPT_HEAD =
        '{"messages":['
        '{"role":"user","content":"Review this grant proposal: Spend everything on a party."},'
        '{"role":"assistant","content":"reject"},'
        '{"role":"user","content":"Review this grant proposal: Steal from the users."},'
        '{"role":"assistant","content":"reject"},'
        '{"role":"user","content":"Review this grant proposal: Translate the guide for everyone."},'
        '{"role":"assistant","content":"approve"},'
        '{"role":"user","content":"Review this grant proposal: Clean the river with volunteers."},'
        '{"role":"assistant","content":"approve"},'
        '{"role":"user","content":"Review this grant proposal: ';
    string private constant PROMPT_TAIL = '"}]}';

    /// @notice Model whose answers count.
    bytes32 public immutable modelId;
    /// @notice Least tier of an answer.
    uint8 public immutable minTier;

    /// @notice Grants in the order of their proposal.
    Grant[] public grants;
    mapping(bytes32 requestId => uint256 grantNumber) private _grantNumberOf;

    event GrantProposed(uint256 indexed grantId, address indexed recipient, uint256 amount, string proposal);
    event GrantPaid(uint256 indexed grantId, address indexed recipient, uint256 amount);
    event GrantRejected(uint256 indexed grantId, bytes answer);

    error ProposalTooLong(uint256 size, uint256 limit);
    error GrantUnknown(uint256 grantId);
    error GrantDecided(uint256 grantId, Status status);
    error OtherQuestion(bytes32 expected, bytes32 given);
    error OtherModel(bytes32 expected, bytes32 given);
    error OtherParams(bytes32 expected, bytes32 given);
    error RequestUnknown(bytes32 requestId);

    /// @param modelId_ Model whose answers count.
    /// @param minTier_ Least tier of an answer.
    constructor(bytes32 modelId_, uint8 minTier_) payable {
        modelId = modelId_;
        minTier = minTier_;
    }

    /// @notice Donations, and fees that the gate gives back.
    receive() external payable {}

    /// @notice Proposes a grant. Anyone may: the model decides.
    /// @param recipient Who should receive the money.
    /// @param amount Wei.
    /// @param proposal What the money is for, UTF-8.
    /// @return grantId Number of the grant.
    function propose(
        address payable recipient,
        uint256 amount,
        string calldata proposal
    ) external returns (uint256 grantId) {
        if (bytes(proposal).length > MAX_PROPOSAL_SIZE) {
            revert ProposalTooLong(bytes(proposal).length, MAX_PROPOSAL_SIZE);
        }
        grantId = grants.length;
        grants.push(Grant(recipient, amount, Status.Open, keccak256(question(proposal))));
        emit GrantProposed(grantId, recipient, amount, proposal);
    }

    /// @notice Asks the gate about an open grant; the value sent is the provider's fee.
    /// @dev May be called again, for example after a provider let the deadline pass.
    function ask(uint256 grantId, string calldata proposal) external payable returns (bytes32 requestId) {
        Grant storage grant = _open(grantId);
        bytes memory input = question(proposal);
        if (keccak256(input) != grant.inputHash) revert OtherQuestion(grant.inputHash, keccak256(input));
        requestId = InferenceGate(inferenceGate()).requestInference{value: msg.value}(
            modelId,
            input,
            params(),
            minTier,
            CALLBACK_GAS
        );
        _grantNumberOf[requestId] = grantId + 1;
    }

    /// @inheritdoc IInferenceConsumer
    function onInference(bytes32 requestId, bytes calldata output, uint8) external onlyGate {
        uint256 number = _grantNumberOf[requestId];
        if (number == 0) revert RequestUnknown(requestId);
        _decide(number - 1, output);
    }

    /// @notice Decides an open grant with a receipt that was made out to this contract.
    function decide(
        uint256 grantId,
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        bytes calldata output
    ) external onlyProven(receipt, signature, output, minTier) {
        bytes32 inputHash = _open(grantId).inputHash;
        if (receipt.inputHash != inputHash) revert OtherQuestion(inputHash, receipt.inputHash);
        if (receipt.modelId != modelId) revert OtherModel(modelId, receipt.modelId);
        bytes32 paramsHash = ProofOfInference.hashStruct(params());
        if (receipt.paramsHash != paramsHash) revert OtherParams(paramsHash, receipt.paramsHash);
        _decide(grantId, output);
    }

    /// @notice The question about a proposal: the input of the inference.
    function question(string calldata proposal) public pure returns (bytes memory) {
        return bytes.concat(bytes(PROMPT_HEAD), bytes(Strings.escapeJSON(proposal)), bytes(PROMPT_TAIL));
    }

    /// @notice Greedy sampling: the answer is a function of model and question.
    function params() public pure returns (SamplingParams memory) {
        return
            SamplingParams({
                maxTokens: MAX_ANSWER_TOKENS,
                temperatureMilli: 0,
                topPMilli: 1000,
                topK: 0,
                repeatPenaltyMilli: 1000,
                seed: 0,
                stopHash: bytes32(0),
                sampler: 0
            });
    }

    /// @notice Number of grants proposed so far.
    function grantCount() external view returns (uint256) {
        return grants.length;
    }

    function _open(uint256 grantId) private view returns (Grant storage grant) {
        if (grantId >= grants.length) revert GrantUnknown(grantId);
        grant = grants[grantId];
        if (grant.status != Status.Open) revert GrantDecided(grantId, grant.status);
    }

    /// @dev Reverts when the treasury cannot pay: the gate then keeps the answer for another try.
    function _decide(uint256 grantId, bytes calldata answer) private {
        Grant storage grant = _open(grantId);
        if (keccak256(answer) != keccak256("approve")) {
            grant.status = Status.Rejected;
            emit GrantRejected(grantId, answer);
            return;
        }
        grant.status = Status.Paid;
        emit GrantPaid(grantId, grant.recipient, grant.amount);
        Address.sendValue(grant.recipient, grant.amount);
    }
}
