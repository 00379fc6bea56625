"""Scripts that another one starts: their output, their errors, and the ranks that share their work."""

import os
import subprocess
import sys

from guided_diffusion.ranks.addresses import free_port


def environment(ranks):
    """The environment that this rank's part of a script is run in, as `env`; nothing where it is the only rank.

    The scripts' ranks are those of this command, as torchrun would set them; each script's meet at its own port.
    """
    if not ranks.several:
        return {}
    numbers = {
        "RANK": ranks.rank,
        "WORLD_SIZE": ranks.world_size,
        "LOCAL_RANK": ranks.local_rank,
        "LOCAL_WORLD_SIZE": ranks.local_size,
        "MASTER_PORT": ranks.from_first(free_port),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    return {"env": kept | {name: str(number) for name, number in numbers.items()}}


def run(command, env=None):
    """Runs a script and shows its output -> (exit code, the last line on stderr, which says why it failed).

    An interruption ends the script, too.
    """
    errors = b""
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=env) as process:
        try:
            while chunk := process.stderr.read1():
                sys.stderr.buffer.write(chunk)
                sys.stderr.flush()
                errors += chunk
        except KeyboardInterrupt:
            process.kill()  # what it has measured is on the disk, and writing is whole or not at all
            raise
    lines = errors.decode(errors="replace").strip().splitlines()
    return process.returncode, lines[-1].partition("error: ")[2] or lines[-1] if lines else ""
