// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {DigestHistory} from "./DigestHistory.sol";
import {FlowTree} from "./FlowTree.sol";
import {IDigestHistory} from "./IDigestHistory.sol";
import {IFlow} from "./IFlow.sol";
import {IMarket} from "./IMarket.sol";
import {SubmissionRules} from "./SubmissionRules.sol";
import {
    EMPTY_HASH,
    EpochRange,
    EpochRangeWithContextDigest,
    MineContext,
    SECTORS_PER_LOAD,
    Submission,
    SubmissionData,
    SubmissionNode
} from "./StorageTypes.sol";

/// @title The flow without fees
/// @notice Appends files to one Merkle tree and cuts time into epochs. The context of an epoch commits to the flow as
/// it was when the epoch began and to the hash of its first block; miners prove against it.
/// @dev Works with a constructor and {initialize}, behind a proxy, and as a predeploy with genesis storage. Roots of
/// the tree are computed at each submission, so that the tree is never behind.
contract Flow is IFlow, Initializable, Pausable, AccessControlEnumerable {
    using FlowTree for FlowTree.Frontier;
    using SubmissionRules for SubmissionData;

    /// @notice May pause and unpause.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    /// Number of epochs whose roots {rootHistory} keeps.
    uint256 private constant ROOT_WINDOW = 1000;
    /// Blocks whose hash a contract can still read: EIP-2935.
    uint256 private constant HASH_WINDOW = 8191;
    /// Most epochs that {makeContext} opens one by one.
    uint256 private constant MAX_EPOCHS_PER_CALL = 16;
    /// Height of a segment; files that cross segments begin at a multiple of it.
    uint256 private constant SEGMENT_HEIGHT = 10;

    /// @notice Blocks between initialisation and the first submission.
    uint256 public immutable deployDelay;

    uint128 private _length;
    uint64 private _submissions;
    uint64 private _epoch;

    uint64 private _blocksPerEpoch;
    uint64 private _firstBlock;

    address private _market;
    IDigestHistory private _rootHistory;

    uint128 private _epochStart;
    uint128 private _contextLength;
    bytes32 private _contextRoot;
    bytes32 private _contextBlock;
    bytes32 private _contextDigest;

    FlowTree.Frontier private _frontier;
    mapping(bytes32 digest => EpochRange range) private _ranges;
    bytes32[] private _history;
    mapping(uint256 txSeq => bytes32 root) private _roots;

    constructor(uint256 deployDelay_) {
        deployDelay = deployDelay_;
    }

    modifier launched() {
        require(block.number >= _firstBlock, "Contract has not launched.");
        _;
    }

    /// @notice Sets the contract up; the caller becomes administrator and may pause.
    /// @param market_ Contract that {IMarket} describes.
    /// @param blocksPerEpoch_ Length of an epoch.
    function initialize(address market_, uint256 blocksPerEpoch_) external initializer {
        _market = market_;
        _length = 1;
        _contextLength = 1;
        _contextBlock = EMPTY_HASH;
        _contextDigest = EMPTY_HASH;
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(PAUSER_ROLE, msg.sender);
        _setParams(blocksPerEpoch_, block.number + deployDelay, address(new DigestHistory(ROOT_WINDOW)));
    }

    /// @inheritdoc IFlow
    function setParams(uint256 blocksPerEpoch_, uint256 firstBlock_, address rootHistory_) external {
        if (rootHistory_ == address(0) && address(_rootHistory) == address(0)) {
            rootHistory_ = address(new DigestHistory(ROOT_WINDOW));
        }
        _setParams(blocksPerEpoch_, firstBlock_, rootHistory_);
    }

    /// @notice Stops submissions and epochs.
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @notice Resumes.
    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    /// @inheritdoc IFlow
    function submit(
        Submission calldata submission
    )
        external
        payable
        whenNotPaused
        launched
        returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length)
    {
        uint256 balance = _before();
        (index, digest, startIndex, length) = _submit(submission.data, submission.submitter);
        _after(balance);
    }

    /// @inheritdoc IFlow
    function submit(
        SubmissionData calldata submission
    )
        external
        payable
        whenNotPaused
        launched
        returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length)
    {
        uint256 balance = _before();
        (index, digest, startIndex, length) = _submit(submission, msg.sender);
        _after(balance);
    }

    /// @inheritdoc IFlow
    function batchSubmit(
        Submission[] calldata submissions
    )
        external
        payable
        whenNotPaused
        launched
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        )
    {
        uint256 balance = _before();
        uint256 count = submissions.length;
        (indexes, digests, startIndexes, lengths) = _results(count);
        for (uint256 i = 0; i < count; ++i) {
            (indexes[i], digests[i], startIndexes[i], lengths[i]) = _submit(
                submissions[i].data,
                submissions[i].submitter
            );
        }
        _after(balance);
    }

    /// @inheritdoc IFlow
    function batchSubmit(
        SubmissionData[] calldata submissions
    )
        external
        payable
        whenNotPaused
        launched
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        )
    {
        uint256 balance = _before();
        uint256 count = submissions.length;
        (indexes, digests, startIndexes, lengths) = _results(count);
        for (uint256 i = 0; i < count; ++i) {
            (indexes[i], digests[i], startIndexes[i], lengths[i]) = _submit(submissions[i], msg.sender);
        }
        _after(balance);
    }

    /// @inheritdoc IFlow
    /// @dev After long inactivity only the first usable of the epochs that are due has new sectors, and only the last
    /// can be mined. When more are due than {MAX_EPOCHS_PER_CALL} the empty ones between are passed over: no event, no
    /// range, no entry in {rootHistory}. Gas is bounded, and the context is the same.
    function makeContext() public launched {
        uint256 due = _epochsDue(block.number);
        if (due == 0) return;
        _requireNotPaused();
        if (due > MAX_EPOCHS_PER_CALL) {
            _passOverExpired(due);
            _openEpoch();
            due = _epochsDue(block.number);
            if (due > 1) {
                _epoch += uint64(due - 1);
                due = 1;
            }
        }
        for (; due != 0; --due) _openEpoch();
    }

    /// @inheritdoc IFlow
    function makeContextFixedTimes(uint256 count) external launched {
        uint256 due = _epochsDue(block.number);
        if (due == 0) return;
        _requireNotPaused();
        if (due > count) due = count + 1;
        for (; due != 0; --due) _openEpoch();
    }

    /// @inheritdoc IFlow
    function makeContextWithResult() external returns (MineContext memory) {
        makeContext();
        return getContext();
    }

    /// @inheritdoc IFlow
    function queryContextAtPosition(
        uint128 targetPosition
    ) external returns (EpochRangeWithContextDigest memory range) {
        makeContext();
        require(targetPosition < _length, "Queried position exceeds upper bound");
        uint256 low = 0;
        uint256 high = _history.length;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            range = getEpochRangeHistory(middle);
            if (targetPosition >= range.end) low = middle + 1;
            else if (targetPosition < range.start) high = middle;
            else return range;
        }
        revert("Can not find proper context");
    }

    /// @inheritdoc IFlow
    function computeFlowRoot() public virtual returns (bytes32) {
        return _flowRoot();
    }

    /// @inheritdoc IFlow
    function getContext() public view returns (MineContext memory context) {
        uint256 epoch_ = _epoch;
        context.epoch = epoch_;
        // The context before the first epoch belongs to no block.
        if (epoch_ != 0) context.mineStart = uint256(_firstBlock) + epoch_ * _blocksPerEpoch;
        context.flowRoot = _contextRoot;
        context.flowLength = _contextLength;
        context.blockDigest = _contextBlock;
        context.digest = _contextDigest;
    }

    /// @inheritdoc IFlow
    function getEpochRange(bytes32 digest) external view returns (EpochRange memory) {
        return _ranges[digest];
    }

    /// @inheritdoc IFlow
    function getEpochRangeHistory(uint256 index) public view returns (EpochRangeWithContextDigest memory entry) {
        bytes32 digest = _history[index];
        EpochRange memory range = _ranges[digest];
        return EpochRangeWithContextDigest(range.start, range.end, digest);
    }

    /// @inheritdoc IFlow
    function getFlowRootByTxSeq(uint256 txSeq) external view returns (bytes32) {
        return _roots[txSeq];
    }

    /// @inheritdoc IFlow
    function tree() external view returns (uint256 currentLength, uint256 unstagedHeight) {
        currentLength = _length;
        if (currentLength != 0) unstagedHeight = FlowTree.levels(currentLength);
    }

    /// @inheritdoc IFlow
    function submissionIndex() external view returns (uint256) {
        return _submissions;
    }

    /// @inheritdoc IFlow
    function numSubmissions() external view returns (uint256) {
        return _submissions;
    }

    /// @inheritdoc IFlow
    function epoch() external view returns (uint256) {
        return _epoch;
    }

    /// @inheritdoc IFlow
    function epochStartPosition() external view returns (uint256) {
        return _epochStart;
    }

    /// @inheritdoc IFlow
    function firstBlock() external view returns (uint256) {
        return _firstBlock;
    }

    /// @inheritdoc IFlow
    function blocksPerEpoch() external view returns (uint256) {
        return _blocksPerEpoch;
    }

    /// @inheritdoc IFlow
    function market() public view returns (address payable) {
        return payable(_market);
    }

    /// @inheritdoc IFlow
    function rootHistory() external view returns (IDigestHistory) {
        return _rootHistory;
    }

    /// @dev Runs before the first submission of a call.
    /// @return state Whatever {_after} needs.
    function _before() internal virtual returns (uint256 state) {}

    /// @dev Runs after the last submission of a call.
    function _after(uint256 state) internal virtual {}

    /// @dev Takes the fee for a submission of `sectors` sectors.
    function _beforeSubmit(uint256 sectors) internal virtual {}

    function _submit(
        SubmissionData calldata data,
        address submitter
    ) private returns (uint256 index, bytes32 digest, uint256 start, uint256 sectors) {
        sectors = submitter == address(0) ? 0 : data.sectorsIfValid();
        require(sectors != 0, "Invalid submission");
        _beforeSubmit(sectors);
        makeContext();
        uint256 previous = _length;
        index = _submissions;
        start = _append(data.nodes, sectors, previous, index);
        IMarket(_market).chargeFee(previous, sectors, start - previous);
        digest = data.identity();
        emit Submit(submitter, digest, index, start, sectors, data);
    }

    function _append(
        SubmissionNode[] calldata nodes,
        uint256 sectors,
        uint256 previous,
        uint256 index
    ) private returns (uint256 start) {
        FlowTree.Cursor memory cursor = FlowTree.open(previous);
        start = FlowTree.align(previous, nodes[0].height);
        uint256 last = start + sectors - 1;
        if (start % SECTORS_PER_LOAD != 0 && start / SECTORS_PER_LOAD != last / SECTORS_PER_LOAD) {
            _frontier.fill(cursor, SEGMENT_HEIGHT);
        }
        start = _frontier.append(cursor, nodes[0]);
        for (uint256 i = 1; i < nodes.length; ++i) _frontier.append(cursor, nodes[i]);
        _roots[index] = _frontier.root(cursor);
        _frontier.close(cursor);
        _length = uint128(cursor.length);
        _submissions = uint64(index + 1);
    }

    function _setParams(uint256 blocksPerEpoch_, uint256 firstBlock_, address rootHistory_) private {
        if (_blocksPerEpoch == 0) _blocksPerEpoch = SafeCast.toUint64(blocksPerEpoch_);
        if (address(_rootHistory) != address(0)) return;
        // Zero is a block, too: with the history set it counts as chosen.
        if (_firstBlock == 0) _firstBlock = SafeCast.toUint64(firstBlock_);
        _rootHistory = IDigestHistory(rootHistory_);
    }

    /// @dev An epoch begins with the block after `firstBlock + number * blocksPerEpoch`, whose hash is then known. Not
    /// before the first block.
    function _epochsDue(uint256 blockNumber) internal view returns (uint256) {
        uint256 length = _blocksPerEpoch;
        uint256 first = _firstBlock;
        if (length == 0) return 0;
        // No branch at the first block: gas that was estimated there must be enough for the next.
        uint256 begun = (blockNumber - first + length - 1) / length;
        return begun - SafeCast.toUint(begun != 0) - _epoch;
    }

    /// @dev Passes over epochs, except the last, whose block hash is out of reach: they record nothing.
    function _passOverExpired(uint256 due) private {
        uint256 next = uint256(_firstBlock) + (uint256(_epoch) + 1) * _blocksPerEpoch;
        if (next + HASH_WINDOW >= block.number) return;
        uint256 expired = (block.number - 1 - HASH_WINDOW - next) / _blocksPerEpoch + 1;
        _epoch += uint64(expired < due ? expired : due - 1);
    }

    function _openEpoch() private {
        uint256 number = uint256(_epoch) + 1;
        bytes32 root = _flowRoot();
        uint128 length = _length;
        _epoch = uint64(number);
        _rootHistory.insert(root);
        (bytes32 blockDigest, bytes32 digest) = _digests(root, length, number);
        if (digest != EMPTY_HASH) {
            _ranges[digest] = EpochRange(_epochStart, length);
            _history.push(digest);
            _epochStart = length;
        }
        _contextLength = length;
        _contextRoot = root;
        _contextBlock = blockDigest;
        _contextDigest = digest;
        emit NewEpoch(msg.sender, number, root, _submissions, length, digest);
    }

    /// @dev A chain that does not know the hash any more (no EIP-2935) counts as out of the window.
    function _digests(
        bytes32 root,
        uint256 length,
        uint256 number
    ) private view returns (bytes32 blockDigest, bytes32 digest) {
        uint256 start = uint256(_firstBlock) + number * _blocksPerEpoch;
        blockDigest = start + HASH_WINDOW < block.number ? bytes32(0) : Blockhash.blockHash(start);
        if (blockDigest == 0) return (EMPTY_HASH, EMPTY_HASH);
        digest = keccak256(abi.encode(blockDigest, root, length));
    }

    function _flowRoot() private view returns (bytes32) {
        uint256 count = _submissions;
        return count == 0 ? bytes32(0) : _roots[count - 1];
    }

    function _results(
        uint256 count
    ) private pure returns (uint256[] memory, bytes32[] memory, uint256[] memory, uint256[] memory) {
        return (new uint256[](count), new bytes32[](count), new uint256[](count), new uint256[](count));
    }
}
