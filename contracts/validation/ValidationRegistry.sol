// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IValidationDomain} from "./IValidationDomain.sol";

/// @title Registry of the kinds of proof that the chain knows
/// @notice A domain (PoS for blocks, PoRA for stored data, PoI for AI outputs) names its on-chain verifier, its levels
/// and its slashing rule. A contract asks {requireValidated} and need not know how the proof works.
/// @dev Predeploy without constructor: the first domains and the administrator are genesis storage.
contract ValidationRegistry is AccessControl {
    /// @notice Description of a domain.
    /// @param verifier Contract that answers {IValidationDomain-levelOf}; zero while the domain has none.
    /// @param slashingRule keccak256 of the rule's name, for example `PoI/all-stake-of-provider`.
    /// @param levels ASCII names, weakest first; the index is the level.
    struct Domain {
        address verifier;
        bytes32 slashingRule;
        bytes32[] levels;
    }

    /// @notice Largest number of domains; bounds the search of {levelOf}.
    uint256 public constant MAX_DOMAINS = 16;
    /// @notice Largest number of levels of a domain.
    uint256 public constant MAX_LEVELS = 16;

    bytes32[] private _names;
    mapping(bytes32 name => Domain domain) private _domains;

    /// @notice A domain was added or changed.
    event DomainSet(bytes32 indexed domain, address indexed verifier, bytes32 slashingRule, bytes32[] levels);

    /// @notice No domain of this name.
    error UnknownDomain(bytes32 domain);
    /// @notice A name must not be zero.
    error EmptyDomainName();
    /// @notice The list of domains is full.
    error TooManyDomains(uint256 limit);
    /// @notice A domain needs between one and `limit` levels.
    error InvalidLevels(uint256 given, uint256 limit);
    /// @notice The verifier has no code.
    error VerifierWithoutCode(address verifier);
    /// @notice No domain knows the subject.
    error NotValidated(bytes32 subject);
    /// @notice The subject is known, but at a lower level.
    error LevelTooLow(bytes32 subject, uint8 level, uint8 minLevel);

    /// @notice Adds a domain or replaces its description.
    /// @param name ASCII name, left-aligned.
    /// @param verifier Contract that answers levels; zero takes the domain out of service.
    /// @param slashingRule keccak256 of the rule's name.
    /// @param levels Names of the levels, weakest first.
    function setDomain(
        bytes32 name,
        address verifier,
        bytes32 slashingRule,
        bytes32[] calldata levels
    ) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (name == bytes32(0)) revert EmptyDomainName();
        if (levels.length == 0 || levels.length > MAX_LEVELS) revert InvalidLevels(levels.length, MAX_LEVELS);
        if (verifier != address(0) && verifier.code.length == 0) revert VerifierWithoutCode(verifier);
        Domain storage domain = _domains[name];
        if (domain.levels.length == 0) {
            if (_names.length == MAX_DOMAINS) revert TooManyDomains(MAX_DOMAINS);
            _names.push(name);
        }
        domain.verifier = verifier;
        domain.slashingRule = slashingRule;
        domain.levels = levels;
        emit DomainSet(name, verifier, slashingRule, levels);
    }

    /// @notice Names of all domains.
    function domains() external view returns (bytes32[] memory) {
        return _names;
    }

    /// @notice Description of a domain.
    function domainOf(bytes32 name) external view returns (Domain memory) {
        return _domain(name);
    }

    /// @notice Level of a subject in whichever domain knows it.
    /// @dev Subjects are hashes with separate preimages per domain, so that at most one domain knows a subject.
    /// @return domain Name of that domain; zero when none knows it.
    /// @return level Level reached there.
    function levelOf(bytes32 subject) public view returns (bytes32 domain, uint8 level) {
        uint256 count = _names.length;
        for (uint256 i = 0; i < count; ++i) {
            bytes32 name = _names[i];
            (bool known, uint8 reached) = _levelIn(_domains[name], subject);
            if (known) return (name, reached);
        }
        return (bytes32(0), 0);
    }

    /// @notice Reverts unless some domain has validated `subject` at `minLevel` or higher.
    /// @param subject For PoI the receipt hash.
    /// @param minLevel Least level; levels are those of the domain that knows the subject.
    function requireValidated(bytes32 subject, uint8 minLevel) external view {
        (bytes32 domain, uint8 level) = levelOf(subject);
        if (domain == bytes32(0)) revert NotValidated(subject);
        if (level < minLevel) revert LevelTooLow(subject, level, minLevel);
    }

    /// @notice Reverts unless the named domain has validated `subject` at `minLevel` or higher.
    function requireValidated(bytes32 domain, bytes32 subject, uint8 minLevel) external view {
        (bool known, uint8 level) = _levelIn(_domain(domain), subject);
        if (!known) revert NotValidated(subject);
        if (level < minLevel) revert LevelTooLow(subject, level, minLevel);
    }

    function _domain(bytes32 name) private view returns (Domain storage domain) {
        domain = _domains[name];
        if (domain.levels.length == 0) revert UnknownDomain(name);
    }

    function _levelIn(Domain storage domain, bytes32 subject) private view returns (bool known, uint8 level) {
        address verifier = domain.verifier;
        if (verifier == address(0)) return (false, 0);
        return IValidationDomain(verifier).levelOf(subject);
    }
}
