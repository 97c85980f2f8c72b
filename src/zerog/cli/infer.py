"""``zerog infer``: ask the model, get a receipt; check a receipt; fetch the weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.answer import progress_bar, progress_line, show_answer, show_checks, show_dossier
from zerog.cli.infer_deploy import deploy
from zerog.cli.infer_quote import quote
from zerog.cli.output import common_options, print_json, wants_json
from zerog.errors import InferenceError, RpcError, ZerogError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerog.client import Client
    from zerog.inference.provider import GateRequest
    from zerog.inference.publication import StorageTranscripts
    from zerog.inference.transcript import SignedTranscript
    from zerog.inference.weights import Weights

DEFAULT_URL = "http://127.0.0.1:8545"
DEFAULT_TOKENS = 256
DEFAULT_FEE = 10**15
"""Wei."""
REQUESTER_KEY = "requester.key"
"""File in the home directory: the key that opens private answers."""
_PATH = click.Path(path_type=Path)
_ASK = "ask"
TIERS = ("signed", "optimistic", "audited")


def _key_option(command: Any) -> Any:
    return click.option(
        "--key-file", type=_PATH, help="Key that opens a private answer [that of this machine's requester]."
    )(command)


class _DefaultGroup(click.Group):
    """A first argument that names no command is the question of ``ask``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [_ASK, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_DefaultGroup, subcommand_metavar='"QUESTION" | verify … | show … | fetch | deploy')
def infer() -> None:
    """Ask a model, with a receipt that anyone can verify.

    `zerog infer "What is a blockchain?"` goes through the gate of a devnet at --url when one runs
    there; otherwise the answer is signed here. Either way `zerog infer verify` needs no node.
    """


infer.add_command(deploy)


@infer.command(_ASK)
@click.argument("question")
@click.option("--url", help=f"Node to ask through [{DEFAULT_URL} if a devnet runs there].")
@click.option("--local", is_flag=True, help="Sign here, through no node.")
@click.option("-o", "--out", type=_PATH, help="Write the receipt and its transcript to this file.")
@click.option("--max-tokens", type=click.IntRange(1, 2000), default=DEFAULT_TOKENS, show_default=True)
@click.option("--fee", type=click.IntRange(0), help="Wei for provider and verifiers [what the tier needs].")
@click.option("--upstream", help="Ask this OpenAI-compatible server, and sign its answer here.")
@click.option("--upstream-key-file", type=_PATH, help="File with the key for that server.")
@click.option(
    "--tier", type=click.Choice(TIERS), default=TIERS[0], show_default=True, help="Wait until it is reached."
)
@click.option(
    "--model",
    help="Added model (zerog models list); with --upstream, what that server calls the embedded one.",
)
@click.option(
    "--private", is_flag=True, help="Only you and the verifiers can read question and answer; no fee."
)
@common_options
def ask(
    question: str,
    url: str | None,
    local: bool,
    out: Path | None,
    max_tokens: int,
    fee: int | None,
    upstream: str | None,
    upstream_key_file: Path | None,
    tier: str,
    model: str | None,
    private: bool,
) -> None:
    """Ask a question (the command that QUESTION stands for)."""
    from zerog.inference.answer import sampling
    from zerog.inference.transcript_file import write_transcript

    if upstream is not None and model is None:
        raise click.UsageError("--upstream needs --model")
    if upstream is not None and url is not None:
        raise click.UsageError(
            "--upstream signs here; a node answers through a server with inference.upstream in its configuration"
        )
    local = local or upstream is not None
    if local and url is not None:
        raise click.UsageError("--local and --url exclude each other")
    if private and (local or fee is not None):
        raise click.UsageError(
            "--private goes to a node's provider, without a fee: leave --local and --fee away"
        )
    if local and tier != TIERS[0]:
        raise click.UsageError(f"tier {tier} is reached on chain only: leave --local away")
    if private and model is not None:
        raise click.UsageError("--private asks the default model: leave --model away")
    params = sampling(max_tokens)
    client = None if local else _devnet(url)
    found = None
    seconds: dict[str, float] = {}
    if client is None:
        if tier != TIERS[0] or private:
            what = "a private question needs a node" if private else f"tier {tier} is reached on chain only"
            raise InferenceError(
                f"{what}, and no devnet runs at {DEFAULT_URL}",
                hint="start one: zerog up",
            )
        engine = _engine(model) if upstream is None else _upstream(upstream, model or "", upstream_key_file)
        signed, where = _ask_here(question.encode(), params, engine), "here, not yet on any chain"
    else:
        from zerog.inference.dossier import dossier

        with progress_line() as say:
            clock = _Clock(say, seconds)
            if private:
                signed = _ask_privately(client, question, max_tokens, TIERS.index(tier), clock)
            else:
                signed = _ask_through_gate(
                    client, question.encode(), params, fee, TIERS.index(tier), clock, model
                )
        where = f"{'by the provider' if private else 'through the gate'} of {_place(client)}"
        found = dossier(client, signed.receipt_hash)
    if out is not None:
        write_transcript(out, signed)
    show_answer(signed, found, where=where, out=out, seconds=seconds, private=private)


