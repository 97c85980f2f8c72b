// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {IMarket} from "./IMarket.sol";
import {IStorageReward} from "./IStorageReward.sol";

/// @title Market with one price for every sector
/// @notice Fees arrive as plain transfers from the flow; ether that anybody else sends is a tip for the next file.
contract FixedPrice is IMarket, Initializable, AccessControlEnumerable {
    /// @notice May change the price.
    bytes32 public constant PARAMS_ADMIN_ROLE = keccak256("PARAMS_ADMIN_ROLE");

    /// @inheritdoc IMarket
    uint256 public pricePerSector;
    /// @notice The flow that charges.
    address public flow;
    /// @notice Where fees go.
    address public reward;

    /// @notice Takes fees and tips.
    receive() external payable {}

    /// @notice Sets the contract up; the caller becomes administrator.
    function initialize(uint256 pricePerSector_, address flow_, address reward_) external initializer {
        pricePerSector = pricePerSector_;
        flow = flow_;
        reward = reward_;
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(PARAMS_ADMIN_ROLE, msg.sender);
    }

    /// @notice Changes the price, in wei.
    function setPricePerSector(uint256 pricePerSector_) external onlyRole(PARAMS_ADMIN_ROLE) {
        pricePerSector = pricePerSector_;
    }

    /// @inheritdoc IMarket
    /// @dev The share of skipped sectors goes to their pricing chunks; a tip goes with the file.
    function chargeFee(uint256 beforeLength, uint256 uploadSectors, uint256 paddingSectors) external {
        require(msg.sender == flow, "Sender does not have permission");
        uint256 base = pricePerSector * uploadSectors;
        uint256 balance = address(this).balance;
        require(base <= balance, "Not enough paid fee");
        IStorageReward target = IStorageReward(reward);
        uint256 paddingPart = (base * paddingSectors) / (uploadSectors + paddingSectors);
        if (paddingSectors != 0) target.fillReward{value: paddingPart}(beforeLength, paddingSectors);
        target.fillReward{value: balance - paddingPart}(beforeLength + paddingSectors, uploadSectors);
    }
}
