// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {InferenceRegistry} from "../InferenceRegistry.sol";
import {ITeeAttestation} from "../ITeeAttestation.sol";

/// @title Registry of models, engines, providers and receipts on a chain without predeploys
contract PortableInferenceRegistry is InferenceRegistry {
    ITeeAttestation private immutable _judge;

    /// @param admin Administrator, curator and slasher.
    /// @param judge Judge of quotes, or an account without code: then nobody is attested.
    constructor(address admin, ITeeAttestation judge) {
        _judge = judge;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(CURATOR_ROLE, admin);
        _grantRole(SLASHER_ROLE, admin);
    }

    function _attestation() internal view override returns (ITeeAttestation) {
        return _judge;
    }
}
