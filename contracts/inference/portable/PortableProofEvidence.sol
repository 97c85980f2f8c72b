// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IEvidenceRegistry} from "../IEvidenceRegistry.sol";
import {ProofEvidence} from "../ProofEvidence.sol";

/// @title Judge of proofs on a chain without predeploys
contract PortableProofEvidence is ProofEvidence {
    IEvidenceRegistry private immutable _receipts;

    /// @param admin Administrator and curator.
    /// @param registry Registry that takes the evidence; must give this contract its role.
    constructor(address admin, IEvidenceRegistry registry) {
        _receipts = registry;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(CURATOR_ROLE, admin);
    }

    function _registry() internal view override returns (IEvidenceRegistry) {
        return _receipts;
    }
}
