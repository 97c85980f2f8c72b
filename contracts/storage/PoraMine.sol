// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IValidationDomain} from "../validation/IValidationDomain.sol";
import {IFlow} from "./IFlow.sol";
import {IPoraMine} from "./IPoraMine.sol";
import {IStorageReward} from "./IStorageReward.sol";
import {PoraVerifier} from "./PoraVerifier.sol";
import {RecallRanges} from "./RecallRanges.sol";
import {
    EMPTY_HASH,
    EpochRange,
    MineContext,
    MineInitParams,
    PoraAnswer,
    RecallRange,
    SEALS_PER_LOAD,
    SECTORS_PER_LOAD,
    SECTORS_PER_PRICE,
    SECTORS_PER_SEAL,
    WorkerContext
} from "./StorageTypes.sol";

/// @title Proof of random access
/// @notice A miner seals data with its id, then searches nonces: each recalls one load of the flow, of which every
/// piece that the miner holds is a try. An accepted answer is paid by the reward contract.
/// @dev Also the domain "PoRA" of the validation registry: a load of the flow is PROVEN by an accepted answer and
/// REPEATED by answers in two epochs.
contract PoraMine is IPoraMine, IValidationDomain, Initializable, AccessControlEnumerable {
    using RecallRanges for RecallRange;

    /// @notice When a load was proven. Times in UNIX seconds.
    struct LoadProof {
        uint40 firstTime;
        uint40 lastTime;
        uint64 lastEpoch;
        uint32 epochs;
        uint64 answers;
    }

    /// @notice May change parameters.
    bytes32 public constant PARAMS_ADMIN_ROLE = keccak256("PARAMS_ADMIN_ROLE");
    /// @notice Level of a load with an accepted answer.
    uint8 public constant PROVEN = 0;
    /// @notice Level of a load with accepted answers in at least two epochs.
    uint8 public constant REPEATED = 1;

    uint256 private constant NO_DATA_SEAL = 1;
    uint256 private constant NO_DATA_PROOF = 2;
    uint256 private constant FIXED_DIFFICULTY = 4;
    uint256 private constant INITIAL_ADJUST_RATIO = 20;
    /// Low bits that the adjustment leaves out so that it cannot overflow.
    uint256 private constant SPARE_BITS = 16;
    uint256 private constant MAX_MINE_BLOCKS = 256;
    address private constant WORKER_CONTEXT_CALLER = 0x000000000000000000000000000000000000000A;

    /// @notice Bits that switch checks off, for tests: 1 seal, 2 Merkle proof, 4 difficulty.
    uint256 public immutable settings;

    /// @notice The flow that is mined.
    address public flow;
    /// @notice Most shards.
    uint64 public maxShards;
    /// @notice Contract that pays.
    address public reward;
    /// @notice Sectors of a pricing chunk of {reward}; zero stands for 8 GiB.
    uint64 private _sectorsPerChunk;

    uint64 private _lastMinedEpoch;
    uint64 private _currentSubmissions;
    uint64 private _targetSubmissions;
    uint64 private _targetSubmissionsNext;

    uint64 private _nSubtasks;
    uint64 private _nSubtasksNext;
    uint64 private _subtaskInterval;
    uint64 private _subtaskIntervalNext;

    uint64 private _targetMineBlocks;
    uint64 private _adjustRatio;

    /// @notice Largest hash of a whole-flow answer.
    uint256 public poraTarget;
    /// @notice Bound of {poraTarget}; zero for none.
    uint256 public minDifficulty;

    mapping(bytes32 poraHash => bool submitted) private _submitted;
    mapping(bytes32 subject => LoadProof proof) private _proofs;
    /// @inheritdoc IPoraMine
    mapping(bytes32 minerId => address beneficiary) public beneficiaries;

    constructor(uint256 settings_) {
        settings = settings_;
    }

    /// @notice Sets the contract up; the caller becomes administrator.
    function initialize(address flow_, address reward_, MineInitParams calldata params) external initializer {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(PARAMS_ADMIN_ROLE, msg.sender);
        flow = flow_;
        reward = reward_;
        _sectorsPerChunk = _chunkOf(reward_);
        poraTarget = settings & FIXED_DIFFICULTY != 0 ? type(uint256).max : type(uint256).max / params.difficulty;
        maxShards = params.maxShards;
        _adjustRatio = uint64(INITIAL_ADJUST_RATIO);
        _targetMineBlocks = SafeCast.toUint64(params.targetMineBlocks);
        _targetSubmissions = _targetSubmissionsNext = SafeCast.toUint64(params.targetSubmissions);
        _nSubtasks = _nSubtasksNext = SafeCast.toUint64(params.nSubtasks);
        _subtaskInterval = _subtaskIntervalNext = SafeCast.toUint64(params.subtaskInterval);
    }

    /// @inheritdoc IPoraMine
    function submit(PoraAnswer calldata answer) external {
        bytes32 minerId = answer.minerId;
        address beneficiary = _beneficiaryOf(minerId);
        MineContext memory context = IFlow(flow).makeContextWithResult();
        _beginEpochWhenNeeded(context.epoch);
        bytes32 subtaskDigest = _subtaskDigest(context, minerId);
        _basicCheck(answer, context.digest, context.flowLength);
        require(answer.range.shards() <= maxShards, "Exceeding the allowed number of shards");
        _checkProof(answer, subtaskDigest, context.flowRoot, context.flowLength);
        uint256 chunk = _sectorsPerChunk == 0 ? SECTORS_PER_PRICE : _sectorsPerChunk;
        IStorageReward(reward).claimMineReward(answer.recallPosition / chunk, payable(beneficiary), minerId);
        _record(answer.recallPosition / SECTORS_PER_LOAD, context.epoch);
        emit NewSubmission(context.epoch, minerId, _currentSubmissions, answer.recallPosition);
        _lastMinedEpoch = uint64(context.epoch);
        _currentSubmissions += 1;
    }

    /// @inheritdoc IPoraMine
    function pora(PoraAnswer calldata answer, bytes32 subtaskDigest) public view returns (bytes32) {
        require(answer.minerId != bytes32(0), "Miner ID cannot be empty");
        PoraVerifier.Result memory result = PoraVerifier.verify(answer, subtaskDigest, _sealed());
        _checkRecall(answer, result.recallPosition);
        return result.poraHash;
    }

    /// @inheritdoc IPoraMine
    function basicCheck(PoraAnswer calldata answer, MineContext calldata context) external view {
        _basicCheck(answer, context.digest, context.flowLength);
    }

    /// @inheritdoc IPoraMine
    function getSubtaskDigest(MineContext calldata context, bytes32 minerId) external view returns (bytes32) {
        return _subtaskDigest(context, minerId);
    }

    /// @inheritdoc IPoraMine
    function requestMinerId(address beneficiary, uint64 seed) external {
        bytes32 parent;
        unchecked {
            // Gas may be estimated in the genesis block, which has no parent.
            parent = blockhash(block.number - 1);
        }
        bytes32 minerId = keccak256(abi.encodePacked(parent, msg.sender, seed));
        require(beneficiaries[minerId] == address(0), "MinerId has registered");
        beneficiaries[minerId] = beneficiary;
        emit NewMinerId(minerId, beneficiary);
    }

    /// @inheritdoc IPoraMine
    function transferBeneficial(address to, bytes32 minerId) external {
        require(beneficiaries[minerId] == msg.sender, "Sender does not own minerId");
        beneficiaries[minerId] = to;
        emit UpdateMinerId(minerId, msg.sender, to);
    }

    /// @inheritdoc IPoraMine
    function canSubmit() external returns (bool) {
        MineContext memory context = IFlow(flow).makeContextWithResult();
        return context.epoch > _lastMinedEpoch || _takesAnswers();
    }

    /// @inheritdoc IPoraMine
    function computeWorkerContext(bytes32 minerId) external returns (WorkerContext memory answer) {
        require(msg.sender == WORKER_CONTEXT_CALLER, "Only authorized caller can compute worker context");
        _beneficiaryOf(minerId);
        answer.maxShards = maxShards;
        answer.context = IFlow(flow).makeContextWithResult();
        uint256 start = _subtaskStart(answer.context, minerId);
        if (block.number <= start || block.number > start + _targetMineBlocks) return answer;
        bytes32 startHash = Blockhash.blockHash(start);
        if (startHash == 0) return answer;
        answer.subtaskDigest = keccak256(abi.encode(answer.context.digest, startHash));
        _beginEpochWhenNeeded(answer.context.epoch);
        if (_takesAnswers()) answer.poraTarget = poraTarget;
    }

    /// @inheritdoc IValidationDomain
    function levelOf(bytes32 subject) external view returns (bool known, uint8 level) {
        uint32 epochs = _proofs[subject].epochs;
        return (epochs != 0, epochs > 1 ? REPEATED : PROVEN);
    }

    /// @notice Name of a load of this flow in the validation registry.
    function subjectOf(uint256 load) public view returns (bytes32) {
        return keccak256(abi.encode("PoRA", flow, load));
    }

    /// @notice When a load of the flow was proven; zeros when it never was.
    function proofOf(uint256 load) external view returns (LoadProof memory) {
        return _proofs[subjectOf(load)];
    }

    /// @notice Sets the length of the mining window, in blocks.
    function setTargetMineBlocks(uint256 targetMineBlocks_) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(targetMineBlocks_ <= MAX_MINE_BLOCKS, "target mine block must <= 256");
        _targetMineBlocks = uint64(targetMineBlocks_);
    }

    /// @notice Sets how many answers an epoch should have, from the next mined epoch on.
    function setTargetSubmissions(uint256 targetSubmissions_) external onlyRole(PARAMS_ADMIN_ROLE) {
        _targetSubmissionsNext = SafeCast.toUint64(targetSubmissions_);
        if (_lastMinedEpoch == 0) _targetSubmissions = _targetSubmissionsNext;
    }

    /// @notice Sets how slowly the target follows: one part in this many.
    function setDifficultyAdjustRatio(uint256 ratio) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(ratio > 0, "Adjust ratio must be non-zero");
        _adjustRatio = SafeCast.toUint64(ratio);
    }

    /// @notice Sets the most shards.
    function setMaxShards(uint64 maxShards_) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(maxShards_ > 0, "Max shard number cannot be zero");
        require(maxShards_ & (maxShards_ - 1) == 0, "Max shard number must be power of 2");
        maxShards = maxShards_;
    }

    /// @notice Sets the bound of the target; zero for none.
    function setMinDifficulty(uint256 minDifficulty_) external onlyRole(PARAMS_ADMIN_ROLE) {
        minDifficulty = minDifficulty_;
        uint256 bound = _targetBound();
        if (poraTarget > bound) poraTarget = bound;
    }

    /// @notice Sets the number of windows of an epoch, from the next mined epoch on.
    function setNumSubtasks(uint256 nSubtasks_) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(nSubtasks_ > 0, "Number of subtasks cannot be zero");
        require(
            _windowsFit(nSubtasks_, _subtaskIntervalNext),
            "Number of subtasks must be less than blocks per epoch"
        );
        _nSubtasksNext = SafeCast.toUint64(nSubtasks_);
        if (_lastMinedEpoch == 0) _nSubtasks = _nSubtasksNext;
    }

    /// @notice Sets the blocks between windows, from the next mined epoch on.
    function setSubtaskInterval(uint256 subtaskInterval_) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(subtaskInterval_ > 0, "Subtask interval cannot be zero");
        require(
            _windowsFit(_nSubtasksNext, subtaskInterval_),
            "Number of subtask intervals must be less than blocks per epoch"
        );
        _subtaskIntervalNext = SafeCast.toUint64(subtaskInterval_);
        if (_lastMinedEpoch == 0) _subtaskInterval = _subtaskIntervalNext;
    }

    /// @inheritdoc IPoraMine
    function poraVersion() external pure returns (uint64) {
        return 1;
    }

    /// @inheritdoc IPoraMine
    function computeWorkerContextCaller() external pure returns (address) {
        return WORKER_CONTEXT_CALLER;
    }

    /// @notice Whether answers must unseal.
    function sealDataEnabled() external view returns (bool) {
        return _sealed();
    }

    /// @notice Whether answers must lead to the flow root.
    function dataProofEnabled() external view returns (bool) {
        return settings & NO_DATA_PROOF == 0;
    }

    /// @notice Whether the target never changes.
    function fixedDifficulty() external view returns (bool) {
        return settings & FIXED_DIFFICULTY != 0;
    }

    /// @notice Epoch of the latest answer.
    function lastMinedEpoch() external view returns (uint256) {
        return _lastMinedEpoch;
    }

    /// @notice Answers in that epoch.
    function currentSubmissions() external view returns (uint256) {
        return _currentSubmissions;
    }

    /// @notice Answers that an epoch should have; it takes at most twice as many.
    function targetSubmissions() external view returns (uint256) {
        return _targetSubmissions;
    }

    /// @notice The same, from the next mined epoch on.
    function targetSubmissionsNextEpoch() external view returns (uint256) {
        return _targetSubmissionsNext;
    }

    /// @notice Length of a mining window in blocks.
    function targetMineBlocks() external view returns (uint256) {
        return _targetMineBlocks;
    }

    /// @notice Windows of an epoch; the miner's id chooses one.
    function nSubtasks() external view returns (uint256) {
        return _nSubtasks;
    }

    /// @notice The same, from the next mined epoch on.
    function nSubtasksNextEpoch() external view returns (uint256) {
        return _nSubtasksNext;
    }

    /// @notice Blocks between the beginnings of windows.
    function subtaskInterval() external view returns (uint256) {
        return _subtaskInterval;
    }

    /// @notice The same, from the next mined epoch on.
    function subtaskIntervalNextEpoch() external view returns (uint256) {
        return _subtaskIntervalNext;
    }

    /// @notice How slowly the target follows.
    function difficultyAdjustRatio() external view returns (uint256) {
        return _adjustRatio;
    }

    function _checkProof(
        PoraAnswer calldata answer,
        bytes32 subtaskDigest,
        bytes32 flowRoot,
        uint256 flowLength
    ) private {
        bool unseal = _sealed();
        require(!unseal || answer.sealedContextDigest != EMPTY_HASH, "Seal digest cannot be empty");
        PoraVerifier.Result memory result = PoraVerifier.verify(answer, subtaskDigest, unseal);
        require(settings & NO_DATA_PROOF != 0 || result.flowRoot == flowRoot, "Inconsistent merkle root");
        _checkRecall(answer, result.recallPosition);
        bytes32 hash = result.poraHash;
        uint256 bound = (poraTarget / answer.range.targetScaleX64(flowLength)) << 64;
        require(uint256(hash) <= bound, "Do not reach target quality");
        require(!_submitted[hash], "Answer has been submitted");
        _submitted[hash] = true;
    }

    /// @dev The load must lie in the range, and the piece in the load.
    function _checkRecall(PoraAnswer calldata answer, uint256 expected) private pure {
        require(answer.sealOffset < SEALS_PER_LOAD && answer.recallPosition == expected, "Incorrect recall position");
        uint256 load = expected - answer.sealOffset * SECTORS_PER_SEAL;
        require(
            load + SECTORS_PER_LOAD <= answer.range.startPosition + answer.range.mineLength,
            "Incorrect recall position"
        );
    }

    function _basicCheck(PoraAnswer calldata answer, bytes32 digest, uint256 flowLength) private view {
        require(digest == answer.contextDigest, "Inconsistent mining digest");
        require(digest != EMPTY_HASH, "Empty digest can not mine");
        require(_takesAnswers(), "Epoch has enough submissions");
        answer.range.check((flowLength / SECTORS_PER_LOAD) * SECTORS_PER_LOAD);
        EpochRange memory range = IFlow(flow).getEpochRange(answer.sealedContextDigest);
        uint256 end = answer.recallPosition + SECTORS_PER_SEAL;
        require(range.start < end && end <= range.end, "Invalid sealed context digest");
    }

    function _record(uint256 load, uint256 epoch) private {
        bytes32 subject = subjectOf(load);
        LoadProof memory seen = _proofs[subject];
        if (seen.epochs == 0) seen.firstTime = uint40(block.timestamp);
        if (seen.epochs == 0 || seen.lastEpoch != epoch) seen.epochs += 1;
        seen.lastTime = uint40(block.timestamp);
        seen.lastEpoch = uint64(epoch);
        seen.answers += 1;
        _proofs[subject] = seen;
    }

    function _beneficiaryOf(bytes32 minerId) private view returns (address beneficiary) {
        require(minerId != bytes32(0), "MinerId cannot be zero");
        beneficiary = beneficiaries[minerId];
        require(beneficiary != address(0), "MinerId does not registered");
    }

    function _subtaskStart(MineContext memory context, bytes32 minerId) private view returns (uint256) {
        uint256 index = uint256(keccak256(abi.encode(context.digest, minerId))) % _nSubtasks;
        return context.mineStart + index * _subtaskInterval;
    }

    function _subtaskDigest(MineContext memory context, bytes32 minerId) private view returns (bytes32) {
        uint256 start = _subtaskStart(context, minerId);
        require(block.number > start, "Earlier than expected subtask start block.");
        bytes32 startHash = Blockhash.blockHash(start);
        // A chain without EIP-2935 forgets the hash: nothing can be proven then.
        require(block.number <= start + _targetMineBlocks && startHash != 0, "Mine deadline exceed");
        return keccak256(abi.encode(context.digest, startHash));
    }

    function _beginEpochWhenNeeded(uint256 epoch) private {
        uint256 last = _lastMinedEpoch;
        if (last == 0 || epoch <= last) return;
        _adjustDifficulty();
        _currentSubmissions = 0;
        _targetSubmissions = _targetSubmissionsNext;
        _nSubtasks = _nSubtasksNext;
        _subtaskInterval = _subtaskIntervalNext;
    }

    /// @dev Follows the target that would have given the wanted number of answers, at most by a factor of two.
    function _adjustDifficulty() private {
        if (settings & FIXED_DIFFICULTY != 0) return;
        uint256 scaled = poraTarget >> SPARE_BITS;
        uint256 most = type(uint256).max >> SPARE_BITS;
        uint256 answers = _currentSubmissions;
        uint256 expected = answers == 0 ? most : Math.mulDiv(scaled, _targetSubmissions, answers);
        uint256 ratio = _adjustRatio;
        // A target far beyond reach is cut off before it can overflow the sum: twice the old one is the limit.
        uint256 cut = 2 * scaled * ratio;
        uint256 next = (scaled * (ratio - 1) + (expected < cut ? expected : cut)) / ratio;
        if (next > 2 * scaled) next = 2 * scaled;
        if (next < scaled / 2) next = scaled / 2;
        if (next > most) next = most;
        uint256 bound = _targetBound();
        poraTarget = next << SPARE_BITS < bound ? next << SPARE_BITS : bound;
    }

    function _targetBound() private view returns (uint256) {
        return minDifficulty == 0 ? type(uint256).max : type(uint256).max / minDifficulty;
    }

    function _takesAnswers() private view returns (bool) {
        return _currentSubmissions < 2 * uint256(_targetSubmissions);
    }

    function _windowsFit(uint256 count, uint256 interval) private view returns (bool) {
        return (count - 1) * interval + _targetMineBlocks + 1 < IFlow(flow).blocksPerEpoch();
    }

    function _sealed() private view returns (bool) {
        return settings & NO_DATA_SEAL == 0;
    }

    /// @dev Reward contracts of other houses have no such parameter; a zero stands for their 8 GiB.
    function _chunkOf(address reward_) private view returns (uint64) {
        (bool known, bytes memory answer) = reward_.staticcall(abi.encodeWithSignature("sectorsPerChunk()"));
        return known && answer.length == 32 ? SafeCast.toUint64(abi.decode(answer, (uint256))) : 0;
    }
}
