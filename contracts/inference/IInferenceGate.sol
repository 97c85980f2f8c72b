// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title What audits need of the inference gate
interface IInferenceGate {
    /// @notice Whether a consumer waits for the audit of this receipt: its request is parked and asks for AUDITED.
    function requiresAudit(bytes32 receiptHash) external view returns (bool);

    /// @notice Pays the audit's share of fees to the caller, which must be the audit contract.
    /// @param receiptHash Receipt that was found good; the share of its request is paid with the rest.
    /// @return amount Wei paid.
    function collectAuditShare(bytes32 receiptHash) external returns (uint256 amount);
}
