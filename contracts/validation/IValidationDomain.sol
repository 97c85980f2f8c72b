// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title On-chain verifier of one kind of proof
interface IValidationDomain {
    /// @notice Level that `subject` has reached in this domain.
    /// @param subject Hash that names what was proven: block, data root or receipt.
    /// @return known False when the domain has never accepted the subject.
    /// @return level Index into the levels of the domain; meaningless when not known.
    function levelOf(bytes32 subject) external view returns (bool known, uint8 level);
}
