// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {AuditStorage} from "./AuditStorage.sol";
import {Audit, AuditLimits, Seat} from "./AuditTypes.sol";
import {AuditState, Tier, Verdict} from "./InferenceTypes.sol";

/// @title What the outcome of an audit means: tiers, stakes, rewards
/// @notice Money of audits is either a bond, a credit or in the pool of rewards.
/// @dev Code without state: {InferenceAudit} runs it on its own by delegatecall. Called directly it can do nothing, since
/// this address holds no role, no audit and no money.
contract AuditSettlement is AuditStorage {
    /// @dev A vote of a settled dispute.
    struct Ballot {
        address verifier;
        uint8 verdict;
        uint8 round;
    }

    /// @dev Reasons of penalties, as ASCII.
    bytes32 private constant ABSENT = "absent";
    bytes32 private constant WRONG_VOTE = "wrong vote";
    bytes32 private constant PASSED_CANARY = "passed canary";

    // ---------------------------------------------------------------- rounds

    /// @notice Ends a round. The first committee must be complete and of one mind; later ones decide by two thirds.
    function settleRound(bytes32 receiptHash) external {
        Audit storage audit = _audits[receiptHash];
        Seat[] storage seats = _seats[receiptHash][audit.round];
        bool complete = audit.revealed == seats.length;
        if (!complete) _punishAbsence(receiptHash, seats);
        if (audit.round == 0) {
            if (complete && audit.leastBad == Verdict.NO_LEAF) {
                _conclude(receiptHash, audit, AuditState.Good);
            } else {
                audit.firstRound = 1;
                _escalate(receiptHash, audit, audit.leastBad == Verdict.NO_LEAF ? 0 : audit.leastBad);
            }
            return;
        }
        AuditState outcome = _outcome(seats);
        bool last = audit.round - audit.firstRound + 1 >= _parameters.maxRounds;
        if (outcome == AuditState.Inconclusive && !last) {
            _escalate(receiptHash, audit, audit.leastBad < audit.fromLeaf ? audit.leastBad : audit.fromLeaf);
        } else if (outcome == AuditState.Good && audit.fromLeaf > 0 && _gate().requiresAudit(receiptHash)) {
            // The objection is refuted, but leaves before it were not checked, and somebody waits for AUDITED.
            if (last) _conclude(receiptHash, audit, AuditState.Inconclusive);
            else _escalate(receiptHash, audit, 0);
        } else {
            _conclude(receiptHash, audit, outcome);
        }
    }

    /// @dev Two thirds of the drawn stake must have voted, and two thirds of the voting stake must agree.
    function _outcome(Seat[] storage seats) private view returns (AuditState) {
        uint256[4] memory weights;
        uint256 drawn = 0;
        uint256 count = seats.length;
        for (uint256 i = 0; i < count; ++i) {
            weights[seats[i].verdict] += seats[i].weight;
            drawn += seats[i].weight;
        }
        uint256 voted = drawn - weights[0];
        if (3 * voted < 2 * drawn) return AuditState.Inconclusive;
        if (3 * weights[Verdict.GOOD] >= 2 * voted) return AuditState.Good;
        if (3 * weights[Verdict.BAD] >= 2 * voted) return AuditState.Bad;
        if (3 * (weights[Verdict.BAD] + weights[Verdict.UNAVAILABLE]) >= 2 * voted) return AuditState.Unavailable;
        return AuditState.Inconclusive;
    }

    /// @notice Ends a dispute for which nobody was drawn.
    function abandon(bytes32 receiptHash) external {
        _conclude(receiptHash, _audits[receiptHash], AuditState.Inconclusive);
    }

    /// @notice Takes the penalty for a request that its provider let expire.
    function missedDeadline(address provider, bytes32 requestId) external {
        _slashProvider(requestId, provider, _parameters.missedDeadlinePpm, 0);
    }

    // ---------------------------------------------------------------- outcomes

    /// @dev Ends an audit or dispute. Nothing here can fail for want of stake, so that every audit can be settled.
    function _conclude(bytes32 receiptHash, Audit storage audit, AuditState outcome) private {
        audit.state = outcome;
        emit AuditSettled(receiptHash, outcome, audit.round);
        if (outcome == AuditState.Inconclusive) {
            _returnBond(receiptHash, audit);
            return;
        }
        (address provider, , uint8 tier, ) = _registry().receiptOf(receiptHash);
        Ballot[] memory ballots = _ballots(receiptHash, audit);
        if (outcome == AuditState.Good) {
            _collect(receiptHash);
            if (audit.fromLeaf == 0 && tier < Tier.AUDITED) _registry().raiseTier(receiptHash, Tier.AUDITED);
            _forfeit(receiptHash, audit, provider);
        } else {
            _collect(bytes32(0));
            _registry().condemn(receiptHash);
            _punishProvider(receiptHash, audit, provider, ballots);
            _returnBond(receiptHash, audit);
        }
        _judge(receiptHash, audit, ballots);
        audit.canary = false;
    }

    /// @dev Votes of the first committee and of the dispute at hand.
    function _ballots(bytes32 receiptHash, Audit storage audit) private view returns (Ballot[] memory ballots) {
        uint8 first = audit.firstRound;
        uint8 round = audit.round;
        uint256 count = _seats[receiptHash][0].length;
        if (round > 0) {
            for (uint8 r = first; r <= round; ++r) count += _seats[receiptHash][r].length;
        }
        ballots = new Ballot[](count);
        count = _fill(ballots, 0, receiptHash, 0);
        if (round == 0) return ballots;
        for (uint8 r = first; r <= round; ++r) count = _fill(ballots, count, receiptHash, r);
    }

    function _fill(
        Ballot[] memory ballots,
        uint256 at,
        bytes32 receiptHash,
        uint8 round
    ) private view returns (uint256) {
        Seat[] storage seats = _seats[receiptHash][round];
        uint256 count = seats.length;
        for (uint256 i = 0; i < count; ++i) {
            ballots[at + i] = Ballot(seats[i].verifier, seats[i].verdict, round);
        }
        return at + count;
    }

    /// @dev Punishes votes against the outcome and rewards those with it.
    function _judge(bytes32 receiptHash, Audit storage audit, Ballot[] memory ballots) private {
        uint256 right = 0;
        for (uint256 i = 0; i < ballots.length; ++i) {
            if (_isRight(ballots[i].verdict, audit.state)) {
                ++right;
                continue;
            }
            (uint32 ppm, bytes32 reason) = _penalty(audit, ballots[i]);
            if (ppm > 0) _slashVerifier(receiptHash, ballots[i].verifier, ppm, reason);
        }
        if (right == 0) return;
        uint256 reward = pool / right;
        if (reward > _parameters.voteReward) reward = _parameters.voteReward;
        if (reward == 0) return;
        pool -= reward * right;
        for (uint256 i = 0; i < ballots.length; ++i) {
            if (_isRight(ballots[i].verdict, audit.state)) _credit(receiptHash, ballots[i].verifier, reward);
        }
    }

    function _isRight(uint8 verdict, AuditState outcome) private pure returns (bool) {
        if (outcome == AuditState.Good) return verdict == Verdict.GOOD;
        if (outcome == AuditState.Bad) return verdict == Verdict.BAD;
        return verdict == Verdict.BAD || verdict == Verdict.UNAVAILABLE;
    }

    /// @dev What a vote that is not right costs. Absence was punished when its round ended. A transcript may have been
    /// there for one verifier and not for another, so such votes cost no more than an absence, or nothing. Verifiers of
    /// the tolerant class run another engine and may err.
    function _penalty(Audit storage audit, Ballot memory ballot) private view returns (uint32 ppm, bytes32 reason) {
        bool first = ballot.round == 0;
        if (ballot.verdict == 0 || (first && audit.tolerant)) return (0, 0);
        if (audit.state == AuditState.Good) {
            if (ballot.verdict == Verdict.BAD) return (_parameters.wrongVotePpm, WRONG_VOTE);
            return (_parameters.absentPpm, ABSENT);
        }
        if (audit.state != AuditState.Bad || ballot.verdict != Verdict.GOOD) return (0, 0);
        if (first && audit.canary) return (_parameters.canaryPpm, PASSED_CANARY);
        return (_parameters.wrongVotePpm, WRONG_VOTE);
    }

    function _punishAbsence(bytes32 receiptHash, Seat[] storage seats) private {
        uint256 count = seats.length;
        for (uint256 i = 0; i < count; ++i) {
            if (seats[i].verdict == 0) _slashVerifier(receiptHash, seats[i].verifier, _parameters.absentPpm, ABSENT);
        }
    }

    /// @dev A proven fault costs everything, in the tolerant class only from the set number of faults on; a missing
    /// transcript costs its share; a planted receipt costs nothing.
    function _punishProvider(
        bytes32 receiptHash,
        Audit storage audit,
        address provider,
        Ballot[] memory ballots
    ) private {
        if (audit.canary) return;
        uint32 ppm = _parameters.unavailablePpm;
        if (audit.state == AuditState.Bad) {
            ppm = AuditLimits.WHOLE;
            if (audit.tolerant) {
                uint256 strikes = ++_strikes[provider];
                emit ProviderStruck(receiptHash, provider, strikes);
                if (strikes < _parameters.tolerantStrikes) return;
            }
        }
        uint256 kept = _slashProvider(receiptHash, provider, ppm, _parameters.challengerSharePpm);
        if (audit.challenger != address(0)) {
            _credit(receiptHash, audit.challenger, kept);
        } else {
            _share(receiptHash, audit.state, ballots, kept);
        }
    }

    /// @dev Splits what was kept among the objectors of the first committee, or among all who were right if it had none.
    function _share(bytes32 receiptHash, AuditState outcome, Ballot[] memory ballots, uint256 kept) private {
        uint256 early = 0;
        uint256 all = 0;
        for (uint256 i = 0; i < ballots.length; ++i) {
            if (!_isRight(ballots[i].verdict, outcome)) continue;
            ++all;
            if (ballots[i].round == 0) ++early;
        }
        uint256 part = kept / (early > 0 ? early : all);
        uint256 rest = kept;
        for (uint256 i = 0; i < ballots.length; ++i) {
            if (!_isRight(ballots[i].verdict, outcome) || (early > 0 && ballots[i].round > 0)) continue;
            _credit(receiptHash, ballots[i].verifier, part);
            rest -= part;
        }
        pool += rest;
    }

    // ---------------------------------------------------------------- stakes, bonds and credits

    function _slashProvider(
        bytes32 reason,
        address provider,
        uint32 ppm,
        uint32 keepPpm
    ) private returns (uint256 kept) {
        uint256 amount = (_registry().atRiskOf(provider) * ppm) / AuditLimits.WHOLE;
        uint256 taken;
        (taken, kept) = _registry().seize(provider, amount, keepPpm, reason);
        emit ProviderSlashed(reason, provider, taken, kept);
    }

    function _slashVerifier(bytes32 receiptHash, address verifier, uint32 ppm, bytes32 reason) private {
        uint256 amount = (_verifiers().atRiskOf(verifier) * ppm) / AuditLimits.WHOLE;
        (uint256 taken, ) = _verifiers().seize(verifier, amount, 0, receiptHash);
        emit VerifierSlashed(receiptHash, verifier, taken, reason);
    }

    /// @dev Half of a lost bond goes to the provider that was accused, half is burnt. A verifier that objected from
    /// outside the committee loses as one inside it does.
    function _forfeit(bytes32 receiptHash, Audit storage audit, address provider) private {
        address challenger = audit.challenger;
        if (challenger == address(0)) return;
        uint256 bond = audit.bond;
        audit.challenger = address(0);
        audit.bond = 0;
        if (bond == 0) {
            _slashVerifier(receiptHash, challenger, _parameters.wrongVotePpm, WRONG_VOTE);
            return;
        }
        _credit(receiptHash, provider, bond / 2);
        Address.sendValue(payable(BURN_ADDRESS), bond - bond / 2);
    }

    function _returnBond(bytes32 receiptHash, Audit storage audit) private {
        uint256 bond = audit.bond;
        audit.bond = 0;
        if (bond > 0) _credit(receiptHash, audit.challenger, bond);
        audit.challenger = address(0);
    }

    function _credit(bytes32 receiptHash, address account, uint256 amount) private {
        if (amount == 0) return;
        _credits[account] += amount;
        emit Credited(receiptHash, account, amount);
    }

    function _collect(bytes32 receiptHash) private {
        pool += _gate().collectAuditShare(receiptHash);
    }
}
