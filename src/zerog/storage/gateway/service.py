"""The routes of the gateway; see the package's docstring."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerog.errors import DataUnavailable, RpcError, StorageError, TransportError
from zerog.storage import directory
from zerog.storage.directory import Entry, Kind
from zerog.storage.gateway import requests
from zerog.storage.gateway.answers import (
    FileNotFinalized,
    FileNotFound,
    FilePruned,
    FileTooLarge,
    InternalError,
    InvalidParameter,
    PathNotFound,
    Refusal,
    TypeUnsupported,
    refused,
    success,
)
from zerog.storage.gateway.delivery import deliver
from zerog.storage.gateway.segments import SegmentDoor
from zerog.storage.gateway.source import GatewayStore, Source
from zerog.storage.peers import Peers
from zerog.storage.peers.client import NodeClient
from zerog.storage.values import FileState, Submission

if TYPE_CHECKING:
    from zerog.chain.methods import HttpExchange

log = logging.getLogger("zerog.gateway")

MAX_CIDS = 100
KEPT_MANIFESTS = 8
Local = Callable[[str, list[Any]], Awaitable[Any]]
"""Calls a JSON-RPC method of this node."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits of the gateway.

    Attributes
    ----------
    max_file : bytes of the largest file that is served; ``None``: any.
    max_manifest : bytes of the largest directory manifest that is opened.
    """

    max_file: int | None = None
    max_manifest: int = 16 << 20


class GatewayService:
    """See the package's docstring.

    Parameters
    ----------
    local : calls the ``zgs_*`` methods of this node.
    trusted : further nodes that the operator named; no other address is ever contacted for a request.
    """

    name = "gateway"

    def __init__(
        self,
        store: GatewayStore,
        peers: Peers,
        local: Local,
        trusted: Sequence[NodeClient] = (),
        settings: GatewaySettings | None = None,
    ) -> None:
        self._store = store
        self._source = Source(store, peers)
        self._local = local
        self._trusted = list(trusted)
        self._settings = settings or GatewaySettings()
        self._door = SegmentDoor(store, local, self._trusted)
        self._manifests: OrderedDict[bytes, Entry] = OrderedDict()
        self._opening = asyncio.Semaphore(2)

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """None: the gateway speaks HTTP only."""
        return {}

    def routes(self) -> Mapping[str, Callable[[HttpExchange], Awaitable[None]]]:
        """Path prefixes and who answers them."""
        return {"/file": self.answer, "/files/info": self.answer, "/node/status": self.answer}

    async def run(self) -> None:
        """Nothing runs beside the requests."""
        await asyncio.Event().wait()

    async def answer(self, exchange: HttpExchange) -> None:
        """Answers one request."""
        try:
            data = await self._route(exchange)
        except Refusal as refusal:
            await exchange.respond_json(refusal.status, refused(refusal))
        except (StorageError, TransportError, RpcError) as error:
            log.warning("%s %s: %s", exchange.method, exchange.path[:200], error)
            failure = InternalError(error.message)
            await exchange.respond_json(failure.status, refused(failure))
        else:
            if data is not _ANSWERED:
                await exchange.respond_json(200, success(data))

    async def _route(self, exchange: HttpExchange) -> Any:
        path = exchange.path
        if path == "/file/segment" and exchange.method == "POST":
            return await self._door.put(exchange.body)
        if exchange.method not in ("GET", "HEAD"):
            await exchange.respond(405, headers={"Allow": "GET, HEAD"}, content_type=None)
            return _ANSWERED
        match path.split("/", 4)[1:]:
            case ["file"] | ["file", ""]:
                return await self._file(exchange)
            case ["file", "info", cid]:
                return await self._info(requests.parse_cid(cid))
            case ["files", "info"]:
                return await self._infos(exchange.query)
            case ["node", "status"]:
                return await self._status()
            case ["file", cid, *rest] if cid not in ("info", "segment"):
                return await self._inside(exchange, requests.parse_cid(cid), "/".join(rest))
        await exchange.respond(404, b"not found\n", content_type="text/plain")
        return _ANSWERED

    # Files ------------------------------------------------------------------------------------------------

    async def _file(self, exchange: HttpExchange) -> Any:
        query = dict(requests.parse_query(exchange.query))
        if query.get("txSeq"):
            submission = self._submission(requests.parse_seq(query["txSeq"]))
            if query.get("root") and requests.parse_root(query["root"]) != submission.root:
                raise InvalidParameter("root and txSeq name different files")
        elif query.get("root"):
            submission = self._submission(requests.parse_root(query["root"]))
        else:
            raise InvalidParameter("Either 'root' or 'txSeq' must be provided")
        name = query.get("name") or f"0x{submission.root.hex()}"
        return await self._send(exchange, [submission], submission.size, name)

    async def _inside(self, exchange: HttpExchange, cid: requests.Cid, rest: str) -> Any:
        names = requests.parse_path(rest)
        entry: Entry | None = await self._open(self._submission(cid))
        for name in names:
            entry = entry.locate(name) if entry is not None and entry.kind is Kind.DIRECTORY else None
        if entry is None:
            raise PathNotFound(f"there is no {'/'.join(names)[:200]!r}")
        if entry.kind is Kind.DIRECTORY:
            return [_listed(child) for child in entry.entries]
        if entry.kind is Kind.LINK:
            # Described, never followed.
            return {"name": entry.name, "type": entry.kind.value, "link": entry.link}
        parts = [self._submission(root) for root in entry.roots]
        if sum(part.size for part in parts) != entry.size:
            raise TypeUnsupported("the fragments of the file have not the size that the directory names")
        return await self._send(exchange, parts, entry.size, entry.name)

    async def _send(self, exchange: HttpExchange, parts: list[Submission], size: int, name: str) -> Any:
        most = self._settings.max_file
        if most is not None and size > most:
            raise FileTooLarge(size, most)
        try:
            await deliver(exchange, self._source, parts, size, name)
        except DataUnavailable:
            raise self._missing(parts) from None
        return _ANSWERED

    def _missing(self, parts: Sequence[Submission]) -> Refusal:
        states = [self._store.state(part.seq) for part in parts]
        return FilePruned() if FileState.PRUNED in states else FileNotFinalized()

    def _submission(self, cid: requests.Cid) -> Submission:
        seq: int | None = cid if isinstance(cid, int) else self._store.find(cid, True)
        if seq is None and isinstance(cid, bytes):
            # All submissions of the root are pruned; a peer may still have the data.
            seq = next(iter(self._store.seqs_of(cid)), None)
        submission = None if seq is None else self._store.submission(seq)
        if submission is None:
            raise FileNotFound
        return submission

    async def _open(self, submission: Submission) -> Entry:
        """The directory of a manifest."""
        known = self._manifests.get(submission.root)
        if known is not None:
            self._manifests.move_to_end(submission.root)
            return known
        if submission.size > self._settings.max_manifest:
            raise FileTooLarge(submission.size, self._settings.max_manifest)
        try:
            async with self._opening:
                head = await self._source.segment(submission, 0)
                if not directory.is_manifest(head):
                    raise TypeUnsupported("the file is not a directory manifest")
                entry = await asyncio.to_thread(directory.decode, await self._source.whole(submission))
        except DataUnavailable:
            raise self._missing([submission]) from None
        except StorageError as error:
            raise TypeUnsupported(error.message) from None
        if submission.size <= 1 << 20:
            self._manifests[submission.root] = entry
            if len(self._manifests) > KEPT_MANIFESTS:
                self._manifests.popitem(last=False)
        return entry

    # What the nodes say -------------------------------------------------------------------------------------

    async def _info(self, cid: requests.Cid) -> dict[str, Any]:
        infos = await self._ask(*_question(cid))
        if not infos:
            raise FileNotFound
        first, *others = infos
        for other in others:
            first = first | {
                "finalized": bool(first.get("finalized")) and bool(other.get("finalized")),
                "isCached": bool(first.get("isCached")) and bool(other.get("isCached")),
                "pruned": bool(first.get("pruned")) or bool(other.get("pruned")),
                "uploadedSegNum": min(_number(first, "uploadedSegNum"), _number(other, "uploadedSegNum")),
            }
        return first

    async def _infos(self, query: str) -> list[Any]:
        cids = [value for key, value in requests.parse_query(query, MAX_CIDS + 1) if key == "cid"]
        if not 0 < len(cids) <= MAX_CIDS:
            raise InvalidParameter(f"from 1 to {MAX_CIDS} cids are asked for")

        async def one(text: str) -> Any:
            try:
                return await self._info(requests.parse_cid(text))
            except FileNotFound:
                return None
            except Refusal as refusal:
                return str(refusal.data or refusal)

        return [await one(text) for text in cids]

    async def _status(self) -> dict[str, Any]:
        statuses = await self._ask("zgs_getStatus", [])
        if not statuses:
            raise InternalError("no storage node answers")
        return statuses[0] | {
            "connectedPeers": max(_number(status, "connectedPeers") for status in statuses),
            "logSyncHeight": min(_number(status, "logSyncHeight") for status in statuses),
            "nextTxSeq": min(_number(status, "nextTxSeq") for status in statuses),
        }

    async def _ask(self, method: str, params: list[Any]) -> list[dict[str, Any]]:
        """What this node and the trusted ones answer; those that do not are left out."""

        async def remote(node: NodeClient) -> Any:
            try:
                return await node.call(method, params)
            except (TransportError, RpcError) as error:
                log.debug("%s: %s", node.url, error)
                return None

        answers = await asyncio.gather(self._local(method, params), *map(remote, self._trusted))
        return [answer for answer in answers if isinstance(answer, dict)]


_ANSWERED = object()


def _question(cid: requests.Cid) -> tuple[str, list[Any]]:
    if isinstance(cid, int):
        return "zgs_getFileInfoByTxSeq", [cid]
    return "zgs_getFileInfo", ["0x" + cid.hex(), True]


def _number(answer: Mapping[str, Any], key: str) -> int:
    value = answer.get(key)
    return value if isinstance(value, int) else 0


def _listed(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": entry.name, "type": entry.kind.value}
    return shown | {"size": entry.size} if entry.size else shown
