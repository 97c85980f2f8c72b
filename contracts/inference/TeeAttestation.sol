// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Predeploys} from "../Predeploys.sol";
import {IDcapVerifier} from "./IDcapVerifier.sol";
import {ITeeAttestation} from "./ITeeAttestation.sol";
import {ITeeAttestationErrors} from "./ITeeAttestationErrors.sol";

/// @title Admission of signers by quotes of trusted hardware
/// @notice A quote is admitted when precompile 0x…0A11 verifies it at the block's time, its image is on the allow-list,
/// its platform is up to date, and its report data names the signer. A quote whose chain of trust ends in the mock root,
/// whose private key is public, is admitted only on chains whose genesis says so, and marked as mock.
/// @dev Predeploy without constructor: administrator and policy are genesis storage.
contract TeeAttestation is ITeeAttestation, ITeeAttestationErrors, AccessControl {
    /// @notice What the registry admits.
    /// @param maxValidity Longest admission in seconds; one never outlives the collateral.
    /// @param allowHardening Whether a platform that needs software hardening is admitted (status 1).
    /// @param allowMock Whether mock quotes are admitted; fixed by the genesis.
    struct Policy {
        uint64 maxValidity;
        bool allowHardening;
        bool allowMock;
    }

    /// @notice Bit of a status: the chain of trust ends in the mock root.
    uint8 public constant MOCK = 0x80;
    /// @notice Status of an up-to-date platform.
    uint8 public constant UP_TO_DATE = 0;
    /// @notice Status of a platform that is up to date if its software is hardened.
    uint8 public constant HARDENING_NEEDED = 1;
    /// @notice Longest admission that a policy can grant, in seconds: as long as Intel's collateral lasts.
    uint64 public constant MAX_VALIDITY = 30 days;

    /// @notice The policy in force.
    Policy public policy;
    /// @notice Images whose quotes are admitted, by measurement.
    mapping(bytes32 measurement => bool allowed) public isAllowed;
    /// @notice Number of admissions of a provider with a quote bound to this registry, which its next one must name.
    mapping(address provider => uint256 nonce) public nonceOf;

    event MeasurementAllowed(bytes32 indexed measurement, bool allowed, string note);
    event PolicySet(uint64 maxValidity, bool allowHardening);
    event Admitted(
        address indexed provider,
        address indexed signer,
        bytes32 indexed quoteHash,
        bytes32 measurement,
        uint8 status,
        uint64 until,
        bool mock
    );

    /// @notice Only the inference registry admits signers.
    error NotRegistry(address caller);
    /// @notice The validity is zero or above the limit.
    error ValidityInvalid(uint64 given, uint64 limit);

    /// @inheritdoc ITeeAttestation
    function admit(
        address provider,
        address signer,
        bytes calldata quote,
        bytes calldata collateral
    ) external returns (uint64 until, bool mock) {
        if (msg.sender != _registry()) revert NotRegistry(msg.sender);
        (uint8 status, bytes32 measurement, bytes memory reportData, uint64 expires) = _verify(quote, collateral);
        Policy memory rules = policy;
        mock = status & MOCK != 0;
        if (mock && !rules.allowMock) revert MockRefused();
        status &= ~MOCK;
        if (status != UP_TO_DATE && !(status == HARDENING_NEEDED && rules.allowHardening)) {
            revert StatusRefused(status);
        }
        if (!isAllowed[measurement]) revert MeasurementRefused(measurement);
        _requireBinding(provider, signer, reportData);
        until = uint64(Math.min(expires, block.timestamp + rules.maxValidity));
        emit Admitted(provider, signer, keccak256(quote), measurement, status, until, mock);
    }

    /// @notice What a quote says, verified at the block's time but judged by no policy.
    /// @return status Status of the platform without the mock bit; numbers as in docs/attestation.md.
    /// @return mock Whether the chain of trust ends in the mock root.
    /// @return measurement Image, as the allow-list names it.
    /// @return reportData 64 bytes that bind the quote to a signer.
    /// @return expires Unix second in which the first part of the collateral expires.
    function inspect(
        bytes calldata quote,
        bytes calldata collateral
    )
        external
        view
        returns (uint8 status, bool mock, bytes32 measurement, bytes memory reportData, uint64 expires)
    {
        (status, measurement, reportData, expires) = _verify(quote, collateral);
        return (status & ~MOCK, status & MOCK != 0, measurement, reportData, expires);
    }

    /// @notice Puts an image on the allow-list or takes it off; signers that were admitted stay until they expire.
    /// @param measurement keccak256 over MRTD and RTMR 0 to 2 (TDX) or MRENCLAVE and MRSIGNER (SGX).
    /// @param allowed Whether its quotes are admitted.
    /// @param note What the image is, for example where its source lies.
    function allowMeasurement(
        bytes32 measurement,
        bool allowed,
        string calldata note
    ) external onlyRole(DEFAULT_ADMIN_ROLE) {
        isAllowed[measurement] = allowed;
        emit MeasurementAllowed(measurement, allowed, note);
    }

    /// @notice Sets how long an admission lasts and which platforms count. Mock quotes are no matter of policy.
    /// @param maxValidity Seconds, at most {MAX_VALIDITY}.
    /// @param allowHardening Whether status 1 is admitted.
    function setPolicy(uint64 maxValidity, bool allowHardening) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (maxValidity == 0 || maxValidity > MAX_VALIDITY) revert ValidityInvalid(maxValidity, MAX_VALIDITY);
        policy.maxValidity = maxValidity;
        policy.allowHardening = allowHardening;
        emit PolicySet(maxValidity, allowHardening);
    }

    /// @dev Registry that may admit; another chain has it elsewhere.
    function _registry() internal view virtual returns (address) {
        return Predeploys.INFERENCE_REGISTRY;
    }

    /// @dev Contract that answers `verifyDcapWithExpiry`; another chain has a verifier in Solidity.
    function _verifier() internal view virtual returns (address) {
        return Predeploys.VERIFY_DCAP;
    }

    /// @dev Passes the verifier's own error on.
    function _verify(
        bytes calldata quote,
        bytes calldata collateral
    ) private view returns (uint8 status, bytes32 measurement, bytes memory reportData, uint64 expires) {
        (bool ok, bytes memory answer) = _verifier().staticcall(
            abi.encodeCall(IDcapVerifier.verifyDcapWithExpiry, (quote, collateral))
        );
        if (answer.length == 0) revert DcapUnavailable();
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        return abi.decode(answer, (uint8, bytes32, bytes, uint64));
    }

    /// @dev Three forms: the signer's 20 bytes; keccak256 of (signer, registry, chain id, nonce); the signer in ASCII, as
    /// brokers of 0G write it.
    function _requireBinding(address provider, address signer, bytes memory reportData) private {
        if (reportData.length == 64) {
            bytes32 head = bytes32(reportData);
            if (bytes20(head) == bytes20(signer)) return;
            if (head == keccak256(abi.encode(signer, msg.sender, block.chainid, nonceOf[provider]))) {
                ++nonceOf[provider];
                return;
            }
            if (_names(reportData, signer)) return;
        }
        revert BoundToAnother(signer, reportData);
    }

    /// @dev Whether `text` starts with the address in hexadecimal, in either case, with 0x.
    function _names(bytes memory text, address signer) private pure returns (bool) {
        if (bytes2(text[0]) | (bytes2(text[1]) >> 8) != "0x") return false;
        bytes20 raw = bytes20(signer);
        for (uint256 i = 0; i < 40; ++i) {
            uint8 nibble = i % 2 == 0 ? uint8(raw[i / 2]) >> 4 : uint8(raw[i / 2]) & 0x0f;
            // Bit 5 makes a letter lower case and leaves a digit alone.
            if (uint8(text[2 + i]) | 0x20 != uint8(bytes("0123456789abcdef")[nibble])) return false;
        }
        return true;
    }
}
