"""A storage node as its client sees it: the binary routes of zerog, or the JSON-RPC of every 0G node.

Nothing that a node says is believed here; `zerog.storage.transfer.download` checks each segment against the
root. Errors name the node by its address.
"""

from __future__ import annotations

import base64
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from zerog.errors import RpcError, SegmentRefused, StorageError, TransportError
from zerog.storage import frame, layout
from zerog.storage.transfer.wire import Wire
from zerog.storage.values import FileProof, Segment, ShardConfig

TIMEOUT = 30.0
"""Seconds for an exchange without much data."""
ATTEMPTS = 5
"""Tries of a request before its node counts as gone."""
BATCH = 16
"""Segments of one transfer request."""
JSON_BATCH = 4
"""Segments of one JSON-RPC upload: 1.4 MB of base64."""
Result = TypeVar("Result")
_DONE = ("already uploaded and finalized", "already been uploaded or is being uploaded")
_BUSY = ("too many data writing", "exceeds the maximum cached chunks")


class NodeRefused(RpcError):
    """A storage node answered with an error; ``url`` names it."""

    def __init__(self, url: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.url = url

    def __str__(self) -> str:
        detail = f" ({self.data})" if isinstance(self.data, str) and self.data not in self.message else ""
        return f"{self.url} answered: {self.message}{detail}"

    @property
    def words(self) -> str:
        """Message and data, for matching."""
        return f"{self.message}; {self.data}"


@dataclass(frozen=True, slots=True)
class NodeFile:
    """What a node says about a submission (``zgs_getFileInfo``)."""

    seq: int
    root: bytes
    size: int
    start: int
    finalized: bool
    pruned: bool
    uploaded: int
    nodes: tuple[bytes, ...]
    """Roots of its submission nodes, which fold to ``root``."""

    @classmethod
    def of(cls, raw: Any) -> NodeFile:
        """From the JSON of ``FileInfo``; raises `StorageError`."""
        try:
            tx = raw["tx"]
            return cls(
                seq=int(tx["seq"]),
                root=bytes.fromhex(str(tx["dataMerkleRoot"]).removeprefix("0x")),
                size=int(tx["size"]),
                start=int(tx["startEntryIndex"]),
                finalized=raw["finalized"] is True,
                pruned=raw.get("pruned") is True,
                uploaded=int(raw.get("uploadedSegNum") or 0),
                nodes=tuple(
                    bytes.fromhex(str(node[1]).removeprefix("0x")) for node in tx["merkleNodes"][:64]
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise StorageError(f"the answer is no file information: {raw!r:.120}") from None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node says about itself (``zgs_getStatus``)."""

    chain_id: int
    flow: str
    next_seq: int
    sync_height: int
    route: str | None
    batch: int
    last_scrub: float | None = None
    """UNIX seconds when it last finished checking everything that it stores; ``None``: never, or it does not say."""
    damaged: int = 0
    """Segments that it knows to be damaged."""
    damage: tuple[str, ...] = ()
    """Where some of them are, in words."""


class StorageNode:
    """One node. Safe for several threads; each keeps a connection of its own."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.url = url.rstrip("/")
        self.faults = 0
        """Lies, short answers and failures so far; nodes with fewer are asked first."""
        self._wire = Wire(url, timeout)
        self._ids = itertools.count(1)
        self._status: NodeStatus | None = None
        self._shard: ShardConfig | None = None

    def request(self, method: str, *params: Any) -> Any:
        """A JSON-RPC call; raises `NodeRefused` or `TransportError`."""
        call = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        answer = self._wire.exchange("POST", "/", [msgspec.json.encode(call)])
        try:
            reply = msgspec.json.decode(answer.body)
            error = reply.get("error")
            if error is None:
                return reply["result"]
            raise self._refusal(error)
        except (msgspec.DecodeError, RecursionError, AttributeError, KeyError, TypeError, ValueError):
            raise TransportError(f"{self.url} did not answer JSON-RPC (HTTP {answer.status})") from None

    def _refusal(self, error: Any) -> NodeRefused:
        return NodeRefused(
            self.url, int(error.get("code", 0)), str(error.get("message", ""))[:500], error.get("data")
        )

    # What it is.

    def status(self, *, fresh: bool = False) -> NodeStatus:
        """Its identity; asked once unless ``fresh``."""
        if self._status is None or fresh:
            self._status = self._read_status()
        return self._status

    def _read_status(self) -> NodeStatus:
        raw = self.request("zgs_getStatus")
        try:
            identity = raw["networkIdentity"]
            extra = raw.get("zerog") or {}
            route = extra.get("segments")
            scrub = extra.get("scrub") or {}
            return NodeStatus(
                chain_id=int(identity["chainId"]),
                flow=str(identity["flowAddress"]),
                next_seq=int(raw.get("nextTxSeq") or 0),
                sync_height=int(raw.get("logSyncHeight") or 0),
                route=route if isinstance(route, str) and route.startswith("/") else None,
                batch=max(1, min(frame.MAX_SEGMENTS, int(extra.get("maxSegments") or frame.MAX_SEGMENTS))),
                last_scrub=None if scrub.get("lastComplete") is None else float(scrub["lastComplete"]),
                damaged=int(scrub.get("damaged") or 0),
                damage=tuple(_damage(place) for place in scrub.get("damage") or ()),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise StorageError(
                f"{self.url} is no storage node: its zgs_getStatus answers {raw!r:.100}"
            ) from None

    def shard(self, *, fresh: bool = False) -> ShardConfig:
        """Which segments it keeps."""
        if self._shard is None or fresh:
            raw = self.request("zgs_getShardConfig")
            try:
                self._shard = ShardConfig(int(raw["shardId"]), int(raw["numShard"]))
            except (KeyError, TypeError, ValueError):
                raise StorageError(f"{self.url} answers an impossible shard: {raw!r:.80}") from None
        return self._shard

    def file(self, root: bytes) -> NodeFile | None:
        """A file by its root; ``None`` when the node knows no submission of it."""
        return self._file(self.request("zgs_getFileInfo", "0x" + root.hex(), True), root)

    def file_by_seq(self, seq: int) -> NodeFile | None:
        """A submission by its number."""
        return self._file(self.request("zgs_getFileInfoByTxSeq", seq), None)

    def _file(self, raw: Any, root: bytes | None) -> NodeFile | None:
        if raw is None:
            return None
        file = NodeFile.of(raw)
        if len(file.root) != 32 or not 1 <= file.size <= layout.MAX_FILE_SIZE or file.start < 0:
            raise StorageError(f"{self.url} describes an impossible file: {raw!r:.120}")
        if root is not None and file.root != root:
            raise StorageError(f"{self.url} answered for 0x{file.root.hex()} when asked for 0x{root.hex()}")
        return file

    @property
    def binary(self) -> bool:
        """Whether it offers the binary routes."""
        return self.status().route is not None

    # Segments.

    def upload(self, seq: int, segments: Sequence[Segment]) -> bool:
        """Hands segments of one file over; whether the node says that the file is final now.

        Segments that the node has already are no error. Raises `NodeRefused`, `TransportError`.
        """
        status = self.status()
        if status.route is None:
            return self._upload_json(seq, segments)
        pieces = frame.encode(segments[0].root, segments[0].file_size, segments)
        answer = self._wire.exchange(
            "POST", f"{status.route}?txSeq={seq}", pieces, content_type=frame.CONTENT_TYPE
        )
        try:
            reply = msgspec.json.decode(answer.body)
            if answer.status == 200:
                return bool(reply["finalized"])
            refusal = self._refusal(reply["error"])
        except (msgspec.DecodeError, RecursionError, AttributeError, KeyError, TypeError, ValueError):
            raise TransportError(f"{self.url} answered an upload with HTTP {answer.status}") from None
        return self._accepted(refusal)

    def _upload_json(self, seq: int, segments: Sequence[Segment]) -> bool:
        final = False
        for at in range(0, len(segments), JSON_BATCH):
            body = [_segment_json(segment) for segment in segments[at : at + JSON_BATCH]]
            try:
                self.request("zgs_uploadSegmentsByTxSeq", body, seq)
            except NodeRefused as refusal:
                final = self._accepted(refusal)
        return final

    def _accepted(self, refusal: NodeRefused) -> bool:
        """Whether a refusal means that the whole file is there; raises it unless the data is there."""
        if _DONE[0] in refusal.words:
            return True
        if _DONE[1] in refusal.words:
            return False
        raise refusal

    def download(
        self, seq: int, root: bytes, size: int, start: int, end: int, buffer: memoryview
    ) -> Iterator[Segment]:
        """Segments from ``start`` to before ``end`` that the node serves, unchecked, their data in ``buffer``.

        Raises `SegmentRefused` for a malformed answer, `NodeRefused`, `TransportError`.
        """
        route = self.status().route
        if route is None:
            yield from self._download_json(seq, root, size, start, end)
            return
        answer = self._wire.exchange(
            "GET",
            f"{route}?txSeq={seq}&start={start}&end={end}",
            into=buffer,
            limit=len(buffer),
            expect=(end - start) * layout.SEGMENT,
        )
        if answer.status == 200:
            yield from frame.decode(answer.body)
            return
        try:
            raise self._refusal(msgspec.json.decode(answer.body)["error"])
        except (msgspec.DecodeError, RecursionError, AttributeError, KeyError, TypeError, ValueError):
            raise TransportError(f"{self.url} answered a download with HTTP {answer.status}") from None

    def _download_json(self, seq: int, root: bytes, size: int, start: int, end: int) -> Iterator[Segment]:
        for index in range(start, end):
            raw = self.request("zgs_downloadSegmentWithProofByTxSeq", seq, index)
            if raw is not None:
                yield _segment_of(raw)

    def close(self) -> None:
        """Gives the connections back."""
        self._wire.close()

    def __repr__(self) -> str:
        return f"<StorageNode {self.url}>"


def _damage(place: Any) -> str:
    """A damaged place as a node reports it, in words; raises what `StorageNode._read_status` expects."""
    return (
        f"submission {int(place['txSeq'])} ({str(place['root'])[:66]!s}) segment {int(place['segment'])}, "
        f"flow sector {int(place['sector'])}: {int(place['length'])} bytes at byte {int(place['offset'])} "
        f"of {str(place['file'])[:64]}"
    )


def _segment_json(segment: Segment) -> dict[str, Any]:
    return {
        "root": "0x" + segment.root.hex(),
        "data": base64.b64encode(segment.data).decode(),
        "index": segment.index,
        "proof": {
            "lemma": ["0x" + item.hex() for item in segment.proof.lemma],
            "path": list(segment.proof.path),
        },
        "fileSize": segment.file_size,
    }


def _segment_of(raw: Any) -> Segment:
    """A segment from JSON; sizes are bounded before anything is decoded."""
    try:
        lemma, path, text = raw["proof"]["lemma"], raw["proof"]["path"], raw["data"]
        if len(lemma) > 66 or len(path) > 64 or len(text) > 349_528:
            raise SegmentRefused("proof", "invalid proof")
        proof = FileProof(
            tuple(bytes.fromhex(item.removeprefix("0x")) for item in lemma),
            tuple(item is True for item in path),
        )
        root = bytes.fromhex(raw["root"].removeprefix("0x"))
        return Segment(
            root, int(raw["index"]), base64.b64decode(text, validate=True), proof, int(raw["fileSize"])
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SegmentRefused("data", "the answer is no segment") from None


def transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, NodeRefused):
        return any(words in error.words for words in _BUSY)
    return isinstance(error, TransportError)


def patiently(
    action: Callable[[], Result],
    *,
    attempts: int = ATTEMPTS,
    deadline: float | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> Result:
    """Repeats a request that failed for a passing reason: 0.1 s, 0.2 s, … 5 s, each with jitter.

    ``pause`` may raise to cancel; ``deadline`` is a time of `time.monotonic`.
    """
    for attempt in range(attempts):
        try:
            return action()
        except (TransportError, NodeRefused) as error:
            wait = min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0)
            late = deadline is not None and time.monotonic() + wait > deadline
            if attempt + 1 == attempts or late or not transient(error):
                raise
        pause(wait)
    raise AssertionError("unreachable")
