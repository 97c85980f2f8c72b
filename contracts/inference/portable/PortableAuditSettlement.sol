// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AuditSettlement} from "../AuditSettlement.sol";
import {IAuditableRegistry} from "../IAuditableRegistry.sol";
import {IInferenceGate} from "../IInferenceGate.sol";
import {IVerifierRegistry} from "../IVerifierRegistry.sol";

/// @title Settlement of audits on a chain without predeploys
/// @dev Runs by delegatecall of {PortableInferenceAudit}: its collaborators are code, not state, and must be the same.
contract PortableAuditSettlement is AuditSettlement {
    IAuditableRegistry private immutable _receipts;
    IInferenceGate private immutable _requests;
    IVerifierRegistry private immutable _members;

    /// @param registry Registry of receipts and providers.
    /// @param gate Gate whose requests wait for audits.
    /// @param verifiers Registry of verifiers.
    constructor(IAuditableRegistry registry, IInferenceGate gate, IVerifierRegistry verifiers) {
        _receipts = registry;
        _requests = gate;
        _members = verifiers;
    }

    function _registry() internal view override returns (IAuditableRegistry) {
        return _receipts;
    }

    function _gate() internal view override returns (IInferenceGate) {
        return _requests;
    }

    function _verifiers() internal view override returns (IVerifierRegistry) {
        return _members;
    }
}
