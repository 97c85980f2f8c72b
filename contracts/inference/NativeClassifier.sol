// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {INativeModel} from "./INativeModel.sol";

/// @title Bytes that lie on chain as the code of a contract
/// @dev The first byte, STOP, keeps them from being executed.
contract DataAsCode {
    constructor(bytes memory data) {
        bytes memory code = bytes.concat(hex"00", data);
        assembly ("memory-safe") {
            return(add(code, 0x20), mload(code))
        }
    }
}

/// @title A multilayer perceptron in integers, evaluated by every validator
/// @notice Weights are signed bytes, biases 32-bit, sums 256-bit: nothing rounds and nothing overflows. The weights lie in
/// the code of a contract of their own, and the identity of the model is computed from them.
/// @dev Format of the weights file, numbers big-endian: version (1 byte, 1), number of layers `L` (1 byte, 1 to 4), widths
/// (`L + 1` bytes, 1 to 255: input first), shifts (`L` bytes, 0 to 31), then for each layer its weights row by row (one
/// row per output) and its biases (4 bytes each). Zeros fill the file to 256 bytes times a power of two, so that its
/// storage root is a plain binary Merkle tree. A layer computes `(bias + weights x input) >> shift` (rounding down), and
/// all but the last replace negative values by zero.
///
/// Input bytes are `abi.encode(int256[])` with one value of 16 bits per input; output bytes are
/// `abi.encode(uint256 label, int256[] scores)` with the lowest index of the highest score as label.
contract NativeClassifier is INativeModel {
    /// @notice Name whose keccak256 is the `quantId` of such models.
    string public constant QUANTISATION = "int8-mlp-v1";
    /// @notice Largest weights file in bytes; code of a contract can hold no more than 24,575.
    uint256 public constant MAX_WEIGHTS_SIZE = 16_384;
    uint256 private constant SECTOR = 256;
    uint256 private constant MAX_LAYERS = 4;
    uint256 private constant MAX_SHIFT = 31;
    uint256 private constant BIAS_SIZE = 4;

    /// @notice Contract whose code, after its first byte, is the weights file.
    address public immutable weightsAt;
    /// @notice 0G-storage Merkle root of the weights file.
    bytes32 public immutable weightsRoot;

    error WeightsSizeInvalid(uint256 size);
    error WeightsHeaderInvalid();
    error WeightsTruncated(uint256 size, uint256 required);
    error InputNotCanonical();
    error InputCountMismatch(uint256 expected, uint256 given);
    error InputOutOfRange(uint256 index, int256 value);

    /// @param weights Weights file.
    constructor(bytes memory weights) {
        uint256 size = weights.length;
        if (size < SECTOR || size > MAX_WEIGHTS_SIZE || size & (size - 1) != 0) revert WeightsSizeInvalid(size);
        _checkShape(weights);
        weightsRoot = _root(weights);
        weightsAt = address(new DataAsCode(weights));
    }

    /// @inheritdoc INativeModel
    function modelId() external view returns (bytes32) {
        return keccak256(abi.encode(weightsRoot, bytes32(0), bytes32(0), keccak256(bytes(QUANTISATION))));
    }

    /// @inheritdoc INativeModel
    function evaluate(bytes calldata input) external view returns (bytes memory output) {
        int256[] memory values = abi.decode(input, (int256[]));
        if (keccak256(abi.encode(values)) != keccak256(input)) revert InputNotCanonical();
        bytes memory weights = _weights();
        uint256 layers = uint8(weights[1]);
        uint256 wanted = uint8(weights[2]);
        if (values.length != wanted) revert InputCountMismatch(wanted, values.length);
        for (uint256 i = 0; i < wanted; ++i) {
            if (values[i] != int16(values[i])) revert InputOutOfRange(i, values[i]);
        }
        uint256 position = 3 + 2 * layers;
        for (uint256 layer = 0; layer < layers; ++layer) {
            uint256 width = uint8(weights[3 + layer]);
            uint256 shift = uint8(weights[3 + layers + layer]);
            values = _layer(weights, position, values, width, shift, layer + 1 < layers);
            position = _after(position, uint8(weights[2 + layer]), width);
        }
        return abi.encode(_highest(values), values);
    }

    /// @dev One layer: `width` outputs from `inputs`, weights from `position` on.
    function _layer(
        bytes memory weights,
        uint256 position,
        int256[] memory inputs,
        uint256 width,
        uint256 shift,
        bool rectified
    ) private pure returns (int256[] memory outputs) {
        outputs = new int256[](width);
        uint256 count = inputs.length;
        uint256 biases = position + width * count;
        // Four layers of 255 products each stay far below 2^255, and {_checkShape} has seen every position.
        unchecked {
            for (uint256 j = 0; j < width; ++j) {
                int256 sum = _signed(weights, biases + BIAS_SIZE * j, BIAS_SIZE);
                for (uint256 i = 0; i < count; ++i) {
                    sum += _signed(weights, position + j * count + i, 1) * inputs[i];
                }
                sum >>= shift;
                outputs[j] = rectified && sum < 0 ? int256(0) : sum;
            }
        }
    }

    /// @dev The signed big-endian number of `size` bytes at `position`.
    function _signed(bytes memory data, uint256 position, uint256 size) private pure returns (int256 value) {
        assembly ("memory-safe") {
            value := sar(sub(256, shl(3, size)), mload(add(add(data, 0x20), position)))
        }
    }

    function _highest(int256[] memory scores) private pure returns (uint256 label) {
        for (uint256 i = 1; i < scores.length; ++i) {
            if (scores[i] > scores[label]) label = i;
        }
    }

    function _weights() private view returns (bytes memory weights) {
        bytes memory code = weightsAt.code;
        uint256 size = code.length - 1;
        // The first byte becomes the low byte of the length word, which is then written over: no copy.
        assembly ("memory-safe") {
            weights := add(code, 1)
            mstore(weights, size)
        }
    }

    /// @dev First position after a layer.
    function _after(uint256 position, uint256 inputs, uint256 width) private pure returns (uint256) {
        return position + width * (inputs + BIAS_SIZE);
    }

    /// @dev The header makes sense and the file is long enough for it.
    function _checkShape(bytes memory weights) private pure {
        uint256 layers = uint8(weights[1]);
        if (weights[0] != 0x01 || layers == 0 || layers > MAX_LAYERS) revert WeightsHeaderInvalid();
        uint256 position = 3 + 2 * layers;
        if (weights[2] == 0) revert WeightsHeaderInvalid();
        for (uint256 layer = 0; layer < layers; ++layer) {
            uint256 width = uint8(weights[3 + layer]);
            if (width == 0 || uint8(weights[3 + layers + layer]) > MAX_SHIFT) revert WeightsHeaderInvalid();
            position = _after(position, uint8(weights[2 + layer]), width);
        }
        if (position > weights.length) revert WeightsTruncated(weights.length, position);
    }

    /// @dev Binary Merkle tree over sectors, as the storage contracts compute it.
    function _root(bytes memory data) private pure returns (bytes32) {
        uint256 count = data.length / SECTOR;
        bytes32[] memory nodes = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            bytes32 leaf;
            assembly ("memory-safe") {
                leaf := keccak256(add(add(data, 0x20), mul(i, SECTOR)), SECTOR)
            }
            nodes[i] = leaf;
        }
        for (; count > 1; count /= 2) {
            for (uint256 i = 0; i < count; i += 2) {
                nodes[i / 2] = keccak256(abi.encodePacked(nodes[i], nodes[i + 1]));
            }
        }
        return nodes[0];
    }
}
