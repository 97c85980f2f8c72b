// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IAuditableRegistry} from "../IAuditableRegistry.sol";
import {IInferenceGate} from "../IInferenceGate.sol";
import {InferenceAudit} from "../InferenceAudit.sol";
import {IVerifierRegistry} from "../IVerifierRegistry.sol";

/// @title Audits of receipts on a chain without predeploys
contract PortableInferenceAudit is InferenceAudit {
    IAuditableRegistry private immutable _receipts;
    IInferenceGate private immutable _requests;
    IVerifierRegistry private immutable _members;
    address private immutable _drawer;
    address private immutable _settler;

    /// @param admin Administrator.
    /// @param registry Registry of receipts and providers; must give this contract its roles.
    /// @param gate Gate whose requests wait for audits.
    /// @param verifiers Registry of verifiers; must give this contract its role.
    /// @param drawing Code that draws, with the same collaborators.
    /// @param settlement Code that settles, with the same collaborators.
    constructor(
        address admin,
        IAuditableRegistry registry,
        IInferenceGate gate,
        IVerifierRegistry verifiers,
        address drawing,
        address settlement
    ) {
        _receipts = registry;
        _requests = gate;
        _members = verifiers;
        _drawer = drawing;
        _settler = settlement;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
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

    function _drawing() internal view override returns (address) {
        return _drawer;
    }

    function _settlement() internal view override returns (address) {
        return _settler;
    }
}
