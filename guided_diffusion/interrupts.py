"""Ctrl-C while a script is still importing its libraries, which takes seconds: one line, as later on."""

import os
import signal
import sys


def end_on_interrupt():
    """From now on Ctrl-C ends the process at once with one line and exit code 130, until raise_on_interrupt().

    For scripts, before their imports. Libraries turn a KeyboardInterrupt that reaches them into other errors.
    A process that ignores Ctrl-C, as one in the background does, goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_on_interrupt():
    """Ctrl-C raises KeyboardInterrupt again, so that what has begun can be ended in order."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_):
    print(f"{sys.argv[0]}: interrupted before it began", file=sys.stderr, flush=True)
    os._exit(130)
