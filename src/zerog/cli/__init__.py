"""The command ``zerog``.

Commands are loaded when they are named, so that ``zerog up`` pays for nothing else. Each command is
thin: it parses, calls a room, prints. Every command takes ``--json`` (one object, or one per line)
and ``--debug`` (tracebacks). An error is one sentence on stderr with its cause and the next step;
the exit code is 1, or 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from zerog import __version__
from zerog.cli.output import State
from zerog.errors import ZerogError

_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("zerog.cli.up:up", "Start a devnet or another chain."),
    "infer": ("zerog.cli.infer:infer", "Ask a model, with a receipt that anyone can verify."),
    "models": ("zerog.cli.models:models", "Add models, check them, register them on chain."),
    "audit": ("zerog.cli.audit:audit", "Verify the answers of others, be paid; or try to cheat."),
    "engines": ("zerog.cli.engines:engines", "Engines whose receipts count on a chain."),
    "storage": ("zerog.cli.storage:storage", "Store files, get them back with proofs."),
    "kv": ("zerog.cli.kv:kv", "Streams of keys and values, with access control."),
    "demo": ("zerog.cli.demo:demo", "Show the whole story: a proven answer moves money."),
    "chain": ("zerog.cli.chain:chain", "Make, import, export and check chains on disk."),
    "accounts": ("zerog.cli.accounts:accounts", "Key files: create, import, sign."),
    "config": ("zerog.cli.config:config", "Show or write the configuration."),
    "evm": ("zerog.cli.evm:evm", "Run public conformance fixtures."),
}


class _LazyGroup(click.Group):
    """Loads the module of a command when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        import importlib

        module, _, attribute = entry[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zerog")
def cli() -> None:
    """An AI-native, EVM-compatible Layer-1 in one package.

    Start with `zerog up`: an EVM devnet on http://127.0.0.1:8545 with ten funded accounts.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; its exit code."""
    state = State()
    try:
        # Outside standalone mode click returns the code of an early exit instead of raising it.
        code = cli.main(args=arguments, prog_name="zerog", standalone_mode=False, obj=state)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        if state.json or "--json" in (sys.argv[1:] if arguments is None else arguments):
            # A usage error may come before the flag is parsed.
            from zerog.cli.output import print_json

            print_json({"error": {"type": "UsageError", "message": error.format_message()}}, err=True)
        else:
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("zerog: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; so do we, quietly.
        sys.stderr.close()
        return 1
    except ZerogError as error:
        return _report(state, error, str(error))
    except Exception as error:
        message = f"unexpected failure: {type(error).__name__}: {error}"
        return _report(state, error, f"{message}; --debug shows where")


def _report(state: State, error: Exception, text: str) -> int:
    if state.debug:
        import traceback

        traceback.print_exception(error)
    if state.json:
        from zerog.cli.output import print_json

        details: dict[str, Any] = {"type": type(error).__name__, "message": getattr(error, "message", text)}
        hint = getattr(error, "hint", None)
        print_json({"error": {**details, "hint": hint} if hint else details}, err=True)
    else:
        print(f"zerog: {text}", file=sys.stderr)
    return 1


def main() -> None:
    """Entry point of the command line."""
    sys.exit(run())