@infer.command()
@click.argument("source", metavar="FILE|RECEIPT_HASH")
@click.option("--rerun", is_flag=True, help="Run the model again and compare every logit row.")
@click.option("--signer", help="Address that must have signed; without it the one in the file.")
@click.option("--url", help="Also ask this node whether the chain knows the receipt.")
@_key_option
@common_options
def verify(source: str, rerun: bool, signer: str | None, url: str | None, key_file: Path | None) -> None:
    """Check a receipt without trusting a node; exit code 1 when anything is wrong.

    A hash is looked up on the chain at --url, its transcript comes from storage: every byte is checked
    against the hash.
    """
    import time

    from zerog.inference.encoding import parse_hex
    from zerog.inference.verification import Check, check_execution, check_transcript

    signed, client = _find(source, url, key_file)
    expected = None if signer is None else parse_hex(signer, 20, "--signer")
    checks = check_transcript(signed, expected)
    seconds = None
    if rerun:
        engine = _engine_like(signed)
        with progress_bar("rows compared") as report:
            began = time.perf_counter()
            checks += check_execution(signed, engine, report)
            seconds = time.perf_counter() - began
    if client is not None:
        from zerog.inference.onchain import receipt_on_chain

        standing = receipt_on_chain(client, signed)
        checks.append(Check("on chain", standing.passed, standing.detail))
    show_checks(source, signed, checks, rerun, seconds)
    if not all(check.passed for check in checks):
        click.get_current_context().exit(1)


@infer.command()
@click.argument("source", metavar="FILE|RECEIPT_HASH")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Node of the chain.")
@_key_option
@common_options
def show(source: str, url: str, key_file: Path | None) -> None:
    """Show what the chain knows of a receipt: tier, who audited it, what it cost, transactions."""
    from zerog.inference.dossier import dossier
    from zerog.inference.retrieval import signed_from_chain
    from zerog.inference.transcript_file import read_transcript

    client = _client(url)
    signed: SignedTranscript | None = None
    why_not = None
    if _is_hash(source):
        receipt_hash = _receipt_hash(source)
        found = dossier(client, receipt_hash)
        try:
            signed = signed_from_chain(client, receipt_hash, keys=_own_keys(key_file))
        except ZerogError as error:
            why_not = error.message
    else:
        signed = read_transcript(Path(source))
        found = dossier(client, signed.receipt_hash)
    show_dossier(found, signed, why_not)


@infer.command()
@click.option("--embeddings", is_flag=True, help="The embedding model instead.")
@common_options
def fetch(embeddings: bool) -> None:
    """Download and check the weights of the embedded model."""
    if embeddings:
        from zerog.inference.weights import MINILM, MINILM_TOKENIZER

        path = weights(MINILM)
        weights(MINILM_TOKENIZER)
    else:
        path = weights()
    if wants_json():
        print_json({"weights": str(path)})
    else:
        click.echo(f"weights ready: {path}")


@infer.command()
@click.argument("texts", nargs=-1, required=True)
@click.option("-o", "--out", type=_PATH, help="Write the receipt and its transcript to this file.")
@common_options
def embed(texts: tuple[str, ...], out: Path | None) -> None:
    """Turn TEXTS into vectors, with a receipt that is signed here.

    Prints one vector a line; the receipt goes to standard error.
    """
    import msgspec

    from zerog.inference.embedding import decode_vectors, neutral_params
    from zerog.inference.engine_host import embeddings
    from zerog.inference.transcript_file import write_transcript
    from zerog.inference.weights import MINILM, MINILM_TOKENIZER

    weights(MINILM)
    weights(MINILM_TOKENIZER)
    request = msgspec.json.encode({"input": list(texts)})
    signed = _sign_here(embeddings(), request, neutral_params(len(texts)))
    if out is not None:
        write_transcript(out, signed)
    vectors = [vector.tolist() for vector in decode_vectors(signed.transcript.output)]
    if wants_json():
        receipt_hash = "0x" + signed.receipt_hash.hex()
        print_json({"vectors": vectors, "receiptHash": receipt_hash, "receipt": signed.receipt.to_message()})
        return
    for vector in vectors:
        click.echo(" ".join(f"{value:.6f}" for value in vector))
    click.echo(f"receipt  0x{signed.receipt_hash.hex()}, signed by 0x{signed.signer.hex()}", err=True)


