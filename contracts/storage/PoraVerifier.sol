// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {PoraAnswer, RecallRange, SECTORS_PER_SEAL} from "./StorageTypes.sol";
import {RecallRanges} from "./RecallRanges.sol";

/// @title Recomputes what a proof of random access claims
/// @notice Three results: the hash that the target is compared with, the flow root that data and Merkle proof lead to,
/// and the position that the nonce recalls.
/// @dev The chain's own precompile answers in a fraction of the gas; elsewhere this code does. Both give the same
/// results, and the code is the specification of the precompile.
library PoraVerifier {
    using RecallRanges for RecallRange;

    /// @dev What a proof leads to.
    struct Result {
        bytes32 poraHash;
        bytes32 flowRoot;
        uint256 recallPosition;
    }

    address private constant PRECOMPILE = 0x0000000000000000000000000000000000000A20;
    uint256 private constant PRECOMPILE_GAS = 12_000;
    uint256 private constant PRECOMPILE_GAS_PER_SIBLING = 60;
    uint256 private constant MAX_SIBLINGS = 64;

    /// Bytes of a sealed piece.
    uint256 private constant SEAL_BYTES = 4096;

    /// @notice All three results, from the precompile where the chain has it.
    /// @param unseal Whether the data is sealed; otherwise it is what the Merkle tree holds.
    function verify(
        PoraAnswer calldata answer,
        bytes32 subtaskDigest,
        bool unseal
    ) internal view returns (Result memory result) {
        bool answered;
        (answered, result) = precompiled(answer, subtaskDigest, unseal);
        if (answered) return result;
        result.flowRoot = recoverMerkleRoot(answer, unseal);
        (result.poraHash, result.recallPosition) = poraHash(answer, subtaskDigest);
    }

    /// @notice The results of the precompile.
    /// @return answered False where there is none, and for input that it refuses.
    function precompiled(
        PoraAnswer calldata answer,
        bytes32 subtaskDigest,
        bool unseal
    ) internal view returns (bool answered, Result memory result) {
        uint256 siblings = answer.merkleProof.length;
        if (siblings > MAX_SIBLINGS) return (false, result);
        bytes memory input = abi.encodePacked(
            abi.encode(answer.minerId, answer.nonce, subtaskDigest, answer.range),
            answer.recallPosition,
            answer.sealOffset,
            answer.sealedContextDigest,
            unseal ? uint256(1) : 0,
            answer.sealedData,
            answer.merkleProof
        );
        // A failing precompile takes all it is given: no more than it needs.
        uint256 allowance = PRECOMPILE_GAS + PRECOMPILE_GAS_PER_SIBLING * siblings;
        assembly ("memory-safe") {
            answered := staticcall(allowance, PRECOMPILE, add(input, 0x20), mload(input), 0, 0)
            answered := and(answered, eq(returndatasize(), 0x60))
            if answered {
                returndatacopy(result, 0, 0x60)
            }
        }
    }

    /// @notice The 4096 bytes before sealing, as a pointer to memory.
    function unsealed(PoraAnswer calldata answer) internal pure returns (bytes32[128] memory data) {
        bytes32[128] calldata sealedData = answer.sealedData;
        bytes32 mask = keccak256(abi.encode(answer.minerId, answer.sealedContextDigest, answer.recallPosition));
        assembly ("memory-safe") {
            for {
                let i := 0
            } lt(i, SEAL_BYTES) {
                i := add(i, 0x20)
            } {
                let word := calldataload(add(sealedData, i))
                mstore(add(data, i), xor(word, mask))
                mstore(0x00, word)
                mask := keccak256(0x00, 0x20)
            }
        }
    }

    /// @notice Root that the data and its Merkle proof lead to.
    function recoverMerkleRoot(PoraAnswer calldata answer, bool unseal) internal pure returns (bytes32) {
        return recoverMerkleRoot(answer, unseal ? unsealed(answer) : answer.sealedData);
    }

    /// @notice Root that data and the Merkle proof of an answer lead to.
    function recoverMerkleRoot(
        PoraAnswer calldata answer,
        bytes32[128] memory data
    ) internal pure returns (bytes32 root) {
        bytes32[] calldata proof = answer.merkleProof;
        uint256 index = answer.recallPosition / SECTORS_PER_SEAL;
        assembly ("memory-safe") {
            // Sixteen sectors, then pairs in place; free memory is only scratch here.
            let nodes := mload(0x40)
            for {
                let i := 0
            } lt(i, 16) {
                i := add(i, 1)
            } {
                mstore(add(nodes, shl(5, i)), keccak256(add(data, shl(8, i)), 0x100))
            }
            for {
                let bytesLeft := 0x200
            } gt(bytesLeft, 0x20) {
                bytesLeft := shr(1, bytesLeft)
            } {
                for {
                    let i := 0
                } lt(i, bytesLeft) {
                    i := add(i, 0x40)
                } {
                    mstore(add(nodes, shr(1, i)), keccak256(add(nodes, i), 0x40))
                }
            }
            root := mload(nodes)
            for {
                let i := 0
            } lt(i, proof.length) {
                i := add(i, 1)
            } {
                let right := shl(5, and(index, 1))
                mstore(right, root)
                mstore(xor(right, 0x20), calldataload(add(proof.offset, shl(5, i))))
                root := keccak256(0x00, 0x40)
                index := shr(1, index)
            }
        }
    }

    /// @notice The hash that the target is compared with, and the position that the nonce recalls.
    function poraHash(
        PoraAnswer calldata answer,
        bytes32 subtaskDigest
    ) internal view returns (bytes32 hash, uint256 recallPosition) {
        uint256 frame = _frame();
        (bytes32 seedHigh, bytes32 seedLow) = _padSeed(frame, answer, subtaskDigest);
        (uint256 pad, bytes32 recallSeed) = _scratchPad(seedHigh, seedLow, answer.sealOffset % 4);
        recallPosition = answer.range.recall(recallSeed) + answer.sealOffset * SECTORS_PER_SEAL;
        hash = _mixedHash(frame, answer.sealOffset, seedHigh, seedLow, answer.sealedData, pad);
    }

    /// @dev Input of the BLAKE2b compression precompile (EIP-152): rounds (4 bytes), state (64), block (128), counter
    /// (16), final flag (1).
    function _frame() private pure returns (uint256 frame) {
        assembly ("memory-safe") {
            frame := mload(0x40)
            mstore(0x40, add(frame, 0x100))
        }
    }

    /// @dev Initial state for 64 bytes of output without key.
    function _reset(uint256 frame) private pure {
        assembly ("memory-safe") {
            mstore(frame, shl(224, 12))
            mstore(add(frame, 4), 0x48c9bdf267e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f3af54fa5)
            mstore(add(frame, 36), 0xd182e6ad7f520e511f6c3e2b8c68059b6bbd41fbabd9831f79217e1319cde05b)
            mstore(add(frame, 196), 0)
            mstore(add(frame, 212), 0)
        }
    }

    /// @dev BLAKE2b of minerId, nonce, subtask digest and range digest: exactly one block.
    function _padSeed(
        uint256 frame,
        PoraAnswer calldata answer,
        bytes32 subtaskDigest
    ) private view returns (bytes32 high, bytes32 low) {
        bytes32 rangeDigest = answer.range.digest();
        bytes32 minerId = answer.minerId;
        bytes32 nonce = answer.nonce;
        _reset(frame);
        assembly ("memory-safe") {
            mstore(add(frame, 68), minerId)
            mstore(add(frame, 100), nonce)
            mstore(add(frame, 132), subtaskDigest)
            mstore(add(frame, 164), rangeDigest)
            mstore8(add(frame, 196), 128)
            mstore8(add(frame, 212), 1)
            if iszero(staticcall(gas(), 0x09, frame, 213, add(frame, 4), 64)) {
                revert(0, 0)
            }
            high := mload(add(frame, 4))
            low := mload(add(frame, 36))
        }
    }

    /// @dev Runs the chain of 512 hashes and keeps the quarter of it that the piece is mixed with.
    /// @return pad Pointer to 4096 bytes.
    /// @return recallSeed Hash of the last state.
    function _scratchPad(
        bytes32 high,
        bytes32 low,
        uint256 quarter
    ) private pure returns (uint256 pad, bytes32 recallSeed) {
        assembly ("memory-safe") {
            pad := mload(0x40)
            mstore(0x40, add(pad, SEAL_BYTES))
            mstore(0x00, high)
            mstore(0x20, low)
            for {
                let q := 0
            } lt(q, 4) {
                q := add(q, 1)
            } {
                switch eq(q, quarter)
                case 0 {
                    for {
                        let i := 0
                    } lt(i, 16) {
                        i := add(i, 1)
                    } {
                        mstore(0x00, keccak256(0x00, 0x40))
                        mstore(0x20, keccak256(0x00, 0x40))
                        mstore(0x00, keccak256(0x00, 0x40))
                        mstore(0x20, keccak256(0x00, 0x40))
                        mstore(0x00, keccak256(0x00, 0x40))
                        mstore(0x20, keccak256(0x00, 0x40))
                        mstore(0x00, keccak256(0x00, 0x40))
                        mstore(0x20, keccak256(0x00, 0x40))
                    }
                }
                default {
                    for {
                        let cell := pad
                        let end := add(pad, SEAL_BYTES)
                    } lt(cell, end) {
                        cell := add(cell, 0x40)
                    } {
                        mstore(0x00, keccak256(0x00, 0x40))
                        mstore(0x20, keccak256(0x00, 0x40))
                        mcopy(cell, 0x00, 0x40)
                    }
                }
            }
            recallSeed := keccak256(0x00, 0x40)
        }
    }

    /// @dev BLAKE2b of a block of header and 32 blocks of sealed data mixed with the pad; the first 32 bytes of it.
    function _mixedHash(
        uint256 frame,
        uint256 sealOffset,
        bytes32 high,
        bytes32 low,
        bytes32[128] calldata sealedData,
        uint256 pad
    ) private view returns (bytes32 hash) {
        _reset(frame);
        assembly ("memory-safe") {
            let message := add(frame, 68)
            mstore(message, sealOffset)
            mstore(add(message, 0x20), high)
            mstore(add(message, 0x40), low)
            mstore(add(message, 0x60), 0)
            let done := 128
            for {

            } 1 {

            } {
                // The counter is little-endian and stays below 2^16.
                mstore8(add(frame, 196), and(done, 0xff))
                mstore8(add(frame, 197), shr(8, done))
                mstore8(add(frame, 212), eq(done, 4224))
                if iszero(staticcall(gas(), 0x09, frame, 213, add(frame, 4), 64)) {
                    revert(0, 0)
                }
                if eq(done, 4224) {
                    break
                }
                let from := add(sealedData, sub(done, 128))
                let with := add(pad, sub(done, 128))
                mstore(message, xor(calldataload(from), mload(with)))
                mstore(add(message, 0x20), xor(calldataload(add(from, 0x20)), mload(add(with, 0x20))))
                mstore(add(message, 0x40), xor(calldataload(add(from, 0x40)), mload(add(with, 0x40))))
                mstore(add(message, 0x60), xor(calldataload(add(from, 0x60)), mload(add(with, 0x60))))
                done := add(done, 128)
            }
            hash := mload(add(frame, 4))
        }
    }
}
