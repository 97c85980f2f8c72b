"""The three official storage SDKs, unmodified, against `zerog up`: upload, download, KV, encryption, shards."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import Node, StorageNode

pytestmark = pytest.mark.conformance

FOLDER = Path(__file__).parent / "storage_sdks"
PYTHON_SDK = Path(sys.prefix) / "storage-sdk"
TS, TS_OLD, PY = "@0gfoundation/0g-ts-sdk", "@0glabs/0g-ts-sdk", "0g-storage-sdk"
SDKS = (TS, TS_OLD, PY)
KIB, MIB = 1 << 10, 1 << 20
SIZES = (
    1, 255, 256, 257, 4 * KIB, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MIB + 3, 8 * MIB, 64 * MIB,
)  # fmt: skip
STREAM = "0x" + f"{0xF2BD:064x}"


@dataclass(frozen=True)
class Job:
    """One operation of an SDK; jobs of one lane run in order."""

    op: str
    arguments: dict[str, Any] = field(default_factory=dict)
    lane: int | str | None = None

    def encoded(self) -> dict[str, Any]:
        lane = {} if self.lane is None else {"lane": self.lane}
        return {"op": self.op, **self.arguments, **lane}


@dataclass(frozen=True)
class Outcome:
    """What came of a job: its result, or the SDK's error text."""

    ok: bool
    result: Any = None
    error: str = ""


