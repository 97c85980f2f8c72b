// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Predeploys} from "../Predeploys.sol";
import {IEvidenceRegistry} from "./IEvidenceRegistry.sol";
import {INativeModel} from "./INativeModel.sol";
import {IProofVerifier} from "./IProofVerifier.sol";
import {InferenceReceipt, Tier} from "./InferenceTypes.sol";

/// @title Judge of the evidence of tiers ZK and NATIVE
/// @notice ZK: a proof that the model's circuit maps the input to the output ({prove}). NATIVE: the chain itself
/// evaluates the model ({execute}). Either way the receipt's claim counts from then on, for whoever carries it.
/// @dev Predeploy without constructor: the curator is genesis storage. What a circuit or a native contract computes is
/// vouched for by the curator who registers it; everything after that is proven.
contract ProofEvidence is AccessControl {
    /// @notice Circuit of a model.
    /// @param verifier Contract that verifies its proofs; zero: none.
    /// @param inputs Number of leading instances that are the input.
    /// @param outputs Number of instances after them, which are the output.
    struct Circuit {
        IProofVerifier verifier;
        uint32 inputs;
        uint32 outputs;
    }

    /// @notice May register circuits and native models.
    bytes32 public constant CURATOR_ROLE = keccak256("CURATOR_ROLE");
    /// @notice Largest number of public instances of a circuit.
    uint256 public constant MAX_INSTANCES = 4_096;
    /// @notice Order of the scalar field of BN254: instances lie below it, so that each value has one encoding.
    uint256 public constant FIELD =
        21888242871839275222246405745257275088548364400416034343698204186575808495617;

    mapping(bytes32 modelId => Circuit circuit) private _circuits;
    /// @notice Contract that evaluates a model; zero: none.
    mapping(bytes32 modelId => INativeModel model) public nativeModel;

    event CircuitSet(bytes32 indexed modelId, address indexed verifier, uint32 inputs, uint32 outputs);
    event NativeModelSet(bytes32 indexed modelId, address indexed model);
    event EvidenceAccepted(bytes32 indexed receiptHash, bytes32 indexed modelId, uint8 tier);

    error ModelUnknown(bytes32 modelId);
    error WithoutCode(address account);
    error InstanceCountInvalid(uint256 given, uint256 limit);
    error ModelMismatch(bytes32 expected, bytes32 given);
    error TierNotClaimed(uint8 expected, uint8 given);
    error NoCircuit(bytes32 modelId);
    error NoNativeModel(bytes32 modelId);
    error InstanceCountMismatch(uint256 expected, uint256 given);
    error InstanceOutOfField(uint256 index, uint256 value);
    error EvidenceMismatch(bytes32 expected, bytes32 given);
    error InputMismatch(bytes32 expected, bytes32 given);
    error OutputMismatch(bytes32 expected, bytes32 given);
    error ProofRefused(bytes32 modelId);

    // ---------------------------------------------------------------- models

    /// @notice Sets the circuit of a model.
    /// @param modelId Registered model.
    /// @param verifier Verifier of the circuit; zero withdraws it.
    /// @param inputs Number of instances of the input.
    /// @param outputs Number of instances of the output.
    function setCircuit(
        bytes32 modelId,
        IProofVerifier verifier,
        uint32 inputs,
        uint32 outputs
    ) external onlyRole(CURATOR_ROLE) {
        _checkModel(modelId, address(verifier));
        uint256 count = uint256(inputs) + outputs;
        if (inputs == 0 || outputs == 0 || count > MAX_INSTANCES) revert InstanceCountInvalid(count, MAX_INSTANCES);
        _circuits[modelId] = Circuit(verifier, inputs, outputs);
        emit CircuitSet(modelId, address(verifier), inputs, outputs);
    }

    /// @notice Sets the contract that evaluates a model.
    /// @param modelId Registered model; must be what the contract computes from its weights.
    /// @param model Contract; zero withdraws it.
    function setNativeModel(bytes32 modelId, INativeModel model) external onlyRole(CURATOR_ROLE) {
        _checkModel(modelId, address(model));
        if (address(model) != address(0)) {
            bytes32 computed = model.modelId();
            if (computed != modelId) revert ModelMismatch(modelId, computed);
        }
        nativeModel[modelId] = model;
        emit NativeModelSet(modelId, address(model));
    }

    /// @notice Circuit of a model.
    function circuitOf(bytes32 modelId) external view returns (Circuit memory) {
        return _circuits[modelId];
    }

    // ---------------------------------------------------------------- evidence

    /// @notice Accepts a proof for a receipt that claims tier ZK. Anybody may bring it.
    /// @dev `evidenceHash` is the hash of the decoded arguments, never of calldata, whose padding is malleable. Input and
    /// output bytes of such a model are `abi.encode(uint256[])` of their instances, and their hashes bind the proof to
    /// this receipt.
    /// @param receipt Receipt whose `evidenceHash` is `keccak256(abi.encode(proof, instances))`.
    /// @param proof Proof for the model's verifier.
    /// @param instances Public instances: input, then output.
    /// @return receiptHash Digest of the receipt.
    function prove(
        InferenceReceipt calldata receipt,
        bytes calldata proof,
        uint256[] calldata instances
    ) external returns (bytes32 receiptHash) {
        if (receipt.tier != Tier.ZK) revert TierNotClaimed(Tier.ZK, receipt.tier);
        Circuit memory circuit = _circuits[receipt.modelId];
        if (address(circuit.verifier) == address(0)) revert NoCircuit(receipt.modelId);
        _checkInstances(receipt, circuit, instances);
        bytes32 evidenceHash = keccak256(abi.encode(proof, instances));
        if (evidenceHash != receipt.evidenceHash) revert EvidenceMismatch(receipt.evidenceHash, evidenceHash);
        try circuit.verifier.verifyProof(proof, instances) returns (bool accepted) {
            if (!accepted) revert ProofRefused(receipt.modelId);
        } catch {
            revert ProofRefused(receipt.modelId);
        }
        return _accept(receipt, Tier.ZK);
    }

    /// @notice Evaluates the model on chain for a receipt that claims tier NATIVE. Anybody may call.
    /// @param receipt Receipt of the evaluation.
    /// @param input Input bytes that hash to `receipt.inputHash`.
    /// @return receiptHash Digest of the receipt.
    function execute(
        InferenceReceipt calldata receipt,
        bytes calldata input
    ) external returns (bytes32 receiptHash) {
        if (receipt.tier != Tier.NATIVE) revert TierNotClaimed(Tier.NATIVE, receipt.tier);
        INativeModel model = nativeModel[receipt.modelId];
        if (address(model) == address(0)) revert NoNativeModel(receipt.modelId);
        _checkInput(receipt, keccak256(input));
        _checkOutput(receipt, keccak256(model.evaluate(input)));
        return _accept(receipt, Tier.NATIVE);
    }

    // ---------------------------------------------------------------- internals

    /// @dev Registry of the receipts.
    function _registry() internal view virtual returns (IEvidenceRegistry) {
        return IEvidenceRegistry(Predeploys.INFERENCE_REGISTRY);
    }

    function _checkModel(bytes32 modelId, address judge) private view {
        if (!_registry().isModel(modelId)) revert ModelUnknown(modelId);
        if (judge != address(0) && judge.code.length == 0) revert WithoutCode(judge);
    }

    function _checkInstances(
        InferenceReceipt calldata receipt,
        Circuit memory circuit,
        uint256[] calldata instances
    ) private pure {
        uint256 inputs = circuit.inputs;
        uint256 count = inputs + circuit.outputs;
        if (instances.length != count) revert InstanceCountMismatch(count, instances.length);
        for (uint256 i = 0; i < count; ++i) {
            if (instances[i] >= FIELD) revert InstanceOutOfField(i, instances[i]);
        }
        _checkInput(receipt, keccak256(abi.encode(instances[:inputs])));
        _checkOutput(receipt, keccak256(abi.encode(instances[inputs:])));
    }

    function _checkInput(InferenceReceipt calldata receipt, bytes32 inputHash) private pure {
        if (inputHash != receipt.inputHash) revert InputMismatch(receipt.inputHash, inputHash);
    }

    function _checkOutput(InferenceReceipt calldata receipt, bytes32 outputHash) private pure {
        if (outputHash != receipt.outputHash) revert OutputMismatch(receipt.outputHash, outputHash);
    }

    function _accept(InferenceReceipt calldata receipt, uint8 tier) private returns (bytes32 receiptHash) {
        receiptHash = _registry().hashReceipt(receipt);
        _registry().recordEvidence(receiptHash, tier);
        emit EvidenceAccepted(receiptHash, receipt.modelId, tier);
    }
}
