// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AuditState} from "./InferenceTypes.sol";

/// @notice Every tunable number of audits. Shares are in millionths.
/// @param ratePpm Share of receipts that the lot selects; 1,000,000 selects all.
/// @param committee Members of the first committee.
/// @param escalatedCommittee Members of every later committee.
/// @param maxRounds Committees that a dispute may have before it ends without a conclusion.
/// @param beaconDelay Blocks from a receipt, or an escalation, to the block whose randomness draws.
/// @param drawWindow Blocks after the first chance in which that randomness draws; then the next beacon does.
/// @param commitWindow Blocks to commit.
/// @param revealWindow Blocks to reveal.
/// @param challengeWindow Blocks after a receipt became known in which it can be drawn by lot or challenged.
/// @param bond Wei that a challenge or a canary's dispute puts down.
/// @param voteReward Largest reward of a vote that agrees with the outcome, in wei.
/// @param challengerSharePpm Share of a provider's seized stake that goes to who found the fault; the rest is burnt.
/// @param unavailablePpm Stake that a provider loses when the transcript cannot be had.
/// @param missedDeadlinePpm Stake that a provider loses for letting an assigned request expire.
/// @param wrongVotePpm Stake that a verifier loses for a vote against the outcome.
/// @param absentPpm Stake that a verifier loses for not voting.
/// @param canaryPpm Stake that a verifier loses for passing a canary.
/// @param tolerantStrikes Faults of the tolerant class from which on a provider is slashed.
struct AuditParameters {
    uint32 ratePpm;
    uint16 committee;
    uint16 escalatedCommittee;
    uint8 maxRounds;
    uint16 beaconDelay;
    uint16 drawWindow;
    uint16 commitWindow;
    uint16 revealWindow;
    uint32 challengeWindow;
    uint128 bond;
    uint128 voteReward;
    uint32 challengerSharePpm;
    uint32 unavailablePpm;
    uint32 missedDeadlinePpm;
    uint32 wrongVotePpm;
    uint32 absentPpm;
    uint32 canaryPpm;
    uint8 tolerantStrikes;
}

/// @notice A member of a committee and its vote.
/// @param verifier Member.
/// @param weight Its stake in gwei, as the lot saw it.
/// @param verdict Revealed verdict; zero before.
/// @param commitment Commitment to vote and salt; zero before.
struct Seat {
    address verifier;
    uint64 weight;
    uint8 verdict;
    bytes32 commitment;
}

/// @notice An audit as the contract stores it.
/// @param state Where it stands.
/// @param round Committee at work, from 0.
/// @param firstRound First round of the dispute at hand.
/// @param committed Commitments in this round.
/// @param revealed Votes in this round.
/// @param tolerant Whether the engine is of the tolerant class.
/// @param canary Whether the requester has shown that it planted the receipt.
/// @param fromLeaf Leaf from which this committee checks.
/// @param leastBad Least leaf that anybody objected to; the largest number without an objection.
/// @param beaconBlock First block whose randomness can draw the next committee.
/// @param commitEnds Last block of commitments.
/// @param revealEnds Last block of votes.
/// @param requester Account for which the receipt was made.
/// @param challenger Account outside the committee that started or joined the dispute; zero without one.
/// @param bond Its bond in wei; zero for a verifier, whose stake is its bond.
struct Audit {
    AuditState state;
    uint8 round;
    uint8 firstRound;
    uint8 committed;
    uint8 revealed;
    bool tolerant;
    bool canary;
    uint32 fromLeaf;
    uint32 leastBad;
    uint64 beaconBlock;
    uint64 commitEnds;
    address requester;
    uint64 revealEnds;
    address challenger;
    uint96 bond;
}

/// @title Why parameters of audits are refused
interface IAuditLimitErrors {
    /// @notice A parameter is outside its limits.
    error ParameterOutOfRange(string name);
}

/// @title Limits of the parameters of audits
library AuditLimits {
    /// @dev Everything, in millionths.
    uint32 internal constant WHOLE = 1_000_000;

    /// @notice Reverts with the name of the first parameter that is outside its limits.
    /// @dev The committees are bounded so that a dispute of the last round can always be settled in one transaction. A
    /// challenger never gets more than half: who challenges itself must still lose half of its stake.
    function check(AuditParameters calldata p) internal pure {
        _within(p.ratePpm, 0, WHOLE, "ratePpm");
        _within(p.committee, 1, 7, "committee");
        _within(p.escalatedCommittee, p.committee, 15, "escalatedCommittee");
        _within(p.maxRounds, 1, 3, "maxRounds");
        _within(p.beaconDelay, 1, 64, "beaconDelay");
        _within(p.drawWindow, 1, 200, "drawWindow");
        _within(p.commitWindow, 2, 50_000, "commitWindow");
        _within(p.revealWindow, 2, 50_000, "revealWindow");
        _within(p.challengeWindow, 10, 1_000_000, "challengeWindow");
        _within(p.bond, 1, type(uint96).max, "bond");
        _within(p.voteReward, 0, 1_000 ether, "voteReward");
        _within(p.challengerSharePpm, 0, WHOLE / 2, "challengerSharePpm");
        _within(p.unavailablePpm, 0, WHOLE, "unavailablePpm");
        _within(p.missedDeadlinePpm, 0, WHOLE / 10, "missedDeadlinePpm");
        _within(p.wrongVotePpm, 0, WHOLE, "wrongVotePpm");
        _within(p.absentPpm, 0, WHOLE / 10, "absentPpm");
        _within(p.canaryPpm, 0, WHOLE, "canaryPpm");
        _within(p.tolerantStrikes, 1, 10, "tolerantStrikes");
    }

    function _within(uint256 value, uint256 least, uint256 most, string memory name) private pure {
        if (value < least || value > most) revert IAuditLimitErrors.ParameterOutOfRange(name);
    }
}
