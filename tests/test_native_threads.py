"""The native module in programs with threads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import threading

def first():
    from zerog import _native
    _native.keccak256(bytes(1000))

def later():
    from zerog import _native
    _native.merkle_root(bytes(300_000))

for work in (first, *[later] * 20):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print("done")
"""


def test_threads_may_use_the_module_after_the_one_that_loaded_it_has_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
