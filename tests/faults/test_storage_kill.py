"""`kill -9` of storage nodes and clients at random moments, with real processes and real data directories.

What a client was told stays true: finalized files, acknowledged segments and committed keys are there, byte for byte, after the
restart; nothing is paid twice; whoever was interrupted goes on. The scrub runs all the time, so that it is
interrupted, too. Few kills run with the other tests, the rest with ``make soak``.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.storage.api.conftest import FLOW, File, submit

from zerog import Account, Client, Devnet, _native
from zerog.client.kv import Kv
from zerog.client.storage import Storage
from zerog.client.transport import HttpTransport
from zerog.errors import ZerogError

ZEROG = [sys.executable, "-m", "zerog"]
SEGMENT = 262_144
SETTINGS = """
[storage]
scrub_interval = 0.05
scrub_rate = 1073741824
[miner]
enabled = false
[kv]
give_up_after = 1.0
"""
PATIENCE = 60.0
PAYER = _native.keccak256(b"storage-kill-payer")
WRITER = _native.keccak256(b"storage-kill-writer")
KEEPER = _native.keccak256(b"storage-kill-keeper")
STREAM = "0x" + "f2" * 32


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class Process:
    """A zerog program that prints one line of JSON when it is ready."""

    def __init__(self, arguments: Sequence[object]) -> None:
        self.popen = subprocess.Popen(
            [*ZEROG, *map(str, arguments), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None and self.popen.stderr is not None
        line = self.popen.stdout.readline()
        assert line, f"no banner: {self.popen.stderr.read()}"
        banner = json.loads(line)
        self.url: str = banner["url"]
        self.port = int(self.url.rsplit(":", 1)[1].rstrip("/"))

    def request(self, method: str, *params: Any) -> Any:
        return HttpTransport(self.url, 20).request(method, list(params))

    def kill(self) -> None:
        self.popen.kill()  # SIGKILL
        self.popen.wait()
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe:
                pipe.close()


def start_node(folder: Path, port: int = 0) -> Process:
    config = folder / "zerog.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(SETTINGS)
    return Process(["up", "--config", config, "--data-dir", folder / "data", "--port", port])


# A node that holds chain and data is killed; two clients go on against the restarted one.


class Uploader(threading.Thread):
    """Puts one file after the other with the client library; a failed put is tried again with the same file."""

    def __init__(self, url: str, state: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.url, self.state = url, state
        self.random = random.Random(seed)
        self.acknowledged: dict[str, bytes] = {}
        self.interrupted = 0
        self.unexpected: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            while not self.done.is_set():
                size = self.random.choice([1, 300, 70_000, 400_000, 1_500_000, 3_000_001])
                self.put(self.random.randbytes(size))
        except BaseException as error:
            self.unexpected = error

    def put(self, content: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            account = Account("0x" + PAYER.hex())
            try:
                client = Client(self.url, account=account, timeout=20)
                stored = Storage(self.url, client=client, timeout=20, state=self.state).put(content)
            except ZerogError as error:
                # The node died below it. Nobody has to know what was paid already: the client does.
                self.interrupted += 1
                if time.monotonic() > deadline:
                    raise AssertionError(f"a put does not recover: {error}") from error
                time.sleep(0.02)
                continue
            self.acknowledged[stored.root] = content
            return


class Writer(threading.Thread):
    """Sends the segments of large files one by one; keeps which ones the node acknowledged."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.random = random.Random(seed)
        self.files: dict[int, File] = {}
        self.acknowledged: list[tuple[int, int]] = []
        self.unexpected: BaseException | None = None

    def run(self) -> None:
        try:
            client = Client(self.url, timeout=20, account=Account("0x" + WRITER.hex()))
            while True:
                self.write(client, File.of(self.random.randbytes(12 * SEGMENT + 5)))
        except (ZerogError, OSError):
            return  # the node is dead
        except BaseException as error:
            self.unexpected = error

    def write(self, client: Client, file: File) -> None:
        account = client.account
        assert isinstance(account, Account)
        client.send(to=FLOW, value=file.fee, input=file.submission(account.address))
        seq = client.request("zgs_getFileInfo", file.root, True)["tx"]["seq"]
        self.files[seq] = file
        for index in self.random.sample(range(file.count), file.count):
            client.request("zgs_uploadSegmentByTxSeq", file.json(index), seq)
            self.acknowledged.append((seq, index))


