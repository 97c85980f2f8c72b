"""``zerog infer``: ask the model, get a receipt; check a receipt; fetch the weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.infer_quote import quote
from zerog.cli.output import common_options, print_json, wants_json
from zerog.errors import InferenceError

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.transcript import SignedTranscript
    from zerog.inference.verification import Check
    from zerog.inference.weights import Weights

DEFAULT_URL = "http://127.0.0.1:8545"
DEFAULT_TOKENS = 256
_PATH = click.Path(path_type=Path)
_ASK = "ask"
TIERS = ("signed", "optimistic", "audited")


class _DefaultGroup(click.Group):
    """A first argument that names no command is the question of ``ask``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [_ASK, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_DefaultGroup, subcommand_metavar='"QUESTION" | verify FILE | fetch')
def infer() -> None:
    """Ask a model, with a receipt that anyone can verify.

    `zerog infer "What is a blockchain?"` goes through the gate of a devnet at --url when one runs
    there; otherwise the answer is signed here. Either way `zerog infer verify` needs no node.
    """


@infer.command(_ASK)
@click.argument("question")
@click.option("--url", help=f"Node to ask through [{DEFAULT_URL} if a devnet runs there].")
@click.option("--local", is_flag=True, help="Sign here, through no node.")
@click.option("-o", "--out", type=_PATH, help="Write the receipt and its transcript to this file.")
@click.option("--max-tokens", type=click.IntRange(1, 2000), default=DEFAULT_TOKENS, show_default=True)
@click.option(
    "--fee", type=click.IntRange(0), default=10**15, show_default=True, help="For the provider, wei."
)
@click.option(
    "--tier", type=click.Choice(TIERS), default=TIERS[0], show_default=True, help="Wait until it is reached."
)
@common_options
def ask(
    question: str, url: str | None, local: bool, out: Path | None, max_tokens: int, fee: int, tier: str
) -> None:
    """Ask a question (the command that QUESTION stands for)."""
    from zerog.inference.answer import sampling
    from zerog.inference.transcript_file import write_transcript

    if local and url is not None:
        raise click.UsageError("--local and --url exclude each other")
    if local and tier != TIERS[0]:
        raise click.UsageError(f"tier {tier} is reached on chain only: leave --local away")
    params = sampling(max_tokens)
    client = None if local else _devnet(url)
    if client is None:
        transcript, request_hash = _ask_here(question.encode(), params), None
    else:
        transcript, request_hash = _ask_through_gate(
            client, question.encode(), params, fee, TIERS.index(tier)
        )
    if out is not None:
        write_transcript(out, transcript)
    _show_answer(transcript, client, request_hash, out)


@infer.command()
@click.argument("file", type=_PATH)
@click.option("--rerun", is_flag=True, help="Run the model again and compare every logit row.")
@click.option("--signer", help="Address that must have signed; without it the one in the file.")
@click.option("--url", help="Also ask this node whether the chain knows the receipt.")
@common_options
def verify(file: Path, rerun: bool, signer: str | None, url: str | None) -> None:
    """Check a receipt without trusting a node; exit code 1 when anything is wrong."""
    from zerog.inference.encoding import parse_hex
    from zerog.inference.transcript_file import read_transcript
    from zerog.inference.verification import Check, check_execution, check_transcript

    transcript = read_transcript(file)
    expected = None if signer is None else parse_hex(signer, 20, "--signer")
    checks = check_transcript(transcript, expected)
    if rerun:
        checks += check_execution(transcript, _engine_like(transcript))
    if url is not None:
        from zerog.inference.onchain import receipt_on_chain

        standing = receipt_on_chain(_client(url), transcript)
        checks.append(Check("on chain", standing.passed, standing.detail))
    _show_checks(file, transcript, checks, rerun)
    if not all(check.passed for check in checks):
        click.get_current_context().exit(1)


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


def _ask_here(question: bytes, params: Any) -> SignedTranscript:
    return _sign_here(_engine(), question, params)


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


