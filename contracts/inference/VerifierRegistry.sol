// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {IVerifierRegistry} from "./IVerifierRegistry.sol";
import {StakeTree} from "./StakeTree.sol";

/// @title Verifiers, their stake, and the lot that draws them
/// @notice A verifier joins the pools of the engines that it can reproduce bit for bit, or the pool of the tolerant class,
/// and is drawn there with the probability of its stake.
/// @dev Predeploy without constructor: administrator, slasher and parameters are genesis storage. A draw sees the stakes
/// as they were an activation delay before its beacon, so that joining, adding stake or leaving after the beacon is known
/// changes nothing.
contract VerifierRegistry is IVerifierRegistry, AccessControl, ReentrancyGuardTransient {
    using EnumerableSet for EnumerableSet.Bytes32Set;
    using StakeTree for StakeTree.Tree;

    /// @notice A verifier as the registry stores it.
    /// @param stake Stake that counts, in wei.
    /// @param unlocking Stake on its way out, in wei; it can still be taken.
    /// @param unlockAt Unix seconds from which `unlocking` can be withdrawn.
    /// @param active False after a full exit.
    /// @param encryptionKey Compressed secp256k1 key for private transcripts; empty without one.
    struct Verifier {
        uint128 stake;
        uint128 unlocking;
        uint64 unlockAt;
        bool active;
        bytes encryptionKey;
    }

    /// @notice May take stake of a verifier after a proven fault.
    bytes32 public constant SLASHER_ROLE = keccak256("SLASHER_ROLE");
    /// @notice Pool of verifiers that judge the tolerant class.
    bytes32 public constant TOLERANT_POOL = keccak256("tolerant");
    /// @notice Where slashed stake goes; nobody holds its key.
    address public constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;
    /// @notice Largest number of pools of a verifier.
    uint256 public constant MAX_POOLS = 8;
    /// @notice Largest number of members of one draw.
    uint256 public constant MAX_DRAWN = 32;
    /// @notice Longest activation delay, in blocks.
    uint32 public constant MAX_ACTIVATION_DELAY = 10_000;
    /// @notice Longest exit delay, in seconds.
    uint64 public constant MAX_UNSTAKE_DELAY = 365 days;
    /// @dev Members without stake that one draw passes over before it gives up.
    uint256 private constant MAX_PASSED_OVER = 32;
    uint256 private constant KEY_SIZE = 33;
    /// @dev Gas of a change apart from the trees.
    uint256 private constant BASE_GAS = 120_000;

    /// @notice Least stake of a verifier that can be drawn, in wei.
    uint128 public minStake;
    /// @notice Seconds between {requestUnstake} and {withdrawStake}; must exceed every audit.
    uint64 public unstakeDelay;
    /// @notice Blocks after which a change of stake counts in draws.
    uint32 public activationDelay;

    mapping(address account => Verifier verifier) private _verifiers;
    mapping(address account => EnumerableSet.Bytes32Set pools) private _pools;
    mapping(bytes32 pool => StakeTree.Tree tree) private _trees;

    event VerifierRegistered(address indexed verifier, bytes32[] pools, bytes encryptionKey, uint256 stake);
    event StakeAdded(address indexed verifier, uint256 amount, uint256 stake);
    event UnstakeRequested(address indexed verifier, uint256 amount, uint64 unlockAt);
    event StakeWithdrawn(address indexed verifier, uint256 amount);
    event Seized(address indexed verifier, uint256 taken, uint256 kept, bytes32 indexed reason, uint256 stakeLeft);
    event ParametersSet(uint128 minStake, uint64 unstakeDelay, uint32 activationDelay);

    error PoolCountInvalid(uint256 given, uint256 limit);
    error PoolRepeated(bytes32 pool);
    error EncryptionKeyInvalid();
    error StakeTooSmall(uint256 stake, uint256 required);
    error NotRegistered(address verifier);
    error UnstakeExceedsStake(uint256 amount, uint256 stake);
    error NothingToWithdraw(address verifier);
    error StakeLocked(uint64 unlockAt, uint256 nowSeconds);
    error ShareTooLarge(uint32 ppm);
    error TooManyDrawn(uint256 count, uint256 limit);
    error ParameterOutOfRange(string name);
    /// @notice Too little gas for a change of weight, whatever it really costs in this block.
    error GasTooLow(uint256 available, uint256 required);

    // ---------------------------------------------------------------- verifiers

    /// @notice Registers the caller as verifier, or changes its pools and key; the value sent adds to its stake.
    /// @param pools Engine ids that the caller reproduces exactly, or {TOLERANT_POOL}; one to {MAX_POOLS}, distinct.
    /// @param encryptionKey Compressed secp256k1 key, or empty.
    function registerVerifier(bytes32[] calldata pools, bytes calldata encryptionKey) external payable {
        if (pools.length == 0 || pools.length > MAX_POOLS) revert PoolCountInvalid(pools.length, MAX_POOLS);
        bool key = encryptionKey.length == KEY_SIZE && (encryptionKey[0] == 0x02 || encryptionKey[0] == 0x03);
        if (encryptionKey.length > 0 && !key) revert EncryptionKeyInvalid();
        uint256 needed = _changeGas(msg.sender);
        for (uint256 i = 0; i < pools.length; ++i) needed += _trees[pools[i]].changeGas(msg.sender);
        _checkGas(needed);
        Verifier storage verifier = _verifiers[msg.sender];
        uint256 stake = verifier.stake + msg.value;
        if (stake < minStake) revert StakeTooSmall(stake, minStake);
        verifier.stake = SafeCast.toUint128(stake);
        verifier.active = true;
        verifier.encryptionKey = encryptionKey;
        EnumerableSet.Bytes32Set storage joined = _pools[msg.sender];
        _weigh(msg.sender, 0);
        joined.clear();
        for (uint256 i = 0; i < pools.length; ++i) {
            if (!joined.add(pools[i])) revert PoolRepeated(pools[i]);
        }
        _weigh(msg.sender, stake);
        emit VerifierRegistered(msg.sender, pools, encryptionKey, stake);
        if (msg.value > 0) emit StakeAdded(msg.sender, msg.value, stake);
    }

    /// @notice Adds the value sent to the caller's stake.
    function addStake() external payable {
        _checkGas(_changeGas(msg.sender));
        Verifier storage verifier = _registered(msg.sender);
        verifier.stake = SafeCast.toUint128(verifier.stake + msg.value);
        _reweigh(msg.sender, verifier);
        emit StakeAdded(msg.sender, msg.value, verifier.stake);
    }

    /// @notice Starts the exit of `amount` of the caller's stake; a running exit starts its delay again.
    /// @dev The caller stays in draws whose beacon comes within the activation delay.
    /// @param amount Wei; what remains is nothing or at least the least stake.
    function requestUnstake(uint256 amount) external {
        _checkGas(_changeGas(msg.sender));
        Verifier storage verifier = _registered(msg.sender);
        uint256 stake = verifier.stake;
        if (amount > stake) revert UnstakeExceedsStake(amount, stake);
        uint256 left = stake - amount;
        if (left > 0 && left < minStake) revert StakeTooSmall(left, minStake);
        uint64 unlockAt = uint64(block.timestamp) + unstakeDelay;
        verifier.stake = uint128(left);
        verifier.unlocking += uint128(amount);
        verifier.unlockAt = unlockAt;
        if (left == 0) verifier.active = false;
        _reweigh(msg.sender, verifier);
        emit UnstakeRequested(msg.sender, amount, unlockAt);
    }

    /// @notice Pays out the caller's stake whose delay has passed.
    function withdrawStake() external nonReentrant {
        Verifier storage verifier = _verifiers[msg.sender];
        uint256 amount = verifier.unlocking;
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        if (block.timestamp < verifier.unlockAt) revert StakeLocked(verifier.unlockAt, block.timestamp);
        verifier.unlocking = 0;
        emit StakeWithdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @inheritdoc IVerifierRegistry
    /// @dev Takes stake that counts first. An account without stake loses nothing; that is no error, so that an audit can
    /// always be settled.
    function seize(
        address account,
        uint256 amount,
        uint32 keepPpm,
        bytes32 reason
    ) external onlyRole(SLASHER_ROLE) nonReentrant returns (uint256 taken, uint256 kept) {
        if (keepPpm > 1_000_000) revert ShareTooLarge(keepPpm);
        _checkGas(_changeGas(account));
        Verifier storage verifier = _verifiers[account];
        uint256 fromStake = Math.min(amount, verifier.stake);
        uint256 fromUnlocking = Math.min(amount - fromStake, verifier.unlocking);
        verifier.stake -= uint128(fromStake);
        verifier.unlocking -= uint128(fromUnlocking);
        _reweigh(account, verifier);
        taken = fromStake + fromUnlocking;
        kept = (taken * keepPpm) / 1_000_000;
        emit Seized(account, taken, kept, reason, verifier.stake);
        if (kept > 0) Address.sendValue(payable(msg.sender), kept);
        if (taken > kept) Address.sendValue(payable(BURN_ADDRESS), taken - kept);
    }

    // ---------------------------------------------------------------- the lot

    /// @inheritdoc IVerifierRegistry
    /// @dev A member that has lost all of its stake since is passed over; one that is leaving is not, because its stake
    /// can still be taken.
    function draw(
        bytes32 pool,
        bytes32 seed,
        uint256 count,
        address exclude,
        uint64 beaconBlock
    ) external view returns (address[] memory members, uint256[] memory stakes) {
        if (count > MAX_DRAWN) revert TooManyDrawn(count, MAX_DRAWN);
        StakeTree.Tree storage tree = _trees[pool];
        uint256 tries = count + MAX_PASSED_OVER;
        StakeTree.Urn memory urn = tree.urn(_activeAt(beaconBlock), tries + 1);
        tree.exclude(urn, exclude);
        members = new address[](count);
        stakes = new uint256[](count);
        uint256 found = 0;
        for (uint256 i = 0; i < tries && found < count && urn.taken < urn.total; ++i) {
            (address member, uint256 weight) = tree.pick(urn, uint256(keccak256(abi.encode(seed, i))));
            uint256 atRisk = atRiskOf(member);
            if (atRisk == 0) continue;
            members[found] = member;
            stakes[found++] = Math.min(weight, atRisk);
        }
        assembly ("memory-safe") {
            mstore(members, found)
            mstore(stakes, found)
        }
    }

    // ---------------------------------------------------------------- views and administration

    /// @notice Stake that counts for `account`, in wei; stake on its way out is not included.
    function stakeOf(address account) external view returns (uint256) {
        return _verifiers[account].stake;
    }

    /// @inheritdoc IVerifierRegistry
    function atRiskOf(address account) public view returns (uint256) {
        return uint256(_verifiers[account].stake) + _verifiers[account].unlocking;
    }

    /// @inheritdoc IVerifierRegistry
    function isVerifier(address account) external view returns (bool) {
        return _weightOf(_verifiers[account]) > 0;
    }

    /// @notice All that is stored about a verifier.
    function verifierOf(address account) external view returns (Verifier memory verifier, bytes32[] memory pools) {
        return (_verifiers[account], _pools[account].values());
    }

    /// @notice Members of a pool that can be drawn once their activation delay has passed.
    function verifiersOf(bytes32 pool) external view returns (address[] memory members) {
        StakeTree.Tree storage tree = _trees[pool];
        uint256 positions = tree.members.length;
        members = new address[](positions);
        uint256 found = 0;
        for (uint256 i = 0; i < positions; ++i) {
            address member = tree.members[i];
            if (tree.weights[member] > 0) members[found++] = member;
        }
        assembly ("memory-safe") {
            mstore(members, found)
        }
    }

    /// @notice Stake in a pool now, in wei.
    function poolStake(bytes32 pool) external view returns (uint256) {
        return _trees[pool].totalAt(uint48(block.number));
    }

    /// @notice Stake in a pool that draws with this beacon see, in wei.
    function poolStakeAt(bytes32 pool, uint64 beaconBlock) external view returns (uint256) {
        return _trees[pool].totalAt(_activeAt(beaconBlock));
    }

    /// @notice Sets the least stake and the delays.
    function setParameters(
        uint128 newMinStake,
        uint64 newUnstakeDelay,
        uint32 newActivationDelay
    ) external onlyRole(DEFAULT_ADMIN_ROLE) {
        // Weights in audits are counted in gwei.
        if (newMinStake < 1 gwei) revert ParameterOutOfRange("minStake");
        if (newUnstakeDelay > MAX_UNSTAKE_DELAY) revert ParameterOutOfRange("unstakeDelay");
        if (newActivationDelay == 0 || newActivationDelay > MAX_ACTIVATION_DELAY) {
            revert ParameterOutOfRange("activationDelay");
        }
        minStake = newMinStake;
        unstakeDelay = newUnstakeDelay;
        activationDelay = newActivationDelay;
        emit ParametersSet(newMinStake, newUnstakeDelay, newActivationDelay);
    }

    // ---------------------------------------------------------------- internals

    function _registered(address account) private view returns (Verifier storage verifier) {
        verifier = _verifiers[account];
        if (!verifier.active) revert NotRegistered(account);
    }

    function _activeAt(uint64 beaconBlock) private view returns (uint48) {
        return beaconBlock > activationDelay ? uint48(beaconBlock - activationDelay) : 0;
    }

    function _weightOf(Verifier storage verifier) private view returns (uint256) {
        return verifier.active && verifier.stake >= minStake ? verifier.stake : 0;
    }

    /// @dev Gas that changing the weight of `account` in its pools needs at most.
    function _changeGas(address account) private view returns (uint256 needed) {
        EnumerableSet.Bytes32Set storage pools = _pools[account];
        uint256 count = pools.length();
        for (uint256 i = 0; i < count; ++i) needed += _trees[pools.pos(i)].changeGas(account);
    }

    function _checkGas(uint256 needed) private view {
        needed += BASE_GAS;
        if (gasleft() < needed) revert GasTooLow(gasleft(), needed);
    }

    function _reweigh(address account, Verifier storage verifier) private {
        _weigh(account, _weightOf(verifier));
    }

    function _weigh(address account, uint256 weight) private {
        EnumerableSet.Bytes32Set storage pools = _pools[account];
        uint256 count = pools.length();
        for (uint256 i = 0; i < count; ++i) _trees[pools.pos(i)].set(account, weight);
    }
}
