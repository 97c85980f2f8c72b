"""Answers the requests of the endpoint, one after the other or many at a time.

Loaded with the first request: what a node that nobody asks needs of the endpoint is in `service`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import msgspec

from zerog.errors import EngineCancelled, InferenceError
from zerog.inference.endpoint import catalogue
from zerog.inference.endpoint.errors import ApiError, busy, from_engine, invalid, unavailable, unknown_model
from zerog.inference.endpoint.generation import Clock, Running
from zerog.inference.endpoint.questions import Kind, Question, decode, model_of, parse
from zerog.inference.endpoint.receipts import Kept, Memory, asker_of
from zerog.inference.endpoint.replies import Outcome, Reply, TextDecoder, TokenTexts, chat_id, logprobs_of
from zerog.inference.endpoint.service import OPEN_ROUTES
from zerog.inference.publication import Later
from zerog.inference.text_signature import sign_text
from zerog.inference.transcript_file import encode_transcript

if TYPE_CHECKING:
    from zerog.chain.methods import HttpExchange
    from zerog.inference.answer import Inquiry, Signatory
    from zerog.inference.answers import AnswerBook
    from zerog.inference.endpoint.service import EndpointSettings
    from zerog.inference.engine_host import EngineHost, ModelHosts
    from zerog.inference.engines import Generation

log = logging.getLogger("zerog.endpoint")

JSON = "application/json"
_EXPOSED = {
    "access-control-expose-headers": "zg-res-key, provider, retry-after, x-request-id, x-zerog-receipt,"
    " x-zerog-signature, x-zerog-signer"
}
_EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
T = TypeVar("T")


class Desk:
    """Answers exchanges; for the parameters see `EndpointService`."""

    def __init__(
        self,
        hosts: ModelHosts,
        settings: EndpointSettings,
        now: Clock,
        on_first: Callable[[], None] | None,
        started: int,
        book: Callable[[], AnswerBook] | None = None,
        embedder: EngineHost | None = None,
    ) -> None:
        self._hosts = hosts
        self._embedder = embedder
        self._settings = settings
        self._now = now
        self._on_first = on_first
        self._started = started
        self._book = book
        self._executor: ThreadPoolExecutor | None = None
        self._texts: tuple[object, TokenTexts] | None = None
        self._running: set[Running] = set()
        self._inside = 0
        self.memory = Memory()

    @property
    def under_way(self) -> int:
        """Requests that are being answered."""
        return self._inside

    def close(self) -> None:
        """Ends what is under way."""
        for running in self._running:
            running.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    async def answer(self, exchange: HttpExchange) -> None:
        """Answers one request."""
        try:
            self._authorise(exchange)
            await self._route(exchange)
        except EngineCancelled as error:
            if not exchange.gone:
                await _refuse(exchange, unavailable(f"The generation was ended: {error}", "engine_stopped"))
        except ApiError as error:
            await _refuse(exchange, error)

    def _authorise(self, exchange: HttpExchange) -> None:
        keys = self._settings.keys
        if not keys or any(_covers(prefix, exchange.path) for prefix in OPEN_ROUTES):
            return
        scheme, _, given = exchange.headers.get("authorization", "").partition(" ")
        bearer = given.strip().encode() if scheme.lower() == "bearer" else b""
        # All are compared, in constant time: neither their order nor their length can be learnt.
        if not max([hmac.compare_digest(bearer, key.encode()) for key in keys]):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    async def _route(self, exchange: HttpExchange) -> None:
        path = exchange.path.rstrip("/")
        match path.removeprefix("/v1").split("/")[1:] if path.startswith("/v1/") else path.split("/")[1:]:
            case ["chat", "completions"] if path.startswith("/v1/"):
                _want(exchange, "POST")
                await self._generate(exchange, Kind.CHAT)
            case ["completions"] if path.startswith("/v1/"):
                _want(exchange, "POST")
                await self._generate(exchange, Kind.COMPLETION)
            case ["embeddings"] if path.startswith("/v1/"):
                _want(exchange, "POST")
                await self._embed(exchange)
            case ["models", *rest] if path.startswith("/v1/"):
                _want(exchange, "GET")
                await self._models(exchange, unquote("/".join(rest)))
            case ["receipts", name] if path.startswith("/v1/"):
                _want(exchange, "GET")
                await self._receipt(exchange, name)
            case ["proxy", "signature", name] if path.startswith("/v1/"):
                _want(exchange, "GET")
                await self._signature(exchange, name, as_broker=True)
            case ["signature", name]:
                _want(exchange, "GET")
                await self._signature(exchange, name)
            case _:
                raise ApiError(404, f"Invalid URL ({exchange.method} {exchange.path[:200]})")

    # What was served.

    async def _models(self, exchange: HttpExchange, name: str) -> None:
        vectors = None if self._embedder is None else self._embedder.served
        if not name:
            entries = [self._entry(host) for host in self._hosts]
            if vectors is not None:
                entries.append(catalogue.entry(vectors, self._started, None))
            await _send(exchange, {"object": "list", "data": entries})
        elif vectors is not None and name in catalogue.names(vectors):
            await _send(exchange, catalogue.entry(vectors, self._started, None))
        elif (host := self._hosts.find(name)) is not None:
            await _send(exchange, self._entry(host))
        else:
            raise unknown_model(name)

    def _entry(self, host: EngineHost) -> dict[str, Any]:
        return catalogue.entry(host.served, self._started, self._context(host))

    @staticmethod
    def _context(host: EngineHost) -> int | None:
        loaded = host.loaded
        return None if loaded is None else getattr(loaded.engine, "context_length", None)

    async def _receipt(self, exchange: HttpExchange, name: str) -> None:
        kept = self.memory.find(name)
        if kept is None:
            raise ApiError(
                404, "There is no answer with this id, or it was long ago.", code="receipt_not_found"
            )
        body = await self._in_thread(kept.transcript)
        await exchange.respond(200, body, headers=_EXPOSED, content_type=JSON)

    async def _signature(self, exchange: HttpExchange, name: str, as_broker: bool = False) -> None:
        kept = self.memory.find(name)
        if kept is not None:
            await _send(exchange, kept.signature)
        elif as_broker:
            # The words and the status of 0G's broker.
            await _send(exchange, {"error": "Chat id not found or expired, chat_id_not_found"}, 400)
        else:
            raise ApiError(404, "Chat id not found or expired.", code="chat_id_not_found")

    # Generating.

    async def _generate(self, exchange: HttpExchange, kind: Kind) -> None:
        question = parse(exchange.body, kind)
        host = self._hosts.find(question.model)
        if host is None:
            raise unknown_model(question.model)
        if self._inside >= self._settings.most:
            raise busy(f"{self._inside} requests are under way already; try again later.")
        self._inside += 1
        try:
            with host.lease():
                await self._answer_with(host, exchange, kind, question)
        finally:
            self._inside -= 1

    async def _answer_with(
        self, host: EngineHost, exchange: HttpExchange, kind: Kind, question: Question
    ) -> None:
        signatory = await self._signatory(host)
        served = host.served
        inquiry, deadline = await self._inquiry(exchange, question, signatory)
        reply = Reply(
            chat_id(kind), question, int(time.time()), served.model.name, catalogue.fingerprint(served)
        )
        running = Running(self._threads(), signatory.engine, inquiry)
        self._running.add(running)
        try:
            respond = self._stream if question.stream else self._whole
            await respond(exchange, reply, running, _Signing(signatory, inquiry, deadline, self._book))
        finally:
            await running.ended()
            self._running.discard(running)

    async def _embed(self, exchange: HttpExchange) -> None:
        from zerog.inference.endpoint.vectors import check_dimensions, parse_vectors, vectors_body

        embedder, name = self._embedder, model_of(decode(exchange.body))
        if embedder is None or name not in catalogue.names(embedder.served):
            raise unknown_model(name)
        asked = parse_vectors(exchange.body)
        if self._inside >= self._settings.most:
            raise busy(f"{self._inside} requests are under way already; try again later.")
        self._inside += 1
        try:
            try:
                signatory = await self._in_thread(embedder.signatory)
            except InferenceError as error:
                log.warning("the embedding model cannot be loaded: %s", error)
                raise unavailable(f"The model cannot be loaded: {error}") from None
            inquiry, deadline = await self._inquiry(exchange, asked.question, signatory)
            served = embedder.served
            reply = Reply(
                chat_id(Kind.EMBEDDING), asked.question, int(time.time()), served.model.name,
                catalogue.fingerprint(served),
            )  # fmt: skip
            running, signing = (
                Running(self._threads(), signatory.engine, inquiry),
                _Signing(signatory, inquiry, deadline, self._book),
            )
            self._running.add(running)
            try:
                try:
                    generation = await running.result(exchange)
                except EngineCancelled:
                    raise
                except InferenceError as error:
                    raise from_engine(error, Kind.EMBEDDING.value) from None
                outcome = await self._in_thread(lambda: signing.sign(generation, self._now()))
                check_dimensions(asked, outcome)
                body = await self._in_thread(lambda: vectors_body(reply, outcome, asked.as_base64))
                self._keep(reply, outcome, signing, body)
                await exchange.respond(200, body, headers=_head(reply, outcome), content_type=JSON)
            finally:
                await running.ended()
                self._running.discard(running)
        finally:
            self._inside -= 1

    async def _signatory(self, host: EngineHost) -> Signatory:
        if (loaded := host.loaded) is not None:
            return loaded
        try:
            signatory = await self._in_thread(host.signatory)
        except InferenceError as error:
            log.warning("the engine cannot be loaded: %s", error)
            raise unavailable(f"The model cannot be loaded: {error}") from None
        if self._on_first is not None and host is self._hosts.default:
            tell, self._on_first = self._on_first, None
            await self._in_thread(tell)
        return signatory

    async def _inquiry(
        self, exchange: HttpExchange, question: Question, signatory: Signatory
    ) -> tuple[Inquiry, int | None]:
        """What the engine is asked, and until when its receipt counts."""
        engine = signatory.engine
        now = self._now()
        asker = asker_of(exchange.headers, signatory.domain, now)
        try:
            prompt = await self._in_thread(lambda: engine.prompt_tokens(question.body))
        except InferenceError as error:
            raise invalid(f"The prompt cannot be read: {error}", question.kind.value) from None
        params = question.with_room(len(prompt), getattr(engine, "context_length", None))
        inquiry = asker.inquiry(question, params, engine.model_id, signatory.domain)
        if asker.signed is not None and self._book is not None:
            book = self._book
            if await self._in_thread(lambda: book().to_request(inquiry.request_id)) is not None:
                raise ApiError(409, "This signed request was answered before.", code="request_answered")
        return inquiry, asker.deadline(now)

    async def _whole(self, exchange: HttpExchange, reply: Reply, running: Running, signing: _Signing) -> None:
        try:
            generation = await running.result(exchange)
        except EngineCancelled:
            raise
        except InferenceError as error:
            raise from_engine(error, reply.question.kind.value) from None
        outcome = await self._in_thread(lambda: signing.sign(generation, self._now()))
        logprobs = await self._logprobs(reply, generation, signing)
        body = reply.whole(outcome, logprobs)
        self._keep(reply, outcome, signing, body)
        await exchange.respond(200, body, headers=_head(reply, outcome), content_type=JSON)

    async def _stream(
        self, exchange: HttpExchange, reply: Reply, running: Running, signing: _Signing
    ) -> None:
        pieces = running.text(exchange)
        first = await anext(pieces, None)
        if first is None:
            # Nothing came: if that is an error it still has its status.
            try:
                await running.result(exchange)
            except EngineCancelled:
                raise
            except InferenceError as error:
                raise from_engine(error, reply.question.kind.value) from None
        stream = await exchange.stream(200, _EVENTS | _head(reply))
        sent = bytearray()

        async def send(events: bytes) -> None:
            sent.extend(events)
            if events and not await stream.write(events):
                raise EngineCancelled("the client has gone")

        decoder = TextDecoder()
        await send(reply.opening())
        if first is not None and (text := decoder.feed(first)):
            await send(reply.piece(text))
        async for piece in pieces:
            if text := decoder.feed(piece):
                await send(reply.piece(text))
        if text := decoder.feed(b"", final=True):
            await send(reply.piece(text))
        try:
            generation = await running.result(exchange)
        except InferenceError as error:
            if not exchange.gone:
                await stream.write(reply.failure(from_engine(error, reply.question.kind.value).document()))
                await stream.finish()
            return
        outcome = await self._in_thread(lambda: signing.sign(generation, self._now()))
        closing = reply.closing(outcome, await self._logprobs(reply, generation, signing))
        # A client may ask for the signature as soon as it sees the end.
        self._keep(reply, outcome, signing, bytes(sent) + closing)
        await send(closing)
        await stream.finish()

    async def _logprobs(
        self, reply: Reply, generation: Generation, signing: _Signing
    ) -> dict[str, Any] | None:
        engine = signing.signatory.engine
        if self._texts is None or self._texts[0] is not engine:
            self._texts = (engine, TokenTexts(engine))
        texts = self._texts[1]
        return await self._in_thread(lambda: logprobs_of(reply.question, generation, texts))

    def _keep(self, reply: Reply, outcome: Outcome, signing: _Signing, body: bytes) -> None:
        signatory = signing.signatory
        signature = sign_text(signatory.key, reply.question.body, body)

        def transcript() -> bytes:
            return encode_transcript(signatory.signed_transcript(outcome.answer))

        self.memory.keep(Kept(reply.id, outcome.answer, signature, transcript))

    # Threads.

    def _threads(self) -> ThreadPoolExecutor:
        # As many as requests: each waits in the engine, which batches them.
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._settings.most + 2, thread_name_prefix="zerog-endpoint")
        return self._executor

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads(), work)


@dataclass(frozen=True, slots=True)
class _Signing:
    """What is needed to sign a generation once it is complete."""

    signatory: Signatory
    inquiry: Inquiry
    deadline: int | None
    book: Callable[[], AnswerBook] | None

    def sign(self, generation: Generation, now: int) -> Outcome:
        """Signs, and writes down what the provider must publish when the receipt comes on chain."""
        if self.book is None:
            answer = self.signatory.sign(self.inquiry, generation, now, self.deadline)
        else:
            answer = self.signatory.sign(self.inquiry, generation, now, self.deadline, store=Later())
            self.book().offer(self.signatory.signed_transcript(answer))
        return Outcome(generation, answer, self.signatory.signer)


def _head(reply: Reply, outcome: Outcome | None = None) -> dict[str, str]:
    """Headers of an answer; a streamed one begins before there is a receipt."""
    headers = {"zg-res-key": reply.id, "x-request-id": reply.id} | _EXPOSED
    if outcome is not None:
        headers |= {
            "provider": "0x" + outcome.answer.receipt.provider.hex(),
            "x-zerog-receipt": "0x" + outcome.answer.receipt_hash.hex(),
            "x-zerog-signature": "0x" + outcome.answer.signature.hex(),
            "x-zerog-signer": outcome.signer,
        }
    return headers


def _covers(prefix: str, path: str) -> bool:
    return path.startswith(prefix + "/")


def _want(exchange: HttpExchange, method: str) -> None:
    asked = "GET" if exchange.method == "HEAD" else exchange.method
    if asked != method:
        raise ApiError(
            405,
            f"Not allowed to {exchange.method} on {exchange.path[:200]}; use {method}.",
            headers={"allow": method},
        )


async def _send(exchange: HttpExchange, value: Any, status: int = 200) -> None:
    await exchange.respond(status, msgspec.json.encode(value), headers=_EXPOSED, content_type=JSON)


async def _refuse(exchange: HttpExchange, error: ApiError) -> None:
    body = msgspec.json.encode(error.document())
    await exchange.respond(error.status, body, headers=_EXPOSED | error.headers, content_type=JSON)
