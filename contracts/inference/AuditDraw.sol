// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AuditStorage} from "./AuditStorage.sol";
import {Audit, AuditLimits, AuditParameters, Seat} from "./AuditTypes.sol";
import {BeaconHeader} from "./BeaconHeader.sol";
import {AuditState, EngineClass, InferenceReceipt, Verdict} from "./InferenceTypes.sol";

/// @title The lot: which receipts are audited, and by whom
/// @dev Code without state: {InferenceAudit} runs it on its own by delegatecall. Called directly it writes to itself what
/// nobody reads.
contract AuditDraw is AuditStorage {
    /// @notice Draws the next committee of a receipt, see {InferenceAudit-drawAudit} and {InferenceAudit-drawLate}.
    function draw(
        InferenceReceipt calldata receipt,
        bytes calldata header,
        bytes calldata selection
    ) external {
        bytes32 receiptHash = _registry().hashReceipt(receipt);
        Audit storage audit = _audits[receiptHash];
        uint256 first = _firstBeacon(receiptHash, audit);
        uint256 number = _beaconAt(first, block.number);
        bytes32 beacon = BeaconHeader.randomness(header, number);
        if (audit.state == AuditState.None) {
            audit.leastBad = Verdict.NO_LEAF;
            if (!_isCertain(receiptHash)) {
                if (block.number > first + _parameters.challengeWindow) revert BeaconMissed(first);
                _checkSelected(receiptHash, number == first ? beacon : BeaconHeader.randomness(selection, first));
            }
        }
        audit.requester = receipt.requester;
        audit.tolerant = _registry().engineClass(receipt.engineId) == EngineClass.Tolerant;
        _seat(receipt, receiptHash, audit, beacon, uint64(number));
    }

    /// @notice Sets the parameters, see {InferenceAudit-setParameters}.
    function setParameters(AuditParameters calldata newParameters) external {
        AuditLimits.check(newParameters);
        _parameters = newParameters;
        emit ParametersSet(newParameters);
    }

    function _seat(
        InferenceReceipt calldata receipt,
        bytes32 receiptHash,
        Audit storage audit,
        bytes32 beacon,
        uint64 beaconBlock
    ) private {
        uint8 round = audit.round;
        bytes32 pool = audit.tolerant && round == 0 ? TOLERANT_POOL : receipt.engineId;
        (address[] memory members, uint256[] memory stakes) = _verifiers().draw(
            pool,
            keccak256(abi.encode(beacon, receiptHash, round)),
            round == 0 ? _parameters.committee : _parameters.escalatedCommittee,
            receipt.provider,
            beaconBlock
        );
        if (members.length == 0) revert NobodyToDraw(pool);
        Seat[] storage seats = _seats[receiptHash][round];
        for (uint256 i = 0; i < members.length; ++i) {
            seats.push(Seat(members[i], uint64(stakes[i] / 1 gwei), 0, bytes32(0)));
        }
        _begin(receipt, receiptHash, audit, members);
    }

    function _begin(
        InferenceReceipt calldata receipt,
        bytes32 receiptHash,
        Audit storage audit,
        address[] memory members
    ) private {
        uint64 commitEnds = uint64(block.number) + _parameters.commitWindow;
        uint64 revealEnds = commitEnds + _parameters.revealWindow;
        audit.state = AuditState.Committing;
        audit.commitEnds = commitEnds;
        audit.revealEnds = revealEnds;
        emit AuditDrawn(
            receiptHash,
            receipt.provider,
            audit.round,
            members,
            commitEnds,
            revealEnds,
            audit.fromLeaf,
            receipt
        );
    }

    /// @dev Whether a receipt is audited without lot.
    function _isCertain(bytes32 receiptHash) private view returns (bool) {
        return _parameters.ratePpm == AuditLimits.WHOLE || _gate().requiresAudit(receiptHash);
    }

    function _checkSelected(bytes32 receiptHash, bytes32 beacon) private view {
        uint256 lot = uint256(keccak256(abi.encodePacked(beacon, receiptHash)));
        // floor(2^256 * rate / 1,000,000), in two steps that fit a word.
        uint256 unit = type(uint256).max / AuditLimits.WHOLE;
        uint256 rest = (type(uint256).max % AuditLimits.WHOLE) + 1;
        uint256 rate = _parameters.ratePpm;
        if (lot >= unit * rate + (rest * rate) / AuditLimits.WHOLE) revert NotSelected(receiptHash);
    }
}