# Asking.


def _ask_here(question: bytes, params: Any, engine: Any) -> SignedTranscript:
    return _sign_here(engine, question, params)


def _upstream(url: str, model: str, key_file: Path | None) -> Any:
    from zerog.inference.upstream import connect

    weights()
    return connect(url, model, key_file)


def _sign_here(engine: Any, request: bytes, params: Any) -> SignedTranscript:
    import secrets
    import time

    from zerog.contracts import INFERENCE_REGISTRY
    from zerog.inference.answer import Domain, Inquiry

    domain = Domain(31337, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    key = _signer_key()
    signatory = _signatory(key, None, domain, engine)
    inquiry = Inquiry(secrets.token_bytes(32), bytes.fromhex(signatory.signer[2:]), request, params)
    answer = signatory.answer(inquiry, int(time.time()))
    signed: SignedTranscript = signatory.signed_transcript(answer)
    return signed


class _Clock:
    """Says what is waited for, and notes how long each part took."""

    def __init__(self, say: Callable[[str], None], seconds: dict[str, float]) -> None:
        import time

        self.say = say
        self._seconds = seconds
        self._now = time.perf_counter
        self._began = self._now()

    def done(self, name: str) -> None:
        """A part has ended."""
        self._seconds[name], self._began = self._now() - self._began, self._now()


def _ask_through_gate(
    client: Client,
    question: bytes,
    params: Any,
    fee: int | None,
    tier: int,
    clock: _Clock,
    model: str | None,
) -> SignedTranscript:
    from zerog.inference.onchain import ask_gate, devnet_accounts, fee_for, node_serves
    from zerog.inference.waiting import Wait

    requester, provider_account = devnet_accounts(client)
    wanted = None if model is None else _model_id(client, model)
    served = node_serves(client, wanted)
    if fee is None:
        fee = fee_for(client, tier, DEFAULT_FEE)
    request = ask_gate(client, requester, question, params, fee, tier, wanted)
    clock.say(f"asked as request 0x{request.inquiry.request_id.hex()}")
    wait = Wait(client, requester, request, clock.say)
    signed = wait.answer() if served else _provide_here(client, provider_account, request, model)
    clock.done("answered")
    if tier:
        wait.tier(signed.receipt_hash, tier)
        clock.done(TIERS[tier])
    return signed


def _ask_privately(
    client: Client, question: str, max_tokens: int, tier: int, clock: _Clock
) -> SignedTranscript:
    from zerog.inference.private_answers import ask_privately
    from zerog.inference.signer import load_or_create
    from zerog.inference.waiting import Wait
    from zerog.node.datadir import home

    clock.say("waiting for the provider and for verifiers to seal the answer for")
    signed = ask_privately(client, question, max_tokens, load_or_create(home() / REQUESTER_KEY))
    clock.done("answered")
    if tier:
        Wait.of(client, signed, clock.say).tier(signed.receipt_hash, tier)
        clock.done(TIERS[tier])
    return signed


def _provide_here(client: Client, account: str, request: GateRequest, model: str | None) -> SignedTranscript:
    """Answers a request with this machine's engine, where the node runs no provider."""
    from zerog.contracts import INFERENCE_REGISTRY
    from zerog.inference.answer import Domain
    from zerog.inference.provider import GateProvider

    domain = Domain(client.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    provider = GateProvider(
        client,
        _signatory(_signer_key(), bytes.fromhex(account[2:]), domain, _engine(model)),
        account,
        store=_store(client, account),
    )
    provider.enrol()
    for answer in provider.serve():
        if answer.inquiry.request_id == request.inquiry.request_id:
            return provider.transcript(answer)
    raise InferenceError(
        "the request is assigned to another provider that has not answered",
        hint="its fee comes back after the deadline; or ask without the chain: --local",
    )


def _store(client: Client, account: str) -> StorageTranscripts | None:
    """The node's storage, paid for by one of its accounts; ``None`` where it has none."""
    from zerog.client.storage import Storage
    from zerog.errors import StorageError, TransportError
    from zerog.inference.publication import StorageTranscripts
    from zerog.node.datadir import home

    store = StorageTranscripts(
        Storage(_place(client), client=client, account=account, state=home() / "payments")
    )
    try:
        store.warm()
    except (StorageError, TransportError, RpcError):
        return None
    return store


# Looking up.


def _find(source: str, url: str | None, key_file: Path | None) -> tuple[SignedTranscript, Client | None]:
    """A signed transcript by file or receipt hash, and the node to ask about it."""
    if not _is_hash(source):
        from zerog.inference.transcript_file import read_transcript

        return read_transcript(Path(source)), None if url is None else _client(url)
    from zerog.inference.retrieval import signed_from_chain

    client = _client(url or DEFAULT_URL)
    return signed_from_chain(client, _receipt_hash(source), keys=_own_keys(key_file)), client


def _is_hash(source: str) -> bool:
    return source.startswith("0x") and not Path(source).exists()


def _receipt_hash(source: str) -> bytes:
    from zerog.inference.encoding import parse_hex

    return parse_hex(source, 32, "the receipt hash")


def _own_keys(key_file: Path | None) -> list[bytes]:
    """Keys that may open private answers: the one named, else that of this machine's requester."""
    from zerog.inference.signer import load_or_create
    from zerog.node.datadir import home

    if key_file is not None:
        return [load_or_create(key_file)]
    path = home() / REQUESTER_KEY
    return [load_or_create(path)] if path.exists() else []


def _devnet(url: str | None) -> Client | None:
    """The node to ask through; ``None`` when none was named and none runs at the usual address."""
    from zerog.errors import RpcError, TransportError
    from zerog.inference.onchain import has_gate

    client = _client(url or DEFAULT_URL)
    try:
        if has_gate(client) and client.node_accounts:
            return client
    except (TransportError, RpcError):
        if url is not None:
            raise
        return None
    if url is None:
        return None
    raise InferenceError(
        f"{url} has no inference gate, or no accounts to ask from", hint="use a zerog devnet"
    )


def _client(url: str) -> Client:
    from zerog.client import Client

    return Client(url, timeout=120.0)


def _engine(model: str | None = None) -> Any:
    """The engine of an added model, else the embedded one."""
    if model is not None:
        from zerog.inference.engine_host import added, embedded

        _, load = added(model)
        if load is not embedded:
            return load()
    from zerog.inference.engines.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(weights())


def _engine_like(signed: SignedTranscript) -> Any:
    from zerog.inference.engine_host import engine_like, is_added
    from zerog.inference.models import id_of
    from zerog.inference.verification import is_vector
    from zerog.inference.weights import MINILM, MINILM_TOKENIZER

    description = signed.transcript.engine
    model_id = id_of(signed.transcript.model)
    if not is_added(model_id):
        for wanted in (MINILM, MINILM_TOKENIZER) if is_vector(description) else (None,):
            weights(wanted)
    return engine_like(description, model_id)


def _model_id(client: Client, model: str) -> bytes:
    """The id of a model that can be asked for at the gate."""
    from zerog.inference.encoding import parse_hex
    from zerog.inference.model_store import ModelStore
    from zerog.inference.onchain import registry_of

    known = [found for found in ModelStore().list() if model in (found.name, found.model.weights_root)]
    wanted = parse_hex(known[0].model_id if known else model, 32, f"the model {model!r}")
    if not registry_of(client).isModel(wanted):
        raise InferenceError(
            f"the model {model} is not registered on this chain", hint=f"run: zerog models register {model}"
        )
    return wanted


def _signatory(key: bytes, provider: bytes | None, domain: Any, engine: Any = None) -> Any:
    from zerog.chain.keys import address_of
    from zerog.inference.answer import Signatory

    return Signatory(engine or _engine(), key, provider or bytes.fromhex(address_of(key)[2:]), domain)


def _signer_key() -> bytes:
    from zerog.inference.signer import load_or_create
    from zerog.node.datadir import home

    return load_or_create(home() / "inference-signer.key")


def weights(wanted: Weights | None = None) -> Path:
    """The verified weights, of the embedded model unless told; downloaded with a progress bar when missing."""
    from zerog.inference.weights import SMOLLM2, find
    from zerog.inference.weights import fetch as fetch_weights

    chosen = wanted or SMOLLM2
    if find(chosen) is not None or wants_json():
        return fetch_weights(chosen)
    return _with_progress(fetch_weights, chosen)


def _with_progress(fetch_weights: Any, chosen: Weights) -> Path:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{stage} {chosen.name}", total=total)
            bars.update(tasks[stage], completed=done, total=total)

        path: Path = fetch_weights(chosen, report)
    return path


def _place(client: Client) -> str:
    return str(getattr(client.transport, "url", "the node"))


infer.add_command(quote)
