"""``zerog demo``: the whole story in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zerog.cli.output import common_options, print_json, wants_json

if TYPE_CHECKING:
    from rich.console import Console

    from zerog.cli.story import Outcome, Step, Story


@click.command()
@common_options
def demo() -> None:
    """Start a devnet, ask a real model, let a contract use the proven answer, store the evidence, try to cheat.

    Exit code 1 unless the genuine answer was used, the evidence came back from storage with proofs,
    every forged answer was refused, a miner was paid, verifiers audited an answer, and a dishonest provider
    lost its stake. With --json the last line is one object.
    """
    from tempfile import TemporaryDirectory

    from zerog.cli.infer import weights
    from zerog.cli.story import SERVICES, Story, load_engine
    from zerog.client import Devnet

    path = weights()
    with TemporaryDirectory(prefix="zerog-demo-") as folder, Devnet(services=SERVICES) as net:
        story = Story(net, lambda: load_engine(path), path, Path(folder))
        try:
            if wants_json():
                for _ in story.play():
                    pass
            else:
                _tell(story)
        finally:
            story.close()
    outcome = story.outcome
    if wants_json():
        print_json(outcome.summary())
    if not outcome.good:
        click.get_current_context().exit(1)


def _tell(story: Story) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print()
    steps = story.play()
    number = 0
    while True:
        with console.status("…"):
            step = next(steps, None)
        if step is None:
            break
        number += 1
        _show_step(console, number, step)
    _show_outcome(console, story.outcome)


def _show_step(console: Console, number: int, step: Step) -> None:
    from rich.markup import escape

    bad = (
        "ACCEPTED" in step.title
        or "NOT" in step.title
        or step.title in ("Money moved", "The genuine answer came too late")
    )
    colour = "red" if bad else "yellow" if "refused" in step.title else "cyan"
    console.print(f"[bold {colour}]{number:>2}  {escape(step.title)}[/]")
    width = max(map(len, step.facts), default=0)
    for name, value in step.facts.items():
        console.print(f"    [dim]{escape(name):<{width}}[/]  {escape(value)}", soft_wrap=True)
    console.print()


def _show_outcome(console: Console, outcome: Outcome) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = [
        ("the chain verified the genuine answer", outcome.verified_on_chain),
        ("the contract used it", outcome.consumer_executed),
        *(
            (f"refused: {r.title.lower()} ({r.error.partition('(')[0]})", r.refused)
            for r in outcome.refusals.values()
        ),
        (
            "the evidence came back from storage, every proof checked",
            bool(outcome.kept) and all(one.proven for one in outcome.kept),
        ),
        ("a miner proved random access to it and was paid", outcome.paid is not None),
        (f"audited: {_committee(outcome)} executed an answer again and agree bit for bit", outcome.audited),
        (f"slashed: {_offence(outcome)}", outcome.slashed),
    ]
    for text, good in rows:
        table.add_row("[green]✓[/]" if good else "[red]✗[/]", text)
    console.print(table)
    console.print(f"\n[dim]receipt {outcome.receipt_hash}[/]")


def _committee(outcome: Outcome) -> str:
    count = 0 if outcome.audit is None else len(outcome.audit.votes)
    return f"{count} verifiers drawn by lot"


def _offence(outcome: Outcome) -> str:
    from zerog.inference.audit.cheats import DESCRIPTIONS
    from zerog.inference.audit.history import tokens

    cheat = outcome.cheat
    if cheat is None:
        return "a dishonest provider"
    return f"a provider that {DESCRIPTIONS[cheat.trick]} lost {tokens(cheat.slashed)}"
