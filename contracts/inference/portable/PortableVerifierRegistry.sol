// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {VerifierRegistry} from "../VerifierRegistry.sol";

/// @title Registry of verifiers on a chain without predeploys
contract PortableVerifierRegistry is VerifierRegistry {
    /// @param admin Administrator; gives the audit contract the role of slasher.
    constructor(address admin) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }
}
