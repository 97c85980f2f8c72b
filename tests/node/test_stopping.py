"""A stop that a signal handler asks for, at whatever moment."""

from __future__ import annotations

import signal
import threading

from zerog.node.stopping import StopRequest


def test_a_signal_at_any_moment_of_the_wait_ends_it():
    before = signal.getsignal(signal.SIGALRM)
    try:
        for microseconds in range(1, 1_000):
            request = StopRequest()
            signal.signal(signal.SIGALRM, lambda number, frame, request=request: request.set())
            signal.setitimer(signal.ITIMER_REAL, microseconds / 1e7)
            request.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_request_before_the_wait_counts_for_every_waiter():
    request = StopRequest()
    request.set()
    request.wait()
    request.wait()


def test_another_thread_ends_the_wait():
    request = StopRequest()
    threading.Timer(0.01, request.set).start()
    request.wait()
