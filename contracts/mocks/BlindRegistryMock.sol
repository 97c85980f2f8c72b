// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {IInferenceRegistry} from "../inference/IInferenceRegistry.sol";
import {InferenceReceipt, ProofOfInference} from "../inference/InferenceTypes.sol";
import {IValidationDomain} from "../validation/IValidationDomain.sol";

/// @dev A registry that accepts every receipt: what a chain without proof would do.
contract BlindRegistryMock is IInferenceRegistry, IValidationDomain {
    function verifyReceipt(
        InferenceReceipt calldata receipt,
        bytes calldata,
        uint8
    ) external view returns (bool, uint8, bytes32) {
        return (true, 0, _hash(receipt));
    }

    function consume(
        InferenceReceipt calldata receipt,
        bytes calldata,
        uint8
    ) external view returns (uint8, bytes32) {
        return (0, _hash(receipt));
    }

    function reserve(bytes32, address) external {}

    function raiseTier(bytes32, uint8) external {}

    function isEligible(address) external pure returns (bool) {
        return true;
    }

    function isModel(bytes32) external pure returns (bool) {
        return true;
    }

    function receiptOf(bytes32) external view returns (address, uint64, uint8, bool) {
        return (address(this), uint64(block.number), 0, false);
    }

    function levelOf(bytes32) external pure returns (bool, uint8) {
        return (true, 0);
    }

    function _hash(InferenceReceipt calldata receipt) private view returns (bytes32) {
        return
            MessageHashUtils.toTypedDataHash(
                ProofOfInference.domainSeparator(address(this)),
                ProofOfInference.hashStruct(receipt)
            );
    }
}
