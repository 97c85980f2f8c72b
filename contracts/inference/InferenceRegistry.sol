// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {IValidationDomain} from "../validation/IValidationDomain.sol";
import {Predeploys} from "../Predeploys.sol";
import {IAuditableRegistry} from "./IAuditableRegistry.sol";
import {IInferenceRegistry} from "./IInferenceRegistry.sol";
import {IProofOfInferenceErrors} from "./IProofOfInferenceErrors.sol";
import {ITeeAttestation} from "./ITeeAttestation.sol";
import {ITeeAttestationErrors} from "./ITeeAttestationErrors.sol";
import {
    AuditVote,
    EngineClass,
    InferenceReceipt,
    Model,
    ProofOfInference,
    Tier
} from "./InferenceTypes.sol";

/// @title Models, engines, providers and their stake; the verifier of receipts
/// @notice Domain of every EIP-712 signature of Proof-of-Inference.
/// @dev Predeploy without constructor: administrator, parameters, first models and engines are genesis storage.
contract InferenceRegistry is
    IAuditableRegistry,
    IValidationDomain,
    IProofOfInferenceErrors,
    ITeeAttestationErrors,
    AccessControl,
    ReentrancyGuardTransient
{
    using EnumerableSet for EnumerableSet.Bytes32Set;

    /// @notice A provider as the registry stores it.
    /// @param signer Key that signs receipts; may differ from the provider.
    /// @param active False after {deactivate} and after a full exit.
    /// @param unlockAt Unix seconds from which `unlocking` can be withdrawn.
    /// @param stake Stake that counts, in wei.
    /// @param unlocking Stake on its way out, in wei; it can still be slashed.
    /// @param quoteHash keccak256 of the latest TEE quote; zero without one. Not evidence by itself.
    struct Provider {
        address signer;
        bool active;
        uint64 unlockAt;
        uint256 stake;
        uint256 unlocking;
        bytes32 quoteHash;
    }

    /// @dev Use of a request id by one requester.
    struct Usage {
        address gate;
        bool used;
    }

    /// @dev What is kept of a receipt.
    struct ReceiptRecord {
        address provider;
        uint64 blockNumber;
        uint8 tier;
        bool known;
        bool condemned;
    }

    /// @notice Admission of a signer by a TEE quote.
    /// @param until Unix seconds of the last moment at which it counts.
    /// @param mock Whether only a devnet would trust the quote.
    /// @param quoteHash keccak256 of the quote, which receipts of tier TEE name as their evidence.
    struct Attestation {
        uint64 until;
        bool mock;
        bytes32 quoteHash;
    }

    /// @notice May reserve request ids, consume receipts for its requesters and raise tiers.
    bytes32 public constant GATE_ROLE = keccak256("GATE_ROLE");
    /// @notice May take stake of a provider after a proven fault.
    bytes32 public constant SLASHER_ROLE = keccak256("SLASHER_ROLE");
    /// @notice May say how audits ended: raise tiers and condemn receipts.
    bytes32 public constant AUDIT_ROLE = keccak256("AUDIT_ROLE");
    /// @notice May record that a receipt's proof was accepted.
    bytes32 public constant EVIDENCE_ROLE = keccak256("EVIDENCE_ROLE");
    /// @notice May set the class of an engine.
    bytes32 public constant CURATOR_ROLE = keccak256("CURATOR_ROLE");

    /// @notice Where slashed stake goes; nobody holds its key.
    address public constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;
    /// @notice Largest number of engines of a provider.
    uint256 public constant MAX_ENGINES = 16;
    /// @notice Largest quote in bytes.
    uint256 public constant MAX_QUOTE_SIZE = 16_384;
    /// @notice Largest collateral in bytes.
    uint256 public constant MAX_COLLATERAL_SIZE = 65_536;

    /// @notice Least stake of a provider whose receipts are accepted, in wei.
    uint256 public minStake;
    /// @notice Seconds between {requestUnstake} and {withdrawStake}; must exceed every audit window.
    uint64 public unstakeDelay;

    mapping(bytes32 modelId => Model model) private _models;
    mapping(bytes32 modelId => bool known) private _knownModels;
    mapping(bytes32 engineId => EngineClass class) public engineClass;
    mapping(address provider => Provider) private _providers;
    mapping(address provider => EnumerableSet.Bytes32Set engineIds) private _engines;
    mapping(bytes32 requestId => mapping(address requester => Usage usage)) private _usage;
    mapping(bytes32 receiptHash => ReceiptRecord record) private _receipts;
    mapping(bytes32 receiptHash => uint8 tier) private _evidence;
    mapping(address signer => Attestation attestation) private _attested;

    event ModelRegistered(bytes32 indexed modelId, bytes32 indexed weightsRoot, string uri);
    event EngineClassSet(bytes32 indexed engineId, EngineClass class, string description);
    event ProviderRegistered(address indexed provider, address indexed signer, bytes32[] engineIds, bytes32 quoteHash);
    event ProviderDeactivated(address indexed provider);
    event StakeAdded(address indexed provider, uint256 amount, uint256 stake);
    event UnstakeRequested(address indexed provider, uint256 amount, uint64 unlockAt);
    event StakeWithdrawn(address indexed provider, uint256 amount);
    event Slashed(address indexed provider, uint256 amount, bytes32 indexed reason, uint256 stakeLeft);
    event SignerAttested(
        address indexed provider,
        address indexed signer,
        bytes32 quoteHash,
        uint64 until,
        bool mock
    );
    event ReceiptConsumed(
        bytes32 indexed receiptHash,
        bytes32 indexed requestId,
        address indexed provider,
        address requester,
        uint8 tier
    );
    event ReceiptRecorded(
        bytes32 indexed receiptHash,
        bytes32 indexed requestId,
        address indexed provider,
        address requester,
        uint8 tier
    );
    event EvidenceRecorded(bytes32 indexed receiptHash, uint8 tier);
    event TierRaised(bytes32 indexed receiptHash, uint8 tier);
    event ReceiptCondemned(bytes32 indexed receiptHash, address indexed provider);
    event ParametersSet(uint256 minStake, uint64 unstakeDelay);

    /// @notice The identity does not follow from the description.
    error ModelIdMismatch(bytes32 given, bytes32 computed);
    error ModelAlreadyRegistered(bytes32 modelId);
    error EngineUnknown(bytes32 engineId);
    error EngineCountInvalid(uint256 given, uint256 limit);
    error SignerZero();
    error QuoteTooLarge(uint256 size, uint256 limit);
    error CollateralTooLarge(uint256 size, uint256 limit);
    error NotRegistered(address provider);
    error StakeTooSmall(uint256 stake, uint256 required);
    error UnstakeExceedsStake(uint256 amount, uint256 stake);
    error NothingToWithdraw(address provider);
    error StakeLocked(uint64 unlockAt, uint256 nowSeconds);
    error RequestIdTaken(bytes32 requestId, address requester);
    error ReceiptUnknown(bytes32 receiptHash);
    error ReceiptKnown(bytes32 receiptHash);
    error ReceiptIsCondemned(bytes32 receiptHash);
    error QuoteMissing();
    error ShareTooLarge(uint32 ppm);
    error NotAuditor(address caller);
    error TierNotRaised(uint8 current, uint8 given);
    error TierWithoutEvidence(uint8 tier);

    // ---------------------------------------------------------------- models and engines

    /// @notice Registers a model. Anyone may: the identity commits to the content.
    /// @param id Identity that must follow from `model`.
    /// @param model Description of the model.
    function registerModel(bytes32 id, Model calldata model) external {
        bytes32 computed = ProofOfInference.modelId(model);
        if (id != computed) revert ModelIdMismatch(id, computed);
        if (_knownModels[id]) revert ModelAlreadyRegistered(id);
        _knownModels[id] = true;
        _models[id] = model;
        emit ModelRegistered(id, model.weightsRoot, model.uri);
    }

    /// @notice Sets the class of the engine that `description` names.
    /// @param description ASCII string whose keccak256 is the engine id.
    /// @param class Class; `Unknown` withdraws the engine, whose receipts are then refused.
    function setEngineClass(string calldata description, EngineClass class) external onlyRole(CURATOR_ROLE) {
        bytes32 engineId = keccak256(bytes(description));
        engineClass[engineId] = class;
        emit EngineClassSet(engineId, class, description);
    }

    /// @inheritdoc IInferenceRegistry
    function isModel(bytes32 id) external view returns (bool) {
        return _knownModels[id];
    }

    /// @notice Description of a registered model.
    function modelOf(bytes32 id) external view returns (Model memory) {
        if (!_knownModels[id]) revert PoIUnknownModel();
        return _models[id];
    }

    // ---------------------------------------------------------------- providers and stake

    /// @notice Registers the caller as provider, or changes its signer and engines; the value sent adds to its stake.
    /// @param signer Key that will sign receipts.
    /// @param engineIds Engines that the provider runs; all known.
    /// @param quote TEE quote of the signer, or empty. One that the judge of quotes refuses reverts.
    /// @param collateral Collateral of the quote, or empty.
    function registerProvider(
        address signer,
        bytes32[] calldata engineIds,
        bytes calldata quote,
        bytes calldata collateral
    ) external payable {
        if (signer == address(0)) revert SignerZero();
        if (engineIds.length == 0 || engineIds.length > MAX_ENGINES) {
            revert EngineCountInvalid(engineIds.length, MAX_ENGINES);
        }
        Provider storage provider = _providers[msg.sender];
        uint256 stake = provider.stake + msg.value;
        if (stake < minStake) revert StakeTooSmall(stake, minStake);

        EnumerableSet.Bytes32Set storage engines = _engines[msg.sender];
        engines.clear();
        for (uint256 i = 0; i < engineIds.length; ++i) {
            if (engineClass[engineIds[i]] == EngineClass.Unknown) revert EngineUnknown(engineIds[i]);
            engines.add(engineIds[i]);
        }
        provider.signer = signer;
        provider.active = true;
        provider.stake = stake;
        provider.quoteHash = quote.length == 0 ? bytes32(0) : keccak256(quote);
        emit ProviderRegistered(msg.sender, signer, engineIds, provider.quoteHash);
        if (msg.value > 0) emit StakeAdded(msg.sender, msg.value, stake);
        _attest(signer, quote, collateral);
    }

    /// @notice Renews the attestation of the caller's signer with a fresh quote or fresh collateral.
    function renewAttestation(bytes calldata quote, bytes calldata collateral) external {
        Provider storage provider = _registered(msg.sender);
        if (quote.length == 0) revert QuoteMissing();
        provider.quoteHash = keccak256(quote);
        _attest(provider.signer, quote, collateral);
    }

    /// @notice Adds the value sent to the caller's stake.
    function addStake() external payable {
        Provider storage provider = _registered(msg.sender);
        provider.stake += msg.value;
        emit StakeAdded(msg.sender, msg.value, provider.stake);
    }

    /// @notice Stops accepting receipts of the caller; {registerProvider} starts again.
    function deactivate() external {
        _registered(msg.sender).active = false;
        emit ProviderDeactivated(msg.sender);
    }

    /// @notice Starts the exit of `amount` of the caller's stake; a running exit starts its delay again.
    /// @param amount Wei to take out of the stake; it stays slashable until it is withdrawn.
    function requestUnstake(uint256 amount) external {
        Provider storage provider = _registered(msg.sender);
        uint256 stake = provider.stake;
        if (amount > stake) revert UnstakeExceedsStake(amount, stake);
        uint64 unlockAt = uint64(block.timestamp) + unstakeDelay;
        provider.stake = stake - amount;
        provider.unlocking += amount;
        provider.unlockAt = unlockAt;
        emit UnstakeRequested(msg.sender, amount, unlockAt);
        if (stake == amount && provider.active) {
            provider.active = false;
            emit ProviderDeactivated(msg.sender);
        }
    }

    /// @notice Pays out the caller's stake whose delay has passed.
    function withdrawStake() external nonReentrant {
        Provider storage provider = _registered(msg.sender);
        uint256 amount = provider.unlocking;
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        if (block.timestamp < provider.unlockAt) revert StakeLocked(provider.unlockAt, block.timestamp);
        provider.unlocking = 0;
        emit StakeWithdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Burns up to `amount` of a provider's stake, the unlocking part last.
    /// @param account Provider at fault.
    /// @param amount Wei; more than the provider has takes all.
    /// @param reason Hash that names the fault, normally the receipt hash.
    function slash(address account, uint256 amount, bytes32 reason) external {
        seize(account, amount, 0, reason);
    }

    /// @inheritdoc IAuditableRegistry
    function seize(
        address account,
        uint256 amount,
        uint32 keepPpm,
        bytes32 reason
    ) public onlyRole(SLASHER_ROLE) nonReentrant returns (uint256 taken, uint256 kept) {
        if (keepPpm > 1_000_000) revert ShareTooLarge(keepPpm);
        Provider storage provider = _registered(account);
        uint256 fromStake = Math.min(amount, provider.stake);
        uint256 fromUnlocking = Math.min(amount - fromStake, provider.unlocking);
        provider.stake -= fromStake;
        provider.unlocking -= fromUnlocking;
        taken = fromStake + fromUnlocking;
        kept = (taken * keepPpm) / 1_000_000;
        emit Slashed(account, taken, reason, provider.stake);
        if (kept > 0) Address.sendValue(payable(msg.sender), kept);
        if (taken > kept) Address.sendValue(payable(BURN_ADDRESS), taken - kept);
    }

    /// @notice Stake that counts for `account`, in wei; stake on its way out is not included.
    function stakeOf(address account) external view returns (uint256) {
        return _providers[account].stake;
    }

    /// @inheritdoc IAuditableRegistry
    function atRiskOf(address account) external view returns (uint256) {
        return _providers[account].stake + _providers[account].unlocking;
    }

    /// @notice Attestation of a signer; zero until admitted.
    function attestationOf(address signer) external view returns (Attestation memory) {
        return _attested[signer];
    }

    /// @notice All that is stored about a provider.
    function providerOf(address account) external view returns (Provider memory provider, bytes32[] memory engineIds) {
        return (_providers[account], _engines[account].values());
    }

    /// @inheritdoc IInferenceRegistry
    function isEligible(address account) external view returns (bool) {
        Provider storage provider = _providers[account];
        return provider.active && provider.stake >= minStake;
    }

    // ---------------------------------------------------------------- receipts

    /// @inheritdoc IInferenceRegistry
    function verifyReceipt(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        uint8 minTier
    ) external view returns (bool ok, uint8 tier, bytes32 receiptHash) {
        (tier, receiptHash) = _verify(receipt, signature, minTier);
        return (true, tier, receiptHash);
    }

    /// @inheritdoc IInferenceRegistry
    function consume(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        uint8 minTier
    ) external returns (uint8 tier, bytes32 receiptHash) {
        (tier, receiptHash) = _verify(receipt, signature, Tier.SIGNED);
        ReceiptRecord memory record_ = _receipts[receiptHash];
        if (record_.condemned) revert ReceiptIsCondemned(receiptHash);
        // A receipt that was recorded before may have been audited since.
        if (record_.known && record_.tier > tier) tier = record_.tier;
        if (tier < minTier) revert PoITierTooLow();
        Usage storage usage = _usage[receipt.requestId][receipt.requester];
        address gate = usage.gate;
        if (gate == address(0)) {
            if (msg.sender != receipt.requester) revert NotRequester(msg.sender, receipt.requester);
        } else if (msg.sender != gate) {
            revert ReservedForGate(receipt.requestId, gate);
        }
        usage.used = true;
        uint64 since = record_.known ? record_.blockNumber : uint64(block.number);
        _receipts[receiptHash] = ReceiptRecord(receipt.provider, since, tier, true, false);
        emit ReceiptConsumed(receiptHash, receipt.requestId, receipt.provider, receipt.requester, tier);
    }

    /// @notice Notes a receipt that was handed over off chain, so that it can be audited or challenged. Its request id
    /// stays unused. Anybody may call.
    /// @dev Answers to requests of a gate become known when the gate takes them, never before: their audit window starts
    /// with the output in the open.
    function record(
        InferenceReceipt calldata receipt,
        bytes calldata signature
    ) external returns (bytes32 receiptHash) {
        uint8 tier;
        (tier, receiptHash) = _verify(receipt, signature, Tier.SIGNED);
        if (_receipts[receiptHash].known) revert ReceiptKnown(receiptHash);
        address gate = _usage[receipt.requestId][receipt.requester].gate;
        if (gate != address(0)) revert ReservedForGate(receipt.requestId, gate);
        _receipts[receiptHash] = ReceiptRecord(receipt.provider, uint64(block.number), tier, true, false);
        emit ReceiptRecorded(receiptHash, receipt.requestId, receipt.provider, receipt.requester, tier);
    }

    /// @notice Records that a proof of a receipt was accepted; its claim of that tier counts from now on.
    /// @param receiptHash Receipt that was proven.
    /// @param tier 4 ZK or 5 NATIVE.
    function recordEvidence(bytes32 receiptHash, uint8 tier) external onlyRole(EVIDENCE_ROLE) {
        if (tier != Tier.ZK && tier != Tier.NATIVE) revert TierWithoutEvidence(tier);
        _evidence[receiptHash] = tier;
        emit EvidenceRecorded(receiptHash, tier);
        ReceiptRecord storage known = _receipts[receiptHash];
        if (known.known && tier > known.tier) _raise(known, receiptHash, tier);
    }

    /// @inheritdoc IInferenceRegistry
    function reserve(bytes32 requestId, address requester) external onlyRole(GATE_ROLE) {
        Usage storage usage = _usage[requestId][requester];
        if (usage.used || usage.gate != address(0)) revert RequestIdTaken(requestId, requester);
        usage.gate = msg.sender;
    }

    /// @inheritdoc IInferenceRegistry
    function raiseTier(bytes32 receiptHash, uint8 tier) external {
        if (!hasRole(GATE_ROLE, msg.sender) && !hasRole(AUDIT_ROLE, msg.sender)) revert NotAuditor(msg.sender);
        ReceiptRecord storage known = _known(receiptHash);
        if (tier <= known.tier) revert TierNotRaised(known.tier, tier);
        _raise(known, receiptHash, tier);
    }

    /// @inheritdoc IAuditableRegistry
    function condemn(bytes32 receiptHash) external onlyRole(AUDIT_ROLE) {
        ReceiptRecord storage known = _known(receiptHash);
        known.condemned = true;
        emit ReceiptCondemned(receiptHash, known.provider);
    }

    /// @notice Whether the request id has been used up for `requester`.
    function isUsed(bytes32 requestId, address requester) external view returns (bool) {
        return _usage[requestId][requester].used;
    }

    /// @inheritdoc IValidationDomain
    function levelOf(bytes32 receiptHash) external view returns (bool known, uint8 level) {
        ReceiptRecord storage stored = _receipts[receiptHash];
        return (stored.known && !stored.condemned, stored.tier);
    }

    /// @inheritdoc IInferenceRegistry
    function receiptOf(
        bytes32 receiptHash
    ) external view returns (address provider, uint64 blockNumber, uint8 tier, bool condemned) {
        ReceiptRecord storage known = _known(receiptHash);
        return (known.provider, known.blockNumber, known.tier, known.condemned);
    }

    /// @inheritdoc IAuditableRegistry
    function hashReceipt(InferenceReceipt calldata receipt) public view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(domainSeparator(), ProofOfInference.hashStruct(receipt));
    }

    /// @inheritdoc IAuditableRegistry
    function hashVote(AuditVote calldata vote) external view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(domainSeparator(), ProofOfInference.hashStruct(vote));
    }

    /// @notice EIP-712 domain separator of this registry on this chain.
    function domainSeparator() public view returns (bytes32) {
        return ProofOfInference.domainSeparator(address(this));
    }

    /// @notice EIP-5267 description of the signing domain.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        return (
            0x0f,
            ProofOfInference.NAME,
            ProofOfInference.VERSION,
            block.chainid,
            address(this),
            bytes32(0),
            new uint256[](0)
        );
    }

    // ---------------------------------------------------------------- administration

    /// @notice Sets the least stake and the exit delay.
    /// @param newMinStake Wei.
    /// @param newUnstakeDelay Seconds.
    function setParameters(uint256 newMinStake, uint64 newUnstakeDelay) external onlyRole(DEFAULT_ADMIN_ROLE) {
        minStake = newMinStake;
        unstakeDelay = newUnstakeDelay;
        emit ParametersSet(newMinStake, newUnstakeDelay);
    }

    // ---------------------------------------------------------------- internals

    function _registered(address account) private view returns (Provider storage provider) {
        provider = _providers[account];
        if (provider.signer == address(0)) revert NotRegistered(account);
    }

    /// @dev The order of the checks is part of the protocol.
    function _verify(
        InferenceReceipt calldata receipt,
        bytes calldata signature,
        uint8 minTier
    ) private view returns (uint8 tier, bytes32 receiptHash) {
        Provider storage provider = _providers[receipt.provider];
        receiptHash = hashReceipt(receipt);
        (address signer, ECDSA.RecoverError failure, ) = ECDSA.tryRecoverCalldata(receiptHash, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != provider.signer) revert PoIBadSignature();
        if (!_knownModels[receipt.modelId]) revert PoIUnknownModel();
        if (!provider.active || !_runs(receipt.provider, receipt.engineId)) revert PoIProviderInactive();
        if (provider.stake < minStake) revert PoIUnderStaked();
        if (block.timestamp > receipt.deadline) revert PoIExpired();
        if (_usage[receipt.requestId][receipt.requester].used) revert PoIReplayed();
        tier = _provenTier(receipt, receiptHash, signer);
        if (tier < minTier) revert PoITierTooLow();
    }

    function _runs(address provider, bytes32 engineId) private view returns (bool) {
        return engineClass[engineId] != EngineClass.Unknown && _engines[provider].contains(engineId);
    }

    /// @dev OPTIMISTIC and AUDITED are states of this registry, never claims. Any other claim counts only as far as there
    /// is evidence for it in this storage, else the receipt is worth its signature.
    function _provenTier(
        InferenceReceipt calldata receipt,
        bytes32 receiptHash,
        address signer
    ) private view returns (uint8) {
        uint8 claimed = receipt.tier;
        if (claimed == Tier.SIGNED) return Tier.SIGNED;
        if (claimed < Tier.TEE || claimed > Tier.NATIVE) revert PoITierTooLow();
        if (claimed != Tier.TEE) return _evidence[receiptHash] == claimed ? claimed : Tier.SIGNED;
        Attestation storage attestation = _attested[signer];
        bool attested = attestation.until >= block.timestamp && attestation.quoteHash == receipt.evidenceHash;
        return attested ? Tier.TEE : Tier.SIGNED;
    }

    function _known(bytes32 receiptHash) private view returns (ReceiptRecord storage known) {
        known = _receipts[receiptHash];
        if (!known.known) revert ReceiptUnknown(receiptHash);
    }

    function _raise(ReceiptRecord storage known, bytes32 receiptHash, uint8 tier) private {
        known.tier = tier;
        emit TierRaised(receiptHash, tier);
    }

    /// @dev Without a judge of quotes on this chain no signer is attested.
    function _attest(address signer, bytes calldata quote, bytes calldata collateral) private {
        if (quote.length > MAX_QUOTE_SIZE) revert QuoteTooLarge(quote.length, MAX_QUOTE_SIZE);
        if (collateral.length > MAX_COLLATERAL_SIZE) {
            revert CollateralTooLarge(collateral.length, MAX_COLLATERAL_SIZE);
        }
        ITeeAttestation judge = _attestation();
        if (quote.length == 0 || address(judge).code.length == 0) return;
        (uint64 until, bool mock) = judge.admit(msg.sender, signer, quote, collateral);
        bytes32 quoteHash = keccak256(quote);
        _attested[signer] = Attestation(until, mock, quoteHash);
        emit SignerAttested(msg.sender, signer, quoteHash, until, mock);
    }

    /// @dev Judge of quotes; a deployment elsewhere names its own.
    function _attestation() internal view virtual returns (ITeeAttestation) {
        return ITeeAttestation(Predeploys.TEE_ATTESTATION);
    }
}
