// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AuditState} from "./InferenceTypes.sol";

/// @title What gates need of the audit contract
interface IInferenceAudit {
    /// @notice Where the audit of a receipt stands.
    function stateOf(bytes32 receiptHash) external view returns (AuditState);

    /// @notice Takes the small penalty for a request that its provider let expire. Only the gate calls.
    /// @param provider Provider to which the request was assigned.
    /// @param requestId The request.
    function missedDeadline(address provider, bytes32 requestId) external;
}
