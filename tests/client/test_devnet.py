"""`Devnet` and its pytest fixture."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from zerog import Client, Devnet
from zerog.errors import PortInUse, RpcError, WrongChain, ZerogError

pytest_plugins = ["pytester"]


def test_two_devnets_live_side_by_side() -> None:
    with Devnet(chain_id=1111) as one, Devnet(chain_id=2222) as two:
        assert (one.client.chain_id, two.client.chain_id) == (1111, 2222)
        one.mine(3)
        assert two.client.block_number == 0


def test_other_clients_join_over_http() -> None:
    with Devnet() as net:
        assert Client(net.url).block_number == net.client.block_number


def test_it_can_be_started_again() -> None:
    net = Devnet()
    for _ in range(2):
        with net:
            assert net.client.block_number == 0
            net.mine()
    assert repr(net) == "<Devnet stopped>"
    with pytest.raises(ZerogError, match="not running"):
        net.mine()


def test_a_data_directory_keeps_the_chain(tmp_path: Path) -> None:
    with Devnet(data_dir=tmp_path / "d") as net:
        net.mine(4)
        head = net.client.block()
    with Devnet(data_dir=tmp_path / "d") as net:
        assert net.client.block() == head
    with pytest.raises(WrongChain), Devnet(data_dir=tmp_path / "d", chain_id=5):
        pass


def test_an_anchor_undoes_what_happened_inside(zerog_devnet: Devnet) -> None:
    head, balance = zerog_devnet.client.block(), zerog_devnet.client.balance("0x" + "11" * 20)
    with zerog_devnet.anchor():
        zerog_devnet.mine(2)
        zerog_devnet.set_balance("0x" + "11" * 20, 5)
    assert zerog_devnet.client.block() == head
    assert zerog_devnet.client.balance("0x" + "11" * 20) == balance


def test_an_anchor_undoes_modes_and_controls(zerog_devnet: Devnet) -> None:
    client = zerog_devnet.client
    with zerog_devnet.anchor():
        client.request("evm_setAutomine", False)
        client.request("anvil_autoImpersonateAccount", True)
        client.request("anvil_setCoinbase", "0x" + "11" * 20)
        client.submit(to="0x" + "22" * 20, value=1)
    assert client.request("anvil_getAutomine") is True
    assert client.request("txpool_status")["pending"] == "0x0"
    zerog_devnet.mine()
    assert int(client.block().miner, 16) == 0
    with pytest.raises(RpcError):
        client.send(account="0x" + "33" * 20, to="0x" + "22" * 20)


def test_a_snapshot_is_used_up(zerog_devnet: Devnet) -> None:
    mark = zerog_devnet.snapshot()
    zerog_devnet.revert(mark)
    with pytest.raises(ZerogError, match="each can be reverted to once"):
        zerog_devnet.revert(mark)


def test_an_interval_makes_blocks_by_itself() -> None:
    with Devnet(block_time=0.02) as net:
        end = time.monotonic() + 10
        while net.client.block_number < 3:
            assert time.monotonic() < end
            time.sleep(0.005)


def test_a_taken_port_is_told_and_leaves_nothing_behind() -> None:
    with Devnet() as net:
        other = Devnet(port=net.node.server.port)
        with pytest.raises(PortInUse, match="choose another port"):
            other.start()
    with other:
        assert other.client.block_number == 0


def test_the_fixture_gives_every_test_a_clean_chain(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def zerog_devnet_options():
            return {"chain_id": 77}

        @pytest.mark.parametrize("run", [1, 2])
        def test_clean(zerog_devnet, run):
            assert zerog_devnet.chain_id == 77
            assert zerog_devnet.client.block_number == 0
            zerog_devnet.mine()
            zerog_devnet.set_balance("0x" + "11" * 20, 7)

        def test_still_clean(zerog_devnet):
            assert zerog_devnet.client.balance("0x" + "11" * 20) == 0
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)
