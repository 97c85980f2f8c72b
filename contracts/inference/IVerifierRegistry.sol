// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @title What audits need of the registry of verifiers
interface IVerifierRegistry {
    /// @notice Draws distinct members of a pool, each with the probability of its stake, from a seed.
    /// @param pool Engine id that the members can reproduce, or the pool of the tolerant class.
    /// @param seed Randomness; the same seed gives the same members.
    /// @param count Members wanted; fewer come back when the pool is smaller.
    /// @param exclude Account that is passed over, or zero.
    /// @param beaconBlock Block of the randomness. Stake counts as it was an activation delay before it.
    /// @return members Who was drawn, in the order of the draw.
    /// @return stakes Stake behind each, in wei.
    function draw(
        bytes32 pool,
        bytes32 seed,
        uint256 count,
        address exclude,
        uint64 beaconBlock
    ) external view returns (address[] memory members, uint256[] memory stakes);

    /// @notice Whether `account` is a verifier with the least stake.
    function isVerifier(address account) external view returns (bool);

    /// @notice Stake of a verifier that can be taken, its stake on the way out included, in wei.
    function atRiskOf(address account) external view returns (uint256);

    /// @notice Takes up to `amount` of a verifier's stake; `keepPpm` millionths of it go to the caller, the rest is burnt.
    /// @return taken Wei taken.
    /// @return kept Wei sent to the caller.
    function seize(
        address account,
        uint256 amount,
        uint32 keepPpm,
        bytes32 reason
    ) external returns (uint256 taken, uint256 kept);
}
