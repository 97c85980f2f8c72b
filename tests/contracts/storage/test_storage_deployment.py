"""The same set deployed by transactions, as on any other chain."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.contracts.storage.conftest import SUBMIT, Storage, prng_files, vectors

from zerog.chain.keys import keccak256
from zerog.contracts import artifact
from zerog.contracts.storage_deployment import StorageParameters, deploy_storage
from zerog.errors import ZerogError


@dataclass
class DevnetSender:
    storage: Storage
    fail: bool = False

    @property
    def address(self):
        return self.storage.admin.address

    def send(self, to, data, value=0):
        if self.fail:
            return {"status": "0x0", "transactionHash": "0x1"}
        receipt = self.storage.client.send(to=to, input=data, value=value, account=self.storage.admin)
        return {"status": "0x1", "contractAddress": receipt.contract_address}


@pytest.mark.parametrize("strict", [False, True])
def test_a_deployed_set_takes_the_submissions_of_the_vectors(storage, strict):
    parameters = StorageParameters(
        blocks_per_epoch=32, strict=strict, sectors_per_chunk=1024, base_reward=10, base_reward_fund=1000
    )
    made = deploy_storage(DevnetSender(storage), parameters, keccak256=keccak256)
    flow = storage.client.contract(made.flow, artifact("FixedPriceFlow").abi, account=storage.user)
    assert flow.market().lower() == made.market.lower()
    wanted = vectors("flow.json")["submissions"]
    for file, entry in zip(prng_files()[:8], wanted, strict=False):
        flow.functions[SUBMIT]((file.data(), storage.user.address), value=storage.fee(file), gas=1_000_000)
        assert flow.getFlowRootByTxSeq(entry["txSeq"]) == bytes.fromhex(entry["flowRoot"][2:])
    mine = storage.client.contract(made.mine, artifact("PoraMine").abi)
    assert [a.lower() for a in (mine.flow(), mine.reward())] == [made.flow.lower(), made.reward.lower()]
    assert (mine.nSubtasks(), mine.targetMineBlocks(), mine.maxShards()) == (4, 750, 256)
    assert mine.poraTarget() == (2**256 - 1) // 1_000_000
    reward = storage.client.contract(made.reward, artifact("ChunkLinearReward").abi)
    assert [a.lower() for a in (reward.mine(), reward.market())] == [made.mine.lower(), made.market.lower()]
    assert (reward.baseReward(), reward.totalBaseReward(), reward.sectorsPerChunk()) == (10, 1000, 1024)


def test_a_failed_transaction_ends_the_deployment(storage):
    with pytest.raises(ZerogError, match="the creation of RefundingFlow failed"):
        deploy_storage(DevnetSender(storage, fail=True), keccak256=keccak256)
