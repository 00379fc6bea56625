"""Running a script's main(): how errors and interrupts are told."""

import errno
import signal
import sys
import traceback

from ..ranks.connecting import end_process, let_go
from ..ranks.ranks import connected, mpi_world
from .errors import UserError
from .interrupts import Terminated, interrupted, raise_on_interrupt, undisturbed


def run_script(main, hint=""):
    """Runs a script's main(). UserError, and what the system refuses (a full disk, a folder that may not be
    written), become one line on stderr and exit code 2; Ctrl-C and SIGTERM one with the hint, and 130 or 143.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files and classes may be of letters that a terminal lacks
            stream.reconfigure(errors="replace")
    raise_on_interrupt(hint)
    try:
        failure = _run(main)
        if failure:
            end_process(*failure)
    except KeyboardInterrupt as interrupt:
        number = signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT
        with undisturbed():
            end_process(128 + number, interrupted(hint))


def _run(main):
    """Runs main() -> the exit code and the message of an error, None where there is none."""
    try:
        main()
        let_go()
    except UserError as error:
        return 2, f"{sys.argv[0]}: error: {error}"
    except OSError as error:
        where = f"{error.filename}: " * bool(error.filename)
        remedy = "; make room, and start again" * (error.errno == errno.ENOSPC)
        return 2, f"{sys.argv[0]}: error: {where}{error.strerror or error}{remedy}"
    except Exception:
        if not (mpi_world() or connected().several):
            raise
        return 1, traceback.format_exc().rstrip()
