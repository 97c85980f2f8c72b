// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IStorageReward} from "./IStorageReward.sol";
import {Reward, SECTORS_PER_PRICE} from "./StorageTypes.sol";

/// @title Rewards that are released evenly over time
/// @notice The flow is cut into pricing chunks. Fees of a chunk's sectors wait in it; when its last sector is filled
/// the clock starts, and the fees are released in equal parts over {releaseSeconds}. An accepted answer takes half of
/// what has been released, plus the base reward while there is any.
/// @dev Credits are withdrawn with {withdrawPayments}; nothing is pushed to miners.
contract ChunkLinearReward is IStorageReward, Initializable, AccessControlEnumerable {
    /// @dev Chunks `[first, end)` that one submission filled from the first to the last sector; all got the same.
    struct Run {
        uint40 first;
        uint40 end;
        uint128 amount;
        uint40 startTime;
    }

    uint256 private constant BASIS_POINTS = 10_000;

    /// @notice Time in which a chunk's fees are released.
    uint256 public immutable releaseSeconds;
    /// @notice Sectors of a pricing chunk.
    uint256 public immutable sectorsPerChunk;

    /// @notice Market that fills.
    address public market;
    /// @notice Mine that claims.
    address public mine;
    /// @notice What is left for base rewards, in wei.
    uint256 public totalBaseReward;
    /// @notice Base reward of an answer, in wei.
    uint256 public baseReward;
    /// @notice Share of the treasury in hundredths of a percent.
    uint256 public serviceFeeRateBps;
    /// @notice Receiver of the service fee.
    address public treasury;
    /// @notice Account that sets the above.
    address public foundationAdmin;

    mapping(uint256 pricingIndex => Reward reward) private _rewards;
    Run[] private _runs;
    mapping(address beneficiary => uint256 amount) private _payments;

    /// @notice More basis points than a whole.
    error InvalidServiceFeeRate(uint256 bps);

    modifier onlyFoundationAdmin() {
        require(msg.sender == foundationAdmin, "Not foundation admin");
        _;
    }

    /// @param releaseSeconds_ Time in which a chunk's fees are released.
    /// @param sectorsPerChunk_ Sectors of a pricing chunk; zero stands for 8 GiB.
    constructor(uint256 releaseSeconds_, uint256 sectorsPerChunk_) {
        releaseSeconds = releaseSeconds_;
        sectorsPerChunk = sectorsPerChunk_ == 0 ? SECTORS_PER_PRICE : sectorsPerChunk_;
    }

    /// @notice Sets the contract up; the caller becomes administrator of roles.
    function initialize(address market_, address mine_, address foundationAdmin_) external initializer {
        market = market_;
        mine = mine_;
        foundationAdmin = foundationAdmin_;
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
    }

    /// @inheritdoc IStorageReward
    function fillReward(uint256 beforeLength, uint256 sectors) external payable {
        require(msg.sender == market, "Sender does not have permission");
        uint256 serviceFee = (msg.value * serviceFeeRateBps) / BASIS_POINTS;
        if (serviceFee != 0) Address.sendValue(payable(treasury), serviceFee);
        _spread(beforeLength, sectors, msg.value - serviceFee);
    }

    /// @inheritdoc IStorageReward
    function claimMineReward(uint256 pricingIndex, address payable beneficiary, bytes32 minerId) external {
        require(msg.sender == mine, "Sender does not have permission");
        Reward memory reward = rewards(pricingIndex);
        uint256 amount = 0;
        if (reward.startTime != 0) {
            uint128 released = uint128(_released(reward));
            uint128 claimable = reward.claimableReward + released;
            uint128 paid = claimable / 2;
            reward.lockedReward -= released;
            reward.claimableReward = claimable - paid;
            reward.distributedReward += paid;
            reward.lastUpdate = uint40(block.timestamp);
            _rewards[pricingIndex] = reward;
            amount = paid + _takeBaseReward(reward);
        }
        if (amount == 0) return;
        _payments[beneficiary] += amount;
        emit DistributeReward(pricingIndex, beneficiary, minerId, amount);
    }

    /// @notice Adds to what base rewards are paid from.
    function donate() external payable {
        totalBaseReward += msg.value;
    }

    /// @notice Sends `payee` all its credits; anybody may call.
    function withdrawPayments(address payable payee) external {
        uint256 amount = _payments[payee];
        _payments[payee] = 0;
        Address.sendValue(payee, amount);
    }

    /// @notice Credits of an account, in wei.
    function payments(address payee) external view returns (uint256) {
        return _payments[payee];
    }

    /// @notice Sets the base reward of an answer, in wei.
    function setBaseReward(uint256 baseReward_) external onlyFoundationAdmin {
        baseReward = baseReward_;
    }

    /// @notice Sets the share of the treasury.
    function setServiceFeeRate(uint256 bps) external onlyFoundationAdmin {
        if (bps > BASIS_POINTS) revert InvalidServiceFeeRate(bps);
        serviceFeeRateBps = bps;
    }

    /// @notice Sets the receiver of service fees.
    function setTreasury(address treasury_) external onlyFoundationAdmin {
        treasury = treasury_;
    }

    /// @notice Hands the foundation's rights on.
    function setFoundationAdmin(address foundationAdmin_) external onlyFoundationAdmin {
        foundationAdmin = foundationAdmin_;
    }

    /// @notice Fees of a pricing chunk.
    function rewards(uint256 pricingIndex) public view returns (Reward memory reward) {
        reward = _rewards[pricingIndex];
        if (reward.startTime != 0) return reward;
        uint256 low = 0;
        uint256 high = _runs.length;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            Run memory run = _runs[middle];
            if (pricingIndex >= run.end) {
                low = middle + 1;
            } else if (pricingIndex < run.first) {
                high = middle;
            } else {
                return Reward(run.amount, 0, 0, run.startTime, run.startTime);
            }
        }
    }

    /// @notice Time at which everything of a chunk is released; zero while it is not full.
    function rewardDeadline(uint256 pricingIndex) public view returns (uint256) {
        uint256 startTime = rewards(pricingIndex).startTime;
        return startTime == 0 ? 0 : startTime + releaseSeconds;
    }

    /// @notice First chunk whose deadline has not passed, and the time of this answer.
    function firstRewardableChunk() external view returns (uint64 index, uint256 blockTimestamp) {
        uint256 low = 0;
        uint256 high = 1;
        // Chunks fill in order: deadlines rise, and chunks without one come last.
        while (_expired(high)) (low, high) = (high, 2 * high);
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_expired(middle)) low = middle + 1;
            else high = middle;
        }
        return (uint64(low), block.timestamp);
    }

    function _expired(uint256 pricingIndex) private view returns (bool) {
        uint256 deadline = rewardDeadline(pricingIndex);
        return deadline != 0 && deadline < block.timestamp;
    }

    /// @dev Chunks that are filled from end to end cost the same however many there are: they are one run. What
    /// rounding leaves goes to the chunk that is begun, or to the base rewards when none is.
    function _spread(uint256 beforeLength, uint256 sectors, uint256 amount) private {
        uint256 size = sectorsPerChunk;
        uint256 afterLength = beforeLength + sectors;
        uint256 first = (beforeLength + size - 1) / size;
        uint256 end = afterLength / size;
        // Within one chunk that was begun before.
        if (end < first) return _add(end, amount, false);
        uint256 rest = amount;
        if (beforeLength % size != 0) {
            uint256 head = (amount * (first * size - beforeLength)) / sectors;
            _add(first - 1, head, true);
            rest -= head;
        }
        if (end > first) {
            uint256 share = (amount * size) / sectors;
            _runs.push(Run(uint40(first), uint40(end), SafeCast.toUint128(share), uint40(block.timestamp)));
            rest -= share * (end - first);
        }
        if (rest == 0) return;
        if (afterLength % size != 0) _add(end, rest, false);
        else totalBaseReward += rest;
    }

    function _add(uint256 pricingIndex, uint256 amount, bool full) private {
        Reward storage reward = _rewards[pricingIndex];
        require(reward.startTime == 0, "Reward item has been initialized");
        if (amount != 0) reward.lockedReward += SafeCast.toUint128(amount);
        if (full) {
            reward.startTime = uint40(block.timestamp);
            reward.lastUpdate = uint40(block.timestamp);
        }
    }

    /// @dev What is due by now of all the chunk ever got, less what was released before.
    function _released(Reward memory reward) private view returns (uint256) {
        uint256 before = uint256(reward.claimableReward) + reward.distributedReward;
        uint256 total = before + reward.lockedReward;
        uint256 elapsed = block.timestamp - reward.startTime;
        uint256 expected = elapsed >= releaseSeconds ? total : (total * elapsed) / releaseSeconds;
        return expected > before ? expected - before : 0;
    }

    function _takeBaseReward(Reward memory reward) private returns (uint256 amount) {
        if (uint256(reward.startTime) + releaseSeconds <= block.timestamp) return 0;
        uint256 total = totalBaseReward;
        amount = baseReward < total ? baseReward : total;
        if (amount != 0) totalBaseReward = total - amount;
    }
}
