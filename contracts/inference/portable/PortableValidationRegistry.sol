// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {ValidationRegistry} from "../../validation/ValidationRegistry.sol";

/// @title Registry of kinds of proof on a chain without predeploys
contract PortableValidationRegistry is ValidationRegistry {
    /// @param admin Administrator.
    constructor(address admin) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }
}
