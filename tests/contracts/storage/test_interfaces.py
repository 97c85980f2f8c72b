"""Selectors, topics and error selectors that clients of the storage network have compiled in."""

from __future__ import annotations

import pytest

from zerog.chain.keys import keccak256
from zerog.contracts import artifact

NODE = "(bytes32,uint256)[]"
DATA = f"(uint256,bytes,{NODE})"
CONTEXT = "(uint256,uint256,bytes32,uint256,bytes32,bytes32)"
ANSWER = (
    "(bytes32,bytes32,bytes32,(uint256,uint256,uint64,uint64),uint256,uint256,bytes32,bytes32[128],bytes32[])"
)
FUNCTIONS = {
    "RefundingFlow": {
        f"submit(({DATA},address))": "bc8c11f8",
        f"batchSubmit(({DATA},address)[])": "49aa3395",
        f"submit({DATA})": "ef3e12dc",
        f"batchSubmit({DATA}[])": "9e62a38e",
        "makeContext()": "38d45e10",
        "makeContextFixedTimes(uint256)": "18a641ef",
        "makeContextWithResult()": "b464b53e",
        "getContext()": "127f0f07",
        "queryContextAtPosition(uint128)": "31bae174",
        "getEpochRange(bytes32)": "7d590708",
        "getEpochRangeHistory(uint256)": "4282b532",
        "getFlowRootByTxSeq(uint256)": "6d7ad0fc",
        "computeFlowRoot()": "1deb0fca",
        "tree()": "fd54b228",
        "submissionIndex()": "b8a409ac",
        "numSubmissions()": "77e19824",
        "epoch()": "900cf0cf",
        "epochStartPosition()": "93e405a0",
        "firstBlock()": "231b0268",
        "blocksPerEpoch()": "f0682054",
        "deployDelay()": "9bbbfdbb",
        "market()": "80f55605",
        "rootHistory()": "c7dd5221",
        "initialize(address,uint256)": "cd6dc687",
        "setParams(uint256,uint256,address)": "ebdec6d3",
        "pause()": "8456cb59",
        "unpause()": "3f4ba83a",
        "paused()": "5c975abb",
    },
    "FixedPrice": {
        "pricePerSector()": "61ec5082",
        "setPricePerSector(uint256)": "14aa90a1",
        "chargeFee(uint256,uint256,uint256)": "da6eb36a",
        "flow()": "343aad82",
        "reward()": "228cb733",
    },
    "ChunkLinearReward": {
        "fillReward(uint256,uint256)": "59e96700",
        "claimMineReward(uint256,address,bytes32)": "b7a3c04c",
        "payments(address)": "e2982c21",
        "withdrawPayments(address)": "31b3eb94",
        "firstRewardableChunk()": "b3b30c1a",
        "rewardDeadline(uint256)": "0a539a19",
        "rewards(uint256)": "f301af42",
        "donate()": "ed88c68e",
    },
    "PoraMine": {
        f"submit({ANSWER})": "ae722e82",
        f"pora({ANSWER},bytes32)": "8c0bca06",
        f"basicCheck({ANSWER},{CONTEXT})": "3baebb75",
        "requestMinerId(address,uint64)": "047c13f5",
        "transferBeneficial(address,bytes32)": "b0628ee0",
        "beneficiaries(bytes32)": "39cd53ee",
        "computeWorkerContext(bytes32)": "296beba7",
        "computeWorkerContextCaller()": "c10a7297",
        "poraVersion()": "e282e27b",
        "canSubmit()": "ffbc9bd0",
        f"getSubtaskDigest({CONTEXT},bytes32)": "78203ab6",
        "poraTarget()": "48f61441",
        "minDifficulty()": "b4a93283",
        "lastMinedEpoch()": "31223ba7",
        "currentSubmissions()": "a8279182",
        "targetSubmissions()": "b776a512",
        "targetSubmissionsNextEpoch()": "7eca5688",
        "targetMineBlocks()": "331f3b9c",
        "maxShards()": "16a4be6f",
        "nSubtasks()": "9dc787a2",
        "nSubtasksNextEpoch()": "0367e2dd",
        "subtaskInterval()": "8f375b36",
        "subtaskIntervalNextEpoch()": "0e2410ff",
        "difficultyAdjustRatio()": "dddc61a8",
    },
}
EVENTS = {
    ("RefundingFlow", f"Submit(address,bytes32,uint256,uint256,uint256,{DATA})"): (
        "167ce04d2aa1981994d3a31695da0d785373335b1078cec239a1a3a2c7675555"
    ),
    ("RefundingFlow", "NewEpoch(address,uint256,bytes32,uint256,uint256,bytes32)"): (
        "bc8a3fd82465d43f1709e44ed882f7e1af0147274196ef1ec009f5d52ff4e993"
    ),
    ("ChunkLinearReward", "DistributeReward(uint256,address,bytes32,uint256)"): (
        "f099de0c527342bff1397d08daae31c3de66104f48886094fbe9126a21ebf4b0"
    ),
    ("PoraMine", "NewMinerId(bytes32,address)"): (
        "bfeb006f16aca8eb3d9953cf44db6b11b6f3041a313875dfa18f2e9d71bd309e"
    ),
    ("PoraMine", "UpdateMinerId(bytes32,address,address)"): (
        "9a26a8e7fd42c501b452c02016def8048e3ea28c2bf15127a9b5e2029d989bf1"
    ),
    ("PoraMine", "NewSubmission(uint256,bytes32,uint256,uint256)"): (
        "fedd8f58059af8fd54b4394c01ea8d07cac041988be3b5a822fb779f9c8de3a4"
    ),
}
ERRORS = {
    "InvalidSubmission()": "f956cee4",
    "NotEnoughFee(uint256,uint256,uint256)": "f85c6482",
    "EnforcedPause()": "d93c0665",
    "InvalidInitialization()": "f92ee8a9",
}


