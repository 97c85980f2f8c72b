// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IEvidenceVerifier} from "../inference/IEvidenceVerifier.sol";
import {InferenceReceipt} from "../inference/InferenceTypes.sol";
import {IValidationDomain} from "../validation/IValidationDomain.sol";

/// @dev Judge of evidence and validation domain whose answers a test sets.
contract VerifierMock is IEvidenceVerifier, IValidationDomain {
    mapping(bytes32 evidenceHash => bool proven) private _proven;
    mapping(bytes32 subject => uint8 levelPlusOne) private _levels;

    function setProven(bytes32 evidenceHash, bool proven) external {
        _proven[evidenceHash] = proven;
    }

    function setLevel(bytes32 subject, uint8 level) external {
        _levels[subject] = level + 1;
    }

    function isProven(InferenceReceipt calldata receipt) external view returns (bool) {
        return _proven[receipt.evidenceHash];
    }

    function levelOf(bytes32 subject) external view returns (bool known, uint8 level) {
        uint8 stored = _levels[subject];
        return (stored > 0, stored > 0 ? stored - 1 : 0);
    }
}
