"""A Python thread that holds the interpreter's lock does not delay the native methods."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from zerog import Devnet

CLIENT = """
import http.client, json, os, sys, time

host, port, answers, done = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
verdict = b"n"
try:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    started = time.monotonic()
    count = 0
    # The lock is held for as long as this loop runs: a second at the least.
    while count < answers or time.monotonic() - started < 1.0:
        for call in (("eth_blockNumber", []), ("eth_call", [{"to": "0x" + "ca" * 20, "data": "0x"}, "latest"])):
            body = {"jsonrpc": "2.0", "id": count, "method": call[0], "params": call[1]}
            connection.request("POST", "/", json.dumps(body))
            assert "result" in json.loads(connection.getresponse().read())
        count += 1
    verdict = b"y"
finally:
    os.write(done, verdict)
"""

ANSWERS = 200


@pytest.mark.skipif(sys.platform == "win32", reason="passes a pipe to the client")
def test_native_methods_answer_while_a_thread_holds_the_interpreter_lock() -> None:
    with Devnet() as devnet:
        host, port = devnet.url.removeprefix("http://").split(":")
        read_end, write_end = os.pipe()
        arguments = [sys.executable, "-c", CLIENT, host, port, str(ANSWERS), str(write_end)]
        with subprocess.Popen(arguments, pass_fds=[write_end]) as client:
            os.close(write_end)
            verdict = ctypes.create_string_buffer(1)
            # PyDLL keeps the lock during the call: no Python runs in this process until the client has its answers.
            # A client that fails or dies closes its end and lets us go, too.
            ctypes.PyDLL(None).read(read_end, verdict, 1)
            os.close(read_end)
            assert client.wait(timeout=30) == 0
        assert verdict.raw == b"y", "the client got no answers while the lock was held"