def _type(parameter) -> str:
    kind = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    return "(" + ",".join(map(_type, parameter["components"])) + ")" + kind[5:]


def _hashes(contract: str, kind: str) -> dict[str, str]:
    entries = [entry for entry in artifact(contract).abi if entry["type"] == kind]
    signatures = [f"{entry['name']}({','.join(map(_type, entry['inputs']))})" for entry in entries]
    return {signature: keccak256(signature.encode()).hex() for signature in signatures}


@pytest.mark.parametrize("contract", FUNCTIONS)
def test_functions_have_the_selectors_that_clients_call(contract):
    found = _hashes(contract, "function")
    assert {s: found.get(s, "missing")[:8] for s in FUNCTIONS[contract]} == FUNCTIONS[contract]


@pytest.mark.parametrize(("contract", "signature"), EVENTS)
def test_events_have_the_topics_that_clients_filter(contract, signature):
    assert _hashes(contract, "event")[signature] == EVENTS[contract, signature]


def test_errors_have_the_selectors_that_clients_decode():
    found = _hashes("RefundingFlow", "error")
    assert {s: found.get(s, "missing")[:8] for s in ERRORS} == ERRORS


@pytest.mark.parametrize("contract", ["Flow", "FixedPriceFlow"])
def test_the_flows_share_one_interface(contract):
    extra = {"SUBMISSION_GAS()"}
    assert set(_hashes("RefundingFlow", "function")) - extra == set(_hashes(contract, "function"))
    assert _hashes("RefundingFlow", "event") == _hashes(contract, "event")


def test_submit_indexes_sender_and_identity_only():
    (event,) = [e for e in artifact("RefundingFlow").abi if e["type"] == "event" and e["name"] == "Submit"]
    assert [i["name"] for i in event["inputs"] if i["indexed"]] == ["sender", "identity"]
