// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IDigestHistory} from "./IDigestHistory.sol";
import {
    EpochRange,
    EpochRangeWithContextDigest,
    MineContext,
    Submission,
    SubmissionData
} from "./StorageTypes.sol";

/// @title The flow: all files ever submitted, in one append-only Merkle tree
interface IFlow {
    /// @notice A file was added. `identity` is the keccak256 of its node roots, `length` counts sectors.
    event Submit(
        address indexed sender,
        bytes32 indexed identity,
        uint256 submissionIndex,
        uint256 startPos,
        uint256 length,
        SubmissionData submission
    );
    /// @notice An epoch began; its context covers `flowLength` sectors and the submissions before `submissionIndex`.
    event NewEpoch(
        address indexed sender,
        uint256 indexed index,
        bytes32 startMerkleRoot,
        uint256 submissionIndex,
        uint256 flowLength,
        bytes32 context
    );

    /// @notice Declared for clients that decode it; invalid submissions revert with the text "Invalid submission".
    error InvalidSubmission();

    /// @notice Adds a file in the name of `submission.submitter`.
    /// @return index Number of the submission, from 0.
    /// @return digest keccak256 of its node roots.
    /// @return startIndex First sector.
    /// @return length Sectors.
    function submit(
        Submission calldata submission
    ) external payable returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length);

    /// @notice Adds a file in the caller's name: the call of older clients.
    function submit(
        SubmissionData calldata submission
    ) external payable returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length);

    /// @notice Adds several files; all or none.
    function batchSubmit(
        Submission[] calldata submissions
    )
        external
        payable
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        );

    /// @notice Adds several files in the caller's name; all or none.
    function batchSubmit(
        SubmissionData[] calldata submissions
    )
        external
        payable
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        );

    /// @notice Opens every epoch that is due; bounded gas, see {Flow}.
    function makeContext() external;

    /// @notice Opens at most `count + 1` epochs that are due, one by one.
    function makeContextFixedTimes(uint256 count) external;

    /// @notice {makeContext}, then the current context.
    function makeContextWithResult() external returns (MineContext memory);

    /// @notice The current context; epochs that are due are not opened.
    function getContext() external view returns (MineContext memory);

    /// @notice The epoch that added the sector at `targetPosition`; opens epochs that are due.
    function queryContextAtPosition(
        uint128 targetPosition
    ) external returns (EpochRangeWithContextDigest memory range);

    /// @notice Sectors of the epoch whose context has this digest; zeros for an unknown one.
    function getEpochRange(bytes32 digest) external view returns (EpochRange memory);

    /// @notice The `index`-th recorded epoch.
    function getEpochRangeHistory(uint256 index) external view returns (EpochRangeWithContextDigest memory);

    /// @notice Root of the flow after submission `txSeq`; zero when there is none of this number.
    function getFlowRootByTxSeq(uint256 txSeq) external view returns (bytes32);

    /// @notice Current root of the flow.
    function computeFlowRoot() external returns (bytes32);

    /// @notice Length in sectors, and the levels of the tree.
    function tree() external view returns (uint256 currentLength, uint256 unstagedHeight);

    /// @notice Number of submissions.
    function submissionIndex() external view returns (uint256);

    /// @notice Number of submissions.
    function numSubmissions() external view returns (uint256);

    /// @notice Number of the current epoch.
    function epoch() external view returns (uint256);

    /// @notice First sector that no recorded epoch covers yet.
    function epochStartPosition() external view returns (uint256);

    /// @notice Block from which on submissions are taken.
    function firstBlock() external view returns (uint256);

    /// @notice Length of an epoch in blocks; zero before initialisation.
    function blocksPerEpoch() external view returns (uint256);

    /// @notice Market that takes the fees.
    function market() external view returns (address payable);

    /// @notice Roots of the latest epochs.
    function rootHistory() external view returns (IDigestHistory);

    /// @notice Sets parameters that are still zero; others keep their value.
    function setParams(uint256 blocksPerEpoch, uint256 firstBlock, address rootHistory) external;
}
