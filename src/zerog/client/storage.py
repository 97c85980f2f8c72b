"""`Storage`: files on the storage network, checked on the way in and out.

::

    storage = Client().storage                        # or Storage("http://127.0.0.1:8545", account=alice)
    stored = storage.put("model.gguf")                # pays once, uploads, returns a StoredFile
    storage.get(stored.root, "copy.gguf")             # every segment proven, parallel, resumes
    storage.read(storage.put(b"hello").root)          # b"hello"

Nodes come from the indexer behind the address, or from ``nodes=``; the flow contract from the nodes, whose chain
id must be that of the chain.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zerog.chain.keys import keccak256
from zerog.errors import DataUnavailable, RpcError, StorageError, TransportError, UnknownFile
from zerog.storage import layout
from zerog.storage.selection import ShardedNode, covers, select
from zerog.storage.transfer import download, payment, source, upload
from zerog.storage.transfer.nodes import NodeRefused, StorageNode
from zerog.storage.values import ShardConfig

if TYPE_CHECKING:
    from zerog.client.accounts import Account
    from zerog.client.client import Client
    from zerog.storage.directory import Entry
    from zerog.storage.transfer.encryption import Cipher, Encryption

FRAGMENT = 4 << 30
"""Bytes above which a file is stored as several fragments."""
Content = Path | str | bytes | bytearray | memoryview | BinaryIO
Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)`` with stage "hash", "upload", "download" or "decrypt", in bytes."""
Root = str | bytes


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file on the storage network.

    Attributes
    ----------
    roots : roots of its fragments, in order; most files have one.
    size : stored bytes (with an encryption header).
    seqs : numbers of its submissions.
    transactions : hashes of the submissions' transactions; empty when the file was there before.
    cost : wei paid now.
    """

    name: str
    roots: tuple[str, ...]
    size: int
    seqs: tuple[int, ...]
    transactions: tuple[str, ...]
    cost: int

    @property
    def root(self) -> str:
        """The root of a file of one fragment; raises `StorageError` for a longer one."""
        if len(self.roots) != 1:
            raise StorageError(f"{self.name} is stored in {len(self.roots)} fragments; use `roots`")
        return self.roots[0]

    @property
    def transaction(self) -> str | None:
        """The transaction that paid for it now."""
        return self.transactions[0] if self.transactions else None


@dataclass(frozen=True, slots=True)
class FileReport:
    """What the nodes say about a file."""

    root: str
    size: int
    seq: int
    finalized: bool
    nodes: tuple[str, ...]


class _ClientPayer:
    """Pays through a `Client`."""

    def __init__(self, client: Client, account: Account | str) -> None:
        from zerog.client.client import address_of

        self._client, self._account = client, account
        self.address = address_of(account)

    def prepare(self, to: str, data: bytes, value: int) -> payment.Prepared:
        from zerog.client.accounts import Account

        client = self._client
        # A submission in between changes the shape of the flow's tree, hence the margin.
        gas = client.estimate_gas(to, data, account=self._account, value=value) * 5 // 4
        nonce = client.nonce(self.address, "pending")
        fields: dict[str, Any] = client._call_object(to, data, self._account, value, gas)
        fields["nonce"] = hex(nonce)
        raw = (
            self._account.sign_transaction(client._completed(fields))
            if isinstance(self._account, Account)
            else b""
        )
        return payment.Prepared(
            self.address,
            nonce,
            to,
            fields["input"],
            hex(value),
            "0x" + raw.hex() if raw else "",
            "0x" + keccak256(raw).hex() if raw else "",
            hex(gas),
        )

    def broadcast(self, prepared: payment.Prepared) -> str:
        if prepared.raw:
            return self._client.send_raw(bytes.fromhex(prepared.raw[2:]))
        request = {
            "from": prepared.sender,
            "to": prepared.to,
            "input": prepared.data,
            "value": prepared.value,
            "nonce": hex(prepared.nonce),
            # The node's own estimate has no margin: another submission in between would make it fail.
            **({"gas": prepared.gas} if prepared.gas else {}),
        }
        return str(self._client.request("eth_sendTransaction", request))


@dataclass(slots=True)
class _Piece:
    """A fragment on its way: its source, tree, and place on chain."""

    source: source.Source
    tree: Any
    item: payment.Item
    seq: int = -1
    transaction: str = ""
    cost: int = 0
    final: bool = False


class Storage:
    """Files on a storage network; see the module's docstring."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8545",
        *,
        client: Client | None = None,
        nodes: Sequence[str] = (),
        account: Account | str | None = None,
        replicas: int = 1,
        method: str = "min",
        timeout: float = 60.0,
        state: Path | None = None,
    ) -> None:
        """``url`` of a storage node or indexer; ``client`` for the chain, by default at ``url``, too.

        ``nodes`` instead of those that the indexer names. A file goes to ``replicas`` nodes per shard.
        ``timeout`` in seconds holds for every single wait. ``state`` is where payments are remembered.
        """
        from zerog.client.client import Client

        self.url = url
        self.client = client or Client(url)
        self._account = account
        self._urls = tuple(nodes)
        self._replicas, self._method, self._timeout = replicas, method, timeout
        self._state = state
        self._nodes: dict[str, StorageNode] = {}

    # Nodes.

    def _node(self, url: str) -> StorageNode:
        url = url.rstrip("/")
        return self._nodes.setdefault(url, StorageNode(url, min(30.0, self._timeout)))

    def nodes(self) -> list[ShardedNode]:
        """The nodes that an upload may go to, with their shards."""
        urls = list(self._urls)
        if not urls:
            with suppress(NodeRefused, StorageError):
                answer = self._node(self.url).request("indexer_getShardedNodes")
                urls = [ShardedNode.from_json(raw).url for raw in (answer or {}).get("trusted") or ()]
        found: list[ShardedNode] = []
        failures: list[str] = []

        def ask(url: str) -> ShardedNode | None:
            try:
                return ShardedNode(url, self._node(url).shard(fresh=True))
            except (NodeRefused, TransportError, StorageError) as error:
                failures.append(str(error))
                return None

        found = [node for node in _in_parallel(ask, urls or [self.url]) if node is not None]
        if not found:
            raise StorageError(f"no storage node answers: {failures[0] if failures else self.url}")
        return found

    @cached_property
    def flow(self) -> str:
        """Address of the flow contract, from the first node; its chain must be the client's.

        Raises
        ------
        StorageError : the nodes follow another chain.
        """
        status = self._node(self.nodes()[0].url).status()
        if status.chain_id != self.client.chain_id:
            raise StorageError(
                f"the storage node follows chain {status.chain_id}, the RPC is of chain {self.client.chain_id}"
            )
        return status.flow

    @cached_property
    def _scope(self) -> str:
        """The chain, told apart from another one with the same id."""
        return f"{self.client.chain_id}/{self.client.block(0).hash}"

    @cached_property
    def _directory(self) -> Path:
        from zerog.node.datadir import home

        return self._state or home() / "uploads"

    def _cashier(self) -> payment.Cashier:
        account = self._account or self.client.account
        if account is None:
            raise StorageError("no account to pay from", hint="pass account=, or Client(account=…)")
        payer, journal = _ClientPayer(self.client, account), payment.Journal(self._directory)
        return payment.Cashier(self.client.request, payer, self.flow, self._scope, journal, self._timeout)

    # Putting.

    def put(
        self,
        content: Content,
        *,
        tags: bytes = b"",
        encryption: Encryption | None = None,
        again: bool = False,
        fragment: int = FRAGMENT,
        progress: Progress | None = None,
    ) -> StoredFile:
        """Stores a file (a path), bytes, or an open binary file.

        Nothing is paid or sent for what is final already. ``again`` makes a new submission all the same,
        as a repeated KV write needs. Raises `StorageError`; the same call goes on where it stopped.
        """
        options: dict[str, Any] = {"again": again, "fragment": fragment, "progress": progress}
        return self.put_many([content], tags=tags, encryption=encryption, **options)[0]

    def put_many(
        self,
        contents: Iterable[Content],
        *,
        tags: bytes = b"",
        encryption: Encryption | None = None,
        again: bool = False,
        fragment: int = FRAGMENT,
        progress: Progress | None = None,
    ) -> list[StoredFile]:
        """Stores several files; all that need it are paid for in one transaction."""
        opened: list[source.Source] = []
        try:
            for content in contents:
                plain = source.source_of(content)
                opened.append(plain)
                if encryption is not None:
                    report = _stage(progress, "hash", plain.size)
                    opened[-1] = source.EncryptedSource(plain, encryption, report)
            files = [self._pieces(one, tags, fragment, progress) for one in opened]
            pieces = [piece for file in files for piece in file]
            self._place(pieces, again)
            total = sum(piece.source.size for piece in pieces)
            counter = source.Counter(_stage(progress, "upload", total))
            for piece in pieces:
                self._send(piece, counter)
        finally:
            for one in opened:
                one.close()
        return [_stored(one.name, file) for one, file in zip(opened, files, strict=True)]

    def _pieces(
        self, whole: source.Source, tags: bytes, fragment: int, progress: Progress | None
    ) -> list[_Piece]:
        if fragment < layout.SEGMENT:
            raise StorageError(f"a fragment has at least {layout.SEGMENT} bytes, not {fragment}")
        parts: list[source.Source] = [whole]
        if whole.size > fragment:
            parts = [
                source.PartSource(whole, at, min(fragment, whole.size - at))
                for at in range(0, whole.size, fragment)
            ]
        pieces: list[_Piece] = []
        base = 0
        for part in parts:
            report = _stage(progress, "hash", whole.size, base)
            tree = part.tree(report)
            pieces.append(_Piece(part, tree, payment.Item(tree.root, part.size, tuple(tree.nodes), tags)))
            base += part.size
        return pieces

    def _place(self, pieces: Sequence[_Piece], again: bool) -> None:
        """Gives every piece a submission: one that the nodes know, else one of its own."""
        nodes = [self._node(node.url) for node in self.nodes()]
        unpaid: list[_Piece] = []
        for piece in pieces:
            known = None if again or piece.item.tags else _known(nodes, piece.item.root)
            if known is not None and known.size == piece.item.size and not known.pruned:
                piece.seq = known.seq
            else:
                unpaid.append(piece)
        if not unpaid:
            return
        places = self._cashier().submit([piece.item for piece in unpaid], again=again)
        for piece, place in zip(unpaid, places, strict=True):
            piece.seq, piece.transaction, piece.cost = place.seq, place.transaction, place.cost

    def _send(self, piece: _Piece, counter: source.Counter) -> None:
        """Uploads a piece; a node that fails is replaced by another one."""
        nodes, dropped, failure = self.nodes(), list[str](), ""
        done: set[str] = set()
        while True:
            try:
                chosen = select(
                    [node for node in nodes if node.url not in dropped], self._replicas, self._method
                )
            except StorageError as error:
                reason = f": {failure}" if dropped else ""
                raise StorageError(f"{error.message}{reason}") from None
            try:
                for node in chosen:
                    if node.url in done:
                        continue
                    receiver = upload.Receiver(self._node(node.url), node.shard)
                    upload.Upload(
                        piece.source, piece.tree, [receiver], counter=counter, timeout=self._timeout
                    ).run(piece.seq)
                    done.add(node.url)
            except upload.NodeFailed as error:
                failure = error.message
                self._node(error.url).faults += 1
                dropped += [node.url for node in nodes if node.url.rstrip("/") == error.url]
                continue
            break
        if piece.transaction:
            self._cashier().settle(piece.item)

    # Getting.

    def get(
        self,
        root: Root | Sequence[Root],
        path: Path | str,
        *,
        key: bytes | None = None,
        private_key: bytes | None = None,
        progress: Progress | None = None,
        cancelled: threading.Event | None = None,
    ) -> Path:
        """Downloads a file (or its fragments, in order) to ``path``; every segment is proven first.

        With ``key`` (32 bytes) or ``private_key`` it is decrypted. Interrupted, it leaves a partial file
        that the next call continues. Raises `UnknownFile`, `DataUnavailable`, `StorageError`.
        """
        path = Path(path)
        if path.is_dir():
            raise StorageError(f"{path} is a directory", hint="name a file")
        parts = self._parts(root)
        total = sum(size for _, size, _ in parts)
        finish = None
        if key is not None or private_key is not None:
            finish = _decryption(key, private_key, progress)
        download.download_file(
            parts, path, progress=_stage(progress, "download", total), cancelled=cancelled, finish=finish
        )
        return path

    def read(
        self,
        root: Root | Sequence[Root],
        *,
        key: bytes | None = None,
        private_key: bytes | None = None,
        limit: int = 1 << 30,
    ) -> bytes:
        """The bytes of a file; raises `StorageError` when it is larger than ``limit`` bytes."""
        parts = self._parts(root)
        total = sum(size for _, size, _ in parts)
        if total > limit:
            raise StorageError(f"the file has {total} bytes, more than {limit}", hint="use get")
        data, _ = download.fetch(parts)
        if key is None and private_key is None:
            return bytes(data)
        return _decrypted(data, key, private_key)

    def verify(self, root: Root | Sequence[Root], *, progress: Progress | None = None) -> int:
        """Fetches a file and checks every proof without keeping it; its size in bytes."""
        parts = self._parts(root)
        total = sum(size for _, size, _ in parts)
        counter = source.Counter(_stage(progress, "verify", total))
        for one, size, holders in parts:
            download.Download(one, size, holders, download.NoTarget(), counter=counter).run()
        return total

    def info(self, root: Root) -> FileReport:
        """What the nodes say about a file; raises `UnknownFile`."""
        raw = _root(root)
        holders = self._holders(raw)
        first = holders[0].file
        covered = covers([holder.shard for holder in holders if holder.file.finalized])
        where = tuple(holder.node.url for holder in holders if holder.file.finalized)
        return FileReport("0x" + raw.hex(), first.size, first.seq, covered, where)

    def locations(self, root: Root) -> list[ShardedNode]:
        """The nodes that have a file; raises `UnknownFile`."""
        holders = self._holders(_root(root))
        return [ShardedNode(h.node.url, h.shard) for h in holders if h.file.finalized]

    def peek(self, root: Root) -> bytes:
        """The proven first segment of a file (at most 262,144 bytes)."""
        raw = _root(root)
        ((_, size, holders),) = self._parts(raw)
        one = download.MemoryTarget(min(size, layout.SEGMENT))
        load = download.Download(raw, size, holders, one)
        load.run_first()
        return bytes(one.data)

    def _parts(self, root: Root | Sequence[Root]) -> list[tuple[bytes, int, list[download.Holder]]]:
        roots = [_root(root)] if isinstance(root, str | bytes) else [_root(one) for one in root]
        if not roots:
            raise StorageError("no root was given")
        parts: list[tuple[bytes, int, list[download.Holder]]] = []
        for one in roots:
            holders = self._trusted(one, self._holders(one))
            ready = [holder for holder in holders if holder.file.finalized]
            if not covers([holder.shard for holder in ready]):
                # Some segments may be there already.
                ready = holders
            parts.append((one, ready[0].file.size, ready))
        return parts

    def _holders(self, root: bytes) -> list[download.Holder]:
        """Nodes that know a file; raises `UnknownFile`, or `StorageError` when none answers."""
        urls = dict.fromkeys(url.rstrip("/") for url in self._urls)
        if not urls:
            with suppress(NodeRefused, StorageError):
                answer = self._node(self.url).request("indexer_getFileLocations", "0x" + root.hex())
                urls |= dict.fromkeys(ShardedNode.from_json(raw).url.rstrip("/") for raw in answer or ())
            with suppress(NodeRefused, StorageError):
                answer = self._node(self.url).request("indexer_getShardedNodes")
                trusted = (answer or {}).get("trusted") or ()
                urls |= dict.fromkeys(ShardedNode.from_json(raw).url.rstrip("/") for raw in trusted)
        failures: list[str] = []

        def ask(url: str) -> download.Holder | None:
            node = self._node(url)
            try:
                file = node.file(root)
                if file is None or file.pruned:
                    return None
                node.status()
                return download.Holder(node, file, node.shard(fresh=True))
            except (NodeRefused, TransportError, StorageError) as error:
                failures.append(str(error))
                return None

        asked = list(urls) or [self.url]
        holders = [holder for holder in _in_parallel(ask, asked) if holder is not None]
        if not holders:
            if len(failures) == len(asked):
                raise StorageError(f"no storage node answers: {failures[0]}")
            raise UnknownFile(f"no node has a file with root 0x{root.hex()}")
        return holders

    def _trusted(self, root: bytes, holders: list[download.Holder]) -> list[download.Holder]:
        """Holders whose size is that on chain: the root does not tell how many zeros end a file."""
        sizes: set[int] = set()
        for holder in holders:
            if _fold(holder.file.nodes) != root:
                continue
            identity = "0x" + keccak256(b"".join(holder.file.nodes)).hex()
            with suppress(RpcError, TransportError, StorageError):
                logs = self.client.request(
                    "eth_getLogs",
                    {
                        "address": self._node(holder.node.url).status().flow,
                        "fromBlock": "0x0",
                        "toBlock": "latest",
                        "topics": [payment.SUBMIT_TOPIC, None, identity],
                    },
                )
                sizes = {payment.submitted_of(log)[2].size for log in logs}
            break
        claimed = {holder.file.size for holder in holders}
        if sizes:
            honest = [holder for holder in holders if holder.file.size in sizes]
            for holder in holders:
                holder.node.faults += holder.file.size not in sizes
            if not honest:
                raise DataUnavailable(
                    f"all nodes name a wrong size for 0x{root.hex()}: the chain says {sizes}"
                )
            holders, claimed = honest, {holder.file.size for holder in honest}
        if len(claimed) > 1:
            first = min(claimed) if not sizes else holders[0].file.size
            if not sizes:
                raise DataUnavailable(
                    f"the nodes disagree about the size of 0x{root.hex()} ({sorted(claimed)}), "
                    "and the chain cannot be asked"
                )
            holders = [holder for holder in holders if holder.file.size == first]
        return holders

    # Directories.

    def put_directory(
        self, path: Path | str, *, encryption: Encryption | None = None, progress: Progress | None = None
    ) -> StoredFile:
        """Stores a directory: its files, then the manifest, whose root stands for the whole."""
        from zerog.storage import directory

        top, files = _scan(Path(path))
        stored = iter(self.put_many(files, encryption=encryption, progress=progress) if files else ())
        manifest = directory.encode(_with_roots(top, stored))
        kept = self.put(manifest, encryption=encryption)
        return StoredFile(Path(path).name, kept.roots, kept.size, kept.seqs, kept.transactions, kept.cost)

    def read_directory(
        self, root: Root, *, key: bytes | None = None, private_key: bytes | None = None
    ) -> Entry:
        """The manifest of a stored directory."""
        from zerog.storage import directory

        blob = self.read(root, key=key, private_key=private_key, limit=directory.MAX_MANIFEST + 64)
        return directory.decode(blob)

    def get_directory(
        self,
        root: Root,
        path: Path | str,
        *,
        key: bytes | None = None,
        private_key: bytes | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Downloads a directory into ``path``, which must not hold other files of the same names.

        Files that are there with the right size and root are not fetched again.
        """
        from zerog.storage.directory import Kind

        top, target = self.read_directory(root, key=key, private_key=private_key), Path(path)
        target.mkdir(parents=True, exist_ok=True)
        links: list[tuple[Path, str]] = []
        for relative, entry in top.walk():
            place = target / relative
            if any(parent.is_symlink() for parent in (place, *place.parents) if target in parent.parents):
                raise StorageError(f"{place} is, or is behind, a symbolic link")
            if entry.kind is Kind.DIRECTORY:
                place.mkdir(exist_ok=True)
            elif entry.kind is Kind.LINK:
                links.append((place, entry.link))
            elif not entry.size:
                place.write_bytes(b"")
            else:
                self.get(list(entry.roots), place, key=key, private_key=private_key, progress=progress)
        for place, link in links:
            # Last, so that no file is written through one.
            place.symlink_to(link)
        return target

    def encryption_for(self, *, key: bytes | None = None, recipient: bytes | None = None) -> Encryption:
        """How to encrypt with a key or for a public key; the sender's secret is kept with the payments."""
        from zerog.storage.transfer.encryption import Encryption

        if recipient is None:
            return Encryption(key=key)
        return Encryption(recipient=recipient, secret=_sender_secret(self._directory))

    def close(self) -> None:
        """Gives connections back."""
        for node in self._nodes.values():
            node.close()

    def __repr__(self) -> str:
        return f"<Storage {', '.join(self._urls) or self.url}>"


def _in_parallel(ask: Callable[[str], Any], urls: Sequence[str]) -> list[Any]:
    if len(urls) == 1:
        return [ask(urls[0])]
    with ThreadPoolExecutor(min(16, len(urls)), thread_name_prefix="storage-ask") as pool:
        return list(pool.map(ask, urls))


def _known(nodes: Sequence[StorageNode], root: bytes) -> Any:
    """What a node knows about a root; nodes that do not answer are passed over."""
    for node in nodes:
        with suppress(NodeRefused, TransportError, StorageError):
            file = node.file(root)
            if file is not None:
                return file
    return None


def _stage(progress: Progress | None, stage: str, total: int, base: int = 0) -> source.Progress | None:
    if progress is None:
        return None
    return lambda done: progress(stage, base + done, total)


def _root(root: Root) -> bytes:
    try:
        raw = bytes.fromhex(root.removeprefix("0x")) if isinstance(root, str) else bytes(root)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise StorageError(f"a root has 32 bytes (64 hexadecimal digits), not {root!r:.80}")
    return raw


def _fold(nodes: Sequence[bytes]) -> bytes:
    folded = nodes[-1] if nodes else b""
    for node in reversed(nodes[:-1]):
        folded = keccak256(node + folded)
    return folded


def _stored(name: str, pieces: Sequence[_Piece]) -> StoredFile:
    hashes = dict.fromkeys(piece.transaction for piece in pieces if piece.transaction)
    return StoredFile(
        name,
        tuple("0x" + piece.item.root.hex() for piece in pieces),
        sum(piece.source.size for piece in pieces),
        tuple(piece.seq for piece in pieces),
        tuple(hashes),
        sum(piece.cost for piece in pieces),
    )


# Directories.


def _scan(path: Path) -> tuple[Entry, list[Path]]:
    """The entries of a directory, and its non-empty files in the order in which they appear."""
    from zerog.storage.directory import MAX_DEPTH, Entry, Kind

    files: list[Path] = []

    def scan(folder: Path, depth: int) -> tuple[Entry, ...]:
        if depth > MAX_DEPTH:
            raise StorageError(f"{folder} is deeper than {MAX_DEPTH} directories")
        entries: list[Entry] = []
        for child in sorted(folder.iterdir(), key=lambda child: os.fsencode(child.name)):
            if child.is_symlink():
                entries.append(Entry(child.name, Kind.LINK, link=str(child.readlink())))
            elif child.is_dir():
                entries.append(Entry(child.name, Kind.DIRECTORY, entries=scan(child, depth + 1)))
            elif child.is_file():
                size = child.stat().st_size
                entries.append(Entry(child.name, Kind.FILE, size=size))
                files.extend([child] if size else [])
            else:
                raise StorageError(f"{child} is no file, directory or link")
        return tuple(entries)

    try:
        return Entry("/", Kind.DIRECTORY, entries=scan(path, 0)), files
    except OSError as error:
        raise StorageError(f"cannot read {error.filename or path}: {error.strerror}") from None


def _with_roots(entry: Entry, stored: Any) -> Entry:
    from zerog.storage.directory import Entry, Kind

    if entry.kind is Kind.FILE and entry.size:
        file = next(stored)
        roots = tuple(bytes.fromhex(root[2:]) for root in file.roots)
        return Entry(entry.name, Kind.FILE, roots=roots, size=entry.size)
    children = tuple(_with_roots(child, stored) for child in entry.entries)
    return Entry(entry.name, entry.kind, link=entry.link, entries=children)


# Decryption.


def _checked(cipher: Cipher, tree: Any) -> None:
    if cipher.checkable and not cipher.verify(tree.root):
        raise StorageError("the key is wrong: the decrypted file fails its check")


def _decrypted(data: bytearray, key: bytes | None, private_key: bytes | None) -> bytes:
    from zerog._native import FileTree
    from zerog.storage.transfer.encryption import open_header

    cipher = open_header(bytes(data[:50]), key=key, private_key=private_key)
    plain = bytearray(len(data) - len(cipher.header))
    if not plain:
        raise StorageError("the encrypted file has no content after its header")
    cipher.apply(0, memoryview(data)[len(cipher.header) :], plain)
    _checked(cipher, FileTree.from_bytes(plain))
    return bytes(plain)


def _decryption(
    key: bytes | None, private_key: bytes | None, progress: Progress | None
) -> Callable[[Path], Path]:
    """Decrypts a complete part file into another one beside it."""

    def finish(part: Path) -> Path:
        from zerog._native import FileTree
        from zerog.storage.transfer.encryption import open_header

        plain = part.with_name(part.name + ".plain")
        total = part.stat().st_size
        try:
            with part.open("rb", buffering=0) as encrypted, plain.open("wb", buffering=0) as clear:
                cipher = open_header(encrypted.read(50), key=key, private_key=private_key)
                encrypted.seek(len(cipher.header))
                buffer, offset = memoryview(bytearray(source.BLOCK)), 0
                while count := encrypted.readinto(buffer) or 0:
                    cipher.apply(offset, buffer[:count], buffer[:count])
                    clear.write(buffer[:count])
                    offset += count
                    if progress is not None:
                        progress("decrypt", offset, total)
            if not offset:
                raise StorageError("the encrypted file has no content after its header")
            if cipher.checkable:
                _checked(cipher, FileTree.from_file(str(plain)))
        except BaseException:
            plain.unlink(missing_ok=True)
            raise
        return plain

    return finish


def _sender_secret(directory: Path) -> bytes:
    """32 random bytes of this user, made once."""
    path = directory / "sender.secret"
    for _ in range(2):
        with suppress(FileNotFoundError):
            secret = path.read_bytes()
            if len(secret) == 32:
                return secret
            raise StorageError(
                f"{path} is damaged", hint="remove it; uploads for recipients get new roots then"
            )
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    raise StorageError(f"cannot keep the sender's secret in {path}")


__all__ = ["FileReport", "ShardConfig", "Storage", "StoredFile"]
