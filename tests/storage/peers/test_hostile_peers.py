"""Peers that lie, flood, drip or say nothing: nothing of it is stored, each is scored down, bounded in time."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from tests.storage.peers.network import StorePeer, data, service_for, serving, store_with
from tests.storage.scripted import ScriptedNode, running
from tests.storage.store.building import Chain, File, read_back

from zerog.errors import TransportError, TransportTimeout
from zerog.storage.layout import SEGMENT
from zerog.storage.peers.book import Peer
from zerog.storage.peers.client import NodeClient
from zerog.storage.peers.http import MAX_HEAD, AnswerTooLong, Bounds, HttpClient, base_url
from zerog.storage.peers.limits import TokenBucket
from zerog.storage.peers.score import BANNED, HALF_LIFE, Fault, Score
from zerog.storage.peers.service import PeerService
from zerog.storage.peers.sync import FileSync, SyncState
from zerog.storage.store import FlowStore
from zerog.storage.values import FileProof, FileState, Segment

T = TypeVar("T")
FILE = File.of(data(6 * SEGMENT - 5))
OTHER = File.of(data(6 * SEGMENT - 5, 2))


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


def wrong_bytes(segments: list[Segment]) -> list[Segment]:
    bad = bytearray(segments[0].data)
    bad[random.Random(3).randrange(len(bad))] ^= 1
    return [dataclasses.replace(segments[0], data=bytes(bad)), *segments[1:]]


def wrong_proof(segments: list[Segment]) -> list[Segment]:
    proof = segments[0].proof
    lemma = (proof.lemma[0], bytes(32), *proof.lemma[2:])
    return [dataclasses.replace(segments[0], proof=FileProof(lemma, proof.path)), *segments[1:]]


def wrong_side(segments: list[Segment]) -> list[Segment]:
    proof = segments[0].proof
    path = (not proof.path[0], *proof.path[1:])
    return [dataclasses.replace(segments[0], proof=FileProof(proof.lemma, path)), *segments[1:]]


def wrong_index(segments: list[Segment]) -> list[Segment]:
    return [dataclasses.replace(s, index=(s.index + 1) % 6) for s in segments]


def beyond_the_file(segments: list[Segment]) -> list[Segment]:
    return [dataclasses.replace(segments[0], index=1 << 60)]


def twice(segments: list[Segment]) -> list[Segment]:
    return [*segments, segments[0]]


def another_file(segments: list[Segment]) -> list[Segment]:
    return [OTHER.segments[s.index] for s in segments]


def another_file_under_this_root(segments: list[Segment]) -> list[Segment]:
    return [dataclasses.replace(OTHER.segments[s.index], root=FILE.root) for s in segments]


def cut_short(segments: list[Segment]) -> list[Segment]:
    return [dataclasses.replace(s, data=s.data[:256]) for s in segments]


LIES = [
    wrong_bytes,
    wrong_proof,
    wrong_side,
    wrong_index,
    beyond_the_file,
    twice,
    another_file,
    another_file_under_this_root,
    cut_short,
]


def stores() -> tuple[FlowStore, FlowStore]:
    chain = Chain()
    chain.submit(FILE)
    return store_with(chain, [FILE]), store_with(chain, [], filled=False)


async def fetch(service: PeerService, store: FlowStore) -> FileSync:
    """One attempt to fetch the file from all peers."""
    await service.book.refresh()
    submission = store.submission(0)
    assert submission is not None
    sync = FileSync(store, submission, service.book.usable)
    await sync.run()
    return sync


# One call of JSON-RPC gives one segment: nothing can come twice there.
@pytest.mark.parametrize(
    ("lie", "binary"), [(lie, True) for lie in LIES] + [(lie, False) for lie in LIES if lie is not twice]
)
def test_a_lie_is_refused_and_banned_and_the_file_comes_from_an_honest_peer(
    lie: Callable[[list[Segment]], list[Segment]], binary: bool
) -> None:
    async def scenario() -> None:
        full, empty = stores()
        with full, empty:
            liar, honest = StorePeer(full, distort=lie, binary=binary), StorePeer(full)
            async with serving(liar), serving(honest):
                alone = service_for(empty, [liar.url])
                sync = await fetch(alone, empty)
                assert sync.state is SyncState.FAILED
                assert alone.peers()[liar.url]["connectionStatus"]["status"] == "banned"
                for first, end in empty.held(0):
                    for index in range(first, end):
                        assert empty.read_segment(0, index) == FILE.segments[index].data
                both = service_for(empty, [liar.url, honest.url])
                assert (await fetch(both, empty)).state is SyncState.COMPLETED
                assert read_back(empty, 0) == FILE.data

    run(scenario())


def test_a_peer_that_promises_a_file_and_does_not_give_it_loses_points() -> None:
    async def scenario() -> None:
        full, empty = stores()
        with full, empty:
            async with serving(StorePeer(full, distort=lambda _: [])) as peer:
                service = service_for(empty, [peer.url])
                await service.book.refresh()
                submission = empty.submission(0)
                assert submission is not None
                await FileSync(empty, submission, service.book.usable, None, frozenset([peer.url])).run()
                assert service.book.all()[0].score.points > 0
                assert empty.state(0) is FileState.PENDING

    run(scenario())


def test_a_peer_that_claims_a_wrong_shard_is_passed_over_for_one_that_has_the_data() -> None:
    async def scenario() -> None:
        full, empty = stores()
        chain = Chain()
        chain.submit(FILE)
        half = store_with(chain, [FILE], "1/2")
        with full, empty, half:
            stale, honest = StorePeer(half, shard="0/1"), StorePeer(full)
            async with serving(stale), serving(honest):
                sync = await fetch(service_for(empty, [stale.url, honest.url]), empty)
                assert sync.state is SyncState.COMPLETED
                assert read_back(empty, 0) == FILE.data

    run(scenario())


# The client alone: what an answer may cost --------------------------------------------------------------------


async def ask(reply: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]], bounds: Bounds) -> Any:
    async def raw(writer: asyncio.StreamWriter, verb: str, path: str) -> bool:
        await reply(writer)
        return True

    async with running(ScriptedNode(raw=raw)) as node:
        client = HttpClient(node.url)
        try:
            return await client.exchange("GET", "/x", bounds=bounds)
        finally:
            client.close()


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def too_long(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize("reply", [endless, endless_chunks, too_long])
def test_an_endless_answer_is_cut_off_at_what_was_asked_for(reply: Any) -> None:
    with pytest.raises(AnswerTooLong):
        run(ask(reply, Bounds(100_000, 20.0)))


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def dripping_head(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"H")
        await asyncio.sleep(0.05)


async def dripping_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("reply", [silent, dripping_head, dripping_body])
def test_silence_and_dripping_end_at_the_deadline(reply: Any) -> None:
    with pytest.raises(TransportTimeout):
        run(ask(reply, Bounds(10_000, 0.5, 0.4)))


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 100,
        b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"",
    ],
)
def test_an_answer_that_is_no_http_is_an_error_and_nothing_else(reply: bytes) -> None:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        writer.close()

    with pytest.raises(TransportError):
        run(ask(send, Bounds(10_000, 5.0)))


def test_a_redirect_is_not_followed() -> None:
    async def elsewhere(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")

    assert run(ask(elsewhere, Bounds(100, 5.0))).status == 302


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ftp://a",
        "http://",
        "http://a b",
        "http://u:p@a",
        "http://a/?q=1",
        "http://a:99999",
        "http://a\r\nX: y",
        "file:///etc/passwd",
    ],
)
def test_an_address_that_is_no_node_is_refused(address: str) -> None:
    with pytest.raises(TransportError):
        base_url(address)


@pytest.mark.parametrize(
    "answer", [7, "x", [], {"networkIdentity": 1}, {"networkIdentity": {"chainId": "x", "flowAddress": 1}}]
)
def test_a_status_in_a_wrong_form_costs_points_and_breaks_nothing(answer: Any) -> None:
    async def scenario() -> bool:
        async with running(ScriptedNode({"zgs_getStatus": answer})) as node:
            full, empty = stores()
            with full, empty:
                service = service_for(empty, [node.url])
                await service.book.refresh()
                return service.book.all()[0].score.banned

    assert run(scenario())


def test_points_fade_and_a_lie_bans_at_once() -> None:
    now = [0.0]
    score = Score(lambda: now[0])
    score.blame(Fault.UNREACHABLE)
    assert not score.banned
    score.blame(Fault.LIE)
    assert score.banned
    now[0] += HALF_LIFE
    assert not score.banned
    assert 0 < score.points < BANNED


def test_a_limit_of_bandwidth_makes_later_bytes_wait_their_turn() -> None:
    now = [0.0]
    bucket = TokenBucket(1000, lambda: now[0])
    assert bucket.debt(1000) == 0
    assert bucket.debt(500) == pytest.approx(0.5)
    assert bucket.debt(500) == pytest.approx(1.0)
    now[0] += 3
    assert bucket.debt(1000) == 0
    bucket.give_back(1000)
    assert bucket.debt(1000) == 0
    assert TokenBucket(None).debt(1 << 60) == 0


def test_a_peer_is_made_of_its_address_alone() -> None:
    peer = Peer(NodeClient("http://127.0.0.1:1/"), True)
    assert peer.url == "http://127.0.0.1:1"
    assert not peer.usable