def run(sdk: str, url: str, jobs: list[Job], timeout: int = 180) -> list[Outcome]:
    """The outcomes in the order of the jobs."""
    environment = dict(os.environ)
    if sdk == PY:
        environment["PYTHONPATH"] = str(PYTHON_SDK)
        command = [sys.executable, "sdk.py"]
    else:
        command = ["node", "sdk.mjs", sdk]
    done = subprocess.run(
        command,
        cwd=FOLDER,
        env=environment,
        input=json.dumps({"url": url, "jobs": [job.encoded() for job in jobs]}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    found: dict[int, Outcome] = {}
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        found[entry["job"]] = Outcome(entry["ok"], entry.get("result"), entry.get("error", ""))
    missing = Outcome(False, error=f"the script ended with {done.returncode}: {done.stderr[-2000:]}")
    return [found.get(index, missing) for index in range(len(jobs))]


def content(sdk: str, size: int) -> bytes:
    """Bytes that no other SDK or size uploads, so that nothing is final before its turn."""
    return hashlib.shake_256(f"{sdk} {size}".encode()).digest(size)


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    if not (FOLDER / "node_modules").is_dir():
        pytest.skip(f"npm packages are not installed in {FOLDER}; run `make setup-test`")
    if not PYTHON_SDK.is_dir():
        pytest.skip(f"the Python SDK is not installed in {PYTHON_SDK}; run `make setup-test`")


@pytest.fixture(scope="module")
def stack() -> Iterator[Node]:
    running = Node("--ephemeral", "--accounts", "60", chain_only=False)
    yield running
    assert running.stop() == 0


class Uploads:
    """One run of uploads per SDK, all sizes side by side, each from an account of its own."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self._done: dict[str, dict[int, Outcome]] = {}

    def path(self, sdk: str, size: int) -> Path:
        path = self.folder / f"{SDKS.index(sdk)}-{size}.bin"
        if not path.exists():
            path.write_bytes(content(sdk, size))
        return path

    def account(self, sdk: str, index: int) -> str:
        first = SDKS.index(sdk) * 15
        return str(self.node.banner["accounts"][first + index]["privateKey"])

    def of(self, sdk: str) -> dict[int, Outcome]:
        if sdk not in self._done:
            jobs = [
                Job("upload", {"file": str(self.path(sdk, size)), "key": self.account(sdk, index)})
                for index, size in enumerate(SIZES)
            ]
            self._done[sdk] = dict(zip(SIZES, run(sdk, self.node.url, jobs), strict=True))
        return self._done[sdk]

    def root(self, sdk: str, size: int) -> str:
        outcome = self.of(sdk)[size]
        assert outcome.ok, outcome.error
        return str(outcome.result["rootHash"])


@pytest.fixture(scope="module")
def uploads(stack: Node, tmp_path_factory: pytest.TempPathFactory) -> Uploads:
    return Uploads(stack, tmp_path_factory.mktemp("uploads"))


class Downloads:
    """One run of downloads per (reader, writer), all sizes."""

    def __init__(self, uploads: Uploads, folder: Path) -> None:
        self.uploads = uploads
        self.folder = folder
        self._done: dict[tuple[str, str], dict[int, Outcome]] = {}

    def of(self, reader: str, writer: str) -> dict[int, Outcome]:
        pair = (reader, writer)
        if pair not in self._done:
            jobs = [
                Job(
                    "download",
                    {"root": self.uploads.root(writer, size), "file": str(self.path(reader, writer, size))},
                )
                for size in SIZES
            ]
            outcomes = run(reader, self.uploads.node.url, jobs)
            self._done[pair] = dict(zip(SIZES, outcomes, strict=True))
        return self._done[pair]

    def path(self, reader: str, writer: str, size: int) -> Path:
        return self.folder / f"{SDKS.index(reader)}-{SDKS.index(writer)}-{size}.bin"


@pytest.fixture(scope="module")
def downloads(uploads: Uploads, tmp_path_factory: pytest.TempPathFactory) -> Downloads:
    return Downloads(uploads, tmp_path_factory.mktemp("downloads"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sdk", SDKS)
def test_file_comes_back_as_it_was_uploaded(
    sdk: str, size: int, uploads: Uploads, downloads: Downloads
) -> None:
    outcome = downloads.of(sdk, sdk)[size]
    assert outcome.ok, outcome.error
    assert downloads.path(sdk, sdk, size).read_bytes() == content(sdk, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("writer", SDKS)
def test_another_sdk_reads_the_same_bytes(writer: str, size: int, downloads: Downloads) -> None:
    reader = SDKS[(SDKS.index(writer) + 1) % len(SDKS)]
    outcome = downloads.of(reader, writer)[size]
    assert outcome.ok, outcome.error
    assert downloads.path(reader, writer, size).read_bytes() == content(writer, size)


@pytest.mark.parametrize("sdk", SDKS)
def test_empty_file_is_refused_clearly(sdk: str, stack: Node, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    [outcome] = run(
        sdk,
        stack.url,
        [Job("upload", {"file": str(empty), "key": stack.banner["accounts"][14]["privateKey"]})],
    )
    assert not outcome.ok
    assert outcome.error


@pytest.mark.parametrize("sdk", SDKS)
def test_same_file_twice_succeeds(sdk: str, uploads: Uploads) -> None:
    root = uploads.root(sdk, 4 * KIB)
    job = Job("upload", {"file": str(uploads.path(sdk, 4 * KIB)), "key": uploads.account(sdk, 12)})
    [outcome] = run(sdk, uploads.node.url, [job])
    assert outcome.ok, outcome.error
    assert outcome.result["rootHash"] == root


def test_second_upload_with_the_current_sdk_costs_nothing(uploads: Uploads) -> None:
    uploads.root(TS, 257)
    job = Job("upload", {"file": str(uploads.path(TS, 257)), "key": uploads.account(TS, 3)})
    [outcome] = run(TS, uploads.node.url, [job])
    assert outcome.ok, outcome.error
    assert outcome.result["txHash"] == ""


def test_fragments_of_a_file_are_joined_again(uploads: Uploads, tmp_path: Path) -> None:
    data = hashlib.shake_256(b"fragments").digest(3 * MIB + 11)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    upload = Job(
        "upload",
        {"file": str(source), "key": uploads.account(TS, 13), "options": {"fragmentSize": MIB}},
    )
    [uploaded] = run(TS, uploads.node.url, [upload])
    assert uploaded.ok, uploaded.error
    roots = uploaded.result["rootHashes"]
    assert len(roots) == 4
    [outcome] = run(TS, uploads.node.url, [Job("download", {"root": roots, "file": str(target)})])
    assert outcome.ok, outcome.error
    assert target.read_bytes() == data


KEY = "0x" + "42" * 32
RECIPIENT_KEY = "0x" + "11" * 32
RECIPIENT = "0x034f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa"


@pytest.mark.parametrize(
    ("encryption", "decryption"),
    [
        ({"type": "aes256", "key": f"bytes:{KEY}"}, {"symmetricKey": f"bytes:{KEY}"}),
        ({"type": "ecies", "recipientPubKey": RECIPIENT}, {"privateKey": RECIPIENT_KEY}),
    ],
    ids=["aes256", "ecies"],
)
def test_encrypted_file_comes_back_in_the_clear(
    encryption: dict[str, str], decryption: dict[str, str], uploads: Uploads, tmp_path: Path
) -> None:
    data = hashlib.shake_256(json.dumps(encryption).encode()).digest(600_000)
    source = tmp_path / "source"
    source.write_bytes(data)
    upload = Job(
        "upload",
        {"file": str(source), "key": uploads.account(TS, 14), "options": {"encryption": encryption}},
    )
    [uploaded] = run(TS, uploads.node.url, [upload])
    assert uploaded.ok, uploaded.error
    download = Job("downloadDecrypted", {"roots": [uploaded.result["rootHash"]], "decryption": decryption})
    [outcome] = run(TS, uploads.node.url, [download])
    assert outcome.ok, outcome.error
    assert bytes.fromhex(outcome.result[2:]) == data


VALUES = {"0x6b31": b"v1-value", "0x6b32": hashlib.shake_256(b"big").digest(300_000), "0x00ff": b"\x00"}


@pytest.fixture(scope="module", params=SDKS)
def written_stream(request: pytest.FixtureRequest, stack: Node) -> tuple[str, str]:
    """Each SDK writes its own stream."""
    sdk: str = request.param
    stream = "0x" + f"{0xF200 + SDKS.index(sdk):064x}"
    writes = [[stream, name, "0x" + value.hex()] for name, value in VALUES.items()]
    key = stack.banner["accounts"][50 + SDKS.index(sdk)]["privateKey"]
    [outcome] = run(sdk, stack.url, [Job("kvWrite", {"key": key, "version": 1, "writes": writes})])
    assert outcome.ok, outcome.error
    return sdk, stream


@pytest.mark.parametrize("name", VALUES)
def test_kv_value_reads_back(written_stream: tuple[str, str], name: str, stack: Node) -> None:
    sdk, stream = written_stream
    # The older SDK sends the key as it is given: base64 text.
    given = {TS: f"bytes:{name}", TS_OLD: f"base64:{name}", PY: name}[sdk]
    [outcome] = run(sdk, stack.url, [Job("kvRead", {"stream": stream, "name": given})])
    assert outcome.ok, outcome.error
    assert outcome.result["size"] == len(VALUES[name])
    assert base64.b64decode(outcome.result["data"]) == VALUES[name]


@dataclass
class Shards:
    """Two nodes that each keep every second segment; the first one's indexer knows both."""

    first: Node
    second: StorageNode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    port = free_port()
    config = tmp_path_factory.mktemp("shards") / "zerog.toml"
    config.write_text(f'[storage]\nshard = "0/2"\n[indexer]\ntrusted = ["http://127.0.0.1:{port}"]\n')
    first = Node("--ephemeral", "--config", str(config), chain_only=False)
    second = StorageNode(first.url, first.banner["contracts"]["StorageFlow"], "1/2", "--port", str(port))
    yield Shards(first, second)
    assert second.stop() == 0
    assert first.stop() == 0


@pytest.mark.parametrize("sdk", SDKS)
def test_file_over_two_shards_comes_back(sdk: str, shards: Shards, tmp_path: Path) -> None:
    data = content(f"{sdk} sharded", 600_000)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    key = shards.first.banner["accounts"][SDKS.index(sdk)]["privateKey"]
    # With its default of one segment per task, 1.2.8 forgets the last segments of the node that has more of them.
    options = {"options": {"taskSize": 10}} if sdk == TS else {}
    [uploaded] = run(sdk, shards.first.url, [Job("upload", {"file": str(source), "key": key, **options})])
    assert uploaded.ok, uploaded.error
    download = Job("download", {"root": uploaded.result["rootHash"], "file": str(target)})
    [outcome] = run(sdk, shards.first.url, [download])
    assert outcome.ok, outcome.error
    assert target.read_bytes() == data
