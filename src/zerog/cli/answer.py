"""How an answer, its checks and its dossier look on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zerog.cli.output import print_json, wants_json

if TYPE_CHECKING:
    from zerog.inference.dossier import Dossier, Step, Vote
    from zerog.inference.transcript import SignedTranscript
    from zerog.inference.verification import Check


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is waited for; nothing under ``--json``."""
    import sys

    if wants_json():
        yield lambda text: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("…") as status:
            yield lambda text: status.update(text)
    else:
        yield lambda text: click.echo(text, err=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, ``report(done, total)``; nothing under ``--json``."""
    if wants_json():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def show_answer(
    signed: SignedTranscript,
    dossier: Dossier | None,
    *,
    where: str,
    out: Path | None,
    seconds: dict[str, float],
    private: bool = False,
) -> None:
    """An answer that has just come. ``seconds``: how long what took; ``where`` it was answered."""
    receipt = signed.receipt
    text = signed.transcript.output.decode(errors="replace")
    if wants_json():
        print_json(
            {
                "text": text,
                "receiptHash": "0x" + signed.receipt_hash.hex(),
                "signature": "0x" + signed.signature.hex(),
                "signer": "0x" + signed.signer.hex(),
                "requestId": None if dossier is None else "0x" + receipt.requestId.hex(),
                "onChain": dossier is not None,
                "private": private,
                "tier": "SIGNED" if dossier is None else dossier.tier,
                "receipt": receipt.to_message(),
                "textSignature": signed.text_signature,
                "file": None if out is None else str(out),
                "seconds": {name: round(value, 3) for name, value in seconds.items()},
                "verifiers": [] if dossier is None else dossier.as_json()["verifiers"],
                "cost": None if dossier is None else dossier.as_json()["cost"],
                "transactions": [] if dossier is None else dossier.as_json()["transactions"],
            }
        )
        return
    click.echo(text)
    tier = "SIGNED" if dossier is None else dossier.tier
    lines = [
        "",
        f"receipt  0x{signed.receipt_hash.hex()}",
        f"signed   by 0x{signed.signer.hex()}, tier {tier}, {where}",
        f"model    {signed.transcript.model.name} {signed.transcript.model.quantisation} "
        f"0x{receipt.modelId.hex()[:16]}…",
        f"trace    {receipt.outputTokens} tokens 0x{receipt.traceRoot.hex()[:16]}…",
    ]
    if seconds:
        lines.append("time     " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    if private:
        lines.append("private  sealed for you and the registered verifiers; the chain has hashes only")
    if dossier is not None:
        lines += dossier_lines(dossier)
    if out is not None:
        lines.append(f"file     {out}   check it: zerog infer verify {out} --rerun")
    click.echo("\n".join(lines), err=True)


def dossier_lines(dossier: Dossier) -> list[str]:
    """Who audited, what it cost, and the transactions."""
    lines = []
    if dossier.votes:
        lines.append(f"audit    {dossier.audit}" + (", receipt CONDEMNED" if dossier.condemned else ""))
        lines += [f"         {_vote_line(vote)}" for vote in dossier.votes]
    lines += _cost_lines(dossier)
    if dossier.steps:
        width = max(len(step.what) for step in dossier.steps)
        first, *rest = [_step_line(step, width) for step in dossier.steps]
        lines += [f"chain    {first}", *(f"         {line}" for line in rest)]
    return lines


def show_dossier(dossier: Dossier, signed: SignedTranscript | None, why_not: str | None) -> None:
    """Everything about a receipt on chain; ``why_not``: why there is no transcript."""
    text = None if signed is None else signed.transcript.output.decode(errors="replace")
    question = None if signed is None else signed.transcript.request.decode(errors="replace")
    if wants_json():
        print_json({**dossier.as_json(), "question": question, "text": text, "unreadable": why_not})
        return
    lines = [
        f"receipt  0x{dossier.receipt_hash.hex()}",
        f"request  0x{dossier.request_id.hex()}"
        + ("" if dossier.delivery is None else f", {dossier.delivery}"),
        f"tier     {dossier.tier}",
        f"provider {dossier.provider}",
    ]
    if text is None:
        lines.append(f"text     not to be had: {why_not}")
    else:
        lines += [f"asked    {question}", f"answer   {text}"]
    click.echo("\n".join([*lines, *dossier_lines(dossier)]))


def show_checks(
    source: str, signed: SignedTranscript, checks: list[Check], rerun: bool, seconds: float | None
) -> None:
    """What was checked of an answer, and the first bad leaf."""
    valid = all(check.passed for check in checks)
    bad_leaf = min((check.leaf for check in checks if check.leaf is not None), default=None)
    if wants_json():
        print_json(
            {
                "file": source,
                "valid": valid,
                "rerun": rerun,
                "receiptHash": "0x" + signed.receipt_hash.hex(),
                "signer": "0x" + signed.signer.hex(),
                "firstBadLeaf": bad_leaf,
                "seconds": None if seconds is None else round(seconds, 3),
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
        where = "" if bad_leaf is None else f" (first bad leaf: {bad_leaf})"
        click.secho(f"INVALID: do not rely on this answer{where}", fg="red", bold=True)
        return
    click.secho(f"valid: signed by 0x{signed.signer.hex()}", fg="green")
    if not rerun:
        click.echo("the computation itself was not repeated: add --rerun")
    elif seconds is not None:
        click.echo(f"{len(signed.transcript.steps)} logit rows and tokens repeated in {seconds:.1f} s")


def _vote_line(vote: Vote) -> str:
    said = "has not voted" if vote.verdict is None else vote.verdict
    leaf = "" if vote.bad_leaf is None else f" from leaf {vote.bad_leaf} on"
    took = "" if not vote.seconds else f", executed it again in {vote.seconds:.2f} s"
    paid = "" if not vote.reward else f", earned {_amount(vote.reward)}"
    return f"round {vote.round}: {vote.verifier} {said}{leaf}{took}{paid}"


def _cost_lines(dossier: Dossier) -> list[str]:
    from zerog.inference.dossier import PAYERS

    cost, lines = dossier.cost, []
    if cost.fee:
        parts = [f"provider {_amount(cost.provider)}", f"audit {_amount(cost.audit)}"]
        lines.append(f"fee      {_amount(cost.fee)}: {', '.join(parts)}")
    gas = {name: dossier.gas_of(kinds) for name, kinds in PAYERS.items()}
    paid = ", ".join(f"{name} {_amount(wei)}" for name, wei in gas.items() if wei)
    if paid:
        lines.append(f"gas      {paid}")
    return lines


def _step_line(step: Step, width: int) -> str:
    return f"{step.what:<{width}}  {step.transaction}  block {step.block}, {step.gas:,} gas"


def _amount(wei: int) -> str:
    """Tokens, to the billionth."""
    from zerog.inference.audit.history import tokens

    return tokens(wei - wei % 10**9)
