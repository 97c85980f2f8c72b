// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {MineContext, PoraAnswer, WorkerContext} from "./StorageTypes.sol";

/// @title Where miners prove that they hold data
interface IPoraMine {
    /// @notice A miner id was created.
    event NewMinerId(bytes32 indexed minerId, address indexed beneficiary);
    /// @notice A miner id got another beneficiary.
    event UpdateMinerId(bytes32 indexed minerId, address indexed from, address indexed to);
    /// @notice An answer was accepted, the `epochIndex`-th of its epoch.
    event NewSubmission(uint256 indexed epoch, bytes32 indexed minerId, uint256 epochIndex, uint256 recallPosition);

    /// @notice Checks an answer and credits its miner's beneficiary.
    function submit(PoraAnswer calldata answer) external;

    /// @notice Hash that the target is compared with; reverts when the answer recalls another position.
    function pora(PoraAnswer calldata answer, bytes32 subtaskDigest) external view returns (bytes32);

    /// @notice The checks of an answer that need no data.
    function basicCheck(PoraAnswer calldata answer, MineContext calldata context) external view;

    /// @notice Creates a miner id that nobody can know before the latest block.
    function requestMinerId(address beneficiary, uint64 seed) external;

    /// @notice Gives a miner id another beneficiary; only the present one calls.
    function transferBeneficial(address to, bytes32 minerId) external;

    /// @notice Account that is credited for answers of `minerId`.
    function beneficiaries(bytes32 minerId) external view returns (address);

    /// @notice What a miner needs for its next search; answers only {computeWorkerContextCaller}, in a call.
    function computeWorkerContext(bytes32 minerId) external returns (WorkerContext memory);

    /// @notice Sender that {computeWorkerContext} answers.
    function computeWorkerContextCaller() external pure returns (address);

    /// @notice Version of the proof.
    function poraVersion() external pure returns (uint64);

    /// @notice Whether the epoch still takes answers.
    function canSubmit() external returns (bool);

    /// @notice What a miner searches with in a context; reverts outside its mining window.
    function getSubtaskDigest(MineContext calldata context, bytes32 minerId) external view returns (bytes32);
}
