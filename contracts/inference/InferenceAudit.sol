// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Predeploys} from "../Predeploys.sol";
import {AuditDraw} from "./AuditDraw.sol";
import {AuditSettlement} from "./AuditSettlement.sol";
import {AuditStorage} from "./AuditStorage.sol";
import {Audit, AuditParameters, Seat} from "./AuditTypes.sol";
import {IInferenceAudit} from "./IInferenceAudit.sol";
import {AuditState, AuditVote, InferenceReceipt, Verdict} from "./InferenceTypes.sol";

/// @title Audits of receipts: draw, votes, disputes
/// @notice Once a receipt is known, the randomness of a later block decides whether it is audited and by whom. Every
/// member re-executes it, commits to its vote, then reveals. One objection or absence brings a larger committee, of which
/// two thirds by stake decide. Anybody may challenge a receipt with a bond.
/// @dev Predeploy without constructor: administrator and parameters are genesis storage. What an outcome means for stakes
/// is in {AuditSettlement}, how members are drawn in {AuditDraw}.
contract InferenceAudit is IInferenceAudit, AuditStorage, ReentrancyGuardTransient {
    /// @notice An audit with its present committee, see {auditOf}.
    struct AuditView {
        Audit audit;
        address provider;
        Seat[] seats;
    }

    /// @dev Rounds of all disputes of one receipt together; leaves room in its byte.
    uint8 private constant LAST_ROUND = 240;

    event AuditCommitted(bytes32 indexed receiptHash, address indexed verifier);
    event AuditRevealed(bytes32 indexed receiptHash, address indexed verifier, uint8 verdict, uint32 badIndex);
    event Challenged(bytes32 indexed receiptHash, address indexed challenger, uint32 leaf, uint256 bond);
    event CanaryCommitted(address indexed requester, bytes32 indexed commitment);
    event CanaryRevealed(bytes32 indexed receiptHash, address indexed requester);

    error CommitmentEmpty();
    error CommitClosed(uint64 commitEnds);
    error RevealNotOpen(uint64 commitEnds);
    error RevealClosed(uint64 revealEnds);
    error NotMember(bytes32 receiptHash, address account);
    error AlreadyCommitted(bytes32 receiptHash, address verifier);
    error AlreadyRevealed(bytes32 receiptHash, address verifier);
    error CommitmentMismatch(bytes32 expected, bytes32 given);
    error VerdictUnknown(uint8 verdict);
    error VoteBadSignature();
    error NotVerifier(address account);
    error WindowOpen(uint256 untilBlock);
    error ChallengeClosed(uint256 lastBlock);
    error RoundsExhausted(bytes32 receiptHash);
    error BondMismatch(uint256 given, uint256 required);
    error NotRequester(address account, address requester);
    error CanaryNotCommitted(bytes32 receiptHash, address requester);
    error CanaryKnown(bytes32 commitment);

    error NotGate(address caller);
    error PaymentUnexpected(address from);
    error NothingToWithdraw(address account);

    // ---------------------------------------------------------------- draw

    /// @notice Draws the committee of a receipt: of its first round, or of the next one of a dispute. Anybody may call.
    /// @dev The randomness is that of one block, whenever the call comes within the draw window; a window that everybody
    /// missed makes way for the next one. By lot a receipt can be selected in its first window only; see {drawLate}.
    /// @param receipt The receipt; known to the registry.
    /// @param header RLP of the header of the block that {beaconOf} names.
    /// @return selected Always true: a receipt that the lot spares reverts.
    function drawAudit(InferenceReceipt calldata receipt, bytes calldata header) external returns (bool selected) {
        return _draw(receipt, header, header[:0]);
    }

    /// @notice As {drawAudit}, for a receipt whose first window was missed.
    /// @param selection RLP of the header of the first beacon block, which decides whether the lot selected the receipt.
    function drawLate(
        InferenceReceipt calldata receipt,
        bytes calldata header,
        bytes calldata selection
    ) external returns (bool selected) {
        return _draw(receipt, header, selection);
    }

    /// @notice Block whose randomness draws the committee of a receipt if the draw comes in the next block.
    function beaconOf(bytes32 receiptHash) external view returns (uint256 blockNumber) {
        Audit storage audit = _audits[receiptHash];
        return _beaconAt(_firstBeacon(receiptHash, audit), block.number + 1);
    }

    // ---------------------------------------------------------------- votes

    /// @notice Commits the caller, a member of the present committee, to its vote.
    /// @param receiptHash Receipt under audit.
    /// @param commitment keccak256(abi.encode(bytes32 voteDigest, bytes32 salt)).
    function commitAudit(bytes32 receiptHash, bytes32 commitment) external {
        Audit storage audit = _audits[receiptHash];
        if (audit.state == AuditState.Revealing) revert CommitClosed(audit.commitEnds);
        if (audit.state != AuditState.Committing) revert WrongState(receiptHash, audit.state);
        if (block.number > audit.commitEnds) revert CommitClosed(audit.commitEnds);
        if (commitment == bytes32(0)) revert CommitmentEmpty();
        Seat storage seat = _seatOf(receiptHash, audit, msg.sender);
        if (seat.commitment != bytes32(0)) revert AlreadyCommitted(receiptHash, msg.sender);
        seat.commitment = commitment;
        emit AuditCommitted(receiptHash, msg.sender);
        if (++audit.committed < _seats[receiptHash][audit.round].length) return;
        audit.state = AuditState.Revealing;
        audit.commitEnds = uint64(block.number);
        audit.revealEnds = uint64(block.number) + _parameters.revealWindow;
    }

    /// @notice Reveals a committed vote; anybody may carry it. The last one settles the round.
    /// @param vote Vote of a member.
    /// @param signature The member's signature in the domain of the registry.
    /// @param salt Salt of the commitment.
    function revealAudit(AuditVote calldata vote, bytes calldata signature, bytes32 salt) external {
        bytes32 receiptHash = vote.receiptHash;
        Audit storage audit = _audits[receiptHash];
        if (audit.state == AuditState.Committing) {
            if (block.number <= audit.commitEnds) revert RevealNotOpen(audit.commitEnds);
            audit.state = AuditState.Revealing;
        }
        if (audit.state != AuditState.Revealing) revert WrongState(receiptHash, audit.state);
        if (block.number > audit.revealEnds) revert RevealClosed(audit.revealEnds);
        Seat storage seat = _seatOf(receiptHash, audit, vote.verifier);
        if (seat.verdict != 0) revert AlreadyRevealed(receiptHash, vote.verifier);
        bytes32 commitment = keccak256(abi.encode(_checkVote(vote, signature), salt));
        if (commitment != seat.commitment) revert CommitmentMismatch(seat.commitment, commitment);
        seat.verdict = vote.verdict;
        if (vote.verdict != Verdict.GOOD) _object(audit, vote.badIndex);
        emit AuditRevealed(receiptHash, vote.verifier, vote.verdict, vote.badIndex);
        if (++audit.revealed == audit.committed) _settle(AuditSettlement.settleRound.selector, receiptHash);
    }

    /// @notice Settles a round whose time is over; also ends a dispute for which nobody was drawn. Anybody may call.
    function settle(bytes32 receiptHash) external {
        Audit storage audit = _audits[receiptHash];
        AuditState state = audit.state;
        if (state == AuditState.Escalated) {
            uint256 last = uint256(audit.beaconBlock) + _parameters.challengeWindow;
            if (block.number <= last) revert WindowOpen(last);
            _settle(AuditSettlement.abandon.selector, receiptHash);
            return;
        }
        if (state != AuditState.Committing && state != AuditState.Revealing) revert WrongState(receiptHash, state);
        // Without a commitment there is nothing to reveal.
        uint256 ends = audit.committed == 0 ? audit.commitEnds : audit.revealEnds;
        if (block.number <= ends) revert WindowOpen(ends);
        _settle(AuditSettlement.settleRound.selector, receiptHash);
    }

    function _seatOf(bytes32 receiptHash, Audit storage audit, address account) private view returns (Seat storage) {
        Seat[] storage seats = _seats[receiptHash][audit.round];
        uint256 count = seats.length;
        for (uint256 i = 0; i < count; ++i) {
            if (seats[i].verifier == account) return seats[i];
        }
        revert NotMember(receiptHash, account);
    }

    function _checkVote(AuditVote calldata vote, bytes calldata signature) private view returns (bytes32 digest) {
        if (vote.verdict < Verdict.GOOD || vote.verdict > Verdict.UNAVAILABLE) revert VerdictUnknown(vote.verdict);
        digest = _registry().hashVote(vote);
        (address signer, ECDSA.RecoverError failure, ) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != vote.verifier) revert VoteBadSignature();
    }

    function _object(Audit storage audit, uint32 badIndex) private {
        uint32 leaf = badIndex == Verdict.NO_LEAF ? 0 : badIndex;
        if (leaf < audit.leastBad) audit.leastBad = leaf;
    }

    // ---------------------------------------------------------------- disputes

    /// @notice Challenges a receipt with a bond; a committee will be drawn.
    /// @param receiptHash Receipt that became known within the challenge window.
    /// @param leaf First bad leaf; 0xffffffff when the fault is elsewhere.
    function challenge(bytes32 receiptHash, uint32 leaf) external payable {
        if (msg.value != _parameters.bond) revert BondMismatch(msg.value, _parameters.bond);
        _dispute(receiptHash, msg.sender, leaf);
        emit Challenged(receiptHash, msg.sender, leaf, msg.value);
    }

    /// @notice Objection of a verifier outside the committee, with its stake as the bond; anybody may carry it. While the
    /// first committee votes it makes sure of a larger one; otherwise it starts a dispute as {challenge} does.
    /// @param vote Vote with the verdict bad or unavailable: only drawn votes lift a tier.
    /// @param signature The verifier's signature in the domain of the registry.
    function attest(AuditVote calldata vote, bytes calldata signature) external {
        _checkVote(vote, signature);
        if (vote.verdict == Verdict.GOOD) revert VerdictUnknown(vote.verdict);
        if (!_verifiers().isVerifier(vote.verifier)) revert NotVerifier(vote.verifier);
        bytes32 receiptHash = vote.receiptHash;
        Audit storage audit = _audits[receiptHash];
        bool voting = audit.state == AuditState.Committing || audit.state == AuditState.Revealing;
        if (voting && audit.round == 0 && audit.challenger == address(0)) {
            audit.challenger = vote.verifier;
            _object(audit, vote.badIndex);
        } else {
            _dispute(receiptHash, vote.verifier, vote.badIndex);
        }
        emit Challenged(receiptHash, vote.verifier, vote.badIndex, 0);
    }

    /// @notice Commits the caller to having planted a receipt that is known to be bad.
    /// @param commitment keccak256(abi.encode(bytes32 receiptHash, bytes32 salt)); before the receipt is known.
    function commitCanary(bytes32 commitment) external {
        if (_canaries[msg.sender][commitment] != 0) revert CanaryKnown(commitment);
        _canaries[msg.sender][commitment] = uint64(block.number);
        emit CanaryCommitted(msg.sender, commitment);
    }

    /// @notice Shows that the caller planted a receipt, once its first committee has voted. When the dispute finds it bad,
    /// its provider is spared and those who passed it pay.
    /// @dev Only the requester of the receipt can: nobody else's answer can be declared a canary. The bond is needed to
    /// open a dispute, not to join one.
    function revealCanary(bytes32 receiptHash, bytes32 salt) external payable {
        Audit storage audit = _audits[receiptHash];
        if (audit.requester != msg.sender) revert NotRequester(msg.sender, audit.requester);
        bytes32 commitment = keccak256(abi.encode(receiptHash, salt));
        uint64 committedAt = _canaries[msg.sender][commitment];
        (, uint64 known, , ) = _registry().receiptOf(receiptHash);
        if (committedAt == 0 || committedAt >= known) revert CanaryNotCommitted(receiptHash, msg.sender);
        bool open = _isOpen(audit.state);
        if (_seats[receiptHash][0].length == 0 || (open && audit.round == 0)) {
            revert WrongState(receiptHash, audit.state);
        }
        uint256 required = open ? 0 : _parameters.bond;
        if (msg.value != required) revert BondMismatch(msg.value, required);
        // Another block number that no receipt precedes: a canary is used once.
        _canaries[msg.sender][commitment] = type(uint64).max;
        if (!open) _dispute(receiptHash, msg.sender, Verdict.NO_LEAF);
        audit.canary = true;
        emit CanaryRevealed(receiptHash, msg.sender);
    }

    /// @dev Opens a dispute; the value sent is its bond.
    function _dispute(bytes32 receiptHash, address challenger, uint32 leaf) private {
        Audit storage audit = _audits[receiptHash];
        (, uint64 known, , bool condemned) = _registry().receiptOf(receiptHash);
        if (condemned || _isOpen(audit.state)) revert WrongState(receiptHash, audit.state);
        uint256 last = uint256(known) + _parameters.challengeWindow;
        if (block.number > last) revert ChallengeClosed(last);
        if (audit.round >= LAST_ROUND) revert RoundsExhausted(receiptHash);
        audit.firstRound = audit.round + 1;
        audit.challenger = challenger;
        audit.bond = uint96(msg.value);
        audit.leastBad = Verdict.NO_LEAF;
        _object(audit, leaf);
        _escalate(receiptHash, audit, audit.leastBad);
    }

    // ---------------------------------------------------------------- views and administration

    /// @notice An audit as it stands, with the seats of its present round.
    function auditOf(bytes32 receiptHash) external view returns (AuditView memory) {
        Audit storage audit = _audits[receiptHash];
        (address provider, , , ) = _registry().receiptOf(receiptHash);
        return AuditView(audit, provider, _seats[receiptHash][audit.round]);
    }

    /// @notice Committee and votes of one round.
    function seatsOf(bytes32 receiptHash, uint8 round) external view returns (Seat[] memory) {
        return _seats[receiptHash][round];
    }

    /// @notice Current parameters.
    function parameters() external view returns (AuditParameters memory) {
        return _parameters;
    }

    /// @notice Sets the parameters; audits under way keep the times they have.
    /// @dev The checks are in {AuditDraw}, which has room for them.
    function setParameters(AuditParameters calldata) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _run(_drawing(), msg.data);
    }

    // ---------------------------------------------------------------- money

    /// @notice Takes seized stake and the audit's share of fees; nobody else's payments.
    receive() external payable {
        bool expected = msg.sender == address(_registry()) ||
            msg.sender == address(_gate()) ||
            msg.sender == address(_verifiers());
        if (!expected) revert PaymentUnexpected(msg.sender);
    }

    /// @notice Adds the value sent to the pool of rewards.
    function fundPool() external payable {
        pool += msg.value;
        emit PoolFunded(msg.sender, msg.value);
    }

    /// @notice Pays `account` what audits owe it. Anybody may call; the money goes to `account`.
    function withdraw(address payable account) external nonReentrant {
        uint256 amount = _credits[account];
        if (amount == 0) revert NothingToWithdraw(account);
        _credits[account] = 0;
        emit Withdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice Wei that audits owe `account`.
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    /// @notice Faults of the tolerant class that were found in receipts of `provider`.
    function strikesOf(address provider) external view returns (uint256) {
        return _strikes[provider];
    }

    /// @inheritdoc IInferenceAudit
    function stateOf(bytes32 receiptHash) external view returns (AuditState) {
        return _audits[receiptHash].state;
    }

    /// @inheritdoc IInferenceAudit
    function missedDeadline(address provider, bytes32 requestId) external {
        if (msg.sender != address(_gate())) revert NotGate(msg.sender);
        _run(_settlement(), abi.encodeCall(AuditSettlement.missedDeadline, (provider, requestId)));
    }

    // ---------------------------------------------------------------- code elsewhere

    function _draw(
        InferenceReceipt calldata receipt,
        bytes calldata header,
        bytes calldata selection
    ) private returns (bool) {
        _run(_drawing(), abi.encodeCall(AuditDraw.draw, (receipt, header, selection)));
        return true;
    }

    function _settle(bytes4 selector, bytes32 receiptHash) private {
        _run(_settlement(), abi.encodeWithSelector(selector, receiptHash));
    }

    function _run(address code, bytes memory call) private {
        Address.functionDelegateCall(code, call);
    }

    /// @dev Code that draws; a deployment elsewhere names its own.
    function _drawing() internal view virtual returns (address) {
        return Predeploys.AUDIT_DRAW;
    }

    /// @dev Code that settles; a deployment elsewhere names its own.
    function _settlement() internal view virtual returns (address) {
        return Predeploys.AUDIT_SETTLEMENT;
    }
}
