// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IValidationDomain} from "../validation/IValidationDomain.sol";

/// @dev Validation domain whose answers a test sets.
contract VerifierMock is IValidationDomain {
    mapping(bytes32 subject => uint8 levelPlusOne) private _levels;

    function setLevel(bytes32 subject, uint8 level) external {
        _levels[subject] = level + 1;
    }

    function levelOf(bytes32 subject) external view returns (bool known, uint8 level) {
        uint8 stored = _levels[subject];
        return (stored > 0, stored > 0 ? stored - 1 : 0);
    }
}
