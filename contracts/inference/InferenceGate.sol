// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {Predeploys} from "../Predeploys.sol";
import {IInferenceAudit} from "./IInferenceAudit.sol";
import {IInferenceConsumer} from "./IInferenceConsumer.sol";
import {IInferenceGate} from "./IInferenceGate.sol";
import {IInferenceRegistry} from "./IInferenceRegistry.sol";
import {IProofOfInferenceErrors} from "./IProofOfInferenceErrors.sol";
import {
    AuditState,
    InferenceReceipt,
    ProofOfInference,
    SamplingParams,
    Tier
} from "./InferenceTypes.sol";

/// @title Gate between contracts and AI: request, proven answer, callback
/// @notice A contract asks with {requestInference}; a provider answers with {fulfill}; the gate hands the output to the
/// contract only after the registry has verified the signed receipt and the tier is at least the one asked for. An
/// output of a lower tier waits until its window has passed or verifiers have confirmed it. Without an answer by the
/// deadline the fee goes back and the assigned provider leaves the queue.
/// @dev Predeploy without constructor: administrator and parameters are genesis storage. All payments are credits
/// that {withdraw} pays out; a consumer can therefore block neither its provider nor anybody else.
contract InferenceGate is IInferenceGate, IProofOfInferenceErrors, AccessControl, Nonces, ReentrancyGuardTransient {
    using EnumerableSet for EnumerableSet.AddressSet;

    /// @notice Life of a request.
    enum State {
        None,
        Open,
        Parked,
        Delivered,
        CallbackFailed,
        Disputed,
        Refunded
    }

    /// @notice A request.
    /// @param requester Contract or account that asked.
    /// @param deadline Unix seconds until which it can be fulfilled.
    /// @param minTier Least tier for the callback.
    /// @param state Where the request stands.
    /// @param tier Tier reached; meaningful from `Parked` on.
    /// @param provider Assigned provider, from fulfilment on the one that answered; zero: anybody may answer.
    /// @param gasLimit Gas of the callback.
    /// @param fee Wei for the provider; the audit's share is in it unless it was paid out before delivery.
    /// @param modelId Model asked for.
    /// @param inputHash keccak256 of the input; zero once answered, the receipt commits to it.
    /// @param paramsHash Struct hash of the sampling parameters.
    /// @param receiptHash Receipt that answered; zero before.
    struct Request {
        address requester;
        uint64 deadline;
        uint8 minTier;
        State state;
        uint8 tier;
        address provider;
        uint64 gasLimit;
        uint256 fee;
        bytes32 modelId;
        bytes32 inputHash;
        bytes32 paramsHash;
        bytes32 receiptHash;
    }

    /// @dev A request in five words. `commitment` is the input's hash until the answer, then the receipt's.
    struct Stored {
        address requester;
        uint96 fee;
        address provider;
        uint40 deadline;
        uint24 gasLimit;
        uint8 minTier;
        State state;
        uint8 tier;
        bool sharePaid;
        bytes32 modelId;
        bytes32 commitment;
        bytes32 paramsHash;
    }

    /// @notice Tunable numbers.
    /// @param requestTimeout Seconds from request to deadline.
    /// @param auditWindow Blocks in which a parked output can be objected to.
    /// @param maxCallbackGas Largest gas of a callback.
    /// @param auditSharePpm Millionths of a fee that pay for audits.
    /// @param auditFee Least fee of a request for AUDITED, in wei.
    struct Parameters {
        uint64 requestTimeout;
        uint64 auditWindow;
        uint64 maxCallbackGas;
        uint32 auditSharePpm;
        uint128 auditFee;
    }

    /// @notice Largest input in bytes.
    uint256 public constant MAX_INPUT_SIZE = 32_768;
    /// @notice Largest output in bytes.
    uint256 public constant MAX_OUTPUT_SIZE = 8_192;
    /// @notice Largest number of generated tokens.
    uint32 public constant MAX_TOKENS = 4_096;
    /// @notice Providers that one request looks at before it is left open to all.
    uint256 public constant MAX_PROBES = 8;
    /// @notice Longest time for an answer, in seconds.
    uint256 internal constant MAX_TIMEOUT = 30 days;
    /// @notice Longest window of objections, in blocks.
    uint256 internal constant MAX_WINDOW = 1_000_000;
    /// @notice Largest share of a fee that pays for audits, in millionths.
    uint256 internal constant MAX_AUDIT_SHARE = 500_000;
    /// @dev Stored tier of a request without an answer.
    uint8 private constant UNANSWERED = type(uint8).max;
    /// @dev Bytes of a revert reason that are kept.
    uint256 private constant MAX_REASON_SIZE = 256;
    /// @dev Gas that must remain after a callback: bookkeeping, and per word of output what storing it costs.
    uint256 private constant RESERVE_GAS = 80_000;
    uint256 private constant RESERVE_GAS_PER_WORD = 23_000;

    uint256 private constant GROSS_SHIFT = 128;
    uint256 private constant OPENED = 1 << 255;

    /// @notice Current parameters.
    Parameters public parameters;
    mapping(bytes32 requestId => Stored request) private _requests;
    mapping(bytes32 requestId => bytes output) private _outputs;
    mapping(bytes32 receiptHash => bytes32 requestId) private _requestOfReceipt;
    mapping(bytes32 modelId => EnumerableSet.AddressSet providers) private _queues;
    mapping(bytes32 modelId => uint256 position) private _cursors;
    /// @dev Low half: wei due in full. High half: fees of which the audit's share is still to be taken. The top bit keeps
    /// a provider's slot from becoming empty, so that every answer costs the same.
    mapping(address account => uint256 credits) private _credits;

    event InferenceRequested(
        bytes32 indexed requestId,
        address indexed requester,
        bytes32 indexed modelId,
        address provider,
        bytes input,
        SamplingParams params,
        uint8 minTier,
        uint64 gasLimit,
        uint64 deadline,
        uint256 fee
    );
    event InferenceFulfilled(
        bytes32 indexed requestId,
        address indexed provider,
        bytes32 indexed receiptHash,
        uint8 tier,
        bytes output
    );
    event InferenceParked(bytes32 indexed requestId, bytes32 indexed receiptHash, uint8 tier, uint8 minTier);
    event InferenceDelivered(bytes32 indexed requestId, bytes32 indexed receiptHash, uint8 tier);
    event CallbackFailed(bytes32 indexed requestId, bytes reason);
    event InferenceDeclined(bytes32 indexed requestId, address indexed provider);
    event InferenceDisputed(bytes32 indexed requestId, bytes32 indexed receiptHash);
    event AuditShareCollected(bytes32 indexed receiptHash, uint256 amount);
    event InferenceRefunded(bytes32 indexed requestId, address indexed requester, uint256 fee);
    event QueueJoined(bytes32 indexed modelId, address indexed provider);
    event QueueLeft(bytes32 indexed modelId, address indexed provider);
    event Withdrawn(address indexed account, uint256 amount);
    event ParametersSet(Parameters parameters);

    error InputTooLarge(uint256 size, uint256 limit);
    error OutputTooLarge(uint256 size, uint256 limit);
    error CallbackGasTooHigh(uint64 gasLimit, uint64 limit);
    error TokensOutOfRange(uint32 maxTokens, uint32 limit);
    error SamplerUnknown(uint8 sampler);
    error GreedyParamsNotNeutral();
    error TierUnknown(uint8 tier);
    error RequestNotOpen(bytes32 requestId, State state);
    error RequesterMismatch(address expected, address given);
    error ProviderMismatch(address expected, address given);
    error ModelMismatch(bytes32 expected, bytes32 given);
    error InputMismatch(bytes32 expected, bytes32 given);
    error ParamsMismatch(bytes32 expected, bytes32 given);
    error OutputMismatch(bytes32 expected, bytes32 given);
    error GasTooLow(uint256 available, uint256 required);
    error NotParked(bytes32 requestId, State state);
    error WindowOpen(uint256 untilBlock);
    error NothingToRetry(bytes32 requestId, State state);
    error RetryFailed(bytes32 requestId, bytes reason);
    error NotRefundable(bytes32 requestId, State state);
    error DeadlineNotPassed(uint64 deadline, uint256 nowSeconds);
    error FeeBelowAuditCost(uint256 given, uint256 required);
    error FeeTooHigh(uint256 given, uint256 limit);
    error AuditOpen(bytes32 receiptHash, AuditState state);
    error AuditInconclusive(bytes32 receiptHash);
    error NotAuditContract(address caller);
    error ParametersOutOfRange();
    error NothingToWithdraw(address account);
    error ProviderNotEligible(address provider);
    error AlreadyQueued(bytes32 modelId, address provider);
    error NotQueued(bytes32 modelId, address provider);

    // ---------------------------------------------------------------- request

    /// @notice Asks for an inference; the value sent is the fee.
    /// @dev Not guarded against reentrancy, so that a callback may ask the next question: it only takes value in and
    /// writes a new request.
    /// @param modelId Registered model.
    /// @param input Request bytes, for language models the UTF-8 prompt.
    /// @param params Sampling parameters; the seed of sampler 1 is replaced by one derived from chain randomness.
    /// @param minTier Least tier at which the callback may run.
    /// @param gasLimit Gas of the callback.
    /// @return requestId Identifier, see {ProofOfInference-requestId}.
    function requestInference(
        bytes32 modelId,
        bytes calldata input,
        SamplingParams calldata params,
        uint8 minTier,
        uint64 gasLimit
    ) external payable returns (bytes32 requestId) {
        _checkModel(modelId);
        if (input.length > MAX_INPUT_SIZE) revert InputTooLarge(input.length, MAX_INPUT_SIZE);
        if (minTier > Tier.NATIVE) revert TierUnknown(minTier);
        if (msg.value > type(uint96).max) revert FeeTooHigh(msg.value, type(uint96).max);
        if (minTier == Tier.AUDITED && msg.value < parameters.auditFee) {
            revert FeeBelowAuditCost(msg.value, parameters.auditFee);
        }
        if (gasLimit > parameters.maxCallbackGas) revert CallbackGasTooHigh(gasLimit, parameters.maxCallbackGas);
        if (params.maxTokens == 0 || params.maxTokens > MAX_TOKENS) {
            revert TokensOutOfRange(params.maxTokens, MAX_TOKENS);
        }
        if (params.sampler > 1) revert SamplerUnknown(params.sampler);
        // Contradicting parameters would only find providers that refuse to answer.
        bool neutral = params.temperatureMilli == 0 &&
            params.topPMilli == 1000 &&
            params.topK == 0 &&
            params.repeatPenaltyMilli == 1000;
        if (params.sampler == 0 && !neutral) revert GreedyParamsNotNeutral();

        requestId = ProofOfInference.requestId(address(this), msg.sender, _useNonce(msg.sender));
        _registry().reserve(requestId, msg.sender);
        SamplingParams memory settled = params;
        if (settled.sampler == 1) settled.seed = ProofOfInference.seed(requestId, bytes32(block.prevrandao));

        Stored storage request = _requests[requestId];
        request.requester = msg.sender;
        request.fee = uint96(msg.value);
        request.deadline = uint40(block.timestamp + parameters.requestTimeout);
        request.minTier = minTier;
        request.state = State.Open;
        request.tier = UNANSWERED;
        request.provider = _nextProvider(modelId);
        request.gasLimit = uint24(gasLimit);
        request.modelId = modelId;
        request.commitment = keccak256(input);
        request.paramsHash = ProofOfInference.hashStruct(settled);
        emit InferenceRequested(
            requestId,
            msg.sender,
            modelId,
            request.provider,
            input,
            settled,
            minTier,
            gasLimit,
            request.deadline,
            msg.value
        );
    }

    // ---------------------------------------------------------------- answer

    /// @notice Answers a request. Anybody may carry the provider's answer here.
    /// @dev The registry's `PoI` errors come first and in their order. Every effect precedes the callback.
    /// @param receipt Receipt that the provider signed.
    /// @param signature The provider's signature.
    /// @param output Output bytes that hash to `receipt.outputHash`.
    function fulfill(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        bytes calldata output
    ) external nonReentrant {
        bytes32 requestId = receipt.requestId;
        Stored storage request = _requests[requestId];
        uint8 minTier = request.minTier;
        // Audit can lift an output up to AUDITED; evidence of a higher tier must be there now.
        uint8 needed = minTier > Tier.AUDITED ? minTier : Tier.SIGNED;
        (uint8 tier, bytes32 receiptHash) = _registry().consume(receipt, signature, needed);
        _checkAnswer(request, receipt, output);

        bool deliverable = tier >= minTier;
        request.provider = receipt.provider;
        request.tier = tier;
        request.state = deliverable ? State.Delivered : State.Parked;
        request.commitment = receiptHash;
        emit InferenceFulfilled(requestId, receipt.provider, receiptHash, tier, output);
        if (deliverable) {
            _pay(receipt.provider, request.fee);
            // An account without code has its answer in the event.
            if (request.requester.code.length > 0) _handOver(requestId, request, output);
            return;
        }
        _requestOfReceipt[receiptHash] = requestId;
        _outputs[requestId] = output;
        emit InferenceParked(requestId, receiptHash, tier, minTier);
    }

    /// @notice Hands an assigned request back: anybody may answer it now. Costs the provider nothing.
    /// @param requestId Open request that is assigned to the caller.
    function decline(bytes32 requestId) external {
        Stored storage request = _requests[requestId];
        if (request.state != State.Open) revert RequestNotOpen(requestId, request.state);
        if (request.provider != msg.sender) revert ProviderMismatch(request.provider, msg.sender);
        if (block.timestamp > request.deadline) revert PoIExpired();
        request.provider = address(0);
        emit InferenceDeclined(requestId, msg.sender);
    }

    /// @notice Delivers a parked output once its window or its audit has lifted it to the tier asked for; one that was
    /// condemned becomes refundable.
    /// @param requestId Request whose output is parked.
    function finalize(bytes32 requestId) external nonReentrant {
        Stored storage request = _requests[requestId];
        if (request.state != State.Parked) revert NotParked(requestId, request.state);
        bytes32 receiptHash = request.commitment;
        (, uint64 fulfilledAt, uint8 tier, bool condemned) = _receiptOf(receiptHash);
        if (condemned) {
            request.state = State.Disputed;
            emit InferenceDisputed(requestId, receiptHash);
            return;
        }
        if (tier < request.minTier) {
            if (request.minTier != Tier.OPTIMISTIC) revert PoITierTooLow();
            uint256 windowEnd = uint256(fulfilledAt) + parameters.auditWindow;
            if (block.number < windowEnd) revert WindowOpen(windowEnd);
            if (_isInconclusive(receiptHash)) revert AuditInconclusive(receiptHash);
            tier = Tier.OPTIMISTIC;
            _registry().raiseTier(receiptHash, tier);
        }
        bytes memory output = _outputs[requestId];
        delete _outputs[requestId];
        request.tier = tier;
        request.state = State.Delivered;
        if (request.sharePaid) _credit(request.provider, request.fee);
        else _pay(request.provider, request.fee);
        if (request.requester.code.length > 0) _handOver(requestId, request, output);
        else emit InferenceDelivered(requestId, receiptHash, tier);
    }

    /// @notice Calls a consumer again whose callback failed. Reverts when it fails again; the output stays.
    /// @param requestId Request in state `CallbackFailed`.
    function retry(bytes32 requestId) external nonReentrant {
        Stored storage request = _requests[requestId];
        if (request.state != State.CallbackFailed) revert NothingToRetry(requestId, request.state);
        bytes memory output = _outputs[requestId];
        request.state = State.Delivered;
        delete _outputs[requestId];
        (bool success, bytes memory reason) = _callback(requestId, request, output);
        if (!success) revert RetryFailed(requestId, reason);
        emit InferenceDelivered(requestId, request.commitment, request.tier);
    }

    // ---------------------------------------------------------------- money

    /// @notice Gives the fee of an unanswered, condemned or unaudited request back to its requester, as a credit.
    /// @dev A condemned output is refunded at once, as is one whose audit came to no conclusion; an unanswered request and
    /// one for whose audit nobody was drawn after the deadline. An output that is deliverable or still being audited is
    /// never refunded, else a requester could read it and take the fee back.
    /// @param requestId Request.
    function refund(bytes32 requestId) external {
        Stored storage request = _requests[requestId];
        State state = request.state;
        if (!_refundableAtOnce(requestId, request)) {
            if (block.timestamp <= request.deadline) revert DeadlineNotPassed(request.deadline, block.timestamp);
        }
        uint256 fee = request.fee;
        request.state = State.Refunded;
        _credit(request.requester, fee);
        delete _outputs[requestId];
        emit InferenceRefunded(requestId, request.requester, fee);
        // Silence costs the provider its place in the queue and a little stake; having answered does not.
        address provider = request.provider;
        if (state != State.Open || provider == address(0)) return;
        if (_queues[request.modelId].remove(provider)) emit QueueLeft(request.modelId, provider);
        if (address(_audit()).code.length > 0) _audit().missedDeadline(provider, requestId);
    }

    /// @inheritdoc IInferenceGate
    function collectAuditShare(bytes32 receiptHash) external nonReentrant returns (uint256 amount) {
        if (msg.sender != address(_audit())) revert NotAuditContract(msg.sender);
        if (receiptHash != bytes32(0)) {
            Stored storage request = _requests[_requestOfReceipt[receiptHash]];
            if (request.state == State.Parked && !request.sharePaid) {
                uint256 share = _auditShare(request.fee);
                request.sharePaid = true;
                request.fee -= uint96(share);
                _credit(msg.sender, share);
            }
            (address provider, , , ) = _receiptOf(receiptHash);
            _takeShare(provider);
        }
        amount = _empty(msg.sender);
        if (amount == 0) return 0;
        emit AuditShareCollected(receiptHash, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Pays `account` what the gate owes it. Anybody may call; the money goes to `account`.
    function withdraw(address payable account) external nonReentrant {
        _takeShare(account);
        uint256 amount = _empty(account);
        if (amount == 0) revert NothingToWithdraw(account);
        emit Withdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice Wei that the gate owes `account`, the audit's share of its fees taken off.
    function creditOf(address account) external view returns (uint256) {
        uint256 gross = _grossOf(account);
        return _netOf(account) + gross - _auditShare(gross);
    }

    // ---------------------------------------------------------------- queue

    /// @notice Offers to answer requests for a model; requests are dealt out in turn.
    function joinQueue(bytes32 modelId) external {
        _checkModel(modelId);
        if (!_isEligible(msg.sender)) revert ProviderNotEligible(msg.sender);
        if (!_queues[modelId].add(msg.sender)) revert AlreadyQueued(modelId, msg.sender);
        _credits[msg.sender] |= OPENED;
        emit QueueJoined(modelId, msg.sender);
    }

    /// @notice Takes the caller out of the queue of a model; requests already assigned stay assigned.
    function leaveQueue(bytes32 modelId) external {
        if (!_queues[modelId].remove(msg.sender)) revert NotQueued(modelId, msg.sender);
        emit QueueLeft(modelId, msg.sender);
    }

    /// @notice Providers queued for a model.
    function queueOf(bytes32 modelId) external view returns (address[] memory) {
        return _queues[modelId].values();
    }

    // ---------------------------------------------------------------- views and administration

    /// @notice A request as it stands.
    function requestOf(bytes32 requestId) external view returns (Request memory) {
        Stored storage stored = _requests[requestId];
        bool answered = stored.tier != UNANSWERED;
        return
            Request({
                requester: stored.requester,
                deadline: stored.deadline,
                minTier: stored.minTier,
                state: stored.state,
                tier: answered ? stored.tier : 0,
                provider: stored.provider,
                gasLimit: stored.gasLimit,
                fee: stored.fee,
                modelId: stored.modelId,
                inputHash: answered ? bytes32(0) : stored.commitment,
                paramsHash: stored.paramsHash,
                receiptHash: answered ? stored.commitment : bytes32(0)
            });
    }

    /// @notice Request whose parked or once parked output a receipt answers; zero for any other.
    function requestOfReceipt(bytes32 receiptHash) external view returns (bytes32) {
        return _requestOfReceipt[receiptHash];
    }

    /// @inheritdoc IInferenceGate
    function requiresAudit(bytes32 receiptHash) external view returns (bool) {
        Stored storage request = _requests[_requestOfReceipt[receiptHash]];
        return request.state == State.Parked && request.minTier == Tier.AUDITED;
    }

    /// @notice Output that waits for {finalize} or {retry}; empty otherwise.
    function outputOf(bytes32 requestId) external view returns (bytes memory) {
        return _outputs[requestId];
    }

    /// @notice Sets the parameters for later requests.
    function setParameters(Parameters calldata newParameters) external onlyRole(DEFAULT_ADMIN_ROLE) {
        bool sane = newParameters.maxCallbackGas <= type(uint24).max &&
            newParameters.requestTimeout <= MAX_TIMEOUT &&
            newParameters.auditWindow <= MAX_WINDOW &&
            newParameters.auditSharePpm <= MAX_AUDIT_SHARE;
        if (!sane) revert ParametersOutOfRange();
        parameters = newParameters;
        emit ParametersSet(newParameters);
    }

    // ---------------------------------------------------------------- internals

    /// @dev Registry of this gate; a deployment elsewhere names its own.
    function _registry() internal view virtual returns (IInferenceRegistry) {
        return IInferenceRegistry(Predeploys.INFERENCE_REGISTRY);
    }

    /// @dev Audit contract of this gate; without code there, nothing is audited.
    function _audit() internal view virtual returns (IInferenceAudit) {
        return IInferenceAudit(Predeploys.INFERENCE_AUDIT);
    }

    function _checkModel(bytes32 modelId) private view {
        if (!_registry().isModel(modelId)) revert PoIUnknownModel();
    }

    function _isEligible(address provider) private view returns (bool) {
        return _registry().isEligible(provider);
    }

    function _receiptOf(bytes32 receiptHash) private view returns (address, uint64, uint8, bool) {
        return _registry().receiptOf(receiptHash);
    }

    /// @dev Whether the audit of a receipt ended without a conclusion. Reverts while it is open.
    function _isInconclusive(bytes32 receiptHash) private view returns (bool) {
        IInferenceAudit audit = _audit();
        if (address(audit).code.length == 0) return false;
        AuditState state = audit.stateOf(receiptHash);
        bool open = state == AuditState.Committing || state == AuditState.Revealing || state == AuditState.Escalated;
        if (open) revert AuditOpen(receiptHash, state);
        return state == AuditState.Inconclusive;
    }

    /// @dev False: only after the deadline. Reverts when it cannot be refunded at all.
    function _refundableAtOnce(bytes32 requestId, Stored storage request) private view returns (bool) {
        State state = request.state;
        if (state == State.Disputed) return true;
        if (state == State.Open) return false;
        if (state != State.Parked) revert NotRefundable(requestId, state);
        (, , uint8 tier, bool condemned) = _receiptOf(request.commitment);
        if (condemned) return true;
        if (_isInconclusive(request.commitment)) return true;
        if (request.minTier == Tier.OPTIMISTIC || tier >= request.minTier) revert NotRefundable(requestId, state);
        return false;
    }

    /// @dev Credits the fee of an answer. The audit's share of it is taken when the provider withdraws, or when an audit
    /// of one of its answers needs it: until then both are one number.
    function _pay(address provider, uint256 fee) private {
        if (fee > 0) _credits[provider] = (_credits[provider] + (fee << GROSS_SHIFT)) | OPENED;
    }

    /// @dev No sum of fees overflows: there is less money than that.
    function _credit(address account, uint256 amount) private {
        if (amount > 0) _credits[account] += amount;
    }

    /// @dev Moves the audit's share of the fees of `provider` to the audit contract.
    function _takeShare(address provider) private {
        uint256 gross = _grossOf(provider);
        if (gross == 0) return;
        uint256 share = _auditShare(gross);
        _credits[provider] = OPENED | (_netOf(provider) + gross - share);
        _credit(address(_audit()), share);
    }

    function _netOf(address account) private view returns (uint256) {
        return uint128(_credits[account]);
    }

    function _grossOf(address account) private view returns (uint256) {
        return (_credits[account] & ~OPENED) >> GROSS_SHIFT;
    }

    /// @dev Takes out what is due in full, after the audit's share was taken.
    function _empty(address account) private returns (uint256 amount) {
        amount = _netOf(account);
        _credits[account] -= amount;
    }

    function _auditShare(uint256 fee) private view returns (uint256) {
        return (fee * parameters.auditSharePpm) / 1_000_000;
    }

    /// @dev Next eligible provider in turn. Those no longer eligible are dropped on the way.
    function _nextProvider(bytes32 modelId) private returns (address) {
        EnumerableSet.AddressSet storage queue = _queues[modelId];
        for (uint256 probe = 0; probe < MAX_PROBES; ++probe) {
            uint256 length = queue.length();
            if (length == 0) return address(0);
            uint256 position = _cursors[modelId] % length;
            address provider = queue.pos(position);
            if (_isEligible(provider)) {
                _cursors[modelId] = position + 1;
                return provider;
            }
            queue.remove(provider);
            emit QueueLeft(modelId, provider);
        }
        return address(0);
    }

    /// @dev The receipt is genuine; here it must also be the answer to this request.
    function _checkAnswer(
        Stored storage request,
        InferenceReceipt calldata receipt,
        bytes calldata output
    ) private view {
        if (request.state != State.Open) revert RequestNotOpen(receipt.requestId, request.state);
        if (block.timestamp > request.deadline) revert PoIExpired();
        if (receipt.requester != request.requester) revert RequesterMismatch(request.requester, receipt.requester);
        if (request.provider != address(0) && receipt.provider != request.provider) {
            revert ProviderMismatch(request.provider, receipt.provider);
        }
        if (receipt.modelId != request.modelId) revert ModelMismatch(request.modelId, receipt.modelId);
        if (receipt.inputHash != request.commitment) revert InputMismatch(request.commitment, receipt.inputHash);
        if (receipt.paramsHash != request.paramsHash) revert ParamsMismatch(request.paramsHash, receipt.paramsHash);
        if (output.length > MAX_OUTPUT_SIZE) revert OutputTooLarge(output.length, MAX_OUTPUT_SIZE);
        bytes32 outputHash = keccak256(output);
        if (outputHash != receipt.outputHash) revert OutputMismatch(receipt.outputHash, outputHash);
    }

    /// @dev Calls the consumer. A failing one loses nothing: its output is kept.
    function _handOver(bytes32 requestId, Stored storage request, bytes memory output) private {
        (bool success, bytes memory reason) = _callback(requestId, request, output);
        if (success) {
            emit InferenceDelivered(requestId, request.commitment, request.tier);
            return;
        }
        request.state = State.CallbackFailed;
        _outputs[requestId] = output;
        emit CallbackFailed(requestId, reason);
    }

    /// @dev A try/catch whose gas the caller cannot starve and whose return data the consumer cannot inflate: the
    /// consumer gets exactly `gasLimit`, or the whole transaction reverts and can be sent again with more gas.
    function _callback(
        bytes32 requestId,
        Stored storage request,
        bytes memory output
    ) private returns (bool success, bytes memory reason) {
        bytes memory data = abi.encodeCall(IInferenceConsumer.onInference, (requestId, output, request.tier));
        address consumer = request.requester;
        uint256 gasLimit = request.gasLimit;
        uint256 required = gasLimit + RESERVE_GAS + RESERVE_GAS_PER_WORD * (output.length / 32 + 2);
        // EIP-150 keeps one 64th back.
        uint256 available = gasleft() - gasleft() / 64;
        if (available < required) revert GasTooLow(available, required);
        uint256 limit = MAX_REASON_SIZE;
        assembly ("memory-safe") {
            success := call(gasLimit, consumer, 0, add(data, 0x20), mload(data), 0, 0)
            if iszero(success) {
                let size := returndatasize()
                if gt(size, limit) {
                    size := limit
                }
                reason := mload(0x40)
                mstore(0x40, add(reason, and(add(size, 0x3f), not(0x1f))))
                mstore(reason, size)
                returndatacopy(add(reason, 0x20), 0, size)
            }
        }
    }
}
