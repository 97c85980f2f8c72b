// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {TeeAttestation} from "../inference/TeeAttestation.sol";

/// @title Attestation of a chain without the precompile
contract TeeAttestationMock is TeeAttestation {
    address private immutable REGISTRY;
    address private immutable VERIFIER;

    constructor(address registry, address verifier) {
        REGISTRY = registry;
        VERIFIER = verifier;
    }

    function _registry() internal view override returns (address) {
        return REGISTRY;
    }

    function _verifier() internal view override returns (address) {
        return VERIFIER;
    }
}