def _ask_through_gate(
    client: Client, question: bytes, params: Any, fee: int, tier: int
) -> tuple[SignedTranscript, str]:
    from zerog.inference.onchain import ask_gate, devnet_accounts, node_serves, transcript_from_node

    requester, provider_account = devnet_accounts(client)
    request = ask_gate(client, requester, question, params, fee, tier)
    if node_serves(client):
        signed = transcript_from_node(client, request)
        _await_tier(client, signed, tier)
        return signed, "0x" + request.inquiry.request_id.hex()
    from zerog.contracts import INFERENCE_REGISTRY
    from zerog.inference.answer import Domain
    from zerog.inference.provider import GateProvider

    domain = Domain(client.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    signatory = _signatory(_signer_key(), bytes.fromhex(provider_account[2:]), domain)
    provider = GateProvider(client, signatory, provider_account)
    provider.enrol()
    for answer in provider.serve():
        if answer.inquiry.request_id == request.inquiry.request_id:
            return provider.transcript(answer), "0x" + request.inquiry.request_id.hex()
    raise InferenceError(
        "the request is assigned to another provider that has not answered",
        hint="its fee comes back after the deadline; or ask without the chain: --local",
    )


def _await_tier(client: Client, signed: SignedTranscript, tier: int) -> None:
    """Waits, with a line that says for what, until the chain gives the receipt its tier."""
    from zerog.inference.onchain import ANSWER_TIMEOUT, tier_of
    from zerog.inference.provider import wait_for

    if not tier:
        return
    what = f"tier {TIERS[tier].upper()}: " + (
        "the audit window" if tier == 1 else "the votes of the verifiers"
    )
    click.echo(f"answered; waiting for {what}", err=True)
    wait_for(lambda: (tier_of(client, signed.receipt_hash) or 0) >= tier, ANSWER_TIMEOUT, what, 0.25)


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

    return Client(url, timeout=60.0)


def _engine() -> Any:
    from zerog.inference.engines.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(weights())


def _engine_like(signed: SignedTranscript) -> Any:
    from zerog.inference.engine_host import engine_like
    from zerog.inference.verification import is_vector
    from zerog.inference.weights import MINILM, MINILM_TOKENIZER

    description = signed.transcript.engine
    for wanted in (MINILM, MINILM_TOKENIZER) if is_vector(description) else (None,):
        weights(wanted)
    return engine_like(description)


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


# Showing.


def _show_answer(
    transcript: SignedTranscript, client: Client | None, request_id: str | None, out: Path | None
) -> None:
    receipt = transcript.receipt
    text = transcript.transcript.output.decode(errors="replace")
    if wants_json():
        print_json(
            {
                "text": text,
                "receiptHash": "0x" + transcript.receipt_hash.hex(),
                "signature": "0x" + transcript.signature.hex(),
                "signer": "0x" + transcript.signer.hex(),
                "requestId": request_id,
                "onChain": client is not None,
                "receipt": receipt.to_message(),
                "textSignature": transcript.text_signature,
                "file": None if out is None else str(out),
            }
        )
        return
    click.echo(text)
    where = f"through the gate of {_place(client)}" if client is not None else "here, not yet on any chain"
    lines = [
        "",
        f"receipt  0x{transcript.receipt_hash.hex()}",
        f"signed   by 0x{transcript.signer.hex()}, tier {_tier(client, transcript)}, {where}",
        f"model    {transcript.transcript.model.name} {transcript.transcript.model.quantisation} 0x{receipt.modelId.hex()[:16]}…",
        f"trace    {receipt.outputTokens} tokens 0x{receipt.traceRoot.hex()[:16]}…",
    ]
    if out is not None:
        lines.append(f"file     {out}   check it: zerog infer verify {out} --rerun")
    click.echo("\n".join(lines), err=True)


def _tier(client: Client | None, signed: SignedTranscript) -> str:
    from zerog.inference.onchain import tier_name, tier_of

    reached = None if client is None else tier_of(client, signed.receipt_hash)
    return tier_name(reached or 0)


def _place(client: Client) -> str:
    return str(getattr(client.transport, "url", "the node"))


def _show_checks(file: Path, transcript: SignedTranscript, checks: list[Check], rerun: bool) -> None:
    valid = all(check.passed for check in checks)
    if wants_json():
        print_json(
            {
                "file": str(file),
                "valid": valid,
                "rerun": rerun,
                "receiptHash": "0x" + transcript.receipt_hash.hex(),
                "signer": "0x" + transcript.signer.hex(),
                "checks": [
                    {"name": check.name, "passed": check.passed, "detail": check.detail} for check in checks
                ],
            }
        )
        return
    for check in checks:
        mark = click.style("✓", fg="green") if check.passed else click.style("✗", fg="red", bold=True)
        click.echo(f"{mark} {check.name}" + (f": {check.detail}" if check.detail else ""))
    click.echo("")
    if not valid:
        click.secho("INVALID: do not rely on this answer", fg="red", bold=True)
        return
    click.secho(f"valid: signed by 0x{transcript.signer.hex()}", fg="green")
    if not rerun:
        click.echo("the computation itself was not repeated: add --rerun")


infer.add_command(quote)
