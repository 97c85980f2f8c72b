"""A verifier that kills itself (SIGKILL) at a step, run as a process of its own.

usage: mortal_verifier.py URL JOURNAL KEYS WITHHOLDER STEP COUNT; it dies when it does ``STEP`` for the
``COUNT``-th time, else it ends with 0 when an audit is over. ``WITHHOLDER`` is the key of a verifier that
commits to nonsense whenever the others commit, and never reveals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from zerog.client import Account, Client
from zerog.errors import ZerogError
from zerog.inference.audit.journal import Journal
from zerog.inference.audit.sending import JournalledSender
from zerog.inference.audit.setup import auditor
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.weights import SMOLLM2, fetch


class Fate:
    """Counts steps and ends the process at one of them."""

    def __init__(self, step: str, count: int) -> None:
        self._step, self._left = step, count

    def reach(self, step: str) -> None:
        """Dies here if this is the step."""
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Withholder:
    """Commits to what nobody can open, so that a window has to pass before the round is settled."""

    def __init__(self, client: Client, key: str) -> None:
        self._client, self._account = client, Account(key)

    def commit(self, call: Any) -> None:
        """Does so for the receipt of somebody else's commit."""
        data = call.data[:36] + os.urandom(32)
        # Refused when it is not drawn, or has committed before.
        with contextlib.suppress(ZerogError):
            self._client.submit(account=self._account, to=call.to, input=data)


def make_mortal(fate: Fate, withholder: Withholder) -> None:
    """Lets the parts of a verifier report their steps."""
    send, keep, decide, replay = (
        JournalledSender.send,
        Journal.keep_parcel,
        Journal.decide,
        LlamaCppEngine.replay,
    )

    def mortal_send(self: JournalledSender, purpose: str, account: Account, call: Any) -> Any:
        if call.what == "commit":
            withholder.commit(call)
        fate.reach(f"before {call.what}")
        result = send(self, purpose, account, call)
        fate.reach(f"after {call.what}")
        return result

    def mortal_keep(self: Journal, purpose: str, parcel: Any) -> None:
        keep(self, purpose, parcel)
        words = purpose.split()
        fate.reach(f"signed {words[3] if len(words) > 4 else words[1]}")

    def mortal_decide(self: Journal, *arguments: Any) -> Any:
        result = decide(self, *arguments)
        fate.reach("decided")
        return result

    def mortal_replay(self: LlamaCppEngine, *arguments: Any) -> Any:
        for row in replay(self, *arguments):
            fate.reach("executing")
            yield row

    patched: list[tuple[type, str, Any]] = [
        (JournalledSender, "send", mortal_send),
        (Journal, "keep_parcel", mortal_keep),
        (Journal, "decide", mortal_decide),
        (LlamaCppEngine, "replay", mortal_replay),
    ]
    for owner, name, function in patched:
        setattr(owner, name, function)


def main() -> None:
    url, journal, keys, withholder, step, count = sys.argv[1:]
    client = Client(url, storage_url=url)
    make_mortal(Fate(step, int(count)), Withholder(client, withholder))
    stop = threading.Event()

    def hear(happening: Any) -> None:
        if happening.kind == "settled":
            stop.set()

    verifier = auditor(
        client,
        [Account(key) for key in keys.split(",")],
        lambda: LlamaCppEngine(fetch(SMOLLM2)),
        Path(journal),
        advance=lambda: client.request("evm_mine"),
        tell=hear,
    )
    verifier.run(stop, 0.05)
    # Threads of the engine are not waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
