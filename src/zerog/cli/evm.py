"""``zerog evm``: the public conformance fixtures, one JSON line per case and fork."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from zerog.cli.output import common_options, print_json

_NAMES = {
    "statetest": ("STATE", "Run state tests (GeneralStateTests format)."),
    "blocktest": ("BLOCK", "Run blockchain tests (BlockchainTests format)."),
    "transactiontest": ("TRANSACTION", "Run transaction tests (TransactionTests format)."),
    "trietest": ("TRIE", "Run trie tests (TrieTests format)."),
    "rlptest": ("RLP", "Run RLP tests (RLPTests format)."),
}


@click.group()
def evm() -> None:
    """Run public conformance fixtures: files, or folders walked in sorted order.

    Prints one JSON line {name, fork, pass, stateRoot, error} per case and fork, and a summary on
    stderr. The exit code is 1 when a case fails.
    """


def _run(suite_name: str, paths: tuple[Path, ...], failures_only: bool) -> None:
    from zerog.chain.conformance import Suite, run
    from zerog.errors import ConfigError

    passed = failed = 0
    for case in run(Suite[suite_name], paths):
        passed += case.passed
        failed += not case.passed
        if not (failures_only and case.passed):
            print_json(case)
    print(f"{passed} passed, {failed} failed", file=sys.stderr)
    if passed + failed == 0:
        raise ConfigError(f"no fixture was found in {', '.join(map(str, paths))}")
    if failed:
        raise click.exceptions.Exit(1)


def _add(name: str, suite_name: str, text: str) -> None:
    @evm.command(name, help=text)
    @click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
    @click.option("--failures", is_flag=True, help="Print failing cases only.")
    @common_options
    def command(paths: tuple[Path, ...], failures: bool) -> Any:
        _run(suite_name, paths, failures)


for _name, (_suite, _text) in _NAMES.items():
    _add(_name, _suite, _text)
