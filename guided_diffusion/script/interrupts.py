"""Ctrl-C, and the SIGTERM of a queue, end a script in order and within seconds, with one line."""

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

GRACE = 10  # seconds that a script has to end in order


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which queues and launchers end a process."""


def end_on_interrupt():
    """From now on Ctrl-C and SIGTERM end the process at once with one line, until raise_on_interrupt().

    For scripts, before their imports: libraries turn a KeyboardInterrupt that reaches them into other errors. A
    process that ignores Ctrl-C, as one in the background does, goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def raise_on_interrupt(hint=""):
    """Ctrl-C raises KeyboardInterrupt again, and SIGTERM Terminated, so that what has begun can be ended in order.

    A process that has not ended GRACE seconds later is ended as it is, with the line of interrupted(hint).
    """
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is _end:
        signal.signal(signal.SIGTERM, _raise)
        _watch(hint)


@contextmanager
def undisturbed():
    """Ctrl-C and SIGTERM are ignored within: launchers and terminals send one after the other."""
    earlier = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def interrupted(hint):
    """The line of a script that was interrupted. hint: how to go on."""
    return f"{sys.argv[0]}: interrupted{'; ' * bool(hint)}{hint}"


def _end(number, _):
    print(f"{sys.argv[0]}: interrupted before it began", file=sys.stderr, flush=True)
    os._exit(128 + number)


def _raise(*_):
    raise Terminated


def _watch(hint):
    """Starts a thread that ends this process GRACE seconds after a signal, whose number it reads from a pipe.

    Python raises nothing while it waits for a library, such as for another rank that does not come.
    """
    numbers, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget)

    def end():
        while (number := os.read(numbers, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
            pass
        time.sleep(GRACE)
        print(interrupted(hint), file=sys.stderr, flush=True)
        os._exit(128 + number)

    threading.Thread(target=end, daemon=True).start()


def _forget():
    """In a process that a script has forked: its signals are none of the script's."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
