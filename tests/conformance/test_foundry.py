"""forge and cast, unmodified, against `zerog up`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Node

pytestmark = pytest.mark.conformance
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SENDER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture(scope="module")
def project(clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the forge project, so that its output stays out of the tree."""
    root = tmp_path_factory.mktemp("foundry")
    shutil.copytree(clients / "forge", root / "forge", ignore=shutil.ignore_patterns("out", "cache"))
    configuration = (root / "forge" / "foundry.toml").read_text()
    (root / "forge" / "foundry.toml").write_text(
        configuration.replace("../solc.mjs", str(clients / "solc.mjs"))
    )
    return root / "forge"


@pytest.fixture(scope="module")
def tool(node: Node, clients: Path, project: Path):  # type: ignore[no-untyped-def]
    def run(name: str, *arguments: str, fails: bool = False, **environment: str) -> str:
        done = subprocess.run(
            [clients / "node_modules" / ".bin" / name, *arguments],
            cwd=project,
            env={**os.environ, "ETH_RPC_URL": node.url, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if fails:  # the npm launcher hides the exit code of a failed tool
            assert done.stderr and not done.stdout, done.stdout
            return done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def probe(tool, project: Path, node: Node) -> str:  # type: ignore[no-untyped-def]
    """Deploys through `forge script`: three transactions of one sender at once."""
    tool("forge", "script", "script/Deploy.s.sol", "--rpc-url", node.url, "--broadcast", "--private-key", KEY)
    run = json.loads(next(project.glob("out/broadcast/Deploy.s.sol/*/run-latest.json")).read_text())
    assert [receipt["status"] for receipt in run["receipts"]] == ["0x1"] * 3
    return str(run["transactions"][0]["contractAddress"])


def test_forge_script_broadcasts_in_nonce_order(tool, probe: str) -> None:  # type: ignore[no-untyped-def]
    assert tool("cast", "call", probe, "value()(uint256)") == "41"


def test_forge_tests_run_on_a_fork(tool, probe: str, node: Node) -> None:  # type: ignore[no-untyped-def]
    out = tool("forge", "test", "--fork-url", node.url, PROBE=probe)
    assert "2 passed" in out and "0 failed" in out


def test_forge_create_deploys(tool, node: Node) -> None:  # type: ignore[no-untyped-def]
    out = tool(
        "forge", "create", "src/Probe.sol:Probe", "--rpc-url", node.url, "--private-key", KEY, "--broadcast",
        "--json", "--constructor-args", "5",
    )  # fmt: skip
    assert tool("cast", "call", json.loads(out)["deployedTo"], "value()(uint256)") == "5"


def test_cast_sends_and_reads_the_event(tool, probe: str) -> None:  # type: ignore[no-untyped-def]
    out = tool("cast", "send", probe, "set(uint256,string)", "50", "cast", "--private-key", KEY, "--json")
    receipt = json.loads(out)
    assert receipt["status"] == "0x1"
    logs = json.loads(
        tool(
            "cast", "logs", "--json", "--address", probe, "--from-block", str(int(receipt["blockNumber"], 16))
        )
    )
    assert logs[0]["blockHash"] == receipt["blockHash"]


@pytest.mark.parametrize(
    "flags", [["--legacy"], ["--legacy", "--access-list"], []], ids=["legacy", "2930", "1559"]
)
def test_cast_sends_every_plain_type(tool, flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    receipt = json.loads(tool("cast", "send", OTHER, "--value", "1", "--private-key", KEY, "--json", *flags))
    assert receipt["status"] == "0x1"


def test_cast_sends_a_blob(tool, project: Path) -> None:  # type: ignore[no-untyped-def]
    (project / "blob").write_bytes(b"zerog")
    receipt = json.loads(
        tool("cast", "send", OTHER, "--blob", "--path", "blob", "--private-key", KEY, "--json",
             "--blob-gas-price", "10000000000")
    )  # fmt: skip
    assert receipt["type"] == "0x3" and receipt["status"] == "0x1"


def test_cast_delegates_an_account(tool, probe: str) -> None:  # type: ignore[no-untyped-def]
    key = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
    tool("cast", "send", OTHER, "--auth", probe, "--private-key", key, "--gas-limit", "200000")
    assert tool("cast", "code", OTHER).lower() == "0xef0100" + probe[2:].lower()


def test_cast_decodes_a_revert(tool, probe: str) -> None:  # type: ignore[no-untyped-def]
    assert "refused on purpose" in tool("cast", "call", probe, "refuse()", fails=True)


def test_cast_uses_an_unlocked_account(tool) -> None:  # type: ignore[no-untyped-def]
    out = tool("cast", "send", OTHER, "--value", "1", "--unlocked", "--from", SENDER, "--json")
    assert json.loads(out)["status"] == "0x1"


def test_cast_traces_a_transaction(tool, probe: str) -> None:  # type: ignore[no-untyped-def]
    sent = json.loads(
        tool("cast", "send", probe, "set(uint256,string)", "60", "t", "--private-key", KEY, "--json")
    )
    assert "Traces" in tool("cast", "run", sent["transactionHash"], "--quick")


def test_cast_snapshots_impersonates_and_travels(tool) -> None:  # type: ignore[no-untyped-def]
    whale = "0x1234567890123456789012345678901234567890"
    before = int(tool("cast", "block-number"))
    snapshot = json.loads(tool("cast", "rpc", "evm_snapshot"))
    tool("cast", "rpc", "anvil_setBalance", whale, "0xde0b6b3a7640000")
    tool("cast", "rpc", "anvil_impersonateAccount", whale)
    tool("cast", "send", OTHER, "--value", "1", "--unlocked", "--from", whale)
    start = int(tool("cast", "block", "latest", "-f", "timestamp"))
    tool("cast", "rpc", "evm_increaseTime", "3600")
    tool("cast", "rpc", "evm_mine")
    assert int(tool("cast", "block", "latest", "-f", "timestamp")) >= start + 3600
    assert json.loads(tool("cast", "rpc", "evm_revert", snapshot)) is True
    assert int(tool("cast", "block-number")) == before
    assert tool("cast", "balance", whale) == "0"