class KeyWriter(threading.Thread):
    """Sets keys of a stream; keeps what was committed."""

    def __init__(self, url: str, state: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.url, self.state = url, state
        self.random = random.Random(seed)
        self.committed: dict[str, bytes] = {}
        self.unexpected: BaseException | None = None

    def run(self) -> None:
        try:
            client = Client(self.url, timeout=20, account=Account("0x" + KEEPER.hex()))
            network = Storage(self.url, client=client, timeout=20, state=self.state)

            def upload(content: bytes, tags: bytes) -> int:
                return network.put(content, tags=tags, again=True).seqs[0]

            stream = Kv(client, upload=upload, timeout=20).stream(STREAM)
            while True:
                key, value = self.random.randbytes(8).hex(), self.random.randbytes(1000)
                stream.set(key, value)
                self.committed[key] = value
        except (ZerogError, OSError):
            return  # the node is dead
        except BaseException as error:
            self.unexpected = error


def check_keys(node: Process, writer: KeyWriter) -> None:
    assert writer.unexpected is None, repr(writer.unexpected)
    stream = Kv(Client(node.url, timeout=20)).stream(STREAM)
    for key, value in writer.committed.items():
        # Replay may be behind after the restart, never wrong.
        until(lambda key=key: stream.get(key) is not None)  # type: ignore[misc]
        assert stream.get(key) == value


def check_segments(node: Process, writer: Writer) -> None:
    assert writer.unexpected is None, repr(writer.unexpected)
    for seq, index in writer.acknowledged:
        found = node.request("zgs_downloadSegmentWithProofByTxSeq", seq, index)
        assert found == writer.files[seq].json(index), f"segment {index} of submission {seq} is lost"


def check_files(node: Process, files: dict[str, bytes]) -> None:
    client = Client(node.url, timeout=20)
    for root, content in files.items():
        assert node.request("zgs_checkFileFinalized", root) is True, f"{root} is not final any more"
        assert Storage(node.url, client=client).read(root) == content


def check_payments(node: Process, roots: Sequence[str]) -> None:
    """Every root was submitted exactly once."""
    count = node.request("zgs_getStatus")["nextTxSeq"]
    found = Counter(
        node.request("zgs_getFileInfoByTxSeq", seq)["tx"]["dataMerkleRoot"] for seq in range(count)
    )
    assert {root: found[root] for root in roots} == dict.fromkeys(roots, 1)


def node_kills(folder: Path, kills: int, seed: int) -> None:
    choice = random.Random(seed)
    node = start_node(folder)
    uploader = Uploader(node.url, folder / "uploads", seed)
    try:
        for key in (PAYER, WRITER, KEEPER):
            node.request("anvil_setBalance", _native.address_of(key), hex(10**24))
        uploader.start()
        checked = committed = 0
        for done in range(kills):
            writer = Writer(node.url, choice.getrandbits(32))
            keys = KeyWriter(node.url, folder / "keys", choice.getrandbits(32))
            writer.start()
            keys.start()
            time.sleep(choice.uniform(0.05, 0.9))
            node.kill()
            writer.join(timeout=PATIENCE)
            keys.join(timeout=PATIENCE)
            assert not writer.is_alive() and not keys.is_alive()
            assert uploader.unexpected is None, repr(uploader.unexpected)
            node = start_node(folder, node.port)
            check_segments(node, writer)
            check_keys(node, keys)
            committed += len(keys.committed)
            # The newest at once, everything in the end.
            check_files(node, dict(list(uploader.acknowledged.items())[checked:]))
            checked = max(0, len(uploader.acknowledged) - 3)
            if kills > 20 and done % 20 == 0:
                print(f"node: {done} of {kills} kills", flush=True)
        uploader.done.set()
        uploader.join(timeout=PATIENCE)
        assert not uploader.is_alive() and uploader.unexpected is None, repr(uploader.unexpected)
        assert uploader.acknowledged and uploader.interrupted and committed
        print(
            f"{kills} kills: {len(uploader.acknowledged)} files, {committed} keys, {uploader.interrupted} retries"
        )
        check_files(node, uploader.acknowledged)
        check_payments(node, list(uploader.acknowledged))
        assert node.request("admin_getScrub")["failure"] is None
        assert node.request("admin_getScrub")["damaged"] == 0
    finally:
        uploader.done.set()
        node.kill()


# The client is killed.


class Command:
    """`zerog storage put` or `get`, killed after a random time until it comes to its end by itself."""

    def __init__(self, arguments: Sequence[object], home: Path, choice: random.Random) -> None:
        self.arguments = [*ZEROG, "storage", *map(str, arguments), "--json"]
        self.environment = os.environ | {"ZEROG_HOME": str(home)}
        self.choice = choice
        self.kills = 0

    def run(self, longest: float, kills: int) -> Any:
        """Its result; at most ``kills`` of the attempts are killed."""
        while True:
            process = subprocess.Popen(
                self.arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment
            )
            try:
                timeout = self.choice.uniform(0.05, longest) if self.kills < kills else PATIENCE
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                assert self.kills < kills, "the client does not come to its end"
                process.send_signal(signal.SIGKILL)
                process.communicate()
                self.kills += 1
                continue
            assert process.returncode == 0, err.decode()
            return json.loads(out)


def client_kills(folder: Path, kills: int, seed: int) -> None:
    choice = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    roots: list[str] = []
    done = 0
    with Devnet(services=["storage", "indexer"]) as net:
        # How long an undisturbed one takes, on this machine, now.
        (folder / "first").write_bytes(choice.randbytes(6 << 20))
        began = time.monotonic()
        Command(["put", folder / "first", "--url", net.url], folder / "home", choice).run(1.0, 0)
        longest = 1.2 * (time.monotonic() - began)
        while done < kills:
            content = choice.randbytes((5 << 20) + choice.randrange(3_000_000))
            (folder / "in").write_bytes(content)
            put = Command(["put", folder / "in", "--url", net.url], folder / "home", choice)
            root = put.run(longest, 4)["roots"][0]
            get = Command(
                ["get", root, "-o", folder / "out", "--force", "--url", net.url], folder / "home", choice
            )
            get.run(longest, 4)
            assert (folder / "out").read_bytes() == content
            left = [path.name for path in folder.iterdir() if path.name not in ("first", "in", "out", "home")]
            assert left == [], "a finished download leaves nothing behind"
            (folder / "out").unlink()
            roots.append(root)
            done += put.kills + get.kills
        count = net.client.request("zgs_getStatus")["nextTxSeq"]
        found = [net.client.request("zgs_getFileInfoByTxSeq", seq) for seq in range(count)]
        assert sorted(info["tx"]["dataMerkleRoot"] for info in found[1:]) == sorted(roots), "paid twice"
        assert all(info["finalized"] for info in found)


# A node that copies from another one is killed.


def start_copy(chain: str, folder: Path, *peers: str) -> Process:
    options: list[object] = ["storage", "node", "--rpc", chain, "--flow", FLOW, "--data-dir", folder]
    for peer in peers:
        options += ["--peer", peer]
    return Process([*options, "--port", 0, "--scrub-rate", 1 << 30])


def fill(net: Devnet, content: bytes) -> File:
    """A file that the devnet's own node has."""
    file = File.of(content)
    submit(net, file)
    seq = net.client.request("zgs_getFileInfo", file.root, True)["tx"]["seq"]
    for at in range(0, file.count, 8):
        segments = [file.json(index) for index in range(at, min(at + 8, file.count))]
        net.client.request("zgs_uploadSegmentsByTxSeq", segments, seq)
    return file


def read(node: Process, seq: int, file: File) -> bytes:
    parts = [
        base64.b64decode(node.request("zgs_downloadSegmentWithProofByTxSeq", seq, index)["data"])
        for index in range(file.count)
    ]
    return b"".join(parts)[: len(file.data)]


def sync_kills(folder: Path, kills: int, seed: int) -> None:
    choice = random.Random(seed)
    files: list[File] = []
    progressed = 0
    with Devnet(services=["storage", "indexer"]) as net:
        for _ in range(kills):
            for _ in range(3):
                files.append(fill(net, choice.randbytes(choice.choice([900, 300_000, 4_000_000]))))
            node = start_copy(net.url, folder, net.url)
            try:
                node.request("admin_startScrub")
                time.sleep(choice.uniform(0.0, 0.8))
                status = node.request("zgs_getStatus")
                held = [
                    seq for seq in range(status["nextTxSeq"]) if node.request("zgs_checkFileFinalized", seq)
                ]
            finally:
                node.kill()
            # Alone, it still has what it said it has.
            node = start_copy(net.url, folder)
            try:
                for seq in held[-4:]:
                    assert read(node, seq, files[seq]) == files[seq].data
                assert all(node.request("zgs_checkFileFinalized", seq) for seq in held)
                progressed += len(held)
            finally:
                node.kill()
        node = start_copy(net.url, folder, net.url)
        try:
            until(lambda: all(node.request("zgs_checkFileFinalized", seq) for seq in range(len(files))))
            for seq, file in enumerate(files):
                assert read(node, seq, file) == file.data
            before = node.request("admin_getScrub")["lastComplete"]
            node.request("admin_startScrub")
            until(lambda: node.request("admin_getScrub")["lastComplete"] != before)
            report = node.request("admin_getScrub")
            assert (report["damaged"], report["failure"]) == (0, None)
        finally:
            node.kill()
    assert progressed, "every kill came before anything was copied"


@contextmanager
def three_nodes(folder: Path, content: bytes) -> Iterator[tuple[Devnet, list[Process], str]]:
    with Devnet(services=["storage", "indexer"]) as net:
        file = fill(net, content)
        nodes: list[Process] = []
        try:
            for number in range(2):
                nodes.append(start_copy(net.url, folder / str(number), net.url))
            for node in nodes:
                until(lambda node=node: node.request("zgs_checkFileFinalized", 0) is True)  # type: ignore[misc]
            yield net, nodes, file.root
        finally:
            for node in nodes:
                node.kill()


# Tests.


def test_a_killed_node_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    node_kills(tmp_path, kills=12, seed=1)


def test_a_killed_client_goes_on_and_pays_once(tmp_path: Path) -> None:
    client_kills(tmp_path / "files", kills=10, seed=2)


def test_a_node_killed_while_it_copies_goes_on(tmp_path: Path) -> None:
    sync_kills(tmp_path, kills=5, seed=3)


@pytest.mark.parametrize("dies_at", [0.02, 0.3, 0.8])
def test_a_download_from_three_nodes_survives_the_death_of_one(dies_at: float, tmp_path: Path) -> None:
    content = random.Random(4).randbytes(24 << 20)
    with three_nodes(tmp_path, content) as (net, nodes, root):
        victim = nodes[0]
        killed: list[int] = []

        def watch(stage: str, done: int, total: int) -> None:
            if not killed and stage == "download" and dies_at * total <= done < total:
                killed.append(done)
                victim.kill()

        urls = [victim.url, nodes[1].url, net.url]
        Storage(net.url, client=net.client, nodes=urls, timeout=20).get(
            root, tmp_path / "out", progress=watch
        )
        assert killed, "the download was over before the node died"
        assert (tmp_path / "out").read_bytes() == content


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [11, 12])
def test_a_hundred_kills_of_the_node_lose_nothing(seed: int, tmp_path: Path) -> None:
    node_kills(tmp_path, kills=100, seed=seed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_kills_of_the_client_pay_once(tmp_path: Path) -> None:
    client_kills(tmp_path / "files", kills=100, seed=13)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_kills_of_a_copying_node_lose_nothing(tmp_path: Path) -> None:
    sync_kills(tmp_path, kills=100, seed=14)
