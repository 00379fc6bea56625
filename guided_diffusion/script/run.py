"""Running a script's main(): how errors and interrupts are told."""

import errno
import sys
import traceback

from ..ranks.connecting import end_process, joined, let_go, under_mpiexec
from .errors import UserError
from .interrupts import exit_code, interrupted, raise_on_interrupt, undisturbed


def require_flags(args, *names):
    """UserError for the first of the flags that was not given."""
    for name in names:
        if not getattr(args, name):
            raise UserError(f"--{name} must be given")


def run_script(main, hint=""):
    """Runs a script's main(). UserError, and what the system refuses (a full disk, a folder that may not be
    written), become one line on stderr and exit code 2; Ctrl-C and SIGTERM one with the hint, and 130 or 143.
    """
    raise_on_interrupt(hint)
    try:
        main()
        let_go()
    except UserError as error:
        end_process(2, f"{sys.argv[0]}: error: {error}")
    except OSError as error:
        where = f"{error.filename}: " * bool(error.filename)
        remedy = "; make room, and start again" * (error.errno == errno.ENOSPC)
        end_process(2, f"{sys.argv[0]}: error: {where}{error.strerror or error}{remedy}")
    except KeyboardInterrupt as interrupt:
        with undisturbed():
            end_process(exit_code(interrupt), interrupted(hint))
    except Exception:
        if not (under_mpiexec() or joined()):
            raise
        end_process(1, traceback.format_exc().rstrip())
