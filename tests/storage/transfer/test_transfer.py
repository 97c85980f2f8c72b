"""Uploads and downloads against nodes that are honest, slow, short or lying."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from zerog.client.client import Client
from zerog.client.storage import Storage
from zerog.errors import DataUnavailable, StorageError, UnknownFile
from zerog.storage import layout
from zerog.storage.transfer import download, payment
from zerog.storage.transfer.encryption import public_key

from .fake_node import PRICE, SENDER, FakeChain, FakeNode

KEY = bytes([0x42]) * 32
OTHER = bytes([0x43]) * 32


def content(size: int, seed: int = 0) -> bytes:
    """Reproducible bytes."""
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)


Start = Callable[..., FakeNode]


@pytest.fixture
def chain() -> FakeChain:
    return FakeChain()


@pytest.fixture
def start(chain: FakeChain) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(FakeNode(chain, *args, **kwargs))


def storage_of(tmp_path: Path, *nodes: FakeNode, timeout: float = 20.0, **options: Any) -> Storage:
    return Storage(
        nodes[0].url,
        client=Client(nodes[0].url, account=SENDER),
        nodes=[node.url for node in nodes],
        timeout=timeout,
        state=tmp_path / "state",
        **options,
    )


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json-rpc"])
@pytest.mark.parametrize("size", [1, 255, 256, 257, 4096, 262143, 262144, 262145, 1048579, 5_000_000])
def test_a_file_comes_back_as_it_was(start: Start, tmp_path: Path, size: int, binary: bool) -> None:
    storage = storage_of(tmp_path, start(binary=binary))
    stored = storage.put(content(size))
    storage.get(stored.root, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content(size)
    assert storage.read(stored.root) == content(size)


def test_an_empty_file_is_refused(start: Start, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="0 bytes"):
        storage_of(tmp_path, start()).put(b"")


def test_the_fee_is_the_price_of_the_padded_sectors(start: Start, chain: FakeChain, tmp_path: Path) -> None:
    stored = storage_of(tmp_path, start()).put(content(600_000))
    assert stored.cost == chain.paid == 2560 * PRICE


def test_a_final_file_is_neither_paid_nor_sent_again(start: Start, chain: FakeChain, tmp_path: Path) -> None:
    node = start()
    storage = storage_of(tmp_path, node)
    storage.put(content(600_000))
    again = storage.put(content(600_000))
    assert (again.cost, again.transactions, node.uploads, chain.nonce) == (0, (), 3, 1)


def test_several_files_are_paid_in_one_transaction(start: Start, chain: FakeChain, tmp_path: Path) -> None:
    storage = storage_of(tmp_path, start())
    files = [content(1000 + number, number) for number in range(5)]
    stored = storage.put_many([*files, files[0]])
    assert (chain.nonce, len(chain.submissions)) == (1, 5)
    assert [storage.read(one.root) for one in stored[:5]] == files


def test_shards_get_their_segments_and_give_them_back(start: Start, tmp_path: Path) -> None:
    nodes = [start(f"{number}/4") for number in range(4)]
    storage = storage_of(tmp_path, *nodes)
    data = content(40 * layout.SEGMENT + 5)
    stored = storage.put(data)
    assert [node.uploads for node in nodes].count(10) == 3
    assert sum(node.uploads for node in nodes) == 41
    storage.get(stored.root, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


LIES = ["byte", "proof", "short", "nothing", "size"]
# Only the binary route streams, so only there can an answer never end or break off.
BOTH_WAYS = [(True, lie) for lie in [*LIES, "endless", "die"]] + [(False, lie) for lie in LIES]


@pytest.mark.parametrize(
    ("binary", "lie"), BOTH_WAYS, ids=[f"{'binary' if b else 'json-rpc'}-{lie}" for b, lie in BOTH_WAYS]
)
def test_a_lying_node_is_passed_over(
    start: Start, chain: FakeChain, tmp_path: Path, binary: bool, lie: str
) -> None:
    data = content(20 * layout.SEGMENT + 77)
    honest = start(binary=binary)
    stored = storage_of(tmp_path, honest).put(data)
    liar = start(binary=binary, lie=lie)
    liar.put(data)
    storage = storage_of(tmp_path, liar, honest)
    storage.get(stored.root, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    if lie != "nothing":
        assert storage._node(liar.url).faults > 0 or "GET" not in liar.requests


@pytest.mark.parametrize("lie", ["byte", "proof", "nothing", "size"])
def test_the_only_node_lying_is_named_and_nothing_is_written(start: Start, tmp_path: Path, lie: str) -> None:
    node = start()
    stored = storage_of(tmp_path, node).put(content(300_000))
    node.lie = lie
    with pytest.raises(DataUnavailable) as refused:
        storage_of(tmp_path, node).get(stored.root, tmp_path / "copy")
    assert node.url in str(refused.value) or lie == "size"
    assert not (tmp_path / "copy").exists()


def test_a_silent_node_does_not_hold_up_a_download(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL", 0.2)
    data = content(8 * layout.SEGMENT)
    honest = start()
    stored = storage_of(tmp_path, honest).put(data)
    silent = start(lie="slow")
    silent.put(data)
    storage_of(tmp_path, silent, honest).get(stored.root, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_an_upload_goes_to_another_node_when_one_refuses(start: Start, tmp_path: Path) -> None:
    refusing, taking = start(lie="refuse"), start()
    stored = storage_of(tmp_path, refusing, taking).put(content(300_000))
    assert taking.uploads == 2 and stored.cost > 0


def test_an_upload_that_no_node_takes_names_the_node(start: Start, tmp_path: Path) -> None:
    node = start(lie="refuse")
    with pytest.raises(StorageError, match=node.url):
        storage_of(tmp_path, node).put(content(1000))


def test_a_node_of_another_chain_is_refused_before_anything_is_paid(
    start: Start, chain: FakeChain, tmp_path: Path
) -> None:
    node = start()
    node.chain_id = 1
    with pytest.raises(StorageError, match="follows chain 1"):
        storage_of(tmp_path, node).put(b"x")
    assert chain.nonce == 0


def test_an_unknown_root_is_a_clear_error(start: Start, tmp_path: Path) -> None:
    with pytest.raises(UnknownFile, match="no node has a file"):
        storage_of(tmp_path, start()).read(bytes(32))


def test_a_lost_answer_to_the_payment_never_pays_twice(
    start: Start, chain: FakeChain, tmp_path: Path
) -> None:
    chain.drop_answers = 1
    stored = storage_of(tmp_path, start()).put(content(5000), tags=b"tag")
    assert (chain.nonce, stored.seqs, stored.cost) == (1, (0,), chain.paid)


def test_an_upload_stopped_after_the_payment_goes_on_without_paying(
    start: Start, chain: FakeChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(payment.Cashier, "_wait", stopped)
        storage_of(tmp_path, node).put(content(5000), tags=b"tag", again=True)
    assert chain.nonce == 1
    stored = storage_of(tmp_path, node).put(content(5000), tags=b"tag", again=True)
    assert (chain.nonce, stored.seqs) == (1, (0,))


def test_the_chain_remembers_a_payment_when_the_journal_is_lost(
    start: Start, chain: FakeChain, tmp_path: Path
) -> None:
    node = start(lie="refuse")
    with pytest.raises(StorageError):
        storage_of(tmp_path, node).put(content(5000), tags=b"tag")
    node.lie = ""
    storage_of(tmp_path / "elsewhere", node).put(content(5000), tags=b"tag")
    assert chain.nonce == 1


def test_again_makes_a_new_submission(start: Start, chain: FakeChain, tmp_path: Path) -> None:
    storage = storage_of(tmp_path, start())
    seqs = [storage.put(b"value", tags=b"t", again=True).seqs for _ in range(2)]
    assert seqs == [(0,), (1,)]


def test_two_uploads_at_once_pay_once(start: Start, chain: FakeChain, tmp_path: Path) -> None:
    node = start()
    threads = [
        threading.Thread(target=lambda: storage_of(tmp_path, node).put(content(9000), tags=b"t"))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert chain.nonce == 1


def test_an_interrupted_download_continues_and_checks_what_it_has(start: Start, tmp_path: Path) -> None:
    node = start()
    data = content(20 * layout.SEGMENT)
    root = storage_of(tmp_path, node).put(data).root
    kept = node.segments[bytes.fromhex(root[2:])]
    missing = kept.pop(19)
    path = tmp_path / "copy"
    with pytest.raises(DataUnavailable):
        storage_of(tmp_path, node).get(root, path)
    part, roots = download.part_files(path, bytes.fromhex(root[2:]))
    with part.open("r+b") as file:
        file.seek(3 * layout.SEGMENT + 9)
        file.write(bytes([data[3 * layout.SEGMENT + 9] ^ 1]))
    kept[19] = missing
    served: list[int] = []
    node._serve = lambda one, start, end: [  # type: ignore[method-assign]
        kept[i] for i in range(start, end) if served.append(i) is None
    ]
    storage_of(tmp_path, node).get(root, path)
    assert path.read_bytes() == data
    assert set(served) == {3, 19}
    assert not part.exists() and not roots.exists()


def test_fragments_make_up_the_file(start: Start, chain: FakeChain, tmp_path: Path) -> None:
    storage = storage_of(tmp_path, start())
    data = content(5 * layout.SEGMENT + 1)
    stored = storage.put(data, fragment=2 * layout.SEGMENT)
    assert (len(stored.roots), chain.nonce) == (3, 1)
    storage.get(stored.roots, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


@pytest.mark.parametrize("fragment", [1 << 30, 2 * layout.SEGMENT], ids=["whole", "fragments"])
def test_an_encrypted_file_comes_back_with_its_key_only(start: Start, tmp_path: Path, fragment: int) -> None:
    storage = storage_of(tmp_path, start())
    data = content(3 * layout.SEGMENT + 100)
    path = tmp_path / "plain"
    path.write_bytes(data)
    stored = storage.put(path, encryption=storage.encryption_for(key=KEY), fragment=fragment)
    storage.get(stored.roots, tmp_path / "copy", key=KEY)
    assert (tmp_path / "copy").read_bytes() == data
    assert storage.read(stored.roots) != data
    with pytest.raises(StorageError, match="key is wrong"):
        storage.get(stored.roots, tmp_path / "wrong", key=OTHER)
    assert not (tmp_path / "wrong").exists()


def test_encryption_for_a_recipient_is_paid_once_and_read_with_the_private_key(
    start: Start, chain: FakeChain, tmp_path: Path
) -> None:
    storage = storage_of(tmp_path, start())
    encryption = storage.encryption_for(recipient=public_key(KEY))
    first = storage.put(b"for you", encryption=encryption)
    assert storage.put(b"for you", encryption=encryption).root == first.root
    assert storage.read(first.root, private_key=KEY) == b"for you"
    with pytest.raises(StorageError, match="symmetric key does not open"):
        storage.read(first.root, key=KEY)
    with pytest.raises(StorageError, match="key is wrong"):
        storage.read(first.root, private_key=OTHER)
    assert chain.nonce == 1


def test_a_plain_file_is_not_decrypted_into_nonsense(start: Start, tmp_path: Path) -> None:
    storage = storage_of(tmp_path, start())
    with pytest.raises(StorageError, match="not encrypted in a known way"):
        storage.read(storage.put(b"plain text").root, key=KEY)


def test_a_directory_comes_back_whole(start: Start, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "deep").write_bytes(content(300_000))
    (source / "empty").write_bytes(b"")
    (source / "link").symlink_to("a/b/deep")
    (source / "a" / "text").write_text("hi")
    storage = storage_of(tmp_path, start())
    stored = storage.put_directory(source)
    target = storage.get_directory(stored.root, tmp_path / "copy")
    assert (target / "a" / "b" / "deep").read_bytes() == content(300_000)
    assert (target / "link").read_bytes() == content(300_000)
    assert (target / "empty").read_bytes() == b"" and (target / "a" / "text").read_text() == "hi"


def test_progress_reaches_the_end_and_may_cancel(start: Start, tmp_path: Path) -> None:
    storage = storage_of(tmp_path, start())
    path = tmp_path / "file"
    path.write_bytes(content(10 * layout.SEGMENT))
    seen: dict[str, int] = {}
    storage.put(path, progress=lambda stage, done, total: seen.update({stage: done}))
    assert seen == {"hash": 10 * layout.SEGMENT, "upload": 10 * layout.SEGMENT}

    def cancel(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.get(storage.put(path).root, tmp_path / "copy", progress=cancel)
