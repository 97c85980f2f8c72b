// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

import {IProofVerifier} from "../inference/IProofVerifier.sol";

/// @dev A verifier that says what a test told it to; generated ones revert instead of saying no.
contract ProofVerifierMock is IProofVerifier {
    enum Answer {
        Accept,
        Refuse,
        Revert
    }

    Answer public answer;

    error Refused();

    function setAnswer(Answer newAnswer) external {
        answer = newAnswer;
    }

    function verifyProof(bytes calldata, uint256[] calldata) external view returns (bool accepted) {
        if (answer == Answer.Revert) revert Refused();
        return answer == Answer.Accept;
    }
}
