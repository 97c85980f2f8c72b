// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Predeploys} from "../Predeploys.sol";
import {Audit, AuditParameters, IAuditLimitErrors, Seat} from "./AuditTypes.sol";
import {IBeaconErrors} from "./BeaconHeader.sol";
import {IAuditableRegistry} from "./IAuditableRegistry.sol";
import {IInferenceGate} from "./IInferenceGate.sol";
import {AuditState, InferenceReceipt} from "./InferenceTypes.sol";
import {IVerifierRegistry} from "./IVerifierRegistry.sol";

/// @title State, events and collaborators that audits and their settlement share
/// @dev {InferenceAudit} holds the state and the money and runs the code of {AuditSettlement} on them; both inherit this
/// contract, so that their storage layouts are one.
abstract contract AuditStorage is IAuditLimitErrors, IBeaconErrors, AccessControl {
    /// @notice Pool of the tolerant class, see {VerifierRegistry}.
    bytes32 public constant TOLERANT_POOL = keccak256("tolerant");
    /// @notice Where forfeited bonds go that nobody receives; nobody holds its key.
    address public constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;

    AuditParameters internal _parameters;
    /// @notice Wei from which votes are rewarded.
    uint256 public pool;
    mapping(bytes32 receiptHash => Audit audit) internal _audits;
    mapping(bytes32 receiptHash => mapping(uint8 round => Seat[] seats)) internal _seats;
    mapping(address requester => mapping(bytes32 commitment => uint64 blockNumber)) internal _canaries;
    mapping(address provider => uint256 strikes) internal _strikes;
    mapping(address account => uint256 amount) internal _credits;

    event AuditDrawn(
        bytes32 indexed receiptHash,
        address indexed provider,
        uint8 round,
        address[] members,
        uint64 commitEnds,
        uint64 revealEnds,
        uint32 fromLeaf,
        InferenceReceipt receipt
    );
    event AuditEscalated(bytes32 indexed receiptHash, uint8 round, uint32 fromLeaf, uint64 beaconBlock);
    event AuditSettled(bytes32 indexed receiptHash, AuditState state, uint8 round);
    event ProviderSlashed(bytes32 indexed receiptHash, address indexed provider, uint256 taken, uint256 kept);
    event ProviderStruck(bytes32 indexed receiptHash, address indexed provider, uint256 strikes);
    event VerifierSlashed(bytes32 indexed receiptHash, address indexed verifier, uint256 taken, bytes32 reason);
    event Credited(bytes32 indexed receiptHash, address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event PoolFunded(address indexed from, uint256 amount);
    event ParametersSet(AuditParameters parameters);

    /// @notice The registry does not know the receipt; its error, named here for who reads it from this contract.
    error ReceiptUnknown(bytes32 receiptHash);
    error NotSelected(bytes32 receiptHash);
    error BeaconPending(uint256 blockNumber);
    error BeaconMissed(uint256 blockNumber);
    error NobodyToDraw(bytes32 pool);
    error WrongState(bytes32 receiptHash, AuditState state);

    /// @dev Sends the receipt to the next committee, which checks from `fromLeaf`.
    function _escalate(bytes32 receiptHash, Audit storage audit, uint32 fromLeaf) internal {
        ++audit.round;
        audit.state = AuditState.Escalated;
        audit.committed = 0;
        audit.revealed = 0;
        audit.fromLeaf = fromLeaf;
        audit.beaconBlock = uint64(block.number) + _parameters.beaconDelay;
        emit AuditEscalated(receiptHash, audit.round, fromLeaf, audit.beaconBlock);
    }

    // ---------------------------------------------------------------- collaborators

    /// @dev Registry of receipts and providers; a deployment elsewhere names its own.
    function _registry() internal view virtual returns (IAuditableRegistry) {
        return IAuditableRegistry(Predeploys.INFERENCE_REGISTRY);
    }

    /// @dev Gate whose requests wait for audits; a deployment elsewhere names its own.
    function _gate() internal view virtual returns (IInferenceGate) {
        return IInferenceGate(Predeploys.INFERENCE_GATE);
    }

    /// @dev Registry of verifiers; a deployment elsewhere names its own.
    function _verifiers() internal view virtual returns (IVerifierRegistry) {
        return IVerifierRegistry(Predeploys.VERIFIER_REGISTRY);
    }

    function _isOpen(AuditState state) internal pure returns (bool) {
        return
            state == AuditState.Committing || state == AuditState.Revealing || state == AuditState.Escalated;
    }

    /// @dev Earliest beacon of the next draw.
    function _firstBeacon(bytes32 receiptHash, Audit storage audit) internal view returns (uint256) {
        AuditState state = audit.state;
        if (state == AuditState.Escalated) return audit.beaconBlock;
        (, uint64 known, , ) = _registry().receiptOf(receiptHash);
        if (state != AuditState.None) revert WrongState(receiptHash, state);
        return uint256(known) + _parameters.beaconDelay;
    }

    /// @dev Beacon of a draw in block `number`: the latest of `first`, `first + window`, `first + 2 window`, ...
    function _beaconAt(uint256 first, uint256 number) internal view returns (uint256) {
        if (number <= first) revert BeaconPending(first);
        uint256 window = uint256(_parameters.drawWindow) + 1;
        return first + ((number - 1 - first) / window) * window;
    }
}
