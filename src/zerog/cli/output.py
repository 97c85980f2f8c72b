"""What all commands share: ``--json`` and ``--debug``, and how they print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import msgspec

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class State:
    """The flags that hold for a whole command line."""

    json: bool = False
    debug: bool = False


def _set_flag(name: str) -> Callable[[click.Context, click.Parameter, bool], bool]:
    def callback(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
        if value:
            setattr(ctx.ensure_object(State), name, True)
        return value

    return callback


def common_options(command: Command) -> Command:
    """Adds ``--json`` and ``--debug``; their values are in the context's `State`."""
    for name, text in (("debug", "Show tracebacks."), ("json", "Print JSON.")):
        command = click.option(
            f"--{name}", is_flag=True, expose_value=False, is_eager=True, callback=_set_flag(name), help=text
        )(command)
    return command


def wants_json() -> bool:
    """Whether ``--json`` was given."""
    state = click.get_current_context().find_object(State)
    return state is not None and state.json


def wants_debug() -> bool:
    """Whether ``--debug`` was given."""
    state = click.get_current_context().find_object(State)
    return state is not None and state.debug


def print_json(value: Any, *, err: bool = False) -> None:
    """One JSON value on one line, flushed, so that a script that reads a pipe sees it at once."""
    print(msgspec.json.encode(value).decode(), file=sys.stderr if err else sys.stdout, flush=True)


def report(text: str, value: Any) -> None:
    """Prints ``text`` for a person, or ``value`` under ``--json``."""
    if wants_json():
        print_json(value)
    else:
        print(text, flush=True)
