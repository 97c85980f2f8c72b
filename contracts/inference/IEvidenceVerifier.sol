// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {InferenceReceipt} from "./InferenceTypes.sol";

/// @title Judge of one kind of evidence (TEE, ZK or native execution)
interface IEvidenceVerifier {
    /// @notice Whether the evidence behind `receipt` has been verified.
    /// @dev Must not revert for a receipt without evidence: it answers false.
    function isProven(InferenceReceipt calldata receipt) external view returns (bool);
}
