// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IInferenceAudit} from "../IInferenceAudit.sol";
import {IInferenceRegistry} from "../IInferenceRegistry.sol";
import {InferenceGate} from "../InferenceGate.sol";

/// @title Gate between contracts and AI on a chain without predeploys
contract PortableInferenceGate is InferenceGate {
    IInferenceRegistry private immutable _receipts;
    IInferenceAudit private immutable _auditor;

    /// @param admin Administrator.
    /// @param registry Registry that verifies receipts; must give this gate its role.
    /// @param audit Audit contract.
    constructor(address admin, IInferenceRegistry registry, IInferenceAudit audit) {
        _receipts = registry;
        _auditor = audit;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    function _registry() internal view override returns (IInferenceRegistry) {
        return _receipts;
    }

    function _audit() internal view override returns (IInferenceAudit) {
        return _auditor;
    }
}
